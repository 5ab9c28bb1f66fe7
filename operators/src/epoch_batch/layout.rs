//! The bytes of `epoch_batch`'s state.
//!
//! Invariants: a scan of a batch's claims is its leaf order; a scan of batches begins with the
//! oldest epoch; no key of one batch begins with another batch's prefix.

use semel_schemas::{
    claim::Claim,
    solana::Base64,
    time::{Epoch, Slot},
};
use serde::{Deserialize, Serialize};

use crate::{
    field::digest,
    operator::{Context, StoreDecl},
};

/// Claims: [`claim_key`] → the claim as JSON.
pub(super) const CLAIMS: &str = "epoch_claims";
/// Claim ids in use: [`id_key`] → the claim's key.
pub(super) const IDS: &str = "epoch_ids";
/// Batches that have not gone out: [`batch_key`] → [`OpenBatch`].
pub(super) const BATCHES: &str = "epoch_batches";
/// Batches that wait for their settlement: [`batch_key`] → nothing.
pub(super) const INCLUDED: &str = "epoch_included";
/// Batches whose state is being deleted: [`batch_key`] → [`Ending`].
pub(super) const ENDINGS: &str = "epoch_endings";
/// Epochs seen as final and not closed: epoch big-endian → wall time of the first sight.
pub(super) const PASSED: &str = "epoch_passed";
/// One record: [`Meta`].
pub(super) const META: &str = "epoch_meta";

pub(super) const STORES: &[StoreDecl] = &[
    StoreDecl { name: CLAIMS, version: 1 },
    StoreDecl { name: IDS, version: 1 },
    StoreDecl { name: BATCHES, version: 1 },
    StoreDecl { name: INCLUDED, version: 1 },
    StoreDecl { name: ENDINGS, version: 1 },
    StoreDecl { name: PASSED, version: 1 },
    StoreDecl { name: META, version: 1 },
];

/// What holds for the whole task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Last epoch whose end was seen as final.
    pub(super) passed: Option<Epoch>,
    /// Last closed epoch; all before it are closed too.
    pub(super) closed: Option<Epoch>,
    /// Last epoch whose closing was told.
    pub(super) announced: Option<Epoch>,
}

impl Meta {
    pub(super) fn read(ctx: &Context<'_>) -> Self {
        ctx.get_json(META, &[]).unwrap_or_default()
    }

    pub(super) fn write(&self, ctx: &mut Context<'_>) {
        ctx.put_json(META, &[], self);
    }
}

/// A batch that has not gone out, or not all of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct OpenBatch {
    /// Number of claims.
    pub(super) count: u32,
    /// Their amounts, added up.
    sum: u64,
    /// Claims that have gone out.
    #[serde(default)]
    pub(super) emitted: u32,
    /// Key of the last one that has gone out.
    #[serde(default)]
    pub(super) last: Base64,
}

impl OpenBatch {
    /// This batch with one more claim; none if a number overflows.
    pub(super) fn with(mut self, claim: &Claim) -> Option<Self> {
        self.count = self.count.checked_add(1)?;
        self.sum = self.sum.checked_add(claim.amount.0)?;
        Some(self)
    }

    /// This batch with one claim less; none if that was the last.
    pub(super) fn without(mut self, claim: &Claim) -> Option<Self> {
        self.count = self.count.checked_sub(1)?;
        self.sum = self.sum.saturating_sub(claim.amount.0);
        (self.count > 0).then_some(self)
    }
}

/// How the state of a batch comes to its end, and how far that has come.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Ending {
    pub(super) why: Why,
    /// Leaf index of the next claim to be deleted.
    pub(super) next_leaf: u32,
}

/// Why the state of a batch comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// Its root is settled: each claim is told so.
    Settled,
    /// Its root was not settled for very long.
    Forgotten,
}

impl Ending {
    pub(super) fn settled() -> Self {
        Self { why: Why::Settled, next_leaf: 0 }
    }

    pub(super) fn forgotten() -> Self {
        Self { why: Why::Forgotten, next_leaf: 0 }
    }
}

/// `epoch u64 | channel`: scans begin with the oldest epoch.
pub(super) fn batch_key(epoch: Epoch, channel: &str) -> Vec<u8> {
    [&epoch.0.to_be_bytes(), channel.as_bytes()].concat()
}

/// Epoch and channel of a [`batch_key`].
pub(super) fn batch_of(key: &[u8]) -> (Epoch, String) {
    let (epoch, channel) =
        key.split_first_chunk::<8>().expect("a batch's key begins with its epoch, 8 bytes");
    (Epoch(u64::from_be_bytes(*epoch)), String::from_utf8_lossy(channel).into_owned())
}

/// `length of channel u64 | channel | epoch u64`: what the keys of a batch's claims begin with.
pub(super) fn claims_prefix(channel: &str, epoch: Epoch) -> Vec<u8> {
    let length = (channel.len() as u64).to_be_bytes();
    [&length, channel.as_bytes(), &epoch.0.to_be_bytes()].concat()
}

/// [`claims_prefix`], then `slot u64 | transaction u32 | instruction u32 | claim id`. The id comes
/// last for producers that do not know a claim's place in its block: the order is total anyhow.
pub(super) fn claim_key(claim: &Claim, epoch: Epoch) -> Vec<u8> {
    let Slot(slot) = claim.slot;
    [
        claims_prefix(&claim.channel, epoch).as_slice(),
        &slot.to_be_bytes(),
        &claim.tx_index.to_be_bytes(),
        &claim.ix_index.to_be_bytes(),
        claim.claim_id.as_bytes(),
    ]
    .concat()
}

/// Only for [`semel_schemas::sabotage::Sabotage::LeavesInOrderOfArrival`]: by the number of claims
/// in the batch.
pub(super) fn arrival_key(claim: &Claim, epoch: Epoch, count: u32) -> Vec<u8> {
    let prefix = claims_prefix(&claim.channel, epoch);
    [prefix.as_slice(), &[0; 12], &count.to_be_bytes(), claim.claim_id.as_bytes()].concat()
}

/// The epoch that the claim under `key` counts in (a late one does not count in its slot's).
pub(super) fn place_of(key: &[u8], channel: &str) -> Epoch {
    let epoch = key
        .get(8 + channel.len()..)
        .and_then(<[u8]>::first_chunk::<8>)
        .expect("a claim's key holds its epoch behind its channel");
    Epoch(u64::from_be_bytes(*epoch))
}

/// 16 bytes for a claim's id within its channel.
pub(super) fn id_key(channel: &str, claim_id: &str) -> [u8; 16] {
    digest(&[channel, claim_id])
}
