//! The attention pipeline's facts: claims, their states, epochs, roots, settlements.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    amount::Amount,
    solana::{Address, Signature},
    time::{Epoch, Slot, WallTime},
};

/// Type name of [`Claim`].
pub const CLAIM: &str = "claim";
/// Type name of [`ClaimRetracted`].
pub const CLAIM_RETRACTED: &str = "claim.retracted";
/// Type name of [`ClaimState`].
pub const CLAIM_STATE: &str = "claim.state";
/// Type name of [`EpochClosed`].
pub const EPOCH_CLOSED: &str = "epoch.closed";
/// Type name of [`Batch`].
pub const BATCH: &str = "batch";
/// Type name of [`RootRecord`].
pub const ROOT: &str = "root";
/// Type name of [`Settlement`].
pub const SETTLEMENT: &str = "settlement";

/// Longest [`Claim::id`] in bytes (the program's limit).
pub const ID_BYTES_MAX: usize = 64;

/// One claim as it was made: the value of a `claim` record. Its key is the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// Identity: two claims with the same id are one claim (see operator `dedupe`).
    pub claim_id: String,
    /// Channel, ASCII lower case.
    pub channel: String,
    /// The claimer's public key.
    pub user: Address,
    /// The id that the leaf carries, for example `twitch:<channel>:<login>`; at most 64 bytes.
    pub id: String,
    /// Amount in the token's smallest unit.
    pub amount: Amount,
    /// Slot in which the claim was executed.
    pub slot: Slot,
    /// Signature of the transaction that made it.
    pub signature: Signature,
    /// The transaction's place in its block.
    pub tx_index: u32,
    /// The instruction's place in its transaction, in order of execution.
    pub ix_index: u32,
    /// Block time, seconds since 1970; 0 if the chain told none.
    #[serde(default)]
    pub block_time: u64,
}

impl Claim {
    /// The fact that made this claim: one executed instruction of one transaction.
    #[must_use]
    pub fn fact(&self) -> String {
        format!("{}:{}", self.signature, self.ix_index)
    }
}

/// Cancels exactly one fact: the instruction that made a claim is no longer on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimRetracted {
    /// The claim's id.
    pub claim_id: String,
    /// Its channel.
    pub channel: String,
    /// The cancelled fact, see [`Claim::fact`].
    pub fact: String,
    /// The slot the fact was in.
    pub slot: Slot,
}

/// Life cycle of a claim in the table `claims`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimStatus {
    /// Admitted, its epoch is open.
    Pending,
    /// A leaf of a root that was computed.
    Included,
    /// That root was read back from the chain at `finalized`.
    Settled,
}

/// A claim's row: the claim, and where it stands. Keyed by `claim_id`, last one wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimState {
    /// The claim.
    #[serde(flatten)]
    pub claim: Claim,
    /// Where it stands.
    pub status: ClaimStatus,
    /// The epoch that it counts in.
    pub epoch: Epoch,
    /// Its place among the leaves, once included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_index: Option<u32>,
}

/// An epoch that was closed: the row of table `epochs`. The first one stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EpochClosed {
    /// Its number.
    pub epoch: Epoch,
    /// Its first slot.
    pub start_slot: Slot,
    /// Its last slot (inclusive).
    pub end_slot: Slot,
    /// When it was closed.
    pub finalized_at: WallTime,
}

/// A chunk of the claims of one closed (channel, epoch), in leaf order: what `epoch_batch` hands
/// to `merkle`. Chunks follow each other without gap; the last one says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// Channel.
    pub channel: String,
    /// Epoch.
    pub epoch: Epoch,
    /// Index of the first leaf of this chunk.
    pub first_index: u32,
    /// The claims, in the order (slot, transaction, instruction).
    pub claims: Vec<Claim>,
    /// Number of leaves of the whole batch, in the last chunk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u32>,
}

/// Life cycle of a root in the table `roots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RootStatus {
    /// Computed; waits for settlement or for `semel publish`.
    ReadyForSettlement,
    /// Read back from the chain at `finalized`.
    Settled,
}

/// A root: the row of table `roots`. Keyed by `root_id`, last one wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RootRecord {
    /// `<channel>:<epoch>`.
    pub root_id: String,
    /// Channel.
    pub channel: String,
    /// Epoch.
    pub epoch: Epoch,
    /// The root, 64 lower-case hex digits.
    pub root: String,
    /// Number of leaves.
    pub count: u32,
    /// Name of the Merkle profile.
    pub profile: String,
    /// When it was computed.
    pub finalized_at: WallTime,
    /// Where it stands.
    pub status: RootStatus,
}

/// `<channel>:<epoch>`, the name of a root.
#[must_use]
pub fn root_id(channel: &str, epoch: Epoch) -> String {
    format!("{channel}:{epoch}")
}

/// Life cycle of a settlement in the table `settlement_log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettlementStatus {
    /// Signed and committed; broadcast, and not yet seen as final.
    PendingConfirmation,
    /// The chain's account holds the root, at `finalized`.
    Confirmed,
    /// It never will be: see `reason`.
    Failed,
}

/// One transaction that publishes a root: a row of table `settlement_log`. Keyed by
/// `settlement_id`, last one wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settlement {
    /// `<root_id>#<attempt>`: an attempt is one set of signed bytes.
    pub settlement_id: String,
    /// The root.
    pub root_id: String,
    /// Channel.
    pub channel: String,
    /// Epoch.
    pub epoch: Epoch,
    /// Signature of the transaction; none if the root was found on the chain unsent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_signature: Option<Signature>,
    /// Where it stands.
    pub status: SettlementStatus,
    /// When the chain's account was seen to hold the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<WallTime>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
