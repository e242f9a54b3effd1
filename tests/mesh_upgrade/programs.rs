//! Programs that we run reach the cluster that was looked at, and no other, and take nothing along that nobody named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, IstioVersion, Options, Output, Program, Revision, Session, plugin, plugins};

/// Variables that would lead a program elsewhere.
const MISLEADING: [(&str, &str); 9] = [
    ("HELM_KUBECONTEXT", "prod"),
    ("HELM_KUBEAPISERVER", "http://127.0.0.1:9"),
    ("HELM_KUBETOKEN", "another"),
    ("HELM_KUBEASUSER", "another"),
    ("HELM_KUBECAFILE", "/nowhere"),
    ("HELM_NAMESPACE", "elsewhere"),
    ("ISTIOCTL_CONTEXT", "prod"),
    ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
    ("KUBERNETES_SERVICE_PORT", "9"),
];

const REMOVE: [&str; 4] = ["mesh-upgrade", "complete", "--remove", "1-26-0"];

/// Puts a program on PATH that writes down how it is called, and then does this.
fn stand_in(session: &Session, name: &str, script: &str) -> Result<PathBuf> {
    let records = session.home().join("records");
    fs::create_dir_all(&records)?;
    let text = format!(
        "#!/bin/bash\nrecord={}/$(date +%s%N)\nprintf '%s\\n' \"$*\" > $record.words\nenv > $record.environment\n\
         cp \"$KUBECONFIG\" $record.kubeconfig\nstat -c '%a %n' \"$KUBECONFIG\" \"$(dirname \"$KUBECONFIG\")\" > $record.modes\n\
         echo $PPID > {}/parent\n{script}\n",
        records.display(),
        session.home().display()
    );
    let path = session.home().join("bin").join(name);
    let _ = fs::remove_file(&path);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(records)
}

/// How it was called each time.
fn recorded(records: &Path, what: &str) -> Result<Vec<String>> {
    let mut files: Vec<PathBuf> = fs::read_dir(records)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == what));
    files.sort();
    files.iter().map(|file| Ok(fs::read_to_string(file)?)).collect()
}

/// A kubeconfig of two clusters in which nobody listens; `prod` is the current one.
fn two_that_are_not_there(session: &Session) -> Result<PathBuf> {
    let file = session.home().join("two");
    let named = |name: &str, port: u16| {
        (
            json!({"name": name, "cluster": {"server": format!("https://127.0.0.1:{port}"), "tls-server-name": format!("{name}.example")}}),
            json!({"name": name, "context": {"cluster": name, "user": name, "namespace": format!("{name}-place")}}),
            json!({"name": name, "user": {"token": format!("token-of-{name}")}}),
        )
    };
    let (prod, staging) = (named("prod", 7), named("staging", 8));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "prod", "clusters": [prod.0, staging.0],
        "contexts": [prod.1, staging.1], "users": [prod.2, staging.2],
    });
    fs::write(&file, config.to_string())?;
    Ok(file)
}

/// A session whose istioctl renders nothing, on clusters that are not there.
fn rendering(script: &str) -> Result<(Session, PathBuf)> {
    let session = plugin("mesh-upgrade")?;
    let records = stand_in(&session, "istioctl", script)?;
    let file = two_that_are_not_there(&session)?;
    let session = MISLEADING.iter().fold(session.kubeconfig(&file), |session, (name, value)| session.env(name, value));
    // Where the private file lies, so that a test can see that nothing is left.
    let runtime = session.home().join("runtime");
    fs::create_dir_all(&runtime)?;
    Ok((session.env("XDG_RUNTIME_DIR", runtime), records))
}

const START: [&str; 4] = ["mesh-upgrade", "start", "--revision", "1-28-2"];
const ISTIOCTL: [&str; 6] = ["--with", "istioctl", "--", "install", "-y", "--set=revision=1-28-2"];

fn left(session: &Session) -> Result<usize> {
    Ok(fs::read_dir(session.home().join("runtime"))?.count())
}

#[test]
fn a_program_is_given_exactly_what_was_resolved() -> Result<()> {
    let (session, records) = rendering("")?;
    fs::write(session.home().join("token"), "t")?;
    let typed = [
        "--cluster",
        "staging",
        "--server",
        "https://127.0.0.1:10",
        "--insecure-skip-tls-verify",
        "--token",
        "typed",
        "--as",
        "eve",
        "--as-group",
        "a",
        "--as-user-extra",
        "k=v",
    ];
    let output = session.run(START.iter().chain(&typed).chain(&ISTIOCTL))?;
    // What the stand-in renders is no control plane.
    ensure!(output.code == Some(4), "{}", output.transcript());
    let kubeconfigs = recorded(&records, "kubeconfig")?;
    ensure!(kubeconfigs.len() == 2, "{}", output.transcript());
    for text in &kubeconfigs {
        let config: Value = serde_json::from_str(text)?;
        let expected = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "prod",
            "clusters": [{"name": "staging", "cluster": {"server": "https://127.0.0.1:10", "insecure-skip-tls-verify": true}}],
            "contexts": [{"name": "prod", "context": {"cluster": "staging", "user": "prod", "namespace": "prod-place"}}],
            "users": [{"name": "prod", "user":
                {"token": "typed", "as": "eve", "as-groups": ["a"], "as-user-extra": {"k": ["v"]}}}],
        });
        ensure!(config == expected, "{config:#}");
    }
    for environment in recorded(&records, "environment")? {
        for (name, _) in MISLEADING {
            ensure!(!environment.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}: {environment}");
        }
    }
    for modes in recorded(&records, "modes")? {
        let modes: Vec<&str> = modes.lines().filter_map(|line| line.split(' ').next()).collect();
        ensure!(modes == ["600", "700"], "{modes:?}");
    }
    let words = recorded(&records, "words")?;
    ensure!(words == ["version --remote=false\n", "manifest generate --set=revision=1-28-2\n"], "{words:?}");
    ensure!(left(&session)? == 0, "the private file is left");
    Ok(())
}

#[test]
fn a_context_that_is_chosen_meanwhile_changes_nothing() -> Result<()> {
    let (session, records) =
        rendering("kubectl config use-context staging > /dev/null; kubectl --kubeconfig $HOME/two config use-context staging")?;
    let output = session.run(START.iter().chain(&ISTIOCTL))?;
    ensure!(output.code == Some(4), "{}", output.transcript());
    let (first, second) = (recorded(&records, "kubeconfig")?[0].clone(), recorded(&records, "kubeconfig")?[1].clone());
    ensure!(fs::read_to_string(session.home().join("two"))?.contains("current-context: staging"), "it was not chosen");
    for text in [&first, &second] {
        let config: Value = serde_json::from_str(text).context("the program has changed a file of its own")?;
        ensure!(config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:7", "{config:#}");
    }
    Ok(())
}

#[test]
fn what_chooses_another_cluster_behind_the_dashes_is_refused_before_anything_is_run() -> Result<()> {
    let (session, records) = rendering("")?;
    stand_in(&session, "helm", "")?;
    let check = |program: &str, words: &[&str]| -> Result<()> {
        let front = START.iter().copied().chain(["--with", program, "--"]);
        let output = session.run(front.chain(words.iter().copied()))?;
        ensure!(output.code == Some(2), "{}", output.transcript());
        ensure!(output.stderr.contains("would lead"), "{}", output.transcript());
        Ok(())
    };
    for flag in [
        &["--kube-context", "prod"][..],
        &["--kube-context=prod"],
        &["--kubeconfig=/x"],
        &["--kube-apiserver", "x"],
        &["--kube-token=x"],
    ] {
        check("helm", &[&["upgrade", "istiod", "./chart"], flag].concat())?;
    }
    for flag in [&["--context", "prod"][..], &["-c", "/x"], &["-c/x"], &["-yc", "/x"], &["--kubeconfig=/x"], &["--as=x"]] {
        check("istioctl", &[&["install"], flag].concat())?;
    }
    ensure!(recorded(&records, "words")?.is_empty(), "a program was run");
    Ok(())
}

#[test]
fn a_connection_that_a_program_cannot_be_given_is_refused_before_anything_is_run() -> Result<()> {
    let (session, records) = rendering("")?;
    let output = session.run(START.iter().chain(&["--server", "http://127.0.0.1:7"]).chain(&ISTIOCTL))?;
    ensure!(output.code == Some(4), "{}", output.transcript());
    ensure!(
        output.stderr.contains("its server has no TLS") && output.stderr.contains("nothing was changed"),
        "{}",
        output.transcript()
    );
    ensure!(recorded(&records, "words")?.is_empty(), "a program was run");
    ensure!(left(&session)? == 0, "a private file is left");
    Ok(())
}

#[test]
fn a_signal_ends_the_program_and_removes_what_it_was_given() -> Result<()> {
    let (session, records) = rendering("[ \"$1\" = version ] || { echo $$ > $HOME/child; sleep 60; }")?;
    for (signal, times) in [("INT", 1), ("TERM", 1), ("HUP", 1), ("TERM", 2)] {
        for file in ["child", "parent"] {
            let _ = fs::remove_file(session.home().join(file));
        }
        let running = session.start(START.iter().chain(&ISTIOCTL))?;
        session.shell("until [ -s child ]; do sleep 0.05; done")?;
        ensure!(left(&session)? == 1, "the program was given nothing in {}", records.display());
        let sent = "kill -SIGNAL $(cat parent); ".replace("SIGNAL", signal).repeat(times);
        session.shell(&sent)?;
        let output = running.finish()?;
        ensure!(output.code == Some(130), "{signal}: {}", output.transcript());
        ensure!(left(&session)? == 0, "{signal}: the private file is left: {}", output.transcript());
        let ended =
            session.shell("for try in $(seq 100); do kill -0 $(cat child) 2> /dev/null || exit 0; sleep 0.05; done; exit 1")?;
        ensure!(ended.code == Some(0), "{signal}: the program goes on: {}", output.transcript());
    }
    Ok(())
}

/// The releases of helm that a cluster holds.
fn releases(cluster: &Cluster) -> Result<String> {
    cluster.kubectl(["get", "secrets", "-A", "-l", "owner=helm", "-o", "jsonpath={.items[*].metadata.name}"])
}

/// A chart of Istio's with one more object in it.
fn umbrella(session: &Session, revision: &Revision) -> Result<PathBuf> {
    let chart = session.home().join("umbrella");
    let source = revision.version.source()?.join("manifests/charts/istio-control/istio-discovery");
    let copied = std::process::Command::new("cp").arg("-r").args([&source, &chart]).status()?;
    ensure!(copied.success(), "copying {}", source.display());
    let made = std::process::Command::new("chmod").args(["-R", "u+w"]).arg(&chart).status()?;
    ensure!(made.success(), "making {} writable", chart.display());
    let more = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: of-somebody-else, namespace: default}\n";
    fs::write(chart.join("templates/more.yaml"), more)?;
    Ok(chart)
}

fn refused(output: &Output, words: &[&str]) -> Result<()> {
    ensure!(output.code == Some(4), "{}", output.transcript());
    for word in words {
        ensure!(output.stderr.contains(word), "{word} is missing: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn helm_changes_the_cluster_that_was_looked_at_and_only_what_was_named() -> Result<()> {
    let (staging, prod) = (Cluster::start(&Options::default())?, Cluster::start(&Options::default())?);
    let old = Revision::of(IstioVersion::V1_26_0).by_helm();
    staging.install(&old)?;
    staging.install(&Revision::of(IstioVersion::V1_28_2))?;
    prod.install_objects(&old)?;
    let on_prod = releases(&prod)?;
    let session = plugins(&["mesh-upgrade", "mesh-tag"])?.with_helm()?.time_limit(Duration::from_secs(180));
    let both = session.home().join("both");
    let named = |cluster: &Cluster, name: &str| support::kubeconfig::Kubeconfig {
        context: name.to_owned(),
        ..cluster.kubeconfig().clone()
    };
    support::kubeconfig::write(&both, &[named(&prod, "prod"), named(&staging, "staging")])?;
    let session = session.kubeconfig(&both);
    // The default validator is the base chart's: it has to move first.
    let default = ["mesh-tag", "set", "default", "--revision", "1-28-2", "--overwrite", "--yes", "--context", "staging"];
    let moved = session.run(default)?;
    ensure!(moved.code == Some(0), "{}", moved.transcript());

    // A release that holds the running revision is not upgraded to another one, whichever way it is written.
    let chart = old.helm_arguments()?[1].clone();
    let upgrade =
        ["upgrade", "--install", "istiod-1-26-0", &chart, "-nistio-system", "--set", "revision=next,profile=,global.tag=1.26.0"];
    let front = ["mesh-upgrade", "start", "--revision", "next", "--context", "staging", "--with", "helm", "--"];
    let words = [
        "release istiod-1-26-0 -n istio-system of helm",
        "Deployment istiod-1-26-0 -n istio-system of revision 1-26-0 would be deleted",
    ];
    refused(&session.run(front.iter().chain(&upgrade))?, &words)?;
    let without_namespace: Vec<&str> = upgrade.iter().copied().filter(|word| *word != "-nistio-system").collect();
    let session = session.env("HELM_NAMESPACE", "istio-system").env("HELM_KUBECONTEXT", "prod");
    refused(&session.run(front.iter().chain(&without_namespace))?, &words)?;

    // Nor does a release go that holds more than the revision.
    let with_more = umbrella(&session, &old)?;
    let mut arguments = old.helm_arguments()?;
    arguments[1] = with_more.to_string_lossy().into_owned();
    staging.run(Program::Helm, ["upgrade".to_owned()].into_iter().chain(arguments))?;
    let remove = REMOVE.iter().copied().chain(["--context", "staging", "--yes"]);
    refused(&session.run(remove)?, &["holds more than revision 1-26-0", "ConfigMap of-somebody-else -n default"])?;
    staging.run(Program::Helm, ["upgrade".to_owned()].into_iter().chain(old.helm_arguments()?))?;

    // Somebody chooses another context while the question waits.
    let session = session.without_env("HELM_KUBECONTEXT");
    session.shell("kubectl config use-context staging")?;
    let asked = session.shell(&format!(
        "(for try in $(seq 1200); do grep -qs 'Remove revision' asked && break; sleep 0.1; done; kubectl config use-context prod > /dev/null; echo y; sleep 1) \
         | timeout 170 script --quiet --return --flush --log-out asked --command 'kubectl {}'",
        REMOVE.join(" ")
    ))?;
    ensure!(asked.code == Some(0), "{}", asked.transcript());
    ensure!(fs::read_to_string(&both)?.contains("current-context: prod"), "nobody chose another context");
    ensure!(!releases(&staging)?.contains("istiod-1-26-0"), "{}", asked.transcript());
    ensure!(releases(&prod)? == on_prod, "{}", asked.transcript());
    Ok(())
}

#[test]
fn a_release_lets_go_of_what_others_took_and_leaves_no_marks_that_count() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let [plain, new] = [IstioVersion::V1_26_0, IstioVersion::V1_28_2].map(|version| Revision::of(version).by_helm());
    cluster.install(&plain.clone().set("revisionTags={stable}"))?;
    // The tag goes over to another release, and stands in the manifest of the first one still.
    let taking = new.clone().set("revisionTags={stable}").helm_arguments()?;
    cluster.run(Program::Helm, ["upgrade", "--install", "--take-ownership"].map(str::to_owned).into_iter().chain(taking))?;
    cluster.start_istiod(&new)?;
    let session = plugins(&["mesh-upgrade", "mesh-tag"])?.with_helm()?.on(&cluster).time_limit(Duration::from_secs(180));
    let default = session.run(["mesh-tag", "set", "default", "--revision", "1-28-2", "--overwrite", "--yes"])?;
    ensure!(default.code == Some(0), "{}", default.transcript());
    let remove = REMOVE.iter().copied().chain(["--yes"]);
    let output = session.run(remove.clone())?;
    let keep = "kubectl annotate mutatingwebhookconfiguration/istio-revision-tag-stable helm.sh/resource-policy=keep";
    let owner = "MutatingWebhookConfiguration istio-revision-tag-stable: it belongs to Helm release istiod-1-28-2";
    refused(&output, &[owner, keep])?;
    let uid = || -> Result<Value> {
        let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-revision-tag-stable";
        Ok(cluster.api().find(path)?.context("the tag is gone")?["metadata"]["uid"].clone())
    };
    let before = uid()?;
    let kept = session.shell(keep)?;
    ensure!(kept.code == Some(0), "{}", kept.transcript());
    cluster.run(Program::Helm, ["upgrade".to_owned()].into_iter().chain(plain.helm_arguments()?))?;
    ensure!(uid()? == before, "helm has deleted the tag of another release");

    // What a release has left that helm does not know any more is nobody's.
    cluster.kubectl(["delete", "secrets", "-n", "istio-system", "-l", "owner=helm,name=istiod-1-26-0"])?;
    let removed = session.run(remove)?;
    ensure!(removed.code == Some(0), "{}", removed.transcript());
    ensure!(uid()? == before, "{}", removed.transcript());
    Ok(())
}
