//! Data sets, runs of the program, and PyTorch files written without PyTorch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use safetensors::SafeTensors;
use serde_json::Value;
use train::families::reid::net::{ReidNet, ReidNetConfig};
use train::rng::Rng;
use train::weights::StateDict;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; none after a signal.
    pub code: Option<i32>,
    /// Results.
    pub stdout: String,
    /// Progress and errors.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ended {
    /// Panics unless the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Panics unless the program ended with an error that names every one of `facts`: see [`fixtures::assert_names`].
    #[track_caller]
    pub fn refused(self, facts: &[&str]) -> Self {
        let ended = self.with_an_error();
        fixtures::assert_names(fixtures::error_message(&ended.stderr), facts);
        ended
    }

    /// Panics unless the program ended with an error that has this part of a sentence in it. For what has no name, flag
    /// or number of its own, so that only words tell it from another error of the same line.
    #[track_caller]
    pub fn refused_saying(self, sentence: &str) -> Self {
        let ended = self.with_an_error();
        let message = fixtures::error_message(&ended.stderr);
        assert!(message.contains(sentence), "`{sentence}` is not in: {message}");
        ended
    }

    /// Panics unless the program ended with an error and not with a panic.
    #[track_caller]
    fn with_an_error(self) -> Self {
        assert_eq!(self.code, Some(2), "{}{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}

/// `train` with these arguments, in the folder `at`, not started yet.
pub fn command(at: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.args(arguments).current_dir(at);
    command
}

/// Runs `train` in the folder `at`.
pub fn train(at: &Path, arguments: &[&str]) -> Ended {
    command(at, arguments).output().unwrap().into()
}

/// Arguments of a run that a CPU does in seconds, on `data` below the working folder.
pub fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["reid", "--datadir", "data"];
    arguments
        .extend("--height 32 --width 32 --feats 16 --batchid 2 --batchimage 2 --n-thread 2 --margin 0.7".split(' '));
    arguments.extend(["--loss", "0.5*CrossEntropy+0.5*MSLoss", "--if_labelsmooth", "--random_erasing"]);
    arguments.extend(more);
    arguments
}

/// Writes `data/<identity>/<n>.png` below `at`: noise in a colour of each identity's own, by another light in each.
pub fn pictures(at: &Path, identities: usize, of_each: usize) -> PathBuf {
    coloured(&at.join("data"), identities, of_each, 60.0)
}

/// Writes `<identity>/<n>.png` below `data`; `differ` is how far colours and light may be apart.
pub fn coloured(data: &Path, identities: usize, of_each: usize, differ: f64) -> PathBuf {
    for identity in 0..identities {
        let folder = data.join(format!("id{identity}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut rng = Rng::new(&[identity as u64]);
        let colour: Vec<f64> = (0..3).map(|_| rng.uniform(128.0 - differ / 2.0, 128.0 + differ / 2.0)).collect();
        for number in 0..of_each {
            let light = rng.uniform(-differ, differ) / 2.0;
            let picture = image::RgbImage::from_fn(32, 32, |_, _| {
                image::Rgb(std::array::from_fn(|channel| (colour[channel] + light + rng.uniform(-60.0, 60.0)) as u8))
            });
            picture.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
    data.to_owned()
}

/// The tensors of a safetensors file as bits, without its header.
pub fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(key, view)| (key, view.data().to_vec())).collect()
}

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Names and contents of a folder's files, but for the lock, which holds the last process id.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name != ".lock").then(|| (name, std::fs::read(entry.path()).unwrap()))
    };
    std::fs::read_dir(folder).unwrap().filter_map(entry).collect()
}

/// A small LMBN_n for four identities.
pub fn network(seed: u64) -> ReidNet {
    static MADE: Mutex<BTreeMap<u64, ReidNet>> = Mutex::new(BTreeMap::new());
    let config = ReidNetConfig::new("LMBN_n", 4, 16).unwrap();
    let make = || ReidNet::new(&config, seed, &Device::flex());
    // A clone would share its running statistics.
    MADE.lock().unwrap().entry(seed).or_insert_with(make).valid()
}

/// A Python value for [`write_pth`].
#[derive(Clone)]
pub enum Python {
    /// `dict` with texts as keys.
    Dict(Vec<(String, Python)>),
    /// `dict` with numbers as keys.
    Numbered(Vec<(i32, Python)>),
    /// `list`.
    List(Vec<Python>),
    /// `int`.
    Int(i32),
    /// `float`.
    Float(f64),
    /// `bool`.
    Bool(bool),
    /// `str`.
    Text(String),
    /// `torch.Tensor`, float or long.
    Tensor(TensorData),
    /// What `__reduce__` gave: module, function, one argument.
    Call(&'static str, &'static str, Box<Python>),
    /// A value that is made and thrown away before another.
    Dropped(Box<Python>, Box<Python>),
}

impl Python {
    /// A state dictionary, each key through `name`; with PyTorch's counts of batches.
    pub fn state(state: &StateDict, name: impl Fn(&str) -> String) -> Self {
        let mut entries = Vec::new();
        for (key, data) in state.iter() {
            entries.push((name(key), Self::Tensor(data.clone())));
            if let Some(norm) = key.strip_suffix("running_var") {
                let count = TensorData::new(vec![7_i64], Vec::<usize>::new());
                entries.push((name(&format!("{norm}num_batches_tracked")), Self::Tensor(count)));
            }
        }
        Self::Dict(entries)
    }

    /// A dictionary of named values.
    pub fn dict<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Dict(entries.map(|(key, value)| (key.to_owned(), value)).into())
    }

    /// What Adam saves.
    pub fn optimizer() -> Self {
        let moment = Self::Tensor(TensorData::new(vec![0.5_f32; 6], [2, 3]));
        let state = Self::Numbered(vec![(0, Self::dict([("step", Self::Int(3)), ("exp_avg", moment)]))]);
        Self::dict([("state", state), ("param_groups", Self::dict([("lr", Self::Text("6e-4".into()))]))])
    }

    fn pickle(&self, out: &mut Vec<u8>, storages: &mut Vec<Vec<u8>>) {
        fn text(out: &mut Vec<u8>, text: &str) {
            out.push(b'X');
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.as_bytes());
        }
        fn int(out: &mut Vec<u8>, value: usize) {
            out.push(b'J');
            out.extend((value as i32).to_le_bytes());
        }
        fn ints(out: &mut Vec<u8>, values: &[usize]) {
            out.push(b'(');
            values.iter().for_each(|value| int(out, *value));
            out.push(b't');
        }
        match self {
            Self::Dict(entries) => {
                out.extend(b"}(");
                for (key, value) in entries {
                    text(out, key);
                    value.pickle(out, storages);
                }
                out.push(b'u');
            }
            Self::Numbered(entries) => {
                out.extend(b"}(");
                for (key, value) in entries {
                    int(out, *key as usize);
                    value.pickle(out, storages);
                }
                out.push(b'u');
            }
            Self::List(values) => {
                out.extend(b"](");
                values.iter().for_each(|value| value.pickle(out, storages));
                out.push(b'e');
            }
            Self::Int(value) => int(out, *value as usize),
            Self::Float(value) => {
                out.push(b'G');
                out.extend(value.to_be_bytes());
            }
            Self::Bool(value) => out.push(if *value { 0x88 } else { 0x89 }),
            Self::Text(value) => text(out, value),
            Self::Tensor(data) => {
                let class: &[u8] = if data.as_slice::<f32>().is_ok() { b"Float" } else { b"Long" };
                out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
                text(out, "storage");
                out.extend([b"ctorch\n", class, b"Storage\n"].concat());
                text(out, &storages.len().to_string());
                text(out, "cpu");
                int(out, data.num_elements());
                out.extend(b"tQ");
                int(out, 0);
                let shape = data.shape().to_vec();
                let stride: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
                ints(out, &shape);
                ints(out, &stride);
                // No gradient, no hooks.
                out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
                storages.push(data.as_bytes().to_vec());
            }
            Self::Call(module, function, argument) => {
                out.extend(format!("c{module}\n{function}\n(").as_bytes());
                argument.pickle(out, storages);
                out.extend(b"tR");
            }
            Self::Dropped(value, other) => {
                value.pickle(out, storages);
                out.push(b'0');
                other.pickle(out, storages);
            }
        }
    }
}

/// Writes what `torch.save(value, path)` would: a zip archive of uncompressed entries, a pickle of protocol 2 and the
/// tensors' bytes beside it.
pub fn write_pth(path: &Path, value: &Python) {
    let (mut pickle, mut storages) = (b"\x80\x02".to_vec(), Vec::new());
    value.pickle(&mut pickle, &mut storages);
    pickle.push(b'.');
    let mut entries =
        vec![("archive/data.pkl".to_owned(), pickle), ("archive/byteorder".to_owned(), b"little".to_vec())];
    entries.extend(storages.into_iter().enumerate().map(|(key, bytes)| (format!("archive/data/{key}"), bytes)));
    entries.push(("archive/version".to_owned(), b"3\n".to_vec()));
    std::fs::write(path, archive(&entries)).unwrap();
}

/// A zip archive of uncompressed entries.
fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut table = [0_u32; 256];
    for (byte, slot) in table.iter_mut().enumerate() {
        *slot = (0..8).fold(byte as u32, |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 });
    }
    let checksum =
        |bytes: &[u8]| !bytes.iter().fold(!0_u32, |sum, byte| sum >> 8 ^ table[usize::from(sum as u8 ^ byte)]);
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let at = file.len() as u32;
        // Version 2.0, no flags, stored, 1 January 1980.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(checksum(bytes).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(bytes);
    }
    let (count, at) = ((entries.len() as u16).to_le_bytes(), (file.len() as u32).to_le_bytes());
    let size = (directory.len() as u32).to_le_bytes();
    file.extend(directory);
    file.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size, &at, &[0, 0]].concat());
    file
}
