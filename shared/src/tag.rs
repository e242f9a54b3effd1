//! Revision tags: what they consist of, who follows them, what is wrong with them, and what changes them.
//!
//! A tag is a MutatingWebhookConfiguration, from Istio 1.28 on also a Service, and for `default` also the validator of
//! configuration that names no revision. Everything here is pure: it gives the [`crate::change::Change`]s that a command
//! then carries out, in their order.

mod adoption;
mod discovery;
mod effect;
mod followers;
mod gateways;
mod history;
mod injectors;
mod listing;
mod ownership;
mod plan;
mod service;
mod validator;

pub use adoption::{Noted, adopted};
pub use effect::Effect;
pub use followers::{Followers, Maker, Proxies, followers, followers_by_label};
pub use gateways::{GatewayRevisions, Handover, unread_of_gateways};
pub(crate) use gateways::{gateway_subject, is_istios, label_gateway, named};
pub use history::{Move, history};
pub use listing::{Entry, EntryKind, Fault, listing, validator_findings};
pub use plan::{
    Generated, RemoveRequest, SetRequest, TagPlan, check_answers, generated, may_be_tag, plan_remove, plan_set, plan_undo,
    removed_tag, undo_removes,
};

/// The tag that answers for `istio-injection=enabled` and for what names no revision.
pub const DEFAULT: &str = "default";
