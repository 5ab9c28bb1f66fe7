//! `semel merkle profiles`: what there is, and every rule of one.

use semel_operators::merkle::profile::{Encoding, Hashing, PROFILES, Profile};
use serde::Serialize;

use super::{
    super::{Done, output},
    ProfileArgs,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show all rules of this one: its name, or a TOML file that defines it
    name: Option<String>,
}

/// Lists or shows.
pub(super) fn profiles(args: &Args) -> Done {
    if let Some(name) = &args.name {
        let profile = ProfileArgs { profile: name.clone(), fields: None }.load()?;
        return show(&profile);
    }
    let rows: Vec<_> = PROFILES
        .iter()
        .map(|profile| vec![profile.name.clone(), word(&profile.hash), leaf(profile)])
        .collect();
    output::table(&["profile", "hash", "leaf"], &rows)
}

/// How a leaf is made, in the notation of documentation.
fn leaf(profile: &Profile) -> String {
    let leaf = &profile.leaf;
    let field =
        |field: &semel_operators::merkle::leaf::Field| format!("{} {}", field.name, field.kind);
    let fields: Vec<_> = leaf.fields.iter().map(field).collect();
    let mut text = match leaf.encoding {
        Encoding::Packed => fields.join(" | "),
        Encoding::Abi => format!("abi({})", fields.join(", ")),
    };
    if !leaf.prefix.is_empty() {
        text = format!("\"{}\" | {text}", leaf.prefix);
    }
    match leaf.hashing {
        Hashing::Given => text,
        Hashing::Once => format!("h({text})"),
        Hashing::Twice if leaf.outer_prefix.is_empty() => format!("h(h({text}))"),
        Hashing::Twice => format!("h({} | h({text}))", leaf.outer_prefix),
    }
}

/// A rule as a profile's definition writes it.
fn word(rule: &impl Serialize) -> String {
    match serde_json::to_value(rule) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(why) => why.to_string(),
    }
}

fn show(profile: &Profile) -> Done {
    let limits = &profile.limits;
    let rows = [
        ("name", profile.name.clone()),
        ("hash", word(&profile.hash)),
        ("leaf", leaf(profile)),
        ("pair", word(&profile.pair)),
        ("node_prefix", profile.node_prefix.to_string()),
        ("order", word(&profile.order)),
        ("duplicates", word(&profile.duplicates)),
        ("shape", word(&profile.shape)),
        ("odd", word(&profile.odd)),
        ("leaves", format!("{} to {}", limits.leaves_min, limits.leaves_max)),
        ("proof_max", limits.proof_max.to_string()),
        ("bytes_max", limits.bytes_max.to_string()),
        ("root", word(&profile.root)),
    ];
    let rows: Vec<_> = rows.into_iter().map(|(rule, value)| vec![rule.to_owned(), value]).collect();
    output::table(&["rule", "value"], &rows)
}
