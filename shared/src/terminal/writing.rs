//! The flags of commands that write.

use clap::ValueEnum;

use super::document::ObjectOutput;
use crate::cluster::apply::Persistence;

/// How a tag is written.
#[derive(Clone, Debug, clap::Args)]
pub struct WritingArgs {
    /// Answer questions with yes; refusals stay refusals
    #[arg(short, long)]
    pub yes: bool,

    /// Let istiod replace the gateways that follow at once
    #[arg(long)]
    pub accept_gateway_restart: bool,

    /// Only show what would change: decided here (client), or by the API server too (server)
    #[arg(long, value_name = "client|server|none", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "client", default_value_t = DryRun::None, hide_default_value = true, hide_possible_values = true)]
    pub dry_run: DryRun,

    /// Print the objects as they are then
    #[arg(short, long, value_name = "FORMAT", value_enum, ignore_case = true)]
    pub output: Option<ObjectOutput>,
}

/// `--dry-run`, as kubectl has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Nothing is sent.
    Client,
    /// It is sent, and not kept.
    Server,
    /// It is written.
    None,
}

impl DryRun {
    /// Whether nothing is to be kept of what is done.
    pub const fn is_dry(self) -> bool {
        !matches!(self, DryRun::None)
    }

    /// What the API server is to do; nothing when it is not asked.
    pub const fn persistence(self) -> Option<Persistence> {
        match self {
            DryRun::Client => None,
            DryRun::Server => Some(Persistence::DryRun),
            DryRun::None => Some(Persistence::Stored),
        }
    }

    /// What stands behind what was not really done, as kubectl says it.
    pub const fn suffix(self) -> &'static str {
        match self {
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
            DryRun::None => "",
        }
    }
}
