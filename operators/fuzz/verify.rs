//! The verifiers of Merkle proofs under a fuzzer that sees coverage. Lives here: the target's entry,
//! nothing else; what the bytes mean is `attack`, which the tests share.
#![no_main]

#[path = "../tests/merkle/attack.rs"]
mod attack;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| attack::attack(bytes));
