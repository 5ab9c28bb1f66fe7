//! Progress: how far a source has come. Event time is made of nothing else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{Slot, WallTime};

/// Type name of [`Progress`].
pub const PROGRESS: &str = "progress";

/// "Everything up to `complete` has been written before this record; everything up to `finalized`
/// will never be retracted." Written to every partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Who says so: a source's name, or `stage/partition` for a stage that passes it on.
    pub source: String,
    /// Complete up to and including this slot.
    pub complete: Slot,
    /// Finalized up to and including this slot (at most `complete`).
    pub finalized: Slot,
    /// Chain time of slot `complete`, milliseconds since 1970; 0 if unknown.
    #[serde(default)]
    pub at: WallTime,
}
