//! The loop of one lane's thread: build, step, and build anew after a failure from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use semel_connectors::{perform::Performer, sink::Sink};
use semel_schemas::time::WallTime;
use tokio::runtime::Handle;

use super::{
    clock::JumpClock,
    gate::Gate,
    ports::{DatabasePort, PerformerPort},
};
use crate::{
    engine::{
        counts::Board,
        lane::{Lane, LaneError, LaneParts, Stores},
        pace::Pace,
        sink_lane::{SinkLane, SinkParts},
        status::Status,
        topology::{Stage, TopicRef},
    },
    log::{Log, LogError, MemberSpec},
};

/// How long an idle lane waits in a poll.
const IDLE: Duration = Duration::from_millis(50);
/// Back-off between two builds of a lane.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A wall clock that jumps further ends the process.
const CLOCK_JUMP_MAX: Duration = Duration::from_secs(3_600);

/// Our place in the group taken twice within this time means that another process bears our id.
const REPLACED_WINDOW: Duration = Duration::from_secs(60);

/// One lane of either kind.
pub(super) trait Worker: Send {
    /// The stage or sink.
    fn name(&self) -> &str;
    /// Joins the group; an earlier lane is dropped.
    fn build(&mut self) -> Result<(), LaneError>;
    /// One cycle.
    fn step(&mut self, now: WallTime) -> Result<bool, LaneError>;
    /// Lets nobody take for true what an earlier lane, which failed, told of itself.
    fn forget(&self);
    /// Finishes and leaves.
    fn drain(&mut self, now: WallTime) -> Result<(), LaneError>;
}

/// A stage's lane.
pub(super) struct StageWorker {
    pub(super) stage: Arc<Stage>,
    pub(super) log: Arc<dyn Log>,
    pub(super) stores: Arc<dyn Stores>,
    pub(super) performer: Arc<dyn Performer>,
    pub(super) runtime: Handle,
    pub(super) board: Arc<Board>,
    pub(super) status: Arc<Status>,
    pub(super) pace: Pace,
    pub(super) member: MemberSpec,
    pub(super) lane: Option<Lane>,
}

impl Worker for StageWorker {
    fn name(&self) -> &str {
        &self.stage.name
    }

    fn build(&mut self) -> Result<(), LaneError> {
        self.lane = None;
        self.lane = Some(Lane::join(LaneParts {
            stage: self.stage.clone(),
            log: self.log.clone(),
            stores: self.stores.clone(),
            effects: Box::new(PerformerPort::new(&self.runtime, self.performer.clone())),
            board: self.board.clone(),
            status: self.status.clone(),
            pace: self.pace,
            member: self.member.clone(),
        })?);
        Ok(())
    }

    fn step(&mut self, now: WallTime) -> Result<bool, LaneError> {
        self.lane.as_mut().map_or(Ok(false), |lane| lane.step(now, IDLE))
    }

    fn forget(&self) {
        self.status.remove(&self.member.instance);
    }

    fn drain(&mut self, now: WallTime) -> Result<(), LaneError> {
        self.lane.take().map_or(Ok(()), |lane| lane.drain(now))
    }
}

/// A sink's lane.
pub(super) struct SinkWorker {
    pub(super) name: String,
    pub(super) topic: TopicRef,
    pub(super) dead_letter: TopicRef,
    pub(super) log: Arc<dyn Log>,
    pub(super) database: Arc<dyn Sink>,
    pub(super) runtime: Handle,
    pub(super) board: Arc<Board>,
    pub(super) status: Arc<Status>,
    pub(super) member: MemberSpec,
    pub(super) lane: Option<SinkLane>,
}

impl Worker for SinkWorker {
    fn name(&self) -> &str {
        &self.name
    }

    fn build(&mut self) -> Result<(), LaneError> {
        self.lane = None;
        let topic = self.topic.name.clone();
        let info = self.log.topic(&topic)?.ok_or_else(|| LogError::NoTopic(topic.clone()))?;
        self.lane = Some(SinkLane::join(SinkParts {
            name: self.name.clone(),
            topic: self.topic.clone(),
            dead_letter: self.dead_letter.clone(),
            log: self.log.clone(),
            port: Box::new(DatabasePort::new(&self.runtime, self.database.clone(), topic, info.id)),
            board: self.board.clone(),
            status: self.status.clone(),
            member: self.member.clone(),
        })?);
        Ok(())
    }

    fn step(&mut self, now: WallTime) -> Result<bool, LaneError> {
        self.lane.as_mut().map_or(Ok(false), |lane| lane.step(now, IDLE))
    }

    fn forget(&self) {
        self.status.remove(&self.member.instance);
    }

    fn drain(&mut self, now: WallTime) -> Result<(), LaneError> {
        self.lane.take().map_or(Ok(()), |lane| lane.drain(now))
    }
}

/// Runs a worker until `stop`, or until it cannot go on: then `stop` is set for all. While the gate
/// is shut it is drained and out of its group.
///
/// # Errors
/// The sentence of the failure that ended it.
pub(super) fn run(worker: &mut dyn Worker, gate: &Gate, stop: &AtomicBool) -> Result<(), String> {
    let mut clock = JumpClock::new(CLOCK_JUMP_MAX);
    let mut backoff = BACKOFF.0;
    let mut replaced_at = None;
    let result = loop {
        let error = match run_once(worker, gate, stop, &mut clock, &mut backoff) {
            Ok(()) => break Ok(()),
            Err(error) => error,
        };
        if is_final(&error, &mut replaced_at, Instant::now()) {
            break Err(error.to_string());
        }
        if stop.load(Ordering::SeqCst) {
            break Ok(());
        }
        worker.forget();
        tracing::warn!(stage = worker.name(), %error, retry_ms = backoff.as_millis(), "the lane is built anew");
        thread::sleep(backoff);
        backoff = (backoff * 2).min(BACKOFF.1);
    };
    if result.is_err() {
        stop.store(true, Ordering::SeqCst);
    }
    result
}

fn run_once(
    worker: &mut dyn Worker,
    gate: &Gate,
    stop: &AtomicBool,
    clock: &mut JumpClock,
    backoff: &mut Duration,
) -> Result<(), LaneError> {
    let fatal = |error: super::clock::ClockJump| LaneError::Fatal(error.to_string());
    let goes_on = || !stop.load(Ordering::SeqCst);
    while goes_on() {
        while goes_on() && gate.is_shut(worker.name()) {
            thread::sleep(IDLE);
        }
        if !goes_on() {
            break;
        }
        worker.build()?;
        while goes_on() && !gate.is_shut(worker.name()) {
            if worker.step(clock.now().map_err(fatal)?)? {
                *backoff = BACKOFF.0;
            }
        }
        worker.drain(clock.now().map_err(fatal)?)?;
    }
    Ok(())
}

/// Whether building the lane anew would end the same way. `replaced_at`: when we were replaced in
/// the group last.
fn is_final(error: &LaneError, replaced_at: &mut Option<Instant>, now: Instant) -> bool {
    match error {
        LaneError::Fatal(_) => true,
        LaneError::Store(_) | LaneError::Log(LogError::Unavailable(_)) => false,
        LaneError::Log(LogError::Replaced { .. }) => {
            replaced_at.replace(now).is_some_and(|at| now.duration_since(at) < REPLACED_WINDOW)
        }
        LaneError::Log(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_38_who_is_replaced_twice_in_a_minute_stops() {
        let replaced = || LogError::Replaced { group: "g".into(), instance: "i".into() }.into();
        let mut at = None;
        let begin = Instant::now();
        let mut after = |s| is_final(&replaced(), &mut at, begin + Duration::from_secs(s));
        assert!(!after(0), "a join that was made twice looks the same");
        assert!(!after(60), "a minute later it may be so again");
        assert!(after(119));
        let away = LogError::Unavailable("away".into()).into();
        assert!(!is_final(&away, &mut at, begin + Duration::from_secs(120)));
    }
}
