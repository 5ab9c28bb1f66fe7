//! `semel` with one operator more: `limit` lets no account spend more than `max` in all.
//!
//! An operator holds its settings; what it knows is in the stores that it declares, which the engine
//! commits together with its outputs. It may not do I/O, read a clock or draw a random number.

use semel::{
    Registry,
    operators::operator::{Context, Input, Operator, StoreDecl, To},
    schemas::{codec, fault::Fault},
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    record: String,
    max: u64,
}

#[derive(Deserialize)]
struct Order {
    amount: u64,
}

#[derive(Debug)]
struct Limit(Settings);

impl Operator for Limit {
    fn name(&self) -> &'static str {
        "limit"
    }

    fn stores(&self) -> &'static [StoreDecl] {
        &[StoreDecl { name: "spent", version: 1 }]
    }

    fn takes(&self, kind: &str) -> bool {
        kind == self.0.record
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["over"]
    }

    fn apply(&self, ctx: &mut Context<'_>, input: Input) -> Result<(), Fault> {
        let Input::Record(record) = input else { return Ok(()) };
        let order: Order = codec::decode(&record.kind, record.value.as_deref().unwrap_or(b"null"))?;
        let spent: u64 = ctx.get_json("spent", &record.key).unwrap_or_default();
        match spent.checked_add(order.amount).filter(|sum| *sum <= self.0.max) {
            Some(sum) => {
                ctx.put_json("spent", &record.key, &sum);
                ctx.forward(record);
            }
            None => ctx.emit(To::Output("over"), &record.kind, &record.key, record.value),
        }
        Ok(())
    }
}

fn limit(settings: Settings) -> Result<Limit, String> {
    match settings.max {
        0 => Err("`max` is 0: nothing would ever pass".to_owned()),
        _ => Ok(Limit(settings)),
    }
}

fn registry() -> Registry {
    Registry::standard().with("limit", limit)
}

fn main() -> std::process::ExitCode {
    semel::main(registry())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_cases_of_its_spec_hold() {
        let spec = concat!(env!("CARGO_MANIFEST_DIR"), "/limit.toml");
        assert_eq!(semel::testing::cases::hold(&super::registry(), spec.as_ref()), Ok(3));
    }
}
