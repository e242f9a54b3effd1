//! One look at the mesh, for the verbs that only look: the snapshot, and what of the control planes' own objects it leaves
//! out.

use std::cell::RefCell;
use std::collections::BTreeMap;

use jiff::Timestamp;
use mesh::cluster::connection::Connection;
use mesh::cluster::{Begin, List, Observer, Scope, Unobserved, read};
use mesh::installation::{label, name, namespace};
use mesh::labels;
use mesh::needs::Needs;
use mesh::object::{Encoded, Object, Resource};
use mesh::session::Session;
use mesh::snapshot::{Detail, Snapshot, UnreadCause};
use mesh::terminal::Terminal;
use mesh::terminal::progress::Progress;
use mesh::terminal::stop::Stop;
use owo_colors::OwoColorize;
use serde_json::Value;

use crate::revisions::{Revision, revisions};

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
    look(session, namespace, Detail::Workloads, &Unobserved).await
}

/// As [`survey`], with the name of every pod; an observer sees every object on its way in.
///
/// # Errors
/// As [`survey`].
pub async fn survey_of_pods(session: &mut Session, namespace: Option<&str>, observer: &impl Observer) -> Result<Survey, Stop> {
    look(session, namespace, Detail::Pods, observer).await
}

async fn look(session: &mut Session, namespace: Option<&str>, detail: Detail, observer: &impl Observer) -> Result<Survey, Stop> {
    let connection = session.connect().await?;
    let progress = Progress::start(session.terminal.err_audience, "objects");
    let counter = Counter::new(&progress);
    let both = Both { counter: &counter, observer };
    let snapshot = read(&connection, &scope(session, namespace), detail, &both).await?;
    progress.clear();
    tell_warnings(&connection, &mut session.terminal);
    let istiods: Vec<Value> = counter.istiods.into_inner().into_values().collect();
    let revisions = revisions(&snapshot, &istiods);
    let istiods_unread = snapshot.may_hide_control_planes.then(|| why_hidden(&snapshot));
    Ok(Survey { snapshot, revisions, istiods, istiods_unread, now: Timestamp::now() })
}

/// Passes on what the API server has warned of.
pub fn tell_warnings(connection: &Connection, terminal: &mut Terminal) {
    for warning in connection.take_warnings() {
        // A warning that cannot be written is no reason to fail.
        let _ = writeln!(terminal.err, "{} {warning}", "Warning:".style(terminal.err_styles.warning));
    }
}

/// Why there may be control planes that nobody could see.
fn why_hidden(snapshot: &Snapshot) -> String {
    let deployments = snapshot.unread.iter().find(|unread| unread.resource == Resource::Deployments);
    match deployments.map(|unread| &unread.cause) {
        Some(UnreadCause::Failed(why)) => why.clone(),
        Some(UnreadCause::Forbidden) => "listing deployments.apps is denied".to_owned(),
        _ => "deployments.apps cannot be listed everywhere".to_owned(),
    }
}

/// What to read.
pub fn scope(session: &Session, namespace: Option<&str>) -> Scope {
    Scope { namespace: namespace.map(str::to_owned), selector: None, istio_namespace: session.flags.istio_namespace.clone() }
}

/// What [`survey`] may ask for.
pub fn needs(scope: &Scope) -> Needs {
    read::needs(scope)
}

/// Counts for the progress line, and keeps the Deployments of control planes whole: for their age, owner and conditions.
pub struct Counter<'a> {
    progress: &'a Progress,
    /// By namespace and name.
    istiods: RefCell<BTreeMap<(String, String), Value>>,
}

impl<'a> Counter<'a> {
    /// One that has seen nothing.
    pub fn new(progress: &'a Progress) -> Counter<'a> {
        Counter { progress, istiods: RefCell::default() }
    }
}

impl Observer for Counter<'_> {
    fn object(&self, _object: &Object) {
        self.progress.add_one();
    }

    fn whole(&self, resource: Resource, json: &str) {
        if resource != Resource::Deployments {
            return;
        }
        // What cannot be understood is told by whoever reads it.
        let Ok(mut object) = serde_json::from_str::<Value>(json) else { return };
        if label(&object, labels::APP) == Some("istiod") {
            object["apiVersion"] = resource.api_version().into();
            object["kind"] = resource.kind().into();
            let key = (namespace(&object).to_owned(), name(&object).to_owned());
            self.istiods.borrow_mut().insert(key, object);
        }
    }

    fn restart(&self, list: &List, _begin: Begin) {
        self.progress.restart();
        self.istiods.borrow_mut().retain(|(namespace, _), _| !list.covers(Resource::Deployments, namespace));
    }
}

/// Lets somebody else see too what is counted.
struct Both<'a, O> {
    counter: &'a Counter<'a>,
    observer: &'a O,
}

impl<O: Observer> Observer for Both<'_, O> {
    fn object(&self, object: &Object) {
        self.counter.object(object);
        self.observer.object(object);
    }

    fn encoded(&self, object: &Object, encoded: Encoded<'_>) {
        self.observer.encoded(object, encoded);
    }

    fn whole(&self, resource: Resource, json: &str) {
        self.counter.whole(resource, json);
        self.observer.whole(resource, json);
    }

    fn restart(&self, list: &List, begin: Begin) {
        self.counter.restart(list, begin);
        self.observer.restart(list, begin);
    }
}
