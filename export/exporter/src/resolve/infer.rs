//! How an operation changes sizes: the exact formula where Burn's rule is known, whatever sizes were recorded.

use burn::backend::ir::{BaseOperationIr, ModuleOperationIr, NumericOperationIr, OperationIr};

use graph::Formula;

/// The formula of axis `axis` of the operation's first output. `input` returns the formula of an input's axis, if
/// known.
pub(super) fn infer(
    operation: &OperationIr,
    axis: usize,
    input: &dyn Fn(usize, usize) -> Option<Formula>,
) -> Option<Formula> {
    match operation {
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => match op {
            BaseOperationIr::Cat(op) if op.dim == axis => {
                (0..op.tensors.len()).try_fold(Formula::constant(0), |sum, index| sum.plus(&input(index, axis)?))
            }
            BaseOperationIr::RepeatDim(op) if op.dim == axis => {
                // The factor may depend on a size itself: the numbers of all traces decide.
                input(0, axis)?.times(&number(op.times)?)
            }
            BaseOperationIr::Unfold(op) if op.dim == axis => {
                let steps = input(0, axis)?.plus(&number(op.size)?.times(&Formula::constant(-1))?)?;
                steps.over(i64::try_from(op.step).ok()?)?.plus(&Formula::constant(1))
            }
            BaseOperationIr::Permute(op) => input(0, *op.axes.get(axis)?),
            BaseOperationIr::SwapDims(op) => {
                let from = if axis == op.dim1 {
                    op.dim2
                } else if axis == op.dim2 {
                    op.dim1
                } else {
                    axis
                };
                input(0, from)
            }
            _ => None,
        },
        OperationIr::NumericFloat(_, NumericOperationIr::Pad(op))
        | OperationIr::NumericInt(_, NumericOperationIr::Pad(op)) => {
            let &(begin, end) = op.padding.get(axis)?;
            input(0, axis)?.plus(&number(begin.checked_add(end)?)?)
        }
        OperationIr::Module(op) => window(op, axis.checked_sub(2)?, input(0, axis)?),
        _ => None,
    }
}

fn number(value: usize) -> Option<Formula> {
    i64::try_from(value).ok().map(Formula::constant)
}

/// Geometry of one spatial axis.
struct SlidingWindow {
    kernel: usize,
    stride: usize,
    /// Sum of both sides.
    padding: usize,
    dilation: usize,
}

/// Size of a spatial axis after a convolution or pooling.
fn window(operation: &ModuleOperationIr, axis: usize, size: Formula) -> Option<Formula> {
    use ModuleOperationIr as Op;
    // The kernel size of a convolution is that of its weights.
    macro_rules! conv {
        ($op:expr, $padding:expr) => {{
            let options = &$op.options;
            let kernel = $op.weight.shape.iter().nth(axis + 2).copied()?;
            let (stride, dilation) = (*options.stride.get(axis)?, *options.dilation.get(axis)?);
            slide(size, &SlidingWindow { kernel, stride, padding: $padding(options.padding.get(axis)?)?, dilation })
        }};
    }
    macro_rules! transposed {
        ($op:expr) => {{
            let options = &$op.options;
            let kernel = $op.weight.shape.iter().nth(axis + 2).copied()?;
            let (stride, dilation) = (*options.stride.get(axis)?, *options.dilation.get(axis)?);
            let padding = options.padding.get(axis)?.checked_mul(2)?;
            let spread = size.plus(&Formula::constant(-1))?.times(&number(stride)?)?;
            let reach =
                dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(options.padding_out.get(axis)? + 1)?;
            spread.plus(&number(reach)?)?.plus(&number(padding)?.times(&Formula::constant(-1))?)
        }};
    }
    macro_rules! pool {
        ($op:expr, $kernel:expr, $stride:expr, $padding:expr, $dilation:expr) => {{
            let (kernel, stride, dilation) = (*$kernel.get(axis)?, *$stride.get(axis)?, *$dilation.get(axis)?);
            let side = *$padding.get(axis)?;
            let mut padding = side.checked_mul(2)?;
            if $op.ceil_mode {
                // Burn drops a last window that begins behind the input, which happens only where windows are this far
                // apart.
                if side.checked_add(stride)? > kernel {
                    return None;
                }
                padding = padding.checked_add(stride.checked_sub(1)?)?;
            }
            slide(size, &SlidingWindow { kernel, stride, padding, dilation })
        }};
    }
    let both = |&(begin, end): &(usize, usize)| begin.checked_add(end);
    let twice = |&padding: &usize| padding.checked_mul(2);
    match operation {
        Op::Conv1d(op) => conv!(op, both),
        Op::Conv2d(op) => conv!(op, both),
        Op::Conv3d(op) => conv!(op, twice),
        Op::ConvTranspose1d(op) => transposed!(op),
        Op::ConvTranspose2d(op) => transposed!(op),
        Op::ConvTranspose3d(op) => transposed!(op),
        Op::AvgPool1d(op) => pool!(op, [op.kernel_size], [op.stride], [op.padding], [1usize]),
        Op::AvgPool2d(op) => pool!(op, op.kernel_size, op.stride, op.padding, [1usize, 1]),
        Op::MaxPool1d(op) => pool!(op, [op.kernel_size], [op.stride], [op.padding], [op.dilation]),
        Op::MaxPool2d(op) => pool!(op, op.kernel_size, op.stride, op.padding, op.dilation),
        Op::MaxPool1dWithIndices(op) => pool!(op, [op.kernel_size], [op.stride], [op.padding], [op.dilation]),
        Op::MaxPool2dWithIndices(op) => pool!(op, op.kernel_size, op.stride, op.padding, op.dilation),
        _ => None,
    }
}

/// `floor((size + padding - dilation·(kernel - 1) - 1) / stride) + 1`.
fn slide(size: Formula, window: &SlidingWindow) -> Option<Formula> {
    let reach = window.dilation.checked_mul(window.kernel.checked_sub(1)?)?.checked_add(1)?;
    let room = i64::try_from(window.padding).ok()?.checked_sub(i64::try_from(reach).ok()?)?;
    let steps = size.plus(&Formula::constant(room))?.over(i64::try_from(window.stride).ok()?)?;
    steps.plus(&Formula::constant(1))
}
