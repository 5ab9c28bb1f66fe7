//! What is asked of a Solana node, independent of how it is reached.
//!
//! Every answer is a fact of one node at one time. Nothing is judged here.

use async_trait::async_trait;
use semel_schemas::{
    effect::{Commitment, TransactionStatus},
    solana::{Address, Blockhash, Signature},
    time::{BlockHeight, Slot},
};

/// Why a node gave no answer. None of these says anything about a transaction or a slot.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    /// Not reachable, timed out, overloaded, behind `min_context_slot`.
    #[error("{0}")]
    Unavailable(String),
    /// "Not here": codes -32004, -32007, -32009, or null. Never means "skipped".
    #[error("slot {0} is not at this node (which does not mean that it was skipped)")]
    NotHere(Slot),
    /// The node answered with something that cannot be understood.
    #[error("{0}")]
    Malformed(String),
}

/// One executed instruction, with its accounts resolved (lookup tables included).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutedInstruction {
    /// The program that ran it, found through the invoke stack for inner instructions.
    pub program: Address,
    /// Its accounts in order.
    pub accounts: Vec<Address>,
    /// Its data.
    pub data: Vec<u8>,
}

/// One transaction that succeeded, its instructions in order of execution (top level and inner).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutedTransaction {
    /// Its first signature.
    pub signature: Signature,
    /// Its place in the block, counted over all transactions (failed and votes included).
    pub index: u32,
    /// Instructions in order of execution.
    pub instructions: Vec<ExecutedInstruction>,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its slot.
    pub slot: Slot,
    /// Slot of the block before it.
    pub parent_slot: Slot,
    /// Its blockhash.
    pub blockhash: Blockhash,
    /// The blockhash of the block before it.
    pub previous_blockhash: Blockhash,
    /// Its height.
    pub height: BlockHeight,
    /// Seconds since 1970, if the chain tells.
    pub time: Option<u64>,
    /// Transactions that succeeded.
    pub transactions: Vec<ExecutedTransaction>,
}

/// An account as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountAt {
    /// Slot at which the node answered.
    pub context_slot: Slot,
    /// Data; `None` if the account does not exist.
    pub data: Option<Vec<u8>>,
}

/// A recent blockhash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatestBlockhash {
    /// The hash.
    pub blockhash: Blockhash,
    /// Last height at which a transaction with it can land.
    pub last_valid_block_height: BlockHeight,
}

/// A transaction's status and the chain's finalized height. The height was read first, and the
/// status from a node that had reached it: "unknown" holds for every block up to that height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusAt {
    /// A slot that the node had reached when it answered. Best the one of `finalized_height`:
    /// then it serves at once as `min_context_slot` of a finalized question.
    pub context_slot: Slot,
    /// Finalized block height, of a node at or beyond the `min_context_slot` asked for.
    pub finalized_height: BlockHeight,
    /// The status (history searched).
    pub found: Option<TransactionStatus>,
}

/// How a node took a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendAnswer {
    /// It will be passed on to leaders.
    Taken,
    /// Preflight failed; the node's text ("already processed" is one such text).
    Rejected(String),
}

/// A node.
#[async_trait]
pub trait SolanaNode: Send + Sync {
    /// The slot at a commitment.
    async fn slot(&self, commitment: Commitment) -> Result<Slot, NodeError>;

    /// Slots from `start` to `end` (inclusive) that hold a block at `commitment` (confirmed or
    /// finalized), ascending.
    async fn blocks(
        &self,
        start: Slot,
        end: Slot,
        commitment: Commitment,
    ) -> Result<Vec<Slot>, NodeError>;

    /// One block.
    async fn block(&self, slot: Slot, commitment: Commitment) -> Result<Block, NodeError>;

    /// Block height at a commitment.
    async fn block_height(
        &self,
        commitment: Commitment,
        min_context_slot: Option<Slot>,
    ) -> Result<BlockHeight, NodeError>;

    /// One account.
    async fn account(
        &self,
        address: &Address,
        commitment: Commitment,
        min_context_slot: Option<Slot>,
    ) -> Result<AccountAt, NodeError>;

    /// A recent blockhash.
    async fn latest_blockhash(&self, commitment: Commitment) -> Result<LatestBlockhash, NodeError>;

    /// Simulates a serialized, unsigned transaction message (blockhash replaced, signatures not
    /// checked): compute units used, or the program's error text.
    async fn simulate(&self, message: &[u8]) -> Result<Result<u64, String>, NodeError>;

    /// Recent prioritization fees (micro-lamports per compute unit) of these writable accounts.
    async fn recent_fees(&self, writable: &[Address]) -> Result<Vec<u64>, NodeError>;

    /// Sends a serialized signed transaction, `maxRetries` = 0.
    async fn send(&self, transaction: &[u8]) -> Result<SendAnswer, NodeError>;

    /// `getSignatureStatuses` with `searchTransactionHistory`, and the finalized height.
    async fn status(
        &self,
        signature: &Signature,
        min_context_slot: Option<Slot>,
    ) -> Result<StatusAt, NodeError>;
}
