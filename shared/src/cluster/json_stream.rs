//! A stream of JSON objects, Lists taken apart while they are read: only one object is in memory at a time.
//!
//! It finds where objects begin and end and leaves their content to serde_json. It is written for the size of the
//! files (a cluster of 10,000 pods is 230 MB of JSON), which a parser of whole documents would hold in memory.

use std::io::{self, Read};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::yaml::LARGEST_OBJECT;

/// What comes next.
pub(crate) enum Piece<'a> {
    /// One object's text.
    Object {
        /// The text.
        json: &'a str,
        /// The kind of the List that it stands in, empty when that stands behind its items; `None` outside of Lists.
        list_kind: Option<String>,
        /// The line on which it begins, counted from 1.
        line: usize,
        /// How many levels of objects and arrays it has.
        levels: usize,
    },
    /// The end of a List.
    EndOfList(ListEnd),
    /// Nothing more.
    End,
}

/// What is known of a List at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListEnd {
    /// Its API version.
    pub(crate) api_version: String,
    /// Its kind.
    pub(crate) kind: String,
    /// How many items it has.
    pub(crate) items: usize,
    /// Whether the server has more of it, which nobody asked for.
    pub(crate) is_partial: bool,
}

/// `metav1.ListMeta`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListMetadata {
    r#continue: Option<String>,
    remaining_item_count: Option<i64>,
}

impl ListMetadata {
    /// Whether the server has more of the list.
    pub(crate) fn is_partial(&self) -> bool {
        self.r#continue.as_ref().is_some_and(|token| !token.is_empty())
            || self.remaining_item_count.is_some_and(|count| count > 0)
    }
}

/// Reads objects one after the other.
pub(crate) struct JsonStream<R> {
    source: R,
    /// What was read and not yet handed on, from `start`.
    buffer: Vec<u8>,
    start: usize,
    is_at_end: bool,
    /// The line of `start`, counted from 1, and how many bytes stand before `buffer`.
    line: usize,
    passed: u64,
    /// Set while inside `items` of a List.
    list: Option<ListEnd>,
    /// How many levels the values have that were passed since an object began.
    levels: usize,
}

const CHUNK: u64 = 256 * 1024;

impl<R: Read> JsonStream<R> {
    pub(crate) fn new(source: R) -> JsonStream<R> {
        JsonStream { source, buffer: Vec::new(), start: 0, is_at_end: false, line: 1, passed: 0, list: None, levels: 0 }
    }

    /// The next object, or the end of the List in which the last one stood.
    ///
    /// # Errors
    /// `UnexpectedEof` when the text ends inside an object, `InvalidData` when it is no JSON; both say where.
    pub(crate) fn next(&mut self) -> io::Result<Piece<'_>> {
        if let Some(mut list) = self.list.take() {
            let Some(length) = self.next_item(list.items)? else {
                self.members_behind_items(&mut list)?;
                return Ok(Piece::EndOfList(list));
            };
            list.items += 1;
            let list_kind = Some(list.kind.clone());
            self.list = Some(list);
            return self.object(length, list_kind);
        }
        match self.peek()? {
            None => return Ok(Piece::End),
            Some(b'{') => {}
            Some(other) => return Err(self.unexpected(0, other, "between objects")),
        }
        match self.object_or_items()? {
            Opening::Object(length) => self.object(length, None),
            Opening::Items(list) => {
                self.list = Some(list);
                self.next()
            }
        }
    }

    fn object(&mut self, length: usize, list_kind: Option<String>) -> io::Result<Piece<'_>> {
        let (line, levels) = (self.line, self.levels);
        if let Err(error) = std::str::from_utf8(&self.buffer[self.start..self.start + length]) {
            let byte = self.buffer[self.start + error.valid_up_to()];
            return Err(self.invalid(error.valid_up_to(), &format!("it is not UTF-8 here (byte 0x{byte:02x})")));
        }
        let begin = self.start;
        self.pass(length);
        let json = std::str::from_utf8(&self.buffer[begin..begin + length]).unwrap_or_default();
        Ok(Piece::Object { json, list_kind, line, levels })
    }

    /// Looks at the members of the object that begins here: either all of them are passed, or the member `items` with
    /// an array is found, and the stream then stands behind its bracket.
    fn object_or_items(&mut self) -> io::Result<Opening> {
        let mut position = 1;
        let mut list = ListEnd::default();
        let mut is_first = true;
        self.levels = 0;
        loop {
            let Some((name, value)) = self.member(position, is_first)? else {
                position = self.skip(position, is_blank)?;
                self.levels += 1;
                return Ok(Opening::Object(position + 1));
            };
            is_first = false;
            if name == b"\"items\"" && self.at(value)? == b'[' {
                self.pass(value + 1);
                return Ok(Opening::Items(list));
            }
            position = self.end_of_value(value)?;
            self.note(&name, value, position, &mut list);
        }
    }

    /// A member's name, in its quotes, and the position of its value; `None` before the closing brace.
    fn member(&mut self, position: usize, is_first: bool) -> io::Result<Option<(Vec<u8>, usize)>> {
        let mut position = self.skip(position, is_blank)?;
        match self.at(position)? {
            b'}' => return Ok(None),
            b',' if !is_first => position = self.skip(position + 1, is_blank)?,
            b'"' if is_first => {}
            other => return Err(self.unexpected(position, other, "instead of a member's name")),
        }
        match self.at(position)? {
            b'"' => {}
            other => return Err(self.unexpected(position, other, "instead of a member's name")),
        }
        let end = self.end_of_string(position)?;
        let name = self.buffer[self.start + position..self.start + end].to_vec();
        position = self.skip(end, is_blank)?;
        match self.at(position)? {
            b':' => Ok(Some((name, self.skip(position + 1, is_blank)?))),
            other => Err(self.unexpected(position, other, "instead of a colon")),
        }
    }

    /// Keeps what a List's member says of it.
    fn note(&self, name: &[u8], value: usize, end: usize, list: &mut ListEnd) {
        let text = &self.buffer[self.start + value..self.start + end];
        match name {
            b"\"apiVersion\"" => list.api_version = serde_json::from_slice(text).unwrap_or_default(),
            b"\"kind\"" => list.kind = serde_json::from_slice(text).unwrap_or_default(),
            b"\"metadata\"" => {
                // What cannot be understood may say that there is more.
                let metadata: Result<Option<ListMetadata>, _> = serde_json::from_slice(text);
                list.is_partial = metadata.map_or(true, |metadata| metadata.is_some_and(|metadata| metadata.is_partial()));
            }
            _ => {}
        }
    }

    /// Length of the next item of the List; `None` behind its last.
    fn next_item(&mut self, items_before: usize) -> io::Result<Option<usize>> {
        let mut position = self.skip(0, is_blank)?;
        match self.at(position)? {
            b']' => {
                self.pass(position + 1);
                return Ok(None);
            }
            b',' if items_before > 0 => position = self.skip(position + 1, is_blank)?,
            _ if items_before == 0 => {}
            other => return Err(self.unexpected(position, other, "instead of a comma between items")),
        }
        self.pass(position);
        self.levels = 0;
        self.end_of_value(0).map(Some)
    }

    /// Passes the members that stand behind `items`.
    fn members_behind_items(&mut self, list: &mut ListEnd) -> io::Result<()> {
        loop {
            let Some((name, value)) = self.member(0, false)? else {
                let end = self.skip(0, is_blank)?;
                self.pass(end + 1);
                return Ok(());
            };
            if name == b"\"items\"" {
                return Err(self.invalid(value, "the items of a List stand there twice"));
            }
            let end = self.end_of_value(value)?;
            let text = &self.buffer[self.start + value..self.start + end];
            if let Err(error) = serde_json::from_slice::<IgnoredAny>(text) {
                return Err(self.invalid(value, &format!("it is no JSON: {error}")));
            }
            self.note(&name, value, end, list);
            self.pass(end);
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
                        b'{' | b'[' => {
                            depth += 1;
                            self.levels = self.levels.max(depth);
                        }
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
            other => Err(self.unexpected(position, other, "instead of a value")),
        }
    }

    fn end_of_string(&mut self, position: usize) -> io::Result<usize> {
        let mut position = position + 1;
        loop {
            position = self.find(position, |bytes| memchr::memchr2(b'"', b'\\', bytes))?;
            if self.at(position)? == b'"' {
                return Ok(position + 1);
            }
            position += 2;
        }
    }

    /// The first position from `position` on whose byte is not to be passed.
    fn skip(&mut self, position: usize, pass: impl Fn(u8) -> bool) -> io::Result<usize> {
        self.find(position, |bytes| bytes.iter().position(|byte| !pass(*byte)))
    }

    /// The first position from `position` on that is found in what is there of the text, piece by piece.
    fn find(&mut self, mut position: usize, find: impl Fn(&[u8]) -> Option<usize>) -> io::Result<usize> {
        loop {
            let available = self.buffer.get(self.start + position..).unwrap_or_default();
            match find(available) {
                Some(found) => return Ok(position + found),
                None => {
                    position += available.len();
                    if !self.fill()? {
                        return Err(self.cut_short());
                    }
                }
            }
        }
    }

    fn at(&mut self, position: usize) -> io::Result<u8> {
        while self.start + position >= self.buffer.len() {
            if !self.fill()? {
                return Err(self.cut_short());
            }
        }
        Ok(self.buffer[self.start + position])
    }

    /// The next byte that is not white space; `None` at the end of the text.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let available = &self.buffer[self.start..];
            match available.iter().position(|byte| !is_blank(*byte)) {
                Some(blank) => {
                    self.pass(blank);
                    return Ok(Some(self.buffer[self.start]));
                }
                None => self.pass(available.len()),
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Goes on behind so many bytes.
    fn pass(&mut self, length: usize) {
        self.line += newlines(&self.buffer[self.start..self.start + length]);
        self.start += length;
    }

    /// Reads on; `false` at the end of the text.
    fn fill(&mut self) -> io::Result<bool> {
        if self.is_at_end {
            return Ok(false);
        }
        self.buffer.drain(..self.start);
        self.passed += self.start as u64;
        self.start = 0;
        let length = self.buffer.len();
        if length > LARGEST_OBJECT {
            return Err(self.invalid(0, &format!("an object is larger than {} MiB", LARGEST_OBJECT / 1024 / 1024)));
        }
        let read = self.source.by_ref().take(CHUNK).read_to_end(&mut self.buffer)?;
        self.is_at_end = read == 0;
        Ok(read > 0)
    }

    fn unexpected(&self, position: usize, byte: u8, place: &str) -> io::Error {
        let shown = if byte.is_ascii() { format!("{:?}", char::from(byte)) } else { format!("byte 0x{byte:02x}") };
        self.invalid(position, &format!("unexpected {shown} {place}"))
    }

    fn invalid(&self, position: usize, why: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", self.place(position)))
    }

    fn cut_short(&self) -> io::Error {
        let end = self.place(self.buffer.len() - self.start);
        let why =
            format!("it ends in the middle of an object ({end}; the object begins on line {}): it was cut short", self.line);
        io::Error::new(io::ErrorKind::UnexpectedEof, why)
    }

    fn place(&self, position: usize) -> String {
        let position = self.start + position;
        let line = self.line + newlines(&self.buffer[self.start..position.min(self.buffer.len())]);
        format!("line {line}, byte {}", self.passed + position as u64 + 1)
    }
}

enum Opening {
    /// A whole object of this length.
    Object(usize),
    /// A List, whose items follow.
    Items(ListEnd),
}

/// What JSON calls white space.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn newlines(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
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
                Piece::EndOfList(end) if end.items == 0 => pieces.push("empty".to_owned()),
                Piece::EndOfList(end) if end.is_partial => pieces.push(format!("more {}", end.kind)),
                Piece::EndOfList(_) => {}
                Piece::Object { json, list_kind, .. } => {
                    pieces.push(list_kind.map_or(json.to_owned(), |kind| format!("{kind}:{json}")));
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
    fn how_deep_an_object_is_nested_is_counted_on_the_way() {
        let text = r#"{"kind":"List","items":[{"a":{"b":[]}},{"c":1}]}{"d":{"e":[{"x":"{[[["}]},"f":[]}{}"#;
        for size in [1, 2, 7, 1000] {
            let mut stream = JsonStream::new(Dribble(text.as_bytes(), size));
            let mut counted = Vec::new();
            loop {
                match stream.next().unwrap() {
                    Piece::End => break,
                    Piece::EndOfList(_) => {}
                    Piece::Object { levels, .. } => counted.push(levels),
                }
            }
            assert_eq!(counted, [3, 1, 4, 1]);
        }
    }

    #[test]
    fn a_list_of_which_the_server_has_more_is_partial() {
        check(r#"{"kind":"PodList","metadata":{"continue":"x"},"items":[{}]}"#, &["PodList:{}", "more PodList"]);
        check(r#"{"items":[{}],"kind":"PodList","metadata":{"remainingItemCount":3}}"#, &[":{}", "more PodList"]);
        check(r#"{"kind":"PodList","metadata":{"continue":"","remainingItemCount":0},"items":[{}]}"#, &["PodList:{}"]);
    }

    #[test]
    fn faults_are_said_with_their_place() {
        let why = |text: &[u8]| {
            let mut stream = JsonStream::new(Dribble(text, 7));
            loop {
                match stream.next() {
                    Ok(Piece::End) => panic!("{text:?} is read"),
                    Ok(_) => {}
                    Err(error) => return error.to_string(),
                }
            }
        };
        assert_eq!(
            why(b"{\"items\":[\n{},\n{\"a\":\n"),
            "it ends in the middle of an object (line 4, byte 22; the object begins on line 3): it was cut short"
        );
        assert_eq!(why(b"{}\n---\n"), "line 2, byte 4: unexpected '-' between objects");
        assert_eq!(why(b"{}\n{\"a\":\"\xe9\"}"), "line 2, byte 10: it is not UTF-8 here (byte 0xe9)");
    }

    #[test]
    fn an_object_that_never_ends_is_refused_before_memory_does() {
        struct Endless(bool);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(b'x');
                if !std::mem::replace(&mut self.0, true) {
                    buffer[..6].copy_from_slice(b"{\"a\":\"");
                }
                Ok(buffer.len())
            }
        }
        let error = JsonStream::new(Endless(false)).next().map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("an object is larger than 64 MiB"), "{error}");
    }

    #[test]
    fn other_text_is_refused() {
        let lists = [
            r#"{"items":[{} {}]}"#,
            r#"{"items":[,{}]}"#,
            r#"{"items":[{}]"metadata":{}}"#,
            r#"{"items":[],"items":[{}]}"#,
            r#"{"items":[]::}"#,
        ];
        for text in
            ["{\"a\":1} x", "{a:1}", "{\"a\":?}", "[1]", "{,}", "{\"a\" 1}", "{\"a\":1,,\"b\":1}"].into_iter().chain(lists)
        {
            assert_eq!(pieces(text, 3).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text}");
        }
    }
}
