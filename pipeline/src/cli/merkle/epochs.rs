//! `semel merkle epochs` and `semel merkle claim`: a pipeline's closed epochs, kept as levels, and the
//! proofs that claimers ask for.
//!
//! May not live here: what must agree before a proof is handed out (`semel::merkle::epochs`).

use std::path::{Path, PathBuf};

use semel::{
    audit::book::{self, Book, Which},
    merkle::epochs::{ClaimProof, Epochs, FOLDER, Sealing},
};
use semel_connectors::sinks::look::Look;
use semel_schemas::{solana::Address, time::Epoch};

use super::{
    super::{Done, Failure, audit, boot, output, run},
    ClaimOf, ProofFile, json,
    progress::Progress,
};

/// Which pipeline, and which of its roots.
#[derive(Debug, clap::Args)]
struct PlaceArgs {
    /// The spec, a TOML file: its database and its data folder are used, nothing is run
    spec: PathBuf,
    /// Only this channel
    #[arg(long)]
    channel: Option<String>,
    /// Only this epoch
    #[arg(long)]
    epoch: Option<u64>,
    /// Where sealed levels are kept, if not in the data folder
    #[arg(long, value_name = "FOLDER")]
    levels: Option<PathBuf>,
}

/// Arguments of `epochs`.
#[derive(Debug, clap::Args)]
pub(super) struct EpochsArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

/// Arguments of `claim`.
#[derive(Debug, clap::Args)]
pub(super) struct ClaimArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    who: Who,
}

/// Whose claims.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// The claim with this id
    #[arg(long)]
    claim: Option<String>,
    /// Every claim of this claimer, one proof a line
    #[arg(long, value_name = "PUBLIC KEY")]
    user: Option<Address>,
}

impl PlaceArgs {
    fn which(&self) -> Which {
        let (channel, epoch) = (self.channel.clone(), self.epoch.map(Epoch));
        Which { channel, epoch, ..Which::default() }
    }
}

/// Seals what is not sealed yet, and lists all.
pub(super) fn epochs(args: &EpochsArgs) -> Done {
    with(&args.place, async |epochs| {
        let roots = epochs.roots(&args.place.which()).await?;
        let progress = Progress::new("epochs sealed", Some(roots.len()));
        let mut rows = Vec::new();
        for root in &roots {
            let sealing = match epochs.seal(root).await? {
                Sealing::Written => "sealed now",
                Sealing::Found => "was sealed",
            };
            rows.push(vec![
                root.epoch.0.to_string(),
                root.channel.clone(),
                root.count.to_string(),
                root.profile.clone(),
                sealing.to_owned(),
                epochs.path(root)?.display().to_string(),
            ]);
            progress.at(rows.len());
        }
        Ok(rows)
    })
    .and_then(|rows| {
        output::table(&["epoch", "channel", "count", "profile", "levels", "file"], &rows)
    })
}

/// Prints the proofs of a claim or of a claimer.
pub(super) fn claim(args: &ClaimArgs) -> Done {
    let which =
        Which { claim_id: args.who.claim.clone(), user: args.who.user, ..args.place.which() };
    let proofs = with(&args.place, async |epochs| epochs.proofs(&which).await)?;
    proofs.into_iter().try_for_each(|proof| output::line(&json(&shown(proof))?))
}

fn shown(proof: ClaimProof) -> ProofFile {
    let ClaimProof { claim_id, channel, epoch, profile, published, leaf, proof, record } = proof;
    let file = ProofFile::new(&profile, &published.root, &leaf, &proof, record);
    ProofFile { claim: Some(ClaimOf { claim_id, channel, epoch: epoch.0 }), ..file }
}

/// Does something with the epochs of a pipeline.
fn with<T>(
    args: &PlaceArgs,
    work: impl AsyncFnOnce(Epochs) -> Result<T, String>,
) -> Result<T, Failure> {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let sink = audit::table(&plan, "roots")?;
    let folder = args.levels.clone().unwrap_or_else(|| Path::new(&spec.pipeline.data).join(FOLDER));
    let done = run::runtime()?.block_on(async {
        let look = Look::open(&sink.url).await.map_err(|e| e.to_string())?;
        work(Epochs::new(Book::new(look, &sink.schema, book::profiles(&spec)), &folder)).await
    });
    done.map_err(Failure::Failed)
}
