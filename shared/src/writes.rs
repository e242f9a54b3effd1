//! What a command has changed so far, and whether it may change more: recorded at the one place where writes leave the
//! process, and asked by whoever says how the command ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::refusal::Refusal;

/// The writes of one command. Every clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Writes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Whenever something that was under way has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    entries: Vec<Entry>,
    /// Whole pieces of work that are under way: several writes that are only right together.
    pieces: usize,
    /// Those of which nothing was written yet: they are under way with the next write.
    unbegun: usize,
    unfinished: Option<Refusal>,
    /// The advice of what is unfinished, as a line.
    advice: String,
}

/// What may be written now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing: the command only reads.
    #[default]
    Forbidden,
    /// Anything.
    Allowed,
    /// Nothing more: the user has interrupted it. What is under way is finished.
    Ending,
}

/// One change, named by what was asked for, such as `changing namespaces/shop`.
#[derive(Debug)]
struct Entry {
    what: String,
    fate: Fate,
}

/// What has become of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    UnderWay,
    Done,
    /// Nobody knows: its answer was lost.
    Unknown,
    /// It has not happened, or was taken back.
    Undone,
}

/// A change that is under way. Dropped without a word, it may or may not have happened.
#[derive(Debug)]
#[must_use]
pub struct Writing {
    writes: Writes,
    place: usize,
}

/// Several changes that are only right together.
#[derive(Debug)]
#[must_use]
pub struct Piece(Writes);

impl Writes {
    /// From now on the command may write.
    pub fn allow(&self) {
        let mut state = self.state();
        if state.phase == Phase::Forbidden {
            state.phase = Phase::Allowed;
        }
    }

    /// Whether the command may have written, or may yet.
    pub fn are_allowed(&self) -> bool {
        self.state().phase != Phase::Forbidden
    }

    /// No further change begins, but for those that complete a piece of work. Says whether any was begun before.
    pub fn end(&self) -> bool {
        let mut state = self.state();
        let were_begun = !state.entries.is_empty();
        if state.phase != Phase::Forbidden {
            state.phase = Phase::Ending;
        }
        were_begun
    }

    /// Whether no change is under way.
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        state.pieces == 0 && state.entries.iter().all(|entry| entry.fate != Fate::UnderWay)
    }

    /// Waits until no change is under way.
    pub async fn are_settled(&self) {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            // From here on no end is missed, however early it comes.
            ended.as_mut().enable();
            if self.is_settled() {
                return;
            }
            ended.await;
        }
    }

    /// Begins a change. After [`Writes::end`] it waits for ever: whoever asks is not to go on. `None` where the command only
    /// reads.
    pub async fn begin(&self, what: &str) -> Option<Writing> {
        let place = {
            let mut state = self.state();
            match state.phase {
                Phase::Forbidden => return None,
                Phase::Ending if state.pieces == 0 => None,
                Phase::Allowed | Phase::Ending => {
                    state.pieces += std::mem::take(&mut state.unbegun);
                    Some(state.begin(what, Fate::UnderWay))
                }
            }
        };
        match place {
            Some(place) => Some(Writing { writes: self.clone(), place }),
            None => std::future::pending().await,
        }
    }

    /// Begins a program that changes something. An interruption does not wait for it: it ends the program, and what that has done
    /// is not known.
    pub async fn begin_program(&self, what: &str) -> Option<Writing> {
        let writing = self.begin(what).await?;
        self.is(writing.place, Fate::Unknown);
        Some(writing)
    }

    /// Begins several changes that are only right together: they are finished even after [`Writes::end`].
    pub fn piece(&self) -> Piece {
        self.state().pieces += 1;
        Piece(self.clone())
    }

    /// As [`Writes::piece`], for changes of which none was begun: until the first one is, [`Writes::end`] ends them too.
    pub fn whole(&self) -> Piece {
        self.state().unbegun += 1;
        Piece(self.clone())
    }

    /// What was found out later about a change whose answer was lost.
    pub fn settle(&self, what: &str, has_happened: bool) {
        let fate = if has_happened { Fate::Done } else { Fate::Undone };
        let mut state = self.state();
        state
            .entries
            .iter_mut()
            .filter(|entry| entry.what == what && entry.fate == Fate::Unknown)
            .for_each(|entry| entry.fate = fate);
    }

    /// This moment, for [`Writes::put_back_since`].
    pub fn mark(&self) -> usize {
        self.state().entries.len()
    }

    /// Everything that was changed since a moment was put back.
    pub fn put_back_since(&self, mark: usize) {
        self.state().entries.iter_mut().skip(mark).for_each(|entry| entry.fate = Fate::Undone);
    }

    /// Whether something was changed, or may have been, and was not put back.
    pub fn is_something_changed(&self) -> bool {
        self.state().entries.iter().any(|entry| entry.fate != Fate::Undone)
    }

    /// What was changed and not put back, a line each.
    pub fn lines(&self) -> Vec<String> {
        let line = |entry: &Entry| match entry.fate {
            Fate::Done => Some(format!("done: {}", entry.what)),
            Fate::UnderWay | Fate::Unknown => Some(format!("not known whether done: {}", entry.what)),
            Fate::Undone => None,
        };
        let mut lines: Vec<String> = Vec::new();
        for line in self.state().entries.iter().filter_map(line) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }

    /// As [`Writes::lines`], the first ones only where they are many.
    pub fn some_lines(&self) -> Vec<String> {
        const SHOWN: usize = 20;
        let mut lines = self.lines();
        let more = lines.len().saturating_sub(SHOWN);
        lines.truncate(SHOWN);
        lines.extend((more > 0).then(|| format!("and {more} more")));
        lines
    }

    /// What is to be said if the command is interrupted from here on: what was done, and what is left.
    pub fn if_interrupted(&self, unfinished: Refusal) {
        self.if_interrupted_next(unfinished, String::new());
    }

    /// The same, with its advice as a line: where nothing but the process's last words can be said, no terminal words it.
    pub fn if_interrupted_next(&self, unfinished: Refusal, advice: String) {
        let mut state = self.state();
        (state.unfinished, state.advice) = (Some(unfinished), advice);
    }

    /// What an interrupted command says when it ends at once, in the middle of what it does, a line each.
    pub fn last_words(&self) -> Vec<String> {
        let Refusal { reason, details, .. } = self.unfinished();
        let advice = self.state().advice.clone();
        let next = (!advice.is_empty() && self.is_something_changed()).then_some(advice);
        let details = details.into_iter().map(|detail| format!("  {detail}"));
        let next = next.map(|advice| format!("Next: {advice}"));
        std::iter::once(format!("interrupted: {reason}")).chain(details).chain(next).collect()
    }

    /// What an interrupted command says.
    pub fn unfinished(&self) -> Refusal {
        if !self.is_something_changed() {
            return Refusal::new("nothing was changed", "");
        }
        let said = self.state().unfinished.clone();
        let mut refusal = said.unwrap_or_else(|| {
            Refusal::new("the command has not come to its end", "the same command continues").with(self.some_lines())
        });
        let unknown = self.lines().into_iter().filter(|line| line.starts_with("not known"));
        let missing: Vec<String> = unknown.filter(|line| !refusal.details.contains(line)).collect();
        refusal.details.extend(missing);
        refusal
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, place: usize, fate: Fate) {
        self.state().becomes(place, fate);
        self.0.ended.notify_waiters();
    }
}

impl State {
    /// What has become of a change. One that has happened settles earlier tries of the same.
    fn becomes(&mut self, place: usize, fate: Fate) {
        let Some(entry) = self.entries.get_mut(place).filter(|entry| matches!(entry.fate, Fate::UnderWay | Fate::Unknown)) else {
            return;
        };
        entry.fate = fate;
        if fate == Fate::Done {
            let what = entry.what.clone();
            let tries = self.entries.iter_mut().filter(|other| other.what == what && other.fate == Fate::Unknown);
            tries.for_each(|earlier| earlier.fate = Fate::Done);
        }
    }

    /// A change that has not happened and is asked for again is one change. One whose fate is unknown stays so until it is known.
    fn begin(&mut self, what: &str, fate: Fate) -> usize {
        let same = self.entries.iter().position(|entry| entry.what == what && entry.fate == Fate::Undone);
        match same {
            Some(place) => {
                self.entries[place].fate = fate;
                place
            }
            None => {
                self.entries.push(Entry { what: what.to_owned(), fate });
                self.entries.len() - 1
            }
        }
    }
}

impl Writing {
    /// It has happened.
    pub fn done(self) {
        self.writes.is(self.place, Fate::Done);
    }

    /// It has not happened.
    pub fn undone(self) {
        self.writes.is(self.place, Fate::Undone);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.writes.is(self.place, Fate::Unknown);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.unbegun > 0 {
            state.unbegun -= 1;
        } else {
            state.pieces = state.pieces.saturating_sub(1);
        }
        drop(state);
        self.0.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn begun(writes: &Writes, what: &str) -> Writing {
        writes.begin(what).now_or_never().flatten().expect("it may begin")
    }

    #[test]
    fn a_command_that_reads_writes_nothing() {
        let writes = Writes::default();
        assert!(writes.begin("deleting a").now_or_never().expect("an answer at once").is_none());
        assert!(!writes.end());
        assert_eq!((writes.is_something_changed(), writes.are_allowed()), (false, false));
    }

    #[test]
    fn after_the_end_nothing_begins_and_what_is_under_way_is_waited_for() {
        let writes = Writes::default();
        writes.allow();
        let first = begun(&writes, "changing a");
        assert!(writes.end());
        assert!(writes.begin("changing b").now_or_never().is_none());
        assert!(writes.are_settled().now_or_never().is_none());
        first.done();
        assert!(writes.are_settled().now_or_never().is_some());
        assert_eq!(writes.lines(), ["done: changing a"]);
    }

    #[test]
    fn a_whole_is_finished_after_the_end_once_it_was_begun() {
        let writes = Writes::default();
        writes.allow();
        let whole = writes.whole();
        let first = begun(&writes, "changing a");
        writes.end();
        first.done();
        assert!(writes.are_settled().now_or_never().is_none());
        begun(&writes, "changing b").done();
        drop(whole);
        assert!(writes.are_settled().now_or_never().is_some());
        assert!(writes.begin("changing c").now_or_never().is_none());

        let writes = Writes::default();
        writes.allow();
        let whole = writes.whole();
        writes.end();
        assert!(writes.begin("changing a").now_or_never().is_none(), "nothing of it was begun");
        assert!(writes.are_settled().now_or_never().is_some());
        drop(whole);
        assert!(writes.begin("changing a").now_or_never().is_none());
    }

    #[test]
    fn last_words_name_what_is_left_and_the_next_command() {
        let writes = Writes::default();
        writes.allow();
        writes.if_interrupted_next(Refusal::new("tag x is split", ""), "kubectl mesh-tag set x".to_owned());
        assert_eq!(writes.last_words(), ["interrupted: nothing was changed"]);
        begun(&writes, "changing a").done();
        drop(begun(&writes, "changing b"));
        let told = ["interrupted: tag x is split", "  not known whether done: changing b", "Next: kubectl mesh-tag set x"];
        assert_eq!(writes.last_words(), told);
    }

    #[test]
    fn a_piece_of_work_is_finished_after_the_end() {
        let writes = Writes::default();
        writes.allow();
        assert!(!writes.end());
        let writes = Writes::default();
        writes.allow();
        let piece = writes.piece();
        writes.end();
        begun(&writes, "changing a").done();
        assert!(writes.are_settled().now_or_never().is_none());
        drop(piece);
        assert!(writes.are_settled().now_or_never().is_some());
        assert!(writes.begin("changing b").now_or_never().is_none());
    }

    #[test]
    fn what_becomes_of_each_change_is_known_or_said_to_be_unknown() {
        let writes = Writes::default();
        writes.allow();
        begun(&writes, "changing a").undone();
        assert!(!writes.is_something_changed());
        drop(begun(&writes, "changing a"));
        assert_eq!(writes.lines(), ["not known whether done: changing a"]);
        writes.settle("changing a", false);
        begun(&writes, "changing a").done();
        begun(&writes, "changing b").done();
        assert_eq!(writes.lines(), ["done: changing a", "done: changing b"]);
        writes.put_back_since(1);
        assert_eq!(writes.lines(), ["done: changing a"]);
        writes.put_back_since(0);
        assert!(!writes.is_something_changed());
    }

    #[test]
    fn a_later_try_that_fails_makes_nothing_of_an_earlier_one_undone() {
        let writes = Writes::default();
        writes.allow();
        begun(&writes, "changing a").done();
        begun(&writes, "changing a").undone();
        assert_eq!(writes.lines(), ["done: changing a"]);
        drop(begun(&writes, "changing b"));
        begun(&writes, "changing b").undone();
        assert_eq!(writes.lines(), ["done: changing a", "not known whether done: changing b"]);
        begun(&writes, "changing b").done();
        assert_eq!(writes.lines(), ["done: changing a", "done: changing b"]);
    }

    #[test]
    fn an_interrupted_command_says_what_is_left_and_what_is_not_known() {
        let writes = Writes::default();
        writes.allow();
        writes.if_interrupted(Refusal::new("0 of 2 were written", "again").with(vec!["not yet: a".to_owned()]));
        assert_eq!(writes.unfinished(), Refusal::new("nothing was changed", ""));
        drop(begun(&writes, "changing a"));
        let said = writes.unfinished();
        assert_eq!(said.reason, "0 of 2 were written");
        assert_eq!(said.details, ["not yet: a", "not known whether done: changing a"]);
    }
}
