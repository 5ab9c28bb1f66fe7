//! `allocations`: how often the work on one record asks for memory, in the task and its operators: from
//! the record as it was read to what a commit takes. The log and the local store are left out.
//!
//! Counts only in a build with the Cargo feature `allocations`, which puts a counter before the
//! allocator of the whole program.

use super::{Given, Row};

/// The rows of `allocations`.
#[cfg(not(feature = "allocations"))]
pub(super) fn bench(_: &Given) -> Result<Vec<Row>, String> {
    Err("this build does not count them: build it with `--features allocations`".to_owned())
}

/// The rows of `allocations`.
#[cfg(feature = "allocations")]
pub(super) fn bench(given: &Given) -> Result<Vec<Row>, String> {
    counting::rows(given)
}

#[cfg(feature = "allocations")]
mod counting {
    use semel_schemas::{
        header::Headers,
        record::Record,
        time::WallTime,
        topic::{NextOffset, Offset, Partition, TopicId},
    };

    use super::super::{
        Given, Row, Spread, Wanted,
        broker::PARTITIONS,
        records,
        stage::{self, Stage},
    };
    use crate::{
        engine::{
            overlay::Overlay,
            task::{Task, TaskInput},
        },
        state::{Checkpoint, Held, MemStore},
    };

    /// Inputs of one transaction.
    const INPUTS: usize = 10_000;
    /// The clock.
    const NOW: WallTime = WallTime(1_700_000_000_000);

    pub(super) fn rows(given: &Given) -> Result<Vec<Row>, String> {
        let (of, distinct) = (Partition(0), given.scaled(200_000, 40_000));
        let stage = Stage::new(given, stage::TRANSFERS, "count", "in");
        let (_, plan) = stage.plan(given, "")?;
        let (topology, _) = plan.stages.first().ok_or("the spec has no stage")?.clone();
        let topic = topology.input.name.clone();
        let inputs: Vec<TaskInput> = records::all(distinct)
            .filter(|transfer| transfer.partition(PARTITIONS) == of)
            .zip(0..)
            .map(|(transfer, offset)| {
                TaskInput::Record(Record {
                    topic: topic.clone(),
                    partition: of,
                    offset: Offset(offset),
                    timestamp_ms: NOW.0,
                    key: Some(transfer.key.into_bytes()),
                    value: Some(transfer.value.into_bytes()),
                    headers: Headers::new(),
                })
            })
            .collect();
        let id = TopicId("bench".into());
        let state = Overlay::new(Held::new(Box::new(MemStore::default()), 0));
        let mut task = Task::new(topology, of, state, &id, NextOffset(0))?;
        task.begin(NOW);
        let mut counted = allocation_counter::AllocationInfo::default();
        let (count, mut promoted) = (inputs.len(), 0);
        let mut left = inputs.into_iter().peekable();
        while left.peek().is_some() {
            let inputs: Vec<TaskInput> = left.by_ref().take(INPUTS).collect();
            promoted += 1;
            let info = allocation_counter::measure(|| {
                for input in inputs {
                    task.process(&input, NOW);
                }
                drop(task.cut(Some("bench")));
            });
            counted.count_total += info.count_total;
            counted.bytes_total += info.bytes_total;
            let checkpoint = Checkpoint {
                changelog_next: NextOffset(promoted),
                topic_id: id.clone(),
                promoted_at: NOW,
            };
            task.promote(&checkpoint).map_err(|e| e.to_string())?;
        }
        let each = |sum: u64| Spread::from(sum as f64 / count as f64);
        let row =
            |what, unit, sum| Row::alone(("allocations", what), unit, each(sum), Wanted::Printed);
        Ok(vec![
            row("allocations of a record", "1", counted.count_total),
            row("bytes allocated of a record", "B", counted.bytes_total),
        ])
    }
}
