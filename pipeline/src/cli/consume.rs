//! `semel consume`: the records of a topic.

use std::path::PathBuf;

use clap::ValueEnum;
use semel::admin::{
    Answer, Ask,
    consume::{Consume, FieldTest, Filter, Then},
    place::Place,
    show,
};
use semel_schemas::record::Record;

use super::{
    Done, boot,
    door::{self, Door},
    output,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The spec, a TOML file
    spec: PathBuf,
    /// The topic, with or without the pipeline's name before it
    topic: String,
    /// From where: earliest, end, 17 (offset), -10 (the last ten of each partition),
    /// 2026-01-31T12:00:00Z, 90s, 10m, 2h, 1d (ago); default: earliest, with --follow: end
    #[arg(long, allow_hyphen_values = true)]
    from: Option<Place>,
    /// Up to where, the same way; that record itself is left out
    #[arg(long, allow_hyphen_values = true, default_value = "end")]
    to: Place,
    /// Go on with what comes
    #[arg(long, short, conflicts_with = "to")]
    follow: bool,
    /// Only this partition
    #[arg(long, short)]
    partition: Option<u32>,
    /// Only records of this key
    #[arg(long, short)]
    key: Option<String>,
    /// Only records of this type
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// Only the record with this semel-id, or topic/partition/offset
    #[arg(long)]
    id: Option<String>,
    /// Only records whose value has such a field: channel=alpha, amount>=1000, id~twitch
    #[arg(long = "where", value_name = "TEST")]
    fields: Vec<FieldTest>,
    /// Only so many records
    #[arg(long, short = 'n')]
    limit: Option<u64>,
    /// How records are printed
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line: time, place, type, key, value
    Human,
    /// One JSON object a line, with headers
    Json,
    /// The value's bytes and a line's end
    Raw,
}

/// Prints them.
pub(super) fn consume(args: &Args) -> Done {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let start = if args.follow { Place::End } else { Place::Earliest };
    let ask = Ask::Consume(Consume {
        topic: args.topic.clone(),
        partition: args.partition,
        from: args.from.unwrap_or(start),
        to: args.to,
        then: if args.follow { Then::Follow } else { Then::Stop },
        limit: args.limit,
        filter: Filter {
            key: args.key.clone(),
            kind: args.kind.clone(),
            id: args.id.clone(),
            fields: args.fields.clone(),
        },
    });
    let format = if args.json { Format::Json } else { args.format };
    Door::open(&spec, plan)?.ask(ask, &mut |answer| match answer {
        Answer::Record(row) => print(&row.into(), format),
        other => Err(door::unexpected(&other)),
    })
}

fn print(record: &Record, format: Format) -> Done {
    match format {
        Format::Human => output::line(&show::line(record)),
        Format::Json => output::json(&show::json(record)),
        Format::Raw => output::raw(record.value.as_deref().unwrap_or_default()),
    }
}
