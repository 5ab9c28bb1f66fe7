//! Executed instructions → facts. Pure; the bytes' own rules are in `semel_schemas::attention`.
//!
//! Invariants: an instruction of another program is never a fact; every claim and every root of
//! the ring is exactly one fact, and one that cannot be read is a fact too
//! ([`SolanaFact::Undecodable`], for the dead letters) and never dropped; facts come in the order
//! (transaction, instruction). Other instructions of the program (set-up, administration, events
//! by self-call, legacy roots) are none.

use semel_schemas::{
    amount::Amount,
    attention::{self, Instruction},
    claim::{Claim, ID_BYTES_MAX},
    solana::{Address, Base64},
};

use super::node::{Block, ExecutedInstruction, ExecutedTransaction};

#[doc(inline)]
pub use semel_schemas::effect::SolanaFact;

/// Place of the claimer among the accounts of every claim instruction: the signer, account 0.
pub const CLAIMER_ACCOUNT: usize = 0;

/// The facts of a block that `program` made.
#[must_use]
pub fn facts(block: &Block, program: &Address) -> Vec<SolanaFact> {
    let mut facts = Vec::new();
    for transaction in &block.transactions {
        // An index that does not fit cannot occur: a transaction has at most 1232 bytes and 64
        // instructions in its trace.
        for (ix_index, instruction) in (0..).zip(&transaction.instructions) {
            if instruction.program == *program {
                facts.extend(Place { block, transaction, ix_index }.fact(instruction));
            }
        }
    }
    facts
}

/// Where an instruction was executed.
struct Place<'a> {
    block: &'a Block,
    transaction: &'a ExecutedTransaction,
    ix_index: u32,
}

/// What the claim instructions have in common.
struct ClaimArguments {
    id: String,
    channel: Option<String>,
    epoch: Option<u64>,
    amount: u64,
}

impl Place<'_> {
    /// The fact of one instruction of the program, if it is one.
    fn fact(&self, instruction: &ExecutedInstruction) -> Option<SolanaFact> {
        match self.read(instruction) {
            Ok(fact) => fact,
            Err(text) => Some(SolanaFact::Undecodable {
                signature: self.transaction.signature,
                slot: self.block.slot,
                ix_index: self.ix_index,
                data: Base64(instruction.data.clone()),
                text,
            }),
        }
    }

    fn read(&self, executed: &ExecutedInstruction) -> Result<Option<SolanaFact>, String> {
        let parsed = attention::parse(&executed.data).map_err(|error| error.to_string())?;
        let Some(instruction) = parsed else { return Ok(None) };
        let name = instruction.name();
        // Bytes behind the last argument are no fault: Anchor reads past none and executes it.
        let fact = match instruction {
            Instruction::SetMerkleRootRing(set) => SolanaFact::RootSet {
                signature: self.transaction.signature,
                slot: self.block.slot,
                ix_index: self.ix_index,
                streamer: Address(set.streamer),
                epoch: set.epoch,
                root: hex::encode(set.root),
                count: u32::from(set.count),
            },
            other => match claim_arguments(other) {
                Some(arguments) => {
                    let claim = self.claim(arguments, executed);
                    SolanaFact::Claim(claim.map_err(|reason| format!("`{name}`: {reason}"))?)
                }
                None => return Ok(None),
            },
        };
        Ok(Some(fact))
    }

    fn claim(
        &self,
        arguments: ClaimArguments,
        executed: &ExecutedInstruction,
    ) -> Result<Claim, String> {
        let ClaimArguments { id, channel, epoch, amount } = arguments;
        check_text("id", &id)?;
        let of_id = channel_of_id(&id);
        let channel = match (channel, &of_id) {
            (Some(channel), _) => channel.to_ascii_lowercase(),
            (None, Some(channel)) => channel.clone(),
            (None, None) => {
                return Err(format!("its id `{id}` is not `twitch:<channel>:<login>`"));
            }
        };
        check_text("channel", &channel)?;
        let claimer = executed.accounts.get(CLAIMER_ACCOUNT);
        let signature = self.transaction.signature;
        let ix_index = self.ix_index;
        let claim_id = match epoch {
            Some(epoch) if of_id.as_ref() == Some(&channel) => format!("{id}#{epoch}"),
            Some(epoch) => format!("{channel}:{id}#{epoch}"),
            None => format!("{signature}:{ix_index}"),
        };
        Ok(Claim {
            claim_id,
            channel,
            user: *claimer.ok_or("it names no account, so there is no claimer")?,
            id,
            amount: Amount(amount),
            slot: self.block.slot,
            signature,
            tx_index: self.transaction.index,
            ix_index,
            block_time: self.block.time.unwrap_or(0),
        })
    }
}

/// The arguments of a claim; `None` for the instructions that are none.
fn claim_arguments(instruction: Instruction) -> Option<ClaimArguments> {
    Some(match instruction {
        Instruction::Claim(c) => {
            ClaimArguments { id: c.id, channel: None, epoch: None, amount: c.amount }
        }
        Instruction::ClaimOpen(c) => {
            ClaimArguments { id: c.id, channel: c.channel, epoch: c.epoch, amount: c.amount }
        }
        Instruction::ClaimWithRing(c) => {
            ClaimArguments { id: c.id, channel: None, epoch: Some(c.epoch), amount: c.amount }
        }
        Instruction::ClaimChannelOpen(c) => ClaimArguments {
            id: c.user_hash,
            channel: Some(c.channel),
            epoch: Some(c.epoch),
            amount: c.amount,
        },
        Instruction::SetMerkleRootRing(_)
        | Instruction::SetMerkleRoot(_)
        | Instruction::SetMerkleRootOpen(_)
        | Instruction::SetChannelMerkleRoot(_)
        | Instruction::InitializeChannel(_) => return None,
    })
}

/// `<channel>` of `twitch:<channel>:<login>`, in ASCII lower case.
fn channel_of_id(id: &str) -> Option<String> {
    let (channel, login) = id.strip_prefix("twitch:")?.split_once(':')?;
    let whole = !channel.is_empty() && !login.is_empty() && !login.contains(':');
    whole.then(|| channel.to_ascii_lowercase())
}

/// A text that becomes a key or a column: short, not empty, nothing invisible (a NUL, which no
/// database takes, among it).
fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("its {what} is empty"));
    }
    if text.len() > ID_BYTES_MAX {
        let bytes = text.len();
        return Err(format!("its {what} has {bytes} bytes, more than the {ID_BYTES_MAX} allowed"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("its {what} holds control characters: {text:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
