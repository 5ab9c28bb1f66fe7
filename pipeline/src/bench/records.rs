//! The records of the benchmarks: 300 bytes of JSON each, the same in every run.
//!
//! Transfers of 1,000 accounts on 4 nonce tracks each, taking turns, so that a track's next record
//! comes 4,000 records later. The nonces of a track are shuffled within blocks of 8; one record in
//! 20 is sent a second time, up to 1,000 records later.
//!
//! May not live here: where the records go.

use semel_schemas::{partition::partition_for_key, topic::Partition};

/// Accounts.
pub(super) const ACCOUNTS: u64 = 1_000;
/// Nonce tracks of an account.
pub(super) const TRACKS: u64 = 4;
/// Nonces are shuffled within blocks of this many.
const BLOCK: u64 = 8;
/// One record in so many is sent again.
const DOUBLE_EVERY: u64 = 20;
/// Bytes of a record's value.
pub(super) const BYTES: usize = 300;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    /// Its key.
    pub(super) key: String,
    /// Its value.
    pub(super) value: String,
}

impl Transfer {
    /// Its partition among `partitions`.
    #[must_use]
    pub(super) fn partition(&self, partitions: u32) -> Partition {
        partition_for_key(self.key.as_bytes(), partitions)
    }
}

/// A number that looks random, the same for the same seed (splitmix64).
fn scatter(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The place that a block's `at`-th record takes.
fn shuffled(block_seed: u64, at: u64) -> u64 {
    let mut places: [u64; BLOCK as usize] = std::array::from_fn(|i| i as u64);
    for i in (1..places.len()).rev() {
        let other = usize::try_from(scatter(block_seed ^ ((i as u64) << 56)) % (i as u64 + 1));
        places.swap(i, other.unwrap_or(0));
    }
    places.get(usize::try_from(at).unwrap_or(0)).copied().unwrap_or(at)
}

/// The `number`-th of `distinct` different transfers.
#[must_use]
pub(super) fn transfer(number: u64, distinct: u64) -> Transfer {
    let lines = ACCOUNTS * TRACKS;
    let (line, at) = (number % lines, number / lines);
    let (block, within) = (at / BLOCK, at % BLOCK);
    // The last block of a track may be cut short; it comes in order.
    let whole = (block + 1) * BLOCK * lines <= distinct;
    let place = if whole { shuffled(scatter(line) ^ block, within) } else { within };
    let nonce = block * BLOCK + place;
    let (account, track) = (line / TRACKS, line % TRACKS);
    let key = format!("account-{account:06}");
    let mut value = format!(
        r#"{{"id":"transfer-{account:06}-{track}-{nonce:010}","account":"{key}","track":{track},"nonce":{nonce},"slot":{},"amount":"{}","to":"account-{:06}","memo":""#,
        number / 1_000,
        scatter(number) % 1_000_000_000,
        scatter(!number) % ACCOUNTS,
    );
    while value.len() < BYTES - 2 {
        value.push(char::from(b'a' + u8::try_from(value.len() % 26).unwrap_or(0)));
    }
    value.push_str("\"}");
    Transfer { key, value }
}

/// The `number`-th of as many short records as there are: an id and a slot.
#[must_use]
pub(super) fn short(number: u64) -> Transfer {
    let key = format!("account-{:06}", number % ACCOUNTS);
    let slot = number / 1_000;
    Transfer { value: format!(r#"{{"id":"{key}-{number:010}","slot":{slot}}}"#), key }
}

/// The whole input: `distinct` transfers, and one in 20 of them again, in the order of sending.
pub(super) fn all(distinct: u64) -> impl Iterator<Item = Transfer> {
    (0..distinct).flat_map(move |number| {
        let earlier = number.saturating_sub(scatter(number) % 1_000);
        let again = (number % DOUBLE_EVERY == DOUBLE_EVERY - 1).then_some(earlier);
        std::iter::once(number).chain(again).map(move |n| transfer(n, distinct))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_nonce_of_every_track_comes_once_and_within_its_block() {
        let distinct = ACCOUNTS * TRACKS * 20;
        let mut tracks: BTreeMap<(String, u64), Vec<u64>> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for transfer in all(distinct) {
            assert_eq!(transfer.value.len(), BYTES);
            let value: serde_json::Value = serde_json::from_str(&transfer.value).unwrap();
            if ids.insert(value["id"].to_string()) {
                let track = value["track"].as_u64().unwrap();
                tracks
                    .entry((transfer.key, track))
                    .or_default()
                    .push(value["nonce"].as_u64().unwrap());
            }
        }
        assert_eq!(
            (ids.len() as u64, all(distinct).count() as u64),
            (distinct, distinct * 21 / 20)
        );
        assert_eq!(tracks.len() as u64, ACCOUNTS * TRACKS);
        let early = |nonces: &[u64]| nonces.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!(tracks.values().map(|nonces| early(nonces)).sum::<usize>() > 20_000);
        for nonces in tracks.values() {
            for (at, nonce) in nonces.iter().enumerate() {
                assert_eq!(at as u64 / BLOCK, nonce / BLOCK);
            }
            let sorted: BTreeSet<u64> = nonces.iter().copied().collect();
            assert_eq!(sorted, (0..20).collect());
        }
    }
}
