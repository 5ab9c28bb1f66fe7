//! The events that are fed: accounts with tracks, each with its nonces; some accounts are hot, nonces
//! are shuffled within a window, some events come again, some records are poison.
//!
//! Invariant: after the last record, of every track the nonces from 0 to [`Given::tracks`] were given,
//! each at least once, and each poison once.

use std::collections::{BTreeMap, VecDeque};

use semel_schemas::header::{self, Headers};

use super::super::{
    chance::Chance,
    compare::Place,
    feed::{Fed, Script},
};

/// Tracks of one account.
pub(super) const TRACKS: u32 = 4;
/// Header of a poison record: its number.
pub(in crate::verify) const POISON: &str = "verify-poison";
/// Events that are shuffled among themselves.
const WINDOW: u64 = 8;
/// Events that may come again.
const RECENT: usize = 1_000;
/// Records for each account.
const RECORDS_PER_ACCOUNT: u64 = 50;
/// Most accounts.
const ACCOUNTS_MAX: u64 = 1_000;
/// Tracks that a quarter of the records belong to.
const HOT: u64 = 4;
/// Makes an event about 300 bytes long.
const PAD: &str = "what is carried here is carried once and in its order, whatever ends meanwhile: \
                   this text only gives the event the weight of one that has something to say. .";

/// What was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::verify) struct Given {
    /// By track: how many nonces.
    pub(in crate::verify) tracks: Vec<u32>,
    /// Events that came again: how often beyond the first time.
    pub(in crate::verify) again: BTreeMap<Place, u32>,
    /// Poison records.
    pub(in crate::verify) poison: u32,
    /// Records in all.
    pub(in crate::verify) records: u64,
}

/// See the module.
#[derive(Debug)]
pub(in crate::verify) struct Events {
    chance: Chance,
    total: u64,
    window: Vec<Place>,
    recent: VecDeque<Place>,
    /// What was given so far.
    pub(in crate::verify) given: Given,
}

impl Events {
    /// `records` records of this seed.
    #[must_use]
    pub(in crate::verify) fn new(seed: u64, records: u64) -> Self {
        let accounts = (records / RECORDS_PER_ACCOUNT).clamp(4, ACCOUNTS_MAX);
        let tracks = usize::try_from(accounts * u64::from(TRACKS)).unwrap_or(usize::MAX);
        Self {
            chance: Chance::new(seed),
            total: records,
            window: Vec::new(),
            recent: VecDeque::new(),
            given: Given { tracks: vec![0; tracks], ..Given::default() },
        }
    }

    fn lane(&mut self) -> usize {
        let lanes = if self.chance.happens(1, 4) { HOT } else { self.given.tracks.len() as u64 };
        usize::try_from(self.chance.below(lanes)).unwrap_or(0)
    }

    /// The next new events, not in their order: now and then all of one track.
    fn refill(&mut self, most: u64) {
        let same = self.chance.happens(1, 4).then(|| self.lane());
        for _ in 0..WINDOW.min(most) {
            let at = match same {
                Some(lane) => lane,
                None => self.lane(),
            };
            let number = self.given.tracks[at];
            self.given.tracks[at] += 1;
            self.window.push(Place { lane: u32::try_from(at).unwrap_or(u32::MAX), number });
        }
        self.chance.shuffle(&mut self.window);
    }

    fn event(&mut self, left: u64) -> Place {
        if self.window.is_empty() {
            self.refill(left);
        }
        let place = self.window.pop().unwrap_or(Place { lane: 0, number: 0 });
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(place);
        place
    }
}

impl Script for Events {
    fn next(&mut self) -> Option<Fed> {
        let left = self.total.checked_sub(self.given.records).filter(|left| *left > 0)?;
        self.given.records += 1;
        // What is in the window must still fit.
        let room = left > self.window.len() as u64;
        if room && self.chance.happens(5, 100) && !self.recent.is_empty() {
            let at = self.chance.below(self.recent.len() as u64);
            let place = self.recent[usize::try_from(at).unwrap_or(0)];
            *self.given.again.entry(place).or_default() += 1;
            return Some(event(place, self.given.records));
        }
        if room && self.chance.happens(5, 1_000) {
            let number = self.given.poison;
            self.given.poison += 1;
            return Some(poison(number));
        }
        let place = self.event(left);
        Some(event(place, self.given.records))
    }

    fn total(&self) -> u64 {
        self.total
    }
}

/// The id of an event.
pub(super) fn id(place: Place) -> String {
    format!("{}-{}", place.lane, place.number)
}

/// The place of an event of this id.
pub(super) fn place(id: &str) -> Option<Place> {
    let (lane, number) = id.split_once('-')?;
    Some(Place { lane: lane.parse().ok()?, number: number.parse().ok()? })
}

/// The account of a lane.
pub(super) fn account(lane: u32) -> String {
    format!("account-{}", lane / TRACKS)
}

fn event(place: Place, n: u64) -> Fed {
    let (account, track) = (account(place.lane), place.lane % TRACKS);
    let value = format!(
        r#"{{"id":"{}","account":"{account}","track":{track},"nonce":{},"slot":1,"n":{n},"pad":"{PAD}"}}"#,
        id(place),
        place.number
    );
    let key = Some(account.into_bytes());
    Fed { key, value: Some(value.into_bytes()), headers: Headers::new() }
}

/// A record that must end as a dead letter, each time for another reason.
fn poison(number: u32) -> Fed {
    let mut headers = Headers::new();
    headers.set(POISON, number.to_string());
    let account = format!("account-{}", number % 7);
    let with = |more: &str| {
        Some(format!(
            r#"{{"id":"poison-{number}","account":"{account}","track":0,"slot":1{more}}}"#
        ))
    };
    let mut key = Some(account.clone().into_bytes());
    let value = match number % 8 {
        0 => Some("no JSON".to_owned()),
        1 => with(""),
        2 => with(r#","nonce":"first""#),
        3 => None,
        4 => {
            headers.set(header::TYPE, "nobody-knows-this");
            with(r#","nonce":0"#)
        }
        // The first operator takes it, the second one does not: both must forget it.
        5 => with(r#","nonce":18446744073709551615"#),
        6 => {
            headers.set(header::VERSION, "99.0");
            with(r#","nonce":0"#)
        }
        _ => {
            key = None;
            with(r#","nonce":0"#)
        }
    };
    Fed { key, value: value.map(String::into_bytes), headers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(seed: u64, records: u64) -> (Vec<Fed>, Given) {
        let mut script = Events::new(seed, records);
        let mut fed = Vec::new();
        while let Some(record) = script.next() {
            fed.push(record);
        }
        (fed, script.given)
    }

    #[test]
    fn it_gives_what_it_says_it_gave() {
        let (fed, given) = all(3, 5_000);
        assert_eq!(fed.len(), 5_000);
        assert_eq!(given.records, 5_000);
        let mut found: BTreeMap<Place, u32> = BTreeMap::new();
        let mut poison = 0;
        let mut early = 0;
        let mut highest: BTreeMap<u32, u32> = BTreeMap::new();
        for record in &fed {
            if record.headers.get(POISON).is_some() {
                poison += 1;
                continue;
            }
            let value: serde_json::Value =
                serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            let at = place(value["id"].as_str().unwrap()).unwrap();
            assert_eq!(value["nonce"], at.number);
            assert_eq!(record.key.as_deref().unwrap(), account(at.lane).as_bytes());
            *found.entry(at).or_default() += 1;
            let top = highest.entry(at.lane).or_default();
            early += u32::from(at.number < *top);
            *top = at.number.max(*top);
        }
        let expected: u32 = given.tracks.iter().sum();
        assert_eq!(found.len(), expected as usize, "each event at least once");
        for (place, times) in &found {
            assert!(place.number < given.tracks[place.lane as usize]);
            assert_eq!(*times, 1 + given.again.get(place).copied().unwrap_or(0));
        }
        assert_eq!(poison, given.poison);
        assert!(poison > 8 && given.again.len() > 100 && early > 100, "all of the menu is there");
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(all(1, 300), all(1, 300));
        assert_ne!(all(1, 300).0, all(2, 300).0);
    }

    #[test]
    fn the_shortest_scripts_end() {
        for records in 0..40 {
            let (fed, given) = all(9, records);
            assert_eq!(fed.len() as u64, records);
            let events: u32 = given.tracks.iter().sum();
            let again: u32 = given.again.values().sum();
            assert_eq!(u64::from(events + again + given.poison), records);
        }
    }
}
