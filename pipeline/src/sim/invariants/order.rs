//! ORDER: per (chain, account, nonce track) the order of inclusion is the order of nonces; a nonce
//! is passed over only after it was refused or expired, and its caller told.
//!
//! Judged: orders that went on, by key and track; that none was refused for want of one that was
//! there when its task was started; roots on the chain, by channel.

use std::collections::{BTreeMap, BTreeSet};

use semel_schemas::{
    attention::{self, Instruction},
    claim::{ROOT, SETTLEMENT},
    header,
    record::Record,
    topic::{Partition, TopicName},
    verdict::VERDICT,
};

use super::{Check, Ledger, News, Scene, kind, number, text, value};
use crate::{
    sim::{options::CHANNELS, topic},
    spec::plan::Plan,
};

/// Key and track.
type Line = (Vec<u8>, String);

/// Orders by key and track.
#[derive(Debug)]
pub(super) struct Arranged {
    admitted: Option<TopicName>,
    ordered: Option<TopicName>,
    /// The nonce that must go on next.
    next: BTreeMap<Line, u64>,
    /// Nonce → the orders that bear it, with their partition and the step after which each was seen.
    there: BTreeMap<(Line, u64), BTreeMap<String, (Partition, u64)>>,
    /// Orders that have one.
    ended: BTreeSet<String>,
}

/// The line of an order with this key, and its nonce.
fn line(key: Option<&[u8]>, order: &serde_json::Value) -> (Line, u64) {
    let nonce = text(order, "nonce").parse().unwrap_or(u64::MAX);
    ((key.unwrap_or_default().to_vec(), text(order, "track").to_owned()), nonce)
}

impl Arranged {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            admitted: topic(plan, "admitted"),
            ordered: topic(plan, "ordered"),
            next: BTreeMap::new(),
            there: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    /// Notes an order that waits for its turn, or an end.
    fn note(&mut self, record: &Record, step: u64) {
        let ended = if Some(&record.topic) == self.admitted.as_ref() {
            let line = line(record.key.as_deref(), &value(record));
            let seen = (record.partition, step);
            self.there.entry(line).or_default().insert(record.id(), seen);
            return;
        } else if Some(&record.topic) == self.ordered.as_ref() {
            record.id()
        } else if kind(record) == VERDICT {
            text(&value(record), "record_id").to_owned()
        } else if record.headers.get(header::FAULT).is_some() {
            record.headers.get_str(header::CAUSE).unwrap_or_default().to_owned()
        } else {
            return;
        };
        self.ended.insert(ended);
    }

    /// Whoever was refused because a nonce did not come waited for one that was not there: what a
    /// task finds at its start it works up first.
    fn expired(&self, scene: &Scene<'_>, verdict: &Record) -> Result<(), String> {
        let Some(admitted) = &self.admitted else { return Ok(()) };
        let said = value(verdict);
        let Ok(missing) = text(&said, "missing_nonce").parse::<u64>() else { return Ok(()) };
        let order = serde_json::from_str(text(&said, "value")).unwrap_or_default();
        let (line, nonce) = line(verdict.key.as_deref(), &order);
        let there = self.there.get(&(line, missing)).into_iter().flatten();
        for (id, (partition, seen)) in there.filter(|(id, _)| !self.ended.contains(*id)) {
            if scene.starts.follow((admitted, *partition), *seen, verdict.timestamp_ms) {
                return Err(format!(
                    "nonce {nonce} is refused for want of nonce {missing}, which is order {id} and \
                     was there before the task was started"
                ));
            }
        }
        Ok(())
    }
}

impl Check for Arranged {
    fn id(&self) -> &'static str {
        "ORDER"
    }

    fn step(&mut self, scene: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        news.records.iter().for_each(|record| self.note(record, scene.starts.step));
        // An end may be decided and not visible.
        if !scene.sim.hides() {
            for verdict in news.records.iter().filter(|record| kind(record) == VERDICT) {
                self.expired(scene, verdict)?;
            }
        }
        let ordered = news.records.iter().filter(|r| Some(&r.topic) == self.ordered.as_ref());
        for record in ordered {
            let value = value(record);
            let (line, nonce) = line(record.key.as_deref(), &value);
            let next = self.next.entry(line).or_default();
            if nonce != *next {
                return Err(format!(
                    "order {} goes on with nonce {nonce} where {next} was due",
                    text(&value, "order_id")
                ));
            }
            *next += 1;
        }
        Ok(())
    }
}

/// Roots by channel.
#[derive(Debug)]
pub(super) struct Settled {
    roots: Option<TopicName>,
    settlements: Option<TopicName>,
    /// Channel → epochs whose root was computed.
    due: BTreeMap<String, BTreeSet<u64>>,
    /// Channel → the last epoch on the chain.
    last: BTreeMap<String, u64>,
}

impl Settled {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            roots: topic(plan, "roots"),
            settlements: topic(plan, "settlements"),
            due: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }
}

/// The channel of a streamer key.
pub(super) fn channel_of(streamer: &[u8; 32]) -> Option<&'static str> {
    CHANNELS.into_iter().find(|name| attention::channel_key(name) == *streamer)
}

impl Check for Settled {
    fn id(&self) -> &'static str {
        "ORDER"
    }

    fn step(&mut self, _: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        for record in &news.records {
            let value = value(record);
            let (channel, epoch) = (text(&value, "channel"), number(&value, "epoch"));
            let ready = kind(record) == ROOT && text(&value, "status") == "ready_for_settlement";
            if Some(&record.topic) == self.roots.as_ref() && ready {
                self.due.entry(channel.to_owned()).or_default().insert(epoch);
            }
            // Its caller is told: it may be passed over.
            let failed = text(&value, "status") == "failed" && kind(record) == SETTLEMENT;
            if Some(&record.topic) == self.settlements.as_ref() && failed {
                self.due.entry(channel.to_owned()).or_default().remove(&epoch);
            }
        }
        let executed = news.blocks.iter().flat_map(|block| &block.transactions);
        for instruction in executed.flat_map(|transaction| &transaction.instructions) {
            let Ok(Some(Instruction::SetMerkleRootRing(set))) = attention::parse(&instruction.data)
            else {
                continue;
            };
            let Some(channel) = channel_of(&set.streamer) else { continue };
            let last = self.last.insert(channel.to_owned(), set.epoch);
            if last.is_some_and(|last| last >= set.epoch) {
                return Err(format!(
                    "epoch {} of channel {channel} lands after epoch {}",
                    set.epoch,
                    last.unwrap_or_default()
                ));
            }
            let due = self.due.entry(channel.to_owned()).or_default();
            if let Some(passed) = due.iter().find(|due| **due < set.epoch) {
                return Err(format!(
                    "epoch {} of channel {channel} lands before epoch {passed}, of which nobody \
                     was told anything",
                    set.epoch
                ));
            }
            due.remove(&set.epoch);
        }
        Ok(())
    }
}
