//! Verdicts on gateways and waypoints that istiod makes.

use super::{Expected, Fix, NewPods, Running, Verdict, compare, fold, is_abandoned, no_pods_yet, skew_of, wanted_of};
use crate::course::Passage;
use crate::injection::Injection;
use crate::proxy::{Proxy, ProxyType};
use crate::snapshot::Snapshot;
use crate::state::{Reason, State};
use crate::workload::Workload;

/// A gateway or waypoint that istiod makes. Nobody restarts it: its istiod re-makes the Deployment when there is
/// something to change, and the Deployment then rolls by itself.
pub(super) fn judge_gateway(snapshot: &Snapshot, workload: &Workload, proxy_type: ProxyType, owner: Injection) -> Verdict {
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
            let (state, reasons) = judge_pod(snapshot, workload, proxy.as_ref(), &owner);
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
        new_pods: match owner {
            Injection::Injected(_) => NewPods::Proxy,
            Injection::Unknown(_) => NewPods::Unknown,
            _ => NewPods::Nobody,
        },
        why,
        restart: workload.restart.clone(),
        pods: workload.pods.clone(),
    }
}

fn judge_pod(snapshot: &Snapshot, workload: &Workload, proxy: Option<&Proxy>, owner: &Injection) -> (State, Vec<Reason>) {
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
        reasons.extend(skew_of(snapshot, workload, proxy, &expected));
    }
    reasons.sort_unstable();
    reasons.dedup();
    (state, reasons)
}
