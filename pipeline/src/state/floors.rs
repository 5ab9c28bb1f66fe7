//! Where the first key below a prefix is, of the prefixes that are listed from their beginning.
//!
//! Timers, queues and indexes by age are taken from the front. A store on disk keeps a mark for each
//! key that was removed until it is compacted, and a listing passes over all of them, each time: a
//! queue of millions, of which all but a few are gone, takes milliseconds to look at. So it is
//! remembered how far the front has come.
//!
//! Invariant: no key of the store begins with the prefix and is less than its floor.

use std::collections::BTreeMap;

/// Prefixes remembered beyond those of a whole store or one byte more.
const OTHERS: usize = 16;

/// The floor of one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Floor {
    /// No key with the prefix is less than this.
    At(Vec<u8>),
    /// No key has the prefix.
    Empty,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Floors {
    short: BTreeMap<Vec<u8>, Floor>,
    others: Vec<(Vec<u8>, Floor)>,
    next: usize,
}

/// Whether a prefix is a whole store's, or one byte longer: there are only few of these.
fn is_short(prefix: &[u8]) -> bool {
    prefix.iter().position(|byte| *byte == 0).is_some_and(|end| prefix.len() <= end + 2)
}

impl Floors {
    /// Where a listing of `prefix` from its beginning has to begin; `None`: there is nothing to list.
    pub(super) fn begin<'a>(&'a self, prefix: &'a [u8]) -> Option<&'a [u8]> {
        let other =
            || self.others.iter().find(|(known, _)| known == prefix).map(|(_, floor)| floor);
        match self.short.get(prefix).or_else(other) {
            Some(Floor::At(key)) => Some(key),
            Some(Floor::Empty) => None,
            None => Some(prefix),
        }
    }

    /// A listing of `prefix` from its beginning met this key first, or none.
    pub(super) fn learn(&mut self, prefix: &[u8], first: Option<&[u8]>) {
        let floor = first.map_or(Floor::Empty, |key| Floor::At(key.to_vec()));
        if is_short(prefix) {
            self.short.insert(prefix.to_vec(), floor);
        } else if let Some((_, known)) = self.others.iter_mut().find(|(known, _)| known == prefix) {
            *known = floor;
        } else if self.others.len() < OTHERS {
            self.others.push((prefix.to_vec(), floor));
        } else if let Some(place) = self.others.get_mut(self.next % OTHERS) {
            *place = (prefix.to_vec(), floor);
            self.next = self.next.wrapping_add(1);
        }
    }

    /// A key is about to be written.
    pub(super) fn lower(&mut self, key: &[u8]) {
        let others = self.others.iter_mut().map(|(prefix, floor)| (&*prefix, floor));
        for (prefix, floor) in self.short.iter_mut().chain(others) {
            let above = match floor {
                Floor::At(floor) => floor.as_slice() > key,
                Floor::Empty => true,
            };
            if above && key.starts_with(prefix) {
                *floor = Floor::At(key.to_vec());
            }
        }
    }
}
