//! What a run is made of: drawn from its seed before anything else, and printed first.
//!
//! Swarm testing: each seed leaves most kinds of faults out, so that those it has meet each other
//! often. Bounds of sizes are small: a bug that needs a thousand records needs two as well.

use super::rng::{Rng, Stream};
use crate::{
    engine::pace::Pace,
    log::sim::{Generations, Membership},
};

/// Tombstones live for a day, unless they are short.
const DAY_MS: u64 = 86_400_000;

/// Names of channels.
pub(super) const CHANNELS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// What is fed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Users claim on the chain; the pipeline's own source reads it.
    Chain,
    /// A scripted source stands in for the pipeline's: it forks, and retracts what is not final.
    Script,
    /// Orders with nonces, keys and tracks.
    Orders,
}

/// A kind of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process dies at any call.
    Crash,
    /// A process dies at a call that ends something: commit, promote, dispatch, answer.
    CrashAtCommit,
    /// A process stands still between two steps, perhaps beyond its session.
    Pause,
    /// A process stands still within a call while the others go on.
    Freeze,
    /// A process drains and comes back.
    Drain,
    /// A transaction call fails, or its answer is lost.
    Answer,
    /// A commit's answer is lost, and the commit lands late or never.
    Late,
    /// The log is away for a call.
    Away,
    /// The producer's queue is full.
    Full,
    /// Markers of transactions arrive one by one.
    Markers,
    /// Changelogs are compacted.
    Compact,
    /// Local stores fail, are lost or replaced by an old copy.
    Disk,
    /// Wall clocks jump.
    Clock,
    /// A storm of timers: every clock jumps ahead at once, and all that waited is due.
    Storm,
    /// The node of the chain fails, lags or drops what it is sent.
    Node,
    /// Outcomes of effects are slow, come twice or never.
    Effects,
    /// The chain stands still.
    Stall,
    /// A write to the database loses its answer, or fails.
    Database,
    /// The database is away for a while.
    DatabaseDown,
}

const KINDS: &[Kind] = &[
    Kind::Crash,
    Kind::CrashAtCommit,
    Kind::Pause,
    Kind::Freeze,
    Kind::Drain,
    Kind::Answer,
    Kind::Late,
    Kind::Away,
    Kind::Full,
    Kind::Markers,
    Kind::Compact,
    Kind::Disk,
    Kind::Clock,
    Kind::Storm,
    Kind::Node,
    Kind::Effects,
    Kind::Stall,
    Kind::Database,
    Kind::DatabaseDown,
];

/// See the module. Times are milliseconds of the simulated clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// What is fed in.
    pub feed: Feed,
    /// Processes.
    pub processes: usize,
    /// Partitions of every topic.
    pub partitions: u32,
    /// Channels (or keys of orders).
    pub channels: u8,
    /// Users (or tracks of orders).
    pub users: u8,
    /// Inputs.
    pub inputs: u32,
    /// Faults.
    pub faults: u32,
    /// Kinds of faults that this run knows.
    pub kinds: Vec<Kind>,
    /// When faults and inputs end.
    pub horizon_ms: u64,
    /// When members hear of a new generation.
    pub generations: Generations,
    /// How members are known to their groups.
    pub membership: Membership,
    /// When lanes commit.
    pub pace: Pace,
    /// Longest way of a question or an answer.
    pub latency_ms: u64,
    /// Milliseconds of one round while somebody is busy.
    pub round_ms: u64,
    /// Slots from the newest block to the newest final one.
    pub finalized_lag: u64,
    /// Blocks that a blockhash lives.
    pub blockhash_blocks: u64,
    /// Every n-th slot has no block; 0: none.
    pub skip_every: u64,
    /// Slots of an epoch.
    pub epoch_slots: u64,
    /// Seconds from the end of an epoch as final to its closing.
    pub threshold_secs: u64,
    /// Slots for which ids are remembered.
    pub window_slots: u64,
    /// How long an order waits for the nonce before it.
    pub gap_timeout_ms: u64,
    /// How long tombstones of changelogs live. Where clocks jump and processes stand still as long
    /// as this run, no shorter than the run: a copy's age is judged by clocks.
    pub tombstone_ms: u64,
    /// Most records of one step of an operator.
    pub outputs_max: u64,
    /// The invariants that are checked; none: all of them. What ends a run otherwise (a lane that
    /// stops or panics) ends it all the same.
    pub only: Vec<&'static str>,
}

impl Options {
    /// The options of a seed, for one of these feeds.
    #[must_use]
    pub fn of_seed(seed: u64, feeds: &[Feed]) -> Self {
        let mut rng = Rng::new(seed, Stream::Options);
        let feed = *rng.pick(feeds);
        let finalized_lag = rng.within(1, 5);
        let epoch_slots = rng.within(5, 10);
        let few = rng.chance(1, 3);
        let pace = Pace {
            inputs_max: if few { usize::try_from(rng.within(1, 4)).unwrap_or(1) } else { 10_000 },
            interval_ms_max: *rng.pick(&[1, 20, 100]),
            ..Pace::default()
        };
        let calm = rng.chance(1, 16);
        let kinds: Vec<Kind> =
            KINDS.iter().copied().filter(|_| rng.chance(1, 3) && !calm).collect();
        let most = if kinds.is_empty() { 0 } else { 24 };
        let mut options = Self {
            seed,
            feed,
            processes: usize::try_from(rng.within(1, 3)).unwrap_or(1),
            partitions: u32::try_from(*rng.pick(&[1_u64, 1, 2, 2, 3])).unwrap_or(1),
            channels: u8::try_from(rng.within(1, 3)).unwrap_or(1),
            users: u8::try_from(rng.within(2, 4)).unwrap_or(2),
            inputs: u32::try_from(rng.within(4, 40)).unwrap_or(4),
            faults: u32::try_from(rng.below(most + 1)).unwrap_or(0),
            kinds,
            horizon_ms: rng.within(5_000, 18_000),
            generations: if rng.chance(1, 3) { Generations::AtPoll } else { Generations::Followed },
            membership: if rng.chance(1, 4) { Membership::Dynamic } else { Membership::Static },
            pace,
            latency_ms: *rng.pick(&[0, 20, 200]),
            round_ms: *rng.pick(&[1, 10, 40]),
            finalized_lag,
            blockhash_blocks: rng.within(6, 20),
            skip_every: *rng.pick(&[0, 0, 3, 5]),
            epoch_slots,
            threshold_secs: rng.below(2),
            window_slots: *rng.pick(&[12, 1_000_000, 1_000_000]),
            gap_timeout_ms: *rng.pick(&[500, 4_000]),
            tombstone_ms: DAY_MS,
            outputs_max: *rng.pick(&[500, 500, 4]),
            only: Vec::new(),
        };
        if rng.chance(1, 8) && !options.kinds.is_empty() {
            options.age(&mut rng);
        }
        options
    }

    /// A run in which local copies are too old to be used.
    fn age(&mut self, rng: &mut Rng) {
        let blurs = [Kind::Pause, Kind::Freeze, Kind::Clock, Kind::Storm];
        self.kinds.retain(|kind| !blurs.contains(kind));
        self.kinds.extend([Kind::Disk, Kind::Compact]);
        self.kinds.sort_unstable();
        self.kinds.dedup();
        self.tombstone_ms = rng.within(5_000, 7_000);
        self.horizon_ms = self.horizon_ms.max(12_000);
    }

    /// The slot in which a run begins: the first one of epoch 1 (the program takes no epoch 0).
    #[must_use]
    pub fn first_slot(&self) -> u64 {
        self.epoch_slots
    }

    /// The settings of a spec, by the names of its variables.
    #[must_use]
    pub fn variable(&self, name: &str, authority: &str, mint: &str) -> Option<String> {
        Some(match name {
            "ANCHOR_PROVIDER_URL" => "devnet".to_owned(),
            "DATABASE_URL" => "sqlite:memory".to_owned(),
            "AO_MINT" => mint.to_owned(),
            "AO_POLL_MS" => "200".to_owned(),
            "AO_FROM_SLOT" => self.first_slot().to_string(),
            "SETTLEMENT_KEYPAIR" => "none".to_owned(),
            "SETTLEMENT_AUTHORITY" => authority.to_owned(),
            "EPOCH_DURATION_SLOTS" => self.epoch_slots.to_string(),
            "FINALIZE_THRESHOLD_SECS" => self.threshold_secs.to_string(),
            "AUTO_PUBLISH" => "true".to_owned(),
            "DEDUPE_WINDOW_SLOTS" => self.window_slots.to_string(),
            "STEP_OUTPUTS_MAX" => self.outputs_max.to_string(),
            "GAP_TIMEOUT_MS" => self.gap_timeout_ms.to_string(),
            _ => return None,
        })
    }
}
