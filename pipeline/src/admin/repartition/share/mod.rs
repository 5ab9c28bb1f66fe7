//! Which new task each part of a stage's state goes to: the pure half of `repartition`.
//!
//! What belongs to a record key goes where the log sends the records of that key from now on. Whose
//! a pair is, only its writer knows: operators say it ([`Operator::owner`]), the engine's own stores
//! are known here. What holds for every task (progress of sources) must be the same in all of them
//! and goes to each. Effects without an outcome, and what nobody can tell the key of, are refused.
//!
//! Invariants: nothing is guessed: a pair that does not lie where its own key's hash sends it now is
//! refused (a producer with a partitioner of its own, an operator that says a wrong key); every pair
//! goes to exactly one new task, and no two to the same place.
//!
//! [`Operator::owner`]: semel_operators::operator::Operator::owner

use std::collections::BTreeMap;

use semel_operators::{
    operator::Operator,
    owner::{Owner, Part},
};
use semel_schemas::{
    partition::{hash_of_key, partition_for_hash},
    topic::Partition,
};

use crate::engine::{
    effects,
    overlay::full_key,
    quarantine,
    task::{META, PROGRESS_STORE},
    timers,
    topology::Stage,
};

/// A task's state but for its [`META`]: full key → value.
pub(super) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Whose a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The records' whose key has this hash.
    Key(u32),
    /// Every task's.
    Every,
    /// The one task's that lies here: it tells of itself ([`META`]).
    Own,
}

/// The states of `partitions` new tasks from those of all the old ones, in order.
///
/// # Errors
/// One sentence: what cannot go anywhere, and what to do.
pub(super) fn share(stage: &Stage, old: &[&Pairs], partitions: u32) -> Result<Vec<Pairs>, String> {
    let count = u32::try_from(old.len()).unwrap_or(u32::MAX);
    let mut new: Vec<Pairs> = (0..partitions).map(|_| Pairs::new()).collect();
    let mut every: Option<Pairs> = None;
    for (here, pairs) in (0..).map(Partition).zip(old) {
        let mut shared = Pairs::new();
        for (key, value) in pairs.iter() {
            match whose(stage, pairs, key, value)? {
                Whose::Own => {}
                Whose::Every => {
                    shared.insert(key.clone(), value.clone());
                }
                Whose::Key(hash) => {
                    let home = partition_for_hash(hash, count);
                    if home != here {
                        return Err(astray(stage, key, here, home));
                    }
                    let Partition(to) = partition_for_hash(hash, partitions);
                    let taken = new[to as usize].insert(key.clone(), value.clone());
                    if taken.is_some() {
                        return Err(format!(
                            "two partitions of `{}` hold {}, and both would come to partition \
                             {to}: the stage keeps its partitions",
                            stage.name,
                            named(key)
                        ));
                    }
                }
            }
        }
        if every.get_or_insert_with(|| shared.clone()) != &shared {
            return Err(format!(
                "the sources of `{}` have not come equally far in all its partitions: let it work \
                 up what they wrote, then ask again",
                stage.name
            ));
        }
    }
    for pairs in &mut new {
        pairs.extend(every.iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    }
    Ok(new)
}

fn astray(stage: &Stage, key: &[u8], here: Partition, home: Partition) -> String {
    format!(
        "{} of `{}` lies in partition {here}, and the records of its key belong to partition {home}: \
         who writes to {} chooses partitions in a way of his own (Java's clients and Semel take \
         murmur2 of the key), so nobody can tell where they will go",
        named(key),
        stage.name,
        stage.input.name
    )
}

/// A full key as people know it.
fn named(full: &[u8]) -> String {
    let (store, key) = split(full);
    format!("`{}` of store `{store}`", key.escape_ascii())
}

/// Store and key of a full key.
fn split(full: &[u8]) -> (&str, &[u8]) {
    let at = full.iter().position(|byte| *byte == 0).unwrap_or(full.len());
    let store = std::str::from_utf8(&full[..at]).unwrap_or_default();
    (store, full.get(at + 1..).unwrap_or_default())
}

fn whose(stage: &Stage, pairs: &Pairs, full: &[u8], value: &[u8]) -> Result<Whose, String> {
    let (store, key) = split(full);
    let unknown = || unknown(stage, full);
    match store {
        META => Ok(Whose::Own),
        PROGRESS_STORE => Ok(Whose::Every),
        quarantine::HELD => Ok(Whose::Key(hash_of_key(key))),
        quarantine::QUEUE => quarantine::key_in_queue(key)
            .map(|key| Whose::Key(hash_of_key(key)))
            .ok_or_else(unknown),
        timers::BY_DUE => {
            let due = timers::read(key, value.to_vec()).ok_or_else(unknown)?;
            timer(stage, pairs, &due).map(Whose::Key).ok_or_else(unknown)
        }
        // It goes with the timer that it names.
        timers::BY_NAME => {
            let due = partner(pairs, key, value).ok_or_else(unknown)?;
            timer(stage, pairs, &due).map(Whose::Key).ok_or_else(unknown)
        }
        effects::PENDING | effects::BY_ID | effects::BY_ORDER => Err(format!(
            "`{}` has effects without an outcome (a transaction that was sent, a signature): let \
             them be answered (`semel lag` shows them), then ask again",
            stage.name
        )),
        store => {
            let keeps = |operator: &dyn Operator| operator.stores().iter().any(|s| s.name == store);
            let at = stage.operators.iter().position(|operator| keeps(&**operator));
            let part = Part::Pair { store, key, value };
            let at = at.ok_or_else(unknown)?;
            owner(stage, pairs, at, part).map(Whose::Key).ok_or_else(unknown)
        }
    }
}

fn unknown(stage: &Stage, full: &[u8]) -> String {
    format!(
        "`{}` holds {}, and nothing tells to which record key that belongs: the stage keeps its \
         partitions; for another number give the pipeline another name and let it read its topics \
         anew",
        stage.name,
        named(full)
    )
}

/// The timer that a pair of the store by name tells of.
fn partner(pairs: &Pairs, name: &[u8], at: &[u8]) -> Option<timers::Due> {
    let (operator, rest) = name.split_first()?;
    let (clock, name) = rest.split_first()?;
    let key = [&[*clock][..], at, &[*operator], name].concat();
    let payload = pairs.get(&full_key(timers::BY_DUE, &key))?;
    timers::read(&key, payload.clone())
}

fn timer(stage: &Stage, pairs: &Pairs, due: &timers::Due) -> Option<u32> {
    let part = Part::Timer { key: &due.key, payload: &due.payload };
    owner(stage, pairs, due.operator.into(), part)
}

/// The hash of the key to which a part of an operator's state belongs.
fn owner(stage: &Stage, pairs: &Pairs, at: usize, part: Part<'_>) -> Option<u32> {
    // Behind one that gives records other keys, an operator knows keys that are not the input's.
    if !stage.operators.get(..at)?.iter().all(|before| before.keeps_keys()) {
        return None;
    }
    let operator = stage.operators.get(at)?;
    let told = match operator.owner(part) {
        Owner::Like { store, key } => {
            let value = pairs.get(&full_key(store, &key))?;
            operator.owner(Part::Pair { store, key: &key, value })
        }
        told => told,
    };
    match told {
        Owner::Key(key) => Some(hash_of_key(&key)),
        Owner::Hash(hash) => Some(hash),
        Owner::Like { .. } | Owner::Unknown => None,
    }
}

#[cfg(test)]
mod tests;
