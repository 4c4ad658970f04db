//! Which function lowers which operation. The tables are exhaustive, so a new Burn operation stops the build here.

use burn::backend::ir::{
    ActivationOperationIr as Activation, BaseOperationIr as Base, BoolOperationIr as Boolean,
    DistributedOperationIr as Distributed, FloatOperationIr as Float, IntOperationIr as Integer,
    ModuleOperationIr as Module, NumericOperationIr as Numeric, OperationIr, ScalarIr,
};
use graph::{Plain, Reduction};

use super::builder::{Lowered, Lowering, Reason};
use super::conv::Geometry;
use super::numeric::{binary, binary_since, binary_via_int32, scalar, scalar_since, unary, unary_since};
use super::pool::Pool;
use super::table::{dispatch, given, latest};
use super::{activation, attention, base, conv, function, norm, numeric, pool, random, reduce};
use super::{sample, scatter};
use crate::operations::{OperationKind, Support};

/// Every kind of operation, group by group.
pub(crate) const KINDS: [&[OperationKind]; 9] =
    [BASE, NUMERIC, BOOL, INT, FLOAT, ACTIVATION, MODULE, DISTRIBUTED, OTHER];

const CUSTOM: (&str, &str) = (
    "a custom operation has no ONNX form of its own",
    "write the forward function of the exported module with Burn's operations",
);

const QUANTISED: (&str, &str) = (
    "Burn's capture device holds no quantised tensors",
    "export the float model, and quantise the ONNX file with the runtime's tools",
);

const COLLECTIVE: (&str, &str) =
    ("collective operations of several devices are used only in training", "export `module.valid()` of one device");

/// Note shown for interpolation.
const NEAREST_EXACT: &str = "`NearestExact` is compared by its definition only, because Burn's CPU backend lacks it; \
                             ONNX Runtime computes pixel centres in single precision";

/// Note shown for min/max, arg-min/max and sorting.
const NAN: &str =
    "the ONNX specification does not define results with NaN, and ONNX Runtime's depend on the position of the NaN";

/// Kinds of operations outside the groups below.
const OTHER: &[OperationKind] = &[
    OperationKind { group: "Other", name: "Custom", support: Support::Refused { reason: CUSTOM.0, way_out: CUSTOM.1 } },
    OperationKind { group: "Other", name: "Init", support: Support::Bookkeeping },
    OperationKind { group: "Other", name: "Drop", support: Support::Bookkeeping },
];

fn refuse(reason: &str, way_out: &str) -> Lowered {
    Err(Reason::Unsupported(format!("{reason}; {way_out}")))
}

pub(super) fn operation(l: &mut Lowering, operation: &OperationIr) -> Lowered {
    match operation {
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => base(l, op),
        OperationIr::NumericFloat(_, op) | OperationIr::NumericInt(_, op) => self::numeric(l, op),
        OperationIr::Bool(op) => boolean(l, op),
        OperationIr::Int(op) => integer(l, op),
        OperationIr::Float(_, op) => float(l, op),
        OperationIr::Activation(op) => self::activation(l, op),
        OperationIr::Module(op) => module(l, op),
        OperationIr::Distributed(op) => distributed(l, op),
        OperationIr::Custom(_) => refuse(CUSTOM.0, CUSTOM.1),
        // Left out of traces: they compute nothing.
        OperationIr::Init(_) | OperationIr::Drop(_) => Ok(()),
    }
}

dispatch! {
    /// Shapes, slices and masks of floats, integers and booleans.
    fn base(l, Base as "Base") -> BASE;
    lowered {
        Reshape(op) ["Reshape", "ConstantOfShape"] => base::reshape(l, op),
        SwapDims(op) ["Transpose"] => base::swap_dims(l, op),
        Permute(op) ["Transpose"] => base::permute(l, op),
        Flip(op) ["Slice"] => base::flip(l, op),
        Expand(op) ["Expand"] => base::expand(l, op),
        Slice(op) ["Slice"] => base::slice(l, op),
        Select(op) ["Gather"] => base::select(l, op),
        MaskWhere(op) ["Where", "And", "Not", "Or"] => base::mask_where(l, op),
        MaskFill(op) ["Where", "And", "Not", "Or"] => base::mask_fill(l, op),
        Gather(op) ["GatherElements"] => base::gather(l, op),
        GatherNd(op) ["GatherND", "Cast"] => base::gather_nd(l, op),
        Equal(op) ["Equal"] => base::equal(l, op),
        EqualElem(op) ["Equal"] => base::equal_elem(l, op),
        RepeatDim(op) ["Tile"] => base::repeat_dim(l, op),
        Cat(op) ["Concat"] => base::cat(l, op),
        Cast(op) ["Cast"] => base::cast(l, op),
        Zeros(op) ["ConstantOfShape"] => base::filled(l, &op.out, ScalarIr::Int(0)),
        Ones(op) ["ConstantOfShape"] => base::filled(l, &op.out, ScalarIr::Int(1)),
        NotEqual(op) ["Equal", "Not"] => base::not_equal(l, op),
        NotEqualElem(op) ["Equal", "Not"] => base::not_equal_elem(l, op),
        All(op) ["ReduceMin", "Cast", "Reshape"] => base::every(l, op, Reduction::Min),
        Any(op) ["ReduceMax", "Cast", "Reshape"] => base::every(l, op, Reduction::Max),
        AllDim(op) ["ReduceMin", "Cast"] => base::every_dim(l, op, Reduction::Min),
        AnyDim(op) ["ReduceMax", "Cast"] => base::every_dim(l, op, Reduction::Max),
        // The content of an empty tensor is arbitrary; zeros are the same in every run.
        Empty(op) ["ConstantOfShape"] => base::filled(l, &op.out, ScalarIr::Int(0)),
        Unfold(op) ["Gather", "Transpose"] => base::unfold(l, op),
        SliceAssign(op) ["Concat", "Slice", "Gather", "Where", "And", "Not", "Or"] => scatter::slice_assign(l, op),
        SelectAssign(op) ["ScatterElements", "Reshape", "Expand", "Cast"] => scatter::select_assign(l, op),
        Scatter(op) ["ScatterElements", "Cast"] => scatter::scatter(l, op),
        ScatterNd(op) ["ScatterND", "Cast"] => scatter::scatter_nd(l, op),
    }
}

dispatch! {
    /// Arithmetic, comparisons and reductions of floats and integers.
    fn numeric(l, Numeric as "Numeric") -> NUMERIC;
    lowered {
        Add(op) ["Add"] => binary(l, op, Plain::Add),
        AddScalar(op) ["Add"] => scalar(l, op, Plain::Add),
        Sub(op) ["Sub"] => binary(l, op, Plain::Sub),
        SubScalar(op) ["Sub"] => scalar(l, op, Plain::Sub),
        Div(op) ["Div"] => binary(l, op, Plain::Div),
        DivScalar(op) ["Div"] => scalar(l, op, Plain::Div),
        Rem(op) ["Mod", "Where", "Add", "And", "Equal", "Less", "Not", "Xor"] => function::remainder(l, op),
        RemScalar(op) ["Mod", "Where", "Add", "And", "Equal", "Less", "Not", "Xor"] =>
            function::remainder_scalar(l, op),
        Mul(op) ["Mul"] => binary(l, op, Plain::Mul),
        MulScalar(op) ["Mul"] => scalar(l, op, Plain::Mul),
        Abs(op) ["Abs"] => unary(l, op, Plain::Abs),
        Full(op) ["ConstantOfShape"] => base::filled(l, &op.out, op.value),
        MeanDim(op) ["ReduceMean", "Cast"] => reduce::dim(l, op, Reduction::Mean),
        Mean(op) ["ReduceMean", "Reshape", "Cast"] => reduce::whole(l, op, Reduction::Mean),
        Sum(op) ["ReduceSum", "Reshape", "Cast"] => reduce::whole(l, op, Reduction::Sum),
        SumDim(op) ["ReduceSum", "Cast"] => reduce::dim(l, op, Reduction::Sum),
        SumDims(op) ["ReduceSum"] => reduce::sum_dims(l, op),
        Prod(op) ["ReduceProd", "Reshape", "Cast"] => reduce::whole(l, op, Reduction::Prod),
        ProdDim(op) ["ReduceProd", "Cast"] => reduce::dim(l, op, Reduction::Prod),
        Greater(op) ["Greater"] => binary(l, op, Plain::Greater),
        GreaterElem(op) ["Greater"] => scalar(l, op, Plain::Greater),
        GreaterEqual(op) ["GreaterOrEqual"] => binary(l, op, Plain::GreaterOrEqual),
        GreaterEqualElem(op) ["GreaterOrEqual"] => scalar(l, op, Plain::GreaterOrEqual),
        Lower(op) ["Less"] => binary(l, op, Plain::Less),
        LowerElem(op) ["Less"] => scalar(l, op, Plain::Less),
        LowerEqual(op) ["LessOrEqual"] => binary(l, op, Plain::LessOrEqual),
        LowerEqualElem(op) ["LessOrEqual"] => scalar(l, op, Plain::LessOrEqual),
        ArgMax(op) ["ArgMax", "Cast"] note NAN => reduce::position(l, op, true),
        ArgMin(op) ["ArgMin", "Cast"] note NAN => reduce::position(l, op, false),
        ArgTopK(op) ["TopK", "Cast"] note NAN => reduce::top_index(l, op),
        TopK(op) ["TopK", "Cast"] note NAN => reduce::top(l, op),
        TopKWithIndices(op) ["TopK", "Cast"] note NAN => reduce::top_both(l, op),
        Max(op) ["ReduceMax", "Reshape", "Cast"] note NAN => reduce::whole(l, op, Reduction::Max),
        Min(op) ["ReduceMin", "Reshape", "Cast"] note NAN => reduce::whole(l, op, Reduction::Min),
        MaxDim(op) ["ReduceMax", "Cast"] note NAN => reduce::dim(l, op, Reduction::Max),
        MinDim(op) ["ReduceMin", "Cast"] note NAN => reduce::dim(l, op, Reduction::Min),
        MaxDimWithIndices(op) ["ReduceMax", "ArgMax", "Cast"] note NAN => reduce::with_index(l, op, true),
        MinDimWithIndices(op) ["ReduceMin", "ArgMin", "Cast"] note NAN => reduce::with_index(l, op, false),
        MaxAbs(op) ["ReduceMax", "Abs", "Reshape", "Cast"] note NAN => reduce::max_abs(l, op),
        MaxAbsDim(op) ["ReduceMax", "Abs", "Cast"] note NAN => reduce::max_abs_dim(l, op),
        Clamp(op) ["Clip"] => numeric::clamp(l, op),
        ClampMin(op) ["Max"] => scalar(l, op, Plain::Max),
        ClampMax(op) ["Min"] => scalar(l, op, Plain::Min),
        Powi(op) ["Pow", "Cast"] => binary_via_int32(l, op, Plain::Pow),
        PowiScalar(op) ["Pow", "Cast"] => numeric::power(l, op),
        CumSum(op) ["CumSum", "Cast"] => numeric::cumsum(l, op),
        Neg(op) ["Neg"] => unary(l, op, Plain::Neg),
        Sign(op) ["Sign"] => unary(l, op, Plain::Sign),
        Sort(op) ["TopK", "Cast"] note NAN => reduce::sort(l, op),
        SortWithIndices(op) ["TopK", "Cast"] note NAN => reduce::sort_both(l, op),
        ArgSort(op) ["TopK", "Cast"] note NAN => reduce::sort_index(l, op),
        Pad(op) ["Pad"] => numeric::pad(l, op),
        IntRandom(op) ["RandomUniformLike", "RandomNormalLike", "ConstantOfShape", "Floor", "Cast"] until 21 =>
            random::integers(l, op),
        CumProd(op) ["Mul", "Slice", "Concat"] => function::cumulate(l, op, Plain::Mul),
        CumMin(op) ["Min", "Slice", "Concat"] => function::cumulate(l, op, Plain::Min),
        CumMax(op) ["Max", "Slice", "Concat"] => function::cumulate(l, op, Plain::Max),
    }
}

dispatch! {
    /// Booleans.
    fn boolean(l, Boolean as "Bool") -> BOOL;
    lowered {
        IntoFloat(op) ["Cast"] => base::cast(l, op),
        IntoInt(op) ["Cast"] => base::cast(l, op),
        Not(op) ["Not"] => unary(l, op, Plain::Not),
        And(op) ["And"] => binary(l, op, Plain::And),
        Or(op) ["Or"] => binary(l, op, Plain::Or),
        Xor(op) ["Xor"] => binary(l, op, Plain::Xor),
    }
}

dispatch! {
    /// Integers.
    fn integer(l, Integer as "Int") -> INT;
    lowered {
        IntoFloat(op) ["Cast"] => base::cast(l, op),
        BitwiseAnd(op) ["BitwiseAnd"] since 18 => binary_since(l, op, Plain::BitwiseAnd),
        BitwiseAndScalar(op) ["BitwiseAnd"] since 18 => scalar_since(l, op, Plain::BitwiseAnd),
        BitwiseOr(op) ["BitwiseOr"] since 18 => binary_since(l, op, Plain::BitwiseOr),
        BitwiseOrScalar(op) ["BitwiseOr"] since 18 => scalar_since(l, op, Plain::BitwiseOr),
        BitwiseXor(op) ["BitwiseXor"] since 18 => binary_since(l, op, Plain::BitwiseXor),
        BitwiseXorScalar(op) ["BitwiseXor"] since 18 => scalar_since(l, op, Plain::BitwiseXor),
        BitwiseNot(op) ["BitwiseNot"] since 18 => unary_since(l, op, Plain::BitwiseNot),
        BitwiseLeftShift(op) ["BitShift", "Cast"] => numeric::shift_left(l, op),
        BitwiseLeftShiftScalar(op) ["BitShift", "Cast"] => numeric::shift_left_scalar(l, op),
        BitwiseRightShift(op) ["BitShift", "Cast", "Less", "Sub", "Where"] => numeric::shift_right(l, op),
        BitwiseRightShiftScalar(op) ["BitShift", "Cast", "Less", "Sub", "Where"] => numeric::shift_right_scalar(l, op),
        Matmul(op) ["MatMul"] => numeric::matmul(l, op),
    }
}

dispatch! {
    /// Elementary functions of floats.
    fn float(l, Float as "Float") -> FLOAT;
    lowered {
        Exp(op) ["Exp"] => unary(l, op, Plain::Exp),
        Log(op) ["Log"] => unary(l, op, Plain::Log),
        Log1p(op) ["Log", "Abs", "Add", "Div", "Equal", "Less", "Mul", "Sub", "Where"] => function::log1p(l, op),
        Erf(op) ["Erf"] => unary(l, op, Plain::Erf),
        PowfScalar(op) ["Pow", "Sqrt"] => numeric::power(l, op),
        Sqrt(op) ["Sqrt"] => unary(l, op, Plain::Sqrt),
        Cos(op) ["Cos"] => unary(l, op, Plain::Cos),
        Cosh(op) ["Cosh"] => unary(l, op, Plain::Cosh),
        Sin(op) ["Sin"] => unary(l, op, Plain::Sin),
        Sinh(op) ["Sinh"] => unary(l, op, Plain::Sinh),
        Tan(op) ["Tan"] => unary(l, op, Plain::Tan),
        Tanh(op) ["Tanh"] => unary(l, op, Plain::Tanh),
        ArcCos(op) ["Acos"] => unary(l, op, Plain::Acos),
        ArcCosh(op) ["Acosh"] => unary(l, op, Plain::Acosh),
        ArcSin(op) ["Asin"] => unary(l, op, Plain::Asin),
        ArcSinh(op) ["Asinh"] => unary(l, op, Plain::Asinh),
        ArcTan(op) ["Atan"] => unary(l, op, Plain::Atan),
        ArcTanh(op) ["Atanh"] => unary(l, op, Plain::Atanh),
        Round(op) ["Round"] => unary(l, op, Plain::Round),
        Floor(op) ["Floor"] => unary(l, op, Plain::Floor),
        Ceil(op) ["Ceil"] => unary(l, op, Plain::Ceil),
        IntoInt(op) ["Cast"] => base::cast(l, op),
        Matmul(op) ["MatMul"] => numeric::matmul(l, op),
        Recip(op) ["Reciprocal"] => unary(l, op, Plain::Reciprocal),
        IsNan(op) ["IsNaN"] => unary(l, op, Plain::IsNaN),
        IsInf(op) ["IsInf"] => unary(l, op, Plain::IsInf),
        Powf(op) ["Pow"] => binary(l, op, Plain::Pow),
        Hypot(op) ["Sqrt", "Add", "Mul", "Cast"] => function::hypot(l, op),
        ArcTan2(op) ["Atan", "Div", "Abs", "Add", "And", "Equal", "Less", "Mul", "Or", "Reciprocal", "Sign", "Where"] =>
            function::atan2(l, op),
        Trunc(op) ["Where", "Ceil", "Floor", "Less"] => function::trunc(l, op),
        Cross(op) ["Gather", "Mul", "Sub"] => function::cross(l, op),
        Random(op) ["RandomUniformLike", "RandomNormalLike", "ConstantOfShape", "Floor"] until 21 =>
            random::floats(l, op),
        GridSample2d(op) ["GridSample"] => sample::grid_sample(l, op),
    }
    refused {
        Quantize => (QUANTISED.0, QUANTISED.1),
        Dequantize => (QUANTISED.0, QUANTISED.1),
    }
}

dispatch! {
    /// Activations.
    fn activation(l, Activation as "Activation") -> ACTIVATION;
    lowered {
        Relu(op) ["Relu"] => unary(l, op, Plain::Relu),
        LeakyRelu(op) ["LeakyRelu"] => activation::leaky_relu(l, op),
        PRelu(op) ["PRelu"] => binary(l, op, Plain::PRelu),
        Gelu(op) ["Gelu", "Div", "Erf", "Add", "Mul"] => activation::gelu(l, op),
        Sigmoid(op) ["Sigmoid"] => unary(l, op, Plain::Sigmoid),
        HardSigmoid(op) ["HardSigmoid"] => activation::hard_sigmoid(l, op),
        LogSigmoid(op) ["Softplus", "Neg"] => activation::log_sigmoid(l, op),
        Softmax(op) ["Softmax"] => activation::softmax(l, op),
        LogSoftmax(op) ["LogSoftmax"] => activation::log_softmax(l, op),
        Softmin(op) ["Softmax", "Neg"] => activation::softmin(l, op),
    }
    backward {
        ReluBackward,
        GeluBackward,
        SigmoidBackward,
        LogSigmoidBackward,
    }
}

dispatch! {
    /// Layers.
    fn module(l, Module as "Module") -> MODULE;
    lowered {
        BatchNorm(op) ["BatchNormalization"] => norm::batch_norm(l, op),
        LayerNorm(op) ["LayerNormalization"] => norm::layer_norm(l, op),
        Linear(op) ["MatMul", "Add"] => norm::linear(l, op),
        Embedding(op) ["Gather"] => base::embedding(l, op),
        Conv1d(op) ["Conv"] => {
            let geometry = uneven(&op.options.stride, &op.options.padding, &op.options.dilation);
            conv::conv(l, [&op.x, &op.weight, &op.out], op.bias.as_ref(), &geometry, op.options.groups)
        },
        Conv2d(op) ["Conv"] => {
            let geometry = uneven(&op.options.stride, &op.options.padding, &op.options.dilation);
            conv::conv(l, [&op.x, &op.weight, &op.out], op.bias.as_ref(), &geometry, op.options.groups)
        },
        Conv3d(op) ["Conv"] => {
            let geometry = even(&op.options.stride, &op.options.padding, &op.options.dilation);
            conv::conv(l, [&op.x, &op.weight, &op.out], op.bias.as_ref(), &geometry, op.options.groups)
        },
        ConvTranspose1d(op) ["ConvTranspose"] => {
            let o = &op.options;
            let geometry = even(&o.stride, &o.padding, &o.dilation);
            let tensors = [&op.x, &op.weight, &op.out];
            conv::conv_transpose(l, tensors, op.bias.as_ref(), &geometry, &o.padding_out, o.groups)
        },
        ConvTranspose2d(op) ["ConvTranspose"] => {
            let o = &op.options;
            let geometry = even(&o.stride, &o.padding, &o.dilation);
            let tensors = [&op.x, &op.weight, &op.out];
            conv::conv_transpose(l, tensors, op.bias.as_ref(), &geometry, &o.padding_out, o.groups)
        },
        ConvTranspose3d(op) ["ConvTranspose"] => {
            let o = &op.options;
            let geometry = even(&o.stride, &o.padding, &o.dilation);
            let tensors = [&op.x, &op.weight, &op.out];
            conv::conv_transpose(l, tensors, op.bias.as_ref(), &geometry, &o.padding_out, o.groups)
        },
        AvgPool1d(op) ["AveragePool", "Pad"] => {
            let (kernel, stride, padding) = ([op.kernel_size], [op.stride], [op.padding]);
            let pool = windows(&kernel, &stride, &padding, &[1], op.ceil_mode);
            pool::average(l, &op.x, &pool, op.count_include_pad, &op.out)
        },
        AvgPool2d(op) ["AveragePool", "Pad"] => {
            let pool = windows(&op.kernel_size, &op.stride, &op.padding, &[1, 1], op.ceil_mode);
            pool::average(l, &op.x, &pool, op.count_include_pad, &op.out)
        },
        AdaptiveAvgPool1d(op) ["GlobalAveragePool", "AveragePool", "MatMul"] =>
            pool::adaptive(l, &op.x, &[op.output_size], &op.out),
        AdaptiveAvgPool2d(op) ["GlobalAveragePool", "AveragePool", "MatMul"] =>
            pool::adaptive(l, &op.x, &op.output_size, &op.out),
        AdaptiveAvgPool3d(op) ["GlobalAveragePool", "AveragePool", "MatMul", "Reshape"] =>
            pool::adaptive(l, &op.x, &op.output_size, &op.out),
        MaxPool1d(op) ["MaxPool"] => {
            let (kernel, stride, padding, dilation) = ([op.kernel_size], [op.stride], [op.padding], [op.dilation]);
            pool::max(l, &op.x, &windows(&kernel, &stride, &padding, &dilation, op.ceil_mode), &op.out)
        },
        MaxPool2d(op) ["MaxPool"] => {
            let pool = windows(&op.kernel_size, &op.stride, &op.padding, &op.dilation, op.ceil_mode);
            pool::max(l, &op.x, &pool, &op.out)
        },
        Interpolate(op) ["Resize", "Gather", "MatMul"] note NEAREST_EXACT => sample::interpolate(l, op),
        MaxPool1dWithIndices(op) ["MaxPool", "Mod"] => {
            let (kernel, stride, padding, dilation) = ([op.kernel_size], [op.stride], [op.padding], [op.dilation]);
            let pool = windows(&kernel, &stride, &padding, &dilation, op.ceil_mode);
            pool::max_with_indices(l, &op.x, &pool, &op.out, &op.out_indices)
        },
        MaxPool2dWithIndices(op) ["MaxPool", "Mod"] => {
            let pool = windows(&op.kernel_size, &op.stride, &op.padding, &op.dilation, op.ceil_mode);
            pool::max_with_indices(l, &op.x, &pool, &op.out, &op.out_indices)
        },
        DeformableConv2d(op) ["DeformConv"] since 19 => conv::deform_conv(l, op),
        Attention(op) ["Attention", "MatMul", "Not", "Or", "Softmax", "Add", "Div", "Equal", "Gather", "Mul",
            "ReduceMax", "Tanh", "Transpose", "Where"] =>
            attention::attention(l, op),
        Unfold4d(op) ["Gather", "Pad", "Transpose", "Reshape"] => conv::unfold4d(l, op),
    }
    refused {
        CtcLoss => ("Burn records its parts instead", "call `burn::tensor::module::ctc_loss`, whose parts are lowered"),
    }
    backward {
        EmbeddingBackward,
        LinearXBackward,
        LinearWeightBackward,
        LinearBiasBackward,
        Conv1dXBackward,
        Conv1dWeightBackward,
        Conv1dBiasBackward,
        Conv2dXBackward,
        Conv2dWeightBackward,
        Conv2dBiasBackward,
        Conv3dXBackward,
        Conv3dWeightBackward,
        Conv3dBiasBackward,
        DeformableConv2dBackward,
        AvgPool1dBackward,
        AvgPool2dBackward,
        AdaptiveAvgPool1dBackward,
        AdaptiveAvgPool2dBackward,
        AdaptiveAvgPool3dBackward,
        MaxPool1dWithIndicesBackward,
        MaxPool2dWithIndicesBackward,
        InterpolateBackward,
        CtcLossBackward,
        ConvTranspose1dWeightBackward,
        ConvTranspose1dBiasBackward,
        ConvTranspose2dWeightBackward,
        ConvTranspose2dBiasBackward,
        ConvTranspose3dWeightBackward,
        ConvTranspose3dBiasBackward,
    }
}

dispatch! {
    /// Collective operations of several devices in training.
    fn distributed(_l, Distributed as "Distributed") -> DISTRIBUTED;
    lowered {}
    refused {
        AllReduce => (COLLECTIVE.0, COLLECTIVE.1),
        SyncCollective => (COLLECTIVE.0, COLLECTIVE.1),
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
