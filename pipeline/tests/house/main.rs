//! The rules of the house as tests, so that they do not decay: see [`tidy`] (files), [`names`]
//! (invariants and Kafka traps have tests), [`arrows`] (which crate may know which).
//!
//! Lives here: rules about the source as it lies on the disk. May not live here: anything that runs
//! the product. Function length, unwraps, clocks in pure crates and the like are clippy's
//! (`Cargo.toml`, `clippy.toml`, `operators/clippy.toml`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, and nothing but tests")]

mod arrows;
mod names;
mod tidy;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The top of the repository.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate's folder has a parent").into()
}

/// One file: its path below [`top`] with `/`, and its text if it is UTF-8.
struct File {
    path: String,
    bytes: u64,
    text: Option<String>,
}

/// Every file of the repository but what is built or belongs to git.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    walk(&top(), "", &mut found);
    assert!(found.iter().any(|file| file.path == "Cargo.toml"), "no Cargo.toml in {:?}", top());
    found
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().expect("file names are UTF-8");
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && name != "target" && name != ".git" {
            walk(&entry.path(), &format!("{path}/"), found);
        } else if kind.is_file() && name != ".git" {
            let content = fs::read(entry.path()).unwrap();
            let bytes = content.len() as u64;
            found.push(File { path, bytes, text: String::from_utf8(content).ok() });
        }
    }
}

/// The Rust files: path and text.
fn sources() -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"))
        .map(|file| {
            let text = file.text.unwrap_or_else(|| panic!("{} is not UTF-8", file.path));
            (file.path, text)
        })
        .collect()
}

/// Fails with all that was found, not only the first.
#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}
