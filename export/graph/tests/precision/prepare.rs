//! Files of others, brought into one form.

use std::path::Path;

use graph::precision::{UnfitModel, prepare};

use crate::draft::{Draft, attribute};

#[test]
fn axes_become_inputs() {
    let mut draft = Draft::new(&[1, 3]);
    let node = draft.node("Unsqueeze", &["x"], vec![attribute("axes").ints(&[2])]);
    let older = onnx::ModelProto { ir_version: 6, ..draft.model(&node, 12) };
    let prepared = prepare(older, Path::new("")).unwrap();
    let model = prepared.model();
    let graph = model.graph.as_ref().unwrap();
    let constant = graph.initializer.iter().find(|tensor| tensor.name == graph.node[0].input[1]).unwrap();
    assert_eq!(constant.raw_data, 2i64.to_le_bytes());
    assert_eq!((model.opset_import[0].version, model.ir_version), (13, 7));
}

#[test]
fn what_would_mean_something_else_is_refused() {
    let softmax = |axis: i64| {
        let mut draft = Draft::new(&[1, 3]);
        let node = draft.node("Softmax", &["x"], vec![attribute("axis").int(axis)]);
        prepare(draft.model(&node, 12), Path::new(""))
    };
    softmax(-1).unwrap();
    assert!(matches!(softmax(1), Err(UnfitModel::Upgrade { operator, found: 12, .. }) if operator == "Softmax"));
    let model = |operator: &str, opset| {
        let mut draft = Draft::new(&[1, 3]);
        let node = draft.node(operator, &["x"], vec![]);
        prepare(draft.model(&node, opset), Path::new(""))
    };
    assert!(matches!(model("Relu", 10), Err(UnfitModel::Opset { found: 10 })));
    assert!(matches!(model("QuantizeLinear", 20), Err(UnfitModel::Quantised { .. })));
    let mut with_functions = Draft::new(&[1]).model("x", 20);
    with_functions.functions.push(onnx::FunctionProto { name: "f".into(), ..Default::default() });
    assert!(matches!(prepare(with_functions, Path::new("")), Err(UnfitModel::Functions { count: 1, .. })));
}

#[test]
fn nodes_without_a_name_get_one() {
    let mut draft = Draft::new(&[1, 3]);
    let a = draft.node("Relu", &["x"], vec![]);
    let b = draft.node("Relu", &[&a], vec![]);
    let mut model = draft.model(&b, 20);
    model.graph.as_mut().unwrap().node.iter_mut().for_each(|node| node.name.clear());
    let names: Vec<String> = prepare(model, Path::new("")).unwrap().nodes().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["Relu", "Relu_1"]);
}
