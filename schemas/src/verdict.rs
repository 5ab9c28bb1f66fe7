//! What an operator says about a record that it did not let through.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{fault::FaultCode, time::Slot};

/// Type name of [`Duplicate`].
pub const DUPLICATE: &str = "dedupe.duplicate";
/// Type name of [`Verdict`].
pub const VERDICT: &str = "verdict";

/// A record that bears an id which was already taken. Keyed as the record was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Duplicate {
    /// The `semel-id` of the record that was dropped.
    pub record_id: String,
    /// The values of its identity's fields.
    pub id: Vec<String>,
    /// The fact behind it, its parts joined by `:`.
    pub fact: String,
    /// Its slot.
    pub slot: Slot,
}

/// The answer to one record that had been accepted to wait. Keyed as the record was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The `semel-id` of the record that is answered.
    pub record_id: String,
    /// What became of it.
    pub status: VerdictStatus,
    /// Why, as a code.
    pub code: FaultCode,
    /// Why, as one sentence.
    pub text: String,
    /// The nonce that is missing, a decimal string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_nonce: Option<String>,
    /// The record's type.
    pub kind: String,
    /// The record's value, as it came.
    pub value: String,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictStatus {
    /// It was refused, and had no effect.
    Refused,
}
