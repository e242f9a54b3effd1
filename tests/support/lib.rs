//! The test cluster: a real Kubernetes with real Istio control planes, as plain processes on loopback, and the vocabulary to
//! say what is in it. No container engine is needed, and nothing runs in the pods.
//!
//! Kubernetes, etcd, kwok and Istio are built from their Go modules (see [`Program`]); Linux only, because every cluster
//! listens on a 127.X.0.0/16 of its own.
#![cfg(target_os = "linux")]

pub mod address;
pub mod api;
mod argo;
pub mod cluster;
pub mod hold;
pub mod intercept;
pub mod istio;
pub mod kubeconfig;
mod load;
pub mod plugin;
pub mod process;
pub mod program;
pub mod rbac;
mod shared;
mod start;
pub mod transcript;
pub mod workload;

use std::fmt;
use std::io::Write;

pub use api::Api;
pub use cluster::{Cluster, Options};
pub use intercept::{Call, Fate, Interceptor, once_each};
pub use istio::{Installer, Revision};
pub use kubeconfig::Kubeconfig;
pub use plugin::{Output, Running, Session, plugin, plugins};
pub use program::{IstioVersion, Program};
pub use workload::{Follows, Namespace, Workload};

/// Tells the person at the terminal what takes so long. libtest keeps back what `eprintln!` writes, but not this.
pub fn say(message: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "mesh-tests: {message}");
}
