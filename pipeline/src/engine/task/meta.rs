//! What a task knows of itself: where it stands, its clock, its numbers, who bore it.
//!
//! May not live here: what changes it (the task's steps do). Invariant: it is one value of the state,
//! written in the transaction of what it tells of.

use semel_operators::operator::EventTime;
use semel_schemas::{
    record::Record,
    time::WallTime,
    topic::{NextOffset, TopicId, TopicName},
};
use serde::{Deserialize, Serialize};

use super::super::overlay::full_key;

/// The engine's own store: one key, [`Meta`].
pub(crate) const META: &str = "_task";

/// What a task knows of itself: a value of its state like any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Where reading goes on.
    pub next: NextOffset,
    /// The input topic's incarnation that `next` belongs to.
    pub topic_id: TopicId,
    /// The task's clock: never goes back.
    pub now: WallTime,
    /// Counts what needs a name of its own: attempts of effects, fired timers.
    pub sequence: u64,
    /// Whether the operators saw [`semel_operators::operator::Input::Begin`].
    pub begun: bool,
    /// Event time.
    pub event_time: EventTime,
    /// Event time as it was passed on last.
    pub passed_on: EventTime,
    /// Records that wait behind quarantined keys.
    pub waiting: u32,
    /// Quarantined keys.
    #[serde(default)]
    pub held_keys: u32,
    /// The transactional id of the lane that committed this, unless it handed the task over.
    #[serde(default)]
    pub bearer: Option<String>,
    /// The topic in which the stage goes on since it was repartitioned: this task is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<TopicName>,
}

impl Meta {
    /// Takes over what steps change, which is all but topic and bearer: for each input, so without
    /// copying texts.
    pub(super) fn follow(&mut self, other: &Self) {
        let Self { next, now, sequence, begun, event_time, passed_on, waiting, held_keys, .. } =
            *other;
        (self.next, self.now, self.sequence, self.begun) = (next, now, sequence, begun);
        (self.event_time, self.passed_on) = (event_time, passed_on);
        (self.waiting, self.held_keys) = (waiting, held_keys);
    }
}

/// What a record of a changelog says of the lane that wrote it, if it says anything:
/// `Some(None)` for a lane that hands the task over.
#[must_use]
pub fn bearer_in(record: &Record) -> Option<Option<String>> {
    if record.key.as_deref()? != full_key(META, b"") {
        return None;
    }
    let meta: Meta = semel_schemas::codec::decode(META, record.value.as_deref()?).ok()?;
    Some(meta.bearer)
}
