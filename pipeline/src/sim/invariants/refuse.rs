//! REFUSE: what is not accepted is refused with a reason before any effect, and leaves no state
//! behind.
//!
//! Judged by the mark that each record bears which somebody refuses (the first stage, a later one, a
//! table): it stands in the topics up to there and in a dead letter with a code and a sentence, and
//! nowhere else, in no topic, no changelog of who refused it, and no table.

use std::collections::BTreeSet;

use semel_schemas::{header, record::Record, topic::TopicName};

use super::{Check, Ledger, News, Scene, bears};
use crate::{
    sim::{
        samples::{POISON, ROGUE, UNFIT},
        topic,
    },
    spec::plan::Plan,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Refuse {
    letters: Option<TopicName>,
    /// What the first stage of claims admits, and what it says of duplicates.
    admitted: Option<TopicName>,
    duplicates: Option<TopicName>,
    /// What the table of orders reads.
    ordered: Option<TopicName>,
    tables: Vec<String>,
    /// Places of marked records whose letter is not there yet.
    untold: BTreeSet<String>,
    /// Places that letters name.
    told: BTreeSet<String>,
}

impl Refuse {
    pub(super) fn new(plan: &Plan) -> Self {
        let tables = plan.sinks.iter().flat_map(|sink| &sink.mapping.tables);
        Self {
            letters: topic(plan, "dead-letter"),
            admitted: topic(plan, "claims"),
            duplicates: topic(plan, "duplicates"),
            ordered: topic(plan, "ordered"),
            tables: tables.map(|table| table.table.clone()).collect(),
            untold: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }
}

/// What a mark says of the record that bears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// The first stage refuses it.
    Poison,
    /// The second one does.
    Rogue,
    /// The table does.
    Unfit,
}

fn mark(record: &Record) -> Option<Mark> {
    let has = |mark| bears(record.value.as_deref(), mark) || bears(record.key.as_deref(), mark);
    [(Mark::Poison, POISON), (Mark::Rogue, ROGUE), (Mark::Unfit, UNFIT)]
        .into_iter()
        .find_map(|(mark, text)| has(text).then_some(mark))
}

impl Refuse {
    /// A letter says why, and of what.
    fn letter(&mut self, letter: &Record) -> Result<(), String> {
        let code = letter.headers.get_str(header::FAULT).unwrap_or_default();
        let reason = letter.headers.get_str(header::FAULT_TEXT).unwrap_or_default();
        if !code.starts_with("SEM-") || reason.is_empty() {
            return Err(format!("the dead letter {} has no reason", letter.origin()));
        }
        let place = letter.headers.get_str(header::ORIGIN).unwrap_or_default();
        self.untold.remove(place);
        self.told.insert(place.to_owned());
        Ok(())
    }

    /// A marked record stands in the topics before the one who refuses it, and waits for its
    /// letter there.
    fn marked(&mut self, scene: &Scene<'_>, record: &Record, mark: Mark) -> Result<(), String> {
        let topic = Some(&record.topic);
        let input = record.topic == scene.place.topic;
        let refused = match mark {
            Mark::Poison => input,
            Mark::Rogue if input || topic == self.duplicates.as_ref() => return Ok(()),
            Mark::Rogue => topic == self.admitted.as_ref(),
            // Whatever holds orders may hold such a one; who waits for another one is in the state.
            Mark::Unfit if topic != self.ordered.as_ref() => return Ok(()),
            Mark::Unfit => true,
        };
        if !refused {
            return Err(format!(
                "a refused record left a trace at {}: {}",
                record.origin(),
                String::from_utf8_lossy(record.value.as_deref().unwrap_or_default())
            ));
        }
        if !self.told.contains(&record.origin()) {
            self.untold.insert(record.origin());
        }
        Ok(())
    }
}

impl Check for Refuse {
    fn id(&self) -> &'static str {
        "REFUSE"
    }

    fn step(&mut self, scene: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        for record in &news.records {
            if Some(&record.topic) == self.letters.as_ref() {
                self.letter(record)?;
            } else if let Some(mark) = mark(record) {
                self.marked(scene, record, mark)?;
            }
        }
        Ok(())
    }

    fn unfinished(&mut self, _: &mut Scene<'_>, _: &Ledger) -> Option<String> {
        let place = self.untold.first()?;
        Some(format!("the refused record {place} has no dead letter"))
    }

    fn end(&mut self, scene: &mut Scene<'_>, _: &Ledger) -> Result<(), String> {
        for table in &self.tables {
            let rows = scene.database.rows(table);
            let cells = rows.values().flat_map(|row| row.values().flatten());
            let refused = |cell: &&String| [POISON, ROGUE, "\0"].iter().any(|m| cell.contains(m));
            if let Some(cell) = cells.into_iter().find(refused) {
                return Err(format!("a refused record left a trace in table {table}: {cell}"));
            }
        }
        Ok(())
    }
}
