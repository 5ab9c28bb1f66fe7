//! `semel verify` on a real broker and database: it passes what is sound, finds what is broken, and
//! refuses where it could say nothing.
//!
//! Each test runs the real binary. What is broken is the binary itself: `SEMEL_SABOTAGE` switches one
//! guard off in the processes under test. Chosen are variants that show whatever the moment of a
//! kill, so that no run is lucky.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, and nothing but tests")]

use std::process::{Command, Output};

use serde_json::Value;

const SEMEL: &str = env!("CARGO_BIN_EXE_semel");

fn needed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("set {name}: run `deploy/kafka start DIR` and `deploy/postgres start DIR`")
    })
}

/// A namespace that nobody else has.
fn namespace(what: &str) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{what}-{}-{}", std::process::id(), since.as_millis() % 1_000_000)
}

fn verify(namespace: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(SEMEL)
        .args(["verify", "--namespace", namespace, "--json"])
        .args(arguments)
        .env("SEMEL_BROKERS", needed("SEMEL_TEST_KAFKA"))
        .env("DATABASE_URL", needed("SEMEL_TEST_POSTGRES"))
        .env("SEMEL_ONE_BROKER", "true")
        .env_remove("SEMEL_SABOTAGE")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

const SMALL: [&str; 10] =
    ["--processes", "2", "--records", "3000", "--kills", "2", "--pauses", "0", "--duration", "5"];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(output)))
}

/// A cell of the line of this check.
fn cell(report: &Value, check: &str, column: &str) -> u64 {
    let lines = report["lines"].as_array().unwrap();
    let line = lines.iter().find(|line| line["check"] == check);
    line.unwrap_or_else(|| panic!("no line `{check}`: {report}"))[column].as_u64().unwrap()
}

fn rows(sql: &str) -> Vec<String> {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let pool = sqlx::PgPool::connect(&needed("SEMEL_TEST_POSTGRES")).await.unwrap();
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&pool).await.unwrap()
    })
}

#[test]
fn what_is_sound_passes_and_nothing_is_left_behind() {
    let namespace = namespace("sound");
    let output = verify(&namespace, &SMALL, &[]);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report}\n{}", said(&output));
    let lines = report["lines"].as_array().unwrap();
    assert!(lines.len() > 8 && lines.iter().all(|line| line["good"] == true), "{report}");
    assert_eq!(report["done"]["kills"], 2);
    let events = cell(&report, "events → topic ordered", "found");
    assert!(events > 2_000, "{report}");
    assert_eq!(cell(&report, "table events", "found"), events);
    assert!(
        cell(&report, "dead letters", "found") > 3
            && cell(&report, "duplicates told", "found") > 50
    );
    let schema = namespace.replace('-', "_");
    let left = format!("SELECT nspname::text FROM pg_namespace WHERE nspname = '{schema}'");
    assert_eq!(rows(&left), Vec::<String>::new());
    // The same names are free again: nothing of them is in the cluster.
    let again = verify(&namespace, &["--records", "0"], &[]);
    assert_eq!(again.status.code(), Some(2), "no records are no verification");
    let brokers = verify(&namespace, &SMALL, &[("SEMEL_ONE_BROKER", "false")]);
    assert_eq!(brokers.status.code(), Some(2));
    assert!(said(&brokers).contains("one broker is meant"), "{}", said(&brokers));
    assert!(!said(&brokers).contains("already there"), "{}", said(&brokers));
}

#[test]
fn what_is_broken_is_found_in_its_line() {
    for (guard, check, column) in [
        ("dead-letter-lost", "dead letters", "lost"),
        ("misplaced-taken", "events → topic ordered", "lost"),
        ("nonce-gap-passed-over", "events → topic ordered", "out_of_order"),
    ] {
        let output = verify(&namespace("broken"), &SMALL, &[("SEMEL_SABOTAGE", guard)]);
        let report = report(&output);
        assert_eq!(output.status.code(), Some(1), "{guard}: {report}\n{}", said(&output));
        assert!(cell(&report, check, column) > 0, "{guard}: {report}");
        assert!(said(&output).contains("see the table"), "{}", said(&output));
    }
}

#[test]
fn what_exists_is_refused_and_left_alone() {
    let namespace = namespace("taken");
    let schema = namespace.replace('-', "_");
    rows(&format!("CREATE SCHEMA \"{schema}\""));
    let output = verify(&namespace, &SMALL, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let there = format!("schema `{schema}` already there");
    assert!(said(&output).contains(&there), "{}", said(&output));
    let left = format!("SELECT nspname::text FROM pg_namespace WHERE nspname = '{schema}'");
    assert_eq!(rows(&left), [schema.clone()]);
    rows(&format!("DROP SCHEMA \"{schema}\""));
}

#[test]
fn what_cannot_be_asked_is_named() {
    let none = [("SEMEL_BROKERS", "")];
    let output = verify("none", &SMALL, &none);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("SEMEL_BROKERS"), "{}", said(&output));
    let output = verify("none", &SMALL, &[("DATABASE_URL", "sqlite:rows.db")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("needs PostgreSQL"), "{}", said(&output));
    let output = verify("Not A Name", &SMALL, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("is no namespace"), "{}", said(&output));
}
