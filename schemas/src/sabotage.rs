//! Deliberately broken variants: each switches off one guard, to show that a test would notice.
//!
//! Lives here: their names, and which one is active on this thread. May not live here: what a
//! guard is; it stands where it guards, as `if !sabotaged(Sabotage::X) { … }`.
//!
//! Invariants: without the feature `sabotage` nothing can be switched off and [`sabotaged`] is a
//! constant `false`; with it nothing is switched off until [`Sabotage::begin`], and then on the
//! calling thread only, until the guard is dropped.

/// One guard that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// The offset that is committed is one too small: the last record is processed again.
    OffsetOneTooSmall,
    /// The offset that is committed is one too large: a record is skipped.
    OffsetOneTooLarge,
    /// After an abort the overlay is promoted as if the commit had succeeded.
    PromoteOnAbort,
}

impl Sabotage {
    /// Every variant, in the order of declaration.
    pub const ALL: [Self; 3] =
        [Self::OffsetOneTooSmall, Self::OffsetOneTooLarge, Self::PromoteOnAbort];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OffsetOneTooSmall => "offset-one-too-small",
            Self::OffsetOneTooLarge => "offset-one-too-large",
            Self::PromoteOnAbort => "promote-on-abort",
        }
    }

    /// The variant of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Switches the guard off on this thread until the answer is dropped.
    #[cfg(feature = "sabotage")]
    #[must_use = "the guard is off only while this lives"]
    pub fn begin(self) -> Active {
        Active { before: ACTIVE.replace(Some(self)) }
    }
}

#[cfg(feature = "sabotage")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// While this lives, a guard is off on the thread that made it.
#[cfg(feature = "sabotage")]
#[derive(Debug)]
pub struct Active {
    before: Option<Sabotage>,
}

#[cfg(feature = "sabotage")]
impl Drop for Active {
    fn drop(&mut self) {
        ACTIVE.set(self.before);
    }
}

/// Whether this guard is off.
#[cfg(feature = "sabotage")]
#[must_use]
pub fn sabotaged(which: Sabotage) -> bool {
    ACTIVE.get() == Some(which)
}

/// Whether this guard is off: never, in a build that people use.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn sabotaged(_: Sabotage) -> bool {
    false
}

#[cfg(all(test, feature = "sabotage"))]
mod tests {
    use super::{Sabotage, sabotaged};

    #[test]
    fn names_are_found_again_and_nothing_is_off_by_itself() {
        for each in Sabotage::ALL {
            assert_eq!(Sabotage::named(each.name()), Some(each));
            assert!(!sabotaged(each));
            let active = each.begin();
            assert!(sabotaged(each));
            drop(active);
            assert!(!sabotaged(each));
        }
    }
}
