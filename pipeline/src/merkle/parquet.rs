//! Parquet: rows of a file as records, by the Arrow reader of the crate `parquet`.
//!
//! Invariant: only types whose text is exact are read: text, whole numbers, decimals without places,
//! bytes. A column of another type, such as a float, is passed over, whatever it holds; where a field
//! is missing for that reason, the error says so.

use std::{collections::BTreeMap, fs::File, path::Path};

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::Array;
use arrow_schema::DataType;
use semel_connectors::files::exact::text;
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
