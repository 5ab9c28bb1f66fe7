//! The catalog: operator names → constructors. An operator's settings are its own type; what the
//! spec says is read into it, unknown keys refused.

use std::sync::Arc;

use semel_operators::operator::Operator;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::parse::{Source, SpecError, explain, unknown_key};

/// Names of all operators.
pub const NAMES: &[&str] = &[
    "batch",
    "dedupe",
    "epoch_batch",
    "merkle",
    "nonce_order",
    "settle_solana",
    "sign",
    "solana_source",
];

/// Builds the operator that a spec's table describes.
///
/// # Errors
/// [`SpecError`] with the line of the key that is wrong.
pub fn build(
    source: &Source,
    table: &Spanned<toml::Table>,
) -> Result<Arc<dyn Operator>, SpecError> {
    use semel_operators as o;
    let at = table.span().start;
    let mut settings = table.get_ref().clone();
    let name = match settings.remove("use") {
        Some(toml::Value::String(name)) => name,
        _ => return Err(source.error_at(at, "an operator needs `use = \"<name>\"`")),
    };
    let make = Make { source, at, settings };
    match name.as_str() {
        "batch" => make.with(o::batch::Batch::new),
        "dedupe" => make.with(o::dedupe::Dedupe::new),
        "epoch_batch" => make.with(o::epoch_batch::EpochBatch::new),
        "merkle" => make.with(o::merkle_root::MerkleRoot::new),
        "nonce_order" => make.with(o::nonce_order::NonceOrder::new),
        "settle_solana" => make.with(o::settle_solana::SettleSolana::new),
        "sign" => make.with(o::sign::Sign::new),
        "solana_source" => make.with(o::solana_source::SolanaSource::new),
        _ => {
            let message = format!(
                "unknown field `{name}`, expected one of {}",
                NAMES.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
            );
            let text = explain(&message).replace("unknown key", "unknown operator");
            Err(source.error_at_key(at, "use", text))
        }
    }
}

struct Make<'a> {
    source: &'a Source,
    at: usize,
    settings: toml::Table,
}

impl Make<'_> {
    fn with<S, O>(
        self,
        new: impl Fn(S) -> Result<O, String>,
    ) -> Result<Arc<dyn Operator>, SpecError>
    where
        S: DeserializeOwned,
        O: Operator + 'static,
    {
        let settings: S = self.settings.try_into().map_err(|error: toml::de::Error| {
            let message = error.message();
            let key = match unknown_key(message) {
                Some((key, _)) => key,
                None => message.split('`').nth(1).unwrap_or_default().to_owned(),
            };
            self.source.error_at_key(self.at, &key, explain(message))
        })?;
        let operator = new(settings).map_err(|text| self.source.error_at(self.at, text))?;
        Ok(Arc::new(operator))
    }
}
