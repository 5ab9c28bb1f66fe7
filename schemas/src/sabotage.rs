//! Deliberately broken variants: each switches off one guard, to show that a test would notice.
//!
//! Lives here: their names, and which one is active on this thread. May not live here: what a
//! guard is; it stands where it guards, as `if !sabotaged(Sabotage::X) { … }`.
//!
//! Invariants: without the feature `sabotage` nothing can be switched off and [`sabotaged`] is a
//! constant `false`; with it nothing is switched off until [`Sabotage::begin`], and then on the
//! calling thread only, until the guard is dropped.

macro_rules! variants {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal breaks [$($invariant:literal),*],)+) => {
        /// One guard that can be switched off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Sabotage {
            $($(#[$doc])+ $variant,)+
        }

        impl Sabotage {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The invariants (ids of `pipeline/INVARIANTS.md`) that break with it, the first one
            /// first. Empty: a test of a Kafka trap alone shows it (`pipeline/TRAPS.md`).
            #[must_use]
            pub const fn breaks(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$($invariant),*],)+
                }
            }
        }
    };
}

variants! {
    // What is committed.
    /// The offset that is committed, in the group and in the state, is one too small: after a
    /// restart the last record is processed again, and so is answered twice.
    OffsetOneTooSmall = "offset-one-too-small" breaks ["ONCE"],
    /// The next offset is one too large: a record that follows right behind another one is skipped.
    OffsetOneTooLarge = "offset-one-too-large" breaks ["ONCE"],
    /// After an abort the overlay is promoted as if the commit had succeeded: what the aborted
    /// transaction was to say is never said, its effects are performed.
    PromoteOnAbort = "promote-on-abort" breaks ["ONCE", "COMMIT-FIRST"],
    /// Offsets and state are committed first, outputs in a transaction of their own behind them: a
    /// crash between the two loses the outputs.
    CommitBeforeOutputs = "commit-before-outputs" breaks ["ONCE"],
    /// Outputs are committed first, offsets and state behind them: a crash between the two doubles
    /// the outputs.
    OutputsBeforeCommit = "outputs-before-commit" breaks ["ONCE"],
    /// Transactions send no offsets (the simulated log takes them then), and a new owner fences
    /// nobody: nothing stops a member that lost its partition, and its outputs are doubled.
    CommitWithoutOffsets = "commit-without-offsets" breaks ["ONCE"],
    /// Offsets are sent with generation -1 and no member id, as by an assigned consumer: Kafka
    /// accepts them from anybody, so a zombie commits (a new owner fences nobody then).
    OffsetsOfNoGeneration = "offsets-of-no-generation" breaks ["ONCE"],
    /// After an end that is not known the old producer goes on, without `init`: its open
    /// transaction holds up the restore until it times out, and the producer is fenced for good.
    StaleProducerEpoch = "stale-producer-epoch" breaks ["ONCE"],
    /// A commit whose end is not known is taken for an abort, and done again.
    UnknownIsAbort = "unknown-is-abort" breaks ["ONCE"],
    /// A commit whose end is not known is taken for done: its effects are performed, its state is
    /// promoted.
    UnknownIsCommitted = "unknown-is-committed" breaks ["COMMIT-FIRST", "ONCE"],
    /// Effects are handed out before the commit that records them.
    ActBeforeCommit = "act-before-commit" breaks ["COMMIT-FIRST"],
    /// A record that is refused leaves no dead letter.
    DeadLetterLost = "dead-letter-lost" breaks ["REFUSE", "ONCE"],
    // What an abort gives back.
    /// Outcomes of an aborted transaction are not given back: who asked waits for ever.
    DropOutcomeOnAbort = "drop-outcome-on-abort" breaks ["ONCE"],
    /// Records of an aborted transaction are not given back: the next ones go on behind them.
    DropRecordsOnAbort = "drop-records-on-abort" breaks ["ONCE"],
    /// What an abort gives back comes in the opposite order: older records count as processed once
    /// a younger one was.
    AbortReordersInputs = "abort-reorders-inputs" breaks ["ONCE"],
    /// A timer that fired in an aborted transaction stays cancelled: what it was to go on with
    /// stands still.
    LoseTimerOnAbort = "lose-timer-on-abort" breaks ["ONCE"],
    // What a start finds.
    /// A restore ends at the last stable offset, and a state that is behind the group's offset is
    /// taken: what a decided transaction without its marker holds is done again.
    RestoreToStableOffset = "restore-to-stable-offset" breaks ["ONCE"],
    /// A restore reads what was aborted too, and a state that is ahead of the group's offset is
    /// taken.
    RestoreUncommitted = "restore-uncommitted" breaks ["COMMIT-FIRST", "ONCE"],
    /// Deletions are not written to the changelog: a restore from it brings back what was deleted
    /// (claims that were retracted, effects that were answered, timers that fired).
    SkipTombstones = "skip-tombstones" breaks ["UNDO", "ONCE"],
    /// The changelog's offset is written to the local store before the values that it speaks of: a
    /// crash between the two loses the values.
    ChangelogOffsetApart = "changelog-offset-apart" breaks ["ONCE"],
    /// A local copy is used however old it is: keys whose tombstones are compacted away come back.
    StaleCopyUsed = "stale-copy-used" breaks ["UNDO", "ONCE"],
    /// After a start, recorded effects without an outcome count as under way: nobody performs them.
    EffectsForgottenOnRestart = "effects-forgotten-on-restart" breaks ["ONCE"],
    /// Wall-clock timers fire before the input that was there at the start is worked up: a gap of
    /// nonces expires though the missing one has come.
    TimersBeforeCaughtUp = "timers-before-caught-up" breaks ["ORDER"],
    /// The outcome of an attempt that was answered or replaced counts again for its effect: one
    /// look at an expired transaction counts as the two that its death takes.
    StaleAttemptCounts = "stale-attempt-counts" breaks ["RESUME", "INTENT"],
    /// A record in a partition that is not its key's is processed there: two tasks admit one id.
    MisplacedTaken = "misplaced-taken" breaks ["ONCE"],
    /// A record of a version that this build does not know is read as if it were ours.
    UnknownVersionTaken = "unknown-version-taken" breaks ["REFUSE"],
    /// A dead letter says neither by what code nor why: nobody can tell what to repair.
    LetterWithoutReason = "letter-without-reason" breaks ["REFUSE"],
    /// What a refused record wrote stays in the state: a claim that was refused counts in its
    /// batch.
    RefusedLeavesState = "refused-leaves-state" breaks ["REFUSE", "ROOT"],
    // Sinks.
    /// A sink writes rows whatever its offset row holds: a writer that lost its partition
    /// overwrites newer rows.
    SinkWithoutCompareAndSet = "sink-without-compare-and-set" breaks ["SAME"],
    /// A sink's offset moves in a transaction before the one of its rows: a crash between the two
    /// loses the rows.
    SinkOffsetsApart = "sink-offsets-apart" breaks ["SAME"],
    /// A sink that starts again elsewhere keeps what it had fetched before: old rows overwrite new
    /// ones.
    SinkBufferKept = "sink-buffer-kept" breaks ["SAME"],
    /// A sink never reads its outbox: a refused record whose letter was not told before a crash has
    /// none.
    SinkLettersForgotten = "sink-letters-forgotten" breaks ["REFUSE"],
    /// A sink's rows stay when their facts are retracted.
    SinkRetractionIgnored = "sink-retraction-ignored" breaks ["SAME"],
    // Source and dedupe.
    /// The cursor is not in the step that emits its records: the next fetch by a timer reads them
    /// again.
    SourceCursorApart = "source-cursor-apart" breaks ["RESUME"],
    /// Facts that do not fit a step are dropped (`max_outputs` of the source must be small to see
    /// it).
    SourceBacklogDropped = "source-backlog-dropped" breaks ["RESUME"],
    /// `dedupe` forgets an id as soon as it is final, long before it is too old: a later duplicate
    /// is taken for new.
    WindowForgetsEarly = "window-forgets-early" breaks ["ONCE"],
    /// `dedupe` takes for new what is older than its window.
    TooOldTaken = "too-old-taken" breaks ["ONCE"],
    /// `dedupe` forgets a retracted fact and tells nobody downstream.
    RetractionNotPassedOn = "retraction-not-passed-on" breaks ["UNDO"],
    /// `dedupe` does not let the next record through when the fact that admitted an id is
    /// retracted.
    DuplicateNotPromoted = "duplicate-not-promoted" breaks ["UNDO"],
    /// The retraction of a final fact takes effect like any other, and nobody is called.
    FinalRetractionTaken = "final-retraction-taken" breaks ["UNDO"],
    // Epochs and roots.
    /// `epoch_batch` passes a retraction on to the tables and keeps the claim in its batch.
    RetractionKeepsClaim = "retraction-keeps-claim" breaks ["UNDO"],
    /// An epoch closes when its end is complete, not when it is final.
    EpochClosesBeforeFinality = "epoch-closes-before-finality" breaks ["UNDO"],
    /// Leaves stand in the order in which claims came, not in that of the chain.
    LeavesInOrderOfArrival = "leaves-in-order-of-arrival" breaks ["ROOT"],
    /// Leaves are numbered anew in each chunk of a batch: a root over several chunks is that of
    /// other leaves than the tables say.
    LeavesNumberedByChunk = "leaves-numbered-by-chunk" breaks ["ROOT"],
    /// A late claim counts in its own epoch though that is closed.
    LateClaimInClosedEpoch = "late-claim-in-closed-epoch" breaks ["ROOT"],
    /// `epoch_batch` takes claims that it should refuse: under another key than their channel,
    /// without an id, in upper case.
    ClaimUnchecked = "claim-unchecked" breaks ["REFUSE"],
    // Settlement and nonces.
    /// A transaction that no block holds yet counts as dead: another one is signed with a new
    /// blockhash while the first may still land.
    ResendBeforeDead = "resend-before-dead" breaks ["INTENT"],
    /// An answer that says nothing counts as the transaction's death.
    UncertainIsDead = "uncertain-is-dead" breaks ["INTENT"],
    /// A broadcast whose answer is an error counts as the transaction's death: another one is
    /// signed, though the node may have passed the first one on.
    SendErrorIsDead = "send-error-is-dead" breaks ["INTENT"],
    /// One answer is enough for a transaction's death: it may have landed between the two readings
    /// that the answer holds.
    DeadOnFirstSight = "dead-on-first-sight" breaks ["INTENT"],
    /// A root does not wait for the one of its channel that is in flight.
    RootsOvertake = "roots-overtake" breaks ["ORDER"],
    /// Of the roots of a channel that wait, the newest goes first.
    NewestRootFirst = "newest-root-first" breaks ["ORDER"],
    /// `nonce_order` passes over a missing nonce without refusing anything.
    NonceGapPassedOver = "nonce-gap-passed-over" breaks ["ORDER"],
    /// `nonce_order` runs a nonce that was used already.
    NonceStaleTaken = "nonce-stale-taken" breaks ["ORDER"],
    // Shown by the tests of Kafka's traps alone.
    /// A record that a client hands out again after an abort is processed again.
    PastTakenAgain = "past-taken-again" breaks [],
    /// A transaction is begun before a restore, and may end by its timeout during it.
    BeginBeforeRestore = "begin-before-restore" breaks [],
    /// A restore counts records instead of looking at the position: it waits for ever over gaps.
    RestoreByCount = "restore-by-count" breaks [],
    /// A known abort restores every task.
    AbortIsCorruption = "abort-is-corruption" breaks [],
    /// A fenced producer stops its process.
    FencedIsTheEnd = "fenced-is-the-end" breaks [],
    /// A process that is fenced again and again goes on.
    FencedForEver = "fenced-for-ever" breaks [],
    /// A recreated topic is read on at the offset of the old one.
    RecreatedTopicTaken = "recreated-topic-taken" breaks [],
    /// A lane whose one task is restored does nothing else.
    RestoreStopsLane = "restore-stops-lane" breaks [],
    /// A lane with a paused partition does not poll.
    PressureStopsPolls = "pressure-stops-polls" breaks [],
    /// A lane works all that it has, however long that takes, before it polls again.
    SlowWorkStopsPolls = "slow-work-stops-polls" breaks [],
    /// One input may make any number of records of any size.
    StepUnchecked = "step-unchecked" breaks [],
    /// A cycle that fails is done again whole, however often: one bad record stops its partition.
    CycleNotHalved = "cycle-not-halved" breaks [],
    /// A task whose group has no offset any more reads on at the end, as a client does that resets.
    ExpiredOffsetSkips = "expired-offset-skips" breaks [],
}

impl Sabotage {
    /// The variant of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.name() == name)
    }

    /// Switches the guard off on this thread until the answer is dropped.
    #[cfg(feature = "sabotage")]
    #[must_use = "the guard is off only while this lives"]
    pub fn begin(self) -> Active {
        Active { before: ACTIVE.replace(Some(self)) }
    }
}

#[cfg(feature = "sabotage")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// While this lives, a guard is off on the thread that made it.
#[cfg(feature = "sabotage")]
#[derive(Debug)]
pub struct Active {
    before: Option<Sabotage>,
}

#[cfg(feature = "sabotage")]
impl Drop for Active {
    fn drop(&mut self) {
        ACTIVE.set(self.before);
    }
}

/// Whether this guard is off.
#[cfg(feature = "sabotage")]
#[must_use]
pub fn sabotaged(which: Sabotage) -> bool {
    ACTIVE.get() == Some(which)
}

/// Whether this guard is off: never, in a build that people use.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn sabotaged(_: Sabotage) -> bool {
    false
}

#[cfg(all(test, feature = "sabotage"))]
mod tests {
    use super::{Sabotage, sabotaged};

    #[test]
    fn names_are_found_again_and_nothing_is_off_by_itself() {
        for each in Sabotage::ALL.iter().copied() {
            assert_eq!(Sabotage::named(each.name()), Some(each));
            assert!(!sabotaged(each));
            let active = each.begin();
            assert!(sabotaged(each));
            drop(active);
            assert!(!sabotaged(each));
        }
    }
}
