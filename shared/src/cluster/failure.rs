//! What went wrong between us and an API server or a file, said as kubectl says it: the object, the cause, and the next
//! command.

use std::error::Error;
use std::fmt;

use prost::Message;
use serde::Deserialize;

/// A failure that a user reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was being done, as a gerund phrase that names the object: `listing pods`.
    pub what: String,
    /// Why it failed.
    pub cause: Cause,
    /// The next command, where there is one.
    pub hint: Option<String>,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kubeconfig says nothing usable: what is wrong with it.
    Configuration(String),
    /// A credential plugin, token or certificate could not be had or used.
    Credentials(String),
    /// There is no connection to the server: why.
    Unreachable(String),
    /// The server's certificate cannot be verified, or ours cannot be used.
    Tls(String),
    /// The server does not know the user.
    Unauthorized,
    /// The server denies it: its message.
    Forbidden,
    /// It does not exist.
    NotFound,
    /// The server has forgotten the moment that a list was taken from (410).
    Expired,
    /// Nothing came within the request timeout.
    Timeout,
    /// Somebody else changed it first (409).
    Conflict(String),
    /// The object itself was refused, or an admission webhook refused it.
    Refused(String),
    /// Any other answer that is no success: code and message.
    Server(u16, String),
    /// The answer or the file cannot be understood.
    Decode(String),
    /// Anything else.
    Other(String),
}

impl Cause {
    /// Whether the rest of a reading can go on without this part. An unknown user or a server that is not there spoils
    /// everything.
    pub fn is_tolerable(&self) -> bool {
        !matches!(
            self,
            Cause::Configuration(_) | Cause::Credentials(_) | Cause::Unreachable(_) | Cause::Tls(_) | Cause::Unauthorized
        )
    }
}

/// `metav1.Status`, the answer to what fails (staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto).
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct Status {
    #[prost(string, tag = "3")]
    message: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// The envelope of a protobuf answer.
#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

impl Failure {
    /// A failure with the hint that its cause suggests.
    pub fn new(what: impl Into<String>, cause: Cause) -> Failure {
        let hint = hint(&cause);
        Failure { what: what.into(), cause, hint }
    }

    /// From what the client library reports.
    pub fn from_kube(what: &str, error: kube::Error) -> Failure {
        let cause = match &error {
            kube::Error::Api(status) => cause_of_status(status.code, &status.reason, &status.message),
            kube::Error::Auth(error) => Cause::Credentials(credential_message(error)),
            kube::Error::RustlsTls(error) => Cause::Tls(tls_message(error)),
            other => transport_cause(other),
        };
        Failure::new(what, cause)
    }

    /// From an answer that is no success. The body is a `Status` in JSON or protobuf, or whatever a proxy wrote.
    pub fn from_status(what: &str, code: http::StatusCode, body: &[u8]) -> Failure {
        let status = match body.strip_prefix(b"k8s\0") {
            Some(envelope) => Unknown::decode(envelope).ok().and_then(|unknown| Status::decode(&unknown.raw[..]).ok()),
            None => serde_json::from_slice(body).ok(),
        };
        let status = status.unwrap_or_else(|| Status {
            message: String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned(),
            reason: String::new(),
        });
        let mut failure = Failure::new(what, cause_of_status(code.as_u16(), &status.reason, &status.message));
        if failure.cause == Cause::Forbidden && !status.message.is_empty() {
            failure.what = format!("{what}: {}", status.message);
        }
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.what)?;
        match &self.cause {
            Cause::Configuration(why) | Cause::Credentials(why) | Cause::Tls(why) | Cause::Decode(why) | Cause::Other(why) => {
                formatter.write_str(why)
            }
            Cause::Unreachable(why) => write!(formatter, "unable to connect to the server: {why}"),
            Cause::Unauthorized => formatter.write_str("the server does not accept your credentials (Unauthorized)"),
            Cause::Forbidden => formatter.write_str("denied (Forbidden)"),
            Cause::NotFound => formatter.write_str("not found (NotFound)"),
            Cause::Expired => formatter.write_str("the server has forgotten the moment of this list (410 Gone)"),
            Cause::Timeout => formatter.write_str("the server did not answer within --request-timeout"),
            Cause::Conflict(why) => write!(formatter, "somebody else changed it: {why}"),
            Cause::Refused(why) => write!(formatter, "refused: {why}"),
            Cause::Server(code, why) => write!(formatter, "the server answered {code}: {why}"),
        }
    }
}

impl Error for Failure {}

fn cause_of_status(code: u16, reason: &str, message: &str) -> Cause {
    let message = message.to_owned();
    match (code, reason) {
        (401, _) => Cause::Unauthorized,
        // A webhook that denies a request answers 403 too, but says so.
        (403, _) if message.contains("admission webhook") => Cause::Refused(message),
        (403, _) => Cause::Forbidden,
        (404, _) => Cause::NotFound,
        (409, _) => Cause::Conflict(message),
        (410, _) => Cause::Expired,
        (400 | 422, _) => Cause::Refused(message),
        (_, "Expired" | "ResourceExpired") => Cause::Expired,
        _ => Cause::Server(code, message),
    }
}

/// What to do about it; the same for whatever was being done.
fn hint(cause: &Cause) -> Option<String> {
    let hint = match cause {
        Cause::Configuration(_) => "kubectl config get-contexts shows what there is; --kubeconfig and --context choose",
        Cause::Credentials(_) | Cause::Unauthorized => "log in again, or choose another user with --user or --context",
        Cause::Unreachable(_) => "kubectl cluster-info shows which address is used; --context chooses another cluster",
        Cause::Forbidden => "kubectl auth can-i --list shows what is allowed; --explain-rbac prints what is needed",
        Cause::Timeout => "try again, or give it longer with --request-timeout=2m",
        Cause::Tls(_) => "kubectl config view --minify shows the certificate authority in use",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The innermost sentence of an error of the transport, which is where the cause stands.
fn transport_cause(error: &kube::Error) -> Cause {
    let mut innermost: &dyn Error = error;
    let mut texts = vec![innermost.to_string()];
    while let Some(source) = innermost.source() {
        innermost = source;
        texts.push(innermost.to_string());
    }
    let all = texts.join(": ");
    let last = texts.pop().unwrap_or_default();
    if all.contains("invalid peer certificate") || all.contains("UnsupportedCertVersion") || all.contains("certificate") {
        return Cause::Tls(certificate_message(&all, last));
    }
    let is_cut = all.contains("IncompleteMessage") || all.contains("connection closed") || all.contains("unexpected end of file");
    if is_cut {
        return Cause::Other("the connection broke off in the middle of the answer".to_owned());
    }
    Cause::Unreachable(last)
}

/// Adds to rustls' words what people with such certificates need to know.
fn certificate_message(all: &str, last: String) -> String {
    if all.contains("UnsupportedCertVersion") {
        return format!("{last}: X.509 version 1 certificates are not supported; have a version 3 certificate issued");
    }
    if all.contains("UnknownIssuer") {
        return format!("{last}: the certificate authority in the kubeconfig did not issue the server's certificate");
    }
    last
}

fn tls_message(error: &impl Error) -> String {
    let text = error.to_string();
    certificate_message(&text, text.clone())
}

/// A plugin's own output goes to the terminal by itself; its environment holds certificates and is not repeated.
fn credential_message(error: &kube::client::AuthError) -> String {
    match error {
        kube::client::AuthError::AuthExecRun { cmd, out } => {
            let program = cmd.split_whitespace().next().unwrap_or(cmd).trim_matches('"');
            format!("the credential plugin {program} failed: {}", out.status)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(code: u16, body: &[u8]) -> Failure {
        Failure::from_status("listing pods", http::StatusCode::from_u16(code).unwrap(), body)
    }

    #[test]
    fn answers_are_told_in_one_line() {
        let check = |code, body: &str, expected: &str| assert_eq!(from(code, body.as_bytes()).to_string(), expected);
        check(401, "{}", "listing pods: the server does not accept your credentials (Unauthorized)");
        check(
            403,
            r#"{"kind":"Status","message":"pods is forbidden: User \"eve\" cannot list","reason":"Forbidden"}"#,
            "listing pods: pods is forbidden: User \"eve\" cannot list: denied (Forbidden)",
        );
        check(410, r#"{"reason":"Expired"}"#, "listing pods: the server has forgotten the moment of this list (410 Gone)");
        check(502, "<html>bad gateway</html>", "listing pods: the server answered 502: <html>bad gateway</html>");
    }

    #[test]
    fn a_status_in_protobuf_is_read_too() {
        let status = Status { message: "too old".to_owned(), reason: "Expired".to_owned() };
        let mut body = b"k8s\0".to_vec();
        body.extend(Unknown { raw: status.encode_to_vec() }.encode_to_vec());
        assert_eq!(from(500, &body).cause, Cause::Expired);
    }
}
