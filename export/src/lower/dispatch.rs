//! Which function lowers which operation. Every match names every kind: a new operation of Burn stops the build here.

use burn::backend::ir::{
    ActivationOperationIr as Activation, BaseOperationIr as Base, BoolOperationIr as Boolean, DistributedOperationIr,
    FloatOperationIr as Float, IntOperationIr as Integer, ModuleOperationIr as Module, NumericOperationIr as Numeric,
    OperationIr, ScalarIr,
};

use super::conv::Geometry;
use super::numeric::{binary, scalar, since, unary};
use super::pool::Pool;
use super::{Lowered, Lowering, Reason, activation, base, conv, norm, numeric, pool, reduce};
use crate::graph::{Plain, Reduction};

fn missing(reason: &str) -> Lowered {
    Err(Reason::Unsupported(reason.to_owned()))
}

const LATER: &str = "not lowered yet";
const BACKWARD: &str = "part of a backward pass; export `module.valid()`";
const RANDOM: &str = "a random tensor would be another one in every run; draw it outside and pass it in";

pub(super) fn operation(l: &mut Lowering, operation: &OperationIr) -> Lowered {
    match operation {
        OperationIr::BaseFloat(op) => base(l, op, ScalarIr::Float(0.0), ScalarIr::Float(1.0)),
        OperationIr::BaseInt(op) => base(l, op, ScalarIr::Int(0), ScalarIr::Int(1)),
        OperationIr::BaseBool(op) => base(l, op, ScalarIr::Bool(false), ScalarIr::Bool(true)),
        OperationIr::NumericFloat(_, op) | OperationIr::NumericInt(_, op) => self::numeric(l, op),
        OperationIr::Bool(op) => boolean(l, op),
        OperationIr::Int(op) => integer(l, op),
        OperationIr::Float(_, op) => float(l, op),
        OperationIr::Module(op) => module(l, op),
        OperationIr::Activation(op) => self::activation(l, op),
        OperationIr::Custom(_) => missing("a custom operation has no ONNX form of its own"),
        OperationIr::Distributed(DistributedOperationIr::AllReduce(_) | DistributedOperationIr::SyncCollective) => {
            missing("collective operations belong to training")
        }
        // Left out of recordings: they compute nothing.
        OperationIr::Init(_) | OperationIr::Drop(_) => Ok(()),
    }
}

fn base(l: &mut Lowering, op: &Base, zero: ScalarIr, one: ScalarIr) -> Lowered {
    match op {
        Base::Reshape(op) => base::reshape(l, op),
        Base::SwapDims(op) => base::swap_dims(l, op),
        Base::Permute(op) => base::permute(l, op),
        Base::Flip(op) => base::flip(l, op),
        Base::Expand(op) => base::expand(l, op),
        Base::Slice(op) => base::slice(l, op),
        Base::Select(op) => base::select(l, op),
        Base::MaskWhere(op) => base::mask_where(l, op),
        Base::MaskFill(op) => base::mask_fill(l, op),
        Base::Gather(op) => base::gather(l, op),
        Base::GatherNd(op) => base::gather_nd(l, op),
        Base::Equal(op) => base::equal(l, op),
        Base::EqualElem(op) => base::equal_elem(l, op),
        Base::RepeatDim(op) => base::repeat_dim(l, op),
        Base::Cat(op) => base::cat(l, op),
        Base::Cast(op) => base::cast(l, op),
        // An empty tensor may hold anything; zeros are the same in every run.
        Base::Empty(op) | Base::Zeros(op) => base::filled(l, op, zero),
        Base::Ones(op) => base::filled(l, op, one),
        Base::NotEqual(op) => base::not_equal(l, op),
        Base::NotEqualElem(op) => base::not_equal_elem(l, op),
        Base::All(op) => base::every(l, op, Reduction::Min),
        Base::Any(op) => base::every(l, op, Reduction::Max),
        Base::AllDim(op) => base::every_dim(l, op, Reduction::Min),
        Base::AnyDim(op) => base::every_dim(l, op, Reduction::Max),
        Base::Unfold(_) | Base::SliceAssign(_) | Base::SelectAssign(_) | Base::Scatter(_) | Base::ScatterNd(_) => {
            missing(LATER)
        }
    }
}

fn numeric(l: &mut Lowering, op: &Numeric) -> Lowered {
    match op {
        Numeric::Add(op) => binary(l, op, Plain::Add),
        Numeric::AddScalar(op) => scalar(l, op, Plain::Add),
        Numeric::Sub(op) => binary(l, op, Plain::Sub),
        Numeric::SubScalar(op) => scalar(l, op, Plain::Sub),
        Numeric::Div(op) => binary(l, op, Plain::Div),
        Numeric::DivScalar(op) => scalar(l, op, Plain::Div),
        Numeric::Rem(op) => numeric::remainder(l, op),
        Numeric::RemScalar(op) => numeric::remainder_scalar(l, op),
        Numeric::Mul(op) => binary(l, op, Plain::Mul),
        Numeric::MulScalar(op) => scalar(l, op, Plain::Mul),
        Numeric::Abs(op) => unary(l, op, Plain::Abs),
        Numeric::Full(op) => base::full(l, &op.out, op.value),
        Numeric::MeanDim(op) => reduce::dim(l, op, Reduction::Mean),
        Numeric::Mean(op) => reduce::whole(l, op, Reduction::Mean),
        Numeric::Sum(op) => reduce::whole(l, op, Reduction::Sum),
        Numeric::SumDim(op) => reduce::dim(l, op, Reduction::Sum),
        Numeric::SumDims(op) => reduce::sum_dims(l, op),
        Numeric::Prod(op) => reduce::whole(l, op, Reduction::Prod),
        Numeric::ProdDim(op) => reduce::dim(l, op, Reduction::Prod),
        Numeric::Greater(op) => binary(l, op, Plain::Greater),
        Numeric::GreaterElem(op) => scalar(l, op, Plain::Greater),
        Numeric::GreaterEqual(op) => binary(l, op, Plain::GreaterOrEqual),
        Numeric::GreaterEqualElem(op) => scalar(l, op, Plain::GreaterOrEqual),
        Numeric::Lower(op) => binary(l, op, Plain::Less),
        Numeric::LowerElem(op) => scalar(l, op, Plain::Less),
        Numeric::LowerEqual(op) => binary(l, op, Plain::LessOrEqual),
        Numeric::LowerEqualElem(op) => scalar(l, op, Plain::LessOrEqual),
        Numeric::ArgMax(op) => reduce::position(l, op, true),
        Numeric::ArgMin(op) => reduce::position(l, op, false),
        Numeric::ArgTopK(op) => reduce::top_index(l, op),
        Numeric::TopK(op) => reduce::top(l, op),
        Numeric::TopKWithIndices(op) => reduce::top_both(l, op),
        Numeric::Max(op) => reduce::whole(l, op, Reduction::Max),
        Numeric::Min(op) => reduce::whole(l, op, Reduction::Min),
        Numeric::MaxDim(op) => reduce::dim(l, op, Reduction::Max),
        Numeric::MinDim(op) => reduce::dim(l, op, Reduction::Min),
        Numeric::MaxDimWithIndices(op) => reduce::with_index(l, op, true),
        Numeric::MinDimWithIndices(op) => reduce::with_index(l, op, false),
        Numeric::MaxAbs(op) => reduce::max_abs(l, op),
        Numeric::MaxAbsDim(op) => reduce::max_abs_dim(l, op),
        Numeric::Clamp(op) => numeric::clamp(l, op),
        Numeric::ClampMin(op) => scalar(l, op, Plain::Clip),
        Numeric::ClampMax(op) => scalar(l, op, Plain::Min),
        Numeric::Powi(op) => binary(l, op, Plain::Pow),
        Numeric::PowiScalar(op) => numeric::power(l, op),
        Numeric::CumSum(op) => numeric::cumsum(l, op),
        Numeric::Neg(op) => unary(l, op, Plain::Neg),
        Numeric::Sign(op) => unary(l, op, Plain::Sign),
        Numeric::Sort(op) => reduce::sort(l, op),
        Numeric::SortWithIndices(op) => reduce::sort_both(l, op),
        Numeric::ArgSort(op) => reduce::sort_index(l, op),
        Numeric::Pad(op) => numeric::pad(l, op),
        Numeric::IntRandom(_) => missing(RANDOM),
        Numeric::CumProd(_) | Numeric::CumMin(_) | Numeric::CumMax(_) => missing(LATER),
    }
}

fn boolean(l: &mut Lowering, op: &Boolean) -> Lowered {
    match op {
        Boolean::IntoFloat(op) | Boolean::IntoInt(op) => base::cast(l, op),
        Boolean::Not(op) => unary(l, op, Plain::Not),
        Boolean::And(op) => binary(l, op, Plain::And),
        Boolean::Or(op) => binary(l, op, Plain::Or),
        Boolean::Xor(op) => binary(l, op, Plain::Xor),
    }
}

fn integer(l: &mut Lowering, op: &Integer) -> Lowered {
    let bits = |l: &Lowering, plain| since(l, plain);
    match op {
        Integer::IntoFloat(op) => base::cast(l, op),
        Integer::BitwiseAnd(op) => bits(l, Plain::BitwiseAnd).and_then(|plain| binary(l, op, plain)),
        Integer::BitwiseAndScalar(op) => bits(l, Plain::BitwiseAnd).and_then(|plain| scalar(l, op, plain)),
        Integer::BitwiseOr(op) => bits(l, Plain::BitwiseOr).and_then(|plain| binary(l, op, plain)),
        Integer::BitwiseOrScalar(op) => bits(l, Plain::BitwiseOr).and_then(|plain| scalar(l, op, plain)),
        Integer::BitwiseXor(op) => bits(l, Plain::BitwiseXor).and_then(|plain| binary(l, op, plain)),
        Integer::BitwiseXorScalar(op) => bits(l, Plain::BitwiseXor).and_then(|plain| scalar(l, op, plain)),
        Integer::BitwiseNot(op) => bits(l, Plain::BitwiseNot).and_then(|plain| unary(l, op, plain)),
        Integer::BitwiseLeftShift(op) => numeric::shift(l, op, true),
        Integer::BitwiseLeftShiftScalar(op) => numeric::shift_scalar(l, op, true),
        Integer::BitwiseRightShift(op) => numeric::shift(l, op, false),
        Integer::BitwiseRightShiftScalar(op) => numeric::shift_scalar(l, op, false),
        Integer::Matmul(op) => numeric::matmul(l, op),
    }
}

fn float(l: &mut Lowering, op: &Float) -> Lowered {
    match op {
        Float::Exp(op) => unary(l, op, Plain::Exp),
        Float::Log(op) => unary(l, op, Plain::Log),
        Float::Log1p(op) => numeric::log1p(l, op),
        Float::Erf(op) => unary(l, op, Plain::Erf),
        Float::PowfScalar(op) => numeric::power(l, op),
        Float::Sqrt(op) => unary(l, op, Plain::Sqrt),
        Float::Cos(op) => unary(l, op, Plain::Cos),
        Float::Cosh(op) => unary(l, op, Plain::Cosh),
        Float::Sin(op) => unary(l, op, Plain::Sin),
        Float::Sinh(op) => unary(l, op, Plain::Sinh),
        Float::Tan(op) => unary(l, op, Plain::Tan),
        Float::Tanh(op) => unary(l, op, Plain::Tanh),
        Float::ArcCos(op) => unary(l, op, Plain::Acos),
        Float::ArcCosh(op) => unary(l, op, Plain::Acosh),
        Float::ArcSin(op) => unary(l, op, Plain::Asin),
        Float::ArcSinh(op) => unary(l, op, Plain::Asinh),
        Float::ArcTan(op) => unary(l, op, Plain::Atan),
        Float::ArcTanh(op) => unary(l, op, Plain::Atanh),
        Float::Round(op) => unary(l, op, Plain::Round),
        Float::Floor(op) => unary(l, op, Plain::Floor),
        Float::Ceil(op) => unary(l, op, Plain::Ceil),
        Float::IntoInt(op) => base::cast(l, op),
        Float::Matmul(op) => numeric::matmul(l, op),
        Float::Recip(op) => unary(l, op, Plain::Reciprocal),
        Float::IsNan(op) => unary(l, op, Plain::IsNaN),
        Float::IsInf(op) => unary(l, op, Plain::IsInf),
        Float::Powf(op) => binary(l, op, Plain::Pow),
        Float::Hypot(op) => numeric::hypot(l, op),
        Float::Random(_) => missing(RANDOM),
        Float::Quantize(_) | Float::Dequantize(_) => missing("quantised tensors are not lowered yet"),
        Float::ArcTan2(_) | Float::Trunc(_) | Float::Cross(_) | Float::GridSample2d(_) => missing(LATER),
    }
}

fn activation(l: &mut Lowering, op: &Activation) -> Lowered {
    match op {
        Activation::Relu(op) => unary(l, op, Plain::Relu),
        Activation::LeakyRelu(op) => activation::leaky_relu(l, op),
        Activation::PRelu(op) => binary(l, op, Plain::PRelu),
        Activation::Gelu(op) => activation::gelu(l, op),
        Activation::Sigmoid(op) => unary(l, op, Plain::Sigmoid),
        Activation::HardSigmoid(op) => activation::hard_sigmoid(l, op),
        Activation::LogSigmoid(op) => activation::log_sigmoid(l, op),
        Activation::Softmax(op) => activation::softmax(l, op),
        Activation::LogSoftmax(op) => activation::log_softmax(l, op),
        Activation::Softmin(op) => activation::softmin(l, op),
        Activation::ReluBackward(_)
        | Activation::GeluBackward(_)
        | Activation::SigmoidBackward(_)
        | Activation::LogSigmoidBackward(_) => missing(BACKWARD),
    }
}

fn module(l: &mut Lowering, op: &Module) -> Lowered {
    match op {
        Module::BatchNorm(op) => norm::batch_norm(l, op),
        Module::LayerNorm(op) => norm::layer_norm(l, op),
        Module::Linear(op) => norm::linear(l, op),
        Module::Embedding(op) => {
            let inputs = [l.input(&op.weights)?, l.input(&op.indices)?];
            l.emit(crate::graph::Op::Gather { axis: 0 }, &inputs, &op.out)
        }
        Module::Conv1d(op) => {
            let geometry = uneven(&op.options.stride, &op.options.padding, &op.options.dilation);
            conv::conv(l, [&op.x, &op.weight, &op.out], op.bias.as_ref(), &geometry, op.options.groups)
        }
        Module::Conv2d(op) => {
            let geometry = uneven(&op.options.stride, &op.options.padding, &op.options.dilation);
            conv::conv(l, [&op.x, &op.weight, &op.out], op.bias.as_ref(), &geometry, op.options.groups)
        }
        Module::Conv3d(op) => {
            let geometry = even(&op.options.stride, &op.options.padding, &op.options.dilation);
            conv::conv(l, [&op.x, &op.weight, &op.out], op.bias.as_ref(), &geometry, op.options.groups)
        }
        Module::ConvTranspose1d(op) => {
            let o = &op.options;
            let geometry = even(&o.stride, &o.padding, &o.dilation);
            let tensors = [&op.x, &op.weight, &op.out];
            conv::conv_transpose(l, tensors, op.bias.as_ref(), &geometry, &o.padding_out, o.groups)
        }
        Module::ConvTranspose2d(op) => {
            let o = &op.options;
            let geometry = even(&o.stride, &o.padding, &o.dilation);
            let tensors = [&op.x, &op.weight, &op.out];
            conv::conv_transpose(l, tensors, op.bias.as_ref(), &geometry, &o.padding_out, o.groups)
        }
        Module::ConvTranspose3d(op) => {
            let o = &op.options;
            let geometry = even(&o.stride, &o.padding, &o.dilation);
            let tensors = [&op.x, &op.weight, &op.out];
            conv::conv_transpose(l, tensors, op.bias.as_ref(), &geometry, &o.padding_out, o.groups)
        }
        Module::AvgPool1d(op) => {
            let (kernel, stride, padding) = ([op.kernel_size], [op.stride], [op.padding]);
            let pool = windows(&kernel, &stride, &padding, &[1], op.ceil_mode);
            pool::average(l, &op.x, &pool, op.count_include_pad, &op.out)
        }
        Module::AvgPool2d(op) => {
            let pool = windows(&op.kernel_size, &op.stride, &op.padding, &[1, 1], op.ceil_mode);
            pool::average(l, &op.x, &pool, op.count_include_pad, &op.out)
        }
        Module::AdaptiveAvgPool1d(op) => pool::adaptive(l, &op.x, &[op.output_size], &op.out),
        Module::AdaptiveAvgPool2d(op) => pool::adaptive(l, &op.x, &op.output_size, &op.out),
        Module::AdaptiveAvgPool3d(op) => pool::adaptive(l, &op.x, &op.output_size, &op.out),
        Module::MaxPool1d(op) => {
            let (kernel, stride, padding, dilation) = ([op.kernel_size], [op.stride], [op.padding], [op.dilation]);
            pool::max(l, &op.x, &windows(&kernel, &stride, &padding, &dilation, op.ceil_mode), &op.out)
        }
        Module::MaxPool2d(op) => {
            let pool = windows(&op.kernel_size, &op.stride, &op.padding, &op.dilation, op.ceil_mode);
            pool::max(l, &op.x, &pool, &op.out)
        }
        Module::Interpolate(op) => conv::interpolate(l, op),
        Module::DeformableConv2d(_)
        | Module::MaxPool1dWithIndices(_)
        | Module::MaxPool2dWithIndices(_)
        | Module::Attention(_)
        | Module::Unfold4d(_) => missing(LATER),
        Module::CtcLoss(_) => missing("a loss belongs to training"),
        Module::EmbeddingBackward(_)
        | Module::LinearXBackward(_)
        | Module::LinearWeightBackward(_)
        | Module::LinearBiasBackward(_)
        | Module::Conv1dXBackward(_)
        | Module::Conv1dWeightBackward(_)
        | Module::Conv1dBiasBackward(_)
        | Module::Conv2dXBackward(_)
        | Module::Conv2dWeightBackward(_)
        | Module::Conv2dBiasBackward(_)
        | Module::Conv3dXBackward(_)
        | Module::Conv3dWeightBackward(_)
        | Module::Conv3dBiasBackward(_)
        | Module::DeformableConv2dBackward(_)
        | Module::AvgPool1dBackward(_)
        | Module::AvgPool2dBackward(_)
        | Module::AdaptiveAvgPool1dBackward(_)
        | Module::AdaptiveAvgPool2dBackward(_)
        | Module::AdaptiveAvgPool3dBackward(_)
        | Module::MaxPool1dWithIndicesBackward(_)
        | Module::MaxPool2dWithIndicesBackward(_)
        | Module::InterpolateBackward(_)
        | Module::CtcLossBackward(_)
        | Module::ConvTranspose1dWeightBackward(_)
        | Module::ConvTranspose1dBiasBackward(_)
        | Module::ConvTranspose2dWeightBackward(_)
        | Module::ConvTranspose2dBiasBackward(_)
        | Module::ConvTranspose3dWeightBackward(_)
        | Module::ConvTranspose3dBiasBackward(_) => missing(BACKWARD),
    }
}

fn uneven<'a>(stride: &'a [usize], padding: &[(usize, usize)], dilation: &'a [usize]) -> Geometry<'a> {
    let (begin, end) = padding.iter().copied().unzip();
    Geometry { stride, begin, end, dilation }
}

fn even<'a>(stride: &'a [usize], padding: &[usize], dilation: &'a [usize]) -> Geometry<'a> {
    Geometry { stride, begin: padding.to_vec(), end: padding.to_vec(), dilation }
}

fn windows<'a>(
    kernel: &'a [usize],
    stride: &'a [usize],
    padding: &'a [usize],
    dilation: &'a [usize],
    ceil_mode: bool,
) -> Pool<'a> {
    Pool { kernel, stride, padding, dilation, ceil_mode }
}
