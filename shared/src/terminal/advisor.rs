//! Commands in advice, worded so that they reach the cluster that they are about.

use super::flags::CommonArgs;
use super::quoting;
use crate::advice::{Advice, Command, Part, Program, Reach, Word};
use crate::cluster::connection::{ConnectionArgs, Timeout};
use crate::verdict::Verdict;

/// Words commands: repeats the connection flags that were typed, in the spelling of each program, and quotes for a shell.
#[derive(Clone, Debug, Default)]
pub struct Advisor {
    /// What was typed of the connection, besides contexts, in the order of kubectl's own list.
    typed: Vec<Typed>,
    /// The contexts that were typed.
    contexts: Vec<String>,
    /// `--istio-namespace`, which only our own plugins have.
    istio_namespace: Option<String>,
}

/// A connection flag that was typed.
#[derive(Clone, Debug)]
struct Typed {
    flag: &'static str,
    setting: Setting,
}

/// What a flag was set to.
#[derive(Clone, Debug)]
enum Setting {
    /// A text in the encoding of the system.
    Text(Vec<u8>),
    /// A text with a secret in it, of which nothing is kept: a variable of the shell stands for it.
    Secret { before: String, variable: &'static str, after: String },
}

/// Why a command cannot be typed so that it reaches the same cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Inexpressible {
    /// The program has no such flags.
    NoFlag(Vec<&'static str>),
    /// The value of this flag fits on no command line.
    Value(&'static str),
    /// A name in the command fits on none.
    Word,
    /// It is about one cluster, and several were given.
    SeveralContexts,
}

impl Advisor {
    /// For the flags of a command line.
    pub fn new(common: &CommonArgs) -> Advisor {
        Advisor {
            typed: typed(&common.connection),
            contexts: common.connection.contexts().into_iter().flatten().collect(),
            istio_namespace: common.istio_namespace.clone(),
        }
    }

    /// For one of several clusters, by its context; `None` leaves it as it is.
    #[must_use]
    pub fn of_cluster(&self, context: Option<&str>) -> Advisor {
        let contexts = context.map_or_else(|| self.contexts.clone(), |context| vec![context.to_owned()]);
        Advisor { contexts, ..self.clone() }
    }

    /// Whether a flag was typed that says which cluster, or as whom.
    pub fn is_connected_by_flags(&self) -> bool {
        !self.typed.is_empty() || !self.contexts.is_empty()
    }

    /// Whether a flag was typed that holds a secret, which no output repeats.
    pub fn has_secret(&self) -> bool {
        self.typed.iter().any(|typed| matches!(typed.setting, Setting::Secret { .. }))
    }

    /// An advice as it is read; a command in it as it is typed.
    pub fn text(&self, advice: &Advice) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Command(command) => self.command(command),
        };
        advice.parts().iter().map(part).collect()
    }

    /// A command as it is typed. Where that would not reach the same cluster, it is printed in a form that no shell runs, with
    /// the reason.
    pub fn command(&self, command: &Command) -> String {
        self.words(command).join(" ")
    }

    /// The quoted words of a command as it is typed: between two of them a line may be broken, as a shell takes that.
    pub fn words(&self, command: &Command) -> Vec<String> {
        let mut words = match self.typed_words(command) {
            Ok(words) => words,
            Err(why) => vec![unexpressed(command, &why)],
        };
        if let Some(reader) = &command.reader {
            words.push("|".to_owned());
            words.extend(self.words(reader));
        }
        words
    }

    /// What reads the lines of [`Advisor::xargs`] where a token was typed.
    pub const XARGS_WITH_TOKEN: &str = "xargs -L1 kubectl --token=\"${TOKEN:?}\" rollout restart";

    /// The connection flags for a line that `xargs` adds to a command of kubectl. A token is left out.
    ///
    /// # Errors
    /// The flag whose value fits on no such line.
    pub fn xargs(&self) -> Result<Vec<String>, &'static str> {
        let contexts = self.contexts.iter().map(|context| ("--context", context.as_bytes()));
        let typed = self.typed.iter().filter(|typed| typed.flag != "--token").map(|typed| match &typed.setting {
            Setting::Text(text) => (typed.flag, &text[..]),
            // A NUL fits on no line.
            Setting::Secret { .. } => (typed.flag, &b"\0"[..]),
        });
        let word = |(flag, value): (&'static str, &[u8])| match quoting::xargs(value) {
            Some(value) => Ok(format!("{flag}={value}")),
            None => Err(flag),
        };
        contexts.chain(typed).map(word).collect()
    }

    fn typed_words(&self, command: &Command) -> Result<Vec<String>, Inexpressible> {
        let program = command.program;
        let flags = if command.reach == Reach::Local { Vec::new() } else { self.flags_of(program)? };
        let (words, positionals) = words(command).ok_or(Inexpressible::Word)?;
        let name = vec![program.to_string()];
        let behind_dashes: Vec<String> =
            if positionals.is_empty() { Vec::new() } else { std::iter::once("--".to_owned()).chain(positionals).collect() };
        // kubectl's own flags stand first, where no word of a command can be taken for their place.
        let parts = match program {
            Program::Kubectl => [name, flags, words, behind_dashes],
            _ => [name, words, flags, behind_dashes],
        };
        Ok(parts.concat())
    }

    /// The flags by which a program reaches the same cluster.
    fn flags_of(&self, program: Program) -> Result<Vec<String>, Inexpressible> {
        if matches!(program, Program::Other(_)) {
            return Ok(Vec::new());
        }
        if self.contexts.len() > 1 && program != Program::MeshProxyver {
            return Err(Inexpressible::SeveralContexts);
        }
        let contexts =
            self.contexts.iter().map(|context| Typed { flag: "--context", setting: Setting::Text(context.clone().into_bytes()) });
        let ours = matches!(program, Program::MeshProxyver | Program::MeshTag | Program::MeshUpgrade);
        let place = self
            .istio_namespace
            .iter()
            .filter(|_| ours)
            .map(|namespace| Typed { flag: "--istio-namespace", setting: Setting::Text(namespace.clone().into_bytes()) });
        let typed: Vec<Typed> = contexts.chain(self.typed.iter().cloned()).chain(place).collect();
        let spelled = |typed: &Typed| spelling(program, typed.flag);
        let missing: Vec<&str> =
            typed.iter().filter(|typed| spelled(typed) == Spelling::Missing).map(|typed| typed.flag).collect();
        if !missing.is_empty() {
            return Err(Inexpressible::NoFlag(missing));
        }
        let flags = typed.iter().filter_map(|typed| match spelled(typed) {
            Spelling::Flag(flag) => Some((typed, flag)),
            _ => None,
        });
        flags.map(|(typed, flag)| typed.setting.shell(flag).ok_or(Inexpressible::Value(typed.flag))).collect()
    }

    /// The advice on a verdict.
    pub fn advice(&self, cluster: Option<&str>, verdict: &Verdict) -> String {
        self.of_cluster(cluster).text(&verdict.advice())
    }
}

impl Setting {
    /// The flag with its value, as typed in a shell.
    fn shell(&self, flag: &str) -> Option<String> {
        let quoted = |text: &str| if text.is_empty() { Some(String::new()) } else { quoting::shell(text.as_bytes()) };
        Some(match self {
            Setting::Text(text) => format!("{flag}={}", quoting::shell(text)?),
            // Without the variable the shell stops, and nothing runs as somebody else.
            Setting::Secret { before, variable, after } => {
                format!("{flag}={}\"${{{variable}:?}}\"{}", quoted(before)?, quoted(after)?)
            }
        })
    }
}

/// How a program calls one of kubectl's connection flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// By this name.
    Flag(&'static str),
    /// It has none, and needs none to reach the same cluster as the same user.
    Needless,
    /// It has none.
    Missing,
}

/// helm: the root command's persistent flags (helm.sh/helm/v3/pkg/cli/environment.go). istioctl:
/// istio.io/istio/istioctl/pkg/cli/option.go.
fn spelling(program: Program, flag: &'static str) -> Spelling {
    if !matches!(program, Program::Helm | Program::Istioctl) {
        return Spelling::Flag(flag);
    }
    match (program, flag) {
        (_, "--kubeconfig") | (Program::Istioctl, "--context") => Spelling::Flag(flag),
        (_, "--request-timeout" | "--disable-compression") => Spelling::Needless,
        (Program::Istioctl, _) => Spelling::Missing,
        (_, "--context") => Spelling::Flag("--kube-context"),
        (_, "--as") => Spelling::Flag("--kube-as-user"),
        (_, "--as-group") => Spelling::Flag("--kube-as-group"),
        (_, "--server") => Spelling::Flag("--kube-apiserver"),
        (_, "--tls-server-name") => Spelling::Flag("--kube-tls-server-name"),
        (_, "--certificate-authority") => Spelling::Flag("--kube-ca-file"),
        (_, "--insecure-skip-tls-verify") => Spelling::Flag("--kube-insecure-skip-tls-verify"),
        (_, "--token") => Spelling::Flag("--kube-token"),
        _ => Spelling::Missing,
    }
}

/// The words of a command for a shell. A name that looks like a flag is joined to the flag before it, or it is among the second
/// list, which goes behind `--` with all names that follow it.
fn words(command: &Command) -> Option<(Vec<String>, Vec<String>)> {
    let (mut words, mut positionals) = (Vec::new(), Vec::new());
    for word in &command.words {
        match word {
            Word::Literal(word) => words.push((*word).to_owned()),
            Word::Flag(flag, value) if value.starts_with('-') || value.is_empty() => {
                words.push(format!("{flag}={}", quoting::shell(value.as_bytes())?));
            }
            Word::Flag(flag, value) => words.extend([(*flag).to_owned(), quoting::shell(value.as_bytes())?]),
            Word::Value(value) if value.starts_with('-') || !positionals.is_empty() => {
                positionals.push(quoting::shell(value.as_bytes())?);
            }
            Word::Value(value) => words.push(quoting::shell(value.as_bytes())?),
        }
    }
    Some((words, positionals))
}

/// A command that would not reach the same cluster: what is in brackets makes a shell refuse the line.
fn unexpressed(command: &Command, why: &Inexpressible) -> String {
    let program = command.program;
    let line = match words(command) {
        Some((words, positionals)) => [vec![program.to_string()], words, positionals].concat().join(" "),
        None => format!("{program} …"),
    };
    match why {
        Inexpressible::NoFlag(flags) => {
            let flags = flags.join(", ");
            format!("{line} --kubeconfig=FILE (FILE: a kubeconfig of this cluster and user alone; {program} has no {flags})")
        }
        Inexpressible::Value(flag) => format!("{line} (with {flag} as it is here, which no command line can hold)"),
        Inexpressible::Word => format!("{line} (a name in it has characters that no command line can hold)"),
        Inexpressible::SeveralContexts => format!("{line} --context=NAME (NAME: one of the contexts that were given)"),
    }
}

/// The connection flags that were typed, besides the contexts, in the order of this list.
fn typed(connection: &ConnectionArgs) -> Vec<Typed> {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.as_os_str().as_encoded_bytes().to_vec());
    let text = |text: &Option<String>| text.clone().map(String::into_bytes);
    let switch = |switch: Option<bool>| switch.map(|is_on| is_on.to_string().into_bytes());
    let one = |flag: &'static str, value: Option<Vec<u8>>| value.map(|value| Typed { flag, setting: Setting::Text(value) });
    let groups = connection.impersonate_groups.iter().map(|group| one("--as-group", Some(group.clone().into_bytes())));
    let extras = connection
        .impersonate_user_extra
        .iter()
        .map(|(key, value)| one("--as-user-extra", Some(format!("{key}={value}").into_bytes())));
    let timeout = match connection.request_timeout {
        typed if typed == Timeout::default() => None,
        Timeout(Some(timeout)) => Some(format!("{}ms", timeout.as_millis()).into_bytes()),
        Timeout(None) => Some(b"0".to_vec()),
    };
    let token = connection.token.as_ref().map(|_| Typed {
        flag: "--token",
        setting: Setting::Secret { before: String::new(), variable: "TOKEN", after: String::new() },
    });
    let before = [
        one("--kubeconfig", path(&connection.kubeconfig)),
        one("--cluster", text(&connection.cluster)),
        one("--user", text(&connection.user)),
        one("--as", text(&connection.impersonate)),
    ];
    let after = [
        one("--as-uid", text(&connection.impersonate_uid)),
        connection.server.as_deref().map(server),
        one("--tls-server-name", text(&connection.tls_server_name)),
        one("--certificate-authority", path(&connection.certificate_authority)),
        one("--client-certificate", path(&connection.client_certificate)),
        one("--client-key", path(&connection.client_key)),
        one("--insecure-skip-tls-verify", switch(connection.insecure_skip_tls_verify)),
        token,
        one("--request-timeout", timeout),
        one("--disable-compression", switch(connection.disable_compression)),
    ];
    before.into_iter().chain(groups).chain(extras).chain(after).flatten().collect()
}

/// The address of a server; user and password in it are a secret.
fn server(server: &str) -> Typed {
    let (scheme, rest) = server.split_once("://").map_or(("", server), |(scheme, rest)| (scheme, rest));
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let setting = match authority.rfind('@') {
        Some(end) => {
            let before = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
            Setting::Secret { before, variable: "SERVER_USER", after: rest[end..].to_owned() }
        }
        None => Setting::Text(server.as_bytes().to_vec()),
    };
    Typed { flag: "--server", setting }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advisor(connection: ConnectionArgs) -> Advisor {
        Advisor::new(&CommonArgs { connection, ..CommonArgs::default() })
    }

    fn of_context(context: &str) -> Advisor {
        advisor(ConnectionArgs { context: vec![context.to_owned()], ..ConnectionArgs::default() })
    }

    #[test]
    fn without_flags_a_command_is_what_it_is() {
        let check = |command: Command, expected: &str| assert_eq!(Advisor::default().command(&command), expected);
        check(
            Command::kubectl("").namespace("shop").words("rollout restart deployment").value("web"),
            "kubectl -n shop rollout restart deployment web",
        );
        check(
            Command::mesh_tag("set").value("prod").flag("--revision", "1-28-2").words("--overwrite"),
            "kubectl mesh-tag set prod --revision 1-28-2 --overwrite",
        );
        check(
            Command::kubectl("label namespace").value("shop").value("istio.io/rev=1-28-2"),
            "kubectl label namespace shop istio.io/rev=1-28-2",
        );
        check(
            Command::mesh_tag("generate").value("prod").read_by(Command::kubectl("apply -f -")),
            "kubectl mesh-tag generate prod | kubectl apply -f -",
        );
    }

    #[test]
    fn all_typed_flags_are_repeated_each_quoted() {
        let connection = ConnectionArgs {
            context: vec!["my prod; touch x".to_owned()],
            kubeconfig: Some("/home/o'hara/kube config".into()),
            cluster: Some("c".to_owned()),
            user: Some("$(id)".to_owned()),
            impersonate: Some("alice".to_owned()),
            impersonate_groups: vec!["a".to_owned(), "b c".to_owned()],
            impersonate_uid: Some("7".to_owned()),
            impersonate_user_extra: vec![("k".to_owned(), "v".to_owned())],
            server: Some("https://1.2.3.4:6443".to_owned()),
            tls_server_name: Some("api".to_owned()),
            certificate_authority: Some("ca.pem".into()),
            client_certificate: Some("c.pem".into()),
            client_key: Some("k.pem".into()),
            insecure_skip_tls_verify: Some(false),
            token: Some("s3cret".to_owned()),
            request_timeout: Timeout(Some(std::time::Duration::from_secs(90))),
            disable_compression: Some(true),
        };
        let common = CommonArgs { connection, istio_namespace: Some("istio-a".to_owned()), ..CommonArgs::default() };
        let flags = "--context='my prod; touch x' --kubeconfig=\"/home/o'hara/kube config\" --cluster=c --user='$(id)' --as=alice \
                     --as-group=a --as-group='b c' --as-user-extra=k=v --as-uid=7 --server=https://1.2.3.4:6443 \
                     --tls-server-name=api --certificate-authority=ca.pem --client-certificate=c.pem --client-key=k.pem \
                     --insecure-skip-tls-verify=false --token=\"${TOKEN:?}\" --request-timeout=90000ms \
                     --disable-compression=true";
        let advisor = Advisor::new(&common);
        assert_eq!(advisor.command(&Command::kubectl("get pods")), format!("kubectl {flags} get pods"));
        assert_eq!(
            advisor.command(&Command::mesh_upgrade("restart -A")),
            format!("kubectl mesh-upgrade restart -A {flags} --istio-namespace=istio-a")
        );
        assert!(!format!("{advisor:?}").contains("s3cret"));
    }

    #[test]
    fn a_password_in_an_address_is_named() {
        let server = Some("https://me:s3cret@host:1/path".to_owned());
        let text = advisor(ConnectionArgs { server, ..ConnectionArgs::default() }).command(&Command::kubectl("version"));
        assert_eq!(text, "kubectl --server=https://\"${SERVER_USER:?}\"@host:1/path version");
    }

    #[test]
    fn other_programs_spell_flags_in_their_way() {
        let helm = || Command::helm("uninstall").value("istiod").namespace("istio-system");
        assert_eq!(of_context("eu").command(&helm()), "helm uninstall istiod -n istio-system --kube-context=eu");
        assert_eq!(of_context("eu").command(&Command::istioctl("version")), "istioctl version --context=eu");
        assert_eq!(of_context("eu").command(&Command::istioctl("manifest generate").local()), "istioctl manifest generate");
        assert_eq!(of_context("eu").command(&Command::new(Program::Other("az"), "aks list")), "az aks list");
        assert_eq!(
            of_context("eu").command(&Command::new(Program::Plugin("argo"), "rollouts promote").value("web")),
            "kubectl argo rollouts promote web --context=eu"
        );
    }

    #[test]
    fn a_connection_that_a_program_cannot_be_given_makes_no_command_that_a_shell_runs() {
        let cluster = Some("c".to_owned());
        let line = advisor(ConnectionArgs { cluster, ..ConnectionArgs::default() }).command(&Command::helm("uninstall istiod"));
        assert_eq!(
            line,
            "helm uninstall istiod --kubeconfig=FILE (FILE: a kubeconfig of this cluster and user alone; helm has no --cluster)"
        );
        let several = ConnectionArgs { context: vec!["a".to_owned(), "b".to_owned()], ..ConnectionArgs::default() };
        let several = advisor(several);
        let unclear = several.command(&Command::kubectl("get pods"));
        assert_eq!(unclear, "kubectl get pods --context=NAME (NAME: one of the contexts that were given)");
        assert_eq!(several.command(&Command::mesh_proxyver("-A")), "kubectl mesh-proxyver -A --context=a --context=b");
        assert_eq!(several.of_cluster(Some("b")).command(&Command::kubectl("get pods")), "kubectl --context=b get pods");
        let unwritable = of_context("ends with\n").command(&Command::kubectl("get pods"));
        for line in [line, unclear, unwritable] {
            let run = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert!(!run.status.success() && run.stdout.is_empty(), "{line}: {run:?}");
            assert!(String::from_utf8_lossy(&run.stderr).to_lowercase().contains("syntax error"), "{line}: {run:?}");
        }
    }

    #[test]
    fn names_that_look_like_flags_stay_names() {
        let check = |command: Command, expected: &str| assert_eq!(of_context("-x").command(&command), expected);
        check(
            Command::mesh_tag("set").value("--yes").flag("--revision", "-r").words("--overwrite"),
            "kubectl mesh-tag set --revision=-r --overwrite --context=-x -- --yes",
        );
        check(Command::kubectl("get pods").namespace("--all"), "kubectl --context=-x get pods -n=--all");
    }

    #[test]
    fn lines_for_xargs_are_quoted_for_it() {
        assert_eq!(of_context("it's $(x)").xargs().unwrap(), ["--context='it'\"'\"'s $(x)'"]);
        assert_eq!(of_context("a\nb").xargs(), Err("--context"));
    }
}
