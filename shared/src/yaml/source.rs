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
    /// Separators of lines and paragraphs (U+2028, U+2029) that were given as line breaks, each with the line that it ends.
    separators: VecDeque<(usize, char)>,
    /// How many bytes were read since the present object began, in whole pieces.
    read: usize,
}

impl Notes {
    /// What comes now belongs to another object.
    pub(super) fn begin_object(&mut self) {
        self.read = 0;
    }

    /// Puts separators back into a literal block, whose content begins on this line.
    pub(super) fn restore_separators(&mut self, text: &mut String, first_line: usize) {
        self.separators.retain(|(line, _)| *line >= first_line);
        let breaks = text.matches('\n').count();
        if self.separators.iter().all(|(line, _)| *line >= first_line + breaks) {
            return;
        }
        let mut line = first_line;
        let restore = |character: char| {
            if character != '\n' {
                return character;
            }
            line += 1;
            let separator = self.separators.iter().find(|(ended, _)| *ended == line - 1);
            separator.map_or(character, |(_, separator)| *separator)
        };
        *text = text.chars().map(restore).collect();
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
    block: BlockScalars,
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
            block: BlockScalars::default(),
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
            // YAML 1.1 breaks lines here, and kubectl prints them so in the blocks of texts with several lines; anywhere
            // else it escapes them.
            '\u{85}' | '\u{2028}' | '\u{2029}' if self.block.is_inside() => {
                if character != '\u{85}' {
                    self.notes.borrow_mut().separators.push_back((self.line, character));
                }
                self.line += 1;
                self.block.take('\n');
                self.before = '\n';
                return Some(Ok('\n'));
            }
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
        self.block.take(character);
        Some(Ok(character))
    }
}

/// Follows where block scalars begin and end, as far as a look at lines can tell: behind a line that ends in `|` or `>`, as
/// long as lines are indented more than that one.
#[derive(Debug, Default)]
struct BlockScalars {
    /// The blanks at the beginning of the line, and whether there is more in it.
    indentation: usize,
    has_content: bool,
    /// The last word of the line, as far as it can be the header of a block.
    word: String,
    /// The indentation of the line with the header.
    inside: Option<usize>,
}

impl BlockScalars {
    const fn is_inside(&self) -> bool {
        self.inside.is_some()
    }

    fn take(&mut self, character: char) {
        match character {
            '\n' => {
                let is_header = self.word.starts_with(['|', '>'])
                    && self.word[1..].bytes().all(|byte| matches!(byte, b'+' | b'-' | b'1'..=b'9'));
                if is_header && self.inside.is_none() {
                    self.inside = Some(self.indentation);
                }
                self.indentation = 0;
                self.has_content = false;
                self.word.clear();
            }
            '\r' => {}
            ' ' if self.has_content => self.word.clear(),
            ' ' => self.indentation += 1,
            character => {
                if !self.has_content && self.inside.is_some_and(|outside| self.indentation <= outside) {
                    self.inside = None;
                }
                self.has_content = true;
                // A longer word is no header, and need not be kept.
                if self.word.len() <= 4 {
                    self.word.push(character);
                }
            }
        }
    }
}
