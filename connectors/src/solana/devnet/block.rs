//! A produced block and the transactions in it, failed ones included, as they were executed.

use std::collections::HashSet;

use litesvm::types::{FailedTransactionMetadata, TransactionMetadata};
use semel_schemas::{
    solana::{Address, Blockhash, Signature},
    time::{BlockHeight, Slot},
};
use solana_message::{VersionedMessage, compiled_instruction::CompiledInstruction, v0};
use solana_pubkey::Pubkey;
use solana_transaction::{TransactionError, versioned::VersionedTransaction};

use crate::solana::node::{Block, ExecutedInstruction, ExecutedTransaction};

/// Write locks on sysvars and builtins are not demoted here: such accounts never change, so a
/// write lock too many is without effect.
const NOTHING_RESERVED: Option<&HashSet<Pubkey>> = None;

/// One transaction in a block.
pub(crate) struct Recorded {
    pub(crate) transaction: VersionedTransaction,
    /// All account keys: static ones, then writable and read-only ones from lookup tables.
    pub(crate) keys: Vec<Pubkey>,
    pub(crate) loaded: v0::LoadedAddresses,
    pub(crate) error: Option<TransactionError>,
    pub(crate) meta: TransactionMetadata,
    pub(crate) pre_balances: Vec<u64>,
    pub(crate) post_balances: Vec<u64>,
    /// Micro-lamports per compute unit that it offered.
    pub(crate) unit_price: u64,
}

/// One block.
pub(crate) struct Produced {
    pub(crate) slot: u64,
    pub(crate) parent_slot: u64,
    pub(crate) blockhash: Blockhash,
    pub(crate) previous_blockhash: Blockhash,
    pub(crate) height: u64,
    /// Seconds since 1970.
    pub(crate) time: u64,
    pub(crate) transactions: Vec<Recorded>,
}

/// What a simulation found.
pub(crate) struct Simulated {
    pub(crate) error: Option<TransactionError>,
    pub(crate) meta: TransactionMetadata,
    pub(crate) loaded: v0::LoadedAddresses,
}

impl Simulated {
    /// A transaction that was refused before any program ran.
    pub(crate) fn refused(error: TransactionError) -> Self {
        Self {
            error: Some(error),
            meta: TransactionMetadata::default(),
            loaded: v0::LoadedAddresses::default(),
        }
    }
}

impl Recorded {
    /// Its first signature.
    pub(crate) fn signature(&self) -> Signature {
        signature(&self.transaction)
    }

    /// Which of its accounts it may write.
    pub(crate) fn writable(&self) -> impl Iterator<Item = &Pubkey> {
        writable(&self.transaction.message, &self.keys, &self.loaded)
    }

    fn executed(&self, index: u32) -> ExecutedTransaction {
        let mut instructions = Vec::new();
        for (i, top) in self.transaction.message.instructions().iter().enumerate() {
            instructions.push(self.resolve(top));
            let inner = self.meta.inner_instructions.get(i).into_iter().flatten();
            instructions.extend(inner.map(|inner| self.resolve(&inner.instruction)));
        }
        ExecutedTransaction { signature: self.signature(), index, instructions }
    }

    fn resolve(&self, instruction: &CompiledInstruction) -> ExecutedInstruction {
        // Indexes were checked when the transaction was executed.
        let key = |i: u8| Address(self.keys[usize::from(i)].to_bytes());
        ExecutedInstruction {
            program: key(instruction.program_id_index),
            accounts: instruction.accounts.iter().map(|i| key(*i)).collect(),
            data: instruction.data.clone(),
        }
    }
}

impl Produced {
    /// The block as a source sees it: transactions that succeeded, with their places.
    pub(crate) fn view(&self) -> Block {
        let executed = (0_u32..).zip(&self.transactions).filter(|(_, t)| t.error.is_none());
        Block {
            slot: Slot(self.slot),
            parent_slot: Slot(self.parent_slot),
            blockhash: self.blockhash,
            previous_blockhash: self.previous_blockhash,
            height: BlockHeight(self.height),
            time: Some(self.time),
            transactions: executed.map(|(i, t)| t.executed(i)).collect(),
        }
    }

    /// The least price that got a write to any of `accounts` into this block; 0 if none did.
    pub(crate) fn fee(&self, accounts: &[Address]) -> u64 {
        let wanted =
            |key: &Pubkey| accounts.is_empty() || accounts.contains(&Address(key.to_bytes()));
        self.transactions
            .iter()
            .filter(|t| t.writable().any(wanted))
            .map(|t| t.unit_price)
            .min()
            .unwrap_or(0)
    }
}

/// First signature of a transaction that has one.
pub(super) fn signature(transaction: &VersionedTransaction) -> Signature {
    Signature(transaction.signatures.first().map_or([0; 64], |s| (*s).into()))
}

/// The accounts that a message may write.
pub(super) fn writable<'a>(
    message: &'a VersionedMessage,
    keys: &'a [Pubkey],
    loaded: &'a v0::LoadedAddresses,
) -> impl Iterator<Item = &'a Pubkey> {
    let fixed = message.static_account_keys().len();
    let loaded = fixed..fixed + loaded.writable.len();
    keys.iter().enumerate().filter_map(move |(i, key)| {
        let writes = loaded.contains(&i)
            || (i < fixed
                && message.is_maybe_writable_with_reserved_addresses(i, NOTHING_RESERVED));
        writes.then_some(key)
    })
}

/// Splits the SVM's answer into an error, if any, and what was recorded on the way.
pub(super) fn split(
    answer: Result<TransactionMetadata, FailedTransactionMetadata>,
) -> (Option<TransactionError>, TransactionMetadata) {
    match answer {
        Ok(meta) => (None, meta),
        Err(failed) => (Some(failed.err), failed.meta),
    }
}
