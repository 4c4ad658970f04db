//! Compares our exporter with burn-onnx's. Networks that both export must give the same numbers from either file and in
//! Burn; networks that burn-onnx refuses are exported by ours. Its files and refusals are in `fixtures/burn-onnx`, made
//! by `ci/burn-onnx` from the networks of [`list`].

mod by_path;
mod list;
mod plain;

use std::collections::BTreeSet;

use burn::module::Module;
use burn::tensor::TensorData;
use contract::Axis;
use export::graph::{DType, Tensor as Constant};
use export::verify::{Element, Seeded};
use export::{ExportedModel, Exporter, Inputs, Outputs};
use fixtures::fixture;
use onnx::{Message, ModelProto};
use serde::Deserialize;

use crate::operations::session;
use crate::runtime;
use by_path::weights_by_path;
use list::{Input, Visitor};

/// Largest difference, absolute or as a share of the row's largest value: f32 sums in another order.
const TOLERANCE: f64 = 1e-5;

/// Kinds of rows, as in verification. Their number is divisible by three.
const ROWS: [&str; 9] = ["noise", "blocks16", "zeros", "blocks8", "constant", "ramp", "extremes", "sparse", "blocks32"];

#[derive(Deserialize)]
struct Table {
    /// Kinds of operations that burn-onnx lowers.
    kinds: BTreeSet<String>,
    networks: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    network: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Outcome {
    Exported { batch: Batch, nodes: usize, opset: u32, weights: Weights },
    Refused { refusal: String, because: String },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Batch {
    Fixed(usize),
    Any(Any),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Any {
    Any,
}

#[derive(Deserialize, PartialEq, Eq)]
enum Weights {
    #[serde(rename = "inside")]
    Inside,
    #[serde(rename = "left out")]
    LeftOut,
}

fn table() -> Table {
    serde_json::from_slice(&std::fs::read(fixture("burn-onnx/table.json")).unwrap()).unwrap()
}

/// A model exported by burn-onnx.
struct Theirs {
    model: ModelProto,
}

impl Theirs {
    /// Reads the model of `net` and restores the weights that the fixture leaves out.
    fn read<M: Module>(network: &str, net: &M, weights: &Weights) -> Self {
        let path = fixture(&format!("burn-onnx/{network}.onnx"));
        // Not by `onnx::read`, which refuses tensors whose values were left out.
        let mut model = ModelProto::decode(std::fs::read(path).unwrap().as_slice()).unwrap();
        if *weights == Weights::LeftOut {
            let own = weights_by_path(net);
            for tensor in &mut model.graph.as_mut().unwrap().initializer {
                let Some(data) = own.get(&tensor.name).filter(|_| tensor.raw_data.is_empty()) else { continue };
                tensor.raw_data = data.as_bytes().to_vec();
            }
        }
        Self { model }
    }

    fn nodes(&self) -> usize {
        self.model.graph.as_ref().unwrap().node.len()
    }

    fn run(&self, inputs: &[TensorData]) -> Result<Vec<TensorData>, String> {
        let graph = self.model.graph.as_ref().unwrap();
        let inputs: Vec<_> = graph.input.iter().map(|input| input.name.clone()).zip(inputs.iter().cloned()).collect();
        let outputs: Vec<_> = graph.output.iter().map(|output| output.name.clone()).collect();
        session::answers(&self.model.encode_to_vec(), &inputs, &outputs)
    }
}

/// The network exported by us, for the batch sizes of burn-onnx's model.
fn ours<M, I, O>(name: &str, net: &M, batch: Batch, inputs: &[Input], forward: fn(&M, I) -> O) -> ExportedModel
where
    M: Module + 'static,
    I: Inputs + 'static,
    O: Outputs + 'static,
{
    let batch = match batch {
        Batch::Fixed(size) => Axis::Size(size),
        Batch::Any(Any::Any) => Axis::Symbol("batch".into()),
    };
    let exporter = inputs.iter().fold(Exporter::new(name), |exporter, input| {
        let sizes = input.row.iter().map(|&size| Axis::Size(size));
        let axes: Vec<Axis> = std::iter::once(batch.clone()).chain(sizes).collect();
        match input.below {
            Some(below) => exporter.integers(input.name, axes, 0, below),
            None => exporter.input(input.name, axes),
        }
    });
    exporter.export(net, forward).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs of `batch` rows each, whose kinds are those of [`ROWS`] in turn.
fn rows(inputs: &[Input], batch: Batch) -> Vec<Vec<TensorData>> {
    let sizes = match batch {
        Batch::Fixed(size) => vec![size; ROWS.len().div_ceil(size)],
        Batch::Any(Any::Any) => vec![1, ROWS.len() - 1],
    };
    let mut number = 0..;
    let mut draw = |size: usize| {
        let numbers: Vec<usize> = number.by_ref().take(size).collect();
        let drawn = inputs.iter().enumerate().map(|(at, input)| {
            let kind = |row: usize| if input.below.is_some() { "integers" } else { ROWS[(row + at) % ROWS.len()] };
            let seeded = Seeded {
                input: input.name.into(),
                element: if input.below.is_some() { Element::Int64 } else { Element::Float32 },
                shape: [&[size], input.row].concat(),
                seeds: numbers.iter().map(|&row| format!("input.{}.{row}.{}", input.name, kind(row))).collect(),
                floats: None,
                integers: [0, input.below.unwrap_or(2)],
            };
            seeded.data().unwrap()
        });
        drawn.collect()
    };
    sizes.into_iter().map(&mut draw).collect()
}

/// The largest difference between any two of our file, their file and Burn, in units of the larger of 1 and the row's
/// largest value; an error if it is too large.
fn apart(ours: &ExportedModel, theirs: &Theirs, runs: &[Vec<TensorData>]) -> Result<f64, String> {
    let mut worst: f64 = 0.0;
    for inputs in runs {
        let batch = inputs[0].shape()[0];
        let answers = [
            ("Burn", ours.reference(inputs.clone())),
            ("our file", session::run(ours, inputs)?),
            ("their file", theirs.run(inputs)?),
        ];
        for [(one, first), (other, second)] in
            [(0, 1), (0, 2), (1, 2)].map(|(one, other)| [&answers[one], &answers[other]])
        {
            assert_eq!(first.len(), second.len(), "{one} and {other}");
            for (output, (a, b)) in first.iter().zip(second).enumerate() {
                if a.shape() != b.shape() {
                    return Err(format!("output {output}: {:?} in {one}, {:?} in {other}", a.shape(), b.shape()));
                }
                let (a, b): (Vec<f64>, Vec<f64>) = (a.iter().collect(), b.iter().collect());
                let row = a.len() / batch;
                for (number, (a, b)) in a.chunks(row).zip(b.chunks(row)).enumerate() {
                    let scale = a.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
                    let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs() / scale).fold(0.0, maximum);
                    if difference > TOLERANCE {
                        return Err(format!(
                            "output {output}, row {number}: {one} and {other} differ by {difference:e}"
                        ));
                    }
                    worst = worst.max(difference);
                }
            }
        }
    }
    Ok(worst)
}

/// The maximum, where NaN counts as infinite.
fn maximum(largest: f64, difference: f64) -> f64 {
    if difference.is_nan() { f64::INFINITY } else { largest.max(difference) }
}

/// Compares each network of the list. Where both exporters succeed the results must agree, and we must not need more
/// nodes.
struct Comparison {
    table: Table,
    /// Kinds of operations in the networks that both export.
    kinds: BTreeSet<String>,
}

impl Visitor for Comparison {
    fn visit<M, I, O>(&mut self, name: &'static str, new: fn() -> M, inputs: &[Input], forward: fn(&M, I) -> O)
    where
        M: Module + 'static,
        I: Inputs + 'static,
        O: Outputs + 'static,
    {
        let net = new();
        let row = self.table.networks.iter().find(|row| row.network == name).expect("`ci/burn-onnx` knows the network");
        match &row.outcome {
            Outcome::Exported { batch, nodes, opset, weights } => {
                let theirs = Theirs::read(name, &net, weights);
                let ours = ours(name, &net, *batch, inputs, forward);
                assert_eq!((theirs.nodes(), theirs.model.opset_import[0].version), (*nodes, i64::from(*opset)));
                let worst = apart(&ours, &theirs, &rows(inputs, *batch)).unwrap_or_else(|how| panic!("{name}: {how}"));
                println!("| {name} | {} | {nodes} | within {worst:.1e} |", ours.graph().nodes.len());
                assert!(ours.graph().nodes.len() <= *nodes, "{name}: {} nodes, {nodes}", ours.graph().nodes.len());
                self.kinds.extend(ours.operations().iter().map(|operation| operation.kind()));
            }
            Outcome::Refused { refusal, because } => {
                assert!(refusal.starts_with("unsupported operation"), "{name}: {refusal}");
                let ours = ours(name, &net, Batch::Any(Any::Any), inputs, forward);
                // The batch-specific tests of these networks are elsewhere; here they are only verified.
                ours.verify(&runtime()).unwrap_or_else(|error| panic!("{name}: {error}"));
                let kinds = ours.operations().iter().map(|operation| operation.kind());
                let missing: BTreeSet<String> = kinds.filter(|kind| !self.table.kinds.contains(kind)).collect();
                println!("| {name} | {} | refuses {because} | {missing:?} |", ours.graph().nodes.len());
            }
        }
    }
}

fn comparison() -> Comparison {
    Comparison { table: table(), kinds: BTreeSet::new() }
}

#[test]
fn networks_of_others() {
    let mut comparison = comparison();
    list::others(&mut comparison);
    // The comparison covers all operations that burn-onnx lowers, and the table lists exactly these.
    assert_eq!(comparison.kinds, comparison.table.kinds);
}

#[test]
fn networks_for_persons() {
    list::persons(&mut comparison());
}

#[test]
fn networks_for_faces() {
    list::faces(&mut comparison());
}

#[test]
fn networks_for_palms() {
    list::palms(&mut comparison());
}

/// Collects the names of the networks in the list.
#[derive(Default)]
struct Names(BTreeSet<&'static str>);

impl Visitor for Names {
    fn visit<M, I, O>(&mut self, name: &'static str, _: fn() -> M, _: &[Input], _: fn(&M, I) -> O)
    where
        M: Module + 'static,
        I: Inputs + 'static,
        O: Outputs + 'static,
    {
        assert!(self.0.insert(name), "two networks are called `{name}`");
    }
}

#[test]
fn the_table_has_every_network_and_every_file() {
    let mut names = Names::default();
    list::others(&mut names);
    list::persons(&mut names);
    list::faces(&mut names);
    list::palms(&mut names);
    let table = table();
    let rows: BTreeSet<_> = table.networks.iter().map(|row| row.network.as_str()).collect();
    assert_eq!((&rows, table.networks.len()), (&names.0, names.0.len()));
    let exported = table.networks.iter().filter(|row| matches!(row.outcome, Outcome::Exported { .. }));
    let mut files: BTreeSet<String> = exported.map(|row| format!("{}.onnx", row.network)).collect();
    files.extend(["README.md", "table.json"].map(str::to_owned));
    let found = std::fs::read_dir(fixture("burn-onnx")).unwrap();
    let found: BTreeSet<String> = found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, files);
}

/// A small change of one weight on either side is found, because the comparison is of results, not of files.
#[test]
fn a_changed_weight_on_either_side_is_caught() {
    struct Planted;
    impl Visitor for Planted {
        fn visit<M, I, O>(&mut self, name: &'static str, new: fn() -> M, inputs: &[Input], forward: fn(&M, I) -> O)
        where
            M: Module + 'static,
            I: Inputs + 'static,
            O: Outputs + 'static,
        {
            if name != "convolutional" {
                return;
            }
            let (net, batch) = (new(), Batch::Any(Any::Any));
            let runs = rows(inputs, batch);
            let mut theirs = Theirs::read(name, &net, &Weights::Inside);
            let mut ours = ours(name, &net, batch, inputs, forward);
            apart(&ours, &theirs, &runs).unwrap();

            let graph = theirs.model.graph.as_mut().unwrap();
            let weight = graph.initializer.iter_mut().find(|tensor| tensor.name == "conv1.weight").unwrap();
            let first: [u8; 4] = weight.raw_data[..4].try_into().unwrap();
            weight.raw_data[..4].copy_from_slice(&(f32::from_le_bytes(first) + 0.01).to_le_bytes());
            let how = apart(&ours, &theirs, &runs).unwrap_err();
            assert!(how.contains("Burn and their file"), "{how}");

            let theirs = Theirs::read(name, &net, &Weights::Inside);
            let id = ours.graph().initialiser_named("conv2.weight").unwrap();
            let constant = ours.graph_mut().initialiser_mut(id).unwrap();
            let mut values = constant.to_f64s().unwrap();
            values[0] += 0.01;
            *constant = Constant::from_f64s(DType::Float, constant.dims().to_vec(), &values).unwrap();
            let how = apart(&ours, &theirs, &runs).unwrap_err();
            assert!(how.contains("Burn and our file"), "{how}");
        }
    }
    list::others(&mut Planted);
}
