//! The chain of a run: the in-process devnet with a node in front of it that fails, lies by being
//! late, and drops what it is sent; and what the chain really holds, for the checkers.
//!
//! Invariants: a node's answer was true at some time, and says so by its slot: one that is older
//! than the slot asked for is no answer; what was sent is noted before anything happens to it.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use semel_connectors::{
    perform::Performer as _,
    registry::Connectors,
    signer::Signer as _,
    signers::local::LocalSigner,
    solana::{
        devnet::{Devnet, DevnetConfig, traffic::User},
        node::{AccountAt, Block, LatestBlockhash, NodeError, SendAnswer, SolanaNode, StatusAt},
        source::Pace,
    },
};
use semel_schemas::{
    effect::{Commitment, Effect, Outcome},
    solana::{Address, Signature},
    time::{BlockHeight, Slot},
};

use super::options::{CHANNELS, Options};

/// Length of a slot, milliseconds.
pub(super) const SLOT_MS: u64 = 400;

/// The publisher's key: it signs nothing but what a simulation publishes.
fn keypair() -> LocalSigner {
    LocalSigner::of_seed([0x51; 32])
}

/// What a node does wrong while it answers one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFault {
    /// It cannot be reached.
    Away,
    /// It takes what is sent, and drops it.
    Drops,
    /// It does what is asked, and its answer is an error.
    Unanswered,
    /// It answers what it answered before, as long as that is not too old for the question.
    Late,
    /// It does not have the newest blocks that it lists.
    Lacks,
}

/// A transaction that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    fault: Option<NodeFault>,
    sent: Vec<Sent>,
    accounts: BTreeMap<(Address, Commitment), AccountAt>,
    statuses: BTreeMap<Signature, StatusAt>,
    slots: BTreeMap<Commitment, Slot>,
}

/// The node.
#[derive(Clone, Debug)]
struct Node {
    devnet: Devnet,
    inner: Arc<Mutex<Inner>>,
}

impl Node {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> Option<NodeFault> {
        self.lock().fault
    }

    fn here(&self) -> Result<(), NodeError> {
        match self.fault() {
            Some(NodeFault::Away) => {
                Err(NodeError::Unavailable("injected: the node is away".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn reached(at: Slot, min: Option<Slot>) -> bool {
    min.is_none_or(|min| at >= min)
}

#[async_trait]
impl SolanaNode for Node {
    async fn slot(&self, commitment: Commitment) -> Result<Slot, NodeError> {
        self.here()?;
        let slot = self.devnet.slot(commitment).await?;
        let before = self.lock().slots.insert(commitment, slot);
        match (self.fault(), before) {
            (Some(NodeFault::Late), Some(before)) => Ok(before),
            _ => Ok(slot),
        }
    }

    async fn blocks(
        &self,
        start: Slot,
        end: Slot,
        commitment: Commitment,
    ) -> Result<Vec<Slot>, NodeError> {
        self.here()?;
        self.devnet.blocks(start, end, commitment).await
    }

    async fn block(&self, slot: Slot, commitment: Commitment) -> Result<Block, NodeError> {
        self.here()?;
        if self.fault() == Some(NodeFault::Lacks) && slot.0.is_multiple_of(2) {
            return Err(NodeError::NotHere(slot));
        }
        self.devnet.block(slot, commitment).await
    }

    async fn block_height(
        &self,
        commitment: Commitment,
        min_context_slot: Option<Slot>,
    ) -> Result<BlockHeight, NodeError> {
        self.here()?;
        self.devnet.block_height(commitment, min_context_slot).await
    }

    async fn account(
        &self,
        address: &Address,
        commitment: Commitment,
        min_context_slot: Option<Slot>,
    ) -> Result<AccountAt, NodeError> {
        self.here()?;
        let now = self.devnet.account(address, commitment, min_context_slot).await?;
        let before = self.lock().accounts.insert((*address, commitment), now.clone());
        match (self.fault(), before) {
            (Some(NodeFault::Late), Some(before))
                if reached(before.context_slot, min_context_slot) =>
            {
                Ok(before)
            }
            _ => Ok(now),
        }
    }

    async fn latest_blockhash(&self, commitment: Commitment) -> Result<LatestBlockhash, NodeError> {
        self.here()?;
        self.devnet.latest_blockhash(commitment).await
    }

    async fn simulate(&self, message: &[u8]) -> Result<Result<u64, String>, NodeError> {
        self.here()?;
        self.devnet.simulate(message).await
    }

    async fn recent_fees(&self, writable: &[Address]) -> Result<Vec<u64>, NodeError> {
        self.here()?;
        self.devnet.recent_fees(writable).await
    }

    async fn send(&self, transaction: &[u8]) -> Result<SendAnswer, NodeError> {
        self.lock().sent.push(Sent { bytes: transaction.to_vec() });
        self.here()?;
        if self.fault() == Some(NodeFault::Drops) {
            return Ok(SendAnswer::Taken);
        }
        self.devnet.send(transaction).await
    }

    async fn status(
        &self,
        signature: &Signature,
        min_context_slot: Option<Slot>,
    ) -> Result<StatusAt, NodeError> {
        self.here()?;
        let now = self.devnet.status(signature, min_context_slot).await?;
        let before = self.lock().statuses.insert(*signature, now.clone());
        match (self.fault(), before) {
            (Some(NodeFault::Late), Some(before))
                if reached(before.context_slot, min_context_slot) =>
            {
                Ok(before)
            }
            _ => Ok(now),
        }
    }
}

/// The chain and who performs effects on it.
#[derive(Debug)]
pub(super) struct Chain {
    /// The truth.
    pub(super) devnet: Devnet,
    node: Node,
    connectors: Connectors,
    users: Vec<User>,
    /// What was sent and not yet looked at.
    seen: usize,
}

/// Waits for a future that is ready at its first poll.
pub(crate) fn ready<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Chain {
    /// A chain at slot `slot`, whose clock stands at `now_ms`.
    pub(super) fn new(options: &Options, names: &Names, now_ms: u64) -> Result<Self, String> {
        let signer = keypair();
        let publisher = signer.public_key();
        let users: Vec<User> = (0..u32::from(options.users)).map(User::new).collect();
        let mut funded: Vec<_> = users.iter().map(User::purse).collect();
        funded.push((publisher, 1_000_000_000_000));
        let devnet = Devnet::new(DevnetConfig {
            slot_ms: SLOT_MS,
            confirmed_lag: 1,
            finalized_lag: options.finalized_lag,
            blockhash_blocks: options.blockhash_blocks,
            skip_every: options.skip_every,
            publisher,
            channels: CHANNELS.map(str::to_owned).to_vec(),
            funded,
            ..DevnetConfig::default()
        })
        .map_err(|error| error.to_string())?;
        for _ in 0..options.first_slot() {
            devnet.tick().map_err(|error| error.to_string())?;
        }
        devnet.advance_to(now_ms).map_err(|error| error.to_string())?;
        let node = Node { devnet: devnet.clone(), inner: Arc::default() };
        let mut connectors = Connectors {
            pace: Pace {
                wait: Duration::ZERO,
                budget: Duration::from_secs(86_400),
                ..Pace::default()
            },
            ..Connectors::default()
        };
        for chain in &names.chains {
            connectors.chains.insert(chain.clone(), Arc::new(node.clone()));
        }
        let signer: Arc<LocalSigner> = Arc::new(signer);
        for name in &names.signers {
            connectors.signers.insert(name.clone(), signer.clone());
        }
        Ok(Self { devnet, node, connectors, users, seen: 0 })
    }

    /// Performs an effect.
    pub(super) fn perform(&self, effect: &Effect, fault: Option<NodeFault>) -> Outcome {
        self.node.lock().fault = fault;
        let outcome = ready(self.connectors.perform(effect));
        self.node.lock().fault = None;
        match (outcome, fault) {
            (Some(_), Some(NodeFault::Unanswered)) | (None, _) => {
                Outcome::Uncertain { text: "injected: no answer".to_owned() }
            }
            (Some(outcome), _) => outcome,
        }
    }

    /// A user claims on the chain.
    pub(super) fn claim(
        &self,
        user: u8,
        channel: u8,
        epoch: u64,
        nonce: u32,
    ) -> Result<(), String> {
        let user = &self.users[usize::from(user) % self.users.len()];
        let channel = CHANNELS[usize::from(channel) % CHANNELS.len()];
        let amount = 1_000 + u64::from(nonce);
        let claimed = ready(user.claim(&self.devnet, channel, epoch, amount, nonce));
        match claimed {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the devnet waits".to_owned()),
        }
    }

    /// Slot and height at a commitment, as they really are.
    pub(super) fn height(&self, commitment: Commitment) -> (u64, u64) {
        let slot = ready(self.devnet.slot(commitment)).and_then(Result::ok).unwrap_or_default();
        let height = ready(self.devnet.block_height(commitment, None)).and_then(Result::ok);
        (slot.0, height.unwrap_or_default().0)
    }

    /// Blocks of this range of slots, at `processed`.
    pub(super) fn blocks(&self, from: u64, to: u64) -> Vec<Block> {
        let commitment = Commitment::Processed;
        let slots = ready(self.devnet.blocks(Slot(from), Slot(to), commitment));
        let slots = slots.and_then(Result::ok).unwrap_or_default();
        slots
            .into_iter()
            .filter_map(|slot| ready(self.devnet.block(slot, commitment))?.ok())
            .collect()
    }

    /// What really became of a transaction.
    pub(super) fn status(&self, signature: &Signature) -> Option<StatusAt> {
        ready(self.devnet.status(signature, None))?.ok()
    }

    /// What was sent since the last call.
    pub(super) fn newly_sent(&mut self) -> Vec<Sent> {
        let inner = self.node.lock();
        let new = inner.sent[self.seen..].to_vec();
        let count = inner.sent.len();
        drop(inner);
        self.seen = count;
        new
    }
}

/// Names of connections that a spec uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Chains.
    pub(super) chains: Vec<String>,
    /// Signers.
    pub(super) signers: Vec<String>,
}

/// The publisher's public key.
pub(super) fn authority() -> Address {
    keypair().public_key()
}
