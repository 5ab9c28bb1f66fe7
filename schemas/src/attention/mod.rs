//! The Attention Oracle program as its bytes are: instruction data, account layouts, seeds,
//! channel keys. Pure: no I/O, no PDA derivation (that needs curve arithmetic; users derive with
//! `Pubkey::find_program_address` from the seeds given here).
//!
//! Source of every rule: the program's public repository (`programs/token-2022`, the ring version
//! with 9 slots of 8192 claims). Encoding is Anchor's: an 8-byte discriminator, then
//! borsh, all integers little-endian. Accounts are read by offset, never by their total size.
//!
//! Invariants: [`parse`] never panics and accepts what the program accepts (Anchor ignores bytes
//! after the last argument, and so does `parse`); `parse(&x.data())` gives `x` back.

use borsh::{BorshDeserialize, BorshSerialize};
use sha3::{Digest as _, Keccak256};

use crate::solana::Address;

/// The program's address, `GnGzNdsQMxMpJfMeqnkGPsvHm8kwaDidiKjNU2dCVZop`.
pub const PROGRAM: Address = Address(PROGRAM_BYTES);
const PROGRAM_BYTES: [u8; 32] = [
    0xea, 0x78, 0x84, 0xf3, 0x5f, 0xf2, 0xba, 0xec, 0xf9, 0x23, 0x05, 0xc3, 0x2e, 0x3e, 0xa1, 0x36,
    0xce, 0x84, 0xfb, 0xdf, 0x19, 0x4c, 0xf1, 0x8b, 0x9a, 0xfd, 0xa3, 0x82, 0x1d, 0xa4, 0xb0, 0x6b,
];

/// Custom error 6000: the signer is neither admin nor publisher.
pub const UNAUTHORIZED: u32 = 6000;
/// Custom error 6005: the protocol is paused.
pub const PROTOCOL_PAUSED: u32 = 6005;
/// Custom error 6011: a count or a text is too long.
pub const INVALID_INPUT_LENGTH: u32 = 6011;
/// Custom error 6015: the account is not the channel's.
pub const INVALID_CHANNEL_STATE: u32 = 6015;
/// Custom error 6018: the streamer key is not the one in the account.
pub const INVALID_STREAMER: u32 = 6018;
/// Custom error 6019: epoch 0 (it marks an empty slot of the ring).
pub const INVALID_EPOCH: u32 = 6019;
/// Custom error 6020: the channel account does not exist yet.
pub const CHANNEL_NOT_INITIALIZED: u32 = 6020;
/// Custom error 6023: the epoch is not greater than the one in its slot of the ring.
pub const EPOCH_NOT_INCREASING: u32 = 6023;

/// Most claims that one root may have (`set_merkle_root_ring` refuses a greater count).
pub const CHANNEL_MAX_CLAIMS: u16 = 8192;

// ---- accounts ------------------------------------------------------------------------------

/// First 8 bytes of a protocol account.
pub const PROTOCOL_DISCRIMINATOR: [u8; 8] = [0x21, 0x33, 0xad, 0x86, 0x23, 0x8c, 0xc3, 0xf8];
/// First 8 bytes of a channel account.
pub const CHANNEL_DISCRIMINATOR: [u8; 8] = [0x4a, 0x84, 0x8d, 0xc4, 0x40, 0x34, 0x53, 0x88];

/// Byte offsets in a protocol account: discriminator 0..8, is_initialized u8 at 8, version u8 at
/// 9, admin 10..42, publisher 42..74, treasury 74..106, mint 106..138, paused u8 at 138,
/// require_receipt u8 at 139, bump u8 at 140; 141 bytes in all.
pub mod protocol_layout {
    /// `is_initialized`, u8.
    pub const INITIALIZED: usize = 8;
    /// `version`, u8.
    pub const VERSION: usize = 9;
    /// `admin`, 32 bytes.
    pub const ADMIN: usize = 10;
    /// `publisher`, 32 bytes; all zero: none.
    pub const PUBLISHER: usize = 42;
    /// `treasury`, 32 bytes.
    pub const TREASURY: usize = 74;
    /// `mint`, 32 bytes.
    pub const MINT: usize = 106;
    /// `paused`, u8.
    pub const PAUSED: usize = 138;
    /// `bump`, u8.
    pub const BUMP: usize = 140;
    /// Length of the account as the program creates it.
    pub const LEN: usize = 141;
}

/// Byte offsets in a channel account: discriminator 0..8, version u8 at 8, bump u8 at 9, mint
/// 10..42, streamer 42..74, latest_epoch u64 at 74, then 9 slots of 1066 bytes from 82 on:
/// epoch u64, root 32 bytes, claim_count u16, claimed bitmap 1024 bytes; 9676 bytes in all.
pub mod channel_layout {
    /// `version`, u8; 0: not initialized.
    pub const VERSION: usize = 8;
    /// `bump`, u8.
    pub const BUMP: usize = 9;
    /// `mint`, 32 bytes.
    pub const MINT: usize = 10;
    /// `streamer`, 32 bytes: the channel key.
    pub const STREAMER: usize = 42;
    /// `latest_epoch`, u64.
    pub const LATEST_EPOCH: usize = 74;
    /// First slot of the ring.
    pub const RING: usize = 82;
    /// Number of slots; an epoch's slot is `epoch % RING_SLOTS`.
    pub const RING_SLOTS: usize = 9;
    /// Bytes of the bitmap of claimed indexes in a slot.
    pub const BITMAP: usize = 1024;
    /// Within a slot: `epoch`, u64; 0: the slot is empty.
    pub const SLOT_EPOCH: usize = 0;
    /// Within a slot: `root`, 32 bytes.
    pub const SLOT_ROOT: usize = 8;
    /// Within a slot: `claim_count`, u16.
    pub const SLOT_COUNT: usize = 40;
    /// Within a slot: the bitmap.
    pub const SLOT_BITMAP: usize = 42;
    /// Length of a slot.
    pub const SLOT_LEN: usize = SLOT_BITMAP + BITMAP;
    /// Length of the account as the program creates it.
    pub const LEN: usize = RING + RING_SLOTS * SLOT_LEN;

    /// Offset of the slot that an epoch lives in.
    #[must_use]
    pub const fn slot(epoch: u64) -> usize {
        RING + (epoch % RING_SLOTS as u64) as usize * SLOT_LEN
    }
}

/// One slot of a channel's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSlot {
    /// The epoch that it holds; 0: none yet.
    pub epoch: u64,
    /// Its root.
    pub root: [u8; 32],
    /// Number of leaves.
    pub count: u16,
}

/// Reads the slot of the ring that `epoch` belongs to. It may hold that epoch, an older one, a
/// newer one, or none ([`RingSlot::epoch`] = 0): that comparison is the caller's decision.
/// `None`: the data is no initialized channel account.
#[must_use]
pub fn read_ring(data: &[u8], epoch: u64) -> Option<RingSlot> {
    if data.get(..8)? != CHANNEL_DISCRIMINATOR || *data.get(channel_layout::VERSION)? == 0 {
        return None;
    }
    let slot = data.get(channel_layout::slot(epoch)..)?;
    Some(RingSlot {
        epoch: u64::from_le_bytes(*slot.get(channel_layout::SLOT_EPOCH..)?.first_chunk()?),
        root: *slot.get(channel_layout::SLOT_ROOT..)?.first_chunk()?,
        count: u16::from_le_bytes(*slot.get(channel_layout::SLOT_COUNT..)?.first_chunk()?),
    })
}

// ---- keys and seeds ------------------------------------------------------------------------

/// Key of a channel: keccak256("channel:" | name in ASCII lower case). It is the `streamer` of
/// the program's instructions.
#[must_use]
pub fn channel_key(name: &str) -> [u8; 32] {
    let mut hash = Keccak256::new();
    hash.update(b"channel:");
    hash.update(name.to_ascii_lowercase().as_bytes());
    hash.finalize().into()
}

/// Seeds of the protocol account of a mint.
#[must_use]
pub fn protocol_seeds(mint: &Address) -> [&[u8]; 2] {
    [b"protocol", &mint.0]
}

/// Seeds of a channel account.
#[must_use]
pub fn channel_seeds<'a>(mint: &'a Address, streamer: &'a [u8; 32]) -> [&'a [u8]; 3] {
    [b"channel_state", &mint.0, streamer]
}

// ---- instructions --------------------------------------------------------------------------

/// `set_merkle_root_ring`. Accounts: authority (signer, writable), protocol (writable), channel
/// (writable), system program. 82 bytes with the discriminator.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SetMerkleRootRing {
    /// The root.
    pub root: [u8; 32],
    /// On-chain epoch; at least 1.
    pub epoch: u64,
    /// Number of leaves, at most [`CHANNEL_MAX_CLAIMS`].
    pub count: u16,
    /// Channel key.
    pub streamer: [u8; 32],
}

/// `set_merkle_root` and `set_merkle_root_open` (legacy, one account an epoch).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SetMerkleRoot {
    /// The root.
    pub root: [u8; 32],
    /// On-chain epoch.
    pub epoch: u64,
    /// Number of leaves.
    pub count: u32,
    /// Channel key.
    pub streamer: [u8; 32],
}

/// `set_channel_merkle_root` (channel by name).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SetChannelMerkleRoot {
    /// Channel name.
    pub channel: String,
    /// On-chain epoch.
    pub epoch: u64,
    /// The root.
    pub root: [u8; 32],
}

/// `initialize_channel`. Accounts: payer (signer, writable), protocol, channel (writable), system.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct InitializeChannel {
    /// Channel key.
    pub streamer: [u8; 32],
}

/// `claim_with_ring`. Accounts: claimer (signer, writable), protocol, channel, mint, treasury and
/// claimer token accounts, token program, associated-token program, system program.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ClaimWithRing {
    /// On-chain epoch of the root that is claimed against.
    pub epoch: u64,
    /// Leaf index.
    pub index: u32,
    /// Amount in the token's smallest unit.
    pub amount: u64,
    /// Sibling hashes, leaf to root.
    pub proof: Vec<[u8; 32]>,
    /// The id in the leaf, `twitch:<channel>:<login>`, at most 64 bytes.
    pub id: String,
    /// Channel key.
    pub streamer: [u8; 32],
}

/// `claim`. Account 0 is the claimer (signer, writable).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Claim {
    /// Index of the streamer.
    pub streamer_index: u8,
    /// Leaf index.
    pub index: u32,
    /// Amount in the token's smallest unit.
    pub amount: u64,
    /// The id in the leaf.
    pub id: String,
    /// Sibling hashes, leaf to root.
    pub proof: Vec<[u8; 32]>,
}

/// `claim_open`: as [`Claim`], with optional arguments after it. Account 0 is the claimer.
/// The receipt proof, always last, is not read here: only whether there is one.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ClaimOpen {
    /// Index of the streamer.
    pub streamer_index: u8,
    /// Leaf index.
    pub index: u32,
    /// Amount in the token's smallest unit.
    pub amount: u64,
    /// The id in the leaf.
    pub id: String,
    /// Sibling hashes, leaf to root.
    pub proof: Vec<[u8; 32]>,
    /// Channel name, if given.
    pub channel: Option<String>,
    /// Epoch of the off-chain ledger, if given.
    pub epoch: Option<u64>,
    /// Whether a receipt proof follows. [`Instruction::data`] writes none.
    pub receipt: bool,
}

/// `claim_channel_open`. Account 0 is the claimer (signer, writable).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ClaimChannelOpen {
    /// Channel name.
    pub channel: String,
    /// On-chain epoch.
    pub epoch: u64,
    /// Leaf index.
    pub index: u32,
    /// Amount in the token's smallest unit.
    pub amount: u64,
    /// Hash of the user, as text (see facts, user_hash).
    pub user_hash: String,
    /// Sibling hashes, leaf to root.
    pub proof: Vec<[u8; 32]>,
}

/// Why instruction data is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the arguments of `{instruction}` cannot be read: {reason}")]
pub struct BadInstruction {
    instruction: &'static str,
    reason: String,
}

macro_rules! instructions {
    ($($(#[$doc:meta])* $variant:ident($args:ident) = $name:literal, $tag:expr;)*) => {
        /// An instruction of the program that concerns claims or roots.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Instruction {
            $($(#[$doc])* $variant($args),)*
        }

        impl Instruction {
            /// The instruction's name in the program's source.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Its first 8 bytes: those of sha256("global:" + name).
            #[must_use]
            pub fn discriminator(&self) -> [u8; 8] {
                match self { $(Self::$variant(_) => $tag,)* }
            }

            /// Instruction data: discriminator and arguments.
            #[must_use]
            pub fn data(&self) -> Vec<u8> {
                let mut out = self.discriminator().to_vec();
                match self {
                    $(Self::$variant(args) => args.serialize(&mut out),)*
                }
                .expect("writing to a vector cannot fail");
                out
            }
        }

        /// Reads instruction data of the program. `None`: an instruction not listed here (set-up,
        /// administration, events).
        ///
        /// # Errors
        /// If the arguments cannot be read; the program cannot have executed such bytes.
        pub fn parse(data: &[u8]) -> Result<Option<Instruction>, BadInstruction> {
            let Some((tag, mut rest)) = data.split_first_chunk::<8>() else {
                return Ok(None);
            };
            $(if *tag == $tag {
                return $args::deserialize(&mut rest)
                    .map(|args| Some(Instruction::$variant(args)))
                    .map_err(|e| BadInstruction { instruction: $name, reason: e.to_string() });
            })*
            Ok(None)
        }
    };
}

instructions! {
    /// Sets a root in a channel's ring.
    SetMerkleRootRing(SetMerkleRootRing) = "set_merkle_root_ring", 0xda20_5909_c65c_88ee_u64.to_be_bytes();
    /// Sets a root of the singleton protocol (legacy).
    SetMerkleRoot(SetMerkleRoot) = "set_merkle_root", 0x2b18_5b3c_f089_1c66_u64.to_be_bytes();
    /// Sets a root of a mint's protocol (legacy).
    SetMerkleRootOpen(SetMerkleRoot) = "set_merkle_root_open", 0x6a7b_7cb7_dddd_923e_u64.to_be_bytes();
    /// Sets a root of a channel by its name.
    SetChannelMerkleRoot(SetChannelMerkleRoot) = "set_channel_merkle_root", 0x4118_1006_3f69_997b_u64.to_be_bytes();
    /// Creates a channel account.
    InitializeChannel(InitializeChannel) = "initialize_channel", 0xe85b_b1d4_7a5e_e3fa_u64.to_be_bytes();
    /// A claim against a ring.
    ClaimWithRing(ClaimWithRing) = "claim_with_ring", 0x0737_5adf_d1d5_064a_u64.to_be_bytes();
    /// A claim of the singleton protocol.
    Claim(Claim) = "claim", 0x3ec6_d6c1_d59f_6cd2_u64.to_be_bytes();
    /// A claim of a mint's protocol.
    ClaimOpen(ClaimOpen) = "claim_open", 0xcf93_8873_64ee_f95f_u64.to_be_bytes();
    /// A claim by channel name.
    ClaimChannelOpen(ClaimChannelOpen) = "claim_channel_open", 0xdfab_bb29_a747_0fb8_u64.to_be_bytes();
}

#[cfg(test)]
mod tests;
