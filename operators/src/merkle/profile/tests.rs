//! Profiles against published vectors, each with its origin, and wrong profiles.

use serde_json::json;

use super::*;
use crate::merkle::{leaf::text::unhex_hash, tree::Tree};

fn values(profile: &Profile, row: &[&str]) -> Vec<Value> {
    profile.asked().zip(row).map(|(field, text)| field.parse(text).unwrap()).collect()
}

fn leaf(profile: &Profile, row: &[&str]) -> String {
    hex::encode(profile.leaf(&values(profile, row)).unwrap())
}

fn tree(profile: &Profile, rows: &[&[&str]]) -> Tree {
    profile.tree(rows.iter().map(|row| values(profile, row)).collect()).unwrap().0
}

fn root(profile: &Profile, rows: &[&[&str]]) -> String {
    hex::encode(tree(profile, rows).root().unwrap())
}

const CLAIMER: &str = "2pHjZLqsSqi35xuYHmZbZBM1xfYV6Ruv57r3eFPvZZaD";

// Inputs of the Attention Oracle's public repository; roots by an independent builder.
#[test]
fn ao_claim_v0_agrees_with_the_public_inputs() {
    let profile = by_name("ao-claim-v0").unwrap();
    let rows: [&[&str]; 5] = [
        &[CLAIMER, "0", "10000", "twitch:stableronaldo:alice"],
        &[CLAIMER, "1", "15000", "twitch:stableronaldo:bob"],
        &[CLAIMER, "2", "20000", "twitch:stableronaldo:charlie"],
        &[CLAIMER, "3", "12500", "twitch:stableronaldo:dave"],
        &[CLAIMER, "4", "18000", "twitch:stableronaldo:eve"],
    ];
    assert_eq!(
        leaf(&profile, rows[0]),
        "7a9d9cc6022a04edd7d4f0c71202f13619e07245aa3f9d9eb68c1ce3e085bebd"
    );
    let duplicated = "782d2060c46e129f4c4842b043e3b015a3e468526cabef7f6f2bb59720c12c00";
    assert_eq!(root(&profile, &rows), duplicated);
    let mut turned = rows;
    turned.reverse();
    assert_eq!(root(&profile, &turned), duplicated, "leaves stand by index");
    let promote = Profile { odd: Odd::Promote, ..profile.clone() };
    assert_eq!(
        root(&promote, &rows),
        "fa4216b7b4eba2da108941d94f9eff76927d7d2f6c625c32ecd5c4e610e8490e"
    );
    let lone = "07".repeat(32);
    assert_eq!(
        root(&profile, &[&[&lone, "5", "123456", "twitch:unit:alice"]]),
        "3719e81ed948903eb5fefc3ddd9e4e12d18f24f3462a57509618651678cc11b4"
    );
}

// OpenZeppelin/merkle-tree, test dumps: type (string), values a to f.
#[test]
fn openzeppelin_standard_agrees_with_the_dump() {
    let profile = by_name("openzeppelin-standard").unwrap();
    let profile = profile.with_fields(&[("value", "string")]).unwrap();
    let tree = tree(&profile, &[&["a"], &["b"], &["c"], &["d"], &["e"], &["f"]]);
    assert_eq!(
        profile.show_root(&tree.root().unwrap()),
        "0x6deb52b5da8fd108f79fab00341f38d2587896634c646ee52e49f845680a70c8"
    );
    assert_eq!(
        leaf(&profile, &["a"]),
        "9c15a6a0eaeed500fd9eed4cbeab71f797cefcc67bfd46683e4d2e6ff7f06d1c"
    );
    let siblings: Vec<_> = tree.proof(0).unwrap().siblings.iter().map(hex::encode).collect();
    assert_eq!(
        siblings,
        [
            "9cf5a63718145ba968a01c1d557020181c5b252f665cf7386d370eddb176517b",
            "965b92c6cf08303cc4feb7f3e0819c436c2cec17c6f0688a6af139c9a368707c",
            "fd3cf45654e88d1cc5d663578c82c76f4b5e3826bacaa1216441443504538f51",
        ]
    );
}

// Uniswap/merkle-distributor tests; the accounts are those of "test test … junk".
#[test]
fn uniswap_agrees_with_its_tests() {
    let profile = by_name("uniswap").unwrap();
    assert_eq!(
        root(&profile, &[&["0", "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f", "100"]]),
        "defa96435aec82d201dbd2e5f050fb4e1fef5edac90ce1e03953f916a5e1132d"
    );
    let rows: [&[&str]; 3] = [
        &["2", "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "200"],
        &["1", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "300"],
        &["0", "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC", "250"],
    ];
    for (row, want) in rows.iter().zip([
        "c86fd316fa3e7b83c2665b5ccb63771e78abcc0429e0105c91dde37cb9b857a4",
        "0782528e118c4350a2465fbeabec5e72fff06991a29f21c08d37a0d275e38ddd",
        "f3c5acb53398e1d11dcaa74e37acc33d228f5da944fbdea9a918684074a21cdb",
    ]) {
        assert_eq!(leaf(&profile, row), want);
    }
    let want = "fa438d67adba59048c48cd14c4cd5ff18d99a4e4e2729b3cf81b51c46223bd22";
    assert_eq!(root(&profile, &rows), want);
    let twice = [rows[0], rows[1], rows[0], rows[2], rows[2]];
    assert_eq!(root(&profile, &twice), want, "equal leaves are dropped");
}

// saber-hq/merkle-distributor tests: claimants are the ed25519 keys of seeds 00×32, 02×32, 01×32.
#[test]
fn saber_agrees_with_its_tests() {
    let profile = by_name("saber").unwrap();
    let claimants = [0_u8, 2, 1].map(|byte| {
        let keypair = solana_keypair::Keypair::new_from_array([byte; 32]);
        solana_signer::Signer::pubkey(&keypair).to_string()
    });
    let rows: [&[&str]; 3] = [
        &["0", &claimants[0], "1000000"],
        &["1", &claimants[1], "2000000"],
        &["2", &claimants[2], "3000000"],
    ];
    for (row, want) in rows.iter().zip([
        "57a5e990a9233980bbf1b2bb45484b8f6d374116fb20de4044f4d57fc0ab512b",
        "064d3da266f8756627ec7afda54dbfa8ac806030d2092b193840dfc392486468",
        "0e21270c3d6d0301cce89f02f6b1c0728836b240263eb18026a7e8f0888d1cb3",
    ]) {
        assert_eq!(leaf(&profile, row), want);
    }
    let proof = tree(&profile, &rows).proof(0).unwrap().siblings;
    assert_eq!(
        proof.iter().map(hex::encode).collect::<Vec<_>>(),
        ["607e67765bcf4177e16fccd6149a4cfcd05d291ab664d24b8f7455d08aa121af"]
    );
}

/// `hash` of parts, for leaves written out by hand.
fn by_hand(hash: HashFn, parts: &[&[u8]]) -> Hash {
    hash.of(&[&parts.concat()])
}

// The layouts that have no published vector, against their definition written out.
#[test]
fn the_other_layouts_are_as_defined() {
    use HashFn::{Keccak256 as K, Sha256 as S};
    let (a, b, c) = ("0a".repeat(32), "0b".repeat(32), "0c".repeat(32));
    let (x, y, z) = ([10; 32], [11; 32], [12; 32]);
    let (five, six) = (5_u64.to_le_bytes(), 6_u64.to_le_bytes());
    let small = 5_u32.to_le_bytes();
    let inner = by_hand(S, &[&x, &five, &six]);
    let cumulative = by_hand(K, &[b"TWZRD:CUMULATIVE_V2", &x, &y, &five, &z, &six]);
    for (name, row, want) in [
        (
            "ao-claim-v1",
            &[a.as_str(), "5", &b, "5", "6", "id"][..],
            by_hand(K, &[b"leaf:", &x, &five, &y, &small, &six, b"id"]),
        ),
        ("ao-participation", &[&a, "chan", "5"], by_hand(K, &[&x, b"chan", &five])),
        ("ao-participation-promote", &[&a, "chan", "5"], by_hand(K, &[&x, b"chan", &five])),
        ("ao-cumulative-v2", &[&a, &b, "5", &c, "6"], cumulative),
        (
            "ao-global-v4",
            &[&a, "5", &b, "6"],
            by_hand(K, &[b"TWZRD:GLOBAL_V4", &x, &five, &y, &six]),
        ),
        ("jito", &[&a, "5", "6"], by_hand(S, &[&[0], &inner])),
        ("solana-merkle-tree", &["0x6162"], by_hand(S, &[&[0], b"ab"])),
        ("openzeppelin-simple", &[&a], x),
        ("rs_merkle", &[&a], x),
    ] {
        let profile = by_name(name).unwrap();
        assert_eq!(leaf(&profile, row), hex::encode(want), "{name}");
    }
    let murky = by_name("murky").unwrap().with_fields(&[("value", "string")]).unwrap();
    let (p, q, r) = ("a", "b", "c");
    let leaves = [p, q, r].map(|text| unhex_hash(&leaf(&murky, &[text])).unwrap());
    let rule = murky.rules().node;
    let want = rule.join(&rule.join(&leaves[0], &leaves[1]), &rule.join(&leaves[2], &[0; 32]));
    assert_eq!(root(&murky, &[&[p], &[q], &[r]]), hex::encode(want));
}

#[test]
fn equal_claimants_are_merged_where_the_first_stood() {
    let jito = by_name("jito").unwrap();
    let (a, b) = ("0a".repeat(32), "0b".repeat(32));
    let rows: [&[&str]; 4] = [&[&a, "1", "2"], &[&b, "3", "4"], &[&a, "5", "6"], &[&b, "0", "0"]];
    assert_eq!(root(&jito, &rows), root(&jito, &[&[&a, "6", "8"], &[&b, "3", "4"]]));
    let most = u64::MAX.to_string();
    let over = jito.tree(vec![values(&jito, &[&a, &most, "0"]), values(&jito, &[&a, "1", "0"])]);
    let why = over.unwrap_err().to_string();
    assert!(why.starts_with("row 1: field `unlocked`: the sum, "), "{why}");
}

#[test]
fn rows_that_do_not_fit_name_row_and_field() {
    let profile = by_name("ao-claim-v0").unwrap();
    let good = values(&profile, &[CLAIMER, "0", "1", "id"]);
    let mut long = good.clone();
    long[3] = Value::Text("x".repeat(65));
    let mut wide = good.clone();
    wide[1] = Value::from(1 << 32);
    let mut more = good.clone();
    more.push(Value::from(1));
    for (bad, part) in [
        (long, "row 1: field `id`: it has 65 bytes, and `ao-claim-v0` takes at most 64"),
        (wide, "row 1: field `index`: 4294967296 needs 33 bits, and the field has 32"),
        (more, "row 1: field `#5`: `ao-claim-v0` has no such field"),
        (good[..2].to_vec(), "row 1: field `amount`: it is missing"),
    ] {
        let why = profile.tree(vec![good.clone(), bad]).unwrap_err().to_string();
        assert!(why.starts_with(part), "{why}");
    }
    assert!(profile.tree(Vec::new()).is_err());
}

#[test]
fn profiles_are_found_by_name_and_the_others_are_named() {
    assert_eq!(PROFILES.len(), 14, "thirteen conventions, one of them in two variants");
    for profile in PROFILES.iter() {
        assert_eq!(by_name(&profile.name).as_ref(), Ok(profile));
        assert_eq!(check::check(profile), Ok(()), "{profile}");
    }
    assert_eq!(
        by_name("ao").unwrap_err(),
        "`ao` is no Merkle profile: use one of ao-claim-v0, ao-claim-v1, ao-participation, \
         ao-participation-promote, ao-cumulative-v2, ao-global-v4, openzeppelin-standard, \
         openzeppelin-simple, uniswap, saber, jito, solana-merkle-tree, murky, rs_merkle"
    );
}

#[test]
fn a_definition_may_be_as_short_as_its_difference() {
    let own: Profile =
        serde_json::from_value(json!({"name": "own", "base": "uniswap", "order": "given",
            "duplicates": "keep"}))
        .unwrap();
    let want = Profile {
        name: "own".to_owned(),
        order: LeafOrder::Given,
        duplicates: Duplicates::Keep,
        ..by_name("uniswap").unwrap()
    };
    assert_eq!(own, want);
}

#[test]
fn wrong_definitions_are_refused_with_the_key_and_the_reason() {
    let amount = json!([{"name": "amount", "type": "u64le"}]);
    for (own, part) in [
        (json!({"name": "X", "base": "uniswap"}), "`name` `X` is no profile's name"),
        (json!({"name": "x"}), "`hash` is missing in profile `x`"),
        (json!({"name": "x", "hash": "sha256", "odd": "zero"}), "`fields` is missing"),
        (json!({"name": "x", "hash": "sha256", "fields": amount}), "`odd` is missing"),
        (json!({"name": "x", "hash": "sha1"}), "unknown variant `sha1`"),
        (json!({"name": "x", "bass": "uniswap"}), "unknown field `bass`"),
        (json!({"name": "x", "base": "saber", "fields": []}), "`fields` is empty"),
        (
            json!({"name": "x", "base": "saber", "fields": [{"name": "a", "type": "u65le"}]}),
            "`type` `u65le` is no type",
        ),
        (
            json!({"name": "x", "base": "saber", "fields": [{"name": "a", "type": "u8"},
                {"name": "a", "type": "u8"}]}),
            "`fields` has `a` twice",
        ),
        (
            json!({"name": "x", "base": "saber", "fields": [{"name": "a", "type": "string"},
                {"name": "b", "type": "string"}]}),
            "`fields` `a` and `b` are both of variable length",
        ),
        (
            json!({"name": "x", "base": "saber", "fields": [{"name": "a", "type": "bytes32"},
                {"name": "b", "type": "bytes32"}]}),
            "`hashing` `once` of 64 bytes",
        ),
        (
            json!({"name": "x", "base": "saber", "fields": [{"name": "a", "type": "u8",
                "value": "256"}]}),
            "`value` of field `a`: 256 needs 9 bits",
        ),
        (
            json!({"name": "x", "base": "saber", "fields": [{"name": "a", "type": "u8",
                "value": "1"}]}),
            "`fields` all have a `value`",
        ),
        (json!({"name": "x", "base": "saber", "encoding": "abi"}), "`encoding` `abi` knows no"),
        (json!({"name": "x", "base": "saber", "hashing": "given"}), "`hashing` `given` needs"),
        (json!({"name": "x", "base": "rs_merkle", "prefix": "p"}), "`prefix` needs a hash"),
        (json!({"name": "x", "base": "saber", "outer_prefix": "p"}), "`outer_prefix` stands"),
        (json!({"name": "x", "base": "saber", "prefix": "0x1"}), "is no hex"),
        (json!({"name": "x", "base": "saber", "prefix": "p".repeat(33)}), "at most 32 bytes"),
        (json!({"name": "x", "base": "saber", "order": "given"}), "`duplicates` `drop` removes"),
        (json!({"name": "x", "base": "saber", "order": {"field": "q"}}), "`order` names field"),
        (json!({"name": "x", "base": "saber", "duplicates": {"merge": "q"}}), "`duplicates` names"),
        (
            json!({"name": "x", "base": "saber", "duplicates": {"merge": "index"}}),
            "`claimant` is no number",
        ),
        (json!({"name": "x", "base": "murky", "shape": "heap"}), "`odd` means nothing"),
        (json!({"name": "x", "base": "saber", "limits": {"leaves_min": 0}}), "`leaves_min` is 0"),
        (json!({"name": "x", "base": "saber", "limits": {"proof_max": 33}}), "`proof_max` is 33"),
        (
            json!({"name": "x", "base": "saber", "limits": {"proof_max": 4, "leaves_max": 17}}),
            "`leaves_max` is 17, but proofs of `proof_max` 4 reach 16",
        ),
    ] {
        let why = serde_json::from_value::<Profile>(own.clone()).unwrap_err().to_string();
        assert!(why.contains(part), "{own}: {why}");
    }
}
