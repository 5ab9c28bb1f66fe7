//! The world of one run: one thread, one clock, every process, and what happens to them.
//!
//! Lives here: turns and time, the beginning and the end of a lane's step. May not live here: what
//! an event does (`act`), what must be true (`invariants`). Invariants: no clock but the world's, no
//! order but the seed's; while a lane is in a step nothing of the world is borrowed, so that a
//! process may stand still within a call and the others go on.

mod act;

use std::{
    any::Any,
    cell::RefCell,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
};

use semel_schemas::time::WallTime;

use super::{
    chain::SLOT_MS,
    invariants::{Broken, Checks, Scene},
    options::Options,
    outside::Outside,
    process::{AnyLane, BACKOFF_MS, Process, Role, Seat, Shop},
    rng::{Rng, Stream, scattered},
    samples::Place,
    schedule::{Event, Last},
    starts::Starts,
    tap::{Call, Crashed, Fate},
};
use crate::{
    engine::lane::LaneError,
    log::{
        LogError,
        sim::{LateCommit, SimLog},
    },
    testing::parts::MemStores,
};

/// Longest step of an idle clock.
const IDLE_MS: u64 = 400;
/// How long the world may take to come to rest once faults and inputs have ended.
const REST_MS: u64 = 400_000;
/// Least milliseconds of a round on that way.
const CALM_ROUND_MS: u64 = 20;
/// Milliseconds between two looks whether the world has come to rest.
const LOOK_MS: u64 = 1_000;

/// What went wrong in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The invariant; `REST` if a process never comes back, `STOPPED` or `PANIC` if a lane ends in a
    /// way that no fault explains. What an invariant promises and never comes breaks it, too.
    pub invariant: String,
    /// One sentence.
    pub text: String,
    /// Milliseconds from the begin of the run.
    pub at_ms: u64,
}

/// Everything of a run.
pub(super) struct Inner {
    pub(super) options: Arc<Options>,
    pub(super) shop: Shop,
    pub(super) sim: SimLog,
    pub(super) outside: Outside,
    pub(super) processes: Vec<Process>,
    pub(super) seats: Vec<Seat>,
    pub(super) events: VecDeque<Event>,
    pub(super) late: Vec<(u64, SimLog, LateCommit)>,
    pub(super) place: Place,
    pub(super) starts: Starts,
    pub(super) begin_ms: u64,
    pub(super) now_ms: u64,
    pub(super) turn: u64,
    pub(super) steps: u64,
    pub(super) trace: Option<Vec<String>>,
    pub(super) checks: Checks,
    pub(super) failure: Option<Failure>,
    pub(super) markers_until: u64,
    /// Milliseconds between two markers meanwhile, and when the next one arrives.
    pub(super) markers_every_ms: u64,
    pub(super) markers_last: Last,
    pub(super) marker_at: u64,
    pub(super) stall_until: u64,
    /// Faults and inputs have ended.
    pub(super) calm: bool,
    /// Within a call of a process that stands still.
    pub(super) nested: bool,
}

/// See the module.
pub(super) struct World(RefCell<Inner>);

thread_local! {
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

fn current() -> Option<Rc<World>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Writes a line of the trace, if there is one.
pub(super) fn note(text: impl FnOnce() -> String) {
    let Some(world) = current() else { return };
    if let Ok(mut inner) = world.0.try_borrow_mut() {
        inner.note(text);
    }
}

/// A process stands still within a call; the others go on.
pub(super) fn stand_still(process: usize, ms: u64, call: Call) {
    let Some(world) = current() else { return };
    let life = {
        let Ok(mut inner) = world.0.try_borrow_mut() else { return };
        if inner.nested {
            return;
        }
        inner.nested = true;
        inner.note(|| format!("p{process} stands still for {ms} ms at {call:?}"));
        let until = inner.now_ms + ms;
        let process = &mut inner.processes[process];
        process.still_until = process.still_until.max(until);
        process.life
    };
    while !world.is_over() && world.0.borrow().processes[process].still_until > world.now_ms() {
        world.round();
    }
    let mut inner = world.0.borrow_mut();
    inner.nested = false;
    inner.note(|| format!("p{process} goes on"));
    if inner.processes[process].life != life {
        drop(inner);
        std::panic::resume_unwind(Box::new(Crashed));
    }
}

/// The last request of a commit arrives later.
pub(super) fn deliver_later(log: &SimLog, late: LateCommit, ms: u64) {
    let Some(world) = current() else { return };
    if let Ok(mut inner) = world.0.try_borrow_mut() {
        let at = inner.now_ms + ms;
        inner.note(|| format!("a commit is under way for {ms} ms"));
        inner.late.push((at, log.clone(), late));
    }
}

/// A step that has begun.
struct Begun {
    seat: usize,
    process: usize,
    life: u64,
    /// Its number among all steps.
    number: u64,
    now: WallTime,
    lane: Option<AnyLane>,
    build: Option<(Shop, Role, Fate, MemStores)>,
}

/// How a step ended.
type Ended = Result<Result<bool, LaneError>, Box<dyn Any + Send>>;

impl World {
    /// A world in which nothing has happened.
    pub(super) fn new(inner: Inner) -> Rc<Self> {
        Rc::new(Self(RefCell::new(inner)))
    }

    /// Runs to the end: inputs and faults, then until everything is at rest.
    pub(super) fn run(self: &Rc<Self>) {
        CURRENT.with(|current| *current.borrow_mut() = Some(self.clone()));
        while !self.is_over() && !self.0.borrow().is_past_horizon() {
            self.round();
        }
        self.0.borrow_mut().calm_down();
        let deadline = self.now_ms() + REST_MS;
        let (mut look_at, mut progress_at, mut rests) = (0, 0, true);
        while !self.is_over() {
            self.round();
            let mut inner = self.0.borrow_mut();
            if inner.now_ms >= progress_at {
                progress_at = inner.now_ms + inner.options.epoch_slots * SLOT_MS;
                inner.go_on();
            }
            if inner.failure.is_none() && inner.now_ms >= look_at {
                look_at = inner.now_ms + LOOK_MS;
                let left = inner.unfinished();
                match left {
                    None => break,
                    Some((id, _)) if inner.now_ms > deadline && !inner.checks.counts(id) => {
                        // It never will, for a reason that does not count.
                        rests = false;
                        break;
                    }
                    Some((id, text)) if inner.now_ms > deadline => {
                        let late = format!("{text}, {} s after the last fault", REST_MS / 1_000);
                        inner.fail(id, &late);
                    }
                    Some(_) => {}
                }
            }
        }
        if rests {
            self.0.borrow_mut().check_end();
        }
        // What the lanes still hold goes with them, before the world does.
        self.0.borrow_mut().seats.clear();
        CURRENT.with(|current| *current.borrow_mut() = None);
    }

    /// What is left of it.
    pub(super) fn into_inner(self: Rc<Self>) -> Option<Inner> {
        Rc::into_inner(self).map(|world| world.0.into_inner())
    }

    fn is_over(&self) -> bool {
        self.0.borrow().failure.is_some()
    }

    fn now_ms(&self) -> u64 {
        self.0.borrow().now_ms
    }

    /// One turn of every lane.
    fn round(&self) {
        let drains = self.0.borrow_mut().happen();
        for process in drains {
            self.drain(process);
        }
        let order = self.0.borrow_mut().order();
        let mut busy = false;
        for seat in order {
            busy |= self.step(seat);
            if self.is_over() {
                return;
            }
        }
        let mut inner = self.0.borrow_mut();
        inner.pass(busy);
    }

    fn step(&self, seat: usize) -> bool {
        let Some(mut begun) = self.0.borrow_mut().begin(seat) else { return false };
        let ended: Ended = catch_unwind(AssertUnwindSafe(|| {
            if let Some((shop, role, fate, stores)) = &begun.build {
                begun.lane = Some(shop.build(role, begun.process, fate, stores)?);
                return Ok(true);
            }
            begun.lane.as_mut().map_or(Ok(false), |lane| lane.step(begun.now))
        }));
        let mut inner = self.0.borrow_mut();
        let busy = inner.end(begun, ended);
        inner.check();
        busy
    }

    /// A process finishes as at SIGTERM, and comes back soon.
    fn drain(&self, process: usize) {
        let (lanes, now) = self.0.borrow_mut().take_lanes(process);
        for lane in lanes {
            let ended: Ended = catch_unwind(AssertUnwindSafe(|| lane.drain(now).map(|()| true)));
            let mut inner = self.0.borrow_mut();
            match ended {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => inner.note(|| format!("p{process} drains: {error}")),
                Err(payload) => inner.unwound(process, &*payload),
            }
            inner.check();
        }
        self.0.borrow_mut().kill(process, "has drained");
    }
}

impl Inner {
    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>7} {}", self.now_ms - self.begin_ms, text()));
        }
    }

    pub(super) fn fail(&mut self, invariant: &str, text: &str) {
        if self.failure.is_none() {
            self.note(|| format!("{invariant}: {text}"));
            let at_ms = self.now_ms - self.begin_ms;
            let (invariant, text) = (invariant.to_owned(), text.to_owned());
            self.failure = Some(Failure { invariant, text, at_ms });
        }
    }

    fn is_past_horizon(&self) -> bool {
        self.events.is_empty() && self.now_ms >= self.begin_ms + self.options.horizon_ms
    }

    /// The order of this turn: drawn from the seed and the turn alone.
    fn order(&mut self) -> Vec<usize> {
        self.turn += 1;
        let mut rng = Rng::new(scattered(self.options.seed, self.turn), Stream::Turns);
        let mut order: Vec<usize> = (0..self.seats.len()).collect();
        for last in (1..order.len()).rev() {
            let at = usize::try_from(rng.below(last as u64 + 1)).unwrap_or(0);
            order.swap(at, last);
        }
        order
    }

    /// Time passes.
    fn pass(&mut self, busy: bool) {
        let arrives = self.markers_until > 0 && !self.arriving().is_empty();
        let step = if busy && self.calm {
            // A lane that is busy for ever must not take for ever.
            self.options.round_ms.max(CALM_ROUND_MS)
        } else if busy || (arrives && self.marker_at <= self.now_ms) {
            self.options.round_ms
        } else {
            let mut next = self.now_ms + IDLE_MS;
            let event = self.events.front().map(|event| self.begin_ms + event.at_ms);
            let ups = self.processes.iter().filter(|p| !p.up).map(|p| p.up_at);
            let stills = self.processes.iter().map(|p| p.still_until);
            let late = self.late.iter().map(|(at, ..)| *at);
            let late = late.chain([self.markers_until, self.marker_at]);
            let all = event.into_iter().chain(self.outside.next()).chain(ups).chain(stills);
            for at in all.chain(late).filter(|at| *at > self.now_ms) {
                next = next.min(at);
            }
            next - self.now_ms
        };
        self.now_ms += step;
        self.sim.advance(step);
    }

    fn begin(&mut self, at: usize) -> Option<Begun> {
        let seat = self.seats.get_mut(at)?;
        let process = &self.processes[seat.process];
        if !process.up || process.still_until > self.now_ms {
            return None;
        }
        let mut begun = Begun {
            seat: at,
            process: seat.process,
            life: process.life,
            number: 0,
            now: process.clock(self.now_ms),
            lane: seat.lane.take(),
            build: None,
        };
        if begun.lane.is_none() {
            if seat.build_at > self.now_ms {
                return None;
            }
            let (fate, stores) = (process.fate.clone(), process.stores.clone());
            begun.build = Some((self.shop.clone(), seat.role.clone(), fate, stores));
        }
        self.steps += 1;
        self.starts.step = self.steps;
        begun.number = self.steps;
        Some(begun)
    }

    /// A step has ended; whether it did something.
    fn end(&mut self, begun: Begun, ended: Ended) -> bool {
        let seat = begun.seat;
        if self.processes[begun.process].life != begun.life {
            return true;
        }
        let error = match ended {
            Ok(Ok(busy)) => {
                if let (Role::Stage(stage, _), Some(AnyLane::Stage(lane))) =
                    (&self.seats[seat].role, &begun.lane)
                {
                    let is_active = |partition| lane.task(partition).is_some();
                    let step = (seat, begun.number);
                    self.starts.look(step, &stage.input, self.now_ms, is_active);
                }
                self.seats[seat].lane = begun.lane;
                if busy {
                    self.seats[seat].backoff_ms = BACKOFF_MS.0;
                }
                return busy;
            }
            Ok(Err(error)) => error,
            Err(payload) => {
                self.unwound(begun.process, &*payload);
                return true;
            }
        };
        let name = self.seats[seat].name.clone();
        self.note(|| format!("{name} ends: {error}"));
        self.starts.gone(seat, self.now_ms);
        if is_final(&error) {
            self.stopped(begun.process, &name, &error.to_string());
            return true;
        }
        let seat = &mut self.seats[seat];
        seat.build_at = self.now_ms + seat.backoff_ms;
        seat.backoff_ms = (seat.backoff_ms * 2).min(BACKOFF_MS.1);
        true
    }

    /// A process ended with a sentence for a person.
    fn stopped(&mut self, process: usize, name: &str, text: &str) {
        // Transactions that time out twice within a minute look like a second process of that name.
        if text.contains("twice fenced within a minute") {
            self.kill(process, "stops");
        } else {
            self.fail("STOPPED", &format!("{name} stopped, and no fault explains it: {text}"));
        }
    }

    fn unwound(&mut self, process: usize, payload: &(dyn Any + Send)) {
        if payload.is::<Crashed>() {
            self.kill(process, "is dead");
            return;
        }
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason");
        self.fail("PANIC", &format!("a lane of process {process} panicked: {text}"));
    }

    /// The process is gone; it comes back after a while.
    pub(super) fn kill(&mut self, process: usize, how: &str) {
        self.note(|| format!("p{process} {how}"));
        let seed = self.options.seed;
        let it = &mut self.processes[process];
        it.life += 1;
        it.up = false;
        it.still_until = 0;
        // Now and then for longer than a session.
        let away = match scattered(seed, it.life * 64 + process as u64) % 8 {
            0 => 9_000,
            n => n * 100,
        };
        it.up_at = self.now_ms + away;
        let seats = self.seats.iter_mut().enumerate();
        for (number, seat) in seats.filter(|(_, seat)| seat.process == process) {
            self.starts.gone(number, self.now_ms);
            seat.lane = None;
            seat.build_at = 0;
            seat.backoff_ms = BACKOFF_MS.0;
        }
    }

    fn take_lanes(&mut self, process: usize) -> (Vec<AnyLane>, WallTime) {
        let seats = self.seats.iter_mut().filter(|seat| seat.process == process);
        let lanes = seats.filter_map(|seat| seat.lane.take()).collect();
        (lanes, self.processes[process].clock(self.now_ms))
    }

    fn scene(&mut self) -> Scene<'_> {
        Scene {
            options: &self.options,
            sim: &self.sim,
            chain: &mut self.outside.chain,
            database: &self.outside.database,
            place: &self.place,
            starts: &self.starts,
        }
    }

    /// Every invariant, if there is anything new to look at.
    fn check(&mut self) {
        let mut checks = std::mem::take(&mut self.checks);
        let found = checks.step(&mut self.scene());
        for line in checks.news() {
            self.note(|| line);
        }
        self.checks = checks;
        if let Err((id, text)) = found {
            self.fail(id, &text);
        }
    }

    /// What keeps the world from being at rest.
    fn unfinished(&mut self) -> Option<Broken> {
        if let Some(process) = self.processes.iter().position(|process| !process.up) {
            return Some(("REST", format!("process {process} is not back")));
        }
        let mut checks = std::mem::take(&mut self.checks);
        let left = checks.unfinished(&mut self.scene());
        self.checks = checks;
        left
    }

    fn check_end(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let mut checks = std::mem::take(&mut self.checks);
        let found = checks.end(&mut self.scene());
        self.checks = checks;
        if let Err((id, text)) = found {
            self.fail(id, &text);
        }
    }
}

/// As the host decides: whether building the lane anew would end the same way.
fn is_final(error: &LaneError) -> bool {
    match error {
        LaneError::Fatal(_) => true,
        LaneError::Store(_) | LaneError::Log(LogError::Unavailable(_)) => false,
        LaneError::Log(_) => true,
    }
}
