//! `semel merkle verify` and `semel merkle explain`: a proof, and why it fails.

use std::path::{Path, PathBuf};

use semel::merkle::{Source, row};
use semel_operators::merkle::{
    explain::{self, Answer, GivenProof, Question, Record},
    proof::{Proof, Published, verify as check},
};

use super::{
    super::{Done, Failure, output},
    FileArgs, ProfileArgs, ProofFile, condition, hash,
    progress::Progress,
};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    /// The published root
    #[arg(long)]
    root: String,
    /// The published number of leaves
    #[arg(long)]
    count: usize,
    /// The proof, as `semel merkle proof` prints it: its own root is not looked at
    proof: PathBuf,
}

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    file: FileArgs,
    /// The root that was published
    #[arg(long)]
    root: String,
    /// The proof, as `semel merkle proof` prints it, or a JSON list of hashes
    #[arg(long)]
    proof: Option<PathBuf>,
    /// The leaf that the proof is of, by a value; without it the proof's own record, or the first
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    condition: Option<String>,
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|why| Failure::Usage(format!("{} cannot be read: {why}", path.display())))
}

fn siblings(path: &Path, hashes: &[String]) -> Result<Vec<[u8; 32]>, Failure> {
    let path = path.display();
    let one = |(at, text): (usize, &String)| {
        hash(&format!("{path}, field `proof`, hash {at} (counted from 0),"), text)
    };
    hashes.iter().enumerate().map(one).collect()
}

/// Checks a proof.
pub(super) fn verify(args: &VerifyArgs) -> Done {
    let profile = args.profile.load()?;
    let text = read(&args.proof)?;
    let given: ProofFile = serde_json::from_str(&text)
        .map_err(|why| Failure::Usage(format!("{}: {why}", args.proof.display())))?;
    let failed = |why: String| Failure::Failed(format!("{}: {why}", args.proof.display()));
    let leaf = row(&profile, &given.record)
        .and_then(|row| profile.leaf(&row).map_err(|why| why.to_string()))
        .map_err(failed)?;
    let siblings = siblings(&args.proof, &given.proof)?;
    let proof = Proof { place: given.place, count: given.count, siblings };
    let published = Published { root: hash("root", &args.root)?, count: args.count };
    check(&profile.rules(), &published, &leaf, &proof)
        .map_err(|why| failed(format!("{why}; `semel merkle explain` tells which rule differs")))?;
    output::line("the proof is right")
}

/// Says which rule differs.
pub(super) fn explain(args: &ExplainArgs) -> Done {
    let profile = args.profile.load()?;
    let source = args.file.source()?;
    let records = source.records().map_err(Failure::Failed)?;
    let root = hash("root", &args.root)?;
    let proof = args.proof.as_ref().map(|path| given(path, args, &source, &records)).transpose()?;
    let question = Question { profile: &profile, records: &records, root, proof: proof.as_ref() };
    let mut bar: Option<Progress> = None;
    let answer = explain::explain(&question, &mut |tried, all| {
        bar.get_or_insert_with(|| Progress::new("rules tried", Some(all))).at(tried);
    });
    drop(bar);
    match answer {
        Answer::Agrees => output::line(&format!("all agrees: it is right for `{profile}`")),
        Answer::Differs { sentence, others } => {
            output::line(&sentence)?;
            others.iter().try_for_each(|other| {
                output::say(&format!("or {other}"));
                Ok(())
            })
        }
        Answer::Unknown { tried } => Err(Failure::Failed(format!(
            "no known rule explains it: {tried} profiles and variations of one rule were tried, so \
             look for other data (a leaf that is missing, an amount in other units) or two rules"
        ))),
    }
}

/// The proof of a file, and which record it is of.
fn given(
    path: &Path,
    args: &ExplainArgs,
    source: &Source,
    records: &[Record],
) -> Result<GivenProof, Failure> {
    let text = read(path)?;
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let (hashes, own): (Vec<String>, Option<Record>) = if text.trim_start().starts_with('[') {
        (serde_json::from_str(&text).map_err(|why| wrong(why.to_string()))?, None)
    } else {
        let file: ProofFile = serde_json::from_str(&text).map_err(|why| wrong(why.to_string()))?;
        (file.proof, Some(file.record))
    };
    let found = match (&args.condition, own) {
        (Some(text), _) => {
            let (name, value) = condition(text)?;
            records.iter().position(|record| record.get(name).is_some_and(|own| own == value))
        }
        // A record may have columns that are no field of the profile.
        (None, Some(own)) => records.iter().position(|record| {
            own.iter().all(|(name, value)| record.get(name).is_none_or(|it| same(it, value)))
        }),
        (None, None) => (records.len() == 1).then_some(0),
    };
    let record = found.ok_or_else(|| {
        Failure::Usage(format!(
            "{} has no record that the proof is of: name one with --where FIELD=VALUE",
            source.path.display()
        ))
    })?;
    Ok(GivenProof { record, siblings: siblings(path, &hashes)?, place: None, count: None })
}

/// Whether two texts are the same value: hex may have `0x`, and either case.
fn same(a: &str, b: &str) -> bool {
    let bare = |text: &str| text.trim_start_matches("0x").to_lowercase();
    a == b || bare(a) == bare(b)
}
