//! What a person gets from the `semel` command: one sentence, an exit code, and never a panic.
//!
//! Each test runs the real binary. May not live here: what a pipeline computes. Invariants: no
//! command outlives its test, and standard error never tells of a panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, and nothing but tests")]

mod look;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const SEMEL: &str = env!("CARGO_BIN_EXE_semel");
const SPEC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/specs/attention-oracle.toml");

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs to the end within `limit` seconds.
fn run(folder: &Path, limit: u64, args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let child = begin(folder, args, variables);
    end(child, limit)
}

fn begin(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Child {
    Command::new(SEMEL)
        .args(args)
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(mut child: Child, limit: u64) -> Ended {
    let deadline = Instant::now() + Duration::from_secs(limit);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("not ended within {limit} s: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!err.contains("panicked"), "{err}");
    Ended {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err,
    }
}

/// A folder with a settlement key, and its public half.
fn place() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), 240, &["keygen", "key.json"], &[]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    (folder, made.out.trim().to_owned())
}

/// Variables of the shipped spec, without a chain that answers.
fn variables<'a>(authority: &'a str, rpc: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("DATABASE_URL", "sqlite:rows.db"),
        ("ANCHOR_PROVIDER_URL", rpc),
        ("SETTLEMENT_KEYPAIR", "key.json"),
        ("SETTLEMENT_AUTHORITY", authority),
        ("AO_MINT", authority),
        ("SEMEL_DATA", "data"),
    ]
}

fn says(ended: &Ended, code: i32, what: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.err);
    for text in what {
        assert!(ended.err.contains(text), "`{text}` is not in: {}", ended.err);
    }
}

#[test]
fn help_and_version_say_something() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "demo", "run", "check", "publish", "topics", "consume", "produce", "lag", "audit", "repair",
        "keygen", "devnet", "verify", "sim", "version",
    ] {
        let ended = run(folder.path(), 240, &[name, "--help"], &[]);
        assert_eq!(ended.code, Some(0), "{name}");
        assert!(ended.out.contains("Usage: semel"), "{name}: {}", ended.out);
    }
    assert!(run(folder.path(), 240, &["version"], &[]).out.starts_with("semel "));
}

#[test]
fn a_wrong_spec_is_told_with_its_line() {
    let (folder, authority) = place();
    let text = fs::read_to_string(SPEC).unwrap();
    let set = variables(&authority, "http://127.0.0.1:1");
    for (from, to, what) in [
        ("partitions = 4", "partitons = 4", ["spec.toml:", "did you mean `partitions`?"]),
        ("use = \"merkle\"", "use = \"merkel\"", ["unknown operator `merkel`", "`merkle`"]),
        ("input = \"instructions\"\n", "", ["spec.toml:", "input"]),
        ("topic = \"epochs\"", "topic = \"epoch\"", ["spec.toml:", "epoch"]),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(folder.path().join("spec.toml"), text.replacen(from, to, 1)).unwrap();
        says(&run(folder.path(), 240, &["check", "spec.toml"], &set), 2, &what);
    }
    let none = run(folder.path(), 240, &["check", "none.toml"], &set);
    says(&none, 2, &["none.toml cannot be read"]);
    says(&run(folder.path(), 240, &["check", SPEC], &[]), 2, &["set the environment variable"]);
}

#[test]
fn what_cannot_be_reached_is_named() {
    let (folder, authority) = place();
    let mut set = variables(&authority, "http://127.0.0.1:1");
    set.push(("SEMEL_BROKERS", "127.0.0.1:1"));
    set.push(("SEMEL_ONE_BROKER", "true"));
    says(&run(folder.path(), 240, &["run", SPEC], &set), 1, &["127.0.0.1:1"]);
    let mut set = variables(&authority, "http://127.0.0.1:1");
    set[0].1 = "postgres://nobody@127.0.0.1:1/none";
    says(
        &run(folder.path(), 240, &["run", SPEC], &set),
        1,
        &["PostgreSQL at 127.0.0.1:1", "check that"],
    );
    let mut set = variables(&authority, "http://127.0.0.1:1");
    set[5].1 = "/proc/none";
    says(&run(folder.path(), 240, &["run", SPEC], &set), 1, &["/proc/none"]);
}

#[test]
fn a_table_of_another_shape_is_refused() {
    use sqlx::{Connection, SqliteConnection};
    let (folder, authority) = place();
    let url = format!("sqlite:{}?mode=rwc", folder.path().join("rows.db").display());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut rows = SqliteConnection::connect(&url).await.unwrap();
        let table = "CREATE TABLE claims (id INTEGER PRIMARY KEY, channel BLOB, slot TEXT)";
        sqlx::query(table).execute(&mut rows).await.unwrap();
        rows.close().await.unwrap();
    });
    let set = variables(&authority, "http://127.0.0.1:1");
    let ended = run(folder.path(), 240, &["run", SPEC], &set);
    says(&ended, 1, &["sink `claims-table`: column claims.channel is BLOB"]);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let (folder, authority) = place();
    let key = folder.path().join("key.json");
    fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    let set = variables(&authority, "http://127.0.0.1:1");
    says(&run(folder.path(), 240, &["run", SPEC], &set), 2, &["signer `settlement`", "key.json"]);
}

#[test]
fn one_folder_has_one_process_that_answers_and_ends_at_sigterm() {
    let (folder, authority) = place();
    let (mut devnet, rpc) = devnet(folder.path(), &authority);
    let set = variables(&authority, &rpc);
    let child = begin(folder.path(), &["run", SPEC], &set);
    let socket = folder.path().join("data/admin.sock");
    let deadline = Instant::now() + Duration::from_secs(240);
    while !socket.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let second = run(folder.path(), 240, &["run", SPEC], &set);
    let beside = run(folder.path(), 240, &["topics", SPEC], &set);
    let publish = run(folder.path(), 240, &["publish", SPEC, "--all"], &set);
    let pid = child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let ended = end(child, 240);
    let stopped = run(folder.path(), 240, &["topics", SPEC], &set);
    devnet.kill().unwrap();
    devnet.wait().unwrap();
    says(&second, 1, &[&pid]);
    assert!(beside.out.contains("attention.instructions"), "{}", beside.err);
    says(&publish, 1, &["no root waits"]);
    says(&ended, 0, &["draining"]);
    assert!(stopped.out.contains("attention.instructions"), "{}", stopped.err);
}

@@@}
