//! Why a proof fails: leaf data, a proof and a root that do not agree, and the rule that differs.
//!
//! Every profile that ships and every variation of one rule ([`variations`]) is tried on the leaf
//! data, in the order: the profile that was meant, its variations, the other profiles (with their
//! own leaves, and over the leaves that were meant), their variations. What explains is said in one
//! sentence; other rules of the same kind that would explain as much are said too, because small
//! trees do not tell all rules apart.
//!
//! Where only the record of the proof is given, what explains is a proof that leads to the root. Where
//! all records are given, it is their tree; a proof that leads to the root without them is said at
//! the end, as a fault of the records.
//!
//! Lives here: the search, a pure function of data. May not live here: how data is read (pipeline).
//! Invariant: a rule is named only if, with it, the data leads to exactly the root that was given.

mod fold;
pub mod variations;

use std::collections::BTreeMap;

use variations::{Variation, variations};

use super::{
    hash::Hash,
    leaf::{Field, FieldType, Value},
    profile::{Hashing, LeafOrder, PROFILES, Profile, rows::Row},
};

/// A row of leaf data: text by the name of its field.
pub type Record = BTreeMap<String, String>;

/// A proof as somebody has it.
#[derive(Clone, Debug)]
pub struct GivenProof {
    /// Of which record, counted from 0.
    pub record: usize,
    /// Siblings, from the leaf's level up.
    pub siblings: Vec<Hash>,
    /// The leaf's place, where it is known.
    pub place: Option<usize>,
    /// The number of leaves, where it is known.
    pub count: Option<usize>,
}

/// What does not agree.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The profile that was meant.
    pub profile: &'a Profile,
    /// All leaves of the tree, or only the one that the proof is of.
    pub records: &'a [Record],
    /// The root.
    pub root: Hash,
    /// The proof, if there is one.
    pub proof: Option<&'a GivenProof>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All agrees by the profile that was meant.
    Agrees,
    /// A rule differs.
    Differs {
        /// Which, in one sentence.
        sentence: String,
        /// Others that lead to the same root.
        others: Vec<String>,
    },
    /// No known rule explains it.
    Unknown {
        /// Profiles and variations that were tried.
        tried: usize,
    },
}

/// What is tried.
#[derive(Clone, Debug)]
struct Candidate {
    profile: Profile,
    /// Words that follow "right for `name`".
    says: String,
    /// Added to every number of the field `index`.
    shift: Shift,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shift {
    None,
    Up,
    Down,
}

/// How much of the data leads to the root.
enum Hit {
    /// The proof, from the leaf.
    Proof,
    /// The tree of all records; with a proof, why that does not.
    Tree(Option<String>),
}

/// Searches. `progress` hears how many candidates were tried, of how many.
#[must_use]
pub fn explain(question: &Question<'_>, progress: &mut dyn FnMut(usize, usize)) -> Answer {
    let groups = groups(question.profile);
    let meant = &groups[0][0];
    let total = groups.iter().map(Vec::len).sum();
    let mut tried = 0;
    for (number, group) in groups.iter().enumerate() {
        let mut found: Vec<String> = Vec::new();
        for candidate in group {
            if let Some(hit) = candidate.tried(question) {
                if number == 0 && matches!(hit, Hit::Proof | Hit::Tree(None)) {
                    return Answer::Agrees;
                }
                found.push(candidate.sentence(&hit));
            }
            tried += 1;
            progress(tried, total);
        }
        found.dedup();
        if !found.is_empty() {
            let sentence = found.remove(0);
            return Answer::Differs { sentence, others: found };
        }
    }
    if question.proof.is_some_and(|proof| meant.leads(question, proof) == Some(true)) {
        let name = &question.profile.name;
        let sentence = format!(
            "the proof is right for `{name}`, and the records are not those of its tree: some are \
             missing, too many or changed"
        );
        return Answer::Differs { sentence, others: Vec::new() };
    }
    Answer::Unknown { tried }
}

/// What is tried, group by group.
fn groups(meant: &Profile) -> Vec<Vec<Candidate>> {
    let plain = |profile: Profile, says: &str| Candidate {
        profile,
        says: says.to_owned(),
        shift: Shift::None,
    };
    let varied = |profile: &Profile| -> Vec<Candidate> {
        let changed = |Variation { profile, says }| plain(profile, &says);
        variations(profile).into_iter().map(changed).collect()
    };
    let mut own = varied(meant);
    if meant.asked().any(|field| field.name == "index") {
        for (shift, word) in [(Shift::Up, "more"), (Shift::Down, "less")] {
            let says = format!(" but for one rule: `index` is one {word} in the leaf than here");
            own.push(Candidate { profile: meant.clone(), says, shift });
        }
    }
    let others = || PROFILES.iter().filter(|other| other.name != meant.name);
    let (mut as_is, mut over, mut far) = (Vec::new(), Vec::new(), Vec::new());
    for other in others() {
        as_is.push(plain(other.clone(), ""));
        let mut leaves = other.clone();
        leaves.leaf = meant.leaf.clone();
        if let LeafOrder::Field(name) = &other.order
            && !meant.asked().any(|field| field.name == *name)
        {
            leaves.order = LeafOrder::Given;
        }
        over.push(plain(leaves.clone(), &format!(" over the leaves of `{}`", meant.name)));
        if other.leaf.hashing != Hashing::Given && meant.leaf.hashing != Hashing::Given {
            leaves.leaf = other.leaf.clone();
            leaves.leaf.fields = meant.leaf.fields.clone();
            over.push(plain(leaves.clone(), &format!(" with the fields of `{}`", meant.name)));
            far.extend(varied(&leaves));
        }
        far.extend(varied(other));
    }
    as_is.extend(over);
    vec![vec![plain(meant.clone(), "")], own, as_is, far]
}

impl Candidate {
    fn sentence(&self, hit: &Hit) -> String {
        let (name, says) = (&self.profile.name, &self.says);
        match hit {
            Hit::Proof => format!("the proof is right for `{name}`{says}"),
            Hit::Tree(None) => format!("the root is right for `{name}`{says}"),
            Hit::Tree(Some(why)) => {
                format!("the root is right for `{name}`{says}, and the proof is not: {why}")
            }
        }
    }

    fn tried(&self, question: &Question<'_>) -> Option<Hit> {
        let alone = question.records.len() == 1;
        if alone && let Some(proof) = question.proof {
            return self.leads(question, proof)?.then_some(Hit::Proof);
        }
        let rows = question.records.iter().map(|record| self.row(record));
        let (tree, rows) = self.profile.tree(rows.collect::<Option<_>>()?).ok()?;
        if tree.root().ok()? != question.root {
            return None;
        }
        let Some(proof) = question.proof else { return Some(Hit::Tree(None)) };
        let row = self.row(question.records.get(proof.record)?)?;
        let right = tree.proof(rows.iter().position(|other| *other == row)?).ok()?.siblings;
        if right == proof.siblings {
            return Some(Hit::Proof);
        }
        let whose = (0..rows.len())
            .find(|i| tree.proof(*i).is_ok_and(|other| other.siblings == proof.siblings));
        Some(Hit::Tree(Some(wrong(&right, &proof.siblings, whose))))
    }

    /// Whether the proof leads from its record to the root, or none without such a leaf.
    fn leads(&self, question: &Question<'_>, proof: &GivenProof) -> Option<bool> {
        let all = question.records.len();
        let row = self.row(question.records.get(proof.record)?)?;
        let leaf = self.profile.leaf(&row).ok()?;
        let count = proof.count.or((all > 1).then_some(all));
        let known = GivenProof { count, ..proof.clone() };
        Some(fold::leads(&self.profile.rules(), &leaf, &known, &question.root))
    }

    /// The values of a record, or none if it has not what the profile asks.
    fn row(&self, record: &Record) -> Option<Row> {
        self.profile.asked().map(|field| self.value(field, record)).collect()
    }

    fn value(&self, field: &Field, record: &Record) -> Option<Value> {
        let text = alias(&field.name, record)?;
        let value = field.parse(text).ok().or_else(|| padded(field, text))?;
        let Value::Uint(number) = value else { return Some(value) };
        let value = match self.shift {
            Shift::Up if field.name == "index" => Value::Uint(number.checked_add(1.into())?),
            Shift::Down if field.name == "index" => {
                let before: u64 = number.to_string().parse().ok()?;
                before.checked_sub(1)?.into()
            }
            _ => value,
        };
        field.check(&value).is_ok().then_some(value)
    }
}

/// What is wrong with a proof in a tree whose root is right.
fn wrong(right: &[Hash], given: &[Hash], whose: Option<usize>) -> String {
    if let Some(other) = whose {
        return format!("it is the proof of leaf {other} (counted from 0)");
    }
    if right.len() != given.len() {
        return format!("it has {} hashes, and this leaf's has {}", given.len(), right.len());
    }
    let at = right.iter().zip(given).position(|(a, b)| a != b).unwrap_or_default();
    let hash = right.get(at).map(hex::encode).unwrap_or_default();
    format!("hash {at} (counted from 0) is another, and {hash} belongs there")
}

/// Names that conventions have for the same thing.
const ALIASES: [&[&str]; 3] = [
    &["claimer", "claimant", "account", "address", "user", "wallet", "recipient", "to"],
    &["amount", "total", "value", "balance", "unlocked", "cumulativeAmount"],
    &["id", "item", "leaf", "user_hash"],
];

fn alias<'a>(name: &str, record: &'a Record) -> Option<&'a String> {
    record.get(name).or_else(|| {
        let group = ALIASES.iter().find(|group| group.contains(&name))?;
        group.iter().find_map(|other| record.get(*other))
    })
}

/// The same key or address as another type's text: base58 for 32 bytes, an address behind zeros.
fn padded(field: &Field, text: &str) -> Option<Value> {
    if field.kind != FieldType::Fixed(32) {
        return None;
    }
    if let Ok(key) = Field::new(&field.name, FieldType::Pubkey).parse(text) {
        return Some(key);
    }
    match Field::new(&field.name, FieldType::Address).parse(text).ok()? {
        Value::Bytes(address) => Some(Value::Bytes([&[0; 12], address.as_slice()].concat())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
