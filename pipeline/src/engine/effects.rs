//! Effects are state until their outcome is taken in: recorded, committed, performed, answered.
//!
//! Invariants: an effect is handed out only from committed state; at most one effect of an ordering
//! key is under way in a task, forgotten ones among them until they end; an outcome counts only while its attempt (a sequence number of the
//! task) is pending, so the first outcome that is committed wins.

use std::collections::{BTreeMap, BTreeSet};

use semel_operators::operator::{EffectRequest, StateView};
use semel_schemas::{
    effect::{Effect, Outcome},
    sabotage::{Sabotage, sabotaged},
    topic::Partition,
};
use serde::{Deserialize, Serialize};

use super::overlay::Overlay;

/// `attempt 8 BE` → [`Pending`].
pub(crate) const PENDING: &str = "_effects";
/// `operator 1 | id` → attempt 8 BE.
pub(crate) const BY_ID: &str = "_effect_attempt";
/// `length of the ordering key 4 BE | ordering key | attempt 8 BE` → nothing.
pub(crate) const BY_ORDER: &str = "_effect_order";

/// Only for [`Sabotage::StaleAttemptCounts`]: `attempt 8 BE` → [`Pending`] of what is no more.
const GONE: &str = "_effects_gone";

/// A recorded effect without an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Which operator asked.
    pub operator: u8,
    /// What it asked for.
    pub request: EffectRequest,
}

/// An effect on its way out.
#[derive(Clone, Debug)]
pub struct Job {
    /// The task, and which life of it: an answer to an earlier life is ignored.
    pub task: (Partition, u64),
    /// The attempt.
    pub attempt: u64,
    /// What to do.
    pub effect: Effect,
}

/// An answer on its way in.
#[derive(Clone, Debug)]
pub struct Done {
    /// The task, and which life of it.
    pub task: (Partition, u64),
    /// The attempt.
    pub attempt: u64,
    /// The answer.
    pub outcome: Outcome,
}

/// Where effects go and answers come from. Never blocks.
pub trait EffectPort: Send {
    /// Hands an effect out; `false` if there is no room now.
    fn dispatch(&mut self, job: Job) -> bool;
    /// The answers that have come.
    fn outcomes(&mut self) -> Vec<Done>;
}

/// Whether a full key of the state is that of a recorded effect: its value is gone once it is
/// answered.
#[must_use]
pub fn is_pending(full_key: &[u8]) -> bool {
    full_key.split(|byte| *byte == 0).next() == Some(PENDING.as_bytes())
}

/// Records an effect under the next attempt number. One pending under the same id is replaced.
pub fn record(state: &mut Overlay, operator: u8, attempt: u64, request: EffectRequest) {
    forget(state, operator, &request.id);
    let by_id = id_key(operator, &request.id);
    state.write(BY_ID, &by_id, Some(attempt.to_be_bytes().to_vec()));
    state.write(BY_ORDER, &order_key(&request.ordering_key, attempt), Some(Vec::new()));
    let pending = semel_schemas::codec::encode(&Pending { operator, request });
    state.write(PENDING, &attempt.to_be_bytes(), Some(pending));
}

/// Takes an effect back.
pub fn forget(state: &mut Overlay, operator: u8, id: &str) {
    let attempt = state.get(BY_ID, &id_key(operator, id)).and_then(|bytes| bytes.try_into().ok());
    if let Some(attempt) = attempt {
        answer(state, u64::from_be_bytes(attempt));
    }
}

/// The pending effect of this attempt, which is thereby answered; `None` if it does not count.
pub fn answer(state: &mut Overlay, attempt: u64) -> Option<Pending> {
    let Some(pending) = pending(state, attempt) else {
        return if sabotaged(Sabotage::StaleAttemptCounts) { gone(state, attempt) } else { None };
    };
    if sabotaged(Sabotage::StaleAttemptCounts) {
        let bytes = semel_schemas::codec::encode(&pending);
        state.write(GONE, &attempt.to_be_bytes(), Some(bytes));
    }
    state.write(PENDING, &attempt.to_be_bytes(), None);
    state.write(BY_ID, &id_key(pending.operator, &pending.request.id), None);
    state.write(BY_ORDER, &order_key(&pending.request.ordering_key, attempt), None);
    Some(pending)
}

fn gone(state: &Overlay, attempt: u64) -> Option<Pending> {
    let bytes = state.get(GONE, &attempt.to_be_bytes())?;
    Some(semel_operators::operator::from_state(GONE, &bytes))
}

fn pending(state: &Overlay, attempt: u64) -> Option<Pending> {
    let bytes = state.get(PENDING, &attempt.to_be_bytes())?;
    Some(semel_operators::operator::from_state(PENDING, &bytes))
}

/// Effects that may be handed out now: of each ordering key that has none under way the oldest,
/// key by key, going on after the key where the last call ended (`turn`), so that no key starves.
/// Call only when the transaction is empty, so that the state is committed state.
#[must_use]
pub fn ready(
    state: &Overlay,
    under_way: &BTreeMap<u64, String>,
    turn: &mut Vec<u8>,
    limit: usize,
) -> Vec<(u64, Pending)> {
    let busy: BTreeSet<&str> = under_way.values().map(String::as_str).collect();
    let started = turn.clone();
    let mut from = started.clone();
    let mut wrapped = started.is_empty();
    let mut found = Vec::new();
    while found.len() < limit {
        let Some((key, _)) = state.scan(BY_ORDER, &[], &from, 1).pop() else {
            if wrapped {
                break;
            }
            wrapped = true;
            from.clear();
            continue;
        };
        if wrapped && !started.is_empty() && key >= started {
            break;
        }
        let Some((head, attempt)) = key.split_last_chunk::<8>() else { break };
        // Longer than any attempt of this key, so the scan goes on with the next key.
        from = [head, &[u8::MAX; 9]].concat();
        turn.clone_from(&from);
        let order = head.get(4..).unwrap_or_default();
        if !busy.iter().any(|key| key.as_bytes() == order) {
            let attempt = u64::from_be_bytes(*attempt);
            found.extend(pending(state, attempt).map(|pending| (attempt, pending)));
        }
    }
    found
}

fn order_key(order: &str, attempt: u64) -> Vec<u8> {
    let length = u32::try_from(order.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], order.as_bytes(), &attempt.to_be_bytes()[..]].concat()
}

fn id_key(operator: u8, id: &str) -> Vec<u8> {
    let mut key = vec![operator];
    key.extend_from_slice(id.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use semel_schemas::time::Slot;

    use super::*;
    use crate::state::{Held, MemStore};

    fn request(id: &str, ordering_key: &str) -> EffectRequest {
        let effect = Effect::FetchSolana {
            chain: "c".into(),
            cursor: None,
            from_slot: Slot(0),
            max_blocks: 1,
            program: semel_schemas::solana::Address([0; 32]),
        };
        EffectRequest { id: id.into(), ordering_key: ordering_key.into(), effect }
    }

    fn attempts(state: &Overlay, under_way: &[(u64, &str)]) -> Vec<u64> {
        let under_way = under_way.iter().map(|(a, key)| (*a, (*key).to_owned())).collect();
        let found = ready(state, &under_way, &mut Vec::new(), 9);
        found.into_iter().map(|(attempt, _)| attempt).collect()
    }

    #[test]
    fn keys_take_turns() {
        let mut state = Overlay::new(Held::new(Box::new(MemStore::default()), 0));
        for attempt in 0..50 {
            record(&mut state, 0, attempt, request(&format!("x{attempt}"), "x"));
        }
        record(&mut state, 0, 50, request("y", "y"));
        record(&mut state, 0, 51, request("long", "a longer key"));
        let mut turn = Vec::new();
        let mut next = || ready(&state, &BTreeMap::new(), &mut turn, 1)[0].0;
        assert_eq!([next(), next(), next(), next(), next()], [0, 50, 51, 0, 50]);
    }

    #[test]
    fn one_of_an_ordering_key_at_a_time_and_the_first_answer_wins() {
        let mut state = Overlay::new(Held::new(Box::new(MemStore::default()), 0));
        record(&mut state, 0, 1, request("a", "x"));
        record(&mut state, 0, 2, request("b", "x"));
        record(&mut state, 0, 3, request("c", "y"));
        assert_eq!(attempts(&state, &[]), [1, 3]);
        assert_eq!(attempts(&state, &[(1, "x")]), [3]);
        assert!(answer(&mut state, 1).is_some());
        assert!(answer(&mut state, 1).is_none());
        assert_eq!(attempts(&state, &[]), [2, 3]);
        record(&mut state, 0, 4, request("b", "x"));
        assert!(answer(&mut state, 2).is_none(), "replaced");
        assert!(answer(&mut state, 4).is_some());
    }
}
