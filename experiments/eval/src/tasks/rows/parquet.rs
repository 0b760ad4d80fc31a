//! Rows of parquet.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::SerializedFileReader;
use parquet::record::Field;
use parquet::record::reader::RowIter;
use retort_data::{catch_panic, check_parquet_footer};
use serde_json::Value;

use super::row_sink::{OnRow, wrong};
use crate::error::{Error, Result};

/// A damaged file is an error; the reader's panics are caught.
pub(super) fn read(path: &Path, on_row: &mut OnRow<'_>) -> Result<ControlFlow<()>> {
    let footer = |e: String| wrong(path, "footer".into(), e);
    let file = File::open(path).map_err(Error::io(path, "open it"))?;
    let checked = check_parquet_footer(&file).map_err(Error::io(path, "read it"))?;
    checked.map_err(footer)?;
    let mut rows = catch_panic(|| {
        let reader = SerializedFileReader::new(file)?;
        Ok::<_, ParquetError>(RowIter::from_file_into(Box::new(reader)))
    })
    .map_err(footer)?;
    for index in 0.. {
        // After an error nothing more is asked of the reader.
        let row = catch_panic(|| rows.next().transpose());
        let Some(row) = row.map_err(|e| wrong(path, format!("row {index}"), e))? else {
            break;
        };
        let columns = row.into_columns().into_iter();
        if on_row(columns.map(|(name, field)| (name, value(field))).collect())?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A parquet value as JSON; what has no place in a prompt, such as a date, is null.
fn value(field: Field) -> Value {
    match field {
        Field::Bool(b) => b.into(),
        Field::Byte(n) => n.into(),
        Field::Short(n) => n.into(),
        Field::Int(n) => n.into(),
        Field::Long(n) => n.into(),
        Field::UByte(n) => n.into(),
        Field::UShort(n) => n.into(),
        Field::UInt(n) => n.into(),
        Field::ULong(n) => n.into(),
        Field::Float(x) => x.into(),
        Field::Double(x) => x.into(),
        Field::Str(text) => text.into(),
        Field::Group(row) => {
            let columns = row.into_columns().into_iter();
            Value::Object(columns.map(|(name, field)| (name, value(field))).collect())
        }
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        _ => Value::Null,
    }
}
