//! A ProxyConfig as a pod's annotation `proxy.istio.io/config` gives it, and why istiod refuses one.

use serde_json::Value;

use crate::object::ProxyImage;
use crate::proto_json::{Field, INT32, UINT32, member, seconds, whole};
use crate::yaml;

/// `istio.networking.v1alpha3.ClientTLSSettings`, as far as types go.
const TLS_SETTINGS: Field = Field::Message(&[
    ("mode", Field::OneOf(&["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"])),
    ("client_certificate", Field::Text),
    ("private_key", Field::Text),
    ("ca_certificates", Field::Text),
    ("credential_name", Field::Text),
    ("subject_alt_names", Field::List(&Field::Text)),
    ("sni", Field::Text),
    ("insecure_skip_verify", Field::Flag),
    ("ca_crl", Field::Text),
]);

const REMOTE_SERVICE: Field = Field::Message(&[
    ("address", Field::Text),
    ("tls_settings", TLS_SETTINGS),
    ("tcp_keepalive", Field::Message(&[("probes", UINT32), ("time", Field::Duration), ("interval", Field::Duration)])),
]);

const NAMED: Field = Field::Message(&[("name", Field::Text), ("default_value", Field::Text)]);

const TRACING: Field = Field::Message(&[
    ("zipkin", Field::Message(&[("address", Field::Text)])),
    ("lightstep", Field::Message(&[("address", Field::Text), ("access_token", Field::Text)])),
    ("datadog", Field::Message(&[("address", Field::Text)])),
    ("stackdriver", Field::Message(&[("debug", Field::Flag)])),
    ("open_census_agent", Field::Message(&[("address", Field::Text)])),
    (
        "custom_tags",
        Field::MapOf(&Field::Message(&[
            ("literal", Field::Message(&[("value", Field::Text)])),
            ("environment", NAMED),
            ("header", NAMED),
        ])),
    ),
    ("max_path_tag_length", UINT32),
    ("sampling", Field::Number),
    ("tls_settings", TLS_SETTINGS),
    ("enable_istio_tags", Field::Flag),
]);

const CERTIFICATE_DETAILS: &[&str] =
    &["UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"];

const SWITCH: Field = Field::Message(&[("disabled", Field::Flag), ("enabled", Field::Flag), ("value", Field::Text)]);

const PROXY_HEADERS: Field = Field::Message(&[
    ("forwarded_client_cert", Field::OneOf(CERTIFICATE_DETAILS)),
    (
        "set_current_client_cert_details",
        Field::Message(&[
            ("subject", Field::Flag),
            ("cert", Field::Flag),
            ("chain", Field::Flag),
            ("dns", Field::Flag),
            ("uri", Field::Flag),
        ]),
    ),
    ("request_id", SWITCH),
    ("server", SWITCH),
    ("attempt_count", SWITCH),
    ("envoy_debug_headers", SWITCH),
    ("metadata_exchange_headers", Field::Message(&[("mode", Field::OneOf(&["UNDEFINED", "IN_MESH"]))])),
    ("preserve_http1_header_case", Field::Flag),
    ("x_forwarded_host", SWITCH),
    ("x_forwarded_port", SWITCH),
]);

const KEY_PROVIDER: Field = Field::Message(&[("poll_delay", Field::Duration), ("fallback", Field::Flag)]);

/// `image` of a ProxyConfig.
pub(crate) const IMAGE: Field = Field::Message(&[("image_type", Field::Text)]);

/// `istio.mesh.v1alpha1.ProxyConfig` (mesh/v1alpha1/proxy.proto of istio.io/api 1.28; unknown fields are passed over, so newer ones fit).
pub(crate) const PROXY_CONFIG: Field = Field::Message(&[
    ("config_path", Field::Text),
    ("binary_path", Field::Text),
    ("service_cluster", Field::Text),
    ("tracing_service_name", Field::OneOf(&["APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"])),
    ("drain_duration", Field::Duration),
    ("discovery_address", Field::Text),
    ("discovery_refresh_delay", Field::Duration),
    ("zipkin_address", Field::Text),
    ("statsd_udp_address", Field::Text),
    ("envoy_metrics_service_address", Field::Text),
    ("proxy_admin_port", INT32),
    ("availability_zone", Field::Text),
    ("control_plane_auth_policy", Field::OneOf(&["NONE", "MUTUAL_TLS"])),
    ("custom_config_file", Field::Text),
    ("stat_name_length", INT32),
    ("concurrency", INT32),
    ("proxy_bootstrap_template_path", Field::Text),
    ("interception_mode", Field::OneOf(&["REDIRECT", "TPROXY", "NONE"])),
    ("tracing", TRACING),
    ("sds", Field::Message(&[("enabled", Field::Flag), ("k8s_sa_jwt_path", Field::Text)])),
    ("envoy_access_log_service", REMOTE_SERVICE),
    ("envoy_metrics_service", REMOTE_SERVICE),
    ("proxy_metadata", Field::MapOf(&Field::Text)),
    ("runtime_values", Field::MapOf(&Field::Text)),
    ("status_port", INT32),
    ("extra_stat_tags", Field::List(&Field::Text)),
    (
        "gateway_topology",
        Field::Message(&[
            ("num_trusted_proxies", UINT32),
            ("forward_client_cert_details", Field::OneOf(CERTIFICATE_DETAILS)),
            ("proxy_protocol", Field::Message(&[])),
        ]),
    ),
    ("termination_drain_duration", Field::Duration),
    ("mesh_id", Field::Text),
    (
        "readiness_probe",
        Field::Message(&[
            ("initial_delay_seconds", INT32),
            ("timeout_seconds", INT32),
            ("period_seconds", INT32),
            ("success_threshold", INT32),
            ("failure_threshold", INT32),
        ]),
    ),
    (
        "proxy_stats_matcher",
        Field::Message(&[
            ("inclusion_prefixes", Field::List(&Field::Text)),
            ("inclusion_suffixes", Field::List(&Field::Text)),
            ("inclusion_regexps", Field::List(&Field::Text)),
        ]),
    ),
    ("hold_application_until_proxy_starts", Field::Flag),
    ("ca_certificates_pem", Field::List(&Field::Text)),
    ("image", IMAGE),
    ("private_key_provider", Field::Message(&[("cryptomb", KEY_PROVIDER), ("qat", KEY_PROVIDER)])),
    ("proxy_headers", PROXY_HEADERS),
]);

/// The part of a ProxyConfig that decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AnnotatedConfig {
    /// `image`; one without a type is still one.
    pub(crate) image: Option<ProxyImage>,
}

/// Reads the annotation; the error says why it is no ProxyConfig, for which istiod refuses the pod (`validateProxyConfig`,
/// pkg/kube/inject/validate.go, and `ValidateMeshConfigProxyConfig`, pkg/config/validation/agent).
pub(crate) fn annotated(annotation: &str) -> Result<AnnotatedConfig, String> {
    let value = yaml::value(annotation).map_err(|error| error.to_string())?;
    PROXY_CONFIG.check(&value)?;
    validate(&value)?;
    Ok(AnnotatedConfig { image: image(&value) })
}

/// `image` of a ProxyConfig that was checked.
pub(crate) fn image(config: &Value) -> Option<ProxyImage> {
    let image = member(config.as_object()?, "image")?.as_object()?;
    let image_type = member(image, "image_type").and_then(Value::as_str).unwrap_or_default();
    Some(ProxyImage { image_type: image_type.to_owned() })
}

fn validate(config: &Value) -> Result<(), String> {
    let Some(members) = config.as_object() else { return Ok(()) };
    let text = |name: &str| member(members, name).and_then(Value::as_str);
    for (name, what) in [
        ("config_path", "configPath"),
        ("binary_path", "binaryPath"),
        ("service_cluster", "serviceCluster"),
        ("discovery_address", "discoveryAddress"),
    ] {
        if text(name) == Some("") {
            return Err(format!("{what} is empty"));
        }
    }
    for (name, what) in [("proxy_admin_port", "proxyAdminPort"), ("status_port", "statusPort")] {
        if member(members, name).and_then(whole).is_some_and(|port| !(1..=65535).contains(&port)) {
            return Err(format!("{what} is no port from 1 to 65535"));
        }
    }
    for (name, what) in [
        ("discovery_address", "discoveryAddress"),
        ("statsd_udp_address", "statsdUdpAddress"),
        ("envoy_metrics_service_address", "envoyMetricsServiceAddress"),
    ] {
        if text(name).is_some_and(|address| !address.is_empty() && !is_address(address)) {
            return Err(format!("{what} is no HOST:PORT"));
        }
    }
    for (name, what) in [("envoy_metrics_service", "envoyMetricsService"), ("envoy_access_log_service", "envoyAccessLogService")]
    {
        let address = member(members, name).and_then(Value::as_object).and_then(|service| member(service, "address"));
        if address.and_then(Value::as_str).is_some_and(|address| !address.is_empty() && !is_address(address)) {
            return Err(format!("{what}.address is no HOST:PORT"));
        }
    }
    // `ValidateDrainDuration`: whole seconds, and more than none.
    match text("drain_duration").and_then(seconds) {
        Some(drain) if drain < 1.0 || drain.fract() != 0.0 => {
            Err("drainDuration is no whole number of seconds from 1".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether it is a host name or an IP address, and a port (`ValidateProxyAddress`, pkg/config/validation/agent).
fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_ip = match bare {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    is_port && (is_ip || is_host(host))
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 255 && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_without_an_image_is_not_one_that_is_no_proxy_config() {
        let typed = |image_type: &str| Ok(Some(ProxyImage { image_type: image_type.to_owned() }));
        let image = |annotation: &str| annotated(annotation).map(|config| config.image);
        assert_eq!(image("image: {imageType: debug}\nconcurrency: 2"), typed("debug"));
        assert_eq!(image("image: {image_type: debug}\nconcurrency: \"2\""), typed("debug"));
        assert_eq!(image("image: {}"), typed(""));
        assert_eq!(image("image:"), Ok(None));
        assert_eq!(image("concurrency: 2\nconcurrency: 3"), Ok(None));
        assert_eq!(image(""), Ok(None));
        assert_eq!(
            image("somethingNewer: {a: 1}\nstatus_port: 15021\ndiscoveryAddress: istiod-x.istio-system.svc:15012"),
            Ok(None)
        );
    }

    #[test]
    fn what_istiod_refuses_is_told_with_the_field() {
        for (annotation, why) in [
            ("image: [", ""),
            ("debug", "\"debug\" is no map"),
            ("concurrency: many", "concurrency: \"many\" is no number that fits"),
            ("holdApplicationUntilProxyStarts: \"true\"", "holdApplicationUntilProxyStarts: \"true\" is no bool"),
            ("proxyMetadata: {A: 1}", "proxyMetadata: A: 1 is no text"),
            ("terminationDrainDuration: 5", "terminationDrainDuration: 5 is no duration"),
            ("image: {imageType: 1}", "image: imageType: 1 is no text"),
            ("interceptionMode: redirect", "interceptionMode: \"redirect\" is none of REDIRECT, TPROXY, NONE"),
            ("tracing: {sampling: much}", "tracing: sampling: \"much\" is no number"),
            ("statusPort: 0", "statusPort is no port from 1 to 65535"),
            ("discoveryAddress: istiod", "discoveryAddress is no HOST:PORT"),
            ("discoveryAddress: ''", "discoveryAddress is empty"),
            ("drainDuration: 500ms", "drainDuration is no whole number of seconds from 1"),
        ] {
            let told = annotated(annotation).unwrap_err();
            assert!(told.contains(why), "{annotation}: {told}");
        }
    }
}
