//! Several records of one key as one record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Type name of [`Records`].
pub const RECORDS: &str = "records";

/// Records of one key in the order in which they came. Keyed as they were.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Records {
    /// The records, at least one.
    pub records: Vec<Batched>,
}

/// One record of a batch.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Batched {
    /// Its `semel-id`.
    pub id: String,
    /// Its value, to the byte.
    #[schemars(with = "serde_json::Value")]
    pub value: Box<RawValue>,
}
