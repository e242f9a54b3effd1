//! Whether a revision looks at the namespaces that are to follow it.

use super::plan::Planned;
use crate::control_plane::ControlPlane;
use crate::health::undiscovered;
use crate::object::Lookup;
use crate::refusal::Refusal;

/// Refuses namespaces that the control plane does not discover: proxies there would get no configuration.
pub(super) fn check<'a, L: Lookup + 'a>(
    control_plane: Option<&ControlPlane>,
    namespaces: impl IntoIterator<Item = (&'a str, &'a L)>,
) -> Planned<()> {
    let Some(control_plane) = control_plane else { return Ok(()) };
    let found = namespaces.into_iter().filter_map(|(name, labels)| undiscovered(name, labels, control_plane));
    let found: Vec<_> = found.collect();
    let Some(first) = found.first() else { return Ok(()) };
    let reason = format!(
        "revision {} does not discover these namespaces: its discoverySelectors select none of them, and new pods there would never become ready",
        control_plane.revision
    );
    let advice = first.advice.clone();
    Err(Refusal::new(reason, advice).with(found.into_iter().map(|finding| finding.subject).collect::<Vec<_>>()))
}
