//! What went wrong on the way to a server and back, by the types of the errors behind it.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use super::{Cause, chain, credential_message, one_line};

/// Why no answer began.
pub(super) fn cause_before_the_answer(error: &kube::Error) -> Cause {
    // A token that had to be renewed is asked for in the middle of a request.
    if let Some(error) = find::<kube::client::AuthError>(error) {
        return Cause::Credentials(credential_message(error));
    }
    let innermost = innermost(error);
    if let Some(error) = find::<rustls::Error>(error) {
        return tls_cause(error, innermost);
    }
    let is_gone = |error: &hyper::Error| error.is_incomplete_message() || error.is_canceled() || error.is_closed();
    if find::<hyper::Error>(error).is_some_and(is_gone) {
        return Cause::Closed(innermost);
    }
    if find::<tokio::time::error::Elapsed>(error).is_some() {
        return too_slow();
    }
    match innermost_kind(error) {
        Some(io::ErrorKind::TimedOut) => too_slow(),
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof,
        ) => Cause::Closed(innermost),
        _ => Cause::Unreachable(innermost),
    }
}

/// Why an answer that had begun did not end.
pub(super) fn cause_in_the_answer(error: &kube::Error) -> Cause {
    match innermost_kind(error) {
        // It came, and is not what its head says: not gzip, not in pieces.
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Cause::Decode(innermost(error)),
        _ => Cause::Broken,
    }
}

fn too_slow() -> Cause {
    Cause::Unreachable("it took too long to connect".to_owned())
}

/// Certificates do not become better by waiting; a handshake that breaks off in another way may be a server that is being restarted.
fn tls_cause(error: &rustls::Error, innermost: String) -> Cause {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(_) | Tls::InvalidCertRevocationList(_) | Tls::NoCertificatesPresented => {
            Cause::Tls(certificate_message(error, &innermost))
        }
        Tls::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA,
        ) => Cause::Tls(format!("the server does not accept the client certificate: {innermost}")),
        Tls::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            Cause::Tls("the server does not speak TLS: its address may have to begin with http://".to_owned())
        }
        _ => Cause::Unreachable(innermost),
    }
}

/// Why a certificate of the kubeconfig cannot be used at all.
pub(super) fn cause_of_certificate(error: &kube::Error) -> Cause {
    let text = chain(error);
    Cause::Tls(find::<rustls::Error>(error).map_or_else(|| text.clone(), |error| certificate_message(error, &text)))
}

/// Adds to the words of the TLS library what people with such certificates need to know: it takes neither X.509 version
/// 1 (rustls issue 2364) nor a server's own certificate as its authority (kube issue 1767), and kubectl takes both.
fn certificate_message(error: &rustls::Error, text: &str) -> String {
    let rustls::Error::InvalidCertificate(error) = error else { return text.to_owned() };
    let advice = match error {
        CertificateError::UnknownIssuer => {
            "it was not issued by the certificate authority in the kubeconfig, or that is the server's own certificate and no authority"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is not for the address in the kubeconfig; --tls-server-name names another"
        }
        // An error of another library, whose types are not ours to name.
        CertificateError::Other(other) if format!("{other:?}").contains("UnsupportedCertVersion") => {
            return "the client certificate is of X.509 version 1, which is not supported; have one of version 3 issued"
                .to_owned();
        }
        _ => return text.to_owned(),
    };
    format!("the server's certificate is not accepted: {advice}")
}

/// An error and those behind it, from the outside in. An `io::Error` that wraps another error does not name it as its source.
fn all<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

fn find<E: Error + 'static>(error: &kube::Error) -> Option<&E> {
    all(error).find_map(|error| error.downcast_ref::<E>())
}

/// The kind of the innermost `io::Error`; those around it may be of no kind of their own.
fn innermost_kind(error: &kube::Error) -> Option<io::ErrorKind> {
    all(error).filter_map(|error| error.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}

/// The innermost sentence, which says the cause.
fn innermost(error: &kube::Error) -> String {
    all(error).last().map(|error| one_line(&error.to_string())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;
    use rustls::pki_types::ServerName;

    use super::*;

    /// As the library hands it on: what a connection reports is wrapped more than once.
    fn reported(error: impl Into<Box<dyn Error + Send + Sync>>) -> kube::Error {
        kube::Error::Service(Box::new(io::Error::other(error)))
    }

    fn tls(error: rustls::Error) -> Cause {
        cause_before_the_answer(&reported(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    #[test]
    fn certificates_are_told_with_what_to_do() {
        let check = |error: CertificateError, expected: &str| {
            assert_eq!(tls(rustls::Error::InvalidCertificate(error)), Cause::Tls(expected.to_owned()));
        };
        check(
            CertificateError::UnknownIssuer,
            "the server's certificate is not accepted: it was not issued by the certificate authority in the kubeconfig, or that is \
             the server's own certificate and no authority",
        );
        let expected = ServerName::try_from("a").unwrap();
        check(
            CertificateError::NotValidForNameContext { expected, presented: vec!["b".to_owned()] },
            "the server's certificate is not accepted: it is not for the address in the kubeconfig; --tls-server-name names another",
        );
        check(CertificateError::Expired, "invalid peer certificate: Expired");
    }

    #[test]
    fn a_client_certificate_that_is_not_accepted_is_no_missing_server() {
        for alert in [AlertDescription::CertificateRequired, AlertDescription::BadCertificate, AlertDescription::UnknownCA] {
            let told = tls(rustls::Error::AlertReceived(alert));
            assert!(matches!(&told, Cause::Tls(why) if why.contains("client certificate")), "{told:?}");
        }
        let other = tls(rustls::Error::AlertReceived(AlertDescription::InternalError));
        assert!(matches!(other, Cause::Unreachable(_)), "{other:?}");
    }

    #[test]
    fn a_connection_that_ends_is_told_apart_by_its_kind_and_not_by_its_words() {
        let of = |kind: io::ErrorKind, text: &'static str| cause_before_the_answer(&reported(io::Error::new(kind, text)));
        for kind in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::NotConnected,
            io::ErrorKind::UnexpectedEof,
        ] {
            assert_eq!(of(kind, "gone"), Cause::Closed("gone".to_owned()), "{kind}");
        }
        let slow = Cause::Unreachable("it took too long to connect".to_owned());
        assert_eq!(of(io::ErrorKind::TimedOut, "deadline has elapsed"), slow);
        for text in ["Connection refused (os error 111)", "reset", "closed: timed out", "a certificate"] {
            assert_eq!(of(io::ErrorKind::ConnectionRefused, text), Cause::Unreachable(text.to_owned()));
        }
    }

    #[test]
    fn an_answer_that_is_not_what_it_says_is_not_asked_for_again() {
        let of = |kind: io::ErrorKind| cause_in_the_answer(&reported(io::Error::new(kind, "text")));
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof, io::ErrorKind::TimedOut] {
            assert_eq!(of(kind), Cause::Broken, "{kind}");
        }
        assert_eq!(of(io::ErrorKind::InvalidData), Cause::Decode("text".to_owned()));
        assert_eq!(cause_in_the_answer(&kube::Error::Service("connection error".into())), Cause::Broken);
    }
}
