//! What a running process tells about itself: metrics, health, logs.
//!
//! `table` every metric with its unit, one row each · `render` the table as documentation and as a
//! dashboard · `timed` a log that measures its commits · `sample` what is not counted but looked at:
//! lag, restores, effects under way · `health` ready, live, and why not · `server` the HTTP
//! endpoints · `logs` lines for people or for machines.
//!
//! Invariants: a metric that the code names stands in the table (a test reads the sources); looking
//! changes nothing, and a process whose log does not answer still answers `/health/live`.

pub mod health;
pub mod logs;
pub mod render;
#[cfg(feature = "http")]
pub mod sample;
#[cfg(feature = "http")]
pub mod server;
pub mod table;
pub mod timed;
