//! Parquet: the rows of one row group at a time, by the Arrow reader of the crate `parquet`.
//!
//! Invariants: a null is no field; a column whose values have no exact text is refused by name, never
//! passed over, because a record without it would say something else; memory is bounded by the rows of
//! a batch and by what one answer may hold.

use std::fs::File;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray as _,
    new_null_array,
    types::{
        Float32Type, Float64Type, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType,
    },
};
use arrow_schema::{DataType, Schema, TimeUnit};
use semel_schemas::{
    fault::{Fault, FaultCode},
    file::FilePlace,
};

use super::{ColumnKind, LocalFile, Piece, Unread, WINDOW, exact, shape::quoted};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 256;

/// The records behind a place (group and row), and how far that is in bytes: the share of the rows.
pub(super) fn read(
    local: &LocalFile,
    file: File,
    size: u64,
    (mut group, mut row): (u64, u64),
    max: usize,
) -> Result<(Piece, u64), Unread> {
    let refused =
        |e: &dyn std::fmt::Display| Unread::Refused(format!("cannot be read as Parquet: {e}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| refused(&e))?;
    check_columns(builder.schema())?;
    let groups: Vec<u64> = builder
        .metadata()
        .row_groups()
        .iter()
        .map(|group| u64::try_from(group.num_rows()).unwrap_or(0))
        .collect();
    let rows_of = |group: u64| usize::try_from(group).ok().and_then(|at| groups.get(at)).copied();
    while rows_of(group).is_some_and(|rows| row >= rows) {
        (group, row) = (group + 1, 0);
    }
    let mut piece = Piece::at(FilePlace::Row { group, row });
    if rows_of(group).is_some() {
        let skip = usize::try_from(row).unwrap_or(usize::MAX);
        let reader = builder
            .with_row_groups(vec![usize::try_from(group).unwrap_or(usize::MAX)])
            .with_offset(skip)
            .with_limit(max)
            .with_batch_size(max.min(BATCH_ROWS))
            .build()
            .map_err(|e| refused(&e))?;
        for batch in reader {
            let batch = batch.map_err(|e| refused(&e))?;
            take(local, &batch, (group, &mut row), &mut piece);
            if piece.bad.is_some() || bytes_of(&piece) >= WINDOW {
                break;
            }
        }
        if rows_of(group).is_some_and(|rows| row >= rows) {
            (group, row) = (group + 1, 0);
        }
        piece.place = FilePlace::Row { group, row };
    }
    piece.end = rows_of(group).is_none();
    let done = groups.iter().zip(0..).filter(|(_, at)| *at < group).map(|(rows, _)| rows);
    let done = done.sum::<u64>() + row;
    let all = groups.iter().sum::<u64>();
    let bytes = u128::from(size) * u128::from(done) / u128::from(all.max(1));
    let bytes = if piece.end { size } else { u64::try_from(bytes).unwrap_or(size) };
    Ok((piece, bytes))
}

/// Looks whether each column's values have an exact text, so that no row is taken without one.
fn check_columns(schema: &Schema) -> Result<(), Unread> {
    for field in schema.fields() {
        let (name, kind) = (field.name(), field.data_type());
        let known = matches!(kind, DataType::Float32 | DataType::Float64)
            || value(&new_null_array(kind, 1), 0).is_some();
        if !known {
            return Err(Unread::Refused(format!(
                "has column `{name}` of type {kind}, which has no exact text: write it as text, \
                 whole numbers, floats, booleans, timestamps or bytes"
            )));
        }
    }
    Ok(())
}

/// What an answer holds so far: as much as one of a file with lines at most, and a record.
fn bytes_of(piece: &Piece) -> usize {
    piece.records.iter().map(|record| record.value.len()).sum()
}

/// Takes the rows of a batch, up to the first that is no record, or for which there is no room.
fn take(local: &LocalFile, batch: &RecordBatch, (group, row): (u64, &mut u64), piece: &mut Piece) {
    let mut bytes = bytes_of(piece);
    for at in 0..batch.num_rows() {
        if bytes >= WINDOW {
            return;
        }
        let place = FilePlace::Row { group, row: *row };
        *row += 1;
        let record = match object(local, batch, at) {
            Ok(value) => local.record(place, &value),
            Err(fault) => Err(local.bad(place, &fault)),
        };
        match record {
            Ok(record) => {
                bytes += record.value.len();
                piece.records.push(record);
            }
            Err(bad) => {
                piece.bad = Some(bad);
                return;
            }
        }
    }
}

/// A row as a JSON object.
fn object(local: &LocalFile, batch: &RecordBatch, at: usize) -> Result<String, Fault> {
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if column.is_null(at) {
            continue;
        }
        let Some((text, kind)) = value(column, at) else {
            let text = format!("column `{}` holds a float that is no number", field.name());
            return Err(Fault::new(FaultCode::WrongType, text));
        };
        if let Some(value) = local.cell(field.name(), &text, kind)? {
            fields.push(format!("{}:{value}", quoted(field.name())));
        }
    }
    Ok(format!("{{{}}}", fields.join(",")))
}

/// A value as exact text, and what it is in JSON unless the settings say otherwise.
fn value(column: &ArrayRef, at: usize) -> Option<(String, ColumnKind)> {
    // The shortest digits that read back as the same float.
    let float = |value: f64, text: String| value.is_finite().then_some((text, ColumnKind::Number));
    match column.data_type() {
        DataType::Boolean => Some((column.as_boolean().value(at).to_string(), ColumnKind::Boolean)),
        DataType::Float32 => {
            let value = column.as_primitive::<Float32Type>().value(at);
            float(value.into(), value.to_string())
        }
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(at);
            float(value, value.to_string())
        }
        // A count of its unit since 1970, as the file holds it.
        DataType::Timestamp(unit, _) => {
            let count = match unit {
                TimeUnit::Second => column.as_primitive::<TimestampSecondType>().value(at),
                TimeUnit::Millisecond => {
                    column.as_primitive::<TimestampMillisecondType>().value(at)
                }
                TimeUnit::Microsecond => {
                    column.as_primitive::<TimestampMicrosecondType>().value(at)
                }
                TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().value(at),
            };
            Some((count.to_string(), ColumnKind::Number))
        }
        kind if kind.is_integer() => Some((exact::text(column, at)?, ColumnKind::Number)),
        _ => Some((exact::text(column, at)?, ColumnKind::Text)),
    }
}
