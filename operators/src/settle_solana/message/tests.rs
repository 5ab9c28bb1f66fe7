//! Our bytes, read back by Solana's own types.

use semel_schemas::{
    claim::RootStatus,
    time::{Epoch, WallTime},
};
use solana_keypair::Keypair;
use solana_signer::Signer;
use solana_transaction::Transaction;

use super::*;

fn settings(authority: Address) -> Settings {
    let json = format!(
        r#"{{"chain":"c","signer":"s","program":"{}","mint":"{}","authority":"{authority}"}}"#,
        attention::PROGRAM,
        Address([5; 32])
    );
    serde_json::from_str(&json).unwrap()
}

fn root(text: &str) -> RootRecord {
    RootRecord {
        root_id: "kick:7".into(),
        channel: "kick".into(),
        epoch: Epoch(7),
        root: text.into(),
        count: 300,
        profile: "ao-claim-v0".into(),
        finalized_at: WallTime(0),
        status: RootStatus::ReadyForSettlement,
    }
}

#[test]
fn a_signed_transaction_is_what_solanas_own_types_read() {
    let keypair = Keypair::new_from_array([7; 32]);
    let settings = settings(Address(keypair.pubkey().to_bytes()));
    let target = Target::of(&root(&"ab".repeat(32)), &settings).unwrap();
    let budget = Budget { units: 22_000, unit_price: 9 };
    let message = target.message(&settings, budget, Blockhash([3; 32]));
    let signature = Signature(keypair.sign_message(&message).into());
    let bytes = transaction(&signature, &message);

    let read: Transaction = bincode::deserialize(&bytes).unwrap();
    assert_eq!(bincode::serialize(&read).unwrap(), bytes);
    assert_eq!(bincode::serialize(&read.message).unwrap(), message);
    assert_eq!(<[u8; 64]>::from(read.signatures[0]), signature.0);
    assert!(read.signatures[0].verify(keypair.pubkey().as_ref(), &message));

    let message = read.message;
    assert_eq!(message.recent_blockhash.to_bytes(), [3; 32]);
    assert_eq!(message.account_keys[0], keypair.pubkey(), "the authority pays");
    let data: Vec<_> = message.instructions.iter().map(|i| i.data.clone()).collect();
    assert_eq!(data[0], [&[2][..], &22_000_u32.to_le_bytes()].concat());
    assert_eq!(data[1], [&[3][..], &9_u64.to_le_bytes()].concat());
    // facts/attention-oracle.md: discriminator, root, epoch u64, count u16, streamer; 82 bytes.
    let mut expected = hex::decode("da205909c65c88ee").unwrap();
    expected.extend([0xab; 32]);
    expected.extend(7_u64.to_le_bytes());
    expected.extend(300_u16.to_le_bytes());
    expected.extend(attention::channel_key("kick"));
    assert_eq!(expected.len(), 82);
    assert_eq!(data[2], expected);

    let publish = &message.instructions[2];
    let accounts: Vec<_> = publish
        .accounts
        .iter()
        .map(|&i| {
            let i = usize::from(i);
            (
                message.account_keys[i].to_bytes(),
                message.is_signer(i),
                message.is_maybe_writable_with_reserved_addresses(
                    i,
                    None::<&std::collections::BTreeSet<_>>,
                ),
            )
        })
        .collect();
    assert_eq!(
        accounts,
        [
            (settings.authority.0, true, true),
            (target.protocol.0, false, true),
            (target.channel.0, false, true),
            ([0; 32], false, false),
        ]
    );
    let program = message.account_keys[usize::from(publish.program_id_index)];
    assert_eq!(program.to_bytes(), attention::PROGRAM.0);
    assert!(bytes.len() <= 1232, "it fits a packet");
}

#[test]
fn roots_are_read_with_and_without_0x_and_nothing_else() {
    let settings = settings(Address([1; 32]));
    let plain = Target::of(&root(&"0f".repeat(32)), &settings).unwrap();
    assert_eq!(Target::of(&root(&format!("0x{}", "0f".repeat(32))), &settings), Ok(plain));
    for bad in ["", "0x", &"0f".repeat(31), &"0f".repeat(33), &"zz".repeat(32)] {
        let fault = Target::of(&root(bad), &settings).unwrap_err();
        assert_eq!(fault.code, FaultCode::WrongType, "{bad}");
    }
}

#[test]
fn the_budget_is_the_simulation_and_a_tenth_more_at_a_capped_price() {
    for (simulated, price, units, unit_price) in [
        (0, 0, 0, 0),
        (1, 5, 2, 5),
        (10_000, 99, 11_000, 99),
        (10_001, 100, 11_002, 100),
        (1_399_999, 101, UNITS_MAX, 100),
        (u64::MAX, u64::MAX, UNITS_MAX, 100),
    ] {
        let budget = Budget::of(simulated, price, 100);
        assert_eq!(budget, Budget { units, unit_price }, "{simulated} {price}");
    }
}
