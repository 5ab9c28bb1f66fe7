//! When tasks of stages were started, and by whom: what was there before is worked up before timers
//! of the wall clock fire.
//!
//! Lives here: that record, for the checkers. May not live here: what a lane makes of it. Invariants:
//! steps are numbered as they begin, so that what was seen after a step is there for every later one;
//! a task that goes and comes back within one step counts as one that stayed.

use std::collections::BTreeMap;

use semel_schemas::topic::{Partition, TopicName};

use crate::engine::topology::TopicRef;

/// A task in a lane.
#[derive(Clone, Copy, Debug)]
struct Span {
    partition: Partition,
    /// The step that started it.
    step: u64,
    /// From when to when, milliseconds; still there if there is no end.
    from_ms: u64,
    to_ms: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// The steps that have begun.
    pub(super) step: u64,
    /// Seat → its input, and its tasks in the order in which they were started.
    seats: BTreeMap<usize, (TopicName, Vec<Span>)>,
}

impl Starts {
    /// After a step of a seat: which of its tasks are active.
    pub(super) fn look(
        &mut self,
        (seat, step): (usize, u64),
        input: &TopicRef,
        now_ms: u64,
        is_active: impl Fn(Partition) -> bool,
    ) {
        let new = || (input.name.clone(), Vec::new());
        let (_, spans) = self.seats.entry(seat).or_insert_with(new);
        for partition in (0..input.partitions).map(Partition) {
            let mut open = spans.iter_mut().rev().filter(|span| span.partition == partition);
            let open = open.next().filter(|span| span.to_ms.is_none());
            match (open, is_active(partition)) {
                (None, true) => {
                    spans.push(Span { partition, step, from_ms: now_ms, to_ms: None });
                }
                (Some(span), false) => span.to_ms = Some(now_ms),
                (None, false) | (Some(_), true) => {}
            }
        }
    }

    /// The lane of a seat is gone.
    pub(super) fn gone(&mut self, seat: usize, now_ms: u64) {
        if let Some((_, spans)) = self.seats.get_mut(&seat) {
            for span in spans.iter_mut().filter(|span| span.to_ms.is_none()) {
                span.to_ms = Some(now_ms);
            }
        }
    }

    /// Whether what was seen after step `seen` was there before every task was started that can have
    /// written something at `at_ms`.
    pub(super) fn follow(
        &self,
        (input, partition): (&TopicName, Partition),
        seen: u64,
        at_ms: u64,
    ) -> bool {
        let seats = self.seats.values().filter(|(topic, _)| topic == input);
        let spans = seats.flat_map(|(_, spans)| spans).filter(|span| span.partition == partition);
        let there = |span: &&Span| span.from_ms <= at_ms && span.to_ms.is_none_or(|to| at_ms <= to);
        let mut writers = spans.filter(there).peekable();
        writers.peek().is_some() && writers.all(|span| span.step > seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_before_all_tasks_that_may_have_written() {
        let input = TopicRef { name: TopicName::new("in").unwrap(), partitions: 1 };
        let mut starts = Starts::default();
        let follow =
            |starts: &Starts, seen, at_ms| starts.follow((&input.name, Partition(0)), seen, at_ms);
        assert!(!follow(&starts, 0, 10), "nobody can have written");
        starts.look((0, 3), &input, 10, |_| true);
        starts.look((0, 4), &input, 20, |_| true);
        assert!(follow(&starts, 2, 30));
        assert!(!follow(&starts, 3, 30), "it came after the start");
        starts.look((0, 9), &input, 40, |_| false);
        starts.look((1, 12), &input, 50, |_| true);
        assert!(follow(&starts, 11, 50), "the first one is gone");
        assert!(!follow(&starts, 11, 40), "the first one was there");
        starts.gone(1, 60);
        assert!(!follow(&starts, 11, 70), "nobody can have written");
    }
}
