//! What a move of a tag does to those who follow it.

use super::followers::Followers;
use super::gateways::Handover;
use crate::terminal::words::plural;

/// What a move does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Namespaces whose new pods get the other revision.
    pub namespaces: Vec<String>,
    /// Workloads that follow.
    pub workloads: usize,
    /// Their proxies.
    pub proxies: u32,
    /// Proxies of another revision than the one moved to, until their workloads are restarted.
    pub stale_after: u32,
    /// Pods that name the tag themselves.
    pub labelled_pods: u32,
    /// Gateways that their istiod re-makes at once: `namespace/name`.
    pub gateways: Vec<String>,
}

impl Effect {
    /// Of a move to `revision`, which hands these Gateways over.
    pub(super) fn new(followers: &Followers, revision: &str, handover: &Handover) -> Effect {
        Effect {
            namespaces: followers.namespaces.iter().cloned().collect(),
            workloads: followers.workloads().len(),
            proxies: followers.proxy_count(),
            stale_after: followers.restart_count(revision),
            labelled_pods: followers.pods.iter().map(|(_, pods)| pods).sum(),
            gateways: handover.gateways.clone(),
        }
    }

    /// In words, one fact a line; nobody follows when it is empty.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.namespaces.is_empty() {
            let count = plural(self.namespaces.len() as u64, "namespace", "namespaces");
            lines.push(format!("followed by {count}: {}", some_of(&self.namespaces)));
        }
        if self.labelled_pods > 0 {
            lines.push(format!("followed by {} with a label of their own", plural(u64::from(self.labelled_pods), "pod", "pods")));
        }
        if self.proxies > 0 {
            let workloads = plural(self.workloads as u64, "workload", "workloads");
            let proxies = plural(u64::from(self.proxies), "proxy", "proxies");
            let after = match self.stale_after {
                0 => "none of which has to be restarted".to_owned(),
                some => format!("{some} of another revision until they are restarted"),
            };
            lines.push(format!("{workloads} with {proxies}, {after}"));
        }
        if !self.gateways.is_empty() {
            let count = plural(self.gateways.len() as u64, "gateway is", "gateways are");
            lines.push(format!("{count} replaced at once by istiod: {}", some_of(&self.gateways)));
        }
        lines
    }
}

/// The first few names, and how many more there are.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
