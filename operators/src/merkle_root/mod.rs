//! `merkle`: the chunks of a closed (channel, epoch) become one root.
//!
//! Each chunk's leaf hashes are kept, 256 in a record, until the last chunk tells their number;
//! then the tree is built and the root goes out. Takes `batch`, emits `root`.
//!
//! Invariants: a root is of exactly the leaves `0..total`, in that order: a chunk that does not
//! follow the one before it, or a total that is not the number of leaves, is a fault and no root.
//! No leaves, no root. No record of state grows with an epoch, and the hashes are deleted a few at
//! a time once the root is out.

pub mod leaf;

use leaf::ClaimLeaf;
use semel_schemas::{
    claim::{self, Batch, RootRecord, RootStatus},
    codec,
    fault::{Fault, FaultCode},
    sabotage::{Sabotage, sabotaged},
    time::Epoch,
};
use serde::{Deserialize, Serialize};

use crate::{
    field,
    merkle::{
        hash::Hash,
        profile::{Profile, builtin},
        tree::{Tree, TreeError},
    },
    operator::{Context, Input, Operator, StoreDecl, TimerKey, To},
};

/// Number of leaves, by batch.
const BATCHES: &str = "merkle_batches";
/// Leaf hashes, [`LEAVES_PER_RECORD`] in a record, by batch and number.
const LEAVES: &str = "merkle_leaves";
/// Batches whose leaf hashes are to be deleted.
const DONE: &str = "merkle_done";
const SWEEP: &str = "merkle.sweep";
const LEAVES_PER_RECORD: u32 = 256;
/// Records deleted in one step: a transaction stays small whatever the epoch was.
const SWEEP_MAX: usize = 500;

/// Settings of `merkle`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The Merkle profile: the name of one that ships, or a table that defines another, see
    /// [`crate::merkle::profile::define::Definition`].
    #[serde(default = "builtin::ao_claim_v0", deserialize_with = "leaf::profile")]
    pub profile: Profile,
}

/// How far a batch has come.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    leaves: u32,
}

/// The operator.
#[derive(Debug)]
pub struct MerkleRoot {
    leaf: ClaimLeaf,
}

impl MerkleRoot {
    /// The operator with its settings.
    ///
    /// # Errors
    /// A sentence, if claims cannot be leaves of the profile.
    pub fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self { leaf: ClaimLeaf::new(settings.profile)? })
    }

    fn chunk(&self, ctx: &mut Context<'_>, batch: &Batch) -> Result<(), Fault> {
        let key = batch_key(&batch.channel, batch.epoch);
        let before: Progress = ctx.get_json(BATCHES, &key).unwrap_or_default();
        if ctx.get(DONE, &key).is_some() {
            return Err(gap(batch, "its root is out already".into()));
        }
        if batch.first_index != before.leaves {
            return Err(gap(batch, format!("the next leaf is {}", before.leaves)));
        }
        let count = u32::try_from(batch.claims.len())
            .ok()
            .and_then(|more| before.leaves.checked_add(more))
            .ok_or_else(|| {
                Fault::new(FaultCode::Overflow, "a batch holds at most 4294967295 leaves")
            })?;
        if batch.total.is_some_and(|total| total != count) {
            return Err(gap(batch, format!("{count} leaves came")));
        }
        self.append(ctx, &key, batch)?;
        if batch.total.is_none() {
            ctx.put_json(BATCHES, &key, &Progress { leaves: count });
            return Ok(());
        }
        ctx.delete(BATCHES, &key);
        let leaves = read_leaves(ctx, &key, count);
        if leaves.len() != count as usize {
            return Err(gap(batch, format!("{} leaf hashes are in the state", leaves.len())));
        }
        if leaves.is_empty() {
            return Ok(());
        }
        let profile = self.leaf.profile();
        let tree = Tree::build(&profile.rules(), leaves).map_err(|why| unrooted(batch, &why))?;
        let published = tree.published().map_err(|why| unrooted(batch, &why))?;
        ctx.put(DONE, &key, Vec::new());
        ctx.set_timer(TimerKey::wall(SWEEP), ctx.now().0, Vec::new());
        let root = RootRecord {
            root_id: claim::root_id(&batch.channel, batch.epoch),
            channel: batch.channel.clone(),
            epoch: batch.epoch,
            root: hex::encode(published.root),
            count,
            profile: profile.name.clone(),
            finalized_at: ctx.now(),
            status: RootStatus::ReadyForSettlement,
        };
        ctx.count("merkle.roots", 1);
        ctx.count("merkle.leaves", u64::from(count));
        ctx.emit_json(To::Next, claim::ROOT, &root.root_id, &root);
        ctx.emit_json(To::Output("roots"), claim::ROOT, &root.root_id, &root);
        Ok(())
    }

    /// Adds the leaves of a chunk behind those that came before.
    fn append(&self, ctx: &mut Context<'_>, key: &[u8], batch: &Batch) -> Result<(), Fault> {
        let mut open: Option<(Vec<u8>, Vec<u8>)> = None;
        for (index, claim) in (batch.first_index..).zip(&batch.claims) {
            let at = leaves_key(key, index);
            if open.as_ref().is_none_or(|(open_key, _)| *open_key != at) {
                if let Some((full_key, full)) = open.take() {
                    ctx.put(LEAVES, &full_key, full);
                }
                let begun = ctx.get(LEAVES, &at).unwrap_or_default();
                open = Some((at, begun));
            }
            if let Some((_, hashes)) = &mut open {
                let by_chunk = sabotaged(Sabotage::LeavesNumberedByChunk);
                let number = if by_chunk { index - batch.first_index } else { index };
                let leaf = self.leaf.leaf(claim, batch.epoch, number).map_err(|why| {
                    Fault::new(FaultCode::WrongType, format!("claim {}: {why}", claim.claim_id))
                })?;
                hashes.extend_from_slice(&leaf);
            }
        }
        if let Some((last_key, last)) = open {
            ctx.put(LEAVES, &last_key, last);
        }
        Ok(())
    }
}

impl Operator for MerkleRoot {
    fn name(&self) -> &'static str {
        "merkle"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        &[
            StoreDecl { name: BATCHES, version: 1 },
            StoreDecl { name: LEAVES, version: 1 },
            StoreDecl { name: DONE, version: 1 },
        ]
    }

    fn takes(&self, kind: &str) -> bool {
        [claim::BATCH].contains(&kind)
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["roots"]
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Record(record) if record.kind == claim::BATCH => {
                let batch: Batch = codec::decode(claim::BATCH, field::bytes(&record)?)?;
                self.chunk(ctx, &batch)?;
            }
            Input::Record(record) => ctx.forward(record),
            Input::Timer { key, .. } if key.name == SWEEP => sweep(ctx),
            Input::Timer { .. } | Input::Begin | Input::Outcome { .. } | Input::Progress(_) => {}
        }
        Ok(())
    }
}

fn gap(batch: &Batch, but: String) -> Fault {
    Fault::new(
        FaultCode::BatchGap,
        format!(
            "batch {}: a chunk begins at leaf {} with {} claims{}, but {but}: the stage before \
             this one is broken, replay its topic",
            claim::root_id(&batch.channel, batch.epoch),
            batch.first_index,
            batch.claims.len(),
            batch.total.map(|total| format!(" and a total of {total}")).unwrap_or_default(),
        ),
    )
}

fn unrooted(batch: &Batch, why: &TreeError) -> Fault {
    let id = claim::root_id(&batch.channel, batch.epoch);
    Fault::new(FaultCode::Overflow, format!("batch {id} has no root by its profile: {why}"))
}

/// Channel and epoch, so that no batch's key begins with another's.
fn batch_key(channel: &str, epoch: Epoch) -> Vec<u8> {
    let mut key = (channel.len() as u64).to_be_bytes().to_vec();
    key.extend_from_slice(channel.as_bytes());
    key.extend_from_slice(&epoch.0.to_be_bytes());
    key
}

fn leaves_key(batch: &[u8], index: u32) -> Vec<u8> {
    let mut key = batch.to_vec();
    key.extend_from_slice(&(index / LEAVES_PER_RECORD).to_be_bytes());
    key
}

fn read_leaves(ctx: &Context<'_>, batch: &[u8], count: u32) -> Vec<Hash> {
    let mut leaves = Vec::new();
    for first in (0..count).step_by(LEAVES_PER_RECORD as usize) {
        let bytes = ctx.get(LEAVES, &leaves_key(batch, first)).unwrap_or_default();
        leaves.extend_from_slice(bytes.as_chunks::<32>().0);
    }
    leaves
}

/// Deletes the hashes of batches whose root is out, a few at a time.
fn sweep(ctx: &mut Context<'_>) {
    let Some((batch, _)) = ctx.scan(DONE, &[], &[], 1).into_iter().next() else { return };
    let found = ctx.scan(LEAVES, &batch, &[], SWEEP_MAX);
    for (key, _) in &found {
        ctx.delete(LEAVES, key);
    }
    if found.len() < SWEEP_MAX {
        ctx.delete(DONE, &batch);
    }
    if !ctx.scan(DONE, &[], &[], 1).is_empty() {
        ctx.set_timer(TimerKey::wall(SWEEP), ctx.now().0, Vec::new());
    }
}

#[cfg(test)]
mod tests;
