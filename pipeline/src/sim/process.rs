//! Processes and their lanes: what a host starts in threads, one after the other here.
//!
//! Invariants: a process has local stores that outlive it, and an identity that is the same in each
//! of its lives; a lane is built as the host builds it, but for the taps in its ways.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use semel_schemas::time::WallTime;

use super::{
    options::Options,
    schedule::Disk,
    tap::{Fate, TapLog, TapPort, TapStores},
    wire::Wire,
};
use crate::{
    engine::{
        counts::Board,
        lane::{Lane, LaneError, LaneParts},
        sink_lane::{SinkLane, SinkParts},
        status::Status,
        topology::Stage,
    },
    log::{LogError, MemberSpec, sim::SimLog},
    spec::plan::{Plan, SinkPlan},
    state::MemStore,
    testing::parts::MemStores,
};

/// How long a group waits for a silent member.
pub(super) const SESSION: Duration = Duration::from_secs(6);
/// How long a transaction may stay open.
const TRANSACTION: Duration = Duration::from_secs(10);

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    /// What is to happen to its calls.
    pub(super) fate: Fate,
    /// Its disk.
    pub(super) stores: MemStores,
    /// A copy of the disk that was put aside.
    pub(super) backup: BTreeMap<String, MemStore>,
    /// Whether it runs.
    pub(super) up: bool,
    /// When it comes back.
    pub(super) up_at: u64,
    /// It stands still until then.
    pub(super) still_until: u64,
    /// How much its wall clock is ahead, milliseconds.
    pub(super) skew_ms: i64,
    /// Number of its life.
    pub(super) life: u64,
}

impl Process {
    /// The processes of a seed.
    pub(super) fn all(count: usize, seed: u64) -> Vec<Self> {
        (0..count).map(|number| Self::new(number, seed)).collect()
    }

    /// A process that begins at once.
    fn new(number: usize, seed: u64) -> Self {
        let stores = MemStores::default();
        if seed % 4 == 3 {
            // As on a real disk, which sees many commits as one write; the others write each.
            stores.hold(if number.is_multiple_of(2) { 2_000 } else { 40_000 });
        }
        Self {
            fate: Fate::new(number),
            stores,
            backup: BTreeMap::new(),
            up: true,
            up_at: 0,
            still_until: 0,
            skew_ms: 0,
            life: 0,
        }
    }

    /// Puts a copy of the disk aside.
    pub(super) fn back_up(&mut self) {
        self.backup = self.stores.copy();
    }

    /// Another disk is put in.
    pub(super) fn replace_disk(&self, disk: Disk) {
        self.stores.lose();
        if disk == Disk::Old {
            self.stores.put_back(self.backup.clone());
        }
    }

    /// Its wall clock jumps, not further from the others than a bad one would be.
    pub(super) fn turn_clock(&mut self, ms: i64) {
        self.skew_ms = (self.skew_ms + ms).clamp(-40_000, 40_000);
    }

    /// Its wall clock.
    pub(super) fn clock(&self, now_ms: u64) -> WallTime {
        WallTime(now_ms.saturating_add_signed(self.skew_ms))
    }
}

/// What a seat runs.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// A stage.
    Stage(Arc<Stage>, u32),
    /// A sink, and its place in the plan.
    Sink(usize),
}

/// A lane of either kind.
#[derive(Debug)]
pub(super) enum AnyLane {
    /// A stage's.
    Stage(Box<Lane>),
    /// A sink's.
    Sink(Box<SinkLane>),
}

impl AnyLane {
    /// One cycle.
    pub(super) fn step(&mut self, now: WallTime) -> Result<bool, LaneError> {
        match self {
            Self::Stage(lane) => lane.step(now, Duration::ZERO),
            Self::Sink(lane) => lane.step(now, Duration::ZERO),
        }
    }

    /// Finishes.
    pub(super) fn drain(self, now: WallTime) -> Result<(), LaneError> {
        match self {
            Self::Stage(lane) => lane.drain(now),
            Self::Sink(lane) => lane.drain(now),
        }
    }
}

/// A place for a lane in a process.
#[derive(Debug)]
pub(super) struct Seat {
    /// Which process.
    pub(super) process: usize,
    /// What it runs.
    pub(super) role: Role,
    /// Its name in a trace.
    pub(super) name: String,
    /// The lane, while it lives and is not in a step.
    pub(super) lane: Option<AnyLane>,
    /// When it may be built.
    pub(super) build_at: u64,
    /// How long it waits after the next failure.
    pub(super) backoff_ms: u64,
}

/// Back-off between two builds, as the host's.
pub(super) const BACKOFF_MS: (u64, u64) = (200, 5_000);

impl Seat {
    /// The seats of a process.
    pub(super) fn of_plan(plan: &Plan, process: usize) -> Vec<Self> {
        let seat = |role, name: String| Self {
            process,
            role,
            name: format!("p{process}/{name}"),
            lane: None,
            build_at: 0,
            backoff_ms: BACKOFF_MS.0,
        };
        let stages = plan.stages.iter().flat_map(|(stage, lanes)| {
            (0..*lanes).map(|lane| (Role::Stage(stage.clone(), lane), stage.name.clone()))
        });
        let sinks = plan.sinks.iter().enumerate();
        let sinks = sinks.map(|(at, sink)| (Role::Sink(at), sink.name.clone()));
        stages.chain(sinks).map(|(role, name)| seat(role, name)).collect()
    }
}

/// What lanes of all processes share.
#[derive(Clone, Debug)]
pub(super) struct Shop {
    pub(super) plan: Arc<Plan>,
    pub(super) sim: SimLog,
    pub(super) wire: Wire,
    pub(super) options: Arc<Options>,
    pub(super) board: Arc<Board>,
    pub(super) status: Arc<Status>,
}

impl Shop {
    /// Builds a lane as the host does.
    pub(super) fn build(
        &self,
        role: &Role,
        process: usize,
        fate: &Fate,
        stores: &MemStores,
    ) -> Result<AnyLane, LaneError> {
        let log = Arc::new(TapLog { log: self.sim.clone(), fate: fate.clone() });
        match role {
            Role::Stage(stage, lane) => {
                let port = TapPort { port: self.wire.port(0), fate: fate.clone() };
                let stores = TapStores { stores: stores.clone(), fate: fate.clone() };
                let topic = stage.input.name.clone();
                let member = self.member(&stage.group, topic, &stage.name, process, *lane);
                let parts = LaneParts {
                    stage: stage.clone(),
                    log,
                    stores: Arc::new(stores),
                    effects: Box::new(port),
                    board: self.board.clone(),
                    status: self.status.clone(),
                    pace: self.options.pace,
                    member,
                };
                Ok(AnyLane::Stage(Box::new(Lane::join(parts)?)))
            }
            Role::Sink(at) => {
                let sink: &SinkPlan = self.plan.sinks.get(*at).ok_or_else(|| {
                    LaneError::from(LogError::Refused(format!("there is no sink {at}")))
                })?;
                let port = TapPort { port: self.wire.port(*at), fate: fate.clone() };
                let topic = sink.topic.name.clone();
                let parts = SinkParts {
                    name: sink.name.clone(),
                    topic: sink.topic.clone(),
                    dead_letter: sink.dead_letter.clone(),
                    log,
                    port: Box::new(port),
                    board: self.board.clone(),
                    status: self.status.clone(),
                    member: self.member(&sink.group, topic, &sink.name, process, 0),
                };
                Ok(AnyLane::Sink(Box::new(SinkLane::join(parts)?)))
            }
        }
    }

    fn member(
        &self,
        group: &str,
        topic: semel_schemas::topic::TopicName,
        name: &str,
        process: usize,
        lane: u32,
    ) -> MemberSpec {
        MemberSpec {
            group: group.to_owned(),
            topic,
            instance: format!("{}.{name}.p{process}.{lane}", self.plan.name),
            transaction_timeout: TRANSACTION,
            session_timeout: SESSION,
        }
    }
}
