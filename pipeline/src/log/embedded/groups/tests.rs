//! Groups as a state machine: balance, stickiness, hand-over, silence.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use semel_schemas::topic::Partition;

use super::{Answer, GroupKey, Groups, MemberId};
use crate::log::{Event, TxnFault};

const SESSION: Duration = Duration::from_secs(10);

struct Scene {
    groups: Groups,
    key: GroupKey,
    now: Instant,
    partitions: u32,
    /// What each member believes to own.
    owned: BTreeMap<MemberId, BTreeSet<Partition>>,
}

impl Scene {
    fn new(partitions: u32) -> Self {
        let key = ("g".to_owned(), 1);
        let owned = BTreeMap::new();
        Self { groups: Groups::default(), key, now: Instant::now(), partitions, owned }
    }

    fn join(&mut self, instance: &str) -> MemberId {
        let id = self.groups.join(&self.key, self.partitions, instance, SESSION, self.now);
        self.owned.insert(id, BTreeSet::new());
        id
    }

    fn events(&mut self, id: MemberId) -> Vec<Event> {
        match self.groups.poll(&self.key, id, self.now) {
            Answer::Events(events) => events,
            Answer::Replaced => panic!("{id} was replaced"),
        }
    }

    /// Polls and does what is asked at once; answers how many partitions were given up.
    fn turn(&mut self, id: MemberId) -> usize {
        let mut gone = 0;
        for event in self.events(id) {
            let owned = self.owned.get_mut(&id).unwrap();
            match event {
                Event::Assigned(partitions) => {
                    assert!(partitions.iter().all(|p| owned.insert(*p)));
                }
                Event::Revoked(partitions) | Event::Lost(partitions) => {
                    assert!(partitions.iter().all(|p| owned.remove(p)), "{partitions:?}");
                    self.groups.release(&self.key, id, &partitions);
                    gone += partitions.len();
                }
                Event::Record(_) | Event::End(_) => unreachable!(),
            }
        }
        gone
    }

    /// Everybody polls until nothing changes; answers how many partitions moved.
    fn settle(&mut self) -> usize {
        let mut moved = 0;
        for _ in 0..10 {
            for id in self.owned.keys().copied().collect::<Vec<_>>() {
                moved += self.turn(id);
            }
        }
        moved
    }

    fn assert_balanced(&self) {
        let sizes: Vec<usize> = self.owned.values().map(BTreeSet::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), self.partitions as usize, "{:?}", self.owned);
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least <= 1, "{:?}", self.owned);
    }

    fn check(&self, id: MemberId, epoch: u64, partition: u32) -> Option<TxnFault> {
        let partitions = [Partition(partition)];
        self.groups.check(&self.key, id, ("a", epoch), &partitions).err().map(|e| e.fault)
    }
}

#[test]
fn only_as_many_partitions_move_as_balance_needs() {
    let mut scene = Scene::new(6);
    scene.join("a");
    assert_eq!(scene.settle(), 0);
    scene.join("b");
    assert_eq!(scene.settle(), 3);
    scene.assert_balanced();
    let third = scene.join("c");
    assert_eq!(scene.settle(), 2);
    scene.assert_balanced();
    let before = scene.owned.clone();
    scene.groups.leave(&scene.key, third);
    scene.owned.remove(&third);
    assert_eq!(scene.settle(), 0, "what the leaver had is spread, nothing else moves");
    scene.assert_balanced();
    assert!(scene.owned.iter().all(|(id, owned)| owned.is_superset(&before[id])));
}

#[test]
fn a_silent_member_loses_its_partitions_only_when_another_polls() {
    let mut scene = Scene::new(1);
    let first = scene.join("a");
    let epoch = scene.groups.init(&scene.key, first, "a").unwrap();
    scene.settle();
    let second = scene.join("b");
    assert_eq!(scene.events(first), [], "with one partition nothing is to be shared");
    scene.now += SESSION + Duration::from_millis(1);
    assert_eq!(scene.check(first, epoch, 0), None, "nobody noticed yet, and nobody has it");
    assert_eq!(scene.turn(second), 0);
    assert_eq!(scene.owned[&second].len(), 1);
    assert_eq!(scene.check(first, epoch, 0), Some(TxnFault::Rebuild));
    assert_eq!(scene.events(first), [Event::Lost(vec![Partition(0)])]);
    assert_eq!(scene.events(first), [], "told once");
    scene.groups.release(&scene.key, first, &[Partition(0)]);
    assert_eq!(scene.events(first), [], "a member again, and the other keeps the partition");
    assert_eq!(scene.check(first, epoch, 0), Some(TxnFault::Abort));
}

#[test]
fn a_member_that_polls_late_but_before_anybody_noticed_keeps_its_partitions() {
    let mut scene = Scene::new(2);
    let first = scene.join("a");
    scene.settle();
    scene.now += SESSION * 3;
    assert_eq!(scene.events(first), []);
    assert_eq!(scene.owned[&first].len(), 2);
}

#[test]
fn the_last_to_join_as_an_instance_is_the_member() {
    let mut scene = Scene::new(1);
    let first = scene.join("a");
    let epoch = scene.groups.init(&scene.key, first, "a").unwrap();
    scene.settle();
    let second = scene.join("a");
    assert_eq!(scene.check(first, epoch, 0), Some(TxnFault::Rebuild));
    let fault = scene.groups.init(&scene.key, first, "a").unwrap_err().fault;
    assert_eq!(fault, TxnFault::Rebuild, "it cannot fence its successor");
    assert!(matches!(scene.groups.poll(&scene.key, first, scene.now), Answer::Replaced));
    scene.turn(second);
    assert_eq!(scene.owned[&second].len(), 1);
}

#[test]
fn an_earlier_epoch_is_fenced() {
    let mut scene = Scene::new(1);
    let id = scene.join("a");
    scene.settle();
    let earlier = scene.groups.init(&scene.key, id, "a").unwrap();
    let later = scene.groups.init(&scene.key, id, "a").unwrap();
    assert_eq!(scene.check(id, earlier, 0), Some(TxnFault::Rebuild));
    assert_eq!(scene.check(id, later, 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever happens, no partition has two owners who could both commit it; when it is quiet,
    /// the shares are balanced.
    #[test]
    fn no_partition_has_two_owners(
        partitions in 1..9_u32,
        steps in prop::collection::vec((0..5_u8, 0..4_usize), 1..60),
    ) {
        let mut scene = Scene::new(partitions);
        let instances = ["a", "b", "c", "d"];
        let mut ids: BTreeMap<usize, (MemberId, u64)> = BTreeMap::new();
        for (step, who) in steps {
            match (step, ids.get(&who).copied()) {
                (0, former) => {
                    if let Some((former, _)) = former {
                        scene.owned.remove(&former);
                    }
                    let id = scene.join(instances[who]);
                    let epoch = scene.groups.init(&scene.key, id, instances[who]).unwrap();
                    ids.insert(who, (id, epoch));
                }
                (1, Some((id, _))) => {
                    scene.groups.leave(&scene.key, id);
                    scene.owned.remove(&id);
                    ids.remove(&who);
                }
                (2, _) => scene.now += SESSION * 2 / 3,
                (_, Some((id, _))) => { scene.turn(id); }
                _ => {}
            }
            for partition in (0..partitions).map(Partition) {
                let able = ids.iter().filter(|(who, (id, epoch))| {
                    let producer = (instances[**who], *epoch);
                    scene.groups.check(&scene.key, *id, producer, &[partition]).is_ok()
                });
                prop_assert!(able.count() <= 1, "{partition} has two owners");
            }
        }
        if !ids.is_empty() {
            scene.settle();
            scene.assert_balanced();
        }
    }
}
