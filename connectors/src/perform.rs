//! Effect → conversation → outcome: which connector performs an effect.

use async_trait::async_trait;
use semel_schemas::effect::{Effect, Outcome};

/// Performs effects. Safe to call late, again, and from two processes at once.
#[async_trait]
pub trait Performer: Send + Sync {
    /// Performs one effect. Never fails: what is not known is [`Outcome::Uncertain`].
    async fn perform(&self, effect: &Effect) -> Outcome;
}
