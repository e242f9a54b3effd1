//! The leniency with which istiod reads protobuf messages from YAML: `ApplyYAML` (pkg/util/protomarshal) on golang/protobuf's `jsonpb`.
//! A field may be written in camelCase or as in the `.proto` file, numbers may be quoted, `null` is nothing said, and unknown fields are
//! passed over; a value of another type is an error.

use serde_json::{Map, Value};

/// What a field holds.
#[derive(Debug)]
pub(crate) enum Field {
    /// A text.
    Text,
    /// `true` or `false`, as `bool` or `BoolValue`.
    Flag,
    /// A whole number from the first to the second.
    Whole(i64, i64),
    /// Any number.
    Number,
    /// A duration such as `5s`.
    Duration,
    /// One of these names, or a number.
    OneOf(&'static [&'static str]),
    /// A message with these fields; others are passed over.
    Message(&'static [(&'static str, Field)]),
    /// A list.
    List(&'static Field),
    /// A map from texts.
    MapOf(&'static Field),
}

/// `int32`.
pub(crate) const INT32: Field = Field::Whole(i32::MIN as i64, i32::MAX as i64);

/// `uint32`.
pub(crate) const UINT32: Field = Field::Whole(0, u32::MAX as i64);

impl Field {
    /// Whether a value fits.
    ///
    /// # Errors
    /// Where it does not: the path of the field, and what is wrong there.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{value} is no {what}"));
        match (self, value) {
            (_, Value::Null) | (Field::Text, Value::String(_)) | (Field::Flag, Value::Bool(_)) => Ok(()),
            (Field::Text, _) => wrong("text"),
            (Field::Flag, _) => wrong("bool"),
            (Field::Whole(least, most), _) => match whole(value) {
                Some(number) if (*least..=*most).contains(&number) => Ok(()),
                _ => wrong("number that fits"),
            },
            (Field::Number, Value::Number(_)) => Ok(()),
            (Field::Number, Value::String(text)) if text.parse::<f64>().is_ok() => Ok(()),
            (Field::Number, _) => wrong("number"),
            (Field::Duration, Value::String(text)) if seconds(text).is_some() => Ok(()),
            (Field::Duration, _) => wrong("duration"),
            (Field::OneOf(names), Value::String(name)) if names.contains(&name.as_str()) => Ok(()),
            (Field::OneOf(_), Value::Number(number)) if number.is_i64() => Ok(()),
            (Field::OneOf(names), _) => Err(format!("{value} is none of {}", names.join(", "))),
            (Field::Message(fields), Value::Object(members)) => fields.iter().try_for_each(|(name, field)| {
                let value = member(members, name).unwrap_or(&Value::Null);
                field.check(value).map_err(|why| format!("{}: {why}", json_name(name)))
            }),
            (Field::List(field), Value::Array(items)) => items.iter().try_for_each(|item| match item {
                Value::Null => Err("null is no item".to_owned()),
                item => field.check(item),
            }),
            (Field::MapOf(field), Value::Object(members)) => members.iter().try_for_each(|(key, value)| match value {
                Value::Null => Err(format!("{key}: null is no value")),
                value => field.check(value).map_err(|why| format!("{key}: {why}")),
            }),
            (Field::Message(_) | Field::MapOf(_), _) => wrong("map"),
            (Field::List(_), _) => wrong("list"),
        }
    }
}

/// A member of a message by the name that its `.proto` file gives it; nothing when it is null. Of both ways of writing it the one of JSON
/// counts.
pub(crate) fn member<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(&json_name(name)).or_else(|| members.get(name)).filter(|value| !value.is_null())
}

/// A whole number, quoted or not.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    match value {
        // go-yaml writes 2.0 into JSON as 2.
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().filter(|it| it.fract() == 0.0).map(|it| it as i64)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The seconds of a duration as Go writes it: `1h`, `1m30s`, `1.5s`, `100ms`.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    let mut sum = 0.0;
    while !rest.is_empty() || sum == 0.0 {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| {
            rest[end..]
                .strip_prefix(unit)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(|next: char| next.is_ascii_digit() || next == '.'))
        })?;
        rest = &rest[end + unit.len()..];
        sum += number * factor;
        if rest.is_empty() {
            break;
        }
    }
    Some(sign * sum)
}

fn json_name(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut characters = word.chars();
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        name + &first.into_iter().chain(characters).collect::<String>()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_may_be_quoted_and_names_written_both_ways() {
        static MESSAGE: Field = Field::Message(&[
            ("status_port", INT32),
            ("hold_it", Field::Flag),
            ("drain_duration", Field::Duration),
            ("mode", Field::OneOf(&["REDIRECT", "NONE"])),
            ("tags", Field::List(&Field::Text)),
            ("metadata", Field::MapOf(&Field::Text)),
        ]);
        for fits in [
            json!({}),
            json!({"statusPort": 15020, "status_port": "15020", "holdIt": true, "unknown": {"a": 1}}),
            json!({"statusPort": "1", "drainDuration": "1m30s", "mode": 1, "tags": [], "metadata": {"A": "1"}}),
            json!({"statusPort": null, "mode": "NONE", "metadata": null}),
            json!(null),
        ] {
            assert_eq!(MESSAGE.check(&fits), Ok(()), "{fits}");
        }
        for (fits_not, why) in [
            (json!({"status_port": "many"}), "statusPort: \"many\" is no number that fits"),
            (json!({"statusPort": 1.5}), "statusPort: 1.5 is no number that fits"),
            (json!({"statusPort": 3_000_000_000_i64}), "statusPort: 3000000000 is no number that fits"),
            (json!({"holdIt": "true"}), "holdIt: \"true\" is no bool"),
            (json!({"drainDuration": 5}), "drainDuration: 5 is no duration"),
            (json!({"drainDuration": "5"}), "drainDuration: \"5\" is no duration"),
            (json!({"mode": "none"}), "mode: \"none\" is none of REDIRECT, NONE"),
            (json!({"tags": "a"}), "tags: \"a\" is no list"),
            (json!({"metadata": {"A": 1}}), "metadata: A: 1 is no text"),
            (json!([]), "[] is no map"),
        ] {
            assert_eq!(MESSAGE.check(&fits_not), Err(why.to_owned()));
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("5s", Some(5.0)),
            ("1m30s", Some(90.0)),
            ("1.5s", Some(1.5)),
            ("-1s", Some(-1.0)),
            ("100ms", Some(0.1)),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        for text in ["", "5", "s", "5 s", "1d", "five"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
