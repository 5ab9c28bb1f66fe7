//! The chain itself: slots, blocks, blockhashes, statuses, execution on LiteSVM. One thread, no
//! clock: slots are produced when they are asked for.
//!
//! Invariants: a signature lands at most once; a transaction lands only while its blockhash is
//! valid (LiteSVM's own check, which knows the latest blockhash only, is off); a block, once
//! produced, never changes (this chain has skipped slots, and no forks).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use litesvm::LiteSVM;
use semel_schemas::{
    attention,
    effect::Commitment,
    solana::{Address, Blockhash, Signature},
};
use sha2::{Digest as _, Sha256};
use solana_account::Account;
use solana_clock::Clock;
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_message::{AddressLoader as _, Message, VersionedMessage, v0};
use solana_pubkey::Pubkey;
use solana_signer::Signer as _;
use solana_transaction::{Transaction, TransactionError, versioned::VersionedTransaction};

use super::{
    DevnetConfig, DevnetError, SubmitError,
    accounts::History,
    block::{Produced, Recorded, Simulated, signature, split, writable},
    setup,
};

/// Whether a transaction is tried out before it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// Simulate it against the newest state; refuse it if it fails.
    Run,
    /// Take whatever is well formed and signed.
    Skip,
}

/// Whether a simulation looks at the transaction's own blockhash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// An expired or unknown blockhash fails.
    Checked,
    /// Any blockhash will do.
    Replaced,
}

pub(crate) struct Chain {
    pub(crate) config: DevnetConfig,
    svm: LiteSVM,
    /// Newest slot, with or without a block.
    slot: u64,
    blocks: BTreeMap<u64, Produced>,
    /// Height of the block of each blockhash that may still be valid, and of some older ones.
    heights: HashMap<[u8; 32], u64>,
    history: History,
    statuses: HashMap<Signature, (u64, usize)>,
    waiting: VecDeque<VersionedTransaction>,
    waiting_signatures: HashSet<Signature>,
    faucet: Keypair,
    airdrops: u32,
}

impl Chain {
    pub(super) fn new(config: DevnetConfig) -> Result<Self, DevnetError> {
        config.check()?;
        let faucet = Keypair::new_from_array(Sha256::digest(b"semel devnet faucet").into());
        let mut chain = Self {
            svm: setup::svm()?,
            slot: 0,
            blocks: BTreeMap::new(),
            heights: HashMap::new(),
            history: History::default(),
            statuses: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_signatures: HashSet::new(),
            airdrops: 0,
            faucet,
            config,
        };
        for (key, account) in setup::genesis(&chain.config, &chain.svm, &chain.faucet.pubkey()) {
            chain.write_account(key, account)?;
        }
        chain.seal(0, chain.config.start_ms / 1000, Vec::new());
        Ok(chain)
    }

    // ---- reading -----------------------------------------------------------------------------

    /// Newest slot, with or without a block.
    pub(super) fn newest_slot(&self) -> u64 {
        self.slot
    }

    /// The newest block at a commitment. Slot 0 is at every commitment from the start.
    pub(crate) fn tip(&self, commitment: Commitment) -> &Produced {
        let lag = match commitment {
            Commitment::Processed => 0,
            Commitment::Confirmed => self.config.confirmed_lag,
            Commitment::Finalized => self.config.finalized_lag,
        };
        let newest = self.slot.saturating_sub(lag);
        let found = self.blocks.range(..=newest).next_back();
        found.map(|(_, block)| block).expect("slot 0 has a block, and blocks are never removed")
    }

    /// How certain a slot is.
    pub(crate) fn commitment_of(&self, slot: u64) -> Commitment {
        [Commitment::Finalized, Commitment::Confirmed]
            .into_iter()
            .find(|c| slot <= self.tip(*c).slot)
            .unwrap_or(Commitment::Processed)
    }

    /// A block at a commitment, if the slot has one.
    pub(crate) fn block(&self, slot: u64, commitment: Commitment) -> Option<&Produced> {
        self.blocks.get(&slot).filter(|_| slot <= self.tip(commitment).slot)
    }

    /// Blocks from `start` to `end`, inclusive, at a commitment.
    pub(crate) fn range(
        &self,
        start: u64,
        end: u64,
        commitment: Commitment,
    ) -> impl DoubleEndedIterator<Item = &Produced> {
        let end = end.min(self.tip(commitment).slot);
        // An empty range is asked for as 1..=0: a BTreeMap refuses start > end.
        let (start, end) = if start <= end { (start, end) } else { (u64::MAX, u64::MAX) };
        self.blocks.range(start..=end).map(|(_, block)| block)
    }

    /// An account at a commitment.
    pub(crate) fn account(&self, key: &Pubkey, commitment: Commitment) -> Option<Account> {
        let account = match self.history.get(key, self.tip(commitment).slot) {
            Some(version) => version.cloned(),
            // Never touched: as it was at genesis (programs, sysvars).
            None => self.svm.get_account(key),
        };
        account.filter(|account| account.lamports > 0)
    }

    /// Where a transaction landed, and its record.
    pub(crate) fn landed(&self, signature: &Signature) -> Option<(&Produced, &Recorded)> {
        let (slot, index) = self.statuses.get(signature)?;
        let block = self.blocks.get(slot)?;
        Some((block, block.transactions.get(*index)?))
    }

    /// Last block height at which a transaction with this block's hash can land.
    pub(crate) fn last_valid(&self, block: &Produced) -> u64 {
        block.height + self.config.blockhash_blocks
    }

    /// Whether a transaction with this blockhash may land in a block of `height`.
    pub(crate) fn is_valid(&self, blockhash: &[u8; 32], height: u64) -> bool {
        let born = self.heights.get(blockhash);
        born.is_some_and(|born| height <= born + self.config.blockhash_blocks)
    }

    // ---- asking ------------------------------------------------------------------------------

    /// Executes a transaction on the newest state and forgets what it wrote.
    pub(crate) fn simulate(&self, transaction: VersionedTransaction, life: Lifetime) -> Simulated {
        let blockhash = transaction.message.recent_blockhash().to_bytes();
        let height = self.tip(Commitment::Processed).height;
        if life == Lifetime::Checked && !self.is_valid(&blockhash, height) {
            return Simulated::refused(TransactionError::BlockhashNotFound);
        }
        let loaded = match self.load(&transaction.message) {
            Ok(loaded) => loaded,
            Err(error) => return Simulated::refused(error),
        };
        let answer = self.svm.simulate_transaction(transaction).map(|ok| ok.meta);
        let (error, meta) = split(answer);
        Simulated { error, meta, loaded }
    }

    /// Checks what a node checks before it takes a transaction.
    pub(crate) fn judge(
        &self,
        transaction: &VersionedTransaction,
        preflight: Preflight,
    ) -> Result<(), SubmitError> {
        if transaction.sanitize().is_err() {
            return Err(SubmitError::Malformed("it does not hold together".to_owned()));
        }
        if !transaction.verify_with_results().iter().all(|good| *good) {
            return Err(SubmitError::Signature);
        }
        if preflight == Preflight::Skip {
            return Ok(());
        }
        let simulated = if self.statuses.contains_key(&signature(transaction)) {
            Simulated::refused(TransactionError::AlreadyProcessed)
        } else {
            self.simulate(transaction.clone(), Lifetime::Checked)
        };
        match simulated.error {
            None => Ok(()),
            Some(_) => Err(SubmitError::Preflight(Box::new(simulated))),
        }
    }

    /// Lets a judged transaction wait for the next block. One that waits or has landed already is
    /// taken and forgotten, as by a real node.
    pub(super) fn enqueue(&mut self, transaction: VersionedTransaction) {
        let signature = signature(&transaction);
        if !self.statuses.contains_key(&signature) && self.waiting_signatures.insert(signature) {
            self.waiting.push_back(transaction);
        }
    }

    /// A transfer from the faucet, different from every other one.
    pub(super) fn airdrop(&self, to: &Pubkey, lamports: u64) -> VersionedTransaction {
        let from = self.faucet.pubkey();
        let instructions = [
            ComputeBudgetInstruction::set_compute_unit_limit(1000 + self.airdrops % 1_000_000),
            solana_system_interface::instruction::transfer(&from, to, lamports),
        ];
        let message = Message::new(&instructions, Some(&from));
        let blockhash = Hash::new_from_array(self.tip(Commitment::Processed).blockhash.0);
        Transaction::new(&[&self.faucet], message, blockhash).into()
    }

    /// Counts an airdrop: the next one will differ.
    pub(super) fn count_airdrop(&mut self) {
        self.airdrops = self.airdrops.wrapping_add(1);
    }

    /// Creates a channel's account, as `initialize_channel` would.
    pub(super) fn create_channel(&mut self, name: &str) -> Result<Address, DevnetError> {
        let key = self.channel_address(name);
        if self.svm.get_account(&key).is_none() {
            let (key, account) = setup::channel(&self.config, &self.svm, name);
            self.write_account(key, account)?;
        }
        Ok(Address(key.to_bytes()))
    }

    /// Where a channel's account lies.
    pub(super) fn channel_address(&self, name: &str) -> Pubkey {
        setup::channel_pda(&self.config.mint, &attention::channel_key(name)).0
    }

    // ---- producing ---------------------------------------------------------------------------

    /// Produces the next slot, whose chain time is `at_ms`: a block, unless it is to be skipped.
    pub(super) fn tick(&mut self, at_ms: u64) {
        self.slot += 1;
        if self.config.is_skipped(self.slot) {
            return;
        }
        let time = (at_ms / 1000).max(self.tip(Commitment::Processed).time);
        self.svm.set_sysvar(&Clock {
            slot: self.slot,
            unix_timestamp: i64::try_from(time).unwrap_or(i64::MAX),
            ..Clock::default()
        });
        let height = self.tip(Commitment::Processed).height + 1;
        let mut landed = Vec::new();
        while landed.len() < self.config.max_transactions {
            let Some(transaction) = self.waiting.pop_front() else { break };
            self.waiting_signatures.remove(&signature(&transaction));
            landed.extend(self.execute(transaction, height));
        }
        self.seal(height, time, landed);
    }

    /// Executes a transaction in the block being made; `None` if no block can hold it.
    fn execute(&mut self, transaction: VersionedTransaction, height: u64) -> Option<Recorded> {
        let blockhash = transaction.message.recent_blockhash().to_bytes();
        if !self.is_valid(&blockhash, height) {
            tracing::debug!(signature = %signature(&transaction), "expired before it could land");
            return None;
        }
        let loaded = self.load(&transaction.message).ok()?;
        let fixed = transaction.message.static_account_keys().iter();
        let keys: Vec<Pubkey> =
            fixed.chain(&loaded.writable).chain(&loaded.readonly).copied().collect();
        let pre_balances = self.balances(&keys);
        let (error, meta) = split(self.svm.send_transaction(transaction.clone()));
        if error.as_ref().is_some_and(|error| !pays_although_failed(error)) {
            tracing::debug!(signature = %signature(&transaction), ?error, "no block can hold it");
            return None;
        }
        Some(Recorded {
            post_balances: self.balances(&keys),
            unit_price: unit_price(&transaction.message),
            transaction,
            keys,
            loaded,
            error,
            meta,
            pre_balances,
        })
    }

    /// Makes the block of the current slot out of its transactions.
    fn seal(&mut self, height: u64, time: u64, transactions: Vec<Recorded>) {
        let parent = self.blocks.values().next_back();
        let (parent_slot, previous_blockhash) =
            parent.map_or((0, Blockhash([0; 32])), |p| (p.slot, p.blockhash));
        let mut hash = Sha256::new();
        hash.update(b"semel devnet block");
        hash.update(previous_blockhash.0);
        hash.update(self.slot.to_le_bytes());
        let finalized = self.finalized_if_sealed();
        let mut touched: BTreeSet<&Pubkey> = BTreeSet::new();
        for (index, recorded) in transactions.iter().enumerate() {
            hash.update(recorded.signature().0);
            self.statuses.insert(recorded.signature(), (self.slot, index));
            touched.extend(writable(
                &recorded.transaction.message,
                &recorded.keys,
                &recorded.loaded,
            ));
        }
        for key in touched {
            self.history.put(*key, self.slot, self.svm.get_account(key), finalized);
        }
        let blockhash = Blockhash(hash.finalize().into());
        self.heights.insert(blockhash.0, height);
        if self.heights.len() as u64 > 2 * self.config.blockhash_blocks + 16 {
            let lifetime = self.config.blockhash_blocks;
            self.heights.retain(|_, born| *born + lifetime >= height);
        }
        let slot = self.slot;
        let block = Produced {
            slot,
            parent_slot,
            blockhash,
            previous_blockhash,
            height,
            time,
            transactions,
        };
        self.blocks.insert(slot, block);
    }

    /// Slot of the newest finalized block; 0 before there is one.
    fn finalized_if_sealed(&self) -> u64 {
        if self.blocks.is_empty() { 0 } else { self.tip(Commitment::Finalized).slot }
    }

    /// Writes an account outside of any transaction, in the newest slot.
    pub(super) fn write_account(
        &mut self,
        key: Pubkey,
        account: Account,
    ) -> Result<(), DevnetError> {
        let refused = |e| DevnetError::Svm(format!("account {key} cannot be written: {e}"));
        self.svm.set_account(key, account.clone()).map_err(refused)?;
        let finalized = self.finalized_if_sealed();
        self.history.put(key, self.slot, Some(account), finalized);
        Ok(())
    }

    fn load(&self, message: &VersionedMessage) -> Result<v0::LoadedAddresses, TransactionError> {
        let lookups = message.address_table_lookups().unwrap_or_default();
        Ok(self.svm.accounts_db().load_addresses(lookups)?)
    }

    fn balances(&self, keys: &[Pubkey]) -> Vec<u64> {
        keys.iter().map(|key| self.svm.get_balance(key).unwrap_or(0)).collect()
    }
}

/// Whether a transaction that failed in this way still lands (and pays its fee). All other errors
/// mean that it never was in a block.
fn pays_although_failed(error: &TransactionError) -> bool {
    matches!(
        error,
        TransactionError::InstructionError(..) | TransactionError::InsufficientFundsForRent { .. }
    )
}

/// The price per compute unit that a message asks for, micro-lamports.
fn unit_price(message: &VersionedMessage) -> u64 {
    let keys = message.static_account_keys();
    let price = |i: &solana_message::compiled_instruction::CompiledInstruction| {
        let program = keys.get(usize::from(i.program_id_index))?;
        if *program != solana_sdk_ids::compute_budget::id() || *i.data.first()? != 3 {
            return None;
        }
        Some(u64::from_le_bytes(*i.data.get(1..)?.first_chunk()?))
    };
    message.instructions().iter().find_map(price).unwrap_or(0)
}
