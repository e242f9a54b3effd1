//! Writes the plan, waits for what it brings, and proves it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::time::{Duration, Instant};

use mesh::change::{Action, Subject};
use mesh::cluster::apply::Persistence;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::probe::{NO_PLACE, Proof, prove};
use mesh::cluster::raw::read_object;
use mesh::cluster::wait::{Look, Patience, Waited};
use mesh::cluster::{List, Unobserved, read};
use mesh::control_plane::revision_suffix;
use mesh::object::Resource;
use mesh::proof::places;
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::snapshot::Detail;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use serde_json::Value;

use super::contents::Contents;
use super::event::Events;
use super::plan::{Plan, Step, Turn, plan};
use super::way_back::WayBack;
use crate::survey::scope;

/// How long to wait between two looks at the same thing.
const PAUSE: Duration = Duration::from_millis(500);

/// Why it came to no end: objects, and what is wrong with each.
#[derive(Debug)]
pub struct Unfinished {
    /// A line each.
    pub details: Vec<String>,
}

impl Unfinished {
    fn because(why: String) -> Unfinished {
        Unfinished { details: vec![why] }
    }
}

impl From<Failure> for Unfinished {
    fn from(failure: Failure) -> Unfinished {
        Unfinished::because(failure.to_string())
    }
}

impl From<Stop> for Unfinished {
    fn from(stop: Stop) -> Unfinished {
        match stop {
            Stop::Failure(failure) => failure.into(),
            Stop::Refused(refusal) | Stop::Partly(refusal) | Stop::Interrupted(refusal) => {
                Unfinished { details: [vec![refusal.reason], refusal.details].concat() }
            }
            Stop::Usage(message) | Stop::Message(message) => Unfinished::because(message),
            Stop::Output(error) => Unfinished::because(error.to_string()),
        }
    }
}

/// One run.
pub struct Installation<'a> {
    /// The cluster.
    pub connection: &'a Connection,
    /// The revision.
    pub revision: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// What is told.
    pub events: &'a Events,
    /// When patience ends.
    pub deadline: Instant,
    /// How to go on, or back.
    pub back: &'a WayBack,
    /// How many objects were written.
    pub written: &'a Cell<usize>,
}

impl Installation<'_> {
    /// All of it. What is as it should be is not written, so a repeated run does only what is left.
    pub async fn run(&self, plan: &Plan, injectors: &[Subject], session: &mut Session) -> Result<(), Unfinished> {
        self.write(plan, |turn| turn <= Turn::Definition, session).await?;
        self.definitions(plan, session).await?;
        self.write(plan, |turn| turn > Turn::Definition && turn < Turn::Admission, session).await?;
        self.istiod(session).await?;
        self.endpoints(session).await?;
        self.write(plan, |turn| turn == Turn::Admission, session).await?;
        for injector in injectors {
            self.certificates(injector, session).await?;
        }
        self.prove(injectors, session).await
    }

    /// What is said if the user interrupts it.
    pub fn interrupted(&self) -> Refusal {
        Refusal::new(format!("{} written", plural(self.written.get() as u64, "object was", "objects were")), self.back.advice())
    }

    /// Reads everything back: planned once more, nothing is left to write.
    ///
    /// # Errors
    /// [`Unfinished`] with what somebody else has made of an object meanwhile.
    pub async fn read_back(&self, contents: &Contents) -> Result<(), Unfinished> {
        let again = plan(self.connection, contents, self.revision).await?;
        let changed = again.steps.iter().filter(|step| step.change.action() != Action::None).flat_map(|step| {
            let differences = step.change.differences().into_iter().map(|difference| format!("  {difference}"));
            std::iter::once(format!("{}: it is not as it was written", step.change.subject)).chain(differences)
        });
        let told: Vec<String> = again.obstacles.iter().map(|obstacle| obstacle.line().0).chain(changed).collect();
        if told.is_empty() { Ok(()) } else { Err(Unfinished { details: told }) }
    }

    async fn write(&self, plan: &Plan, is_now: impl Fn(Turn) -> bool, session: &mut Session) -> Result<(), Unfinished> {
        for step in plan.steps.iter().filter(|step| is_now(step.turn) && step.change.action() != Action::None) {
            self.apply(step).await?;
            self.written.set(self.written.get() + 1);
            if step.turn == Turn::Definition {
                self.back.count_definition();
            }
            session.if_interrupted(self.interrupted());
            self.events.done(&step.change.subject, step.change.action().as_str(), &mut session.terminal)?;
        }
        Ok(())
    }

    async fn definitions(&self, plan: &Plan, session: &mut Session) -> Result<(), Unfinished> {
        let is_new = |step: &&super::plan::Step| step.turn == Turn::Definition && step.change.before.is_none();
        for step in plan.steps.iter().filter(is_new) {
            let subject = &step.change.subject;
            self.until(subject, session, |definition| {
                let is_established = has_condition(definition?, "Established");
                is_established.then_some(())
            })
            .await?;
        }
        Ok(())
    }

    async fn istiod(&self, session: &mut Session) -> Result<(), Unfinished> {
        let subject =
            Subject::new(Resource::Deployments, Some(self.namespace), &format!("istiod{}", revision_suffix(self.revision)));
        self.until(&subject, session, |deployment| is_rolled_out(deployment?).then_some(())).await
    }

    async fn endpoints(&self, session: &mut Session) -> Result<(), Unfinished> {
        let name = format!("istiod{}", revision_suffix(self.revision));
        let slices = List::of(Resource::EndpointSlices).in_namespace(self.namespace);
        let slices = slices.labelled("kubernetes.io/service-name", &name);
        self.events.waiting(&format!("endpoints of services/{name} -n {}", self.namespace), &mut session.terminal)?;
        let is_ready = |endpoint: &Value| endpoint["conditions"]["ready"] != false;
        let look = || async {
            let slices = slices.clone().whole(self.connection).await?;
            let mut endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
            let why = format!("services/{name} -n {}: it has no ready endpoint", self.namespace);
            Ok(if endpoints.any(is_ready) { Look::Done(()) } else { Look::NotYet(why) })
        };
        self.wait(look).await
    }

    /// istiod writes its certificate into the webhooks of its revision itself (pkg/webhooks/webhookpatch.go).
    async fn certificates(&self, injector: &Subject, session: &mut Session) -> Result<(), Unfinished> {
        self.until(injector, session, |configuration| {
            let mut entries = configuration?["webhooks"].as_array()?.iter();
            let has_bundle = |entry: &Value| entry["clientConfig"]["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty());
            entries.all(has_bundle).then_some(())
        })
        .await
    }

    /// Shows by a dry-run pod that the revision injects. The API server learns of a new webhook a moment after it was written.
    async fn prove(&self, injectors: &[Subject], session: &mut Session) -> Result<(), Unfinished> {
        let scope = scope(session, None);
        let look = || async {
            let snapshot = read(self.connection, &scope, Detail::Workloads, &Unobserved).await?;
            let places: Vec<_> =
                injectors.iter().flat_map(|injector| places(&snapshot, &injector.name, &[self.revision], &["default"])).collect();
            Ok(match prove(self.connection, &places, self.revision).await? {
                Proof::Injected(namespace) => Look::Done(namespace),
                Proof::Failed(why) | Proof::Refused(why) | Proof::Untried(why) => {
                    Look::NotYet(format!("revision {}: not proved to inject: {why}", self.revision))
                }
                Proof::NoPlace => Look::NotYet(format!("revision {}: not proved to inject: {NO_PLACE}", self.revision)),
            })
        };
        let namespace = self.wait(look).await?;
        Ok(self.events.proved(self.revision, &namespace, &mut session.terminal)?)
    }

    /// Waits until `is_done` says so of an object.
    async fn until(
        &self,
        subject: &Subject,
        session: &mut Session,
        is_done: impl Fn(Option<&Value>) -> Option<()>,
    ) -> Result<(), Unfinished> {
        self.events.waiting(&subject.to_string(), &mut session.terminal)?;
        let seen = RefCell::new(None);
        let look = || async {
            let object = read_object(self.connection, subject).await?;
            let is_done = is_done(object.as_ref()).is_some();
            *seen.borrow_mut() = object;
            Ok(if is_done { Look::Done(()) } else { Look::NotYet(format!("{subject}: it is not ready")) })
        };
        let Err(mut unfinished) = self.wait(look).await else { return Ok(()) };
        unfinished.details.extend(seen.into_inner().iter().flat_map(conditions).map(|condition| format!("  {condition}")));
        unfinished.details.extend(self.warnings(subject).await.into_iter().map(|event| format!("  {event}")));
        Err(unfinished)
    }

    /// Applies one object. To apply the same again changes nothing, so it is asked for again as long as patience lasts: the API
    /// server may be away, or a webhook that is asked not be there yet.
    async fn apply(&self, step: &Step) -> Result<(), Unfinished> {
        self.wait(|| async { step.write(self.connection, Persistence::Stored).await.map(|_| Look::Done(())) }).await
    }

    /// Looks until it is done, or patience ends.
    async fn wait<T, F: Future<Output = Result<Look<T>, Failure>>>(&self, look: impl Fn() -> F) -> Result<T, Unfinished> {
        match Patience::until(self.deadline.into(), PAUSE).wait(look).await? {
            Waited::Done(found) => Ok(found),
            Waited::TimedOut(why) => Err(Unfinished::because(why)),
        }
    }

    /// What the cluster has to say about an object and its pods, the last words; nothing where events may not be read.
    async fn warnings(&self, subject: &Subject) -> Vec<String> {
        // Nobody writes events of what stands in no namespace and is waited for here.
        let Some(namespace) = subject.namespace.as_deref() else { return Vec::new() };
        let events = List::of(("", "v1", "events")).in_namespace(namespace).whole(self.connection).await.unwrap_or_default();
        let is_about = |event: &&Value| {
            event["type"] == "Warning"
                && event["involvedObject"]["name"].as_str().is_some_and(|name| name.starts_with(&subject.name))
        };
        let mut told: Vec<String> = events
            .iter()
            .filter(is_about)
            .map(|event| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let object = &event["involvedObject"];
                format!("{} {}: {}", text(&object["kind"]), text(&object["name"]), text(&event["message"]))
            })
            .collect();
        told.dedup();
        told.split_off(told.len().saturating_sub(5))
    }
}

fn has_condition(object: &Value, wanted: &str) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == wanted && condition["status"] == "True")
}

/// As `kubectl rollout status` decides (k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go), with at least one pod.
fn is_rolled_out(deployment: &Value) -> bool {
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let status = &deployment["status"];
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1).max(1);
    number(&status["observedGeneration"]) >= number(&deployment["metadata"]["generation"])
        && number(&status["updatedReplicas"]) >= wanted
        && number(&status["replicas"]) <= number(&status["updatedReplicas"])
        && number(&status["readyReplicas"]) >= wanted
        && number(&status["availableReplicas"]) >= wanted
}

/// Conditions that are not as they should be, with their messages.
fn conditions(object: &Value) -> Vec<String> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    conditions
        .filter(|condition| condition["status"] != "True" || condition["type"] == "ReplicaFailure")
        .map(|condition| format!("{}={}: {}", text(&condition["type"]), text(&condition["status"]), text(&condition["message"])))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_without_a_ready_pod_is_not_rolled_out() {
        let deployment = |replicas: i64, observed: i64, ready: i64| {
            json!({
                "metadata": {"generation": 2}, "spec": {"replicas": replicas},
                "status": {"observedGeneration": observed, "updatedReplicas": 1, "replicas": 1, "readyReplicas": ready, "availableReplicas": ready},
            })
        };
        assert!(is_rolled_out(&deployment(1, 2, 1)));
        for other in [deployment(1, 1, 1), deployment(1, 2, 0), deployment(2, 2, 1), deployment(0, 2, 0), json!({})] {
            assert!(!is_rolled_out(&other), "{other}");
        }
    }

    #[test]
    fn only_conditions_that_are_wrong_are_told() {
        let status = json!({"status": {"conditions": [
            {"type": "Available", "status": "False", "message": "no minimum"},
            {"type": "Progressing", "status": "True", "message": "fine"},
            {"type": "ReplicaFailure", "status": "True", "message": "quota"},
        ]}});
        assert_eq!(conditions(&status), ["Available=False: no minimum", "ReplicaFailure=True: quota"]);
    }
}
