//! The traps.
