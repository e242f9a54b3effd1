//! One of the two streams of a command. Where the command writes to a cluster, what becomes of its output never decides what
//! becomes of its work: an error is remembered here, and told at the end.

use std::fmt;
use std::io::{self, Write};

/// A stream.
pub struct Stream {
    inner: Box<dyn Write>,
    errors: Errors,
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
        Stream { inner, errors: Errors::Returned }
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

    /// What `write!` and `writeln!` call, wherever a stream is at hand.
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
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(bytes.len(), |inner| inner.write(bytes))
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
