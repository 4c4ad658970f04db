//! Burn records a linear layer as products and reshapes, in one of two ways, depending on which its kernels prefer at
//! the given sizes: either the rows of all batches are folded into one matrix, or the weight is broadcast over the
//! batches. This module turns both back into one linear operation, so that traces at different sizes agree and the
//! layer keeps its name.

use std::collections::HashMap;

use burn::backend::ir::{
    BaseOperationIr, BinaryOpIr, FloatOperationIr, LinearOpIr, MatmulOpIr, ModuleOperationIr, NumericOperationIr,
    OperationIr, ShapeOpIr, TensorId, TensorIr,
};

/// Replaces the recorded pieces of each linear layer by one operation, if their intermediate results are used nowhere
/// else.
pub(super) fn join(operations: Vec<OperationIr>, outputs: &[TensorId]) -> Vec<OperationIr> {
    let mut reads: HashMap<TensorId, usize> = HashMap::new();
    for id in operations.iter().flat_map(|operation| operation.inputs().map(|tensor| tensor.id)).chain(outputs.to_vec())
    {
        *reads.entry(id).or_default() += 1;
    }
    let once = |tensor: &TensorIr| reads.get(&tensor.id) == Some(&1);
    let mut joined = Vec::with_capacity(operations.len());
    let mut rest = operations.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        match folded(rest, &once).or_else(|| spread(rest, &once)) {
            Some((linear, count)) => {
                joined.push(OperationIr::Module(ModuleOperationIr::Linear(linear)));
                rest = &rest[count..];
            }
            None => {
                joined.push(first.clone());
                rest = tail;
            }
        }
    }
    joined
}

fn reshape(operation: Option<&OperationIr>) -> Option<&ShapeOpIr> {
    match operation? {
        OperationIr::BaseFloat(BaseOperationIr::Reshape(op)) => Some(op),
        _ => None,
    }
}

fn matmul(operation: Option<&OperationIr>) -> Option<&MatmulOpIr> {
    match operation? {
        OperationIr::Float(_, FloatOperationIr::Matmul(op)) => Some(op),
        _ => None,
    }
}

fn add(operation: Option<&OperationIr>) -> Option<&BinaryOpIr> {
    match operation? {
        OperationIr::NumericFloat(_, NumericOperationIr::Add(op)) => Some(op),
        _ => None,
    }
}

fn sizes(tensor: &TensorIr) -> Vec<usize> {
    tensor.shape.iter().copied().collect()
}

/// Whether `wide` is `narrow` with leading axes of size 1.
fn unsqueezed(narrow: &TensorIr, wide: &TensorIr) -> bool {
    let (narrow, wide) = (sizes(narrow), sizes(wide));
    wide.len().checked_sub(narrow.len()).is_some_and(|ones| wide[..ones].iter().all(|&size| size == 1))
        && wide.ends_with(&narrow)
}

/// The bias and the sum of `Reshape(bias)` and `Add(product, bias)`, if `operations` starts with these.
fn biased<'a>(
    operations: &'a [OperationIr],
    product: &TensorIr,
    once: &impl Fn(&TensorIr) -> bool,
) -> Option<(&'a TensorIr, &'a TensorIr)> {
    let (row, sum) = (reshape(operations.first())?, add(operations.get(1))?);
    let fits = row.input.shape.len() == 1
        && unsqueezed(&row.input, &row.out)
        && (sum.lhs.id, sum.rhs.id) == (product.id, row.out.id)
        && sizes(&sum.out) == sizes(product);
    (fits && once(&row.out) && once(product)).then_some((&row.input, &sum.out))
}

/// The first form: all batches folded into the rows of one matrix.
fn folded(operations: &[OperationIr], once: &impl Fn(&TensorIr) -> bool) -> Option<(LinearOpIr, usize)> {
    let (fold, product) = (reshape(operations.first())?, matmul(operations.get(1))?);
    let wide = sizes(&fold.input);
    let fits = wide.len() > 2
        && fold.out.shape.len() == 2
        && wide.last() == sizes(&fold.out).last()
        && product.lhs.id == fold.out.id
        && product.rhs.shape.len() == 2;
    if !fits || !once(&fold.out) {
        return None;
    }
    let (bias, sum, used) = match biased(operations.get(2..)?, &product.out, once) {
        Some((bias, sum)) => (Some(bias), sum, 4),
        None => (None, &product.out, 2),
    };
    let unfold = reshape(operations.get(used))?;
    let mut expected = wide;
    *expected.last_mut()? = *sizes(&product.rhs).last()?;
    let linear =
        LinearOpIr { x: fold.input.clone(), weight: product.rhs.clone(), bias: bias.cloned(), out: unfold.out.clone() };
    (unfold.input.id == sum.id && once(sum) && sizes(&unfold.out) == expected).then_some((linear, used + 1))
}

/// The second form: weight and bias broadcast over the batches. A matrix as input needs no reshapes.
fn spread(operations: &[OperationIr], once: &impl Fn(&TensorIr) -> bool) -> Option<(LinearOpIr, usize)> {
    let (weight, product, used) = match reshape(operations.first()) {
        Some(wide) => {
            let product = matmul(operations.get(1))?;
            let fits = wide.input.shape.len() == 2
                && unsqueezed(&wide.input, &wide.out)
                && product.rhs.id == wide.out.id
                && product.lhs.shape.len() == wide.out.shape.len();
            (fits && once(&wide.out)).then_some((&wide.input, product, 2))?
        }
        None => {
            let product = matmul(operations.first())?;
            ((product.lhs.shape.len(), product.rhs.shape.len()) == (2, 2)).then_some((&product.rhs, product, 1))?
        }
    };
    let (bias, out, used) = match biased(operations.get(used..)?, &product.out, once) {
        Some((bias, sum)) => (Some(bias.clone()), sum, used + 2),
        // A plain product of two matrices is one operation already.
        None if used == 1 => return None,
        None => (None, &product.out, used),
    };
    let linear = LinearOpIr { x: product.lhs.clone(), weight: weight.clone(), bias, out: out.clone() };
    Some((linear, used))
}
