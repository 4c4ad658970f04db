//! An exported model: the graph, and the Burn module that it must agree with.

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

/// Something unusual in a model that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// An output does not depend on any input.
    ConstantOutput {
        /// Name of the output.
        output: String,
    },
    /// No output depends on an input.
    UnusedInput {
        /// Name of the input.
        input: String,
    },
    /// A node draws random numbers: every run differs, so the comparison with Burn cannot succeed.
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
                write!(f, "`{node}` draws random numbers: no run agrees with another or with Burn")
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

/// The Burn module behind a model, which defines what the model must compute.
pub(crate) trait Reference {
    /// The outputs for `inputs`.
    fn forward(&self, inputs: Vec<TensorData>) -> Vec<TensorData>;

    /// Records the operations that compute the outputs from `inputs`.
    fn record(&self, inputs: &[TensorData]) -> Result<Trace, ExportError>;
}

/// What was asked of the exporter, and what it recorded.
#[derive(Debug)]
pub(crate) struct Provenance {
    pub name: String,
    pub opset: u32,
    pub optimised: bool,
    /// Most bytes of weights stored inside the model file.
    pub inline_weight_limit: u64,
    pub inputs: Vec<ModelInput>,
    pub coverage: Coverage,
    pub operations: Vec<LoweredOperation>,
    pub origins: Vec<Origin>,
}

/// A model ready to be encoded, together with the Burn module that it must agree with.
pub struct ExportedModel {
    provenance: Provenance,
    graph: Graph,
    burn_module: Box<dyn Reference>,
    warnings: Vec<Warning>,
}

impl std::fmt::Debug for ExportedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportedModel")
            .field("name", &self.provenance.name)
            .field("opset", &self.provenance.opset)
            .field("nodes", &self.graph.nodes.len())
            .finish_non_exhaustive()
    }
}

impl ExportedModel {
    pub(crate) fn new(
        provenance: Provenance,
        graph: Graph,
        burn_module: Box<dyn Reference>,
        warnings: Vec<Warning>,
    ) -> Self {
        Self { provenance, graph, burn_module, warnings }
    }

    pub(crate) fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Name of the network.
    pub fn name(&self) -> &str {
        &self.provenance.name
    }

    /// Operator set the graph is written for.
    pub fn opset(&self) -> u32 {
        self.provenance.opset
    }

    /// Whether the graph was optimised.
    pub fn optimised(&self) -> bool {
        self.provenance.optimised
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph, to change it with your own passes or planted faults. Verify the model again afterwards.
    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// What is unusual about the model.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The recorded operations, in order, and the ONNX operators that each became.
    pub fn operations(&self) -> &[LoweredOperation] {
        &self.provenance.operations
    }

    /// Names and shapes of the inputs.
    pub fn inputs(&self) -> Vec<(String, Vec<Axis>)> {
        self.graph.inputs.iter().map(|&id| self.axes(id)).collect()
    }

    /// Names and shapes of the outputs. A size that depends on a symbol is a symbol too, such as `2*batch`.
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

    /// Encodes the model as one file, with `metadata` as its `metadata_props`. Equal graphs give equal bytes.
    ///
    /// # Errors
    /// If the weights do not fit into one file.
    pub fn to_bytes(&self, metadata: &[(String, String)]) -> Result<Vec<u8>, ExportError> {
        Ok(encode(&self.graph, self.provenance.opset, metadata)?)
    }

    /// Encodes the model as [`bundle::write`](crate::bundle::write) stores it. Weights above the limit of
    /// [`Exporter::external_data`](crate::Exporter::external_data) go into a separate file in the system's temporary
    /// folder (`TMPDIR`).
    ///
    /// # Errors
    /// If the rest does not fit into one file, or the file of weights cannot be written.
    pub fn encode(&self, metadata: &[(String, String)]) -> Result<Encoded, ExportError> {
        self.encode_in(&std::env::temp_dir(), metadata)
    }

    /// [`Self::encode`] with the file of weights in a temporary folder inside `folder`.
    /// [`bundle::write_model`](crate::bundle::write_model) moves it into place; on the same file system nothing is
    /// copied.
    ///
    /// # Errors
    /// As for [`Self::encode`].
    pub fn encode_in(&self, folder: &Path, metadata: &[(String, String)]) -> Result<Encoded, ExportError> {
        Ok(encode_apart(&self.graph, self.provenance.opset, metadata, self.provenance.inline_weight_limit, folder)?)
    }

    pub(crate) fn burn_module(&self) -> &dyn Reference {
        self.burn_module.as_ref()
    }

    /// Which recorded operation computes each value of the graph.
    pub(crate) fn origins(&self) -> &[Origin] {
        &self.provenance.origins
    }

    /// What Burn computes on `inputs`.
    pub fn reference(&self, inputs: Vec<TensorData>) -> Vec<TensorData> {
        self.burn_module.forward(inputs)
    }

    pub(crate) fn output_names(&self) -> Vec<String> {
        self.graph.outputs.iter().map(|&id| self.graph.value(id).name.clone()).collect()
    }

    /// The symbol on the first input's first axis.
    pub(crate) fn batch_symbol(&self) -> Option<&str> {
        match self.provenance.inputs.first()?.axes.first()? {
            Axis::Symbol(symbol) => Some(symbol),
            Axis::Size(_) => None,
        }
    }

    /// The size of the first input's first axis, if it is fixed.
    pub(crate) fn fixed_batch(&self) -> usize {
        self.batch_of(&self.provenance.coverage.recorded()[0])
    }

    /// The size of the first input's first axis when the symbols have these sizes.
    pub(crate) fn batch_of(&self, sizes: &Assignment) -> usize {
        let axes = self.provenance.inputs.first().map(|input| input.axes.as_slice()).unwrap_or_default();
        self.provenance.coverage.shape(axes, sizes).first().copied().unwrap_or(1)
    }
}
