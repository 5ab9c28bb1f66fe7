//! The operator as a specification: which roots are taken, held, queued, refused, answered.
//! `model` runs it against `chain`, with faults.

mod chain;
mod model;
mod rules;

use semel_schemas::{attention, solana::Address};
use solana_keypair::Keypair;
use solana_signer::Signer;

use super::*;

fn keypair() -> Keypair {
    Keypair::new_from_array([9; 32])
}

fn settings() -> Settings {
    let authority = Address(keypair().pubkey().to_bytes());
    let json = format!(
        r#"{{"chain":"c","signer":"s","program":"{}","mint":"{}","authority":"{authority}"}}"#,
        attention::PROGRAM,
        Address([5; 32])
    );
    serde_json::from_str(&json).unwrap()
}

fn root(channel: &str, epoch: u64, byte: u8) -> RootRecord {
    RootRecord {
        root_id: root_id(channel, Epoch(epoch)),
        channel: channel.into(),
        epoch: Epoch(epoch),
        root: hex::encode([byte; 32]),
        count: 3,
        profile: "ao-claim-v0".into(),
        finalized_at: WallTime(0),
        status: RootStatus::ReadyForSettlement,
    }
}

fn record<T: Serialize>(kind: &str, id: &str, value: &T) -> Input {
    Input::Record(Envelope {
        id: id.into(),
        kind: kind.into(),
        key: b"k".to_vec(),
        value: Some(codec::encode(value)),
        headers: Default::default(),
    })
}

fn root_input(root: &RootRecord) -> Input {
    record(ROOT, &format!("in-{}", root.root_id), root)
}

fn publish_input(channel: &str, epoch: u64) -> Input {
    let publish = Publish { channel: channel.into(), epoch: Epoch(epoch), by: "me".into() };
    record(PUBLISH, &format!("publish-{channel}-{epoch}"), &publish)
}
