//! Random small networks, exported and compared with Burn, optimised and as recorded. Cases are numbered, and a failing
//! one prints its number and steps; `VITRINE_RANDOM_CASES` runs more.

use burn::module::{Module, Param};
use burn::tensor::activation::{gelu, gelu_approximate, hard_swish, leaky_relu, relu, sigmoid, silu, softmax};
use burn::tensor::module::{adaptive_avg_pool2d, avg_pool2d, conv2d, layer_norm, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use contract::{Axis, fill};
use export::{ExportError, ExportedModel, Exporter};

use crate::known;
use crate::operations::session;

/// Cases in a normal run: about three seconds.
const CASES: u64 = 48;

#[derive(Module, Debug)]
struct Weights {
    kernels: Param<Tensor<4>>,
    gamma: Param<Tensor<1>>,
}

/// Two random numbers that choose an operation and its second tensor.
#[derive(Debug, Clone, Copy)]
struct Step {
    kind: usize,
    detail: usize,
}

const KINDS: usize = 30;

fn program(seed: u64) -> Vec<Step> {
    let draw = |index: u64| fill::splitmix64(seed.wrapping_mul(1000).wrapping_add(index)) as usize;
    let length = 4 + draw(0) % 9;
    (0..length as u64)
        .map(|index| Step { kind: draw(2 * index + 1) % KINDS, detail: draw(2 * index + 2) % 60 })
        .collect()
}

/// Applies one step to `x` and an earlier tensor `other`. Tensors keep rank 4 and axes of size 1 or more.
fn apply(step: Step, weights: &Weights, x: Tensor<4>, other: Tensor<4>) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    let axis = 1 + step.detail % 3;
    let scale = 0.25 + step.detail as f64 / 40.0;
    match step.kind {
        0 => relu(x),
        1 => x.tanh(),
        2 => sigmoid(x),
        3 => gelu(x),
        4 => gelu_approximate(x),
        5 => silu(x),
        6 => hard_swish(x * scale),
        7 => leaky_relu(x, 0.1),
        8 => x * scale + 0.5,
        9 => (x.abs() + scale).sqrt(),
        10 => x.clamp(-scale, scale),
        11 => softmax(x, axis),
        12 => x.clone() - x.mean_dim(axis),
        13 => x.clone() * x.max_dim(axis),
        14 => x.permute([0, 3, 1, 2]),
        15 => x.swap_dims(1 + step.detail % 3, 1 + (step.detail / 3) % 3),
        16 => x.flip([axis as isize]),
        17 => Tensor::cat(vec![x.clone(), x], axis),
        18 if x.dims()[axis] > 1 => {
            let size = x.dims()[axis];
            x.narrow(axis, size / 2, size - size / 2)
        }
        19 => x.reshape([batch, rows, channels, columns]),
        20 => x.reshape([batch, channels * rows, columns, 1]),
        21 => x.reshape([batch * channels, rows, columns]).sum_dim(1).reshape([batch, channels, 1, columns]),
        22 => x.clone().matmul(x.transpose()).mul_scalar(0.2),
        23 if channels <= 6 => {
            let kernel = weights.kernels.val().slice([0..4, 0..channels, 0..1, 0..1]);
            conv2d(x, kernel, None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1))
        }
        24 if channels <= 6 => {
            let kernel = weights.kernels.val().slice([0..5, 0..channels]);
            conv2d(x, kernel, None, ConvOptions::new([1 + step.detail % 2, 1], [1, 1], [1, 1], 1))
        }
        25 => max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([1 + step.detail % 2, 1]).with_padding([1, 1])),
        26 => avg_pool2d(x, AvgPoolOptions::new([1, 1]).with_stride([2, 1]).with_padding([0, 0])),
        27 => adaptive_avg_pool2d(x, [1, 1]),
        28 if columns <= 8 => {
            let gamma = weights.gamma.val().narrow(0, 0, columns);
            layer_norm(x, gamma.clone(), Some(gamma * 0.5), 1e-5)
        }
        _ if other.dims() == x.dims() => match step.detail % 3 {
            0 => x + other,
            1 => x * other,
            _ => other - x,
        },
        _ => x.cumsum(axis) * 0.3,
    }
}

/// All intermediate tensors.
fn forward(steps: &[Step], weights: &Weights, x: Tensor<4>) -> Vec<Tensor<4>> {
    let mut made = vec![x];
    for step in steps {
        // Average tensors that have grown, to keep sizes small.
        let x = made[made.len() - 1].clone();
        let [_, channels, rows, columns] = x.dims();
        let x = if channels * rows * columns > 4000 { x.mean_dim(1) } else { x };
        let other = made[step.detail % made.len()].clone();
        made.push(apply(*step, weights, x, other));
    }
    made
}

/// The last tensor and one in the middle.
fn outputs(made: &[Tensor<4>]) -> [Tensor<4>; 2] {
    [made[made.len() - 1].clone(), made[made.len() / 2].clone()]
}

fn weights(dtype: FloatDType) -> Weights {
    Weights {
        kernels: Param::from_tensor((known("kernels", [5, 6, 3, 3]) * 0.3).cast(dtype)),
        gamma: Param::from_tensor(known("gamma", [8]).cast(dtype)),
    }
}

/// Varied inputs: noise, large numbers, a constant, zeros, and few distinct numbers.
fn inputs(case: u64, rows: usize) -> Vec<TensorData> {
    let shape = [3, 3, rows, 4];
    let noise: Vec<f32> =
        fill::unit(&format!("random {case}"), shape.iter().product()).map(|u| (2.0 * u - 1.0) as f32).collect();
    let kinds: [fn(f32) -> f32; 5] = [|u| u, |u| 30.0 * u, |_| 0.4, |_| 0.0, |u| (2.0 * u).round() / 2.0];
    kinds.iter().map(|kind| TensorData::new(noise.iter().map(|&u| kind(u)).collect(), shape)).collect()
}

/// Rounding error of a short f32 sum, as a share of the largest intermediate number.
const ROUNDING: f64 = 2e-6;

/// Factor by which two orders of the same sums may differ in rounding.
const ORDERS: f64 = 8.0;

/// A message if ONNX Runtime and Burn differ by more than f32 explains. The limit comes from Burn in f64, because
/// chains of random steps magnify rounding by very different factors, up to a thousand.
fn excess(model: &ExportedModel, steps: &[Step], input: &TensorData) -> Option<String> {
    let x = Tensor::<4>::from_data(input.clone(), &Device::flex()).cast(FloatDType::F64);
    let made = forward(steps, &weights(FloatDType::F64), x);
    let sizes = made.iter().flat_map(|x| x.clone().max_abs().into_data().iter::<f64>().collect::<Vec<_>>());
    let floor = ROUNDING * sizes.fold(0.0, f64::max);
    let (burn, found) = match session::run(model, std::slice::from_ref(input)) {
        Ok(found) => (model.reference(vec![input.clone()]), found),
        Err(error) => return Some(error),
    };
    let distance = |a: &TensorData, b: &TensorData| {
        a.iter::<f64>().zip(b.iter::<f64>()).fold(0.0f64, |worst, (a, b)| {
            let apart = (a - b).abs();
            if apart.is_nan() { f64::INFINITY } else { worst.max(apart) }
        })
    };
    outputs(&made).into_iter().map(Tensor::into_data).zip(&burn).zip(&found).find_map(|((exact, burn), found)| {
        if found.shape() != exact.shape() {
            return Some(format!("shape {:?}, {:?} expected", found.shape(), exact.shape()));
        }
        let (rounding, apart) = (distance(burn, &exact), distance(found, &exact));
        let allowed = floor + ORDERS * rounding;
        (apart > allowed || !allowed.is_finite())
            .then(|| format!("{apart:.1e} from the exact answer, Burn is {rounding:.1e}; {allowed:.1e} allowed"))
    })
}

#[test]
fn random_networks_agree_with_burn() {
    let cases: u64 = std::env::var("VITRINE_RANDOM_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let (mut refused, mut failures) = (0, vec![]);
    for case in 0..cases {
        let steps = program(case);
        // Every second network has a second dynamic axis.
        let (rows, sizes) = match case % 2 {
            0 => (Axis::Size(5), vec![5]),
            _ => (Axis::Symbol("rows".into()), vec![4, 7, 9]),
        };
        let axes = [Axis::Symbol("batch".into()), Axis::Size(3), rows, Axis::Size(4)];
        let opset = 17 + (case % 7) as u32;
        for optimise in [true, false] {
            let told = |problem: String| format!("case {case}, optimised {optimise}, {steps:?}: {problem}");
            let exporter = Exporter::new("random").opset(opset).optimise(optimise).input("x", axes.clone());
            let exporter = if case % 2 == 1 { exporter.recorded_at("rows", [4, 6, 9]) } else { exporter };
            let run = steps.clone();
            let model = match exporter.export(&weights(FloatDType::F32), move |w, x| outputs(&forward(&run, w, x))) {
                Ok(model) => model,
                // Refused because a size cannot be expressed, or because a step was chosen by a size. Rare, but a valid
                // outcome.
                Err(ExportError::Baked { .. } | ExportError::Diverged { .. } | ExportError::Trace { .. })
                    if case % 2 == 1 =>
                {
                    refused += 1;
                    continue;
                }
                Err(error) => {
                    failures.push(told(error.to_string()));
                    continue;
                }
            };
            let inputs = sizes.iter().flat_map(|&rows| inputs(case, rows));
            failures.extend(inputs.filter_map(|input| excess(&model, &steps, &input)).map(told).next());
        }
    }
    assert!(failures.is_empty(), "{} exports are wrong:\n{}", failures.len(), failures.join("\n"));
    assert!(refused <= cases / 4, "{refused} of {} exports were refused", 2 * cases);
}
