//! `semel keygen`: a new settlement key, readable by its owner only.

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use semel_connectors::{
    signer::Signer as _,
    signers::local::{LocalSigner, Readable},
};

use super::{Done, Failure, output};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write, in the form of Solana's own tools; it must not exist yet
    file: PathBuf,
}

/// Writes the key and prints its public half.
pub(super) fn keygen(args: &Args) -> Done {
    let failed = |text: String| {
        Failure::Failed(format!("the key {} cannot be made: {text}", args.file.display()))
    };
    write_key(&args.file).map_err(|e| failed(e.to_string()))?;
    let signer = LocalSigner::from_file(&args.file, Readable::Owner);
    output::line(&signer.map_err(|e| failed(e.to_string()))?.public_key().to_string())
}

/// A new key, readable by its owner only.
pub(super) fn write_key(path: &Path) -> std::io::Result<()> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let json = LocalSigner::keypair_json(seed);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(json.as_bytes())?;
    file.sync_all()
}
