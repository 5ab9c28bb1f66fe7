//! Random trees of 1 to 300 leaves, 20 seeds each, against `merkletreejs`, `@openzeppelin/merkle-tree`
//! (frozen as digests, see `operators/oracles/`) and the crate `solana-merkle-tree`.
//!
//! Invariants: rows are drawn here and in `trees.mjs` from the same bytes; roots and three proofs of
//! each tree enter its digest.

use std::{collections::BTreeMap, fs, path::Path};

use semel_operators::merkle::{
    hash::Hash,
    leaf::{Field, Value},
    profile::{Profile, by_name, rows::Row},
    tree::Tree,
};
use sha2::{Digest, Sha256};

const SIZES: usize = 300;
const BLOCK: usize = 10;
const SEEDS: u32 = 20;

/// The digests that foreign builders gave: profile and seed, then one for each ten sizes.
fn frozen() -> BTreeMap<(String, u32), Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/digests.txt");
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let line = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let (profile, seed) = (words.next().unwrap(), words.next().unwrap());
        ((profile, seed.parse().unwrap()), words.collect())
    };
    text.lines().map(line).collect()
}

fn sha(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn draw(letter: &str, seed: u32, n: usize, i: usize) -> Hash {
    let number = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
    let label = format!("semel {letter}");
    sha(&[label.as_bytes(), &seed.to_be_bytes(), &number(n), &number(i)])
}

/// What both sides draw for a row.
struct Drawn {
    who: Hash,
    index: u64,
    amount: u64,
    locked: u64,
    wide: Hash,
    epoch: u64,
    id: String,
}

/// Some rows are the row before once more, some have its claimant.
fn drawn(seed: u32, n: usize) -> Vec<Drawn> {
    let row = |i: usize| {
        let j = if i % 11 == 5 { i - 1 } else { i };
        let b = draw("b", seed, n, j);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let long = if j % 4 == 0 { ":of-a-long-name-beyond-one-word" } else { "" };
        Drawn {
            who: draw("a", seed, n, if j % 7 == 3 { j - 1 } else { j }),
            index: j as u64,
            amount: number(&b[..7]),
            locked: number(&b[20..27]),
            wide: b,
            epoch: number(&b[16..20]),
            id: format!("twitch:é{}:{}{long}", j % 5, hex::encode(&b[8..14])),
        }
    };
    (0..n).map(row).collect()
}

/// The value that a profile's field has, by its name.
fn value(profile: &Profile, field: &Field, one: &Hash, row: &Drawn) -> Value {
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    match field.name.as_str() {
        "claimer" | "claimant" | "wallet" | "user_hash" | "leaf" => bytes(&row.who),
        "account" => bytes(&row.who[12..]),
        "index" => row.index.into(),
        "amount" if field.kind.width() == Some(32) => {
            field.parse(&format!("0x{}", hex::encode(row.wide))).unwrap()
        }
        "amount" | "total" | "unlocked" => row.amount.into(),
        "locked" => row.locked.into(),
        "epoch" | "root_seq" => row.epoch.into(),
        "id" | "channel" => Value::Text(row.id.clone()),
        "item" => bytes(row.id.as_bytes()),
        "subject" | "channel_config" | "mint" => bytes(one),
        other => panic!("{}: nothing is drawn for `{other}`", profile.name),
    }
}

fn rows(profile: &Profile, seed: u32, n: usize, all: &[Drawn]) -> Vec<Row> {
    let one = draw("m", seed, n, 0);
    all.iter().map(|r| profile.asked().map(|f| value(profile, f, &one, r)).collect()).collect()
}

/// What enters the digest of a tree: its root, and the proofs of its first, middle and last leaf.
fn witness(profile: &Profile, rows: Vec<Row>, digest: &mut Sha256) {
    let (tree, rows) = profile.tree(rows).unwrap();
    digest.update(tree.root().unwrap());
    for i in [0, rows.len() / 2, rows.len() - 1] {
        let siblings = tree.proof(i).unwrap().siblings;
        digest.update([u8::try_from(siblings.len()).unwrap()]);
        siblings.iter().for_each(|sibling| digest.update(sibling));
    }
}

#[test]
fn trees_are_those_of_merkletreejs_and_openzeppelin() {
    let frozen = frozen();
    let profiles: BTreeMap<_, _> =
        frozen.keys().map(|(name, _)| (name.clone(), by_name(name).unwrap())).collect();
    assert_eq!((profiles.len(), frozen.len()), (12, 12 * SEEDS as usize), "digests.txt is cut");
    for seed in 0..SEEDS {
        for (block, from) in (1..=SIZES).step_by(BLOCK).enumerate() {
            let all: Vec<_> = (from..from + BLOCK).map(|n| drawn(seed, n)).collect();
            for (name, profile) in &profiles {
                let mut digest = Sha256::new();
                for all in &all {
                    witness(profile, rows(profile, seed, all.len(), all), &mut digest);
                }
                let ours = hex::encode(&digest.finalize()[..8]);
                let theirs = &frozen[&(name.clone(), seed)][block];
                let to = from + BLOCK - 1;
                assert_eq!(&ours, theirs, "`{name}`, seed {seed}, trees of {from} to {to} leaves");
            }
        }
    }
}

#[test]
fn trees_are_those_of_solana_merkle_tree() {
    let profile = by_name("solana-merkle-tree").unwrap();
    for seed in 0..SEEDS {
        for n in 1..=SIZES {
            let all = drawn(seed, n);
            let items: Vec<_> = all.iter().map(|row| row.id.clone()).collect();
            let theirs = solana_merkle_tree::MerkleTree::new(&items);
            let leaves = profile.leaves(&rows(&profile, seed, n, &all)).unwrap();
            let ours = Tree::build(&profile.rules(), leaves.clone()).unwrap();
            let root = *theirs.get_root().unwrap();
            assert_eq!(ours.root().unwrap(), root.to_bytes(), "seed {seed}, {n} leaves");
            for i in [0, n / 2, n - 1] {
                let proof = theirs.find_path(i).unwrap();
                let leaf = solana_hash::Hash::new_from_array(leaves[i]);
                assert!(proof.verify(leaf), "seed {seed}, leaf {i} of {n}");
            }
        }
    }
}
