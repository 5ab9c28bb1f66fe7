//! The table of verdicts, over every combination of what can be known.

use semel_schemas::{solana::Signature, time::WallTime};

use super::*;

const LAST_VALID: u64 = 150;
const NOW: u64 = 1_000;

fn status(height: u64, found: Option<(Commitment, Option<&str>)>) -> Outcome {
    Outcome::Status {
        context_slot: Slot(NOW),
        finalized_height: BlockHeight(height),
        found: found.map(|(commitment, error)| TransactionStatus {
            slot: Slot(900),
            commitment,
            error: error.map(str::to_owned),
        }),
    }
}

/// The rule, written a second time as a table: rows are (status, error), columns are
/// (height, sighting).
fn expected(
    found: Option<(Commitment, Option<&str>)>,
    height: u64,
    sighted: Option<u64>,
) -> Finality {
    match (found, height > LAST_VALID, sighted) {
        (Some((Commitment::Finalized, None)), _, _) => Finality::Landed { slot: Slot(900) },
        (Some((Commitment::Finalized, Some(e))), _, _) => {
            Finality::Failed { slot: Slot(900), error: e.to_owned() }
        }
        (Some((Commitment::Processed | Commitment::Confirmed, _)), _, _) => {
            Finality::Live { seen: Seen::InBlock }
        }
        (None, false, _) => Finality::Live { seen: Seen::Nowhere },
        (None, true, None) => Finality::Uncertain { sighted: Some(Slot(NOW)) },
        (None, true, Some(s)) if s > NOW => Finality::Uncertain { sighted: Some(Slot(s)) },
        (None, true, Some(_)) => Finality::Dead { context_slot: Slot(NOW) },
    }
}

#[test]
fn every_combination_of_status_error_height_and_sighting_has_its_verdict() {
    let commitments = [Commitment::Processed, Commitment::Confirmed, Commitment::Finalized];
    let mut found = vec![None];
    for commitment in commitments {
        for error in [None, Some("custom program error: 0x1787")] {
            found.push(Some((commitment, error)));
        }
    }
    let mut dead = 0;
    for found in found {
        for height in [0, LAST_VALID - 1, LAST_VALID, LAST_VALID + 1, u64::MAX] {
            for sighted in [None, Some(0), Some(NOW - 1), Some(NOW), Some(NOW + 1)] {
                let life = Life {
                    last_valid_block_height: BlockHeight(LAST_VALID),
                    sighted: sighted.map(Slot),
                };
                let verdict = classify(&status(height, found), life);
                assert_eq!(verdict, expected(found, height, sighted), "{found:?} {life:?}");
                dead += usize::from(matches!(verdict, Finality::Dead { .. }));
            }
        }
    }
    // Unknown, beyond (two heights), and sighted at or before the answer (three slots).
    assert_eq!(dead, 6);
}

#[test]
fn an_answer_of_another_kind_is_uncertain_and_keeps_the_sighting() {
    let other = [
        Outcome::Uncertain { text: "timed out".into() },
        Outcome::Sent,
        Outcome::Rejected { text: "already processed".into() },
        Outcome::Account { context_slot: Slot(NOW), data: None },
        Outcome::Signed { signature: Signature([1; 64]) },
        Outcome::Discontinuity { text: "x".into() },
        Outcome::Blocks {
            facts: vec![],
            cursor: None,
            complete: Slot(NOW),
            finalized: Slot(NOW),
            at: WallTime(0),
        },
    ];
    for outcome in other {
        for sighted in [None, Some(Slot(3))] {
            let life = Life { last_valid_block_height: BlockHeight(0), sighted };
            assert_eq!(classify(&outcome, life), Finality::Uncertain { sighted }, "{outcome:?}");
        }
    }
}
