//! Operators with their attributes as fields. Each is one row of a table: the first operator set with the form we
//! write, the number of inputs, the types that ONNX Runtime supports, and the attributes. Axes and shapes that ONNX
//! defines as inputs are inputs here too, except the axes of reductions, which moved from attribute to input between
//! operator sets: the encoder writes them as the set requires.

use crate::tensor::{DType, Tensor};
use crate::types::{self, Types};

/// Properties of an operator that do not depend on its attributes.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// ONNX's name.
    pub name: &'static str,
    /// First operator set that has it in the form we write.
    pub since: u32,
    /// Fewest and most inputs.
    pub inputs: [usize; 2],
    /// Element types that ONNX Runtime 1.31 supports, each from an operator set on; the last matching row counts.
    pub types: &'static [(u32, Types)],
    /// Input that holds a shape or a repeat count.
    pub shape: Option<usize>,
}

/// Any number of inputs.
const ANY: usize = usize::MAX;

/// The optional part of a row if present, else the default.
macro_rules! or {
    ($default:expr) => {
        $default
    };
    ($default:expr, $given:expr) => {
        $given
    };
}

/// Defines an enum of operators without attributes, with their schemas.
macro_rules! plain {
    (
        $(#[$doc:meta])* $enum:ident, prefix $prefix:literal;
        $($(#[$about:meta])* $name:ident: $(since $since:literal,)? inputs $least:literal $(to $most:expr)?,
            types $types:ident $(, from $set:literal $later:ident)* $(, shape $shape:literal)?;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum $enum {
            $($(#[$about])* $name,)*
        }

        impl $enum {
            fn schema(self) -> &'static Schema {
                match self {
                    $($enum::$name => const {
                        &Schema {
                            name: concat!($prefix, stringify!($name)),
                            since: or!(17 $(, $since)?),
                            inputs: [$least, or!($least $(, $most)?)],
                            types: &[(17, types::$types) $(, ($set, types::$later))*],
                            shape: or!(None $(, Some($shape))?),
                        }
                    },)*
                }
            }
        }
    };
}

plain! {
    /// Operators that have no attributes, or whose attributes we leave at their defaults.
    Plain, prefix "";
    Abs: inputs 1, types NUMBERS;
    Acos: inputs 1, types SINGLE;
    Acosh: inputs 1, types SINGLE;
    Add: inputs 2, types NUMBERS;
    And: inputs 2, types BOOL;
    Asin: inputs 1, types SINGLE;
    Asinh: inputs 1, types SINGLE;
    Atan: inputs 1, types SINGLE;
    Atanh: inputs 1, types SINGLE;
    BitwiseAnd: since 18, inputs 2, types INTEGERS;
    BitwiseNot: since 18, inputs 1, types INTEGERS;
    BitwiseOr: since 18, inputs 2, types INTEGERS;
    BitwiseXor: since 18, inputs 2, types INTEGERS;
    Ceil: inputs 1, types FLOATS;
    Clip: inputs 1 to 3, types EXTREMES;
    Cos: inputs 1, types FLOATS;
    Cosh: inputs 1, types SINGLE;
    CumSum: inputs 2, types SUMS;
    Div: inputs 2, types NUMBERS;
    Equal: inputs 2, types NUMBERS_AND_BOOL;
    Erf: inputs 1, types SINGLE;
    Exp: inputs 1, types FLOATS;
    Expand: inputs 2, types NUMBERS_AND_BOOL, shape 1;
    Floor: inputs 1, types FLOATS;
    GatherND: inputs 2, types ALL;
    GlobalAveragePool: inputs 1, types SINGLE;
    GlobalMaxPool: inputs 1, types SINGLE;
    Greater: inputs 2, types NUMBERS;
    GreaterOrEqual: inputs 2, types NUMBERS;
    Identity: inputs 1, types ALL;
    IsInf: inputs 1, types DOUBLE_SINGLE, from 20 EVERY_FLOAT;
    IsNaN: inputs 1, types FLOATS, from 20 EVERY_FLOAT;
    Less: inputs 2, types NUMBERS;
    LessOrEqual: inputs 2, types NUMBERS;
    Log: inputs 1, types FLOATS;
    MatMul: inputs 2, types PRODUCTS;
    Max: inputs 1 to ANY, types EXTREMES;
    Min: inputs 1 to ANY, types EXTREMES;
    Mod: inputs 2, types NUMBERS;
    Mul: inputs 2, types NUMBERS;
    Neg: inputs 1, types SIGNED;
    Not: inputs 1, types BOOL;
    Or: inputs 2, types BOOL;
    Pow: inputs 2, types SUMS;
    PRelu: inputs 2, types PRELU, from 19 SINGLE;
    Range: inputs 3, types RANGE;
    Reciprocal: inputs 1, types FLOATS;
    Relu: inputs 1, types RELU, from 18 RELU_18, from 19 RELU;
    Reshape: inputs 2, types ALL, shape 1;
    Round: inputs 1, types FLOATS;
    Shape: inputs 1, types ALL;
    Sigmoid: inputs 1, types FLOATS;
    Sign: inputs 1, types NUMBERS_AND_BFLOAT16;
    Sin: inputs 1, types FLOATS;
    Sinh: inputs 1, types SINGLE;
    Slice: inputs 3 to 5, types ALL;
    Softplus: inputs 1, types SINGLE, from 18 FLOATS, from 19 SINGLE;
    Sqrt: inputs 1, types FLOATS;
    Squeeze: inputs 1 to 2, types ALL;
    Sub: inputs 2, types NUMBERS;
    Tan: inputs 1, types SINGLE;
    Tanh: inputs 1, types FLOATS;
    Tile: inputs 2, types NUMBERS_AND_BOOL, shape 1;
    /// The upper triangle, from the diagonal given as an input.
    Trilu: inputs 1 to 2, types TRILU;
    Unsqueeze: inputs 2, types ALL;
    Where: inputs 3, types WHERE;
    Xor: inputs 2, types BOOL;
}

plain! {
    /// The function of a reduction.
    Reduction, prefix "Reduce";
    L2: inputs 1, types SUMS;
    Max: inputs 1, types RANKED, from 20 RANKED_AND_BOOL;
    Mean: inputs 1, types SUMS;
    Min: inputs 1, types RANKED, from 20 RANKED_AND_BOOL;
    Prod: inputs 1, types SUMS;
    Sum: inputs 1, types SUMS;
}

/// Settings shared by convolutions and poolings, one entry per spatial axis; `pads` lists the padding before all axes,
/// then that after them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Window {
    pub kernel: Vec<i64>,
    pub strides: Vec<i64>,
    pub pads: Vec<i64>,
    pub dilations: Vec<i64>,
}

/// How scattering combines a new element with the old one.
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

/// The value of an attribute, for the encoder.
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

/// Defines the enum of all operators, from their rows.
macro_rules! operators {
    ($($(#[$doc:meta])* $op:ident $({ $($field:ident: $type:ty),* })?:
        $(named $onnx:literal,)? $(since $since:literal,)? inputs $least:literal $(to $most:expr)?,
        types $types:ident $(, from $set:literal $later:ident)* $(, shape $shape:literal)?,
        attributes $attributes:expr;)*
    ) => {
        /// An operator and its attributes.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Op {
            Plain(Plain),
            Reduce { reduction: Reduction, axes: Vec<i64>, keep_dims: bool },
            $($(#[$doc])* $op $({ $($field: $type),* })?,)*
        }

        impl Op {
            /// Properties that do not depend on the attributes.
            pub fn schema(&self) -> &'static Schema {
                match self {
                    Op::Plain(plain) => plain.schema(),
                    Op::Reduce { reduction, .. } => reduction.schema(),
                    $(Op::$op { .. } => const {
                        &Schema {
                            name: or!(stringify!($op) $(, $onnx)?),
                            since: or!(17 $(, $since)?),
                            inputs: [$least, or!($least $(, $most)?)],
                            types: &[(17, types::$types) $(, ($set, types::$later))*],
                            shape: or!(None $(, Some($shape))?),
                        }
                    },)*
                }
            }

            /// The attributes under their ONNX names, sorted. Axes of reductions are not included.
            pub fn attributes(&self) -> Vec<(&'static str, Attribute)> {
                use Attribute::{Float, Int, Ints, Text, Type};
                let mut attributes: Vec<(&'static str, Attribute)> = match self {
                    Op::Plain(_) => vec![],
                    Op::Reduce { keep_dims, .. } => vec![("keepdims", Int(i64::from(*keep_dims)))],
                    $(Op::$op $({ $($field),* })? => $attributes,)*
                };
                attributes.sort_by_key(|(name, _)| *name);
                attributes
            }
        }
    };
}

operators! {
    ArgMax { axis: i64 }: inputs 1, types ARG, attributes vec![("axis", Int(*axis)), ("keepdims", Int(1))];
    ArgMin { axis: i64 }: inputs 1, types ARG, attributes vec![("axis", Int(*axis)), ("keepdims", Int(1))];
    /// Inputs are `[batch, heads, length, width]`, or with `heads` set `[batch, length, heads·width]`.
    Attention { heads: Option<[i64; 2]>, is_causal: bool, scale: f32, softcap: f32 }:
        since 23, inputs 3 to 4, types FLOATS,
        attributes {
            let mut list = vec![("scale", Float(*scale)), ("softcap", Float(*softcap))];
            list.push(("is_causal", Int(i64::from(*is_causal))));
            list.extend(heads.iter().flat_map(|[q, kv]| [("q_num_heads", Int(*q)), ("kv_num_heads", Int(*kv))]));
            list
        };
    AveragePool { window: Window, count_include_pad: bool }:
        inputs 1, types SINGLE,
        attributes {
            // `dilations` was added in operator set 19; ours are always 1.
            let mut list = window.attributes();
            list.retain(|(name, _)| *name != "dilations");
            list.push(("count_include_pad", Int(i64::from(*count_include_pad))));
            list
        };
    BatchNormalization { epsilon: f32 }: inputs 5, types FLOATS, attributes vec![("epsilon", Float(*epsilon))];
    BitShift { left: bool }:
        inputs 2, types SHIFTS, attributes vec![("direction", Text(if *left { "LEFT" } else { "RIGHT" }))];
    Cast { to: DType }: inputs 1, types ALL, attributes vec![("to", Type(*to))];
    Concat { axis: i64 }: inputs 1 to ANY, types ALL, attributes vec![("axis", Int(*axis))];
    ConstantOfShape { value: Tensor }:
        inputs 1, types ALL, shape 0, attributes vec![("value", Attribute::Tensor(value.clone()))];
    Conv { window: Window, group: i64 }:
        inputs 2 to 3, types SINGLE, attributes [window.attributes(), vec![("group", Int(*group))]].concat();
    ConvTranspose { window: Window, output_padding: Vec<i64>, group: i64 }:
        inputs 2 to 3, types SINGLE,
        attributes {
            let more = vec![("group", Int(*group)), ("output_padding", Ints(output_padding.clone()))];
            [window.attributes(), more].concat()
        };
    DeformConv { window: Window, group: i64, offset_group: i64 }:
        since 19, inputs 3 to 5, types FLOATS,
        attributes [window.attributes(), vec![("group", Int(*group)), ("offset_group", Int(*offset_group))]].concat();
    /// `Mod` as in C: the remainder has the sign of the dividend.
    Fmod: named "Mod", inputs 2, types NUMBERS, attributes vec![("fmod", Int(1))];
    Gather { axis: i64 }: inputs 2, types ALL, attributes vec![("axis", Int(*axis))];
    GatherElements { axis: i64 }: inputs 2, types ALL, attributes vec![("axis", Int(*axis))];
    /// With the error function, or with the hyperbolic tangent.
    Gelu { tanh: bool }:
        since 20, inputs 1, types SINGLE, attributes if *tanh { vec![("approximate", Text("tanh"))] } else { vec![] };
    Gemm { transpose_b: bool }:
        inputs 2 to 3, types FLOATS, attributes vec![("transB", Int(i64::from(*transpose_b)))];
    /// `mode` in the operator set's own words, which set 20 renamed.
    GridSample { mode: &'static str, padding: &'static str, align_corners: bool }:
        inputs 2, types SINGLE, from 20 FLOATS,
        attributes {
            let corners = Int(i64::from(*align_corners));
            vec![("align_corners", corners), ("mode", Text(mode)), ("padding_mode", Text(padding))]
        };
    HardSigmoid { alpha: f32, beta: f32 }:
        inputs 1, types SINGLE, from 18 FLOATS, from 19 SINGLE,
        attributes vec![("alpha", Float(*alpha)), ("beta", Float(*beta))];
    InstanceNormalization { epsilon: f32 }: inputs 3, types SINGLE, attributes vec![("epsilon", Float(*epsilon))];
    LayerNormalization { axis: i64, epsilon: f32 }:
        inputs 2 to 3, types EVERY_FLOAT, attributes vec![("axis", Int(*axis)), ("epsilon", Float(*epsilon))];
    LeakyRelu { alpha: f32 }:
        inputs 1, types FLOATS, from 19 SINGLE, attributes vec![("alpha", Float(*alpha))];
    LogSoftmax { axis: i64 }: inputs 1, types FLOATS, attributes vec![("axis", Int(*axis))];
    MaxPool { window: Window }: inputs 1, types MAX_POOL, attributes window.attributes();
    Pad { mode: PadMode }:
        inputs 2 to 4, types PAD, shape 1,
        attributes {
            let mode = match mode {
                PadMode::Constant => "constant",
                PadMode::Edge => "edge",
                PadMode::Reflect => "reflect",
            };
            vec![("mode", Text(mode))]
        };
    RandomNormalLike { mean: f32, scale: f32 }:
        inputs 1, types FLOATS, from 22 NONE, attributes vec![("mean", Float(*mean)), ("scale", Float(*scale))];
    RandomUniformLike { low: f32, high: f32 }:
        inputs 1, types FLOATS, from 22 NONE, attributes vec![("high", Float(*high)), ("low", Float(*low))];
    Resize { mode: ResizeMode, coordinates: Coordinates }:
        inputs 1 to 4, types RESIZE, shape 3,
        attributes {
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
        };
    ScatterElements { axis: i64, update: Update }:
        inputs 3, types ALL, attributes vec![("axis", Int(*axis)), ("reduction", Text(update.name()))];
    ScatterND { update: Update }: inputs 3, types ALL, attributes vec![("reduction", Text(update.name()))];
    Softmax { axis: i64 }: inputs 1, types FLOATS, attributes vec![("axis", Int(*axis))];
    /// Pieces with the sizes in the second input, a form that all operator sets share.
    Split { axis: i64 }: inputs 2, types ALL, shape 1, attributes vec![("axis", Int(*axis))];
    TopK { axis: i64, largest: bool }:
        inputs 2, types TOP_K, shape 1,
        attributes vec![("axis", Int(*axis)), ("largest", Int(i64::from(*largest))), ("sorted", Int(1))];
    Transpose { order: Vec<i64> }: inputs 1, types ALL, attributes vec![("perm", Ints(order.clone()))];
}

impl Window {
    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        vec![
            ("dilations", Attribute::Ints(self.dilations.clone())),
            ("kernel_shape", Attribute::Ints(self.kernel.clone())),
            ("pads", Attribute::Ints(self.pads.clone())),
            ("strides", Attribute::Ints(self.strides.clone())),
        ]
    }
}

impl Update {
    fn name(self) -> &'static str {
        match self {
            Update::Replace => "none",
            Update::Add => "add",
            Update::Mul => "mul",
            Update::Max => "max",
            Update::Min => "min",
        }
    }
}

impl From<Plain> for Op {
    fn from(plain: Plain) -> Self {
        Op::Plain(plain)
    }
}

impl Op {
    /// ONNX's operator name.
    pub fn name(&self) -> String {
        self.schema().name.into()
    }

    /// First operator set that has this operator in the form we write.
    pub fn since(&self) -> u32 {
        match self {
            Op::ScatterElements { update: Update::Max | Update::Min, .. }
            | Op::ScatterND { update: Update::Max | Update::Min } => 18,
            _ => self.schema().since,
        }
    }

    /// Last operator set whose version of the operator ONNX Runtime 1.31 has, if it lacks later ones.
    pub fn until(&self) -> Option<u32> {
        let gone = self.schema().types.last().filter(|(_, types)| types.is_empty());
        gone.map(|(from, _)| from - 1)
    }

    /// Whether every run gives other values. Such nodes are neither folded nor merged.
    pub fn is_random(&self) -> bool {
        matches!(self, Op::RandomNormalLike { .. } | Op::RandomUniformLike { .. })
    }

    /// Index of the input whose type decides which kernel runs. Others have the same type, or are indices or shapes.
    pub fn typed_input(&self) -> usize {
        usize::from(matches!(self, Op::Plain(Plain::Where)))
    }

    /// Whether ONNX Runtime 1.31 supports `dtype` in an operator set.
    pub fn computes(&self, dtype: DType, opset: u32) -> bool {
        let row = self.schema().types.iter().rev().find(|(from, _)| *from <= opset);
        row.is_some_and(|(_, types)| types.contains(dtype))
    }
}
