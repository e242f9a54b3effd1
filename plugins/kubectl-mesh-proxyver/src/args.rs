//! What was typed, and what it means.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use mesh::cluster::Scope;
use mesh::needs::Needs;
use mesh::object::LabelSelector;
use mesh::session::Arguments;
use mesh::snapshot::Detail;
use mesh::state::State;
use mesh::terminal::flags::CommonArgs;
use mesh::terminal::stop::Stop;

use crate::selection::{Selection, Subject};

/// Find workloads whose Istio proxies differ from what a new pod would get
///
/// For every workload it says which proxy runs and which one the cluster's live injectors would put into a new pod now:
/// revision, version and image, and why they differ. Nothing is changed.
#[derive(Debug, Parser)]
#[command(disable_version_flag = false, version)]
pub struct Args {
    /// Workloads to look at: TYPE/NAME …, TYPE NAME …, or TYPE for all of a type
    #[arg(value_name = "TYPE/NAME")]
    pub subjects: Vec<String>,

    /// Namespace to look at; the context's when left out
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Look at all namespaces
    #[arg(short = 'A', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub all_namespaces: bool,

    /// Only workloads whose pods have these labels: =, ==, !=, in, notin, KEY, !KEY
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,

    /// Only what is stale or orphaned
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub stale: bool,

    /// Only these states: orphaned, stale, blocked, unknown, leaving, missing, pinned, current
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = State::from_str)]
    pub states: Vec<State>,

    /// Only workloads with a proxy of this revision, or that follow this tag
    #[arg(short, long, value_name = "REVISION")]
    pub revision: Option<String>,

    /// What a row stands for
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = By::Workload)]
    pub by: By,

    /// Ask the API server by dry runs what new pods would get: for the doubtful, for all, or for at most N
    #[arg(long, value_name = "doubtful|all|N", num_args = 0..=1, require_equals = true, default_missing_value = "doubtful")]
    pub probe: Option<Probe>,

    /// Exit with 3 when something is found: what was asked for, or anything that is not current, or unknown
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub exit_code: bool,

    /// Go on, and print each change
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub watch: bool,

    /// Read objects from files, folders or - (standard input) instead of a cluster
    #[arg(short, long = "filename", value_name = "FILE", value_delimiter = ',')]
    pub filename: Vec<PathBuf>,

    /// Write what the verdicts were made from to a file that -f reads, without secrets
    #[arg(long, value_name = "FILE", conflicts_with = "watch")]
    pub save: Option<PathBuf>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table, hide_default_value = true, ignore_case = true)]
    pub output: Output,

    /// What every plugin has.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A workload
    Workload,
    /// A pod
    Pod,
    /// A namespace
    Namespace,
    /// A version that runs
    Version,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table
    Table,
    /// A table with images and advice
    Wide,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
    /// TYPE/NAME, one a line
    Name,
    /// One JSON object a line, for `kubectl rollout restart -f -`
    Refs,
    /// One line a namespace, for `xargs -L1 kubectl rollout restart`
    Args,
    /// Prometheus' text format
    Prom,
    /// JUnit XML
    Junit,
}

/// How many workloads are asked for by a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Those whose verdict cannot be derived.
    Doubtful,
    /// All of them.
    All,
    /// So many, the doubtful first.
    AtMost(usize),
}

impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "doubtful" => Ok(Probe::Doubtful),
            "all" => Ok(Probe::All),
            number => number.parse().map(Probe::AtMost).map_err(|_| "expected doubtful, all or a number".to_owned()),
        }
    }
}

/// What was meant.
#[derive(Debug)]
pub struct Request {
    /// What to read, but for the context's namespace.
    pub scope: Scope,
    /// Whether the context's namespace is meant when the scope names none.
    pub is_everywhere: bool,
    /// Which rows to show.
    pub selection: Selection,
    /// What a row stands for.
    pub by: By,
    /// What to ask by dry runs.
    pub probe: Option<Probe>,
    /// How to print.
    pub output: Output,
}

impl Arguments for Args {
    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn verb(&self) -> &'static str {
        ""
    }

    fn needs(&self, typed: &Scope) -> Result<Needs, Stop> {
        crate::run::needs(self, typed)
    }
}

impl Args {
    /// What was meant by what was typed.
    ///
    /// # Errors
    /// What contradicts itself or cannot be parsed.
    pub fn request(&self) -> Result<Request, Stop> {
        let subjects = Subject::parse_all(&self.subjects).map_err(Stop::Usage)?;
        let selector = match &self.selector {
            Some(text) => Some(text.parse::<LabelSelector>().map_err(|error| Stop::Usage(error.to_string()))?),
            None => None,
        };
        if self.stale && !self.states.is_empty() {
            return Err(Stop::Usage("--stale and --state exclude each other: --stale is --state orphaned,stale".to_owned()));
        }
        if !self.filename.is_empty() && (self.watch || self.probe.is_some()) {
            return Err(Stop::Usage("a file neither changes nor answers: -f goes with neither --watch nor --probe".to_owned()));
        }
        if !self.filename.is_empty() && !self.common.connection.context.is_empty() {
            return Err(Stop::Usage("-f reads files and --context a cluster: give one of them".to_owned()));
        }
        if self.save.as_ref().is_some_and(|path| path.as_os_str().is_empty() || path.as_os_str() == "-") {
            return Err(Stop::Usage("--save needs the name of a file: standard output holds the report".to_owned()));
        }
        if self.save.is_some() && self.common.connection.context.len() > 1 {
            return Err(Stop::Usage("--save takes one cluster at a time: give one --context".to_owned()));
        }
        let wants_pods = subjects.iter().any(|subject| subject.kind == "Pod");
        let by = if wants_pods && self.by == By::Workload { By::Pod } else { self.by };
        if matches!(self.output, Output::Refs | Output::Args | Output::Name) && matches!(by, By::Namespace | By::Version) {
            return Err(Stop::Usage("-o refs, args and name list workloads: leave out --by".to_owned()));
        }
        // A file is looked at as a whole, unless a namespace is named.
        let is_everywhere = self.all_namespaces || (!self.filename.is_empty() && self.namespace.is_none());
        let states =
            if self.stale { State::ALL.into_iter().filter(|state| state.is_stale()).collect() } else { self.states.clone() };
        let namespace = if is_everywhere { None } else { self.namespace.clone() };
        Ok(Request {
            scope: Scope { namespace, selector: self.selector.clone(), istio_namespace: self.common.istio_namespace.clone() },
            is_everywhere,
            selection: Selection {
                // A file holds every namespace; of a cluster only this one is read.
                namespace: self.namespace.clone().filter(|_| !self.filename.is_empty() && !is_everywhere),
                subjects,
                states,
                revision: self.revision.clone(),
                selector,
            },
            by,
            probe: self.probe,
            output: self.output,
        })
    }
}

impl Request {
    /// How much of the pods has to be kept; `is_saving` keeps each of them for a file.
    pub fn detail(&self) -> Detail {
        if self.by == By::Pod { Detail::Pods } else { Detail::Workloads }
    }
}
