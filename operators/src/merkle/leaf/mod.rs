//! Leaf data: typed fields, their values, their bytes.
//!
//! `mod` types, values and both encodings (packed, Solidity's ABI) · [`text`] values from text, as
//! a CSV or JSON file has them · [`uint`] numbers of 256 bits. May not live here: which fields a
//! convention has (`profile`). Invariant: a value that does not fit its field is refused with the
//! field's name, never cut.

pub mod text;
pub mod uint;

use std::fmt;

use serde::{Deserialize, Serialize};
pub use uint::Uint;

/// 32 bytes that need not be a hash.
pub type Bytes32 = [u8; 32];

/// In which order a number's bytes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The least significant one first.
    Little,
    /// The most significant one first.
    Big,
}

/// What a field holds. As text, as in a profile: `u32le`, `u256be`, `bytes32`, `pubkey`, `address`,
/// `bytes`, `string`; Solidity's `uint256` is the same as `u256be`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FieldType {
    /// A whole number of 8 to 256 bits.
    Uint {
        /// Its width, a multiple of 8.
        bits: u16,
        /// Its byte order; Solidity's ABI knows only big-endian.
        order: ByteOrder,
    },
    /// 1 to 32 bytes, always as many.
    Fixed(u8),
    /// A Solana public key: 32 bytes, in base58 or hex.
    Pubkey,
    /// An EVM address: 20 bytes in hex. In mixed case its EIP-55 checksum must be right.
    Address,
    /// Bytes of any number, in hex.
    Bytes,
    /// Text, in UTF-8.
    Text,
}

impl FieldType {
    /// Its bytes in a packed leaf; none if that depends on the value.
    #[must_use]
    pub const fn width(self) -> Option<usize> {
        match self {
            Self::Uint { bits, .. } => Some(bits as usize / 8),
            Self::Fixed(bytes) => Some(bytes as usize),
            Self::Pubkey => Some(32),
            Self::Address => Some(20),
            Self::Bytes | Self::Text => None,
        }
    }
}

impl TryFrom<String> for FieldType {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let width = |digits: &str| {
            digits.parse::<u16>().ok().filter(|bits| (8..=256).contains(bits) && bits % 8 == 0)
        };
        let uint = |digits, order| width(digits).map(|bits| Self::Uint { bits, order });
        let found = match name.as_str() {
            "pubkey" => Some(Self::Pubkey),
            "address" => Some(Self::Address),
            "bytes" => Some(Self::Bytes),
            "string" => Some(Self::Text),
            _ => {
                if let Some(digits) = name.strip_prefix("uint") {
                    uint(digits, ByteOrder::Big)
                } else if let Some(count) = name.strip_prefix("bytes") {
                    count.parse().ok().filter(|n| (1..=32).contains(n)).map(Self::Fixed)
                } else {
                    let number = name.strip_prefix('u').unwrap_or_default();
                    if let Some(digits) = number.strip_suffix("le") {
                        uint(digits, ByteOrder::Little)
                    } else if let Some(digits) = number.strip_suffix("be") {
                        uint(digits, ByteOrder::Big)
                    } else {
                        uint(if number == "8" { number } else { "" }, ByteOrder::Big)
                    }
                }
            }
        };
        found.ok_or_else(|| {
            format!(
                "`type` `{name}` is no type of a field: use u8, u16le … u256le, u16be … u256be, \
                 uint8 … uint256, bytes1 … bytes32, pubkey, address, bytes or string"
            )
        })
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uint { bits: 8, .. } => f.write_str("u8"),
            Self::Uint { bits, order: ByteOrder::Little } => write!(f, "u{bits}le"),
            Self::Uint { bits, order: ByteOrder::Big } => write!(f, "u{bits}be"),
            Self::Fixed(bytes) => write!(f, "bytes{bytes}"),
            Self::Pubkey => f.write_str("pubkey"),
            Self::Address => f.write_str("address"),
            Self::Bytes => f.write_str("bytes"),
            Self::Text => f.write_str("string"),
        }
    }
}

impl From<FieldType> for String {
    fn from(kind: FieldType) -> Self {
        kind.to_string()
    }
}

/// One field of a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Its name: a column of a CSV file, a key of a JSON object, a part of a claim.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// The value that every leaf has, as text; then no row brings one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A whole number.
    Uint(Uint),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Uint(number.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

/// Why a value is not a field's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {why}")]
pub struct FieldError {
    /// The field's name.
    pub field: String,
    /// What is wrong.
    pub why: String,
}

impl Field {
    /// A field that every row brings.
    #[must_use]
    pub fn new(name: &str, kind: FieldType) -> Self {
        Self { name: name.to_owned(), kind, value: None }
    }

    /// This field's error.
    #[must_use]
    pub fn error(&self, why: impl Into<String>) -> FieldError {
        FieldError { field: self.name.clone(), why: why.into() }
    }

    /// Whether `value` fits.
    ///
    /// # Errors
    /// The field's name and what is wrong.
    pub fn check(&self, value: &Value) -> Result<(), FieldError> {
        match (self.kind, value) {
            (FieldType::Uint { bits, .. }, Value::Uint(number)) => {
                if number.bits() > u32::from(bits) {
                    return Err(self.error(format!(
                        "{number} needs {} bits, and the field has {bits}",
                        number.bits()
                    )));
                }
            }
            (FieldType::Text, Value::Text(_)) | (FieldType::Bytes, Value::Bytes(_)) => {}
            (FieldType::Fixed(_) | FieldType::Pubkey | FieldType::Address, Value::Bytes(bytes)) => {
                let width = self.kind.width().unwrap_or_default();
                if bytes.len() != width {
                    return Err(self
                        .error(format!("{} bytes came, and the field has {width}", bytes.len())));
                }
            }
            (kind, Value::Uint(_)) => return Err(self.error(format!("a number is no `{kind}`"))),
            (kind, Value::Bytes(_)) => return Err(self.error(format!("bytes are no `{kind}`"))),
            (kind, Value::Text(_)) => return Err(self.error(format!("text is no `{kind}`"))),
        }
        Ok(())
    }

    /// Adds the bytes of a value that fits, as a packed leaf has them.
    pub(super) fn pack(&self, value: &Value, out: &mut Vec<u8>) {
        match (self.kind, value) {
            (FieldType::Uint { bits, order }, Value::Uint(number)) => {
                let full = number.to_be();
                let own = &full[32 - usize::from(bits / 8)..];
                match order {
                    ByteOrder::Big => out.extend_from_slice(own),
                    ByteOrder::Little => out.extend(own.iter().rev()),
                }
            }
            (_, Value::Uint(number)) => out.extend_from_slice(&number.to_be()),
            (_, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
            (_, Value::Text(text)) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

/// Solidity's `abi.encode` of values that fit their fields: a head of one word for each value,
/// dynamic values behind it, words of 32 bytes. Numbers and addresses stand at a word's end, bytes
/// at its beginning. Source: Solidity ABI specification, "Formal Specification of the Encoding".
pub(super) fn abi_encode<'a>(
    values: impl ExactSizeIterator<Item = (&'a Field, &'a Value)>,
    out: &mut Vec<u8>,
) {
    let begin = out.len();
    let heads = values.len() * 32;
    let mut tail = Vec::new();
    for (field, value) in values {
        match (field.kind, value) {
            (FieldType::Text | FieldType::Bytes, _) => {
                out.extend_from_slice(&length_word(heads + tail.len()));
                let at = tail.len();
                tail.resize(at + 32, 0);
                field.pack(value, &mut tail);
                let length = length_word(tail.len() - at - 32);
                tail[at..at + 32].copy_from_slice(&length);
                tail.resize(tail.len().next_multiple_of(32), 0);
            }
            (_, Value::Uint(number)) => out.extend_from_slice(&number.to_be()),
            (FieldType::Address, _) => {
                out.extend_from_slice(&[0; 12]);
                field.pack(value, out);
            }
            _ => field.pack(value, out),
        }
        out.resize(begin + (out.len() - begin).next_multiple_of(32), 0);
    }
    out.extend_from_slice(&tail);
}

fn length_word(length: usize) -> Bytes32 {
    Uint::from(length as u64).to_be()
}

#[cfg(test)]
mod tests;
