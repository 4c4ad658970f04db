//! An exported model: the graph, and the module it must agree with.

use std::path::Path;

use burn::tensor::TensorData;
use contract::Axis;
use graph::encode::{Encoded, encode, encode_apart};
use graph::{DType, Dim, Graph, ValueId};

use crate::capture::Trace;
use crate::coverage::{Assignment, Coverage};
use crate::error::ExportError;
use crate::io::Values;
use crate::lower::Origin;
use crate::operations::LoweredOperation;

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
    pub values: Values,
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
    pub coverage: Coverage,
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

impl ExportedModel {
    pub(crate) fn new(recipe: Recipe, graph: Graph, subject: Box<dyn Subject>, warnings: Vec<Warning>) -> Self {
        Self { recipe, graph, subject, warnings }
    }

    pub(crate) fn recipe(&self) -> &Recipe {
        &self.recipe
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
        Ok(encode(&self.graph, self.recipe.opset, metadata)?)
    }

    /// Encodes the model as [`bundle::write`](crate::bundle::write) writes it: weights beyond what
    /// [`Exporter::external_data`](crate::Exporter::external_data) allows are in a file of their own, in the system's
    /// folder for temporary files (`TMPDIR`).
    ///
    /// # Errors
    /// If the rest alone does not fit into one file, or that file cannot be written.
    pub fn encode(&self, metadata: &[(String, String)]) -> Result<Encoded, ExportError> {
        self.encode_in(&std::env::temp_dir(), metadata)
    }

    /// [`Self::encode`] with the file of weights in `folder`, in a folder of its own there until
    /// [`bundle::write_model`](crate::bundle::write_model) puts it in place: on the same file system nothing is
    /// copied then.
    ///
    /// # Errors
    /// As there.
    pub fn encode_in(&self, folder: &Path, metadata: &[(String, String)]) -> Result<Encoded, ExportError> {
        Ok(encode_apart(&self.graph, self.recipe.opset, metadata, self.recipe.most_inside, folder)?)
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
        self.batch_of(&self.recipe.coverage.recorded()[0])
    }

    /// The size of the first input's first axis at these sizes of the symbols.
    pub(crate) fn batch_of(&self, sizes: &Assignment) -> usize {
        let axes = self.recipe.inputs.first().map(|input| input.axes.as_slice()).unwrap_or_default();
        self.recipe.coverage.shape(axes, sizes).first().copied().unwrap_or(1)
    }
}
