//! Blocks, transactions and accounts in the forms that JSON-RPC has for them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use solana_account::Account;
use solana_account_decoder_client_types::{
    UiAccount, UiAccountData, UiAccountEncoding, UiDataSliceConfig,
};
use solana_message::VersionedMessage;
use solana_rpc_client_api::{custom_error, response::RpcSimulateTransactionResult};
use solana_transaction::versioned::{TransactionVersion, VersionedTransaction};
use solana_transaction_status_client_types::{
    EncodedTransaction, EncodedTransactionWithStatusMeta, InnerInstruction, InnerInstructions,
    TransactionBinaryEncoding, TransactionDetails, TransactionStatusMeta, UiCompiledInstruction,
    UiConfirmedBlock, UiInnerInstructions, UiLoadedAddresses, UiMessage, UiRawMessage,
    UiTransaction, UiTransactionEncoding,
};

use super::args::{Answer, Options, error, invalid};
use crate::solana::devnet::{
    TRANSACTION_BYTES_MAX,
    block::{Produced, Recorded, Simulated},
};

/// A block.
pub(super) fn block(block: &Produced, options: &Options) -> Answer<UiConfirmedBlock> {
    let encoding = options.transaction_encoding(UiTransactionEncoding::Json)?;
    let max = options.max_supported_transaction_version;
    let details = options.transaction_details.unwrap_or(TransactionDetails::Full);
    let all = block.transactions.iter();
    let (transactions, signatures) = match details {
        TransactionDetails::Full => {
            let encoded: Result<_, _> = all.map(|t| transaction(t, encoding, max)).collect();
            (Some(encoded?), None)
        }
        TransactionDetails::Signatures => {
            (None, Some(all.map(|t| t.signature().to_string()).collect()))
        }
        TransactionDetails::None => (None, None),
        TransactionDetails::Accounts => {
            return Err(invalid(
                "the devnet offers no `transactionDetails: accounts`; ask for `full`",
            ));
        }
    };
    Ok(UiConfirmedBlock {
        previous_blockhash: block.previous_blockhash.to_string(),
        blockhash: block.blockhash.to_string(),
        parent_slot: block.parent_slot,
        transactions,
        signatures,
        rewards: options.rewards.unwrap_or(true).then(Vec::new),
        num_reward_partitions: None,
        block_time: i64::try_from(block.time).ok(),
        block_height: Some(block.height),
    })
}

fn transaction(
    recorded: &Recorded,
    encoding: UiTransactionEncoding,
    max: Option<u8>,
) -> Answer<EncodedTransactionWithStatusMeta> {
    let version = match (recorded.transaction.version(), max) {
        (TransactionVersion::Number(n), max) if max.is_none_or(|max| n > max) => {
            return Err(error(
                custom_error::JSON_RPC_SERVER_ERROR_UNSUPPORTED_TRANSACTION_VERSION,
                format!(
                    "Transaction version ({n}) is not supported by the requesting client. Please \
                     try the request again with the following configuration parameter: \
                     \"maxSupportedTransactionVersion\": {n}"
                ),
            ));
        }
        (version, max) => max.map(|_| version),
    };
    let transaction = encoded(&recorded.transaction, encoding)?;
    Ok(EncodedTransactionWithStatusMeta { transaction, meta: Some(meta(recorded).into()), version })
}

fn encoded(
    transaction: &VersionedTransaction,
    encoding: UiTransactionEncoding,
) -> Answer<EncodedTransaction> {
    let bytes = || {
        bincode::serialize(transaction).map_err(|e| invalid(format!("cannot be serialized: {e}")))
    };
    Ok(match encoding {
        UiTransactionEncoding::Binary => {
            EncodedTransaction::LegacyBinary(bs58::encode(bytes()?).into_string())
        }
        UiTransactionEncoding::Base58 => EncodedTransaction::Binary(
            bs58::encode(bytes()?).into_string(),
            TransactionBinaryEncoding::Base58,
        ),
        UiTransactionEncoding::Base64 => {
            EncodedTransaction::Binary(STANDARD.encode(bytes()?), TransactionBinaryEncoding::Base64)
        }
        UiTransactionEncoding::Json => EncodedTransaction::Json(UiTransaction {
            signatures: transaction.signatures.iter().map(ToString::to_string).collect(),
            message: UiMessage::Raw(message(&transaction.message)),
        }),
        UiTransactionEncoding::JsonParsed => {
            return Err(invalid("the devnet offers no `jsonParsed`; ask for `json` or `base64`"));
        }
    })
}

fn message(message: &VersionedMessage) -> UiRawMessage {
    let compiled = message.instructions().iter();
    UiRawMessage {
        header: *message.header(),
        account_keys: message.static_account_keys().iter().map(ToString::to_string).collect(),
        recent_blockhash: message.recent_blockhash().to_string(),
        instructions: compiled.map(|i| UiCompiledInstruction::from(i, Some(1))).collect(),
        address_table_lookups: message
            .address_table_lookups()
            .map(|lookups| lookups.iter().map(Into::into).collect()),
        transaction_config: match message {
            VersionedMessage::V1(message) => Some((&message.config).into()),
            _ => None,
        },
    }
}

fn meta(recorded: &Recorded) -> TransactionStatusMeta {
    let meta = &recorded.meta;
    TransactionStatusMeta {
        status: recorded.error.clone().map_or(Ok(()), Err),
        fee: meta.fee,
        pre_balances: recorded.pre_balances.clone(),
        post_balances: recorded.post_balances.clone(),
        inner_instructions: Some(inner(&meta.inner_instructions)),
        log_messages: Some(meta.logs.clone()),
        pre_token_balances: Some(Vec::new()),
        post_token_balances: Some(Vec::new()),
        rewards: Some(Vec::new()),
        loaded_addresses: recorded.loaded.clone(),
        return_data: (!meta.return_data.data.is_empty()).then(|| meta.return_data.clone()),
        compute_units_consumed: Some(meta.compute_units_consumed),
        cost_units: None,
    }
}

/// Inner instructions of those top-level ones that have any.
fn inner(
    lists: &[Vec<solana_message::inner_instruction::InnerInstruction>],
) -> Vec<InnerInstructions> {
    let listed = (0_u8..).zip(lists).filter(|(_, list)| !list.is_empty());
    listed
        .map(|(index, list)| InnerInstructions {
            index,
            instructions: list
                .iter()
                .map(|i| InnerInstruction {
                    instruction: i.instruction.clone(),
                    stack_height: Some(u32::from(i.stack_height)),
                })
                .collect(),
        })
        .collect()
}

/// A simulation.
pub(super) fn simulation(simulated: &Simulated, inner_too: bool) -> RpcSimulateTransactionResult {
    let meta = &simulated.meta;
    let inner = inner_too
        .then(|| inner(&meta.inner_instructions).into_iter().map(UiInnerInstructions::from));
    RpcSimulateTransactionResult {
        err: simulated.error.clone().map(Into::into),
        logs: Some(meta.logs.clone()),
        accounts: None,
        units_consumed: Some(meta.compute_units_consumed),
        loaded_accounts_data_size: None,
        return_data: (!meta.return_data.data.is_empty()).then(|| meta.return_data.clone().into()),
        inner_instructions: inner.map(Iterator::collect),
        replacement_blockhash: None,
        fee: Some(meta.fee),
        pre_balances: None,
        post_balances: None,
        pre_token_balances: None,
        post_token_balances: None,
        loaded_addresses: Some(UiLoadedAddresses::from(&simulated.loaded)),
    }
}

/// An account.
pub(super) fn account(account: &Account, options: &Options) -> Answer<UiAccount> {
    let data = sliced(&account.data, options.data_slice);
    let base58 = |tag: fn(String) -> UiAccountData| {
        // Real nodes refuse longer ones too: the encoding is quadratic.
        if data.len() > 128 {
            return Err(invalid(
                "Encoded binary (base 58) data should be less than 128 bytes, \
                                please use Base64 encoding.",
            ));
        }
        Ok(tag(bs58::encode(data).into_string()))
    };
    let data = match options.account_encoding()? {
        UiAccountEncoding::Binary => base58(UiAccountData::LegacyBinary)?,
        UiAccountEncoding::Base58 => {
            base58(|text| UiAccountData::Binary(text, UiAccountEncoding::Base58))?
        }
        UiAccountEncoding::Base64 | UiAccountEncoding::Base64Zstd => {
            UiAccountData::Binary(STANDARD.encode(data), UiAccountEncoding::Base64)
        }
        UiAccountEncoding::JsonParsed => {
            return Err(invalid("the devnet offers no `jsonParsed`; ask for `base64`"));
        }
    };
    Ok(UiAccount {
        lamports: account.lamports,
        data,
        owner: account.owner.to_string(),
        executable: account.executable,
        rent_epoch: account.rent_epoch,
        space: Some(account.data.len() as u64),
    })
}

fn sliced(data: &[u8], slice: Option<UiDataSliceConfig>) -> &[u8] {
    let Some(slice) = slice else { return data };
    let from = slice.offset.min(data.len());
    &data[from..from.saturating_add(slice.length).min(data.len())]
}

/// A transaction as a client sent it: its bytes.
pub(super) fn sent(text: &str, options: &Options) -> Answer<Vec<u8>> {
    // In base 58, 1232 bytes are at most 1683 characters; longer text is not worth decoding.
    if text.len() as u64 > 2 * TRANSACTION_BYTES_MAX {
        return Err(invalid(format!("a transaction has at most {TRANSACTION_BYTES_MAX} bytes")));
    }
    match options.transaction_encoding(UiTransactionEncoding::Base58)? {
        UiTransactionEncoding::Base58 | UiTransactionEncoding::Binary => {
            bs58::decode(text).into_vec().map_err(|e| invalid(format!("invalid base58: {e}")))
        }
        UiTransactionEncoding::Base64 => {
            STANDARD.decode(text).map_err(|e| invalid(format!("invalid base64: {e}")))
        }
        other => Err(invalid(format!("unsupported encoding: {other}; use base58 or base64"))),
    }
}

/// Anything that serializes, as a JSON value.
pub(super) fn json(value: impl serde::Serialize) -> Answer<Value> {
    serde_json::to_value(value).map_err(|e| invalid(e.to_string()))
}
