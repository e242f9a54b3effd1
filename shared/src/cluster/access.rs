//! What a user is told when a list is denied or breaks off: what it costs, and the rule that would grant it.

use super::failure::{Cause, Failure};
use crate::advice::Advice;
use crate::finding::{Code, Finding, Severity};
use crate::object::Resource;

/// What a user is told when a list is not to be had: what it costs and the rule that would grant it.
pub(super) fn finding(resource: Resource, namespace: Option<&str>, failure: &Failure) -> Finding {
    let place = namespace.map_or(String::new(), |namespace| format!(" in namespace {namespace}"));
    let (code, message) = match &failure.cause {
        Cause::Forbidden => (Code::Forbidden, format!("listing {resource}{place} is denied: {}", cost(resource))),
        _ => (Code::Unread, format!("{failure}: {}", cost(resource))),
    };
    let advice = match &failure.cause {
        Cause::Forbidden => Advice::say(format!(
            "grant it by the rule apiGroups: [{:?}], resources: [{}], verbs: [get, list]; --explain-rbac prints all that this command needs",
            resource.group(),
            resource.plural()
        )),
        _ => "run the command again".into(),
    };
    Finding { severity: Severity::Warning, code, subject: resource.to_string(), message, advice }
}

/// What depends on a list.
const fn cost(resource: Resource) -> &'static str {
    match resource {
        Resource::Namespaces => "which injector serves a namespace is unknown",
        Resource::MutatingWebhookConfigurations => "what a new pod would get is unknown",
        Resource::ConfigMaps => "which image a new pod would get is unknown",
        Resource::ProxyConfigs => "the variant of the image that a new pod would get is unknown",
        Resource::Services | Resource::EndpointSlices => "whether a control plane answers is not certain",
        Resource::Deployments | Resource::StatefulSets | Resource::DaemonSets | Resource::ReplicaSets => {
            "how the pods of its workloads are replaced is unknown"
        }
        Resource::Jobs => "the CronJobs of Jobs are not named",
        Resource::Rollouts => "Argo Rollouts are not recognised",
        Resource::Gateways | Resource::ValidatingWebhookConfigurations => "which revision a gateway belongs to is unknown",
        Resource::Pods => "nothing can be said",
    }
}
