//! The operator trait, and everything an operator may see and ask for.
//!
//! An operator holds its settings and nothing else. Its state is in declared keyed stores, which
//! it reads and writes through [`Context`]; whatever it asks for (records, timers, effects) is
//! collected there too and becomes real with the engine's next commit, all of it or nothing.
//! If [`Operator::apply`] returns a fault, everything it wrote or asked for in that step is
//! forgotten, and the input goes to the dead letters.

use std::{collections::BTreeMap, fmt};

use semel_schemas::{
    effect::{Effect, Outcome},
    fault::Fault,
    header::Headers,
    record::derived_id,
    time::{Slot, WallTime},
};
use serde::{Deserialize, Serialize};

use crate::owner::{Owner, Part};

/// A keyed store that an operator declares. Names are unique within a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDecl {
    /// Name: `[a-z0-9_]+`, not starting with `_` (those are the engine's).
    pub name: &'static str,
    /// Version of its keys and values; a change needs a migration.
    pub version: u32,
}

/// A record on its way through the operators of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The record's `semel-id`.
    pub id: String,
    /// Its type name in the catalog.
    pub kind: String,
    /// Its key, never empty.
    pub key: Vec<u8>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers to be carried along (tracing and foreign ones; not the ones above).
    pub headers: Headers,
}

/// What an operator is called with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The task exists for the first time: once per task, before anything else.
    Begin,
    /// A record of the stage's input topic, or of the operator before this one.
    Record(Envelope),
    /// A timer that this operator had set is due.
    Timer {
        /// Which one.
        key: TimerKey,
        /// What it was set to carry.
        payload: Vec<u8>,
    },
    /// An effect that this operator had asked for has an outcome. Comes once for each effect.
    Outcome {
        /// The effect's id, as given in [`Context::effect`].
        id: String,
        /// The answer.
        outcome: Outcome,
    },
    /// Event time has moved: the least progress of all sources of this task.
    Progress(EventTime),
}

/// Event time of a task: the least progress over its sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTime {
    /// Complete up to and including this slot; `None` before every source has spoken.
    pub complete: Option<Slot>,
    /// Final up to and including this slot.
    pub finalized: Option<Slot>,
    /// Chain time that goes with `complete`.
    pub at: WallTime,
}

/// The clock that a timer listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Wall clock, milliseconds since 1970.
    Wall,
    /// Event time: due once `complete` is at or beyond the slot.
    Complete,
    /// Event time: due once `finalized` is at or beyond the slot.
    Finalized,
}

/// A timer's name within its operator: setting it again moves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimerKey {
    /// Which clock.
    pub clock: Clock,
    /// Any text without a NUL; timers that are due together fire in the order (time, key).
    pub name: String,
}

impl TimerKey {
    /// A wall-clock timer.
    pub fn wall(name: impl Into<String>) -> Self {
        Self { clock: Clock::Wall, name: name.into() }
    }
    /// A timer on complete event time.
    pub fn complete(name: impl Into<String>) -> Self {
        Self { clock: Clock::Complete, name: name.into() }
    }
    /// A timer on finalized event time.
    pub fn finalized(name: impl Into<String>) -> Self {
        Self { clock: Clock::Finalized, name: name.into() }
    }
}

/// What an operator does not keep: its stores, as the engine (or a test) hands them in. Reads see
/// what this step and earlier steps wrote.
pub trait StateView {
    /// The value of `key` in `store`.
    fn get(&self, store: &str, key: &[u8]) -> Option<Vec<u8>>;
    /// Up to `limit` pairs of `store` whose key starts with `prefix` and is at or after `from`,
    /// in ascending order of keys.
    fn scan(
        &self,
        store: &str,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)>;
}

/// Where an emitted record goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To the next operator of the stage; from the last one, to the stage's output topic.
    Next,
    /// To the topic that the spec ties to this output name of the operator.
    Output(&'static str),
}

/// A record that an operator emits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Where it goes.
    pub to: To,
    /// The record.
    pub record: Envelope,
}

/// A change to the timers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerOp {
    /// Set or move: `at` is milliseconds (wall) or a slot (event time).
    Set {
        /// Which one.
        key: TimerKey,
        /// When.
        at: u64,
        /// Handed back when it fires.
        payload: Vec<u8>,
    },
    /// Forget it, if it is set.
    Cancel(TimerKey),
}

/// An effect that an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectRequest {
    /// The operator's name for it. Asking again under the same id while it is pending replaces it
    /// (a new attempt: the old one's outcome no longer counts).
    pub id: String,
    /// Effects of one ordering key are performed one after another, in the order of commits.
    pub ordering_key: String,
    /// What to do.
    pub effect: Effect,
}

/// The full key of `key` in `store`: `<store> 0x00 <key>`. The form is the changelog's too.
#[must_use]
pub fn full_key(store: &str, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(store.len() + 1 + key.len());
    full.extend_from_slice(store.as_bytes());
    full.push(0);
    full.extend_from_slice(key);
    full
}

/// A write to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which one.
    pub store: &'static str,
    /// The key as [`full_key`] makes it.
    pub full: Vec<u8>,
    /// The value; `None` deletes.
    pub value: Option<Vec<u8>>,
}

impl Write {
    /// The key within the store.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.full.get(self.store.len() + 1..).unwrap_or_default()
    }

    fn is(&self, store: &str, key: &[u8]) -> bool {
        self.key() == key && self.store == store
    }
}

/// The writes of a step, each key once, in the order of the first write.
///
/// Most steps write two or three keys: these are compared one by one; what is beyond [`NEAR`] is found
/// by an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    list: Vec<Write>,
    far: BTreeMap<Vec<u8>, usize>,
}

/// How many writes are looked through before an index pays.
const NEAR: usize = 12;

impl Writes {
    /// Writes a key; `None` deletes.
    pub fn insert(&mut self, store: &'static str, key: &[u8], value: Option<Vec<u8>>) {
        if let Some(place) = self.place(store, key)
            && let Some(write) = self.list.get_mut(place)
        {
            write.value = value;
            return;
        }
        let full = full_key(store, key);
        if self.list.len() >= NEAR {
            self.far.insert(full.clone(), self.list.len());
        }
        self.list.push(Write { store, full, value });
    }

    /// What was written of a key: `Some(None)`: it was deleted.
    #[must_use]
    pub fn get(&self, store: &str, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.list.get(self.place(store, key)?).map(|write| &write.value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Write> {
        self.list.iter()
    }

    fn place(&self, store: &str, key: &[u8]) -> Option<usize> {
        let near = self.list.iter().take(NEAR).position(|write| write.is(store, key));
        if near.is_some() || self.far.is_empty() {
            return near;
        }
        self.far.get(&full_key(store, key)).copied()
    }
}

impl IntoIterator for Writes {
    type Item = Write;
    type IntoIter = std::vec::IntoIter<Write>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

/// Everything one step asked for, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Writes to the stores. The last write of a key wins.
    pub writes: Writes,
    /// Records.
    pub emits: Vec<Emit>,
    /// Timers.
    pub timers: Vec<TimerOp>,
    /// Effects to perform.
    pub effects: Vec<EffectRequest>,
    /// Effects that are no longer wanted.
    pub forget: Vec<String>,
    /// Things to count: metric name and increment.
    pub counts: Vec<(&'static str, u64)>,
    /// Why the input goes to the dead letters although the step stands.
    pub refused: Option<Fault>,
}

/// One step of one operator: the view it reads, and what it asks for.
pub struct Context<'a> {
    view: &'a dyn StateView,
    now: WallTime,
    event_time: EventTime,
    cause: &'a str,
    place: &'a str,
    step: Step,
    ordinal: u32,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("now", &self.now).field("step", &self.step).finish()
    }
}

impl<'a> Context<'a> {
    /// A context for one step. `cause` is the id of the input, `place` names stage and operator.
    #[must_use]
    pub fn new(
        view: &'a dyn StateView,
        now: WallTime,
        event_time: EventTime,
        cause: &'a str,
        place: &'a str,
    ) -> Self {
        Self { view, now, event_time, cause, place, step: Step::default(), ordinal: 0 }
    }

    /// What the step asked for.
    #[must_use]
    pub fn finish(self) -> Step {
        self.step
    }

    /// The task's wall clock. Never goes back.
    #[must_use]
    pub fn now(&self) -> WallTime {
        self.now
    }

    /// The task's event time.
    #[must_use]
    pub fn event_time(&self) -> EventTime {
        self.event_time
    }

    /// The id of the input of this step.
    #[must_use]
    pub fn cause(&self) -> &str {
        self.cause
    }

    /// Reads a value.
    #[must_use]
    pub fn get(&self, store: &'static str, key: &[u8]) -> Option<Vec<u8>> {
        match self.step.writes.get(store, key) {
            Some(written) => written.clone(),
            None => self.view.get(store, key),
        }
    }

    /// Reads a value that [`Context::put_json`] wrote.
    ///
    /// # Panics
    /// If the stored bytes are not of that type: state is only ever written by the same operator
    /// version (a version change runs a migration), so this is corruption.
    #[must_use]
    pub fn get_json<T: serde::de::DeserializeOwned>(
        &self,
        store: &'static str,
        key: &[u8],
    ) -> Option<T> {
        self.get(store, key).map(|bytes| from_state(store, &bytes))
    }

    /// Writes a value.
    pub fn put(&mut self, store: &'static str, key: &[u8], value: Vec<u8>) {
        self.step.writes.insert(store, key, Some(value));
    }

    /// Writes a value as JSON.
    pub fn put_json<T: Serialize>(&mut self, store: &'static str, key: &[u8], value: &T) {
        self.put(store, key, semel_schemas::codec::encode(value));
    }

    /// Deletes a value.
    pub fn delete(&mut self, store: &'static str, key: &[u8]) {
        self.step.writes.insert(store, key, None);
    }

    /// Up to `limit` pairs whose key starts with `prefix` and is at or after `from`, ascending.
    /// Sees this step's writes.
    #[must_use]
    pub fn scan(
        &self,
        store: &'static str,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let staged: Vec<_> = self
            .step
            .writes
            .iter()
            .filter(|write| write.store == store)
            .filter(|write| write.key().starts_with(prefix) && write.key() >= from)
            .collect();
        let deletes = staged.iter().filter(|write| write.value.is_none()).count();
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = self
            .view
            .scan(store, prefix, from, limit.saturating_add(deletes))
            .into_iter()
            .collect();
        for write in staged {
            match &write.value {
                Some(value) => merged.insert(write.key().to_vec(), value.clone()),
                None => merged.remove(write.key()),
            };
        }
        merged.into_iter().take(limit).collect()
    }

    /// Emits a record. Its id is derived from the cause, the place and its ordinal.
    pub fn emit(&mut self, to: To, kind: &str, key: &[u8], value: Option<Vec<u8>>) {
        let id = derived_id(self.cause, self.place, self.ordinal);
        self.emit_as(to, id, kind, key, value);
    }

    /// Emits a value as JSON.
    pub fn emit_json<T: Serialize>(&mut self, to: To, kind: &str, key: &str, value: &T) {
        self.emit(to, kind, key.as_bytes(), Some(semel_schemas::codec::encode(value)));
    }

    /// Emits a record under an id of the operator's own.
    pub fn emit_as(&mut self, to: To, id: String, kind: &str, key: &[u8], value: Option<Vec<u8>>) {
        self.ordinal += 1;
        let record = Envelope {
            id,
            kind: kind.to_owned(),
            key: key.to_vec(),
            value,
            headers: Headers::new(),
        };
        self.step.emits.push(Emit { to, record });
    }

    /// Passes a record on unchanged, with its id.
    pub fn forward(&mut self, record: Envelope) {
        self.step.emits.push(Emit { to: To::Next, record });
    }

    /// Sets or moves a timer. `at`: milliseconds since 1970 (wall) or a slot (event time). A time
    /// in the past fires after this commit ("zero delay").
    pub fn set_timer(&mut self, key: TimerKey, at: u64, payload: Vec<u8>) {
        self.step.timers.push(TimerOp::Set { key, at, payload });
    }

    /// Forgets a timer.
    pub fn cancel_timer(&mut self, key: TimerKey) {
        self.step.timers.push(TimerOp::Cancel(key));
    }

    /// Asks for an effect; see [`EffectRequest`].
    pub fn effect(
        &mut self,
        id: impl Into<String>,
        ordering_key: impl Into<String>,
        effect: Effect,
    ) {
        self.step.effects.push(EffectRequest {
            id: id.into(),
            ordering_key: ordering_key.into(),
            effect,
        });
    }

    /// Takes an effect back: its outcome, if any, no longer counts.
    pub fn forget_effect(&mut self, id: impl Into<String>) {
        self.step.forget.push(id.into());
    }

    /// Refuses the input, and keeps what the step asks for: for a refusal that must be remembered.
    /// A fault that [`Operator::apply`] returns undoes the step instead.
    pub fn refuse(&mut self, fault: Fault) {
        self.step.refused = Some(fault);
    }

    /// Counts something (a metric of the stage).
    pub fn count(&mut self, name: &'static str, by: u64) {
        self.step.counts.push((name, by));
    }
}

/// Decodes a value that this operator's own version wrote.
///
/// # Panics
/// On corruption, see [`Context::get_json`].
#[expect(clippy::panic, reason = "corrupt state must stop the task, not be guessed at")]
#[must_use]
pub fn from_state<T: serde::de::DeserializeOwned>(store: &str, bytes: &[u8]) -> T {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("store `{store}` holds a value of another version: {error}"))
}

/// A deterministic state machine. Holds settings only.
pub trait Operator: Send + Sync + fmt::Debug {
    /// Name of the operator, as in the spec.
    fn name(&self) -> &'static str;

    /// The stores it keeps.
    fn stores(&self) -> &'static [StoreDecl];

    /// Whether it takes records of this type. Others pass it by unchanged.
    fn takes(&self, kind: &str) -> bool;

    /// The names of its outputs beside [`To::Next`].
    fn outputs(&self) -> &'static [&'static str] {
        &[]
    }

    /// The name by which commands address the source that this operator is, if it is one.
    fn source(&self) -> Option<&str> {
        None
    }

    /// To which record key a part of its state belongs, see [`crate::owner`]. An operator that does
    /// not say keeps its stage at the number of partitions that it has, from the first thing that
    /// it keeps.
    fn owner(&self, _part: Part<'_>) -> Owner {
        Owner::Unknown
    }

    /// Whether every record that it sends [`To::Next`] bears the key of the record that it follows
    /// from. Only behind operators that do is the key that another one sees that of the stage's
    /// input.
    fn keeps_keys(&self) -> bool {
        false
    }

    /// One step.
    ///
    /// # Errors
    /// A fault sends the input to the dead letters and undoes the step.
    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault>;
}
