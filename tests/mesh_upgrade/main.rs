//! `kubectl mesh-upgrade`, end to end on real clusters.

mod complete;
mod orphans;
mod permissions;
mod plan;
mod precheck;
mod restart;
mod rollback;
mod start;
mod status;
mod targets;
mod trouble;
