//! ROOT: every published root is the root of exactly the claims that the sink holds for its epoch
//! and channel, in the order (slot, transaction, instruction).
//!
//! Judged when a root is told: no claim of its epoch and channel is left out, or comes later. When it
//! lands on the chain, from the claims that the log says are in it. And at the
//! end from the rows of the tables; the tree is built here a second time, from the profile's
//! description (`ao-claim-v0`: sorted pairs, an odd node is paired with itself, keccak).

use std::collections::{BTreeMap, BTreeSet};

use semel_operators::merkle::hash::keccak;
use semel_schemas::{
    attention::{self, Instruction},
    claim::{CLAIM_STATE, ROOT},
    record::Record,
    solana::Address,
    topic::TopicName,
};

use super::{Check, Ledger, News, Scene, kind, number, order::channel_of, text, value};
use crate::{sim::topic, spec::plan::Plan};

/// A claim as its leaf needs it, under its place on the chain.
type Leaves = BTreeMap<(u64, u64, u64, String), (Address, u64, String)>;

/// Channel and epoch.
type Name = (String, u64);

/// See the module.
#[derive(Debug)]
pub(super) struct Root {
    states: Option<TopicName>,
    roots: Option<TopicName>,
    /// Claims that are counted in an epoch and not included in its root: claim → its epoch.
    counted: BTreeMap<String, Name>,
    /// Roots that were told.
    told: BTreeSet<Name>,
    included: BTreeMap<Name, Leaves>,
    /// Roots on the chain, and whether each was judged.
    landed: BTreeMap<Name, ([u8; 32], u16, bool)>,
}

impl Root {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            states: topic(plan, "claim-states"),
            roots: topic(plan, "roots"),
            counted: BTreeMap::new(),
            told: BTreeSet::new(),
            included: BTreeMap::new(),
            landed: BTreeMap::new(),
        }
    }

    fn state(&mut self, record: &Record) {
        let value = value(record);
        let id = text(&value, "claim_id").to_owned();
        let name = (text(&value, "channel").to_owned(), number(&value, "epoch"));
        if kind(record) != CLAIM_STATE {
            self.counted.remove(&id);
            return;
        }
        if text(&value, "status") == "pending" {
            self.counted.insert(id, name);
            return;
        }
        self.counted.remove(&id);
        if text(&value, "status") != "included" {
            return;
        }
        let place =
            (number(&value, "slot"), number(&value, "tx_index"), number(&value, "ix_index"), id);
        let user = text(&value, "user").parse().unwrap_or(Address([0; 32]));
        let amount = text(&value, "amount").parse().unwrap_or(0);
        let claim = (user, amount, text(&value, "id").to_owned());
        self.included.entry(name).or_default().insert(place, claim);
    }

    /// Once all that was decided is visible.
    fn judge(&mut self) -> Result<(), String> {
        if let Some((id, (channel, epoch))) =
            self.counted.iter().find(|(_, name)| self.told.contains(*name))
        {
            return Err(format!(
                "claim {id} counts in epoch {epoch} of channel {channel}, and its root is told \
                 without it"
            ));
        }
        for ((channel, epoch), (root, count, judged)) in &mut self.landed {
            if *judged {
                continue;
            }
            *judged = true;
            let leaves = self.included.get(&(channel.clone(), *epoch));
            let leaves: Vec<_> = leaves.into_iter().flat_map(BTreeMap::values).collect();
            let built = tree(&leaves);
            if built != Some(*root) || leaves.len() != usize::from(*count) {
                return Err(format!(
                    "the root of channel {channel}, epoch {epoch} on the chain has {count} leaves \
                     and is not the root of the {} claims that are in it",
                    leaves.len()
                ));
            }
        }
        Ok(())
    }
}

/// `keccak(claimer | index u32 LE | amount u64 LE | id)`.
fn leaf(index: usize, (user, amount, id): &(Address, u64, String)) -> [u8; 32] {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let parts: [&[u8]; 4] = [&user.0, &index.to_le_bytes(), &amount.to_le_bytes(), id.as_bytes()];
    keccak(&parts.concat())
}

fn tree(leaves: &[&(Address, u64, String)]) -> Option<[u8; 32]> {
    let mut level: Vec<[u8; 32]> =
        leaves.iter().enumerate().map(|(index, claim)| leaf(index, claim)).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| {
                let (left, right) = (pair[0], *pair.last().unwrap_or(&pair[0]));
                keccak(&[left.min(right), left.max(right)].concat())
            })
            .collect();
    }
    level.first().copied()
}

impl Check for Root {
    fn id(&self) -> &'static str {
        "ROOT"
    }

    fn step(&mut self, scene: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        for record in &news.records {
            let topic = Some(&record.topic);
            if topic == self.states.as_ref() {
                self.state(record);
            } else if topic == self.roots.as_ref() && kind(record) == ROOT {
                let value = value(record);
                let name = (text(&value, "channel").to_owned(), number(&value, "epoch"));
                self.told.insert(name);
            }
        }
        let executed = news.blocks.iter().flat_map(|block| &block.transactions);
        for instruction in executed.flat_map(|transaction| &transaction.instructions) {
            if let Ok(Some(Instruction::SetMerkleRootRing(set))) =
                attention::parse(&instruction.data)
                && let Some(channel) = channel_of(&set.streamer)
            {
                let name = (channel.to_owned(), set.epoch);
                self.landed.insert(name, (set.root, set.count, false));
            }
        }
        if !scene.sim.hides() { self.judge() } else { Ok(()) }
    }

    fn unfinished(&mut self, _: &mut Scene<'_>, _: &Ledger) -> Option<String> {
        let open = self.included.keys().find(|name| !self.landed.contains_key(*name));
        open.map(|(channel, epoch)| {
            format!("the root of {channel}, epoch {epoch} is not published")
        })
    }

    fn end(&mut self, scene: &mut Scene<'_>, _: &Ledger) -> Result<(), String> {
        self.judge()?;
        let rows = scene.database.rows("claims");
        for ((channel, epoch), (root, ..)) in &self.landed {
            let of = |row: &semel_connectors::sinks::memory::Row, column: &str| {
                row.get(column).cloned().flatten().unwrap_or_default()
            };
            let mut leaves: Vec<_> = rows
                .values()
                .filter(|row| of(row, "channel") == *channel)
                .filter(|row| of(row, "epoch") == epoch.to_string())
                .collect();
            leaves.sort_by_key(|row| of(row, "leaf_index").parse::<u64>().unwrap_or(u64::MAX));
            let claims: Vec<_> = leaves
                .into_iter()
                .map(|row| {
                    let user = of(row, "user_pubkey").parse().unwrap_or(Address([0; 32]));
                    (user, of(row, "amount").parse().unwrap_or(0), of(row, "leaf_id"))
                })
                .collect();
            if tree(&claims.iter().collect::<Vec<_>>()) != Some(*root) {
                return Err(format!(
                    "the root of channel {channel}, epoch {epoch} on the chain is not the root of \
                     the {} rows of table claims",
                    claims.len()
                ));
            }
        }
        Ok(())
    }
}
