//! Waves: which workloads are restarted together, and in which order.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mesh::course::{Course, Passage};
use mesh::proxy::ProxyType;
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
use mesh::verdict::{Verdict, Wanted};
use mesh::workload::{Restart, WorkloadId};

/// One workload to restart.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Which.
    pub workload: WorkloadId,
    /// Its uid: one that was deleted and made anew is another one, and nobody has looked at it.
    pub uid: Option<Arc<str>>,
    /// What sort of proxy it has.
    pub proxy_type: ProxyType,
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
            proxy_type: verdict.proxy_type,
            restart: verdict.restart.clone(),
            wanted: verdict.wanted.clone(),
            passage: verdict.passage.clone(),
        }
    }

    /// Whether its pods are a gateway, through which the traffic of many others comes.
    pub const fn is_gateway(&self) -> bool {
        matches!(self.proxy_type, ProxyType::Gateway | ProxyType::GatewayApi)
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

/// How waves are made. Gateways come last, in waves of their own: what is behind them has proved itself by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waving {
    /// A wave a namespace, by name.
    Namespace,
    /// Up to these shares of all workloads, each rounded up, in the order of their namespaces and names.
    Shares(Shares),
    /// A wave a value of this label, numbers as numbers; those without it come last. A gateway with the label has the place
    /// that the label gives it.
    Label(String),
}

/// Shares of the workloads in percent, each larger than the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares(Vec<u8>);

impl FromStr for Shares {
    type Err = String;

    /// Reads `25,50,100` or `25%,50%,100%`.
    fn from_str(text: &str) -> Result<Shares, String> {
        let share = |word: &str| {
            let number = word.trim();
            let number = number.strip_suffix('%').unwrap_or(number);
            let share = number.parse().ok().filter(|share| (1..=100).contains(share));
            share.ok_or_else(|| format!("{word:?} is not a whole number from 1 to 100"))
        };
        let shares = text.split(',').map(share).collect::<Result<Vec<u8>, String>>()?;
        if shares.is_sorted_by(|one, next| one < next) {
            return Ok(Shares(shares));
        }
        let mut sorted = shares;
        sorted.sort_unstable();
        sorted.dedup();
        Err(format!("each share includes those before it, so each has to be larger than the one before: {}", Shares(sorted)))
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<String> = self.0.iter().map(u8::to_string).collect();
        formatter.write_str(&shares.join(","))
    }
}

/// Makes the waves of workloads, each with its value of the label in question. Empty ones are left out, and the numbers have
/// no gaps. Only shares that end below 100 leave workloads out.
pub fn waves(mut items: Vec<(Item, Option<String>)>, waving: &Waving) -> Vec<Wave> {
    let is_last = |(item, value): &(Item, Option<String>)| item.is_gateway() && value.is_none();
    items.sort_by(|one, other| (is_last(one), &one.0.workload).cmp(&(is_last(other), &other.0.workload)));
    let mut waves: Vec<(String, Vec<Item>)> = Vec::new();
    let mut add = |name: String, item: Item| match waves.last_mut() {
        Some((last, wave)) if *last == name => wave.push(item),
        _ => waves.push((name, vec![item])),
    };
    match waving {
        Waving::Namespace => {
            for (item, _) in items {
                add(if item.is_gateway() { "gateways".to_owned() } else { item.workload.namespace.to_string() }, item);
            }
        }
        Waving::Shares(Shares(shares)) => {
            let count = items.len();
            for (place, (item, _)) in items.into_iter().enumerate() {
                let Some(share) = shares.iter().find(|share| place < (count * usize::from(**share)).div_ceil(100)) else { break };
                add(if item.is_gateway() { format!("{share}%, gateways") } else { format!("{share}%") }, item);
            }
        }
        Waving::Label(key) => {
            items.sort_by_key(|(item, value)| (rank(value.as_deref()), item.is_gateway() && value.is_none()));
            for (item, value) in items {
                let name = match value {
                    Some(value) => format!("{key}={value}"),
                    None if item.is_gateway() => format!("gateways without {key}"),
                    None => format!("without {key}"),
                };
                add(name, item);
            }
        }
    }
    waves.into_iter().enumerate().map(|(place, (name, items))| Wave { number: place + 1, name, items }).collect()
}

/// Says that gateways are restarted last, where that is so.
///
/// # Errors
/// When it cannot be written.
pub fn tell_gateways(waves: &[Wave], terminal: &mut Terminal) -> Result<(), Stop> {
    let is_of_gateways = |wave: &Wave| wave.items.iter().all(Item::is_gateway);
    let gateways = waves.iter().rev().take_while(|wave| is_of_gateways(wave)).count();
    if gateways > 0 && gateways < waves.len() {
        let label = "--by-label or an edited plan changes that";
        writeln!(terminal.err, "Gateways are restarted last, in a wave of their own; {label}.")?;
    }
    Ok(())
}

/// By number where the value is one, then by text; what has no value is last.
fn rank(value: Option<&str>) -> (u8, u64, String) {
    match value.map(|value| (value, value.parse())) {
        Some((_, Ok(number))) => (0, number, String::new()),
        Some((value, Err(_))) => (1, 0, value.to_owned()),
        None => (2, 0, String::new()),
    }
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
        let item = Item {
            workload,
            uid: None,
            proxy_type: ProxyType::Sidecar,
            restart: Restart::Rollout,
            wanted: None,
            passage: Passage::default(),
        };
        (item, None)
    }

    fn gateway(namespace: &str, name: &str) -> (Item, Option<String>) {
        let (item, value) = item(namespace, name);
        (Item { proxy_type: ProxyType::Gateway, ..item }, value)
    }

    fn told(waves: &[Wave]) -> Vec<(&str, usize)> {
        waves.iter().map(|wave| (wave.name.as_str(), wave.items.len())).collect()
    }

    fn shares(text: &str) -> Waving {
        Waving::Shares(text.parse().unwrap())
    }

    #[test]
    fn a_namespace_is_a_wave() {
        let waves = waves(vec![item("b", "x"), item("a", "y"), item("a", "x")], &Waving::Namespace);
        let told: Vec<_> = waves.iter().map(|wave| (wave.number, wave.name.as_str(), wave.items.len())).collect();
        assert_eq!(told, [(1, "a", 2), (2, "b", 1)]);
    }

    #[test]
    fn a_share_is_counted_in_workloads_and_rounded_up() {
        let of = |count: usize, text: &str| -> Vec<usize> {
            // By name, whatever the order in which they were found.
            let items = (0..count).rev().map(|number| item("shop", &format!("web-{number:03}"))).collect();
            let waves = waves(items, &shares(text));
            let names: Vec<&str> = waves.iter().flat_map(|wave| &wave.items).map(|item| &*item.workload.name).collect();
            assert!(names.is_sorted(), "{names:?}");
            waves.iter().map(|wave| wave.items.len()).collect()
        };
        assert_eq!(of(12, "25,50,100"), [3, 3, 6]);
        assert_eq!(of(3, "10,100"), [1, 2]);
        assert_eq!(of(4, "50,100"), [2, 2]);
        assert_eq!(of(11, "10%,50%,100%"), [2, 4, 5]);
        assert_eq!(of(1000, "10,50"), [100, 400], "what is in no wave is left out");
        assert_eq!(of(6, "50"), [3]);
        assert_eq!(of(1, "10,20,100"), [1], "no wave is empty");
    }

    #[test]
    fn shares_are_whole_percents_that_grow() {
        let parsed = |text: &str| text.parse::<Shares>().map(|shares| shares.to_string());
        assert_eq!(parsed("25%, 50,100%").as_deref(), Ok("25,50,100"));
        for wrong in ["0", "101", "10.5", "%", "", "10,,20", "-1", "10%%", "+5x"] {
            assert!(parsed(wrong).is_err_and(|why| why.ends_with("is not a whole number from 1 to 100")), "{wrong}");
        }
        for unsorted in ["50,10,100", "10,10,50,100,100"] {
            assert!(parsed(unsorted).is_err_and(|why| why.contains("larger than the one before: 10,50,100")), "{unsorted}");
        }
    }

    #[test]
    fn gateways_come_last_whatever_their_namespace_and_name() {
        let items =
            || vec![gateway("edge", "in"), item("shop", "web"), gateway("shop", "a"), item("zoo", "web"), item("zoo", "gateway")];
        assert_eq!(told(&waves(items(), &Waving::Namespace)), [("shop", 1), ("zoo", 2), ("gateways", 2)]);
        assert_eq!(told(&waves(items(), &shares("20,100"))), [("20%", 1), ("100%", 2), ("100%, gateways", 2)]);
        assert_eq!(told(&waves(items(), &shares("60"))), [("60%", 3)]);
        let labelled = |(item, _): (Item, Option<String>), value: &str| (item, Some(value.to_owned()));
        let by_label =
            vec![gateway("edge", "in"), labelled(gateway("edge", "b"), "1"), item("shop", "web"), labelled(item("a", "b"), "2")];
        let expected = [("ring=1", 1), ("ring=2", 1), ("without ring", 1), ("gateways without ring", 1)];
        assert_eq!(told(&waves(by_label, &Waving::Label("ring".to_owned()))), expected);
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
