//! Tables in kubectl's shape: upper-case header, three blanks between columns, nothing behind the last.

use std::io::{self, Write};

use tabwriter::TabWriter;

use super::shown::{self, style_length};

/// Whether a table begins with its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It does, if there is any row.
    Shown,
    /// It does not.
    Hidden,
}

/// A table in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no row.
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>) -> Table {
        Table { columns: columns.into_iter().map(str::to_uppercase).collect(), rows: Vec::new() }
    }

    /// Adds a row, with as many cells as there are columns. Cells may be styled.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The rows, for telling what has changed between two tables.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Keeps only some rows.
    pub fn retain(&mut self, keep: impl FnMut(&Vec<String>) -> bool) {
        self.rows.retain(keep);
    }

    /// Writes it. A table without rows writes nothing.
    ///
    /// `k8s.io/cli-runtime/pkg/printers` sets its tabwriter to a least width of 6 including 3 of padding; the crate adds
    /// the padding to the width, so 3 and 3 give the same.
    pub fn write(&self, header: Header, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut writer = TabWriter::new(Vec::new()).minwidth(3).padding(3).ansi(true);
        if header == Header::Shown {
            writeln!(writer, "{}", self.columns.join("\t"))?;
        }
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| safe(cell)).collect();
            writeln!(writer, "{}", cells.join("\t"))?;
        }
        let text = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
        // An empty last cell would leave the padding of the one before it, which kubectl does and scripts stumble over.
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            writeln!(out, "{}", String::from_utf8_lossy(line).trim_end())?;
        }
        Ok(())
    }
}

/// A cell that can do nothing to a terminal: kubectl cuts at a line break and shows an escape as `^[`
/// (k8s.io/cli-runtime/pkg/printers/terminal.go); the other control characters are shown in the same way. Only our own
/// styles are let through, and those that a cell leaves open are ended with it.
fn safe(cell: &str) -> String {
    let line = match cell.find(['\n', '\r', '\x0c']) {
        Some(end) => format!("{}...", &cell[..end]),
        None => cell.to_owned(),
    };
    let mut safe = String::with_capacity(line.len());
    let mut is_styled = false;
    let mut rest = line.as_str();
    while let Some(character) = rest.chars().next() {
        let style = style_length(rest);
        if style > 0 {
            safe.push_str(&rest[..style]);
            is_styled = &rest[..style] != RESET;
            rest = &rest[style..];
        } else {
            push_visible(&mut safe, character);
            rest = &rest[character.len_utf8()..];
        }
    }
    if is_styled {
        safe.push_str(RESET);
    }
    safe
}

/// Ends every style.
const RESET: &str = "\x1b[0m";

/// Adds a character; of the second set of control characters only that one stood there.
fn push_visible(text: &mut String, character: char) {
    match character {
        '\x7f'..='\u{9f}' => text.push('\u{fffd}'),
        character => shown::push_visible(text, character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &Table, header: Header) -> String {
        let mut text = Vec::new();
        table.write(header, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn columns_are_laid_out_as_kubectl_lays_them_out() {
        let mut table = Table::new(["Name", "A", "Last"]);
        table.row(vec!["web".into(), "1".into(), "x".into()]);
        table.row(vec!["a-long-name".into(), "22".into(), "yy".into()]);
        // The output of Go's tabwriter with kubectl's settings. A column is never narrower than 6.
        assert_eq!(written(&table, Header::Shown), "NAME          A     LAST\nweb           1     x\na-long-name   22    yy\n");
        assert_eq!(written(&table, Header::Hidden), "web           1     x\na-long-name   22    yy\n");
    }

    #[test]
    fn no_rows_mean_no_header() {
        assert_eq!(written(&Table::new(["Name"]), Header::Shown), "");
    }

    #[test]
    fn styles_take_no_width_and_other_escapes_do_nothing() {
        let mut table = Table::new(["A", "B"]);
        table.row(vec!["\x1b[31mred\x1b[0m".into(), "b".into()]);
        table.row(vec!["\x1b]0;title".into(), "b\nc".into()]);
        assert_eq!(written(&table, Header::Hidden), "\x1b[31mred\x1b[0m          b\n^[]0;title   b...\n");
    }

    #[test]
    fn a_cell_can_do_nothing_to_a_terminal() {
        let check = |cell: &str, expected: &str| assert_eq!(safe(cell), expected);
        check("a\tb\x08\x07\x0bc\x7f", "a b^H^G^Kc\u{fffd}");
        check("\u{9b}2J", "\u{fffd}2J");
        // Concealed text, and a move of the cursor.
        check("\x1b[8mgone\x1b[1;1Hhome", "^[[8mgone^[[1;1Hhome");
        check("\x1b[1;31mopen", "\x1b[1;31mopen\x1b[0m");
        check("\x1b", "^[");
        check("\x1b[", "^[[");
    }

    #[test]
    fn every_style_of_ours_passes_whole() {
        use owo_colors::OwoColorize;
        let styles = super::super::styles::Styles::new(super::super::styles::Coloring::Colored);
        for style in styles.all() {
            let styled = "x".style(style).to_string();
            assert!(styled.len() > 1 && safe(&styled) == styled, "{styled:?}");
        }
    }

    #[test]
    fn an_empty_last_cell_leaves_no_blanks() {
        let mut table = Table::new(["A", "B"]);
        table.row(vec!["x".into(), String::new()]);
        table.row(vec!["y".into(), "z".into()]);
        assert_eq!(written(&table, Header::Hidden), "x\ny     z\n");
    }
}
