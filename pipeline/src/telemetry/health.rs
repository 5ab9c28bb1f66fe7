//! Live, ready, and why not.
//!
//! *Live*: the process runs its lanes; it is never made to depend on a log or a database, or an
//! orchestrator would kill what only has to wait. *Ready*: it owns tasks or stands by for them, none
//! of them is being restored, and no partition is paused because its quarantine is full.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{engine::status::Status, host::gate::Paused};

/// How many lanes of each stage, source and sink a process runs.
pub type Lanes = BTreeMap<String, usize>;

/// An answer to `/health/ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether everything that is ours flows.
    pub ready: bool,
    /// Tasks that this process owns.
    pub tasks: usize,
    /// Stages, sources and sinks that a person has paused; they are no reason not to be ready, or
    /// no process could be replaced meanwhile.
    pub paused: Vec<String>,
    /// Why not: one sentence each.
    pub reasons: Vec<String>,
}

/// What the lanes tell, as one answer. One that has told nothing yet, or that failed and is built
/// anew, is joining its group.
#[must_use]
pub fn readiness(status: &Status, lanes: &Lanes, paused: &Paused) -> Readiness {
    let all = status.read();
    let mut reasons = Vec::new();
    for (name, want) in lanes.iter().filter(|(name, _)| !paused.contains(*name)) {
        let joined = all.values().filter(|(stage, _)| stage == name).count();
        if joined < *want {
            let missing = want - joined;
            reasons.push(format!("`{name}`: {missing} of {want} lanes are joining their group"));
        }
    }
    let mut owned = 0;
    for (stage, tasks) in all.values() {
        owned += tasks.len();
        for (partition, task) in tasks {
            if task.restoring {
                reasons.push(format!("`{stage}`: partition {partition} is being restored"));
            }
            if task.paused {
                reasons.push(format!(
                    "`{stage}`: partition {partition} is paused, {} records wait behind quarantined \
                     keys; replay or drop them",
                    task.held_records
                ));
            }
        }
    }
    let paused = paused.iter().filter(|name| lanes.contains_key(*name)).cloned().collect();
    Readiness { ready: reasons.is_empty(), tasks: owned, paused, reasons }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use semel_schemas::topic::{NextOffset, Partition};

    use super::{Lanes, Paused, readiness};
    use crate::engine::status::{Status, TaskStatus};

    fn told(task: TaskStatus) -> super::Readiness {
        let status = Status::default();
        status.set("a", "settle", BTreeMap::from([(Partition(2), task)]));
        readiness(&status, &Lanes::from([("settle".to_owned(), 1)]), &Paused::new())
    }

    #[test]
    fn not_ready_until_every_lane_has_told_of_itself() {
        let lanes = Lanes::from([("x".to_owned(), 2), ("y".to_owned(), 1)]);
        let status = Status::default();
        let reasons = |status: &Status| readiness(status, &lanes, &Paused::new()).reasons;
        status.set("a", "x", BTreeMap::new());
        assert_eq!(
            reasons(&status),
            [
                "`x`: 1 of 2 lanes are joining their group",
                "`y`: 1 of 1 lanes are joining their group"
            ]
        );
        status.set("b", "x", BTreeMap::new());
        status.set("c", "y", BTreeMap::new());
        assert!(reasons(&status).is_empty(), "one that stands by is ready");
        status.remove("b");
        assert_eq!(reasons(&status), ["`x`: 1 of 2 lanes are joining their group"]);
    }

    #[test]
    fn what_a_person_paused_is_told_and_no_reason() {
        let lanes = Lanes::from([("x".to_owned(), 1)]);
        let paused = Paused::from(["x".to_owned(), "of-another-pipeline".to_owned()]);
        let answer = readiness(&Status::default(), &lanes, &paused);
        assert!(answer.ready, "{:?}", answer.reasons);
        assert_eq!(answer.paused, ["x"]);
    }

    #[test]
    fn a_restore_and_a_full_quarantine_are_reasons() {
        let restoring = TaskStatus::restoring(NextOffset(7), NextOffset(9));
        assert_eq!(told(restoring).reasons, ["`settle`: partition 2 is being restored"]);
        let flows = TaskStatus { restoring: false, ..restoring };
        assert!(told(flows).ready);
        let full = TaskStatus { paused: true, held_records: 9, ..flows };
        let answer = told(full);
        assert!(!answer.ready);
        assert!(answer.reasons[0].contains("9 records wait"), "{:?}", answer.reasons);
    }
}
