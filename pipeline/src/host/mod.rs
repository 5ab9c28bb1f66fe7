//! The host: threads, clocks and the tokio runtime around the engine. One process is one host.
//!
//! `mod` start to end · `worker` the loop of one lane's thread · `ports` between lanes and
//! connectors · `gate` what is paused · `clock` the wall clock · `identity` the instance id.
//!
//! Invariants: nothing blocking runs on a tokio worker, nothing async on a lane's thread; a lane
//! that cannot go on for a reason outside is built anew with back-off, one that cannot go on at all
//! ends the process with one sentence.

mod clock;
pub mod gate;
pub mod identity;
pub mod ports;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use semel_connectors::{perform::Performer, sink::Sink};
use semel_schemas::topic::Partition;
use tokio::runtime::Handle;

use self::worker::{SinkWorker, StageWorker, Worker};
use crate::{
    admin::repartition::in_force,
    engine::{counts::Board, lane::Stores, pace::Pace, status::Status},
    log::{Log, LogError, MemberSpec},
    spec::plan::Plan,
    state::{LocalStore, StoreError, TaskStore},
};

/// How long lanes have to finish.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// What a process needs to run a plan.
pub struct HostParts {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Local stores.
    pub stores: Arc<dyn Stores>,
    /// Performs effects.
    pub performer: Arc<dyn Performer>,
    /// Sinks by name, prepared.
    pub sinks: BTreeMap<String, Arc<dyn Sink>>,
    /// The process's instance id.
    pub instance: String,
    /// How long a transaction may stay open.
    pub transaction_timeout: Duration,
    /// How long a group waits for a silent member.
    pub session_timeout: Duration,
}

impl std::fmt::Debug for HostParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostParts").field("plan", &self.plan.name).finish_non_exhaustive()
    }
}

/// A running pipeline.
#[derive(Debug)]
pub struct Host {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
    ends: mpsc::Receiver<Result<(), String>>,
    /// Counts by stage and sink.
    pub board: Arc<Board>,
    /// What the lanes are doing.
    pub status: Arc<Status>,
    /// What a person has paused.
    pub gate: Arc<gate::Gate>,
}

/// While there is a backlog a transaction grows to this: the more records it holds, the more often a
/// key is written once for many of them. Without one it ends when the input runs dry.
pub(crate) const PACE: Pace = Pace { inputs_max: 20_000, writes_max: 60_000, interval_ms_max: 400 };

/// Bytes that a task holds back from its local store: what is lost of it by a crash is read again from
/// the changelog, in a fraction of a second.
const HELD_MAX: usize = 8 << 20;

/// Local stores on disk.
#[derive(Debug)]
pub struct DiskStores(pub LocalStore);

impl Stores for DiskStores {
    fn open(&self, stage: &str, partition: Partition) -> Result<Box<dyn TaskStore>, StoreError> {
        Ok(Box::new(self.0.task(&format!("{stage}/{partition}"))?))
    }

    fn held_max(&self) -> usize {
        HELD_MAX
    }
}

/// Creates the topics of a plan that are missing.
///
/// # Errors
/// [`LogError`]; nothing that exists is changed, and nothing is created where the log has another
/// generation of a topic.
pub fn create_topics(log: &dyn Log, plan: &Plan) -> Result<(), LogError> {
    in_force(log, plan)?;
    for topic in &plan.topics {
        log.create_topic(topic)?;
    }
    Ok(())
}

/// The guard that `SEMEL_SABOTAGE` switches off on each lane, to show that `semel verify` notices.
#[cfg(feature = "sabotage")]
fn broken() -> Result<Option<semel_schemas::sabotage::Sabotage>, String> {
    let Ok(name) = std::env::var("SEMEL_SABOTAGE") else { return Ok(None) };
    let found = semel_schemas::sabotage::Sabotage::named(&name);
    found.map(Some).ok_or_else(|| format!("SEMEL_SABOTAGE: there is no guard `{name}`"))
}

impl Host {
    /// Starts every lane. The topics must exist.
    ///
    /// # Errors
    /// A sentence if the process cannot start threads.
    pub fn start(parts: HostParts, runtime: &Handle) -> Result<Self, String> {
        let board = Arc::new(Board::default());
        let status = Arc::new(Status::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, ends) = mpsc::channel();
        let mut workers: Vec<(String, Box<dyn Worker>)> = Vec::new();
        let member = |group: &str, topic, name: &str, lane: u32| MemberSpec {
            group: group.to_owned(),
            topic,
            instance: format!("{}.{name}.{}.{lane}", parts.plan.name, parts.instance),
            transaction_timeout: parts.transaction_timeout,
            session_timeout: parts.session_timeout,
        };
        for (stage, lanes) in &parts.plan.stages {
            for lane in 0..*lanes {
                let member = member(&stage.group, stage.input.name.clone(), &stage.name, lane);
                workers.push((
                    format!("{}-{lane}", stage.name),
                    Box::new(StageWorker {
                        stage: stage.clone(),
                        log: parts.log.clone(),
                        stores: parts.stores.clone(),
                        performer: parts.performer.clone(),
                        runtime: runtime.clone(),
                        board: board.clone(),
                        status: status.clone(),
                        pace: PACE,
                        member,
                        lane: None,
                    }),
                ));
            }
        }
        for sink in &parts.plan.sinks {
            let Some(database) = parts.sinks.get(&sink.name) else {
                return Err(format!("sink `{}` has no database", sink.name));
            };
            let member = member(&sink.group, sink.topic.name.clone(), &sink.name, 0);
            workers.push((
                sink.name.clone(),
                Box::new(SinkWorker {
                    name: sink.name.clone(),
                    topic: sink.topic.clone(),
                    dead_letter: sink.dead_letter.clone(),
                    log: parts.log.clone(),
                    database: database.clone(),
                    runtime: runtime.clone(),
                    board: board.clone(),
                    status: status.clone(),
                    member,
                    lane: None,
                }),
            ));
        }
        let (gate, commands) =
            gate::watch(&parts.log, &parts.plan.commands, &stop).map_err(|e| e.to_string())?;
        let mut threads = vec![commands];
        #[cfg(feature = "sabotage")]
        let broken = broken()?;
        for (name, mut worker) in workers {
            let (stop, tell, gate) = (stop.clone(), tell.clone(), gate.clone());
            let spawned = thread::Builder::new().name(name).spawn(move || {
                #[cfg(feature = "sabotage")]
                let _off = broken.map(semel_schemas::sabotage::Sabotage::begin);
                let end = worker::run(&mut *worker, &gate, &stop);
                tell.send(end).ok();
            });
            threads.push(spawned.map_err(|e| format!("a lane's thread cannot be started: {e}"))?);
        }
        Ok(Self { stop, threads, ends, board, status, gate })
    }

    /// Asks every lane to finish: commit, hand over, leave.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Waits a moment for a lane that ended for a reason of its own.
    ///
    /// # Errors
    /// Its sentence.
    pub fn failed(&self, wait: Duration) -> Result<(), String> {
        match self.ends.recv_timeout(wait) {
            Ok(end) => end,
            Err(_) => Ok(()),
        }
    }

    /// Stops, and waits until every lane has ended, but not for ever: a log that does not answer
    /// must not keep a process from ending. What was not committed is done by the next owner.
    ///
    /// # Errors
    /// The first lane's sentence that is not a plain end.
    pub fn join(self) -> Result<(), String> {
        self.stop();
        let deadline = Instant::now() + DRAIN_MAX;
        while !self.threads.iter().all(thread::JoinHandle::is_finished) {
            if Instant::now() > deadline {
                return Err(format!(
                    "some lanes did not end within {} s (is the log reachable?); what they had not \
                     committed will be done by the next owner",
                    DRAIN_MAX.as_secs()
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
        let mut result = Ok(());
        for thread in self.threads {
            if thread.join().is_err() {
                result = result.and(Err("a lane panicked: see the log above".to_owned()));
            }
        }
        while let Ok(end) = self.ends.try_recv() {
            result = result.and(end);
        }
        result
    }
}
