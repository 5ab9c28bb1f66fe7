//! The head of a serialized Solana message: how many must sign, and who.
//!
//! Only what a signer and a simulation need; programs and instructions are not looked at. Source:
//! the wire format of legacy and versioned messages (`solana-message`): an optional byte with the
//! top bit set (the version), three counts, then for legacy and version 0 a compact-u16 number of
//! 32-byte keys, the signers first.

use semel_schemas::solana::Address;
use solana_message::VersionedMessage;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no serialized Solana message of a known version")]
pub struct NotAMessage;

/// The keys that must sign, in the order of their signatures.
///
/// # Errors
/// [`NotAMessage`]; also if bytes are left over, for they would be signed unseen.
pub fn required_signers(message: &[u8]) -> Result<Vec<Address>, NotAMessage> {
    let parsed: VersionedMessage = bincode::deserialize(message).map_err(|_| NotAMessage)?;
    parsed.sanitize().map_err(|_| NotAMessage)?;
    if bincode::serialize(&parsed).ok().as_deref() != Some(message) {
        return Err(NotAMessage);
    }
    let signers = usize::from(parsed.header().num_required_signatures);
    let keys = parsed.static_account_keys().get(..signers).ok_or(NotAMessage)?;
    Ok(keys.iter().map(|key| Address(key.to_bytes())).collect())
}

/// A transaction around `message` with the right number of empty signatures: for simulation.
///
/// # Errors
/// [`NotAMessage`].
pub fn unsigned_transaction(message: &[u8]) -> Result<Vec<u8>, NotAMessage> {
    let signatures = required_signers(message)?.len();
    // A compact-u16 below 128 is one byte, and a transaction of 1232 bytes holds 19 signatures.
    let count = u8::try_from(signatures).ok().filter(|count| *count < 128).ok_or(NotAMessage)?;
    let mut out = vec![count];
    out.resize(1 + 64 * signatures, 0);
    out.extend_from_slice(message);
    Ok(out)
}
