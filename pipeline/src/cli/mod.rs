//! The `semel` command: one file per subcommand, `boot` what they share, `output` how they talk.
//!
//! May not live here: anything that a library user would want; this is the shell around the crate.
//! Data goes to standard output, talk to standard error. Exit codes: 0 done, 1 it failed, 2 the
//! command line or the spec is wrong.

mod audit;
#[cfg(feature = "kafka")]
mod bench;
mod boot;
mod check;
mod completions;
mod consume;
mod demo;
mod devnet;
mod dlq;
mod door;
mod explain;
mod graph;
mod halt;
mod keygen;
mod lag;
mod merkle;
mod new;
mod output;
mod pages;
mod produce;
mod publish;
mod repair;
mod repartition;
mod reset;
pub(crate) mod run;
mod serve;
mod sim;
mod state;
mod test;
mod top;
mod topics;
mod trace;
#[cfg(feature = "kafka")]
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use semel::{Registry, telemetry::logs};

/// Carries each fact once, in order, to a settled transaction and a row in a database.
#[derive(Debug, Parser)]
#[command(name = "semel", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the attention pipeline on an in-process chain, from claims to settled roots
    Demo(demo::Args),
    /// Run a pipeline until SIGTERM or SIGINT
    Run(run::Args),
    /// Make a small working pipeline in a new folder
    New(new::Args),
    /// Run the cases of a spec: records in; records, rows, dead letters and effects out
    Test(test::Args),
    /// Check a spec: wiring, types, settings; connects to nothing
    Check(SpecArg),
    /// Release roots that wait at `ready_for_settlement`
    Publish(publish::Args),
    /// List a pipeline's topics, who writes them, and how far their readers have come
    Topics(topics::Args),
    /// Print the records of a topic
    Consume(consume::Args),
    /// Write records to a topic that a stage reads, from the command line or from a pipe
    Produce(produce::Args),
    /// Show how far each stage and sink has come, partition by partition
    Lag(lag::Args),
    /// Watch stages and sinks while they run: rates, lag, effects
    Top(top::Args),
    /// Show what a stage knows, key by key
    State(state::Args),
    /// Follow one record's way: what it caused, what was kept of it, the rows that it makes
    Trace(trace::Args),
    /// Draw the pipeline
    Graph(graph::Args),
    /// List dead letters, take them again, or leave them out
    Dlq(dlq::Args),
    /// Let a stage, source or sink stand still in every process, until it is resumed
    Pause(halt::PauseArgs),
    /// Let a stage, source or sink go on
    Resume(halt::ResumeArgs),
    /// Let a stage begin anew elsewhere with an empty state; without --yes, say what that would do
    Reset(reset::Args),
    /// Give a stage's input and state another number of partitions; without --yes, say what that would do
    Repartition(repartition::Args),
    /// Compare what the database holds with what was published
    Audit(audit::Args),
    /// Kill, pause and cut off processes on your Kafka and PostgreSQL, and compare what came of it
    #[cfg(feature = "kafka")]
    Verify(verify::Args),
    /// Measure this machine: each figure beside a baseline of the same run
    #[cfg(feature = "kafka")]
    Bench(bench::Args),
    /// Merkle trees of files: roots, proofs, and why a proof fails
    Merkle(merkle::Args),
    /// Make a new settlement key, and print its public half
    Keygen(keygen::Args),
    /// Cut off the unreadable end of a data folder's journal, keeping a copy
    Repair(repair::Args),
    /// Run a Solana devnet with the Attention Oracle's stand-in program, and serve its JSON-RPC
    Devnet(devnet::Args),
    /// Run simulated schedules of faults against a pipeline, and check every invariant after each step
    Sim(sim::Args),
    /// Say what a fault code means, who is to blame, and what to do
    Explain(explain::Args),
    /// Print what a shell needs to complete commands and options
    Completions(completions::Args),
    /// Print a page of docs/ that is generated from the program
    #[command(hide = true)]
    Page(pages::Args),
    /// Print the version
    Version,
}

#[derive(Debug, clap::Args)]
struct SpecArg {
    /// The spec, a TOML file
    spec: PathBuf,
}

/// Why a command ended.
#[derive(Debug)]
enum Failure {
    /// The command line or the spec is wrong (exit code 2).
    Usage(String),
    /// It failed (exit code 1).
    Failed(String),
    /// Who read standard output has gone: nothing is left to do (exit code 0).
    Gone,
}

type Done = Result<(), Failure>;

/// The whole `semel` command, for a program with operators of its own: parses the command line of the
/// process and runs the command. Call it once, from `main`.
#[must_use]
pub fn main(registry: Registry) -> ExitCode {
    boot::know(registry);
    let cli = Cli::parse();
    let done = start_logs(&cli.command).and_then(|()| dispatch(cli.command));
    match done {
        Ok(()) | Err(Failure::Gone) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            output::complain(&text);
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            output::complain(&text);
            ExitCode::from(1)
        }
    }
}

fn start_logs(command: &Command) -> Done {
    let variable = |name| std::env::var(name).ok();
    let format = logs::Format::parse(variable("SEMEL_LOG_FORMAT").as_deref());
    let format = format.map_err(Failure::Usage)?;
    logs::start(format, variable("SEMEL_LOG").as_deref(), default_level(command));
    Ok(())
}

fn dispatch(command: Command) -> Done {
    match command {
        Command::Demo(args) => demo::demo(&args),
        Command::Run(args) => run::run(&args),
        Command::New(args) => new::new(&args),
        Command::Test(args) => test::test(&args),
        Command::Check(args) => check::check(&args.spec),
        Command::Publish(args) => publish::publish(&args),
        Command::Topics(args) => topics::topics(&args),
        Command::Consume(args) => consume::consume(&args),
        Command::Produce(args) => produce::produce(&args),
        Command::Lag(args) => lag::lag(&args),
        Command::Top(args) => top::top(&args),
        Command::State(args) => state::state(&args),
        Command::Trace(args) => trace::trace(&args),
        Command::Graph(args) => graph::graph(&args),
        Command::Dlq(args) => dlq::dlq(&args),
        Command::Pause(args) => halt::pause(&args),
        Command::Resume(args) => halt::resume(&args),
        Command::Reset(args) => reset::reset(&args),
        Command::Repartition(args) => repartition::repartition(&args),
        Command::Audit(args) => audit::audit(&args),
        #[cfg(feature = "kafka")]
        Command::Verify(args) => verify::verify(&args),
        #[cfg(feature = "kafka")]
        Command::Bench(args) => bench::bench(args),
        Command::Merkle(args) => merkle::merkle(&args),
        Command::Keygen(args) => keygen::keygen(&args),
        Command::Repair(args) => repair::repair(&args),
        Command::Devnet(args) => devnet::devnet(args),
        Command::Sim(args) => sim::sim(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Page(args) => pages::page(&args),
        Command::Version => output::line(&format!("semel {}", env!("CARGO_PKG_VERSION"))),
    }
}

fn default_level(command: &Command) -> &'static str {
    match command {
        // What a case kills is meant to be killed.
        Command::Demo(_) | Command::Test(_) => "error",
        // What goes wrong is meant to.
        Command::Sim(_) => "off",
        // A broker that is restarted on purpose is no news.
        #[cfg(feature = "kafka")]
        Command::Verify(_) => "error",
        _ => "warn,semel=info,semel_connectors=info",
    }
}
