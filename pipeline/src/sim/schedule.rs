//! What happens in a run, and when: a list of events, drawn from the seed before the run begins.
//!
//! A run is a function of its options and this list, so a list with events taken out is a run, too:
//! that is how a failure is shrunk. Invariant: events stand in the order of their times.

use std::fmt;

use semel_schemas::effect::Effect;

use super::{
    chain::{NodeFault, SLOT_MS},
    options::{Feed, Kind, Options},
    rng::{Rng, Stream},
    samples::{self, Sample},
    tap::{AWAY, Armed, CALLS, CARRIES, Call, What, When},
};
use crate::log::TxnFault;

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Milliseconds from the begin of the run.
    pub at_ms: u64,
    /// What.
    pub act: Act,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms  {:?}", self.at_ms, self.act)
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A user claims on the chain.
    Claim {
        /// Which user.
        user: u8,
        /// Which channel.
        channel: u8,
        /// Makes the transaction differ from all others.
        nonce: u32,
    },
    /// Records come into the pipeline's first topic from outside.
    Feed(Vec<Sample>),
    /// Something is to happen to a call of a process.
    Arm {
        /// Which process.
        process: usize,
        /// What.
        armed: Armed,
    },
    /// A process stands still, between two steps.
    Pause {
        /// Which process.
        process: usize,
        /// For how long.
        ms: u64,
    },
    /// A process drains, and comes back.
    Drain {
        /// Which process.
        process: usize,
    },
    /// A copy of a process's local stores is put aside.
    Backup {
        /// Which process.
        process: usize,
    },
    /// A process dies, and finds another disk when it comes back.
    Disk {
        /// Which process.
        process: usize,
        /// What it finds.
        disk: Disk,
    },
    /// A process's wall clock jumps.
    Clock {
        /// Which process.
        process: usize,
        /// By so many milliseconds.
        ms: i64,
    },
    /// The wall clocks of all processes jump ahead, so that every timer in between is due at once.
    Storm {
        /// By so many milliseconds.
        ms: i64,
    },
    /// Markers of transactions arrive one by one.
    Markers {
        /// For how long.
        ms: u64,
        /// Milliseconds between two of them.
        every_ms: u64,
        /// Which of them come last.
        last: Last,
    },
    /// Every changelog is compacted.
    Compact,
    /// The node does something wrong while it answers the next effects.
    Node {
        /// What.
        fault: NodeFault,
        /// For how many effects.
        effects: u32,
        /// Of which kind; `None`: of any.
        of: Option<Asks>,
    },
    /// Something happens to the next effect.
    Effect {
        /// What.
        fault: EffectFault,
        /// Of which kind; `None`: of any.
        of: Option<Asks>,
    },
    /// The chain makes no blocks.
    Stall {
        /// For how long.
        ms: u64,
    },
    /// Something happens to the next write to the database.
    Database(DatabaseFault),
    /// The database cannot be reached.
    DatabaseDown {
        /// For how long.
        ms: u64,
    },
}

/// Which markers come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Any.
    Any,
    /// Those of changelogs, when all others have arrived and nobody needs them any sooner: the
    /// group's offset is past what a changelog shows (KAFKA-10167).
    Changelogs,
}

/// What a process finds on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Nothing.
    Empty,
    /// The copy that was put aside last.
    Old,
}

/// What an effect asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Blocks.
    Blocks,
    /// An account.
    Account,
    /// What a transaction needs.
    Prepare,
    /// A signature.
    Sign,
    /// To be sent.
    Send,
    /// What has become of a transaction.
    Status,
}

const ASKS: &[Asks] = &[
    Asks::Blocks,
    Asks::Account,
    Asks::Prepare,
    Asks::Sign,
    Asks::Send,
    Asks::Send,
    Asks::Status,
    Asks::Status,
];

impl Asks {
    /// What this one asks for.
    #[must_use]
    pub const fn of(effect: &Effect) -> Self {
        match effect {
            // A source's next piece, of whichever kind.
            Effect::FetchSolana { .. } | Effect::ReadFile { .. } => Self::Blocks,
            Effect::SolanaAccount { .. } => Self::Account,
            Effect::SolanaPrepare { .. } => Self::Prepare,
            Effect::Sign { .. } => Self::Sign,
            Effect::SolanaBroadcast { .. } => Self::Send,
            Effect::SolanaStatus { .. } => Self::Status,
        }
    }
}

/// What happens to an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectFault {
    /// It is performed so many milliseconds later.
    Slow(u64),
    /// It is performed twice, and answered once.
    Twice,
    /// It is not performed, and nothing is known.
    Unperformed,
    /// It is performed at once and answered so many milliseconds later.
    SlowAnswer(u64),
    /// It is answered at once, and the same answer comes again so many milliseconds later.
    Again(u64),
    /// Of a status: one half of the answer is read at once, the other one so many milliseconds
    /// later. Whatever else is asked is answered late.
    Torn(u64),
}

/// What happens to a question to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseFault {
    /// It is done; the answer is lost.
    Lost,
    /// It is not done; nothing is known.
    Unknown,
    /// Nothing is known, and it is done so many milliseconds later.
    Late(u64),
    /// It is refused for now.
    Away,
    /// The answer takes so many milliseconds.
    Slow(u64),
    /// It is on its way for so many milliseconds, and holds nothing meanwhile: if who asked is gone
    /// by then, others have gone on.
    Stray(u64),
}

/// The events of a run.
#[must_use]
pub fn draw(options: &Options) -> Vec<Event> {
    let mut events = samples::inputs(options);
    let mut rng = Rng::new(options.seed, Stream::Faults);
    if !options.kinds.is_empty() {
        for _ in 0..options.faults {
            let kind = *rng.pick(&options.kinds);
            let at_ms = rng.below(options.horizon_ms);
            let several = together(options, kind, &mut rng);
            if several.is_empty() {
                events.push(Event { at_ms, act: fault(options, kind, &mut rng) });
            }
            events.extend(several);
        }
    }
    // Stable: what is drawn first happens first.
    events.sort_by_key(|event| event.at_ms);
    events
}

/// What does harm only together, if this fault is to be of that sort.
fn together(options: &Options, kind: Kind, rng: &mut Rng) -> Vec<Event> {
    let acts = match kind {
        Kind::Disk if options.tombstone_ms < SHORT_MS && rng.chance(1, 2) => old_disk(options, rng),
        Kind::Disk if rng.chance(1, 4) => torn_restore(options, rng),
        Kind::Freeze if options.processes > 1 && rng.chance(1, 4) => zombie(options, rng),
        Kind::Markers if options.processes > 1 && rng.chance(1, 2) => unseen(options, rng),
        Kind::Effects if rng.chance(1, 4) => torn(options, rng),
        Kind::Database if rng.chance(1, 3) => stray(options, rng),
        _ => Vec::new(),
    };
    acts.into_iter().map(|(at_ms, act)| Event { at_ms, act }).collect()
}

fn any_process(options: &Options, rng: &mut Rng) -> usize {
    usize::try_from(rng.below(options.processes as u64)).unwrap_or(0)
}

/// A lane hands over, or stands still for longer than its session, right behind a commit whose
/// markers have reached the group's offset and not the changelog.
fn unseen(options: &Options, rng: &mut Rng) -> Vec<(u64, Act)> {
    let process = any_process(options, rng);
    let carries = rng.chance(1, 2).then(|| *rng.pick(CARRIES));
    let begin = rng.below(options.horizon_ms.saturating_sub(8_000).max(2_000));
    let markers = |ms| Act::Markers { ms, every_ms: 0, last: Last::Changelogs };
    if rng.chance(1, 3) {
        let drain = Act::Drain { process };
        return vec![(begin, markers(4_000)), (begin + rng.within(100, 2_000), drain)];
    }
    let (skip, what) = (u32::try_from(rng.below(3)).unwrap_or(0), What::Freeze(7_000));
    let armed = Armed { call: Some(Call::Commit), carries, skip, when: When::After, what };
    vec![(begin, markers(12_000)), (begin, Act::Arm { process, armed })]
}

/// A lane stands still for longer than its session when nothing of its transaction is in the log yet,
/// so that nothing of it keeps the next owner waiting.
fn zombie(options: &Options, rng: &mut Rng) -> Vec<(u64, Act)> {
    let (process, at_ms) = (any_process(options, rng), rng.below(options.horizon_ms));
    let (call, when, what) = (Some(Call::Produce), When::Before, What::Freeze(8_000));
    let armed = Armed { call, carries: None, skip: 0, when, what };
    vec![(at_ms, Act::Arm { process, armed })]
}

/// A process that has lost its disk dies again while it restores.
fn torn_restore(options: &Options, rng: &mut Rng) -> Vec<(u64, Act)> {
    let (process, at_ms) = (any_process(options, rng), rng.below(options.horizon_ms));
    let (call, when, what) = (Some(Call::Promote), When::After, What::Crash);
    let skip = u32::try_from(rng.below(3)).unwrap_or(0);
    let armed = Armed { call, carries: None, skip, when, what };
    vec![(at_ms, Act::Disk { process, disk: Disk::Empty }), (at_ms, Act::Arm { process, armed })]
}

/// A transaction is dropped when it is sent first, so that no block holds it when its status is
/// asked for behind the second time; the answer's other half is read when it would be too late.
fn torn(options: &Options, rng: &mut Rng) -> Vec<(u64, Act)> {
    let at_ms = rng.below(options.horizon_ms);
    let life = (options.blockhash_blocks + options.finalized_lag + 2) * SLOT_MS;
    let fault = EffectFault::Torn(rng.within(life / 2, life + life / 2));
    let drops = Act::Node { fault: NodeFault::Drops, effects: 1, of: Some(Asks::Send) };
    vec![(at_ms, drops), (at_ms, Act::Effect { fault, of: Some(Asks::Status) })]
}

/// A process dies right behind a write that is still on its way; who goes on where it was cannot
/// write for a while, perhaps, and fetches meanwhile.
fn stray(options: &Options, rng: &mut Rng) -> Vec<(u64, Act)> {
    let (process, at_ms) = (any_process(options, rng), rng.below(options.horizon_ms));
    let (call, when, what) = (Some(Call::Write), When::After, What::Crash);
    let armed = Armed { call, carries: None, skip: 0, when, what };
    let ms = if rng.chance(1, 2) { rng.within(200, 2_500) } else { rng.within(2_500, 9_000) };
    let mut acts = vec![
        (at_ms, Act::Arm { process, armed }),
        (at_ms, Act::Database(DatabaseFault::Stray(ms))),
    ];
    for _ in 0..rng.below(5) {
        acts.push((at_ms, Act::Database(DatabaseFault::Away)));
    }
    acts
}

/// A copy is put aside, changelogs are compacted until tombstones are gone, and the copy comes back.
fn old_disk(options: &Options, rng: &mut Rng) -> Vec<(u64, Act)> {
    let process = any_process(options, rng);
    let spare = options.horizon_ms.saturating_sub(options.tombstone_ms).max(1_000);
    let begin = rng.below(spare / 2);
    let met = begin + rng.below(spare / 2);
    let gone = met + options.tombstone_ms;
    vec![
        (begin, Act::Backup { process }),
        (met, Act::Compact),
        (gone, Act::Compact),
        (gone + rng.below(200), Act::Disk { process, disk: Disk::Old }),
    ]
}

/// Tombstones that live for less are gone within a run.
const SHORT_MS: u64 = 60_000;

fn fault(options: &Options, kind: Kind, rng: &mut Rng) -> Act {
    let process = any_process(options, rng);
    // Half of what happens at commits is aimed at those that much follows from.
    let carries = rng.chance(1, 2).then(|| *rng.pick(CARRIES));
    let arm = |call, skip: u64, when, what| {
        let carries = carries.filter(|_| call == Some(Call::Commit));
        let skip = u32::try_from(if carries.is_some() { skip / 2 } else { skip }).unwrap_or(0);
        Act::Arm { process, armed: Armed { call, carries, skip, when, what } }
    };
    let when = if rng.chance(1, 2) { When::Before } else { When::After };
    match kind {
        Kind::Crash if rng.chance(1, 2) => arm(None, rng.below(200), when, What::Crash),
        Kind::Crash => arm(Some(*rng.pick(CALLS)), rng.below(6), when, What::Crash),
        Kind::CrashAtCommit => {
            let ends = [Call::Commit, Call::Commit, Call::Promote, Call::Dispatch, Call::Outcomes];
            arm(Some(*rng.pick(&ends)), rng.below(4), when, What::Crash)
        }
        Kind::Pause => Act::Pause { process, ms: *rng.pick(&[200, 3_000, 7_000, 12_000]) },
        Kind::Freeze => {
            let calls = [
                Call::Commit,
                Call::Commit,
                Call::Produce,
                Call::Promote,
                Call::Bounds,
                Call::Write,
            ];
            let ms = *rng.pick(&[300, 7_000, 7_000, 11_000]);
            arm(Some(*rng.pick(&calls)), rng.below(4), when, What::Freeze(ms))
        }
        Kind::Drain => Act::Drain { process },
        Kind::Answer => answer(rng, when, arm),
        Kind::Late => {
            arm(Some(Call::Commit), rng.below(4), When::Before, What::Late(rng.within(1, 3_000)))
        }
        Kind::Away => arm(Some(*rng.pick(AWAY)), rng.below(6), when, What::Away),
        Kind::Full => arm(Some(Call::Produce), rng.below(10), When::Before, What::Full),
        Kind::Markers => Act::Markers {
            ms: *rng.pick(&[100, 1_000, 4_000, 9_000]),
            every_ms: *rng.pick(&[0, 0, 200, 1_500]),
            last: Last::Any,
        },
        Kind::Compact => Act::Compact,
        Kind::Disk => match rng.below(5) {
            0 => Act::Backup { process },
            1 => Act::Disk { process, disk: Disk::Empty },
            2 => Act::Disk { process, disk: Disk::Old },
            3 => arm(Some(Call::Wipe), 0, when, What::Broken),
            _ => arm(Some(Call::Promote), rng.below(4), when, What::Broken),
        },
        Kind::Clock => {
            Act::Clock { process, ms: *rng.pick(&[-20_000, -1_000, 1_000, 5_000, 30_000]) }
        }
        Kind::Storm => Act::Storm { ms: *rng.pick(&[2_000, 10_000, 30_000]) },
        Kind::Node => node(rng),
        Kind::Effects => effect(rng),
        Kind::Stall => Act::Stall { ms: *rng.pick(&[800, 3_000, 8_000]) },
        Kind::Database => Act::Database(match rng.below(5) {
            0 => DatabaseFault::Lost,
            1 => DatabaseFault::Unknown,
            2 => DatabaseFault::Late(rng.within(1, 4_000)),
            3 => DatabaseFault::Away,
            _ => DatabaseFault::Slow(rng.within(1, 8_000)),
        }),
        Kind::DatabaseDown => Act::DatabaseDown { ms: *rng.pick(&[500, 4_000, 9_000]) },
    }
}

fn effect(rng: &mut Rng) -> Act {
    let of = rng.chance(2, 3).then(|| *rng.pick(ASKS));
    match rng.below(6) {
        0 => Act::Effect { fault: EffectFault::Slow(rng.within(1, 9_000)), of },
        1 => Act::Effect { fault: EffectFault::Twice, of },
        2 => Act::Effect { fault: EffectFault::Unperformed, of },
        3 => Act::Effect { fault: EffectFault::SlowAnswer(rng.within(1, 9_000)), of },
        4 => Act::Effect { fault: EffectFault::Again(rng.within(1, 5_000)), of },
        _ => {
            let fault = EffectFault::Torn(rng.within(1_000, 9_000));
            Act::Effect { fault, of: Some(Asks::Status) }
        }
    }
}

fn node(rng: &mut Rng) -> Act {
    let faults = [
        NodeFault::Away,
        NodeFault::Drops,
        NodeFault::Unanswered,
        NodeFault::Late,
        NodeFault::Lacks,
    ];
    let effects = u32::try_from(*rng.pick(&[1_u64, 1, 4, 30])).unwrap_or(1);
    let of = rng.chance(1, 2).then(|| *rng.pick(ASKS));
    Act::Node { fault: *rng.pick(&faults), effects, of }
}

/// A transaction call that fails. What is answered before the call is made must be true: then
/// nothing has happened.
fn answer(rng: &mut Rng, when: When, arm: impl Fn(Option<Call>, u64, When, What) -> Act) -> Act {
    let call = *rng.pick(&[Call::Commit, Call::Commit, Call::Commit, Call::Init, Call::Abort]);
    let faults: &[TxnFault] = match (call, when) {
        (_, When::After) | (Call::Abort, _) => &[TxnFault::Unknown],
        (Call::Init, When::Before) => &[TxnFault::Retry, TxnFault::Unknown],
        _ => &[TxnFault::Retry, TxnFault::Abort, TxnFault::Abort, TxnFault::Unknown],
    };
    arm(Some(call), rng.below(5), when, What::Fault(*rng.pick(faults)))
}

/// Which feeds a run of this spec can have.
pub(super) fn feeds(has_source: bool, has_nonces: bool) -> Vec<Feed> {
    match (has_source, has_nonces) {
        (true, _) => vec![Feed::Chain, Feed::Script],
        (false, true) => vec![Feed::Orders],
        (false, false) => Vec::new(),
    }
}
