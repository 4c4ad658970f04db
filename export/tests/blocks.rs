//! A block like those of real users: names, symbols, folding, repetition.

use std::collections::HashSet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use contract::Axis;
use export::{ExportedModel, Exporter};

pub(crate) use crate::networks::block::Net;
use crate::{batch_of, known, operators, runtime, verified};

/// An enum of networks, as programs have to choose one by name. Its variants must not show in parameter names.
#[derive(Module, Debug)]
pub(crate) enum Choice {
    Small(Net),
}

pub(crate) fn exporter() -> Exporter {
    Exporter::new("block").input("image", batch_of(&[3, 32, 16])).output("features")
}

pub(crate) fn embed(net: &Net, images: Tensor<4>) -> Tensor<3> {
    net.embed(images)
}

pub(crate) fn export(optimise: bool) -> ExportedModel {
    let net = Choice::Small(Net::new(&Device::flex()));
    exporter()
        .optimise(optimise)
        .export(&net, |net: &Choice, images: Tensor<4>| match net {
            Choice::Small(net) => net.embed(images),
        })
        .unwrap()
}

#[test]
fn agrees_with_burn_at_every_batch_size_and_operator_set() {
    let net = Net::new(&Device::flex());
    for opset in 17..=23 {
        let model = exporter().opset(opset).export(&net, |net: &Net, x: Tensor<4>| net.embed(x)).unwrap();
        verified(&model);
    }
    verified(&export(false));
}

#[test]
fn names_are_module_paths_and_symbols_are_shared() {
    for optimise in [true, false] {
        let model = export(optimise);
        let graph = model.graph();
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
        for name in ["stem.0", "light.0.conv1", "light.1.conv2", "gate.fc2", "heads.4.0"] {
            assert!(names.contains(&name), "{name} is missing in {names:?}");
        }
        // Without optimisation, norms are nodes too.
        assert_eq!(names.contains(&"stem.1"), !optimise, "{names:?}");
        assert!(graph.initialiser_named("light.1.conv2.weight").is_some());
        assert!(!names.iter().any(|name| name.contains("Small")), "{names:?}");
        // Nodes outside modules are named after their operator; all names are different.
        let modules = ["stem", "light", "gate", "last", "heads"];
        let known = |name: &&str| modules.iter().any(|module| name.starts_with(module)) || !name.contains('.');
        assert!(names.iter().all(known), "{names:?}");
        let values = graph.nodes.iter().flat_map(|node| &node.outputs).copied();
        let values = values.chain(graph.initialisers().map(|(id, _)| id)).chain(graph.inputs.iter().copied());
        let values: Vec<&str> = values.map(|id| graph.value(id).name.as_str()).collect();
        let unique: HashSet<&str> = names.iter().chain(&values).copied().collect();
        assert_eq!(unique.len(), names.len() + values.len());
    }
    let model = export(true);
    let batch = Axis::Symbol("batch".into());
    assert_eq!(model.inputs()[0].1[0], batch);
    assert_eq!(model.outputs(), [("features".to_owned(), vec![batch, Axis::Size(6), Axis::Size(5)])]);
}

#[test]
fn training_parts_are_gone_and_norms_are_folded() {
    let model = export(true);
    let operators = operators(&model);
    assert!(!operators.contains(&"BatchNormalization".to_owned()), "{operators:?}");
    assert!(!operators.contains(&"ReduceMax".to_owned()), "{operators:?}");
    assert!(model.graph().initialisers().all(|(id, _)| !model.graph().value(id).name.contains("classifier")));
    // Every activation directly follows its convolution, so that runtimes can fuse the two.
    assert!(operators.windows(2).any(|pair| pair == ["Conv", "Relu"]));
    assert!(model.warnings().is_empty());
}

#[test]
fn the_same_weights_give_the_same_bytes() {
    let net = Net::new(&Device::flex());
    for (opset, optimise) in [(17, false), (20, true), (20, false), (23, true)] {
        let bytes = || {
            let exporter = exporter().opset(opset).optimise(optimise);
            let model = exporter.export(&net, |net: &Net, x: Tensor<4>| net.embed(x)).unwrap();
            (model.to_bytes(&[("key".into(), "value".into())]).unwrap(), model.network_sha256("features").unwrap())
        };
        let (first, hash) = bytes();
        assert_eq!((first.clone(), hash), bytes());
        let read = onnx::parse(&first, "model.onnx".as_ref(), &onnx::Limits::default()).unwrap();
        assert_eq!(read.doc_string, format!("block, exported from Burn {}", export::BURN_VERSION));
        assert_eq!((read.metadata_props[0].key.as_str(), read.metadata_props[0].value.as_str()), ("key", "value"));
    }
}

/// Burn shares batch-norm statistics between clones; an export must not change the module.
#[test]
fn the_module_is_left_alone() {
    let net = Net::new(&Device::flex().autodiff());
    let image = known("picture", [1, 3, 32, 16]);
    let eval = |net: &Net| net.valid().embed(image.clone()).into_data();
    let before = eval(&net);
    let model = exporter().export(&net, |net: &Net, x: Tensor<4>| net.embed(x)).unwrap();
    assert_eq!(before, eval(&net));
    let _training = net.embed(Tensor::from_data(image.to_data(), &Device::flex().autodiff()));
    assert!(model.verify(&runtime()).is_ok(), "further training must not change the exported model");
}
