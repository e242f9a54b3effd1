//! Odd kubeconfigs: what the real kubectl reaches is reached, and what it does not reach is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use support::{Cluster, Kubeconfig, plugin};

/// A kubeconfig, and what its user and its cluster consist of.
struct Parts {
    server: String,
    authority: String,
    user: String,
}

impl Parts {
    fn text(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context: {{cluster: a, user: a}}\n\
             clusters:\n- name: a\n  cluster:\n    server: {}\n    {}\nusers:\n- name: a\n  user:\n    {}\n",
            self.server, self.authority, self.user
        )
    }
}

fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(unit).collect()
}

/// Base64, in lines.
fn base64(home: &Path, file: &Path) -> Result<String> {
    let script = format!("base64 -w 60 {}", file.display());
    let output = std::process::Command::new("sh").arg("-c").arg(script).current_dir(home).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Every case: what is odd, and the file. A server without a scheme is none of them: kubectl goes there without TLS and leaves the
/// credentials out, whatever else the kubeconfig says, where we use the certificate authority that it names.
fn cases(home: &Path, cluster: &Kubeconfig) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let authority = format!("certificate-authority: {}", cluster.authority.display());
    let token = format!("token: {}", cluster.token);
    let with = |authority: &str, user: &str| {
        Parts { server: cluster.server.clone(), authority: authority.to_owned(), user: user.to_owned() }.text()
    };
    let plain = with(&authority, &token);
    let nowhere = plain.replace(&cluster.server, "https://127.0.0.1:1");
    fs::write(home.join("token"), format!("{}\n", cluster.token))?;
    fs::write(home.join("wrong-token"), "wrong\n")?;
    fs::write(home.join("empty"), "\n")?;
    fs::copy(&cluster.authority, home.join("ca.crt"))?;
    let answer = |version: &str| {
        format!(
            r#"{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/{version}","status":{{"token":"{}"}}}}"#,
            cluster.token
        )
    };
    for version in ["v1", "v1beta1"] {
        let program = home.join(format!("login-{version}"));
        fs::write(&program, format!("#!/bin/sh\necho '{}'\n", answer(version)))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    let exec = |fields: &str| with(&authority, &format!("exec: {{{fields}}}"));
    let v1 = "apiVersion: client.authentication.k8s.io/v1";
    let lines = base64(home, &cluster.authority)?;
    let block = |indent: &str, lines: &str| lines.lines().map(|line| format!("      {indent}{line}\n")).collect::<String>();
    let text = |text: String| text.into_bytes();
    Ok(vec![
        ("nothing", text(plain.clone())),
        ("line ends of Windows", text(plain.replace('\n', "\r\n"))),
        ("a byte-order mark", text(format!("\u{feff}{plain}"))),
        ("UTF-16", utf16(&plain, u16::to_le_bytes)),
        ("UTF-16, the other way round", utf16(&plain, u16::to_be_bytes)),
        ("half a character of UTF-16", utf16(&plain, u16::to_le_bytes)[..401].to_vec()),
        ("UTF-16 without a mark", utf16(&plain, u16::to_le_bytes)[2..].to_vec()),
        ("Latin-1", [b"# caf\xe9\n", plain.as_bytes()].concat()),
        ("a zero byte", [plain.as_bytes(), b"\0"].concat()),
        ("an escape sequence", text(format!("# \u{1b}[2J\n{plain}"))),
        ("no content", Vec::new()),
        ("only a comment", b"# nothing\n".to_vec()),
        ("no YAML", b"users: [".to_vec()),
        ("a list", b"- a\n".to_vec()),
        ("anchors", text(plain.replace("user: a}", "user: &me a}").replace("- name: a\n  user:", "- name: *me\n  user:"))),
        ("a second document", text(format!("{plain}---\n{nowhere}"))),
        ("another first document", text(format!("{nowhere}---\n{plain}"))),
        ("a key twice", text(plain.replace("    server:", "    server: https://127.0.0.1:1\n    server:"))),
        (
            "a cluster twice",
            text(plain.replace("clusters:\n", "clusters:\n- name: a\n  cluster: {server: 'https://127.0.0.1:1'}\n")),
        ),
        ("no current context", text(plain.replace("current-context: a\n", ""))),
        ("a current context that is not there", text(plain.replace("current-context: a", "current-context: b"))),
        ("a cluster that is not there", text(plain.replace("cluster: a, user", "cluster: b, user"))),
        ("a user that is not there", text(plain.replace("user: a}", "user: b}"))),
        ("another kind", text(plain.replace("kind: Config", "kind: Pod"))),
        ("another version", text(plain.replace("apiVersion: v1", "apiVersion: v2"))),
        ("neither kind nor version", text(plain.replace("apiVersion: v1\nkind: Config\n", ""))),
        ("nulls", text(format!("{plain}preferences: null\nextensions: null\n"))),
        ("a number for a token", text(with(&authority, "token: 1234"))),
        ("a token file", text(with(&authority, "tokenFile: token"))),
        ("a token file and another token", text(with(&authority, "tokenFile: token\n    token: wrong"))),
        ("a token and another token file", text(with(&authority, &format!("tokenFile: wrong-token\n    {token}")))),
        ("a token and a token file that is not there", text(with(&authority, &format!("tokenFile: nowhere\n    {token}")))),
        ("a token file that is not there", text(with(&authority, "tokenFile: nowhere"))),
        ("an empty token file", text(with(&authority, "tokenFile: empty"))),
        ("a home folder in a path", text(with(&authority, "tokenFile: ~/token"))),
        ("a token and a password", text(with(&authority, &format!("{token}\n    username: me\n    password: x")))),
        ("a certificate without a key", text(with(&authority, &format!("{token}\n    client-certificate: ca.crt")))),
        ("a relative path", text(with("certificate-authority: ca.crt", &token))),
        ("a path with dots", text(with("certificate-authority: bin/../ca.crt", &token))),
        ("an authority that is not there", text(with("certificate-authority: nowhere", &token))),
        ("an authority in lines", text(with(&format!("certificate-authority-data: |\n{}", block("", &lines)), &token))),
        (
            "an authority in lines with blanks",
            text(with(&format!("certificate-authority-data: |\n      AA\n{}", block(" ", &lines)), &token)),
        ),
        ("two authorities", text(with(&format!("{authority}\n    certificate-authority-data: QQ=="), &token))),
        ("an authority and no verification", text(with(&format!("{authority}\n    insecure-skip-tls-verify: true"), &token))),
        ("no verification", text(with("insecure-skip-tls-verify: true", &token))),
        ("no verification in the words of YAML 1.1", text(with("insecure-skip-tls-verify: yes", &token))),
        ("another name of the server", text(with(&format!("{authority}\n    tls-server-name: other.example"), &token))),
        ("a proxy of an unknown kind", text(with(&format!("{authority}\n    proxy-url: ftp://127.0.0.1:1"), &token))),
        ("a plugin", text(exec(&format!("{v1}, interactiveMode: Never, command: ./login-v1")))),
        ("a plugin that may ask", text(exec(&format!("{v1}, interactiveMode: IfAvailable, command: ./login-v1")))),
        ("a plugin that must ask", text(exec(&format!("{v1}, interactiveMode: Always, command: ./login-v1")))),
        ("a plugin that does not say whether it asks", text(exec(&format!("{v1}, command: ./login-v1")))),
        ("a plugin of the version before", text(exec(&format!("{v1}beta1, command: ./login-v1beta1")))),
        (
            "a plugin that answers in another version",
            text(exec(&format!("{v1}, interactiveMode: Never, command: ./login-v1beta1"))),
        ),
        ("a plugin of no version", text(exec("interactiveMode: Never, command: ./login-v1"))),
        (
            "a plugin beside a token",
            text(with(&authority, &format!("{token}\n    exec: {{{v1}, interactiveMode: Never, command: 'false'}}"))),
        ),
        ("a provider that is gone", text(with(&authority, "auth-provider: {name: gcp}"))),
        ("a server with a slash at its end", text(plain.replace(&cluster.server, &format!("{}/", cluster.server)))),
    ])
}

#[test]
fn odd_kubeconfigs_lead_where_kubectl_goes_or_nowhere() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-proxyver")?;
    let file = session.home().join("odd");
    let session = session.kubeconfig(&file);
    let mut wrong = Vec::new();
    for (what, bytes) in cases(session.home(), cluster.kubeconfig())? {
        fs::write(&file, bytes)?;
        let theirs = session.run(["get", "namespaces"])?;
        let ours = session.run(["mesh-proxyver", "-A"])?;
        // A panic is neither.
        if (ours.code == Some(0)) != (theirs.code == Some(0))
            || !matches!(ours.code, Some(0 | 1))
            || ours.stderr.contains(&cluster.kubeconfig().token)
        {
            wrong.push(format!("{what}:\n{}{}", theirs.transcript(), ours.transcript()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_folder_is_no_kubeconfig_and_a_server_that_is_typed_is_not_what_the_file_calls_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-proxyver")?;
    let folder = session.home().to_owned();
    let session = session.kubeconfig(&folder);
    for words in [&["get", "namespaces"][..], &["mesh-proxyver", "-A"]] {
        ensure!(session.run(words)?.code == Some(1), "{words:?}");
    }
    let config = cluster.kubeconfig();
    let parts = Parts {
        server: "https://127.0.0.1:1".to_owned(),
        authority: format!("certificate-authority: {}\n    tls-server-name: other.example", config.authority.display()),
        user: format!("token: {}", config.token),
    };
    let file = folder.join("other");
    fs::write(&file, parts.text())?;
    let session = session.kubeconfig(&file);
    for words in [&["get", "namespaces"][..], &["mesh-proxyver", "-A"]] {
        let output = session.run(words.iter().chain(&["--server", &config.server]))?;
        ensure!(output.code == Some(0), "{}", output.transcript());
    }
    Ok(())
}
