//! A cluster with an old control plane, and workloads of all kinds that follow it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Follows, Installer, IstioVersion, Options, Output, Revision, Session, Workload, plugins};

/// The name of the new revision.
pub const NEW: &str = "1-28-2";

/// How namespaces follow the old revision, and move to the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// By its own name.
    Name,
    /// By `istio-injection=enabled`, and each moves to the new one's name.
    Injection,
    /// By `istio-injection=enabled`, and all move with the tag `default`.
    DefaultTag,
    /// By the tag `prod-stable`, which moves.
    Tag,
}

/// The cluster, and who follows.
pub struct World {
    pub cluster: Cluster,
    pub session: Session,
    /// The old revision's name.
    pub old: String,
    /// The namespaces.
    pub namespaces: Vec<String>,
    /// How they follow.
    pub following: Following,
    installer: Installer,
}

impl World {
    /// Installs the old revision, lets namespaces follow it, and runs workloads in them; `many` in each.
    pub fn new(old: &Revision, following: Following, namespaces: usize, many: usize) -> Result<World> {
        let cluster = Cluster::start(&Options::default())?;
        cluster.install(old)?;
        cluster.install_argo_rollouts()?;
        let session = plugins(&["mesh-upgrade", "mesh-tag", "mesh-proxyver"])?.on(&cluster);
        let session = session.with_istioctl(IstioVersion::V1_28_2)?.with_helm()?.time_limit(Duration::from_secs(600));
        let name = if old.istiod() == "istiod" { "default".to_owned() } else { old.istiod().replacen("istiod-", "", 1) };
        let names: Vec<String> = (0..namespaces).map(|number| format!("team-{number:02}")).collect();
        let world = World { cluster, session, old: name, namespaces: names, following, installer: old.installer };
        if following == Following::Tag {
            world.run(&["mesh-tag", "set", "prod-stable", "--revision", &world.old, "--yes"])?;
        }
        for namespace in &world.namespaces {
            let follows = match following {
                Following::Name => Follows::Revision(&world.old),
                Following::Injection | Following::DefaultTag => Follows::Injection,
                Following::Tag => Follows::Revision("prod-stable"),
            };
            let namespace = world.cluster.namespace(namespace, follows)?;
            for workload in workloads(many) {
                namespace.create(&workload)?;
            }
        }
        for namespace in &world.namespaces {
            for workload in workloads(many) {
                world.cluster.namespace_named(namespace).wait_until_rolled_out(&workload)?;
            }
        }
        Ok(world)
    }

    /// Runs a command through kubectl, which has to succeed.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        let output = self.session.run(words)?;
        ensure!(output.code == Some(0), "{}", output.transcript());
        Ok(output)
    }

    /// The new control plane, beside the old one: by Helm where Helm has installed the old one, and else from manifests.
    pub fn start(&self) -> Result<()> {
        let revision = Revision::of(IstioVersion::V1_28_2);
        let mut words = ["mesh-upgrade", "start", "--revision", NEW, "--yes"].map(str::to_owned).to_vec();
        if self.installer == Installer::Helm {
            words.extend(["--with", "helm", "--", "install"].map(str::to_owned));
            words.extend(revision.helm_arguments()?);
        } else {
            let file = self.session.home().join("manifests.yaml");
            fs::write(&file, revision.manifests(&self.cluster)?)?;
            words.extend(["-f".to_owned(), file.to_string_lossy().into_owned()]);
        }
        let running = self.session.start(words.iter().map(String::as_str))?;
        self.cluster.start_istiod_when_installed(&revision)?;
        let output = running.finish()?;
        ensure!(output.code == Some(0), "{}", output.transcript());
        Ok(())
    }

    /// The revisions of all proxies in a namespace, each once.
    pub fn revisions(&self, namespace: &str) -> Result<BTreeSet<String>> {
        let pods = self.cluster.namespace_named(namespace).pods()?;
        let living = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let revision = |pod: &Value| pod["metadata"]["annotations"]["istio.io/rev"].as_str().map(str::to_owned);
        Ok(living.filter_map(revision).collect())
    }

    /// Whether every proxy of every namespace is of this revision, by the pods themselves.
    pub fn all_run(&self, revision: &str) -> Result<()> {
        for namespace in &self.namespaces {
            let found = self.revisions(namespace)?;
            ensure!(found.iter().eq([revision]), "namespace {namespace} runs {found:?}, not {revision}");
        }
        Ok(())
    }

    /// How often each workload's template was changed: a restart more is one too many.
    pub fn generations(&self) -> Result<Vec<i64>> {
        let mut generations = Vec::new();
        for kind in ["deployments", "statefulsets", "daemonsets"] {
            let list = self.cluster.api().get(&format!("/apis/apps/v1/{kind}"))?;
            let items = list["items"].as_array().context("a list")?;
            let ours =
                items.iter().filter(|item| item["metadata"]["namespace"].as_str().is_some_and(|name| name.starts_with("team-")));
            generations.extend(ours.filter_map(|item| item["metadata"]["generation"].as_i64()));
        }
        Ok(generations)
    }
}

/// So many workloads, of all kinds in turn.
fn workloads(many: usize) -> Vec<Workload> {
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    let kind = |number: usize| {
        let name = |base: &str| format!("{base}-{number}");
        match number % 8 {
            0 => Workload::deployment(&name("web")).replicas(2),
            1 => Workload::stateful_set(&name("db")),
            2 => Workload::deployment(&name("api")),
            3 => Workload::daemon_set(&name("agent")),
            4 => Workload::rollout(&name("cart")),
            5 => Workload::stateful_set(&name("queue")).spec(on_delete.clone()),
            6 => Workload::replica_set(&name("legacy")),
            _ => Workload::deployment(&name("job-runner")),
        }
    };
    (0..many).map(kind).collect()
}
