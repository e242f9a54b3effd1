//! The line below the events that says how far a wave is, on a terminal.

use mesh::terminal::{Audience, Terminal};

/// The line. It is drawn while nothing happens, and taken away before anything else is written.
#[derive(Debug, Default)]
pub struct Live {
    is_drawn: bool,
}

impl Live {
    /// Shows it, in as many columns as there are. A line that cannot be written is no reason to fail.
    pub fn draw(&mut self, text: &str, terminal: &mut Terminal) {
        if terminal.err_audience == Audience::Person && terminal.out_audience == Audience::Person {
            let width = terminal.width.map_or(80, usize::from).saturating_sub(1);
            let text: String = text.chars().take(width).collect();
            let _ = terminal.err.redraw_line(&text);
            let _ = terminal.err.flush();
            self.is_drawn = true;
        }
    }

    /// Takes it away.
    pub fn clear(&mut self, terminal: &mut Terminal) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = terminal.err.redraw_line("");
            let _ = terminal.err.flush();
        }
    }
}
