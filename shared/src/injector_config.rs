//! What a revision injects: its ConfigMaps `istio-sidecar-injector[-REV]` and `istio[-REV]`, cut down to what decides
//! whether a pod gets a proxy and which image that has.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::image::tag_with_variant;
use crate::object::{ConfigMap, LabelSelector, ProxyImage};
use crate::yaml;

/// The parsed injector ConfigMap of one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InjectorConfig {
    /// Registry and path before the image's name, for example `docker.io/istio`.
    pub hub: String,
    /// Tag, maybe with a variant's suffix.
    pub tag: String,
    /// Variant, or empty.
    pub variant: String,
    /// Name of the image, or a whole reference when it contains `/`.
    pub image: String,
    /// Whether a pod that says nothing gets a proxy.
    pub policy: Policy,
    /// Pods that never get one.
    pub never: Vec<LabelSelector>,
    /// Pods that always get one.
    pub always: Vec<LabelSelector>,
    /// Templates used by pods that name none.
    pub default_templates: Vec<String>,
    /// Names that stand for several templates.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Every template, by name.
    pub templates: BTreeMap<String, Template>,
}

/// `policy` of the injector's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Inject unless something forbids it.
    Enabled,
    /// Inject only where something asks for it. Also what istiod makes of a value that it does not know.
    #[default]
    Disabled,
    /// A value that istiod does not know: it never injects (`injectRequired`, pkg/kube/inject/inject.go).
    Illegal,
}

/// What an injection template means for the proxy's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// Adds a proxy with the image that the injector computes.
    Proxy,
    /// Adds a proxy with an image of its own making.
    OwnImage,
    /// Says nothing about the proxy's image.
    Neutral,
}

impl Template {
    fn of_text(text: &str) -> Template {
        if text.contains(".ProxyImage") {
            Template::Proxy
        } else if text.contains("istio-proxy") && text.contains("image:") {
            Template::OwnImage
        } else {
            Template::Neutral
        }
    }

    /// A text that is read as this again.
    fn sample_text(self) -> &'static str {
        match self {
            Template::Proxy => "{{ .ProxyImage }}",
            Template::OwnImage => "istio-proxy image:",
            Template::Neutral => "",
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    policy: Option<String>,
    never_inject_selector: Option<Vec<LabelSelector>>,
    always_inject_selector: Option<Vec<LabelSelector>>,
    default_templates: Option<Vec<String>>,
    aliases: Option<BTreeMap<String, Vec<String>>>,
    templates: Option<BTreeMap<String, String>>,
}

impl InjectorConfig {
    /// Reads the ConfigMap; the error says which key is missing or cannot be read.
    pub fn parse(map: &ConfigMap) -> Result<InjectorConfig, String> {
        let entry = |key: &str| map.data.get(key).ok_or_else(|| format!("it has no key {key:?}"));
        let values: Value =
            yaml::value(entry("values")?).map_err(|error| format!("its key \"values\" is no JSON or YAML: {error}"))?;
        let config: Config = yaml::parse(entry("config")?).map_err(|error| format!("its key \"config\" is no YAML: {error}"))?;
        let global = &values["global"];
        let templates = config.templates.unwrap_or_default();
        Ok(InjectorConfig {
            hub: text(&global["hub"]),
            tag: text(&global["tag"]),
            variant: text(&global["variant"]),
            image: text(&global["proxy"]["image"]),
            policy: match config.policy.as_deref() {
                Some("enabled") => Policy::Enabled,
                Some("disabled") => Policy::Disabled,
                _ => Policy::Illegal,
            },
            never: config.never_inject_selector.unwrap_or_default(),
            always: config.always_inject_selector.unwrap_or_default(),
            default_templates: config.default_templates.unwrap_or_default(),
            aliases: config.aliases.unwrap_or_default(),
            templates: templates.into_iter().map(|(name, text)| (name, Template::of_text(&text))).collect(),
        })
    }

    /// The `data` of a ConfigMap that parses to the same and holds nothing else.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let values = json!({"global": {
            "hub": self.hub, "tag": self.tag, "variant": self.variant, "proxy": {"image": self.image},
        }});
        let templates: BTreeMap<_, _> = self.templates.iter().map(|(name, template)| (name, template.sample_text())).collect();
        let config = json!({
            "policy": match self.policy {
                Policy::Enabled => "enabled",
                Policy::Disabled => "disabled",
                Policy::Illegal => "illegal",
            },
            "neverInjectSelector": self.never,
            "alwaysInjectSelector": self.always,
            "defaultTemplates": self.default_templates,
            "aliases": self.aliases,
            "templates": templates,
        });
        // JSON is YAML.
        BTreeMap::from([("values".to_owned(), values.to_string()), ("config".to_owned(), config.to_string())])
    }

    /// The image that is injected when nothing of the pod's own is stronger.
    ///
    /// `image_type` is the variant of the effective ProxyConfig: `None` when no ProxyConfig has an `image` at all,
    /// in which case the installation's variant is used. Source: `ProxyImage`, pkg/kube/inject/inject.go.
    pub fn proxy_image(&self, image_type: Option<&str>) -> String {
        if self.image.contains('/') {
            return self.image.clone();
        }
        let name = if self.image.is_empty() { "proxyv2" } else { &self.image };
        let variant = image_type.unwrap_or(&self.variant);
        format!("{}/{}:{}", self.hub, name, tag_with_variant(&self.tag, variant))
    }

    /// The templates that are applied for these names, aliases resolved; an unknown name is an error, as in istiod.
    pub fn resolve_templates<'a>(&'a self, names: &[&'a str]) -> Result<Vec<Template>, &'a str> {
        let mut resolved = Vec::new();
        for name in names {
            match self.aliases.get(*name) {
                Some(names) => resolved.extend(names.iter().map(String::as_str)),
                None => resolved.push(*name),
            }
        }
        resolved.into_iter().map(|name| self.templates.get(name).copied().ok_or(name)).collect()
    }
}

/// The deciding part of the mesh configuration of one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshConfig {
    /// `defaultConfig.image`, if there is one.
    pub image: Option<ProxyImage>,
    /// The namespace whose ProxyConfigs hold everywhere; the control plane's own when absent.
    pub root_namespace: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MeshDocument {
    default_config: Option<ProxyConfigDocument>,
    root_namespace: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ProxyConfigDocument {
    image: Option<ProxyImage>,
}

impl MeshConfig {
    /// Reads key `mesh` of the ConfigMap; an absent key means all defaults, as in istiod.
    pub fn parse(map: &ConfigMap) -> Result<MeshConfig, String> {
        let Some(mesh) = map.data.get("mesh") else { return Ok(MeshConfig::default()) };
        let document: Option<MeshDocument> =
            yaml::parse(mesh).map_err(|error| format!("its key \"mesh\" is no YAML: {error}"))?;
        let document = document.unwrap_or_default();
        Ok(MeshConfig {
            image: document.default_config.and_then(|config| config.image),
            root_namespace: document.root_namespace.filter(|namespace| !namespace.is_empty()),
        })
    }

    /// The `data` of a ConfigMap that parses to the same and holds nothing else.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let mut mesh = serde_json::Map::new();
        if let Some(image) = &self.image {
            mesh.insert("defaultConfig".to_owned(), json!({ "image": image }));
        }
        if let Some(namespace) = &self.root_namespace {
            mesh.insert("rootNamespace".to_owned(), namespace.as_str().into());
        }
        BTreeMap::from([("mesh".to_owned(), Value::Object(mesh).to_string())])
    }
}

/// `image` of a pod's `proxy.istio.io/config` annotation; the error says why it is no ProxyConfig, for which istiod refuses
/// the pod (`validateProxyConfig`, pkg/kube/inject/validate.go).
pub(crate) fn annotated_image(annotation: &str) -> Result<Option<ProxyImage>, String> {
    let document: Option<ProxyConfigDocument> = yaml::parse(annotation).map_err(|error| error.to_string())?;
    Ok(document.and_then(|document| document.image))
}

/// A scalar as istiod prints it: the tag may be a number in the values.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_map(values: &str, config: &str) -> ConfigMap {
        let data = BTreeMap::from([("values".to_owned(), values.to_owned()), ("config".to_owned(), config.to_owned())]);
        ConfigMap { data, ..Default::default() }
    }

    const CONFIG: &str = "policy: enabled\nneverInjectSelector:\n- matchLabels: {batch: \"yes\"}\nalwaysInjectSelector:\n  []\n\
        defaultTemplates: [sidecar]\ntemplates:\n  sidecar: |\n    spec: {{ .ProxyImage }}\n  bootstrap: |\n    containers: [x]\n\
        \x20 own: |\n    - name: istio-proxy\n      image: mine:1\n";

    #[test]
    fn what_is_written_parses_to_the_same() {
        let map = config_map(r#"{"global":{"hub":"docker.io/istio","tag":"1.28.2","proxy":{"image":"proxyv2"}}}"#, CONFIG);
        let config = InjectorConfig::parse(&map).unwrap();
        assert_eq!(config.proxy_image(None), "docker.io/istio/proxyv2:1.28.2");
        assert_eq!(config.templates["own"], Template::OwnImage);
        assert_eq!(config.templates["bootstrap"], Template::Neutral);
        assert_eq!(InjectorConfig::parse(&ConfigMap { data: config.to_data(), ..Default::default() }).unwrap(), config);

        let mesh = "rootNamespace: roots\ndefaultConfig:\n  image:\n    imageType: debug\n  discoveryAddress: x:15012\n";
        let map = ConfigMap { data: BTreeMap::from([("mesh".to_owned(), mesh.to_owned())]), ..Default::default() };
        let config = MeshConfig::parse(&map).unwrap();
        assert_eq!(config.image.as_ref().unwrap().image_type, "debug");
        assert_eq!(MeshConfig::parse(&ConfigMap { data: config.to_data(), ..Default::default() }).unwrap(), config);
    }

    #[test]
    fn the_tag_may_be_a_number() {
        let map = config_map(r#"{"global":{"hub":"h","tag":1.28}}"#, CONFIG);
        assert_eq!(InjectorConfig::parse(&map).unwrap().proxy_image(None), "h/proxyv2:1.28");
    }

    #[test]
    fn a_proxy_config_without_a_type_drops_the_installations_variant() {
        let map = config_map(r#"{"global":{"hub":"h","tag":"1","variant":"debug"}}"#, CONFIG);
        let config = InjectorConfig::parse(&map).unwrap();
        assert_eq!(config.proxy_image(None), "h/proxyv2:1-debug");
        assert_eq!(config.proxy_image(Some("")), "h/proxyv2:1");
        assert_eq!(config.proxy_image(Some("distroless")), "h/proxyv2:1-distroless");
    }

    #[test]
    fn an_annotation_without_an_image_is_not_one_that_is_no_proxy_config() {
        let typed = |image_type: &str| Some(ProxyImage { image_type: image_type.to_owned() });
        assert_eq!(annotated_image("image: {imageType: debug}\nconcurrency: 2"), Ok(typed("debug")));
        assert_eq!(annotated_image("image: {}"), Ok(typed("")));
        assert_eq!(annotated_image("concurrency: 2"), Ok(None));
        assert_eq!(annotated_image(""), Ok(None));
        assert!(annotated_image("image: [").is_err());
        assert!(annotated_image("debug").is_err());
    }

    #[test]
    fn a_broken_config_map_is_named_not_guessed() {
        assert_eq!(InjectorConfig::parse(&ConfigMap::default()), Err("it has no key \"values\"".to_owned()));
        assert!(InjectorConfig::parse(&config_map("{", CONFIG)).unwrap_err().starts_with("its key \"values\" is no JSON"));
        assert!(InjectorConfig::parse(&config_map("{}", "a: [")).unwrap_err().starts_with("its key \"config\" is no YAML"));
    }
}
