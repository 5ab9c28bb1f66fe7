//! The claims that are fed: spread over channels, some of them again (by the same or by another
//! transaction), some records poison.
//!
//! Invariant: after the last record the claims from 0 to [`Given::claims`] were given, each at least
//! once, and each poison once.

use std::collections::BTreeMap;

use semel_schemas::{
    amount::Amount,
    claim::Claim,
    codec,
    header::{self, Headers},
    solana::{Address, Signature},
    time::Slot,
};

use super::super::{
    chance::Chance,
    compare::Place,
    events::POISON,
    feed::{Fed, Script},
};

/// Claims that may come again.
const RECENT: u64 = 1_000;
/// Claims that share a slot's number.
const SLOTS: u64 = 100;

/// What was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::verify) struct Given {
    /// Claims.
    pub(in crate::verify) claims: u32,
    /// Claims that came again: how often beyond the first time.
    pub(in crate::verify) again: BTreeMap<Place, u32>,
    /// Poison records.
    pub(in crate::verify) poison: u32,
    /// Records in all.
    pub(in crate::verify) records: u64,
}

/// See the module.
#[derive(Debug)]
pub(in crate::verify) struct Claims {
    chance: Chance,
    total: u64,
    channels: u32,
    first_slot: u64,
    /// What was given so far.
    pub(in crate::verify) given: Given,
}

impl Claims {
    /// `records` records of this seed, on as many channels, of slots from `first_slot` on.
    pub(super) fn new(seed: u64, records: u64, channels: u32, first_slot: u64) -> Self {
        let chance = Chance::new(seed);
        Self {
            chance,
            total: records,
            channels: channels.max(1),
            first_slot,
            given: Given::default(),
        }
    }

    fn claim(&self, number: u32, transaction: u32) -> Fed {
        let channel = channel(number, self.channels);
        let claim = Claim {
            claim_id: claim_id(number, self.channels),
            id: claim_id(number, self.channels),
            user: Address(bytes(u64::from(number) + 1, b'u')),
            amount: amount(number),
            slot: Slot(self.first_slot + u64::from(number) % SLOTS),
            signature: Signature(bytes(u64::from(number) + 1, b'a' + transaction.to_le_bytes()[0])),
            tx_index: number % 500,
            ix_index: 0,
            block_time: 0,
            channel: channel.clone(),
        };
        let key = Some(channel.into_bytes());
        Fed { key, value: Some(codec::encode(&claim)), headers: Headers::new() }
    }

    fn poison(&self, number: u32) -> Fed {
        let mut headers = Headers::new();
        headers.set(POISON, number.to_string());
        let channel = channel(number, self.channels);
        let with = |more: &str| {
            Some(format!(r#"{{"channel":"{channel}","signature":"x","ix_index":0{more}}}"#))
        };
        let mut key = Some(channel.clone().into_bytes());
        let value = match number % 7 {
            0 => Some("no JSON".to_owned()),
            1 => with(r#","slot":1"#),
            2 => with(r#","claim_id":"poison","slot":"soon""#),
            3 => None,
            4 => {
                headers.set(header::TYPE, "nobody-knows-this");
                with("")
            }
            5 => {
                headers.set(header::VERSION, "99.0");
                with("")
            }
            _ => {
                key = None;
                with("")
            }
        };
        Fed { key, value: value.map(String::into_bytes), headers }
    }
}

impl Script for Claims {
    fn next(&mut self) -> Option<Fed> {
        if self.given.records == self.total {
            return None;
        }
        self.given.records += 1;
        if self.chance.happens(10, 100) && self.given.claims > 0 {
            let back = self.chance.below(RECENT.min(self.given.claims.into()));
            let number = self.given.claims - 1 - u32::try_from(back).unwrap_or(0);
            *self.given.again.entry(Place { lane: 0, number }).or_default() += 1;
            let transaction = u32::from(self.chance.happens(1, 2));
            return Some(self.claim(number, transaction));
        }
        if self.chance.happens(5, 1_000) {
            self.given.poison += 1;
            return Some(self.poison(self.given.poison - 1));
        }
        self.given.claims += 1;
        Some(self.claim(self.given.claims - 1, 0))
    }

    fn total(&self) -> u64 {
        self.total
    }
}

/// The channel of a claim.
pub(super) fn channel(number: u32, channels: u32) -> String {
    format!("channel{}", number % channels)
}

/// The id of a claim.
pub(super) fn claim_id(number: u32, channels: u32) -> String {
    format!("verify:{}:{number}", channel(number, channels))
}

/// The place of a claim of this id.
pub(super) fn place(id: &str) -> Option<Place> {
    let number = id.strip_prefix("verify:")?.rsplit_once(':')?.1.parse().ok()?;
    Some(Place { lane: 0, number })
}

/// The amount of a claim.
pub(super) fn amount(number: u32) -> Amount {
    Amount(1_000 + u64::from(number))
}

/// Bytes that name a number, of some kind.
fn bytes<const N: usize>(number: u64, kind: u8) -> [u8; N] {
    let mut bytes = [kind; N];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_what_it_says_it_gave() {
        let mut script = Claims::new(5, 4_000, 20, 150);
        let mut found: BTreeMap<Place, u32> = BTreeMap::new();
        let (mut poison, mut records) = (0, 0);
        while let Some(fed) = script.next() {
            records += 1;
            if fed.headers.get(POISON).is_some() {
                poison += 1;
                continue;
            }
            let claim: Claim = serde_json::from_slice(fed.value.as_deref().unwrap()).unwrap();
            assert_eq!(fed.key.as_deref(), Some(claim.channel.as_bytes()));
            *found.entry(place(&claim.claim_id).unwrap()).or_default() += 1;
        }
        let given = script.given;
        assert_eq!((records, poison), (4_000, given.poison));
        assert_eq!(found.len(), given.claims as usize);
        for (place, times) in &found {
            assert_eq!(*times, 1 + given.again.get(place).copied().unwrap_or(0));
        }
        assert!(poison > 7 && given.again.len() > 200, "all of the menu is there");
    }
}
