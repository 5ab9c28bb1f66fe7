//! What `epoch_batch` does by timers: closing epochs, sending batches out, ending their state.
//!
//! Invariant: each step emits at most `max_outputs` records, deletes about as many, and sets the
//! timer again if it stopped for that.

use semel_schemas::{
    claim::{self, Batch, Claim, ClaimState, ClaimStatus, EpochClosed},
    solana::Base64,
    time::{Epoch, WallTime},
};

use super::{
    EpochBatch, emit_state,
    layout::{
        BATCHES, CLAIMS, ENDINGS, Ending, IDS, INCLUDED, Meta, OpenBatch, PASSED, Why, batch_key,
        batch_of, claims_prefix, id_key,
    },
};
use crate::operator::{Context, To, from_state};

/// Timer: the threshold after an epoch's end has gone by.
pub(super) const CLOSE: &str = "epoch.close";
/// Timer: there is work left.
pub(super) const WORK: &str = "epoch.work";
/// Closings taken up in one step.
const CLOSE_MAX: usize = 500;
/// Bytes of claims in one chunk, about half of Kafka's default limit of a record.
const CHUNK_BYTES_MAX: usize = 512 * 1024;

impl EpochBatch {
    /// Closes the epochs whose threshold has gone by.
    pub(super) fn close(&self, ctx: &mut Context<'_>) {
        let threshold_ms = self.settings.finalize_threshold_secs.saturating_mul(1000);
        let mut meta = Meta::read(ctx);
        for (key, seen) in ctx.scan(PASSED, &[], &[], CLOSE_MAX) {
            let seen: WallTime = from_state(PASSED, &seen);
            if seen.plus_ms(threshold_ms) > ctx.now() {
                break;
            }
            ctx.delete(PASSED, &key);
            meta.closed = meta.closed.max(key.first_chunk().map(|e| Epoch(u64::from_be_bytes(*e))));
        }
        meta.write(ctx);
        if let Some((_, seen)) = ctx.scan(PASSED, &[], &[], 1).first() {
            self.close_at(ctx, from_state(PASSED, seen));
        }
        self.go_on(ctx);
    }

    /// One step of what is left to do, oldest epoch first.
    pub(super) fn work(&self, ctx: &mut Context<'_>) {
        let mut meta = Meta::read(ctx);
        let Some(closed) = meta.closed else { return };
        let mut left = self.announce(ctx, &mut meta, closed, self.settings.max_outputs);
        while left >= 2 {
            match self.send(ctx, closed, left) {
                Some(emitted) => left -= emitted,
                None => break,
            }
        }
        self.forget(ctx, closed);
        while left > 0 {
            match end(ctx, left) {
                Some(deleted) => left -= deleted.min(left),
                None => break,
            }
        }
        if left < 2 {
            self.go_on(ctx);
        }
    }

    /// Tells the closing of each epoch, once. Before the first one it begins with the first epoch
    /// that has claims: nobody waits for the epochs before the pipeline.
    fn announce(
        &self,
        ctx: &mut Context<'_>,
        meta: &mut Meta,
        closed: Epoch,
        mut left: usize,
    ) -> usize {
        let first = match meta.announced {
            Some(Epoch(last)) => Epoch(last.saturating_add(1)),
            None => {
                let oldest = ctx.scan(BATCHES, &[], &[], 1);
                oldest.first().map_or(closed, |(key, _)| batch_of(key).0.min(closed))
            }
        };
        let duration = self.settings.epoch_duration_slots;
        for epoch in (first.0..=closed.0).map(Epoch) {
            if left == 0 {
                break;
            }
            left -= 1;
            meta.announced = Some(epoch);
            let told = EpochClosed {
                epoch,
                start_slot: epoch.start(duration),
                end_slot: epoch.end(duration),
                finalized_at: ctx.now(),
            };
            ctx.count("epoch_batch.epochs_closed", 1);
            let to = To::Output("epochs");
            ctx.emit_json(to, claim::EPOCH_CLOSED, &epoch.to_string(), &told);
        }
        meta.write(ctx);
        left
    }

    /// Sends a chunk of the oldest closed batch; gives the number of records emitted, none if no
    /// closed batch is left. `left` is at least 2.
    fn send(&self, ctx: &mut Context<'_>, closed: Epoch, left: usize) -> Option<usize> {
        let (key, value) = ctx.scan(BATCHES, &[], &[], 1).into_iter().next()?;
        let (epoch, channel) = batch_of(&key);
        if epoch > closed {
            return None;
        }
        let mut open: OpenBatch = from_state(BATCHES, &value);
        let prefix = claims_prefix(&channel, epoch);
        let from = if open.last.0.is_empty() { Vec::new() } else { after(&open.last.0) };
        let mut claims: Vec<Claim> = Vec::new();
        let first_index = open.emitted;
        let mut bytes = 0;
        for (at, value) in ctx.scan(CLAIMS, &prefix, &from, left - 1) {
            bytes += value.len();
            if bytes > CHUNK_BYTES_MAX && !claims.is_empty() {
                break;
            }
            claims.push(from_state(CLAIMS, &value));
            open.emitted += 1;
            open.last = Base64(at);
        }
        let total = (open.emitted == open.count).then_some(open.count);
        if total.is_some() {
            ctx.delete(BATCHES, &key);
            ctx.put(INCLUDED, &key, Vec::new());
            ctx.count("epoch_batch.batches", 1);
        } else {
            ctx.put_json(BATCHES, &key, &open);
        }
        let emitted = claims.len() + 1;
        let batch = Batch { channel: channel.clone(), epoch, first_index, claims, total };
        ctx.emit_json(To::Next, claim::BATCH, &channel, &batch);
        for (leaf_index, claim) in (first_index..).zip(batch.claims) {
            let leaf_index = Some(leaf_index);
            let status = ClaimStatus::Included;
            emit_state(ctx, &ClaimState { claim, status, epoch, leaf_index });
        }
        Some(emitted)
    }

    /// Marks the batches for deletion that waited too long for their settlement.
    fn forget(&self, ctx: &mut Context<'_>, closed: Epoch) {
        let too_old = closed.0.saturating_sub(self.settings.keep_unsettled_epochs);
        for (key, _) in ctx.scan(INCLUDED, &[], &[], self.settings.max_outputs) {
            if batch_of(&key).0.0 >= too_old {
                break;
            }
            if ctx.get(ENDINGS, &key).is_none() {
                ctx.count("epoch_batch.forgotten", 1);
                ctx.put_json(ENDINGS, &key, &Ending::forgotten());
            }
        }
    }
}

/// The smallest key behind `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Ends the state of up to `left` claims of one batch; gives their number (at least 1), none if
/// there is no such batch.
fn end(ctx: &mut Context<'_>, left: usize) -> Option<usize> {
    let (key, value) = ctx.scan(ENDINGS, &[], &[], 1).into_iter().next()?;
    let (epoch, channel) = batch_of(&key);
    let mut ending: Ending = from_state(ENDINGS, &value);
    let found = ctx.scan(CLAIMS, &claims_prefix(&channel, epoch), &[], left);
    for (at, value) in &found {
        let claim: Claim = from_state(CLAIMS, value);
        ctx.delete(CLAIMS, at);
        ctx.delete(IDS, &id_key(&channel, &claim.claim_id));
        let leaf_index = Some(ending.next_leaf);
        ending.next_leaf += 1;
        if ending.why == Why::Settled {
            let status = ClaimStatus::Settled;
            emit_state(ctx, &ClaimState { claim, status, epoch, leaf_index });
        }
    }
    if found.len() < left {
        ctx.delete(ENDINGS, &key);
        ctx.delete(INCLUDED, &batch_key(epoch, &channel));
    } else {
        ctx.put_json(ENDINGS, &key, &ending);
    }
    Some(found.len().max(1))
}
