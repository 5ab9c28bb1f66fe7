//! `dlq`: dead letters: which there are, which a person has decided about, and deciding.
//!
//! Taking a letter again writes its record, with the id that it had, to the topic that its stage or
//! sink reads, addressed to that one (`semel-to`): other readers of the topic pass it over. Where the
//! stage holds the letter's key in quarantine, a command to the stage is written instead, which lets
//! the key go on in its order.
//!
//! Invariants: a decision and what it writes are one transaction; a letter that was decided about is
//! decided about again only if that is said; what was no record is never written.

use std::collections::BTreeMap;

use semel_schemas::{
    codec,
    fault::FaultCode,
    header::{self, Headers},
    partition::partition_for_key,
    record::{OutRecord, Record},
    request::{COMMAND, Command, CommandKind, QUARANTINE, Quarantine, QuarantineAction},
    topic::{NextOffset, Offset, Partition, TopicName},
};
use serde::{Deserialize, Serialize};

use super::{Answer, Stop, Tell, View, consume::Cursor, rows::RecordRow, view::Part};
use crate::{
    engine::topology::{OnFault, TopicRef},
    log::Isolation,
};

/// Letters that one decision may be about.
pub const DECIDE_MAX: usize = 1_000;

/// Which letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    /// Only these: `partition/offset` in the dead-letter topic, or its whole place.
    pub places: Vec<String>,
    /// Only of this stage or sink.
    pub stage: Option<String>,
    /// Only of this fault, `SEM-0001`.
    pub fault: Option<String>,
    /// Only of this key.
    pub key: Option<String>,
    /// Those that were decided about as well.
    pub decided: bool,
}

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letters {
    /// Which.
    pub which: Which,
    /// Only so many.
    pub limit: Option<u64>,
    /// Only among the last so many offsets of each partition, which bounds what is read.
    #[serde(default)]
    pub last: Option<u64>,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterRow {
    /// As it stands in the dead-letter topic.
    pub record: RecordRow,
    /// What was decided about it last.
    pub decided: Option<Command>,
}

/// What to do with letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decide {
    /// Which.
    pub which: Which,
    /// What.
    pub action: QuarantineAction,
    /// Who asks.
    pub by: String,
}

/// What became of one letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedRow {
    /// Where it stands.
    pub letter: String,
    /// What was done, for people.
    pub done: String,
}

/// Tells letters in the order of the topic.
///
/// # Errors
/// [`Stop`].
pub fn letters(view: &View, ask: &Letters, tell: &mut Tell<'_>) -> Result<(), Stop> {
    let decided = decisions(view)?;
    let mut left = ask.limit.unwrap_or(u64::MAX);
    each(view, &ask.which, ask.last, &decided, &mut |record, command| {
        if left == 0 {
            return Err(Stop::Gone);
        }
        left -= 1;
        tell(Answer::Letter(LetterRow { record: record.into(), decided: command.cloned() }))
    })
    .or_else(|stop| if left == 0 && stop == Stop::Gone { Ok(()) } else { Err(stop) })
}

/// Does it, all or nothing.
///
/// # Errors
/// [`Stop`]: nothing was written, unless the log says that it does not know.
pub fn decide(view: &View, ask: &Decide) -> Result<Vec<DecidedRow>, Stop> {
    let decided = decisions(view)?;
    let (mut found, mut again) = (Vec::new(), Vec::new());
    let which = Which { decided: true, ..ask.which.clone() };
    each(view, &which, None, &decided, &mut |record, command| {
        match command {
            Some(command) if !ask.which.decided => again.push((record.origin(), command.clone())),
            _ => found.push(record),
        }
        if found.len() <= DECIDE_MAX {
            return Ok(());
        }
        Err(Stop::Refused(format!(
            "more than {DECIDE_MAX} dead letters fit: say which (--stage, --fault, --key, places)"
        )))
    })?;
    if let Some((place, command)) = again.first().filter(|_| !ask.which.places.is_empty()) {
        return Err(Stop::Refused(format!(
            "{place} was decided about by {} ({:?}): say --again to do so again",
            command.by, command.what
        )));
    }
    if found.is_empty() {
        return Err("no dead letter fits that nobody has decided about".into());
    }
    let (mut records, mut rows) = (Vec::new(), Vec::new());
    for letter in &found {
        let (what, done) = act(view, letter, ask)?;
        records.extend(what);
        let kind = match ask.action {
            QuarantineAction::Replay => CommandKind::Replay,
            QuarantineAction::Drop => CommandKind::Drop,
        };
        records.push(view.command(kind, &letter.origin(), done.clone(), &ask.by)?);
        rows.push(DecidedRow { letter: letter.origin(), done });
    }
    view.log.append(records)?;
    Ok(rows)
}

/// The record that a decision about a letter writes, if it writes one, and what that does.
fn act(view: &View, letter: &Record, ask: &Decide) -> Result<(Option<OutRecord>, String), Stop> {
    let name = letter.headers.get_str(header::STAGE).unwrap_or_default();
    let part = view.part(name)?;
    if quarantines(part, letter) {
        let key = letter.key.clone().unwrap_or_default();
        let value = Quarantine { action: ask.action, by: ask.by.clone() };
        let mut headers = Headers::new();
        headers.push(header::TYPE, QUARANTINE);
        headers.push(header::TO, name);
        let record = to(part.input(), key, Some(codec::encode(&value)), headers);
        let done = match ask.action {
            QuarantineAction::Replay => "its key goes on, this record first",
            QuarantineAction::Drop => "its key goes on without this record",
        };
        return Ok((Some(record), format!("stage `{name}`: {done}")));
    }
    if ask.action == QuarantineAction::Drop {
        return Ok((None, "left out".to_owned()));
    }
    let record = original(view, letter)?;
    let mut headers = record.headers.clone();
    headers.set(header::ID, record.id());
    headers.set(header::TO, name);
    let Some(key) = record.key else {
        return Err(Stop::Refused(format!(
            "{} has no key, so it belongs to no partition: produce it with one, or drop it",
            letter.origin()
        )));
    };
    let record = to(part.input(), key, record.value, headers);
    Ok((Some(record), format!("taken again by `{name}`")))
}

fn to(topic: &TopicRef, key: Vec<u8>, value: Option<Vec<u8>>, headers: Headers) -> OutRecord {
    OutRecord {
        topic: topic.name.clone(),
        partition: Some(partition_for_key(&key, topic.partitions)),
        key: Some(key),
        value,
        headers,
    }
}

/// Whether the stage holds the letter's key back (see the engine's `quarantine`).
fn quarantines(part: Part<'_>, letter: &Record) -> bool {
    let Part::Stage(stage) = part else { return false };
    let misplaced = [FaultCode::EmptyKey, FaultCode::QuarantineFull, FaultCode::UnknownTarget];
    let fault = letter.headers.get_str(header::FAULT);
    stage.on_fault == OnFault::QuarantineKey
        && !misplaced.iter().any(|code| Some(code.text()) == fault)
}

/// The record that was refused, as it came.
fn original(view: &View, letter: &Record) -> Result<Record, Stop> {
    let origin = letter.headers.get_str(header::ORIGIN).and_then(place_of);
    let Some((topic, partition, offset)) = origin else {
        return Err(Stop::Refused(format!(
            "{} tells of something that was no record: there is nothing to take again; drop it",
            letter.origin()
        )));
    };
    if letter.headers.get(crate::engine::dead_letter::OMITTED).is_some() {
        let found = at(view, &topic, partition, offset)?;
        return found.ok_or_else(|| {
            Stop::Refused(format!(
                "the record {topic}/{partition}/{offset} was too large for its dead letter, and \
                 the log no longer holds it"
            ))
        });
    }
    let ours = [header::STAGE, header::FAULT, header::FAULT_TEXT, header::ORIGIN, header::CAUSE];
    let kept = letter.headers.iter().filter(|(name, _)| !ours.contains(name));
    let mut headers: Headers = kept.map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
    if let Some(id) = letter.headers.get(header::CAUSE) {
        headers.set(header::ID, id.to_vec());
    }
    Ok(Record { topic, partition, offset, headers, ..letter.clone() })
}

/// `topic/partition/offset`.
fn place_of(text: &str) -> Option<(TopicName, Partition, Offset)> {
    let mut parts = text.rsplitn(3, '/');
    let offset = parts.next()?.parse().ok()?;
    let partition = parts.next()?.parse().ok()?;
    Some((TopicName::new(parts.next()?).ok()?, Partition(partition), Offset(offset)))
}

fn at(
    view: &View,
    topic: &TopicName,
    partition: Partition,
    offset: Offset,
) -> Result<Option<Record>, Stop> {
    let mut reader = view.log.reader(Isolation::Committed)?;
    let (first, end) = reader.bounds(topic, partition)?;
    let from = NextOffset(offset.0);
    if from < first || from >= end {
        return Ok(None);
    }
    let mut cursor = Cursor::open(reader, (topic, partition), (from, end))?;
    Ok(cursor.take()?.filter(|record| record.offset == offset))
}

/// The last decision about each letter.
fn decisions(view: &View) -> Result<BTreeMap<String, Command>, Stop> {
    let mut decided = BTreeMap::new();
    if view.log.topic(&view.plan.commands.name)?.is_none() {
        return Ok(decided);
    }
    scan(view, &view.plan.commands, &mut |record| {
        let ours = record.headers.get_str(header::TYPE) == Some(COMMAND);
        let value = record.value.as_deref().filter(|_| ours);
        let command = value.map(|value| codec::decode::<Command>(COMMAND, value));
        if let Some(Ok(command)) = command
            && matches!(command.what, CommandKind::Replay | CommandKind::Drop)
        {
            decided.insert(command.target.clone(), command);
        }
        Ok(())
    })?;
    Ok(decided)
}

/// Reads a topic to its end as of now.
///
/// # Errors
/// [`Stop`], also of `hear`.
pub(super) fn scan(
    view: &View,
    topic: &TopicRef,
    hear: &mut dyn FnMut(Record) -> Result<(), Stop>,
) -> Result<(), Stop> {
    scan_last(view, topic, None, hear)
}

/// Reads the last so many offsets of each partition, or all, to the end as of now.
fn scan_last(
    view: &View,
    topic: &TopicRef,
    last: Option<u64>,
    hear: &mut dyn FnMut(Record) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let topic = view.existing(&topic.name)?;
    for (partition, (first, end)) in (0..).map(Partition).zip(view.bounds(&topic)?) {
        let reader = view.log.reader(Isolation::Committed)?;
        let first = last.map_or(first, |n| first.max(NextOffset(end.0.saturating_sub(n))));
        if first >= end {
            continue;
        }
        let mut cursor = Cursor::open(reader, (&topic.name, partition), (first, end))?;
        while let Some(record) = cursor.take()? {
            hear(record)?;
        }
    }
    Ok(())
}

/// Who hears of letters, and of what was decided about each.
type Hear<'a> = dyn FnMut(Record, Option<&Command>) -> Result<(), Stop> + 'a;

fn each(
    view: &View,
    which: &Which,
    last: Option<u64>,
    decided: &BTreeMap<String, Command>,
    hear: &mut Hear<'_>,
) -> Result<(), Stop> {
    if let Some(stage) = &which.stage {
        view.part(stage)?;
    }
    let mut places: Vec<String> = which.places.clone();
    scan_last(view, &view.plan.dead_letter, last, &mut |record| {
        let origin = record.origin();
        if !which.places.is_empty() {
            let short = format!("{}/{}", record.partition, record.offset);
            let before = places.len();
            places.retain(|place| *place != origin && *place != short);
            if places.len() == before {
                return Ok(());
            }
        }
        let says = |name, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|text| record.headers.get_str(name) == Some(text))
        };
        let key = record.key.as_deref().unwrap_or_default();
        let command = decided.get(&origin);
        let fits = says(header::STAGE, &which.stage)
            && says(header::FAULT, &which.fault)
            && which.key.as_deref().is_none_or(|wanted| wanted.as_bytes() == key)
            && (which.decided || command.is_none());
        if fits { hear(record, command) } else { Ok(()) }
    })?;
    match places.first() {
        Some(place) => Err(Stop::Refused(format!(
            "there is no dead letter {place} in {}: `semel dlq list` shows where they are",
            view.plan.dead_letter.name
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_topic_a_partition_and_an_offset() {
        let (topic, partition, offset) = place_of("p.t/3/17").unwrap();
        assert_eq!((topic.as_str(), partition, offset), ("p.t", Partition(3), Offset(17)));
        for text in ["", "3/17", "p.t/x/1", "p.t/1/x", "chain/0: begin"] {
            assert!(place_of(text).is_none(), "{text}");
        }
    }
}
