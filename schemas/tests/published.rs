//! What is published about the record types: their JSON Schemas (`schemas/json/`, made from the
//! catalog) and their frozen bytes (`schemas/golden/`, one example a line, written by hand once).
//!
//! `SEMEL_BLESS=1` writes the schemas anew. Nothing ever writes golden bytes: a line that no
//! longer comes back to the same bytes is a broken reader or a broken writer, and records on topics
//! look like it. A changed type gets a new version and a new file beside the old one.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that compares files; nothing of it is in the crate"
)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use semel_schemas::catalog::{self, ENTRIES, Entry};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn names_in(name: &str) -> BTreeSet<String> {
    fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn published(entry: &Entry) -> String {
    let mut text = serde_json::to_string_pretty(&entry.schema()).unwrap();
    text.push('\n');
    text
}

#[test]
fn the_json_schemas_are_those_of_the_catalog() {
    let bless = std::env::var_os("SEMEL_BLESS").is_some();
    let wanted: BTreeSet<_> = ENTRIES.iter().map(|e| format!("{}.json", e.name)).collect();
    if bless {
        for stale in names_in("json").difference(&wanted) {
            fs::remove_file(folder("json").join(stale)).unwrap();
        }
        for entry in ENTRIES {
            let path = folder("json").join(format!("{}.json", entry.name));
            fs::write(path, published(entry)).unwrap();
        }
    }
    assert_eq!(names_in("json"), wanted, "schemas/json/: run this test with SEMEL_BLESS=1");
    for entry in ENTRIES {
        let path = folder("json").join(format!("{}.json", entry.name));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            published(entry),
            "{} is out of date: run this test with SEMEL_BLESS=1 and look at the difference",
            path.display()
        );
    }
}

/// The golden files: `<type>-<major>.<minor>.jsonl`.
fn golden() -> Vec<(&'static Entry, String, String)> {
    names_in("golden")
        .into_iter()
        .map(|file| {
            let stem = file.strip_suffix(".jsonl").expect("golden files end in .jsonl");
            let (name, version) = stem.rsplit_once('-').expect("<type>-<version>.jsonl");
            let entry = catalog::find(name).unwrap_or_else(|| panic!("{file}: unknown type"));
            let text = fs::read_to_string(folder("golden").join(&file)).unwrap();
            assert!(text.ends_with('\n') && text.lines().count() > 0, "{file} is cut short");
            (entry, version.to_owned(), text)
        })
        .collect()
}

#[test]
fn golden_bytes_are_read_and_written_back_to_the_same_bytes() {
    for (entry, version, text) in golden() {
        for (index, line) in text.lines().enumerate() {
            let place = format!("golden/{}-{version}.jsonl:{}", entry.name, index + 1);
            let written = entry.rewrite(line.as_bytes()).unwrap_or_else(|f| panic!("{place}: {f}"));
            if version == entry.version {
                assert_eq!(String::from_utf8(written).unwrap(), line, "{place}");
            }
        }
    }
}

#[test]
fn each_type_has_golden_bytes_of_its_version() {
    let have: BTreeSet<_> = golden().into_iter().map(|(e, version, _)| (e.name, version)).collect();
    for entry in ENTRIES {
        assert!(
            have.contains(&(entry.name, entry.version.to_owned())),
            "schemas/golden/{}-{}.jsonl is missing: write an example of each form of the type",
            entry.name,
            entry.version
        );
    }
}

#[test]
fn golden_bytes_name_every_required_field_and_no_other_field() {
    for (entry, version, text) in golden() {
        let schema = entry.schema();
        let required: BTreeSet<_> = strings(schema["required"].as_array());
        let known: BTreeSet<_> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let fields: BTreeSet<_> =
                value.as_object().unwrap().keys().map(|k| known.get(k.as_str()).copied()).collect();
            assert!(!fields.contains(&None), "{}: a field without schema: {line}", entry.name);
            let fields: BTreeSet<_> = fields.into_iter().flatten().collect();
            assert!(fields.is_superset(&required), "{}: a field is missing: {line}", entry.name);
            seen.extend(fields);
        }
        if version == entry.version {
            assert_eq!(seen, known, "{}: no golden line shows these fields", entry.name);
        }
    }
}

fn strings(list: Option<&Vec<serde_json::Value>>) -> BTreeSet<&str> {
    list.into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
}
