//! Documents of YAML, built from the parser's events; the items of a List are handed on one by one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, FallibleBufferedInput, Parser, ScalarStyle, ScanError, Span, Tag, options};
use serde_json::{Map, Value};

use super::scalar::{ScalarTag, resolve};
use super::source::{Characters, Notes};
use super::{BrokenYaml, Document};

/// How deep values may be nested. Objects of Kubernetes stay far below.
const DEEPEST: usize = 120;

/// How much of a document aliases may copy, in bytes as [`weight`] counts them. go-yaml allows so many copies that they
/// make up a few hundred kilobytes of a small document (`allowedAliasRatio`, decode.go).
const MOST_COPIED: usize = 8 * 1024 * 1024;

/// What stands next in a stream of documents whose Lists are taken apart.
pub(crate) enum Member {
    /// An item of a List. It stands in whatever document ends next.
    Item(Document),
    /// The end of a document, with all of it but the items of its List, and how many these were.
    End {
        /// The rest of the document.
        rest: Document,
        /// How many items came before; `None` when it has no member `items` with a sequence.
        items: Option<usize>,
    },
}

/// Reads documents.
pub(crate) struct Reader<R: Read> {
    parser: Parser<'static, FallibleBufferedInput<Characters<R>>>,
    notes: Rc<RefCell<Notes>>,
    anchors: HashMap<usize, Anchored>,
    copied: usize,
    /// Set while the items of a List are handed on.
    list: Option<OpenList>,
    refuses_double_keys: bool,
}

/// A List of which the items come.
struct OpenList {
    members: Map<String, Value>,
    line: usize,
    items: usize,
}

struct Anchored {
    value: Value,
    depth: usize,
    weight: usize,
}

type Found = (Event<'static>, Span);

impl<R: Read> Reader<R> {
    pub(crate) fn new(source: R) -> Reader<R> {
        let (characters, notes) = Characters::new(source);
        let options = options! { emit_comments: false, block_scalar_eof_without_line_feed: true };
        let parser = Parser::new_from_fallible_iter_with_options(characters, options);
        Reader { parser, notes, anchors: HashMap::new(), copied: 0, list: None, refuses_double_keys: false }
    }

    /// Otherwise the last of equal keys counts.
    pub(crate) fn refusing_double_keys(self) -> Reader<R> {
        Reader { refuses_double_keys: true, ..self }
    }

    /// The next document, whole; `None` at the end of the stream.
    pub(crate) fn document(&mut self) -> Result<Option<Document>, BrokenYaml> {
        let Some((line, (first, span))) = self.start_of_document()? else { return Ok(None) };
        let value = self.node(first, span, 0)?;
        self.end_of_document()?;
        Ok(Some((value, line)))
    }

    /// The next item or document; `None` at the end of the stream.
    pub(crate) fn member(&mut self) -> Result<Option<Member>, BrokenYaml> {
        match self.list.take() {
            Some(list) => self.next_item(list).map(Some),
            None => {
                let Some((line, (first, span))) = self.start_of_document()? else { return Ok(None) };
                match first {
                    Event::MappingStart(..) if first.anchor_id().is_none() => self.members(Map::new(), line, None).map(Some),
                    first => {
                        let value = self.node(first, span, 0)?;
                        self.end_of_document()?;
                        Ok(Some(Member::End { rest: (value, line), items: None }))
                    }
                }
            }
        }
    }

    /// Members of the mapping at the root, up to its List's items or its end.
    fn members(&mut self, mut members: Map<String, Value>, line: usize, items: Option<usize>) -> Result<Member, BrokenYaml> {
        loop {
            let (event, span) = self.event()?;
            if matches!(event, Event::MappingEnd) {
                self.end_of_document()?;
                return Ok(Member::End { rest: (Value::Object(members), line), items });
            }
            let key = self.key(event, span, 0)?;
            let (event, span) = self.event()?;
            match (key, event) {
                (Key::Name(name), event @ Event::SequenceStart(..)) if name == "items" && event.anchor_id().is_none() => {
                    if items.is_some() || members.contains_key("items") {
                        return Err(self.broken(span.start.line(), "its items stand there twice"));
                    }
                    return self.next_item(OpenList { members, line, items: 0 });
                }
                (key, event) => self.add(&mut members, key, event, span, 0)?,
            }
        }
    }

    fn next_item(&mut self, mut list: OpenList) -> Result<Member, BrokenYaml> {
        self.notes.borrow_mut().begin_object();
        let (event, span) = self.event()?;
        if matches!(event, Event::SequenceEnd) {
            return self.members(list.members, list.line, Some(list.items));
        }
        let line = span.start.line();
        let value = self.node(event, span, 2)?;
        list.items += 1;
        self.list = Some(list);
        Ok(Member::Item((value, line)))
    }

    /// The first event of a document's content, and the line on which the document begins: that of its `---`, if it has one.
    fn start_of_document(&mut self) -> Result<Option<(usize, Found)>, BrokenYaml> {
        let mut marker = None;
        loop {
            self.notes.borrow_mut().begin_object();
            match self.event()? {
                (Event::StreamEnd, _) => return Ok(None),
                (Event::StreamStart, _) => {}
                (Event::DocumentStart(is_explicit, _), span) => marker = is_explicit.then(|| span.start.line()),
                first => return Ok(Some((marker.unwrap_or(first.1.start.line()), first))),
            }
        }
    }

    fn end_of_document(&mut self) -> Result<(), BrokenYaml> {
        self.anchors.clear();
        self.copied = 0;
        match self.event()? {
            (Event::DocumentEnd, _) => Ok(()),
            (_, span) => Err(self.broken(span.start.line(), "the document does not end here")),
        }
    }

    fn node(&mut self, event: Event<'static>, span: Span, depth: usize) -> Result<Value, BrokenYaml> {
        let line = span.start.line();
        if depth > DEEPEST {
            return Err(self.broken(line, &format!("it is nested deeper than {DEEPEST} levels")));
        }
        let anchor = event.anchor_id();
        let value = match event {
            Event::Scalar(text, style, _, tag) => {
                let mut text = text.into_owned();
                if style == ScalarStyle::Literal {
                    // The parser names the line of the first text, or of the header when there is none.
                    let empty = text.len() - text.trim_start_matches('\n').len();
                    let first_line = if empty == text.len() { line + 1 } else { line.saturating_sub(empty) };
                    self.notes.borrow_mut().restore_separators(&mut text, first_line);
                }
                let scalar = resolve(scalar_tag(tag.as_deref(), style), &text);
                scalar.and_then(|scalar| scalar.into_value()).map_err(|why| self.broken(line, &why))?
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.event()? {
                        (Event::SequenceEnd, _) => break Value::Array(items),
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut members = Map::new();
                loop {
                    let (event, span) = self.event()?;
                    if matches!(event, Event::MappingEnd) {
                        break Value::Object(members);
                    }
                    let key = self.key(event, span, depth)?;
                    let (event, span) = self.event()?;
                    self.add(&mut members, key, event, span, depth)?;
                }
            }
            Event::Alias(id) => return self.alias(id, line, depth),
            _ => return Err(self.broken(line, "a value is expected here")),
        };
        if let Some(id) = anchor {
            let weight = weight(&value);
            self.copy(weight, line)?;
            self.anchors.insert(id, Anchored { value: value.clone(), depth: depth_of(&value), weight });
        }
        Ok(value)
    }

    fn alias(&mut self, id: usize, line: usize, depth: usize) -> Result<Value, BrokenYaml> {
        let Some(anchored) = self.anchors.get(&id) else {
            return Err(self.broken(line, "an alias stands for a value that contains it"));
        };
        if depth + anchored.depth > DEEPEST {
            return Err(self.broken(line, &format!("its aliases nest it deeper than {DEEPEST} levels")));
        }
        let (weight, value) = (anchored.weight, anchored.value.clone());
        self.copy(weight, line)?;
        Ok(value)
    }

    /// Counts what anchors and aliases copy.
    fn copy(&mut self, weight: usize, line: usize) -> Result<(), BrokenYaml> {
        self.copied = self.copied.saturating_add(weight);
        if self.copied > MOST_COPIED {
            return Err(self.broken(line, &format!("its aliases stand for more than {} MiB", MOST_COPIED / 1024 / 1024)));
        }
        Ok(())
    }

    fn key(&mut self, event: Event<'static>, span: Span, depth: usize) -> Result<Key, BrokenYaml> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_merge = text == "<<" && (style == ScalarStyle::Plain && tag.is_none() || is_core(tag.as_deref(), "merge"));
                if is_merge {
                    return Ok(Key::Merge);
                }
                let scalar = resolve(scalar_tag(tag.as_deref(), style), &text).map_err(|why| self.broken(line, &why))?;
                if anchor != 0 {
                    let value = scalar.clone().into_value().map_err(|why| self.broken(line, &why))?;
                    let weight = weight(&value);
                    self.copy(weight, line)?;
                    self.anchors.insert(anchor, Anchored { value, depth: 0, weight });
                }
                scalar.into_key().map(Key::Name).ok_or_else(|| self.broken(line, "null is no key"))
            }
            Event::Alias(id) => match self.alias(id, line, depth)? {
                Value::String(text) => Ok(Key::Name(text)),
                value @ (Value::Bool(_) | Value::Number(_)) => Ok(Key::Name(value.to_string())),
                _ => Err(self.broken(line, "only a text, number or truth is a key")),
            },
            _ => Err(self.broken(line, "a mapping or sequence is no key")),
        }
    }

    /// Adds a member; of equal keys the last counts, and what is merged stands where `<<` stands.
    fn add(
        &mut self,
        members: &mut Map<String, Value>,
        key: Key,
        event: Event<'static>,
        span: Span,
        depth: usize,
    ) -> Result<(), BrokenYaml> {
        let line = span.start.line();
        let value = self.node(event, span, depth + 1)?;
        match (key, value) {
            (Key::Name(name), _) if self.refuses_double_keys && members.contains_key(&name) => {
                return Err(self.broken(line, &format!("the key {name:?} stands there twice")));
            }
            (Key::Name(name), value) => {
                members.insert(name, value);
            }
            (Key::Merge, Value::Object(merged)) => members.extend(merged),
            (Key::Merge, Value::Array(all)) if all.iter().all(Value::is_object) => {
                // The earlier ones are stronger.
                for merged in all.into_iter().rev() {
                    if let Value::Object(merged) = merged {
                        members.extend(merged);
                    }
                }
            }
            (Key::Merge, _) => return Err(self.broken(line, "<< takes a mapping, or a sequence of mappings")),
        }
        Ok(())
    }

    fn event(&mut self) -> Result<Found, BrokenYaml> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => return Err(self.scan_error(&error)),
                None => return Err(self.broken(0, "nothing more can be read")),
            }
        }
    }

    fn scan_error(&self, error: &ScanError) -> BrokenYaml {
        let fault = self.notes.borrow().fault.clone();
        match fault {
            Some((line, why)) => self.broken(line, &why),
            None => self.broken(error.marker().line(), &why(error)),
        }
    }

    fn broken(&self, line: usize, why: &str) -> BrokenYaml {
        let is_template = self.notes.borrow().is_template(line);
        BrokenYaml { line: (line > 0).then_some(line), why: why.to_owned(), is_template }
    }
}

enum Key {
    Name(String),
    /// `<<`.
    Merge,
}

fn scalar_tag(tag: Option<&Tag>, style: ScalarStyle) -> ScalarTag<'_> {
    match tag {
        None if style == ScalarStyle::Plain => ScalarTag::Plain,
        None => ScalarTag::Quoted,
        Some(tag) => match tag.parts() {
            ("tag:yaml.org,2002:", core) => ScalarTag::Core(core),
            ("!", "") | ("", "!") => ScalarTag::Quoted,
            _ => ScalarTag::Own,
        },
    }
}

fn is_core(tag: Option<&Tag>, name: &str) -> bool {
    tag.is_some_and(|tag| tag.parts() == ("tag:yaml.org,2002:", name))
}

fn why(error: &ScanError) -> String {
    let is_cut_short = matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::UnexpectedEofBlockMapping
            | ErrorKind::UnexpectedEofBlockSequence
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofImplicitFlowMapping
            | ErrorKind::UnclosedQuotedScalar
            | ErrorKind::UnclosedFlowCollection { .. }
    );
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => "it is nested too deep".to_owned(),
        kind if is_cut_short => format!("{kind}; it may have been cut short"),
        kind => kind.to_string(),
    }
}

/// Roughly how many bytes a value takes.
fn weight(value: &Value) -> usize {
    const EACH: usize = 32;
    match value {
        Value::String(text) => EACH + text.len(),
        Value::Array(items) => EACH + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) => EACH + members.iter().map(|(key, value)| EACH + key.len() + weight(value)).sum::<usize>(),
        _ => EACH,
    }
}

fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{BrokenYaml, documents, value};
    use super::*;

    fn why(text: &str) -> String {
        value(text).expect_err(text).to_string()
    }

    #[test]
    fn what_is_written_in_many_ways_is_one_value() {
        let expected = json!({"a": "x", "b": [1, "2", null], "c": {"d": "line\nline\n"}});
        for text in [
            "a: x\nb: [1, '2', ~]\nc: {d: \"line\\nline\\n\"}\n",
            "a: x\r\nb:\r\n- 1\r\n- \"2\"\r\n-\r\nc:\r\n  d: |\r\n    line\r\n    line\r\n",
            "\u{feff}# comment\n---\na:   x  # comment\nb:\n  - 1\n  - '2'\n  - null\nc:\n  ? d\n  : |+\n    line\n    line\n...\n",
            "%YAML 1.1\n---\n{a: x, b: [1, '2', null], c: {d: \"line\\n\\\n    line\\n\"}}",
            "a: x\na: x\nb: &l [1, '2', null]\nc: {d: 'line\n\n  line\n\n  '}\nb: *l\n",
        ] {
            assert_eq!(value(text), Ok(expected.clone()), "{text}");
        }
    }

    #[test]
    fn what_kubectl_prints_is_what_it_read() {
        // ConfigMaps with all that YAML may take for something else, as kubectl 1.35 printed them with -o yaml and -o json.
        let printed = value(include_str!("../fuzz/kubectl.yaml")).unwrap();
        // It prints U+0085 as a line break, and nothing brings that back.
        let expected = include_str!("../fuzz/kubectl.json").replace("\\u0085", "\\n");
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let items = |list: &Value| list["items"].as_array().unwrap().clone();
        for (printed, expected) in items(&printed).iter().zip(&items(&expected)) {
            assert_eq!(printed, expected);
        }
        assert_eq!(printed, expected);
    }

    #[test]
    fn separators_of_lines_and_paragraphs_end_lines_in_blocks_only() {
        // go-yaml writes the line behind such a separator with an indentation of its own.
        let text = "a: |\n  one\u{2028}  two\n  three\u{2029}  \u{2028}  four\nb:\n  c: |-\n    x\u{85}    y |\n    z\u{2028}    w\nd: 'p\u{2028}q'\ne: p\u{2028}q\n";
        let expected = json!({
            "a": "one\u{2028}two\nthree\u{2029}\u{2028}four\n", "b": {"c": "x\ny |\nz\u{2028}w"}, "d": "p\u{2028}q", "e": "p\u{2028}q",
        });
        assert_eq!(value(text), Ok(expected));
    }

    #[test]
    fn a_block_keeps_what_looks_like_markers() {
        let text = "a: |2\n   ---\n   ...\n  \t\n  # no comment\n  key: value\nb: >-\n  folded\n  text\n\n  more\n";
        assert_eq!(value(text), Ok(json!({"a": " ---\n ...\n\t\n# no comment\nkey: value\n", "b": "folded text\nmore"})));
    }

    #[test]
    fn documents_are_counted_with_their_lines() {
        let text = "# nothing\n---\na: 1\n---\n---\n# nothing\n---\n--- b\n...\n---\nc\n";
        let found: Vec<(Value, usize)> = documents(text).collect::<Result<_, _>>().unwrap();
        let values: Vec<&Value> = found.iter().map(|(value, _)| value).filter(|value| !value.is_null()).collect();
        assert_eq!(values, [&json!({"a": 1}), &json!("b"), &json!("c")]);
        assert_eq!(found[0].1, 2);
        assert_eq!(documents("").count(), 0);
    }

    #[test]
    fn merges_stand_where_they_are_written() {
        let text = "base: &b {p: 1, q: 1}\nother: &o {q: 2, r: 2}\nin: {q: 0, <<: [*b, *o], p: 3}\n";
        assert_eq!(value(text).unwrap()["in"], json!({"p": 3, "q": 1, "r": 2}));
        assert_eq!(value("'<<': 1"), Ok(json!({"<<": 1})));
        assert!(why("<<: 1").contains("takes a mapping"));
    }

    #[test]
    fn keys_are_what_they_stand_for() {
        assert_eq!(value("{yes: 1, 0x1F: 2, 1.5: 3, 'no': 4}"), Ok(json!({"true": 1, "31": 2, "1.5": 3, "no": 4})));
        for text in ["{[a]: b}", "? {a: b}\n: c\n", "~: a", "? \n: a"] {
            assert!(why(text).contains(" no key") || why(text).contains("null is no key"), "{text}: {}", why(text));
        }
    }

    #[test]
    fn aliases_have_a_limit() {
        let mut text = "a0: &a0 [xxxxxxxxxxxxxxxxxxxxxxxx]\n".to_owned();
        for level in 1..40 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("a{level}: &a{level} [{alias}]\n");
        }
        assert!(why(&text).contains("its aliases stand for more than"), "{}", why(&text));
        // Anchors on every level copy too.
        let nested = format!("{}{}", "&a [".repeat(100), "]".repeat(100));
        assert!(value(&nested).is_ok());
        assert!(why("a: &a [*a]").contains("contains it"), "{}", why("a: &a [*a]"));
        assert!(why("a: *b").contains("unknown anchor"));
        let fair = format!("base: &b {{{}}}\nall: [{}]", "k: v, ".repeat(50), "*b, ".repeat(1000));
        assert_eq!(value(&fair).unwrap()["all"].as_array().map(Vec::len), Some(1000));
    }

    #[test]
    fn depth_has_a_limit_that_aliases_do_not_pass() {
        for (open, close) in [("[", "]"), ("{a: ", "}")] {
            let nested = |depth: usize| format!("{}x{}", open.repeat(depth), close.repeat(depth));
            assert!(value(&nested(110)).is_ok());
            for depth in [300, 10_000, 1_000_000] {
                assert!(why(&nested(depth)).contains("nested"), "{}", why(&nested(depth)));
            }
        }
        let blocks: String = (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(why(&blocks).contains("nested"), "{}", why(&blocks));
        assert!(why(&"- ".repeat(10_000)).contains("nested"));
        let mut chain = format!("a0: &a0 {}{}\n", "[".repeat(90), "]".repeat(90));
        for level in 1..20 {
            chain += &format!("a{level}: &a{level} {}*a{}{}\n", "[".repeat(90), level - 1, "]".repeat(90));
        }
        assert!(why(&chain).contains("nest it deeper"), "{}", why(&chain));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let check = |text: &[u8], line: usize, expected: &str| {
            let mut reader = Reader::new(text);
            let broken = std::iter::from_fn(|| reader.document().transpose()).find_map(Result::err).expect("an error");
            assert!(broken.line == Some(line) && broken.why.contains(expected), "{broken:?}");
        };
        check(b"a: 1\nb: [1,\n", 2, "cut short");
        check(b"a: 1\nb: \"x\n", 2, "cut short");
        check(b"a: 1\nb: caf\xe9\n", 2, "not UTF-8");
        check(b"a: 1\nb: \x00\n", 2, "U+0000");
        check("a: 1\nb: \u{7f}\n".as_bytes(), 2, "U+007F");
        check(b"a: 1\nb: .inf\n", 2, "no number of JSON");
        check(b"a: 1\nb: !!int x\n", 2, "no !!int");
        check(b"a: 1\n\tb: 2\n", 1, "tab");
    }

    #[test]
    fn templates_are_called_so() {
        for text in
            ["a: 1\nname: {{ .Values.name }}\n", "{{- if .Values.on }}\na: 1\n{{- end }}\n", "a: 1\n{{ include \"x\" . }}\n"]
        {
            let broken: BrokenYaml = value(text).expect_err(text);
            assert!(broken.is_template, "{broken:?}");
        }
        assert!(!value("a: |\n  {{ x }}\n\n\n\nb: [\n").unwrap_err().is_template);
    }

    #[test]
    fn a_list_comes_item_by_item() {
        let text =
            "apiVersion: v1\nitems:\n- a: 1\n-\n- [b]\nkind: List\nmetadata: {continue: x}\n---\nkind: Pod\n---\nitems: []\n";
        let mut reader = Reader::new(text.as_bytes());
        let mut seen = Vec::new();
        while let Some(member) = reader.member().unwrap() {
            seen.push(match member {
                Member::Item((value, line)) => format!("{line}: {value}"),
                Member::End { rest: (value, line), items } => format!("{line}: {value} {items:?}"),
            });
        }
        let expected = [
            "3: {\"a\":1}",
            "4: null",
            "5: [\"b\"]",
            "1: {\"apiVersion\":\"v1\",\"kind\":\"List\",\"metadata\":{\"continue\":\"x\"}} Some(3)",
            "8: {\"kind\":\"Pod\"} None",
            "10: {} Some(0)",
        ];
        assert_eq!(seen, expected);
        assert!(Reader::new(&b"items: []\nitems: [a]\n"[..]).member().is_err());
    }
}
