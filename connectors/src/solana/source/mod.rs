//! Blocks after a cursor → facts, with continuity proved. Keeps nothing: the cursor comes in and
//! goes out.
//!
//! Facts are taken at `finalized`, so an answer's `complete` and `finalized` are the same slot:
//! the last block's. A block is taken only if it follows the one before it, by parent slot *and*
//! by hash; so a slot counts as skipped only when the next block's parent proves it, whatever the
//! node says or does not say about it. What is proved before something fails is answered; the
//! failure is met again by the next question, at its head.
//!
//! - the next block stands on another block than the cursor's → [`Outcome::Discontinuity`];
//! - the node lacks a block on the way, lags, is away → [`Outcome::Uncertain`], nothing lost.

use std::time::Duration;

use semel_schemas::{
    effect::{Commitment, Outcome},
    solana::{Address, SolanaCursor},
    time::{Slot, WallTime},
};
use tokio::time::Instant;

use super::{
    decode::{self, SolanaFact},
    node::{Block, NodeError, SolanaNode},
};

/// Most slots that one getBlocks may span (the limit of Solana's RPC).
const SPAN_MAX: u64 = 500_000;
/// Fewest slots that one getBlocks spans, so that a run of skipped slots costs few questions.
const SPAN_MIN: u64 = 32;

/// What is asked for: the fields of `Effect::FetchSolana`.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// Last block already taken; none: start at `from_slot`.
    pub cursor: Option<SolanaCursor>,
    /// Where to start without a cursor.
    pub from_slot: Slot,
    /// At most this many blocks (0 counts as 1).
    pub max_blocks: u32,
    /// The program whose instructions are facts.
    pub program: &'a Address,
}

/// How long a fetch may take, and how large its answer may become.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long to wait for a new block before answering "nothing new"; about half a slot.
    pub wait: Duration,
    /// How often to look meanwhile.
    pub poll: Duration,
    /// No further block is asked for after this time: what is there is answered.
    pub budget: Duration,
    /// No further block is asked for beyond this many facts.
    pub facts_max: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(200),
            poll: Duration::from_millis(50),
            budget: Duration::from_secs(5),
            facts_max: 5_000,
        }
    }
}

/// Why a block was not taken.
enum Stop {
    Uncertain(String),
    Discontinuity(String),
}

impl From<NodeError> for Stop {
    fn from(error: NodeError) -> Self {
        Self::Uncertain(error.to_string())
    }
}

impl From<Stop> for Outcome {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Uncertain(text) => Self::Uncertain { text },
            Stop::Discontinuity(text) => Self::Discontinuity { text },
        }
    }
}

/// Reads the blocks after the cursor: [`Outcome::Blocks`], [`Outcome::Discontinuity`] or
/// [`Outcome::Uncertain`].
pub async fn fetch(node: &dyn SolanaNode, fetch: Fetch<'_>, pace: Pace) -> Outcome {
    match listing(node, fetch, pace).await {
        Ok(slots) if slots.is_empty() => nothing_new(fetch),
        Ok(slots) => take(node, fetch, pace, &slots).await,
        Err(stop) => stop.into(),
    }
}

impl Fetch<'_> {
    /// First slot that was not read yet.
    fn next_slot(&self) -> Slot {
        match self.cursor {
            Some(cursor) => Slot(cursor.slot.0.saturating_add(1)),
            None => self.from_slot,
        }
    }

    fn max_blocks(&self) -> usize {
        usize::try_from(self.max_blocks.max(1)).unwrap_or(usize::MAX)
    }
}

/// The next slots that hold a block, at least one unless there is no new one in time.
async fn listing(node: &dyn SolanaNode, fetch: Fetch<'_>, pace: Pace) -> Result<Vec<Slot>, Stop> {
    let start = fetch.next_slot();
    let deadline = Instant::now() + pace.wait;
    loop {
        let finalized = node.slot(Commitment::Finalized).await?;
        if finalized >= start {
            let slots = first_blocks(node, start, finalized, fetch.max_blocks()).await?;
            if !slots.is_empty() {
                return Ok(slots);
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match fetch.cursor {
            _ if !left.is_zero() => tokio::time::sleep(pace.poll.min(left)).await,
            Some(cursor) if finalized < cursor.slot => {
                return Err(Stop::Uncertain(format!(
                    "the node has finalized slot {finalized}, but slot {} was read from this \
                     chain before: it lags, or it is a node of another chain",
                    cursor.slot
                )));
            }
            _ => return Ok(Vec::new()),
        }
    }
}

/// The first blocks from `start` on, in spans that grow over a run of skipped slots.
async fn first_blocks(
    node: &dyn SolanaNode,
    start: Slot,
    finalized: Slot,
    max_blocks: usize,
) -> Result<Vec<Slot>, NodeError> {
    let mut from = start;
    let mut span = u64::try_from(max_blocks).unwrap_or(SPAN_MAX).clamp(SPAN_MIN, SPAN_MAX);
    while from <= finalized {
        let end = Slot(from.0.saturating_add(span - 1).min(finalized.0));
        let mut slots = node.blocks(from, end, Commitment::Finalized).await?;
        slots.truncate(max_blocks);
        if !slots.is_empty() || end == finalized {
            return Ok(slots);
        }
        from = Slot(end.0 + 1);
        span = (span * 4).min(SPAN_MAX);
    }
    Ok(Vec::new())
}

/// Takes the listed blocks one after the other, until one does not follow.
async fn take(node: &dyn SolanaNode, fetch: Fetch<'_>, pace: Pace, slots: &[Slot]) -> Outcome {
    let deadline = Instant::now() + pace.budget;
    let mut facts: Vec<SolanaFact> = Vec::new();
    let mut cursor = fetch.cursor;
    let mut at = None;
    for slot in slots {
        let full = facts.len() >= pace.facts_max || Instant::now() >= deadline;
        if at.is_some() && full {
            break;
        }
        match next_block(node, *slot, cursor, fetch.from_slot).await {
            Ok(block) => {
                facts.extend(decode::facts(&block, fetch.program));
                cursor = Some(SolanaCursor { slot: block.slot, blockhash: block.blockhash });
                at = Some(WallTime(block.time.unwrap_or(0).saturating_mul(1000)));
            }
            Err(stop) if at.is_none() => return stop.into(),
            Err(_) => break,
        }
    }
    match (cursor, at) {
        (Some(last), Some(at)) => Outcome::Blocks {
            facts,
            cursor: Some(last),
            complete: last.slot,
            finalized: last.slot,
            at,
        },
        _ => nothing_new(fetch),
    }
}

/// One block, proved to be the one after the cursor.
async fn next_block(
    node: &dyn SolanaNode,
    slot: Slot,
    cursor: Option<SolanaCursor>,
    from_slot: Slot,
) -> Result<Block, Stop> {
    let block = node.block(slot, Commitment::Finalized).await?;
    if block.slot != slot {
        let got = block.slot;
        return Err(Stop::Uncertain(format!("the node answered block {got} for block {slot}")));
    }
    match cursor {
        Some(cursor) => follows(&block, cursor)?,
        None => begins(&block, from_slot)?,
    }
    Ok(block)
}

fn follows(block: &Block, cursor: SolanaCursor) -> Result<(), Stop> {
    if block.parent_slot > cursor.slot {
        return Err(Stop::Uncertain(gap(block, cursor.slot)));
    }
    if block.parent_slot == cursor.slot && block.previous_blockhash == cursor.blockhash {
        return Ok(());
    }
    Err(Stop::Discontinuity(format!(
        "block {} stands on block {} with hash {}, but the last block read is {} with hash {}: \
         the chain was reorganised, or the cursor is of another chain",
        block.slot, block.parent_slot, block.previous_blockhash, cursor.slot, cursor.blockhash
    )))
}

/// Without a cursor: no block from `from_slot` on may lie before the first one that is listed.
/// (The block of slot 0 is the genesis: it holds no transaction, and not every node has it.)
fn begins(block: &Block, from_slot: Slot) -> Result<(), Stop> {
    if block.parent_slot < from_slot || block.parent_slot == Slot(0) {
        return Ok(());
    }
    Err(Stop::Uncertain(gap(block, from_slot)))
}

fn gap(block: &Block, after: Slot) -> String {
    format!(
        "the node's next block after slot {after} is {}, but that one stands on block {}, which \
         the node does not list: ask a node that keeps older blocks, or start at a later slot",
        block.slot, block.parent_slot
    )
}

/// No new block: complete up to where we were.
fn nothing_new(fetch: Fetch<'_>) -> Outcome {
    let complete = match fetch.cursor {
        Some(cursor) => cursor.slot,
        None => Slot(fetch.from_slot.0.saturating_sub(1)),
    };
    Outcome::Blocks {
        facts: Vec::new(),
        cursor: None,
        complete,
        finalized: complete,
        at: WallTime(0),
    }
}

#[cfg(test)]
mod tests;
