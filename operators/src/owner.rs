//! To which record key an operator's state belongs: what moves when a topic gets another number of
//! partitions.
//!
//! Lives here: the question and the answers; each operator gives its own ([`Operator::owner`]).
//! Invariant: an answer is read from what the state holds, never guessed; what cannot tell its key
//! is [`Owner::Unknown`], and a stage that holds such a thing keeps its partitions.
//!
//! [`Operator::owner`]: crate::operator::Operator::owner

use crate::operator::TimerKey;

/// A part of an operator's state.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// A pair of one of its stores.
    Pair {
        /// The store.
        store: &'a str,
        /// Key.
        key: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// A timer that it set.
    Timer {
        /// Its name.
        key: &'a TimerKey,
        /// What it carries.
        payload: &'a [u8],
    },
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// That of the records with this key.
    Key(Vec<u8>),
    /// That of the records whose key has this `semel_schemas::partition::hash_of_key`.
    Hash(u32),
    /// That of the owner of this pair, which must be there.
    Like {
        /// The store, one of the same operator.
        store: &'static str,
        /// Key.
        key: Vec<u8>,
    },
    /// It cannot be told.
    Unknown,
}
