//! What a status says: pure decisions over a snapshot and its verdicts.

use mesh::advice::{Advice, Command, Part};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use mesh::authorship::Authorship;
use mesh::cluster::readiness::{NotReady, Unready};
use mesh::course::Course;
use mesh::direction::{Direction, Station};
use mesh::finding::Severity;
use mesh::health;
use mesh::labels;
use mesh::object::Lookup;
use mesh::proxy::Proxy;
use mesh::regression;
use mesh::snapshot::Snapshot;
use mesh::state::{Reason, State};
use mesh::verdict::{Verdict, verdicts};

use crate::revisions::Revision;

/// How far an upgrade is.
#[derive(Debug, Default)]
pub struct Status {
    /// The revision that everything moves to; `None` where no revision is here.
    pub to: Option<String>,
    /// Which way the mesh goes.
    pub direction: Direction,
    /// The revision that was installed and answers nobody yet, and why.
    pub unfinished: Option<(String, String)>,
    /// What is no part of an upgrade that is left, and worth knowing.
    pub besides: Vec<Beside>,
    /// The tag that points to `to` and that namespaces best follow.
    pub target_tag: Option<String>,
    /// Namespaces with proxies, sorted.
    pub namespaces: Vec<Share>,
    /// Workloads that are not there yet, sorted.
    pub left: Vec<Left>,
    /// Every workload with a proxy, sorted.
    pub workloads: Vec<Verdict>,
    /// Older revisions than `to` that have a control plane here, the oldest first.
    pub others: Vec<String>,
    /// Newer ones, which are not ready or not meant.
    pub newer: Vec<String>,
    /// Whether a list that decides was not to be had.
    pub is_incomplete: bool,
}

/// The share of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub namespace: Arc<str>,
    /// Running proxies.
    pub proxies: u32,
    /// Those that run the revision that everything moves to, and nothing older of it, in a pod that is ready; whatever their
    /// namespace selects now.
    pub migrated: u32,
    /// Those that run it in a pod that is not ready.
    pub not_ready: u32,
    /// Proxies by revision; the empty name counts those that name none.
    pub by_revision: BTreeMap<String, u32>,
}

/// A workload that is not there yet.
#[derive(Clone, Debug)]
pub struct Left {
    /// The verdict on it.
    pub verdict: Verdict,
    /// How many of its proxies are not there yet, or would not stay.
    pub proxies: u32,
    /// Why.
    pub why: Why,
    /// Its pods that are not ready.
    pub not_ready: Vec<NotReady>,
    /// The Gateway that istiod makes it for.
    gateway: Option<String>,
}

/// Something that is no workload on its way, and has its place all the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Beside {
    /// The stable code in documents.
    pub code: &'static str,
    /// In words.
    pub words: String,
    /// What it is about: workloads, namespaces, tags.
    pub subjects: Vec<String>,
    /// What deals with it.
    pub command: Option<Command>,
    /// Whether the old revision cannot be removed before.
    pub holds_back: bool,
}

/// Why a workload is not there yet. Declared from the most to the least urgent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A restart brings it there, and its own control plane is gone.
    Orphaned,
    /// It runs the revision in pods that do not get ready.
    Stuck {
        /// What one of them waits for.
        reason: String,
    },
    /// It is there, and a restart would take it back: its namespace, its tag or its own label selects something else now.
    WentBack {
        /// The cause, with who wrote it.
        words: String,
        /// What keeps it there.
        cure: Advice,
    },
    /// It runs the revision in pods that are not ready yet.
    RollingOut,
    /// A restart changes it.
    Stale,
    /// What a restart would bring cannot be said.
    Unknown(Reason),
    /// Nobody can bring a new pod.
    Blocked(Reason),
    /// It runs what it would get, by a tag that points elsewhere.
    Tag {
        /// The tag.
        tag: String,
        /// Where it points.
        revision: String,
    },
    /// It runs what it would get, by its namespace's label, which names another revision.
    Label {
        /// The revision.
        revision: String,
    },
    /// It runs what it would get, by a label of its own pods or Gateway, which names another revision.
    OwnLabel {
        /// The revision.
        revision: String,
    },
    /// It runs what it would get by `istio-injection=enabled`, which another revision answers.
    Injection {
        /// The revision.
        revision: String,
    },
    /// Its image or revision is fixed by itself.
    Pinned,
    /// A new pod would have no proxy.
    Leaving,
}

impl Why {
    /// The stable code in documents.
    pub fn code(&self) -> &'static str {
        match self {
            Why::Orphaned => "orphaned",
            Why::Stuck { .. } => "stuck",
            Why::WentBack { .. } => "went-back",
            Why::RollingOut => "rolling-out",
            Why::Stale => "stale",
            Why::Unknown(_) => "unknown",
            Why::Blocked(_) => "blocked",
            Why::Tag { .. } => "follows-tag",
            Why::Label { .. } => "follows-label",
            Why::OwnLabel { .. } => "follows-own-label",
            Why::Injection { .. } => "follows-injection",
            Why::Pinned => "pinned",
            Why::Leaving => "leaving",
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Why::Orphaned => "orphaned: a restart brings the wanted proxy, and its own control plane is gone".to_owned(),
            Why::Stuck { reason } => format!("stuck: pods do not get ready: {reason}"),
            Why::WentBack { words, .. } => format!("would go back with a restart: {words}"),
            Why::RollingOut => "rolling out: pods are not ready yet".to_owned(),
            Why::Stale => "stale: a restart brings the wanted proxy".to_owned(),
            Why::Unknown(reason) => format!("unknown ({reason})"),
            Why::Blocked(reason) => format!("blocked ({reason}): nobody can bring a new pod safely"),
            Why::Tag { tag, revision } => format!("follows tag {tag}, which points to {revision}"),
            Why::Label { revision } => format!("follows revision {revision} by its namespace's label"),
            Why::OwnLabel { revision } => format!("follows revision {revision} by a label of its own"),
            Why::Injection { revision } => format!("follows {}=enabled, which {revision} answers", labels::INJECTION),
            Why::Pinned => "pinned: its image or revision is fixed by itself".to_owned(),
            Why::Leaving => "leaving: its next pod has no proxy".to_owned(),
        }
    }
}

/// A revision was named that is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchRevision {
    /// Its name.
    pub name: String,
    /// Those that are here.
    pub here: Vec<String>,
}

/// What a status is decided from.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What runs, and what selects it.
    pub snapshot: &'a Snapshot,
    /// The revisions, the oldest version first.
    pub revisions: &'a [Revision],
    /// Who wrote the labels.
    pub authorship: &'a Authorship,
    /// The pods that are not ready.
    pub unready: &'a Unready,
    /// The moment of the look.
    pub now: Timestamp,
}

/// Decides. `to` is the revision that everything moves to, where the user names it.
///
/// # Errors
/// When that revision has no control plane here.
pub fn status(seen: Seen<'_>, to: Option<&str>) -> Result<Status, NoSuchRevision> {
    let Seen { snapshot, revisions, authorship, .. } = seen;
    let verdicts = verdicts(snapshot, &HashMap::new());
    let direction = Direction::of(snapshot, authorship, &verdicts, &stations(revisions));
    let installed = || revisions.iter().filter(|revision| revision.control_plane.is_some());
    let to = match to {
        Some(name) if installed().any(|revision| revision.name == name) => Some(name.to_owned()),
        Some(name) => {
            let here = installed().map(|revision| revision.name.clone()).collect();
            return Err(NoSuchRevision { name: name.to_owned(), here });
        }
        None => match &direction {
            Direction::Back(course) => Some(course.older.clone()),
            _ => newest(revisions).map(|revision| revision.name.clone()),
        },
    };
    let (others, newer) = around(revisions, to.as_deref());
    let mut status = Status {
        target_tag: to.as_deref().and_then(|to| snapshot.tag_for(to)).map(str::to_owned),
        unfinished: unfinished(snapshot, revisions, &direction),
        to,
        direction,
        others,
        newer,
        is_incomplete: !snapshot.unread.is_empty(),
        ..Status::default()
    };
    let mut without_proxy = Vec::new();
    for verdict in verdicts {
        // ztunnel is one DaemonSet for all revisions, so it moves with none.
        if verdict.proxy_type.is_of_node() {
            continue;
        }
        if verdict.running.iter().any(|running| running.state == State::Missing) {
            without_proxy.push(format!("{} -n {}", verdict.workload.qualified_name(), verdict.workload.namespace));
        }
        // A workload that has no proxy yet has nothing to move.
        if verdict.proxy_count() == 0 {
            continue;
        }
        let counted = status.count(&verdict, seen.unready);
        let away = verdict.proxy_count() - counted.there;
        let leaving = if status.goes_back() { 0 } else { counted.leaving };
        if away + leaving > 0 {
            let why = status.why(seen, &verdict, &counted);
            let gateway = gateway_of(snapshot, &verdict);
            status.left.push(Left {
                verdict: verdict.clone(),
                proxies: away + leaving,
                why,
                not_ready: counted.not_ready,
                gateway,
            });
        }
        status.workloads.push(verdict);
    }
    status.besides = status.besides(snapshot, without_proxy);
    Ok(status)
}

/// The revisions, as far as a direction is decided from them.
fn stations(revisions: &[Revision]) -> Vec<Station> {
    let station = |revision: &Revision| Station {
        name: revision.name.clone(),
        version: revision.version().or_else(|| revision.newest_proxy()).cloned(),
        created: revision.control_plane.as_ref().and_then(|plane| plane.created),
        is_ready: revision.is_ready(),
    };
    revisions.iter().filter(|revision| revision.control_plane.is_some() || revision.proxies > 0).map(station).collect()
}

/// The newest revision that is installed, where nothing uses it yet and its own injector would serve nobody: its start is not at its
/// end.
fn unfinished(snapshot: &Snapshot, revisions: &[Revision], direction: &Direction) -> Option<(String, String)> {
    if matches!(direction, Direction::Back(_)) {
        return None;
    }
    let last = revisions.iter().rfind(|revision| revision.control_plane.is_some()).filter(|last| last.proxies == 0)?;
    let has_other = revisions.iter().any(|revision| revision.name != last.name);
    if !has_other || snapshot.unread(mesh::object::Resource::MutatingWebhookConfigurations, "").is_some() {
        return None;
    }
    let name = || last.name.clone();
    if last.readiness_word() == "no" {
        return Some((name(), "its control plane has no ready pod".to_owned()));
    }
    let mut own =
        snapshot.injectors.iter().filter(|injector| injector.tag.is_none() && injector.revision.as_ref() == Some(&last.name));
    let Some(injector) = own.next() else { return Some((name(), "it has no injector of its own yet".to_owned())) };
    let subject = format!("mutatingwebhookconfigurations/{}", injector.configuration);
    let fault =
        health::findings(snapshot).into_iter().find(|finding| finding.severity == Severity::Error && finding.subject == subject);
    fault.map(|fault| (name(), fault.message))
}

/// The Gateway that istiod makes a workload for.
fn gateway_of(snapshot: &Snapshot, verdict: &Verdict) -> Option<String> {
    let place = snapshot.workloads.binary_search_by(|workload| workload.id.cmp(&verdict.workload)).ok()?;
    snapshot.workloads[place].gateway.clone()
}

/// How the proxies of a workload stand to the revision that everything moves to.
#[derive(Debug, Default)]
struct Counted {
    /// They run it, in pods that are ready.
    there: u32,
    /// Those of them, ready or not, that a restart would take to another revision.
    leaving: u32,
    /// The pods that run it and are not ready.
    not_ready: Vec<NotReady>,
}

/// The newest revision that answers; of equal versions the one that was created last. Where none answers, the newest.
fn newest(revisions: &[Revision]) -> Option<&Revision> {
    let key = |revision: &&Revision| {
        let plane = revision.control_plane.as_ref();
        (revision.is_ready(), revision.version().cloned(), plane.and_then(|plane| plane.created))
    };
    revisions.iter().filter(|revision| revision.control_plane.is_some()).max_by_key(key)
}

/// The revisions with a control plane before and behind `to`, in the order of their versions.
fn around(revisions: &[Revision], to: Option<&str>) -> (Vec<String>, Vec<String>) {
    let names: Vec<&String> =
        revisions.iter().filter(|revision| revision.control_plane.is_some()).map(|revision| &revision.name).collect();
    let place = names.iter().position(|name| Some(name.as_str()) == to).unwrap_or(names.len());
    let owned = |names: &[&String]| names.iter().map(|name| (*name).clone()).collect();
    (owned(&names[..place]), owned(names.get(place + 1..).unwrap_or_default()))
}

/// Why a workload's proxies are not there yet.
fn why(snapshot: &Snapshot, verdict: &Verdict) -> Why {
    let reason = || {
        let says_least = [Reason::Revision, Reason::Image, Reason::SkewAhead, Reason::SkewBehind, Reason::NoControlPlane];
        let told = verdict.reasons.iter().find(|reason| !says_least.contains(reason));
        told.or(verdict.reasons.first()).copied().unwrap_or(Reason::Probe)
    };
    match verdict.state {
        State::Orphaned => return Why::Orphaned,
        State::Stale | State::Missing => return Why::Stale,
        State::Blocked => return Why::Blocked(reason()),
        State::Unknown => return Why::Unknown(reason()),
        State::Leaving => return Why::Leaving,
        State::Pinned => return Why::Pinned,
        State::Current => {}
    }
    let Some(wanted) = &verdict.wanted else { return Why::Unknown(Reason::Probe) };
    let revision = wanted.revision.clone().unwrap_or_default();
    if let Some(tag) = &wanted.tag {
        return Why::Tag { tag: tag.clone(), revision };
    }
    let namespace = snapshot.namespaces.get(&verdict.workload.namespace);
    let label = |key| namespace.and_then(|labels| labels.value(key));
    if label(labels::REVISION).is_some_and(|name| name == revision) {
        Why::Label { revision }
    } else if label(labels::INJECTION) == Some("enabled") {
        Why::Injection { revision }
    } else {
        Why::OwnLabel { revision }
    }
}

impl Status {
    /// Counts a workload's proxies into its namespace's share, and says how they stand.
    fn count(&mut self, verdict: &Verdict, unready: &Unready) -> Counted {
        let namespace = &verdict.workload.namespace;
        // Verdicts come sorted by namespace, so a new one is always the last.
        if self.namespaces.last().is_none_or(|last| last.namespace != *namespace) {
            self.namespaces.push(Share { namespace: Arc::clone(namespace), ..Share::default() });
        }
        let share = self.namespaces.last_mut().expect("one was pushed above");
        let mut counted = Counted::default();
        let wanted = verdict.wanted.as_ref().and_then(|wanted| wanted.revision.as_deref());
        let stays = wanted.is_none() || wanted == self.to.as_deref();
        for (place, running) in verdict.running.iter().enumerate() {
            let Some(proxy) = &running.proxy else { continue };
            share.proxies += running.count;
            *share.by_revision.entry(proxy.revision.as_deref().unwrap_or_default().to_owned()).or_default() += running.count;
            // An older version of the same revision is not there yet.
            if !is_of(proxy, self.to.as_deref()) || (running.differs && stays) {
                continue;
            }
            let pods = verdict.pods.iter().filter(|(_, of)| *of == place);
            let not_ready: Vec<NotReady> = pods.filter_map(|(pod, _)| unready.of(namespace, pod)).collect();
            let ready = running.count.saturating_sub(u32::try_from(not_ready.len()).unwrap_or(u32::MAX));
            counted.there += ready;
            share.not_ready += running.count - ready;
            counted.not_ready.extend(not_ready);
            if running.differs {
                counted.leaving += ready;
            }
        }
        counted.not_ready.sort();
        share.migrated += counted.there;
        counted
    }

    /// Whether everything moves to an older revision than the newest.
    fn goes_back(&self) -> bool {
        match self.direction.course() {
            Some(course) => self.to.as_deref().is_some_and(|to| to != course.newer && self.newer.contains(&course.newer)),
            None => false,
        }
    }

    /// Why some of a workload's proxies are not there, or would not stay.
    fn why(&self, seen: Seen<'_>, verdict: &Verdict, counted: &Counted) -> Why {
        if verdict.state == State::Orphaned {
            return Why::Orphaned;
        }
        if let Some(stuck) = counted.not_ready.iter().find(|pod| pod.is_stuck(seen.now)) {
            return Why::Stuck { reason: stuck.reason.clone().unwrap_or_else(|| "for more than ten minutes".to_owned()) };
        }
        let is_back = counted.leaving > 0 || verdict.passage.course == Course::Downgrade;
        if verdict.state.is_stale() && is_back && !self.goes_back() {
            let cause = regression::cause(seen.snapshot, seen.authorship, verdict);
            return Why::WentBack {
                words: cause.words(seen.authorship),
                cure: cause.cure(seen.snapshot, self.to.as_deref().filter(|_| counted.leaving > 0)),
            };
        }
        if !counted.not_ready.is_empty() {
            return Why::RollingOut;
        }
        why(seen.snapshot, verdict)
    }

    /// What has its place besides the workloads on their way.
    fn besides(&self, snapshot: &Snapshot, without_proxy: Vec<String>) -> Vec<Beside> {
        let mut besides = Vec::new();
        let Some(to) = self.to.as_deref() else { return besides };
        if !without_proxy.is_empty() {
            let count = mesh::terminal::words::plural(without_proxy.len() as u64, "workload has", "workloads have");
            besides.push(Beside {
                code: "missing",
                words: format!("{count} no proxy, and new pods get one"),
                subjects: without_proxy,
                command: Some(Command::mesh_upgrade("restart -A --state missing")),
                holds_back: false,
            });
        }
        let has_proxies = |name: &str| self.namespaces.iter().any(|share| &*share.namespace == name);
        let mut empty: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for (name, labels) in snapshot.namespaces.iter().filter(|(name, _)| !has_proxies(name)) {
            let Some(value) = labels.value(labels::REVISION).filter(|_| labels.value(labels::INJECTION).is_none()) else {
                continue;
            };
            let revision = snapshot.revision_of_tag(value).unwrap_or(value);
            empty.entry((value, revision)).or_default().push(name.to_string());
        }
        for ((value, revision), names) in empty {
            let count = mesh::terminal::words::plural(
                names.len() as u64,
                "namespace without proxies selects",
                "namespaces without proxies select",
            );
            // A tag moves with all that follow it.
            let is_elsewhere = revision != to && value == revision && snapshot.control_planes_of(revision).next().is_some();
            let which = if value == revision { value.to_owned() } else { format!("{value}, which is {revision}") };
            besides.push(Beside {
                code: "empty-namespace",
                words: format!("{count} {which}: {}", names.join(", ")),
                command: (is_elsewhere && names.len() <= 5)
                    .then(|| self.attach(to).values(names.iter().cloned()).words("--overwrite")),
                subjects: names.into_iter().map(|name| format!("namespaces/{name}")).collect(),
                holds_back: is_elsewhere,
            });
        }
        besides
    }

    fn attach(&self, to: &str) -> Command {
        Command::mesh_tag("attach").value(self.target_tag.as_deref().unwrap_or(to))
    }

    /// The first line: which way the mesh goes, and how far it is.
    pub fn headline(&self) -> String {
        let total = self.total();
        let share = if total.proxies == 0 {
            "no proxy runs".to_owned()
        } else {
            format!("{} %", u64::from(total.migrated) * 100 / u64::from(total.proxies))
        };
        match &self.direction {
            Direction::Nowhere => "No upgrade in progress: there is no control plane".to_owned(),
            _ if self.unfinished.is_some() => {
                let (revision, why) = self.unfinished.clone().unwrap_or_default();
                format!("Starting {revision}, which is not finished: {why}")
            }
            Direction::Only(revision) => format!("No upgrade in progress: {revision} is the only revision"),
            Direction::InPlace(revision) => format!("Upgrading {revision} in place, {share}"),
            Direction::Up(course) => format!("Upgrading {} -> {}, {share}", course.older, course.newer),
            Direction::Back(course) => format!("Rolling back to {}, {share}", course.older),
            Direction::Unknown(course) => {
                format!(
                    "Direction unknown: {} and {} are here, and it cannot be said which way the mesh goes",
                    course.older, course.newer
                )
            }
        }
    }

    /// Revisions that are installed besides the one that everything moves to.
    pub fn still_installed(&self) -> Vec<&str> {
        let others = if self.goes_back() { &self.newer } else { &self.others };
        others.iter().map(String::as_str).collect()
    }

    /// What a revision is in this upgrade: `new`, `old`, `newer`, or `gone` where it has no control plane.
    pub fn role(&self, revision: &Revision) -> &'static str {
        match &self.to {
            _ if revision.control_plane.is_none() => "gone",
            _ if matches!(&self.direction, Direction::Only(only) if *only == revision.name) => "only",
            // What is older stays the older one, whichever way the mesh goes.
            Some(to) if *to == revision.name && self.goes_back() => "old",
            _ if self.goes_back() && self.direction.course().is_some_and(|course| course.newer == revision.name) => "new",
            Some(to) if *to == revision.name => "new",
            _ if self.newer.contains(&revision.name) => "newer",
            _ => "old",
        }
    }

    /// Whether anything is left to do.
    pub fn has_left(&self) -> bool {
        !self.left.is_empty() || !self.others.is_empty() || !self.newer.is_empty() || self.is_incomplete
    }

    /// All namespaces together.
    pub fn total(&self) -> Share {
        let mut total = Share { namespace: "all".into(), ..Share::default() };
        for share in &self.namespaces {
            total.proxies += share.proxies;
            total.migrated += share.migrated;
            total.not_ready += share.not_ready;
            for (revision, count) in &share.by_revision {
                *total.by_revision.entry(revision.clone()).or_default() += count;
            }
        }
        total
    }

    /// What is left, in groups of one cause, the most urgent first: workloads and proxies of each.
    pub fn groups(&self) -> BTreeMap<&Why, (usize, u32)> {
        let mut groups: BTreeMap<&Why, (usize, u32)> = BTreeMap::new();
        for left in &self.left {
            let (workloads, proxies) = groups.entry(&left.why).or_default();
            *workloads += 1;
            *proxies += left.proxies;
        }
        groups
    }

    /// The command that deals with a cause; of one that no single command deals with, the command that lists it.
    pub fn command(&self, why: &Why, namespace: Option<&str>) -> Option<Command> {
        let to = self.to.as_deref()?;
        let placed = |command: Command| match namespace {
            Some(namespace) => command.namespace(namespace),
            None => command.words("-A"),
        };
        let listed = |state: State| placed(Command::mesh_proxyver("")).flag("--state", state.as_str());
        let restart = || {
            let restart = placed(Command::mesh_upgrade("restart"));
            let goes_back = self.left.iter().any(|left| matches!(left.why, Why::WentBack { .. }));
            if goes_back { restart.words("--skip-downgrades") } else { restart }
        };
        if self.goes_back() && matches!(why, Why::Stale | Why::Tag { .. } | Why::Label { .. } | Why::Injection { .. }) {
            return Some(Command::mesh_upgrade("rollback").flag("--to", to));
        }
        Some(match why {
            Why::Orphaned | Why::Stale => restart(),
            Why::WentBack { cure, .. } => {
                return cure.parts().iter().find_map(|part| match part {
                    Part::Command(command) => Some(command.clone()),
                    Part::Text(_) => None,
                });
            }
            Why::Stuck { .. } => {
                let first = self.left.iter().find(|left| left.why == *why)?;
                let pod = first.not_ready.iter().find(|pod| pod.reason.is_some()).or(first.not_ready.first())?;
                Command::kubectl("").namespace(&first.verdict.workload.namespace).words("describe pod").value(&*pod.pod)
            }
            Why::RollingOut => match namespace {
                Some(namespace) => Command::mesh_upgrade("status -w").namespace(namespace),
                None => Command::mesh_upgrade("status -w"),
            },
            Why::Tag { tag, revision } => Command::mesh_tag("set").value(tag).flag("--revision", to).flag("--from", revision),
            Why::Label { .. } | Why::Injection { .. } => {
                let namespaces: BTreeSet<&str> =
                    self.left.iter().filter(|left| left.why == *why).map(|left| &*left.verdict.workload.namespace).collect();
                // So many names make a command that nobody reads.
                let attach = self.attach(to);
                let attach = if namespaces.len() > 5 { attach.words("NAMESPACE …") } else { attach.values(namespaces) };
                // A label that is there is not replaced unasked.
                if matches!(why, Why::Label { .. }) { attach.words("--overwrite") } else { attach }
            }
            Why::OwnLabel { .. } => {
                let first = self.left.iter().find(|left| left.why == *why)?;
                relabel(first, to)
            }
            Why::Unknown(_) => listed(State::Unknown).words("--probe"),
            Why::Blocked(_) => listed(State::Blocked).words("-o wide"),
            Why::Pinned => listed(State::Pinned).words("-o wide"),
            Why::Leaving => listed(State::Leaving).words("-o wide"),
        })
    }

    /// What comes next: the one command that goes on from here; where it is not known which way that is, both ways.
    pub fn next(&self, namespace: Option<&str>) -> Option<Advice> {
        let Direction::Unknown(course) = &self.direction else { return self.next_command(namespace).map(Advice::run) };
        let goal =
            if course.is_newer_used { format!(" goes back to {}", course.older) } else { format!(" stays on {}", course.older) };
        let back = Advice::run(self.way_back(course)).and_say(goal);
        let up = if self.goes_back() { None } else { self.next_command(namespace) };
        Some(match up {
            Some(up) => Advice::run(up).and_say(format!(" goes on to {}; ", course.newer)).and(back),
            None => back,
        })
    }

    /// The way back from the newer revision: nothing has to go back that nothing uses.
    pub fn way_back(&self, course: &mesh::direction::Course) -> Command {
        if course.is_newer_used || self.is_incomplete {
            Command::mesh_upgrade("rollback").flag("--to", &course.older)
        } else {
            Command::mesh_upgrade("complete").flag("--remove", &course.newer)
        }
    }

    /// The one command that goes on from here, in the direction in which everything moves.
    pub fn next_command(&self, namespace: Option<&str>) -> Option<Command> {
        let to = self.to.as_ref()?;
        if let Some((revision, _)) = self.unfinished.as_ref().filter(|(revision, _)| revision == to) {
            return Some(Command::mesh_upgrade("start").flag("--revision", revision).words("-f MANIFESTS"));
        }
        if let Some(why) = self.groups().into_keys().next() {
            return self.command(why, namespace);
        }
        if let Some(beside) = self.besides.iter().find(|beside| beside.holds_back).filter(|_| !self.goes_back()) {
            return beside.command.clone();
        }
        if let Some(course) = self.direction.course().filter(|_| self.goes_back() && !self.is_incomplete && namespace.is_none()) {
            return Some(self.way_back(course));
        }
        match self.others.first() {
            // What could not be read may use another revision, or be one.
            _ if self.is_incomplete => None,
            // One namespace says nothing of the others.
            Some(_) if namespace.is_some() => Some(Command::mesh_upgrade("status")),
            Some(old) => Some(Command::mesh_upgrade("complete").flag("--remove", old)),
            None => match self.newer.last() {
                Some(newer) => Some(Command::mesh_upgrade("precheck").flag("--to", newer)),
                None => Some(Command::mesh_upgrade("targets")),
            },
        }
    }
}

/// The command that lets a workload's own label name another revision: its Gateway's, or that of its pods.
fn relabel(left: &Left, to: &str) -> Command {
    let id = &left.verdict.workload;
    let label = labels::REVISION;
    let kubectl = Command::kubectl("").namespace(&id.namespace);
    if left.verdict.proxy_type.is_made_by_istiod() {
        let gateway = kubectl.words("label gateways.gateway.networking.k8s.io");
        let gateway = match &left.gateway {
            Some(name) => gateway.value(&**name),
            None => gateway.words("GATEWAY"),
        };
        return gateway.value(format!("{label}={to}")).words("--overwrite");
    }
    let patch = serde_json::json!({"spec": {"template": {"metadata": {"labels": {label: to}}}}});
    kubectl.words("patch").value(id.qualified_name()).words("--type merge").flag("-p", patch.to_string())
}

/// Whether a proxy is of a revision.
fn is_of(proxy: &Proxy, revision: Option<&str>) -> bool {
    proxy.revision.is_some() && proxy.revision.as_deref() == revision
}

#[cfg(test)]
mod tests {
    use mesh::control_plane::Readiness;
    use mesh::object::{Interner, Labels};
    use mesh::snapshot::{Unread, UnreadCause};
    use mesh::template::Template;
    use mesh::terminal::advisor::Advisor;
    use mesh::workload::{Restart, Workload, WorkloadId};

    use mesh::proxy::ProxyType;

    use super::*;
    use crate::revisions::sample as revision;

    /// A status of which nobody knows who wrote the labels, and where all pods are ready.
    fn status(snapshot: &Snapshot, revisions: &[Revision], to: Option<&str>) -> Result<Status, NoSuchRevision> {
        let (authorship, unready) = (Authorship::default(), Unready::default());
        let now = "2026-07-15T12:00:00Z".parse().unwrap();
        super::status(Seen { snapshot, revisions, authorship: &authorship, unready: &unready, now }, to)
    }

    const IMAGE: &str = "docker.io/istio/proxyv2:1.26.0";

    /// A workload whose proxies come from its own template, so that its verdict needs no injector.
    fn workload(name: &str, of: &str, count: u32) -> Workload {
        let mut interner = Interner::default();
        let proxy = Proxy { proxy_type: ProxyType::Sidecar, revision: Some(of.into()), image: IMAGE.into(), is_native: false };
        let annotations = [(interner.text(labels::REVISION), interner.text(of))].into_iter().collect();
        Workload {
            id: WorkloadId {
                namespace: "shop".into(),
                api_version: "apps/v1".into(),
                kind: "Deployment".into(),
                name: name.into(),
            },
            template: Template { annotations, proxy_image: Some(interner.text(IMAGE)), ..Template::default() },
            restart: Restart::Rollout,
            gateway: None,
            proxies: vec![(Some(proxy), count)],
            pods: Vec::new(),
            uid: None,
            wanted_pods: None,
            revision: None,
            others: Vec::new(),
            doubt: None,
        }
    }

    fn snapshot(workloads: Vec<Workload>) -> Snapshot {
        let namespaces = [("shop".into(), Labels::default())].into_iter().collect();
        Snapshot { namespaces, workloads, ..Snapshot::default() }
    }

    fn typed(command: Option<Command>) -> Option<String> {
        command.map(|command| Advisor::default().command(&command))
    }

    #[test]
    fn everything_moves_to_the_newest_that_answers() {
        let mut revisions = vec![revision("1-26-0", "1.26.0", 3), revision("1-28-2", "1.28.2", 0)];
        let to = |revisions: &[Revision]| status(&snapshot(Vec::new()), revisions, None).unwrap().to;
        assert_eq!(to(&revisions).as_deref(), Some("1-28-2"));
        revisions[1].control_plane.as_mut().unwrap().readiness = Readiness::NotReady;
        assert_eq!(to(&revisions).as_deref(), Some("1-26-0"));
        assert_eq!(to(&[]), None);
        let missing = status(&snapshot(Vec::new()), &revisions, Some("1-99"));
        assert_eq!(missing.unwrap_err().here, ["1-26-0", "1-28-2"]);
    }

    #[test]
    fn shares_are_counted_by_namespace_and_revision() {
        let workloads = vec![workload("new", "1-28-2", 2), workload("old", "1-26-0", 3)];
        let revisions = [revision("1-26-0", "1.26.0", 3), revision("1-28-2", "1.28.2", 2)];
        let status = status(&snapshot(workloads), &revisions, None).unwrap();
        let by_revision = [("1-26-0".to_owned(), 3), ("1-28-2".to_owned(), 2)].into();
        assert_eq!(status.namespaces, [Share { namespace: "shop".into(), proxies: 5, migrated: 2, not_ready: 0, by_revision }]);
        assert_eq!(status.left.len(), 1);
        assert_eq!((status.left[0].proxies, &status.left[0].why), (3, &Why::Pinned));
        assert_eq!(status.groups().into_values().collect::<Vec<_>>(), [(1, 3)]);
        assert!(status.has_left());
    }

    #[test]
    fn an_old_revision_is_removed_only_when_all_was_read() {
        let revisions = [revision("1-26-0", "1.26.0", 0), revision("1-28-2", "1.28.2", 2)];
        let mut snapshot = snapshot(vec![workload("new", "1-28-2", 2)]);
        let next = |snapshot: &Snapshot, namespace| typed(status(snapshot, &revisions, None).unwrap().next_command(namespace));
        assert_eq!(next(&snapshot, None).as_deref(), Some("kubectl mesh-upgrade complete --remove 1-26-0"));
        assert_eq!(next(&snapshot, Some("shop")).as_deref(), Some("kubectl mesh-upgrade status"));
        let resource = mesh::object::Resource::StatefulSets;
        snapshot.unread.push(Unread { resource, namespace: None, cause: UnreadCause::Forbidden });
        assert_eq!(next(&snapshot, None), None);
    }

    #[test]
    fn a_newer_revision_that_is_not_ready_is_checked_and_never_removed() {
        let mut revisions = [revision("1-26-0", "1.26.0", 0), revision("1-28-2", "1.28.2", 0)];
        revisions[1].control_plane.as_mut().unwrap().readiness = Readiness::NotReady;
        let status = status(&snapshot(Vec::new()), &revisions, None).unwrap();
        assert_eq!((&status.others[..], &status.newer[..]), (&[][..], &["1-28-2".to_owned()][..]));
        assert_eq!(typed(status.next_command(None)).as_deref(), Some("kubectl mesh-upgrade precheck --to 1-28-2"));
    }

    #[test]
    fn each_cause_has_its_command() {
        let revisions = [revision("1-26-0", "1.26.0", 3), revision("1-28-2", "1.28.2", 0)];
        let mut status = status(&snapshot(vec![workload("old", "1-26-0", 3)]), &revisions, None).unwrap();
        let mut command = |why: Why| {
            status.left[0].why = why.clone();
            typed(status.command(&why, None)).unwrap_or_default()
        };
        let revision = || "1-26-0".to_owned();
        assert_eq!(command(Why::Stale), "kubectl mesh-upgrade restart -A");
        assert_eq!(
            command(Why::Tag { tag: "prod".to_owned(), revision: revision() }),
            "kubectl mesh-tag set prod --revision 1-28-2 --from 1-26-0"
        );
        assert_eq!(command(Why::Label { revision: revision() }), "kubectl mesh-tag attach 1-28-2 shop --overwrite");
        assert_eq!(command(Why::Injection { revision: revision() }), "kubectl mesh-tag attach 1-28-2 shop");
        assert_eq!(
            command(Why::OwnLabel { revision: revision() }),
            r#"kubectl -n shop patch deployment.apps/old --type merge -p '{"spec":{"template":{"metadata":{"labels":{"istio.io/rev":"1-28-2"}}}}}'"#
        );
        assert_eq!(command(Why::Unknown(Reason::Forbidden)), "kubectl mesh-proxyver -A --state unknown --probe");
        assert_eq!(command(Why::Pinned), "kubectl mesh-proxyver -A --state pinned -o wide");
    }
}
