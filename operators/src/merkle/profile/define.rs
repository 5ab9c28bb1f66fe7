//! A user's own profile: what a spec says of it, on top of a profile that ships or from nothing.
//!
//! Invariant: a definition either becomes a profile that [`super::check`] passes, or is refused in a
//! sentence that begins with the key that is wrong.

use serde::Deserialize;

use super::{
    Duplicates, Encoding, Hashing, LeafOrder, LeafRule, Limits, Odd, PROFILES, Profile, RootText,
    Shape, by_name, check,
};
use crate::merkle::{
    hash::{HashFn, Pair, Prefix},
    leaf::Field,
};

/// A profile in TOML or JSON. What is not said is as in `base`; without one, `hash`, `fields` and
/// `odd` must be said, and the rest is: packed fields hashed once without prefixes, sorted pairs,
/// leaves as given, levels, the root as `0x` and hex.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// The profile that ships which it starts from.
    pub base: Option<String>,
    /// `keccak256`, `sha256`.
    pub hash: Option<HashFn>,
    /// `[{ name = "index", type = "u64le" }, …]`.
    pub fields: Option<Vec<Field>>,
    /// `packed`, `abi`.
    pub encoding: Option<Encoding>,
    /// `given`, `once`, `twice`.
    pub hashing: Option<Hashing>,
    /// Before the fields: text, or `0x` and hex.
    pub prefix: Option<Prefix>,
    /// Before the inner hash.
    pub outer_prefix: Option<Prefix>,
    /// `sorted`, `ordered`.
    pub pair: Option<Pair>,
    /// Before a pair.
    pub node_prefix: Option<Prefix>,
    /// `given`, `hash`, `{ field = "index" }`.
    pub order: Option<LeafOrder>,
    /// `keep`, `refuse`, `drop`, `{ merge = "claimant" }`.
    pub duplicates: Option<Duplicates>,
    /// `levels`, `heap`.
    pub shape: Option<Shape>,
    /// `promote`, `duplicate`, `zero`.
    pub odd: Option<Odd>,
    /// Its limits.
    pub limits: Option<Limits>,
    /// `hex`, `0x`, `base58`.
    pub root: Option<RootText>,
}

impl TryFrom<Definition> for Profile {
    type Error = String;

    fn try_from(own: Definition) -> Result<Self, String> {
        if PROFILES.iter().any(|profile| profile.name == own.name) {
            return Err(format!(
                "`name` `{}` is a profile that ships: choose another, so that a record of its \
                 roots cannot be mistaken",
                own.name
            ));
        }
        let base = own.base.as_deref().map(by_name).transpose();
        let base = base.map_err(|why| format!("`base`: {why}"))?;
        let say = |key: &str, values: &str| {
            format!("`{key}` is missing in profile `{}`, which has no `base`: {values}", own.name)
        };
        let mut profile = match base {
            Some(base) => base,
            None => Self {
                name: String::new(),
                hash: own.hash.ok_or_else(|| say("hash", "use keccak256 or sha256"))?,
                leaf: LeafRule {
                    fields: Vec::new(),
                    encoding: Encoding::Packed,
                    hashing: Hashing::Once,
                    prefix: Prefix::NONE,
                    outer_prefix: Prefix::NONE,
                },
                pair: Pair::Sorted,
                node_prefix: Prefix::NONE,
                order: LeafOrder::Given,
                duplicates: Duplicates::Keep,
                shape: Shape::Levels,
                odd: match own.shape {
                    Some(Shape::Heap) => Odd::Promote,
                    _ => own.odd.ok_or_else(|| say("odd", "use promote, duplicate or zero"))?,
                },
                limits: Limits::default(),
                root: RootText::ZeroX,
            },
        };
        if own.base.is_none() && own.fields.is_none() {
            return Err(say("fields", "list the leaf's fields, each with name and type"));
        }
        profile.name = own.name;
        set(&mut profile.hash, own.hash);
        set(&mut profile.leaf.fields, own.fields);
        set(&mut profile.leaf.encoding, own.encoding);
        set(&mut profile.leaf.hashing, own.hashing);
        set(&mut profile.leaf.prefix, own.prefix);
        set(&mut profile.leaf.outer_prefix, own.outer_prefix);
        set(&mut profile.pair, own.pair);
        set(&mut profile.node_prefix, own.node_prefix);
        set(&mut profile.order, own.order);
        set(&mut profile.duplicates, own.duplicates);
        set(&mut profile.shape, own.shape);
        set(&mut profile.odd, own.odd);
        set(&mut profile.limits, own.limits);
        set(&mut profile.root, own.root);
        check::check(&profile)?;
        Ok(profile)
    }
}

fn set<T>(at: &mut T, own: Option<T>) {
    if let Some(own) = own {
        *at = own;
    }
}
