//! What an answer that is no success means. The one place in which the words of an API server decide anything: what a webhook has
//! done stands in no field of a `Status`, only in the sentences of which Kubernetes makes its message, and those are matched from
//! their beginning, where nobody else's words stand.

use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use serde::Deserialize;

use super::{Cause, one_line};

/// `metav1.Status`, the answer to what fails (staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto).
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
pub(super) struct Status {
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

/// The envelope of a protobuf answer.
#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

/// The cause that the API server gives where a budget forbids an eviction (`DisruptionBudgetCause`, k8s.io/api/policy/v1/types.go).
const DISRUPTION_BUDGET: &str = "DisruptionBudget";

/// How the message of every error begins that the API server could not help (`NewInternalError`,
/// k8s.io/apimachinery/pkg/api/errors/errors.go).
const INTERNAL_ERROR: &str = "Internal error occurred: ";

/// A webhook that was asked for admission and did not answer (`ErrCallingWebhook`, k8s.io/apiserver/pkg/util/webhook/error.go), and
/// one for the versions of a custom resource (`webhook_converter.go` in k8s.io/apiextensions-apiserver/pkg/apiserver/conversion).
const NO_ANSWER_OF_WEBHOOK: [&str; 2] = ["failed calling webhook \"", "conversion webhook for "];

/// A webhook that answered and denied it, with whichever status code it chose (`ToStatusErr`,
/// k8s.io/apiserver/pkg/admission/plugin/webhook/errors/statuserror.go).
const DENIAL_OF_WEBHOOK: (&str, &str) = ("admission webhook \"", "\" denied the request");

impl From<&kube::core::Status> for Status {
    fn from(status: &kube::core::Status) -> Status {
        Status { message: status.message.clone(), reason: status.reason.clone(), details: None }
    }
}

impl Status {
    /// From JSON or protobuf; whatever else it is becomes its message.
    pub(super) fn parse(body: &[u8]) -> Status {
        let status = match body.strip_prefix(b"k8s\0") {
            Some(envelope) => Unknown::decode(envelope).ok().and_then(|unknown| Status::decode(&unknown.raw[..]).ok()),
            None => serde_json::from_slice(body).ok(),
        };
        status.unwrap_or_else(|| Status {
            message: String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
            ..Status::default()
        })
    }

    /// The server's words, on one line.
    pub(super) fn message(&self) -> String {
        one_line(&self.message)
    }

    /// How long it asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.details.as_ref()?.retry_after_seconds;
        u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// What it means, with this status code.
    pub(super) fn cause(&self, code: u16) -> Cause {
        let message = self.message();
        if is_denial_of_webhook(&message) {
            return Cause::Refused(message);
        }
        match (code, self.reason.as_str()) {
            (401, _) => Cause::Unauthorized,
            (403, _) => Cause::Forbidden,
            (404, _) => Cause::NotFound,
            (409, _) => Cause::Conflict(message),
            (410, _) => Cause::Expired,
            (400 | 422, _) => Cause::Refused(message),
            (429, _) if self.has_cause(DISRUPTION_BUDGET) => Cause::DisruptionBudget(message),
            (_, "Expired" | "ResourceExpired") => Cause::Expired,
            (500, _) if is_no_answer_of_webhook(&message) => Cause::Webhook(message),
            _ => Cause::Server(code, message),
        }
    }

    fn has_cause(&self, reason: &str) -> bool {
        self.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == reason)
    }
}

fn is_denial_of_webhook(message: &str) -> bool {
    message.strip_prefix(DENIAL_OF_WEBHOOK.0).is_some_and(|rest| rest.contains(DENIAL_OF_WEBHOOK.1))
}

fn is_no_answer_of_webhook(message: &str) -> bool {
    let message = message.strip_prefix(INTERNAL_ERROR).unwrap_or(message);
    NO_ANSWER_OF_WEBHOOK.iter().any(|beginning| message.starts_with(beginning))
}

/// What a `Retry-After` says: seconds, or a date (RFC 9110, 10.2.3). A date that has passed asks for no wait; what is neither says
/// nothing. Seconds of any size are taken: whoever waits has a bound of its own.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean a long time all the same.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let seconds = date.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A `Status` as the API server writes it.
    fn status(code: u16, reason: &str, message: &str, details: serde_json::Value) -> Cause {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "details": details, "code": code});
        Status::parse(status.to_string().as_bytes()).cause(code)
    }

    #[test]
    fn a_status_in_protobuf_is_read_too() {
        let status = Status { message: "too old".to_owned(), reason: "Expired".to_owned(), details: None };
        let mut body = b"k8s\0".to_vec();
        body.extend(Unknown { raw: status.encode_to_vec() }.encode_to_vec());
        assert_eq!(Status::parse(&body).cause(500), Cause::Expired);
    }

    #[test]
    fn a_webhook_that_does_not_answer_is_none_of_the_servers_own_errors() {
        let calling = "failed calling webhook \"namespace.sidecar-injector.istio.io\": failed to call webhook: Post \
            \"https://istiod.istio-system.svc:443/inject?timeout=10s\": dial tcp 10.0.0.7:443: connect: connection refused";
        let message = format!("Internal error occurred: {calling}");
        let found = status(500, "InternalError", &message, json!({"causes": [{"message": calling}]}));
        assert_eq!(found, Cause::Webhook(message));
        let conversion =
            "conversion webhook for networking.example.org/v1, Kind=Route failed: Post \"https://c.d.svc:443/\": EOF";
        assert_eq!(status(500, "", conversion, json!({})), Cause::Webhook(conversion.to_owned()));
        // What somebody else says of webhooks is only a message.
        for other in [
            "Internal error occurred: etcdserver: leader changed",
            "Internal error occurred: the pod's name is failed calling webhook \"x\"",
            "webhook",
        ] {
            assert_eq!(status(500, "InternalError", other, json!({})), Cause::Server(500, other.to_owned()));
        }
        let busy = "the server is currently unable to handle the request: failed calling webhook \"x\": EOF";
        assert_eq!(status(503, "ServiceUnavailable", busy, json!({})), Cause::Server(503, busy.to_owned()));
    }

    #[test]
    fn a_webhook_that_denies_refuses_with_whichever_code_it_chose() {
        let denied = "admission webhook \"validation.istio.io\" denied the request: configuration is invalid: host is missing";
        for (code, reason) in [
            (400, ""),
            (401, "Unauthorized"),
            (403, "Forbidden"),
            (404, "NotFound"),
            (409, "Conflict"),
            (410, "Gone"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "ServiceUnavailable"),
        ] {
            assert_eq!(status(code, reason, denied, json!({})), Cause::Refused(denied.to_owned()), "{code}");
        }
        // Kubernetes itself denies in the words of whoever was denied.
        let forbidden = "pods is forbidden: User \"admission webhook \"x\" denied the request\" cannot list resource \"pods\"";
        assert_eq!(status(403, "Forbidden", forbidden, json!({"kind": "pods"})), Cause::Forbidden);
        let half = "admission webhook \"x\" is not configured";
        assert_eq!(status(403, "Forbidden", half, json!({})), Cause::Forbidden);
    }

    #[test]
    fn a_budget_that_forbids_an_eviction_is_no_busy_server() {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let causes = |reason: &str| {
            json!({"causes": [{"reason": reason, "message": "The disruption budget web needs 2 healthy pods and has 2 currently"}],
                "retryAfterSeconds": 10})
        };
        let found = status(429, "TooManyRequests", message, causes("DisruptionBudget"));
        assert_eq!(found, Cause::DisruptionBudget(message.to_owned()));
        assert_eq!(status(429, "TooManyRequests", message, causes("")), Cause::Server(429, message.to_owned()));
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
}
