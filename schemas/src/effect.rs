//! What may be asked of the outside, and every possible answer, "uncertain" among them.
//!
//! Invariants: an effect is complete in itself (whoever performs it needs no state of ours) and
//! safe to perform late, again, and by two processes at once. An outcome states facts; what they
//! mean is decided by an operator.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    claim::Claim,
    file::{BadLine, FileCursor, FileRecord},
    solana::{Address, Base64, Blockhash, Signature, SolanaCursor},
    time::{BlockHeight, Slot, WallTime},
};

/// Type name of a record whose value is a [`SolanaFact::RootSet`].
pub const ROOT_OBSERVED: &str = "root.observed";
/// Type name of a record whose value is a [`SolanaFact::Undecodable`].
pub const UNDECODABLE: &str = "undecodable";

/// Something to be done outside. Performed only after the commit that recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Read the blocks after `cursor` and decode the program's instructions.
    FetchSolana {
        /// Name of the chain connection.
        chain: String,
        /// Last block already taken; none: start at `from_slot`.
        cursor: Option<SolanaCursor>,
        /// Where to start without a cursor.
        from_slot: Slot,
        /// At most this many blocks.
        max_blocks: u32,
        /// The program whose instructions are decoded.
        program: Address,
    },
    /// Read one account.
    SolanaAccount {
        /// Name of the chain connection.
        chain: String,
        /// The account.
        address: Address,
        /// At which commitment.
        commitment: Commitment,
        /// The node must have reached this slot.
        min_context_slot: Option<Slot>,
    },
    /// What is needed to build a transaction: blockhash, compute units, fee.
    SolanaPrepare {
        /// Name of the chain connection.
        chain: String,
        /// The message with an arbitrary blockhash, serialized, for simulation.
        message: Base64,
        /// The writable accounts whose recent fees count.
        writable: Vec<Address>,
        /// Percentile (0–100) of the recent fees.
        fee_percentile: u8,
    },
    /// Sign a full payload.
    Sign {
        /// Name of the signer.
        signer: String,
        /// The key that must have signed.
        public_key: Address,
        /// What to sign.
        payload: Payload,
    },
    /// Send these bytes. Sending them again is harmless.
    SolanaBroadcast {
        /// Name of the chain connection.
        chain: String,
        /// The signed transaction, serialized.
        transaction: Base64,
    },
    /// What has become of a transaction, and how far the chain is: both from one node.
    SolanaStatus {
        /// Name of the chain connection.
        chain: String,
        /// The transaction.
        signature: Signature,
        /// The node must have reached this slot.
        min_context_slot: Option<Slot>,
    },
    /// Read the next records of a file.
    ReadFile {
        /// Name of the file in the settings.
        file: String,
        /// Where to go on; none: at the beginning.
        cursor: Option<FileCursor>,
        /// At most this many records.
        max_records: u32,
        /// The file grows: a last line without an end is not there yet.
        follow: bool,
    },
}

/// A payload to sign. Never a bare digest: a signer shows and checks what it signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "payload", rename_all = "snake_case")]
pub enum Payload {
    /// A serialized Solana message.
    SolanaMessage {
        /// The message.
        message: Base64,
    },
}

/// How certain the chain is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Commitment {
    /// In a block.
    Processed,
    /// Voted on by a supermajority.
    Confirmed,
    /// Never rolled back.
    Finalized,
}

/// The answer to an [`Effect`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Answer to `FetchSolana`.
    Blocks {
        /// The decoded instructions, in the order (slot, transaction, instruction).
        facts: Vec<SolanaFact>,
        /// Last block read; none if there was no new one.
        cursor: Option<SolanaCursor>,
        /// Complete up to this slot (skipped slots proved by the next block's parent included).
        complete: Slot,
        /// Finalized up to this slot.
        finalized: Slot,
        /// Block time of the last block, milliseconds since 1970; 0 if unknown.
        at: WallTime,
    },
    /// The block after the cursor does not follow it: the chain was reorganised or the cursor is
    /// of another chain.
    Discontinuity {
        /// One sentence: both hashes and slots.
        text: String,
    },
    /// Answer to `SolanaAccount`.
    Account {
        /// Slot at which the node answered.
        context_slot: Slot,
        /// The account's data; none if it does not exist.
        data: Option<Base64>,
    },
    /// Answer to `SolanaPrepare`.
    Prepared {
        /// A recent blockhash, at `confirmed` or better.
        blockhash: Blockhash,
        /// Last block height at which a transaction with it can land.
        last_valid_block_height: BlockHeight,
        /// Compute units that the simulation used; an error text if it failed.
        simulated: Result<u64, String>,
        /// Price per compute unit at the percentile asked for, micro-lamports.
        unit_price: u64,
    },
    /// Answer to `Sign`: verified against the key before it left the connector.
    Signed {
        /// The signature.
        signature: Signature,
    },
    /// Answer to `SolanaBroadcast`: a node took it. Nothing follows from that.
    Sent,
    /// Answer to `SolanaBroadcast`: a node refused it at preflight, with its reason. Judges
    /// nothing.
    Rejected {
        /// The node's text.
        text: String,
    },
    /// Answer to `SolanaStatus`: read from one node, the height first, then the status; so an
    /// "unknown" is at least as young as the height that judges it.
    Status {
        /// Slot at which the node answered for the status.
        context_slot: Slot,
        /// The finalized block height at that node.
        finalized_height: BlockHeight,
        /// The transaction, if the node knows it (history searched).
        found: Option<TransactionStatus>,
    },
    /// Answer to `ReadFile`. It ends at the first line that is no record.
    FileRecords {
        /// Type name of the records.
        kind: String,
        /// The records, in the file's order.
        records: Vec<FileRecord>,
        /// The line behind them, if it is no record.
        bad: Option<BadLine>,
        /// Where to go on: behind the records and the bad line.
        cursor: FileCursor,
        /// Nothing lies behind the cursor now.
        end: bool,
        /// How far that is, bytes; of a Parquet file as the share of its rows.
        bytes_read: u64,
        /// Size of the file, bytes.
        bytes_total: u64,
    },
    /// Answer to `ReadFile`: reading on would lose or double a record, or cannot begin: the file
    /// is missing, shorter than what was read of it, another one, or not of its format.
    FileRefused {
        /// One sentence: which file, what is wrong, what to do.
        text: String,
    },
    /// No answer, a time-out, an RPC error: nothing is known. Never counts as dead.
    Uncertain {
        /// One sentence.
        text: String,
    },
}

/// A transaction as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransactionStatus {
    /// Slot of its block.
    pub slot: Slot,
    /// How certain that block is.
    pub commitment: Commitment,
    /// The program's error, if it failed.
    pub error: Option<String>,
}

/// One decoded, executed instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum SolanaFact {
    /// A claim was made.
    Claim(Claim),
    /// A root was set on the chain, by whomever.
    RootSet {
        /// Transaction.
        signature: Signature,
        /// Slot.
        slot: Slot,
        /// Instruction's place in its transaction.
        ix_index: u32,
        /// Streamer (channel) key.
        streamer: Address,
        /// On-chain epoch.
        epoch: u64,
        /// Root, 64 hex digits.
        root: String,
        /// Number of leaves.
        count: u32,
    },
    /// An instruction of the program that could not be decoded: it is reported, never dropped.
    Undecodable {
        /// Transaction.
        signature: Signature,
        /// Slot.
        slot: Slot,
        /// Instruction's place in its transaction.
        ix_index: u32,
        /// The instruction's data.
        data: Base64,
        /// One sentence.
        text: String,
    },
}
