//! Leaves laid by hash: where each stands, what is dropped, what stays after a truncation.
//!
//! Invariants: equal leaves keep the order in which they were given, so that positions are the same
//! on every machine; the leaves' own allocation is sorted in place, and beside it stand 20 bytes a
//! leaf while that happens.

use super::{TreeError, within};
use crate::merkle::{
    hash::Hash,
    profile::{Equal, Rules},
};

/// The leaves that a tree has, by position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before<'a> {
    /// Position 0 first.
    Ascending(&'a [Hash]),
    /// Position 0 last.
    Descending(&'a [Hash]),
}

impl Before<'_> {
    pub(super) fn into_vec(self) -> Vec<Hash> {
        match self {
            Self::Ascending(leaves) => leaves.to_vec(),
            Self::Descending(leaves) => leaves.iter().rev().copied().collect(),
        }
    }

    /// These leaves and `more` behind them; without any, `more` itself.
    fn and(self, more: Vec<Hash>) -> Vec<Hash> {
        let (Self::Ascending(leaves) | Self::Descending(leaves)) = self;
        if leaves.is_empty() {
            return more;
        }
        let mut all = self.into_vec();
        all.extend(more);
        all
    }
}

/// Leaves by position, and the position of each leaf that was given where that is not its number.
#[derive(Debug)]
pub(super) struct Laid {
    pub(super) leaves: Vec<Hash>,
    pub(super) positions: Option<Vec<u32>>,
}

impl Laid {
    /// Leaves that stand as given.
    pub(super) fn as_given(
        rules: &Rules,
        before: Before<'_>,
        more: Vec<Hash>,
    ) -> Result<Self, TreeError> {
        let leaves = before.and(more);
        within(rules, leaves.len())?;
        if rules.equal == Equal::Refuse {
            refuse_equal(&leaves, &[])?;
        }
        Ok(Self { leaves, positions: None })
    }
}

/// A leaf's first bytes as a number, and its place before sorting: most comparisons end here.
type Key = (u64, u32);

fn keys(leaves: &[Hash]) -> Vec<Key> {
    let first = |leaf: &Hash| leaf.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    leaves.iter().zip(0..).map(|(leaf, place)| (first(leaf), place)).collect()
}

/// The keys of `leaves`, in order of hash; equal leaves as they stood.
fn sorted_keys(leaves: &[Hash]) -> Vec<Key> {
    let mut keys = keys(leaves);
    keys.sort_unstable_by(|a, b| {
        let rest = || leaves[a.1 as usize].cmp(&leaves[b.1 as usize]);
        a.0.cmp(&b.0).then_with(rest).then(a.1.cmp(&b.1))
    });
    keys
}

/// Lays the leaves that a tree has, whose positions are given, and `more` that follow them.
pub(super) fn lay(
    rules: &Rules,
    before: Before<'_>,
    positions: &[u32],
    more: Vec<Hash>,
) -> Result<Laid, TreeError> {
    let new = more.len();
    let mut leaves = before.and(more);
    let old = leaves.len() - new;
    let keys = sorted_keys(&leaves);
    let mut moved = vec![0_u32; leaves.len()];
    for (to, (_, from)) in (0..).zip(&keys) {
        moved[*from as usize] = to;
    }
    if rules.equal == Equal::Refuse {
        refuse_neighbours(&leaves, &keys).map_err(|error| as_arrived(error, positions))?;
    }
    drop(keys);
    permute(&mut leaves, &moved);
    if rules.equal == Equal::Drop {
        drop_equal(&mut leaves, &mut moved);
    }
    within(rules, leaves.len())?;
    let arrived = positions.iter().copied().chain((old..old + new).map(as_u32));
    let positions = arrived.map(|place| moved[place as usize]).collect();
    Ok(Laid { leaves, positions: Some(positions) })
}

/// The leaf at place `i` goes to place `to[i]`, for all of them, in place.
fn permute(leaves: &mut [Hash], to: &[u32]) {
    let mut to = to.to_vec();
    for at in 0..leaves.len() {
        while to[at] as usize != at {
            let there = to[at] as usize;
            leaves.swap(at, there);
            to.swap(at, there);
        }
    }
}

/// Drops each leaf that equals the one before it; `moved` then leads to the one that stays.
fn drop_equal(leaves: &mut Vec<Hash>, moved: &mut [u32]) {
    let mut place = 0_u32;
    let mut places = Vec::with_capacity(leaves.len());
    for (at, leaf) in leaves.iter().enumerate() {
        place += u32::from(at > 0 && leaves[at - 1] != *leaf);
        places.push(place);
    }
    leaves.dedup();
    for to in moved {
        *to = places[*to as usize];
    }
}

/// What stays of the leaves if only the first `len` were given.
pub(super) fn keep(before: Before<'_>, positions: &[u32], len: usize) -> Laid {
    let mut leaves = before.into_vec();
    let positions = &positions[..len];
    let mut stays = vec![0_u32; leaves.len()];
    for position in positions {
        stays[*position as usize] = 1;
    }
    let mut kept = 0;
    for (from, stay) in stays.iter_mut().enumerate() {
        let place = kept;
        if *stay == 1 {
            leaves[place as usize] = leaves[from];
            kept += 1;
        }
        *stay = place;
    }
    leaves.truncate(kept as usize);
    let positions = positions.iter().map(|position| stays[*position as usize]).collect();
    Laid { leaves, positions: Some(positions) }
}

/// Refuses the first two equal leaves of all.
pub(super) fn refuse_equal(leaves: &[Hash], more: &[Hash]) -> Result<(), TreeError> {
    let all = [leaves, more].concat();
    refuse_neighbours(&all, &sorted_keys(&all))
}

fn refuse_neighbours(leaves: &[Hash], keys: &[Key]) -> Result<(), TreeError> {
    let equal = |pair: &&[Key]| leaves[pair[0].1 as usize] == leaves[pair[1].1 as usize];
    match keys.windows(2).find(equal) {
        Some(pair) => {
            Err(TreeError::Equal { first: pair[0].1 as usize, second: pair[1].1 as usize })
        }
        None => Ok(()),
    }
}

/// The error with leaves counted as they were given; `positions` are of those that were laid.
fn as_arrived(error: TreeError, positions: &[u32]) -> TreeError {
    let TreeError::Equal { first, second } = error else { return error };
    let given = |place: usize| {
        let laid = positions.iter().position(|position| *position as usize == place);
        laid.unwrap_or(place)
    };
    let (first, second) = (given(first), given(second));
    TreeError::Equal { first: first.min(second), second: first.max(second) }
}

/// A place among leaves, of which there are fewer than 2^32.
fn as_u32(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
