//! One step of the operators of a stage, and what becomes of what they ask for.
//!
//! Invariants: an operator that panics is a fault like any other; nothing that a step leaves can
//! break the commit or the local store by its size.

use std::panic::{AssertUnwindSafe, catch_unwind};

use semel_operators::operator::{Context, Emit, Envelope, Input, Step, TimerOp, To};
use semel_schemas::{
    fault::{Fault, FaultCode},
    header,
    progress::{PROGRESS, Progress},
    record::OutRecord,
    sabotage::{Sabotage, sabotaged},
};

use super::{
    super::{effects, timers, topology::TopicRef},
    Task,
};
use crate::state::KEY_MAX;

impl Task {
    pub(super) fn run(&mut self, operator: usize, input: Input, cause: &str) -> Result<(), Fault> {
        let stage = self.stage.clone();
        let Some(machine) = stage.operators.get(operator) else {
            return Err(Fault::new(FaultCode::UnknownTarget, format!("no operator {operator}")));
        };
        let (step, result) = {
            let place = &self.places[operator];
            let mut ctx =
                Context::new(&self.state, self.meta.now, self.meta.event_time, cause, place);
            // The step's writes are in `ctx` alone, so what a panic leaves half done goes with it.
            match catch_unwind(AssertUnwindSafe(|| machine.apply(&mut ctx, input))) {
                Ok(result) => (ctx.finish(), result),
                Err(panic) => return Err(broken(machine.name(), &*panic)),
            }
        };
        if let Err(fault) = result {
            if sabotaged(Sabotage::RefusedLeavesState) {
                self.write_all(step);
            }
            return Err(fault);
        }
        self.take_step(operator, step, cause)
    }

    /// Only for [`Sabotage::RefusedLeavesState`].
    fn write_all(&mut self, step: Step) {
        for write in step.writes {
            self.state.write_full(write.full, write.value);
        }
    }

    fn take_step(&mut self, operator: usize, step: Step, cause: &str) -> Result<(), Fault> {
        let index = u8::try_from(operator).unwrap_or(u8::MAX);
        for write in step.writes {
            self.state.write_full(write.full, write.value);
        }
        for timer in step.timers {
            self.first_due = None;
            match timer {
                TimerOp::Set { key, at, payload } => {
                    timers::set(&mut self.state, index, &key, at, payload);
                }
                TimerOp::Cancel(key) => timers::cancel(&mut self.state, index, &key),
            }
        }
        for id in step.forget {
            effects::forget(&mut self.state, index, &id);
        }
        for request in step.effects {
            self.meta.sequence += 1;
            self.counts.effects += 1;
            effects::record(&mut self.state, index, self.meta.sequence, request);
        }
        for (name, by) in step.counts {
            self.counts.named(name, by);
        }
        if let Some(fault) = step.refused {
            self.step_refused = Some(fault);
        }
        for Emit { to, record } in step.emits {
            match to {
                To::Next => self.pass(operator, record, cause)?,
                To::Output(name) => {
                    let ties = self.stage.clone();
                    for topic in ties.outputs.get(name).into_iter().flatten() {
                        self.send(topic, &record, cause);
                    }
                }
            }
        }
        Ok(())
    }

    fn pass(&mut self, operator: usize, record: Envelope, cause: &str) -> Result<(), Fault> {
        if let Some(next) = self.stage.taker(operator + 1, &record.kind) {
            let cause = record.id.clone();
            return self.run(next, Input::Record(record), &cause);
        }
        let stage = self.stage.clone();
        for topic in &stage.next {
            if record.kind == PROGRESS {
                let value = record.value.as_deref().unwrap_or_default();
                let said: Progress = semel_schemas::codec::decode(PROGRESS, value)?;
                let source = format!("{}/{}", self.stage.name, self.partition);
                self.write_progress(topic, &Progress { source, ..said });
            } else {
                self.send(topic, &record, cause);
            }
        }
        Ok(())
    }

    fn send(&mut self, topic: &TopicRef, record: &Envelope, cause: &str) {
        let mut headers = record.headers.clone();
        headers.set(header::ID, record.id.as_bytes());
        headers.set(header::TYPE, record.kind.as_bytes());
        headers.set(header::CAUSE, cause);
        let partition = semel_schemas::partition::partition_for_key(&record.key, topic.partitions);
        self.counts.records_out += 1;
        self.step_out.push(OutRecord {
            topic: topic.name.clone(),
            partition: Some(partition),
            key: Some(record.key.clone()),
            value: record.value.clone(),
            headers,
        });
    }

    /// Refuses a step that would break the commit by its size (Kafka trap 39).
    pub(super) fn check_step(&self) -> Result<(), Fault> {
        if sabotaged(Sabotage::StepUnchecked) {
            return Ok(());
        }
        let limits = &self.stage.limits;
        if self.step_out.len() > limits.outputs_max {
            return Err(Fault::new(
                FaultCode::StepTooLarge,
                format!(
                    "one input made {} records; the limit is {}",
                    self.step_out.len(),
                    limits.outputs_max
                ),
            ));
        }
        let limit = limits.record_bytes_max;
        if let Some(record) = self.step_out.iter().find(|record| record.size() > limit) {
            return Err(Fault::new(
                FaultCode::StepTooLarge,
                format!(
                    "a record of {} bytes for topic `{}` exceeds the limit of {limit} bytes",
                    record.size(),
                    record.topic,
                ),
            ));
        }
        for (key, value) in self.state.step() {
            let size = key.len() + value.map_or(0, Vec::len);
            if key.len() > KEY_MAX || size > limit {
                return Err(Fault::new(
                    FaultCode::StepTooLarge,
                    format!(
                        "a state change of {size} bytes with a key of {} bytes exceeds the limit \
                         of {limit} bytes, {KEY_MAX} of them for the key",
                        key.len(),
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn broken(operator: &str, panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    Fault::new(FaultCode::Poison, format!("operator `{operator}` panicked: {text}"))
}
