//! The devnet as a node: what JSON-RPC would answer, without the detour.

use async_trait::async_trait;
use semel_schemas::{
    effect::{Commitment, TransactionStatus},
    solana::{Address, Blockhash, Signature},
    time::{BlockHeight, Slot},
};
use solana_pubkey::Pubkey;

use super::{Devnet, Preflight, SubmitError, chain::Lifetime, decode};
use crate::solana::{
    message::unsigned_transaction,
    node::{AccountAt, Block, LatestBlockhash, NodeError, SendAnswer, SolanaNode, StatusAt},
};

/// Blocks whose fees are told, as by a real node.
pub(crate) const FEE_BLOCKS: usize = 150;

fn reached(slot: u64, min_context_slot: Option<Slot>) -> Result<(), NodeError> {
    match min_context_slot {
        Some(min) if slot < min.0 => Err(NodeError::Unavailable(format!(
            "Minimum context slot {min} has not been reached: this node is at {slot}"
        ))),
        _ => Ok(()),
    }
}

#[async_trait]
impl SolanaNode for Devnet {
    async fn slot(&self, commitment: Commitment) -> Result<Slot, NodeError> {
        Ok(self.read(|chain| Slot(chain.tip(commitment).slot)))
    }

    async fn blocks(
        &self,
        start: Slot,
        end: Slot,
        commitment: Commitment,
    ) -> Result<Vec<Slot>, NodeError> {
        let slots = |b: &super::block::Produced| Slot(b.slot);
        Ok(self.read(|chain| chain.range(start.0, end.0, commitment).map(slots).collect()))
    }

    async fn block(&self, slot: Slot, commitment: Commitment) -> Result<Block, NodeError> {
        self.read(|chain| chain.block(slot.0, commitment).map(super::block::Produced::view))
            .ok_or(NodeError::NotHere(slot))
    }

    async fn block_height(
        &self,
        commitment: Commitment,
        min_context_slot: Option<Slot>,
    ) -> Result<BlockHeight, NodeError> {
        self.read(|chain| {
            let tip = chain.tip(commitment);
            reached(tip.slot, min_context_slot)?;
            Ok(BlockHeight(tip.height))
        })
    }

    async fn account(
        &self,
        address: &Address,
        commitment: Commitment,
        min_context_slot: Option<Slot>,
    ) -> Result<AccountAt, NodeError> {
        self.read(|chain| {
            let context = chain.tip(commitment).slot;
            reached(context, min_context_slot)?;
            let account = chain.account(&Pubkey::new_from_array(address.0), commitment);
            Ok(AccountAt { context_slot: Slot(context), data: account.map(|a| a.data) })
        })
    }

    async fn latest_blockhash(&self, commitment: Commitment) -> Result<LatestBlockhash, NodeError> {
        Ok(self.read(|chain| {
            let tip = chain.tip(commitment);
            LatestBlockhash {
                blockhash: Blockhash(tip.blockhash.0),
                last_valid_block_height: BlockHeight(chain.last_valid(tip)),
            }
        }))
    }

    async fn simulate(&self, message: &[u8]) -> Result<Result<u64, String>, NodeError> {
        let malformed = |e: &dyn ToString| NodeError::Malformed(e.to_string());
        let bytes = unsigned_transaction(message).map_err(|e| malformed(&e))?;
        let transaction = decode(&bytes).map_err(|e| malformed(&e))?;
        let simulated = self.read(|chain| chain.simulate(transaction, Lifetime::Replaced));
        Ok(match simulated.error {
            None => Ok(simulated.meta.compute_units_consumed),
            Some(error) => Err(error.to_string()),
        })
    }

    async fn recent_fees(&self, writable: &[Address]) -> Result<Vec<u64>, NodeError> {
        Ok(self.read(|chain| {
            let newest = chain.range(0, u64::MAX, Commitment::Processed).rev().take(FEE_BLOCKS);
            let mut fees: Vec<u64> = newest.map(|block| block.fee(writable)).collect();
            fees.reverse();
            fees
        }))
    }

    async fn send(&self, transaction: &[u8]) -> Result<SendAnswer, NodeError> {
        match self.submit(transaction, Preflight::Run) {
            Ok(_) => Ok(SendAnswer::Taken),
            Err(SubmitError::Devnet(e)) => Err(NodeError::Unavailable(e.to_string())),
            Err(refused) => Ok(SendAnswer::Rejected(refused.to_string())),
        }
    }

    async fn status(
        &self,
        signature: &Signature,
        min_context_slot: Option<Slot>,
    ) -> Result<StatusAt, NodeError> {
        self.read(|chain| {
            let finalized = chain.tip(Commitment::Finalized);
            reached(finalized.slot, min_context_slot)?;
            let found = chain.landed(signature).map(|(block, recorded)| TransactionStatus {
                slot: Slot(block.slot),
                commitment: chain.commitment_of(block.slot),
                error: recorded.error.as_ref().map(ToString::to_string),
            });
            Ok(StatusAt {
                context_slot: Slot(finalized.slot),
                finalized_height: BlockHeight(finalized.height),
                found,
            })
        })
    }
}
