//! `metadata`, and what is shared by every kind.
//!
//! The types of `object` decode from both encodings that the API server offers: their prost tags are those of
//! Kubernetes' generated `.proto` files (`staging/src/k8s.io/api/*/generated.proto`), their serde names those of its
//! JSON. A test on a real API server compares the two.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Labels or annotations, sorted by key.
pub type StringMap = BTreeMap<String, String>;

/// The part of `ObjectMeta` that verdicts use.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// The object's name; empty in a pod template.
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty for cluster-scoped objects.
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The identity of this object among all that ever had its name.
    #[prost(string, tag = "5")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// How often its specification was changed.
    #[prost(int64, tag = "7")]
    #[serde(skip_serializing_if = "crate::object::is_default")]
    pub generation: i64,
    /// When it was created.
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
    /// Set once its deletion has begun.
    #[prost(message, optional, tag = "9")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Time>,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "11")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: StringMap,
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "12")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: StringMap,
    /// Owners; at most one is the controller.
    #[prost(message, repeated, tag = "13")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub owner_references: Vec<OwnerReference>,
}

impl Metadata {
    /// The owner that manages this object, if any.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

/// A reference to an owner.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Kind, for example `ReplicaSet`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Name, in the namespace of the object that is owned (or cluster-wide, as for a Node).
    #[prost(string, tag = "3")]
    pub name: String,
    /// The owner's uid.
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// API version, for example `apps/v1`.
    #[prost(string, tag = "5")]
    pub api_version: String,
    /// Whether this owner manages the object.
    #[prost(bool, tag = "6")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub controller: bool,
}

/// A point in time, to the second. JSON: RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let timestamp = jiff::Timestamp::from_second(self.seconds).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&timestamp)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Time;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a time in RFC 3339")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
                let timestamp: jiff::Timestamp = text.parse().map_err(E::custom)?;
                Ok(Time { seconds: timestamp.as_second() })
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// Reads a JSON or YAML `null` as the default value: people write `labels:` with nothing behind it.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
