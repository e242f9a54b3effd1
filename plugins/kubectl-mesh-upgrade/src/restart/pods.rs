//! The pods of a workload, and what they run. A pod is a workload's own when its controller is that very object, or one of
//! its ReplicaSets: by uid, whatever its labels or its name say.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use mesh::cluster::List;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::{Cause, Failure};
use mesh::cluster::replica_sets::{ReplicaSetControllers, replica_set_controllers};
use mesh::comparison::{Agreement, Comparison};
use mesh::labels;
use mesh::object::{Interner, Metadata, OwnerReference, Pod, Resource};
use mesh::proxy::{Proxy, is_alive};
use mesh::state::Reason;
use mesh::verdict::Wanted;
use mesh::workload::WorkloadId;
use serde::Deserialize;
use serde_json::Value;

/// Label by which pods of a StatefulSet or a DaemonSet, and a DaemonSet's revisions, say which template is theirs
/// (`ControllerRevisionHashLabelKey`, k8s.io/api/apps/v1/types.go).
pub const HASH: &str = "controller-revision-hash";

/// How often, and how long apart, a ReplicaSet is looked for that a pod names and no list has yet.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A pod of a workload.
#[derive(Clone, Debug)]
pub struct OwnPod {
    /// As it came.
    pub object: Value,
    /// How it stands to what is wanted.
    pub standing: Standing,
}

/// How a pod stands to what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs it.
    Wanted,
    /// It names the wanted revision, and an image that cannot be compared: what it runs, in words.
    ByRevision(String),
    /// It runs something else, or nobody can tell: why.
    Other(String),
}

impl OwnPod {
    /// Its uid.
    pub fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Whether it is being deleted, however long that takes.
    pub fn is_leaving(&self) -> bool {
        !self.object["metadata"]["deletionTimestamp"].is_null()
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.readiness().is_some()
    }

    /// Whether it is ready, and has been for so many seconds (`IsPodAvailable`, k8s.io/kubernetes/pkg/api/v1/pod/util.go).
    pub fn has_been_ready_for(&self, seconds: i64, now: Timestamp) -> bool {
        let Some(condition) = self.readiness() else { return false };
        let since = condition["lastTransitionTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
        seconds == 0 || since.is_some_and(|since| now.as_second() - since.as_second() >= seconds)
    }

    fn readiness(&self) -> Option<&Value> {
        let mut conditions = self.object["status"]["conditions"].as_array()?.iter();
        conditions.find(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    /// The revision that its proxy says it is of.
    pub fn revision(&self) -> Option<&str> {
        self.object["metadata"]["annotations"][labels::REVISION].as_str()
    }

    /// What names the template that it was made from: the uid of its ReplicaSet, or the hash of its controller's revision.
    pub fn origin(&self) -> Option<&str> {
        let owners = self.object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let mut controllers = owners.filter(|owner| owner["controller"] == true && owner["kind"] == "ReplicaSet");
        let replica_set = controllers.next().and_then(|owner| owner["uid"].as_str());
        replica_set.or_else(|| self.object["metadata"]["labels"][HASH].as_str())
    }

    /// Why it has to be replaced; `None` when it runs what is wanted for sure.
    pub fn difference(&self) -> Option<&str> {
        match &self.standing {
            Standing::Wanted => None,
            Standing::ByRevision(why) | Standing::Other(why) => Some(why),
        }
    }
}

/// Finds the pods of workloads.
pub struct Pods<'a> {
    connection: &'a Connection,
    /// Who controls the ReplicaSets that were seen, by namespace.
    controllers: RefCell<HashMap<String, ReplicaSetControllers>>,
}

impl<'a> Pods<'a> {
    /// Nothing is read yet.
    pub fn new(connection: &'a Connection) -> Pods<'a> {
        Pods { connection, controllers: RefCell::default() }
    }

    /// The living pods of a workload, each compared with what is wanted. `object` is the workload as it was read.
    ///
    /// # Errors
    /// When pods or ReplicaSets cannot be listed, or a pod cannot be read that may be one of them.
    pub async fn of(&self, workload: &WorkloadId, object: &Value, wanted: Option<&Wanted>) -> Result<Vec<OwnPod>, Failure> {
        let mut pods = self.with_leaving(workload, object, wanted).await?;
        pods.retain(|pod| !pod.is_leaving());
        Ok(pods)
    }

    /// As [`Pods::of`], with those that are being deleted and are still there.
    ///
    /// # Errors
    /// As [`Pods::of`].
    pub async fn with_leaving(
        &self,
        workload: &WorkloadId,
        object: &Value,
        wanted: Option<&Wanted>,
    ) -> Result<Vec<OwnPod>, Failure> {
        let what = format!("listing the pods of {workload}");
        let Some(uid) = object["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) else {
            return Err(Failure::new(what, Cause::Decode("the workload has no uid".to_owned())));
        };
        let list = narrowed(&workload.namespace, &object["spec"]["selector"]["matchLabels"]);
        let mut lost = String::new();
        for turn in 0..TRIES {
            if turn > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let pods = list.clone().whole(self.connection).await?;
            if has_replica_sets(&workload.kind) {
                self.learn(&workload.namespace, &pods).await?;
            }
            let controllers = self.controllers.borrow();
            match own(pods, uid, controllers.get(&*workload.namespace), wanted) {
                Ok(own) => return Ok(own),
                Err(Unclear::Undecodable(why)) => return Err(Failure::new(what, Cause::Decode(why))),
                // It is so new that the list has it not yet, or so old that it is being collected.
                Err(Unclear::NoReplicaSet(why)) => lost = why,
            }
        }
        Err(Failure::new(what, Cause::Other(lost)))
    }

    /// Reads who controls ReplicaSets, if one of these pods is of one that was not seen yet.
    async fn learn(&self, namespace: &str, pods: &[Value]) -> Result<(), Failure> {
        let is_known = |reference: &OwnerReference| {
            self.controllers.borrow().get(namespace).is_some_and(|known| known.contains_key(&reference.uid))
        };
        let mut named = pods.iter().filter_map(controller_of).filter(is_replica_set);
        if named.all(|reference| is_known(&reference)) {
            return Ok(());
        }
        let found = replica_set_controllers(self.connection, namespace).await?;
        self.controllers.borrow_mut().entry(namespace.to_owned()).or_default().extend(found);
        Ok(())
    }
}

/// Why nobody can say whose a pod is.
#[derive(Debug, PartialEq, Eq)]
enum Unclear {
    Undecodable(String),
    NoReplicaSet(String),
}

/// Those of these pods that the workload with this uid controls, itself or by a ReplicaSet: living ones, and those that are being
/// deleted.
fn own(
    pods: Vec<Value>,
    uid: &str,
    replica_sets: Option<&ReplicaSetControllers>,
    wanted: Option<&Wanted>,
) -> Result<Vec<OwnPod>, Unclear> {
    let mut own = Vec::new();
    for object in pods {
        let name = object["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
        let pod = Pod::deserialize(&object);
        // Metadata that cannot be read hides the owner; where only the rest cannot, pods of others are none of ours.
        let metadata = Metadata::deserialize(&object["metadata"])
            .map_err(|error| Unclear::Undecodable(format!("pod {name} could not be decoded: {error}")))?;
        let Some(controller) = metadata.controller() else { continue };
        let is_own = if controller.uid == uid {
            true
        } else if let (Some(replica_sets), true) = (replica_sets, is_replica_set(controller)) {
            match replica_sets.get(&controller.uid) {
                Some(owner) => owner.as_ref().is_some_and(|owner| owner.uid == uid),
                None if metadata.deletion_timestamp.is_some() => false,
                None => {
                    let why = format!("ReplicaSet {} of pod {name} is not there: whose pod it is, is not known", controller.name);
                    return Err(Unclear::NoReplicaSet(why));
                }
            }
        } else {
            false
        };
        if !is_own {
            continue;
        }
        let pod = pod.map_err(|error| Unclear::Undecodable(format!("pod {name} could not be decoded: {error}")))?;
        if is_alive(&pod) || metadata.deletion_timestamp.is_some() {
            own.push(OwnPod { standing: standing(&pod, wanted), object });
        }
    }
    Ok(own)
}

/// Whether pods of this kind of workload belong to a ReplicaSet of its.
fn has_replica_sets(kind: &str) -> bool {
    matches!(kind, "Deployment" | "Rollout")
}

fn is_replica_set(reference: &OwnerReference) -> bool {
    // `extensions` is what ReplicaSets were served in before Kubernetes 1.16; owner references are never rewritten.
    let group = reference.api_version.split('/').next();
    reference.kind == "ReplicaSet" && matches!(group, Some("apps" | "extensions"))
}

fn controller_of(pod: &Value) -> Option<OwnerReference> {
    let references = pod["metadata"]["ownerReferences"].as_array()?;
    let controller = references.iter().find(|reference| reference["controller"] == true)?;
    OwnerReference::deserialize(controller).ok()
}

/// The list that leaves most pods of others at the server: controllers let go of pods that they do not select any more. It
/// only narrows; whose a pod is, is decided by its owner.
fn narrowed(namespace: &str, match_labels: &Value) -> List {
    let labels = match_labels.as_object().into_iter().flatten();
    let all = List::of(Resource::Pods).in_namespace(namespace);
    labels.fold(all, |list, (key, value)| list.labelled(key, value.as_str().unwrap_or_default()))
}

/// How a pod stands to what is wanted.
fn standing(pod: &Pod, wanted: Option<&Wanted>) -> Standing {
    let name = pod.metadata.as_ref().map(|metadata| metadata.name.as_str()).unwrap_or_default();
    let (proxy, wanted) = match (Proxy::of_pod(pod, &mut Interner::default()), wanted) {
        (None, None) => return Standing::Wanted,
        (Some(_), None) => return Standing::Other(format!("pod {name} has a proxy still")),
        (None, Some(_)) => return Standing::Other(format!("pod {name} has no proxy")),
        (Some(proxy), Some(wanted)) => (proxy, wanted),
    };
    let comparison = Comparison::of(&proxy, wanted);
    let image = wanted.image.as_deref().unwrap_or("an image that is not known");
    match comparison {
        Comparison { revision: Agreement::Different(_), .. } => {
            let revision = proxy.revision.as_deref().unwrap_or("unknown");
            Standing::Other(format!("pod {name} runs a proxy of revision {revision}"))
        }
        Comparison { image: Agreement::Different(Reason::Variant), .. } => {
            Standing::Other(format!("pod {name} runs {}, another variant than {image}", proxy.image))
        }
        Comparison { image: Agreement::Different(_), .. } => {
            Standing::Other(format!("pod {name} runs {} instead of {image}", proxy.image))
        }
        same if same.is_same() => Standing::Wanted,
        by_revision if by_revision.is_by_revision_alone() => {
            Standing::ByRevision(format!("pod {name} runs {}, which cannot be compared with {image}", proxy.image))
        }
        _ => Standing::Other(format!("pod {name} runs {}, and nothing tells whether that is what is wanted", proxy.image)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owners: Value) -> Value {
        json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"app": "web"}, "ownerReferences": owners,
                         "annotations": {"istio.io/rev": "new"}},
            "spec": {"containers": [{"name": "app"}, {"name": "istio-proxy", "image": "mirror/proxyv2:1.28.2"}]},
        })
    }

    fn owner(api_version: &str, kind: &str, uid: &str) -> Value {
        json!([{"apiVersion": api_version, "kind": kind, "name": "web", "uid": uid, "controller": true}])
    }

    fn wanted() -> Wanted {
        Wanted {
            revision: Some("new".to_owned()),
            tag: None,
            injector: None,
            image: Some("docker.io/istio/proxyv2:1.28.2".to_owned()),
        }
    }

    fn names(own: &[OwnPod]) -> Vec<&str> {
        own.iter().filter_map(|pod| pod.object["metadata"]["name"].as_str()).collect()
    }

    #[test]
    fn the_pods_of_a_workload_are_those_that_it_controls_by_uid() {
        let mut merely_owned = owner("apps/v1", "StatefulSet", "mine");
        merely_owned[0]["controller"] = false.into();
        let ended = json!({"status": {"phase": "Succeeded"}});
        let mut done = pod("done", owner("apps/v1", "StatefulSet", "mine"));
        done["status"] = ended["status"].clone();
        let pods = vec![
            pod("mine-0", owner("apps/v1", "StatefulSet", "mine")),
            pod("bare", json!([])),
            pod("of-a-job", owner("batch/v1", "Job", "job")),
            pod("of-the-one-before", owner("apps/v1", "StatefulSet", "gone")),
            pod("of-a-namesake", owner("apps.kruise.io/v1beta1", "StatefulSet", "kruise")),
            pod("merely-owned", merely_owned),
            pod("of-a-replica-set", owner("apps/v1", "ReplicaSet", "any")),
            done,
        ];
        assert_eq!(names(&own(pods, "mine", None, Some(&wanted())).unwrap()), ["mine-0"]);
    }

    #[test]
    fn pods_of_a_deployment_belong_to_its_own_replica_sets() {
        let reference = |uid: &str| OwnerReference { uid: uid.to_owned(), ..OwnerReference::default() };
        let replica_sets: ReplicaSetControllers = [
            ("adopted".to_owned(), Some(reference("mine"))),
            ("others".to_owned(), Some(reference("other"))),
            ("free".to_owned(), None),
        ]
        .into();
        let of = |uid: &str| pod(uid, owner("apps/v1", "ReplicaSet", uid));
        let pods = vec![of("adopted"), of("others"), of("free")];
        assert_eq!(names(&own(pods, "mine", Some(&replica_sets), Some(&wanted())).unwrap()), ["adopted"]);
        let lost = own(vec![of("lost")], "mine", Some(&replica_sets), None).unwrap_err();
        assert!(matches!(lost, Unclear::NoReplicaSet(why) if why.contains("pod lost")));
        let mut leaving = of("lost");
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(names(&own(vec![leaving], "mine", Some(&replica_sets), None).unwrap()), [""; 0]);
    }

    #[test]
    fn a_pod_that_cannot_be_decoded_is_not_left_out() {
        let broken = |owner: Value| {
            let mut pod = pod("odd", owner);
            pod["spec"]["containers"] = json!([{"name": 7}]);
            pod
        };
        let mine = own(vec![broken(owner("apps/v1", "StatefulSet", "mine"))], "mine", None, None).unwrap_err();
        assert!(matches!(mine, Unclear::Undecodable(why) if why.contains("pod odd could not be decoded")));
        // What is another's for sure is none of ours, however odd.
        assert_eq!(own(vec![broken(owner("batch/v1", "Job", "job"))], "mine", None, None).unwrap().len(), 0);
        let mut hidden = pod("hidden", json!([]));
        hidden["metadata"]["ownerReferences"] = json!("none");
        assert!(matches!(own(vec![hidden], "mine", None, None).unwrap_err(), Unclear::Undecodable(_)));
    }

    #[test]
    fn a_mirror_is_what_is_wanted_and_a_digest_is_by_the_revision() {
        let check = |image: &str, revision: &str, expected: fn(&Standing) -> bool| {
            let mut object = pod("web-1", owner("apps/v1", "StatefulSet", "mine"));
            object["spec"]["containers"][1]["image"] = image.into();
            object["metadata"]["annotations"]["istio.io/rev"] = revision.into();
            let own = own(vec![object], "mine", None, Some(&wanted())).unwrap();
            assert!(expected(&own[0].standing), "{image} of {revision}: {:?}", own[0].standing);
        };
        check("mirror/proxyv2:1.28.2", "new", |standing| *standing == Standing::Wanted);
        check("mirror/proxyv2:1.28.2@sha256:ab", "new", |standing| *standing == Standing::Wanted);
        check("mirror/proxyv2@sha256:ab", "new", |standing| matches!(standing, Standing::ByRevision(_)));
        check("mirror/proxyv2@sha256:ab", "old", |standing| matches!(standing, Standing::Other(_)));
        check("mirror/proxyv2:1.28.2-distroless", "new", |standing| matches!(standing, Standing::Other(_)));
        check("mirror/proxyv2:1.26.0", "new", |standing| matches!(standing, Standing::Other(_)));
        check("mirror/proxyv2@sha256:ab", "", |standing| matches!(standing, Standing::Other(_)));
    }

    #[test]
    fn the_server_is_asked_for_few_pods() {
        let all = List::of(Resource::Pods).in_namespace("shop");
        assert_eq!(
            narrowed("shop", &json!({"app": "web", "example.org/tier": "a"})),
            all.clone().labelled("app", "web").labelled("example.org/tier", "a")
        );
        assert_eq!(narrowed("shop", &Value::Null), all);
    }
}
