//! `epoch_batch`: claims of one channel and epoch become one batch, in the order of the chain.
//!
//! A claim waits, `pending`, in the batch of its (channel, epoch). An epoch closes for the whole
//! task once finalized progress has passed its last slot and the threshold has gone by since that
//! was first seen; also for channels that had no claim in it. Then its batches go out in chunks,
//! their claims become `included`, and `settled` when their root's settlement comes back.
//!
//! Invariants: leaves stand in the order (slot, transaction, instruction, claim id), never of
//! arrival. No batch has more claims than its root's program takes. What goes out with a batch is
//! final. A closed epoch never changes: what comes late goes to the first open epoch that has room,
//! or is refused. A claim is called `included` only in the step that emits
//! its leaf. A step emits at most `max_outputs` records. State of a claim ends with its settlement,
//! or `keep_unsettled_epochs` after its epoch.
//!
//! Lives here: what a record or progress changes. `work.rs` has what goes on by timers, `layout.rs`
//! the bytes of the state.

mod layout;
mod work;

use semel_schemas::{
    attention,
    claim::{self, Claim, ClaimRetracted, ClaimState, ClaimStatus, Settlement, SettlementStatus},
    codec,
    fault::{Fault, FaultCode},
    sabotage::{Sabotage, sabotaged},
    time::{Epoch, Slot, WallTime},
};
use serde::Deserialize;

use self::layout::{
    BATCHES, CLAIMS, ENDINGS, Ending, IDS, INCLUDED, Meta, OpenBatch, PASSED, arrival_key,
    batch_key, claim_key, id_key, place_of,
};
use crate::{
    field,
    operator::{Context, Envelope, EventTime, Input, Operator, StoreDecl, TimerKey, To},
};

/// Longest channel and claim id in bytes: with the program's own limits they bound a chunk's size.
pub const TEXT_BYTES_MAX: usize = 256;

/// What becomes of a claim whose epoch is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// It counts in the first epoch that is still open.
    NextEpoch,
    /// It is refused, with [`FaultCode::Late`].
    DeadLetter,
}

/// Settings of `epoch_batch`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Length of an epoch in slots (EPOCH_DURATION_SLOTS), at least 1.
    pub epoch_duration_slots: u64,
    /// Wall-clock seconds between the first sight of an epoch's end as final and its closing
    /// (FINALIZE_THRESHOLD_SECS).
    pub finalize_threshold_secs: u64,
    /// What becomes of a claim whose epoch is closed.
    pub late: Late,
    /// Most claims of one channel and epoch, at least 1: the program refuses a root with more, for
    /// ever. What comes when a batch is full counts in the channel's next epoch that has room; with
    /// `late = "dead_letter"` it is refused.
    pub max_claims: u32,
    /// Most records that one step emits, at least 2.
    pub max_outputs: usize,
    /// Epochs after which the state of claims whose root was never settled is deleted; a settlement
    /// after that no longer makes them `settled`.
    pub keep_unsettled_epochs: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epoch_duration_slots: 432_000,
            finalize_threshold_secs: 300,
            late: Late::NextEpoch,
            max_claims: attention::CHANNEL_MAX_CLAIMS.into(),
            max_outputs: 500,
            keep_unsettled_epochs: 512,
        }
    }
}

/// The operator.
#[derive(Debug)]
pub struct EpochBatch {
    settings: Settings,
}

impl EpochBatch {
    /// The operator with its settings.
    ///
    /// # Errors
    /// A sentence that names the setting which is out of its range.
    pub fn new(settings: Settings) -> Result<Self, String> {
        if settings.epoch_duration_slots == 0 {
            return Err("`epoch_duration_slots` is 0: an epoch lasts at least 1 slot".into());
        }
        if settings.max_outputs < 2 {
            return Err("`max_outputs` must be at least 2: a claim and the chunk it is in".into());
        }
        if settings.max_claims == 0 {
            return Err("`max_claims` is 0: a batch holds at least 1 claim".into());
        }
        Ok(Self { settings })
    }

    fn claim(&self, ctx: &mut Context<'_>, record: &Envelope) -> Result<(), Fault> {
        let claim: Claim = codec::decode(claim::CLAIM, field::bytes(record)?)?;
        match check(&claim, &record.key) {
            Err(_) if sabotaged(Sabotage::ClaimUnchecked) => {}
            Err(fault) if sabotaged(Sabotage::RefusedLeavesState) => {
                return self.admit(ctx, claim).and(Err(fault));
            }
            checked => checked?,
        }
        self.admit(ctx, claim)
    }

    /// Takes a claim into its batch.
    fn admit(&self, ctx: &mut Context<'_>, claim: Claim) -> Result<(), Fault> {
        let id = id_key(&claim.channel, &claim.claim_id);
        if let Some(taken) = ctx.get(IDS, &id) {
            return same_again(ctx, &claim, &taken);
        }
        let own = self.epoch_for(ctx, &claim)?;
        let (epoch, open) = self.with_room(ctx, own, &claim)?;
        ctx.count("epoch_batch.moved_on", u64::from(epoch != own));
        let batch = batch_key(epoch, &claim.channel);
        let open = open.with(&claim).ok_or_else(|| {
            Fault::new(
                FaultCode::Overflow,
                format!(
                    "claim `{}` does not fit batch {}: amounts add up to more than \
                     18446744073709551615, or there are too many claims",
                    claim.claim_id,
                    claim::root_id(&claim.channel, epoch)
                ),
            )
        })?;
        let key = match sabotaged(Sabotage::LeavesInOrderOfArrival) {
            true => arrival_key(&claim, epoch, open.count),
            false => claim_key(&claim, epoch),
        };
        ctx.put_json(BATCHES, &batch, &open);
        ctx.put_json(CLAIMS, &key, &claim);
        ctx.put(IDS, &id, key);
        ctx.count("epoch_batch.claims", 1);
        let state = ClaimState { claim, status: ClaimStatus::Pending, epoch, leaf_index: None };
        emit_state(ctx, &state);
        Ok(())
    }

    /// The first epoch, from this one on, whose batch has room for the claim; and that batch.
    fn with_room(
        &self,
        ctx: &Context<'_>,
        mut epoch: Epoch,
        claim: &Claim,
    ) -> Result<(Epoch, OpenBatch), Fault> {
        loop {
            let batch = batch_key(epoch, &claim.channel);
            let open: OpenBatch = ctx.get_json(BATCHES, &batch).unwrap_or_default();
            if open.count < self.settings.max_claims {
                return Ok((epoch, open));
            }
            let next = epoch.0.checked_add(1).filter(|_| self.settings.late == Late::NextEpoch);
            let Some(next) = next else {
                return Err(Fault::new(
                    FaultCode::Overflow,
                    format!(
                        "claim `{}` finds batch {} full: it holds {} claims (`max_claims`); with \
                         `late = \"next_epoch\"` it would count in the next",
                        claim.claim_id,
                        claim::root_id(&claim.channel, epoch),
                        open.count
                    ),
                ));
            };
            epoch = Epoch(next);
        }
    }

    /// The epoch that a new claim counts in.
    fn epoch_for(&self, ctx: &mut Context<'_>, claim: &Claim) -> Result<Epoch, Fault> {
        let own = Epoch::of(claim.slot, self.settings.epoch_duration_slots);
        let late = |closed: &Epoch| own <= *closed && !sabotaged(Sabotage::LateClaimInClosedEpoch);
        let Some(closed) = Meta::read(ctx).closed.filter(late) else {
            return Ok(own);
        };
        match self.settings.late {
            Late::NextEpoch => {
                ctx.count("epoch_batch.late", 1);
                Ok(Epoch(closed.0.saturating_add(1)))
            }
            Late::DeadLetter => Err(Fault::new(
                FaultCode::Late,
                format!(
                    "claim `{}` of slot {} is late: its epoch {own} is closed (up to {closed}); \
                     with `late = \"next_epoch\"` it would count in the next",
                    claim.claim_id, claim.slot
                ),
            )),
        }
    }

    fn retract(&self, ctx: &mut Context<'_>, record: &Envelope) -> Result<(), Fault> {
        let value = field::bytes(record)?;
        let gone: ClaimRetracted = codec::decode(claim::CLAIM_RETRACTED, value)?;
        let closed = Meta::read(ctx).closed;
        let is_final = |slot: Slot| {
            let finalized = ctx.event_time().finalized;
            finalized.is_some_and(|f| slot <= f) && !sabotaged(Sabotage::FinalRetractionTaken)
        };
        let id = id_key(&gone.channel, &gone.claim_id);
        let Some(key) = ctx.get(IDS, &id) else {
            let epoch = Epoch::of(gone.slot, self.settings.epoch_duration_slots);
            let late = closed.is_some_and(|closed| epoch <= closed);
            return Err(if late { of_final(&gone) } else { of_unknown(&gone) });
        };
        let claim: Option<Claim> = ctx.get_json(CLAIMS, &key);
        let Some(claim) = claim.filter(|claim| claim.fact() == gone.fact) else {
            return Err(of_unknown(&gone));
        };
        let epoch = place_of(&key, &claim.channel);
        if is_final(claim.slot) || closed.is_some_and(|closed| epoch <= closed) {
            return Err(of_final(&gone));
        }
        if !sabotaged(Sabotage::RetractionKeepsClaim) {
            let batch = batch_key(epoch, &claim.channel);
            let open: OpenBatch = ctx.get_json(BATCHES, &batch).unwrap_or_default();
            match open.without(&claim) {
                Some(open) => ctx.put_json(BATCHES, &batch, &open),
                None => ctx.delete(BATCHES, &batch),
            }
            ctx.delete(CLAIMS, &key);
            ctx.delete(IDS, &id);
        }
        ctx.count("epoch_batch.retracted", 1);
        let to = To::Output("claims");
        ctx.emit(to, claim::CLAIM_RETRACTED, gone.claim_id.as_bytes(), Some(value.to_vec()));
        Ok(())
    }

    fn settlement(&self, ctx: &mut Context<'_>, record: &Envelope) -> Result<(), Fault> {
        let settlement: Settlement = codec::decode(claim::SETTLEMENT, field::bytes(record)?)?;
        if settlement.status != SettlementStatus::Confirmed {
            return Ok(());
        }
        let key = batch_key(settlement.epoch, &settlement.channel);
        if ctx.get(INCLUDED, &key).is_some() {
            if ctx.get(ENDINGS, &key).is_none() {
                ctx.put_json(ENDINGS, &key, &Ending::settled());
                self.go_on(ctx);
            }
            return Ok(());
        }
        let closed = Meta::read(ctx).closed.is_some_and(|closed| settlement.epoch <= closed);
        if closed && ctx.get(BATCHES, &key).is_none() {
            // Said before: its claims are settled and their state is gone.
            ctx.count("epoch_batch.settled_again", 1);
            return Ok(());
        }
        Err(Fault::new(
            FaultCode::UnknownTarget,
            format!("root {} is settled, but its batch never went out", settlement.root_id),
        ))
    }

    /// Notes that finalized progress has passed the end of an epoch.
    fn progress(&self, ctx: &mut Context<'_>, event_time: EventTime) {
        let duration = self.settings.epoch_duration_slots;
        let passed_by = match sabotaged(Sabotage::EpochClosesBeforeFinality) {
            true => event_time.complete,
            false => event_time.finalized,
        };
        let Some(passed) = passed_by
            .and_then(|slot| (slot.0.saturating_add(1) / duration).checked_sub(1))
            .map(Epoch)
        else {
            return;
        };
        let mut meta = Meta::read(ctx);
        if meta.passed >= Some(passed) {
            return;
        }
        meta.passed = Some(passed);
        meta.write(ctx);
        let first = ctx.scan(PASSED, &[], &[], 1).is_empty();
        ctx.put_json(PASSED, &passed.0.to_be_bytes(), &ctx.now());
        if first {
            self.close_at(ctx, ctx.now());
        }
    }

    /// Sets the timer for the closing of epochs that were first seen as final at `seen`.
    fn close_at(&self, ctx: &mut Context<'_>, seen: WallTime) {
        let at = seen.plus_ms(self.settings.finalize_threshold_secs.saturating_mul(1000));
        ctx.set_timer(TimerKey::wall(work::CLOSE), at.0, Vec::new());
    }

    /// Goes on with the work at once, in a step of its own.
    fn go_on(&self, ctx: &mut Context<'_>) {
        ctx.set_timer(TimerKey::wall(work::WORK), ctx.now().0, Vec::new());
    }
}

impl Operator for EpochBatch {
    fn name(&self) -> &'static str {
        "epoch_batch"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        layout::STORES
    }

    fn takes(&self, kind: &str) -> bool {
        [claim::CLAIM, claim::CLAIM_RETRACTED, claim::SETTLEMENT].contains(&kind)
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["claims", "epochs"]
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Record(record) => match record.kind.as_str() {
                claim::CLAIM => self.claim(ctx, &record),
                claim::CLAIM_RETRACTED => self.retract(ctx, &record),
                claim::SETTLEMENT => self.settlement(ctx, &record),
                _ => {
                    ctx.forward(record);
                    Ok(())
                }
            },
            Input::Progress(event_time) => {
                self.progress(ctx, event_time);
                Ok(())
            }
            Input::Timer { key, .. } => {
                match key.name.as_str() {
                    work::CLOSE => self.close(ctx),
                    work::WORK => self.work(ctx),
                    _ => {}
                }
                Ok(())
            }
            Input::Begin | Input::Outcome { .. } => Ok(()),
        }
    }
}

/// Refuses what would spoil a batch.
fn check(claim: &Claim, key: &[u8]) -> Result<(), Fault> {
    let wrong = |text: String| Err(Fault::new(FaultCode::WrongType, text));
    for (name, text, max) in [
        ("channel", &claim.channel, TEXT_BYTES_MAX),
        ("claim_id", &claim.claim_id, TEXT_BYTES_MAX),
        ("id", &claim.id, claim::ID_BYTES_MAX),
    ] {
        if text.is_empty() {
            return wrong(format!("field `{name}` is empty: give the claim's {name}"));
        }
        if text.len() > max {
            return wrong(format!(
                "field `{name}` has {} bytes: at most {max} are allowed",
                text.len()
            ));
        }
    }
    if claim.channel.bytes().any(|b| b.is_ascii_uppercase()) {
        return wrong(format!("channel `{}` is not in lower case", claim.channel));
    }
    // The key decides which task holds the batch: two batches of one channel would be two roots.
    if key != claim.channel.as_bytes() {
        return wrong(format!(
            "the record's key `{}` is not its channel `{}`: key claims by channel",
            String::from_utf8_lossy(key),
            claim.channel
        ));
    }
    Ok(())
}

/// A claim whose id is in a batch already: the same fact changes nothing, another one is refused.
fn same_again(ctx: &mut Context<'_>, claim: &Claim, taken: &[u8]) -> Result<(), Fault> {
    let before: Option<Claim> = ctx.get_json(CLAIMS, taken);
    if before.is_some_and(|before| before.fact() == claim.fact()) {
        ctx.count("epoch_batch.repeated", 1);
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::DuplicateId,
        format!(
            "claim id `{}` is in a batch of channel `{}` by another fact than {}: put `dedupe` \
             before this operator",
            claim.claim_id,
            claim.channel,
            claim.fact()
        ),
    ))
}

fn of_final(gone: &ClaimRetracted) -> Fault {
    Fault::new(
        FaultCode::RetractionOfFinal,
        format!(
            "claim `{}` (fact {}, slot {}) is retracted, but its slot is final or its epoch \
             closed: find out what the source saw",
            gone.claim_id, gone.fact, gone.slot
        ),
    )
}

fn of_unknown(gone: &ClaimRetracted) -> Fault {
    Fault::new(
        FaultCode::RetractionOfUnknown,
        format!("no open batch holds claim `{}` by fact {}", gone.claim_id, gone.fact),
    )
}

fn emit_state(ctx: &mut Context<'_>, state: &ClaimState) {
    ctx.emit_json(To::Output("claims"), claim::CLAIM_STATE, &state.claim.claim_id, state);
}

#[cfg(test)]
mod tests;
