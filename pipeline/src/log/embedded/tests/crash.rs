//! The journal, cut and spoiled at every byte of its last commits: what is found is a prefix of
//! the commits, each whole, or a clear refusal.

use std::{
    fs,
    path::{Path, PathBuf},
};

use semel_schemas::topic::NextOffset;

use super::{KEPT, P0, P1, create, fast, name, owner, put, values};
use crate::{
    folder::DataFolder,
    log::{Log, LogError, embedded::EmbeddedLog},
};

/// Commits whose tails are cut.
const COMMITS: u64 = 4;

fn journal(folder: &Path) -> PathBuf {
    folder.join("db").join("0.jnl")
}

/// The journal without the zeros that were reserved behind its content.
fn content(folder: &Path) -> Vec<u8> {
    let mut bytes = fs::read(journal(folder)).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

/// A folder with commits over two topics and group offsets; the lengths of the journal before the
/// first of them and after each.
fn written(folder: &Path) -> (Vec<u8>, Vec<usize>) {
    let log = EmbeddedLog::open(folder, fast()).unwrap();
    create(&log, "in", 2, KEPT);
    create(&log, "out", 1, KEPT);
    create(&log, "log", 1, KEPT);
    let inputs = [P0, P1].into_iter().flat_map(|p| (0..50).map(move |_| put("in", p, "k", "v")));
    log.append(inputs.collect()).unwrap();
    let mut member = owner(&log, "g", "in", "i");
    let mut lengths = vec![content(folder).len()];
    for n in 1..=COMMITS {
        member.produce(put("out", P0, "k", &format!("out {n}"))).unwrap();
        member.produce(put("log", P0, "k", &format!("log {n}"))).unwrap();
        member.produce(put("out", P0, "k", &format!("more {n}"))).unwrap();
        member.commit(&[(P0, NextOffset(n)), (P1, NextOffset(n * 10))]).unwrap();
        lengths.push(content(folder).len());
    }
    (content(folder), lengths)
}

/// A folder in memory where there is one: the tests below open a log some thousand times.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "0.jnl" {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A copy of the folder with this journal, opened.
fn reopened(folder: &Path, bytes: &[u8]) -> (tempfile::TempDir, Result<EmbeddedLog, LogError>) {
    let other = scratch();
    copy(folder, other.path());
    fs::write(journal(other.path()), bytes).unwrap();
    let log = EmbeddedLog::open(other.path(), fast());
    (other, log)
}

/// How many commits the log holds: asserts that each is whole, and that none is missing before
/// another.
fn commits(log: &EmbeddedLog) -> u64 {
    let found = values(log, "log", P0);
    let count = u64::try_from(found.len()).unwrap();
    let expected: Vec<String> = (1..=count).map(|n| format!("log {n}")).collect();
    assert_eq!(found, expected);
    let expected: Vec<String> =
        (1..=count).flat_map(|n| [format!("out {n}"), format!("more {n}")]).collect();
    assert_eq!(values(log, "out", P0), expected);
    let offsets: Vec<_> = log.committed("g", &name("in")).unwrap().into_iter().collect();
    if count == 0 {
        assert!(offsets.is_empty(), "{offsets:?}");
    } else {
        assert_eq!(offsets, [(P0, NextOffset(count)), (P1, NextOffset(count * 10))]);
    }
    count
}

#[test]
fn a_journal_cut_at_any_byte_holds_exactly_the_commits_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, lengths) = written(folder.path());
    for cut in lengths[0]..=bytes.len() {
        let whole = lengths.iter().filter(|length| **length <= cut).count() - 1;
        let (_other, log) = reopened(folder.path(), &bytes[..cut]);
        let log = log.unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert_eq!(commits(&log), whole as u64, "cut at {cut}");
        // What is written next stands behind what was found.
        if cut % 16 == 0 {
            log.append(vec![put("log", P0, "k", &format!("log {}", whole + 1))]).unwrap();
            assert_eq!(values(&log, "log", P0).len(), whole + 1);
        }
    }
}

/// What is written to a log that was opened is found again.
fn goes_on(log: EmbeddedLog, folder: &Path, found: u64) {
    let next = format!("log {}", found + 1);
    match log.append(vec![put("log", P0, "k", &next)]) {
        Ok(_) => {
            drop(log);
            let log = EmbeddedLog::open(folder, fast()).unwrap();
            assert_eq!(values(&log, "log", P0).last(), Some(&next));
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_journal_spoiled_at_any_byte_of_the_last_commit_holds_the_others_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, lengths) = written(folder.path());
    let last = lengths[lengths.len() - 2];
    let mut refused = 0;
    for (at, flip) in (last..bytes.len()).flat_map(|at| [(at, 0x01), (at, 0x80), (at, 0xff)]) {
        let mut spoiled = bytes.clone();
        spoiled[at] ^= flip;
        let (other, log) = reopened(folder.path(), &spoiled);
        match log {
            Ok(log) => {
                let found = commits(&log);
                assert!(found == COMMITS - 1 || found == COMMITS, "spoiled at {at}: {found}");
                goes_on(log, other.path(), found);
            }
            Err(LogError::Storage(text)) => {
                assert!(text.contains("bring"), "says what to do: {text}");
                refused += 1;
            }
            Err(other) => panic!("spoiled at {at}: {other:?}"),
        }
    }
    assert!(refused > 0, "no spoiled byte was noticed by a checksum");
}

#[test]
fn a_log_that_was_not_closed_holds_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, _) = written(folder.path());
    // `written` dropped its log; this one is copied while it is open, as a dead process leaves it.
    let (other, log) = reopened(folder.path(), &bytes);
    let log = log.unwrap();
    let mut member = owner(&log, "g", "in", "i");
    member.produce(put("out", P0, "k", &format!("out {}", COMMITS + 1))).unwrap();
    member.produce(put("log", P0, "k", &format!("log {}", COMMITS + 1))).unwrap();
    member.produce(put("out", P0, "k", &format!("more {}", COMMITS + 1))).unwrap();
    let next = COMMITS + 1;
    member.commit(&[(P0, NextOffset(next)), (P1, NextOffset(next * 10))]).unwrap();
    member.produce(put("out", P0, "k", "open")).unwrap();
    let (_third, found) = reopened(other.path(), &content(other.path()));
    assert_eq!(commits(&found.unwrap()), next);
}

#[test]
fn a_torn_tail_is_cut_off_by_a_repair_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bytes, lengths) = written(folder.path());
    assert_eq!(DataFolder::repair(folder.path()).unwrap(), None, "a sound folder is left alone");
    let last = lengths[lengths.len() - 2];
    let value = bytes.windows(5).rposition(|w| w == format!("out {COMMITS}").as_bytes()).unwrap();
    assert!(value > last);
    // A page that the disk had not taken when the power failed.
    bytes[value..value + 5].fill(0);
    let (other, refused) = reopened(folder.path(), &bytes);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("semel repair"), "{text}");
    let repaired = DataFolder::repair(other.path()).unwrap().unwrap();
    assert!(fs::read(&repaired.kept).unwrap().starts_with(&bytes), "the journal is kept");
    assert!(repaired.cut > 0 && repaired.cut < (bytes.len() - last) as u64, "{repaired:?}");
    let log = EmbeddedLog::open(other.path(), fast()).unwrap();
    assert_eq!(commits(&log), COMMITS - 1);
    goes_on(log, other.path(), COMMITS - 1);
}
