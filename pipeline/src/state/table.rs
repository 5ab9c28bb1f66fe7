//! What a task wrote and its store does not hold yet, by key: found by hash, listed in order.
//!
//! Almost every question is for one key, and asked for every record; a sorted map answers it by
//! comparing a dozen keys that begin with the same words. So keys are hashed. What is listed in order
//! is kept sorted beside, from the first time on that it is listed, one named store at a time (a key is
//! `<store> 0x00 <rest>`, see [`crate::engine::overlay`]).
//!
//! Invariants: no order that a hash makes is ever seen; an entry keeps its place until the table is
//! cleared; a sorted set holds the keys of its store of which something is written, and may hold others.

use std::{cell::RefCell, collections::BTreeSet, ops::Bound};

use indexmap::IndexMap;

/// Keys come from outside: the hash is seeded at random, so that nobody can make them collide.
type Hash = foldhash::quality::RandomState;

/// A key and what was written: `None` deletes.
pub type Change<'a> = (&'a [u8], Option<&'a Vec<u8>>);

/// What was written of a key, `None` in it deletes; `None`: nothing.
pub(super) type Written = Option<Option<Vec<u8>>>;

/// A store's name with its zero byte, and its keys.
type Sorted = (Vec<u8>, BTreeSet<Vec<u8>>);

/// What was written of one key.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// By transactions that are committed.
    pub(super) held: Written,
    /// By the open transaction: hides what is held.
    pub(super) open: Written,
    /// Whether the list of the open transaction names this entry.
    pub(super) listed: bool,
}

impl Entry {
    /// What was written last.
    pub(super) fn last(&self) -> Option<&Option<Vec<u8>>> {
        self.open.as_ref().or(self.held.as_ref())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: IndexMap<Vec<u8>, Entry, Hash>,
    /// Stores that were listed before, and their keys.
    sorted: RefCell<Vec<Sorted>>,
}

/// The part of a key that names its store, the zero byte included; `None`: it names none.
fn store_of(key: &[u8]) -> Option<&[u8]> {
    key.iter().position(|byte| *byte == 0).and_then(|at| key.get(..=at))
}

impl Table {
    /// The entry of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        if self.entries.is_empty() { None } else { self.entries.get(key) }
    }

    /// The key and the entry at a place.
    pub(super) fn at(&self, place: usize) -> Option<(&[u8], &Entry)> {
        self.entries.get_index(place).map(|(key, entry)| (key.as_slice(), entry))
    }

    /// As [`Table::at`], to be changed.
    pub(super) fn at_mut(&mut self, place: usize) -> Option<(&[u8], &mut Entry)> {
        self.entries.get_index_mut(place).map(|(key, entry)| (key.as_slice(), entry))
    }

    /// The place of a key's entry, made if there is none; whether it was made.
    pub(super) fn place(&mut self, key: Vec<u8>) -> (usize, bool) {
        let sorted = self.sorted.get_mut();
        let found = if sorted.is_empty() {
            None
        } else {
            let store = sorted.iter_mut().find(|(store, _)| key.starts_with(store));
            // What is listed is seldom much, and mostly new.
            store.filter(|(_, keys)| !keys.contains(&key)).map(|(_, keys)| keys)
        };
        if let Some(keys) = found {
            keys.insert(key.clone());
        }
        let before = self.entries.len();
        let entry = self.entries.entry(key);
        let place = entry.index();
        entry.or_default();
        (place, place == before)
    }

    /// Nothing is written any more of the key at a place: it is not listed.
    pub(super) fn hide(&mut self, place: usize) {
        if let Some((key, _)) = self.entries.get_index(place) {
            for (_, keys) in self.sorted.get_mut() {
                keys.remove(key);
            }
        }
    }

    /// How many keys of a store are kept sorted.
    #[cfg(test)]
    pub(super) fn listed(&self, store: &[u8]) -> usize {
        let sorted = self.sorted.borrow();
        sorted.iter().filter(|(name, _)| name == store).map(|(_, keys)| keys.len()).sum()
    }

    /// Everything that is held, in no order at all; nothing is left.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        for (_, keys) in self.sorted.get_mut() {
            keys.clear();
        }
        self.entries.drain(..).filter_map(|(key, entry)| entry.held.map(|value| (key, value)))
    }

    /// Keys that begin with `prefix`, from `start` on, in order, until `live` of them have values.
    pub(super) fn range(&self, prefix: &[u8], start: &[u8], live: usize) -> Vec<Change<'_>> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let Some(store) = store_of(prefix) else {
            let mut all: Vec<&Vec<u8>> = self.entries.keys().collect();
            all.sort_unstable();
            let within = |key: &&Vec<u8>| key.starts_with(prefix) && key.as_slice() >= start;
            return self.until(all.into_iter().filter(within), live);
        };
        let mut sorted = self.sorted.borrow_mut();
        let place = sorted.iter().position(|(name, _)| name == store).unwrap_or_else(|| {
            let keys = self.entries.keys().filter(|key| key.starts_with(store)).cloned().collect();
            sorted.push((store.to_vec(), keys));
            sorted.len() - 1
        });
        let Some((_, keys)) = sorted.get(place) else { return Vec::new() };
        let from = (Bound::Included(start.max(prefix)), Bound::Unbounded);
        self.until(keys.range::<[u8], _>(from).take_while(|key| key.starts_with(prefix)), live)
    }

    /// What was written of keys, as far as to the `live`-th that has a value.
    fn until<'k>(&self, keys: impl Iterator<Item = &'k Vec<u8>>, live: usize) -> Vec<Change<'_>> {
        let (mut found, mut count) = (Vec::new(), 0);
        for key in keys {
            if count == live {
                break;
            }
            let Some((_, key, entry)) = self.entries.get_full(key) else { continue };
            let Some(last) = entry.last() else { continue };
            count += usize::from(last.is_some());
            found.push((key.as_slice(), last.as_ref()));
        }
        found
    }
}
