//! `kubectl mesh-upgrade`, end to end on real clusters.

mod plan;
mod precheck;
mod restart;
mod rollback;
mod status;
mod targets;
