//! float16 and its islands.

use std::path::Path;

use graph::checker::check_file;
use graph::precision::range::Method;
use graph::precision::{Half, cosines, half, observe, prepare};
use onnx::DataType;

use crate::draft::{Draft, attribute};
use crate::runtime;

fn halved(draft: &Draft, output: &str, least_cosine: f64) -> Half {
    let runtime = runtime();
    let prepared = prepare(draft.model(output, 20), Path::new("")).unwrap();
    let batches = [draft.batch(1, 3)];
    let seen = observe(&prepared, &batches, Method::MinMax, &runtime).unwrap();
    let half = half(&prepared, &seen.ranges);
    check_file(&half.model).unwrap();
    let cosines = cosines(prepared.model(), &half.model, &batches, &runtime).unwrap();
    assert!(cosines.iter().all(|cosine| *cosine > least_cosine), "{cosines:?}");
    half
}

fn types(half: &Half) -> Vec<(String, i32)> {
    let graph = half.model.graph.as_ref().unwrap();
    graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.data_type)).collect()
}

#[test]
fn weights_become_halves_and_the_ends_stay() {
    let mut draft = Draft::new(&[1, 3, 8, 8]);
    let a = draft.conv("x", [6, 3], 3, 1);
    let a = draft.node("Relu", &[&a], vec![]);
    let y = draft.conv(&a, [4, 6], 1, 1);
    let half = halved(&draft, &y, 0.9999);
    assert_eq!(half.nodes, ["conv0", "relu1", "conv2"]);
    assert!(types(&half).iter().all(|(_, kind)| *kind == DataType::Float16 as i32), "{:?}", types(&half));
    let graph = half.model.graph.as_ref().unwrap();
    let operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(operators, ["Cast", "Conv", "Relu", "Conv", "Cast"], "one cast in and one out");
    assert_eq!((graph.input[0].name.as_str(), graph.output[0].name.as_str()), ("x", y.as_str()));
}

/// A value of 1e5 would be infinite, and one of 1e-6 would lose most of its digits.
#[test]
fn what_does_not_fit_stays_float() {
    for (factor, back) in [(1e5, 1e-5), (1e-6, 1e6)] {
        let mut draft = Draft::new(&[1, 4, 6, 6]);
        let a = draft.conv("x", [4, 4], 3, 1);
        let factor = draft.constant(&[1], &[factor]);
        let b = draft.node("Mul", &[&a, &factor], vec![]);
        let c = draft.node("Relu", &[&b], vec![]);
        let back = draft.constant(&[1], &[back]);
        let d = draft.node("Mul", &[&c, &back], vec![]);
        let y = draft.conv(&d, [4, 4], 1, 1);
        let half = halved(&draft, &y, 0.9999);
        assert_eq!(half.nodes, ["conv0", "conv4"]);
        let islands: Vec<&str> = half.islands.iter().map(|(node, _)| node.as_str()).collect();
        assert_eq!(islands, ["mul1", "relu2", "mul3"], "{:?}", half.islands);
    }
}

/// A length under a division, a softmax and a norm keep float32, and so do constants that float16 cannot hold.
#[test]
fn divisions_and_norms_stay_float() {
    let mut draft = Draft::new(&[1, 4]);
    let weights = draft.weights(&[4, 4]);
    let a = draft.node("MatMul", &["x", &weights], vec![]);
    let length = draft.node("ReduceL2", &[&a], vec![attribute("keepdims").int(1)]);
    let floor = draft.constant(&[1], &[1e-12]);
    let length = draft.node("Max", &[&length, &floor], vec![]);
    let b = draft.node("Div", &[&a, &length], vec![]);
    let y = draft.node("Softmax", &[&b], vec![]);
    let half = halved(&draft, &y, 0.9999);
    assert_eq!(half.nodes, ["matmul0"]);
    assert_eq!(half.islands.len(), 1, "{:?}", half.islands);
    assert!(half.islands[0].0 == "max2" && types(&half).contains(&(floor, DataType::Float as i32)));
}

/// Constants that float16 cannot hold, or only with fewer digits, keep the nodes at them float; small numbers beside
/// large ones do not.
#[test]
fn constants_that_lose_digits_are_told() {
    let reason = |values: [f32; 2]| {
        let mut draft = Draft::new(&[1, 2]);
        let weights = draft.constant(&[2], &values);
        let y = draft.node("PRelu", &["x", &weights], vec![]);
        halved(&draft, &y, 0.9999).islands.pop().map(|(_, reason)| reason)
    };
    assert_eq!(reason([1.0, 1e-9]), None);
    assert!(reason([1e-7, 3e-8]).unwrap().contains("would change by"));
    assert!(reason([1.0, 7e4]).unwrap().contains("65504"));
}
