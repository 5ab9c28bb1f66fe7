//! Alerts: what a person has to look at. Data only; who is told, and how, is a sink's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{fault::FaultCode, time::WallTime};

/// Type name of [`Alert`].
pub const ALERT: &str = "alert";

/// Something stopped, and goes on only when a person has acted. Keyed by `subject`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// Stable code.
    pub code: FaultCode,
    /// What stopped: a source's name, a root's id, an intent's id.
    pub subject: String,
    /// One sentence: what is wrong, where, what to do.
    pub text: String,
    /// When it was noticed.
    pub at: WallTime,
}
