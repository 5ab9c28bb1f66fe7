//! INTENT: for one intent at most one transaction is ever included on chain, whatever crashes.
//!
//! Judged when another transaction of the same intent is sent: whatever was sent for it before must
//! be dead on the real chain (its blockhash expired at a final height without it, or it failed in a
//! final block); and on every block: an intent is executed once, and by no transaction of which
//! people were told that it failed.

use std::collections::{BTreeMap, BTreeSet};

use semel_schemas::{
    attention::{self, Instruction, SetMerkleRootRing},
    claim::SETTLEMENT,
    effect::Commitment,
    solana::{Blockhash, Signature},
};

use super::{Check, Ledger, News, Scene, kind, text, value};

/// Channel key and epoch.
type Name = ([u8; 32], u64);

#[derive(Clone, Debug)]
struct Sent {
    signature: Signature,
    blockhash: Blockhash,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Intent {
    sent: BTreeMap<Name, Vec<Sent>>,
    executed: BTreeSet<Name>,
    /// Transactions that are in a block without error.
    landed: BTreeSet<Signature>,
    /// Transactions that people were told have failed.
    failed: BTreeSet<Signature>,
    heights: BTreeMap<Blockhash, u64>,
}

/// A legacy transaction with one signature: its signature, its blockhash, and the root it sets. The
/// wire form is Solana's: count, signatures, three bytes of header, count, keys, blockhash, the rest.
fn read(bytes: &[u8]) -> Option<(Sent, SetMerkleRootRing)> {
    let signature = Signature(*bytes.get(1..)?.first_chunk()?);
    let keys = usize::from(*bytes.get(68)?);
    let blockhash = Blockhash(*bytes.get(69 + 32 * keys..)?.first_chunk()?);
    let rest = bytes.get(101 + 32 * keys..)?;
    let set = (0..rest.len()).find_map(|at| match attention::parse(rest.get(at..)?) {
        Ok(Some(Instruction::SetMerkleRootRing(set))) => Some(set),
        _ => None,
    })?;
    Some((Sent { signature, blockhash }, set))
}

impl Intent {
    /// What is told of transactions, and what became of them.
    fn tell(&mut self, news: &News) -> Result<(), String> {
        let landed = news.blocks.iter().flat_map(|block| &block.transactions);
        self.landed.extend(landed.map(|transaction| transaction.signature));
        for record in news.records.iter().filter(|record| kind(record) == SETTLEMENT) {
            let value = value(record);
            if text(&value, "status") == "failed" {
                self.failed.extend(text(&value, "tx_signature").parse::<Signature>().ok());
            }
        }
        match self.failed.intersection(&self.landed).next() {
            Some(signature) => {
                Err(format!("transaction {signature} is told to have failed, and landed"))
            }
            None => Ok(()),
        }
    }

    /// Whether a transaction may be in a block, now or later.
    fn lives(&self, scene: &Scene<'_>, sent: &Sent) -> Option<&'static str> {
        let found = scene.chain.status(&sent.signature).and_then(|status| status.found);
        if let Some(found) = found {
            let failed = found.error.is_some() && found.commitment == Commitment::Finalized;
            return (!failed).then_some("is in a block");
        }
        let born = self.heights.get(&sent.blockhash)?;
        let last_valid = born + scene.options.blockhash_blocks;
        let (_, height) = scene.chain.height(Commitment::Finalized);
        (height <= last_valid).then_some("may still land")
    }
}

impl Check for Intent {
    fn id(&self) -> &'static str {
        "INTENT"
    }

    fn step(&mut self, scene: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        for block in &news.blocks {
            self.heights.insert(block.blockhash, block.height.0);
        }
        self.tell(news)?;
        for bytes in news.sent.iter().map(|sent| &sent.bytes) {
            let Some((sent, set)) = read(bytes) else {
                return Err("something is sent that is no root's transaction".to_owned());
            };
            let before = self.sent.entry((set.streamer, set.epoch)).or_default().clone();
            if before.iter().any(|known| known.signature == sent.signature) {
                continue;
            }
            for other in &before {
                if let Some(why) = self.lives(scene, other) {
                    return Err(format!(
                        "transaction {} is sent for epoch {} while {} {why}",
                        sent.signature, set.epoch, other.signature
                    ));
                }
            }
            self.sent.entry((set.streamer, set.epoch)).or_default().push(sent);
        }
        let executed = news.blocks.iter().flat_map(|block| &block.transactions);
        for instruction in executed.flat_map(|transaction| &transaction.instructions) {
            if let Ok(Some(Instruction::SetMerkleRootRing(set))) =
                attention::parse(&instruction.data)
                && !self.executed.insert((set.streamer, set.epoch))
            {
                return Err(format!("the root of epoch {} is set twice on the chain", set.epoch));
            }
        }
        Ok(())
    }
}
