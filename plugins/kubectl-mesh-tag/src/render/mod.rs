//! How tags look in each format.

mod document;
mod table;

pub use document::{document, entry};
pub use table::{Columns, followers_text, readiness_text, table};
