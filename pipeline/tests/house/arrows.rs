//! Arrows: pipeline → {operators, connectors} → schemas, and nothing points back up. Held against
//! what cargo resolves, not against what `Cargo.toml` seems to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

use crate::{none, top};

/// Each crate of the workspace, and those of the workspace that it may know.
const MAY_KNOW: [(&str, &[&str]); 5] = [
    ("semel-schemas", &[]),
    ("semel-operators", &["semel-schemas"]),
    ("semel-connectors", &["semel-schemas"]),
    ("semel", &["semel-schemas", "semel-operators", "semel-connectors"]),
    // What a stranger copies needs one crate of ours.
    ("semel-example-operator", &["semel"]),
];
/// What a decision may not reach, by any way.
const NO_OUTSIDE: [&str; 8] =
    ["tokio", "rdkafka", "sqlx", "reqwest", "hyper", "mio", "async-std", "rand"];

fn run(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(top()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {errors}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// What cargo resolved for this machine, without the network.
fn metadata() -> Value {
    let version = run(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let arguments = ["metadata", "--offline", "--locked", "--format-version", "1"];
    serde_json::from_str(&run(&[&arguments[..], &["--filter-platform", host]].concat())).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata: a text")
}

/// Package id → name.
fn names(metadata: &Value) -> BTreeMap<&str, &str> {
    list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect()
}

/// Package id → ids of what it depends on; `normal` leaves out build and dev dependencies.
fn edges(metadata: &Value, normal: Normal) -> BTreeMap<&str, BTreeSet<&str>> {
    let counts = |dep: &&Value| match normal {
        Normal::Only => list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()),
        Normal::All => true,
    };
    list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let deps = list(&node["deps"]).iter().filter(counts).map(|dep| text(&dep["pkg"]));
            (text(&node["id"]), deps.collect())
        })
        .collect()
}

#[derive(Clone, Copy)]
enum Normal {
    Only,
    All,
}

/// Everything that can be reached, each with one way to it.
fn reach<'a>(
    from: &'a str,
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut ways = BTreeMap::from([(from, vec![from])]);
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for next in edges.get(at).into_iter().flatten() {
            if !ways.contains_key(next) {
                let way = [&ways[at][..], &[*next]].concat();
                ways.insert(next, way);
                open.push(next);
            }
        }
    }
    ways
}

/// Forbidden packages that `from` reaches, each with the way.
fn forbidden(
    from: &str,
    names: &BTreeMap<&str, &str>,
    edges: &BTreeMap<&str, BTreeSet<&str>>,
    ban: &[&str],
) -> Vec<String> {
    let start = names.iter().find(|(_, name)| **name == from).expect("a crate of the workspace").0;
    reach(start, edges)
        .into_iter()
        .filter(|(id, _)| ban.contains(&names[id]))
        .map(|(_, way)| way.iter().map(|id| names[id]).collect::<Vec<_>>().join(" → "))
        .collect()
}

#[test]
fn no_arrow_points_up() {
    let metadata = metadata();
    let names = names(&metadata);
    let members: BTreeSet<_> =
        list(&metadata["workspace_members"]).iter().map(|id| names[text(id)]).collect();
    let known: BTreeSet<_> = MAY_KNOW.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, known, "a crate that is new here needs its arrows");
    let mut found = Vec::new();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]);
        let Some((_, may)) = MAY_KNOW.iter().find(|(member, _)| *member == name) else { continue };
        // As declared, of every kind: a dev-dependency is an arrow too.
        for dependency in list(&package["dependencies"]) {
            let to = text(&dependency["name"]);
            if members.contains(to) && !may.contains(&to) {
                found.push(format!("{name} → {to}"));
            }
        }
    }
    none("these crates may not know each other", &found);
}

#[test]
fn operators_and_schemas_reach_nothing_outside() {
    let metadata = metadata();
    let (names, edges) = (names(&metadata), edges(&metadata, Normal::Only));
    for pure in ["semel-operators", "semel-schemas"] {
        let found = forbidden(pure, &names, &edges, &NO_OUTSIDE);
        none("decisions and data know no network, disk, clock or chance", &found);
    }
    let found = forbidden("semel-connectors", &names, &edges, &["tokio"]);
    assert!(!found.is_empty(), "the search finds nothing, not even what is there");
}

#[test]
fn no_direct_dependency_comes_in_two_versions() {
    let metadata = metadata();
    let (names, edges) = (names(&metadata), edges(&metadata, Normal::All));
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for member in list(&metadata["workspace_members"]) {
        for id in &edges[text(member)] {
            versions.entry(names[id]).or_default().insert(id);
        }
    }
    assert!(versions.len() > 20, "the workspace has more direct dependencies than that");
    let found: Vec<_> = versions
        .into_iter()
        .filter(|(_, ids)| ids.len() > 1)
        .map(|(name, ids)| format!("{name}: {ids:?}"))
        .collect();
    none("one version of each, in [workspace.dependencies]", &found);
}

#[test]
fn the_rules_can_be_broken() {
    let names = BTreeMap::from([("1", "pure"), ("2", "helper"), ("3", "tokio"), ("4", "other")]);
    let edges = BTreeMap::from([
        ("1", BTreeSet::from(["2"])),
        ("2", BTreeSet::from(["1", "3"])),
        ("4", BTreeSet::new()),
    ]);
    assert_eq!(forbidden("pure", &names, &edges, &["tokio"]), ["pure → helper → tokio"]);
    assert!(forbidden("other", &names, &edges, &["tokio"]).is_empty());
}
