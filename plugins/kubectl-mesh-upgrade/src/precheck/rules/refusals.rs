//! Pods that the target's istiod refuses, and the present one takes.

use std::collections::HashMap;

use mesh::advice::Advice;
use mesh::control_plane::{ControlPlane, Read};
use mesh::finding::{Code, Finding};
use mesh::injection;
use mesh::mesh_config::MeshConfig;
use mesh::workload::{Workload, WorkloadId};

use crate::precheck::facts::{Facts, error};

/// What newer versions check: quantities whatever template is used (1.29), names of interfaces (1.30), ports from which metrics are merged
/// (1.31). See [`mesh::injection::newly_refused`].
pub fn newly_refused(facts: &Facts) -> Vec<Finding> {
    let Some(to) = &facts.target.version else { return Vec::new() };
    let snapshot = &facts.survey.snapshot;
    let default = MeshConfig::default();
    let workloads: HashMap<&WorkloadId, &Workload> = snapshot.workloads.iter().map(|workload| (&workload.id, workload)).collect();
    let mut findings = Vec::new();
    for verdict in &facts.verdicts {
        let Some(revision) = verdict.wanted.as_ref().and_then(|wanted| wanted.revision.as_deref()) else { continue };
        let present: Option<&ControlPlane> = snapshot.control_planes_of(revision).next();
        let Some(from) = present.and_then(ControlPlane::version) else { continue };
        let mesh = match present.map(|present| &present.mesh_config) {
            Some(Read::Known(mesh)) => mesh,
            _ => &default,
        };
        let Some(workload) = workloads.get(&verdict.workload) else { continue };
        if let Some(why) = injection::newly_refused(mesh, &workload.template, &from, to) {
            let id = &verdict.workload;
            let subject = format!("{} -n {}", id.qualified_name(), id.namespace);
            let advice =
                Advice::say(format!("change the annotation in the pod template of {} -n {}", id.type_name(), id.namespace));
            findings.push(error(Code::NewlyRefused, subject, format!("istiod {to} refuses its pods: {why}"), advice));
        }
    }
    findings
}
