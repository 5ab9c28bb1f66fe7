//! Where a stage begins anew: a place in its topic, or a slot.
//!
//! Invariant: behind the place that is found for a slot lies everything of that slot and of later
//! ones.

use std::{collections::BTreeMap, str::FromStr};

use semel_schemas::{
    codec, header,
    progress::{PROGRESS, Progress},
    time::Slot,
    topic::{NextOffset, Partition, TopicName},
};
use serde::{Deserialize, Serialize};

use super::super::{Stop, View, consume::Cursor, place::Place, view::now};
use crate::log::Isolation;

/// A place in a topic, or a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// A place, found in each partition.
    Place(Place),
    /// The first record of this slot or a later one.
    Slot(Slot),
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(slot) = text.strip_prefix("slot:") {
            let slot =
                slot.parse().map_err(|_| format!("`{slot}` is no slot: say `slot:432000`"))?;
            return Ok(Self::Slot(Slot(slot)));
        }
        let place = text.parse().map_err(|error: String| format!("{error}, or `slot:432000`"))?;
        Ok(Self::Place(place))
    }
}

/// The place in one partition, and the partition's end.
pub(super) fn find(
    view: &View,
    topic: &TopicName,
    partition: Partition,
    to: To,
) -> Result<(NextOffset, NextOffset), Stop> {
    let mut reader = view.log.reader(Isolation::Committed)?;
    let (first, end) = reader.bounds(topic, partition)?;
    let place = match to {
        To::Place(Place::Offset(offset)) if !(first..=end).contains(&NextOffset(offset)) => {
            return Err(Stop::Refused(format!(
                "{topic}/{partition} holds offsets {first} to {end}, and not {offset}"
            )));
        }
        To::Place(place) => place.offset(&mut *reader, (topic, partition), (first, end), now())?,
        To::Slot(slot) => {
            let mut seen = Seen::default();
            if first < end {
                let mut cursor = Cursor::open(reader, (topic, partition), (first, end))?;
                while let Some(record) = cursor.take()? {
                    if record.headers.get_str(header::TYPE) == Some(PROGRESS)
                        && let Ok(progress) =
                            codec::decode(PROGRESS, record.value.as_deref().unwrap_or_default())
                    {
                        seen.hear(&progress, record.next(), slot);
                    }
                }
            }
            seen.place(first, slot).map_err(|text| {
                Stop::Refused(format!("{topic}/{partition}: {text}; say a time or an offset"))
            })?
        }
    };
    Ok((place, end))
}

/// What sources said of their progress, so far.
#[derive(Default)]
struct Seen(BTreeMap<String, Source>);

#[derive(Default)]
struct Source {
    /// Behind the last progress that does not reach the slot, before the first one that does.
    before: Option<NextOffset>,
    reached: bool,
}

impl Seen {
    fn hear(&mut self, progress: &Progress, next: NextOffset, slot: Slot) {
        let source = self.0.entry(progress.source.clone()).or_default();
        if progress.complete >= slot {
            source.reached = true;
        } else if !source.reached {
            source.before = Some(next);
        }
    }

    /// The least of all sources: what the others wrote before is taken again.
    fn place(&self, first: NextOffset, slot: Slot) -> Result<NextOffset, String> {
        if self.0.is_empty() {
            return Err("no source writes progress here, so slots have no place".to_owned());
        }
        if let Some((name, _)) = self.0.iter().find(|(_, source)| !source.reached) {
            return Err(format!("source `{name}` has not come to slot {slot}"));
        }
        let places = self.0.values().map(|source| source.before.unwrap_or(first));
        Ok(places.min().unwrap_or(first))
    }
}

#[cfg(test)]
mod tests {
    use semel_schemas::time::WallTime;

    use super::*;

    #[test]
    fn a_slot_lies_behind_the_last_progress_before_it() {
        let mut seen = Seen::default();
        let mut hear = |source: &str, complete, next| {
            let (complete, at) = (Slot(complete), WallTime(0));
            let progress = Progress { source: source.into(), complete, finalized: Slot(0), at };
            seen.hear(&progress, NextOffset(next), Slot(100));
        };
        hear("a", 90, 5);
        hear("a", 99, 9);
        hear("b", 50, 7);
        hear("a", 100, 12);
        // A node that is behind: what it says later moves nothing.
        hear("a", 98, 14);
        hear("b", 120, 15);
        assert_eq!(seen.place(NextOffset(2), Slot(100)), Ok(NextOffset(7)));
        seen.hear(
            &Progress {
                source: "c".into(),
                complete: Slot(7),
                finalized: Slot(0),
                at: WallTime(0),
            },
            NextOffset(20),
            Slot(100),
        );
        assert!(seen.place(NextOffset(2), Slot(100)).unwrap_err().contains("source `c`"));
        assert!(Seen::default().place(NextOffset(0), Slot(1)).is_err());
    }

    #[test]
    fn places_are_said_as_elsewhere_and_slots_by_name() {
        assert_eq!("slot:7".parse(), Ok(To::Slot(Slot(7))));
        assert_eq!("earliest".parse(), Ok(To::Place(Place::Earliest)));
        assert_eq!("17".parse(), Ok(To::Place(Place::Offset(17))));
        for text in ["slot:x", "yesterday"] {
            assert!(text.parse::<To>().unwrap_err().contains("slot:432000"), "{text}");
        }
    }
}
