//! How tags look in each format.

mod document;
mod objects;
mod table;

pub use document::{document, entry, json, yaml};
pub use objects::objects;
pub use table::{Columns, followers_text, readiness_text, table};
