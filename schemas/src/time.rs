//! Times as newtypes: wall clock, slots, epochs, block heights. Never mixed, never negative.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
            JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Wall-clock time: milliseconds since 1970-01-01T00:00:00Z.
    WallTime
}
counter! {
    /// A Solana slot, or whatever counter a source's event time is measured in.
    Slot
}
counter! {
    /// A number of an epoch of the pipeline: `slot / EPOCH_DURATION_SLOTS`.
    Epoch
}
counter! {
    /// A Solana block height (skipped slots have none).
    BlockHeight
}

impl WallTime {
    /// This time plus `ms` milliseconds, saturating.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Epoch {
    /// The epoch that holds `slot` when an epoch lasts `duration` (at least 1) slots.
    #[must_use]
    pub fn of(slot: Slot, duration: u64) -> Self {
        Self(slot.0 / duration.max(1))
    }

    /// First slot of this epoch.
    #[must_use]
    pub fn start(self, duration: u64) -> Slot {
        Slot(self.0.saturating_mul(duration))
    }

    /// Last slot of this epoch (inclusive).
    #[must_use]
    pub fn end(self, duration: u64) -> Slot {
        Slot(self.start(duration).0.saturating_add(duration.saturating_sub(1)))
    }
}
