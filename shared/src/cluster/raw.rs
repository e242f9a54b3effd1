//! Single objects whole, as JSON: for what is shown, compared or written back in full. Lists: [`super::List::whole`].

use serde_json::Value;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::request::get_json;
use crate::change::Subject;

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

pub(super) fn parse(what: &str, body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::new(what, Cause::Decode(error.to_string())))
}
