//! What has become of a transaction: facts in, verdict out. Nothing else lives here.
//!
//! The rules (facts/attention-oracle.md, "Sending a root robustly", 3 and 4):
//! - success and failure are judged at `finalized` only;
//! - a transaction is dead only when the finalized block height is beyond its last valid height
//!   and the node that says so does not know it;
//! - everything else that is not known is [`Finality::Uncertain`], and uncertain never counts as
//!   dead.
//!
//! One answer holds two readings (status and height), and nothing says which was made first: a
//! transaction could land between "unknown" and "beyond". So "dead" takes two answers: the first
//! one only *sights* that the height is beyond, and an "unknown" counts once it was asked for after
//! that, of a node at or beyond the slot of the sighting.

use semel_schemas::{
    effect::{Commitment, Outcome, TransactionStatus},
    sabotage::{Sabotage, sabotaged},
    time::{BlockHeight, Slot},
};

/// What an answer to `SolanaStatus` is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Last block height at which the transaction can land.
    pub last_valid_block_height: BlockHeight,
    /// Slot of an earlier answer (asked for and received before this one was asked for) whose
    /// finalized height was beyond; none if there was none.
    pub sighted: Option<Slot>,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finality {
    /// In a finalized block, without error.
    Landed {
        /// Slot of the block.
        slot: Slot,
    },
    /// It may still land.
    Live {
        /// Whether a block holds it already (which may still be rolled back).
        seen: Seen,
    },
    /// It never landed and never will.
    Dead {
        /// Slot of the node that knows.
        context_slot: Slot,
    },
    /// In a finalized block, with the program's error: it has no effect and cannot land again.
    Failed {
        /// Slot of the block.
        slot: Slot,
        /// The program's error.
        error: String,
    },
    /// Nothing is known.
    Uncertain {
        /// The slot to keep as [`Life::sighted`], if this answer sights that the height is beyond.
        sighted: Option<Slot>,
    },
}

/// Whether a block holds a live transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// In a block that is not finalized yet.
    InBlock,
    /// In no block that the node knows.
    Nowhere,
}

/// Judges one answer. Total: any outcome that is no `Status` is uncertain.
#[must_use]
pub fn classify(outcome: &Outcome, life: Life) -> Finality {
    let Outcome::Status { context_slot, finalized_height, found } = outcome else {
        if sabotaged(Sabotage::UncertainIsDead) {
            return Finality::Dead { context_slot: life.sighted.unwrap_or_default() };
        }
        return Finality::Uncertain { sighted: life.sighted };
    };
    match found {
        Some(TransactionStatus { slot, commitment: Commitment::Finalized, error }) => match error {
            None => Finality::Landed { slot: *slot },
            Some(error) => Finality::Failed { slot: *slot, error: error.clone() },
        },
        Some(_) => Finality::Live { seen: Seen::InBlock },
        None if sabotaged(Sabotage::ResendBeforeDead) => {
            Finality::Dead { context_slot: *context_slot }
        }
        None if *finalized_height <= life.last_valid_block_height => {
            Finality::Live { seen: Seen::Nowhere }
        }
        None => match life.sighted {
            Some(sighted) if *context_slot >= sighted => {
                Finality::Dead { context_slot: *context_slot }
            }
            Some(sighted) => Finality::Uncertain { sighted: Some(sighted) },
            None if sabotaged(Sabotage::DeadOnFirstSight) => {
                Finality::Dead { context_slot: *context_slot }
            }
            None => Finality::Uncertain { sighted: Some(*context_slot) },
        },
    }
}

#[cfg(test)]
mod tests;
