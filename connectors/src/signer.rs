//! The signer's conversation: a full payload in, a verified signature out.

use async_trait::async_trait;
use semel_schemas::{
    effect::Payload,
    solana::{Address, Signature},
};

/// Why a signer gave no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The signer does not hold this key.
    #[error("the signer holds the key {held}, but the payload is to be signed by {asked}")]
    WrongKey {
        /// Key held.
        held: Address,
        /// Key asked for.
        asked: Address,
    },
    /// The payload is nothing that this key should sign.
    #[error("{0}")]
    Refused(String),
    /// The signer made a signature that does not verify.
    #[error("the signer made a signature that does not verify against {0}")]
    BadSignature(Address),
    /// The signer cannot be reached or answered with an error.
    #[error("{0}")]
    Unavailable(String),
}

/// Signs. The secret never leaves it and is never a field of a record.
#[async_trait]
pub trait Signer: Send + Sync {
    /// The public key.
    fn public_key(&self) -> Address;

    /// Signs a payload; the signature was verified against the key before it is returned.
    ///
    /// # Errors
    /// [`SignError`].
    async fn sign(&self, key: &Address, payload: &Payload) -> Result<Signature, SignError>;
}
