//! The `default` tag, on which everything hangs that says no revision: namespaces with `istio-injection=enabled`, pods that
//! ask for themselves, and the validation of Istio's configuration. Set, declined, failed, undone, removed: none of it ever
//! goes without.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Options, Output, Revision, Session, Workload, plugin};

use crate::interruption::{Change, Stage, interrupt_default};
use crate::tags::{NEW, OLD, Saved, TagObjects, UNREVISIONED, revision_of, revision_of_a_new_pod};

const VALIDATORS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

/// A cluster with namespaces that follow in every way.
pub struct World {
    /// The cluster.
    pub cluster: Cluster,
    /// `istio-injection=enabled`.
    enabled: &'static str,
    /// No label.
    unlabelled: &'static str,
}

impl World {
    /// Two revisions with names, by istioctl, and the older one is the default.
    pub fn of_revisions() -> Result<Self> {
        let cluster = Cluster::start(&Options::default())?;
        let [old, new] = [IstioVersion::V1_26_0, IstioVersion::V1_28_2].map(Revision::of);
        cluster.install(&old)?;
        cluster.install(&new)?;
        // The newer installer has made its revision the default. The older one would move no Service.
        cluster.istioctl(new.version, ["tag", "set", "default", "--revision", OLD, "--overwrite", "-y"])?;
        Self::with_namespaces(cluster)
    }

    /// An install without a revision and a canary, by their manifests: so no installer has made a tag, and the injector of the
    /// install is the default by itself.
    pub fn of_manifests() -> Result<Self> {
        let cluster = Cluster::start(&Options::default())?;
        cluster.install(&Revision::unrevisioned(IstioVersion::V1_26_0).by_manifests().set("values.defaultRevision=default"))?;
        cluster.install(&Revision::of(IstioVersion::V1_28_2).by_manifests())?;
        Self::with_namespaces(cluster)
    }

    fn with_namespaces(cluster: Cluster) -> Result<Self> {
        let world = Self { cluster, enabled: "enabled", unlabelled: "unlabelled" };
        world.cluster.namespace(world.enabled, Follows::Injection)?;
        world.cluster.namespace(world.unlabelled, Follows::Nothing)?;
        world.cluster.namespace("follows-default", Follows::Revision("default"))?;
        world.cluster.namespace("follows-new", Follows::Revision(NEW))?;
        world.cluster.wait_for_validators()?;
        Ok(world)
    }

    /// What new pods get who say no revision: in a namespace with `istio-injection=enabled`, in one that follows `default`,
    /// and where they ask for themselves in one that says nothing.
    fn defaults(&self) -> Result<[Option<String>; 3]> {
        let asking = Workload::pod("asking").pod_labels(json!({"sidecar.istio.io/inject": "true"}));
        Ok([
            revision_of_a_new_pod(&self.cluster.namespace_named(self.enabled))?,
            revision_of_a_new_pod(&self.cluster.namespace_named("follows-default"))?,
            revision_of(&self.cluster.namespace_named(self.unlabelled), &asking)?,
        ])
    }

    /// New pods get this revision by default, at once; whoever says a revision gets that one, and whoever says nothing none.
    fn injects(&self, default: &str) -> Result<()> {
        self.injects_one_of(&[default])
    }

    fn injects_one_of(&self, defaults: &[&str]) -> Result<()> {
        // Twice, because the API server learns of a webhook that has changed a moment later; the first look may still see the
        // state before, in which nobody went without either.
        for pause in [0, 500] {
            thread::sleep(Duration::from_millis(pause));
            let got = self.defaults()?;
            ensure!(got.iter().all(Option::is_some), "somebody gets no proxy: {got:?}");
            let is_one = |revision: &Option<String>| revision.as_deref().is_some_and(|name| defaults.contains(&name));
            ensure!(pause == 0 || got.iter().all(is_one), "new pods get {got:?}, not {defaults:?}");
            self.others_inject_as_ever()?;
            self.validates()?;
        }
        Ok(())
    }

    fn others_inject_as_ever(&self) -> Result<()> {
        let new = revision_of_a_new_pod(&self.cluster.namespace_named("follows-new"))?;
        ensure!(new.as_deref() == Some(NEW), "whoever follows {NEW} gets {new:?}");
        let plain = revision_of_a_new_pod(&self.cluster.namespace_named(self.unlabelled))?;
        ensure!(plain.is_none(), "a pod that asks for nothing gets {plain:?}");
        Ok(())
    }

    /// Good configuration is accepted, and bad configuration is refused by a validator of Istio.
    fn validates(&self) -> Result<()> {
        let service = |route: Value| {
            json!({
                "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                "metadata": {"name": "probe", "namespace": self.unlabelled},
                "spec": {"hosts": ["reviews"], "http": [route]},
            })
        };
        let path = format!("/apis/networking.istio.io/v1/namespaces/{}/virtualservices?dryRun=All", self.unlabelled);
        self.cluster
            .api()
            .create(&path, &service(json!({"route": [{"destination": {"host": "reviews"}}]})))
            .context("good configuration is refused")?;
        let Err(refused) = self.cluster.api().create(&path, &service(json!({"name": "to nowhere"}))) else {
            anyhow::bail!("bad configuration is accepted");
        };
        let why = format!("{refused:#}");
        ensure!(why.contains("admission webhook") && why.contains("validation.istio.io"), "{why}");
        Ok(())
    }

    /// The default validator and its revision.
    fn validator(&self) -> Result<Value> {
        self.cluster.api().get(&format!("{VALIDATORS}/istiod-default-validator"))
    }

    fn run(&self, words: &[&str]) -> Result<Output> {
        plugin("mesh-tag")?.on(&self.cluster).run(["mesh-tag"].iter().chain(words))
    }

    fn succeeds(&self, words: &[&str]) -> Result<Output> {
        let output = self.run(words)?;
        ensure!(output.code == Some(0), "{}", output.transcript());
        Ok(output)
    }
}

/// Without what the API server and istiod write by themselves.
fn as_written(objects: &[(String, Value)]) -> Vec<(String, Value)> {
    let mut objects = objects.to_vec();
    for (_, object) in &mut objects {
        for field in ["resourceVersion", "generation", "managedFields", "uid", "creationTimestamp"] {
            object["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
        }
        // The note that the last move was taken back stays, and nobody acts on it.
        let metadata = object["metadata"].as_object_mut();
        if let Some(annotations) = metadata.and_then(|metadata| metadata.get_mut("annotations")) {
            annotations.as_object_mut().map(|annotations| annotations.remove("kubectl-mesh/history"));
            if *annotations == json!({}) {
                *annotations = Value::Null;
            }
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.retain(|_, value| !value.is_null());
        }
        for entry in object["webhooks"].as_array_mut().into_iter().flatten() {
            // istiod closes a validator when it has seen it refuse.
            entry["failurePolicy"] = Value::Null;
        }
    }
    objects
}

fn difference(before: &[(String, Value)], after: &[(String, Value)]) -> String {
    let only = |one: &[(String, Value)], other: &[(String, Value)]| {
        let lines = one.iter().filter(|item| !other.contains(item)).map(|(path, object)| format!("{path}: {object}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    format!("before:\n{}\nafter:\n{}", only(before, after), only(after, before))
}

/// Declined, failed, set, undone, set again, removed.
fn round(world: &World, before: &str, set: &[&str]) -> Result<()> {
    world.injects(before).context("before all")?;
    let untouched = as_written(&Saved::of_all(&world.cluster)?.objects);
    let is_untouched = |step: &str| -> Result<()> {
        let now = as_written(&Saved::of_all(&world.cluster)?.objects);
        ensure!(now == untouched, "{step}: {}", difference(&untouched, &now));
        world.injects(before).with_context(|| step.to_owned())
    };

    let words = set.join(" ");
    let declined =
        Session::stdin(plugin("mesh-tag")?.on(&world.cluster), "n\n").terminal(&format!("kubectl mesh-tag {words}"))?;
    ensure!(declined.code == Some(4) && declined.stdout.contains("[y/N]"), "{}", declined.transcript());
    is_untouched("answered no")?;

    let unanswered = world.run(set)?;
    ensure!(unanswered.code == Some(4) && unanswered.stderr.contains("--yes"), "{}", unanswered.transcript());
    is_untouched("nobody to answer")?;

    let mut set = set.to_vec();
    set.push("--yes");
    let front = Interceptor::before(&world.cluster, |_| Fate::Pass)?;
    // Refused, or answered by somebody else who has done nothing.
    let fates = [Fate::Status(422), Fate::Answer(r#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#)];
    for (number, fate) in (0..).flat_map(|number| fates.map(|fate| (number, fate))) {
        // Only the first try of that write fails: the API server is well again when it is put back.
        let writes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&writes);
        let interceptor = front.beside(move |call| {
            let fails = call.is_write() && count.fetch_add(1, Ordering::SeqCst) == number;
            if fails { fate } else { Fate::Pass }
        })?;
        let failed = plugin("mesh-tag")?.through(&interceptor)?.run(["mesh-tag"].iter().chain(&set))?;
        if writes.load(Ordering::SeqCst) <= number {
            ensure!(number > 1 && failed.code == Some(0), "{}", failed.transcript());
            break;
        }
        ensure!(failed.code == Some(1), "{}", failed.transcript());
        is_untouched(&format!("failed at write {number}: {}", failed.transcript()))?;
    }
    world.injects(NEW).context("set")?;
    TagObjects::of(&world.cluster, "default")?.is_whole(Some(NEW))?;
    ensure!(world.validator()?["metadata"]["labels"]["istio.io/rev"] == NEW, "{}", world.validator()?);

    world.succeeds(&["undo", "default", "--yes"])?;
    is_untouched("undone")?;

    world.succeeds(&set)?;
    world.injects(NEW).context("set again")?;
    let refused = world.run(&["remove", "default", "--yes"])?;
    ensure!(refused.code == Some(4), "{}", refused.transcript());
    for follower in ["namespaces/enabled", "namespaces/follows-default"] {
        ensure!(refused.stderr.contains(follower), "{follower} is not named: {}", refused.transcript());
    }
    world.injects(NEW).context("not removed")
}

#[test]
fn between_revisions_the_default_is_never_without() -> Result<()> {
    let world = World::of_revisions()?;
    round(&world, OLD, &["set", "default", "--revision", NEW, "--from", OLD])?;
    // Everybody finds another revision, and then it may go.
    world.succeeds(&["attach", NEW, "enabled", "follows-default", "--overwrite"])?;
    world.succeeds(&["remove", "default", "--yes"])?;
    TagObjects::of(&world.cluster, "default")?.is_whole(None)?;
    for name in ["enabled", "follows-default"] {
        let got = revision_of_a_new_pod(&world.cluster.namespace_named(name))?;
        assert_eq!(got.as_deref(), Some(NEW), "{name}");
    }
    world.others_inject_as_ever()?;
    world.validates().context("removed")
}

#[test]
fn over_an_install_without_a_revision_the_default_is_never_without() -> Result<()> {
    let world = World::of_manifests()?;
    let before = as_written(&Saved::of_all(&world.cluster)?.objects);
    round(&world, UNREVISIONED, &["set", "default", "--revision", NEW])?;
    world.succeeds(&["attach", NEW, "enabled", "follows-default", "--overwrite"])?;
    world.succeeds(&["remove", "default", "--yes"])?;
    // The injector and the validator of the install are what they were, so a namespace that says no revision has them again.
    let after = as_written(&Saved::of_all(&world.cluster)?.objects);
    ensure!(before == after, "{}", difference(&before, &after));
    let relabel = |name: &str, labels: Value| {
        world.cluster.api().patch(&format!("/api/v1/namespaces/{name}"), &json!({"metadata": {"labels": labels}}))
    };
    relabel("enabled", json!({"istio.io/rev": null, "istio-injection": "enabled"}))?;
    relabel("follows-default", json!({"istio.io/rev": "default"}))?;
    world.injects(UNREVISIONED).context("removed")
}

/// Everybody who says no revision, and the validator, at every moment of an interrupted command.
fn holds(world: &World) -> Result<()> {
    let got = world.defaults()?;
    ensure!(got.iter().all(Option::is_some), "somebody gets no proxy: {got:?}");
    world.others_inject_as_ever()?;
    world.validates()
}

#[test]
fn an_interrupted_move_between_revisions_leaves_nobody_without() -> Result<()> {
    let world = World::of_revisions()?;
    let set = Change {
        prepare: &[],
        command: &["set", "default", "--revision", NEW, "--overwrite", "--yes"],
        follows: "default",
        pods: [Some(OLD), Some(NEW)],
        tag: [Some(OLD), Some(NEW)],
    };
    let undo = Change {
        prepare: &[&["set", "default", "--revision", NEW, "--overwrite", "--yes"]],
        command: &["undo", "default", "--yes"],
        follows: "default",
        pods: [Some(NEW), Some(OLD)],
        tag: [Some(NEW), Some(OLD)],
    };
    for change in [set, undo] {
        let holds = || holds(&world);
        interrupt_default(&Stage::of_default(&world.cluster, &change, &holds)?).with_context(|| change.command.join(" "))?;
    }
    Ok(())
}

#[test]
fn an_interrupted_change_over_an_install_without_a_revision_leaves_nobody_without() -> Result<()> {
    let world = World::of_manifests()?;
    let before = Saved::of_all(&world.cluster)?;
    let set = Change {
        prepare: &[],
        command: &["set", "default", "--revision", NEW, "--yes"],
        follows: "default",
        pods: [Some(UNREVISIONED), Some(NEW)],
        tag: [None, Some(NEW)],
    };
    let undo = Change {
        prepare: &[&["set", "default", "--revision", NEW, "--yes"]],
        command: &["undo", "default", "--yes"],
        follows: "default",
        pods: [Some(NEW), Some(UNREVISIONED)],
        tag: [Some(NEW), None],
    };
    for change in [set, undo] {
        let holds = || holds(&world);
        interrupt_default(&Stage::of_default(&world.cluster, &change, &holds)?).with_context(|| change.command.join(" "))?;
        before.restore(&world.cluster)?;
    }
    Ok(())
}
