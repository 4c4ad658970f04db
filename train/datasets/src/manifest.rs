//! A table that says what is on which picture: own data of any names and folders.
//!
//! CSV (or cells between semicolons or tabs) with a header, JSON Lines with the same words as keys, or Parquet with
//! columns of these names:
//!
//! | column | what |
//! |---|---|
//! | `path` or `picture` | the picture, relative to the table's folder and inside it |
//! | `identity` or `subject` | who is on it; `-1` for junk, which is left out; empty, in the gallery only, for others |
//! | `camera` | its number, from 0; or names, which are numbered in natural order |
//! | `split` | `train`, `query` or `gallery` |
//! | `time` | optional, a number such as a frame or seconds: the pictures of a set are ordered by it |

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use contract::preprocess::is_unread_picture;
use files::table::Table;
use parquet::basic::{LogicalType, Type};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use serde_json::{Map, Value};

use super::columns::{Chunk, Columns, OpenError};
use super::identity::identity_name;
use super::name::{MAX_CAMERA, natural};
use super::{DISTRACTOR, DatasetError, LeftOut, Parts, Sample};

/// Endings of tables, lower case.
const ENDINGS: [&str; 5] = ["csv", "tsv", "jsonl", "ndjson", PARQUET];

/// The one of Parquet.
const PARQUET: &str = "parquet";

/// Rows of a Parquet file at most.
const MOST_ROWS: u64 = 1 << 22;

/// Values of a column that are read together.
const TOGETHER: u64 = 1 << 13;

/// Columns, each with its names.
const COLUMNS: [&[&str]; 5] = [&["path", "picture"], &["identity", "subject"], &["camera"], &["split"], &["time"]];

/// Number of columns that have to be there: the first ones.
const NEEDED: usize = 4;

/// Whether a dataset's name is that of a table of pictures, by its ending.
pub fn is_table(name: &str) -> bool {
    let extension = Path::new(name.trim()).extension().map(|ending| ending.to_string_lossy().to_lowercase());
    extension.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// The table that the `parts` of a name, which `+` separates, are together: below `root`, or a path of its own.
pub(super) fn find(parts: &[&str], root: &Path) -> Option<PathBuf> {
    let name = parts.join("+");
    let name = name.trim();
    let places = [root.join(name), PathBuf::from(name)];
    if is_table(name) { places.into_iter().find(|path| path.is_file()) } else { None }
}

/// A line of the table, in the order of [`COLUMNS`]; what is absent is empty.
struct Row {
    line: usize,
    cells: [String; COLUMNS.len()],
}

/// What a row says, with the words of the table for identity and camera.
struct Entry {
    sample: Sample,
    camera: String,
    time: f64,
}

/// Training, query and gallery pictures; one set or two may be empty.
pub(super) fn open(path: &Path) -> Result<Parts, DatasetError> {
    let bytes = || {
        let bytes = files::read_limited(path, files::LARGEST_TABLE);
        bytes.map_err(|source| DatasetError::Read { path: path.to_owned(), source })
    };
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let (rows, strange) = match ending.as_str() {
        PARQUET => columns(path)?,
        "jsonl" | "ndjson" => lines(path, &bytes()?)?,
        _ => cells(path, &bytes()?)?,
    };
    let mut warnings = Vec::new();
    if !strange.is_empty() {
        let names: Vec<String> = strange.iter().map(|name| format!("`{name}`")).collect();
        warnings.push(format!("`{}`: not read are the columns {}", path.display(), names.join(", ")));
    }
    let root = path.parent().unwrap_or(Path::new(""));
    let (mut sets, mut left_out, mut junk) = ([vec![], vec![], vec![]], LeftOut::default(), 0);
    // Who is on each picture, and in which sets it is.
    let mut seen = BTreeMap::<PathBuf, (String, BTreeSet<usize>)>::new();
    for row in rows {
        let wrong = |column: usize, allowed: &'static str| {
            let text = &row.cells[column];
            let found = match text.is_empty() {
                true => "nothing".to_owned(),
                false => format!("`{}`", text.chars().take(80).collect::<String>().escape_debug()),
            };
            DatasetError::Cell { path: path.to_owned(), line: row.line, column: COLUMNS[column][0], found, allowed }
        };
        let [picture, identity, camera, split, time] = &row.cells;
        let set = ["train", "query", "gallery"].iter().position(|name| split.eq_ignore_ascii_case(name));
        let set = set.ok_or_else(|| wrong(3, "train, query or gallery is needed"))?;
        if picture.is_empty() {
            return Err(wrong(0, "the path of a picture is needed"));
        }
        let outside = || wrong(0, "a path inside the table's folder, without `..`, is needed");
        let picture = below(root, picture).ok_or_else(outside)?;
        if camera.is_empty() {
            return Err(wrong(2, "the number or name of a camera is needed"));
        }
        let time = match time.as_str() {
            "" => 0.0,
            text => match text.parse::<f64>() {
                Ok(time) if time.is_finite() => time,
                _ => return Err(wrong(4, "a number, or nothing, is allowed")),
            },
        };
        let name = match identity.as_str() {
            "" if set == 2 => String::new(),
            "" => {
                return Err(wrong(
                    1,
                    "somebody's name or number is needed; nobody in particular is in the gallery only",
                ));
            }
            text => identity_name(text).map_err(|_| wrong(1, "characters that are shown are needed"))?,
        };
        let (other, sets_of) = seen.entry(picture.clone()).or_insert_with(|| (name.clone(), BTreeSet::new()));
        if *other != name {
            return Err(wrong(1, "each picture is of one identity, and another row gives this one another"));
        }
        if !sets_of.insert(set) {
            return Err(wrong(0, "each picture is allowed once in a set"));
        }
        if name == "-1" {
            junk += 1;
            continue;
        }
        if is_unread_picture(&picture) {
            left_out.unread.push(picture);
            continue;
        }
        match std::fs::metadata(&picture) {
            Err(_) => left_out.missing.push(picture),
            Ok(file) if !file.is_file() => left_out.special.push(picture),
            Ok(_) => {
                let sample = Sample { path: picture, identity: DISTRACTOR, identity_name: name, camera: 0 };
                sets[set].push(Entry { sample, camera: camera.clone(), time });
            }
        }
    }
    if junk > 0 {
        let rows = if junk == 1 { "1 row".to_owned() } else { format!("{junk} rows") };
        warnings.push(format!("`{}`: left out as junk, identity -1: {rows}", path.display()));
    }
    Ok(Parts { samples: numbered(sets), left_out, warnings, cameras_known: true })
}

/// The rows with numbers for identities, from 1, and cameras, in the order of their times.
fn numbered(mut sets: [Vec<Entry>; 3]) -> [Vec<Sample>; 3] {
    let in_order = |names: BTreeSet<&str>| -> BTreeMap<String, i64> {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_by(|left, right| natural(Path::new(left), Path::new(right)));
        names.into_iter().map(str::to_owned).zip(0..).collect()
    };
    let entries = || sets.iter().flatten();
    let people =
        in_order(entries().map(|entry| entry.sample.identity_name.as_str()).filter(|name| !name.is_empty()).collect());
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| (0..MAX_CAMERA).contains(number));
    // `1` and `01` are one camera where all are numbers.
    let cameras = match entries().all(|entry| number(&entry.camera).is_some()) {
        true => None,
        false => Some(in_order(entries().map(|entry| entry.camera.as_str()).collect())),
    };
    for Entry { sample, camera, .. } in sets.iter_mut().flatten() {
        if let Some(place) = people.get(&sample.identity_name) {
            sample.identity = DISTRACTOR + 1 + place;
        }
        sample.camera = match &cameras {
            Some(cameras) => cameras[camera.as_str()],
            None => number(camera.as_str()).expect("all are numbers"),
        };
    }
    sets.map(|mut set| {
        set.sort_by(|left, right| left.time.total_cmp(&right.time));
        set.into_iter().map(|entry| entry.sample).collect()
    })
}

/// The rows of CSV, and the names of columns that are not read.
fn cells(path: &Path, bytes: &[u8]) -> Result<(Vec<Row>, Vec<String>), DatasetError> {
    let table = Table::read(bytes).map_err(|source| DatasetError::Table { path: path.to_owned(), source })?;
    let places = COLUMNS.map(|names| names.iter().find_map(|name| table.column(name)));
    if places[..NEEDED].contains(&None) {
        return Err(DatasetError::List {
            path: path.to_owned(),
            line: 1,
            found: table.header().join(",").chars().take(120).collect(),
            allowed: "a header with the columns path, identity, camera and split",
        });
    }
    let strange = table.header().iter().enumerate().filter(|(at, _)| !places.contains(&Some(*at)));
    let strange = strange.map(|(_, name)| name.clone()).collect();
    let row = |row: &files::table::Row| Row {
        line: row.line as usize,
        cells: places.map(|place| place.map(|place| row.cells[place].clone()).unwrap_or_default()),
    };
    Ok((table.rows().iter().map(row).collect(), strange))
}

/// The rows of JSON Lines, and the keys that are not read.
fn lines(path: &Path, bytes: &[u8]) -> Result<(Vec<Row>, Vec<String>), DatasetError> {
    let table = |source| DatasetError::Table { path: path.to_owned(), source };
    let text = std::str::from_utf8(bytes).map_err(|_| table(files::table::TableError::Encoding))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut rows, mut strange) = (Vec::new(), BTreeSet::new());
    for (index, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let line = index + 1;
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|source| DatasetError::Json { path: path.to_owned(), line, source })?;
        let mut row = Row { line, cells: Default::default() };
        let mut found = [false; COLUMNS.len()];
        for (key, value) in object {
            let Some(column) = COLUMNS.iter().position(|names| names.contains(&key.as_str())) else {
                strange.insert(key);
                continue;
            };
            let column_name = COLUMNS[column][0];
            let cell = |found, allowed| DatasetError::Cell {
                path: path.to_owned(),
                line,
                column: column_name,
                found,
                allowed,
            };
            if std::mem::replace(&mut found[column], true) {
                return Err(cell(format!("`{key}` beside its other name"), "one of them is needed"));
            }
            row.cells[column] = match value {
                Value::String(text) => text.trim().to_owned(),
                Value::Number(number) => number.to_string(),
                Value::Null => String::new(),
                other => {
                    let found = other.to_string().chars().take(80).collect::<String>();
                    return Err(cell(format!("`{found}`"), "text or a number is needed"));
                }
            };
        }
        if let Some(column) = found[..NEEDED].iter().position(|found| !found) {
            let (column, allowed) = (COLUMNS[column][0], "path, identity, camera and split are needed");
            return Err(DatasetError::Cell {
                path: path.to_owned(),
                line,
                column,
                found: "no such key".into(),
                allowed,
            });
        }
        rows.push(row);
    }
    Ok((rows, strange.into_iter().collect()))
}

/// The rows of Parquet, and the names of columns that are not read.
fn columns(path: &Path) -> Result<(Vec<Row>, Vec<String>), DatasetError> {
    let failed = |source| DatasetError::Read { path: path.to_owned(), source };
    let file = files::open_regular(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let wrong = |problem: String| DatasetError::Columns { path: path.to_owned(), problem };
    let source = Columns::open(file, length).map_err(|error| match error {
        OpenError::Read(source) => failed(source),
        OpenError::Damaged(problem) => wrong(problem),
    })?;
    if source.rows() > MOST_ROWS {
        return Err(wrong(format!("{} rows; {MOST_ROWS} are allowed", source.rows())));
    }
    let schema = source.metadata().file_metadata().schema_descr();
    let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let places = COLUMNS.map(|words| words.iter().find_map(|word| names.iter().position(|name| name == word)));
    if places[..NEEDED].contains(&None) {
        let found: String = names.join(", ").chars().take(120).collect();
        return Err(wrong(format!("its columns are {found}; path, identity, camera and split are needed")));
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut bytes = 0;
    for group in 0..source.metadata().num_row_groups() {
        let first = rows.len();
        let count = source.rows_of(group);
        rows.extend((0..count).map(|at| Row { line: first + at as usize + 1, cells: Default::default() }));
        for (cell, place) in places.iter().enumerate() {
            let Some(place) = *place else { continue };
            let texts = texts(&source, group, place, &mut bytes);
            let texts = texts.map_err(|problem| wrong(format!("column `{}`: {problem}", names[place])))?;
            rows[first..].iter_mut().zip(texts).for_each(|(row, text)| row.cells[cell] = text);
        }
    }
    let strange = names.into_iter().enumerate().filter(|(at, _)| !places.contains(&Some(*at)));
    Ok((rows, strange.map(|(_, name)| name).collect()))
}

/// The values of a column in a group of rows as text, nothing where there is none. `bytes` counts those of all columns.
fn texts(source: &Columns, group: usize, place: usize, bytes: &mut u64) -> Result<Vec<String>, String> {
    let chunk = source.column(group, place)?;
    let (rows, kind) = (source.rows_of(group), chunk.descriptor.physical_type());
    let unsigned = matches!(
        chunk.descriptor.logical_type_ref(),
        Some(LogicalType::Integer(integer)) if !integer.is_signed
    );
    if chunk.descriptor.max_rep_level() > 0 {
        return Err("it holds lists; a text or a number in each row is needed".into());
    }
    match kind {
        Type::BYTE_ARRAY => values::<ByteArrayType>(chunk, rows, |value| {
            *bytes += value.len() as u64;
            if *bytes > files::LARGEST_TABLE {
                return Err(format!("the texts are longer than {} bytes", files::LARGEST_TABLE));
            }
            let text = String::from_utf8(value.data().to_vec());
            text.map(|text| text.trim().to_owned()).map_err(|_| "it holds bytes that are no text".to_owned())
        }),
        Type::INT32 if unsigned => values::<Int32Type>(chunk, rows, |value| Ok(value.cast_unsigned().to_string())),
        Type::INT32 => values::<Int32Type>(chunk, rows, |value| Ok(value.to_string())),
        Type::INT64 if unsigned => values::<Int64Type>(chunk, rows, |value| Ok(value.cast_unsigned().to_string())),
        Type::INT64 => values::<Int64Type>(chunk, rows, |value| Ok(value.to_string())),
        Type::FLOAT => values::<FloatType>(chunk, rows, |value| Ok(value.to_string())),
        Type::DOUBLE => values::<DoubleType>(chunk, rows, |value| Ok(value.to_string())),
        other => Err(format!("it holds {other}; texts and numbers are read")),
    }
}

fn values<T: DataType>(
    chunk: Chunk,
    rows: u64,
    mut text: impl FnMut(&T::T) -> Result<String, String>,
) -> Result<Vec<String>, String> {
    let Chunk { descriptor, pages, budget } = chunk;
    let most = descriptor.max_def_level();
    let mut reader = ColumnReaderImpl::<T>::new(descriptor, pages);
    let (mut texts, mut consumed) = (Vec::new(), 0);
    while (texts.len() as u64) < rows {
        let count = TOGETHER.min(rows - texts.len() as u64) as usize;
        budget.allow(consumed + count as u64);
        let (mut levels, mut found) = (Vec::new(), Vec::new());
        let read = reader.read_records(count, Some(&mut levels), None, &mut found);
        let (records, ..) = read.map_err(|error| error.to_string())?;
        if records != count {
            return Err("it has fewer rows than its group".into());
        }
        consumed += count as u64;
        let mut found = found.iter();
        for at in 0..count {
            let there = most == 0 || levels.get(at) == Some(&most);
            let value = if there { found.next() } else { None };
            texts.push(value.map(&mut text).transpose()?.unwrap_or_default());
        }
    }
    Ok(texts)
}

/// A path of a table below its folder; none for one that leads out of it: a table is data from elsewhere. Backslashes
/// separate folders, too, as in tables from Windows, unless a file has them in its name.
pub(super) fn below(root: &Path, text: &str) -> Option<PathBuf> {
    let as_written = root.join(text);
    let text = match text.contains('\\') && !as_written.is_file() {
        true => text.replace('\\', "/"),
        false => text.to_owned(),
    };
    let inside = Path::new(&text).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // `C:` begins a path of Windows.
    let drive = text.as_bytes().get(1) == Some(&b':');
    (inside && !drive).then(|| root.join(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, Options, Scorable};

    /// A folder with empty pictures and one table of them.
    fn table(name: &str, text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for picture in ["a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg", "b, the second/1.jpg"] {
            let path = folder.path().join(picture);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::write(folder.path().join(name), text).unwrap();
        folder
    }

    fn list(folder: &tempfile::TempDir, name: &str) -> Result<Dataset, DatasetError> {
        Ok(Dataset::list_each(name, folder.path(), &Options::default())?.remove(0))
    }

    /// Path below the folder, identity, its name and camera.
    fn facts(folder: &tempfile::TempDir, samples: &[Sample]) -> Vec<(String, i64, String, i64)> {
        let fact = |one: &Sample| {
            let path = one.path.strip_prefix(folder.path()).unwrap().display().to_string();
            (path, one.identity, one.identity_name.clone(), one.camera)
        };
        samples.iter().map(fact).collect()
    }

    const CSV: &str = "path,identity,camera,split,time,note\n\
        a/1.jpg,\"Smith, Anna\",7,train,12.5,\n\
        a\\2.jpg,\"Smith, Anna\",12,Train,3,x\n\
        ./b/1.jpg,10,0,query,,\n\
        b/2.jpg,10,3,gallery,,\n\
        \"b, the second/1.jpg\",,3,gallery,,\n\
        a/3.jpg,-1,3,gallery,,\n";

    const LINES: &str = r#"{"path": "a/1.jpg", "subject": "Smith, Anna", "camera": 7, "split": "train", "time": 12.5}

{"path": "a\\2.jpg", "subject": "Smith, Anna", "camera": "12", "split": "train", "time": 3}
{"picture": "./b/1.jpg", "identity": 10, "camera": 0, "split": "query", "note": [1]}
{"path": "b/2.jpg", "identity": "10", "camera": 3, "split": "gallery"}
{"path": "b, the second/1.jpg", "identity": null, "camera": 3, "split": "gallery"}
{"path": "a/3.jpg", "identity": -1, "camera": 3, "split": "gallery"}"#;

    /// A Parquet file with these columns, each a type of the schema and what each row has, if anything.
    fn parquet(path: &Path, columns: &[(&str, Vec<Option<&str>>)]) {
        use parquet::data_type::ByteArray;
        use parquet::file::writer::SerializedFileWriter;

        let fields: String = columns.iter().map(|(field, _)| format!("optional {field};")).collect();
        let schema = parquet::schema::parser::parse_message_type(&format!("message table {{ {fields} }}")).unwrap();
        let file = std::fs::File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema.into(), Default::default()).unwrap();
        // Two groups of rows.
        let rows = columns[0].1.len();
        for rows in [0..rows / 2, rows / 2..rows] {
            let mut group = writer.next_row_group().unwrap();
            for (field, cells) in columns {
                let cells = &cells[rows.clone()];
                let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
                let there: Vec<&str> = cells.iter().flatten().copied().collect();
                let mut column = group.next_column().unwrap().unwrap();
                let levels = Some(levels.as_slice());
                match field.split(' ').next().unwrap() {
                    "binary" => {
                        let texts: Vec<ByteArray> = there.into_iter().map(ByteArray::from).collect();
                        column.typed::<ByteArrayType>().write_batch(&texts, levels, None)
                    }
                    "int32" => {
                        let numbers: Vec<i32> = there.into_iter().map(|text| text.parse().unwrap()).collect();
                        column.typed::<Int32Type>().write_batch(&numbers, levels, None)
                    }
                    "int64" => {
                        let numbers: Vec<i64> = there.into_iter().map(|text| text.parse().unwrap()).collect();
                        column.typed::<Int64Type>().write_batch(&numbers, levels, None)
                    }
                    _ => {
                        let numbers: Vec<f64> = there.into_iter().map(|text| text.parse().unwrap()).collect();
                        column.typed::<DoubleType>().write_batch(&numbers, levels, None)
                    }
                }
                .unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    /// The table of the other tests, as pandas would write it: numbers are numbers, and what is empty is null.
    #[test]
    fn parquet_says_the_same_as_csv() {
        let folder = table("own.csv", CSV);
        let csv = list(&folder, "own.csv").unwrap();
        let read = files::table::Table::read(CSV.as_bytes()).unwrap();
        let column = |name: &str| -> Vec<Option<&str>> {
            let at = read.column(name).unwrap();
            let cells = read.rows().iter().map(|row| row.cells[at].as_str());
            cells.map(|cell| Some(cell).filter(|cell| !cell.is_empty())).collect()
        };
        let text = |name: &str| (format!("binary {name} (UTF8)"), column(name));
        let columns = [
            text("path"),
            text("identity"),
            ("int32 camera (INTEGER(32,false))".to_owned(), column("camera")),
            text("split"),
            ("double time".to_owned(), column("time")),
            text("note"),
        ];
        let of = |columns: &[(String, Vec<Option<&str>>)], name: &str| {
            let columns: Vec<_> = columns.iter().map(|(field, cells)| (field.as_str(), cells.clone())).collect();
            parquet(&folder.path().join(name), &columns);
            list(&folder, name)
        };
        let own = of(&columns, "own.Parquet").unwrap();
        assert_eq!([&own.train, &own.query, &own.gallery], [&csv.train, &csv.query, &csv.gallery]);
        assert!(own.warnings[0].contains("`note`") && own.warnings[1].contains("identity -1: 1 row"), "{own:?}");
        let message = of(&columns[..3], "less.parquet").unwrap_err().to_string();
        assert!(message.contains("less.parquet") && message.contains("path, identity, camera"), "{message}");
        let mut wrong = columns.clone();
        wrong[3].1[3] = Some("test");
        let message = of(&wrong, "wrong.parquet").unwrap_err().to_string();
        assert!(message.contains("line 4") && message.contains("`split`") && message.contains("`test`"), "{message}");
        // Whatever is cut off or changed in it, it is refused or read, and nothing else.
        let bytes = std::fs::read(folder.path().join("own.Parquet")).unwrap();
        for end in (0..bytes.len()).step_by(7) {
            std::fs::write(folder.path().join("cut.parquet"), &bytes[..end]).unwrap();
            assert!(list(&folder, "cut.parquet").is_err(), "{end} bytes");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            std::fs::write(folder.path().join("changed.parquet"), changed).unwrap();
            let _ = list(&folder, "changed.parquet");
        }
    }

    #[test]
    fn csv_and_json_lines_say_the_same() {
        for (name, text) in
            [("own.csv", CSV), ("own.JSONL", LINES), ("own.tsv", &CSV.replace(',', "\t").replace("\t ", ", "))]
        {
            let folder = table(name, text);
            let own = list(&folder, name).unwrap();
            assert_eq!(own.name, name);
            let text = |path: &str, identity, who: &str, camera| (path.to_owned(), identity, who.to_owned(), camera);
            // By time, which turns the two around.
            let anna = [text("a/2.jpg", 2, "Smith, Anna", 12), text("a/1.jpg", 2, "Smith, Anna", 7)];
            assert_eq!(facts(&folder, &own.train), anna, "{name}");
            assert_eq!(facts(&folder, &own.query), [text("b/1.jpg", 1, "10", 0)]);
            let gallery = [text("b/2.jpg", 1, "10", 3), text("b, the second/1.jpg", 0, "", 3)];
            assert_eq!(facts(&folder, &own.gallery), gallery, "a distractor, and no junk");
            assert_eq!(own.scorable(), Scorable { queries: 1, scored: 1, ..Scorable::default() });
            assert!(own.warnings[0].contains("`note`") && own.warnings[1].contains("identity -1: 1 row"), "{own:?}");
            // As a path of its own, and without a folder of datasets.
            let path = folder.path().join(name).display().to_string();
            let options = Options::default();
            assert_eq!(Dataset::open(&path, Path::new("nowhere"), &options).unwrap().train, own.train);
            assert_eq!(Dataset::open_each(&path, Path::new("nowhere"), &options).unwrap()[0], own);
            let twice = Dataset::open(&format!("{name}+{path}"), folder.path(), &options).unwrap_err();
            assert!(matches!(twice, DatasetError::Repeated { .. }), "{twice}");
        }
    }

    #[test]
    fn cameras_of_names_are_numbered_and_sets_join() {
        let text = "path;subject;camera;split\na/1.jpg;anna;gate 10;train\na/2.jpg;anna;gate 9;train\n\
            b/1.jpg;ben;1;query\nb/1.jpg;ben;1;gallery\n";
        let folder = table("own+more.csv", text);
        std::fs::write(folder.path().join("two.csv"), "path,identity,camera,split\na/3.jpg,anna,5,train\n").unwrap();
        let own = list(&folder, "own+more.csv").unwrap();
        let cameras = |samples: &[Sample]| samples.iter().map(|one| one.camera).collect::<Vec<_>>();
        assert_eq!((cameras(&own.train), cameras(&own.query)), (vec![2, 1], vec![0]));
        let found = own.scorable();
        assert_eq!(found, Scorable { queries: 1, own_camera: 1, ..Scorable::default() });
        assert!(found.to_string().contains("0 of 1") && found.to_string().contains("own camera only"), "{found}");
        let options = Options::default();
        let anchored = |names: &str| crate::anchored(names, folder.path(), &options).unwrap();
        assert_eq!(anchored("two.csv+market1501"), "two.csv+market1501");
        let other = table("other.csv", text);
        let path = other.path().join("other.csv").display().to_string();
        assert_eq!(anchored(&format!("two.csv+{path}+cuhk03")), format!("two.csv+{path}+cuhk03_detected"));
        let both = Dataset::open("two.csv+own+more.csv", folder.path(), &options).unwrap();
        let train: Vec<_> = both.train.iter().map(|one| (one.identity, one.camera)).collect();
        assert_eq!((both.name.as_str(), train), ("two.csv+own+more.csv", vec![(0, 5), (1, 8), (1, 7)]));
        let message = Dataset::open_each("two.csv", folder.path(), &options).unwrap_err().to_string();
        assert!(
            message.contains("two.csv") && message.contains("1 train, 0 query") && message.contains("`query`"),
            "{message}"
        );
        let message = list(&folder, "three.csv").unwrap_err().to_string();
        assert!(message.contains("`three.csv`") && message.contains(&folder.path().display().to_string()), "{message}");
    }

    #[test]
    fn what_is_not_there_is_counted() {
        let folder =
            table("own.csv", "path,identity,camera,split\na/1.jpg,1,1,train\na/9.jpg,1,1,train\na/2.heic,1,1,train\n");
        let own = Dataset::open("own.csv", folder.path(), &Options::default()).unwrap();
        assert_eq!((own.train.len(), own.left_out.missing.len(), own.left_out.unread.len()), (1, 1, 1));
        assert!(own.left_out.is_loss() && own.left_out.losses().join("\n").contains("a/9.jpg"), "{own:?}");
        std::fs::remove_file(folder.path().join("a/1.jpg")).unwrap();
        let message = Dataset::open("own.csv", folder.path(), &Options::default()).unwrap_err().to_string();
        assert!(
            message.contains("0 train") && message.contains("no such file") && message.contains("a/9.jpg"),
            "{message}"
        );
    }

    /// Each error names the file, the line, the column, what was found and what is allowed.
    #[test]
    fn wrong_cells_are_named() {
        let good = ["a/1.jpg", "anna", "1", "train", "0"];
        let cases = [
            (0, "../secret.jpg", "path", "`..`"),
            (0, "/etc/secret.jpg", "path", "inside"),
            (0, "C:\\secret.jpg", "path", "inside"),
            (0, "b/../../secret.jpg", "path", "inside"),
            (0, "", "path", "picture"),
            (0, "a/2.jpg", "path", "once in a set"),
            (1, "", "identity", "gallery only"),
            (1, "an\u{200b}na", "identity", "shown"),
            (2, "", "camera", "number or name"),
            (3, "test", "split", "train, query or gallery"),
            (3, "", "split", "train, query or gallery"),
            (4, "noon", "time", "a number"),
            (4, "inf", "time", "a number"),
        ];
        for (column, text, name, allowed) in cases {
            let mut row = good;
            row[column] = text;
            let header = "path,identity,camera,split,time\na/2.jpg,anna,1,train,0\n";
            let keys = ["path", "identity", "camera", "split", "time"];
            let object: Map<String, Value> =
                keys.iter().map(|key| (*key).to_owned()).zip(row.map(Value::from)).collect();
            let first = "{\"path\": \"a/2.jpg\", \"identity\": \"anna\", \"camera\": 1, \"split\": \"train\"}\n";
            for (file, content) in [
                ("own.csv", format!("{header}{}\n", row.join(","))),
                ("own.jsonl", format!("{first}\n{}\n", Value::Object(object))),
            ] {
                let folder = table(file, &content);
                let message = list(&folder, file).unwrap_err().to_string();
                let line = "line 3 of";
                for fact in [file, line, &format!("`{name}`"), allowed] {
                    assert!(message.contains(fact), "{fact} is not in: {message}");
                }
                let shown: String = if text.is_empty() { "nothing".into() } else { text.escape_debug().to_string() };
                assert!(message.contains(&shown), "{shown} is not in: {message}");
            }
        }
        let two = "path,identity,camera,split\na/1.jpg,anna,1,query\na/1.jpg,ben,1,gallery\n";
        let message = list(&table("own.csv", two), "own.csv").unwrap_err().to_string();
        assert!(
            message.contains("line 3") && message.contains("`ben`") && message.contains("one identity"),
            "{message}"
        );
        for (name, text, facts) in [
            ("own.csv", "path,who,camera,split\n", ["line 1", "path,who,camera,split", "identity"]),
            (
                "own.jsonl",
                "{\"path\": \"a/1.jpg\", \"camera\": 1, \"split\": \"train\"}",
                ["line 1", "`identity`", "no such key"],
            ),
            (
                "own.jsonl",
                "{\"path\": true, \"identity\": 1, \"camera\": 1, \"split\": \"train\"}",
                ["`path`", "`true`", "text"],
            ),
            ("own.jsonl", "{\"path\": \"a\", \"picture\": \"a\"}", ["`path`", "`picture`", "one of them"]),
            ("own.jsonl", "\n[1, 2]", ["line 2", "own.jsonl", "JSON object"]),
            ("own.jsonl", "{\"path\": ", ["line 1", "own.jsonl", "JSON object"]),
        ] {
            let message = list(&table(name, text), name).unwrap_err().to_string();
            assert!(facts.iter().all(|fact| message.contains(fact)), "{message}");
        }
    }
}
