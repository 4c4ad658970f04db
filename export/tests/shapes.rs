//! Dynamic axes: resolved, computed, or refused with the place; never baked in.

use burn::module::{Module, Param};
use burn::tensor::module::{adaptive_avg_pool2d, conv2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use contract::Axis;
use export::{ExportError, Exporter};

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
    let text = error.to_string();
    assert!(matches!(error, ExportError::Baked { .. }), "{text}");
    assert!(text.contains("`NumericFloat::DivScalar` in `first`"), "{text}");
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
    let text = error.to_string();
    assert!(matches!(error, ExportError::Diverged { .. }), "{text}");
    assert!(text.contains("batch 2") && text.contains("batch 3"), "{text}");
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
fn adaptive_pooling_to_bins_needs_a_fixed_axis() {
    let error = Exporter::new("bins")
        .input("x", [symbol("batch"), Axis::Size(4), symbol("height"), Axis::Size(8)])
        .recorded_at("height", [8, 12, 20])
        .export(&net(), |_: &Net, x: Tensor<4>| adaptive_avg_pool2d(x, [2, 1]))
        .unwrap_err();
    assert!(error.to_string().contains("needs a fixed axis, this one is `height`"), "{error}");
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
    let _ = Device::flex();
}
