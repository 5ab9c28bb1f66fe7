//! Effects are state until their outcome is taken in: recorded, committed, performed, answered.
//!
//! Invariants: an effect is handed out only from committed state; at most one effect of an ordering
//! key is under way in a task; an outcome counts only while its attempt (a sequence number of the
//! task) is pending, so the first outcome that is committed wins.

use std::collections::BTreeSet;

use semel_operators::operator::{EffectRequest, StateView};
use semel_schemas::{
    effect::{Effect, Outcome},
    topic::Partition,
};
use serde::{Deserialize, Serialize};

use super::overlay::Overlay;

/// `attempt 8 BE` → [`Pending`].
const PENDING: &str = "_effects";
/// `operator 1 | id` → attempt 8 BE.
const BY_ID: &str = "_effect_attempt";

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

/// Records an effect under the next attempt number. One pending under the same id is replaced.
pub fn record(state: &mut Overlay, operator: u8, attempt: u64, request: EffectRequest) {
    forget(state, operator, &request.id);
    let by_id = id_key(operator, &request.id);
    state.write(BY_ID, &by_id, Some(attempt.to_be_bytes().to_vec()));
    let pending = semel_schemas::codec::encode(&Pending { operator, request });
    state.write(PENDING, &attempt.to_be_bytes(), Some(pending));
}

/// Takes an effect back.
pub fn forget(state: &mut Overlay, operator: u8, id: &str) {
    let by_id = id_key(operator, id);
    if let Some(attempt) = state.get(BY_ID, &by_id) {
        state.write(PENDING, &attempt, None);
        state.write(BY_ID, &by_id, None);
    }
}

/// The pending effect of this attempt, which is thereby answered; `None` if it does not count.
pub fn answer(state: &mut Overlay, attempt: u64) -> Option<Pending> {
    let bytes = state.get(PENDING, &attempt.to_be_bytes())?;
    let pending: Pending = semel_operators::operator::from_state(PENDING, &bytes);
    state.write(PENDING, &attempt.to_be_bytes(), None);
    state.write(BY_ID, &id_key(pending.operator, &pending.request.id), None);
    Some(pending)
}

/// Effects that may be handed out now, oldest first: not under way, and none of the same ordering
/// key before them. Call only when the transaction is empty, so that the state is committed state.
#[must_use]
pub fn ready(state: &Overlay, under_way: &BTreeSet<u64>, limit: usize) -> Vec<(u64, Pending)> {
    let mut busy_keys = BTreeSet::new();
    let mut found = Vec::new();
    for (key, value) in state.scan(PENDING, &[], &[], limit.saturating_add(under_way.len())) {
        let Ok(attempt) = key.try_into().map(u64::from_be_bytes) else { continue };
        let pending: Pending = semel_operators::operator::from_state(PENDING, &value);
        let first_of_key = busy_keys.insert(pending.request.ordering_key.clone());
        if first_of_key && !under_way.contains(&attempt) && found.len() < limit {
            found.push((attempt, pending));
        }
    }
    found
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
    use crate::state::MemStore;

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

    fn attempts(state: &Overlay, under_way: &[u64]) -> Vec<u64> {
        let under_way = under_way.iter().copied().collect();
        ready(state, &under_way, 9).into_iter().map(|(attempt, _)| attempt).collect()
    }

    #[test]
    fn one_of_an_ordering_key_at_a_time_and_the_first_answer_wins() {
        let mut state = Overlay::new(Box::new(MemStore::default()));
        record(&mut state, 0, 1, request("a", "x"));
        record(&mut state, 0, 2, request("b", "x"));
        record(&mut state, 0, 3, request("c", "y"));
        assert_eq!(attempts(&state, &[]), [1, 3]);
        assert_eq!(attempts(&state, &[1]), [3]);
        assert!(answer(&mut state, 1).is_some());
        assert!(answer(&mut state, 1).is_none());
        assert_eq!(attempts(&state, &[]), [2, 3]);
        record(&mut state, 0, 4, request("b", "x"));
        assert!(answer(&mut state, 2).is_none(), "replaced");
        assert!(answer(&mut state, 4).is_some());
    }
}
