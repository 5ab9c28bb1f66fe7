//! One level of nodes above the leaves, in memory of its own that begins where a line of the cache
//! does.
//!
//! Two siblings fill one line then, so that a proof that is read from memory waits for one line a
//! level. Invariants: the memory of a level that is new comes zeroed from the system and is first
//! touched by whichever core hashes it; a level that grows a little at a time is moved rarely.

use crate::merkle::hash::Hash;

/// Bytes of a line of the cache.
const LINE: usize = 64;
/// Bytes of a node.
const NODE: usize = size_of::<Hash>();
/// A level that is full grows by this part of its width, so that memory stays near what is used.
pub(super) const GROWTH: usize = 8;

/// Nodes, by place.
#[derive(Default)]
pub struct Level {
    /// The nodes stand behind the first `begin` bytes.
    bytes: Vec<u8>,
    begin: usize,
}

impl Level {
    /// Zeroes for `width` nodes, and room for `spare` more.
    fn zeroed(width: usize, spare: usize) -> Self {
        let mut bytes = vec![0; LINE + (width + spare) * NODE];
        // Where the address is not to be known, any place will do.
        let begin = bytes.as_ptr().align_offset(LINE) % LINE;
        bytes.truncate(begin + width * NODE);
        Self { bytes, begin }
    }

    /// Makes it `width` nodes wide. New ones hold anything until they are hashed.
    pub(super) fn widen(&mut self, width: usize) {
        let end = self.begin + width * NODE;
        if self.bytes.is_empty() {
            *self = Self::zeroed(width, 0);
        } else if end <= self.bytes.capacity() {
            self.bytes.resize(end, 0);
        } else {
            let mut wider = Self::zeroed(width, width / GROWTH);
            let known = self.as_ref();
            wider.as_mut()[..known.len()].copy_from_slice(known);
            *self = wider;
        }
    }
}

impl AsRef<[Hash]> for Level {
    #[inline]
    fn as_ref(&self) -> &[Hash] {
        self.bytes[self.begin..].as_chunks().0
    }
}

impl AsMut<[Hash]> for Level {
    fn as_mut(&mut self) -> &mut [Hash] {
        self.bytes[self.begin..].as_chunks_mut().0
    }
}

impl Clone for Level {
    fn clone(&self) -> Self {
        let mut same = Self::zeroed(self.as_ref().len(), 0);
        same.as_mut().copy_from_slice(self.as_ref());
        same
    }
}

impl PartialEq for Level {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Level {}

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.as_ref()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(i: usize) -> Hash {
        std::array::from_fn(|at| (i + at).to_le_bytes()[0])
    }

    #[test]
    fn a_level_keeps_its_nodes_however_it_grows_and_shrinks() {
        let mut level = Level::default();
        assert!(level.as_ref().is_empty());
        let mut known = Vec::new();
        for width in [1, 2, 9, 10, 11, 3, 4, 900, 901, 1, 5000] {
            let before = known.len();
            level.widen(width);
            known.resize(width, [0; 32]);
            assert_eq!(level.as_ref().len(), width);
            let kept = width.min(before);
            assert_eq!(level.as_ref()[..kept], known[..kept]);
            for (i, known) in known.iter_mut().enumerate() {
                *known = node(i + width);
                level.as_mut()[i] = node(i + width);
            }
            assert_eq!(level.as_ref(), known);
            assert_eq!(level.clone(), level);
            let lines = level.as_ref().as_ptr().align_offset(LINE);
            assert!(lines == 0 || cfg!(miri), "{lines} bytes before a line");
        }
    }
}
