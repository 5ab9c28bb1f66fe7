//! Values of Parquet columns as exact text. Files of records and leaves of trees both read by it.
//!
//! Invariant: only types whose text is exact have one: text, whole numbers, decimals without places,
//! bytes (as hexadecimal digits behind `0x`). May not live here: what becomes of the others.

use arrow_array::{
    Array, ArrayRef,
    cast::AsArray as _,
    types::{
        Decimal128Type, Decimal256Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::DataType;

/// The exact text of a value, if its type has one. The value must be there: not null, and `at` within
/// the column.
#[must_use]
pub fn text(column: &ArrayRef, at: usize) -> Option<String> {
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
