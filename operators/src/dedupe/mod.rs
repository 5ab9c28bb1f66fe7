//! `dedupe`: lets the first record of an id through, and takes that back if its fact is retracted.
//!
//! The identity of a record is a list of its fields; the fact behind it is another. As long as the
//! fact that admitted an id is not final, the records that were dropped in its favour are kept: a
//! retraction of the admitting fact goes downstream, and right behind it the record that would have
//! been admitted had the fact never been seen.
//!
//! Invariants: no record is taken for new whose id may have been forgotten: what is older than
//! finalized event time minus the window is refused as too old, and an id is forgotten only when all
//! its facts, the dropped ones among them, are behind that line, which never goes back. Downstream
//! always holds, of the facts that stand, the one that came first. State ends: ids behind the window
//! and dropped records at finality, a few in a step.
//!
//! The identity does not include the record's key: choose a key that equal ids share, or two tasks
//! will each admit one.
//!
//! Lives here: the decisions. `layout.rs` has the bytes of the state.

mod layout;

use semel_schemas::{
    fault::{Fault, FaultCode},
    sabotage::{Sabotage, sabotaged},
    time::Slot,
    verdict::{self, Duplicate},
};
use serde::Deserialize;

use self::layout::{Dropped, Entry, Ids, Meta, Page};
use crate::{
    field::{self, FieldPath, digest},
    operator::{Context, Envelope, Input, Operator, StoreDecl, TimerKey, To},
};

/// Timer: the oldest id leaves the window.
const EXPIRE: &str = "dedupe.expire";
/// Timer: an admitting fact becomes final.
const SETTLE: &str = "dedupe.settle";

/// Settings of `dedupe`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The type of the records, for example `claim`.
    pub record: String,
    /// The type of their retractions, if there are any: they bear the fields of `id` and `slot`,
    /// and name the fact in `retraction_fact`.
    #[serde(default)]
    pub retraction: Option<String>,
    /// The fields that make the identity, at least one.
    pub id: Vec<FieldPath>,
    /// The fields that name the fact behind a record. Without any, each record is its own fact.
    #[serde(default)]
    pub fact: Vec<FieldPath>,
    /// The field of a retraction that names the fact: its parts joined by `:`.
    #[serde(default = "default_retraction_fact")]
    pub retraction_fact: FieldPath,
    /// The field that holds the slot.
    #[serde(default = "default_slot")]
    pub slot: FieldPath,
    /// For how many slots, counted back from finalized event time, an id is remembered.
    pub window_slots: u64,
    /// Most dropped records that are kept for one id until it is final; one more is refused.
    #[serde(default = "default_max_dropped")]
    pub max_dropped: usize,
    /// Most keys that one step forgets.
    #[serde(default = "default_max_forget")]
    pub max_forget: usize,
}

fn path(text: &str) -> FieldPath {
    FieldPath::try_from(text.to_owned()).expect("a name without dots is a path")
}

fn default_retraction_fact() -> FieldPath {
    path("fact")
}

fn default_slot() -> FieldPath {
    path("slot")
}

fn default_max_dropped() -> usize {
    16
}

fn default_max_forget() -> usize {
    500
}

/// The operator.
#[derive(Debug)]
pub struct Dedupe {
    settings: Settings,
}

/// What a record or a retraction says of itself.
struct Claimed {
    id_texts: Vec<String>,
    fact_text: String,
    slot: Slot,
}

impl Dedupe {
    /// The operator with its settings.
    ///
    /// # Errors
    /// A sentence that names the setting which is out of its range.
    pub fn new(settings: Settings) -> Result<Self, String> {
        if settings.id.is_empty() {
            return Err("`id` is empty: name at least one field that makes the identity".into());
        }
        if settings.retraction.is_some() && settings.fact.is_empty() {
            return Err("`retraction` needs `fact`: name the fields that a retraction cites".into());
        }
        if settings.retraction.as_ref() == Some(&settings.record) {
            return Err("`record` and `retraction` are the same type".into());
        }
        if settings.max_forget == 0 {
            return Err("`max_forget` is 0: at least one key a step must be forgotten".into());
        }
        Ok(Self { settings })
    }

    fn admit(&self, ctx: &mut Context<'_>, record: Envelope) -> Result<(), Fault> {
        let (id, fact) = (&self.settings.id, &self.settings.fact);
        let value =
            field::json_at(&record, &[id, fact, std::slice::from_ref(&self.settings.slot)])?;
        let id_texts = field::texts(&self.settings.id, &value)?;
        let fact_text = match self.settings.fact.as_slice() {
            [] => record.id.clone(),
            paths => field::texts(paths, &value)?.join(":"),
        };
        let slot = self.settings.slot.slot(&value)?;
        let (id, fact) = (digest(&id_texts), digest(&[&fact_text]));
        let claimed = Claimed { id_texts, fact_text, slot };
        let mut meta = Meta::read(ctx);
        if slot < self.horizon(ctx, &meta) && !sabotaged(Sabotage::TooOldTaken) {
            return Err(Fault::new(
                FaultCode::TooOld,
                format!(
                    "slot {slot} is more than {} slots behind the finalized slot: whether id `{}` \
                     is new cannot be known",
                    self.settings.window_slots,
                    claimed.id_texts.join(":")
                ),
            ));
        }
        let Some(first) = self.current(ctx, &mut meta, &id) else {
            Ids::list(ctx, &id, &Entry { slot, until: slot, fact });
            self.expire_at(ctx, &mut meta, slot);
            meta.write(ctx);
            ctx.count("dedupe.admitted", 1);
            ctx.forward(record);
            return Ok(());
        };
        if slot > first.until && !sabotaged(Sabotage::WindowForgetsEarly) {
            Ids::list(ctx, &id, &Entry { until: slot, ..first });
        }
        let stands = is_final(ctx, first.slot) || self.settings.retraction.is_none();
        let dropped = match stands || first.fact == fact {
            true => None,
            false => Some(Dropped::all(ctx, &id, self.settings.max_dropped))
                .filter(|all| all.iter().all(|(_, dropped)| dropped.fact.0 != fact)),
        };
        if dropped.as_ref().is_some_and(|dropped| dropped.len() >= self.settings.max_dropped) {
            // The step stands: the id must be known for as long as a replay of this record may come.
            ctx.refuse(self.no_room(&claimed));
            return Ok(());
        }
        ctx.count("dedupe.duplicates", 1);
        report(ctx, &record, &claimed);
        if let Some(dropped) = dropped {
            let number = dropped.last().map_or(0, |(number, _)| number.saturating_add(1));
            Dropped::put(ctx, &id, number, slot, fact, record);
            if dropped.is_empty() {
                self.settle_at(ctx, &mut meta, &id, first.slot);
            }
            meta.write(ctx);
        }
        Ok(())
    }

    fn no_room(&self, claimed: &Claimed) -> Fault {
        Fault::new(
            FaultCode::DuplicatesFull,
            format!(
                "id `{}` has {} duplicates that wait for finality already (`max_dropped`): replay \
                 this record after that, or raise the limit",
                claimed.id_texts.join(":"),
                self.settings.max_dropped
            ),
        )
    }

    fn retract(&self, ctx: &mut Context<'_>, record: Envelope) -> Result<(), Fault> {
        let value = field::json(&record)?;
        let id_texts = field::texts(&self.settings.id, &value)?;
        let fact_text = self.settings.retraction_fact.text(&value)?;
        let slot = self.settings.slot.slot(&value)?;
        let (id, fact) = (digest(&id_texts), digest(&[&fact_text]));
        let gone = Claimed { id_texts, fact_text, slot };
        let mut meta = Meta::read(ctx);
        let Some(first) = self.current(ctx, &mut meta, &id) else {
            let old = slot < self.horizon(ctx, &meta);
            return Err(if old { of_final(&gone) } else { of_unknown(&gone) });
        };
        if first.fact == fact {
            if is_final(ctx, first.slot) && !sabotaged(Sabotage::FinalRetractionTaken) {
                return Err(of_final(&gone));
            }
            ctx.count("dedupe.retracted", 1);
            if !sabotaged(Sabotage::RetractionNotPassedOn) {
                ctx.forward(record);
            }
            self.promote(ctx, &mut meta, &id, &first);
            meta.write(ctx);
            return Ok(());
        }
        if is_final(ctx, first.slot) {
            // The id is settled for good, so a fact that was dropped (and is kept no more) may go.
            if is_final(ctx, slot) {
                return Err(of_final(&gone));
            }
            ctx.count("dedupe.retracted_duplicates", 1);
            return Ok(());
        }
        let dropped = Dropped::all(ctx, &id, self.settings.max_dropped);
        let Some((number, found)) = dropped.iter().find(|(_, dropped)| dropped.fact.0 == fact)
        else {
            return Err(of_unknown(&gone));
        };
        if is_final(ctx, found.slot) {
            return Err(of_final(&gone));
        }
        Dropped::delete(ctx, &id, *number);
        if dropped.len() == 1 {
            Ids::unwatch(ctx, &id, first.slot);
        }
        ctx.count("dedupe.retracted_duplicates", 1);
        Ok(())
    }

    /// The admitting fact of `id` is gone: the next of the dropped ones takes its place.
    fn promote(&self, ctx: &mut Context<'_>, meta: &mut Meta, id: &[u8; 16], gone: &Entry) {
        Ids::delete(ctx, id);
        Ids::unwatch(ctx, id, gone.slot);
        if sabotaged(Sabotage::DuplicateNotPromoted) {
            return;
        }
        let mut dropped = Dropped::all(ctx, id, self.settings.max_dropped).into_iter();
        let Some((number, next)) = dropped.next() else { return };
        Dropped::delete(ctx, id, number);
        let entry = Entry { slot: next.slot, until: gone.until, fact: next.fact.0 };
        Ids::put(ctx, id, &entry);
        self.expire_at(ctx, meta, entry.until);
        ctx.count("dedupe.promoted", 1);
        ctx.forward(next.record.into());
        let rest: Vec<u32> = dropped.map(|(number, _)| number).collect();
        if is_final(ctx, entry.slot) {
            for number in rest {
                Dropped::delete(ctx, id, number);
            }
        } else if !rest.is_empty() {
            self.settle_at(ctx, meta, id, entry.slot);
        }
    }

    /// The entry of `id`, if it is within the window: how far forgetting has come must make no
    /// difference.
    fn current(&self, ctx: &mut Context<'_>, meta: &mut Meta, id: &[u8; 16]) -> Option<Entry> {
        let entry = Ids::get(ctx, id)?;
        let horizon = self.horizon(ctx, meta);
        let early = sabotaged(Sabotage::WindowForgetsEarly) && is_final(ctx, entry.slot);
        if entry.until < horizon || early {
            meta.horizon = horizon;
            self.forget(ctx, id, &entry);
            return None;
        }
        Some(entry)
    }

    /// The first slot that is not too old. Never goes back, whatever event time does.
    fn horizon(&self, ctx: &Context<'_>, meta: &Meta) -> Slot {
        let now = ctx
            .event_time()
            .finalized
            .map_or(0, |Slot(slot)| slot.saturating_sub(self.settings.window_slots));
        meta.horizon.max(Slot(now))
    }

    /// Sees to it that the timer wakes when an id of `slot` leaves the window.
    fn expire_at(&self, ctx: &mut Context<'_>, meta: &mut Meta, slot: Slot) {
        if meta.expire.is_none_or(|set| slot < set) {
            meta.expire = Some(slot);
            let due = slot.0.saturating_add(self.settings.window_slots).saturating_add(1);
            ctx.set_timer(TimerKey::finalized(EXPIRE), due, Vec::new());
        }
    }

    /// Sees to it that the dropped records of `id` are deleted once `slot` is final.
    fn settle_at(&self, ctx: &mut Context<'_>, meta: &mut Meta, id: &[u8; 16], slot: Slot) {
        Ids::watch(ctx, id, slot);
        if meta.settle.is_none_or(|set| slot < set) {
            meta.settle = Some(slot);
            ctx.set_timer(TimerKey::finalized(SETTLE), slot.0, Vec::new());
        }
    }

    /// Forgets ids behind the window, oldest first.
    fn expire(&self, ctx: &mut Context<'_>) {
        let mut meta = Meta::read(ctx);
        meta.horizon = self.horizon(ctx, &meta);
        let mut left = self.settings.max_forget;
        for page in Page::oldest(ctx, left) {
            let slot = page.slot;
            if slot >= meta.horizon || left == 0 {
                break;
            }
            let ids = page.take(ctx, left);
            left -= ids.len();
            for id in ids {
                // It may have gone by a retraction, or a later duplicate keeps it longer.
                if let Some(entry) = Ids::get(ctx, &id).filter(|entry| entry.until == slot) {
                    self.forget(ctx, &id, &entry);
                }
            }
        }
        meta.expire = None;
        if let Some(page) = Page::oldest(ctx, 1).first() {
            self.expire_at(ctx, &mut meta, page.slot);
        }
        meta.write(ctx);
    }

    /// Forgets an id behind the window. All of it is final: nothing is promoted any more.
    fn forget(&self, ctx: &mut Context<'_>, id: &[u8; 16], entry: &Entry) {
        if Ids::unwatch(ctx, id, entry.slot) {
            self.delete_dropped(ctx, id);
        }
        Ids::delete(ctx, id);
        ctx.count("dedupe.expired", 1);
    }

    /// Deletes the dropped records of ids whose admitting fact is final.
    fn settle(&self, ctx: &mut Context<'_>) {
        let mut meta = Meta::read(ctx);
        let mut deleted = 0;
        for (slot, id) in Ids::watched(ctx, self.settings.max_forget) {
            if !is_final(ctx, slot) || deleted >= self.settings.max_forget {
                break;
            }
            Ids::unwatch(ctx, &id, slot);
            deleted += 1 + self.delete_dropped(ctx, &id);
        }
        meta.settle = None;
        if let Some((slot, id)) = Ids::watched(ctx, 1).first() {
            self.settle_at(ctx, &mut meta, id, *slot);
        }
        meta.write(ctx);
    }

    fn delete_dropped(&self, ctx: &mut Context<'_>, id: &[u8; 16]) -> usize {
        let dropped = Dropped::all(ctx, id, self.settings.max_dropped);
        for (number, _) in &dropped {
            Dropped::delete(ctx, id, *number);
        }
        dropped.len()
    }
}

impl Operator for Dedupe {
    fn name(&self) -> &'static str {
        "dedupe"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        layout::STORES
    }

    fn takes(&self, kind: &str) -> bool {
        kind == self.settings.record || Some(kind) == self.settings.retraction.as_deref()
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["duplicates"]
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Record(record) if record.kind == self.settings.record => {
                return self.admit(ctx, record);
            }
            Input::Record(record) if Some(&record.kind) == self.settings.retraction.as_ref() => {
                return self.retract(ctx, record);
            }
            Input::Record(record) => ctx.forward(record),
            Input::Timer { key, .. } if key.name == EXPIRE => self.expire(ctx),
            Input::Timer { key, .. } if key.name == SETTLE => self.settle(ctx),
            Input::Timer { .. } | Input::Begin | Input::Outcome { .. } | Input::Progress(_) => {}
        }
        Ok(())
    }
}

fn is_final(ctx: &Context<'_>, slot: Slot) -> bool {
    ctx.event_time().finalized.is_some_and(|finalized| slot <= finalized)
}

fn report(ctx: &mut Context<'_>, record: &Envelope, claimed: &Claimed) {
    let duplicate = Duplicate {
        record_id: record.id.clone(),
        id: claimed.id_texts.clone(),
        fact: claimed.fact_text.clone(),
        slot: claimed.slot,
    };
    let value = semel_schemas::codec::encode(&duplicate);
    ctx.emit(To::Output("duplicates"), verdict::DUPLICATE, &record.key, Some(value));
}

fn of_final(gone: &Claimed) -> Fault {
    Fault::new(
        FaultCode::RetractionOfFinal,
        format!(
            "fact {} of id `{}` (slot {}) is retracted, but it is final: find out what the source \
             saw",
            gone.fact_text,
            gone.id_texts.join(":"),
            gone.slot
        ),
    )
}

fn of_unknown(gone: &Claimed) -> Fault {
    Fault::new(
        FaultCode::RetractionOfUnknown,
        format!("fact {} of id `{}` was never seen", gone.fact_text, gone.id_texts.join(":")),
    )
}

#[cfg(test)]
mod tests;
