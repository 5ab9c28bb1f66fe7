//! The bytes of `dedupe`'s state.
//!
//! Invariants: an id that is final costs 64 bytes: 16 + 24 under its own key, 24 in the index by
//! slot. An id has one entry, and that one's slot is the slot of its key in the indexes.

use semel_schemas::{solana::Base64, time::Slot};
use serde::{Deserialize, Serialize};

use crate::{
    kept::Kept,
    operator::{Context, Envelope, StoreDecl, from_state},
};

/// Admitted ids: digest of the id, 16 bytes → [`Entry`].
const IDS: &str = "dedupe_ids";
/// The same by age: `slot u64 BE | id` → nothing.
const BY_SLOT: &str = "dedupe_by_slot";
/// Ids that have dropped records, by the slot of the admitting fact: `slot u64 BE | id` → nothing.
const WATCHED: &str = "dedupe_watched";
/// Dropped records: `id | number u32 BE`, in the order of arrival → [`Dropped`].
const DROPPED: &str = "dedupe_dropped";
/// One record: [`Meta`].
const META: &str = "dedupe_meta";

pub(super) const STORES: &[StoreDecl] = &[
    StoreDecl { name: IDS, version: 1 },
    StoreDecl { name: BY_SLOT, version: 1 },
    StoreDecl { name: WATCHED, version: 1 },
    StoreDecl { name: DROPPED, version: 1 },
    StoreDecl { name: META, version: 1 },
];

/// What holds for the whole task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// First slot that was not too old when ids were last forgotten.
    pub(super) horizon: Slot,
    /// The slot for whose ids the expiry timer is set.
    pub(super) expire: Option<Slot>,
    /// The slot whose finality the other timer waits for.
    pub(super) settle: Option<Slot>,
}

impl Meta {
    pub(super) fn read(ctx: &Context<'_>) -> Self {
        ctx.get_json(META, &[]).unwrap_or_default()
    }

    /// Writes it if it has changed: for most records it has not.
    pub(super) fn write(&self, ctx: &mut Context<'_>) {
        if Self::read(ctx) != *self {
            ctx.put_json(META, &[], self);
        }
    }
}

/// The fact that admitted an id: `slot u64 BE | digest of the fact, 16 bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) slot: Slot,
    pub(super) fact: [u8; 16],
}

/// The admitted ids and their indexes.
pub(super) struct Ids;

impl Ids {
    pub(super) fn get(ctx: &Context<'_>, id: &[u8; 16]) -> Option<Entry> {
        let bytes = ctx.get(IDS, id)?;
        let (slot, fact) = bytes.split_first_chunk().expect("an entry begins with 8 bytes of slot");
        let fact = fact.first_chunk().expect("an entry ends with 16 bytes of fact");
        Some(Entry { slot: Slot(u64::from_be_bytes(*slot)), fact: *fact })
    }

    pub(super) fn put(ctx: &mut Context<'_>, id: &[u8; 16], entry: &Entry) {
        ctx.put(IDS, id, [entry.slot.0.to_be_bytes().as_slice(), &entry.fact].concat());
        ctx.put(BY_SLOT, &by_slot(entry.slot, id), Vec::new());
    }

    pub(super) fn delete(ctx: &mut Context<'_>, id: &[u8; 16], slot: Slot) {
        ctx.delete(IDS, id);
        ctx.delete(BY_SLOT, &by_slot(slot, id));
    }

    /// The oldest ids.
    pub(super) fn oldest(ctx: &Context<'_>, limit: usize) -> Vec<(Slot, [u8; 16])> {
        listed(ctx, BY_SLOT, limit)
    }

    /// Notes that `id`, admitted in `slot`, has dropped records.
    pub(super) fn watch(ctx: &mut Context<'_>, id: &[u8; 16], slot: Slot) {
        ctx.put(WATCHED, &by_slot(slot, id), Vec::new());
    }

    /// Forgets that; tells whether it was noted.
    pub(super) fn unwatch(ctx: &mut Context<'_>, id: &[u8; 16], slot: Slot) -> bool {
        let key = by_slot(slot, id);
        let noted = ctx.get(WATCHED, &key).is_some();
        if noted {
            ctx.delete(WATCHED, &key);
        }
        noted
    }

    /// The ids with dropped records whose admitting facts are the oldest.
    pub(super) fn watched(ctx: &Context<'_>, limit: usize) -> Vec<(Slot, [u8; 16])> {
        listed(ctx, WATCHED, limit)
    }
}

fn by_slot(slot: Slot, id: &[u8; 16]) -> Vec<u8> {
    [slot.0.to_be_bytes().as_slice(), id].concat()
}

fn listed(ctx: &Context<'_>, store: &'static str, limit: usize) -> Vec<(Slot, [u8; 16])> {
    ctx.scan(store, &[], &[], limit)
        .iter()
        .map(|(key, _)| {
            let (slot, id) = key.split_first_chunk().expect("the key begins with 8 bytes of slot");
            let id = id.first_chunk().expect("the key ends with 16 bytes of id");
            (Slot(u64::from_be_bytes(*slot)), *id)
        })
        .collect()
}

/// A record that was dropped in favour of one whose fact is not final.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dropped {
    pub(super) slot: Slot,
    pub(super) fact: Fact,
    pub(super) record: Kept,
}

/// A digest of a fact; base64 in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Base64", into = "Base64")]
pub(super) struct Fact(pub(super) [u8; 16]);

impl TryFrom<Base64> for Fact {
    type Error = String;
    fn try_from(bytes: Base64) -> Result<Self, String> {
        let count = bytes.0.len();
        bytes.0.try_into().map(Self).map_err(|_| format!("a fact has 16 bytes, not {count}"))
    }
}

impl From<Fact> for Base64 {
    fn from(fact: Fact) -> Self {
        Self(fact.0.to_vec())
    }
}

impl Dropped {
    /// The dropped records of `id` with their numbers, in the order of arrival.
    pub(super) fn all(ctx: &Context<'_>, id: &[u8; 16], limit: usize) -> Vec<(u32, Self)> {
        ctx.scan(DROPPED, id, &[], limit)
            .iter()
            .map(|(key, value)| {
                let number = key.last_chunk().expect("the key ends with 4 bytes of number");
                (u32::from_be_bytes(*number), from_state(DROPPED, value))
            })
            .collect()
    }

    pub(super) fn put(
        ctx: &mut Context<'_>,
        id: &[u8; 16],
        number: u32,
        slot: Slot,
        fact: [u8; 16],
        record: Envelope,
    ) {
        let dropped = Self { slot, fact: Fact(fact), record: record.into() };
        ctx.put_json(DROPPED, &numbered(id, number), &dropped);
    }

    pub(super) fn delete(ctx: &mut Context<'_>, id: &[u8; 16], number: u32) {
        ctx.delete(DROPPED, &numbered(id, number));
    }
}

fn numbered(id: &[u8; 16], number: u32) -> Vec<u8> {
    [id.as_slice(), &number.to_be_bytes()].concat()
}
