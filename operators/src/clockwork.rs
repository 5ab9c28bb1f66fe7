//! Tests only: a bench whose timers go off. Records in, time forward, records out.

use std::collections::BTreeMap;

use semel_schemas::{
    fault::FaultCode,
    header::Headers,
    time::{Slot, WallTime},
};
use serde_json::Value;

use crate::{
    operator::{Clock, Envelope, EventTime, Input, Operator, Step, TimerKey, TimerOp, To},
    testing::Bench,
};

/// One emitted record, readable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Out {
    pub(crate) to: To,
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) value: Value,
}

/// A bench with timers.
#[derive(Debug)]
pub(crate) struct Clockwork<O> {
    pub(crate) bench: Bench<O>,
    pub(crate) timers: BTreeMap<TimerKey, (u64, Vec<u8>)>,
    pub(crate) out: Vec<Out>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Most records that one step emitted.
    pub(crate) widest: usize,
    records: u64,
}

impl<O: Operator> Clockwork<O> {
    pub(crate) fn new(operator: O) -> Self {
        Self {
            bench: Bench::new(operator),
            timers: BTreeMap::new(),
            out: Vec::new(),
            counts: BTreeMap::new(),
            widest: 0,
            records: 0,
        }
    }

    /// Gives it a record; a fault's code, if it is refused.
    pub(crate) fn record(&mut self, kind: &str, key: &str, value: &Value) -> Result<(), FaultCode> {
        self.raw(kind, key, Some(value.to_string().into_bytes()))
    }

    pub(crate) fn raw(
        &mut self,
        kind: &str,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> Result<(), FaultCode> {
        self.records += 1;
        let record = Envelope {
            id: format!("r{}", self.records),
            kind: kind.into(),
            key: key.into(),
            value,
            headers: Headers::new(),
        };
        self.step(Input::Record(record))
    }

    fn step(&mut self, input: Input) -> Result<(), FaultCode> {
        let before = self.bench.state.clone();
        match self.bench.step(input) {
            Ok(mut step) => {
                let refused = step.refused.take();
                self.take(step);
                refused.map_or(Ok(()), |fault| Err(fault.code))
            }
            Err(fault) => {
                assert_eq!(self.bench.state, before, "a refusal leaves no state behind");
                assert!(fault.text.len() > 10, "{fault}");
                Err(fault.code)
            }
        }
    }

    fn take(&mut self, step: Step) {
        self.widest = self.widest.max(step.emits.len());
        for emit in step.emits {
            let value = emit.record.value.unwrap_or_default();
            self.out.push(Out {
                to: emit.to,
                kind: emit.record.kind,
                key: String::from_utf8(emit.record.key).unwrap(),
                id: emit.record.id,
                value: serde_json::from_slice(&value).unwrap(),
            });
        }
        for op in step.timers {
            match op {
                TimerOp::Set { key, at, payload } => self.timers.insert(key, (at, payload)),
                TimerOp::Cancel(key) => self.timers.remove(&key),
            };
        }
        for (name, by) in step.counts {
            *self.counts.entry(name).or_default() += by;
        }
    }

    /// Moves event time forward (never back), tells the operator, and fires what is due.
    pub(crate) fn finalized(&mut self, slot: u64) {
        self.event_time(slot);
        self.settle();
    }

    /// Moves event time forward (never back) and tells the operator.
    pub(crate) fn event_time(&mut self, slot: u64) {
        let slot = self.bench.event_time.finalized.max(Some(Slot(slot)));
        let event_time = EventTime { complete: slot, finalized: slot, at: WallTime(0) };
        self.bench.event_time = event_time;
        self.step(Input::Progress(event_time)).unwrap();
    }

    /// Moves the wall clock and fires what is due.
    pub(crate) fn at(&mut self, ms: u64) {
        self.bench.now = WallTime(ms);
        self.settle();
    }

    /// Fires one timer that is due, the first by (time, key); tells whether there was one.
    pub(crate) fn fire_one(&mut self) -> bool {
        let (now, event_time) = (self.bench.now.0, self.bench.event_time);
        let due = self
            .timers
            .iter()
            .filter(|(key, (at, _))| match key.clock {
                Clock::Wall => *at <= now,
                Clock::Complete => event_time.complete.is_some_and(|slot| *at <= slot.0),
                Clock::Finalized => event_time.finalized.is_some_and(|slot| *at <= slot.0),
            })
            .min_by_key(|(key, (at, _))| (*at, (*key).clone()))
            .map(|(key, _)| key.clone());
        let Some(key) = due else { return false };
        let (_, payload) = self.timers.remove(&key).unwrap();
        self.step(Input::Timer { key, payload }).unwrap();
        true
    }

    /// Fires timers until none is due.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.fire_one() {
                return;
            }
        }
        panic!("timers never come to rest");
    }

    /// Takes the records that went to `to` since the last time.
    pub(crate) fn taken(&mut self, to: &To) -> Vec<Out> {
        self.out.extract_if(.., |out| out.to == *to).collect()
    }
}
