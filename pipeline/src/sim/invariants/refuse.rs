//! REFUSE: what is not accepted is refused with a reason before any effect, and leaves no state
//! behind.
//!
//! Judged by the mark that each unreadable record bears: it stands in the input and in one dead
//! letter with a code and a sentence, and nowhere else, in no topic, no changelog and no table.

use semel_schemas::{header, record::Record, topic::TopicName};

use super::{Check, Ledger, News, Scene};
use crate::{sim::samples::POISON, sim::topic, spec::plan::Plan};

/// See the module.
#[derive(Debug)]
pub(super) struct Refuse {
    letters: Option<TopicName>,
    tables: Vec<String>,
}

impl Refuse {
    pub(super) fn new(plan: &Plan) -> Self {
        let tables = plan.sinks.iter().flat_map(|sink| &sink.mapping.tables);
        Self {
            letters: topic(plan, "dead-letter"),
            tables: tables.map(|table| table.table.clone()).collect(),
        }
    }
}

fn marked(bytes: Option<&[u8]>) -> bool {
    let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| text.contains(POISON))
}

fn is_marked(record: &Record) -> bool {
    marked(record.value.as_deref()) || marked(record.key.as_deref())
}

impl Check for Refuse {
    fn id(&self) -> &'static str {
        "REFUSE"
    }

    fn step(&mut self, scene: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        for record in &news.records {
            if Some(&record.topic) == self.letters.as_ref() {
                let code = record.headers.get_str(header::FAULT).unwrap_or_default();
                let reason = record.headers.get_str(header::FAULT_TEXT).unwrap_or_default();
                if !code.starts_with("SEM-") || reason.is_empty() {
                    return Err(format!("the dead letter {} has no reason", record.origin()));
                }
            } else if record.topic != scene.place.topic && is_marked(record) {
                return Err(format!(
                    "a refused record left a trace at {}: {}",
                    record.origin(),
                    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default())
                ));
            }
        }
        Ok(())
    }

    fn end(&mut self, scene: &mut Scene<'_>, _: &Ledger) -> Result<(), String> {
        for table in &self.tables {
            let rows = scene.database.rows(table);
            let cells = rows.values().flat_map(|row| row.values().flatten());
            if let Some(cell) = cells.into_iter().find(|cell| cell.contains(POISON)) {
                return Err(format!("a refused record left a trace in table {table}: {cell}"));
            }
        }
        Ok(())
    }
}
