//! Single-rule variations of a profile: each the profile with one rule changed, and what that says.
//!
//! Lives here: the table of what goes wrong in the field. May not live here: whether a variation
//! explains anything (`mod`). A variation may be a profile that `check` would refuse: what was
//! published need not be sound.

use crate::merkle::{
    hash::{HashFn, Pair, Prefix},
    leaf::{ByteOrder, FieldType},
    profile::{Duplicates, Encoding, Hashing, LeafOrder, Odd, Profile, Shape},
};

/// A profile that differs from another by one rule.
#[derive(Clone, Debug)]
pub struct Variation {
    /// The changed profile, under the name of the one that it comes from.
    pub profile: Profile,
    /// What differs: words that follow "right for `name`".
    pub says: String,
}

/// Widths of numbers that occur in leaves, in bits.
const WIDTHS: [u16; 5] = [16, 32, 64, 128, 256];

/// Every variation of one rule.
#[must_use]
pub fn variations(profile: &Profile) -> Vec<Variation> {
    let mut all = Vec::new();
    order(profile, &mut all);
    duplicates(profile, &mut all);
    tree(profile, &mut all);
    hashing(profile, &mut all);
    prefixes(profile, &mut all);
    numbers(profile, &mut all);
    fields(profile, &mut all);
    all
}

fn but(all: &mut Vec<Variation>, profile: Profile, rule: &str) {
    all.push(Variation { profile, says: format!(" but for one rule: {rule}") });
}

fn with(all: &mut Vec<Variation>, profile: Profile, rule: &str) {
    all.push(Variation { profile, says: format!(" with {rule}") });
}

fn order(profile: &Profile, all: &mut Vec<Variation>) {
    // Neighbours can be dropped only where leaves are sorted.
    let ordered = |order: LeafOrder| Profile {
        duplicates: match &profile.duplicates {
            Duplicates::Drop if order != LeafOrder::Hash => Duplicates::Keep,
            other => other.clone(),
        },
        order,
        ..profile.clone()
    };
    if profile.order != LeafOrder::Given {
        with(all, ordered(LeafOrder::Given), "unsorted leaves");
    }
    if profile.order != LeafOrder::Hash {
        with(all, ordered(LeafOrder::Hash), "leaves sorted by hash");
    }
    for field in profile.asked() {
        let order = LeafOrder::Field(field.name.clone());
        if profile.order != order {
            with(all, ordered(order), &format!("leaves ordered by `{}`", field.name));
        }
    }
}

fn duplicates(profile: &Profile, all: &mut Vec<Variation>) {
    let changed = |duplicates| Profile { duplicates, ..profile.clone() };
    match &profile.duplicates {
        Duplicates::Keep | Duplicates::Refuse if profile.order == LeafOrder::Hash => {
            with(all, changed(Duplicates::Drop), "equal leaves dropped");
        }
        Duplicates::Keep | Duplicates::Refuse => {}
        Duplicates::Drop => with(all, changed(Duplicates::Keep), "equal leaves kept"),
        Duplicates::Merge(field) => {
            let rule = format!("rows of one `{field}` kept apart, not merged");
            with(all, changed(Duplicates::Keep), &rule);
        }
    }
}

const fn odd_word(odd: Odd) -> &'static str {
    match odd {
        Odd::Promote => "promoted",
        Odd::Duplicate => "duplicated",
        Odd::Zero => "paired with zeros",
    }
}

fn tree(profile: &Profile, all: &mut Vec<Variation>) {
    let own = odd_word(profile.odd);
    for odd in [Odd::Promote, Odd::Duplicate, Odd::Zero] {
        if odd != profile.odd && profile.shape == Shape::Levels {
            let rule = format!("odd node was {}, not {own}", odd_word(odd));
            but(all, Profile { odd, ..profile.clone() }, &rule);
        }
    }
    let (pair, rule) = match profile.pair {
        Pair::Sorted => (Pair::Ordered, "a pair was hashed left then right, not sorted"),
        Pair::Ordered => (Pair::Sorted, "a pair was sorted, not hashed left then right"),
    };
    but(all, Profile { pair, ..profile.clone() }, rule);
    let (shape, rule) = match profile.shape {
        Shape::Levels => (Shape::Heap, "leaves were laid into a heap from its end, not in levels"),
        Shape::Heap => (Shape::Levels, "leaves were laid in levels, not into a heap"),
    };
    but(all, Profile { shape, odd: Odd::Promote, ..profile.clone() }, rule);
}

const fn hashing_word(hashing: Hashing) -> &'static str {
    match hashing {
        Hashing::Given => "taken as given",
        Hashing::Once => "hashed once",
        Hashing::Twice => "hashed twice",
    }
}

fn hashing(profile: &Profile, all: &mut Vec<Variation>) {
    let leaf = &profile.leaf;
    let own = hashing_word(leaf.hashing);
    let one_word = leaf.fields.len() == 1 && leaf.fields[0].kind.width() == Some(32);
    for hashing in [Hashing::Given, Hashing::Once, Hashing::Twice] {
        if hashing == leaf.hashing || (hashing == Hashing::Given && !one_word) {
            continue;
        }
        let mut changed = profile.clone();
        changed.leaf.hashing = hashing;
        // The prefix of a hash that is gone stands before the one that is left.
        if hashing != Hashing::Twice && !leaf.outer_prefix.is_empty() {
            changed.leaf.prefix = leaf.outer_prefix;
            changed.leaf.outer_prefix = Prefix::NONE;
        }
        if hashing == Hashing::Given {
            changed.leaf.prefix = Prefix::NONE;
        }
        let expects = hashing_word(hashing).trim_start_matches("hashed ");
        but(all, changed, &format!("leaf is {own}, the root expects {expects}"));
    }
    let (hash, rule) = match profile.hash {
        HashFn::Keccak256 => (HashFn::Sha256, "the hash was sha256, not keccak256"),
        HashFn::Sha256 => (HashFn::Keccak256, "the hash was keccak256, not sha256"),
    };
    but(all, Profile { hash, ..profile.clone() }, rule);
    if leaf.hashing != Hashing::Given {
        let mut changed = profile.clone();
        let (encoding, rule) = match leaf.encoding {
            Encoding::Packed => (Encoding::Abi, "fields were encoded by abi.encode, not packed"),
            Encoding::Abi => (Encoding::Packed, "fields were packed, not encoded by abi.encode"),
        };
        changed.leaf.encoding = encoding;
        but(all, changed, rule);
    }
}

fn prefixes(profile: &Profile, all: &mut Vec<Variation>) {
    let leaf = &profile.leaf;
    let other = |own: Prefix, usual: u8| match own.is_empty() {
        true => (Prefix::byte(usual), format!("prefixed with 0x{usual:02x}, which has none")),
        false => (Prefix::NONE, format!("not prefixed with `{own}`")),
    };
    let (before, rule) = other(leaf.prefix, 0);
    if leaf.hashing != Hashing::Given {
        let mut changed = profile.clone();
        changed.leaf.prefix = before;
        but(all, changed, &format!("leaf data was {rule} here"));
    }
    if leaf.hashing == Hashing::Twice {
        let (outer, rule) = other(leaf.outer_prefix, 0);
        let mut changed = profile.clone();
        changed.leaf.outer_prefix = outer;
        but(all, changed, &format!("the inner hash of a leaf was {rule} here"));
    }
    let (node, rule) = other(profile.node_prefix, 1);
    let changed = Profile { node_prefix: node, ..profile.clone() };
    but(all, changed, &format!("a pair was {rule} here"));
    // Both at once are one rule: whether leaves and nodes can be told apart (RFC 6962).
    let bare = leaf.prefix.is_empty() && leaf.outer_prefix.is_empty();
    if bare == profile.node_prefix.is_empty() && leaf.hashing != Hashing::Given {
        let mut changed = profile.clone();
        changed.node_prefix = node;
        let rule = if bare {
            changed.leaf.prefix = Prefix::byte(0);
            "leaves and nodes were told apart by 0x00 and 0x01 here"
        } else {
            changed.leaf.prefix = Prefix::NONE;
            changed.leaf.outer_prefix = Prefix::NONE;
            "leaves and nodes were not told apart by prefixes"
        };
        but(all, changed, rule);
    }
}

fn numbers(profile: &Profile, all: &mut Vec<Variation>) {
    if profile.leaf.encoding == Encoding::Abi {
        return;
    }
    for (at, field) in profile.leaf.fields.iter().enumerate() {
        let changed = |kind| {
            let mut changed = profile.clone();
            changed.leaf.fields[at].kind = kind;
            changed
        };
        match field.kind {
            FieldType::Uint { bits, order } => {
                let (other, word) = match order {
                    ByteOrder::Little => (ByteOrder::Big, "big"),
                    ByteOrder::Big => (ByteOrder::Little, "little"),
                };
                if bits > 8 {
                    let rule = format!("`{}` is {word}-endian here", field.name);
                    but(all, changed(FieldType::Uint { bits, order: other }), &rule);
                }
                for width in WIDTHS.into_iter().filter(|width| *width != bits) {
                    let rule = format!("`{}` has {width} bits here, not {bits}", field.name);
                    but(all, changed(FieldType::Uint { bits: width, order }), &rule);
                }
            }
            FieldType::Address => {
                let rule = format!("`{}` is padded to 32 bytes here", field.name);
                but(all, changed(FieldType::Fixed(32)), &rule);
            }
            _ => {}
        }
    }
}

fn fields(profile: &Profile, all: &mut Vec<Variation>) {
    let own = &profile.leaf.fields;
    if own.len() < 2 {
        return;
    }
    for at in 0..own.len() {
        let mut changed = profile.clone();
        let gone = changed.leaf.fields.remove(at);
        but(all, changed, &format!("`{}` is not in the leaf here", gone.name));
        for other in at + 1..own.len() {
            let mut changed = profile.clone();
            changed.leaf.fields.swap(at, other);
            let rule = format!("`{}` and `{}` are swapped here", own[at].name, own[other].name);
            but(all, changed, &rule);
        }
    }
}
