//! Waves and gates: what is restarted together, in which order, and what may end it between two of them.

use anyhow::{Result, ensure};
use support::{Cluster, Follows, Output, Workload, plugin};

#[test]
fn shares_are_counted_gateways_come_last_and_a_gate_is_looked_at_before_anything_is_restarted() -> Result<()> {
    let cluster = Cluster::shared()?;
    let shop = cluster.namespace("waves-shop", Follows::Revision("1-26-0"))?;
    // Its name comes first, and nothing but its proxy says that it is a gateway.
    shop.run(&Workload::deployment("aaa").injected_gateway())?;
    for name in ["web-1", "web-2", "web-3"] {
        shop.run(&Workload::deployment(name))?;
    }
    cluster.namespace("waves-shop", Follows::Revision("1-28-2"))?;
    let session = plugin("mesh-upgrade")?.on(cluster);
    let restart =
        |flags: &[&str]| -> Result<Output> { session.run(["mesh-upgrade", "restart", "-n", "waves-shop"].iter().chain(flags)) };
    let tells = |output: &Output, code: i32, told: &[&str]| -> Result<()> {
        let all = format!("{}{}", output.stdout, output.stderr);
        let missing: Vec<&&str> = told.iter().filter(|told| !all.contains(**told)).collect();
        ensure!(output.code == Some(code) && missing.is_empty(), "{missing:?} in {}", output.transcript());
        Ok(())
    };

    let plain = restart(&["--dry-run"])?;
    tells(&plain, 0, &["wave 1 of 2: waves-shop (3 workloads)", "Gateways are restarted last, in a wave of their own"])?;
    ensure!(
        plain.stdout.contains("wave 2 of 2: gateways (1 workload) (dry run)\n  deployment.apps/aaa"),
        "{}",
        plain.transcript()
    );
    let half = restart(&["--dry-run", "--percent", "25%,50"])?;
    let told = ["wave 1 of 2: 25% (1 workload)", "wave 2 of 2: 50% (1 workload)", "2 of 4 workloads are in no wave: add 100"];
    tells(&half, 0, &told)?;
    tells(&restart(&["--dry-run", "--percent", "50,10"])?, 2, &["larger than the one before: 10,50"])?;

    for gate in ["./nonexistent", "sleep 1; no-such-program --fast", "if true"] {
        // Nobody is asked: what cannot be run is an error before the question.
        let refused = restart(&["--percent", "10,100", "--gate", gate])?;
        tells(&refused, 1, &["cannot be run", "nothing was restarted"])?;
        ensure!(!refused.stderr.contains("Restart 4 workloads"), "{}", refused.transcript());
    }
    tells(&restart(&["--dry-run", "--wave", "1", "--gate", "true"])?, 0, &["the gate is not run"])?;

    let done = restart(&["--percent", "10,100", "--gate", "echo $MESH_WAVE >> gates", "--yes"])?;
    tells(
        &done,
        0,
        &["wave 1 of 3: 10% (1 workload)", "wave 2 of 3: 100% (2 workloads)", "wave 3 of 3: 100%, gateways (1 workload)"],
    )?;
    ensure!(std::fs::read_to_string(session.home().join("gates"))? == "1\n2\n", "{}", done.transcript());
    Ok(())
}

#[test]
fn what_is_named_and_is_not_there_is_an_error_that_says_where_it_was_looked_for() -> Result<()> {
    let cluster = Cluster::shared()?;
    let shop = cluster.namespace("named-shop", Follows::Revision("1-26-0"))?;
    shop.run(&Workload::deployment("web"))?;
    shop.run(&Workload::deployment("optout").pod_labels(serde_json::json!({"sidecar.istio.io/inject": "false"})))?;
    cluster.namespace("named-shop", Follows::Revision("1-28-2"))?;
    let session = support::plugins(&["mesh-upgrade", "mesh-proxyver"])?.on(cluster);
    let check = |line: &str, code: i32, told: &str| -> Result<()> {
        let output = session.run(line.split(' '))?;
        let all = format!("{}{}", output.stdout, output.stderr);
        ensure!(output.code == Some(code) && all.contains(told), "no {told:?} in {}", output.transcript());
        Ok(())
    };
    check("mesh-upgrade restart -n shoop --yes", 1, "namespaces \"shoop\" not found")?;
    check("mesh-upgrade plan -n shoop", 1, "namespaces \"shoop\" not found")?;
    check("mesh-proxyver -n shoop --stale --exit-code", 1, "namespaces \"shoop\" not found")?;
    check("mesh-upgrade restart -n named-shop -i istio-sytem --yes", 1, "control planes are in istio-system")?;
    check("mesh-upgrade restart -n named-shop -l app=nothing --yes", 1, "no workload of the mesh in namespace named-shop")?;
    check("mesh-upgrade restart -A -n named-shop --yes", 2, "namespace")?;
    check("mesh-upgrade restart deploymnt/web -n named-shop --yes", 1, "the server doesn't have a resource type \"deploymnt\"")?;
    check("mesh-upgrade restart deploy/nope -n named-shop --yes", 1, "deployment/nope -n named-shop not found")?;
    let outside = "not in the mesh: its pod label sidecar.istio.io/inject=false";
    check("mesh-upgrade restart deploy optout -n named-shop --yes", 1, outside)?;
    check("mesh-proxyver deploy/optout -n named-shop", 0, outside)?;
    check("mesh-proxyver web -n named-shop", 1, "the server doesn't have a resource type \"web\"")?;
    let pods = shop.pods()?;
    let web = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).find(|name| name.starts_with("web-"));
    check(&format!("mesh-proxyver {} -n named-shop", web.unwrap_or_default()), 0, web.unwrap_or("a pod"))?;
    check("mesh-upgrade restart deploy web -n named-shop --dry-run", 0, "deployment.apps/web -n named-shop")?;
    check("mesh-upgrade restart deployment -n named-shop --dry-run", 0, "deployment.apps/web -n named-shop")
}
