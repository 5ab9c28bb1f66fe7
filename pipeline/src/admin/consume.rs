//! `consume`: the records of a topic, in the order of their times, filtered where they are read.
//!
//! Invariants: within a partition records come in order; across partitions by timestamp as far as
//! the log held them when it was asked, after that as they come; memory is bounded by a slice of
//! each partition, whatever the records' sizes.

use std::{collections::VecDeque, thread, time::Duration};

use semel_schemas::{
    record::Record,
    topic::{NextOffset, Partition, TopicName},
};
use serde::{Deserialize, Serialize};

use super::{
    Stop, View,
    place::Place,
    rows::kind,
    view::{bounds, now},
};
use crate::log::{Isolation, LogError, Reader};

/// Bytes that one partition's slice shall have: records of the sizes seen last.
const SLICE_BYTES: usize = 1 << 20;
/// Records of one slice.
const SLICE_MAX: usize = 500;
/// How long one look for a record waits.
const WAIT: Duration = Duration::from_millis(200);
/// Pause between two looks at partitions that have nothing new.
const PAUSE: Duration = Duration::from_millis(50);
/// What must have passed in silence until a sign of life is given: a record that did not pass the
/// filter weighs 1.
const BEAT_EVERY: u32 = 10_000;
/// What a pause weighs.
const PAUSE_WEIGHT: u32 = 1_000;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consume {
    /// Topic, by its short or full name.
    pub topic: String,
    /// Only this partition.
    pub partition: Option<u32>,
    /// From where.
    pub from: Place,
    /// Up to where; what lies there is left out.
    pub to: Place,
    /// What happens there.
    pub then: Then,
    /// Only so many records.
    pub limit: Option<u64>,
    /// Which records.
    pub filter: Filter,
}

/// What happens at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// That was all.
    Stop,
    /// Go on with what comes.
    Follow,
}

/// Which records. All of it has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// This key, as text.
    pub key: Option<String>,
    /// This type.
    pub kind: Option<String>,
    /// This `semel-id`, or `topic/partition/offset`.
    pub id: Option<String>,
    /// Fields of the value.
    pub fields: Vec<FieldTest>,
}

/// One test of a field of a JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldTest {
    /// The field's path, names joined with `.`.
    pub path: String,
    /// How it is compared.
    pub compare: Compare,
    /// With what: numbers by size if both are numbers, otherwise texts.
    pub with: String,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// Equal.
    Is,
    /// Not equal, or not there.
    IsNot,
    /// Less.
    Less,
    /// Less or equal.
    AtMost,
    /// Greater.
    Greater,
    /// Greater or equal.
    AtLeast,
    /// The text holds it.
    Holds,
}

impl std::str::FromStr for FieldTest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Two-character signs first.
        let signs = [
            ("!=", Compare::IsNot),
            ("<=", Compare::AtMost),
            (">=", Compare::AtLeast),
            ("=", Compare::Is),
            ("<", Compare::Less),
            (">", Compare::Greater),
            ("~", Compare::Holds),
        ];
        let first = text.find(['!', '<', '>', '=', '~']);
        let found = first.and_then(|at| {
            let (path, rest) = text.split_at(at);
            let (sign, compare) = signs.iter().find(|(sign, _)| rest.starts_with(sign))?;
            Some(Self {
                path: path.trim().to_owned(),
                compare: *compare,
                with: rest[sign.len()..].trim().to_owned(),
            })
        });
        found.filter(|test| !test.path.is_empty()).ok_or_else(|| {
            format!(
                "`{text}` is no test of a field: write `channel=alpha`, `amount>=1000`, `id~twitch` \
                 (also !=, <, <=, >)"
            )
        })
    }
}

impl FieldTest {
    fn holds(&self, value: &serde_json::Value) -> bool {
        let found = self.path.split('.').try_fold(value, |value, name| match value {
            serde_json::Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            value => value.get(name),
        });
        let text = match found {
            None | Some(serde_json::Value::Null) => return self.compare == Compare::IsNot,
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let order = match (number(&text), number(&self.with)) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => Some(text.as_str().cmp(&self.with)),
        };
        match self.compare {
            Compare::Is => order.is_some_and(std::cmp::Ordering::is_eq),
            Compare::IsNot => !order.is_some_and(std::cmp::Ordering::is_eq),
            Compare::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Compare::AtMost => order.is_some_and(std::cmp::Ordering::is_le),
            Compare::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Compare::AtLeast => order.is_some_and(std::cmp::Ordering::is_ge),
            Compare::Holds => text.contains(&self.with),
        }
    }
}

/// Whole numbers exactly, up to 127 bits; others as floating point.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i128),
    Float(f64),
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        #[allow(clippy::cast_precision_loss, reason = "compared with what is no whole number")]
        let float = |number: &Self| match number {
            Self::Whole(whole) => *whole as f64,
            Self::Float(float) => *float,
        };
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(b)),
            (a, b) => float(a).partial_cmp(&float(b)),
        }
    }
}

fn number(text: &str) -> Option<Number> {
    let whole = text.parse().ok().map(Number::Whole);
    whole.or_else(|| text.parse().ok().filter(|f: &f64| f.is_finite()).map(Number::Float))
}

impl Filter {
    /// Whether a record passes.
    #[must_use]
    pub fn passes(&self, record: &Record) -> bool {
        let key = |wanted: &str| record.key.as_deref().unwrap_or_default() == wanted.as_bytes();
        let passes = self.key.as_deref().is_none_or(key)
            && self.kind.as_deref().is_none_or(|wanted| kind(record) == Some(wanted))
            && self.id.as_deref().is_none_or(|id| record.id() == id || record.origin() == id);
        if !passes {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let value = record.value.as_deref().unwrap_or_default();
        match serde_json::from_slice(value) {
            Ok(value) => self.fields.iter().all(|test| test.holds(&value)),
            Err(_) => false,
        }
    }
}

/// What the reader of a topic hears.
#[derive(Debug)]
pub enum Heard {
    /// A record that passed the filter.
    Record(Record),
    /// Nothing for a while.
    Nothing,
}

/// One partition while it is read.
pub(super) struct Cursor {
    reader: Box<dyn Reader>,
    buffer: VecDeque<Record>,
    slice: usize,
    until: NextOffset,
}

impl Cursor {
    pub(super) fn open(
        mut reader: Box<dyn Reader>,
        (topic, partition): (&TopicName, Partition),
        (from, until): (NextOffset, NextOffset),
    ) -> Result<Self, LogError> {
        reader.seek(topic, partition, from)?;
        Ok(Self { reader, buffer: VecDeque::new(), slice: 16, until })
    }

    fn read(&mut self, wait: Duration) -> Result<Vec<Record>, LogError> {
        let records = self.reader.read(self.slice, wait)?;
        if !records.is_empty() {
            let bytes: usize = records.iter().map(size).sum();
            self.slice = (SLICE_BYTES / (bytes / records.len()).max(1)).clamp(1, SLICE_MAX);
        }
        Ok(records)
    }

    /// The next record before the end that was set, to be taken by [`Cursor::take`].
    fn front(&mut self) -> Result<Option<&Record>, LogError> {
        while self.buffer.is_empty() && self.reader.position()? < self.until {
            self.buffer = self.read(WAIT)?.into();
        }
        Ok(self.buffer.front().filter(|record| record.next() <= self.until))
    }

    /// The next record before the end that was set.
    pub(super) fn take(&mut self) -> Result<Option<Record>, LogError> {
        if self.front()?.is_none() {
            return Ok(None);
        }
        Ok(self.buffer.pop_front())
    }

    /// What has come since, the end notwithstanding.
    fn news(&mut self) -> Result<VecDeque<Record>, LogError> {
        if self.buffer.is_empty() {
            return self.read(Duration::ZERO).map(VecDeque::from);
        }
        Ok(std::mem::take(&mut self.buffer))
    }
}

fn size(record: &Record) -> usize {
    let key = record.key.as_ref().map_or(0, Vec::len);
    key + record.value.as_ref().map_or(0, Vec::len) + record.headers.size()
}

/// Reads a topic.
///
/// # Errors
/// [`Stop`].
pub fn consume(
    view: &View,
    ask: &Consume,
    hear: &mut dyn FnMut(Heard) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let topic = view.topic(&ask.topic)?;
    if let Some(partition) = ask.partition.filter(|p| *p >= topic.partitions) {
        return Err(Stop::Refused(format!(
            "topic `{}` has no partition {partition}: it has {}, counted from 0",
            topic.name, topic.partitions
        )));
    }
    let mut finder = view.log.reader(Isolation::Committed)?;
    let mut cursors = Vec::new();
    for (partition, held) in (0..).map(Partition).zip(bounds(&mut *finder, &topic)?) {
        if ask.partition.is_some_and(|wanted| wanted != partition.0) {
            continue;
        }
        let at = (&topic.name, partition);
        let from = ask.from.offset(&mut *finder, at, held, now())?;
        let until = ask.to.offset(&mut *finder, at, held, now())?;
        cursors.push(Cursor::open(view.log.reader(Isolation::Committed)?, at, (from, until))?);
    }
    let mut out = Out { filter: &ask.filter, left: ask.limit.unwrap_or(u64::MAX), quiet: 0, hear };
    while out.left > 0 {
        let Some(record) = earliest(&mut cursors)? else { break };
        out.pass(record)?;
    }
    if ask.then == Then::Follow {
        follow(&mut cursors, &mut out)?;
    }
    Ok(())
}

/// What passes, and how much more may.
struct Out<'a> {
    filter: &'a Filter,
    left: u64,
    /// Records and pauses since something was heard.
    quiet: u32,
    hear: &'a mut dyn FnMut(Heard) -> Result<(), Stop>,
}

impl Out<'_> {
    fn pass(&mut self, record: Record) -> Result<(), Stop> {
        if self.left == 0 || !self.filter.passes(&record) {
            return self.nothing(1);
        }
        self.left -= 1;
        self.quiet = 0;
        (self.hear)(Heard::Record(record))
    }

    /// A sign of life now and then: so one learns that who waits for a rare record has gone.
    fn nothing(&mut self, weight: u32) -> Result<(), Stop> {
        self.quiet += weight;
        if self.quiet < BEAT_EVERY {
            return Ok(());
        }
        self.quiet = 0;
        (self.hear)(Heard::Nothing)
    }
}

/// The record with the least time among the first ones of all partitions.
fn earliest(cursors: &mut [Cursor]) -> Result<Option<Record>, LogError> {
    let mut least: Option<(u64, usize)> = None;
    for (index, cursor) in cursors.iter_mut().enumerate() {
        if let Some(front) = cursor.front()?
            && least.is_none_or(|(time, _)| front.timestamp_ms < time)
        {
            least = Some((front.timestamp_ms, index));
        }
    }
    match least.and_then(|(_, index)| cursors.get_mut(index)) {
        Some(cursor) => cursor.take(),
        None => Ok(None),
    }
}

fn follow(cursors: &mut [Cursor], out: &mut Out<'_>) -> Result<(), Stop> {
    while out.left > 0 {
        let mut found = false;
        for cursor in &mut *cursors {
            for record in cursor.news()? {
                found = true;
                out.pass(record)?;
            }
        }
        if !found {
            out.nothing(PAUSE_WEIGHT)?;
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_tested_as_numbers_where_they_are_numbers() {
        let value = serde_json::json!({
            "amount": "10000000000000000000001", "n": 9, "f": 0.5, "who": {"name": "ann"},
            "list": [1, "b"], "none": null,
        });
        for (test, want) in [
            ("amount>10000000000000000000000", true),
            ("amount<=10000000000000000000001", true),
            ("n<10", true),
            ("n=9.0", true),
            ("f>=0.5", true),
            ("who.name=ann", true),
            ("who.name~nn", true),
            ("who.name!=bob", true),
            ("list.1=b", true),
            ("list.0>1", false),
            ("none=null", false),
            ("missing!=1", true),
            ("missing=1", false),
            ("who.name<b", true),
        ] {
            let test: FieldTest = test.parse().unwrap();
            assert_eq!(test.holds(&value), want, "{test:?}");
        }
        for text in ["", "amount", "=1", "a!b"] {
            assert!(text.parse::<FieldTest>().is_err(), "{text}");
        }
    }
}
