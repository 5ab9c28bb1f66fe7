//! A bench for one operator: state in a map, steps by hand. For tests of operators and for
//! documentation; the engine has its own task code.

use std::collections::BTreeMap;

use semel_schemas::{fault::Fault, time::WallTime};

use crate::operator::{Context, EventTime, Input, Operator, StateView, Step};

/// Stores as one ordered map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemState(BTreeMap<(String, Vec<u8>), Vec<u8>>);

impl MemState {
    /// Makes a step's writes permanent.
    pub fn apply(&mut self, step: &Step) {
        for write in step.writes.iter() {
            let at = (write.store.to_owned(), write.key().to_vec());
            match &write.value {
                Some(value) => self.0.insert(at, value.clone()),
                None => self.0.remove(&at),
            };
        }
    }

    /// Number of keys in all stores.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl StateView for MemState {
    fn get(&self, store: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(&(store.to_owned(), key.to_vec())).cloned()
    }

    fn scan(
        &self,
        store: &str,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let start = if from > prefix { from } else { prefix };
        self.0
            .range((store.to_owned(), start.to_vec())..)
            .take_while(|((s, k), _)| s == store && k.starts_with(prefix))
            .take(limit)
            .map(|((_, k), v)| (k.clone(), v.clone()))
            .collect()
    }
}

/// One operator with its state and clocks.
#[derive(Debug)]
pub struct Bench<O> {
    /// The operator.
    pub operator: O,
    /// Its stores.
    pub state: MemState,
    /// Wall clock for the next step.
    pub now: WallTime,
    /// Event time for the next step.
    pub event_time: EventTime,
    steps: u64,
}

impl<O: Operator> Bench<O> {
    /// A bench with empty state at time 0.
    pub fn new(operator: O) -> Self {
        Self {
            operator,
            state: MemState::default(),
            now: WallTime(0),
            event_time: EventTime::default(),
            steps: 0,
        }
    }

    /// One step; its writes are kept if it succeeds.
    ///
    /// # Errors
    /// The operator's fault; the state is as before.
    pub fn step(&mut self, input: Input) -> Result<Step, Fault> {
        self.steps += 1;
        let cause = match &input {
            Input::Record(record) => record.id.clone(),
            _ => format!("step-{}", self.steps),
        };
        let mut ctx = Context::new(&self.state, self.now, self.event_time, &cause, "bench");
        self.operator.apply(&mut ctx, input)?;
        let step = ctx.finish();
        self.state.apply(&step);
        Ok(step)
    }
}
