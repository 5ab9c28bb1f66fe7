//! The sink lane over a database made of data: away for long, answers lost, rows moved by another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use semel_connectors::sink::{SinkError, Written};
use semel_schemas::{
    fault::{Fault, FaultCode},
    header,
    record::Record,
    topic::{NextOffset, Offset, Partition},
};

use super::toys::{P0, raw, text_of, topic_ref};
use crate::{
    engine::{
        counts::Board,
        sink_lane::{SinkAnswer, SinkAsk, SinkLane, SinkParts, SinkPort},
        status::Status,
    },
    log::{Cleanup, Isolation, Log, MemberSpec, TopicSpec, sim::SimLog},
    testing::{Faults, FaultyLog},
};

#[derive(Debug, Default)]
struct Base {
    offset: Option<NextOffset>,
    rows: Vec<String>,
    down: bool,
    lose_answer: bool,
    happens: bool,
    delayed: u64,
    ticks: u32,
    inbox: Vec<(Partition, u64, SinkAnswer)>,
    outbox: BTreeMap<Offset, (Record, Fault)>,
    looks: u32,
    looks_refused: u32,
}

impl Base {
    fn write(&mut self, batch: &semel_connectors::sink::SinkBatch) -> Result<Written, SinkError> {
        if self.offset != batch.expected {
            return Ok(Written::Moved { found: self.offset });
        }
        let lost = std::mem::take(&mut self.lose_answer);
        if lost && !self.happens {
            return Err(SinkError::Unknown("lost".into()));
        }
        self.offset = Some(batch.next);
        self.ticks += u32::from(batch.records.is_empty());
        let bad = |r: &&Record| text_of(r) == "bad";
        let refused = batch.records.iter().filter(bad);
        let refused = refused.map(|r| (r.clone(), Fault::new(FaultCode::WrongType, "bad")));
        let refused: Vec<_> = refused.collect();
        self.outbox.retain(|offset, _| !batch.reported.contains(offset));
        self.outbox.extend(refused.iter().map(|(r, fault)| (r.offset, (r.clone(), fault.clone()))));
        self.rows.extend(batch.records.iter().filter(|r| !bad(r)).map(text_of));
        if lost {
            return Err(SinkError::Unknown("lost".into()));
        }
        let rows = batch.records.len() as u64;
        Ok(Written::Done { rows, delayed: self.delayed, refused })
    }

    /// The two oldest: so few that the lane has to ask again.
    fn unreported(&mut self) -> Result<Vec<(Record, Fault)>, SinkError> {
        if self.looks_refused > 0 {
            self.looks_refused -= 1;
            return Err(SinkError::Unavailable("away".into()));
        }
        self.looks += 1;
        Ok(self.outbox.values().take(2).cloned().collect())
    }
}

#[derive(Clone, Debug, Default)]
struct Port(Arc<Mutex<Base>>);

impl SinkPort for Port {
    fn ask(&mut self, partition: Partition, life: u64, ask: SinkAsk) {
        let mut base = self.0.lock().unwrap();
        let away = || SinkError::Unavailable("away".into());
        let answer = match (ask, base.down) {
            (SinkAsk::Position, true) => SinkAnswer::Position(Err(away())),
            (SinkAsk::Position, false) => SinkAnswer::Position(Ok(base.offset)),
            (SinkAsk::Unreported, true) => SinkAnswer::Unreported(Err(away())),
            (SinkAsk::Unreported, false) => SinkAnswer::Unreported(base.unreported()),
            (SinkAsk::Write(_), true) => SinkAnswer::Write(Err(away())),
            (SinkAsk::Write(batch), false) => SinkAnswer::Write(base.write(&batch)),
        };
        base.inbox.push((partition, life, answer));
    }
    fn answers(&mut self) -> Vec<(Partition, u64, SinkAnswer)> {
        std::mem::take(&mut self.0.lock().unwrap().inbox)
    }
}

struct World {
    log: SimLog,
    faults: Faults,
    port: Port,
    lane: SinkLane,
}

impl World {
    fn new() -> Self {
        let log = SimLog::new(1_000);
        for name in ["rows", "t.dead-letter"] {
            log.create_topic(&TopicSpec {
                name: topic_ref(name, 1).name,
                partitions: 1,
                cleanup: Cleanup::Delete { retention_ms: None },
                replication: None,
                allow_one_broker: true,
            })
            .unwrap();
        }
        let (faults, port) = (Faults::default(), Port::default());
        let lane = Self::join(&log, &faults, &port, "0");
        Self { log, faults, port, lane }
    }
    fn join(log: &SimLog, faults: &Faults, port: &Port, process: &str) -> SinkLane {
        SinkLane::join(SinkParts {
            name: "sink".into(),
            topic: topic_ref("rows", 1),
            dead_letter: topic_ref("t.dead-letter", 1),
            log: Arc::new(FaultyLog::new(Arc::new(log.clone()), faults.clone())),
            port: Box::new(port.clone()),
            board: Arc::new(Board::default()),
            status: Arc::new(Status::default()),
            member: MemberSpec {
                group: "semel.t.sink".into(),
                topic: topic_ref("rows", 1).name,
                instance: format!("t.sink.{process}.0"),
                transaction_timeout: Duration::from_secs(10),
                session_timeout: Duration::from_secs(6),
            },
        })
        .unwrap()
    }
    fn give(&self, texts: &[&str]) {
        let of = |text: &&str| raw("rows", "k", Some(text.as_bytes()), "row");
        self.log.append(texts.iter().map(of).collect()).unwrap();
    }
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.step();
        }
    }
    fn step(&mut self) {
        self.log.advance(100);
        let now = semel_schemas::time::WallTime(self.log.now_ms());
        self.lane.step(now, Duration::ZERO).unwrap();
    }
    fn rows(&self) -> Vec<String> {
        self.port.0.lock().unwrap().rows.clone()
    }
    fn group(&self) -> BTreeMap<Partition, NextOffset> {
        self.log.committed("semel.t.sink", &topic_ref("rows", 1).name).unwrap()
    }
    /// The process is killed: nobody is told anything, and another comes in its place.
    fn crash(&mut self) {
        self.lane = Self::join(&self.log, &self.faults, &self.port, "1");
        self.port.0.lock().unwrap().inbox.clear();
    }
    fn outbox(&self) -> usize {
        self.port.0.lock().unwrap().outbox.len()
    }
    fn letters(&self) -> usize {
        self.letter_ids().len()
    }
    fn letter_ids(&self) -> Vec<String> {
        let mut reader = self.log.reader(Isolation::Committed).unwrap();
        reader.seek(&topic_ref("t.dead-letter", 1).name, P0, NextOffset(0)).unwrap();
        let letters = reader.read(1_000, Duration::ZERO).unwrap();
        letters.iter().map(|l| l.headers.get_str(header::ID).unwrap().to_owned()).collect()
    }
}

#[test]
fn rows_follow_the_topic_and_the_group_follows_the_rows() {
    let mut world = World::new();
    world.give(&["1", "bad", "2"]);
    world.run(2);
    assert_eq!(world.rows(), ["1", "2"]);
    assert_eq!(world.letters(), 1);
    assert_eq!(world.group()[&P0], NextOffset(3));
}

#[test]
fn a_database_away_for_ten_minutes_costs_no_memory_and_no_partition() {
    let mut world = World::new();
    world.give(&["0"]);
    world.run(1);
    world.port.0.lock().unwrap().down = true;
    for n in 1..=20_000 {
        world.give(&[&n.to_string()]);
    }
    world.run(600);
    let waiting = world.lane.buffered();
    assert!(waiting <= 8_000, "{waiting} records in memory");
    assert!(world.faults.calls().contains(&"pause"));
    assert_eq!(world.rows().len(), 1);
    world.port.0.lock().unwrap().down = false;
    world.run(20);
    let want: Vec<String> = (0..=20_000).map(|n| n.to_string()).collect();
    assert_eq!(world.rows(), want, "caught up, in order, in the same membership");
}

#[test]
fn a_lost_answer_is_settled_by_the_offset_row() {
    for happens in [true, false] {
        let mut world = World::new();
        world.give(&["1"]);
        world.run(1);
        {
            let mut base = world.port.0.lock().unwrap();
            (base.lose_answer, base.happens, base.delayed) = (true, happens, 3);
        }
        world.give(&["2", "3"]);
        world.run(5);
        assert_eq!(world.rows(), ["1", "2", "3"]);
        assert!(world.port.0.lock().unwrap().ticks > 0, "what waits is looked at again");
    }
}

#[test]
fn rows_that_another_has_written_are_not_written_again() {
    let mut world = World::new();
    world.give(&["1"]);
    world.run(1);
    world.give(&["2"]);
    let end = world.log.append(vec![raw("rows", "k", Some(b"3"), "row")]).unwrap()[0].1;
    world.port.0.lock().unwrap().offset = Some(NextOffset(end.0));
    world.run(2);
    assert_eq!(world.rows(), ["1", "3"]);
}

#[cfg(feature = "sabotage")]
#[test]
fn what_was_fetched_before_another_wrote_is_fetched_again() {
    use semel_schemas::sabotage::Sabotage;

    use super::traps::both;

    let [with, without] = both(Sabotage::SinkBufferKept, || {
        let mut world = World::new();
        world.give(&["1"]);
        world.run(1);
        world.give(&["2"]);
        let end = world.log.append(vec![raw("rows", "k", Some(b"3"), "row")]).unwrap()[0].1;
        world.port.0.lock().unwrap().offset = Some(NextOffset(end.0));
        // The write is under way when the next one comes.
        world.step();
        world.give(&["4"]);
        world.run(2);
        world.rows()
    });
    assert_eq!(with, ["1", "3", "4"]);
    assert_eq!(without, ["1", "4", "3", "4"], "an older row is written over a newer one");
}

#[test]
fn another_process_goes_on_where_the_rows_end() {
    let mut world = World::new();
    world.give(&["1"]);
    world.run(1);
    world.faults.down();
    world.give(&["2", "bad"]);
    world.run(1);
    let lane = World::join(&world.log, &world.faults, &world.port, "1");
    world.faults.up();
    let old = std::mem::replace(&mut world.lane, lane);
    old.drain(semel_schemas::time::WallTime(world.log.now_ms())).unwrap();
    world.give(&["3"]);
    world.run(2);
    assert_eq!(world.rows(), ["1", "2", "3"]);
    assert_eq!(world.letters(), 1);
}

#[test]
fn a_crash_between_the_rows_and_the_telling_loses_no_dead_letter() {
    let mut world = World::new();
    world.give(&["1"]);
    world.run(1);
    world.faults.down();
    world.give(&["bad", "2", "bad", "bad", "bad", "bad"]);
    world.run(2);
    assert_eq!((world.letters(), world.outbox()), (0, 5));
    world.crash();
    world.faults.up();
    world.give(&["3"]);
    world.run(20);
    let ids = world.letter_ids();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 5, "{ids:?}");
    assert_eq!(ids.len(), 5, "each once, for none had been told: {ids:?}");
    assert_eq!((world.outbox(), world.rows()), (0, vec!["1".into(), "2".into(), "3".into()]));
    assert!(world.lane.is_settled());
}

#[test]
fn a_crash_after_the_telling_tells_again_with_the_same_id() {
    let mut world = World::new();
    world.give(&["bad"]);
    while world.letters() == 0 {
        assert!(world.log.now_ms() < 60_000, "no letter came");
        world.step();
    }
    assert_eq!(world.outbox(), 1, "it is taken out by a later write");
    world.crash();
    world.run(20);
    let ids = world.letter_ids();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
    assert_eq!(world.outbox(), 0);
}

#[test]
fn a_lost_answer_loses_no_dead_letter() {
    for happens in [true, false] {
        let mut world = World::new();
        world.give(&["1"]);
        world.run(1);
        {
            let mut base = world.port.0.lock().unwrap();
            (base.lose_answer, base.happens) = (true, happens);
        }
        world.give(&["bad", "2", "bad", "bad"]);
        world.run(10);
        assert_eq!((world.letters(), world.outbox()), (3, 0), "happens: {happens}");
        assert_eq!(world.rows(), ["1", "2"]);
    }
}

#[test]
fn a_lost_answer_to_the_taking_out_tells_nothing_again() {
    for happens in [true, false] {
        let mut world = World::new();
        world.give(&["bad"]);
        while world.letters() == 0 {
            assert!(world.log.now_ms() < 60_000, "no letter came");
            world.step();
        }
        {
            let mut base = world.port.0.lock().unwrap();
            (base.lose_answer, base.happens) = (true, happens);
        }
        world.run(10);
        assert_eq!((world.letters(), world.outbox()), (1, 0), "happens: {happens}");
    }
}

#[test]
fn refusals_that_never_end_do_not_keep_the_outbox_from_being_read() {
    let mut world = World::new();
    world.give(&["1"]);
    world.run(1);
    world.faults.down();
    world.give(&["bad", "bad", "bad"]);
    world.run(2);
    world.crash();
    world.faults.up();
    for _ in 0..200 {
        world.give(&["bad"]);
        world.step();
    }
    assert!(world.port.0.lock().unwrap().looks >= 3, "two of the outbox at a time, then none");
    world.run(10);
    assert_eq!((world.letters(), world.outbox()), (203, 0));
    let looks = world.port.0.lock().unwrap().looks;
    world.give(&["bad"]);
    world.run(2);
    assert_eq!(world.port.0.lock().unwrap().looks, looks, "what is known is not looked for");
}

#[test]
fn an_outbox_that_cannot_be_read_is_read_later() {
    let mut world = World::new();
    world.give(&["1"]);
    world.run(1);
    world.faults.down();
    world.give(&["bad"]);
    world.run(2);
    world.crash();
    world.faults.up();
    world.port.0.lock().unwrap().looks_refused = 3;
    world.run(20);
    assert_eq!((world.letters(), world.outbox()), (1, 0));
    assert_eq!(world.port.0.lock().unwrap().looks_refused, 0);
}

#[test]
fn what_a_predecessors_late_tick_refused_is_told_within_minutes() {
    let mut world = World::new();
    world.give(&["1"]);
    world.run(2);
    let late = raw("rows", "k", Some(b"bad"), "row");
    let offset = Offset(0);
    let record = Record {
        topic: late.topic,
        partition: P0,
        offset,
        timestamp_ms: 1,
        key: late.key,
        value: late.value,
        headers: late.headers,
    };
    let fault = Fault::new(FaultCode::Poison, "late");
    world.port.0.lock().unwrap().outbox.insert(offset, (record, fault));
    world.run(120);
    assert_eq!((world.letters(), world.outbox()), (1, 0));
}
