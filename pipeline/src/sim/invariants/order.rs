//! ORDER: per (chain, account, nonce track) the order of inclusion is the order of nonces; a nonce
//! is passed over only after it was refused or expired, and its caller told.
//!
//! Judged: orders that went on, by key and track; roots on the chain, by channel.

use std::collections::{BTreeMap, BTreeSet};

use semel_schemas::{
    attention::{self, Instruction},
    claim::{ROOT, SETTLEMENT},
    topic::TopicName,
};

use super::{Check, Ledger, News, Scene, kind, number, text, value};
use crate::{
    sim::{options::CHANNELS, topic},
    spec::plan::Plan,
};

/// Orders by key and track.
#[derive(Debug)]
pub(super) struct Arranged {
    ordered: Option<TopicName>,
    /// (key, track) → the nonce that must go on next.
    next: BTreeMap<(Vec<u8>, String), u64>,
}

impl Arranged {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { ordered: topic(plan, "ordered"), next: BTreeMap::new() }
    }
}

impl Check for Arranged {
    fn id(&self) -> &'static str {
        "ORDER"
    }

    fn step(&mut self, _: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        let ordered = news.records.iter().filter(|r| Some(&r.topic) == self.ordered.as_ref());
        for record in ordered {
            let value = value(record);
            let nonce: u64 = text(&value, "nonce").parse().unwrap_or(u64::MAX);
            let key = record.key.clone().unwrap_or_default();
            let next = self.next.entry((key, text(&value, "track").to_owned())).or_default();
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
