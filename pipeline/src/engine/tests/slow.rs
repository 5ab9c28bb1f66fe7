//! Slow work: an operator that takes its time must not keep its lane from the log.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use semel_operators::operator::{Context, Input, Operator, StoreDecl};
use semel_schemas::{fault::Fault, sabotage::Sabotage};

use super::{
    toys::{Look, Toy},
    traps::both,
};
use crate::testing::{Driver, plain_stage};

/// Milliseconds that each input takes.
const COST_MS: u64 = 50;
const RECORDS: usize = 1_000;

/// The toy, and how many inputs it has worked.
#[derive(Debug)]
struct Slow(Arc<AtomicU64>);

impl Operator for Slow {
    fn name(&self) -> &'static str {
        Toy::PLAIN.name()
    }
    fn stores(&self) -> &'static [StoreDecl] {
        Toy::PLAIN.stores()
    }
    fn takes(&self, kind: &str) -> bool {
        Toy::PLAIN.takes(kind)
    }
    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Toy::PLAIN.apply(ctx, input)
    }
}

/// A backlog that takes many times longer than a member may be silent, and time that passes as it
/// is worked. Returns how many outputs are committed in twice that time, and for how long the lane
/// did not poll at most.
fn backlog() -> (usize, u64) {
    let worked = Arc::new(AtomicU64::new(0));
    let slow = Arc::new(Slow(worked.clone()));
    let stage = plain_stage("t", "s", ("in", "out"), 1, vec![slow]).unwrap();
    let mut driver = Driver::of_stages(vec![Arc::new(stage)]).unwrap();
    driver.run();
    for _ in 0..RECORDS {
        driver.give("a", "add");
    }
    let lane = driver.lane_of("s").unwrap();
    let end = driver.now().plus_ms(2 * COST_MS * RECORDS as u64);
    let mut silent = 0;
    while driver.now() < end {
        let before = worked.load(Ordering::Relaxed);
        driver.step(lane).unwrap();
        let took = COST_MS * (worked.load(Ordering::Relaxed) - before);
        silent = silent.max(took);
        driver.skip(took.max(1));
    }
    (driver.outs().len(), silent)
}

#[test]
fn trap_21_slow_work_keeps_no_lane_from_polling_and_is_committed_as_it_goes() {
    let [with, without] = both(Sabotage::SlowWorkStopsPolls, backlog);
    assert_eq!(with.0, RECORDS, "{with:?}");
    assert!(with.1 < 6_000, "less than a session: {with:?}");
    assert_eq!(without.0, 0, "worked whole, taken back, and begun again: {without:?}");
}
