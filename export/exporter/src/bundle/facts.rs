//! What is said of a model in a smaller number format: in its certificate, its card and its plan.

use onnx::{DataType, ModelProto};
use serde::{Deserialize, Serialize};

/// One node of the float32 model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFact {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// What it computes in: `fp32`, `fp16` or `int8`.
    pub format: String,
    /// Why.
    pub reason: String,
    /// Time saved by integers, as a share of the float32 model's; absent where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// What it alone takes off the mean cosine; absent where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

/// A model's plan: what `--plan` repeats. Its times are those of the machine that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Layout, 1.
    pub version: u32,
    /// `cpu` or `tensorrt`.
    pub target: String,
    /// Bits of weights.
    pub weight_bits: u8,
    /// Nodes of the float32 model, in the order of the file.
    pub nodes: Vec<NodeFact>,
    /// Times on the machine that made it.
    pub latency: Vec<Latency>,
}

/// Time of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Rows.
    pub batch: usize,
    /// Seconds of the float32 model.
    pub float32: f64,
    /// Seconds of this model.
    pub found: f64,
}

impl Latency {
    /// How many times as fast as float32.
    pub fn speed_up(&self) -> f64 {
        self.float32 / self.found
    }
}

/// Quality on pictures that did not calibrate, against the float32 model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Pictures.
    pub pictures: usize,
    /// Mean cosine of a picture's two embeddings (of outputs, where the model does not embed).
    pub mean_cosine: f64,
    /// Smallest of them.
    pub min_cosine: f64,
    /// Ranking of the pictures among each other, where folders or names say who is on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<Ranking>,
}

/// Each picture searched among all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Identities among the pictures.
    pub identities: usize,
    /// Rank-1 of the float32 model and of this one.
    pub rank_1: [f64; 2],
    /// mAP of the float32 model and of this one.
    pub map: [f64; 2],
}

/// What a certificate says of a model in a smaller format, instead of runs against Burn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrecisionFacts {
    /// Quality when it was made.
    pub quality: Quality,
    /// What of the format is in the file.
    pub counts: Counts,
    /// Whether the float32 model had been compared with Burn: its parity is then the certificate's.
    pub float32_certified: bool,
}

/// What of a number format is in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// `QuantizeLinear` nodes.
    pub quantize: usize,
    /// `DequantizeLinear` nodes.
    pub dequantize: usize,
    /// Values of constants of 8 bits.
    pub bytes: usize,
    /// Values of constants of float16.
    pub halves: usize,
}

impl Counts {
    /// Counts a model's.
    pub fn of(model: &ModelProto) -> Self {
        let nodes = |operator: &str| {
            model.graph.iter().flat_map(|graph| &graph.node).filter(|node| node.op_type == operator).count()
        };
        let values = |kinds: &[DataType]| -> usize {
            let tensors = model.graph.iter().flat_map(|graph| &graph.initializer);
            let tensors = tensors.filter(|tensor| kinds.iter().any(|kind| tensor.data_type == *kind as i32));
            tensors.map(|tensor| tensor.dims.iter().map(|&size| size.max(0) as usize).product::<usize>()).sum()
        };
        Self {
            quantize: nodes("QuantizeLinear"),
            dequantize: nodes("DequantizeLinear"),
            bytes: values(&[DataType::Int8, DataType::Uint8]),
            halves: values(&[DataType::Float16]),
        }
    }
}
