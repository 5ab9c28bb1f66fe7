//! `semel state`: what a stage knows, key by key.

use std::path::PathBuf;

use clap::Subcommand;
use semel::admin::{
    Answer, Ask, show,
    state::{Keys, State, StateRow},
};
use semel_schemas::solana::Base64;

use super::{
    Done, Failure, boot,
    door::{self, Door},
    output,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The value of one key
    Get {
        /// The spec, a TOML file
        spec: PathBuf,
        /// The stage
        stage: String,
        /// The store
        store: String,
        /// The key: text, or 0x and hex
        key: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Keys and values
    List {
        /// The spec, a TOML file
        spec: PathBuf,
        /// The stage
        stage: String,
        /// Only this store; the engine's own begin with _
        store: Option<String>,
        /// Only keys that begin so: text, or 0x and hex
        #[arg(long, default_value = "")]
        prefix: String,
        /// Only this partition
        #[arg(long, short)]
        partition: Option<u32>,
        /// Only so many keys
        #[arg(long, short = 'n')]
        limit: Option<u64>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// A key as a person writes it.
fn bytes(text: &str) -> Result<Base64, Failure> {
    match text.strip_prefix("0x") {
        Some(digits) => hex::decode(digits).map(Base64).map_err(|error| {
            Failure::Usage(format!(
                "`{text}` is no key: after 0x stand pairs of hex digits ({error})"
            ))
        }),
        None => Ok(Base64(text.as_bytes().to_vec())),
    }
}

/// Shows it.
pub(super) fn state(args: &Args) -> Done {
    let (path, ask, json) = match &args.what {
        What::Get { spec, stage, store, key, json } => {
            let keys = Keys::One(bytes(key)?);
            let (stage, store) = (stage.clone(), Some(store.clone()));
            (spec, State { stage, store, keys, partition: None, limit: None }, *json)
        }
        What::List { spec, stage, store, prefix, partition, limit, json } => {
            let keys = Keys::Prefix(bytes(prefix)?);
            let (stage, store) = (stage.clone(), store.clone());
            (spec, State { stage, store, keys, partition: *partition, limit: *limit }, *json)
        }
    };
    let one = matches!(args.what, What::Get { .. });
    let (spec, plan) = boot::load(path, &boot::environment)?;
    let mut found = false;
    Door::open(&spec, plan)?.ask(Ask::State(ask), &mut |answer| match answer {
        Answer::State(row) => {
            found = true;
            print(&row, json)
        }
        other => Err(door::unexpected(&other)),
    })?;
    if one && !found {
        return Err(Failure::Failed("there is no such key".to_owned()));
    }
    Ok(())
}

fn print(row: &StateRow, json: bool) -> Done {
    if json {
        return output::json(&serde_json::json!({
            "partition": row.partition, "store": row.store,
            "key": show::bytes(&row.key.0), "value": show::value(&row.value.0),
        }));
    }
    let (key, value) = (show::bytes(&row.key.0), show::bytes(&row.value.0));
    output::line(&format!("{}  {}  {key}  {value}", row.partition, show::plain(&row.store)))
}
