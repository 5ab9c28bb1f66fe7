//! `semel reset`: a stage that begins anew, with an empty state; without `--yes` it only says what
//! that would do.

use std::{path::PathBuf, sync::Arc};

use semel::{
    admin::{
        Answer, Ask, Stop, View,
        reset::{Act, Looked, OffsetRows, Reset, Standing, To, Unanswered, reset_sink},
    },
    spec::plan::SinkPlan,
};
use semel_connectors::sink::{Sink, SinkBatch, Written};
use semel_schemas::topic::{NextOffset, Partition, TopicId};
use tokio::runtime::Runtime;

use super::{
    Done, Failure, boot,
    door::{self, Door},
    output, run,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The spec, a TOML file
    spec: PathBuf,
    /// The stage, source or sink
    part: String,
    /// Where it begins anew: `earliest`, `end`, an offset (17), a time (2026-01-31T12:00:00Z, 10m),
    /// slot:432000
    #[arg(long, allow_hyphen_values = true)]
    to: To,
    /// Do it; without this it is only said what would happen
    #[arg(long)]
    yes: bool,
    /// Forget effects that have no outcome yet, which may happen all the same
    #[arg(long)]
    forget_effects: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks, or does it.
pub(super) fn reset(args: &Args) -> Done {
    let (spec, plan) = boot::load(&args.spec, &boot::environment)?;
    let ask = Reset {
        part: args.part.clone(),
        to: args.to,
        act: if args.yes { Act::Do } else { Act::Look },
        unanswered: if args.forget_effects { Unanswered::Forget } else { Unanswered::Keep },
        by: door::who(),
    };
    let sink = plan.sinks.iter().find(|sink| sink.name == args.part).cloned();
    let mut door = Door::open(&spec, plan)?;
    if let (Door::Here(view), Some(sink)) = (&door, sink) {
        let mut rows = Rows::connect(sink, view)?;
        let looked = reset_sink(view, &ask, &mut rows).map_err(|stop| match stop {
            Stop::Refused(text) => Failure::Failed(text),
            Stop::Gone => Failure::Gone,
        })?;
        return show(args, &looked);
    }
    door.ask(Ask::Reset(ask), &mut |answer| match answer {
        Answer::Reset(looked) => show(args, &looked),
        other => Err(door::unexpected(&other)),
    })
}

/// The offset rows of a sink's database.
struct Rows {
    runtime: Runtime,
    plan: SinkPlan,
    id: TopicId,
    sink: Arc<dyn Sink>,
}

impl Rows {
    fn connect(plan: SinkPlan, view: &View) -> Result<Self, Failure> {
        let failed =
            |e: &dyn std::fmt::Display| Failure::Failed(format!("sink `{}`: {e}", plan.name));
        let topic = &plan.topic.name;
        let info = view.log.topic(topic).map_err(|e| failed(&e))?;
        let id = info.ok_or_else(|| failed(&format!("there is no topic {topic}")))?.id;
        let mapping = plan.mapping.clone();
        let runtime = run::runtime()?;
        let guard = runtime.enter();
        let sink = semel_connectors::sinks::connect(&plan.url, &plan.schema, mapping)
            .map_err(|e| failed(&e))?;
        drop(guard);
        runtime.block_on(sink.prepare()).map_err(|e| failed(&e))?;
        Ok(Self { runtime, plan, id, sink })
    }

    /// A write without records: it moves the offset row, if that holds what is expected.
    fn write(
        &self,
        partition: Partition,
        expected: Option<NextOffset>,
        next: NextOffset,
    ) -> Result<u64, String> {
        let batch = SinkBatch {
            topic: self.plan.topic.name.clone(),
            topic_id: self.id.clone(),
            partition,
            expected,
            next,
            records: Vec::new(),
            reported: Vec::new(),
        };
        match self.runtime.block_on(self.sink.write(&batch)).map_err(|e| e.to_string())? {
            Written::Done { delayed, .. } => Ok(delayed),
            Written::Moved { found } => Err(format!("its offset row moved meanwhile: {found:?}")),
        }
    }
}

impl OffsetRows for Rows {
    fn stands(&mut self, partition: Partition) -> Result<Standing, String> {
        let (topic, sink) = (&self.plan.topic.name, &self.sink);
        let next = self.runtime.block_on(sink.position(topic, &self.id, partition));
        let Some(next) = next.map_err(|e| e.to_string())? else {
            return Ok(Standing { next: None, waiting: 0 });
        };
        let untold = self.runtime.block_on(sink.unreported(topic, &self.id, partition));
        let untold = untold.map_err(|e| e.to_string())?.len() as u64;
        let delayed = self.write(partition, Some(next), next)?;
        Ok(Standing { next: Some(next), waiting: untold + delayed })
    }

    fn put(
        &mut self,
        partition: Partition,
        seen: Standing,
        next: NextOffset,
    ) -> Result<(), String> {
        self.write(partition, seen.next, next).map(|_| ())
    }
}

fn show(args: &Args, looked: &Looked) -> Done {
    if args.json {
        return output::json(looked);
    }
    let rows: Vec<Vec<String>> = looked
        .rows
        .iter()
        .map(|row| {
            let from = row.from.map_or_else(|| "-".to_owned(), |from| from.to_string());
            let numbers = [row.to, row.end, row.keys, row.timers, row.effects, row.waiting];
            let numbers = numbers.iter().map(ToString::to_string);
            [row.partition.to_string(), from].into_iter().chain(numbers).collect()
        })
        .collect();
    let headings = ["partition", "from", "to", "end", "keys", "timers", "effects", "waiting"];
    output::table(&headings, &rows)?;
    for text in &looked.consequences {
        output::line(&format!("- {text}"))?;
    }
    if args.yes {
        output::line(&format!("`{}` begins anew", args.part))
    } else {
        output::say("nothing was changed: say --yes to do it");
        Ok(())
    }
}
