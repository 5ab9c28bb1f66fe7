//! How a question over JSON-RPC can fail, and what follows from it: nothing but a [`NodeError`].
//!
//! Codes are those of Solana's RPC (`rpc-client-api/src/custom_error.rs`). The table is closed:
//! whatever is not named here is "unavailable", the answer from which the least follows.

use std::time::Duration;

use solana_rpc_client_api::{
    client_error::{Error as ClientError, ErrorKind},
    custom_error as code,
    request::{RpcError, RpcRequest},
};

use super::NodeError;

/// JSON-RPC 2.0: the endpoint has no such method.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC 2.0: the parameters (here: the transaction's bytes) are refused.
const INVALID_PARAMS: i64 = -32602;

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer in time.
    TimedOut(Duration),
    /// The way to the endpoint is broken.
    Transport(String),
    /// The endpoint answered with an error object.
    Refused {
        /// Its code.
        code: i64,
        /// Its text.
        message: String,
    },
    /// The endpoint answered with something else than was asked for.
    Malformed(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match *error.kind {
            ErrorKind::Reqwest(error) => {
                // Without the URL, which may hold a key, but with the cause behind it.
                let error = error.without_url();
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Self::Transport(match cause {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                })
            }
            ErrorKind::Middleware(_) => Self::Transport("the HTTP client failed".to_owned()),
            ErrorKind::Io(error) => Self::Transport(error.to_string()),
            ErrorKind::RpcError(RpcError::RpcResponseError { code, message, .. }) => {
                Self::Refused { code, message }
            }
            other => Self::Malformed(other.to_string()),
        }
    }
}

impl Failure {
    /// Whether this says that the node does not have the slot.
    pub(super) fn means_not_here(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: code::JSON_RPC_SERVER_ERROR_BLOCK_NOT_AVAILABLE
                    | code::JSON_RPC_SERVER_ERROR_SLOT_SKIPPED
                    | code::JSON_RPC_SERVER_ERROR_LONG_TERM_STORAGE_SLOT_SKIPPED
                    | code::JSON_RPC_SERVER_ERROR_BLOCK_STATUS_NOT_AVAILABLE_YET,
                ..
            }
        )
    }

    /// The node's text, if it looked at a transaction and refused it.
    ///
    /// # Errors
    /// Itself, if it says nothing about a transaction.
    pub(super) fn rejection(self) -> Result<String, Self> {
        match self {
            Self::Refused {
                code:
                    code::JSON_RPC_SERVER_ERROR_SEND_TRANSACTION_PREFLIGHT_FAILURE
                    | code::JSON_RPC_SERVER_ERROR_TRANSACTION_SIGNATURE_VERIFICATION_FAILURE
                    | code::JSON_RPC_SERVER_ERROR_TRANSACTION_PRECOMPILE_VERIFICATION_FAILURE
                    | code::JSON_RPC_SERVER_ERROR_TRANSACTION_SIGNATURE_LEN_MISMATCH
                    | INVALID_PARAMS,
                message,
            } => Ok(message),
            other => Err(other),
        }
    }

    /// As an error of the conversation.
    pub(super) fn into_error(self, request: RpcRequest, place: &str) -> NodeError {
        match self {
            Self::TimedOut(after) => {
                NodeError::Unavailable(format!("{place} did not answer {request} within {after:?}"))
            }
            Self::Transport(text) => {
                NodeError::Unavailable(format!("{place} cannot be asked for {request}: {text}"))
            }
            Self::Refused { code, message } => NodeError::Unavailable(format!(
                "{place} refused {request} with code {code}: {message}"
            )),
            Self::Malformed(text) => {
                NodeError::Malformed(format!("{place}'s answer to {request}: {text}"))
            }
        }
    }
}
