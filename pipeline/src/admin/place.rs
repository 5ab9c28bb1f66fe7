//! A place in a topic as people say it: `earliest`, `end`, an offset, the last few, a time.
//!
//! A time is found by halving: log timestamps grow with offsets but for the clocks of several
//! writers, so what is found is the first record at or after that time, give or take those clocks.

use std::{str::FromStr, time::Duration};

use semel_schemas::{
    time::WallTime,
    topic::{NextOffset, Partition, TopicName},
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::log::{LogError, Reader};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The first record that is held.
    Earliest,
    /// Behind the last record that is there now.
    End,
    /// This offset, in every partition.
    Offset(u64),
    /// So many offsets before the end, in every partition.
    Last(u64),
    /// The first record at or after this time.
    Time(WallTime),
    /// So long ago, milliseconds.
    Ago(u64),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no place in a topic: say `earliest`, `end`, an offset (`17`), the last \
                 ones (`-10`), a time (`2026-01-31T12:00:00Z`) or how long ago (`90s`, `10m`, `2h`, \
                 `1d`)"
            )
        };
        if let Some(last) = text.strip_prefix('-') {
            return last.parse().map(Self::Last).map_err(|_| wrong());
        }
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
            let ms = time.unix_timestamp_nanos() / 1_000_000;
            return u64::try_from(ms).map(|ms| Self::Time(WallTime(ms))).map_err(|_| wrong());
        }
        match text {
            "earliest" => return Ok(Self::Earliest),
            "end" => return Ok(Self::End),
            _ => {}
        }
        let (number, unit) =
            text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
        let ms = match unit {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        Ok(Self::Ago(count.saturating_mul(ms)))
    }
}

impl Place {
    /// The offset of this place in a partition with these bounds, within them.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read.
    pub fn offset(
        self,
        reader: &mut dyn Reader,
        (topic, partition): (&TopicName, Partition),
        (first, end): (NextOffset, NextOffset),
        now: WallTime,
    ) -> Result<NextOffset, LogError> {
        let at = match self {
            Self::Earliest => first,
            Self::End => end,
            Self::Offset(offset) => NextOffset(offset),
            Self::Last(count) => NextOffset(end.0.saturating_sub(count)),
            Self::Time(time) => first_since(reader, (topic, partition), (first, end), time)?,
            Self::Ago(ms) => {
                let time = WallTime(now.0.saturating_sub(ms));
                first_since(reader, (topic, partition), (first, end), time)?
            }
        };
        Ok(at.clamp(first, end))
    }
}

/// The offset of the first record at or after `time`, or the end.
fn first_since(
    reader: &mut dyn Reader,
    (topic, partition): (&TopicName, Partition),
    (first, end): (NextOffset, NextOffset),
    time: WallTime,
) -> Result<NextOffset, LogError> {
    let (mut low, mut high) = (first.0, end.0);
    while low < high {
        let middle = low + (high - low) / 2;
        match record_at(reader, (topic, partition), middle, high)? {
            // Nothing but gaps from the middle on.
            None => high = middle,
            Some((_, at)) if at >= time.0 => high = middle,
            Some((offset, _)) => low = offset + 1,
        }
    }
    Ok(NextOffset(low))
}

/// Offset and time of the first record at or after `from`, before `end`.
fn record_at(
    reader: &mut dyn Reader,
    (topic, partition): (&TopicName, Partition),
    from: u64,
    end: u64,
) -> Result<Option<(u64, u64)>, LogError> {
    reader.seek(topic, partition, NextOffset(from))?;
    while reader.position()?.0 < end {
        if let Some(record) = reader.read(1, Duration::from_millis(200))?.into_iter().next() {
            let found = (record.offset.0, record.timestamp_ms);
            return Ok((record.offset.0 < end).then_some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        for (text, want) in [
            ("earliest", Place::Earliest),
            ("end", Place::End),
            ("17", Place::Offset(17)),
            ("-3", Place::Last(3)),
            ("90s", Place::Ago(90_000)),
            ("2h", Place::Ago(7_200_000)),
            ("1970-01-01T00:00:01.5Z", Place::Time(WallTime(1_500))),
            ("1970-01-01T01:00:00+01:00", Place::Time(WallTime(0))),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        for text in ["", "-", "x", "5y", "1.5h", "é", "1969-01-01T00:00:00Z", "2026-01-31"] {
            assert!(text.parse::<Place>().unwrap_err().contains("is no place"), "{text}");
        }
    }
}
