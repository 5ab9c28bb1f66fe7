//! The devnet as a specification: what lands, what is refused, what is seen when.

use semel_schemas::{
    attention::{
        self, ClaimChannelOpen, ClaimOpen, ClaimWithRing, Instruction as Oracle, RingSlot,
        SetMerkleRootRing, read_ring,
    },
    effect::Commitment::{self, Confirmed, Finalized, Processed},
    solana::{Address, Signature},
    time::{BlockHeight, Slot},
};
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_message::Message;
use solana_pubkey::Pubkey;
use solana_signer::Signer as _;
use solana_transaction::{Transaction, versioned::VersionedTransaction};

use super::{Devnet, DevnetConfig, Preflight, SubmitError, channel_pda, protocol_pda};
use crate::solana::node::{NodeError, SendAnswer, SolanaNode};

pub(crate) fn key(seed: u8) -> Keypair {
    Keypair::new_from_array([seed; 32])
}

pub(crate) fn address(key: &Keypair) -> Address {
    Address(key.pubkey().to_bytes())
}

pub(crate) const PUBLISHER: u8 = 1;
pub(crate) const USER: u8 = 2;

pub(crate) fn config() -> DevnetConfig {
    DevnetConfig {
        publisher: address(&key(PUBLISHER)),
        channels: vec!["Alpha".to_owned()],
        funded: [PUBLISHER, USER].map(|k| (address(&key(k)), 1_000_000_000)).to_vec(),
        finalized_lag: 4,
        ..DevnetConfig::default()
    }
}

fn instruction(oracle: &Oracle, accounts: Vec<AccountMeta>) -> Instruction {
    let program_id = Pubkey::new_from_array(attention::PROGRAM.0);
    Instruction { program_id, accounts, data: oracle.data() }
}

pub(crate) fn signed(
    instructions: &[Instruction],
    signer: &Keypair,
    blockhash: [u8; 32],
) -> Vec<u8> {
    let message = Message::new(instructions, Some(&signer.pubkey()));
    let transaction = Transaction::new(&[signer], message, Hash::new_from_array(blockhash));
    bincode::serialize(&transaction).unwrap()
}

pub(crate) fn set_root(authority: &Keypair, channel: &str, epoch: u64, fill: u8) -> Instruction {
    let mint = DevnetConfig::default().mint;
    let streamer = attention::channel_key(channel);
    let oracle = Oracle::SetMerkleRootRing(SetMerkleRootRing {
        root: [fill; 32],
        epoch,
        count: 7,
        streamer,
    });
    let accounts = vec![
        AccountMeta::new(authority.pubkey(), true),
        AccountMeta::new(protocol_pda(&mint).0, false),
        AccountMeta::new(channel_pda(&mint, &streamer).0, false),
        AccountMeta::new_readonly(solana_sdk_ids::system_program::id(), false),
    ];
    instruction(&oracle, accounts)
}

pub(crate) fn claim(claimer: &Keypair, epoch: u64, index: u32) -> Instruction {
    let mint = DevnetConfig::default().mint;
    let streamer = attention::channel_key("alpha");
    let oracle = Oracle::ClaimWithRing(ClaimWithRing {
        epoch,
        index,
        amount: 5,
        proof: vec![[9; 32]; 3],
        id: format!("twitch:alpha:user{index}"),
        streamer,
    });
    // Nine accounts, some of them the same, as real claims have.
    let system = solana_sdk_ids::system_program::id();
    let mut accounts = vec![
        AccountMeta::new(claimer.pubkey(), true),
        AccountMeta::new(protocol_pda(&mint).0, false),
        AccountMeta::new(channel_pda(&mint, &streamer).0, false),
        AccountMeta::new(claimer.pubkey(), true),
    ];
    accounts.extend(vec![AccountMeta::new_readonly(system, false); 5]);
    instruction(&oracle, accounts)
}

async fn newest(devnet: &Devnet) -> [u8; 32] {
    devnet.latest_blockhash(Processed).await.unwrap().blockhash.0
}

fn ticks(devnet: &Devnet, count: u64) {
    for _ in 0..count {
        devnet.tick().unwrap();
    }
}

/// Sends one instruction, waits a slot, and tells what became of it.
async fn land(devnet: &Devnet, ix: Instruction, signer: &Keypair) -> (Signature, Option<String>) {
    let bytes = signed(&[ix], signer, newest(devnet).await);
    let signature = devnet.submit(&bytes, Preflight::Skip).unwrap();
    devnet.tick().unwrap();
    let found = devnet.status(&signature, None).await.unwrap().found.expect("it landed");
    (signature, found.error)
}

async fn ring(devnet: &Devnet, epoch: u64, commitment: Commitment) -> Option<RingSlot> {
    let mint = devnet.config().mint;
    let at = channel_pda(&mint, &attention::channel_key("alpha")).0;
    let account = devnet.account(&Address(at.to_bytes()), commitment, None).await.unwrap();
    read_ring(&account.data?, epoch)
}

#[tokio::test]
async fn a_root_is_executed_and_read_back_once_it_is_final() {
    let devnet = Devnet::new(config()).unwrap();
    let (signature, error) = land(&devnet, set_root(&key(1), "alpha", 14, 0xaa), &key(1)).await;
    assert_eq!(error, None);
    let held = Some(RingSlot { epoch: 14, root: [0xaa; 32], count: 7 });
    let empty = Some(RingSlot { epoch: 0, root: [0; 32], count: 0 });
    assert_eq!(ring(&devnet, 14, Processed).await, held);
    assert_eq!(ring(&devnet, 14, Confirmed).await, empty);
    assert_eq!(ring(&devnet, 14, Finalized).await, empty);
    ticks(&devnet, 3);
    assert_eq!(ring(&devnet, 14, Finalized).await, empty, "one slot too early");
    ticks(&devnet, 1);
    assert_eq!(ring(&devnet, 14, Finalized).await, held);
    assert_eq!(ring(&devnet, 15, Finalized).await, empty, "other slots of the ring are untouched");
    let status = devnet.status(&signature, None).await.unwrap();
    assert_eq!(status.found.unwrap().commitment, Finalized);
    assert_eq!(status.context_slot, Slot(1), "the finalized slot that the height belongs to");
    assert_eq!(status.finalized_height, BlockHeight(1));
}

#[tokio::test]
async fn an_epoch_must_be_greater_than_the_one_in_its_slot_of_the_ring() {
    let devnet = Devnet::new(config()).unwrap();
    let publisher = key(PUBLISHER);
    for (epoch, fill, refused) in [
        (14, 1, None),
        (14, 2, Some(attention::EPOCH_NOT_INCREASING)),
        (5, 3, Some(attention::EPOCH_NOT_INCREASING)), // 5 % 9 == 14 % 9
        (6, 4, None),                                  // another slot: older epochs may come late
        (23, 5, None),                                 // 23 % 9 == 14 % 9, and greater
        (0, 6, Some(attention::INVALID_EPOCH)),
    ] {
        let (_, error) =
            land(&devnet, set_root(&publisher, "alpha", epoch, fill), &publisher).await;
        let text = refused
            .map(|code| format!("Error processing Instruction 0: custom program error: {code:#x}"));
        assert_eq!(error, text, "epoch {epoch}");
    }
    let root = |fill| [fill; 32];
    assert_eq!(ring(&devnet, 14, Processed).await.unwrap().root, root(5));
    assert_eq!(ring(&devnet, 6, Processed).await.unwrap().root, root(4));
}

#[tokio::test]
async fn only_the_publisher_or_the_admin_sets_a_root_of_an_existing_channel() {
    let admin = key(9);
    let devnet = Devnet::new(DevnetConfig {
        admin: address(&admin),
        funded: [PUBLISHER, USER, 9].map(|k| (address(&key(k)), 1_000_000_000)).to_vec(),
        ..config()
    })
    .unwrap();
    let code = |code: u32| {
        Some(format!("Error processing Instruction 0: custom program error: {code:#x}"))
    };
    let (user, publisher) = (key(USER), key(PUBLISHER));
    let (_, error) = land(&devnet, set_root(&user, "alpha", 1, 1), &user).await;
    assert_eq!(error, code(attention::UNAUTHORIZED));
    assert_eq!(land(&devnet, set_root(&admin, "alpha", 1, 1), &admin).await.1, None);
    // A channel that nobody created: the account is not the program's.
    let (_, error) = land(&devnet, set_root(&publisher, "beta", 1, 1), &publisher).await;
    assert_eq!(error, code(3007));
    devnet.create_channel("Beta").unwrap();
    assert_eq!(land(&devnet, set_root(&publisher, "beta", 1, 2), &publisher).await.1, None);
    // Another channel's account than the streamer says.
    let mut crossed = set_root(&publisher, "alpha", 2, 1);
    crossed.accounts[2] = set_root(&publisher, "beta", 2, 1).accounts[2].clone();
    assert_eq!(land(&devnet, crossed, &publisher).await.1, code(2006));
    // The publisher is named, but did not sign.
    let mut unsigned = set_root(&publisher, "alpha", 3, 1);
    unsigned.accounts[0].is_signer = false;
    assert_eq!(land(&devnet, unsigned, &user).await.1, code(3010));
    // Too many leaves; arguments cut short; fewer accounts; not writable; unknown instruction.
    let mut many = set_root(&publisher, "alpha", 3, 1);
    many.data[48..50].copy_from_slice(&8193_u16.to_le_bytes());
    assert_eq!(land(&devnet, many, &publisher).await.1, code(attention::INVALID_INPUT_LENGTH));
    let mut cut = set_root(&publisher, "alpha", 3, 1);
    cut.data.truncate(81);
    assert_eq!(land(&devnet, cut, &publisher).await.1, code(102));
    let mut few = set_root(&publisher, "alpha", 3, 1);
    few.accounts.truncate(3);
    assert_eq!(land(&devnet, few, &publisher).await.1, code(3005));
    let mut fixed = set_root(&publisher, "alpha", 3, 1);
    fixed.accounts[2].is_writable = false;
    assert_eq!(land(&devnet, fixed, &publisher).await.1, code(2000));
    let mut unknown = set_root(&publisher, "alpha", 3, 1);
    unknown.data[0] ^= 1;
    assert_eq!(land(&devnet, unknown, &publisher).await.1, code(101));
    // A protocol that its admin has paused.
    let protocol = protocol_pda(&devnet.config().mint).0;
    let mut account = devnet.read(|chain| chain.account(&protocol, Processed)).unwrap();
    account.data[attention::protocol_layout::PAUSED] = 1;
    devnet.lock().chain.write_account(protocol, account).unwrap();
    let paused = land(&devnet, set_root(&publisher, "alpha", 3, 1), &publisher).await;
    assert_eq!(paused.1, code(attention::PROTOCOL_PAUSED));
}

#[tokio::test]
async fn claims_are_executed_and_seen_in_their_block() {
    let devnet = Devnet::new(config()).unwrap();
    let user = key(USER);
    let open = Oracle::ClaimOpen(ClaimOpen {
        streamer_index: 0,
        index: 1,
        amount: 2,
        id: "twitch:alpha:bob".into(),
        proof: vec![],
        channel: None,
        epoch: Some(3),
        receipt: false,
    });
    let by_name = Oracle::ClaimChannelOpen(ClaimChannelOpen {
        channel: "alpha".into(),
        epoch: 3,
        index: 1,
        amount: 2,
        user_hash: "00".into(),
        proof: vec![],
    });
    let account = vec![AccountMeta::new(user.pubkey(), true)];
    let instructions =
        [claim(&user, 3, 0), instruction(&open, account.clone()), instruction(&by_name, account)];
    let bytes = signed(&instructions, &user, newest(&devnet).await);
    let failing = signed(&[set_root(&user, "alpha", 1, 1)], &user, newest(&devnet).await);
    devnet.submit(&failing, Preflight::Skip).unwrap();
    let signature = devnet.submit(&bytes, Preflight::Run).unwrap();
    devnet.tick().unwrap();

    let block = devnet.block(Slot(1), Processed).await.unwrap();
    assert_eq!(block.transactions.len(), 1, "the failed one is not among them");
    let seen = &block.transactions[0];
    assert_eq!((seen.signature, seen.index), (signature, 1), "but it has a place");
    for (seen, sent) in seen.instructions.iter().zip(&instructions) {
        assert_eq!(seen.program, attention::PROGRAM);
        assert_eq!(seen.data, sent.data);
        let sent: Vec<_> = sent.accounts.iter().map(|a| Address(a.pubkey.to_bytes())).collect();
        assert_eq!(seen.accounts, sent);
    }
    assert_eq!(seen.instructions.len(), 3);
    // Nobody claims for another one.
    let mut unsigned = claim(&key(PUBLISHER), 3, 1);
    for account in &mut unsigned.accounts {
        account.is_signer = false;
    }
    let (_, error) = land(&devnet, unsigned, &user).await;
    assert!(error.unwrap().ends_with("0xbc2"), "AccountNotSigner");
}

#[tokio::test]
async fn accounts_from_lookup_tables_are_resolved() {
    let devnet = Devnet::new(config()).unwrap();
    let user = key(USER);
    let sent = claim(&user, 3, 0);
    // An active table without authority: 56 bytes of head, then the addresses.
    let mut data = vec![0; 56];
    data[0] = 1;
    data[4..12].fill(0xff);
    let listed: Vec<Pubkey> = sent.accounts[1..3].iter().map(|a| a.pubkey).collect();
    listed.iter().for_each(|key| data.extend(key.to_bytes()));
    let owner = solana_sdk_ids::address_lookup_table::id();
    let table = solana_account::Account { lamports: 10_000_000, data, owner, ..Default::default() };
    let at = Pubkey::new_from_array([0x7a; 32]);
    devnet.lock().chain.write_account(at, table).unwrap();
    devnet.tick().unwrap();

    let lookup = solana_message::AddressLookupTableAccount { key: at, addresses: listed.clone() };
    let hash = Hash::new_from_array(newest(&devnet).await);
    let message = solana_message::v0::Message::try_compile(
        &user.pubkey(),
        std::slice::from_ref(&sent),
        &[lookup],
        hash,
    )
    .unwrap();
    assert_eq!(message.address_table_lookups[0].writable_indexes.len(), 2);
    let message = solana_message::VersionedMessage::V0(message);
    let transaction = VersionedTransaction::try_new(message, &[&user]).unwrap();
    let bytes = bincode::serialize(&transaction).unwrap();
    let signature = devnet.submit(&bytes, Preflight::Run).unwrap();
    devnet.tick().unwrap();
    let block = devnet.block(Slot(2), Processed).await.unwrap();
    assert_eq!(block.transactions[0].signature, signature);
    let seen = &block.transactions[0].instructions[0];
    let accounts: Vec<_> = sent.accounts.iter().map(|a| Address(a.pubkey.to_bytes())).collect();
    assert_eq!((seen.program, &seen.accounts), (attention::PROGRAM, &accounts));
}

#[tokio::test]
async fn a_blockhash_expires_after_its_blocks() {
    let devnet =
        Devnet::new(DevnetConfig { blockhash_blocks: 10, skip_every: 3, ..config() }).unwrap();
    let user = key(USER);
    let taken = devnet.latest_blockhash(Processed).await.unwrap();
    assert_eq!(taken.last_valid_block_height, BlockHeight(10));
    let at = |index| signed(&[claim(&user, 1, index)], &user, taken.blockhash.0);
    let waiting = at(0);
    while devnet.block_height(Processed, None).await.unwrap() < BlockHeight(9) {
        devnet.tick().unwrap();
    }
    assert!(devnet.slot(Processed).await.unwrap() > Slot(9), "height counts blocks, not slots");
    let last = devnet.submit(&at(1), Preflight::Run).unwrap();
    ticks(&devnet, 2);
    assert!(devnet.status(&last, None).await.unwrap().found.is_some(), "landed at height 10");
    // At height 10 it is still valid for a simulation, and dead in the next block.
    let late = devnet.submit(&waiting, Preflight::Skip).unwrap();
    ticks(&devnet, 2);
    assert_eq!(devnet.status(&late, None).await.unwrap().found, None, "no block holds it");
    let refused = devnet.send(&waiting).await.unwrap();
    let text = "Transaction simulation failed: Blockhash not found";
    assert_eq!(refused, SendAnswer::Rejected(text.to_owned()));
    let never = signed(&[claim(&user, 1, 0)], &user, [77; 32]);
    assert_eq!(devnet.send(&never).await.unwrap(), SendAnswer::Rejected(text.to_owned()));
}

#[tokio::test]
async fn the_same_bytes_land_once() {
    let devnet = Devnet::new(config()).unwrap();
    let publisher = key(PUBLISHER);
    let bytes = signed(&[set_root(&publisher, "alpha", 1, 1)], &publisher, newest(&devnet).await);
    for _ in 0..3 {
        assert_eq!(devnet.send(&bytes).await.unwrap(), SendAnswer::Taken, "it waits");
    }
    devnet.tick().unwrap();
    let text = "Transaction simulation failed: This transaction has already been processed";
    assert_eq!(devnet.send(&bytes).await.unwrap(), SendAnswer::Rejected(text.to_owned()));
    devnet.submit(&bytes, Preflight::Skip).unwrap();
    ticks(&devnet, 3);
    let mut landed = 0;
    for slot in devnet.blocks(Slot(0), Slot(99), Processed).await.unwrap() {
        landed += devnet.block(slot, Processed).await.unwrap().transactions.len();
    }
    assert_eq!(landed, 1);
}

#[tokio::test]
async fn skipped_slots_have_no_block_and_the_next_parent_proves_it() {
    let devnet = Devnet::new(DevnetConfig { skip_every: 4, skipped: vec![2], ..config() }).unwrap();
    ticks(&devnet, 12);
    let slots = devnet.blocks(Slot(0), Slot(1000), Confirmed).await.unwrap();
    assert_eq!(slots, [0, 1, 4, 5, 6, 8, 9, 10].map(Slot), "2 by list; 3, 7, 11 by count");
    assert!(matches!(devnet.block(Slot(3), Confirmed).await, Err(NodeError::NotHere(Slot(3)))));
    assert!(matches!(devnet.block(Slot(12), Confirmed).await, Err(NodeError::NotHere(_))));
    let mut parent = devnet.block(Slot(0), Confirmed).await.unwrap();
    for (height, slot) in (1..).zip(&slots[1..]) {
        let block = devnet.block(*slot, Confirmed).await.unwrap();
        assert_eq!((block.parent_slot, block.previous_blockhash), (parent.slot, parent.blockhash));
        assert_eq!(block.height, BlockHeight(height));
        parent = block;
    }
    assert_eq!(devnet.slot(Finalized).await.unwrap(), Slot(8));
    assert_eq!(devnet.blocks(Slot(5), Slot(4), Finalized).await.unwrap(), []);
    assert!(matches!(
        devnet.block_height(Finalized, Some(Slot(9))).await,
        Err(NodeError::Unavailable(_))
    ));
}

#[tokio::test]
async fn a_clock_that_is_handed_in_drives_the_slots() {
    let devnet = Devnet::new(config()).unwrap();
    devnet.advance_to(1_700_000_000_000).unwrap();
    assert_eq!(devnet.slot(Processed).await.unwrap(), Slot(1));
    devnet.advance_to(1_700_000_000_399).unwrap();
    assert_eq!(devnet.slot(Processed).await.unwrap(), Slot(1));
    devnet.advance_to(1_700_000_004_000).unwrap();
    assert_eq!(devnet.slot(Processed).await.unwrap(), Slot(11));
    devnet.advance_to(5).unwrap();
    assert_eq!(devnet.slot(Processed).await.unwrap(), Slot(11), "time never goes back");
    let block = devnet.block(Slot(11), Processed).await.unwrap();
    assert_eq!(block.time, Some(1_700_000_004));
}

#[tokio::test]
async fn simulation_tells_units_or_the_error_and_changes_nothing() {
    let devnet = Devnet::new(config()).unwrap();
    let message = |key: &Keypair, epoch| {
        Message::new(&[set_root(key, "alpha", epoch, 1)], Some(&key.pubkey())).serialize()
    };
    let units = devnet.simulate(&message(&key(PUBLISHER), 1)).await.unwrap().unwrap();
    assert!((100..5000).contains(&units), "{units}");
    let error = devnet.simulate(&message(&key(USER), 1)).await.unwrap().unwrap_err();
    assert!(error.ends_with("custom program error: 0x1770"), "{error}");
    assert!(matches!(devnet.simulate(&[1, 2, 3]).await, Err(NodeError::Malformed(_))));
    assert_eq!(ring(&devnet, 1, Processed).await.unwrap().epoch, 0);
}

#[tokio::test]
async fn fees_are_those_of_the_accounts_that_are_written() {
    let devnet = Devnet::new(config()).unwrap();
    let publisher = key(PUBLISHER);
    let price = solana_compute_budget_interface::ComputeBudgetInstruction::set_compute_unit_price;
    let paid = signed(
        &[price(250), set_root(&publisher, "alpha", 1, 1)],
        &publisher,
        newest(&devnet).await,
    );
    devnet.submit(&paid, Preflight::Run).unwrap();
    ticks(&devnet, 2);
    assert_eq!(devnet.recent_fees(&[address(&publisher)]).await.unwrap(), [0, 250, 0]);
    assert_eq!(devnet.recent_fees(&[address(&key(USER))]).await.unwrap(), [0, 0, 0]);
}

#[tokio::test]
async fn bad_bytes_are_refused() {
    let devnet = Devnet::new(config()).unwrap();
    let user = key(USER);
    let good = signed(&[claim(&user, 1, 0)], &user, newest(&devnet).await);
    for cut in 0..good.len() {
        let refused = devnet.submit(&good[..cut], Preflight::Run);
        assert!(matches!(refused, Err(SubmitError::Malformed(_))), "{cut}");
    }
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 0x40;
        assert!(devnet.submit(&bad, Preflight::Run).is_err(), "byte {i}");
    }
    let mut long = good.clone();
    long.push(0);
    assert!(matches!(devnet.submit(&long, Preflight::Run), Err(SubmitError::Malformed(_))));
    devnet.submit(&good, Preflight::Run).unwrap();
}

/// A run with everything in it.
async fn drive(devnet: &Devnet) {
    let (user, publisher) = (key(USER), key(PUBLISHER));
    devnet.advance_to(1_000_000).unwrap();
    for round in 1..20 {
        let bytes = signed(&[claim(&user, round, 0)], &user, newest(devnet).await);
        devnet.submit(&bytes, Preflight::Run).unwrap();
        let bytes =
            signed(&[set_root(&publisher, "alpha", round, 3)], &publisher, newest(devnet).await);
        devnet.submit(&bytes, Preflight::Skip).unwrap();
        devnet.airdrop(&address(&key(40)), 1_000_000).unwrap();
        devnet.airdrop(&address(&key(40)), 1_000_000).unwrap();
        devnet.create_channel(&format!("channel{round}")).unwrap();
        devnet.advance_to(1_000_000 + round * 700).unwrap();
    }
}

async fn everything(devnet: &Devnet) -> Vec<crate::solana::node::Block> {
    let mut blocks = Vec::new();
    for slot in devnet.blocks(Slot(0), Slot(u64::MAX), Processed).await.unwrap() {
        blocks.push(devnet.block(slot, Processed).await.unwrap());
    }
    blocks
}

#[tokio::test]
async fn the_same_calls_give_the_same_chain() {
    let devnets =
        [(); 2].map(|()| Devnet::new(DevnetConfig { skip_every: 5, ..config() }).unwrap());
    for devnet in &devnets {
        drive(devnet).await;
    }
    let [a, b] = &devnets;
    assert_eq!(everything(a).await, everything(b).await);
    let given = a.account(&address(&key(40)), Processed, None).await.unwrap();
    assert!(given.data.is_some());
    let transactions: usize = everything(a).await.iter().map(|b| b.transactions.len()).sum();
    assert_eq!(transactions, 4 * 19);
}

#[tokio::test]
async fn a_devnet_with_a_folder_goes_on_after_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let config = DevnetConfig { skip_every: 5, ..config() };
    let devnet = Devnet::open(config.clone(), folder.path()).unwrap();
    drive(&devnet).await;
    let (before, ring_before) = (everything(&devnet).await, ring(&devnet, 19, Finalized).await);
    let busy = Devnet::open(config.clone(), folder.path()).unwrap_err().to_string();
    assert!(busy.contains("used by another process"), "{busy}");
    drop(devnet);
    // Killed in the middle of a line.
    use std::io::Write as _;
    let journal = folder.path().join("devnet.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(journal).unwrap();
    file.write_all(b"{\"tick\":{\"at_").unwrap();
    drop(file);
    let again = Devnet::open(config.clone(), folder.path()).unwrap();
    assert_eq!(everything(&again).await, before);
    assert_eq!(ring(&again, 19, Finalized).await, ring_before);
    again.advance_to(9_000_000).unwrap();
    let after = everything(&again).await;
    assert_eq!(after[..before.len()], before);
    assert!(after.len() <= before.len() + 1, "the first call after a start makes one slot");
    drop(again);
    let other = DevnetConfig { slot_ms: 1, ..config };
    let refused = Devnet::open(other, folder.path()).unwrap_err().to_string();
    assert!(refused.contains("other settings"), "{refused}");
}

#[test]
fn senseless_settings_are_refused() {
    let base = config();
    for wrong in [
        DevnetConfig { slot_ms: 0, ..base.clone() },
        DevnetConfig { skip_every: 1, ..base.clone() },
        DevnetConfig { max_transactions: 0, ..base.clone() },
        DevnetConfig { confirmed_lag: 9, ..base },
    ] {
        assert!(Devnet::new(wrong).is_err());
    }
}
