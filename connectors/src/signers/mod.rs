//! Signers: where secrets live. A secret comes from a file or an environment variable, stays in
//! its signer, and is in no record, no text and no `Debug`.
//!
//! `local` an ed25519 key in this process.

pub mod local;
