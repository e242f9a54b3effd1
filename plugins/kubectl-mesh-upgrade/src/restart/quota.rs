//! A full quota, as the API server words it: it says nothing about what a pod would get.

use std::fmt;

/// What the API server says where a quota has no room (`checkRequest`,
/// k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go).
const EXCEEDED: &str = "exceeded quota: ";

/// A quota without room for one more pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullQuota {
    /// Its namespace and name.
    pub name: String,
    /// What is used of what, such as `pods 11 of 11`.
    pub uses: String,
}

impl FullQuota {
    /// Reads it off the failure of a pod in a namespace, if that is what has failed.
    pub fn of(failure: &str, namespace: &str) -> Option<FullQuota> {
        let (_, rest) = failure.split_once(EXCEEDED)?;
        let (name, rest) = rest.split_once(", requested: ")?;
        let (_, rest) = rest.split_once(", used: ")?;
        let (used, limited) = rest.split_once(", limited: ")?;
        let limits: Vec<(&str, &str)> = limited.split(',').filter_map(|pair| pair.trim().split_once('=')).collect();
        let uses = used.split(',').filter_map(|pair| {
            let (key, used) = pair.trim().split_once('=')?;
            let (_, limit) = limits.iter().find(|(other, _)| *other == key)?;
            // Our own words about the failure may stand behind it.
            let limit = limit.split([':', ' ', '"']).next().unwrap_or_default();
            Some(format!("{key} {used} of {limit}"))
        });
        Some(FullQuota { name: format!("{namespace}/{name}"), uses: uses.collect::<Vec<_>>().join(", ") })
    }
}

impl fmt::Display for FullQuota {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FullQuota { name, uses } = self;
        write!(formatter, "quota {name} is full ({uses}): the dry-run pod exceeded quota")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_quota_is_named_with_what_is_used() {
        let failure = r#"asking the API server for a new pod of shop/deployment/web: pods "web-x" is forbidden: exceeded quota: q, requested: cpu=1,pods=1, used: cpu=7500m,pods=11, limited: cpu=8,pods=11: denied (Forbidden)"#;
        let quota = FullQuota::of(failure, "shop").unwrap();
        assert_eq!(quota.to_string(), "quota shop/q is full (cpu 7500m of 8, pods 11 of 11): the dry-run pod exceeded quota");
        // That is no matter of room: no pod that names no limits gets in.
        assert_eq!(FullQuota::of("pods \"web-x\" is forbidden: failed quota: q: must specify limits.cpu for: app", "shop"), None);
    }
}
