//! Reads who wrote the labels by which namespaces and tags follow a revision. Only metadata leaves the API server.

use super::connection::Connection;
use super::failure::Failure;
use super::list::{Found, List};
use super::scope::Scope;
use crate::authorship::Authorship;
use crate::needs::Needs;
use crate::object::Resource;

/// Reads it, of the namespace in question or of all, and of all tags.
///
/// # Errors
/// As [`Found::of`]: what is denied is noted, and is unknown.
pub async fn read_authorship(connection: &Connection, scope: &Scope) -> Result<Authorship, Failure> {
    let namespaces = async {
        match &scope.namespace {
            // One namespace is read by its name, as everywhere else: whoever may do no more can do that.
            Some(name) => {
                let subject = crate::change::Subject::new(Resource::Namespaces, None, name);
                Found::of(super::raw::read_object(connection, &subject).await.map(|found| found.into_iter().collect()))
            }
            None => Found::of(List::of(Resource::Namespaces).metadata(connection).await),
        }
    };
    let webhooks = async { Found::of(List::of(Resource::MutatingWebhookConfigurations).metadata(connection).await) };
    let (namespaces, webhooks) = futures::join!(namespaces, webhooks);
    let mut unread = Vec::new();
    let mut items = |found: Found| match found {
        Found::Items(items) => items,
        Found::Unread(why) => {
            unread.push(why);
            Vec::new()
        }
    };
    let (namespaces, webhooks) = (items(namespaces?), items(webhooks?));
    Ok(Authorship::new(&namespaces, &webhooks, unread))
}

/// What [`read_authorship`] may ask for.
pub fn needs(scope: &Scope) -> Needs {
    let verb = if scope.namespace.is_some() { "get" } else { "list" };
    Needs::default().require(None, [Resource::MutatingWebhookConfigurations], &["list"]).require(
        None,
        [Resource::Namespaces],
        &[verb],
    )
}
