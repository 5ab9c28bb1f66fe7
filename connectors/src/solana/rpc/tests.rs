//! The node over a transport that answers with prepared JSON, in the shapes of Solana's RPC
//! documentation: what is asked, how answers and errors are read.

use std::{collections::VecDeque, sync::Arc, sync::Mutex};

use semel_schemas::solana::Blockhash;
use solana_rpc_client::rpc_sender::RpcTransportStats;
use solana_rpc_client_api::{
    client_error::Result as ClientResult,
    request::{RpcError, RpcResponseErrorData},
};

use super::*;

type Asked = Arc<Mutex<Vec<(String, Value)>>>;
type Answer = Result<Value, (i64, &'static str)>;

struct Prepared {
    answers: Mutex<VecDeque<Answer>>,
    asked: Asked,
}

#[async_trait]
impl RpcSender for Prepared {
    async fn send(&self, request: RpcRequest, params: Value) -> ClientResult<Value> {
        self.asked.lock().unwrap().push((request.to_string(), params));
        let next = self.answers.lock().unwrap().pop_front();
        match next.expect("the test prepared an answer to every question") {
            Ok(value) => Ok(value),
            Err((code, message)) => Err(RpcError::RpcResponseError {
                code,
                message: message.to_owned(),
                data: RpcResponseErrorData::Empty,
            }
            .into()),
        }
    }

    fn get_transport_stats(&self) -> RpcTransportStats {
        RpcTransportStats::default()
    }

    fn url(&self) -> String {
        String::new()
    }
}

fn node(answers: impl IntoIterator<Item = Answer>) -> (RpcNode, Asked) {
    let asked = Asked::default();
    let answers = Mutex::new(answers.into_iter().collect());
    let sender = Prepared { answers, asked: Arc::clone(&asked) };
    (RpcNode::over(sender, "node:1".to_owned(), Duration::from_secs(5)), asked)
}

fn address(byte: u8) -> Address {
    Address([byte; 32])
}

fn with_context(slot: u64, value: Value) -> Answer {
    Ok(json!({ "context": { "slot": slot }, "value": value }))
}

const OUR: u8 = 4;
const TABLE_W: u8 = 11;
const TABLE_R: u8 = 12;

/// A transaction in the encoding "json", with status: a foreign program (account 2) calls ours
/// (account 1) with looked-up accounts (3 writable, 4 read-only); then ours is called itself.
fn transaction(signature: u8) -> Value {
    let data = |bytes: &[u8]| bs58::encode(bytes).into_string();
    json!({
        "version": 0,
        "transaction": {
            "signatures": [Signature([signature; 64])],
            "message": {
                "header": {
                    "numRequiredSignatures": 1,
                    "numReadonlySignedAccounts": 0,
                    "numReadonlyUnsignedAccounts": 2,
                },
                "accountKeys": [address(1), address(OUR), address(3)],
                "recentBlockhash": Blockhash([6; 32]),
                "instructions": [
                    { "programIdIndex": 2, "accounts": [0], "data": data(&[1]), "stackHeight": 1 },
                    { "programIdIndex": 1, "accounts": [], "data": data(&[2]), "stackHeight": 1 },
                ],
                "addressTableLookups": [{
                    "accountKey": address(13), "writableIndexes": [0], "readonlyIndexes": [1],
                }],
            },
        },
        "meta": {
            "err": null, "status": { "Ok": null }, "fee": 5000,
            "preBalances": [], "postBalances": [],
            "innerInstructions": [{ "index": 0, "instructions": [
                { "programIdIndex": 1, "accounts": [3, 4], "data": data(&[3]), "stackHeight": 2 },
            ]}],
            "loadedAddresses": { "writable": [address(TABLE_W)], "readonly": [address(TABLE_R)] },
        },
    })
}

fn block_with(transactions: &[Value]) -> Value {
    json!({
        "previousBlockhash": Blockhash([1; 32]),
        "blockhash": Blockhash([2; 32]),
        "parentSlot": 41,
        "blockTime": 1_700_000_000,
        "blockHeight": 40,
        "transactions": transactions,
    })
}

fn failed() -> Value {
    let mut one = transaction(8);
    one["meta"]["err"] = json!({ "InstructionError": [0, { "Custom": 6023 }] });
    one["meta"]["status"] = json!({ "Err": one["meta"]["err"] });
    one
}

fn vote() -> Value {
    let mut one = transaction(7);
    let message = &mut one["transaction"]["message"];
    message["accountKeys"][2] = json!(vote_program());
    message["instructions"] = json!([{ "programIdIndex": 2, "accounts": [0], "data": "",
        "stackHeight": null }]);
    one["meta"]["innerInstructions"] = json!(null);
    one
}

fn vote_program() -> Address {
    Address(solana_sdk_ids::vote::ID.to_bytes())
}

#[tokio::test]
async fn a_block_holds_what_succeeded_in_order_of_execution_with_accounts_resolved() {
    let answer = block_with(&[failed(), vote(), transaction(5)]);
    let (node, asked) = node([Ok(answer)]);
    let block = node.block(Slot(42), Commitment::Finalized).await.unwrap();
    let ran = |program: u8, accounts: &[u8], data: u8| ExecutedInstruction {
        program: address(program),
        accounts: accounts.iter().map(|byte| address(*byte)).collect(),
        data: vec![data],
    };
    assert_eq!(
        block,
        Block {
            slot: Slot(42),
            parent_slot: Slot(41),
            blockhash: Blockhash([2; 32]),
            previous_blockhash: Blockhash([1; 32]),
            height: BlockHeight(40),
            time: Some(1_700_000_000),
            transactions: vec![ExecutedTransaction {
                signature: Signature([5; 64]),
                index: 2,
                instructions: vec![
                    ran(3, &[1], 1),
                    ran(OUR, &[TABLE_W, TABLE_R], 3),
                    ran(OUR, &[], 2),
                ],
            }],
        }
    );
    let (method, params) = asked.lock().unwrap()[0].clone();
    assert_eq!(method, "getBlock");
    assert_eq!(
        params,
        json!([42, {
            "encoding": "base64", "transactionDetails": "full", "rewards": false,
            "maxSupportedTransactionVersion": 0, "commitment": "finalized",
        }])
    );
}

#[tokio::test]
async fn a_transaction_as_bytes_reads_like_one_as_json() {
    use solana_message::{
        Hash, Message, MessageHeader, VersionedMessage, compiled_instruction::CompiledInstruction,
    };
    let header = MessageHeader {
        num_required_signatures: 1,
        num_readonly_signed_accounts: 0,
        num_readonly_unsigned_accounts: 1,
    };
    let message = Message {
        header,
        account_keys: vec![[1; 32].into(), [OUR; 32].into()],
        recent_blockhash: Hash::default(),
        instructions: vec![CompiledInstruction {
            program_id_index: 1,
            accounts: vec![0],
            data: vec![9, 9],
        }],
    };
    let bytes = bincode::serialize(&VersionedMessage::Legacy(message)).unwrap();
    let mut wire = unsigned_transaction(&bytes).unwrap();
    wire[1..65].fill(5);
    let mut one = transaction(5);
    one["version"] = json!("legacy");
    one["transaction"] = json!([BASE64.encode(wire), "base64"]);
    one["meta"]["innerInstructions"] = json!([]);
    one["meta"]["loadedAddresses"] = json!({ "writable": [], "readonly": [] });
    let (node, _) = node([Ok(block_with(&[one]))]);
    let block = node.block(Slot(42), Commitment::Finalized).await.unwrap();
    assert_eq!(
        block.transactions,
        [ExecutedTransaction {
            signature: Signature([5; 64]),
            index: 0,
            instructions: vec![ExecutedInstruction {
                program: address(OUR),
                accounts: vec![address(1)],
                data: vec![9, 9],
            }],
        }]
    );
}

#[tokio::test]
async fn a_block_with_a_hole_in_it_is_refused() {
    let without = |path: &str| {
        let mut one = transaction(5);
        *one.pointer_mut(path).unwrap() = Value::Null;
        block_with(&[one])
    };
    let with = |path: &str, value: Value| {
        let mut one = transaction(5);
        *one.pointer_mut(path).unwrap() = value;
        block_with(&[one])
    };
    let mut no_height = block_with(&[]);
    no_height["blockHeight"] = Value::Null;
    let mut no_transactions = block_with(&[]);
    no_transactions.as_object_mut().unwrap().remove("transactions");
    let program = "/transaction/message/instructions/0/programIdIndex";
    let rows = [
        (without("/meta"), "status is missing"),
        (without("/meta/innerInstructions"), "does not record inner instructions"),
        (without("/meta/loadedAddresses"), "it uses 5 accounts, but 3 were answered"),
        (with(program, json!(9)), "names account 9 of 5"),
        (with("/meta/innerInstructions/0/index", json!(7)), "belong to instruction 7"),
        (with("/transaction/signatures", json!([])), "no signature"),
        (with("/transaction", json!(["AAAA", "base64"])), "no transaction"),
        (with("/transaction/message/accountKeys/0", json!("0")), "0 is no address"),
        (no_height, "height is missing"),
        (no_transactions, "transactions are missing"),
        (json!({ "blockhash": 1 }), "getBlock"),
    ];
    for (answer, part) in rows {
        let (node, _) = node([Ok(answer)]);
        match node.block(Slot(42), Commitment::Finalized).await {
            Err(NodeError::Malformed(text)) => assert!(text.contains(part), "{text}: {part}"),
            other => panic!("{part}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn not_here_is_never_anything_else() {
    let codes = [-32004, -32007, -32009, -32014].map(|code| Err((code, "Slot 42 was skipped")));
    for answer in codes.into_iter().chain([Ok(Value::Null)]) {
        let (node, _) = node([answer.clone()]);
        let error = node.block(Slot(42), Commitment::Finalized).await.unwrap_err();
        assert!(matches!(error, NodeError::NotHere(Slot(42))), "{answer:?}: {error:?}");
    }
    for code in [-32001, -32005, -32015, -32016, -32603] {
        let (node, _) = node([Err((code, "the node's words"))]);
        let error = node.block(Slot(42), Commitment::Finalized).await.unwrap_err();
        let NodeError::Unavailable(text) = error else { panic!("{code}: {error:?}") };
        assert!(text.contains("the node's words") && text.contains("node:1"), "{text}");
    }
}

#[tokio::test]
async fn slots_are_sorted_and_within_bounds_whatever_the_node_says() {
    let (rpc, asked) = node([Ok(json!([7, 5, 5, 99, 1]))]);
    let slots = rpc.blocks(Slot(3), Slot(9), Commitment::Finalized).await.unwrap();
    assert_eq!(slots, [Slot(5), Slot(7)]);
    assert_eq!(asked.lock().unwrap()[0].1, json!([3, 9, { "commitment": "finalized" }]));
    let (rpc, _) = node([]);
    assert_eq!(rpc.blocks(Slot(9), Slot(3), Commitment::Finalized).await.unwrap(), []);
}

#[tokio::test]
async fn accounts_are_read_with_commitment_and_slot() {
    let account = json!({
        "data": ["aGk=", "base64"], "lamports": 1, "owner": address(2), "executable": false,
        "rentEpoch": 0, "space": 2,
    });
    let (node, asked) = node([with_context(50, account), with_context(51, Value::Null)]);
    let read = node.account(&address(1), Commitment::Finalized, Some(Slot(49))).await.unwrap();
    assert_eq!(read, AccountAt { context_slot: Slot(50), data: Some(b"hi".to_vec()) });
    let read = node.account(&address(1), Commitment::Confirmed, None).await.unwrap();
    assert_eq!(read, AccountAt { context_slot: Slot(51), data: None });
    let settings = asked.lock().unwrap()[0].1[1].clone();
    let want = json!({ "commitment": "finalized", "minContextSlot": 49, "encoding": "base64" });
    assert_eq!(settings, want);
}

fn status_answer(context: u64) -> Answer {
    with_context(
        context,
        json!([{ "slot": 60, "confirmations": null, "err": null, "status": { "Ok": null },
            "confirmationStatus": "finalized" }]),
    )
}

fn epoch_info(slot: u64, height: u64) -> Answer {
    Ok(json!({ "absoluteSlot": slot, "blockHeight": height, "epoch": 0, "slotIndex": 0,
        "slotsInEpoch": 1 }))
}

#[tokio::test]
async fn a_status_is_read_after_the_height_and_from_a_node_that_has_reached_it() {
    let (rpc, asked) = node([epoch_info(70, 65), status_answer(102)]);
    let at = rpc.status(&Signature([5; 64]), Some(Slot(66))).await.unwrap();
    let found =
        TransactionStatus { slot: Slot(60), commitment: Commitment::Finalized, error: None };
    let want =
        StatusAt { context_slot: Slot(70), finalized_height: BlockHeight(65), found: Some(found) };
    assert_eq!(at, want);
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked[0].0, "getEpochInfo");
    assert_eq!(asked[0].1, json!([{ "commitment": "finalized", "minContextSlot": 66 }]));
    let history = json!({ "searchTransactionHistory": true });
    assert_eq!(asked[1].1, json!([[Signature([5; 64])], history]));

    let (rpc, _) = node([epoch_info(70, 65), with_context(69, json!([null]))]);
    let error = rpc.status(&Signature([5; 64]), None).await.unwrap_err();
    assert!(matches!(error, NodeError::Unavailable(_)), "a lagging node's null: {error:?}");

    let (rpc, _) = node([epoch_info(70, 65), with_context(70, json!([null]))]);
    assert_eq!(rpc.status(&Signature([5; 64]), None).await.unwrap().found, None);

    let (rpc, _) = node([epoch_info(70, 65), with_context(70, json!([]))]);
    let error = rpc.status(&Signature([5; 64]), None).await.unwrap_err();
    assert!(matches!(error, NodeError::Malformed(_)), "no answer is not null: {error:?}");
}

#[tokio::test]
async fn a_node_without_get_epoch_info_is_asked_height_then_slot() {
    let missing = Err((-32601, "Method not found"));
    let (node, asked) = node([missing, Ok(json!(65)), Ok(json!(70)), status_answer(70)]);
    let at = node.status(&Signature([5; 64]), Some(Slot(66))).await.unwrap();
    assert_eq!((at.context_slot, at.finalized_height), (Slot(70), BlockHeight(65)));
    let asked = asked.lock().unwrap().clone();
    let methods: Vec<&str> = asked.iter().map(|(method, _)| method.as_str()).collect();
    assert_eq!(methods, ["getEpochInfo", "getBlockHeight", "getSlot", "getSignatureStatuses"]);
    assert_eq!(asked[1].1, json!([{ "commitment": "finalized", "minContextSlot": 66 }]));
}

#[tokio::test]
async fn a_failed_transaction_keeps_the_programs_error() {
    let error = json!({ "InstructionError": [0, { "Custom": 6023 }] });
    let status = json!([{ "slot": 60, "confirmations": 3, "err": error,
        "status": { "Err": error }, "confirmationStatus": "confirmed" }]);
    let (node, _) = node([epoch_info(59, 50), with_context(61, status)]);
    let found = node.status(&Signature([5; 64]), None).await.unwrap().found.unwrap();
    assert_eq!(found.commitment, Commitment::Confirmed);
    assert!(found.error.unwrap().contains("0x1787"));
}

#[tokio::test]
async fn sending_is_taken_refused_or_unknown() {
    let (rpc, asked) = node([Ok(json!(Signature([5; 64])))]);
    assert_eq!(rpc.send(&[1, 2]).await.unwrap(), SendAnswer::Taken);
    let want = json!(["AQI=", { "encoding": "base64", "skipPreflight": false,
        "preflightCommitment": "confirmed", "maxRetries": 0 }]);
    assert_eq!(asked.lock().unwrap()[0].1, want);
    for code in [-32002, -32003, -32006, -32013, -32602] {
        let (rpc, _) = node([Err((code, "already processed"))]);
        let want = SendAnswer::Rejected("already processed".into());
        assert_eq!(rpc.send(&[1]).await.unwrap(), want, "{code}");
    }
    for code in [-32005, -32016, -32601, -32603] {
        let (rpc, _) = node([Err((code, "busy"))]);
        let error = rpc.send(&[1]).await.unwrap_err();
        assert!(matches!(error, NodeError::Unavailable(_)), "{code}: {error:?}");
    }
}

fn message() -> Vec<u8> {
    let mut message = vec![2, 0, 1, 3];
    message.extend([1; 32].iter().chain(&[2; 32]).chain(&[3; 32]));
    message.extend([0; 32]);
    message.extend([1, 2, 1, 0, 1, 9]);
    message
}

#[tokio::test]
async fn a_simulation_has_an_empty_signature_for_each_signer() {
    let good = json!({ "err": null, "logs": [], "unitsConsumed": 1234 });
    let error = json!({ "InstructionError": [0, { "Custom": 6023 }] });
    let said = "Program log: AnchorError: EpochNotIncreasing.";
    let bad = json!({ "err": error, "logs": [said, "Program X failed"], "unitsConsumed": 9 });
    let new = json!({ "err": { "NewError": 1 }, "logs": null });
    let silent = json!({ "err": null });
    let (node, asked) =
        node([good, bad, new, silent].map(|value| with_context(1, value)).into_iter());
    assert_eq!(node.simulate(&message()).await.unwrap(), Ok(1234));
    let (_, params) = asked.lock().unwrap()[0].clone();
    let sent = BASE64.decode(params[0].as_str().unwrap()).unwrap();
    assert_eq!(sent[0], 2);
    assert_eq!(sent[1..129], [0; 128]);
    assert_eq!(sent[129..], message());
    assert_eq!(
        (&params[1]["sigVerify"], &params[1]["replaceRecentBlockhash"]),
        (&json!(false), &json!(true))
    );
    let text = node.simulate(&message()).await.unwrap().unwrap_err();
    assert!(text.contains("0x1787") && text.contains("EpochNotIncreasing"), "{text}");
    let text = node.simulate(&message()).await.unwrap().unwrap_err();
    assert!(text.contains("NewError"), "an error this build does not know: {text}");
    let error = node.simulate(&message()).await.unwrap_err();
    assert!(matches!(error, NodeError::Malformed(_)), "{error:?}");
    let error = node.simulate(&[1, 2, 3]).await.unwrap_err();
    assert!(error.to_string().contains("no serialized Solana message"), "{error}");
}

#[tokio::test]
async fn the_url_is_in_no_text() {
    let node = RpcNode::new("http://127.0.0.1:9/?api-key=SECRET", Duration::from_secs(5)).unwrap();
    let error = node.slot(Commitment::Finalized).await.unwrap_err();
    let texts = format!("{error} {error:?} {node:?}");
    assert!(matches!(error, NodeError::Unavailable(_)), "{error:?}");
    assert!(texts.contains("127.0.0.1:9") && !texts.contains("SECRET"), "{texts}");
    for bad in ["", "127.0.0.1", "ws://host/SECRET", "http://", "file:///SECRET"] {
        let error = RpcNode::new(bad, Duration::from_secs(1)).unwrap_err();
        assert!(!error.to_string().contains("SECRET"));
    }
}

#[tokio::test]
async fn a_silent_endpoint_is_unavailable_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let node = RpcNode::new(&url, Duration::from_millis(50)).unwrap();
    let error = node.slot(Commitment::Finalized).await.unwrap_err();
    assert!(matches!(error, NodeError::Unavailable(_)), "{error:?}");
}
