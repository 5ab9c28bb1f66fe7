//! The real `solana-rpc-client` against a served devnet, over HTTP.

use std::{future::pending, net::Ipv4Addr, time::Duration};

use jsonrpsee::server::ServerHandle;
use semel_schemas::{attention, solana::Address};
use solana_commitment_config::CommitmentConfig;
use solana_pubkey::Pubkey;
use solana_rpc_client::nonblocking::rpc_client::RpcClient;
use solana_rpc_client_api::{
    client_error::{Error, ErrorKind},
    config::{
        RpcBlockConfig, RpcContextConfig, RpcSendTransactionConfig, RpcSimulateTransactionConfig,
    },
    request::{RpcError, RpcResponseErrorData},
};
use solana_signer::Signer as _;
use solana_transaction::{TransactionError, versioned::VersionedTransaction};
use solana_transaction_status_client_types::{
    TransactionConfirmationStatus, TransactionDetails, UiTransactionEncoding,
    option_serializer::OptionSerializer,
};

use super::*;
use crate::solana::devnet::tests::{
    PUBLISHER, USER, address, claim, config, key, set_root, signed,
};

struct Served {
    devnet: Devnet,
    rpc: RpcClient,
    handle: ServerHandle,
}

async fn served(config: DevnetConfig) -> Served {
    let devnet = Devnet::new(config).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (address, handle) = serve(devnet.clone(), any).await.unwrap();
    assert!(address.ip().is_loopback());
    Served { devnet, rpc: RpcClient::new(format!("http://{address}")), handle }
}

impl Served {
    fn ticks(&self, count: usize) {
        for _ in 0..count {
            self.devnet.tick().unwrap();
        }
    }

    async fn transaction(
        &self,
        instruction: solana_instruction::Instruction,
        signer: u8,
    ) -> VersionedTransaction {
        let at = CommitmentConfig::processed();
        let (hash, _) = self.rpc.get_latest_blockhash_with_commitment(at).await.unwrap();
        let bytes = signed(&[instruction], &key(signer), hash.to_bytes());
        bincode::deserialize(&bytes).unwrap()
    }
}

/// Code, text and data of an error that the server gave.
fn told(error: Error) -> (i64, String, RpcResponseErrorData) {
    match *error.kind {
        ErrorKind::RpcError(RpcError::RpcResponseError { code, message, data }) => {
            (code, message, data)
        }
        other => panic!("no answer of the server: {other:?}"),
    }
}

fn block_config(encoding: UiTransactionEncoding) -> RpcBlockConfig {
    RpcBlockConfig {
        encoding: Some(encoding),
        transaction_details: Some(TransactionDetails::Full),
        rewards: Some(false),
        commitment: Some(CommitmentConfig::finalized()),
        max_supported_transaction_version: Some(0),
    }
}

#[tokio::test]
async fn a_root_goes_in_and_is_read_back_through_the_real_client() {
    let s = served(config()).await;
    let transaction = s.transaction(set_root(&key(PUBLISHER), "alpha", 4, 0xcd), PUBLISHER).await;
    let simulated = s
        .rpc
        .simulate_transaction_with_config(
            &transaction,
            RpcSimulateTransactionConfig {
                replace_recent_blockhash: true,
                ..RpcSimulateTransactionConfig::default()
            },
        )
        .await
        .unwrap()
        .value;
    assert_eq!(simulated.err, None);
    assert!(simulated.units_consumed.unwrap() > 100);
    assert!(simulated.replacement_blockhash.is_some());

    let signature = s.rpc.send_transaction(&transaction).await.unwrap();
    assert_eq!(signature, transaction.signatures[0]);
    let status =
        || async { s.rpc.get_signature_statuses(&[signature]).await.unwrap().value[0].clone() };
    assert_eq!(status().await, None, "it waits");
    s.ticks(1);
    let landed = status().await.unwrap();
    assert_eq!(landed.confirmation_status, Some(TransactionConfirmationStatus::Processed));
    s.ticks(4);
    let landed = s.rpc.get_signature_statuses_with_history(&[signature]).await.unwrap();
    let landed = landed.value[0].clone().unwrap();
    assert_eq!((landed.slot, landed.err.clone(), landed.confirmations), (1, None, None));

    let mint = s.devnet.config().mint;
    let channel = crate::solana::devnet::channel_pda(&mint, &attention::channel_key("alpha")).0;
    let account = s.rpc.get_account(&channel).await.unwrap();
    assert_eq!(account.owner, Pubkey::new_from_array(attention::PROGRAM.0));
    let slot = attention::read_ring(&account.data, 4).unwrap();
    assert_eq!((slot.epoch, slot.root, slot.count), (4, [0xcd; 32], 7));
    let many =
        s.rpc.get_multiple_accounts(&[channel, Pubkey::new_from_array([5; 32])]).await.unwrap();
    assert_eq!(many[0].as_ref(), Some(&account));
    assert_eq!(many[1], None);
    s.handle.stop().unwrap();
}

#[tokio::test]
async fn blocks_carry_transactions_in_both_encodings_failed_ones_too() {
    let s = served(config()).await;
    let good = s.transaction(claim(&key(USER), 1, 0), USER).await;
    let bad = s.transaction(set_root(&key(USER), "alpha", 1, 0), USER).await;
    let skip =
        RpcSendTransactionConfig { skip_preflight: true, ..RpcSendTransactionConfig::default() };
    s.rpc.send_transaction_with_config(&bad, skip).await.unwrap();
    s.rpc.send_transaction(&good).await.unwrap();
    s.ticks(5);
    for encoding in [UiTransactionEncoding::Json, UiTransactionEncoding::Base64] {
        let block = s.rpc.get_block_with_config(1, block_config(encoding)).await.unwrap();
        assert_eq!((block.parent_slot, block.block_height), (0, Some(1)));
        let [first, second] = &block.transactions.unwrap()[..] else { panic!("two") };
        let meta = first.meta.clone().unwrap();
        let error: TransactionError = meta.err.unwrap().into();
        assert!(error.to_string().ends_with("0x1770"));
        assert_eq!(meta.pre_balances[0] - meta.post_balances[0], 5000, "it paid its fee");
        let meta = second.meta.clone().unwrap();
        assert!(meta.err.is_none());
        let OptionSerializer::Some(logs) = meta.log_messages else { panic!("logs") };
        assert!(logs[0].starts_with(&format!("Program {} invoke", attention::PROGRAM)), "{logs:?}");
        assert_eq!(meta.inner_instructions, OptionSerializer::Some(vec![]));
        if encoding == UiTransactionEncoding::Base64 {
            assert_eq!(second.transaction.decode().unwrap(), good);
        }
    }
    let block = s.rpc.get_block(1).await.unwrap();
    assert_eq!(block.transactions.len(), 2);
    let both = s.rpc.get_blocks(0, None).await.unwrap();
    assert_eq!(both, [0, 1]);
}

#[tokio::test]
async fn errors_have_the_codes_of_real_nodes() {
    let s = served(DevnetConfig { skipped: vec![2], ..config() }).await;
    s.ticks(8);
    let finalized = s.rpc.get_slot().await.unwrap();
    assert_eq!(finalized, 4);
    assert_eq!(s.rpc.get_blocks(0, Some(9)).await.unwrap(), [0, 1, 3, 4]);
    let at = |slot| s.rpc.get_block_with_config(slot, block_config(UiTransactionEncoding::Json));
    assert_eq!(told(at(2).await.unwrap_err()).0, -32007, "skipped");
    assert_eq!(told(at(5).await.unwrap_err()).0, -32004, "not final yet");
    assert_eq!(told(at(99).await.unwrap_err()).0, -32004);
    let parent = at(3).await.unwrap();
    assert_eq!((parent.parent_slot, parent.block_height), (1, Some(2)));

    let height = s.rpc.get_block_height().await.unwrap();
    assert_eq!(height, 3, "height counts blocks");
    let early = RpcContextConfig { commitment: None, min_context_slot: Some(5) };
    let refused: Result<u64, _> = s
        .rpc
        .send(
            solana_rpc_client_api::request::RpcRequest::GetBlockHeight,
            serde_json::json!([early]),
        )
        .await;
    assert_eq!(told(refused.unwrap_err()).0, -32016);
    // The client's own account calls turn every error into a text, so this one is asked by hand.
    let account: Result<serde_json::Value, _> = s
        .rpc
        .send(
            solana_rpc_client_api::request::RpcRequest::GetAccountInfo,
            serde_json::json!([address(&key(USER)), { "minContextSlot": 9 }]),
        )
        .await;
    assert_eq!(told(account.unwrap_err()).0, -32016);

    let unknown: Result<u64, _> = s
        .rpc
        .send(solana_rpc_client_api::request::RpcRequest::GetSupply, serde_json::json!([]))
        .await;
    assert_eq!(told(unknown.unwrap_err()).0, -32601);
}

#[tokio::test]
async fn preflight_refuses_what_would_fail_expired_repeated_or_forged() {
    let s = served(DevnetConfig { blockhash_blocks: 5, ..config() }).await;
    let good = s.transaction(set_root(&key(PUBLISHER), "alpha", 4, 1), PUBLISHER).await;
    let late = s.transaction(claim(&key(USER), 1, 0), USER).await;
    let wrong = s.transaction(set_root(&key(USER), "alpha", 4, 1), USER).await;
    let (code, text, data) = told(s.rpc.send_transaction(&wrong).await.unwrap_err());
    assert_eq!(code, -32002);
    assert!(text.ends_with("custom program error: 0x1770"), "{text}");
    let RpcResponseErrorData::SendTransactionPreflightFailure(result) = data else {
        panic!("no simulation in the error")
    };
    assert!(result.logs.is_some_and(|logs| !logs.is_empty()));

    s.rpc.send_transaction(&good).await.unwrap();
    s.ticks(1);
    let (code, text, _) = told(s.rpc.send_transaction(&good).await.unwrap_err());
    assert_eq!(code, -32002);
    assert!(text.contains("already been processed"), "{text}");
    let again = s.transaction(set_root(&key(PUBLISHER), "alpha", 4, 2), PUBLISHER).await;
    let (_, text, _) = told(s.rpc.send_transaction(&again).await.unwrap_err());
    assert!(text.ends_with("custom program error: 0x1787"), "6023: {text}");

    let hash = *late.message.recent_blockhash();
    let valid = |at| s.rpc.is_blockhash_valid(&hash, at);
    assert!(valid(CommitmentConfig::processed()).await.unwrap());
    s.ticks(5);
    assert!(!valid(CommitmentConfig::processed()).await.unwrap());
    let (code, text, _) = told(s.rpc.send_transaction(&late).await.unwrap_err());
    assert_eq!((code, text.contains("Blockhash not found")), (-32002, true), "{text}");

    let mut forged = s.transaction(claim(&key(USER), 1, 0), USER).await;
    forged.signatures[0] = good.signatures[0];
    assert_eq!(told(s.rpc.send_transaction(&forged).await.unwrap_err()).0, -32003);
    let checked = RpcSimulateTransactionConfig {
        sig_verify: true,
        ..RpcSimulateTransactionConfig::default()
    };
    let simulated = s.rpc.simulate_transaction_with_config(&forged, checked).await.unwrap();
    let error: TransactionError = simulated.value.err.unwrap().into();
    assert_eq!(error, TransactionError::SignatureFailure);
}

#[tokio::test]
async fn bad_calls_get_a_sentence() {
    use solana_rpc_client_api::request::RpcRequest::{
        GetAccountInfo, GetBlock, SendTransaction, SimulateTransaction,
    };
    let s = served(config()).await;
    let user = address(&key(USER)).to_string();
    for (method, params) in [
        (GetAccountInfo, serde_json::json!([])),
        (GetAccountInfo, serde_json::json!(["not an address"])),
        (GetAccountInfo, serde_json::json!([user, { "encoding": "jsonParsed" }])),
        (GetBlock, serde_json::json!([-1])),
        (GetBlock, serde_json::json!([0, { "commitment": "processed" }])),
        (GetBlock, serde_json::json!([0, { "commitment": "soon" }])),
        (SendTransaction, serde_json::json!(["###"])),
        (SendTransaction, serde_json::json!(["z".repeat(100_000)])),
        (SendTransaction, serde_json::json!(["AAAA", { "encoding": "base64" }])),
        (SimulateTransaction, serde_json::json!(["AQ==", { "encoding": "base64" }])),
    ] {
        let answer: Result<serde_json::Value, _> = s.rpc.send(method, params.clone()).await;
        let (code, text, _) = told(answer.unwrap_err());
        assert_eq!(code, -32602, "{params}: {text}");
        assert!(!text.is_empty());
    }
}

#[tokio::test]
async fn a_running_devnet_follows_the_clock_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let chain = DevnetConfig { slot_ms: 20, finalized_lag: 2, ..config() };
    let run = RunConfig {
        chain,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        folder: Some(folder.path().to_owned()),
    };
    let start = |run: RunConfig| async move {
        let (tell, told) = tokio::sync::oneshot::channel();
        let ready = move |address| tell.send(address).unwrap();
        let task = tokio::spawn(run_devnet(run, ready, pending()));
        (RpcClient::new(format!("http://{}", told.await.unwrap())), task)
    };
    let wait_for = |rpc: RpcClient, slot| async move {
        for _ in 0..12_000 {
            if rpc.get_slot().await.unwrap() >= slot {
                return rpc;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("slot {slot} never came");
    };
    let (rpc, task) = start(run.clone()).await;
    rpc.get_health().await.unwrap();
    assert_eq!(rpc.get_version().await.unwrap().solana_core, "4.2.2");
    let to = key(77).pubkey();
    rpc.request_airdrop(&to, 123_000_000).await.unwrap();
    let channel: String = rpc
        .send(
            solana_rpc_client_api::request::RpcRequest::Custom { method: "devnetCreateChannel" },
            serde_json::json!(["Gamma"]),
        )
        .await
        .unwrap();
    let channel: Address = channel.parse().unwrap();
    let rpc = wait_for(rpc, 8).await;
    assert_eq!(rpc.get_balance(&to).await.unwrap(), 123_000_000);
    let fees = rpc.get_recent_prioritization_fees(&[to]).await.unwrap();
    assert!(fees.len() >= 8 && fees.windows(2).all(|two| two[0].slot < two[1].slot));
    let before = rpc.get_block(5).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());

    // The first server's tasks end by themselves; until then the folder is in use.
    while Devnet::open(run.chain.clone(), folder.path()).is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (rpc, task) = start(run.clone()).await;
    assert_eq!(rpc.get_block(5).await.unwrap(), before);
    assert_eq!(rpc.get_balance(&to).await.unwrap(), 123_000_000);
    let account = rpc.get_account(&Pubkey::new_from_array(channel.0)).await.unwrap();
    assert!(attention::read_ring(&account.data, 1).is_some());
    let now = rpc.get_slot().await.unwrap();
    wait_for(rpc, now + 2).await;
    task.abort();
}

#[tokio::test]
async fn an_address_in_use_is_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let run = RunConfig { listen, chain: config(), folder: None };
    let refused = run_devnet(run, |_| (), pending()).await.unwrap_err().to_string();
    assert!(refused.starts_with(&format!("cannot serve JSON-RPC on {listen}: ")), "{refused}");
}
