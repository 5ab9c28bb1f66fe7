//! The methods, one function each: parameters in, a JSON value or a node's error out.

use jsonrpsee::{RpcModule, core::RegisterMethodError};
use semel_schemas::{
    effect::Commitment,
    solana::{Address, Blockhash, Signature},
};
use serde_json::{Value, json};
use solana_pubkey::Pubkey;
use solana_rpc_client_api::{custom_error, response::RpcBlockhash};
use solana_transaction::TransactionError;
use solana_transaction_status_client_types::{TransactionConfirmationStatus, TransactionStatus};

use super::{
    args::{Answer, Args, error, error_with, invalid},
    encode,
};
use crate::solana::devnet::{
    Devnet, Preflight, SubmitError,
    block::Simulated,
    chain::{Chain, Lifetime},
    decode,
    node::FEE_BLOCKS,
};

/// Most slots that one `getBlocks` may span, as with real nodes.
const BLOCKS_SPAN_MAX: u64 = 500_000;
/// Most signatures that one `getSignatureStatuses` may name, as with real nodes.
const SIGNATURES_MAX: usize = 256;
/// Most accounts that one `getMultipleAccounts` may name, as with real nodes.
const ACCOUNTS_MAX: usize = 100;
/// The Solana release whose virtual machine and JSON-RPC this is.
const VERSION: &str = "4.2.2";

/// Everything that is offered. Each call runs on a thread that may block: the chain is behind a
/// lock, and a block takes its time.
pub(super) fn all(devnet: Devnet) -> Result<RpcModule<Devnet>, RegisterMethodError> {
    type Method = fn(&Devnet, &Args) -> Answer;
    let offered: [(&'static str, Method); 22] = [
        ("getHealth", |_, _| Ok("ok".into())),
        ("getVersion", |_, _| Ok(json!({ "solana-core": VERSION, "feature-set": null }))),
        ("getGenesisHash", |d, _| Ok(d.read(genesis_hash))),
        ("getFirstAvailableBlock", |_, _| Ok(0.into())),
        ("getSlot", get_slot),
        ("getBlockHeight", get_block_height),
        ("getEpochInfo", get_epoch_info),
        ("getBlocks", get_blocks),
        ("getBlock", get_block),
        ("getBlockTime", get_block_time),
        ("getAccountInfo", get_account_info),
        ("getMultipleAccounts", get_multiple_accounts),
        ("getBalance", get_balance),
        ("getLatestBlockhash", get_latest_blockhash),
        ("isBlockhashValid", is_blockhash_valid),
        ("getRecentPrioritizationFees", get_recent_prioritization_fees),
        ("simulateTransaction", simulate_transaction),
        ("sendTransaction", send_transaction),
        ("getSignatureStatuses", get_signature_statuses),
        ("requestAirdrop", request_airdrop),
        ("devnetCreateChannel", |d, args| {
            let name: String = args.required(0, "the channel's name")?;
            Ok(d.create_channel(&name).map_err(internal)?.to_string().into())
        }),
        ("devnetConfig", |d, _| encode::json(d.config())),
    ];
    let mut module = RpcModule::new(devnet);
    for (name, method) in offered {
        module.register_blocking_method(name, move |params, devnet, _| {
            Args::new(&params).and_then(|args| method(&devnet, &args))
        })?;
    }
    Ok(module)
}

fn internal(e: impl ToString) -> jsonrpsee::types::ErrorObjectOwned {
    error(-32603, e.to_string())
}

/// A value with the slot at which it was read.
fn at(slot: u64, value: impl serde::Serialize) -> Answer {
    let value = encode::json(value)?;
    Ok(json!({ "context": { "slot": slot, "apiVersion": VERSION }, "value": value }))
}

fn genesis_hash(chain: &Chain) -> Value {
    let genesis = chain.block(0, Commitment::Finalized);
    genesis.map_or(Value::Null, |block| block.blockhash.to_string().into())
}

fn get_slot(devnet: &Devnet, args: &Args) -> Answer {
    let options = args.options()?;
    devnet.read(|chain| Ok(options.context(chain, options.commitment())?.slot.into()))
}

fn get_block_height(devnet: &Devnet, args: &Args) -> Answer {
    let options = args.options()?;
    devnet.read(|chain| Ok(options.context(chain, options.commitment())?.height.into()))
}

/// Slot and height of one moment. The devnet has one epoch, which never ends.
fn get_epoch_info(devnet: &Devnet, args: &Args) -> Answer {
    let options = args.options()?;
    devnet.read(|chain| {
        let tip = options.context(chain, options.commitment())?;
        Ok(json!({
            "epoch": 0,
            "slotIndex": tip.slot,
            "slotsInEpoch": u64::MAX,
            "absoluteSlot": tip.slot,
            "blockHeight": tip.height,
            "transactionCount": null,
        }))
    })
}

fn get_blocks(devnet: &Devnet, args: &Args) -> Answer {
    let start: u64 = args.required(0, "the first slot")?;
    let end = args.number(1).unwrap_or(start.saturating_add(BLOCKS_SPAN_MAX));
    let commitment = args.options()?.at_least_confirmed()?;
    if end.saturating_sub(start) > BLOCKS_SPAN_MAX {
        return Err(invalid(format!("Slot range too large; max {BLOCKS_SPAN_MAX}")));
    }
    let slots: Vec<u64> =
        devnet.read(|chain| chain.range(start, end, commitment).map(|b| b.slot).collect());
    encode::json(slots)
}

/// Why there is no block: not yet, or skipped.
fn no_block(
    chain: &Chain,
    slot: u64,
    commitment: Commitment,
) -> jsonrpsee::types::ErrorObjectOwned {
    if slot > chain.tip(commitment).slot {
        let code = custom_error::JSON_RPC_SERVER_ERROR_BLOCK_NOT_AVAILABLE;
        return error(code, format!("Block not available for slot {slot}"));
    }
    error(
        custom_error::JSON_RPC_SERVER_ERROR_SLOT_SKIPPED,
        format!("Slot {slot} was skipped, or missing due to ledger jump to recent snapshot"),
    )
}

fn get_block(devnet: &Devnet, args: &Args) -> Answer {
    let slot: u64 = args.required(0, "the slot")?;
    let options = args.options()?;
    let commitment = options.at_least_confirmed()?;
    let block = devnet.read(|chain| match chain.block(slot, commitment) {
        Some(block) => encode::block(block, &options),
        None => Err(no_block(chain, slot, commitment)),
    })?;
    encode::json(block)
}

fn get_block_time(devnet: &Devnet, args: &Args) -> Answer {
    let slot: u64 = args.required(0, "the slot")?;
    devnet.read(|chain| match chain.block(slot, Commitment::Confirmed) {
        Some(block) => Ok(block.time.into()),
        None => Err(no_block(chain, slot, Commitment::Confirmed)),
    })
}

fn pubkey(address: &Address) -> Pubkey {
    Pubkey::new_from_array(address.0)
}

fn get_account_info(devnet: &Devnet, args: &Args) -> Answer {
    let address: Address = args.parsed(0, "the account's address")?;
    let options = args.options()?;
    devnet.read(|chain| {
        let context = options.context(chain, options.commitment())?;
        let account = chain.account(&pubkey(&address), options.commitment());
        let account = account.map(|a| encode::account(&a, &options)).transpose()?;
        at(context.slot, account)
    })
}

fn get_multiple_accounts(devnet: &Devnet, args: &Args) -> Answer {
    let addresses: Vec<Address> = args.required(0, "the accounts' addresses")?;
    if addresses.len() > ACCOUNTS_MAX {
        return Err(invalid(format!("Too many inputs provided; max {ACCOUNTS_MAX}")));
    }
    let options = args.options()?;
    devnet.read(|chain| {
        let context = options.context(chain, options.commitment())?;
        let one = |address: &Address| {
            let account = chain.account(&pubkey(address), options.commitment());
            account.map(|a| encode::account(&a, &options)).transpose()
        };
        let accounts = addresses.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        at(context.slot, accounts)
    })
}

fn get_balance(devnet: &Devnet, args: &Args) -> Answer {
    let address: Address = args.parsed(0, "the account's address")?;
    let options = args.options()?;
    devnet.read(|chain| {
        let context = options.context(chain, options.commitment())?;
        let account = chain.account(&pubkey(&address), options.commitment());
        at(context.slot, account.map_or(0, |a| a.lamports))
    })
}

fn get_latest_blockhash(devnet: &Devnet, args: &Args) -> Answer {
    let options = args.options()?;
    devnet.read(|chain| {
        let tip = options.context(chain, options.commitment())?;
        at(tip.slot, blockhash(chain, tip))
    })
}

fn blockhash(chain: &Chain, tip: &crate::solana::devnet::block::Produced) -> RpcBlockhash {
    let last_valid_block_height = chain.last_valid(tip);
    RpcBlockhash { blockhash: tip.blockhash.to_string(), last_valid_block_height }
}

fn is_blockhash_valid(devnet: &Devnet, args: &Args) -> Answer {
    let blockhash: Blockhash = args.parsed(0, "the blockhash")?;
    let options = args.options()?;
    devnet.read(|chain| {
        let tip = options.context(chain, options.commitment())?;
        at(tip.slot, chain.is_valid(&blockhash.0, tip.height))
    })
}

fn get_recent_prioritization_fees(devnet: &Devnet, args: &Args) -> Answer {
    let accounts: Option<Vec<Address>> = match args.number_of_arguments() {
        0 => None,
        _ => args.required(0, "the writable accounts")?,
    };
    let accounts = accounts.unwrap_or_default();
    devnet.read(|chain| {
        let newest = chain.range(0, u64::MAX, Commitment::Processed).rev().take(FEE_BLOCKS);
        let mut fees: Vec<Value> = newest
            .map(|b| json!({ "slot": b.slot, "prioritizationFee": b.fee(&accounts) }))
            .collect();
        fees.reverse();
        Ok(Value::Array(fees))
    })
}

fn refused(e: SubmitError) -> jsonrpsee::types::ErrorObjectOwned {
    let text = e.to_string();
    match e {
        SubmitError::Malformed(_) => invalid(text),
        SubmitError::Signature => error(
            custom_error::JSON_RPC_SERVER_ERROR_TRANSACTION_SIGNATURE_VERIFICATION_FAILURE,
            text,
        ),
        SubmitError::Preflight(simulated) => error_with(
            custom_error::JSON_RPC_SERVER_ERROR_SEND_TRANSACTION_PREFLIGHT_FAILURE,
            text,
            Some(encode::simulation(&simulated, false)),
        ),
        SubmitError::Devnet(e) => internal(e),
    }
}

fn simulate_transaction(devnet: &Devnet, args: &Args) -> Answer {
    let options = args.options()?;
    let text: String = args.required(0, "the transaction")?;
    let transaction = decode(&encode::sent(&text, &options)?).map_err(refused)?;
    if transaction.sanitize().is_err() {
        return Err(invalid("this is no valid transaction: it does not hold together"));
    }
    if options.sig_verify && options.replace_recent_blockhash {
        return Err(invalid("sigVerify may not be used with replaceRecentBlockhash"));
    }
    let life =
        if options.replace_recent_blockhash { Lifetime::Replaced } else { Lifetime::Checked };
    let forged = options.sig_verify && !transaction.verify_with_results().iter().all(|good| *good);
    devnet.read(|chain| {
        // Simulated on the newest state whatever is asked for: the machine holds no other.
        let tip = options.context(chain, Commitment::Processed)?;
        let simulated = if forged {
            Simulated::refused(TransactionError::SignatureFailure)
        } else {
            chain.simulate(transaction, life)
        };
        let mut result = encode::simulation(&simulated, options.inner_instructions);
        result.replacement_blockhash = (life == Lifetime::Replaced).then(|| blockhash(chain, tip));
        at(tip.slot, result)
    })
}

fn send_transaction(devnet: &Devnet, args: &Args) -> Answer {
    let options = args.options()?;
    let text: String = args.required(0, "the transaction")?;
    let bytes = encode::sent(&text, &options)?;
    devnet.read(|chain| options.context(chain, Commitment::Processed).map(|_| ()))?;
    let preflight = if options.skip_preflight { Preflight::Skip } else { Preflight::Run };
    let signature = devnet.submit(&bytes, preflight).map_err(refused)?;
    Ok(signature.to_string().into())
}

fn get_signature_statuses(devnet: &Devnet, args: &Args) -> Answer {
    let signatures: Vec<Signature> = args.required(0, "the signatures")?;
    if signatures.len() > SIGNATURES_MAX {
        return Err(invalid(format!("Too many inputs provided; max {SIGNATURES_MAX}")));
    }
    devnet.read(|chain| {
        let tip = chain.tip(Commitment::Processed).slot;
        let statuses: Vec<_> = signatures.iter().map(|s| status(chain, s)).collect();
        at(tip, statuses)
    })
}

/// All history is searched, whether asked for or not: it is all in memory.
fn status(chain: &Chain, signature: &Signature) -> Option<TransactionStatus> {
    let (block, recorded) = chain.landed(signature)?;
    let commitment = chain.commitment_of(block.slot);
    let above = chain.tip(Commitment::Processed).height - block.height;
    Some(TransactionStatus {
        slot: block.slot,
        confirmations: match commitment {
            Commitment::Finalized => None,
            _ => Some(usize::try_from(above).unwrap_or(usize::MAX)),
        },
        status: recorded.error.clone().map_or(Ok(()), Err),
        err: recorded.error.clone(),
        confirmation_status: Some(match commitment {
            Commitment::Processed => TransactionConfirmationStatus::Processed,
            Commitment::Confirmed => TransactionConfirmationStatus::Confirmed,
            Commitment::Finalized => TransactionConfirmationStatus::Finalized,
        }),
    })
}

fn request_airdrop(devnet: &Devnet, args: &Args) -> Answer {
    let to: Address = args.parsed(0, "the account's address")?;
    let lamports: u64 = args.required(1, "the lamports")?;
    Ok(devnet.airdrop(&to, lamports).map_err(refused)?.to_string().into())
}
