//! `semel merkle` as a person uses it: files in, a root, proofs and sentences out.
//!
//! Each test runs the real binary. May not live here: trees, proofs and the search for a rule
//! (`semel_operators::merkle`), and how files are read (`semel::merkle`), which have their own tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, and nothing but tests")]

use std::{fs, path::Path, process::Command};

const SEMEL: &str = env!("CARGO_BIN_EXE_semel");
/// The three claims of Uniswap's own tests, and the root that those expect.
const CLAIMS: &str = "index,account,amount\n\
    0,0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC,250\n\
    1,0x70997970C51812dc3A010C7d01b50e0d17dc79C8,300\n\
    2,0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266,200\n";
const ROOT: &str = "0xfa438d67adba59048c48cd14c4cd5ff18d99a4e4e2729b3cf81b51c46223bd22";

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn semel(folder: &Path, args: &[&str]) -> Ended {
    let output = Command::new(SEMEL).arg("merkle").args(args).current_dir(folder).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(!err.contains("panicked"), "{args:?}: {err}");
    Ended { code: output.status.code(), out: String::from_utf8(output.stdout).unwrap(), err }
}

/// What a command that succeeds prints.
#[track_caller]
fn done(folder: &Path, args: &[&str]) -> String {
    let ended = semel(folder, args);
    assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.err);
    ended.out
}

/// The sentence of a command that fails with this code.
#[track_caller]
fn refused(folder: &Path, code: i32, args: &[&str]) -> String {
    let ended = semel(folder, args);
    assert_eq!(ended.code, Some(code), "{args:?}: {}{}", ended.out, ended.err);
    ended.err
}

fn claims() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("claims.csv"), CLAIMS).unwrap();
    folder
}

#[test]
fn a_root_is_proved_and_verified_and_a_changed_claim_is_not() {
    let folder = claims();
    let at = folder.path();
    let root = done(at, &["root", "claims.csv", "--profile", "uniswap"]);
    assert_eq!(root.trim(), ROOT);
    let account = "account=0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
    let proof = done(at, &["proof", "claims.csv", "--profile", "uniswap", "--where", account]);
    fs::write(at.join("proof.json"), &proof).unwrap();
    let verify =
        |count| ["verify", "proof.json", "--profile", "uniswap", "--root", ROOT, "--count", count];
    assert_eq!(done(at, &verify("3")).trim(), "the proof is right");
    let why = refused(at, 1, &verify("4"));
    assert!(why.contains("semel merkle explain"), "{why}");
    fs::write(at.join("proof.json"), proof.replace("\"300\"", "\"301\"")).unwrap();
    refused(at, 1, &verify("3"));
    let all = done(at, &["proof", "claims.csv", "--profile", "uniswap", "--all"]);
    assert_eq!(all.lines().count(), 3);
    assert!(all.contains(proof.trim()), "{all}");
}

#[test]
fn explain_names_the_rule_that_differs() {
    let folder = claims();
    let at = folder.path();
    let own = "name = \"own\"\nbase = \"uniswap\"\nodd = \"duplicate\"\n";
    fs::write(at.join("own.toml"), own).unwrap();
    let root = done(at, &["root", "claims.csv", "--profile", "own.toml"]);
    let ask = |root: &str| {
        semel(at, &["explain", "claims.csv", "--profile", "uniswap", "--root", root.trim()])
    };
    let answer = ask(&root);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    assert!(answer.out.contains("odd node was duplicated, not promoted"), "{}", answer.out);
    assert!(ask(ROOT).out.contains("all agrees"));
    let unknown = ask(&"ab".repeat(32));
    assert_eq!(unknown.code, Some(1), "{}", unknown.out);
    assert!(unknown.err.contains("no known rule explains it"), "{}", unknown.err);
}

#[test]
fn a_sealed_tree_gives_the_same_proofs_and_tells_damage() {
    let folder = claims();
    let at = folder.path();
    let seal = ["seal", "claims.csv", "--profile", "uniswap", "--to", "epoch-7.levels"];
    assert_eq!(done(at, &seal).trim(), ROOT);
    assert!(refused(at, 1, &seal).contains("never overwritten"));
    assert_eq!(done(at, &["sealed", "epoch-7.levels", "--check"]).trim(), ROOT);
    for number in ["0", "1", "2"] {
        let built = done(at, &["proof", "claims.csv", "--profile", "uniswap", "--number", number]);
        let sealed = done(at, &["sealed", "epoch-7.levels", "--number", number]);
        // A sealed tree has hashes, and no data of leaves.
        let same = sealed.trim().strip_suffix('}').unwrap();
        assert!(built.starts_with(same), "{built} {sealed}");
    }
    let why = refused(at, 1, &["sealed", "epoch-7.levels", "--number", "3"]);
    assert!(why.contains("there is no leaf 3"), "{why}");
    let mut bytes = fs::read(at.join("epoch-7.levels")).unwrap();
    bytes[200] ^= 1;
    fs::write(at.join("epoch-7.levels"), &bytes).unwrap();
    let why = refused(at, 1, &["sealed", "epoch-7.levels", "--check"]);
    assert!(why.contains("epoch-7.levels: the levels are damaged"), "{why}");
    let why = refused(at, 1, &["sealed", "epoch-7.levels", "--all"]);
    assert!(why.contains("the levels are damaged near leaf"), "{why}");
    let why = refused(at, 1, &["sealed", "claims.csv", "--check"]);
    assert!(why.contains("no sealed levels"), "{why}");
}

#[test]
fn profiles_are_listed_and_shown_and_a_wrong_one_is_refused_with_the_reason() {
    let folder = claims();
    let at = folder.path();
    let list = done(at, &["profiles"]);
    for name in ["ao-claim-v0", "openzeppelin-standard", "uniswap", "jito", "murky", "rs_merkle"] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{list}");
    }
    assert!(done(at, &["profiles", "jito"]).contains("node_prefix"));
    let why = refused(at, 2, &["root", "claims.csv", "--profile", "uniswop"]);
    assert!(why.contains("uniswop"), "{why}");
    let own = "name = \"own\"\nbase = \"uniswap\"\nodd = \"drop\"\n";
    fs::write(at.join("own.toml"), own).unwrap();
    let why = refused(at, 2, &["root", "claims.csv", "--profile", "own.toml"]);
    assert!(why.contains("own.toml") && why.contains("odd"), "{why}");
}

#[test]
fn a_wrong_file_is_refused_with_line_and_field() {
    let folder = claims();
    let at = folder.path();
    fs::write(at.join("claims.csv"), CLAIMS.replace(",300", ",3.5")).unwrap();
    let why = refused(at, 1, &["root", "claims.csv", "--profile", "uniswap"]);
    assert!(why.contains("claims.csv, line 3, field `amount`: `3.5` has decimals"), "{why}");
    let why = refused(at, 1, &["root", "absent.csv", "--profile", "uniswap"]);
    assert!(why.contains("absent.csv, it cannot be read"), "{why}");
}

#[test]
fn a_wrong_question_is_refused_with_what_is_wrong() {
    let folder = claims();
    let at = folder.path();
    let proof = |number: &str| {
        semel(at, &["proof", "claims.csv", "--profile", "uniswap", "--number", number])
    };
    let why = proof("3").err;
    assert!(why.contains("there is no leaf 3: the tree has 3, counted from 0"), "{why}");
    let good = proof("0").out;
    let mut file: serde_json::Value = serde_json::from_str(&good).unwrap();
    // The highest hash of three, which was promoted once.
    let hashes: Vec<String> = serde_json::from_value(file["proof"].clone()).unwrap();
    assert_eq!(hashes.len(), 1);
    let mut ask = |key: &str, value: serde_json::Value, root: &str| {
        let before = file[key].clone();
        file[key] = value;
        fs::write(at.join("proof.json"), file.to_string()).unwrap();
        file[key] = before;
        let args = ["verify", "proof.json", "--profile", "uniswap", "--root", root, "--count", "3"];
        semel(at, &args)
    };
    let bare = ROOT.trim_start_matches("0x");
    let upper = format!("0x{}", bare.to_uppercase());
    for root in [ROOT, bare, &upper] {
        assert_eq!(ask("place", 1.into(), root).code, Some(1), "another place");
        assert_eq!(ask("count", 3.into(), root).code, Some(0), "with 0x or not, in any case");
    }
    let longer = [&hashes[..], &hashes[..1]].concat();
    let place = file_place(&good);
    for (key, value, root, want) in [
        ("proof", serde_json::json!(longer), ROOT, "`proof` has 2 hashes, and the leaf at this"),
        ("proof", serde_json::json!([]), ROOT, "`proof` has 0 hashes, and the leaf at this"),
        ("place", 3.into(), ROOT, "`place` is 3, where a tree of 3 leaves has none"),
        ("count", 4.into(), ROOT, "`count` is 4, and 3 leaves were published"),
        (
            "proof",
            serde_json::json!([hashes[0][..65]]),
            ROOT,
            "field `proof`, hash 0 (counted from 0), `0x",
        ),
        ("proof", serde_json::json!([hashes[0][..65]]), ROOT, "63 hex digits are an odd number"),
        ("proof", serde_json::json!([hashes[0].replace('0', "o")]), ROOT, "which is no hex digit"),
        (
            "proof",
            serde_json::json!([hashes[0][..64]]),
            ROOT,
            "a hash has 32 bytes, and these are 31",
        ),
        ("place", place.into(), &ROOT[..65], "root `0xfa438d"),
        ("place", place.into(), &ROOT[..65], "63 hex digits are an odd number"),
        ("place", "x".into(), ROOT, "proof.json: invalid type: string \"x\""),
    ] {
        let ended = ask(key, value, root);
        assert!(matches!(ended.code, Some(1 | 2)), "{want}: {}{}", ended.out, ended.err);
        assert!(ended.err.contains(want), "{want}: {}", ended.err);
    }
}

/// The place in a proof that was printed.
fn file_place(proof: &str) -> u64 {
    let proof: serde_json::Value = serde_json::from_str(proof).unwrap();
    proof["place"].as_u64().unwrap()
}

#[test]
fn one_leaf_is_a_root_and_none_is_not() {
    let folder = claims();
    let at = folder.path();
    let one = "index,account,amount\n0,0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f,100\n";
    fs::write(at.join("one.csv"), one).unwrap();
    // From Uniswap's own tests.
    let want = "0xdefa96435aec82d201dbd2e5f050fb4e1fef5edac90ce1e03953f916a5e1132d";
    assert_eq!(done(at, &["root", "one.csv", "--profile", "uniswap"]).trim(), want);
    let proof = done(at, &["proof", "one.csv", "--profile", "uniswap", "--number", "0"]);
    assert!(proof.contains("\"proof\":[]"), "{proof}");
    fs::write(at.join("none.csv"), "index,account,amount\n").unwrap();
    fs::write(at.join("none.json"), "[]").unwrap();
    fs::write(at.join("none.ndjson"), "\n").unwrap();
    for none in ["none.csv", "none.json", "none.ndjson"] {
        let why = refused(at, 1, &["root", none, "--profile", "uniswap"]);
        assert!(why.contains(&format!("{none} holds no leaf")), "{why}");
    }
}

#[test]
fn the_bench_measures_what_it_says() {
    let folder = claims();
    let args = ["bench", "--profile", "uniswap", "--leaves", "100", "--rounds", "1"];
    let table = done(folder.path(), &args);
    for what in ["build", "append one leaf", "truncate by one", "verify"] {
        assert!(table.contains(what), "{table}");
    }
}
