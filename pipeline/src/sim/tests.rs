//! The simulator itself first: the same seed leaves the same trace. Then that what it lets happen
//! does happen, that no seed breaks an invariant, and that each broken variant is caught.

use std::{collections::BTreeMap, num::NonZero, thread};

use super::{
    Subject, Trace,
    options::Options,
    run, schedule,
    swarm::{Outcome, Runs, Swarm},
};

fn swarm(count: u64) -> Swarm {
    Swarm {
        subject: None,
        first: 0,
        count,
        jobs: thread::available_parallelism().map_or(1, NonZero::get),
        sabotage: None,
        runs: Runs::Once,
        wanted: Vec::new(),
    }
}

fn traced(seed: u64) -> (Options, Vec<String>) {
    let subject = Subject::of_seed(seed).unwrap();
    let options = subject.options(seed);
    let report = run(&subject, &options, &schedule::draw(&options), Trace::Written).unwrap();
    (options, report.trace)
}

/// Processes differ in the seeds of their hashes; `tests/cli/sim.rs` compares two of those.
#[test]
fn the_same_seed_twice_leaves_the_same_trace() {
    for seed in 0..6 {
        let (one, two) = (traced(seed).1, traced(seed).1);
        assert!(one.len() > 100, "seed {seed} leaves a trace");
        assert!(one == two, "seed {seed} leaves two traces");
    }
    let Outcome { failed, schedules, .. } = Swarm { runs: Runs::Twice, ..swarm(30) }.run().unwrap();
    assert_eq!((failed, schedules), (None, 30));
}

#[test]
fn no_seed_breaks_an_invariant() {
    let outcome = swarm(60).run().unwrap();
    assert_eq!((outcome.failed, outcome.schedules), (None, 60));
    assert!(outcome.steps > 10_000 && outcome.calls > outcome.steps, "it does nothing");
}

/// A fault that never happens proves nothing.
#[test]
fn every_fault_of_the_menu_happens() {
    let mut seen: BTreeMap<&str, u32> = MENU.iter().map(|(_, line)| (*line, 0)).collect();
    for seed in 0..MENU_SEEDS {
        for line in traced(seed).1 {
            for (part, times) in &mut seen {
                *times += u32::from(part.split(" … ").all(|part| line.contains(part)));
            }
        }
    }
    for (fault, line) in MENU {
        println!("{:>6} times: {fault}", seen[line]);
    }
    let never: Vec<_> = MENU.iter().filter(|(_, line)| seen[line] == 0).collect();
    assert!(never.is_empty(), "in no trace of {MENU_SEEDS} seeds stands {never:?}");
}

const MENU_SEEDS: u64 = 400;

/// The faults, and what a trace says when it happens.
const MENU: &[(&str, &str)] = &[
    ("crash before a commit", "dies Before Commit"),
    ("crash after a commit, its answer unheard", "dies After Commit"),
    ("crash before a local store is written", "Before Promote"),
    ("crash after a local store was written", "dies After Promote"),
    ("crash before or after an effect is handed out", "dies … Dispatch"),
    ("crash before or after an acknowledgement is heard", "dies … Outcomes"),
    ("crash while records are produced", "dies … Produce"),
    ("crash before a sink is asked", "dies … Ask"),
    ("crash before or after a sink is asked to write", "dies … Write"),
    ("crash with a sink's answer", "dies … Answers"),
    ("restore interrupted", "After Bounds"),
    ("a zombie stands still within its transaction and goes on", "goes on"),
    ("a rebalance in the middle of a transaction", "ms at Commit"),
    ("a process drains", "has drained"),
    ("a commit that is known to have failed", "Fault(Abort) Before Commit"),
    ("a commit whose answer is lost", "Fault(Unknown) After Commit"),
    ("a commit that never lands and whose answer is lost", "Fault(Unknown) Before Commit"),
    ("a commit whose answer is lost lands late", "a late commit arrives: Ok"),
    ("a commit whose answer is lost never lands", "a late commit arrives: Err"),
    ("the log is away", "Away Before"),
    ("the producer's queue is full", "Full Before Produce"),
    ("markers arrive one by one", "event Markers"),
    ("markers of changelogs arrive last", "last: Changelogs"),
    ("changelogs are compacted", "event Compact"),
    ("a local store fails", "Broken Before"),
    ("a local store is lost or replaced by an old copy", "event Disk"),
    ("clocks jump", "event Clock"),
    ("a storm of timers", "event Storm"),
    ("poison records", "Poison"),
    ("duplicated input", "dedupe.duplicate"),
    ("a fork: facts are retracted", "of_final: false"),
    ("a final fact is retracted", "of_final: true"),
    ("a record in another partition than its key's", "misplaced: true"),
    ("a sink commits, and its answer is lost", "the commit's answer is lost"),
    ("a sink's commit lands late", "a late write to"),
    ("a sink's write is on its way for long", "a write is on its way"),
    ("a sink is down for a while", "the database is away"),
    ("the chain stands still: blockhashes expire", "event Stall"),
    ("a dropped broadcast", "fault: Drops"),
    ("the RPC node is away", "injected: the node is away"),
    ("the RPC node answers with an error what it did", "injected: no answer"),
    ("the RPC node's answers lag", "fault: Late"),
    ("the RPC node lacks blocks that it lists", "fault: Lacks"),
    ("an effect is performed twice", "event Effect … fault: Twice"),
    ("an effect is performed late", "event Effect … fault: Slow("),
    ("an acknowledgement is late", "event Effect … fault: SlowAnswer("),
    ("an acknowledgement comes twice", "fault: Again("),
    ("a status is read in two halves", "the other half of"),
    ("a commit with a new effect fails", "carries: Some(Effect)"),
    ("a commit with an outcome fails", "carries: Some(Outcome)"),
    ("a commit with a timer that fired fails", "carries: Some(Timer)"),
    ("a commit with signed bytes fails", "carries: Some(Signed)"),
    ("an acknowledgement is lost", "injected: nobody answered"),
];

#[cfg(feature = "sabotage")]
mod broken {
    use semel_schemas::sabotage::Sabotage;

    use super::*;
    use crate::sim::{Failure, shrink::shrink, swarm::broken_for};

    const SEEDS: u64 = 500;

    /// Variants that this invariant's checker was measured to catch (`semel sim --sabotage NAME
    /// --invariant ID`); what is missing here is shown by the tests of its part alone.
    const MEASURED: &[(&str, &[Sabotage])] = &[
        (
            "ONCE",
            &[
                Sabotage::OffsetOneTooSmall,
                Sabotage::OffsetOneTooLarge,
                Sabotage::PromoteOnAbort,
                Sabotage::CommitBeforeOutputs,
                Sabotage::OutputsBeforeCommit,
                Sabotage::CommitWithoutOffsets,
                Sabotage::OffsetsOfNoGeneration,
                Sabotage::UnknownIsAbort,
                Sabotage::DeadLetterLost,
                Sabotage::DropOutcomeOnAbort,
                Sabotage::DropRecordsOnAbort,
                Sabotage::AbortReordersInputs,
                Sabotage::LoseTimerOnAbort,
                Sabotage::RestoreToStableOffset,
                Sabotage::RestoreUncommitted,
                Sabotage::SkipTombstones,
                Sabotage::ChangelogOffsetApart,
                Sabotage::StaleCopyUsed,
                Sabotage::EffectsForgottenOnRestart,
                Sabotage::MisplacedTaken,
                Sabotage::WindowForgetsEarly,
                Sabotage::TooOldTaken,
            ],
        ),
        (
            "INTENT",
            &[
                Sabotage::ResendBeforeDead,
                Sabotage::UncertainIsDead,
                Sabotage::SendErrorIsDead,
                Sabotage::DeadOnFirstSight,
            ],
        ),
        (
            "COMMIT-FIRST",
            &[
                Sabotage::PromoteOnAbort,
                Sabotage::UnknownIsCommitted,
                Sabotage::ActBeforeCommit,
                Sabotage::RestoreUncommitted,
            ],
        ),
        (
            "ORDER",
            &[
                Sabotage::RootsOvertake,
                Sabotage::NewestRootFirst,
                Sabotage::NonceGapPassedOver,
                Sabotage::NonceStaleTaken,
            ],
        ),
        (
            "ROOT",
            &[
                Sabotage::RefusedLeavesState,
                Sabotage::LeavesInOrderOfArrival,
                Sabotage::LeavesNumberedByChunk,
                Sabotage::LateClaimInClosedEpoch,
            ],
        ),
        (
            "SAME",
            &[
                Sabotage::SinkWithoutCompareAndSet,
                Sabotage::SinkOffsetsApart,
                Sabotage::SinkRetractionIgnored,
            ],
        ),
        (
            "UNDO",
            &[
                Sabotage::SkipTombstones,
                Sabotage::RetractionNotPassedOn,
                Sabotage::DuplicateNotPromoted,
                Sabotage::FinalRetractionTaken,
                Sabotage::RetractionKeepsClaim,
                Sabotage::EpochClosesBeforeFinality,
            ],
        ),
        (
            "RESUME",
            &[
                Sabotage::StaleAttemptCounts,
                Sabotage::SourceCursorApart,
                Sabotage::SourceBacklogDropped,
            ],
        ),
        (
            "REFUSE",
            &[
                Sabotage::DeadLetterLost,
                Sabotage::UnknownVersionTaken,
                Sabotage::LetterWithoutReason,
                Sabotage::RefusedLeavesState,
                Sabotage::SinkLettersForgotten,
                Sabotage::ClaimUnchecked,
            ],
        ),
    ];

    /// The figures of this test stand in its output (`--nocapture`).
    #[test]
    fn broken_variants_are_caught_within_500_seeds() {
        let mut missed = Vec::new();
        for (invariant, variants) in MEASURED {
            for variant in variants.iter().copied() {
                let wanted = vec![*invariant];
                let swarm = Swarm { sabotage: Some(variant), wanted, ..swarm(SEEDS) };
                match swarm.run().unwrap().failed {
                    None => missed.push((*invariant, variant.name())),
                    Some((seed, Failure { text, .. })) => {
                        let (name, seeds) = (variant.name(), seed + 1);
                        println!("{name:<30} {seeds:>3} seeds  {invariant:<12}  {text}");
                    }
                }
            }
        }
        assert!(missed.is_empty(), "not caught within {SEEDS} seeds: {missed:?}");
    }

    /// The last column of the table of broken variants is what the test above shows, no more.
    #[test]
    fn the_document_names_the_variants_that_are_caught() {
        let text = include_str!("../../INVARIANTS.md");
        let (_, table) = text.split_once("\n## Broken variants").unwrap();
        for (invariant, variants) in MEASURED {
            let row = table.lines().find_map(|line| line.strip_prefix(&format!("| {invariant} |")));
            let caught = row.unwrap().split('|').nth(1).unwrap();
            let named: Vec<_> = caught.split('`').skip(1).step_by(2).collect();
            let there: Vec<_> = variants.iter().map(|variant| variant.name()).collect();
            assert_eq!(named, there, "{invariant}");
        }
    }

    #[test]
    fn a_failing_seed_is_shrunk_to_few_events_that_fail_alone() {
        let variant = Some(Sabotage::UnknownIsAbort);
        let broken = Swarm { sabotage: variant, wanted: vec!["ONCE"], ..swarm(SEEDS) };
        let (seed, failure) = broken.run().unwrap().failed.unwrap();
        let (subject, options) = broken.of_seed(seed).unwrap();
        let events = schedule::draw(&options);
        broken_for(variant, || {
            let few = shrink(&subject, &options, &events, &failure.invariant);
            assert!(few.len() < events.len() && few.len() <= 12, "{} events", few.len());
            let report = run(&subject, &options, &few, Trace::Silent).unwrap();
            assert_eq!(report.failure.unwrap().invariant, failure.invariant);
        });
        let again = broken.one(seed, Trace::Silent).unwrap().failure;
        assert_eq!(again, Some(failure));
        let clean = swarm(1).one(seed, Trace::Silent).unwrap().failure;
        assert_eq!(clean, None);
    }
}
