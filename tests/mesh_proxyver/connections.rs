//! Clusters that cannot be reached, do not answer, or answer badly.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use support::{Cluster, Fate, Follows, Interceptor, Options, Output, Workload, kubeconfig, plugin};

use crate::snapshots::check;

/// Ends with an error that says all of these, and with nothing on stdout.
fn fails_saying(output: &Output, words: &[&str]) {
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{}", output.transcript());
    for word in words {
        assert!(output.stderr.contains(word), "{word:?} is missing:\n{}", output.transcript());
    }
    assert!(output.stderr.lines().count() <= 3, "{}", output.transcript());
}

#[test]
fn no_kubeconfig_and_no_cluster_are_told_in_two_lines() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    fails_saying(&session.run(["mesh-proxyver"])?, &["there is no kubeconfig", "kubectl config get-contexts"]);
    // Port 1 of loopback: nobody listens there.
    let nobody = session.run(["mesh-proxyver", "-A", "--server", "http://127.0.0.1:1"])?;
    fails_saying(&nobody, &["listing", "unable to connect to the server", "onnection refused"]);
    Ok(())
}

#[test]
fn wrong_contexts_users_and_tokens_are_named() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-proxyver")?.on(cluster);
    fails_saying(&session.run(["mesh-proxyver", "--context", "nope"])?, &["context \"nope\" does not exist", "there are "]);
    fails_saying(&session.run(["mesh-proxyver", "--user", "nope"])?, &["user \"nope\" does not exist"]);
    fails_saying(&session.run(["mesh-proxyver", "--cluster", "nope"])?, &["cluster \"nope\" does not exist"]);
    fails_saying(&session.run(["mesh-proxyver", "--kubeconfig", "nowhere"])?, &["cannot read nowhere"]);
    let expired = session.run(["mesh-proxyver", "-A", "--token", "expired"])?;
    fails_saying(&expired, &["the server does not accept your credentials", "log in again"]);
    Ok(())
}

#[test]
fn a_list_of_kubeconfigs_may_name_files_that_do_not_exist() -> Result<()> {
    let cluster = Cluster::shared()?;
    let files = format!("nowhere:{}:", cluster.kubeconfig_file().display());
    let output = plugin("mesh-proxyver")?.env("KUBECONFIG", files).run(["mesh-proxyver", "-n", "kube-public"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    Ok(())
}

#[test]
fn several_contexts_make_one_table_and_one_that_fails_is_told() -> Result<()> {
    let cluster = Cluster::shared()?;
    let fleet = cluster.namespace("fleet", Follows::Revision("1-28-2"))?;
    fleet.run(&Workload::deployment("web"))?;
    let session = plugin("mesh-proxyver")?;
    let file = session.home().join("fleet");
    let mut one = cluster.kubeconfig().clone();
    "one".clone_into(&mut one.context);
    let mut two = one.clone();
    "two".clone_into(&mut two.context);
    let mut dead = one.clone();
    "dead".clone_into(&mut dead.context);
    "https://127.0.0.1:1".clone_into(&mut dead.server);
    kubeconfig::write(&file, &[one, two, dead])?;
    let session = session.kubeconfig(&file);
    let both = session.run(["mesh-proxyver", "-n", "fleet", "--context", "one", "--context", "two"])?;
    check("fleet", &both);
    let with_dead = session.run(["mesh-proxyver", "-n", "fleet", "--context", "one,dead", "-o", "name"])?;
    assert_eq!((with_dead.code, with_dead.stdout.as_str()), (Some(1), "deployment.apps/web\n"), "{}", with_dead.transcript());
    assert!(with_dead.stderr.contains("error: dead: "), "{}", with_dead.transcript());
    Ok(())
}

#[test]
fn a_cluster_without_a_mesh_gives_an_empty_table() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let session = plugin("mesh-proxyver")?.on(&cluster);
    check("no_mesh", &session.run(["mesh-proxyver", "-A"])?);
    check("no_mesh_in_a_namespace", &session.run(["mesh-proxyver"])?);
    let json = session.run(["mesh-proxyver", "-A", "-o", "json"])?.json()?;
    assert_eq!((&json["items"], &json["findings"]), (&json!([]), &json!([])));
    Ok(())
}

#[test]
fn names_that_are_nowhere_are_errors() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-proxyver")?.on(cluster);
    fails_saying(
        &session.run(["mesh-proxyver", "-A", "--revision", "1-99-0"])?,
        &["revision \"1-99-0\" is not here", "1-26-0, 1-28-2"],
    );
    fails_saying(&session.run(["mesh-proxyver", "deploy/nope", "-n", "kube-public"])?, &["deployment \"nope\" not found"]);
    let usage = session.run(["mesh-proxyver", "a/b/c"])?;
    assert_eq!(usage.code, Some(2), "{}", usage.transcript());
    Ok(())
}

#[test]
fn a_server_that_says_nothing_is_given_up() -> Result<()> {
    let interceptor = Interceptor::alone(|_| Fate::Silence)?;
    let session = plugin("mesh-proxyver")?.through(&interceptor)?;
    let started = Instant::now();
    fails_saying(&session.run(["mesh-proxyver", "-A", "--request-timeout", "2s"])?, &["did not answer within --request-timeout"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    Ok(())
}

#[test]
fn a_server_that_is_always_busy_is_given_up() -> Result<()> {
    let interceptor = Interceptor::alone(|_| Fate::Status(503))?;
    let session = plugin("mesh-proxyver")?.through(&interceptor)?;
    fails_saying(&session.run(["mesh-proxyver", "-A"])?, &["the server answered 503"]);
    let pods = interceptor.requests().iter().filter(|request| request.contains("/api/v1/pods")).count();
    assert_eq!(pods, 4, "one try and three more");
    Ok(())
}

#[test]
fn a_list_that_breaks_in_the_middle_is_never_taken_for_whole() -> Result<()> {
    let cluster = Cluster::shared()?;
    let spoil = cluster.namespace("spoil", Follows::Revision("1-26-0"))?;
    spoil.run(&Workload::deployment("web").replicas(3))?;
    for fate in [Fate::Stall, Fate::Cut] {
        let interceptor = Interceptor::before(cluster, move |call| {
            if call.target.starts_with("/api/v1/namespaces/spoil/pods") { fate } else { Fate::Pass }
        })?;
        let session = plugin("mesh-proxyver")?.through(&interceptor)?;
        let output = session.run(["mesh-proxyver", "-n", "spoil", "--request-timeout", "2s"])?;
        fails_saying(&output, &["listing pods in namespace spoil"]);
    }
    Ok(())
}

#[test]
fn a_moment_that_the_server_forgot_is_told_and_read_again() -> Result<()> {
    let cluster = Cluster::shared()?;
    let gone = cluster.namespace("gone", Follows::Revision("1-26-0"))?;
    gone.run(&Workload::deployment("web").replicas(5))?;
    // The first page comes, the second is gone; the second time all three come.
    let interceptor = Interceptor::with_pages(cluster, 2, |call| {
        let is_pods = call.target.starts_with("/api/v1/namespaces/gone/pods");
        if is_pods && call.of_path == 1 { Fate::Status(410) } else { Fate::Pass }
    })?;
    let session = plugin("mesh-proxyver")?.through(&interceptor)?;
    let output = session.run(["mesh-proxyver", "-n", "gone", "-o", "json"])?;
    let report = output.json()?;
    assert_eq!(report["items"][0]["proxies"], 5, "{}", output.transcript());
    assert_eq!(report["findings"][0]["code"], "list-restarted", "{}", output.transcript());
    let pages = interceptor.requests().iter().filter(|request| request.contains("/namespaces/gone/pods")).count();
    assert_eq!(pages, 5, "one page and one that is gone, then three: {:#?}", interceptor.requests());
    // A server that forgets again and again is an error, not an endless loop.
    let interceptor = Interceptor::with_pages(cluster, 2, |call| {
        let is_later_page = call.target.starts_with("/api/v1/namespaces/gone/pods") && call.target.contains("continue=");
        if is_later_page { Fate::Status(410) } else { Fate::Pass }
    })?;
    let session = plugin("mesh-proxyver")?.through(&interceptor)?;
    fails_saying(&session.run(["mesh-proxyver", "-n", "gone"])?, &["listing pods in namespace gone", "410 Gone"]);
    Ok(())
}

#[test]
fn broken_connections_are_tried_again() -> Result<()> {
    let cluster = Cluster::shared()?;
    let again = cluster.namespace("again", Follows::Revision("1-26-0"))?;
    again.run(&Workload::deployment("web"))?;
    let interceptor = Interceptor::before(cluster, |call| {
        let is_pods = call.target.starts_with("/api/v1/namespaces/again/pods");
        if is_pods && call.of_path < 2 { Fate::Close } else { Fate::Pass }
    })?;
    let session = plugin("mesh-proxyver")?.through(&interceptor)?;
    let report = session.run(["mesh-proxyver", "-n", "again", "-o", "json"])?.json()?;
    assert_eq!(report["items"][0]["state"], "current");
    Ok(())
}

#[test]
fn only_what_is_needed_is_asked_for() -> Result<()> {
    let cluster = Cluster::shared()?;
    let lean = cluster.namespace("lean", Follows::Revision("1-26-0"))?;
    lean.run(&Workload::deployment("web").replicas(2))?;
    let interceptor = Interceptor::before(cluster, |_| Fate::Pass)?;
    let session = plugin("mesh-proxyver")?.through(&interceptor)?;
    let output = session.run(["mesh-proxyver", "-n", "lean"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    let mut requests = interceptor.requests();
    requests.sort();
    insta::assert_snapshot!(requests.join("\n"), @r"
    GET /api/v1/namespaces/istio-system/configmaps/istio-1-26-0
    GET /api/v1/namespaces/istio-system/configmaps/istio-1-28-2
    GET /api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector-1-26-0
    GET /api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector-1-28-2
    GET /api/v1/namespaces/istio-system/services?&limit=500
    GET /api/v1/namespaces/lean
    GET /api/v1/namespaces/lean/pods?&limit=500
    GET /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?&limit=500
    GET /apis/apps/v1/deployments?&labelSelector=app%3Distiod&limit=500
    GET /apis/apps/v1/namespaces/lean/daemonsets?&limit=500
    GET /apis/apps/v1/namespaces/lean/deployments?&limit=500
    GET /apis/apps/v1/namespaces/lean/replicasets?&limit=500
    GET /apis/apps/v1/namespaces/lean/statefulsets?&limit=500
    GET /apis/argoproj.io/v1alpha1/namespaces/lean/rollouts?&limit=500
    GET /apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices?&limit=500
    GET /apis/networking.istio.io/v1beta1/proxyconfigs?&limit=500
    ");
    Ok(())
}
