//! `state`: what a stage knows, read from its changelog, which is what a new owner would restore.
//!
//! Invariants: what is shown was committed; memory is bounded by [`WINDOW`] keys, whatever the state's
//! size: a changelog that has more is read again from where the last reading ended.

use semel_schemas::{
    solana::Base64,
    topic::{NextOffset, Partition},
};
use serde::{Deserialize, Serialize};

use super::{Answer, Stop, Tell, View, consume::Cursor, view::nearest};
use crate::{
    engine::{
        overlay::Writes,
        topology::{Stage, TopicRef},
    },
    log::Isolation,
};

/// Keys that are held while a changelog is read.
const WINDOW: usize = 50_000;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The stage.
    pub stage: String,
    /// Only this store; those of the engine begin with `_`.
    pub store: Option<String>,
    /// Which keys.
    pub keys: Keys,
    /// Only this partition.
    pub partition: Option<u32>,
    /// Only so many keys.
    pub limit: Option<u64>,
}

/// Which keys of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// Those that begin with these bytes.
    Prefix(Base64),
    /// This one.
    One(Base64),
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRow {
    /// Partition.
    pub partition: u32,
    /// Store.
    pub store: String,
    /// Key.
    pub key: Base64,
    /// Value.
    pub value: Base64,
}

/// The stores of a stage: its operators' and the engine's.
fn stores(stage: &Stage) -> Vec<&'static str> {
    let own = stage.operators.iter().flat_map(|operator| operator.stores());
    own.map(|store| store.name).collect()
}

/// Tells keys, partition by partition, in order.
///
/// # Errors
/// [`Stop`].
pub fn state(view: &View, ask: &State, tell: &mut Tell<'_>) -> Result<(), Stop> {
    let stage = view.stage(&ask.stage)?;
    if let Some(store) = &ask.store {
        let known = stores(stage);
        if !store.starts_with('_') && !known.contains(&store.as_str()) {
            return Err(Stop::Refused(format!(
                "stage `{}` has no store `{store}`{}",
                stage.name,
                nearest(store, &known)
            )));
        }
    }
    let changelog = view.existing(&stage.changelog.name)?;
    if let Some(partition) = ask.partition.filter(|p| *p >= changelog.partitions) {
        return Err(Stop::Refused(format!(
            "stage `{}` has no partition {partition}: it has {}, counted from 0",
            stage.name, changelog.partitions
        )));
    }
    let mut left = ask.limit.unwrap_or(u64::MAX);
    for partition in (0..changelog.partitions).map(Partition) {
        if ask.partition.is_none_or(|wanted| wanted == partition.0) {
            left = told(view, ask, (&changelog, partition), left, tell)?;
        }
    }
    Ok(())
}

/// Whether a key of a changelog is asked for.
fn wanted(ask: &State, full: &[u8]) -> bool {
    let Some(zero) = full.iter().position(|byte| *byte == 0) else { return false };
    let (store, key) = (&full[..zero], &full[zero + 1..]);
    let store = ask.store.as_ref().is_none_or(|name| name.as_bytes() == store);
    store
        && match &ask.keys {
            Keys::Prefix(prefix) => key.starts_with(&prefix.0),
            Keys::One(one) => key == one.0,
        }
}

/// The last values of keys after `after`, as many as the window holds; whether there are more.
fn window(
    view: &View,
    ask: &State,
    (topic, partition): (&TopicRef, Partition),
    after: Option<&[u8]>,
) -> Result<(Writes, bool), Stop> {
    let mut reader = view.log.reader(Isolation::Committed)?;
    let (first, end) = reader.bounds(&topic.name, partition)?;
    let mut found = Writes::new();
    let mut more = false;
    if first >= end {
        return Ok((found, more));
    }
    let place: (NextOffset, NextOffset) = (first, end);
    let mut cursor = Cursor::open(reader, (&topic.name, partition), place)?;
    while let Some(record) = cursor.take()? {
        let Some(key) = record.key else { continue };
        if !wanted(ask, &key) || after.is_some_and(|after| key.as_slice() <= after) {
            continue;
        }
        found.insert(key, record.value);
        if found.len() > WINDOW {
            found.pop_last();
            more = true;
        }
    }
    Ok((found, more))
}

fn told(
    view: &View,
    ask: &State,
    place: (&TopicRef, Partition),
    mut left: u64,
    tell: &mut Tell<'_>,
) -> Result<u64, Stop> {
    let mut after: Option<Vec<u8>> = None;
    while left > 0 {
        let (found, more) = window(view, ask, place, after.as_deref())?;
        after = found.last_key_value().map(|(key, _)| key.clone());
        for (full, value) in found {
            let (Some(value), Some(zero)) = (value, full.iter().position(|byte| *byte == 0)) else {
                continue;
            };
            if left == 0 {
                break;
            }
            left -= 1;
            tell(Answer::State(StateRow {
                partition: place.1.0,
                store: String::from_utf8_lossy(&full[..zero]).into_owned(),
                key: Base64(full[zero + 1..].to_vec()),
                value: Base64(value),
            }))?;
        }
        if !more {
            break;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::overlay::full_key;

    #[test]
    fn keys_are_found_by_store_and_by_how_they_begin() {
        let ask = |store: Option<&str>, keys| State {
            stage: "s".into(),
            store: store.map(str::to_owned),
            keys,
            partition: None,
            limit: None,
        };
        let prefix = |text: &str| Keys::Prefix(Base64(text.as_bytes().to_vec()));
        let full = full_key("ids", b"alpha");
        assert!(wanted(&ask(None, prefix("")), &full));
        assert!(wanted(&ask(Some("ids"), prefix("al")), &full));
        assert!(!wanted(&ask(Some("id"), prefix("")), &full));
        assert!(!wanted(&ask(Some("ids"), prefix("b")), &full));
        assert!(wanted(&ask(None, Keys::One(Base64(b"alpha".to_vec()))), &full));
        assert!(!wanted(&ask(None, Keys::One(Base64(b"alph".to_vec()))), &full));
        assert!(!wanted(&ask(None, prefix("")), b"no zero"));
    }
}
