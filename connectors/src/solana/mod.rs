//! Solana: one conversation with a node ([`node::SolanaNode`]), held over JSON-RPC or in-process,
//! and what is built on it.
//!
//! `node` the trait · `rpc` over a cluster's JSON-RPC · `devnet` an in-process chain · `program`
//! what runs on it · `server` its JSON-RPC · `decode` executed instructions → facts · `source` blocks
//! after a cursor → facts · `chain` effects → facts · `message` who must sign a message.

pub mod chain;
pub mod decode;
pub mod devnet;
pub mod message;
pub mod node;
pub mod program;
pub mod rpc;
pub mod server;
pub mod source;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod scripted;
