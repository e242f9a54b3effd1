//! How a start that came to no end goes on, or is taken back.

use std::cell::Cell;

use mesh::advice::{Advice, Command};
use mesh::terminal::words::plural;

/// The way on, and the way back.
pub struct WayBack {
    /// The revision that the mesh runs.
    pub old: Option<String>,
    /// The revision that is started.
    pub new: String,
    /// The namespace of its control plane, where that is not the running one's.
    pub elsewhere: Option<String>,
    /// Its version, in words.
    pub version: String,
    /// What all revisions share and is written with it.
    pub shared: Shared,
}

/// Definitions of custom resources, which all revisions share: nothing takes them back.
pub enum Shared {
    /// So many were written.
    Written(Cell<usize>),
    /// So many may have been, by a program.
    Perhaps(usize),
}

impl WayBack {
    /// The command that leads away from the new revision.
    pub fn command(&self) -> Command {
        match (&self.old, &self.elsewhere) {
            (Some(old), None) => Command::mesh_upgrade("rollback").flag("--to", old).flag("--from", &self.new).words("--remove"),
            (_, Some(namespace)) => {
                Command::mesh_upgrade("complete").flag("--remove", &self.new).flag("--istio-namespace", namespace)
            }
            (None, None) => Command::mesh_upgrade("complete").flag("--remove", &self.new),
        }
    }

    /// In words.
    pub fn advice(&self) -> Advice {
        let Some(old) = &self.old else { return Advice::say("the same command continues") };
        let advice = Advice::say("the same command continues, or ").and_run(self.command());
        let (new, version) = (&self.new, &self.version);
        let definitions = |count: usize| plural(count as u64, "CustomResourceDefinition", "CustomResourceDefinitions");
        let back = match &self.shared {
            Shared::Written(count) if count.get() > 0 => {
                format!(" takes {new} away; {} were updated to {version}, and stay so", definitions(count.get()))
            }
            Shared::Perhaps(count) if *count > 0 => {
                format!(" takes {new} away; {} may be those of {version} now, and stay so", definitions(*count))
            }
            _ => format!(" takes {new} away; {old} is as it was"),
        };
        advice.and_say(back)
    }

    /// One definition was written.
    pub fn count_definition(&self) {
        if let Shared::Written(count) = &self.shared {
            count.set(count.get() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh::terminal::advisor::Advisor;

    use super::*;

    #[test]
    fn nothing_is_as_it_was_once_a_shared_object_was_written() {
        let way = |shared: Shared, elsewhere: Option<&str>| {
            let (old, version) = (Some("1-26-0".to_owned()), "1.28.2".to_owned());
            WayBack { old, new: "1-28-2".to_owned(), elsewhere: elsewhere.map(str::to_owned), version, shared }
        };
        let told = |way: &WayBack| Advisor::default().text(&way.advice());
        let first = way(Shared::Written(Cell::new(0)), None);
        assert!(told(&first).contains("rollback --to 1-26-0 --from 1-28-2 --remove"), "{}", told(&first));
        assert!(told(&first).ends_with("1-26-0 is as it was"), "{}", told(&first));
        first.count_definition();
        first.count_definition();
        assert!(told(&first).ends_with("2 CustomResourceDefinitions were updated to 1.28.2, and stay so"), "{}", told(&first));
        let other = told(&way(Shared::Perhaps(14), Some("mesh-b")));
        assert!(
            other.contains("complete --remove 1-28-2 --istio-namespace mesh-b") && other.contains("may be those of 1.28.2"),
            "{other}"
        );
    }
}
