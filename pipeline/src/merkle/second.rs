//! A second opinion: roots by the crate `rs_merkle`, an implementation that is not ours.
//!
//! It builds levels and promotes odd nodes. A tree that duplicates them is expressed by leaves: where a
//! level is odd, the leaves below its last node are given once more, so that no level is, which is why
//! such a root does not bind the number of its leaves. May not live here: leaves, which our code makes.
//!
//! Invariant: what it cannot express gives no opinion, never a wrong one.

use rs_merkle::{Hasher, MerkleTree};
use semel_operators::merkle::{
    hash::{Hash, HashFn, Pair, Prefix},
    profile::{Equal, HashOrder, Odd, Rules, Shape},
};

/// `rs_merkle` knows a rule as a type: this one by numbers.
#[derive(Clone)]
struct Rule<const KECCAK: bool, const SORTED: bool, const ONE: bool>;

impl<const KECCAK: bool, const SORTED: bool, const ONE: bool> Hasher for Rule<KECCAK, SORTED, ONE> {
    type Hash = Hash;

    fn hash(data: &[u8]) -> Hash {
        let function = if KECCAK { HashFn::Keccak256 } else { HashFn::Sha256 };
        function.of(&[if ONE { &[1] } else { &[] }, data])
    }

    fn concat_and_hash(left: &Hash, right: Option<&Hash>) -> Hash {
        match right {
            None => *left,
            Some(right) if SORTED && right < left => Self::hash(&[*right, *left].concat()),
            Some(right) => Self::hash(&[*left, *right].concat()),
        }
    }
}

/// The root of these leaves, in the order given.
///
/// # Errors
/// A sentence, if `rs_merkle` cannot express the rules, or there is no leaf.
pub fn root(rules: &Rules, mut leaves: Vec<Hash>) -> Result<Hash, String> {
    let cannot = |what: &str| Err(format!("rs_merkle cannot express {what}"));
    if rules.shape == Shape::Heap {
        return cannot("a heap");
    }
    if rules.order == HashOrder::Sorted {
        leaves.sort_unstable();
    }
    if rules.equal == Equal::Drop {
        leaves.dedup();
    }
    match rules.odd {
        Odd::Zero => return cannot("an odd node that is paired with zeros"),
        Odd::Duplicate => even(&mut leaves),
        Odd::Promote => {}
    }
    let one = rules.node.prefix == Prefix::byte(1);
    if !one && !rules.node.prefix.is_empty() {
        return cannot("nodes with this prefix");
    }
    let by = match (rules.node.hash, rules.node.pair, one) {
        (HashFn::Keccak256, Pair::Sorted, false) => built::<Rule<true, true, false>>,
        (HashFn::Keccak256, Pair::Sorted, true) => built::<Rule<true, true, true>>,
        (HashFn::Keccak256, Pair::Ordered, false) => built::<Rule<true, false, false>>,
        (HashFn::Keccak256, Pair::Ordered, true) => built::<Rule<true, false, true>>,
        (HashFn::Sha256, Pair::Sorted, false) => built::<Rule<false, true, false>>,
        (HashFn::Sha256, Pair::Sorted, true) => built::<Rule<false, true, true>>,
        (HashFn::Sha256, Pair::Ordered, false) => built::<Rule<false, false, false>>,
        (HashFn::Sha256, Pair::Ordered, true) => built::<Rule<false, false, true>>,
    };
    by(&leaves).ok_or_else(|| "there is no leaf, and so no root".to_owned())
}

fn built<H: Hasher<Hash = Hash>>(leaves: &[Hash]) -> Option<Hash> {
    MerkleTree::<H>::from_leaves(leaves).root()
}

/// Gives leaves once more until every level but the root has even width.
fn even(leaves: &mut Vec<Hash>) {
    let mut below = 1;
    while leaves.len() > below {
        if !(leaves.len() / below).is_multiple_of(2) {
            leaves.extend_from_within(leaves.len() - below..);
        }
        below *= 2;
    }
}

#[cfg(test)]
mod tests {
    use semel_operators::merkle::{profile::PROFILES, tree::Tree};

    use super::*;

    /// Profiles that `rs_merkle` cannot express.
    const NONE: [&str; 3] = ["openzeppelin-standard", "openzeppelin-simple", "murky"];

    #[test]
    fn agrees_wherever_it_has_an_opinion() {
        for profile in PROFILES.iter() {
            let rules = profile.rules();
            for count in (1_u8..=33).chain([64, 65, 100, 127, 128, 129]) {
                let mut leaves: Vec<Hash> =
                    (0..count).map(|i| HashFn::Sha256.of(&[&[i]])).collect();
                leaves.push(leaves[0]);
                let opinion = root(&rules, leaves.clone());
                if NONE.contains(&profile.name.as_str()) {
                    assert!(opinion.unwrap_err().contains("cannot express"));
                } else {
                    let ours = Tree::build(&rules, leaves).unwrap().root().unwrap();
                    assert_eq!(opinion, Ok(ours), "{profile}, {count} leaves and one twice");
                }
            }
        }
    }

    #[test]
    fn a_wrong_root_is_not_agreed_with() {
        let rules = PROFILES[0].rules();
        let leaves = vec![[1; 32], [2; 32], [3; 32]];
        let right = root(&rules, leaves.clone()).unwrap();
        assert_ne!(root(&rules, vec![[1; 32], [2; 32], [4; 32]]).unwrap(), right);
        // Why the number of leaves is bound: the root of a duplicating profile does not tell it.
        assert_eq!(root(&rules, [leaves.clone(), vec![leaves[2]]].concat()).unwrap(), right);
        assert!(root(&rules, Vec::new()).unwrap_err().contains("no leaf"));
    }
}
