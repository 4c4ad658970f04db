//! Operators with their attributes as fields. Axes and shapes that ONNX takes as inputs are inputs here too, except the
//! axes of reductions, whose place changed between operator sets: the encoder puts them where the set wants them.

use crate::tensor::{DType, Tensor};

/// Operators that have no attributes, or only such that we leave at their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Plain {
    Abs,
    Acos,
    Acosh,
    Add,
    And,
    Asin,
    Asinh,
    Atan,
    Atanh,
    BitwiseAnd,
    BitwiseNot,
    BitwiseOr,
    BitwiseXor,
    Ceil,
    Clip,
    Cos,
    Cosh,
    CumSum,
    Div,
    Equal,
    Erf,
    Exp,
    Expand,
    Floor,
    GatherND,
    GlobalAveragePool,
    GlobalMaxPool,
    Greater,
    GreaterOrEqual,
    Identity,
    IsInf,
    IsNaN,
    Less,
    LessOrEqual,
    Log,
    MatMul,
    Max,
    Min,
    Mod,
    Mul,
    Neg,
    Not,
    Or,
    Pow,
    PRelu,
    Range,
    Reciprocal,
    Relu,
    Reshape,
    Round,
    Shape,
    Sigmoid,
    Sign,
    Sin,
    Sinh,
    Slice,
    Softplus,
    Sqrt,
    Squeeze,
    Sub,
    Tan,
    Tanh,
    Tile,
    /// The upper triangle, from the diagonal given as an input.
    Trilu,
    Unsqueeze,
    Where,
    Xor,
}

/// What a reduction computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Reduction {
    L2,
    Max,
    Mean,
    Min,
    Prod,
    Sum,
}

/// Geometry that convolutions and poolings share; one entry per spatial axis, `pads` all begins and then all ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Window {
    pub kernel: Vec<i64>,
    pub strides: Vec<i64>,
    pub pads: Vec<i64>,
    pub dilations: Vec<i64>,
}

/// An operator and its attributes.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Op {
    Plain(Plain),
    ArgMax {
        axis: i64,
    },
    ArgMin {
        axis: i64,
    },
    /// Of `[batch, heads, length, width]`, or with numbers of heads of `[batch, length, heads·width]`.
    Attention {
        heads: Option<[i64; 2]>,
        is_causal: bool,
        scale: f32,
        softcap: f32,
    },
    AveragePool {
        window: Window,
        count_include_pad: bool,
    },
    BatchNormalization {
        epsilon: f32,
    },
    BitShift {
        left: bool,
    },
    Cast {
        to: DType,
    },
    Concat {
        axis: i64,
    },
    ConstantOfShape {
        value: Tensor,
    },
    Conv {
        window: Window,
        group: i64,
    },
    ConvTranspose {
        window: Window,
        output_padding: Vec<i64>,
        group: i64,
    },
    DeformConv {
        window: Window,
        group: i64,
        offset_group: i64,
    },
    /// `Mod` as in C: the remainder has the sign of the dividend.
    Fmod,
    Gather {
        axis: i64,
    },
    GatherElements {
        axis: i64,
    },
    /// By the error function, or by the hyperbolic tangent.
    Gelu {
        tanh: bool,
    },
    Gemm {
        transpose_b: bool,
    },
    /// `mode` in the words of the operator set: those of 16 were renamed with 20.
    GridSample {
        mode: &'static str,
        padding: &'static str,
        align_corners: bool,
    },
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    InstanceNormalization {
        epsilon: f32,
    },
    LayerNormalization {
        axis: i64,
        epsilon: f32,
    },
    LeakyRelu {
        alpha: f32,
    },
    LogSoftmax {
        axis: i64,
    },
    MaxPool {
        window: Window,
    },
    Pad {
        mode: PadMode,
    },
    RandomNormalLike {
        mean: f32,
        scale: f32,
    },
    RandomUniformLike {
        low: f32,
        high: f32,
    },
    Reduce {
        reduction: Reduction,
        axes: Vec<i64>,
        keep_dims: bool,
    },
    Resize {
        mode: ResizeMode,
        coordinates: Coordinates,
    },
    ScatterElements {
        axis: i64,
        update: Update,
    },
    ScatterND {
        update: Update,
    },
    Softmax {
        axis: i64,
    },
    /// Into pieces of the sizes that the second input holds: a form that all operator sets share.
    Split {
        axis: i64,
    },
    TopK {
        axis: i64,
        largest: bool,
    },
    Transpose {
        order: Vec<i64>,
    },
}

/// What scattering does with the element that was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Update {
    Replace,
    Add,
    Mul,
    Max,
    Min,
}

/// How padding is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PadMode {
    Constant,
    Edge,
    Reflect,
}

/// Interpolation of `Resize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ResizeMode {
    /// The pixel at the rounded-down coordinate.
    NearestFloor,
    /// The pixel at the rounded coordinate, halves up.
    NearestRound,
    Linear,
    /// Cubic with a = -0.75.
    Cubic,
}

/// How `Resize` maps coordinates of the output to the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Coordinates {
    AlignCorners,
    Asymmetric,
    HalfPixel,
}

/// Value of an attribute, for the encoder.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
    Type(DType),
    Tensor(Tensor),
}

impl From<Plain> for Op {
    fn from(plain: Plain) -> Self {
        Op::Plain(plain)
    }
}

impl Op {
    /// ONNX's operator name.
    pub fn name(&self) -> String {
        match self {
            Op::Plain(plain) => format!("{plain:?}"),
            Op::Reduce { reduction, .. } => format!("Reduce{reduction:?}"),
            Op::ArgMax { .. } => "ArgMax".into(),
            Op::ArgMin { .. } => "ArgMin".into(),
            Op::Attention { .. } => "Attention".into(),
            Op::AveragePool { .. } => "AveragePool".into(),
            Op::BatchNormalization { .. } => "BatchNormalization".into(),
            Op::BitShift { .. } => "BitShift".into(),
            Op::Cast { .. } => "Cast".into(),
            Op::Concat { .. } => "Concat".into(),
            Op::ConstantOfShape { .. } => "ConstantOfShape".into(),
            Op::Conv { .. } => "Conv".into(),
            Op::ConvTranspose { .. } => "ConvTranspose".into(),
            Op::DeformConv { .. } => "DeformConv".into(),
            Op::Fmod => "Mod".into(),
            Op::Gather { .. } => "Gather".into(),
            Op::GatherElements { .. } => "GatherElements".into(),
            Op::Gelu { .. } => "Gelu".into(),
            Op::Gemm { .. } => "Gemm".into(),
            Op::GridSample { .. } => "GridSample".into(),
            Op::HardSigmoid { .. } => "HardSigmoid".into(),
            Op::InstanceNormalization { .. } => "InstanceNormalization".into(),
            Op::LayerNormalization { .. } => "LayerNormalization".into(),
            Op::LeakyRelu { .. } => "LeakyRelu".into(),
            Op::LogSoftmax { .. } => "LogSoftmax".into(),
            Op::MaxPool { .. } => "MaxPool".into(),
            Op::Pad { .. } => "Pad".into(),
            Op::RandomNormalLike { .. } => "RandomNormalLike".into(),
            Op::RandomUniformLike { .. } => "RandomUniformLike".into(),
            Op::Resize { .. } => "Resize".into(),
            Op::ScatterElements { .. } => "ScatterElements".into(),
            Op::ScatterND { .. } => "ScatterND".into(),
            Op::Softmax { .. } => "Softmax".into(),
            Op::Split { .. } => "Split".into(),
            Op::TopK { .. } => "TopK".into(),
            Op::Transpose { .. } => "Transpose".into(),
        }
    }

    /// First operator set that has this operator in the form we write.
    pub fn since(&self) -> u32 {
        match self {
            Op::Attention { .. } => 23,
            Op::Gelu { .. } => 20,
            Op::DeformConv { .. } => 19,
            Op::Plain(Plain::BitwiseAnd | Plain::BitwiseNot | Plain::BitwiseOr | Plain::BitwiseXor) => 18,
            Op::ScatterElements { update: Update::Max | Update::Min, .. }
            | Op::ScatterND { update: Update::Max | Update::Min } => 18,
            _ => 17,
        }
    }

    /// Last operator set whose version of it ONNX Runtime 1.31 has, where it lacks later ones.
    pub fn until(&self) -> Option<u32> {
        self.is_random().then_some(21)
    }

    /// Whether it gives other values in every run: such nodes are neither computed in advance nor shared.
    pub fn is_random(&self) -> bool {
        matches!(self, Op::RandomNormalLike { .. } | Op::RandomUniformLike { .. })
    }

    /// The attributes in the schema's names, sorted. Axes of reductions are not among them.
    pub fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        use Attribute::{Float, Int, Ints, Text, Type};
        let geometry = |window: &Window| {
            vec![
                ("dilations", Ints(window.dilations.clone())),
                ("kernel_shape", Ints(window.kernel.clone())),
                ("pads", Ints(window.pads.clone())),
                ("strides", Ints(window.strides.clone())),
            ]
        };
        let reduction = |update: &Update| {
            let reduction = match update {
                Update::Replace => "none",
                Update::Add => "add",
                Update::Mul => "mul",
                Update::Max => "max",
                Update::Min => "min",
            };
            ("reduction", Text(reduction))
        };
        let mut attributes = match self {
            Op::Plain(_) | Op::Gelu { tanh: false } => vec![],
            Op::Gelu { tanh: true } => vec![("approximate", Text("tanh"))],
            Op::ArgMax { axis } | Op::ArgMin { axis } => vec![("axis", Int(*axis)), ("keepdims", Int(1))],
            Op::Attention { heads, is_causal, scale, softcap } => {
                let mut list = vec![("scale", Float(*scale)), ("softcap", Float(*softcap))];
                list.push(("is_causal", Int(i64::from(*is_causal))));
                list.extend(heads.iter().flat_map(|[q, kv]| [("q_num_heads", Int(*q)), ("kv_num_heads", Int(*kv))]));
                list
            }
            Op::AveragePool { window, count_include_pad } => {
                // `dilations` came with operator set 19; ours are always 1.
                let mut list = geometry(window);
                list.remove(0);
                list.push(("count_include_pad", Int(i64::from(*count_include_pad))));
                list
            }
            Op::BatchNormalization { epsilon } | Op::InstanceNormalization { epsilon } => {
                vec![("epsilon", Float(*epsilon))]
            }
            Op::BitShift { left } => vec![("direction", Text(if *left { "LEFT" } else { "RIGHT" }))],
            Op::Cast { to } => vec![("to", Type(*to))],
            Op::Concat { axis }
            | Op::Gather { axis }
            | Op::GatherElements { axis }
            | Op::LogSoftmax { axis }
            | Op::Softmax { axis }
            | Op::Split { axis } => vec![("axis", Int(*axis))],
            Op::ConstantOfShape { value } => vec![("value", Attribute::Tensor(value.clone()))],
            Op::Conv { window, group } => {
                let mut list = geometry(window);
                list.push(("group", Int(*group)));
                list
            }
            Op::ConvTranspose { window, output_padding, group } => {
                let mut list = geometry(window);
                list.push(("group", Int(*group)));
                list.push(("output_padding", Ints(output_padding.clone())));
                list
            }
            Op::DeformConv { window, group, offset_group } => {
                let mut list = geometry(window);
                list.extend([("group", Int(*group)), ("offset_group", Int(*offset_group))]);
                list
            }
            Op::Fmod => vec![("fmod", Int(1))],
            Op::GridSample { mode, padding, align_corners } => {
                let corners = Int(i64::from(*align_corners));
                vec![("align_corners", corners), ("mode", Text(mode)), ("padding_mode", Text(padding))]
            }
            Op::Gemm { transpose_b } => vec![("transB", Int(i64::from(*transpose_b)))],
            Op::HardSigmoid { alpha, beta } => vec![("alpha", Float(*alpha)), ("beta", Float(*beta))],
            Op::LayerNormalization { axis, epsilon } => vec![("axis", Int(*axis)), ("epsilon", Float(*epsilon))],
            Op::LeakyRelu { alpha } => vec![("alpha", Float(*alpha))],
            Op::MaxPool { window } => geometry(window),
            Op::Pad { mode } => {
                let mode = match mode {
                    PadMode::Constant => "constant",
                    PadMode::Edge => "edge",
                    PadMode::Reflect => "reflect",
                };
                vec![("mode", Text(mode))]
            }
            Op::Reduce { keep_dims, .. } => vec![("keepdims", Int(i64::from(*keep_dims)))],
            Op::Resize { mode, coordinates } => {
                let coordinates = match coordinates {
                    Coordinates::AlignCorners => "align_corners",
                    Coordinates::Asymmetric => "asymmetric",
                    Coordinates::HalfPixel => "half_pixel",
                };
                let mut list = vec![("coordinate_transformation_mode", Text(coordinates))];
                match mode {
                    ResizeMode::NearestFloor => {
                        list.extend([("mode", Text("nearest")), ("nearest_mode", Text("floor"))]);
                    }
                    ResizeMode::NearestRound => {
                        list.extend([("mode", Text("nearest")), ("nearest_mode", Text("round_prefer_ceil"))]);
                    }
                    ResizeMode::Linear => list.push(("mode", Text("linear"))),
                    ResizeMode::Cubic => list.extend([("cubic_coeff_a", Float(-0.75)), ("mode", Text("cubic"))]),
                }
                list
            }
            Op::RandomNormalLike { mean, scale } => vec![("mean", Float(*mean)), ("scale", Float(*scale))],
            Op::RandomUniformLike { low, high } => vec![("high", Float(*high)), ("low", Float(*low))],
            Op::ScatterElements { axis, update } => vec![("axis", Int(*axis)), reduction(update)],
            Op::ScatterND { update } => vec![reduction(update)],
            Op::TopK { axis, largest } => {
                vec![("axis", Int(*axis)), ("largest", Int(i64::from(*largest))), ("sorted", Int(1))]
            }
            Op::Transpose { order } => vec![("perm", Ints(order.clone()))],
        };
        attributes.sort_by_key(|(name, _)| *name);
        attributes
    }
}
