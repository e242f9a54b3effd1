//! One of the two streams of a command. Where the command writes to a cluster, what becomes of its output never decides what
//! becomes of its work: an error is remembered here, and told at the end.
//!
//! All that is written passes [`shown`], so that no text of somebody else does anything to a terminal, nor to a reader: what
//! one `write!` or `writeln!` writes is one line, and a line break in a value is shown.

use std::fmt;
use std::io::{self, Write};

use super::shown;
use super::styles::Coloring;

/// A stream.
pub struct Stream {
    inner: Box<dyn Write>,
    errors: Errors,
    styles: Coloring,
}

/// What becomes of errors.
enum Errors {
    /// They end the command: it is of no use without its output.
    Returned,
    /// They are remembered, and the command goes on.
    Remembered(Option<io::Error>),
}

impl Stream {
    /// A stream whose errors end the command.
    pub fn new(inner: Box<dyn Write>) -> Stream {
        Stream { inner, errors: Errors::Returned, styles: Coloring::Plain }
    }

    /// A stream on which our styles work, where they are coloured.
    #[must_use]
    pub fn styled(self, styles: Coloring) -> Stream {
        Stream { styles, ..self }
    }

    /// From now on errors are remembered, and nothing is written after one.
    pub fn endure(&mut self) {
        if matches!(self.errors, Errors::Returned) {
            self.errors = Errors::Remembered(None);
        }
    }

    /// The first error since [`Stream::endure`].
    pub const fn error(&self) -> Option<&io::Error> {
        match &self.errors {
            Errors::Returned => None,
            Errors::Remembered(error) => error.as_ref(),
        }
    }

    /// What `write!` and `writeln!` call, wherever a stream is at hand: one line.
    ///
    /// # Errors
    /// When it cannot be written; never after [`Stream::endure`].
    pub fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        Write::write_fmt(self, arguments)
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// As [`Stream::write_fmt`].
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    /// Draws: moves the cursor as this text says. Every line in it was shown before: see [`Stream::shown`].
    ///
    /// # Errors
    /// As [`Stream::write_fmt`].
    pub fn draw(&mut self, drawing: &str) -> io::Result<()> {
        self.attempt((), |inner| inner.write_all(drawing.as_bytes()))
    }

    /// Goes to the beginning of the line, and shows this text instead of what stands there.
    ///
    /// # Errors
    /// As [`Stream::write_fmt`].
    pub fn redraw_line(&mut self, text: &str) -> io::Result<()> {
        let shown = self.shown(text);
        self.draw(&format!("\r\x1b[K{shown}"))
    }

    /// A line as this stream would show it.
    pub fn shown(&self, line: &str) -> String {
        shown::stream(&line.replace('\n', "\\n"), self.styles)
    }

    /// Sends on what was buffered.
    ///
    /// # Errors
    /// As [`Stream::write_fmt`].
    pub fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }

    fn attempt<T>(&mut self, otherwise: T, call: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
        match &mut self.errors {
            Errors::Remembered(Some(_)) => Ok(otherwise),
            Errors::Remembered(first) => match call(&mut self.inner) {
                Ok(value) => Ok(value),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
                Err(error) => {
                    *first = Some(error);
                    Ok(otherwise)
                }
            },
            Errors::Returned => call(&mut self.inner),
        }
    }
}

impl Write for Stream {
    /// As [`Stream::write_fmt`], for those to whom the stream is any writer.
    fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        let text = arguments.to_string();
        let (line, end) = text.strip_suffix('\n').map_or((text.as_str(), ""), |line| (line, "\n"));
        let line = if line.contains('\n') { line.replace('\n', "\\n") } else { line.to_owned() };
        Write::write_all(self, format!("{line}{end}").as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
        if is_plain {
            return self.attempt(bytes.len(), |inner| inner.write(bytes));
        }
        let text = shown::stream(&text, self.styles);
        self.attempt(bytes.len(), |inner| inner.write_all(text.as_bytes()).map(|()| bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt((), |inner| inner.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes some bytes, and then no more.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_value_makes_a_line_or_moves_the_cursor() {
        let (mut terminal, out, err) = crate::terminal::Terminal::for_test();
        let name = "web\nNext: kubectl delete ns prod\x1b[2J\u{202e}";
        writeln!(terminal.err, "error: {name}").unwrap();
        writeln!(terminal.out, "{name}").unwrap();
        let shown = "web\\nNext: kubectl delete ns prod^[[2J\\u202e\n";
        assert_eq!([out.text(), err.text()], [shown.to_owned(), format!("error: {shown}")]);
        let writer: &mut dyn Write = &mut terminal.out;
        let title = "\x1b]0;title\x07";
        writeln!(writer, "{title}\n{name}").unwrap();
        assert!(out.text().ends_with(&format!("{shown}^[]0;title^G\\n{shown}")), "{:?}", out.text());
        let before = err.text();
        terminal.err.redraw_line("1 of 2\n\x1b[2J").unwrap();
        assert_eq!(err.text(), before + "\r\x1b[K1 of 2\\n^[[2J");
    }

    #[test]
    fn who_only_reads_ends_with_its_output() {
        let mut stream = Stream::new(Box::new(Full(3)));
        assert!(writeln!(stream, "some words").is_err());
    }

    #[test]
    fn who_writes_goes_on_and_remembers() {
        let mut stream = Stream::new(Box::new(Full(3)));
        stream.endure();
        writeln!(stream, "some words").unwrap();
        writeln!(stream, "more").unwrap();
        stream.flush().unwrap();
        assert_eq!(stream.error().map(io::Error::kind), Some(io::ErrorKind::StorageFull));
    }
}
