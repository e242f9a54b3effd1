//! `kubectl mesh-upgrade`, end to end on real clusters.

mod busy;
mod complete;
mod completion;
mod dump;
mod endings;
mod hidden_users;
mod identity;
mod installers;
mod interruption;
mod operators;
mod orphans;
mod permissions;
mod plan;
mod precheck;
mod programs;
mod quota;
mod restart;
mod rollback;
mod slow_stops;
mod start;
mod start_interruption;
mod status;
mod stuck;
mod targets;
mod trouble;
mod waves;
