//! Little permission: what `--explain-rbac` prints for a verb is enough for it, and without any one of the rules it says
//! what it misses, and changes nothing.

use anyhow::{Context, Result, ensure};
use support::rbac::{Permission, explained, session_with};
use support::{Cluster, Follows, Output, Session, Workload, plugin};

use crate::tags::{NEW, OLD, Saved};

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
const SPARE: [(&str, &[&str]); 6] = [
    ("services", &["get"]),
    ("configmaps", &["list"]),
    ("validatingwebhookconfigurations", &["get", "list", "create", "update", "delete"]),
    ("deployments", &["list"]),
    ("endpointslices", &["list"]),
    // Everybody who is logged in may ask.
    ("selfsubjectaccessreviews", &["create"]),
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
        spare: USERS,
    },
    // Nothing is proved when a tag goes, and no image is asked for.
    Case { verb: "remove", prepare: &[MADE], words: &["remove", "TAG", "--yes"], spare: UNSERVED },
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

/// What is not served here; and what only tells more where a client elsewhere may use it: what istiods say of their connections.
const UNSERVED: &[(&str, &[&str])] = &[
    ("pods", &["create"]),
    ("configmaps", &["get"]),
    ("pods/proxy", &["get"]),
    ("replicasets", &["get"]),
    ("gateway.networking.x-k8s.io", &["list"]),
    ("install.istio.io", &["list"]),
];

/// Who uses a tag is asked when it goes, and the last move of this one was no making: it goes back.
const USERS: &[(&str, &[&str])] = &[
    ("pods/proxy", &["get"]),
    ("replicasets", &["get", "list"]),
    ("replicationcontrollers", &["list"]),
    ("podtemplates", &["list"]),
    ("validatingadmissionpolicies", &["list"]),
    ("validatingadmissionpolicybindings", &["list"]),
    ("apiservices", &["list"]),
    ("customresourcedefinitions", &["list"]),
    ("daemonsets", &["list"]),
    ("statefulsets", &["list"]),
    ("deploymentconfigs", &["list"]),
    ("rollouts", &["list"]),
    ("cronjobs", &["list"]),
    ("jobs", &["list"]),
    ("ingresses", &["list"]),
    ("secrets", &["list"]),
    ("extensions.istio.io", &["list"]),
    ("gateway.networking.x-k8s.io", &["list"]),
    ("install.istio.io", &["list"]),
    ("networking.istio.io", &["list"]),
    ("security.istio.io", &["list"]),
    ("telemetry.istio.io", &["list"]),
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
        let session = session_with("mesh-tag", cluster, &tag, &printed(&admin, case, &tag)?)?;
        let output = session.run(named(case.words, &tag))?;
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

/// What is printed for the verb with this tag: the rules name its namespaces.
fn printed(admin: &Session, case: &Case, tag: &str) -> Result<Vec<Permission>> {
    let words = named(case.words, tag);
    explained(admin, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs the verb without one of its permissions.
fn without(cluster: &Cluster, case: &Case, tag: &str, number: usize, permissions: &[Permission]) -> Result<()> {
    let missing = &permissions[number];
    let (_, group, resource, verb) = missing;
    // A rule for all of a group is missed by the name of the group.
    let resource = if resource == "*" { group } else { resource };
    let rest: Vec<Permission> = permissions.iter().filter(|other| *other != missing).cloned().collect();
    prepare(cluster, case, tag)?;
    let before = Saved::of_tag(cluster, tag)?;
    let session = session_with("mesh-tag", cluster, tag, &rest)?;
    let output: Output = session.run(named(case.words, tag))?;
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
            let after = Saved::of_tag(cluster, tag)?;
            ensure!(after.is_like(&before), "something was changed, {}", told());
        }
        _ => anyhow::bail!("{}", told()),
    }
    Saved::nothing_of_tag(tag).restore(cluster).with_context(told)
}

/// Without each permission in turn; all that is wrong is told at once.
fn without_each(verbs: &[&str]) -> Result<()> {
    let cluster = Cluster::shared()?;
    let admin = plugin("mesh-tag")?.on(cluster);
    let mut failures = Vec::new();
    for case in CASES.iter().filter(|case| verbs.contains(&case.verb)) {
        for number in 0..printed(&admin, case, "any")?.len() {
            let tag = format!("lack-{}-{number}", case.verb);
            let permissions = printed(&admin, case, &tag)?;
            failures.extend(without(cluster, case, &tag, number, &permissions).err().map(|error| format!("{error:#}")));
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

#[test]
fn of_two_namespaces_none_is_labelled_without_the_right_to_label_both() -> Result<()> {
    let cluster = Cluster::shared()?;
    let admin = plugin("mesh-tag")?.on(cluster);
    for name in ["half-may", "half-zeta"] {
        cluster.namespace(name, Follows::Revision(OLD))?;
    }
    let words = ["mesh-tag", "attach", NEW, "half-may", "half-zeta", "--overwrite"];
    let mut permissions = explained(&admin, &words)?;
    for permission in permissions.iter_mut().filter(|(_, _, resource, verb)| resource == "namespaces" && verb == "patch") {
        permission.0 = Some("half-may".to_owned());
    }
    let session = session_with("mesh-tag", cluster, "half", &permissions)?;
    let refused = session.run(words)?;
    ensure!(refused.code == Some(4), "{}", refused.transcript());
    ensure!(refused.stderr.contains("forbidden: patch namespaces/half-zeta"), "{}", refused.transcript());
    ensure!(!refused.stderr.contains("namespaces/half-may"), "{}", refused.transcript());
    for name in ["half-may", "half-zeta"] {
        let labels = cluster.api().get(&format!("/api/v1/namespaces/{name}"))?["metadata"]["labels"].clone();
        ensure!(labels["istio.io/rev"] == OLD, "{labels}: {}", refused.transcript());
    }
    let allowed = session.run(["mesh-tag", "attach", NEW, "half-may", "--overwrite"])?;
    ensure!(allowed.code == Some(0), "a Role in the namespace is enough: {}", allowed.transcript());
    Ok(())
}

#[test]
fn what_may_not_be_listed_is_unknown_and_never_missing() -> Result<()> {
    let cluster = Cluster::shared()?;
    let admin = plugin("mesh-tag")?.on(cluster);
    admin.run(["mesh-tag", "set", "partly-seen", "--revision", NEW, "--yes"])?;
    cluster.namespace("partly-seen-shop", Follows::Revision("partly-seen"))?;
    let all = explained(&admin, &["mesh-tag", "list"])?;
    let fewer: Vec<Permission> =
        all.into_iter().filter(|(_, _, resource, _)| resource != "mutatingwebhookconfigurations").collect();
    let session = session_with("mesh-tag", cluster, "partly-sees", &fewer)?;
    let output = session.run(["mesh-tag", "list", "-o", "wide"])?;
    ensure!(output.stderr.starts_with("Incomplete: mutatingwebhookconfigurations"), "{}", output.transcript());
    ensure!(output.stdout.contains("<unknown>") && !output.stdout.contains("no-webhook"), "{}", output.transcript());
    ensure!(!output.stderr.contains("No tags here"), "{}", output.transcript());
    Ok(())
}
