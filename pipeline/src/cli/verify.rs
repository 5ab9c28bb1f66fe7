//! `semel verify`: the exactly-once audit on the user's own Kafka and PostgreSQL.

use std::{
    io::Read,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::ValueEnum;
use semel::{
    spec::LogSpec,
    verify::{
        self, Kind, Options, VerifyError,
        faults::Wanted,
        report::{HEADINGS, Report},
    },
};
use tokio::signal::unix::{SignalKind, signal};

use super::{Done, Failure, boot, output, run};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
pub(super) struct Args {
    /// A spec whose brokers, client settings and database are used; without one: `SEMEL_BROKERS`,
    /// `SEMEL_ONE_BROKER` and `DATABASE_URL`
    spec: Option<PathBuf>,
    /// What runs: `events` needs no chain, `claims` goes down to settled roots on a devnet
    #[arg(long, value_enum, default_value_t = Which::Events)]
    pipeline: Which,
    /// Processes at a time
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: u32,
    /// Records to feed
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    records: u64,
    /// How often a process is killed (SIGKILL)
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// How often a process is paused (SIGSTOP) for longer than its session and transaction may last
    #[arg(long, default_value_t = 1)]
    pauses: u32,
    /// Seconds to feed for (without: as the number of records and faults asks for)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    duration: Option<u64>,
    /// Longest time in seconds, after the last record, until everything is settled
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
    /// Within that: seconds without any movement, and with nothing that waits to be read, after which
    /// what is missing is not waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(10..=604_800))]
    calm: u64,
    /// A shell command that restarts a broker; it ends once the broker is up again
    #[arg(long, value_name = "CMD")]
    restart_broker: Option<String>,
    /// A shell command that restarts the database; it ends once the database is up again
    #[arg(long, value_name = "CMD")]
    restart_database: Option<String>,
    /// How often each restart command is run
    #[arg(long, default_value_t = 1)]
    restarts: u32,
    /// Seed of records and faults (without: a random one, which is printed)
    #[arg(long)]
    seed: Option<u64>,
    /// Prefix of topics and groups, and name of the schema (without: a random one)
    #[arg(long)]
    namespace: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Keep topics, groups, schema, logs and data folders
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Events,
    Claims,
}

/// Verifies.
pub(super) fn verify(args: &Args) -> Done {
    let options = options(args)?;
    let runtime = run::runtime()?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    runtime.spawn(async move {
        if let (Ok(mut int), Ok(mut term)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            output::say("ending; removing what was made");
            flag.store(true, Ordering::SeqCst);
        }
    });
    let report = verify::verify(&options, runtime.handle(), &stop, &output::say);
    let report = report.map_err(|error| match error {
        VerifyError::Refused(text) => Failure::Usage(text),
        error => Failure::Failed(error.to_string()),
    })?;
    print(args, &report)
}

fn options(args: &Args) -> Result<Options, Failure> {
    let (log, database) = place(args)?;
    let suffix = format!("{:08x}", random()? >> 32);
    let namespace = args.namespace.clone().unwrap_or_else(|| format!("verify-{suffix}"));
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if namespace.is_empty() || namespace.len() > 40 || !namespace.bytes().all(legal) {
        return Err(Failure::Usage(format!(
            "`{namespace}` is no namespace: use at most 40 of a-z, 0-9 and -"
        )));
    }
    let times = |command: &Option<String>| command.as_ref().map_or(0, |_| args.restarts);
    let exe = std::env::current_exe()
        .map_err(|e| Failure::Failed(format!("our own binary cannot be found: {e}")))?;
    Ok(Options {
        kind: match args.pipeline {
            Which::Events => Kind::Events,
            Which::Claims => Kind::Claims,
        },
        log,
        database,
        processes: args.processes,
        records: args.records,
        wanted: Wanted {
            kills: args.kills,
            pauses: args.pauses,
            broker_restarts: times(&args.restart_broker),
            database_restarts: times(&args.restart_database),
        },
        time: args.duration.map(Duration::from_secs),
        patience: Duration::from_secs(args.patience),
        calm: Duration::from_secs(args.calm),
        restart_broker: args.restart_broker.clone(),
        restart_database: args.restart_database.clone(),
        seed: match args.seed {
            Some(seed) => seed,
            None => random()?,
        },
        keep: args.keep,
        exe,
        folder: std::env::temp_dir().join(format!("semel-{namespace}-{suffix}")),
        namespace,
    })
}

/// Where it happens: cluster and database.
fn place(args: &Args) -> Result<(LogSpec, String), Failure> {
    if let Some(path) = &args.spec {
        let (spec, plan) = boot::load(path, &boot::environment)?;
        let database = plan.sinks.first().map(|sink| sink.url.clone());
        let database = database.or_else(|| boot::environment("DATABASE_URL"));
        let database = database
            .ok_or_else(|| Failure::Usage("the spec has no sink: set DATABASE_URL".to_owned()))?;
        if spec.log.brokers.is_empty() {
            return Err(Failure::Usage(
                "the spec names no brokers, and `semel verify` is about Kafka: set SEMEL_BROKERS"
                    .to_owned(),
            ));
        }
        return Ok((spec.log, database));
    }
    let needed = |name: &str| {
        boot::environment(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            Failure::Usage(format!("set the environment variable `{name}`, or give a spec"))
        })
    };
    let log = LogSpec {
        brokers: needed("SEMEL_BROKERS")?,
        allow_one_broker: boot::environment("SEMEL_ONE_BROKER").as_deref() == Some("true"),
        ..LogSpec::default()
    };
    Ok((log, needed("DATABASE_URL")?))
}

fn random() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| Failure::Failed(format!("/dev/urandom cannot be read: {e}")))?;
    Ok(u64::from_le_bytes(bytes))
}

fn print(args: &Args, report: &Report) -> Done {
    if args.json {
        let text = semel_schemas::codec::encode(report);
        output::line(&String::from_utf8_lossy(&text))?;
    } else {
        let rows: Vec<Vec<String>> = report.lines.iter().map(|line| line.cells()).collect();
        output::table(&HEADINGS, &rows)?;
        for note in &report.notes {
            output::line(note)?;
        }
        let done = report.done;
        output::line(&format!(
            "{} processes, {} kills, {} pauses, {} broker restarts, {} database restarts, {} ended \
             by themselves; fed in {}.{} s, settled after {}.{} s; seed {}",
            report.processes,
            done.kills,
            done.pauses,
            done.broker_restarts,
            done.database_restarts,
            done.ended,
            report.fed_ms / 1_000,
            report.fed_ms % 1_000 / 100,
            report.settled_ms / 1_000,
            report.settled_ms % 1_000 / 100,
            report.seed
        ))?;
    }
    if report.good() {
        output::say("nothing lost, nothing twice, everything in order");
        return Ok(());
    }
    Err(Failure::Failed("something is lost, doubled or out of order: see the table".to_owned()))
}
