//! A task's event time: the least progress over its sources, and passing it on.
//!
//! Invariants: event time never goes back; it is passed on only when no timer is due, so that
//! whatever a timer is about to say comes before it.

use semel_operators::operator::{Envelope, EventTime, Input, StateView};
use semel_schemas::{
    fault::{Fault, FaultCode},
    header::{self, Headers},
    progress::{PROGRESS, Progress},
    record::OutRecord,
    topic::Partition,
};

use super::{super::topology::TopicRef, Task};

/// Progress by source.
pub(crate) const PROGRESS_STORE: &str = "_progress";

impl Task {
    pub(super) fn progress(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        let value = envelope.value.as_deref().unwrap_or_default();
        let progress: Progress = semel_schemas::codec::decode(PROGRESS, value)?;
        let before: Option<Progress> = self
            .state
            .get(PROGRESS_STORE, progress.source.as_bytes())
            .map(|bytes| semel_operators::operator::from_state(PROGRESS_STORE, &bytes));
        if let Some(before) = before
            && (progress.complete < before.complete || progress.finalized < before.finalized)
        {
            return Err(Fault::new(
                FaultCode::SlotBackwards,
                format!(
                    "progress of source `{}` went back: complete {} → {}, finalized {} → {}",
                    progress.source,
                    before.complete,
                    progress.complete,
                    before.finalized,
                    progress.finalized
                ),
            ));
        }
        if progress.finalized > progress.complete {
            return Err(Fault::new(
                FaultCode::WrongType,
                format!(
                    "progress of source `{}` is finalized up to {} but complete only up to {}",
                    progress.source, progress.finalized, progress.complete
                ),
            ));
        }
        let bytes = semel_schemas::codec::encode(&progress);
        self.state.write(PROGRESS_STORE, progress.source.as_bytes(), Some(bytes));
        let moved = self.least_progress();
        if moved != self.meta.event_time {
            self.meta.event_time = moved;
            for operator in 0..self.stage.operators.len() {
                self.run(operator, Input::Progress(moved), &envelope.id)?;
            }
        }
        Ok(())
    }

    /// Event time: the least progress over the sources that are expected.
    fn least_progress(&self) -> EventTime {
        let spoken: Vec<Progress> = self
            .state
            .scan(PROGRESS_STORE, b"", b"", usize::MAX >> 1)
            .into_iter()
            .map(|(_, bytes)| semel_operators::operator::from_state(PROGRESS_STORE, &bytes))
            .collect();
        let expected = &self.stage.sources;
        let counted: Vec<_> =
            spoken.iter().filter(|p| expected.is_empty() || expected.contains(&p.source)).collect();
        if counted.len() < expected.len() {
            return self.meta.event_time;
        }
        EventTime {
            complete: counted.iter().map(|p| p.complete).min(),
            finalized: counted.iter().map(|p| p.finalized).min(),
            at: counted.iter().map(|p| p.at).min().unwrap_or_default(),
        }
    }

    /// Tells the stages behind this one how far it has come.
    pub(super) fn pass_event_time_on(&mut self) -> bool {
        let time = self.meta.event_time;
        let (Some(complete), Some(finalized)) = (time.complete, time.finalized) else {
            return false;
        };
        if time == self.meta.passed_on || self.stage.progress_to.is_empty() {
            return false;
        }
        let source = format!("{}/{}", self.stage.name, self.partition);
        let progress = Progress { source, complete, finalized, at: time.at };
        for topic in self.stage.clone().progress_to.iter() {
            self.write_progress(topic, &progress);
        }
        self.meta.passed_on = time;
        true
    }

    pub(super) fn write_progress(&mut self, topic: &TopicRef, progress: &Progress) {
        let value = semel_schemas::codec::encode(progress);
        for partition in 0..topic.partitions {
            let mut headers = Headers::new();
            headers.push(header::TYPE, PROGRESS);
            self.step_out.push(OutRecord {
                topic: topic.name.clone(),
                partition: Some(Partition(partition)),
                key: Some(progress.source.clone().into_bytes()),
                value: Some(value.clone()),
                headers,
            });
        }
    }
}
