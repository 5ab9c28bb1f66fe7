//! A toy operator that does what its input says, and short words for the tests.
//!
//! A script is a list of commands with `;` between: `add` counts the key and emits the count ·
//! `emit:TEXT` · `fwd` passes the record on · `fault` · `panic` · `many:N` · `big:N` ·
//! `wall:NAME:MS=SCRIPT` and `event:NAME:SLOT=SCRIPT` set timers (with `|` for `;` inside) ·
//! `cancel:NAME` · `effect:ID:ORDER` · `forget:ID` · `now` · `longkey:N`.

use std::sync::Arc;

use semel_operators::operator::{Context, Input, Operator, StoreDecl, TimerKey, To};
use semel_schemas::{
    effect::{Effect, Outcome},
    fault::{Fault, FaultCode},
    header::{self, Headers},
    progress::{PROGRESS, Progress},
    record::{OutRecord, Record},
    solana::Address,
    time::{Slot, WallTime},
    topic::{Partition, TopicName},
};

use crate::{
    engine::topology::{Stage, TopicRef},
    testing::{Driver, DriverError, plain_stage},
};

pub(super) const P0: Partition = Partition(0);
pub(super) const P1: Partition = Partition(1);

#[derive(Debug)]
pub(super) struct Toy {
    pub(super) name: &'static str,
    pub(super) takes: &'static str,
    pub(super) emits: &'static str,
    pub(super) begin: &'static str,
}

impl Toy {
    pub(super) const PLAIN: Self = Self { name: "toy", takes: "in", emits: "out", begin: "" };

    fn run(&self, ctx: &mut Context<'_>, key: &[u8], script: &str) -> Result<(), Fault> {
        for command in script.split(';').filter(|c| !c.is_empty()) {
            let (head, then) = command.split_once('=').unwrap_or((command, ""));
            let words: Vec<&str> = head.split(':').collect();
            let word = |i: usize| words.get(i).copied().unwrap_or_default();
            let number = |i: usize| word(i).parse::<u64>().unwrap_or_default();
            let payload = then.replace('|', ";").into_bytes();
            match word(0) {
                "add" => {
                    let n = ctx.get_json::<u64>(self.name, key).unwrap_or_default() + 1;
                    ctx.put_json(self.name, key, &n);
                    self.emit(ctx, key, &n.to_string());
                }
                "emit" => self.emit(ctx, key, word(1)),
                "fault" => return Err(Fault::new(FaultCode::WrongType, "the toy says no")),
                "refuse" => ctx.refuse(Fault::new(FaultCode::WrongType, "the toy will remember")),
                "panic" => panic!("the toy is broken"),
                "many" => (0..number(1)).for_each(|n| self.emit(ctx, key, &n.to_string())),
                "big" => self.emit(ctx, key, &"x".repeat(number(1) as usize)),
                "wall" => {
                    let at = ctx.now().plus_ms(number(2)).0;
                    ctx.set_timer(TimerKey::wall(word(1)), at, payload);
                }
                "event" => ctx.set_timer(TimerKey::complete(word(1)), number(2), payload),
                "cancel" => ctx.cancel_timer(TimerKey::wall(word(1))),
                "effect" => ctx.effect(word(1), word(2), effect(word(1))),
                "forget" => ctx.forget_effect(word(1)),
                "now" => self.emit(ctx, key, &ctx.now().to_string()),
                "longkey" => ctx.put(self.name, &vec![b'k'; number(1) as usize], vec![1]),
                other => {
                    return Err(Fault::new(FaultCode::Undecodable, format!("what is {other}")));
                }
            }
        }
        Ok(())
    }

    fn emit(&self, ctx: &mut Context<'_>, key: &[u8], text: &str) {
        ctx.emit(To::Next, self.emits, key, Some(text.as_bytes().to_vec()));
    }
}

/// An effect that is recognised by its chain's name.
pub(super) fn effect(name: &str) -> Effect {
    Effect::FetchSolana {
        chain: name.to_owned(),
        cursor: None,
        from_slot: Slot(0),
        max_blocks: 1,
        program: Address([0; 32]),
    }
}

pub(super) fn name_of(effect: &Effect) -> String {
    match effect {
        Effect::FetchSolana { chain, .. } => chain.clone(),
        other => format!("{other:?}"),
    }
}

pub(super) fn said(text: &str) -> Outcome {
    Outcome::Rejected { text: text.to_owned() }
}

impl Operator for Toy {
    fn name(&self) -> &'static str {
        self.name
    }
    fn stores(&self) -> &'static [StoreDecl] {
        &[]
    }
    fn takes(&self, kind: &str) -> bool {
        kind == self.takes
    }
    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        match input {
            Input::Begin => self.run(ctx, b"begin", self.begin),
            Input::Record(record) => {
                let text = record.value.clone().ok_or_else(|| {
                    Fault::new(FaultCode::UnexpectedTombstone, "the toy takes no tombstones")
                })?;
                let text = String::from_utf8(text)
                    .map_err(|_| Fault::new(FaultCode::Undecodable, "no text"))?;
                if text == "fwd" {
                    ctx.forward(record);
                    return Ok(());
                }
                self.run(ctx, &record.key, &text)
            }
            Input::Timer { key, payload } => {
                let script = String::from_utf8_lossy(&payload).into_owned();
                self.run(ctx, key.name.as_bytes(), &script)
            }
            Input::Outcome { id, outcome } => {
                let text = match outcome {
                    Outcome::Rejected { text } => text,
                    other => format!("{other:?}"),
                };
                if text.starts_with("run ") {
                    return self.run(ctx, id.as_bytes(), text.trim_start_matches("run "));
                }
                self.emit(ctx, id.as_bytes(), &text);
                Ok(())
            }
            Input::Progress(time) => {
                let complete = time.complete.map_or(0, |s| s.0);
                self.emit(ctx, b"progress", &format!("complete {complete}"));
                Ok(())
            }
        }
    }
}

/// One stage `s` of one toy: topic `in` → topic `out`.
pub(super) fn stage(partitions: u32) -> Stage {
    plain_stage("t", "s", ("in", "out"), partitions, vec![Arc::new(Toy::PLAIN)]).unwrap()
}

pub(super) fn driver(stage: Stage) -> Driver {
    Driver::of_stages(vec![Arc::new(stage)]).unwrap()
}

/// A driver of [`stage`] with one partition, idle after its start.
pub(super) fn one() -> Driver {
    let mut driver = driver(stage(1));
    driver.run_until_idle().unwrap();
    driver
}

pub(super) fn topic_ref(name: &str, partitions: u32) -> TopicRef {
    TopicRef { name: TopicName::new(name).unwrap(), partitions }
}

pub(super) fn text_of(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

/// Everything that a test looks at again and again.
pub(super) trait Look {
    fn give(&mut self, key: &str, script: &str);
    fn run(&mut self);
    fn outs(&self) -> Vec<String>;
    fn of_key(&self, key: &str) -> Vec<String>;
    fn letters(&self) -> Vec<Record>;
    fn count_of(&self, partition: Partition, key: &str) -> u64;
    fn progress(&mut self, source: &str, complete: u64);
    fn asked(&self) -> Vec<String>;
    fn say(&mut self, effect: &str, text: &str);
    fn stopped(&mut self) -> String;
}

impl Look for Driver {
    /// A record for the toy.
    fn give(&mut self, key: &str, script: &str) {
        self.pipe("in", key, script, "in").unwrap();
    }
    fn run(&mut self) {
        self.run_until_idle().unwrap();
    }
    /// The committed values of topic `out`; progress left out.
    fn outs(&self) -> Vec<String> {
        let records = self.read("out").unwrap();
        records
            .iter()
            .filter(|r| r.headers.get_str(header::TYPE) != Some(PROGRESS))
            .map(text_of)
            .collect()
    }
    fn of_key(&self, key: &str) -> Vec<String> {
        let records = self.read("out").unwrap();
        let of_key = |r: &&Record| r.key.as_deref() == Some(key.as_bytes());
        records.iter().filter(of_key).map(text_of).collect()
    }
    fn letters(&self) -> Vec<Record> {
        self.read("t.dead-letter").unwrap()
    }
    /// The toy's count of a key.
    fn count_of(&self, partition: Partition, key: &str) -> u64 {
        self.state("s", partition, "toy", key.as_bytes())
            .map_or(0, |bytes| serde_json::from_slice(&bytes).unwrap())
    }
    /// A progress record into partition 0.
    fn progress(&mut self, source: &str, complete: u64) {
        let progress = Progress {
            source: source.to_owned(),
            complete: Slot(complete),
            finalized: Slot(complete),
            at: WallTime(0),
        };
        self.pipe_raw(raw("in", source, Some(&semel_schemas::codec::encode(&progress)), PROGRESS))
            .unwrap();
    }
    fn asked(&self) -> Vec<String> {
        self.effects().iter().map(|asked| name_of(&asked.effect)).collect()
    }
    /// Answers the oldest effect of this name.
    fn say(&mut self, effect: &str, text: &str) {
        let asked = self.effects().into_iter().find(|a| name_of(&a.effect) == effect).unwrap();
        self.answer(asked.number, said(text)).unwrap();
    }
    /// Runs until the lane stops, and returns its sentence.
    fn stopped(&mut self) -> String {
        match self.run_until_idle() {
            Err(DriverError::Stopped { text, .. }) => text,
            other => panic!("it did not stop: {other:?}"),
        }
    }
}

/// A record in partition 0.
pub(super) fn raw(topic: &str, key: &str, value: Option<&[u8]>, kind: &str) -> OutRecord {
    let mut headers = Headers::new();
    if !kind.is_empty() {
        headers.push(header::TYPE, kind);
    }
    OutRecord {
        topic: TopicName::new(topic).unwrap(),
        partition: Some(P0),
        key: Some(key.as_bytes().to_vec()).filter(|k| !k.is_empty()),
        value: value.map(<[u8]>::to_vec),
        headers,
    }
}

/// A key that belongs to `partition` of two.
pub(super) fn key_in(partition: Partition, of: u32) -> String {
    (0..)
        .map(|n| format!("k{n}"))
        .find(|k| semel_schemas::partition::partition_for_key(k.as_bytes(), of) == partition)
        .unwrap()
}
