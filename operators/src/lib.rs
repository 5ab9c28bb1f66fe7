//! What happens: the operator trait and the operators, one file each.
//!
//! Lives here: decisions. An operator is a deterministic state machine,
//! `(state, input, now) -> (state', outputs, timers, effects)`.
//! May not live here: I/O, clocks, randomness, threads, iteration in hash order (`clippy.toml`
//! bans them, each with its reason), and every crate of the workspace but `semel-schemas`.
//!
//! Invariants: the same state, input and time give the same bytes; an input that is refused leaves
//! no state behind; one step emits a bounded number of records and goes on by a timer.

pub mod backoff;
pub mod batch;
pub mod dedupe;
pub mod epoch_batch;
pub mod field;
pub mod file_source;
pub mod finality;
mod kept;
pub mod merkle;
pub mod merkle_root;
pub mod nonce_order;
pub mod operator;
pub mod owner;
mod setting;
pub mod settle_solana;
pub mod sign;
pub mod solana_source;
pub mod testing;

#[cfg(test)]
mod clockwork;
