//! A block as getBlock encodes it → [`Block`].
//!
//! Invariants: every instruction of every transaction that succeeded is there, in order of
//! execution, under the program that ran it; or the whole block is refused. A node that leaves
//! out what is needed (status, inner instructions, looked-up addresses) is refused too: a record
//! of execution with a hole in it would lose facts silently.

use std::collections::BTreeMap;

use semel_schemas::{
    solana::{Address, Signature},
    time::{BlockHeight, Slot},
};
use solana_message::compiled_instruction::CompiledInstruction;
use solana_sdk_ids::vote;
use solana_transaction_status_client_types::{
    EncodedTransaction, EncodedTransactionWithStatusMeta, UiCompiledInstruction, UiConfirmedBlock,
    UiInstruction, UiMessage, UiTransactionStatusMeta, option_serializer::OptionSerializer,
};

use super::{Block, ExecutedInstruction, ExecutedTransaction};

/// What was wrong with a block: part of a sentence.
type Refusal = String;

/// Reads a block.
///
/// # Errors
/// One sentence, see the invariants above.
pub(super) fn decode(slot: Slot, encoded: UiConfirmedBlock) -> Result<Block, Refusal> {
    let at = |what: &str| format!("block {slot}: {what}");
    let encoded_transactions =
        encoded.transactions.ok_or_else(|| at("its transactions are missing"))?;
    let mut transactions = Vec::new();
    for (index, one) in encoded_transactions.into_iter().enumerate() {
        let index = u32::try_from(index).map_err(|_| at("it holds over 2^32 transactions"))?;
        let executed = transaction(index, one)
            .map_err(|what| format!("block {slot}, transaction {index}: {what}"))?;
        transactions.extend(executed);
    }
    Ok(Block {
        slot,
        parent_slot: Slot(encoded.parent_slot),
        blockhash: encoded.blockhash.parse().map_err(|_| at("its blockhash is not base58"))?,
        previous_blockhash: encoded
            .previous_blockhash
            .parse()
            .map_err(|_| at("its previous blockhash is not base58"))?,
        height: BlockHeight(encoded.block_height.ok_or_else(|| at("its height is missing"))?),
        time: encoded.block_time.and_then(|time| u64::try_from(time).ok()),
        transactions,
    })
}

/// One transaction; `None` if it failed or only votes.
fn transaction(
    index: u32,
    encoded: EncodedTransactionWithStatusMeta,
) -> Result<Option<ExecutedTransaction>, Refusal> {
    let meta = encoded.meta.ok_or("its status is missing")?;
    if meta.err.is_some() {
        return Ok(None);
    }
    let outline = outline(encoded.transaction)?;
    let keys = account_keys(&outline, &meta)?;
    let top: Vec<ExecutedInstruction> =
        outline.instructions.iter().map(|one| resolve(one, &keys)).collect::<Result<_, _>>()?;
    // The vote program calls no other one, so nothing of interest can hide below.
    if !top.is_empty() && top.iter().all(|one| one.program.0 == vote::ID.to_bytes()) {
        return Ok(None);
    }
    let instructions = in_order_of_execution(top, meta, &keys)?;
    Ok(Some(ExecutedTransaction { signature: outline.signature, index, instructions }))
}

/// The part of a transaction that decoding needs, whichever way it was encoded.
struct Outline {
    signature: Signature,
    keys: Vec<Address>,
    /// How many addresses its lookup tables add.
    looked_up: usize,
    instructions: Vec<CompiledInstruction>,
}

fn outline(encoded: EncodedTransaction) -> Result<Outline, Refusal> {
    if let EncodedTransaction::Json(json) = &encoded {
        let UiMessage::Raw(message) = &json.message else {
            return Err("it was answered parsed, not as bytes".to_owned());
        };
        return Ok(Outline {
            signature: json.signatures.first().and_then(|s| s.parse().ok()).ok_or(NO_SIGNATURE)?,
            keys: addresses(&message.account_keys)?,
            looked_up: message.address_table_lookups.iter().flatten().fold(0, |sum, table| {
                sum + table.writable_indexes.len() + table.readonly_indexes.len()
            }),
            instructions: message.instructions.iter().map(compiled).collect::<Result<_, _>>()?,
        });
    }
    let decoded = encoded.decode().ok_or("its bytes are no transaction")?;
    let signature = decoded.signatures.first().ok_or(NO_SIGNATURE)?;
    let message = decoded.message;
    let lookups = message.address_table_lookups().unwrap_or_default();
    Ok(Outline {
        signature: Signature(*signature.as_array()),
        keys: message.static_account_keys().iter().map(|key| Address(key.to_bytes())).collect(),
        looked_up: lookups.iter().fold(0, |sum, table| {
            sum + table.writable_indexes.len() + table.readonly_indexes.len()
        }),
        instructions: message.instructions().to_vec(),
    })
}

const NO_SIGNATURE: &str = "it has no signature";

/// All accounts of a transaction in the order that indexes count: the message's own, then the
/// looked-up writable ones, then the looked-up read-only ones.
fn account_keys(
    outline: &Outline,
    meta: &UiTransactionStatusMeta,
) -> Result<Vec<Address>, Refusal> {
    let mut keys = outline.keys.clone();
    if let OptionSerializer::Some(loaded) = &meta.loaded_addresses {
        keys.extend(addresses(&loaded.writable)?);
        keys.extend(addresses(&loaded.readonly)?);
    }
    let want = outline.keys.len() + outline.looked_up;
    if keys.len() == want {
        Ok(keys)
    } else {
        Err(format!("it uses {want} accounts, but {} were answered", keys.len()))
    }
}

/// Each top-level instruction, followed by those that it called, in the order of their calls.
fn in_order_of_execution(
    top: Vec<ExecutedInstruction>,
    meta: UiTransactionStatusMeta,
    keys: &[Address],
) -> Result<Vec<ExecutedInstruction>, Refusal> {
    let OptionSerializer::Some(groups) = meta.inner_instructions else {
        return Err("the node does not record inner instructions; ask one that does".to_owned());
    };
    let mut inner: BTreeMap<usize, Vec<ExecutedInstruction>> = BTreeMap::new();
    for group in groups {
        let called = inner.entry(usize::from(group.index)).or_default();
        for one in group.instructions {
            let UiInstruction::Compiled(one) = one else {
                return Err("an inner instruction was answered parsed, not as bytes".to_owned());
            };
            called.push(resolve(&compiled(&one)?, keys)?);
        }
    }
    let mut all = Vec::with_capacity(top.len());
    for (index, one) in top.into_iter().enumerate() {
        all.push(one);
        all.extend(inner.remove(&index).unwrap_or_default());
    }
    match inner.keys().next() {
        Some(index) => Err(format!("inner instructions belong to instruction {index}: none such")),
        None => Ok(all),
    }
}

fn compiled(one: &UiCompiledInstruction) -> Result<CompiledInstruction, Refusal> {
    Ok(CompiledInstruction {
        program_id_index: one.program_id_index,
        accounts: one.accounts.clone(),
        data: bs58::decode(&one.data)
            .into_vec()
            .map_err(|_| "an instruction's data is not base58".to_owned())?,
    })
}

fn resolve(one: &CompiledInstruction, keys: &[Address]) -> Result<ExecutedInstruction, Refusal> {
    let key = |index: u8| {
        let key = keys.get(usize::from(index)).copied();
        key.ok_or_else(|| format!("an instruction names account {index} of {}", keys.len()))
    };
    Ok(ExecutedInstruction {
        program: key(one.program_id_index)?,
        accounts: one.accounts.iter().map(|index| key(*index)).collect::<Result<_, _>>()?,
        data: one.data.clone(),
    })
}

fn addresses(texts: &[String]) -> Result<Vec<Address>, Refusal> {
    texts.iter().map(|text| text.parse().map_err(|_| format!("{text} is no address"))).collect()
}
