//! `semel sim`: schedules of faults, drawn from seeds, against whole pipelines in one thread; each
//! invariant is checked after each step. A seed that fails is printed with its schedule, shrunk.

use std::{path::PathBuf, thread};

use semel::sim::{
    INVARIANTS, Subject, Trace,
    schedule::{self, Event},
    shrink::shrink,
    swarm::{self, Outcome, Runs, Swarm},
};
use semel_schemas::sabotage::Sabotage;

use super::{Done, Failure, output};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many seeds [default: 100, or 1 with --seed]
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// A spec of your own [default: the one that ships, and a second one for nonces]
    #[arg(long)]
    spec: Option<PathBuf>,
    /// Print the trace of the first seed
    #[arg(long)]
    trace: bool,
    /// Run each seed twice, and compare the traces byte for byte
    #[arg(long)]
    twice: bool,
    /// Switch a guard off, to see that it is missed (builds with `--features sabotage`)
    #[arg(long)]
    sabotage: Option<String>,
    /// Check this invariant only (an id of pipeline/INVARIANTS.md) [default: all of them]
    #[arg(long)]
    invariant: Option<String>,
    /// Print a failing seed as it is: its schedule is not made small
    #[arg(long)]
    no_shrink: bool,
    /// Threads, each with seeds of its own [default: the number of cores]
    #[arg(long)]
    jobs: Option<usize>,
}

/// Runs seeds.
pub(super) fn sim(args: &Args) -> Done {
    let usage = |lines: Vec<String>| Failure::Usage(lines.join("\nsemel: "));
    let subject = match &args.spec {
        None => None,
        Some(path) => {
            let file = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|e| Failure::Usage(format!("the spec {file} cannot be read: {e}")))?;
            Some(Subject::new(&file, &text).map_err(usage)?)
        }
    };
    let sabotage = args.sabotage.as_deref().map(named).transpose()?;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let swarm = Swarm {
        subject,
        first: args.seed.unwrap_or(0),
        count: args.seeds.unwrap_or(if args.seed.is_some() { 1 } else { 100 }),
        jobs: args.jobs.unwrap_or(cores),
        sabotage,
        runs: if args.twice { Runs::Twice } else { Runs::Once },
        wanted: args.invariant.as_deref().map(known).transpose()?.into_iter().collect(),
    };
    if args.trace {
        let report = swarm.one(swarm.first, Trace::Written);
        for line in report.map_err(usage)?.trace {
            output::line(&line)?;
        }
    }
    let outcome = swarm.run().map_err(usage)?;
    if let Some((seed, failure)) = &outcome.failed {
        output::line(&format!("seed {seed}: {}: {}", failure.invariant, failure.text))?;
        if failure.invariant != "TWICE" && !args.no_shrink {
            explain(&swarm, *seed, &failure.invariant)?;
        }
    }
    speed(&outcome, swarm.jobs)?;
    match outcome.failed {
        None => Ok(()),
        Some((seed, failure)) => Err(Failure::Failed(format!(
            "seed {seed} breaks {}: `semel sim --seed {seed} --trace` shows how",
            failure.invariant
        ))),
    }
}

fn named(name: &str) -> Result<Sabotage, Failure> {
    if !cfg!(feature = "sabotage") {
        return Err(Failure::Usage(
            "this build has no broken variants: build it with `--features sabotage`".to_owned(),
        ));
    }
    Sabotage::named(name).ok_or_else(|| {
        let known: Vec<&str> = Sabotage::ALL.iter().map(|s| s.name()).collect();
        Failure::Usage(format!("there is no variant `{name}`; known: {}", known.join(", ")))
    })
}

fn known(id: &str) -> Result<&'static str, Failure> {
    INVARIANTS.into_iter().find(|known| *known == id).ok_or_else(|| {
        Failure::Usage(format!("there is no invariant `{id}`; known: {}", INVARIANTS.join(", ")))
    })
}

/// Options and schedule of a failing seed, shrunk.
fn explain(swarm: &Swarm, seed: u64, invariant: &str) -> Done {
    let usage = |lines: Vec<String>| Failure::Usage(lines.join("\nsemel: "));
    let (subject, options) = swarm.of_seed(seed).map_err(usage)?;
    let events = schedule::draw(&options);
    let shrunk: Vec<Event> =
        swarm::broken_for(swarm.sabotage, || shrink(&subject, &options, &events, invariant));
    output::line(&format!("{} of {} events are enough:", shrunk.len(), events.len()))?;
    for event in &shrunk {
        output::line(&format!("  {event}"))?;
    }
    output::line(&format!("with {options:?}"))
}

fn speed(outcome: &Outcome, jobs: usize) -> Done {
    let seconds = outcome.took.as_secs_f64().max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = |count: u64| count as f64 / seconds;
    output::line(&format!(
        "{} schedules, {} steps, {} calls, {} s simulated in {seconds:.1} s with {jobs} jobs: {:.1} \
         schedules/s, {:.0} steps/s",
        outcome.schedules,
        outcome.steps,
        outcome.calls,
        outcome.simulated_ms / 1_000,
        rate(outcome.schedules),
        rate(outcome.steps),
    ))
}
