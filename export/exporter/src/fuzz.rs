//! Traces that no module would produce, with changed numbers, types, shapes and orders. Each must give an error or
//! a graph, never a panic. Cases are numbered, and the number of a failing case is printed. `VITRINE_FUZZ_CASES` runs
//! more.

use burn::backend::ir::OperationIr;
use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, gelu_approximate, log_softmax, relu, sigmoid, softmax};
use burn::tensor::module::{adaptive_avg_pool2d, avg_pool2d, interpolate, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::fill::splitmix64;
use graph::encode::encode;
use graph::optimise::optimise;
use graph::{Dim, checker};
use serde_json::Value as Json;

use crate::capture::{Trace, record};
use crate::coverage::{Coverage, Symbol};
use crate::error::ExportError;
use crate::lower::{Boundary, lower};
use crate::panics::{caught, hide_expected_panics, quietly};
use crate::resolve::resolve;

/// Cases in a normal run: about two seconds.
const CASES: u64 = 1500;

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    bn: BatchNorm,
    up: ConvTranspose2d,
    linear: Linear,
    norm: LayerNorm,
    attention: MultiHeadAttention,
}

impl Net {
    fn new() -> Self {
        let device = Device::flex();
        Self {
            conv: Conv2dConfig::new([3, 4], [3, 3]).with_stride([2, 1]).init(&device),
            bn: BatchNormConfig::new(4).init(&device),
            up: ConvTranspose2dConfig::new([4, 4], [2, 2]).with_stride([2, 2]).init(&device),
            linear: LinearConfig::new(6, 8).init(&device),
            norm: LayerNormConfig::new(8).init(&device),
            attention: MultiHeadAttentionConfig::new(8, 2).init(&device),
        }
    }

    fn pictures(&self, x: Tensor<4>) -> Vec<Tensor<2>> {
        let [batch, ..] = x.dims();
        let x = relu(self.bn.forward(self.conv.forward(x.pad([(1, 1), (1, 1)], burn::tensor::ops::PadMode::Edge))));
        let pooled = max_pool2d(x.clone(), MaxPoolOptions::new([2, 2]).with_stride([1, 1]));
        let mean = avg_pool2d(x.clone(), AvgPoolOptions::new([2, 2]).with_stride([1, 1]));
        let y = Tensor::cat(vec![pooled, mean], 1);
        let bins = adaptive_avg_pool2d(x.clone(), [3, 1]);
        let up = self.up.forward(x.clone()).slice([0..batch, 0..4, 1..5, 0..3]);
        let options = InterpolateOptions::new(InterpolateMode::Bilinear).with_output_size([7, 5]);
        let resized = interpolate(x.clone(), options).flip([2]);
        let mask = x.clone().greater_elem(0.1);
        let filled = x.clone().mask_fill(mask, 0.5).permute([0, 2, 3, 1]).repeat_dim(1, 2);
        let best = x.clone().flatten::<2>(1, 3).topk(3, 1);
        let chosen = x.clone().flatten::<2>(1, 3).argmax(1).float() + x.mean().unsqueeze::<2>();
        [y, bins, up, resized, filled].map(|x| x.flatten::<2>(1, 3)).into_iter().chain([best, chosen]).collect()
    }

    fn sequence(&self, x: Tensor<3>) -> Vec<Tensor<2>> {
        let [batch, length, _] = x.dims();
        let hidden = gelu_approximate(self.norm.forward(self.linear.forward(x.clone())));
        let hidden = self.attention.forward(MhaInput::self_attn(hidden.clone())).context + gelu(hidden);
        let order = Tensor::<1, Int>::arange(0..length as i64, &x.device()).flip([0]);
        let picked = hidden.clone().select(1, order).cumsum(1);
        let sorted = softmax(hidden.clone(), 2).sort(1) * sigmoid(x.clone().mean_dim(2));
        let written = hidden.clone().slice_assign([0..batch, 0..1, 0..8], picked.clone().narrow(1, 2, 1));
        let index = x.clone().abs().floor().int().clamp(0, 1);
        let gathered = x.clone().gather(1, index.clone())
            + x.clone().scatter(1, index, x.clone(), burn::tensor::IndexingUpdateOp::Add);
        let squared = (x.clone().square().sum_dim(2) + 1e-3).sqrt().log() / x.powf_scalar(3.0).clamp(0.5, 2.0);
        let scores = log_softmax(written.clone(), 1);
        [picked, sorted, written, gathered, squared, scores].map(|x| x.flatten::<2>(1, 2)).to_vec()
    }
}

/// A reproducible generator of random numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        (splitmix64(self.0) % sides.max(1) as u64) as usize
    }
}

const NUMBERS: [i64; 14] = [0, 1, 2, 3, 5, 7, 64, 1 << 20, 1 << 33, i64::MAX, -1, -2, i64::MIN, 1 << 62];

const TYPES: [&str; 8] = ["F32", "F64", "I64", "I32", "U8", "F16", "BF16", "I8"];

/// Paths of all leaves and of all arrays of numbers.
fn paths(value: &Json, path: &str, found: &mut Vec<String>) {
    match value {
        Json::Object(fields) => fields.iter().for_each(|(key, value)| paths(value, &format!("{path}/{key}"), found)),
        Json::Array(items) => {
            found.push(path.to_owned());
            items.iter().enumerate().for_each(|(index, item)| paths(item, &format!("{path}/{index}"), found));
        }
        _ => found.push(path.to_owned()),
    }
}

fn change(value: &mut Json, dice: &mut Dice) {
    match value {
        Json::Array(items) => match dice.roll(3) {
            0 => {
                items.pop();
            }
            1 => items.extend(items.last().cloned()),
            _ => items.reverse(),
        },
        Json::String(text) => TYPES[dice.roll(TYPES.len())].clone_into(text),
        Json::Bool(value) => *value = !*value,
        Json::Null => *value = Json::from(1),
        Json::Number(number) if number.is_f64() => {
            *value = Json::from([0.0, -1.0, 1e-30, 1e30, 2.0][dice.roll(5)]);
        }
        // Small changes keep numbers near valid ones, where more code is reached.
        Json::Number(number) if dice.roll(2) == 0 => {
            *value = Json::from(number.as_i64().unwrap_or(0).wrapping_add([1, -1][dice.roll(2)]));
        }
        _ => *value = Json::from(NUMBERS[dice.roll(NUMBERS.len())]),
    }
}

/// The operation with one value changed, if the result is still an operation.
fn mutated(operation: &OperationIr, seed: u64) -> Option<OperationIr> {
    let mut dice = Dice(seed);
    let mut json = serde_json::to_value(operation).ok()?;
    let mut found = vec![];
    paths(&json, "", &mut found);
    let path = found.get(dice.roll(found.len()))?;
    change(json.pointer_mut(path)?, &mut dice);
    serde_json::from_value(json).ok()
}

/// Changes either all traces in the same way, or only one.
fn mutate(traces: &mut [Trace], dice: &mut Dice) {
    for _ in 0..=dice.roll(3) {
        let index = dice.roll(traces[0].operations.len());
        let only = (dice.roll(4) == 0).then(|| dice.roll(traces.len()));
        let (kind, seed, other) = (dice.roll(8), dice.roll(usize::MAX) as u64, dice.roll(traces[0].operations.len()));
        for (number, trace) in traces.iter_mut().enumerate() {
            if only.is_some_and(|only| only != number) || index.max(other) >= trace.operations.len() {
                continue;
            }
            match kind {
                0 => {
                    trace.operations.remove(index);
                }
                1 => trace.operations.swap(index, other),
                2 => {
                    let copy = trace.operations[index].clone();
                    trace.operations.insert(other, copy);
                }
                3 => {
                    let last = trace.outputs.len() - 1;
                    trace.outputs.swap(0, last);
                    if let Some(tensor) = trace.operations[index].outputs().next() {
                        trace.outputs[0] = tensor.id;
                    }
                }
                4 => {
                    // Use another tensor's constant, or remove it.
                    let ids: Vec<_> = trace.values.keys().copied().collect();
                    let (from, to) = (ids[index % ids.len()], ids[other % ids.len()]);
                    match trace.values.remove(&from) {
                        Some(value) if index.is_multiple_of(2) => drop(trace.values.insert(to, value)),
                        _ => {}
                    }
                }
                _ => {
                    if let Some(operation) = mutated(&trace.operations[index], seed) {
                        trace.operations[index] = operation;
                    }
                }
            }
        }
    }
}

fn pipeline(plan: &Coverage, traces: Vec<Trace>, boundary: &Boundary, opset: u32) -> Result<(), ExportError> {
    let resolved = resolve(plan.clone(), traces)?;
    let (mut graph, ..) = lower(&resolved, "fuzz", boundary, opset)?;
    checker::check(&graph, opset)?;
    optimise(&mut graph, opset);
    checker::check(&graph, opset)?;
    Ok(encode(&graph, opset, &[]).map(drop)?)
}

/// Traces of one forward function at the sizes of a plan.
fn recorded<const D: usize>(
    shape: [usize; D],
    forward: fn(&Net, Tensor<D>) -> Vec<Tensor<2>>,
) -> (Coverage, Vec<Trace>, Boundary) {
    let plan = Coverage::new(vec![Symbol::new("batch", true, None, None).unwrap()]);
    let net = Net::new();
    let traces: Vec<Trace> = plan
        .recorded()
        .iter()
        .map(|sizes| {
            let dims: Vec<usize> = [sizes.as_slice(), &shape[1..]].concat();
            record(&net, &[TensorData::zeros::<f32, _>(dims)], format!("batch {}", sizes[0]), &forward).unwrap()
        })
        .collect();
    let mut dims = vec![Dim::symbol("batch")];
    dims.extend(shape[1..].iter().map(|&size| Dim::Size(size)));
    let outputs = (0..traces[0].outputs.len()).map(|index| format!("output_{index}")).collect();
    (plan, traces, Boundary { inputs: vec![("x".into(), dims)], outputs })
}

#[test]
fn changed_recordings_never_panic() {
    let cases = std::env::var("VITRINE_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let subjects = [recorded([0, 3, 8, 6], Net::pictures), recorded([0, 5, 6], Net::sequence)];
    for (plan, traces, boundary) in &subjects {
        pipeline(plan, traces.clone(), boundary, crate::DEFAULT_OPSET).unwrap();
    }
    hide_expected_panics();
    let mut accepted = 0;
    for case in 0..cases {
        let mut dice = Dice(case << 32);
        let (plan, traces, boundary) = &subjects[dice.roll(2)];
        let opset = 17 + dice.roll(7) as u32;
        let mut changed = traces.clone();
        mutate(&mut changed, &mut dice);
        match quietly(|| caught(|| pipeline(plan, changed, boundary, opset))) {
            Ok(Ok(())) => accepted += 1,
            Ok(Err(_)) => {}
            Err(message) => panic!("case {case} panicked: {message}"),
        }
    }
    // Both outcomes must occur: some changes are harmless.
    assert!((cases / 50..cases).contains(&accepted), "{accepted} of {cases} cases were accepted");
}
