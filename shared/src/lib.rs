//! The common crate of the kubectl-mesh plugins.
//!
//! ```text
//! fetch ──► Snapshot ──► decide ──► show
//! (async)   (our types)  (pure)  └─► apply (async)
//! ```
//!
//! - [`cluster`] reads objects from an API server or from files, and is the only module that knows the client.
//! - [`object`] are those objects, cut down to the fields in use; [`snapshot`] links them.
//! - [`injection`] says which proxy a new pod would get, [`verdict`] compares that with what runs.
//! - [`terminal`] is everything that a user sees.
//!
//! Everything but `cluster` and `terminal` is pure: no clock, no environment, no I/O, and nothing there fails. What is
//! odd becomes a [`finding`], what cannot be known is unknown with its reason.

pub mod advice;
pub mod authorship;
pub mod census;
pub mod change;
pub mod child;
pub mod cluster;
pub mod comparison;
pub mod control_plane;
pub mod course;
pub mod direction;
pub mod execution;
pub mod finding;
pub mod following;
#[cfg(test)]
mod fuzz;
pub mod health;
pub mod image;
pub mod injection;
pub mod injection_template;
pub mod injector;
pub mod injector_config;
pub mod installation;
pub mod interruption;
pub mod labels;
pub mod manifest;
pub mod mesh_config;
pub mod needs;
pub mod object;
pub mod operator;
pub mod outcome;
pub mod outside;
pub mod owner;
pub mod platform;
pub mod proof;
mod proto_json;
pub mod proxy;
mod proxy_config;
pub mod proxy_skew;
pub mod refusal;
pub mod regression;
pub mod session;
pub mod skew;
pub mod snapshot;
pub mod state;
pub mod tag;
pub mod template;
pub mod template_writer;
pub mod terminal;
pub mod trust;
pub mod uses;
pub mod verdict;
pub mod version;
pub mod workload;
pub mod writes;
pub mod yaml;
