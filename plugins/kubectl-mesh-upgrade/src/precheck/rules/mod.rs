//! The rules. Each is a pure function over [`Facts`] and names where it comes from.

mod ambient;
mod configuration;
pub mod definitions;
mod gateways;
mod mesh_config;
mod owners;
mod refusals;
mod trust;
mod validators;
mod versions;
mod webhooks;
mod workloads;

use mesh::finding::{Code, Finding};

use super::facts::{Facts, error};

/// Everything that the rules find.
pub fn all(facts: &Facts) -> Vec<Finding> {
    let rules: [fn(&Facts) -> Vec<Finding>; 40] = [
        unread,
        versions::target,
        versions::minors,
        versions::in_place,
        versions::data_plane,
        versions::kubernetes,
        versions::support,
        versions::readiness,
        versions::native_sidecars,
        definitions::served,
        definitions::stored,
        definitions::age,
        definitions::newer,
        definitions::ignored_gateway_api,
        definitions::operators,
        webhooks::health,
        webhooks::overlap,
        webhooks::shadowed_name,
        validators::dangling,
        validators::default_validator,
        mesh_config::identity,
        mesh_config::drift,
        mesh_config::edits_to_carry,
        mesh_config::injector_values,
        mesh_config::istiod_environment,
        refusals::newly_refused,
        workloads::without_surge,
        workloads::disruption_budgets,
        workloads::hard_to_replace,
        workloads::proxy_resources,
        workloads::not_healthy,
        workloads::quotas,
        workloads::autoscalers,
        gateways::all,
        configuration::envoy_filters,
        configuration::wasm,
        configuration::of_one_revision,
        ambient::node_components,
        owners::all,
        trust::roots,
    ];
    let mut findings: Vec<Finding> = rules.iter().flat_map(|rule| rule(facts)).collect();
    findings.sort();
    findings.dedup();
    findings
}

/// What could not be read is unknown, and unknown never counts as safe.
fn unread(facts: &Facts) -> Vec<Finding> {
    let advice = "--explain-rbac prints the rules that would grant it";
    let lists = facts.unread().map(|(list, why)| error(Code::Unread, list.name(), format!("{why}: {}", list.cost()), advice));
    let istiods =
        facts.survey.istiods_unread.iter().map(|why| {
            error(Code::Unread, "deployments of istiod", format!("{why}: who owns a control plane is unknown"), advice)
        });
    lists.chain(istiods).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lists::Found;
    use crate::precheck::facts::{List, brief, sample};

    #[test]
    fn a_list_that_is_denied_blocks() {
        let Facts { survey, target, kubernetes, today, .. } = sample([]);
        let denied = BTreeMap::from([(List::EnvoyFilters, Found::Unread("listing envoyfilters: denied".to_owned()))]);
        let facts = Facts::new(survey, target, denied, kubernetes, today);
        let found = unread(&facts);
        assert_eq!(brief(&found), [("unread", mesh::finding::Severity::Error)]);
        assert!(found[0].message.contains("whether filters cease to apply is unknown"), "{found:#?}");
        assert!(unread(&sample([])).is_empty());
    }
}
