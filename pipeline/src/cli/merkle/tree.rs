//! `semel merkle root` and `semel merkle proof`: the tree of a file.

use semel_operators::merkle::{
    explain::Record,
    profile::{Profile, rows::Row},
    tree::Tree,
};

use super::{
    super::{Done, Failure, output},
    FileArgs, ProfileArgs, ProofFile, condition, json,
    progress::Progress,
};

/// Arguments of `root`.
#[derive(Debug, clap::Args)]
pub(super) struct RootArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    file: FileArgs,
}

/// Arguments of `proof`.
#[derive(Debug, clap::Args)]
pub(super) struct ProofArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    which: Which,
}

/// Which leaves.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The leaf with this number, counted from 0 in the order of the profile's rows
    #[arg(long)]
    number: Option<usize>,
    /// The first leaf with this value in this field
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    condition: Option<String>,
    /// Every leaf, one proof a line
    #[arg(long)]
    all: bool,
}

/// Prints root and count.
pub(super) fn root(args: &RootArgs) -> Done {
    let (profile, tree, _) = build(&args.profile, &args.file)?;
    let published = tree.published().map_err(|why| Failure::Failed(why.to_string()))?;
    output::line(&profile.show_root(&published.root))?;
    output::say(&format!("{} leaves by `{profile}`: publish the number too", published.count));
    Ok(())
}

/// Prints proofs.
pub(super) fn proof(args: &ProofArgs) -> Done {
    let (profile, tree, rows) = build(&args.profile, &args.file)?;
    let at = match (&args.which.condition, args.which.number) {
        (Some(text), _) => find(&profile, &rows, text)?,
        (None, Some(number)) => number,
        (None, None) => {
            let progress = Progress::new("proofs", Some(rows.len()));
            for number in 0..rows.len() {
                output::line(&json(&one(&profile, &tree, &rows, number)?)?)?;
                progress.at(number);
            }
            return Ok(());
        }
    };
    output::line(&json(&one(&profile, &tree, &rows, at)?)?)
}

/// The tree of a file, and its rows as they stand in it.
pub(super) fn build(
    profile: &ProfileArgs,
    file: &FileArgs,
) -> Result<(Profile, Tree, Vec<Row>), Failure> {
    let (profile, source) = (profile.load()?, file.source()?);
    let progress = Progress::new("rows read", None);
    let (tree, rows) =
        source.tree(&profile, &mut |read| progress.at(read)).map_err(Failure::Failed)?;
    Ok((profile, tree, rows))
}

/// The leaf with a value in a field.
fn find(profile: &Profile, rows: &[Row], text: &str) -> Result<usize, Failure> {
    let (name, value) = condition(text)?;
    let (at, field) =
        profile.asked().enumerate().find(|(_, field)| field.name == name).ok_or_else(|| {
            let names: Vec<_> = profile.asked().map(|field| field.name.as_str()).collect();
            Failure::Usage(format!("`{profile}` has no field `{name}`: use {}", names.join(", ")))
        })?;
    let value = field.parse(value).map_err(|why| Failure::Usage(why.to_string()))?;
    rows.iter()
        .position(|row| row[at] == value)
        .ok_or_else(|| Failure::Failed(format!("no leaf has {text}")))
}

fn one(profile: &Profile, tree: &Tree, rows: &[Row], number: usize) -> Result<ProofFile, Failure> {
    let failed = |why: String| Failure::Failed(why);
    let proof = tree.proof(number).map_err(|why| failed(why.to_string()))?;
    let leaf = tree.leaf(number).map_err(|why| failed(why.to_string()))?;
    let root = tree.root().map_err(|why| failed(why.to_string()))?;
    let row = rows.get(number).map_or(&[][..], Vec::as_slice);
    let record: Record = profile
        .asked()
        .zip(row)
        .map(|(field, value)| (field.name.clone(), field.show(value)))
        .collect();
    Ok(ProofFile::new(profile, &root, &leaf, &proof, record))
}
