//! What a person gets from the `semel` command: one sentence, an exit code, and never a panic.
//!
//! Each test runs the real binary. May not live here: what a pipeline computes. Invariants: no
//! command outlives its test, and standard error never tells of a panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, and nothing but tests")]

#[cfg(feature = "http")]
mod console;
mod file;
#[cfg(feature = "http")]
mod http;
mod look;
mod make;
mod mend;
mod pages;
mod repartition;
mod reset;
mod sim;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
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

/// What it says is read while it runs: a pipe holds 64 KiB, and a full one stops the writer.
fn end(child: Child, limit: u64) -> Ended {
    let pid = child.id().to_string();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let output = ended.recv_timeout(Duration::from_secs(limit)).unwrap_or_else(|_| {
        Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        let output = ended.recv().unwrap().unwrap();
        panic!("not ended within {limit} s: {}", String::from_utf8_lossy(&output.stderr));
    });
    let output = output.unwrap();
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
        "demo", "run", "check", "publish", "topics", "consume", "produce", "lag", "audit", "state",
        "trace", "graph", "dlq", "pause", "resume", "reset", "top", "new", "test", "repair",
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

/// A devnet, and the address that it answers at.
fn devnet(folder: &Path, authority: &str) -> (Child, String) {
    let mut child =
        begin(folder, &["devnet", "--listen", "127.0.0.1:0", "--publisher", authority], &[]);
    let mut rpc = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut rpc).unwrap();
    (child, rpc.trim().to_owned())
}

/// Runs the shipped spec until its lanes have committed something, and ends it.
fn run_a_while(folder: &Path, set: &[(&str, &str)]) {
    let journal = folder.join("data/db/0.jnl");
    let before = fs::read(&journal).map_or(0, |bytes| used(&bytes));
    let child = begin(folder, &["run", SPEC], set);
    let deadline = Instant::now() + Duration::from_secs(240);
    while fs::read(&journal).map_or(0, |bytes| used(&bytes)) < before + 20_000 {
        assert!(Instant::now() < deadline, "it commits nothing");
        std::thread::sleep(Duration::from_millis(100));
    }
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    says(&end(child, 240), 0, &["draining"]);
}

/// Bytes of a journal before the zeros that are reserved behind its content.
fn used(journal: &[u8]) -> usize {
    journal.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
}

#[test]
fn a_full_disk_is_one_sentence_and_with_room_it_goes_on() {
    let (folder, authority) = place();
    let (mut chain, rpc) = devnet(folder.path(), &authority);
    let set = variables(&authority, &rpc);
    run_a_while(folder.path(), &set);
    // No file may grow beyond the limit: a write fails as on a full disk. (Its signal, which no
    // disk sends, is ignored.)
    let journal = used(&fs::read(folder.path().join("data/db/0.jnl")).unwrap());
    let script = format!(
        "trap '' XFSZ; ulimit -f {}; exec \"$0\" run \"$1\"",
        (journal + 65_536).div_ceil(1_024)
    );
    let full = Command::new("/bin/bash")
        .args(["-c", &script, SEMEL, SPEC])
        .current_dir(folder.path())
        .env_clear()
        .envs(set.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = end(full, 240);
    let told: Vec<&str> = ended.err.lines().filter(|line| line.starts_with("semel: ")).collect();
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(told.len() == 1 && told[0].contains("make room"), "{}", ended.err);
    let sound = run(folder.path(), 240, &["repair", "data"], &[]);
    assert!(sound.out.contains("nothing to repair"), "half written: {} {}", sound.out, sound.err);
    run_a_while(folder.path(), &set);
    chain.kill().unwrap();
    chain.wait().unwrap();
}

#[test]
fn repair_cuts_off_a_torn_end_once_and_keeps_the_journal() {
    let (folder, authority) = place();
    let set = variables(&authority, "http://127.0.0.1:1");
    says(&run(folder.path(), 240, &["repair", "none"], &[]), 2, &["there is no folder none"]);
    // Its start writes enough.
    let child = begin(folder.path(), &["run", SPEC], &set);
    let deadline = Instant::now() + Duration::from_secs(240);
    while !folder.path().join("data/admin.sock").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let in_use = run(folder.path(), 240, &["repair", "data"], &[]);
    says(&in_use, 1, &[&child.id().to_string()]);
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    end(child, 240);
    let sound = run(folder.path(), 240, &["repair", "data"], &[]);
    assert_eq!((sound.code, sound.out.contains("nothing to repair")), (Some(0), true));

    let path = folder.path().join("data/db/0.jnl");
    let mut journal = fs::read(&path).unwrap();
    // A byte of the last batch that was not on the disk when the power failed; not of its
    // checksum's frame, which readers take for the end.
    let last = used(&journal);
    let text = journal[..last].windows(8).rposition(|w| w == b"process ").unwrap();
    journal[text..text + 8].fill(0);
    fs::write(&path, &journal).unwrap();
    let done = run(folder.path(), 240, &["repair", "data"], &[]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("bytes were cut off"), "{}", done.out);
    let kept = done.out.trim().rsplit(' ').next().unwrap();
    assert_eq!(fs::read(folder.path().join(kept)).unwrap(), journal, "the journal is kept");
    let again = run(folder.path(), 240, &["repair", "data"], &[]);
    assert!(again.out.contains("nothing to repair"), "{} {}", again.out, again.err);
}
