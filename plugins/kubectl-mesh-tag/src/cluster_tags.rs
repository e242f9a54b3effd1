//! The tags of one cluster, as they are shown.

use mesh::finding::Finding;
use mesh::object::Resource;
use mesh::tag::Entry;

/// The tags of one cluster.
pub struct ClusterTags {
    /// The context, when several were asked for.
    pub cluster: Option<String>,
    /// Tags, then revisions.
    pub entries: Vec<Entry>,
    /// What could not be read, and what is odd besides.
    pub findings: Vec<Finding>,
    /// What could not be read, of what decides which tags there are and who follows them.
    pub unread: Vec<Resource>,
    /// Whether there is a mesh at all.
    pub has_mesh: bool,
}

impl ClusterTags {
    /// Whether there may be tags that nobody could see: a webhook configuration is what makes one.
    pub fn may_hide_tags(&self) -> bool {
        self.unread.contains(&Resource::MutatingWebhookConfigurations)
    }
}
