//! The devnet's settings: plain data, no defaults that depend on a machine or a clock.

use semel_schemas::solana::Address;
use serde::{Deserialize, Serialize};

use super::DevnetError;

/// What a devnet is made of. Two devnets with equal settings that are asked the same things in
/// the same order are equal to the byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DevnetConfig {
    /// Length of a slot, milliseconds; at least 1.
    pub slot_ms: u64,
    /// Chain time of slot 0, milliseconds since 1970, where no clock has spoken yet.
    pub start_ms: u64,
    /// `confirmed` is this many slots behind the newest one.
    pub confirmed_lag: u64,
    /// `finalized` is this many slots behind the newest one.
    pub finalized_lag: u64,
    /// A blockhash is valid for this many blocks after its own.
    pub blockhash_blocks: u64,
    /// Every n-th slot has no block; 0: none for this reason. 1 is refused.
    pub skip_every: u64,
    /// Further slots that have no block.
    pub skipped: Vec<u64>,
    /// Most transactions in a block; the rest waits for the next one. At least 1.
    pub max_transactions: usize,
    /// The program's admin.
    pub admin: Address,
    /// The program's publisher: it alone (and the admin) may set roots.
    pub publisher: Address,
    /// The token's mint; it is part of the seeds of all accounts of the program.
    pub mint: Address,
    /// Channels whose accounts exist from slot 0 on.
    pub channels: Vec<String>,
    /// Who owns how many lamports from slot 0 on.
    pub funded: Vec<(Address, u64)>,
}

impl Default for DevnetConfig {
    fn default() -> Self {
        Self {
            slot_ms: 400,
            start_ms: 0,
            confirmed_lag: 1,
            finalized_lag: 32,
            blockhash_blocks: 150,
            skip_every: 0,
            skipped: Vec::new(),
            max_transactions: 1000,
            admin: Address([0xad; 32]),
            publisher: Address([0; 32]),
            mint: Address(
                *b"semel devnet: the token's mint..."
                    .first_chunk()
                    .expect("the text has 32 bytes or more"),
            ),
            channels: Vec::new(),
            funded: Vec::new(),
        }
    }
}

impl DevnetConfig {
    /// Whether `slot` has no block. Slot 0 always has one.
    #[must_use]
    pub fn is_skipped(&self, slot: u64) -> bool {
        let by_count = self.skip_every > 1 && slot % self.skip_every == self.skip_every - 1;
        slot != 0 && (by_count || self.skipped.contains(&slot))
    }

    pub(super) fn check(&self) -> Result<(), DevnetError> {
        let wrong = |text: &str| Err(DevnetError::Config(text.to_owned()));
        if self.slot_ms == 0 {
            return wrong("`slot_ms` must be at least 1");
        }
        if self.skip_every == 1 {
            return wrong("`skip_every` = 1 would skip every slot; 0 turns it off");
        }
        if self.max_transactions == 0 {
            return wrong("`max_transactions` must be at least 1");
        }
        if self.confirmed_lag > self.finalized_lag {
            return wrong("`confirmed_lag` must not exceed `finalized_lag`");
        }
        Ok(())
    }
}
