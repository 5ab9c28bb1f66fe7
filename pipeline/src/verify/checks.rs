//! What is refused before anything starts: a cluster or a database on which a verification would say
//! nothing, or would do harm.
//!
//! Asking (`check`) is apart from judging (`refusals`), which is a pure function tested as a table.
//! Invariant: a refusal leaves nothing behind, and touches nothing that was there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use semel_schemas::{
    header::Headers,
    record::OutRecord,
    topic::{NextOffset, Partition, TopicName},
};

use super::{
    Options, VerifyError,
    world::{World, failed},
};
use crate::log::{Cleanup, Isolation, Log, LogError, TopicSpec};

/// Furthest that clocks may be apart, milliseconds. Timers, retention and the worst gap are read from
/// three clocks.
const SKEW_MAX_MS: u64 = 2_000;
/// How long the broker's clock may take to be read.
const CLOCK_MAX: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Clone, Debug)]
struct Facts {
    brokers: usize,
    one_broker_meant: bool,
    /// Why there are no transactions.
    no_transactions: Option<String>,
    /// The shortest time that a broker keeps offsets of an empty group.
    offsets_kept: Option<Duration>,
    /// The time that is needed.
    needed: Duration,
    /// What bears our names already.
    taken: Vec<String>,
    may_create_schema: bool,
    broker_skew_ms: u64,
    database_skew_ms: u64,
}

/// Everything that stands against a verification, one sentence each.
fn refusals(facts: &Facts) -> Vec<String> {
    let mut refusals = Vec::new();
    if !facts.taken.is_empty() {
        refusals.push(format!(
            "{} already there: choose another namespace, or remove what an earlier run with --keep \
             left",
            facts.taken.join(", ")
        ));
    }
    if facts.brokers < 3 && !facts.one_broker_meant {
        refusals.push(format!(
            "the cluster has {} broker(s), so nothing would survive the loss of one: add brokers, or \
             say that one broker is meant (SEMEL_ONE_BROKER=true)",
            facts.brokers
        ));
    }
    if let Some(reason) = &facts.no_transactions {
        refusals.push(format!(
            "the cluster has no transactions for us, and without them nothing is exactly once: \
             {reason}"
        ));
    }
    if let Some(kept) = facts.offsets_kept.filter(|kept| *kept < facts.needed) {
        refusals.push(format!(
            "the brokers forget the offsets of groups after {} min (offsets.retention.minutes), but \
             this run may take {} min: raise the setting, or give a shorter --duration",
            kept.as_secs() / 60,
            facts.needed.as_secs().div_ceil(60)
        ));
    }
    if !facts.may_create_schema {
        refusals.push(
            "this role may not create schemas in the database: grant CREATE on the database, or use \
             another role"
                .to_owned(),
        );
    }
    for (what, skew) in [("broker", facts.broker_skew_ms), ("database", facts.database_skew_ms)] {
        if skew > SKEW_MAX_MS {
            refusals.push(format!(
                "the clock of the {what} and the clock of this machine are {}.{} s apart, which would \
                 make nonsense of times: synchronise the clocks",
                skew / 1_000,
                skew % 1_000 / 100
            ));
        }
    }
    refusals
}

/// Looks at cluster and database.
///
/// # Errors
/// [`VerifyError::Refused`] with every reason; [`VerifyError::Failed`] if they cannot be asked.
pub(super) fn check(world: &World, options: &Options, needed: Duration) -> Result<(), VerifyError> {
    let mut facts = Facts {
        brokers: world.tools.brokers().map_err(failed)?.len(),
        one_broker_meant: options.log.allow_one_broker,
        no_transactions: None,
        offsets_kept: offsets_kept(world)?,
        needed,
        taken: taken(world)?,
        may_create_schema: may_create_schema(world)?,
        broker_skew_ms: 0,
        database_skew_ms: database_skew(world)?,
    };
    // What would write is asked only where it does no harm.
    if facts.taken.is_empty() {
        facts.no_transactions = no_transactions(world)?;
        if facts.no_transactions.is_none() && (facts.brokers >= 3 || facts.one_broker_meant) {
            facts.broker_skew_ms = broker_skew(world, &facts)?;
        }
    }
    let refusals = refusals(&facts);
    if refusals.is_empty() { Ok(()) } else { Err(VerifyError::Refused(refusals.join("\nsemel: "))) }
}

/// Refuses topics of the plan that would forget records before they are compared.
///
/// # Errors
/// [`VerifyError::Refused`].
pub(super) fn check_retention(topics: &[TopicSpec], needed: Duration) -> Result<(), VerifyError> {
    for topic in topics {
        if let Cleanup::Delete { retention_ms: Some(kept) } = topic.cleanup
            && u128::from(kept) < needed.as_millis()
        {
            return Err(VerifyError::Refused(format!(
                "topic `{}` keeps records for {kept} ms, but this run may take {} ms: raise its \
                 retention_ms, or give a shorter --duration",
                topic.name,
                needed.as_millis()
            )));
        }
    }
    Ok(())
}

fn no_transactions(world: &World) -> Result<Option<String>, VerifyError> {
    match world.tools.check_transactions() {
        Ok(()) => Ok(None),
        Err(LogError::Unavailable(text) | LogError::Refused(text)) => Ok(Some(text)),
        Err(error) => Err(failed(error)),
    }
}

/// `None` where nobody may ask: then it is as it is.
fn offsets_kept(world: &World) -> Result<Option<Duration>, VerifyError> {
    let mut least = None;
    for broker in world.tools.brokers().map_err(failed)? {
        let minutes = match world.tools.broker_setting(broker, "offsets.retention.minutes") {
            Ok(minutes) => minutes.and_then(|text| text.parse::<u64>().ok()),
            Err(LogError::Refused(_)) => None,
            Err(error) => return Err(failed(error)),
        };
        let kept = minutes.map(|minutes| Duration::from_secs(minutes * 60));
        least = match (least, kept) {
            (Some(least), Some(kept)) => Some(Duration::min(least, kept)),
            (known, None) | (None, known) => known,
        };
    }
    Ok(least)
}

fn taken(world: &World) -> Result<Vec<String>, VerifyError> {
    let mut taken: Vec<String> =
        world.topics()?.iter().map(|name| format!("topic `{name}`")).take(3).collect();
    let schema = format!(
        "SELECT CAST(count(*) AS TEXT) FROM pg_catalog.pg_namespace WHERE nspname = '{}'",
        world.schema
    );
    if world.number(&schema)? > 0 {
        taken.push(format!("schema `{}`", world.schema));
    }
    for group in world.tools.groups().map_err(failed)? {
        if group.starts_with(&format!("semel.{}.", world.namespace)) {
            taken.push(format!("group `{group}`"));
        }
    }
    Ok(taken)
}

fn may_create_schema(world: &World) -> Result<bool, VerifyError> {
    let sql = "SELECT CAST(CASE WHEN has_database_privilege(current_database(), 'CREATE') \
               THEN 1 ELSE 0 END AS TEXT)";
    Ok(world.number(sql)? == 1)
}

/// Milliseconds since 1970, by our clock.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How far a clock is out of the interval in which it was read.
fn outside(clock: u64, before: u64, after: u64) -> u64 {
    before.saturating_sub(clock).max(clock.saturating_sub(after))
}

fn database_skew(world: &World) -> Result<u64, VerifyError> {
    let sql = "SELECT CAST(CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS TEXT)";
    // The first question may have to connect first.
    world.number(sql)?;
    let before = now_ms();
    let clock = world.number(sql)?;
    Ok(outside(clock, before, now_ms()))
}

/// Reads the broker's clock from a record that it stamped, in a topic that is removed again: which
/// shows too that we may create, write, read and delete.
fn broker_skew(world: &World, facts: &Facts) -> Result<u64, VerifyError> {
    let name = world.topic("clock")?;
    let copies = if facts.brokers >= 3 { 3 } else { 1 };
    let made = world.tools.create_clock(&name, copies);
    let read = made.and_then(|()| read_clock(world, &name));
    let gone = world.tools.delete_topics(&[name]);
    let refuse = |error: LogError| match error {
        LogError::Refused(text) => VerifyError::Refused(format!("a right is missing: {text}")),
        error => failed(error),
    };
    let skew = read.map_err(refuse)?;
    gone.map_err(refuse)?;
    Ok(skew)
}

fn read_clock(world: &World, name: &TopicName) -> Result<u64, LogError> {
    let before = now_ms();
    let mut feeder = world.tools.feeder()?;
    feeder.offer(&OutRecord {
        topic: name.clone(),
        partition: Some(Partition(0)),
        key: None,
        value: Some(b"what time is it?".to_vec()),
        headers: Headers::new(),
    })?;
    feeder.finish(CLOCK_MAX, &|| world.stopped())?;
    let after = now_ms();
    let mut reader = world.log.reader(Isolation::Committed)?;
    reader.seek(name, Partition(0), NextOffset::ZERO)?;
    let records = reader.read(1, CLOCK_MAX)?;
    let Some(record) = records.first() else {
        return Err(LogError::Unavailable(format!("topic `{name}` was written and is empty")));
    };
    Ok(outside(record.timestamp_ms, before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            brokers: 3,
            one_broker_meant: false,
            no_transactions: None,
            offsets_kept: Some(Duration::from_secs(7 * 24 * 3_600)),
            needed: Duration::from_secs(600),
            taken: Vec::new(),
            may_create_schema: true,
            broker_skew_ms: 0,
            database_skew_ms: 1_999,
        }
    }

    #[test]
    fn each_reason_is_told_with_what_to_do() {
        assert_eq!(refusals(&good()), Vec::<String>::new());
        assert!(refusals(&Facts { brokers: 1, one_broker_meant: true, ..good() }).is_empty());
        assert!(refusals(&Facts { offsets_kept: None, ..good() }).is_empty());
        for (facts, what) in [
            (Facts { brokers: 1, ..good() }, "SEMEL_ONE_BROKER"),
            (Facts { brokers: 2, ..good() }, "2 broker(s)"),
            (Facts { no_transactions: Some("no API".into()), ..good() }, "no API"),
            (
                Facts { offsets_kept: Some(Duration::from_secs(60)), ..good() },
                "after 1 min (offsets.retention.minutes), but this run may take 10 min",
            ),
            (
                Facts { taken: vec!["topic `x.events`".into()], ..good() },
                "topic `x.events` already",
            ),
            (Facts { may_create_schema: false, ..good() }, "grant CREATE"),
            (Facts { broker_skew_ms: 2_500, ..good() }, "clock of the broker"),
            (Facts { database_skew_ms: 61_700, ..good() }, "61.7 s apart"),
        ] {
            let found = refusals(&facts);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(what), "`{what}` is not in: {}", found[0]);
        }
        let all = Facts { brokers: 1, may_create_schema: false, ..good() };
        assert_eq!(refusals(&all).len(), 2, "every reason at once");
    }

    #[test]
    fn a_clock_is_right_within_the_time_that_it_took_to_read_it() {
        for (clock, skew) in [(99, 1), (100, 0), (150, 0), (200, 0), (203, 3)] {
            assert_eq!(outside(clock, 100, 200), skew, "{clock}");
        }
    }

    #[test]
    fn a_retention_shorter_than_the_run_is_refused() {
        let topic = |retention_ms| TopicSpec {
            name: TopicName::new("v.events").unwrap(),
            partitions: 1,
            cleanup: Cleanup::Delete { retention_ms },
            replication: None,
            allow_one_broker: true,
        };
        let minute = Duration::from_secs(60);
        assert!(check_retention(&[topic(None), topic(Some(60_000))], minute).is_ok());
        let refused = check_retention(&[topic(Some(59_999))], minute).unwrap_err().to_string();
        assert!(refused.contains("v.events") && refused.contains("retention_ms"), "{refused}");
    }
}
