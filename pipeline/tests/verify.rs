//! `semel verify` on a real broker and database: it passes what is sound, finds what is broken, and
//! refuses where it could say nothing.
//!
//! Each test runs the real binary. What is broken is the binary itself: `SEMEL_SABOTAGE` switches one
//! guard off in the processes under test. Chosen are variants that show whatever the moment of a
//! kill, so that no run is lucky.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, and nothing but tests")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
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

fn command(namespace: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(SEMEL);
    command
        .args(["verify", "--namespace", namespace, "--json"])
        .args(arguments)
        .env("SEMEL_BROKERS", needed("SEMEL_TEST_KAFKA"))
        .env("DATABASE_URL", needed("SEMEL_TEST_POSTGRES"))
        .env("SEMEL_ONE_BROKER", "true")
        .env_remove("SEMEL_SABOTAGE")
        .envs(variables.iter().copied());
    command
}

fn verify(namespace: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(namespace, arguments, variables).output().unwrap()
}

/// Topics, groups, schema and processes of this namespace are gone: another run may have the name.
fn nothing_is_left(namespace: &str) {
    // Refused for another reason, before anything is made; what is there would be named beside it.
    let brokers = verify(namespace, SMALL, &[("SEMEL_ONE_BROKER", "false")]);
    assert_eq!(brokers.status.code(), Some(2));
    assert!(said(&brokers).contains("one broker is meant"), "{}", said(&brokers));
    assert!(!said(&brokers).contains("already there"), "{}", said(&brokers));
    for process in std::fs::read_dir("/proc").unwrap() {
        let line = process.unwrap().path().join("cmdline");
        let line = std::fs::read(line).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        assert!(!line.contains(namespace), "still runs: {line}");
    }
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

const SMALL: &[&str] =
    &["--processes", "2", "--records", "3000", "--kills", "0", "--pauses", "0", "--duration", "5"];
/// Kills at any moment, in the rebalances of the beginning too.
const SOUND: &[&str] =
    &["--processes", "2", "--records", "3000", "--kills", "2", "--pauses", "0", "--duration", "5"];

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
    let output = verify(&namespace, SOUND, &[]);
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
    nothing_is_left(&namespace);
}

#[test]
fn what_is_broken_is_found_in_its_line() {
    // What is lost is waited for: not long, since here it never comes.
    let arguments = [SMALL, &["--calm", "20"]].concat();
    for (guard, check, columns) in [
        ("dead-letter-lost", "dead letters", &["lost"][..]),
        ("misplaced-taken", "events → topic ordered", &["lost"]),
        // Those that were passed over are refused when they come.
        ("nonce-gap-passed-over", "events → topic ordered", &["lost"]),
    ] {
        let output = verify(&namespace("broken"), &arguments, &[("SEMEL_SABOTAGE", guard)]);
        let report = report(&output);
        assert_eq!(output.status.code(), Some(1), "{guard}: {report}\n{}", said(&output));
        let wrong: u64 = columns.iter().map(|column| cell(&report, check, column)).sum();
        assert!(wrong > 0, "{guard}: {report}");
        assert!(said(&output).contains("see the table"), "{}", said(&output));
    }
    let unknown = verify(&namespace("broken"), &arguments, &[("SEMEL_SABOTAGE", "no-such-guard")]);
    assert_eq!(unknown.status.code(), Some(1), "a guard that is not there breaks nothing");
    assert!(said(&unknown).contains("there is no guard"), "{}", said(&unknown));
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let namespace = namespace("interrupted");
    let folder = tempfile::tempdir().unwrap();
    let tmp = folder.path().to_string_lossy().into_owned();
    let arguments = ["--processes", "2", "--records", "1000000", "--duration", "600"];
    let mut child = command(&namespace, &arguments, &[("TMPDIR", &tmp)])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("processes run; feeding")), "it never began");
    assert_eq!(entries(folder.path()), 1);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said: Vec<String> = said.collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said:?}");
    assert!(said.iter().any(|line| line.contains("nothing was compared")), "{said:?}");
    assert_eq!(entries(folder.path()), 0);
    nothing_is_left(&namespace);
}

#[test]
fn a_run_that_fails_leaves_its_logs_and_nothing_else() {
    let namespace = namespace("failing");
    let folder = tempfile::tempdir().unwrap();
    let tmp = folder.path().to_string_lossy().into_owned();
    let restart = ["--restart-broker", "echo the lever is stuck >&2; exit 3"];
    let arguments = [SMALL, &restart].concat();
    let output = verify(&namespace, &arguments, &[("TMPDIR", &tmp)]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("the lever is stuck"), "{}", said(&output));
    let left = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let said = std::fs::read_to_string(left.join("process-1.log")).unwrap();
    assert!(said.contains("running on "), "{said}");
    nothing_is_left(&namespace);
}

#[test]
fn what_exists_is_refused_and_left_alone() {
    let namespace = namespace("taken");
    let schema = namespace.replace('-', "_");
    rows(&format!("CREATE SCHEMA \"{schema}\""));
    let output = verify(&namespace, SMALL, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let there = format!("schema `{schema}` already there");
    assert!(said(&output).contains(&there), "{}", said(&output));
    let left = format!("SELECT nspname::text FROM pg_namespace WHERE nspname = '{schema}'");
    assert_eq!(rows(&left).len(), 1);
    rows(&format!("DROP SCHEMA \"{schema}\""));
}

#[test]
fn what_would_be_forgotten_before_it_is_compared_is_refused() {
    // Two weeks and more, where brokers keep the offsets of groups for one.
    let namespace = namespace("retention");
    let output = verify(&namespace, &["--duration", "604800"], &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("offsets.retention.minutes"), "{}", said(&output));
    nothing_is_left(&namespace);
}

#[test]
fn what_cannot_be_asked_is_named() {
    let none = [("SEMEL_BROKERS", "")];
    let output = verify("none", SMALL, &none);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("SEMEL_BROKERS"), "{}", said(&output));
    let output = verify("none", SMALL, &[("DATABASE_URL", "sqlite:rows.db")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("needs PostgreSQL"), "{}", said(&output));
    let output = verify("Not A Name", SMALL, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("is no namespace"), "{}", said(&output));
}
