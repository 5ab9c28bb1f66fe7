//! How a key chooses its partition: murmur2, as Java clients do (Kafka trap 30).
//!
//! Source of the rule: `org.apache.kafka.common.utils.Utils.murmur2` and
//! `BuiltInPartitioner.partitionForKey` (`toPositive(murmur2(key)) % partitions`).

use crate::topic::Partition;

/// The partition of `key` among `partitions` (at least 1) partitions.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> Partition {
    partition_for_hash(hash_of_key(key), partitions)
}

/// What of a key chooses its partition, whatever their number: state that holds no key keeps this.
#[must_use]
pub fn hash_of_key(key: &[u8]) -> u32 {
    murmur2(key) & 0x7fff_ffff
}

/// The partition of a key with this [`hash_of_key`] among `partitions` (at least 1) partitions.
#[must_use]
pub fn partition_for_hash(hash: u32, partitions: u32) -> Partition {
    Partition(hash % partitions.max(1))
}

/// Kafka's murmur2: 32 bits, seed `0x9747b28c`, little-endian words.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c_u32 ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    // Vectors of org.apache.kafka.common.utils.UtilsTest#testMurmur2.
    #[test]
    fn murmur2_agrees_with_javas_vectors() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }
}
