//! What a revision injects: its ConfigMap `istio-sidecar-injector[-REV]`, cut down to what decides whether a pod gets a proxy and
//! which image that has.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::image::tag_with_variant;
pub use crate::injection_template::Template;
use crate::object::{ConfigMap, LabelSelector};
use crate::proto_json::Field;
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

impl InjectorConfig {
    /// Reads the ConfigMap; the error says which key is missing or cannot be read.
    ///
    /// As istiod does: key `values` is YAML for a protobuf message (`NewValuesConfig`, pkg/kube/inject/webhook.go), key `config` YAML for
    /// a Go structure (`UnmarshalConfig`, pkg/kube/inject/inject.go), whose names may be written in any case and whose texts may be
    /// numbers.
    pub fn parse(map: &ConfigMap) -> Result<InjectorConfig, String> {
        let entry = |key: &str| map.data.get(key).ok_or_else(|| format!("it has no key {key:?}"));
        let broken = |key: &str, what: &str, why: &dyn std::fmt::Display| format!("its key {key:?} is no {what}: {why}");
        let values = yaml::value(entry("values")?).map_err(|error| broken("values", "JSON or YAML", &error))?;
        VALUES.check(&values).map_err(|why| broken("values", "set of values", &why))?;
        let global = values.get("global").unwrap_or(&Value::Null);
        let config = yaml::value(entry("config")?).map_err(|error| broken("config", "YAML", &error))?;
        let config = Config(&config);
        let read = || -> Result<InjectorConfig, String> {
            Ok(InjectorConfig {
                hub: global["hub"].as_str().unwrap_or_default().to_owned(),
                tag: global.get("tag").map_or_else(String::new, printed),
                variant: global["variant"].as_str().unwrap_or_default().to_owned(),
                image: global["proxy"]["image"].as_str().unwrap_or_default().to_owned(),
                policy: match config.text("policy")?.as_deref() {
                    Some("enabled") => Policy::Enabled,
                    Some("disabled") => Policy::Disabled,
                    _ => Policy::Illegal,
                },
                never: config.selectors("neverInjectSelector")?,
                always: config.selectors("alwaysInjectSelector")?,
                default_templates: match config.texts("defaultTemplates")? {
                    names if names.is_empty() => vec![SIDECAR_TEMPLATE.to_owned()],
                    names => names,
                },
                aliases: config.map("aliases", texts)?,
                templates: config.map("templates", |text| Ok(Template::of_text(&text_of(text)?)))?,
            })
        };
        read().map_err(|why| broken("config", "configuration of an injector", &why))
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
        self.image_named(name, image_type)
    }

    /// The image that a template composes from the values by itself.
    pub(crate) fn composed_image(&self) -> String {
        if self.image.contains('/') { self.image.clone() } else { format!("{}/{}:{}", self.hub, self.image, self.tag) }
    }

    /// Likewise the image of this name, whatever the installation calls its proxy.
    pub(crate) fn image_named(&self, name: &str, image_type: Option<&str>) -> String {
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
        resolved.into_iter().map(|name| self.templates.get(name).cloned().ok_or(name)).collect()
    }
}

/// The template that is applied where no default is given (`SidecarTemplateName`, pkg/kube/inject/inject.go).
const SIDECAR_TEMPLATE: &str = "sidecar";

/// `Values` of operator/pkg/apis, as far as it decides here. The tag is a `google.protobuf.Value`: it may be anything.
const VALUES: Field = Field::Message(&[(
    "global",
    Field::Message(&[("hub", Field::Text), ("variant", Field::Text), ("proxy", Field::Message(&[("image", Field::Text)]))]),
)]);

/// A tag as Go prints it: it may be a number in the values, and a whole number has no fraction.
fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// The value of key `config`, read as sigs.k8s.io/yaml and encoding/json read it into `Config` of pkg/kube/inject/inject.go.
struct Config<'a>(&'a Value);

impl Config<'_> {
    /// A member by its name, in whatever case it is written; the exact one first.
    fn member(&self, name: &str) -> Result<&Value, String> {
        match self.0 {
            Value::Null => Ok(&Value::Null),
            Value::Object(members) => Ok(members
                .get(name)
                .or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
                .unwrap_or(&Value::Null)),
            other => Err(format!("{other} is no map")),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.member(name)? {
            Value::Null => Ok(None),
            value => text_of(value).map(Some).map_err(|why| format!("{name}: {why}")),
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        texts(self.member(name)?).map_err(|why| format!("{name}: {why}"))
    }

    fn map<T>(&self, name: &str, read: impl Fn(&Value) -> Result<T, String>) -> Result<BTreeMap<String, T>, String> {
        let failed = |why| format!("{name}: {why}");
        match self.member(name)? {
            Value::Null => Ok(BTreeMap::new()),
            Value::Object(members) => {
                members.iter().map(|(key, value)| Ok((key.clone(), read(value).map_err(failed)?))).collect()
            }
            other => Err(failed(format!("{other} is no map"))),
        }
    }

    fn selectors(&self, name: &str) -> Result<Vec<LabelSelector>, String> {
        let mut value = self.member(name)?.clone();
        for selector in value.as_array_mut().into_iter().flatten() {
            // Labels are texts, whatever YAML makes of `yes`.
            for label in selector.get_mut("matchLabels").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
                *label = Value::String(text_of(label).map_err(|why| format!("{name}: {why}"))?);
            }
        }
        let selectors: Option<Vec<LabelSelector>> = serde_json::from_value(value).map_err(|error| format!("{name}: {error}"))?;
        Ok(selectors.unwrap_or_default())
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items.iter().map(text_of).collect(),
        other => Err(format!("{other} is no list")),
    }
}

/// A text, or a number or a truth value where a text is wanted.
fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(printed(value)),
        other => Err(format!("{other} is no text")),
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
        assert_eq!(config.templates["own"], Template::Image("mine:1".to_owned()));
        assert_eq!(config.templates["bootstrap"], Template::Neutral);
        assert_eq!(InjectorConfig::parse(&ConfigMap { data: config.to_data(), ..Default::default() }).unwrap(), config);
    }

    #[test]
    fn the_tag_may_be_a_number() {
        let map = config_map(r#"{"global":{"hub":"h","tag":1.28}}"#, CONFIG);
        assert_eq!(InjectorConfig::parse(&map).unwrap().proxy_image(None), "h/proxyv2:1.28");
    }

    #[test]
    fn values_and_configuration_are_read_as_istiod_reads_them() {
        let image = |values: &str| InjectorConfig::parse(&config_map(values, CONFIG)).map(|config| config.proxy_image(None));
        for (values, expected) in [
            ("global:\n  hub: h\n  tag: 1.28.2\n", "h/proxyv2:1.28.2"),
            ("global: {hub: h, tag: 20261127}", "h/proxyv2:20261127"),
            ("global: {hub: h, tag: 2.0}", "h/proxyv2:2"),
            ("global: {hub: h, tag: null}", "h/proxyv2:<nil>"),
            ("global: {hub: a, hub: h, tag: t, variant: null, proxy: null}", "h/proxyv2:t"),
        ] {
            assert_eq!(image(values).as_deref(), Ok(expected), "{values}");
        }
        let why = image("global: {hub: 1}").unwrap_err();
        assert_eq!(why, "its key \"values\" is no set of values: global: hub: 1 is no text");

        let config = |text: &str| InjectorConfig::parse(&config_map("{}", text));
        let other = config(
            "Policy: enabled\nDEFAULTTEMPLATES: [1]\nneverInjectSelector: [{matchLabels: {batch: yes}}]\ntemplates: {'1': 2}\n",
        )
        .unwrap();
        assert_eq!((other.policy, other.default_templates.as_slice()), (Policy::Enabled, ["1".to_owned()].as_slice()));
        assert_eq!(other.never[0].match_labels["batch"], "true");
        for without in ["policy: enabled", "policy: enabled\ndefaultTemplates: []", "policy: enabled\ndefaultTemplates:"] {
            assert_eq!(config(without).unwrap().default_templates, ["sidecar"], "{without}");
        }
        let why = config("policy: [enabled]").unwrap_err();
        assert_eq!(why, "its key \"config\" is no configuration of an injector: policy: [\"enabled\"] is no text");
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
    fn a_broken_config_map_is_named_not_guessed() {
        assert_eq!(InjectorConfig::parse(&ConfigMap::default()), Err("it has no key \"values\"".to_owned()));
        assert!(InjectorConfig::parse(&config_map("{", CONFIG)).unwrap_err().starts_with("its key \"values\" is no JSON"));
        assert!(InjectorConfig::parse(&config_map("{}", "a: [")).unwrap_err().starts_with("its key \"config\" is no YAML"));
    }
}
