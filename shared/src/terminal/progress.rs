//! A line that shows how far a long list is, on a terminal, and leaves no trace.

use std::cell::Cell;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::Audience;

/// A command that is done sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// The least time between two drawings.
const PAUSE: Duration = Duration::from_millis(100);
/// So many counts are between two looks at the clock.
const STRIDE: u64 = 256;

/// A count on stderr.
pub struct Progress {
    audience: Audience,
    what: &'static str,
    started: Instant,
    count: Cell<u64>,
    total: Cell<Option<u64>>,
    drawn: Cell<Option<Instant>>,
}

impl Progress {
    /// Begins to count `what`, for example `pods`.
    pub fn start(audience: Audience, what: &'static str) -> Progress {
        Progress { audience, what, started: Instant::now(), count: Cell::new(0), total: Cell::new(None), drawn: Cell::new(None) }
    }

    /// Counts one more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Counts so many more.
    pub fn add(&self, more: u64) {
        let before = self.count.get();
        self.count.set(before + more);
        // The clock is asked once a stride: this is called for every object of a cluster.
        if self.audience == Audience::Person && before / STRIDE != (before + more) / STRIDE {
            self.draw();
        }
    }

    /// Says how many there will be, as far as that is known.
    pub fn total(&self, total: Option<u64>) {
        self.total.set(total);
    }

    /// Begins to count again.
    pub fn restart(&self) {
        self.count.set(0);
        self.total.set(None);
    }

    /// Takes the line away again.
    pub fn clear(&self) {
        if self.drawn.take().is_some() {
            // A progress line that cannot be written is no reason to fail.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn draw(&self) {
        let now = Instant::now();
        if self.is_due(now) {
            self.drawn.set(Some(now));
            let _ = write!(io::stderr(), "\r\x1b[K{}", self.line());
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.drawn.get() {
            Some(drawn) => now - drawn >= PAUSE,
            None => now - self.started >= PATIENCE,
        }
    }

    fn line(&self) -> String {
        match self.total.get() {
            Some(total) => format!("{} of {total} {} …", self.count.get(), self.what),
            None => format!("{} {} …", self.count.get(), self.what),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_many_of_how_many() {
        let progress = Progress::start(Audience::Program, "pods");
        progress.add(1000);
        progress.add_one();
        assert_eq!(progress.line(), "1001 pods …");
        progress.total(Some(5000));
        assert_eq!(progress.line(), "1001 of 5000 pods …");
        progress.restart();
        assert_eq!(progress.line(), "0 pods …");
    }

    #[test]
    fn nothing_is_drawn_soon_or_often_or_for_a_program() {
        let progress = Progress::start(Audience::Person, "pods");
        let after = |milliseconds| progress.started + Duration::from_millis(milliseconds);
        assert_eq!([progress.is_due(after(499)), progress.is_due(after(500))], [false, true]);
        progress.drawn.set(Some(after(500)));
        assert_eq!([progress.is_due(after(599)), progress.is_due(after(600))], [false, true]);
        // What was not drawn need not be taken away.
        progress.drawn.set(None);
        let mut program = Progress::start(Audience::Program, "pods");
        program.started -= PATIENCE;
        program.add(10 * STRIDE);
        assert_eq!(program.drawn.get(), None);
    }
}
