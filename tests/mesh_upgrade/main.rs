//! `kubectl mesh-upgrade`, end to end on real clusters.

mod status;
mod targets;
