//! The operator `settle_solana`: takes roots and sees each one onto the chain, once.
//!
//! Lives here: which roots wait, which one is in flight, what is written about them. `state` is
//! the life of one root, `message` the bytes of its transaction; neither knows of stores or
//! records. May not live here: I/O; the chain is asked through effects.
//!
//! Invariants: the rules of facts/attention-oracle.md, "Sending a root robustly"; see `state` for
//! INTENT and COMMIT-FIRST. One root in flight per channel, the others wait in the order of their
//! epochs; channels do not wait for each other. Each root that is taken ends as one settlement,
//! confirmed or failed with a reason; one that failed blocks nothing behind it, and starts anew
//! only by a publish command.
//!
//! State: what is known of a (channel, epoch) is kept for good (a few hundred bytes), because a
//! root or command that comes again must get the same answer.

mod message;
mod state;

use semel_schemas::{
    alert::{ALERT, Alert},
    attention::CHANNEL_MAX_CLAIMS,
    claim::{ROOT, RootRecord, RootStatus, SETTLEMENT, Settlement, SettlementStatus, root_id},
    codec,
    effect::{Commitment, Effect, Outcome},
    fault::{Fault, FaultCode},
    request::{PUBLISH, Publish},
    sabotage::{Sabotage, sabotaged},
    solana::{Address, Base64, Blockhash},
    time::{Epoch, WallTime},
};
use serde::{Deserialize, Serialize};

use self::{
    message::{Budget, Target},
    state::{Act, Event, Row, Run, Settled, State, World},
};
use crate::{
    operator::{Context, Envelope, Input, Operator, StoreDecl, TimerKey, To},
    setting::{at_least, at_most},
    sign::SignLimits,
};

/// (channel, epoch) → [`Entry`].
const ROOTS: &str = "settle_roots";
/// Channel → epoch in flight.
const FLIGHT: &str = "settle_flight";
/// (channel, epoch) of the roots that wait for the one in flight.
const QUEUE: &str = "settle_queue";

const SETTLEMENTS: &str = "settlements";
const ROOT_ROWS: &str = "roots";
const ALERTS: &str = "alerts";

/// Settings of the operator `settle_solana`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the chain connection.
    pub chain: String,
    /// The program.
    pub program: Address,
    /// The mint whose protocol and channels are meant.
    pub mint: Address,
    /// The publisher's public key: it signs and pays.
    pub authority: Address,
    /// Name of the signer that holds it.
    pub signer: String,
    /// `false` holds each root at `ready_for_settlement` until a publish command names it.
    #[serde(default = "default_auto_publish")]
    pub auto_publish: bool,
    /// How often the signed bytes are sent again while they may land, milliseconds.
    #[serde(default = "default_resend_ms")]
    pub resend_ms: u64,
    /// Percentile (0–100) of the recent fees of our writable accounts.
    #[serde(default = "default_fee_percentile")]
    pub fee_percentile: u8,
    /// Highest price per compute unit, micro-lamports.
    #[serde(default = "default_unit_price_max")]
    pub unit_price_max: u64,
    /// Failed simulations and executions of one root before it is given up, at least 1.
    #[serde(default = "default_failures_max")]
    pub failures_max: u32,
    /// First delay after an uncertain answer or a failure, milliseconds.
    #[serde(default = "default_retry_ms")]
    pub retry_ms: u64,
    /// Longest delay, milliseconds.
    #[serde(default = "default_retry_max_ms")]
    pub retry_max_ms: u64,
}

const fn default_auto_publish() -> bool {
    true
}
const fn default_resend_ms() -> u64 {
    2_000
}
const fn default_fee_percentile() -> u8 {
    75
}
const fn default_unit_price_max() -> u64 {
    1_000_000
}
const fn default_failures_max() -> u32 {
    8
}
const fn default_retry_ms() -> u64 {
    1_000
}
const fn default_retry_max_ms() -> u64 {
    30_000
}

impl Settings {
    fn sign_limits(&self) -> SignLimits {
        SignLimits {
            retry_ms: self.retry_ms,
            retry_max_ms: self.retry_max_ms,
            ..SignLimits::default()
        }
    }
}

/// The operator `settle_solana`.
#[derive(Debug)]
pub struct SettleSolana {
    settings: Settings,
}

/// What is known of a (channel, epoch).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    root: RootRecord,
    state: State,
}

/// Key of a (channel, epoch): channels hold no NUL, so this is unambiguous and ordered by epoch.
fn key(channel: &str, epoch: Epoch) -> Vec<u8> {
    let mut key = prefix(channel);
    key.extend_from_slice(&epoch.0.to_be_bytes());
    key
}

fn prefix(channel: &str) -> Vec<u8> {
    let mut prefix = channel.as_bytes().to_vec();
    prefix.push(0);
    prefix
}

/// `<channel>:<epoch>` back to its parts. The channel may hold colons, the epoch none.
fn parse_root_id(id: &str) -> Option<(&str, Epoch)> {
    let (channel, epoch) = id.rsplit_once(':')?;
    Some((channel, Epoch(epoch.parse().ok()?)))
}

/// Why a root can never be published, whatever the chain says.
fn refusal(root: &RootRecord) -> Option<String> {
    let id = &root.root_id;
    if root.epoch.0 == 0 {
        return Some(format!(
            "root `{id}`: the program takes no epoch 0 (it marks an empty slot of the ring)"
        ));
    }
    (root.count > u32::from(CHANNEL_MAX_CLAIMS)).then(|| {
        format!(
            "root `{id}`: {} claims are more than the {CHANNEL_MAX_CLAIMS} that the program takes \
             for a channel and epoch: make epochs shorter",
            root.count
        )
    })
}

impl SettleSolana {
    /// With settings.
    ///
    /// # Errors
    /// One sentence, if a setting is out of its range.
    pub fn new(settings: Settings) -> Result<Self, String> {
        at_most("fee_percentile", settings.fee_percentile.into(), 100)?;
        at_least("failures_max", settings.failures_max.into(), 1)?;
        at_least("resend_ms", settings.resend_ms, 1)?;
        at_least("retry_ms", settings.retry_ms, 1)?;
        at_least("retry_max_ms", settings.retry_max_ms, settings.retry_ms)?;
        Ok(Self { settings })
    }

    fn root(&self, ctx: &mut Context<'_>, record: &Envelope) -> Result<(), Fault> {
        let root: RootRecord = codec::decode(ROOT, value(record)?)?;
        check(&root)?;
        Target::of(&root, &self.settings)?;
        if let Some(entry) = ctx.get_json::<Entry>(ROOTS, &key(&root.channel, root.epoch)) {
            if entry.root.root == root.root && entry.root.count == root.count {
                ctx.count("settle_root_repeated", 1);
                return Ok(());
            }
            return Err(Fault::new(
                FaultCode::RootConflict,
                format!(
                    "root `{}` came before as {} with {} claims and now as {} with {}: one epoch \
                     has one root",
                    root.root_id, entry.root.root, entry.root.count, root.root, root.count
                ),
            ));
        }
        if self.settings.auto_publish {
            self.release(ctx, root, Run::FIRST)
        } else {
            ctx.count("settle_held", 1);
            save(ctx, &Entry { root, state: State::Held });
            Ok(())
        }
    }

    fn publish(&self, ctx: &mut Context<'_>, record: &Envelope) -> Result<(), Fault> {
        let publish: Publish = codec::decode(PUBLISH, value(record)?)?;
        let id = root_id(&publish.channel, publish.epoch);
        let found = ctx.get_json::<Entry>(ROOTS, &key(&publish.channel, publish.epoch));
        let Some(Entry { root, state }) = found else {
            return Err(Fault::new(
                FaultCode::UnknownTarget,
                format!(
                    "there is no root `{id}` to publish: its epoch is not closed, or it has no \
                     claims"
                ),
            ));
        };
        match state {
            State::Held => self.release(ctx, root, Run::FIRST),
            State::Failed(failed) => {
                // The bytes of a failed attempt, if any, are spent: the next set is a new attempt.
                let spent = u32::from(failed.row.signature.is_some());
                let attempt = failed.run.attempt.saturating_add(spent);
                self.release(ctx, root, Run { attempt, failures: 0, ..failed.run })
            }
            State::Settled(Settled { row, at }) => {
                // Answered with what was written before; nothing is done.
                ctx.count("settle_publish_repeated", 1);
                let settlement = settlement(&root, row, SettlementStatus::Confirmed, at, None);
                ctx.emit_json(To::Output(SETTLEMENTS), SETTLEMENT, &root.root_id, &settlement);
                Ok(())
            }
            _ => {
                ctx.count("settle_publish_repeated", 1);
                Ok(())
            }
        }
    }

    /// Puts a root on its way: at once, or behind the one in flight.
    fn release(&self, ctx: &mut Context<'_>, root: RootRecord, run: Run) -> Result<(), Fault> {
        if let Some(reason) = refusal(&root) {
            let row = Row { attempt: run.attempt, signature: None };
            let state = State::Failed(state::Failed { run, row, reason: reason.clone() });
            let acts = vec![
                Act::Log(row, SettlementStatus::Failed, Some(reason.clone())),
                Act::Alert(FaultCode::SettlementFailed, reason),
            ];
            let target = Target::of(&root, &self.settings)?;
            let entry = Entry { root, state };
            self.carry_out(ctx, &entry, &target, acts);
            save(ctx, &entry);
            return Ok(());
        }
        let channel = root.channel.clone();
        let waits = ctx.get(FLIGHT, channel.as_bytes()).is_some();
        if waits && !sabotaged(Sabotage::RootsOvertake) {
            ctx.put(QUEUE, &key(&channel, root.epoch), Vec::new());
            save(ctx, &Entry { root, state: State::Queued(run) });
            return Ok(());
        }
        self.take_off(ctx, root, run)
    }

    fn take_off(&self, ctx: &mut Context<'_>, root: RootRecord, run: Run) -> Result<(), Fault> {
        let target = Target::of(&root, &self.settings)?;
        ctx.put_json(FLIGHT, root.channel.as_bytes(), &root.epoch);
        let (state, acts) = State::start(run);
        let entry = Entry { root, state };
        self.carry_out(ctx, &entry, &target, acts);
        save(ctx, &entry);
        Ok(())
    }

    /// Something happened to the root `id`.
    fn event(&self, ctx: &mut Context<'_>, id: &str, event: Event<'_>) -> Result<(), Fault> {
        let found = parse_root_id(id)
            .and_then(|(channel, epoch)| ctx.get_json::<Entry>(ROOTS, &key(channel, epoch)));
        let Some(Entry { root, state }) = found else {
            ctx.count("settle_stray", 1);
            return Ok(());
        };
        let target = Target::of(&root, &self.settings)?;
        let was_in_flight = state.is_in_flight();
        let world = World {
            settings: &self.settings,
            target: &target,
            root_id: &root.root_id,
            now: ctx.now(),
        };
        let (state, acts) = state.on(event, &world);
        let landed = was_in_flight && !state.is_in_flight();
        let entry = Entry { root, state };
        self.carry_out(ctx, &entry, &target, acts);
        save(ctx, &entry);
        if landed { self.next_of(ctx, &entry.root.channel) } else { Ok(()) }
    }

    /// The root in flight is through: the next one of its channel takes off.
    fn next_of(&self, ctx: &mut Context<'_>, channel: &str) -> Result<(), Fault> {
        ctx.delete(FLIGHT, channel.as_bytes());
        let prefix = prefix(channel);
        let count = if sabotaged(Sabotage::NewestRootFirst) { usize::MAX >> 1 } else { 1 };
        let Some((key, _)) = ctx.scan(QUEUE, &prefix, &prefix, count).pop() else {
            return Ok(());
        };
        ctx.delete(QUEUE, &key);
        match ctx.get_json::<Entry>(ROOTS, &key) {
            Some(Entry { root, state: State::Queued(run) }) => self.take_off(ctx, root, run),
            _ => Ok(()),
        }
    }

    fn carry_out(&self, ctx: &mut Context<'_>, entry: &Entry, target: &Target, acts: Vec<Act>) {
        let id = &entry.root.root_id;
        let chain = self.settings.chain.clone();
        for act in acts {
            match act {
                Act::Read(min_context_slot) => {
                    let (address, commitment) = (target.channel, Commitment::Finalized);
                    let effect = Effect::SolanaAccount {
                        chain: chain.clone(),
                        address,
                        commitment,
                        min_context_slot,
                    };
                    ask(ctx, "read", id, effect);
                }
                Act::Prepare => {
                    let draft =
                        target.message(&self.settings, Budget::SIMULATION, Blockhash([0; 32]));
                    let effect = Effect::SolanaPrepare {
                        chain: chain.clone(),
                        message: Base64(draft),
                        writable: target.writable(&self.settings),
                        fee_percentile: self.settings.fee_percentile,
                    };
                    ask(ctx, "prepare", id, effect);
                }
                Act::Sign(effect) => ask(ctx, "sign", id, effect),
                Act::Broadcast(transaction) => {
                    let chain = chain.clone();
                    ask(ctx, "send", id, Effect::SolanaBroadcast { chain, transaction });
                }
                Act::Status(signature, min_context_slot) => {
                    let chain = chain.clone();
                    let effect = Effect::SolanaStatus { chain, signature, min_context_slot };
                    ask(ctx, "status", id, effect);
                }
                Act::StopSending => ctx.forget_effect(effect_id("send", id)),
                Act::Wake(at) => ctx.set_timer(TimerKey::wall(id), at.0, Vec::new()),
                Act::Log(row, status, reason) => log(ctx, &entry.root, row, status, reason),
                Act::Alert(code, text) => {
                    let alert = Alert { code, subject: id.clone(), text, at: ctx.now() };
                    ctx.emit_json(To::Output(ALERTS), ALERT, id, &alert);
                }
                Act::Count(name) => ctx.count(name, 1),
            }
        }
    }
}

fn effect_id(what: &str, root_id: &str) -> String {
    format!("{what}/{root_id}")
}

/// All effects of one root are performed one after another: a status is read after the broadcast
/// that was asked for before it.
fn ask(ctx: &mut Context<'_>, what: &str, root_id: &str, effect: Effect) {
    ctx.effect(effect_id(what, root_id), format!("settle/{root_id}"), effect);
}

fn save(ctx: &mut Context<'_>, entry: &Entry) {
    ctx.put_json(ROOTS, &key(&entry.root.channel, entry.root.epoch), entry);
}

fn settlement(
    root: &RootRecord,
    row: Row,
    status: SettlementStatus,
    at: WallTime,
    reason: Option<String>,
) -> Settlement {
    Settlement {
        settlement_id: format!("{}#{}", root.root_id, row.attempt),
        root_id: root.root_id.clone(),
        channel: root.channel.clone(),
        epoch: root.epoch,
        tx_signature: row.signature,
        status,
        settled_at: (status == SettlementStatus::Confirmed).then_some(at),
        reason,
    }
}

/// Writes a row of `settlement_log`; with a confirmed one, the root's row and the record that
/// tells the next stage.
fn log(
    ctx: &mut Context<'_>,
    root: &RootRecord,
    row: Row,
    status: SettlementStatus,
    reason: Option<String>,
) {
    let settlement = settlement(root, row, status, ctx.now(), reason);
    ctx.emit_json(To::Output(SETTLEMENTS), SETTLEMENT, &root.root_id, &settlement);
    match status {
        SettlementStatus::PendingConfirmation => {}
        SettlementStatus::Failed => ctx.count("settle_failed", 1),
        SettlementStatus::Confirmed => {
            ctx.count("settle_confirmed", 1);
            let settled = RootRecord { status: RootStatus::Settled, ..root.clone() };
            ctx.emit_json(To::Output(ROOT_ROWS), ROOT, &root.root_id, &settled);
            // Keyed by channel: it goes back to the stage that holds the channel's claims.
            ctx.emit_json(To::Next, SETTLEMENT, &root.channel, &settlement);
        }
    }
}

fn value(record: &Envelope) -> Result<&[u8], Fault> {
    record.value.as_deref().ok_or_else(|| {
        Fault::new(
            FaultCode::UnexpectedTombstone,
            format!("a record of type `{}` has no tombstones", record.kind),
        )
    })
}

/// What a root must be before anything is done with it.
fn check(root: &RootRecord) -> Result<(), Fault> {
    let wrong = |text: String| Err(Fault::new(FaultCode::WrongType, text));
    if root.channel.is_empty() || root.channel.contains('\0') {
        return wrong("field `channel` of a root must not be empty and holds no NUL".into());
    }
    let expected = root_id(&root.channel, root.epoch);
    if root.root_id != expected {
        return wrong(format!("field `root_id` is `{}`, but must be `{expected}`", root.root_id));
    }
    if root.status == RootStatus::Settled {
        return wrong(format!(
            "root `{expected}` says that it is settled: only this stage says so"
        ));
    }
    Ok(())
}

impl Operator for SettleSolana {
    fn name(&self) -> &'static str {
        "settle_solana"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        &[
            StoreDecl { name: ROOTS, version: 1 },
            StoreDecl { name: FLIGHT, version: 1 },
            StoreDecl { name: QUEUE, version: 1 },
        ]
    }

    fn takes(&self, kind: &str) -> bool {
        [ROOT, PUBLISH].contains(&kind)
    }

    fn outputs(&self) -> &'static [&'static str] {
        &[SETTLEMENTS, ROOT_ROWS, ALERTS]
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Record(record) if record.kind == PUBLISH => self.publish(ctx, &record),
            Input::Record(record) => self.root(ctx, &record),
            Input::Timer { key, .. } => self.event(ctx, &key.name, Event::Tick),
            Input::Outcome { id, outcome } => match answered(&id, &outcome) {
                Some((root_id, event)) => self.event(ctx, root_id, event),
                None => {
                    ctx.count("settle_stray", 1);
                    Ok(())
                }
            },
            Input::Begin | Input::Progress(_) => Ok(()),
        }
    }
}

/// Which root an outcome is about, and what it answers.
fn answered<'a>(id: &'a str, outcome: &'a Outcome) -> Option<(&'a str, Event<'a>)> {
    let (what, root_id) = id.split_once('/')?;
    let event = match what {
        "read" => Event::Account(outcome),
        "prepare" => Event::Prepared(outcome),
        "sign" => Event::Signature(outcome),
        "send" => Event::Sent(outcome),
        "status" => Event::Status(outcome),
        _ => return None,
    };
    Some((root_id, event))
}

#[cfg(test)]
mod tests;
