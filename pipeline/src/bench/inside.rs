//! A stage on the embedded log, in this process: the embedded log has one process, so whoever writes
//! to it and reads from it is here too.

use std::{sync::Arc, time::Duration};

use semel_connectors::registry::Connectors;
use semel_schemas::{
    header::Headers,
    record::OutRecord,
    topic::{NextOffset, Partition, TopicName},
};
use tokio::runtime::Runtime;

use super::{
    Given,
    broker::PARTITIONS,
    probe::{Receiver, Sender},
    records::Transfer,
    stage::Stage,
};
use crate::{
    folder::DataFolder,
    host::{self, DiskStores, Host, HostParts},
    log::{
        Isolation, Log,
        embedded::{self, EmbeddedLog},
    },
    state::LocalStore,
};

/// How long a reader waits before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// A running stage.
#[derive(Debug)]
pub(super) struct Inside {
    log: Arc<EmbeddedLog>,
    input: TopicName,
    output: TopicName,
    host: Host,
    _runtime: Runtime,
}

/// A record as a client writes it.
pub(super) fn out_record(topic: &TopicName, transfer: &Transfer) -> OutRecord {
    OutRecord {
        topic: topic.clone(),
        partition: Some(transfer.partition(PARTITIONS)),
        key: Some(transfer.key.clone().into_bytes()),
        value: Some(transfer.value.clone().into_bytes()),
        headers: Headers::new(),
    }
}

impl Inside {
    /// Starts a stage on a log of its own in the stage's data folder.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn start(given: &Given, stage: &Stage) -> Result<Self, String> {
        let (spec, plan) = stage.plan(given, "")?;
        let folder = DataFolder::open(&stage.data).map_err(|e| e.to_string())?;
        let log = EmbeddedLog::within(folder.clone(), embedded::Settings::default())
            .map_err(|e| e.to_string())?;
        host::create_topics(&log, &plan).map_err(|e| e.to_string())?;
        let (log, runtime) = (Arc::new(log), Runtime::new().map_err(|e| e.to_string())?);
        let parts = HostParts {
            plan: Arc::new(plan),
            log: log.clone(),
            stores: Arc::new(DiskStores(LocalStore::within(&folder).map_err(|e| e.to_string())?)),
            performer: Arc::new(Connectors::default()),
            sinks: std::collections::BTreeMap::new(),
            instance: "bench".into(),
            transaction_timeout: Duration::from_millis(spec.log.transaction_timeout_ms),
            session_timeout: Duration::from_millis(spec.log.session_timeout_ms),
        };
        let host = Host::start(parts, runtime.handle())?;
        let name = |text: String| TopicName::new(&text).map_err(|e| e.to_string());
        let (input, output) = (name(stage.input(given))?, name(stage.output(given))?);
        Ok(Self { log, input, output, host, _runtime: runtime })
    }

    /// A writer: a record is durable when it returns.
    pub(super) fn sender(&self) -> Sender {
        let (log, input) = (self.log.clone(), self.input.clone());
        Box::new(move |transfer| {
            let record = out_record(&input, transfer);
            log.append(vec![record]).map(|_| ()).map_err(|e| e.to_string())
        })
    }

    /// Readers of what is committed from here on, one for each partition.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn receivers(&self) -> Result<Vec<Receiver>, String> {
        let one = |partition| -> Result<Receiver, crate::log::LogError> {
            let mut reader = self.log.reader(Isolation::Committed)?;
            let (_, end): (_, NextOffset) = reader.bounds(&self.output, partition)?;
            reader.seek(&self.output, partition, end)?;
            Ok(Box::new(move |note: &mut dyn FnMut(&[u8])| {
                for record in reader.read(1_000, LOOK).map_err(|e| e.to_string())? {
                    note(record.value.as_deref().unwrap_or_default());
                }
                Ok(())
            }))
        };
        (0..PARTITIONS).map(|p| one(Partition(p)).map_err(|e| e.to_string())).collect()
    }

    /// Ends it.
    ///
    /// # Errors
    /// The sentence of a lane that did not end as it should.
    pub(super) fn stop(self) -> Result<(), String> {
        self.host.join()
    }
}
