//! Characters of a stream for the parser: UTF-8, without what YAML does not allow, and never more of it in memory than
//! one piece.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;

use granit_parser::ErrorKind;

const CHUNK: usize = 64 * 1024;

/// How large one object may be. The API server takes requests of 3 MiB, and etcd objects of half of that.
pub(crate) const LARGEST_OBJECT: usize = 64 * 1024 * 1024;

/// How many lines with `{{` are remembered.
const TEMPLATE_LINES: usize = 64;

/// What the source knows that the parser does not hand through.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Why the source ended, when that was no clean end, and on which line.
    pub(super) fault: Option<(usize, String)>,
    /// The last lines that have `{{`, counted from 1.
    template_lines: VecDeque<usize>,
    /// How many bytes were read since the present object began, in whole pieces.
    read: usize,
}

impl Notes {
    /// What comes now belongs to another object.
    pub(super) fn begin_object(&mut self) {
        self.read = 0;
    }

    /// Whether the line, or the one before or behind it, has `{{`.
    pub(super) fn is_template(&self, line: usize) -> bool {
        self.template_lines.iter().any(|template| template.abs_diff(line) <= 1)
    }
}

/// An iterator of characters.
pub(super) struct Characters<R> {
    source: R,
    chunk: Vec<u8>,
    position: usize,
    is_at_end: bool,
    line: usize,
    before: char,
    notes: Rc<RefCell<Notes>>,
}

impl<R: Read> Characters<R> {
    pub(super) fn new(source: R) -> (Characters<R>, Rc<RefCell<Notes>>) {
        let notes = Rc::new(RefCell::new(Notes::default()));
        let characters = Characters {
            source,
            chunk: Vec::new(),
            position: 0,
            is_at_end: false,
            line: 1,
            before: '\n',
            notes: Rc::clone(&notes),
        };
        (characters, notes)
    }

    /// Reads on; what was not given yet stays.
    fn fill(&mut self) -> io::Result<()> {
        self.chunk.drain(..self.position);
        self.position = 0;
        let length = self.chunk.len();
        self.chunk.resize(length + CHUNK, 0);
        let read = loop {
            match self.source.read(&mut self.chunk[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.chunk.truncate(length + read);
        self.is_at_end = read == 0;
        let mut notes = self.notes.borrow_mut();
        notes.read += read;
        if notes.read > LARGEST_OBJECT {
            return Err(io::Error::other(format!("an object is larger than {} MiB", LARGEST_OBJECT / 1024 / 1024)));
        }
        Ok(())
    }

    fn character(&mut self) -> Result<Option<char>, String> {
        loop {
            let available = &self.chunk[self.position..];
            match available.first() {
                Some(byte) if byte.is_ascii() => {
                    let character = char::from(*byte);
                    self.position += 1;
                    return Ok(Some(character));
                }
                Some(_) => {
                    let head = &available[..available.len().min(4)];
                    let valid = match std::str::from_utf8(head) {
                        Ok(text) => text,
                        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
                    };
                    if let Some(character) = valid.chars().next() {
                        self.position += character.len_utf8();
                        return Ok(Some(character));
                    }
                    if available.len() >= 4 || self.is_at_end {
                        return Err(format!("it is not UTF-8 here (byte 0x{:02x})", available[0]));
                    }
                }
                None if self.is_at_end => return Ok(None),
                None => {}
            }
            self.fill().map_err(|error| error.to_string())?;
        }
    }

    fn fail(&mut self, why: String) -> Option<Result<char, ErrorKind>> {
        self.notes.borrow_mut().fault = Some((self.line, why.clone()));
        Some(Err(ErrorKind::InputDecoding { message: why }))
    }
}

impl<R: Read> Iterator for Characters<R> {
    type Item = Result<char, ErrorKind>;

    fn next(&mut self) -> Option<Result<char, ErrorKind>> {
        let character = match self.character() {
            Ok(character) => character?,
            Err(why) => return self.fail(why),
        };
        match character {
            '\n' => self.line += 1,
            '{' if self.before == '{' => {
                let mut notes = self.notes.borrow_mut();
                if notes.template_lines.back() != Some(&self.line) {
                    notes.template_lines.push_back(self.line);
                    if notes.template_lines.len() > TEMPLATE_LINES {
                        notes.template_lines.pop_front();
                    }
                }
            }
            // As go-yaml (readerc.go) does; the parser would take NUL for the end.
            '\t' | '\r' | ' '..='~' | '\u{85}' => {}
            '\0'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                return self.fail(format!("the control character U+{:04X} is not allowed here", u32::from(character)));
            }
            _ => {}
        }
        self.before = character;
        Some(Ok(character))
    }
}
