//! Single requests: bounded in time, tried again where that is safe.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::client::Body;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::wait::Repetition;
use crate::object::{Object, Resource};

/// The answers that a user of the API may take: JSON always, protobuf for the kinds that are decoded from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    Json,
    Protobuf,
    /// Only the metadata of each object, as protobuf.
    Metadata,
    /// Only the metadata of each object, as JSON, and never anything else: for what must not leave the API server.
    JsonMetadata,
}

/// Sends a request that reads, waits for a server that is busy or away, and checks that the answer is a success. The caller reads
/// the body, and knows what a body that breaks off means.
pub(crate) async fn send(
    connection: &Connection,
    request: http::Request<Vec<u8>>,
    accept: Accept,
    what: &str,
) -> Result<http::Response<Body>, Failure> {
    let request = accepting(request, accept);
    connection.waiting.patiently(Repetition::Harmless, || try_once(connection, request.clone(), what)).await
}

/// As [`send`], without waiting.
pub(crate) async fn send_once(
    connection: &Connection,
    request: http::Request<Vec<u8>>,
    accept: Accept,
    what: &str,
) -> Result<http::Response<Body>, Failure> {
    try_once(connection, accepting(request, accept), what).await
}

/// Sends a request, waits for a server that is busy or away as far as the request may be repeated, and gives the body of the answer,
/// whole.
pub(crate) async fn answer(
    connection: &Connection,
    request: http::Request<Vec<u8>>,
    repetition: Repetition,
    what: &str,
) -> Result<Vec<u8>, Failure> {
    connection.waiting.patiently(repetition, || answer_once(connection, request.clone(), what)).await
}

/// As [`answer`], without waiting.
pub(crate) async fn answer_once(
    connection: &Connection,
    request: http::Request<Vec<u8>>,
    what: &str,
) -> Result<Vec<u8>, Failure> {
    let response = try_once(connection, accepting(request, Accept::Json), what).await?;
    collect(response.into_body(), connection.request_timeout, what).await
}

fn accepting(mut request: http::Request<Vec<u8>>, accept: Accept) -> http::Request<Vec<u8>> {
    let accept = match accept {
        Accept::Protobuf => "application/vnd.kubernetes.protobuf, application/json",
        Accept::Metadata => {
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, \
             application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json"
        }
        Accept::JsonMetadata => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        Accept::Json => "application/json",
    };
    request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(accept));
    request
}

async fn try_once(connection: &Connection, request: http::Request<Vec<u8>>, what: &str) -> Result<http::Response<Body>, Failure> {
    let sent = connection.client.send(request.map(Body::from));
    let response = within(connection.request_timeout, sent, what).await?.map_err(|error| Failure::from_kube(what, error))?;
    connection.note_warnings(response.headers());
    connection.note_time(response.headers());
    let status = response.status();
    // Whatever a server says that is not busy, it is there.
    if status.as_u16() < 429 {
        connection.waiting.note_answer();
    }
    if status.is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = collect(body, connection.request_timeout, what).await?;
    Err(Failure::from_status(what, status, &body).with_headers(&parts.headers, Timestamp::now()))
}

/// Reads one object by name, if it is there.
pub(crate) async fn get(
    connection: &Connection,
    resource: Resource,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<Object>, Failure> {
    let what = format!("reading {resource}/{name}");
    match get_json(connection, &format!("{}/{name}", resource.path(namespace)), &what).await {
        Err(failure) if failure.cause == Cause::NotFound => Ok(None),
        Err(failure) => Err(failure),
        Ok(body) => {
            Object::from_json(resource, &body).map(Some).map_err(|error| Failure::new(what, Cause::Decode(error.to_string())))
        }
    }
}

/// Reads the JSON behind a path.
pub(crate) async fn get_json(connection: &Connection, path: &str, what: &str) -> Result<Vec<u8>, Failure> {
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(|error| Failure::new(what, Cause::Other(error.to_string())))?;
    answer(connection, request, Repetition::Harmless, what).await
}

/// Reads what stands behind a path, once and within this time: for what answers at once or not at all.
pub(crate) async fn get_once(connection: &Connection, path: &str, what: &str, limit: Duration) -> Result<Vec<u8>, Failure> {
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(|error| Failure::new(what, Cause::Other(error.to_string())))?;
    let call = async {
        let response = try_once(connection, request, what).await?;
        collect(response.into_body(), connection.request_timeout, what).await
    };
    within(Some(limit), call, what).await?
}

/// How large an answer in JSON may be, unpacked. A page has 500 objects, of a megabyte and a half at most each, and nearly all
/// of them are a hundredth of that; servers that know no pages send all at once.
pub(crate) const LARGEST_ANSWER: usize = 512 * 1024 * 1024;

/// Reads a body to its end; silence for longer than `limit` is an error.
pub(crate) async fn collect(mut body: Body, limit: Option<Duration>, what: &str) -> Result<Vec<u8>, Failure> {
    let mut collected = Vec::new();
    while let Some(bytes) = next_bytes(&mut body, limit, what).await? {
        append(&mut collected, &bytes, LARGEST_ANSWER).map_err(|why| Failure::new(what, Cause::Decode(why)))?;
    }
    Ok(collected)
}

/// Keeps more of an answer, up to so many bytes: what is packed in a megabyte may be a thousand of them.
///
/// # Errors
/// When it is larger.
pub(crate) fn append(collected: &mut Vec<u8>, bytes: &[u8], largest: usize) -> Result<(), String> {
    if collected.len() + bytes.len() > largest {
        return Err(format!("the answer is larger than {} MiB", largest / 1024 / 1024));
    }
    collected.extend_from_slice(bytes);
    Ok(())
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next_bytes(body: &mut Body, limit: Option<Duration>, what: &str) -> Result<Option<Bytes>, Failure> {
    loop {
        match within(limit, body.frame(), what).await? {
            None => return Ok(None),
            Some(Err(error)) => return Err(Failure::from_body(what, &error)),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Waits, but not for ever.
async fn within<T>(limit: Option<Duration>, future: impl Future<Output = T>, what: &str) -> Result<T, Failure> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.map_err(|_| Failure::new(what, Cause::Timeout)),
        None => Ok(future.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_up_to_its_largest_size() {
        let mut collected = Vec::new();
        assert_eq!(append(&mut collected, &[1; 1024 * 1024], 2 * 1024 * 1024), Ok(()));
        assert_eq!(append(&mut collected, &[1; 1024 * 1024], 2 * 1024 * 1024), Ok(()));
        assert_eq!(append(&mut collected, &[1], 2 * 1024 * 1024), Err("the answer is larger than 2 MiB".to_owned()));
        assert_eq!(collected.len(), 2 * 1024 * 1024);
    }
}
