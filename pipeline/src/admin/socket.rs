//! The admin socket of a running process: a Unix socket in the data folder, mode 0600.
//!
//! Invariants: a question is worked on a thread of its own, never on a tokio worker; what is told
//! but not yet read is bounded; who hangs up ends the work with the next thing told; more than
//! [`CONNECTIONS_MAX`] connections at once are told to come back.

use std::{
    io::{self, BufRead as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream as Blocking},
    path::Path,
    sync::Arc,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
};

use super::{Answer, Ask, Stop, View, answer};

/// Name of the socket in the data folder.
pub const SOCKET: &str = "admin.sock";
/// Connections that are served at once: each may hold a thread.
pub const CONNECTIONS_MAX: usize = 32;
/// Bytes of a question: a batch of records to produce is the largest.
const ASK_MAX: u64 = 16 << 20;
/// Answers that wait for a slow reader.
const WAITING_MAX: usize = 16;

/// Makes the socket. The data folder is locked, so one that is there is a dead process's.
///
/// # Errors
/// If the socket cannot be made.
pub fn bind(folder: &Path) -> io::Result<UnixListener> {
    let path = folder.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers questions until the runtime ends. To be called within it.
pub fn serve(listener: UnixListener, view: View) {
    let view = Arc::new(view);
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "an admin connection was not accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (view, seat) = (view.clone(), seats.clone().try_acquire_owned());
            tokio::spawn(async move {
                let talked = match &seat {
                    Ok(_) => talk(stream, &view).await,
                    Err(_) => busy(stream).await,
                };
                if let Err(error) = talked {
                    tracing::debug!(%error, "an admin connection ended");
                }
            });
        }
    });
}

async fn busy(mut stream: UnixStream) -> io::Result<()> {
    let text = format!("{CONNECTIONS_MAX} others are being answered: try again when one has ended");
    stream.write_all(&line(&Answer::Refused { text })).await
}

async fn talk(stream: UnixStream, view: &Arc<View>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(question) = next_line(&mut read).await? {
        match serde_json::from_slice::<Ask>(&question) {
            Ok(ask) => work(view, ask, &mut write).await?,
            Err(error) => {
                let text = format!(
                    "not a question that this process knows: {error}; is it of another version?"
                );
                write.write_all(&line(&Answer::Refused { text })).await?;
            }
        }
    }
    Ok(())
}

async fn next_line(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let count = read.take(ASK_MAX).read_until(b'\n', &mut bytes).await?;
    if count as u64 == ASK_MAX {
        return Err(io::Error::other("a question that is too large"));
    }
    Ok((count > 0).then_some(bytes))
}

/// Answers one question; an error if nobody listens any more.
async fn work(view: &Arc<View>, ask: Ask, write: &mut OwnedWriteHalf) -> io::Result<()> {
    let (tell, mut told) = mpsc::channel::<Answer>(WAITING_MAX);
    let view = view.clone();
    let work = tokio::task::spawn_blocking(move || {
        let mut say = |answer| tell.blocking_send(answer).map_err(|_| Stop::Gone);
        let last = match answer(&view, ask, &mut say) {
            Ok(()) => Answer::End,
            Err(Stop::Refused(text)) => Answer::Refused { text },
            Err(Stop::Gone) => return,
        };
        // Who has gone does not hear the end either.
        say(last).ok();
    });
    while let Some(answer) = told.recv().await {
        write.write_all(&line(&answer)).await?;
    }
    if work.await.is_err() {
        let text = "the question could not be worked: see the process's log".to_owned();
        write.write_all(&line(&Answer::Refused { text })).await?;
    }
    Ok(())
}

fn line<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = semel_schemas::codec::encode(value);
    bytes.push(b'\n');
    bytes
}

/// A connection to a running process. Blocks; for a command, never for a tokio worker.
#[derive(Debug)]
pub struct Client {
    read: io::BufReader<Blocking>,
    write: Blocking,
}

impl Client {
    /// Connects to the process that has this data folder.
    ///
    /// # Errors
    /// If none answers.
    pub fn connect(folder: &Path) -> io::Result<Self> {
        let write = Blocking::connect(folder.join(SOCKET))?;
        Ok(Self { read: io::BufReader::new(write.try_clone()?), write })
    }

    /// Asks, and tells the answers as they come.
    ///
    /// # Errors
    /// [`Stop`]; after [`Stop::Gone`] the connection is of no more use.
    pub fn ask(&mut self, ask: &Ask, tell: &mut super::Tell<'_>) -> Result<(), Stop> {
        let away =
            |e: &dyn std::fmt::Display| format!("the running process ended the connection: {e}");
        self.write.write_all(&line(ask)).map_err(|e| away(&e))?;
        let mut text = String::new();
        loop {
            text.clear();
            if self.read.read_line(&mut text).map_err(|e| away(&e))? == 0 {
                return Err(away(&"it is stopping").into());
            }
            let answer = serde_json::from_str(&text).map_err(|e| {
                format!("the running process gave an answer of another version: {e}")
            })?;
            match answer {
                Answer::End => return Ok(()),
                Answer::Refused { text } => return Err(Stop::Refused(text)),
                Answer::Beat => {}
                answer => tell(answer)?,
            }
        }
    }
}
