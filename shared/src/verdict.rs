//! Verdicts: what runs for a workload, what a new pod would run, and what follows from the difference.

mod advice;

use std::collections::HashMap;

use crate::advice::Advice;
use crate::comparison::{Agreement, Comparison, Identity};
use crate::control_plane::Readiness;
use crate::course::Passage;
use crate::image::Image;
use crate::injection::{Doubt, Injected, Injection, Pin, gateway_owner, injection};
use crate::labels;
use crate::object::Resource;
use crate::proxy::{Proxy, ProxyType};
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
    /// What cannot be read off the rest: the cause in words. May be empty.
    pub why: String,
    /// How new pods come.
    pub restart: Restart,
    /// Its pods by name, each with its place in `running`; empty unless single pods were asked for.
    pub pods: Vec<(std::sync::Arc<str>, usize)>,
    fix: Fix,
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
    GatewayOwner(Option<String>),
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
    Refused { revision: Option<String>, why: String, is_unreachable: bool },
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

/// The verdict on one workload, or nothing when it neither has nor would get a proxy.
pub fn judge(snapshot: &Snapshot, workload: &Workload, injection: Injection) -> Option<Verdict> {
    let mut verdict = judge_what_was_read(snapshot, workload, injection)?;
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
        return Some(judge_gateway(snapshot, workload, proxy_type, injection));
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
            let (state, reasons) = judge_pod(snapshot, proxy.as_ref(), &expected);
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
    let fix = fix(state, &reasons, &expected);
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
    ProxyType::of(|key| owned(template.label(key)), |key| owned(template.annotation(key)), image)
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
        Injection::Refused(refused) => {
            Expected::Refused { revision: refused.revision, why: refused.why, is_unreachable: refused.is_unreachable }
        }
        Injection::Unknown(doubt) if template.fixed_image().is_none() || proxy_type != ProxyType::Ztunnel => {
            Expected::Unknown(doubt)
        }
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
    // ztunnel is one DaemonSet for all revisions: being fixed is its nature.
    let pinned = (proxy_type != ProxyType::Ztunnel).then_some(Pinned::Template);
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
        Expected::Refused { revision: Some(revision), .. } => {
            Some(Wanted { revision: Some(revision.clone()), tag: None, injector: None, image: None })
        }
        _ => None,
    }
}

/// The state of a pod before its owner is looked at.
fn judge_pod(snapshot: &Snapshot, proxy: Option<&Proxy>, expected: &Expected) -> (State, Vec<Reason>) {
    let (mut state, mut reasons) = match (proxy, expected) {
        (Some(proxy), Expected::Proxy { wanted, image, pinned }) => compare(proxy, wanted, image, *pinned),
        (Some(_), Expected::Nothing { reason, .. }) => (State::Leaving, vec![*reason]),
        (None, Expected::Proxy { .. }) => (State::Missing, vec![Reason::NotInjected]),
        (None, Expected::Nothing { .. }) => (State::Current, Vec::new()),
        (_, Expected::Refused { is_unreachable: true, .. }) => (State::Blocked, vec![Reason::NoControlPlane]),
        (_, Expected::Refused { is_unreachable: false, .. }) => (State::Blocked, vec![Reason::InjectorConfig]),
        (_, Expected::Unknown(doubt)) => (State::Unknown, vec![doubt.reason]),
    };
    if let Some(proxy) = proxy {
        if is_abandoned(snapshot, proxy) {
            if state == State::Stale {
                state = State::Orphaned;
            }
            reasons.push(Reason::NoControlPlane);
        }
        reasons.extend(skew(snapshot, proxy, expected));
    }
    reasons.sort_unstable();
    reasons.dedup();
    (state, reasons)
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

/// How a proxy's version stands to its control plane's: that of its own revision, else of the one that it would get.
///
/// A control plane may be one minor version ahead of the data plane, two while a canary upgrade is on its way, and a
/// data plane never ahead of it (istio.io, "Supported releases" and "Canary upgrades").
fn skew(snapshot: &Snapshot, proxy: &Proxy, expected: &Expected) -> Option<Reason> {
    let version_of = |revision: &str| snapshot.control_planes_of(revision).find_map(|control_plane| control_plane.version());
    let own = proxy.revision.as_deref().and_then(version_of);
    let wanted = || match expected {
        Expected::Proxy { wanted, .. } => wanted.revision.as_deref().and_then(version_of),
        _ => None,
    };
    match proxy.version()?.minors_ahead_of(&own.or_else(wanted)?)? {
        ahead if ahead > 0 => Some(Reason::SkewAhead),
        behind if behind <= -2 => Some(Reason::SkewBehind),
        _ => None,
    }
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
        Expected::Refused { is_unreachable: true, .. } => (State::Blocked, vec![Reason::NoControlPlane]),
        Expected::Refused { .. } => (State::Blocked, vec![Reason::InjectorConfig]),
        Expected::Unknown(doubt) => (State::Unknown, vec![doubt.reason]),
    }
}

fn why(state: State, workload: &Workload, expected: &Expected) -> String {
    match (state, expected) {
        (_, Expected::Refused { why, .. }) => format!("new pods are refused: {why}"),
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
        (_, Expected::Refused { revision, .. }) => Fix::RepairControlPlane(revision.clone()),
        (State::Pinned, Expected::Proxy { pinned: Some(pinned), .. }) => Fix::Unpin(*pinned),
        (State::Unknown, _) => Fix::Explain(reasons.first().copied().unwrap_or(Reason::Probe)),
        _ => Fix::Restart,
    }
}

/// A gateway or waypoint that istiod makes. Nobody restarts it: its istiod re-makes the Deployment when there is
/// something to change, and the Deployment then rolls by itself.
fn judge_gateway(snapshot: &Snapshot, workload: &Workload, proxy_type: ProxyType, owner: Injection) -> Verdict {
    let mut reasons = Vec::new();
    let (wanted, why, owner_revision) = match &owner {
        Injection::Injected(injected) => {
            let why = if workload.lacks_all_pods() { no_pods_yet(workload) } else { String::new() };
            (Some(wanted_of(injected)), why, Some(injected.revision.clone()))
        }
        Injection::Refused(refused) => {
            reasons.push(Reason::NoControlPlane);
            (None, refused.why.clone(), refused.revision.clone())
        }
        Injection::Unknown(doubt) => {
            reasons.push(doubt.reason);
            (None, doubt.why.clone(), None)
        }
        Injection::NoInjector | Injection::Declined(_) => (None, String::new(), None),
    };
    let running: Vec<Running> = workload
        .proxies
        .iter()
        .map(|(proxy, count)| {
            let (state, reasons) = judge_gateway_pod(snapshot, proxy.as_ref(), &owner);
            Running { proxy: proxy.clone(), count: *count, differs: state == State::Blocked && proxy.is_some(), state, reasons }
        })
        .collect();
    let (state, folded) = fold(&running).unwrap_or((
        match owner {
            Injection::Injected(_) if workload.lacks_all_pods() => State::Unknown,
            Injection::Injected(_) => State::Current,
            Injection::Unknown(_) => State::Unknown,
            _ => State::Blocked,
        },
        vec![Reason::NoPods],
    ));
    reasons.extend(folded);
    reasons.sort_unstable();
    reasons.dedup();
    Verdict {
        workload: workload.id.clone(),
        uid: workload.uid.clone(),
        proxy_type,
        state,
        fix: match state {
            State::Current => Fix::Nothing,
            State::Unknown => Fix::Explain(reasons.first().copied().unwrap_or(Reason::Owner)),
            _ => Fix::GatewayOwner(owner_revision),
        },
        reasons,
        passage: Passage::new(snapshot, &running, wanted.as_ref()),
        running,
        wanted,
        why,
        restart: workload.restart.clone(),
        pods: workload.pods.clone(),
    }
}

fn judge_gateway_pod(snapshot: &Snapshot, proxy: Option<&Proxy>, owner: &Injection) -> (State, Vec<Reason>) {
    let (state, mut reasons) = match (proxy, owner) {
        (Some(proxy), Injection::Injected(injected)) => {
            let (state, mut reasons) = compare(proxy, &wanted_of(injected), &injected.image, None);
            if state == State::Stale {
                reasons.push(Reason::Owner);
            }
            (if state == State::Stale { State::Blocked } else { state }, reasons)
        }
        (None, Injection::Injected(_)) => (State::Current, Vec::new()),
        (_, Injection::Unknown(doubt)) => (State::Unknown, vec![doubt.reason]),
        _ => (State::Blocked, vec![Reason::Owner, Reason::NoControlPlane]),
    };
    if let Some(proxy) = proxy {
        if is_abandoned(snapshot, proxy) {
            reasons.push(Reason::NoControlPlane);
        }
        let expected = Expected::Nothing { reason: Reason::NoInjector, why: String::new() };
        reasons.extend(skew(snapshot, proxy, &expected));
    }
    reasons.sort_unstable();
    reasons.dedup();
    (state, reasons)
}
