//! What a deletion or an eviction asks for.

use serde_json::{Value, json};

use super::apply::Persistence;

/// The deletion of one object as it was read, and of no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    uid: Value,
    resource_version: Value,
}

impl Deletion {
    /// Of this object.
    pub fn of(object: &Value) -> Deletion {
        let metadata = &object["metadata"];
        Deletion { uid: metadata["uid"].clone(), resource_version: metadata["resourceVersion"].clone() }
    }

    /// The `DeleteOptions`, whose place is the body. They are the only place where a deletion says that it is a dry run: once there
    /// is a body, the API server ignores the query (`DeleteResource`, k8s.io/apiserver/pkg/endpoints/handlers/delete.go). What is not
    /// to be kept for certain is a dry run.
    pub(super) fn options(&self, persistence: Persistence) -> Value {
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": {"uid": self.uid, "resourceVersion": self.resource_version},
        });
        if persistence != Persistence::Stored {
            options["dryRun"] = json!(["All"]);
        }
        options
    }
}
