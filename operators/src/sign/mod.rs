//! Signing: holds an intent, in full, until a signature comes back that verifies.
//!
//! Lives here: [`SignTask`], the component that other operators carry inside their own state, and
//! [`Sign`], the same as a stage of its own (`sign.intent` in, `sign.signed` out).
//! May not live here: secrets; they never leave the signer.
//!
//! Invariants: a signature that does not verify (strictly: RFC 8032 with no malleable or
//! small-order forms) is never passed on; one intent id has one payload and one signature; an
//! answer that is not known is asked for again, with the same payload.

mod operator;

pub use operator::{Sign, SignSettings};

use semel_schemas::{
    effect::{Effect, Outcome, Payload},
    solana::{Address, Signature},
};
use serde::{Deserialize, Serialize};

use crate::backoff::delay_ms;

/// How patient a [`SignTask`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignLimits {
    /// Wrong signatures taken before giving up, at least 1. A signer that signs wrongly does so
    /// again: a small number only covers a fault in transit.
    pub wrong_max: u32,
    /// First delay after an uncertain answer, milliseconds.
    pub retry_ms: u64,
    /// Longest delay, milliseconds.
    pub retry_max_ms: u64,
}

impl Default for SignLimits {
    fn default() -> Self {
        Self { wrong_max: 3, retry_ms: 500, retry_max_ms: 30_000 }
    }
}

/// One intent that waits for its signature. Part of its owner's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignTask {
    signer: String,
    public_key: Address,
    payload: Payload,
    wrong: u32,
    uncertain: u32,
}

/// What an answer made of a [`SignTask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignStep {
    /// The signature verifies.
    Signed {
        /// It.
        signature: Signature,
        /// The bytes it signs.
        message: Vec<u8>,
    },
    /// The signature does not verify: ask again at once.
    Wrong(SignTask),
    /// Nothing is known: ask again after `wait_ms`.
    Uncertain {
        /// The task.
        task: SignTask,
        /// Milliseconds.
        wait_ms: u64,
    },
    /// Too many wrong signatures: a person has to look at the signer.
    Refused {
        /// One sentence.
        text: String,
    },
}

impl SignTask {
    /// A new intent.
    #[must_use]
    pub fn new(signer: String, public_key: Address, payload: Payload) -> Self {
        Self { signer, public_key, payload, wrong: 0, uncertain: 0 }
    }

    /// The effect that asks for the signature. The same every time.
    #[must_use]
    pub fn ask(&self) -> Effect {
        Effect::Sign {
            signer: self.signer.clone(),
            public_key: self.public_key,
            payload: self.payload.clone(),
        }
    }

    /// Takes an answer. An outcome that is no signature is uncertain.
    #[must_use]
    pub fn take(mut self, outcome: &Outcome, limits: SignLimits) -> SignStep {
        let Outcome::Signed { signature } = outcome else {
            let wait_ms = delay_ms(limits.retry_ms, self.uncertain, limits.retry_max_ms);
            self.uncertain = self.uncertain.saturating_add(1);
            return SignStep::Uncertain { task: self, wait_ms };
        };
        if verifies(&self.public_key, &self.payload, signature) {
            let Payload::SolanaMessage { message } = self.payload;
            return SignStep::Signed { signature: *signature, message: message.0 };
        }
        self.wrong = self.wrong.saturating_add(1);
        if self.wrong < limits.wrong_max.max(1) {
            return SignStep::Wrong(self);
        }
        let text = format!(
            "signer `{}` gave {} signatures that do not verify against {}: check which key it \
             holds, then repeat the intent",
            self.signer, self.wrong, self.public_key
        );
        SignStep::Refused { text }
    }
}

/// Whether `signature` is `public_key`'s over the whole payload.
#[must_use]
pub fn verifies(public_key: &Address, payload: &Payload, signature: &Signature) -> bool {
    let Payload::SolanaMessage { message } = payload;
    solana_signature::Signature::from(signature.0).verify(&public_key.0, &message.0)
}

#[cfg(test)]
mod tests;
