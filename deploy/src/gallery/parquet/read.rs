use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datasets::columns::{Budget, Chunk, Columns as Source, OpenError};
use gallery::{MAX_DIM, Model};
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArrayType, DataType, FloatType, Int32Type, Int64Type};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::{
    ABOUT, ARCHITECTURE, CAMERA, CONTRACT_ID, DIM, EMBEDDING, LONGEST, MISSING, MODIFIED, MOST, OTHERS, PICTURE, Row,
    SHA256, SIZE, SUBJECT, TAGS, TAKEN, wrong,
};
use crate::DeployError;
use crate::gallery::{About, BATCH, Template};

/// Values of embeddings that are held at a time.
const TOGETHER: usize = 1 << 22;

/// Who takes a row and its values.
pub type Each<'a> = dyn FnMut(Template, &[f32]) -> Result<(), DeployError> + 'a;

/// A file that is read some rows at a time.
pub struct Reader {
    path: PathBuf,
    source: Source,
    columns: Columns<usize>,
}

/// The columns of a file.
struct Columns<T> {
    embedding: T,
    subject: Option<T>,
    camera: Option<T>,
    taken: Option<T>,
    tags: Option<T>,
    picture: Option<T>,
    others: Option<T>,
    missing: Option<T>,
    size: Option<T>,
    modified: Option<T>,
}

/// What a column may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Time,
    Texts,
    Vector,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Integer => "an integer",
            Self::Time => "a timestamp",
            Self::Texts => "a list of strings",
            Self::Vector => "a list of float32",
        }
    }

    fn fits(self, column: &ColumnDescPtr) -> bool {
        let lists = i16::from(matches!(self, Self::Texts | Self::Vector));
        column.max_rep_level() == lists
            && match self {
                Self::Text | Self::Texts => column.physical_type() == Type::BYTE_ARRAY,
                Self::Integer => matches!(column.physical_type(), Type::INT32 | Type::INT64),
                Self::Time => {
                    column.physical_type() == Type::INT64
                        && matches!(column.logical_type_ref(), Some(LogicalType::Timestamp(_)))
                }
                Self::Vector => column.physical_type() == Type::FLOAT,
            }
    }
}

impl Reader {
    /// Opens a file and looks at its columns.
    ///
    /// # Errors
    /// If it cannot be read, is no Parquet file, or has no column of embeddings, or one of another type; names the
    /// column.
    pub fn open(path: &Path) -> Result<Self, DeployError> {
        let failed = |source| DeployError::Read { path: path.to_owned(), source };
        let file = files::open_regular(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Self::of(path, file, length)
    }

    fn of(path: &Path, file: File, length: u64) -> Result<Self, DeployError> {
        let source = Source::open(file, length).map_err(|error| match error {
            OpenError::Read(source) => DeployError::Read { path: path.to_owned(), source },
            OpenError::Damaged(problem) => DeployError::Features { path: path.to_owned(), problem },
        })?;
        let columns = Columns::find(path, source.metadata())?;
        Ok(Self { path: path.to_owned(), source, columns })
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.source.rows()
    }

    /// The model whose embeddings the file says it holds, and what is noted about the gallery; none if it says nothing.
    ///
    /// # Errors
    /// If it says no sensible number of values.
    pub fn model(&self) -> Result<Option<(Model, About)>, DeployError> {
        let facts = self.source.metadata().file_metadata().key_value_metadata();
        let fact = |key: &str| facts?.iter().find(|fact| fact.key == key)?.value.clone();
        let Some(contract_id) = fact(CONTRACT_ID) else { return Ok(None) };
        let dim = fact(DIM).unwrap_or_default();
        let Some(dim) = dim.parse().ok().filter(|dim| (1..=MAX_DIM).contains(dim)) else {
            let problem = format!("its metadata `{DIM}` is `{dim}`; 1 to {MAX_DIM} are allowed");
            return Err(DeployError::Features { path: self.path.clone(), problem });
        };
        let (architecture, sha256) = (fact(ARCHITECTURE).unwrap_or_default(), fact(SHA256).unwrap_or_default());
        Ok(Some((Model { contract_id, dim, architecture, sha256 }, About::of(&fact(ABOUT).unwrap_or_default()))))
    }

    /// Hands out every row of `dim` values, in order.
    ///
    /// # Errors
    /// Those of `each`; if a row has no embedding, or one of another length, a value of a row is not what its column
    /// may have, or the file is damaged. Names the column and the row.
    pub fn each(&self, dim: usize, each: &mut Each<'_>) -> Result<(), DeployError> {
        let most = BATCH.min(TOGETHER / dim.max(1)).max(1) as u64;
        let mut before = 0;
        for group in 0..self.source.metadata().num_row_groups() {
            let rows = self.source.rows_of(group);
            let mut columns = self.open_group(group)?;
            let mut done = 0;
            while done < rows {
                let count = (rows - done).min(most) as usize;
                self.batch(&mut columns, Batch { before: before + done, count, dim }, each)?;
                done += count as u64;
            }
            before += rows;
        }
        Ok(())
    }

    fn open_group(&self, group: usize) -> Result<Columns<Column>, DeployError> {
        let open = |column: &usize| self.open_column(group, *column);
        let some = |column: &Option<usize>| column.as_ref().map(open).transpose();
        let own = &self.columns;
        Ok(Columns {
            embedding: open(&own.embedding)?,
            subject: some(&own.subject)?,
            camera: some(&own.camera)?,
            taken: some(&own.taken)?,
            tags: some(&own.tags)?,
            picture: some(&own.picture)?,
            others: some(&own.others)?,
            missing: some(&own.missing)?,
            size: some(&own.size)?,
            modified: some(&own.modified)?,
        })
    }

    fn open_column(&self, group: usize, at: usize) -> Result<Column, DeployError> {
        let name = name_of(&self.source.metadata().file_metadata().schema_descr().column(at));
        let chunk = self.source.column(group, at).map_err(|problem| wrong(&self.path, &name, problem))?;
        let Chunk { descriptor, pages, budget } = chunk;
        let decoder = match descriptor.physical_type() {
            Type::BYTE_ARRAY => Decoder::Bytes(ColumnReaderImpl::new(Arc::clone(&descriptor), pages)),
            Type::INT32 => Decoder::Int(ColumnReaderImpl::new(Arc::clone(&descriptor), pages)),
            Type::INT64 => Decoder::Long(ColumnReaderImpl::new(Arc::clone(&descriptor), pages)),
            _ => Decoder::Float(ColumnReaderImpl::new(Arc::clone(&descriptor), pages)),
        };
        Ok(Column { name, descriptor, decoder, budget, consumed: 0 })
    }

    fn batch(&self, columns: &mut Columns<Column>, batch: Batch, each: &mut Each<'_>) -> Result<(), DeployError> {
        let path = &self.path;
        let mut rows: Vec<Row> = (0..batch.count).map(|_| Row::default()).collect();
        set(&mut rows, texts(path, columns.subject.as_mut(), batch)?, |row, text| row.subject = Some(text));
        set(&mut rows, texts(path, columns.picture.as_mut(), batch)?, |row, text| row.picture = Some(text));
        for (at, number) in integers(path, columns.camera.as_mut(), batch)?.into_iter().enumerate() {
            let Some(number) = number else { continue };
            let camera = u32::try_from(number).map_err(|_| {
                let row = batch.before + at as u64;
                wrong(path, CAMERA, format!("row {row} is {number}; 0 to {} are allowed", gallery::MAX_CAMERA - 1))
            })?;
            rows[at].camera = Some(camera);
        }
        set(&mut rows, times(path, columns.taken.as_mut(), batch)?, |row, taken| row.taken = Some(taken));
        set(&mut rows, integers(path, columns.size.as_mut(), batch)?, |row, size| row.size = Some(size));
        set(&mut rows, times(path, columns.modified.as_mut(), batch)?, |row, time| row.modified = Some(time));
        set(&mut rows, lists(path, columns.tags.as_mut(), batch)?, |row, tags| row.tags = tags);
        set(&mut rows, lists(path, columns.others.as_mut(), batch)?, |row, others| row.others = others);
        set(&mut rows, lists(path, columns.missing.as_mut(), batch)?, |row, missing| row.missing = missing);
        let values = vectors(path, &mut columns.embedding, batch)?;
        for (at, (row, values)) in rows.into_iter().zip(values.chunks_exact(batch.dim)).enumerate() {
            let template = row.template().map_err(|tag| {
                let row = batch.before + at as u64;
                wrong(
                    path,
                    TAGS,
                    format!("row {row} has the tag `{tag}`; words that begin with ~ are not yours to give"),
                )
            })?;
            each(template, values)?;
        }
        Ok(())
    }
}

fn set<T>(rows: &mut [Row], values: Vec<Option<T>>, mut set: impl FnMut(&mut Row, T)) {
    rows.iter_mut().zip(values).for_each(|(row, value)| {
        if let Some(value) = value {
            set(row, value);
        }
    });
}

/// The field of the schema that a column belongs to.
fn name_of(column: &ColumnDescPtr) -> String {
    column.path().parts().first().cloned().unwrap_or_default()
}

impl Columns<usize> {
    fn find(path: &Path, metadata: &ParquetMetaData) -> Result<Self, DeployError> {
        let schema = metadata.file_metadata().schema_descr();
        let find = |name: &str, kind: Kind| -> Result<Option<usize>, DeployError> {
            let own: Vec<usize> = (0..schema.num_columns()).filter(|at| name_of(&schema.column(*at)) == name).collect();
            match own[..] {
                [] => Ok(None),
                [at] if kind.fits(&schema.column(at)) => Ok(Some(at)),
                [at] => {
                    let column = schema.column(at);
                    let lists = if column.max_rep_level() > 0 { "a list of " } else { "" };
                    let logical =
                        column.logical_type_ref().map(|logical| format!(" ({logical:?})")).unwrap_or_default();
                    let found = format!("{lists}{}{logical}", column.physical_type());
                    Err(wrong(path, name, format!("found {found}; {} is needed", kind.name())))
                }
                _ => Err(wrong(path, name, format!("found {} columns below it; {} is needed", own.len(), kind.name()))),
            }
        };
        Ok(Self {
            embedding: find(EMBEDDING, Kind::Vector)?
                .ok_or_else(|| wrong(path, EMBEDDING, "there is none; a list of float32 is needed"))?,
            subject: find(SUBJECT, Kind::Text)?,
            camera: find(CAMERA, Kind::Integer)?,
            taken: find(TAKEN, Kind::Time)?,
            tags: find(TAGS, Kind::Texts)?,
            picture: find(PICTURE, Kind::Text)?,
            others: find(OTHERS, Kind::Texts)?,
            missing: find(MISSING, Kind::Texts)?,
            size: find(SIZE, Kind::Integer)?,
            modified: find(MODIFIED, Kind::Time)?,
        })
    }
}

/// Some rows that are read together.
#[derive(Clone, Copy)]
struct Batch {
    /// Rows of the file before them.
    before: u64,
    count: usize,
    /// Values of an embedding.
    dim: usize,
}

/// A column of a group of rows.
struct Column {
    name: String,
    descriptor: ColumnDescPtr,
    decoder: Decoder,
    budget: Arc<Budget>,
    /// Values, nulls included, that were read.
    consumed: u64,
}

enum Decoder {
    Bytes(ColumnReaderImpl<ByteArrayType>),
    Int(ColumnReaderImpl<Int32Type>),
    Long(ColumnReaderImpl<Int64Type>),
    Float(ColumnReaderImpl<FloatType>),
}

/// What a column has for some rows.
struct Found<T> {
    values: Vec<T>,
    /// How much of the way to its value each place has; the column's most is a value.
    definition: Vec<i16>,
    /// 0 where a row begins.
    repetition: Vec<i16>,
}

/// Reads `count` rows of at most `width` values each.
fn read<T: DataType>(
    path: &Path,
    name: &str,
    reader: &mut ColumnReaderImpl<T>,
    (count, width): (usize, usize),
    budget: &Budget,
    consumed: &mut u64,
) -> Result<Found<T::T>, DeployError> {
    budget.allow(*consumed + (count * width) as u64);
    let mut found = Found { values: Vec::new(), definition: Vec::new(), repetition: Vec::new() };
    let Found { values, definition, repetition } = &mut found;
    let read = reader.read_records(count, Some(definition), Some(repetition), values);
    let (records, _, levels) = read.map_err(|error| wrong(path, name, error))?;
    if records != count {
        return Err(wrong(path, name, "it has fewer rows than its group"));
    }
    *consumed += levels as u64;
    Ok(found)
}

impl Column {
    /// A place for each row: whether there is a value.
    fn there<T>(&self, found: &Found<T>, count: usize) -> Vec<bool> {
        match self.descriptor.max_def_level() {
            0 => vec![true; count],
            most => found.definition.iter().map(|level| *level == most).collect(),
        }
    }

    fn one<T>(&self, found: Found<T>, count: usize) -> Vec<Option<T>> {
        let there = self.there(&found, count);
        let mut values = found.values.into_iter();
        there.into_iter().map(|there| if there { values.next() } else { None }).collect()
    }

    fn text(&self, path: &Path, row: u64, bytes: &[u8]) -> Result<String, DeployError> {
        if bytes.len() > LONGEST {
            let problem = format!("row {row} has {} bytes; {LONGEST} are allowed", bytes.len());
            return Err(wrong(path, &self.name, problem));
        }
        let text = String::from_utf8(bytes.to_vec());
        text.map_err(|error| wrong(path, &self.name, format!("row {row} is no text: {}", error.utf8_error())))
    }
}

fn texts(path: &Path, column: Option<&mut Column>, batch: Batch) -> Result<Vec<Option<String>>, DeployError> {
    let Some(column) = column else { return Ok(Vec::new()) };
    let Column { name, decoder: Decoder::Bytes(reader), budget, consumed, .. } = column else { return Ok(Vec::new()) };
    let found = read(path, name, reader, (batch.count, 1), budget, consumed)?;
    let texts = column.one(found, batch.count).into_iter().zip(batch.before..);
    texts.map(|(text, row)| text.map(|text| column.text(path, row, text.data())).transpose()).collect()
}

fn integers(path: &Path, column: Option<&mut Column>, batch: Batch) -> Result<Vec<Option<i64>>, DeployError> {
    let Some(column) = column else { return Ok(Vec::new()) };
    let signed = !matches!(
        column.descriptor.logical_type_ref(),
        Some(LogicalType::Integer(integer)) if !integer.is_signed
    );
    let Column { name, decoder, budget, consumed, .. } = column;
    match decoder {
        Decoder::Int(reader) => {
            let found = read(path, name, reader, (batch.count, 1), budget, consumed)?;
            let long = |value: i32| if signed { i64::from(value) } else { i64::from(value.cast_unsigned()) };
            Ok(column.one(found, batch.count).into_iter().map(|value| value.map(long)).collect())
        }
        Decoder::Long(reader) => {
            let found = read(path, name, reader, (batch.count, 1), budget, consumed)?;
            Ok(column.one(found, batch.count))
        }
        _ => Ok(Vec::new()),
    }
}

/// Timestamps in milliseconds.
fn times(path: &Path, mut column: Option<&mut Column>, batch: Batch) -> Result<Vec<Option<i64>>, DeployError> {
    let unit = column.as_deref_mut().and_then(|column| match column.descriptor.logical_type_ref() {
        Some(LogicalType::Timestamp(time)) => Some(time.unit),
        _ => None,
    });
    let divisor = match unit {
        Some(TimeUnit::NANOS) => 1_000_000,
        Some(TimeUnit::MICROS) => 1000,
        _ => 1,
    };
    let times = integers(path, column, batch)?;
    Ok(times.into_iter().map(|time| time.map(|time| time.div_euclid(divisor))).collect())
}

fn lists(path: &Path, column: Option<&mut Column>, batch: Batch) -> Result<Vec<Option<Vec<String>>>, DeployError> {
    let Some(column) = column else { return Ok(Vec::new()) };
    let Column { name, decoder: Decoder::Bytes(reader), budget, consumed, .. } = column else { return Ok(Vec::new()) };
    let found = read(path, name, reader, (batch.count, MOST), budget, consumed)?;
    let most = column.descriptor.max_def_level();
    let nullable = column.descriptor.self_type().get_basic_info().repetition() == Repetition::OPTIONAL;
    let mut values = found.values.iter();
    let mut lists: Vec<Option<Vec<String>>> = Vec::with_capacity(batch.count);
    for (definition, repetition) in found.definition.into_iter().zip(found.repetition) {
        if repetition == 0 {
            lists.push(Some(Vec::new()));
        }
        let row = batch.before + (lists.len() as u64).saturating_sub(1);
        if definition == most {
            let (Some(Some(list)), Some(text)) = (lists.last_mut(), values.next()) else { continue };
            list.push(column.text(path, row, text.data())?);
            if list.len() > MOST {
                return Err(wrong(path, &column.name, format!("row {row} has more than {MOST} strings")));
            }
        } else if nullable && definition == most - 1 {
            return Err(wrong(path, &column.name, format!("row {row} has a null among its strings")));
        }
    }
    Ok(lists)
}

fn vectors(path: &Path, column: &mut Column, batch: Batch) -> Result<Vec<f32>, DeployError> {
    let Column { name, decoder: Decoder::Float(reader), budget, consumed, descriptor, .. } = column else {
        return Err(wrong(path, &column.name, "a list of float32 is needed"));
    };
    let found = read(path, name, reader, (batch.count, batch.dim), budget, consumed)?;
    let most = descriptor.max_def_level();
    let (mut row, mut length) = (batch.before, 0);
    let check = |row: u64, length: usize| match length == batch.dim {
        true => Ok(()),
        false => Err(wrong(path, name, format!("row {row} has {length} values; {} are needed", batch.dim))),
    };
    for (at, (definition, repetition)) in found.definition.iter().zip(&found.repetition).enumerate() {
        if *repetition == 0 && at > 0 {
            check(row, length)?;
            (row, length) = (row + 1, 0);
        }
        if *definition != most {
            let problem = format!("row {row} has no values, or a null among them; {} are needed", batch.dim);
            return Err(wrong(path, name, problem));
        }
        length += 1;
    }
    if batch.count > 0 {
        check(row, length)?;
    }
    if found.values.len() != batch.count * batch.dim {
        let problem = format!("{} rows from row {} on have {} values", batch.count, batch.before, found.values.len());
        return Err(wrong(path, name, problem));
    }
    Ok(found.values)
}
