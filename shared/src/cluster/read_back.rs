//! Reads back what was written: only what is found then says that it was carried out.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;

use super::connection::Connection;
use super::failure::Failure;
use super::list::List;
use super::raw::read_object;
use super::wait::{Look, Patience, Waited};
use crate::change::{Change, Subject};
use crate::installation::name;
use crate::outcome::{missing, missing_labels};

/// So many objects are read at once.
const AT_ONCE: usize = 4;

/// By which right an object is read. It is asked for again by the one by which it was read before it was written: a right that is
/// missing then is no reason to stop half-way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `get`.
    Get,
    /// `list`.
    List,
}

/// What of these changes is not there: a line each. A deletion may take a moment, so it is waited for a while.
///
/// # Errors
/// When one of the objects cannot be asked for.
pub async fn differences(connection: &Connection, changes: &[Change], by: By) -> Result<Vec<String>, Failure> {
    let look = || async {
        let reads = changes.iter().map(|change| async move {
            let found = find(connection, &change.subject, by).await?;
            Ok::<_, Failure>((missing(change, found.as_ref()), change.after.is_none()))
        });
        let found: Vec<(Vec<String>, bool)> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let is_over = found.iter().all(|(lines, is_deletion)| !is_deletion || lines.is_empty());
        let lines: Vec<String> = found.into_iter().flat_map(|(lines, _)| lines).collect();
        Ok::<_, Failure>(if is_over { Look::Done(lines) } else { Look::NotYet(lines.join("\n")) })
    };
    Ok(match Patience::learning().wait(look).await? {
        Waited::Done(lines) => lines,
        Waited::TimedOut(left) => left.lines().map(str::to_owned).collect(),
    })
}

async fn find(connection: &Connection, subject: &Subject, by: By) -> Result<Option<Value>, Failure> {
    match by {
        By::Get => read_object(connection, subject).await,
        By::List => {
            let list = List::of(subject).within(subject.namespace.as_deref());
            let found = list.with_fields(&format!("metadata.name={}", subject.name)).whole(connection).await?;
            Ok(found.into_iter().find(|object| name(object) == subject.name))
        }
    }
}

/// Which of these objects have not the labels that were written to them: a line each, also for one that cannot be read.
pub async fn label_differences<'a>(
    connection: &Connection,
    objects: impl Iterator<Item = (Subject, &'a Value)>,
    wanted: &BTreeMap<&'static str, Option<String>>,
) -> Vec<String> {
    let mut different = Vec::new();
    for (subject, before) in objects {
        different.extend(match read_object(connection, &subject).await {
            Ok(found) => missing_labels(before, found.as_ref(), wanted).map(|line| format!("{subject} {line}")).collect(),
            Err(failure) => vec![format!("{subject}: not known: {failure}")],
        });
    }
    different
}
