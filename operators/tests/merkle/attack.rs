//! Bytes as an attack on the verifiers: any bytes name a tree, a true proof of it, and changes.
//!
//! Lives here: how bytes are read, and the oracle that knows the whole tree and says what may be
//! accepted. Two callers: the test `fuzz` beside this file, on every machine, and the target of
//! `operators/fuzz`, where coverage finds the bytes. Panics where a verifier accepts what it must
//! not; a panic of the verifier itself is the other thing to be found.
//!
//! Root and count are published, so no attacker's. What may be accepted: that count and no other; a
//! place where a leaf stands; the leaf that stands there. Where pairs are sorted no place is hashed, so
//! there any leaf of the tree may pass, and whatever is no hash of a leaf's data but of nodes, or zeros
//! beside which an odd node was hashed: the cases of `docs/merkle.md`, "What to be careful about".

use std::collections::BTreeSet;

use semel_operators::merkle::{
    hash::{Hash, HashFn, Pair},
    multiproof::{Multiproof, fold_flags, verify_multiproof},
    profile::{Odd, PROFILES, Rules, Shape},
    proof::{Proof, Published, verify},
    tree::Tree,
};

/// Changes that are made to one proof, at most.
const CHANGES: usize = 12;

/// Bytes that are left; behind their end stand zeros.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    /// A small number, or one of any size.
    fn number(&mut self) -> usize {
        match self.byte() {
            255 => usize::from_le_bytes(std::array::from_fn(|_| self.byte())),
            small => usize::from(small),
        }
    }
}

/// A tree, and what an attacker who knows all of it has.
struct Known {
    rules: Rules,
    tree: Tree,
    published: Published,
    /// The leaf at each place where one stands.
    leaves: Vec<(usize, Hash)>,
    /// Nodes that are no leaves.
    inner: BTreeSet<Hash>,
}

impl Known {
    /// The tree that the bytes name: a profile, its pairs as they are or ordered, 2 to 41 leaves.
    fn new(input: &mut Input<'_>) -> Self {
        let mut rules = PROFILES[input.below(PROFILES.len())].rules();
        if input.byte() % 2 == 1 {
            rules.node.pair = Pair::Ordered;
        }
        let count = 2 + input.below(40);
        let given = (0..count).map(|i| HashFn::Sha256.of(&[&i.to_le_bytes()])).collect();
        let tree = Tree::build(&rules, given).expect("so many leaves make a tree");
        let proofs = (0..count).map(|i| (tree.proof(i), tree.leaf(i)));
        let proofs: Vec<_> = proofs.map(|(p, l)| (p.expect("proved"), l.expect("given"))).collect();
        let leaves: Vec<_> = proofs.iter().map(|(proof, leaf)| (proof.place, *leaf)).collect();
        let all = proofs.iter().flat_map(|(proof, _)| &proof.siblings).copied();
        let published = tree.published().expect("a root");
        let mut inner: BTreeSet<_> = all.chain([published.root]).collect();
        inner.retain(|node| leaves.iter().all(|(_, leaf)| leaf != node));
        Self { rules, tree, published, leaves, inner }
    }

    /// A hash: a leaf, a node, zeros, one of data that was not given, or any bytes.
    fn hash(&self, input: &mut Input<'_>) -> Hash {
        match input.byte() % 5 {
            0 => self.leaves[input.below(self.leaves.len())].1,
            1 => self.inner.iter().nth(input.below(self.inner.len())).copied().unwrap_or_default(),
            2 => [0; 32],
            3 => HashFn::Keccak256.of(&[&[input.byte()]]),
            _ => std::array::from_fn(|_| input.byte()),
        }
    }

    /// Ends the run if `leaf` may not be accepted at `place`.
    fn check(&self, leaf: &Hash, place: usize) {
        let there = self.leaves.iter().find(|(at, _)| *at == place);
        let (_, stands) = there.unwrap_or_else(|| panic!("accepted at place {place}: no leaf's"));
        let free = self.rules.node.pair == Pair::Sorted;
        let uneven = self.rules.shape == Shape::Heap || self.rules.odd == Odd::Promote;
        let may = stands == leaf
            || free && self.leaves.iter().any(|(_, known)| known == leaf)
            || free && uneven && self.inner.contains(leaf)
            || free && self.rules.odd == Odd::Zero && *leaf == [0; 32];
        assert!(may, "accepted at place {place}: {}", hex::encode(leaf));
    }
}

/// Attacks the verifiers in the way that the bytes say.
///
/// # Panics
/// Where a verifier accepts what it must not.
pub(crate) fn attack(bytes: &[u8]) {
    let mut input = Input(bytes);
    let known = Known::new(&mut input);
    if input.byte().is_multiple_of(2) {
        one(&known, &mut input)
    } else {
        several(&known, &mut input)
    }
}

fn one(known: &Known, input: &mut Input<'_>) {
    let index = input.below(known.tree.len());
    let mut proof: Proof = known.tree.proof(index).expect("proved");
    let (mut leaf, published) = (known.tree.leaf(index).expect("given"), known.published);
    assert_eq!(verify(&known.rules, &published, &leaf, &proof), Ok(()), "the true proof");
    for _ in 0..CHANGES {
        match input.byte() % 8 {
            0 => break,
            1 => proof.place = input.number(),
            2 => proof.count = input.number(),
            3 => leaf = known.hash(input),
            // Another tree's shape in all that the attacker says.
            4 => (proof.count, proof.place) = (input.number(), input.number()),
            _ => change(known, input, &mut proof.siblings),
        }
    }
    if verify(&known.rules, &published, &leaf, &proof).is_ok() {
        assert_eq!(proof.count, published.count, "accepted for another count");
        known.check(&leaf, proof.place);
    }
}

/// Changes siblings.
fn change(known: &Known, input: &mut Input<'_>, siblings: &mut Vec<Hash>) {
    let (kind, at) = (input.byte() % 4, input.below(siblings.len() + 1));
    match (kind, siblings.get_mut(at)) {
        (0, Some(node)) => node[input.below(32)] ^= 1 << (input.byte() % 8),
        (1, Some(node)) => *node = known.hash(input),
        (2, Some(_)) => {
            siblings.remove(at);
        }
        _ => siblings.insert(at, known.hash(input)),
    }
}

fn several(known: &Known, input: &mut Input<'_>) {
    let count = 1 + input.below(6);
    let indices: BTreeSet<_> = (0..count).map(|_| input.below(known.tree.len())).collect();
    let indices: Vec<_> = indices.into_iter().collect();
    let (mut proof, order): (Multiproof, _) = known.tree.multiproof(&indices).expect("proved");
    let given = order.iter().map(|index| known.tree.leaf(*index).expect("given"));
    let mut leaves: Vec<Hash> = given.collect();
    let published = known.published;
    assert_eq!(
        verify_multiproof(&known.rules, &published, &leaves, &proof),
        Ok(()),
        "the true one"
    );
    for _ in 0..CHANGES {
        match input.byte() % 8 {
            0 => break,
            1 => {
                let at = input.below(proof.places.len());
                if let Some(place) = proof.places.get_mut(at) {
                    *place = input.number();
                }
            }
            2 => proof.count = input.number(),
            3 => change(known, input, &mut leaves),
            4 => {
                let at = input.below(proof.places.len() + 1);
                proof.places.insert(at, input.number());
                leaves.insert(at.min(leaves.len()), known.hash(input));
            }
            5 => {
                if let Some(flags) = &mut proof.flags {
                    flags.push(input.byte() % 2 == 1);
                }
            }
            _ => change(known, input, &mut proof.siblings),
        }
    }
    if let Some(flags) = &proof.flags {
        // What a contract does: any answer will do, a panic will not.
        let _ = fold_flags(&known.rules.node, &leaves, &proof.siblings, flags);
    }
    if verify_multiproof(&known.rules, &published, &leaves, &proof).is_ok() {
        assert_eq!(proof.count, published.count, "accepted for another count");
        assert_eq!(proof.places.len(), leaves.len());
        for (leaf, place) in leaves.iter().zip(&proof.places) {
            known.check(leaf, *place);
        }
    }
}
