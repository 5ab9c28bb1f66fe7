//! What a person may ask of a pipeline, beside a running process and on a stopped one.
//!
//! `mod` questions and answers · `socket` the running process's Unix socket, mode 0600: one JSON
//! question a line, any number of JSON answers, then `end` or `refused` · `view` what questions are
//! answered from · one file for each question: `consume` · `file` how far a file is read · `halt` ·
//! `lag` · `letters` · `produce` · `publish` · `repartition` · `reset` · `state` · `top` · `topics` ·
//! `trace` · `graph` a plan as a picture · `rows` records as they cross the socket · `show` as people
//! read them.
//!
//! Each question is a function over a [`View`], so it is answered by a running process, on Kafka and
//! on a stopped data folder by the same code. Answers are streamed: nothing here holds more than a
//! bounded number of records. What changes something writes a `semel.command` record in the same
//! transaction.

pub mod consume;
pub mod file;
pub mod graph;
pub mod halt;
pub mod lag;
pub mod letters;
pub mod place;
pub mod produce;
pub mod publish;
pub mod repartition;
pub mod reset;
pub mod rows;
pub mod show;
pub mod socket;
pub mod state;
pub mod top;
pub mod topics;
pub mod trace;
pub mod view;

use serde::{Deserialize, Serialize};

use crate::log::LogError;

pub use self::view::View;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// Release roots.
    Publish(publish::Publishing),
    /// List topics.
    Topics,
    /// Read a topic.
    Consume(consume::Consume),
    /// How far stages and sinks have come.
    Lag(lag::Lag),
    /// Write records to a topic.
    Produce(produce::Produce),
    /// Read a stage's state.
    State(state::State),
    /// Read dead letters.
    Letters(letters::Letters),
    /// Take dead letters again, or leave them out.
    Decide(letters::Decide),
    /// Let a stage or sink stand still, or go on.
    Halt(halt::Halt),
    /// How much each stage and sink has done, and what is left.
    Top,
    /// Let a stage begin anew.
    Reset(reset::Reset),
    /// Give a stage another number of partitions.
    Repartition(repartition::Repartition),
    /// Follow a record through the pipeline.
    Trace(trace::Trace),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The roots that were released.
    Published {
        /// Their names, `<channel>:<epoch>`.
        roots: Vec<String>,
    },
    /// The topics.
    Topics {
        /// One row each.
        topics: Vec<topics::TopicRow>,
    },
    /// A record.
    Record(rows::RecordRow),
    /// How far.
    Lag {
        /// One row for each partition.
        rows: Vec<lag::LagRow>,
    },
    /// Records were written: where.
    Produced {
        /// Partition and offset of each, in order.
        places: Vec<(u32, u64)>,
    },
    /// A record of a batch is wrong, so nothing of the batch was written.
    BadRecord {
        /// Which one, counted from 0.
        index: usize,
        /// Its fault.
        text: String,
    },
    /// A key of a stage's state.
    State(state::StateRow),
    /// A dead letter.
    Letter(letters::LetterRow),
    /// What became of dead letters.
    Decided {
        /// One row each.
        rows: Vec<letters::DecidedRow>,
    },
    /// What became of a stage or sink.
    Halted {
        /// One sentence.
        text: String,
    },
    /// Stages and sinks at a moment.
    Top {
        /// One row each.
        rows: Vec<top::TopRow>,
    },
    /// What a reset would do, or did.
    Reset(reset::Looked),
    /// What a repartition would do, or did.
    Repartition(repartition::Shared),
    /// A step of a record's way.
    Step(trace::StepRow),
    /// Nothing new yet; the connection is alive.
    Beat,
    /// It could not be done.
    Refused {
        /// One sentence.
        text: String,
    },
    /// That was all.
    End,
}

/// Why an answer ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It cannot be answered: one sentence.
    Refused(String),
    /// Who asked has gone, or has enough.
    Gone,
}

impl Stop {
    /// What a person is told.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::Refused(text) => text,
            Self::Gone => "who was asked has gone".to_owned(),
        }
    }
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Refused(text)
    }
}

impl From<&str> for Stop {
    fn from(text: &str) -> Self {
        Self::Refused(text.to_owned())
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Where answers go.
pub type Tell<'a> = dyn FnMut(Answer) -> Result<(), Stop> + 'a;

/// Answers a question; `tell` gets neither `end` nor `refused`.
///
/// # Errors
/// [`Stop`].
pub fn answer(view: &View, ask: Ask, tell: &mut Tell<'_>) -> Result<(), Stop> {
    match ask {
        Ask::Publish(ask) => {
            let roots = publish::publish(view, &ask)?;
            tell(Answer::Published { roots })
        }
        Ask::Topics => tell(Answer::Topics { topics: topics::topics(view)? }),
        Ask::Consume(ask) => consume::consume(view, &ask, &mut |heard| match heard {
            consume::Heard::Record(record) => tell(Answer::Record(record.into())),
            consume::Heard::Nothing => tell(Answer::Beat),
        }),
        Ask::Lag(ask) => tell(Answer::Lag { rows: lag::lag(view, &ask)? }),
        Ask::Produce(ask) => tell(produce::produce(view, &ask)?),
        Ask::State(ask) => state::state(view, &ask, tell),
        Ask::Letters(ask) => letters::letters(view, &ask, tell),
        Ask::Decide(ask) => tell(Answer::Decided { rows: letters::decide(view, &ask)? }),
        Ask::Halt(ask) => tell(Answer::Halted { text: halt::halt(view, &ask)? }),
        Ask::Top => tell(Answer::Top { rows: top::top(view)? }),
        Ask::Reset(ask) => tell(Answer::Reset(reset::reset(view, &ask)?)),
        Ask::Repartition(ask) => tell(Answer::Repartition(repartition::repartition(view, &ask)?)),
        Ask::Trace(ask) => trace::trace(view, &ask, tell),
    }
}
