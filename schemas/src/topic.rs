//! Names of places in the log: topics, partitions, offsets.
//!
//! Invariant: the offset that is *committed* is of another type ([`NextOffset`]) than the offset
//! of a record ([`Offset`]), so "last processed" can never be sent where "last processed + 1" is
//! due (Kafka trap 1).

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A topic's name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no topic name: use 1 to 249 of the characters a-z A-Z 0-9 . _ - (not `.` or `..`)"
)]
pub struct BadTopicName(pub String);

impl TopicName {
    /// Checks Kafka's rule for names: 1..=249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`.
    pub fn new(name: impl Into<String>) -> Result<Self, BadTopicName> {
        let name = name.into();
        let legal = (1..=249).contains(&name.len())
            && name != "."
            && name != ".."
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if legal { Ok(Self(name.into())) } else { Err(BadTopicName(name)) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TopicName {
    type Error = BadTopicName;
    fn try_from(name: String) -> Result<Self, BadTopicName> {
        Self::new(name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0.to_string()
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A partition's number within its topic, counted from 0.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Partition(pub u32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The offset of one record within its partition. Offsets have gaps (markers, compaction).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset to commit once this record is processed.
    #[must_use]
    pub fn next(self) -> NextOffset {
        NextOffset(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The offset at which reading goes on: one past the last processed record.
///
/// What takes it takes no record's offset (Kafka trap 1):
/// ```
/// # use semel_schemas::topic::{NextOffset, Offset};
/// # fn commit(_: NextOffset) {}
/// commit(Offset(7).next());
/// ```
/// ```compile_fail
/// # use semel_schemas::topic::{NextOffset, Offset};
/// # fn commit(_: NextOffset) {}
/// commit(Offset(7));
/// ```
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct NextOffset(pub u64);

impl NextOffset {
    /// The start of a partition that never lost a record.
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for NextOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of one incarnation of a topic. A recreated topic has the same name, other records
/// and another id (Kafka trap 28, KIP-516).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TopicId(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["a", "a.b-c_D9"] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
    }
}
