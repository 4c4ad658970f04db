use std::path::Path;
use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::{ABOUT, ARCHITECTURE, CONTRACT_ID, DIM, Row, SHA256};
use crate::DeployError;
use crate::gallery::{BATCH, Gallery, streamed};

const SCHEMA: &str = "message vitrine {
    required int64 id;
    optional binary subject (STRING);
    optional int32 camera (INTEGER(32,false));
    optional int64 taken (TIMESTAMP(MILLIS,true));
    required group tags (LIST) { repeated group list { required binary element (STRING); } }
    optional binary picture (STRING);
    required group others (LIST) { repeated group list { required binary element (STRING); } }
    required group missing (LIST) { repeated group list { required binary element (STRING); } }
    optional int64 size;
    optional int64 modified (TIMESTAMP(MILLIS,true));
    required group embedding (LIST) { repeated group list { required float element; } }
}";

/// Rows of a group: what is said about them is held in memory, their values are not.
const GROUP: usize = 16 * BATCH;

/// Writes the templates of a gallery, some at a time.
///
/// # Errors
/// If the gallery cannot be read, or the file cannot be written; it is then as it was.
pub fn write(path: &Path, gallery: &Gallery) -> Result<(), DeployError> {
    let failed = |error: ParquetError| DeployError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error.to_string()),
    };
    let (model, rows) = (gallery.model(), gallery.rows()?);
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(failed)?);
    let facts = [
        (CONTRACT_ID, model.contract_id.clone()),
        (DIM, model.dim.to_string()),
        (ARCHITECTURE, model.architecture.clone()),
        (SHA256, model.sha256.clone()),
        (ABOUT, gallery.about().text()),
    ];
    let facts = facts.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
    let properties = WriterProperties::builder()
        .set_created_by(format!("vitrine {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(facts))
        // Pages are written as they are full, and embeddings have no value twice.
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    streamed(path, |out| {
        let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(failed)?;
        for ids in rows.chunks(GROUP) {
            let rows: Vec<Row> = gallery.templates(ids)?.iter().map(Row::of).collect();
            let mut group = Group { group: file.next_row_group().map_err(failed)? };
            group.described(ids, &rows).map_err(failed)?;
            let mut column =
                group.group.next_column().map_err(failed)?.ok_or_else(|| failed(ParquetError::EOF(SCHEMA.into())))?;
            for ids in ids.chunks(BATCH) {
                let values = gallery.vectors(ids)?;
                let first = |at| i16::from(at % model.dim != 0);
                let repetition: Vec<i16> = (0..values.len()).map(first).collect();
                let definition = vec![1; values.len()];
                let writer = column.typed::<FloatType>();
                writer.write_batch(&values, Some(&definition), Some(&repetition)).map_err(failed)?;
            }
            column.close().map_err(failed)?;
            group.group.close().map_err(failed)?;
        }
        file.close().map(drop).map_err(failed)
    })
}

/// A group of rows whose columns are written in the order of the schema.
struct Group<'a, W: std::io::Write> {
    group: SerializedRowGroupWriter<'a, W>,
}

impl<W: std::io::Write + Send> Group<'_, W> {
    /// Every column but the last.
    fn described(&mut self, ids: &[usize], rows: &[Row]) -> Result<(), ParquetError> {
        fn text(text: &str) -> ByteArray {
            ByteArray::from(text)
        }
        let ids: Vec<i64> = ids.iter().map(|id| *id as i64).collect();
        self.column::<Int64Type>(&ids, None, None)?;
        self.optional::<ByteArrayType>(rows.iter().map(|row| row.subject.as_deref().map(text)))?;
        self.optional::<Int32Type>(rows.iter().map(|row| row.camera.map(u32::cast_signed)))?;
        self.optional::<Int64Type>(rows.iter().map(|row| row.taken))?;
        self.lists(rows.iter().map(|row| &row.tags[..]))?;
        self.optional::<ByteArrayType>(rows.iter().map(|row| row.picture.as_deref().map(text)))?;
        self.lists(rows.iter().map(|row| &row.others[..]))?;
        self.lists(rows.iter().map(|row| &row.missing[..]))?;
        self.optional::<Int64Type>(rows.iter().map(|row| row.size))?;
        self.optional::<Int64Type>(rows.iter().map(|row| row.modified))
    }

    fn optional<T: DataType>(&mut self, values: impl Iterator<Item = Option<T::T>>) -> Result<(), ParquetError> {
        let values: Vec<Option<T::T>> = values.collect();
        let definition: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
        let values: Vec<T::T> = values.into_iter().flatten().collect();
        self.column::<T>(&values, Some(&definition), None)
    }

    fn lists<'b>(&mut self, lists: impl Iterator<Item = &'b [String]>) -> Result<(), ParquetError> {
        let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
        for list in lists {
            if list.is_empty() {
                definition.push(0);
                repetition.push(0);
            }
            for (at, text) in list.iter().enumerate() {
                values.push(ByteArray::from(text.as_str()));
                definition.push(1);
                repetition.push(i16::from(at > 0));
            }
        }
        self.column::<ByteArrayType>(&values, Some(&definition), Some(&repetition))
    }

    fn column<T: DataType>(
        &mut self,
        values: &[T::T],
        definition: Option<&[i16]>,
        repetition: Option<&[i16]>,
    ) -> Result<(), ParquetError> {
        let column = self.group.next_column()?;
        let mut column = column.ok_or_else(|| ParquetError::EOF("there is no further column".into()))?;
        column.typed::<T>().write_batch(values, definition, repetition)?;
        column.close()
    }
}
