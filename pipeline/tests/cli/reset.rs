//! A stage that begins anew: said first, refused while it runs, and then done with state and offset
//! together.

use std::{fs, path::Path};

use super::{
    begin,
    look::{claim, lag, lines, running, semel, stop, until},
    says,
};

fn out(at: &Path) -> usize {
    lines(&semel(at, &["consume", "toy.toml", "out", "--type", "claim"])).len()
}

/// What `semel reset … --json` answers.
fn reset(at: &Path, more: &[&str]) -> serde_json::Value {
    let args = [&["reset", "toy.toml", "dedupe", "--json"][..], more].concat();
    serde_json::from_str(&lines(&semel(at, &args))[0]).unwrap()
}

fn sum(looked: &serde_json::Value, what: &str) -> u64 {
    looked["rows"].as_array().unwrap().iter().map(|row| row[what].as_u64().unwrap()).sum()
}

fn keys(at: &Path) -> usize {
    let state = lines(&semel(at, &["state", "list", "toy.toml", "dedupe", "--json"]));
    state.iter().filter(|line| !line.contains("\"store\":\"_")).count()
}

#[test]
fn a_stage_begins_anew_with_an_empty_state_and_only_where_it_stands_still() {
    let (folder, child) = running();
    let at = folder.path();
    for (number, channel) in [(1, "alpha"), (2, "beta"), (1, "alpha")] {
        let args = ["produce", "toy.toml", "in", "--key", channel, &claim(number, channel)];
        says(&semel(at, &args), 0, &["1 records"]);
    }
    until(240, "two claims", || out(at) == 2 && lag(at) == 0);
    let known = keys(at);
    assert!(known > 0);

    // Beside the process that runs: it is said what would happen, and nothing does.
    let looked = reset(at, &["--to", "earliest"]);
    assert!(sum(&looked, "keys") > 0 && sum(&looked, "to") == 0, "{looked}");
    assert_eq!(looked["rows"].as_array().unwrap().len(), 2);
    let args = ["reset", "toy.toml", "dedupe", "--to", "earliest"];
    let dry = semel(at, &args);
    says(&dry, 0, &["nothing was changed"]);
    assert!(dry.out.contains("nobody in this pipeline reads it"), "{}", dry.out);
    let refused = semel(at, &[&args[..], &["--yes"]].concat());
    says(&refused, 1, &["`dedupe` runs: pause it first"]);
    assert_eq!(keys(at), known);

    // Paused, while the process goes on.
    lines(&semel(at, &["pause", "toy.toml", "dedupe"]));
    let done = lines(&semel(at, &[&args[..], &["--yes"]].concat()));
    assert_eq!(done.last().unwrap(), "`dedupe` begins anew");
    assert_eq!((keys(at), out(at)), (0, 2));
    lines(&semel(at, &["resume", "toy.toml", "dedupe"]));
    until(240, "them again", || out(at) == 4 && lag(at) == 0);
    assert_eq!(keys(at), known, "the state is what it was");
    stop(child);

    // On the folder that it left: forwards, past everything.
    let looked = reset(at, &["--to", "end", "--yes"]);
    assert_eq!(sum(&looked, "to"), sum(&looked, "end"));
    assert!(
        looked["consequences"].to_string().contains("duplicate of an older record"),
        "{looked}"
    );
    let child = begin(at, &["run", "toy.toml"], &[]);
    until(240, "an answer", || at.join("data/admin.sock").exists());
    let again = ["produce", "toy.toml", "in", "--key", "alpha", &claim(1, "alpha")];
    says(&semel(at, &again), 0, &["1 records"]);
    until(240, "the claim that nobody knows any more", || out(at) == 5 && lag(at) == 0);
    stop(child);

    let said = lines(&semel(at, &["consume", "toy.toml", "commands", "--json"]));
    let resets: Vec<_> = said.iter().filter(|line| line.contains("\"reset\"")).collect();
    assert!(resets.len() == 4 && resets[0].contains("partition 0: from "), "{said:#?}");
}

#[test]
fn a_reset_to_nowhere_is_one_sentence() {
    let (folder, child) = running();
    let at = folder.path();
    let to = |part: &str, to: &str| semel(at, &["reset", "toy.toml", part, "--to", to]);
    says(&to("dedup", "earliest"), 1, &["did you mean `dedupe`?"]);
    says(&to("dedupe", "17"), 1, &["holds offsets 0 to 0, and not 17"]);
    says(&to("dedupe", "slot:9"), 1, &["no source writes progress here"]);
    says(&to("dedupe", "yesterday"), 2, &["is no place in a topic", "slot:432000"]);
    stop(child);
}

#[test]
fn a_sink_writes_its_rows_again_from_where_it_is_put() {
    let (folder, child) = running();
    let at = folder.path();
    stop(child);
    let sink = r#"
[[sink]]
name = "rows"
topic = "out"
url = "sqlite:rows.db"

[[sink.tables]]
table = "things"
types = ["claim"]
key = ["claim_id"]

[sink.tables.columns]
channel = "channel"
"#;
    fs::write(at.join("toy.toml"), format!("{}{sink}", super::look::SPEC)).unwrap();
    let database = database_of(at);
    database("CREATE TABLE things (semel_id VARCHAR, channel VARCHAR)");
    database("CREATE UNIQUE INDEX things_id ON things (semel_id)");
    let child = begin(at, &["run", "toy.toml"], &[]);
    until(240, "an answer", || at.join("data/admin.sock").exists());
    for number in 1..=3 {
        let args = ["produce", "toy.toml", "in", "--key", "alpha", &claim(number, "alpha")];
        says(&semel(at, &args), 0, &["1 records"]);
    }
    let rows = || database("SELECT semel_id FROM things");
    until(240, "three rows", || rows() == 3);
    let to = |more: &[&str]| {
        semel(at, &[&["reset", "toy.toml", "rows", "--to", "earliest"][..], more].concat())
    };
    says(&to(&["--yes"]), 1, &["`rows` is a sink", "end the process"]);
    stop(child);
    database("DELETE FROM things");
    says(&to(&[]), 0, &["nothing was changed"]);
    let done = lines(&to(&["--yes"]));
    assert_eq!(done.last().unwrap(), "`rows` begins anew");
    let child = begin(at, &["run", "toy.toml"], &[]);
    until(240, "the rows again", || rows() == 3);
    stop(child);
}

/// Runs statements on the table's database; how many rows come.
fn database_of(at: &Path) -> impl Fn(&str) -> usize + use<> {
    use sqlx::{Connection as _, SqliteConnection};
    let url = format!("sqlite:{}?mode=rwc", at.join("rows.db").display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    move |sql: &str| {
        let sql = sql.to_owned();
        runtime.block_on(async {
            let mut rows = SqliteConnection::connect(&url).await.unwrap();
            let found = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut rows).await.unwrap();
            rows.close().await.unwrap();
            found.len()
        })
    }
}
