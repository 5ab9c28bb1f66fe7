//! The operator `file_source`: a file as a state machine over `ReadFile`, for back-loading logs.
//!
//! Lives here: the cursor, what becomes of records and of lines that are none, when to ask again,
//! how far it is ([`Reach`]). May not live here: the reading of files (`connectors/`).
//!
//! Invariants (RESUME): the cursor moves in the step that emits the records before it, so each is
//! emitted once, whatever restarts and however often an effect is performed; a record's id is
//! `file:<file>:<place>`, the same whoever reads it; progress follows the records that it speaks of
//! and never goes back; a file that is not the one that was read is not read on until a person says
//! so.
//!
//! An answer holds at most `max_records` records and ends at the first line that is none: so a step
//! has room for all of it, and for that line's dead letter. Let the source stand alone in its stage:
//! an operator behind it that refuses one record would undo the step of all of them.

use semel_schemas::{
    alert::{ALERT, Alert},
    codec,
    effect::{Effect, Outcome},
    fault::{Fault, FaultCode},
    file::{BadLine, FileCursor, FilePlace, FileRecord},
    progress::{PROGRESS, Progress},
    request::{RESUME, Resume},
    time::{Slot, WallTime},
};
use serde::{Deserialize, Serialize};

use crate::{
    backoff::delay_ms,
    operator::{Context, Envelope, Input, Operator, StoreDecl, TimerKey, To},
    setting::{at_least, at_most},
};

/// The store of the one [`Stand`].
pub const STORE: &str = "file_source";
/// Its key.
pub const STATE: &[u8] = b"state";
const READ: &str = "read";
const POLL: &str = "poll";
const ALERTS: &str = "alerts";
/// What to do about a line that stopped the source.
const MEND: &str = "mend that line, or set `bad = \"dead_letter\"`; then send `semel.resume`";

/// What becomes of a line that is no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// It goes to the dead letters, and the next lines go on.
    #[default]
    DeadLetter,
    /// The source stops before it.
    Stop,
}

/// Settings of the operator `file_source`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSourceSettings {
    /// Name of the source: it stands in its progress records.
    pub name: String,
    /// Name of the file: `[files.NAME]` of the spec.
    pub file: String,
    /// Wait for more at the file's end.
    #[serde(default)]
    pub follow: bool,
    /// What becomes of a line that is no record.
    #[serde(default)]
    pub bad: OnBad,
    /// At most this many records in one answer, 1 to 10,000.
    #[serde(default = "default_max_records")]
    pub max_records: u32,
    /// How long to wait at the end of a file that grows, milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u64,
    /// Longest wait after uncertain answers, milliseconds.
    #[serde(default = "default_retry_max_ms")]
    pub retry_max_ms: u64,
}

const fn default_max_records() -> u32 {
    500
}
const fn default_poll_ms() -> u64 {
    1_000
}
const fn default_retry_max_ms() -> u64 {
    30_000
}

/// The operator `file_source`.
#[derive(Debug)]
pub struct FileSource {
    settings: FileSourceSettings,
}

/// Where the source stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// Behind the last record that is emitted.
    pub cursor: Option<FileCursor>,
    /// Greatest slot of a record so far, with the time of that record.
    pub last: Option<(Slot, WallTime)>,
    /// `complete` of the progress record that was written last.
    pub written: Option<Slot>,
    /// What it waits for.
    pub phase: Phase,
    /// How far it is.
    pub reach: Reach,
}

/// What the source waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// It has not begun.
    #[default]
    New,
    /// The answer to a question, or the timer before the next one.
    Reading {
        /// Uncertain answers in a row.
        tries: u32,
    },
    /// Nothing: the file is read.
    Complete,
    /// A person.
    Stopped {
        /// Why: one sentence.
        text: String,
    },
}

/// How far a source is in its file, and how fast it came there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Bytes before the cursor.
    pub bytes_read: u64,
    /// Size of the file, bytes.
    pub bytes_total: u64,
    /// Records emitted.
    pub records: u64,
    /// Lines that were none.
    pub bad: u64,
    /// When the reading began, or went on after a stop.
    pub begun: WallTime,
    /// `bytes_read` then.
    pub begun_bytes: u64,
    /// When the last answer came.
    pub at: WallTime,
}

impl Reach {
    /// Milliseconds until the end of the file at the pace so far; none before there is a pace.
    #[must_use]
    pub fn left_ms(&self) -> Option<u64> {
        let left = self.bytes_total.saturating_sub(self.bytes_read);
        let done = self.bytes_read.saturating_sub(self.begun_bytes);
        let passed = self.at.0.saturating_sub(self.begun.0);
        if done == 0 || passed == 0 {
            return None;
        }
        let ms = u128::from(left) * u128::from(passed) / u128::from(done);
        Some(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

/// The parts of [`Outcome::FileRecords`].
struct Answer {
    kind: String,
    records: Vec<FileRecord>,
    bad: Option<BadLine>,
    cursor: FileCursor,
    end: bool,
    bytes_read: u64,
    bytes_total: u64,
}

impl FileSource {
    /// With settings.
    ///
    /// # Errors
    /// One sentence, if a setting is out of its range.
    pub fn new(settings: FileSourceSettings) -> Result<Self, String> {
        at_least("max_records", settings.max_records.into(), 1)?;
        at_most("max_records", settings.max_records.into(), 10_000)?;
        at_least("poll_ms", settings.poll_ms, 1)?;
        at_least("retry_max_ms", settings.retry_max_ms, settings.poll_ms)?;
        if settings.name.is_empty() {
            return Err("`name` is empty: progress records bear it".into());
        }
        if settings.file.is_empty() {
            return Err("`file` is empty: it names a table `[files.NAME]` of the spec".into());
        }
        Ok(Self { settings })
    }

    fn read(&self, ctx: &mut Context<'_>, stand: &Stand) {
        let effect = Effect::ReadFile {
            file: self.settings.file.clone(),
            cursor: stand.cursor.clone(),
            max_records: self.settings.max_records,
            follow: self.settings.follow,
        };
        ctx.effect(READ, self.settings.name.clone(), effect);
    }

    /// Starts or goes on.
    fn start(&self, ctx: &mut Context<'_>, mut stand: Stand) {
        stand.phase = Phase::Reading { tries: 0 };
        stand.reach.begun = ctx.now();
        stand.reach.begun_bytes = stand.reach.bytes_read;
        ctx.cancel_timer(TimerKey::wall(POLL));
        self.read(ctx, &stand);
        ctx.put_json(STORE, STATE, &stand);
    }

    fn stop(&self, ctx: &mut Context<'_>, mut stand: Stand, text: &str) {
        ctx.count("file_stopped", 1);
        let name = &self.settings.name;
        let alert = Alert {
            code: FaultCode::FileStopped,
            subject: name.clone(),
            text: format!("source `{name}` stopped: {text}; then send `{RESUME}`"),
            at: ctx.now(),
        };
        ctx.emit_json(To::Output(ALERTS), ALERT, name, &alert);
        stand.phase = Phase::Stopped { text: text.to_owned() };
        ctx.put_json(STORE, STATE, &stand);
    }

    fn wait(&self, ctx: &mut Context<'_>, ms: u64) {
        ctx.set_timer(TimerKey::wall(POLL), ctx.now().plus_ms(ms).0, Vec::new());
    }

    fn answered(&self, ctx: &mut Context<'_>, outcome: Outcome) {
        let mut stand: Stand = ctx.get_json(STORE, STATE).unwrap_or_default();
        let Phase::Reading { tries } = stand.phase else {
            ctx.count("file_stray", 1);
            return;
        };
        match outcome {
            Outcome::FileRecords { kind, records, bad, cursor, end, bytes_read, bytes_total } => {
                let answer = Answer { kind, records, bad, cursor, end, bytes_read, bytes_total };
                match contradiction(&stand, &answer, self.settings.max_records) {
                    Some(text) => self.stop(ctx, stand, &text),
                    None => self.take(ctx, stand, answer),
                }
            }
            Outcome::FileRefused { text } => self.stop(ctx, stand, &text),
            _ => {
                ctx.count("file_uncertain", 1);
                self.wait(ctx, delay_ms(self.settings.poll_ms, tries, self.settings.retry_max_ms));
                stand.phase = Phase::Reading { tries: tries.saturating_add(1) };
                ctx.put_json(STORE, STATE, &stand);
            }
        }
    }

    /// Emits the records and moves the cursor behind them.
    fn take(&self, ctx: &mut Context<'_>, mut stand: Stand, answer: Answer) {
        ctx.count("file_records", answer.records.len() as u64);
        ctx.count("file_bytes", answer.bytes_read.saturating_sub(stand.reach.bytes_read));
        stand.reach.records += answer.records.len() as u64;
        stand.reach.bytes_read = answer.bytes_read;
        stand.reach.bytes_total = answer.bytes_total;
        stand.reach.at = ctx.now();
        stand.cursor = Some(answer.cursor);
        for record in answer.records {
            if let Some(slot) = record.slot {
                if stand.written.is_some_and(|written| slot <= written) {
                    ctx.count("file_late", 1);
                }
                if stand.last.is_none_or(|(last, _)| last <= slot) {
                    stand.last = Some((slot, record.at.unwrap_or_default()));
                }
            }
            let id = format!("file:{}:{}", self.settings.file, record.place);
            let value = Some(record.value.into_bytes());
            ctx.emit_as(To::Next, id, &answer.kind, record.key.as_bytes(), value);
        }
        if let Some(bad) = answer.bad {
            ctx.count("file_bad", 1);
            if self.settings.bad == OnBad::Stop {
                stand.cursor = stand.cursor.map(|cursor| FileCursor { place: bad.place, ..cursor });
                self.progress(ctx, &mut stand, false);
                self.stop(ctx, stand, &format!("{}: {MEND}", bad.fault.text));
                return;
            }
            stand.reach.bad += 1;
            ctx.refuse(bad.fault);
        }
        self.go_on(ctx, stand, answer.end);
    }

    fn go_on(&self, ctx: &mut Context<'_>, mut stand: Stand, end: bool) {
        let complete = end && !self.settings.follow;
        self.progress(ctx, &mut stand, complete);
        stand.phase = Phase::Reading { tries: 0 };
        if complete {
            ctx.count("file_complete", 1);
            stand.phase = Phase::Complete;
        } else if end {
            self.wait(ctx, self.settings.poll_ms);
        } else {
            self.read(ctx, &stand);
        }
        ctx.put_json(STORE, STATE, &stand);
    }

    /// Writes a progress record if it says more than the last one. Before the file's end the next
    /// record may have the slot of the last one: complete is what lies before it.
    fn progress(&self, ctx: &mut Context<'_>, stand: &mut Stand, complete: bool) {
        let Some((last, at)) = stand.last else { return };
        let slot = match (complete, last.0.checked_sub(1)) {
            (true, _) => last,
            (false, Some(before)) => Slot(before),
            (false, None) => return,
        };
        if stand.written.is_some_and(|written| slot <= written) {
            return;
        }
        stand.written = Some(slot);
        let source = self.settings.name.clone();
        let progress = Progress { source, complete: slot, finalized: slot, at };
        ctx.emit(To::Next, PROGRESS, b"", Some(codec::encode(&progress)));
    }

    fn resume(&self, ctx: &mut Context<'_>, record: &Envelope) -> Result<(), Fault> {
        let value = record.value.as_deref().ok_or_else(|| {
            Fault::new(FaultCode::UnexpectedTombstone, "a command has no tombstones")
        })?;
        let resume: Resume = codec::decode(RESUME, value)?;
        let stand: Stand = ctx.get_json(STORE, STATE).unwrap_or_default();
        let refused = |text: String| Err(Fault::new(FaultCode::UnknownTarget, text));
        let name = &self.settings.name;
        if resume.source != *name {
            return refused(format!("this is source `{name}`, not `{}`", resume.source));
        }
        if resume.from_slot.is_some() {
            return refused(format!(
                "source `{name}` reads a file, which has no slots to start from: leave `from_slot` \
                 out, and it goes on from its cursor"
            ));
        }
        // Of a source that reads this asks the pending question anew, which is harmless; and it is the
        // way on for one whose step was undone (a record beyond the stage's limits), once that is mended.
        self.start(ctx, stand);
        Ok(())
    }
}

/// What in an answer cannot be: it would lose or double a record.
fn contradiction(stand: &Stand, answer: &Answer, max_records: u32) -> Option<String> {
    let next = answer.cursor.place;
    let bad = answer.bad.as_ref().map(|bad| bad.place);
    let places: Vec<FilePlace> =
        answer.records.iter().map(|record| record.place).chain(bad).chain([next]).collect();
    if places.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Some("records came out of the file's order: start this program anew".into());
    }
    if let Some(after) = stand.cursor.as_ref().map(|cursor| cursor.place) {
        if places.iter().any(|place| *place < after) {
            return Some(format!(
                "the answer lies before {after}, up to where the file was read: start this \
                 program anew"
            ));
        }
        if next == after && !answer.end {
            return Some(format!("the answer stays at {after}: start this program anew"));
        }
    }
    if answer.records.len() > max_records as usize {
        return Some(format!("more than {max_records} records came at once: lower `max_records`"));
    }
    let nameless = answer.records.iter().find(|record| record.key.is_empty())?;
    Some(format!("the record at {} has no key: name another `key` field", nameless.place))
}

impl Operator for FileSource {
    fn name(&self) -> &'static str {
        "file_source"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        &[StoreDecl { name: STORE, version: 1 }]
    }

    fn takes(&self, kind: &str) -> bool {
        [RESUME].contains(&kind)
    }

    fn source(&self) -> Option<&str> {
        Some(&self.settings.name)
    }

    fn outputs(&self) -> &'static [&'static str] {
        &[ALERTS]
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Begin => {
                let stand = ctx.get_json(STORE, STATE).unwrap_or_default();
                self.start(ctx, stand);
            }
            Input::Record(record) => self.resume(ctx, &record)?,
            Input::Outcome { outcome, .. } => self.answered(ctx, outcome),
            Input::Timer { .. } => {
                let stand: Stand = ctx.get_json(STORE, STATE).unwrap_or_default();
                if let Phase::Reading { .. } = stand.phase {
                    self.read(ctx, &stand);
                }
            }
            Input::Progress(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
