//! How a command ends before its work is done, and what the user is told then.

use std::io;

use owo_colors::OwoColorize;

use super::exit::Exit;
use super::{Audience, Terminal};
use crate::cluster::failure::{Cause, Failure};
use crate::refusal::{Refusal, RefusalCause};
use crate::writes::Writes;

/// What ends a command early.
#[derive(Debug)]
pub enum Stop {
    /// The command line makes no sense.
    Usage(String),
    /// The cluster or a file.
    Failure(Failure),
    /// Anything else that is an error: a sentence.
    Message(String),
    /// It is unsafe, or not known to be safe. Nothing was changed.
    Refused(Refusal),
    /// Some of it was done. The same command continues.
    Partly(Refusal),
    /// The user interrupted it: what was done, and how to go on.
    Interrupted(Refusal),
    /// The output cannot be written.
    Output(io::Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl Stop {
    /// The exit code.
    pub const fn exit(&self) -> Exit {
        match self {
            Stop::Usage(_) => Exit::Usage,
            Stop::Failure(_) | Stop::Message(_) | Stop::Output(_) => Exit::Error,
            Stop::Refused(Refusal { cause: RefusalCause::NotFound, .. }) => Exit::Error,
            Stop::Refused(_) => Exit::Refused,
            Stop::Partly(_) => Exit::Partly,
            Stop::Interrupted(_) => Exit::Interrupted,
        }
    }
}

/// Ends the command that was typed as `command`: flushes what it printed, and says why it ended early if it did, what it has
/// changed by then, and what of that could not be reported.
pub fn end(result: Result<Exit, Stop>, command: &str, writes: &Writes, terminal: &mut Terminal) -> Exit {
    let result = result.and_then(|exit| terminal.flush().map(|()| exit).map_err(Stop::Output));
    let exit = match result {
        Ok(exit) => exit,
        // A reader who has seen enough, as in `… | head`, is no error.
        Err(Stop::Output(problem)) if problem.kind() == io::ErrorKind::BrokenPipe => return Exit::Done,
        Err(stop) => {
            let done = if writes.is_something_changed() { writes.some_lines() } else { Vec::new() };
            let stop = denied(after(stop, &done), writes);
            // What was printed before comes first. When the streams are gone too, the exit code is all that is left.
            let _ = terminal.flush();
            let _ = tell(&stop, &done, command, terminal);
            stop.exit()
        }
    };
    unreported(exit, writes, terminal)
}

/// A stop that is told as what it is: what stops a command half-way is no refusal, since something was changed.
fn after(stop: Stop, done: &[String]) -> Stop {
    match stop {
        Stop::Refused(mut refusal) if !done.is_empty() => {
            let new: Vec<String> = done.iter().filter(|line| !refusal.details.contains(line)).cloned().collect();
            refusal.details.extend(new);
            Stop::Partly(refusal)
        }
        other => other,
    }
}

/// A command that writes, and may not, is refused like any other that changes nothing.
fn denied(stop: Stop, writes: &Writes) -> Stop {
    match stop {
        Stop::Failure(failure) if failure.cause == Cause::Forbidden && writes.are_allowed() && !writes.is_something_changed() => {
            Stop::Refused(Refusal::new(failure.to_string(), failure.hint))
        }
        other => other,
    }
}

/// What was done and could not be reported is reported on whichever stream is left.
fn unreported(exit: Exit, writes: &Writes, terminal: &mut Terminal) -> Exit {
    let Some(problem) = terminal.error().map(|error| (error.kind(), error.to_string())) else { return exit };
    if !writes.is_something_changed() {
        let is_error = problem.0 != io::ErrorKind::BrokenPipe && exit == Exit::Done;
        return if is_error { Exit::Error } else { exit };
    }
    let reason = format!("something was done that could not be reported: {}", problem.1);
    let refusal = Refusal::new(reason, "").with(writes.some_lines());
    let _ = tell(&Stop::Partly(refusal), &[], "", terminal);
    let _ = terminal.flush();
    if exit == Exit::Interrupted { exit } else { Exit::Partly }
}

/// Tells why a command ended. `done` is what it had changed by then, where the stop does not say that itself.
fn tell(stop: &Stop, done: &[String], command: &str, terminal: &mut Terminal) -> io::Result<()> {
    let (error, hint) = (terminal.err_styles.error, terminal.err_styles.hint);
    let is_person = terminal.err_audience == Audience::Person;
    let err = if terminal.err.error().is_some() { &mut terminal.out } else { &mut terminal.err };
    let advisor = &terminal.advisor;
    // On a terminal `^C` stands at the beginning of the line, or how far the command had come.
    if matches!(stop, Stop::Interrupted(_)) && is_person {
        err.redraw_line("")?;
    }
    let mut refusal = |word: &str, refusal: &Refusal| -> io::Result<()> {
        writeln!(err, "{} {}", format_args!("{word}:").style(error), refusal.reason)?;
        for (obstacle, advice) in &refusal.obstacles {
            writeln!(err, "  {obstacle}")?;
            if !advice.is_empty() {
                writeln!(err, "    {}", advisor.text(advice))?;
            }
        }
        for detail in &refusal.details {
            writeln!(err, "  {detail}")?;
        }
        if refusal.advice.is_empty() {
            return Ok(());
        }
        writeln!(err, "{} {}", "Next:".style(hint), advisor.text(&refusal.advice))
    };
    match stop {
        Stop::Refused(why) if why.cause == RefusalCause::NotFound => refusal("error", why),
        Stop::Refused(why) => refusal("refused", why),
        Stop::Partly(why) => refusal("partly done", why),
        Stop::Interrupted(why) => refusal("interrupted", why),
        Stop::Usage(message) => {
            writeln!(err, "{} {message}", "error:".style(error))?;
            writeln!(err, "See '{command} --help' for help and examples.")
        }
        Stop::Failure(failure) => {
            writeln!(err, "{} {failure}", "error:".style(error))?;
            if !failure.hint.is_empty() {
                writeln!(err, "  {}", advisor.text(&failure.hint))?;
            }
            done.iter().try_for_each(|line| writeln!(err, "  {line}"))
        }
        Stop::Message(message) => {
            let mut lines = message.lines();
            writeln!(err, "{} {}", "error:".style(error), lines.next().unwrap_or_default())?;
            // Whatever else it says stands further in than any word of ours.
            lines.try_for_each(|line| writeln!(err, "  {}", line.trim_start()))?;
            done.iter().try_for_each(|line| writeln!(err, "  {line}"))
        }
        Stop::Output(problem) => writeln!(err, "{} writing the output: {problem}", "error:".style(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Command;

    #[test]
    fn a_refusal_names_what_is_in_the_way_and_the_way_out() {
        let (mut terminal, out, err) = Terminal::for_test();
        let refusal = Refusal::new("namespaces follow the tag", Command::mesh_tag("detach").values(["a", "b"]))
            .with(vec!["namespaces/a".to_owned(), "namespaces/b".to_owned()]);
        let exit = end(Err(refusal.into()), "kubectl mesh-tag", &Writes::default(), &mut terminal);
        assert_eq!(exit, Exit::Refused);
        let expected = "refused: namespaces follow the tag\n  namespaces/a\n  namespaces/b\nNext: kubectl mesh-tag detach a b\n";
        assert_eq!((out.text().as_str(), err.text().as_str()), ("", expected));
    }

    #[test]
    fn who_may_not_write_is_refused_and_who_may_not_read_has_an_error() {
        let failed = || Stop::Failure(Failure::new("changing namespaces/shop", Cause::Forbidden));
        let writes = Writes::default();
        let (mut terminal, _, _) = Terminal::for_test();
        assert_eq!(end(Err(failed()), "kubectl mesh-tag", &writes, &mut terminal), Exit::Error);
        writes.allow();
        let (mut terminal, _, err) = Terminal::for_test();
        assert_eq!(end(Err(failed()), "kubectl mesh-tag", &writes, &mut terminal), Exit::Refused);
        assert!(err.text().starts_with("refused: changing namespaces/shop: denied (Forbidden)"), "{}", err.text());
    }

    #[test]
    fn an_interruption_stands_where_the_terminal_shows_the_key() {
        let (mut terminal, _, err) = Terminal::for_test();
        terminal.err_audience = Audience::Person;
        let stop = Stop::Interrupted(Refusal::new("nothing was changed", ""));
        end(Err(stop), "kubectl mesh-tag", &Writes::default(), &mut terminal);
        assert_eq!(err.text(), "\r\x1b[Kinterrupted: nothing was changed\n");
    }

    #[test]
    fn a_reader_who_has_seen_enough_is_no_error() {
        let (mut terminal, _, err) = Terminal::for_test();
        let exit =
            end(Err(io::Error::from(io::ErrorKind::BrokenPipe).into()), "kubectl mesh-tag", &Writes::default(), &mut terminal);
        assert_eq!((exit, err.text().as_str()), (Exit::Done, ""));
    }
}
