//! Every invariant (`pipeline/INVARIANTS.md`) and every Kafka trap (`pipeline/TRAPS.md`) is named
//! by a test that exists, and every invariant by the broken variants that prove its checker.
//!
//! A test is named by `path/file.rs::function`, or by the beginning `trap_NN_` that all tests of
//! one trap share. Properties of a conformance suite are functions that its `mod.rs` lists.

use std::collections::{BTreeMap, BTreeSet};

use crate::{none, sources, top};

/// The invariants of the design, in its order.
const INVARIANTS: [&str; 9] =
    ["ONCE", "INTENT", "COMMIT-FIRST", "ORDER", "ROOT", "SAME", "UNDO", "RESUME", "REFUSE"];
/// Kafka's traps are numbered from 1 to this.
const TRAPS: u32 = 43;

/// The tests of the tree: functions by file.
struct Tests(BTreeMap<String, BTreeSet<String>>);

impl Tests {
    fn of(sources: &[(String, String)]) -> Self {
        Self(
            sources
                .iter()
                .map(|(path, text)| (path.clone(), tests_in(path, text, sources)))
                .collect(),
        )
    }

    /// Does `name` name a test? Either `file::function` or `trap_NN_`.
    fn has(&self, name: &str) -> bool {
        match name.split_once("::") {
            Some((file, function)) => self.0.get(file).is_some_and(|all| all.contains(function)),
            None => {
                name.starts_with("trap_")
                    && name.ends_with('_')
                    && self.0.values().flatten().any(|test| test.starts_with(name))
            }
        }
    }
}

/// Functions under a `#[test]`, or listed by the suite that they belong to.
fn tests_in(path: &str, text: &str, sources: &[(String, String)]) -> BTreeSet<String> {
    let suite = path.rsplit_once('/').map(|(folder, _)| format!("{folder}/mod.rs"));
    let listed = sources
        .iter()
        .find(|(other, _)| path.contains("/conformance/") && Some(other) == suite.as_ref())
        .map_or("", |(_, text)| text);
    let mut found = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            marked |= line.contains("test]") || line.contains("test(");
        } else if let Some(name) = function(line) {
            if marked || listed.contains(&format!(" {name}")) {
                found.insert(name.to_owned());
            }
            marked = false;
        } else if !line.starts_with("//") {
            marked = false;
        }
    }
    found
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let qualifiers = ["", "pub ", "async ", "pub async ", "pub(super) ", "pub(super) async "];
    let name = after.split(['(', '<']).next()?;
    qualifiers.contains(&before).then_some(name)
}

/// The rows of a Markdown table that begin with `| id |`, cells trimmed.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| !cells[0].starts_with('-') && cells[0] != "id" && cells[0] != "#")
        .collect()
}

/// What stands between back-ticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// A row's tests, and whatever is wrong with them.
fn wrong_tests(id: &str, cell: &str, tests: &Tests) -> Vec<String> {
    quoted(cell)
        .into_iter()
        .filter(|name| !tests.has(name))
        .map(|name| format!("{id}: there is no test `{name}`"))
        .collect()
}

/// Broken variants, as `schemas/src/sabotage.rs` declares them, by the invariant that breaks first.
fn variants(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut by: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.trim().strip_suffix("],")) {
        let Some((variant, broken)) = line.split_once("\" breaks [") else { continue };
        let (name, id) = (variant.rsplit('"').next(), broken.split('"').nth(1));
        if let (Some(name), Some(id)) = (name, id) {
            by.entry(id).or_default().insert(name);
        }
    }
    by
}

/// What is wrong with the broken variants of a row; at least two prove a checker.
fn wrong_variants(id: &str, cell: &str, by: &BTreeMap<&str, BTreeSet<&str>>) -> Option<String> {
    let (named, there) = (quoted(cell), by.get(id).cloned().unwrap_or_default());
    let wrong = BTreeSet::from_iter(named.iter().copied()) != there || there.len() < 2;
    wrong.then(|| format!("{id}: variants {named:?} are named where {there:?} break it first"))
}

#[test]
fn every_invariant_is_named_by_a_test_and_by_broken_variants() {
    let tests = Tests::of(&sources());
    let text = std::fs::read_to_string(top().join("pipeline/INVARIANTS.md")).unwrap();
    let rows = rows(&text);
    let ids: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(ids, INVARIANTS, "pipeline/INVARIANTS.md lists the invariants of the design");
    let sabotage = std::fs::read_to_string(top().join("schemas/src/sabotage.rs")).unwrap();
    let variants = variants(&sabotage);
    let mut found = Vec::new();
    for row in &rows {
        let [id, _, checker, cell, broken, status] = row[..] else {
            panic!(
                "pipeline/INVARIANTS.md: a row has id, statement, checker, tests, broken variants, \
                 status: {row:?}"
            );
        };
        found.extend(wrong_tests(id, cell, &tests));
        found.extend(wrong_variants(id, broken, &variants));
        if !quoted(checker).iter().any(|file| top().join(file).is_file()) {
            found.push(format!("{id}: no file of a checker is named"));
        }
        let kind = status.split(':').next().unwrap_or_default();
        match (kind, quoted(cell).is_empty()) {
            ("held" | "part", false) | ("open", true) => {}
            ("held" | "part", true) => found.push(format!("{id}: `{kind}` by no test")),
            ("open", false) => found.push(format!("{id}: open, and yet tests are named")),
            _ => found.push(format!("{id}: the status is held, part or open, not `{kind}`")),
        }
    }
    none("pipeline/INVARIANTS.md", &found);
}

#[test]
fn every_kafka_trap_is_named_by_a_test() {
    let tests = Tests::of(&sources());
    let text = std::fs::read_to_string(top().join("pipeline/TRAPS.md")).unwrap();
    let rows = rows(&text);
    let ids: Vec<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    let wanted: Vec<_> = (1..=TRAPS).map(|number| number.to_string()).collect();
    assert_eq!(ids, wanted, "pipeline/TRAPS.md has one row for each trap, in order");
    let mut found = Vec::new();
    for row in &rows {
        let [id, trap, guard, cell] = row[..] else {
            panic!("pipeline/TRAPS.md: a row has number, trap, guard, tests: {row:?}");
        };
        if trap.is_empty() || guard.is_empty() {
            found.push(format!("{id}: trap and guard are sentences"));
        }
        if quoted(cell).is_empty() {
            found.push(format!("{id}: no test is named"));
        }
        found.extend(wrong_tests(id, cell, &tests));
    }
    none("pipeline/TRAPS.md", &found);
}

#[test]
fn the_rules_can_be_broken() {
    let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let all = [
        source(
            "a.rs",
            "#[test]\nfn trap_01_one() {}\nfn helper() {}\n#[test]\n// why\nfn two() {}",
        ),
        source("c/conformance/mod.rs", "topics: listed, other;"),
        source("c/conformance/x.rs", "pub fn listed(h: &H) {}\npub fn unlisted() {}"),
    ];
    let tests = Tests::of(&all);
    for (name, there) in [
        ("a.rs::trap_01_one", true),
        ("a.rs::two", true),
        ("a.rs::helper", false),
        ("a.rs::gone", false),
        ("b.rs::two", false),
        ("trap_01_", true),
        ("trap_02_", false),
        ("two", false),
        ("c/conformance/x.rs::listed", true),
        ("c/conformance/x.rs::unlisted", false),
    ] {
        assert_eq!(tests.has(name), there, "{name}");
    }
    assert_eq!(wrong_tests("1", "`trap_01_`, `a.rs::gone`", &tests).len(), 1);
    assert_eq!(rows("| id | b |\n|---|---|\n| A | `x` |\n"), [["A", "`x`"]]);
    let by = variants("One = \"one\" breaks [\"A\", \"B\"],\nTwo = \"two\" breaks [\"A\"],\n");
    assert!(wrong_variants("A", "`one` `two`", &by).is_none());
    assert!(wrong_variants("A", "`one`", &by).is_some());
    assert!(wrong_variants("A", "`one` `two` `three`", &by).is_some());
    assert!(wrong_variants("B", "`one`", &by).is_some());
}
