//! A task's state as its operators see it: the local store, over it what this transaction wrote,
//! over that what this step wrote.
//!
//! Invariants: the local store changes only by [`Overlay::promote`], after a commit that is known
//! to have happened; a step that is rolled back leaves nothing behind. A local store that fails
//! breaks the overlay: reads answer "nothing" and [`Overlay::check`] tells, so that the cycle is
//! thrown away before anything of it is committed.

use std::{cell::RefCell, collections::BTreeMap};

use semel_operators::operator::StateView;
use semel_schemas::sabotage::{Sabotage, sabotaged};

use super::timers;
use crate::state::{Change, Checkpoint, Held, Layer, StoreError};

/// Writes by full key: `<store> 0x00 <key>`; `None` deletes. The form is the changelog's too.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// See the module.
pub struct Overlay {
    store: Held,
    transaction: Layer,
    step: Writes,
    broken: RefCell<Option<StoreError>>,
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("writes", &self.transaction.len()).finish_non_exhaustive()
    }
}

/// The full key of `key` in `store`.
#[must_use]
pub fn full_key(store: &str, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(store.len() + 1 + key.len());
    full.extend_from_slice(store.as_bytes());
    full.push(0);
    full.extend_from_slice(key);
    full
}

impl Overlay {
    /// An overlay with no writes over `store`.
    #[must_use]
    pub fn new(store: Held) -> Self {
        Self {
            store,
            transaction: Layer::default(),
            step: Writes::new(),
            broken: RefCell::new(None),
        }
    }

    /// Writes (or deletes) in the present step.
    pub fn write(&mut self, store: &str, key: &[u8], value: Option<Vec<u8>>) {
        self.step.insert(full_key(store, key), value);
    }

    /// Makes the step part of the transaction. What was written and deleted again within the
    /// transaction, and was not there before, leaves no trace: no tombstone either.
    pub fn keep_step(&mut self) {
        // One by one: `BTreeMap::append` builds the whole transaction anew, for each step.
        for (key, value) in std::mem::take(&mut self.step) {
            if value.is_none()
                && matches!(self.transaction.get(&key), Some(Some(_)))
                && self.note(self.store.get(&key)).is_none()
            {
                self.transaction.remove(&key);
            } else {
                self.transaction.insert(key, value);
            }
        }
    }

    /// What the present step wrote so far.
    #[must_use]
    pub fn step(&self) -> &Writes {
        &self.step
    }

    /// Forgets the step.
    pub fn forget_step(&mut self) {
        self.step.clear();
    }

    /// Forgets step and transaction.
    pub fn forget_transaction(&mut self) {
        self.step.clear();
        if sabotaged(Sabotage::LoseTimerOnAbort) {
            self.transaction.retain(|key, value| value.is_none() && timers::is_timer(key));
        } else {
            self.transaction.clear();
        }
    }

    /// What the transaction wrote so far.
    #[must_use]
    pub fn transaction(&self) -> &Layer {
        &self.transaction
    }

    /// Makes the committed transaction permanent, together with the changelog's offset.
    ///
    /// # Errors
    /// [`StoreError`] if the local store failed.
    pub fn promote(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.store.promote(&mut self.transaction, checkpoint)
    }

    /// Writes what the local store holds back, so that the next owner has less to restore.
    ///
    /// # Errors
    /// [`StoreError`] if the local store failed.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.store.flush()
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
        let full = full_key(store, key);
        if let Some(value) = self.step.get(&full).or_else(|| self.transaction.get(&full)) {
            return value.clone();
        }
        self.note(self.store.get(&full))
    }

    fn scan(
        &self,
        store: &str,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let full_prefix = full_key(store, prefix);
        let start = full_key(store, from.max(prefix));
        let mut merged: BTreeMap<&[u8], Option<&Vec<u8>>> = BTreeMap::new();
        let step = self.step.range(start.clone()..);
        let step: Vec<Change<'_>> = step
            .take_while(|(key, _)| key.starts_with(&full_prefix))
            .map(|(key, value)| (key.as_slice(), value.as_ref()))
            .collect();
        // No further than to the last key that can be in the answer, whatever the step deleted of
        // them: a transaction may be long.
        let deletes = step.iter().filter(|(_, value)| value.is_none()).count();
        let live = limit.saturating_add(deletes);
        merged.extend(self.transaction.range(&full_prefix, &start, live));
        merged.extend(step);
        let deletes = merged.values().filter(|value| value.is_none()).count();
        let wanted = limit.saturating_add(deletes);
        let stored = self.note(self.store.scan(&full_prefix, &start, wanted));
        for (key, value) in &stored {
            merged.entry(key).or_insert(Some(value));
        }
        // Beyond the last stored key nothing is known when the store was cut short by `wanted`,
        // but then at least `limit` live keys lie at or before it.
        let skip = store.len() + 1;
        merged
            .into_iter()
            .filter_map(|(key, value)| value.map(|v| (key[skip..].to_vec(), v.clone())))
            .take(limit)
            .collect()
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
        assert_eq!(overlay.transaction().in_order(), [(full_key("s", b"kept").as_slice(), None)]);
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
