//! What exists at slot 0: the virtual machine, the program, its accounts, who owns lamports.

use litesvm::LiteSVM;
use semel_schemas::{
    attention::{
        self, CHANNEL_DISCRIMINATOR, PROTOCOL_DISCRIMINATOR, channel_layout, protocol_layout,
    },
    solana::Address,
};
use solana_account::Account;
use solana_pubkey::Pubkey;

use super::{DevnetConfig, DevnetError};
use crate::solana::program;

/// Lamports of the faucet at slot 0: half of all that a u64 can count.
const FAUCET_LAMPORTS: u64 = u64::MAX / 2;

/// The program's id.
pub(super) fn program_id() -> Pubkey {
    Pubkey::new_from_array(attention::PROGRAM.0)
}

/// The protocol account's address and bump.
#[must_use]
pub fn protocol_pda(mint: &Address) -> (Pubkey, u8) {
    Pubkey::find_program_address(&attention::protocol_seeds(mint), &program_id())
}

/// A channel account's address and bump.
#[must_use]
pub fn channel_pda(mint: &Address, streamer: &[u8; 32]) -> (Pubkey, u8) {
    Pubkey::find_program_address(&attention::channel_seeds(mint, streamer), &program_id())
}

/// A virtual machine with the features of mainnet and the program. Signatures, blockhashes and
/// repetitions are checked by the chain, so the machine's own checks stay off.
pub(super) fn svm() -> Result<LiteSVM, DevnetError> {
    let mut svm = LiteSVM::default()
        .with_mainnet_features()
        .with_builtins()
        .with_sysvars()
        .with_feature_accounts()
        .with_sigverify(false)
        .with_blockhash_check(false)
        .with_transaction_history(0);
    let elf = program::elf()?;
    svm.add_program(program_id(), &elf)
        .map_err(|e| DevnetError::Svm(format!("the program cannot be loaded: {e}")))?;
    Ok(svm)
}

/// Accounts of slot 0.
pub(super) fn genesis(
    config: &DevnetConfig,
    svm: &LiteSVM,
    faucet: &Pubkey,
) -> Vec<(Pubkey, Account)> {
    let mut accounts = vec![(*faucet, lamports(FAUCET_LAMPORTS)), protocol(config, svm)];
    accounts.extend(config.channels.iter().map(|name| channel(config, svm, name)));
    let funded = config.funded.iter();
    accounts.extend(funded.map(|(key, sum)| (Pubkey::new_from_array(key.0), lamports(*sum))));
    accounts
}

fn lamports(lamports: u64) -> Account {
    Account { lamports, rent_epoch: u64::MAX, ..Account::default() }
}

fn protocol(config: &DevnetConfig, svm: &LiteSVM) -> (Pubkey, Account) {
    let (key, bump) = protocol_pda(&config.mint);
    let mut data = vec![0; protocol_layout::LEN];
    put(&mut data, 0, &PROTOCOL_DISCRIMINATOR);
    put(&mut data, protocol_layout::INITIALIZED, &[1]);
    put(&mut data, protocol_layout::VERSION, &[1]);
    put(&mut data, protocol_layout::ADMIN, &config.admin.0);
    put(&mut data, protocol_layout::PUBLISHER, &config.publisher.0);
    put(&mut data, protocol_layout::MINT, &config.mint.0);
    put(&mut data, protocol_layout::BUMP, &[bump]);
    (key, owned(svm, data))
}

/// A channel's account as `initialize_channel` leaves it: an empty ring.
pub(super) fn channel(config: &DevnetConfig, svm: &LiteSVM, name: &str) -> (Pubkey, Account) {
    let streamer = attention::channel_key(name);
    let (key, bump) = channel_pda(&config.mint, &streamer);
    let mut data = vec![0; channel_layout::LEN];
    put(&mut data, 0, &CHANNEL_DISCRIMINATOR);
    put(&mut data, channel_layout::VERSION, &[1]);
    put(&mut data, channel_layout::BUMP, &[bump]);
    put(&mut data, channel_layout::MINT, &config.mint.0);
    put(&mut data, channel_layout::STREAMER, &streamer);
    (key, owned(svm, data))
}

fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    data[at..at + bytes.len()].copy_from_slice(bytes);
}

fn owned(svm: &LiteSVM, data: Vec<u8>) -> Account {
    let lamports = svm.minimum_balance_for_rent_exemption(data.len());
    Account { lamports, data, owner: program_id(), executable: false, rent_epoch: u64::MAX }
}
