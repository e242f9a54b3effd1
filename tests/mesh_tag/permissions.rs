//! Little permission: what `--explain-rbac` prints for a verb is enough for it, and without any one of the rules it says
//! what it misses, and changes nothing.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Follows, Output, Session, Workload, plugin};

use crate::tags::{NEW, OLD, Saved};

/// One permission: a namespace or none, the API group, the resource and the verb.
type Permission = (Option<String>, String, String, String);

/// What `--explain-rbac` prints, permission by permission. It is YAML of a fixed form: a field a line, lists in brackets.
fn explained(session: &Session, words: &[&str]) -> Result<Vec<Permission>> {
    let output = session.run(["mesh-tag"].iter().chain(words).chain(&["--explain-rbac"]))?;
    ensure!(output.code == Some(0) && output.stderr.is_empty(), "{}", output.transcript());
    let mut permissions = Vec::new();
    for document in output.stdout.split("---\n") {
        let namespace = document.lines().find_map(|line| line.strip_prefix("  namespace: ")).map(str::to_owned);
        let list = |line: &str| -> Vec<String> {
            line.trim_matches(['[', ']']).split(", ").map(|word| word.trim_matches('"').to_owned()).collect()
        };
        let (mut groups, mut resources) = (Vec::new(), Vec::new());
        for line in document.lines() {
            if let Some(line) = line.strip_prefix("- apiGroups: ") {
                groups = list(line);
            } else if let Some(line) = line.strip_prefix("  resources: ") {
                resources = list(line);
            } else if let Some(line) = line.strip_prefix("  verbs: ") {
                for (group, resource) in groups.iter().flat_map(|group| resources.iter().map(move |resource| (group, resource))) {
                    for verb in list(line) {
                        permissions.push((namespace.clone(), group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    ensure!(permissions.len() > 5, "too few: {}", output.stdout);
    Ok(permissions)
}

/// A session as an account that has these permissions and no others.
fn session_with(cluster: &Cluster, account: &str, permissions: &[Permission]) -> Result<Session> {
    let session = plugin("mesh-tag")?;
    let file = session.home().join("account");
    cluster.kubeconfig_for(account, json!([]))?.write(&file)?;
    let mut namespaces: Vec<&Option<String>> = permissions.iter().map(|(namespace, ..)| namespace).collect();
    namespaces.sort();
    namespaces.dedup();
    for namespace in namespaces {
        let rules: Vec<Value> = permissions
            .iter()
            .filter(|permission| permission.0 == *namespace)
            .map(|(_, group, resource, verb)| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}))
            .collect();
        let (role, binding) = match namespace {
            Some(_) => ("Role", "RoleBinding"),
            None => ("ClusterRole", "ClusterRoleBinding"),
        };
        let metadata = json!({"name": format!("{account}-verb"), "namespace": namespace});
        let version = "rbac.authorization.k8s.io/v1";
        cluster.apply(&json!({"apiVersion": version, "kind": role, "metadata": metadata, "rules": rules}))?;
        cluster.apply(&json!({
            "apiVersion": version, "kind": binding, "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": metadata["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "default"}],
        }))?;
    }
    Ok(session.kubeconfig(&file))
}

/// A verb with what it needs to be there.
struct Case {
    verb: &'static str,
    /// Commands of the administrator before it; `TAG` is the tag's name, and namespaces begin with it.
    prepare: &'static [&'static [&'static str]],
    words: &'static [&'static str],
    /// Resources and verbs that it can do without here.
    spare: &'static [(&'static str, &'static [&'static str])],
}

/// What is only asked for where an answer got lost, or of a `default` tag, which none of these is. That a revision is ready
/// is proved by a pod; the lists that say so too may be missing.
const SPARE: [(&str, &[&str]); 5] = [
    ("services", &["get"]),
    ("configmaps", &["list"]),
    ("validatingwebhookconfigurations", &["get", "list", "create", "update", "delete"]),
    ("deployments", &["list"]),
    ("endpointslices", &["list"]),
];

const MADE: &[&str] = &["set", "TAG", "--revision", NEW, "--yes"];

const CASES: [Case; 8] = [
    Case { verb: "list", prepare: &[MADE], words: &["list"], spare: &[] },
    Case { verb: "describe", prepare: &[MADE], words: &["describe", "TAG"], spare: &[] },
    Case { verb: "set", prepare: &[], words: MADE, spare: &[] },
    Case {
        verb: "move",
        prepare: &[&["set", "TAG", "--revision", OLD, "--yes"]],
        words: &["set", "TAG", "--revision", NEW, "--overwrite", "--yes"],
        spare: &[],
    },
    Case {
        verb: "undo",
        prepare: &[MADE, &["set", "TAG", "--revision", OLD, "--overwrite", "--yes"]],
        words: &["undo", "TAG", "--yes"],
        spare: &[],
    },
    // Nothing is proved when a tag goes, and no image is asked for.
    Case {
        verb: "remove",
        prepare: &[MADE],
        words: &["remove", "TAG", "--yes"],
        spare: &[("pods", &["create"]), ("configmaps", &["get"])],
    },
    Case { verb: "attach", prepare: &[MADE], words: &["attach", "TAG", "TAG-shop", "--overwrite"], spare: LABELLING },
    Case { verb: "detach", prepare: &[], words: &["detach", "TAG-shop"], spare: LABELLING },
];

/// Lists that are asked for where pods have such owners, and namespaces where they are chosen by label.
const LABELLING: &[(&str, &[&str])] = &[
    ("namespaces", &["list"]),
    ("jobs", &["list"]),
    ("gateways", &["list"]),
    ("replicasets", &["list"]),
    ("rollouts", &["list"]),
];

fn named(words: &[&str], tag: &str) -> Vec<String> {
    std::iter::once("mesh-tag".to_owned()).chain(words.iter().map(|word| word.replace("TAG", tag))).collect()
}

fn prepare(cluster: &Cluster, case: &Case, tag: &str) -> Result<()> {
    cluster.namespace(&format!("{tag}-shop"), Follows::Revision(OLD))?.run(&Workload::deployment("web"))?;
    for words in case.prepare {
        let output = plugin("mesh-tag")?.on(cluster).run(named(words, tag))?;
        ensure!(output.code == Some(0), "{}", output.transcript());
    }
    Ok(())
}

#[test]
fn what_is_printed_for_a_verb_is_enough_for_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let admin = plugin("mesh-tag")?.on(cluster);
    for case in &CASES {
        let tag = format!("enough-{}", case.verb);
        prepare(cluster, case, &tag)?;
        let words = named(case.words, &tag);
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        let session = session_with(cluster, &tag, &explained(&admin, &words)?)?;
        let output = session.run(["mesh-tag"].iter().chain(&words))?;
        ensure!(output.code == Some(0), "{}", output.transcript());
        for word in ["forbidden", "denied", "could not be read"] {
            ensure!(!output.stderr.contains(word), "{word}: {}", output.transcript());
        }
        Saved::nothing_of_tag(&tag).restore(cluster)?;
    }
    Ok(())
}

/// Whether a text names a resource, in the plural or by its kind.
fn names(text: &str, resource: &str) -> bool {
    text.to_lowercase().contains(resource.trim_end_matches('s'))
}

/// Runs the verb without one of its permissions.
fn without(cluster: &Cluster, case: &Case, number: usize, permissions: &[Permission]) -> Result<()> {
    let missing = &permissions[number];
    let (_, _, resource, verb) = missing;
    let rest: Vec<Permission> = permissions.iter().filter(|other| *other != missing).cloned().collect();
    let tag = format!("lack-{}-{number}", case.verb);
    prepare(cluster, case, &tag)?;
    let before = Saved::of_tag(cluster, &tag)?;
    let session = session_with(cluster, &tag, &rest)?;
    let output: Output = session.run(named(case.words, &tag))?;
    let told = || format!("without {verb} {resource}: {}", output.transcript());
    let is_spare = SPARE.iter().chain(case.spare).any(|(other, verbs)| other == resource && verbs.contains(&verb.as_str()));
    match output.code {
        // It has not needed it here, or it says what it could not see.
        Some(0) => {
            let says = names(&output.stderr, resource);
            ensure!(says || is_spare, "it goes on as if nothing was missing, {}", told());
        }
        Some(1 | 4) => {
            ensure!(names(&output.stderr, resource), "it does not say what is missing, {}", told());
            let after = Saved::of_tag(cluster, &tag)?;
            ensure!(after.is_like(&before), "something was changed, {}", told());
        }
        _ => anyhow::bail!("{}", told()),
    }
    Saved::nothing_of_tag(&tag).restore(cluster).with_context(told)
}

/// Without each permission in turn; all that is wrong is told at once.
fn without_each(verbs: &[&str]) -> Result<()> {
    let cluster = Cluster::shared()?;
    let admin = plugin("mesh-tag")?.on(cluster);
    let mut failures = Vec::new();
    for case in CASES.iter().filter(|case| verbs.contains(&case.verb)) {
        let permissions = explained(&admin, case.words)?;
        for number in 0..permissions.len() {
            failures.extend(without(cluster, case, number, &permissions).err().map(|error| format!("{error:#}")));
        }
    }
    ensure!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n\n"));
    Ok(())
}

#[test]
fn without_any_one_rule_a_look_says_what_it_misses() -> Result<()> {
    without_each(&["list", "describe"])
}

#[test]
fn without_any_one_rule_a_tag_is_not_half_written() -> Result<()> {
    without_each(&["set", "move"])
}

#[test]
fn without_any_one_rule_a_tag_does_not_go_back_or_away_by_half() -> Result<()> {
    without_each(&["undo", "remove"])
}

#[test]
fn without_any_one_rule_namespaces_are_not_labelled_by_half() -> Result<()> {
    without_each(&["attach", "detach"])
}
