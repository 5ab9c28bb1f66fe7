//! Looking at a pipeline and writing to it: the same commands beside a running process and on the
//! folder that it left.
//!
//! The pipeline is one stage that takes each claim once; it needs no chain and no database.

use std::{
    cell::Cell,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use super::{Ended, SEMEL, begin, end, run, says};

pub(super) const SPEC: &str = r#"
[pipeline]
name = "toy"
partitions = 2
data = "data"

[[stage]]
name = "dedupe"
input = "in"
input_type = "claim"
output = ["out"]
outputs = { duplicates = ["duplicates"] }

[[stage.operators]]
use = "dedupe"
record = "claim"
retraction = "claim.retracted"
id = ["claim_id"]
fact = ["signature", "ix_index"]
slot = "slot"
window_slots = 100
"#;

/// A folder with the spec, and a process that runs it.
pub(super) fn running() -> (tempfile::TempDir, Child) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("toy.toml"), SPEC).unwrap();
    let child = begin(folder.path(), &["run", "toy.toml"], &[]);
    until(240, "the socket", || folder.path().join("data/admin.sock").exists());
    (folder, child)
}

/// Said once a process is up: from then on a signal ends it as it should.
const UP: &str = "SIGTERM or Ctrl-C ends it";

/// A process with its standard error, line by line.
pub(super) struct Told {
    child: Child,
    lines: mpsc::Receiver<String>,
    is_up: Cell<bool>,
}

impl Told {
    pub(super) fn begin(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = begin(folder, args, variables);
        let (tell, lines) = mpsc::channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || errors.lines().try_for_each(|line| tell.send(line.unwrap())));
        Self { child, lines, is_up: Cell::new(false) }
    }

    /// Begins `run toy.toml`, and waits until it is up: a socket may be there from the process before.
    pub(super) fn toy(folder: &Path) -> Self {
        let told = Self::begin(folder, &["run", "toy.toml"], &[]);
        told.up();
        told
    }

    /// The rest of the first line that has this text in it.
    pub(super) fn after(&self, text: &str) -> String {
        let mut heard = Vec::new();
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(240));
            let line = line.unwrap_or_else(|_| panic!("`{text}` is not among {heard:#?}"));
            self.is_up.set(self.is_up.get() || line.contains(UP));
            if let Some((_, rest)) = line.split_once(text) {
                return rest.to_owned();
            }
            heard.push(line);
        }
    }

    fn up(&self) {
        if !self.is_up.get() {
            self.after(UP);
        }
    }

    pub(super) fn stop(mut self) {
        self.up();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(super) fn until(limit: u64, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(limit);
    while !holds() {
        assert!(Instant::now() < deadline, "waited {limit} s for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn stop(child: Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    says(&end(child, 240), 0, &["draining"]);
}

pub(super) fn semel(folder: &Path, args: &[&str]) -> Ended {
    run(folder, 40, args, &[])
}

pub(super) fn claim(number: u32, channel: &str) -> String {
    serde_json::json!({
        "claim_id": format!("twitch:{channel}:u{number}"), "channel": channel,
        "user": "11111111111111111111111111111111", "id": format!("twitch:{channel}:u{number}"),
        "amount": (1_000 + number).to_string(), "slot": 9, "signature": "1".repeat(64),
        "tx_index": 0, "ix_index": number,
    })
    .to_string()
}

/// `semel produce` with these lines on its standard input.
pub(super) fn pipe(folder: &Path, args: &[&str], lines: &[String]) -> Ended {
    let mut child = Command::new(SEMEL)
        .args(args)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in lines {
        writeln!(input, "{line}").unwrap();
    }
    drop(input);
    end(child, 240)
}

pub(super) fn lines(ended: &Ended) -> Vec<String> {
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    ended.out.lines().map(str::to_owned).collect()
}

/// What `semel lag` says is left to do.
pub(super) fn lag(folder: &Path) -> u64 {
    let ended = semel(folder, &["lag", "toy.toml", "dedupe", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&lines(&ended)[0]).unwrap();
    rows.as_array().unwrap().iter().map(|row| row["lag"].as_u64().unwrap()).sum()
}

#[test]
fn what_is_piped_in_is_seen_beside_the_process_and_in_the_folder_it_leaves() {
    let (folder, child) = running();
    let at = folder.path();
    let input: Vec<String> =
        [(1, "alpha"), (2, "beta"), (1, "alpha")].map(|(n, channel)| claim(n, channel)).to_vec();
    let produced = pipe(at, &["produce", "toy.toml", "in", "--key-field", "channel"], &input);
    says(&produced, 0, &["3 records written to in"]);
    assert!(!produced.err.contains('\u{1b}'), "no progress bar in a pipe: {}", produced.err);
    until(240, "the records to be worked up", || lag(at) == 0);

    let looks: [&[&str]; 5] = [
        &["consume", "toy.toml", "in", "--format", "raw", "--key", "alpha"],
        &["consume", "toy.toml", "toy.out", "--json", "--where", "amount>=1002"],
        &["consume", "toy.toml", "out", "--format", "raw", "--type", "claim"],
        &["consume", "toy.toml", "commands", "--format", "raw"],
        &["topics", "toy.toml"],
    ];
    // But for state topics: a running stage's timers may write there at any time.
    let see = |args: &&[&str]| -> Vec<String> {
        lines(&semel(at, args)).into_iter().filter(|line| !line.contains(".state ")).collect()
    };
    let beside: Vec<_> = looks.iter().map(see).collect();
    stop(child);
    let after: Vec<_> = looks.iter().map(see).collect();
    assert_eq!(beside, after);

    assert_eq!(after[0], [input[0].clone(), input[2].clone()]);
    assert_eq!(after[1].len(), 1, "{:?}", after[1]);
    let shown: serde_json::Value = serde_json::from_str(&after[1][0]).unwrap();
    assert_eq!((&shown["key"], &shown["type"]), (&"beta".into(), &"claim".into()));
    assert_eq!(shown["value"]["amount"], "1002");
    assert!(shown["headers"]["semel-cause"].as_str().unwrap().starts_with("toy.in/"));
    assert_eq!(after[2].len(), 2, "the double is not passed on: {:?}", after[2]);
    let command: serde_json::Value = serde_json::from_str(&after[3][0]).unwrap();
    assert_eq!((&command["what"], &command["target"]), (&"produce".into(), &"toy.in".into()));
    assert!(command["by"].as_str().unwrap().contains('@') && command["at"].as_u64() > Some(0));
    let row = after[4].iter().find(|row| row.starts_with("toy.out ")).unwrap();
    assert!(row.contains("dedupe"), "who writes it: {row}");
}

#[test]
fn a_follower_sees_what_comes_and_a_stopped_folder_takes_records() {
    let (folder, child) = running();
    let at = folder.path();
    let follow =
        ["consume", "toy.toml", "in", "-f", "-n", "2", "--from", "earliest", "--format", "raw"];
    let follower = begin(at, &follow, &[]);
    let wanted = [claim(1, "alpha"), claim(2, "alpha")];
    for value in &wanted {
        says(
            &semel(at, &["produce", "toy.toml", "in", "--key", "alpha", value]),
            0,
            &["1 records"],
        );
    }
    assert_eq!(lines(&end(follower, 240)), wanted);
    stop(child);
    let late = claim(3, "alpha");
    says(&semel(at, &["produce", "toy.toml", "in", "--key", "alpha", &late]), 0, &["1 records"]);
    assert_eq!(lag(at), 1);
    let last = ["consume", "toy.toml", "in", "--from", "-1", "--key", "alpha", "--format", "raw"];
    assert_eq!(lines(&semel(at, &last)), [late]);
}

#[test]
fn a_bad_line_is_told_with_its_number_and_nothing_wrong_is_written() {
    let (folder, child) = running();
    let at = folder.path();
    let args = ["produce", "toy.toml", "in", "--key-field", "channel"];
    let bad = claim(2, "beta").replace("\"1002\"", "\"-1\"");
    let input = [claim(1, "alpha"), bad, "no JSON".to_owned(), claim(4, "beta")];
    says(
        &pipe(at, &args, &input),
        1,
        &["line 2: ", "`amount`", "1 records before it were written"],
    );
    let skipping = [&args[..], &["--skip-bad"]].concat();
    let skipped = pipe(at, &skipping, &input);
    says(&skipped, 1, &["line 2: ", "line 3: ", "2 records written", "2 lines were wrong"]);
    let held = lines(&semel(at, &["consume", "toy.toml", "in", "--format", "raw"]));
    assert_eq!(held.len(), 3, "{held:?}");
    stop(child);
}

#[test]
fn what_is_not_there_is_told_with_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("toy.toml"), SPEC).unwrap();
    says(
        &semel(at, &["consume", "toy.toml", "in"]),
        1,
        &["no data folder data", "run the pipeline"],
    );
    let child = begin(at, &["run", "toy.toml"], &[]);
    until(240, "the socket", || at.join("data/admin.sock").exists());
    let value = claim(1, "alpha");
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (&["consume", "toy.toml", "duplicate"], 1, &["no topic `duplicate`", "mean `duplicates`?"]),
        (&["consume", "toy.toml", "in", "-p", "2"], 1, &["no partition 2", "it has 2"]),
        (&["consume", "toy.toml", "in", "--from", "noon"], 2, &["`noon` is no place in a topic"]),
        (&["consume", "toy.toml", "in", "--where", "x"], 2, &["`x` is no test of a field"]),
        (&["lag", "toy.toml", "dedup"], 1, &["no stage or sink `dedup`", "mean `dedupe`?"]),
        (
            &["produce", "toy.toml", "out", "-k", "a", &value],
            1,
            &["no stage reads topic `toy.out`"],
        ),
        (
            &["produce", "toy.toml", "in", "-k", "a", "-t", "clam", &value],
            1,
            &["`clam`", "mean `claim`?"],
        ),
        (&["produce", "toy.toml", "in", "-k", "a", "{}"], 1, &["SEM-0002", "`claim`"]),
        (&["produce", "toy.toml", "in", &value], 2, &["--key"]),
    ];
    for (args, code, what) in cases {
        says(&semel(at, args), code, what);
    }
    stop(child);
}
