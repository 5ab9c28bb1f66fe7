//! A node that says what a test tells it to say. For tests of what is built on a node; a chain
//! that executes is `devnet`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use semel_schemas::{
    attention::{self, ClaimWithRing, Instruction, channel_key},
    effect::Commitment,
    solana::{Address, Blockhash, Signature, SolanaCursor},
    time::{BlockHeight, Slot},
};

use super::node::{
    AccountAt, Block, ExecutedInstruction, ExecutedTransaction, LatestBlockhash, NodeError,
    SendAnswer, SolanaNode, StatusAt,
};

/// What the node will say.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) blocks: BTreeMap<u64, Block>,
    /// Answers to `slot`, the last one again and again.
    pub(crate) finalized: VecDeque<u64>,
    /// Slots that `blocks` leaves out.
    pub(crate) unlisted: BTreeSet<u64>,
    /// Slots that `block` answers "not here".
    pub(crate) not_here: BTreeSet<u64>,
    /// Everything fails with this text.
    pub(crate) away: Option<String>,
    pub(crate) fees: Vec<u64>,
    pub(crate) simulated: Option<Result<u64, String>>,
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) refuse: Option<String>,
    pub(crate) status: Option<StatusAt>,
    pub(crate) account: Option<AccountAt>,
    /// Spans that `blocks` was asked for.
    pub(crate) spans: Vec<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Scripted(Mutex<Script>);

impl Scripted {
    /// A chain with a block in each of these slots, each with one claim; all of it finalized.
    pub(crate) fn chain(slots: &[u64]) -> Self {
        let mut parent = (0, hash(0, 0));
        let mut blocks = BTreeMap::new();
        for slot in slots {
            let block = block(*slot, parent, 0);
            parent = (*slot, block.blockhash);
            blocks.insert(*slot, block);
        }
        let finalized = slots.last().copied().into_iter().collect();
        Self(Mutex::new(Script { blocks, finalized, ..Script::default() }))
    }

    pub(crate) fn must_change(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn script(&self) -> Result<MutexGuard<'_, Script>, NodeError> {
        let script = self.0.lock().unwrap();
        match &script.away {
            Some(text) => Err(NodeError::Unavailable(text.clone())),
            None => Ok(script),
        }
    }

    pub(crate) fn must_cursor(&self, slot: u64) -> SolanaCursor {
        SolanaCursor { slot: Slot(slot), blockhash: self.must_change().blocks[&slot].blockhash }
    }
}

/// The hash of the block of a slot on a fork.
pub(crate) fn hash(slot: u64, fork: u8) -> Blockhash {
    let mut bytes = [fork; 32];
    bytes[..8].copy_from_slice(&slot.to_le_bytes());
    Blockhash(bytes)
}

/// A block with one claim, on `parent`.
pub(crate) fn block(slot: u64, parent: (u64, Blockhash), fork: u8) -> Block {
    let mut signature = [fork; 64];
    signature[..8].copy_from_slice(&slot.to_le_bytes());
    let claim = Instruction::ClaimWithRing(ClaimWithRing {
        epoch: 1,
        index: 0,
        amount: slot,
        proof: vec![],
        id: format!("twitch:chan:user{slot}"),
        streamer: channel_key("chan"),
    });
    Block {
        slot: Slot(slot),
        parent_slot: Slot(parent.0),
        blockhash: hash(slot, fork),
        previous_blockhash: parent.1,
        height: BlockHeight(slot),
        time: Some(1_700_000_000 + slot),
        transactions: vec![ExecutedTransaction {
            signature: Signature(signature),
            index: 3,
            instructions: vec![ExecutedInstruction {
                program: attention::PROGRAM,
                accounts: vec![Address([9; 32])],
                data: claim.data(),
            }],
        }],
    }
}

#[async_trait]
impl SolanaNode for Scripted {
    async fn slot(&self, _: Commitment) -> Result<Slot, NodeError> {
        let mut script = self.script()?;
        let next = if script.finalized.len() > 1 {
            script.finalized.pop_front()
        } else {
            script.finalized.front().copied()
        };
        Ok(Slot(next.unwrap_or(0)))
    }

    async fn blocks(&self, start: Slot, end: Slot, _: Commitment) -> Result<Vec<Slot>, NodeError> {
        let mut script = self.script()?;
        script.spans.push((start.0, end.0));
        let known = script.blocks.range(start.0..=end.0).map(|(slot, _)| *slot);
        Ok(known.filter(|slot| !script.unlisted.contains(slot)).map(Slot).collect())
    }

    async fn block(&self, slot: Slot, _: Commitment) -> Result<Block, NodeError> {
        let script = self.script()?;
        let found = script.blocks.get(&slot.0).filter(|_| !script.not_here.contains(&slot.0));
        found.cloned().ok_or(NodeError::NotHere(slot))
    }

    async fn block_height(&self, _: Commitment, _: Option<Slot>) -> Result<BlockHeight, NodeError> {
        Ok(BlockHeight(self.slot(Commitment::Finalized).await?.0))
    }

    async fn account(
        &self,
        _: &Address,
        _: Commitment,
        _: Option<Slot>,
    ) -> Result<AccountAt, NodeError> {
        let missing = || NodeError::Malformed("no account in the script".into());
        self.script()?.account.clone().ok_or_else(missing)
    }

    async fn latest_blockhash(&self, _: Commitment) -> Result<LatestBlockhash, NodeError> {
        drop(self.script()?);
        Ok(LatestBlockhash { blockhash: hash(1, 0), last_valid_block_height: BlockHeight(151) })
    }

    async fn simulate(&self, _: &[u8]) -> Result<Result<u64, String>, NodeError> {
        let missing = || NodeError::Malformed("no simulation in the script".into());
        self.script()?.simulated.clone().ok_or_else(missing)
    }

    async fn recent_fees(&self, _: &[Address]) -> Result<Vec<u64>, NodeError> {
        Ok(self.script()?.fees.clone())
    }

    async fn send(&self, transaction: &[u8]) -> Result<SendAnswer, NodeError> {
        let mut script = self.script()?;
        script.sent.push(transaction.to_vec());
        Ok(match &script.refuse {
            Some(text) => SendAnswer::Rejected(text.clone()),
            None => SendAnswer::Taken,
        })
    }

    async fn status(&self, _: &Signature, _: Option<Slot>) -> Result<StatusAt, NodeError> {
        let missing = || NodeError::Malformed("no status in the script".into());
        self.script()?.status.clone().ok_or_else(missing)
    }
}
