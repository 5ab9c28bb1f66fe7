//! Files of leaves: the same rows from every format, and what a person reads when one is wrong.

use std::path::PathBuf;

use semel_operators::merkle::profile::by_name;

use super::*;

/// A file in a folder that goes with it.
struct Temporary(tempfile::TempDir, PathBuf);

fn file(name: &str, content: impl AsRef<[u8]>) -> Temporary {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    Temporary(folder, path)
}

fn rows(name: &str, content: impl AsRef<[u8]>) -> Result<Vec<Row>, String> {
    let file = file(name, content);
    let profile = by_name("uniswap").unwrap();
    let rows = Source::new(&file.1, None)?.rows(&profile, &mut |_| {}).map(|(rows, _)| rows);
    // The folder's name is another in every run.
    rows.map_err(|why| why.replace(&format!("{}/", file.0.path().display()), ""))
}

const A: &str = "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f";
const BIG: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

#[test]
fn every_format_gives_the_same_rows() {
    let bare = A.trim_start_matches("0x").to_lowercase();
    let csv =
        rows("a.csv", format!("amount,index,account,note\n100,0,{A},x\n{BIG},1,{bare},\"y\nz\"\n"));
    let want = csv.unwrap();
    assert_eq!(want.len(), 2);
    let one = format!("{{\"index\":0,\"account\":\"{A}\",\"amount\":100,\"note\":null}}");
    let two = format!("{{\"account\":\"{bare}\",\"index\":\"0x1\",\"amount\":{BIG}}}");
    assert_eq!(rows("a.ndjson", format!("{one}\n\n{two}\n")).unwrap(), want);
    assert_eq!(rows("a.jsonl", format!("{one}\n{two}")).unwrap(), want);
    assert_eq!(rows("a.json", format!("[\n{one},\n{two}\n]")).unwrap(), want);
    let marked = format!("\u{feff}amount,index,account\n100,0,{A}\n{BIG},1,{bare}\n");
    assert_eq!(rows("a.CSV", marked).unwrap(), want);
}

#[test]
fn errors_name_file_line_and_field() {
    let csv = |line: &str| format!("index,account,amount\n0,{A},100\n{line}\n");
    let upper = A.replace('b', "B");
    for (content, want) in [
        (csv(&format!("1,{A},1.5")), "a.csv, line 3, field `amount`: `1.5` has decimals"),
        (csv(&format!("1,{A},1e18")), "a.csv, line 3, field `amount`: "),
        (csv(&format!("1,{A},-1")), "a.csv, line 3, field `amount`: `-1` is negative"),
        (csv(&format!("1,{A},")), "a.csv, line 3, field `amount`: it is empty"),
        (csv(&format!("1,{A},{BIG}0")), "a.csv, line 3, field `amount`: "),
        (csv(&format!("1,{}0,1", &A[..41])), "line 3, field `account`: "),
        (csv(&format!("1,{},1", &A[..41])), "line 3, field `account`: 39 hex digits are an odd"),
        (csv(&format!("1,{}g,1", &A[..41])), "line 3, field `account`: character 42 is `g`"),
        (csv(&format!("1,{upper},1")), "line 3, field `account`: the checksum of"),
        (csv(&format!("1,{A}")), "a.csv, line 3: it has 2 values, and line 1 names 3 columns"),
        (
            format!("index,account\n0,{A}\n"),
            "a.csv, line 2, field `amount`: it is missing, and `uniswap` needs it: there is account, index",
        ),
        ("index,index,amount\n".into(), "a.csv, line 1: column `index` is there twice"),
        ("index,account,amount\n".into(), "a.csv holds no leaf"),
        (String::new(), "a.csv holds no leaf"),
    ] {
        let why = rows("a.csv", &content).unwrap_err();
        // The one with a digit replaced keeps its length: only its checksum may be wrong.
        assert!(why.contains(want), "{content:?}: {why}");
    }
    let why = rows("a.csv", b"index,account,amount\n0,\xff,1\n").unwrap_err();
    assert!(why.contains("a.csv, line 2: value 2 is no UTF-8"), "{why}");
}

/// What a person reads of a file by this profile, without the folder's name.
fn tree_of(profile: &Profile, content: &str) -> Result<usize, String> {
    let file = file("a.csv", content);
    let tree = Source::new(&file.1, None)?.tree(profile, &mut |_| {});
    let folder = format!("{}/", file.0.path().display());
    tree.map(|(tree, _)| tree.count()).map_err(|why| why.replace(&folder, ""))
}

#[test]
fn rows_that_give_no_tree_are_named_by_their_lines() {
    let define = |toml: &str| -> Profile { toml::from_str(toml).unwrap() };
    let refuse = define("name = \"own\"\nbase = \"uniswap\"\nduplicates = \"refuse\"\n");
    let head = "index,account,amount\n";
    let twice = format!("{head}0,{A},7\n1,{A},7\n2,{A},7\n1,{A},7\n0,{A},7\n");
    let why = tree_of(&refuse, &twice).unwrap_err();
    assert!(why.starts_with("a.csv, line 5: it gives the same leaf as line 3"), "{why}");
    assert_eq!(
        tree_of(&by_name("uniswap").unwrap(), &twice),
        Ok(3),
        "dropped, as the profile says"
    );
    // Equal claimants are merged, and their sum does not fit.
    let key = "29d2S7vB453rNYFdR5Ycwt7y9haRT5fwVwL9zTmBhfV2";
    let sum = format!("claimant,unlocked,locked\n{key},{max},0\n{key},1,0\n", max = u64::MAX);
    let why = tree_of(&by_name("jito").unwrap(), &sum).unwrap_err();
    assert!(why.starts_with("a.csv, line 3, field `unlocked`: the sum, "), "{why}");
    assert!(why.contains("needs 65 bits, and the field has 64"), "{why}");
    // A number beyond the width of its field, at both widths that profiles use.
    let wide = format!("claimer,index,amount,id\n{key},0,18446744073709551616,x\n");
    let why = tree_of(&by_name("ao-claim-v0").unwrap(), &wide).unwrap_err();
    assert!(
        why.starts_with("a.csv, line 2, field `amount`: 18446744073709551616 needs 65"),
        "{why}"
    );
    let wide = format!("claimer,index,amount,id\n{key},4294967296,1,x\n");
    let why = tree_of(&by_name("ao-claim-v0").unwrap(), &wide).unwrap_err();
    assert!(why.starts_with("a.csv, line 2, field `index`: 4294967296 needs 33 bits"), "{why}");
    // Too few leaves, too many, an id that is too long.
    let why = tree_of(
        &by_name("murky").unwrap(),
        &format!("claimer,index,amount,id\n0x{},0,1,x\n", "11".repeat(32)),
    );
    let why = why.unwrap_err();
    assert!(why.starts_with("a.csv: the tree has 1 leaves, and a root needs at least 2"), "{why}");
    let few =
        define("name = \"own\"\nbase = \"uniswap\"\n[limits]\nleaves_max = 2\nproof_max = 1\n");
    let why = tree_of(&few, &twice).unwrap_err();
    assert!(
        why.starts_with("a.csv: 3 leaves are more than the 2 that the profile allows"),
        "{why}"
    );
    let short = define("name = \"own\"\nbase = \"ao-claim-v0\"\n[limits]\nbytes_max = 4\n");
    let why =
        tree_of(&short, &format!("claimer,index,amount,id\n{key},0,1,four\n{key},1,1,fives\n"));
    let why = why.unwrap_err();
    assert!(why.starts_with("a.csv, line 3, field `id`: "), "{why}");
}

#[test]
fn json_is_read_strictly() {
    let fields =
        |amount: &str| format!("{{\"index\":0,\n\"account\":\"{A}\",\"amount\":{amount}}}");
    for (name, content, want) in [
        (
            "a.json",
            format!("[{},\n{}]", fields("1"), fields("1.5")),
            "line 3, field `amount`: `1.5`",
        ),
        ("a.json", format!("[{}]", fields("true")), "line 1, field `amount`: a leaf holds text"),
        ("a.json", format!("[{}]", fields("[1]")), "line 1, field `amount`: a leaf holds text"),
        ("a.json", format!("[{}]", fields("1,\"amount\":2")), "field `amount`: it is there twice"),
        ("a.json", format!("[{}]", fields("null")), "line 1, field `amount`: it is missing"),
        ("a.json", "{\"index\":0}".into(), "it is no list of objects"),
        ("a.json", "[1]".into(), "line 1: "),
        ("a.json", "[".into(), "line 1: it is no list of objects"),
        ("a.json", "[]".into(), "holds no leaf"),
        ("a.ndjson", "{\"index\":0}\n{]\n".into(), "line 1, field `account`: it is missing"),
        ("a.ndjson", format!("{}\n{{]\n", fields("1").replace('\n', "")), "a.ndjson, line 2: "),
    ] {
        let why = rows(name, &content).unwrap_err();
        assert!(why.contains(want), "{content}: {why}");
    }
}

#[test]
fn a_file_that_is_not_there_or_is_of_no_format_is_refused() {
    let why = Source::new(Path::new("claims.txt"), None).unwrap_err();
    assert!(why.contains("say what it is with --format"), "{why}");
    let absent = Source::new(Path::new("/nowhere/claims.csv"), None).unwrap();
    let why = absent.records().unwrap_err();
    assert!(why.starts_with("/nowhere/claims.csv, it cannot be read: "), "{why}");
}

#[cfg(feature = "parquet")]
mod of_parquet {
    use std::sync::Arc;

    use ::parquet::arrow::ArrowWriter;
    use arrow_array::{
        ArrayRef, ArrowPrimitiveType, BinaryArray, Decimal256Array, Float64Array, RecordBatch,
        StringArray, UInt32Array, types::Decimal256Type,
    };

    use super::*;

    fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn index() -> (&'static str, ArrayRef) {
        ("index", Arc::new(UInt32Array::from(vec![0, 1])))
    }

    #[test]
    fn columns_of_exact_types_are_read() {
        let account = hex::decode(&A[2..]).unwrap();
        let account: ArrayRef = Arc::new(BinaryArray::from(vec![&account[..], &account[..]]));
        type Wide = <Decimal256Type as ArrowPrimitiveType>::Native;
        let amount = Decimal256Array::from(vec![Wide::from(100), Wide::from(7)]);
        let amount: ArrayRef = Arc::new(amount.with_precision_and_scale(70, 0).unwrap());
        let own = parquet(vec![index(), ("account", account), ("amount", amount)]);
        let csv = format!("index,account,amount\n0,{A},100\n1,{A},7\n");
        assert_eq!(rows("a.parquet", own).unwrap(), rows("a.csv", csv).unwrap());
    }

    #[test]
    fn floats_and_nulls_are_refused_with_row_and_field() {
        let account: ArrayRef = Arc::new(StringArray::from(vec![A, A]));
        let float: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
        let own = parquet(vec![index(), ("account", account.clone()), ("amount", float)]);
        let why = rows("a.parquet", own).unwrap_err();
        assert!(why.contains("a.parquet, row 1, field `amount`: it is missing"), "{why}");
        assert!(why.contains("passed over: `amount` of type Float64"), "{why}");
        let some: ArrayRef = Arc::new(StringArray::from(vec![Some("1"), None]));
        let own = parquet(vec![index(), ("account", account), ("amount", some)]);
        let why = rows("a.parquet", own).unwrap_err();
        assert!(why.contains("a.parquet, row 2, field `amount`: it is missing"), "{why}");
        let why = rows("a.parquet", b"PAR1").unwrap_err();
        assert!(why.contains("a.parquet, it cannot be read as Parquet"), "{why}");
    }
}
