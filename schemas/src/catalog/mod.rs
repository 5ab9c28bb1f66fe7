//! The catalog: every record type by name and version, with its JSON Schema and its exact bytes.
//!
//! Lives here: the list, and what can be done with a type that is known by name only. May not live
//! here: the types themselves. Invariants: a name is never given to another shape; what
//! `schemas/json/` publishes is made from this list (its test compares); what `schemas/golden/`
//! holds was written once by a released version and is read and written back to the same bytes
//! for ever.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    alert::{ALERT, Alert},
    batched::{RECORDS, Records},
    claim::{
        BATCH, Batch, CLAIM, CLAIM_RETRACTED, CLAIM_STATE, Claim, ClaimRetracted, ClaimState,
        EPOCH_CLOSED, EpochClosed, ROOT, RootRecord, SETTLEMENT, Settlement,
    },
    codec,
    effect::{ROOT_OBSERVED, SolanaFact, UNDECODABLE},
    fault::{FAULT, Fault},
    progress::{PROGRESS, Progress},
    request::{COMMAND, Command, PUBLISH, Publish, QUARANTINE, Quarantine, RESUME, Resume},
    sign::{SIGN_INTENT, SIGNED, SignIntent, Signed},
    verdict::{DUPLICATE, Duplicate, VERDICT, Verdict},
};

/// One type of the catalog.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name: the `semel-type` header.
    pub name: &'static str,
    /// Its version, `major.minor`: the `semel-version` header.
    pub version: &'static str,
    /// Of a union, the one variant that a record of this name may hold: tag field and value.
    variant: Option<(&'static str, &'static str)>,
    schema: fn(&mut SchemaGenerator) -> Schema,
    rewrite: fn(&str, &[u8]) -> Result<Vec<u8>, Fault>,
}

/// Every type that this build reads and writes as a record's value.
pub const ENTRIES: &[Entry] = &[
    Entry::of::<Alert>(ALERT),
    Entry::of::<Batch>(BATCH),
    Entry::of::<Claim>(CLAIM),
    Entry::of::<ClaimRetracted>(CLAIM_RETRACTED),
    Entry::of::<ClaimState>(CLAIM_STATE),
    Entry::of::<Duplicate>(DUPLICATE),
    Entry::of::<EpochClosed>(EPOCH_CLOSED),
    Entry::of::<Progress>(PROGRESS),
    Entry::of::<Records>(RECORDS),
    Entry::of::<RootRecord>(ROOT),
    Entry::of::<SolanaFact>(ROOT_OBSERVED).only("fact", "root_set"),
    Entry::of::<Command>(COMMAND),
    Entry::of::<Fault>(FAULT),
    Entry::of::<Publish>(PUBLISH),
    Entry::of::<Quarantine>(QUARANTINE),
    Entry::of::<Resume>(RESUME),
    Entry::of::<Settlement>(SETTLEMENT),
    Entry::of::<SignIntent>(SIGN_INTENT),
    Entry::of::<Signed>(SIGNED),
    Entry::of::<SolanaFact>(UNDECODABLE).only("fact", "undecodable"),
    Entry::of::<Verdict>(VERDICT),
];

/// The entry of a type name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

impl Entry {
    const fn of<T: JsonSchema + Serialize + DeserializeOwned>(name: &'static str) -> Self {
        Self {
            name,
            version: codec::VERSION,
            variant: None,
            schema: SchemaGenerator::root_schema_for::<T>,
            rewrite: rewrite::<T>,
        }
    }

    const fn only(mut self, tag: &'static str, value: &'static str) -> Self {
        self.variant = Some((tag, value));
        self
    }

    /// The JSON Schema (draft 2020-12) of what may be written under this name: what readers need is required.
    #[must_use]
    pub fn schema(&self) -> Value {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let mut schema: Map<_, _> = match (self.schema)(&mut generator).to_value() {
            Value::Object(fields) => fields,
            other => Map::from_iter([("allOf".to_owned(), Value::Array(vec![other]))]),
        };
        if let Some(variant) = self.variant {
            keep_variant(&mut schema, variant);
            drop_unused_definitions(&mut schema);
        }
        schema.insert("title".to_owned(), self.name.into());
        schema.insert("$id".to_owned(), format!("semel:{}:{}", self.name, self.version).into());
        sorted(Value::Object(schema))
    }

    /// Reads a value of this type and writes it again as this build does.
    ///
    /// # Errors
    /// As [`codec::decode`]; [`crate::fault::FaultCode::WrongType`] for another variant of a union.
    pub fn rewrite(&self, value: &[u8]) -> Result<Vec<u8>, Fault> {
        let written = (self.rewrite)(self.name, value)?;
        if let Some((tag, wanted)) = self.variant {
            let fields: Value = codec::decode(self.name, &written)?;
            if fields[tag] != wanted {
                let text = format!("the value is no `{}`: `{tag}` must be `{wanted}`", self.name);
                return Err(Fault::new(crate::fault::FaultCode::WrongType, text));
            }
        }
        Ok(written)
    }
}

fn rewrite<T: Serialize + DeserializeOwned>(name: &str, value: &[u8]) -> Result<Vec<u8>, Fault> {
    codec::decode::<T>(name, value).map(|value| codec::encode(&value))
}

/// Leaves of a union's schema the one variant whose tag has this value.
fn keep_variant(schema: &mut Map<String, Value>, (tag, wanted): (&str, &str)) {
    let Some(Value::Array(mut variants)) = schema.remove("oneOf") else { return };
    variants.retain(|variant| variant["properties"][tag]["const"] == wanted);
    for variant in variants {
        if let Value::Object(fields) = variant {
            schema.extend(fields);
        }
    }
}

/// Drops definitions that nothing refers to any more; what they alone referred to goes too.
fn drop_unused_definitions(schema: &mut Map<String, Value>) {
    let Some(Value::Object(mut definitions)) = schema.remove("$defs") else { return };
    loop {
        let text = format!("{}{}", Value::Object(schema.clone()), Value::from(definitions.clone()));
        let before = definitions.len();
        definitions.retain(|name, _| text.contains(&format!("\"#/$defs/{name}\"")));
        if definitions.len() == before {
            break;
        }
    }
    schema.insert("$defs".to_owned(), Value::Object(definitions));
}

/// The same value, its fields in the order of their names: whether `serde_json` keeps another order
/// is up to whoever else is in the build.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.into_iter().collect();
            fields.into_iter().map(|(name, value)| (name, sorted(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
