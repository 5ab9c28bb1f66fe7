//! What every [`SolanaNode`] must show, on a chain that the test drives. The same function judges
//! the devnet in-process and the devnet behind JSON-RPC, and both must have seen the same facts.
//!
//! Expectations are written out here, not taken from the node under test.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use jsonrpsee::server::ServerHandle;
use semel_schemas::{
    amount::Amount,
    attention::{self, RingSlot, channel_key, read_ring},
    effect::{
        Commitment::{self, Confirmed, Finalized, Processed},
        Effect, Outcome, Payload, SolanaFact,
    },
    solana::{Address, Base64, Signature, SolanaCursor},
    time::{BlockHeight, Slot},
};
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signer::Signer as _;

use super::{
    devnet::{
        Devnet, DevnetConfig, channel_pda,
        tests::{PUBLISHER, USER, address, claim, config, key, set_root, signed},
    },
    node::{Block, NodeError, SendAnswer, SolanaNode},
    rpc::RpcNode,
    server,
    source::{self, Fetch, Pace},
};
use crate::{
    perform::Performer as _, registry::Connectors, signer::Signer, signers::local::LocalSigner,
};

/// Every fifth slot has no block; finality is four slots behind.
const SKIP_EVERY: u64 = 5;

fn devnet() -> Devnet {
    Devnet::new(DevnetConfig { skip_every: SKIP_EVERY, ..config() }).unwrap()
}

/// All that a node showed of its chain.
#[derive(Debug, PartialEq)]
struct Seen {
    blocks: Vec<Block>,
    facts: Vec<SolanaFact>,
    height: BlockHeight,
}

/// A node under test, and the chain behind it.
struct Bench<'a> {
    node: &'a dyn SolanaNode,
    devnet: &'a Devnet,
}

/// Puts a node through everything. `devnet` is the chain behind it, at slot 0.
async fn conformance(node: &dyn SolanaNode, devnet: &Devnet) -> Seen {
    let bench = Bench { node, devnet };
    bench.begins_at_slot_0().await;
    let (root, claims, failed) = bench.sends_and_follows().await;
    bench.reads_the_ring().await;
    bench.simulates().await;
    bench.tells_fees().await;
    bench.knows_what_is_not_here().await;
    bench.waits_for_slots().await;
    let facts = bench.facts_one_by_one().await;
    assert_eq!(facts.len(), 4, "{facts:?}");
    let made_by = |fact: &SolanaFact| match fact {
        SolanaFact::Claim(claim) => (claim.signature, claim.ix_index),
        SolanaFact::RootSet { signature, ix_index, .. }
        | SolanaFact::Undecodable { signature, ix_index, .. } => (*signature, *ix_index),
    };
    let makers: Vec<_> = facts.iter().map(made_by).collect();
    assert_eq!(makers, [(root, 1), (claims, 0), (claims, 1), (claims, 2)]);
    assert!(!makers.iter().any(|(signature, _)| *signature == failed));
    bench.seen(facts).await
}

impl Bench<'_> {
    fn ticks(&self, count: u64) {
        for _ in 0..count {
            self.devnet.tick().unwrap();
        }
    }

    async fn begins_at_slot_0(&self) {
        for commitment in [Processed, Confirmed, Finalized] {
            assert_eq!(self.node.slot(commitment).await.unwrap(), Slot(0));
            let height = self.node.block_height(commitment, None).await.unwrap();
            assert_eq!(height, BlockHeight(0));
        }
        let slots = self.node.blocks(Slot(0), Slot(100), Finalized).await.unwrap();
        assert_eq!(slots, [Slot(0)]);
    }

    async fn must_sign(
        &self,
        instructions: &[solana_instruction::Instruction],
        signer: &Keypair,
    ) -> (Vec<u8>, Signature) {
        let blockhash = self.node.latest_blockhash(Confirmed).await.unwrap();
        let bytes = signed(instructions, signer, blockhash.blockhash.0);
        let signature = Signature(*bytes[1..].first_chunk().unwrap());
        (bytes, signature)
    }

    async fn commitment(&self, signature: &Signature) -> Option<Commitment> {
        let status = self.node.status(signature, None).await.unwrap();
        status.found.map(|found| found.commitment)
    }

    /// A root, three claims of which one cannot be read, and a transaction that fails.
    async fn sends_and_follows(&self) -> (Signature, Signature, Signature) {
        let (publisher, user) = (key(PUBLISHER), key(USER));
        let price = ComputeBudgetInstruction::set_compute_unit_price(700);
        let set = [price, set_root(&publisher, "alpha", 14, 0xaa)];
        let (root_bytes, root) = self.must_sign(&set, &publisher).await;
        assert_eq!(self.node.send(&root_bytes).await.unwrap(), SendAnswer::Taken);
        assert_eq!(self.node.send(&root_bytes).await.unwrap(), SendAnswer::Taken, "it waits");
        assert_eq!(self.commitment(&root).await, None);

        // The program executes it, whatever stands behind the last argument.
        let mut longer = claim(&user, 3, 9);
        longer.data.push(0);
        let claims = [claim(&user, 3, 7), longer, claim(&user, 3, 8)];
        let (claims_bytes, claims) = self.must_sign(&claims, &user).await;
        // It would fail: preflight says so, whoever carries the question.
        let stolen = [set_root(&user, "alpha", 15, 0xbb)];
        let (stolen_bytes, stolen) = self.must_sign(&stolen, &user).await;
        match self.node.send(&stolen_bytes).await.unwrap() {
            SendAnswer::Rejected(text) => assert!(text.contains("0x1770"), "{text}"),
            taken => panic!("{taken:?}"),
        }
        let skip = super::devnet::Preflight::Skip;
        self.devnet.submit(&stolen_bytes, skip).unwrap();
        assert_eq!(self.node.send(&claims_bytes).await.unwrap(), SendAnswer::Taken);

        self.ticks(1);
        assert_eq!(self.commitment(&root).await, Some(Processed));
        match self.node.send(&root_bytes).await.unwrap() {
            SendAnswer::Rejected(text) => assert!(text.contains("already been processed")),
            taken => panic!("{taken:?}"),
        }
        self.ticks(1);
        assert_eq!(self.commitment(&root).await, Some(Confirmed));
        let failed = self.node.status(&stolen, None).await.unwrap().found.unwrap();
        assert!(failed.error.unwrap().contains("0x1770"));
        self.ticks(3);
        let status = self.node.status(&root, Some(Slot(1))).await.unwrap();
        let found = status.found.unwrap();
        assert_eq!((found.slot, found.commitment, found.error), (Slot(1), Finalized, None));
        assert_eq!(status.finalized_height, BlockHeight(1));
        assert!(status.context_slot >= Slot(1));
        (root, claims, stolen)
    }

    async fn reads_the_ring(&self) {
        let at = channel_pda(&self.devnet.config().mint, &channel_key("alpha")).0;
        let account =
            self.node.account(&Address(at.to_bytes()), Finalized, Some(Slot(1))).await.unwrap();
        assert_eq!(account.context_slot, Slot(1));
        let ring = read_ring(&account.data.unwrap(), 14).unwrap();
        assert_eq!(ring, RingSlot { epoch: 14, root: [0xaa; 32], count: 7 });
        let nobody = self.node.account(&Address([77; 32]), Finalized, None).await.unwrap();
        assert_eq!(nobody.data, None);
    }

    async fn simulates(&self) {
        let message = |signer: &Keypair| {
            let set = set_root(signer, "alpha", 23, 1);
            Message::new(&[set], Some(&signer.pubkey())).serialize()
        };
        let units = self.node.simulate(&message(&key(PUBLISHER))).await.unwrap().unwrap();
        assert!((100..10_000).contains(&units), "{units}");
        let text = self.node.simulate(&message(&key(USER))).await.unwrap().unwrap_err();
        assert!(text.contains("0x1770"), "{text}");
        let error = self.node.simulate(&[1, 2, 3]).await.unwrap_err();
        assert!(matches!(error, NodeError::Malformed(_)), "{error:?}");
    }

    async fn tells_fees(&self) {
        let mut fees = self.node.recent_fees(&[address(&key(PUBLISHER))]).await.unwrap();
        fees.sort_unstable();
        assert_eq!(fees.last(), Some(&700), "{fees:?}");
        assert_eq!(fees.iter().filter(|fee| **fee > 0).count(), 1, "{fees:?}");
    }

    async fn knows_what_is_not_here(&self) {
        self.ticks(15);
        let finalized = self.node.slot(Finalized).await.unwrap();
        let newest = self.node.slot(Processed).await.unwrap();
        assert!(finalized < newest);
        for slot in [Slot(SKIP_EVERY - 1), Slot(finalized.0 + 1), Slot(newest.0 + 1000)] {
            let error = self.node.block(slot, Finalized).await.unwrap_err();
            assert!(matches!(error, NodeError::NotHere(at) if at == slot), "{slot}: {error:?}");
        }
        let slots = self.node.blocks(Slot(2), Slot(8), Finalized).await.unwrap();
        assert_eq!(slots, [2, 3, 5, 6, 7, 8].map(Slot));
        assert_eq!(self.node.blocks(Slot(8), Slot(2), Finalized).await.unwrap(), []);
        let all = self.node.blocks(Slot(0), Slot(10_000), Finalized).await.unwrap();
        assert_eq!(all.last(), Some(&finalized), "none beyond finality");
    }

    async fn waits_for_slots(&self) {
        let far = Some(Slot(9_999));
        let (someone, signature) = (Address([77; 32]), Signature([5; 64]));
        let errors = [
            self.node.account(&someone, Finalized, far).await.unwrap_err(),
            self.node.block_height(Finalized, far).await.unwrap_err(),
            self.node.status(&signature, far).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, NodeError::Unavailable(_)), "{error:?}");
        }
    }

    /// The facts, fetched by a source that forgets everything but its cursor after each answer.
    async fn facts_one_by_one(&self) -> Vec<SolanaFact> {
        let pace = Pace { wait: Duration::ZERO, ..Pace::default() };
        let (mut cursor, mut all): (Option<SolanaCursor>, Vec<_>) = (None, Vec::new());
        loop {
            let program = &attention::PROGRAM;
            let fetch = Fetch { cursor, from_slot: Slot(0), max_blocks: 2, program };
            match source::fetch(self.node, fetch, pace).await {
                Outcome::Blocks { facts, cursor: Some(next), complete, .. } => {
                    assert_eq!(complete, next.slot);
                    all.extend(facts);
                    cursor = Some(next);
                }
                Outcome::Blocks { facts, cursor: None, .. } => {
                    assert_eq!(facts, []);
                    let finalized = self.node.slot(Finalized).await.unwrap();
                    assert_eq!(cursor.unwrap().slot, finalized);
                    return all;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn seen(&self, facts: Vec<SolanaFact>) -> Seen {
        let mut blocks = Vec::new();
        for slot in self.node.blocks(Slot(0), Slot(10_000), Finalized).await.unwrap() {
            blocks.push(self.node.block(slot, Finalized).await.unwrap());
        }
        let height = self.node.block_height(Finalized, None).await.unwrap();
        Seen { blocks, facts, height }
    }
}

/// A devnet served over HTTP, and a node that reaches it there.
async fn must_serve(devnet: &Devnet) -> (RpcNode, ServerHandle) {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let (address, handle) = server::serve(devnet.clone(), any).await.unwrap();
    let node = RpcNode::new(&format!("http://{address}"), Duration::from_secs(20)).unwrap();
    (node, handle)
}

#[tokio::test]
async fn the_devnet_behind_json_rpc_is_a_node_and_shows_the_same_chain() {
    let (near, far) = (devnet(), devnet());
    let (node, handle) = must_serve(&far).await;
    let through_rpc = conformance(&node, &far).await;
    let in_process = conformance(&near, &near).await;
    assert_eq!(through_rpc, in_process);
    // And each seen the other way.
    assert_eq!(Bench { node: &far, devnet: &far }.seen(in_process.facts).await, through_rpc);
    handle.stop().unwrap();
    handle.stopped().await;
    let error = node.slot(Finalized).await.unwrap_err();
    assert!(matches!(error, NodeError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn the_devnet_in_process_is_a_node() {
    let devnet = devnet();
    let seen = conformance(&devnet, &devnet).await;
    let [SolanaFact::RootSet { streamer, epoch: 14, root, count: 7, slot, .. }, one, longer, two] =
        seen.facts.as_slice()
    else {
        panic!("{:?}", seen.facts)
    };
    assert_eq!((streamer.0, slot.0), (channel_key("alpha"), 1));
    assert_eq!(root, &"aa".repeat(32));
    let ids = ["twitch:alpha:user7", "twitch:alpha:user9", "twitch:alpha:user8"];
    for (fact, id) in [one, longer, two].into_iter().zip(ids) {
        let SolanaFact::Claim(claim) = fact else { panic!("{fact:?}") };
        assert_eq!((claim.id.as_str(), claim.channel.as_str()), (id, "alpha"));
        assert_eq!((claim.amount, claim.user, claim.tx_index), (Amount(5), address(&key(USER)), 2));
        assert_eq!(claim.claim_id, format!("{id}#3"));
    }
}

/// A root settled by effects alone, over JSON-RPC: prepare, sign, broadcast, status, read back.
#[tokio::test]
async fn a_root_is_settled_by_effects_over_json_rpc() {
    let devnet = devnet();
    let (node, _handle) = must_serve(&devnet).await;
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::new(key(PUBLISHER)));
    let public_key = signer.public_key();
    let chain = "devnet".to_owned();
    let connectors = Connectors {
        chains: [(chain.clone(), Arc::new(node) as Arc<dyn SolanaNode>)].into(),
        signers: [("publisher".to_owned(), signer)].into(),
        files: [].into(),
        pace: Pace::default(),
    };
    let publisher = key(PUBLISHER).pubkey();
    let mut message =
        Message::new(&[set_root(&key(PUBLISHER), "alpha", 3, 0xcc)], Some(&publisher));
    let prepare = Effect::SolanaPrepare {
        chain: chain.clone(),
        message: Base64(message.serialize()),
        writable: vec![public_key],
        fee_percentile: 50,
    };
    let Outcome::Prepared { blockhash, simulated: Ok(_), .. } = connectors.perform(&prepare).await
    else {
        panic!("not prepared")
    };
    message.recent_blockhash = blockhash.0.into();
    let bytes = message.serialize();
    let payload = Payload::SolanaMessage { message: Base64(bytes.clone()) };
    let sign = Effect::Sign { signer: "publisher".to_owned(), public_key, payload };
    let Outcome::Signed { signature } = connectors.perform(&sign).await else {
        panic!("not signed")
    };
    let transaction = Base64([&[1], signature.0.as_slice(), &bytes].concat());
    let broadcast = Effect::SolanaBroadcast { chain: chain.clone(), transaction };
    assert_eq!(connectors.perform(&broadcast).await, Outcome::Sent);
    for _ in 0..5 {
        devnet.tick().unwrap();
    }
    let rejected = connectors.perform(&broadcast).await;
    assert!(matches!(rejected, Outcome::Rejected { .. }), "sent again: {rejected:?}");
    let status = Effect::SolanaStatus { chain: chain.clone(), signature, min_context_slot: None };
    let Outcome::Status { context_slot, found: Some(found), .. } =
        connectors.perform(&status).await
    else {
        panic!("not found")
    };
    assert_eq!((found.commitment, found.error), (Finalized, None));
    // The slot of a status serves at once as the least slot of a finalized account.
    let address = channel_pda(&devnet.config().mint, &channel_key("alpha")).0;
    let account = Effect::SolanaAccount {
        chain,
        address: Address(address.to_bytes()),
        commitment: Finalized,
        min_context_slot: Some(context_slot),
    };
    let Outcome::Account { data: Some(data), .. } = connectors.perform(&account).await else {
        panic!("no account")
    };
    assert_eq!(read_ring(&data.0, 3).unwrap().root, [0xcc; 32]);
}
