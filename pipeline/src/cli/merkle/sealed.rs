//! `semel merkle seal` and `semel merkle sealed`: a tree kept as a file, and proofs read off it.

use std::path::PathBuf;

use semel::merkle::sealed::{Levels, write};
use semel_operators::merkle::{
    explain::Record,
    profile::{Profile, by_name},
    sealed::Sealed,
};

use super::{
    super::{Done, Failure, output},
    FileArgs, ProfileArgs, ProofFile, json,
    progress::Progress,
    tree::build,
};

/// Arguments of `seal`.
#[derive(Debug, clap::Args)]
pub(super) struct SealArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    file: FileArgs,
    /// The file to write, which must not exist yet
    #[arg(long)]
    to: PathBuf,
}

/// Arguments of `sealed`.
#[derive(Debug, clap::Args)]
pub(super) struct SealedArgs {
    /// The file that `semel merkle seal` wrote
    levels: PathBuf,
    /// A TOML file that defines the profile, where it is not one that ships
    #[arg(long, short)]
    profile: Option<String>,
    #[command(flatten)]
    which: Which,
}

/// What is asked of a sealed tree.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The proof of the leaf with this number, counted from 0 in the order of the profile's rows
    #[arg(long)]
    number: Option<usize>,
    /// The proof of every leaf, one a line
    #[arg(long)]
    all: bool,
    /// Whether the whole file is as it was written
    #[arg(long)]
    check: bool,
}

/// Builds and seals.
pub(super) fn seal(args: &SealArgs) -> Done {
    let (profile, tree, _) = build(&args.profile, &args.file)?;
    let published = tree.published().map_err(|why| Failure::Failed(why.to_string()))?;
    write(&args.to, &profile, &tree).map_err(Failure::Failed)?;
    output::line(&profile.show_root(&published.root))?;
    output::say(&format!(
        "{} leaves by `{profile}`, sealed to {}",
        published.count,
        args.to.display()
    ));
    Ok(())
}

/// Reads proofs off a file.
pub(super) fn sealed(args: &SealedArgs) -> Done {
    let levels = Levels::open(&args.levels).map_err(Failure::Usage)?;
    let profile = match &args.profile {
        Some(name) => ProfileArgs { profile: name.clone(), fields: None }.load()?,
        None => {
            let name = levels.profile_name().map_err(Failure::Failed)?;
            by_name(&name).map_err(|why| Failure::Usage(format!("{why} (--profile FILE.toml)")))?
        }
    };
    let tree = levels.tree(&profile).map_err(Failure::Failed)?;
    match args.which.number {
        Some(number) => output::line(&json(&one(&profile, &tree, number)?)?),
        None if args.which.all => {
            let progress = Progress::new("proofs", Some(tree.len()));
            for number in 0..tree.len() {
                output::line(&json(&one(&profile, &tree, number)?)?)?;
                progress.at(number);
            }
            Ok(())
        }
        None => {
            let path = args.levels.display();
            tree.check().map_err(|why| Failure::Failed(format!("{path}: {why}")))?;
            output::line(&profile.show_root(&tree.published().root))?;
            output::say(&format!(
                "{} leaves by `{profile}`: all is as written",
                tree.published().count
            ));
            Ok(())
        }
    }
}

fn one(profile: &Profile, tree: &Sealed<'_>, number: usize) -> Result<ProofFile, Failure> {
    let proof = tree.proof(number).map_err(|why| Failure::Failed(why.to_string()))?;
    let leaf = tree.leaf(number).map_err(|why| Failure::Failed(why.to_string()))?;
    let root = tree.published().root;
    Ok(ProofFile::new(profile, &root, &leaf, &proof, Record::new()))
}
