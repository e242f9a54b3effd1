//! Whether a restart brings what is wanted: shown by dry-run pods before the first restart of each wave.

use mesh::advice::{Advice, Command};
use mesh::cluster::probe::probe;
use mesh::injection::Injection;
use mesh::refusal::Refusal;
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
use mesh::workload::{Workload, WorkloadId};

use super::dry_run::{Shown, not_asked, shown};
use super::engine::{Engine, name, subject};
use super::event::{Events, Outcome};
use super::quota::FullQuota;
use super::tally::Tally;
use crate::downgrade::Older;
use crate::rolling_update::needs_room;
use crate::waves::{Item, Wave};

/// A workload whose restart may begin.
pub(super) struct Proved {
    /// What it is, with the image that the dry run has shown: new pods are compared with that.
    pub(super) item: Item,
    /// Why no dry run has shown anything: no pod fits in.
    pub(super) doubt: Option<String>,
}

/// What a dry run says about a restart.
enum Answer {
    Shown(Shown),
    /// No pod fits in, not even one that is only asked for.
    Full(FullQuota),
    /// It could not be asked, or nobody knows what it says.
    Unproved(String),
    /// A restart would bring something else.
    Against(String),
}

impl Answer {
    fn of(answer: Option<&Injection>, item: &Item) -> Answer {
        let shown = answer.map_or_else(not_asked, |answer| shown(answer, item.wanted.as_ref()));
        match (shown, answer) {
            (Ok(shown), _) => Answer::Shown(shown),
            (Err(why), Some(Injection::Unknown(doubt))) => {
                FullQuota::of(&doubt.why, &item.workload.namespace).map_or(Answer::Unproved(why), Answer::Full)
            }
            (Err(why), None) => Answer::Unproved(why),
            (Err(why), Some(_)) => Answer::Against(why),
        }
    }
}

impl Engine<'_> {
    /// Asks for a dry-run pod of each workload of a wave, and gives those whose restart may begin.
    ///
    /// Going forward, nothing of a wave is begun while one of its restarts would not bring what is wanted. On the way back, nobody
    /// stops the others. Where a quota has no room for the dry-run pod, those go on that take a pod away before they add one.
    pub(super) async fn prove(
        &self,
        wave: &Wave,
        tally: &mut Tally,
        events: &Events,
        terminal: &mut Terminal,
    ) -> Result<Vec<Proved>, Stop> {
        let find = |id: &WorkloadId| -> Option<&Workload> {
            let place = self.snapshot.workloads.binary_search_by(|workload| workload.id.cmp(id)).ok()?;
            Some(&self.snapshot.workloads[place])
        };
        let workloads: Vec<&Workload> = wave.items.iter().filter_map(|item| find(&item.workload)).collect();
        let answers = probe(self.connection, workloads).await;
        let (mut against, mut proved) = (Vec::new(), Vec::new());
        for item in &wave.items {
            let name = name(&item.workload);
            let fails = match Answer::of(answers.get(&item.workload), item) {
                Answer::Shown(Shown { wanted, note }) => {
                    if let Some(note) = note {
                        writeln!(terminal.err, "note: {name}: {note}")?;
                    }
                    let passage = item.passage.to(self.snapshot, wanted.as_ref());
                    let item = Item { wanted, passage, ..item.clone() };
                    // Only the dry run has shown which version it would be.
                    if self.limits.older != Older::Allowed && item.goes_back() {
                        against.push(format!("{}: restart it with --allow-downgrade", item.line()));
                    }
                    proved.push(Proved { item, doubt: None });
                    continue;
                }
                Answer::Full(quota) => {
                    let why = format!("it could not be proved what a restart brings: {quota}");
                    if self.leaving.is_none() && self.needs_room(item).await? {
                        let unproved = if self.limits.skip_unproved { &mut tally.skipped } else { &mut tally.unproved };
                        unproved.push(format!("{name}: {why}"));
                        continue;
                    }
                    if self.leaving.is_none() {
                        let more = "a restart takes its old pods away first, so it is restarted all the same";
                        writeln!(terminal.err, "note: {name}: {why}; {more}")?;
                    }
                    proved.push(Proved { item: item.clone(), doubt: Some(why) });
                    continue;
                }
                Answer::Unproved(why) if self.limits.skip_unproved => {
                    tally.skipped.push(format!("{name}: {why}"));
                    continue;
                }
                Answer::Unproved(why) | Answer::Against(why) => why,
            };
            if self.leaving.is_some() {
                events.ended(item, &Outcome::Failed(fails), terminal)?;
                tally.failed.push(name);
            } else {
                against.push(format!("{name}: {fails}"));
            }
        }
        if against.is_empty() {
            if proved.iter().any(|proved| proved.doubt.is_none()) {
                events.proved(wave, terminal)?;
            }
            return Ok(proved);
        }
        let reason =
            format!("a restart would not bring what is wanted; nothing of wave {} ({}) was restarted", wave.number, wave.name);
        let advice = Advice::run(Command::mesh_proxyver("-A --probe=all")).and_say(" shows what new pods get");
        Err(Stop::Refused(Refusal::new(reason, advice).with(against)))
    }

    /// Whether new pods have to fit in beside the old ones. One that is not there any more says so when its turn comes.
    async fn needs_room(&self, item: &Item) -> Result<bool, Stop> {
        let Some(subject) = subject(&item.workload) else { return Ok(true) };
        let object = self.looks.find(&subject, None).await?;
        Ok(object.is_some_and(|object| needs_room(&item.workload.kind, &object)))
    }
}
