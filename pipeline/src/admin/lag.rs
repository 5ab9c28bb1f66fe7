//! `lag`: how far each stage and sink has come, partition by partition, against the last stable
//! offset, so that what others have not decided yet counts for nobody.
//!
//! What this process does with a partition is told only while it owns it: a partition that was
//! given up has no such row any more.

use std::{collections::BTreeMap, time::Duration};

use semel_schemas::topic::{NextOffset, Partition};
use serde::{Deserialize, Serialize};

use super::{
    Stop, View,
    file::{self, FileRow},
    view::{Part, bounds},
};
use crate::{
    engine::status::TaskStatus,
    log::{Isolation, LogError, Reader},
};

/// Offsets between a group and the end that are looked at one by one: on Kafka they may be markers.
const COUNTED_MAX: u64 = 64;

/// Of whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// Only of this stage or sink.
    pub of: Option<String>,
}

/// One partition of one stage or sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagRow {
    /// Stage or sink.
    pub name: String,
    /// Consumer group.
    pub group: String,
    /// Topic that it reads.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// What the group has committed; none: nothing yet.
    pub committed: Option<u64>,
    /// The last stable offset.
    pub end: u64,
    /// Offsets between the two.
    pub lag: u64,
    /// What the process that was asked does with it, if it is the owner.
    pub here: Option<Here>,
    /// Of a source that reads a file: how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileRow>,
}

/// What a process does with a partition that it owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// It is being restored.
    pub restoring: bool,
    /// What was there at the start is worked up.
    pub caught_up: bool,
    /// It waits for a decision about quarantined keys.
    pub paused: bool,
    /// Effects under way.
    pub effects: usize,
}

impl From<TaskStatus> for Here {
    fn from(status: TaskStatus) -> Self {
        Self {
            restoring: status.restoring,
            caught_up: status.caught_up,
            paused: status.paused,
            effects: status.effects,
        }
    }
}

/// Looks at every partition of every stage and sink, or of one.
///
/// # Errors
/// [`Stop`]; topics that do not exist yet have no rows.
pub fn lag(view: &View, ask: &Lag) -> Result<Vec<LagRow>, Stop> {
    if let Some(name) = &ask.of {
        view.part(name)?;
    }
    let here = here(view);
    let mut reader = view.log.reader(Isolation::Committed)?;
    let mut rows = Vec::new();
    for part in view.parts().filter(|part| ask.of.as_deref().is_none_or(|n| n == part.name())) {
        if view.log.topic(&part.input().name)?.is_some() {
            rows.extend(rows_of(view, part, &mut *reader, &here)?);
        }
    }
    Ok(rows)
}

type Owned = BTreeMap<(String, Partition), TaskStatus>;

fn here(view: &View) -> Owned {
    let Some(live) = &view.live else { return Owned::new() };
    let lanes = live.status.read().into_values();
    lanes
        .flat_map(|(name, tasks)| tasks.into_iter().map(move |(p, task)| ((name.clone(), p), task)))
        .collect()
}

fn rows_of(
    view: &View,
    part: Part<'_>,
    reader: &mut dyn Reader,
    here: &Owned,
) -> Result<Vec<LagRow>, Stop> {
    let topic = part.input();
    let mut file = match part {
        Part::Stage(stage) => file::of(view, stage)?,
        Part::Sink(_) => None,
    };
    // Before the ends: what is committed meanwhile must not make a lag below zero look like one.
    let committed = view.log.committed(part.group(), &topic.name)?;
    let mut rows = Vec::new();
    for (partition, (first, end)) in (0..).map(Partition).zip(bounds(reader, topic)?) {
        let at = committed.get(&partition).copied();
        let from = at.unwrap_or(first).max(first);
        let gap = end.0.saturating_sub(from.0);
        let lag = match gap {
            0 => 0,
            1..=COUNTED_MAX => {
                reader.seek(&topic.name, partition, from)?;
                count(reader, end)?
            }
            gap => gap,
        };
        rows.push(LagRow {
            name: part.name().to_owned(),
            group: part.group().to_owned(),
            topic: topic.name.to_string(),
            partition: partition.0,
            committed: at.map(|at| at.0),
            end: end.0,
            lag,
            here: here.get(&(part.name().to_owned(), partition)).copied().map(Here::from),
            // A source has one partition.
            file: file.take(),
        });
    }
    Ok(rows)
}

/// Records before `end`, from where the reader stands.
fn count(reader: &mut dyn Reader, end: NextOffset) -> Result<u64, LogError> {
    let mut count = 0;
    while reader.position()? < end {
        let records = reader.read(16, Duration::from_millis(200))?;
        count += records.iter().filter(|record| record.next() <= end).count() as u64;
    }
    Ok(count)
}
