//! What is done to the processes, and when: a plan made of a seed, before anything starts.
//!
//! May not live here: doing it (`processes`). Invariant: as many faults as were asked for, each at a
//! moment of its own within the time that records are fed.

use std::time::Duration;

use super::chance::Chance;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL, and a start soon after.
    Kill,
    /// SIGSTOP for this long, then SIGCONT: a zombie.
    Pause(Duration),
    /// The broker is restarted by the user's command.
    RestartBroker,
    /// The database is restarted by the user's command.
    RestartDatabase,
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Kills.
    pub kills: u32,
    /// Pauses.
    pub pauses: u32,
    /// Restarts of the broker.
    pub broker_restarts: u32,
    /// Restarts of the database.
    pub database_restarts: u32,
}

impl Wanted {
    /// The least time that gives each of them room to show what it does.
    #[must_use]
    pub fn time(&self, pause: Duration) -> Duration {
        Duration::from_millis(1_200) * self.kills
            + (pause + Duration::from_secs(4)) * self.pauses
            + Duration::from_secs(20) * self.broker_restarts
            + Duration::from_secs(10) * self.database_restarts
    }
}

/// The plan: faults in the order of their times, counted from the first record. Each kind is spread
/// over the whole time, each fault at a random moment of its share of it.
#[must_use]
pub fn plan(
    wanted: &Wanted,
    time: Duration,
    pause: Duration,
    chance: &mut Chance,
) -> Vec<(Duration, Fault)> {
    let mut plan = Vec::new();
    for (count, fault) in [
        (wanted.kills, Fault::Kill),
        (wanted.pauses, Fault::Pause(pause)),
        (wanted.broker_restarts, Fault::RestartBroker),
        (wanted.database_restarts, Fault::RestartDatabase),
    ] {
        for number in 0..count {
            let share = time / count;
            let within = share.mul_f64(chance.below(1_000) as f64 / 1_000.0);
            plan.push((share * number + within, fault));
        }
    }
    plan.sort();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_asked_for_within_the_time() {
        let wanted = Wanted { kills: 9, pauses: 2, broker_restarts: 1, database_restarts: 0 };
        let (time, pause) = (Duration::from_secs(60), Duration::from_secs(15));
        let made = plan(&wanted, time, pause, &mut Chance::new(7));
        let count = |fault| made.iter().filter(|(_, found)| *found == fault).count();
        assert_eq!(count(Fault::Kill), 9);
        assert_eq!(count(Fault::Pause(pause)), 2);
        assert_eq!(count(Fault::RestartBroker), 1);
        assert_eq!(made.len(), 12);
        assert!(made.is_sorted() && made.iter().all(|(at, _)| *at < time));
        assert_eq!(made, plan(&wanted, time, pause, &mut Chance::new(7)), "the seed decides");
        assert_ne!(made, plan(&wanted, time, pause, &mut Chance::new(8)));
    }
}
