//! UNDO: until a fact is final, its retraction leaves every downstream fact as if it had never been
//! seen; acts that cannot be undone (close an epoch, sign, settle) wait for the finality of their
//! inputs; a retraction of a final fact stops the key and calls a person.
//!
//! Judged against the model of `admission`: no retraction of a final fact goes on; at every closing of
//! an epoch all of it is final; what is included or settled is the fact that stands; at the end the
//! table holds the facts that stand and no other.

use std::collections::BTreeSet;

use semel_schemas::{
    claim::{CLAIM_RETRACTED, CLAIM_STATE, EPOCH_CLOSED, ROOT},
    record::Record,
    topic::TopicName,
};

use super::{
    Check, Ledger, News, Scene,
    admission::{Admission, Said},
    kind, number, text, value,
};
use crate::{
    sim::{options::Options, samples::Place, topic},
    spec::plan::Plan,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Undo {
    admission: Admission,
    input: TopicName,
    admitted: Option<TopicName>,
    states: Option<TopicName>,
    /// Ids of retractions that nothing may follow from.
    refused: BTreeSet<String>,
    epoch_slots: u64,
}

impl Undo {
    pub(super) fn new(options: &Options, plan: &Plan, place: &Place) -> Self {
        Self {
            admission: Admission::new(place, options.window_slots),
            input: place.topic.clone(),
            admitted: topic(plan, "claims"),
            states: topic(plan, "claim-states"),
            refused: BTreeSet::new(),
            epoch_slots: options.epoch_slots,
        }
    }

    /// Takes an input of the first stage, or what the stage says to one.
    fn take(&mut self, record: &Record) -> Result<(), String> {
        if record.topic == self.input {
            let said = self.admission.take(record);
            let refused = said.iter().any(|said| matches!(said, Said::Refused(_)));
            if refused && kind(record) == CLAIM_RETRACTED {
                self.refused.insert(record.id());
            }
        }
        let on = Some(&record.topic) == self.admitted.as_ref() && kind(record) == CLAIM_RETRACTED;
        if on && self.refused.contains(&record.id()) {
            let fact = text(&value(record), "fact").to_owned();
            return Err(format!("the retraction of fact {fact} goes on, and is to be refused"));
        }
        Ok(())
    }

    /// The least finality over all partitions: event time is no further.
    fn is_final(&self, slot: u64) -> bool {
        self.admission.finalized().is_some_and(|finalized| slot <= finalized)
    }
}

impl Check for Undo {
    fn id(&self) -> &'static str {
        "UNDO"
    }

    fn step(&mut self, scene: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        let input = |record: &&Record| record.topic == scene.place.topic;
        let (inputs, others): (Vec<_>, Vec<_>) = news.records.iter().partition(input);
        for record in inputs.into_iter().chain(others) {
            self.take(record)?;
        }
        // A marker on its way, or an open transaction before it: what an act follows from may be decided and not visible.
        if scene.sim.hides() {
            return Ok(());
        }
        for record in &news.records {
            let value = value(record);
            if [EPOCH_CLOSED, ROOT].contains(&kind(record)) {
                let end = (number(&value, "epoch") + 1) * self.epoch_slots - 1;
                if !self.is_final(end) {
                    return Err(format!(
                        "epoch {} is closed at {}, and slot {end} is not final",
                        number(&value, "epoch"),
                        record.origin()
                    ));
                }
            }
            let state = Some(&record.topic) == self.states.as_ref() && kind(record) == CLAIM_STATE;
            if state && text(&value, "status") != "pending" {
                let (id, status) = (text(&value, "claim_id"), text(&value, "status"));
                let fact = format!("{}:{}", text(&value, "signature"), number(&value, "ix_index"));
                let stands = self.admission.standing(id);
                // What is behind the window is forgotten, and was final long before.
                if stands.is_some_and(|stands| stands != fact) {
                    return Err(format!(
                        "claim {id} is {status} by fact {fact}, and {stands:?} stands"
                    ));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, scene: &mut Scene<'_>, _: &Ledger) -> Result<(), String> {
        let rows = scene.database.rows("claims");
        for (id, fact) in self.admission.all() {
            let signature = fact.split(':').next().unwrap_or_default();
            let row = rows.get(id).and_then(|row| row.get("tx_signature").cloned().flatten());
            if row.as_deref() != Some(signature) {
                return Err(format!(
                    "the row of claim {id} bears the signature {row:?}, and {signature} stands"
                ));
            }
        }
        Ok(())
    }
}
