//! A node reached over a cluster's JSON-RPC.
//!
//! Lives here: one method of [`SolanaNode`] = one conversation with one endpoint, with a time
//! limit, and the translation of its errors. What a block's bytes mean is in `block`. May not live
//! here: retries, fail-over, judgements.
//!
//! Invariants: an error says nothing about a transaction or a slot ("not here" is never
//! "skipped"); no text that leaves this file holds the endpoint's URL, whose path or query is
//! often a secret.

mod block;
mod failure;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use semel_schemas::{
    effect::{Commitment, TransactionStatus},
    solana::{Address, Signature},
    time::{BlockHeight, Slot},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use solana_account_decoder_client_types::UiAccount;
use solana_rpc_client::{
    http_sender::HttpSender, nonblocking::rpc_client::RpcClient, rpc_client::RpcClientConfig,
    rpc_sender::RpcSender,
};
use solana_rpc_client_api::{
    client_error::reqwest::Url,
    request::RpcRequest,
    response::{Response, RpcBlockhash, RpcPrioritizationFee},
};
use solana_transaction_status_client_types::{
    TransactionConfirmationStatus, TransactionStatus as RpcStatus, UiConfirmedBlock,
    UiTransactionError,
};

use self::failure::Failure;
use super::{
    message::unsigned_transaction,
    node::{
        AccountAt, Block, ExecutedInstruction, ExecutedTransaction, LatestBlockhash, NodeError,
        SendAnswer, SolanaNode, StatusAt,
    },
};

/// Longest part of a program's log that is quoted in an error text, in bytes.
const QUOTE_BYTES_MAX: usize = 400;

/// Why a text is no endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the RPC endpoint is no http:// or https:// address with a host; give one, for example \
     http://127.0.0.1:8899"
)]
pub struct BadEndpoint;

/// A node behind a JSON-RPC endpoint.
pub struct RpcNode {
    client: RpcClient,
    /// Host and port: how the endpoint is called in texts.
    place: String,
    timeout: Duration,
}

impl fmt::Debug for RpcNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcNode").field("place", &self.place).finish_non_exhaustive()
    }
}

impl RpcNode {
    /// A node at `url`. `timeout` bounds one question, the transport's own waiting included.
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// [`BadEndpoint`]; it does not repeat the text, which may hold a secret.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, BadEndpoint> {
        let parsed = Url::parse(url).map_err(|_| BadEndpoint)?;
        let host = parsed.host_str().filter(|_| matches!(parsed.scheme(), "http" | "https"));
        let host = host.ok_or(BadEndpoint)?;
        let place = match parsed.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self::over(HttpSender::new_with_timeout(url, timeout), place, timeout))
    }

    /// A node behind any transport; `place` is how it is called in texts.
    pub fn over(
        sender: impl RpcSender + Send + Sync + 'static,
        place: String,
        timeout: Duration,
    ) -> Self {
        Self { client: RpcClient::new_sender(sender, RpcClientConfig::default()), place, timeout }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: RpcRequest,
        params: Value,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, self.client.send(request, params)).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::TimedOut(self.timeout)),
        }
    }

    /// [`RpcNode::ask`] for questions whose failures have no meaning of their own.
    async fn get<T: DeserializeOwned>(
        &self,
        request: RpcRequest,
        params: Value,
    ) -> Result<T, NodeError> {
        self.ask(request, params).await.map_err(|failure| failure.into_error(request, &self.place))
    }

    fn malformed(&self, request: RpcRequest, what: impl fmt::Display) -> NodeError {
        NodeError::Malformed(format!("{}'s answer to {request}: {what}", self.place))
    }

    /// The finalized slot and a finalized height that was reached at or before it.
    ///
    /// One answer of one node (getEpochInfo) where it is offered. Where it is not (small
    /// development nodes: one process, whose slot and height only grow) the height is asked first
    /// and the slot after it, so the slot is never the older of the two.
    async fn finalized(&self, min: Option<Slot>) -> Result<(Slot, BlockHeight), NodeError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct EpochInfo {
            absolute_slot: u64,
            block_height: u64,
        }
        let request = RpcRequest::GetEpochInfo;
        match self.ask(request, json!([config(Commitment::Finalized, min)])).await {
            Ok(EpochInfo { absolute_slot, block_height }) => {
                Ok((Slot(absolute_slot), BlockHeight(block_height)))
            }
            Err(Failure::Refused { code: failure::METHOD_NOT_FOUND, .. }) => {
                let height = self.block_height(Commitment::Finalized, min).await?;
                Ok((self.slot(Commitment::Finalized).await?, height))
            }
            Err(failure) => Err(failure.into_error(request, &self.place)),
        }
    }
}

#[async_trait]
impl SolanaNode for RpcNode {
    async fn slot(&self, commitment: Commitment) -> Result<Slot, NodeError> {
        self.get(RpcRequest::GetSlot, json!([config(commitment, None)])).await.map(Slot)
    }

    async fn blocks(
        &self,
        start: Slot,
        end: Slot,
        commitment: Commitment,
    ) -> Result<Vec<Slot>, NodeError> {
        if start > end {
            return Ok(Vec::new());
        }
        let params = json!([start, end, config(commitment, None)]);
        let mut slots: Vec<Slot> = self.get(RpcRequest::GetBlocks, params).await?;
        // The order and the bounds are the contract's, not the endpoint's.
        slots.retain(|slot| (start..=end).contains(slot));
        slots.sort_unstable();
        slots.dedup();
        Ok(slots)
    }

    async fn block(&self, slot: Slot, commitment: Commitment) -> Result<Block, NodeError> {
        let request = RpcRequest::GetBlock;
        let params = json!([slot, {
            "encoding": "base64",
            "transactionDetails": "full",
            "rewards": false,
            "maxSupportedTransactionVersion": 0,
            "commitment": commitment,
        }]);
        match self.ask::<Option<UiConfirmedBlock>>(request, params).await {
            Ok(Some(encoded)) => {
                block::decode(slot, encoded).map_err(|what| self.malformed(request, what))
            }
            Ok(None) => Err(NodeError::NotHere(slot)),
            Err(failure) if failure.means_not_here() => Err(NodeError::NotHere(slot)),
            Err(failure) => Err(failure.into_error(request, &self.place)),
        }
    }

    async fn block_height(
        &self,
        commitment: Commitment,
        min_context_slot: Option<Slot>,
    ) -> Result<BlockHeight, NodeError> {
        let params = json!([config(commitment, min_context_slot)]);
        self.get(RpcRequest::GetBlockHeight, params).await.map(BlockHeight)
    }

    async fn account(
        &self,
        address: &Address,
        commitment: Commitment,
        min_context_slot: Option<Slot>,
    ) -> Result<AccountAt, NodeError> {
        let request = RpcRequest::GetAccountInfo;
        let mut settings = config(commitment, min_context_slot);
        settings["encoding"] = json!("base64");
        let answer: Response<Option<UiAccount>> =
            self.get(request, json!([address, settings])).await?;
        let data = answer
            .value
            .map(|account| {
                let text = "the account's data is not base64";
                account.data.decode().ok_or_else(|| self.malformed(request, text))
            })
            .transpose()?;
        Ok(AccountAt { context_slot: Slot(answer.context.slot), data })
    }

    async fn latest_blockhash(&self, commitment: Commitment) -> Result<LatestBlockhash, NodeError> {
        let request = RpcRequest::GetLatestBlockhash;
        let answer: Response<RpcBlockhash> =
            self.get(request, json!([config(commitment, None)])).await?;
        let blockhash = answer.value.blockhash.parse();
        Ok(LatestBlockhash {
            blockhash: blockhash.map_err(|error| self.malformed(request, error))?,
            last_valid_block_height: BlockHeight(answer.value.last_valid_block_height),
        })
    }

    async fn simulate(&self, message: &[u8]) -> Result<Result<u64, String>, NodeError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Simulated {
            #[serde(default)]
            err: Option<Value>,
            #[serde(default)]
            logs: Option<Vec<String>>,
            #[serde(default)]
            units_consumed: Option<u64>,
        }
        let request = RpcRequest::SimulateTransaction;
        let transaction = unsigned_transaction(message)
            .map_err(|error| NodeError::Malformed(error.to_string()))?;
        let params = json!([BASE64.encode(transaction), {
            "encoding": "base64",
            "sigVerify": false,
            "replaceRecentBlockhash": true,
            "commitment": Commitment::Confirmed,
        }]);
        let answer: Response<Simulated> = self.get(request, params).await?;
        let Simulated { err, logs, units_consumed } = answer.value;
        match (err, units_consumed) {
            (Some(error), _) => Ok(Err(program_error(&error, &logs.unwrap_or_default()))),
            (None, Some(units)) => Ok(Ok(units)),
            (None, None) => Err(self.malformed(request, "no error and no unitsConsumed")),
        }
    }

    async fn recent_fees(&self, writable: &[Address]) -> Result<Vec<u64>, NodeError> {
        let request = RpcRequest::GetRecentPrioritizationFees;
        let fees: Vec<RpcPrioritizationFee> = self.get(request, json!([writable])).await?;
        Ok(fees.into_iter().map(|fee| fee.prioritization_fee).collect())
    }

    async fn send(&self, transaction: &[u8]) -> Result<SendAnswer, NodeError> {
        let request = RpcRequest::SendTransaction;
        let params = json!([BASE64.encode(transaction), {
            "encoding": "base64",
            "skipPreflight": false,
            "preflightCommitment": Commitment::Confirmed,
            "maxRetries": 0,
        }]);
        match self.ask::<String>(request, params).await {
            Ok(_) => Ok(SendAnswer::Taken),
            Err(failure) => match failure.rejection() {
                Ok(text) => Ok(SendAnswer::Rejected(text)),
                Err(failure) => Err(failure.into_error(request, &self.place)),
            },
        }
    }

    /// The height is read *before* the status, and the status must come from a node that has
    /// reached the slot of that height: only then does "unknown at height H" hold. The other way
    /// round a transaction may land between the two answers. (A node states its status at the
    /// slot it *processed*, which no finalized answer reaches: it cannot serve as the
    /// `minContextSlot` of a finalized height.)
    async fn status(
        &self,
        signature: &Signature,
        min_context_slot: Option<Slot>,
    ) -> Result<StatusAt, NodeError> {
        let (slot, finalized_height) = self.finalized(min_context_slot).await?;
        let request = RpcRequest::GetSignatureStatuses;
        let params = json!([[signature], { "searchTransactionHistory": true }]);
        let answer: Response<Vec<Option<RpcStatus>>> = self.get(request, params).await?;
        if Slot(answer.context.slot) < slot {
            return Err(NodeError::Unavailable(format!(
                "{} gave a status as of slot {}, but its finalized height is that of slot {slot}; \
                 ask again, or name one node in place of a pool",
                self.place, answer.context.slot
            )));
        }
        let [found] = <[_; 1]>::try_from(answer.value)
            .map_err(|_| self.malformed(request, "not one status for one signature"))?;
        Ok(StatusAt { context_slot: slot, finalized_height, found: found.map(status) })
    }
}

/// The settings that most methods take. Absent is absent, not null.
fn config(commitment: Commitment, min_context_slot: Option<Slot>) -> Value {
    match min_context_slot {
        Some(slot) => json!({ "commitment": commitment, "minContextSlot": slot }),
        None => json!({ "commitment": commitment }),
    }
}

fn status(status: RpcStatus) -> TransactionStatus {
    TransactionStatus {
        slot: Slot(status.slot),
        commitment: match status.confirmation_status() {
            TransactionConfirmationStatus::Processed => Commitment::Processed,
            TransactionConfirmationStatus::Confirmed => Commitment::Confirmed,
            TransactionConfirmationStatus::Finalized => Commitment::Finalized,
        },
        error: status.err.map(|error| error.to_string()),
    }
}

/// The error in words, with the program's last line of log, where Anchor says what was wrong.
fn program_error(error: &Value, logs: &[String]) -> String {
    let text = match serde_json::from_value::<UiTransactionError>(error.clone()) {
        Ok(known) => known.to_string(),
        Err(_) => error.to_string(),
    };
    let said = logs.iter().rev().find(|line| line.starts_with("Program log: "));
    match said {
        Some(line) => format!("{text} ({})", &line[..line.floor_char_boundary(QUOTE_BYTES_MAX)]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
