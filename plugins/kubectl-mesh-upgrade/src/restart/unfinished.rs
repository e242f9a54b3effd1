//! Roll-outs towards the revision that is left: on the way back nobody waits for them, they are replaced.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use mesh::change::{Change as ObjectChange, Subject};
use mesh::cluster::List;
use mesh::cluster::apply::{self, Persistence, carry_out};
use mesh::cluster::failure::Cause;
use mesh::labels;
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::workload::Restart;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::engine::{Change, End, Engine, Rollout, judged};
use super::event::Outcome;
use super::eviction::{Budget, Eviction, evict};
use super::looks::LOOK;
use super::pods::{HASH, OwnPod};
use super::reason::waits_for;
use super::replacement::{mark_of, replaced_of};
use super::rollout::{Progress, RESTARTED_AT, progress};
use super::step::{Notice, Phase};
use crate::rolling_update::needs_room;

/// What replacing unfinished roll-outs may ask for.
pub fn needs(namespace: Option<&str>) -> Needs {
    Needs::default().require(namespace, [("apps", "controllerrevisions")], &["list"]).and(apply::needs(
        namespace,
        [Resource::Pods],
        &["delete"],
    ))
}

/// A template that a workload's pods are or were made from: of a ReplicaSet, or of a ControllerRevision.
#[derive(Clone, Debug, PartialEq)]
struct Origin {
    /// What names it in its pods: the uid of their ReplicaSet, or their label `controller-revision-hash`.
    key: String,
    /// The higher, the newer.
    revision: i64,
    template: Value,
}

/// Labels that controllers add to the template of a ReplicaSet.
const HASHES: [&str; 2] = [labels::POD_TEMPLATE_HASH, labels::ROLLOUTS_POD_TEMPLATE_HASH];

/// How a roll-out is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// Its template says again that it was restarted at this time, `None` for never: as its old pods are made.
    Back(Option<String>),
    /// It is restarted: why it does not just go back.
    Anew(&'static str),
    /// Its template is right already, and pods that are broken keep its controller from seeing that.
    Unblocking,
    /// Its pods are evicted.
    Evicting,
}

impl Engine<'_> {
    /// Replaces a roll-out towards the revision that is left, and waits for what takes its place. `None` where there is none: what
    /// is under way then goes where it is to go, or has come to its end.
    pub(super) async fn replace_unfinished(&self, rollout: &Rollout<'_>, leaving: &str) -> Result<Option<Outcome>, End> {
        let item = rollout.item;
        let object = loop {
            let object = self.looks.find(rollout.subject, None).await?.ok_or_else(End::gone)?;
            if item.uid.as_deref().is_some_and(|uid| object["metadata"]["uid"] != *uid) {
                return Err(End::replaced());
            }
            // Until its controller has seen the last change, nobody knows what the newest pods are.
            if has_been_seen(&object) || Instant::now() >= rollout.deadline {
                break object;
            }
            tokio::time::sleep(LOOK).await;
        };
        // Where pods are evicted, nothing but the pods tells how far that is.
        let is_by_template = matches!(item.restart, Restart::Rollout | Restart::ArgoRollout);
        if is_by_template && progress(&object, &item.restart) == Progress::Complete {
            return Ok(None);
        }
        let pods = self.pods.of(&item.workload, &object, item.wanted.as_ref()).await?;
        let origins = match item.restart {
            Restart::Rollout | Restart::ArgoRollout => self.origins(rollout, &object).await?,
            _ => Vec::new(),
        };
        let newest = newest(&object, &origins);
        let is_new = |pod: &&&OwnPod| newest.is_none_or(|newest| pod.origin() == Some(newest.key.as_str()));
        let leaving_pods: Vec<&OwnPod> =
            pods.iter().filter(|pod| pod.difference().is_some() && pod.revision() == Some(leaving)).collect();
        let (new, broken) = (leaving_pods.iter().find(is_new), leaving_pods.iter().find(|pod| !pod.is_ready()));
        let way = match (&item.restart, new, newest) {
            (Restart::Rollout | Restart::ArgoRollout, Some(_), Some(newest)) => match back_to(&pods, &origins, newest) {
                Ok(mark) => Some(Way::Back(mark)),
                Err(_) if item.restart == Restart::ArgoRollout => Some(Way::Evicting),
                Err(why) => Some(Way::Anew(why)),
            },
            (Restart::Rollout, Some(_), None) => Some(Way::Anew("the template of its old pods is not there any more")),
            // Every other controller takes away by itself what its newest template does not make.
            (Restart::Rollout, None, _) if &*item.workload.kind == "StatefulSet" => broken.map(|_| Way::Unblocking),
            (Restart::Rollout, None, _) => None,
            (Restart::ArgoRollout, ..) => new.or(broken).map(|_| Way::Evicting),
            _ => broken.map(|_| Way::Evicting),
        };
        let (Some(way), Some(shown)) = (way, broken.or(new)) else { return Ok(None) };
        if let (Some(doubt), Way::Anew(_)) = (rollout.doubt, &way)
            && needs_room(&item.workload.kind, &object)
        {
            return Err(End::Outcome(Outcome::Failed(doubt.to_owned())));
        }
        rollout.step.say(Notice::Replacing(self.told(shown, leaving, &way)));
        let object = match way {
            Way::Back(mark) => self.template_says(rollout, object, mark).await?,
            Way::Anew(_) => {
                while mark_of(&object) == Some(&self.now()) {
                    tokio::time::sleep(LOOK / 5).await;
                }
                let now = self.now();
                self.template_says(rollout, object, Some(now)).await?
            }
            Way::Unblocking => {
                let change = Change::untold();
                self.unblock(rollout, &change).await?;
                self.complete(rollout, Some(change)).await?
            }
            Way::Evicting => object,
        };
        Ok(Some(match item.restart {
            Restart::Rollout => self.judge(rollout).await?,
            // Pods of the revision that is left may be among those that its template made before, too.
            _ => judged(self.evict_leavers(rollout, object).await?),
        }))
    }

    /// What is said about a roll-out that is replaced.
    fn told(&self, pod: &OwnPod, leaving: &str, way: &Way) -> String {
        let state = if pod.is_ready() {
            "is not complete".to_owned()
        } else {
            let age = self.age(&pod.object).map_or_else(String::new, |seconds| format!(" {seconds}s"));
            format!("is stuck (pod {}{age})", waits_for(&pod.object))
        };
        let how = match way {
            Way::Back(_) => "replacing it".to_owned(),
            Way::Anew(why) => format!("replacing it by a restart: {why}"),
            Way::Unblocking | Way::Evicting => "replacing its pods".to_owned(),
        };
        format!("roll-out to {leaving} {state}; {how}")
    }

    /// How long ago an object was made, in seconds, by the API server's clock.
    fn age(&self, object: &Value) -> Option<i64> {
        let made: Timestamp = object["metadata"]["creationTimestamp"].as_str()?.parse().ok()?;
        Some((Timestamp::now().as_second() + self.connection.skew() - made.as_second()).max(0))
    }

    /// Lets the template say when it was restarted, evicts broken pods that keep the controller from seeing that, and waits.
    async fn template_says(&self, rollout: &Rollout<'_>, object: Value, mark: Option<String>) -> Result<Value, End> {
        let change = self.marked(rollout, object, mark).await?;
        self.unblock(rollout, &change).await?;
        if rollout.item.restart == Restart::ArgoRollout {
            return self.looks.find(rollout.subject, Some(change.at)).await?.ok_or_else(End::gone);
        }
        self.complete(rollout, Some(change)).await
    }

    /// Evicts the broken pods of a StatefulSet once its template is right: its controller waits for them before it replaces any
    /// ("Forced rollback", kubernetes.io/docs/concepts/workloads/controllers/statefulset).
    async fn unblock(&self, rollout: &Rollout<'_>, change: &Change) -> Result<(), End> {
        if &*rollout.item.workload.kind != "StatefulSet" {
            return Ok(());
        }
        let mut object = self.looks.find(rollout.subject, Some(change.at)).await?.ok_or_else(End::gone)?;
        while !has_been_seen(&object) && Instant::now() < rollout.deadline {
            tokio::time::sleep(LOOK).await;
            object = self.looks.find(rollout.subject, Some(change.at)).await?.ok_or_else(End::gone)?;
        }
        loop {
            let pods = self.pods.of(&rollout.item.workload, &object, rollout.item.wanted.as_ref()).await?;
            let mut has_changed = false;
            for pod in pods.iter().filter(|pod| pod.difference().is_some() && !pod.is_ready()) {
                has_changed |= self.write(rollout.step, self.evict_broken(rollout, pod)).await? == Eviction::Changed;
            }
            // What has changed since it was read is looked at once more.
            if !has_changed || Instant::now() >= rollout.deadline {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Evicts a pod that is not ready. A budget that counts it among those that it needs would keep it for ever, so it is deleted
    /// then, as it was read: it serves nothing.
    async fn evict_broken(&self, rollout: &Rollout<'_>, pod: &OwnPod) -> Result<Eviction, End> {
        match evict(self.connection, &pod.object, Budget::Asked).await {
            Err(failure) if matches!(failure.cause, Cause::DisruptionBudget(_)) => {
                let name = pod.object["metadata"]["name"].as_str().unwrap_or_default();
                let subject = Subject::new(Resource::Pods, Some(&rollout.item.workload.namespace), name);
                let deletion = ObjectChange { subject, before: Some(pod.object.clone()), after: None };
                match carry_out(self.connection, &deletion, Persistence::Stored).await {
                    Err(failure) if failure.cause == Cause::NotFound => Ok(Eviction::Gone),
                    Err(failure) if matches!(failure.cause, Cause::Conflict(_)) => Ok(Eviction::Changed),
                    result => Ok(result.map(|_| Eviction::Done)?),
                }
            }
            result => Ok(result?),
        }
    }

    /// Evicts whatever does not run what is wanted: first what is broken, at once, then the others one by one. Only the pods tell
    /// when that is done, whatever else the workload is in the middle of.
    async fn evict_leavers(&self, rollout: &Rollout<'_>, object: Value) -> Result<Vec<OwnPod>, End> {
        let item = rollout.item;
        if item.restart == Restart::ArgoRollout && object["spec"]["restartAt"] != object["status"]["restartedAt"] {
            let done = object["status"]["restartedAt"].clone();
            let change = json!({"spec": {"restartAt": done}});
            let has_happened = |found: &Value| found["spec"]["restartAt"] == done;
            self.write(rollout.step, self.patch(rollout.subject, object.clone(), change, &has_happened)).await?;
        }
        let pods = self.pods.of(&item.workload, &object, item.wanted.as_ref()).await?;
        let old: HashSet<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
        let mut evicted: HashSet<String> = HashSet::new();
        loop {
            let mut pods = self.pods.with_leaving(&item.workload, &object, item.wanted.as_ref()).await?;
            let is_one_going = pods.iter().any(OwnPod::is_leaving);
            pods.retain(|pod| !pod.is_leaving());
            rollout.step.has_replaced(Some(replaced_of(&pods)));
            let failed = pods.iter().find(|pod| !old.contains(pod.uid()) && pod.difference().is_some());
            if let Some(why) = failed.and_then(OwnPod::difference) {
                return Err(End::Outcome(Outcome::Failed(why.to_owned())));
            }
            let next = |pod: &&OwnPod| pod.difference().is_some() && !evicted.contains(pod.uid());
            let is_whole = !is_one_going && pods.len() >= old.len() && pods.iter().all(OwnPod::is_ready);
            if is_whole && !pods.iter().any(|pod| next(&pod)) {
                return Ok(pods);
            }
            // A pod that changes all the time is not evicted, and is waited for no longer than anything else.
            if Instant::now() >= rollout.deadline {
                let (done, limit) = (replaced_of(&pods), self.limits.timeout.as_secs());
                return Err(End::Outcome(Outcome::Failed(format!("not rolled out within {limit} s: {done}"))));
            }
            let broken: Vec<&OwnPod> = pods.iter().filter(next).filter(|pod| !pod.is_ready()).collect();
            let whole = pods.iter().find(next).filter(|_| is_whole);
            if !broken.is_empty() {
                for pod in broken {
                    if self.write(rollout.step, self.evict_broken(rollout, pod)).await? != Eviction::Changed {
                        evicted.insert(pod.uid().to_owned());
                    }
                }
            } else if let Some(pod) = whole {
                rollout.step.is(Phase::BetweenPods);
                let budget = Budget::WaitedFor(rollout.deadline);
                let eviction = async { Ok(evict(self.connection, &pod.object, budget).await?) };
                if self.write(rollout.step, eviction).await? != Eviction::Changed {
                    evicted.insert(pod.uid().to_owned());
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The templates of a workload, as its controller keeps them.
    async fn origins(&self, rollout: &Rollout<'_>, object: &Value) -> Result<Vec<Origin>, End> {
        let namespace = &rollout.item.workload.namespace;
        let (list, read): (List, fn(&Value) -> Option<Origin>) = match &*rollout.item.workload.kind {
            "StatefulSet" | "DaemonSet" => (List::of(("apps", "v1", "controllerrevisions")), of_controller_revision),
            _ => (List::of(Resource::ReplicaSets), of_replica_set),
        };
        let is_own = |found: &&Value| {
            let owners = found["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.into_iter().any(|owner| owner["controller"] == true && owner["uid"] == object["metadata"]["uid"])
        };
        let found = list.in_namespace(namespace).whole(self.connection).await?;
        Ok(found.iter().filter(is_own).filter_map(read).collect())
    }
}

/// Whether its controller has seen it as it is.
fn has_been_seen(object: &Value) -> bool {
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0);
    number(&object["status"]["observedGeneration"]) >= number(&object["metadata"]["generation"])
}

/// The one that new pods are made from: whose template is the workload's own.
fn newest<'a>(object: &Value, origins: &'a [Origin]) -> Option<&'a Origin> {
    let own = plain(&object["spec"]["template"]);
    let same = origins.iter().filter(|origin| plain(&origin.template) == own);
    same.max_by_key(|origin| origin.revision)
}

/// When the template has to say that it was restarted so that it is once more what the old pods are made from that run what is wanted.
///
/// # Errors
/// Why it does not go back to them.
fn back_to(pods: &[OwnPod], origins: &[Origin], newest: &Origin) -> Result<Option<String>, &'static str> {
    let mut right: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.difference().is_none()) {
        if let Some(key) = pod.origin() {
            *right.entry(key).or_default() += 1;
        }
    }
    let old = origins.iter().filter(|origin| origin.key != newest.key);
    let old = old.filter_map(|origin| Some((*right.get(origin.key.as_str())?, origin.revision, origin)));
    let Some((.., old)) = old.max_by_key(|(count, revision, _)| (*count, *revision)) else {
        return Err("no pod of the template before it runs what is wanted");
    };
    if without_mark(&old.template) == without_mark(&newest.template) {
        Ok(old.template["metadata"]["annotations"][RESTARTED_AT].as_str().map(str::to_owned))
    } else {
        Err("it changes more of the template than a restart does, which is not taken back")
    }
}

fn of_replica_set(replica_set: &Value) -> Option<Origin> {
    let annotations = &replica_set["metadata"]["annotations"];
    // Which of them a Deployment and an Argo Rollout write (`RevisionAnnotation` of both).
    let revision = ["deployment.kubernetes.io/revision", "rollout.argoproj.io/revision"]
        .iter()
        .find_map(|key| annotations[*key].as_str()?.parse().ok());
    Some(Origin {
        key: replica_set["metadata"]["uid"].as_str()?.to_owned(),
        revision: revision.unwrap_or(0),
        template: replica_set["spec"]["template"].clone(),
    })
}

fn of_controller_revision(revision: &Value) -> Option<Origin> {
    // A DaemonSet's revision has the hash of its pods as a label, a StatefulSet's is named as its pods' label says.
    let metadata = &revision["metadata"];
    let is_daemon_sets = metadata["labels"][HASH].is_string();
    let key = if is_daemon_sets { &metadata["labels"][HASH] } else { &metadata["name"] };
    Some(Origin {
        key: key.as_str()?.to_owned(),
        revision: revision["revision"].as_i64().unwrap_or(0),
        template: revision["data"]["spec"]["template"].clone(),
    })
}

/// A template without what its controller has added to it, and without what says nothing.
fn plain(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(template) = template.as_object_mut() {
        // What a ControllerRevision says to whom merges it.
        template.remove("$patch");
    }
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.retain(|key, _| !HASHES.contains(&key.as_str()));
    }
    without_nothing(template)
}

fn without_mark(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(annotations) = template["metadata"]["annotations"].as_object_mut() {
        annotations.remove(RESTARTED_AT);
    }
    plain(&template)
}

/// Without nulls and empty objects, which are the same as nothing.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let kept = entries.into_iter().map(|(key, value)| (key, without_nothing(value)));
            Value::Object(
                kept.filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|it| !it.is_empty())).collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nothing).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::pods::Standing;
    use super::*;

    fn template(image: &str, mark: Option<&str>) -> Value {
        let annotations = mark.map(|mark| json!({ RESTARTED_AT: mark }));
        json!({"metadata": {"labels": {"app": "web"}, "annotations": annotations}, "spec": {"containers": [{"image": image}]}})
    }

    fn origin(key: &str, revision: i64, template: Value) -> Origin {
        Origin { key: key.to_owned(), revision, template }
    }

    fn pod(replica_set: &str, standing: Standing) -> OwnPod {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": replica_set, "uid": replica_set, "controller": true});
        OwnPod { object: json!({"metadata": {"name": "web-1", "ownerReferences": [owner]}}), standing }
    }

    fn other() -> Standing {
        Standing::Other("another".to_owned())
    }

    #[test]
    fn a_restart_is_taken_back_to_where_the_right_pods_come_from_and_nothing_else_is() {
        let origins = [
            origin("first", 1, template("app:1", None)),
            origin("second", 2, template("app:1", Some("monday"))),
            origin("third", 3, template("app:1", Some("tuesday"))),
        ];
        let back = |pods: &[OwnPod]| back_to(pods, &origins, &origins[2]);
        let stuck = [pod("second", Standing::Wanted), pod("third", other())];
        assert_eq!(back(&stuck), Ok(Some("monday".to_owned())));
        assert_eq!(back(&[pod("first", Standing::Wanted), pod("third", other())]), Ok(None));
        assert!(back(&[pod("second", other()), pod("third", other())]).is_err());
        assert!(back(&[pod("third", Standing::Wanted)]).is_err());
        let changed = [origin("first", 1, template("app:1", None)), origin("second", 2, template("app:2", Some("monday")))];
        let why = back_to(&[pod("first", Standing::Wanted), pod("second", other())], &changed, &changed[1]).unwrap_err();
        assert!(why.contains("changes more of the template than a restart does"), "{why}");
    }

    #[test]
    fn the_newest_template_is_the_workloads_own_whatever_its_controller_has_added() {
        let mut hashed = template("app:2", None);
        hashed["metadata"]["labels"][labels::POD_TEMPLATE_HASH] = "abc".into();
        hashed["metadata"]["creationTimestamp"] = Value::Null;
        let mut revision = template("app:1", None);
        revision["$patch"] = "replace".into();
        let origins = [origin("old", 1, revision), origin("new", 2, hashed)];
        let of = |image: &str| {
            newest(&json!({"spec": {"template": template(image, None)}}), &origins).map(|origin| origin.key.as_str())
        };
        assert_eq!([of("app:2"), of("app:1"), of("app:3")], [Some("new"), Some("old"), None]);
    }

    #[test]
    fn controllers_keep_templates_in_their_own_ways() {
        let of_stateful_set = json!({"metadata": {"name": "db-5d"}, "revision": 3, "data": {"spec": {"template": {"a": 1}}}});
        assert_eq!(of_controller_revision(&of_stateful_set), Some(origin("db-5d", 3, json!({"a": 1}))));
        let of_daemon_set =
            json!({"metadata": {"name": "agent-7f", "labels": {HASH: "7f"}}, "revision": 2, "data": {"spec": {"template": {}}}});
        assert_eq!(of_controller_revision(&of_daemon_set), Some(origin("7f", 2, json!({}))));
        let of_rollout = json!({"metadata": {"uid": "u", "annotations": {"rollout.argoproj.io/revision": "4"}}, "spec": {"template": {"b": 1}}});
        assert_eq!(of_replica_set(&of_rollout), Some(origin("u", 4, json!({"b": 1}))));
    }
}
