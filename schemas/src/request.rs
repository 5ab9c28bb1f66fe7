//! Commands: what a person or another program asks of a running pipeline. A command is a record in
//! the input topic of the stage that owns its keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{Epoch, Slot, WallTime};

/// Type name of [`Publish`].
pub const PUBLISH: &str = "semel.publish";
/// Type name of [`Resume`].
pub const RESUME: &str = "semel.resume";
/// Type name of [`Quarantine`].
pub const QUARANTINE: &str = "semel.quarantine";
/// Type name of [`Command`].
pub const COMMAND: &str = "semel.command";

/// Releases a root that waits at `ready_for_settlement` (AUTO_PUBLISH=false). Keyed by channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Publish {
    /// Channel.
    pub channel: String,
    /// Epoch.
    pub epoch: Epoch,
    /// Who asked.
    pub by: String,
}

/// Starts a source again that stopped at a discontinuity. Keyed by the source's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resume {
    /// Name of the source.
    pub source: String,
    /// Start anew at this slot, which must be beyond everything the source has written; none: go
    /// on from the cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_slot: Option<Slot>,
    /// Who asked.
    pub by: String,
}

/// What to do with a quarantined key. The record's key is the quarantined key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantine {
    /// What to do.
    pub action: QuarantineAction,
    /// Who asked.
    pub by: String,
}

/// What to do with a quarantined key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineAction {
    /// Take the record at fault again, then what waits behind it, in order.
    Replay,
    /// Leave the record at fault out, then take what waits behind it, in order.
    Drop,
}

/// A command that changed something, as it stands in `<pipeline>.commands`: written in the same
/// transaction as what it changed in the log. Keyed by its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// What was done.
    pub what: CommandKind,
    /// The stage, sink, topic or dead letter (`topic/partition/offset`) that it was done to.
    pub target: String,
    /// The rest, for people.
    pub detail: String,
    /// Who: user and host.
    pub by: String,
    /// When, by the clock of the process that did it.
    pub at: WallTime,
    /// The topic that took the place of another one, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// A topic that takes the place of an older one, with another number of partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Generation {
    /// The topic's name without a generation: that of its first one.
    pub topic: String,
    /// Which generation it is now, counted from 1.
    pub number: u32,
    /// Its partitions.
    pub partitions: u32,
    /// The generation whose place it took.
    pub before: u32,
    /// Where each partition of that one ended: everything up to there was processed.
    pub ends: Vec<u64>,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// Writes records to a topic.
    Produce,
    /// Releases roots.
    Publish,
    /// Stops a stage or a sink until it is resumed, across restarts.
    Pause,
    /// Lets a paused stage or sink, or a source that stopped, go on.
    Resume,
    /// Takes a dead letter again.
    Replay,
    /// Leaves a dead letter out.
    Drop,
    /// Starts a stage or a sink anew at another place.
    Reset,
    /// Gives a stage's input topic and state another number of partitions.
    Repartition,
}
