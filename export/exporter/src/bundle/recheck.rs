//! A bundle checked again: on another machine, with or without the checkpoint it was made from.

use std::path::{Path, PathBuf};

use contract::{Axis, KEY_PREFIX, ModelContract};
use files::together;
use graph::checker;
use graph::encode::DataFile;
use graph::run::{Array, Opening, Runtime};
use onnx::{Dimension, ModelFileError, ModelProto, ValueInfoProto};
use serde::Serialize;

use super::MODEL;
use super::certificate::{self, Certificate, DataFacts, ModelFacts};
use super::facts::{Counts, PrecisionFacts};
use super::precision::loosest;
use crate::error::{Divergence, ExportError, sentence};
use crate::model::ExportedModel;
use crate::verify::{Scale, Tolerance, Worst, bounded, divergence, golden_tolerance, parity, runtime};

/// One question asked of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was asked: `hashes`, `structure`, `contract`, `recorded outputs`, …
    pub name: &'static str,
    /// The answer.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "snake_case")]
pub enum Outcome {
    /// All is as certified; what was looked at.
    Passed(String),
    /// It is not; what differs.
    Failed(String),
    /// It could not be asked; why.
    NotRun(String),
}

impl Check {
    /// A check with its outcome: an error is a failure.
    pub fn new(name: &'static str, found: Result<String, String>) -> Self {
        Self { name, outcome: found.map_or_else(Outcome::Failed, Outcome::Passed) }
    }

    /// A check that could not be made.
    pub fn not_run(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::NotRun(why.into()) }
    }

    /// Whether the bundle is not what it is certified to be.
    pub fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

/// A bundle on disk.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    certificate: Certificate,
    bytes: Vec<u8>,
    sha256: String,
    model: Result<ModelProto, ModelFileError>,
}

impl Bundle {
    /// Reads the bundle in `folder`. A model that is damaged is for [`Self::check`] to tell. Where an export was killed
    /// after its model was in place, the files beside it are read where they wait.
    ///
    /// # Errors
    /// If `model.onnx` or `certificate.json` cannot be read, or the latter is of another version or malformed.
    pub fn open(folder: &Path) -> Result<Self, ExportError> {
        let limits = onnx::Limits::default();
        let model = folder.join(MODEL);
        let lacks = |name: &str| ExportError::NoBundle { path: folder.to_owned(), found: format!("it has no {name}") };
        match std::fs::metadata(folder) {
            Ok(facts) if !facts.is_dir() => {
                return Err(ExportError::NoBundle { path: folder.to_owned(), found: "it is a file".to_owned() });
            }
            Err(error) if is_missing(&error) => {
                return Err(ExportError::NoBundle { path: folder.to_owned(), found: "there is none".to_owned() });
            }
            _ => {}
        }
        // The link, where it is one: the weights are beside it, not beside what it leads to.
        inside(&model).map_err(|error| match error {
            ExportError::Read { source, .. } if is_missing(&source) => lacks(MODEL),
            other => other,
        })?;
        let (bytes, parsed) = match onnx::read_bytes(&model, &limits) {
            Ok(bytes) => {
                let parsed = onnx::parse(&bytes, &model, &limits);
                (bytes, parsed)
            }
            Err(ModelFileError::Read { path, source }) => return Err(ExportError::Read { path, source }),
            Err(error) => (vec![], Err(error)),
        };
        // Which files beside it belong to it depends on what it is.
        let sha256 = certificate::sha256(&bytes);
        let path = inside(&together::beside(&model, &sha256, certificate::FILE)).map_err(|error| match error {
            ExportError::Read { source, .. } if is_missing(&source) => lacks(certificate::FILE),
            other => other,
        })?;
        let text = files::read_text_limited(&path, certificate::LARGEST);
        let text = text.map_err(|source| ExportError::Read { path: path.clone(), source })?;
        let certificate = Certificate::from_json(&text, &path)?;
        Ok(Self { folder: folder.to_owned(), certificate, bytes, sha256, model: parsed })
    }

    /// What is certified.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The contract inside the model.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, or with the model.
    pub fn contract(&self) -> Result<ModelContract, String> {
        let model = self.model.as_ref().map_err(ToString::to_string)?;
        super::contract_of(model).map_err(|error| sentence(&error))
    }

    /// The folder where files still wait to be put beside the model, because an export was killed; the next export into
    /// the bundle does it.
    pub fn unfinished(&self) -> Option<PathBuf> {
        let place = |name| together::beside(&self.folder.join(MODEL), &self.sha256, name);
        contract::BESIDE.iter().find_map(|name| {
            let folder = place(name).parent().map(Path::to_owned)?;
            (folder != self.folder).then_some(folder)
        })
    }

    /// The model file as it is, for other runtimes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All checks that need nothing but the bundle: hashes, the rules of ONNX, the contract, what the certificate
    /// counts, and ONNX Runtime's outputs against what Burn gave when the bundle was made.
    pub fn check(&self, runtime: &Runtime) -> Vec<Check> {
        let mut checks = vec![Check::new("hashes", self.hashes())];
        let model = match &self.model {
            Ok(model) => model,
            Err(error) => {
                checks.push(Check::new("structure", Err(sentence(error))));
                return checks;
            }
        };
        let structure = checker::check_file(model).map(|()| "the rules of ONNX hold".to_owned());
        checks.push(Check::new("structure", structure.map_err(|error| error.to_string())));
        checks.push(Check::new("contract", self.contract_holds(model)));
        checks.push(Check::new("counts", self.counts(model)));
        checks.push(match &self.certificate.precision {
            Some(facts) => Check::new("precision", self.precision(model, facts)),
            None => Check::new("recorded outputs", self.recorded(runtime)),
        });
        checks.push(self.golden(runtime));
        checks
    }

    /// The model made again from its checkpoint, against the file: byte for byte, else output for output and node for
    /// node.
    pub fn check_against(&self, again: &ExportedModel, runtime: &Runtime) -> Check {
        Check::new("checkpoint", self.against(again, runtime))
    }

    fn against(&self, again: &ExportedModel, runtime: &Runtime) -> Result<String, String> {
        let fresh = again.encode(&self.contract()?.to_metadata()).map_err(|error| sentence(&error))?;
        let (tolerance, _) = self.tolerance();
        let outputs = parity::compare(again, &self.bytes, self.beside(), runtime, tolerance);
        let same = fresh.model == self.bytes;
        if same && let Ok(comparison) = &outputs {
            let rows: usize = comparison.parity.batch.iter().map(|batch| batch.rows).sum();
            return Ok(format!("exported again, the model is the same byte for byte; Burn agrees on {rows} rows"));
        }
        let ours = (fresh.model.as_slice(), fresh.data.as_ref().map(DataFile::folder));
        let first = divergence::from_model(ours, (&self.bytes, self.beside()), runtime, &again.two_rows());
        match (outputs, first) {
            (Ok(_), Divergence::Nowhere) => Ok("exported again, other bytes with the same values at every node".into()),
            (Ok(_), first) => Err(format!("the outputs agree with Burn, but {first}")),
            (Err(ExportError::Parity { output, max_abs, limit, sizes, seed, .. }), first) => Err(format!(
                "`{output}` differs from Burn by {max_abs:.1e} ({limit:.1e} allowed) at {sizes} on input `{seed}`; \
                 {first}"
            )),
            (Err(error), first) => Err(format!("{}; {first}", sentence(&error))),
        }
    }

    /// What differences are allowed: the certificate's own tolerance, which anybody can edit, and never more than
    /// ours; and what to say where it would have allowed more.
    fn tolerance(&self) -> (Tolerance, &'static str) {
        let certified = self.certificate.parity.tolerance;
        let capped = certified.capped(Tolerance::default());
        let note = if capped == certified { "" } else { "; the certificate would allow more than this program does" };
        (capped, note)
    }

    fn beside(&self) -> Option<&Path> {
        let apart = |model: &ModelProto| !onnx::data_files(model).is_empty();
        self.model.as_ref().is_ok_and(apart).then_some(self.folder.as_path())
    }

    fn hashes(&self) -> Result<String, String> {
        let certified = &self.certificate.model;
        let found = &self.sha256;
        if *found != certified.sha256 {
            // Thresholds are measured later, on data of whoever uses the model; nothing else may be added.
            let bare = onnx::without_metadata(&self.bytes, &format!("{KEY_PREFIX}threshold"));
            if !bare.is_ok_and(|bare| certificate::sha256(&bare) == certified.sha256) {
                return Err(format!("`model.onnx` has SHA-256 {found}, certified is {}", certified.sha256));
            }
        }
        let Some(data) = &certified.data else { return Ok("SHA-256 of `model.onnx`".into()) };
        match self.data(&data.file) {
            Ok(found) if found == *data => Ok(format!("SHA-256 of `model.onnx` and `{}`", data.file)),
            Ok(found) => Err(format!("`{}` has SHA-256 {}, certified is {}", data.file, found.sha256, data.sha256)),
            Err(error) => Err(format!("`{}` cannot be read: {error}", data.file)),
        }
    }

    fn data(&self, name: &str) -> std::io::Result<DataFacts> {
        let plain = Path::new(name).file_name().is_some_and(|file| file == name);
        if !plain {
            return Err(std::io::Error::other("it is no file of this folder"));
        }
        let (sha256, bytes) = files::sha256(&files::resolve_inside(&self.folder.join(name))?)?;
        Ok(DataFacts { file: name.into(), sha256, bytes })
    }

    fn contract_holds(&self, model: &ModelProto) -> Result<String, String> {
        let inside = self.contract()?;
        let path = together::beside(&self.folder.join(MODEL), &self.sha256, contract::BESIDE[0]);
        let path = files::resolve_inside(&path);
        let text = path.and_then(|path| files::read_text_limited(&path, contract::LARGEST_FILE));
        let text = text.map_err(|error| format!("`contract.json` cannot be read: {error}"))?;
        let copy = ModelContract::from_json(&text).map_err(|error| format!("`contract.json`: {}", sentence(&error)))?;
        if copy != inside {
            return Err("`contract.json` is not the contract inside the model".into());
        }
        let graph = model.graph.as_ref().ok_or("the model has no graph")?;
        let constants: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let inputs =
            graph.input.iter().filter(|input| !constants.contains(&input.name.as_str())).map(declared).collect();
        let outputs: Vec<_> = graph.output.iter().map(declared).collect();
        let said = |name: &str, shape: &[Axis]| (name.to_owned(), shape.to_vec());
        for (what, said, found) in [
            ("inputs", inside.input.iter().map(|spec| said(&spec.name, &spec.shape)).collect::<Vec<_>>(), inputs),
            ("outputs", inside.output.iter().map(|spec| said(&spec.name, &spec.shape)).collect(), outputs),
        ] {
            if said != found {
                return Err(format!("it declares {what} {said:?}, the graph has {found:?}"));
            }
        }
        let (own, certified) = (&inside.exporter.checkpoint_sha256, &self.certificate.checkpoint.sha256);
        if own != certified {
            return Err(format!("it names checkpoint {own}, the certificate {certified}"));
        }
        Ok("inside the model, beside it and in the graph the same".into())
    }

    fn counts(&self, model: &ModelProto) -> Result<String, String> {
        let certified = &self.certificate.model;
        let path = self.folder.join(MODEL);
        let weights = certificate::weights_sha256(model, &path);
        let weights = weights.map_err(|error| format!("weights cannot be read: {error}"))?;
        let found = ModelFacts::new(&self.bytes, model, certified.data.clone(), weights, certified.optimised);
        let mut wrong = vec![];
        let mut compare = |what: &str, found: &dyn std::fmt::Display, certified: &dyn std::fmt::Display| {
            let (found, certified) = (found.to_string(), certified.to_string());
            if found != certified {
                wrong.push(format!("{what} {found}, certified is {certified}"));
            }
        };
        compare("hash of the weights", &found.weights_sha256, &certified.weights_sha256);
        compare("operator set", &found.opset, &certified.opset);
        compare("file format", &found.ir_version, &certified.ir_version);
        compare("nodes", &found.nodes, &certified.nodes);
        compare("constants", &found.initialisers, &certified.initialisers);
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        let ModelFacts { nodes, initialisers, opset, ir_version, .. } = found;
        Ok(format!(
            "{nodes} nodes, {initialisers} constants with their hash, operator set {opset}, file format {ir_version}"
        ))
    }

    /// Of a model in a smaller format: whether contract, certificate and file say the same of it. Its outputs are
    /// asked for by the golden vectors; only whoever has the float32 model can compare it with that.
    fn precision(&self, model: &ModelProto, facts: &PrecisionFacts) -> Result<String, String> {
        let contract = self.contract()?;
        let Some(quantisation) = &contract.quantisation else {
            return Err(format!("the contract says {} and not how it was made", contract.precision));
        };
        let found = Counts::of(model);
        if found != facts.counts {
            return Err(format!("the file has {found:?}, certified are {:?}", facts.counts));
        }
        let fits = match contract.precision.as_str() {
            "int8" => found.bytes > 0 && found.dequantize > 0,
            "fp16" => found.halves > 0,
            _ => false,
        };
        if !fits {
            return Err(format!("the contract says `{}`, the file has {found:?}", contract.precision));
        }
        let [format, all] = quantisation.nodes;
        Ok(format!(
            "{format} of {all} nodes in {} as certified; when it was made, the mean cosine against float32 model {} \
             was {:.4} on {} pictures, which is not asked again here",
            contract.precision,
            &quantisation.source_sha256.get(..16).unwrap_or_default(),
            facts.quality.mean_cosine,
            facts.quality.pictures
        ))
    }

    /// Runs the recorded inputs at ONNX Runtime's default level.
    fn recorded(&self, runtime: &Runtime) -> Result<String, String> {
        let runs = &self.certificate.runs;
        if runs.is_empty() {
            return Err("the certificate records no run".into());
        }
        bounded(runs.iter().map(|run| run.input.as_slice()))
            .map_err(|problem| format!("the certificate: {problem}"))?;
        let opening = Opening { beside: self.beside(), ..Opening::plain(true) };
        let mut session = runtime.open(&self.bytes, opening).map_err(|error| sentence(&error))?;
        self.compare_runs(|inputs, names| runtime::run(&mut session, inputs, names).map_err(|error| sentence(&error)))
    }

    /// Compares what `compute` gives for the recorded inputs with what Burn gave. For any runtime: inputs and the
    /// names of outputs in, arrays out.
    fn compare_runs(
        &self,
        mut compute: impl FnMut(&[(String, burn::tensor::TensorData)], &[String]) -> Result<Vec<Array>, String>,
    ) -> Result<String, String> {
        let (tolerance, note) = self.tolerance();
        let (mut largest, mut values) = (0.0f64, 0);
        // Values are measured against all that the output gave at one batch size.
        for runs in self.certificate.runs.chunk_by(|a, b| a.batch == b.batch) {
            let mut done = vec![];
            for run in runs {
                let mut inputs = vec![];
                for input in &run.input {
                    inputs.push((input.input.clone(), input.data().map_err(|error| error.to_string())?));
                }
                let names: Vec<String> = run.output.iter().map(|output| output.output.clone()).collect();
                done.push((run, compute(&inputs, &names)?));
            }
            for (run, found) in &done {
                for (index, (found, stored)) in found.iter().zip(&run.output).enumerate() {
                    let same = |(_, found): &(_, Vec<Array>)| found.get(index).map(|array| array.shape.len());
                    let all = done.iter().filter(|other| same(other) == Some(found.shape.len()));
                    let scale = Scale::of(&all.map(|(_, found)| &found[index]).collect::<Vec<_>>());
                    let compared = stored.compare(found, &scale, &tolerance);
                    let Worst { difference, limit, share } = compared.map_err(|error| error.to_string())?;
                    if share > 1.0 {
                        let seeds = run.input.first().and_then(|input| input.seeds.first());
                        return Err(format!(
                            "`{}` differs from what Burn gave by {difference:.1e} ({limit:.1e} allowed) at batch {} on \
                             input `{}`{note}",
                            stored.output,
                            run.batch,
                            seeds.cloned().unwrap_or_default()
                        ));
                    }
                    largest = largest.max(difference);
                    values += stored.values.len();
                }
            }
        }
        Ok(format!(
            "{} runs, {values} values that Burn gave, largest difference {largest:.1e}{note}",
            self.certificate.runs.len()
        ))
    }

    fn golden(&self, runtime: &Runtime) -> Check {
        const NAME: &str = "golden vectors";
        let contract = match self.contract() {
            Ok(contract) => contract,
            Err(error) => return Check::new(NAME, Err(error)),
        };
        let Some(golden) = &contract.golden else { return Check::not_run(NAME, "the contract has none") };
        let attempt = || -> Result<String, String> {
            let mut inputs = vec![];
            for spec in &contract.input {
                let (shape, values) =
                    golden.input(spec).ok_or_else(|| format!("input `{}` does not fit them", spec.name))?;
                inputs.push((spec.name.clone(), burn::tensor::TensorData::new(values, shape)));
            }
            let opening = Opening { beside: self.beside(), ..Opening::plain(true) };
            let mut session = runtime.open(&self.bytes, opening).map_err(|error| sentence(&error))?;
            let names: Vec<String> = golden.output.keys().cloned().collect();
            let found = runtime::run(&mut session, &inputs, &names).map_err(|error| sentence(&error))?;
            // The model's own tolerance, and never more than the exporter gives.
            let ours = match &self.certificate.precision {
                Some(_) => loosest(golden),
                None => golden_tolerance(golden.output.values().flatten().copied()),
            };
            let looser = golden.tolerance.is_nan() || golden.tolerance > ours;
            let allowed = f64::from(if looser { ours } else { golden.tolerance });
            let note = if looser { "; the contract would allow more than this program does" } else { "" };
            let mut worst = 0.0f64;
            for ((name, stored), found) in golden.output.iter().zip(&found) {
                let found: Vec<f64> = found.values.iter().step_by(golden.every.max(1)).copied().collect();
                if found.len() != stored.len() {
                    return Err(format!("`{name}` has {} values to compare, {} are stored", found.len(), stored.len()));
                }
                let apart = found.iter().zip(stored).map(|(found, &stored)| (found - f64::from(stored)).abs());
                let difference = apart.fold(0.0, |worst: f64, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) });
                if difference > allowed {
                    return Err(format!("`{name}` is off by {difference:.1e}, {allowed:.1e} allowed{note}"));
                }
                worst = worst.max(difference);
            }
            Ok(format!("largest difference {worst:.1e}, {allowed:.1e} allowed{note}"))
        };
        Check::new(NAME, attempt())
    }
}

/// Whether nothing is there, and not a link that leads nowhere.
fn is_missing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    error.raw_os_error().is_some() && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A file of the bundle: a link must not lead to other files of whoever checks it.
fn inside(path: &Path) -> Result<PathBuf, ExportError> {
    files::resolve_inside(path).map_err(|source| ExportError::Read { path: path.to_owned(), source })
}

/// Name and shape as the graph has them; an axis nobody knows is `?`.
fn declared(value: &ValueInfoProto) -> (String, Vec<Axis>) {
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let dims = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.as_slice()).unwrap_or_default();
    let axis = |dim: &onnx::DimensionProto| match &dim.value {
        Some(Dimension::Value(size)) => Axis::Size(usize::try_from(*size).unwrap_or(0)),
        Some(Dimension::Symbol(symbol)) => Axis::Symbol(symbol.clone()),
        None => Axis::Symbol("?".into()),
    };
    (value.name.clone(), dims.iter().map(axis).collect())
}
