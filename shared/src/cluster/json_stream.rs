//! A stream of JSON objects, Lists taken apart while they are read: only one object is in memory at a time.
//!
//! It finds where objects begin and end and leaves their content to serde_json. It is written for the size of the
//! files (a cluster of 10,000 pods is 230 MB of JSON), which a parser of whole documents would hold in memory.

use std::io::{self, Read};

/// What comes next.
pub(crate) enum Piece<'a> {
    /// One object's text, and the kind of the List that it stands in.
    Object { json: &'a [u8], list_kind: Option<String> },
    /// A List without items.
    EmptyList,
    /// Nothing more.
    End,
}

/// Reads objects one after the other.
pub(crate) struct JsonStream<R> {
    source: R,
    /// What was read and not yet handed on, from `start`.
    buffer: Vec<u8>,
    start: usize,
    is_at_end: bool,
    /// Set while inside `items` of a List: its kind, as far as it stood before.
    list: Option<ListState>,
}

struct ListState {
    kind: Option<String>,
    item_count: usize,
}

const CHUNK: usize = 256 * 1024;

impl<R: Read> JsonStream<R> {
    pub(crate) fn new(source: R) -> JsonStream<R> {
        JsonStream { source, buffer: Vec::new(), start: 0, is_at_end: false, list: None }
    }

    /// The next object.
    ///
    /// # Errors
    /// `UnexpectedEof` when the text ends inside an object, `InvalidData` when it is no JSON.
    pub(crate) fn next(&mut self) -> io::Result<Piece<'_>> {
        loop {
            if self.list.is_some() {
                if let Some(length) = self.next_item()? {
                    let kind = self.list.as_ref().and_then(|list| list.kind.clone());
                    let json = &self.buffer[self.start..self.start + length];
                    self.start += length;
                    return Ok(Piece::Object { json, list_kind: Some(kind.unwrap_or_default()) });
                }
                let was_empty = self.list.take().is_some_and(|list| list.item_count == 0);
                self.skip_to_end_of_list()?;
                if was_empty {
                    return Ok(Piece::EmptyList);
                }
                continue;
            }
            match self.peek()? {
                None => return Ok(Piece::End),
                Some(b'{') => {}
                Some(other) => return Err(invalid(&format!("unexpected {:?} between objects", char::from(other)))),
            }
            match self.object_or_items()? {
                Opening::Items(kind) => self.list = Some(ListState { kind, item_count: 0 }),
                Opening::Object(length) => {
                    let json = &self.buffer[self.start..self.start + length];
                    self.start += length;
                    return Ok(Piece::Object { json, list_kind: None });
                }
            }
        }
    }

    /// Looks at the members of the object that begins here: either all of them are passed, or the member `items` with
    /// an array is found, and the stream then stands behind its bracket.
    fn object_or_items(&mut self) -> io::Result<Opening> {
        let mut position = 1;
        let mut kind = None;
        loop {
            position = self.skip(position, |byte| byte.is_ascii_whitespace() || byte == b',')?;
            match self.at(position)? {
                b'}' => return Ok(Opening::Object(position + 1)),
                b'"' => {}
                other => return Err(invalid(&format!("unexpected {:?} instead of a member's name", char::from(other)))),
            }
            let name_end = self.end_of_value(position)?;
            let name = self.buffer[self.start + position..self.start + name_end].to_vec();
            position = self.skip(name_end, |byte| byte.is_ascii_whitespace() || byte == b':')?;
            if name == b"\"items\"" && self.at(position)? == b'[' {
                self.start += position + 1;
                return Ok(Opening::Items(kind));
            }
            let value_end = self.end_of_value(position)?;
            if name == b"\"kind\"" {
                kind = serde_json::from_slice(&self.buffer[self.start + position..self.start + value_end]).ok();
            }
            position = value_end;
        }
    }

    /// Length of the next item of the List; `None` behind its last.
    fn next_item(&mut self) -> io::Result<Option<usize>> {
        let position = self.skip(0, |byte| byte.is_ascii_whitespace() || byte == b',')?;
        self.start += position;
        if self.at(0)? == b']' {
            self.start += 1;
            return Ok(None);
        }
        let length = self.end_of_value(0)?;
        if let Some(list) = &mut self.list {
            list.item_count += 1;
        }
        Ok(Some(length))
    }

    /// Passes the members that stand behind `items`.
    fn skip_to_end_of_list(&mut self) -> io::Result<()> {
        loop {
            let position = self.skip(0, |byte| byte.is_ascii_whitespace() || byte == b',' || byte == b':')?;
            self.start += position;
            if self.at(0)? == b'}' {
                self.start += 1;
                return Ok(());
            }
            self.start += self.end_of_value(0)?;
        }
    }

    /// The position behind the value that begins at `position`.
    fn end_of_value(&mut self, mut position: usize) -> io::Result<usize> {
        match self.at(position)? {
            b'"' => self.end_of_string(position),
            b'{' | b'[' => {
                let mut depth = 0_usize;
                loop {
                    position = self.skip(position, |byte| !matches!(byte, b'"' | b'{' | b'}' | b'[' | b']'))?;
                    match self.at(position)? {
                        b'"' => {
                            position = self.end_of_string(position)?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        _ => depth -= 1,
                    }
                    position += 1;
                    if depth == 0 {
                        return Ok(position);
                    }
                }
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                self.skip(position, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
            }
            other => Err(invalid(&format!("unexpected {:?}", char::from(other)))),
        }
    }

    fn end_of_string(&mut self, position: usize) -> io::Result<usize> {
        let mut position = position + 1;
        loop {
            position = self.skip(position, |byte| byte != b'"' && byte != b'\\')?;
            if self.at(position)? == b'"' {
                return Ok(position + 1);
            }
            position += 2;
        }
    }

    /// The first position from `position` on whose byte is not to be passed.
    fn skip(&mut self, mut position: usize, pass: impl Fn(u8) -> bool) -> io::Result<usize> {
        loop {
            let available = self.buffer.get(self.start + position..).unwrap_or_default();
            match available.iter().position(|byte| !pass(*byte)) {
                Some(found) => return Ok(position + found),
                None => {
                    position += available.len();
                    if !self.fill()? {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    fn at(&mut self, position: usize) -> io::Result<u8> {
        while self.start + position >= self.buffer.len() {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer[self.start + position])
    }

    /// The next byte that is not white space; `None` at the end of the text.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let available = &self.buffer[self.start..];
            if let Some(blank) = available.iter().position(|byte| !byte.is_ascii_whitespace()) {
                self.start += blank;
                return Ok(Some(self.buffer[self.start]));
            }
            self.start = self.buffer.len();
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads on; `false` at the end of the text.
    fn fill(&mut self) -> io::Result<bool> {
        if self.is_at_end {
            return Ok(false);
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + CHUNK, 0);
        let read = loop {
            match self.source.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.buffer.truncate(length + read);
        self.is_at_end = read == 0;
        Ok(read > 0)
    }
}

enum Opening {
    /// A whole object of this length.
    Object(usize),
    /// A List, of this kind as far as that is known, whose items follow.
    Items(Option<String>),
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its text in pieces of one size.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn pieces(text: &str, size: usize) -> io::Result<Vec<String>> {
        let mut stream = JsonStream::new(Dribble(text.as_bytes(), size));
        let mut pieces = Vec::new();
        loop {
            match stream.next()? {
                Piece::End => return Ok(pieces),
                Piece::EmptyList => pieces.push("empty".to_owned()),
                Piece::Object { json, list_kind } => {
                    let json = String::from_utf8(json.to_vec()).unwrap();
                    pieces.push(list_kind.map_or(json.clone(), |kind| format!("{kind}:{json}")));
                }
            }
        }
    }

    fn check(text: &str, expected: &[&str]) {
        for size in [1, 2, 5, text.len().max(1)] {
            assert_eq!(pieces(text, size).unwrap(), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn lists_are_taken_apart() {
        check(
            r#"{"kind":"List","items":[{"a":"]}\""},{"b":[1,{}]}],"metadata":{}}"#,
            &[r#"List:{"a":"]}\""}"#, r#"List:{"b":[1,{}]}"#],
        );
        check(r#"{"items":[],"kind":"List"}"#, &["empty"]);
        check(r#"{"items":[{"a":1}],"kind":"PodList"}"#, &[r#":{"a":1}"#]);
    }

    #[test]
    fn objects_may_follow_one_another() {
        check("{\"a\":1}\n{\"items\":{}}  {\"items\":null}\n", &["{\"a\":1}", "{\"items\":{}}", "{\"items\":null}"]);
        check("  \n", &[]);
    }

    #[test]
    fn a_text_that_is_cut_anywhere_is_an_error() {
        let text = r#"{"kind":"List","items":[{"a":"b\"c"},{"d":[1,2]}],"metadata":{"e":1}}"#;
        for length in 1..text.len() {
            let error = pieces(&text[..length], 7).expect_err(&text[..length]);
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{}", &text[..length]);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["{\"a\":1} x", "{a:1}", "{\"a\":?}", "[1]"] {
            assert_eq!(pieces(text, 3).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text}");
        }
    }
}
