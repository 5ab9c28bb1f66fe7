//! Values from text: decimal and hex numbers, hex with or without `0x` in any case, base58.
//!
//! Errors name the field and the place of a stray character; nothing is trimmed or guessed.

use super::{Field, FieldError, FieldType, Uint, Value};
use crate::merkle::hash::keccak;

impl Field {
    /// The value that `text` stands for.
    ///
    /// # Errors
    /// The field's name and what is wrong with the text.
    pub fn parse(&self, text: &str) -> Result<Value, FieldError> {
        let value = match self.kind {
            FieldType::Uint { .. } => Value::Uint(Uint::parse(text).map_err(|e| self.error(e))?),
            FieldType::Text => Value::Text(text.to_owned()),
            FieldType::Bytes | FieldType::Fixed(_) => {
                Value::Bytes(unhex(text).map_err(|e| self.error(e))?)
            }
            FieldType::Pubkey => Value::Bytes(pubkey(text).map_err(|e| self.error(e))?),
            FieldType::Address => Value::Bytes(address(text).map_err(|e| self.error(e))?),
        };
        self.check(&value)?;
        Ok(value)
    }

    /// The text that stands for a value that fits: what [`Field::parse`] reads.
    #[must_use]
    pub fn show(&self, value: &Value) -> String {
        match (self.kind, value) {
            (_, Value::Uint(number)) => number.to_string(),
            (_, Value::Text(text)) => text.clone(),
            (FieldType::Pubkey, Value::Bytes(bytes)) => bs58::encode(bytes).into_string(),
            (FieldType::Address, Value::Bytes(bytes)) => checksummed(bytes),
            (_, Value::Bytes(bytes)) => format!("0x{}", hex::encode(bytes)),
        }
    }
}

/// Bytes from hex, with `0x` or without, in any case.
///
/// # Errors
/// The odd length, or the first stray character and its place (counted from 1).
pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let skipped = if text.starts_with("0x") || text.starts_with("0X") { 2 } else { 0 };
    let digits = &text[skipped..];
    if let Some((at, stray)) = digits.char_indices().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(format!("character {} is `{stray}`, which is no hex digit", skipped + at + 1));
    }
    if digits.len() % 2 == 1 {
        return Err(format!(
            "{} hex digits are an odd number: two make a byte, so one is missing",
            digits.len()
        ));
    }
    hex::decode(digits).map_err(|why| why.to_string())
}

/// A hash from hex.
///
/// # Errors
/// As [`unhex`], and another length than 32 bytes.
pub fn unhex_hash(text: &str) -> Result<[u8; 32], String> {
    let bytes = unhex(text)?;
    let count = bytes.len();
    bytes.try_into().map_err(|_| format!("a hash has 32 bytes, and these are {count}"))
}

/// 32 bytes are at most 44 characters of base58, and 64 hex digits: the length tells which it is.
fn pubkey(text: &str) -> Result<Vec<u8>, String> {
    if text.len() >= 64 || text.starts_with("0x") {
        return unhex(text);
    }
    bs58::decode(text).into_vec().map_err(|why| format!("`{text}` is no base58: {why}"))
}

fn address(text: &str) -> Result<Vec<u8>, String> {
    let bytes = unhex(text)?;
    let digits = text.trim_start_matches("0x").trim_start_matches("0X");
    let mixed = digits.contains(|c: char| c.is_ascii_uppercase())
        && digits.contains(|c: char| c.is_ascii_lowercase());
    let right = checksummed(&bytes);
    if mixed && bytes.len() == 20 && right.trim_start_matches("0x") != digits {
        return Err(format!(
            "the checksum of `{text}` is wrong (EIP-55): a digit is mistyped, or else write it in \
             lower case"
        ));
    }
    Ok(bytes)
}

/// An address in the mixed case of EIP-55: a letter is upper case where the hash of the lower-case
/// digits has a nibble of 8 or more.
fn checksummed(address: &[u8]) -> String {
    let digits = hex::encode(address);
    let hash = keccak(digits.as_bytes());
    let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let cased = digits.chars().zip(nibbles).map(|(c, nibble)| match nibble {
        8.. => c.to_ascii_uppercase(),
        _ => c,
    });
    format!("0x{}", cased.collect::<String>())
}
