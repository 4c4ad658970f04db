//! Compares the kernels with Burn's layers and with finite differences, on shapes that are no multiples of the block
//! sizes.

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData, module};
use contract::fill::fill;

use super::*;

/// Two f32 sums of the same terms in another order, relative to the largest value: some hundred roundings.
const SAME_TERMS: f32 = 2e-5;

fn filled<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(fill(name, &shape), shape), device)
}

fn data<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn assert_same(what: &str, ours: &[f32], burns: &[f32]) {
    assert_eq!(ours.len(), burns.len(), "{what}");
    // Terms are of size 1 and may cancel, so no result can be more accurate than they are.
    let scale = burns.iter().fold(1e-2f32, |max, value| max.max(value.abs()));
    let off = ours.iter().zip(burns).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off <= SAME_TERMS * scale, "{what}: off {off:.1e}, values to {scale:.1e}");
}

struct ConvCase {
    input: [usize; 4],
    output: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
    bias: bool,
}

fn conv_cases() -> Vec<ConvCase> {
    let case = |input, output, kernel, stride, padding| ConvCase {
        input,
        output,
        kernel: [kernel, kernel],
        stride: [stride, stride],
        padding: [padding, padding],
        groups: 1,
        bias: false,
    };
    let depthwise = |input: [usize; 4], stride| ConvCase { groups: input[1], ..case(input, input[1], 3, stride, 1) };
    let wide =
        |input: [usize; 4], kernel| ConvCase { groups: input[1], ..case(input, input[1], kernel, 1, kernel / 2) };
    vec![
        depthwise([1, 1, 1, 1], 1),
        depthwise([1, 1, 1, 1], 2),
        depthwise([2, 3, 5, 7], 1),
        depthwise([2, 3, 5, 7], 2),
        depthwise([3, 17, 8, 6], 1),
        depthwise([3, 17, 8, 6], 2),
        depthwise([1, 2, 1, 9], 2),
        depthwise([1, 2, 33, 2], 1),
        ConvCase { bias: true, ..depthwise([2, 4, 16, 32], 1) },
        wide([2, 3, 5, 7], 5),
        wide([1, 2, 1, 1], 5),
        ConvCase { bias: true, ..wide([2, 19, 8, 8], 5) },
        wide([2, 3, 5, 7], 7),
        wide([1, 2, 2, 1], 7),
        ConvCase { bias: true, ..wide([2, 19, 14, 9], 7) },
        // Left to Burn: stride 2.
        ConvCase { stride: [2, 2], ..wide([1, 3, 6, 9], 5) },
        case([1, 1, 1, 1], 1, 1, 1, 0),
        case([3, 5, 1, 1], 7, 1, 1, 0),
        ConvCase { bias: true, ..case([3, 5, 1, 1], 7, 1, 1, 0) },
        case([2, 16, 8, 4], 16, 1, 1, 0),
        case([5, 37, 9, 5], 19, 1, 1, 0),
        case([1, 300, 12, 13], 13, 1, 1, 0),
        ConvCase { bias: true, ..case([2, 6, 3, 3], 70, 1, 1, 0) },
        case([2, 6, 7, 5], 4, 1, 2, 0),
        case([2, 3, 19, 15], 8, 7, 2, 3),
        case([4, 5, 11, 6], 9, 3, 1, 1),
        case([1, 5, 11, 6], 31, 3, 2, 1),
        case([2, 2, 6, 7], 3, 2, 2, 0),
        case([1, 4, 3, 3], 2, 3, 1, 0),
        case([2, 3, 11, 8], 4, 3, 3, 1),
        ConvCase { bias: true, ..case([2, 3, 9, 20], 5, 4, 2, 1) },
        // Padding as wide as the kernel: whole rows of outputs see nothing.
        case([1, 2, 5, 4], 3, 3, 2, 3),
        ConvCase { kernel: [3, 1], padding: [1, 0], stride: [2, 1], ..case([2, 3, 7, 5], 4, 1, 1, 0) },
        // Left to Burn.
        ConvCase { groups: 2, ..case([2, 4, 5, 5], 6, 3, 1, 1) },
    ]
}

impl ConvCase {
    fn layer(&self, device: &Device) -> Conv2d {
        let [rows, columns] = self.padding;
        let mut conv = Conv2dConfig::new([self.input[1], self.output], self.kernel)
            .with_stride(self.stride)
            .with_padding(PaddingConfig2d::Explicit(rows, columns, rows, columns))
            .with_groups(self.groups)
            .with_bias(self.bias)
            .init(device);
        let shape = conv.weight.dims();
        conv.weight = Param::from_tensor(filled("weight", shape, device));
        conv.bias = self.bias.then(|| Param::from_tensor(filled("bias", [self.output], device)));
        conv
    }

    /// The output, then the gradients of input, weight and bias of Σ output · constants.
    fn run(&self, layer: impl Fn(&Conv2d, Tensor<4>) -> Tensor<4>) -> Vec<Vec<f32>> {
        let device = Device::flex().autodiff();
        let conv = self.layer(&device);
        let input = filled("input", self.input, &device).require_grad();
        let output = layer(&conv, input.clone());
        let grads = (output.clone() * filled("grad", output.dims(), &device)).sum().backward();
        let bias = conv.bias.as_ref().map(|bias| data(bias.grad(&grads).unwrap()));
        let results = [data(output), data(input.grad(&grads).unwrap()), data(conv.weight.grad(&grads).unwrap())];
        results.into_iter().chain(bias).collect()
    }
}

#[test]
fn convolutions_match_burns() {
    for (k, case) in conv_cases().iter().enumerate() {
        let (ours, burns) = (case.run(conv2d), case.run(|conv, input| conv.forward(input)));
        for (part, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
            assert_same(&format!("case {k}, {:?}, part {part}", case.input), ours, burns);
        }
        let device = Device::flex();
        let (conv, input) = (case.layer(&device), filled("input", case.input, &device));
        assert_eq!(data(conv2d(&conv, input)), ours[0], "without autodiff");
    }
}

/// The reference differences are our own code: with strides and padding, a mistake shared with Burn would show here.
#[test]
fn convolution_gradients_match_finite_differences() {
    for case in conv_cases().iter().filter(|case| case.input.iter().product::<usize>() < 300) {
        let grads = case.run(conv2d);
        let device = Device::flex();
        let conv = case.layer(&device);
        let loss = |conv: &Conv2d, input: Tensor<4>| -> f64 {
            let output = conv2d(conv, input);
            let weights = filled("grad", output.dims(), &device);
            data(output * weights).iter().map(|&value| f64::from(value)).sum()
        };
        let input = fill("input", &case.input);
        let weight = data(conv.weight.val());
        // The function is linear in each argument, so the step may be large.
        let step = 0.5f32;
        for at in (0..input.len()).step_by(7) {
            let moved = |by: f32| {
                let mut input = input.clone();
                input[at] += by;
                loss(&conv, Tensor::from_data(TensorData::new(input, case.input), &device))
            };
            let slope = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            assert!((slope - f64::from(grads[1][at])).abs() < 1e-4, "input {at}: {slope} for {}", grads[1][at]);
        }
        for at in (0..weight.len()).step_by(5) {
            let moved = |by: f32| {
                let mut weight = weight.clone();
                weight[at] += by;
                let mut conv = conv.clone();
                let shape = conv.weight.dims();
                conv.weight = Param::from_tensor(Tensor::from_data(TensorData::new(weight, shape), &device));
                loss(&conv, Tensor::from_data(TensorData::new(input.clone(), case.input), &device))
            };
            let slope = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            assert!((slope - f64::from(grads[2][at])).abs() < 1e-4, "weight {at}: {slope} for {}", grads[2][at]);
        }
    }
}

/// A weight shared by two layers, an input read by two, and an input that is a view.
#[test]
fn gradients_add_up_and_views_are_read_as_they_are() {
    let run = |layer: &dyn Fn(&Conv2d, Tensor<4>) -> Tensor<4>| {
        let device = Device::flex().autodiff();
        let cases = conv_cases();
        let conv = cases.iter().find(|case| case.input == [2, 16, 8, 4]).expect("a 1×1 convolution").layer(&device);
        let input = filled("input", [16, 2, 4, 8], &device).require_grad();
        let view = input.clone().permute([1, 0, 3, 2]);
        let output = layer(&conv, layer(&conv, view.clone()) + view);
        let grads = (output.clone() * filled("grad", output.dims(), &device)).sum().backward();
        [data(output), data(input.grad(&grads).unwrap()), data(conv.weight.grad(&grads).unwrap())]
    };
    let (ours, burns) = (run(&conv2d), run(&|conv, input| conv.forward(input)));
    ours.iter().zip(&burns).for_each(|(ours, burns)| assert_same("shared", ours, burns));
}

fn burns_norm<const D: usize>(
    input: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
    activated: bool,
) -> NormTrain<D> {
    let batch = module::batch_norm_train(input, scale, shift, epsilon);
    let output = if activated { relu(batch.output) } else { batch.output };
    NormTrain { output, mean: batch.mean, variance: batch.variance }
}

type Norm<const D: usize> = fn(Tensor<D>, Tensor<1>, Tensor<1>, f64, bool) -> NormTrain<D>;

/// The output, mean and variance, then the gradients of input, scale and shift.
fn run_norm<const D: usize>(layer: Norm<D>, shape: [usize; D], activated: bool) -> [Vec<f32>; 6] {
    let device = Device::flex().autodiff();
    let input = (filled("input", shape, &device) * 3.0 + 1.5).require_grad();
    let parameter = |name: &str| filled(name, [shape[1]], &device).require_grad();
    let (scale, shift) = (parameter("scale"), parameter("shift"));
    let normed = layer(input.clone(), scale.clone(), shift.clone(), 1e-5, activated);
    let grads = (normed.output.clone() * filled("grad", shape, &device)).sum().backward();
    [
        data(normed.output),
        data(normed.mean),
        data(normed.variance),
        data(input.grad(&grads).unwrap()),
        data(scale.grad(&grads).unwrap()),
        data(shift.grad(&grads).unwrap()),
    ]
}

#[test]
fn batch_norms_match_burns() {
    fn check<const D: usize>(shape: [usize; D]) {
        for activated in [false, true] {
            let ours = run_norm(batch_norm_train, shape, activated);
            let burns = run_norm(burns_norm, shape, activated);
            for (part, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
                assert_same(&format!("{shape:?}, activated {activated}, part {part}"), ours, burns);
            }
        }
    }
    check([2, 1]);
    check([8, 37]);
    check([3, 5, 7]);
    check([1, 1, 3, 3]);
    check([2, 3, 5, 7]);
    check([4, 16, 16, 8]);
    check([3, 2, 33, 67]);
}

#[test]
fn batch_norm_gradients_match_finite_differences() {
    let shape = [2, 3, 3, 2];
    let grads = run_norm(batch_norm_train, shape, false);
    let device = Device::flex().autodiff();
    let input: Vec<f32> = fill("input", &shape).iter().map(|value| value * 3.0 + 1.5).collect();
    let loss = |input: Vec<f32>| -> f64 {
        let input = Tensor::from_data(TensorData::new(input, shape), &device);
        let (scale, shift) = (filled("scale", [3], &device), filled("shift", [3], &device));
        let normed: NormTrain<4> = batch_norm_train(input, scale, shift, 1e-5, false);
        data(normed.output * filled("grad", shape, &device)).iter().map(|&value| f64::from(value)).sum()
    };
    // Small against values of size 1, large against rounding of a sum of 36: the error is about a thousandth.
    let step = 1e-2f32;
    for at in 0..input.len() {
        let moved = |by: f32| {
            let mut input = input.clone();
            input[at] += by;
            loss(input)
        };
        let slope = (moved(step) - moved(-step)) / f64::from(2.0 * step);
        assert!((slope - f64::from(grads[3][at])).abs() < 2e-3, "input {at}: {slope} for {}", grads[3][at]);
    }
}

/// The embedding of a picture does not depend on the rest of its batch.
#[test]
fn a_sample_does_not_depend_on_its_batch() {
    let device = Device::flex();
    for case in conv_cases() {
        let conv = case.layer(&device);
        let input = filled("input", case.input, &device);
        let together = conv2d(&conv, input.clone());
        for sample in 0..case.input[0] {
            let alone = conv2d(&conv, input.clone().narrow(0, sample, 1));
            assert_eq!(data(alone), data(together.clone().narrow(0, sample, 1)), "{:?}", case.input);
        }
    }
}

/// Training is resumed bit for bit, also on a machine with another number of processors.
#[test]
fn results_do_not_depend_on_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut results: Vec<Vec<f32>> = Vec::new();
            for case in conv_cases() {
                results.extend(case.run(conv2d));
            }
            results.extend(run_norm(batch_norm_train, [4, 16, 16, 8], true));
            results.extend(run_layer_norm(layer_norm, [700, 37], false));
            results.extend(run_gelu(gelu, [100, 333]));
            results
        })
    };
    let bits = |results: Vec<Vec<f32>>| results.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let one = bits(run(1));
    assert_eq!(one, bits(run(3)));
    assert_eq!(one, bits(run(1)));
}

/// The output and the gradients of all inputs, in order.
fn run_fused(shapes: &[[usize; 4]], layer: impl Fn(Vec<Tensor<4>>) -> Tensor<4>) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let named = shapes.iter().enumerate().map(|(k, shape)| filled(&format!("input.{k}"), *shape, &device));
    let inputs: Vec<_> = named.map(|input| input.require_grad()).collect();
    let output = layer(inputs.clone());
    let grads = (output.clone() * filled("grad", output.dims(), &device)).sum().backward();
    let of_inputs = inputs.iter().map(|input| data(input.grad(&grads).unwrap()));
    std::iter::once(data(output)).chain(of_inputs).collect()
}

#[test]
fn fused_operations_match_burns() {
    let halves = |mut inputs: Vec<Tensor<4>>| -> [[Tensor<4>; STREAMS]; 2] {
        let gates = inputs.split_off(STREAMS);
        [inputs.try_into().unwrap(), gates.try_into().unwrap()]
    };
    for shape in [[1, 1, 1, 1], [2, 3, 5, 7], [3, 16, 16, 8], [2, 5, 33, 67], [1, 2, 160, 128]] {
        let pair = |ours: bool| {
            run_fused(&[shape, shape], |inputs| {
                let [a, b] = inputs.try_into().unwrap();
                if ours { add_relu(a, b) } else { relu(a + b) }
            })
        };
        let pool = |ours: bool| {
            run_fused(&[shape], |inputs| {
                let [input] = inputs.try_into().unwrap();
                if ours { global_avg_pool(input) } else { module::adaptive_avg_pool2d(input, [1, 1]) }
            })
        };
        let gate = [shape[0], shape[1], 1, 1];
        let shapes = [shape, shape, shape, shape, gate, gate, gate, gate];
        let gated = |ours: bool| {
            run_fused(&shapes, |inputs| {
                let [streams, gates] = halves(inputs);
                if ours {
                    return gated_sum(streams, gates);
                }
                streams.into_iter().zip(gates).map(|(a, b)| a * b).reduce(|a, b| a + b).unwrap()
            })
        };
        for (name, ours, burns) in [
            ("add_relu", pair(true), pair(false)),
            ("pool", pool(true), pool(false)),
            ("gated_sum", gated(true), gated(false)),
        ] {
            for (part, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
                assert_same(&format!("{name} of {shape:?}, part {part}"), ours, burns);
            }
        }
    }
}

/// Evaluation has the bits of training.
#[test]
fn fused_operations_are_the_same_without_autodiff() {
    for shape in [[1, 1, 1, 1], [2, 3, 5, 7], [3, 16, 16, 8], [1, 2, 160, 128]] {
        let run = |device: &Device| {
            let filled = |name: &str, shape| filled(name, shape, device);
            let gate = [shape[0], shape[1], 1, 1];
            let streams = ["a", "b", "c", "d"].map(|name| filled(name, shape));
            let gates = ["e", "f", "g", "h"].map(|name| filled(name, gate));
            // One that is no piece of memory of its own.
            let turned = filled("t", [shape[1], shape[0], shape[2], shape[3]]).swap_dims(0, 1);
            [
                data(add_relu(filled("a", shape), turned.clone())),
                data(global_avg_pool(turned)),
                data(gated_sum(streams, gates)),
            ]
        };
        assert_eq!(run(&Device::flex()), run(&Device::flex().autodiff()), "{shape:?}");
    }
}

/// The layer of evaluation, which writes into its input's memory only where nobody else reads it.
#[test]
fn norms_with_given_statistics_match_burns() {
    fn check<const D: usize>(shape: [usize; D]) {
        let device = Device::flex();
        let given = || {
            let named = ["scale", "shift", "mean"].map(|name| filled(name, [shape[1]], &device));
            let [scale, shift, mean] = named;
            [scale, shift, mean, filled("variance", [shape[1]], &device).abs() + 0.1]
        };
        let [scale, shift, mean, variance] = given();
        let input = filled("input", shape, &device);
        let before = data(input.clone());
        let burns = module::batch_norm(input.clone(), scale, shift, mean, variance, 1e-5);
        for activated in [false, true] {
            let burns = if activated { relu(burns.clone()) } else { burns.clone() };
            let ours = batch_norm_given(input.clone(), given(), 1e-5, activated);
            assert_same(&format!("{shape:?}, activated {activated}"), &data(ours), &data(burns.clone()));
            assert_eq!(data(input.clone()), before, "{shape:?}: somebody else's tensor has changed");
            let alone = filled("input", shape, &device);
            assert_same(
                &format!("{shape:?} alone"),
                &data(batch_norm_given(alone, given(), 1e-5, activated)),
                &data(burns),
            );
        }
        let mut turned = shape;
        turned.swap(0, D - 1);
        let view = filled("input", turned, &device).swap_dims(0, D - 1);
        let [scale, shift, mean, variance] = given();
        let burns = module::batch_norm(view.clone(), scale, shift, mean, variance, 1e-5);
        assert_same(&format!("a view of {shape:?}"), &data(batch_norm_given(view, given(), 1e-5, false)), &data(burns));
    }
    check([1, 1, 1, 1]);
    check([2, 3, 5, 7]);
    check([3, 17, 16, 8]);
    check([1, 2, 160, 128]);
    check([5, 7]);
    check([1, 512]);
    check([4, 6, 9]);
}

/// The output and the gradient of the input.
fn run_gelu<const D: usize>(layer: impl Fn(Tensor<D>) -> Tensor<D>, shape: [usize; D]) -> [Vec<f32>; 2] {
    let device = Device::flex().autodiff();
    let input = (filled("input", shape, &device) * 4.0).require_grad();
    let output = layer(input.clone());
    let grads = (output.clone() * filled("grad", shape, &device)).sum().backward();
    [data(output), data(input.grad(&grads).unwrap())]
}

#[test]
fn gelus_match_burns() {
    for shape in [[1, 1], [3, 5], [7, 96], [130, 257]] {
        let (ours, burns) = (run_gelu(gelu, shape), run_gelu(burn::tensor::activation::gelu, shape));
        for (part, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
            let off = ours.iter().zip(burns).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off <= 2e-6, "{shape:?}, part {part}: off {off:.1e}");
        }
        let plain = gelu(filled("input", shape, &Device::flex()) * 4.0);
        assert_eq!(data(plain), ours[0], "without autodiff");
    }
}

const EPSILON: f64 = 1e-6;

type RowNorm<const D: usize> = fn(&LayerNorm, f64, Tensor<D>) -> Tensor<D>;

/// The output, then the gradients of input, scale and shift; the input may be a view.
fn run_layer_norm<const D: usize>(layer: RowNorm<D>, shape: [usize; D], view: bool) -> [Vec<f32>; 4] {
    let device = Device::flex().autodiff();
    let norm = filled_norm(shape[D - 1], &device);
    let mut stored = shape;
    if view {
        stored.swap(0, D - 1);
    }
    let input = (filled("input", stored, &device) * 3.0 + 1.5).require_grad();
    let rows = if view { input.clone().swap_dims(0, D - 1) } else { input.clone() };
    let output = layer(&norm, EPSILON, rows);
    let grads = (output.clone() * filled("grad", shape, &device)).sum().backward();
    let beta = norm.beta.as_ref().unwrap().grad(&grads).unwrap();
    [data(output), data(input.grad(&grads).unwrap()), data(norm.gamma.grad(&grads).unwrap()), data(beta)]
}

fn filled_norm(width: usize, device: &Device) -> LayerNorm {
    let mut norm = LayerNormConfig::new(width).with_epsilon(EPSILON).init(device);
    norm.gamma = Param::from_tensor(filled("gamma", [width], device));
    norm.beta = Some(Param::from_tensor(filled("beta", [width], device)));
    norm
}

#[test]
fn layer_norms_match_burns() {
    fn check<const D: usize>(shape: [usize; D]) {
        for view in [false, true] {
            let (ours, burns) = (
                run_layer_norm(layer_norm, shape, view),
                run_layer_norm(|norm, _, input: Tensor<D>| norm.forward(input), shape, view),
            );
            for (part, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
                assert_same(&format!("{shape:?}, view {view}, part {part}"), ours, burns);
            }
        }
        let device = Device::flex();
        let input = filled("input", shape, &device) * 3.0 + 1.5;
        let plain = layer_norm(&filled_norm(shape[D - 1], &device), EPSILON, input);
        assert_eq!(data(plain), run_layer_norm(layer_norm, shape, false)[0], "without autodiff");
    }
    check([2, 3]);
    check([5, 37]);
    check([130, 96]);
    check([300, 16]);
    check([2, 3, 5, 33]);
}

#[test]
fn layer_norms_without_a_shift_are_burns() {
    let device = Device::flex().autodiff();
    let mut norm = filled_norm(7, &device);
    norm.beta = None;
    let input = filled("input", [4, 7], &device);
    assert_eq!(data(layer_norm(&norm, EPSILON, input.clone())), data(norm.forward(input)));
}

#[test]
fn transposed_convolutions_match_burns() {
    let cases = [
        ([1, 1, 1, 1], 1, 4, 2, 1),
        ([2, 3, 5, 7], 6, 4, 2, 1),
        ([5, 17, 7, 7], 9, 4, 2, 1),
        ([2, 4, 3, 6], 5, 3, 1, 1),
        ([1, 2, 4, 3], 3, 2, 2, 0),
        ([3, 2, 2, 5], 2, 3, 3, 2),
        ([1, 3, 4, 4], 2, 5, 1, 0),
    ];
    for (input, output, kernel, stride, padding) in cases {
        let init = |device: &Device| {
            let mut conv = ConvTranspose2dConfig::new([input[1], output], [kernel, kernel])
                .with_stride([stride, stride])
                .with_padding([padding, padding])
                .init(device);
            conv.weight = Param::from_tensor(filled("conv.weight", [input[1], output, kernel, kernel], device));
            conv.bias = Some(Param::from_tensor(filled("conv.bias", [output], device)));
            conv
        };
        let run = |layer: &dyn Fn(&ConvTranspose2d, Tensor<4>) -> Tensor<4>| {
            let device = Device::flex().autodiff();
            let conv = init(&device);
            let map = filled("input", input, &device).require_grad();
            let made = layer(&conv, map.clone());
            let grads = (made.clone() * filled("grad", made.dims(), &device)).sum().backward();
            let bias = conv.bias.as_ref().unwrap().grad(&grads).unwrap();
            [data(made), data(map.grad(&grads).unwrap()), data(conv.weight.grad(&grads).unwrap()), data(bias)]
        };
        let (ours, burns) = (run(&conv_transpose2d), run(&|conv, map| conv.forward(map)));
        for (part, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
            assert_same(&format!("{input:?} to {output}, kernel {kernel}, stride {stride}, part {part}"), ours, burns);
        }
        let device = Device::flex();
        let plain = conv_transpose2d(&init(&device), filled("input", input, &device));
        assert_eq!(data(plain), ours[0], "without autodiff");
    }
}

/// The message of the panic in `run`.
fn refused<T>(run: impl FnOnce() -> T) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).err().expect("shapes do not fit");
    panic.downcast_ref::<String>().expect("a message with the shapes").clone()
}

/// On every device: without autodiff, with it, and where Burn's layers run instead.
#[test]
fn shapes_that_do_not_fit_are_named() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let ones = |shape: [usize; 4]| Tensor::<4>::ones(shape, &device);
        let row = |length: usize| Tensor::<1>::ones([length], &device);
        // Dense, pointwise on one pixel, depthwise, and one in groups that Burn's layer runs.
        for (kernel, groups, input, channels, weight) in [
            (3, 1, [2, 5, 6, 6], 4, "[6, 4, 3, 3]"),
            (1, 1, [2, 3, 1, 1], 4, "[6, 4, 1, 1]"),
            (3, 6, [2, 7, 6, 6], 6, "[6, 1, 3, 3]"),
            (3, 2, [2, 5, 6, 6], 4, "[6, 2, 3, 3]"),
        ] {
            let pad = PaddingConfig2d::Explicit(kernel / 2, kernel / 2, kernel / 2, kernel / 2);
            let config = Conv2dConfig::new([channels, 6], [kernel, kernel]).with_groups(groups).with_padding(pad);
            let message = refused(|| conv2d(&config.init(&device), ones(input)));
            let wanted = format!(
                "conv2d: the weight {weight} in {groups} groups takes {channels} input channels, the input {input:?} \
                 has {}",
                input[1]
            );
            assert_eq!(message, wanted);
        }
        let conv = ConvTranspose2dConfig::new([4, 3], [4, 4]).init(&device);
        assert_eq!(
            refused(|| conv_transpose2d(&conv, ones([2, 5, 3, 3]))),
            "conv_transpose2d: the weight [4, 3, 4, 4] takes 4 input channels, the input [2, 5, 3, 3] has 5"
        );
        for (scale, shift, text) in [(3, 4, "scale [3]"), (4, 5, "shift [5]")] {
            let message = refused(|| batch_norm_train(ones([2, 4, 3, 3]), row(scale), row(shift), 1e-5, false).mean);
            let wanted =
                format!("batch_norm_train: the {text} does not have one value per channel of the input [2, 4, 3, 3]");
            assert_eq!(message, wanted);
        }
        // Shapes that Burn's sum would broadcast.
        assert_eq!(
            refused(|| add_relu(ones([2, 4, 3, 3]), ones([2, 4, 1, 3]))),
            "add_relu: the left side [2, 4, 3, 3] and the right side [2, 4, 1, 3] must have one shape"
        );
        let four = |shape: [usize; 4]| std::array::from_fn::<_, STREAMS, _>(|_| ones(shape));
        let mut streams = four([2, 4, 3, 3]);
        streams[2] = ones([2, 4, 3, 1]);
        let message = refused(|| gated_sum(streams, four([2, 4, 1, 1])));
        assert!(message.starts_with("gated_sum: a stream [2, 4, 3, 1] with the gate [2, 4, 1, 1]"), "{message}");
        let message = refused(|| gated_sum(four([2, 4, 3, 3]), four([1, 4, 1, 1])));
        assert!(message.starts_with("gated_sum: a stream [2, 4, 3, 3] with the gate [1, 4, 1, 1]"), "{message}");
        let step = AdamStep { penalty: 0.0, kept: 1.0, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, root: 1.0, rate: 1e-3 };
        let message = refused(|| adam([row(4), row(4), row(3), row(4)], &step));
        assert!(message.starts_with("adam: a value [4] with moments and gradient [[4], [3], [4]]"), "{message}");
    }
}
