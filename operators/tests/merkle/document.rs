//! The worked examples of `docs/merkle.md`: three leaves by every profile, made by our code.
//!
//! `SEMEL_BLESS=1` writes them anew. May not live here: the rest of that page, which is written by hand.

use std::{fmt::Write as _, fs, path::Path};

use semel_operators::merkle::{
    hash::keccak,
    leaf::Value,
    profile::{PROFILES, Profile, rows::Row},
};

const BEGIN: &str = "<!-- made by operators/tests/merkle/document.rs: begin -->\n";
const END: &str = "<!-- made by operators/tests/merkle/document.rs: end -->\n";

/// Three rows whose values are easy to see in the bytes.
fn rows(profile: &Profile) -> Vec<Row> {
    let value = |name: &str, width: Option<usize>, i: u8| {
        let at = usize::from(i);
        match name {
            "index" => u64::from(i).into(),
            "epoch" | "root_seq" => 7_u64.into(),
            "amount" | "total" | "unlocked" => (1_000 * (u64::from(i) + 1)).into(),
            "locked" => (u64::from(i) + 1).into(),
            "id" | "channel" => ["ann", "bob", "cy"][at].into(),
            "item" => Value::Bytes(["ann", "bob", "cy"][at].as_bytes().to_vec()),
            "leaf" => Value::Bytes(keccak(["a", "b", "c"][at].as_bytes()).to_vec()),
            "subject" | "channel_config" | "mint" => Value::Bytes(vec![0xee; 32]),
            _ => Value::Bytes(vec![0x11 * (i + 1); width.unwrap_or(32)]),
        }
    };
    let row = |i| profile.asked().map(|field| value(&field.name, field.kind.width(), i)).collect();
    (0..3).map(row).collect()
}

fn example(profile: &Profile) -> String {
    let mut text = format!("### Three leaves by `{}`\n\n```text\n", profile.name);
    let (tree, rows) = profile.tree(rows(profile)).unwrap();
    for (i, row) in rows.iter().enumerate() {
        let shown: Vec<_> = profile
            .asked()
            .zip(row)
            .map(|(field, value)| format!("{} {}", field.name, field.show(value)))
            .collect();
        let bytes = hex::encode(profile.encode(row).unwrap());
        writeln!(text, "row {i}   {}", shown.join(", ")).unwrap();
        writeln!(text, "bytes   {bytes}").unwrap();
        writeln!(
            text,
            "leaf    {}  (place {} of the leaves)",
            hex::encode(tree.leaf(i).unwrap()),
            tree.position(i).unwrap()
        )
        .unwrap();
    }
    writeln!(text, "root    {}", profile.show_root(&tree.root().unwrap())).unwrap();
    for i in 0..rows.len() {
        let siblings: Vec<_> = tree.proof(i).unwrap().siblings.iter().map(hex::encode).collect();
        writeln!(text, "proof {i} {}", siblings.join("\n        ")).unwrap();
    }
    text.push_str("```\n\n");
    text
}

#[test]
fn the_examples_of_the_page_are_what_our_code_gives() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/merkle.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("docs/merkle.md has the begin mark");
    let (_, after) = rest.split_once(END).expect("docs/merkle.md has the end mark");
    let examples: String = PROFILES.iter().map(example).collect();
    let made = format!("{before}{BEGIN}\n{examples}{END}{after}");
    if std::env::var_os("SEMEL_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(page, made, "docs/merkle.md is out of date: run this test with SEMEL_BLESS=1");
}

#[test]
fn every_profile_has_a_row_in_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/merkle.md");
    let page = fs::read_to_string(path).unwrap();
    for profile in PROFILES.iter() {
        let row = format!("| `{}` |", profile.name);
        assert!(page.contains(&row), "docs/merkle.md has no row that begins with {row}");
    }
}
