//! One small function per operation, compared between Burn and ONNX Runtime at an early, the default and a late
//! operator set, optimised and as recorded.

use burn::module::{Module, Param};
use burn::tensor::module::{
    adaptive_avg_pool2d, avg_pool2d, conv_transpose2d, conv2d, interpolate, layer_norm, linear, max_pool2d,
};
use burn::tensor::ops::{
    AvgPoolOptions, ConvOptions, ConvTransposeOptions, InterpolateMode, InterpolateOptions, MaxPoolOptions,
};
use burn::tensor::{Bool, Int, Tensor, activation as act, s};
use contract::Axis;
use export::{Exporter, Outputs};

use crate::{batch_of, known, verified};

/// Parameters for the operations that need some.
#[derive(Module, Debug)]
struct Weights {
    kernel: Param<Tensor<4>>,
    matrix: Param<Tensor<2>>,
    vector: Param<Tensor<1>>,
}

fn weights() -> Weights {
    Weights {
        kernel: Param::from_tensor(known("kernel", [4, 4, 3, 3])),
        matrix: Param::from_tensor(known("matrix", [6, 5])),
        vector: Param::from_tensor(known("vector", [4])),
    }
}

/// Exports at several operator sets and compares.
fn check<const D: usize, O: Outputs + 'static>(
    name: &str,
    row: &[usize],
    forward: impl Fn(&Weights, Tensor<D>) -> O + Clone + 'static,
) {
    for (opset, optimise) in [(17, true), (20, true), (20, false), (23, true)] {
        let model = Exporter::new(name)
            .opset(opset)
            .optimise(optimise)
            .input("x", batch_of(row))
            .export(&weights(), forward.clone())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        verified(&model);
    }
}

#[test]
fn arithmetic() {
    type T = Tensor<2>;
    check("add", &[6], |_, x: T| x.clone() + x);
    check("scalars", &[6], |_, x: T| ((x + 1.5) * 2.0 - 0.25) / 3.0);
    check("negate", &[6], |_, x: T| -x);
    check("divide", &[6], |_, x: T| x.clone() / (x.abs() + 0.5));
    check("remainder", &[6], |_, x: T| x.clone().remainder_scalar(0.3) + x.clone().remainder(x.abs() + 0.7));
    check("powers", &[6], |_, x: T| x.clone().square() + x.clone().powf_scalar(3.0) + x.abs().powf_scalar(0.5));
    check("reciprocal", &[6], |_, x: T| (x.abs() + 0.5).recip());
    check("clamps", &[6], |_, x: T| x.clone().clamp(-0.5, 0.25) + x.clone().clamp_min(0.1) + x.clamp_max(0.2));
    check("sign", &[6], |_, x: T| x.sign());
    check("broadcast", &[4], |w, x: T| x * w.vector.val().unsqueeze::<2>());
}

#[test]
fn functions() {
    type T = Tensor<2>;
    check("exp", &[6], |_, x: T| x.exp());
    check("logs", &[6], |_, x: T| (x.clone().abs() + 0.1).log() + x.abs().log1p());
    check("roots", &[6], |_, x: T| (x.abs() + 0.01).sqrt());
    check("trigonometry", &[6], |_, x: T| x.clone().sin() + x.clone().cos() + (x * 0.3).tan());
    check("hyperbolic", &[6], |_, x: T| x.clone().tanh() + x.clone().sinh() + x.cosh());
    check("erf", &[6], |_, x: T| x.erf());
    check("rounding", &[6], |_, x: T| (x.clone() * 7.3).round() + (x.clone() * 5.1).floor() + (x * 3.7).ceil());
}

#[test]
fn comparisons_and_masks() {
    type T = Tensor<2>;
    check("compare", &[6], |_, x: T| {
        let y = x.clone() * x.clone();
        let all: Vec<Tensor<2, Bool>> = vec![
            x.clone().greater(y.clone()),
            x.clone().greater_equal(y.clone()),
            x.clone().lower(y.clone()),
            x.clone().lower_equal(y.clone()),
            x.clone().equal(y.clone()),
            x.clone().not_equal(y),
            x.clone().greater_elem(0.2),
            x.lower_equal_elem(0.1),
        ];
        all.into_iter().map(|mask| mask.float()).reduce(|a, b| a + b).unwrap()
    });
    check("mask", &[6], |_, x: T| {
        let mask = x.clone().greater_elem(0.0);
        x.clone().mask_where(mask.clone(), -x.clone()) + x.mask_fill(mask.bool_not(), 3.0)
    });
    check("logic", &[6], |_, x: T| {
        let (a, b) = (x.clone().greater_elem(0.0), x.lower_elem(0.5));
        (a.clone().bool_and(b.clone())).float() + (a.clone().bool_or(b.clone())).float() + (a.bool_xor(b)).float()
    });
    check("any", &[6], |_, x: T| {
        let mask = x.greater_elem(0.9);
        (mask.clone().any_dim(1).float(), mask.all_dim(1).float())
    });
}

#[test]
fn reductions() {
    type T = Tensor<3>;
    check("along", &[4, 5], |_, x: T| {
        x.clone().sum_dim(1) + x.clone().mean_dim(1) + x.clone().max_dim(1) + x.min_dim(1)
    });
    check("whole", &[4, 5], |_, x: T| (x.clone().mean(), x.clone().max(), x.min()));
    check("product", &[4, 5], |_, x: T| x.prod_dim(2));
    check("largest", &[4, 5], |_, x: T| x.max_abs_dim(2));
    check("positions", &[4, 5], |_, x: T| (x.clone().argmax(2), x.argmin(1)));
    check("with-index", &[4, 5], |_, x: T| x.max_dim_with_indices(2));
    check("top", &[4, 5], |_, x: T| x.topk(2, 2));
    check("sort", &[4, 5], |_, x: T| (x.clone().sort(2), x.sort_descending(1)));
    check("cumulated", &[4, 5], |_, x: T| x.cumsum(2));
}

#[test]
fn movement() {
    type T = Tensor<3>;
    check("reshape", &[4, 6], |_, x: T| {
        let [batch, ..] = x.dims();
        x.reshape([batch, 8, 3])
    });
    check("fold-batch", &[4, 6], |_, x: T| {
        let [batch, ..] = x.dims();
        x.reshape([batch * 4, 6]) * 2.0
    });
    check("permute", &[4, 6], |_, x: T| (x.clone().permute([0, 2, 1]), x.swap_dims(0, 1)));
    check("slices", &[4, 6], |_, x: T| {
        let [batch, ..] = x.dims();
        (x.clone().slice([0..batch, 1..3, 0..6]), x.clone().narrow(2, 2, 3), x.slice(s![.., .., 0..6;2]))
    });
    check("backwards", &[4, 6], |_, x: T| (x.clone().slice(s![.., .., 1..5;-1]), x.flip([1, 2])));
    check("cat", &[4, 6], |_, x: T| Tensor::cat(vec![x.clone(), x.clone() * 2.0, x], 2));
    check("stack", &[4, 6], |_, x: T| Tensor::stack::<4>(vec![x.clone(), x * 2.0], 3));
    check("repeat", &[4, 6], |_, x: T| x.repeat_dim(1, 3));
    check("expand", &[1, 6], |_, x: T| {
        let [batch, ..] = x.dims();
        x.expand([batch, 5, 6])
    });
    check("squeeze", &[1, 6], |_, x: T| x.squeeze_dim::<2>(1));
    check("select", &[4, 6], |_, x: T| {
        let order = Tensor::<1, Int>::from_ints([2, 0, 2], &x.device());
        x.select(1, order)
    });
    check("halves", &[4, 6], |_, x: T| x.chunk(2, 2));
}

#[test]
fn matrices() {
    check("matmul", &[6], |w, x: Tensor<2>| x.matmul(w.matrix.val()));
    check("gram", &[4, 6], |_, x: Tensor<3>| x.clone().matmul(x.transpose()));
    check("linear2", &[6], |w, x: Tensor<2>| {
        linear(x, w.matrix.val(), Some(w.matrix.val().slice([0..1, 0..5]).squeeze_dim(0)))
    });
    check("linear3", &[4, 6], |w, x: Tensor<3>| linear(x, w.matrix.val(), None));
}

#[test]
fn activations() {
    type T = Tensor<3>;
    check("relu", &[4, 6], |_, x: T| act::relu(x));
    check("leaky", &[4, 6], |_, x: T| act::leaky_relu(x, 0.1));
    check("sigmoid", &[4, 6], |_, x: T| act::sigmoid(x));
    check("log-sigmoid", &[4, 6], |_, x: T| act::log_sigmoid(x));
    check("hard-sigmoid", &[4, 6], |_, x: T| act::hard_sigmoid(x, 0.2, 0.5));
    check("gelu", &[4, 6], |_, x: T| act::gelu(x));
    check("silu", &[4, 6], |_, x: T| act::silu(x));
    check("softmax", &[4, 6], |_, x: T| (act::softmax(x.clone(), 1), act::softmax(x, 2)));
    check("log-softmax", &[4, 6], |_, x: T| act::log_softmax(x, 2));
    check("softplus", &[4, 6], |_, x: T| act::softplus(x, 1.0));
    check("tanh", &[4, 6], |_, x: T| act::tanh(x));
    check("layer-norm", &[6, 4], |w, x: T| layer_norm(x, w.vector.val(), Some(w.vector.val() * 0.5), 1e-5));
}

#[test]
fn convolutions() {
    type T = Tensor<4>;
    check("conv", &[4, 9, 7], |w, x: T| {
        conv2d(x, w.kernel.val(), Some(w.vector.val()), ConvOptions::new([2, 1], [1, 1], [1, 1], 1))
    });
    check("grouped", &[8, 9, 7], |w, x: T| {
        conv2d(x, w.kernel.val(), None, ConvOptions::new([1, 1], [0, 0], [1, 2], 2))
    });
    check("depthwise", &[4, 9, 7], |w, x: T| {
        let kernel = w.kernel.val().slice([0..4, 0..1, 0..3, 0..3]);
        conv2d(x, kernel, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 4))
    });
    check("transposed", &[4, 5, 3], |w, x: T| {
        let options = ConvTransposeOptions::new([2, 2], [1, 1], [1, 0], [1, 1], 1);
        conv_transpose2d(x, w.kernel.val(), Some(w.vector.val()), options)
    });
}

#[test]
fn poolings() {
    type T = Tensor<4>;
    check("max", &[4, 9, 8], |_, x: T| {
        max_pool2d(
            x,
            MaxPoolOptions { ceil_mode: false, ..MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]) },
        )
    });
    check("max-up", &[4, 8, 9], |_, x: T| {
        max_pool2d(
            x,
            MaxPoolOptions { ceil_mode: true, ..MaxPoolOptions::new([2, 2]).with_stride([2, 2]).with_padding([0, 0]) },
        )
    });
    check("average", &[4, 9, 8], |_, x: T| {
        avg_pool2d(
            x,
            AvgPoolOptions {
                count_include_pad: true,
                ..AvgPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1])
            },
        )
    });
    check("average-inner", &[4, 9, 8], |_, x: T| {
        avg_pool2d(
            x,
            AvgPoolOptions {
                count_include_pad: false,
                ..AvgPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1])
            },
        )
    });
    check("global", &[4, 9, 8], |_, x: T| adaptive_avg_pool2d(x, [1, 1]));
    check("two bins", &[4, 8, 6], |_, x: T| adaptive_avg_pool2d(x, [2, 1]));
    check("uneven", &[4, 7, 5], |_, x: T| adaptive_avg_pool2d(x, [3, 2]));
    check("maxima", &[4, 9, 8], |_, x: T| x.max_dim(3).max_dim(2));
}

#[test]
fn interpolation() {
    // Burn's CPU backend has no `NearestExact` to compare with.
    let modes = [
        ("nearest", InterpolateMode::Nearest, false),
        ("linear", InterpolateMode::Bilinear, false),
        ("linear-corners", InterpolateMode::Bilinear, true),
        ("cubic", InterpolateMode::Bicubic, false),
    ];
    for (name, mode, corners) in modes {
        // Written with factors, and with sizes where factors are not exact in f32.
        for (way, size) in [("", [10, 9]), ("-sizes", [9, 10])] {
            let mode = mode.clone();
            let forward = move |_: &Weights, x: Tensor<4>| {
                let options = InterpolateOptions::new(mode.clone()).with_align_corners(corners);
                interpolate(x, options.with_output_size(size))
            };
            check(&format!("{name}{way}"), &[3, 5, 6], forward);
        }
    }
}

#[test]
fn integers_and_several_inputs() {
    let model = Exporter::new("embedding")
        .integers("tokens", batch_of(&[3]), 0, 6)
        .input("scale", [Axis::Symbol("batch".into()), Axis::Size(5)])
        .output("scaled")
        .output("sums")
        .export(&weights(), |w: &Weights, (tokens, scale): (Tensor<2, Int>, Tensor<2>)| {
            let found = burn::tensor::module::embedding(w.matrix.val(), tokens.clone());
            (found * scale.unsqueeze_dim::<3>(1), [tokens.sum_dim(1)])
        })
        .unwrap();
    verified(&model);
    let names: Vec<_> = model.outputs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["scaled", "sums"]);
}
