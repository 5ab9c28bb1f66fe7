//! `semel audit roots`: rebuilds every root from the rows of `claims`, and asks the chain.

use std::path::PathBuf;

use clap::Subcommand;
use semel::{
    audit::{
        self, RootAudit,
        book::{self, Book},
    },
    spec::{
        Spec,
        plan::{Plan, SinkPlan},
    },
};
use semel_connectors::sinks::look::Look;
use semel_schemas::solana::Address;

use super::{Done, Failure, boot, output, run};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Rebuild each root from the table `claims`; compare with the table `roots` and the chain
    Roots {
        /// The spec, a TOML file
        spec: PathBuf,
    },
}

/// Audits.
pub(super) fn audit(args: &Args) -> Done {
    let What::Roots { spec } = &args.what;
    let (spec, plan) = boot::load(spec, &boot::environment)?;
    let runtime = run::runtime()?;
    let connectors = {
        let _guard = runtime.enter();
        boot::connectors(&spec, None)?
    };
    let (chain, mint) = settlement(&spec)?;
    let node = connectors
        .chains
        .get(&chain)
        .ok_or_else(|| Failure::Usage(format!("the spec has no chain `{chain}`")))?;
    let sink = table(&plan, "roots")?;
    let audits = runtime.block_on(async {
        let look = Look::open(&sink.url).await.map_err(|e| e.to_string())?;
        let book = Book::new(look, &sink.schema, book::profiles(&spec));
        audit::roots(&book, &**node, &mint).await
    });
    report(&audits.map_err(Failure::Failed)?)
}

/// The sink that writes this table.
pub(super) fn table<'a>(plan: &'a Plan, name: &str) -> Result<&'a SinkPlan, Failure> {
    let writes = |sink: &&SinkPlan| sink.mapping.tables.iter().any(|table| table.table == name);
    let sink = plan.sinks.iter().find(writes);
    sink.ok_or_else(|| Failure::Usage(format!("no sink of this spec writes the table `{name}`")))
}

/// The chain and mint that roots are settled with.
fn settlement(spec: &Spec) -> Result<(String, Address), Failure> {
    let operators = spec.stage.iter().flat_map(|stage| &stage.operators);
    let text = |table: &toml::Table, key: &str| {
        table.get(key).and_then(|value| value.as_str()).map(str::to_owned)
    };
    operators
        .map(toml::Spanned::get_ref)
        .find(|table| text(table, "use").as_deref() == Some("settle_solana"))
        .and_then(|table| Some((text(table, "chain")?, text(table, "mint")?.parse().ok()?)))
        .ok_or_else(|| Failure::Usage("no stage of this spec settles on Solana".to_owned()))
}

fn verdict(audit: &RootAudit) -> String {
    match audit.superseded_by {
        _ if !audit.wrong.is_empty() => audit.wrong.join("; "),
        Some(newer) => format!("agrees; on the chain epoch {newer} took its place"),
        None => "agrees".to_owned(),
    }
}

fn report(audits: &[RootAudit]) -> Done {
    let rows: Vec<Vec<String>> = audits
        .iter()
        .map(|audit| {
            vec![
                audit.epoch.to_string(),
                audit.channel.clone(),
                audit.count.to_string(),
                audit.rows.to_string(),
                audit.status.clone(),
                audit.stored.clone(),
                verdict(audit),
            ]
        })
        .collect();
    let headings = ["epoch", "channel", "count", "rows", "status", "root", "audit"];
    output::table(&headings, &rows)?;
    let wrong = audits.iter().filter(|audit| !audit.wrong.is_empty()).count();
    let second = audits.iter().filter(|audit| audit.second.is_some()).count();
    output::line(&format!("{second} roots rebuilt by rs_merkle too, which is not ours"))?;
    output::line(&format!("{} roots audited, {wrong} wrong", audits.len()))?;
    if wrong > 0 {
        return Err(Failure::Failed(format!("{wrong} roots do not agree: see above")));
    }
    Ok(())
}
