//! Nodes whose inputs are all constants are computed at export, in f64.

use crate::graph::{Graph, Node};
use crate::op::{Op, Plain};
use crate::tensor::{DType, Tensor};

/// Most elements of a folded node: a larger constant would cost more file size than the saved work is worth.
const LIMIT: usize = 1 << 20;

pub(super) fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        // A constant output stays a node, because initialisers that are outputs confuse runtimes.
        let is_output = node.outputs.iter().any(|id| graph.outputs.contains(id));
        let Some(result) = (!is_output).then(|| fold(graph, node)).flatten() else {
            index += 1;
            continue;
        };
        let node = graph.nodes.remove(index);
        // A parameter that was only moved keeps its name.
        let parameter = node.input(0).filter(|id| is_movement(&node.op) && graph.uses().count(*id) == 0);
        graph.make_constant(node.outputs[0], result, parameter);
        changed = true;
    }
    changed
}

fn is_movement(op: &Op) -> bool {
    matches!(op, Op::Plain(Plain::Reshape | Plain::Unsqueeze | Plain::Squeeze) | Op::Transpose { .. })
}

fn fold(graph: &Graph, node: &Node) -> Option<Tensor> {
    let constant = |index: usize| node.input(index).and_then(|id| graph.initialiser(id));
    let &[output] = node.outputs.as_slice() else { return None };
    if node.inputs.is_empty() || !node.inputs.iter().flatten().all(|&id| graph.initialiser(id).is_some()) {
        return None;
    }
    let value = graph.value(output);
    let dims: Option<Vec<usize>> = value.dims.iter().map(|dim| dim.size()).collect();
    let dims = dims?;
    if dims.iter().product::<usize>() > LIMIT {
        return None;
    }
    match &node.op {
        Op::Plain(Plain::Reshape | Plain::Unsqueeze | Plain::Squeeze | Plain::Identity) => constant(0)?.reshaped(dims),
        Op::Transpose { order } => {
            let order: Option<Vec<usize>> = order.iter().map(|&axis| usize::try_from(axis).ok()).collect();
            constant(0)?.transposed(&order?)
        }
        Op::ConstantOfShape { value } => {
            let count = dims.iter().product::<usize>();
            Tensor::new(value.dtype(), dims, value.bytes().repeat(count))
        }
        Op::Cast { to } => cast(constant(0)?, *to, dims),
        Op::Plain(plain) => {
            let combine: fn(f64, f64) -> f64 = match plain {
                Plain::Add => |a, b| a + b,
                Plain::Sub => |a, b| a - b,
                Plain::Mul => |a, b| a * b,
                Plain::Div if value.dtype.is_float() => |a, b| a / b,
                // Integers round towards 0. Division by 0 is undefined, so it is not folded.
                Plain::Div => |a, b| if b == 0.0 { f64::NAN } else { (a / b).trunc() },
                Plain::Less => |a, b| f64::from(u8::from(a < b)),
                Plain::LessOrEqual => |a, b| f64::from(u8::from(a <= b)),
                Plain::Greater => |a, b| f64::from(u8::from(a > b)),
                Plain::GreaterOrEqual => |a, b| f64::from(u8::from(a >= b)),
                Plain::Equal => |a, b| f64::from(u8::from(a == b)),
                Plain::And => |a, b| a * b,
                Plain::Or => f64::max,
                _ => return unary(*plain, constant(0)?, dims),
            };
            let (a, b) = (constant(0)?, constant(1)?);
            let (a, b) = (spread(a, &dims)?, spread(b, &dims)?);
            let values: Vec<f64> = a.iter().zip(&b).map(|(a, b)| combine(*a, *b)).collect();
            if !value.dtype.is_float() && !values.iter().all(|value| value.abs() <= EXACT) {
                return None;
            }
            Tensor::from_f64s(value.dtype, dims, &values)
        }
        _ => None,
    }
}

/// Largest number up to which f64 holds all integers.
const EXACT: f64 = (1u64 << 53) as f64;

/// Integers wrap around. A float outside an integer's range is undefined in ONNX and left to the runtime.
fn cast(from: &Tensor, to: DType, dims: Vec<usize>) -> Option<Tensor> {
    let values = from.to_f64s()?;
    let cast = Tensor::from_f64s(to, dims, &values)?;
    if from.dtype().is_float() && !to.is_float() && to != DType::Bool {
        let whole = values.iter().map(|value| value.trunc());
        return cast.to_f64s()?.into_iter().eq(whole).then_some(cast);
    }
    Some(cast)
}

fn unary(plain: Plain, input: &Tensor, dims: Vec<usize>) -> Option<Tensor> {
    if plain == Plain::Not && input.dtype() == DType::Bool {
        let values: Vec<f64> = input.to_f64s()?.into_iter().map(|value| 1.0 - value).collect();
        return Tensor::from_f64s(DType::Bool, dims, &values);
    }
    if plain == Plain::Expand {
        return Tensor::from_f64s(input.dtype(), dims.clone(), &spread(input, &dims)?);
    }
    if !input.dtype().is_float() {
        return None;
    }
    let apply: fn(f64) -> f64 = match plain {
        Plain::Neg => |v| -v,
        Plain::Abs => f64::abs,
        Plain::Sqrt => f64::sqrt,
        Plain::Exp => f64::exp,
        Plain::Reciprocal => f64::recip,
        // Gates with learnt weights are constants too.
        Plain::Sigmoid => |v| 1.0 / (1.0 + (-v).exp()),
        Plain::Tanh => f64::tanh,
        _ => return None,
    };
    let values: Vec<f64> = input.to_f64s()?.into_iter().map(apply).collect();
    Tensor::from_f64s(input.dtype(), dims, &values)
}

/// The values, broadcast to `dims`.
fn spread(tensor: &Tensor, dims: &[usize]) -> Option<Vec<f64>> {
    let values = tensor.to_f64s()?;
    let offset = dims.len().checked_sub(tensor.dims().len())?;
    let mut strides = vec![0; dims.len()];
    let mut stride = 1;
    for (axis, &size) in tensor.dims().iter().enumerate().rev() {
        if size != 1 {
            if size != dims[offset + axis] {
                return None;
            }
            strides[offset + axis] = stride;
        }
        stride *= size;
    }
    let count: usize = dims.iter().product();
    let place = |mut index: usize| {
        let mut from = 0;
        for axis in (0..dims.len()).rev() {
            from += index % dims[axis] * strides[axis];
            index /= dims[axis];
        }
        from
    };
    (0..count).map(|index| values.get(place(index)).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::op::{Op, Plain};
    use crate::tensor::DType;

    #[test]
    fn narrow_integers_wrap() {
        let mut build = Build::new(&[2]);
        let x = build.x();
        let large = build.int32(200);
        let narrow = build.typed(Op::Cast { to: DType::Int8 }, &[large], &[], DType::Int8);
        let number = build.node(Op::Cast { to: DType::Float }, &[narrow], &[]);
        let y = build.node(Plain::Add, &[x, number], &[2]);
        assert_eq!(build.output(y).check(super::run).nodes.len(), 1);
    }

    #[test]
    fn floats_beyond_an_integer_are_left_to_the_runtime() {
        let mut build = Build::new(&[2]);
        let x = build.x();
        let large = build.number(1e10);
        let whole = build.typed(Op::Cast { to: DType::Int32 }, &[large], &[], DType::Int32);
        let number = build.node(Op::Cast { to: DType::Float }, &[whole], &[]);
        let y = build.node(Plain::Add, &[x, number], &[2]);
        build.output(y).unchanged(super::run);
    }

    #[test]
    fn constants_are_computed_once() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let weight = build.weights(&[3]);
        let shape = build.int64s(&[1, 3]);
        let row = build.node(Plain::Reshape, &[weight, shape], &[1, 3]);
        let column = build.node(Op::Transpose { order: vec![1, 0] }, &[row], &[3, 1]);
        let table = build.node(Plain::Mul, &[row, column], &[3, 3]);
        let table = build.node(Plain::Exp, &[table], &[3, 3]);
        let y = build.node(Plain::MatMul, &[x, table], &[2, 3]);
        let after = build.output(y).check(super::run);
        assert_eq!(after.nodes.len(), 1);
    }

    /// A learnt share of one branch and the rest of the other.
    #[test]
    fn a_learnt_share_is_two_numbers() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let (learnt, one) = (build.weights(&[1]), build.number(1.0));
        let share = build.node(Plain::Sigmoid, &[learnt], &[1]);
        let rest = build.node(Plain::Neg, &[share], &[1]);
        let rest = build.node(Plain::Add, &[rest, one], &[1]);
        let (left, right) = (build.node(Plain::Tanh, &[x], &[2, 3]), build.node(Plain::Exp, &[x], &[2, 3]));
        let left = build.node(Plain::Mul, &[left, share], &[2, 3]);
        let right = build.node(Plain::Mul, &[right, rest], &[2, 3]);
        let y = build.node(Plain::Add, &[left, right], &[2, 3]);
        let after = build.output(y).check(super::run);
        assert_eq!(after.nodes.len(), 5);
    }

    /// A causal mask: positions compared with positions.
    #[test]
    fn integers_and_booleans_are_computed_too() {
        let mut build = Build::new(&[4, 4]);
        let x = build.x();
        let (row, column) = (build.int64s(&[0, 1, 2, 3]), build.int64s(&[0, 1, 2, 3]));
        let shape = build.int64s(&[4, 1]);
        let column = build.typed(Plain::Reshape, &[column, shape], &[4, 1], DType::Int64);
        let distance = build.typed(Plain::Sub, &[row, column], &[4, 4], DType::Int64);
        let seven = build.int64s(&[7]);
        let distance = build.typed(Plain::Mul, &[distance, seven], &[4, 4], DType::Int64);
        let two = build.int64s(&[2]);
        let half = build.typed(Plain::Div, &[distance, two], &[4, 4], DType::Int64);
        let bound = build.int64s(&[-3]);
        let mask = build.typed(Plain::Less, &[bound, half], &[4, 4], DType::Bool);
        let mask = build.typed(Plain::Not, &[mask], &[4, 4], DType::Bool);
        let zero = build.number(0.0);
        let y = build.node(Plain::Where, &[mask, zero, x], &[4, 4]);
        let after = build.output(y).check(super::run);
        assert_eq!(after.nodes.len(), 1);
    }
}
