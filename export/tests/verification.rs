//! Faults that verification must detect: sizes, values and kinds of outputs that earlier versions missed.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};
use contract::Axis;
use export::graph::{DType, Graph, Node, Op, Plain, Tensor as Constant};
use export::{Divergence, ExportError, ExportedModel, Exporter, Sizes};

use crate::{batch_of, known, runtime, verified};

#[derive(Module, Debug)]
struct Net {
    weight: Param<Tensor<2>>,
    positions: Embedding,
}

fn net() -> Net {
    let positions = EmbeddingConfig::new(200, 4).init(&Device::flex());
    Net { weight: Param::from_tensor(known("weight", [4, 6])), positions }
}

fn symbol(name: &str) -> Axis {
    Axis::Symbol(name.into())
}

fn picture() -> [Axis; 4] {
    [symbol("batch"), Axis::Size(1), symbol("height"), symbol("width")]
}

/// Replaces the first output by `op` applied to it.
fn tamper(graph: &mut Graph, op: impl Into<Op>, operand: Constant) {
    let output = graph.outputs[0];
    let (dtype, dims) = (graph.value(output).dtype, graph.value(output).dims.clone());
    let whole = graph.add_value("whole", dtype, dims);
    for written in graph.nodes.iter_mut().flat_map(|node| &mut node.outputs).filter(|written| **written == output) {
        *written = whole;
    }
    let operand = graph.add_initialiser("operand", operand);
    let inputs = vec![Some(whole), Some(operand)];
    graph.nodes.push(Node { name: "fault".into(), op: op.into(), inputs, outputs: vec![output] });
}

fn floats(dims: &[usize], values: &[f64]) -> Constant {
    Constant::from_f64s(DType::Float, dims.to_vec(), values).unwrap()
}

fn fails(model: &ExportedModel) -> ExportError {
    let error = model.verify(&runtime()).unwrap_err();
    assert!(matches!(error, ExportError::Parity { .. } | ExportError::OutputForm { .. }), "{error}");
    error
}

#[test]
fn sizes_that_tell_nothing_are_refused() {
    let refused = |exporter: Exporter| {
        let error = exporter.input("x", picture()).export(&net(), |_: &Net, x: Tensor<4>| x * 2.0).unwrap_err();
        let ExportError::Sizes { symbol, .. } = &error else { panic!("{error}") };
        (symbol.clone(), error.to_string())
    };
    let base = || Exporter::new("sizes");
    for sizes in [[64, 64, 64], [64, 64, 96], [0, 32, 64]] {
        assert_eq!(refused(base().recorded_at("height", sizes)).0, "height");
    }
    let (symbol, text) = refused(base().recorded_at("heigth", [64, 96, 160]));
    assert!(symbol == "heigth" && text.contains("`batch`, `height`, `width`"), "{text}");
    assert_eq!(refused(base().sizes("widht", Sizes::at_least(1))).0, "widht");
    assert_eq!(refused(base().sizes("width", Sizes::between(9, 3))).0, "width");
}

/// While height and width are equal, exchanging them goes unnoticed.
#[test]
fn height_and_width_that_are_exchanged_are_seen() {
    let mut model = Exporter::new("exchanged")
        .optimise(false)
        .input("x", picture())
        .export(&net(), |_: &Net, x: Tensor<4>| {
            let [batch, _, height, width] = x.dims();
            x.exp().reshape([width, batch, height])
        })
        .unwrap();
    verified(&model);
    let operators = crate::operators(&model);
    let shape = model.graph_mut().nodes.iter_mut().find(|node| matches!(node.op, Op::Concat { .. }));
    shape.unwrap_or_else(|| panic!("{operators:?}")).inputs.swap(0, 2);
    fails(&model);
}

/// A threshold above all recorded sizes.
#[test]
fn a_threshold_inside_the_declared_sizes_is_seen() {
    let export = |exporter: Exporter| {
        exporter.input("x", [symbol("batch"), symbol("length")]).export(&net(), |_: &Net, x: Tensor<2>| {
            let [_, length] = x.dims();
            x.narrow(1, 0, length.min(256)).exp()
        })
    };
    let undeclared = fails(&export(Exporter::new("threshold")).unwrap());
    let (ExportError::Parity { sizes, .. } | ExportError::OutputForm { sizes, .. }) = &undeclared else {
        panic!("{undeclared}")
    };
    assert!(sizes.contains("length 307"), "{undeclared}");
    let declared = export(Exporter::new("threshold").sizes("length", Sizes::between(1, 600))).unwrap_err();
    assert!(matches!(declared, ExportError::Baked { .. } | ExportError::Diverged { .. }), "{declared}");
    let below = export(Exporter::new("threshold").sizes("length", Sizes::between(1, 256))).unwrap();
    let parity = below.verify(&runtime()).unwrap();
    assert!([1, 256].iter().all(|size| parity.sizes["length"].contains(size)), "{parity:?}");
    assert!(parity.sizes["length"].iter().all(|size| *size <= 256), "{parity:?}");
}

#[test]
fn a_batch_of_pairs_is_verified_in_pairs() {
    let exporter = || Exporter::new("pairs").input("x", batch_of(&[4]));
    let forward = |_: &Net, x: Tensor<2>| {
        let [batch, _] = x.dims();
        x.reshape([batch / 2, 2, 4]).mean_dim(1).flatten::<2>(1, 2)
    };
    let model = exporter().recorded_at("batch", [2, 4, 6]).export(&net(), forward).unwrap();
    let parity = model.verify(&runtime()).unwrap();
    assert_eq!(parity.batch.iter().map(|batch| batch.batch).collect::<Vec<_>>(), [2, 4, 6]);
    let declared = Sizes::between(2, 16).multiple_of(2);
    verified(&exporter().sizes("batch", declared).export(&net(), forward).unwrap());
    let error = exporter().export(&net(), forward).unwrap_err();
    assert!(matches!(&error, ExportError::Trace { sizes, .. } if sizes == "batch 3"), "{error}");
}

/// Recording computes nothing, so a table that is too short fails only when Burn computes.
#[test]
fn a_module_that_panics_at_a_size_is_an_error_that_names_it() {
    let export = |exporter: Exporter| {
        let exporter = exporter.input("x", [symbol("batch"), symbol("length"), Axis::Size(4)]);
        let model = exporter.export(&net(), |net: &Net, x: Tensor<3>| {
            let positions = Tensor::arange(0..x.dims()[1] as i64, &x.device()).unsqueeze::<2>();
            x + net.positions.forward(positions)
        });
        model.unwrap().verify(&runtime())
    };
    let error = export(Exporter::new("table")).unwrap_err();
    assert!(matches!(&error, ExportError::Reference { sizes, .. } if sizes.contains("length 307")), "{error}");
    export(Exporter::new("table").sizes("length", Sizes::between(1, 200))).unwrap();
}

#[test]
fn inputs_that_are_read_while_recording_are_an_error() {
    let place = Exporter::new("reads")
        .input("x", batch_of(&[4]))
        .integers("k", [Axis::Size(1)], 0, 3)
        .export(&net(), |_: &Net, (x, k): (Tensor<2>, Tensor<1, Int>)| {
            let k: i64 = k.into_scalar();
            x.narrow(1, k as usize, 1)
        })
        .unwrap_err();
    assert!(matches!(place, ExportError::ReadsInput { .. }), "{place}");
    let branch = Exporter::new("reads")
        .input("x", batch_of(&[4]))
        .export(&net(), |_: &Net, x: Tensor<2>| {
            let first = x.to_data().iter::<f32>().next().unwrap_or(0.0);
            if first > 0.5 { x.exp() } else { x.abs() }
        })
        .unwrap_err();
    assert!(matches!(branch, ExportError::ReadsInput { .. }), "{branch}");
}

#[test]
fn equal_nan_and_equal_infinities_agree() {
    let model = Exporter::new("masked")
        .input("x", batch_of(&[4]))
        .export(&net(), |_: &Net, x: Tensor<2>| {
            let length = x.clone().square().sum_dim(1).sqrt();
            // Infinite where masked, and NaN for a row of zeros.
            (x.clone().mask_fill(x.clone().lower_elem(0.1), f32::NEG_INFINITY), x / length)
        })
        .unwrap();
    verified(&model);
    let mut finite = Exporter::new("masked")
        .input("x", batch_of(&[4]))
        .export(&net(), |_: &Net, x: Tensor<2>| x.clone().mask_fill(x.lower_elem(0.1), f32::NEG_INFINITY))
        .unwrap();
    tamper(finite.graph_mut(), Plain::Max, floats(&[1], &[-1e30]));
    fails(&finite);
}

/// Boxes in pixels, with small scores in the columns after them.
#[test]
fn a_detector_whose_scores_are_all_zero_fails() {
    let mut model = Exporter::new("detector")
        .input("x", batch_of(&[9, 4]))
        .export(&net(), |net: &Net, x: Tensor<3>| {
            let found = x.matmul(net.weight.val().unsqueeze());
            let boxes = found.clone().narrow(2, 0, 4).abs() * 640.0;
            let scores = burn::tensor::activation::sigmoid(found.narrow(2, 4, 2)) * 0.05;
            Tensor::cat(vec![boxes, scores], 2)
        })
        .unwrap();
    verified(&model);
    tamper(model.graph_mut(), Plain::Mul, floats(&[6], &[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
    fails(&model);
}

#[test]
fn an_index_that_is_off_by_four_fails() {
    let mut model = Exporter::new("index")
        .input("x", batch_of(&[50_000]))
        .export(&net(), |_: &Net, x: Tensor<2>| x.argmax(1) + 40_000)
        .unwrap();
    model.verify(&runtime()).unwrap();
    tamper(model.graph_mut(), Plain::Add, Constant::int64s(&[4]));
    fails(&model);
}

#[test]
fn a_small_output_that_is_doubled_fails() {
    let mut model = Exporter::new("small")
        .input("x", batch_of(&[4]))
        .export(&net(), |_: &Net, x: Tensor<2>| (x.square().sum_dim(1) + 0.5) * 1e-4)
        .unwrap();
    verified(&model);
    tamper(model.graph_mut(), Plain::Mul, floats(&[1], &[2.0]));
    fails(&model);
}

/// A bound that normalised pictures never reach, so only the declared range exercises it.
#[test]
fn a_declared_range_is_exercised() {
    let export =
        |exporter: Exporter| exporter.export(&net(), |_: &Net, pose: Tensor<2>| relu(pose + 5.0) * 0.1).unwrap();
    let unbounded = |mut model: ExportedModel| {
        let bound = model.graph_mut().nodes.iter_mut().find(|node| node.is(Plain::Relu)).unwrap();
        bound.op = Plain::Identity.into();
        model
    };
    unbounded(export(Exporter::new("pose").input("pose", batch_of(&[3])))).verify(&runtime()).unwrap();
    let declared = export(Exporter::new("pose").floats("pose", batch_of(&[3]), -90.0..=90.0));
    verified(&declared);
    let error = fails(&unbounded(declared));
    let ExportError::Parity { first: Some(first), .. } = &error else { panic!("{error}") };
    assert!(matches!(first.as_ref(), Divergence::Node { .. }), "{error}");
}

#[test]
fn a_range_that_nothing_is_in_is_refused() {
    let refused = |exporter: Exporter| {
        let error = exporter.export(&net(), |_: &Net, x: Tensor<2>| x * 2.0).unwrap_err();
        assert!(matches!(error, ExportError::Range { .. }), "{error}");
    };
    for range in [1.0..=1.0, 2.0..=1.0, f32::NAN..=1.0, 0.0..=f32::INFINITY] {
        refused(Exporter::new("range").floats("x", batch_of(&[4]), range));
    }
    refused(Exporter::new("range").integers("x", batch_of(&[4]), 0, 5));
    let none = Exporter::new("range").integers("x", batch_of(&[4]), 5, 5);
    let error = none.export(&net(), |_: &Net, x: Tensor<2, Int>| x + 2).unwrap_err();
    assert!(matches!(error, ExportError::Range { .. }), "{error}");
}
