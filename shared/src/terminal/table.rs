//! Tables in kubectl's shape: upper-case header, three blanks between columns, nothing behind the last.

use std::io::{self, Write};

use tabwriter::TabWriter;

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
        out.write_all(&text)
    }
}

/// A cell that can do nothing to a terminal: kubectl cuts at a line break and shows an escape as `^[`
/// (k8s.io/cli-runtime/pkg/printers/terminal.go). Our own styles, which end where they begin, are let through.
fn safe(cell: &str) -> String {
    let line = match cell.find(['\n', '\r', '\x0c']) {
        Some(end) => format!("{}...", &cell[..end]),
        None => cell.to_owned(),
    };
    let mut safe = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(position) = rest.find('\x1b') {
        safe.push_str(&rest[..position]);
        rest = &rest[position..];
        let style = style_length(rest);
        if style > 0 {
            safe.push_str(&rest[..style]);
            rest = &rest[style..];
        } else {
            safe.push_str("^[");
            rest = &rest[1..];
        }
    }
    safe.push_str(rest);
    safe.replace('\t', " ")
}

/// Length of a colour sequence (`ESC [ digits and ; m`) at the beginning of a text; 0 when there is none.
fn style_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else { return 0 };
    match parameters.find(|character: char| !character.is_ascii_digit() && character != ';') {
        Some(end) if parameters[end..].starts_with('m') => 2 + end + 1,
        _ => 0,
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
        assert_eq!(written(&table, Header::Shown), "NAME          A    LAST\nweb           1    x\na-long-name   22   yy\n");
        assert_eq!(written(&table, Header::Hidden), "web           1    x\na-long-name   22   yy\n");
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
        assert_eq!(written(&table, Header::Hidden), "\x1b[31mred\x1b[0m           b\n^[]0;title    b...\n");
    }
}
