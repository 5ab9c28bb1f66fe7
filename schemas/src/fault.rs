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
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal, $blame:ident, $then:ident, $advice:literal;)*) => {
        /// The code of a fault. Codes are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum FaultCode { $($(#[doc = $doc])* $name,)* }

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

            /// What it means: one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_start(),)* }
            }

            /// What a person does about it.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

codes! {
    /// The value is not the JSON that its type asks for.
    Undecodable = "0001", Input, Never,
        "Mend the producer: the dead letter holds the bytes as they came, and `semel topics` names the topic's type, whose JSON Schema stands in schemas/json.";
    /// A field is missing.
    MissingField = "0002", Input, Never,
        "Mend the producer: the text names the field; the type's JSON Schema in schemas/json says which fields it must have.";
    /// A field has another type or a value out of its range.
    WrongType = "0003", Input, Never,
        "Mend the producer: the text names the field and what was expected; amounts are decimal digits in a string, slots and nonces whole numbers.";
    /// The record's schema version has an unknown major number.
    UnknownVersion = "0004", Input, Never,
        "Update Semel before the producer sends a new major version, or let the producer send the version that is known.";
    /// The record's type is not one that the stage reads.
    UnknownType = "0005", Input, Never,
        "Send the record to the topic that is meant for its type (header `semel-type`), or give the stage an `input_type` that takes it.";
    /// The record is larger than the limit of its topic.
    Oversized = "0006", Input, Never,
        "Send less in one record, or raise the topic's limit and the broker's `message.max.bytes` together.";
    /// The record has no key.
    EmptyKey = "0007", Input, Never,
        "Give the record a key: it decides the partition, and with it what is in order with what.";
    /// The value is null where the type knows no tombstones.
    UnexpectedTombstone = "0008", Input, Never,
        "Send a value; where a fact is to be taken back, send a retraction of its id.";
    /// A source's progress went backwards.
    SlotBackwards = "0009", Input, Never,
        "Look whether two sources write into one topic, or whether an endpoint lags behind; progress that was recorded stands.";
    /// The record is older than the dedupe window: whether it is new cannot be known.
    TooOld = "0010", Input, Never,
        "If it must still be taken, look into the tables whether it was, then send it under a new id; a larger `window_slots` remembers longer.";
    /// The record is late for its epoch and the stage's setting refuses late records.
    Late = "0011", Input, Never,
        "Set the operator's `late` to `next_epoch` to take late records into the next epoch, or wait longer before an epoch closes.";
    /// The nonce was used before.
    NonceStale = "0012", Input, Never,
        "Nothing, if it is a duplicate. Otherwise the sender counts wrongly: ask the stage for the nonce it waits for (`semel state get`).";
    /// The nonce is further ahead than the stage's limit.
    NonceTooFar = "0013", Input, Never,
        "Send the missing nonces first; the text names the first of them. `max_distance` of the operator is the limit.";
    /// The nonce's gap was not filled in time.
    NonceGapExpired = "0014", Input, Never,
        "Send the missing nonce, which the text names, and then this record again (`semel dlq replay`).";
    /// The buffer of early nonces is full.
    NonceBufferFull = "0015", Input, Never,
        "Send the missing nonce first, then this record again (`semel dlq replay`); `max_early` of the operator is the limit.";
    /// A retraction names a fact that is already final.
    RetractionOfFinal = "0016", Outside, Never,
        "The source took back what it had called final: find out which endpoint lied before anything else is published; the fact stands.";
    /// A retraction names a fact that was never seen.
    RetractionOfUnknown = "0017", Input, Never,
        "Look whether source and stage began at different places; nothing was undone, since nothing was known.";
    /// The chain holds another root for this epoch.
    RootConflict = "0018", Outside, Never,
        "Stop and compare: `semel audit roots` rebuilds the root from the rows. Somebody else published for this epoch, or the rows changed since.";
    /// A signature does not verify against the payload and key.
    BadSignature = "0019", Us, Never,
        "Look at the signer's key and the public key in the spec: they do not belong together. Nothing was sent.";
    /// The step would emit more than a transaction may hold.
    StepTooLarge = "0020", Us, Never,
        "Emit less per input: smaller batches, or `max_records` of the operator lowered.";
    /// The processing of a record failed twice; it was found by halving.
    Poison = "0021", Us, Never,
        "Please report it with the dead letter: an operator failed where it should have refused. `semel dlq replay` tries it again after an update.";
    /// A command names something that is not there.
    UnknownTarget = "0022", Input, Never,
        "Look at the names in the command: `semel topics` and `semel state list` show what there is.";
    /// An amount or sum exceeds its field.
    Overflow = "0023", Input, Never,
        "Mend the producer, or split the amount: a sum that does not fit is never cut.";
    /// The waiting records of a quarantined key exceed their limit.
    QuarantineFull = "0024", Input, Retry,
        "Decide about the key's first dead letter (`semel dlq list`, then `replay` or `drop`): the records behind it wait for it.";
    /// The clock jumped further than `max_clock_jump`.
    ClockJump = "0025", Us, Retry,
        "Mend the machine's clock (NTP). Wall-clock timers wait until it can be believed again.";
    /// A source's next block does not follow its cursor.
    Discontinuity = "0030", Outside, Never,
        "The endpoint left out or replaced blocks: let the source ask another endpoint; it goes on from its cursor.";
    /// The chain already holds a newer epoch in the root's place: it can no longer be published.
    RootExpired = "0031", Outside, Never,
        "The epoch's claims can no longer be published on chain; decide by hand how they are honoured.";
    /// A root was tried as often as the settings allow, or cannot be published at all.
    SettlementFailed = "0032", Outside, Never,
        "Read the text, mend the cause (funds of the payer, rights of the authority, the program's state), then `semel dlq replay`.";
    /// An intent id came again with another payload.
    IntentMismatch = "0033", Input, Never,
        "Two different requests bear one id: give the second an id of its own. The first stands.";
    /// An id has more duplicates than can be kept until it is final.
    DuplicatesFull = "0026", Input, Never,
        "Look at the producer that sends one id again and again, or raise `max_dropped` of the operator.";
    /// An id that must be unique is in use by another fact.
    DuplicateId = "0027", Input, Never,
        "Give the fact an id of its own; the first fact with this id stands.";
    /// A chunk of a batch does not follow the one before it.
    BatchGap = "0028", Us, Never,
        "Please report it with the dead letter: chunks are written and read in one order by Semel alone.";
    /// A file cannot be read on from where its source stands.
    FileStopped = "0034", Outside, Never,
        "Put the file that the source had read back in its place, or mend the line that the text names; then send `semel.resume` to the source's control topic.";
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
    fn each_code_says_what_it_means_and_what_to_do() {
        for code in FaultCode::ALL {
            for text in [code.meaning(), code.advice()] {
                assert!(
                    text.ends_with('.') && text.starts_with(char::is_uppercase),
                    "{code}: {text}"
                );
            }
        }
    }

    #[test]
    fn codes_are_distinct() {
        let texts: BTreeSet<_> = FaultCode::ALL.iter().map(|c| c.text()).collect();
        assert_eq!(texts.len(), FaultCode::ALL.len());
    }
}
