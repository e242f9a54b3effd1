//! Webhook configurations: `admissionregistration.k8s.io/v1`.

use serde::{Deserialize, Serialize};

use super::is_default;
use super::metadata::{Metadata, null_is_default};
use super::selector::LabelSelector;

/// A `MutatingWebhookConfiguration`, or the like-shaped validating one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebhookConfiguration {
    /// Metadata.
    pub metadata: Metadata,
    /// Its entries, called in this order.
    #[serde(deserialize_with = "null_is_default")]
    pub webhooks: Vec<Webhook>,
}

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Webhook {
    /// Name, unique in its configuration.
    pub name: String,
    /// Where it is served.
    pub client_config: ClientConfig,
    /// Which requests it is asked about.
    #[serde(deserialize_with = "null_is_default")]
    pub rules: Vec<Rule>,
    /// `Fail` (also when absent) refuses the request when the webhook cannot be reached; `Ignore` lets it pass.
    #[serde(skip_serializing_if = "is_default")]
    pub failure_policy: Option<String>,
    /// Which namespaces; everything when absent.
    #[serde(skip_serializing_if = "is_default")]
    pub namespace_selector: Option<LabelSelector>,
    /// Which objects; everything when absent.
    #[serde(skip_serializing_if = "is_default")]
    pub object_selector: Option<LabelSelector>,
    /// CEL conditions, all of which must hold.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub match_conditions: Vec<MatchCondition>,
}

/// Where a webhook is served: either a Service or a URL.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConfig {
    /// The Service, when it is in the cluster.
    #[serde(skip_serializing_if = "is_default")]
    pub service: Option<ServiceReference>,
    /// The address, when it is elsewhere.
    #[serde(skip_serializing_if = "is_default")]
    pub url: Option<String>,
    /// Base64 of the PEM that its certificate is verified against. A snapshot file holds a placeholder: only whether
    /// it is empty decides anything.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_bundle: Option<String>,
}

/// A Service as a webhook's server.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceReference {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Path of the request.
    #[serde(skip_serializing_if = "is_default")]
    pub path: Option<String>,
}

/// Requests that a webhook is asked about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// `CREATE`, `UPDATE`, … or `*`.
    #[serde(deserialize_with = "null_is_default")]
    pub operations: Vec<String>,
    /// API groups or `*`; `""` is the core group.
    #[serde(deserialize_with = "null_is_default")]
    pub api_groups: Vec<String>,
    /// API versions or `*`.
    #[serde(deserialize_with = "null_is_default")]
    pub api_versions: Vec<String>,
    /// Resources, `*` or `*/*`.
    #[serde(deserialize_with = "null_is_default")]
    pub resources: Vec<String>,
    /// `Cluster`, `Namespaced` or `*`.
    #[serde(skip_serializing_if = "is_default")]
    pub scope: Option<String>,
}

/// A CEL condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchCondition {
    /// Name.
    pub name: String,
    /// Expression.
    pub expression: String,
}
