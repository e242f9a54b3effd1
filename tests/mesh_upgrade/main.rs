//! `kubectl mesh-upgrade`, end to end on real clusters.

mod precheck;
mod status;
mod targets;
