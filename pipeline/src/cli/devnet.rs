//! `semel devnet`: a Solana chain of one process, with JSON-RPC on loopback.

use std::{net::SocketAddr, path::PathBuf};

use semel_connectors::solana::{
    devnet::DevnetConfig,
    server::{RunConfig, run_devnet},
};
use semel_schemas::solana::Address;

use super::{Done, Failure, output, run};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8899")]
    listen: SocketAddr,
    /// Keep the chain in this folder, so that a restart goes on with it
    #[arg(long)]
    data: Option<PathBuf>,
    /// Milliseconds a slot
    #[arg(long, default_value_t = 400)]
    slot_ms: u64,
    /// Slots that finality is behind
    #[arg(long, default_value_t = 32)]
    finalized_lag: u64,
    /// Every n-th slot has no block (0: every slot has one)
    #[arg(long, default_value_t = 0)]
    skip_every: u64,
    /// Blocks that a blockhash lives
    #[arg(long, default_value_t = 150)]
    blockhash_blocks: u64,
    /// The publisher: the public key that may set roots
    #[arg(long)]
    publisher: Address,
    /// Channels that exist from the start (may be given more than once)
    #[arg(long = "channel")]
    channels: Vec<String>,
    /// Chain time of slot 0 where no clock has spoken yet, milliseconds since 1970
    #[arg(long, default_value_t = 0)]
    start_ms: u64,
}

/// Runs it until Ctrl-C.
pub(super) fn devnet(args: Args) -> Done {
    let chain = DevnetConfig {
        slot_ms: args.slot_ms,
        finalized_lag: args.finalized_lag,
        skip_every: args.skip_every,
        blockhash_blocks: args.blockhash_blocks,
        publisher: args.publisher,
        channels: args.channels,
        funded: vec![(args.publisher, 1_000_000_000_000)],
        start_ms: args.start_ms,
        ..DevnetConfig::default()
    };
    let mint = chain.mint;
    let config = RunConfig { chain, listen: args.listen, folder: args.data };
    let ready = |address: SocketAddr| {
        let told = output::line(&format!("http://{address}"));
        if told.is_ok() {
            output::say(&format!("devnet: mint {mint}; Ctrl-C ends it"));
        }
    };
    let stop = async {
        // Without the signal the process is ended the hard way, which the journal survives.
        tokio::signal::ctrl_c().await.ok();
    };
    run::runtime()?
        .block_on(run_devnet(config, ready, stop))
        .map_err(|e| Failure::Failed(e.to_string()))
}
