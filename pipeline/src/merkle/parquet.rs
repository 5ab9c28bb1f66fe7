//! Parquet: rows of a file as records, by the Arrow reader of the crate `parquet`.
//!
//! Invariant: only types whose text is exact are read: text, whole numbers, decimals without places,
//! bytes. A column of another type, such as a float, is passed over, whatever it holds; where a field
//! is missing for that reason, the error says so.

use std::{collections::BTreeMap, fs::File, path::Path};

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::{
    Array, ArrayRef,
    cast::AsArray as _,
    types::{
        Decimal128Type, Decimal256Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::DataType;
use semel_operators::merkle::explain::Record;

use super::{Place, Take};

/// Every record.
pub(super) fn each(path: &Path, take: &mut Take<'_>) -> Result<(), String> {
    let unread = |why: &dyn std::fmt::Display| format!("it cannot be read as Parquet: {why}");
    let file = File::open(path).map_err(|why| unread(&why))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|why| unread(&why))?;
    let mut row = 0;
    for batch in reader.build().map_err(|why| unread(&why))? {
        let batch = batch.map_err(|why| unread(&why))?;
        let schema = batch.schema();
        for at in 0..batch.num_rows() {
            row += 1;
            let (mut record, mut passed_over) = (Record::new(), BTreeMap::new());
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                if column.is_null(at) {
                    continue;
                }
                match text(column, at) {
                    Some(text) => _ = record.insert(field.name().clone(), text),
                    None => _ = passed_over.insert(field.name(), field.data_type()),
                }
            }
            take(Place::Row(row), record).map_err(|why| with_hint(why, &passed_over))?;
        }
    }
    Ok(())
}

/// An error, and which columns could not be read.
fn with_hint(why: String, passed_over: &BTreeMap<&String, &DataType>) -> String {
    if passed_over.is_empty() {
        return why;
    }
    let columns: Vec<_> =
        passed_over.iter().map(|(name, kind)| format!("`{name}` of type {kind}")).collect();
    format!(
        "{why}; passed over: {}, because only text, whole numbers, decimals without places and bytes \
         are read",
        columns.join(", ")
    )
}

/// The exact text of a value, if its type has one.
fn text(column: &ArrayRef, at: usize) -> Option<String> {
    let hex = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
    Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(at).to_owned(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(at).to_owned(),
        DataType::Utf8View => column.as_string_view().value(at).to_owned(),
        DataType::Binary => hex(column.as_binary::<i32>().value(at)),
        DataType::LargeBinary => hex(column.as_binary::<i64>().value(at)),
        DataType::BinaryView => hex(column.as_binary_view().value(at)),
        DataType::FixedSizeBinary(_) => hex(column.as_fixed_size_binary().value(at)),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(at).to_string(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(at).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(at).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(at).to_string(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(at).to_string(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(at).to_string(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(at).to_string(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(at).to_string(),
        DataType::Decimal128(_, 0) => column.as_primitive::<Decimal128Type>().value(at).to_string(),
        DataType::Decimal256(_, 0) => column.as_primitive::<Decimal256Type>().value(at).to_string(),
        _ => return None,
    })
}
