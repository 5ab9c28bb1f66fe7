//! The operator against the model chain: effects lost, repeated, late, uncertain; forks, expiry,
//! crashes before and after a commit. Whatever the schedule, the invariants hold after every step;
//! and once the chain is fair, every root ends.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use semel_schemas::solana::Signature;

use super::{chain::Chain, *};
use crate::{
    operator::{EffectRequest, EventTime, StateView, Step, TimerOp},
    testing::MemState,
};

/// What a schedule does to one performance of an effect.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Performed; the answer is lost, so it will be performed again.
    Lost,
    /// Not performed; the answer says nothing.
    Unperformed,
    /// Performed; the answer says nothing.
    Unanswered,
    /// Performed; the answer comes later, perhaps too late.
    Late,
    /// Performed by two processes.
    Twice,
    /// Performed; the process dies before the commit that takes the answer in.
    Crash,
    /// The signer signs something else, the simulation fails.
    Wrong,
}

const FAULTS: [Fault; 12] = [
    Fault::Lost,
    Fault::Unperformed,
    Fault::Unanswered,
    Fault::Late,
    Fault::Twice,
    Fault::Crash,
    Fault::Wrong,
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::None,
    Fault::None,
];

/// A signed transaction that was committed.
struct Signed {
    root_id: String,
    signature: Signature,
    bytes: Vec<u8>,
}

/// The engine's part and the outside, in small.
struct World {
    operator: SettleSolana,
    state: MemState,
    now: u64,
    chain: Chain,
    /// Effects without an outcome: id → (attempt, request).
    pending: BTreeMap<String, (u64, EffectRequest)>,
    attempts: u64,
    timers: BTreeMap<String, u64>,
    /// Answers under way: (id, attempt, outcome).
    late: Vec<(String, u64, Outcome)>,
    steps: u64,
    rows: BTreeMap<String, Settlement>,
    handed_on: Vec<String>,
    signed: Vec<Signed>,
    /// Wrong answers left: few enough that no root is given up for them.
    wrongs: u32,
    /// A node that calls everything expired.
    lying: bool,
    violations: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self {
            operator: SettleSolana::new(settings()).unwrap(),
            state: MemState::default(),
            now: 1_000_000,
            chain: Chain::new(),
            pending: BTreeMap::new(),
            attempts: 0,
            timers: BTreeMap::new(),
            late: vec![],
            steps: 0,
            rows: BTreeMap::new(),
            handed_on: vec![],
            signed: vec![],
            wrongs: 2,
            lying: false,
            violations: vec![],
        }
    }

    fn compute(&self, input: Input, cause: &str) -> Step {
        let now = WallTime(self.now);
        let mut ctx = Context::new(&self.state, now, EventTime::default(), cause, "settle");
        self.operator.apply(&mut ctx, input).unwrap();
        ctx.finish()
    }

    /// One step, committed. (A crash before the commit is a step that was computed and forgotten:
    /// the step is computed twice, and both must be the same.)
    fn commit(&mut self, input: Input) {
        self.steps += 1;
        let cause = match &input {
            Input::Record(record) => record.id.clone(),
            _ => format!("step-{}", self.steps),
        };
        let step = self.compute(input.clone(), &cause);
        if step != self.compute(input.clone(), &cause) {
            self.violations.push(format!("not deterministic: {input:?}"));
        }
        match &input {
            Input::Timer { key, .. } => drop(self.timers.remove(&key.name)),
            Input::Outcome { id, .. } => drop(self.pending.remove(id)),
            _ => {}
        }
        self.state.apply(&step);
        for op in step.timers {
            match op {
                TimerOp::Set { key, at, .. } => drop(self.timers.insert(key.name, at)),
                TimerOp::Cancel(key) => drop(self.timers.remove(&key.name)),
            }
        }
        for id in step.forget {
            self.pending.remove(&id);
        }
        for request in step.effects {
            self.attempts += 1;
            self.pending.insert(request.id.clone(), (self.attempts, request));
        }
        for emit in step.emits {
            let Some(value) = emit.record.value.filter(|_| emit.record.kind == SETTLEMENT) else {
                continue;
            };
            let row: Settlement = codec::decode(SETTLEMENT, &value).unwrap();
            match emit.to {
                To::Next => self.handed_on.push(row.root_id),
                To::Output(_) => drop(self.rows.insert(row.settlement_id.clone(), row)),
            }
        }
        self.check_intent();
    }

    fn entries(&self) -> Vec<Entry> {
        self.state
            .scan(ROOTS, b"", b"", usize::MAX)
            .into_iter()
            .map(|(_, value)| serde_json::from_slice(&value).unwrap())
            .collect()
    }

    /// INTENT: when a second transaction of a root is in the state, no first one may land any more.
    fn check_intent(&mut self) {
        for entry in self.entries() {
            let State::Committed(committed) = entry.state else { continue };
            let known = |s: &&Signed| s.signature == committed.signature;
            if self.signed.iter().any(|s| known(&s)) {
                continue;
            }
            let root_id = entry.root.root_id;
            for earlier in self.signed.iter().filter(|s| s.root_id == root_id) {
                if self.chain.may_land(&earlier.bytes)
                    || self.chain.ended(&earlier.signature) == Some(true)
                {
                    self.violations.push(format!("INTENT: {root_id} has two live transactions"));
                }
            }
            let (signature, bytes) = (committed.signature, committed.bytes.0);
            self.signed.push(Signed { root_id, signature, bytes });
        }
    }

    fn perform(&mut self, effect: &Effect, lag: u64, fault: Fault) -> Outcome {
        let wrong = fault == Fault::Wrong && self.wrongs > 0;
        match effect {
            Effect::SolanaAccount { address, min_context_slot, .. } => {
                self.chain.account(address, lag, *min_context_slot)
            }
            Effect::SolanaPrepare { message, .. } => match self.chain.prepare(&message.0) {
                Outcome::Prepared { blockhash, last_valid_block_height, unit_price, .. }
                    if wrong =>
                {
                    self.wrongs -= 1;
                    let simulated = Err("6005".into());
                    Outcome::Prepared { blockhash, last_valid_block_height, simulated, unit_price }
                }
                outcome => outcome,
            },
            Effect::Sign { payload, .. } => {
                let semel_schemas::effect::Payload::SolanaMessage { message } = payload;
                let mut signature: [u8; 64] = keypair().sign_message(&message.0).into();
                if wrong {
                    self.wrongs -= 1;
                    signature[0] ^= 1;
                }
                Outcome::Signed { signature: Signature(signature) }
            }
            Effect::SolanaBroadcast { transaction, .. } => {
                if !self.signed.iter().any(|s| s.bytes == transaction.0) {
                    self.violations.push("COMMIT-FIRST: bytes sent that were not committed".into());
                }
                self.chain.send(&transaction.0)
            }
            Effect::SolanaStatus { signature, min_context_slot, .. } => {
                if self.lying {
                    return Outcome::Status {
                        context_slot: semel_schemas::time::Slot(0),
                        finalized_height: semel_schemas::time::BlockHeight(u64::MAX / 4),
                        found: None,
                    };
                }
                self.chain.status(signature, lag, *min_context_slot)
            }
            Effect::FetchSolana { .. } | Effect::ReadFile { .. } => {
                panic!("this operator fetches nothing")
            }
        }
    }

    /// Performs the `index`-th pending effect.
    fn act(&mut self, index: usize, lag: u64, fault: Fault) {
        let count = self.pending.len().max(1);
        let Some((id, (attempt, request))) = self.pending.iter().nth(index % count) else { return };
        let (id, attempt, effect) = (id.clone(), *attempt, request.effect.clone());
        let unknown = || Outcome::Uncertain { text: "timed out".into() };
        let outcome = match fault {
            Fault::Unperformed => unknown(),
            Fault::Unanswered => {
                self.perform(&effect, lag, fault);
                unknown()
            }
            Fault::Twice => {
                self.perform(&effect, lag, fault);
                self.perform(&effect, 0, fault)
            }
            _ => self.perform(&effect, lag, fault),
        };
        match fault {
            Fault::Lost => {}
            Fault::Late => self.late.push((id, attempt, outcome)),
            Fault::Crash => {
                // The step is computed, and nothing of it is kept; what was under way is lost.
                drop(self.compute(Input::Outcome { id, outcome }, "crash"));
                self.late.clear();
            }
            _ => self.commit(Input::Outcome { id, outcome }),
        }
    }

    /// A late answer counts only if its attempt is still pending.
    fn deliver(&mut self, index: usize) {
        if self.late.is_empty() {
            return;
        }
        let (id, attempt, outcome) = self.late.swap_remove(index % self.late.len());
        if self.pending.get(&id).is_some_and(|(pending, _)| *pending == attempt) {
            self.commit(Input::Outcome { id, outcome });
        }
    }

    fn fire_due(&mut self) {
        while let Some(name) =
            self.timers.iter().filter(|(_, at)| **at <= self.now).map(|(n, _)| n.clone()).next()
        {
            self.commit(Input::Timer { key: TimerKey::wall(name), payload: vec![] });
        }
    }

    fn pass(&mut self, blocks: u64, choose: u8) {
        for _ in 0..blocks {
            self.now += 400;
            self.chain.grow(choose);
        }
        self.fire_due();
    }

    /// Faults are over: everything is performed, every block takes everything.
    fn fair(&mut self) -> bool {
        for _ in 0..1_500 {
            for _ in 0..self.pending.len() {
                self.act(0, 0, Fault::None);
            }
            self.pass(1, 0xff);
            let over = |e: &Entry| matches!(e.state, State::Settled(_) | State::Failed(_));
            if self.pending.is_empty() && self.entries().iter().all(over) {
                return true;
            }
        }
        false
    }

    /// What must be true of each root at the end.
    fn check_end(&mut self, roots: &[RootRecord]) {
        let entries = self.entries();
        if entries.len() != roots.len() {
            self.violations.push("ONCE: a root is missing".into());
        }
        for Entry { root, state } in entries {
            let id = &root.root_id;
            let target = Target::of(&root, &self.operator.settings).unwrap();
            let epoch = root.epoch.0;
            let there = self.chain.ever_held(&target.channel, epoch, &target.root);
            let (held_epoch, held_root) = self.chain.held(&target.channel, epoch);
            let blocked = held_epoch > epoch || (held_epoch == epoch && held_root != target.root);
            let rows: Vec<_> = self.rows.values().filter(|row| row.root_id == *id).collect();
            let confirmed = rows.iter().filter(|r| r.status == SettlementStatus::Confirmed).count();
            let handed_on = self.handed_on.iter().filter(|r| *r == id).count();
            let settled = matches!(state, State::Settled(_));
            let landed = self
                .signed
                .iter()
                .filter(|s| s.root_id == *id && self.chain.ended(&s.signature) == Some(true))
                .count();
            let facts = format!(
                "{id}: settled {settled}, on chain {there}, blocked {blocked}, {confirmed} \
                 confirmed rows, {handed_on} handed on, {landed} of ours landed"
            );
            let right = landed <= 1
                && if settled {
                    there && confirmed == 1 && handed_on == 1
                } else {
                    blocked && landed == 0 && confirmed == 0 && handed_on == 0
                };
            let open = rows.iter().any(|r| r.status == SettlementStatus::PendingConfirmation);
            if !right || open || rows.is_empty() {
                self.violations.push(format!("ONCE: {facts}, row left open {open}"));
            }
        }
    }
}

/// Two channels; epochs 1 and 10 share a slot of the ring.
fn roots() -> Vec<RootRecord> {
    vec![root("a", 1, 1), root("a", 2, 2), root("a", 10, 3), root("b", 1, 4), root("b", 10, 5)]
}

fn run(order: &[usize], script: &[(u8, u8, u8)], foreign: bool) -> World {
    let mut world = World::new();
    let roots = roots();
    let mut inputs: Vec<_> = order.iter().map(|i| root_input(&roots[*i])).collect();
    for (op, a, b) in script.iter().copied() {
        match op % 16 {
            0..=5 => {
                let fault = FAULTS[usize::from(b) % FAULTS.len()];
                world.act(usize::from(a), u64::from(b / 32), fault);
            }
            6..=9 => world.pass(u64::from(a % 8), b),
            10 => world.deliver(usize::from(a)),
            11 => world.chain.fork(u64::from(a % 8)),
            12 if a % 4 == 0 => world.chain.forget(),
            12 => world.late.clear(),
            13 if foreign => {
                let root = &roots[usize::from(a) % roots.len()];
                let target = Target::of(root, &world.operator.settings).unwrap();
                // The same root, another one, or a newer epoch in its place.
                let (epoch, bytes) = match b % 3 {
                    0 => (target.epoch, target.root),
                    1 => (target.epoch, [0x77; 32]),
                    _ => (target.epoch + 18, [0x88; 32]),
                };
                world.chain.foreign(target.channel, epoch, bytes);
            }
            _ => {
                if let Some(input) = inputs.pop() {
                    world.commit(input.clone());
                    // A record that comes again changes nothing.
                    world.commit(input);
                }
            }
        }
    }
    for input in inputs {
        world.commit(input);
    }
    world.late.clear();
    if !world.fair() {
        let states: BTreeSet<_> =
            world.entries().iter().map(|e| format!("{:?}", e.state)).collect();
        world.violations.push(format!("the chain is fair, but some roots do not end: {states:?}"));
    }
    world.check_end(&roots);
    world
}

fn order() -> impl Strategy<Value = Vec<usize>> {
    Just((0..roots().len()).collect::<Vec<_>>()).prop_shuffle()
}

proptest! {
    /// INTENT, COMMIT-FIRST, ONCE under every schedule.
    #[test]
    fn no_schedule_settles_a_root_twice_or_never(
        order in order(),
        script in prop::collection::vec(any::<(u8, u8, u8)>(), 0..220),
        foreign in any::<bool>(),
    ) {
        let world = run(&order, &script, foreign);
        prop_assert_eq!(&world.violations, &Vec::<String>::new());
    }
}

#[test]
fn on_a_fair_chain_every_root_settles_with_its_first_transaction() {
    // Popped from the end: epochs come in ascending order.
    let world = run(&[4, 3, 2, 1, 0], &[(15, 0, 0); 5], false);
    assert_eq!(world.violations, Vec::<String>::new());
    assert_eq!(world.signed.len(), 5);
    let rows: Vec<_> = world.rows.keys().map(String::as_str).collect();
    assert_eq!(rows, ["a:1#1", "a:10#1", "a:2#1", "b:1#1", "b:10#1"]);
    assert!(world.rows.values().all(|row| row.tx_signature.is_some()));
}

#[test]
fn an_expired_transaction_is_sent_until_it_is_dead_and_then_replaced_once() {
    let mut world = World::new();
    world.commit(root_input(&root("a", 1, 1)));
    let mut sent = BTreeMap::<Vec<u8>, u32>::new();
    // Nobody takes it: 12 blocks of life, 6 to finality, 2 s between two looks.
    while world.rows.len() < 2 {
        for (_, request) in world.pending.values() {
            if let Effect::SolanaBroadcast { transaction, .. } = &request.effect {
                *sent.entry(transaction.0.clone()).or_default() += 1;
            }
        }
        for _ in 0..world.pending.len() {
            world.act(0, 0, Fault::None);
        }
        world.pass(1, 0);
        assert!(world.now < 1_100_000, "it never became dead");
    }
    let [first, second] = &world.signed[..] else { panic!("two attempts, one after another") };
    assert!(sent[&first.bytes] >= 3, "sent again: {sent:?}");
    assert_ne!(first.bytes, second.bytes);
    assert!(world.fair());
    world.check_end(&[root("a", 1, 1)]);
    assert_eq!(world.violations, Vec::<String>::new());
    let rows: Vec<_> = world.rows.values().map(|r| (r.settlement_id.as_str(), r.status)).collect();
    assert_eq!(rows, [("a:1#1", SettlementStatus::Failed), ("a:1#2", SettlementStatus::Confirmed)]);
}

/// The checker sees what it is there to see: a node that calls a live transaction dead makes two.
#[test]
fn a_lying_node_is_caught_by_the_checker() {
    let mut world = World::new();
    world.commit(root_input(&root("a", 1, 1)));
    world.lying = true;
    for _ in 0..40 {
        for _ in 0..world.pending.len() {
            world.act(0, 0, Fault::None);
        }
        // Blocks come, and leave the transaction in the pool.
        world.pass(1, 0);
    }
    assert!(world.signed.len() > 1, "the lie led to no second transaction");
    assert!(world.violations.iter().any(|v| v.starts_with("INTENT")), "{:?}", world.violations);
}
