//! Faults as data: a stable code, who is to blame, and what to do. Retries, quarantine, alerts and
//! documentation are driven by these, never by the text of a message.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Type name of a record whose value is a [`Fault`]: the dead letter of a timer or an outcome, which
/// have no record of their own.
pub const FAULT: &str = "semel.fault";

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The record is wrong.
    Input,
    /// Semel or its configuration is wrong.
    Us,
    /// A system outside did not do its part.
    Outside,
}

/// What the engine does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Trying again gives the same answer.
    Never,
    /// Try again, with back-off.
    Retry,
    /// Build the connection or the task anew, then try again.
    Rebuild,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $blame:ident, $then:ident;)*) => {
        /// The code of a fault. Codes are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum FaultCode { $($(#[$doc])* $name,)* }

        impl FaultCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as people see it: `SEM-` and four digits.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => concat!("SEM-", $number),)* }
            }

            /// Who has to change something.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $(Self::$name => Blame::$blame,)* }
            }

            /// What the engine does next.
            #[must_use]
            pub const fn then(self) -> Then {
                match self { $(Self::$name => Then::$then,)* }
            }
        }
    };
}

codes! {
    /// The value is not the JSON that its type asks for.
    Undecodable = "0001", Input, Never;
    /// A field is missing.
    MissingField = "0002", Input, Never;
    /// A field has another type or a value out of its range.
    WrongType = "0003", Input, Never;
    /// The record's schema version has an unknown major number.
    UnknownVersion = "0004", Input, Never;
    /// The record's type is not one that the stage reads.
    UnknownType = "0005", Input, Never;
    /// The record is larger than the limit of its topic.
    Oversized = "0006", Input, Never;
    /// The record has no key.
    EmptyKey = "0007", Input, Never;
    /// The value is null where the type knows no tombstones.
    UnexpectedTombstone = "0008", Input, Never;
    /// A source's progress went backwards.
    SlotBackwards = "0009", Input, Never;
    /// The record is older than the dedupe window: whether it is new cannot be known.
    TooOld = "0010", Input, Never;
    /// The record is late for its epoch and the stage's setting refuses late records.
    Late = "0011", Input, Never;
    /// The nonce was used before.
    NonceStale = "0012", Input, Never;
    /// The nonce is further ahead than the stage's limit.
    NonceTooFar = "0013", Input, Never;
    /// The nonce's gap was not filled in time.
    NonceGapExpired = "0014", Input, Never;
    /// The buffer of early nonces is full.
    NonceBufferFull = "0015", Input, Never;
    /// A retraction names a fact that is already final.
    RetractionOfFinal = "0016", Outside, Never;
    /// A retraction names a fact that was never seen.
    RetractionOfUnknown = "0017", Input, Never;
    /// The chain holds another root for this epoch.
    RootConflict = "0018", Outside, Never;
    /// A signature does not verify against the payload and key.
    BadSignature = "0019", Us, Never;
    /// The step would emit more than a transaction may hold.
    StepTooLarge = "0020", Us, Never;
    /// The processing of a record failed twice; it was found by halving.
    Poison = "0021", Us, Never;
    /// A command names something that is not there.
    UnknownTarget = "0022", Input, Never;
    /// An amount or sum exceeds its field.
    Overflow = "0023", Input, Never;
    /// The waiting records of a quarantined key exceed their limit.
    QuarantineFull = "0024", Input, Retry;
    /// The clock jumped further than `max_clock_jump`.
    ClockJump = "0025", Us, Retry;
    /// A source's next block does not follow its cursor.
    Discontinuity = "0030", Outside, Never;
    /// The chain already holds a newer epoch in the root's place: it can no longer be published.
    RootExpired = "0031", Outside, Never;
    /// A root was tried as often as the settings allow, or cannot be published at all.
    SettlementFailed = "0032", Outside, Never;
    /// An intent id came again with another payload.
    IntentMismatch = "0033", Input, Never;
    /// An id has more duplicates than can be kept until it is final.
    DuplicatesFull = "0026", Input, Never;
    /// An id that must be unique is in use by another fact.
    DuplicateId = "0027", Input, Never;
    /// A chunk of a batch does not follow the one before it.
    BatchGap = "0028", Us, Never;
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// One fault: the code, and one sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("{code}: {text}")]
pub struct Fault {
    /// Stable code.
    pub code: FaultCode,
    /// One sentence: what is wrong, where, what to do.
    pub text: String,
}

impl Fault {
    /// A fault with its sentence.
    pub fn new(code: FaultCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::FaultCode;

    #[test]
    fn codes_are_distinct() {
        let texts: BTreeSet<_> = FaultCode::ALL.iter().map(|c| c.text()).collect();
        assert_eq!(texts.len(), FaultCode::ALL.len());
    }
}
