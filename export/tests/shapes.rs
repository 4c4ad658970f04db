//! Dynamic axes: resolved, computed, or refused with the operation's name; never baked in.

use burn::module::{Module, Param};
use burn::tensor::module::{
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, avg_pool2d, conv2d, interpolate, max_pool2d,
    max_pool2d_with_indices,
};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, InterpolateMode, InterpolateOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData, s};
use contract::Axis;
use export::{ExportError, Exporter};

use crate::operations::session;
use crate::{batch_of, known, verified};

#[derive(Module, Debug)]
struct Scale {
    scale: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
struct Net {
    first: Scale,
}

fn net() -> Net {
    Net { first: Scale { scale: Param::from_tensor(known("scale", [4])) } }
}

fn symbol(name: &str) -> Axis {
    Axis::Symbol(name.into())
}

#[test]
fn a_number_that_follows_the_batch_is_refused_with_its_place() {
    let error = Exporter::new("baked")
        .input("x", batch_of(&[4]))
        .export(&net(), |net: &Net, x: Tensor<2>| {
            let [batch, _] = x.dims();
            x * net.first.scale.val().unsqueeze::<2>() / batch as f64
        })
        .unwrap_err();
    let ExportError::Baked { operation, module, .. } = &error else { panic!("{error}") };
    assert_eq!((operation.as_str(), module.as_str()), ("NumericFloat::DivScalar", "first"));
}

#[test]
fn a_constant_that_follows_the_batch_is_refused() {
    let error = Exporter::new("baked")
        .input("x", batch_of(&[4]))
        .export(&net(), |_: &Net, x: Tensor<2>| {
            let [batch, _] = x.dims();
            let rows: Vec<f32> = (0..batch).map(|row| row as f32).collect();
            x.clone() + Tensor::<1>::from_floats(rows.as_slice(), &x.device()).reshape([batch, 1])
        })
        .unwrap_err();
    assert!(matches!(error, ExportError::Baked { .. }), "{error}");
}

#[test]
fn two_ways_to_compute_are_an_error() {
    let error = Exporter::new("two ways")
        .input("x", batch_of(&[4]))
        .export(&net(), |_: &Net, x: Tensor<2>| if x.dims()[0] > 2 { x.exp() } else { x.abs() })
        .unwrap_err();
    let ExportError::Diverged { first, second, .. } = &error else { panic!("{error}") };
    assert!(first.ends_with("at batch 2") && second.ends_with("at batch 3"), "{error}");
}

/// Both results are recorded at every size; the size decides which one is returned.
#[test]
fn outputs_that_depend_on_the_size_are_an_error() {
    let export = |forward: fn(&Net, Tensor<2>) -> Vec<Tensor<2>>| {
        Exporter::new("outputs").input("x", batch_of(&[4])).export(&net(), forward).unwrap_err()
    };
    let chosen = export(|_, x| {
        let (a, b) = (x.clone().exp(), x.clone().abs());
        vec![if x.dims()[0] > 4 { a } else { b }]
    });
    let ExportError::OutputsDiffer { first, second, detail } = &chosen else { panic!("{chosen}") };
    assert_eq!((first.as_str(), second.as_str()), ("batch 2", "batch 5"));
    assert!(detail.contains("output 0"), "{chosen}");
    let input = export(|_, x| vec![if x.dims()[0] > 4 { x.clone() } else { x.clone().exp() }, x.exp()]);
    assert!(matches!(input, ExportError::Diverged { .. } | ExportError::OutputsDiffer { .. }), "{input}");
    let count = export(|_, x| vec![x.clone().exp(); x.dims()[0]]);
    assert!(matches!(&count, ExportError::OutputsDiffer { detail, .. } if detail == "2 outputs, then 3"), "{count}");
    let constant = export(|_, x| vec![x.clone().exp(), Tensor::from_floats([[x.dims()[0] as f32]], &x.device())]);
    assert!(matches!(constant, ExportError::OutputsDiffer { .. }), "{constant}");
}

/// The model cannot compute a step, so it must be the same at all sizes.
#[test]
fn a_slice_step_that_follows_a_size_is_an_error() {
    let error = Exporter::new("step")
        .input("x", [symbol("batch"), symbol("height")])
        .export(&net(), |_: &Net, x: Tensor<2>| {
            let step = (x.dims()[1] / 32).max(1);
            x.slice(s![.., ..;step])
        })
        .unwrap_err();
    assert!(matches!(&error, ExportError::Baked { detail, .. } if detail.contains("step")), "{error}");
    let fixed = Exporter::new("step")
        .input("x", [symbol("batch"), symbol("height")])
        .export(&net(), |_: &Net, x: Tensor<2>| x.slice(s![.., 1..9;3]))
        .unwrap();
    verified(&fixed);
}

#[test]
fn shapes_are_computed_where_they_must_be() {
    let model = Exporter::new("computed")
        .input("x", batch_of(&[4, 6]))
        .export(&net(), |_: &Net, x: Tensor<3>| {
            let [batch, ..] = x.dims();
            let ones = Tensor::<3>::ones([batch, 2, 6], &x.device());
            (Tensor::cat(vec![x.clone(), ones], 1), x.reshape([batch * 2, 12]).slice([1..batch, 0..12]))
        })
        .unwrap();
    assert_eq!(model.outputs()[1].1[0], Axis::Symbol("batch - 1".into()));
    verified(&model);
}

#[test]
fn height_and_width_may_be_dynamic_too() {
    let model = Exporter::new("fully convolutional")
        .input("x", [symbol("batch"), Axis::Size(4), symbol("height"), symbol("width")])
        .recorded_at("height", [8, 12, 20])
        .recorded_at("width", [8, 12, 20])
        .export(&net(), |net: &Net, x: Tensor<4>| {
            let kernel = net.first.scale.val().reshape([4, 1, 1, 1]);
            let map = conv2d(x, kernel, None, ConvOptions::new([2, 2], [0, 0], [1, 1], 4));
            (adaptive_avg_pool2d(map.clone(), [1, 1]), map.clone().flatten::<3>(2, 3), map)
        })
        .unwrap();
    verified(&model);
}

#[test]
fn a_fixed_batch_stays_fixed() {
    let model = Exporter::new("fixed")
        .input("x", [Axis::Size(3), Axis::Size(4)])
        .export(&net(), |net: &Net, x: Tensor<2>| x * net.first.scale.val().unsqueeze::<2>())
        .unwrap();
    assert_eq!(model.outputs()[0].1, [Axis::Size(3), Axis::Size(4)]);
    let parity = model.verify(&crate::runtime()).unwrap();
    assert_eq!(parity.batch.iter().map(|batch| batch.batch).collect::<Vec<_>>(), [3]);
}

#[test]
fn adaptive_pooling_to_bins_follows_the_axis() {
    // Sizes that are multiples of the bins, that are not, and smaller ones.
    let exporter = |name: &str, rank: usize, sizes: [usize; 3]| {
        let symbols = ["depth", "height", "width"];
        let axes = [symbol("batch"), Axis::Size(2)].into_iter().chain(symbols[..rank].iter().copied().map(symbol));
        let exporter = Exporter::new(name).input("x", axes.collect::<Vec<_>>());
        symbols[..rank].iter().fold(exporter, |exporter, symbol| exporter.recorded_at(*symbol, sizes))
    };
    let line = exporter("bins of a line", 1, [2, 3, 7]);
    verified(&line.export(&net(), |_: &Net, x: Tensor<3>| adaptive_avg_pool1d(x, 4)).unwrap());
    let plane = exporter("bins of a plane", 2, [8, 13, 20]);
    let bins = |_: &Net, x: Tensor<4>| (adaptive_avg_pool2d(x.clone(), [2, 1]), adaptive_avg_pool2d(x, [5, 16]));
    let model = plane.clone().export(&net(), bins).unwrap();
    assert_eq!(model.outputs()[1].1[1..], [2, 5, 16].map(Axis::Size));
    verified(&model);
    verified(&plane.opset(17).optimise(false).export(&net(), bins).unwrap());
    let space = exporter("bins of a space", 3, [2, 4, 5]);
    verified(&space.export(&net(), |_: &Net, x: Tensor<5>| adaptive_avg_pool3d(x, [3, 1, 2])).unwrap());
}

#[test]
fn what_needs_a_fixed_axis_says_which_and_where() {
    let error = Exporter::new("rounding up")
        .input("x", [symbol("batch"), Axis::Size(4), symbol("height"), Axis::Size(8)])
        .recorded_at("height", [8, 12, 20])
        .export(&net(), |net: &Net, x: Tensor<4>| {
            let x = x * net.first.scale.val().reshape([1, 4, 1, 1]);
            max_pool2d(x, MaxPoolOptions::new([2, 2]).with_stride([3, 2]).with_padding([0, 0]).with_ceil_mode(true))
        })
        .unwrap_err();
    let ExportError::Baked { operation, module, detail } = &error else { panic!("{error}") };
    assert_eq!((operation.as_str(), module.as_str()), ("Module::MaxPool2d", "first"));
    assert!(detail.contains("needs a fixed axis, but this one is `height`"), "{error}");
}

/// Windows that end before, at and behind the input and its padding, at sizes with every remainder; a kernel wider than
/// the input.
#[test]
fn rounding_up_follows_the_axis() {
    let axes = [symbol("batch"), Axis::Size(2), symbol("height"), Axis::Size(5)];
    let plane = Exporter::new("rounding up").input("x", axes);
    for [kernel, stride, padding, dilation] in [[2, 2, 0, 1], [3, 2, 1, 1], [3, 3, 0, 1], [5, 3, 2, 1], [3, 2, 1, 2]] {
        for sizes in [[5, 6, 7], [8, 9, 13]] {
            let exporter = plane.clone().recorded_at("height", sizes);
            let forward = move |_: &Net, x: Tensor<4>| {
                let largest = MaxPoolOptions::new([kernel, 2]).with_stride([stride, 2]).with_padding([padding, 1]);
                let largest = largest.with_dilation([dilation, 1]).with_ceil_mode(true);
                let mean = |counted: bool| AvgPoolOptions {
                    count_include_pad: counted,
                    ceil_mode: true,
                    ..AvgPoolOptions::new([kernel, 2]).with_stride([stride, 2]).with_padding([padding, 1])
                };
                let (values, places) = max_pool2d_with_indices(x.clone(), largest);
                // At some of these sizes all traces agree; what follows must not treat that as a fixed size.
                (values.exp(), places, avg_pool2d(x.clone(), mean(true)), avg_pool2d(x, mean(false)))
            };
            let model = exporter.clone().export(&net(), forward).unwrap();
            assert!(matches!(&model.outputs()[0].1[2], Axis::Symbol(size) if size.contains("height")), "{model:?}");
            verified(&model);
            verified(&exporter.opset(17).optimise(false).export(&net(), forward).unwrap());
        }
    }
}

/// Sorting is `TopK` with the size of the axis; indices are counted inside a channel of any size.
#[test]
fn sorting_and_positions_follow_the_axis() {
    let model = Exporter::new("order")
        .input("x", [symbol("batch"), Axis::Size(3), symbol("height"), symbol("width")])
        .export(&net(), |_: &Net, x: Tensor<4>| {
            let pool = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
            // Of equal elements, Burn may return either index first.
            let ordered = |order| x.clone().gather(2, order);
            let (sorted, order) = x.clone().sort_descending_with_indices(2);
            let by_order = [sorted, ordered(order), ordered(x.clone().argsort(2))];
            (x.clone().sort(3), by_order, max_pool2d_with_indices(x, pool))
        })
        .unwrap();
    verified(&model);
}

#[test]
fn inputs_and_outputs_may_be_the_same_tensor() {
    let model = Exporter::new("same")
        .input("x", batch_of(&[4]))
        .export(&net(), |_: &Net, x: Tensor<2>| {
            let y = x.clone().exp();
            [y.clone(), y, x]
        })
        .unwrap();
    verified(&model);
}

#[test]
fn sizes_of_several_axes_are_computed_exactly() {
    let model = Exporter::new("several axes")
        .input("x", [symbol("batch"), Axis::Size(4), symbol("height"), symbol("width")])
        .input("y", [symbol("batch"), Axis::Size(4), symbol("other"), symbol("width")])
        .export(&net(), |net: &Net, (x, y): (Tensor<4>, Tensor<4>)| {
            let kernel = net.first.scale.val().reshape([4, 1, 1, 1]).repeat_dim(2, 3).repeat_dim(3, 3);
            let halved = conv2d(x.clone(), kernel, None, ConvOptions::new([2, 2], [1, 1], [1, 1], 4));
            let [batch, channels, height, width] = halved.dims();
            let both = Tensor::cat(vec![x, y], 2);
            let [_, _, tall, _] = both.dims();
            let grid = halved.clone().reshape([batch * 2, channels / 2, width * height]);
            let rows = halved.clone().permute([0, 2, 3, 1]).reshape([batch * height, width, channels]);
            let ones = Tensor::<2>::ones([height * width, tall], &both.device());
            (grid, rows, both.slice([0..batch, 0..4, tall / 2..tall]), halved.narrow(2, 0, height - 1), ones)
        })
        .unwrap();
    let size = |axis: &Axis| match axis {
        Axis::Size(size) => size.to_string(),
        Axis::Symbol(symbol) => symbol.clone(),
    };
    let sizes = |output: usize| model.outputs()[output].1.iter().map(size).collect::<Vec<_>>();
    assert_eq!(sizes(0), ["2*batch", "2", "floor((height + 1)/2)*floor((width + 1)/2)"]);
    assert_eq!(sizes(1), ["batch*floor((height + 1)/2)", "floor((width + 1)/2)", "4"]);
    assert_eq!(sizes(2)[2], "floor((height + other + 1)/2)");
    assert_eq!(sizes(3)[2], "floor((height + 1)/2) - 1");
    assert_eq!(sizes(4)[1], "height + other");
    verified(&model);
}

/// Whether a border is needed depends on whether the size is odd, which multiples of 32 do not show.
#[test]
fn padding_that_follows_a_remainder_is_refused() {
    let conv = burn::nn::conv::Conv2dConfig::new([3, 2], [3, 3])
        .with_stride([2, 2])
        .with_padding(burn::nn::PaddingConfig2d::Same)
        .init(&Device::flex());
    let error = Exporter::new("same padding")
        .input("x", [symbol("batch"), Axis::Size(3), symbol("height"), Axis::Size(8)])
        .export(&conv, |conv: &burn::nn::conv::Conv2d, x: Tensor<4>| conv.forward(x))
        .unwrap_err();
    assert!(matches!(error, ExportError::Baked { .. } | ExportError::Diverged { .. }), "{error}");
}

/// Positions count up to the length; any other constant that changes with the length is refused.
#[test]
fn only_constants_that_count_up_follow_a_size() {
    let exporter = || Exporter::new("counting").input("x", [symbol("batch"), symbol("length")]);
    let model = exporter()
        .export(&net(), |_: &Net, x: Tensor<2>| {
            let [_, length] = x.dims();
            let positions = Tensor::arange_step(3..3 + 2 * length as i64, 2, &x.device()).float();
            x + positions.unsqueeze::<2>()
        })
        .unwrap();
    verified(&model);
    let error = exporter()
        .export(&net(), |_: &Net, x: Tensor<2>| {
            let [_, length] = x.dims();
            let squares: Vec<i64> = (0..length as i64).map(|position| position * position).collect();
            let squares = Tensor::<1, burn::tensor::Int>::from_ints(squares.as_slice(), &x.device());
            x + squares.float().unsqueeze::<2>()
        })
        .unwrap_err();
    assert!(matches!(error, ExportError::Baked { .. }), "{error}");
}

/// The size decides in which of two ways a linear layer is recorded; both must become one layer.
#[test]
fn a_linear_layer_is_one_whatever_the_sizes() {
    let linear = burn::nn::LinearConfig::new(6, 40).init(&Device::flex());
    let model = Exporter::new("linear layer")
        .input("x", [symbol("batch"), symbol("length"), Axis::Size(6)])
        .recorded_at("length", [31, 32, 33])
        .export(&linear, |linear: &burn::nn::Linear, x: Tensor<3>| linear.forward(x))
        .unwrap();
    assert_eq!(crate::operators(&model), ["MatMul", "Add"]);
    verified(&model);
}

/// Sizes where f32 picks a neighbour of the pixel that Burn picks, and every remainder around them.
#[test]
fn nearest_interpolation_takes_the_pixels_that_burn_takes_at_any_size() {
    type Target = fn(usize) -> usize;
    let cases: [(&str, Target, &[&str]); 6] = [
        ("to 224", |_| 224, &["Gather"]),
        ("by 4/3", |size| size * 4 / 3, &["Gather"]),
        ("by 3/4", |size| size * 3 / 4, &["Gather"]),
        ("by 7/5", |size| size * 7 / 5, &["Gather"]),
        ("by 49", |size| size * 49, &["Gather"]),
        ("by 2", |size| size * 2, &["Resize"]),
    ];
    for (name, target, operators) in cases {
        for (opset, optimise) in [(17, false), (20, true), (23, true)] {
            let model = Exporter::new(format!("nearest {name}"))
                .opset(opset)
                .optimise(optimise)
                .input("x", [symbol("batch"), Axis::Size(1), symbol("height"), symbol("width")])
                .export(&net(), move |_: &Net, x: Tensor<4>| {
                    let [_, _, height, width] = x.dims();
                    let options = InterpolateOptions::new(InterpolateMode::Nearest);
                    interpolate(x, options.with_output_size([target(height), target(width)]))
                })
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let found = crate::operators(&model);
            assert!(operators.iter().all(|operator| found.contains(&(*operator).to_owned())), "{name}: {found:?}");
            assert_eq!(found.contains(&"Resize".to_owned()), operators == ["Resize"], "{name}: {found:?}");
            let large = name == "by 49";
            for [height, width] in [[49, 98], [105, 49], [52, 68], [91, 102], [104, 122], [30, 45], [94, 84], [56, 57]]
            {
                if large && height * width > 49 * 98 {
                    continue;
                }
                let pixels: Vec<f32> = (0..height * width).map(|pixel| pixel as f32).collect();
                let x = TensorData::new(pixels, [1, 1, height, width]);
                let expected = model.reference(vec![x.clone()]);
                let found = session::run(&model, &[x]).unwrap();
                assert!(expected == found, "{name} of {height}×{width}, operator set {opset}");
            }
        }
    }
    // A fixed axis next to a dynamic one.
    let model = Exporter::new("nearest of one dynamic axis")
        .input("x", [symbol("batch"), Axis::Size(1), Axis::Size(7), symbol("width")])
        .export(&net(), |_: &Net, x: Tensor<4>| {
            interpolate(x, InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([25, 224]))
        })
        .unwrap();
    verified(&model);
}
