//! What went wrong between us and an API server or a file, said as kubectl says it: the object, the cause, and the next
//! command.

mod answer;
mod transport;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use self::answer::{Status, retry_after};
use crate::advice::{Advice, Command};

/// A failure that a user reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was being done, as a gerund phrase that names the object: `listing pods`.
    pub what: String,
    /// Why it failed.
    pub cause: Cause,
    /// The next command, where there is one.
    pub hint: Advice,
    /// How long the server asks to wait before the next try (`Retry-After`), where it does.
    pub retry_after: Option<Duration>,
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
    /// The server, or something on the way to it, has ended the connection before it began to answer: why.
    Closed(String),
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
    /// The connection ended in the middle of the answer.
    Broken,
    /// Somebody else changed it first (409).
    Conflict(String),
    /// The object itself was refused, or an admission webhook refused it.
    Refused(String),
    /// A webhook that the server had to ask does not answer, or not with anything that makes sense: the server's message.
    Webhook(String),
    /// A PodDisruptionBudget does not allow an eviction now: the server's message. It answers 429 too, and is not busy.
    DisruptionBudget(String),
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

    /// Whether the same call may well succeed a while later: the API server is away or busy, or a webhook of it is not there yet.
    pub fn is_passing(&self) -> bool {
        match self {
            Cause::Timeout | Cause::Broken | Cause::Unreachable(_) | Cause::Closed(_) | Cause::Webhook(_) => true,
            Cause::Server(code, _) => matches!(code, 429 | 500..=599),
            _ => false,
        }
    }
}

impl Failure {
    /// A failure with the hint that its cause suggests.
    pub fn new(what: impl Into<String>, cause: Cause) -> Failure {
        let hint = hint(&cause);
        Failure { what: what.into(), cause, hint, retry_after: None }
    }

    /// From what the client library reports. Nothing of it is shown that may hold a secret: no environment of a
    /// credential plugin, no certificate, no address of a proxy.
    pub fn from_kube(what: &str, error: kube::Error) -> Failure {
        use kube::Error as Kube;
        let cause = match &error {
            Kube::Api(status) => {
                return Failure::from_answer(what, status.code, &Status::from(&**status));
            }
            Kube::Auth(error) => Cause::Credentials(credential_message(error)),
            Kube::RustlsTls(_) => transport::cause_of_certificate(&error),
            Kube::InferKubeconfig(error) => Cause::Configuration(error.to_string()),
            Kube::ProxyProtocolUnsupported { .. } | Kube::ProxyProtocolDisabled { .. } => {
                Cause::Configuration("the protocol of the proxy is not supported: http, https and socks5 are".to_owned())
            }
            Kube::SerdeError(_) | Kube::FromUtf8(_) | Kube::LinesCodecMaxLineLengthExceeded => Cause::Decode(chain(&error)),
            Kube::BuildRequest(_) | Kube::HttpError(_) => Cause::Other(chain(&error)),
            other => transport::cause_before_the_answer(other),
        };
        Failure::new(what, cause)
    }

    /// From what the client library reports while an answer is read whose beginning has come.
    pub fn from_body(what: &str, error: &kube::Error) -> Failure {
        Failure::new(what, transport::cause_in_the_answer(error))
    }

    /// From an answer that is no success. The body is a `Status` in JSON or protobuf, or whatever a proxy wrote.
    pub fn from_status(what: &str, code: http::StatusCode, body: &[u8]) -> Failure {
        Failure::from_answer(what, code.as_u16(), &Status::parse(body))
    }

    /// With what the headers of the answer say about when to ask again; they count more than its body.
    pub fn with_headers(self, headers: &http::HeaderMap, now: Timestamp) -> Failure {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // A date is meant by the server's clock.
        let date = text(http::header::DATE).and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        let now = date.map_or(now, |date| date.timestamp());
        let asked = text(http::header::RETRY_AFTER).and_then(|value| retry_after(value, now));
        Failure { retry_after: asked.or(self.retry_after), ..self }
    }

    fn from_answer(what: &str, code: u16, status: &Status) -> Failure {
        let mut failure = Failure::new(what, status.cause(code));
        failure.retry_after = status.retry_after();
        let message = status.message();
        if failure.cause == Cause::Forbidden && !message.is_empty() {
            failure.what = format!("{what}: {message}");
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
            Cause::Closed(why) => write!(formatter, "the connection was closed before an answer came: {why}"),
            Cause::Unauthorized => formatter.write_str("the server does not accept your credentials (Unauthorized)"),
            Cause::Forbidden => formatter.write_str("denied (Forbidden)"),
            Cause::NotFound => formatter.write_str("not found (NotFound)"),
            Cause::Expired => formatter.write_str("the server has forgotten the moment of this list (410 Gone)"),
            Cause::Timeout => formatter.write_str("the server did not answer within --request-timeout"),
            Cause::Broken => formatter.write_str("the connection broke off in the middle of the answer"),
            Cause::Conflict(why) => write!(formatter, "somebody else changed it: {why}"),
            Cause::Refused(why) => write!(formatter, "refused: {why}"),
            Cause::Webhook(why) => write!(formatter, "the server answered 500: {why}"),
            Cause::DisruptionBudget(why) => write!(formatter, "the server answered 429: {why}"),
            Cause::Server(code, why) => write!(formatter, "the server answered {code}: {why}"),
        }
    }
}

impl Error for Failure {}

/// What to do about it; the same for whatever was being done.
fn hint(cause: &Cause) -> Advice {
    match cause {
        Cause::Configuration(_) => Advice::run(Command::kubectl("config get-contexts"))
            .and_say(" shows what there is; --kubeconfig and --context choose"),
        Cause::Credentials(_) | Cause::Unauthorized => "log in again, or choose another user with --user or --context".into(),
        Cause::Unreachable(_) | Cause::Closed(_) => Advice::run(Command::kubectl("cluster-info"))
            .and_say(" shows which address is used; --context chooses another cluster"),
        Cause::Forbidden => Advice::run(Command::kubectl("auth can-i --list"))
            .and_say(" shows what is allowed; --explain-rbac prints what is needed"),
        Cause::Timeout => "try again, or give it longer with --request-timeout=2m".into(),
        Cause::Tls(_) => Advice::run(Command::kubectl("config view --minify")).and_say(" shows the certificate authority in use"),
        _ => Advice::none(),
    }
}

/// A server's words on one line, unable to do anything to a terminal.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// What stands behind an error, from the outside in, without what an outer error repeats of an inner one.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for source in std::iter::successors(error.source(), |&error| error.source()) {
        let inner = source.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
    }
    one_line(&text)
}

/// The library shows the whole command, with the environment that it hands to the plugin; that holds certificates, and
/// may hold secrets of the user. Only the status and the first line of what the plugin said are repeated.
fn credential_message(error: &kube::client::AuthError) -> String {
    match error {
        kube::client::AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.lines().map(one_line).find(|line| !line.is_empty());
            said.map_or_else(|| format!("failed: {}", out.status), |said| format!("failed: {}: {said}", out.status))
        }
        // The answer that cannot be understood may hold a token.
        kube::client::AuthError::AuthExecParse(_) => "its answer is no ExecCredential".to_owned(),
        other => one_line(&other.to_string()),
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
    fn a_date_is_meant_by_the_servers_clock() {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::DATE, http::HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
        headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("Thu, 01 Jan 2026 00:00:03 GMT"));
        let failure = from(503, b"{}").with_headers(&headers, Timestamp::UNIX_EPOCH);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_servers_words_stay_on_one_line_and_do_nothing_to_a_terminal() {
        let told = from(502, b"bad\r\n  gateway \x1b[2J").to_string();
        assert_eq!(told, "listing pods: the server answered 502: bad gateway \u{fffd}[2J");
        assert!(from(500, &[0xe2; 500]).to_string().len() < 1000);
    }

    #[test]
    fn what_the_library_reports_keeps_the_servers_words() {
        let status =
            kube::core::Status { code: 403, message: "no way".to_owned(), reason: "Forbidden".to_owned(), ..Default::default() };
        let failure = Failure::from_kube("listing pods", kube::Error::Api(Box::new(status)));
        assert_eq!(
            (failure.cause.clone(), failure.to_string()),
            (Cause::Forbidden, "listing pods: no way: denied (Forbidden)".to_owned())
        );
    }

    #[test]
    fn a_proxys_password_is_not_shown() {
        let proxy_url = Box::new("ftp://me:secret@proxy".parse().unwrap());
        let failure = Failure::from_kube("listing pods", kube::Error::ProxyProtocolUnsupported { proxy_url });
        assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
    }
}
