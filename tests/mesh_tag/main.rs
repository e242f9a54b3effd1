//! `kubectl mesh-tag`, end to end on real clusters.

mod attach;
mod bad_input;
mod busy;
mod concurrency;
mod default_tag;
mod endings;
mod flaws;
mod gateways;
mod generate;
mod interruption;
mod list;
mod moves;
mod owners;
mod permissions;
mod read_back;
mod tags;
