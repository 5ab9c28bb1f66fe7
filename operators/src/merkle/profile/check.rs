//! What no profile may be: rules that contradict each other, and leaves that can be forged.
//!
//! Every sentence begins with the key that is wrong, so that a spec's reader can be shown its line.

use super::{Duplicates, Encoding, Hashing, LeafOrder, Odd, Profile, Shape};
use crate::merkle::leaf::{ByteOrder, FieldType};

/// Most characters of a profile's name: it stands in records and file headers.
pub const NAME_MAX: usize = 32;

/// Whether the profile can be used.
///
/// # Errors
/// One sentence that begins with the key that is wrong.
pub fn check(profile: &Profile) -> Result<(), String> {
    name(profile)?;
    fields(profile)?;
    hashing(profile)?;
    ambiguity(profile)?;
    references(profile)?;
    limits(profile)
}

fn name(profile: &Profile) -> Result<(), String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let name = &profile.name;
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(good) {
        return Err(format!(
            "`name` `{name}` is no profile's name: use 1 to {NAME_MAX} of a-z, 0-9, - and _"
        ));
    }
    Ok(())
}

fn fields(profile: &Profile) -> Result<(), String> {
    let fields = &profile.leaf.fields;
    if fields.is_empty() {
        return Err("`fields` is empty: a leaf needs a field".to_owned());
    }
    for (at, field) in fields.iter().enumerate() {
        if field.name.is_empty() || fields[..at].iter().any(|other| other.name == field.name) {
            return Err(format!(
                "`fields` has `{}` twice or without a name: give each its own",
                field.name
            ));
        }
        if let Some(text) = &field.value {
            field.parse(text).map_err(|why| format!("`value` of {why}"))?;
        }
        let little = matches!(field.kind, FieldType::Uint { bits: 9.., order: ByteOrder::Little });
        if profile.leaf.encoding == Encoding::Abi && (little || field.kind == FieldType::Pubkey) {
            return Err(format!(
                "`encoding` `abi` knows no `{}`, which field `{}` is: use uint256 or bytes32",
                field.kind, field.name
            ));
        }
    }
    if profile.asked().next().is_none() {
        return Err("`fields` all have a `value`, so that every leaf would be the same".to_owned());
    }
    Ok(())
}

fn hashing(profile: &Profile) -> Result<(), String> {
    let leaf = &profile.leaf;
    match leaf.hashing {
        Hashing::Given if !leaf.prefix.is_empty() => {
            Err("`prefix` needs a hash, and `hashing` is `given`: drop one".to_owned())
        }
        Hashing::Given
            if leaf.fields.len() != 1
                || leaf.fields[0].kind.width() != Some(32)
                || leaf.fields[0].value.is_some() =>
        {
            Err("`hashing` `given` needs exactly one field, of type bytes32".to_owned())
        }
        Hashing::Given | Hashing::Once if !leaf.outer_prefix.is_empty() => {
            Err("`outer_prefix` stands before an inner hash: it needs `hashing` `twice`".to_owned())
        }
        _ => Ok(()),
    }
}

/// No two rows may have the same bytes, and no pair of nodes may pass for a leaf's bytes.
fn ambiguity(profile: &Profile) -> Result<(), String> {
    let leaf = &profile.leaf;
    if leaf.encoding == Encoding::Abi {
        return Ok(());
    }
    let open: Vec<_> = profile.asked().filter(|field| field.kind.width().is_none()).collect();
    if let [first, second, ..] = open[..] {
        return Err(format!(
            "`fields` `{}` and `{}` are both of variable length, so that two rows can have the \
             same bytes: use `encoding` `abi`, or a fixed width",
            first.name, second.name
        ));
    }
    let width: Option<usize> = leaf
        .fields
        .iter()
        .map(|field| match &field.value {
            Some(text) => field.parse(text).ok().map(|value| {
                let mut bytes = Vec::new();
                field.pack(&value, &mut bytes);
                bytes.len()
            }),
            None => field.kind.width(),
        })
        .sum();
    let same_prefix = leaf.prefix == profile.node_prefix;
    if leaf.hashing == Hashing::Once && same_prefix && width == Some(64) {
        return Err(
            "`hashing` `once` of 64 bytes, hashed as a pair of nodes is, lets a pair pass for a \
             leaf: use `twice`, or a `prefix`"
                .to_owned(),
        );
    }
    Ok(())
}

fn references(profile: &Profile) -> Result<(), String> {
    let names = || profile.asked().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
    if let LeafOrder::Field(field) = &profile.order
        && !profile.asked().any(|own| own.name == *field)
    {
        return Err(format!("`order` names field `{field}`: a row has {}", names()));
    }
    if let Duplicates::Merge(key) = &profile.duplicates {
        if !profile.asked().any(|own| own.name == *key) {
            return Err(format!("`duplicates` names field `{key}`: a row has {}", names()));
        }
        let unsummable = profile
            .asked()
            .find(|own| own.name != *key && !matches!(own.kind, FieldType::Uint { .. }));
        if let Some(field) = unsummable {
            return Err(format!(
                "`duplicates` `merge` adds the other fields, and `{}` is no number",
                field.name
            ));
        }
    }
    if profile.duplicates == Duplicates::Drop && profile.order != LeafOrder::Hash {
        return Err("`duplicates` `drop` removes neighbours, so it needs `order` `hash`".to_owned());
    }
    if profile.shape == Shape::Heap && profile.odd != Odd::Promote {
        return Err("`odd` means nothing in a `heap`, which has no odd node: drop it".to_owned());
    }
    Ok(())
}

fn limits(profile: &Profile) -> Result<(), String> {
    let limits = &profile.limits;
    if limits.leaves_min == 0 || limits.leaves_min > limits.leaves_max {
        return Err(format!(
            "`leaves_min` is {}, but must be from 1 to `leaves_max`, which is {}",
            limits.leaves_min, limits.leaves_max
        ));
    }
    if limits.proof_max > 32 {
        return Err(format!(
            "`proof_max` is {}, but no tree of 2^32 leaves needs more than 32",
            limits.proof_max
        ));
    }
    let reach = 1_u64 << limits.proof_max;
    if u64::from(limits.leaves_max) > reach {
        return Err(format!(
            "`leaves_max` is {}, but proofs of `proof_max` {} reach {reach} leaves",
            limits.leaves_max, limits.proof_max
        ));
    }
    Ok(())
}
