//! Commands in advice, worded so that they reach the cluster that they are about.

use crate::verdict::Verdict;

/// Words commands.
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

    /// A command of one of the plugins: `words` behind the plugin's name, with the connection flags at the end.
    pub fn plugin(&self, plugin: &str, words: &str) -> String {
        let flags = self.flags(None);
        let space = if flags.is_empty() { "" } else { " " };
        format!("kubectl {plugin} {words}{space}{flags}")
    }

    /// The advice on a verdict.
    pub fn advice(&self, cluster: Option<&str>, verdict: &Verdict) -> String {
        verdict.advice(&self.kubectl(cluster))
    }
}
