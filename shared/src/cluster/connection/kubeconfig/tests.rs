//! What is a kubeconfig, and what is none.

use super::*;

const PLAIN: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n  cluster: {server: 'https://a:1'}\n\
                     contexts:\n- name: a\n  context: {cluster: a, user: a}\nusers:\n- name: a\n  user: {token: geheim}\n";

/// What is said of a file with these bytes: its server, or why it is none.
fn said(bytes: &[u8]) -> String {
    match decoded(bytes).and_then(|text| parse(&text)) {
        Ok(kubeconfig) => {
            let cluster = kubeconfig.clusters.first().and_then(|entry| entry.cluster.clone());
            cluster.and_then(|cluster| cluster.server).unwrap_or_else(|| "no server".to_owned())
        }
        Err(why) => why,
    }
}

fn utf16_of(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(unit).collect()
}

#[test]
fn every_encoding_that_kubectl_reads_is_read_and_every_other_is_an_error() {
    let check = |bytes: &[u8], expected: &str| assert_eq!(said(bytes), expected, "{:?}", &bytes[..bytes.len().min(8)]);
    let (little, big) = (utf16_of(PLAIN, u16::to_le_bytes), utf16_of(PLAIN, u16::to_be_bytes));
    check(PLAIN.as_bytes(), "https://a:1");
    check(PLAIN.replace('\n', "\r\n").as_bytes(), "https://a:1");
    check(format!("\u{feff}{PLAIN}").as_bytes(), "https://a:1");
    check(&little, "https://a:1");
    check(&big, "https://a:1");
    check(&little[..little.len() - 1], "it is UTF-16 with half a character at its end");
    check(&[0xFF, 0xFE, 0x00, 0xD8], "it begins as UTF-16 does, and is none");
    check(&little[2..], "it holds the byte 0: it may be UTF-16 without a byte-order mark, or no text");
    check(b"current-context: caf\xe9\n", "the byte after its first 20 is no UTF-8");
    check(b"current-context: \"\x1b[2J\"\n", "it holds the control character U+001B");
    check(b"", "no server");
    check(b" \n# nothing\n---\n", "no server");
}

#[test]
fn only_the_first_document_counts() {
    let other = PLAIN.replace("https://a:1", "https://b:1");
    assert_eq!(said(format!("# one\n---\n{PLAIN}---\n{other}").as_bytes()), "https://a:1");
    assert_eq!(said(format!("{PLAIN}...\n:: no YAML [").as_bytes()), "https://a:1");
}

#[test]
fn what_kubectl_refuses_is_refused_without_a_word_of_what_is_secret() {
    let check = |text: &str, expected: &str| assert_eq!(said(text.as_bytes()), expected, "{text}");
    check("- a", "it is no YAML mapping");
    check("kind: Pod", "its kind is \"Pod\", not Config");
    check("apiVersion: v2", "its apiVersion is \"v2\", not v1");
    check("clusters: {a: b}", "a value in it has the wrong type: expected a sequence");
    check("users: [{name: a, user: {token: 4711}}]", "a value in it has the wrong type: expected a string");
    check("users: [{name: a, user: {}}, {name: a, user: {}}]", "two of its users have the name \"a\"");
    check("users: [{name: a, user: {token: geheim}", "line 1 of it is no YAML that can be read");
    check("a: *nowhere", "line 1 of it is no YAML that can be read");
}

#[test]
fn anchors_and_nulls_are_kubectls() {
    let text = "x: &at {server: 'https://a:1'}\nclusters: [{name: a, cluster: *at}, null]\nusers:\ncontexts: [{name: null, context: null}]\n";
    assert_eq!(said(text.as_bytes()), "https://a:1");
    let kubeconfig = parse(text).unwrap();
    assert_eq!((kubeconfig.contexts.len(), kubeconfig.contexts[0].name.as_str()), (1, ""));
    assert_eq!(said(b"clusters: [{name: a, cluster: {server: 'https://a:1', server: 'https://b:1'}}]"), "https://b:1");
}

#[test]
fn base64_may_be_broken_into_lines() {
    let text = "clusters:\n- name: a\n  cluster:\n    certificate-authority-data: |\n      QUJD\n      REVG\n";
    let cluster = parse(text).unwrap().clusters[0].cluster.clone().unwrap();
    assert_eq!(cluster.certificate_authority_data.as_deref(), Some("QUJDREVG"));
}

#[test]
fn files_are_named_relative_to_the_kubeconfig() {
    let mut kubeconfig = parse(
        "clusters: [{name: a, cluster: {certificate-authority: ../ca.crt}}]\n\
         users: [{name: a, user: {tokenFile: ~/token, client-key: /k, exec: {command: bin/login}}}, {name: b, user: {exec: {command: login}}}]",
    )
    .unwrap();
    make_absolute(&mut kubeconfig, Path::new("/home/me/config")).unwrap();
    let users: Vec<&AuthInfo> = kubeconfig.auth_infos.iter().filter_map(|entry| entry.auth_info.as_ref()).collect();
    let command = |user: &AuthInfo| user.exec.as_ref().and_then(|exec| exec.command.clone()).unwrap();
    assert_eq!(kubeconfig.clusters[0].cluster.as_ref().unwrap().certificate_authority.as_deref(), Some("/home/ca.crt"));
    assert_eq!(users[0].token_file.as_deref(), Some("/home/me/~/token"));
    assert_eq!(users[0].client_key.as_deref(), Some("/k"));
    assert_eq!((command(users[0]), command(users[1])), ("/home/me/bin/login".to_owned(), "login".to_owned()));
}

#[test]
fn no_file_makes_a_panic() {
    // Every prefix of a file, and every byte of it changed in some ways.
    let short = "clusters: [&a {name: a, cluster: {server: 'x'}}, *a]\nusers: |\n  a\n";
    for bytes in [short.as_bytes().to_vec(), utf16_of(short, u16::to_le_bytes), utf16_of(short, u16::to_be_bytes)] {
        for place in 0..bytes.len() {
            said(&bytes[..place]);
            for value in [0, b'\n', 0xFF, b'{', b'&', b'*', b'\t'] {
                let mut changed = bytes.clone();
                changed[place] = value;
                said(&changed);
            }
        }
    }
}
