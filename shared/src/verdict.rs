//! Verdicts: what runs for a workload, what a new pod would run, and what follows from the difference.

mod advice;
mod gateway;

use std::collections::HashMap;

use crate::advice::Advice;
use crate::comparison::{Agreement, Comparison, Identity};
use crate::control_plane::{ControlPlane, Readiness, UNREVISIONED};
use crate::course::Passage;
use crate::finding::{Code, Finding};
use crate::health::undiscovered;
use crate::image::Image;
use crate::injection::{Doubt, Injected, Injection, Pin, Refused, control_plane, gateway_owner, injection};
use crate::injector::Injector;
use crate::labels;
use crate::object::Resource;
use crate::proxy::{Proxy, ProxyType};
use crate::proxy_skew::skew;
use crate::snapshot::Snapshot;
use crate::state::{Reason, State};
use crate::template::Template;
use crate::version::Version;
use crate::workload::{Restart, Workload, WorkloadId};

/// The verdict on one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Which workload.
    pub workload: WorkloadId,
    /// Its uid, where its own object was read with one.
    pub uid: Option<std::sync::Arc<str>>,
    /// What sort of proxy it has or would get.
    pub proxy_type: ProxyType,
    /// The most urgent state of its proxies.
    pub state: State,
    /// All reasons, each once, in the order of their declaration.
    pub reasons: Vec<Reason>,
    /// What runs, equal proxies counted.
    pub running: Vec<Running>,
    /// What a new pod would run.
    pub wanted: Option<Wanted>,
    /// From where to where a restart takes its proxies.
    pub passage: Passage,
    /// What becomes of new pods.
    pub new_pods: NewPods,
    /// What cannot be read off the rest: the cause in words. May be empty.
    pub why: String,
    /// How new pods come.
    pub restart: Restart,
    /// Its pods by name, each with its place in `running`; empty unless single pods were asked for.
    pub pods: Vec<(std::sync::Arc<str>, usize)>,
    fix: Fix,
}

/// What becomes of a workload's new pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewPods {
    /// They have a proxy.
    Proxy,
    /// They have none.
    NoProxy,
    /// They are refused.
    Refused,
    /// There is nobody who would make them.
    Nobody,
    /// That is not known.
    Unknown,
}

/// Some pods of a workload that run the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Their proxy; `None` for pods without one.
    pub proxy: Option<Proxy>,
    /// How many pods.
    pub count: u32,
    /// Their state.
    pub state: State,
    /// The reasons for it.
    pub reasons: Vec<Reason>,
    /// Whether they run something else than a new pod would.
    pub differs: bool,
}

/// What a new pod would run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The revision, where one is known.
    pub revision: Option<String>,
    /// The tag through which it is asked.
    pub tag: Option<String>,
    /// The webhook configuration, Gateway or template that brings it.
    pub injector: Option<String>,
    /// The image, where it is known.
    pub image: Option<String>,
}

impl Wanted {
    /// The version that the image names.
    pub fn version(&self) -> Option<Version> {
        Image::parse(self.image.as_deref()?).version()
    }
}

/// What would have to be done for a state to become `current`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fix {
    Nothing,
    Restart,
    Unpin(Pinned),
    RepairControlPlane(Option<String>),
    /// The caBundle of this configuration.
    RepairCaBundle(String),
    /// What istiod refuses in the workload's template.
    ChangeTemplate,
    GatewayOwner(Option<String>),
    /// The labels that its namespace lacks.
    Discover(Advice),
    Explain(Reason),
}

/// What fixes a proxy that is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pinned {
    Annotation,
    Container,
    Template,
}

/// What a new pod would be, with the workload's own part in it.
enum Expected {
    Proxy { wanted: Wanted, image: Result<String, Doubt>, pinned: Option<Pinned> },
    Nothing { reason: Reason, why: String },
    Refused(Refused),
    Unknown(Doubt),
}

impl Verdict {
    /// Whether nobody knows what it runs or would get because something that decides could not be read.
    pub fn is_undecided(&self) -> bool {
        self.state == State::Unknown && self.reasons.contains(&Reason::Forbidden)
    }

    /// How many of its pods have a proxy.
    pub fn proxy_count(&self) -> u32 {
        self.running.iter().filter(|running| running.proxy.is_some()).map(|running| running.count).sum()
    }

    /// How many of its proxies run something else than a new pod would.
    pub fn stale_count(&self) -> u32 {
        self.running.iter().filter(|running| running.proxy.is_some() && running.differs).map(|running| running.count).sum()
    }

    /// With the pods of another part of the workload: the more urgent part says what is wanted.
    fn with(self, snapshot: &Snapshot, part: Verdict) -> Verdict {
        let (mut first, second) = if part.state < self.state { (part, self) } else { (self, part) };
        let places = first.running.len();
        first.running.extend(second.running);
        first.pods.extend(second.pods.into_iter().map(|(pod, place)| (pod, place + places)));
        first.pods.sort();
        first.reasons.extend(second.reasons);
        first.reasons.sort_unstable();
        first.reasons.dedup();
        first.wanted = first.wanted.or(second.wanted);
        first.passage = Passage::new(snapshot, &first.running, first.wanted.as_ref());
        first
    }

    /// The command or line that fixes it; empty when there is nothing to fix. `kubectl` is how to call kubectl, with
    /// the flags that reach this cluster.
    pub fn advice(&self) -> Advice {
        advice::advice(self)
    }
}

/// Judges every workload that has to do with the mesh, in the snapshot's order. `probed` holds the API server's own
/// answers, which replace what is derived from the snapshot.
pub fn verdicts(snapshot: &Snapshot, probed: &HashMap<WorkloadId, Injection>) -> Vec<Verdict> {
    let judge_one = |workload| {
        let derived = || derived_injection(snapshot, workload);
        let injection = probed.get(&workload.id).cloned().unwrap_or_else(derived);
        judge(snapshot, workload, injection)
    };
    snapshot.workloads.iter().filter_map(judge_one).collect()
}

/// What a new pod of a workload would get, by what the snapshot says.
pub fn derived_injection(snapshot: &Snapshot, workload: &Workload) -> Injection {
    let namespace = &workload.id.namespace;
    match &workload.gateway {
        Some(gateway) => gateway_owner(snapshot, namespace, gateway, &workload.template),
        None => injection(snapshot, namespace, &workload.template),
    }
}

/// The verdict on one workload, or nothing when it neither has nor would get a proxy. `injection` is what its new pods get; those of its
/// pods that were made from other templates are judged by these.
pub fn judge(snapshot: &Snapshot, workload: &Workload, injection: Injection) -> Option<Verdict> {
    let own = judge_what_was_read(snapshot, workload, injection);
    let others = workload.others.iter().map(|part| judge_what_was_read(snapshot, part, derived_injection(snapshot, part)));
    let mut verdict = others.fold(own, |verdict, part| match (verdict, part) {
        (Some(verdict), Some(part)) => Some(verdict.with(snapshot, part)),
        (verdict, part) => verdict.or(part),
    })?;
    if let Some(doubt) = workload.doubt.as_ref().filter(|doubt| doubt.resource == Resource::Pods) {
        // What nobody saw may run anything.
        let reason = if doubt.is_file { Reason::NotInFile } else { Reason::Forbidden };
        verdict.state = State::Unknown;
        verdict.reasons.push(reason);
        verdict.reasons.sort_unstable();
        verdict.reasons.dedup();
        verdict.why = "not all of its pods could be read".to_owned();
        verdict.fix = Fix::Explain(reason);
    }
    Some(verdict)
}

fn judge_what_was_read(snapshot: &Snapshot, workload: &Workload, injection: Injection) -> Option<Verdict> {
    let proxy_type = proxy_type(workload);
    if proxy_type.is_made_by_istiod() {
        return Some(gateway::judge_gateway(snapshot, workload, proxy_type, injection));
    }
    let expected = expected(workload, proxy_type, injection);
    let has_proxy = workload.proxy_count() > 0;
    match &expected {
        Expected::Nothing { .. } if !has_proxy => return None,
        // A list that was denied says nothing about workloads that may well be outside the mesh.
        Expected::Unknown(doubt) if !has_proxy && matches!(doubt.reason, Reason::Forbidden | Reason::NotInFile) => return None,
        _ => {}
    }
    let mut running: Vec<Running> = workload
        .proxies
        .iter()
        .map(|(proxy, count)| {
            let (state, reasons) = judge_pod(snapshot, workload, proxy.as_ref(), &expected);
            Running { proxy: proxy.clone(), count: *count, state, reasons, differs: state.is_stale() }
        })
        .collect();
    if running.iter().all(|running| running.proxy.is_none() && running.state == State::Current) && !running.is_empty() {
        return None;
    }
    for running in &mut running {
        restrict_by_owner(running, workload);
    }
    let (state, mut reasons) = fold(&running).unwrap_or_else(|| state_without_pods(workload, &expected));
    if running.is_empty() {
        reasons.push(Reason::NoPods);
    }
    let mut fix = fix(state, &reasons, &expected);
    if let Some(finding) = undiscovered_by_wanted(snapshot, workload, &expected)
        && state.changes_by_restart()
    {
        reasons.push(Reason::NotDiscovered);
        fix = Fix::Discover(Advice::say(format!("{}: ", finding.message)).and(finding.advice));
    }
    let wanted = wanted(&expected);
    Some(Verdict {
        workload: workload.id.clone(),
        uid: workload.uid.clone(),
        proxy_type,
        state,
        reasons,
        passage: Passage::new(snapshot, &running, wanted.as_ref()),
        running,
        why: why(state, workload, &expected),
        wanted,
        new_pods: match &expected {
            Expected::Proxy { .. } => NewPods::Proxy,
            Expected::Nothing { .. } => NewPods::NoProxy,
            Expected::Refused(_) => NewPods::Refused,
            Expected::Unknown(_) => NewPods::Unknown,
        },
        restart: workload.restart.clone(),
        pods: workload.pods.clone(),
        fix,
    })
}

fn proxy_type(workload: &Workload) -> ProxyType {
    let running = workload.proxies.iter().find_map(|(proxy, _)| proxy.as_ref());
    if let Some(proxy) = running {
        return proxy.proxy_type;
    }
    let template = &workload.template;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let image = template.fixed_image().map_or("", |image| image);
    let by_template = ProxyType::of(|key| owned(template.label(key)), |key| owned(template.annotation(key)), image);
    if workload.gateway.is_some() && !by_template.is_made_by_istiod() { ProxyType::GatewayApi } else { by_template }
}

/// What a new pod would be: what an injector adds, or else what stands in the template itself.
fn expected(workload: &Workload, proxy_type: ProxyType, injection: Injection) -> Expected {
    let template = &workload.template;
    match injection {
        Injection::Injected(injected) => {
            let pinned = injected.pin.map(|pin| match pin {
                Pin::Annotation => Pinned::Annotation,
                Pin::Container => Pinned::Container,
            });
            Expected::Proxy { image: injected.image.clone(), wanted: wanted_of(&injected), pinned }
        }
        Injection::Refused(refused) => Expected::Refused(refused),
        Injection::Unknown(doubt) if template.fixed_image().is_none() || !proxy_type.is_of_node() => Expected::Unknown(doubt),
        without_proxy => match template.fixed_image() {
            Some(image) => fixed(template, image, proxy_type),
            None => match without_proxy {
                Injection::Declined(declined) => Expected::Nothing { reason: Reason::NotInjected, why: declined.why },
                _ => Expected::Nothing { reason: Reason::NoInjector, why: "no injector matches".to_owned() },
            },
        },
    }
}

/// A proxy that stands in the template itself: made by `istioctl kube-inject`, a gateway with a fixed image, ztunnel.
fn fixed(template: &Template, image: &str, proxy_type: ProxyType) -> Expected {
    let revision = template.annotation(labels::REVISION).filter(|revision| !revision.is_empty()).map(str::to_owned);
    let wanted = Wanted { revision, tag: None, injector: None, image: Some(image.to_owned()) };
    // What stands on every node is one DaemonSet for all revisions: being fixed is its nature.
    let pinned = (!proxy_type.is_of_node()).then_some(Pinned::Template);
    Expected::Proxy { wanted, image: Ok(image.to_owned()), pinned }
}

fn wanted_of(injected: &Injected) -> Wanted {
    Wanted {
        revision: Some(injected.revision.clone()),
        tag: injected.tag.clone(),
        injector: Some(injected.injector.clone()),
        image: injected.image.as_ref().ok().cloned(),
    }
}

fn wanted(expected: &Expected) -> Option<Wanted> {
    match expected {
        Expected::Proxy { wanted, .. } => Some(wanted.clone()),
        Expected::Refused(Refused { revision: Some(revision), .. }) => {
            Some(Wanted { revision: Some(revision.clone()), tag: None, injector: None, image: None })
        }
        _ => None,
    }
}

/// The state of a pod before its owner is looked at.
fn judge_pod(snapshot: &Snapshot, workload: &Workload, proxy: Option<&Proxy>, expected: &Expected) -> (State, Vec<Reason>) {
    let (mut state, mut reasons) = match (proxy, expected) {
        (Some(proxy), Expected::Proxy { wanted, image, pinned }) => compare(proxy, wanted, image, *pinned),
        (Some(_), Expected::Nothing { reason, .. }) => (State::Leaving, vec![*reason]),
        (None, Expected::Proxy { .. }) => (State::Missing, vec![Reason::NotInjected]),
        (None, Expected::Nothing { .. }) => (State::Current, Vec::new()),
        (_, Expected::Refused(refused)) => (State::Blocked, vec![reason_of(refused)]),
        (_, Expected::Unknown(doubt)) => (State::Unknown, vec![doubt.reason]),
    };
    if let Some(proxy) = proxy {
        if is_abandoned(snapshot, proxy) {
            if state == State::Stale {
                state = State::Orphaned;
            }
            reasons.push(Reason::NoControlPlane);
        }
        reasons.extend(skew_of(snapshot, workload, proxy, expected));
    }
    reasons.sort_unstable();
    reasons.dedup();
    (state, reasons)
}

fn reason_of(refused: &Refused) -> Reason {
    if refused.is_unreachable { Reason::NoControlPlane } else { Reason::InjectorConfig }
}

fn compare(proxy: &Proxy, wanted: &Wanted, image: &Result<String, Doubt>, pinned: Option<Pinned>) -> (State, Vec<Reason>) {
    let image_wanted = image.as_deref().ok();
    let comparison = Comparison::of(proxy, Identity { image: image_wanted, ..Identity::from(wanted) });
    let mut reasons: Vec<Reason> = comparison.differences().collect();
    let doubt = match image {
        Ok(_) => (comparison.image == Agreement::Unknown).then_some(Reason::VersionUnreadable),
        Err(unknown) => Some(unknown.reason),
    };
    let differs = !reasons.is_empty();
    if pinned.is_some() {
        reasons.push(Reason::PinnedImage);
    }
    if proxy.version().is_none() {
        reasons.push(Reason::VersionUnreadable);
    }
    reasons.extend(doubt);
    let state = match (differs, doubt, pinned) {
        (true, ..) => State::Stale,
        (false, Some(_), _) => State::Unknown,
        (false, None, Some(_)) => State::Pinned,
        (false, None, None) => State::Current,
    };
    (state, reasons)
}

/// Whether a proxy's own revision has surely no control plane left.
fn is_abandoned(snapshot: &Snapshot, proxy: &Proxy) -> bool {
    proxy.revision.as_ref().is_some_and(|revision| snapshot.readiness(revision) == Readiness::NotReady)
}

/// That the control plane of the proxy that new pods would get does not look at their namespace.
fn undiscovered_by_wanted(snapshot: &Snapshot, workload: &Workload, expected: &Expected) -> Option<Finding> {
    let Expected::Proxy { wanted, .. } = expected else { return None };
    let (revision, namespace) = (wanted.revision.as_deref()?, &workload.id.namespace);
    let is_asked = |injector: &&Injector| Some(injector.configuration.as_str()) == wanted.injector.as_deref();
    let injector = snapshot.injectors.iter().find(is_asked)?;
    let control_plane = control_plane(snapshot, injector, revision).ok()??;
    undiscovered(namespace, snapshot.namespaces.get(namespace)?, control_plane)
}

/// How a proxy's version stands to its control plane's: that of its own revision, else of the one that it would get.
fn skew_of(snapshot: &Snapshot, workload: &Workload, proxy: &Proxy, expected: &Expected) -> Option<Reason> {
    let wanted = match expected {
        Expected::Proxy { wanted, .. } => Some(wanted),
        _ => None,
    };
    let own = match &proxy.revision {
        Some(revision) => control_plane_version(snapshot, revision, wanted),
        None if proxy.proxy_type.is_of_node() => version_for_nodes(snapshot, workload.revision.as_deref()),
        None => None,
    };
    let of_wanted = || control_plane_version(snapshot, wanted?.revision.as_deref()?, wanted);
    skew(proxy.proxy_type, &proxy.version()?, &own.or_else(of_wanted)?)
}

/// The version of a revision's control plane. Where several namespaces have one, the proxy's is the one that would inject it again, or
/// else the one of which all are.
fn control_plane_version(snapshot: &Snapshot, revision: &str, wanted: Option<&Wanted>) -> Option<Version> {
    let all: Vec<&ControlPlane> = snapshot.control_planes_of(revision).collect();
    let of_injector = || {
        let wanted = wanted.filter(|wanted| wanted.revision.as_deref() == Some(revision))?;
        let is_asked = |injector: &&Injector| Some(injector.configuration.as_str()) == wanted.injector.as_deref();
        let injector = snapshot.injectors.iter().find(is_asked)?;
        control_plane(snapshot, injector, revision).ok()?
    };
    match all.as_slice() {
        [only] => only.version(),
        several => match of_injector() {
            Some(its_own) => its_own.version(),
            None => {
                let mut versions: Vec<Version> = several.iter().filter_map(|control_plane| control_plane.version()).collect();
                versions.sort();
                versions.dedup_by_key(|version| version.line());
                if versions.len() == 1 { versions.pop() } else { None }
            }
        },
    }
}

/// The version of the control plane that what stands on every node belongs to: the one of the revision or tag that its label names, the
/// unrevisioned one, or the only one.
fn version_for_nodes(snapshot: &Snapshot, label: Option<&str>) -> Option<Version> {
    let label = label.filter(|label| !label.is_empty()).unwrap_or(UNREVISIONED);
    let of_tag = || control_plane_version(snapshot, snapshot.revision_of_tag(label)?, None);
    let only = || match snapshot.control_planes.as_slice() {
        [only] => only.version(),
        _ => None,
    };
    control_plane_version(snapshot, label, None).or_else(of_tag).or_else(only)
}

/// A pod that would change does so only if somebody can bring a new one.
fn restrict_by_owner(running: &mut Running, workload: &Workload) {
    if !running.state.changes_by_restart() {
        return;
    }
    let reason = match &workload.restart {
        Restart::Rollout => None,
        Restart::Partitioned(_) => Some(Reason::Partition),
        Restart::OnDelete => Some(Reason::OnDelete),
        Restart::Eviction | Restart::ArgoRollout | Restart::Operator(_) => Some(Reason::Owner),
        Restart::Owned(_) | Restart::EvictOwned(_) => Some(Reason::Owner),
        Restart::Paused => Some(Reason::Paused),
        Restart::Never(_) | Restart::Unknown(_) => Some(Reason::Owner),
    };
    if let Some(doubt) = &workload.doubt {
        running.state = State::Unknown;
        running.reasons.push(if doubt.is_file { Reason::NotInFile } else { Reason::Forbidden });
    } else if !workload.restart.is_possible() {
        running.state = State::Blocked;
        running.reasons.extend(reason);
    } else {
        running.reasons.extend(reason);
    }
    running.reasons.sort_unstable();
    running.reasons.dedup();
}

/// The most urgent state, and all reasons.
fn fold(running: &[Running]) -> Option<(State, Vec<Reason>)> {
    let state = running.iter().map(|running| running.state).min()?;
    let mut reasons: Vec<Reason> = running.iter().flat_map(|running| running.reasons.iter().copied()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    Some((state, reasons))
}

/// A workload scaled to zero runs nothing old; what it would get is already the new thing. Where pods are to be and none is there,
/// nothing shows what they run.
fn state_without_pods(workload: &Workload, expected: &Expected) -> (State, Vec<Reason>) {
    match expected {
        Expected::Proxy { image: Ok(_), pinned: None, .. } if workload.lacks_all_pods() => (State::Unknown, Vec::new()),
        Expected::Proxy { image: Err(doubt), .. } => (State::Unknown, vec![doubt.reason]),
        Expected::Proxy { pinned: Some(_), .. } => (State::Pinned, vec![Reason::PinnedImage]),
        Expected::Proxy { .. } | Expected::Nothing { .. } => (State::Current, Vec::new()),
        Expected::Refused(refused) => (State::Blocked, vec![reason_of(refused)]),
        Expected::Unknown(doubt) => (State::Unknown, vec![doubt.reason]),
    }
}

fn why(state: State, workload: &Workload, expected: &Expected) -> String {
    match (state, expected) {
        (_, Expected::Refused(refused)) => format!("new pods are refused: {}", refused.why),
        (State::Unknown, Expected::Unknown(doubt)) => doubt.why.clone(),
        (State::Unknown, Expected::Proxy { image: Err(doubt), .. }) => doubt.why.clone(),
        (State::Unknown, _) if workload.doubt.is_some() => "its owner could not be read".to_owned(),
        (State::Unknown, _) if workload.lacks_all_pods() => no_pods_yet(workload),
        (State::Unknown, _) => "an image without a version cannot be compared".to_owned(),
        (State::Leaving, Expected::Nothing { why, .. }) => why.clone(),
        (State::Blocked, _) => match &workload.restart {
            Restart::Never(why) | Restart::Unknown(why) => why.clone(),
            Restart::Paused => "it is paused".to_owned(),
            Restart::Owned(owner) => owner.why(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

fn no_pods_yet(workload: &Workload) -> String {
    let wanted = workload.wanted_pods.unwrap_or_default();
    format!("it is to have {wanted} {}, and none is there now", if wanted == 1 { "pod" } else { "pods" })
}

fn fix(state: State, reasons: &[Reason], expected: &Expected) -> Fix {
    match (state, expected) {
        (State::Current, _) => Fix::Nothing,
        (_, Expected::Refused(refused)) if refused.fault == Some(Code::NoCaBundle) => {
            Fix::RepairCaBundle(refused.injector.clone())
        }
        (_, Expected::Refused(refused)) if !refused.is_unreachable => Fix::ChangeTemplate,
        (_, Expected::Refused(refused)) => Fix::RepairControlPlane(refused.revision.clone()),
        (State::Pinned, Expected::Proxy { pinned: Some(pinned), .. }) => Fix::Unpin(*pinned),
        (State::Unknown, _) => Fix::Explain(reasons.first().copied().unwrap_or(Reason::Probe)),
        _ => Fix::Restart,
    }
}
