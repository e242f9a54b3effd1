//! Everything that a user sees: where it goes, how it is laid out and coloured, and what the process ends with. Data goes
//! to stdout, everything else to stderr.

pub mod advisor;
pub mod document;
pub mod exit;
pub mod findings;
pub mod flags;
pub mod invocation;
pub mod notice;
pub mod progress;
pub mod question;
pub mod quoting;
pub mod shown;
pub mod stop;
pub mod stream;
pub mod styles;
pub mod table;
pub mod uses;
pub mod words;
pub mod writing;
pub mod xml;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Arc, Mutex};

use self::advisor::Advisor;
use self::flags::CommonArgs;
use self::stream::Stream;
use self::styles::{Environment, Styles, uses_color};

/// Whether a stream ends at a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A terminal.
    Person,
    /// A file or a pipe.
    Program,
}

/// The two streams of a command, and how to write to them.
pub struct Terminal {
    /// Data. Buffered: call [`Terminal::flush`] before waiting for anything.
    pub out: Stream,
    /// Everything else.
    pub err: Stream,
    /// Who reads `out`.
    pub out_audience: Audience,
    /// Who reads `err`.
    pub err_audience: Audience,
    /// Styles for `out`.
    pub out_styles: Styles,
    /// Styles for `err`.
    pub err_styles: Styles,
    /// Words the commands in advice.
    pub advisor: Advisor,
    /// Columns of the terminal that stdout is, `None` when it is none. Tables ignore it, as kubectl's do.
    pub width: Option<u16>,
    /// Rows of the terminal that stdout is, `None` when it is none.
    pub height: Option<u16>,
}

impl Terminal {
    /// The process's own streams. This is where the environment and the terminal are asked, and nowhere else.
    pub fn from_environment(flags: &CommonArgs) -> Terminal {
        let color = flags.color;
        let environment = Environment {
            no_color: std::env::var_os("NO_COLOR").is_some(),
            force_color: std::env::var("CLICOLOR_FORCE").is_ok_and(|value| value != "0"),
            is_dumb: std::env::var("TERM").is_ok_and(|term| term == "dumb"),
        };
        let audience = |is_terminal| if is_terminal { Audience::Person } else { Audience::Program };
        let size = terminal_size::terminal_size();
        let (out_audience, err_audience) = (audience(io::stdout().is_terminal()), audience(io::stderr().is_terminal()));
        let coloring = |audience| uses_color(color, environment, audience);
        let (out, err) = (coloring(out_audience), coloring(err_audience));
        Terminal {
            out: Stream::new(Box::new(BufWriter::with_capacity(64 * 1024, io::stdout()))).styled(out),
            err: Stream::new(Box::new(io::stderr())).styled(err),
            out_audience,
            err_audience,
            out_styles: Styles::new(out),
            err_styles: Styles::new(err),
            advisor: Advisor::new(flags),
            width: size.filter(|_| out_audience == Audience::Person).map(|(width, _)| width.0),
            height: size.filter(|_| out_audience == Audience::Person).map(|(_, height)| height.0),
        }
    }

    /// A terminal without colours for tests, read by a program, and what was written to its `out` and its `err`.
    pub fn for_test() -> (Terminal, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let terminal = Terminal {
            out: Stream::new(Box::new(out.clone())),
            err: Stream::new(Box::new(err.clone())),
            out_audience: Audience::Program,
            err_audience: Audience::Program,
            out_styles: Styles::default(),
            err_styles: Styles::default(),
            advisor: Advisor::default(),
            width: None,
            height: None,
        };
        (terminal, out, err)
    }

    /// From now on an output that fails is remembered, and no reason to stop.
    pub fn endure(&mut self) {
        self.out.endure();
        self.err.endure();
    }

    /// Why something could not be written since [`Terminal::endure`].
    pub fn error(&self) -> Option<&io::Error> {
        self.out.error().or_else(|| self.err.error())
    }

    /// Sends on what was buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What was written to a stream of [`Terminal::for_test`].
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// All of it so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nothing panics while it holds this lock")).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nothing panics while it holds this lock").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_sees_what_was_written() {
        let (mut terminal, out, err) = Terminal::for_test();
        write!(terminal.out, "data").unwrap();
        write!(terminal.err, "rest").unwrap();
        assert_eq!([out.text(), err.text()], ["data", "rest"]);
    }
}
