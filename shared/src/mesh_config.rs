//! The mesh configuration of one revision, cut down to what decides about proxies.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::object::{ConfigMap, LabelSelector, Lookup, ProxyImage, Requirement, StringMap, UnknownOperator};
use crate::proto_json::{Field, INT32, member, whole};
use crate::proxy_config::{PROXY_CONFIG, image};
use crate::yaml;

/// The namespace whose ProxyConfigs hold everywhere where the mesh configuration says none (`DefaultMeshConfig`, pkg/config/mesh/mesh.go).
const ROOT_NAMESPACE: &str = "istio-system";

/// The port of the agent where the mesh configuration says none (`DefaultProxyConfig`, pkg/config/mesh/mesh.go).
const STATUS_PORT: i64 = 15020;

/// The deciding part of the mesh configuration. What is `None` is not said, and a weaker configuration may say it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshConfig {
    /// `defaultConfig.image`, if there is one.
    pub image: Option<ProxyImage>,
    /// The namespace whose ProxyConfigs hold everywhere.
    root_namespace: Option<String>,
    /// Which namespaces the control plane looks at; all where there is none.
    discovery_selectors: Option<Vec<LabelSelector>>,
    /// `enablePrometheusMerge`.
    merges_metrics: Option<bool>,
    /// `defaultConfig.statusPort`.
    status_port: Option<i64>,
}

/// The fields that are read, with their types.
const MESH_CONFIG: Field = Field::Message(&[
    ("default_config", PROXY_CONFIG),
    ("root_namespace", Field::Text),
    ("enable_prometheus_merge", Field::Flag),
    ("proxy_listen_port", INT32),
    ("trust_domain", Field::Text),
    ("trust_domain_aliases", Field::List(&Field::Text)),
    (
        "discovery_selectors",
        Field::List(&Field::Message(&[
            ("match_labels", Field::MapOf(&Field::Text)),
            (
                "match_expressions",
                Field::List(&Field::Message(&[
                    ("key", Field::Text),
                    ("operator", Field::Text),
                    ("values", Field::List(&Field::Text)),
                ])),
            ),
        ])),
    ),
]);

impl MeshConfig {
    /// Reads key `mesh` of the ConfigMap; an absent key means all defaults, as in istiod (`ApplyMeshConfig`, pkg/config/mesh/mesh.go).
    pub fn parse(map: &ConfigMap) -> Result<MeshConfig, String> {
        let Some(mesh) = map.data.get("mesh") else { return Ok(MeshConfig::default()) };
        let value = yaml::value(mesh).map_err(|error| format!("its key \"mesh\" is no YAML: {error}"))?;
        MESH_CONFIG.check(&value).map_err(|why| format!("its key \"mesh\" is no mesh configuration: {why}"))?;
        let empty = Map::new();
        let members = value.as_object().unwrap_or(&empty);
        // `extractYamlField` looks this one up under its name in JSON alone: written otherwise it is passed over.
        let default_config = members.get("defaultConfig").unwrap_or(&Value::Null);
        let status_port = default_config.as_object().and_then(|config| member(config, "status_port")).and_then(whole);
        Ok(MeshConfig {
            image: image(default_config),
            root_namespace: member(members, "root_namespace").and_then(Value::as_str).map(str::to_owned),
            discovery_selectors: member(members, "discovery_selectors")
                .and_then(Value::as_array)
                .map(|selectors| selectors.iter().map(selector).collect()),
            merges_metrics: member(members, "enable_prometheus_merge").and_then(Value::as_bool),
            status_port,
        })
    }

    /// With `shared` below it, as `SHARED_MESH_CONFIG` has it: what both say, this one says (`getConfigurationSources`,
    /// pilot/pkg/bootstrap/mesh.go: the shared one is applied first). Each field is replaced as a whole, those of `defaultConfig` one by
    /// one.
    pub fn over(self, shared: MeshConfig) -> MeshConfig {
        MeshConfig {
            image: self.image.or(shared.image),
            root_namespace: self.root_namespace.or(shared.root_namespace),
            discovery_selectors: self.discovery_selectors.or(shared.discovery_selectors),
            merges_metrics: self.merges_metrics.or(shared.merges_metrics),
            status_port: self.status_port.or(shared.status_port),
        }
    }

    /// The namespace whose ProxyConfigs hold everywhere.
    pub fn root_namespace(&self) -> &str {
        self.root_namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(ROOT_NAMESPACE)
    }

    /// Whether the metrics of a pod are merged into the agent's where the pod does not say.
    pub fn merges_metrics(&self) -> bool {
        self.merges_metrics.unwrap_or(true)
    }

    /// The port of the agent.
    pub fn status_port(&self) -> i64 {
        self.status_port.unwrap_or(STATUS_PORT)
    }

    /// Whether the control plane looks at a namespace with these labels: one of the selectors selects it, or there is none
    /// (`selectorsChanged`, pkg/kube/namespace/filter.go).
    pub fn discovers(&self, namespace: &impl Lookup) -> Result<bool, UnknownOperator> {
        let selectors = self.discovery_selectors.as_deref().unwrap_or_default();
        let mut unknown = None;
        for selector in selectors {
            match selector.matches(namespace) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(operator) => unknown = Some(operator),
            }
        }
        unknown.map_or(Ok(selectors.is_empty()), Err)
    }

    /// Labels with which a namespace is discovered, where one of the selectors asks for nothing but labels.
    pub fn discovering_labels(&self) -> Option<&StringMap> {
        let mut selectors = self.discovery_selectors.iter().flatten();
        selectors.find(|selector| selector.match_expressions.is_empty()).map(|selector| &selector.match_labels)
    }

    /// The `data` of a ConfigMap that parses to the same and holds nothing else.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let mut default_config = Map::new();
        if let Some(image) = &self.image {
            default_config.insert("image".to_owned(), json!(image));
        }
        if let Some(port) = self.status_port {
            default_config.insert("statusPort".to_owned(), port.into());
        }
        let mut mesh = Map::new();
        if !default_config.is_empty() {
            mesh.insert("defaultConfig".to_owned(), Value::Object(default_config));
        }
        if let Some(namespace) = &self.root_namespace {
            mesh.insert("rootNamespace".to_owned(), namespace.as_str().into());
        }
        if let Some(selectors) = &self.discovery_selectors {
            mesh.insert("discoverySelectors".to_owned(), json!(selectors));
        }
        if let Some(merges) = self.merges_metrics {
            mesh.insert("enablePrometheusMerge".to_owned(), merges.into());
        }
        BTreeMap::from([("mesh".to_owned(), Value::Object(mesh).to_string())])
    }
}

/// A selector that was checked.
fn selector(value: &Value) -> LabelSelector {
    let empty = Map::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let members = value.as_object().unwrap_or(&empty);
    let requirement = |value: &Value| {
        let members = value.as_object().unwrap_or(&empty);
        Requirement {
            key: member(members, "key").map(text).unwrap_or_default(),
            operator: member(members, "operator").map(text).unwrap_or_default(),
            values: member(members, "values").and_then(Value::as_array).into_iter().flatten().map(text).collect(),
        }
    };
    let labels = member(members, "match_labels").and_then(Value::as_object).into_iter().flatten();
    let expressions = member(members, "match_expressions").and_then(Value::as_array).into_iter().flatten();
    LabelSelector {
        match_labels: labels.map(|(key, value)| (key.clone(), text(value))).collect(),
        match_expressions: expressions.map(requirement).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(mesh: &str) -> Result<MeshConfig, String> {
        let data = BTreeMap::from([("mesh".to_owned(), mesh.to_owned())]);
        MeshConfig::parse(&ConfigMap { data, ..Default::default() })
    }

    fn variant(mesh: &str) -> Option<String> {
        parsed(mesh).unwrap().image.map(|image| image.image_type)
    }

    #[test]
    fn what_is_written_parses_to_the_same() {
        let mesh = "rootNamespace: roots\nenablePrometheusMerge: false\ndefaultConfig:\n  image:\n    imageType: debug\n  discoveryAddress: x:15012\n  \
            statusPort: '15030'\ndiscoverySelectors:\n- matchLabels: {mesh: 'on'}\n  matchExpressions: [{key: a, operator: In, values: [b]}]\n";
        let config = parsed(mesh).unwrap();
        assert_eq!(config.image.as_ref().unwrap().image_type, "debug");
        assert_eq!((config.root_namespace(), config.merges_metrics(), config.status_port()), ("roots", false, 15030));
        assert_eq!(MeshConfig::parse(&ConfigMap { data: config.to_data(), ..Default::default() }).unwrap(), config);
        let empty = MeshConfig::default();
        assert_eq!((empty.root_namespace(), empty.merges_metrics(), empty.status_port()), ("istio-system", true, 15020));
    }

    #[test]
    fn it_is_read_as_istiod_reads_it() {
        assert_eq!(variant("defaultConfig: {image: {image_type: debug}}").as_deref(), Some("debug"));
        assert_eq!(variant("defaultConfig: {image: {imageType: debug}}\ndefaultConfig: {concurrency: '2'}"), None);
        assert_eq!(variant("default_config: {image: {imageType: debug}}"), None);
        assert_eq!(variant("defaultConfig: {image: {}}").as_deref(), Some(""));
        assert_eq!(variant("defaultConfig:\naccessLogFile: /dev/stdout\nnewer: {a: 1}"), None);
        assert_eq!(parsed("root_namespace: roots").unwrap().root_namespace(), "roots");
        for (broken, why) in [
            ("rootNamespace: 1", "rootNamespace: 1 is no text"),
            ("defaultConfig: {concurrency: many}", "defaultConfig: concurrency: \"many\" is no number that fits"),
            ("- a", "[\"a\"] is no map"),
        ] {
            assert_eq!(parsed(broken), Err(format!("its key \"mesh\" is no mesh configuration: {why}")));
        }
        assert!(parsed("a: [").unwrap_err().starts_with("its key \"mesh\" is no YAML"));
    }

    #[test]
    fn a_shared_configuration_fills_what_the_own_one_leaves_out() {
        let over = |own: &str, shared: &str| parsed(own).unwrap().over(parsed(shared).unwrap());
        let merged = over("rootNamespace: own", "rootNamespace: shared\ndefaultConfig: {image: {imageType: debug}}");
        assert_eq!((merged.root_namespace(), merged.image.as_ref().unwrap().image_type.as_str()), ("own", "debug"));
        let merged = over("defaultConfig: {image: {}}", "defaultConfig: {image: {imageType: debug}}");
        assert_eq!(merged.image.unwrap().image_type, "");
        let merged = over(
            "defaultConfig: {concurrency: 2}\ndiscoverySelectors: []",
            "defaultConfig: {image: {imageType: debug}}\ndiscoverySelectors: [{matchLabels: {a: b}}]",
        );
        assert_eq!(merged.image.as_ref().unwrap().image_type, "debug");
        assert_eq!(merged.discovers(&StringMap::new()), Ok(true));
    }

    #[test]
    fn a_namespace_is_discovered_by_any_selector() {
        let discovers = |mesh: &str, labels: &[(&str, &str)]| {
            let labels: StringMap = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            parsed(mesh).unwrap().discovers(&labels)
        };
        let two = "discoverySelectors: [{matchLabels: {mesh: 'on'}}, {matchExpressions: [{key: team, operator: Exists}]}]";
        assert_eq!(discovers(two, &[]), Ok(false));
        assert_eq!(discovers(two, &[("mesh", "off")]), Ok(false));
        assert_eq!(discovers(two, &[("mesh", "on")]), Ok(true));
        assert_eq!(discovers(two, &[("team", "")]), Ok(true));
        assert_eq!(discovers("discoverySelectors: [{}]", &[]), Ok(true));
        assert_eq!(discovers("discoverySelectors: []", &[]), Ok(true));
        assert_eq!(discovers("discovery_selectors: [{match_labels: {mesh: 'on'}}]", &[]), Ok(false));
        assert!(
            discovers("discoverySelectors: [{matchExpressions: [{key: a, operator: Gt, values: ['1']}]}]", &[("a", "2")])
                .is_err()
        );
    }
}
