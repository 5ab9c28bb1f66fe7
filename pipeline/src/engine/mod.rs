//! The engine: how operators are run exactly once.
//!
//! ```text
//!            poll                 process                  commit               perform
//!  log ───▶ [lane] ── input ──▶ [task] ── overlay ──▶ outputs + changelog ──▶ effects ──▶ world
//!            ▲                    ▲        outbox       + next offsets                      │
//!            │                    └──────────────── outcome, as one more input ◀────────────┘
//!            └── rewind (known abort) / restore (unknown end, assignment)
//! ```
//!
//! `topology` what a stage is · `task` one input through a stage · `overlay`, `timers`, `effects`,
//! `quarantine`, `dead_letter` what a task's state and outbox hold · `lane` one member of a group:
//! the cycle · `pace` when to commit · `decide` what to do after a failure · `restore` state from
//! the changelog · `sink_lane` records → database · `counts`, `status`
//! what can be seen.
//!
//! May not live here: threads and clocks (`host`), conversations (`connectors/`), decisions about
//! records (`operators/`).

pub mod counts;
pub mod dead_letter;
pub mod decide;
pub mod effects;
pub mod lane;
pub mod overlay;
pub mod pace;
pub mod quarantine;
pub mod restore;
pub mod sink_lane;
pub mod status;
pub mod task;
pub mod timers;
pub mod topology;
