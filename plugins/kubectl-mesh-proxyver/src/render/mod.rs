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
pub use summary::{Invocation, summary};
pub use table::{Columns, table};

use mesh::verdict::Verdict;

/// Words commands so that they reach the cluster that they are about.
#[derive(Clone, Debug, Default)]
pub struct Advisor {
    /// The connection flags that were typed, to be repeated.
    pub flags: Vec<String>,
}

impl Advisor {
    /// How to call kubectl for a cluster.
    pub fn kubectl(&self, cluster: Option<&str>) -> String {
        let flags = self.flags(cluster);
        if flags.is_empty() { "kubectl".to_owned() } else { format!("kubectl {flags}") }
    }

    /// The flags with which kubectl reaches a cluster.
    pub fn flags(&self, cluster: Option<&str>) -> String {
        let context = cluster.map(|context| format!("--context={context}"));
        self.flags.iter().cloned().chain(context).collect::<Vec<_>>().join(" ")
    }

    /// The advice on a verdict.
    pub fn advice(&self, cluster: Option<&str>, verdict: &Verdict) -> String {
        verdict.advice(&self.kubectl(cluster))
    }
}
