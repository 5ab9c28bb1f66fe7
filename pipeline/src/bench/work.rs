//! `work`: what the work on one record costs in the task and its operators: from the record as it was
//! read to what a commit takes, and the commit's promotion into the local store. The log is left out,
//! so this is where the engine's own cost is looked at without the noise of a broker.
//!
//! With the Cargo feature `allocations`, which puts a counter before the allocator of the whole
//! program, how often the work asks for memory is counted as well.

use std::time::Instant;

use semel_schemas::{
    header::Headers,
    record::Record,
    time::WallTime,
    topic::{NextOffset, Offset, Partition, TopicId},
};

use super::{
    Given, Row, Spread, Wanted,
    broker::PARTITIONS,
    process, records,
    stage::{self, Stage},
};
use crate::{
    engine::lane::Stores as _,
    engine::{
        overlay::Overlay,
        task::{Task, TaskInput},
    },
    folder::DataFolder,
    host::{DiskStores, PACE},
    state::{Checkpoint, Held, LocalStore, MemStore},
};

/// The clock.
const NOW: WallTime = WallTime(1_700_000_000_000);

/// The tasks of a stage, and where their state is.
struct Work {
    tasks: Vec<Task>,
    id: TopicId,
    promoted: u64,
}

/// Where the state of the tasks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a map.
    Memory,
    /// As in production.
    Disk,
}

impl Work {
    fn new(given: &Given, state: State, run: u64) -> Result<Self, String> {
        let stage = Stage::new(given, stage::TRANSFERS, &format!("work{run}"), "in");
        let (_, plan) = stage.plan(given, "")?;
        let (topology, _) = plan.stages.first().ok_or("the spec has no stage")?.clone();
        let id = TopicId("bench".into());
        let stores = match state {
            State::Memory => None,
            State::Disk => {
                let folder = DataFolder::open(&stage.data).map_err(|e| e.to_string())?;
                Some(DiskStores(LocalStore::within(&folder).map_err(|e| e.to_string())?))
            }
        };
        let tasks = (0..PARTITIONS).map(Partition).map(|partition| {
            let held = match &stores {
                None => Held::new(Box::new(MemStore::default()), usize::MAX),
                Some(stores) => {
                    let store =
                        stores.open(&topology.name, partition).map_err(|e| e.to_string())?;
                    Held::new(store, stores.held_max())
                }
            };
            let state = Overlay::new(held);
            let mut task = Task::new(topology.clone(), partition, state, &id, NextOffset(0))?;
            task.begin(NOW);
            Ok(task)
        });
        Ok(Self { tasks: tasks.collect::<Result<_, String>>()?, id, promoted: 0 })
    }

    /// One transaction: what a lane does, without the log.
    fn transaction(&mut self, inputs: &[(usize, TaskInput)]) -> Result<(), String> {
        for (task, input) in inputs {
            if let Some(task) = self.tasks.get_mut(*task) {
                task.process(input, NOW);
            }
        }
        self.promoted += 1;
        let checkpoint = Checkpoint {
            changelog_next: NextOffset(self.promoted),
            topic_id: self.id.clone(),
            promoted_at: NOW,
        };
        for task in &mut self.tasks {
            std::hint::black_box(task.cut(Some("bench")));
            std::hint::black_box(task.changelog().map(|(key, _)| key.len()).sum::<usize>());
            task.promote(&checkpoint).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// The input: records as a lane takes them, and the number of their task.
fn inputs(given: &Given) -> Result<Vec<(usize, TaskInput)>, String> {
    let stage = Stage::new(given, stage::TRANSFERS, "work", "in");
    let (_, plan) = stage.plan(given, "")?;
    let (topology, _) = plan.stages.first().ok_or("the spec has no stage")?;
    let topic = topology.input.name.clone();
    let mut next = vec![0; PARTITIONS as usize];
    let inputs = records::all(given.scaled(1_000_000, 40_000)).map(|transfer| {
        let partition = transfer.partition(PARTITIONS);
        let task = partition.0 as usize;
        let offset = next.get_mut(task).map_or(0, |next| std::mem::replace(next, *next + 1));
        let record = Record {
            topic: topic.clone(),
            partition,
            offset: Offset(offset),
            timestamp_ms: NOW.0,
            key: Some(transfer.key.into_bytes()),
            value: Some(transfer.value.into_bytes()),
            headers: Headers::new(),
        };
        (task, TaskInput::Record(record))
    });
    Ok(inputs.collect())
}

/// The rows of `work`.
pub(super) fn bench(given: &Given) -> Result<Vec<Row>, String> {
    let inputs = inputs(given)?;
    let mut rows = Vec::new();
    for (state, what) in [
        (State::Disk, "CPU time of a million records, state on disk"),
        (State::Memory, "CPU time of a million records, state in memory"),
    ] {
        let mut runs = Vec::new();
        for run in 1..=given.runs() {
            let mut work = Work::new(given, state, run)?;
            let (before, began) = (process::usage("self")?.cpu_ms, Instant::now());
            for transaction in inputs.chunks(PACE.inputs_max) {
                work.transaction(transaction)?;
            }
            let used = process::usage("self")?.cpu_ms.saturating_sub(before) as f64 / 1e3;
            runs.push(used / (inputs.len() as f64 / 1e6));
            given.say(&format!(
                "{what}, run {run}: {:.2} s, {:.2} s of the clock",
                used,
                began.elapsed().as_secs_f64()
            ));
        }
        rows.push(Row::alone(("work", what), "s", Spread::of(&runs), Wanted::Printed));
    }
    rows.extend(counted(given, &inputs)?);
    Ok(rows)
}

#[cfg(not(feature = "allocations"))]
fn counted(_: &Given, _: &[(usize, TaskInput)]) -> Result<Vec<Row>, String> {
    Ok(Vec::new())
}

/// How often the work asks for memory, and for how much; the local store is left out.
#[cfg(feature = "allocations")]
fn counted(given: &Given, inputs: &[(usize, TaskInput)]) -> Result<Vec<Row>, String> {
    let mut work = Work::new(given, State::Memory, 0)?;
    let mut counted = allocation_counter::AllocationInfo::default();
    for transaction in inputs.chunks(PACE.inputs_max) {
        let mut done = Ok(());
        let info = allocation_counter::measure(|| done = work.transaction(transaction));
        done?;
        counted.count_total += info.count_total;
        counted.bytes_total += info.bytes_total;
    }
    let each = |sum: u64| Spread::from(sum as f64 / inputs.len() as f64);
    let row = |what, unit, sum| Row::alone(("work", what), unit, each(sum), Wanted::Printed);
    Ok(vec![
        row("allocations of a record", "1", counted.count_total),
        row("bytes allocated of a record", "B", counted.bytes_total),
    ])
}
