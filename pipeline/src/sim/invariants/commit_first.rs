//! COMMIT-FIRST: nothing is broadcast whose signed bytes were not committed before.
//!
//! Judged by the changelogs alone: the bytes of every transaction that is sent stand in a committed
//! change of state.

use std::collections::BTreeSet;

use semel_schemas::{solana::Base64, topic::TopicName};

use super::{Check, Ledger, News, Scene};
use crate::spec::plan::Plan;

/// Changes of state with the bytes of a transaction begin so.
const STORE: &[u8] = b"settle_roots\0";

/// See the module.
#[derive(Debug)]
pub(super) struct CommitFirst {
    changelogs: BTreeSet<TopicName>,
    committed: BTreeSet<Vec<u8>>,
    /// Sent while a marker was on its way: the commit may be decided and not visible.
    doubtful: BTreeSet<Vec<u8>>,
}

impl CommitFirst {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            changelogs: plan.stages.iter().map(|(stage, _)| stage.changelog.name.clone()).collect(),
            committed: BTreeSet::new(),
            doubtful: BTreeSet::new(),
        }
    }
}

/// The bytes in a stored root, if it has some.
fn bytes(value: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(value).ok()?;
    let bytes = value.get("state")?.get("bytes")?.clone();
    serde_json::from_value::<Base64>(bytes).ok().map(|bytes| bytes.0)
}

impl Check for CommitFirst {
    fn id(&self) -> &'static str {
        "COMMIT-FIRST"
    }

    fn step(&mut self, scene: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        let changes = news.records.iter().filter(|r| self.changelogs.contains(&r.topic));
        for change in changes.filter(|r| r.key.as_ref().is_some_and(|k| k.starts_with(STORE))) {
            let found = change.value.as_deref().and_then(bytes);
            self.committed.extend(found);
        }
        for sent in &news.sent {
            if !self.committed.contains(&sent.bytes) {
                self.doubtful.insert(sent.bytes.clone());
            }
        }
        let committed = &self.committed;
        self.doubtful.retain(|bytes| !committed.contains(bytes));
        if self.doubtful.is_empty() || scene.sim.hides() {
            return Ok(());
        }
        Err("a transaction is sent whose bytes stand in no committed state".to_owned())
    }
}
