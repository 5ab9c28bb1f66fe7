//! `semel verify`: the exactly-once audit. Processes of a pipeline run on the user's own Kafka and
//! PostgreSQL, are fed records of known content, are killed and paused and cut off, and at the end
//! everything is compared: what was given, what is in the topics, in the state, in the tables.
//!
//! `checks` what is refused before anything starts · `world` the namespace in cluster and database ·
//! `events`, `claims` two pipelines: what is fed, what must be there · `feed` producing · `faults`
//! when what is done · `processes` doing it · `compare` counting · `report` the table · `chance` seeds.
//!
//! May not live here: anything that a pipeline needs to run. Invariants: nothing outside of our own
//! namespace is touched; what was made is removed, whatever happened; a verification that could not
//! look is never a good one.

mod chance;
mod checks;
mod claims;
pub mod compare;
mod events;
pub mod faults;
mod feed;
mod processes;
pub mod report;
mod run;
mod world;

use std::{path::PathBuf, sync::Arc, sync::atomic::AtomicBool, time::Duration};

use self::{
    faults::Wanted,
    feed::Script,
    report::{Line, Report},
    world::World,
};
use crate::spec::{LogSpec, plan::Plan};

/// Why there is no report.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// Nothing was started: what stands against it.
    #[error("{0}")]
    Refused(String),
    /// It broke off.
    #[error("{0}")]
    Failed(String),
    /// A person ended it.
    #[error("interrupted; nothing was compared")]
    Interrupted,
}

/// Which pipeline is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events through dedupe and nonce order: no chain is needed.
    Events,
    /// Claims down to the settled root, on a devnet of our own.
    Claims,
}

/// What is verified, and how hard.
#[derive(Debug)]
pub struct Options {
    /// The pipeline.
    pub kind: Kind,
    /// The cluster.
    pub log: LogSpec,
    /// The database's address.
    pub database: String,
    /// Prefix of topics and groups, name of the schema.
    pub namespace: String,
    /// Processes at a time.
    pub processes: u32,
    /// Records to feed.
    pub records: u64,
    /// What is done to them.
    pub wanted: Wanted,
    /// The time to feed in; `None`: as long as the faults take, and not faster than a pipeline can.
    pub time: Option<Duration>,
    /// How long to wait for the end after the last record.
    pub patience: Duration,
    /// Within that: how long nothing may move until nothing more is waited for.
    pub calm: Duration,
    /// The shell command that restarts a broker.
    pub restart_broker: Option<String>,
    /// The shell command that restarts the database.
    pub restart_database: Option<String>,
    /// Seed of records and faults.
    pub seed: u64,
    /// Whether everything stays for a person to look at.
    pub keep: bool,
    /// The binary whose `run` is verified.
    pub exe: PathBuf,
    /// Where data folders and logs go; must not exist.
    pub folder: PathBuf,
}

/// A pipeline whose content is known.
trait Pipeline {
    type Script: Script;
    /// Its name.
    fn name(&self) -> &'static str;
    /// Its spec's text.
    fn spec(&self) -> &'static str;
    /// The topic that is fed, by its short name.
    fn input(&self) -> &'static str;
    /// Topics that are written to even when nothing happens, by their short names.
    fn restless(&self) -> &'static [&'static str] {
        &[]
    }
    /// Starts what it needs beside cluster and database; the variables that its spec asks for.
    fn start(&mut self, _: &World, _: &Options) -> Result<Vec<(String, String)>, VerifyError> {
        Ok(Vec::new())
    }
    /// Makes its tables.
    fn prepare(&mut self, _: &World) -> Result<(), VerifyError> {
        Ok(())
    }
    /// What is fed.
    fn script(&self, seed: u64, records: u64) -> Self::Script;
    /// How much is not there yet.
    fn missing(&self, world: &World, script: &Self::Script) -> Result<u64, VerifyError>;
    /// Compares everything.
    fn compare(
        &self,
        world: &World,
        plan: &Plan,
        script: &Self::Script,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Line>, VerifyError>;
}

/// Verifies.
///
/// `say` is told what happens; `stop` ends it early, with everything removed. Must be called outside
/// of tokio; the database is asked on `runtime`.
///
/// # Errors
/// [`VerifyError`] if there is no report.
pub fn verify(
    options: &Options,
    runtime: &tokio::runtime::Handle,
    stop: &Arc<AtomicBool>,
    say: &dyn Fn(&str),
) -> Result<Report, VerifyError> {
    match options.kind {
        Kind::Events => run::run(options, events::EventsPipeline, runtime, stop, say),
        Kind::Claims => run::run(options, claims::ClaimsPipeline::default(), runtime, stop, say),
    }
}
