//! What was expected against what was found: counting, and nothing else.
//!
//! Everything that is fed has a place: a lane (a key's track, or just one lane for all) and a number
//! in it, counted from 0. So a million records are a million bits, and what should be there needs no
//! list. May not live here: where records and rows come from.
//!
//! Invariants: every find is counted in `found`, and in exactly one of: its place's first find,
//! `twice`, `foreign`; a place without a find is `lost`.

use std::collections::BTreeMap;

/// Where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The lane.
    pub lane: u32,
    /// Its number in the lane.
    pub number: u32,
}

/// Whether the order of finds counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Within a lane numbers must only grow.
    Growing,
    /// Any order is fine.
    Any,
}

/// The outcome of a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many there should be.
    pub expected: u64,
    /// How many there are.
    pub found: u64,
    /// Expected, and not there.
    pub lost: u64,
    /// There once more than expected.
    pub twice: u64,
    /// There, and never expected.
    pub foreign: u64,
    /// Found behind one that should follow it.
    pub out_of_order: u64,
}

impl Counts {
    /// Whether everything is there once, in order, and nothing else is.
    #[must_use]
    pub const fn good(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.foreign == 0 && self.out_of_order == 0
    }
}

/// Numbers of which one is expected and another found, where there is nothing to list.
#[must_use]
pub const fn numbers(expected: u64, found: u64) -> Counts {
    Counts {
        expected,
        found,
        lost: expected.saturating_sub(found),
        twice: 0,
        foreign: found.saturating_sub(expected),
        out_of_order: 0,
    }
}

#[derive(Debug)]
struct Lane {
    seen: Vec<bool>,
    highest: Option<u32>,
}

/// Each place once.
#[derive(Debug)]
pub struct Tally {
    lanes: Vec<Lane>,
    order: Order,
    counts: Counts,
}

impl Tally {
    /// A comparison with lanes of these lengths.
    #[must_use]
    pub fn new(lengths: &[u32], order: Order) -> Self {
        let lane = |length: &u32| Lane { seen: vec![false; *length as usize], highest: None };
        let expected = lengths.iter().map(|length| u64::from(*length)).sum();
        Self {
            lanes: lengths.iter().map(lane).collect(),
            order,
            counts: Counts { expected, ..Counts::default() },
        }
    }

    /// Something was found; `None`: what belongs nowhere.
    pub fn find(&mut self, place: Option<Place>) {
        self.counts.found += 1;
        let slot = place.and_then(|place| {
            let lane = self.lanes.get_mut(place.lane as usize)?;
            let seen = lane.seen.get_mut(place.number as usize)?;
            Some((place.number, seen, &mut lane.highest))
        });
        let Some((number, seen, highest)) = slot else {
            self.counts.foreign += 1;
            return;
        };
        if std::mem::replace(seen, true) {
            self.counts.twice += 1;
            return;
        }
        if self.order == Order::Growing && highest.is_some_and(|highest| number < highest) {
            self.counts.out_of_order += 1;
        }
        *highest = (*highest).max(Some(number));
    }

    /// The first places that were not found, at most `most`.
    #[must_use]
    pub fn lost(&self, most: usize) -> Vec<Place> {
        let lanes = (0_u32..).zip(&self.lanes);
        lanes
            .flat_map(|(lane, found)| {
                let numbers = (0_u32..).zip(&found.seen).filter(|(_, seen)| !**seen);
                numbers.map(move |(number, _)| Place { lane, number })
            })
            .take(most)
            .collect()
    }

    /// The outcome.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let lost = self.lanes.iter().flat_map(|lane| &lane.seen).filter(|seen| !**seen).count();
        Counts { lost: lost as u64, ..self.counts }
    }
}

/// Some places, each as often as it says.
#[derive(Debug)]
pub struct Repeats {
    places: BTreeMap<Place, (u32, u32)>,
    found: u64,
    foreign: u64,
}

impl Repeats {
    /// A comparison with these expectations.
    #[must_use]
    pub fn new(expected: &BTreeMap<Place, u32>) -> Self {
        let places = expected.iter().map(|(place, times)| (*place, (*times, 0))).collect();
        Self { places, found: 0, foreign: 0 }
    }

    /// Something was found; `None`: what belongs nowhere.
    pub fn find(&mut self, place: Option<Place>) {
        self.found += 1;
        match place.and_then(|place| self.places.get_mut(&place)) {
            Some((_, found)) => *found += 1,
            None => self.foreign += 1,
        }
    }

    /// The outcome.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let sum = |of: &dyn Fn(u32, u32) -> u32| {
            self.places.values().map(|(expected, found)| u64::from(of(*expected, *found))).sum()
        };
        Counts {
            expected: sum(&|expected, _| expected),
            found: self.found,
            lost: sum(&u32::saturating_sub),
            twice: sum(&|expected, found| found.saturating_sub(expected)),
            foreign: self.foreign,
            out_of_order: 0,
        }
    }
}

#[cfg(test)]
mod tests;
