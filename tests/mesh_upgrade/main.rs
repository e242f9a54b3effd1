//! `kubectl mesh-upgrade`, end to end on real clusters.

mod precheck;
mod restart;
mod status;
mod targets;
