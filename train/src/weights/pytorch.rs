//! PyTorch's files, as data only. What a file would make us hold is known, and bounded by its size on disk, before it
//! is held; what its pickles name is looked at before any of them is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use burn::store::bridge;
use burn::store::pytorch_reader::{DType, FileFormat, PytorchReader};
use burn::tensor::TensorData;
use tempfile::NamedTempFile;
use zip::ZipArchive;

use super::pickle::{MAX_PICKLE, Problem, Walk};
use super::{WeightsError, canonical};

/// Tensors in memory may be this many times the file's size: half precision becomes single, bytes become 64 bits, and
/// tied weights are read once for each name.
const FACTOR: u64 = 16;

/// Bytes that any file may take, however small it is.
const SLACK: u64 = 64 << 20;

/// Most bytes that a file of `size` bytes may become.
fn allowance(size: u64) -> u64 {
    size.saturating_mul(FACTOR).saturating_add(SLACK)
}

/// The tensors of a `.pth` or `.pt` file by their keys.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, TensorData>, WeightsError> {
    let file = Container { path };
    let mut opened = files::open_regular(path).map_err(|error| file.unreadable(error))?;
    let size = opened.metadata().map_err(|error| file.unreadable(error))?.len();
    let format = file.detect(&mut opened)?;
    // Kept until the last tensor is read.
    let copy = if format == FileFormat::Zip { file.readable_copy(&mut opened, size)? } else { None };
    let readable = copy.as_ref().map_or(path, NamedTempFile::path);
    if let Some(copy) = &copy {
        opened = File::open(copy.path()).map_err(|error| file.unreadable(error))?;
    }
    match format {
        FileFormat::Zip => file.check_zip(&opened, size)?,
        FileFormat::Tar => file.check_tar(&opened, size)?,
        // Magic number, version, machine, weights and the keys of the storages, before PyTorch 1.6.
        FileFormat::Legacy => file.check_stream(&opened, 5)?,
        FileFormat::Pickle => file.check_stream(&opened, 1)?,
    }
    let reader = PytorchReader::new(readable).map_err(|error| file.format(error.to_string()))?;
    let taken = &reader.metadata().format_type;
    if *taken != format {
        return Err(file.format(format!("it was checked as {format:?} and would be read as {taken:?}")));
    }
    let needed = reader.tensors().values().fold(0u64, |sum, tensor| {
        let width = match tensor.dtype() {
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => 4,
            _ => 8,
        };
        sum.saturating_add((tensor.num_elements() as u64).saturating_mul(width))
    });
    file.fits("its tensors", needed, size)?;
    let mut tensors = BTreeMap::new();
    for (key, tensor) in reader.into_tensors() {
        let tensor = bridge::into_data(bridge::from_pytorch(tensor))
            .map_err(|error| file.format(format!("tensor `{key}`: {error}")))?;
        tensors.insert(key, canonical(tensor));
    }
    Ok(tensors)
}

/// A file, for its errors.
struct Container<'a> {
    path: &'a Path,
}

impl Container<'_> {
    fn unreadable(&self, source: io::Error) -> WeightsError {
        WeightsError::Read { path: self.path.to_owned(), source }
    }

    fn format(&self, reason: impl Into<String>) -> WeightsError {
        WeightsError::Format { path: self.path.to_owned(), reason: reason.into() }
    }

    fn problem(&self, problem: Problem) -> WeightsError {
        match problem {
            Problem::Named { name, network: false } => WeightsError::Code { path: self.path.to_owned(), name },
            Problem::Named { name, network: true } => WeightsError::Network { path: self.path.to_owned(), name },
            other => self.format(other.to_string()),
        }
    }

    fn fits(&self, what: &str, needed: u64, size: u64) -> Result<(), WeightsError> {
        let allowed = allowance(size);
        if needed <= allowed {
            return Ok(());
        }
        Err(self.format(format!(
            "{what} would take {needed} bytes; a file of {size} bytes may take {allowed} ({FACTOR} times its size and \
             {} MiB)",
            SLACK >> 20
        )))
    }

    /// What the first bytes say, by the rules of Burn's reader: it reads what we have checked, and nothing else.
    fn detect(&self, file: &mut File) -> Result<FileFormat, WeightsError> {
        const TAR_MARK: std::ops::Range<usize> = 257..262;
        /// Within the first pickle, whatever its protocol puts before the number.
        const LEGACY_WITHIN: usize = 64;
        const LEGACY_NUMBER: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
        const LEGACY_DIGITS: &[u8] = b"119547037146038801333356";
        let mut head = Vec::new();
        file.take(TAR_MARK.end as u64).read_to_end(&mut head).map_err(|error| self.unreadable(error))?;
        let beginning = &head[..head.len().min(LEGACY_WITHIN)];
        let holds = |mark: &[u8]| beginning.windows(mark.len()).any(|window| window == mark);
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            Ok(FileFormat::Zip)
        } else if head.get(TAR_MARK) == Some(b"ustar") {
            Ok(FileFormat::Tar)
        } else if holds(LEGACY_NUMBER) || holds(LEGACY_DIGITS) {
            Ok(FileFormat::Legacy)
        } else if matches!(head.first(), Some(0x80 | b'(' | b'}' | b']' | b'c')) {
            Ok(FileFormat::Pickle)
        } else {
            Err(self.format("it begins as none of them does"))
        }
    }

    /// Pickles one after another at the start of the file.
    fn check_stream(&self, mut file: &File, count: usize) -> Result<(), WeightsError> {
        let mut bytes = Vec::new();
        let start = file.rewind().and_then(|()| file.take(MAX_PICKLE + 1).read_to_end(&mut bytes));
        start.map_err(|error| self.unreadable(error))?;
        let mut walk = Walk::new(&bytes);
        (0..count).try_for_each(|_| walk.pickle().map(drop)).map_err(|problem| self.problem(problem))
    }

    /// Entries that claim more than they may, and what the pickle names.
    fn check_zip(&self, file: &File, size: u64) -> Result<(), WeightsError> {
        let damaged = |error: zip::result::ZipError| self.format(error.to_string());
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        let mut needed = 0u64;
        let mut pickles = vec![];
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(damaged)?;
            needed = needed.saturating_add(entry.size());
            let name = entry.name().map_err(damaged)?;
            if name.ends_with("/constants.pkl") {
                return Err(WeightsError::TorchScript { path: self.path.to_owned() });
            }
            if name.ends_with("data.pkl") {
                pickles.push(index);
            }
        }
        self.fits("its entries", needed, size)?;
        for index in pickles {
            let mut bytes = Vec::new();
            let mut entry = archive.by_index(index).map_err(damaged)?.take(MAX_PICKLE + 1);
            entry.read_to_end(&mut bytes).map_err(|error| self.format(format!("its pickle: {error}")))?;
            Walk::new(&bytes).pickle().map_err(|problem| self.problem(problem))?;
        }
        Ok(())
    }

    /// Files older than PyTorch 0.1.10: pickles with numbers between them.
    fn check_tar(&self, mut file: &File, size: u64) -> Result<(), WeightsError> {
        let damaged = |error: io::Error| self.format(error.to_string());
        file.rewind().map_err(damaged)?;
        let mut archive = tar::Archive::new(BufReader::new(file));
        let mut needed = 0u64;
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let name = entry.path().map_err(damaged)?.to_string_lossy().trim_start_matches("./").to_owned();
            let check: fn(&mut Walk<'_>) -> Result<(), Problem> = match name.as_str() {
                "sys_info" | "pickle" => |walk| walk.pickle().map(drop),
                "storages" => storages,
                "tensors" => tensors,
                _ => continue,
            };
            // A sparse entry may claim more than the archive has.
            needed = needed.saturating_add(entry.size());
            if needed > size {
                return Err(self.format(format!("its entries would have {needed} bytes, the file has {size}")));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            check(&mut Walk::new(&bytes)).map_err(|problem| self.problem(problem))?;
        }
        Ok(())
    }

    /// A copy that the zip reader can read, where it cannot read the file itself.
    ///
    /// PyTorch writes the records of zip64 behind the directory of every archive, and a last record that does not
    /// need them. The reader then overlooks them and reckons, from the directory's size, that it begins 76 bytes
    /// later than it does. It finds out unless an entry of the directory happens to begin there: with archive names
    /// of 21 characters, whose first entry has 46 bytes and the 30 of `NAME/data.pkl`. A last record that refers to
    /// those of zip64 is read right.
    fn readable_copy(&self, file: &mut File, size: u64) -> Result<Option<NamedTempFile>, WeightsError> {
        const END: usize = 22;
        const LOCATOR: usize = 20;
        let attempt = |file: &mut File| -> io::Result<Option<NamedTempFile>> {
            let Some(start) = size.checked_sub((LOCATOR + END) as u64) else { return Ok(None) };
            let mut last = [0; LOCATOR + END];
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut last)?;
            let (locator, end) = last.split_at(LOCATOR);
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
            let (directory_size, directory) = (number(&end[12..16]), number(&end[16..20]));
            let (record, at) = (number(&locator[8..16]), start + LOCATOR as u64);
            let overlooked = locator.starts_with(b"PK\x06\x07")
                && end.starts_with(b"PK\x05\x06")
                && directory + directory_size == record;
            let Some(reckoned) = at.checked_sub(directory_size).filter(|_| overlooked) else { return Ok(None) };
            let mut mark = [0; 4];
            file.seek(SeekFrom::Start(reckoned))?;
            file.read_exact(&mut mark)?;
            if mark != *b"PK\x01\x02" {
                return Ok(None);
            }
            let folder = std::env::temp_dir();
            let mut write = || -> io::Result<NamedTempFile> {
                let mut copy = files::temporary_file(&folder)?;
                file.rewind()?;
                io::copy(file, copy.as_file_mut())?;
                // 65,535 entries: more than the record can count.
                copy.seek(SeekFrom::Start(at + 8))?;
                copy.write_all(&[0xff; 4])?;
                copy.flush()?;
                Ok(copy)
            };
            let why = |error| {
                let folder = folder.display();
                format!(
                    "it is read from a copy of {size} bytes, which cannot be written to `{folder}` (TMPDIR): {error}"
                )
            };
            write().map(Some).map_err(|error| io::Error::new(error.kind(), why(error)))
        };
        attempt(file).map_err(|error| self.unreadable(error))
    }
}

/// The entry `storages`: a count; for each a pickle, the number of its elements and these; views of them.
fn storages(walk: &mut Walk<'_>) -> Result<(), Problem> {
    for _ in 0..walk.pickle()?.count()? {
        let class = walk.pickle()?.class()?;
        let width = match class.strip_suffix("Storage").unwrap_or_default() {
            "Double" | "Long" => 8,
            "Float" | "Int" => 4,
            "Half" | "BFloat16" | "Short" => 2,
            "Char" | "Byte" | "Bool" => 1,
            _ => return Err(Problem::Damaged),
        };
        let elements = walk.fixed()?;
        walk.skip(elements.checked_mul(width).ok_or(Problem::Damaged)?)?;
    }
    walk.pickle().map(drop)
}

/// The entry `tensors`: a count; for each a pickle, the number of axes, their sizes and strides, an offset.
fn tensors(walk: &mut Walk<'_>) -> Result<(), Problem> {
    for _ in 0..walk.pickle()?.count()? {
        walk.pickle()?;
        // A number of eight bytes; the upper four are zero.
        let axes = walk.fixed()? & u64::from(u32::MAX);
        walk.skip(axes.checked_mul(16).and_then(|bytes| bytes.checked_add(8)).ok_or(Problem::Damaged)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use zip::CompressionMethod::{self, Deflated, Stored};
    use zip::write::SimpleFileOptions;

    use super::*;

    /// A tensor of a file: key, shape, strides, elements of its storage, which has its own number.
    struct Entry<'a>(&'a str, &'a [u32], &'a [u32], u32);

    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.bytes());
    }

    fn tuple(out: &mut Vec<u8>, numbers: &[u32]) {
        out.push(b'(');
        numbers.iter().for_each(|number| {
            out.push(b'J');
            out.extend(number.to_le_bytes());
        });
        out.push(b't');
    }

    /// The pickle of `{key: tensor}`, as protocol 2 writes it.
    fn pickle(entries: &[Entry<'_>]) -> Vec<u8> {
        pickle_of("Float", entries)
    }

    /// The same with another type of storage.
    fn pickle_of(storage: &str, entries: &[Entry<'_>]) -> Vec<u8> {
        let mut out = b"\x80\x02}(".to_vec();
        for (number, Entry(key, shape, strides, elements)) in entries.iter().enumerate() {
            text(&mut out, key);
            out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text(&mut out, "storage");
            out.extend(format!("ctorch\n{storage}Storage\n").bytes());
            text(&mut out, &number.to_string());
            text(&mut out, "cpu");
            out.push(b'J');
            out.extend(elements.to_le_bytes());
            out.extend(b"tQK\x00");
            tuple(&mut out, shape);
            tuple(&mut out, strides);
            out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        }
        out.extend(b"u.");
        out
    }

    /// How an archive uses zip64.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Zip64 {
        /// Not at all.
        None,
        /// As `torch.save` does: the records are there, the last record does without them.
        Records,
        /// So, and every entry has its sizes in eight bytes.
        Entries,
    }

    /// An archive as `torch.save` writes it to `NAME.pth`.
    fn archive(name: &str, pickle: &[u8], storages: &[Vec<u8>], method: CompressionMethod) -> Vec<u8> {
        archive_of(name, pickle, storages, method, Zip64::Records)
    }

    fn archive_of(name: &str, pickle: &[u8], storages: &[Vec<u8>], method: CompressionMethod, zip64: Zip64) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let large = zip64 == Zip64::Entries;
        let options = SimpleFileOptions::default().compression_method(method).large_file(large);
        let mut put = |entry: &str, bytes: &[u8]| {
            writer.start_file(format!("{name}/{entry}"), options).unwrap();
            writer.write_all(bytes).unwrap();
        };
        put("data.pkl", pickle);
        put("byteorder", b"little");
        storages.iter().enumerate().for_each(|(number, bytes)| put(&format!("data/{number}"), bytes));
        put("version", b"3\n");
        let mut bytes = writer.finish().unwrap().into_inner();
        if zip64 == Zip64::None {
            return bytes;
        }
        let end = bytes.split_off(bytes.len() - 22);
        let field = |range: std::ops::Range<usize>| u64::from(u32::from_le_bytes(end[range].try_into().unwrap()));
        let (count, size, start, record) =
            (storages.len() as u64 + 3, field(12..16), field(16..20), bytes.len() as u64);
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44u64.to_le_bytes());
        bytes.extend([0x1e, 3, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        [count, count, size, start].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(record.to_le_bytes());
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(end);
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<BTreeMap<String, TensorData>, WeightsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|value| value as f32 + 0.5).collect()
    }

    fn bytes_of(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Of some names the zip reader takes the second entry of the directory for its beginning.
    #[test]
    fn archives_of_every_name_are_read() {
        for tensors in [1, 3] {
            let keys: Vec<String> = (0..tensors).map(|number| format!("layer{number}.weight")).collect();
            let entries: Vec<Entry<'_>> = keys.iter().map(|key| Entry(key, &[2, 3], &[3, 1], 6)).collect();
            let (pickle, storages) = (pickle(&entries), vec![bytes_of(&values(6)); tensors]);
            for length in 1..=80 {
                let forms = [Stored, Deflated]
                    .map(|method| [Zip64::None, Zip64::Records, Zip64::Entries].map(|zip64| (method, zip64)));
                for (method, zip64) in forms.into_iter().flatten() {
                    let name = "n".repeat(length);
                    let found = read_bytes(&archive_of(&name, &pickle, &storages, method, zip64));
                    let found = found.unwrap_or_else(|error| panic!("{name}, {method}, {zip64:?}: {error}"));
                    assert_eq!(found.keys().collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
                    assert!(found.values().all(|data| data.as_slice::<f32>().unwrap() == values(6)));
                }
            }
        }
        let keys: Vec<String> = (0..2000).map(|number| format!("layer{number:04}.weight")).collect();
        let entries: Vec<Entry<'_>> = keys.iter().map(|key| Entry(key, &[1], &[1], 1)).collect();
        for (name, method) in [("n", Stored), ("tr_osnet_ibn_x1_0.pth", Stored), ("tr_osnet_ibn_x1_0.pth", Deflated)] {
            let found = read_bytes(&archive(name, &pickle(&entries), &vec![bytes_of(&[1.5]); 2000], method)).unwrap();
            assert!(found.keys().eq(&keys));
        }
    }

    /// Half precision of both kinds, double precision and whole numbers, in an archive and before PyTorch 1.6.
    #[test]
    fn numbers_of_every_width_are_read() {
        let wanted = [1.5_f32, -2.0, 0.25, 96.0];
        let bytes = |of: fn(f32) -> Vec<u8>| wanted.iter().flat_map(|value| of(*value)).collect::<Vec<u8>>();
        for (storage, bytes) in [
            ("Float", bytes(|value| value.to_le_bytes().to_vec())),
            ("Double", bytes(|value| f64::from(value).to_le_bytes().to_vec())),
            ("Half", bytes(|value| burn::tensor::f16::from_f32(value).to_le_bytes().to_vec())),
            ("BFloat16", bytes(|value| burn::tensor::bf16::from_f32(value).to_le_bytes().to_vec())),
        ] {
            let root = pickle_of(storage, &[Entry("w", &[4], &[1], 4)]);
            let archived = archive("a", &root, std::slice::from_ref(&bytes), Deflated);
            let mut keys = b"\x80\x02]".to_vec();
            text(&mut keys, "0");
            let old = legacy(&root, &[&keys[..], b"a."].concat(), &[&4u64.to_le_bytes()[..], &bytes].concat());
            for (form, file) in [("an archive", archived), ("before 1.6", old)] {
                let found = read_bytes(&file).unwrap_or_else(|error| panic!("{storage}, {form}: {error}"));
                assert_eq!(found["w"].as_slice::<f32>().unwrap(), wanted, "{storage}, {form}");
            }
        }
        let root = pickle_of("Long", &[Entry("n", &[2], &[1], 2)]);
        let numbers = [3_i64, -4].iter().flat_map(|number| number.to_le_bytes()).collect();
        let found = read_bytes(&archive("a", &root, &[numbers], Stored)).unwrap();
        assert_eq!(found["n"].as_slice::<i64>().unwrap(), [3, -4]);
    }

    fn refused(bytes: &[u8]) -> String {
        read_bytes(bytes).expect_err("it is refused").to_string()
    }

    #[test]
    fn small_files_do_not_become_large_tensors() {
        // One number seen 2²⁸ times: 1 GiB.
        let expanded = pickle(&[Entry("w", &[1 << 28], &[0], 1)]);
        let error = refused(&archive("a", &expanded, &[bytes_of(&[1.0])], Stored));
        assert!(error.contains("its tensors would take 1073741824 bytes"), "{error}");
        // Many views of 60 MiB each, one of which would be allowed.
        let keys: Vec<String> = (0..64).map(|number| format!("w{number}")).collect();
        let views: Vec<Entry<'_>> = keys.iter().map(|key| Entry(key, &[15 << 20], &[0], 1)).collect();
        let error = refused(&archive("a", &pickle(&views), &vec![bytes_of(&[1.0]); 64], Stored));
        assert!(error.contains(&format!("its tensors would take {} bytes", (64u64 * 60) << 20)), "{error}");
        // Zeros that deflate to a thousandth.
        let zeros = vec![0; 128 << 20];
        let error = refused(&archive("a", &pickle(&[Entry("w", &[2], &[1], 1 << 25)]), &[zeros], Deflated));
        assert!(error.contains("its entries would take 1342") && error.contains("16 times its size"), "{error}");
        // Tied weights and views of a usual size are read.
        let tied = pickle(&[Entry("a", &[2, 1000], &[0, 1], 1000), Entry("b", &[1000], &[1], 1000)]);
        let found = read_bytes(&archive("a", &tied, &[bytes_of(&values(1000)), bytes_of(&values(1000))], Stored));
        assert_eq!(found.unwrap()["a"].as_slice::<f32>().unwrap()[1999], 999.5);
    }

    const CALL: &[u8] = b"cos\nsystem\n";

    fn names_a_call(bytes: &[u8]) {
        let error = read_bytes(bytes).expect_err("it is refused");
        assert!(matches!(&error, WeightsError::Code { name, .. } if name == "os.system"), "{error}");
    }

    /// The first bytes decide, as in the reader that comes after.
    #[test]
    fn an_archive_behind_a_pickle_hides_nothing() {
        let good = archive("a", &pickle(&[Entry("w", &[1], &[1], 1)]), &[bytes_of(&[1.0])], Stored);
        read_bytes(&good).unwrap();
        names_a_call(&[b"\x80\x02", CALL, b"0}.", &good].concat());
        names_a_call(&archive("a", &[b"\x80\x02", CALL, b"0}."].concat(), &[], Deflated));
        let cut = archive("a", &[b"\x80\x02}", &b"N0".repeat(8)[..]].concat(), &[], Stored);
        assert!(refused(&cut).contains("ends too early"));
    }

    /// A file of PyTorch 0.1.10 to 1.5 whose fourth pickle is `root`.
    fn legacy(root: &[u8], keys: &[u8], data: &[u8]) -> Vec<u8> {
        let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".as_slice();
        let mut machine = b"\x80\x02}".to_vec();
        text(&mut machine, "little_endian");
        [magic, &machine, b"\x88s.", root, keys, data].concat()
    }

    #[test]
    fn every_pickle_of_a_stream_is_looked_at_to_its_end() {
        let mut keys = b"\x80\x02]".to_vec();
        text(&mut keys, "0");
        let (root, data) =
            (pickle(&[Entry("w", &[2], &[1], 2)]), [&2u64.to_le_bytes()[..], &bytes_of(&values(2))].concat());
        let good = legacy(&root, &[&keys[..], b"a."].concat(), &data);
        assert_eq!(read_bytes(&good).unwrap()["w"].as_slice::<f32>().unwrap(), values(2));
        names_a_call(&legacy(&root, &[&keys[..], b"a", CALL, b"0."].concat(), &data));
        // Behind more bytes than are looked at.
        let long = vec![b' '; MAX_PICKLE as usize + 1];
        let length = (long.len() as u32).to_le_bytes();
        let far = legacy(&[b"\x80\x03B", &length[..], &long, b"0", CALL, b"0}."].concat(), b"].", &[]);
        assert!(refused(&far).contains("more than the 67108864 bytes"));
    }

    /// A file older than PyTorch 0.1.10; `extra` stands in the second pickle of `storages` and of `tensors`.
    fn tar(extra: [&[u8]; 2]) -> Vec<u8> {
        let mut machine = b"\x80\x02}".to_vec();
        text(&mut machine, "little_endian");
        let (mut place, mut root) = (vec![], b"}".to_vec());
        text(&mut place, "cpu");
        text(&mut root, "w");
        text(&mut root, "5");
        let number = |number: u64| number.to_le_bytes();
        let storages = [
            &b"K\x01."[..],
            extra[0],
            b"K\x07",
            &place,
            b"ctorch\nFloatStorage\n\x87.",
            &number(2),
            &bytes_of(&values(2)),
            b"].",
        ]
        .concat();
        let tensors = [
            &b"K\x01."[..],
            extra[1],
            b"K\x05K\x07ctorch\nFloatTensor\n\x87.",
            &number(1),
            &number(2),
            &number(1),
            &number(0),
        ]
        .concat();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in [
            ("sys_info", [&machine[..], b"\x88s."].concat()),
            ("storages", storages),
            ("tensors", tensors),
            ("pickle", [&root[..], b"Qs."].concat()),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn every_pickle_of_a_tar_is_looked_at() {
        assert_eq!(read_bytes(&tar([b"", b""])).unwrap()["w"].as_slice::<f32>().unwrap(), values(2));
        let call = [CALL, b"0"].concat();
        names_a_call(&tar([&call, b""]));
        names_a_call(&tar([b"", &call]));
        assert!(refused(&tar([b"", b"\xff"])).contains("ends too early, or is damaged"));
    }

    #[test]
    fn a_whole_network_is_told_apart() {
        let network = |name: &[u8]| {
            let mut out = [b"\x80\x02c", name, b")\x81}"].concat();
            text(&mut out, "_parameters");
            out.extend(b"}sb.");
            read_bytes(&archive("a", &out, &[], Stored)).expect_err("it is refused")
        };
        for name in [&b"__main__\nNet\n"[..], b"torch.nn.modules.linear\nLinear\n"] {
            let error = network(name);
            assert!(matches!(error, WeightsError::Network { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("holds a whole network") && text.contains("state_dict()"), "{text}");
        }
    }
}
