//! The world of a log on a real broker, as the suite and the tests beside it need it: names that
//! nobody else has, compaction on demand, retention on demand, a bare producer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ConfigSource, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
    topic_partition_list::Offset as RdOffset,
};
use semel::log::{
    Isolation, Log, ProduceError, TxnError, TxnFault,
    conformance::{Harness, RawProducer, Weak, kit},
    kafka::{Guards, KafkaConfig, KafkaLog},
};
use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Partition, TopicName},
};

/// How long one admin call may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a member may be silent: longer than any machine is slow.
const POLL_INTERVAL: Duration = Duration::from_secs(120);
/// The same in tests of zombies.
const POLL_INTERVAL_SHORT: Duration = Duration::from_millis(6500);

/// The broker's address.
///
/// # Panics
/// If there is none: a test that needs a broker must not pass without one.
pub(crate) fn brokers() -> String {
    std::env::var("SEMEL_TEST_KAFKA").expect(
        "these tests need Apache Kafka: run `deploy/kafka start DIR`, and set SEMEL_TEST_KAFKA to \
         the address that it prints",
    )
}

/// Settings of a log with the broker's address.
pub(crate) fn config() -> KafkaConfig {
    let mut config = KafkaConfig::new(brokers());
    config
        .settings
        .insert("max.poll.interval.ms".to_owned(), POLL_INTERVAL.as_millis().to_string());
    config
}

/// The broker.
#[derive(Debug)]
pub(crate) struct Broker {
    config: KafkaConfig,
    log: KafkaLog,
    began: Instant,
    silence: Duration,
}

impl Broker {
    /// With all guards.
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    /// With these guards.
    pub(crate) fn guarded(guards: Guards) -> Self {
        Self::with(KafkaConfig { guards, ..config() })
    }

    /// The same, for a test of zombies.
    pub(crate) fn impatient(mut self) -> Self {
        self.be_impatient();
        self
    }

    /// With these settings.
    pub(crate) fn with(config: KafkaConfig) -> Self {
        let log = KafkaLog::connect(&config).expect("the broker at SEMEL_TEST_KAFKA answers");
        Self { config, log, began: Instant::now(), silence: POLL_INTERVAL }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new()
            .set("bootstrap.servers", &self.config.brokers)
            .create()
            .expect("an admin client is made")
    }

    /// Changes settings of a topic; the others stay.
    pub(crate) fn alter(&self, topic: &TopicName, settings: &[(&str, &str)]) {
        let admin = self.admin();
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let resource = ResourceSpecifier::Topic(topic.as_str());
        let found = wait_for(admin.describe_configs([&resource], &options))
            .expect("the settings are told")
            .remove(0)
            .expect("the topic exists");
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic.as_str()));
        for entry in &found.entries {
            let set = entry.source == ConfigSource::DynamicTopic;
            if let Some(value) = &entry.value
                && set
                && settings.iter().all(|(key, _)| *key != entry.name)
            {
                change = change.set(&entry.name, value);
            }
        }
        for (key, value) in settings {
            change = change.set(key, value);
        }
        for answer in wait_for(admin.alter_configs([&change], &options)).expect("altered") {
            answer.expect("the settings are changed");
        }
        // The answer comes before every part of the broker knows.
        kit::until(self, "the settings are as they were set", || {
            let found = wait_for(admin.describe_configs([&resource], &options));
            let told = found.expect("the settings are told").remove(0).expect("the topic exists");
            let is = |key: &str| told.get(key).and_then(|entry| entry.value.clone());
            // Numbers come back in another dress: 0.0001 as 1.0E-4.
            let same = |a: &str, b: &str| match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => a.total_cmp(&b).is_eq(),
                _ => a == b,
            };
            let set = |(key, value): &(&str, &str)| is(key).is_some_and(|told| same(&told, value));
            settings.iter().all(set).then_some(())
        });
    }
}

/// Waits for a future of the admin client.
pub(crate) fn wait_for<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

impl Harness for Broker {
    fn log(&self) -> &dyn Log {
        &self.log
    }

    fn restart(&mut self) {
        self.log = KafkaLog::connect(&self.config).expect("the broker answers");
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn pass(&self, time: Duration) {
        thread::sleep(time);
    }

    fn name(&self, stem: &str) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let millis = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("the clock is right")
            .as_millis();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("test.{stem}.{millis}.{}.{count}", std::process::id())
    }

    fn session(&self) -> Duration {
        Duration::from_secs(6)
    }

    fn transaction(&self) -> Duration {
        Duration::from_secs(6)
    }

    fn silence(&self) -> Duration {
        self.silence + Duration::from_millis(1500)
    }

    fn be_impatient(&mut self) {
        self.silence = POLL_INTERVAL_SHORT;
        let ms = self.silence.as_millis().to_string();
        self.config.settings.insert("max.poll.interval.ms".to_owned(), ms);
        self.restart();
    }

    fn too_large(&self) -> usize {
        1_000_001
    }

    /// Kafka compacts closed segments only, when it likes. So: two records of one key, a third
    /// that opens a new segment, and patience until the first is gone: the cleaner went over
    /// everything before it in the same pass.
    fn compact(&self, topic: &TopicName, partition: Partition) {
        let often = [("segment.ms", "50"), ("min.cleanable.dirty.ratio", "0.0001")];
        self.alter(topic, &often);
        let filling = |value: &str| vec![kit::put(topic, partition, "~filling", value)];
        let gone = self.log.append(filling("first")).expect("written")[0].1;
        self.log.append(filling("second")).expect("written");
        thread::sleep(Duration::from_millis(120));
        self.log.append(filling("opens a segment")).expect("written");
        kit::until(self, "the cleaner passes", || {
            let mut reader = self.log.reader(Isolation::Uncommitted).expect("a reader is made");
            reader.seek(topic, partition, NextOffset(gone.0)).expect("in range");
            let found = reader.read(1, Duration::from_secs(1)).expect("the reader reads");
            thread::sleep(Duration::from_millis(100));
            found.first().is_some_and(|record| record.offset > gone).then_some(())
        });
    }

    fn expire(&self, topic: &TopicName, partition: Partition, before: NextOffset) {
        let mut list = TopicPartitionList::new();
        let offset = RdOffset::Offset(before.0.cast_signed());
        list.add_partition_offset(topic.as_str(), partition.0.cast_signed(), offset)
            .expect("an offset");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let done = wait_for(self.admin().delete_records(&list, &options)).expect("deleted");
        for element in done.elements() {
            element.error().expect("the records are deleted");
        }
    }

    fn delete_topic(&self, topic: &TopicName) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        for answer in wait_for(self.admin().delete_topics(&[topic.as_str()], &options))
            .expect("the broker answers")
        {
            answer.expect("the topic is deleted");
        }
        kit::until(self, "the topic is gone", || {
            self.log.topic(topic).expect("the broker answers").is_none().then_some(())
        });
    }
}

impl Weak for Broker {
    fn raw(&self, transactional_id: &str) -> Box<dyn RawProducer> {
        Box::new(Raw::new(&self.config.brokers, transactional_id, Duration::from_secs(30)))
    }
}

/// A bare transactional producer that goes around everything that Semel guards.
pub(crate) struct Raw {
    brokers: String,
    producer: BaseProducer,
    open: bool,
}

fn unknown(error: &KafkaError) -> TxnError {
    TxnError { fault: TxnFault::Unknown, text: error.to_string() }
}

impl Raw {
    /// Initialised.
    pub(crate) fn new(brokers: &str, transactional_id: &str, timeout: Duration) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .set("message.timeout.ms", (timeout / 2).as_millis().to_string())
            .create()
            .expect("a producer is made");
        producer.init_transactions(PATIENCE).expect("it is initialised");
        Self { brokers: brokers.to_owned(), producer, open: false }
    }

    fn begin(&mut self) -> Result<(), TxnError> {
        if !self.open {
            self.producer.begin_transaction().map_err(|e| unknown(&e))?;
            self.open = true;
        }
        Ok(())
    }
}

impl RawProducer for Raw {
    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError> {
        self.begin()?;
        let mut headers = OwnedHeaders::new();
        for (key, value) in record.headers.iter() {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut message = BaseRecord::<[u8], [u8]>::to(record.topic.as_str()).headers(headers);
        message.partition = record.partition.map(|p| p.0.cast_signed());
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        self.producer.send(message).map_err(|(e, _)| unknown(&e))?;
        Ok(self.producer.flush(PATIENCE).map_err(|e| unknown(&e))?)
    }

    fn send_offsets(
        &mut self,
        group: &str,
        topic: &TopicName,
        offsets: &[(Partition, NextOffset)],
    ) -> Result<(), TxnError> {
        self.begin()?;
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .create()
            .expect("a consumer is made");
        let mut list = TopicPartitionList::new();
        for (partition, next) in offsets {
            let offset = RdOffset::Offset(next.0.cast_signed());
            list.add_partition_offset(topic.as_str(), partition.0.cast_signed(), offset)
                .expect("an offset");
        }
        consumer.assign(&list).expect("assigned by hand");
        let metadata = consumer.group_metadata().expect("it has a group");
        self.producer
            .send_offsets_to_transaction(&list, &metadata, PATIENCE)
            .map_err(|e| unknown(&e))
    }

    fn commit(&mut self) -> Result<(), TxnError> {
        self.open = false;
        self.producer.commit_transaction(PATIENCE).map_err(|e| unknown(&e))
    }

    fn abort(&mut self) -> Result<(), TxnError> {
        self.open = false;
        self.producer.abort_transaction(PATIENCE).map_err(|e| unknown(&e))
    }
}
