//! Parameters of a call, and the errors that a real node gives.

use jsonrpsee::types::{ErrorObjectOwned, Params};
use semel_schemas::effect::Commitment;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use solana_account_decoder_client_types::{UiAccountEncoding, UiDataSliceConfig};
use solana_rpc_client_api::custom_error;
use solana_transaction_status_client_types::{TransactionDetails, UiTransactionEncoding};

use crate::solana::devnet::{block::Produced, chain::Chain};

pub(super) type Answer<T = Value> = Result<T, ErrorObjectOwned>;

/// JSON-RPC's "invalid params".
const INVALID_PARAMS: i64 = -32602;

/// An error with a code of [`custom_error`] or of JSON-RPC itself.
pub(super) fn error(code: i64, text: impl Into<String>) -> ErrorObjectOwned {
    error_with(code, text, None::<()>)
}

/// An error that carries data.
pub(super) fn error_with<T: serde::Serialize>(
    code: i64,
    text: impl Into<String>,
    data: Option<T>,
) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(i32::try_from(code).unwrap_or(i32::MIN), text, data)
}

/// The caller asked for something that makes no sense.
pub(super) fn invalid(text: impl Into<String>) -> ErrorObjectOwned {
    error(INVALID_PARAMS, text)
}

/// Parameters by position.
pub(super) struct Args(Vec<Value>);

impl Args {
    pub(super) fn new(params: &Params<'_>) -> Answer<Self> {
        let held: Option<Vec<Value>> = match params.as_str() {
            None => None,
            Some(text) => serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?,
        };
        Ok(Self(held.unwrap_or_default()))
    }

    /// A parameter that must be there.
    pub(super) fn required<T: DeserializeOwned>(&self, at: usize, what: &str) -> Answer<T> {
        let value =
            self.0.get(at).ok_or_else(|| invalid(format!("parameter {at}, {what}, is missing")))?;
        serde_json::from_value(value.clone())
            .map_err(|e| invalid(format!("parameter {at}, {what}: {e}")))
    }

    /// How many there are.
    pub(super) fn number_of_arguments(&self) -> usize {
        self.0.len()
    }

    /// A number that may be left out.
    pub(super) fn number(&self, at: usize) -> Option<u64> {
        self.0.get(at).and_then(Value::as_u64)
    }

    /// The text of a parameter that is parsed from it.
    pub(super) fn parsed<T: std::str::FromStr>(&self, at: usize, what: &str) -> Answer<T>
    where
        T::Err: std::fmt::Display,
    {
        let text: String = self.required(at, what)?;
        text.parse().map_err(|e| invalid(format!("parameter {at}, {what}: {e}")))
    }

    /// The settings: the last parameter, if it is an object.
    pub(super) fn options(&self) -> Answer<Options> {
        match self.0.last() {
            Some(value @ Value::Object(_)) => {
                serde_json::from_value(value.clone()).map_err(|e| invalid(e.to_string()))
            }
            _ => Ok(Options::default()),
        }
    }
}

/// All settings that the methods know, each of which reads its own.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Options {
    commitment: Option<Commitment>,
    min_context_slot: Option<u64>,
    pub(super) encoding: Option<Value>,
    pub(super) data_slice: Option<UiDataSliceConfig>,
    pub(super) transaction_details: Option<TransactionDetails>,
    pub(super) max_supported_transaction_version: Option<u8>,
    pub(super) rewards: Option<bool>,
    pub(super) skip_preflight: bool,
    pub(super) sig_verify: bool,
    pub(super) replace_recent_blockhash: bool,
    pub(super) inner_instructions: bool,
}

impl Options {
    /// The commitment asked for; as with real nodes, `finalized` where nothing is said.
    pub(super) fn commitment(&self) -> Commitment {
        self.commitment.unwrap_or(Commitment::Finalized)
    }

    /// The commitment asked for, where `processed` is not offered.
    pub(super) fn at_least_confirmed(&self) -> Answer<Commitment> {
        match self.commitment() {
            Commitment::Processed => {
                Err(invalid("Method does not support commitment below `confirmed`"))
            }
            commitment => Ok(commitment),
        }
    }

    /// The newest block at that commitment, if it is new enough.
    pub(super) fn context<'a>(&self, chain: &'a Chain, at: Commitment) -> Answer<&'a Produced> {
        let tip = chain.tip(at);
        match self.min_context_slot {
            Some(min) if tip.slot < min => Err(error_with(
                custom_error::JSON_RPC_SERVER_ERROR_MIN_CONTEXT_SLOT_NOT_REACHED,
                "Minimum context slot has not been reached",
                Some(serde_json::json!({ "contextSlot": tip.slot })),
            )),
            _ => Ok(tip),
        }
    }

    /// The encoding of transactions.
    pub(super) fn transaction_encoding(
        &self,
        default: UiTransactionEncoding,
    ) -> Answer<UiTransactionEncoding> {
        self.encoding_or(default)
    }

    /// The encoding of accounts.
    pub(super) fn account_encoding(&self) -> Answer<UiAccountEncoding> {
        self.encoding_or(UiAccountEncoding::Binary)
    }

    fn encoding_or<T: DeserializeOwned>(&self, default: T) -> Answer<T> {
        match &self.encoding {
            None => Ok(default),
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|e| invalid(format!("`encoding`: {e}"))),
        }
    }
}
