//! Where Semel touches the world: sources and chains, signers, sinks. Conversations only.
//!
//! Lives here: I/O, behind traits that the engine calls. May not live here: decisions (those are
//! `operators/`), and state: a cursor is handed in and handed out, never kept.
//! Depends on `semel-schemas` and on no other crate of the workspace.

pub mod files;
pub mod perform;
pub mod registry;
pub mod signer;
pub mod signers;
pub mod sink;
pub mod sinks;
pub mod solana;
