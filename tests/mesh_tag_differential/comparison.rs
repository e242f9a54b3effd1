//! Compares both sides after a step, and keeps the differences that nobody meant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use support::{Cluster, IstioVersion, Program};

use crate::intended::{INTENDED, Intended};
use crate::worlds::Running;
use crate::{grid, objects};

/// What a side shows: a subject and a path in it, with the value there.
type Leaves = BTreeMap<(String, String), String>;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// What differs: `grid`, `tag list`, `analyze`, or `kind/name` of an object.
    pub subject: String,
    /// Where: the pod of the grid, or the field.
    pub path: String,
    /// istioctl's side.
    pub theirs: String,
    /// Ours.
    pub ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {} by istioctl, {} by mesh-tag", self.subject, self.path, self.theirs, self.ours)
    }
}

/// All differences of a world.
pub struct Comparison {
    world: &'static str,
    istioctl: IstioVersion,
    unintended: Vec<String>,
    used: BTreeSet<&'static str>,
}

impl Comparison {
    /// Before the first step.
    pub fn new(world: &'static str, istioctl: IstioVersion) -> Comparison {
        Comparison { world, istioctl, unintended: Vec::new(), used: BTreeSet::new() }
    }

    /// Compares after a step.
    pub fn compare(&mut self, step: &str, theirs: &Running, ours: &Running) -> Result<()> {
        for side in [theirs, ours] {
            side.cluster.wait_for_validators()?;
        }
        let mut differences = Vec::new();
        let both = |name: &str, see: &dyn Fn(&Cluster) -> Result<Leaves>| -> Result<Vec<Difference>> {
            let (one, other) = (see(&theirs.cluster).with_context(|| format!("{name} of istioctl's side"))?, see(&ours.cluster)?);
            let subjects = |leaves: &Leaves| leaves.keys().map(|(subject, _)| subject.clone()).collect::<BTreeSet<_>>();
            let (their_subjects, our_subjects) = (subjects(&one), subjects(&other));
            let is_object = |subject: &str| subject.contains('/');
            let (here, gone) = ("(there)".to_owned(), "(absent)".to_owned());
            // An object that one side does not have is one difference, not as many as it has fields.
            let whole = their_subjects.symmetric_difference(&our_subjects).filter(|subject| is_object(subject)).map(|subject| {
                let is_theirs = their_subjects.contains(subject);
                let (theirs, ours) = if is_theirs { (&here, &gone) } else { (&gone, &here) };
                Difference { subject: subject.clone(), path: String::new(), theirs: theirs.clone(), ours: ours.clone() }
            });
            let whole: Vec<Difference> = whole.collect();
            let is_in_both =
                |subject: &String| !is_object(subject) || (their_subjects.contains(subject) && our_subjects.contains(subject));
            let keys: BTreeSet<_> = one.keys().chain(other.keys()).filter(|(subject, _)| is_in_both(subject)).collect();
            let absent = || "(absent)".to_owned();
            let difference = |(subject, path): &(String, String)| {
                let key = (subject.clone(), path.clone());
                let (theirs, ours) =
                    (one.get(&key).cloned().unwrap_or_else(absent), other.get(&key).cloned().unwrap_or_else(absent));
                (theirs != ours).then(|| Difference { subject: subject.clone(), path: path.clone(), theirs, ours })
            };
            Ok(keys.into_iter().filter_map(difference).chain(whole).collect())
        };
        differences.extend(both("the objects", &objects::leaves)?);
        let named = |name: &str, answers: BTreeMap<String, String>| {
            answers.into_iter().map(|(key, value)| ((name.to_owned(), key), value)).collect::<Leaves>()
        };
        differences.extend(both("the grid", &|cluster| Ok(named("grid", grid::answers(cluster)?)))?);
        differences.extend(both("istioctl tag list", &|cluster| Ok(named("tag list", tag_list(cluster)?)))?);
        differences.extend(both("istioctl analyze", &|cluster| Ok(named("analyze", analyze(cluster)?)))?);
        for difference in differences {
            match INTENDED.iter().find(|intended| intended.covers(self.world, self.istioctl, step, &difference)) {
                Some(Intended { what, .. }) => drop(self.used.insert(what)),
                None => self.unintended.push(format!("after {step}: {difference}")),
            }
        }
        Ok(())
    }

    /// Fails on everything that nobody meant, and on what was meant and did not come.
    pub fn finish(self) -> Result<()> {
        let expected = INTENDED.iter().filter(|intended| intended.is_expected(self.world, self.istioctl));
        let unused: Vec<&str> = expected.map(|intended| intended.what).filter(|what| !self.used.contains(what)).collect();
        ensure!(self.unintended.is_empty(), "{} unintended differences:\n{}", self.unintended.len(), self.unintended.join("\n"));
        ensure!(unused.is_empty(), "intended differences that did not come: {unused:#?}");
        Ok(())
    }
}

/// What the newer istioctl says of the tags: each with its revision.
fn tag_list(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let text = cluster.run(Program::Istioctl(IstioVersion::V1_28_2), ["tag", "list", "-o", "json"])?;
    if text.contains("No Istio revision tags found") {
        return Ok(BTreeMap::new());
    }
    let list: Value = serde_json::from_str(&text).with_context(|| format!("istioctl tag list: {text}"))?;
    let rows = list.as_array().context("a list of tags")?.iter();
    let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        let key = format!("tag {:?}", row["tag"].as_str().unwrap_or_default());
        tags.entry(key).or_default().push(format!("{} {}", row["revision"], row["namespaces"]));
    }
    Ok(tags.into_iter().map(|(tag, rows)| (tag, rows.join("; "))).collect())
}

/// What `istioctl analyze` finds wrong: code and object, counted.
fn analyze(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let mut command = cluster.command(Program::Istioctl(IstioVersion::V1_28_2))?;
    // It ends with another code when it has found something.
    let output = command.args(["analyze", "-A", "-o", "json"]).output().context("running istioctl analyze")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // Lines of its log stand before the document.
    let json = text.find("\n[").map(|at| &text[at..]).or_else(|| text.starts_with('[').then_some(&*text)).unwrap_or("[]");
    let found: Value = serde_json::from_str(json).with_context(|| format!("istioctl analyze: {text}"))?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for message in found.as_array().into_iter().flatten() {
        let origin = message["origin"].as_str().unwrap_or_default();
        *counts.entry(format!("{} {origin}", message["code"].as_str().unwrap_or_default())).or_default() += 1;
    }
    Ok(counts.into_iter().map(|(key, count)| (key, count.to_string())).collect())
}
