//! Timers are state: two stores, by due time and by name.
//!
//! Invariants: a timer has one due time; timers of one clock fire in the order (time, operator,
//! name); setting one again moves it; a rolled-back step moves nothing.

use semel_operators::operator::{Clock, StateView, TimerKey};

use super::overlay::Overlay;

/// `clock 1 | due 8 BE | operator 1 | name` → payload.
pub(crate) const BY_DUE: &str = "_timers";
/// `operator 1 | clock 1 | name` → due 8 BE.
pub(crate) const BY_NAME: &str = "_timer_due";

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which operator had set it.
    pub operator: u8,
    /// Its name.
    pub key: TimerKey,
    /// When it was due.
    pub at: u64,
    /// What it carries.
    pub payload: Vec<u8>,
}

fn clock_byte(clock: Clock) -> u8 {
    match clock {
        Clock::Wall => 0,
        Clock::Complete => 1,
        Clock::Finalized => 2,
    }
}

/// The timer of a pair of the store by due time; `None` if it is none.
#[must_use]
pub(crate) fn read(key: &[u8], payload: Vec<u8>) -> Option<Due> {
    let clocks = [Clock::Wall, Clock::Complete, Clock::Finalized];
    let clock = clocks.into_iter().find(|clock| key.first() == Some(&clock_byte(*clock)))?;
    parse(clock, key, payload)
}

fn due_key(operator: u8, key: &TimerKey, at: u64) -> Vec<u8> {
    let mut bytes = vec![clock_byte(key.clock)];
    bytes.extend_from_slice(&at.to_be_bytes());
    bytes.push(operator);
    bytes.extend_from_slice(key.name.as_bytes());
    bytes
}

fn name_key(operator: u8, key: &TimerKey) -> Vec<u8> {
    let mut bytes = vec![operator, clock_byte(key.clock)];
    bytes.extend_from_slice(key.name.as_bytes());
    bytes
}

/// Sets or moves a timer.
pub fn set(state: &mut Overlay, operator: u8, key: &TimerKey, at: u64, payload: Vec<u8>) {
    cancel(state, operator, key);
    state.write(BY_NAME, &name_key(operator, key), Some(at.to_be_bytes().to_vec()));
    state.write(BY_DUE, &due_key(operator, key, at), Some(payload));
}

/// Forgets a timer, if it is set.
pub fn cancel(state: &mut Overlay, operator: u8, key: &TimerKey) {
    let name = name_key(operator, key);
    if let Some(at) =
        state.get(BY_NAME, &name).and_then(|b| b.try_into().ok().map(u64::from_be_bytes))
    {
        state.write(BY_DUE, &due_key(operator, key, at), None);
        state.write(BY_NAME, &name, None);
    }
}

/// Up to `limit` timers of `clock` that are due at `until`, in the order in which they fire.
#[must_use]
pub fn due(state: &Overlay, clock: Clock, until: u64, limit: usize) -> Vec<Due> {
    state
        .scan(BY_DUE, &[clock_byte(clock)], &[], limit)
        .into_iter()
        .filter_map(|(key, payload)| parse(clock, &key, payload))
        .take_while(|due| due.at <= until)
        .collect()
}

/// What a timer that was found due carries by now; `None` if it was cancelled or moved since.
#[must_use]
pub fn still(state: &Overlay, due: &Due) -> Option<Vec<u8>> {
    state.get(BY_DUE, &due_key(due.operator, &due.key, due.at))
}

/// Whether a full key of the state is part of a timer.
#[must_use]
pub fn is_timer(full_key: &[u8]) -> bool {
    let store = full_key.split(|byte| *byte == 0).next();
    store.is_some_and(|store| store == BY_DUE.as_bytes() || store == BY_NAME.as_bytes())
}

/// When the first timer of `clock` is due.
#[must_use]
pub fn first(state: &Overlay, clock: Clock) -> Option<u64> {
    let (key, payload) = state.scan(BY_DUE, &[clock_byte(clock)], &[], 1).pop()?;
    parse(clock, &key, payload).map(|due| due.at)
}

fn parse(clock: Clock, key: &[u8], payload: Vec<u8>) -> Option<Due> {
    let (_, rest) = key.split_first()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (operator, name) = rest.split_first()?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some(Due {
        operator: *operator,
        key: TimerKey { clock, name },
        at: u64::from_be_bytes(*at),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Held, MemStore};

    #[test]
    fn fire_in_the_order_of_time_then_key_and_move_when_set_again() {
        let mut state = Overlay::new(Held::new(Box::new(MemStore::default()), 0));
        for (name, at) in [("b", 5), ("a", 5), ("c", 1), ("late", 9)] {
            set(&mut state, 0, &TimerKey::wall(name), at, vec![]);
        }
        set(&mut state, 0, &TimerKey::wall("c"), 6, vec![7]);
        set(&mut state, 0, &TimerKey::complete("other clock"), 0, vec![]);
        let names: Vec<_> =
            due(&state, Clock::Wall, 8, 9).into_iter().map(|d| d.key.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(first(&state, Clock::Wall), Some(5));
        cancel(&mut state, 0, &TimerKey::wall("a"));
        cancel(&mut state, 0, &TimerKey::wall("b"));
        assert_eq!(due(&state, Clock::Wall, 8, 9)[0].payload, [7]);
    }
}
