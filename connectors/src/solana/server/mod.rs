//! `semel devnet`: the part of Solana's JSON-RPC that is needed, over HTTP, on a [`Devnet`].
//!
//! Answers have the form that `solana-rpc-client` reads; errors have the codes that real nodes
//! give. Not offered, and refused with a sentence: `jsonParsed`, block details `accounts`,
//! subscriptions. Asked for `base64+zstd`, it answers in `base64`, which every client reads,
//! because the encoding is named beside the data.
//! Methods of its own: `devnetCreateChannel(name)` → address; `devnetConfig()` → settings.
//!
//! `args` parameters and errors · `encode` blocks, transactions, accounts · `methods` what is
//! offered.

mod args;
mod encode;
mod methods;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonrpsee::server::{Server, ServerConfig, ServerHandle};
use tokio::{task::spawn_blocking, time::MissedTickBehavior};

use super::devnet::{Devnet, DevnetConfig, DevnetError};

/// Largest answer, bytes: a block of thousands of transactions.
const ANSWER_BYTES_MAX: u32 = 256 << 20;
/// Most connections at a time.
const CONNECTIONS_MAX: u32 = 1000;

/// What [`run_devnet`] runs.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The chain.
    pub chain: DevnetConfig,
    /// Where JSON-RPC is served: loopback unless told otherwise; port 0: any free one.
    pub listen: SocketAddr,
    /// Where the chain is written down; `None`: in memory only.
    pub folder: Option<PathBuf>,
}

impl Default for RunConfig {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8899));
        Self { chain: DevnetConfig::default(), listen, folder: None }
    }
}

/// Serves a devnet's JSON-RPC: the address it listens on, and a handle that stops it.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve(
    devnet: Devnet,
    listen: SocketAddr,
) -> Result<(SocketAddr, ServerHandle), DevnetError> {
    let failed = |reason: String| DevnetError::Listen { address: listen, reason };
    let config = ServerConfig::builder()
        .http_only()
        .max_connections(CONNECTIONS_MAX)
        .max_response_body_size(ANSWER_BYTES_MAX)
        .build();
    let server = Server::builder().set_config(config).build(listen).await;
    let server = server.map_err(|e| failed(e.to_string()))?;
    let address = server.local_addr().map_err(|e| failed(e.to_string()))?;
    let methods = methods::all(devnet).map_err(|e| failed(e.to_string()))?;
    Ok((address, server.start(methods)))
}

/// Runs a devnet on the machine's clock and serves its JSON-RPC, until `stop` is done. `ready` is
/// told where it listens, once it does.
///
/// # Errors
/// If it cannot start; if the journal cannot be written any more.
pub async fn run_devnet(
    config: RunConfig,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), DevnetError> {
    let period = Duration::from_millis(config.chain.slot_ms.div_ceil(2).max(1));
    let devnet = blocking(move || match &config.folder {
        Some(folder) => Devnet::open(config.chain, folder),
        None => Devnet::new(config.chain),
    })
    .await?;
    let (address, handle) = serve(devnet.clone(), config.listen).await?;
    ready(address);
    let ended = tokio::select! {
        ended = keep_time(devnet, period) => ended,
        () = stop => Ok(()),
    };
    // An error here says that the server has stopped already, which is what is wanted.
    let _already_stopped = handle.stop();
    handle.stopped().await;
    ended
}

/// Produces slots as they fall due by the machine's clock; ends only with an error.
///
/// # Errors
/// If the chain cannot go on.
pub async fn keep_time(devnet: Devnet, period: Duration) -> Result<(), DevnetError> {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let devnet = devnet.clone();
        blocking(move || devnet.advance_to(now_ms)).await?;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DevnetError> + Send + 'static,
) -> Result<T, DevnetError> {
    let ended = spawn_blocking(work).await;
    ended.map_err(|e| DevnetError::Svm(format!("its thread ended early: {e}")))?
}
