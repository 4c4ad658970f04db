//! Galleries that go out as files and come back: Parquet, and files that are read some rows at a time.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use deploy::gallery::parquet::Reader;
use deploy::gallery::{Embeddings, Gallery, Template};

use crate::fixture::{DIM, Fixture};

/// People named by folders, by file names, by nobody, and what is no person.
fn people() -> Fixture {
    let fixture = Fixture::new();
    for name in ["ada", "ben"] {
        fixture.picture(&format!("set/{name}/0.png"), name, 0.0);
    }
    fixture.picture("set2/0002_c3s1_000001_00.png", "eve", 0.0);
    fixture.picture("set2/-1_c3s1_000001_00.png", "fay", 0.0);
    fixture.picture("set2/0000_c4s1_000001_00.png", "gus", 0.0);
    fixture.run("embed @set @set2 -m @model.onnx -o @people --identity-from file").done();
    fixture.picture("gate.png", "hal", 0.0);
    let enrol = "enroll -m @model.onnx --gallery @people --identity hal --picture @gate.png";
    fixture.run(&format!("{enrol} --camera 4294967294 --taken 1969-12-31 --tag gate --tag night")).done();
    fixture
}

/// Columns of a file that somebody else wrote.
enum Values {
    Floats(Vec<f32>, Vec<i16>, Vec<i16>),
    Doubles(Vec<f64>, Vec<i16>, Vec<i16>),
    Texts(Vec<&'static str>, Vec<i16>, Option<Vec<i16>>),
    Ints(Vec<i32>, Vec<i16>),
    Longs(Vec<i64>, Vec<i16>),
}

fn foreign(path: &Path, schema: &str, compression: Compression, columns: Vec<Values>) {
    let schema = Arc::new(parse_message_type(&format!("message schema {{ {schema} }}")).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let mut group = file.next_row_group().unwrap();
    for values in columns {
        let mut column = group.next_column().unwrap().unwrap();
        fn put<T: DataType>(
            column: &mut ::parquet::file::writer::SerializedColumnWriter<'_>,
            values: &[T::T],
            definition: &[i16],
            repetition: Option<&[i16]>,
        ) {
            // A column that is no list has no repetition.
            let repetition = repetition.filter(|levels| !levels.is_empty());
            column.typed::<T>().write_batch(values, Some(definition), repetition).unwrap();
        }
        match values {
            Values::Floats(values, definition, repetition) => {
                put::<FloatType>(&mut column, &values, &definition, Some(&repetition));
            }
            Values::Doubles(values, definition, repetition) => {
                put::<DoubleType>(&mut column, &values, &definition, Some(&repetition));
            }
            Values::Texts(values, definition, repetition) => {
                let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
                put::<ByteArrayType>(&mut column, &values, &definition, repetition.as_deref());
            }
            Values::Ints(values, definition) => put::<Int32Type>(&mut column, &values, &definition, None),
            Values::Longs(values, definition) => put::<Int64Type>(&mut column, &values, &definition, None),
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
}

/// As pandas and pyarrow name them: everything may be null.
const LIST: &str = "optional group embedding (LIST) { repeated group list { optional float element; } }";

/// Rows of unit length with all their values, as such a column has them.
fn rows(count: usize) -> Values {
    let values = (0..count * DIM).map(|at| f32::from(u8::from(at % DIM == at / DIM % DIM))).collect();
    Values::Floats(values, vec![3; count * DIM], (0..count * DIM).map(|at| i16::from(at % DIM != 0)).collect())
}

#[test]
fn a_gallery_goes_out_as_parquet_and_comes_back_to_the_bit() {
    let fixture = people();
    let wanted = fixture.rows("people");
    assert_eq!(wanted.1.len(), 6);
    fixture.run("gallery export @people -o @rows.parquet --format parquet").done();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(fixture.path("rows.parquet")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // It names its model itself, or is compared with the one that is given.
    for (to, model) in [("one", ""), ("two", "-m @model.onnx")] {
        let said = fixture.run(&format!("gallery import @rows.parquet -o @{to} {model}")).done();
        assert!(said.contains("6 templates"), "{said}");
        assert_eq!(fixture.rows(to), wanted);
        fixture.run(&format!("gallery check @{to}")).done();
        let about = |folder: &str| Gallery::open(&fixture.path(folder)).unwrap().about().clone();
        assert_eq!(about(to), about("people"));
    }
    fixture.run("search -m @model.onnx --gallery @one --query @set").done();
    let mut other = crate::fixture::contract();
    other.embedding.as_mut().unwrap().contract_id = "fedcba9876543210".into();
    fixture.write_model("other.onnx", &crate::fixture::with_contract(crate::fixture::graph(), &other));
    fixture.run("gallery import @rows.parquet -o @three -m @other.onnx").error(&["rows.parquet", "fedcba9876543210"]);
    fixture.run("gallery import @rows.parquet -o @three --rows @x.jsonl").error(&["`--rows`"]);
    fixture.run("gallery import @rows.parquet -o @one").error(&["one", "6"]);
    assert!(!fixture.path("three").exists());
    // A gallery without anybody, too.
    for row in 1..=6 {
        fixture.run(&format!("remove --gallery @two --template {row}")).done();
    }
    fixture.run("gallery export @two -o @none.parquet --format parquet").done();
    fixture.run("gallery import @none.parquet -o @none").done();
    assert_eq!(fixture.rows("none").1.len(), 0);
}

/// More rows than are read, written or grouped at a time.
#[test]
fn many_rows_go_out_and_come_back() {
    let fixture = Fixture::new();
    let count = 16 * deploy::gallery::BATCH + 1500;
    let template = |row: usize| Template {
        path: format!("{row}.png").into(),
        tags: if row.is_multiple_of(3) { vec![format!("t{}", row % 5)] } else { Vec::new() },
        camera: row.is_multiple_of(2).then_some(row as u32),
        ..Template::default()
    };
    let mut values = vec![0.0; count * DIM];
    values
        .iter_mut()
        .step_by(DIM)
        .enumerate()
        .for_each(|(row, value)| *value = if row.is_multiple_of(2) { 1.0 } else { -1.0 });
    let all = Embeddings { values, dim: DIM, templates: (0..count).map(template).collect(), folder: "".into() };
    let model = gallery::Model { contract_id: "0123456789abcdef".into(), dim: DIM, ..Default::default() };
    let store = gallery::Store::create(&fixture.path("people"), &model).unwrap();
    let new: Vec<_> = all.templates.iter().map(Template::to_stored).collect();
    gallery::Engine::enrol(&store, &new, all.view().unwrap()).unwrap();
    drop(store);
    let wanted = fixture.rows("people");
    for (format, from, model) in
        [("parquet", "rows.parquet", ""), ("faiss", "rows.index", "-m @model.onnx"), ("npy", "rows", "")]
    {
        fixture.run(&format!("gallery export @people -o @{from} --format {format}")).done();
        fixture.run(&format!("gallery import @{from} -o @of_{format} {model}")).done();
        assert_eq!(fixture.rows(&format!("of_{format}")), wanted, "{format}");
    }
    fixture.run("gallery import @rows/embeddings.npy -m @model.onnx --rows @rows/rows.jsonl -o @of_file").done();
    assert_eq!(fixture.rows("of_file"), wanted);
}

/// What goes wrong late leaves nobody enrolled, and can be repeated.
#[test]
fn an_import_that_fails_at_a_late_row_enrols_nobody() {
    let fixture = Fixture::new();
    let count = 3000;
    let mut values = vec![0.0_f32; count * DIM];
    values.iter_mut().step_by(DIM).for_each(|value| *value = 1.0);
    values[2500 * DIM] = 2.0;
    std::fs::write(fixture.path("bad.npy"), files::npy::encode(&[count, DIM], &values)).unwrap();
    fixture.run("gallery import @bad.npy -m @model.onnx -o @people").error(&["bad.npy", "2500"]);
    assert_eq!(fixture.rows("people").1.len(), 0);
    fixture.run("gallery check @people").done();
    values[2500 * DIM] = 1.0;
    std::fs::write(fixture.path("bad.npy"), files::npy::encode(&[count, DIM], &values)).unwrap();
    std::fs::write(fixture.path("bad.jsonl"), "{\n".repeat(count)).unwrap();
    fixture.run("gallery import @bad.npy -m @model.onnx -o @people").error(&["bad.jsonl"]);
    let long = format!("{}\n", " ".repeat(2 << 20)) + &"{}\n".repeat(count - 1);
    std::fs::write(fixture.path("bad.jsonl"), long).unwrap();
    fixture.run("gallery import @bad.npy -m @model.onnx -o @people").error(&["bad.jsonl", "1048576"]);
    std::fs::remove_file(fixture.path("bad.jsonl")).unwrap();
    assert_eq!(fixture.rows("people").1.len(), 0);
    fixture.run("gallery import @bad.npy -m @model.onnx -o @people").done();
    assert_eq!(fixture.rows("people").1.len(), count);
}

#[test]
fn files_of_other_programs_are_read_by_their_columns() {
    let fixture = Fixture::new();
    let path = fixture.path("foreign.parquet");
    let schema = format!(
        "optional double height; optional binary subject (STRING); {LIST} optional int64 camera;
         optional int64 taken (TIMESTAMP(MICROS,true));
         optional group tags (LIST) {{ repeated group list {{ optional binary element (STRING); }} }}"
    );
    let columns = || {
        vec![
            Values::Doubles(vec![1.8], vec![1, 0, 0], vec![]),
            Values::Texts(vec!["ada", "ben"], vec![1, 0, 1], None),
            rows(3),
            Values::Longs(vec![7], vec![0, 1, 0]),
            Values::Longs(vec![-1, 1_700_000_000_123_456], vec![1, 1, 0]),
            // Two tags, none, and null.
            Values::Texts(vec!["gate", "night"], vec![3, 3, 1, 0], Some(vec![0, 1, 0, 0])),
        ]
    };
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
        let _ = std::fs::remove_dir_all(fixture.path("people"));
        foreign(&path, &schema, compression, columns());
        fixture.run("gallery import @foreign.parquet -o @people").error(&["`--model`", "foreign.parquet"]);
        fixture.run("gallery import @foreign.parquet -o @people -m @model.onnx").done();
        let all = Gallery::open(&fixture.path("people")).unwrap().load().unwrap();
        let told = |of: &Template| (of.identity.text().to_owned(), of.camera, of.taken, of.tags.clone());
        let tags = vec!["gate".to_owned(), "night".to_owned()];
        assert_eq!(told(&all.templates[0]), ("ada".into(), None, Some(-1), tags));
        assert_eq!(told(&all.templates[1]), (String::new(), Some(7), Some(1_700_000_000_123), vec![]));
        assert_eq!(told(&all.templates[2]), ("ben".into(), None, None, vec![]));
        assert_eq!((all.row(1)[1], all.row(1)[0]), (1.0, 0.0));
    }
}

#[test]
fn what_a_parquet_file_may_not_be_is_named_with_its_column() {
    let fixture = Fixture::new();
    let path = fixture.path("bad.parquet");
    let refused = |schema: &str, columns: Vec<Values>, words: &[&str]| {
        foreign(&path, schema, Compression::UNCOMPRESSED, columns);
        let words = [&["bad.parquet"], words].concat();
        fixture.run("gallery import @bad.parquet -o @people -m @model.onnx").error(&words);
        if fixture.path("people").exists() {
            assert_eq!(fixture.rows("people").1.len(), 0);
        }
    };
    let with = |other: &str| format!("{LIST} {other}");
    refused("optional int64 id;", vec![Values::Longs(vec![], vec![])], &["`embedding`", "none", "float32"]);
    let doubles = LIST.replace("float", "double");
    let values = || Values::Doubles(vec![1.0], vec![3], vec![0]);
    refused(&doubles, vec![values()], &["`embedding`", "DOUBLE", "float32"]);
    refused("optional float embedding;", vec![Values::Floats(vec![1.0], vec![1], vec![])], &["`embedding`", "FLOAT"]);
    let text = with("optional int32 subject;");
    refused(&text, vec![rows(1), Values::Ints(vec![1], vec![1])], &["`subject`", "INT32", "string"]);
    let time = with("optional int64 taken;");
    refused(&time, vec![rows(1), Values::Longs(vec![1], vec![1])], &["`taken`", "INT64", "timestamp"]);
    let camera = with("optional int64 camera;");
    refused(&camera, vec![rows(2), Values::Longs(vec![3, -1], vec![1, 1])], &["`camera`", "1", "-1", "4294967294"]);
    let tags = with("optional group tags (LIST) { repeated group list { optional binary element (STRING); } }");
    let null = Values::Texts(vec!["a"], vec![3, 2], Some(vec![0, 1]));
    refused(&tags, vec![rows(1), null], &["`tags`", "0", "null"]);
    let ours = Values::Texts(vec!["~mine"], vec![3], Some(vec![0]));
    refused(&tags, vec![rows(1), ours], &["`tags`", "0", "`~mine`"]);
    let many = Values::Texts(vec!["a"; 129], vec![3; 129], Some((0..129).map(|at| i16::from(at > 0)).collect()));
    refused(&tags, vec![rows(1), many], &["`tags`", "128"]);
    // Rows that are null, empty, too short, too long, with a null among their values.
    type Change = fn(&mut Vec<f32>, &mut Vec<i16>, &mut Vec<i16>);
    let broken: [(&[&str], Change); 5] = [
        (&["2", "no"], |_, definition, repetition| {
            definition.push(0);
            repetition.push(0);
        }),
        (&["2", "no"], |_, definition, repetition| {
            definition.push(1);
            repetition.push(0);
        }),
        (&["1", "63"], |values, definition, repetition| {
            values.pop();
            definition.pop();
            repetition.pop();
        }),
        (&["1", "65"], |values, definition, repetition| {
            values.push(0.0);
            definition.push(3);
            repetition.push(1);
        }),
        (&["1", "null"], |values, definition, _| {
            values.pop();
            *definition.last_mut().unwrap() = 2;
        }),
    ];
    assert_eq!(DIM, 64, "63 and 65 above");
    for (facts, change) in broken {
        let Values::Floats(mut values, mut definition, mut repetition) = rows(2) else { unreachable!() };
        change(&mut values, &mut definition, &mut repetition);
        refused(LIST, vec![Values::Floats(values, definition, repetition)], &[&["`embedding`", "64"], facts].concat());
    }
    let Values::Floats(mut values, definition, repetition) = rows(2) else { unreachable!() };
    values[DIM] = 0.5;
    refused(LIST, vec![Values::Floats(values, definition, repetition)], &["1", "1.1180"]);
    // A row that goes on and on.
    let count = 3 << 20;
    let repetition = (0..count).map(|at| i16::from(at > 0)).collect();
    refused(
        LIST,
        vec![Values::Floats(vec![0.5; count], vec![3; count], repetition)],
        &["`embedding`", "3145728", "64"],
    );
}

/// Numbers that a damaged or hostile file claims.
#[expect(clippy::result_large_err, reason = "the error is the program's")]
#[test]
fn a_damaged_parquet_file_is_refused() {
    let fixture = people();
    fixture.run("gallery export @people -o @rows.parquet --format parquet").done();
    let whole = std::fs::read(fixture.path("rows.parquet")).unwrap();
    let path = fixture.path("bad.parquet");
    let refused = |bytes: &[u8], words: &[&str]| {
        std::fs::write(&path, bytes).unwrap();
        fixture.run("gallery import @bad.parquet -o @new").error(&[&["bad.parquet"], words].concat());
    };
    refused(b"PAR1", &["4"]);
    refused(&whole[..whole.len() - 1], &["PAR1"]);
    let mut bytes = whole.clone();
    let end = bytes.len();
    bytes[end - 8..end - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(&bytes, &["4294967295"]);
    bytes[end - 8..end - 4].copy_from_slice(&4_u32.to_le_bytes());
    refused(&bytes, &["footer", "damaged"]);
    // A list in the footer that says it has two thousand million elements.
    let footer = [&[0x15, 2, 0x19, 0xFC][..], &[0xFF, 0xFF, 0xFF, 0xFF, 7], &[0]].concat();
    let bytes = [&b"PAR1"[..], &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat();
    refused(&bytes, &["damaged", "65536"]);
    // The first page claims a gigabyte.
    foreign(&path, LIST, Compression::UNCOMPRESSED, vec![rows(1)]);
    let mut bytes = std::fs::read(&path).unwrap();
    assert_eq!((bytes[4], bytes[6]), (0x15, 0x15), "kind and size of a page");
    let length = bytes[7..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    bytes.splice(7..7 + length, [0x80, 0x80, 0x80, 0x80, 8]);
    std::fs::write(&path, &bytes).unwrap();
    fixture.run("gallery import @bad.parquet -o @new -m @model.onnx").error(&["bad.parquet", "1073741824", "67108864"]);
    // Every byte of the metadata, one after the other: refused, or read, and never more than that.
    let start = whole.len() - 8 - u32::from_le_bytes(whole[end - 8..end - 4].try_into().unwrap()) as usize;
    for at in (0..whole.len()).filter(|at| *at < 300 || *at >= start) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xFF;
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(reader) = Reader::open(&path) {
            let _ = reader.model();
            let _ = reader.each(DIM, &mut |_, _| Ok(()));
        }
    }
}
