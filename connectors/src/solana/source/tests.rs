//! The source against a scripted node: what is skipped, missing, reorganised, late.

use semel_schemas::{attention::PROGRAM, solana::Blockhash};

use super::*;
use crate::solana::scripted::{Scripted, block, hash};

const IMPATIENT: Pace = Pace {
    wait: Duration::ZERO,
    poll: Duration::from_millis(1),
    budget: Duration::from_secs(60),
    facts_max: 1000,
};

fn asked(cursor: Option<SolanaCursor>, from_slot: u64, max_blocks: u32) -> Fetch<'static> {
    Fetch { cursor, from_slot: Slot(from_slot), max_blocks, program: &PROGRAM }
}

/// The slots of the claims, the cursor's slot and `complete` of an answer with blocks.
fn must_blocks(outcome: Outcome) -> (Vec<u64>, Option<SolanaCursor>, u64) {
    let Outcome::Blocks { facts, cursor, complete, finalized, at } = outcome else {
        panic!("not blocks: {outcome:?}");
    };
    assert_eq!(complete, finalized, "facts are taken at finalized");
    if let Some(cursor) = cursor {
        assert_eq!(cursor.slot, complete);
        assert_eq!(at.0, (1_700_000_000 + cursor.slot.0) * 1000);
    }
    let slots = facts.iter().map(|fact| match fact {
        SolanaFact::Claim(claim) => claim.slot.0,
        other => panic!("not a claim: {other:?}"),
    });
    (slots.collect(), cursor, complete.0)
}

fn must_uncertain(outcome: Outcome) -> String {
    match outcome {
        Outcome::Uncertain { text } => text,
        other => panic!("not uncertain: {other:?}"),
    }
}

#[tokio::test]
async fn each_fact_of_the_chain_comes_once_when_resumed_at_every_cursor() {
    let slots = [1, 2, 3, 7, 8, 50, 51, 300];
    let node = Scripted::chain(&slots);
    for max_blocks in [0, 1, 2, 3, 100] {
        assert_eq!(must_drain(&node, None, max_blocks).await, slots, "{max_blocks} at a time");
    }
    for (i, slot) in slots.iter().enumerate() {
        let cursor = Some(node.must_cursor(*slot));
        let seen = must_drain(&node, cursor, 100).await;
        assert_eq!(seen, slots[i + 1..], "resumed at slot {slot}");
    }
}

/// Fetches until there is nothing new; the slots of the claims.
async fn must_drain(
    node: &Scripted,
    mut cursor: Option<SolanaCursor>,
    max_blocks: u32,
) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        let answer = fetch(node, asked(cursor, 0, max_blocks), IMPATIENT).await;
        let (facts, next, complete) = must_blocks(answer);
        seen.extend(facts);
        if next.is_none() {
            assert_eq!(complete, 300);
            return seen;
        }
        cursor = next;
    }
}

#[tokio::test]
async fn a_start_in_the_middle_begins_with_the_first_block_from_there() {
    let node = Scripted::chain(&[1, 2, 3, 7, 8]);
    for (from, want) in [(0, vec![1, 2, 3, 7, 8]), (4, vec![7, 8]), (7, vec![7, 8]), (8, vec![8])] {
        let (facts, ..) = must_blocks(fetch(&node, asked(None, from, 100), IMPATIENT).await);
        assert_eq!(facts, want, "from {from}");
    }
    let (facts, cursor, complete) = must_blocks(fetch(&node, asked(None, 9, 9), IMPATIENT).await);
    assert_eq!((facts, cursor, complete), (vec![], None, 8));
}

#[tokio::test]
async fn a_long_run_of_skipped_slots_is_crossed_and_costs_few_questions() {
    let node = Scripted::chain(&[1, 400_000]);
    let resumed = asked(Some(node.must_cursor(1)), 0, 1);
    let (facts, ..) = must_blocks(fetch(&node, resumed, IMPATIENT).await);
    assert_eq!(facts, [400_000]);
    let spans = node.must_change().spans.clone();
    assert!(spans.len() < 10, "{spans:?}");
    let mut next = 2;
    for (start, end) in spans {
        assert_eq!(start, next, "no slot is left out");
        assert!(end - start < SPAN_MAX);
        next = end + 1;
    }
}

#[tokio::test]
async fn a_block_that_the_node_does_not_list_is_no_skipped_slot() {
    let node = Scripted::chain(&[1, 2, 3, 4]);
    node.must_change().unlisted.insert(3);
    let (facts, cursor, complete) = must_blocks(fetch(&node, asked(None, 0, 100), IMPATIENT).await);
    assert_eq!((facts, complete), (vec![1, 2], 2), "up to the gap, and not beyond");
    let text = must_uncertain(fetch(&node, asked(cursor, 0, 100), IMPATIENT).await);
    assert!(text.contains("after slot 2 is 4") && text.contains("block 3"), "{text}");
    let text = must_uncertain(fetch(&node, asked(None, 3, 100), IMPATIENT).await);
    assert!(text.contains("start at a later slot"), "{text}");

    node.must_change().unlisted.clear();
    let (facts, ..) = must_blocks(fetch(&node, asked(cursor, 0, 100), IMPATIENT).await);
    assert_eq!(facts, [3, 4]);
}

#[tokio::test]
async fn not_here_is_uncertain_and_what_was_proved_before_it_is_answered() {
    let node = Scripted::chain(&[1, 2, 3]);
    node.must_change().not_here.insert(2);
    let (facts, cursor, _) = must_blocks(fetch(&node, asked(None, 0, 100), IMPATIENT).await);
    assert_eq!(facts, [1]);
    let text = must_uncertain(fetch(&node, asked(cursor, 0, 100), IMPATIENT).await);
    assert!(text.contains("slot 2 is not at this node"), "{text}");
}

#[tokio::test]
async fn a_block_on_another_one_than_the_cursors_is_a_discontinuity() {
    let node = Scripted::chain(&[1, 2, 3]);
    let elsewhere = SolanaCursor { slot: Slot(2), blockhash: Blockhash([8; 32]) };
    let not_in_chain = SolanaCursor { slot: Slot(2), blockhash: hash(2, 1) };
    for cursor in [elsewhere, not_in_chain] {
        let outcome = fetch(&node, asked(Some(cursor), 0, 100), IMPATIENT).await;
        let Outcome::Discontinuity { text } = outcome else { panic!("{outcome:?}") };
        assert!(text.contains(&cursor.blockhash.to_string()), "{text}");
        assert!(text.contains(&hash(2, 0).to_string()), "{text}");
    }
    // The chain goes on from slot 1 over slot 3: the cursor's block is not in it.
    node.must_change().blocks.insert(3, block(3, (1, hash(1, 0)), 1));
    let outcome = fetch(&node, asked(Some(node.must_cursor(2)), 0, 100), IMPATIENT).await;
    assert!(matches!(outcome, Outcome::Discontinuity { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_reorganisation_within_one_answer_ends_the_answer_before_it() {
    let node = Scripted::chain(&[1, 2]);
    node.must_change().blocks.insert(3, block(3, (2, hash(2, 1)), 1));
    node.must_change().finalized = [3].into();
    let (facts, cursor, complete) = must_blocks(fetch(&node, asked(None, 0, 100), IMPATIENT).await);
    assert_eq!((facts, complete), (vec![1, 2], 2));
    let outcome = fetch(&node, asked(cursor, 0, 100), IMPATIENT).await;
    assert!(matches!(outcome, Outcome::Discontinuity { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_node_that_lags_behind_the_cursor_is_uncertain() {
    let node = Scripted::chain(&[1, 2, 3]);
    let cursor = node.must_cursor(3);
    node.must_change().finalized = [2].into();
    let text = must_uncertain(fetch(&node, asked(Some(cursor), 0, 100), IMPATIENT).await);
    assert!(text.contains("finalized slot 2") && text.contains("slot 3"), "{text}");
}

#[tokio::test]
async fn only_finalized_blocks_are_read() {
    let node = Scripted::chain(&[1, 2, 3]);
    node.must_change().finalized = [2].into();
    let (facts, ..) = must_blocks(fetch(&node, asked(None, 0, 100), IMPATIENT).await);
    assert_eq!(facts, [1, 2]);
}

#[tokio::test]
async fn it_waits_for_a_new_block_until_there_is_one_and_no_longer() {
    let node = Scripted::chain(&[1, 2]);
    // Were this wait to run to its end, the test would hang.
    let patient = Pace { wait: Duration::from_secs(3600), ..IMPATIENT };
    node.must_change().finalized = [1, 1, 1, 2].into();
    let resumed = asked(Some(node.must_cursor(1)), 0, 100);
    let (facts, ..) = must_blocks(fetch(&node, resumed, patient).await);
    assert_eq!(facts, [2]);

    let resumed = asked(Some(node.must_cursor(2)), 0, 100);
    let brief = Pace { wait: Duration::from_millis(30), ..IMPATIENT };
    let before = Instant::now();
    let (facts, cursor, complete) = must_blocks(fetch(&node, resumed, brief).await);
    assert_eq!((facts, cursor, complete), (vec![], None, 2));
    assert!(before.elapsed() >= brief.wait);
}

#[tokio::test]
async fn an_answer_is_bounded_by_facts_and_time_but_always_moves() {
    let node = Scripted::chain(&[1, 2, 3, 4]);
    let few = Pace { facts_max: 2, ..IMPATIENT };
    let (facts, ..) = must_blocks(fetch(&node, asked(None, 0, 100), few).await);
    assert_eq!(facts, [1, 2]);
    let hurried = Pace { budget: Duration::ZERO, ..IMPATIENT };
    let (facts, ..) = must_blocks(fetch(&node, asked(None, 0, 100), hurried).await);
    assert_eq!(facts, [1]);
}

#[tokio::test]
async fn a_node_that_is_away_or_answers_another_block_is_uncertain() {
    let node = Scripted::chain(&[1, 2]);
    node.must_change().away = Some("127.0.0.1:1 cannot be asked".into());
    let text = must_uncertain(fetch(&node, asked(None, 0, 100), IMPATIENT).await);
    assert!(text.contains("cannot be asked"), "{text}");
    node.must_change().away = None;
    let two = node.must_change().blocks[&2].clone();
    node.must_change().blocks.insert(1, two);
    let text = must_uncertain(fetch(&node, asked(None, 0, 100), IMPATIENT).await);
    assert!(text.contains("block 2 for block 1"), "{text}");
}
