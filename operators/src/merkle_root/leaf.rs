//! A claim as a leaf: which part of a claim each field of a profile is.
//!
//! Invariant: a profile that asks for what no claim has is refused before the first claim.

use semel_schemas::{attention, claim::Claim, time::Epoch};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::merkle::{
    hash::Hash,
    leaf::{Field, FieldError, FieldType, Value},
    profile::{Duplicates, LeafOrder, Profile, by_name, rows::Row},
};

/// Part of a claim, or of the batch that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    User,
    Index,
    Amount,
    Id,
    Channel,
    Subject,
    Epoch,
}

/// Names of fields, each with the part that it is.
const PARTS: [(&str, Part); 11] = [
    ("claimer", Part::User),
    ("claimant", Part::User),
    ("user", Part::User),
    ("wallet", Part::User),
    ("index", Part::Index),
    ("amount", Part::Amount),
    ("total", Part::Amount),
    ("id", Part::Id),
    ("channel", Part::Channel),
    ("subject", Part::Subject),
    ("epoch", Part::Epoch),
];

/// Claims → leaves by one profile.
#[derive(Clone, Debug)]
pub struct ClaimLeaf {
    profile: Profile,
    parts: Vec<Part>,
}

impl ClaimLeaf {
    /// Matches the profile's fields to the parts of a claim, by name.
    ///
    /// # Errors
    /// One sentence: a field that no claim has, or a rule under which a claim has no leaf of its own.
    pub fn new(profile: Profile) -> Result<Self, String> {
        let of = |why: String| format!("`profile` `{}` cannot be used for claims: {why}", profile);
        let parts = profile.asked().map(part).collect::<Result<Vec<_>, _>>().map_err(&of)?;
        if let LeafOrder::Field(field) = &profile.order
            && field != "index"
        {
            let why = format!("their leaves stand by index, and `order` is by field `{field}`");
            return Err(of(why));
        }
        if let Duplicates::Merge(_) = profile.duplicates {
            let why = "`duplicates` `merge` would leave some without a leaf of their own";
            return Err(of(why.to_owned()));
        }
        Ok(Self { profile, parts })
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The leaf of `claim`, which is the `index`-th of its batch.
    ///
    /// # Errors
    /// The field into which the claim's part does not fit.
    pub fn leaf(&self, claim: &Claim, epoch: Epoch, index: u32) -> Result<Hash, FieldError> {
        self.profile.leaf(&self.row(claim, epoch, index))
    }

    /// The values of that leaf: those of [`Profile::asked`], in order.
    #[must_use]
    pub fn row(&self, claim: &Claim, epoch: Epoch, index: u32) -> Row {
        let value = |part: &Part| match part {
            Part::User => Value::from(&claim.user.0[..]),
            Part::Index => Value::from(u64::from(index)),
            Part::Amount => Value::from(claim.amount.0),
            Part::Id => Value::from(claim.id.as_str()),
            Part::Channel => Value::from(claim.channel.as_str()),
            Part::Subject => Value::from(&attention::channel_key(&claim.channel)[..]),
            Part::Epoch => Value::from(epoch.0),
        };
        self.parts.iter().map(value).collect()
    }
}

fn part(field: &Field) -> Result<Part, String> {
    let Some((_, part)) = PARTS.iter().find(|(name, _)| *name == field.name) else {
        let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "no claim has a field `{}`: give it a `value`, or use {}",
            field.name,
            names.join(", ")
        ));
    };
    let fits = match (part, field.kind) {
        (Part::User, kind) => kind == FieldType::Pubkey || kind == FieldType::Fixed(32),
        (Part::Subject, kind) => kind == FieldType::Fixed(32),
        (Part::Index, FieldType::Uint { bits, .. }) => bits >= 32,
        (Part::Amount | Part::Epoch, FieldType::Uint { bits, .. }) => bits >= 64,
        (Part::Id | Part::Channel, kind) => kind == FieldType::Text,
        _ => false,
    };
    if !fits {
        let need = match part {
            Part::User => "pubkey or bytes32",
            Part::Subject => "bytes32",
            Part::Index => "a number of at least 32 bits",
            Part::Amount | Part::Epoch => "a number of at least 64 bits",
            Part::Id | Part::Channel => "string",
        };
        return Err(format!("field `{}` is `{}` and must be {need}", field.name, field.kind));
    }
    Ok(*part)
}

/// Reads a profile from a setting: the name of one that ships, or a table that defines another.
///
/// # Errors
/// A sentence that begins with the key that is wrong.
pub(super) fn profile<'de, D: Deserializer<'de>>(from: D) -> Result<Profile, D::Error> {
    struct NameOrTable;
    impl<'de> Visitor<'de> for NameOrTable {
        type Value = Profile;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the name of a Merkle profile, or a table that defines one")
        }
        fn visit_str<E: Error>(self, name: &str) -> Result<Profile, E> {
            by_name(name).map_err(|why| E::custom(format!("`profile`: {why}")))
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Profile, A::Error> {
            Profile::deserialize(MapAccessDeserializer::new(map))
        }
    }
    from.deserialize_any(NameOrTable)
}
