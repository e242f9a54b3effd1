//! `mesh-upgrade precheck`: is it safe to begin.

mod facts;
mod permissions;
mod read;
mod render;
mod rules;
mod target;

use clap::{Args, ValueEnum};
use mesh::advice::{Advice, Command};
use mesh::cluster::Scope;
use mesh::finding::{Finding, Severity};
use mesh::needs::Needs;
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::version::Version;

use crate::output::{write_json, write_yaml};
use crate::precheck::facts::Facts;
use crate::precheck::target::Target;
use crate::survey::{self, survey};

/// Arguments of `precheck`.
#[derive(Args, Clone, Debug)]
#[command(after_help = crate::examples::PRECHECK)]
pub struct PrecheckArgs {
    /// What to upgrade to: a revision, here already or to come, or a version such as 1.28.2
    #[arg(long, value_name = "REVISION|VERSION")]
    pub to: String,

    /// The version of a revision that is to come, where its name does not say it
    #[arg(long, value_name = "VERSION")]
    pub target_version: Option<Version>,

    /// The revision to upgrade from; the one that most proxies run when left out
    #[arg(long, value_name = "REVISION")]
    pub from: Option<String>,

    /// Steps that this user is going to take: rights for them that are missing block. Without it they are one warning
    #[arg(long = "for", value_name = "VERB", value_delimiter = ',', value_enum)]
    pub steps: Vec<Step>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table, hide_default_value = true, ignore_case = true)]
    pub output: Output,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table
    Table,
    /// A table with what to do about each finding
    Wide,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
    /// JUnit XML
    Junit,
}

/// The steps after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Step {
    /// mesh-upgrade start
    Start,
    /// mesh-tag set
    Set,
    /// mesh-tag attach
    Attach,
    /// mesh-upgrade restart
    Restart,
    /// mesh-upgrade status
    Status,
    /// mesh-upgrade complete
    Complete,
    /// mesh-upgrade rollback
    Rollback,
    /// Every step
    All,
}

impl Step {
    /// What it is called in findings; `None` for all of them.
    const fn name(self) -> Option<&'static str> {
        match self {
            Step::Start => Some("start"),
            Step::Set => Some("mesh-tag set"),
            Step::Attach => Some("mesh-tag attach"),
            Step::Restart => Some("restart"),
            Step::Status => Some("status"),
            Step::Complete => Some("complete"),
            Step::Rollback => Some("rollback"),
            Step::All => None,
        }
    }
}

/// What it may ask for.
pub fn needs(typed: &Scope) -> Needs {
    let scope = typed.within(None);
    survey::needs(&scope).and(read::needs(&scope)).and(permissions::needs())
}

/// Runs it.
pub async fn run(session: &mut Session, args: &PrecheckArgs) -> Result<Exit, Stop> {
    let connection = session.connect().await?;
    let lists = read::lists(&connection, permissions::served(&connection));
    let kubernetes = crate::targets::kubernetes_version(&connection);
    let survey = survey(session, None);
    let (survey, lists, kubernetes) = futures::join!(survey, lists, kubernetes);
    let (survey, (mut lists, served), kubernetes) = (survey?, lists?, kubernetes?);
    let target = Target::resolve(&args.to, args.target_version.as_ref(), args.from.as_deref(), &survey)?;
    read::configurations(&connection, &survey, &mut lists).await?;
    let today = survey.now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let facts = Facts::new(survey, target, lists, kubernetes, today);
    let mut findings = rules::all(&facts);
    findings.extend(permissions::findings(&connection, &facts, &served, &args.steps).await?);
    findings.sort();
    findings.dedup();
    let findings = permissions::together(findings, &facts.target);
    print(session, &facts, &findings, args)?;
    session.terminal.flush()?;
    verdict(session, &facts, &findings)
}

fn print(session: &mut Session, facts: &Facts, findings: &[Finding], args: &PrecheckArgs) -> Result<(), Stop> {
    let advisor = session.advisor();
    let out = &mut session.terminal.out;
    match args.output {
        Output::Table | Output::Wide => {
            let detail = if args.output == Output::Wide { render::Detail::WithAdvice } else { render::Detail::Brief };
            let told = findings.iter().filter(|finding| session.flags.v > 0 || finding.severity != Severity::Info);
            render::table(told, detail, &advisor, &session.terminal.out_styles).write(session.flags.header(), out)?;
        }
        Output::Json => write_json(&render::document(facts, findings, &advisor), out)?,
        Output::Yaml => write_yaml(&render::document(facts, findings, &advisor), out)?,
        Output::Junit => render::junit(findings, &advisor, out)?,
    }
    Ok(())
}

/// Says what follows: a refusal that names everything that blocks, or the next command.
fn verdict(session: &mut Session, facts: &Facts, findings: &[Finding]) -> Result<Exit, Stop> {
    let count = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count() as u64;
    let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Info));
    let target = &facts.target;
    let way = match &target.from {
        Some(from) => format!("From {from} to {}", target.description()),
        None => format!("To {}, with no other revision here to come from", target.description()),
    };
    writeln!(
        session.terminal.err,
        "{way}: {}, {}, {}.",
        plural(errors, "error", "errors"),
        plural(warnings, "warning", "warnings"),
        plural(notes, "note", "notes"),
    )?;
    if notes > 0 && session.flags.v == 0 {
        writeln!(session.terminal.err, "-v shows the notes, -o wide what to do about each.")?;
    }
    let blocking: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    if !blocking.is_empty() {
        let line = |finding: &&Finding| (format!("{} ({})", finding.subject, finding.code), finding.advice.clone());
        let reason = format!("{} an upgrade to {}", plural_blocks(errors), target.description());
        let again = Command::mesh_upgrade("precheck").flag("--to", facts.target.revision_name());
        return Err(Refusal::new(reason, Advice::say("fix these, then ").and_run(again))
            .with_obstacles(blocking.iter().map(line).collect())
            .into());
    }
    let next = if target.is_in_place() {
        Advice::say("upgrade it the way it was installed, then ").and_run(Command::mesh_upgrade("restart -A"))
    } else if target.is_installed {
        Command::mesh_upgrade("status").flag("--to", target.revision_name()).into()
    } else {
        Command::mesh_upgrade("start").flag("--revision", target.revision_name()).words("-f MANIFESTS").into()
    };
    session.tell_next(next)?;
    Ok(Exit::Done)
}

fn plural_blocks(errors: u64) -> String {
    if errors == 1 { "1 finding blocks".to_owned() } else { format!("{errors} findings block") }
}
