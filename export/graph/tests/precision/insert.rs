//! Pairs that ONNX Runtime fuses into integer kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use graph::checker::check_file;
use graph::precision::range::Method;
use graph::precision::{Inserted, Int8, Ranges, Target, candidates, cosines, integers, observe, prepare};
use onnx::{DataType, Message, ModelProto};

use crate::draft::{Draft, attribute, noise};
use crate::runtime;

pub const CPU: Int8 = Int8 { target: Target::Cpu, weight_bits: 8 };
pub const TENSOR_RT: Int8 = Int8 { target: Target::TensorRt, weight_bits: 8 };

/// Quantises all that can be, checks the file, and compares the outputs.
pub fn quantised(draft: &Draft, output: &str, how: Int8, least_cosine: f64) -> Inserted {
    let prepared = prepare(draft.model(output, 20), Path::new("")).unwrap();
    let batches: Vec<_> = (0..4).map(|seed| draft.batch(seed + 1, 3)).collect();
    let seen = observe(&prepared, &batches, Method::MinMax, &runtime()).unwrap();
    let chosen = candidates(&prepared, how.target).into_iter().map(|candidate| candidate.node).collect();
    let inserted = integers(&prepared, &seen.ranges, &chosen, &how);
    check_file(&inserted.model).unwrap();
    let cosines = cosines(prepared.model(), &inserted.model, &batches, &runtime()).unwrap();
    let least = cosines.iter().copied().fold(1.0, f64::min);
    assert!(least > least_cosine, "cosine {least}");
    inserted
}

/// Operators after ONNX Runtime's optimisation, with their counts.
pub fn fused(model: &ModelProto) -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimised.onnx");
    let level = ort::session::builder::GraphOptimizationLevel::All;
    let builder = ort::session::Session::builder(runtime().environment()).unwrap();
    let mut builder = builder.with_optimization_level(level).unwrap().with_optimized_model_path(&path).unwrap();
    builder.commit_from_memory(&model.encode_to_vec()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut counts = BTreeMap::new();
    for node in ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap().node {
        *counts.entry(node.op_type).or_default() += 1;
    }
    counts
}

pub fn count(counts: &BTreeMap<String, usize>, operator: &str) -> usize {
    counts.get(operator).copied().unwrap_or(0)
}

#[test]
fn convolutions_with_relu_are_computed_in_integers() {
    let mut draft = Draft::new(&[1, 3, 16, 8]);
    let a = draft.conv("x", [16, 3], 3, 1);
    let a = draft.node("Relu", &[&a], vec![]);
    let pool = vec![attribute("kernel_shape").ints(&[2, 2]), attribute("strides").ints(&[2, 2])];
    let a = draft.node("MaxPool", &[&a], pool);
    let b = draft.conv(&a, [16, 16], 1, 1);
    let b = draft.node("Relu", &[&b], vec![]);
    let model = quantised(&draft, &b, CPU, 0.999).model;
    let counts = fused(&model);
    assert_eq!(count(&counts, "QLinearConv"), 2, "{counts:?}");
    assert_eq!((count(&counts, "Relu"), count(&counts, "Conv"), count(&counts, "FusedConv")), (0, 0, 0), "{counts:?}");
    // The pooling between them passes integers on: one pair into the graph, one out of it.
    assert_eq!((count(&counts, "QuantizeLinear"), count(&counts, "DequantizeLinear")), (1, 1), "{counts:?}");
}

/// The result of a convolution is quantised before what is not a ReLU: a sum, or a gate of its own.
#[test]
fn sums_and_gates_are_computed_in_integers() {
    let mut draft = Draft::new(&[1, 8, 12, 6]);
    let a = draft.conv("x", [8, 8], 3, 1);
    let gate = draft.node("Sigmoid", &[&a], vec![]);
    let a = draft.node("Mul", &[&a, &gate], vec![]);
    let b = draft.conv(&a, [8, 8], 1, 1);
    let sum = draft.node("Add", &[&b, &a], vec![]);
    let y = draft.node("Relu", &[&sum], vec![]);
    let y = draft.node("GlobalAveragePool", &[&y], vec![]);
    let counts = fused(&quantised(&draft, &y, CPU, 0.995).model);
    let found = ["QLinearConv", "QLinearSigmoid", "QLinearMul", "QLinearAdd", "QLinearGlobalAveragePool"];
    assert_eq!(found.map(|operator| count(&counts, operator)), [2, 1, 1, 1, 1], "{counts:?}");
    assert_eq!(count(&counts, "Relu"), 0, "{counts:?}");
}

#[test]
fn a_layer_behind_a_change_of_shape_is_computed_in_integers() {
    let mut draft = Draft::new(&[1, 4, 6, 6]);
    let a = draft.conv("x", [8, 4], 3, 1);
    let a = draft.node("GlobalAveragePool", &[&a], vec![]);
    let a = draft.node("Flatten", &[&a], vec![]);
    let (weights, bias) = (draft.weights(&[10, 8]), draft.weights(&[10]));
    let y = draft.node("Gemm", &[&a, &weights, &bias], vec![attribute("transB").int(1)]);
    let counts = fused(&quantised(&draft, &y, CPU, 0.995).model);
    assert_eq!((count(&counts, "QGemm"), count(&counts, "Gemm")), (1, 0), "{counts:?}");
}

#[test]
fn pruned_channels_and_shared_weights_do_no_harm() {
    let mut draft = Draft::new(&[1, 2, 8, 8]);
    let mut values: Vec<f32> = noise(5, 2 * 2 * 9).map(|u| u - 0.5).collect();
    values[..18].fill(0.0);
    let (weights, bias) = (draft.constant(&[2, 2, 3, 3], &values), draft.constant(&[2], &[3.0, 0.1]));
    let pads = || vec![attribute("pads").ints(&[1; 4])];
    let a = draft.node("Conv", &["x", &weights, &bias], pads());
    let b = draft.node("Conv", &[&a, &weights], pads());
    let c = draft.node("Conv", &[&b, &weights], pads());
    let y = draft.node("Add", &[&c, &a], vec![]);
    let Inserted { model, nodes, left } = quantised(&draft, &y, CPU, 0.995);
    assert_eq!((nodes.len(), left.len()), (4, 0));
    let graph = model.graph.as_ref().unwrap();
    assert!(graph.initializer.iter().all(|tensor| tensor.name != weights), "the float weights are gone");
    let bytes: usize = graph.initializer.iter().filter(|t| t.data_type == 3).map(|t| t.raw_data.len()).sum();
    // The bias makes another scale for the first one; the other two share theirs. Zero points are bytes too.
    assert_eq!(bytes, 2 * (36 + 2));
    assert_eq!(count(&fused(&model), "QLinearConv"), 3);
}

/// What nobody here knows stays, also where it reads the result of what is quantised, or is the model's output.
#[test]
fn unknown_operators_stay_float() {
    let mut draft = Draft::new(&[1, 4, 6, 6]);
    let a = draft.conv("x", [4, 4], 3, 1);
    let b = draft.node("Softplus", &[&a], vec![]);
    let c = draft.conv(&b, [4, 4], 1, 1);
    let y = draft.node("Mul", &[&c, &a], vec![]);
    let Inserted { model, nodes, .. } = quantised(&draft, &y, CPU, 0.99);
    assert_eq!(nodes.len(), 3);
    let graph = model.graph.as_ref().unwrap();
    assert!(graph.node.iter().any(|node| node.op_type == "Softplus"));
    assert_eq!(graph.output[0].name, y, "outputs keep their names");
    // Of a node that is chosen and cannot be, the reason is told.
    let prepared = prepare(draft.model(&y, 20), Path::new("")).unwrap();
    let chosen = BTreeSet::from(["softplus1".to_owned(), "conv0".to_owned()]);
    let Inserted { nodes, left, .. } = integers(&prepared, &Ranges::new(), &chosen, &CPU);
    assert!(nodes.is_empty());
    let names: Vec<&str> = left.iter().map(|(node, _)| node.as_str()).collect();
    assert_eq!(names, ["conv0", "softplus1"]);
}

#[test]
fn a_model_without_a_choice_is_unchanged() {
    let mut draft = Draft::new(&[1, 4, 6, 6]);
    let a = draft.conv("x", [4, 4], 3, 1);
    let y = draft.node("Relu", &[&a], vec![]);
    let prepared = prepare(draft.model(&y, 20), Path::new("")).unwrap();
    assert_eq!(&integers(&prepared, &Ranges::new(), &BTreeSet::new(), &CPU).model, prepared.model());
}

/// TensorRT takes zero points of 0 only, per-tensor scales of values, and no integers as bias; the sum reads its
/// other branch in integers.
#[test]
fn pairs_for_tensorrt_are_symmetric() {
    let mut draft = Draft::new(&[1, 4, 6, 6]);
    let a = draft.conv("x", [4, 4], 3, 1);
    let a = draft.node("Relu", &[&a], vec![]);
    let b = draft.conv(&a, [4, 4], 1, 1);
    let y = draft.node("Add", &[&b, &a], vec![]);
    let y = draft.node("Relu", &[&y], vec![]);
    let model = quantised(&draft, &y, TENSOR_RT, 0.995).model;
    let graph = model.graph.unwrap();
    let constant = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
    let mut pairs = 0;
    for node in graph.node.iter().filter(|node| node.op_type == "QuantizeLinear") {
        let (scale, zero) = (constant(&node.input[1]), constant(&node.input[2]));
        assert!(scale.dims.is_empty() && zero.raw_data == [0] && zero.data_type == DataType::Int8 as i32);
        pairs += 1;
    }
    // The input, and the result of the first convolution for both of its readers; nothing behind the sum.
    assert_eq!(pairs, 2);
    let sum = graph.node.iter().find(|node| node.op_type == "Add").unwrap();
    assert_eq!(sum.input, [b, format!("{a}/dequantised")]);
}

#[test]
fn older_files_are_brought_to_scales_for_each_channel() {
    let mut draft = Draft::new(&[1, 3, 8, 8]);
    let a = draft.conv("x", [5, 3], 3, 1);
    let y = draft.node("Relu", &[&a], vec![]);
    let prepared = prepare(draft.model(&y, 12), Path::new("")).unwrap();
    let batches = [draft.batch(1, 2)];
    let seen = observe(&prepared, &batches, Method::MinMax, &runtime()).unwrap();
    let chosen = candidates(&prepared, Target::Cpu).into_iter().map(|candidate| candidate.node).collect();
    let model = integers(&prepared, &seen.ranges, &chosen, &CPU).model;
    assert_eq!(count(&fused(&model), "QLinearConv"), 1);
    assert!(cosines(prepared.model(), &model, &batches, &runtime()).unwrap().iter().all(|cosine| *cosine > 0.999));
}

/// The ranges are those of the values that the model really has.
#[test]
fn ranges_are_those_of_the_values() {
    let mut draft = Draft::new(&[1, 2]);
    let weights = draft.constant(&[2, 1], &[3.0, -1.0]);
    let y = draft.node("MatMul", &["x", &weights], vec![]);
    let z = draft.node("Relu", &[&y], vec![]);
    let prepared = prepare(draft.model(&z, 20), Path::new("")).unwrap();
    let batches: Vec<_> = (0..3).map(|seed| draft.batch(seed, 5)).collect();
    let mut expected = [f32::INFINITY, f32::NEG_INFINITY];
    for (_, tensor) in batches.iter().flatten() {
        for row in tensor.to_f64s().unwrap().as_chunks::<2>().0 {
            let value = (3.0 * row[0] - row[1]) as f32;
            expected = [expected[0].min(value), expected[1].max(value)];
        }
    }
    let seen = observe(&prepared, &batches, Method::MinMax, &runtime()).unwrap();
    for (found, expected) in seen.ranges[&y].iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    assert_eq!(seen.ranges[&z][0], 0.0);
    assert!(seen.ranges["x"][0] >= -2.0 && seen.ranges["x"][1] <= 2.0);
    for method in [Method::Percentile { share: 0.8 }, Method::Entropy] {
        let [low, high] = observe(&prepared, &batches, method, &runtime()).unwrap().ranges[&y];
        assert!(seen.ranges[&y][0] <= low && low < high && high <= seen.ranges[&y][1], "{method:?}");
    }
    assert!(matches!(observe(&prepared, &[], Method::MinMax, &runtime()), Err(graph::Error::NoCalibration)));
}
