//! Waves: which workloads are restarted together, and in which order.

use std::sync::Arc;

use mesh::course::{Course, Passage};
use mesh::verdict::{Verdict, Wanted};
use mesh::workload::{Restart, WorkloadId};

/// One workload to restart.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Which.
    pub workload: WorkloadId,
    /// Its uid: one that was deleted and made anew is another one, and nobody has looked at it.
    pub uid: Option<Arc<str>>,
    /// How.
    pub restart: Restart,
    /// What its new pods are to run; `None` for no proxy.
    pub wanted: Option<Wanted>,
    /// From where to where that takes its proxies.
    pub passage: Passage,
}

impl Item {
    /// From its verdict.
    pub fn new(verdict: &Verdict) -> Item {
        Item {
            workload: verdict.workload.clone(),
            uid: verdict.uid.clone(),
            restart: verdict.restart.clone(),
            wanted: verdict.wanted.clone(),
            passage: verdict.passage.clone(),
        }
    }

    /// Whether its proxies go to an older version.
    pub fn goes_back(&self) -> bool {
        self.passage.course == Course::Downgrade
    }

    /// `1.26.0 (1-26-0) -> 1.28.2 (1-28-2)`; a downgrade is called one.
    pub fn passage_text(&self) -> String {
        let mark = if self.goes_back() { " (downgrade)" } else { "" };
        format!("{}{mark}", self.passage)
    }

    /// `deployment.apps/web -n shop: 1.26.0 (1-26-0) -> 1.28.2 (1-28-2)`.
    pub fn line(&self) -> String {
        format!("{} -n {}: {}", self.workload.qualified_name(), self.workload.namespace, self.passage_text())
    }
}

/// Workloads that are restarted together.
#[derive(Clone, Debug, PartialEq)]
pub struct Wave {
    /// Its number, from 1.
    pub number: usize,
    /// What it is called: a namespace, a share, or a label's value.
    pub name: String,
    /// Its workloads, sorted.
    pub items: Vec<Item>,
}

/// How waves are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waving {
    /// A wave a namespace, by name.
    Namespace,
    /// Up to these shares of all workloads, by a stable hash of each: the same workload is always in the same wave.
    Percent(Vec<u8>),
    /// A wave a value of this label, numbers as numbers; those without it come last.
    Label(String),
}

/// Makes the waves of workloads, each with its value of the label in question. Empty ones are left out, and the numbers have
/// no gaps.
pub fn waves(mut items: Vec<(Item, Option<String>)>, waving: &Waving) -> Vec<Wave> {
    items.sort_by(|(one, _), (other, _)| one.workload.cmp(&other.workload));
    let mut waves: Vec<(String, Vec<Item>)> = Vec::new();
    match waving {
        Waving::Namespace => {
            for (item, _) in items {
                match waves.last_mut() {
                    Some((name, wave)) if **name == *item.workload.namespace => wave.push(item),
                    _ => waves.push((item.workload.namespace.to_string(), vec![item])),
                }
            }
        }
        Waving::Percent(shares) => {
            let mut shares = shares.clone();
            shares.sort_unstable();
            shares.dedup();
            // Whatever was asked for, nothing is forgotten.
            if shares.last() != Some(&100) {
                shares.push(100);
            }
            waves.extend(shares.iter().map(|share| (format!("{share}%"), Vec::new())));
            for (item, _) in items {
                let place = percentile(&item.workload);
                let wave = shares.iter().position(|share| place < u32::from(*share)).unwrap_or(shares.len() - 1);
                waves[wave].1.push(item);
            }
        }
        Waving::Label(key) => {
            items.sort_by_key(|(_, value)| rank(value.as_deref()));
            for (item, value) in items {
                let name = value.map_or_else(|| format!("without {key}"), |value| format!("{key}={value}"));
                match waves.last_mut() {
                    Some((last, wave)) if *last == name => wave.push(item),
                    _ => waves.push((name, vec![item])),
                }
            }
        }
    }
    let filled = waves.into_iter().filter(|(_, items)| !items.is_empty());
    filled.enumerate().map(|(place, (name, items))| Wave { number: place + 1, name, items }).collect()
}

/// By number where the value is one, then by text; what has no value is last.
fn rank(value: Option<&str>) -> (u8, u64, String) {
    match value.map(|value| (value, value.parse())) {
        Some((_, Ok(number))) => (0, number, String::new()),
        Some((value, Err(_))) => (1, 0, value.to_owned()),
        None => (2, 0, String::new()),
    }
}

/// 0 to 99, by FNV-1a of the workload's name: the same on every machine and in every version.
fn percentile(workload: &WorkloadId) -> u32 {
    let text = workload.to_string();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    u32::try_from(hash % 100).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(namespace: &str, name: &str) -> (Item, Option<String>) {
        let workload = WorkloadId {
            namespace: namespace.into(),
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: name.into(),
        };
        (Item { workload, uid: None, restart: Restart::Rollout, wanted: None, passage: Passage::default() }, None)
    }

    #[test]
    fn a_namespace_is_a_wave() {
        let waves = waves(vec![item("b", "x"), item("a", "y"), item("a", "x")], &Waving::Namespace);
        let told: Vec<_> = waves.iter().map(|wave| (wave.number, wave.name.as_str(), wave.items.len())).collect();
        assert_eq!(told, [(1, "a", 2), (2, "b", 1)]);
    }

    #[test]
    fn shares_hold_every_workload_once_and_the_same_ones_each_time() {
        let items: Vec<_> = (0..1000).map(|number| item("shop", &format!("web-{number}"))).collect();
        let by_percent = |shares: &[u8]| waves(items.clone(), &Waving::Percent(shares.to_vec()));
        let first = by_percent(&[10, 50]);
        assert_eq!(first.iter().map(|wave| wave.name.as_str()).collect::<Vec<_>>(), ["10%", "50%", "100%"]);
        assert_eq!(first.iter().map(|wave| wave.items.len()).sum::<usize>(), 1000);
        assert!((70..=130).contains(&first[0].items.len()), "{}", first[0].items.len());
        assert_eq!(by_percent(&[50, 10, 100])[0], first[0]);
    }

    #[test]
    fn values_of_a_label_come_in_their_order_and_what_has_none_is_last() {
        let labelled = |name: &str, value: Option<&str>| (item("shop", name).0, value.map(str::to_owned));
        let items = vec![labelled("a", None), labelled("b", Some("10")), labelled("c", Some("9")), labelled("d", Some("last"))];
        let waves = waves(items, &Waving::Label("ring".to_owned()));
        let told: Vec<_> = waves.iter().map(|wave| (wave.number, wave.name.as_str(), &*wave.items[0].workload.name)).collect();
        assert_eq!(told, [(1, "ring=9", "c"), (2, "ring=10", "b"), (3, "ring=last", "d"), (4, "without ring", "a")]);
    }
}
