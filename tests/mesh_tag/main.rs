//! `kubectl mesh-tag`, end to end on real clusters.

mod attach;
mod flaws;
mod gateways;
mod generate;
mod list;
mod moves;
mod owners;
