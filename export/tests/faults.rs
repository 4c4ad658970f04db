//! Bad input, and planted faults.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use contract::{Axis, InputSpec, PictureSpec};
use export::{ExportError, Exporter, Warning};

use crate::blocks;
use crate::{batch_of, known, runtime};

#[derive(Module, Debug)]
struct Inner {
    weight: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
struct Outer {
    first: Inner,
    second: Inner,
}

fn outer() -> Outer {
    let inner = |name| Inner { weight: Param::from_tensor(known(name, [4])) };
    Outer { first: inner("a"), second: inner("b") }
}

#[test]
fn one_flipped_sign_is_caught() {
    for name in ["light.1.conv2.weight", "heads.3.0.weight"] {
        let mut model = blocks::export(true);
        let parity = model.verify(&runtime()).unwrap();
        assert!(parity.batch.iter().flat_map(|size| &size.output).all(|output| output.max_abs < 1e-5), "{parity:?}");
        let id = model.graph().initialiser_named(name).unwrap();
        assert!(model.graph_mut().initialiser_mut(id).unwrap().flip_sign(5));
        // One weight among thousands, and not the largest.
        let error = model.verify(&runtime()).unwrap_err();
        assert!(matches!(&error, ExportError::Parity { output, .. } if output == "features"), "{name}: {error}");
    }
}

#[test]
fn everything_unsupported_is_said_at_once() {
    // Bitwise operators exist since operator set 18.
    let error = Exporter::new("unsupported")
        .opset(17)
        .input("x", batch_of(&[4]))
        .export(&outer(), |net: &Outer, x: Tensor<2>| {
            let x = (x * net.first.weight.val().unsqueeze::<2>()).int();
            let x = x.clone().bitwise_and(x + 1).float();
            let x = (x * net.second.weight.val().unsqueeze::<2>()).int();
            x.clone().bitwise_or(x + 1)
        })
        .unwrap_err();
    let ExportError::Unsupported(refusals) = &error else { panic!("{error}") };
    let said: Vec<_> = refusals.iter().map(|refusal| (refusal.operation.as_str(), refusal.module.as_str())).collect();
    assert_eq!(said, [("Int::BitwiseAnd", "first"), ("Int::BitwiseOr", "second")]);
    let text = error.to_string();
    assert!(text.contains("`Int::BitwiseAnd` in `first`"), "{text}");
}

#[test]
fn a_parameter_that_is_not_finite_is_named() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut net = outer();
        let values = TensorData::from([0.0, 1.0, bad, 2.0]);
        net.second.weight = Param::from_tensor(Tensor::from_data(values, &Device::flex()));
        let error = Exporter::new("not finite")
            .input("x", batch_of(&[4]))
            .export(&net, |net: &Outer, x: Tensor<2>| x * net.second.weight.val().unsqueeze::<2>())
            .unwrap_err();
        assert!(
            matches!(&error, ExportError::NotFinite { parameter, index: 2, .. } if parameter == "second.weight"),
            "{error}"
        );
    }
}

#[test]
fn independent_outputs_and_unused_inputs_are_warned_of() {
    let model = Exporter::new("warned")
        .input("x", batch_of(&[4]))
        .integers("ignored", batch_of(&[]), 0, 3)
        .output("y")
        .output("fixed")
        .export(&outer(), |net: &Outer, (x, _): (Tensor<2>, Tensor<1, Int>)| (x * 2.0, net.first.weight.val() * 2.0))
        .unwrap();
    let expected =
        [Warning::ConstantOutput { output: "fixed".into() }, Warning::UnusedInput { input: "ignored".into() }];
    assert_eq!(model.warnings(), expected);
    model.verify(&runtime()).unwrap();
}

#[test]
fn declarations_that_do_not_fit_are_refused() {
    let forward = |_: &Outer, x: Tensor<2>| x * 2.0;
    let export = |exporter: Exporter| exporter.export(&outer(), forward).unwrap_err();
    let base = || Exporter::new("refused").input("x", batch_of(&[4]));
    assert!(matches!(export(base().output("x")), ExportError::DuplicateName { name } if name == "x"));
    assert!(matches!(export(base().output("y").output("z")), ExportError::Count { what: "output", .. }));
    assert!(matches!(export(Exporter::new("none")), ExportError::Count { what: "input", .. }));
    let rank = export(Exporter::new("rank").input("x", batch_of(&[4, 4])));
    assert!(matches!(rank, ExportError::InputRank { declared: 3, expected: 2, .. }));
    assert!(matches!(export(base().opset(16)), ExportError::Opset { found: 16 }));
}

#[test]
fn reading_values_while_recording_is_an_error_not_a_crash() {
    let error = Exporter::new("reads")
        .input("x", batch_of(&[4]))
        .export(&outer(), |_: &Outer, x: Tensor<2>| {
            let sum: f32 = (x.clone() * 2.0).sum().into_scalar();
            x * sum
        })
        .unwrap_err();
    assert!(matches!(error, ExportError::Trace { .. }), "{error}");
}

#[test]
fn golden_vectors_come_from_burn() {
    let model = blocks::export(true);
    let specs = [InputSpec::picture("image", Axis::Symbol("batch".into()), PictureSpec::imagenet([32, 16]))];
    let golden = model.golden(&specs, "golden", 2, 16).unwrap();
    assert_eq!((golden.batch, golden.block), (2, 16));
    let stored = &golden.output["features"];
    assert_eq!(stored.len(), (2usize * 6 * 5).div_ceil(golden.every));
    let scale = stored.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    assert!((golden.tolerance / scale - 1e-3).abs() < 1e-6);
    let (shape, picture) = golden.input(&specs[0]).unwrap();
    let [features] = model.reference(vec![TensorData::new(picture, shape)]).try_into().unwrap();
    let expected: Vec<f32> = features.iter::<f32>().step_by(golden.every).collect();
    assert_eq!(*stored, expected);
    for (specs, block) in [(&specs[..], 7), (&specs[..0], 16)] {
        let error = model.golden(specs, "golden", 2, block).unwrap_err();
        assert!(matches!(&error, ExportError::Golden { input, .. } if input == "image"), "{error}");
    }
}

#[derive(Module, Debug)]
struct Views {
    view: Param<Tensor<2>>,
    untouched: Linear,
}

/// A parameter that is a transposed view, and a layer whose weights are initialised at first use.
#[test]
fn parameters_may_be_views_and_lazy() {
    let net = Views {
        view: Param::from_tensor(known::<2>("view", [5, 8]).slice([0..5, 2..6]).transpose()),
        untouched: LinearConfig::new(5, 3).init(&Device::flex()),
    };
    let model = Exporter::new("views")
        .input("x", batch_of(&[4]))
        .export(&net, |net: &Views, x: Tensor<2>| net.untouched.forward(x.matmul(net.view.val())))
        .unwrap();
    model.verify(&runtime()).unwrap();
}

#[test]
fn types_are_mixed_by_casts_only() {
    let exporter = || Exporter::new("types").input("x", batch_of(&[4]));
    let model = exporter()
        .export(&outer(), |net: &Outer, x: Tensor<2>| {
            let double = x.cast(FloatDType::F64) * net.first.weight.val().cast(FloatDType::F64).unsqueeze::<2>();
            double.cast(FloatDType::F32) + 1.0
        })
        .unwrap();
    model.verify(&runtime()).unwrap();
    let error = exporter()
        .export(&outer(), |net: &Outer, x: Tensor<2>| x.cast(FloatDType::F64) * net.first.weight.val().unsqueeze::<2>())
        .unwrap_err();
    // Either Burn's check or our graph check refuses it; no unloadable file is written.
    assert!(
        matches!(error, ExportError::Trace { .. } | ExportError::Graph(export::graph::Error::Malformed { .. })),
        "{error}"
    );
}

/// ONNX Runtime computes `Erf` only in f32. The export reports this and names the module, before the file is loaded.
#[test]
fn types_without_a_kernel_are_refused_with_their_place() {
    let exporter = Exporter::new("kernels").input("x", batch_of(&[4]));
    let error = exporter
        .export(&outer(), |net: &Outer, x: Tensor<2>| {
            let hidden = x * net.first.weight.val().unsqueeze::<2>();
            hidden.cast(FloatDType::F64).erf().cast(FloatDType::F32)
        })
        .unwrap_err();
    let ExportError::Unsupported(refusals) = &error else { panic!("{error}") };
    let [refusal] = refusals.as_slice() else { panic!("{error}") };
    assert_eq!((refusal.operation.as_str(), refusal.module.as_str()), ("Float::Erf", "first"));
    assert!(refusal.reason.contains("no `Erf` for Double in operator set 20; cast"), "{error}");
}
