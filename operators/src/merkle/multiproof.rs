//! Proofs of many leaves at once: each sibling once, in the order of OpenZeppelin's flags form.
//!
//! The form: a queue begins with the leaves; each step takes its first node, joins it with the next
//! one (flag true) or with the next sibling (flag false), and puts the parent at the end. Source:
//! OpenZeppelin/merkle-tree `getMultiProof`, contracts `MerkleProof.multiProofVerify`.
//!
//! Our verifier knows places and count, so it needs no flags and cannot be led astray by them
//! (CVE-2023-34459 was a tree with a zero among its nodes). A contract has only the flags.
//! Invariant: what it accepts are exactly the leaves at these places of the published tree.

use std::collections::VecDeque;

use super::{
    hash::{Hash, NodeRule},
    heap_parent, heap_sibling, parent,
    profile::{Odd, Rules, Shape},
    proof::{Published, Refused, counted, partner, place},
    sibling,
    tree::{Nodes, Tree, TreeError},
    width_above,
};

/// A proof of several leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiproof {
    /// Places of the leaves in the order of the queue: ascending (levels), descending (heap).
    pub places: Vec<usize>,
    /// Number of leaves of the tree.
    pub count: usize,
    /// The siblings, each once. An odd node's partner is among them.
    pub siblings: Vec<Hash>,
    /// For contracts: whether a step's second node comes from the queue. None where a promoted
    /// node would have to wait, which that form cannot express.
    pub flags: Option<Vec<bool>>,
}

/// Why there is no proof of these leaves, or it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultiError {
    /// No leaves.
    #[error("a multiproof is of at least one leaf: name one")]
    Empty,
    /// A leaf was named that does not exist.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Places are not in the order of the queue, or one is there twice.
    #[error("`places` stands out of order, or has a place twice, at number {at} (counted from 0)")]
    Places {
        /// Number of the place that does not follow the one before it.
        at: usize,
    },
    /// Not as many leaves as places.
    #[error("{leaves} leaves came for {places} `places`")]
    Leaves {
        /// Leaves.
        leaves: usize,
        /// Places.
        places: usize,
    },
    /// As for one leaf.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A node on the way up, with what the walk carries for it.
struct At<T> {
    width: usize,
    i: usize,
    carried: T,
}

/// What a node meets.
enum Meets<T> {
    /// Its sibling is in the queue.
    Known(T),
    /// Its sibling, at this height and place, is in the proof.
    Sibling(usize, usize),
    /// It is odd.
    Odd,
}

/// Walks from the leaves to the root, level by level, each pair once. `join` gets the node, whether
/// it stands left, and what it meets.
fn walk<T, E>(
    rules: &Rules,
    count: usize,
    leaves: impl Iterator<Item = (usize, T)>,
    mut join: impl FnMut(T, bool, Meets<T>) -> Result<T, E>,
) -> Result<Option<T>, E> {
    let heap = rules.shape == Shape::Heap;
    let begin = |(i, carried)| At { width: count, i, carried };
    let mut queue: VecDeque<_> = leaves.map(begin).collect();
    let (mut height, mut level) = (0, count);
    while let Some(At { width, i, carried }) = queue.pop_front() {
        if width != level {
            (height, level) = (height + 1, width);
        }
        if (heap && i == 0) || (!heap && width <= 1) {
            return Ok(Some(carried));
        }
        let other = if heap { heap_sibling(i) } else { sibling(i) };
        let left = i < other;
        let known = queue.pop_front_if(|next| next.width == width && next.i == other);
        let meets = match known {
            Some(next) => Meets::Known(next.carried),
            None if !heap && other >= width => Meets::Odd,
            None => Meets::Sibling(height, other),
        };
        let carried = join(carried, left, meets)?;
        let (width, i) =
            if heap { (width, heap_parent(i)) } else { (width_above(width), parent(i)) };
        queue.push_back(At { width, i, carried });
    }
    Ok(None)
}

impl Tree {
    /// The proof of the leaves that were given as the `indices`-th, in any order, and those indices
    /// in the order in which their leaves stand in the proof.
    ///
    /// # Errors
    /// No index, one that does not exist, or two that are the same leaf.
    pub fn multiproof(&self, indices: &[usize]) -> Result<(Multiproof, Vec<usize>), MultiError> {
        let (rules, count) = (self.rules(), self.count());
        let mut order = Vec::with_capacity(indices.len());
        for index in indices {
            order.push((self.position(*index)?, *index));
        }
        // By position, which is from the end of a heap: the order of the queue.
        order.sort_unstable();
        let places: Vec<_> =
            order.iter().map(|(position, _)| place(rules.shape, *position, count)).collect();
        in_order(rules, count, &places)?;
        let (mut siblings, mut flags) = (Vec::new(), Vec::new());
        let leaves = order.iter().map(|(position, index)| (*position, *index));
        let begin = leaves
            .map(|(position, index)| Ok((place(rules.shape, position, count), self.leaf(index)?)));
        let begin: Vec<_> = begin.collect::<Result<_, TreeError>>()?;
        let leaves: Vec<_> = begin.iter().map(|(_, leaf)| *leaf).collect();
        walk(rules, count, begin.into_iter(), |node, left, meets| {
            let other = match meets {
                Meets::Known(other) => {
                    flags.push(true);
                    return Ok(beside(&rules.node, left, &node, &other));
                }
                Meets::Odd if rules.odd == Odd::Promote => return Ok(node),
                Meets::Odd => partner(rules.odd, &node),
                Meets::Sibling(height, i) => self.node(height, i),
            };
            flags.push(false);
            siblings.push(other);
            Ok::<_, TreeError>(beside(&rules.node, left, &node, &other))
        })?;
        let root = self.root()?;
        let flags =
            Some(flags).filter(|f| fold_flags(&rules.node, &leaves, &siblings, f) == Some(root));
        let proof = Multiproof { places, count, siblings, flags };
        Ok((proof, order.into_iter().map(|(_, index)| index).collect()))
    }

    /// The node at this height (levels) and place. The walk asks only for those that exist.
    fn node(&self, height: usize, i: usize) -> Hash {
        let found = match self.nodes() {
            Nodes::Levels(levels) => levels.all().nth(height).and_then(|level| level.get(i)),
            Nodes::Heap(heap) => heap.node(i),
        };
        found.copied().unwrap_or_default()
    }
}

/// Verifies that `leaves`, in the order of the proof's places, stand there in what was published.
///
/// # Errors
/// What does not agree.
pub fn verify_multiproof(
    rules: &Rules,
    published: &Published,
    leaves: &[Hash],
    proof: &Multiproof,
) -> Result<(), MultiError> {
    counted(rules, published, proof.count)?;
    let count = proof.count;
    if leaves.len() != proof.places.len() {
        return Err(MultiError::Leaves { leaves: leaves.len(), places: proof.places.len() });
    }
    in_order(rules, count, &proof.places)?;
    let (got, mut used) = (proof.siblings.len(), 0);
    let begin = proof.places.iter().copied().zip(leaves.iter().copied());
    let root = walk(rules, count, begin, |node, left, meets| {
        let odd = match meets {
            Meets::Known(other) => return Ok(beside(&rules.node, left, &node, &other)),
            Meets::Odd if rules.odd == Odd::Promote => return Ok(node),
            Meets::Odd => true,
            Meets::Sibling(..) => false,
        };
        let other = proof.siblings.get(used).ok_or(Refused::Length { got, want: used + 1 })?;
        if odd && *other != partner(rules.odd, &node) {
            return Err(Refused::Odd { height: used });
        }
        used += 1;
        Ok(beside(&rules.node, left, &node, other))
    })?;
    if used != got {
        return Err(Refused::Length { got, want: used }.into());
    }
    if root != Some(published.root) {
        return Err(Refused::Root.into());
    }
    Ok(())
}

/// Whether places are leaves' places, each once, in the order of the queue.
fn in_order(rules: &Rules, count: usize, places: &[usize]) -> Result<(), MultiError> {
    if places.is_empty() {
        return Err(MultiError::Empty);
    }
    let (first, last) = match rules.shape {
        Shape::Levels => (0, count.saturating_sub(1)),
        Shape::Heap => (count.saturating_sub(1), 2 * count.saturating_sub(1)),
    };
    for (at, &place) in places.iter().enumerate() {
        if place < first || place > last {
            return Err(Refused::Place { place, count }.into());
        }
        let before = at.checked_sub(1).map(|before| places[before]);
        let follows = before.is_none_or(|before| match rules.shape {
            Shape::Levels => before < place,
            Shape::Heap => before > place,
        });
        if !follows {
            return Err(MultiError::Places { at });
        }
    }
    Ok(())
}

fn beside(rule: &NodeRule, left: bool, node: &Hash, other: &Hash) -> Hash {
    if left { rule.join(node, other) } else { rule.join(other, node) }
}

/// What a contract computes from the flags form (`processMultiProof`); none where leaves, siblings
/// and flags do not fit together.
#[must_use]
pub fn fold_flags(
    node: &NodeRule,
    leaves: &[Hash],
    siblings: &[Hash],
    flags: &[bool],
) -> Option<Hash> {
    if leaves.is_empty() || leaves.len() + siblings.len() != flags.len() + 1 {
        return None;
    }
    let mut queue: VecDeque<Hash> = leaves.iter().copied().collect();
    let mut rest = siblings.iter();
    for flag in flags {
        let first = queue.pop_front()?;
        let second = if *flag { queue.pop_front()? } else { *rest.next()? };
        queue.push_back(node.join(&first, &second));
    }
    queue.pop_front().filter(|_| rest.next().is_none() && queue.is_empty())
}
