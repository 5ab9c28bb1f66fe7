//! The pages of docs/ that the program writes are the ones that are committed, and `explain` and
//! `completions` speak of what there is.

use std::{fs, path::Path};

use super::run;

#[test]
fn the_generated_pages_are_those_of_this_program() {
    let folder = tempfile::tempdir().unwrap();
    for page in ["commands", "faults"] {
        let made = run(folder.path(), 240, &["page", page], &[]);
        assert_eq!(made.code, Some(0), "{}", made.err);
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let committed = fs::read_to_string(docs.join(format!("{page}.md"))).unwrap_or_default();
        assert!(
            made.out == committed,
            "docs/{page}.md is of another version: `semel page {page} > docs/{page}.md`"
        );
    }
}

#[test]
fn a_fault_code_is_explained_and_an_unknown_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = run(folder.path(), 240, &["explain", "sem-12"], &[]);
    assert_eq!(one.code, Some(0), "{}", one.err);
    assert!(one.out.starts_with("SEM-0012: The nonce was used before."), "{}", one.out);
    let json = run(folder.path(), 240, &["explain", "--json"], &[]);
    let first: serde_json::Value = serde_json::from_str(json.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["code"], "SEM-0001");
    let unknown = run(folder.path(), 240, &["explain", "SEM-9999"], &[]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("`SEM-9999` is no fault code"), "{}", unknown.err);
}

#[test]
fn completions_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let script = run(folder.path(), 240, &["completions", "bash"], &[]);
    assert_eq!(script.code, Some(0), "{}", script.err);
    for command in ["consume", "produce", "explain", "completions"] {
        assert!(script.out.contains(&format!("semel__subcmd__{command}")), "{command}");
    }
    assert_eq!(run(folder.path(), 240, &["completions", "dos"], &[]).code, Some(2));
}
