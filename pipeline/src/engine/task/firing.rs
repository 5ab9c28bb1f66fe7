//! Timers of a task: when the first is due, firing what is due.
//!
//! Invariants: timers of event time fire before those of the wall clock, and those only once the
//! task is caught up; event time is passed on only when no timer is due.

use semel_operators::operator::{Clock, Input, TimerKey};
use semel_schemas::{
    sabotage::{Sabotage, sabotaged},
    time::WallTime,
};

use super::{super::timers, Task};

/// What a call of [`Task::fire`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// Timers that fired.
    pub count: usize,
    /// The last of them: operator and name.
    pub last: Option<(u8, TimerKey)>,
    /// Whether more may be due.
    pub more: bool,
}

impl Task {
    /// Fires what is due: event-time timers, then (once caught up) wall-clock timers, then passes
    /// event time on if nothing due holds it back. At most `room` timers, and a bounded number a call.
    pub fn fire(&mut self, now: WallTime, room: usize) -> Fired {
        let first_due = self.first_due();
        let mut fired = Fired::default();
        for ((clock, until), first) in self.clocks(now).into_iter().zip(first_due) {
            let (Some(until), Some(first)) = (until, first) else { continue };
            if first > until {
                continue;
            }
            let limit = self.stage.limits.timers_max.min(room.saturating_sub(fired.count));
            let due = timers::due(&self.state, clock, until, limit);
            fired.more |= due.len() == limit;
            for timer in due {
                // An earlier one may have cancelled, moved or changed it.
                let Some(payload) = timers::still(&self.state, &timer) else { continue };
                self.set_now(now);
                fired.count += 1;
                fired.last = Some((timer.operator, timer.key.clone()));
                self.fire_one(timers::Due { payload, ..timer });
                self.keep();
            }
        }
        if !self.is_timer_due(now) && self.pass_event_time_on() {
            self.keep();
        }
        fired
    }

    /// The next time that this timer fires it goes to the dead letters instead: it was found to
    /// break the commit.
    pub fn condemn(&mut self, timer: (u8, TimerKey)) {
        self.condemned = Some(timer);
    }

    /// Whether a timer of any clock is due, fired or not: what it is about to say belongs before
    /// the event time that made it due.
    fn is_timer_due(&mut self, now: WallTime) -> bool {
        let mut clocks = self.clocks(now);
        clocks[2].1 = Some(now.0.max(self.meta.now.0));
        let first = self.first_due();
        clocks.into_iter().zip(first).any(|((_, until), first)| first.is_some() && first <= until)
    }

    /// How far each clock has come.
    fn clocks(&self, now: WallTime) -> [(Clock, Option<u64>); 3] {
        let event_time = self.meta.event_time;
        [
            (Clock::Complete, event_time.complete.map(|s| s.0)),
            (Clock::Finalized, event_time.finalized.map(|s| s.0)),
            (Clock::Wall, self.wall_runs().then_some(now.0.max(self.meta.now.0))),
        ]
    }

    /// Whether wall-clock timers fire.
    fn wall_runs(&self) -> bool {
        self.caught_up || sabotaged(Sabotage::TimersBeforeCaughtUp)
    }

    fn first_due(&mut self) -> [Option<u64>; 3] {
        let state = &self.state;
        *self.first_due.get_or_insert_with(|| {
            [Clock::Complete, Clock::Finalized, Clock::Wall].map(|c| timers::first(state, c))
        })
    }

    /// When [`Task::fire`] has something to do: zero for a timer of event time that is due.
    #[must_use]
    pub fn next_timer(&mut self) -> Option<WallTime> {
        let clocks = self.clocks(WallTime(0));
        let first = self.first_due();
        let due = |at: usize| first[at].is_some() && first[at] <= clocks[at].1;
        if due(0) || due(1) {
            return Some(WallTime(0));
        }
        first[2].filter(|_| self.wall_runs()).map(WallTime)
    }

    fn fire_one(&mut self, timer: timers::Due) {
        timers::cancel(&mut self.state, timer.operator, &timer.key);
        self.first_due = None;
        self.meta.sequence += 1;
        let cause = format!(
            "timer:{}/{}/{}/{}",
            self.stage.name, self.partition, timer.key.name, self.meta.sequence
        );
        let what = format!("timer `{}`", timer.key.name);
        let operator = usize::from(timer.operator);
        let key = timer.key.clone();
        let name = (timer.operator, timer.key.clone());
        let result = if self.condemned.take_if(|condemned| *condemned == name).is_some() {
            Err(super::poison("timer"))
        } else {
            self.run(operator, Input::Timer { key, payload: timer.payload }, &cause)
        };
        if self.settle(result, &what) {
            timers::cancel(&mut self.state, timer.operator, &timer.key);
        }
        self.counts.timers += 1;
    }
}
