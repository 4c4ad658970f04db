//! An exported model: the graph, and the module it must agree with.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use contract::{Axis, Golden, InputSpec};
use sha2::{Digest, Sha256};

use crate::capture::Trace;
use crate::encode::{self, DataFile, Encoded, encode, encode_apart};
use crate::error::{ExportError, shape_text};
use crate::exporter::shape;
use crate::graph::{DType, Dim, Graph, ValueId};
use crate::io::Kind;
use crate::lower::Origin;
use crate::operations::LoweredOperation;
use crate::resolve::Plan;
use crate::verify::{
    Comparison, Divergence, Parity, Runtime, SampleInput, Sampler, Seeded, Tolerance, checker, divergence, parity,
};

/// What a caller should know although the export went through.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// An output is the same whatever the inputs are.
    ConstantOutput {
        /// Name of the output.
        output: String,
    },
    /// An input changes nothing.
    UnusedInput {
        /// Name of the input.
        input: String,
    },
    /// A node draws random numbers: no two runs agree, so that no comparison with Burn can succeed.
    Random {
        /// Name of the node.
        node: String,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Warning::ConstantOutput { output } => write!(f, "output `{output}` does not depend on any input"),
            Warning::UnusedInput { input } => write!(f, "input `{input}` is not used"),
            Warning::Random { node } => {
                write!(f, "`{node}` draws random numbers: no two runs agree, and none with Burn")
            }
        }
    }
}

/// A declared input.
#[derive(Debug, Clone)]
pub(crate) struct ModelInput {
    pub name: String,
    pub axes: Vec<Axis>,
    pub sample: SampleInput,
    pub dtype: DType,
}

/// The module behind a model: it says what the model must compute.
pub(crate) trait Subject {
    /// The outputs for `inputs`.
    fn forward(&self, inputs: Vec<TensorData>) -> Vec<TensorData>;

    /// The operations between the two.
    fn record(&self, inputs: &[TensorData]) -> Result<Trace, ExportError>;
}

/// How a model was asked for, and how it came about.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub name: String,
    pub opset: u32,
    pub optimised: bool,
    /// Most bytes of weights in the model file itself.
    pub most_inside: u64,
    pub inputs: Vec<ModelInput>,
    pub plan: Plan,
    pub operations: Vec<LoweredOperation>,
    pub origins: Vec<Origin>,
}

/// A model ready to be encoded, with the Burn module that says what it must compute.
pub struct ExportedModel {
    recipe: Recipe,
    graph: Graph,
    subject: Box<dyn Subject>,
    warnings: Vec<Warning>,
}

impl std::fmt::Debug for ExportedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportedModel")
            .field("name", &self.recipe.name)
            .field("opset", &self.recipe.opset)
            .field("nodes", &self.graph.nodes.len())
            .finish_non_exhaustive()
    }
}

/// Elements that golden vectors store of the largest output, about.
const GOLDEN_VALUES: usize = 256;

/// Golden tolerance in units of the largest golden value. Runtimes and processors differ by some 1e-6 of it; a wrong weight,
/// colour order or filter by more than 1e-2.
const GOLDEN_TOLERANCE: f32 = 1e-3;

impl ExportedModel {
    pub(crate) fn new(recipe: Recipe, graph: Graph, subject: Box<dyn Subject>, warnings: Vec<Warning>) -> Self {
        Self { recipe, graph, subject, warnings }
    }

    /// Name of the network.
    pub fn name(&self) -> &str {
        &self.recipe.name
    }

    /// Operator set the graph is written for.
    pub fn opset(&self) -> u32 {
        self.recipe.opset
    }

    /// Whether the graph was simplified.
    pub fn optimised(&self) -> bool {
        self.recipe.optimised
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph, for passes and faults of one's own; verify again afterwards.
    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// What the caller should know.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What Burn recorded, in order, and what each operation was lowered to.
    pub fn operations(&self) -> &[LoweredOperation] {
        &self.recipe.operations
    }

    /// Names and shapes of the inputs.
    pub fn inputs(&self) -> Vec<(String, Vec<Axis>)> {
        self.graph.inputs.iter().map(|&id| self.axes(id)).collect()
    }

    /// Names and shapes of the outputs. A size that follows a symbol is a symbol of its own, such as `2*batch`.
    pub fn outputs(&self) -> Vec<(String, Vec<Axis>)> {
        self.graph.outputs.iter().map(|&id| self.axes(id)).collect()
    }

    fn axes(&self, id: ValueId) -> (String, Vec<Axis>) {
        let value = self.graph.value(id);
        let axis = |dim: &Dim| match dim {
            Dim::Size(size) => Axis::Size(*size),
            symbolic => Axis::Symbol(symbolic.to_string()),
        };
        (value.name.clone(), value.dims.iter().map(axis).collect())
    }

    /// Encodes the model into one file, with `metadata` as its `metadata_props`. The same graph gives the same bytes.
    ///
    /// # Errors
    /// If the weights do not fit into one file.
    pub fn to_bytes(&self, metadata: &[(String, String)]) -> Result<Vec<u8>, ExportError> {
        encode(&self.graph, self.recipe.opset, metadata)
    }

    /// Encodes the model as [`bundle::write`](crate::bundle::write) writes it: weights beyond what
    /// [`Exporter::external_data`](crate::Exporter::external_data) allows are in a file of their own, in the system's folder for
    /// temporary files (`TMPDIR`).
    ///
    /// # Errors
    /// If the rest alone does not fit into one file, or that file cannot be written.
    pub fn encode(&self, metadata: &[(String, String)]) -> Result<Encoded, ExportError> {
        self.encode_in(&std::env::temp_dir(), metadata)
    }

    /// [`Self::encode`] with the file of weights in `folder`, in a folder of its own there until
    /// [`bundle::write_model`](crate::bundle::write_model) puts it in place: on the same file system nothing is copied then.
    ///
    /// # Errors
    /// As there.
    pub fn encode_in(&self, folder: &Path, metadata: &[(String, String)]) -> Result<Encoded, ExportError> {
        encode_apart(&self.graph, self.recipe.opset, metadata, self.recipe.most_inside, folder)
    }

    /// SHA-256 of all constants with their names, types and shapes, in hexadecimal: what a contract id is made from.
    pub fn weights_sha256(&self) -> String {
        let mut hash = Sha256::new();
        for (id, tensor) in self.graph.initialisers() {
            hash.update(format!("{} {:?} {:?}\n", self.graph.value(id).name, tensor.dtype(), tensor.dims()));
            hash.update(tensor.bytes());
        }
        hex::encode(hash.finalize())
    }

    /// Checks the graph, encodes it and compares ONNX Runtime with Burn on varied inputs at several batch sizes, with the
    /// default [`Tolerance`].
    ///
    /// # Errors
    /// If a rule of ONNX is broken, ONNX Runtime fails, or an output is too far off.
    pub fn verify(&self, runtime: &Runtime) -> Result<Parity, ExportError> {
        self.verify_encoded(&self.encode(&[])?, runtime, Tolerance::default())
    }

    /// [`Self::verify`] for the very bytes that are going to be written.
    ///
    /// # Errors
    /// As there; also if our own reader refuses them.
    pub fn verify_bytes(&self, bytes: &[u8], runtime: &Runtime, tolerance: Tolerance) -> Result<Parity, ExportError> {
        self.verify_parts(bytes, None, runtime, tolerance).map(|comparison| comparison.parity)
    }

    /// [`Self::verify_bytes`] for a model whose weights may be in a file of their own.
    ///
    /// # Errors
    /// As there.
    pub fn verify_encoded(
        &self,
        files: &Encoded,
        runtime: &Runtime,
        tolerance: Tolerance,
    ) -> Result<Parity, ExportError> {
        self.compare(files, runtime, tolerance).map(|comparison| comparison.parity)
    }

    /// [`Self::verify_encoded`] with what is needed to repeat it.
    pub(crate) fn compare(
        &self,
        files: &Encoded,
        runtime: &Runtime,
        tolerance: Tolerance,
    ) -> Result<Comparison, ExportError> {
        self.verify_parts(&files.model, files.data.as_ref(), runtime, tolerance)
    }

    /// Compares the model's values with Burn's node by node, on one input of two rows, and gives the first node that differs.
    /// A failed verification has done so on the input it failed on.
    pub fn divergence(&self, files: &Encoded, runtime: &Runtime) -> Divergence {
        let inputs = self.two_rows();
        divergence::from_burn(self, &files.model, files.data.as_ref().map(DataFile::folder), runtime, &inputs)
    }

    /// Names and values of an input of two rows, or of as many as the model takes: the same in every run.
    pub fn two_rows(&self) -> Vec<(String, TensorData)> {
        let batch = if self.batch_symbol().is_some() { 2 } else { self.fixed_batch() };
        parity::arrays(&self.sample(&mut Sampler::default(), batch, 0))
    }

    fn verify_parts(
        &self,
        bytes: &[u8],
        data: Option<&DataFile>,
        runtime: &Runtime,
        tolerance: Tolerance,
    ) -> Result<Comparison, ExportError> {
        checker::check(&self.graph, self.recipe.opset)?;
        encode::parse(bytes, data)?;
        parity::compare(self, bytes, data.map(DataFile::folder), runtime, tolerance)
    }

    pub(crate) fn subject(&self) -> &dyn Subject {
        self.subject.as_ref()
    }

    /// Where the graph's values come from.
    pub(crate) fn origins(&self) -> &[Origin] {
        &self.recipe.origins
    }

    /// What Burn computes on `inputs`.
    pub fn reference(&self, inputs: Vec<TensorData>) -> Vec<TensorData> {
        self.subject.forward(inputs)
    }

    /// Known answers for a self-test, from Burn on what [`Golden::input`] says of the inputs `specs`; the tolerance is 1e-3 of
    /// the largest stored value.
    ///
    /// # Errors
    /// If an input does not take numbers of single precision, is a picture that blocks of `block` do not tile, or has an axis
    /// without a fixed size besides the batch.
    pub fn golden(&self, specs: &[InputSpec], seed: &str, batch: usize, block: usize) -> Result<Golden, ExportError> {
        let batch = if self.batch_symbol().is_some() { batch } else { self.fixed_batch() };
        let mut golden =
            Golden { seed: seed.to_owned(), batch, block, tolerance: 0.0, every: 1, output: BTreeMap::new() };
        let mut tensors = vec![];
        for (at, input) in self.recipe.inputs.iter().enumerate() {
            let drawn = specs.iter().find(|spec| spec.name == input.name).and_then(|spec| golden.input(spec));
            let expected = self.input_shape(input, batch, 0);
            match drawn.filter(|(shape, _)| input.sample.kind == Kind::Float && *shape == expected) {
                Some((shape, values)) => tensors.push(TensorData::new(values, shape)),
                None => {
                    let shape = shape_text(&self.graph.value(self.graph.inputs[at]).dims);
                    return Err(ExportError::Golden { input: input.name.clone(), shape, block });
                }
            }
        }
        let outputs = self.reference(tensors);
        let largest = outputs.iter().map(TensorData::num_elements).max().unwrap_or(1);
        golden.every = largest.div_ceil(GOLDEN_VALUES).max(1);
        golden.output = self
            .output_names()
            .into_iter()
            .zip(&outputs)
            .map(|(name, data)| (name, data.iter::<f32>().step_by(golden.every).collect()))
            .collect();
        let scale = golden.output.values().flatten().fold(0.0f32, |largest, value| largest.max(value.abs()));
        golden.tolerance = GOLDEN_TOLERANCE * scale.max(f32::MIN_POSITIVE);
        Ok(golden)
    }

    pub(crate) fn output_names(&self) -> Vec<String> {
        self.graph.outputs.iter().map(|&id| self.graph.value(id).name.clone()).collect()
    }

    /// The symbol of the first input's first axis.
    pub(crate) fn batch_symbol(&self) -> Option<&str> {
        match self.recipe.inputs.first()?.axes.first()? {
            Axis::Symbol(symbol) => Some(symbol),
            Axis::Size(_) => None,
        }
    }

    /// The size of the first input's first axis, where it is fixed.
    pub(crate) fn fixed_batch(&self) -> usize {
        match self.recipe.inputs.first().and_then(|input| input.axes.first()) {
            Some(Axis::Size(size)) => *size,
            _ => 1,
        }
    }

    /// Shape of an input at a batch size; other symbols take the sizes they were recorded at and one more, in turn.
    fn input_shape(&self, input: &ModelInput, batch: usize, run: usize) -> Vec<usize> {
        let batch_symbol = self.batch_symbol();
        let sizes: Vec<usize> = self
            .recipe
            .plan
            .symbols
            .iter()
            .zip((0..).map(|index| self.recipe.plan.compared(index)))
            .map(|(symbol, sizes)| match Some(symbol.as_str()) == batch_symbol {
                true => batch,
                false => sizes[run % sizes.len()],
            })
            .collect();
        shape(&input.axes, &self.recipe.plan, &sizes)
    }

    /// Inputs for one comparison.
    pub(crate) fn sample(&self, sampler: &mut Sampler, batch: usize, run: usize) -> Vec<Seeded> {
        let drawn = self.recipe.inputs.iter().map(|input| {
            let dims = self.input_shape(input, batch, run);
            let rows = if dims.first() == Some(&batch) { batch } else { 1 };
            sampler.draw(&input.name, &input.sample, input.dtype, rows, dims)
        });
        drawn.collect()
    }
}
