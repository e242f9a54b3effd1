//! Writes. Each has a precondition, none is tried again blindly, and one whose answer got lost is looked up: it has
//! happened or it has not, and nobody is left to guess.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::connection::Connection;
use super::deletion::Deletion;
use super::failure::{Cause, Failure};
use super::raw::{parse, read_object};
use super::read_back::{By, differences};
use super::request::answer_once;
use super::wait::Repetition;
use crate::change::{Action, Change, Subject, without_server_fields};
use crate::needs::{GroupResource, Needs};
use crate::object::Resource;
use crate::outcome::{ending, is_accepted, missing};

/// Who the API server notes as the author of our fields.
pub const FIELD_MANAGER: &str = "kubectl-mesh";

/// Who it has to note where Flux is not to take our fields away: Flux removes what managers have set whose name begins with
/// `kubectl`, and leaves what this one sets (fluxcd.io, "Why are kubectl edits rolled back by Flux?"; `patchRemoveFieldsManagers`,
/// ssa/patch.go of fluxcd/pkg).
pub const FLUX_FIELD_MANAGER: &str = "flux-client-side-apply";

/// The pause before a look at what has become of a write, where the failure suggests no other.
const BEFORE_A_LOOK: Duration = Duration::from_millis(100);

/// Whether a write is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It is.
    Stored,
    /// The API server does everything but keep it (`dryRun=All`).
    DryRun,
    /// There is nothing to keep: it is a question, such as an access review.
    Question,
}

/// Carries out one change and gives the object as the API server has it then; `None` when it was deleted.
///
/// An object that is replaced must still have the resourceVersion that was read, one that is deleted its uid and
/// resourceVersion too, and one that is created must not be there.
///
/// # Errors
/// [`Cause::Conflict`] when somebody else was faster: nothing was written then. After any other error the change has not
/// been made either, or the message says that this could not be found out.
pub async fn carry_out(connection: &Connection, change: &Change, persistence: Persistence) -> Result<Option<Value>, Failure> {
    let subject = &change.subject;
    match (change.action(), &change.before, &change.after) {
        (Action::Create, _, Some(after)) => {
            let request =
                Write::object(Method::POST, subject.collection(), "application/json", after, format!("creating {subject}"));
            request.settle(connection, subject, persistence, &|found| is_accepted(change, found)).await
        }
        (Action::Update, Some(before), Some(after)) => {
            if let Some(ending) = ending(before) {
                return Err(Failure::new(format!("changing {subject}"), Cause::Conflict(format!("it {ending}"))));
            }
            let mut body = after.clone();
            body["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            body["metadata"]["uid"] = before["metadata"]["uid"].clone();
            let request = Write::object(Method::PUT, subject.path(), "application/json", &body, format!("changing {subject}"));
            request.settle(connection, subject, persistence, &|found| is_accepted(change, found)).await
        }
        (Action::Delete, Some(before), _) => {
            let request = Write::deletion(subject, Deletion::of(before));
            request.settle(connection, subject, persistence, &|found| is_accepted(change, found)).await.map(|_| None)
        }
        _ => Ok(change.before.clone()),
    }
}

/// What [`carry_out`] may ask for when it does `verbs` (`create`, `update`, `delete`), and [`put_back`] when it undoes them: an
/// answer that got lost is looked up, and what was created is deleted, what was deleted created.
pub fn needs<T: Into<GroupResource>>(
    namespace: Option<&str>,
    resources: impl IntoIterator<Item = T>,
    verbs: &[&'static str],
) -> Needs {
    Needs::default().require(namespace, resources, &[&["get"], verbs].concat())
}

/// What [`relabel`] may ask for.
pub fn relabel_needs(namespace: Option<&str>, resource: Resource) -> Needs {
    Needs::default().require(namespace, [resource], &["get", "patch"])
}

/// Puts back what was there before a change that was carried out, or may have been. `written` is the object as the API server had it
/// then. One that somebody else has changed since is left alone; certificates that istiod has written into it meanwhile do not count.
///
/// # Errors
/// As [`carry_out`], and [`Cause::Conflict`] for an object that is no longer ours, or does not stay as it was.
pub async fn put_back(connection: &Connection, change: &Change, written: Option<&Value>) -> Result<(), Failure> {
    let subject = &change.subject;
    let what = || format!("putting back {subject}");
    let version = |object: &Value| (object["metadata"]["uid"].clone(), object["metadata"]["resourceVersion"].clone());
    for _ in 0..3 {
        let live = read_object(connection, subject).await?;
        let was = change.before.as_ref().map(without_server_fields);
        if live.as_ref().map(without_server_fields) == was {
            return Ok(());
        }
        // What admission has made of our write is ours too, as long as nobody has touched it since.
        let is_untouched = live.as_ref().zip(written).is_some_and(|(live, written)| version(live) == version(written));
        let missing = missing(change, live.as_ref());
        if !(is_untouched || missing.is_empty()) {
            let why = format!("it is not as it was written, so it is left alone: {}", missing.join("; "));
            return Err(Failure::new(what(), Cause::Conflict(why)));
        }
        let back = Change { subject: subject.clone(), before: live, after: was };
        match carry_out(connection, &back, Persistence::Stored).await {
            // istiod may write its certificate at any moment.
            Err(Failure { cause: Cause::Conflict(_), .. }) => {}
            Err(failure) => return Err(failure),
            Ok(_) => {
                let left = differences(connection, &[back], By::Get).await?;
                return if left.is_empty() { Ok(()) } else { Err(Failure::new(what(), Cause::Conflict(left.join("; ")))) };
            }
        }
    }
    Err(Failure::new(what(), Cause::Conflict("it changes all the time".to_owned())))
}

/// A change of an object as it was read (JSON merge patch).
pub struct Patch<'a> {
    /// Which object.
    pub subject: &'a Subject,
    /// As it was read: its uid and resourceVersion are the precondition.
    pub object: &'a Value,
    /// What is merged into it.
    pub change: Value,
    /// Whom the API server notes as the author: [`FIELD_MANAGER`], or [`FLUX_FIELD_MANAGER`].
    pub manager: &'static str,
}

/// Carries out a patch. Where its answer is lost, the object is looked at, and the patch is sent once more unless `has_happened` says so
/// of what is there: it never happens twice. Gives the object as it is then.
///
/// # Errors
/// [`Cause::Conflict`] when the object has changed since it was read, [`Cause::NotFound`] when it is gone. After any other error the
/// patch has not been made either, or the message says that this could not be found out.
pub async fn merge_patch(
    connection: &Connection,
    patch: Patch<'_>,
    persistence: Persistence,
    has_happened: &dyn Fn(&Value) -> bool,
) -> Result<Value, Failure> {
    let Patch { subject, object, change, manager } = patch;
    let (mut body, metadata) = (change, &object["metadata"]);
    body["metadata"]["resourceVersion"] = metadata["resourceVersion"].clone();
    body["metadata"]["uid"] = metadata["uid"].clone();
    let write =
        Write::object(Method::PATCH, subject.path(), "application/merge-patch+json", &body, format!("changing {subject}"));
    let is_same = |found: &&Value| found["metadata"]["uid"] == metadata["uid"];
    let has_happened = |found: Option<&Value>| found.filter(is_same).is_some_and(has_happened);
    let found = Write { manager, ..write }.settle(connection, subject, persistence, &has_happened).await?;
    if has_happened(found.as_ref()) {
        return Ok(found.unwrap_or_default());
    }
    let why = "the API server accepted it, and its answer does not show it: a webhook has taken it out again";
    Err(Failure::new(format!("changing {subject}"), Cause::Other(why.to_owned())))
}

/// Applies an object server-side as [`FIELD_MANAGER`]. Fields that another manager owns with another value are a conflict.
///
/// # Errors
/// [`Cause::Conflict`] with the fields and their managers. The same object applied twice is as applied once, so it is sent again while
/// the API server is busy or away.
pub async fn apply(
    connection: &Connection,
    subject: &Subject,
    object: &Value,
    persistence: Persistence,
) -> Result<Value, Failure> {
    let write =
        Write::object(Method::PATCH, subject.path(), "application/apply-patch+yaml", object, format!("applying {subject}"));
    write.send(connection, persistence, Repetition::Harmless).await
}

/// What an object would be if our value won wherever somebody else owns a field: asked as a dry run, and never written. It tells
/// a conflict about nothing, such as `2Gi` against `2048Mi`, from one about something.
///
/// # Errors
/// Whatever the API server answers.
pub async fn as_if_forced(connection: &Connection, subject: &Subject, object: &Value) -> Result<Value, Failure> {
    let path = format!("{}?force=true", subject.path());
    let write = Write::object(Method::PATCH, path, "application/apply-patch+yaml", object, format!("comparing {subject}"));
    write.send(connection, Persistence::DryRun, Repetition::Harmless).await
}

/// Evicts a pod as it was read, and in no other state: one that has lost its owner since is nobody's, and would be gone for ever. A lost
/// answer is looked up: the eviction has happened when that pod is being deleted or is gone.
///
/// # Errors
/// [`Cause::DisruptionBudget`] while a budget does not allow it, [`Cause::NotFound`] when it is gone already, and [`Cause::Conflict`] when
/// it has changed, or is another one.
pub async fn evict(connection: &Connection, pod: &Value) -> Result<(), Failure> {
    let metadata = &pod["metadata"];
    let (namespace, name) = (metadata["namespace"].as_str(), metadata["name"].as_str().unwrap_or_default());
    let subject = Subject::new(Resource::Pods, namespace, name);
    let body = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        // Both are kept to (`EvictionREST`, k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go).
        "deleteOptions": Deletion::of(pod).options(Persistence::Stored),
    });
    let is_leaving = |found: Option<&Value>| {
        found.is_none_or(|found| found["metadata"]["uid"] != metadata["uid"] || !found["metadata"]["deletionTimestamp"].is_null())
    };
    let what = format!("evicting pod {name} -n {}", namespace.unwrap_or_default());
    let write = Write::object(Method::POST, format!("{}/eviction", subject.path()), "application/json", &body, what);
    write.settle(connection, &subject, Persistence::Stored, &is_leaving).await.map(drop)
}

/// Creates something that is a question rather than an object: an access review, a dry-run pod. `path` is where it is posted. It may
/// be sent again while the API server is busy or away: twice means no more than once.
///
/// # Errors
/// Whatever the API server answers.
pub async fn post(
    connection: &Connection,
    path: &str,
    body: &Value,
    what: &str,
    persistence: Persistence,
) -> Result<Value, Failure> {
    let write = Write::object(Method::POST, path.to_owned(), "application/json", body, what.to_owned());
    write.send(connection, persistence, Repetition::Harmless).await
}

/// Sets labels of an object as it was read, in one patch; `None` removes one. A lost answer is looked up: the patch has
/// happened when the labels are there.
///
/// # Errors
/// [`Cause::Conflict`] when the object has changed since it was read.
pub async fn relabel(
    connection: &Connection,
    subject: &Subject,
    object: &Value,
    labels: &BTreeMap<&'static str, Option<String>>,
    persistence: Persistence,
) -> Result<(), Failure> {
    let is_labelled =
        |found: &Value| labels.iter().all(|(key, value)| found["metadata"]["labels"][*key].as_str() == value.as_deref());
    let change = json!({"metadata": {"labels": labels}});
    let patch = Patch { subject, object, change, manager: FIELD_MANAGER };
    merge_patch(connection, patch, persistence, &is_labelled).await?;
    Ok(())
}

/// Whether a failed write may have happened all the same: its answer was lost, or an intermediary spoke for the server.
pub fn is_uncertain(cause: &Cause) -> bool {
    match cause {
        Cause::Timeout | Cause::Broken | Cause::Unreachable(_) | Cause::Closed(_) | Cause::Other(_) | Cause::Decode(_) => true,
        Cause::Server(code, _) => *code >= 500,
        _ => false,
    }
}

struct Write {
    method: Method,
    path: String,
    order: Order,
    what: String,
    manager: &'static str,
}

/// What a request asks for.
enum Order {
    /// To keep an object, or a change of one, of this content type.
    Object { content_type: &'static str, body: Vec<u8> },
    /// To delete one.
    Deletion(Deletion),
}

impl Write {
    fn object(method: Method, path: String, content_type: &'static str, body: &Value, what: String) -> Write {
        let order = Order::Object { content_type, body: body.to_string().into_bytes() };
        Write { method, path, order, what, manager: FIELD_MANAGER }
    }

    fn deletion(subject: &Subject, deletion: Deletion) -> Write {
        let (path, order) = (subject.path(), Order::Deletion(deletion));
        Write { method: Method::DELETE, path, order, what: format!("deleting {subject}"), manager: FIELD_MANAGER }
    }

    /// The request. Whether it is a dry run stands where Kubernetes reads it: in the query, and for a deletion in the body.
    fn request(&self, persistence: Persistence) -> Result<http::Request<Vec<u8>>, Failure> {
        let (query, content_type, body) = match &self.order {
            Order::Object { content_type, body } => {
                let dry_run = if persistence == Persistence::DryRun { "&dryRun=All" } else { "" };
                let separator = if self.path.contains('?') { '&' } else { '?' };
                let query = format!("{separator}fieldManager={}{dry_run}", self.manager);
                (query, *content_type, body.clone())
            }
            // A deletion has no author.
            Order::Deletion(deletion) => {
                (String::new(), "application/json", deletion.options(persistence).to_string().into_bytes())
            }
        };
        http::Request::builder()
            .method(self.method.clone())
            .uri(format!("{}{query}", self.path))
            .header(http::header::CONTENT_TYPE, content_type)
            .body(body)
            .map_err(|error| Failure::new(self.what.clone(), Cause::Other(error.to_string())))
    }

    async fn send(&self, connection: &Connection, persistence: Persistence, repetition: Repetition) -> Result<Value, Failure> {
        let repetition = if persistence == Persistence::Stored { repetition } else { Repetition::Harmless };
        let request = self.request(persistence)?;
        let call = || async {
            let writing = match persistence {
                Persistence::Stored => {
                    Some(connection.interruption.writes().begin(&self.what).await.ok_or_else(|| self.is_forbidden())?)
                }
                Persistence::DryRun | Persistence::Question => None,
            };
            let answer = answer_once(connection, request.clone(), &self.what).await;
            match (writing, &answer) {
                (Some(writing), Ok(_)) => writing.done(),
                (Some(writing), Err(failure)) if !is_uncertain(&failure.cause) => writing.undone(),
                // Nobody knows what has become of it.
                (Some(_), Err(_)) | (None, _) => {}
            }
            answer
        };
        parse(&self.what, &connection.waiting.patiently(repetition, call).await?)
    }

    /// A command that only reads writes nothing, whatever the rest of the program thinks.
    fn is_forbidden(&self) -> Failure {
        Failure::new(self.what.clone(), Cause::Configuration("this command only reads; nothing was sent".to_owned()))
    }

    /// Sends the write. While its answer is lost, it looks at what has become of it, and sends it again if it has not happened: the
    /// precondition makes each further try as safe as the first.
    async fn settle(
        &self,
        connection: &Connection,
        subject: &Subject,
        persistence: Persistence,
        has_happened: &dyn Fn(Option<&Value>) -> bool,
    ) -> Result<Option<Value>, Failure> {
        let mut trouble = connection.waiting.trouble();
        let mut is_first = true;
        loop {
            let failure = match self.send(connection, persistence, Repetition::WhereNothingWasDone).await {
                Ok(answer) if persistence != Persistence::Stored || self.is_answered_by(&answer, subject) => {
                    return Ok(Some(answer));
                }
                Ok(_) => return self.after_odd_answer(connection, subject, has_happened).await,
                Err(failure) => failure,
            };
            let is_lost = is_uncertain(&failure.cause);
            // An earlier try may have come through, and be what stands in the way of this one.
            let is_in_the_way = !is_first && matches!(failure.cause, Cause::Conflict(_) | Cause::NotFound);
            if persistence != Persistence::Stored || !(is_lost || is_in_the_way) {
                return Err(failure);
            }
            let pause = trouble.next(&failure, Repetition::Harmless, true, Instant::now());
            if is_lost {
                let pause = pause.unwrap_or(BEFORE_A_LOOK);
                connection.waiting.say(&failure, pause);
                tokio::time::sleep(pause).await;
            }
            let found = look_up(connection, subject, &failure).await?;
            let has_happened = has_happened(found.as_ref());
            connection.interruption.writes().settle(&self.what, has_happened);
            if has_happened {
                return Ok(found);
            }
            if !is_lost || pause.is_none() && !is_first {
                return Err(trouble.told(failure));
            }
            is_first = false;
        }
    }

    /// Whether this is what an API server answers: the object, or whatever it likes to a deletion.
    fn is_answered_by(&self, answer: &Value, subject: &Subject) -> bool {
        let metadata = &answer["metadata"];
        let is_version = metadata["resourceVersion"].as_str().is_some_and(|version| !version.is_empty());
        matches!(self.order, Order::Deletion(_))
            || answer["kind"] == subject.kind.as_str() && metadata["name"] == subject.name.as_str() && is_version
    }

    /// Somebody else has answered in the API server's place: what is there tells whether it was done.
    async fn after_odd_answer(
        &self,
        connection: &Connection,
        subject: &Subject,
        has_happened: &dyn Fn(Option<&Value>) -> bool,
    ) -> Result<Option<Value>, Failure> {
        let failure = |why: &str| Failure::new(self.what.clone(), Cause::Other(why.to_owned()));
        let odd = failure("the answer to it is not that of an API server");
        let found = look_up(connection, subject, &odd).await?;
        if has_happened(found.as_ref()) {
            return Ok(found);
        }
        Err(failure("it was answered as if it were done, and it is not"))
    }
}

/// What has become of an object, after a write whose answer was lost.
async fn look_up(connection: &Connection, subject: &Subject, failure: &Failure) -> Result<Option<Value>, Failure> {
    read_object(connection, subject).await.map_err(|_| {
        let what = format!("{failure}; whether it has happened could not be found out");
        Failure { what, ..failure.clone() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_is_said_where_kubernetes_reads_it() {
        let subject = Subject::new(Resource::Services, Some("istio-system"), "istiod");
        let object = json!({"metadata": {"uid": "u", "resourceVersion": "7"}});
        let sent = |write: &Write, persistence: Persistence| {
            let request = write.request(persistence).unwrap();
            let body: Value = serde_json::from_slice(request.body()).unwrap();
            (request.uri().to_string(), body)
        };
        let deletion = Write::deletion(&subject, Deletion::of(&object));
        let path = "/api/v1/namespaces/istio-system/services/istiod";
        for (persistence, dry_run) in
            [(Persistence::Stored, Value::Null), (Persistence::DryRun, json!(["All"])), (Persistence::Question, json!(["All"]))]
        {
            let (uri, body) = sent(&deletion, persistence);
            assert_eq!((uri.as_str(), &body["dryRun"]), (path, &dry_run), "{persistence:?}");
            assert_eq!(body["preconditions"], json!({"uid": "u", "resourceVersion": "7"}));
        }
        for (method, path) in
            [(Method::POST, "/a"), (Method::PUT, "/a/b"), (Method::PATCH, "/a/b"), (Method::PATCH, "/a/b?force=true")]
        {
            let write = Write::object(method, path.to_owned(), "application/json", &object, String::new());
            assert!(sent(&write, Persistence::DryRun).0.ends_with("fieldManager=kubectl-mesh&dryRun=All"));
            assert!(!sent(&write, Persistence::Stored).0.contains("dryRun"));
        }
    }

    #[test]
    fn only_an_answer_of_the_server_itself_is_certain() {
        for cause in [Cause::Timeout, Cause::Server(504, String::new()), Cause::Other("the connection broke off".to_owned())] {
            assert!(is_uncertain(&cause), "{cause:?}");
        }
        assert!(is_uncertain(&Cause::Closed("Connection reset by peer".to_owned())));
        let (webhook, refused) = (Cause::Webhook(String::new()), Cause::Refused(String::new()));
        assert!(!is_uncertain(&webhook) && !is_uncertain(&refused), "admission comes before anything is stored");
        for cause in [Cause::Forbidden, Cause::NotFound, Cause::Conflict(String::new()), Cause::Server(429, String::new())] {
            assert!(!is_uncertain(&cause), "{cause:?}");
        }
    }
}
