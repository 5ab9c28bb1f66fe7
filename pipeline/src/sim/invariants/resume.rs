//! RESUME: a source emits each fact of the canonical chain once, whatever restarts, reconnects or
//! reorgs.
//!
//! Judged against the chain's own blocks: every executed claim and every root that was set, by
//! signature and place; none before it is final, none twice, none left out behind a progress that
//! says "complete".

use std::collections::{BTreeMap, BTreeSet};

use semel_schemas::{
    attention::{self, Instruction},
    claim::CLAIM,
    effect::{Commitment, ROOT_OBSERVED},
    header,
    progress::PROGRESS,
    topic::TopicName,
};

use super::{Check, Ledger, News, Scene, kind, number, text, value};
use crate::{
    sim::{options::Options, topic},
    spec::plan::Plan,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Resume {
    input: Option<TopicName>,
    observed: Option<TopicName>,
    source: String,
    from: u64,
    /// Facts of the chain: id → slot.
    facts: BTreeMap<String, u64>,
    emitted: BTreeSet<String>,
    complete: u64,
}

impl Resume {
    pub(super) fn new(options: &Options, plan: &Plan) -> Self {
        let dedupe = plan.stages.iter().find(|(stage, _)| !stage.sources.is_empty());
        Self {
            input: topic(plan, "instructions"),
            observed: topic(plan, "observed"),
            source: dedupe.and_then(|(s, _)| s.sources.first().cloned()).unwrap_or_default(),
            from: options.first_slot(),
            facts: BTreeMap::new(),
            emitted: BTreeSet::new(),
            complete: 0,
        }
    }

    fn chain(&mut self, news: &News) {
        for block in news.blocks.iter().filter(|block| block.slot.0 >= self.from) {
            for transaction in &block.transactions {
                for (place, instruction) in transaction.instructions.iter().enumerate() {
                    let is_fact = matches!(
                        attention::parse(&instruction.data),
                        Ok(Some(Instruction::ClaimWithRing(_) | Instruction::SetMerkleRootRing(_)))
                    );
                    if instruction.program == attention::PROGRAM && is_fact {
                        let id = format!("{}:{place}", transaction.signature);
                        self.facts.insert(id, block.slot.0);
                    }
                }
            }
        }
    }

    fn missing(&self, up_to: u64) -> Option<String> {
        let left = |(id, slot): &(&String, &u64)| **slot <= up_to && !self.emitted.contains(*id);
        let (id, slot) = self.facts.iter().find(left)?;
        Some(format!("fact {id} of slot {slot} was not emitted"))
    }
}

impl Check for Resume {
    fn id(&self) -> &'static str {
        "RESUME"
    }

    fn step(&mut self, scene: &mut Scene<'_>, _: &Ledger, news: &News) -> Result<(), String> {
        self.chain(news);
        let (finalized, _) = scene.chain.height(Commitment::Finalized);
        for record in &news.records {
            let here = Some(&record.topic);
            if here == self.input.as_ref() && kind(record) == PROGRESS {
                let value = value(record);
                if text(&value, "source") == self.source {
                    self.complete = self.complete.max(number(&value, "complete"));
                }
                continue;
            }
            // What people produce has no cause.
            let ours = record.headers.get(header::CAUSE).is_some();
            let claim = here == self.input.as_ref() && kind(record) == CLAIM;
            let root = here == self.observed.as_ref() && kind(record) == ROOT_OBSERVED;
            if !ours || !(claim || root) {
                continue;
            }
            let id = record.id();
            match self.facts.get(&id) {
                None => return Err(format!("the source emits {id}, which is not on the chain")),
                Some(slot) if *slot > finalized => {
                    return Err(format!(
                        "the source emits {id} of slot {slot}, which is not final"
                    ));
                }
                Some(_) if !self.emitted.insert(id.clone()) => {
                    return Err(format!("the source emits {id} twice"));
                }
                Some(_) => {}
            }
        }
        if !scene.sim.hides()
            && let Some(missing) = self.missing(self.complete)
        {
            return Err(format!("{missing}, and the source is complete up to {}", self.complete));
        }
        Ok(())
    }

    fn unfinished(&mut self, scene: &mut Scene<'_>, _: &Ledger) -> Option<String> {
        let (finalized, _) = scene.chain.height(Commitment::Finalized);
        // The newest final blocks may be on their way.
        self.missing(finalized.saturating_sub(3))
    }
}
