//! The one way to wait: for a server that is busy or away, for a thing that comes to be, and for what an API server learns a moment
//! later than etcd.
//!
//! A request that fails for a passing reason is sent again within [`BUDGET`], as soon as the server allows it (`Retry-After`).
//! What may be sent again is said by its [`Repetition`]: a write whose fate is unknown is never simply repeated.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::failure::{Cause, Failure};
use crate::advice::Advice;

/// How long a request waits for a server that is busy or away, counted from its first failure. An API server that is restarted
/// or moved to another machine is back within it.
pub const BUDGET: Duration = Duration::from_secs(120);

/// How long a single pause may be, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pauses before the first further tries where the server asks for none; later ones are as long as [`PAUSE`].
const FIRST_PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(700), Duration::from_millis(2500)];

/// The pause before each later try.
const PAUSE: Duration = Duration::from_secs(10);

/// So often is asked again where the same answer again is likely: nothing came in time, a list broke off, or the server reports an
/// error of its own.
const FEW: usize = 2;

/// A wait that is shorter is not worth a word.
const ANNOUNCED: Duration = Duration::from_secs(1);

/// Whether a request may be sent again without a look at what has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repetition {
    /// It changes nothing, or the same once more: a read, a dry run, an apply, an eviction of one uid.
    Harmless,
    /// Only where the server says that it has not begun with it (429).
    WhereNothingWasDone,
}

/// What a connection knows about waiting. Clones share it.
#[derive(Clone, Default)]
pub struct Waiting {
    /// Whether the server has given any useful answer yet. One that never has may be the wrong address: nobody waits long for it.
    has_answered: Arc<AtomicBool>,
    announced: Arc<Mutex<Option<Instant>>>,
    announce: Option<Arc<Announce>>,
    /// When waiting ends for all requests together, where they have one budget.
    until: Option<Instant>,
}

/// Takes one line for the user.
type Announce = dyn Fn(&str) + Send + Sync;

impl fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Waiting").field("has_answered", &self.has_answered).finish_non_exhaustive()
    }
}

impl Waiting {
    /// Announces each long wait in one line.
    pub fn announcing(self, announce: impl Fn(&str) + Send + Sync + 'static) -> Waiting {
        Waiting { announce: Some(Arc::new(announce)), ..self }
    }

    /// All requests together wait no longer than one would.
    #[must_use]
    pub fn for_one_budget(&self) -> Waiting {
        Waiting { until: Some(Instant::now() + BUDGET), ..self.clone() }
    }

    /// What is remembered of a request that fails.
    pub(super) fn trouble(&self) -> Trouble {
        Trouble { until: self.until, since: None, failures: 0, waited: Duration::ZERO }
    }

    /// Notes that the server has given a useful answer.
    pub(super) fn note_answer(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }

    /// Calls until it succeeds, or fails for good, or the budget is used up.
    ///
    /// # Errors
    /// The last failure.
    pub(super) async fn patiently<T, F>(&self, repetition: Repetition, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut trouble = self.trouble();
        loop {
            let failure = match call().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match trouble.next(&failure, repetition, self.has_answered.load(Ordering::Relaxed), Instant::now()) {
                Some(pause) => {
                    self.say(&failure, pause);
                    tokio::time::sleep(pause).await;
                }
                None => return Err(trouble.told(failure)),
            }
        }
    }

    /// Announces a wait, once for each time of trouble.
    pub(super) fn say(&self, failure: &Failure, pause: Duration) {
        let Some(announce) = self.announce.as_ref().filter(|_| pause >= ANNOUNCED) else { return };
        let mut announced = self.announced.lock().expect("nothing panics while it holds this lock");
        if announced.is_none_or(|at| at.elapsed() > BUDGET) {
            *announced = Some(Instant::now());
            announce(&announcement(failure));
        }
    }
}

/// One line about why a command waits, and how long at most.
fn announcement(failure: &Failure) -> String {
    let budget = BUDGET.as_secs();
    match (&failure.cause, failure.retry_after) {
        (Cause::Server(code, _), Some(_)) => {
            format!("{}: the server asks to wait ({code}): waiting up to {budget} s", failure.what)
        }
        _ => format!("{failure}: trying again for up to {budget} s"),
    }
}

/// A request that has failed, and may succeed yet.
#[derive(Debug)]
pub(super) struct Trouble {
    /// When it is given up at the latest.
    until: Option<Instant>,
    /// When it failed first.
    since: Option<Instant>,
    /// How often it has failed.
    failures: usize,
    /// How long was waited for it altogether.
    waited: Duration,
}

impl Trouble {
    /// How long to wait before the next try; `None` when it is given up.
    pub(super) fn next(
        &mut self,
        failure: &Failure,
        repetition: Repetition,
        has_answered: bool,
        now: Instant,
    ) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let tries = self.failures;
        self.failures += 1;
        let limit = match repetition {
            Repetition::Harmless => hope(failure, has_answered),
            Repetition::WhereNothingWasDone if was_turned_away(&failure.cause) => hope(failure, has_answered),
            Repetition::WhereNothingWasDone => Hope::None,
        };
        let is_over = match limit {
            Hope::None => true,
            Hope::Few(number) => tries >= number,
            Hope::Within(_) => false,
        };
        if is_over {
            return None;
        }
        let own = FIRST_PAUSES.get(tries).copied().unwrap_or(PAUSE);
        let pause = match failure.retry_after {
            // A server that says 0 again and again is not asked without pause.
            Some(asked) if asked.is_zero() => own,
            Some(asked) => asked.min(LONGEST_PAUSE),
            None => own,
        };
        let deadline = self.until.map_or(since + BUDGET, |until| until.min(since + BUDGET));
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return None;
        }
        let pause = pause.min(left);
        self.waited += pause;
        Some(pause)
    }

    /// The failure, with how long it was waited for.
    pub(super) fn told(&self, failure: Failure) -> Failure {
        if self.waited < ANNOUNCED || !failure.hint.is_empty() {
            return failure;
        }
        let hint = format!("it was tried {} times in {} s; try again later", self.failures, self.waited.as_secs());
        Failure { hint: Advice::say(hint), ..failure }
    }
}

/// How far another try is worth its while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hope {
    None,
    /// So many more tries.
    Few(usize),
    /// As many as fit into the budget.
    Within(Duration),
}

/// Whether the server says that it has not begun with a request: it has too many (429, by itself or by priority and fairness).
fn was_turned_away(cause: &Cause) -> bool {
    matches!(cause, Cause::Server(429, _))
}

fn hope(failure: &Failure, has_answered: bool) -> Hope {
    let whole = Hope::Within(BUDGET);
    match &failure.cause {
        Cause::Server(code, _) if failure.retry_after.is_some() && matches!(code, 429 | 500..=599) => whole,
        // A webhook that fails is no trouble of the server's, and seldom passes.
        Cause::Webhook(_) => Hope::None,
        Cause::Server(500, _) => Hope::Few(FEW),
        Cause::Server(429 | 502 | 503 | 504, _) if has_answered => whole,
        Cause::Server(429 | 502 | 503 | 504, _) => Hope::Few(FIRST_PAUSES.len()),
        Cause::Unreachable(_) | Cause::Closed(_) if has_answered => whole,
        Cause::Closed(_) => Hope::Few(FIRST_PAUSES.len()),
        Cause::Timeout | Cause::Broken if has_answered => Hope::Few(FEW),
        Cause::Broken => Hope::Few(FIRST_PAUSES.len()),
        _ => Hope::None,
    }
}

/// What one look at something shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// It is as it is to be.
    Done(T),
    /// It is not yet: why.
    NotYet(String),
}

/// How waiting for something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited<T> {
    /// It came.
    Done(T),
    /// It did not come in time: what the last look showed.
    TimedOut(String),
}

/// How long to wait for something, and how often to look.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    deadline: Instant,
    pause: Duration,
    /// The first pauses are shorter: what is learnt in a moment is not waited for longer.
    first: Option<Duration>,
}

/// API servers learn of a changed webhook or policy a moment later than etcd: so long it may take.
const LEARNING: Duration = Duration::from_secs(7);

impl Patience {
    /// Until a moment, with a look every `pause`.
    pub fn until(deadline: Instant, pause: Duration) -> Patience {
        Patience { deadline, pause, first: None }
    }

    /// For what API servers learn a moment after it was written: looks at once and often, and gives up soon.
    pub fn learning() -> Patience {
        Patience { deadline: Instant::now() + LEARNING, pause: Duration::from_secs(2), first: Some(Duration::from_millis(50)) }
    }

    /// Looks until it is done or the time is over; the last look is never earlier than the deadline. A look that fails for a
    /// passing reason is one that shows nothing yet.
    ///
    /// # Errors
    /// The first other failure of a look.
    pub async fn wait<T, F>(self, look: impl Fn() -> F) -> Result<Waited<T>, Failure>
    where
        F: Future<Output = Result<Look<T>, Failure>>,
    {
        let mut pause = self.first.unwrap_or(self.pause);
        loop {
            let is_last = Instant::now() >= self.deadline;
            let why = match look().await {
                Ok(Look::Done(found)) => return Ok(Waited::Done(found)),
                Ok(Look::NotYet(why)) => why,
                Err(failure) if failure.cause.is_passing() && !is_last => failure.to_string(),
                Err(failure) => return Err(failure),
            };
            if is_last {
                return Ok(Waited::TimedOut(why));
            }
            tokio::time::sleep(pause.min(self.deadline.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 3).min(self.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(cause: Cause, retry_after: Option<u64>) -> Failure {
        let mut failure = Failure::new("listing pods", cause);
        failure.retry_after = retry_after.map(Duration::from_secs);
        failure
    }

    fn busy(code: u16, retry_after: Option<u64>) -> Failure {
        failure(Cause::Server(code, "busy".to_owned()), retry_after)
    }

    /// The pauses until it is given up, when every try fails so at once.
    fn pauses(failure: &Failure, repetition: Repetition, has_answered: bool) -> Vec<Duration> {
        let mut trouble = Waiting::default().trouble();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        while let Some(pause) = trouble.next(failure, repetition, has_answered, now) {
            pauses.push(pause);
            now += pause;
            assert!(pauses.len() < 1000, "it never ends");
        }
        pauses
    }

    fn total(failure: &Failure, repetition: Repetition, has_answered: bool) -> u64 {
        pauses(failure, repetition, has_answered).iter().sum::<Duration>().as_secs()
    }

    #[test]
    fn a_busy_server_is_waited_for_within_the_budget() {
        for code in [429, 502, 503, 504] {
            assert_eq!(total(&busy(code, None), Repetition::Harmless, true), BUDGET.as_secs(), "{code}");
            assert_eq!(total(&busy(code, Some(1)), Repetition::Harmless, false), BUDGET.as_secs(), "{code}");
        }
        assert_eq!(total(&failure(Cause::Unreachable("refused".to_owned()), None), Repetition::Harmless, true), 120);
        // A server that never answered may be the wrong address.
        assert_eq!(pauses(&busy(503, None), Repetition::Harmless, false).len(), 3);
        assert_eq!(total(&failure(Cause::Unreachable("refused".to_owned()), None), Repetition::Harmless, false), 0);
        // What closes every connection is a server that goes away, or none at all.
        let closed = failure(Cause::Closed("reset".to_owned()), None);
        assert_eq!(total(&closed, Repetition::Harmless, true), BUDGET.as_secs());
        assert_eq!(pauses(&closed, Repetition::Harmless, false).len(), 3);
    }

    #[test]
    fn what_the_server_asks_for_is_kept_to_and_bounded() {
        assert_eq!(pauses(&busy(429, Some(7)), Repetition::Harmless, true)[..2], [Duration::from_secs(7); 2]);
        assert_eq!(pauses(&busy(429, Some(u64::MAX)), Repetition::Harmless, true), [Duration::from_secs(30); 4]);
        // A server that asks for no pause at all gets one all the same.
        assert!(pauses(&busy(429, Some(0)), Repetition::Harmless, true).len() < 20);
    }

    #[test]
    fn a_write_is_sent_again_only_where_the_server_has_not_begun_with_it() {
        let write = Repetition::WhereNothingWasDone;
        assert_eq!(total(&busy(429, Some(1)), write, true), BUDGET.as_secs());
        for other in [busy(503, Some(1)), busy(500, None), busy(504, None), failure(Cause::Timeout, None)] {
            assert!(pauses(&other, write, true).is_empty(), "{other}");
        }
    }

    #[test]
    fn what_does_not_pass_is_not_waited_for() {
        let budget = failure(Cause::DisruptionBudget("no".to_owned()), Some(10));
        let webhook = failure(Cause::Webhook("failed calling webhook \"x\"".to_owned()), None);
        for failure in [failure(Cause::Forbidden, None), failure(Cause::NotFound, None), budget, webhook] {
            assert!(pauses(&failure, Repetition::Harmless, true).is_empty(), "{failure}");
        }
        // The same error again is likely.
        assert_eq!(pauses(&busy(500, None), Repetition::Harmless, true).len(), FEW);
        assert_eq!(pauses(&failure(Cause::Timeout, None), Repetition::Harmless, true).len(), FEW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_announced_once() {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let record = Arc::clone(&said);
        let waiting = Waiting::default().announcing(move |line| record.lock().unwrap().push(line.to_owned()));
        let left = Mutex::new(5);
        let call = || async {
            let mut left = left.lock().unwrap();
            *left -= 1;
            if *left == 0 { Ok(()) } else { Err(busy(429, Some(1))) }
        };
        let begun = Instant::now();
        waiting.patiently(Repetition::Harmless, call).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 4);
        assert_eq!(*said.lock().unwrap(), ["listing pods: the server asks to wait (429): waiting up to 120 s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_share_a_budget_wait_no_longer_than_one() {
        let waiting = Waiting::default().for_one_budget();
        let begun = Instant::now();
        for _ in 0..3 {
            let call = || async { Err::<(), Failure>(busy(503, Some(5))) };
            assert_eq!(waiting.patiently(Repetition::Harmless, call).await.unwrap_err().cause, busy(503, None).cause);
        }
        assert_eq!(begun.elapsed(), BUDGET);
    }

    #[tokio::test(start_paused = true)]
    async fn looking_ends_with_the_deadline_and_says_what_was_seen_last() {
        let patience = Patience::until(Instant::now() + Duration::from_secs(5), Duration::from_secs(2));
        let looks = Mutex::new(0);
        let look = || async {
            *looks.lock().unwrap() += 1;
            Ok::<Look<()>, Failure>(Look::NotYet("no endpoint".to_owned()))
        };
        assert_eq!(patience.wait(look).await.unwrap(), Waited::TimedOut("no endpoint".to_owned()));
        assert_eq!(*looks.lock().unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_in_passing_is_no_end() {
        let looks = Mutex::new(0);
        let look = || async {
            let mut looks = looks.lock().unwrap();
            *looks += 1;
            if *looks < 3 { Err(busy(503, None)) } else { Ok(Look::Done(*looks)) }
        };
        assert_eq!(Patience::learning().wait(look).await.unwrap(), Waited::Done(3));
        let denied = || async { Err::<Look<()>, Failure>(failure(Cause::Forbidden, None)) };
        assert_eq!(Patience::learning().wait(denied).await.unwrap_err().cause, Cause::Forbidden);
    }
}
