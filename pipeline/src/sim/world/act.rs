//! What happens by itself and by the schedule, at the begin of a turn.

use semel_schemas::effect::Commitment;

use super::Inner;
use crate::{
    log::{Log as _, sim::MarkerTarget},
    sim::{
        chain::SLOT_MS,
        options::Feed,
        rng::scattered,
        samples::Sample,
        schedule::{Act, Event, Last},
    },
};

impl Inner {
    /// Everything that is due; processes that are to drain.
    pub(super) fn happen(&mut self) -> Vec<usize> {
        let mut drains = Vec::new();
        let now = self.now_ms - self.begin_ms;
        while self.events.front().is_some_and(|event| event.at_ms <= now) {
            let Some(event) = self.events.pop_front() else { break };
            self.note(|| format!("event {:?}", event.act));
            if let Some(process) = self.act(event) {
                drains.push(process);
            }
        }
        for number in 0..self.processes.len() {
            let process = &mut self.processes[number];
            if !process.up && process.up_at <= self.now_ms {
                process.up = true;
                self.note(|| format!("p{number} is back"));
            }
        }
        self.arrive();
        if self.now_ms >= self.stall_until
            && let Err(error) = self.outside.chain.devnet.advance_to(self.now_ms)
        {
            self.fail("STOPPED", &format!("the devnet failed: {error}"));
        }
        let (now_ms, traced, mut lines) = (self.now_ms, self.trace.is_some(), Vec::new());
        self.outside.run(now_ms, &mut |line| {
            if traced {
                lines.push(line.to_string());
            }
        });
        for line in lines {
            self.note(|| line);
        }
        drains
    }

    /// What was on its way arrives: late commits, and markers one by one.
    fn arrive(&mut self) {
        let now = self.now_ms;
        let due: Vec<_> = self.late.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, log, late) in due {
            let landed = log.deliver_late(late);
            self.note(|| format!("a late commit arrives: {landed:?}"));
        }
        if self.markers_until > 0 {
            if self.markers_until <= now {
                self.markers_until = 0;
                self.sim.release_markers();
            } else if self.marker_at <= now {
                self.marker_at = now + self.markers_every_ms;
                let arriving = self.arriving();
                let at = scattered(self.options.seed, self.turn) % (arriving.len() as u64).max(1);
                if let Some(marker) = usize::try_from(at).ok().and_then(|at| arriving.get(at)) {
                    self.sim.deliver_marker(*marker);
                }
            }
        }
    }

    /// Places, among the markers on their way, of those that may arrive now.
    pub(super) fn arriving(&self) -> Vec<usize> {
        let stages = &self.shop.plan.stages;
        let last = |marker: &MarkerTarget| match (self.markers_last, marker) {
            (Last::Changelogs, MarkerTarget::Partition(topic, _)) => {
                stages.iter().any(|(stage, _)| stage.changelog.name == *topic)
            }
            (Last::Changelogs, MarkerTarget::Offsets(_)) | (Last::Any, _) => false,
        };
        let held = self.sim.held_markers();
        let now = held.iter().enumerate().filter(|(_, marker)| !last(marker));
        now.map(|(at, _)| at).collect()
    }

    fn act(&mut self, event: Event) -> Option<usize> {
        let now = self.now_ms;
        match event.act {
            Act::Claim { user, channel, nonce } => {
                let slot = self.outside.chain.height(Commitment::Processed).0;
                let epoch = slot / self.options.epoch_slots;
                if let Err(error) = self.outside.chain.claim(user, channel, epoch, nonce) {
                    self.note(|| format!("the claim is refused: {error}"));
                }
            }
            Act::Feed(samples) => self.feed(&samples),
            Act::Arm { process, armed } => self.processes[process].fate.arm(armed),
            Act::Pause { process, ms } => {
                let process = &mut self.processes[process];
                process.still_until = process.still_until.max(now + ms);
            }
            Act::Drain { process } => {
                let it = &self.processes[process];
                // Who stands still hears no signal, least of all within a call.
                return (it.up && it.still_until <= now).then_some(process);
            }
            Act::Backup { process } => self.processes[process].back_up(),
            Act::Disk { process, disk } => {
                self.kill(process, "is killed");
                self.processes[process].replace_disk(disk);
            }
            Act::Clock { process, ms } => self.processes[process].turn_clock(ms),
            Act::Storm { ms } => self.processes.iter_mut().for_each(|it| it.turn_clock(ms)),
            Act::Markers { ms, every_ms, last } => {
                self.sim.hold_markers();
                self.markers_until = self.markers_until.max(now + ms);
                self.markers_every_ms = every_ms;
                self.markers_last = last;
                self.marker_at = now;
            }
            Act::Compact => self.compact(),
            Act::Node { fault, effects, of } => self.outside.node = Some((fault, effects, of)),
            Act::Effect { fault, of } => self.outside.effect.push((fault, of)),
            Act::Stall { ms } => self.stall_until = self.stall_until.max(now + ms),
            Act::Database(fault) => self.outside.write.push(fault),
            Act::DatabaseDown { ms } => {
                self.outside.down_until = self.outside.down_until.max(now + ms);
            }
        }
        None
    }

    fn feed(&mut self, samples: &[Sample]) {
        for sample in samples {
            if let Err(error) = self.sim.append(sample.records(&self.place)) {
                self.fail("STOPPED", &format!("an input cannot be fed in: {error}"));
            }
        }
    }

    fn compact(&mut self) {
        let plan = self.shop.plan.clone();
        for (stage, _) in &plan.stages {
            for partition in (0..stage.changelog.partitions).map(semel_schemas::topic::Partition) {
                if let Err(error) = self.sim.compact(&stage.changelog.name, partition) {
                    self.fail("STOPPED", &format!("a changelog cannot be compacted: {error}"));
                }
            }
        }
    }

    /// Faults and inputs end; a scripted source says that all is final.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.note(|| "faults end".to_owned());
        for process in &mut self.processes {
            process.fate.clear();
            process.still_until = 0;
        }
        self.sim.release_markers();
        self.markers_until = 0;
        self.stall_until = 0;
        self.outside.calm();
    }

    /// A scripted source goes on while the world comes to rest, as a chain does: all that it had is
    /// final, and an epoch goes by. (A claim that was on its way to its partition comes late, counts
    /// in the next epoch, and waits for the end of that one.)
    pub(super) fn go_on(&mut self) {
        if self.options.feed == Feed::Script {
            let slots = (self.now_ms - self.begin_ms) / SLOT_MS + 2 * self.options.epoch_slots;
            let slot = self.options.first_slot() + slots;
            self.feed(&[Sample::Progress { complete: slot, finalized: slot }]);
        }
    }
}
