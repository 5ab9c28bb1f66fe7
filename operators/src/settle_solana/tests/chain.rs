//! A chain of a few dozen lines: blocks, forks, finality, blockhash expiry, one program.
//!
//! As nasty as Solana, in small: a transaction that was broadcast stays in the pool and may be
//! included at any height up to its last valid one; blocks that are not final are thrown away and
//! made again; nodes lag, each answer by an amount of its own. A node's answer is true of the
//! node: it reads the height before the status (the contract of `Outcome::Status`).

use std::collections::BTreeMap;

use semel_schemas::{
    attention::{self, CHANNEL_DISCRIMINATOR, channel_layout as layout},
    effect::{Commitment, Outcome, TransactionStatus},
    solana::{Address, Base64, Blockhash, Signature},
    time::{BlockHeight, Slot},
};
use solana_transaction::Transaction;

/// Blocks until a block is final.
pub(super) const FINAL: u64 = 6;
/// Blocks that a blockhash lives.
pub(super) const LIFE: u64 = 12;

/// A transaction as the chain sees it.
#[derive(Clone, Debug)]
pub(super) struct Tx {
    signature: Signature,
    last_valid: u64,
    channel: Address,
    epoch: u64,
    root: [u8; 32],
}

/// Channel → slot of the ring → (epoch, root).
type Rings = BTreeMap<Address, [(u64, [u8; 32]); layout::RING_SLOTS]>;

/// The chain.
#[derive(Debug)]
pub(super) struct Chain {
    /// Index: height.
    blocks: Vec<Vec<Tx>>,
    finalized: u64,
    pool: Vec<Tx>,
    foreigners: u64,
}

fn slot(height: u64) -> Slot {
    Slot(height * 2)
}

fn blockhash(height: u64) -> Blockhash {
    let mut hash = [1; 32];
    hash[..8].copy_from_slice(&height.to_le_bytes());
    Blockhash(hash)
}

fn read(bytes: &[u8]) -> Tx {
    let tx: Transaction = bincode::deserialize(bytes).unwrap();
    let message = &tx.message;
    let publish = &message.instructions[2];
    let Ok(Some(attention::Instruction::SetMerkleRootRing(args))) = attention::parse(&publish.data)
    else {
        panic!("not the instruction that is meant")
    };
    let birth = u64::from_le_bytes(*message.recent_blockhash.to_bytes().first_chunk().unwrap());
    let channel = message.account_keys[usize::from(publish.accounts[2])].to_bytes();
    Tx {
        signature: Signature(tx.signatures[0].into()),
        last_valid: birth + LIFE,
        channel: Address(channel),
        epoch: args.epoch,
        root: args.root,
    }
}

impl Chain {
    pub(super) fn new() -> Self {
        Self { blocks: vec![vec![]; 20], finalized: 13, pool: vec![], foreigners: 0 }
    }

    fn tip(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    /// The state after the block at `height`, and whether each transaction succeeded.
    fn replay(&self, height: u64) -> (Rings, BTreeMap<Signature, (u64, bool)>) {
        let (mut rings, mut done) = (Rings::new(), BTreeMap::new());
        for (at, block) in (0..=height).zip(&self.blocks) {
            for tx in block {
                let ring = rings.entry(tx.channel).or_default();
                let held = &mut ring[(tx.epoch % layout::RING_SLOTS as u64) as usize];
                let increases = tx.epoch > held.0;
                if increases {
                    *held = (tx.epoch, tx.root);
                }
                done.insert(tx.signature, (at, increases));
            }
        }
        (rings, done)
    }

    /// One more block, with those of the pool's transactions that `choose` names.
    pub(super) fn grow(&mut self, choose: u8) {
        let height = self.tip() + 1;
        let (_, done) = self.replay(self.tip());
        let block = self
            .pool
            .iter()
            .enumerate()
            .filter(|(i, tx)| {
                choose >> (i % 8) & 1 == 1
                    && height <= tx.last_valid
                    && !done.contains_key(&tx.signature)
            })
            .map(|(_, tx)| tx.clone())
            .collect();
        self.blocks.push(block);
        self.finalized = self.finalized.max(height - FINAL);
    }

    /// Another fork wins: up to `count` blocks that are not final are gone.
    pub(super) fn fork(&mut self, count: u64) {
        let keep = (self.tip() - count.min(self.tip())).max(self.finalized);
        self.blocks.truncate(keep as usize + 1);
    }

    /// Validators forget what they were sent.
    pub(super) fn forget(&mut self) {
        self.pool.clear();
    }

    /// Somebody else publishes.
    pub(super) fn foreign(&mut self, channel: Address, epoch: u64, root: [u8; 32]) {
        let mut signature = [0xff; 64];
        self.foreigners += 1;
        signature[..8].copy_from_slice(&self.foreigners.to_le_bytes());
        let last_valid = self.tip() + LIFE;
        self.pool.push(Tx { signature: Signature(signature), last_valid, channel, epoch, root });
    }

    // ---- a node's answers, `lag` blocks behind ----

    pub(super) fn send(&mut self, bytes: &[u8]) -> Outcome {
        let tx = read(bytes);
        if self.replay(self.tip()).1.contains_key(&tx.signature) {
            return Outcome::Rejected { text: "already processed".into() };
        }
        if !self.pool.iter().any(|t| t.signature == tx.signature) {
            self.pool.push(tx);
        }
        Outcome::Sent
    }

    pub(super) fn account(&self, address: &Address, lag: u64, min: Option<Slot>) -> Outcome {
        let seen = self.tip().saturating_sub(lag + FINAL).min(self.finalized);
        if min.is_some_and(|min| slot(seen) < min) {
            return Outcome::Uncertain { text: "minimum context slot not reached".into() };
        }
        let data = self.replay(seen).0.get(address).map(|ring| {
            let mut data = vec![0; layout::LEN];
            data[..8].copy_from_slice(&CHANNEL_DISCRIMINATOR);
            data[layout::VERSION] = 1;
            for (index, (epoch, root)) in ring.iter().enumerate() {
                let at = layout::slot(index as u64);
                data[at..at + 8].copy_from_slice(&epoch.to_le_bytes());
                data[at + 8..at + 40].copy_from_slice(root);
            }
            Base64(data)
        });
        Outcome::Account { context_slot: slot(seen), data }
    }

    pub(super) fn prepare(&self, message: &[u8]) -> Outcome {
        let draft = read(&[&[1][..], &[0; 64], message].concat());
        let (rings, _) = self.replay(self.tip());
        let ring = rings.get(&draft.channel).copied().unwrap_or_default();
        let held = ring[(draft.epoch % layout::RING_SLOTS as u64) as usize].0;
        Outcome::Prepared {
            blockhash: blockhash(self.tip()),
            last_valid_block_height: BlockHeight(self.tip() + LIFE),
            simulated: if draft.epoch > held { Ok(5_000) } else { Err("6023".into()) },
            unit_price: 3,
        }
    }

    pub(super) fn status(&self, signature: &Signature, lag: u64, min: Option<Slot>) -> Outcome {
        let height = self.tip().saturating_sub(lag + FINAL).min(self.finalized);
        let seen = self.tip().saturating_sub(lag / 2);
        if min.is_some_and(|min| slot(seen) < min) {
            return Outcome::Uncertain { text: "minimum context slot not reached".into() };
        }
        let found = self.replay(seen).1.get(signature).map(|(at, success)| TransactionStatus {
            slot: slot(*at),
            commitment: match at {
                at if *at <= height => Commitment::Finalized,
                at if at % 2 == 0 => Commitment::Confirmed,
                _ => Commitment::Processed,
            },
            error: (!success).then(|| "6023".to_owned()),
        });
        Outcome::Status { context_slot: slot(seen), finalized_height: BlockHeight(height), found }
    }

    // ---- what is true ----

    /// Whether a transaction ended on the final chain, and whether it succeeded.
    pub(super) fn ended(&self, signature: &Signature) -> Option<bool> {
        self.replay(self.finalized).1.get(signature).map(|(_, success)| *success)
    }

    /// Whether a transaction that is not on the final chain may still come there.
    pub(super) fn may_land(&self, bytes: &[u8]) -> bool {
        let tx = read(bytes);
        self.ended(&tx.signature).is_none() && self.finalized < tx.last_valid
    }

    /// What the final chain holds where an epoch belongs.
    pub(super) fn held(&self, channel: &Address, epoch: u64) -> (u64, [u8; 32]) {
        let (rings, _) = self.replay(self.finalized);
        let ring = rings.get(channel).copied().unwrap_or_default();
        ring[(epoch % layout::RING_SLOTS as u64) as usize]
    }

    /// Whether the final chain ever took this root.
    pub(super) fn ever_held(&self, channel: &Address, epoch: u64, root: &[u8; 32]) -> bool {
        let (_, done) = self.replay(self.finalized);
        self.blocks.iter().flatten().any(|tx| {
            tx.channel == *channel
                && tx.epoch == epoch
                && tx.root == *root
                && done.get(&tx.signature).is_some_and(|(_, success)| *success)
        })
    }
}
