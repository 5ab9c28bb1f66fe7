//! `pause` and `resume`: a stage or a sink stands still in every process, across restarts, until it
//! is resumed; and a source that stopped at a discontinuity goes on.
//!
//! Invariant: what is paused already, or was not, is told and writes nothing.

use semel_schemas::{
    codec,
    header::{self, Headers},
    record::OutRecord,
    request::{CommandKind, RESUME, Resume},
    time::Slot,
};
use serde::{Deserialize, Serialize};

use super::{Stop, View, letters::scan, view::Part};
use crate::host::gate::{Paused, fold};

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// Stage, source or sink.
    pub part: String,
    /// What.
    pub action: Action,
    /// Who asks.
    pub by: String,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stand still.
    Pause,
    /// Go on.
    Resume {
        /// A source that stopped: at this slot, not at its cursor.
        from_slot: Option<Slot>,
    },
}

/// The stages and sinks that are paused.
///
/// # Errors
/// [`Stop`].
pub fn paused(view: &View) -> Result<Paused, Stop> {
    let mut paused = Paused::new();
    if view.log.topic(&view.plan.commands.name)?.is_some() {
        scan(view, &view.plan.commands, &mut |record| {
            fold(&mut paused, &record);
            Ok(())
        })?;
    }
    Ok(paused)
}

/// Does it; what was done, for people.
///
/// # Errors
/// [`Stop`].
pub fn halt(view: &View, ask: &Halt) -> Result<String, Stop> {
    let part = view.part(&ask.part)?;
    let name = part.name();
    let is_paused = paused(view)?.contains(name);
    let mut records = Vec::new();
    let (kind, detail) = match ask.action {
        Action::Pause if is_paused => return Err(format!("`{name}` is paused already").into()),
        Action::Pause => (CommandKind::Pause, format!("`{name}` stands still")),
        Action::Resume { from_slot: None } if is_paused => {
            (CommandKind::Resume, format!("`{name}` goes on"))
        }
        Action::Resume { from_slot } => {
            let source = source(part).ok_or_else(|| {
                Stop::Refused(match from_slot {
                    Some(_) => format!("`{name}` is no source: only those go on from a slot"),
                    None => format!("`{name}` is not paused"),
                })
            })?;
            records.push(go_on(part, source, from_slot, &ask.by));
            let whence =
                from_slot.map_or("its cursor".to_owned(), |slot| format!("slot {}", slot.0));
            (CommandKind::Resume, format!("source `{name}` goes on from {whence}"))
        }
    };
    records.push(view.command(kind, name, detail.clone(), &ask.by)?);
    view.log.append(records)?;
    Ok(detail)
}

/// The name that the part's source has in its own settings, if it is one.
fn source(part: Part<'_>) -> Option<&str> {
    let Part::Stage(stage) = part else { return None };
    stage.operators.iter().find_map(|operator| operator.source())
}

fn go_on(part: Part<'_>, source: &str, from_slot: Option<Slot>, by: &str) -> OutRecord {
    let value = Resume { source: source.to_owned(), from_slot, by: by.to_owned() };
    let mut headers = Headers::new();
    headers.push(header::TYPE, RESUME);
    let topic = part.input();
    OutRecord {
        topic: topic.name.clone(),
        partition: Some(semel_schemas::partition::partition_for_key(
            source.as_bytes(),
            topic.partitions,
        )),
        key: Some(source.as_bytes().to_vec()),
        value: Some(codec::encode(&value)),
        headers,
    }
}
