//! `batch`: several records of one key become one, in the order in which they came.
//!
//! A batch ends when it holds `max_records`, before it would exceed `max_bytes`, or `max_wait_ms`
//! after its first record. It is keyed as its records were; its type is `records`.
//!
//! Invariants: each record is in exactly one batch; batches of one key, laid end to end, are the
//! records of that key in order; a value is carried to the byte. The open batch of a key is one
//! value in the state, written anew with each record: keep `max_bytes` small.

use semel_schemas::{
    batched::RECORDS,
    fault::{Fault, FaultCode},
    time::WallTime,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    field::{self, digest},
    operator::{Context, Envelope, Input, Operator, StoreDecl, TimerKey, To},
    owner::{Owner, Part},
    setting::{at_least, at_most},
};

/// Open batches, by the records' key → [`Open`].
const OPEN: &str = "batch_open";
/// Timer of one key: its open batch may have waited long enough.
const FLUSH: &str = "batch.";
/// Bytes of the state form beyond the records.
const TRAILER: usize = 13;
/// What a batch has beyond its records.
const HEAD: &[u8] = br#"{"records":["#;
const TAIL: &[u8] = b"]}";

/// Settings of `batch`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The type of the records that are batched.
    pub record: String,
    /// Most records of a batch, 1 to 10,000.
    #[serde(default = "default_max_records")]
    pub max_records: u32,
    /// Most bytes of a batch, 1 to 500,000; a record that is larger is a batch of its own.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: u32,
    /// Wall-clock milliseconds that the first record of a batch waits at most.
    #[serde(default = "default_max_wait_ms")]
    pub max_wait_ms: u64,
}

fn default_max_records() -> u32 {
    100
}

fn default_max_bytes() -> u32 {
    16_384
}

fn default_max_wait_ms() -> u64 {
    1_000
}

/// A key's open batch. Its timer is not moved when a batch ends and another opens (most do, long
/// before it is due): when it fires, it looks at what is open then.
///
/// State form: `records | since u64 BE | count u32 BE | timer u8`, the records as they will stand
/// in the batch, separated by commas, and first, so that one more is appended to what was read.
/// `count` 0: nothing is open, but the timer is set.
struct Open {
    since: u64,
    count: u32,
    timer: bool,
    records: Vec<u8>,
}

impl Open {
    fn read(ctx: &Context<'_>, key: &[u8]) -> Self {
        let Some(mut bytes) = ctx.get(OPEN, key) else {
            return Self { since: 0, count: 0, timer: false, records: Vec::new() };
        };
        let (rest, timer) = bytes.split_last_chunk::<1>().expect("it ends with a byte");
        let (rest, count) = rest.split_last_chunk().expect("before it are 4 bytes of count");
        let (rest, since) = rest.split_last_chunk().expect("before them are 8 bytes of time");
        let since = u64::from_be_bytes(*since);
        let count = u32::from_be_bytes(*count);
        let (timer, length) = (*timer != [0], rest.len());
        bytes.truncate(length);
        Self { since, count, timer, records: bytes }
    }

    fn write(mut self, ctx: &mut Context<'_>, key: &[u8]) {
        if self.count == 0 && !self.timer {
            ctx.delete(OPEN, key);
            return;
        }
        self.records.extend_from_slice(&self.since.to_be_bytes());
        self.records.extend_from_slice(&self.count.to_be_bytes());
        self.records.push(u8::from(self.timer));
        ctx.put(OPEN, key, self.records);
    }

    /// Ends the open batch.
    fn flush(&mut self, ctx: &mut Context<'_>, key: &[u8]) {
        let mut value = Vec::with_capacity(HEAD.len() + self.records.len() + TAIL.len());
        value.extend_from_slice(HEAD);
        value.append(&mut self.records);
        value.extend_from_slice(TAIL);
        ctx.emit(To::Next, RECORDS, key, Some(value));
        ctx.count("batch.batches", 1);
        self.count = 0;
    }
}

/// The operator.
#[derive(Debug)]
pub struct Batch {
    settings: Settings,
}

impl Batch {
    /// The operator with its settings.
    ///
    /// # Errors
    /// A sentence that names the setting which is out of its range.
    pub fn new(settings: Settings) -> Result<Self, String> {
        at_least("max_records", settings.max_records.into(), 1)?;
        at_most("max_records", settings.max_records.into(), 10_000)?;
        at_least("max_bytes", settings.max_bytes.into(), 1)?;
        at_most("max_bytes", settings.max_bytes.into(), 500_000)?;
        Ok(Self { settings })
    }

    fn add(&self, ctx: &mut Context<'_>, record: &Envelope) -> Result<(), Fault> {
        let item = item(record)?;
        let key = record.key.as_slice();
        let mut open = Open::read(ctx, key);
        let size = HEAD.len() + open.records.len() + 1 + item.len() + TAIL.len();
        if open.count > 0 && size > self.settings.max_bytes as usize {
            open.flush(ctx, key);
        }
        if open.count == 0 {
            open.since = ctx.now().0;
            if !open.timer && self.settings.max_records > 1 {
                open.timer = true;
                self.wake_at(ctx, key, open.since);
            }
        } else {
            open.records.push(b',');
        }
        open.records.reserve_exact(item.len() + TRAILER);
        open.records.extend_from_slice(&item);
        open.count += 1;
        ctx.count("batch.records", 1);
        if open.count >= self.settings.max_records {
            open.flush(ctx, key);
        }
        open.write(ctx, key);
        Ok(())
    }

    fn wake_at(&self, ctx: &mut Context<'_>, key: &[u8], since: u64) {
        let WallTime(at) = WallTime(since).plus_ms(self.settings.max_wait_ms);
        let name = format!("{FLUSH}{}", hex::encode(digest(&[key])));
        ctx.set_timer(TimerKey::wall(name), at, key.to_vec());
    }

    /// The timer of a key fired.
    fn wake(&self, ctx: &mut Context<'_>, key: &[u8]) {
        let mut open = Open::read(ctx, key);
        open.timer = false;
        if open.count > 0 {
            if ctx.now() >= WallTime(open.since).plus_ms(self.settings.max_wait_ms) {
                open.flush(ctx, key);
            } else {
                open.timer = true;
                self.wake_at(ctx, key, open.since);
            }
        }
        open.write(ctx, key);
    }
}

/// A record as it stands in a batch.
fn item(record: &Envelope) -> Result<Vec<u8>, Fault> {
    let value: &RawValue = serde_json::from_slice(field::bytes(record)?).map_err(|error| {
        let text = format!("the value of a `{}` is no JSON: {error}", record.kind);
        Fault::new(FaultCode::Undecodable, text)
    })?;
    let id = semel_schemas::codec::encode(&record.id);
    let parts: [&[u8]; 5] = [br#"{"id":"#, &id, br#","value":"#, value.get().as_bytes(), b"}"];
    Ok(parts.concat())
}

impl Operator for Batch {
    fn name(&self) -> &'static str {
        "batch"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        &[StoreDecl { name: OPEN, version: 2 }]
    }

    fn takes(&self, kind: &str) -> bool {
        kind == self.settings.record
    }

    fn owner(&self, part: Part<'_>) -> Owner {
        match part {
            Part::Pair { key, .. } => Owner::Key(key.to_vec()),
            Part::Timer { payload, .. } => Owner::Key(payload.to_vec()),
        }
    }

    fn keeps_keys(&self) -> bool {
        true
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Record(record) if record.kind == self.settings.record => {
                return self.add(ctx, &record);
            }
            Input::Record(record) => ctx.forward(record),
            Input::Timer { payload, .. } => self.wake(ctx, &payload),
            Input::Begin | Input::Outcome { .. } | Input::Progress(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
