//! Everything that a user sees: where it goes, how it is laid out and coloured, and what the process ends with. Data goes
//! to stdout, everything else to stderr.

pub mod exit;
pub mod invocation;
pub mod progress;
pub mod styles;
pub mod table;
pub mod words;

use std::io::{self, BufWriter, IsTerminal, Write};

use self::styles::{ColorChoice, Environment, Styles, uses_color};

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
    pub out: Box<dyn Write>,
    /// Everything else.
    pub err: Box<dyn Write>,
    /// Who reads `out`.
    pub out_audience: Audience,
    /// Who reads `err`.
    pub err_audience: Audience,
    /// Styles for `out`.
    pub out_styles: Styles,
    /// Styles for `err`.
    pub err_styles: Styles,
}

impl Terminal {
    /// The process's own streams. This is where the environment and the terminal are asked, and nowhere else.
    pub fn from_environment(color: ColorChoice) -> Terminal {
        let environment = Environment {
            no_color: std::env::var_os("NO_COLOR").is_some(),
            force_color: std::env::var("CLICOLOR_FORCE").is_ok_and(|value| value != "0"),
            is_dumb: std::env::var("TERM").is_ok_and(|term| term == "dumb"),
        };
        let audience = |is_terminal| if is_terminal { Audience::Person } else { Audience::Program };
        let (out_audience, err_audience) = (audience(io::stdout().is_terminal()), audience(io::stderr().is_terminal()));
        Terminal {
            out: Box::new(BufWriter::with_capacity(64 * 1024, io::stdout())),
            err: Box::new(io::stderr()),
            out_audience,
            err_audience,
            out_styles: Styles::new(uses_color(color, environment, out_audience)),
            err_styles: Styles::new(uses_color(color, environment, err_audience)),
        }
    }

    /// Sends on what was buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Makes a closed stdout end the process quietly, as it ends kubectl in `kubectl … | head`: the default action of
/// `SIGPIPE`, which Rust's runtime switches off.
#[cfg(unix)]
#[expect(unsafe_code, reason = "there is no safe way to set a signal's action to its default")]
pub fn end_quietly_on_closed_pipe() {
    // SAFETY: SIG_DFL installs no handler, so nothing can run in the context of the signal; no other thread is there.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Other systems report a closed pipe as an error of the write.
#[cfg(not(unix))]
pub fn end_quietly_on_closed_pipe() {}
