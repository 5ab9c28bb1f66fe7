//! Runs a topology in memory, synchronously, with the engine's real lanes over a simulated log, and
//! a clock that moves only when told.
//!
//! ```text
//! let mut driver = Driver::of_stages(vec![Arc::new(stage)])?;
//! driver.pipe("orders", "alice", r#"{"n":1}"#, "order")?;
//! driver.run_until_idle()?;
//! driver.read("orders.checked")?;
//! ```
//!
//! May not live here: knowledge of operators. Invariant: what is read is committed; time stands
//! still but in [`Driver::advance`]; the same calls leave byte-identical topics.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use semel_operators::operator::StateView;
use semel_schemas::{
    effect::{Effect, Outcome},
    header::{self, Headers},
    record::{OutRecord, Record},
    time::WallTime,
    topic::{BadTopicName, NextOffset, Partition, TopicName},
};

use super::{
    faults::{Faults, FaultyLog},
    parts::{Asked, Desk, DeskPort, MemStores},
};
use crate::{
    engine::{
        counts::{Board, Counts},
        effects::Done,
        lane::{Lane, LaneError, LaneParts},
        pace::Pace,
        status::Status,
        topology::Stage,
    },
    log::{Cleanup, Isolation, Log, LogError, MemberSpec, TopicSpec, sim::SimLog},
    spec::plan::Plan,
};

/// Where the clock stands at first: 2025-01-01, milliseconds since 1970.
pub const START_MS: u64 = 1_735_689_600_000;
/// Milliseconds that pass in one slice of [`Driver::advance`]; lanes run in between, so that no
/// session ends.
const SLICE_MS: u64 = 1_000;
/// How long tombstones of changelogs are kept, milliseconds.
const TOMBSTONE_MS: u64 = 24 * 3_600_000;
/// Cycles after which a topology that never comes to rest is given up.
const CYCLES_MAX: usize = 200_000;
/// Lives of one lane in one [`Driver::run_until_idle`].
const LIVES_MAX: u32 = 50;

/// Why the driver could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The log refused something.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A topic's name is none.
    #[error(transparent)]
    Topic(#[from] BadTopicName),
    /// A lane stopped for good: what a running process would end with.
    #[error("stage `{stage}` stopped: {text}")]
    Stopped {
        /// The stage.
        stage: String,
        /// The sentence that it ended with.
        text: String,
    },
    /// The topology never comes to rest.
    #[error(
        "after {CYCLES_MAX} cycles there is still something to do: does a timer of zero delay \
             set itself again without end?"
    )]
    Restless,
    /// There is no such lane, effect or stage.
    #[error("there is no {0}")]
    Nothing(String),
}

/// One lane of the driver, as [`Driver::join`] numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId(usize);

/// Answers effects: `None` leaves one to be answered by hand.
type Performer = Box<dyn FnMut(&Effect) -> Option<Outcome>>;

struct Seat {
    stage: Arc<Stage>,
    instance: String,
    stores: MemStores,
    lane: Option<Lane>,
    /// Number of the lane's life at the desk.
    life: u64,
    frozen: bool,
    gone: bool,
}

/// See the module.
pub struct Driver {
    sim: SimLog,
    log: Arc<dyn Log>,
    faults: Faults,
    now: WallTime,
    seats: Vec<Seat>,
    desk: Desk,
    board: Arc<Board>,
    status: Arc<Status>,
    pace: Pace,
    performer: Option<Performer>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver of a checked spec: its topics, and one lane for each source and stage. Sinks are
    /// topics here: read those.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn of_plan(plan: &Plan) -> Result<Self, DriverError> {
        let mut driver = Self::empty();
        for topic in &plan.topics {
            driver.sim.create_topic(topic)?;
        }
        for (stage, _) in &plan.stages {
            driver.join(stage.clone(), "0");
        }
        Ok(driver)
    }

    /// A driver of stages made by hand: creates every topic that they name, and one lane for each.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn of_stages(stages: Vec<Arc<Stage>>) -> Result<Self, DriverError> {
        let mut driver = Self::empty();
        for stage in stages {
            driver.create_topics(&stage)?;
            driver.join(stage, "0");
        }
        Ok(driver)
    }

    fn empty() -> Self {
        let sim = SimLog::new(START_MS);
        let faults = Faults::default();
        Self {
            log: Arc::new(FaultyLog::new(Arc::new(sim.clone()), faults.clone())),
            sim,
            faults,
            now: WallTime(START_MS),
            seats: Vec::new(),
            desk: Desk::default(),
            board: Arc::new(Board::default()),
            status: Arc::new(Status::default()),
            pace: Pace::default(),
            performer: None,
        }
    }

    fn create_topics(&self, stage: &Stage) -> Result<(), DriverError> {
        let kept = Cleanup::Delete { retention_ms: None };
        let compacted = Cleanup::Compact { tombstone_ms: TOMBSTONE_MS };
        let plain = [&stage.input, &stage.dead_letter]
            .into_iter()
            .chain(&stage.next)
            .chain(stage.outputs.values().flatten())
            .chain(&stage.progress_to);
        for (topic, cleanup) in plain.map(|t| (t, kept)).chain([(&stage.changelog, compacted)]) {
            self.sim.create_topic(&TopicSpec {
                name: topic.name.clone(),
                partitions: topic.partitions,
                cleanup,
                replication: None,
                allow_one_broker: true,
            })?;
        }
        Ok(())
    }

    // Lanes.

    /// One more lane of a stage, as of another process: it has local stores of its own. It joins
    /// with the next cycle.
    pub fn join(&mut self, stage: Arc<Stage>, process: &str) -> LaneId {
        let instance = format!("{}.{}.{process}.0", stage.pipeline, stage.name);
        self.seats.push(Seat {
            stage,
            instance,
            stores: MemStores::default(),
            lane: None,
            life: 0,
            frozen: false,
            gone: false,
        });
        LaneId(self.seats.len() - 1)
    }

    /// The first lane of a stage.
    ///
    /// # Errors
    /// [`DriverError::Nothing`].
    pub fn lane_of(&self, stage: &str) -> Result<LaneId, DriverError> {
        let at = self.seats.iter().position(|seat| seat.stage.name == stage);
        at.map(LaneId).ok_or_else(|| DriverError::Nothing(format!("stage `{stage}`")))
    }

    fn seat(&mut self, lane: LaneId) -> Result<&mut Seat, DriverError> {
        let nothing = DriverError::Nothing(format!("lane {}", lane.0));
        self.seats.get_mut(lane.0).ok_or(nothing)
    }

    /// Kills the lanes of a stage as `kill -9` does: nobody is told, nothing is committed. They
    /// join again with the next cycle, over the local stores that they left.
    ///
    /// # Errors
    /// [`DriverError::Nothing`].
    pub fn crash(&mut self, stage: &str) -> Result<(), DriverError> {
        self.lane_of(stage)?;
        for seat in self.seats.iter_mut().filter(|seat| seat.stage.name == stage) {
            seat.lane = None;
        }
        Ok(())
    }

    /// Kills one lane for good.
    ///
    /// # Errors
    /// [`DriverError::Nothing`].
    pub fn kill(&mut self, lane: LaneId) -> Result<(), DriverError> {
        let seat = self.seat(lane)?;
        seat.lane = None;
        seat.gone = true;
        Ok(())
    }

    /// A lane stands still, as a process that was paused: it is not polled, and hears nothing.
    ///
    /// # Errors
    /// [`DriverError::Nothing`].
    pub fn freeze(&mut self, lane: LaneId) -> Result<(), DriverError> {
        self.seat(lane)?.frozen = true;
        Ok(())
    }

    /// A lane that stood still goes on.
    ///
    /// # Errors
    /// [`DriverError::Nothing`].
    pub fn thaw(&mut self, lane: LaneId) -> Result<(), DriverError> {
        self.seat(lane)?.frozen = false;
        Ok(())
    }

    /// A lane finishes as at SIGTERM: it commits what it has done, hands over, and leaves for good.
    ///
    /// # Errors
    /// [`DriverError`], with what the lane ended with.
    pub fn drain(&mut self, lane: LaneId) -> Result<(), DriverError> {
        let now = self.now;
        let seat = self.seat(lane)?;
        seat.gone = true;
        let Some(lane) = seat.lane.take() else { return Ok(()) };
        let stage = seat.stage.name.clone();
        lane.drain(now).map_err(|error| DriverError::Stopped { stage, text: error.to_string() })
    }

    /// The partitions that a lane owns.
    ///
    /// # Errors
    /// [`DriverError::Nothing`].
    pub fn partitions(&mut self, lane: LaneId) -> Result<Vec<Partition>, DriverError> {
        let seat = self.seat(lane)?;
        Ok(seat.lane.iter().flat_map(Lane::partitions).collect())
    }

    /// The local stores of a lane's process.
    ///
    /// # Errors
    /// [`DriverError::Nothing`].
    pub fn stores(&mut self, lane: LaneId) -> Result<MemStores, DriverError> {
        Ok(self.seat(lane)?.stores.clone())
    }

    /// Loses the local stores of every process, as if the disks were replaced. Lanes that run
    /// notice at their next write and restore from the changelog.
    pub fn kill_stores(&mut self) {
        for seat in &self.seats {
            seat.stores.lose();
        }
    }

    // The world.

    /// Where faults are planned.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// The log below, for its own knobs: markers, compaction, retention.
    #[must_use]
    pub fn sim(&self) -> &SimLog {
        &self.sim
    }

    /// When lanes commit, from their next life on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> WallTime {
        self.now
    }

    /// Sets the lanes' wall clock (backwards too), without any time passing in the log.
    pub fn set_clock(&mut self, now: WallTime) {
        self.now = now;
    }

    /// Time passes in steps of at most a second; after each of them everything runs until idle.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn advance(&mut self, ms: u64) -> Result<(), DriverError> {
        let mut left = ms;
        while left > 0 {
            let slice = left.min(SLICE_MS);
            self.skip(slice);
            left -= slice;
            self.run_until_idle()?;
        }
        Ok(())
    }

    /// Time passes at once, and nobody runs meanwhile: sessions and transactions may end.
    pub fn skip(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.sim.advance(ms);
    }

    // Records.

    /// Produces a record with a key and a type, into the partition of its key.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn pipe(
        &mut self,
        topic: &str,
        key: &str,
        value: &str,
        kind: &str,
    ) -> Result<(), DriverError> {
        let mut headers = Headers::new();
        headers.push(header::TYPE, kind);
        self.pipe_raw(OutRecord {
            topic: TopicName::new(topic)?,
            partition: None,
            key: Some(key.as_bytes().to_vec()),
            value: Some(value.as_bytes().to_vec()),
            headers,
        })
    }

    /// Produces a record as it is.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn pipe_raw(&mut self, record: OutRecord) -> Result<(), DriverError> {
        self.sim.append(vec![record])?;
        Ok(())
    }

    /// Every committed record of a topic, partition by partition, in order.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn read(&self, topic: &str) -> Result<Vec<Record>, DriverError> {
        let name = TopicName::new(topic)?;
        let info = self.sim.topic(&name)?.ok_or_else(|| LogError::NoTopic(name.clone()))?;
        let mut reader = self.sim.reader(Isolation::Committed)?;
        let mut found = Vec::new();
        for partition in (0..info.partitions).map(Partition) {
            let (first, end) = reader.bounds(&name, partition)?;
            reader.seek(&name, partition, first)?;
            while reader.position()? < end {
                found.extend(reader.read(1_000, Duration::ZERO)?);
            }
        }
        Ok(found)
    }

    /// The committed offsets of a stage's group.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn offsets(&self, stage: &str) -> Result<BTreeMap<Partition, NextOffset>, DriverError> {
        let LaneId(at) = self.lane_of(stage)?;
        let stage = &self.seats[at].stage;
        Ok(self.sim.committed(&stage.group, &stage.input.name)?)
    }

    /// A value of a task's state, as its operators see it; `None` too if no lane runs the task.
    #[must_use]
    pub fn state(
        &self,
        stage: &str,
        partition: Partition,
        store: &str,
        key: &[u8],
    ) -> Option<Vec<u8>> {
        self.running(stage, partition)?.state().get(store, key)
    }

    /// All pairs of a store of a task, in the order of their keys.
    #[must_use]
    pub fn scan(&self, stage: &str, partition: Partition, store: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.running(stage, partition)
            .map(|task| task.state().scan(store, b"", b"", usize::MAX >> 1))
            .unwrap_or_default()
    }

    fn running(&self, stage: &str, partition: Partition) -> Option<&crate::engine::task::Task> {
        self.seats
            .iter()
            .filter(|seat| seat.stage.name == stage && !seat.frozen)
            .find_map(|seat| seat.lane.as_ref()?.task(partition))
    }

    /// What a stage has counted.
    #[must_use]
    pub fn counts(&self, stage: &str) -> Counts {
        self.board.read().remove(stage).unwrap_or_default()
    }

    /// What may be seen of the lanes.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    // Effects.

    /// The effects that were handed out and wait for an answer, oldest first.
    #[must_use]
    pub fn effects(&self) -> Vec<Asked> {
        self.desk.asked()
    }

    /// Answers an effect.
    ///
    /// # Errors
    /// [`DriverError::Nothing`] if it does not wait (any more).
    pub fn answer(&mut self, number: u64, outcome: Outcome) -> Result<(), DriverError> {
        if self.desk.answer(number, outcome) {
            return Ok(());
        }
        Err(DriverError::Nothing(format!("effect {number} that waits")))
    }

    /// Answers every effect by `performer` from now on, also those that wait already.
    pub fn perform(&mut self, performer: impl FnMut(&Effect) -> Option<Outcome> + 'static) {
        self.performer = Some(Box::new(performer));
    }

    /// An answer to an earlier life of a task comes to a lane, late.
    ///
    /// # Errors
    /// [`DriverError::Nothing`].
    pub fn answer_earlier_life(
        &mut self,
        lane: LaneId,
        asked: &Asked,
        outcome: Outcome,
    ) -> Result<(), DriverError> {
        let life = self.seat(lane)?.life;
        let task = (asked.partition, 0);
        self.desk.answer_late(life, Done { task, attempt: asked.attempt, outcome });
        Ok(())
    }

    fn perform_all(&mut self) -> bool {
        let Some(performer) = &mut self.performer else { return false };
        let mut answered = false;
        for asked in self.desk.asked() {
            if let Some(outcome) = performer(&asked.effect) {
                answered |= self.desk.answer(asked.number, outcome);
            }
        }
        answered
    }

    // Running.

    /// Runs every lane, and the performer, until nothing is left to do at this time. Lanes that
    /// fail for a reason outside are built anew, as a process does.
    ///
    /// # Errors
    /// [`DriverError`]: [`DriverError::Stopped`] if a lane cannot go on.
    pub fn run_until_idle(&mut self) -> Result<(), DriverError> {
        let mut lives = vec![LIVES_MAX; self.seats.len()];
        let mut idle = 0;
        for _ in 0..CYCLES_MAX {
            let mut busy = self.perform_all();
            for at in 0..self.seats.len() {
                busy |= self.step_seat(at, &mut lives)?;
            }
            idle = if busy { 0 } else { idle + 1 };
            if idle == 2 {
                return Ok(());
            }
        }
        Err(DriverError::Restless)
    }

    /// One cycle of one lane; `true` if it did something.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn step(&mut self, lane: LaneId) -> Result<bool, DriverError> {
        self.seat(lane)?;
        self.step_seat(lane.0, &mut vec![1; self.seats.len()])
    }

    fn step_seat(&mut self, at: usize, lives: &mut [u32]) -> Result<bool, DriverError> {
        let seat = &self.seats[at];
        // A lane that finds the outside away comes back when time has passed.
        if seat.frozen || seat.gone || (seat.lane.is_none() && lives[at] == 0) {
            return Ok(false);
        }
        let result = match &mut self.seats[at].lane {
            Some(lane) => lane.step(self.now, Duration::ZERO),
            None => self.build(at).map(|()| true),
        };
        let error = match result {
            Ok(busy) => return Ok(busy),
            Err(error) => error,
        };
        let seat = &mut self.seats[at];
        seat.lane = None;
        let outside = matches!(error, LaneError::Store(_))
            || matches!(error, LaneError::Log(LogError::Unavailable(_)));
        if !outside {
            seat.gone = true;
            let stage = seat.stage.name.clone();
            return Err(DriverError::Stopped { stage, text: error.to_string() });
        }
        lives[at] = lives[at].saturating_sub(1);
        Ok(lives[at] > 0)
    }

    fn build(&mut self, at: usize) -> Result<(), LaneError> {
        let seat = &mut self.seats[at];
        let port: DeskPort = self.desk.port(&seat.stage.name);
        seat.life = port.lane;
        seat.lane = Some(Lane::join(LaneParts {
            stage: seat.stage.clone(),
            log: self.log.clone(),
            stores: Arc::new(seat.stores.clone()),
            effects: Box::new(port),
            board: self.board.clone(),
            status: self.status.clone(),
            pace: self.pace,
            member: MemberSpec {
                group: seat.stage.group.clone(),
                topic: seat.stage.input.name.clone(),
                instance: seat.instance.clone(),
                transaction_timeout: Duration::from_secs(10),
                session_timeout: Duration::from_secs(6),
            },
        })?);
        Ok(())
    }
}
