//! Planted faults: each must be detected, and the search must name its node.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use export::graph::{DType, Graph, Node, Op, Plain, Tensor as Constant, ValueId};
use export::{Divergence, ExportError, ExportedModel, Exporter};

use crate::{batch_of, blocks, filled, runtime};

#[derive(Module, Debug)]
struct Net {
    conv1: Conv2d,
    bn: BatchNorm,
    conv2: Conv2d,
    linear: Linear,
}

fn net() -> Net {
    let device = Device::flex();
    let conv = |input| {
        let config = Conv2dConfig::new([input, 6], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        config.init(&device)
    };
    let bn = BatchNormConfig::new(6).init(&device);
    filled(Net { conv1: conv(3), bn, conv2: conv(6), linear: LinearConfig::new(6, 6).init(&device) })
}

fn export(optimise: bool) -> ExportedModel {
    Exporter::new("planted")
        .optimise(optimise)
        .input("image", batch_of(&[3, 12, 10]))
        .output("features")
        .export(&net(), |net: &Net, image: Tensor<4>| {
            let x = relu(net.bn.forward(net.conv1.forward(image)));
            let x = relu(net.conv2.forward(x));
            net.linear.forward(x.mean_dim(3).mean_dim(2).flatten::<2>(1, 3))
        })
        .unwrap()
}

/// Changes the values of a constant.
fn edit(graph: &mut Graph, name: &str, edit: impl Fn(&[usize], Vec<f64>) -> Vec<f64>) {
    let id = graph.initialiser_named(name).unwrap_or_else(|| panic!("no `{name}`"));
    let constant = graph.initialiser_mut(id).unwrap();
    let dims = constant.dims().to_vec();
    let values = edit(&dims, constant.to_f64s().unwrap());
    *constant = Constant::from_f64s(DType::Float, dims, &values).unwrap();
}

/// Swaps two slices of axis `axis`.
fn swap(axis: usize, a: usize, b: usize) -> impl Fn(&[usize], Vec<f64>) -> Vec<f64> {
    move |dims, values| {
        let inner: usize = dims[axis + 1..].iter().product();
        let from = |index: usize| match index / inner % dims[axis] {
            at if at == a => index + (b - a) * inner,
            at if at == b => index - (b - a) * inner,
            _ => index,
        };
        (0..values.len()).map(|index| values[from(index)]).collect()
    }
}

/// Inserts `op`, applied to the picture and a constant, before the first node.
fn before(graph: &mut Graph, name: &str, op: impl Into<Op>, operand: Constant) {
    let input = graph.nodes[0].inputs[0].unwrap();
    let dims = graph.value(input).dims.clone();
    let operand = graph.add_initialiser(&format!("{name}/operand"), operand);
    let output: ValueId = graph.add_value(&format!("{name}/output"), DType::Float, dims);
    graph.nodes[0].inputs[0] = Some(output);
    let inputs = vec![Some(input), Some(operand)];
    graph.nodes.insert(0, Node { name: name.into(), op: op.into(), inputs, outputs: vec![output] });
}

fn per_channel(values: [f64; 3]) -> Constant {
    Constant::from_f64s(DType::Float, vec![1, 3, 1, 1], &values).unwrap()
}

struct Fault {
    what: &'static str,
    /// Whether the graph is optimised before the fault is planted.
    optimise: bool,
    plant: fn(&mut Graph),
    /// Node and operator that the search must name.
    node: &'static str,
    operator: &'static str,
}

const FAULTS: [Fault; 9] = [
    Fault {
        what: "the first layer's input channels are in BGR order",
        optimise: true,
        plant: |graph| edit(graph, "conv1.weight", swap(1, 0, 2)),
        node: "conv1",
        operator: "Conv",
    },
    Fault {
        what: "the picture's channels are swapped before the first layer",
        optimise: false,
        plant: |graph| before(graph, "swap", Op::Gather { axis: 1 }, Constant::int64s(&[2, 1, 0])),
        node: "conv1",
        operator: "Conv",
    },
    Fault {
        what: "the picture is normalised twice",
        optimise: true,
        plant: |graph| {
            before(graph, "scale", Plain::Div, per_channel([0.229, 0.224, 0.225]));
            before(graph, "shift", Plain::Sub, per_channel([0.485, 0.456, 0.406]));
        },
        node: "conv1",
        operator: "Conv",
    },
    Fault {
        what: "two filters are exchanged",
        optimise: true,
        plant: |graph| edit(graph, "conv2.weight", swap(0, 1, 4)),
        node: "conv2",
        operator: "Conv",
    },
    Fault {
        what: "one sign is flipped in the second convolution",
        optimise: true,
        plant: |graph| {
            let id = graph.initialiser_named("conv2.weight").unwrap();
            assert!(graph.initialiser_mut(id).unwrap().flip_sign(40));
        },
        node: "conv2",
        operator: "Conv",
    },
    Fault {
        what: "the batch norm has another epsilon",
        optimise: false,
        plant: |graph| {
            let norm = graph.nodes.iter_mut().find(|node| node.name == "bn").unwrap();
            norm.op = Op::BatchNormalization { epsilon: 1e-3 };
        },
        node: "bn",
        operator: "BatchNormalization",
    },
    Fault {
        what: "the linear layer's weight is transposed",
        optimise: true,
        plant: |graph| {
            let id = graph.initialiser_named("linear.weight").unwrap();
            let weight = graph.initialiser_mut(id).unwrap();
            *weight = weight.transposed(&[1, 0]).unwrap();
        },
        node: "linear",
        operator: "Gemm",
    },
    Fault {
        what: "the padding is on one side",
        optimise: true,
        plant: |graph| {
            let node = graph.nodes.iter_mut().find(|node| node.name == "conv2").unwrap();
            let Op::Conv { window, .. } = &mut node.op else { panic!("{:?}", node.op) };
            window.pads = vec![0, 0, 2, 2];
        },
        node: "conv2",
        operator: "Conv",
    },
    Fault {
        what: "an activation is missing",
        optimise: false,
        plant: |graph| {
            let node = graph.nodes.iter_mut().rfind(|node| node.is(Plain::Relu)).unwrap();
            node.op = Plain::Identity.into();
        },
        node: "conv2/Relu",
        operator: "Identity",
    },
];

#[test]
fn planted_faults_are_caught_and_located() {
    for Fault { what, optimise, plant, node, operator } in FAULTS {
        let mut model = export(optimise);
        plant(model.graph_mut());
        let error = model.verify(&runtime()).expect_err(what);
        let ExportError::Parity { output, first: Some(first), .. } = &error else { panic!("{what}: {error}") };
        assert_eq!(output, "features", "{what}");
        let Divergence::Node { node: found, operator: kind, .. } = first.as_ref() else { panic!("{what}: {error}") };
        assert_eq!((found.as_str(), kind.as_str()), (node, operator), "{what}: {error}");
        assert!(error.to_string().contains(&format!("`{node}` ({operator})")), "{what}: {error}");
    }
}

/// Every value that remains after optimisation must equal the recorded one, or the search would be misled.
#[test]
fn a_right_model_differs_nowhere() {
    for optimise in [false, true] {
        for model in [export(optimise), blocks::export(optimise)] {
            assert_eq!(
                model.divergence(&model.encode(&[]).unwrap(), &runtime()),
                Divergence::Nowhere,
                "{}",
                model.name()
            );
        }
    }
}

/// A fault deep inside a network with branches.
#[test]
fn one_flipped_sign_is_located_in_its_branch() {
    for (weight, node) in
        [("light.1.conv1.weight", "light.1.conv1"), ("stem.0.weight", "stem.0"), ("heads.3.0.weight", "heads.3.0")]
    {
        let mut model = blocks::export(true);
        let id = model.graph().initialiser_named(weight).unwrap();
        let weight = model.graph().initialiser(id).unwrap();
        // Some weights only ever meet zeros, so take the largest that has an effect.
        let values = weight.to_f64s().unwrap();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
        let found = order.into_iter().map(|index| {
            let flip = |model: &mut ExportedModel| {
                assert!(model.graph_mut().initialiser_mut(id).unwrap().flip_sign(index));
            };
            flip(&mut model);
            let found = model.divergence(&model.encode(&[]).unwrap(), &runtime());
            flip(&mut model);
            found
        });
        let found = found.take(8).find(|found| *found != Divergence::Nowhere);
        assert!(matches!(&found, Some(Divergence::Node { node: name, .. }) if name == node), "{node}: {found:?}");
    }
}

/// Weights in a data file are searched as well.
#[test]
fn faults_in_external_data_are_located() {
    let mut model = Exporter::new("apart")
        .external_data(0)
        .input("image", batch_of(&[3, 12, 10]))
        .export(&net(), |net: &Net, image: Tensor<4>| net.conv2.forward(relu(net.conv1.forward(image))))
        .unwrap();
    model.verify(&runtime()).unwrap();
    let encoded = model.encode(&[]).unwrap();
    assert!(encoded.data.is_some_and(|data| data.bytes > 1024));
    edit(model.graph_mut(), "conv2.weight", swap(0, 1, 4));
    let error = model.verify(&runtime()).unwrap_err();
    assert!(error.to_string().contains("`conv2` (Conv)"), "{error}");
}
