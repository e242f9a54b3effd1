//! Kubernetes' protobuf lists, taken apart while they arrive.
//!
//! The body is `k8s\0` and a `runtime.Unknown` (staging/src/k8s.io/apimachinery/pkg/runtime/generated.proto), whose field
//! 2 holds the list: field 1 its ListMeta (field 3 of that the token of the next page), field 2 each object.

const MAGIC: &[u8] = b"k8s\0";

/// Fields of `runtime.Unknown`, of a list and of ListMeta, each as its number and wire type 2 (length-delimited).
const UNKNOWN_RAW: u64 = 2 << 3 | 2;
const LIST_METADATA: u64 = 1 << 3 | 2;
const LIST_ITEM: u64 = 2 << 3 | 2;
const METADATA_CONTINUE: u64 = 3 << 3 | 2;

/// Where in the envelope the next byte stands.
#[derive(Debug, Default, PartialEq)]
enum Position {
    #[default]
    Start,
    Envelope,
    /// Inside the list, of which so many bytes are still to come.
    List(u64),
    /// Behind the list.
    End,
}

/// Takes a list apart. Bytes are given to [`ListDecoder::take`] as they arrive; those that it does not take must be
/// given again, with more behind them.
#[derive(Debug, Default)]
pub(crate) struct ListDecoder {
    position: Position,
    next_page: Option<String>,
}

impl ListDecoder {
    /// The token of the next page, empty on the last one; `None` until it is known. It stands before the objects.
    pub(crate) fn next_page(&self) -> Option<&str> {
        self.next_page.as_deref()
    }

    /// Whether the whole list was there.
    pub(crate) fn is_complete(&self) -> bool {
        self.position == Position::End
    }

    /// Hands on each object that is complete in `bytes` and says how many bytes were used up.
    pub(crate) fn take(&mut self, bytes: &[u8], mut hand_on: impl FnMut(&[u8])) -> Result<usize, String> {
        let mut taken = 0;
        while let Some(step) = self.step(&bytes[taken..], &mut hand_on)? {
            taken += step;
        }
        Ok(taken)
    }

    /// One field; `None` when it is not complete yet.
    fn step(&mut self, bytes: &[u8], hand_on: &mut impl FnMut(&[u8])) -> Result<Option<usize>, String> {
        match self.position {
            Position::Start if bytes.len() < MAGIC.len() => Ok(None),
            Position::Start if bytes.starts_with(MAGIC) => {
                self.position = Position::Envelope;
                Ok(Some(MAGIC.len()))
            }
            Position::Start => Err("the answer is not Kubernetes protobuf".to_owned()),
            Position::Envelope => self.envelope_field(bytes),
            Position::List(0) => {
                self.next_page.get_or_insert_default();
                self.position = Position::End;
                Ok(Some(0))
            }
            Position::List(left) => self.list_field(bytes, left, hand_on),
            Position::End if bytes.is_empty() => Ok(None),
            Position::End => Ok(Some(bytes.len())),
        }
    }

    fn envelope_field(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let Some((header, tag, length)) = field_header(bytes)? else { return Ok(None) };
        if tag == UNKNOWN_RAW {
            self.position = Position::List(length);
            return Ok(Some(header));
        }
        let end = header as u64 + length;
        Ok((bytes.len() as u64 >= end).then_some(end as usize))
    }

    fn list_field(&mut self, bytes: &[u8], left: u64, hand_on: &mut impl FnMut(&[u8])) -> Result<Option<usize>, String> {
        let Some((header, tag, length)) = field_header(bytes)? else { return Ok(None) };
        let end = header as u64 + length;
        if end > left {
            return Err("an object is longer than its list".to_owned());
        }
        let Some(field) = bytes.get(header..end as usize) else { return Ok(None) };
        match tag {
            LIST_METADATA => self.next_page = Some(continue_token(field)?),
            LIST_ITEM => {
                self.next_page.get_or_insert_default();
                hand_on(field);
            }
            _ => {}
        }
        self.position = Position::List(left - end);
        Ok(Some(end as usize))
    }
}

fn continue_token(mut metadata: &[u8]) -> Result<String, String> {
    while let Some((header, tag, length)) = field_header_or_varint(metadata)? {
        let end = header + length as usize;
        let value = metadata.get(header..end).ok_or("its metadata is cut short")?;
        if tag == METADATA_CONTINUE {
            return String::from_utf8(value.to_vec()).map_err(|error| error.to_string());
        }
        metadata = &metadata[end..];
    }
    Ok(String::new())
}

/// Tag and length of a length-delimited field, and how many bytes they take; `None` when they are not all there.
fn field_header(bytes: &[u8]) -> Result<Option<(usize, u64, u64)>, String> {
    let Some((tag, tag_length)) = varint(bytes)? else { return Ok(None) };
    if tag & 7 != 2 {
        return Err(format!("unexpected wire type {} in a list", tag & 7));
    }
    let Some((length, length_length)) = varint(&bytes[tag_length..])? else { return Ok(None) };
    Ok(Some((tag_length + length_length, tag, length)))
}

/// As [`field_header`], but a varint field counts as one without content (ListMeta has `remainingItemCount`).
fn field_header_or_varint(bytes: &[u8]) -> Result<Option<(usize, u64, u64)>, String> {
    match varint(bytes)? {
        Some((tag, length)) if tag & 7 == 0 => {
            Ok(varint(&bytes[length..])?.map(|(_, value_length)| (length + value_length, tag, 0)))
        }
        _ => field_header(bytes),
    }
}

/// A varint and its length in bytes; `None` when it is cut off.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, String> {
    let mut value = 0_u64;
    for (position, byte) in bytes.iter().enumerate() {
        if position == 10 {
            return Err("a number is longer than ten bytes".to_owned());
        }
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Ok(Some((value, position + 1)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(tag: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag as u8];
        let mut length = content.len();
        while length > 0x7f {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    fn list(token: &str, items: &[&[u8]]) -> Vec<u8> {
        let mut metadata = field(2 << 3 | 2, b"12345");
        metadata.extend(field(METADATA_CONTINUE, token.as_bytes()));
        metadata.extend([4 << 3, 7]);
        let mut raw = field(LIST_METADATA, &metadata);
        for item in items {
            raw.extend(field(LIST_ITEM, item));
        }
        let mut body = MAGIC.to_vec();
        body.extend(field(1 << 3 | 2, b"typemeta"));
        body.extend(field(UNKNOWN_RAW, &raw));
        body.extend(field(3 << 3 | 2, b""));
        body.extend(field(4 << 3 | 2, b""));
        body
    }

    #[test]
    fn objects_come_out_whole_however_the_bytes_are_cut() {
        let items: Vec<Vec<u8>> = (0..20_usize).map(|number| vec![number as u8; number * 37]).collect();
        let slices: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
        let body = list("next", &slices);
        for size in [1, 2, 3, 7, 64, 1000, body.len()] {
            let mut decoder = ListDecoder::default();
            let (mut seen, mut rest) = (Vec::new(), Vec::new());
            for piece in body.chunks(size) {
                rest.extend_from_slice(piece);
                let taken = decoder.take(&rest, |item| seen.push(item.to_vec())).unwrap();
                rest.drain(..taken);
            }
            assert_eq!(seen, items, "pieces of {size}");
            assert_eq!(decoder.next_page(), Some("next"));
            assert!(decoder.is_complete());
        }
    }

    #[test]
    fn a_body_that_is_cut_short_is_not_complete() {
        let body = list("", &[b"one", b"two"]);
        let mut decoder = ListDecoder::default();
        decoder.take(&body[..body.len() - 8], |_| {}).unwrap();
        assert!(!decoder.is_complete());
        assert_eq!(decoder.next_page(), Some(""));
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(ListDecoder::default().take(b"{\"kind\":\"Status\"}", |_| {}).is_err());
        let mut body = list("", &[b"one"]);
        let raw_length = MAGIC.len() + 10 + 1;
        body[raw_length] = 3;
        assert!(ListDecoder::default().take(&body, |_| {}).is_err());
    }
}
