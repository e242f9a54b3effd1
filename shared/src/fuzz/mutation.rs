//! Changes to bytes: single bits, pieces taken out, doubled and put elsewhere, and what parsers stumble over put in.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// What parsers stumble over.
const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\u",
    b":",
    b",",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"- ",
    b"---\n",
    b"...\n",
    b"? ",
    b": ",
    b"#",
    b"&a ",
    b"*a",
    b"!!str ",
    b"!!int ",
    b"!",
    b"|\n",
    b">\n",
    b"|2-\n",
    b"<<: ",
    b"%YAML 1.1\n",
    b"'",
    b"~",
    b"null",
    b"1e999",
    b"0x1F",
    b"017",
    b"y",
    b".inf",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc3",
    b"\0",
    b"\x85",
    b"\xe2\x80\xa8",
    b"{{ x }}",
    b"\"items\":[",
    b"\"kind\":\"List\"",
    b"items:\n",
    b"k8s\0",
    b"\x0a",
    b"\x12",
    b"\x1a",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\x0b\x0c",
];

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Mutation {
    Bit(Index, u8),
    Insert(Index, usize, usize),
    Remove(Index, Index),
    Double(Index, Index),
    Move(Index, Index, Index),
    Cut(Index),
}

/// A few changes, most of the time one.
pub(super) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let index = any::<Index>;
    let one = prop_oneof![
        4 => (index(), 0..8_u8).prop_map(|(place, bit)| Mutation::Bit(place, bit)),
        6 => (index(), 0..TOKENS.len(), prop_oneof![9 => 1..3_usize, 1 => 100..3000_usize])
            .prop_map(|(place, token, times)| Mutation::Insert(place, token, times)),
        3 => (index(), index()).prop_map(|(from, to)| Mutation::Remove(from, to)),
        2 => (index(), index()).prop_map(|(from, to)| Mutation::Double(from, to)),
        2 => (index(), index(), index()).prop_map(|(from, to, target)| Mutation::Move(from, to, target)),
        1 => index().prop_map(Mutation::Cut),
    ];
    vec(one, 0..4)
}

/// The bytes with these changes.
pub(super) fn mutated(bytes: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for mutation in mutations {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        // Pieces are short: long ones only take most of the text away.
        let range = |from: &Index, to: &Index| {
            let from = from.index(length);
            from..from + to.index((length - from).min(200)) + 1
        };
        match mutation {
            Mutation::Bit(place, bit) => bytes[place.index(length)] ^= 1 << bit,
            Mutation::Insert(place, token, times) => {
                let place = place.index(length);
                bytes.splice(place..place, TOKENS[*token].repeat(*times));
            }
            Mutation::Remove(from, to) => drop(bytes.drain(range(from, to))),
            Mutation::Double(from, to) => {
                let piece = bytes[range(from, to)].to_vec();
                let place = from.index(length);
                bytes.splice(place..place, piece);
            }
            Mutation::Move(from, to, target) => {
                let piece: Vec<u8> = bytes.drain(range(from, to)).collect();
                let place = target.index(bytes.len() + 1);
                bytes.splice(place..place, piece);
            }
            Mutation::Cut(place) => bytes.truncate(place.index(length)),
        }
    }
    bytes
}
