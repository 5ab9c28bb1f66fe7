//! The table of what goes wrong in the field, each with its sentence; and what is not explained.

use super::*;
use crate::merkle::{
    leaf::ByteOrder,
    profile::{Duplicates, Odd, by_name},
    tree::Tree,
};

/// Rows that every shipped profile with these fields can read.
fn records(count: usize) -> Vec<Record> {
    let record = |i: usize| {
        let of = |name: &str, value: String| (name.to_owned(), value);
        let account: String =
            (0..20).map(|b| format!("{:02x}", (i * 31 + b * 7 + 1) % 256)).collect();
        let key: String = (0..32).map(|b| format!("{:02x}", (i * 37 + b * 5 + 3) % 256)).collect();
        Record::from([
            of("index", i.to_string()),
            of("account", format!("0x{account}")),
            of("claimer", key.clone()),
            of("claimant", key.clone()),
            of("leaf", key.clone()),
            of("subject", "11".repeat(32)),
            of("epoch", "7".to_owned()),
            of("amount", (1_000 + i * i).to_string()),
            of("unlocked", (500 + i).to_string()),
            of("locked", (900 - i).to_string()),
            of("id", format!("twitch:channel:{i}")),
        ])
    };
    (0..count).map(record).collect()
}

/// What a party with `profile` publishes for the records: the root, and the proof of one.
fn published(profile: &Profile, records: &[Record], of: usize) -> (Hash, GivenProof) {
    let candidate = Candidate { profile: profile.clone(), says: String::new(), shift: Shift::None };
    let rows: Vec<_> = records.iter().map(|record| candidate.row(record).unwrap()).collect();
    let own = rows[of].clone();
    let leaves = profile.arrange(rows).unwrap();
    let at = leaves.iter().position(|row| *row == own).unwrap();
    let hashes = leaves.iter().map(|row| profile.leaf(row).unwrap()).collect();
    let tree = Tree::build(&profile.rules(), hashes).unwrap();
    let siblings = tree.proof(at).unwrap().siblings;
    (tree.root().unwrap(), GivenProof { record: of, siblings, place: None, count: None })
}

fn answer(meant: &str, records: &[Record], root: Hash, proof: Option<&GivenProof>) -> Answer {
    let profile = by_name(meant).unwrap();
    explain(&Question { profile: &profile, records, root, proof }, &mut |_, _| {})
}

fn sentence(answer: Answer) -> String {
    match answer {
        Answer::Differs { sentence, .. } => sentence,
        other => panic!("{other:?}"),
    }
}

type Change = fn(&mut Profile);

/// The profile that was meant, what the other side does instead, and the sentence.
const TABLE: &[(&str, Change, &str)] = &[
    (
        "uniswap",
        |p| (p.order, p.duplicates) = (LeafOrder::Given, Duplicates::Keep),
        "right for `uniswap` with unsorted leaves",
    ),
    ("uniswap", |p| p.leaf.hashing = Hashing::Twice, "leaf is hashed once, the root expects twice"),
    ("uniswap", |p| p.odd = Odd::Duplicate, "odd node was duplicated, not promoted"),
    ("ao-claim-v0", |p| p.odd = Odd::Promote, "odd node was promoted, not duplicated"),
    ("murky", |p| p.odd = Odd::Promote, "odd node was promoted, not paired with zeros"),
    (
        "ao-claim-v0",
        |p| p.leaf.fields[2].kind = FieldType::Uint { bits: 64, order: ByteOrder::Big },
        "`amount` is big-endian here",
    ),
    (
        "saber",
        |p| p.leaf.fields[0].kind = FieldType::Uint { bits: 32, order: ByteOrder::Little },
        "`index` has 32 bits here, not 64",
    ),
    ("saber", |p| p.leaf.fields.swap(0, 1), "`index` and `claimant` are swapped here"),
    ("uniswap", |p| _ = p.leaf.fields.remove(0), "`index` is not in the leaf here"),
    // All else has 32 bytes in this leaf: padding the account is what abi.encode does.
    ("uniswap", |p| p.leaf.fields[1].kind = FieldType::Fixed(32), "abi.encode, not packed"),
    (
        "uniswap",
        |p| p.leaf.encoding = super::super::profile::Encoding::Abi,
        "abi.encode, not packed",
    ),
    (
        "ao-claim-v1",
        |p| p.leaf.prefix = super::super::hash::Prefix::NONE,
        "leaf data was not prefixed with `leaf:` here",
    ),
    ("rs_merkle", |p| p.pair = super::super::hash::Pair::Sorted, "a pair was sorted"),
    (
        "saber",
        |p| p.hash = super::super::hash::HashFn::Sha256,
        "the hash was sha256, not keccak256",
    ),
    (
        "jito",
        |p| p.node_prefix = super::super::hash::Prefix::NONE,
        "a pair was not prefixed with `0x01` here",
    ),
    ("uniswap", |p| *p = by_name("saber").unwrap(), "is right for `saber`"),
    (
        "uniswap",
        |p| {
            let fields = p.leaf.fields.clone();
            *p = by_name("openzeppelin-standard").unwrap();
            p.leaf.fields = fields;
        },
        "right for `openzeppelin-standard` with the fields of `uniswap`",
    ),
];

#[test]
fn the_rule_that_differs_is_named_from_all_leaves_and_a_proof() {
    // 7 leaves and the last of them: an odd node, and enough to tell the rules apart.
    let records = records(7);
    for (meant, change, want) in TABLE {
        let mut profile = by_name(meant).unwrap();
        change(&mut profile);
        let (root, proof) = published(&profile, &records, 6);
        let found = sentence(answer(meant, &records, root, Some(&proof)));
        assert!(found.contains(want), "{meant}, all leaves and a proof: {found}, not {want}");
        assert!(found.starts_with("the proof is right for"), "{found}");
        let found = sentence(answer(meant, &records, root, None));
        assert!(found.contains(want), "{meant}, all leaves: {found}, not {want}");
    }
}

#[test]
fn one_leaf_and_its_proof_tell_the_rules_of_leaves() {
    let records = records(7);
    for (meant, change, want) in TABLE {
        let mut profile = by_name(meant).unwrap();
        change(&mut profile);
        let (root, mut proof) = published(&profile, &records, 2);
        proof.record = 0;
        let found = answer(meant, &records[2..3], root, Some(&proof));
        // Sorted leaves, equal leaves and odd nodes leave no trace in this leaf's proof; and where
        // its place is not known, one of the places is that of sorted pairs.
        match found {
            Answer::Agrees => {
                let traceless = ["unsorted", "odd node", "a pair was sorted"];
                assert!(traceless.iter().any(|rule| want.contains(rule)), "{meant}: {want}");
            }
            other => {
                let found = sentence(other);
                assert!(found.contains(want), "{meant}: {found}, not {want}");
            }
        }
    }
}

#[test]
fn a_proof_by_the_other_odd_rule_is_told_from_one_leaf() {
    let records = records(7);
    let promoting = by_name("uniswap").unwrap();
    let duplicating = Profile { odd: Odd::Duplicate, ..promoting.clone() };
    let (root, _) = published(&duplicating, &records, 0);
    // The leaf that stands last when sorted: it is odd.
    let odd = (0..7)
        .find(|i| published(&promoting, &records, *i).1.siblings.len() == 2)
        .expect("one of seven leaves is odd");
    let (_, mut proof) = published(&promoting, &records, odd);
    proof.record = 0;
    let found = sentence(answer("uniswap", &records[odd..=odd], root, Some(&proof)));
    assert_eq!(
        found,
        "the proof is right for `uniswap` but for one rule: odd node was duplicated, not promoted"
    );
}

#[test]
fn an_index_that_counts_from_one_is_told() {
    let mut records = records(5);
    let profile = by_name("uniswap").unwrap();
    let (root, proof) = published(&profile, &records, 3);
    for (i, record) in records.iter_mut().enumerate() {
        record.insert("index".into(), (i + 1).to_string());
    }
    let found = sentence(answer("uniswap", &records, root, Some(&proof)));
    assert!(found.contains("`index` is one less in the leaf than here"), "{found}");
}

#[test]
fn a_wrong_proof_under_a_right_root_is_told_apart() {
    let records = records(6);
    let profile = by_name("ao-claim-v0").unwrap();
    let (root, mut proof) = published(&profile, &records, 1);
    assert_eq!(answer("ao-claim-v0", &records, root, Some(&proof)), Answer::Agrees);
    assert_eq!(answer("ao-claim-v0", &records, root, None), Answer::Agrees);
    let (_, others) = published(&profile, &records, 4);
    let other = GivenProof { record: 1, ..others };
    let found = sentence(answer("ao-claim-v0", &records, root, Some(&other)));
    assert!(found.contains("and the proof is not: it is the proof of leaf 4"), "{found}");
    proof.siblings[1][0] ^= 1;
    let found = sentence(answer("ao-claim-v0", &records, root, Some(&proof)));
    assert!(found.contains("hash 1 (counted from 0) is another"), "{found}");
    proof.siblings.pop();
    let found = sentence(answer("ao-claim-v0", &records, root, Some(&proof)));
    assert!(found.contains("it has 2 hashes, and this leaf's has 3"), "{found}");
}

#[test]
fn a_right_proof_beside_records_of_another_tree_is_told() {
    let records = records(7);
    let (root, proof) = published(&by_name("uniswap").unwrap(), &records, 2);
    let found = sentence(answer("uniswap", &records[..6], root, Some(&proof)));
    assert!(found.contains("the records are not those of its tree"), "{found}");
}

#[test]
fn what_no_rule_explains_is_not_explained() {
    let records = records(7);
    let (mut root, proof) = published(&by_name("uniswap").unwrap(), &records, 2);
    root[31] ^= 1;
    for proof in [None, Some(&proof)] {
        let Answer::Unknown { tried } = answer("uniswap", &records, root, proof) else {
            panic!("a root that nothing leads to was explained");
        };
        assert!(tried > 300, "only {tried} rules were tried");
    }
    let long = GivenProof { record: 0, siblings: vec![root; 40], place: None, count: None };
    assert!(matches!(answer("uniswap", &records[..1], root, Some(&long)), Answer::Unknown { .. }));
}

#[test]
fn every_variation_differs_from_its_profile_and_says_so_once() {
    for profile in PROFILES.iter() {
        let all = variations(profile);
        assert!(all.len() > 3, "{}", profile.name);
        for (at, variation) in all.iter().enumerate() {
            assert_ne!(variation.profile, *profile, "{}{}", profile.name, variation.says);
            assert!(
                all[..at].iter().all(|other| other.says != variation.says),
                "{}: twice{}",
                profile.name,
                variation.says
            );
        }
    }
}
