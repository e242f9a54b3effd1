//! The test cluster itself: that it behaves as a cluster with Istio does, and that it leaves nothing behind.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::workload::proxy_image;
use support::{Cluster, Follows, IstioVersion, Options, Revision, Session, Workload};

#[test]
fn a_pod_gets_the_proxy_of_the_revision_that_its_namespace_follows() -> Result<()> {
    let cluster = Cluster::shared()?;
    for (revision, image) in [("1-26-0", "docker.io/istio/proxyv2:1.26.0"), ("1-28-2", "docker.io/istio/proxyv2:1.28.2")] {
        let namespace = cluster.namespace(&format!("follows-{revision}"), Follows::Revision(revision))?;
        let pod = namespace.dry_run(&Workload::pod("web"))?;
        assert_eq!(proxy_image(&pod), Some(image));
        assert_eq!(pod["metadata"]["annotations"]["istio.io/rev"], *revision);
        assert!(namespace.pods()?.is_empty(), "a dry run creates nothing");
    }
    let namespace = cluster.namespace("follows-nothing", Follows::Nothing)?;
    assert_eq!(proxy_image(&namespace.dry_run(&Workload::pod("web"))?), None);
    Ok(())
}

#[test]
fn a_restart_after_a_tag_has_moved_brings_the_new_proxy() -> Result<()> {
    let cluster = Cluster::shared()?;
    let [old, new] = [IstioVersion::V1_26_0, IstioVersion::V1_28_2].map(Revision::of);
    cluster.set_tag("moves", &old)?;
    let namespace = cluster.namespace("tag-moves", Follows::Revision("moves"))?;
    let web = Workload::deployment("web").replicas(2);
    namespace.run(&web)?;
    assert_eq!(namespace.proxy_images()?, ["docker.io/istio/proxyv2:1.26.0"; 2]);
    cluster.set_tag("moves", &new)?;
    assert_eq!(namespace.proxy_images()?, ["docker.io/istio/proxyv2:1.26.0"; 2]);
    cluster.kubectl(["-n", "tag-moves", "rollout", "restart", "deployment", "web"])?;
    namespace.wait_until_rolled_out(&web)?;
    assert_eq!(namespace.proxy_images()?, ["docker.io/istio/proxyv2:1.28.2"; 2]);
    Ok(())
}

#[test]
fn every_kind_of_workload_runs_with_a_proxy() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace("kinds", Follows::Revision("1-28-2"))?;
    let workloads = [
        Workload::deployment("deployment"),
        Workload::stateful_set("stateful-set").replicas(2),
        Workload::daemon_set("daemon-set"),
        Workload::replica_set("replica-set"),
        Workload::job("job"),
        Workload::pod("pod"),
        Workload::deployment("ingress").injected_gateway(),
        Workload::deployment("native").pod_annotations(json!({"sidecar.istio.io/nativeSidecar": "true"})),
    ];
    for workload in &workloads {
        namespace.run(workload)?;
    }
    assert_eq!(namespace.proxy_images()?, ["docker.io/istio/proxyv2:1.28.2"; 9]);
    namespace.run(&Workload::cron_job("cron-job"))?;
    namespace.run(&Workload::deployment("on-the-host").host_network())?;
    assert_eq!(namespace.proxy_images()?.len(), 9, "a CronJob that is not due has no pod, and the host's network gets no proxy");
    Ok(())
}

#[test]
fn a_pod_can_be_kept_from_getting_ready() -> Result<()> {
    let namespace = Cluster::shared()?.namespace("never-ready", Follows::Nothing)?;
    namespace.create(&Workload::deployment("web").never_ready())?;
    let phase = |pods: Vec<Value>| pods.first().map(|pod| (pod["status"]["phase"].clone(), pod["spec"]["nodeName"].clone()));
    Cluster::shared()?.wait("the pod to be scheduled", Duration::from_secs(10), || {
        Ok(phase(namespace.pods()?).filter(|(phase, node)| *phase == "Pending" && *node == "node-0"))
    })?;
    Ok(())
}

#[test]
fn a_gateway_of_the_gateway_api_gets_its_deployment() -> Result<()> {
    let namespace = Cluster::shared()?.namespace("edge", Follows::Nothing)?;
    namespace.gateway("edge", "istio", json!({"istio.io/rev": "1-28-2"}))?;
    assert_eq!(namespace.proxy_images()?, ["docker.io/istio/proxyv2:1.28.2"]);
    Ok(())
}

#[test]
fn an_argo_rollout_replaces_its_pods_when_asked() -> Result<()> {
    let cluster = Cluster::shared()?;
    cluster.install_argo_rollouts()?;
    let namespace = cluster.namespace("rollouts", Follows::Revision("1-28-2"))?;
    let web = Workload::rollout("web").replicas(2);
    namespace.run(&web)?;
    let names = || -> Result<Vec<Value>> { Ok(namespace.pods()?.iter().map(|pod| pod["metadata"]["name"].clone()).collect()) };
    let before = names()?;
    // It replaces what is older than `restartAt`, and both times are whole seconds.
    thread::sleep(Duration::from_secs(1));
    let now =
        cluster.kubectl(["create", "namespace", "now", "--dry-run=server", "-o", "jsonpath={.metadata.creationTimestamp}"])?;
    cluster.api().patch("/apis/argoproj.io/v1alpha1/namespaces/rollouts/rollouts/web", &json!({"spec": {"restartAt": now}}))?;
    cluster.wait("the Rollout to have new pods", Duration::from_secs(30), || {
        let after = names()?;
        Ok((after.len() == 2 && after.iter().all(|name| !before.contains(name))).then_some(()))
    })
}

#[test]
fn a_kubeconfig_can_have_few_rights() -> Result<()> {
    let cluster = Cluster::shared()?;
    let config = cluster.kubeconfig_for("reads-pods", json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]))?;
    let session = Session::new()?;
    let file = session.home().join("kubeconfig");
    config.write(&file)?;
    let session = session.kubeconfig(&file);
    assert_eq!(session.run(["auth", "can-i", "list", "pods", "-A"])?.stdout, "yes\n");
    let refused = session.run(["get", "services"])?;
    assert_eq!(
        refused.transcript(),
        "$ kubectl get services\nexit code 1\n--- stderr\n\
         Error from server (Forbidden): services is forbidden: User \"system:serviceaccount:default:reads-pods\" \
         cannot list resource \"services\" in API group \"\" in the namespace \"default\"\n"
    );
    Ok(())
}

#[test]
fn a_session_runs_pipelines_and_terminals() -> Result<()> {
    let session = Session::new()?.on(Cluster::shared()?);
    assert_eq!(session.shell("kubectl get ns default -o name | cat")?.stdout, "namespace/default\n");
    assert_eq!(session.shell("kubectl get nothing 2>/dev/null | cat")?.code, Some(1));
    assert_eq!(session.terminal("tput cols; test -t 1 && echo yes")?.stdout, "120\nyes\n");
    let mut watch = session.start(["get", "namespaces", "-w"])?;
    watch.wait_for("istio-system")?;
    watch.interrupt()?;
    let ended = watch.finish()?;
    assert!(ended.code != Some(0) && ended.stdout.contains("istio-system"), "{}", ended.transcript());
    Ok(())
}

#[test]
fn a_revision_can_be_upgraded_in_place_crash_and_be_removed() -> Result<()> {
    let cluster = Cluster::start(&Options { gateway_api: false, ..Options::default() })?;
    let old = Revision::new("stays", IstioVersion::V1_26_0);
    let new = Revision::new("stays", IstioVersion::V1_28_2);
    let namespace = cluster.namespace("shop", Follows::Revision("stays"))?;
    let image = || -> Result<Option<String>> { Ok(proxy_image(&namespace.dry_run(&Workload::pod("web"))?).map(str::to_owned)) };
    cluster.install(&old)?;
    assert_eq!(image()?.as_deref(), Some("docker.io/istio/proxyv2:1.26.0"));
    cluster.install(&new)?;
    assert_eq!(image()?.as_deref(), Some("docker.io/istio/proxyv2:1.28.2"));

    cluster.stop_istiod(&new);
    let refused = image().err().context("no istiod answers, so the pod is refused")?;
    assert!(format!("{refused:#}").contains("failed calling webhook"), "{refused:#}");
    cluster.start_istiod(&new)?;
    assert_eq!(image()?.as_deref(), Some("docker.io/istio/proxyv2:1.28.2"));

    cluster.uninstall(&new)?;
    assert_eq!(image()?, None);
    Ok(())
}

#[test]
fn helm_the_unrevisioned_install_and_another_namespace_work_too() -> Result<()> {
    let cluster = Cluster::start(&Options { gateway_api: false, ..Options::default() })?;
    let helm = Revision::new("helm-1", IstioVersion::V1_28_2).by_helm();
    cluster.install(&helm)?;
    cluster.install(&Revision::unrevisioned(IstioVersion::V1_28_2))?;
    let aks = Revision::new("asm-1-28", IstioVersion::V1_28_2)
        .namespace("aks-istio-system")
        .set("hub=mcr.microsoft.com/oss/istio")
        .set("tag=1.28.2-distroless");
    cluster.install(&aks)?;
    let check = |name: &str, follows: Follows<'_>, expected: &str| -> Result<()> {
        let pod = cluster.namespace(name, follows)?.dry_run(&Workload::pod("web"))?;
        assert_eq!(proxy_image(&pod), Some(expected), "{name}");
        Ok(())
    };
    check("helm", Follows::Revision("helm-1"), "docker.io/istio/proxyv2:1.28.2")?;
    check("plain", Follows::Injection, "docker.io/istio/proxyv2:1.28.2")?;
    check("aks", Follows::Revision("asm-1-28"), "mcr.microsoft.com/oss/istio/proxyv2:1.28.2-distroless")?;
    cluster.uninstall(&helm)
}

#[test]
fn a_dropped_cluster_leaves_nothing() -> Result<()> {
    let cluster = Cluster::start(&Options { gateway_api: false, ..Options::default() })?;
    let (processes, folder) = (cluster.processes(), cluster.folder().to_owned());
    assert_eq!(
        processes.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(),
        ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"]
    );
    drop(cluster);
    for (id, name) in processes {
        assert!(!runs(id), "{name} still runs");
    }
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn the_command_brings_a_cluster_up_and_down() -> Result<()> {
    let state = tempfile::tempdir()?;
    let cluster = |words: &[&str]| -> Result<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_cluster")).args(words).env("XDG_STATE_HOME", state.path()).output()?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let usage = cluster(&["up", "--istio", ""])?;
    assert!(usage.starts_with("export KUBECONFIG=/"), "{usage}");
    assert_eq!(cluster(&["status"])?, usage);
    assert_eq!(cluster(&["up"])?, usage);
    let processes = recorded(&state.path().join("kubectl-mesh/state.json"))?;
    assert_eq!(processes.len(), 6);
    cluster(&["down"])?;
    for id in processes {
        assert!(!runs(id), "process {id} still runs");
    }
    assert!(!kubeconfig(&usage).exists());
    cluster(&["down"])?;
    Ok(())
}

#[test]
fn a_killed_owner_takes_its_processes_along() -> Result<()> {
    let state = tempfile::tempdir()?;
    let record = state.path().join("kubectl-mesh/state.json");
    fs::create_dir(state.path().join("kubectl-mesh"))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.args(["serve", "--istio", ""]).env("XDG_STATE_HOME", state.path()).stdin(Stdio::null());
    support::process::ends_with_its_thread(&mut command);
    let mut owner = command.spawn()?;
    wait_until("the cluster is up", || record.exists())?;
    let processes = recorded(&record)?;
    owner.kill()?;
    owner.wait()?;
    wait_until("all its processes are gone", || !processes.iter().any(|id| runs(*id)))
}

fn recorded(state: &Path) -> Result<Vec<u32>> {
    let state: Value = serde_json::from_slice(&fs::read(state)?)?;
    let id = |value: &Value| value["id"].as_u64().and_then(|id| u32::try_from(id).ok()).context("an id");
    state["processes"].as_array().context("processes")?.iter().chain([&state]).map(id).collect()
}

fn kubeconfig(usage: &str) -> PathBuf {
    let line = usage.lines().next().unwrap_or_default();
    PathBuf::from(line.trim_start_matches("export KUBECONFIG="))
}

/// A zombie runs no more: who started it has yet to look, that is all.
fn runs(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_until(what: &str, done: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        ensure!(start.elapsed() < Duration::from_secs(60), "waited 60 s until {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
