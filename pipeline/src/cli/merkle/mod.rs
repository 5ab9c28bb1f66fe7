//! `semel merkle`: trees of leaf data from files and of a pipeline's epochs, by the profiles of the
//! field.
//!
//! One file per group of subcommands: `mod` what they share, `profiles`, `tree` (root, proof),
//! `check` (verify, explain), `sealed` (seal, sealed), `epochs` (epochs, claim), `bench`, `progress` the
//! bar that a waiting person sees. May not live here: how files and tables are read
//! (`semel::merkle`), trees, proofs and the search (`semel_operators`).

mod bench;
mod check;
mod epochs;
mod profiles;
mod progress;
mod sealed;
mod tree;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use semel::merkle::{Format, Source};
use semel_operators::merkle::{
    explain::Record,
    hash::Hash,
    leaf::text::{unhex, unhex_hash},
    profile::{Profile, by_name},
    proof::Proof,
};
use serde::{Deserialize, Serialize};

use super::{Done, Failure};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the root of a file of leaves, and their number
    Root(tree::RootArgs),
    /// Print the proof of one leaf, or of all, as JSON
    Proof(tree::ProofArgs),
    /// Check a proof against a published root and number of leaves
    Verify(check::VerifyArgs),
    /// Say which rule differs when leaves, proof and root do not agree
    Explain(check::ExplainArgs),
    /// Keep the tree of a file of leaves as a file of its own
    Seal(sealed::SealArgs),
    /// Print proofs from a file that `seal` wrote, or check it
    Sealed(sealed::SealedArgs),
    /// Keep the trees of a pipeline's closed epochs as files, and list them
    Epochs(epochs::EpochsArgs),
    /// Print the proofs of a claim, or of all claims of a claimer, from a pipeline's epochs
    Claim(epochs::ClaimArgs),
    /// Measure building, appending, proving and verifying on this machine
    Bench(bench::Args),
    /// List the profiles, or show one with all its rules
    Profiles(profiles::Args),
}

/// Runs it.
pub(super) fn merkle(args: &Args) -> Done {
    match &args.what {
        What::Root(args) => tree::root(args),
        What::Proof(args) => tree::proof(args),
        What::Verify(args) => check::verify(args),
        What::Explain(args) => check::explain(args),
        What::Seal(args) => sealed::seal(args),
        What::Sealed(args) => sealed::sealed(args),
        What::Epochs(args) => epochs::epochs(args),
        What::Claim(args) => epochs::claim(args),
        What::Bench(args) => bench::bench(args),
        What::Profiles(args) => profiles::profiles(args),
    }
}

/// Which profile.
#[derive(Debug, clap::Args)]
struct ProfileArgs {
    /// A profile that ships (see `semel merkle profiles`), or a TOML file that defines one
    #[arg(long, short)]
    profile: String,
    /// The leaf's fields instead of the profile's own, such as `account:address,amount:uint256`
    #[arg(long, value_name = "NAME:TYPE,…")]
    fields: Option<String>,
}

impl ProfileArgs {
    fn load(&self) -> Result<Profile, Failure> {
        let path = Path::new(&self.profile);
        let profile = if path.extension().is_some_and(|end| end == "toml") {
            let text = std::fs::read_to_string(path).map_err(|why| {
                Failure::Usage(format!("{} cannot be read: {why}", path.display()))
            })?;
            toml::from_str(&text)
                .map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))?
        } else {
            by_name(&self.profile).map_err(Failure::Usage)?
        };
        let Some(fields) = &self.fields else { return Ok(profile) };
        let pair = |field: &'_ str| {
            field.split_once(':').map(|(name, kind)| (name.to_owned(), kind.to_owned())).ok_or_else(
                || {
                    Failure::Usage(format!(
                        "--fields: `{field}` is no NAME:TYPE, such as id:string"
                    ))
                },
            )
        };
        let fields = fields.split(',').map(pair).collect::<Result<Vec<_>, _>>()?;
        let fields: Vec<_> = fields.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        profile.with_fields(&fields).map_err(|why| Failure::Usage(format!("--fields: {why}")))
    }
}

/// Which leaves.
#[derive(Debug, clap::Args)]
struct FileArgs {
    /// The file of leaves; `-` is standard input
    file: PathBuf,
    /// How the file is written, where its name does not tell
    #[arg(long)]
    format: Option<Format>,
}

impl FileArgs {
    fn source(&self) -> Result<Source, Failure> {
        Source::new(&self.file, self.format).map_err(Failure::Usage)
    }
}

/// A proof as `semel merkle proof` prints it.
#[derive(Debug, Serialize, Deserialize)]
struct ProofFile {
    profile: String,
    root: String,
    /// Number of leaves: without it a root does not say what it is a root of.
    count: usize,
    /// The leaf's place in the tree.
    place: usize,
    leaf: String,
    /// Siblings from the leaf's level up.
    proof: Vec<String>,
    /// The leaf's data; a sealed tree has none.
    #[serde(default, skip_serializing_if = "Record::is_empty")]
    record: Record,
    /// Which claim it is of, where it comes from a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<ClaimOf>,
}

/// A claim of a pipeline.
#[derive(Debug, Serialize, Deserialize)]
struct ClaimOf {
    claim_id: String,
    channel: String,
    epoch: u64,
}

impl ProofFile {
    fn new(profile: &Profile, root: &Hash, leaf: &Hash, proof: &Proof, record: Record) -> Self {
        let hex = |hash: &Hash| format!("0x{}", hex::encode(hash));
        Self {
            profile: profile.name.clone(),
            root: profile.show_root(root),
            count: proof.count,
            place: proof.place,
            leaf: hex(leaf),
            proof: proof.siblings.iter().map(hex).collect(),
            record,
            claim: None,
        }
    }
}

fn json(proof: &ProofFile) -> Result<String, Failure> {
    serde_json::to_string(proof).map_err(|why| Failure::Failed(why.to_string()))
}

/// A root or a sibling: hex, or base58 where the profile writes roots so.
fn hash(name: &str, text: &str) -> Result<Hash, Failure> {
    if let Ok(bytes) = bs58::decode(text).into_vec()
        && let Ok(hash) = Hash::try_from(bytes)
        && unhex(text).is_err()
    {
        return Ok(hash);
    }
    unhex_hash(text).map_err(|why| Failure::Usage(format!("{name} `{text}`: {why}")))
}

/// `FIELD=VALUE`.
fn condition(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('=').ok_or_else(|| {
        Failure::Usage(format!("`{text}` is no FIELD=VALUE, such as account=0x5C69…"))
    })
}
