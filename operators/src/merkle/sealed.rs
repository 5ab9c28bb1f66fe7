//! Sealed levels: a whole tree as bytes, so that proofs of old epochs are served from a file.
//!
//! Here is the format and a reader over bytes that are handed in; who maps a file is not here's
//! business. All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `SEMELMT` and the version, 1 |
//! | 8..40 | the profile's name, zeros behind it |
//! | 40..48 | the rules: hash, pair, order, equal, shape, odd, length of the node prefix, 0 |
//! | 48..80 | the node prefix, zeros behind it |
//! | 80..88 | number of leaves in the tree |
//! | 88..96 | number of leaves that were given |
//! | 96..128 | the root |
//! | 128..160 | SHA-256 of everything behind the header |
//! | 160..192 | SHA-256 of the header before this |
//! | 192.. | levels, leaves first (heap: its leaves, then its inner nodes) |
//! | behind | where leaves stand by hash: each one's position, u32, in the order given |
//!
//! Invariants: opening reads the header only, whatever the tree's size; a proof is verified against
//! the header's root before it is handed out, so that a rotten file gives an error and never a wrong
//! proof; bytes that do not fit are refused with the reason.

use sha2::{Digest, Sha256};

use super::{
    hash::{Hash, HashFn, Pair},
    profile::{Equal, HashOrder, Odd, Profile, Rules, Shape, check::NAME_MAX},
    proof::{
        DEPTH_MAX, Path, Proof, Published, Refused, heap_fetch, heap_path, levels_fetch,
        levels_path, many, place, verify,
    },
    tree::{Nodes, Tree, TreeError, levels::ZERO},
    width_above,
};

/// Bytes of the header.
pub const HEADER: usize = 192;
const MAGIC: [u8; 8] = *b"SEMELMT\x01";

/// Why bytes are no sealed tree of this profile, or give no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The beginning is not ours.
    #[error("these are no sealed levels: they do not begin with SEMELMT and version 1")]
    NotSealed,
    /// The header's checksum is wrong.
    #[error("the header is damaged: build the levels anew from the leaves")]
    Header,
    /// The checksum of the levels is wrong.
    #[error("the levels are damaged: build them anew from the leaves")]
    Body,
    /// Too short or too long.
    #[error("{got} bytes came, and {count} leaves of this profile take {want}: copy the file anew")]
    Length {
        /// Bytes that came.
        got: usize,
        /// Bytes that it takes.
        want: u64,
        /// Leaves that the header names.
        count: u64,
    },
    /// Sealed by another profile.
    #[error("the levels were sealed by profile `{sealed}`, and `{asked}` was asked for")]
    Profile {
        /// In the header.
        sealed: String,
        /// Asked for.
        asked: String,
    },
    /// Sealed by a profile of that name whose rules were others.
    #[error(
        "profile `{0}` had other rules when the levels were sealed: give the new one another name"
    )]
    Rules(String),
    /// The name does not fit the header.
    #[error("the name `{0}` has more than {NAME_MAX} bytes: shorten it")]
    Name(String),
    /// A proof that was read does not lead to the root.
    #[error("the levels are damaged near leaf {index}: {why}")]
    Rotten {
        /// The leaf.
        index: usize,
        /// What the verifier says.
        why: Refused,
    },
    /// No such leaf, or no root to seal.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A tree as bytes, in parts that are written one behind the other: levels are not copied.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    header: [u8; HEADER],
    levels: Vec<&'a [u8]>,
    positions: Vec<u8>,
}

impl Parts<'_> {
    /// The parts, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let levels = self.levels.iter().copied();
        std::iter::once(&self.header[..]).chain(levels).chain(std::iter::once(&self.positions[..]))
    }

    /// All of them in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.slices().collect::<Vec<_>>().concat()
    }
}

/// Seals a tree that was built by `profile`.
///
/// # Errors
/// A tree without a root, a name that is too long, or a tree of other rules.
pub fn seal<'a>(profile: &Profile, tree: &'a Tree) -> Result<Parts<'a>, SealError> {
    if *tree.rules() != profile.rules() {
        return Err(SealError::Rules(profile.name.clone()));
    }
    let levels: Vec<&[u8]> = match tree.nodes() {
        Nodes::Levels(levels) => levels.all().map(<[Hash]>::as_flattened).collect(),
        Nodes::Heap(heap) => vec![heap.leaves().as_flattened(), heap.inner().as_flattened()],
    };
    let positions = tree.positions().unwrap_or_default();
    let positions: Vec<u8> = positions.iter().flat_map(|position| position.to_le_bytes()).collect();
    let mut body = Sha256::new();
    for part in levels.iter().copied().chain([&positions[..]]) {
        body.update(part);
    }
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(profile.name.as_bytes());
    if profile.name.len() > NAME_MAX {
        return Err(SealError::Name(profile.name.clone()));
    }
    header.resize(40, 0);
    header.extend_from_slice(&codes(tree.rules()));
    header.extend_from_slice(&(tree.count() as u64).to_le_bytes());
    header.extend_from_slice(&(tree.len() as u64).to_le_bytes());
    header.extend_from_slice(&tree.root()?);
    header.extend_from_slice(&body.finalize());
    let sum = Sha256::digest(&header);
    header.extend_from_slice(&sum);
    let header = header.try_into().map_err(|_| SealError::Header)?;
    Ok(Parts { header, levels, positions })
}

/// The rules as bytes 40..80 of the header.
fn codes(rules: &Rules) -> [u8; 40] {
    let prefix = rules.node.prefix.as_bytes();
    let mut codes = [0; 40];
    codes[0] = match rules.node.hash {
        HashFn::Keccak256 => 1,
        HashFn::Sha256 => 2,
    };
    codes[1] = match rules.node.pair {
        Pair::Sorted => 1,
        Pair::Ordered => 2,
    };
    codes[2] = match rules.order {
        HashOrder::Given => 1,
        HashOrder::Sorted => 2,
    };
    codes[3] = match rules.equal {
        Equal::Keep => 1,
        Equal::Refuse => 2,
        Equal::Drop => 3,
    };
    codes[4] = match rules.shape {
        Shape::Levels => 1,
        Shape::Heap => 2,
    };
    codes[5] = match rules.odd {
        Odd::Promote => 1,
        Odd::Duplicate => 2,
        Odd::Zero => 3,
    };
    codes[6] = prefix.len().to_le_bytes()[0];
    codes[8..8 + prefix.len()].copy_from_slice(prefix);
    codes
}

/// The name of the profile by which bytes were sealed.
///
/// # Errors
/// Bytes that do not begin with an undamaged header.
pub fn profile_name(bytes: &[u8]) -> Result<String, SealError> {
    let header = header(bytes)?;
    let name = &header[8..40];
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8(name[..end].to_vec()).map_err(|_| SealError::Header)
}

fn header(bytes: &[u8]) -> Result<&[u8; HEADER], SealError> {
    let header = bytes.first_chunk::<HEADER>().ok_or(SealError::NotSealed)?;
    if header[..8] != MAGIC {
        return Err(SealError::NotSealed);
    }
    if Sha256::digest(&header[..160])[..] != header[160..] {
        return Err(SealError::Header);
    }
    Ok(header)
}

/// A sealed tree, read in place.
#[derive(Clone, Debug)]
pub struct Sealed<'a> {
    rules: Rules,
    published: Published,
    levels: Vec<&'a [Hash]>,
    positions: Option<&'a [[u8; 4]]>,
    body: &'a [u8],
    sum: [u8; 32],
}

impl<'a> Sealed<'a> {
    /// Opens bytes that were sealed by `profile`. Reads nothing but the header.
    ///
    /// # Errors
    /// What does not fit.
    pub fn open(bytes: &'a [u8], profile: &Profile) -> Result<Self, SealError> {
        let sealed = profile_name(bytes)?;
        if sealed != profile.name {
            return Err(SealError::Profile { sealed, asked: profile.name.clone() });
        }
        let header = header(bytes)?;
        let rules = profile.rules();
        if header[40..80] != codes(&rules) {
            return Err(SealError::Rules(sealed));
        }
        let (count, given) = (number(&header[80..]), number(&header[88..]));
        let sorted = rules.order == HashOrder::Sorted;
        // No tree has 2^32 leaves: beyond that the arithmetic below could overflow.
        let large = count.max(given) > u64::from(u32::MAX);
        if count == 0 || given < count || large || (!sorted && given != count) {
            return Err(SealError::Header);
        }
        let widths = widths(rules.shape, usize::try_from(count).map_err(|_| SealError::Header)?);
        let nodes: u64 = widths.iter().map(|width| *width as u64).sum();
        let want = HEADER as u64 + nodes * 32 + if sorted { given * 4 } else { 0 };
        if bytes.len() as u64 != want {
            return Err(SealError::Length { got: bytes.len(), want, count });
        }
        let body = &bytes[HEADER..];
        let mut rest = body;
        let mut levels = Vec::with_capacity(widths.len());
        for width in widths {
            let (level, behind) = rest.split_at(width * 32);
            levels.push(level.as_chunks().0);
            rest = behind;
        }
        Ok(Self {
            rules,
            published: Published { root: array(&header[96..]), count: levels[0].len() },
            levels,
            positions: sorted.then_some(rest.as_chunks().0),
            body,
            sum: array(&header[128..]),
        })
    }

    /// Reads everything and compares the checksum.
    ///
    /// # Errors
    /// [`SealError::Body`].
    pub fn check(&self) -> Result<(), SealError> {
        if Sha256::digest(self.body)[..] == self.sum { Ok(()) } else { Err(SealError::Body) }
    }

    /// The root and the number of leaves.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published
    }

    /// Number of leaves that were given.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.map_or(self.published.count, <[_]>::len)
    }

    /// Whether no leaf was given, which is never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn position(&self, index: usize) -> Result<usize, SealError> {
        let count = self.len();
        let none = TreeError::NoLeaf { index, count };
        if index >= count {
            return Err(none.into());
        }
        let Some(positions) = self.positions else { return Ok(index) };
        let position = u32::from_le_bytes(positions[index]) as usize;
        if position >= self.published.count { Err(SealError::Body) } else { Ok(position) }
    }

    /// The hash of the leaf that was given as the `index`-th.
    ///
    /// # Errors
    /// [`SealError::Tree`]; [`SealError::Body`] where its position is damaged.
    pub fn leaf(&self, index: usize) -> Result<Hash, SealError> {
        let (position, count) = (self.position(index)?, self.published.count);
        Ok(match self.rules.shape {
            Shape::Levels => self.levels[0][position],
            Shape::Heap => self.levels[0][count - 1 - position],
        })
    }

    /// The proof of the leaf that was given as the `index`-th, verified.
    ///
    /// # Errors
    /// [`SealError::Tree`]; [`SealError::Rotten`] where a node on its way is damaged.
    pub fn proof(&self, index: usize) -> Result<Proof, SealError> {
        let mut path = [ZERO; DEPTH_MAX];
        let length = self.proof_into(index, &mut path)?;
        let (position, count) = (self.position(index)?, self.published.count);
        let place = place(self.rules.shape, position, count);
        let proof = Proof { place, count, siblings: path[..length].to_vec() };
        verify(&self.rules, &self.published, &self.leaf(index)?, &proof)
            .map_err(|why| SealError::Rotten { index, why })?;
        Ok(proof)
    }

    /// As [`super::tree::Tree::proofs`]: not verified.
    ///
    /// # Errors
    /// As [`Sealed::leaf`], at the first leaf of which that is so; those before it were handed out.
    pub fn proofs(
        &self,
        indices: impl IntoIterator<Item = usize>,
        each: impl FnMut(usize, &[Hash]),
    ) -> Result<(), SealError> {
        let position = |index| self.position(index);
        match self.rules.shape {
            Shape::Levels => {
                let (leaves, above, odd) = (self.levels[0], &self.levels[1..], self.rules.odd);
                let fetch = |at| levels_fetch(leaves, above, at);
                let read = |at, path: &mut Path| levels_path(leaves, above, odd, at, path);
                many::proofs(indices, position, fetch, read, each)
            }
            Shape::Heap => {
                let (inner, leaves) = (self.levels[1], self.levels[0]);
                let fetch = |position| heap_fetch(inner, leaves, position);
                let read = |position, path: &mut Path| heap_path(inner, leaves, position, path);
                many::proofs(indices, position, fetch, read, each)
            }
        }
    }

    /// As [`super::tree::Tree::proof_into`]: not verified.
    ///
    /// # Errors
    /// As [`Sealed::leaf`].
    pub fn proof_into(&self, index: usize, path: &mut Path) -> Result<usize, SealError> {
        let position = self.position(index)?;
        Ok(match self.rules.shape {
            Shape::Levels => {
                let (leaves, above) = (self.levels[0], &self.levels[1..]);
                levels_path(leaves, above, self.rules.odd, position, path)
            }
            Shape::Heap => heap_path(self.levels[1], self.levels[0], position, path),
        })
    }
}

/// Widths of what stands behind the header.
fn widths(shape: Shape, count: usize) -> Vec<usize> {
    match shape {
        Shape::Heap => vec![count, count - 1],
        Shape::Levels => {
            let above = |width: &usize| (*width > 1).then(|| width_above(*width));
            std::iter::successors(Some(count), above).collect()
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn array(bytes: &[u8]) -> [u8; 32] {
    bytes.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merkle::profile::{PROFILES, by_name};

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|i| HashFn::Sha256.of(&[&(i % 40).to_le_bytes()])).collect()
    }

    #[test]
    fn a_sealed_tree_of_every_profile_gives_the_same_proofs() {
        for profile in PROFILES.iter() {
            for count in [2, 3, 7, 8, 50] {
                let tree = Tree::build(&profile.rules(), leaves(count)).unwrap();
                let bytes = seal(profile, &tree).unwrap().to_vec();
                let sealed = Sealed::open(&bytes, profile).unwrap();
                assert_eq!(profile_name(&bytes).as_ref(), Ok(&profile.name));
                assert_eq!(sealed.check(), Ok(()));
                assert_eq!(Ok(sealed.published()), tree.published());
                assert_eq!(sealed.len(), count);
                for index in 0..count {
                    assert_eq!(sealed.proof(index), tree.proof(index).map_err(Into::into));
                    assert_eq!(sealed.leaf(index), tree.leaf(index).map_err(Into::into));
                }
                let mut read = Vec::new();
                let all = sealed.proofs((0..=count).rev().skip(1), |index, siblings| {
                    read.push((index, siblings.to_vec()));
                });
                let want = |index| (index, tree.proof(index).unwrap().siblings);
                assert_eq!((all, read), (Ok(()), (0..count).rev().map(want).collect()));
                let none = SealError::Tree(TreeError::NoLeaf { index: count, count });
                assert_eq!(sealed.proof(count), Err(none));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let [saber, uniswap] = ["saber", "uniswap"].map(|name| by_name(name).unwrap());
        let tree = Tree::build(&saber.rules(), leaves(9)).unwrap();
        let good = seal(&saber, &tree).unwrap().to_vec();
        let open = |bytes: &[u8], profile| Sealed::open(bytes, profile).map(|_| ()).unwrap_err();
        assert_eq!(open(&good[..191], &saber), SealError::NotSealed);
        assert_eq!(open(b"", &saber), SealError::NotSealed);
        let (sealed, asked) = ("saber".to_owned(), "uniswap".to_owned());
        assert_eq!(open(&good, &uniswap), SealError::Profile { sealed, asked });
        let changed = Profile { odd: Odd::Duplicate, ..saber.clone() };
        assert_eq!(open(&good, &changed), SealError::Rules("saber".to_owned()));
        assert!(matches!(open(&good[..good.len() - 1], &saber), SealError::Length { .. }));
        assert!(matches!(open(&[&good[..], &[0]].concat(), &saber), SealError::Length { .. }));
        let empty = Tree::new(&saber.rules());
        assert!(matches!(seal(&saber, &empty), Err(SealError::Tree(_))));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found_and_no_wrong_proof_comes_out(
            profile in 0..PROFILES.len(),
            count in 2_usize..30,
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let profile = &PROFILES[profile];
            let tree = Tree::build(&profile.rules(), leaves(count)).unwrap();
            let mut bytes = seal(profile, &tree).unwrap().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if at < HEADER {
                prop_assert!(Sealed::open(&bytes, profile).is_err());
            } else {
                let sealed = Sealed::open(&bytes, profile).unwrap();
                prop_assert_eq!(sealed.check(), Err(SealError::Body));
                for index in 0..count {
                    if let (Ok(proof), Ok(leaf)) = (sealed.proof(index), sealed.leaf(index)) {
                        let published = tree.published().unwrap();
                        prop_assert_eq!(verify(&profile.rules(), &published, &leaf, &proof), Ok(()));
                    }
                }
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut dressed = MAGIC.to_vec();
            dressed.extend_from_slice(&bytes);
            for profile in PROFILES.iter() {
                prop_assert!(Sealed::open(&bytes, profile).is_err());
                prop_assert!(Sealed::open(&dressed, profile).is_err());
            }
        }
    }
}
