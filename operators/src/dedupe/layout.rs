//! The bytes of `dedupe`'s state.
//!
//! Invariants: an id that is final costs 64 bytes: 16 + 32 under its own key, 16 in the index by
//! slot. An id has one entry; it is in the index under the slot that the entry is kept for. What the
//! index names beyond that has gone or moved since, and is passed over: whoever reads the index looks
//! at the entries.

use semel_schemas::{solana::Base64, time::Slot};
use serde::{Deserialize, Serialize};

use crate::{
    kept::Kept,
    operator::{Context, Envelope, StoreDecl, from_state},
};

/// Admitted ids: digest of the id, 16 bytes → [`Entry`].
const IDS: &str = "dedupe_ids";
/// The same by age, in pages, so that a transaction writes one for many ids: `slot u64 BE | page u32 BE`
/// → ids, 16 bytes each. Page 0 begins with the number of the slot's last page, u32 BE.
const BY_SLOT: &str = "dedupe_by_slot";
/// Ids of a full page.
const PAGE: usize = 64;
/// Ids that have dropped records, by the slot of the admitting fact: `slot u64 BE | id` → nothing.
const WATCHED: &str = "dedupe_watched";
/// Dropped records: `id | number u32 BE`, in the order of arrival → [`Dropped`].
const DROPPED: &str = "dedupe_dropped";
/// One record: [`Meta`].
const META: &str = "dedupe_meta";

pub(super) const STORES: &[StoreDecl] = &[
    StoreDecl { name: IDS, version: 2 },
    StoreDecl { name: BY_SLOT, version: 2 },
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
    /// The three as they are in the state.
    #[serde(skip)]
    stored: (Slot, Option<Slot>, Option<Slot>),
}

impl Meta {
    pub(super) fn read(ctx: &Context<'_>) -> Self {
        let read: Self = ctx.get_json(META, &[]).unwrap_or_default();
        Self { stored: read.all(), ..read }
    }

    fn all(&self) -> (Slot, Option<Slot>, Option<Slot>) {
        (self.horizon, self.expire, self.settle)
    }

    /// Writes it if it has changed since it was read: for most records it has not.
    pub(super) fn write(&self, ctx: &mut Context<'_>) {
        if self.stored != self.all() {
            ctx.put_json(META, &[], self);
        }
    }
}

/// The fact that admitted an id: `slot u64 BE | until u64 BE | digest of the fact, 16 bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) slot: Slot,
    /// The newest slot of its facts, the dropped ones among them: each of them may come again.
    pub(super) until: Slot,
    pub(super) fact: [u8; 16],
}

/// The admitted ids and their indexes.
pub(super) struct Ids;

impl Ids {
    pub(super) fn get(ctx: &Context<'_>, id: &[u8; 16]) -> Option<Entry> {
        let bytes = ctx.get(IDS, id)?;
        let (slot, rest) = bytes.split_first_chunk().expect("an entry begins with 8 bytes of slot");
        let (until, fact) = rest.split_first_chunk().expect("then come 8 bytes of slot");
        let fact = fact.first_chunk().expect("an entry ends with 16 bytes of fact");
        let [slot, until] = [slot, until].map(|bytes| Slot(u64::from_be_bytes(*bytes)));
        Some(Entry { slot, until, fact: *fact })
    }

    /// Writes the entry; the index names the id under `until` already.
    pub(super) fn put(ctx: &mut Context<'_>, id: &[u8; 16], entry: &Entry) {
        let (slot, until) = (entry.slot.0.to_be_bytes(), entry.until.0.to_be_bytes());
        ctx.put(IDS, id, [slot.as_slice(), &until, &entry.fact].concat());
    }

    /// Writes the entry, and the id into the index.
    pub(super) fn list(ctx: &mut Context<'_>, id: &[u8; 16], entry: &Entry) {
        Self::put(ctx, id, entry);
        Page::add(ctx, entry.until, id);
    }

    /// Deletes the entry; the index keeps naming the id until its slot leaves the window.
    pub(super) fn delete(ctx: &mut Context<'_>, id: &[u8; 16]) {
        ctx.delete(IDS, id);
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

/// A page of the index by age.
pub(super) struct Page {
    pub(super) slot: Slot,
    number: u32,
    /// The slot's last page; page 0 knows it.
    last: u32,
    /// The ids, 16 bytes each.
    ids: Vec<u8>,
}

impl Page {
    fn key(slot: Slot, number: u32) -> [u8; 12] {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&slot.0.to_be_bytes());
        key[8..].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn from_bytes(slot: Slot, number: u32, mut bytes: Vec<u8>) -> Self {
        let mut last = number;
        if number == 0 {
            let (head, _) = bytes.split_first_chunk().expect("page 0 begins with 4 bytes");
            last = u32::from_be_bytes(*head);
            bytes.drain(..4);
        }
        Self { slot, number, last, ids: bytes }
    }

    fn read(ctx: &Context<'_>, slot: Slot, number: u32) -> Self {
        match ctx.get(BY_SLOT, &Self::key(slot, number)) {
            Some(bytes) => Self::from_bytes(slot, number, bytes),
            None => Self { slot, number, last: number, ids: Vec::new() },
        }
    }

    fn write(self, ctx: &mut Context<'_>) {
        let key = Self::key(self.slot, self.number);
        if self.number == 0 {
            ctx.put(BY_SLOT, &key, [&self.last.to_be_bytes()[..], &self.ids].concat());
        } else {
            ctx.put(BY_SLOT, &key, self.ids);
        }
    }

    fn add(ctx: &mut Context<'_>, slot: Slot, id: &[u8; 16]) {
        let mut first = Self::read(ctx, slot, 0);
        let mut page = match first.last {
            0 => None,
            last => Some(Self::read(ctx, slot, last)),
        };
        if page.as_ref().unwrap_or(&first).ids.len() >= PAGE * 16 {
            first.last += 1;
            page = Some(Self { slot, number: first.last, last: first.last, ids: Vec::new() });
            page.iter_mut().for_each(|page| page.ids.extend_from_slice(id));
            first.write(ctx);
        } else {
            page.as_mut().unwrap_or(&mut first).ids.extend_from_slice(id);
            if page.is_none() {
                return first.write(ctx);
            }
        }
        if let Some(page) = page {
            page.write(ctx);
        }
    }

    /// The oldest pages, with `ids` ids at least if there are as many.
    pub(super) fn oldest(ctx: &Context<'_>, ids: usize) -> Vec<Self> {
        ctx.scan(BY_SLOT, &[], &[], ids.div_ceil(PAGE).saturating_add(1))
            .into_iter()
            .map(|(key, bytes)| {
                let (slot, number) =
                    key.split_first_chunk().expect("a page's key begins with 8 bytes");
                let number = number.first_chunk().expect("a page's key ends with 4 bytes");
                let slot = Slot(u64::from_be_bytes(*slot));
                Self::from_bytes(slot, u32::from_be_bytes(*number), bytes)
            })
            .collect()
    }

    /// Takes up to `most` ids out of the page; an empty one goes.
    pub(super) fn take(mut self, ctx: &mut Context<'_>, most: usize) -> Vec<[u8; 16]> {
        let (ids, _) = self.ids.as_chunks();
        let taken = ids.get(..most.min(ids.len())).unwrap_or_default().to_vec();
        self.ids.drain(..taken.len() * 16);
        if self.ids.is_empty() {
            ctx.delete(BY_SLOT, &Self::key(self.slot, self.number));
        } else {
            self.write(ctx);
        }
        taken
    }
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
