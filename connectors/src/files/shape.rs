//! What makes a record of a JSON text: it is an object, of its type if the catalog knows that, with a
//! key, and with slot and time where the file has fields for them.

use std::{collections::BTreeMap, fmt};

use semel_schemas::{
    catalog,
    fault::{Fault, FaultCode},
    file::{BadLine, FilePlace, FileRecord},
    time::{Slot, WallTime},
};
use serde_json::value::RawValue;

use super::{ColumnKind, LocalFile, RECORD_BYTES_MAX};

type Fields<'a> = BTreeMap<String, &'a RawValue>;

impl LocalFile {
    /// A record, or why the text is none, with file and place.
    pub(super) fn record(&self, place: FilePlace, value: &str) -> Result<FileRecord, BadLine> {
        self.try_record(place, value).map_err(|fault| self.bad(place, &fault))
    }

    /// A fault of this place, told with file and place.
    pub(super) fn bad(&self, place: FilePlace, fault: &Fault) -> BadLine {
        let there = match place {
            FilePlace::Line { line, .. } => format!("line {line}"),
            FilePlace::Row { group, row } => format!("row {row} of row group {group}"),
        };
        let path = self.spec.path.display();
        let text = format!("file `{}` ({path}), {there}: {}", self.name, fault.text);
        BadLine { place, fault: Fault::new(fault.code, text) }
    }

    fn try_record(&self, place: FilePlace, value: &str) -> Result<FileRecord, Fault> {
        if value.len() > RECORD_BYTES_MAX {
            return Err(oversized(value.len()));
        }
        let fields: Fields<'_> = serde_json::from_str(value).map_err(|e| {
            Fault::new(FaultCode::Undecodable, format!("it is no JSON object: {e}"))
        })?;
        if let Some(entry) = catalog::find(&self.spec.kind) {
            entry.rewrite(value.as_bytes())?;
        }
        let key = text(&fields, &self.spec.key)?;
        if key.is_empty() {
            let text = format!("field `{}`, the key, is empty: fill it", self.spec.key);
            return Err(Fault::new(FaultCode::EmptyKey, text));
        }
        let number =
            |name: &Option<String>| name.as_ref().map(|name| whole(&fields, name)).transpose();
        let slot = number(&self.spec.slot)?.map(Slot);
        let at = number(&self.spec.time)?.map(WallTime);
        Ok(FileRecord { place, key, value: value.to_owned(), slot, at })
    }

    /// What a column's value becomes in JSON; none: no field.
    pub(super) fn cell(
        &self,
        name: &str,
        text: &str,
        otherwise: ColumnKind,
    ) -> Result<Option<String>, Fault> {
        let kind = self.spec.columns.get(name).copied().unwrap_or(otherwise);
        if kind == ColumnKind::Text {
            return Ok(Some(quoted(text)));
        }
        if text.is_empty() {
            return Ok(None);
        }
        let begins = text.as_bytes().first();
        let is_number = matches!(begins, Some(b'-' | b'0'..=b'9'));
        let (fits, what) = match kind {
            ColumnKind::Number => (is_number, "number"),
            ColumnKind::Boolean => (matches!(text, "true" | "false"), "`true` or `false`"),
            ColumnKind::Text | ColumnKind::Json => (true, "JSON"),
        };
        if fits && serde_json::from_str::<&RawValue>(text).is_ok() {
            return Ok(Some(text.to_owned()));
        }
        let text = format!("column `{name}` holds `{}`, which is no {what}", short(text));
        Err(Fault::new(FaultCode::WrongType, text))
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Too large for a topic.
pub(super) fn oversized(bytes: impl fmt::Display) -> Fault {
    let text = format!(
        "it has {bytes} bytes, and a record may have {RECORD_BYTES_MAX}: split it in the file"
    );
    Fault::new(FaultCode::Oversized, text)
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A field that is a text or a number, as text.
fn text(fields: &Fields<'_>, name: &str) -> Result<String, Fault> {
    let raw = fields.get(name).map_or("null", |raw| raw.get());
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw)
            .map_err(|e| Fault::new(FaultCode::Undecodable, format!("field `{name}`: {e}"))),
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => Ok(raw.to_owned()),
        Some(b'n') | None => {
            Err(Fault::new(FaultCode::MissingField, format!("field `{name}` is missing: add it")))
        }
        Some(_) => Err(Fault::new(
            FaultCode::WrongType,
            format!("field `{name}` must be a text or a number, not a list or an object"),
        )),
    }
}

/// A field that is a whole number, or one as text.
fn whole(fields: &Fields<'_>, name: &str) -> Result<u64, Fault> {
    let text = text(fields, name)?;
    text.parse().map_err(|_| {
        let text = format!("field `{name}` holds `{}`, which is no whole number", short(&text));
        Fault::new(FaultCode::WrongType, text)
    })
}
