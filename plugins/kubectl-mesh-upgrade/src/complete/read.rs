//! Reads what a revision consists of.

use futures::stream::{self, StreamExt, TryStreamExt};
use mesh::change::Subject;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::raw::read_object;
use serde_json::Value;

use super::removal::{Part, parts};

/// So many objects are read at once.
const AT_ONCE: usize = 4;

/// The objects that a revision may consist of and that are there, each with its part.
///
/// # Errors
/// When one of them cannot be read: then nobody knows what would be left.
pub async fn consists_of(connection: &Connection, revision: &str, namespace: &str) -> Result<Vec<(Part, Value)>, Failure> {
    let reads = parts(revision, namespace).into_iter().map(|(part, subject)| async move {
        let object = read_object(connection, &subject).await?;
        Ok::<_, Failure>(object.map(|object| (part, with_identity(object, &subject))))
    });
    let found: Vec<Option<(Part, Value)>> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

fn with_identity(mut object: Value, subject: &Subject) -> Value {
    object["apiVersion"] = subject.api_version.as_str().into();
    object["kind"] = subject.kind.as_str().into();
    object["plural"] = subject.plural.as_str().into();
    object
}
