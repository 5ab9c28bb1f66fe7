//! What to do after a failed cycle: a pure function from facts to a decision.
//!
//! The rules: what is known not to have happened is done again from the same inputs; what is not
//! known is never treated as an abort, but rebuilt from what the log holds. A cycle that keeps
//! failing is halved until one input is left; that one goes to the dead letters only after the log
//! was seen to take a commit without it. An input is a record, an outcome or a timer. Fenced twice
//! in a minute without a rebuild of our own: another process bears our id (Kafka trap 38).

use semel_schemas::sabotage::{Sabotage, sabotaged};

use crate::log::TxnFault;

/// The facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the log says.
    pub fault: TxnFault,
    /// Inputs in the failed cycle.
    pub inputs: usize,
    /// Failed calls of the same kind in a row, this one included.
    pub in_a_row: u32,
    /// Whether, with this one input known to fail, a commit without it was seen to succeed.
    pub probed: bool,
    /// Times we were fenced within the last minute, this one included.
    pub fenced: u32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Make the same call again.
    Again,
    /// Abort, take the inputs back, and put at most this many into the next cycle.
    Rewind {
        /// Bound of the next cycle; `None`: the usual one.
        inputs_max: Option<usize>,
    },
    /// Abort, take the input back, and commit once without it.
    Probe,
    /// Abort, and send the one input to the dead letters.
    Condemn,
    /// New producer; every task starts as after an assignment.
    Rebuild,
    /// Another process bears our id, or the program is at fault: stop and say so.
    Stop,
}

/// Calls made again before a failure counts as "nothing is known".
const AGAIN_MAX: u32 = 5;

/// See the module.
#[must_use]
pub fn decide(failure: &Failure) -> Decision {
    match failure.fault {
        TxnFault::Fatal => Decision::Stop,
        TxnFault::Rebuild if sabotaged(Sabotage::FencedIsTheEnd) => Decision::Stop,
        TxnFault::Rebuild if failure.fenced >= 2 && !sabotaged(Sabotage::FencedForEver) => {
            Decision::Stop
        }
        TxnFault::Abort if sabotaged(Sabotage::AbortIsCorruption) => Decision::Rebuild,
        TxnFault::Rebuild | TxnFault::Unknown => Decision::Rebuild,
        TxnFault::Retry if failure.in_a_row <= AGAIN_MAX => Decision::Again,
        TxnFault::Retry => Decision::Rebuild,
        TxnFault::Abort if failure.in_a_row < 2 => Decision::Rewind { inputs_max: None },
        TxnFault::Abort if sabotaged(Sabotage::CycleNotHalved) => {
            Decision::Rewind { inputs_max: None }
        }
        TxnFault::Abort if failure.inputs > 1 => {
            Decision::Rewind { inputs_max: Some(failure.inputs / 2) }
        }
        TxnFault::Abort if failure.inputs == 0 => Decision::Rewind { inputs_max: None },
        TxnFault::Abort if failure.probed => Decision::Condemn,
        TxnFault::Abort => Decision::Probe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table() {
        use Decision::{Again, Condemn, Probe, Rebuild, Rewind, Stop};
        let none = Rewind { inputs_max: None };
        // fault, inputs, in a row, probed, fenced → decision
        for (fault, inputs, in_a_row, probed, fenced, want) in [
            (TxnFault::Fatal, 9, 1, false, 0, Stop),
            (TxnFault::Rebuild, 9, 1, false, 1, Rebuild),
            (TxnFault::Rebuild, 9, 1, false, 2, Stop),
            (TxnFault::Unknown, 9, 9, true, 2, Rebuild),
            (TxnFault::Retry, 9, 5, false, 0, Again),
            (TxnFault::Retry, 9, 6, false, 0, Rebuild),
            (TxnFault::Abort, 9, 1, false, 0, none),
            (TxnFault::Abort, 9, 2, false, 0, Rewind { inputs_max: Some(4) }),
            (TxnFault::Abort, 2, 7, false, 0, Rewind { inputs_max: Some(1) }),
            (TxnFault::Abort, 1, 1, false, 0, none),
            (TxnFault::Abort, 1, 2, false, 0, Probe),
            (TxnFault::Abort, 1, 3, true, 0, Condemn),
            (TxnFault::Abort, 0, 9, true, 0, none),
        ] {
            let failure = Failure { fault, inputs, in_a_row, probed, fenced };
            assert_eq!(decide(&failure), want, "{failure:?}");
        }
    }
}
