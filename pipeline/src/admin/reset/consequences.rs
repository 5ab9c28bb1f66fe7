//! What a reset means for exactly-once: for the stage itself, and for each reader of what it
//! writes.
//!
//! A record that is processed again emits records with the ids that they had, since an id comes
//! from what caused it. That helps only those who look at ids or keys, so each reader is told
//! apart.

use semel_schemas::topic::TopicName;

use super::{
    super::{View, view::Part},
    ResetRow,
};
use crate::engine::topology::Stage;

/// One sentence each.
pub(super) fn of(view: &View, stage: &Stage, rows: &[ResetRow]) -> Vec<String> {
    let name = &stage.name;
    let mut told = Vec::new();
    if rows.iter().any(|row| row.from.is_some_and(|from| row.to > from)) {
        told.push(format!(
            "records between the two places are passed over: `{name}` never processes them"
        ));
    }
    if rows.iter().any(|row| row.to > 0) {
        told.push(format!(
            "the state is built from the new place on: what lies before it (ids, nonces, sums, \
             open epochs) is not known to `{name}` any more, so a duplicate of an older record is \
             taken for new"
        ));
    }
    if rows.iter().any(|row| row.effects > 0) {
        told.push(
            "effects without an outcome are forgotten: they may happen or have happened, and are \
             asked for again if their records are processed again"
                .to_owned(),
        );
    }
    if stage.operators.iter().any(|operator| operator.source().is_some()) {
        told.push(format!(
            "`{name}` is a source: it reads the outside anew from its first slot and writes every \
             fact again, under the id that it had (`semel resume --from-slot` lets one that \
             stopped go on)"
        ));
    }
    let mut topics: Vec<&TopicName> = stage
        .next
        .iter()
        .chain(stage.outputs.values().flatten())
        .map(|topic| &topic.name)
        .filter(|topic| **topic != stage.input.name)
        .collect();
    topics.sort_unstable();
    topics.dedup();
    if stage.next.iter().any(|topic| topic.name == stage.input.name) {
        told.push(format!(
            "`{name}` writes to the topic that it reads: what it wrote there before comes to it \
             again, and once more when it writes it again"
        ));
    }
    told.extend(topics.into_iter().map(|topic| readers(view, stage, topic)));
    told
}

fn readers(view: &View, stage: &Stage, topic: &TopicName) -> String {
    let readers = view.parts().filter(|part| part.input().name == *topic);
    let mut each: Vec<String> = readers
        .filter(|part| part.name() != stage.name)
        .map(|part| match part {
            Part::Sink(sink) => {
                format!("sink `{}` writes the same rows again, by their keys", sink.name)
            }
            Part::Stage(reader)
                if reader.operators.first().is_some_and(|o| o.name() == "dedupe") =>
            {
                format!("stage `{}` drops those whose ids it remembers", reader.name)
            }
            Part::Stage(reader) => format!(
                "stage `{}` takes them TWICE (it does not begin with `dedupe`): reset it too, to \
                 the end of the topic as it is now or to its own beginning",
                reader.name
            ),
        })
        .collect();
    if each.is_empty() {
        each.push(
            "nobody in this pipeline reads it; other readers tell doubles by `semel-id`".to_owned(),
        );
    }
    format!("records are written to {topic} again: {}", each.join("; "))
}
