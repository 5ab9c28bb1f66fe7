//! What a task has promoted and its store on disk has not seen yet.
//!
//! Most keys of a busy task change in every transaction: written to disk each time they would cost
//! more than everything else that happens to a record. So promotes are held in memory, where a later
//! one overwrites an earlier, and written as one when they are many.
//!
//! Invariants: the store below changes only by whole promotes, each with the checkpoint of the last
//! one in it, so it stands at a state that the task once committed; what is held is committed, and is
//! in the changelog: dropped unwritten it is read again from there. Not synchronised, no clock.

use std::{cell::RefCell, collections::BTreeMap};

use super::{Change, Checkpoint, Layer, Pairs, StoreError, TaskStore, floors::Floors, promote};

/// What a key costs beside its own bytes and its value's, in a tree of both.
const ENTRY: usize = 96;

/// A store under what was not written to it yet. See the module.
pub struct Held {
    store: Box<dyn TaskStore>,
    /// Bytes that may be held; 0: every promote is written at once.
    most: usize,
    writes: Layer,
    bytes: usize,
    checkpoint: Option<Checkpoint>,
    floors: RefCell<Floors>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("bytes", &self.bytes).field("most", &self.most).finish()
    }
}

impl Held {
    /// Over a restored store; about `most` bytes are held.
    #[must_use]
    pub fn new(store: Box<dyn TaskStore>, most: usize) -> Self {
        Self {
            store,
            most,
            writes: Layer::default(),
            bytes: 0,
            checkpoint: None,
            floors: RefCell::default(),
        }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.get(key) {
            Some(held) => Ok(held.clone()),
            None => self.store.get(key),
        }
    }

    /// As [`TaskStore::scan`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        let above = self.writes.range(prefix, from, limit);
        let deletes = above.iter().filter(|(_, value)| value.is_none()).count();
        let stored = self.stored(prefix, from, limit.saturating_add(deletes))?;
        Ok(if above.is_empty() { stored } else { merge(stored, above, limit) })
    }

    /// Takes over what a commit made true, see [`TaskStore::promote`]; `writes` is left empty.
    ///
    /// # Errors
    /// [`StoreError`]; then drop the store and open it anew.
    pub fn promote(
        &mut self,
        writes: &mut Layer,
        checkpoint: &Checkpoint,
    ) -> Result<(), StoreError> {
        if self.most == 0 {
            return self.write(&writes.take(), checkpoint);
        }
        let size = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        for (key, value) in writes.drain() {
            let (length, new) = (key.len(), size(&value));
            match self.writes.insert(key, value) {
                Some(old) => self.bytes = self.bytes.saturating_sub(size(&old)) + new,
                None => self.bytes += ENTRY + length + new,
            }
        }
        self.checkpoint = Some(checkpoint.clone());
        if self.bytes >= self.most { self.flush() } else { Ok(()) }
    }

    /// Writes what is held.
    ///
    /// # Errors
    /// [`StoreError`]; then drop the store and open it anew.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if let Some(checkpoint) = self.checkpoint.take() {
            let writes = self.writes.take();
            self.bytes = 0;
            self.write(&writes, &checkpoint)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        checkpoint: &Checkpoint,
    ) -> Result<(), StoreError> {
        let floors = self.floors.get_mut();
        for (key, _) in writes.iter().filter(|(_, value)| value.is_some()) {
            floors.lower(key);
        }
        promote(&mut *self.store, writes, checkpoint)
    }

    /// What the store lists, its front passed over.
    fn stored(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        if from > prefix || limit == 0 {
            return self.store.scan(prefix, from, limit);
        }
        let mut floors = self.floors.borrow_mut();
        let Some(begin) = floors.begin(prefix) else { return Ok(Pairs::new()) };
        let found = self.store.scan(prefix, begin, limit)?;
        floors.learn(prefix, found.first().map(|(key, _)| key.as_slice()));
        Ok(found)
    }
}

/// Two lists in order of keys as one; where both have a key, the one above counts.
fn merge(stored: Pairs, above: Vec<Change<'_>>, limit: usize) -> Pairs {
    let mut merged = Pairs::new();
    let mut below = stored.into_iter().peekable();
    let mut above = above.into_iter().peekable();
    while merged.len() < limit {
        let take_below = match (below.peek(), above.peek()) {
            (Some((old, _)), Some((new, _))) => old.as_slice() < *new,
            (below, _) => below.is_some(),
        };
        if take_below {
            merged.extend(below.next());
            continue;
        }
        let Some((key, value)) = above.next() else { break };
        below.next_if(|(old, _)| old == key);
        merged.extend(value.map(|value| (key.to_vec(), value.clone())));
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use semel_schemas::{
        time::WallTime,
        topic::{NextOffset, TopicId},
    };

    use super::{super::MemStore, *};

    fn checkpoint(next: u64) -> Checkpoint {
        Checkpoint {
            changelog_next: NextOffset(next),
            topic_id: TopicId("t".into()),
            promoted_at: WallTime(next),
        }
    }

    fn writes(changes: &[(u8, Option<u8>)]) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        changes
            .iter()
            .map(|(key, value)| (vec![key >> 4, key & 15], value.map(|v| vec![v])))
            .collect()
    }

    fn layer(changes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Layer {
        let mut layer = Layer::default();
        for (key, value) in changes {
            layer.insert(key.clone(), value.clone());
        }
        layer
    }

    proptest! {
        /// Whatever is held, reads are those of a store to which every promote was written; and what
        /// is below stands at one of the promotes, whole.
        #[test]
        fn what_is_held_reads_as_if_it_were_written(
            promotes in prop::collection::vec(
                prop::collection::vec((0u8..64, prop::option::weighted(0.6, any::<u8>())), 0..12), 1..20),
            most in prop::sample::select(vec![0usize, 1, 300, 900, 1 << 20]),
            prefix in prop::option::of(0u8..4), from in 0u8..64, limit in 0usize..9,
        ) {
            let mut plain = MemStore::new();
            let mut held = Held::new(Box::new(MemStore::new()), most);
            let mut states = vec![(None, Pairs::new())];
            for (number, changes) in promotes.iter().enumerate() {
                let (changes, checkpoint) = (writes(changes), checkpoint(number as u64 + 1));
                plain.promote(&changes, &checkpoint).unwrap();
                let mut given = layer(&changes);
                held.promote(&mut given, &checkpoint).unwrap();
                prop_assert!(given.is_empty());
                states.push((Some(checkpoint), plain.scan(&[], &[], 999).unwrap()));
                for key in 0..64u8 {
                    let key = [key >> 4, key & 15];
                    prop_assert_eq!(held.get(&key).unwrap(), plain.get(&key).unwrap());
                }
                let prefix: Vec<u8> = prefix.into_iter().collect();
                let from = [from >> 4, from & 15];
                for prefix in [vec![], vec![0], vec![1], prefix.clone(), vec![0, 0]] {
                    prop_assert_eq!(
                        held.scan(&prefix, &[], limit).unwrap(),
                        plain.scan(&prefix, &[], limit).unwrap()
                    );
                }
                prop_assert_eq!(
                    held.scan(&prefix, &from, limit).unwrap(),
                    plain.scan(&prefix, &from, limit).unwrap()
                );
                let below = (held.store.checkpoint().unwrap(), held.store.scan(&[], &[], 999).unwrap());
                prop_assert!(states.contains(&below));
                prop_assert!(most > 0 || Some(&below) == states.last());
            }
            held.flush().unwrap();
            let below = (held.store.checkpoint().unwrap(), held.store.scan(&[], &[], 999).unwrap());
            prop_assert_eq!(Some(&below), states.last());
        }
    }

    #[test]
    fn no_more_is_held_than_was_said() {
        let mut held = Held::new(Box::new(MemStore::new()), 4_000);
        let promote = |held: &mut Held, number: u64, key: Vec<u8>| {
            let mut changes = Layer::default();
            changes.insert(key, Some(vec![0; 32]));
            held.promote(&mut changes, &checkpoint(number)).unwrap();
        };
        for number in 0..10_000u64 {
            promote(&mut held, number, number.to_be_bytes().to_vec());
            assert!(held.bytes <= 4_000 + ENTRY + 40, "{held:?}");
            assert_eq!(held.bytes, held.writes.len() * (ENTRY + 40));
        }
        // The same key again and again is held once.
        for number in 0..10_000u64 {
            promote(&mut held, number, vec![1]);
        }
        assert!(held.writes.len() < 40);
    }

    /// A store that notes where listings begin.
    #[derive(Default)]
    struct Noting(MemStore, Arc<Mutex<Vec<Vec<u8>>>>);

    impl TaskStore for Noting {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.0.get(key)
        }
        fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Pairs, StoreError> {
            self.1.lock().unwrap().push(prefix.max(from).to_vec());
            self.0.scan(prefix, from, limit)
        }
        fn promote(
            &mut self,
            writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
            meta: &Checkpoint,
        ) -> Result<(), StoreError> {
            self.0.promote(writes, meta)
        }
        fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
            self.0.checkpoint()
        }
        fn wipe(&mut self) -> Result<(), StoreError> {
            self.0.wipe()
        }
    }

    /// A store on disk passes over a mark for each key that is gone, and there may be millions.
    #[test]
    fn what_was_taken_from_the_front_is_not_listed_again() {
        let store = Noting::default();
        let begun = store.1.clone();
        let mut held = Held::new(Box::new(store), 0);
        let key = |number: u8| [b"q\0".as_slice(), &[number]].concat();
        let promote = |held: &mut Held, number: u8, value: Option<Vec<u8>>| {
            let mut changes = Layer::default();
            changes.insert(key(number), value);
            held.promote(&mut changes, &checkpoint(1)).unwrap();
        };
        (10..20).for_each(|number| promote(&mut held, number, Some(vec![number])));
        for number in 10..20 {
            assert_eq!(held.scan(b"q\0", &[], 1).unwrap(), [(key(number), vec![number])]);
            promote(&mut held, number, None);
        }
        let wanted: Vec<_> = std::iter::once(b"q\0".to_vec()).chain((10..19).map(key)).collect();
        assert_eq!(*begun.lock().unwrap(), wanted);
        assert_eq!(held.scan(b"q\0", &[], 1).unwrap(), []);
        // What comes before the front is found, and an empty front is not looked for.
        assert_eq!(held.scan(b"q\0", &[], 1).unwrap(), []);
        promote(&mut held, 3, Some(vec![3]));
        assert_eq!(held.scan(b"q\0", &[], 9).unwrap(), [(key(3), vec![3])]);
        assert_eq!(begun.lock().unwrap().split_off(10), [key(19), key(3)]);
    }
}
