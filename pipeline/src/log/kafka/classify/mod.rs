//! What is known after a failed transaction call: one pure function, tested as a table over every
//! code of librdkafka.
//!
//! The rule: what is not known to be harmless is not harmless (librdkafka's INTRODUCTION.md,
//! "anything unclassified must count as fatal"). [`TxnFault::Abort`] is answered only where it is
//! certain that nothing was and nothing will be committed.

use rdkafka::error::RDKafkaErrorCode as Code;

use super::{Guards, ffi::NativeError};
use crate::log::TxnFault;

/// The call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `init_transactions`.
    Init,
    /// `begin_transaction`, a local call.
    Begin,
    /// Waiting for the records to be written.
    Flush,
    /// `send_offsets_to_transaction`.
    SendOffsets,
    /// `commit_transaction`.
    Commit,
    /// `abort_transaction`.
    Abort,
}

impl Call {
    /// For a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Init => "init_transactions",
            Self::Begin => "begin_transaction",
            Self::Flush => "flush",
            Self::SendOffsets => "send_offsets_to_transaction",
            Self::Commit => "commit_transaction",
            Self::Abort => "abort_transaction",
        }
    }
}

/// What is known after `call` failed with `error`.
pub(super) fn classify(call: Call, error: &NativeError, guards: &Guards) -> TxnFault {
    if wrong_for_good(error.code) {
        return TxnFault::Fatal;
    }
    if fenced(error.code) {
        return TxnFault::Rebuild;
    }
    // A request that ran out of time may still arrive, and in a *later* transaction of the same
    // epoch (librdkafka #5423, Kafka trap 5): only a new epoch is safe.
    if outcome_open(error.code) && call != Call::Begin {
        if guards.poison_after_timeout {
            return TxnFault::Unknown;
        }
        return if error.retriable { TxnFault::Retry } else { TxnFault::Abort };
    }
    if error.fatal {
        return TxnFault::Rebuild;
    }
    match call {
        // librdkafka's EndTxn handler: "this is a tricky state since the transaction will have
        // failed locally but the EndTxn(commit) may have succeeded". So an error of the commit
        // itself is never a known abort.
        Call::Commit => TxnFault::Unknown,
        Call::Abort | Call::Init if !error.retriable => TxnFault::Unknown,
        _ if error.requires_abort => TxnFault::Abort,
        _ if error.retriable => TxnFault::Retry,
        _ if guards.unclassified_is_rebuild => TxnFault::Rebuild,
        _ => TxnFault::Abort,
    }
}

/// Wrong rights, wrong settings, a mistake in the program: no repetition helps.
fn wrong_for_good(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::Authentication
            | Code::SecurityDisabled
            | Code::InvalidTransactionTimeout
            | Code::InvalidGroupId
            | Code::UnsupportedVersion
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedFeature
            | Code::NotConfigured
            | Code::NotImplemented
            | Code::InvalidArgument
    )
}

/// Another producer initialised the same transactional id, or the epoch moved without us.
fn fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::TransactionCoordinatorFenced
            | Code::InvalidProducerIdMapping
            | Code::UnknownProducerId
    )
}

/// The request may or may not have been, or be, carried out.
fn outcome_open(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::BrokerDestroy
            | Code::DestroyBroker
            | Code::NetworkException
            | Code::Interrupted
            | Code::InProgress
            | Code::PreviousInProgress
            | Code::Conflict
            | Code::Outdated
    )
}

#[cfg(test)]
mod tests;
