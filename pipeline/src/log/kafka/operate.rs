//! What tools ask of a cluster, and no pipeline ever does: deleting topics and groups, a broker's
//! settings and its clock, a feeder of test records.
//!
//! May not live here: anything on the way of a record. Invariant: nothing is deleted that was not
//! named by the caller.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
};
use semel_schemas::topic::TopicName;

use super::{
    KafkaLog, Noting,
    feeder::Feeder,
    settings::client_error,
    topics::{is_refusal, wait_for},
};
use crate::log::LogError;

/// A connection for tools.
pub struct KafkaTools {
    log: Arc<KafkaLog>,
    admin: AdminClient<DefaultClientContext>,
    probe: BaseConsumer<Noting>,
}

impl std::fmt::Debug for KafkaTools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaTools").field("log", &self.log).finish_non_exhaustive()
    }
}

impl KafkaTools {
    /// Tools for the cluster of `log`.
    ///
    /// # Errors
    /// [`LogError::Refused`] if a client cannot be made.
    pub fn new(log: Arc<KafkaLog>) -> Result<Self, LogError> {
        let config = log.shared.settings.asking();
        let admin = config.create().map_err(|e| client_error(&e))?;
        let probe = config.create_with_context(Noting).map_err(|e| client_error(&e))?;
        Ok(Self { log, admin, probe })
    }

    fn options(&self) -> AdminOptions {
        let patience = Some(self.log.shared.patience);
        AdminOptions::new().request_timeout(patience).operation_timeout(patience)
    }

    fn failed(&self, what: &str, code: RDKafkaErrorCode) -> LogError {
        let text = format!("Kafka at {} refused {what}: {code}", self.log.shared.brokers);
        if is_refusal(code) { LogError::Refused(text) } else { LogError::Unavailable(text) }
    }

    /// Ids of the brokers that are up.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn brokers(&self) -> Result<Vec<i32>, LogError> {
        let metadata = self
            .probe
            .fetch_metadata(None, self.log.shared.patience)
            .map_err(|e| self.log.shared.topics.failed("its brokers", &e))?;
        Ok(metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id).collect())
    }

    /// A setting of a broker, as the broker tells it; `None` if it has none of that name.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn broker_setting(&self, broker: i32, name: &str) -> Result<Option<String>, LogError> {
        let what = format!("the settings of broker {broker}");
        let resource = ResourceSpecifier::Broker(broker);
        let answers = wait_for(self.admin.describe_configs([&resource], &self.options()))
            .map_err(|e| self.log.shared.topics.failed(&what, &e))?;
        for answer in answers {
            let found = answer.map_err(|code| self.failed(&what, code))?;
            if matches!(found.specifier, OwnedResourceSpecifier::Broker(id) if id == broker) {
                return Ok(found.get(name).and_then(|entry| entry.value.clone()));
            }
        }
        Ok(None)
    }

    /// Whether the cluster has transactions: initialises a producer under an id of its own.
    ///
    /// # Errors
    /// [`LogError`] with the cluster's reason.
    pub fn check_transactions(&self) -> Result<(), LogError> {
        self.log.appender().map(|_| ())
    }

    /// Creates a topic of one partition whose records bear the broker's clock and not the
    /// producer's, to compare the two.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn create_clock(&self, name: &TopicName, copies: i32) -> Result<(), LogError> {
        let what = format!("to create topic `{name}`");
        let topic = NewTopic::new(name.as_str(), 1, TopicReplication::Fixed(copies))
            .set("message.timestamp.type", "LogAppendTime");
        let answers = wait_for(self.admin.create_topics([&topic], &self.options()))
            .map_err(|e| self.log.shared.topics.failed(&what, &e))?;
        for answer in answers {
            answer.map_err(|(_, code)| self.failed(&what, code))?;
        }
        self.log.shared.topics.find(name).map(|_| ())
    }

    /// Deletes topics, and waits until they are gone; those that are not there are fine.
    ///
    /// # Errors
    /// [`LogError`] with the first that cannot be deleted.
    pub fn delete_topics(&self, names: &[TopicName]) -> Result<(), LogError> {
        let what = "to delete topics";
        let texts: Vec<&str> = names.iter().map(TopicName::as_str).collect();
        if texts.is_empty() {
            return Ok(());
        }
        let answers = wait_for(self.admin.delete_topics(&texts, &self.options()))
            .map_err(|e| self.log.shared.topics.failed(what, &e))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((name, code)) => {
                    return Err(self.failed(&format!("to delete topic `{name}`"), code));
                }
            }
        }
        Ok(())
    }

    /// Deletes groups. Members that were killed are still counted until their session ends, so a
    /// group that is not empty is tried again for a while.
    ///
    /// # Errors
    /// [`LogError`] with the first that cannot be deleted within `patience`.
    pub fn delete_groups(&self, names: &[String], patience: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + patience;
        for name in names {
            let what = format!("to delete group `{name}`");
            loop {
                let answers = wait_for(self.admin.delete_groups(&[name], &self.options()))
                    .map_err(|e| self.log.shared.topics.failed(&what, &e))?;
                match answers.into_iter().next() {
                    None | Some(Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound))) => break,
                    Some(Err((_, code))) if Instant::now() > deadline || is_refusal(code) => {
                        return Err(self.failed(&what, code));
                    }
                    Some(Err(_)) => thread::sleep(Duration::from_millis(500)),
                }
            }
        }
        Ok(())
    }

    /// The names of all groups.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn groups(&self) -> Result<Vec<String>, LogError> {
        let groups = self
            .probe
            .fetch_group_list(None, self.log.shared.patience)
            .map_err(|e| self.log.shared.topics.failed("its groups", &e))?;
        Ok(groups.groups().iter().map(|group| group.name().to_owned()).collect())
    }

    /// A producer of test records.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn feeder(&self) -> Result<Feeder, LogError> {
        Feeder::new(&self.log.shared.settings)
    }
}
