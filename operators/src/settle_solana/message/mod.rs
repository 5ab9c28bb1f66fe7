//! The bytes of the transaction that publishes a root: addresses, instruction, message, signature.
//!
//! A legacy message of three instructions: compute limit, compute price, `set_merkle_root_ring`.
//! Its wire form is Solana's: signatures behind a compact length, then the message.

use semel_schemas::{
    attention::{self, Instruction as Program, SetMerkleRootRing},
    claim::RootRecord,
    fault::{Fault, FaultCode},
    solana::{Address, Blockhash, Signature},
};
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_message::Message;
use solana_pubkey::Pubkey;

use super::Settings;

/// Most compute units that a transaction may ask for (Solana's limit).
pub(super) const UNITS_MAX: u32 = 1_400_000;

/// What is published, and where: everything about a root that its transaction needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) root: [u8; 32],
    pub(super) epoch: u64,
    pub(super) count: u32,
    pub(super) streamer: [u8; 32],
    pub(super) protocol: Address,
    pub(super) channel: Address,
}

impl Target {
    /// Derives the addresses. The root is taken with or without a leading "0x" (legacy rows have
    /// both).
    pub(super) fn of(record: &RootRecord, settings: &Settings) -> Result<Self, Fault> {
        let digits = record.root.strip_prefix("0x").unwrap_or(&record.root);
        let mut root = [0; 32];
        hex::decode_to_slice(digits, &mut root).map_err(|_| {
            Fault::new(
                FaultCode::WrongType,
                format!("root `{}`: field `root` is not 64 hex digits", record.root_id),
            )
        })?;
        let streamer = attention::channel_key(&record.channel);
        let channel = pda(&attention::channel_seeds(&settings.mint, &streamer), &settings.program)?;
        let protocol = pda(&attention::protocol_seeds(&settings.mint), &settings.program)?;
        Ok(Self { root, epoch: record.epoch.0, count: record.count, streamer, protocol, channel })
    }

    /// The accounts of ours that the transaction writes: their recent fees count.
    pub(super) fn writable(&self, settings: &Settings) -> Vec<Address> {
        vec![settings.authority, self.protocol, self.channel]
    }

    /// The serialized message. A count beyond 16 bits is refused before it comes here, see
    /// [`refusal`](super::refusal); it would be written as the largest one, which the program refuses.
    pub(super) fn message(
        &self,
        settings: &Settings,
        budget: Budget,
        blockhash: Blockhash,
    ) -> Vec<u8> {
        let authority = pubkey(&settings.authority);
        let data = Program::SetMerkleRootRing(SetMerkleRootRing {
            root: self.root,
            epoch: self.epoch,
            count: u16::try_from(self.count).unwrap_or(u16::MAX),
            streamer: self.streamer,
        })
        .data();
        let publish = Instruction {
            program_id: pubkey(&settings.program),
            accounts: vec![
                AccountMeta::new(authority, true),
                AccountMeta::new(pubkey(&self.protocol), false),
                AccountMeta::new(pubkey(&self.channel), false),
                AccountMeta::new_readonly(solana_sdk_ids::system_program::ID, false),
            ],
            data,
        };
        let instructions = [
            ComputeBudgetInstruction::set_compute_unit_limit(budget.units),
            ComputeBudgetInstruction::set_compute_unit_price(budget.unit_price),
            publish,
        ];
        let hash = Hash::new_from_array(blockhash.0);
        Message::new_with_blockhash(&instructions, Some(&authority), &hash).serialize()
    }
}

/// What a transaction may use and pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// Compute units.
    pub(super) units: u32,
    /// Micro-lamports per compute unit.
    pub(super) unit_price: u64,
}

impl Budget {
    /// For simulation: as much as there is, at no price.
    pub(super) const SIMULATION: Self = Self { units: UNITS_MAX, unit_price: 0 };

    /// What the simulation used and 10 % more; the price at the percentile, capped.
    pub(super) fn of(simulated: u64, unit_price: u64, unit_price_max: u64) -> Self {
        let units = simulated.saturating_add(simulated.div_ceil(10));
        Self {
            units: u32::try_from(units).unwrap_or(UNITS_MAX).min(UNITS_MAX),
            unit_price: unit_price.min(unit_price_max),
        }
    }
}

/// The wire form of a transaction with one signature: a compact length of 1, the signature, the
/// message.
pub(super) fn transaction(signature: &Signature, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + signature.0.len() + message.len());
    out.push(1);
    out.extend_from_slice(&signature.0);
    out.extend_from_slice(message);
    out
}

fn pubkey(address: &Address) -> Pubkey {
    Pubkey::new_from_array(address.0)
}

fn pda(seeds: &[&[u8]], program: &Address) -> Result<Address, Fault> {
    Pubkey::try_find_program_address(seeds, &pubkey(program))
        .map(|(address, _)| Address(address.to_bytes()))
        .ok_or_else(|| {
            Fault::new(
                FaultCode::SettlementFailed,
                format!("program {program} has no address for these seeds: check its setting"),
            )
        })
}

#[cfg(test)]
mod tests;
