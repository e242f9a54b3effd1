//! What went wrong between us and an API server or a file, said as kubectl says it: the object, the cause, and the next
//! command.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use serde::Deserialize;

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
            Cause::Timeout | Cause::Broken | Cause::Unreachable(_) => true,
            Cause::Server(code, _) => matches!(code, 429 | 500..=599),
            _ => false,
        }
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
    #[prost(message, optional, tag = "5")]
    details: Option<StatusDetails>,
}

/// `metav1.StatusDetails`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusDetails {
    #[prost(message, repeated, tag = "4")]
    causes: Vec<StatusCause>,
    #[prost(int32, tag = "5")]
    retry_after_seconds: i32,
}

/// `metav1.StatusCause`.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct StatusCause {
    #[prost(string, tag = "1")]
    reason: String,
}

/// The cause that the API server gives where a budget forbids an eviction (`DisruptionBudgetCause`, k8s.io/api/policy/v1/types.go).
const DISRUPTION_BUDGET: &str = "DisruptionBudget";

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
        Failure { what: what.into(), cause, hint, retry_after: None }
    }

    /// From what the client library reports. Nothing of it is shown that may hold a secret: no environment of a
    /// credential plugin, no certificate, no address of a proxy.
    pub fn from_kube(what: &str, error: kube::Error) -> Failure {
        use kube::Error as Kube;
        let cause = match &error {
            Kube::Api(status) => {
                let (message, reason) = (status.message.clone(), status.reason.clone());
                return Failure::from_answer(what, status.code, Status { message, reason, details: None });
            }
            Kube::Auth(error) => Cause::Credentials(credential_message(error)),
            Kube::RustlsTls(_) => Cause::Tls(certificate_message(&chain(&error))),
            Kube::InferKubeconfig(error) => Cause::Configuration(error.to_string()),
            Kube::ProxyProtocolUnsupported { .. } | Kube::ProxyProtocolDisabled { .. } => {
                Cause::Configuration("the protocol of the proxy is not supported: http, https and socks5 are".to_owned())
            }
            Kube::SerdeError(_) | Kube::FromUtf8(_) | Kube::LinesCodecMaxLineLengthExceeded => Cause::Decode(chain(&error)),
            Kube::BuildRequest(_) | Kube::HttpError(_) => Cause::Other(chain(&error)),
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
            message: String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
            ..Status::default()
        });
        Failure::from_answer(what, code.as_u16(), status)
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

    fn from_answer(what: &str, code: u16, status: Status) -> Failure {
        let message = one_line(&status.message);
        let details = status.details.unwrap_or_default();
        let is_budgets = code == 429 && details.causes.iter().any(|cause| cause.reason == DISRUPTION_BUDGET);
        let cause =
            if is_budgets { Cause::DisruptionBudget(message.clone()) } else { cause_of_status(code, &status.reason, &message) };
        let mut failure = Failure::new(what, cause);
        let seconds = u64::try_from(details.retry_after_seconds).ok().filter(|seconds| *seconds > 0);
        failure.retry_after = seconds.map(Duration::from_secs);
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
            Cause::Unauthorized => formatter.write_str("the server does not accept your credentials (Unauthorized)"),
            Cause::Forbidden => formatter.write_str("denied (Forbidden)"),
            Cause::NotFound => formatter.write_str("not found (NotFound)"),
            Cause::Expired => formatter.write_str("the server has forgotten the moment of this list (410 Gone)"),
            Cause::Timeout => formatter.write_str("the server did not answer within --request-timeout"),
            Cause::Broken => formatter.write_str("the connection broke off in the middle of the answer"),
            Cause::Conflict(why) => write!(formatter, "somebody else changed it: {why}"),
            Cause::Refused(why) => write!(formatter, "refused: {why}"),
            Cause::DisruptionBudget(why) => write!(formatter, "the server answered 429: {why}"),
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

/// What a `Retry-After` says: seconds, or a date (RFC 9110, 10.2.3). A date that has passed asks for no wait; what is neither says
/// nothing. Seconds of any size are taken: whoever waits has a bound of its own.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean a long time all the same.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let seconds = date.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// What to do about it; the same for whatever was being done.
fn hint(cause: &Cause) -> Advice {
    match cause {
        Cause::Configuration(_) => Advice::run(Command::kubectl("config get-contexts"))
            .and_say(" shows what there is; --kubeconfig and --context choose"),
        Cause::Credentials(_) | Cause::Unauthorized => "log in again, or choose another user with --user or --context".into(),
        Cause::Unreachable(_) => Advice::run(Command::kubectl("cluster-info"))
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

/// The cause of an error of the transport: the innermost sentence, which says it.
fn transport_cause(error: &kube::Error) -> Cause {
    let errors = || std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source());
    // A token that had to be renewed is asked for in the middle of a request.
    if let Some(error) = errors().find_map(|error| error.downcast_ref::<kube::client::AuthError>()) {
        return Cause::Credentials(credential_message(error));
    }
    let all = chain(error);
    let innermost = errors().last().map(|error| one_line(&error.to_string())).unwrap_or_default();
    if all.contains("certificate") || all.contains("UnsupportedCertVersion") {
        return Cause::Tls(certificate_message(&innermost));
    }
    // hyper's words: it has no public way to ask for each of these.
    let is_cut = ["IncompleteMessage", "connection closed", "unexpected end of file", "unexpected EOF", "end of file before"];
    if is_cut.iter().any(|words| all.contains(words)) {
        return Cause::Broken;
    }
    if all.contains("deadline has elapsed") || all.contains("timed out") {
        return Cause::Unreachable("it took too long to connect".to_owned());
    }
    if all.contains("corrupt message") || all.contains("InvalidContentType") {
        return Cause::Tls("the server does not speak TLS: its address may have to begin with http://".to_owned());
    }
    Cause::Unreachable(innermost)
}

/// Adds to the words of the TLS library what people with such certificates need to know: it takes neither X.509 version
/// 1 (rustls issue 2364) nor a server's own certificate as its authority (kube issue 1767), and kubectl takes both.
fn certificate_message(text: &str) -> String {
    if text.contains("UnsupportedCertVersion") {
        return "the client certificate is of X.509 version 1, which is not supported; have one of version 3 issued".to_owned();
    }
    let advice = if text.contains("UnknownIssuer") {
        "it was not issued by the certificate authority in the kubeconfig, or that is the server's own certificate and no authority"
    } else if text.contains("NotValidForName") {
        "it is not for the address in the kubeconfig; --tls-server-name names another"
    } else {
        return text.to_owned();
    };
    // Everything behind these words are the names that the certificate is for, in the form of the library's own types.
    let text = text
        .split_once(':')
        .filter(|(before, _)| before.starts_with("invalid peer certificate"))
        .map_or(text, |_| "the server's certificate is not accepted");
    format!("{text}: {advice}")
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
    fn a_status_in_protobuf_is_read_too() {
        let status = Status { message: "too old".to_owned(), reason: "Expired".to_owned(), details: None };
        let mut body = b"k8s\0".to_vec();
        body.extend(Unknown { raw: status.encode_to_vec() }.encode_to_vec());
        assert_eq!(from(500, &body).cause, Cause::Expired);
    }

    #[test]
    fn a_budget_that_forbids_an_eviction_is_no_busy_server() {
        let body = |causes: &str| {
            format!(r#"{{"message":"no","reason":"TooManyRequests","details":{{"causes":[{causes}],"retryAfterSeconds":10}}}}"#)
        };
        let budget = from(429, body(r#"{"reason":"DisruptionBudget","message":"needs 2 healthy pods"}"#).as_bytes());
        assert_eq!((budget.cause, budget.retry_after), (Cause::DisruptionBudget("no".to_owned()), Some(Duration::from_secs(10))));
        assert_eq!(from(429, body("").as_bytes()).cause, Cause::Server(429, "no".to_owned()));
    }

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_date() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let check =
            |value: &str, seconds: Option<u64>| assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        check("7", Some(7));
        check(" 0 ", Some(0));
        check("Thu, 01 Jan 2026 00:00:05 GMT", Some(5));
        check("Wed, 31 Dec 2025 23:59:00 GMT", Some(0));
        check("99999999999999999999999999", Some(u64::MAX));
        for garbage in ["", "-3", "+3", "1.5", "soon", "1 minute", "\u{661}", "Thu, 99 Foo"] {
            check(garbage, None);
        }
    }

    #[test]
    fn a_date_is_meant_by_the_servers_clock() {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::DATE, http::HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
        headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("Thu, 01 Jan 2026 00:00:03 GMT"));
        let failure = from(503, b"{}").with_headers(&headers, Timestamp::UNIX_EPOCH);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(3)));
    }

    fn from_transport(text: &str) -> Failure {
        Failure::from_kube("listing pods", kube::Error::Service(text.into()))
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
    fn certificates_are_told_with_what_to_do() {
        let check = |text: &str, expected: &str| assert_eq!(from_transport(text).cause, Cause::Tls(expected.to_owned()));
        check(
            "invalid peer certificate: UnknownIssuer",
            "the server's certificate is not accepted: it was not issued by the certificate authority in the kubeconfig, or that is \
             the server's own certificate and no authority",
        );
        check(
            "invalid peer certificate: NotValidForNameContext { expected: DnsName(\"a\"), presented: [\"b\"] }",
            "the server's certificate is not accepted: it is not for the address in the kubeconfig; --tls-server-name names another",
        );
        check("invalid peer certificate: Expired", "invalid peer certificate: Expired");
    }

    #[test]
    fn a_connection_that_ends_early_is_no_missing_server() {
        let check = |text: &str, expected: Cause| assert_eq!(from_transport(text).cause, expected, "{text}");
        check("connection closed before message completed", Cause::Broken);
        check("deadline has elapsed", Cause::Unreachable("it took too long to connect".to_owned()));
        check("Connection refused (os error 111)", Cause::Unreachable("Connection refused (os error 111)".to_owned()));
    }

    #[test]
    fn a_proxys_password_is_not_shown() {
        let proxy_url = Box::new("ftp://me:secret@proxy".parse().unwrap());
        let failure = Failure::from_kube("listing pods", kube::Error::ProxyProtocolUnsupported { proxy_url });
        assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
    }
}
