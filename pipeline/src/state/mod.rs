//! The local state of tasks: ordered key–value stores whose content and changelog offset move
//! together.
//!
//! Lives here: the trait [`TaskStore`], what is kept beside the values ([`Checkpoint`]), an
//! in-memory store for the simulator and the driver, the store on disk, and what is held in memory
//! before it is written there. May not live here: what
//! keys and values mean (the engine's and the operators'), and the changelog itself (the log's).
//!
//! Invariants: a [`TaskStore::promote`] is seen whole or not at all, also after a crash, and with
//! it the changelog offset that it belongs to. A store may fall *behind* its changelog (nothing is
//! synced to disk: what is missing is read again from the changelog), but its values and its offset
//! never come apart.

mod floors;
mod held;
mod mem;
mod store;
mod table;

use std::collections::BTreeMap;

use semel_schemas::{
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
    topic::{NextOffset, TopicId},
};
use serde::{Deserialize, Serialize};

pub use self::{
    held::Held,
    mem::MemStore,
    store::{LocalStore, LocalTaskStore},
    table::Change,
};

/// The longest key, in bytes, that every store takes (the store on disk writes lengths of keys in
/// 16 bits, and puts the task's name before the key).
pub const KEY_MAX: usize = 60_000;

/// Takes over what a commit made true, see [`TaskStore::promote`].
///
/// # Errors
/// [`StoreError`].
pub(crate) fn promote(
    store: &mut dyn TaskStore,
    writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    checkpoint: &Checkpoint,
) -> Result<(), StoreError> {
    if sabotaged(Sabotage::ChangelogOffsetApart) {
        store.promote(&BTreeMap::new(), checkpoint)?;
    }
    store.promote(writes, checkpoint)
}

/// Keys with their values, in the order of the keys.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The committed state of one task: a changelog's content up to an offset.
///
/// Owned by one lane thread; nobody else writes to it. Keys are opaque bytes in lexicographic
/// order.
pub trait TaskStore: Send {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` keys that begin with `prefix` and are not less than `from` (a whole key, not
    /// what follows the prefix; empty: from the first), in order, with their values.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Pairs, StoreError>;

    /// Takes over what a commit made true: values (`None` removes the key) and the checkpoint, in
    /// one write.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was taken over, or nothing more can be: drop the store and open
    /// it anew.
    fn promote(
        &mut self,
        writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        meta: &Checkpoint,
    ) -> Result<(), StoreError>;

    /// The checkpoint of the last promote; `None` if there was none since the last wipe.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError>;

    /// Removes every key, and the checkpoint first: a wipe that a crash interrupts leaves a store
    /// without a checkpoint, which is wiped and restored in full at the next start.
    ///
    /// # Errors
    /// [`StoreError`]; call it again before using the store.
    fn wipe(&mut self) -> Result<(), StoreError>;
}

/// How far a store has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The changelog was applied up to here; reading goes on at this offset.
    pub changelog_next: NextOffset,
    /// The incarnation of the changelog topic that the offset belongs to (Kafka trap 28).
    pub topic_id: TopicId,
    /// Wall clock at the promote: a copy that is older than half of the changelog's tombstones'
    /// age is restored in full (Kafka trap 37).
    pub promoted_at: WallTime,
}

/// Why a store could not do what was asked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// Another process uses the data folder.
    #[error("{0}")]
    Locked(String),
    /// The disk failed, or what it holds cannot be read. The local state is only a copy: it may be
    /// thrown away and restored from the changelog.
    #[error("{0}")]
    Storage(String),
    /// Another lane of this process opened the task's store since.
    #[error(
        "the local state of task `{task}` belongs to another lane by now: drop what is uncommitted"
    )]
    Fenced {
        /// The task's name.
        task: String,
    },
    /// The key is too long for the store.
    #[error("a state key of {size} bytes exceeds the limit of {KEY_MAX} bytes: shorten the key")]
    KeyTooLong {
        /// Bytes of the key.
        size: usize,
    },
}

/// Refuses keys that not every store could hold.
fn check_keys<'a>(keys: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<(), StoreError> {
    match keys.into_iter().map(Vec::len).find(|size| *size > KEY_MAX) {
        Some(size) => Err(StoreError::KeyTooLong { size }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
