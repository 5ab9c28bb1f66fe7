//! How decisions are run: the log, the engine, pipeline specs, and the `semel` command.
//!
//! Lives here: the engine (tasks, commits, state, timers, effects), the log and its three
//! implementations, the spec file, the command line. May not live here: decisions about records
//! (`operators/`), conversations with databases and chains (`connectors/`), data types that flow
//! (`schemas/`).

pub mod admin;
pub mod audit;
#[cfg(feature = "kafka")]
pub mod bench;
pub mod engine;
pub mod folder;
pub mod host;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
pub mod ingress;
pub mod log;
pub mod merkle;
pub mod sim;
pub mod spec;
pub mod state;
pub mod telemetry;
pub mod testing;
#[cfg(feature = "kafka")]
pub mod verify;
