//! Which stages and sinks a person has paused: the last word of `<pipeline>.commands` about each.
//!
//! Lives here: what the words mean, and the thread that hears them. Each process hears all of them
//! from the beginning, so a pause outlives restarts and holds in every process of a pipeline.
//! Invariant: lanes start only after everything that was said before has been heard.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use semel_schemas::{
    codec, header,
    record::Record,
    request::{COMMAND, Command, CommandKind},
    topic::Partition,
};

use crate::{
    engine::topology::TopicRef,
    log::{Isolation, Log, LogError, Reader},
};

/// How long one look for a command waits.
const WAIT: Duration = Duration::from_millis(200);
/// Pause after a look that failed.
const BACKOFF: Duration = Duration::from_secs(1);
/// Commands read at once.
const READ_MAX: usize = 1_000;

/// Names of stages and sinks that are paused.
pub type Paused = BTreeSet<String>;

/// Takes one record of the commands' topic into account.
pub fn fold(paused: &mut Paused, record: &Record) {
    if record.headers.get_str(header::TYPE) != Some(COMMAND) {
        return;
    }
    let value = record.value.as_deref().unwrap_or_default();
    let Ok(command) = codec::decode::<Command>(COMMAND, value) else { return };
    match command.what {
        CommandKind::Pause => paused.insert(command.target),
        CommandKind::Resume => paused.remove(&command.target),
        _ => false,
    };
}

/// See the module.
#[derive(Debug, Default)]
pub struct Gate(Mutex<Paused>);

impl Gate {
    /// Whether this stage or sink is paused.
    #[must_use]
    pub fn is_shut(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Everything that is paused.
    #[must_use]
    pub fn paused(&self) -> Paused {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hear(&self, records: &[Record]) {
        let mut paused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().for_each(|record| fold(&mut paused, record));
    }
}

/// Hears what was said so far, and starts the thread that hears the rest until `stop`.
///
/// # Errors
/// [`LogError`].
pub(super) fn watch(
    log: &Arc<dyn Log>,
    topic: &TopicRef,
    stop: &Arc<AtomicBool>,
) -> Result<(Arc<Gate>, thread::JoinHandle<()>), LogError> {
    let gate = Arc::new(Gate::default());
    let mut reader = log.reader(Isolation::Committed)?;
    let (first, end) = reader.bounds(&topic.name, Partition(0))?;
    reader.seek(&topic.name, Partition(0), first)?;
    while reader.position()? < end {
        gate.hear(&reader.read(READ_MAX, WAIT)?);
    }
    let (heard, stop) = (gate.clone(), stop.clone());
    let thread = thread::Builder::new()
        .name("commands".to_owned())
        .spawn(move || follow(&mut *reader, &heard, &stop))
        .map_err(|e| LogError::Refused(format!("a thread cannot be started: {e}")))?;
    Ok((gate, thread))
}

fn follow(reader: &mut dyn Reader, gate: &Gate, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        match reader.read(READ_MAX, WAIT) {
            Ok(records) => gate.hear(&records),
            Err(error) => {
                tracing::debug!(%error, "commands cannot be read");
                thread::sleep(BACKOFF);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use semel_schemas::{
        header::Headers,
        time::WallTime,
        topic::{Offset, TopicName},
    };

    use super::*;

    fn said(what: CommandKind, target: &str) -> Record {
        let by = "ann@here".to_owned();
        let (target, detail, at) = (target.into(), String::new(), WallTime(0));
        let value = Command { what, target, detail, by, at, generation: None };
        let mut headers = Headers::new();
        headers.push(header::TYPE, COMMAND);
        Record {
            topic: TopicName::new("p.commands").unwrap(),
            partition: Partition(0),
            offset: Offset(0),
            timestamp_ms: 0,
            key: None,
            value: Some(codec::encode(&value)),
            headers,
        }
    }

    #[test]
    fn the_last_word_about_each_counts() {
        let gate = Gate::default();
        let mut foreign = said(CommandKind::Pause, "b");
        foreign.headers = Headers::new();
        let broken = Record { value: Some(b"{".to_vec()), ..said(CommandKind::Pause, "b") };
        gate.hear(&[said(CommandKind::Pause, "a"), foreign, broken]);
        gate.hear(&[said(CommandKind::Publish, "a"), said(CommandKind::Resume, "c")]);
        assert!(gate.is_shut("a") && !gate.is_shut("b") && !gate.is_shut("c"));
        gate.hear(&[said(CommandKind::Resume, "a"), said(CommandKind::Pause, "c")]);
        assert!(!gate.is_shut("a") && gate.is_shut("c"));
    }
}
