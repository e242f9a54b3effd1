//! Looks at workloads that roll out: one list for all of a kind and namespace.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use mesh::change::Subject;
use mesh::cluster::List;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often what rolls out is looked at: one list a kind and namespace, shared by all workloads in it.
pub const LOOK: Duration = Duration::from_secs(1);

/// Lists that all workloads of a kind and namespace share.
pub struct Looks<'a> {
    connection: &'a Connection,
    seen: RefCell<HashMap<String, Rc<Mutex<Look>>>>,
}

/// What a list showed, and when it was asked for.
#[derive(Default)]
struct Look {
    at: Option<Instant>,
    items: Vec<Value>,
}

impl<'a> Looks<'a> {
    /// Nothing is seen yet.
    pub fn new(connection: &'a Connection) -> Looks<'a> {
        Looks { connection, seen: RefCell::default() }
    }

    /// What was seen so far is not what is there.
    pub fn forget(&self, subject: &Subject) {
        self.seen.borrow_mut().remove(&subject.collection());
    }

    /// The object as it was at most [`LOOK`] ago, and not before `since`.
    ///
    /// # Errors
    /// When the list is not to be had.
    pub async fn find(&self, subject: &Subject, since: Option<Instant>) -> Result<Option<Value>, Failure> {
        let collection = subject.collection();
        let look = Rc::clone(self.seen.borrow_mut().entry(collection).or_default());
        // Who comes while somebody else is asking waits for that answer, and mostly needs no other.
        let mut look = look.lock().await;
        let is_fresh = |at: Instant| at.elapsed() < LOOK && since.is_none_or(|since| at >= since);
        if !look.at.is_some_and(is_fresh) {
            let at = Instant::now();
            let items = List::of(subject).within(subject.namespace.as_deref()).whole(self.connection).await?;
            *look = Look { at: Some(at), items };
        }
        Ok(look.items.iter().find(|item| item["metadata"]["name"] == subject.name.as_str()).cloned())
    }
}
