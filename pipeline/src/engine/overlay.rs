//! A task's state as its operators see it: the local store, over it what this transaction wrote,
//! over that what this step wrote; by store and key.
//!
//! Invariants: the local store changes only by [`Overlay::promote`], after a commit that is known
//! to have happened; a step that is rolled back leaves nothing behind. A local store that fails
//! breaks the overlay: reads answer "nothing" and [`Overlay::check`] tells, so that the cycle is
//! thrown away before anything of it is committed.

use std::{cell::RefCell, collections::BTreeMap};

use semel_operators::operator::StateView;
pub use semel_operators::operator::full_key;
use semel_schemas::sabotage::{Sabotage, sabotaged};

use super::timers;
use crate::state::{Change, Checkpoint, Held, StoreError};

/// Writes by full key: `<store> 0x00 <key>`; `None` deletes. The form is the changelog's too.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// See the module.
pub struct Overlay {
    state: Held,
    /// Where a full key is put together to be looked up: reads are many, and ask for no memory.
    full: RefCell<Vec<u8>>,
    broken: RefCell<Option<StoreError>>,
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Overlay {
    /// An overlay with no writes over `state`.
    #[must_use]
    pub fn new(state: Held) -> Self {
        Self { state, full: RefCell::default(), broken: RefCell::new(None) }
    }

    /// Writes (or deletes) in the present step.
    pub fn write(&mut self, store: &str, key: &[u8], value: Option<Vec<u8>>) {
        self.state.write(full_key(store, key), value);
    }

    /// As [`Overlay::write`], by the full key.
    pub fn write_full(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.state.write(key, value);
    }

    /// Makes the step part of the transaction, see [`Held::keep_step`].
    pub fn keep_step(&mut self) {
        let kept = self.state.keep_step();
        self.note(kept);
    }

    /// What the present step wrote so far; a key that it wrote twice may come twice.
    pub fn step(&self) -> impl Iterator<Item = Change<'_>> {
        self.state.step()
    }

    /// Forgets the step.
    pub fn forget_step(&mut self) {
        self.state.forget_step();
    }

    /// Forgets step and transaction.
    pub fn forget_transaction(&mut self) {
        let lost = sabotaged(Sabotage::LoseTimerOnAbort);
        self.state
            .forget_transaction(|(key, value)| lost && value.is_none() && timers::is_timer(key));
    }

    /// What the transaction wrote so far, each key once, in the order of the first write.
    pub fn transaction(&self) -> impl Iterator<Item = Change<'_>> {
        self.state.transaction()
    }

    /// How many changes the transaction has.
    #[must_use]
    pub fn uncommitted(&self) -> usize {
        self.state.uncommitted()
    }

    /// Makes the committed transaction permanent, together with the changelog's offset.
    ///
    /// # Errors
    /// [`StoreError`] if the local store failed.
    pub fn promote(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.state.promote(checkpoint)
    }

    /// Writes what the local store holds back, so that the next owner has less to restore.
    ///
    /// # Errors
    /// [`StoreError`] if the local store failed.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.state.flush()
    }

    /// The failure that a read met, if any.
    ///
    /// # Errors
    /// [`StoreError`], the first one.
    pub fn check(&self) -> Result<(), StoreError> {
        self.broken.borrow().as_ref().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn note<T: Default>(&self, read: Result<T, StoreError>) -> T {
        read.unwrap_or_else(|error| {
            self.broken.borrow_mut().get_or_insert(error);
            T::default()
        })
    }
}

impl StateView for Overlay {
    fn get(&self, store: &str, key: &[u8]) -> Option<Vec<u8>> {
        let mut full = self.full.borrow_mut();
        full.clear();
        full.extend_from_slice(store.as_bytes());
        full.push(0);
        full.extend_from_slice(key);
        self.note(self.state.get(&full))
    }

    fn scan(
        &self,
        store: &str,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (prefix, start) = (full_key(store, prefix), full_key(store, from.max(prefix)));
        let mut found = self.note(self.state.scan(&prefix, &start, limit));
        for (key, _) in &mut found {
            key.drain(..=store.len());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemStore;

    fn put(overlay: &mut Overlay, key: &str, value: Option<&str>) {
        overlay.write("s", key.as_bytes(), value.map(|v| v.as_bytes().to_vec()));
    }

    fn promote(overlay: &mut Overlay) {
        overlay
            .promote(&Checkpoint {
                changelog_next: semel_schemas::topic::NextOffset(1),
                topic_id: semel_schemas::topic::TopicId("t".into()),
                promoted_at: semel_schemas::time::WallTime(0),
            })
            .unwrap();
    }

    fn keys(overlay: &Overlay, limit: usize) -> Vec<String> {
        let pairs = overlay.scan("s", b"", b"", limit);
        pairs.into_iter().map(|(k, _)| String::from_utf8(k).unwrap()).collect()
    }

    #[test]
    fn what_came_and_went_in_one_transaction_leaves_no_tombstone() {
        let mut overlay = Overlay::new(Held::new(Box::new(MemStore::default()), 0));
        put(&mut overlay, "kept", Some("1"));
        overlay.keep_step();
        promote(&mut overlay);
        for key in ["kept", "new"] {
            for value in [Some("2"), None] {
                put(&mut overlay, key, value);
                overlay.keep_step();
            }
        }
        let changes: Vec<_> = overlay.transaction().collect();
        assert_eq!(changes, [(full_key("s", b"kept").as_slice(), None)]);
        assert_eq!(overlay.uncommitted(), 1);
        assert_eq!(keys(&overlay, 9), [""; 0]);
        put(&mut overlay, "new", Some("3"));
        overlay.keep_step();
        assert_eq!(keys(&overlay, 9), ["new"]);
    }

    #[test]
    fn layers_hide_each_other_and_a_forgotten_step_leaves_nothing() {
        let mut overlay = Overlay::new(Held::new(Box::new(MemStore::default()), 0));
        for key in ["a", "b", "c", "d"] {
            put(&mut overlay, key, Some("1"));
        }
        overlay.keep_step();
        promote(&mut overlay);
        put(&mut overlay, "b", None);
        overlay.keep_step();
        put(&mut overlay, "bb", Some("2"));
        put(&mut overlay, "c", None);
        assert_eq!(keys(&overlay, 2), ["a", "bb"]);
        assert_eq!(keys(&overlay, 9), ["a", "bb", "d"]);
        overlay.forget_step();
        assert_eq!(keys(&overlay, 9), ["a", "c", "d"]);
        overlay.forget_transaction();
        assert_eq!(keys(&overlay, 9), ["a", "b", "c", "d"]);
        assert_eq!(overlay.get("s", b"b"), Some(b"1".to_vec()));
    }

    /// Keys 0 to 11, each layer `None` where it says nothing of the key.
    type Some12 = [Option<Option<u8>>; 12];

    fn fill(overlay: &mut Overlay, model: &mut BTreeMap<Vec<u8>, Vec<u8>>, layer: &Some12) {
        for (key, value) in (0..).zip(layer).filter_map(|(key, value)| Some((key, (*value)?))) {
            overlay.write("s", &[key], value.map(|value| vec![value]));
            match value {
                Some(value) => model.insert(vec![key], vec![value]),
                None => model.remove(&vec![key]),
            };
        }
    }

    proptest::proptest! {
        #[test]
        fn a_scan_is_that_of_one_map(
            layers in proptest::array::uniform3(proptest::prelude::any::<Some12>()),
            from in 0_u8..12,
            limit in 0_usize..14,
        ) {
            let mut overlay = Overlay::new(Held::new(Box::new(MemStore::default()), 0));
            let mut model = BTreeMap::new();
            fill(&mut overlay, &mut model, &layers[0]);
            overlay.keep_step();
            promote(&mut overlay);
            fill(&mut overlay, &mut model, &layers[1]);
            overlay.keep_step();
            fill(&mut overlay, &mut model, &layers[2]);
            let wanted: Vec<_> =
                model.into_iter().filter(|(key, _)| key[0] >= from).take(limit).collect();
            proptest::prop_assert_eq!(overlay.scan("s", b"", &[from], limit), wanted);
        }
    }
}
