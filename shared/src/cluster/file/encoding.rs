//! What a file is by its first bytes, where that is neither JSON nor YAML: named, so that nobody has to guess.

use std::io::{self, BufRead};

/// How a text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// There is nothing but white space.
    Nothing,
    /// `{`: JSON, unless it is YAML that begins so.
    Object,
    /// `[`
    Array,
    /// Anything else: YAML.
    Other,
    /// Something else altogether, in words.
    Foreign(&'static str),
}

/// Looks at how a text begins, and leaves it in the reader, without its byte order mark.
pub(super) fn opening(source: &mut impl BufRead) -> io::Result<Opening> {
    let head = head(source)?;
    if let Some(foreign) = foreign(&head) {
        return Ok(Opening::Foreign(foreign));
    }
    if head.starts_with(b"\xef\xbb\xbf") {
        source.consume(3);
    }
    loop {
        let available = source.fill_buf()?;
        if available.is_empty() {
            return Ok(Opening::Nothing);
        }
        let blank = available.iter().position(|byte| !byte.is_ascii_whitespace());
        let Some(blank) = blank else {
            let length = available.len();
            source.consume(length);
            continue;
        };
        return Ok(match available[blank] {
            b'{' if available.get(blank + 1) == Some(&b'{') => Opening::Other,
            b'{' => Opening::Object,
            b'[' => Opening::Array,
            _ => Opening::Other,
        });
    }
}

/// The first bytes, as far as one read brings them.
fn head(source: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let available = source.fill_buf()?;
    Ok(available[..available.len().min(512)].to_vec())
}

fn foreign(head: &[u8]) -> Option<&'static str> {
    let starts_with = |magic: &[u8]| head.starts_with(magic);
    let text = head.trim_ascii_start();
    let is_tag = |tag: &str| text.len() >= tag.len() && text[..tag.len()].eq_ignore_ascii_case(tag.as_bytes());
    Some(match () {
        () if starts_with(b"\xff\xfe\0\0") || starts_with(b"\0\0\xfe\xff") => "it is UTF-32 text; write it as UTF-8",
        () if starts_with(b"\xff\xfe") || starts_with(b"\xfe\xff") || is_utf16_without_mark(head) => {
            "it is UTF-16 text, as > writes it in Windows PowerShell; write it as UTF-8, with Out-File -Encoding utf8 there"
        }
        () if starts_with(b"\x1f\x8b") => "it is compressed with gzip; unpack it first, with gunzip -c FILE",
        () if starts_with(b"\x28\xb5\x2f\xfd") => "it is compressed with zstd; unpack it first, with zstd -dc FILE",
        () if starts_with(b"\xfd7zXZ\0") => "it is compressed with xz; unpack it first, with xz -dc FILE",
        () if starts_with(b"BZh") => "it is compressed with bzip2; unpack it first, with bzip2 -dc FILE",
        () if starts_with(b"PK\x03\x04") => "it is a zip archive; unpack it first",
        () if head.get(257..262) == Some(b"ustar") => "it is a tar archive; unpack it first",
        () if starts_with(b"k8s\0") => "it is Kubernetes protobuf; have it written with -o json",
        () if is_tag("<!doctype html") || is_tag("<html") => {
            "it is an HTML page: something on the way answered in place of the API server"
        }
        () if text.starts_with(b"<") => "it is XML or HTML",
        () if is_table(text) => "it is a table of kubectl get; write it with -o json",
        () => return None,
    })
}

/// Every other byte of the first characters is zero, as it is in text that is written with English letters.
fn is_utf16_without_mark(head: &[u8]) -> bool {
    let pairs: Vec<&[u8]> = head.chunks_exact(2).take(8).collect();
    let is = |zero: usize| pairs.len() >= 2 && pairs.iter().all(|pair| pair[zero] == 0 && pair[1 - zero] != 0);
    is(0) || is(1)
}

fn is_table(text: &[u8]) -> bool {
    [&b"NAME "[..], b"NAMESPACE "].iter().any(|head| text.starts_with(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: Opening) {
        assert_eq!(opening(&mut &text[..]).unwrap(), expected, "{text:?}");
    }

    #[test]
    fn texts_are_told_apart() {
        check(b"", Opening::Nothing);
        check(b" \r\n\t", Opening::Nothing);
        check(b"\xef\xbb\xbf\n{\"a\":1}", Opening::Object);
        check(b"[{}]", Opening::Array);
        check(b"apiVersion: v1", Opening::Other);
        check(b"{{ if .Values.x }}", Opening::Other);
    }

    #[test]
    fn what_is_no_text_of_ours_is_named() {
        let utf16 = |text: &str, mark: bool, turn: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let mark = mark.then_some(0xfeff);
            mark.into_iter().chain(text.encode_utf16()).flat_map(turn).collect()
        };
        for mark in [true, false] {
            for turn in [u16::to_le_bytes, u16::to_be_bytes] {
                for text in ["{\"kind\":\"List\"}", "apiVersion: v1\n"] {
                    let opening = opening(&mut &utf16(text, mark, turn)[..]).unwrap();
                    assert!(matches!(opening, Opening::Foreign(why) if why.contains("UTF-16")), "{text} {mark}");
                }
            }
        }
        for (text, word) in [
            (&b"\x1f\x8b\x08\0"[..], "gzip"),
            (b"\x28\xb5\x2f\xfd..", "zstd"),
            (b"PK\x03\x04", "zip"),
            (b"<!DOCTYPE html><html>", "HTML page"),
            (b"\n<HTML>", "HTML page"),
            (b"<?xml version=\"1.0\"?>", "XML"),
            (b"k8s\0\n", "protobuf"),
            (b"NAME    READY\nweb 1/1\n", "table"),
        ] {
            let opening = opening(&mut &text[..]).unwrap();
            assert!(matches!(opening, Opening::Foreign(why) if why.contains(word)), "{text:?}: {opening:?}");
        }
    }

    #[test]
    fn what_was_looked_at_stays() {
        let mut text = &b"\xef\xbb\xbf  a: 1"[..];
        assert_eq!(opening(&mut text).unwrap(), Opening::Other);
        assert_eq!(text, b"  a: 1");
    }
}
