//! Who else writes the pod templates of a wave's workloads: an operator would undo a restart, and of others the user is told.

use std::collections::BTreeMap;

use mesh::operator::OwnerName;
use mesh::template_writer;
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::workload::{Restart, WorkloadId};

use super::engine::{Engine, subject};
use crate::waves::{Item, Wave};

impl Engine<'_> {
    /// The wave without the workloads that an operator would put back, each of which is added to `skipped` with the reason; evicting
    /// their pods leaves the template alone, where the user wants that.
    pub(super) async fn without_operated(
        &self,
        wave: &Wave,
        skipped: &mut Vec<String>,
        terminal: &mut Terminal,
    ) -> Result<Wave, Stop> {
        let mut left = Wave { items: Vec::new(), ..wave.clone() };
        let mut others: BTreeMap<String, Vec<&WorkloadId>> = BTreeMap::new();
        for item in &wave.items {
            let Some(object) = self.by_template_alone(item).await else {
                left.items.push(item.clone());
                continue;
            };
            match template_writer::operator(&object) {
                Some(owner) if self.snapshot.may_evict_owned => {
                    left.items.push(Item { restart: Restart::EvictOwned(owner), ..item.clone() });
                }
                Some(owner) => skipped.push(put_back(&item.workload, &owner, &template_writer::of(&object))),
                None => {
                    for writer in template_writer::of(&object) {
                        others.entry(writer.to_owned()).or_default().push(&item.workload);
                    }
                    left.items.push(item.clone());
                }
            }
        }
        for (writer, workloads) in others {
            let (count, first) = (plural(workloads.len() as u64, "workload", "workloads"), workloads[0]);
            writeln!(
                terminal.err,
                "note: the field manager {writer} writes the pod template of {count}, such as {} -n {}: if it is an operator, it may undo the restart",
                first.qualified_name(),
                first.namespace
            )?;
        }
        Ok(left)
    }

    /// The object of a workload that is restarted by its template. What cannot be read now fails by itself later.
    async fn by_template_alone(&self, item: &Item) -> Option<serde_json::Value> {
        let subject = subject(&item.workload).filter(|_| item.restart == Restart::Rollout)?;
        self.looks.find(&subject, None).await.ok().flatten()
    }
}

fn put_back(workload: &WorkloadId, owner: &OwnerName, writers: &[&str]) -> String {
    format!(
        "{} -n {}: {owner} owns it, and the field manager {} writes its pod template, so it would undo a restart: restart it through \
         its owner, or let --evict-owned evict its pods one by one",
        workload.qualified_name(),
        workload.namespace,
        writers.join(", ")
    )
}
