//! What is fed in: claims, retractions and progress of a scripted source that forks; orders with
//! nonces; records that nobody can read. And the bytes that each of them is.
//!
//! Invariants: a scripted source keeps its word (its progress never goes back) but where it is to be
//! seen that nothing follows from a word that is broken: now and then it retracts what it called
//! final; each poison bears a mark that stands nowhere else.

use semel_schemas::{
    amount::Amount,
    claim::{self, Claim, ClaimRetracted},
    codec,
    header::{self, Headers},
    progress::{PROGRESS, Progress},
    record::OutRecord,
    solana::{Address, Signature},
    time::{Slot, WallTime},
    topic::{Partition, TopicName},
};
use serde_json::json;

use super::{
    chain::SLOT_MS,
    options::{CHANNELS, Feed, Options},
    rng::{Rng, Stream},
    schedule::{Act, Event},
};

/// The mark of a poison.
pub(super) const POISON: &str = "poison-";
/// The mark of a claim that the first stage admits and the second one refuses.
pub(super) const ROGUE: &str = "rogue-";
/// The mark, in JSON, of an order that no table takes: a database stores no NUL.
pub(super) const UNFIT: &str = "\\u0000";

/// One record to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// A claim.
    Claim {
        /// Whose, and on which channel: equal ones are one claim.
        user: u8,
        /// Channel.
        channel: u8,
        /// Its epoch is part of a claim's identity.
        epoch: u64,
        /// Number of the fact: no two claims have the same.
        fact: u32,
        /// Slot.
        slot: u64,
        /// Produced into a partition that is not its key's.
        misplaced: bool,
    },
    /// The fact is no longer on the chain.
    Retract {
        /// As in its claim.
        user: u8,
        /// As in its claim.
        channel: u8,
        /// As in its claim.
        epoch: u64,
        /// As in its claim.
        fact: u32,
        /// As in its claim.
        slot: u64,
        /// The source called it final before.
        of_final: bool,
    },
    /// The source has come so far; written to every partition.
    Progress {
        /// Complete up to this slot.
        complete: u64,
        /// Final up to this slot.
        finalized: u64,
    },
    /// A record that is refused.
    Poison {
        /// What is wrong with it.
        kind: u8,
        /// Its number: makes its mark.
        number: u32,
        /// Channel or key.
        channel: u8,
    },
    /// A claim that only the second stage refuses.
    Rogue {
        /// What is wrong with it.
        kind: u8,
        /// Its number: makes its mark.
        number: u32,
        /// Channel.
        channel: u8,
        /// Slot.
        slot: u64,
    },
    /// An order.
    Order {
        /// Key.
        key: u8,
        /// Track.
        track: u8,
        /// Nonce.
        nonce: u64,
        /// Which order of this nonce: equal ones are one order; no table takes [`UNFIT_VARIANT`].
        variant: u8,
        /// Produced into a partition that is not its key's.
        misplaced: bool,
    },
}

/// The variant of an order that bears [`UNFIT`].
const UNFIT_VARIANT: u8 = 2;

/// Everything that is fed in, in order.
pub(super) fn inputs(options: &Options) -> Vec<Event> {
    let mut rng = Rng::new(options.seed, Stream::Inputs);
    match options.feed {
        Feed::Chain => chain(options, &mut rng),
        Feed::Script => script(options, &mut rng),
        Feed::Orders => orders(options, &mut rng),
    }
}

fn small(rng: &mut Rng, bound: u64) -> u8 {
    u8::try_from(rng.below(bound)).unwrap_or(0)
}

/// Now and then a record that nobody can read.
fn poison(options: &Options, rng: &mut Rng, number: u32) -> Sample {
    let channel = small(rng, options.channels.into());
    Sample::Poison { kind: small(rng, 6), number, channel }
}

fn chain(options: &Options, rng: &mut Rng) -> Vec<Event> {
    let mut events = Vec::new();
    for nonce in 0..options.inputs {
        let at_ms = rng.below(options.horizon_ms);
        let act = if rng.chance(1, 8) {
            Act::Feed(vec![poison(options, rng, nonce)])
        } else {
            let user = small(rng, options.users.into());
            Act::Claim { user, channel: small(rng, options.channels.into()), nonce }
        };
        events.push(Event { at_ms, act });
    }
    events
}

/// A claim that the scripted source has on its present fork.
#[derive(Clone, Copy)]
struct Fact {
    user: u8,
    channel: u8,
    epoch: u64,
    fact: u32,
    slot: u64,
}

impl Fact {
    fn claimed(self, misplaced: bool) -> Sample {
        let Self { user, channel, epoch, fact, slot } = self;
        Sample::Claim { user, channel, epoch, fact, slot, misplaced }
    }

    fn retracted(self, of_final: bool) -> Sample {
        let Self { user, channel, epoch, fact, slot } = self;
        Sample::Retract { user, channel, epoch, fact, slot, of_final }
    }
}

fn script(options: &Options, rng: &mut Rng) -> Vec<Event> {
    let slots = options.horizon_ms / SLOT_MS;
    let lag = options.finalized_lag;
    let mut events = Vec::new();
    let (mut open, mut settled): (Vec<Fact>, Vec<Fact>) = (Vec::new(), Vec::new());
    let short = options.window_slots < slots;
    let mut number = 0;
    for slot in options.first_slot()..options.first_slot() + slots {
        let at_ms = (slot - options.first_slot()) * SLOT_MS + rng.below(SLOT_MS);
        let finalized = slot.saturating_sub(lag);
        // What was called final with the slot before this one stays.
        let last = finalized.saturating_sub(1);
        settled.extend(open.extract_if(.., |fact| fact.slot <= last));
        let mut samples = Vec::new();
        if !settled.is_empty() && rng.chance(1, 10) {
            samples.push(rng.pick(&settled).retracted(true));
        }
        // Input that was delayed for long: a claim comes again, perhaps from behind the window.
        if !settled.is_empty() && rng.chance(1, 10) {
            samples.push(rng.pick(&settled).claimed(false));
        }
        if rng.chance(1, 4) {
            let from = slot.saturating_sub(rng.within(1, lag));
            while let Some(at) = open.iter().rposition(|fact| fact.slot >= from) {
                samples.push(open.remove(at).retracted(false));
            }
        }
        let share = u64::from(options.inputs).div_ceil(slots.max(1));
        for _ in 0..rng.below(2 * share + 1) {
            number += 1;
            if rng.chance(1, 12) {
                samples.push(poison(options, rng, number));
                continue;
            }
            if rng.chance(1, 24) {
                let (kind, channel) = (small(rng, 3), small(rng, options.channels.into()));
                samples.push(Sample::Rogue { kind, number, channel, slot });
                continue;
            }
            let user = small(rng, options.users.into());
            let channel = small(rng, options.channels.into());
            // After a fork, facts of slots that were complete already come on the new one.
            let back = if rng.chance(1, 8) { rng.below(lag) } else { 0 };
            let slot = (slot - back).max(options.first_slot());
            let (epoch, fact) = (slot / options.epoch_slots, number);
            let misplaced = rng.chance(1, 10);
            // On its way to its partition it may be late. A window that is shorter than the way
            // promises nothing for an id that has other facts, so it has none.
            let alone = misplaced && short;
            let user = if alone { alone_user(fact) } else { user };
            let fact = Fact { user, channel, epoch, fact, slot };
            open.push(fact);
            samples.push(fact.claimed(misplaced));
        }
        samples.push(Sample::Progress { complete: slot, finalized });
        events.push(Event { at_ms, act: Act::Feed(samples) });
    }
    events
}

fn orders(options: &Options, rng: &mut Rng) -> Vec<Event> {
    let mut events = Vec::new();
    let mut next = std::collections::BTreeMap::<(u8, u8), u64>::new();
    for number in 0..options.inputs * 2 {
        let at_ms = rng.below(options.horizon_ms);
        if rng.chance(1, 14) {
            let act = Act::Feed(vec![poison(options, rng, number)]);
            events.push(Event { at_ms, act });
            continue;
        }
        let (key, track) = (small(rng, options.channels.into()), small(rng, 2));
        let next = next.entry((key, track)).or_default();
        // Some nonces are never sent, some come again, some as another order.
        *next += if rng.chance(1, 20) { 2 } else { 1 };
        let nonce = (*next - 1).saturating_sub(if rng.chance(1, 6) { 1 } else { 0 });
        let variant = match rng.below(24) {
            0 | 1 => 1,
            2 | 3 => UNFIT_VARIANT,
            _ => 0,
        };
        let misplaced = rng.chance(1, 16);
        // Shuffled: nonces follow each other in time, within some distance.
        let spread = options.horizon_ms / 8;
        let step = options.horizon_ms * u64::from(number) / u64::from(options.inputs * 2);
        let at_ms = (step + rng.below(spread)).min(options.horizon_ms);
        let sample = Sample::Order { key, track, nonce, variant, misplaced };
        events.push(Event { at_ms, act: Act::Feed(vec![sample]) });
    }
    events
}

/// A user who claims once.
fn alone_user(fact: u32) -> u8 {
    u8::try_from(100 + fact % 150).unwrap_or(100)
}

/// Where records go, and who speaks in them.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The pipeline's first topic.
    pub(super) topic: TopicName,
    /// Its partitions.
    pub(super) partitions: u32,
    /// Whose progress a scripted source writes.
    pub(super) source: String,
}

/// A claimer's key.
fn user_key(user: u8) -> Address {
    Address([user + 1; 32])
}

/// A fact's signature: its number in an otherwise empty one.
fn signature(fact: u32) -> Signature {
    let mut bytes = [7; 64];
    bytes[..4].copy_from_slice(&fact.to_be_bytes());
    Signature(bytes)
}

fn claim_id(channel: &str, user: u8, epoch: u64) -> String {
    format!("script:{channel}:u{user}#{epoch}")
}

impl Sample {
    /// The records that this is.
    pub(super) fn records(self, place: &Place) -> Vec<OutRecord> {
        match self {
            Self::Claim { user, channel, epoch, fact, slot, misplaced } => {
                let channel = CHANNELS[usize::from(channel) % CHANNELS.len()];
                let claim = claimed(channel, claim_id(channel, user, epoch), user, fact, slot);
                let value = Some(codec::encode(&claim));
                vec![record(place, claim::CLAIM, channel, value, misplaced)]
            }
            Self::Retract { user, channel, epoch, fact, slot, of_final: _ } => {
                let channel = CHANNELS[usize::from(channel) % CHANNELS.len()];
                let gone = ClaimRetracted {
                    claim_id: claim_id(channel, user, epoch),
                    channel: channel.to_owned(),
                    fact: format!("{}:{}", signature(fact), fact % 2),
                    slot: Slot(slot),
                };
                let value = Some(codec::encode(&gone));
                vec![record(place, claim::CLAIM_RETRACTED, channel, value, false)]
            }
            Self::Progress { complete, finalized } => progress(place, complete, finalized),
            Self::Poison { kind, number, channel } => vec![poisoned(place, kind, number, channel)],
            Self::Rogue { kind, number, channel, slot } => {
                vec![rogue(place, kind, number, channel, slot)]
            }
            Self::Order { key, track, nonce, variant, misplaced } => {
                let key = format!("key-{key}");
                let end = if variant == UNFIT_VARIANT { "\0" } else { "" };
                let value = json!({
                    "order_id": format!("{key}/{track}/{nonce}/{variant}{end}"),
                    "track": format!("t{track}"),
                    "nonce": nonce.to_string(),
                    "slot": nonce + 1,
                });
                let value = Some(value.to_string().into_bytes());
                vec![record(place, "order", &key, value, misplaced)]
            }
        }
    }
}

fn claimed(channel: &str, claim_id: String, user: u8, fact: u32, slot: u64) -> Claim {
    Claim {
        claim_id,
        channel: channel.to_owned(),
        user: user_key(user),
        id: format!("twitch:{channel}:u{user}"),
        amount: Amount(1_000 + u64::from(fact)),
        slot: Slot(slot),
        signature: signature(fact),
        tx_index: fact % 5,
        ix_index: fact % 2,
        block_time: 1_700_000_000 + slot,
    }
}

/// A claim under another key than its channel, in capitals, or without an id.
fn rogue(place: &Place, kind: u8, number: u32, channel: u8, slot: u64) -> OutRecord {
    let channel = CHANNELS[usize::from(channel) % CHANNELS.len()];
    let mut claim = claimed(channel, format!("{ROGUE}{number}."), 0, number, slot);
    let mut key = channel.to_owned();
    match kind {
        0 => "another-key".clone_into(&mut key),
        1 => {
            claim.channel = channel.to_uppercase();
            key.clone_from(&claim.channel);
        }
        _ => claim.id = String::new(),
    }
    record(place, claim::CLAIM, &key, Some(codec::encode(&claim)), false)
}

fn record(
    place: &Place,
    kind: &str,
    key: &str,
    value: Option<Vec<u8>>,
    misplaced: bool,
) -> OutRecord {
    let mut headers = Headers::new();
    headers.push(header::TYPE, kind);
    let right = semel_schemas::partition::partition_for_key(key.as_bytes(), place.partitions);
    let wrong = Partition((right.0 + 1) % place.partitions);
    OutRecord {
        topic: place.topic.clone(),
        partition: Some(if misplaced { wrong } else { right }),
        key: Some(key.as_bytes().to_vec()),
        value,
        headers,
    }
}

fn progress(place: &Place, complete: u64, finalized: u64) -> Vec<OutRecord> {
    let said = Progress {
        source: place.source.clone(),
        complete: Slot(complete),
        finalized: Slot(finalized),
        at: WallTime(1_700_000_000_000 + complete * SLOT_MS),
    };
    let of = |partition| {
        let mut out = record(place, PROGRESS, &place.source, Some(codec::encode(&said)), false);
        out.partition = Some(Partition(partition));
        out
    };
    (0..place.partitions).map(of).collect()
}

/// A record that is refused for one of several reasons; its mark is in its value or its headers.
fn poisoned(place: &Place, kind: u8, number: u32, channel: u8) -> OutRecord {
    let mark = format!("{POISON}{number}.");
    let key = CHANNELS[usize::from(channel) % CHANNELS.len()];
    let value = match kind {
        0 => format!("{{\"{mark}"),
        1 => json!({ "channel": key, "mark": mark }).to_string(),
        2 => json!({ "claim_id": mark, "order_id": mark, "channel": key, "slot": "soon" })
            .to_string(),
        _ => json!({ "claim_id": mark, "order_id": mark, "channel": key, "slot": 7 }).to_string(),
    };
    let mut out = record(place, "claim", key, Some(value.into_bytes()), false);
    if place.source.is_empty() {
        out.headers.set(header::TYPE, "order");
    }
    match kind {
        3 => out.headers.set(header::TYPE, "no.such.type"),
        4 => out.headers.push(header::VERSION, "9.0"),
        5 => {
            out.key = None;
            out.partition = Some(Partition(0));
        }
        _ => {}
    }
    out
}
