//! Which workloads are meant, and in which waves: what `plan` shows and `restart` does.

mod subjects;

use mesh::advice::{Advice, Command};
use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use clap::Args;
use mesh::cluster::connection::Connection;
use mesh::cluster::{Scope, Unobserved, read};
use mesh::needs::Needs;
use mesh::object::Lookup;
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::snapshot::{Detail, Snapshot};
use mesh::state::{Reason, State};
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::verdict::{Verdict, verdicts};
use mesh::workload::WorkloadId;
use owo_colors::OwoColorize;

pub use subjects::{SubjectArgs, Subjects};

use self::subjects::labels_of;
use crate::downgrade::{self, DowngradeArgs, Downgrades, Older};
use crate::waves::{Item, Shares, Wave, Waving, tell_gateways, waves};

/// What selects workloads, and makes waves of them.
#[derive(Args, Clone, Debug)]
pub struct SelectionArgs {
    /// Which workloads.
    #[command(flatten)]
    pub subjects: SubjectArgs,

    /// Which states are restarted
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = State::from_str, default_value = "orphaned,stale")]
    pub states: Vec<State>,

    /// Evict the pods of workloads that an operator owns, one by one: their template is left alone
    #[arg(long)]
    pub evict_owned: bool,

    /// Waves up to these shares of the workloads that are restarted, rounded up, such as 10,50,100; without it a wave is a namespace. Gateways come last, in a wave of their own
    #[arg(long, value_name = "PERCENT", value_parser = Shares::from_str)]
    pub percent: Option<Shares>,

    /// What becomes of workloads that would go to an older version.
    #[command(flatten)]
    pub downgrade: DowngradeArgs,

    /// A wave for each value of this label of the pods, else of their namespace; those without it come last
    #[arg(long, value_name = "KEY", conflicts_with = "percent")]
    pub by_label: Option<String>,
}

/// What is meant.
pub struct Selection {
    /// What it was decided from.
    pub snapshot: Snapshot,
    /// The verdicts on what was meant and is not restarted.
    pub others: Vec<Verdict>,
    /// What of that would go to an older version.
    pub downgrades: Option<Downgrades>,
    /// What is restarted.
    pub waves: Vec<Wave>,
    /// How many workloads would be restarted if a wave held them.
    pub in_no_wave: usize,
}

impl Selection {
    /// Why nothing may be said of some that were meant: what decides could not be read. `None` when all are decided.
    pub fn undecided(&self, undone: &str) -> Option<Refusal> {
        let count = self.others.iter().filter(|verdict| verdict.is_undecided()).count();
        if count == 0 {
            return None;
        }
        let workloads = plural(count as u64, "workload is", "workloads are");
        let reason = format!("{workloads} undecided, since what decides could not be read; {undone}");
        let unread = self.snapshot.unread_findings().map(|finding| (finding.message.clone(), finding.advice.clone()));
        let advice = Advice::run(Command::mesh_upgrade("restart -A --explain-rbac")).and_say(" prints every rule that is needed");
        Some(Refusal::new(reason, advice).with_obstacles(unread.collect()))
    }

    /// Says what the waves leave out, and that gateways come last.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell_waves(&self, terminal: &mut Terminal) -> Result<(), Stop> {
        tell_gateways(&self.waves, terminal)?;
        if self.in_no_wave > 0 {
            let all = self.in_no_wave + self.waves.iter().map(|wave| wave.items.len()).sum::<usize>();
            let are = if self.in_no_wave == 1 { "is" } else { "are" };
            let warning = "warning:".style(terminal.err_styles.warning);
            writeln!(terminal.err, "{warning} {} of {all} workloads {are} in no wave: add 100 to --percent.", self.in_no_wave)?;
        }
        Ok(())
    }
}

impl SelectionArgs {
    /// What has to be read for them; everything when nothing but references says where to look.
    pub fn scope(&self, session: &Session, context_namespace: &str) -> Scope {
        self.within(&Scope {
            namespace: Some(context_namespace.to_owned()),
            selector: None,
            istio_namespace: session.flags.istio_namespace.clone(),
        })
    }

    /// What [`SelectionArgs::select`] may ask for.
    pub fn needs(&self, typed: &Scope) -> Needs {
        let scope = self.within(typed);
        read::needs(&scope).and(downgrade::needs(&scope))
    }

    /// What of a scope that names the context's namespace is meant.
    pub fn within(&self, typed: &Scope) -> Scope {
        self.subjects.within(typed)
    }

    /// Looks at the cluster, and decides.
    ///
    /// # Errors
    /// When what was named is not there, or pods cannot be listed.
    pub async fn select(&self, session: &Session, connection: &Connection) -> Result<Selection, Stop> {
        let subjects = self.subjects.read()?;
        let scope = self.scope(session, &connection.namespace);
        let mut snapshot = read(connection, &scope, Detail::Workloads, &Unobserved).await?;
        if self.evict_owned {
            snapshot.evict_owned();
        }
        snapshot.check_places(scope.namespace.as_deref(), scope.istio_namespace.as_deref())?;
        let all = verdicts(&snapshot, &HashMap::new());
        subjects.check(&all, &snapshot, scope.namespace.as_deref())?;
        let is_meant = |verdict: &Verdict| subjects.include(verdict, &snapshot);
        // Where the wanted revision does not look, new pods never become ready, and no dry run shows it.
        let is_discovered = |verdict: &Verdict| !verdict.reasons.contains(&Reason::NotDiscovered);
        let is_restarted =
            |verdict: &Verdict| self.states.contains(&verdict.state) && verdict.restart.is_possible() && is_discovered(verdict);
        let meant: Vec<Verdict> = all.into_iter().filter(is_meant).collect();
        if let Some(selector) = self.subjects.selector.as_deref().filter(|_| meant.is_empty()) {
            let place = scope.namespace.as_deref().map_or_else(|| "any namespace".to_owned(), |name| format!("namespace {name}"));
            let reason = format!("no workload of the mesh in {place} has pods with the labels {selector:?}");
            return Err(Refusal::not_found(reason, Command::mesh_proxyver("-A")).into());
        }
        let (items, others): (Vec<Verdict>, Vec<Verdict>) = meant.into_iter().partition(is_restarted);
        let downgrades = Downgrades::find(connection, &scope, &snapshot, &items).await?;
        let items = items.iter().map(|verdict| (Item::new(verdict), self.value_of_label(&snapshot, &verdict.workload)));
        let is_allowed = Older::from(&self.downgrade) == Older::Allowed;
        let items: Vec<_> = items.filter(|(item, _)| is_allowed || !item.goes_back()).collect();
        let count = items.len();
        let waves = waves(items, &self.waving());
        let in_no_wave = count - waves.iter().map(|wave| wave.items.len()).sum::<usize>();
        Ok(Selection { snapshot, others, downgrades, waves, in_no_wave })
    }

    /// The command `verb` with this selection, as it was typed.
    pub fn command(&self, verb: &'static str) -> Command {
        let mut command = Command::mesh_upgrade(verb);
        command = self.subjects.flags(command);
        if self.states != [State::Orphaned, State::Stale] {
            command = command.flag("--state", self.states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(","));
        }
        if self.evict_owned {
            command = command.words("--evict-owned");
        }
        if let Some(shares) = &self.percent {
            command = command.flag("--percent", shares.to_string());
        }
        if let Some(key) = &self.by_label {
            command = command.flag("--by-label", key);
        }
        command.values(self.subjects.subjects.iter().cloned())
    }

    /// The states that are restarted, in words.
    pub fn states_in_words(&self) -> String {
        self.states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(" or ")
    }

    /// What was asked for and is not restarted is told, with the reason.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell_others(&self, others: &[Verdict], terminal: &mut Terminal) -> Result<(), Stop> {
        for verdict in others {
            let id = &verdict.workload;
            let is_stuck = matches!(verdict.state, State::Blocked | State::Unknown) || self.states.contains(&verdict.state);
            if is_stuck && verdict.state != State::Current {
                let advice = terminal.advisor.text(&verdict.advice());
                writeln!(
                    terminal.err,
                    "not restarted: {} -n {} is {}: {advice}",
                    id.qualified_name(),
                    id.namespace,
                    verdict.state
                )?;
            }
        }
        Ok(())
    }

    fn waving(&self) -> Waving {
        match (&self.by_label, &self.percent) {
            (Some(key), _) => Waving::Label(key.clone()),
            (None, None) => Waving::Namespace,
            (None, Some(shares)) => Waving::Shares(shares.clone()),
        }
    }

    fn value_of_label(&self, snapshot: &Snapshot, workload: &WorkloadId) -> Option<String> {
        let key = self.by_label.as_deref()?;
        let own = labels_of(snapshot, workload).and_then(|labels| labels.value(key));
        let namespaces = || snapshot.namespaces.get(&workload.namespace).and_then(|labels| labels.value(key));
        own.or_else(namespaces).map(str::to_owned)
    }
}

/// The text of a file, or of standard input for `-`.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn read_text(path: &Path) -> Result<String, Stop> {
    Ok(mesh::cluster::read_text(path)?)
}
