//! The operator `sign`: [`SignTask`]s keyed by intent id, with the answers kept for repeats.

use semel_schemas::{
    alert::{ALERT, Alert},
    codec,
    effect::Outcome,
    fault::{Fault, FaultCode},
    record::derived_id,
    sign::{SIGN_INTENT, SIGNED, SignIntent, Signed},
    solana::Signature,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{SignLimits, SignStep, SignTask};
use crate::{
    operator::{Context, Envelope, Input, Operator, StoreDecl, TimerKey, To},
    setting::at_least,
};

const STORE: &str = "sign_intents";
const ALERTS: &str = "alerts";
/// Longest intent id in bytes: it is part of keys of state, timers and effects.
const INTENT_ID_BYTES_MAX: usize = 256;

/// Settings of the operator `sign`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignSettings {
    /// Wrong signatures taken for one intent before it is refused, at least 1.
    pub wrong_max: u32,
    /// First delay after an uncertain answer, milliseconds.
    pub retry_ms: u64,
    /// Longest delay, milliseconds.
    pub retry_max_ms: u64,
}

impl Default for SignSettings {
    fn default() -> Self {
        let SignLimits { wrong_max, retry_ms, retry_max_ms } = SignLimits::default();
        Self { wrong_max, retry_ms, retry_max_ms }
    }
}

/// The operator `sign`: one `sign.signed` for each intent id.
///
/// An intent that comes again with the same payload gets the same signature back (under the same
/// record id); with another payload it is refused ([`FaultCode::IntentMismatch`]). Intent ids do
/// not expire: what is kept of a signed one is a digest and the signature.
#[derive(Debug)]
pub struct Sign {
    limits: SignLimits,
}

/// What is kept for one intent id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// SHA-256 of the intent's JSON, hex: tells a repeat from another payload.
    digest: String,
    life: Life,
}

/// Life cycle of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "life", rename_all = "snake_case")]
enum Life {
    /// Asked for.
    Waiting { task: SignTask },
    /// Answered.
    Signed { signature: Signature },
    /// Given up; a repeat of the intent starts anew.
    Refused,
}

impl Sign {
    /// With settings.
    ///
    /// # Errors
    /// One sentence, if a setting is out of its range.
    pub fn new(settings: SignSettings) -> Result<Self, String> {
        let SignSettings { wrong_max, retry_ms, retry_max_ms } = settings;
        at_least("wrong_max", wrong_max.into(), 1)?;
        at_least("retry_ms", retry_ms, 1)?;
        at_least("retry_max_ms", retry_max_ms, retry_ms)?;
        Ok(Self { limits: SignLimits { wrong_max, retry_ms, retry_max_ms } })
    }

    fn intent(ctx: &mut Context<'_>, record: &Envelope) -> Result<(), Fault> {
        let value = record.value.as_deref().ok_or_else(|| {
            Fault::new(FaultCode::UnexpectedTombstone, "an intent to sign has no tombstones")
        })?;
        let intent: SignIntent = codec::decode(SIGN_INTENT, value)?;
        let id = &intent.intent_id;
        if id.is_empty() || id.len() > INTENT_ID_BYTES_MAX || id.contains('\0') {
            return Err(Fault::new(
                FaultCode::WrongType,
                format!("`intent_id` must have 1 to {INTENT_ID_BYTES_MAX} bytes and no NUL"),
            ));
        }
        let digest = hex::encode(Sha256::digest(codec::encode(&intent)));
        match ctx.get_json::<Entry>(STORE, id.as_bytes()) {
            Some(entry) if entry.digest != digest => {
                return Err(Fault::new(
                    FaultCode::IntentMismatch,
                    format!(
                        "intent `{id}` came before with another payload, key or signer: give a new \
                         intent a new id"
                    ),
                ));
            }
            Some(Entry { life: Life::Waiting { .. }, .. }) => {
                ctx.count("sign_repeated", 1);
                return Ok(());
            }
            Some(Entry { life: Life::Signed { signature }, .. }) => {
                ctx.count("sign_repeated", 1);
                emit_signed(ctx, id, signature);
                return Ok(());
            }
            Some(Entry { life: Life::Refused, .. }) | None => {}
        }
        let SignIntent { intent_id, signer, public_key, payload } = intent;
        let task = SignTask::new(signer, public_key, payload);
        ask(ctx, &intent_id, &task);
        let entry = Entry { digest, life: Life::Waiting { task } };
        ctx.put_json(STORE, intent_id.as_bytes(), &entry);
        Ok(())
    }

    fn outcome(&self, ctx: &mut Context<'_>, id: &str, outcome: &Outcome) {
        let Some(Entry { digest, life: Life::Waiting { task } }) =
            ctx.get_json(STORE, id.as_bytes())
        else {
            ctx.count("sign_stray", 1);
            return;
        };
        let life = match task.take(outcome, self.limits) {
            SignStep::Signed { signature, .. } => {
                emit_signed(ctx, id, signature);
                Life::Signed { signature }
            }
            SignStep::Wrong(task) => {
                ctx.count("sign_wrong", 1);
                ask(ctx, id, &task);
                Life::Waiting { task }
            }
            SignStep::Uncertain { task, wait_ms } => {
                ctx.count("sign_uncertain", 1);
                let at = ctx.now().plus_ms(wait_ms).0;
                ctx.set_timer(TimerKey::wall(id), at, Vec::new());
                Life::Waiting { task }
            }
            SignStep::Refused { text } => {
                ctx.count("sign_wrong", 1);
                ctx.count("sign_refused", 1);
                let alert = Alert {
                    code: FaultCode::BadSignature,
                    subject: id.to_owned(),
                    text,
                    at: ctx.now(),
                };
                ctx.emit_json(To::Output(ALERTS), ALERT, id, &alert);
                Life::Refused
            }
        };
        ctx.put_json(STORE, id.as_bytes(), &Entry { digest, life });
    }
}

fn ask(ctx: &mut Context<'_>, id: &str, task: &SignTask) {
    ctx.effect(id, format!("sign:{id}"), task.ask());
}

fn emit_signed(ctx: &mut Context<'_>, id: &str, signature: Signature) {
    let signed = Signed { intent_id: id.to_owned(), signature };
    let record_id = derived_id(id, SIGNED, 0);
    ctx.emit_as(To::Next, record_id, SIGNED, id.as_bytes(), Some(codec::encode(&signed)));
}

impl Operator for Sign {
    fn name(&self) -> &'static str {
        "sign"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        &[StoreDecl { name: STORE, version: 1 }]
    }

    fn takes(&self, kind: &str) -> bool {
        [SIGN_INTENT].contains(&kind)
    }

    fn outputs(&self) -> &'static [&'static str] {
        &[ALERTS]
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Record(record) => Self::intent(ctx, &record)?,
            Input::Outcome { id, outcome } => self.outcome(ctx, &id, &outcome),
            Input::Timer { key, .. } => {
                if let Some(Entry { life: Life::Waiting { task }, .. }) =
                    ctx.get_json(STORE, key.name.as_bytes())
                {
                    ask(ctx, &key.name, &task);
                }
            }
            Input::Begin | Input::Progress(_) => {}
        }
        Ok(())
    }
}
