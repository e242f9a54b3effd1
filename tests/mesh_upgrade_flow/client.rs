//! A client that creates pods in every followed namespace without pause, and takes nothing but success.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use support::{Cluster, Workload};

/// The client, and what it has seen.
#[derive(Default)]
pub struct Client {
    /// By which revisions pods of each namespace may be injected now.
    allowed: Mutex<BTreeMap<String, BTreeSet<String>>>,
    failures: Mutex<Vec<String>>,
    created: AtomicUsize,
    is_done: AtomicBool,
}

impl Client {
    /// From now on pods of these namespaces are injected by one of these revisions.
    pub fn allow(&self, namespaces: &[String], revisions: &[&str]) {
        let revisions: BTreeSet<String> = revisions.iter().map(|revision| (*revision).to_owned()).collect();
        let mut allowed = self.allowed.lock().expect("nobody panics with it");
        for namespace in namespaces {
            allowed.insert(namespace.clone(), revisions.clone());
        }
    }

    /// Something moves: both answers are right until it has moved, and a moment longer, since API servers learn of it later.
    pub fn moving<T>(&self, namespaces: &[String], from: &str, to: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.allow(namespaces, &[from, to]);
        let moved = step()?;
        thread::sleep(Duration::from_millis(1500));
        self.allow(namespaces, &[to]);
        Ok(moved)
    }

    /// Creates pods until [`Client::end`].
    pub fn run(&self, cluster: &Cluster) {
        let pod = Workload::pod("client");
        while !self.is_done.load(Ordering::SeqCst) {
            let namespaces: Vec<String> = self.allowed.lock().expect("nobody panics with it").keys().cloned().collect();
            for namespace in namespaces {
                let before = self.of(&namespace);
                // Admitted by the API server and its webhooks like any other; only storing it is left out.
                let created = cluster.namespace_named(&namespace).dry_run(&pod);
                let may = before.union(&self.of(&namespace)).cloned().collect();
                self.created.fetch_add(1, Ordering::SeqCst);
                if let Some(why) = wrong(created, &may) {
                    self.failures.lock().expect("nobody panics with it").push(format!("namespace {namespace}: {why}"));
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn of(&self, namespace: &str) -> BTreeSet<String> {
        self.allowed.lock().expect("nobody panics with it").get(namespace).cloned().unwrap_or_default()
    }

    /// Ends it; the client's thread ends after its last pod.
    pub fn end(&self) {
        self.is_done.store(true, Ordering::SeqCst);
    }

    /// Whether every pod was created and injected as expected.
    pub fn check(&self) -> Result<()> {
        let failures = self.failures.lock().expect("nobody panics with it");
        let created = self.created.load(Ordering::SeqCst);
        ensure!(failures.is_empty(), "{} of {created} pods:\n{}", failures.len(), failures.join("\n"));
        ensure!(created > 20, "only {created} pods were created");
        Ok(())
    }
}

fn wrong(created: Result<Value>, may: &BTreeSet<String>) -> Option<String> {
    let pod = match created {
        Ok(pod) => pod,
        Err(error) => return Some(format!("{error:#}")),
    };
    let revision = pod["metadata"]["annotations"]["istio.io/rev"].as_str().unwrap_or("nobody");
    (!may.contains(revision)).then(|| format!("a pod was injected by {revision}, expected was one of {may:?}"))
}
