//! Claims for a devnet: users with keys of their own who send real transactions. For demos and
//! tests; deterministic, since keys are made of numbers.

use semel_schemas::{
    attention::{self, ClaimWithRing, Instruction as Oracle},
    solana::{Address, Signature},
};
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::Message;
use solana_pubkey::Pubkey;
use solana_signer::Signer as _;
use solana_transaction::Transaction;

use super::{Devnet, Preflight, SubmitError, channel_pda, protocol_pda};
use crate::solana::node::SolanaNode;
use semel_schemas::effect::Commitment;

/// What a user pays fees from, lamports.
const PURSE: u64 = 10_000_000_000;

/// One user of the devnet.
#[derive(Debug)]
pub struct User {
    key: Keypair,
    login: String,
}

impl User {
    /// The user of this number.
    #[must_use]
    pub fn new(number: u32) -> Self {
        let mut seed = [0x75; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        Self { key: Keypair::new_from_array(seed), login: format!("user{number}") }
    }

    /// The user's address.
    #[must_use]
    pub fn address(&self) -> Address {
        Address(self.key.pubkey().to_bytes())
    }

    /// The address and lamports for [`super::DevnetConfig::funded`].
    #[must_use]
    pub fn purse(&self) -> (Address, u64) {
        (self.address(), PURSE)
    }

    /// Claims `amount` on `channel` for an on-chain epoch. Two claims of one user, channel and
    /// epoch are one claim by their id; `nonce` only makes their transactions differ.
    ///
    /// # Errors
    /// [`SubmitError`] if the chain refuses the transaction.
    pub async fn claim(
        &self,
        devnet: &Devnet,
        channel: &str,
        epoch: u64,
        amount: u64,
        nonce: u32,
    ) -> Result<Signature, SubmitError> {
        let streamer = attention::channel_key(channel);
        let oracle = Oracle::ClaimWithRing(ClaimWithRing {
            epoch,
            index: nonce,
            amount,
            proof: Vec::new(),
            id: format!("twitch:{channel}:{}", self.login),
            streamer,
        });
        let blockhash = devnet
            .latest_blockhash(Commitment::Confirmed)
            .await
            .map_err(|error| SubmitError::Malformed(error.to_string()))?;
        let message =
            Message::new(&[self.instruction(devnet, &oracle, &streamer)], Some(&self.key.pubkey()));
        let hash = Hash::new_from_array(blockhash.blockhash.0);
        let transaction = Transaction::new(&[&self.key], message, hash);
        let bytes = bincode::serialize(&transaction)
            .map_err(|error| SubmitError::Malformed(error.to_string()))?;
        devnet.submit(&bytes, Preflight::Run)
    }

    fn instruction(&self, devnet: &Devnet, oracle: &Oracle, streamer: &[u8; 32]) -> Instruction {
        let mint = devnet.config().mint;
        let system = solana_sdk_ids::system_program::id();
        let mut accounts = vec![
            AccountMeta::new(self.key.pubkey(), true),
            AccountMeta::new(protocol_pda(&mint).0, false),
            AccountMeta::new(channel_pda(&mint, streamer).0, false),
        ];
        accounts.extend(vec![AccountMeta::new_readonly(system, false); 6]);
        let program_id = Pubkey::new_from_array(attention::PROGRAM.0);
        Instruction { program_id, accounts, data: oracle.data() }
    }
}
