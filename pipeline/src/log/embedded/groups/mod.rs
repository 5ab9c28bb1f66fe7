//! Who owns which partition: consumer groups whose members are threads of one process.
//!
//! Lives here: joining, handing over, losing, leaving, and the fence of transactional ids. Nothing
//! here is stored: after a restart everybody joins anew, and nothing here blocks or reads a clock.
//!
//! Invariants: a partition has at most one owner; an owner keeps it until it releases it, or is
//! expelled for its silence, or another member joins under its instance; partitions of a group
//! are spread so that two members differ by at most one, and no more of them move than that needs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use semel_schemas::topic::Partition;

use crate::log::{Event, TxnError, TxnFault};

/// Identity of one joined member within the process; never used twice.
pub(super) type MemberId = u64;
/// A group and the number of the topic it reads.
pub(super) type GroupKey = (String, u32);

/// All groups of the log.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<GroupKey, Group>,
    /// Transactional id → its present epoch.
    epochs: HashMap<String, u64>,
    last_id: MemberId,
}

/// What the group says to a member that polls.
#[derive(Debug)]
pub(super) enum Answer {
    /// These events, perhaps none.
    Events(Vec<Event>),
    /// Another member joined under the same instance: this one is out for good.
    Replaced,
}

impl Groups {
    /// Adds a member; one that bears the same instance is out.
    pub(super) fn join(
        &mut self,
        key: &GroupKey,
        partitions: u32,
        instance: &str,
        session: Duration,
        now: Instant,
    ) -> MemberId {
        self.last_id += 1;
        let group = self.groups.entry(key.clone()).or_insert_with(|| Group::new(partitions));
        let former = group.members.iter().find(|(_, m)| m.instance == instance).map(|(id, _)| *id);
        if let Some(former) = former {
            group.remove(former);
        }
        group.expelled.retain(|_, expelled| expelled.member.instance != instance);
        let member = Seat { instance: instance.to_owned(), session, deadline: now + session };
        group.members.insert(self.last_id, member);
        group.rebalance();
        self.last_id
    }

    /// A sign of life; answers what the member must know.
    pub(super) fn poll(&mut self, key: &GroupKey, id: MemberId, now: Instant) -> Answer {
        match self.groups.get_mut(key) {
            Some(group) => group.poll(id, now),
            None => Answer::Replaced,
        }
    }

    /// The next moment at which the group may change without anybody's doing.
    pub(super) fn next_deadline(&self, key: &GroupKey) -> Option<Instant> {
        self.groups.get(key)?.members.values().map(|m| m.deadline).min()
    }

    /// The member gives partitions up.
    pub(super) fn release(&mut self, key: &GroupKey, id: MemberId, partitions: &[Partition]) {
        if let Some(group) = self.groups.get_mut(key) {
            group.release(id, partitions);
        }
    }

    /// The member is gone.
    pub(super) fn leave(&mut self, key: &GroupKey, id: MemberId) {
        if let Some(group) = self.groups.get_mut(key) {
            group.remove(id);
            group.expelled.remove(&id);
            group.rebalance();
        }
    }

    /// Raises the epoch of a transactional id; whoever has an earlier one is fenced.
    pub(super) fn init(
        &mut self,
        key: &GroupKey,
        id: MemberId,
        instance: &str,
    ) -> Result<u64, TxnError> {
        if !self.groups.get(key).is_some_and(|group| group.knows(id)) {
            return Err(replaced(instance));
        }
        let epoch = self.epochs.entry(instance.to_owned()).or_default();
        *epoch += 1;
        Ok(*epoch)
    }

    /// Whether the member may commit offsets of these partitions now.
    pub(super) fn check(
        &self,
        key: &GroupKey,
        id: MemberId,
        (instance, epoch): (&str, u64),
        partitions: &[Partition],
    ) -> Result<(), TxnError> {
        let Some(group) = self.groups.get(key).filter(|group| group.knows(id)) else {
            return Err(replaced(instance));
        };
        if self.epochs.get(instance) != Some(&epoch) {
            return Err(TxnError {
                fault: TxnFault::Rebuild,
                text: format!("another producer was initialised as `{instance}`: initialise anew"),
            });
        }
        if group.expelled.contains_key(&id) {
            return Err(TxnError {
                fault: TxnFault::Rebuild,
                text: format!(
                    "`{instance}` did not poll for its session timeout and lost its partitions of \
                     group `{}`: initialise anew and poll",
                    key.0
                ),
            });
        }
        match partitions.iter().find(|p| group.owners.get(p) != Some(&id)) {
            None => Ok(()),
            Some(partition) => Err(TxnError {
                fault: TxnFault::Abort,
                text: format!(
                    "`{instance}` does not own partition {partition} in group `{}`: abort, and \
                     commit only what is owned",
                    key.0
                ),
            }),
        }
    }
}

fn replaced(instance: &str) -> TxnError {
    TxnError {
        fault: TxnFault::Rebuild,
        text: format!("another member joined as `{instance}`, or this one left: join anew"),
    }
}

#[derive(Debug)]
struct Group {
    partitions: u32,
    members: BTreeMap<MemberId, Seat>,
    /// Who holds a partition, until it releases it.
    owners: BTreeMap<Partition, MemberId>,
    /// Who shall hold it.
    targets: BTreeMap<Partition, MemberId>,
    /// Partitions whose owner was told to give them up.
    revoked: BTreeSet<Partition>,
    /// Members that were silent too long, until they release what they lost.
    expelled: HashMap<MemberId, Expelled>,
}

#[derive(Clone, Debug)]
struct Seat {
    instance: String,
    session: Duration,
    deadline: Instant,
}

#[derive(Debug)]
struct Expelled {
    member: Seat,
    lost: BTreeSet<Partition>,
    told: bool,
}

impl Group {
    fn new(partitions: u32) -> Self {
        Self {
            partitions,
            members: BTreeMap::new(),
            owners: BTreeMap::new(),
            targets: BTreeMap::new(),
            revoked: BTreeSet::new(),
            expelled: HashMap::new(),
        }
    }

    fn knows(&self, id: MemberId) -> bool {
        self.members.contains_key(&id) || self.expelled.contains_key(&id)
    }

    fn poll(&mut self, id: MemberId, now: Instant) -> Answer {
        // First the sign of life: a member that polls is not silent, however late it is, as long
        // as nobody else noticed.
        if let Some(member) = self.members.get_mut(&id) {
            member.deadline = now + member.session;
        }
        self.expel(now);
        if let Some(expelled) = self.expelled.get_mut(&id) {
            if !expelled.lost.is_empty() {
                let lost = expelled.lost.iter().copied().collect();
                let told = std::mem::replace(&mut expelled.told, true);
                return Answer::Events(if told { vec![] } else { vec![Event::Lost(lost)] });
            }
            self.come_back(id, now);
        }
        if !self.members.contains_key(&id) {
            return Answer::Replaced;
        }
        Answer::Events(self.changes(id))
    }

    /// Takes their seats from members that were silent too long.
    fn expel(&mut self, now: Instant) {
        let silent: Vec<MemberId> =
            self.members.iter().filter(|(_, m)| m.deadline < now).map(|(id, _)| *id).collect();
        for id in &silent {
            if let Some((member, lost)) = self.remove(*id) {
                self.expelled.insert(*id, Expelled { member, lost, told: false });
            }
        }
        if !silent.is_empty() {
            self.rebalance();
        }
    }

    fn come_back(&mut self, id: MemberId, now: Instant) {
        if let Some(Expelled { mut member, .. }) = self.expelled.remove(&id) {
            member.deadline = now + member.session;
            self.members.insert(id, member);
            self.rebalance();
        }
    }

    /// What changed for a seated member since its last poll.
    fn changes(&mut self, id: MemberId) -> Vec<Event> {
        let mut assigned = Vec::new();
        let mut revoked = Vec::new();
        for (&partition, &target) in &self.targets {
            match self.owners.get(&partition) {
                None if target == id => {
                    self.owners.insert(partition, id);
                    assigned.push(partition);
                }
                Some(&owner) if owner == id && target != id && self.revoked.insert(partition) => {
                    revoked.push(partition);
                }
                _ => {}
            }
        }
        let mut events = Vec::new();
        if !revoked.is_empty() {
            events.push(Event::Revoked(revoked));
        }
        if !assigned.is_empty() {
            events.push(Event::Assigned(assigned));
        }
        events
    }

    fn release(&mut self, id: MemberId, partitions: &[Partition]) {
        for partition in partitions {
            if self.owners.get(partition) == Some(&id) {
                self.owners.remove(partition);
                self.revoked.remove(partition);
            }
            if let Some(expelled) = self.expelled.get_mut(&id) {
                expelled.lost.remove(partition);
            }
        }
    }

    /// Takes a member's seat and partitions.
    fn remove(&mut self, id: MemberId) -> Option<(Seat, BTreeSet<Partition>)> {
        let seat = self.members.remove(&id)?;
        let held: BTreeSet<_> =
            self.owners.iter().filter(|(_, owner)| **owner == id).map(|(p, _)| *p).collect();
        self.owners.retain(|_, owner| *owner != id);
        self.revoked.retain(|p| !held.contains(p));
        Some((seat, held))
    }

    /// Says anew who shall hold what: balanced, and as much as possible as it is.
    fn rebalance(&mut self) {
        let mut wanted = std::mem::take(&mut self.targets);
        wanted.extend(self.owners.iter().map(|(p, id)| (*p, *id)));
        let mut shares: BTreeMap<MemberId, Vec<Partition>> =
            self.members.keys().map(|id| (*id, Vec::new())).collect();
        if shares.is_empty() {
            return;
        }
        let mut free = Vec::new();
        for partition in (0..self.partitions).map(Partition) {
            match wanted.get(&partition).and_then(|id| shares.get_mut(id)) {
                Some(share) => share.push(partition),
                None => free.push(partition),
            }
        }
        // The members that hold most get the larger shares, so that least moves.
        let mut order: Vec<MemberId> = shares.keys().copied().collect();
        order.sort_by_key(|id| std::cmp::Reverse(shares.get(id).map_or(0, Vec::len)));
        let (least, larger) =
            (self.partitions as usize / order.len(), self.partitions as usize % order.len());
        let quota = |place: usize| least + usize::from(place < larger);
        for (place, id) in order.iter().enumerate() {
            if let Some(share) = shares.get_mut(id) {
                free.extend(share.drain(quota(place).min(share.len())..));
            }
        }
        for (place, id) in order.iter().enumerate() {
            if let Some(share) = shares.get_mut(id) {
                let missing = quota(place).saturating_sub(share.len()).min(free.len());
                share.extend(free.drain(..missing));
            }
        }
        let targets =
            shares.into_iter().flat_map(|(id, share)| share.into_iter().map(move |p| (p, id)));
        self.targets = targets.collect();
    }
}

#[cfg(test)]
mod tests;
