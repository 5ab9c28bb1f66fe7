//! Between lanes (threads) and connectors (async): bounded channels that neither side waits on.

use std::{sync::Arc, time::Duration};

use semel_connectors::{
    perform::Performer,
    sink::{Sink, SinkError},
};
use semel_schemas::{
    effect::Outcome,
    topic::{Partition, TopicId, TopicName},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::engine::{
    effects::{Done, EffectPort, Job},
    sink_lane::{SinkAnswer, SinkAsk, SinkPort},
};

/// Effects of one lane that are performed at once.
const EFFECTS_AT_ONCE: usize = 64;
/// An effect that takes longer has an uncertain outcome.
const EFFECT_DEADLINE: Duration = Duration::from_secs(60);
/// A database call that takes longer counts as unanswered.
const SINK_DEADLINE: Duration = Duration::from_secs(120);

/// Effects → performer.
#[derive(Debug)]
pub struct PerformerPort {
    jobs: mpsc::Sender<Job>,
    done: mpsc::UnboundedReceiver<Done>,
}

impl PerformerPort {
    /// A port; the performing runs on `runtime` until the port is dropped. Answers are as many as
    /// jobs, and jobs are bounded.
    #[must_use]
    pub fn new(runtime: &Handle, performer: Arc<dyn Performer>) -> Self {
        let (jobs, mut queue) = mpsc::channel::<Job>(EFFECTS_AT_ONCE);
        let (answers, done) = mpsc::unbounded_channel();
        runtime.spawn(async move {
            let room = Arc::new(Semaphore::new(EFFECTS_AT_ONCE));
            while let Some(job) = queue.recv().await {
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                let (performer, answers) = (performer.clone(), answers.clone());
                tokio::spawn(async move {
                    let outcome = timeout(EFFECT_DEADLINE, performer.perform(&job.effect)).await;
                    let outcome = outcome.unwrap_or_else(|_| Outcome::Uncertain {
                        text: format!("no answer within {} s", EFFECT_DEADLINE.as_secs()),
                    });
                    // The lane may be gone: then its successor asks again.
                    answers.send(Done { task: job.task, attempt: job.attempt, outcome }).ok();
                    drop(permit);
                });
            }
        });
        Self { jobs, done }
    }
}

impl EffectPort for PerformerPort {
    fn dispatch(&mut self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    fn outcomes(&mut self) -> Vec<Done> {
        std::iter::from_fn(|| self.done.try_recv().ok()).collect()
    }
}

/// Batches → database.
pub struct DatabasePort {
    runtime: Handle,
    sink: Arc<dyn Sink>,
    topic: TopicName,
    topic_id: TopicId,
    answers: mpsc::UnboundedSender<(Partition, u64, SinkAnswer)>,
    inbox: mpsc::UnboundedReceiver<(Partition, u64, SinkAnswer)>,
}

impl std::fmt::Debug for DatabasePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabasePort").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl DatabasePort {
    /// A port for the sink that reads this incarnation of `topic`.
    #[must_use]
    pub fn new(runtime: &Handle, sink: Arc<dyn Sink>, topic: TopicName, topic_id: TopicId) -> Self {
        let (answers, inbox) = mpsc::unbounded_channel();
        Self { runtime: runtime.clone(), sink, topic, topic_id, answers, inbox }
    }
}

impl SinkPort for DatabasePort {
    fn ask(&mut self, partition: Partition, life: u64, ask: SinkAsk) {
        let (sink, answers) = (self.sink.clone(), self.answers.clone());
        let (topic, topic_id) = (self.topic.clone(), self.topic_id.clone());
        self.runtime.spawn(async move {
            let answer = match ask {
                SinkAsk::Position => {
                    let position = sink.position(&topic, &topic_id, partition);
                    let late = SinkError::Unavailable("the database did not answer".to_owned());
                    SinkAnswer::Position(
                        timeout(SINK_DEADLINE, position).await.unwrap_or(Err(late)),
                    )
                }
                SinkAsk::Unreported => {
                    let unreported = sink.unreported(&topic, &topic_id, partition);
                    let late = SinkError::Unavailable("the database did not answer".to_owned());
                    SinkAnswer::Unreported(
                        timeout(SINK_DEADLINE, unreported).await.unwrap_or(Err(late)),
                    )
                }
                SinkAsk::Write(batch) => {
                    let late = SinkError::Unknown("the database did not answer a write".to_owned());
                    let write = timeout(SINK_DEADLINE, sink.write(&batch)).await;
                    SinkAnswer::Write(write.unwrap_or(Err(late)))
                }
            };
            answers.send((partition, life, answer)).ok();
        });
    }

    fn answers(&mut self) -> Vec<(Partition, u64, SinkAnswer)> {
        std::iter::from_fn(|| self.inbox.try_recv().ok()).collect()
    }
}
