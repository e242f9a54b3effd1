//! Whose pods are whose: tables over small clusters.

use serde_json::{Value, json};

use super::{Detail, Origin, SnapshotBuilder, Unread, UnreadCause};
use crate::object::{Object, Resource};
use crate::state::State;
use crate::workload::Restart;

/// An object of a kind that snapshots read.
fn object(api_version: &str, kind: &str, metadata: Value, spec: Value) -> Object {
    let mut metadata = metadata;
    metadata["namespace"] = "shop".into();
    let value = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec});
    let resource = Resource::of_kind(api_version, kind).unwrap();
    Object::from_json(resource, value.to_string().as_bytes()).unwrap()
}

fn controller(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true}])
}

fn pod(name: &str, owners: Value) -> Object {
    let metadata = json!({
        "name": name, "uid": format!("uid-{name}"), "ownerReferences": owners,
        "labels": {"app": "web", "pod-template-hash": "abc"},
    });
    object("v1", "Pod", metadata, json!({"containers": [{"name": "istio-proxy", "image": "proxyv2:1"}]}))
}

fn workload(kind: &str, name: &str, uid: &str, owners: Value) -> Object {
    let metadata = json!({"name": name, "uid": uid, "ownerReferences": owners});
    object("apps/v1", kind, metadata, json!({"selector": {"matchLabels": {"app": "web"}}, "template": {}}))
}

/// Workload, number of proxies and way of restarting, of every workload that has a pod.
fn linked(origin: Origin, objects: &[Object]) -> Vec<(String, u32, Restart)> {
    let mut builder = SnapshotBuilder::new(origin, Detail::Workloads);
    for object in objects {
        builder.add(object);
    }
    let workloads = builder.build().workloads.into_iter().filter(|workload| workload.pod_count() > 0);
    workloads.map(|workload| (workload.id.qualified_name(), workload.proxy_count(), workload.restart)).collect()
}

fn names(objects: &[Object]) -> Vec<(String, u32)> {
    linked(Origin::Cluster, objects).into_iter().map(|(name, count, _)| (name, count)).collect()
}

#[test]
fn a_pod_belongs_to_the_object_that_its_controller_names_by_uid() {
    let none = || json!([]);
    let found = names(&[
        workload("StatefulSet", "db", "new", none()),
        pod("db-0", controller("apps/v1", "StatefulSet", "db", "new")),
        pod("db-old", controller("apps/v1", "StatefulSet", "db", "old")),
        pod("kruise-0", controller("apps.kruise.io/v1beta1", "StatefulSet", "db", "kruise")),
        pod("bare", none()),
    ]);
    let expected = [("pod/bare", 1), ("pod/db-old", 1), ("statefulset.apps.kruise.io/db", 1), ("statefulset.apps/db", 1)];
    assert_eq!(found, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn a_replica_set_belongs_to_whom_it_names_and_not_to_a_deployment_of_its_name_and_labels() {
    let of = |uid: &str, name: &str| controller("apps/v1", "ReplicaSet", name, uid);
    let found = names(&[
        workload("Deployment", "web", "web", json!([])),
        workload("Deployment", "other", "other", json!([])),
        workload("ReplicaSet", "web-abc", "free", json!([])),
        workload("ReplicaSet", "adopted", "adopted", controller("apps/v1", "Deployment", "web", "web")),
        workload("ReplicaSet", "other-abc", "of-other", controller("apps/v1", "Deployment", "other", "other")),
        workload("ReplicaSet", "left-over", "left-over", controller("apps/v1", "Deployment", "web", "web-of-yesterday")),
        pod("free-1", of("free", "web-abc")),
        pod("adopted-1", of("adopted", "adopted")),
        pod("other-1", of("of-other", "other-abc")),
        pod("left-1", of("left-over", "left-over")),
    ]);
    let expected = [("deployment.apps/other", 1), ("deployment.apps/web", 1), ("pod/left-1", 1), ("replicaset.apps/web-abc", 1)];
    assert_eq!(found, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn names_and_labels_stand_in_for_replica_sets_only_where_those_could_not_be_read() {
    let objects = [
        workload("Deployment", "web", "web", json!([])),
        pod("web-abc-1", controller("apps/v1", "ReplicaSet", "web-abc", "any")),
    ];
    let of = |linked: Vec<(String, u32, Restart)>| linked.into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    assert_eq!(of(linked(Origin::Files, &objects)), ["deployment.apps/web"]);
    assert_eq!(of(linked(Origin::Cluster, &objects)), ["replicaset.apps/web-abc"]);
    // A file that holds ReplicaSets and not this one says that it is gone; one without uids, as --save wrote it once, holds only
    // those that nobody owns.
    let others = [&objects[..], &[workload("ReplicaSet", "other", "other", json!([]))]].concat();
    assert_eq!(of(linked(Origin::Files, &others)), ["replicaset.apps/web-abc"]);
    let without_uids =
        [&others[..1], &[pod("web-abc-1", controller("apps/v1", "ReplicaSet", "web-abc", ""))], &others[2..]].concat();
    assert_eq!(of(linked(Origin::Files, &without_uids)), ["deployment.apps/web"]);
    let mut builder = SnapshotBuilder::new(Origin::Cluster, Detail::Workloads);
    objects.iter().for_each(|object| builder.add(object));
    builder.unread(Unread { resource: Resource::ReplicaSets, namespace: None, cause: UnreadCause::Forbidden });
    let workloads = builder.build().workloads;
    assert_eq!(workloads.iter().map(|workload| workload.id.qualified_name()).collect::<Vec<_>>(), ["deployment.apps/web"]);
}

#[test]
fn what_an_operator_controls_is_restarted_in_its_way_or_not_at_all() {
    let custom = || controller("example.org/v1", "Shop", "main", "main");
    let mut merely_owned = custom();
    merely_owned[0]["controller"] = false.into();
    let restart = |objects: &[Object]| -> Vec<String> {
        linked(Origin::Cluster, objects)
            .into_iter()
            .map(|(name, _, restart)| match restart {
                Restart::Owned(owner) => format!("{name} of {owner}"),
                Restart::Operator(operator) => format!("{name} by {}", operator.name),
                restart => format!("{name} {restart:?}"),
            })
            .collect()
    };
    let of = |kind: &str, name: &str| pod(&format!("{name}-1"), controller("apps/v1", kind, name, name));
    for kind in ["StatefulSet", "DaemonSet"] {
        let found = restart(&[workload(kind, "db", "db", custom()), of(kind, "db")]);
        assert_eq!(found, [format!("{}.apps/db of Shop.example.org/main", kind.to_lowercase())]);
        let found = restart(&[workload(kind, "db", "db", merely_owned.clone()), of(kind, "db")]);
        assert_eq!(found, [format!("{}.apps/db Rollout", kind.to_lowercase())], "an owner that is no controller");
    }
    let replica_set = workload("ReplicaSet", "web-abc", "rs", controller("apps/v1", "Deployment", "web", "web"));
    let deployment = workload("Deployment", "web", "web", custom());
    let pods = pod("web-1", controller("apps/v1", "ReplicaSet", "web-abc", "rs"));
    assert_eq!(restart(&[deployment, replica_set, pods]), ["deployment.apps/web of Shop.example.org/main"]);
    // Nobody knows how a custom resource replaces the pods, or ReplicaSets, that it makes itself.
    let pods = [pod("a", custom()), workload("ReplicaSet", "rs", "rs", custom()), of("ReplicaSet", "rs")];
    let found = restart(&pods);
    assert!(found.len() == 1 && found[0].starts_with("shop.example.org/main Unknown"), "{found:?}");
    let strimzi = pod("events-0", controller("core.strimzi.io/v1beta2", "StrimziPodSet", "events", "events"));
    let postgres = pod("pg-1", controller("postgresql.cnpg.io/v1", "Cluster", "pg", "pg"));
    assert_eq!(
        restart(&[strimzi, postgres]),
        ["cluster.postgresql.cnpg.io/pg by CloudNativePG", "strimzipodset.core.strimzi.io/events by Strimzi"]
    );
}

/// Workload, its template's labels and what restarts it, of a Deployment or ReplicaSet whose template a Rollout takes, and of that.
fn with_rollout(reference: Value, lender: Object) -> Vec<String> {
    let rollout = object(
        "argoproj.io/v1alpha1",
        "Rollout",
        json!({"name": "cart", "uid": "cart"}),
        json!({"selector": {"matchLabels": {"app": "web"}}, "workloadRef": reference}),
    );
    let mut builder = SnapshotBuilder::new(Origin::Cluster, Detail::Workloads);
    [rollout, lender].iter().for_each(|object| builder.add(object));
    let describe = |workload: crate::workload::Workload| {
        let restart = match workload.restart {
            Restart::Owned(owner) => format!("of {owner}"),
            restart => format!("{restart:?}"),
        };
        let is_lent = workload.template.label("tier") == Some("lent");
        let known = if workload.doubt.is_some() { "unknown" } else { "known" };
        format!("{} {restart}, lent {is_lent}, {known}", workload.id.qualified_name())
    };
    builder.build().workloads.into_iter().map(describe).collect()
}

#[test]
fn what_lends_its_template_to_a_rollout_is_not_restarted_by_it() {
    let lender = |kind: &str| {
        let template = json!({"metadata": {"labels": {"app": "web", "tier": "lent"}}});
        let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
        object("apps/v1", kind, json!({"name": "web", "uid": "web"}), spec)
    };
    let reference = |api_version: &str, kind: &str, name: &str| json!({"apiVersion": api_version, "kind": kind, "name": name});
    assert_eq!(
        with_rollout(reference("apps/v1", "Deployment", "web"), lender("Deployment")),
        [
            "deployment.apps/web of Rollout.argoproj.io/cart, lent true, known",
            "rollout.argoproj.io/cart ArgoRollout, lent true, known"
        ]
    );
    // A ReplicaSet of the same name as a Deployment is another object.
    assert_eq!(
        with_rollout(reference("apps/v1", "ReplicaSet", "web"), lender("ReplicaSet")),
        ["rollout.argoproj.io/cart ArgoRollout, lent true, known"]
    );
    for unread in
        [reference("apps/v1", "ReplicaSet", "web"), reference("v1", "PodTemplate", "web"), reference("v1", "Deployment", "web")]
    {
        assert_eq!(
            with_rollout(unread.clone(), lender("Deployment")),
            ["deployment.apps/web Rollout, lent true, known", "rollout.argoproj.io/cart ArgoRollout, lent false, unknown"],
            "{unread}"
        );
    }
}

#[test]
fn a_pod_that_could_not_be_decoded_leaves_no_workload_of_its_namespace_current() {
    let mut builder = SnapshotBuilder::new(Origin::Cluster, Detail::Workloads);
    builder.add(&workload("StatefulSet", "db", "db", json!([])));
    builder.add(&pod("db-0", controller("apps/v1", "StatefulSet", "db", "db")));
    let cause = UnreadCause::Failed("db-1 -n shop: an object could not be decoded".to_owned());
    builder.unread(Unread { resource: Resource::Pods, namespace: Some("shop".to_owned()), cause });
    let verdicts = crate::verdict::verdicts(&builder.build(), &std::collections::HashMap::new());
    let states: Vec<State> = verdicts.iter().map(|verdict| verdict.state).collect();
    assert_eq!(states, [State::Unknown]);
}
