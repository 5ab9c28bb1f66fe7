//! `semel dlq`: dead letters, and deciding about them.

use std::path::PathBuf;

use clap::Subcommand;
use semel::admin::{
    Answer, Ask,
    letters::{Decide, LetterRow, Letters, Which},
    show,
};
use semel_schemas::request::QuarantineAction;

use super::{
    Done, Failure, boot,
    door::{self, Door},
    output,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Dead letters that nobody has decided about
    List {
        #[command(flatten)]
        which: WhichArgs,
        /// Those that were decided about as well
        #[arg(long)]
        all: bool,
        /// Only so many
        #[arg(long, short = 'n')]
        limit: Option<u64>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Dead letters whole, with headers, reason and value
    Show {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Take dead letters again; a quarantined key goes on, in its order
    Replay {
        #[command(flatten)]
        decide: DecideArgs,
    },
    /// Leave dead letters out; a quarantined key goes on without them
    Drop {
        #[command(flatten)]
        decide: DecideArgs,
    },
}

#[derive(Debug, clap::Args)]
struct WhichArgs {
    /// The spec, a TOML file
    spec: PathBuf,
    /// Where they stand: partition/offset in the dead-letter topic
    places: Vec<String>,
    /// Only of this stage or sink
    #[arg(long)]
    stage: Option<String>,
    /// Only of this fault: SEM-0001
    #[arg(long)]
    fault: Option<String>,
    /// Only of this key
    #[arg(long, short)]
    key: Option<String>,
}

#[derive(Debug, clap::Args)]
struct DecideArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// All that nobody has decided about, where nothing else says which
    #[arg(long)]
    all: bool,
    /// Also those that were decided about
    #[arg(long)]
    again: bool,
}

impl WhichArgs {
    fn which(&self, decided: bool) -> Which {
        Which {
            places: self.places.clone(),
            stage: self.stage.clone(),
            fault: self.fault.clone(),
            key: self.key.clone(),
            decided,
        }
    }

    fn says_nothing(&self) -> bool {
        self.places.is_empty() && self.stage.is_none() && self.fault.is_none() && self.key.is_none()
    }
}

/// Shows or decides.
pub(super) fn dlq(args: &Args) -> Done {
    match &args.what {
        What::List { which, all, limit, json } => {
            let decided = *all || !which.places.is_empty();
            let ask = Letters { which: which.which(decided), limit: *limit, last: None };
            list(which, ask, |row| if *json { whole(row) } else { line(row) })
        }
        What::Show { which } => {
            let ask = Letters { which: which.which(true), limit: None, last: None };
            list(which, ask, whole)
        }
        What::Replay { decide } => decided(decide, QuarantineAction::Replay),
        What::Drop { decide } => decided(decide, QuarantineAction::Drop),
    }
}

fn list(which: &WhichArgs, ask: Letters, print: impl Fn(LetterRow) -> Done) -> Done {
    let (spec, plan) = boot::load(&which.spec, &boot::environment)?;
    Door::open(&spec, plan)?.ask(Ask::Letters(ask), &mut |answer| match answer {
        Answer::Letter(row) => print(row),
        other => Err(door::unexpected(&other)),
    })
}

fn line(row: LetterRow) -> Done {
    let show::LetterLine { time, place, stage, key, fault, text, decided, .. } = show::letter(row);
    output::line(&format!("{time}  {place}  {stage}  {key}  {fault}  {text}  {decided}"))
}

fn whole(row: LetterRow) -> Done {
    let mut shown = show::json(&row.record.into());
    if let (Some(object), Some(decided)) = (shown.as_object_mut(), row.decided) {
        let text = serde_json::to_value(decided).unwrap_or_default();
        object.insert("decided".to_owned(), text);
    }
    output::json(&shown)
}

fn decided(args: &DecideArgs, action: QuarantineAction) -> Done {
    if args.which.says_nothing() && !args.all {
        return Err(Failure::Usage(
            "say which dead letters: their places, --stage, --fault, --key, or --all".to_owned(),
        ));
    }
    let ask = Decide { which: args.which.which(args.again), action, by: door::who() };
    let (spec, plan) = boot::load(&args.which.spec, &boot::environment)?;
    Door::open(&spec, plan)?.ask(Ask::Decide(ask), &mut |answer| match answer {
        Answer::Decided { rows } => {
            rows.iter().try_for_each(|row| output::line(&format!("{}: {}", row.letter, row.done)))
        }
        other => Err(door::unexpected(&other)),
    })
}
