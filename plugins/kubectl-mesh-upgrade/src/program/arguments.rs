//! The arguments behind `--`, read as the program itself will read them: what would lead it to another cluster, or makes what it does
//! other than what it shows beforehand, is refused, in every spelling.
//!
//! The flags are those of `helm install` and `helm upgrade` of helm 3.22 and 4.0, and of `istioctl install` of Istio 1.26 to 1.29. The
//! spellings are those of github.com/spf13/pflag: `--flag value`, `--flag=value`, `-fvalue`, `-f=value`, `-f value`, `-yf value`.

use super::Program;

/// Whether a flag takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// None, but `=true` and `=false`.
    Nothing,
    /// One, in the same word or in the next.
    Value,
    /// One in the same word, or none.
    ValueInWord,
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// It is given to what renders the manifests, and to what installs them.
    Both,
    /// Only what installs them knows it.
    Installing,
    /// It would choose the cluster or the user.
    Connection,
    /// It is refused for this reason.
    Refused(&'static str),
}

/// A flag of a program.
#[derive(Debug, PartialEq, Eq)]
struct Flag {
    name: &'static str,
    letter: Option<char>,
    takes: Takes,
    is_for: Use,
}

const fn flag(name: &'static str, letter: Option<char>, takes: Takes, is_for: Use) -> Flag {
    Flag { name, letter, takes, is_for }
}

const NOTHING_WRITTEN: Use = Use::Refused("nothing would be written; --dry-run in front of -- shows what would be");
const HELP: Use = Use::Refused("it only prints help");
const FORMER_VALUES: Use =
    Use::Refused("what would be installed depends on values that nobody can see here; give all of them with --values or --set");
const OWNERSHIP: Use = Use::Refused("it would take objects from those who own them now");

const HELM: [Flag; 69] = {
    use Takes::{Nothing, Value, ValueInWord};
    use Use::{Both, Connection, Installing};
    [
        flag("kubeconfig", None, Value, Connection),
        flag("kube-context", None, Value, Connection),
        flag("kube-apiserver", None, Value, Connection),
        flag("kube-as-group", None, Value, Connection),
        flag("kube-as-user", None, Value, Connection),
        flag("kube-ca-file", None, Value, Connection),
        flag("kube-insecure-skip-tls-verify", None, Nothing, Connection),
        flag("kube-tls-server-name", None, Value, Connection),
        flag("kube-token", None, Value, Connection),
        flag("namespace", Some('n'), Value, Both),
        flag("debug", None, Nothing, Both),
        flag("burst-limit", None, Value, Both),
        flag("qps", None, Value, Both),
        flag("registry-config", None, Value, Both),
        flag("repository-cache", None, Value, Both),
        flag("repository-config", None, Value, Both),
        flag("set", None, Value, Both),
        flag("set-string", None, Value, Both),
        flag("set-file", None, Value, Both),
        flag("set-json", None, Value, Both),
        flag("set-literal", None, Value, Both),
        flag("values", Some('f'), Value, Both),
        flag("version", None, Value, Both),
        flag("repo", None, Value, Both),
        flag("username", None, Value, Both),
        flag("password", None, Value, Both),
        flag("pass-credentials", None, Nothing, Both),
        flag("cert-file", None, Value, Both),
        flag("key-file", None, Value, Both),
        flag("ca-file", None, Value, Both),
        flag("insecure-skip-tls-verify", None, Nothing, Both),
        flag("plain-http", None, Nothing, Both),
        flag("keyring", None, Value, Both),
        flag("verify", None, Nothing, Both),
        flag("devel", None, Nothing, Both),
        flag("dependency-update", None, Nothing, Both),
        flag("disable-openapi-validation", None, Nothing, Both),
        flag("enable-dns", None, Nothing, Both),
        flag("skip-crds", None, Nothing, Both),
        flag("skip-schema-validation", None, Nothing, Both),
        flag("no-hooks", None, Nothing, Both),
        flag("post-renderer", None, Value, Both),
        flag("post-renderer-args", None, Value, Both),
        flag("generate-name", Some('g'), Nothing, Both),
        flag("name-template", None, Value, Both),
        flag("description", None, Value, Installing),
        flag("labels", Some('l'), Value, Installing),
        flag("render-subchart-notes", None, Nothing, Installing),
        flag("hide-notes", None, Nothing, Installing),
        flag("install", Some('i'), Nothing, Installing),
        flag("replace", None, Nothing, Installing),
        flag("create-namespace", None, Nothing, Installing),
        flag("wait", None, ValueInWord, Installing),
        flag("wait-for-jobs", None, Nothing, Installing),
        flag("atomic", None, Nothing, Installing),
        flag("rollback-on-failure", None, Nothing, Installing),
        flag("cleanup-on-fail", None, Nothing, Installing),
        flag("force", None, Nothing, Installing),
        flag("force-replace", None, Nothing, Installing),
        flag("timeout", None, Value, Installing),
        flag("history-max", None, Value, Installing),
        flag("reset-values", None, Nothing, Installing),
        flag("output", Some('o'), Value, Installing),
        flag("reuse-values", None, Nothing, FORMER_VALUES),
        flag("reset-then-reuse-values", None, Nothing, FORMER_VALUES),
        flag("take-ownership", None, Nothing, OWNERSHIP),
        flag("force-conflicts", None, Nothing, OWNERSHIP),
        flag("dry-run", None, ValueInWord, NOTHING_WRITTEN),
        flag("help", Some('h'), Nothing, HELP),
    ]
};

const ISTIOCTL: [Flag; 20] = {
    use Takes::{Nothing, Value};
    use Use::{Both, Connection, Installing};
    [
        flag("kubeconfig", Some('c'), Value, Connection),
        flag("context", None, Value, Connection),
        flag("as", None, Value, Connection),
        flag("as-uid", None, Value, Connection),
        flag("as-group", None, Value, Connection),
        flag("filename", Some('f'), Value, Both),
        flag("set", Some('s'), Value, Both),
        flag("manifests", Some('d'), Value, Both),
        flag("charts", None, Value, Both),
        flag("revision", Some('r'), Value, Both),
        flag("force", None, Nothing, Both),
        flag("namespace", Some('n'), Value, Both),
        flag("istioNamespace", Some('i'), Value, Both),
        flag("kubeclient-timeout", None, Value, Both),
        flag("vklog", None, Value, Both),
        flag("skip-confirmation", Some('y'), Nothing, Installing),
        flag("verify", None, Nothing, Installing),
        flag("readiness-timeout", None, Value, Installing),
        flag("dry-run", None, Nothing, NOTHING_WRITTEN),
        flag("help", Some('h'), Nothing, HELP),
    ]
};

/// A word that is no flag, or a flag with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Word(String),
    Flag { flag: &'static Flag, value: Option<String>, words: Vec<String> },
}

/// What a program is told to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    program: Program,
    verb: String,
    items: Vec<Item>,
}

impl Arguments {
    /// Reads the words behind `--`.
    ///
    /// # Errors
    /// When they install nothing, or hold what is refused or not known.
    pub fn parse(program: Program, words: &[String]) -> Result<Arguments, String> {
        let verbs: &[&str] = match program {
            Program::Istioctl => &["install"],
            Program::Helm => &["install", "upgrade"],
        };
        let name = program.name();
        let Some((verb, rest)) = words.split_first().filter(|(verb, _)| verbs.contains(&verb.as_str())) else {
            return Err(format!("behind --, the arguments of {name} {} are expected", verbs.join(" or ")));
        };
        let mut reader = Reader { program, items: Vec::new(), rest: rest.iter() };
        reader.read()?;
        Ok(Arguments { program, verb: verb.clone(), items: reader.items })
    }

    /// All of them, each flag a word of its own.
    pub fn words(&self) -> Vec<String> {
        std::iter::once(self.verb.clone()).chain(self.items.iter().flat_map(Item::words).cloned()).collect()
    }

    /// What renders the manifests that they install.
    pub fn rendering(&self) -> Vec<String> {
        let verb: &[&str] = match self.program {
            Program::Istioctl => &["manifest", "generate"],
            Program::Helm => &["template"],
        };
        let is_known = |item: &&Item| !matches!(item, Item::Flag { flag: Flag { is_for: Use::Installing, .. }, .. });
        let items = self.items.iter().filter(is_known).flat_map(Item::words).cloned();
        verb.iter().map(|word| (*word).to_owned()).chain(items).collect()
    }

    /// The last value of a flag.
    fn value(&self, name: &str) -> Option<&str> {
        let values = self.items.iter().rev().filter_map(|item| match item {
            Item::Flag { flag, value, .. } if flag.name == name => value.as_deref(),
            _ => None,
        });
        values.into_iter().next()
    }

    fn is_set(&self, name: &str) -> bool {
        let is_it = |item: &Item| matches!(item, Item::Flag { flag, value, .. } if flag.name == name && value.as_deref() != Some("false"));
        self.items.iter().any(is_it)
    }

    /// The namespace that is typed for a release of helm.
    pub fn namespace(&self) -> Option<&str> {
        self.value("namespace").filter(|namespace| !namespace.is_empty())
    }

    /// The release of helm that they write; `None` when its name is made up.
    pub fn release(&self) -> Option<&str> {
        let mut words = self.items.iter().filter_map(|item| if let Item::Word(word) = item { Some(word.as_str()) } else { None });
        if self.verb == "install" && (self.is_set("generate-name") || self.value("name-template").is_some()) {
            None
        } else {
            words.next()
        }
    }

    /// Whether a release that is there already is changed, and not an error.
    pub fn changes_what_is_there(&self) -> bool {
        self.verb == "upgrade" || self.is_set("replace")
    }

    /// With the namespace of the release spelled out, whatever the surroundings of the program say.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Arguments {
        if self.namespace().is_none()
            && let Some(flag) = HELM.iter().find(|flag| flag.name == "namespace")
        {
            let words = vec!["--namespace".to_owned(), namespace.to_owned()];
            self.items.push(Item::Flag { flag, value: Some(namespace.to_owned()), words });
        }
        self
    }
}

impl Item {
    fn words(&self) -> &[String] {
        match self {
            Item::Word(word) => std::slice::from_ref(word),
            Item::Flag { words, .. } => words,
        }
    }
}

/// Reads word by word.
struct Reader<'a> {
    program: Program,
    items: Vec<Item>,
    rest: std::slice::Iter<'a, String>,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), String> {
        while let Some(word) = self.rest.next() {
            if word == "--" {
                return Err("a second -- is not expected".to_owned());
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                let flag = self.known(&format!("--{name}"), |flag| flag.name == name)?;
                self.take(flag, &format!("--{name}"), value)?;
            } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                self.letters(letters)?;
            } else {
                self.items.push(Item::Word(word.clone()));
            }
        }
        Ok(())
    }

    /// Flags of one letter each, of which the last may have its value behind it.
    fn letters(&mut self, letters: &str) -> Result<(), String> {
        let mut characters = letters.chars();
        while let Some(letter) = characters.next() {
            let spelled = format!("-{letter}");
            let flag = self.known(&spelled, |flag| flag.letter == Some(letter))?;
            let rest = characters.as_str();
            if let Some(value) = rest.strip_prefix('=') {
                return self.take(flag, &spelled, Some(value));
            }
            if flag.takes == Takes::Value && !rest.is_empty() {
                return self.take(flag, &spelled, Some(rest));
            }
            self.take(flag, &spelled, None)?;
        }
        Ok(())
    }

    fn known(&self, spelled: &str, is_it: impl Fn(&Flag) -> bool) -> Result<&'static Flag, String> {
        let flags: &'static [Flag] = match self.program {
            Program::Istioctl => &ISTIOCTL,
            Program::Helm => &HELM,
        };
        let name = self.program.name();
        let flag = flags.iter().find(|flag| is_it(flag));
        let flag = flag
            .ok_or_else(|| format!("{spelled} behind -- is no flag of {name} that is known here, so what it would do is not"))?;
        match flag.is_for {
            Use::Connection => Err(format!(
                "{spelled} behind -- would lead {name} to another cluster or user: it is given those that are checked; choose them in front of --"
            )),
            Use::Refused(why) => Err(format!("{spelled} behind -- is refused: {why}")),
            Use::Both | Use::Installing => Ok(flag),
        }
    }

    fn take(&mut self, flag: &'static Flag, spelled: &str, value: Option<&str>) -> Result<(), String> {
        let (value, words) = match value {
            Some(value) => (Some(value.to_owned()), vec![format!("{spelled}={value}")]),
            None if flag.takes == Takes::Value => {
                let value = self.rest.next().ok_or_else(|| format!("{spelled} behind -- needs a value"))?;
                (Some(value.clone()), vec![spelled.to_owned(), value.clone()])
            }
            None => (None, vec![spelled.to_owned()]),
        };
        self.items.push(Item::Flag { flag, value, words });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(program: Program, line: &str) -> Result<Arguments, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Arguments::parse(program, &words)
    }

    fn rendering(program: Program, line: &str) -> Result<String, String> {
        parsed(program, line).map(|arguments| arguments.rendering().join(" "))
    }

    #[test]
    fn what_would_be_installed_is_rendered() {
        let istioctl =
            rendering(Program::Istioctl, "install -y --set revision=1-28-2 --readiness-timeout 60s --set profile=minimal");
        assert_eq!(istioctl.as_deref(), Ok("manifest generate --set revision=1-28-2 --set profile=minimal"));
        let helm = rendering(Program::Helm, "upgrade --install istiod-1-28-2 ./istiod -n istio-system --timeout=5m --wait");
        assert_eq!(helm.as_deref(), Ok("template istiod-1-28-2 ./istiod -n istio-system"));
        assert!(rendering(Program::Istioctl, "uninstall --purge").is_err());
        assert!(rendering(Program::Helm, "").is_err());
    }

    #[test]
    fn what_would_choose_the_cluster_is_refused_in_every_spelling() {
        let refused = |program, line: &str| parsed(program, line).unwrap_err();
        for flags in [
            "--kubeconfig a",
            "--kubeconfig=a",
            "--kube-context a",
            "--kube-context=a",
            "--kube-apiserver=a",
            "--kube-token a",
            "--kube-as-user a",
            "--kube-as-group=a",
            "--kube-ca-file a",
            "--kube-tls-server-name a",
            "--kube-insecure-skip-tls-verify",
            "--kube-insecure-skip-tls-verify=true",
        ] {
            let why = refused(Program::Helm, &format!("upgrade a ./b -n c {flags}"));
            assert!(why.contains("would lead helm to another cluster or user"), "{flags}: {why}");
        }
        for flags in [
            "--kubeconfig a",
            "-c a",
            "-ca",
            "-c=a",
            "-yc a",
            "-yca",
            "--context a",
            "--context=a",
            "--as a",
            "--as-group=a",
            "--as-uid 7",
        ] {
            let why = refused(Program::Istioctl, &format!("install --set a=b {flags}"));
            assert!(why.contains("would lead istioctl to another cluster or user"), "{flags}: {why}");
        }
        // What is a value is no flag.
        assert!(parsed(Program::Helm, "install a ./b --set --kube-context=c --description --kubeconfig").is_ok());
    }

    #[test]
    fn what_would_do_other_than_it_shows_is_refused() {
        for flags in ["--dry-run", "--dry-run=server", "--reuse-values", "--reset-then-reuse-values", "--take-ownership", "-h"] {
            let why = parsed(Program::Helm, &format!("upgrade a ./b {flags}")).unwrap_err();
            assert!(why.contains("is refused: "), "{flags}: {why}");
        }
        assert!(parsed(Program::Istioctl, "install --dry-run").unwrap_err().contains("is refused: "));
        assert!(parsed(Program::Helm, "upgrade a ./b --new-flag").unwrap_err().contains("no flag of helm that is known here"));
        assert!(parsed(Program::Helm, "upgrade a ./b -- --kubeconfig").is_err());
        assert!(parsed(Program::Helm, "upgrade a ./b -n").unwrap_err().contains("needs a value"));
    }

    #[test]
    fn the_release_and_its_namespace_are_found_in_every_spelling() {
        let check = |line: &str, release: Option<&str>, namespace: Option<&str>| {
            let arguments = parsed(Program::Helm, line).unwrap();
            assert_eq!((arguments.release(), arguments.namespace()), (release, namespace), "{line}");
        };
        check("upgrade istiod ./b", Some("istiod"), None);
        check("upgrade --install -n one istiod ./b -n two", Some("istiod"), Some("two"));
        check("upgrade -in istio-system istiod ./b", Some("istiod"), Some("istio-system"));
        check("upgrade -f v.yaml --set a=b istiod ./b -nx", Some("istiod"), Some("x"));
        check("install --replace istiod ./b --namespace=", Some("istiod"), None);
        check("install -g ./b", None, None);
        check("install --name-template x ./b", None, None);
    }

    #[test]
    fn the_namespace_is_spelled_out() {
        let arguments = parsed(Program::Helm, "upgrade -i a ./b --wait").unwrap().in_namespace("ns");
        assert_eq!(arguments.words().join(" "), "upgrade -i a ./b --wait --namespace ns");
        assert_eq!(arguments.rendering().join(" "), "template a ./b --namespace ns");
        assert_eq!(arguments.clone().in_namespace("other"), arguments);
    }
}
