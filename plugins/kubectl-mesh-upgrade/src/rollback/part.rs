//! A part of the mesh that goes back: its workloads, and what makes them follow.

use std::collections::BTreeSet;

use mesh::advice::{Advice, Command};
use mesh::cluster::Sight;
use mesh::refusal::Refusal;
use mesh::snapshot::Snapshot;
use mesh::tag::{self, Followers, followers};
use mesh::verdict::Verdict;
use mesh::workload::WorkloadId;

use crate::selection::{SubjectArgs, Subjects};

/// A part of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its namespaces.
    pub namespaces: BTreeSet<String>,
    /// Its workloads; all of its namespaces when `None`.
    pub workloads: Option<BTreeSet<WorkloadId>>,
}

/// Who follows a tag, seen from a part of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// Nobody of the part.
    Others,
    /// Nobody else.
    Part,
    /// The part and others.
    Both,
}

impl Part {
    /// What was selected; `None` for the whole mesh. `namespace` is the one that is meant, everywhere when `None`.
    ///
    /// # Errors
    /// When what was named is not there.
    pub fn of(
        args: &SubjectArgs,
        subjects: &Subjects,
        namespace: Option<&str>,
        snapshot: &Snapshot,
        verdicts: &[Verdict],
    ) -> Result<Option<Part>, Refusal> {
        if args.namespace.is_none() && !args.select_workloads() {
            return Ok(None);
        }
        if let Some(namespace) = namespace.filter(|namespace| !snapshot.namespaces.contains_key(*namespace)) {
            let all = Command::kubectl("get namespaces");
            return Err(Refusal::not_found(format!("namespace {namespace:?} not found"), all));
        }
        let is_here = |verdict: &&Verdict| namespace.is_none_or(|namespace| *verdict.workload.namespace == *namespace);
        let here: Vec<Verdict> = verdicts.iter().filter(is_here).cloned().collect();
        subjects.check(&here, snapshot, namespace)?;
        if !args.select_workloads() {
            let namespaces = namespace.into_iter().map(str::to_owned).collect();
            return Ok(Some(Part { namespaces, workloads: None }));
        }
        let workloads: BTreeSet<WorkloadId> =
            here.iter().filter(|verdict| subjects.include(verdict, snapshot)).map(|verdict| verdict.workload.clone()).collect();
        if workloads.is_empty() {
            let place = namespace.map_or_else(|| "in any namespace".to_owned(), |namespace| format!("in namespace {namespace}"));
            let all = Command::mesh_proxyver("-A");
            return Err(Refusal::not_found(format!("no workload of the mesh is selected {place}"), all));
        }
        let namespaces = workloads.iter().map(|workload| workload.namespace.to_string()).collect();
        Ok(Some(Part { namespaces, workloads: Some(workloads) }))
    }

    /// Whether a workload belongs to it.
    pub fn includes(&self, workload: &WorkloadId) -> bool {
        match &self.workloads {
            Some(workloads) => workloads.contains(workload),
            None => self.namespaces.contains(&*workload.namespace),
        }
    }

    /// Its namespaces, in words.
    pub fn place(&self) -> String {
        let word = if self.namespaces.len() == 1 { "namespace" } else { "namespaces" };
        format!("{word} {}", self.namespaces.iter().cloned().collect::<Vec<_>>().join(", "))
    }

    /// Who of it and besides it follows a tag.
    pub fn following(&self, followers: &Followers) -> Following {
        let of_part = self.namespaces.iter().any(|namespace| followers.namespaces.contains(namespace))
            || followers.pods.iter().any(|(workload, _)| self.includes(workload))
            || gateways(followers).any(|(namespace, _)| self.namespaces.contains(namespace));
        match (of_part, self.others(followers).is_empty()) {
            (false, _) => Following::Others,
            (true, true) => Following::Part,
            (true, false) => Following::Both,
        }
    }

    /// Who besides it follows, a line each.
    fn others(&self, followers: &Followers) -> Vec<String> {
        let namespaces = followers.namespaces.iter().filter(|namespace| !self.namespaces.contains(*namespace));
        let pods = followers.pods.iter().filter(|(workload, _)| !self.includes(workload));
        let gateways = gateways(followers).filter(|(namespace, _)| !self.namespaces.contains(namespace));
        namespaces
            .map(|namespace| format!("namespaces/{namespace}"))
            .chain(pods.map(|(workload, _)| format!("{} -n {}", workload.qualified_name(), workload.namespace)))
            .chain(gateways.map(|(namespace, name)| format!("gateways/{name} -n {namespace}")))
            .collect()
    }

    /// A tag that others follow too cannot go back for a part: a name that points to where it goes can be followed instead.
    pub fn refusal(&self, sight: &Sight, tag: &str, followers: &Followers, to: &str) -> Refusal {
        let snapshot = &sight.installation.snapshot;
        let points_there = |other: &&str| *other != tag && *other != tag::DEFAULT && snapshot.revision_of_tag(other) == Some(to);
        let name = snapshot.tags().into_iter().find(points_there).unwrap_or(to);
        let following: Vec<String> =
            self.namespaces.iter().filter(|namespace| followers.namespaces.contains(*namespace)).cloned().collect();
        let reason = format!("tag {tag} cannot go back for {} alone: others follow it too", self.place());
        let attach = Command::mesh_tag("attach").value(name).values(following).words("--overwrite");
        Refusal::new(reason, Advice::run(attach).and_say("; then the same command continues")).with(self.others(followers))
    }
}

/// The followers of a tag by which the part is concerned.
pub fn followers_of(sight: &Sight, tag: &str) -> Followers {
    followers(&sight.installation, &sight.census, tag, |injector| injector.tag.as_deref() == Some(tag))
}

fn gateways(followers: &Followers) -> impl Iterator<Item = &(String, String)> {
    followers.gateways.iter().chain(&followers.unnamed_gateways)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(namespace: &str, name: &str) -> WorkloadId {
        let (api_version, kind) = ("apps/v1".into(), "Deployment".into());
        WorkloadId { namespace: namespace.into(), api_version, kind, name: name.into() }
    }

    #[test]
    fn a_tag_moves_for_a_part_only_where_nobody_else_follows_it() {
        let part = Part { namespaces: ["shop".to_owned()].into(), workloads: None };
        let names = |names: &[&str]| Followers {
            namespaces: names.iter().map(|&name| name.to_owned()).collect(),
            ..Followers::default()
        };
        assert_eq!(part.following(&names(&["shop"])), Following::Part);
        assert_eq!(part.following(&names(&["pay"])), Following::Others);
        assert_eq!(part.following(&names(&["pay", "shop"])), Following::Both);
        let pods = Followers { pods: vec![(workload("pay", "web"), 1)], ..names(&["shop"]) };
        assert_eq!(part.following(&pods), Following::Both);
        let gateway = Followers { gateways: [("edge".to_owned(), "public".to_owned())].into(), ..names(&["shop"]) };
        assert_eq!(part.following(&gateway), Following::Both);
    }

    #[test]
    fn a_part_may_be_some_workloads_of_its_namespaces() {
        let workloads = Some([workload("shop", "web")].into());
        let part = Part { namespaces: ["shop".to_owned()].into(), workloads };
        assert!(part.includes(&workload("shop", "web")) && !part.includes(&workload("shop", "api")));
        assert_eq!(part.place(), "namespace shop");
    }
}
