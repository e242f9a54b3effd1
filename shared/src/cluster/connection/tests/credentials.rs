//! Which credentials are shown, and how they are renewed.

use super::plugins::with_plugin;
use super::*;

const UNKNOWN: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

/// A kubeconfig with this user, and what else stands in the entry of its cluster.
fn with_user(server: &str, user: &str, cluster: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let text = format!(
        "current-context: a\nclusters: [{{name: a, cluster: {{server: '{server}'{cluster}}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{{user}}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn authorization(request: &str) -> &str {
    request.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("none")
}

#[tokio::test]
async fn a_token_file_is_trimmed_and_stronger_than_a_token() {
    let shown = async |user: &str, file: Option<&str>| {
        let (server, requests) = serve(&[Behaviour::Answers(EMPTY)]);
        let (folder, path) = with_user(&server, user, "");
        if let Some(text) = file {
            std::fs::write(folder.path().join("token"), text).unwrap();
        }
        match ask(&flags(&["--kubeconfig", path.to_str().unwrap()])).await {
            Ok(_) => authorization(&requests.lock().unwrap()[0]).to_owned(),
            Err(failure) => failure.to_string().replace(folder.path().to_str().unwrap(), "FOLDER"),
        }
    };
    assert_eq!(shown("tokenFile: token", Some(" from-file\n\n")).await, "bearer from-file");
    assert_eq!(shown("tokenFile: token, token: beside", Some("from-file\n")).await, "bearer from-file");
    assert_eq!(shown("tokenFile: token, token: beside", None).await, "bearer beside");
    let loading = "loading the client configuration: ";
    assert_eq!(shown("tokenFile: token", Some("\n")).await, format!("{loading}the token file FOLDER/token is empty"));
    let missing = shown("tokenFile: token", None).await;
    assert!(missing.starts_with(&format!("{loading}cannot read the token file FOLDER/token: ")), "{missing}");
}

#[tokio::test]
async fn what_excludes_each_other_is_refused_as_by_kubectl() {
    let check = async |user: &str, cluster: &str, expected: &str| {
        let (_folder, path) = with_user("https://127.0.0.1:1", user, cluster);
        let told = message(&path, &[]).await;
        assert!(told.contains(expected), "{user} {cluster}: {told}");
    };
    check("token: a, username: b", "", "the user has a token and a name with a password").await;
    check("client-certificate-data: QQ==", "", "a client certificate and no client key").await;
    check("client-certificate-data: QQ==, client-certificate: a", "", "client-certificate-data and client-certificate").await;
    check("exec: {command: a}, auth-provider: {name: oidc}", "", "exec and auth-provider").await;
    check("auth-provider: {name: gcp}", "", "the auth-provider gcp of the user is not supported").await;
    check("exec: {command: a}", "", "its apiVersion \"\" is not known").await;
    check("exec: {command: a, apiVersion: client.authentication.k8s.io/v1}", "", "its interactiveMode is missing").await;
    check("", ", certificate-authority: a, certificate-authority-data: QQ==", "certificate-authority-data and").await;
    check("", ", certificate-authority-data: QQ==, insecure-skip-tls-verify: true", "they exclude each other").await;
    check("", ", proxy-url: 'ftp://a'", "must begin with http://, https:// or socks5://").await;
}

#[test]
fn a_server_that_is_typed_clears_what_the_file_says_of_the_other() {
    let (_folder, path) = with_user("https://a.example", "", ", tls-server-name: of-a, insecure-skip-tls-verify: true");
    let name = |more: &[&str]| {
        let all: Vec<&str> = ["--kubeconfig", path.to_str().unwrap()].into_iter().chain(more.iter().copied()).collect();
        let cluster = Resolved::new(&flags(&all), &Environment::default(), None).unwrap().cluster;
        (cluster.server.unwrap(), cluster.tls_server_name)
    };
    let of = |server: &str, name: Option<&str>| (server.to_owned(), name.map(str::to_owned));
    assert_eq!(name(&[]), of("https://a.example", Some("of-a")));
    assert_eq!(name(&["--server", "https://b.example"]), of("https://b.example", None));
    assert_eq!(name(&["--server", "https://b.example", "--tls-server-name", "of-b"]), of("https://b.example", Some("of-b")));
    assert_eq!(name(&["--server", ""]), of("https://a.example", Some("of-a")));
}

#[tokio::test]
async fn a_plugin_is_asked_again_when_the_server_does_not_accept_its_token() {
    let (server, requests) = serve(&[Behaviour::Answers(UNKNOWN), Behaviour::Answers(EMPTY)]);
    let script = r#"echo run >> runs; echo '{"apiVersion":"client.authentication.k8s.io/v1","status":{"token":"token-'$(grep -c run runs)'"}}'"#;
    let (folder, path) = with_plugin(&server, script, "");
    ask(&flags(&["--kubeconfig", path.to_str().unwrap()])).await.unwrap();
    let shown: Vec<String> = requests.lock().unwrap().iter().map(|request| authorization(request).to_owned()).collect();
    assert_eq!(shown, ["bearer token-1", "bearer token-2"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("runs")).unwrap(), "run\nrun\n");
}

#[tokio::test]
async fn a_plugin_that_has_nothing_better_is_not_asked_for_ever() {
    let (server, requests) = serve(&[Behaviour::Answers(UNKNOWN)]);
    let script = r#"echo run >> runs; echo '{"apiVersion":"client.authentication.k8s.io/v1","status":{"token":"same"}}'"#;
    let (folder, path) = with_plugin(&server, script, "");
    assert_eq!(failure(&flags(&["--kubeconfig", path.to_str().unwrap()])).await.cause, Cause::Unauthorized);
    assert_eq!(requests.lock().unwrap().len(), 1);
    assert_eq!(std::fs::read_to_string(folder.path().join("runs")).unwrap(), "run\nrun\n");
}

#[tokio::test]
async fn a_token_that_has_expired_is_renewed_before_it_is_shown() {
    let (server, requests) = serve(&[Behaviour::Answers(EMPTY)]);
    let script = r#"echo run >> runs; echo '{"apiVersion":"client.authentication.k8s.io/v1","status":{"expirationTimestamp":"2020-01-01T00:00:00Z","token":"token-'$(grep -c run runs)'"}}'"#;
    let (_folder, path) = with_plugin(&server, script, "");
    ask(&flags(&["--kubeconfig", path.to_str().unwrap()])).await.unwrap();
    assert_eq!(authorization(&requests.lock().unwrap()[0]), "bearer token-2");
}

#[tokio::test]
async fn a_plugin_that_hangs_does_not_hang_us() {
    let (folder, path) = with_plugin("http://127.0.0.1:1", "sleep 60 & echo $! > child; wait", "");
    let began = Instant::now();
    let told = message(&path, &["--request-timeout", "300ms"]).await;
    assert!(told.contains("login.sh: it did not end within 0.3 s; --request-timeout gives it longer"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let child: i32 = std::fs::read_to_string(folder.path().join("child")).unwrap().trim().parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    while rustix::process::test_kill_process(child).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "what it has started goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}
