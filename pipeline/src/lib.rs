//! How decisions are run: the log, the engine, pipeline specs, and the `semel` command.
//!
//! A program with operators of its own depends on this crate alone. [`main`] is the whole `semel`
//! command with them, so that `check`, `test`, `lag`, `trace` and the rest know them too; [`run`]
//! runs one pipeline. `deploy/example-operator` is such a program, to be copied.
//!
//! ```no_run
//! // The operators that ship; `Registry::with` adds one.
//! let registry = semel::Registry::standard();
//! semel::run(&registry, "pipeline.toml".as_ref())?;
//! # Ok::<(), String>(())
//! ```
//!
//! Lives here: the engine (tasks, commits, state, timers, effects), the log and its three
//! implementations, the spec file, the command line. May not live here: decisions about records
//! (`operators/`), conversations with databases and chains (`connectors/`), data types that flow
//! (`schemas/`).

// The command was written as a user of the library, and says `semel::` like one.
extern crate self as semel;

pub mod admin;
pub mod audit;
#[cfg(feature = "kafka")]
pub mod bench;
mod cli;
#[cfg(feature = "http")]
pub mod console;
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

pub use semel_operators as operators;
pub use semel_schemas as schemas;

pub use self::{
    cli::{main, run::run_spec as run},
    spec::operators::Registry,
};
