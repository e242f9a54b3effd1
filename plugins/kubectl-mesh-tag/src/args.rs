//! What was typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use mesh::cluster::Scope;
use mesh::needs::Needs;
use mesh::session::Arguments;
use mesh::terminal::document::ObjectOutput;
use mesh::terminal::flags::CommonArgs;
use mesh::terminal::stop::Stop;
use mesh::terminal::writing::{DryRun, WritingArgs};

use crate::{attach, describe, generate, list, set};

/// Manage Istio revision tags, and the namespaces that follow them
///
/// A tag is a stable name for a revision: namespaces follow the tag, and moving the tag moves them. Nothing is written
/// before it was shown that the new revision answers, and whom the move affects.
#[derive(Debug, Parser)]
#[command(disable_version_flag = false, version)]
pub struct Args {
    /// The verb; `list` when there is none.
    #[command(subcommand)]
    pub verb: Option<Verb>,

    /// What `list` takes.
    #[command(flatten)]
    pub list: ListArgs,

    /// What every plugin has.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Arguments for Args {
    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn verb(&self) -> &'static str {
        match &self.verb {
            None | Some(Verb::List(_)) => "list",
            Some(Verb::Describe(_)) => "describe",
            Some(Verb::Set(_)) => "set",
            Some(Verb::Undo(_)) => "undo",
            Some(Verb::Remove(_)) => "remove",
            Some(Verb::Generate(_)) => "generate",
            Some(Verb::Attach(_)) => "attach",
            Some(Verb::Detach(_)) => "detach",
        }
    }

    fn needs(&self, typed: &Scope) -> Result<Needs, Stop> {
        self.check()?;
        Ok(match &self.verb {
            None | Some(Verb::List(_)) => list::needs(typed),
            Some(Verb::Describe(_)) => describe::needs(typed),
            Some(Verb::Set(set)) => set::needs(&set.writing, typed),
            Some(Verb::Undo(undo)) => set::undo_needs(&undo.writing, typed),
            Some(Verb::Remove(remove)) => set::remove_needs(&remove.writing, typed),
            Some(Verb::Generate(generate)) => generate::needs(generate, typed),
            Some(Verb::Attach(attach)) => attach::attach_needs(attach, typed),
            Some(Verb::Detach(detach)) => attach::detach_needs(detach, typed),
        })
    }
}

impl Args {
    /// Flags of `list` stand before no other verb.
    ///
    /// # Errors
    /// [`Stop::Usage`] when they do.
    pub fn check(&self) -> Result<(), Stop> {
        if self.verb.is_some() && !self.list.is_default() {
            return Err(Stop::Usage("-o and --no-stale before the verb belong to list: put them behind the verb".to_owned()));
        }
        Ok(())
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show every tag: where it points, who follows, what is wrong (also without any verb)
    #[command(visible_alias = "show")]
    List(ListArgs),
    /// Show who follows a tag, and what a move would do
    Describe(DescribeArgs),
    /// Make a tag or move it to another revision
    Set(SetArgs),
    /// Move a tag back to where it was before its last move
    Undo(UndoArgs),
    /// Remove a tag that nobody follows
    ///
    /// Whoever uses the tag is looked for, also by the address of its Service. Values in Secrets are not read: a pod that has the
    /// address from there is not seen.
    #[command(visible_alias = "delete")]
    Remove(RemoveArgs),
    /// Print a tag's objects as YAML, for Git
    Generate(GenerateArgs),
    /// Let namespaces follow a tag or a revision
    Attach(AttachArgs),
    /// Let namespaces follow nothing
    Detach(DetachArgs),
}

/// Arguments of `list`.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table, hide_default_value = true, ignore_case = true)]
    pub output: Output,

    /// Do not look at pods: faster, without the column STALE
    #[arg(long)]
    pub no_stale: bool,

    /// Exit with 3 when a tag has a fault
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub exit_code: bool,
}

impl ListArgs {
    /// Whether nothing was typed.
    pub fn is_default(&self) -> bool {
        self.output == Output::Table && !self.no_stale && !self.exit_code
    }
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table
    Table,
    /// A table with webhooks, owners and names
    Wide,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
    /// Names, one a line
    Name,
}

/// Arguments of `describe`.
#[derive(Clone, Debug, clap::Args)]
pub struct DescribeArgs {
    /// The tag, or an untagged revision
    pub tag: String,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table, hide_default_value = true, ignore_case = true)]
    pub output: Output,
}

/// Arguments of `set`.
#[derive(Clone, Debug, clap::Args)]
pub struct SetArgs {
    /// The tag
    pub tag: String,

    /// Where it is to point
    #[arg(short, long, value_name = "REVISION")]
    pub revision: String,

    /// Only if it points there now
    #[arg(long, value_name = "REVISION")]
    pub from: Option<String>,

    /// Move a tag that is there
    #[arg(long)]
    pub overwrite: bool,

    /// What of precheck does not count.
    #[command(flatten)]
    pub ignored: mesh::skew::IgnoredArgs,

    /// How it is written.
    #[command(flatten)]
    pub writing: WritingArgs,
}

/// Arguments of `undo`.
#[derive(Clone, Debug, clap::Args)]
pub struct UndoArgs {
    /// The tag
    pub tag: String,

    /// Let it go although proxies of other clusters or virtual machines, which this cluster does not show, may use it
    #[arg(long)]
    pub accept_unseen_clients: bool,

    /// How it is written.
    #[command(flatten)]
    pub writing: WritingArgs,
}

/// Arguments of `remove`.
#[derive(Clone, Debug, clap::Args)]
pub struct RemoveArgs {
    /// The tag
    pub tag: String,

    /// Let it go although proxies of other clusters or virtual machines, which this cluster does not show, may use it
    #[arg(long)]
    pub accept_unseen_clients: bool,

    /// How it is written.
    #[command(flatten)]
    pub writing: WritingArgs,
}

/// Arguments of `generate`.
#[derive(Clone, Debug, clap::Args)]
pub struct GenerateArgs {
    /// The tag
    pub tag: String,

    /// Where it is to point
    #[arg(short, long, value_name = "REVISION")]
    pub revision: String,

    /// Read the cluster's objects from files, folders or - (standard input)
    #[arg(short, long = "filename", value_name = "FILE", value_delimiter = ',')]
    pub filename: Vec<PathBuf>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = ObjectOutput::Yaml, hide_default_value = true, ignore_case = true)]
    pub output: ObjectOutput,
}

/// Arguments of `attach`.
#[derive(Clone, Debug, clap::Args)]
pub struct AttachArgs {
    /// The tag or revision that they are to follow
    pub target: String,

    /// What of precheck does not count.
    #[command(flatten)]
    pub ignored: mesh::skew::IgnoredArgs,

    /// How they are chosen and written.
    #[command(flatten)]
    pub namespaces: NamespacesArgs,
}

/// Arguments of `detach`.
#[derive(Clone, Debug, clap::Args)]
pub struct DetachArgs {
    /// How they are chosen and written.
    #[command(flatten)]
    pub namespaces: NamespacesArgs,
}

/// Namespaces to label.
#[derive(Clone, Debug, clap::Args)]
pub struct NamespacesArgs {
    /// Names, or - for those on standard input
    #[arg(value_name = "NAMESPACE")]
    pub names: Vec<String>,

    /// Namespaces with these labels: =, ==, !=, in, notin, KEY, !KEY
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,

    /// Change namespaces that follow something else, or that refuse injection
    #[arg(long)]
    pub overwrite: bool,

    /// Let istiod replace at once the Gateways in these namespaces that come to another revision
    #[arg(long)]
    pub accept_gateway_restart: bool,

    /// Only show what would change: decided here (client), or by the API server too (server)
    #[arg(long, value_name = "client|server|none", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "client", default_value_t = DryRun::None, hide_default_value = true, hide_possible_values = true)]
    pub dry_run: DryRun,
}
