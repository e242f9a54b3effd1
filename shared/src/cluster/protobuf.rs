//! Kubernetes' protobuf lists, taken apart while they arrive.
//!
//! The body is `k8s\0` and a `runtime.Unknown` (staging/src/k8s.io/apimachinery/pkg/runtime/generated.proto), whose field
//! 1 names the kind and whose field 2 holds the list: field 1 its ListMeta (field 3 of that the token of the next page), field
//! 2 each object. Nothing is believed of a length but that it says when the next field begins: what is kept never exceeds
//! what has arrived.

use prost::Message;

use crate::yaml::LARGEST_OBJECT;

const MAGIC: &[u8] = b"k8s\0";

/// The wire type of a field that says its length.
const DELIMITED: u64 = 2;

/// Fields of `runtime.Unknown` and of a list.
const UNKNOWN_TYPE: u64 = 1;
const UNKNOWN_RAW: u64 = 2;
const LIST_METADATA: u64 = 1;
const LIST_ITEM: u64 = 2;

/// Where in the envelope the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Position {
    #[default]
    Start,
    Envelope,
    /// Inside the list, of which so many bytes are still to come.
    List(u64),
}

/// `runtime.TypeMeta`.
#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "2")]
    kind: String,
}

/// `metav1.ListMeta`.
#[derive(Clone, PartialEq, Message)]
struct ListMeta {
    #[prost(string, tag = "3")]
    r#continue: String,
    #[prost(int64, optional, tag = "4")]
    remaining_item_count: Option<i64>,
}

/// Takes a list apart. Bytes are given to [`ListDecoder::take`] as they arrive; those that it does not take must be
/// given again, with more behind them.
#[derive(Debug, Default)]
pub(crate) struct ListDecoder {
    position: Position,
    next_page: Option<String>,
    has_list: bool,
    /// Whether bytes wait for more of their field.
    is_waiting: bool,
}

/// A field whose tag and length have arrived.
struct Field {
    number: u64,
    is_delimited: bool,
    /// Where its content begins, and where it ends.
    begin: usize,
    end: u64,
}

impl ListDecoder {
    /// The token of the next page, empty on the last one; `None` until it is known. It stands before the objects.
    pub(crate) fn next_page(&self) -> Option<&str> {
        self.next_page.as_deref()
    }

    /// Whether the whole list was there, and no field was cut short.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_list && self.position == Position::Envelope && !self.is_waiting
    }

    /// Hands on each object that is complete in `bytes` and says how many bytes were used up.
    ///
    /// # Errors
    /// When it is no list in protobuf: why.
    pub(crate) fn take(&mut self, bytes: &[u8], mut hand_on: impl FnMut(&[u8])) -> Result<usize, String> {
        let mut taken = 0;
        while let Some(step) = self.step(&bytes[taken..], &mut hand_on)? {
            taken += step;
        }
        self.is_waiting = taken < bytes.len();
        Ok(taken)
    }

    /// One field; `None` when it is not complete yet.
    fn step(&mut self, bytes: &[u8], hand_on: &mut impl FnMut(&[u8])) -> Result<Option<usize>, String> {
        match self.position {
            Position::Start => {
                let length = bytes.len().min(MAGIC.len());
                if bytes[..length] != MAGIC[..length] {
                    return Err("the answer is not Kubernetes protobuf".to_owned());
                }
                if length < MAGIC.len() {
                    return Ok(None);
                }
                self.position = Position::Envelope;
                Ok(Some(MAGIC.len()))
            }
            Position::Envelope => self.envelope_field(bytes),
            Position::List(0) => {
                self.next_page.get_or_insert_default();
                self.position = Position::Envelope;
                Ok(Some(0))
            }
            Position::List(left) => self.list_field(bytes, left, hand_on),
        }
    }

    fn envelope_field(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let Some(field) = field(bytes)? else { return Ok(None) };
        if matches!(field.number, UNKNOWN_TYPE | UNKNOWN_RAW) && !field.is_delimited {
            return Err(format!("field {} of the answer is of another type", field.number));
        }
        if field.number == UNKNOWN_RAW {
            if std::mem::replace(&mut self.has_list, true) {
                return Err("the answer has two lists".to_owned());
            }
            self.position = Position::List(field.end - field.begin as u64);
            return Ok(Some(field.begin));
        }
        let Some(content) = content(bytes, &field)? else { return Ok(None) };
        if field.number == UNKNOWN_TYPE {
            let TypeMeta { kind } = TypeMeta::decode(content).map_err(|error| error.to_string())?;
            if !kind.ends_with("List") {
                return Err(format!("the answer is a {kind}, not a list"));
            }
        }
        Ok(Some(field.end as usize))
    }

    fn list_field(&mut self, bytes: &[u8], left: u64, hand_on: &mut impl FnMut(&[u8])) -> Result<Option<usize>, String> {
        let Some(field) = field(bytes)? else {
            // The list says that there is no more of it than this.
            return if bytes.len() as u64 >= left { Err("a field is longer than its list".to_owned()) } else { Ok(None) };
        };
        if field.end > left {
            return Err("an object is longer than its list".to_owned());
        }
        let Some(content) = content(bytes, &field)? else { return Ok(None) };
        match field.number {
            LIST_METADATA | LIST_ITEM if !field.is_delimited => {
                return Err(format!("field {} of the list is of another type", field.number));
            }
            LIST_METADATA => self.metadata(content)?,
            LIST_ITEM => {
                self.next_page.get_or_insert_default();
                hand_on(content);
            }
            _ => {}
        }
        self.position = Position::List(left - field.end);
        Ok(Some(field.end as usize))
    }

    fn metadata(&mut self, content: &[u8]) -> Result<(), String> {
        let metadata = ListMeta::decode(content).map_err(|error| error.to_string())?;
        if self.next_page.is_some() {
            // Whoever reads has taken what stood before for the whole list.
            return Err("the metadata of the list does not stand before its objects".to_owned());
        }
        if metadata.r#continue.is_empty() && metadata.remaining_item_count.is_some_and(|count| count > 0) {
            return Err("the list has more objects, and does not say how to get them".to_owned());
        }
        self.next_page = Some(metadata.r#continue);
        Ok(())
    }
}

/// The field that begins here; `None` when its tag, or the length behind it, is not all there.
fn field(bytes: &[u8]) -> Result<Option<Field>, String> {
    let Some((tag, tag_length)) = varint(bytes)? else { return Ok(None) };
    let (number, wire_type) = (tag >> 3, tag & 7);
    if number == 0 || tag > u64::from(u32::MAX) {
        return Err(format!("{tag} is no tag of a field"));
    }
    let rest = &bytes[tag_length..];
    let (begin, length) = match wire_type {
        0 => match varint(rest)? {
            Some((_, length)) => (tag_length, length as u64),
            None => return Ok(None),
        },
        1 => (tag_length, 8),
        5 => (tag_length, 4),
        DELIMITED => match varint(rest)? {
            Some((length, length_length)) => (tag_length + length_length, length),
            None => return Ok(None),
        },
        // Groups are not of this version of protobuf.
        other => return Err(format!("unexpected wire type {other} in a list")),
    };
    let end = length.checked_add(begin as u64).ok_or("a length is beyond all bounds")?;
    Ok(Some(Field { number, is_delimited: wire_type == DELIMITED, begin, end }))
}

/// What stands in a field; `None` when it has not all arrived.
fn content<'a>(bytes: &'a [u8], field: &Field) -> Result<Option<&'a [u8]>, String> {
    if field.end > LARGEST_OBJECT as u64 {
        return Err(format!("an object says that it is {} MiB large", field.end / 1024 / 1024));
    }
    Ok(bytes.get(field.begin..field.end as usize))
}

/// A varint and its length in bytes; `None` when it is cut off.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, String> {
    let mut value = 0_u64;
    for (position, byte) in bytes.iter().take(10).enumerate() {
        if position == 9 && *byte > 1 {
            return Err("a number is longer than 64 bits".to_owned());
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
        metadata.extend(field(3 << 3 | 2, token.as_bytes()));
        metadata.extend([4 << 3, u8::from(!token.is_empty()) * 7]);
        let mut raw = field(LIST_METADATA << 3 | 2, &metadata);
        for item in items {
            raw.extend(field(LIST_ITEM << 3 | 2, item));
        }
        let mut body = MAGIC.to_vec();
        body.extend(field(1 << 3 | 2, &field(2 << 3 | 2, b"PodList")));
        body.extend(field(UNKNOWN_RAW << 3 | 2, &raw));
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
        let raw_length = MAGIC.len() + 11 + 1;
        body[raw_length] = 3;
        assert!(ListDecoder::default().take(&body, |_| {}).is_err());
    }

    fn why(body: &[u8]) -> String {
        ListDecoder::default().take(body, |_| {}).expect_err("it is refused")
    }

    #[test]
    fn lengths_are_not_believed() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        // In the envelope, as the list's own length, and as an object's.
        assert!(why(&[MAGIC, &[3 << 3 | 2], &huge].concat()).contains("beyond all bounds"));
        assert!(why(&[MAGIC, &[2 << 3 | 2], &huge].concat()).contains("beyond all bounds"));
        let large = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        assert!(why(&[MAGIC, &[3 << 3 | 2], &large].concat()).contains("MiB large"));
        assert!(
            why(&[MAGIC, &[2 << 3 | 2], &large, &[2 << 3 | 2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]].concat())
                .contains("MiB large")
        );
        assert!(why(&[MAGIC, &[0xff; 11]].concat()).contains("longer than 64 bits"));
        assert!(why(&[MAGIC, &[2 << 3 | 2, 2, 2 << 3 | 2, 0x80, 0x80]].concat()).contains("longer than its list"));
        for number in [UNKNOWN_TYPE, UNKNOWN_RAW] {
            assert!(why(&[MAGIC, &[(number << 3) as u8, 1]].concat()).contains("of another type"));
        }
        for wire_type in [3, 4, 6, 7] {
            assert!(why(&[MAGIC, &[9 << 3 | wire_type]].concat()).contains("wire type"), "{wire_type}");
        }
    }

    #[test]
    fn an_answer_that_is_no_list_or_two_is_refused() {
        let status = [MAGIC, &field(1 << 3 | 2, &field(2 << 3 | 2, b"Status"))].concat();
        assert_eq!(why(&status), "the answer is a Status, not a list");
        let raw = field(UNKNOWN_RAW << 3 | 2, &[]);
        assert_eq!(why(&[MAGIC, &raw, &raw].concat()), "the answer has two lists");
        let late = [field(LIST_ITEM << 3 | 2, b"one"), field(LIST_METADATA << 3 | 2, &field(3 << 3 | 2, b"token"))].concat();
        assert!(why(&[MAGIC, &field(UNKNOWN_RAW << 3 | 2, &late)].concat()).contains("does not stand before"));
        let more = field(LIST_METADATA << 3 | 2, &[4 << 3, 7]);
        assert!(why(&[MAGIC, &field(UNKNOWN_RAW << 3 | 2, &more)].concat()).contains("more objects"));
    }

    #[test]
    fn fields_that_nobody_knows_are_passed() {
        let unknown: Vec<u8> =
            [vec![9 << 3, 0xff, 0x01], vec![10 << 3 | 5, 1, 2, 3, 4], vec![11 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
        let raw = [unknown.clone(), field(LIST_ITEM << 3 | 2, b"one"), unknown.clone()].concat();
        let body = [MAGIC, &unknown, &field(UNKNOWN_RAW << 3 | 2, &raw), &unknown].concat();
        let mut decoder = ListDecoder::default();
        let mut seen = Vec::new();
        assert_eq!(decoder.take(&body, |item| seen.push(item.to_vec())), Ok(body.len()));
        assert!(decoder.is_complete() && seen == [b"one".to_vec()]);
    }

    #[test]
    fn negative_numbers_take_ten_bytes() {
        use crate::object::Deployment;
        let replicas = [1 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let deployment = Deployment::decode(&field(2 << 3 | 2, &replicas)[..]).unwrap();
        assert_eq!(deployment.spec.unwrap().replicas, Some(-1));
    }

    #[test]
    fn objects_in_objects_have_a_limit() {
        use crate::object::Pod;
        let mut nested = Vec::new();
        for _ in 0..20_000 {
            nested = field(2 << 3 | 2, &nested);
            nested.truncate(100_000);
        }
        // Whatever it is, it ends.
        drop(Pod::decode(&nested[..]));
        let groups = [1 << 3 | 3].repeat(100_000);
        assert!(Pod::decode(&groups[..]).is_err());
    }
}
