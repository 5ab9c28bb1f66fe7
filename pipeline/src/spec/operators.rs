//! The registry: operator names → constructors. An operator's settings are its own type; what the
//! spec says is read into it, unknown keys refused.
//!
//! Invariant: a spec can name nothing that is not in the registry it is checked with.

use std::{collections::BTreeMap, fmt, sync::Arc};

use semel_operators::operator::Operator;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::parse::{Source, SpecError, explain, unknown_key};

/// Makes an operator of what a spec says.
type Maker = Arc<dyn Fn(Make<'_>) -> Result<Arc<dyn Operator>, SpecError> + Send + Sync>;

/// The operators that a spec may name.
///
/// ```
/// use semel::operators::operator::{Context, Input, Operator, StoreDecl};
/// use semel::schemas::fault::Fault;
///
/// #[derive(Debug, serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     record: String,
/// }
///
/// /// Counts records.
/// #[derive(Debug)]
/// struct Count(Settings);
///
/// impl Operator for Count {
///     fn name(&self) -> &'static str {
///         "count"
///     }
///     fn stores(&self) -> &'static [StoreDecl] {
///         &[StoreDecl { name: "count", version: 1 }]
///     }
///     fn takes(&self, kind: &str) -> bool {
///         kind == self.0.record
///     }
///     fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
///         if let Input::Record(record) = input {
///             let count: u64 = ctx.get_json("count", &record.key).unwrap_or_default();
///             ctx.put_json("count", &record.key, &(count + 1));
///             ctx.forward(record);
///         }
///         Ok(())
///     }
/// }
///
/// let registry = semel::Registry::standard().with("count", |settings| Ok(Count(settings)));
/// assert!(registry.names().any(|name| name == "count"));
/// ```
#[derive(Clone)]
pub struct Registry(BTreeMap<String, Maker>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::standard()
    }
}

impl Registry {
    /// The operators that Semel ships.
    #[must_use]
    pub fn standard() -> Self {
        use semel_operators as o;
        Self(BTreeMap::new())
            .with("batch", o::batch::Batch::new)
            .with("dedupe", o::dedupe::Dedupe::new)
            .with("epoch_batch", o::epoch_batch::EpochBatch::new)
            .with("file_source", o::file_source::FileSource::new)
            .with("merkle", o::merkle_root::MerkleRoot::new)
            .with("nonce_order", o::nonce_order::NonceOrder::new)
            .with("settle_solana", o::settle_solana::SettleSolana::new)
            .with("sign", o::sign::Sign::new)
            .with("solana_source", o::solana_source::SolanaSource::new)
    }

    /// One more operator, under the name that `use` gives it in a spec; one that has the name
    /// already is replaced. `new` gets the settings that stand beside `use`, read into its own type
    /// (let that refuse unknown fields), and answers with the operator, or with one sentence about
    /// a setting that is wrong.
    #[must_use]
    pub fn with<S, O>(
        mut self,
        name: &str,
        new: impl Fn(S) -> Result<O, String> + Send + Sync + 'static,
    ) -> Self
    where
        S: DeserializeOwned,
        O: Operator + 'static,
    {
        let maker: Maker = Arc::new(move |make: Make<'_>| make.with(&new));
        self.0.insert(name.to_owned(), maker);
        self
    }

    /// The names of all operators, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Builds the operator that a spec's table describes.
    ///
    /// # Errors
    /// [`SpecError`] with the line of the key that is wrong.
    pub(super) fn build(
        &self,
        source: &Source,
        table: &Spanned<toml::Table>,
    ) -> Result<Arc<dyn Operator>, SpecError> {
        let at = table.span().start;
        let mut settings = table.get_ref().clone();
        let name = match settings.remove("use") {
            Some(toml::Value::String(name)) => name,
            _ => return Err(source.error_at(at, "an operator needs `use = \"<name>\"`")),
        };
        if let Some(maker) = self.0.get(&name) {
            return maker(Make { source, at, settings });
        }
        let known: Vec<String> = self.names().map(|name| format!("`{name}`")).collect();
        let message = format!("unknown field `{name}`, expected one of {}", known.join(", "));
        let text = explain(&message).replace("unknown key", "unknown operator");
        Err(source.error_at_key(at, "use", text))
    }
}

/// What a spec says of one operator.
struct Make<'a> {
    source: &'a Source,
    at: usize,
    settings: toml::Table,
}

impl Make<'_> {
    fn with<S, O>(
        self,
        new: &impl Fn(S) -> Result<O, String>,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::plan::Plan, *};
    use crate::spec::parse::parse;

    const PAGE: &str = include_str!("../../../docs/operators.md");

    /// The settings that an operator knows, as it tells who names one that it does not know.
    fn known(operator: &str) -> BTreeSet<String> {
        let text = format!(
            "[pipeline]\nname = \"a\"\n[[stage]]\nname = \"s\"\ninput = \"i\"\n\
             [[stage.operators]]\nuse = \"{operator}\"\nQQQQQQQQQQQQ = 1\n"
        );
        let (spec, source) = parse("p.toml", &text, &|_: &str| None).unwrap();
        let errors = Plan::new(&spec, &source).unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let list = texts.iter().find_map(|text| text.split_once("known here are "));
        let (_, list) = list.unwrap_or_else(|| panic!("{operator}: {texts:?}"));
        list.split(", ").map(str::to_owned).collect()
    }

    /// The settings of an operator's section of the page: first cells in backquotes.
    fn told(operator: &str) -> BTreeSet<String> {
        let (_, section) = PAGE.split_once(&format!("\n## `{operator}`\n")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `"));
        cells.filter_map(|rest| Some(rest.split_once('`')?.0.to_owned())).collect()
    }

    #[test]
    fn the_page_of_operators_names_each_setting_and_no_other() {
        for operator in Registry::standard().names() {
            assert_eq!(told(operator), known(operator), "docs/operators.md, `{operator}`");
        }
        let sections = PAGE.matches("\n## `").count();
        assert_eq!(sections, Registry::standard().names().count());
    }
}
