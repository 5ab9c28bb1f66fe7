//! Solana's fixed-size values in their base58 text form, and the cursor of a Solana source.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::time::Slot;

/// Why a text is no base58 value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not the base58 form of {bytes} bytes")]
pub struct BadBase58 {
    text: String,
    bytes: usize,
}

macro_rules! base58 {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&bs58::encode(self.0).into_string())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadBase58;
            fn from_str(text: &str) -> Result<Self, BadBase58> {
                let mut out = [0; $bytes];
                match bs58::decode(text).onto(&mut out) {
                    Ok($bytes) => Ok(Self(out)),
                    _ => Err(BadBase58 { text: text.to_owned(), bytes: $bytes }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": "^[1-9A-HJ-NP-Za-km-z]{32,88}$" })
            }
        }
    };
}

base58! {
    /// An account's address or an ed25519 public key, 32 bytes.
    Address, 32
}
base58! {
    /// An ed25519 signature, 64 bytes; a transaction is named by its first one.
    Signature, 64
}
base58! {
    /// A recent blockhash, 32 bytes.
    Blockhash, 32
}

/// Bytes whose JSON form is standard base64, as in Solana's RPC.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Base64(pub Vec<u8>);

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(|e| de::Error::custom(format!("not base64: {e}")))
    }
}

impl JsonSchema for Base64 {
    fn schema_name() -> Cow<'static, str> {
        "Base64".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "contentEncoding": "base64" })
    }
}

/// Where a Solana source stands: the last block whose records are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SolanaCursor {
    /// Slot of that block.
    pub slot: Slot,
    /// Its blockhash: the next block's `previousBlockhash` must equal it.
    pub blockhash: Blockhash,
}
