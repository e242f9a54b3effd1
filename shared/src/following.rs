//! `-w`: showing something again whenever what it depends on has changed, and saying so when nobody knows whether it has.

use std::time::{Duration, Instant};

use futures::future::select_all;
use owo_colors::OwoColorize;

use crate::cluster::Scope;
use crate::cluster::connection::Connection;
use crate::cluster::watch::{self, Moment, Woken};
use crate::session::Session;
use crate::terminal::exit::Exit;
use crate::terminal::stop::Stop;

/// The shortest time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// How long until the next look after one that failed. The look itself has waited for the server already.
const AFTER_A_FAILURE: Duration = Duration::from_secs(5);

/// Which look it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Nothing has been shown yet.
    First,
    /// Something has changed.
    Again,
    /// Something was said on stderr meanwhile.
    AfterTrouble,
}

/// A place that is watched.
pub struct Followed<'a> {
    /// The cluster.
    pub connection: &'a Connection,
    /// What of it.
    pub scope: &'a Scope,
}

/// Calls `show` now, and again after each change, for ever. A connection that is lost, and a look that fails for a reason that passes
/// once something was shown, are said; then it looks again.
///
/// # Errors
/// Whatever `show` gives, but for that.
pub async fn follow(
    session: &mut Session,
    places: &[Followed<'_>],
    mut show: impl AsyncFnMut(&mut Session, Round) -> Result<(), Stop>,
) -> Result<Exit, Stop> {
    let mut round = Round::First;
    loop {
        let started = Instant::now();
        let woken = match look(session, places, round, &mut show).await {
            Ok(moments) => {
                round = Round::Again;
                // A large cluster changes all the time: reading it takes at most a fifth of the time.
                tokio::time::sleep(PAUSE.max(started.elapsed() * 4)).await;
                changed(places, &moments).await?
            }
            Err(Stop::Failure(failure)) if round != Round::First && failure.cause.is_passing() => {
                Woken::Lost(failure.to_string())
            }
            Err(stop) => return Err(stop),
        };
        if let Woken::Lost(why) = woken {
            say_lost(session, &why)?;
            if started.elapsed() < AFTER_A_FAILURE {
                tokio::time::sleep(AFTER_A_FAILURE).await;
            }
            round = Round::AfterTrouble;
        }
    }
}

/// One look, and the moments before it: what changes while it lasts is seen afterwards.
async fn look(
    session: &mut Session,
    places: &[Followed<'_>],
    round: Round,
    show: &mut impl AsyncFnMut(&mut Session, Round) -> Result<(), Stop>,
) -> Result<Vec<Moment>, Stop> {
    let mut moments = Vec::new();
    for place in places {
        match watch::now(place.connection, place.scope).await {
            Ok(moment) => moments.push(moment),
            // Of several, `show` says which is not there; the others are followed all the same.
            Err(failure) if places.len() > 1 && failure.cause.is_passing() => moments.push(Moment::default()),
            Err(failure) => return Err(failure.into()),
        }
    }
    show(session, round).await?;
    session.terminal.flush()?;
    Ok(moments)
}

async fn changed(places: &[Followed<'_>], moments: &[Moment]) -> Result<Woken, Stop> {
    let changes = places.iter().zip(moments);
    let changes = changes.map(|(place, moment)| Box::pin(watch::changed(place.connection, place.scope, moment)));
    let (result, ..) = select_all(changes).await;
    Ok(result?)
}

fn say_lost(session: &mut Session, why: &str) -> Result<(), Stop> {
    let style = session.terminal.err_styles.warning;
    writeln!(session.terminal.err, "{} {why}; what was shown may have changed: looking again", "note:".style(style))?;
    Ok(())
}
