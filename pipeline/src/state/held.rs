//! What a task wrote and its store on disk has not seen yet: the open transaction, and commits that are
//! held back.
//!
//! Most keys of a busy task change in every transaction: written to disk each time they would cost
//! more than everything else that happens to a record. So promotes are held in memory, where a later
//! one overwrites an earlier, and written as one when they are many. The open transaction is in the same
//! table, above what is held, and a step in it is undone from a list of what it changed: a key is looked
//! up once for all three.
//!
//! Invariants: the store below changes only by whole promotes, each with the checkpoint of the last
//! one in it, so it stands at a state that the task once committed; what is held is committed, and is
//! in the changelog: dropped unwritten it is read again from there. A step or a transaction that is
//! forgotten leaves nothing behind. Changes are told in the order in which their keys were first
//! written. Not synchronised, no clock.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
};

use foldhash::quality::RandomState;

use super::{
    Change, Checkpoint, Pairs, StoreError, TaskStore,
    floors::Floors,
    promote,
    table::{Table, Written},
};

/// What a key costs beside its own bytes and its value's.
const ENTRY: usize = 96;

/// Bytes of values that are remembered as they were read from the store.
const READ_MAX: usize = 256 << 10;

/// A store under what was not written to it yet. See the module.
pub struct Held {
    store: Box<dyn TaskStore>,
    /// Bytes that may be held; 0: every promote is written at once.
    most: usize,
    table: Table,
    bytes: usize,
    /// Places of what the open transaction wrote, in the order of the first write; some of them may
    /// stand unwritten again.
    transaction: Vec<usize>,
    /// Changes in the open transaction.
    changes: usize,
    /// What the present step wrote over: place, and what the transaction had written there before.
    step: Vec<(usize, Written)>,
    checkpoint: Option<Checkpoint>,
    floors: RefCell<Floors>,
    /// Values as the store has them: what is read for every record and seldom written (settings of a
    /// whole task) would else be looked for on disk each time.
    read: RefCell<HashMap<Vec<u8>, Vec<u8>, RandomState>>,
    read_bytes: Cell<usize>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("bytes", &self.bytes)
            .field("most", &self.most)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

fn size(value: Option<&Option<Vec<u8>>>) -> usize {
    value.and_then(Option::as_ref).map_or(0, Vec::len)
}

impl Held {
    /// Over a restored store; about `most` bytes are held.
    #[must_use]
    pub fn new(store: Box<dyn TaskStore>, most: usize) -> Self {
        Self {
            store,
            most,
            table: Table::default(),
            bytes: 0,
            transaction: Vec::new(),
            changes: 0,
            step: Vec::new(),
            checkpoint: None,
            floors: RefCell::default(),
            read: RefCell::default(),
            read_bytes: Cell::new(0),
        }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.table.get(key).and_then(|entry| entry.last()) {
            Some(written) => Ok(written.clone()),
            None => self.read(key),
        }
    }

    /// The value of `key` in the store.
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(value) = self.read.borrow().get(key) {
            return Ok(Some(value.clone()));
        }
        let found = self.store.get(key)?;
        if let Some(value) = &found {
            let bytes = self.read_bytes.get() + ENTRY + key.len() + value.len();
            if bytes <= READ_MAX {
                self.read_bytes.set(bytes);
                self.read.borrow_mut().insert(key.to_vec(), value.clone());
            }
        }
        Ok(found)
    }

    /// As [`TaskStore::scan`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        let above = self.table.range(prefix, from, limit);
        let deletes = above.iter().filter(|(_, value)| value.is_none()).count();
        let stored = self.stored(prefix, from, limit.saturating_add(deletes))?;
        Ok(if above.is_empty() { stored } else { merge(stored, above, limit) })
    }

    /// Writes (or deletes) in the present step.
    pub fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let length = key.len();
        let (place, new) = self.table.place(key);
        if new {
            self.bytes += ENTRY + length;
        }
        let Some((_, entry)) = self.table.at_mut(place) else { return };
        let before = entry.open.replace(value);
        if !std::mem::replace(&mut entry.listed, true) {
            self.transaction.push(place);
        }
        self.changes += usize::from(before.is_none());
        self.step.push((place, before));
    }

    /// What the present step wrote so far; a key that it wrote twice may come twice.
    pub fn step(&self) -> impl Iterator<Item = Change<'_>> {
        self.step.iter().filter_map(|(place, _)| self.change(*place))
    }

    /// Makes the step part of the transaction. What was written and deleted again within the
    /// transaction, and was not there before, leaves no trace: no tombstone either.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn keep_step(&mut self) -> Result<(), StoreError> {
        let mut step = std::mem::take(&mut self.step);
        for (place, before) in step.drain(..) {
            let Some((key, entry)) = self.table.at_mut(place) else { continue };
            let came_and_went = matches!(before, Some(Some(_))) && matches!(entry.open, Some(None));
            if !came_and_went {
                continue;
            }
            let was_there = match &entry.held {
                Some(held) => held.is_some(),
                None => self.store.get(key)?.is_some(),
            };
            if !was_there {
                self.restore(place, None);
            }
        }
        self.step = step;
        Ok(())
    }

    /// Forgets the step.
    pub fn forget_step(&mut self) {
        let mut step = std::mem::take(&mut self.step);
        for (place, before) in step.drain(..).rev() {
            self.restore(place, before);
        }
        self.step = step;
    }

    /// Forgets step and transaction, but for the changes that `keep` says yes to.
    pub fn forget_transaction(&mut self, keep: impl Fn(Change<'_>) -> bool) {
        self.forget_step();
        for place in std::mem::take(&mut self.transaction) {
            if self.change(place).is_some_and(&keep) {
                self.transaction.push(place);
                continue;
            }
            self.restore(place, None);
            if let Some((_, entry)) = self.table.at_mut(place) {
                entry.listed = false;
            }
        }
    }

    /// The changes of the transaction, each key once.
    pub fn transaction(&self) -> impl Iterator<Item = Change<'_>> {
        self.transaction.iter().filter_map(|place| self.change(*place))
    }

    /// How many changes [`Held::transaction`] has.
    #[must_use]
    pub fn uncommitted(&self) -> usize {
        self.changes
    }

    fn change(&self, place: usize) -> Option<Change<'_>> {
        let (key, entry) = self.table.at(place)?;
        entry.open.as_ref().map(|value| (key, value.as_ref()))
    }

    /// Puts what the transaction had written at a place back.
    fn restore(&mut self, place: usize, before: Written) {
        let Some((_, entry)) = self.table.at_mut(place) else { return };
        let gone = before.is_none();
        let was = std::mem::replace(&mut entry.open, before);
        let unwritten = gone && entry.held.is_none();
        self.changes -= usize::from(was.is_some() && gone);
        if unwritten {
            self.table.hide(place);
        }
    }

    /// Makes the committed transaction permanent, see [`TaskStore::promote`].
    ///
    /// # Errors
    /// [`StoreError`]; then drop the store and open it anew.
    pub fn promote(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.step.clear();
        self.changes = 0;
        for place in self.transaction.drain(..) {
            let Some((_, entry)) = self.table.at_mut(place) else { continue };
            entry.listed = false;
            if let Some(value) = entry.open.take() {
                let new = value.as_ref().map_or(0, Vec::len);
                self.bytes = (self.bytes + new).saturating_sub(size(entry.held.as_ref()));
                entry.held = Some(value);
            }
        }
        self.checkpoint = Some(checkpoint.clone());
        if self.bytes >= self.most { self.flush() } else { Ok(()) }
    }

    /// Writes what is held, unless a transaction is open: then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`]; then drop the store and open it anew.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if !self.transaction.is_empty() {
            return Ok(());
        }
        let Some(checkpoint) = self.checkpoint.take() else { return Ok(()) };
        let writes: BTreeMap<_, _> = self.table.drain().collect();
        self.bytes = 0;
        self.read.get_mut().clear();
        self.read_bytes.set(0);
        let floors = self.floors.get_mut();
        for (key, _) in writes.iter().filter(|(_, value)| value.is_some()) {
            floors.lower(key);
        }
        promote(&mut *self.store, &writes, &checkpoint)
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

    /// What a task may do to its state. Keys are 0 to 63: four stores of 16.
    #[derive(Clone, Debug)]
    enum Do {
        Write(u8, Option<u8>),
        KeepStep,
        ForgetStep,
        ForgetTransaction,
        Promote,
        Flush,
        Scan(Vec<u8>, u8, usize),
    }

    fn key(key: u8) -> Vec<u8> {
        vec![b'a' + (key >> 4), 0, key & 15]
    }

    fn acts() -> impl Strategy<Value = Vec<Do>> {
        let scan =
            (prop::option::of(0u8..4), 0u8..64, 0usize..9).prop_map(|(store, from, limit)| {
                Do::Scan(store.map_or_else(Vec::new, |store| vec![b'a' + store, 0]), from, limit)
            });
        let value = || prop::option::weighted(0.6, any::<u8>());
        let act = prop_oneof![
            12 => (0u8..64, value()).prop_map(|(k, v)| Do::Write(k, v)),
            // Again and again the same few keys.
            6 => (0u8..4, value()).prop_map(|(k, v)| Do::Write(k, v)),
            4 => Just(Do::KeepStep),
            2 => Just(Do::ForgetStep),
            1 => Just(Do::ForgetTransaction),
            2 => Just(Do::Promote),
            1 => Just(Do::Flush),
            6 => scan,
        ];
        prop::collection::vec(act, 1..120)
    }

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn pairs<'a>(map: impl IntoIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Pairs {
        map.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The state of the task as three maps, each copied from the one before.
    #[derive(Default)]
    struct Model {
        committed: Map,
        transaction: Map,
        step: Map,
    }

    impl Model {
        /// What a listing must find.
        fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Pairs {
            let within = |key: &[u8]| key.starts_with(prefix) && key >= from;
            pairs(self.step.iter().filter(|(key, _)| within(key)).take(limit))
        }

        fn act(&mut self, held: &mut Held, act: &Do) -> Result<(), TestCaseError> {
            match act {
                Do::Write(at, value) => {
                    held.write(key(*at), value.map(|value| vec![value]));
                    match value {
                        Some(value) => self.step.insert(key(*at), vec![*value]),
                        None => self.step.remove(&key(*at)),
                    };
                }
                Do::KeepStep => {
                    held.keep_step().unwrap();
                    self.transaction = self.step.clone();
                }
                Do::ForgetStep => {
                    held.forget_step();
                    self.step = self.transaction.clone();
                }
                Do::ForgetTransaction => {
                    held.forget_transaction(|_| false);
                    prop_assert_eq!(held.transaction().count(), 0);
                    self.transaction = self.committed.clone();
                    self.step = self.committed.clone();
                }
                Do::Promote => {
                    held.keep_step().unwrap();
                    let mut led = self.committed.clone();
                    for (key, value) in held.transaction() {
                        match value {
                            Some(value) => led.insert(key.to_vec(), value.clone()),
                            None => led.remove(key),
                        };
                    }
                    prop_assert_eq!(&led, &self.step);
                    self.transaction = self.step.clone();
                    self.committed = self.step.clone();
                }
                Do::Flush => held.flush().unwrap(),
                Do::Scan(prefix, from, limit) => {
                    let from = key(*from).max(prefix.clone());
                    prop_assert_eq!(
                        held.scan(prefix, &from, *limit).unwrap(),
                        self.scan(prefix, &from, *limit)
                    );
                    prop_assert_eq!(
                        held.scan(prefix, &[], *limit).unwrap(),
                        self.scan(prefix, &[], *limit)
                    );
                }
            }
            Ok(())
        }
    }

    proptest! {
        /// Maps that are copied say what must be read; the changes of a transaction lead from what was
        /// committed to what it left; and what is below stands at one of the commits, whole.
        #[test]
        fn it_reads_as_maps_that_are_copied(
            acts in acts(), most in prop::sample::select(vec![0usize, 1, 300, 900, 1 << 20]),
        ) {
            let mut held = Held::new(Box::new(MemStore::new()), most);
            let mut model = Model::default();
            let mut states = vec![(None, Pairs::new())];
            for act in acts {
                model.act(&mut held, &act)?;
                if matches!(act, Do::Promote) {
                    let checkpoint = checkpoint(states.len() as u64);
                    held.promote(&checkpoint).unwrap();
                    states.push((Some(checkpoint), pairs(&model.committed)));
                }
                prop_assert_eq!(held.uncommitted(), held.transaction().count());
                for at in 0..64 {
                    prop_assert_eq!(held.get(&key(at)).unwrap(), model.step.get(&key(at)).cloned());
                }
                let below = (held.store.checkpoint().unwrap(), held.store.scan(&[], &[], 999).unwrap());
                prop_assert!(states.contains(&below));
                prop_assert!(most > 0 || Some(&below) == states.last());
            }
            held.forget_transaction(|_| false);
            held.flush().unwrap();
            let below = (held.store.checkpoint().unwrap(), held.store.scan(&[], &[], 999).unwrap());
            prop_assert_eq!(Some(&below), states.last());
        }
    }

    fn promote(held: &mut Held, number: u64, key: Vec<u8>, value: Option<Vec<u8>>) {
        held.write(key, value);
        held.keep_step().unwrap();
        held.promote(&checkpoint(number)).unwrap();
    }

    #[test]
    fn no_more_is_held_than_was_said() {
        let mut held = Held::new(Box::new(MemStore::new()), 4_000);
        for number in 0..10_000u64 {
            promote(&mut held, number, number.to_be_bytes().to_vec(), Some(vec![0; 32]));
            assert!(held.bytes <= 4_000 + ENTRY + 40, "{held:?}");
        }
        // The same key again and again is held once.
        held.flush().unwrap();
        for number in 0..10_000u64 {
            promote(&mut held, number, vec![1], Some(vec![0; 32]));
            assert_eq!(held.bytes, ENTRY + 1 + 32);
        }
    }

    /// What comes and goes within a transaction, and transactions that are taken back, add up to nothing
    /// that a listing has to pass over.
    #[test]
    fn what_came_and_went_is_not_listed() {
        let mut held = Held::new(Box::new(MemStore::new()), 1 << 20);
        held.write(vec![b'q', 0, 250], None);
        assert_eq!(held.scan(b"q\0", &[], 1).unwrap(), []);
        held.forget_step();
        for number in 0..100u8 {
            held.write(vec![b'q', 0, number], Some(vec![]));
            held.keep_step().unwrap();
            held.write(vec![b'q', 0, number], None);
            held.keep_step().unwrap();
            held.write(vec![b'q', 0, 200], Some(vec![]));
            held.forget_transaction(|_| false);
        }
        assert_eq!(held.transaction().count(), 0);
        assert_eq!(held.table.range(b"q\0", &[], 999), []);
        assert_eq!(held.table.listed(b"q\0"), 0);
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
            promote(held, 1, key(number), value);
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
