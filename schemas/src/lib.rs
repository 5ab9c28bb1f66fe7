//! What flows through Semel: records, ids, amounts, times, effects and their outcomes, faults.
//!
//! Lives here: data types, their text forms (JSON), their JSON Schemas, and rules that are a
//! property of the data alone (how a key hashes to a partition, how an id is derived).
//! May not live here: I/O, clocks, randomness, threads, decisions (those are `operators/`),
//! conversations with the outside (`connectors/`).
//!
//! Invariants: every public type round-trips through its text form; integers that may exceed
//! 2^53 − 1 are decimal strings in JSON; decoding never panics and every error names the field.

pub mod alert;
pub mod amount;
pub mod attention;
pub mod batched;
pub mod catalog;
pub mod claim;
pub mod codec;
pub mod effect;
pub mod fault;
pub mod file;
pub mod header;
pub mod partition;
pub mod progress;
pub mod record;
pub mod request;
pub mod sabotage;
pub mod sign;
pub mod solana;
pub mod time;
pub mod topic;
pub mod verdict;
