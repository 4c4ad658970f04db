//! Names in the file: declared names are never changed.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use export::{ExportedModel, Exporter};

use crate::weights::filled;
use crate::{batch_of, verified};

#[derive(Module, Debug)]
struct Net {
    hidden: Linear,
    head: Linear,
    shift: Param<Tensor<1>>,
}

fn net() -> Net {
    let device = Device::flex();
    let linear = LinearConfig::new(4, 4);
    let shift = Param::from_tensor(Tensor::ones([4], &device));
    filled(Net { hidden: linear.init(&device), head: linear.init(&device), shift })
}

fn exported(name: &str, input: &str, outputs: [&str; 2]) -> ExportedModel {
    outputs
        .into_iter()
        .fold(Exporter::new(name).input(input, batch_of(&[4])), Exporter::output)
        .export(&net(), |net: &Net, x: Tensor<2>| {
            let hidden = net.hidden.forward(x) + net.shift.val().unsqueeze::<2>();
            (hidden.clone(), net.head.forward(hidden))
        })
        .unwrap()
}

/// An output may have the name of a module, of the root's own parameter, or of a generated node or value.
#[test]
fn outputs_keep_their_declared_names() {
    for (index, outputs) in [
        ["hidden", "head"],
        ["shift", "head.weight"],
        ["hidden/output", "Add/output"],
        ["constant", "head/output"],
        ["Add", "hidden.weight"],
    ]
    .into_iter()
    .enumerate()
    {
        let model = exported(&format!("names-{index}"), "x", outputs);
        let found: Vec<String> = model.outputs().into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, outputs);
        verified(&model);
    }
    let model = exported("names-input", "head.weight", ["head.bias", "y"]);
    assert_eq!(model.inputs()[0].0, "head.weight");
    verified(&model);
}

/// A module keeps its name as well: nodes and values have separate name spaces.
#[test]
fn a_node_may_be_called_as_an_output() {
    let model = exported("names-nodes", "x", ["hidden", "head"]);
    let nodes: Vec<&str> = model.graph().nodes.iter().map(|node| node.name.as_str()).collect();
    assert!(nodes.contains(&"hidden") && nodes.contains(&"head"), "{nodes:?}");
}
