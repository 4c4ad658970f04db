//! The checks that every whole network goes through.

use burn::module::Module;
use contract::Axis;
use export::graph::{Node, Op, Plain};
use export::{ExportedModel, Exporter, Inputs, Outputs};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use crate::{runtime, verified};

/// Exports with and without optimisation for several operator sets, compares each with Burn, and returns the optimised
/// model of the default operator set.
pub fn agrees<M, I, O>(exporter: &Exporter, net: &M, forward: fn(&M, I) -> O) -> ExportedModel
where
    M: Module + 'static,
    I: Inputs + 'static,
    O: Outputs + 'static,
{
    for opset in [17, 23] {
        verified(&exporter.clone().opset(opset).export(net, forward).unwrap());
    }
    verified(&exporter.clone().optimise(false).export(net, forward).unwrap());
    let model = exporter.clone().export(net, forward).unwrap();
    verified(&model);
    fuses(&model);
    model
}

/// On any processor, ONNX Runtime fuses an activation with the convolution before it if nothing else reads that. We
/// must leave both in the form that it recognises.
fn fuses(model: &ExportedModel) {
    let graph = model.graph();
    let (producers, uses) = (graph.producers(), graph.uses());
    let behind_a_convolution = |node: &&Node| {
        let activation = matches!(node.op, Op::Plain(Plain::Relu | Plain::Clip | Plain::Sigmoid | Plain::Tanh))
            || matches!(node.op, Op::LeakyRelu { .. } | Op::HardSigmoid { .. });
        let input = node.inputs[0].expect("activations have an input");
        let convolution = producers.of(input).is_some_and(|index| matches!(graph.nodes[index].op, Op::Conv { .. }));
        activation && convolution && uses.count(input) == 1
    };
    let expected = graph.nodes.iter().filter(behind_a_convolution).count();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimised.onnx");
    Session::builder(runtime().environment())
        .and_then(|builder| Ok(builder.with_optimization_level(GraphOptimizationLevel::Level2)?))
        .and_then(|builder| Ok(builder.with_optimized_model_path(&path)?))
        .and_then(|mut builder| builder.commit_from_memory(&model.to_bytes(&[]).unwrap()))
        .unwrap();
    let (optimised, _) = onnx::read(&path, &onnx::Limits::default()).unwrap();
    let nodes = optimised.graph.unwrap().node;
    let fused = nodes.iter().filter(|node| node.op_type == "FusedConv").count();
    let kinds: Vec<_> = nodes.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(fused, expected, "{}: {kinds:?}", model.name());
    println!("{}: {fused} convolutions with their activation in ONNX Runtime", model.name());
}

/// `[batch, channels, height, width]`, where all but the channels are dynamic.
pub fn any_picture(channels: usize) -> [Axis; 4] {
    ["batch", "", "height", "width"].map(|name| match name {
        "" => Axis::Size(channels),
        name => Axis::Symbol(name.into()),
    })
}
