//! Merkle trees against others: foreign builders (`oracles`), contracts on a chain (`chain`), a
//! fuzzer's corpus (`fuzz`, `attack`), and the worked examples of `docs/merkle.md` (`document`).
//!
//! Lives here: what needs a crate or a file that is not the crate's. May not live here: what our own code
//! alone can show, which stands beside it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests that read files; nothing of them is in the crate"
)]

mod attack;
mod chain;
mod document;
mod fuzz;
mod oracles;
