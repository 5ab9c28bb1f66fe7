//! The engine proved over the driver: toy operators, faults, crashes. One file is one promise.

mod commit;
mod effects;
mod failures;
mod groups;
mod letters;
mod quarantine;
mod sink;
mod time;
mod toys;
mod traps;
