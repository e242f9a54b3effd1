//! What other programs are given.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// The connection that a kubeconfig, whose user and cluster are these, and flags give.
async fn connection(folder: &Path, cluster: &str, user: &str, flags: &[&str]) -> Connection {
    let path = folder.join("mine");
    let text = format!(
        "current-context: my prod\ncontexts: [{{name: my prod, context: {{cluster: eu, user: me, namespace: shop}}}}, \
         {{name: other, context: {{cluster: other, user: other}}}}]\n\
         clusters: [{{name: eu, cluster: {{server: 'https://127.0.0.1:1'{cluster}}}}}, {{name: other, cluster: {{server: 'https://127.0.0.1:2'}}}}]\n\
         users: [{{name: me, user: {{{user}}}}}, {{name: other, user: {{token: other}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let words = ["test", "--kubeconfig", path.to_str().unwrap()];
    let args = Command::try_parse_from(words.iter().chain(flags)).unwrap_or_else(|error| panic!("{error}")).connection;
    args.connect_in(&Environment::default(), None, "test").await.unwrap_or_else(|failure| panic!("{failure}"))
}

fn written(connection: &Connection) -> Value {
    let private = connection.private_kubeconfig().unwrap_or_else(|refusal| panic!("{refusal:?}"));
    serde_json::from_slice(&std::fs::read(private.path()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_file_holds_one_cluster_one_user_and_one_context() {
    let folder = tempfile::tempdir().unwrap();
    let connection =
        connection(folder.path(), ", tls-server-name: api, insecure-skip-tls-verify: true", "token: mine", &[]).await;
    let expected = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "my prod",
        "clusters": [{"name": "eu", "cluster":
            {"server": "https://127.0.0.1:1", "tls-server-name": "api", "insecure-skip-tls-verify": true}}],
        "contexts": [{"name": "my prod", "context": {"cluster": "eu", "user": "me", "namespace": "shop"}}],
        "users": [{"name": "me", "user": {"token": "mine"}}],
    });
    assert_eq!(written(&connection), expected);
    // The one who asks again is given the same, whatever has become of the kubeconfig meanwhile.
    std::fs::remove_file(folder.path().join("mine")).unwrap();
    assert_eq!(written(&connection), expected);
}

#[tokio::test]
async fn every_flag_stands_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "-s",
        "https://127.0.0.1:3",
        "--tls-server-name",
        "typed",
        "--insecure-skip-tls-verify",
        "--token",
        "typed",
        "--as",
        "eve",
        "--as-group",
        "a",
        "--as-group",
        "b",
        "--as-uid",
        "7",
        "--as-user-extra",
        "k=v",
        "--disable-compression",
    ];
    let text = written(&connection(folder.path(), ", tls-server-name: api", "tokenFile: token", &flags).await);
    assert_eq!(
        text["clusters"][0]["cluster"],
        json!({"server": "https://127.0.0.1:3", "tls-server-name": "typed", "insecure-skip-tls-verify": true, "disable-compression": true})
    );
    assert_eq!(
        text["users"][0]["user"],
        json!({"token": "typed", "as": "eve", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": {"k": ["v"]}})
    );
}

#[tokio::test]
async fn files_are_in_it_or_named_from_the_root_and_a_program_keeps_its_surroundings() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "t").unwrap();
    let user = "tokenFile: token, token: beside";
    let token = written(&connection(folder.path(), ", proxy-url: 'http://127.0.0.1:9'", user, &[]).await);
    assert_eq!(token["clusters"][0]["cluster"]["proxy-url"], "http://127.0.0.1:9");
    assert_eq!(token["users"][0]["user"], json!({"token": "beside", "tokenFile": folder.path().join("token")}));
    let answer = r#"{"apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t"}}"#;
    std::fs::write(folder.path().join("login"), format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    std::fs::set_permissions(folder.path().join("login"), Permissions::from_mode(0o755)).unwrap();
    let user = "exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: IfAvailable, provideClusterInfo: true, \
                command: ./login, args: ['yes', '1e3'], env: [{name: A, value: 'on'}]}";
    let extensions = ", extensions: [{name: client.authentication.k8s.io/exec, extension: {audience: us}}]";
    let exec = written(&connection(folder.path(), extensions, user, &[]).await);
    assert_eq!(
        exec["users"][0]["user"]["exec"],
        json!({"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "IfAvailable", "provideClusterInfo": true,
            "command": folder.path().join("./login"), "args": ["yes", "1e3"], "env": [{"name": "A", "value": "on"}]})
    );
    assert_eq!(exec["clusters"][0]["cluster"]["extensions"][0]["extension"], json!({"audience": "us"}));
}

#[tokio::test]
async fn nobody_else_can_read_it_and_it_goes_with_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let one = connection(folder.path(), "", "token: mine", &[]).await;
    let other = one.clone();
    let path = one.private_kubeconfig().unwrap().path();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    drop(one);
    assert_eq!(other.private_kubeconfig().unwrap().path(), path);
    drop(other);
    assert!(!path.parent().unwrap().exists());
}

#[tokio::test]
async fn what_one_program_has_made_of_the_file_is_nothing_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let connection = connection(folder.path(), "", "token: mine", &[]).await;
    let private = connection.private_kubeconfig().unwrap();
    let whole = std::fs::read(private.path()).unwrap();
    let spoil: [&dyn Fn(&Path); 2] =
        [&|path| std::fs::write(path, "current-context: other").unwrap(), &|path| std::fs::remove_file(path).unwrap()];
    for spoil in spoil {
        spoil(&private.path());
        private.lead(&mut tokio::process::Command::new("true")).unwrap();
        assert_eq!(std::fs::read(private.path()).unwrap(), whole);
        assert_eq!(std::fs::metadata(private.path()).unwrap().mode() & 0o7777, 0o600);
    }
}

#[tokio::test]
async fn what_a_file_cannot_say_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plain = connection(folder.path(), "", "token: mine", &["-s", "http://127.0.0.1:1"]).await;
    let told = plain.private_kubeconfig().unwrap_err().reason;
    assert!(told.contains("its server has no TLS") && told.ends_with("nothing was changed"), "{told}");
    // Without credentials there is nothing to lose.
    assert!(connection(folder.path(), "", "", &["-s", "http://127.0.0.1:1"]).await.private_kubeconfig().is_ok());
}

#[test]
fn what_leads_elsewhere_is_taken_out_of_the_surroundings() {
    for name in
        ["HELM_KUBECONTEXT", "HELM_KUBEAPISERVER", "HELM_KUBETOKEN", "HELM_NAMESPACE", "ISTIOCTL_CONTEXT", "KUBERNETES_MASTER"]
    {
        assert!(leads_elsewhere(name), "{name}");
    }
    for name in ["KUBECONFIG", "PATH", "HELM_DRIVER", "HELM_PLUGINS", "HTTPS_PROXY", "ISTIOCONFIG"] {
        assert!(!leads_elsewhere(name), "{name}");
    }
}
