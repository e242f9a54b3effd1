//! The states of proxies and workloads, and the reasons for them. Their names are a contract: they stand in every
//! output and never change their meaning.

use std::fmt;
use std::str::FromStr;

/// What a new pod would change. Declared from the most to the least urgent; a workload has the most urgent state of
/// its proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Stale, and its own revision has no ready control plane.
    Orphaned,
    /// Runs something else than a new pod would, and a new pod can be brought.
    Stale,
    /// Would change, but nobody can bring a new pod safely; or new pods are refused.
    Blocked,
    /// Cannot be decided.
    Unknown,
    /// Has a proxy and would get none.
    Leaving,
    /// Has no proxy and would get one.
    Missing,
    /// Fixed by its own annotation or template.
    Pinned,
    /// Runs what it would get.
    Current,
}

impl State {
    /// All states, the most urgent first.
    pub const ALL: [State; 8] = [
        State::Orphaned,
        State::Stale,
        State::Blocked,
        State::Unknown,
        State::Leaving,
        State::Missing,
        State::Pinned,
        State::Current,
    ];

    /// The word in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Orphaned => "orphaned",
            State::Stale => "stale",
            State::Blocked => "blocked",
            State::Unknown => "unknown",
            State::Leaving => "leaving",
            State::Missing => "missing",
            State::Pinned => "pinned",
            State::Current => "current",
        }
    }

    /// Whether `--stale` asks for it.
    pub const fn is_stale(self) -> bool {
        matches!(self, State::Orphaned | State::Stale)
    }

    /// Whether a new pod would differ and can be brought, so that a restart has something to do.
    pub const fn changes_by_restart(self) -> bool {
        matches!(self, State::Orphaned | State::Stale | State::Leaving | State::Missing)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Text that is no state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoState(String);

impl fmt::Display for NoState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
        write!(formatter, "{:?} is no state: one of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for NoState {}

impl FromStr for State {
    type Err = NoState;

    fn from_str(text: &str) -> Result<Self, NoState> {
        State::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| NoState(text.to_owned()))
    }
}

/// Why a state is what it is, or what is wrong besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Another revision would inject.
    Revision,
    /// Another version or name of the image would be injected.
    Image,
    /// The same version in another variant would be injected.
    Variant,
    /// The revision concerned has no ready control plane.
    NoControlPlane,
    /// The proxy is newer than its control plane.
    SkewAhead,
    /// The proxy is two or more minor versions older than its control plane.
    SkewBehind,
    /// An injector matches, yet the pod has no proxy or would get none.
    NotInjected,
    /// No injector matches.
    NoInjector,
    /// Several injectors match.
    ManyInjectors,
    /// The image or the whole proxy is fixed by the workload itself.
    PinnedImage,
    /// The owner is not one that `kubectl rollout restart` knows.
    Owner,
    /// The workload is paused.
    Paused,
    /// Pods are replaced only when they are deleted.
    OnDelete,
    /// A StatefulSet's partition keeps some pods from being replaced.
    Partition,
    /// An image reference names no version.
    VersionUnreadable,
    /// A list that decides was not to be had.
    Forbidden,
    /// A file lacks objects that decide.
    NotInFile,
    /// A webhook's CEL conditions decide.
    MatchConditions,
    /// A selector has an operator that nobody here knows.
    Selector,
    /// The injector's ConfigMap or template cannot be read or understood.
    InjectorConfig,
    /// The API server's own answer to a dry run could not be had.
    Probe,
    /// There is no pod at the moment.
    NoPods,
    /// The revision concerned does not look at the namespace: new proxies there never become ready.
    NotDiscovered,
}

impl Reason {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Revision => "revision",
            Reason::Image => "image",
            Reason::Variant => "variant",
            Reason::NoControlPlane => "no-control-plane",
            Reason::SkewAhead => "skew-ahead",
            Reason::SkewBehind => "skew-behind",
            Reason::NotInjected => "not-injected",
            Reason::NoInjector => "no-injector",
            Reason::ManyInjectors => "many-injectors",
            Reason::PinnedImage => "pinned-image",
            Reason::Owner => "owner",
            Reason::Paused => "paused",
            Reason::OnDelete => "on-delete",
            Reason::Partition => "partition",
            Reason::VersionUnreadable => "version-unreadable",
            Reason::Forbidden => "forbidden",
            Reason::NotInFile => "not-in-file",
            Reason::MatchConditions => "match-conditions",
            Reason::Selector => "selector",
            Reason::InjectorConfig => "injector-config",
            Reason::Probe => "probe",
            Reason::NoPods => "no-pods",
            Reason::NotDiscovered => "not-discovered",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_display_are_inverse() {
        for state in State::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert!("fresh".parse::<State>().unwrap_err().to_string().contains("orphaned, stale"));
    }
}
