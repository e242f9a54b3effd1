//! The flags that every plugin has, besides those of the connection.

use clap::Args;

use super::advisor::Advisor;
use super::styles::ColorChoice;
use super::table::Header;
use crate::cluster::Scope;
use crate::cluster::connection::ConnectionArgs;

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct CommonArgs {
    /// Namespace of the control planes; found by itself when left out
    #[arg(
        short = 'i',
        long = "istio-namespace",
        visible_alias = "istioNamespace",
        value_name = "NAMESPACE",
        global = true,
        help_heading = "Global options"
    )]
    pub istio_namespace: Option<String>,

    /// Leave out the table's header
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true, global = true, help_heading = "Global options")]
    pub no_headers: bool,

    /// When to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto, global = true, help_heading = "Global options")]
    pub color: ColorChoice,

    /// Say more on stderr: 1 adds findings that are only good to know
    #[arg(short, long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "1", default_value_t = 0, hide_default_value = true, global = true, help_heading = "Global options")]
    pub v: u8,

    /// Print the RBAC rules that this command line needs, and do nothing else
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true, global = true, help_heading = "Global options")]
    pub explain_rbac: bool,

    /// Connection to the cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

impl CommonArgs {
    /// Whether tables have a header.
    pub const fn header(&self) -> Header {
        if self.no_headers { Header::Hidden } else { Header::Shown }
    }

    /// What a command is about before its own flags say more: the context's namespace. Nobody is asked for it.
    pub fn typed_scope(&self) -> Scope {
        let context = self.connection.context.first().map(String::as_str);
        Scope {
            namespace: Some(self.connection.context_namespace(context)),
            selector: None,
            istio_namespace: self.istio_namespace.clone(),
        }
    }

    /// Words commands in advice so that they reach the same cluster.
    pub fn advisor(&self) -> Advisor {
        Advisor::new(self)
    }
}
