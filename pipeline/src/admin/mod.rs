//! What a person may ask of a pipeline while it runs: a Unix socket in the data folder, mode 0600.
//!
//! `mod` the socket: one JSON request a line, one JSON answer a line · `publish` releases roots ·
//! `topics` lists topics. The requests themselves are functions over a log, so that they work
//! beside a running process (through its socket), on Kafka (directly), and on a stopped data
//! folder (opened for the moment).

pub mod publish;
pub mod topics;

use std::{io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use semel_schemas::time::Epoch;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

use crate::{log::Log, spec::plan::Plan};

/// Name of the socket in the data folder.
pub const SOCKET: &str = "admin.sock";

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Release roots.
    Publish {
        /// Only of this channel.
        channel: Option<String>,
        /// Only of this epoch.
        epoch: Option<Epoch>,
        /// Who asks.
        by: String,
    },
    /// List topics.
    Topics,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The roots that were released.
    Published {
        /// Their names, `<channel>:<epoch>`.
        roots: Vec<String>,
    },
    /// The topics.
    Topics {
        /// One row each.
        topics: Vec<topics::TopicRow>,
    },
    /// It could not be done.
    Refused {
        /// One sentence.
        text: String,
    },
}

/// Does what is asked, on a log.
#[must_use]
pub fn answer(log: &dyn Log, plan: &Plan, ask: Ask) -> Answer {
    let result = match ask {
        Ask::Publish { channel, epoch, by } => {
            publish::publish(log, plan, channel.as_deref(), epoch, &by)
                .map(|roots| Answer::Published { roots })
        }
        Ask::Topics => topics::topics(log, plan).map(|topics| Answer::Topics { topics }),
    };
    result.unwrap_or_else(|text| Answer::Refused { text })
}

/// Answers requests on the socket until the runtime ends.
///
/// # Errors
/// If the socket cannot be made.
pub async fn serve(folder: &Path, log: Arc<dyn Log>, plan: Arc<Plan>) -> io::Result<()> {
    let path = folder.join(SOCKET);
    // The data folder is locked, so a socket that is there is a dead process's.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (log, plan) = (log.clone(), plan.clone());
            tokio::spawn(async move {
                if let Err(error) = talk(stream, log, plan).await {
                    tracing::debug!(%error, "an admin connection ended");
                }
            });
        }
    });
    Ok(())
}

async fn talk(stream: UnixStream, log: Arc<dyn Log>, plan: Arc<Plan>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let answered = match serde_json::from_str::<Ask>(&line) {
            Ok(ask) => {
                let (log, plan) = (log.clone(), plan.clone());
                let work = tokio::task::spawn_blocking(move || answer(&*log, &plan, ask));
                work.await.unwrap_or_else(|e| Answer::Refused { text: e.to_string() })
            }
            Err(error) => Answer::Refused { text: format!("not a request: {error}") },
        };
        let mut bytes = semel_schemas::codec::encode(&answered);
        bytes.push(b'\n');
        write.write_all(&bytes).await?;
    }
    Ok(())
}

/// Asks a running process.
///
/// # Errors
/// If no process answers on the folder's socket.
pub async fn ask(folder: &Path, ask: &Ask) -> io::Result<Answer> {
    let stream = UnixStream::connect(folder.join(SOCKET)).await?;
    let (read, mut write) = stream.into_split();
    let mut bytes = semel_schemas::codec::encode(ask);
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    let line = BufReader::new(read).lines().next_line().await?;
    let line = line.ok_or_else(|| io::Error::other("the process closed the connection"))?;
    serde_json::from_str(&line).map_err(io::Error::other)
}
