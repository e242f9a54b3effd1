//! What a command looks at: the installation, and who follows.

use mesh::census::Census;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::{read_census, read_installation};
use mesh::installation::Installation;
use mesh::labels;
use mesh::terminal::flags::CommonArgs;

/// For the API server's log.
pub const USER_AGENT: &str = concat!("kubectl-mesh_tag/", env!("CARGO_PKG_VERSION"));

/// Which pods are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// All, for what is stale.
    All,
    /// Those that name a revision or tag themselves: the only ones that follow by their own will.
    Labelled,
}

/// What was seen.
pub struct Sight {
    /// What is installed.
    pub installation: Installation,
    /// The pods, counted.
    pub census: Census,
}

/// Looks at a cluster.
///
/// # Errors
/// When it cannot be reached, or pods cannot be listed: then nobody can say who follows.
pub async fn look(connection: &Connection, common: &CommonArgs, pods: Pods) -> Result<Sight, Failure> {
    let installation = read_installation(connection, common.istio_namespace.as_deref()).await?;
    let refusing = format!("{},{}!=false", labels::REVISION, labels::INJECT);
    let selector = match pods {
        Pods::All => None,
        Pods::Labelled => Some(refusing.as_str()),
    };
    let census = read_census(connection, &installation, None, selector).await?;
    Ok(Sight { installation, census })
}
