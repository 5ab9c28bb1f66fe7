//! A stand-in for the Attention Oracle program: sBPF, assembled when the devnet starts, executed
//! by the SVM at the real program id.
//!
//! It takes the real instructions in their real encoding, on the real account layouts (all
//! offsets come from [`semel_schemas::attention`]). `set_merkle_root_ring` checks and writes what
//! the real one does, in the same order and with the same error numbers. Claims (`claim`,
//! `claim_open`, `claim_with_ring`, `claim_channel_open`) are accepted when account 0 signed:
//! no proof is checked and no token moves. Every other instruction is refused.
//!
//! What it does not check: that accounts lie at their PDAs. It demands instead that the program
//! owns them and that mint and streamer match, which is as strong here, because only the devnet's
//! set-up creates accounts of the program.

use std::fmt::Write as _;

use sbpf_assembler::{Assembler, AssemblerOption, SbpfArch};
use semel_schemas::attention::{
    self, CHANNEL_DISCRIMINATOR, CHANNEL_MAX_CLAIMS, PROTOCOL_DISCRIMINATOR, channel_layout,
    protocol_layout,
};

/// Anchor's errors that the stand-in shares with the real program.
mod anchor {
    pub(super) const FALLBACK_NOT_FOUND: u32 = 101;
    pub(super) const DID_NOT_DESERIALIZE: u32 = 102;
    pub(super) const CONSTRAINT_MUT: u32 = 2000;
    pub(super) const CONSTRAINT_SEEDS: u32 = 2006;
    pub(super) const DISCRIMINATOR_MISMATCH: u32 = 3002;
    pub(super) const ACCOUNT_TOO_SHORT: u32 = 3003;
    pub(super) const NOT_ENOUGH_KEYS: u32 = 3005;
    pub(super) const WRONG_OWNER: u32 = 3007;
    pub(super) const NOT_SIGNER: u32 = 3010;
}

// Where things lie in the runtime's serialization of one account (loader ABI, aligned): dup
// marker u8, is_signer u8, is_writable u8, executable u8, 4 bytes, key, owner, lamports, length
// of data, data, room to grow, padding to 8, rent epoch.
const IS_SIGNER: usize = 1;
const IS_WRITABLE: usize = 2;
const KEY: usize = 8;
const OWNER: usize = 40;
const DATA_LEN: usize = 80;
const DATA: usize = 88;
const ROOM_TO_GROW: usize = 10_240;
/// Accounts whose place is remembered; instructions here need at most four.
const REMEMBERED: usize = 4;

// Arguments of `set_merkle_root_ring`, after the discriminator.
const ARG_ROOT: usize = 8;
const ARG_EPOCH: usize = 40;
const ARG_COUNT: usize = 48;
const ARG_STREAMER: usize = 50;
const ARGS_LEN: usize = 82;

/// The program could not be assembled: a fault of this crate or of the assembler.
#[derive(Debug, thiserror::Error)]
#[error("the stand-in program cannot be assembled: {0}")]
pub struct AssemblyFailed(String);

/// The program as an ELF file that the SVM loads.
///
/// # Errors
/// If the assembler refuses the source.
pub fn elf() -> Result<Vec<u8>, AssemblyFailed> {
    let options = AssemblerOption::default().with_arch(SbpfArch::V0);
    Assembler::new(options).assemble(&source()).map_err(|errors| {
        AssemblyFailed(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })
}

/// The whole source. Registers: r6 instruction data, r7 its length (the program id follows it),
/// r8 number of accounts; the stack holds pointers to the first four accounts.
fn source() -> String {
    let mut asm = Asm(String::from(".globl entrypoint\n.text\nentrypoint:\n"));
    asm.walk_accounts();
    asm.dispatch();
    asm.claim();
    asm.set_root_accounts();
    asm.set_root_rules();
    asm.set_root_write();
    asm.exits();
    asm.0
}

struct Asm(String);

impl Asm {
    fn put(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        let _infallible = writeln!(self.0, "{text}");
    }

    /// Goes to `label` unless the 32 bytes at `a` and `b` (register, offset) are equal.
    fn differ(&mut self, a: (&str, usize), b: (&str, usize), label: &str) {
        for word in (0..32).step_by(8) {
            self.line(format_args!("ldxdw r4, [{}+{}]", a.0, a.1 + word));
            self.line(format_args!("ldxdw r5, [{}+{}]", b.0, b.1 + word));
            self.line(format_args!("jne r4, r5, {label}"));
        }
    }

    fn walk_accounts(&mut self) {
        self.put("ldxdw r8, [r1+0]\nmov64 r9, r1\nadd64 r9, 8\nmov64 r7, 0");
        self.put("walk:\njge r7, r8, walked\nldxb r2, [r9+0]\njeq r2, 255, fresh");
        // A repeated account is one byte that names the first one.
        self.line(format_args!("mov64 r3, 0\njge r2, {REMEMBERED}, unknown"));
        self.put("lsh64 r2, 3\nmov64 r4, r10\nsub64 r4, 64\nadd64 r4, r2\nldxdw r3, [r4+0]");
        self.put("unknown:\nadd64 r9, 8\nja remember");
        self.line(format_args!("fresh:\nmov64 r3, r9\nldxdw r4, [r9+{DATA_LEN}]"));
        let fixed = DATA + ROOM_TO_GROW + 7;
        self.line(format_args!("add64 r9, r4\nadd64 r9, {fixed}\nand64 r9, -8\nadd64 r9, 8"));
        self.line(format_args!("remember:\njge r7, {REMEMBERED}, next"));
        self.put("mov64 r2, r7\nlsh64 r2, 3\nmov64 r4, r10\nsub64 r4, 64\nadd64 r4, r2");
        self.put("stxdw [r4+0], r3\nnext:\nadd64 r7, 1\nja walk");
        self.put("walked:\nldxdw r7, [r9+0]\nmov64 r6, r9\nadd64 r6, 8");
    }

    fn dispatch(&mut self) {
        self.put("jlt r7, 8, e_fallback\nldxdw r1, [r6+0]");
        let claims = ["claim", "claim_open", "claim_with_ring", "claim_channel_open"];
        for name in claims {
            self.constant("r2", discriminator(name));
            self.put("jeq r1, r2, claim");
        }
        self.constant("r2", discriminator("set_merkle_root_ring"));
        self.put("jeq r1, r2, set_root\nja e_fallback");
    }

    fn constant(&mut self, register: &str, bytes: [u8; 8]) {
        self.line(format_args!("lddw {register}, {}", i64::from_le_bytes(bytes)));
    }

    fn claim(&mut self) {
        self.put("claim:\njlt r8, 1, e_keys\nldxdw r1, [r10-64]");
        self.line(format_args!("ldxb r2, [r1+{IS_SIGNER}]\njeq r2, 0, e_signer\nja done"));
    }

    /// Leaves r1 authority, r2 protocol, r3 channel, r0 the program's id.
    fn set_root_accounts(&mut self) {
        self.line(format_args!("set_root:\njlt r7, {ARGS_LEN}, e_args\njlt r8, 4, e_keys"));
        self.put("ldxdw r1, [r10-64]\nldxdw r2, [r10-56]\nldxdw r3, [r10-48]");
        self.put("mov64 r0, r6\nadd64 r0, r7");
        self.line(format_args!("ldxb r4, [r1+{IS_SIGNER}]\njeq r4, 0, e_signer"));
        for (register, len, tag) in [
            ("r2", protocol_layout::LEN, PROTOCOL_DISCRIMINATOR),
            ("r3", channel_layout::LEN, CHANNEL_DISCRIMINATOR),
        ] {
            self.differ((register, OWNER), ("r0", 0), "e_owner");
            self.line(format_args!("ldxdw r4, [{register}+{DATA_LEN}]\njlt r4, {len}, e_short"));
            self.line(format_args!("ldxdw r4, [{register}+{DATA}]"));
            self.constant("r5", tag);
            self.put("jne r4, r5, e_tag");
            self.line(format_args!("ldxb r4, [{register}+{IS_WRITABLE}]\njeq r4, 0, e_mut"));
        }
        let (mint, channel_mint) = (DATA + protocol_layout::MINT, DATA + channel_layout::MINT);
        self.differ(("r2", mint), ("r3", channel_mint), "e_seeds");
        self.differ(("r3", DATA + channel_layout::STREAMER), ("r6", ARG_STREAMER), "e_seeds");
    }

    /// Leaves r8 the epoch and r9 its slot.
    fn set_root_rules(&mut self) {
        let publisher = DATA + protocol_layout::PUBLISHER;
        self.differ(("r1", KEY), ("r2", publisher), "not_publisher");
        self.put("ja authorized\nnot_publisher:");
        self.differ(("r1", KEY), ("r2", DATA + protocol_layout::ADMIN), "e_unauthorized");
        let paused = DATA + protocol_layout::PAUSED;
        self.line(format_args!("authorized:\nldxb r4, [r2+{paused}]\njne r4, 0, e_paused"));
        self.line(format_args!("ldxdw r8, [r6+{ARG_EPOCH}]\njeq r8, 0, e_epoch_zero"));
        self.line(format_args!("ldxh r4, [r6+{ARG_COUNT}]\njgt r4, {CHANNEL_MAX_CLAIMS}, e_count"));
        let version = DATA + channel_layout::VERSION;
        self.line(format_args!("ldxb r4, [r3+{version}]\njeq r4, 0, e_channel"));
        self.line(format_args!("mov64 r9, r8\nmod64 r9, {}", channel_layout::RING_SLOTS));
        self.line(format_args!("mul64 r9, {}\nadd64 r9, r3", channel_layout::SLOT_LEN));
        self.line(format_args!("add64 r9, {}", DATA + channel_layout::RING));
        self.line(format_args!("ldxdw r4, [r9+{}]", channel_layout::SLOT_EPOCH));
        self.put("jeq r4, 0, increasing\njle r8, r4, e_epoch\nincreasing:");
    }

    fn set_root_write(&mut self) {
        self.line(format_args!("stxdw [r9+{}], r8", channel_layout::SLOT_EPOCH));
        for word in (0..32).step_by(8) {
            self.line(format_args!("ldxdw r4, [r6+{}]", ARG_ROOT + word));
            self.line(format_args!("stxdw [r9+{}], r4", channel_layout::SLOT_ROOT + word));
        }
        self.line(format_args!("ldxh r4, [r6+{ARG_COUNT}]"));
        self.line(format_args!("stxh [r9+{}], r4", channel_layout::SLOT_COUNT));
        let latest = DATA + channel_layout::LATEST_EPOCH;
        self.line(format_args!("ldxdw r4, [r3+{latest}]\njle r8, r4, clear"));
        self.line(format_args!("stxdw [r3+{latest}], r8"));
        // A new epoch has no claims yet: its bitmap starts empty.
        self.line(format_args!("clear:\nmov64 r1, r9\nadd64 r1, {}", channel_layout::SLOT_BITMAP));
        self.line(format_args!("mov64 r2, 0\nmov64 r3, {}", channel_layout::BITMAP));
        self.put("call sol_memset_\ndone:\nmov64 r0, 0\nexit");
    }

    fn exits(&mut self) {
        for (label, code) in [
            ("e_fallback", anchor::FALLBACK_NOT_FOUND),
            ("e_args", anchor::DID_NOT_DESERIALIZE),
            ("e_mut", anchor::CONSTRAINT_MUT),
            ("e_seeds", anchor::CONSTRAINT_SEEDS),
            ("e_tag", anchor::DISCRIMINATOR_MISMATCH),
            ("e_short", anchor::ACCOUNT_TOO_SHORT),
            ("e_keys", anchor::NOT_ENOUGH_KEYS),
            ("e_owner", anchor::WRONG_OWNER),
            ("e_signer", anchor::NOT_SIGNER),
            ("e_unauthorized", attention::UNAUTHORIZED),
            ("e_paused", attention::PROTOCOL_PAUSED),
            ("e_count", attention::INVALID_INPUT_LENGTH),
            ("e_epoch_zero", attention::INVALID_EPOCH),
            ("e_channel", attention::CHANNEL_NOT_INITIALIZED),
            ("e_epoch", attention::EPOCH_NOT_INCREASING),
        ] {
            self.line(format_args!("{label}:\nmov64 r0, {code}\nexit"));
        }
    }
}

fn discriminator(name: &str) -> [u8; 8] {
    use sha2::{Digest as _, Sha256};

    let hash = Sha256::digest(format!("global:{name}"));
    std::array::from_fn(|i| hash[i])
}
