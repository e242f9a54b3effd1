//! The codes of findings, faults and rules: each sort of finding has one, in kebab-case, and it never changes its meaning.

use std::fmt;

/// Makes the type of all codes, each with its name in output.
macro_rules! codes {
    ($($code:ident = $name:literal,)*) => {
        /// What sort of finding it is.
        #[expect(missing_docs, reason = "each is for the code of its name; the rule that finds it says what it means")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($code,)*
        }

        impl Code {
            /// All of them, by name.
            pub const ALL: &'static [Code] = &[$(Code::$code,)*];

            /// The name in every output.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$code => $name,)*
                }
            }
        }
    };
}

codes! {
    AmbientAndInjection = "ambient-and-injection",
    BarePod = "bare-pod",
    BareReplicaSet = "bare-replica-set",
    BothLabels = "both-labels",
    BrokenObject = "broken-object",
    ConfigOfNobody = "config-of-nobody",
    ConfigOfOneRevision = "config-of-one-revision",
    ControlPlaneNotReady = "control-plane-not-ready",
    CrdNewer = "crd-newer",
    CrdOlder = "crd-older",
    CrdStoredVersion = "crd-stored-version",
    CrdVersionNotServed = "crd-version-not-served",
    Dangling = "dangling",
    DanglingValidator = "dangling-validator",
    DataPlaneAhead = "data-plane-ahead",
    DataPlaneBehind = "data-plane-behind",
    Deactivated = "deactivated",
    DefaultValidator = "default-validator",
    Downgrade = "downgrade",
    DuplicateObject = "duplicate-object",
    EmptyRevision = "empty-revision",
    Envoyfilter = "envoyfilter",
    EnvoyfilterVersion = "envoyfilter-version",
    Forbidden = "forbidden",
    GatewayApiIgnored = "gateway-api-ignored",
    GatewayAtOnce = "gateway-at-once",
    GatewayInPlace = "gateway-in-place",
    GatewayInjected = "gateway-injected",
    GatewayStranded = "gateway-stranded",
    GitopsNamespace = "gitops-namespace",
    GitopsWorkload = "gitops-workload",
    HpaAtMaximum = "hpa-at-maximum",
    ImageAuto = "image-auto",
    InPlace = "in-place",
    InPlaceMinor = "in-place-minor",
    InjectorConfig = "injector-config",
    InjectorsOverlap = "injectors-overlap",
    KubernetesTooOld = "kubernetes-too-old",
    KubernetesUnknown = "kubernetes-unknown",
    KubernetesUntested = "kubernetes-untested",
    LabelDiffers = "label-differs",
    Leaving = "leaving",
    ListRestarted = "list-restarted",
    MeshConfigBroken = "mesh-config-broken",
    MeshConfigDrift = "mesh-config-drift",
    MeshConfigEdits = "mesh-config-edits",
    MeshIdentity = "mesh-identity",
    NameCollision = "name-collision",
    NativeSidecars = "native-sidecars",
    NoCaBundle = "no-ca-bundle",
    NoEndpoints = "no-endpoints",
    NoInjector = "no-injector",
    NoMesh = "no-mesh",
    NoService = "no-service",
    NoSurge = "no-surge",
    NoUpgrade = "no-upgrade",
    NoWebhook = "no-webhook",
    NodeComponentAhead = "node-component-ahead",
    NodeComponentBehind = "node-component-behind",
    NodeComponentOrder = "node-component-order",
    NodeComponentVersion = "node-component-version",
    NewlyRefused = "newly-refused",
    NotDiscovered = "not-discovered",
    NotInFile = "not-in-file",
    NotReady = "not-ready",
    NothingToMove = "nothing-to-move",
    OnDelete = "on-delete",
    Operator = "operator",
    OperatorLeftover = "operator-leftover",
    OperatorOwned = "operator-owned",
    Orphaned = "orphaned",
    Overlap = "overlap",
    OwnedByHelm = "owned-by-helm",
    OwnedElsewhere = "owned-elsewhere",
    PartialList = "partial-list",
    Partition = "partition",
    PartlyHere = "partly-here",
    Paused = "paused",
    PdbBlocks = "pdb-blocks",
    PdbZero = "pdb-zero",
    Permission = "permission",
    Pinned = "pinned",
    ProbeDiffers = "probe-differs",
    ProbeFailed = "probe-failed",
    ProxyResources = "proxy-resources",
    ProxyVersionUnreadable = "proxy-version-unreadable",
    Quota = "quota",
    ReleaseUnknown = "release-unknown",
    RootsDiffer = "roots-differ",
    RootsUnknown = "roots-unknown",
    RunsToItsEnd = "runs-to-its-end",
    SeveralWebhooks = "several-webhooks",
    SkewMajor = "skew-major",
    SkewTooFar = "skew-too-far",
    SkewTwo = "skew-two",
    Split = "split",
    SupportEnded = "support-ended",
    TagShadowsRevision = "tag-shadows-revision",
    TargetVersionUnknown = "target-version-unknown",
    Undecodable = "undecodable",
    Unknown = "unknown",
    UnknownOwner = "unknown-owner",
    Unread = "unread",
    ValidatorDangling = "validator-dangling",
    ValidatorMissing = "validator-missing",
    ValidatorToMove = "validator-to-move",
    ValidatorUnknown = "validator-unknown",
    VersionUnreadable = "version-unreadable",
    WasmVersion = "wasm-version",
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// By name, as outputs are sorted.
impl Ord for Code {
    fn cmp(&self, other: &Code) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Code {
    fn partial_cmp(&self, other: &Code) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_one_name_in_kebab_case() {
        let names: std::collections::BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        let is_kebab = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(names.iter().all(is_kebab), "{names:?}");
    }
}
