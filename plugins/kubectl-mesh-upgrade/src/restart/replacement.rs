//! How new pods are brought, by the kind of workload: by its template, its own field, its operator, or evictions.

use std::collections::HashSet;
use std::time::Duration;

use mesh::change::Subject;
use mesh::cluster::apply::{FIELD_MANAGER, FLUX_FIELD_MANAGER, Patch, Persistence, merge_patch};
use mesh::cluster::failure::Cause;
use mesh::operator::{AnnotationValue, Operator};
use mesh::owner::{Owner, owner_of};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::engine::{Change, End, Engine, Mark, Rollout};
use super::event::Outcome;
use super::eviction::{Budget, Eviction, evict};
use super::looks::LOOK;
use super::pods::{OwnPod, Standing};
use super::rollout::{RESTARTED_AT, given_up_at, replaced};
use super::step::{Notice, Phase, Replaced};

impl Engine<'_> {
    /// As `kubectl rollout restart`: a new annotation of the template.
    pub(super) async fn by_template(&self, rollout: &Rollout<'_>, object: Value) -> Result<(), End> {
        rollout.step.say(Notice::Restarting);
        // What was restarted within this second already would not be restarted by the same mark.
        while mark_of(&object) == Some(&self.now()) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let mark = self.now();
        let change = self.marked(rollout, object, Some(mark)).await?;
        self.complete(rollout, Some(change)).await.map(drop)
    }

    /// Lets the template say when it was restarted, `None` for never.
    pub(super) async fn marked(&self, rollout: &Rollout<'_>, object: Value, mark: Option<String>) -> Result<Change, End> {
        let (given_up, of) = (given_up_at(&object), replaced(&object));
        let annotations = json!({ RESTARTED_AT: mark });
        let change = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        let has_happened = |object: &Value| mark_of(object) == mark.as_deref();
        self.write(rollout.step, self.patch(rollout.subject, object, change, &has_happened)).await?;
        // Nothing is replaced before its controller has seen that.
        rollout.step.has_replaced(of.map(|of| Replaced { done: 0, ..of }));
        Ok(Change { at: Instant::now(), mark: Mark::Is(mark), given_up })
    }

    /// By the field of its own (`spec.restartAt`). Argo compares whole seconds, and restarts pods that are older.
    pub(super) async fn by_argo(&self, rollout: &Rollout<'_>, object: Value) -> Result<(), End> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mark = self.now();
        let has_mark = |object: &Value| object["spec"]["restartAt"] == mark.as_str();
        rollout.step.say(Notice::Restarting);
        let change = self.patch(rollout.subject, object, json!({"spec": {"restartAt": mark}}), &has_mark);
        self.write(rollout.step, change).await?;
        self.complete(rollout, Some(Change::untold())).await.map(drop)
    }

    /// As its operator documents it: an annotation of the custom resource. Only the pods tell when that is done.
    pub(super) async fn by_operator(
        &self,
        rollout: &Rollout<'_>,
        operator: &Operator,
        object: Value,
        pods: Vec<OwnPod>,
    ) -> Result<(), End> {
        let value = match operator.value {
            AnnotationValue::True => "true".to_owned(),
            AnnotationValue::Time => self.now(),
        };
        let change = json!({"metadata": {"annotations": {operator.annotation: value}}});
        let has_happened = |object: &Value| object["metadata"]["annotations"][operator.annotation] == value.as_str();
        let (count, item) = (pods.len(), rollout.item);
        rollout.step.say(Notice::Restarting);
        self.write(rollout.step, self.patch(rollout.subject, object.clone(), change, &has_happened)).await?;
        loop {
            tokio::time::sleep(LOOK).await;
            let pods = self.pods.of(&item.workload, &object, item.wanted.as_ref()).await?;
            let done = pods.iter().filter(|pod| !matches!(pod.standing, Standing::Other(_)) && pod.is_ready()).count();
            rollout.step.has_replaced(Some(replaced_of(&pods)));
            if done == pods.len() && done >= count {
                return Ok(());
            }
            if Instant::now() >= rollout.deadline {
                let (name, limit) = (operator.name, self.limits.timeout.as_secs());
                let why =
                    format!("{name} was asked to restart it, and after {limit} s {done} of {count} pods run what is wanted");
                return Err(End::Outcome(Outcome::Failed(why)));
            }
        }
    }

    /// Pod by pod: each new one has to be ready before the next old one goes.
    pub(super) async fn by_eviction(&self, rollout: &Rollout<'_>, pods: Vec<OwnPod>) -> Result<(), End> {
        let old: HashSet<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
        let (mut pods, mut evicted) = (pods, HashSet::new());
        rollout.step.say(Notice::Restarting);
        loop {
            // A new pod that is not what is wanted proves that the others would not come to be either.
            let failed = pods.iter().find(|pod| !old.contains(pod.uid()) && matches!(pod.standing, Standing::Other(_)));
            if let Some(why) = failed.and_then(OwnPod::difference) {
                return Err(End::Outcome(Outcome::Failed(why.to_owned())));
            }
            let is_next = |pod: &&OwnPod| old.contains(pod.uid()) && pod.difference().is_some() && !evicted.contains(pod.uid());
            let Some(next) = pods.iter().find(is_next) else { return Ok(()) };
            // Nobody would make a new one for a workload that is gone by now.
            self.complete(rollout, Some(Change::untold())).await?;
            let change = Some(Change::untold());
            // Read anew before each eviction: a pod that was taken out of the workload meanwhile is none of its.
            let budget = Budget::WaitedFor(rollout.deadline);
            let eviction = async { Ok(evict(self.connection, &next.object, budget).await?) };
            (_, pods) = match self.write(rollout.step, eviction).await? {
                Eviction::Changed if Instant::now() < rollout.deadline => self.gathered(rollout, change, None).await?,
                Eviction::Changed => {
                    let why = format!("pod {} changes all the time, so it was not evicted", next.name());
                    return Err(End::Outcome(Outcome::Failed(why)));
                }
                done @ (Eviction::Done | Eviction::Gone) => {
                    let uid = next.uid().to_owned();
                    evicted.insert(uid.clone());
                    let gathered = self.gathered(rollout, change, Some(&uid)).await;
                    gathered.map_err(|end| if done == Eviction::Done { end.after_eviction_of(next.name()) } else { end })?
                }
            };
            rollout.step.has_replaced(Some(replaced_of(&pods)));
            rollout.step.is(Phase::BetweenPods);
        }
    }

    /// Patches the object as it was seen, and as it is there now when only its status has changed. One that was deleted and made
    /// anew meanwhile is another one.
    pub(super) async fn patch(
        &self,
        subject: &Subject,
        object: Value,
        change: Value,
        has_happened: &dyn Fn(&Value) -> bool,
    ) -> Result<(), End> {
        let (seen, uid) = (object["metadata"]["generation"].clone(), object["metadata"]["uid"].clone());
        let mut object = object;
        let mut tries = 0;
        while !has_happened(&object) {
            tries += 1;
            let patch = Patch { subject, object: &object, change: change.clone(), manager: manager_for(&object) };
            match merge_patch(self.connection, patch, Persistence::Stored, has_happened).await {
                Ok(_) => return Ok(()),
                Err(failure) if failure.cause == Cause::NotFound => return Err(End::gone()),
                // Its status changes often: the next look tells whether there is still something to do.
                Err(failure) if tries < 6 && matches!(failure.cause, Cause::Conflict(_)) => {
                    tokio::time::sleep(Duration::from_millis(200 * tries)).await;
                }
                Err(failure) => return Err(failure.into()),
            }
            object = self.read(subject).await?.ok_or_else(End::gone)?;
            if object["metadata"]["uid"] != uid {
                return Err(End::replaced());
            }
            if object["metadata"]["generation"] != seen && !has_happened(&object) {
                self.looks.forget(subject);
                return Err(End::Changed);
            }
        }
        Ok(())
    }
}

/// How many of these pods run what is wanted.
pub(super) fn replaced_of(pods: &[OwnPod]) -> Replaced {
    let done = pods.iter().filter(|pod| pod.difference().is_none() && pod.is_ready()).count();
    Replaced { done: done as u64, of: pods.len() as u64 }
}

/// As whom an object is changed: Flux would take a restart back that it takes for kubectl's, which is another restart.
fn manager_for(object: &Value) -> &'static str {
    if matches!(owner_of(object), Owner::Flux { .. }) { FLUX_FIELD_MANAGER } else { FIELD_MANAGER }
}

/// When the template says that it was restarted.
pub(super) fn mark_of(object: &Value) -> Option<&str> {
    object["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT].as_str()
}
