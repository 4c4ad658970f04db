//! Sets of element types for which ONNX Runtime 1.31 has CPU kernels, found by loading a model of one node for each
//! operator, type and operator set. f16 is included where ONNX Runtime computes in f32 instead.

use crate::tensor::DType;
use crate::tensor::DType::{
    Bfloat16, Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
};

/// A set of element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types(u16);

impl Types {
    const fn of(list: &[DType]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < list.len() {
            bits |= 1 << list[index] as u16;
            index += 1;
        }
        Self(bits)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a type is in the set.
    pub fn contains(self, dtype: DType) -> bool {
        self.0 & (1 << dtype as u16) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

pub(crate) const NONE: Types = Types::of(&[]);
pub(crate) const BOOL: Types = Types::of(&[Bool]);
pub(crate) const SINGLE: Types = Types::of(&[Float, Float16]);
pub(crate) const DOUBLE_SINGLE: Types = Types::of(&[Float, Double]);
pub(crate) const FLOATS: Types = Types::of(&[Float, Double, Float16]);
pub(crate) const EVERY_FLOAT: Types = FLOATS.and(Types::of(&[Bfloat16]));
pub(crate) const INTEGERS: Types = Types::of(&[Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64]);
pub(crate) const NUMBERS: Types = FLOATS.and(INTEGERS);
pub(crate) const NUMBERS_AND_BFLOAT16: Types = EVERY_FLOAT.and(INTEGERS);
pub(crate) const NUMBERS_AND_BOOL: Types = NUMBERS.and(BOOL);
pub(crate) const ALL: Types = NUMBERS_AND_BFLOAT16.and(BOOL);
pub(crate) const SIGNED: Types = FLOATS.and(Types::of(&[Int8, Int16, Int32, Int64]));
pub(crate) const SUMS: Types = FLOATS.and(Types::of(&[Int32, Int64]));
pub(crate) const PRODUCTS: Types = SUMS.and(Types::of(&[Uint32, Uint64]));
pub(crate) const ARG: Types = SUMS.and(Types::of(&[Int8, Uint8]));
pub(crate) const RANKED: Types = ARG;
pub(crate) const RANKED_AND_BOOL: Types = RANKED.and(BOOL);
pub(crate) const TOP_K: Types = ARG.and(Types::of(&[Int16]));
pub(crate) const EXTREMES: Types = ARG.and(Types::of(&[Uint32, Uint64]));
pub(crate) const PAD: Types = EXTREMES.and(BOOL);
pub(crate) const WHERE: Types = ARG.and(Types::of(&[Uint32]));
pub(crate) const RELU: Types = FLOATS.and(Types::of(&[Int8, Int32]));
pub(crate) const RELU_18: Types = RELU.and(Types::of(&[Int64]));
pub(crate) const PRELU: Types = SUMS.and(Types::of(&[Uint32]));
pub(crate) const RANGE: Types = Types::of(&[Float, Double, Int16, Int32, Int64]);
pub(crate) const TRILU: Types = SUMS.and(BOOL);
pub(crate) const SHIFTS: Types = Types::of(&[Uint8, Uint32, Uint64]);
pub(crate) const MAX_POOL: Types = FLOATS.and(Types::of(&[Int8, Uint8]));
pub(crate) const RESIZE: Types = Types::of(&[Float, Float16, Int8, Int32, Uint8]);

#[cfg(all(test, feature = "run"))]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::encode::encode;
    use crate::graph::{Graph, Node};
    use crate::op::{Op, Plain, Reduction};
    use crate::run::{Opening, Runtime};

    const EVERY: [DType; 13] =
        [Float, Double, Float16, Bfloat16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Bool];

    /// Operators whose inputs all have one type and shape.
    fn uniform() -> Vec<(Op, usize)> {
        use Plain::*;
        let one = [
            Abs,
            Acos,
            Acosh,
            Asin,
            Asinh,
            Atan,
            Atanh,
            BitwiseNot,
            Ceil,
            Cos,
            Cosh,
            Erf,
            Exp,
            Floor,
            GlobalAveragePool,
            GlobalMaxPool,
            Identity,
            IsInf,
            IsNaN,
            Log,
            Neg,
            Not,
            Reciprocal,
            Relu,
            Round,
            Shape,
            Sigmoid,
            Sign,
            Sin,
            Sinh,
            Softplus,
            Sqrt,
            Tan,
            Tanh,
        ];
        let two = [
            Add,
            And,
            BitwiseAnd,
            BitwiseOr,
            BitwiseXor,
            Div,
            Equal,
            Greater,
            GreaterOrEqual,
            Less,
            LessOrEqual,
            MatMul,
            Max,
            Min,
            Mul,
            Or,
            Pow,
            PRelu,
            Sub,
            Xor,
        ];
        let window =
            || crate::op::Window { kernel: vec![1, 1], strides: vec![1, 1], pads: vec![0; 4], dilations: vec![1, 1] };
        let mut all: Vec<(Op, usize)> = one.map(|op| (op.into(), 1)).into_iter().collect();
        all.extend(two.map(|op| (op.into(), 2)));
        all.extend([Op::Fmod, Op::Concat { axis: 1 }].map(|op| (op, 2)));
        for reduction in
            [Reduction::L2, Reduction::Max, Reduction::Mean, Reduction::Min, Reduction::Prod, Reduction::Sum]
        {
            all.push((Op::Reduce { reduction, axes: vec![1], keep_dims: true }, 1));
        }
        let rest = [
            Op::ArgMax { axis: 1 },
            Op::ArgMin { axis: 1 },
            Op::AveragePool { window: window(), count_include_pad: false },
            Op::Gelu { tanh: false },
            Op::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Op::LeakyRelu { alpha: 0.1 },
            Op::LogSoftmax { axis: 1 },
            Op::MaxPool { window: window() },
            Op::RandomNormalLike { mean: 0.0, scale: 1.0 },
            Op::RandomUniformLike { low: 0.0, high: 1.0 },
            Op::Softmax { axis: 1 },
            Op::Transpose { order: vec![0, 1, 3, 2] },
        ];
        all.extend(rest.map(|op| (op, 1)));
        all
    }

    /// Checks the table against ONNX Runtime in both directions: supported and refused types.
    #[test]
    fn kernels_are_those_of_the_runtime() {
        let runtime = Runtime::load().unwrap_or_else(|error| panic!("{error}"));
        let mut wrong = vec![];
        for (op, inputs) in uniform() {
            for dtype in EVERY {
                for opset in crate::OPSETS.filter(|&opset| opset >= op.since()) {
                    let shape = || vec![Dim::Size(2); 4];
                    let mut graph = Graph::new("one node");
                    let x: Vec<_> = (0..inputs).map(|_| graph.add_value("x", dtype, shape())).collect();
                    let given = match op.name().as_str() {
                        "ArgMax" | "ArgMin" | "Shape" => Int64,
                        "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less" | "LessOrEqual" => Bool,
                        _ => dtype,
                    };
                    let y = graph.add_value("y", given, vec![Dim::Unknown; if op.name() == "Shape" { 1 } else { 4 }]);
                    graph.inputs.clone_from(&x);
                    graph.outputs.push(y);
                    let inputs = x.into_iter().map(Some).collect();
                    graph.nodes.push(Node { name: "node".into(), op: op.clone(), inputs, outputs: vec![y] });
                    let opened = runtime.open(&encode(&graph, opset, &[]).unwrap(), Opening::plain(false));
                    if opened.is_ok() != op.computes(dtype, opset) {
                        wrong.push(format!("{} of {dtype:?} in {opset}: {:?}", op.name(), opened.err()));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
