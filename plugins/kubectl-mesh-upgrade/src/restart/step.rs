//! How far the restart of one workload has come: what an interruption has to know of it, and what is said meanwhile.

use std::cell::Cell;
use std::fmt;

use tokio::sync::mpsc::UnboundedSender;

use crate::waves::Item;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was written: it can be left as it is.
    #[default]
    NotBegun,
    /// A change was asked for, and its pods are waited for.
    RollingOut,
    /// Some of its pods were replaced, and nothing is under way: the next one waits for its turn.
    BetweenPods,
}

/// How many pods run what is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// So many do.
    pub done: u64,
    /// Of so many.
    pub of: u64,
}

impl fmt::Display for Replaced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pods = if self.of == 1 { "pod" } else { "pods" };
        write!(formatter, "{} of {} {pods} replaced", self.done, self.of)
    }
}

/// What is said about a workload before it is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Its restart is asked for now.
    Restarting,
    /// A roll-out that is not complete is replaced: why, and by what.
    Replacing(String),
}

/// The restart of one workload, as the others see it.
pub struct Step {
    item: Item,
    phase: Cell<Phase>,
    replaced: Cell<Option<Replaced>>,
    notices: UnboundedSender<(Item, Notice)>,
}

impl Step {
    /// Nothing was done yet.
    pub fn new(item: &Item, notices: UnboundedSender<(Item, Notice)>) -> Step {
        Step { item: item.clone(), phase: Cell::default(), replaced: Cell::default(), notices }
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// It has come so far now. Gives how far it was.
    pub fn is(&self, phase: Phase) -> Phase {
        self.phase.replace(phase)
    }

    /// How many pods were replaced when they were last looked at.
    pub fn replaced(&self) -> Option<Replaced> {
        self.replaced.get()
    }

    /// So many pods are replaced now.
    pub fn has_replaced(&self, replaced: Option<Replaced>) {
        if replaced.is_some() {
            self.replaced.set(replaced);
        }
    }

    /// Says something about it.
    pub fn say(&self, notice: Notice) {
        // Where nobody listens any more, the command is ending.
        let _ = self.notices.send((self.item.clone(), notice));
    }
}
