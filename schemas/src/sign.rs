//! Signing as a stage of its own: the intent that goes in, the signature that comes out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    effect::Payload,
    solana::{Address, Signature},
};

/// Type name of [`SignIntent`].
pub const SIGN_INTENT: &str = "sign.intent";
/// Type name of [`Signed`].
pub const SIGNED: &str = "sign.signed";

/// "Sign exactly this." Keyed by `intent_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignIntent {
    /// Identity: one intent id has one payload and one signature. 1 to 256 bytes, no NUL.
    pub intent_id: String,
    /// Name of the signer.
    pub signer: String,
    /// The key that must have signed.
    pub public_key: Address,
    /// What to sign, in full.
    pub payload: Payload,
}

/// A signature that verifies. Keyed by `intent_id`; the same after every repeat of the intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signed {
    /// The intent's id.
    pub intent_id: String,
    /// The signature.
    pub signature: Signature,
}
