//! Hashing: a hash function over bytes, the prefixes that tell leaves from nodes, the join of a pair.
//!
//! Nothing else hashes for a tree. Invariant: every path gives the same bytes on every machine.

pub mod lanes;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sha3::{Digest, Keccak256};

/// 32 bytes, in the order in which the hash function gives them.
pub type Hash = [u8; 32];

/// A hash function of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashFn {
    /// Keccak-256 (the one of Ethereum, with its original padding; not SHA3-256).
    Keccak256,
    /// SHA-256 (FIPS 180-4).
    Sha256,
}

impl HashFn {
    /// The hash of the parts, one behind the other.
    #[must_use]
    pub fn of(self, parts: &[&[u8]]) -> Hash {
        match self {
            Self::Keccak256 => digest::<Keccak256>(parts),
            Self::Sha256 => digest::<Sha256>(parts),
        }
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Hash
where
    Hash: From<sha2::digest::Output<D>>,
{
    let mut hash = D::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Keccak-256 of bytes.
#[must_use]
pub fn keccak(bytes: &[u8]) -> Hash {
    HashFn::Keccak256.of(&[bytes])
}

/// Most bytes of a [`Prefix`]: with a pair of nodes it still fits one block of Keccak.
pub const PREFIX_MAX: usize = 32;

/// Bytes that are hashed before a leaf or before a pair, so that one cannot pass for the other.
///
/// As text: `0x` and hex digits, or else the UTF-8 text itself.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    len: u8,
    bytes: [u8; PREFIX_MAX],
}

impl Prefix {
    /// No bytes.
    pub const NONE: Self = Self { len: 0, bytes: [0; PREFIX_MAX] };

    /// One byte.
    #[must_use]
    pub const fn byte(byte: u8) -> Self {
        let mut bytes = [0; PREFIX_MAX];
        bytes[0] = byte;
        Self { len: 1, bytes }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl TryFrom<&[u8]> for Prefix {
    type Error = String;
    fn try_from(bytes: &[u8]) -> Result<Self, String> {
        let mut prefix = Self::NONE;
        let (Some(room), Ok(len)) =
            (prefix.bytes.get_mut(..bytes.len()), u8::try_from(bytes.len()))
        else {
            return Err(format!(
                "a prefix has at most {PREFIX_MAX} bytes, and this one has {}: shorten it",
                bytes.len()
            ));
        };
        room.copy_from_slice(bytes);
        prefix.len = len;
        Ok(prefix)
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("0x") {
            Some(digits) => Self::try_from(
                hex::decode(digits)
                    .map_err(|why| format!("the prefix `{text}` is no hex: {why}"))?
                    .as_slice(),
            ),
            None => Self::try_from(text.as_bytes()),
        }
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.as_bytes()) {
            Ok(text) if !text.starts_with("0x") && !text.contains(char::is_control) => {
                f.write_str(text)
            }
            _ => write!(f, "0x{}", hex::encode(self.as_bytes())),
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({self})")
    }
}

/// How a pair of nodes is put in order before it is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pair {
    /// The bytewise smaller one first: a proof needs no directions.
    Sorted,
    /// Left, then right.
    Ordered,
}

/// How two nodes become their parent: `hash(prefix | first | second)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRule {
    /// The hash function.
    pub hash: HashFn,
    /// Which of the two is first.
    pub pair: Pair,
    /// Bytes before them.
    pub prefix: Prefix,
}

impl NodeRule {
    /// The parent of two nodes.
    #[must_use]
    pub fn join(&self, left: &Hash, right: &Hash) -> Hash {
        lanes::join_one(self, left, right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_keccak_and_not_sha3() {
        // Ethereum's well-known hash of the empty string.
        assert_eq!(
            hex::encode(keccak(b"")),
            "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
        );
    }

    #[test]
    fn prefixes_are_text_or_hex_and_come_back() {
        for (text, bytes) in
            [("", &b""[..]), ("leaf:", b"leaf:"), ("0x00", &[0]), ("0x30ff", &[0x30, 0xff])]
        {
            let prefix = Prefix::try_from(text.to_owned()).unwrap();
            assert_eq!(prefix.as_bytes(), bytes);
            assert_eq!(prefix.to_string(), text);
        }
        for bad in ["0x0", "0xzz", &"x".repeat(33)] {
            assert!(Prefix::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
