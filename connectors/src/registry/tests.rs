//! Every effect is performed by the connection it names, and each failure is uncertain.

use semel_schemas::{
    attention::PROGRAM,
    effect::Commitment,
    solana::{Base64, Signature},
    time::{BlockHeight, Slot},
};
use solana_keypair::Keypair;

use super::*;
use crate::{
    signers::local::LocalSigner,
    solana::{
        node::{AccountAt, StatusAt},
        scripted::Scripted,
    },
};

const CHAIN: &str = "main";

fn connectors(node: &Arc<Scripted>) -> Connectors {
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::new(Keypair::new_from_array([42; 32])));
    let node: Arc<dyn SolanaNode> = Arc::<Scripted>::clone(node);
    Connectors {
        chains: [(CHAIN.to_owned(), Arc::clone(&node)), ("other".to_owned(), node)].into(),
        signers: [("publisher".to_owned(), signer)].into(),
        files: [].into(),
        pace: Pace { wait: std::time::Duration::ZERO, ..Pace::default() },
    }
}

fn fetch(chain: &str) -> Effect {
    Effect::FetchSolana {
        chain: chain.into(),
        cursor: None,
        from_slot: Slot(0),
        max_blocks: 10,
        program: PROGRAM,
    }
}

fn read(file: &str) -> Effect {
    Effect::ReadFile { file: file.into(), cursor: None, max_records: 10, follow: false }
}

fn account() -> Effect {
    Effect::SolanaAccount {
        chain: CHAIN.into(),
        address: PROGRAM,
        commitment: Commitment::Finalized,
        min_context_slot: None,
    }
}

fn prepare() -> Effect {
    Effect::SolanaPrepare {
        chain: CHAIN.into(),
        message: Base64(vec![1]),
        writable: vec![PROGRAM],
        fee_percentile: 50,
    }
}

fn broadcast() -> Effect {
    Effect::SolanaBroadcast { chain: CHAIN.into(), transaction: Base64(vec![1, 2]) }
}

fn status() -> Effect {
    Effect::SolanaStatus {
        chain: CHAIN.into(),
        signature: Signature([5; 64]),
        min_context_slot: None,
    }
}

fn sign(signer: &str, key: [u8; 32]) -> Effect {
    let mut message = vec![1, 0, 1, 2];
    message.extend(key.iter().chain(&[2; 32]).chain(&[0; 32]));
    message.extend([1, 1, 1, 0, 1, 9]);
    Effect::Sign {
        signer: signer.into(),
        public_key: Address(key),
        payload: Payload::SolanaMessage { message: Base64(message) },
    }
}

#[tokio::test]
async fn each_effect_has_its_answer() {
    let node = Arc::new(Scripted::chain(&[1, 2]));
    let all = connectors(&node);
    {
        let mut script = node.must_change();
        script.account = Some(AccountAt { context_slot: Slot(2), data: Some(vec![9]) });
        script.simulated = Some(Ok(1234));
        script.fees = vec![5, 1, 3];
        script.status =
            Some(StatusAt { context_slot: Slot(2), finalized_height: BlockHeight(2), found: None });
    }
    let Outcome::Blocks { facts, complete, .. } = all.perform(&fetch(CHAIN)).await else {
        panic!("no blocks")
    };
    assert_eq!((facts.len(), complete), (2, Slot(2)));
    assert_eq!(
        all.perform(&account()).await,
        Outcome::Account { context_slot: Slot(2), data: Some(Base64(vec![9])) }
    );
    let Outcome::Prepared { simulated, unit_price, last_valid_block_height, .. } =
        all.perform(&prepare()).await
    else {
        panic!("not prepared")
    };
    assert_eq!((simulated, unit_price, last_valid_block_height), (Ok(1234), 3, BlockHeight(151)));
    assert_eq!(all.perform(&broadcast()).await, Outcome::Sent);
    assert_eq!(node.must_change().sent, [vec![1, 2]]);
    assert_eq!(
        all.perform(&status()).await,
        Outcome::Status { context_slot: Slot(2), finalized_height: BlockHeight(2), found: None }
    );
    let own = all.signers["publisher"].public_key();
    let signed = all.perform(&sign("publisher", own.0)).await;
    assert!(matches!(signed, Outcome::Signed { .. }), "{signed:?}");
}

#[tokio::test]
async fn a_refusal_at_preflight_is_an_answer() {
    let node = Arc::new(Scripted::chain(&[1]));
    node.must_change().refuse = Some("already processed".into());
    let outcome = connectors(&node).perform(&broadcast()).await;
    assert_eq!(outcome, Outcome::Rejected { text: "already processed".into() });
}

#[tokio::test]
async fn each_failure_is_uncertain() {
    let node = Arc::new(Scripted::chain(&[1]));
    node.must_change().away = Some("node:1 cannot be asked".into());
    let all = connectors(&node);
    for effect in [fetch(CHAIN), account(), prepare(), broadcast(), status()] {
        let outcome = all.perform(&effect).await;
        let Outcome::Uncertain { text } = &outcome else { panic!("{effect:?}: {outcome:?}") };
        assert_eq!(text, "node:1 cannot be asked");
    }
    let outcome = all.perform(&sign("publisher", [1; 32])).await;
    let Outcome::Uncertain { text } = &outcome else { panic!("{outcome:?}") };
    assert!(text.contains("signer `publisher`") && text.contains("holds the key"), "{text}");
}

#[tokio::test]
async fn an_unknown_name_is_uncertain_and_the_known_ones_are_named() {
    let all = connectors(&Arc::new(Scripted::chain(&[1])));
    for (effect, parts) in [
        (fetch("mian"), ["chain `mian`", "known: main, other"]),
        (sign("publsher", [1; 32]), ["signer `publsher`", "known: publisher"]),
        (read("legacy"), ["file `legacy`", "known: none"]),
    ] {
        let Outcome::Uncertain { text } = all.perform(&effect).await else { panic!("certain") };
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    let Outcome::Uncertain { text } = Connectors::default().perform(&fetch("x")).await else {
        panic!("certain")
    };
    assert!(text.contains("known: none"), "{text}");
}
