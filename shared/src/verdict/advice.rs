//! The command or line that fixes a verdict.

use super::{Fix, Pinned, Verdict};
use crate::labels;
use crate::state::{Reason, State};
use crate::workload::Restart;

pub(super) fn advice(verdict: &Verdict, kubectl: &str) -> String {
    let namespace = &verdict.workload.namespace;
    let workload = verdict.workload.type_name();
    match &verdict.fix {
        Fix::Nothing => String::new(),
        Fix::Restart => restart(verdict, kubectl),
        Fix::Unpin(Pinned::Annotation) => {
            format!("remove the annotation {} from the pod template of {workload} -n {namespace}", labels::PROXY_IMAGE)
        }
        Fix::Unpin(Pinned::Container) => {
            format!("set the image of container istio-proxy to \"auto\" in the pod template of {workload} -n {namespace}")
        }
        Fix::Unpin(Pinned::Template) => format!(
            "the proxy stands in the pod template of {workload} -n {namespace}: render it anew (istioctl kube-inject, or its \
             chart), or remove container istio-proxy there and let an injector add it"
        ),
        Fix::RepairControlPlane(Some(revision)) => format!(
            "{kubectl} get deployments,services,endpointslices -A -l istio.io/rev={revision}: bring that control plane back, \
             or let namespace {namespace} follow another revision"
        ),
        Fix::RepairControlPlane(None) => {
            format!("{kubectl} get namespace {namespace} --show-labels: let it follow a revision that is there")
        }
        Fix::GatewayOwner(Some(revision)) => format!(
            "istiod of revision {revision} makes this Deployment: see that it runs, or let the Gateway follow another \
             revision by its label {}",
            labels::REVISION
        ),
        Fix::GatewayOwner(None) => format!("let the Gateway follow a revision by its label {}", labels::REVISION),
        Fix::Explain(reason) => explain(*reason),
    }
}

/// Only what the owner's kind allows: `kubectl rollout restart` where it works, our own command elsewhere.
fn restart(verdict: &Verdict, kubectl: &str) -> String {
    let id = &verdict.workload;
    let (namespace, kind, name) = (&id.namespace, id.kind.to_lowercase(), &id.name);
    match &verdict.restart {
        Restart::Rollout | Restart::Partitioned(_) => format!("{kubectl} -n {namespace} rollout restart {kind} {name}"),
        Restart::OnDelete | Restart::Eviction | Restart::ArgoRollout => {
            let state = match verdict.state {
                State::Missing | State::Leaving => format!(" --state {}", verdict.state),
                _ => String::new(),
            };
            format!("{kubectl} mesh-upgrade restart -n {namespace}{state} {}", id.qualified_name())
        }
        Restart::Paused => match &*id.kind {
            "Rollout" => format!("{kubectl} argo rollouts promote {name} -n {namespace}"),
            _ => format!("{kubectl} -n {namespace} rollout resume {kind} {name}"),
        },
        Restart::Never(_) => format!("wait for {kind}/{name} -n {namespace} to end: its next pod gets the wanted proxy"),
        Restart::Unknown(_) if &*id.kind == "Pod" => {
            format!("delete and create pod/{name} -n {namespace} again, when its work allows")
        }
        Restart::Unknown(_) => format!("restart it through its owner {kind}/{name} -n {namespace}"),
    }
}

fn explain(reason: Reason) -> String {
    match reason {
        Reason::Forbidden => "--explain-rbac prints the rules that would grant the missing lists".to_owned(),
        Reason::NotInFile => "add the missing kinds to the input; the findings name the command".to_owned(),
        Reason::ManyInjectors => "remove a label or tag so that one injector matches; --probe asks the API server".to_owned(),
        _ => "--probe asks the API server what a new pod would get".to_owned(),
    }
}
