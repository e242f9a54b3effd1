//! `kubectl mesh-upgrade`, end to end on real clusters.

mod plan;
mod precheck;
mod restart;
mod status;
mod targets;
