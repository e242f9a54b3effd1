//! What a rolling update may add and take away, and whether it needs room for a pod more.

use serde_json::Value;

/// How a share is rounded.
#[derive(Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

/// How many pods a workload is to have, by Kubernetes' default of one.
pub fn replicas(object: &Value) -> u64 {
    object["spec"]["replicas"].as_u64().unwrap_or(1)
}

/// A number, or a percentage of the replicas: a surge is rounded up, what may be unavailable down (`ResolveFenceposts`,
/// k8s.io/kubernetes/pkg/controller/deployment/util/deployment_util.go).
fn resolved(value: &Value, replicas: u64, rounding: Rounding) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let percent: u64 = value.as_str()?.strip_suffix('%')?.parse().ok()?;
    Some(match rounding {
        Rounding::Up => (percent * replicas).div_ceil(100),
        Rounding::Down => percent * replicas / 100,
    })
}

/// What a rolling update of a Deployment may add and take away, by Kubernetes' own defaults of a quarter.
pub fn surge_and_unavailable(deployment: &Value) -> (u64, u64) {
    let update = &deployment["spec"]["strategy"]["rollingUpdate"];
    let replicas = replicas(deployment);
    let surge = resolved(&update["maxSurge"], replicas, Rounding::Up).unwrap_or_else(|| replicas.div_ceil(4));
    let unavailable = resolved(&update["maxUnavailable"], replicas, Rounding::Down).unwrap_or(replicas / 4);
    // Both at nothing would never roll: the controller lets one be unavailable then.
    (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
}

/// Whether a restart waits for ever where not one pod more fits in: no old pod may go before a new one is there. Every kind but
/// these takes a pod away first.
pub fn needs_room(kind: &str, object: &Value) -> bool {
    let spec = &object["spec"];
    match kind {
        "Deployment" => spec["strategy"]["type"] != "Recreate" && replicas(object) > 0 && surge_and_unavailable(object).1 == 0,
        "DaemonSet" => {
            let strategy = &spec["updateStrategy"];
            let surge = &strategy["rollingUpdate"]["maxSurge"];
            let adds = surge.as_u64().is_some_and(|pods| pods > 0) || surge.as_str().is_some_and(|share| share != "0%");
            strategy["type"] != "OnDelete" && adds
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shares_are_rounded_as_the_controller_rounds_them() {
        assert_eq!(resolved(&json!("25%"), 3, Rounding::Up), Some(1));
        assert_eq!(resolved(&json!("25%"), 3, Rounding::Down), Some(0));
        assert_eq!(resolved(&json!(2), 3, Rounding::Down), Some(2));
        assert_eq!(resolved(&json!("x"), 3, Rounding::Down), None);
    }

    #[test]
    fn only_what_adds_before_it_takes_away_needs_room() {
        let deployment = |spec: Value| needs_room("Deployment", &json!({"spec": spec}));
        let rolling =
            |surge: Value, unavailable: Value| json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        assert!(deployment(json!({"replicas": 3})));
        assert!(!deployment(json!({"replicas": 4})), "a quarter of four may be unavailable");
        assert!(!deployment(json!({"replicas": 0})));
        assert!(!deployment(json!({"replicas": 1, "strategy": {"type": "Recreate"}})));
        assert!(!deployment(json!({"replicas": 1, "strategy": rolling(json!(0), json!(1))})));
        assert!(deployment(json!({"replicas": 3, "strategy": rolling(json!(1), json!("25%"))})));
        let daemon_set = |strategy: Value| needs_room("DaemonSet", &json!({"spec": {"updateStrategy": strategy}}));
        assert!(!daemon_set(json!({"rollingUpdate": {"maxUnavailable": 1}})));
        assert!(!daemon_set(json!({"rollingUpdate": {"maxSurge": 0}})));
        assert!(daemon_set(json!({"rollingUpdate": {"maxSurge": 1}})));
        assert!(daemon_set(json!({"rollingUpdate": {"maxSurge": "10%"}})));
        assert!(!needs_room("StatefulSet", &json!({"spec": {"replicas": 1}})));
    }
}
