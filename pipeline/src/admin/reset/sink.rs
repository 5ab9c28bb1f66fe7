//! A sink begins anew: the rows in its database that say how far each partition was written, and
//! the group's offsets. The rows of its tables stay: what is written again has the same keys.
//!
//! Invariants: the offset row moves first, by compare-and-set, for it is the truth; the group's
//! offset and the record of the command follow in one transaction. A reset that stopped between the
//! two has moved the sink, and is to be asked for again to be told.

use semel_schemas::{
    request::CommandKind,
    topic::{NextOffset, Partition},
};

use super::{
    super::{Stop, View, view::Part},
    Act, Group, Looked, Reset, ResetRow, Unanswered, commit, produce, target,
};

/// The offset rows of a sink's database.
pub trait OffsetRows {
    /// What the row of a partition holds.
    ///
    /// # Errors
    /// One sentence.
    fn stands(&mut self, partition: Partition) -> Result<Standing, String>;

    /// Moves the row of a partition, if it still holds what was seen.
    ///
    /// # Errors
    /// One sentence.
    fn put(&mut self, partition: Partition, seen: Standing, next: NextOffset)
    -> Result<(), String>;
}

/// An offset row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where the sink goes on; none: it wrote nothing yet.
    pub next: Option<NextOffset>,
    /// Records that wait in the database: for a parent row, or to be told as dead letters.
    pub waiting: u64,
}

/// Looks, and does it if that is asked. `rows`: the database of the sink that is named.
///
/// # Errors
/// [`Stop`]: nothing was done, or whole partitions were; the sentence says which.
pub fn reset_sink(view: &View, ask: &Reset, rows: &mut dyn OffsetRows) -> Result<Looked, Stop> {
    let Part::Sink(sink) = view.part(&ask.part)? else {
        return Err(Stop::Refused(format!("`{}` is no sink", ask.part)));
    };
    view.existing(&sink.topic.name)?;
    let group = Group {
        pipeline: &view.plan.name,
        name: &sink.name,
        group: &sink.group,
        topic: &sink.topic,
    };
    let looked = match ask.act {
        Act::Look => look(view, &group, ask, rows)?,
        Act::Do => group.hold(view, |member| {
            let looked = look(view, &group, ask, rows)?;
            for (row, seen) in &looked {
                let (partition, next) = (Partition(row.partition), NextOffset(row.to));
                rows.put(partition, *seen, next).map_err(|e| group.half(partition, &e))?;
                let from = row.from.map_or_else(|| "its start".to_owned(), |from| from.to_string());
                let detail =
                    format!("sink `{}`, partition {partition}: from {from} to {next}", sink.name);
                let told = view.command(CommandKind::Reset, &sink.name, detail, &ask.by)?;
                produce(member, told)
                    .and_then(|()| commit(member, &[(partition, next)]).map_err(|e| e.text))
                    .map_err(|e| group.half(partition, &e))?;
            }
            Ok(looked)
        })?,
    };
    let rows: Vec<ResetRow> = looked.into_iter().map(|(row, _)| row).collect();
    let mut consequences = vec![
        "rows of the tables stay; a record that is written again has the key that it had, and its \
         row goes once more through the states that it went through"
            .to_owned(),
    ];
    if rows.iter().any(|row| row.from.is_some_and(|from| row.to > from)) {
        let text = "records between the two places are passed over: they never become rows";
        consequences.push(text.to_owned());
    }
    Ok(Looked { rows, consequences })
}

fn look(
    view: &View,
    group: &Group<'_>,
    ask: &Reset,
    rows: &mut dyn OffsetRows,
) -> Result<Vec<(ResetRow, Standing)>, Stop> {
    let mut looked = Vec::new();
    for partition in (0..group.topic.partitions).map(Partition) {
        let seen = rows.stands(partition)?;
        let (to, end) = target::find(view, &group.topic.name, partition, ask.to)?;
        if seen.waiting > 0 && ask.act == Act::Do && ask.unanswered == Unanswered::Keep {
            return Err(Stop::Refused(format!(
                "{} records of partition {partition} wait in the database of `{}` (for a parent \
                 row, or to be told as dead letters), and would come twice: let the sink run until \
                 none waits",
                seen.waiting, group.name
            )));
        }
        let row = ResetRow {
            partition: partition.0,
            from: seen.next.map(|next| next.0),
            to: to.0,
            end: end.0,
            keys: 0,
            timers: 0,
            effects: 0,
            waiting: seen.waiting,
        };
        looked.push((row, seen));
    }
    Ok(looked)
}
