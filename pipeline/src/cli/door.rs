//! How a command reaches a pipeline: through the process that has the data folder, on Kafka, or by
//! opening the folder for the moment. And who it is that asks.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use semel::{
    admin::{self, Answer, Ask, Stop, View, repartition::in_force, socket::Client},
    folder::FolderError,
    log::Log,
    spec::{Spec, plan::Plan},
};

use super::{Done, Failure, boot};

/// See the module.
pub(super) enum Door {
    /// Through a running process.
    There(Client),
    /// By ourselves.
    Here(Box<View>),
}

impl Door {
    /// Opens it.
    pub(super) fn open(spec: &Spec, plan: Plan) -> Result<Self, Failure> {
        let path = Path::new(&spec.pipeline.data);
        if let Ok(client) = Client::connect(path) {
            return Ok(Self::There(client));
        }
        if !spec.log.brokers.is_empty() {
            return Self::here(boot::kafka(&spec.log)?, plan);
        }
        if !path.exists() {
            return Err(Failure::Failed(format!(
                "there is no data folder {}: run the pipeline first",
                path.display()
            )));
        }
        let deadline = Instant::now() + boot::PATIENCE;
        loop {
            match boot::folder(spec) {
                Ok(folder) => return Self::here(boot::log(&spec.log, &folder)?, plan),
                Err(error @ FolderError::Locked { .. }) => match Client::connect(path) {
                    Ok(client) => return Ok(Self::There(client)),
                    Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
                    Err(e) => {
                        let text = format!("{error}; and it does not answer: {e}");
                        return Err(Failure::Failed(text));
                    }
                },
                Err(error) => return Err(Failure::Failed(error.to_string())),
            }
        }
    }

    /// Nothing is looked at or written by a spec that the log has left behind.
    fn here(log: Arc<dyn Log>, plan: Plan) -> Result<Self, Failure> {
        in_force(&*log, &plan).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self::Here(Box::new(View { log, plan: Arc::new(plan), live: None })))
    }

    /// Asks, and tells the answers as they come.
    pub(super) fn ask(
        &mut self,
        ask: Ask,
        tell: &mut dyn FnMut(Answer) -> Done,
    ) -> Result<(), Failure> {
        let mut failure = None;
        let mut heard = |answer| {
            tell(answer).map_err(|error| {
                failure = Some(error);
                Stop::Gone
            })
        };
        let asked = match self {
            Self::There(client) => client.ask(&ask, &mut heard),
            Self::Here(view) => admin::answer(view, ask, &mut |answer| match answer {
                Answer::Beat => Ok(()),
                answer => heard(answer),
            }),
        };
        match (failure, asked) {
            (Some(failure), _) => Err(failure),
            (None, Ok(())) => Ok(()),
            (None, Err(Stop::Refused(text))) => Err(Failure::Failed(text)),
            (None, Err(Stop::Gone)) => Err(Failure::Gone),
        }
    }
}

/// An answer that does not belong to its question.
pub(super) fn unexpected(answer: &Answer) -> Failure {
    let text = format!("{answer:?}");
    let text: String = text.chars().take(200).collect();
    Failure::Failed(format!("an unexpected answer (is the process of another version?): {text}"))
}

/// User and host, as they stand in the records of commands.
pub(super) fn who() -> String {
    let user = whoami::username().unwrap_or_else(|_| "unknown".to_owned());
    let host = whoami::hostname().unwrap_or_else(|_| "unknown".to_owned());
    format!("{user}@{host}")
}
