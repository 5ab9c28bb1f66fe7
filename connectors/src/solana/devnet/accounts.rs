//! Accounts as they were at recent slots, so that a read at `finalized` sees finalized state.
//!
//! Invariant: for every account that was ever touched, all versions since the newest one that is
//! finalized are kept; older ones are dropped.

use std::collections::HashMap;

use solana_account::Account;
use solana_pubkey::Pubkey;

/// Versions of accounts by the slot that wrote them.
#[derive(Default)]
pub(super) struct History(HashMap<Pubkey, Vec<(u64, Option<Account>)>>);

impl History {
    /// Takes in what an account is after `slot`; forgets what no read can ask for any more.
    pub(super) fn put(&mut self, key: Pubkey, slot: u64, now: Option<Account>, finalized: u64) {
        let versions = self.0.entry(key).or_default();
        match versions.last_mut() {
            Some((_, last)) if *last == now => {}
            Some((at, last)) if *at == slot => *last = now,
            _ => versions.push((slot, now)),
        }
        let obsolete = versions.partition_point(|(at, _)| *at <= finalized).saturating_sub(1);
        versions.drain(..obsolete);
    }

    /// The account as of `slot`: `None` if it was never touched, `Some(None)` if it did not exist.
    pub(super) fn get(&self, key: &Pubkey, slot: u64) -> Option<Option<&Account>> {
        let versions = self.0.get(key)?;
        let newer = versions.partition_point(|(at, _)| *at <= slot);
        Some(newer.checked_sub(1).and_then(|i| versions[i].1.as_ref()))
    }
}
