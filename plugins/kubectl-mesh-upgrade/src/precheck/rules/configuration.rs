//! Configuration that is made for one version or one revision, and ceases to apply without a word.

use mesh::advice::{Advice, Command};
use mesh::finding::{Code, Finding};
use mesh::labels;
use mesh::version::Version;
use regex::Regex;
use serde_json::Value;

use crate::precheck::facts::{Facts, List, error, info, label, subject, warning};

/// EnvoyFilters that match proxies by version: one that matches what runs and not the target ceases to apply with the restart.
///
/// `proxyVersion` is a regular expression in RE2's syntax that is looked for anywhere in the version that a proxy reports
/// (pilot/pkg/model/envoyfilter.go, `proxyMatch`).
pub fn envoy_filters(facts: &Facts) -> Vec<Finding> {
    let Some(to) = &facts.target.version else { return Vec::new() };
    let running: Vec<String> = facts
        .from()
        .into_iter()
        .flat_map(|from| from.proxy_versions.keys().chain(from.version()))
        .map(ToString::to_string)
        .collect();
    let mut findings = Vec::new();
    let mut by_name_alone = Vec::new();
    for filter in facts.items(List::EnvoyFilters) {
        let subject = subject("envoyfilters.networking.istio.io", filter);
        let patches = filter["spec"]["configPatches"].as_array().into_iter().flatten();
        let expressions: Vec<&str> = patches.filter_map(|patch| patch["match"]["proxy"]["proxyVersion"].as_str()).collect();
        if expressions.is_empty() {
            by_name_alone.push(subject);
            continue;
        }
        for expression in expressions {
            findings.extend(envoy_filter(&subject, expression, &running, to));
        }
    }
    if let Some(first) = by_name_alone.first() {
        let others = match by_name_alone.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let message = format!("patches Envoy's own configuration{others}: names there may change with the version");
        findings.push(warning(Code::Envoyfilter, first.clone(), message, "try it with the first workload that moves"));
    }
    findings
}

fn envoy_filter(subject: &str, expression: &str, running: &[String], to: &Version) -> Option<Finding> {
    let Ok(compiled) = Regex::new(expression) else {
        let message = format!("its proxyVersion {expression:?} is no regular expression: whether it applies is unknown");
        return Some(error(Code::EnvoyfilterVersion, subject, message, "mend the expression"));
    };
    let applies_now = running.iter().any(|version| compiled.is_match(version));
    let will_apply = compiled.is_match(&to.to_string());
    let (line, advice) =
        (format!("its proxyVersion {expression:?}"), Advice::say(format!("add a patch whose proxyVersion matches {to}")));
    match (applies_now, will_apply) {
        (true, false) => {
            let message = format!("{line} does not match {to}: it ceases to apply to each proxy that moves");
            Some(error(Code::EnvoyfilterVersion, subject, message, advice))
        }
        (false, true) => {
            let message = format!("{line} matches {to} and nothing that runs: it begins to apply to each proxy that moves");
            Some(info(Code::EnvoyfilterVersion, subject, message, "as it should, if it is the successor of another one"))
        }
        _ => None,
    }
}

/// Wasm that is made for the version that runs: an Envoy of another version may not load it.
pub fn wasm(facts: &Facts) -> Vec<Finding> {
    let (Some(to), Some(from)) = (&facts.target.version, facts.from().and_then(|from| from.version())) else { return Vec::new() };
    let plugins = facts.items(List::WasmPlugins).iter();
    let pinned = plugins.filter(|plugin| {
        let url = plugin["spec"]["url"].as_str().unwrap_or_default();
        names_line(url, from.line()) && !names_line(url, to.line())
    });
    pinned
        .map(|plugin| {
            let url = plugin["spec"]["url"].as_str().unwrap_or_default();
            let message = format!("its url names Istio {}.{}, which runs now: {url}", from.major, from.minor);
            let advice = Advice::say(format!("see that it loads in {to}, or give it a build for that"));
            warning(Code::WasmVersion, subject("wasmplugins.extensions.istio.io", plugin), message, advice)
        })
        .collect()
}

/// Whether a text names a minor release: `1.26` with nothing but a patch behind it.
fn names_line(text: &str, (major, minor): (u32, u32)) -> bool {
    let name = format!("{major}.{minor}");
    text.match_indices(&name).any(|(place, _)| {
        let before = text[..place].chars().next_back();
        let after = text[place + name.len()..].chars().next();
        let is_digit = |character: Option<char>| character.is_some_and(|character| character.is_ascii_digit());
        !is_digit(before) && before != Some('.') && !is_digit(after)
    })
}

/// Configuration with a revision's label is read by that revision alone, and a tag in its place by none (pkg/config/model.go,
/// `ObjectInRevision`): it ceases to apply to each proxy that moves.
pub fn of_one_revision(facts: &Facts) -> Vec<Finding> {
    let objects = facts.items(List::LabelledIstioObjects);
    let snapshot = &facts.survey.snapshot;
    let (tags, target) = (snapshot.tags(), facts.target.revision_name());
    let mut findings = Vec::new();
    for object in objects {
        let Some(revision) = label(object, labels::REVISION) else { continue };
        let kind = object["plural"].as_str().unwrap_or_default();
        let group = object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
        let subject = subject(&format!("{kind}.{group}"), object);
        let relabel = Command::kubectl("label").object(&subject).value(format!("{}-", labels::REVISION));
        if revision == target {
            continue;
        }
        if facts.survey.revisions.iter().any(|known| known.name == revision && known.control_plane.is_some()) {
            let message = format!("only revision {revision} reads it: it does not apply to proxies of {target}");
            let label = labels::REVISION;
            let advice =
                Advice::run(relabel).and_say(format!(" lets every revision read it; or add one with the label {label}={target}"));
            // What goes away with the move blocks; what belongs to a third revision does not.
            if facts.target.from.as_deref() == Some(revision) && !has_successor(object, objects, &target) {
                findings.push(error(Code::ConfigOfOneRevision, subject, message, advice));
            } else {
                findings.push(info(Code::ConfigOfOneRevision, subject, message, advice));
            }
        } else {
            let what = if tags.contains(&revision) { "a tag" } else { "no revision that is here" };
            let message = format!("its label {}={revision} names {what}: no istiod reads it", labels::REVISION);
            findings.push(warning(Code::ConfigOfNobody, subject, message, relabel));
        }
    }
    findings
}

/// Whether an object of the same kind in the same namespace belongs to the target.
fn has_successor(object: &Value, objects: &[Value], target: &str) -> bool {
    objects.iter().any(|other| {
        other["plural"] == object["plural"]
            && other["metadata"]["namespace"] == object["metadata"]["namespace"]
            && label(other, labels::REVISION) == Some(target)
    })
}

#[cfg(test)]
mod tests {
    use mesh::finding::Severity::{Error, Info, Warning};
    use serde_json::json;

    use super::*;
    use crate::precheck::facts::{brief, sample};

    fn filters(expressions: &[Option<&str>]) -> Vec<(&'static str, mesh::finding::Severity)> {
        let patches: Vec<Value> = expressions
            .iter()
            .map(|expression| {
                expression.map_or_else(|| json!({}), |expression| json!({"match": {"proxy": {"proxyVersion": expression}}}))
            })
            .collect();
        let filter = json!({"metadata": {"name": "lua", "namespace": "shop"}, "spec": {"configPatches": patches}});
        brief(&envoy_filters(&sample([(List::EnvoyFilters, vec![filter])])))
    }

    #[test]
    fn a_filter_that_ceases_to_apply_blocks() {
        assert_eq!(filters(&[Some(r"^1\.26.*")]), [("envoyfilter-version", Error)]);
        assert_eq!(filters(&[Some(r"1\.26")]), [("envoyfilter-version", Error)]);
        assert_eq!(filters(&[Some(r"^1\.2[0-9].*")]), []);
        assert_eq!(filters(&[Some(r"^1\.28.*")]), [("envoyfilter-version", Info)]);
        assert_eq!(filters(&[Some(r"^1\.9.*")]), []);
        assert_eq!(filters(&[Some("(")]), [("envoyfilter-version", Error)]);
        assert_eq!(filters(&[None]), [("envoyfilter", Warning)]);
    }

    #[test]
    fn wasm_of_the_version_that_runs_is_told() {
        let found = |url: &str| {
            let plugin = json!({"metadata": {"name": "auth", "namespace": "shop"}, "spec": {"url": url}});
            brief(&wasm(&sample([(List::WasmPlugins, vec![plugin])])))
        };
        assert_eq!(found("oci://registry.example/auth:1.26.0"), [("wasm-version", Warning)]);
        assert_eq!(found("oci://registry.example/auth:v1.26"), [("wasm-version", Warning)]);
        for url in
            ["oci://registry.example/auth:1.28.2", "oci://registry.example/auth:2.1.26", "oci://registry.example/auth:1.260"]
        {
            assert_eq!(found(url), [], "{url}");
        }
    }

    #[test]
    fn configuration_of_the_old_revision_alone_blocks() {
        let object = |name: &str, revision: &str| {
            json!({"apiVersion": "networking.istio.io/v1", "plural": "virtualservices",
                "metadata": {"name": name, "namespace": "shop", "labels": {"istio.io/rev": revision}}})
        };
        let found = |objects: Vec<Value>| of_one_revision(&sample([(List::LabelledIstioObjects, objects)]));
        let blocked = found(vec![object("web", "1-26-0")]);
        assert_eq!(brief(&blocked), [("config-of-one-revision", Error)]);
        assert_eq!(blocked[0].subject, "virtualservices.networking.istio.io/web -n shop");
        // One for the target stands beside it: somebody has thought of that.
        assert_eq!(brief(&found(vec![object("web", "1-26-0"), object("web-new", "1-28-2")])), [("config-of-one-revision", Info)]);
        assert_eq!(brief(&found(vec![object("web", "1-28-2")])), []);
        assert_eq!(brief(&found(vec![object("web", "prod-stable")])), [("config-of-nobody", Warning)]);
    }
}
