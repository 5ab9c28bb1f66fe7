//! Client settings: what Semel fixes, what it prefers, what a person passes through, and secrets.
//!
//! Invariants: a setting on which exactly-once rests cannot be overridden; a secret comes from a
//! file or from the environment, and is never in a message or a `Debug` text.

use std::{collections::BTreeMap, fmt, fs, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError};

use super::Guards;
use crate::log::{Isolation, LogError, MemberSpec};

/// How to reach a cluster.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// librdkafka's settings, passed through (TLS, SASL, rack, compression, queue sizes…). Those
    /// that Semel fixes are refused. Secrets are written `file:PATH` or `env:NAME`.
    pub settings: BTreeMap<String, String>,
    /// How long a plain question (a topic's settings, a partition's bounds) may take.
    pub patience: Duration,
    #[doc(hidden)]
    pub guards: Guards,
}

impl KafkaConfig {
    /// A cluster with the settings that Semel prefers.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            settings: BTreeMap::new(),
            patience: Duration::from_secs(15),
            guards: Guards::default(),
        }
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: BTreeMap<_, _> = self
            .settings
            .iter()
            .map(|(key, value)| (key, if is_secret(key) { "(secret)" } else { value.as_str() }))
            .collect();
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("settings", &shown)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// Settings on which exactly-once rests: ours alone.
const FIXED: &[&str] = &[
    "acks",
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "heartbeat.interval.ms",
    "isolation.level",
    "log.queue",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "session.timeout.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// How long a record of a feeder may wait for its acknowledgement: as long as brokers may be away.
const FEED_TIMEOUT_MS: &str = "600000";

/// Settings whose values nobody may read.
const SECRET: &[&str] = &[
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

fn is_secret(key: &str) -> bool {
    SECRET.contains(&key)
}

/// The settings of a cluster, checked, with secrets read. No `Debug`: it holds secrets.
pub(super) struct Settings {
    brokers: String,
    passed: BTreeMap<String, String>,
    pub(super) guards: Guards,
}

impl Settings {
    /// Checks what is passed through and reads the secrets.
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, LogError> {
        let mut passed = BTreeMap::new();
        for (key, value) in &config.settings {
            if FIXED.contains(&key.as_str()) {
                return Err(LogError::Refused(format!(
                    "the Kafka setting `{key}` is fixed by Semel, because exactly-once rests on \
                     it: remove it"
                )));
            }
            let value = if is_secret(key) { secret(key, value)? } else { value.clone() };
            passed.insert(key.clone(), value);
        }
        Ok(Self { brokers: config.brokers.clone(), passed, guards: config.guards })
    }

    /// Does the cluster run the group (KIP-848) and not the client? Then session, heartbeat and
    /// assignment are the cluster's, and members are dynamic (Kafka trap 32).
    pub(super) fn group_is_the_clusters(&self) -> bool {
        self.passed.get("group.protocol").is_some_and(|p| p.eq_ignore_ascii_case("consumer"))
    }

    /// A passed setting as a number of bytes or milliseconds.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.passed.get(key).and_then(|value| value.parse().ok())
    }

    /// What every client has: our preferences, then what is passed.
    fn base(&self, preferred: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "semel");
        config.set_log_level(RDKafkaLogLevel::Info);
        // EndTxn returns early; the next request meets CONCURRENT_TRANSACTIONS (trap 42).
        if self.guards.short_backoff {
            config.set("retry.backoff.ms", "5");
        }
        for (key, value) in preferred {
            config.set(*key, *value);
        }
        for (key, value) in &self.passed {
            config.set(key, value);
        }
        config
    }

    /// A client that only asks.
    pub(super) fn asking(&self) -> ClientConfig {
        let mut config = self.base(&[]);
        config.set("isolation.level", "read_uncommitted");
        without_group(&mut config);
        config
    }

    fn reading(&self, isolation: Isolation) -> ClientConfig {
        let mut preferred = vec![("fetch.wait.max.ms", "100")];
        if self.guards.short_fetch_backoff {
            preferred.push(("fetch.queue.backoff.ms", "5"));
        }
        if self.guards.bounded_queues {
            preferred.push(("queued.max.messages.kbytes", "16384"));
        }
        let mut config = self.base(&preferred);
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", if self.guards.no_reset { "error" } else { "latest" })
            .set(
                "isolation.level",
                match isolation {
                    Isolation::Committed => "read_committed",
                    Isolation::Uncommitted => "read_uncommitted",
                },
            );
        config
    }

    /// A reader. librdkafka wants a group's name for every assignment; nobody joins it.
    pub(super) fn reader(&self, isolation: Isolation) -> ClientConfig {
        let mut config = self.reading(isolation);
        without_group(&mut config);
        config.set("group.id", "semel.reader");
        config
    }

    /// Someone from outside who asks for a group's offsets and does not join.
    pub(super) fn observer(&self, group: &str) -> ClientConfig {
        let mut config = self.asking();
        config.set("group.id", group).set("enable.auto.commit", "false");
        config
    }

    /// A member's consumer (Kafka traps 12, 27, 31, 32).
    pub(super) fn member(&self, spec: &MemberSpec) -> ClientConfig {
        let mut config = self.reading(Isolation::Committed);
        config.set("group.id", &spec.group);
        if self.group_is_the_clusters() {
            return config;
        }
        let session = spec.session_timeout.as_millis();
        let strategy =
            if self.guards.cooperative { "cooperative-sticky" } else { "range,roundrobin" };
        config
            .set("session.timeout.ms", session.to_string())
            // What the group decides a member hears with its next heartbeat, so this is silence
            // for the partitions of a member that died.
            .set("heartbeat.interval.ms", (session / 6).max(1).to_string())
            .set("partition.assignment.strategy", strategy);
        if self.guards.static_membership {
            config.set("group.instance.id", &spec.instance);
        }
        config
    }

    /// A plain producer that waits an outage out (see [`super::Feeder`]).
    pub(super) fn feeder(&self) -> ClientConfig {
        let mut config = self.base(&[("linger.ms", "5"), ("queue.buffering.max.kbytes", "65536")]);
        config
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", FEED_TIMEOUT_MS)
            .set("partitioner", "consistent_random");
        without_group(&mut config);
        config
    }

    /// A transactional producer. All deadlines come from the one transaction timeout (trap 10).
    pub(super) fn producer(
        &self,
        id: &str,
        deadlines: Deadlines,
        reports: Reports,
    ) -> ClientConfig {
        let mut preferred = Vec::new();
        if self.guards.bounded_queues {
            preferred.push(("queue.buffering.max.kbytes", "65536"));
        }
        let mut config = self.base(&preferred);
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", deadlines.transaction.as_millis().to_string())
            .set("message.timeout.ms", deadlines.message.as_millis().to_string())
            .set(
                "delivery.report.only.error",
                match reports {
                    Reports::Errors => "true",
                    Reports::All => "false",
                },
            );
        without_group(&mut config);
        config
    }
}

/// Takes out what concerns members of a group only.
fn without_group(config: &mut ClientConfig) {
    for key in ["group.protocol", "group.remote.assignor", "max.poll.interval.ms"] {
        config.remove(key);
    }
}

/// Which delivery reports a producer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reports {
    /// Only failures (Kafka trap 40).
    Errors,
    /// All: `append` tells where its records are.
    All,
}

/// The deadlines of a producer, all derived from the transaction timeout (Kafka traps 9 and 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadlines {
    /// How long a transaction may stay open, and how long sending offsets, committing and
    /// aborting may take (librdkafka caps them to it).
    pub(super) transaction: Duration,
    /// How long a record may wait for its acknowledgement: less than the transaction.
    pub(super) message: Duration,
    /// How long initialising may take (librdkafka's cap is twice the transaction timeout).
    pub(super) init: Duration,
}

impl Deadlines {
    /// Derives the deadlines.
    pub(super) fn new(transaction: Duration) -> Result<Self, LogError> {
        if transaction < Duration::from_secs(1) || transaction > Duration::from_mins(15) {
            return Err(LogError::Refused(format!(
                "a transaction timeout of {transaction:?} is not possible: Kafka takes 1 s to \
                 15 min"
            )));
        }
        Ok(Self { transaction, message: transaction * 3 / 4, init: transaction * 2 })
    }
}

/// Reads a secret from where the setting points.
fn secret(key: &str, pointer: &str) -> Result<String, LogError> {
    let refused = |why: String| LogError::Refused(format!("the Kafka setting `{key}` {why}"));
    if let Some(path) = pointer.strip_prefix("file:") {
        return fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|e| refused(format!("points to the file {path}, which cannot be read: {e}")));
    }
    if let Some(name) = pointer.strip_prefix("env:") {
        return std::env::var(name).map_err(|_| {
            refused(format!("points to the environment variable {name}, which is not set"))
        });
    }
    Err(refused("is a secret: write `file:PATH` or `env:NAME` instead of the secret itself".into()))
}

/// Why a client could not be made, without the value that was refused: it may be a secret.
pub(super) fn client_error(error: &KafkaError) -> LogError {
    LogError::Refused(match error {
        KafkaError::ClientConfig(_, why, key, _) => {
            format!("the Kafka setting `{key}` is refused: {why}")
        }
        other => format!("the Kafka client cannot be made: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> KafkaConfig {
        let mut config = KafkaConfig::new("localhost:9092");
        config.settings.insert(key.into(), value.into());
        config
    }

    fn member(settings: &Settings) -> ClientConfig {
        settings.member(&MemberSpec {
            group: "g".into(),
            topic: semel_schemas::topic::TopicName::new("t").unwrap(),
            instance: "i".into(),
            transaction_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(6),
        })
    }

    #[test]
    fn what_exactly_once_rests_on_cannot_be_overridden() {
        for key in FIXED {
            let refused = Settings::new(&with(key, "1")).err().map(|e| e.to_string());
            assert!(refused.is_some_and(|text| text.contains(key)), "{key}");
        }
        assert!(Settings::new(&with("compression.type", "zstd")).is_ok());
    }

    #[test]
    fn a_secret_is_never_written_down_and_never_shown() {
        let literal = Settings::new(&with("sasl.password", "hunter2")).err().unwrap();
        assert!(!literal.to_string().contains("hunter2"));
        assert!(literal.to_string().contains("env:NAME"));
        let shown = format!("{:?}", with("sasl.password", "env:hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "hunter2\n").unwrap();
        let pointer = format!("file:{}", path.display());
        let settings = Settings::new(&with("sasl.password", &pointer)).unwrap();
        assert_eq!(settings.asking().get("sasl.password"), Some("hunter2"));
        let missing = Settings::new(&with("sasl.password", "env:SEMEL_NO_SUCH_VARIABLE"));
        assert!(missing.err().unwrap().to_string().contains("SEMEL_NO_SUCH_VARIABLE"));
    }

    #[test]
    fn a_refused_setting_is_named_without_its_value() {
        let error = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "no such property".into(),
            "sasl.passwort".into(),
            "hunter2".into(),
        );
        let text = client_error(&error).to_string();
        assert!(text.contains("sasl.passwort") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn trap_10_all_deadlines_come_from_the_transaction_timeout() {
        for seconds in [1, 10, 900] {
            let deadlines = Deadlines::new(Duration::from_secs(seconds)).unwrap();
            assert!(deadlines.message < deadlines.transaction);
            assert!(deadlines.init <= deadlines.transaction * 2);
        }
        assert!(Deadlines::new(Duration::from_millis(999)).is_err());
        assert!(Deadlines::new(Duration::from_secs(901)).is_err());
    }

    #[test]
    fn no_call_waits_longer_than_librdkafka_would_let_it() {
        // rdkafka_txnmgr.c caps init at twice the transaction timeout, the other calls at it; a
        // wait of ours beyond the cap would be a promise that is not kept.
        let deadlines = Deadlines::new(Duration::from_secs(10)).unwrap();
        assert_eq!(deadlines.init, Duration::from_secs(20));
        assert_eq!(deadlines.transaction, Duration::from_secs(10));
    }

    #[test]
    fn trap_42_a_refused_request_is_repeated_after_5_ms_and_not_100() {
        let mut config = KafkaConfig::new("localhost:9092");
        let deadlines = Deadlines::new(Duration::from_secs(10)).unwrap();
        let backoff = |config: &KafkaConfig| {
            let settings = Settings::new(config).unwrap();
            let client = settings.producer("id", deadlines, Reports::Errors);
            client.get("retry.backoff.ms").map(str::to_owned)
        };
        assert_eq!(backoff(&config).as_deref(), Some("5"));
        config.guards.short_backoff = false;
        assert_eq!(backoff(&config), None, "the library's own: 100");
    }

    #[test]
    fn trap_24_requests_in_flight_are_left_to_the_library() {
        let settings = Settings::new(&KafkaConfig::new("localhost:9092")).unwrap();
        let deadlines = Deadlines::new(Duration::from_secs(10)).unwrap();
        let producer = settings.producer("id", deadlines, Reports::Errors);
        for key in ["max.in.flight", "max.in.flight.requests.per.connection"] {
            assert_eq!(producer.get(key), None);
            assert!(Settings::new(&with(key, "6")).is_err(), "nobody may raise it");
        }
    }

    #[test]
    fn trap_32_the_new_protocol_is_offered_and_is_not_the_default() {
        let classic = member(&Settings::new(&KafkaConfig::new("localhost:9092")).unwrap());
        assert_eq!(classic.get("group.protocol"), None);
        assert_eq!(classic.get("group.instance.id"), Some("i"));
        assert_eq!(classic.get("session.timeout.ms"), Some("6000"));
        let new = member(&Settings::new(&with("group.protocol", "consumer")).unwrap());
        assert_eq!(new.get("group.protocol"), Some("consumer"));
        for key in [
            "group.instance.id",
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "partition.assignment.strategy",
        ] {
            assert_eq!(new.get(key), None, "{key}");
        }
    }

    #[test]
    fn trap_36_queues_are_bounded() {
        // What librdkafka takes, given or not: kilobytes of a consumer and of a producer.
        let bounded = |guarded: bool| {
            let mut config = KafkaConfig::new("localhost:9092");
            config.guards.bounded_queues = guarded;
            let settings = Settings::new(&config).unwrap();
            let deadlines = Deadlines::new(Duration::from_secs(10)).unwrap();
            let producer = settings.producer("id", deadlines, Reports::Errors);
            let kbytes = |config: ClientConfig, key: &str| -> u64 {
                config.create_native_config().unwrap().get(key).unwrap().parse().unwrap()
            };
            kbytes(member(&settings), "queued.max.messages.kbytes") <= 16 << 10
                && kbytes(producer, "queue.buffering.max.kbytes") <= 64 << 10
        };
        assert!(bounded(true));
        assert!(!bounded(false), "the library's own bounds are 64 MB and 1 GB");
    }

    #[test]
    fn the_bounds_of_queues_may_be_set() {
        let settings = Settings::new(&KafkaConfig::new("localhost:9092")).unwrap();
        assert_eq!(member(&settings).get("queued.max.messages.kbytes"), Some("16384"));
        let deadlines = Deadlines::new(Duration::from_secs(10)).unwrap();
        let producer = settings.producer("id", deadlines, Reports::Errors);
        assert_eq!(producer.get("queue.buffering.max.kbytes"), Some("65536"));
        let other = Settings::new(&with("queue.buffering.max.kbytes", "1024")).unwrap();
        let producer = other.producer("id", deadlines, Reports::Errors);
        assert_eq!(producer.get("queue.buffering.max.kbytes"), Some("1024"));
    }
}
