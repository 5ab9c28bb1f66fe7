//! Anchor discriminators, round trips, truncations, offsets of the ring.

use sha2::{Digest as _, Sha256};

use super::*;

fn all() -> Vec<Instruction> {
    let proof = vec![[7; 32], [8; 32]];
    let (root, streamer) = ([1; 32], channel_key("alpha"));
    let (id, channel) = ("twitch:alpha:bob".to_owned(), "alpha".to_owned());
    let (epoch, index, amount) = (42, 3, 1_000_000_007);
    vec![
        Instruction::SetMerkleRootRing(SetMerkleRootRing { root, epoch, count: 9, streamer }),
        Instruction::SetMerkleRoot(SetMerkleRoot { root, epoch, count: 9, streamer }),
        Instruction::SetMerkleRootOpen(SetMerkleRoot { root, epoch, count: 9, streamer }),
        Instruction::SetChannelMerkleRoot(SetChannelMerkleRoot {
            channel: channel.clone(),
            epoch,
            root,
        }),
        Instruction::InitializeChannel(InitializeChannel { streamer }),
        Instruction::ClaimWithRing(ClaimWithRing {
            epoch,
            index,
            amount,
            proof: proof.clone(),
            id: id.clone(),
            streamer,
        }),
        Instruction::Claim(Claim {
            streamer_index: 1,
            index,
            amount,
            id: id.clone(),
            proof: proof.clone(),
        }),
        Instruction::ClaimOpen(ClaimOpen {
            streamer_index: 1,
            index,
            amount,
            id: id.clone(),
            proof: proof.clone(),
            channel: Some(channel.clone()),
            epoch: None,
            receipt: false,
        }),
        Instruction::ClaimChannelOpen(ClaimChannelOpen {
            channel,
            epoch,
            index,
            amount,
            user_hash: "ab".into(),
            proof,
        }),
    ]
}

#[test]
fn discriminators_are_anchors() {
    for instruction in all() {
        let hash = Sha256::digest(format!("global:{}", instruction.name()));
        assert_eq!(hash[..8], instruction.discriminator(), "{}", instruction.name());
    }
    assert_eq!(Sha256::digest("account:ChannelState")[..8], CHANNEL_DISCRIMINATOR);
    assert_eq!(Sha256::digest("account:ProtocolState")[..8], PROTOCOL_DISCRIMINATOR);
    assert_eq!(PROGRAM.to_string(), "GnGzNdsQMxMpJfMeqnkGPsvHm8kwaDidiKjNU2dCVZop");
}

#[test]
fn instructions_round_trip_and_every_cut_is_an_error() {
    for instruction in all() {
        let data = instruction.data();
        assert_eq!(parse(&data), Ok(Some(instruction.clone())));
        let mut longer = data.clone();
        longer.push(0xff);
        assert_eq!(parse(&longer), Ok(Some(instruction)), "Anchor ignores what follows");
        for cut in 8..data.len() {
            assert!(parse(&data[..cut]).is_err(), "{cut} of {}", data.len());
        }
        for cut in 0..8 {
            assert_eq!(parse(&data[..cut]), Ok(None));
        }
    }
}

#[test]
fn set_merkle_root_ring_is_82_bytes_in_the_programs_order() {
    let data = all()[0].data();
    assert_eq!(data.len(), 82);
    assert_eq!(data[8..40], [1; 32]);
    assert_eq!(data[40..48], 42_u64.to_le_bytes());
    assert_eq!(data[48..50], 9_u16.to_le_bytes());
    assert_eq!(data[50..], channel_key("ALPHA"));
}

#[test]
fn a_ring_is_read_by_offset() {
    let mut data = vec![0; channel_layout::LEN];
    assert_eq!(data.len(), 9676);
    assert_eq!(read_ring(&data, 5), None, "no discriminator");
    data[..8].copy_from_slice(&CHANNEL_DISCRIMINATOR);
    assert_eq!(read_ring(&data, 5), None, "not initialized");
    data[channel_layout::VERSION] = 1;
    let empty = RingSlot { epoch: 0, root: [0; 32], count: 0 };
    assert_eq!(read_ring(&data, 5), Some(empty));
    let at = 82 + 5 * 1066;
    data[at..at + 8].copy_from_slice(&14_u64.to_le_bytes());
    data[at + 8..at + 40].fill(3);
    data[at + 40..at + 42].copy_from_slice(&513_u16.to_le_bytes());
    let held = RingSlot { epoch: 14, root: [3; 32], count: 513 };
    assert_eq!(read_ring(&data, 5), Some(held));
    assert_eq!(read_ring(&data, 23), Some(held));
    assert_eq!(read_ring(&data, 6), Some(empty));
    data.push(0);
    assert_eq!(read_ring(&data, 14), Some(held), "size is not looked at");
    assert_eq!(read_ring(&data[..at + 41], 14), None);
}
