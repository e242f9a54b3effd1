//! Tags as a table in kubectl's shape.

use mesh::control_plane::Readiness;
use mesh::tag::{Entry, EntryKind, Followers};
use mesh::terminal::styles::Styles;
use mesh::terminal::table::Table;
use mesh::terminal::words::plural;
use owo_colors::OwoColorize;

use crate::cluster_tags::ClusterTags;

/// What the columns depend on.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Whether rows come from several clusters.
    pub with_cluster: bool,
    /// Whether pods were looked at.
    pub with_stale: bool,
    /// Whether names are shown.
    pub wide: bool,
}

/// The table.
pub fn table(clusters: &[ClusterTags], columns: Columns, styles: &Styles) -> Table {
    let mut header: Vec<&str> = Vec::new();
    header.extend(columns.with_cluster.then_some("CLUSTER"));
    header.extend(["TAG", "REVISION", "VERSION", "READY", "FOLLOWERS"]);
    header.extend(columns.with_stale.then_some("STALE"));
    header.push("FAULTS");
    if columns.wide {
        header.extend(["WEBHOOK", "SERVICE", "OWNER", "NAMESPACES"]);
    }
    let width = header.len();
    let mut table = Table::new(header);
    for tags in clusters {
        for entry in &tags.entries {
            let cluster = columns.with_cluster.then(|| tags.cluster.clone().unwrap_or_default());
            table.row(cluster.into_iter().chain(cells(entry, tags, columns, styles)).collect());
        }
        if tags.may_hide_tags() {
            let cluster = columns.with_cluster.then(|| tags.cluster.clone().unwrap_or_default());
            let unknown = std::iter::repeat_n("<unknown>".to_owned(), width - cluster.iter().count());
            table.row(cluster.into_iter().chain(unknown).collect());
        }
    }
    table
}

fn cells(entry: &Entry, tags: &ClusterTags, columns: Columns, styles: &Styles) -> Vec<String> {
    // A revision's row has no tag, and says so where the tag would stand.
    let tag = match entry.kind {
        EntryKind::Tag => entry.name.clone(),
        EntryKind::Revision => "<untagged>".to_owned(),
    };
    let mut cells = vec![
        tag,
        entry.revision.clone().unwrap_or_else(|| "<none>".to_owned()),
        entry.version.as_ref().map_or_else(|| "<unknown>".to_owned(), ToString::to_string),
        readiness_text(entry.readiness)
            .style(if entry.readiness == Readiness::Ready { styles.current } else { styles.error })
            .to_string(),
        followers_text(&entry.followers),
    ];
    if columns.with_stale {
        let text = format!("{}/{}", entry.stale_count(), entry.followers.proxy_count());
        cells.push(if entry.stale_count() > 0 { text.style(styles.stale).to_string() } else { text });
    }
    let faults: Vec<&str> = entry.faults.iter().map(|fault| fault.code.as_str()).collect();
    let faults = unique(faults).join(",");
    cells.push(if faults.is_empty() { "<none>".to_owned() } else { faults.style(styles.error).to_string() });
    if columns.wide {
        let namespaces: Vec<&str> = entry.followers.namespaces.iter().map(String::as_str).collect();
        cells.extend([
            if tags.may_hide_tags() { "<unknown>".to_owned() } else { or_none(entry.webhooks.join(",")) },
            or_none(entry.services.join(",")),
            entry.owner.to_string(),
            or_none(namespaces.join(",")),
        ]);
    }
    cells
}

/// `3 namespaces, 1 pod, 2 gateways`.
pub fn followers_text(followers: &Followers) -> String {
    let pods: u32 = followers.pods.iter().map(|(_, pods)| pods).sum();
    let gateways = followers.gateways.len() + followers.unnamed_gateways.len();
    let counts = [
        (followers.namespaces.len() as u64, "namespace", "namespaces"),
        (u64::from(pods), "pod", "pods"),
        (gateways as u64, "gateway", "gateways"),
    ];
    let parts: Vec<String> =
        counts.into_iter().filter(|(count, ..)| *count > 0).map(|(count, one, many)| plural(count, one, many)).collect();
    or_none(parts.join(", "))
}

/// `yes`, `no` or `unknown`.
pub const fn readiness_text(readiness: Readiness) -> &'static str {
    match readiness {
        Readiness::Ready => "yes",
        Readiness::NotReady => "no",
        Readiness::Unknown => "unknown",
    }
}

fn unique(mut words: Vec<&str>) -> Vec<&str> {
    words.sort_unstable();
    words.dedup();
    words
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}
