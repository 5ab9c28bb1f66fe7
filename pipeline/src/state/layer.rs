//! Writes that are not in a store yet, by key: found by hash, listed in order.
//!
//! Almost every question is for one key, and asked for every record; a sorted map answers it by
//! comparing a dozen keys that begin with the same words. So keys are hashed. What is listed in order
//! is kept sorted beside, from the first time on that it is listed, one named store at a time (a key is
//! `<store> 0x00 <rest>`, see [`crate::engine::overlay`]).
//!
//! Invariants: no order that a hash makes is ever seen; a sorted set holds exactly the keys of its
//! store.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

/// Keys come from outside: the hash is seeded at random, so that nobody can make them collide.
type Hash = foldhash::quality::RandomState;

/// A key and what was written: `None` deletes.
pub type Change<'a> = (&'a [u8], Option<&'a Vec<u8>>);

/// A store's name with its zero byte, and its keys.
type Sorted = (Vec<u8>, BTreeSet<Vec<u8>>);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    values: HashMap<Vec<u8>, Option<Vec<u8>>, Hash>,
    /// Stores that were listed before, and their keys.
    sorted: RefCell<Vec<Sorted>>,
}

/// The part of a key that names its store, the zero byte included; `None`: it names none.
fn store_of(key: &[u8]) -> Option<&[u8]> {
    key.iter().position(|byte| *byte == 0).and_then(|at| key.get(..=at))
}

impl Layer {
    /// Keys that were written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What was written of a key; `None`: nothing, `Some(None)`: it was deleted.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        if self.values.is_empty() { None } else { self.values.get(key) }
    }

    /// Writes a key, and returns what was written of it before.
    pub fn insert(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Option<Option<Vec<u8>>> {
        let sorted = self.sorted.get_mut();
        if !sorted.is_empty()
            && let Some((_, keys)) = sorted.iter_mut().find(|(store, _)| key.starts_with(store))
            && !keys.contains(&key)
        {
            keys.insert(key.clone());
        }
        self.values.insert(key, value)
    }

    /// Forgets what was written of a key.
    pub fn remove(&mut self, key: &[u8]) {
        if self.values.remove(key).is_some() {
            for (_, keys) in self.sorted.get_mut() {
                keys.remove(key);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.values.clear();
        for (_, keys) in self.sorted.get_mut() {
            keys.clear();
        }
    }

    /// Forgets what `keep` says no to.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], Option<&Vec<u8>>) -> bool) {
        self.values.retain(|key, value| keep(key, value.as_ref()));
        self.sorted.get_mut().clear();
    }

    /// Everything, in the order of the keys.
    #[must_use]
    pub fn in_order(&self) -> Vec<Change<'_>> {
        let mut all: Vec<_> =
            self.values.iter().map(|(key, value)| (key.as_slice(), value.as_ref())).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// Everything, as a map in the order of the keys; nothing is left.
    pub fn take(&mut self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let all = std::mem::take(&mut self.values).into_iter().collect();
        self.clear();
        all
    }

    /// Everything, in no order at all; nothing is left.
    pub fn drain(&mut self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        for (_, keys) in self.sorted.get_mut() {
            keys.clear();
        }
        self.values.drain()
    }

    /// Keys that begin with `prefix`, from `start` on, in order, until `live` of them have values.
    #[must_use]
    pub fn range(&self, prefix: &[u8], start: &[u8], live: usize) -> Vec<Change<'_>> {
        if self.values.is_empty() {
            return Vec::new();
        }
        let Some(store) = store_of(prefix) else {
            let all = self.in_order().into_iter();
            return until(all.filter(|(key, _)| key.starts_with(prefix) && *key >= start), live);
        };
        let mut sorted = self.sorted.borrow_mut();
        let place = sorted.iter().position(|(name, _)| name == store).unwrap_or_else(|| {
            let keys = self.values.keys().filter(|key| key.starts_with(store)).cloned().collect();
            sorted.push((store.to_vec(), keys));
            sorted.len() - 1
        });
        let Some((_, keys)) = sorted.get(place) else { return Vec::new() };
        let from = (Bound::Included(start.max(prefix)), Bound::Unbounded);
        let found = keys
            .range::<[u8], _>(from)
            .take_while(|key| key.starts_with(prefix))
            .filter_map(|key| self.values.get_key_value(key))
            .map(|(key, value)| (key.as_slice(), value.as_ref()));
        until(found, live)
    }
}

/// As far as to the `live`-th change that is no deletion.
fn until<'a>(changes: impl Iterator<Item = Change<'a>>, live: usize) -> Vec<Change<'a>> {
    let (mut found, mut count) = (Vec::new(), 0);
    for change in changes {
        if count == live {
            break;
        }
        count += usize::from(change.1.is_some());
        found.push(change);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Do {
        Insert(Vec<u8>, Option<Vec<u8>>),
        Remove(Vec<u8>),
        Range(Vec<u8>, Vec<u8>, usize),
        Clear,
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        (prop::sample::select(vec!["a", "ab", "b"]), prop::collection::vec(0u8..3, 0..3))
            .prop_map(|(store, rest)| [store.as_bytes(), &[0], &rest].concat())
    }

    fn step() -> impl Strategy<Value = Do> {
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..2));
        prop_oneof![
            8 => (key(), value).prop_map(|(k, v)| Do::Insert(k, v)),
            2 => key().prop_map(Do::Remove),
            4 => (key(), key(), 0usize..5).prop_map(|(p, s, n)| Do::Range(p, s, n)),
            1 => (0usize..5).prop_map(|n| Do::Range(vec![], vec![], n)),
            1 => Just(Do::Clear),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(steps in prop::collection::vec(step(), 0..60)) {
            let mut layer = Layer::default();
            let mut model = BTreeMap::<Vec<u8>, Option<Vec<u8>>>::new();
            for step in steps {
                match step {
                    Do::Insert(key, value) => {
                        let old = model.insert(key.clone(), value.clone());
                        prop_assert_eq!(layer.insert(key, value), old);
                    }
                    Do::Remove(key) => {
                        model.remove(&key);
                        layer.remove(&key);
                    }
                    Do::Clear => {
                        model.clear();
                        layer.clear();
                    }
                    Do::Range(prefix, start, live) => {
                        let wanted = until(
                            model
                                .iter()
                                .filter(|(k, _)| k.starts_with(&prefix) && **k >= start)
                                .map(|(k, v)| (k.as_slice(), v.as_ref())),
                            live,
                        );
                        prop_assert_eq!(layer.range(&prefix, &start, live), wanted);
                    }
                }
                prop_assert_eq!(layer.len(), model.len());
                let all: Vec<_> = model.iter().map(|(k, v)| (k.as_slice(), v.as_ref())).collect();
                prop_assert_eq!(layer.in_order(), all);
                for (key, value) in &model {
                    prop_assert_eq!(layer.get(key), Some(value));
                }
            }
            prop_assert_eq!(layer.take(), model);
            prop_assert!(layer.is_empty() && layer.range(b"a\0", b"", 9).is_empty());
        }
    }
}
