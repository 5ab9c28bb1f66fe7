//! An in-process Solana chain: the real virtual machine (LiteSVM) and the stand-in program, with
//! slots, blocks, skipped slots, commitment lags and blockhash expiry around it.
//!
//! Nothing here reads a clock or draws randomness: slots are produced by [`Devnet::advance_to`]
//! or [`Devnet::tick`], and a devnet that is asked the same things in the same order answers with
//! the same bytes. It has no forks and no votes. Transactions wait for the next block, in order.
//!
//! `config` settings · `setup` slot 0 · `chain` slots, blocks, execution · `block` what a block
//! holds · `accounts` accounts at recent slots · `journal` surviving a restart · `node` the
//! [`SolanaNode`](crate::solana::node::SolanaNode) over it.

mod accounts;
pub(crate) mod block;
pub(crate) mod chain;
mod config;
mod journal;
pub(crate) mod node;
mod setup;
#[cfg(test)]
pub(crate) mod tests;
pub mod traffic;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bincode::Options as _;
pub use chain::Preflight;
pub use config::DevnetConfig;
use semel_schemas::solana::{Address, Signature};
pub use setup::{channel_pda, protocol_pda};
use solana_pubkey::Pubkey;
use solana_transaction::versioned::VersionedTransaction;

use self::{
    block::Simulated,
    chain::Chain,
    journal::{Event, Journal},
};

/// Longest serialized transaction, bytes: what fits into one packet.
pub const TRANSACTION_BYTES_MAX: u64 = 1232;

/// Why a devnet cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// A setting makes no sense.
    #[error("the devnet's settings are wrong: {0}")]
    Config(String),
    /// The program could not be assembled.
    #[error(transparent)]
    Program(#[from] crate::solana::program::AssemblyFailed),
    /// The virtual machine refused something that must work.
    #[error("the virtual machine does not do what the devnet needs: {0}")]
    Svm(String),
    /// The data folder is in use, damaged, of another devnet, or the disk failed.
    #[error("the devnet's data folder {folder}: {reason}")]
    Folder {
        /// The folder.
        folder: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The JSON-RPC endpoint cannot be opened.
    #[error("cannot serve JSON-RPC on {address}: {reason}; choose another address")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's reason.
        reason: String,
    },
}

/// Why a transaction was not taken.
#[derive(thiserror::Error)]
pub enum SubmitError {
    /// No transaction, or one that no program could ever see.
    #[error("this is no valid transaction: {0}")]
    Malformed(String),
    /// A signature does not match.
    #[error("Transaction signature verification failure")]
    Signature,
    /// It would fail now.
    #[error("Transaction simulation failed: {}", cause(.0))]
    #[allow(private_interfaces, reason = "what is recorded of it is for this crate's server only")]
    Preflight(Box<Simulated>),
    /// The devnet itself failed.
    #[error(transparent)]
    Devnet(#[from] DevnetError),
}

impl fmt::Debug for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn cause(simulated: &Simulated) -> String {
    simulated.error.as_ref().map_or_else(String::new, ToString::to_string)
}

/// A handle on a devnet; clones share it.
#[derive(Clone)]
pub struct Devnet(Arc<Mutex<Inner>>);

struct Inner {
    chain: Chain,
    journal: Option<Journal>,
    /// Chain time of the next slot, once a clock has spoken.
    next_ms: Option<u64>,
}

impl fmt::Debug for Devnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "devnet at slot {}", self.lock().chain.newest_slot())
    }
}

impl Devnet {
    /// A devnet in memory, at slot 0.
    ///
    /// # Errors
    /// If the settings make no sense or the program does not load.
    pub fn new(config: DevnetConfig) -> Result<Self, DevnetError> {
        let chain = Chain::new(config)?;
        Ok(Self(Arc::new(Mutex::new(Inner { chain, journal: None, next_ms: None }))))
    }

    /// A devnet that writes down all it is asked, in `folder`, and goes on from there after a
    /// restart: the chain is a function of that journal, so it comes back equal to the byte.
    ///
    /// # Errors
    /// As [`Devnet::new`]; if the folder is in use by another process, was made with other
    /// settings, or cannot be read or written.
    pub fn open(config: DevnetConfig, folder: &Path) -> Result<Self, DevnetError> {
        let (journal, events) = Journal::open(folder, &config)?;
        let mut inner = Inner { chain: Chain::new(config)?, journal: None, next_ms: None };
        for event in events {
            inner.apply(event).map_err(|e| journal.broken(&e.to_string()))?;
        }
        inner.journal = Some(journal);
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Produces every slot that is due at `now_ms` (milliseconds since 1970). The first call
    /// after a start sets the rhythm: it produces one slot.
    ///
    /// # Errors
    /// If the journal cannot be written; the slots before that stand.
    pub fn advance_to(&self, now_ms: u64) -> Result<(), DevnetError> {
        self.lock().next_ms.get_or_insert(now_ms);
        // The lock is given back after each slot: a long catch-up starves nobody.
        while self.lock().tick_if_due(now_ms)? {}
        Ok(())
    }

    /// Produces the next slot, one slot's length after the last one.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn tick(&self) -> Result<(), DevnetError> {
        self.lock().tick()
    }

    /// Takes a serialized, signed transaction; it is executed with the next block.
    ///
    /// # Errors
    /// As a node refuses it; if the journal cannot be written.
    pub fn submit(&self, bytes: &[u8], preflight: Preflight) -> Result<Signature, SubmitError> {
        let transaction = decode(bytes)?;
        let mut inner = self.lock();
        inner.chain.judge(&transaction, preflight)?;
        let signature = block::signature(&transaction);
        inner.record(Event::Send { bytes: bytes.to_vec() })?;
        Ok(signature)
    }

    /// Sends lamports from the faucet, with the next block.
    ///
    /// # Errors
    /// If the faucet has run dry; if the journal cannot be written.
    pub fn airdrop(&self, to: &Address, lamports: u64) -> Result<Signature, SubmitError> {
        let mut inner = self.lock();
        let transaction = inner.chain.airdrop(&Pubkey::new_from_array(to.0), lamports);
        inner.chain.judge(&transaction, Preflight::Run)?;
        inner.record(Event::Airdrop { to: *to, lamports })?;
        Ok(block::signature(&transaction))
    }

    /// Creates a channel's account with an empty ring, if it does not exist: its address. It is
    /// written in the newest slot, outside of any transaction.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn create_channel(&self, name: &str) -> Result<Address, DevnetError> {
        let mut inner = self.lock();
        inner.record(Event::Channel { name: name.to_owned() })?;
        Ok(Address(inner.chain.channel_address(name).to_bytes()))
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> DevnetConfig {
        self.lock().chain.config.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is applied by one call; a panic in between is a bug that the journal
        // outlives, and a poisoned lock would only hide it behind a second one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the chain.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Chain) -> T) -> T {
        look(&self.lock().chain)
    }
}

impl Inner {
    fn tick_if_due(&mut self, now_ms: u64) -> Result<bool, DevnetError> {
        let due = self.next_ms.is_some_and(|next| next <= now_ms);
        if due {
            self.tick()?;
        }
        Ok(due)
    }

    fn tick(&mut self) -> Result<(), DevnetError> {
        let slot_ms = self.chain.config.slot_ms;
        let at_ms = self.next_ms.unwrap_or_else(|| {
            let slots = self.chain.newest_slot() + 1;
            self.chain.config.start_ms.saturating_add(slots.saturating_mul(slot_ms))
        });
        self.record(Event::Tick { at_ms })?;
        self.next_ms = self.next_ms.map(|next| next.saturating_add(slot_ms));
        Ok(())
    }

    /// Writes an event down, then lets it happen.
    fn record(&mut self, event: Event) -> Result<(), DevnetError> {
        if let Some(journal) = &mut self.journal {
            journal.append(&event)?;
        }
        self.apply(event)
    }

    fn apply(&mut self, event: Event) -> Result<(), DevnetError> {
        match event {
            Event::Tick { at_ms } => self.chain.tick(at_ms),
            Event::Send { bytes } => {
                let transaction = decode(&bytes).map_err(|e| DevnetError::Svm(e.to_string()))?;
                self.chain.enqueue(transaction);
            }
            Event::Airdrop { to, lamports } => {
                let transaction = self.chain.airdrop(&Pubkey::new_from_array(to.0), lamports);
                self.chain.enqueue(transaction);
                self.chain.count_airdrop();
            }
            Event::Channel { name } => {
                self.chain.create_channel(&name)?;
            }
        }
        Ok(())
    }
}

/// Reads a serialized transaction.
pub(crate) fn decode(bytes: &[u8]) -> Result<VersionedTransaction, SubmitError> {
    let options = bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(TRANSACTION_BYTES_MAX)
        .reject_trailing_bytes();
    let transaction: VersionedTransaction =
        options.deserialize(bytes).map_err(|e| SubmitError::Malformed(e.to_string()))?;
    if transaction.signatures.is_empty() {
        return Err(SubmitError::Malformed("it has no signature".to_owned()));
    }
    Ok(transaction)
}
