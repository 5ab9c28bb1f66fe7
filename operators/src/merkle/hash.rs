//! Hashing: keccak256 of bytes, and of a pair of nodes. Nothing else hashes for a tree.

use sha3::{Digest, Keccak256};

/// 32 bytes, in the order in which the hash function gives them.
pub type Hash = [u8; 32];

/// Keccak-256 (the one of Ethereum, with its original padding; not SHA3-256).
#[must_use]
pub fn keccak(bytes: &[u8]) -> Hash {
    Keccak256::digest(bytes).into()
}

/// Keccak-256 of two nodes, one behind the other.
#[must_use]
pub fn keccak_pair(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Keccak256::new();
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
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
}
