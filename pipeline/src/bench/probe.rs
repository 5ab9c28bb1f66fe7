//! Records sent at a steady rate, and when each of them was seen at the other end.
//!
//! May not live here: where they are sent to and seen, and what is made of the times.
//! Invariant: a record's time begins before it is handed over, and ends when a reader of committed
//! records has it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::records::Transfer;

/// Hands a record over.
pub(super) type Sender = Box<dyn FnMut(&Transfer) -> Result<(), String> + Send>;
/// Looks for records for a moment, and hands on the value of each that is there.
pub(super) type Receiver = Box<dyn FnMut(&mut dyn FnMut(&[u8])) -> Result<(), String> + Send>;

/// Nanoseconds since the start; 0: not yet.
type Moment = AtomicU64;

struct Shared {
    began: Instant,
    records: Vec<Transfer>,
    sent: Vec<Moment>,
    came: Vec<Moment>,
    stop: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Records under way.
pub(super) struct Probe {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

/// What became of one record: when it was sent, and when it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    /// Its place among the records.
    pub(super) number: usize,
    /// When it was sent.
    pub(super) sent: Instant,
    /// When it came.
    pub(super) came: Instant,
}

impl Probe {
    /// Begins to send a record each `every`; the senders take turns.
    pub(super) fn start(
        records: Vec<Transfer>,
        every: Duration,
        senders: Vec<Sender>,
        receivers: Vec<Receiver>,
    ) -> Self {
        let moments = || records.iter().map(|_| Moment::new(0)).collect::<Vec<_>>();
        let shared = Arc::new(Shared {
            began: Instant::now(),
            sent: moments(),
            came: moments(),
            stop: AtomicBool::new(false),
            records,
        });
        let count = senders.len();
        let mut threads = Vec::new();
        for receiver in receivers {
            let shared = shared.clone();
            threads.push(thread::spawn(move || receive(&shared, receiver)));
        }
        for (first, sender) in senders.into_iter().enumerate() {
            let shared = shared.clone();
            threads.push(thread::spawn(move || send(&shared, sender, every, (first, count))));
        }
        Self { shared, threads }
    }

    /// The records that came so far.
    pub(super) fn passages(&self) -> impl Iterator<Item = Passage> + '_ {
        let at = |moment: &Moment| match moment.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(self.shared.began + Duration::from_nanos(nanos)),
        };
        self.shared.came.iter().zip(&self.shared.sent).enumerate().filter_map(
            move |(number, (came, sent))| {
                Some(Passage { number, sent: at(sent)?, came: at(came)? })
            },
        )
    }

    /// The records.
    pub(super) fn records(&self) -> &[Transfer] {
        &self.shared.records
    }

    /// Waits until every record has come, or fails.
    ///
    /// # Errors
    /// A sentence if a thread failed, or if none came for `patience`.
    pub(super) fn all(&self, patience: Duration) -> Result<(), String> {
        let (mut best, mut since) = (0, Instant::now());
        loop {
            let came = self.passages().count();
            if came == self.shared.records.len() {
                return Ok(());
            }
            if came > best {
                (best, since) = (came, Instant::now());
            }
            if since.elapsed() > patience {
                let all = self.shared.records.len();
                return Err(format!("only {came} of {all} records came out"));
            }
            self.alive()?;
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails if a thread ended early.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn alive(&self) -> Result<(), String> {
        if self.shared.stopped() { Err("a probe's thread failed".into()) } else { Ok(()) }
    }

    /// Ends it.
    ///
    /// # Errors
    /// The sentence of the thread that failed.
    pub(super) fn stop(self) -> Result<(), String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a probe's thread panicked".to_owned())??;
        }
        Ok(())
    }
}

fn ended(shared: &Shared, result: Result<(), String>) -> Result<(), String> {
    if result.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
    }
    result
}

fn send(
    shared: &Shared,
    mut sender: Sender,
    every: Duration,
    (first, step): (usize, usize),
) -> Result<(), String> {
    for number in (first..shared.records.len()).step_by(step) {
        let due = shared.began + every * u32::try_from(number).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if shared.stopped() {
            break;
        }
        let (Some(record), Some(sent)) = (shared.records.get(number), shared.sent.get(number))
        else {
            break;
        };
        sent.store(shared.now(), Ordering::Release);
        ended(shared, sender(record))?;
    }
    // A producer that is dropped throws away what is still on its way: keep it until all has come.
    while !shared.stopped() {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn receive(shared: &Shared, mut receiver: Receiver) -> Result<(), String> {
    let numbers: HashMap<&[u8], usize> =
        shared.records.iter().enumerate().map(|(n, r)| (r.value.as_bytes(), n)).collect();
    while !shared.stopped() {
        let mut note = |value: &[u8]| {
            let Some(came) = numbers.get(value).and_then(|number| shared.came.get(*number)) else {
                return;
            };
            // The first time counts.
            let _ = came.compare_exchange(0, shared.now(), Ordering::AcqRel, Ordering::Acquire);
        };
        ended(shared, receiver(&mut note))?;
    }
    Ok(())
}

/// Milliseconds at a share of sorted milliseconds: 0.5 is the median.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (share * last as f64).round() as usize;
    sorted.get(at.min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{super::records::transfer, *};

    #[test]
    fn what_is_sent_is_timed_until_it_comes() {
        let (tell, told) = mpsc::channel::<Vec<u8>>();
        let records: Vec<Transfer> = (0..20).map(|n| transfer(n, 0)).collect();
        let senders: Vec<Sender> = (0..2)
            .map(|_| {
                let tell = tell.clone();
                Box::new(move |record: &Transfer| {
                    tell.send(record.value.clone().into_bytes()).map_err(|e| e.to_string())
                }) as Sender
            })
            .collect();
        let receiver: Receiver = Box::new(move |note| {
            if let Ok(value) = told.recv_timeout(Duration::from_millis(10)) {
                note(b"something else");
                note(&value);
            }
            Ok(())
        });
        let probe = Probe::start(records, Duration::from_millis(1), senders, vec![receiver]);
        probe.all(Duration::from_secs(30)).unwrap();
        assert_eq!(probe.records().len(), 20);
        assert!(probe.passages().all(|p| p.came >= p.sent));
        probe.stop().unwrap();
    }

    #[test]
    fn a_thread_that_fails_ends_the_probe() {
        let sender: Sender = Box::new(|_| Err("no way".into()));
        let records = vec![transfer(0, 0)];
        let probe = Probe::start(records, Duration::ZERO, vec![sender], vec![]);
        while probe.alive().is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(probe.stop(), Err("no way".to_owned()));
    }

    #[test]
    fn percentiles_are_of_what_is_there() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&sorted, 0.5), percentile(&sorted, 0.99)), (51.0, 99.0));
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
