//! What a restart would take to an older version: listed apart with its cause, and refused unless it is asked for.

use std::collections::BTreeMap;

use clap::Args;
use mesh::advice::{Advice, Command};
use mesh::authorship::Authorship;
use mesh::cluster::Scope;
use mesh::cluster::authorship::{self, read_authorship};
use mesh::cluster::connection::Connection;
use mesh::course::Course;
use mesh::needs::Needs;
use mesh::refusal::Refusal;
use mesh::regression::{Regression, regressions};
use mesh::snapshot::Snapshot;
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::verdict::Verdict;
use owo_colors::OwoColorize;

use crate::waves::{Item, Wave};

/// What becomes of workloads that would go to an older version.
#[derive(Args, Clone, Debug)]
pub struct DowngradeArgs {
    /// Also take workloads to an older version of the proxy
    #[arg(long, conflicts_with = "skip_downgrades")]
    pub allow_downgrade: bool,

    /// Leave workloads alone that would go to an older version, and take the rest
    #[arg(long)]
    pub skip_downgrades: bool,
}

/// What becomes of workloads that would go to an older version, as the flags say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Older {
    /// They are refused, and with them everything else.
    #[default]
    Refused,
    /// They are left alone.
    Skipped,
    /// They are taken there.
    Allowed,
}

impl From<&DowngradeArgs> for Older {
    fn from(args: &DowngradeArgs) -> Older {
        match (args.allow_downgrade, args.skip_downgrades) {
            (true, _) => Older::Allowed,
            (false, true) => Older::Skipped,
            (false, false) => Older::Refused,
        }
    }
}

/// What [`Downgrades::find`] may ask for.
pub fn needs(scope: &Scope) -> Needs {
    authorship::needs(scope)
}

/// The workloads that would go to an older version, with the causes.
pub struct Downgrades {
    items: Vec<Item>,
    regressions: Vec<Regression>,
    authorship: Authorship,
}

impl Downgrades {
    /// Finds the causes. Nothing is read where nothing goes back.
    ///
    /// # Errors
    /// When the API server cannot be reached.
    pub async fn find(
        connection: &Connection,
        scope: &Scope,
        snapshot: &Snapshot,
        verdicts: &[Verdict],
    ) -> Result<Option<Downgrades>, Stop> {
        let items: Vec<Item> = verdicts.iter().map(Item::new).filter(Item::goes_back).collect();
        if items.is_empty() {
            return Ok(None);
        }
        let authorship = read_authorship(connection, scope).await?;
        let regressions = regressions(snapshot, &authorship, verdicts);
        Ok(Some(Downgrades { items, regressions, authorship }))
    }

    /// Why nothing is done: every workload with its versions, every cause with its cure, and the commands that do the rest, or all.
    pub fn refusal(&self, snapshot: &Snapshot, others: usize, again: &Command, undone: &str) -> Refusal {
        let count = plural(self.items.len() as u64, "workload would go", "workloads would go");
        let obstacles = self.regressions.iter().map(|regression| {
            let cure = regression.cause.cure(snapshot, regression.from.as_deref());
            let stay = regression.from.as_deref().filter(|_| !cure.is_empty());
            let cure = stay.map_or_else(|| cure.clone(), |from| cure.clone().and_say(format!(" keeps them on {from}")));
            (self.words(regression), cure)
        });
        let all = Advice::run(again.clone().words("--allow-downgrade")).and_say(" takes them to the older version too");
        let advice = match others {
            0 => all,
            _ => {
                let others = plural(others as u64, "other workload", "other workloads");
                let rest = Advice::run(again.clone().words("--skip-downgrades")).and_say(format!(" does only the {others}; "));
                rest.and(all)
            }
        };
        Refusal::new(format!("{count} to an older version; {undone}"), advice)
            .with_obstacles(obstacles.collect())
            .with(self.items.iter().map(Item::line).collect())
    }

    /// Lists them apart, where they are taken back or left alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell(&self, older: Older, terminal: &mut Terminal) -> Result<(), Stop> {
        let count = plural(self.items.len() as u64, "workload", "workloads");
        let heading = match older {
            Older::Skipped => format!("left alone: {count} would go to an older version:"),
            Older::Refused | Older::Allowed => format!("downgrade: {count} to an older version:"),
        };
        writeln!(terminal.err, "{}", heading.style(terminal.err_styles.warning))?;
        for regression in &self.regressions {
            writeln!(terminal.err, "  {}", self.words(regression))?;
        }
        for item in &self.items {
            writeln!(terminal.err, "  {}", item.line())?;
        }
        Ok(())
    }

    fn words(&self, regression: &Regression) -> String {
        let proxies = plural(u64::from(regression.proxies), "proxy", "proxies");
        let workloads = plural(regression.workloads.len() as u64, "workload", "workloads");
        format!("{proxies} of {workloads}: {}", regression.cause.words(&self.authorship))
    }
}

/// What the question before waves says of versions: `1.26.0 (1-26-0) -> 1.28.2 (1-28-2)`, or how many go which way.
pub fn passages(waves: &[Wave]) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for item in waves.iter().flat_map(|wave| &wave.items) {
        *counts.entry(item.passage_text()).or_default() += 1;
    }
    match counts.len() {
        0 | 1 => counts.into_keys().next().unwrap_or_default(),
        _ => counts.into_iter().map(|(passage, count)| format!("{count} × {passage}")).collect::<Vec<_>>().join(", "),
    }
}

/// Tells of which workloads nothing says whether they go up or back.
///
/// # Errors
/// When it cannot be written.
pub fn tell_unknown(waves: &[Wave], terminal: &mut Terminal) -> Result<(), Stop> {
    let unknown = waves.iter().flat_map(|wave| &wave.items).filter(|item| item.passage.course == Course::Unknown).count();
    if unknown > 0 {
        let count = plural(unknown as u64, "workload", "workloads");
        let style = terminal.err_styles.warning;
        let text = "their versions cannot be compared, so whether this is an upgrade is unknown";
        writeln!(terminal.err, "{} {count}: {text}", "note:".style(style))?;
    }
    Ok(())
}
