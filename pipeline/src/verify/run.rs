//! One verification from start to end: check, make, start, feed and disturb, settle, drain, compare,
//! and remove what was made.
//!
//! May not live here: what is compared (`events`, `claims`).

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use semel_connectors::sinks::look::Look;
use tokio::runtime::Handle;

use super::{
    Options, Pipeline, VerifyError,
    chance::Chance,
    checks,
    compare::numbers,
    faults::{self, Fault},
    feed::{Feed, Target},
    processes::{Helper, Launch, Processes},
    report::{Line, Report},
    world::{World, failed},
};
use crate::{
    host,
    log::kafka::{KafkaConfig, KafkaLog, KafkaTools},
    spec::{LogSpec, parse, plan::Plan},
};

/// Longer than the shipped specs' session (6 s) and transaction timeout (10 s).
const PAUSE: Duration = Duration::from_secs(15);
/// Records a second that are fed where nobody said how long it may take.
const RATE: u64 = 10_000;
/// The shortest feed.
const FEED_MIN: Duration = Duration::from_secs(5);
/// How long the last open transactions may take to end after everything was drained.
const HELD_MAX: Duration = Duration::from_secs(60);
/// How long a feed's victim is looked for again.
const AGAIN: Duration = Duration::from_millis(300);

pub(super) fn run<P: Pipeline>(
    options: &Options,
    pipeline: P,
    runtime: &Handle,
    stop: &Arc<AtomicBool>,
    say: &dyn Fn(&str),
) -> Result<Report, VerifyError> {
    let time = options.time.unwrap_or_else(|| {
        let feeding = Duration::from_millis(options.records * 1_000 / RATE);
        feeding.max(options.wanted.time(PAUSE)).max(FEED_MIN)
    });
    let world = connect(options, runtime, stop)?;
    let needed = time * 2 + options.patience;
    checks::check(&world, options, needed)?;
    std::fs::create_dir(&world.folder).map_err(|e| {
        VerifyError::Failed(format!("the folder {} cannot be made: {e}", world.folder.display()))
    })?;
    let mut session =
        Session { options, pipeline, world, say, time, needed, groups: Vec::new(), plan: None };
    let result = session.drive();
    session.remove(&result);
    result
}

fn connect(
    options: &Options,
    runtime: &Handle,
    stop: &Arc<AtomicBool>,
) -> Result<World, VerifyError> {
    if !options.database.starts_with("postgres") {
        return Err(VerifyError::Refused(
            "`semel verify` needs PostgreSQL: give DATABASE_URL=postgres://…".to_owned(),
        ));
    }
    let mut config = KafkaConfig::new(&options.log.brokers);
    config.settings.clone_from(&options.log.client);
    let log = Arc::new(KafkaLog::connect(&config).map_err(failed)?);
    let look = runtime.block_on(Look::open(&options.database));
    let schema: String = options.namespace.replace('-', "_");
    Ok(World {
        tools: KafkaTools::new(log.clone()).map_err(failed)?,
        log,
        look: look.map_err(|e| VerifyError::Failed(e.to_string()))?,
        runtime: runtime.clone(),
        namespace: options.namespace.clone(),
        schema,
        folder: options.folder.clone(),
        stop: stop.clone(),
    })
}

struct Session<'a, P> {
    options: &'a Options,
    pipeline: P,
    world: World,
    say: &'a dyn Fn(&str),
    time: Duration,
    needed: Duration,
    groups: Vec<String>,
    plan: Option<Arc<Plan>>,
}

impl<P: Pipeline> Session<'_, P> {
    fn drive(&mut self) -> Result<Report, VerifyError> {
        let (launch, plan) = self.make()?;
        let options = self.options;
        let world = &self.world;
        let mut chance = Chance::new(options.seed);
        let mut processes = Processes::start(
            launch.clone(),
            &world.folder,
            options.processes,
            Chance::new(chance.next()),
            &|| world.stopped(),
        )?;
        (self.say)(&format!(
            "{} processes run; feeding {} records in {} s (seed {})",
            options.processes,
            options.records,
            self.time.as_secs(),
            options.seed
        ));
        let began = Instant::now();
        let schedule = faults::plan(&options.wanted, self.time, PAUSE, &mut chance);
        let script = self.disturb(&launch, &plan, &mut processes, schedule, chance.next())?;
        let fed = began.elapsed();
        (self.say)(&format!(
            "fed in {} s; {} kills, {} pauses; waiting until everything is settled",
            fed.as_secs(),
            processes.done.kills,
            processes.done.pauses
        ));
        let mut notes = Vec::new();
        self.settle(&plan, &script, &mut processes, &mut notes)?;
        let settled = began.elapsed();
        let drained = processes.drain();
        notes.append(&mut processes.notes);
        (self.say)(&format!("settled after {} s; comparing", settled.as_secs()));
        let mut lines = self.pipeline.compare(&self.world, &plan, &script, &mut notes)?;
        lines.push(Line::new("partitions held back", numbers(0, self.held_back(&plan)?)));
        lines.push(Line::new("lag of all groups", numbers(0, self.world.lag(&plan)?)));
        lines.push(Line::new("processes drained", numbers(options.processes.into(), drained)));
        Ok(Report {
            pipeline: self.pipeline.name().to_owned(),
            namespace: options.namespace.clone(),
            seed: options.seed,
            processes: options.processes,
            done: processes.done,
            fed_ms: millis(fed),
            settled_ms: millis(settled),
            lines,
            notes,
        })
    }

    /// Makes schema, tables and topics, and the way to start a process.
    fn make(&mut self) -> Result<(Launch, Arc<Plan>), VerifyError> {
        let mut variables = self.variables();
        variables.extend(self.pipeline.start(&self.world, self.options)?);
        let text = with_client(self.pipeline.spec(), &self.options.log);
        let file = self.world.folder.join("spec.toml");
        std::fs::write(&file, &text).map_err(|e| {
            VerifyError::Failed(format!("{} cannot be written: {e}", file.display()))
        })?;
        let plan = Arc::new(plan(&file, &text, &variables)?);
        checks::check_retention(&plan.topics, self.needed)?;
        self.groups = plan.stages.iter().map(|(stage, _)| stage.group.clone()).collect();
        self.groups.extend(plan.sinks.iter().map(|sink| sink.group.clone()));
        self.plan = Some(plan.clone());
        self.world.rows(&format!("CREATE SCHEMA \"{}\"", self.world.schema))?;
        self.pipeline.prepare(&self.world)?;
        host::create_topics(&*self.world.log, &plan).map_err(failed)?;
        let launch = Launch {
            exe: self.options.exe.clone(),
            arguments: vec!["run".to_owned(), file.to_string_lossy().into_owned()],
            variables,
            // One port cannot serve them all, nor one name name them.
            without: ["METRICS_LISTEN", "INGRESS_LISTEN", "SEMEL_INSTANCE"]
                .map(str::to_owned)
                .to_vec(),
        };
        Ok((launch, plan))
    }

    fn variables(&self) -> Vec<(String, String)> {
        let one = self.options.log.allow_one_broker.to_string();
        [
            ("PIPELINE_NAME", self.options.namespace.as_str()),
            ("SEMEL_BROKERS", self.options.log.brokers.as_str()),
            ("SEMEL_ONE_BROKER", one.as_str()),
            ("DATABASE_URL", self.options.database.as_str()),
            ("DATABASE_SCHEMA", self.world.schema.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Feeds, and does what the schedule says, until both are through and every process runs.
    fn disturb(
        &self,
        launch: &Launch,
        plan: &Plan,
        processes: &mut Processes,
        mut schedule: Vec<(Duration, Fault)>,
        seed: u64,
    ) -> Result<P::Script, VerifyError> {
        let world = &self.world;
        let topic = world.topic(self.pipeline.input())?;
        let partitions = plan.topic(self.pipeline.input()).map_or(1, |topic| topic.partitions);
        let target = Target { topic, partitions, time: self.time, seed };
        let script = self.pipeline.script(self.options.seed, self.options.records);
        let feeder = world.tools.feeder().map_err(failed)?;
        let mut feed = Feed::start(feeder, script, target, world.stop.clone())?;
        let mut script = None;
        let mut helpers: Vec<Helper> = Vec::new();
        let (began, mut told) = (Instant::now(), Instant::now());
        schedule.reverse();
        loop {
            processes.tick()?;
            if let Some(ended) = feed.ended()? {
                script = Some(ended);
            }
            for helper in std::mem::take(&mut helpers) {
                let mut helper = helper;
                if !helper.ended()? {
                    helpers.push(helper);
                }
            }
            if world.stopped() {
                return Err(VerifyError::Interrupted);
            }
            while let Some((_, fault)) = schedule.pop_if(|(at, _)| *at <= began.elapsed()) {
                if !self.strike(launch, fault, processes, &mut helpers)? {
                    schedule.push((began.elapsed() + AGAIN, fault));
                    break;
                }
            }
            if schedule.is_empty()
                && helpers.is_empty()
                && processes.all_run()
                && let Some(script) = script.take()
            {
                return Ok(script);
            }
            if told.elapsed() > Duration::from_secs(15) {
                told = Instant::now();
                (self.say)(&format!("{} records fed, {} kills", feed.sent(), processes.done.kills));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Does one fault; `false` if nobody is there whom it could strike.
    fn strike(
        &self,
        launch: &Launch,
        fault: Fault,
        processes: &mut Processes,
        helpers: &mut Vec<Helper>,
    ) -> Result<bool, VerifyError> {
        let (command, what) = match fault {
            Fault::Kill => return Ok(processes.kill()),
            Fault::Pause(time) => return Ok(processes.pause(time)),
            Fault::RestartBroker => (&self.options.restart_broker, "the broker"),
            Fault::RestartDatabase => (&self.options.restart_database, "the database"),
        };
        let Some(command) = command else { return Ok(true) };
        (self.say)(&format!("restarting {what}: {command}"));
        let shell = Launch {
            exe: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".to_owned(), command.clone()],
            ..launch.clone()
        };
        let log = self.world.folder.join("restarts.log");
        helpers.push(Helper::start(&shell, &format!("`{command}`"), log)?);
        match fault {
            Fault::RestartBroker => processes.done.broker_restarts += 1,
            _ => processes.done.database_restarts += 1,
        }
        Ok(true)
    }

    /// Waits until everything that is expected is there and nothing waits to be read; or nothing
    /// moves any more; or patience ends.
    fn settle(
        &self,
        plan: &Plan,
        script: &P::Script,
        processes: &mut Processes,
        notes: &mut Vec<String>,
    ) -> Result<(), VerifyError> {
        let deadline = Instant::now() + self.options.patience;
        let mut moved = (Instant::now(), None);
        loop {
            processes.tick()?;
            if self.world.stopped() {
                return Err(VerifyError::Interrupted);
            }
            // Servers that were restarted just now may not answer yet.
            let look = || -> Result<(u64, u64, u64), VerifyError> {
                let missing = self.pipeline.missing(&self.world, script)?;
                let written = self.world.written(plan, self.pipeline.restless())?;
                let behind = self.world.lag(plan)?;
                Ok((missing, written, behind))
            };
            match look() {
                Ok((0, _, 0)) if self.pipeline.restless().is_empty() => {
                    if self.world.held_back(plan)? == 0 {
                        return Ok(());
                    }
                }
                Ok((0, _, 0)) => return Ok(()),
                Ok(seen) if moved.1 != Some(seen) => moved = (Instant::now(), Some(seen)),
                // What waits to be read may only be waiting for a slow machine.
                Ok((missing, _, 0)) if moved.0.elapsed() > self.options.calm => {
                    notes.push(format!(
                        "nothing moved for {} s (--calm), nothing waits to be read, and {missing} \
                         are missing",
                        self.options.calm.as_secs()
                    ));
                    return Ok(());
                }
                Ok(_) => {}
                Err(VerifyError::Interrupted) => return Err(VerifyError::Interrupted),
                Err(error) => tracing::debug!(%error, "not settled yet"),
            }
            if Instant::now() > deadline {
                notes.push(format!(
                    "not settled within {} s (--patience), so what is missing may only be late; last \
                     seen (missing, written, behind): {:?}",
                    self.options.patience.as_secs(),
                    moved.1
                ));
                return Ok(());
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Partitions that are still held back by an open transaction once those of the dead have ended.
    fn held_back(&self, plan: &Plan) -> Result<u64, VerifyError> {
        let deadline = Instant::now() + HELD_MAX;
        loop {
            let held = self.world.held_back(plan)?;
            if held == 0 || Instant::now() > deadline || self.world.stopped() {
                return Ok(held);
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Removes what was made, unless it is to stay. Logs stay where something is wrong.
    fn remove(&mut self, result: &Result<Report, VerifyError>) {
        let folder = &self.world.folder;
        if self.options.keep {
            (self.say)(&format!(
                "kept: topics `{}.*`, schema `{}`, logs and data in {}",
                self.options.namespace,
                self.world.schema,
                folder.display()
            ));
            return;
        }
        for left in self.world.clean(&self.groups) {
            (self.say)(&format!("not removed: {left}"));
        }
        let good = matches!(result, Ok(report) if report.good())
            || matches!(result, Err(VerifyError::Interrupted | VerifyError::Refused(_)));
        let kept = if good { std::fs::remove_dir_all(folder) } else { keep_logs(folder) };
        match kept {
            Ok(()) if good => {}
            Ok(()) => (self.say)(&format!("what the processes said is in {}", folder.display())),
            Err(error) => (self.say)(&format!("not removed: {}: {error}", folder.display())),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Removes the data folders, not the logs beside them.
fn keep_logs(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The spec as the processes will read it.
fn plan(file: &Path, text: &str, variables: &[(String, String)]) -> Result<Plan, VerifyError> {
    let variable = |name: &str| {
        let own = variables.iter().rev().find(|(known, _)| known == name);
        own.map(|(_, value)| value.clone()).or_else(|| std::env::var(name).ok())
    };
    let (spec, source) = parse::parse(&file.to_string_lossy(), text, &variable)
        .map_err(|e| VerifyError::Failed(e.to_string()))?;
    Plan::new(&spec, &source).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        VerifyError::Failed(lines.join("; "))
    })
}

/// The spec's text with the user's own settings for the Kafka client (TLS, SASL, …) in its section
/// `[log.client]`, in place of those of the same name.
fn with_client(text: &str, log: &LogSpec) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[log.client]";
        }
        let key = line.split('"').nth(1).unwrap_or_default();
        if inside && log.client.contains_key(key) {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if line == "[log.client]" {
            for (key, value) in &log.client {
                let (key, value) = (quoted(key), quoted(value));
                out.push_str(&format!("{key} = {value}\n"));
            }
        }
    }
    out
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_client_settings_reach_the_processes() {
        let mut log = LogSpec::default();
        log.client.insert("security.protocol".to_owned(), "ssl".to_owned());
        log.client.insert("compression.type".to_owned(), "zstd".to_owned());
        let text = "[log]\nbrokers = \"b\"\n[log.client]\n\"compression.type\" = \"lz4\"\n\
                    \"linger.ms\" = \"1\"\n\n[[stage]]\n\"compression.type\" = \"kept\"\n";
        let made = with_client(text, &log);
        let (client, rest) = made.split_once("[[stage]]").unwrap();
        for line in
            ["\"security.protocol\" = \"ssl\"", "\"compression.type\" = \"zstd\"", "linger.ms"]
        {
            assert!(client.contains(line), "{line}: {made}");
        }
        assert!(!client.contains("lz4") && rest.contains("kept"), "{made}");
        assert_eq!(with_client(text, &LogSpec::default()), text);
    }
}
