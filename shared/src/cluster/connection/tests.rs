//! The flags and the kubeconfig, and what they do to requests, against servers on this machine.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use std::path::Path;

use clap::Parser;

use super::kubeconfig::load;
use super::*;
use crate::advice::Advice;
use crate::cluster::request::get_json;

/// The connection flags as a command of their own.
#[derive(Parser)]
struct Command {
    #[command(flatten)]
    connection: ConnectionArgs,
}

fn flags(flags: &[&str]) -> ConnectionArgs {
    Command::try_parse_from(["test"].iter().chain(flags)).unwrap_or_else(|error| panic!("{error}")).connection
}

/// What a server does with a connection.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Reads the request and writes this.
    Answers(&'static str),
    /// Reads whatever comes and writes this.
    AnswersAnything(&'static str),
    /// Closes before it has read the request, which the other side sees as a reset.
    Resets,
    /// Writes this before it has read the request, and closes: the other side sees a reset in the middle of the answer.
    AnswersAndResets(&'static str),
    /// Reads the request, writes this and then nothing more.
    FallsSilent(&'static str),
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

/// Serves each connection as the next of the behaviours says, and the last for ever.
fn serve(behaviours: &'static [Behaviour]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for (index, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            match behaviours[index.min(behaviours.len() - 1)] {
                Behaviour::Answers(answer) => {
                    seen.lock().unwrap().push(request(&mut stream));
                    let _ = stream.write_all(answer.as_bytes());
                }
                Behaviour::AnswersAnything(answer) => {
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(answer.as_bytes());
                }
                // Bytes that were not read make the kernel send a reset.
                Behaviour::Resets => while !matches!(stream.peek(&mut [0]), Ok(1)) {},
                Behaviour::AnswersAndResets(beginning) => {
                    while !matches!(stream.peek(&mut [0]), Ok(1)) {}
                    stream.write_all(beginning.as_bytes()).unwrap();
                    // A reset takes what was not read yet along.
                    std::thread::sleep(Duration::from_millis(100));
                }
                Behaviour::FallsSilent(beginning) => {
                    seen.lock().unwrap().push(request(&mut stream));
                    stream.write_all(beginning.as_bytes()).unwrap();
                    silent.push(stream);
                }
            }
        }
    });
    (address, requests)
}

fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
        }
    }
    String::from_utf8_lossy(&text).to_lowercase()
}

async fn ask(flags: &ConnectionArgs) -> Result<Connection, Failure> {
    let connection = flags.connect_in(&Environment::default(), None, "kubectl-mesh/test").await?;
    get_json(&connection, "/api", "reading the API").await.map(|_| connection)
}

async fn failure(flags: &ConnectionArgs) -> Failure {
    ask(flags).await.err().expect("this server cannot be asked")
}

async fn message(kubeconfig: &Path, more: &[&str]) -> String {
    let mut all = vec!["--kubeconfig", kubeconfig.to_str().unwrap()];
    all.extend(more);
    let context = flags(&all).context.first().cloned();
    match flags(&all).connect_in(&Environment::default(), context.as_deref(), "test").await {
        Ok(connection) => format!("{} {} {}", connection.context, connection.cluster_name, connection.server),
        Err(failure) => failure.to_string(),
    }
}

const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: a
clusters:
- {name: first, cluster: {server: "https://first.example:6443", certificate-authority-data: ""}}
- {name: nowhere, cluster: {}}
contexts:
- {name: a, context: {cluster: first, user: me, namespace: shop}}
- {name: lost-user, context: {cluster: first, user: gone}}
- {name: lost-cluster, context: {cluster: gone, user: me}}
- {name: no-server, context: {cluster: nowhere, user: me}}
users:
- {name: me, user: {token: t}}
"#;

fn kubeconfig(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, text.replace(", certificate-authority-data: \"\"", "")).unwrap();
    (folder, path)
}

#[test]
fn timeouts_are_kubectls() {
    let check = |text: &str, seconds: Option<u64>| {
        assert_eq!(parse_timeout(text).unwrap(), Timeout(seconds.map(Duration::from_secs)), "{text}");
    };
    check("0", None);
    check("0s", None);
    check("5", Some(5));
    check("90s", Some(90));
    check("1m30s", Some(90));
    check("3h", Some(10800));
    for text in ["", "x", "5x", "-1s", "+1s", "-0s", "1e300h", "99999999999999h", "18446744073709551615", "1.s.s", "s"] {
        assert!(parse_timeout(text).unwrap_err().starts_with("Invalid timeout value. Timeout must be"), "{text:?}");
    }
}

#[test]
fn no_flag_means_a_bounded_time_and_no_override() {
    let flags = flags(&[]);
    assert_eq!(flags.request_timeout, Timeout(Some(Duration::from_secs(30))));
    assert_eq!(ConnectionArgs::default().request_timeout, flags.request_timeout);
    assert_eq!((flags.insecure_skip_tls_verify, flags.disable_compression), (None, None));
    assert_eq!(flags.contexts(), [None]);
}

#[test]
fn switches_are_taken_alone_and_with_a_value() {
    let check = |flag: &str, expected| assert_eq!(flags(&[flag]).insecure_skip_tls_verify, expected, "{flag}");
    check("--insecure-skip-tls-verify", Some(true));
    check("--insecure-skip-tls-verify=true", Some(true));
    check("--insecure-skip-tls-verify=false", Some(false));
}

#[test]
fn contexts_are_repeated_or_listed_and_taken_once() {
    let contexts = flags(&["--context", "a,b", "--context", "c", "--context", "a"]).contexts();
    assert_eq!(contexts, [Some("a".to_owned()), Some("b".to_owned()), Some("c".to_owned())]);
}

#[tokio::test]
async fn names_that_do_not_exist_are_told_with_those_that_do() {
    let (_folder, path) = kubeconfig(KUBECONFIG);
    let check = async |more: &[&str], expected: &str| assert_eq!(message(&path, more).await, expected, "{more:?}");
    const LOADING: &str = "loading the client configuration";
    let known = "a, lost-user, lost-cluster, no-server";
    check(&[], "a first https://first.example:6443").await;
    check(&["--context", "c"], &format!("{LOADING}: context \"c\" does not exist: there are {known}")).await;
    check(&["--user", "u"], &format!("{LOADING}: user \"u\" does not exist: there are me")).await;
    check(&["--cluster", "u"], &format!("{LOADING}: cluster \"u\" does not exist: there are first, nowhere")).await;
    check(&["--context", "lost-user"], &format!("{LOADING}: user \"gone\" does not exist: there are me")).await;
    check(&["--context", "lost-cluster"], &format!("{LOADING}: cluster \"gone\" does not exist: there are first, nowhere")).await;
    check(&["--context", "no-server"], &format!("{LOADING}: cluster \"nowhere\" has no server")).await;
    check(&["--context", "no-server", "--server", "http://b:1"], "no-server nowhere http://b:1").await;
}

#[tokio::test]
async fn a_current_context_that_does_not_exist_is_not_made_up() {
    let (_folder, path) = kubeconfig(&KUBECONFIG.replace("current-context: a", "current-context: old"));
    let message = message(&path, &[]).await;
    assert!(message.contains("context \"old\" does not exist"), "{message}");
}

#[tokio::test]
async fn files_that_are_missing_are_skipped_and_the_first_wins() {
    let (folder, first) = kubeconfig(KUBECONFIG);
    let (_other, second) = kubeconfig(&KUBECONFIG.replace("first.example", "second.example").replace("current-context: a", ""));
    let environment =
        |paths: [&Path; 4]| Environment { kubeconfig: Some(std::env::join_paths(paths).unwrap()), ..Environment::default() };
    let missing = folder.path().join("missing");
    let server = |paths| {
        let loaded = load(None, &environment(paths)).unwrap();
        loaded.map(|config| config.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap())
    };
    let empty = Path::new("");
    assert_eq!(server([&missing, &first, empty, &second]).unwrap(), "https://first.example:6443");
    assert_eq!(server([&missing, &second, empty, &first]).unwrap(), "https://second.example:6443");
    assert_eq!(server([&missing, empty, empty, empty]), None);
    let merged = load(None, &environment([&second, &first, empty, empty])).unwrap().unwrap();
    assert_eq!(merged.current_context.as_deref(), Some("a"));
    let message = message(&missing, &[]).await;
    assert!(message.contains("cannot read "), "{message}");
}

#[tokio::test]
async fn a_server_is_enough_but_names_need_a_kubeconfig() {
    let told = async |more: &[&str]| {
        let flags = flags(more);
        match flags.connect_in(&Environment::default(), flags.context.first().map(String::as_str), "test").await {
            Ok(connection) => format!("{} {} {}", connection.context, connection.cluster_name, connection.namespace),
            Err(failure) => failure.to_string(),
        }
    };
    assert_eq!(told(&["-s", "http://a:1"]).await, "http://a:1 http://a:1 default");
    assert_eq!(told(&["-s", "a:1"]).await, "http://a:1 http://a:1 default");
    assert_eq!(told(&["-s", "a:1", "--insecure-skip-tls-verify"]).await, "https://a:1 https://a:1 default");
    assert_eq!(
        told(&["--context", "c"]).await,
        "loading the client configuration: context \"c\" does not exist: there is no kubeconfig"
    );
    assert_eq!(
        told(&["-s", "a:1", "--as-group", "g"]).await.split(": ").nth(1),
        Some("requesting uid, groups or user-extra without impersonating a user")
    );
}

#[test]
fn proxies_come_from_the_environment_unless_the_server_is_excepted() {
    let environment = Environment {
        proxies: proxy::Proxies {
            secure: Some("proxy.example:3128".to_owned()),
            // The proxy's own host stands in the list: the library would then not use it. The empty element ends it.
            exceptions: "proxy.example,,inside.example,".to_owned(),
            ..Default::default()
        },
        ..Environment::default()
    };
    let proxy = |server: &str| {
        let resolved = Resolved::new(&flags(&["-s", server]), &environment, None).unwrap();
        resolved.config(&environment).unwrap().proxy_url.map(|proxy| proxy.to_string())
    };
    assert_eq!(proxy("https://outside.example").as_deref(), Some("http://proxy.example:3128/"));
    assert_eq!(proxy("https://api.inside.example"), None);
}

#[test]
fn warnings_lose_their_number_and_what_moves_a_cursor() {
    let check = |header: &str, expected: &[&str]| assert_eq!(warning_texts(header), expected, "{header}");
    check("299 - \"v1 \\\"X\\\" is deprecated\"", &["v1 \"X\" is deprecated"]);
    check("299 - \"one\", 299 - \"two, with a comma\"", &["one", "two, with a comma"]);
    check("299 - \"one\" \"Sat, 25 Aug 2012 23:34:45 GMT\", 299 - \"two\"", &["one", "two"]);
    check("199 - \"not for users\"", &[]);
    check("299 - \"a\u{9b}2Jb\"", &["a2Jb"]);
    check("299 - \"open", &["open"]);
    check("nothing", &[]);
}

#[tokio::test]
async fn a_warning_is_told_once_a_connection() {
    let (server, _) = serve(&[Behaviour::Answers(
        "HTTP/1.1 200 OK\r\nwarning: 299 - \"old\"\r\nwarning: 299 - \"older\"\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
    )]);
    let connection = ask(&flags(&["-s", &server])).await.unwrap();
    assert_eq!(connection.take_warnings(), ["old", "older"]);
    get_json(&connection, "/api", "reading the API").await.unwrap();
    assert_eq!(connection.take_warnings(), [""; 0]);
}

#[tokio::test]
async fn the_server_sees_who_asks_and_for_whom() {
    let (server, requests) = serve(&[Behaviour::Answers(EMPTY)]);
    let all = [
        "-s",
        &server,
        "--token=t",
        "--as=eve",
        "--as-group=a",
        "--as-group=b",
        "--as-uid=7",
        "--as-user-extra=Key=1",
        "--as-user-extra=Key=x=2",
    ];
    ask(&flags(&all)).await.unwrap();
    let requests = requests.lock().unwrap();
    let headers = [
        "authorization: bearer t",
        "user-agent: kubectl-mesh/test",
        "impersonate-user: eve",
        "impersonate-group: a",
        "impersonate-group: b",
        "impersonate-uid: 7",
        "impersonate-extra-key: 1",
        "impersonate-extra-key: x=2",
    ];
    for header in headers {
        assert!(requests[0].contains(&format!("{header}\r\n")), "{header} is not in {}", requests[0]);
    }
    // Compressing is a waste when nothing leaves the machine.
    assert!(!requests[0].contains("gzip"), "{}", requests[0]);
}

#[tokio::test]
async fn a_server_that_says_nothing_ends_within_the_timeout() {
    let (silent, _) = serve(&[Behaviour::FallsSilent("")]);
    let (half, _) = serve(&[Behaviour::FallsSilent("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"a\"")]);
    for server in [silent, half] {
        let began = Instant::now();
        assert_eq!(failure(&flags(&["-s", &server, "--request-timeout=300ms"])).await.cause, Cause::Timeout);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_never_begins_tls_ends_within_the_timeout() {
    let (server, _) = serve(&[Behaviour::FallsSilent("")]);
    let server = server.replace("http:", "https:");
    let began = Instant::now();
    let failure = failure(&flags(&["-s", &server, "--insecure-skip-tls-verify", "--request-timeout=300ms"])).await;
    assert!(matches!(failure.cause, Cause::Timeout | Cause::Unreachable(_)), "{failure}");
    assert!(!failure.to_string().contains("elapsed"), "{failure}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_port_without_a_server_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure = failure(&flags(&["-s", &server])).await;
    // The number behind it differs between systems.
    let expected = "reading the API: unable to connect to the server: Connection refused (os error ";
    assert!(failure.to_string().starts_with(expected), "{failure}");
    assert!(!failure.hint.is_empty());
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told() {
    let (server, _) = serve(&[Behaviour::AnswersAnything("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\nplain")]);
    let server = server.replace("http:", "https:");
    let failure = failure(&flags(&["-s", &server, "--insecure-skip-tls-verify"])).await;
    assert!(matches!(&failure.cause, Cause::Tls(why) if why.contains("does not speak TLS")), "{failure}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let (unknown, _) =
        serve(&[Behaviour::Answers("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")]);
    let (denied, _) = serve(&[Behaviour::Answers(
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 20\r\nconnection: close\r\n\r\n{\"message\":\"no way\"}",
    )]);
    assert_eq!(failure(&flags(&["-s", &unknown])).await.cause, Cause::Unauthorized);
    let denied = failure(&flags(&["-s", &denied])).await;
    assert_eq!(
        (denied.cause.clone(), denied.to_string()),
        (Cause::Forbidden, "reading the API: no way: denied (Forbidden)".to_owned())
    );
}

#[tokio::test]
async fn a_server_that_is_busy_for_ever_is_given_up_soon() {
    let (server, requests) =
        serve(&[Behaviour::Answers("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy")]);
    let began = Instant::now();
    assert_eq!(failure(&flags(&["-s", &server])).await.cause, Cause::Server(503, "busy".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!((2..=4).contains(&requests.lock().unwrap().len()));
}

#[tokio::test]
async fn a_connection_that_is_reset_twice_is_made_again() {
    let (server, requests) = serve(&[Behaviour::Resets, Behaviour::Resets, Behaviour::Answers(EMPTY)]);
    ask(&flags(&["-s", &server])).await.unwrap();
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_connection_that_ends_early_is_no_missing_server() {
    const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"a\"";
    let (closed, _) = serve(&[Behaviour::AnswersAnything("")]);
    let (cut, _) = serve(&[Behaviour::Answers(HALF)]);
    let (reset, _) = serve(&[Behaviour::AnswersAndResets(HALF)]);
    for server in [cut, reset] {
        assert_eq!(failure(&flags(&["-s", &server])).await.cause, Cause::Broken, "{server}");
    }
    let (resets, _) = serve(&[Behaviour::Resets]);
    for server in [closed, resets] {
        let failure = failure(&flags(&["-s", &server])).await;
        assert!(matches!(failure.cause, Cause::Closed(_)), "{failure}");
    }
}

#[cfg(unix)]
mod credentials;

#[cfg(unix)]
mod plugins {
    use super::*;

    /// A kubeconfig whose user is the output of a script.
    pub(super) fn with_plugin(server: &str, script: &str, more: &str) -> (tempfile::TempDir, PathBuf) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("login.sh");
        std::fs::write(&program, format!("#!/bin/sh\ncd {}\n{script}\n", folder.path().display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: '{server}'}}}}]\n\
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{exec: \
             {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: ./login.sh{more}, env: [{{name: PASSWORD, value: secret}}]}}}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn a_credential_plugin_is_run_once_and_does_not_eat_what_is_piped_to_us() {
        let (server, requests) = serve(&[Behaviour::Answers(EMPTY)]);
        let script = r#"echo run >> runs; cat > stdin; echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-plugin"}}'"#;
        let (folder, path) = with_plugin(&server, script, "");
        ask(&flags(&["--kubeconfig", path.to_str().unwrap()])).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("runs")).unwrap(), "run\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("stdin")).unwrap(), "");
        assert!(requests.lock().unwrap()[0].contains("authorization: bearer from-plugin\r\n"));
    }

    #[tokio::test]
    async fn a_credential_plugin_that_fails_is_named_without_what_it_was_given() {
        let (folder, path) = with_plugin("http://127.0.0.1:1", "echo 'please log in' >&2; exit 3", ", provideClusterInfo: true");
        let program = folder.path().join("./login.sh");
        assert_eq!(
            message(&path, &[]).await,
            format!("running the credential plugin {}: failed: exit status: 3: please log in", program.display())
        );
    }

    #[tokio::test]
    async fn a_credential_plugin_that_is_not_there_is_named_with_the_way_to_get_it() {
        let (folder, path) = with_plugin("http://127.0.0.1:1", "", ", installHint: install login");
        std::fs::remove_file(folder.path().join("login.sh")).unwrap();
        let flags = flags(&["--kubeconfig", path.to_str().unwrap()]);
        let failure = flags.connect_in(&Environment::default(), None, "test").await.err().unwrap();
        assert!(failure.to_string().contains("login.sh: unable to run auth exec: No such file"), "{failure}");
        assert_eq!(failure.hint, Advice::say("install login"));
    }
}

#[test]
fn the_difference_of_two_clocks_is_what_the_answer_says() {
    let now = "2026-11-23T16:00:00.5Z".parse().unwrap();
    assert_eq!(seconds_ahead("Mon, 23 Nov 2026 16:00:01 GMT", now), Some(0));
    assert_eq!(seconds_ahead("Mon, 23 Nov 2026 16:02:00 GMT", now), Some(120));
    assert_eq!(seconds_ahead("Mon, 23 Nov 2026 15:59:00 GMT", now), Some(-60));
    assert_eq!(seconds_ahead("tomorrow", now), None);
}
