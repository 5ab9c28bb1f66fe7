//! Many requests in one transaction of the log: a thread takes what waits and appends it at once.
//!
//! Invariants: the records of one request are in one transaction; a request is answered after the
//! commit, or told that nothing is known; a request that the log refuses takes no other one with it;
//! what waits is bounded, and one who finds no room is told at once, with nothing written.

use std::{io, sync::Arc, thread};

use semel_schemas::{
    record::OutRecord,
    topic::{Offset, Partition},
};
use tokio::sync::{mpsc, oneshot};

use crate::log::{Log, LogError};

/// Requests that wait.
const WAITING_MAX: usize = 1_024;
/// Records of one transaction; a request that has more of them has one of its own.
const RECORDS_MAX: usize = 5_000;
/// Bytes of one transaction, likewise.
const BYTES_MAX: usize = 4 << 20;

/// Where each record of a request is.
pub(super) type Places = Vec<(Partition, Offset)>;

/// Why a request has no places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// Too many wait; nothing was written.
    Busy,
    /// The log refuses it; nothing was written.
    Refused(String),
    /// The log did not confirm it: it may have been written.
    Unknown(String),
}

struct Job {
    records: Vec<OutRecord>,
    answer: oneshot::Sender<Result<Places, Unwritten>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Writer(mpsc::Sender<Job>);

impl Writer {
    /// Starts the thread. It ends with the last of those that it writes for.
    ///
    /// # Errors
    /// If the process cannot start a thread.
    pub(super) fn start(log: Arc<dyn Log>) -> io::Result<Self> {
        let (give, taken) = mpsc::channel(WAITING_MAX);
        thread::Builder::new().name("ingress".to_owned()).spawn(move || run(&*log, taken))?;
        Ok(Self(give))
    }

    /// Writes the records of one request, all or none.
    ///
    /// # Errors
    /// [`Unwritten`].
    pub(super) async fn write(&self, records: Vec<OutRecord>) -> Result<Places, Unwritten> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Job { records, answer }).map_err(|_| Unwritten::Busy)?;
        let lost = |_| Unwritten::Unknown("the process is stopping".to_owned());
        answered.await.map_err(lost)?
    }
}

fn run(log: &dyn Log, mut taken: mpsc::Receiver<Job>) {
    let mut next = None;
    while let Some(first) = next.take().or_else(|| taken.blocking_recv()) {
        let (mut records, mut bytes) = size(&first);
        let mut jobs = vec![first];
        while let Ok(job) = taken.try_recv() {
            let (more, larger) = size(&job);
            if records + more > RECORDS_MAX || bytes + larger > BYTES_MAX {
                next = Some(job);
                break;
            }
            (records, bytes) = (records + more, bytes + larger);
            jobs.push(job);
        }
        write_all(log, jobs);
    }
}

/// Records and bytes of a request.
fn size(job: &Job) -> (usize, usize) {
    (job.records.len(), job.records.iter().map(OutRecord::size).sum())
}

fn write_all(log: &dyn Log, jobs: Vec<Job>) {
    let records = jobs.iter().flat_map(|job| job.records.iter().cloned()).collect();
    match log.append(records) {
        Ok(places) => {
            let mut places = places.into_iter();
            for job in jobs {
                let own: Places = places.by_ref().take(job.records.len()).collect();
                // Who has gone does not hear where it went.
                job.answer.send(Ok(own)).ok();
            }
        }
        // One of them is at fault: each by itself, so that the others are written.
        Err(error) if jobs.len() > 1 && !is_unknown(&error) => {
            for job in jobs {
                write_all(log, vec![job]);
            }
        }
        Err(error) => {
            let unwritten = match is_unknown(&error) {
                true => Unwritten::Unknown(error.to_string()),
                false => Unwritten::Refused(error.to_string()),
            };
            tracing::warn!(%error, requests = jobs.len(), "requests were not written");
            for job in jobs {
                job.answer.send(Err(unwritten.clone())).ok();
            }
        }
    }
}

/// Whether records may have been written all the same.
fn is_unknown(error: &LogError) -> bool {
    matches!(error, LogError::Unavailable(_) | LogError::Storage(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use semel_schemas::{
        header::Headers,
        record::OutRecord,
        topic::{Partition, TopicName},
    };

    use super::{Unwritten, Writer};
    use crate::{
        folder::DataFolder,
        log::{
            Cleanup, Log, TopicSpec,
            embedded::{EmbeddedLog, Settings},
        },
    };

    fn log(folder: &tempfile::TempDir) -> Arc<dyn Log> {
        let data = DataFolder::open(folder.path()).unwrap();
        let log = EmbeddedLog::within(data, Settings::default()).unwrap();
        let spec = TopicSpec {
            name: TopicName::new("t").unwrap(),
            partitions: 2,
            cleanup: Cleanup::Delete { retention_ms: None },
            replication: None,
            allow_one_broker: true,
        };
        log.create_topic(&spec).unwrap();
        Arc::new(log)
    }

    fn record(topic: &str, partition: u32, bytes: usize) -> OutRecord {
        OutRecord {
            topic: TopicName::new(topic).unwrap(),
            partition: Some(Partition(partition)),
            key: Some(b"k".to_vec()),
            value: Some(vec![b'x'; bytes]),
            headers: Headers::new(),
        }
    }

    #[test]
    fn requests_of_one_transaction_get_their_own_places_and_none_falls_with_another() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::start(log(&folder)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answers = runtime.block_on(async {
            // All are given before the first is answered: what is written together is up to the
            // thread, and what is answered must not depend on it.
            tokio::join!(
                writer.write(vec![record("t", 0, 1), record("t", 1, 1)]),
                writer.write(vec![record("no-such-topic", 0, 1)]),
                writer.write(vec![record("t", 1, 1), record("t", 1, 100_000_000)]),
                writer.write(vec![record("t", 1, 1), record("t", 1, 1)]),
            )
        });
        let at = |answer: Result<super::Places, Unwritten>| -> Vec<(u32, u64)> {
            answer.unwrap().into_iter().map(|(p, o)| (p.0, o.0)).collect()
        };
        let refused = |answer| match answer {
            Err(Unwritten::Refused(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(at(answers.0), [(0, 0), (1, 0)]);
        let text = refused(answers.1);
        assert!(text.contains("there is no topic `no-such-topic`"), "{text}");
        let text = refused(answers.2);
        assert!(text.contains("exceeds the limit"), "{text}");
        // Nothing of the request before it was written.
        assert_eq!(at(answers.3), [(1, 1), (1, 2)]);
    }
}
