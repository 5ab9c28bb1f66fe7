//! An ed25519 key in this process, from a Solana keypair file or an environment variable.
//!
//! Invariants: the secret leaves only as signatures; buffers that held it are wiped, and the key
//! itself when the signer is dropped (`ed25519-dalek` does that); no error repeats what was read;
//! a signature was verified before it is returned; only messages that ask for this key are signed.

use std::{
    env, fmt, fs, io,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use semel_schemas::{
    effect::Payload,
    solana::{Address, Signature},
};
use solana_keypair::{Keypair, Signer as _};
use zeroize::Zeroizing;

use crate::{
    signer::{SignError, Signer},
    solana::message,
};

/// Longest keypair file that is read: 64 numbers with room for white space.
const FILE_BYTES_MAX: usize = 4096;

/// Who else may be allowed to read a keypair file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readable {
    /// Only its owner: anything wider is refused.
    #[default]
    Owner,
    /// Anyone (a mounted secret whose mode cannot be set).
    Anyone,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("the keypair file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "the keypair file {} has mode {mode:03o}, so others may read the key; run `chmod 600` on \
         it",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The variable is not set.
    #[error("the environment variable {0} is not set to a text; set it to the keypair")]
    NoVariable(String),
    /// What was read is no keypair.
    #[error(
        "{place} holds no Solana keypair: {reason}; it must be 64 numbers in a JSON array, as \
         solana-keygen writes them (a variable may hold their base58 form)"
    )]
    NotAKeypair {
        /// Where it was read.
        place: String,
        /// What is wrong, without a word of what was read.
        reason: &'static str,
    },
}

/// A signer with its key in memory.
pub struct LocalSigner {
    keypair: Keypair,
    public_key: Address,
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

impl LocalSigner {
    /// A signer for a key that the caller holds.
    #[must_use]
    pub fn new(keypair: Keypair) -> Self {
        let public_key = Address(keypair.pubkey().to_bytes());
        Self { keypair, public_key }
    }

    /// The signer of a 32-byte seed: for simulations and tests, where the seed is no secret.
    #[must_use]
    pub fn of_seed(seed: [u8; 32]) -> Self {
        Self::new(Keypair::new_from_array(seed))
    }

    /// The keypair of a 32-byte seed, as the text of a keypair file: for a new key, hand in 32 random
    /// bytes. The text is the secret.
    #[must_use]
    pub fn keypair_json(seed: [u8; 32]) -> String {
        let numbers = Keypair::new_from_array(seed).to_bytes().map(|byte| byte.to_string());
        format!("[{}]", numbers.join(","))
    }

    /// Reads a keypair file: a JSON array of 64 numbers, secret then public half.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_file(path: &Path, readable: Readable) -> Result<Self, KeyError> {
        let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(unreadable)?;
        // The mode of what was opened, not of what the name means by now.
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if readable == Readable::Owner && mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        // Room for all of it, so that no half-filled buffer is moved and left behind unwiped.
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX + 1));
        file.take(FILE_BYTES_MAX as u64).read_to_string(&mut text).map_err(unreadable)?;
        match numbers(&text).and_then(|bytes| keypair(&*bytes)) {
            Ok(keypair) => Ok(Self::new(keypair)),
            Err(reason) => {
                let place = format!("the file {}", path.display());
                Err(KeyError::NotAKeypair { place, reason })
            }
        }
    }

    /// Reads the environment variable `name`: the same JSON array, or base58 of the 64 bytes.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_env(name: &str) -> Result<Self, KeyError> {
        let text = env::var(name).map_err(|_| KeyError::NoVariable(name.to_owned()))?;
        let text = Zeroizing::new(text);
        Self::from_text(&text).map_err(|reason| {
            let place = format!("the environment variable {name}");
            KeyError::NotAKeypair { place, reason }
        })
    }

    fn from_text(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let bytes = if text.starts_with('[') {
            numbers(text)?
        } else {
            let mut bytes = Zeroizing::new([0; 64]);
            match bs58::decode(text).onto(bytes.as_mut_slice()) {
                Ok(64) => bytes,
                _ => return Err("it is neither a JSON array nor base58 of 64 bytes"),
            }
        };
        keypair(&*bytes).map(Self::new)
    }
}

/// The numbers of a JSON array, read in place: no copy of them is left behind.
fn numbers(text: &str) -> Result<Zeroizing<[u8; 64]>, &'static str> {
    let inside = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let mut items = inside.ok_or("it is no JSON array")?.split(',');
    let mut bytes = Zeroizing::new([0; 64]);
    for byte in bytes.iter_mut() {
        let item = items.next().ok_or("the array has fewer than 64 numbers")?;
        *byte = item.trim().parse().map_err(|_| "an item is no number from 0 to 255")?;
    }
    match items.next() {
        None => Ok(bytes),
        Some(_) => Err("the array has more than 64 numbers"),
    }
}

fn keypair(bytes: &[u8]) -> Result<Keypair, &'static str> {
    Keypair::try_from(bytes).map_err(|_| "its public half does not belong to its secret half")
}

#[async_trait]
impl Signer for LocalSigner {
    fn public_key(&self) -> Address {
        self.public_key
    }

    async fn sign(&self, key: &Address, payload: &Payload) -> Result<Signature, SignError> {
        if *key != self.public_key {
            return Err(SignError::WrongKey { held: self.public_key, asked: *key });
        }
        let Payload::SolanaMessage { message } = payload;
        let signers = message::required_signers(&message.0)
            .map_err(|error| SignError::Refused(error.to_string()))?;
        if !signers.contains(key) {
            return Err(SignError::Refused(format!(
                "the message is not one that {key} has to sign"
            )));
        }
        let signature = self.keypair.sign_message(&message.0);
        if !signature.verify(&self.public_key.0, &message.0) {
            return Err(SignError::BadSignature(self.public_key));
        }
        Ok(Signature(*signature.as_array()))
    }
}

#[cfg(test)]
mod tests;
