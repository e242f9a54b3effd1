//! Advice: what to do next, as data. A command in it stays a command, a program and its words, until a terminal prints it
//! with the flags that reach the same cluster, quoted for a shell.

use std::fmt;

/// What to do about something: text and commands in the order in which they are read. May be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advice(Vec<Part>);

/// A part of an advice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Words for a reader. Never the text of a command: nobody would add the connection to it, or quote it.
    Text(String),
    /// A command that can be run as it is printed.
    Command(Command),
}

impl Advice {
    /// No advice.
    pub const fn none() -> Advice {
        Advice(Vec::new())
    }

    /// Advice in words.
    pub fn say(text: impl Into<String>) -> Advice {
        Advice::none().and_say(text)
    }

    /// A command to run.
    pub fn run(command: Command) -> Advice {
        Advice::none().and_run(command)
    }

    /// With more words behind it; their blanks and commas are the caller's.
    #[must_use]
    pub fn and_say(mut self, text: impl Into<String>) -> Advice {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// With a command behind it.
    #[must_use]
    pub fn and_run(mut self, command: Command) -> Advice {
        self.0.push(Part::Command(command));
        self
    }

    /// With another advice behind it.
    #[must_use]
    pub fn and(mut self, other: Advice) -> Advice {
        self.0.extend(other.0);
        self
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }
}

impl From<Command> for Advice {
    fn from(command: Command) -> Advice {
        Advice::run(command)
    }
}

/// Only for a literal: the tests read all of them, and none of them is a command.
impl From<&'static str> for Advice {
    fn from(text: &'static str) -> Advice {
        if text.is_empty() { Advice::none() } else { Advice::say(text) }
    }
}

/// What runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// kubectl itself.
    Kubectl,
    /// `kubectl mesh-proxyver`.
    MeshProxyver,
    /// `kubectl mesh-tag`.
    MeshTag,
    /// `kubectl mesh-upgrade`.
    MeshUpgrade,
    /// Another plugin of kubectl, by its name: it takes kubectl's connection flags behind its words.
    Plugin(&'static str),
    /// istioctl.
    Istioctl,
    /// Helm.
    Helm,
    /// Any program that reaches no cluster by a kubeconfig, such as `az`.
    Other(&'static str),
}

/// A word of a command, or a flag with its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// A word of the program's own language, or a placeholder in capitals: never from a cluster, a file or a user.
    Literal(&'static str),
    /// A flag of the program's own language and its value, whatever that is.
    Flag(&'static str, String),
    /// Anything else: a name, a label.
    Value(String),
}

/// A command: a program and its words, without the flags that reach a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Command {
    /// What runs it.
    pub program: Program,
    /// Its words, in order.
    pub words: Vec<Word>,
    /// Whether it asks a cluster, which its flags then have to name.
    pub reach: Reach,
    /// The command that reads its output.
    pub reader: Option<Box<Command>>,
}

/// Whether a command asks a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It does.
    Cluster,
    /// It only renders something here.
    Local,
}

impl Command {
    /// A command of a program that begins with `words` of its own language, divided by blanks.
    pub fn new(program: Program, words: &'static str) -> Command {
        Command { program, words: Vec::new(), reach: Reach::Cluster, reader: None }.words(words)
    }

    /// A command of kubectl, for example `get namespaces --show-labels`.
    pub fn kubectl(words: &'static str) -> Command {
        Command::new(Program::Kubectl, words)
    }

    /// A command of `kubectl mesh-proxyver`.
    pub fn mesh_proxyver(words: &'static str) -> Command {
        Command::new(Program::MeshProxyver, words)
    }

    /// A command of `kubectl mesh-tag`.
    pub fn mesh_tag(words: &'static str) -> Command {
        Command::new(Program::MeshTag, words)
    }

    /// A command of `kubectl mesh-upgrade`.
    pub fn mesh_upgrade(words: &'static str) -> Command {
        Command::new(Program::MeshUpgrade, words)
    }

    /// A command of istioctl.
    pub fn istioctl(words: &'static str) -> Command {
        Command::new(Program::Istioctl, words)
    }

    /// A command of Helm.
    pub fn helm(words: &'static str) -> Command {
        Command::new(Program::Helm, words)
    }

    /// With more words of the program's own language, divided by blanks.
    #[must_use]
    pub fn words(mut self, words: &'static str) -> Command {
        self.words.extend(words.split_ascii_whitespace().map(Word::Literal));
        self
    }

    /// With a name, a label or another word that is not the program's.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Command {
        self.words.push(Word::Value(value.into()));
        self
    }

    /// With several such words.
    #[must_use]
    pub fn values<V: Into<String>>(mut self, values: impl IntoIterator<Item = V>) -> Command {
        self.words.extend(values.into_iter().map(|value| Word::Value(value.into())));
        self
    }

    /// With a flag and its value.
    #[must_use]
    pub fn flag(mut self, flag: &'static str, value: impl Into<String>) -> Command {
        self.words.push(Word::Flag(flag, value.into()));
        self
    }

    /// In a namespace, by `-n`; without one, as it is.
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Command {
        if namespace.is_empty() { self } else { self.flag("-n", namespace) }
    }

    /// About an object as findings name it: `configmaps/istio -n istio-system`.
    #[must_use]
    pub fn object(self, subject: &str) -> Command {
        match subject.rsplit_once(" -n ") {
            Some((object, namespace)) => self.value(object).namespace(namespace),
            None => self.value(subject),
        }
    }

    /// That asks no cluster.
    #[must_use]
    pub fn local(self) -> Command {
        Command { reach: Reach::Local, ..self }
    }

    /// Whose output another command reads.
    #[must_use]
    pub fn read_by(self, reader: Command) -> Command {
        Command { reader: Some(Box::new(reader)), ..self }
    }
}

impl fmt::Display for Program {
    /// The words that call it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Program::Kubectl => "kubectl",
            Program::MeshProxyver => "kubectl mesh-proxyver",
            Program::MeshTag => "kubectl mesh-tag",
            Program::MeshUpgrade => "kubectl mesh-upgrade",
            Program::Plugin(name) => return write!(formatter, "kubectl {name}"),
            Program::Istioctl => "istioctl",
            Program::Helm => "helm",
            Program::Other(name) => name,
        })
    }
}
