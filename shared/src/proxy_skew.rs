//! How far a proxy's version may stand from its control plane's: the one rule.

use crate::proxy::ProxyType;
use crate::state::Reason;
use crate::version::Version;

/// What is wrong with the distance between a proxy and its control plane; nothing when both work together, or are of other major versions.
///
/// A control plane may be one minor version ahead of the data plane, two while a canary upgrade is on its way, and a data plane never
/// ahead of it (istio.io, "Supported releases" and "Canary upgrades"). ztunnel works with a control plane of its own minor version or one
/// above ("Upgrade with Helm" for ambient mode); the CNI plugin with one of its own minor version, one above or one below ("Install the
/// Istio CNI node agent").
pub fn skew(proxy_type: ProxyType, proxy: &Version, control_plane: &Version) -> Option<Reason> {
    let most_ahead = if proxy_type == ProxyType::Cni { 1 } else { 0 };
    match proxy.minors_ahead_of(control_plane)? {
        ahead if ahead > most_ahead => Some(Reason::SkewAhead),
        behind if behind <= -2 => Some(Reason::SkewBehind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_own_distance() {
        let of = |proxy_type, proxy: &str, control_plane: &str| {
            skew(proxy_type, &proxy.parse().unwrap(), &control_plane.parse().unwrap())
        };
        for proxy_type in [ProxyType::Sidecar, ProxyType::Ztunnel, ProxyType::Waypoint] {
            assert_eq!(of(proxy_type, "1.28.2", "1.28.9"), None);
            assert_eq!(of(proxy_type, "1.27.0", "1.28.2"), None);
            assert_eq!(of(proxy_type, "1.26.0", "1.28.2"), Some(Reason::SkewBehind));
            assert_eq!(of(proxy_type, "1.29.0", "1.28.2"), Some(Reason::SkewAhead));
        }
        assert_eq!(of(ProxyType::Cni, "1.29.0", "1.28.2"), None);
        assert_eq!(of(ProxyType::Cni, "1.30.0", "1.28.2"), Some(Reason::SkewAhead));
        assert_eq!(of(ProxyType::Cni, "1.27.0", "1.28.2"), None);
        assert_eq!(of(ProxyType::Cni, "1.26.0", "1.28.2"), Some(Reason::SkewBehind));
        assert_eq!(of(ProxyType::Sidecar, "2.0.0", "1.28.2"), None);
    }
}
