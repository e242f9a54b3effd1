//! Everything that talks to an API server or reads files. Nothing outside this module knows the client.

mod access;
pub mod apply;
pub mod authorship;
pub mod connection;
pub mod connections;
mod deletion;
pub mod discovery;
pub mod failure;
mod file;
mod installation;
pub mod inventory;
pub(crate) mod json_stream;
mod list;
pub mod owners;
pub mod probe;
pub(crate) mod protobuf;
pub mod raw;
pub mod read;
pub mod read_back;
pub mod readiness;
mod replacement;
pub mod replica_sets;
mod request;
pub mod review;
mod save;
mod scope;
mod sight;
pub mod users;
pub mod wait;
pub mod watch;

#[cfg(test)]
pub(crate) use file::read_bytes;
pub use file::{read_files, read_installation_files, read_text};
pub use installation::read_installation;
pub use list::{Begin, Found, GroupVersionResource, List, Observer};
pub use read::{Unobserved, read};
pub use save::Saved;
pub use scope::Scope;
pub use sight::{Pods, Sight, look};
