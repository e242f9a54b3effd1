//! One look at the mesh, for the verbs that only look: the snapshot, and what of the control planes' own objects it leaves
//! out.

use jiff::Timestamp;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::{Begin, List, Observer, Scope, Unobserved, read};
use mesh::needs::Needs;
use mesh::object::{Encoded, Object, Resource};
use mesh::session::Session;
use mesh::snapshot::{Detail, Snapshot};
use mesh::terminal::progress::Progress;
use mesh::terminal::stop::Stop;
use owo_colors::OwoColorize;
use serde_json::Value;

use crate::revisions::{Revision, revisions};

/// Selects the Deployments of control planes, wherever they are.
fn istiod_deployments() -> List {
    List::of(Resource::Deployments).labelled("app", "istiod")
}

/// What was seen.
pub struct Survey {
    /// What verdicts are made from.
    pub snapshot: Snapshot,
    /// Revisions that are here or that proxies run, the oldest version first.
    pub revisions: Vec<Revision>,
    /// The Deployments of control planes, whole, as far as they could be read.
    pub istiods: Vec<Value>,
    /// Why those may not be all, where they may not.
    pub istiods_unread: Option<String>,
    /// The moment of the look, by the local clock.
    pub now: Timestamp,
}

/// Looks once. `namespace` narrows what proxies are looked at; everywhere when `None`.
///
/// # Errors
/// When pods cannot be listed or the API server cannot be reached; see [`read()`].
pub async fn survey(session: &mut Session, namespace: Option<&str>) -> Result<Survey, Stop> {
    survey_seen_by(session, namespace, &Unobserved).await
}

/// As [`survey`]; an observer sees every object on its way in.
///
/// # Errors
/// As [`survey`].
pub async fn survey_seen_by(session: &mut Session, namespace: Option<&str>, observer: &impl Observer) -> Result<Survey, Stop> {
    let connection = session.connect().await?;
    let progress = Progress::start(session.terminal.err_audience, "objects");
    let counter = Counter { progress: &progress, observer };
    let scope = scope(session, namespace);
    let snapshot = read(&connection, &scope, Detail::Workloads, &counter);
    let (snapshot, istiods) = futures::join!(snapshot, istiods(&connection, session.istio_namespace()));
    let (snapshot, istiods) = (snapshot?, istiods?);
    progress.clear();
    for warning in connection.take_warnings() {
        // A warning that cannot be written is no reason to fail.
        let _ = writeln!(session.terminal.err, "{} {warning}", "Warning:".style(session.terminal.err_styles.warning));
    }
    let (istiods, istiods_unread) = istiods;
    let revisions = revisions(&snapshot, &istiods);
    Ok(Survey { snapshot, revisions, istiods, istiods_unread, now: Timestamp::now() })
}

/// What to read.
pub fn scope(session: &Session, namespace: Option<&str>) -> Scope {
    Scope { namespace: namespace.map(str::to_owned), selector: None, istio_namespace: session.flags.istio_namespace.clone() }
}

/// What [`survey`] may ask for.
pub fn needs(scope: &Scope) -> Needs {
    read::needs(scope).require(None, [Resource::Deployments], &["list"])
}

/// The Deployments of control planes, whole: for their age, owner and conditions; and why they may not be all. Where only one
/// namespace may be read, those that are there.
async fn istiods(connection: &Connection, istio_namespace: Option<&str>) -> Result<(Vec<Value>, Option<String>), Failure> {
    match istiod_deployments().whole(connection).await {
        Err(failure) if failure.cause.is_tolerable() => {
            let why = failure.to_string();
            let namespace = istio_namespace.unwrap_or("istio-system");
            match istiod_deployments().in_namespace(namespace).whole(connection).await {
                Err(failure) if failure.cause.is_tolerable() => Ok((Vec::new(), Some(why))),
                found => Ok((found?, Some(why))),
            }
        }
        found => Ok((found?, None)),
    }
}

/// Counts for the progress line, and lets somebody else see too.
struct Counter<'a, O> {
    progress: &'a Progress,
    observer: &'a O,
}

impl<O: Observer> Observer for Counter<'_, O> {
    fn encoded(&self, object: &Object, encoded: Encoded<'_>) {
        self.observer.encoded(object, encoded);
    }

    fn object(&self, object: &Object) {
        self.progress.add_one();
        self.observer.object(object);
    }

    fn restart(&self, list: &List, begin: Begin) {
        self.progress.restart();
        self.observer.restart(list, begin);
    }
}
