//! The command or line that fixes a verdict.

use super::{Fix, Pinned, Verdict};
use crate::advice::{Advice, Command, Program};
use crate::labels;
use crate::state::{Reason, State};
use crate::workload::Restart;

pub(super) fn advice(verdict: &Verdict) -> Advice {
    let namespace = &verdict.workload.namespace;
    let workload = verdict.workload.type_name();
    match &verdict.fix {
        Fix::Nothing => Advice::none(),
        Fix::Restart => restart(verdict),
        Fix::Unpin(Pinned::Annotation) => Advice::say(format!(
            "remove the annotation {} from the pod template of {workload} -n {namespace}",
            labels::PROXY_IMAGE
        )),
        Fix::Unpin(Pinned::Container) => Advice::say(format!(
            "set the image of container istio-proxy to \"auto\" in the pod template of {workload} -n {namespace}"
        )),
        Fix::Unpin(Pinned::Template) => {
            Advice::say(format!("the proxy stands in the pod template of {workload} -n {namespace}: render it anew ("))
                .and_run(Command::istioctl("kube-inject"))
                .and_say(", or its chart), or remove container istio-proxy there and let an injector add it")
        }
        Fix::RepairControlPlane(Some(revision)) => Advice::run(
            Command::kubectl("get deployments,services,endpointslices -A -l").value(format!("{}={revision}", labels::REVISION)),
        )
        .and_say(format!(": bring that control plane back, or let namespace {namespace} follow another revision")),
        Fix::RepairControlPlane(None) => {
            Advice::run(Command::kubectl("get namespace").value(&**namespace).words("--show-labels"))
                .and_say(": let it follow a revision that is there")
        }
        Fix::RepairCaBundle(configuration) => {
            let get = Command::kubectl("get mutatingwebhookconfiguration").value(configuration).words("-o yaml");
            Advice::say("its istiod writes the caBundle once it runs and may change it: ")
                .and_run(get)
                .and_say(" shows what is there")
        }
        Fix::ChangeTemplate => {
            Advice::say(format!("change in the pod template of {workload} -n {namespace} what istiod refuses: {}", verdict.why))
        }
        Fix::GatewayOwner(Some(revision)) => Advice::say(format!(
            "istiod of revision {revision} makes this Deployment: see that it runs, or let the Gateway follow another \
             revision by its label {}",
            labels::REVISION
        )),
        Fix::Discover(advice) => advice.clone(),
        Fix::GatewayOwner(None) => Advice::say(format!("let the Gateway follow a revision by its label {}", labels::REVISION)),
        Fix::Explain(reason) => explain(*reason),
    }
}

/// Only what the owner's kind allows: `kubectl rollout restart` where it works, our own command elsewhere.
fn restart(verdict: &Verdict) -> Advice {
    let id = &verdict.workload;
    let (namespace, kind, name) = (&*id.namespace, id.kind.to_lowercase(), &*id.name);
    match &verdict.restart {
        Restart::Rollout => Command::kubectl("").namespace(namespace).words("rollout restart").value(kind).value(name).into(),
        Restart::Partitioned(_)
        | Restart::OnDelete
        | Restart::Eviction
        | Restart::ArgoRollout
        | Restart::Operator(_)
        | Restart::EvictOwned(_) => {
            let restart = Command::mesh_upgrade("restart").namespace(namespace);
            let restart = match &verdict.restart {
                Restart::EvictOwned(_) => restart.words("--evict-owned"),
                _ => restart,
            };
            let restart = match verdict.state {
                State::Missing | State::Leaving => restart.flag("--state", verdict.state.as_str()),
                _ => restart,
            };
            restart.value(id.qualified_name()).into()
        }
        Restart::Paused => match &*id.kind {
            "Rollout" => Command::new(Program::Plugin("argo"), "rollouts promote").value(name).namespace(namespace).into(),
            _ => Command::kubectl("").namespace(namespace).words("rollout resume").value(kind).value(name).into(),
        },
        Restart::Owned(owner) => {
            let evict = Command::mesh_upgrade("restart").namespace(namespace).words("--evict-owned");
            Advice::say(format!("{}, or have its pods evicted one by one: ", owner.remedy(namespace)))
                .and_run(evict.value(id.qualified_name()))
        }
        Restart::Never(_) => {
            Advice::say(format!("wait for {kind}/{name} -n {namespace} to end: its next pod gets the wanted proxy"))
        }
        Restart::Unknown(_) if &*id.kind == "Pod" => {
            Advice::say(format!("delete and create pod/{name} -n {namespace} again, when its work allows"))
        }
        Restart::Unknown(_) if &*id.kind == "DeploymentConfig" => {
            Command::new(Program::Other("oc"), "rollout latest").value(format!("dc/{name}")).namespace(namespace).into()
        }
        Restart::Unknown(_) => Advice::say(format!(
            "bring new pods in the way that is documented for {}: how a {} replaces them is not known here",
            id.qualified_name(),
            id.kind
        )),
    }
}

fn explain(reason: Reason) -> Advice {
    Advice::say(match reason {
        Reason::Forbidden => "--explain-rbac prints the rules that would grant the missing lists",
        Reason::NotInFile => "add the missing kinds to the input; the findings name the command",
        Reason::NoPods => "see why its pods are not there; once they are, the same command tells what they run",
        Reason::ManyInjectors => "remove a label or tag so that one injector matches; --probe asks the API server",
        _ => "--probe asks the API server what a new pod would get",
    })
}
