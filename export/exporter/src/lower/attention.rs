//! Scaled dot-product attention.

use burn::backend::ir::{AttentionOpIr, ScalarIr};
use graph::{DType, Dim, Op, Plain, Tensor, ValueId};

use super::builder::{Lowered, Lowering, Reason, onnx_type};

/// Burn `attention` -> ONNX `Attention` for f32 where the operator set has it, else [`pieces`].
pub(super) fn attention(l: &mut Lowering, op: &AttentionOpIr) -> Lowered {
    let tensors = [&op.query, &op.key, &op.value].into_iter().chain(&op.mask).chain(&op.attn_bias);
    if let Some(other) = tensors.map(|tensor| tensor.shape.len()).find(|&rank| rank != 4) {
        return Err(Reason::Unsupported(format!("attention of a tensor of rank {other}; it takes rank 4")));
    }
    // `Attention` reads scale 0 as "not given".
    let scaled = op.options.scale.is_none_or(|scale| number(scale) as f32 != 0.0);
    let whole = l.opset() >= ATTENTION && onnx_type(op.out.dtype)? == DType::Float && scaled;
    if whole { operator(l, op) } else { pieces(l, op) }
}

/// First operator set with `Attention`.
const ATTENTION: u32 = 23;

/// ONNX `Attention`: soft cap, then mask or bias, and zeros for a row whose keys are all masked, as in Burn. ONNX masks
/// say which keys are seen, Burn's which are not. ONNX counts a causal mask from the first key, Burn from the last.
fn operator(l: &mut Lowering, op: &AttentionOpIr) -> Lowered {
    let mut inputs = vec![l.input(&op.query)?, l.input(&op.key)?, l.input(&op.value)?];
    let [query_dims, key_dims] = [&op.query, &op.key].map(|tensor| l.dims(tensor));
    let (queries, keys) = (&query_dims[2], &key_dims[2]);
    let scale = scale(l, op, &query_dims[3])?;
    let is_causal = op.options.is_causal && queries.same(keys);
    let mut hidden = op.mask.as_ref().map(|mask| l.input(mask)).transpose()?;
    if op.options.is_causal && !is_causal {
        let later = causal(l, queries, keys)?;
        hidden = Some(match hidden {
            None => later,
            Some(mask) => {
                let dims = [&l.value(mask).dims[..2], &[queries.clone(), keys.clone()]].concat();
                l.intermediate(Plain::Or, &[mask, later], DType::Bool, dims)
            }
        });
    }
    let bias = op.attn_bias.as_ref().map(|bias| l.input(bias)).transpose()?;
    inputs.extend(match (hidden, bias) {
        (None, bias) => bias,
        (Some(hidden), None) => Some(l.intermediate_like(Plain::Not, &[hidden])),
        (Some(hidden), Some(bias)) => {
            let lowest = l.float("masked", op.out.dtype, f64::NEG_INFINITY)?;
            let dims = [&query_dims[..3], std::slice::from_ref(keys)].concat();
            Some(l.intermediate(Plain::Where, &[hidden, lowest, bias], DType::Float, dims))
        }
    });
    let softcap = op.options.softcap.map_or(0.0, number);
    l.emit(Op::Attention { heads: None, is_causal, scale: scale as f32, softcap: softcap as f32 }, &inputs, &op.out)
}

fn number(value: ScalarIr) -> f64 {
    match value {
        ScalarIr::Float(value) => value,
        other => other.elem(),
    }
}

/// The factor for the scores: the given scale, or one over the square root of the heads' width.
fn scale(l: &Lowering, op: &AttentionOpIr, width: &Dim) -> Result<f64, Reason> {
    match op.options.scale {
        Some(scale) => Ok(number(scale)),
        None => Ok(1.0 / (l.fixed("attention without a scale", std::slice::from_ref(width))?[0] as f64).sqrt()),
    }
}

/// ONNX `MatMul`, `Softmax`, `MatMul`, with scale, soft cap, mask, causal mask and bias in between. A row whose keys
/// are all masked gives zeros.
fn pieces(l: &mut Lowering, op: &AttentionOpIr) -> Lowered {
    let dtype = onnx_type(op.out.dtype)?;
    let (query, key) = (l.input(&op.query)?, l.input(&op.key)?);
    let value = l.input(&op.value)?;
    let [mut dims, key_dims] = [&op.query, &op.key].map(|tensor| l.dims(tensor));
    let heads = (op.query.shape[1], op.key.shape[1]);
    let (key, value) = (shared(l, key, heads)?, shared(l, value, heads)?);
    let width = dims[3].clone();
    dims[3] = key_dims[2].clone();

    let mut turned = l.value(key).dims.clone();
    turned.swap(2, 3);
    let key = l.intermediate(Op::Transpose { order: vec![0, 1, 3, 2] }, &[key], dtype, turned);
    let mut scores = l.intermediate(Plain::MatMul, &[query, key], dtype, dims.clone());
    let scale = scale(l, op, &width)?;
    let scale = l.float("scale", op.out.dtype, scale)?;
    scores = l.intermediate_like(Plain::Mul, &[scores, scale]);
    if let Some(cap) = op.options.softcap {
        let cap = l.float("softcap", op.out.dtype, number(cap))?;
        scores = l.intermediate_like(Plain::Div, &[scores, cap]);
        scores = l.intermediate_like(Plain::Tanh, &[scores]);
        scores = l.intermediate_like(Plain::Mul, &[scores, cap]);
    }
    let mut masks = op.mask.iter().map(|mask| l.input(mask)).collect::<Result<Vec<_>, _>>()?;
    if op.options.is_causal {
        masks.push(causal(l, &dims[2], &dims[3])?);
    }
    let lowest = l.float("masked", op.out.dtype, f64::NEG_INFINITY)?;
    for &mask in &masks {
        scores = l.intermediate(Plain::Where, &[mask, lowest, scores], dtype, dims.clone());
    }
    let zero = l.float("zero", op.out.dtype, 0.0)?;
    let mut empty = None;
    if let Some(bias) = &op.attn_bias {
        let bias = l.input(bias)?;
        scores = l.intermediate_like(Plain::Add, &[scores, bias]);
        // A bias of minus infinity masks a key too.
        let mut row = dims.clone();
        row[3] = Dim::Size(1);
        let reduce = Op::Reduce { reduction: graph::Reduction::Max, axes: vec![3], keep_dims: true };
        let largest = l.intermediate(reduce, &[scores], dtype, row.clone());
        empty = Some(l.intermediate(Plain::Equal, &[largest, lowest], DType::Bool, row));
    }
    let mut weights = l.intermediate_like(Op::Softmax { axis: 3 }, &[scores]);
    // Softmax gives NaN where every key is masked. Elsewhere a masked key has weight zero already.
    for mask in masks.into_iter().filter(|_| empty.is_none()).chain(empty) {
        weights = l.intermediate(Plain::Where, &[mask, zero, weights], dtype, dims.clone());
    }
    l.emit(Plain::MatMul, &[weights, value], &op.out)
}

/// Repeats keys or values for every head of the query, since several query heads may share one.
fn shared(l: &mut Lowering, value: ValueId, (heads, own): (usize, usize)) -> Result<ValueId, Reason> {
    if heads == own {
        return Ok(value);
    }
    let like = l.value(value).clone();
    let mut dims = like.dims;
    dims[1] = Dim::Size(heads);
    let sources: Vec<i64> = (0..heads).map(|head| (head * own / heads) as i64).collect();
    let sources = l.int64s("heads", &sources);
    Ok(l.intermediate(Op::Gather { axis: 1 }, &[value, sources], like.dtype, dims))
}

/// `[queries, keys]`: whether the key comes after the query, where the last key belongs to the last query.
fn causal(l: &mut Lowering, queries: &Dim, keys: &Dim) -> Result<ValueId, Reason> {
    let dims = vec![queries.clone(), keys.clone()];
    if let (Some(rows), Some(columns)) = (queries.size(), keys.size()) {
        let later = |at: usize| u8::from(at % columns + rows > at / columns + columns);
        let mask = Tensor::new(DType::Bool, vec![rows, columns], (0..rows * columns).map(later).collect());
        let mask = mask.ok_or_else(|| Reason::Unsupported("a causal mask of another size".into()))?;
        return Ok(l.constant_tensor("causal", mask));
    }
    let one = Tensor::new(DType::Bool, vec![1], vec![1]);
    let value = one.ok_or_else(|| Reason::Unsupported("a causal mask of booleans".into()))?;
    let shape = l.shape("shape", &dims)?;
    let all = l.intermediate(Op::ConstantOfShape { value }, &[shape], DType::Bool, dims.clone());
    let (rows, columns) = (l.size(queries)?, l.size(keys)?);
    let one = || vec![Dim::Size(1)];
    let ahead = l.intermediate(Plain::Sub, &[columns, rows], DType::Int64, one());
    let step = l.int64s("next", &[1]);
    let diagonal = l.intermediate(Plain::Add, &[ahead, step], DType::Int64, one());
    Ok(l.intermediate(Plain::Trilu, &[all, diagonal], DType::Bool, dims))
}
