//! The operator `solana_source`: a Solana source as a state machine over `FetchSolana`.
//!
//! Lives here: the cursor, what becomes of each fact, when to ask again. May not live here: the
//! reading and decoding of blocks (`connectors/`).
//!
//! Invariants (RESUME): the cursor moves in the step that emits the last record of its blocks, so
//! each fact is emitted once, whatever restarts; a fact at or before the cursor is never emitted;
//! progress follows the facts that it speaks of and never goes back; after a discontinuity nothing
//! is fetched until a person says so.
//!
//! One step emits at most `max_outputs` records. An outcome comes once, so what does not fit is
//! kept in state (a *backlog*, as large as the facts of `max_blocks` blocks) and emitted by timers
//! of zero delay; the cursor follows at the end of the backlog, and only then the next fetch. Choose
//! `max_blocks` so that the facts of that many blocks fit one outcome record in the changelog.

use semel_schemas::{
    alert::{ALERT, Alert},
    claim::CLAIM,
    codec,
    effect::{Effect, Outcome, ROOT_OBSERVED, SolanaFact, UNDECODABLE},
    fault::{Fault, FaultCode},
    progress::{PROGRESS, Progress},
    request::{RESUME, Resume},
    sabotage::{Sabotage, sabotaged},
    solana::{Address, Base64, SolanaCursor},
    time::{Slot, WallTime},
};
use serde::{Deserialize, Serialize};

use crate::{
    backoff::delay_ms,
    operator::{Context, Envelope, Input, Operator, StoreDecl, TimerKey, To},
    setting::at_least,
};

const STORE: &str = "solana_source";
const BACKLOG: &str = "solana_source_backlog";
const STATE: &[u8] = b"state";
const FETCH: &str = "fetch";
const POLL: &str = "poll";
const DRAIN: &str = "drain";
const OBSERVED: &str = "observed";
const UNDECODED: &str = "undecodable";
const ALERTS: &str = "alerts";

/// Settings of the operator `solana_source`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolanaSourceSettings {
    /// Name of the source: it stands in its progress records.
    pub name: String,
    /// Name of the chain connection.
    pub chain: String,
    /// The program whose instructions are facts.
    pub program: Address,
    /// First slot to read when there is no cursor yet.
    #[serde(default)]
    pub from_slot: Slot,
    /// At most this many blocks in one answer, at least 1.
    #[serde(default = "default_max_blocks")]
    pub max_blocks: u32,
    /// How long to wait when there was nothing new, milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u64,
    /// Longest wait after uncertain answers, milliseconds.
    #[serde(default = "default_retry_max_ms")]
    pub retry_max_ms: u64,
    /// At most this many records in one step, at least 2.
    #[serde(default = "default_max_outputs")]
    pub max_outputs: usize,
}

const fn default_max_blocks() -> u32 {
    16
}
const fn default_poll_ms() -> u64 {
    400
}
const fn default_retry_max_ms() -> u64 {
    30_000
}
const fn default_max_outputs() -> usize {
    500
}

/// The operator `solana_source`.
#[derive(Debug)]
pub struct SolanaSource {
    settings: SolanaSourceSettings,
}

/// Where the source stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stand {
    /// Last block whose facts are all emitted.
    cursor: Option<SolanaCursor>,
    /// Where to start without a cursor, if a command said so.
    from_slot: Option<Slot>,
    /// The progress record that was written last: (complete, finalized).
    written: Option<(Slot, Slot)>,
    phase: Phase,
}

/// What the source waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
enum Phase {
    /// The answer to a fetch, or the timer before the next one.
    Reading {
        /// Uncertain answers in a row.
        tries: u32,
    },
    /// The end of the backlog.
    Draining {
        /// What to write down at its end.
        mark: Mark,
    },
    /// A person.
    #[default]
    Stopped,
}

/// How far an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    cursor: Option<SolanaCursor>,
    complete: Slot,
    finalized: Slot,
    at: WallTime,
}

impl SolanaSource {
    /// With settings.
    ///
    /// # Errors
    /// One sentence, if a setting is out of its range.
    pub fn new(settings: SolanaSourceSettings) -> Result<Self, String> {
        at_least("max_blocks", settings.max_blocks.into(), 1)?;
        at_least("poll_ms", settings.poll_ms, 1)?;
        at_least("retry_max_ms", settings.retry_max_ms, settings.poll_ms)?;
        at_least("max_outputs", settings.max_outputs as u64, 2)?;
        if settings.name.is_empty() {
            return Err("`name` is empty: progress records bear it".into());
        }
        Ok(Self { settings })
    }

    /// Facts that fit a step beside the progress record.
    fn room(&self) -> usize {
        self.settings.max_outputs - 1
    }

    fn fetch(&self, ctx: &mut Context<'_>, stand: &Stand) {
        let effect = Effect::FetchSolana {
            chain: self.settings.chain.clone(),
            cursor: stand.cursor,
            from_slot: stand.from_slot.unwrap_or(self.settings.from_slot),
            max_blocks: self.settings.max_blocks,
            program: self.settings.program,
        };
        ctx.effect(FETCH, self.settings.name.clone(), effect);
    }

    /// Starts or goes on; a backlog is finished first.
    fn start(&self, ctx: &mut Context<'_>, mut stand: Stand) {
        if let Phase::Draining { .. } = stand.phase {
            ctx.set_timer(TimerKey::wall(DRAIN), ctx.now().0, Vec::new());
            return;
        }
        stand.phase = Phase::Reading { tries: 0 };
        ctx.cancel_timer(TimerKey::wall(POLL));
        self.fetch(ctx, &stand);
        ctx.put_json(STORE, STATE, &stand);
    }

    fn stop(&self, ctx: &mut Context<'_>, mut stand: Stand, text: &str) {
        ctx.count("source_discontinuity", 1);
        let name = &self.settings.name;
        let alert = Alert {
            code: FaultCode::Discontinuity,
            subject: name.clone(),
            text: format!(
                "source `{name}` stopped: {text}; check which chain `{}` is, then send `{RESUME}`",
                self.settings.chain
            ),
            at: ctx.now(),
        };
        ctx.emit_json(To::Output(ALERTS), ALERT, name, &alert);
        stand.phase = Phase::Stopped;
        ctx.put_json(STORE, STATE, &stand);
    }

    fn wait(&self, ctx: &mut Context<'_>, ms: u64) {
        ctx.set_timer(TimerKey::wall(POLL), ctx.now().plus_ms(ms).0, Vec::new());
    }

    fn answered(&self, ctx: &mut Context<'_>, outcome: Outcome) {
        let stand: Stand = ctx.get_json(STORE, STATE).unwrap_or_default();
        let Phase::Reading { tries } = stand.phase else {
            ctx.count("source_stray", 1);
            return;
        };
        match outcome {
            Outcome::Blocks { facts, cursor, complete, finalized, at } => {
                let mark = Mark { cursor, complete, finalized, at };
                match contradiction(&stand, &facts, &mark) {
                    Some(text) => self.stop(ctx, stand, &text),
                    None => self.take(ctx, stand, facts, mark),
                }
            }
            Outcome::Discontinuity { text } => self.stop(ctx, stand, &text),
            _ => {
                ctx.count("source_uncertain", 1);
                let ms = delay_ms(self.settings.poll_ms, tries, self.settings.retry_max_ms);
                self.wait(ctx, ms);
                let phase = Phase::Reading { tries: tries.saturating_add(1) };
                ctx.put_json(STORE, STATE, &Stand { phase, ..stand });
            }
        }
    }

    /// Emits what fits; the rest becomes the backlog.
    fn take(&self, ctx: &mut Context<'_>, stand: Stand, facts: Vec<SolanaFact>, mark: Mark) {
        let room = self.room();
        for (index, fact) in facts.into_iter().enumerate() {
            if index < room {
                emit_fact(ctx, fact);
            } else if !sabotaged(Sabotage::SourceBacklogDropped) {
                ctx.put_json(BACKLOG, &(index as u64).to_be_bytes(), &fact);
            }
        }
        self.finish_or_drain(ctx, stand, mark);
    }

    fn drain(&self, ctx: &mut Context<'_>) {
        let stand: Stand = ctx.get_json(STORE, STATE).unwrap_or_default();
        let Phase::Draining { mark } = stand.phase else { return };
        for (key, fact) in ctx.scan(BACKLOG, b"", b"", self.room()) {
            ctx.delete(BACKLOG, &key);
            emit_fact(ctx, crate::operator::from_state(BACKLOG, &fact));
        }
        self.finish_or_drain(ctx, stand, mark);
    }

    /// With an empty backlog: progress, cursor, next fetch. Else: a timer of zero delay.
    fn finish_or_drain(&self, ctx: &mut Context<'_>, mut stand: Stand, mark: Mark) {
        if !ctx.scan(BACKLOG, b"", b"", 1).is_empty() {
            stand.phase = Phase::Draining { mark };
            ctx.set_timer(TimerKey::wall(DRAIN), ctx.now().0, Vec::new());
            ctx.put_json(STORE, STATE, &stand);
            return;
        }
        self.progress(ctx, &mut stand, mark);
        stand.phase = Phase::Reading { tries: 0 };
        match mark.cursor {
            Some(cursor) => {
                let before = stand.cursor.replace(cursor);
                self.fetch(ctx, &stand);
                if sabotaged(Sabotage::SourceCursorApart) {
                    stand.cursor = before;
                }
            }
            None => self.wait(ctx, self.settings.poll_ms),
        }
        ctx.put_json(STORE, STATE, &stand);
    }

    /// Writes a progress record if it says more than the last one. A node that is behind the one
    /// that answered before says less; that is no news and no fault.
    fn progress(&self, ctx: &mut Context<'_>, stand: &mut Stand, mark: Mark) {
        let last = stand.written.unwrap_or_default();
        let complete = mark.complete.max(last.0);
        let finalized = mark.finalized.max(last.1).min(complete);
        if stand.written == Some((complete, finalized)) {
            return;
        }
        stand.written = Some((complete, finalized));
        let source = self.settings.name.clone();
        let progress = Progress { source, complete, finalized, at: mark.at };
        ctx.emit(To::Next, PROGRESS, b"", Some(codec::encode(&progress)));
    }

    fn resume(&self, ctx: &mut Context<'_>, record: &Envelope) -> Result<(), Fault> {
        let value = record.value.as_deref().ok_or_else(|| {
            Fault::new(FaultCode::UnexpectedTombstone, "a command has no tombstones")
        })?;
        let resume: Resume = codec::decode(RESUME, value)?;
        let mut stand: Stand = ctx.get_json(STORE, STATE).unwrap_or_default();
        if resume.source != self.settings.name {
            return Err(Fault::new(
                FaultCode::UnknownTarget,
                format!("this is source `{}`, not `{}`", self.settings.name, resume.source),
            ));
        }
        if stand.phase != Phase::Stopped {
            return Err(Fault::new(
                FaultCode::UnknownTarget,
                format!("source `{}` is running: there is nothing to resume", resume.source),
            ));
        }
        if let Some(from) = resume.from_slot {
            let emitted = stand.cursor.map(|c| c.slot).max(stand.written.map(|w| w.0));
            if let Some(emitted) = emitted.filter(|emitted| from <= *emitted) {
                return Err(Fault::new(
                    FaultCode::SlotBackwards,
                    format!(
                        "source `{}` has written everything up to slot {emitted}: resume it from \
                         a later slot than that",
                        resume.source
                    ),
                ));
            }
            stand.cursor = None;
            stand.from_slot = Some(from);
        }
        self.start(ctx, stand);
        Ok(())
    }
}

/// What in an answer cannot be: it would lose or double a fact.
fn contradiction(stand: &Stand, facts: &[SolanaFact], mark: &Mark) -> Option<String> {
    let after = stand.cursor.map(|cursor| cursor.slot);
    if let Some(fact) = facts.iter().find(|fact| after.is_some_and(|after| slot(fact) <= after)) {
        return Some(format!("a fact of slot {} came again after its block was taken", slot(fact)));
    }
    match (after, mark.cursor) {
        (Some(after), Some(cursor)) if cursor.slot <= after => {
            Some(format!("the cursor went back from slot {after} to slot {}", cursor.slot))
        }
        (_, None) if !facts.is_empty() => Some("facts came without the cursor behind them".into()),
        (_, Some(cursor)) => facts
            .iter()
            .find(|fact| slot(fact) > cursor.slot)
            .map(|fact| format!("a fact of slot {} lies beyond the cursor", slot(fact))),
        _ => None,
    }
}

fn slot(fact: &SolanaFact) -> Slot {
    match fact {
        SolanaFact::Claim(claim) => claim.slot,
        SolanaFact::RootSet { slot, .. } | SolanaFact::Undecodable { slot, .. } => *slot,
    }
}

/// Each fact under its own id, `<signature>:<instruction>`: the same whoever reads it, whenever.
fn emit_fact(ctx: &mut Context<'_>, fact: SolanaFact) {
    match fact {
        SolanaFact::Claim(claim) if claim.channel.is_empty() => {
            // A record needs a key. The claim itself is kept, as data.
            let fact = SolanaFact::Undecodable {
                signature: claim.signature,
                slot: claim.slot,
                ix_index: claim.ix_index,
                data: Base64(codec::encode(&claim)),
                text: "the claim names no channel".into(),
            };
            emit_fact(ctx, fact);
        }
        SolanaFact::Claim(claim) => {
            ctx.count("source_claims", 1);
            let value = Some(codec::encode(&claim));
            ctx.emit_as(To::Next, claim.fact(), CLAIM, claim.channel.as_bytes(), value);
        }
        SolanaFact::RootSet { signature, ix_index, streamer, .. } => {
            ctx.count("source_roots", 1);
            let id = format!("{signature}:{ix_index}");
            let value = Some(codec::encode(&fact));
            let key = streamer.to_string();
            ctx.emit_as(To::Output(OBSERVED), id, ROOT_OBSERVED, key.as_bytes(), value);
        }
        SolanaFact::Undecodable { signature, ix_index, .. } => {
            ctx.count("source_undecodable", 1);
            let id = format!("{signature}:{ix_index}");
            let value = Some(codec::encode(&fact));
            ctx.emit_as(To::Output(UNDECODED), id.clone(), UNDECODABLE, id.as_bytes(), value);
        }
    }
}

impl Operator for SolanaSource {
    fn name(&self) -> &'static str {
        "solana_source"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        &[StoreDecl { name: STORE, version: 1 }, StoreDecl { name: BACKLOG, version: 1 }]
    }

    fn takes(&self, kind: &str) -> bool {
        [RESUME].contains(&kind)
    }

    fn source(&self) -> Option<&str> {
        Some(&self.settings.name)
    }

    fn outputs(&self) -> &'static [&'static str] {
        &[OBSERVED, UNDECODED, ALERTS]
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Begin => {
                let stand = ctx.get_json(STORE, STATE).unwrap_or_default();
                self.start(ctx, stand);
            }
            Input::Record(record) => self.resume(ctx, &record)?,
            Input::Outcome { outcome, .. } => self.answered(ctx, outcome),
            Input::Timer { key, .. } if key.name == DRAIN => self.drain(ctx),
            Input::Timer { .. } => {
                let stand: Stand = ctx.get_json(STORE, STATE).unwrap_or_default();
                if let Phase::Reading { .. } = stand.phase {
                    self.fetch(ctx, &stand);
                }
            }
            Input::Progress(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
