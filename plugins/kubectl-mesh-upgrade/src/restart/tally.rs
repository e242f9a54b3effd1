//! What became of the workloads, and how a command that restarts them ends.

use mesh::advice::Advice;
use mesh::refusal::Refusal;
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use owo_colors::OwoColorize;

/// What became of the workloads so far. Each is named as kubectl names it, with its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub total: usize,
    /// How many run what is wanted.
    pub done: usize,
    /// Those that were left alone, each with the reason.
    pub skipped: Vec<String>,
    /// Those that failed. Why was said when it happened.
    pub failed: Vec<String>,
    /// Those of which no dry run could show what a restart brings, each with the reason.
    pub unproved: Vec<String>,
    /// Those that were interrupted on their way, each with how far they have come.
    pub half: Vec<String>,
}

impl Tally {
    /// What an interrupted command says: what was done, and what is left.
    pub fn interrupted(&self) -> Refusal {
        let Tally { total, done, skipped, failed, unproved, half } = self;
        let ended = done + skipped.len() + failed.len() + unproved.len() + half.len();
        let counts = [
            (*done, "done"),
            (half.len(), "half done"),
            (failed.len(), "failed"),
            (unproved.len(), "not proved"),
            (skipped.len(), "left alone"),
            (total.saturating_sub(ended), "not started"),
        ];
        let said = counts.iter().filter(|(count, what)| *count > 0 || *what == "done" || *what == "not started");
        let said: Vec<String> = said.map(|(count, what)| format!("{count} {what}")).collect();
        let advice = "the same command continues; what runs already is not restarted again";
        Refusal::new(said.join(", "), advice).with(self.half.clone())
    }

    /// Ends a command that was not interrupted.
    ///
    /// # Errors
    /// [`Stop::Partly`] when something failed; [`Stop::Refused`] when nothing did, and something could not be proved.
    pub fn conclude(self, terminal: &mut Terminal) -> Result<Exit, Stop> {
        for skipped in &self.skipped {
            writeln!(terminal.err, "left alone: {skipped}")?;
        }
        let Tally { total, done, skipped, failed, unproved, .. } = self;
        if failed.is_empty() && unproved.is_empty() {
            let style = terminal.err_styles.current;
            let what = plural(done as u64, "workload runs", "workloads run");
            writeln!(terminal.err, "{} what is wanted.", what.style(style))?;
            return Ok(Exit::Done);
        }
        let left = total.saturating_sub(done + skipped.len() + failed.len() + unproved.len());
        let not_proved = if unproved.is_empty() { String::new() } else { format!("{} not proved, ", unproved.len()) };
        let reason = format!("{} failed, {not_proved}{done} restarted, {left} left untouched", failed.len());
        let more = if unproved.is_empty() {
            Advice::say("fix what failed; the same command continues")
        } else {
            let what = if failed.is_empty() { "" } else { "fix what failed, and " };
            Advice::say(format!(
                "{what}raise the quota or make room in it; the same command continues, and with --skip-unproved it goes on without these"
            ))
        };
        let refusal = Refusal::new(reason, more).with([unproved, failed.clone()].concat());
        Err(if failed.is_empty() { Stop::Refused(refusal) } else { Stop::Partly(refusal) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("deployment.apps/{number} -n shop")).collect()
    }

    #[test]
    fn an_interruption_counts_what_is_done_half_done_and_not_started() {
        let tally = Tally { total: 12, done: 2, half: names(1), ..Tally::default() };
        assert_eq!(tally.interrupted().reason, "2 done, 1 half done, 9 not started");
        assert_eq!(tally.interrupted().details, names(1));
        let tally = Tally { total: 5, done: 1, failed: names(1), skipped: names(2), ..Tally::default() };
        assert_eq!(tally.interrupted().reason, "1 done, 1 failed, 2 left alone, 1 not started");
        assert_eq!(Tally { total: 3, ..Tally::default() }.interrupted().reason, "0 done, 3 not started");
    }

    #[test]
    fn what_failed_is_partly_done_and_what_is_only_unproved_is_refused() {
        let (mut terminal, ..) = Terminal::for_test();
        let mut end = |tally: Tally| tally.conclude(&mut terminal);
        assert!(matches!(end(Tally { total: 1, done: 1, ..Tally::default() }), Ok(Exit::Done)));
        let failed = end(Tally { total: 3, done: 1, failed: names(1), ..Tally::default() });
        assert!(matches!(failed, Err(Stop::Partly(why)) if why.reason == "1 failed, 1 restarted, 1 left untouched"));
        let unproved = end(Tally { total: 3, done: 1, unproved: names(1), ..Tally::default() });
        assert!(
            matches!(unproved, Err(Stop::Refused(why)) if why.reason == "0 failed, 1 not proved, 1 restarted, 1 left untouched")
        );
    }
}
