//! The tags of one cluster, as they are shown.

use mesh::finding::Finding;
use mesh::tag::Entry;

/// The tags of one cluster.
pub struct ClusterTags {
    /// The context, when several were asked for.
    pub cluster: Option<String>,
    /// Tags, then revisions.
    pub entries: Vec<Entry>,
    /// What could not be read, and what is odd besides.
    pub findings: Vec<Finding>,
    /// Whether there is a mesh at all.
    pub has_mesh: bool,
}
