//! Trees against other builders, and against themselves after any history.
//!
//! `rs_merkle` checks the promoting rules. It cannot express a duplicating tree: overriding
//! `concat_and_hash` also pairs the lone root of every power of two with itself, one level too
//! many. Those rules are checked against a recursive builder that shares no code with the tree.

use proptest::prelude::*;

use super::{bands::BLOCK, *};
use crate::merkle::{
    hash::{
        HashFn, NodeRule, Pair, Prefix, keccak,
        lanes::{Cores, Lanes},
    },
    profile::{Limits, Odd, PROFILES, by_name},
    proof::verify,
};

pub(super) fn rules(pair: Pair, odd: Odd) -> Rules {
    Rules {
        node: NodeRule { hash: HashFn::Keccak256, pair, prefix: Prefix::NONE },
        order: HashOrder::Given,
        equal: Equal::Keep,
        shape: Shape::Levels,
        odd,
        limits: Limits::default(),
    }
}

/// Every shipped profile's rules, and every combination of what the tree itself decides.
fn all_rules() -> Vec<Rules> {
    let mut all: Vec<_> = PROFILES.iter().map(crate::merkle::profile::Profile::rules).collect();
    for pair in [Pair::Sorted, Pair::Ordered] {
        for odd in [Odd::Promote, Odd::Duplicate, Odd::Zero] {
            for order in [HashOrder::Given, HashOrder::Sorted] {
                for equal in [Equal::Keep, Equal::Drop] {
                    all.push(Rules { order, equal, ..rules(pair, odd) });
                }
            }
        }
        for order in [HashOrder::Given, HashOrder::Sorted] {
            all.push(Rules { order, shape: Shape::Heap, ..rules(pair, Odd::Promote) });
        }
    }
    // What is dropped are neighbours, so leaves as given keep theirs: `check` refuses that profile.
    all.retain(|r| r.equal != Equal::Drop || r.order == HashOrder::Sorted);
    all
}

fn root(rules: &Rules, leaves: &[Hash]) -> String {
    hex::encode(Tree::build(rules, leaves.to_vec()).unwrap().root().unwrap())
}

#[test]
fn seven_leaves_tell_the_rules_apart() {
    let leaves: Vec<Hash> = (b'a'..=b'g').map(|letter| keccak(&[letter])).collect();
    for (rules, want) in [
        (
            rules(Pair::Ordered, Odd::Promote),
            "ec287d0f255d6e478a8e9144b99f869610196641c74af6c76f6621a4da7d67cb",
        ),
        (
            rules(Pair::Sorted, Odd::Promote),
            "329bcb82b465308e4d3445408c794db388e401855b1fe6f2981c93ca34ce516b",
        ),
        (
            rules(Pair::Sorted, Odd::Duplicate),
            "b202ba11940427b6db83a6f0834e52bf1c93e19799fec37aa76c933c09652aa7",
        ),
    ] {
        assert_eq!(root(&rules, &leaves), want, "{rules:?}");
    }
}

#[test]
fn no_leaves_give_no_root_and_one_leaf_is_its_root() {
    for rules in all_rules() {
        let min = rules.limits.leaves_min;
        assert_eq!(Tree::new(&rules).root(), Err(TreeError::TooFew { count: 0, min }));
        assert_eq!(Tree::build(&rules, Vec::new()), Err(TreeError::TooFew { count: 0, min }));
        let tree = Tree::build(&rules, vec![[3; 32]]);
        if min > 1 {
            assert_eq!(tree, Err(TreeError::TooFew { count: 1, min }));
        } else {
            assert_eq!(tree.unwrap().root(), Ok([3; 32]));
        }
    }
}

#[test]
fn limits_and_equal_leaves_are_held_and_leave_the_tree_as_it_was() {
    for order in [HashOrder::Given, HashOrder::Sorted] {
        for shape in [Shape::Levels, Shape::Heap] {
            let limits = Limits { leaves_max: 3, ..Limits::default() };
            let base = rules(Pair::Sorted, Odd::Promote);
            let rules = Rules { order, shape, limits, equal: Equal::Refuse, ..base };
            let mut tree = Tree::build(&rules, vec![[9; 32], [5; 32]]).unwrap();
            let before = tree.clone();
            let many = TreeError::TooMany { count: 4, max: 3 };
            assert_eq!(tree.append_many(&[[1; 32], [2; 32]]), Err(many));
            let equal = TreeError::Equal { first: 0, second: 2 };
            assert_eq!(tree.append([9; 32]), Err(equal), "{order:?} {shape:?}");
            assert_eq!(tree, before);
            tree.append([7; 32]).unwrap();
            assert_eq!(tree.len(), 3);
            assert_eq!(tree.leaf(3), Err(TreeError::NoLeaf { index: 3, count: 3 }));
        }
    }
}

#[derive(Clone)]
struct SortedKeccak;
impl rs_merkle::Hasher for SortedKeccak {
    type Hash = Hash;
    fn hash(data: &[u8]) -> Hash {
        keccak(data)
    }
    fn concat_and_hash(left: &Hash, right: Option<&Hash>) -> Hash {
        right.map_or(*left, |right| keccak(&[*left.min(right), *left.max(right)].concat()))
    }
}

#[derive(Clone)]
struct OrderedKeccak;
impl rs_merkle::Hasher for OrderedKeccak {
    type Hash = Hash;
    fn hash(data: &[u8]) -> Hash {
        keccak(data)
    }
}

/// A tree by definition: the root of one node is the node, else of the pairs.
fn by_definition(rules: &Rules, nodes: &[Hash]) -> Hash {
    if let [root] = nodes {
        return *root;
    }
    let join = |pair: &[Hash]| match (pair, rules.odd) {
        ([a, b], _) => rules.node.join(a, b),
        ([a], Odd::Promote) => *a,
        ([a], Odd::Duplicate) => rules.node.join(a, a),
        ([a], Odd::Zero) => rules.node.join(a, &[0; 32]),
        _ => unreachable!("chunks of two"),
    };
    by_definition(rules, &nodes.chunks(2).map(join).collect::<Vec<_>>())
}

/// OpenZeppelin's heap by definition.
fn heap_by_definition(rules: &Rules, leaves: &[Hash]) -> Hash {
    let count = leaves.len();
    let mut nodes = vec![[0; 32]; 2 * count - 1];
    for (position, leaf) in leaves.iter().enumerate() {
        nodes[heap_leaf(position, count)] = *leaf;
    }
    for i in (0..count - 1).rev() {
        nodes[i] = rules.node.join(&nodes[2 * i + 1], &nodes[2 * i + 2]);
    }
    nodes[0]
}

/// Leaves of which some are equal.
fn leaves(most: usize) -> impl Strategy<Value = Vec<Hash>> {
    let leaf = prop_oneof![any::<Hash>(), any::<u8>().prop_map(|byte| keccak(&[byte % 16]))];
    prop::collection::vec(leaf, 2..most)
}

proptest! {
    #[test]
    fn roots_agree_with_rs_merkle(leaves in prop::collection::vec(any::<Hash>(), 1..70)) {
        let root = |pair| Tree::build(&rules(pair, Odd::Promote), leaves.clone()).unwrap().root();
        prop_assert_eq!(
            root(Pair::Sorted).ok(),
            rs_merkle::MerkleTree::<SortedKeccak>::from_leaves(&leaves).root()
        );
        prop_assert_eq!(
            root(Pair::Ordered).ok(),
            rs_merkle::MerkleTree::<OrderedKeccak>::from_leaves(&leaves).root()
        );
    }

    #[test]
    fn roots_agree_with_the_definition(leaves in leaves(70)) {
        for rules in all_rules() {
            let mut laid = leaves.clone();
            if rules.order == HashOrder::Sorted {
                laid.sort_unstable();
            }
            if rules.equal == Equal::Drop {
                laid.dedup();
            }
            let tree = Tree::build(&rules, leaves.clone()).unwrap();
            let want = match rules.shape {
                Shape::Levels => by_definition(&rules, &laid),
                Shape::Heap => heap_by_definition(&rules, &laid),
            };
            prop_assert_eq!(tree.root(), Ok(want), "{:?}", rules);
            prop_assert_eq!((tree.count(), tree.len()), (laid.len(), leaves.len()));
            for (index, leaf) in leaves.iter().enumerate() {
                prop_assert_eq!(tree.leaf(index), Ok(*leaf));
            }
        }
    }

    #[test]
    fn any_history_gives_the_tree_that_is_built_at_once(
        leaves in leaves(60),
        steps in prop::collection::vec((any::<bool>(), 0_usize..60), 1..12),
    ) {
        for rules in all_rules() {
            let mut tree = Tree::new(&rules);
            let mut given = 0;
            for (grow, by) in &steps {
                if *grow {
                    let to = (given + by % 9).min(leaves.len());
                    match &leaves[given..to] {
                        [one] => tree.append(*one).unwrap(),
                        more => tree.append_many(more).unwrap(),
                    }
                    given = to;
                } else {
                    tree.truncate(*by);
                    given = given.min(*by);
                }
                let at_once = Tree::build_by(&rules, Means::best(), leaves[..given].to_vec());
                prop_assert_eq!(Ok(&tree), at_once.as_ref(), "{:?} {}", rules, given);
            }
        }
    }

    #[test]
    fn leaves_by_hash_do_not_care_for_the_order_of_arrival(leaves in leaves(40)) {
        for name in ["openzeppelin-standard", "openzeppelin-simple", "uniswap", "saber"] {
            let rules = by_name(name).unwrap().rules();
            let turned: Vec<_> = leaves.iter().rev().copied().collect();
            prop_assert_eq!(root(&rules, &leaves), root(&rules, &turned));
        }
    }
}

/// Every way to hash that this machine has, on one core and on pools of several sizes.
fn every_means(build: impl Fn(Means) -> Tree + Sync) -> Vec<Tree> {
    let mut trees = Vec::new();
    for lanes in Lanes::ALL {
        trees.extend(Means::on(lanes, Cores::One).map(&build));
    }
    let best = Means::best();
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        trees.push(pool.install(|| build(best)));
    }
    trees
}

/// A tree that was never hashed in blocks: what is added at a time is too little.
fn level_by_level(rules: &Rules, leaves: &[Hash]) -> Tree {
    let mut tree = Tree::new(rules);
    for few in leaves.chunks(BLOCK + 1) {
        tree.append_many(few).unwrap();
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    // Sizes around whole blocks, changes that begin and end anywhere.
    #[test]
    fn blocks_and_cores_change_no_node(
        blocks in 2_usize..6,
        beyond in prop_oneof![Just(-1_isize), Just(0), Just(1), -2000_isize..2000],
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        pair in prop_oneof![Just(Pair::Sorted), Just(Pair::Ordered)],
        odd in prop_oneof![Just(Odd::Promote), Just(Odd::Duplicate), Just(Odd::Zero)],
    ) {
        let count = (blocks * BLOCK).strict_add_signed(beyond);
        let leaves: Vec<Hash> = (0..count).map(|i| keccak(&i.to_le_bytes())).collect();
        let rules = rules(pair, odd);
        let want = level_by_level(&rules, &leaves);
        prop_assert_eq!(want.root(), Ok(by_definition(&rules, &leaves)));
        let built = |means| Tree::build_by(&rules, means, leaves.clone()).unwrap();
        for tree in every_means(built) {
            prop_assert!(tree == want, "built of {} leaves, {:?}", count, rules);
        }
        let from = from.index(count);
        let grown = |means| {
            let mut tree = Tree::build_by(&rules, means, leaves[..from].to_vec()).unwrap();
            tree.append_many(&leaves[from..]).unwrap();
            tree
        };
        for tree in every_means(grown) {
            prop_assert!(tree == want, "of {} leaves to {}, {:?}", from, count, rules);
        }
        let to = to.index(count);
        let mut cut = want.clone();
        cut.truncate(to);
        prop_assert!(cut == level_by_level(&rules, &leaves[..to]), "cut to {}, {:?}", to, rules);
    }
}

#[test]
fn one_leaf_beyond_a_power_of_two_is_a_level_more_and_goes_away_without_a_trace() {
    let full = 1 << 20;
    let leaf = |i: usize| {
        let mut leaf = [0; 32];
        leaf[..8].copy_from_slice(&i.to_le_bytes());
        leaf
    };
    for odd in [Odd::Promote, Odd::Duplicate, Odd::Zero] {
        let rules = rules(Pair::Sorted, odd);
        let mut tree = Tree::build(&rules, (0..full).map(leaf).collect()).unwrap();
        let before = tree.root().unwrap();
        tree.append(leaf(full)).unwrap();
        let lone = if odd == Odd::Promote { 1 } else { 21 };
        for (index, siblings) in [(0, 21), (full, lone)] {
            let (leaf, proof) = (tree.leaf(index).unwrap(), tree.proof(index).unwrap());
            assert_eq!(proof.siblings.len(), siblings, "{odd:?}, leaf {index}");
            let published = tree.published().unwrap();
            assert_eq!(crate::merkle::proof::verify(&rules, &published, &leaf, &proof), Ok(()));
        }
        let allowed = Limits { leaves_max: 1 << 20, ..Limits::default() };
        let mut held = Tree::build(&Rules { limits: allowed, ..rules }, vec![[1; 32]]).unwrap();
        let many: Vec<_> = (0..full).map(leaf).collect();
        let refused = TreeError::TooMany { count: full + 1, max: 1 << 20 };
        assert_eq!(held.append_many(&many), Err(refused));
        assert_eq!(held.len(), 1);
        tree.truncate(full);
        assert_eq!(tree.root().unwrap(), before);
    }
}

// One leaf beyond a full tree: the deepest levels have one odd node each, up to the root.
#[test]
fn a_leaf_beyond_two_to_the_twenty_is_proved_or_refused() {
    const FULL: usize = 1 << 20;
    let leaves: Vec<Hash> = (0..=FULL)
        .map(|i| {
            let mut leaf = [7; 32];
            leaf[..8].copy_from_slice(&i.to_be_bytes());
            leaf
        })
        .collect();
    for name in ["ao-claim-v0", "rs_merkle", "openzeppelin-simple", "murky"] {
        let rules = by_name(name).unwrap().rules();
        let tree = Tree::build(&rules, leaves.clone()).unwrap();
        let published = tree.published().unwrap();
        assert_eq!(published.count, FULL + 1);
        for index in [0, FULL / 2, FULL] {
            let (leaf, proof) = (tree.leaf(index).unwrap(), tree.proof(index).unwrap());
            assert_eq!(verify(&rules, &published, &leaf, &proof), Ok(()));
        }
        let none = TreeError::NoLeaf { index: FULL + 1, count: FULL + 1 };
        assert_eq!(tree.proof(FULL + 1), Err(none));
        if rules.shape == Shape::Levels {
            let mut full = tree.clone();
            full.truncate(FULL);
            let full = full.root().unwrap();
            let partner = |node: &Hash| match rules.odd {
                Odd::Zero => [0; 32],
                Odd::Duplicate | Odd::Promote => *node,
            };
            let last = (0..20).fold(leaves[FULL], |node, _| match rules.odd {
                Odd::Promote => node,
                Odd::Duplicate | Odd::Zero => rules.node.join(&node, &partner(&node)),
            });
            assert_eq!(published.root, rules.node.join(&full, &last), "{name}");
        }
        let limits = Limits { leaves_max: 1 << 20, proof_max: 20, ..Limits::default() };
        let narrow = Rules { limits, ..rules };
        let refused = TreeError::TooMany { count: FULL + 1, max: 1 << 20 };
        assert_eq!(Tree::build(&narrow, leaves.clone()), Err(refused));
        let mut tree = Tree::build(&narrow, leaves[..FULL].to_vec()).unwrap();
        let before = tree.root();
        assert_eq!(tree.append(leaves[FULL]), Err(refused));
        assert_eq!(tree.root(), before);
    }
}
