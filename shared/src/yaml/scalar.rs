//! What a scalar of YAML stands for. A port of no code, but of the rules of `resolve` (go.yaml.in/yaml/v2 2.4, resolve.go),
//! through which kubectl and the API server read: what kubectl prints without quotes is what these rules take for text.

use serde_json::{Number, Value};

/// What a scalar stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Only what is too large for [`Scalar::Int`].
    Unsigned(u64),
    Float(f64),
    Text(String),
}

/// What somebody wrote before a scalar to say what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScalarTag<'a> {
    /// Nothing, and the text is plain: its look decides.
    Plain,
    /// Nothing, and the text is quoted or a block; or `!`.
    Quoted,
    /// The name behind `!!`.
    Core(&'a str),
    /// A tag of somebody's own: the text stays as it is.
    Own,
}

/// What a text stands for under a tag.
///
/// # Errors
/// When the tag says something that the text is not.
pub(super) fn resolve(tag: ScalarTag<'_>, text: &str) -> Result<Scalar, String> {
    let core = match tag {
        ScalarTag::Plain => return Ok(plain(text)),
        ScalarTag::Quoted | ScalarTag::Own | ScalarTag::Core("str") => return Ok(Scalar::Text(text.to_owned())),
        ScalarTag::Core(core) => core,
    };
    let mismatch = || format!("{text:?} is no !!{core}");
    match (core, plain(text)) {
        ("null", scalar @ Scalar::Null)
        | ("bool", scalar @ Scalar::Bool(_))
        | ("int", scalar @ (Scalar::Int(_) | Scalar::Unsigned(_)))
        | ("float", scalar @ Scalar::Float(_)) => Ok(scalar),
        ("float", Scalar::Int(number)) => Ok(Scalar::Float(number as f64)),
        ("binary", _) => binary(text).ok_or_else(mismatch),
        ("null" | "bool" | "int" | "float", _) => Err(mismatch()),
        // `!!timestamp` among them: it stays as it was written.
        _ => Ok(Scalar::Text(text.to_owned())),
    }
}

/// Bytes that are no text become what Go's JSON makes of them.
fn binary(text: &str) -> Option<Scalar> {
    use base64::Engine;
    let text: String = text.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    Some(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

fn plain(text: &str) -> Scalar {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Scalar::Bool(false),
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => float(text),
        b'0'..=b'9' | b'+' | b'-' => {
            let digits: String = text.chars().filter(|character| *character != '_').collect();
            integer(&digits)
                .or_else(|| looks_like_a_float(&digits).then(|| float(&digits)).flatten())
                .or_else(|| binary_number(&digits))
        }
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

/// `strconv.ParseInt` and `ParseUint` with base 0: decimal, `0x`, `0o`, `0b`, and octal behind a mere `0`.
fn integer(text: &str) -> Option<Scalar> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', _, ..] => (16, &lower[2..]),
        [b'0', b'o', _, ..] => (8, &lower[2..]),
        [b'0', b'b', _, ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &*lower),
    };
    signed(is_negative, magnitude(digits, radix)?, !text.starts_with('+'))
}

/// Digits and nothing else: Rust's own parsing would take a sign.
fn magnitude(digits: &str, radix: u32) -> Option<u64> {
    let are_digits = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    are_digits.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

/// `is_unsigned`: whether numbers beyond 63 bits are taken, which `ParseUint` does only without a sign.
fn signed(is_negative: bool, magnitude: u64, is_unsigned: bool) -> Option<Scalar> {
    if is_negative {
        return 0_i64.checked_sub_unsigned(magnitude).map(Scalar::Int);
    }
    match i64::try_from(magnitude) {
        Ok(number) => Some(Scalar::Int(number)),
        Err(_) => is_unsigned.then_some(Scalar::Unsigned(magnitude)),
    }
}

/// What `resolve` tries last: `0b` with a sign behind it, which base 0 does not take.
fn binary_number(text: &str) -> Option<Scalar> {
    let (is_negative, digits) = match (text.strip_prefix("0b"), text.strip_prefix("-0b")) {
        (Some(digits), _) => match digits.as_bytes().first()? {
            b'-' => (true, &digits[1..]),
            b'+' => (false, &digits[1..]),
            _ => return None,
        },
        _ => return None,
    };
    signed(is_negative, magnitude(digits, 2)?, false)
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn looks_like_a_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(place) => (&unsigned[..place], Some(&unsigned[place + 1..])),
        None => (unsigned, None),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && are_digits(fraction),
        Some((whole, fraction)) => are_digits(whole) && are_digits(fraction),
        None => !mantissa.is_empty() && are_digits(mantissa),
    };
    let is_exponent = |text: &str| {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        !digits.is_empty() && are_digits(digits)
    };
    is_mantissa && exponent.is_none_or(is_exponent)
}

/// A number that is too large for 64 bits stays text: `strconv.ParseFloat` calls that an error.
fn float(text: &str) -> Option<Scalar> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let number: f64 = is_number.then(|| text.parse().ok()).flatten()?;
    number.is_finite().then_some(Scalar::Float(number))
}

impl Scalar {
    /// As a value of JSON.
    ///
    /// # Errors
    /// For infinity and not-a-number, which JSON cannot express.
    pub(super) fn into_value(self) -> Result<Value, String> {
        Ok(match self {
            Scalar::Null => Value::Null,
            Scalar::Bool(truth) => Value::Bool(truth),
            Scalar::Int(number) => number.into(),
            Scalar::Unsigned(number) => number.into(),
            Scalar::Text(text) => Value::String(text),
            Scalar::Float(number) => return json_number(number).ok_or_else(|| format!("{number} is no number of JSON")),
        })
    }

    /// As the key of a JSON object; `None` for null, which can be none.
    pub(super) fn into_key(self) -> Option<String> {
        Some(match self {
            Scalar::Null => return None,
            Scalar::Bool(truth) => truth.to_string(),
            Scalar::Int(number) => number.to_string(),
            Scalar::Unsigned(number) => number.to_string(),
            Scalar::Text(text) => text,
            Scalar::Float(number) => key_of_float(number as f32),
        })
    }
}

/// Go's JSON writes a whole number without a fraction, so that it fits a field of integers.
fn json_number(number: f64) -> Option<Value> {
    let is_whole = number.fract() == 0.0;
    if is_whole && (-9_007_199_254_740_992.0..=9_007_199_254_740_992.0).contains(&number) {
        return Some((number as i64).into());
    }
    Number::from_f64(number).map(Value::Number)
}

/// `strconv.FormatFloat(number, 'g', -1, 32)`, as sigs.k8s.io/yaml makes keys: with an exponent below -4 and from 6 on.
fn key_of_float(number: f32) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if number != 0.0 && !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Scalar) {
        assert_eq!(resolve(ScalarTag::Plain, text), Ok(expected), "{text:?}");
    }

    #[test]
    fn what_kubectl_prints_without_quotes_is_text() {
        // Each was printed so by kubectl 1.35 as the value of a label or an annotation.
        for text in [
            "1234e567",
            "1.2.3",
            "1-28-2",
            "0x",
            "0xg",
            "0o",
            "0o8",
            "0b2",
            "1e",
            "e1",
            "1e+",
            "+",
            "-",
            "--",
            "=",
            "a=b",
            "_1",
            "_",
            ".",
            "..",
            ".e1",
            ".5.5",
            "1_000e99999",
            "-1234e567",
            "nUll",
            "tRue",
            "yEs",
            "oN",
            ".iNf",
            ".infinity",
            "inf",
            "nan",
            "NaN",
            "0x1p4",
            "1e5f",
            "2024-01-01-rc1",
            "12:30:45:99",
            "08:x",
            "0b",
            "-0b",
            "0b+",
            "1,5",
            "１２",
            "٣",
        ] {
            check(text, Scalar::Text(text.to_owned()));
        }
    }

    #[test]
    fn numbers_are_those_of_go() {
        for (text, number) in [
            ("0", 0),
            ("00", 0),
            ("017", 15),
            ("0o17", 15),
            ("0O17", 15),
            ("0x1F", 31),
            ("0X1f", 31),
            ("0b101", 5),
            ("1_000", 1000),
            ("-1_0", -10),
            ("+5", 5),
            ("-0x10", -16),
            ("0_7", 7),
            ("0b+1", 1),
            ("0b-1", -1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            check(text, Scalar::Int(number));
        }
        check("18446744073709551615", Scalar::Unsigned(u64::MAX));
        for (text, number) in [
            ("1e3", 1e3),
            ("1.5", 1.5),
            (".5", 0.5),
            ("1.", 1.0),
            ("1.e2", 100.0),
            ("08", 8.0),
            ("09.5", 9.5),
            ("-1E-2", -0.01),
            ("1_0.5", 10.5),
            ("18446744073709551616", 18446744073709551616.0),
            ("+18446744073709551615", 18446744073709551615.0),
            ("1e-999", 0.0),
        ] {
            check(text, Scalar::Float(number));
        }
    }

    #[test]
    fn truths_and_nothing_are_those_of_yaml_1_1() {
        for text in ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"] {
            check(text, Scalar::Bool(true));
        }
        for text in ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"] {
            check(text, Scalar::Bool(false));
        }
        for text in ["", "~", "null", "Null", "NULL"] {
            check(text, Scalar::Null);
        }
    }

    #[test]
    fn dates_and_numbers_of_base_sixty_stay_text() {
        for text in ["2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01 10:00:00", "1:30", "190:20:30", "1:30.5"] {
            check(text, Scalar::Text(text.to_owned()));
        }
    }

    #[test]
    fn a_tag_is_stronger_than_the_look() {
        let text = |text: &str| Ok(Scalar::Text(text.to_owned()));
        assert_eq!(resolve(ScalarTag::Core("str"), "123"), text("123"));
        assert_eq!(resolve(ScalarTag::Quoted, "yes"), text("yes"));
        assert_eq!(resolve(ScalarTag::Own, "123"), text("123"));
        assert_eq!(resolve(ScalarTag::Core("float"), "1"), Ok(Scalar::Float(1.0)));
        assert_eq!(resolve(ScalarTag::Core("binary"), "aGVs\nbG8="), text("hello"));
        assert_eq!(resolve(ScalarTag::Core("timestamp"), "2024-01-01"), text("2024-01-01"));
        for (tag, text) in [("int", "abc"), ("int", "1.5"), ("bool", "1"), ("null", "x"), ("binary", "%")] {
            assert!(resolve(ScalarTag::Core(tag), text).is_err(), "!!{tag} {text}");
        }
    }

    #[test]
    fn whole_numbers_fit_fields_of_integers_and_infinity_fits_none() {
        let value = |text: &str| resolve(ScalarTag::Plain, text).and_then(Scalar::into_value);
        assert_eq!(value("1e3").map(|value| value.to_string()), Ok("1000".to_owned()));
        assert_eq!(value("1.5").map(|value| value.to_string()), Ok("1.5".to_owned()));
        assert!(value(".inf").is_err() && value(".nan").is_err());
    }

    #[test]
    fn keys_are_text() {
        let key = |text: &str| resolve(ScalarTag::Plain, text).ok().and_then(Scalar::into_key);
        for (text, expected) in [
            ("yes", "true"),
            ("0x1F", "31"),
            ("1.5", "1.5"),
            ("1e3", "1000"),
            ("1e6", "1e+06"),
            ("1234567.5", "1.2345675e+06"),
            ("0.00001", "1e-05"),
            (".inf", ".inf"),
            ("a", "a"),
        ] {
            assert_eq!(key(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(key("~"), None);
    }
}
