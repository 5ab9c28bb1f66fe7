//! The group coordinator: members, generations, sticky and cooperative assignment, offsets.
//!
//! As in Kafka: an offset commit is checked against member id, instance and generation, and
//! against *nothing* else: not against the partitions that the member owns, and not at all if it
//! comes without a member (generation −1).
//!
//! Invariant: a partition is held by at most one member; it goes to another one only after its
//! holder released it, left, was replaced by its own instance, or was silent for its session.

use std::collections::{BTreeMap, BTreeSet};

use semel_schemas::topic::NextOffset;

use super::partition::{TxnId, Verdict};

/// A member's id: a new one at every join.
pub(super) type MemberId = u64;
/// A topic's number in the cluster.
pub(super) type TopicNo = usize;

/// Why the coordinator does not accept a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// `UNKNOWN_MEMBER_ID`: it was given up.
    Unknown,
    /// `FENCED_INSTANCE_ID`: another process joined as the same instance.
    Fenced,
    /// `ILLEGAL_GENERATION`: there was a rebalance that it has not heard of.
    Generation,
}

/// How members are known to their group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    /// By `group.instance.id`: a restarted one takes its place at once (KIP-345).
    #[default]
    Static,
    /// By nothing that survives a restart.
    Dynamic,
}

#[derive(Debug)]
struct GroupMember {
    instance: Option<String>,
    topic: TopicNo,
    session_ms: u64,
    seen_ms: u64,
    /// Whose is whose, as the last rebalance wants it.
    target: BTreeSet<u32>,
    /// What the member holds, also if it is to give it up.
    held: BTreeSet<u32>,
}

/// What a member is told when it polls.
#[derive(Debug, Default)]
pub(super) struct News {
    /// To be handed over.
    pub(super) revoked: Vec<u32>,
    /// Its own from now on.
    pub(super) assigned: Vec<u32>,
}

/// One consumer group.
#[derive(Debug, Default)]
pub(super) struct Group {
    generation: u32,
    members: BTreeMap<MemberId, GroupMember>,
    offsets: BTreeMap<(TopicNo, u32), NextOffset>,
    pending: Vec<(TxnId, TopicNo, u32, NextOffset)>,
    /// Partitions that a member was to hand over when another of its instance took its place: the
    /// second rebalance, in which the new owner gets them, waits for a join that never comes.
    orphans: BTreeSet<(TopicNo, u32)>,
    /// Since when it has no members.
    empty_since_ms: u64,
}

/// Empty groups' offsets expire after this (`offsets.retention.minutes`, 7 days).
const OFFSETS_RETENTION_MS: u64 = 7 * 24 * 3600 * 1000;

impl Group {
    /// A group without members.
    pub(super) fn new(now_ms: u64) -> Self {
        Self { empty_since_ms: now_ms, ..Self::default() }
    }

    /// The present generation.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// A member joins. A member of the same instance is replaced, and its place taken, without a
    /// rebalance.
    pub(super) fn join(
        &mut self,
        id: MemberId,
        instance: Option<&str>,
        topic: (TopicNo, u32),
        session_ms: u64,
        now_ms: u64,
    ) {
        let old = instance.and_then(|i| self.by_instance(i));
        let mut member = GroupMember {
            instance: instance.map(str::to_owned),
            topic: topic.0,
            session_ms,
            seen_ms: now_ms,
            target: BTreeSet::new(),
            held: BTreeSet::new(),
        };
        let place = old.and_then(|old| self.members.remove(&old)).filter(|m| m.topic == topic.0);
        let took = place.map(|place| {
            let owed = place.held.difference(&place.target).map(|&p| (topic.0, p));
            self.orphans.extend(owed);
            member.target = place.target;
        });
        let took = took.is_some();
        self.members.insert(id, member);
        if !took {
            self.rebalance(topic.0, topic.1);
        }
    }

    fn by_instance(&self, instance: &str) -> Option<MemberId> {
        let same = |m: &GroupMember| m.instance.as_deref() == Some(instance);
        self.members.iter().find(|(_, m)| same(m)).map(|(&id, _)| id)
    }

    /// Whether the member is one, and of this generation if one is given.
    pub(super) fn check(
        &self,
        id: MemberId,
        instance: Option<&str>,
        generation: Option<u32>,
    ) -> Result<(), Stranger> {
        if !self.members.contains_key(&id) {
            let replaced = instance.is_some_and(|i| self.by_instance(i).is_some());
            return Err(if replaced { Stranger::Fenced } else { Stranger::Unknown });
        }
        if generation.is_some_and(|g| g != self.generation) {
            return Err(Stranger::Generation);
        }
        Ok(())
    }

    /// A member shows that it is alive, and hears what is new.
    pub(super) fn heartbeat(&mut self, id: MemberId, now_ms: u64) -> News {
        let Some(member) = self.members.get_mut(&id) else { return News::default() };
        member.seen_ms = now_ms;
        if member.target == member.held {
            return News::default();
        }
        let revoked = member.held.difference(&member.target).copied().collect();
        let topic = member.topic;
        let wanted: Vec<u32> = member.target.difference(&member.held).copied().collect();
        let taken = |p: &u32| self.members.values().any(|m| m.topic == topic && m.held.contains(p));
        let orphan = |p: &u32| self.orphans.contains(&(topic, *p));
        let assigned: Vec<u32> = wanted.into_iter().filter(|p| !taken(p) && !orphan(p)).collect();
        if let Some(member) = self.members.get_mut(&id) {
            member.held.extend(&assigned);
        }
        News { revoked, assigned }
    }

    /// A new member joins once more if a partition of its topic is nobody's.
    pub(super) fn claim_orphans(&mut self, topic: TopicNo, partitions: u32) {
        if self.orphans.iter().any(|(t, _)| *t == topic) {
            self.rebalance(topic, partitions);
        }
    }

    /// A member lets partitions go.
    pub(super) fn release(&mut self, id: MemberId, partitions: &[u32]) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let before = member.held.len();
        member.held.retain(|p| !partitions.contains(p));
        if member.held.len() != before {
            // The old owner joins again without them: the second rebalance of the protocol.
            self.generation += 1;
        }
    }

    /// A member leaves; `partitions`: how many its topic has.
    pub(super) fn leave(&mut self, id: MemberId, partitions: u32, now_ms: u64) {
        if let Some(member) = self.members.remove(&id) {
            self.went(now_ms);
            self.rebalance(member.topic, partitions);
        }
    }

    fn went(&mut self, now_ms: u64) {
        if self.members.is_empty() {
            self.empty_since_ms = now_ms;
        }
    }

    /// Gives up members that were silent for their session; forgets the offsets of a group that
    /// was empty for too long.
    pub(super) fn pass(&mut self, now_ms: u64, partitions: impl Fn(TopicNo) -> u32) {
        let silent = |m: &GroupMember| now_ms.saturating_sub(m.seen_ms) >= m.session_ms;
        if self.members.values().any(silent) {
            let topics: BTreeSet<TopicNo> =
                self.members.values().filter(|m| silent(m)).map(|m| m.topic).collect();
            self.members.retain(|_, m| !silent(m));
            self.went(now_ms);
            for topic in topics {
                self.rebalance(topic, partitions(topic));
            }
        }
        if self.members.is_empty()
            && now_ms.saturating_sub(self.empty_since_ms) >= OFFSETS_RETENTION_MS
        {
            self.offsets.clear();
        }
    }

    /// A new generation: balanced (counts differ by at most one) and sticky (what can stay, stays).
    fn rebalance(&mut self, topic: TopicNo, partitions: u32) {
        self.generation += 1;
        self.orphans.retain(|(t, _)| *t != topic);
        let mut ids: Vec<MemberId> =
            self.members.iter().filter(|(_, m)| m.topic == topic).map(|(&id, _)| id).collect();
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1);
        let kept = |id: &MemberId| self.members.get(id).map_or(0, |m| m.target.len());
        ids.sort_by_key(|id| (std::cmp::Reverse(kept(id)), *id));
        let mut free: BTreeSet<u32> = (0..partitions).collect();
        let mut quotas = Vec::with_capacity(ids.len());
        for (rank, id) in (0_u32..).zip(&ids) {
            let quota = (partitions / count + u32::from(rank < partitions % count)) as usize;
            quotas.push((*id, quota));
            if let Some(member) = self.members.get_mut(id) {
                member.target = member.target.iter().copied().take(quota).collect();
                free.retain(|p| !member.target.contains(p));
            }
        }
        for (id, quota) in quotas {
            if let Some(member) = self.members.get_mut(&id) {
                while member.target.len() < quota {
                    let Some(partition) = free.pop_first() else { break };
                    member.target.insert(partition);
                }
            }
        }
    }

    /// Offsets of a transaction arrive; they count once its marker does.
    pub(super) fn pend(&mut self, txn: TxnId, topic: TopicNo, offsets: &[(u32, NextOffset)]) {
        self.pending.extend(offsets.iter().map(|&(p, next)| (txn, topic, p, next)));
    }

    /// A transaction's marker arrives at the group's offsets.
    pub(super) fn mark(&mut self, txn: TxnId, verdict: Verdict) {
        let offsets = &mut self.offsets;
        self.pending.retain(|&(t, topic, partition, next)| {
            if t == txn && verdict == Verdict::Commit {
                offsets.insert((topic, partition), next);
            }
            t != txn
        });
    }

    /// Whether a transaction that is not decided has sent an offset of the partition.
    pub(super) fn unstable(&self, topic: TopicNo, partition: u32) -> bool {
        self.pending.iter().any(|&(_, t, p, _)| (t, p) == (topic, partition))
    }

    /// The committed offset.
    pub(super) fn offset(&self, topic: TopicNo, partition: u32) -> Option<NextOffset> {
        self.offsets.get(&(topic, partition)).copied()
    }

    /// A topic is gone, and so are its offsets.
    pub(super) fn forget(&mut self, topic: TopicNo) {
        self.offsets.retain(|&(t, _), _| t != topic);
        self.pending.retain(|&(_, t, ..)| t != topic);
    }
}
