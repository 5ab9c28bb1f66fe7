//! Every invariant (`pipeline/INVARIANTS.md`) and every Kafka trap (`pipeline/TRAPS.md`) is named
//! by a test that exists.
//!
//! A test is named by `path/file.rs::function`, or by the beginning `trap_NN_` that all tests of
//! one trap share. Properties of a conformance suite are functions that its `mod.rs` lists.
//!
//! And each can be seen to fail: a trap's guard has a switch that one of its tests uses, or is a
//! type with an example beside it that must not compile; an invariant has broken variants.

use std::collections::{BTreeMap, BTreeSet};

use semel_schemas::sabotage::Sabotage;

use crate::{none, sources, top};

/// The invariants of the design, in its order.
const INVARIANTS: [&str; 9] =
    ["ONCE", "INTENT", "COMMIT-FIRST", "ORDER", "ROOT", "SAME", "UNDO", "RESUME", "REFUSE"];
/// Kafka's traps are numbered from 1 to this.
const TRAPS: u32 = 43;
/// Lines of "How weak Kafka is".
const WEAKNESSES: usize = 9;

/// The tests of the tree: functions, with their text, by file.
struct Tests(BTreeMap<String, BTreeMap<String, String>>);

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
            Some((file, function)) => {
                self.0.get(file).is_some_and(|all| all.contains_key(function))
            }
            None => {
                name.starts_with("trap_")
                    && name.ends_with('_')
                    && self.0.values().flat_map(BTreeMap::keys).any(|test| test.starts_with(name))
            }
        }
    }

    /// The texts of the tests that `name` names.
    fn texts(&self, name: &str) -> Vec<&str> {
        let all = self.0.iter().flat_map(|(file, tests)| tests.iter().map(move |t| (file, t)));
        let named = |file: &str, test: &str| match name.split_once("::") {
            Some((of, function)) => file == of && test == function,
            None => test.starts_with(name),
        };
        all.filter(|(file, (test, _))| named(file, test)).map(|(_, (_, text))| &**text).collect()
    }
}

/// Functions under a `#[test]`, or listed by the suite that they belong to.
fn tests_in(path: &str, text: &str, sources: &[(String, String)]) -> BTreeMap<String, String> {
    let suite = path.rsplit_once('/').map(|(folder, _)| format!("{folder}/mod.rs"));
    let listed = sources
        .iter()
        .find(|(other, _)| path.contains("/conformance/") && Some(other) == suite.as_ref())
        .map_or("", |(_, text)| text);
    let mut found = BTreeMap::new();
    let mut marked = false;
    for (number, whole) in text.lines().enumerate() {
        let line = whole.trim();
        if line.starts_with("#[") {
            marked |= line.contains("test]") || line.contains("test(");
        } else if let Some(name) = function(line) {
            if marked || listed.contains(&format!(" {name}")) {
                let indent = &whole[..whole.len() - whole.trim_start().len()];
                let end = format!("{indent}}}");
                let body: Vec<_> =
                    text.lines().skip(number).take_while(|line| **line != end).collect();
                found.insert(name.to_owned(), body.join("\n"));
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

/// The switches of a trap's guard, and what is wrong with them: each is one that there is, and one
/// of the trap's tests uses it, to see both.
fn wrong_switches(
    id: &str,
    cell: &str,
    named: &str,
    tests: &Tests,
    sources: &[(String, String)],
) -> Vec<String> {
    let file = |path: &str| sources.iter().find(|(p, _)| p == path).map(|(_, text)| &**text);
    let guards = file("pipeline/src/log/kafka/mod.rs").unwrap_or_default();
    let texts: Vec<&str> = quoted(named).into_iter().flat_map(|name| tests.texts(name)).collect();
    let used = |word: &str| {
        texts.iter().any(|text| {
            let compared = ["[true, false]", "without"].iter().any(|word| text.contains(word));
            let twice = compared || text.matches("assert").count() >= 2;
            text.contains(word) && twice
        })
    };
    let mut found = Vec::new();
    if quoted(cell).is_empty() {
        found.push(format!("{id}: nothing switches its guard off, and no type is named"));
    }
    for switch in quoted(cell) {
        let wrong = match switch.split_once([':', ' ']) {
            Some(("type", path)) => {
                !file(path).is_some_and(|text| text.contains("```compile_fail"))
            }
            Some(("client", word)) => !used(word),
            Some(("Guards", rest)) => {
                let name = rest.trim_start_matches(':');
                !guards.contains(&format!("pub {name}: bool")) || !used(name)
            }
            Some(("Sabotage", rest)) => {
                let name = rest.trim_start_matches(':');
                !Sabotage::ALL.iter().any(|s| format!("{s:?}") == name) || !used(switch)
            }
            _ => true,
        };
        if wrong {
            found.push(format!("{id}: no test of it shows both sides of `{switch}`"));
        }
    }
    found
}

/// The part of a document below a heading, up to the next one.
fn below<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(heading).unwrap_or_default();
    rest.split_once("\n## ").map_or(rest, |(part, _)| part)
}

#[test]
fn every_invariant_has_variants_that_break_it() {
    let text = std::fs::read_to_string(top().join("pipeline/INVARIANTS.md")).unwrap();
    let rows = rows(below(&text, "\n## Broken variants"));
    let ids: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(ids, INVARIANTS, "one row of broken variants for each invariant");
    let mut found = Vec::new();
    for row in &rows {
        let named: BTreeSet<_> = quoted(row[1]).into_iter().map(str::to_owned).collect();
        let there: BTreeSet<_> = Sabotage::ALL
            .iter()
            .filter(|sabotage| sabotage.breaks().contains(&row[0]))
            .map(|sabotage| sabotage.name().to_owned())
            .collect();
        if named != there {
            found.push(format!("{}: the code has the variants {there:?}", row[0]));
        }
        if there.len() < 2 {
            found.push(format!("{}: fewer than two variants break it", row[0]));
        }
    }
    let ids = Sabotage::ALL.iter().flat_map(|sabotage| sabotage.breaks());
    found.extend(ids.filter(|id| !INVARIANTS.contains(id)).map(|id| format!("no invariant {id}")));
    none("pipeline/INVARIANTS.md", &found);
}

#[test]
fn every_invariant_is_named_by_a_test() {
    let tests = Tests::of(&sources());
    let text = std::fs::read_to_string(top().join("pipeline/INVARIANTS.md")).unwrap();
    let rows = rows(text.split("\n## ").next().unwrap_or_default());
    let ids: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(ids, INVARIANTS, "pipeline/INVARIANTS.md lists the invariants of the design");
    let mut found = Vec::new();
    for row in &rows {
        let [id, _, checker, cell, status] = row[..] else {
            panic!(
                "pipeline/INVARIANTS.md: a row has id, statement, checker, tests, status: {row:?}"
            );
        };
        found.extend(wrong_tests(id, cell, &tests));
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
fn every_kafka_trap_is_named_by_a_test_that_sees_both_sides_of_its_guard() {
    let sources = sources();
    let tests = Tests::of(&sources);
    let text = std::fs::read_to_string(top().join("pipeline/TRAPS.md")).unwrap();
    let rows = rows(text.split("\n## ").next().unwrap_or_default());
    let ids: Vec<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    let wanted: Vec<_> = (1..=TRAPS).map(|number| number.to_string()).collect();
    assert_eq!(ids, wanted, "pipeline/TRAPS.md has one row for each trap, in order");
    let mut found = Vec::new();
    for row in &rows {
        let [id, trap, guard, off, cell] = row[..] else {
            panic!("pipeline/TRAPS.md: a row has number, trap, guard, off, tests: {row:?}");
        };
        if trap.is_empty() || guard.is_empty() {
            found.push(format!("{id}: trap and guard are sentences"));
        }
        if quoted(cell).is_empty() {
            found.push(format!("{id}: no test is named"));
        }
        found.extend(wrong_tests(id, cell, &tests));
        found.extend(wrong_switches(id, off, cell, &tests, &sources));
    }
    none("pipeline/TRAPS.md", &found);
}

#[test]
fn every_weakness_of_kafka_is_seen_on_a_broker_and_copied_by_the_simulator() {
    let tests = Tests::of(&sources());
    let text = std::fs::read_to_string(top().join("pipeline/TRAPS.md")).unwrap();
    let rows = rows(below(&text, "\n## How weak Kafka is"));
    assert_eq!(rows.len(), WEAKNESSES, "one row for each line");
    let mut found = Vec::new();
    for row in &rows {
        let [id, _, _, broker, sim] = row[..] else {
            panic!("pipeline/TRAPS.md: a row has number, what is seen, traps, two tests: {row:?}");
        };
        if quoted(broker).is_empty() || (sim != "the same" && quoted(sim).is_empty()) {
            found.push(format!("weakness {id}: a test on the broker, and one of `sim`"));
        }
        found.extend(wrong_tests(id, broker, &tests));
        found.extend(wrong_tests(id, sim, &tests));
        // The suite of weaknesses runs on both; everything else that is copied is said.
        if sim == "the same" && !broker.contains("/conformance/") {
            found.push(format!("weakness {id}: `sim` does not run {broker}"));
        }
    }
    none("pipeline/TRAPS.md", &found);
}

#[test]
fn every_switch_of_a_guard_against_kafka_is_named() {
    let text = std::fs::read_to_string(top().join("pipeline/TRAPS.md")).unwrap();
    let guards =
        std::fs::read_to_string(top().join("pipeline/src/log/kafka/mod.rs")).unwrap_or_default();
    let fields = guards.lines().filter_map(|line| {
        Some(format!("`Guards::{}`", line.trim().strip_prefix("pub ")?.strip_suffix(": bool,")?))
    });
    let ours = Sabotage::ALL.iter().filter(|sabotage| sabotage.breaks().is_empty());
    let all: Vec<_> = fields.chain(ours.map(|s| format!("`Sabotage::{s:?}`"))).collect();
    assert!(all.len() > 20, "the guards are listed: {all:?}");
    let found: Vec<_> = all.into_iter().filter(|switch| !text.contains(&**switch)).collect();
    none("pipeline/TRAPS.md does not name", &found);
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
    switches_can_be_wrong();
    assert_eq!(rows("| id | b |\n|---|---|\n| A | `x` |\n"), [["A", "`x`"]]);
}

fn switches_can_be_wrong() {
    let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let all = [
        source("pipeline/src/log/kafka/mod.rs", "    pub sizes: bool,"),
        source("typed.rs", "/// ```compile_fail\n/// ```"),
        source(
            "a.rs",
            "#[test]\nfn trap_01_both() {\n    for on in [true, false] { g.sizes = on; }\n}\n\
             #[test]\nfn trap_02_one_side() {\n    g.sizes = true;\n    assert!(ok);\n}\n\
             #[test]\nfn trap_03_ours() {\n    both(Sabotage::SkipTombstones);\n    assert!(a);\n    \
             assert!(b);\n}",
        ),
    ];
    let tests = Tests::of(&all);
    for (off, named, wrong) in [
        ("`Guards::sizes`", "`trap_01_`", 0),
        ("`Guards::sizes`", "`trap_02_`", 1),
        ("`Guards::other`", "`trap_01_`", 1),
        ("`Sabotage::SkipTombstones`", "`a.rs::trap_03_ours`", 0),
        ("`Sabotage::SkipTombstones`", "`trap_01_`", 1),
        ("`Sabotage::NoSuchThing`", "`trap_03_`", 1),
        ("`type typed.rs`", "`trap_02_`", 0),
        ("`type a.rs`", "`trap_02_`", 1),
        ("`client g.sizes`", "`trap_01_`", 0),
        ("", "`trap_01_`", 1),
        ("`elsewhere`", "`trap_01_`", 1),
    ] {
        assert_eq!(wrong_switches("1", off, named, &tests, &all).len(), wrong, "{off} {named}");
    }
    assert_eq!(below("a\n## B\nb\n## C\nc", "\n## B"), "\nb");
}
