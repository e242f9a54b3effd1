//! How a report looks in each format.

mod document;
mod junit;
mod prom;
mod refs;
mod summary;
mod table;

pub use document::document;
pub use junit::junit;
pub use prom::prom;
pub use refs::{args, names, refs};
pub use summary::{Invocation, Source, summary};
pub use table::{Columns, table};
