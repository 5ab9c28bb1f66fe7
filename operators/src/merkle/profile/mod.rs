//! Profiles: conventions of Merkle trees in the field, as data.
//!
//! `mod` what a convention consists of, and a leaf by it · [`builtin`] the ones that ship ·
//! [`define`] a user's own, from a spec · [`check`] what no profile may be · [`rows`] rows of leaf
//! data, arranged and hashed. May not live here: how levels are computed (`tree`).
//!
//! A profile that duplicates odd nodes gives `[a,b,c]` and `[a,b,c,c]` the same root: whoever
//! publishes such a root publishes the leaf count with it.

pub mod builtin;
pub mod check;
pub mod define;
pub mod rows;

use std::fmt;

pub use builtin::{PROFILES, by_name};
use serde::{Deserialize, Serialize};

use super::{
    hash::{Hash, HashFn, NodeRule, Pair, Prefix},
    leaf::{Field, FieldError, Value, abi_encode},
};

/// How a leaf's fields become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// One behind the other.
    Packed,
    /// Solidity's `abi.encode`.
    Abi,
}

/// How often a leaf's bytes are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hashing {
    /// Never: its one field is the leaf.
    Given,
    /// `hash(prefix | bytes)`.
    Once,
    /// `hash(outer_prefix | hash(prefix | bytes))`.
    Twice,
}

/// How a row becomes a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRule {
    /// The fields, in order.
    pub fields: Vec<Field>,
    /// How they become bytes.
    pub encoding: Encoding,
    /// How often these are hashed.
    pub hashing: Hashing,
    /// Before the fields.
    pub prefix: Prefix,
    /// Before the inner hash, where there is one.
    pub outer_prefix: Prefix,
}

/// In what order leaves stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeafOrder {
    /// As they come.
    Given,
    /// By hash, bytewise ascending; equal ones as they come.
    Hash,
    /// By this field, ascending; equal ones as they come.
    Field(String),
}

/// What becomes of leaves that are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// They stay.
    Keep,
    /// They are an error.
    Refuse,
    /// One of those that stand side by side stays.
    Drop,
    /// Rows that have this field in common become one, whose other fields are the sums, where the
    /// first of them stood.
    Merge(String),
}

/// What becomes of the last node of a level of odd width (above one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Odd {
    /// It moves up as it is.
    Promote,
    /// It is paired with itself.
    Duplicate,
    /// It is paired with 32 zero bytes.
    Zero,
}

/// How nodes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Level upon level.
    Levels,
    /// A complete heap of `2n - 1` nodes, leaves laid from the end: no node is ever odd.
    Heap,
}

/// How a root is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootText {
    /// 64 lower-case hex digits.
    Hex,
    /// The same behind `0x`.
    #[serde(rename = "0x")]
    ZeroX,
    /// Base58.
    Base58,
}

/// What a tree of this profile may not go beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Fewest leaves.
    pub leaves_min: u32,
    /// Most leaves, after duplicates are gone.
    pub leaves_max: u32,
    /// Most hashes of a proof.
    pub proof_max: u8,
    /// Most bytes of a field of variable length (an id, a channel's name).
    pub bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { leaves_min: 1, leaves_max: u32::MAX, proof_max: 32, bytes_max: 65_536 }
    }
}

/// One convention.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "define::Definition")]
pub struct Profile {
    /// Its name in settings and records.
    pub name: String,
    /// Hash function of leaves and nodes.
    pub hash: HashFn,
    /// How a row becomes a leaf.
    pub leaf: LeafRule,
    /// Which node of a pair is hashed first.
    pub pair: Pair,
    /// Before a pair.
    pub node_prefix: Prefix,
    /// In what order leaves stand.
    pub order: LeafOrder,
    /// What becomes of equal ones.
    pub duplicates: Duplicates,
    /// How nodes are laid out.
    pub shape: Shape,
    /// What becomes of an odd node; a heap has none.
    pub odd: Odd,
    /// Its limits.
    pub limits: Limits,
    /// How a root is written.
    pub root: RootText,
}

/// In what order leaf hashes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashOrder {
    /// As they come.
    Given,
    /// Bytewise ascending; equal ones as they come.
    Sorted,
}

/// What becomes of leaf hashes that are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equal {
    /// They stay.
    Keep,
    /// They are an error.
    Refuse,
    /// One of those that stand side by side stays.
    Drop,
}

/// The part of a profile that a tree of given leaf hashes needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How a pair is hashed.
    pub node: NodeRule,
    /// In what order leaves stand.
    pub order: HashOrder,
    /// What becomes of equal ones.
    pub equal: Equal,
    /// How nodes are laid out.
    pub shape: Shape,
    /// What becomes of an odd node.
    pub odd: Odd,
    /// Its limits.
    pub limits: Limits,
}

impl Profile {
    /// The rules for a tree of its leaf hashes. Leaves by a field are ordered before they are
    /// hashed, and rows are merged before, see [`rows`].
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            node: NodeRule { hash: self.hash, pair: self.pair, prefix: self.node_prefix },
            order: match self.order {
                LeafOrder::Hash => HashOrder::Sorted,
                LeafOrder::Given | LeafOrder::Field(_) => HashOrder::Given,
            },
            equal: match self.duplicates {
                Duplicates::Refuse => Equal::Refuse,
                Duplicates::Drop => Equal::Drop,
                Duplicates::Keep | Duplicates::Merge(_) => Equal::Keep,
            },
            shape: self.shape,
            odd: self.odd,
            limits: self.limits,
        }
    }

    /// The fields that a row brings, in order: those without a value of their own.
    pub fn asked(&self) -> impl Iterator<Item = &Field> {
        self.leaf.fields.iter().filter(|field| field.value.is_none())
    }

    /// The bytes of the leaf with these values, before any hashing, prefix included. `values` are
    /// those of [`Profile::asked`], in order.
    ///
    /// # Errors
    /// The field that is missing, superfluous, or has a value that does not fit.
    pub fn encode(&self, values: &[Value]) -> Result<Vec<u8>, FieldError> {
        let mut given = values.iter();
        let mut all = Vec::with_capacity(self.leaf.fields.len());
        for field in &self.leaf.fields {
            let value = match &field.value {
                Some(text) => field.parse(text)?,
                None => {
                    let value = given
                        .next()
                        .ok_or_else(|| field.error("it is missing, and the profile needs it"))?;
                    self.check_value(field, value)?;
                    value.clone()
                }
            };
            all.push(value);
        }
        if given.next().is_some() {
            return Err(FieldError {
                field: format!("#{}", all.len() + 1),
                why: format!("`{}` has no such field", self.name),
            });
        }
        let mut bytes = self.leaf.prefix.as_bytes().to_vec();
        match self.leaf.encoding {
            Encoding::Packed => {
                for (field, value) in self.leaf.fields.iter().zip(&all) {
                    field.pack(value, &mut bytes);
                }
            }
            Encoding::Abi => abi_encode(self.leaf.fields.iter().zip(&all), &mut bytes),
        }
        Ok(bytes)
    }

    /// Whether `value` fits the field and the profile's limits.
    fn check_value(&self, field: &Field, value: &Value) -> Result<(), FieldError> {
        field.check(value)?;
        let length = match value {
            Value::Uint(_) => 0,
            Value::Bytes(bytes) => bytes.len(),
            Value::Text(text) => text.len(),
        };
        if field.kind.width().is_none() && length > self.limits.bytes_max as usize {
            return Err(field.error(format!(
                "it has {length} bytes, and `{}` takes at most {}",
                self.name, self.limits.bytes_max
            )));
        }
        Ok(())
    }

    /// The leaf with these values.
    ///
    /// # Errors
    /// As [`Profile::encode`].
    pub fn leaf(&self, values: &[Value]) -> Result<Hash, FieldError> {
        let bytes = self.encode(values)?;
        let once = || self.hash.of(&[&bytes]);
        Ok(match self.leaf.hashing {
            Hashing::Once => once(),
            Hashing::Twice => self.hash.of(&[self.leaf.outer_prefix.as_bytes(), &once()]),
            // `check` sees to it that such a profile has one field of 32 bytes.
            Hashing::Given => bytes.try_into().map_err(|bytes: Vec<u8>| FieldError {
                field: self.leaf.fields.first().map(|f| f.name.clone()).unwrap_or_default(),
                why: format!("{} bytes came, and a leaf has 32", bytes.len()),
            })?,
        })
    }

    /// The root as this convention writes it.
    #[must_use]
    pub fn show_root(&self, root: &Hash) -> String {
        match self.root {
            RootText::Hex => hex::encode(root),
            RootText::ZeroX => format!("0x{}", hex::encode(root)),
            RootText::Base58 => bs58::encode(root).into_string(),
        }
    }

    /// The same profile with other fields, for conventions that leave them to the user
    /// (`openzeppelin-standard`, `murky`): pairs of name and type.
    ///
    /// # Errors
    /// A sentence, as for any wrong profile.
    pub fn with_fields(&self, fields: &[(&str, &str)]) -> Result<Self, String> {
        let mut other = self.clone();
        other.leaf.fields = fields
            .iter()
            .map(|(name, kind)| Ok(Field::new(name, (*kind).to_owned().try_into()?)))
            .collect::<Result<_, String>>()?;
        check::check(&other)?;
        Ok(other)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests;
