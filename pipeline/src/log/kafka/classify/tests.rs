//! The table: every code of librdkafka, every call, every flag.

use rdkafka::{error::RDKafkaErrorCode as Code, types::RDKafkaRespErr};

use super::*;

const CALLS: [Call; 6] =
    [Call::Init, Call::Begin, Call::Flush, Call::SendOffsets, Call::Commit, Call::Abort];

/// Every code that librdkafka knows.
fn codes() -> Vec<Code> {
    (-200..=200)
        .filter(|raw| !matches!(raw, -200 | -100 | 0))
        .filter_map(|raw| RDKafkaRespErr::try_from(raw).ok())
        .map(Code::from)
        .filter(|code| !matches!(code, Code::Begin | Code::End | Code::EndAll | Code::NoError))
        .collect()
}

fn error(code: Code, fatal: bool, retriable: bool, requires_abort: bool) -> NativeError {
    NativeError { code, text: String::new(), fatal, retriable, requires_abort }
}

fn known(call: Call, error: &NativeError) -> TxnFault {
    classify(call, error, &Guards::default())
}

#[test]
fn trap_06_every_code_of_every_call_has_one_meaning() {
    let codes = codes();
    assert!(codes.len() > 150, "the table is not exhaustive: {}", codes.len());
    for code in codes {
        for call in CALLS {
            for flags in 0..8_u8 {
                let (fatal, retriable, abort) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
                let found = known(call, &error(code, fatal, retriable, abort));
                let expected = expected(call, code, fatal, retriable, abort);
                assert_eq!(found, expected, "{call:?} {code:?} {fatal} {retriable} {abort}");
            }
        }
    }
}

#[test]
fn trap_06_what_is_not_classified_is_taken_for_the_worst() {
    // No flag says anything of it, and it is not among the codes that we know.
    let unclassified = error(Code::Fail, false, false, false);
    let known = |guarded: bool| {
        let guards = Guards { unclassified_is_rebuild: guarded, ..Guards::default() };
        classify(Call::SendOffsets, &unclassified, &guards)
    };
    assert_eq!(known(true), TxnFault::Rebuild);
    assert_eq!(known(false), TxnFault::Abort, "an open transaction is taken for one that is gone");
}

/// The table in words of its own: lists instead of rules.
fn expected(call: Call, code: Code, fatal: bool, retriable: bool, abort: bool) -> TxnFault {
    const STOP: [i32; 16] =
        [29, 30, 31, 53, 58, 33, -169, 54, 50, 24, 35, 43, -165, -145, -170, -186];
    const FENCED: [i32; 6] = [-144, 90, 47, 52, 49, 59];
    const OPEN: [i32; 14] =
        [-185, -166, -192, 7, -195, -187, -197, -137, 13, -163, -178, -177, -173, -167];
    let raw = code as i32;
    if STOP.contains(&raw) {
        TxnFault::Fatal
    } else if FENCED.contains(&raw) {
        TxnFault::Rebuild
    } else if OPEN.contains(&raw) && call != Call::Begin {
        TxnFault::Unknown
    } else if fatal {
        TxnFault::Rebuild
    } else {
        match (call, retriable, abort) {
            (Call::Commit, _, _) => TxnFault::Unknown,
            (Call::Init | Call::Abort, false, _) => TxnFault::Unknown,
            (_, _, true) => TxnFault::Abort,
            (_, true, false) => TxnFault::Retry,
            (_, false, false) => TxnFault::Rebuild,
        }
    }
}

#[test]
fn an_abort_is_known_only_where_librdkafka_says_so_and_never_for_a_commit() {
    for code in codes() {
        for call in CALLS {
            for (fatal, retriable) in [(false, false), (true, false), (false, true)] {
                let without = known(call, &error(code, fatal, retriable, false));
                assert_ne!(without, TxnFault::Abort, "{call:?} {code:?}");
            }
            if call == Call::Commit {
                let with = known(call, &error(code, false, false, true));
                assert_ne!(with, TxnFault::Abort, "{code:?}");
            }
        }
    }
}

#[test]
fn trap_05_any_timeout_of_a_call_leaves_its_end_unknown() {
    for code in [Code::OperationTimedOut, Code::RequestTimedOut, Code::TimedOutQueue] {
        for call in CALLS.into_iter().filter(|call| *call != Call::Begin) {
            for (retriable, abort) in [(true, false), (false, true), (true, true)] {
                let timeout = error(code, false, retriable, abort);
                assert_eq!(known(call, &timeout), TxnFault::Unknown, "{call:?} {code:?}");
                let off = Guards { poison_after_timeout: false, ..Guards::default() };
                assert_ne!(classify(call, &timeout, &off), TxnFault::Unknown, "the guard does it");
            }
        }
    }
}

#[test]
fn trap_19_a_moved_epoch_is_a_rebuild_and_no_exit() {
    for code in [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch] {
        for call in CALLS {
            assert_eq!(known(call, &error(code, true, false, false)), TxnFault::Rebuild);
        }
    }
}

#[test]
fn trap_18_a_rebalance_is_a_rewind_and_no_rebuild() {
    for code in [Code::UnknownMemberId, Code::IllegalGeneration, Code::RebalanceInProgress] {
        let found = known(Call::SendOffsets, &error(code, false, false, true));
        assert_eq!(found, TxnFault::Abort, "{code:?}");
    }
}
