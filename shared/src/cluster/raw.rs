//! Single objects whole, as JSON: for what is shown, compared or written back in full. Lists: [`super::List::whole`].

use serde_json::Value;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::request::get_json;
use crate::change::Subject;

const PAGE: u32 = 500;

/// Reads one object; `None` when it, or its kind, is not there.
///
/// # Errors
/// Every failure but that.
pub async fn read_object(connection: &Connection, subject: &Subject) -> Result<Option<Value>, Failure> {
    let what = format!("reading {subject}");
    match get_json(connection, &subject.path(), &what).await {
        Err(failure) if failure.cause == Cause::NotFound => Ok(None),
        Err(failure) => Err(failure),
        Ok(body) => parse(&what, &body).map(Some),
    }
}

/// Reads whatever JSON stands behind a path: `/version`, or what discovery tells.
///
/// # Errors
/// Also [`Cause::NotFound`] when the API server does not serve it.
pub async fn read_path(connection: &Connection, path: &str, what: &str) -> Result<Value, Failure> {
    parse(what, &get_json(connection, path, what).await?)
}

/// Reads a list, page by page. `path` is the URL path of the collection, and may end in a query: `?labelSelector=…`.
/// Items get the `apiVersion` and `kind` that a list leaves out.
///
/// # Errors
/// Also [`Cause::NotFound`] when the API server does not serve the kind.
pub async fn read_list(connection: &Connection, path: &str, what: &str) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    let mut token = String::new();
    let mut begun_again = false;
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let next = if token.is_empty() { String::new() } else { format!("&continue={token}") };
        let page = match get_json(connection, &format!("{path}{separator}limit={PAGE}{next}"), what).await {
            // The server has forgotten the moment of the first page: once more from the beginning.
            Err(failure) if failure.cause == Cause::Expired && !begun_again => {
                begun_again = true;
                items.clear();
                token.clear();
                continue;
            }
            page => parse(what, &page?)?,
        };
        let kind = page["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).unwrap_or_default().to_owned();
        let api_version = page["apiVersion"].clone();
        let Some(found) = page["items"].as_array() else {
            return Err(Failure::new(what, Cause::Decode("the answer is no list".to_owned())));
        };
        items.extend(found.iter().cloned().map(|mut item| {
            item["apiVersion"] = api_version.clone();
            item["kind"] = kind.clone().into();
            item
        }));
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return Ok(items);
        }
    }
}

pub(super) fn parse(what: &str, body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::new(what, Cause::Decode(error.to_string())))
}
