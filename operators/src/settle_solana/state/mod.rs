//! One root on its way to the chain: the states, and what each answer makes of them.
//!
//! Pure: a transition consumes the old state and gives the new one with the [`Act`]s that belong
//! to it; who carries the acts out is `settle_solana`'s business.
//!
//! ```text
//! Reading ─ free ─▶ Preparing ─▶ Signing ─ verified ─▶ Committed ─ landed ─▶ Confirming ─▶ Settled
//!    ▲ │                │                                 │  │                  │
//!    │ ├─ ours ─▶ Settled (found unsent)                  │  │                  └─ other ─▶ Failed
//!    │ └─ conflict, newer ─▶ Failed                       │  │
//!    └──── simulation failed, dead, failed on chain ◀─────┴──┘    (too often ─▶ Failed)
//! ```
//!
//! Invariants:
//! - INTENT: signed bytes are let go of only by `Dead`, `Failed` (at `finalized`) or `Landed`; there
//!   is no other way out of [`Committed`], so no second transaction exists while one may land;
//! - COMMIT-FIRST: [`Act::Broadcast`] takes the bytes out of a [`Committed`], which is in the state
//!   that the same step writes; effects are performed only after that commit;
//! - an answer that is not known changes nothing but when to ask again.

use semel_schemas::{
    attention::read_ring,
    claim::SettlementStatus,
    effect::{Effect, Outcome, Payload},
    fault::FaultCode,
    sabotage::{Sabotage, sabotaged},
    solana::{Base64, Blockhash, Signature},
    time::{BlockHeight, Slot, WallTime},
};
use serde::{Deserialize, Serialize};

use super::{
    Settings,
    message::{Budget, Target, transaction},
};
use crate::{
    backoff::delay_ms,
    finality::{Finality, Life, Seen, classify},
    sign::{SignStep, SignTask},
};

/// Where a root stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum State {
    /// Waits for a publish command (`auto_publish = false`).
    Held,
    /// Waits for the root in flight of its channel.
    Queued(Run),
    /// Rule 1: what does the chain hold?
    Reading(Reading),
    /// Needs a blockhash, compute units and a price.
    Preparing(Preparing),
    /// The message is fixed; waits for its signature.
    Signing(Signing),
    /// The signed bytes are in the state, and may be anywhere.
    Committed(Committed),
    /// Landed; the account is read once more.
    Confirming(Confirming),
    /// The chain holds the root.
    Settled(Settled),
    /// It was given up, with a reason. A publish command starts it anew.
    Failed(Failed),
}

/// What is carried from attempt to attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// Number of the attempt, from 1: one attempt is one set of signed bytes.
    pub(super) attempt: u32,
    /// How often simulation or execution failed.
    pub(super) failures: u32,
    /// A node must have reached this slot for its account to count.
    pub(super) min_slot: Option<Slot>,
}

impl Run {
    /// The first attempt.
    pub(super) const FIRST: Self = Self { attempt: 1, failures: 0, min_slot: None };

    fn next(self, min_slot: Slot) -> Self {
        Self {
            attempt: self.attempt.saturating_add(1),
            min_slot: self.min_slot.max(Some(min_slot)),
            ..self
        }
    }
}

/// See [`State::Reading`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    run: Run,
    tries: u32,
}

/// See [`State::Preparing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Preparing {
    run: Run,
    tries: u32,
}

/// See [`State::Signing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signing {
    run: Run,
    task: SignTask,
    blockhash: Blockhash,
    last_valid_block_height: BlockHeight,
}

/// See [`State::Committed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Committed {
    run: Run,
    /// The transaction's name.
    pub(super) signature: Signature,
    /// The signed transaction as it is sent, every time the same.
    pub(super) bytes: Base64,
    blockhash: Blockhash,
    last_valid_block_height: BlockHeight,
    /// See [`Life::sighted`].
    sighted: Option<Slot>,
    /// When the last round of sending and asking began.
    asked_at: WallTime,
    /// Whether to send again in the next round.
    resend: Resend,
}

/// Whether the next round sends the bytes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Resend {
    /// It may land, and no block holds it.
    Yes,
    /// A block holds it already, or none can any more.
    No,
}

/// See [`State::Confirming`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirming {
    run: Run,
    signature: Signature,
    /// Slot of its block.
    slot: Slot,
    tries: u32,
}

/// See [`State::Settled`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settled {
    pub(super) row: Row,
    /// When the account was seen to hold the root.
    pub(super) at: WallTime,
}

/// See [`State::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) run: Run,
    pub(super) row: Row,
    /// One sentence.
    pub(super) reason: String,
}

/// What names a row of `settlement_log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// Attempt.
    pub(super) attempt: u32,
    /// Its transaction, if there was one.
    pub(super) signature: Option<Signature>,
}

/// What a transition asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Read the channel's account at `finalized`.
    Read(Option<Slot>),
    /// Ask for blockhash, simulation and fees.
    Prepare,
    /// Ask for the signature.
    Sign(Effect),
    /// Send these bytes.
    Broadcast(Base64),
    /// Ask what has become of the transaction.
    Status(Signature, Option<Slot>),
    /// Stop sending.
    StopSending,
    /// Call again at this time.
    Wake(WallTime),
    /// Write a row of `settlement_log`.
    Log(Row, SettlementStatus, Option<String>),
    /// Tell a person.
    Alert(FaultCode, String),
    /// Count.
    Count(&'static str),
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// An answer to [`Act::Read`].
    Account(&'a Outcome),
    /// An answer to [`Act::Prepare`].
    Prepared(&'a Outcome),
    /// An answer to [`Act::Sign`].
    Signature(&'a Outcome),
    /// An answer to [`Act::Broadcast`].
    Sent(&'a Outcome),
    /// An answer to [`Act::Status`].
    Status(&'a Outcome),
    /// The time of [`Act::Wake`].
    Tick,
}

/// What a transition looks at beside the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct World<'a> {
    pub(super) settings: &'a Settings,
    pub(super) target: &'a Target,
    pub(super) root_id: &'a str,
    pub(super) now: WallTime,
}

impl World<'_> {
    fn later(&self, tries: u32) -> WallTime {
        self.now.plus_ms(delay_ms(self.settings.retry_ms, tries, self.settings.retry_max_ms))
    }
}

type Next = (State, Vec<Act>);

/// What the ring holds where our root belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Ours,
    Free,
    Other(String),
    Newer(u64),
    NoRing,
}

fn held(data: Option<&Base64>, target: &Target) -> Held {
    let Some(data) = data else { return Held::Free };
    match read_ring(&data.0, target.epoch) {
        None => Held::NoRing,
        Some(slot) if slot.epoch > target.epoch => Held::Newer(slot.epoch),
        // Epoch 0 marks an empty slot; no root of ours has it (see `refusal`).
        Some(slot) if slot.epoch < target.epoch => Held::Free,
        Some(slot) if slot.root == target.root => Held::Ours,
        Some(slot) => Held::Other(hex::encode(slot.root)),
    }
}

impl State {
    /// Rule 1: begin by reading.
    pub(super) fn start(run: Run) -> Next {
        (Self::Reading(Reading { run, tries: 0 }), vec![Act::Read(run.min_slot)])
    }

    /// Whether this root keeps the others of its channel waiting.
    pub(super) fn is_in_flight(&self) -> bool {
        match self {
            Self::Held | Self::Queued(_) | Self::Settled(_) | Self::Failed(_) => false,
            Self::Reading(_)
            | Self::Preparing(_)
            | Self::Signing(_)
            | Self::Committed(_)
            | Self::Confirming(_) => true,
        }
    }

    /// Takes what happened. What does not fit the state (a late answer to something that is over)
    /// is counted and changes nothing.
    pub(super) fn on(self, event: Event<'_>, world: &World<'_>) -> Next {
        match (self, event) {
            (Self::Reading(state), Event::Account(outcome)) => state.answered(outcome, world),
            (Self::Reading(state), Event::Tick) => {
                let read = Act::Read(state.run.min_slot);
                (Self::Reading(state), vec![read])
            }
            (Self::Preparing(state), Event::Prepared(outcome)) => state.answered(outcome, world),
            (Self::Preparing(state), Event::Tick) => (Self::Preparing(state), vec![Act::Prepare]),
            (Self::Signing(state), Event::Signature(outcome)) => state.answered(outcome, world),
            (Self::Signing(state), Event::Tick) => {
                let ask = Act::Sign(state.task.ask());
                (Self::Signing(state), vec![ask])
            }
            (Self::Committed(state), Event::Status(outcome)) => state.answered(outcome, world),
            (Self::Committed(state), Event::Tick) => state.round(world),
            (Self::Committed(state), Event::Sent(Outcome::Uncertain { .. }))
                if sabotaged(Sabotage::SendErrorIsDead) =>
            {
                state.dead(Slot(0))
            }
            (Self::Committed(state), Event::Sent(outcome)) => {
                // Nothing follows from how a node took it, "already processed" included: the
                // status and the account decide (rule 4).
                let count = match outcome {
                    Outcome::Sent => "settle_sent",
                    Outcome::Rejected { .. } => "settle_send_rejected",
                    _ => "settle_send_uncertain",
                };
                (Self::Committed(state), vec![Act::Count(count)])
            }
            (Self::Confirming(state), Event::Account(outcome)) => state.answered(outcome, world),
            (Self::Confirming(state), Event::Tick) => {
                let read = Act::Read(Some(state.slot));
                (Self::Confirming(state), vec![read])
            }
            (state, _) => (state, vec![Act::Count("settle_stray")]),
        }
    }
}

/// Gives a root up: the row says why, and a person is told.
fn fail(run: Run, signature: Option<Signature>, code: FaultCode, reason: String) -> Next {
    let row = Row { attempt: run.attempt, signature };
    let acts = vec![
        Act::Log(row, SettlementStatus::Failed, Some(reason.clone())),
        Act::Alert(code, reason.clone()),
    ];
    (State::Failed(Failed { run, row, reason }), acts)
}

fn conflict(world: &World<'_>, other: &str) -> String {
    format!(
        "root `{}`: the chain holds another root, {other}, for this epoch in account {}: find out \
         who published it, then publish again or let it stand",
        world.root_id, world.target.channel
    )
}

fn no_ring(world: &World<'_>) -> String {
    format!(
        "root `{}`: account {} is no initialized channel of the program: check `program` and \
         `mint`, or initialize the channel, then publish again",
        world.root_id, world.target.channel
    )
}

impl Reading {
    fn answered(self, outcome: &Outcome, world: &World<'_>) -> Next {
        let run = self.run;
        let (context_slot, data) = match outcome {
            Outcome::Account { context_slot, data } if Some(*context_slot) >= run.min_slot => {
                (*context_slot, data.as_ref())
            }
            _ => {
                let wake = Act::Wake(world.later(self.tries));
                let state = Self { tries: self.tries.saturating_add(1), ..self };
                return (State::Reading(state), vec![Act::Count("settle_uncertain"), wake]);
            }
        };
        let run = Run { min_slot: run.min_slot.max(Some(context_slot)), ..run };
        match held(data, world.target) {
            Held::Free => (State::Preparing(Preparing { run, tries: 0 }), vec![Act::Prepare]),
            Held::Ours => {
                let row = Row { attempt: run.attempt, signature: None };
                settled(row, world)
            }
            Held::Other(other) => fail(run, None, FaultCode::RootConflict, conflict(world, &other)),
            Held::Newer(epoch) => {
                let reason = format!(
                    "root `{}`: the chain holds epoch {epoch} in its place already, so it expired",
                    world.root_id
                );
                fail(run, None, FaultCode::RootExpired, reason)
            }
            Held::NoRing => fail(run, None, FaultCode::SettlementFailed, no_ring(world)),
        }
    }
}

fn settled(row: Row, world: &World<'_>) -> Next {
    let acts = vec![Act::Log(row, SettlementStatus::Confirmed, None)];
    (State::Settled(Settled { row, at: world.now }), acts)
}

/// After a failed simulation or execution: read again later, or give up.
fn failed_once(run: Run, row: Row, error: &str, world: &World<'_>) -> Next {
    let run = Run { failures: run.failures.saturating_add(1), ..run };
    if run.failures >= world.settings.failures_max {
        let reason = format!(
            "root `{}` failed {} times, last with: {error}; remove the cause, then publish again",
            world.root_id, run.failures
        );
        return fail(
            Run { attempt: row.attempt, ..run },
            row.signature,
            FaultCode::SettlementFailed,
            reason,
        );
    }
    let wake = Act::Wake(world.later(run.failures - 1));
    (State::Reading(Reading { run, tries: 0 }), vec![wake])
}

impl Preparing {
    fn answered(self, outcome: &Outcome, world: &World<'_>) -> Next {
        let Outcome::Prepared { blockhash, last_valid_block_height, simulated, unit_price } =
            outcome
        else {
            let wake = Act::Wake(world.later(self.tries));
            let state = Self { tries: self.tries.saturating_add(1), ..self };
            return (State::Preparing(state), vec![Act::Count("settle_uncertain"), wake]);
        };
        let used = match simulated {
            Ok(used) => *used,
            Err(error) => {
                let row = Row { attempt: self.run.attempt, signature: None };
                let (state, mut acts) = failed_once(self.run, row, error, world);
                acts.push(Act::Count("settle_simulation_failed"));
                return (state, acts);
            }
        };
        let settings = world.settings;
        let budget = Budget::of(used, *unit_price, settings.unit_price_max);
        let message = world.target.message(settings, budget, *blockhash);
        let task = SignTask::new(
            settings.signer.clone(),
            settings.authority,
            Payload::SolanaMessage { message: Base64(message) },
        );
        let ask = Act::Sign(task.ask());
        let state = Signing {
            run: self.run,
            task,
            blockhash: *blockhash,
            last_valid_block_height: *last_valid_block_height,
        };
        (State::Signing(state), vec![ask])
    }
}

impl Signing {
    fn answered(self, outcome: &Outcome, world: &World<'_>) -> Next {
        let Self { run, task, blockhash, last_valid_block_height } = self;
        let again = |task| State::Signing(Self { run, task, blockhash, last_valid_block_height });
        match task.take(outcome, world.settings.sign_limits()) {
            SignStep::Signed { signature, message } => {
                let bytes = Base64(transaction(&signature, &message));
                let state = Committed {
                    run,
                    signature,
                    bytes: bytes.clone(),
                    blockhash,
                    last_valid_block_height,
                    sighted: None,
                    asked_at: world.now,
                    resend: Resend::Yes,
                };
                let row = Row { attempt: run.attempt, signature: Some(signature) };
                let acts = vec![
                    Act::Log(row, SettlementStatus::PendingConfirmation, None),
                    Act::Broadcast(bytes),
                    Act::Wake(world.now.plus_ms(world.settings.resend_ms)),
                ];
                (State::Committed(state), acts)
            }
            SignStep::Wrong(task) => {
                let ask = Act::Sign(task.ask());
                (again(task), vec![Act::Count("settle_wrong_signature"), ask])
            }
            SignStep::Uncertain { task, wait_ms } => {
                let wake = Act::Wake(world.now.plus_ms(wait_ms));
                (again(task), vec![Act::Count("settle_uncertain"), wake])
            }
            SignStep::Refused { text } => {
                // No signature verified, so nothing can have been sent.
                let reason = format!("root `{}`: {text}", world.root_id);
                fail(run, None, FaultCode::BadSignature, reason)
            }
        }
    }
}

impl Committed {
    /// Sends (while it may land) and asks. The next round is timed when the answer is here.
    fn round(mut self, world: &World<'_>) -> Next {
        self.asked_at = world.now;
        let mut acts = Vec::new();
        if self.resend == Resend::Yes {
            acts.push(Act::Broadcast(self.bytes.clone()));
        }
        acts.push(Act::Status(self.signature, self.sighted));
        (State::Committed(self), acts)
    }

    fn row(&self) -> Row {
        Row { attempt: self.run.attempt, signature: Some(self.signature) }
    }

    fn again(mut self, resend: Resend, sighted: Option<Slot>, world: &World<'_>) -> Next {
        self.resend = resend;
        self.sighted = sighted;
        let wake = self.asked_at.plus_ms(world.settings.resend_ms).max(world.now);
        (State::Committed(self), vec![Act::Wake(wake)])
    }

    fn answered(self, outcome: &Outcome, world: &World<'_>) -> Next {
        let life =
            Life { last_valid_block_height: self.last_valid_block_height, sighted: self.sighted };
        let sighted = self.sighted;
        match classify(outcome, life) {
            Finality::Live { seen: Seen::InBlock } => self.again(Resend::No, sighted, world),
            Finality::Live { seen: Seen::Nowhere } => self.again(Resend::Yes, sighted, world),
            Finality::Uncertain { sighted } => {
                let resend = if sighted.is_some() { Resend::No } else { Resend::Yes };
                let (state, mut acts) = self.again(resend, sighted, world);
                acts.push(Act::Count("settle_uncertain"));
                (state, acts)
            }
            Finality::Landed { slot } => {
                let Self { run, signature, .. } = self;
                let state = Confirming { run, signature, slot, tries: 0 };
                (State::Confirming(state), vec![Act::StopSending, Act::Read(Some(slot))])
            }
            Finality::Dead { context_slot } => self.dead(context_slot),
            Finality::Failed { slot, error } => self.failed(slot, &error, world),
        }
    }

    /// It never landed and never will: a new attempt begins by reading.
    fn dead(self, context_slot: Slot) -> Next {
        let row = self.row();
        let reason = format!(
            "its blockhash expired at block height {} before it landed; a new attempt follows",
            self.last_valid_block_height
        );
        let (state, read) = State::start(self.run.next(context_slot));
        let mut acts = vec![
            Act::StopSending,
            Act::Log(row, SettlementStatus::Failed, Some(reason)),
            Act::Count("settle_dead"),
        ];
        acts.extend(read);
        (state, acts)
    }

    /// Executed, with an error, at `finalized`: these bytes are spent.
    fn failed(self, slot: Slot, error: &str, world: &World<'_>) -> Next {
        let row = self.row();
        let (state, next) = failed_once(self.run.next(slot), row, error, world);
        let mut acts = vec![Act::StopSending, Act::Count("settle_failed_on_chain")];
        if !matches!(state, State::Failed(_)) {
            let reason = format!("it failed on the chain: {error}; a new attempt follows");
            acts.push(Act::Log(row, SettlementStatus::Failed, Some(reason)));
        }
        acts.extend(next);
        (state, acts)
    }
}

impl Confirming {
    fn answered(self, outcome: &Outcome, world: &World<'_>) -> Next {
        let data = match outcome {
            Outcome::Account { context_slot, data } if *context_slot >= self.slot => data.as_ref(),
            _ => {
                let wake = Act::Wake(world.later(self.tries));
                let state = Self { tries: self.tries.saturating_add(1), ..self };
                return (State::Confirming(state), vec![Act::Count("settle_uncertain"), wake]);
            }
        };
        let row = Row { attempt: self.run.attempt, signature: Some(self.signature) };
        let (code, reason) = match held(data, world.target) {
            // A newer epoch in its place: ours was there before, for it landed without error.
            Held::Ours | Held::Newer(_) => return settled(row, world),
            Held::Other(other) => (FaultCode::RootConflict, conflict(world, &other)),
            Held::NoRing => (FaultCode::SettlementFailed, no_ring(world)),
            Held::Free => {
                let reason = format!(
                    "root `{}`: transaction {} is finalized without error, but account {} does not \
                     hold the root: check that `program` is the program that is meant",
                    world.root_id, self.signature, world.target.channel
                );
                (FaultCode::SettlementFailed, reason)
            }
        };
        fail(self.run, row.signature, code, reason)
    }
}

#[cfg(test)]
mod tests;
