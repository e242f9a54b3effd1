//! Lines about a wait, said while it lasts: on stderr, over the progress line where there is one.

use std::io::{self, Write};

use owo_colors::{OwoColorize, Style};

use super::shown::visible;
use super::{Audience, Terminal};

/// Where such lines go, whoever holds the terminal meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Notices {
    audience: Audience,
    style: Style,
}

impl Notices {
    /// To the stderr of this terminal.
    pub fn of(terminal: &Terminal) -> Notices {
        Notices { audience: terminal.err_audience, style: terminal.err_styles.warning }
    }

    /// Writes a line. One that cannot be written is no reason to fail.
    pub fn write(self, line: &str) {
        let over = if self.audience == Audience::Person { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stderr(), "{over}{} {}", "note:".style(self.style), visible(line));
    }
}
