//! The command as it was called: what every step is given.

use mesh::cluster::connection::Connection;
use mesh::terminal::flags::CommonArgs;
use mesh::terminal::stop::Stop;

/// The command as it was called.
#[derive(Debug)]
pub struct Invocation {
    /// Its name as typed: `kubectl mesh-upgrade`.
    pub command: String,
    /// The flags of every verb.
    pub common: CommonArgs,
}

impl Invocation {
    /// Connects to the one cluster that a step is about.
    ///
    /// # Errors
    /// As [`CommonArgs::connect`].
    pub async fn connect(&self) -> Result<Connection, Stop> {
        self.common.connect(concat!("kubectl-mesh_upgrade/", env!("CARGO_PKG_VERSION"))).await
    }
}
