//! Topics: asking for them, creating them with the right settings, comparing what exists.
//!
//! Invariants: asking never creates a topic; a topic that exists is never changed; a topic's
//! identity is its id, not its name (Kafka trap 28).

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use semel_schemas::topic::{NextOffset, Partition, TopicName};

use super::{
    Noting,
    ffi::{self, NativeError},
    settings::{Settings, client_error},
};
use crate::log::{Cleanup, LogError, TopicInfo, TopicSpec};

/// How long brokers may take to hear of a new topic from their controller.
const HEARSAY: Duration = Duration::from_millis(500);

/// How long one try to reach a broker takes.
const GREETING: Duration = Duration::from_millis(500);

/// What a person is told when client and broker do not trust each other.
fn stranger(code: RDKafkaErrorCode) -> Option<&'static str> {
    match code {
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::UnsupportedSASLMechanism
        | RDKafkaErrorCode::IllegalSASLState => Some(
            "the broker does not let us in: check sasl.mechanism, sasl.username and what \
             sasl.password points to",
        ),
        RDKafkaErrorCode::SSL => Some(
            "there is no TLS with the broker: check security.protocol, the port, and that \
             ssl.ca.location names the authority that signed its certificate",
        ),
        _ => None,
    }
}

/// What a producer must know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicFacts {
    /// Number of partitions.
    pub(super) partitions: u32,
    /// Largest batch in bytes (`max.message.bytes`).
    pub(super) max_batch: usize,
}

/// The clients that ask, shared by everything that one [`super::KafkaLog`] made.
pub(super) struct Topics {
    /// Sees high watermarks, belongs to no group.
    probe: BaseConsumer<Noting>,
    admin: AdminClient<DefaultClientContext>,
    brokers: String,
    patience: Duration,
    facts: Mutex<HashMap<TopicName, TopicFacts>>,
}

impl Topics {
    /// Connects; an error if no broker answers in time.
    pub(super) fn connect(
        settings: &Settings,
        brokers: &str,
        patience: Duration,
    ) -> Result<Self, LogError> {
        let config = settings.asking();
        let probe: BaseConsumer<Noting> =
            config.create_with_context(Noting).map_err(|e| client_error(&e))?;
        let topics = Self {
            probe,
            admin: config.create().map_err(|e| client_error(&e))?,
            brokers: brokers.to_owned(),
            patience,
            facts: Mutex::default(),
        };
        topics.greet()?;
        Ok(topics)
    }

    /// Waits until a broker answers. A broker that refuses us, or that we do not trust, looks to a
    /// question like one that is away: only the client's events tell.
    fn greet(&self) -> Result<(), LogError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.probe.fetch_metadata(None, left.min(GREETING));
            let Err(error) = answer else { return Ok(()) };
            while let Some(event) = self.probe.poll(Duration::ZERO) {
                let code = event.err().and_then(|e| e.rdkafka_error_code());
                if let Some(why) = code.and_then(stranger) {
                    let brokers = &self.brokers;
                    return Err(LogError::Refused(format!("Kafka at {brokers}: {why}")));
                }
            }
            if left.is_zero() {
                return Err(self.failed("its topics", &error));
            }
        }
    }

    fn unavailable(&self, what: &str, why: impl std::fmt::Display) -> LogError {
        LogError::Unavailable(format!(
            "Kafka at {} did not answer when asked for {what} ({why}): check that the brokers run \
             and that the address is right",
            self.brokers
        ))
    }

    /// The error of a question, for a person.
    pub(super) fn failed(&self, what: &str, error: &KafkaError) -> LogError {
        match error.rdkafka_error_code() {
            Some(code) if is_refusal(code) => {
                LogError::Refused(format!("Kafka at {} refused {what}: {code}", self.brokers))
            }
            _ => self.unavailable(what, error),
        }
    }

    fn native(&self, what: &str, error: &NativeError) -> LogError {
        if is_refusal(error.code) {
            return LogError::Refused(format!(
                "Kafka at {} refused {what}: {}",
                self.brokers, error.text
            ));
        }
        self.unavailable(what, &error.text)
    }

    /// Every topic that is not the cluster's own.
    pub(super) fn names(&self) -> Result<Vec<TopicName>, LogError> {
        let metadata = self
            .probe
            .fetch_metadata(None, self.patience)
            .map_err(|e| self.failed("its topics", &e))?;
        let mut names: Vec<_> = metadata
            .topics()
            .iter()
            .filter(|t| !t.name().starts_with("__"))
            .filter_map(|t| TopicName::new(t.name()).ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// What is known of a topic; `None` if there is none.
    pub(super) fn describe(&self, name: &TopicName) -> Result<Option<TopicInfo>, LogError> {
        let what = format!("topic `{name}`");
        let found = ffi::describe_topic(self.probe.client(), name, self.patience)
            .map_err(|e| self.native(&what, &e))?;
        let Some(found) = found else {
            self.facts().remove(name);
            return Ok(None);
        };
        let Some(config) = self.config(name)? else { return Ok(None) };
        let facts = TopicFacts { partitions: found.partitions, max_batch: config.max_batch };
        self.facts().insert(name.clone(), facts);
        let cleanup = config.cleanup();
        Ok(Some(TopicInfo { id: found.id, partitions: found.partitions, cleanup }))
    }

    /// A topic that must exist. The broker that is asked may not have heard of a new one yet, so
    /// a missing one is looked for a little longer.
    pub(super) fn find(&self, name: &TopicName) -> Result<TopicInfo, LogError> {
        let deadline = Instant::now() + HEARSAY;
        loop {
            if let Some(info) = self.describe(name)? {
                return Ok(info);
            }
            if Instant::now() > deadline {
                return Err(LogError::NoTopic(name.clone()));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, HashMap<TopicName, TopicFacts>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a producer must know of a topic, asked once.
    pub(super) fn known(&self, name: &TopicName) -> Result<TopicFacts, LogError> {
        if let Some(facts) = self.facts().get(name) {
            return Ok(*facts);
        }
        self.find(name)?;
        self.facts().get(name).copied().ok_or_else(|| LogError::NoTopic(name.clone()))
    }

    /// Checks that a partition exists.
    pub(super) fn check(&self, name: &TopicName, partition: Partition) -> Result<(), LogError> {
        let count = self.known(name)?.partitions;
        if partition.0 < count {
            return Ok(());
        }
        Err(LogError::Refused(format!(
            "topic `{name}` has {count} partition(s), so there is no partition {partition}"
        )))
    }

    /// First offset and high watermark, which no open transaction holds back (Kafka trap 26).
    pub(super) fn bounds(
        &self,
        name: &TopicName,
        partition: Partition,
    ) -> Result<(NextOffset, NextOffset), LogError> {
        self.bounds_as_seen_by(&self.probe, name, partition)
    }

    /// First offset and end as `consumer`'s isolation sees it.
    pub(super) fn bounds_as_seen_by(
        &self,
        consumer: &BaseConsumer<Noting>,
        name: &TopicName,
        partition: Partition,
    ) -> Result<(NextOffset, NextOffset), LogError> {
        self.check(name, partition)?;
        let number = i32::try_from(partition.0).unwrap_or(i32::MAX);
        let answer = consumer.fetch_watermarks(name.as_str(), number, self.patience);
        let (first, end) = match answer {
            Ok(bounds) => bounds,
            // A topic that is gone has left the answer to an earlier question behind.
            Err(e) => {
                self.facts().remove(name);
                self.check(name, partition)?;
                return Err(self.failed(&format!("the bounds of {name}/{partition}"), &e));
            }
        };
        let next = |raw| NextOffset(u64::try_from(raw).unwrap_or(0));
        Ok((next(first), next(end)))
    }

    /// Checks that an offset can be read from; what an open transaction holds back is in range.
    pub(super) fn check_range(
        &self,
        topic: &TopicName,
        partition: Partition,
        asked: NextOffset,
    ) -> Result<(), LogError> {
        let (first, end) = self.bounds(topic, partition)?;
        if (first..=end).contains(&asked) {
            return Ok(());
        }
        Err(LogError::OutOfRange { topic: topic.clone(), partition, asked, first, end })
    }

    /// Creates a topic, or compares it with what exists.
    pub(super) fn create(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        if let Some(found) = self.describe(&spec.name)? {
            return self.compare(spec, found);
        }
        let replication = self.replication(spec)?;
        let settings = Wanted::of(spec, replication).settings();
        let mut topic = NewTopic::new(
            spec.name.as_str(),
            i32::try_from(spec.partitions).unwrap_or(i32::MAX),
            TopicReplication::Fixed(i32::from(replication)),
        );
        for (key, value) in &settings {
            topic = topic.set(key, value);
        }
        let what = format!("to create topic `{}`", spec.name);
        let options = AdminOptions::new()
            .request_timeout(Some(self.patience))
            .operation_timeout(Some(self.patience));
        let answers = wait_for(self.admin.create_topics([&topic], &options))
            .map_err(|e| self.failed(&what, &e))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) if is_refusal(code) => {
                    return Err(LogError::Refused(format!("Kafka refused {what}: {code}")));
                }
                Err((_, code)) => return Err(self.unavailable(&what, code)),
            }
        }
        let found = self.appear(spec)?;
        self.compare(spec, found)
    }

    /// Waits until a new topic is known and all its partitions have leaders.
    fn appear(&self, spec: &TopicSpec) -> Result<TopicInfo, LogError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let found = ffi::describe_topic(self.probe.client(), &spec.name, self.patience);
            let ready = matches!(&found, Ok(Some(t)) if t.led == t.partitions);
            if ready && let Some(info) = self.describe(&spec.name)? {
                return Ok(info);
            }
            if Instant::now() > deadline {
                let what = format!("the new topic `{}`", spec.name);
                return Err(self.unavailable(&what, "it does not appear"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Copies to make of a topic.
    fn replication(&self, spec: &TopicSpec) -> Result<u16, LogError> {
        let metadata = self
            .probe
            .fetch_metadata(None, self.patience)
            .map_err(|e| self.failed("its brokers", &e))?;
        replication(spec, metadata.brokers().len())
    }

    fn compare(&self, spec: &TopicSpec, found: TopicInfo) -> Result<TopicInfo, LogError> {
        let Some(config) = self.config(&spec.name)? else {
            return Err(LogError::NoTopic(spec.name.clone()));
        };
        let copies = if spec.allow_one_broker { 1 } else { spec.replication.unwrap_or(3) };
        let wanted = Wanted::of(spec, copies);
        if found.partitions == wanted.partitions
            && config.policy == wanted.policy()
            && (config.cleanup() == wanted.cleanup)
            && config.min_insync >= wanted.min_insync
        {
            return Ok(found);
        }
        let text = |partitions, policy: &str, cleanup, insync| {
            let time = match cleanup {
                Cleanup::Delete { retention_ms } => {
                    format!("retention.ms={}", millis_or_ever(retention_ms))
                }
                Cleanup::Compact { tombstone_ms } => format!("delete.retention.ms={tombstone_ms}"),
            };
            format!(
                "{partitions} partition(s), cleanup.policy={policy}, {time}, \
                 min.insync.replicas={insync}"
            )
        };
        Err(LogError::TopicDiffers {
            topic: spec.name.clone(),
            found: text(found.partitions, &config.policy, config.cleanup(), config.min_insync),
            wanted: text(wanted.partitions, wanted.policy(), wanted.cleanup, wanted.min_insync),
        })
    }

    /// The settings of a topic; `None` if there is none.
    fn config(&self, name: &TopicName) -> Result<Option<Found>, LogError> {
        let what = format!("the settings of topic `{name}`");
        let deadline = Instant::now() + self.patience;
        loop {
            let options = AdminOptions::new().request_timeout(Some(self.patience));
            let resource = ResourceSpecifier::Topic(name.as_str());
            let answers = wait_for(self.admin.describe_configs([&resource], &options))
                .map_err(|e| self.failed(&what, &e))?;
            match answers.into_iter().next() {
                Some(Ok(config)) => {
                    // A broker that has not heard of a new topic yet answers without its settings.
                    if let Some(found) = Found::of(&config) {
                        return Ok(Some(found));
                    }
                }
                Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => return Ok(None),
                Some(Err(code)) => return Err(self.unavailable(&what, code)),
                None => {}
            }
            if Instant::now() > deadline {
                return Err(self.unavailable(&what, "the answer is incomplete"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Copies to make of a topic in a cluster of `brokers`.
fn replication(spec: &TopicSpec, brokers: usize) -> Result<u16, LogError> {
    match spec.replication {
        Some(copies) if copies >= 3 || spec.allow_one_broker => Ok(copies),
        None if brokers >= 3 => Ok(3),
        None if spec.allow_one_broker => Ok(1),
        _ => Err(LogError::Refused(format!(
            "topic `{}` needs 3 copies, but the cluster has {brokers} broker(s) or fewer copies \
             are set: add brokers, or say that one broker is meant (allow_one_broker)",
            spec.name
        ))),
    }
}

/// The cluster will say the same again.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::InvalidTopic
            | Code::PolicyViolation
            | Code::InvalidRequest
            | Code::UnsupportedVersion
    )
}

fn millis_or_ever(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-1".to_owned(), |ms| ms.to_string())
}

/// Settings of a topic as they should be.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    partitions: u32,
    cleanup: Cleanup,
    min_insync: i64,
}

impl Wanted {
    fn of(spec: &TopicSpec, replication: u16) -> Self {
        let min_insync = if replication >= 3 { 2 } else { 1 };
        Self { partitions: spec.partitions, cleanup: spec.cleanup, min_insync }
    }

    fn policy(self) -> &'static str {
        match self.cleanup {
            Cleanup::Delete { .. } => "delete",
            Cleanup::Compact { .. } => "compact",
        }
    }

    /// The settings to create it with. Retention by size is off: it would delete unread records.
    fn settings(self) -> Vec<(&'static str, String)> {
        let time = match self.cleanup {
            Cleanup::Delete { retention_ms } => ("retention.ms", millis_or_ever(retention_ms)),
            Cleanup::Compact { tombstone_ms } => ("delete.retention.ms", tombstone_ms.to_string()),
        };
        vec![
            ("cleanup.policy", self.policy().to_owned()),
            time,
            ("retention.bytes", "-1".to_owned()),
            ("min.insync.replicas", self.min_insync.to_string()),
        ]
    }
}

/// Settings of a topic as they are.
#[derive(Clone, Debug)]
struct Found {
    policy: String,
    retention_ms: Option<u64>,
    tombstone_ms: u64,
    min_insync: i64,
    max_batch: usize,
}

impl Found {
    /// The settings in an answer that has them all.
    fn of(config: &ConfigResource) -> Option<Self> {
        let value = |key| config.get(key).and_then(|entry| entry.value.clone());
        let number = |key| value(key).and_then(|text| text.parse::<i64>().ok());
        Some(Self {
            policy: value("cleanup.policy")?,
            retention_ms: u64::try_from(number("retention.ms")?).ok(),
            tombstone_ms: u64::try_from(number("delete.retention.ms")?).unwrap_or(0),
            min_insync: number("min.insync.replicas")?,
            max_batch: usize::try_from(number("max.message.bytes")?).unwrap_or(usize::MAX),
        })
    }

    /// A topic that both compacts and deletes counts as one that deletes: records go.
    fn cleanup(&self) -> Cleanup {
        if self.policy == "compact" {
            Cleanup::Compact { tombstone_ms: self.tombstone_ms }
        } else {
            Cleanup::Delete { retention_ms: self.retention_ms }
        }
    }
}

/// Wakes the thread that waits.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future of the admin client, which is driven by a thread of its own. (A runtime's
/// `block_on` would panic where the caller stands inside another runtime.)
pub(super) fn wait_for<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_copies_or_a_word_that_one_broker_is_meant() {
        let spec = |replication, allow_one_broker| TopicSpec {
            name: TopicName::new("t").unwrap(),
            partitions: 1,
            cleanup: Cleanup::Delete { retention_ms: None },
            replication,
            allow_one_broker,
        };
        assert_eq!(replication(&spec(None, false), 3).unwrap(), 3);
        assert_eq!(replication(&spec(None, true), 5).unwrap(), 3);
        assert_eq!(replication(&spec(None, true), 1).unwrap(), 1);
        assert_eq!(replication(&spec(Some(1), true), 3).unwrap(), 1);
        assert_eq!(replication(&spec(Some(5), false), 5).unwrap(), 5);
        for (copies, brokers) in [(None, 1), (None, 2), (Some(1), 3), (Some(2), 3)] {
            let refused = replication(&spec(copies, false), brokers).unwrap_err().to_string();
            assert!(refused.contains("allow_one_broker"), "{refused}");
        }
    }
}
