//! Quarantine by key: where order matters, what comes behind a refused record of the same key waits
//! until a person says `replay` or `drop`; other keys flow.
//!
//! Invariants: waiting records are state, in the order in which they came; a key leaves quarantine
//! only when nothing of it waits any more, so nothing overtakes; what waits is bounded per key
//! (more is refused) and per task (then the partition pauses).

use semel_operators::operator::{Envelope, StateView};
use semel_schemas::{
    codec,
    fault::{Fault, FaultCode},
    header::Headers,
    record::Record,
    request::{QUARANTINE, Quarantine, QuarantineAction},
    solana::Base64,
    topic::{Offset, Partition, TopicName},
};
use serde::{Deserialize, Serialize};

use super::{dead_letter, task::Task, topology::OnFault};

/// `key` → [`Held`].
pub(crate) const HELD: &str = "_quarantine";
/// `key length 4 BE | key | place 8 BE` → [`Waiting`]. Place 0 is the record at fault.
pub(crate) const QUEUE: &str = "_quarantine_queue";

/// Bytes of the longest place in the queue: what the local store takes, less the store's name.
const KEY_LONGEST: usize = crate::state::KEY_MAX - 64;
/// `offset 8 BE` of a command that was found ahead of its turn, and has been followed.
const FOLLOWED: &str = "_quarantine_followed";

/// One quarantined key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Held {
    /// The first place that is still taken.
    first: u64,
    /// The next free place.
    next: u64,
}

/// A record in state.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    topic: TopicName,
    partition: Partition,
    offset: Offset,
    timestamp_ms: u64,
    key: Base64,
    value: Option<Base64>,
    headers: Vec<(String, Base64)>,
}

/// Takes a record that must wait, or a command about a quarantined key. `true` if it was taken.
pub(super) fn taken(task: &mut Task, record: &Record, envelope: &Envelope) -> Result<bool, Fault> {
    if envelope.kind == QUARANTINE {
        let offset = record.offset.0.to_be_bytes();
        if task.state.get(FOLLOWED, &offset).is_some() {
            task.state.write(FOLLOWED, &offset, None);
            return Ok(true);
        }
        return follow(task, envelope).map(|()| true);
    }
    let Some(mut held) = held(task, &envelope.key) else { return Ok(false) };
    let limit = u64::from(task.stage.limits.quarantine_per_key_max);
    if held.next - held.first > limit {
        return Err(Fault::new(
            FaultCode::QuarantineFull,
            format!("{limit} records of this quarantined key wait already: replay or drop the key"),
        ));
    }
    if !push(task, &envelope.key, &mut held, record) {
        return Err(Fault::new(
            FaultCode::QuarantineFull,
            "this key is quarantined, and the record is too large to wait in the state",
        ));
    }
    task.counts.named("quarantine.waiting", 1);
    Ok(true)
}

/// Follows a command that was found ahead of its turn, once.
pub(super) fn commanded(task: &mut Task, record: &Record) -> Result<(), Fault> {
    let offset = record.offset.0.to_be_bytes();
    if task.state.get(FOLLOWED, &offset).is_some() {
        return Ok(());
    }
    let envelope = dead_letter::envelope(&task.stage, record)?;
    follow(task, &envelope)?;
    task.state.write(FOLLOWED, &offset, Some(Vec::new()));
    Ok(())
}

fn follow(task: &mut Task, envelope: &Envelope) -> Result<(), Fault> {
    let value = envelope.value.as_deref().unwrap_or_default();
    let command: Quarantine = codec::decode(QUARANTINE, value)?;
    release(task, &envelope.key, command.action)
}

/// Notes that a record was refused: if order matters, its key waits from here on.
pub(super) fn refused(task: &mut Task, record: &Record, fault: &Fault) {
    let key = record.key.clone().unwrap_or_default();
    let misplaced = matches!(
        fault.code,
        FaultCode::EmptyKey | FaultCode::QuarantineFull | FaultCode::UnknownTarget
    );
    if task.stage.on_fault == OnFault::DeadLetter || misplaced || held(task, &key).is_some() {
        return;
    }
    let mut held = Held { first: 0, next: 0 };
    if push(task, &key, &mut held, record) {
        task.meta.held_keys += 1;
        task.counts.named("quarantine.keys", 1);
    } else {
        task.counts.named("quarantine.too_large", 1);
    }
}

/// Lets a key go on, in order, until nothing waits or a record is refused again.
fn release(task: &mut Task, key: &[u8], action: QuarantineAction) -> Result<(), Fault> {
    let Some(mut held) = held(task, key) else {
        return Err(Fault::new(FaultCode::UnknownTarget, "this key is not quarantined"));
    };
    if action == QuarantineAction::Drop {
        pop(task, key, &mut held);
    }
    while held.first < held.next {
        task.keep();
        let Some(record) = front(task, key, held.first) else { break };
        let result = dead_letter::envelope(&task.stage, &record).and_then(|e| task.enter(e));
        let refused = match result {
            Ok(()) => task.step_refused.take(),
            Err(fault) => {
                task.undo();
                Some(fault)
            }
        };
        if let Some(fault) = refused {
            task.counts.dead_letters += 1;
            let to = &task.stage.dead_letter;
            let limit = task.stage.limits.record_bytes_max;
            let letter = dead_letter::letter(&task.stage.name, to, &record, &fault, limit);
            task.step_out.push(letter);
            return Ok(());
        }
        pop(task, key, &mut held);
    }
    task.state.write(HELD, key, None);
    task.meta.held_keys = task.meta.held_keys.saturating_sub(1);
    Ok(())
}

fn held(task: &Task, key: &[u8]) -> Option<Held> {
    if task.meta.waiting == 0 {
        return None;
    }
    let bytes = task.state.get(HELD, key)?;
    Some(semel_operators::operator::from_state(HELD, &bytes))
}

fn queue_key(key: &[u8], place: u64) -> Vec<u8> {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], key, &place.to_be_bytes()[..]].concat()
}

/// The quarantined key in a key of the queue; `None` if it is none.
#[must_use]
pub(crate) fn key_in_queue(place: &[u8]) -> Option<&[u8]> {
    let (length, rest) = place.split_first_chunk()?;
    let (key, _) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some(key)
}

/// Lets a record wait; `false` if it is too large for the changelog or its key for the store: then
/// it cannot wait, and nothing was written.
fn push(task: &mut Task, key: &[u8], held: &mut Held, record: &Record) -> bool {
    let waiting = Waiting {
        topic: record.topic.clone(),
        partition: record.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: Base64(key.to_vec()),
        value: record.value.clone().map(Base64),
        headers: record.headers.iter().map(|(n, v)| (n.to_owned(), Base64(v.to_vec()))).collect(),
    };
    let (place, bytes) = (queue_key(key, held.next), codec::encode(&waiting));
    let size = place.len() + bytes.len();
    if place.len() > KEY_LONGEST || size > task.stage.limits.record_bytes_max {
        return false;
    }
    task.state.write(QUEUE, &place, Some(bytes));
    held.next += 1;
    task.meta.waiting += 1;
    task.state.write(HELD, key, Some(codec::encode(held)));
    true
}

fn pop(task: &mut Task, key: &[u8], held: &mut Held) {
    task.state.write(QUEUE, &queue_key(key, held.first), None);
    held.first += 1;
    task.meta.waiting = task.meta.waiting.saturating_sub(1);
    task.state.write(HELD, key, Some(codec::encode(held)));
}

fn front(task: &Task, key: &[u8], place: u64) -> Option<Record> {
    let bytes = task.state.get(QUEUE, &queue_key(key, place))?;
    let waiting: Waiting = semel_operators::operator::from_state(QUEUE, &bytes);
    let headers: Headers = waiting.headers.into_iter().map(|(n, v)| (n, v.0)).collect();
    Some(Record {
        topic: waiting.topic,
        partition: waiting.partition,
        offset: waiting.offset,
        timestamp_ms: waiting.timestamp_ms,
        key: Some(waiting.key.0),
        value: waiting.value.map(|v| v.0),
        headers,
    })
}
