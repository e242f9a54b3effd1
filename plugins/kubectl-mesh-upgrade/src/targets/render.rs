//! The revisions and what may come next, as tables and as a document.

use mesh::terminal::advisor::Advisor;
use std::io::{self, Write};

use jiff::civil::Date;
use mesh::terminal::styles::Styles;
use mesh::terminal::table::{Header, Table};
use mesh::terminal::words::human_duration;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::next::{Target, Verdict};
use crate::output::or_none;
use crate::revisions::Revision;
use crate::support::Releases;
use crate::survey::Survey;

/// Everything that a format needs.
pub struct Page<'a> {
    /// What was seen.
    pub survey: &'a Survey,
    /// What may come next.
    pub targets: &'a [Target],
    /// What is known of releases.
    pub releases: &'a Releases,
    /// The version of Kubernetes, where it is known.
    pub kubernetes: Option<(u32, u32)>,
    /// Words the commands in notes.
    pub advisor: &'a Advisor,
    /// The day of the look.
    pub today: Date,
}

/// Both tables, with an empty line between them.
pub fn table(page: &Page<'_>, header: Header, styles: &Styles, out: &mut dyn Write) -> io::Result<()> {
    let mut here = Table::new(["Revision", "Version", "Ready", "Age", "Proxies", "Tags", "Namespace", "Owner", "End of support"]);
    for revision in &page.survey.revisions {
        here.row(revision_cells(page, revision, styles));
    }
    here.write(header, out)?;
    let mut next = Table::new(["From", "Next", "May", "Here", "Step", "Kubernetes", "End of support", "Note"]);
    for target in page.targets {
        next.row(target_cells(page, target, styles));
    }
    if !page.targets.is_empty() {
        writeln!(out)?;
    }
    next.write(header, out)
}

fn revision_cells(page: &Page<'_>, revision: &Revision, styles: &Styles) -> Vec<String> {
    let plane = revision.control_plane.as_ref();
    let age = plane.and_then(|plane| plane.created).map(|created| human_duration(page.survey.now.duration_since(created)));
    let readiness = revision.readiness_word();
    let style = if revision.is_ready() { styles.current } else { styles.orphaned };
    vec![
        revision.name.clone(),
        or_none(revision.version().map(ToString::to_string)),
        readiness.style(style).to_string(),
        or_none(age),
        revision.proxies.to_string(),
        or_none(Some(revision.tags.join(","))),
        or_none(plane.map(|plane| plane.namespace.clone())),
        or_none(plane.and_then(|plane| plane.owner.as_ref()).map(ToString::to_string)),
        end_of_support(page, revision.version().map(|version| version.line()), styles),
    ]
}

fn target_cells(page: &Page<'_>, target: &Target, styles: &Styles) -> Vec<String> {
    let release = page.releases.of_line(target.line);
    let style = match target.verdict {
        Verdict::Yes => styles.current,
        Verdict::Careful => styles.stale,
        Verdict::No => styles.orphaned,
    };
    vec![
        target.from.clone(),
        line_name(target.line),
        target.verdict.as_str().style(style).to_string(),
        or_none(Some(target.here.join(","))),
        step_name(target.minors),
        or_none(release.map(|release| release.kubernetes_range())),
        end_of_support(page, Some(target.line), styles),
        or_none(Some(notes(page, target).join("; "))),
    ]
}

fn notes(page: &Page<'_>, target: &Target) -> Vec<String> {
    target.notes.iter().map(|note| page.advisor.text(note)).collect()
}

fn step_name(minors: u32) -> String {
    match minors {
        0 => "patch".to_owned(),
        1 => "1 minor".to_owned(),
        several => format!("{several} minors"),
    }
}

fn end_of_support(page: &Page<'_>, line: Option<(u32, u32)>, styles: &Styles) -> String {
    match line.and_then(|line| page.releases.of_line(line)) {
        Some(release) => {
            let style = if release.is_supported(page.today) { styles.current } else { styles.stale };
            release.end_in_words(page.today).style(style).to_string()
        }
        None => "<unknown>".to_owned(),
    }
}

fn line_name((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// The same as one document. The age is left out for the time of creation, so that equal clusters give equal bytes.
pub fn document(page: &Page<'_>) -> Value {
    let items: Vec<Value> = page.survey.revisions.iter().map(|revision| revision_item(page, revision)).collect();
    let mut document = json!({
        "apiVersion": "kubectl-mesh/v1",
        "kind": "UpgradeTargets",
        "releasesAsOf": page.releases.as_of.to_string(),
        "items": items,
    });
    if let Some(kubernetes) = page.kubernetes {
        document["kubernetes"] = line_name(kubernetes).into();
    }
    let told = mesh::health::findings(&page.survey.snapshot);
    document["findings"] = told.iter().map(|finding| mesh::terminal::findings::document(finding, page.advisor)).collect();
    document
}

fn revision_item(page: &Page<'_>, revision: &Revision) -> Value {
    let mut item = json!({
        "revision": revision.name,
        "readiness": revision.readiness_name(),
        "proxies": revision.proxies,
        "tags": revision.tags,
        "next": page.targets.iter().filter(|target| target.from == revision.name).map(|target| next_item(page, target)).collect::<Vec<_>>(),
    });
    let versions = revision.proxy_versions.iter().map(|(version, count)| json!({"version": version.to_string(), "count": count}));
    item["proxyVersions"] = versions.collect();
    if let Some(plane) = &revision.control_plane {
        item["namespace"] = plane.namespace.as_str().into();
        item["platform"] = plane.platform.name().into();
        let texts = [
            ("version", plane.version.as_ref().map(ToString::to_string)),
            ("created", plane.created.map(|created| created.to_string())),
            ("owner", plane.owner.as_ref().map(ToString::to_string)),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                item[key] = text.into();
            }
        }
    }
    insert_support(page, revision.version().map(|version| version.line()), &mut item);
    item
}

fn next_item(page: &Page<'_>, target: &Target) -> Value {
    let mut item = json!({
        "version": line_name(target.line),
        "may": target.verdict.as_str(),
        "minors": target.minors,
        "here": target.here,
        "notes": notes(page, target),
    });
    if let Some(release) = page.releases.of_line(target.line) {
        item["kubernetes"] =
            json!({"oldest": line_name(release.oldest_kubernetes), "newest": line_name(release.newest_kubernetes)});
    }
    insert_support(page, Some(target.line), &mut item);
    item
}

fn insert_support(page: &Page<'_>, line: Option<(u32, u32)>, item: &mut Value) {
    if let Some(release) = line.and_then(|line| page.releases.of_line(line)) {
        item["endOfSupport"] = json!({
            "date": release.end.to_string(),
            "isExpected": release.end_is_expected,
            "source": release.source,
        });
    }
}
