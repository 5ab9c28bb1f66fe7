//! `recovery`: from `kill -9` to the first new output that a reader of committed records sees, with a
//! million keys of state and records coming in all the while. The same instance back at once, with its
//! local state and without; and another process that takes over.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use super::{
    Given, Row, Spread, Wanted,
    broker::{Broker, PARTITIONS},
    probe::Probe,
    process::Process,
    records,
    stage::{self, Stage},
};

/// Between two records that come in meanwhile.
const EVERY: Duration = Duration::from_millis(5);
/// Records that come in at most: 100 s of them.
const PROBES: u64 = 20_000;
/// How long it may take until records come out again.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a group must have rested before a process is killed.
const REST: Duration = Duration::from_secs(3);
/// The session timeout of the spec: the default.
const SESSION: Duration = Duration::from_secs(6);

/// Seconds from the kill.
#[derive(Clone, Copy, Debug)]
struct Back {
    /// To the first new output.
    first: f64,
    /// To the first new output of the last partition.
    all: f64,
}

/// What is measured upon.
struct Ground<'a> {
    given: &'a Given,
    broker: &'a Broker,
    stage: Stage,
    /// The first probe record that nobody has sent yet.
    next: u64,
    /// Records of the state.
    keys: u64,
}

impl Ground<'_> {
    /// Sends records while `during` runs, which tells when it killed; takes the times from then on.
    fn under_way(
        &mut self,
        during: impl FnOnce(&Probe) -> Result<(Instant, Vec<Process>), String>,
    ) -> Result<(Back, Vec<Process>), String> {
        let numbers = self.next..self.next + PROBES;
        let records = numbers.clone().map(|n| records::transfer(n, self.keys)).collect();
        let sender = self.broker.sender(&self.stage.input(self.given))?;
        let receiver = self.broker.receiver(&self.stage.output(self.given))?;
        let probe = Probe::start(records, EVERY, vec![sender], vec![receiver]);
        let found = during(&probe)
            .and_then(|(killed, running)| Ok((since(&probe, killed, &running)?, running)));
        probe.stop()?;
        let (back, mut running) = found?;
        // Nonces go on where they stopped, so whatever was sent is worked off first.
        let (group, input) = (self.stage.group(self.given), self.stage.input(self.given));
        if let Some(process) = running.last_mut() {
            stage::until_read(self.broker, process, &group, &input)?;
        }
        self.next = self.first_unsent()?;
        Ok((back, running))
    }

    /// Probe records are sent in order, so as many were sent as the input holds beyond the state's.
    fn first_unsent(&self) -> Result<u64, String> {
        let ends = self.broker.ends(&self.stage.input(self.given))?;
        u64::try_from(ends.values().sum::<i64>()).map_err(|e| e.to_string())
    }

    /// The same instance, killed and started again; `lose`: without its local state.
    fn again(&mut self, process: Process, lose: bool) -> Result<(Back, Process), String> {
        let (given, stage) = (self.given, self.stage.clone());
        let (back, mut running) = self.under_way(|probe| {
            flows(probe)?;
            let killed = Instant::now();
            drop(process);
            if lose {
                let database = stage.data.join("db");
                fs::remove_dir_all(&database)
                    .map_err(|e| format!("{} cannot be removed: {e}", database.display()))?;
            }
            Ok((killed, vec![stage.start(given)?]))
        })?;
        let process = running.pop().ok_or("no process is left")?;
        Ok((back, process))
    }

    /// A second process joins; the first is killed; the second takes over.
    fn taken_over(&mut self, process: Process, folder: &str) -> Result<(Back, Process), String> {
        let (given, broker) = (self.given, self.broker);
        let (group, other) = (self.stage.group(given), self.stage.beside(given, folder));
        let (back, mut running) = self.under_way(|probe| {
            let second = other.start(given)?;
            rest(broker, &group, 2)?;
            flows(probe)?;
            let killed = Instant::now();
            drop(process);
            Ok((killed, vec![second]))
        })?;
        self.stage = other;
        let process = running.pop().ok_or("no process is left")?;
        Ok((back, process))
    }
}

/// Waits until records of every partition came out within the last second.
fn flows(probe: &Probe) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let of = Instant::now().checked_sub(Duration::from_secs(1));
        if of.is_some_and(|of| firsts(probe, of).iter().all(Option::is_some)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("records did not begin to come out".to_owned());
        }
        probe.alive()?;
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a group has so many members and has rested for a while.
fn rest(broker: &Broker, group: &str, members: usize) -> Result<(), String> {
    let (deadline, mut since) = (Instant::now() + PATIENCE, None);
    loop {
        if broker.members(group)? == members {
            if since.get_or_insert_with(Instant::now).elapsed() > REST {
                return Ok(());
            }
        } else {
            since = None;
        }
        if Instant::now() > deadline {
            return Err(format!("group {group} did not come to rest with {members} members"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// For each partition, when the first record came out that was sent after `of`.
fn firsts(probe: &Probe, of: Instant) -> Vec<Option<Instant>> {
    let mut firsts = vec![None; PARTITIONS as usize];
    for passage in probe.passages().filter(|passage| passage.sent > of) {
        let Some(record) = probe.records().get(passage.number) else { continue };
        let at = record.partition(PARTITIONS).0 as usize;
        if let Some(first) = firsts.get_mut(at) {
            *first = Some(first.map_or(passage.came, |known: Instant| known.min(passage.came)));
        }
    }
    firsts
}

/// Waits until every partition has a new output.
fn since(probe: &Probe, killed: Instant, running: &[Process]) -> Result<Back, String> {
    loop {
        let firsts: Option<Vec<Instant>> = firsts(probe, killed).into_iter().collect();
        if let Some(firsts) = firsts {
            let after = |at: Option<Instant>| {
                at.map_or(f64::NAN, |at| at.duration_since(killed).as_secs_f64())
            };
            let (first, all) = (firsts.iter().min().copied(), firsts.iter().max().copied());
            return Ok(Back { first: after(first), all: after(all) });
        }
        probe.alive()?;
        if killed.elapsed() > PATIENCE {
            let pids: Vec<String> = running.iter().map(Process::pid).collect();
            return Err(format!("nothing came out any more (process {})", pids.join(", ")));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The rows of `recovery`.
pub(super) fn bench(given: &Given) -> Result<Vec<Row>, String> {
    let keys = given.scaled(1_000_000, 40_000);
    let broker = Broker::connect(given.brokers()?)?;
    let stage = Stage::new(given, stage::ORDERED, "rec", "rec-in");
    broker.create(&stage.input(given))?;
    given.say(&format!("writing {keys} records"));
    broker.fill(&stage.input(given), (0..keys).map(|n| records::transfer(n, keys)))?;
    let (mut process, _) = stage.worked(given, &broker, keys)?;
    let mut ground = Ground { given, broker: &broker, stage, next: keys, keys };
    let mut backs: [Vec<Back>; 3] = Default::default();
    for run in 1..=given.runs() {
        for (at, (what, into)) in ["with its local state", "without it", "another process"]
            .iter()
            .zip(&mut backs)
            .enumerate()
        {
            let (back, running) = match at {
                0 => ground.again(process, false)?,
                1 => ground.again(process, true)?,
                _ => ground.taken_over(process, &format!("rec{run}"))?,
            };
            process = running;
            given.say(&format!("recovery, run {run}: {what}: {back:?}"));
            into.push(back);
        }
    }
    process.stop();
    Ok(rows(&backs, keys))
}

fn rows([present, lost, over]: &[Vec<Back>; 3], keys: u64) -> Vec<Row> {
    let row = |what: &str, backs: &[Back], less: f64, wanted| {
        let of = |field: fn(&Back) -> f64| {
            Spread::of(&backs.iter().map(|back| field(back) - less).collect::<Vec<_>>())
        };
        let note = format!("every partition after {:.2} s", of(|back| back.all).median + less);
        Row::alone(("recovery", what), "s", of(|back| back.first), wanted).noting(&note)
    };
    let session = SESSION.as_secs_f64();
    // What the dead one owned is what counts: the other partitions never stopped.
    let over: Vec<Back> = over.iter().map(|back| Back { first: back.all, ..*back }).collect();
    let at_most = |must, aim| Wanted::AtMost { must, aim };
    vec![
        row("kill -9 to first output, same instance", present, 0.0, at_most(2.0, 0.5))
            .noting(&format!("{keys} ids in the state")),
        row("the same, local state lost", lost, 0.0, at_most(15.0, 6.0)),
        row(
            "another process takes over, beyond the session of 6 s",
            &over,
            session,
            at_most(4.0, 2.0),
        ),
    ]
}
