//! A [`TaskStore`] in memory, for the simulator, the driver and tests. What it lacks is only the
//! disk: its answers are those of the store on disk (one test suite holds both).

use std::collections::BTreeMap;

use super::{Checkpoint, Pairs, StoreError, TaskStore, check_keys};

/// A task's state in memory.
#[derive(Clone, Debug, Default)]
pub struct MemStore {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    checkpoint: Option<Checkpoint>,
}

impl MemStore {
    /// An empty store.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: BTreeMap::new(), checkpoint: None }
    }
}

impl TaskStore for MemStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.values.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        let start = prefix.max(from).to_vec();
        Ok(self
            .values
            .range(start..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn promote(
        &mut self,
        writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        meta: &Checkpoint,
    ) -> Result<(), StoreError> {
        check_keys(writes.keys())?;
        for (key, value) in writes {
            match value {
                Some(value) => self.values.insert(key.clone(), value.clone()),
                None => self.values.remove(key),
            };
        }
        self.checkpoint = Some(meta.clone());
        Ok(())
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.checkpoint.clone())
    }

    fn wipe(&mut self) -> Result<(), StoreError> {
        self.checkpoint = None;
        self.values.clear();
        Ok(())
    }
}
