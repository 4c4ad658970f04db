//! State dictionaries: a network's tensors under PyTorch's names, and the files they come from and go to.
//!
//! `.pth` files are read as data only. Every tensor of a file is used or named, every parameter filled or named.

mod pickle;
mod pytorch;
mod shapes;
mod unwrap;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, bridge};
use burn::tensor::{DType, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

pub(crate) use shapes::{Shapes, shapes_of};
pub use unwrap::{Copies, Origin};

/// Largest weights file we read, in bytes.
const MAX_FILE: u64 = 8 << 30;

/// Why weights cannot be read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be opened.
    #[error("cannot read weights `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Neither safetensors nor a PyTorch file, or truncated.
    #[error("`{}` is not a weights file (safetensors, or PyTorch .pth/.pt), or is damaged: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// The pickle names a class or function that no state dictionary needs. Nothing was run.
    #[error(
        "`{}` names `{name}`, which no state dictionary needs; weights are read as data only, so it is refused. In \
         PyTorch, `torch.save(model.state_dict(), \"weights.pth\")` saves the weights alone",
        path.display()
    )]
    Code {
        /// The file.
        path: PathBuf,
        /// The class or function.
        name: String,
    },
    /// The pickle holds a network's object, not its weights alone. Nothing was run.
    #[error(
        "`{}` holds a whole network (it names `{name}`); weights are read as data only. In PyTorch, \
         `torch.save(model.state_dict(), \"weights.pth\")` saves the weights alone",
        path.display()
    )]
    Network {
        /// The file.
        path: PathBuf,
        /// The first class of it.
        name: String,
    },
    /// A TorchScript archive: a program with weights, not a state dictionary.
    #[error(
        "`{}` is a TorchScript archive; in PyTorch, \
         `torch.save(torch.jit.load(\"{0}\").state_dict(), \"weights.pth\")` \
         saves its weights alone",
        path.display()
    )]
    TorchScript {
        /// The file.
        path: PathBuf,
    },
    /// A weight is NaN or infinite.
    #[error("`{}` holds a weight that is not finite: `{key}`", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first such tensor.
        key: String,
    },
    /// The file is of another network, or of this one in another shape.
    #[error("`{}` does not fit {network}: {report}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The network.
        network: String,
        /// What is left over, missing or of another shape.
        report: Box<LoadReport>,
    },
}

/// A network's tensors by PyTorch key: floats as `f32`, integers as `i64`.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    /// Shared, because the same weights are compared with many networks under many keys.
    tensors: BTreeMap<String, Arc<TensorData>>,
    /// How they came to their keys, and what lay beside them in their file.
    origin: Origin,
    /// Which copy of the weights is meant.
    copies: Copies,
}

impl FromIterator<(String, TensorData)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (String, TensorData)>>(tensors: I) -> Self {
        let tensors = tensors.into_iter().map(|(key, data)| (key, Arc::new(data))).collect();
        Self { tensors, ..Self::default() }
    }
}

/// What became of each tensor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors of the network that were filled.
    pub applied: usize,
    /// Tensors of the network that the file has nothing for.
    pub missing: Vec<String>,
    /// Tensors of the file that the network does not have.
    pub unused: Vec<String>,
    /// Tensors of another shape: key, shape in the file, shape in the network.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// What lies beside the weights in the file and is none: state of a training run, what a loss learned, a head of
    /// another task. Not used.
    pub aside: Vec<String>,
    /// Counts of batches that norms have seen (`num_batches_tracked`): PyTorch's bookkeeping for momentum `None`,
    /// which no network here uses.
    pub counts: usize,
    /// How the file's tensors came to their keys.
    pub origin: Origin,
}

/// What a load may leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// Everything must fit.
    Nothing,
    /// Classifiers may have another number of classes: they keep their start values. For fine-tuning and evaluation.
    Classifiers,
}

/// The key of the parameter at a path of Burn's. PyTorch's networks also number attributes, `classifier0`, which a
/// field cannot be called if their number is open: the list `classifier_` has these keys.
pub(crate) fn key_of(path: &str) -> String {
    path.replace("_.", "")
}

/// Whether the key is that of a number of batches that a norm has seen.
pub(crate) fn is_count(key: &str) -> bool {
    key.ends_with(".num_batches_tracked")
}

/// Whether the key is that of a layer whose width is the number of classes. Modules around it may have the same name.
pub(crate) fn is_classifier(key: &str) -> bool {
    let layer = key.rsplit_once('.').map_or("", |(layer, _)| layer);
    let layer = layer.strip_suffix(".0").unwrap_or(layer);
    layer == "classifier" || layer.ends_with(".classifier") || layer.starts_with("fc_id_")
}

impl LoadReport {
    /// Whether the network was filled and every tensor used.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.mismatched.is_empty()
    }

    /// Whether nothing but what `partial` allows is open.
    pub fn is_acceptable(&self, partial: Partial) -> bool {
        let open = |key: &str| partial == Partial::Classifiers && is_classifier(key);
        self.missing.iter().chain(&self.unused).all(|key| open(key))
            && self.mismatched.iter().all(|(key, ..)| open(key))
            && self.applied > 0
    }
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Keys named before the rest is only counted.
        const NAMED: usize = 8;
        let list = |keys: &[String]| {
            let named = keys.iter().take(NAMED).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let more = keys.len().saturating_sub(NAMED);
            if more > 0 { format!("{named} and {more} more") } else { named }
        };
        let mut parts = Vec::new();
        if !self.origin.is_empty() {
            parts.push(self.origin.to_string());
        }
        parts.push(format!("{} tensors filled", self.applied));
        if !self.missing.is_empty() {
            parts.push(format!("{} not in the file: {}", self.missing.len(), list(&self.missing)));
        }
        if !self.unused.is_empty() {
            parts.push(format!("{} left over in the file: {}", self.unused.len(), list(&self.unused)));
        }
        if !self.mismatched.is_empty() {
            let keys: Vec<_> =
                self.mismatched.iter().map(|(key, found, wanted)| format!("{key} {found:?} for {wanted:?}")).collect();
            parts.push(format!("{} of another shape: {}", keys.len(), list(&keys)));
        }
        if !self.aside.is_empty() {
            parts.push(format!("not used: {}", list(&self.aside)));
        }
        if self.counts > 0 {
            parts.push(format!("not needed: {} `num_batches_tracked`", self.counts));
        }
        f.write_str(&parts.join("; "))
    }
}

impl StateDict {
    /// The tensors of a network. Goes through `valid()`, which brings running statistics up to date.
    pub fn of<M: Module>(network: &M) -> Self {
        let tensors = network.valid().collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
        tensors
            .into_iter()
            .map(|tensor| {
                let mut data = canonical(bridge::to_data(&tensor).expect("a network's own tensors can be read"));
                if is_scalar(&tensor.name) {
                    data = TensorData::from_bytes_vec(data.as_bytes().to_vec(), Vec::<usize>::new(), data.dtype());
                }
                (key_of(&tensor.name), data)
            })
            .collect()
    }

    /// Keys and tensors in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorData)> {
        self.tensors.iter().map(|(key, data)| (key.as_str(), data.as_ref()))
    }

    /// The keys.
    pub fn keys(&self) -> BTreeSet<String> {
        self.tensors.keys().cloned().collect()
    }

    /// How the tensors came to their keys, and what lay beside them in their file.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The tensor at `key`.
    pub fn get(&self, key: &str) -> Option<&TensorData> {
        self.tensors.get(key).map(Arc::as_ref)
    }

    /// Sizes of the matrix at `key`.
    ///
    /// # Errors
    /// If it is missing or has another number of axes.
    pub fn matrix(&self, key: &str) -> Result<[usize; 2], String> {
        match self.get(key).map(|data| data.shape().to_vec()).as_deref() {
            Some(&[rows, columns]) => Ok([rows, columns]),
            Some(shape) => Err(format!("`{key}` has shape {shape:?}, two axes are needed")),
            None => Err(format!("`{key}` is missing")),
        }
    }

    /// Sizes of the classifiers, each with as many rows as there are training identities and as many columns as
    /// features, in the order of their keys.
    pub fn classifiers(&self) -> impl Iterator<Item = [usize; 2]> {
        let matrix = |data: &TensorData| <[usize; 2]>::try_from(data.shape().to_vec()).ok();
        self.iter().filter(|(key, _)| is_classifier(key)).filter_map(move |(_, data)| matrix(data))
    }

    /// Training identities, as the first classifier has them.
    pub fn classes(&self) -> Option<usize> {
        self.classifiers().next().map(|[classes, _]| classes)
    }

    /// Parameters, running statistics and counters left out.
    pub fn parameters(&self) -> usize {
        let buffer = |key: &str| key.contains(".running_") || key.ends_with(".num_batches_tracked");
        self.iter().filter(|(key, _)| !buffer(key)).map(|(_, data)| data.num_elements()).sum()
    }

    /// The first float tensor that holds NaN or an infinity.
    pub fn first_not_finite(&self) -> Option<&str> {
        let broken = |data: &TensorData| data.as_slice::<f32>().is_ok_and(|v| !v.iter().all(|v| v.is_finite()));
        self.iter().find(|(_, data)| broken(data)).map(|(key, _)| key)
    }

    /// Their shapes.
    pub(crate) fn shapes(&self) -> Shapes {
        self.iter().map(|(key, data)| (key.to_owned(), data.shape().to_vec())).collect()
    }

    /// What these tensors would leave open in a network whose own are `own`.
    pub fn compare(&self, own: &Self) -> LoadReport {
        self.compare_shapes(&own.shapes())
    }

    /// What these tensors would leave open in a network whose own have these shapes.
    pub(crate) fn compare_shapes(&self, own: &Shapes) -> LoadReport {
        let aside = self.origin.aside.iter().cloned().collect();
        let mut report = LoadReport { aside, origin: self.origin.clone(), ..LoadReport::default() };
        for (key, wanted) in own {
            match self.get(key).map(|data| data.shape().to_vec()) {
                None => report.missing.push(key.clone()),
                Some(found) if found == *wanted => report.applied += 1,
                Some(found) => report.mismatched.push((key.clone(), found, wanted.clone())),
            }
        }
        let others = self.tensors.keys().filter(|key| !own.contains_key(*key)).cloned();
        let counts: Vec<_>;
        (counts, report.unused) = others.partition(|key| is_count(key));
        report.counts = counts.len();
        report
    }

    /// Copies what fits into `network`; the report names what does not.
    pub fn load_into<M: Module>(mut self, network: &mut M) -> LoadReport {
        let own = Self::of(network);
        let report = self.compare(&own);
        self.tensors.retain(|key, data| own.get(key).is_some_and(|own| own.shape() == data.shape()));
        let names = network.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true).into_iter().map(|t| t.name);
        let mut names: BTreeMap<String, String> = names.map(|name| (key_of(&name), name)).collect();
        let tensors = self
            .tensors
            .into_iter()
            .map(|(key, data)| {
                let data = Arc::unwrap_or_clone(data);
                let mut data = match own.get(&key).map(TensorData::dtype) {
                    Some(DType::F32) if data.dtype() != DType::F32 => data.convert::<f32>(),
                    Some(DType::I64) if data.dtype() != DType::I64 => data.convert::<i64>(),
                    _ => data,
                };
                if is_scalar(&key) {
                    data = TensorData::from_bytes_vec(data.as_bytes().to_vec(), vec![1], data.dtype());
                }
                bridge::from_data(data, names.remove(&key).expect("it is one of the network's own"), None)
            })
            .collect();
        let result = network.apply(tensors, None, Some(Box::new(PyTorchToBurnAdapter)), true);
        assert!(result.errors.is_empty(), "keys and shapes were compared: {:?}", result.errors);
        report
    }

    /// Reads a safetensors or PyTorch file; dictionaries around the state dictionary and the prefixes of `DataParallel`
    /// and `torch.compile` are taken off. Where there is a moving average of the weights, it is read.
    ///
    /// # Errors
    /// See [`WeightsError`].
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        Self::read_copy(path, Copies::Average)
    }

    /// As [`StateDict::read`], with the copy of the weights that is wanted where there are two.
    ///
    /// # Errors
    /// See [`WeightsError`].
    pub fn read_copy(path: &Path, copies: Copies) -> Result<Self, WeightsError> {
        let unreadable = |source| WeightsError::Read { path: path.to_owned(), source };
        let file = files::open_regular(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let format = |reason: String| WeightsError::Format { path: path.to_owned(), reason };
        if size > MAX_FILE {
            return Err(format(format!("{size} bytes, {MAX_FILE} allowed")));
        }
        let mut start = [0u8; 9];
        let count = (&file).take(9).read(&mut start).map_err(unreadable)?;
        let head = &start[..count];
        // A safetensors file starts with the header's length and `{`; a zip with PK, a pickle with 0x80.
        let tensors = if head.get(8) == Some(&b'{') && !head.starts_with(b"PK") {
            let bytes = files::read_limited(path, MAX_FILE).map_err(unreadable)?;
            from_safetensors(&bytes).map_err(format)?
        } else {
            pytorch::read(path)?
        };
        let unwrapped = Self::unwrapped(tensors, copies);
        if unwrapped.tensors.is_empty() {
            return Err(format("it holds no tensors".into()));
        }
        if let Some(key) = unwrapped.first_not_finite() {
            return Err(WeightsError::NotFinite { path: path.to_owned(), key: key.to_owned() });
        }
        Ok(unwrapped)
    }

    /// Reads `path` into `network`.
    ///
    /// # Errors
    /// See [`WeightsError`]; `network` is unchanged unless the result is `Ok`.
    pub fn load_file<M: Module>(
        path: &Path,
        network: &mut M,
        name: &str,
        partial: Partial,
    ) -> Result<LoadReport, WeightsError> {
        let own = shapes_of(network).into_keys().collect();
        Self::read(path)?.fitted_to(&own).load(path, network, name, partial)
    }

    /// Copies these tensors, which come from `path`, into `network`.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`]; `network` is unchanged unless the result is `Ok`.
    pub fn load<M: Module>(
        self,
        path: &Path,
        network: &mut M,
        name: &str,
        partial: Partial,
    ) -> Result<LoadReport, WeightsError> {
        let report = self.compare_shapes(&shapes_of(network));
        if !report.is_acceptable(partial) {
            let report = Box::new(report);
            return Err(WeightsError::Mismatch { path: path.to_owned(), network: name.to_owned(), report });
        }
        Ok(self.load_into(network))
    }

    /// Copies a backbone's tensors to every parameter that starts from them; `own` names the parameters, `source`
    /// their tensors.
    pub(crate) fn spread(&self, own: &Self, source: impl Fn(&str) -> Option<String>) -> Self {
        let copy = |key: &str| Some((key.to_owned(), self.tensors.get(&source(key)?)?.clone()));
        let tensors = own.tensors.keys().filter_map(|key| copy(key)).collect();
        Self { tensors, origin: self.origin.clone(), copies: self.copies }
    }

    /// The tensors of a safetensors file's bytes, as they are; without counts of batches, which
    /// [`StateDict::to_safetensors`] adds.
    ///
    /// # Errors
    /// If they are not that.
    pub(crate) fn from_safetensors(bytes: &[u8]) -> Result<Self, String> {
        Ok(from_safetensors(bytes)?.into_iter().filter(|(key, _)| !is_count(key)).collect())
    }

    /// The bytes of a safetensors file with `metadata` in its header, keys in order. `batches` is written where
    /// PyTorch keeps the number of batches a norm has seen.
    pub fn to_safetensors(&self, batches: u64, metadata: BTreeMap<String, String>) -> Vec<u8> {
        let tracked = batches.to_le_bytes();
        let mut views: Vec<(String, TensorView<'_>)> = Vec::with_capacity(self.tensors.len() * 5 / 4);
        for (key, data) in &self.tensors {
            let dtype = match data.dtype() {
                DType::F32 => Dtype::F32,
                DType::I64 => Dtype::I64,
                other => unreachable!("state dictionaries hold f32 and i64, not {other:?}"),
            };
            let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes());
            views.push((key.clone(), view.expect("a tensor's bytes fit its shape")));
            if let Some(norm) = key.strip_suffix("running_var") {
                let count = TensorView::new(Dtype::I64, vec![], &tracked).expect("eight bytes are one i64");
                views.push((format!("{norm}num_batches_tracked"), count));
            }
        }
        let metadata = metadata.into_iter().collect();
        safetensors::serialize(views, Some(metadata)).expect("views were checked when they were made")
    }
}

/// Whether PyTorch has a number without axes where a network of ours has one axis with one number: Burn knows no
/// tensor without axes.
fn is_scalar(key: &str) -> bool {
    key.rsplit('.').next() == Some("fusion_alpha")
}

fn from_safetensors(bytes: &[u8]) -> Result<BTreeMap<String, TensorData>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = BTreeMap::new();
    for (key, view) in file.tensors() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            Dtype::U8 => DType::U8,
            other => return Err(format!("tensor `{key}` has type {other:?}, which no network here has")),
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        tensors.insert(key, canonical(data));
    }
    Ok(tensors)
}

fn canonical(data: TensorData) -> TensorData {
    match data.dtype() {
        DType::F32 | DType::I64 => data,
        DType::F64 | DType::F16 | DType::BF16 => data.convert::<f32>(),
        _ => data.convert::<i64>(),
    }
}
