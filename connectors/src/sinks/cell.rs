//! From a JSON value to a cell: the text that a column's SQL type reads back without loss.
//!
//! Lives here: the kinds of columns that a sink can write, and the conversion into each. May not
//! live here: SQL, records, the database.
//! Invariants: what does not fit is a fault with its code, never a rounded, cut or wrapped value;
//! a cell that was made here is accepted by its column (constraints of the table excepted).

use std::fmt;

use semel_schemas::fault::{Fault, FaultCode};
use serde_json::Value;
use time::OffsetDateTime;

use super::mapping::Form;

/// A cell: the text form of a value, or NULL.
pub(super) type Cell = Option<String>;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text of at most so many characters.
    Text(Option<u32>),
    /// A signed integer of so many bits: 16, 32 or 64.
    Int(u32),
    /// An exact decimal number; `None`: as long as one likes.
    Numeric(Option<Digits>),
    /// A floating-point number of 64 bits.
    Float,
    /// A truth value.
    Bool,
    /// A date and time without zone, meant as UTC.
    Timestamp,
    /// A point in time.
    TimestampTz,
    /// JSON.
    Json,
}

/// The digits of an exact decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    /// All of them.
    pub(super) precision: u32,
    /// Those behind the point.
    pub(super) scale: u32,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(None) => f.write_str("VARCHAR"),
            Self::Text(Some(max)) => write!(f, "VARCHAR({max})"),
            Self::Int(16) => f.write_str("SMALLINT"),
            Self::Int(32) => f.write_str("INT"),
            Self::Int(_) => f.write_str("BIGINT"),
            Self::Numeric(None) => f.write_str("NUMERIC"),
            Self::Numeric(Some(d)) => write!(f, "NUMERIC({},{})", d.precision, d.scale),
            Self::Float => f.write_str("DOUBLE PRECISION"),
            Self::Bool => f.write_str("BOOLEAN"),
            Self::Timestamp => f.write_str("TIMESTAMP"),
            Self::TimestampTz => f.write_str("TIMESTAMPTZ"),
            Self::Json => f.write_str("JSON"),
        }
    }
}

impl Kind {
    /// Whether values of a field read as `form` can stand in such a column; else what to change.
    pub(super) fn takes(self, form: Option<Form>) -> Result<(), &'static str> {
        match (self, form) {
            (Self::Timestamp | Self::TimestampTz, Some(Form::Ms | Form::Seconds))
            | (Self::Text(_), None | Some(Form::Hex | Form::Decimal))
            | (Self::Int(_) | Self::Numeric(_), None | Some(Form::Decimal))
            | (Self::Float | Self::Bool | Self::Json, None) => Ok(()),
            (Self::Timestamp | Self::TimestampTz, _) => {
                Err("a time needs `form = \"ms\"` or `form = \"seconds\"`")
            }
            (_, Some(Form::Ms | Form::Seconds)) => Err("a time needs a column of type TIMESTAMP"),
            (_, Some(Form::Hex)) => Err("hex digits need a column of type VARCHAR"),
            (_, Some(Form::Decimal)) => Err("a whole number needs NUMERIC, BIGINT or VARCHAR"),
        }
    }

    /// Whether every value of a column of kind `from` can stand in a column of this kind.
    pub(super) fn holds(self, from: Self) -> bool {
        match (self, from) {
            (Self::Int(to), Self::Int(from)) => to >= from,
            (Self::Text(None), Self::Text(_)) => true,
            (Self::Text(Some(to)), Self::Text(Some(from))) => to >= from,
            (Self::Numeric(None), Self::Numeric(_) | Self::Int(_)) => true,
            (to, from) => to == from,
        }
    }

    /// The cell of a value that is not null.
    ///
    /// # Errors
    /// [`FaultCode::WrongType`] or [`FaultCode::Overflow`]; the text is the part of a sentence
    /// that follows the column's name.
    pub(super) fn cell(self, value: &Value, form: Option<Form>) -> Result<String, Fault> {
        match (self, form) {
            (Self::Text(max), None) => text(value, max),
            (Self::Text(max), Some(Form::Hex)) => text(&hex(value)?.into(), max),
            (Self::Text(max), Some(Form::Decimal)) => text(&whole(value)?.into(), max),
            (Self::Int(bits), _) => integer(value, bits),
            (Self::Numeric(digits), _) => numeric(value, digits),
            (Self::Float, _) => value.as_f64().map(|v| v.to_string()).ok_or_else(|| {
                wrong(format!("is a floating-point number and the field holds {}", shown(value)))
            }),
            (Self::Bool, _) => match value {
                Value::Bool(true) => Ok("1".into()),
                Value::Bool(false) => Ok("0".into()),
                _ => Err(wrong(format!("is true or false and the field holds {}", shown(value)))),
            },
            (Self::Timestamp | Self::TimestampTz, form) => self.time(value, form),
            (Self::Json, _) if has_nul(value) => Err(nul()),
            (Self::Json, _) => Ok(value.to_string()),
            (Self::Text(_), Some(Form::Ms | Form::Seconds)) => {
                Err(wrong("holds text, and a time was asked for".into()))
            }
        }
    }

    fn time(self, value: &Value, form: Option<Form>) -> Result<String, Fault> {
        let count = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| {
            wrong(format!(
                "needs a count of {} since 1970, and the field holds {}",
                if form == Some(Form::Seconds) { "seconds" } else { "milliseconds" },
                shown(value)
            ))
        })?;
        let nanos_each = if form == Some(Form::Seconds) { 1_000_000_000 } else { 1_000_000 };
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(count) * nanos_each)
            .map_err(|_| {
                overflow(format!("ends with the year 9999, and the field holds {count}"))
            })?;
        let zone = if self == Self::TimestampTz { "+00" } else { "" };
        Ok(format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}{zone}",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        ))
    }
}

fn wrong(text: String) -> Fault {
    Fault::new(FaultCode::WrongType, text)
}

fn overflow(text: String) -> Fault {
    Fault::new(FaultCode::Overflow, text)
}

/// A value in a sentence, cut: a record may be large.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// PostgreSQL stores no NUL in any text.
fn nul() -> Fault {
    wrong("holds text, and a database stores no NUL character: take it out".into())
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(name, v)| name.contains('\0') || has_nul(v)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn text(value: &Value, max: Option<u32>) -> Result<String, Fault> {
    let Value::String(text) = value else {
        return Err(wrong(format!("holds text and the field holds {}", shown(value))));
    };
    let length = text.chars().count();
    match max {
        Some(max) if length > max as usize => {
            Err(overflow(format!("holds at most {max} characters and the field has {length}")))
        }
        _ if has_nul(value) => Err(nul()),
        _ => Ok(text.clone()),
    }
}

fn hex(value: &Value) -> Result<String, Fault> {
    let digits = value.as_str().map(|text| text.strip_prefix("0x").unwrap_or(text));
    match digits {
        Some(digits) if digits.len() % 2 == 0 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(digits.to_ascii_lowercase())
        }
        _ => Err(wrong(format!(
            "holds hex digits, two a byte, and the field holds {}",
            shown(value)
        ))),
    }
}

/// A whole number of any length in its one text form: no plus, no leading zeros, no `-0`.
fn whole(value: &Value) -> Result<String, Fault> {
    let text = match value {
        Value::Number(number) if !number.is_f64() => number.to_string(),
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.as_str()),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong(format!(
            "holds a whole number (a JSON integer or a decimal string) and the field holds {}",
            shown(value)
        )));
    }
    Ok(match digits.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => format!("{sign}{digits}"),
    })
}

fn integer(value: &Value, bits: u32) -> Result<String, Fault> {
    let text = whole(value)?;
    let max = i64::MAX >> (64 - bits);
    match text.parse::<i64>() {
        Ok(number) if (-max - 1..=max).contains(&number) => Ok(text),
        _ => {
            Err(overflow(format!("holds numbers up to {max} and the field holds {}", shown(value))))
        }
    }
}

fn numeric(value: &Value, digits: Option<Digits>) -> Result<String, Fault> {
    let (number, fraction) = match value.as_str().and_then(|text| text.split_once('.')) {
        Some((number, fraction))
            if !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit()) =>
        {
            let minus = number.starts_with('-') && number.bytes().all(|b| b"-0".contains(&b));
            let number = whole(&Value::from(number))?;
            (if minus { format!("-{number}") } else { number }, fraction)
        }
        _ => (whole(value)?, ""),
    };
    let Some(Digits { precision, scale }) = digits else {
        return Ok(if fraction.is_empty() { number } else { format!("{number}.{fraction}") });
    };
    let before = number.trim_start_matches('-').trim_start_matches('0').len();
    let behind = fraction.trim_end_matches('0').len();
    if before > precision.saturating_sub(scale) as usize || behind > scale as usize {
        return Err(overflow(format!(
            "holds {} digits before the point and {scale} behind it and the field holds {}",
            precision.saturating_sub(scale),
            shown(value)
        )));
    }
    let fraction = fraction.trim_end_matches('0');
    Ok(if fraction.is_empty() { number } else { format!("{number}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_fit_become_their_texts() {
        let money = Kind::Numeric(Some(Digits { precision: 20, scale: 0 }));
        let cents = Kind::Numeric(Some(Digits { precision: 5, scale: 2 }));
        let decimal = Some(Form::Decimal);
        for (kind, form, value, want) in [
            (Kind::Text(None), None, json!("a"), "a"),
            (Kind::Text(Some(2)), None, json!("äö"), "äö"),
            (Kind::Text(None), Some(Form::Hex), json!("0xAbCd"), "abcd"),
            (Kind::Text(None), decimal, json!("007"), "7"),
            (Kind::Int(64), None, json!(i64::MAX), "9223372036854775807"),
            (Kind::Int(64), None, json!("-9223372036854775808"), "-9223372036854775808"),
            (Kind::Int(32), None, json!(2_147_483_647), "2147483647"),
            (Kind::Int(16), None, json!(-32_768), "-32768"),
            (money, decimal, json!("18446744073709551615"), "18446744073709551615"),
            (money, None, json!(u64::MAX), "18446744073709551615"),
            (cents, None, json!("-0.50"), "-0.5"),
            (cents, None, json!("999.99"), "999.99"),
            (Kind::Numeric(None), None, json!("1.250"), "1.250"),
            (Kind::Float, None, json!(1.5), "1.5"),
            (Kind::Bool, None, json!(true), "1"),
            (Kind::Json, None, json!({"a": 1}), "{\"a\":1}"),
            (
                Kind::Timestamp,
                Some(Form::Ms),
                json!(1_763_424_000_123_u64),
                "2025-11-18 00:00:00.123",
            ),
            (Kind::Timestamp, Some(Form::Seconds), json!("951782400"), "2000-02-29 00:00:00.000"),
            (Kind::TimestampTz, Some(Form::Seconds), json!(0), "1970-01-01 00:00:00.000+00"),
        ] {
            assert_eq!(kind.cell(&value, form).unwrap(), want, "{kind} {value}");
        }
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        use FaultCode::{Overflow, WrongType};
        let money = Kind::Numeric(Some(Digits { precision: 20, scale: 0 }));
        let cents = Kind::Numeric(Some(Digits { precision: 5, scale: 2 }));
        for (kind, form, value, want) in [
            (Kind::Text(None), None, json!(1), WrongType),
            (Kind::Text(None), None, json!("a\0"), WrongType),
            (Kind::Json, None, json!({"a": "b\0"}), WrongType),
            (Kind::Text(Some(2)), None, json!("abc"), Overflow),
            (Kind::Text(None), Some(Form::Hex), json!("abc"), WrongType),
            (Kind::Text(None), Some(Form::Hex), json!("zz"), WrongType),
            (Kind::Int(64), None, json!(u64::MAX), Overflow),
            (Kind::Int(32), None, json!(2_147_483_648_u64), Overflow),
            (Kind::Int(32), None, json!(1.0), WrongType),
            (Kind::Int(32), None, json!("1e3"), WrongType),
            (Kind::Int(32), None, json!(""), WrongType),
            (money, None, json!("100000000000000000000"), Overflow),
            (money, None, json!(1.5), WrongType),
            (money, None, json!("1.5"), Overflow),
            (cents, None, json!("1000"), Overflow),
            (cents, None, json!("1."), WrongType),
            (Kind::Bool, None, json!(1), WrongType),
            (Kind::Float, None, json!("x"), WrongType),
            (Kind::Timestamp, Some(Form::Ms), json!(-1), WrongType),
            (Kind::Timestamp, Some(Form::Ms), json!(u64::MAX), Overflow),
        ] {
            assert_eq!(kind.cell(&value, form).unwrap_err().code, want, "{kind} {value}");
        }
    }

    #[test]
    fn a_column_takes_the_forms_that_it_can_hold() {
        for (kind, form, good) in [
            (Kind::Timestamp, None, false),
            (Kind::Timestamp, Some(Form::Ms), true),
            (Kind::Int(64), Some(Form::Seconds), false),
            (Kind::Int(64), Some(Form::Decimal), true),
            (Kind::Int(64), Some(Form::Hex), false),
            (Kind::Bool, Some(Form::Decimal), false),
            (Kind::Text(None), Some(Form::Hex), true),
        ] {
            assert_eq!(kind.takes(form).is_ok(), good, "{kind} {form:?}");
        }
        assert!(Kind::Int(64).holds(Kind::Int(32)) && !Kind::Int(32).holds(Kind::Int(64)));
    }
}
