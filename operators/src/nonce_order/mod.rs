//! `nonce_order`: records of one (key, track) go on in the order of their nonces, without a gap.
//!
//! What comes early waits, limited by count, distance and time; what comes late is refused. When
//! the missing nonce does not come in time, those that wait for it are refused too and told which
//! nonce they lacked; they may be sent again behind it.
//!
//! Invariants: of one (key, track), what goes on bears the nonces `first, first + 1, …`, each once
//! and none left out. A nonce is passed over only by being refused: it is never run behind a
//! greater one. A record that waits ends in exactly one of: it goes on, or its verdict goes out.

use semel_schemas::{
    codec,
    fault::{Fault, FaultCode},
    partition::hash_of_key,
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
    verdict::{self, Verdict, VerdictStatus},
};
use serde::Deserialize;

use crate::{
    field::{self, FieldPath, digest},
    kept,
    operator::{Context, Envelope, Input, Operator, StoreDecl, TimerKey, To},
    owner::{Owner, Part},
};

/// Tracks: digest of key and track, 16 bytes → [`Track`].
const TRACKS: &str = "nonce_tracks";
/// Early records: `digest | nonce u64 BE` → the record ([`kept::to_bytes`]).
const EARLY: &str = "nonce_early";
/// Timers, by track: the missing nonce did not come in time; there is more to send on.
const GAP: &str = "nonce.gap.";
const MORE: &str = "nonce.more.";

/// Settings of `nonce_order`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The type of the records that are ordered.
    pub record: String,
    /// The fields whose values, with the record's key, name the track. Without any, the key does.
    #[serde(default)]
    pub track: Vec<FieldPath>,
    /// The field that holds the nonce: a whole number of 64 bits or its decimal string.
    #[serde(default = "default_nonce")]
    pub nonce: FieldPath,
    /// The first nonce of a track: a number, or `"first_seen"` to begin with whatever comes first.
    #[serde(default)]
    pub first: First,
    /// Most records that wait on one track.
    #[serde(default = "default_max_early")]
    pub max_early: u32,
    /// Furthest distance of a nonce from the missing one, in nonces.
    #[serde(default = "default_max_distance")]
    pub max_distance: u64,
    /// Wall-clock milliseconds that a gap may last, counted from when it became the first one.
    #[serde(default = "default_gap_timeout_ms")]
    pub gap_timeout_ms: u64,
    /// Most records that one step emits, at least 1.
    #[serde(default = "default_max_outputs")]
    pub max_outputs: usize,
}

fn default_nonce() -> FieldPath {
    FieldPath::try_from(String::from("nonce")).expect("a name without dots is a path")
}

fn default_max_early() -> u32 {
    64
}

fn default_max_distance() -> u64 {
    1024
}

fn default_gap_timeout_ms() -> u64 {
    60_000
}

fn default_max_outputs() -> usize {
    500
}

/// The first nonce of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum First {
    /// This one.
    Nonce(u64),
    /// Whatever comes first.
    Seen(FirstSeen),
}

/// The text `first_seen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum FirstSeen {
    /// The text itself.
    #[serde(rename = "first_seen")]
    FirstSeen,
}

impl Default for First {
    fn default() -> Self {
        Self::Nonce(0)
    }
}

/// Where a track stands.
///
/// State form: `next u64 BE | since u64 BE | timer u8 | waiting u64 BE … | hash u32 BE`. Without the
/// hash in what was written before it was kept: the nonces are whole eights, so it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Track {
    /// The nonce that goes on next.
    next: u64,
    /// Wall clock at which the gap began that `next` leaves.
    since: u64,
    /// Whether a timer is set. It is not moved with each gap (most end long before it is due): when
    /// it fires, it looks at the gap that is there then.
    timer: bool,
    /// The nonces of the records that wait, ascending.
    waiting: Vec<u64>,
    /// [`hash_of_key`] of the record key, which the track's name does not tell.
    hash: Option<u32>,
}

impl Track {
    fn read(ctx: &Context<'_>, name: &[u8; 16]) -> Option<Self> {
        let bytes = ctx.get(TRACKS, name)?;
        Some(Self::from_bytes(&bytes).expect("a track is read as it was written"))
    }

    /// Big-endian: next nonce (8), waiting since (8), whether a timer is set (1), waiting nonces
    /// (8 each), hash of the record key (4).
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (next, rest) = bytes.split_first_chunk()?;
        let (since, rest) = rest.split_first_chunk()?;
        let (timer, rest) = rest.split_first()?;
        let (waiting, rest) = rest.as_chunks();
        Some(Self {
            next: u64::from_be_bytes(*next),
            since: u64::from_be_bytes(*since),
            timer: *timer != 0,
            waiting: waiting.iter().map(|nonce| u64::from_be_bytes(*nonce)).collect(),
            hash: rest.first_chunk().map(|hash| u32::from_be_bytes(*hash)),
        })
    }

    fn write(&self, ctx: &mut Context<'_>, name: &[u8; 16]) {
        let mut bytes = Vec::with_capacity(21 + 8 * self.waiting.len());
        bytes.extend_from_slice(&self.next.to_be_bytes());
        bytes.extend_from_slice(&self.since.to_be_bytes());
        bytes.push(u8::from(self.timer));
        for nonce in &self.waiting {
            bytes.extend_from_slice(&nonce.to_be_bytes());
        }
        if let Some(hash) = self.hash {
            bytes.extend_from_slice(&hash.to_be_bytes());
        }
        ctx.put(TRACKS, name, bytes);
    }
}

/// The nonce that goes on next on a track, from its state form in store `nonce_tracks`; none if the
/// bytes are no such form.
#[must_use]
pub fn next_nonce(state: &[u8]) -> Option<u64> {
    Track::from_bytes(state).map(|track| track.next)
}

/// The operator.
#[derive(Debug)]
pub struct NonceOrder {
    settings: Settings,
}

impl NonceOrder {
    /// The operator with its settings.
    ///
    /// # Errors
    /// A sentence that names the setting which is out of its range.
    pub fn new(settings: Settings) -> Result<Self, String> {
        if settings.max_outputs == 0 {
            return Err("`max_outputs` is 0: at least one record a step must go on".into());
        }
        Ok(Self { settings })
    }

    fn record(&self, ctx: &mut Context<'_>, record: Envelope) -> Result<(), Fault> {
        let value = field::json_at(
            &record,
            &[std::slice::from_ref(&self.settings.nonce), &self.settings.track],
        )?;
        let nonce = self.settings.nonce.number(&value)?;
        let mut name = vec![record.key.clone()];
        name.extend(
            field::texts(&self.settings.track, &value)?.into_iter().map(String::into_bytes),
        );
        let name = digest(&name);
        if nonce == u64::MAX {
            return Err(Fault::new(
                FaultCode::Overflow,
                format!("nonce {nonce} is the highest there is: none could follow it"),
            ));
        }
        let mut track = Track::read(ctx, &name).unwrap_or_else(|| Track {
            next: match self.settings.first {
                First::Nonce(first) => first,
                First::Seen(FirstSeen::FirstSeen) => nonce,
            },
            ..Track::default()
        });
        track.hash.get_or_insert_with(|| hash_of_key(&record.key));
        if nonce < track.next && sabotaged(Sabotage::NonceStaleTaken) {
            ctx.forward(record);
            return Ok(());
        }
        if nonce > track.next && sabotaged(Sabotage::NonceGapPassedOver) {
            track.next = nonce;
        }
        let place = match track.waiting.binary_search(&nonce) {
            Err(place) if nonce >= track.next => place,
            _ => return Err(stale(nonce, track.next)),
        };
        if nonce > track.next {
            self.check_limits(nonce, &track)?;
            track.waiting.insert(place, nonce);
            if track.waiting.len() == 1 {
                self.gap_begins(ctx, &name, &mut track);
            }
            ctx.count("nonce_order.early", 1);
            ctx.put(EARLY, &early_key(&name, nonce), kept::to_bytes(&record));
            track.write(ctx, &name);
            return Ok(());
        }
        track.next += 1;
        ctx.forward(record);
        ctx.count("nonce_order.in_order", 1);
        self.go_on(ctx, &name, track, self.settings.max_outputs - 1);
        Ok(())
    }

    fn check_limits(&self, nonce: u64, track: &Track) -> Result<(), Fault> {
        let missing = track.next;
        if nonce - missing > self.settings.max_distance {
            return Err(Fault::new(
                FaultCode::NonceTooFar,
                format!(
                    "nonce {nonce} is more than {} ahead: nonce {missing} is missing, send it first",
                    self.settings.max_distance
                ),
            ));
        }
        if track.waiting.len() >= self.settings.max_early as usize {
            return Err(Fault::new(
                FaultCode::NonceBufferFull,
                format!(
                    "nonce {nonce} is early and {} wait already: nonce {missing} is missing, send \
                     it first",
                    track.waiting.len()
                ),
            ));
        }
        Ok(())
    }

    /// Sends on, up to `left` records, what waited for the nonces that have come.
    fn go_on(&self, ctx: &mut Context<'_>, name: &[u8; 16], mut track: Track, left: usize) {
        let ready = (track.next..).zip(&track.waiting).take_while(|(next, n)| next == *n).count();
        for nonce in track.waiting.drain(..ready.min(left)) {
            let record = taken(ctx, name, nonce);
            ctx.forward(record);
            ctx.count("nonce_order.released", 1);
            track.next = nonce + 1;
        }
        if ready > left {
            ctx.set_timer(timer(MORE, name), ctx.now().0, name.to_vec());
        }
        if !track.waiting.is_empty() {
            // Another gap has become the first one.
            self.gap_begins(ctx, name, &mut track);
        }
        track.write(ctx, name);
    }

    fn gap_begins(&self, ctx: &mut Context<'_>, name: &[u8; 16], track: &mut Track) {
        track.since = ctx.now().0;
        if !track.timer {
            track.timer = true;
            let WallTime(at) = ctx.now().plus_ms(self.settings.gap_timeout_ms);
            ctx.set_timer(timer(GAP, name), at, name.to_vec());
        }
    }

    /// The time of a gap that was there is over. If it is there still, the missing nonce did not
    /// come: refuses what waits for it, lowest first. What is about to be sent on is not met here:
    /// that timer is always set before this one.
    fn expire(&self, ctx: &mut Context<'_>, name: &[u8; 16]) {
        let Some(mut track) = Track::read(ctx, name) else { return };
        let WallTime(end) = WallTime(track.since).plus_ms(self.settings.gap_timeout_ms);
        let mut again = end;
        if ctx.now().0 >= end {
            let most = self.settings.max_outputs.min(track.waiting.len());
            for nonce in track.waiting.drain(..most) {
                let record = taken(ctx, name, nonce);
                self.refuse(ctx, record, nonce, track.next);
            }
            again = ctx.now().0;
        }
        track.timer = !track.waiting.is_empty();
        if track.timer {
            ctx.set_timer(timer(GAP, name), again, name.to_vec());
        }
        track.write(ctx, name);
    }

    fn refuse(&self, ctx: &mut Context<'_>, record: Envelope, nonce: u64, missing: u64) {
        ctx.count("nonce_order.expired", 1);
        let verdict = Verdict {
            record_id: record.id,
            status: VerdictStatus::Refused,
            code: FaultCode::NonceGapExpired,
            text: format!(
                "nonce {nonce} waited {} ms for nonce {missing}, which is missing: send {missing} \
                 first, then {nonce} again",
                self.settings.gap_timeout_ms
            ),
            missing_nonce: Some(missing.to_string()),
            kind: record.kind,
            value: String::from_utf8_lossy(record.value.as_deref().unwrap_or_default())
                .into_owned(),
        };
        let value = codec::encode(&verdict);
        ctx.emit(To::Output("refused"), verdict::VERDICT, &record.key, Some(value));
    }
}

impl Operator for NonceOrder {
    fn name(&self) -> &'static str {
        "nonce_order"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        &[StoreDecl { name: TRACKS, version: 2 }, StoreDecl { name: EARLY, version: 2 }]
    }

    fn takes(&self, kind: &str) -> bool {
        kind == self.settings.record
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["refused"]
    }

    fn owner(&self, part: Part<'_>) -> Owner {
        match part {
            Part::Pair { store: TRACKS, value, .. } => {
                let hash = Track::from_bytes(value).and_then(|track| track.hash);
                hash.map_or(Owner::Unknown, Owner::Hash)
            }
            Part::Pair { store: EARLY, value, .. } => Owner::Key(kept::from_bytes(value).key),
            Part::Pair { .. } => Owner::Unknown,
            Part::Timer { payload, .. } => Owner::Like { store: TRACKS, key: payload.to_vec() },
        }
    }

    fn keeps_keys(&self) -> bool {
        true
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Record(record) if record.kind == self.settings.record => {
                return self.record(ctx, record);
            }
            Input::Record(record) => ctx.forward(record),
            Input::Timer { key, payload } => {
                let Ok(name) = <[u8; 16]>::try_from(payload) else { return Ok(()) };
                if key.name.starts_with(GAP) {
                    self.expire(ctx, &name);
                } else if let Some(track) = Track::read(ctx, &name) {
                    self.go_on(ctx, &name, track, self.settings.max_outputs);
                }
            }
            Input::Begin | Input::Outcome { .. } | Input::Progress(_) => {}
        }
        Ok(())
    }
}

fn timer(what: &str, name: &[u8; 16]) -> TimerKey {
    TimerKey::wall(format!("{what}{}", hex::encode(name)))
}

fn early_key(name: &[u8; 16], nonce: u64) -> Vec<u8> {
    [name.as_slice(), &nonce.to_be_bytes()].concat()
}

/// Takes a record that waits out of the state.
fn taken(ctx: &mut Context<'_>, name: &[u8; 16], nonce: u64) -> Envelope {
    let key = early_key(name, nonce);
    let bytes = ctx.get(EARLY, &key).expect("what a track lists as waiting is in the state");
    ctx.delete(EARLY, &key);
    kept::from_bytes(&bytes)
}

fn stale(nonce: u64, next: u64) -> Fault {
    let why = if nonce < next { "was used or passed over" } else { "is waiting already" };
    Fault::new(
        FaultCode::NonceStale,
        format!("nonce {nonce} {why}: the missing one is nonce {next}"),
    )
}

#[cfg(test)]
mod tests;
