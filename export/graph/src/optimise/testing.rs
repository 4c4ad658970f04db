//! Small graphs for tests, run in ONNX Runtime before and after a pass.

use crate::checker;
use crate::dim::Dim;
use crate::encode::encode;
use crate::graph::{Graph, Node, ValueId};
use crate::op::Op;
use crate::run::{Opening, Runtime};
use crate::tensor::{DType, Tensor};

/// Largest difference a pass may make: rounding of folded f32 weights.
const TOLERANCE: f64 = 1e-5;

/// Numbers between 0 and 1 without a pattern, different for each `seed`.
fn noise(seed: usize, count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |index| ((index as f64 * 12.9898 + seed as f64 * 78.233).sin() * 43_758.545_3).rem_euclid(1.0))
}

/// A graph under construction with one input `x`; weights are filled by their index.
pub(super) struct Build {
    graph: Graph,
    x: ValueId,
    shape: Vec<usize>,
    made: usize,
}

/// A finished graph with one output `y`.
pub(super) struct Built {
    graph: Graph,
    shape: Vec<usize>,
    opset: u32,
}

impl Build {
    pub(super) fn new(shape: &[usize]) -> Self {
        let mut graph = Graph::new("test");
        let x = graph.add_value("x", DType::Float, shape.iter().map(|&size| Dim::Size(size)).collect());
        graph.inputs.push(x);
        Self { graph, x, shape: shape.to_vec(), made: 0 }
    }

    pub(super) fn x(&self) -> ValueId {
        self.x
    }

    fn constant(&mut self, dims: &[usize], value: impl Fn(f64) -> f64) -> ValueId {
        self.made += 1;
        let name = format!("w{}", self.made);
        let values: Vec<f64> = noise(self.made, dims.iter().product()).map(value).collect();
        let tensor = Tensor::from_f64s(DType::Float, dims.to_vec(), &values).unwrap();
        self.graph.add_initialiser(&name, tensor)
    }

    pub(super) fn weights(&mut self, dims: &[usize]) -> ValueId {
        self.constant(dims, |u| 2.0 * u - 1.0)
    }

    pub(super) fn positive(&mut self, dims: &[usize]) -> ValueId {
        self.constant(dims, |u| 0.5 + u)
    }

    pub(super) fn number(&mut self, value: f64) -> ValueId {
        self.graph.add_initialiser("number", Tensor::from_f64s(DType::Float, vec![], &[value]).unwrap())
    }

    pub(super) fn int32(&mut self, value: i32) -> ValueId {
        let tensor = Tensor::from_f64s(DType::Int32, vec![], &[value.into()]).unwrap();
        self.graph.add_initialiser("integer", tensor)
    }

    pub(super) fn copy(&mut self, constant: ValueId, name: &str) -> ValueId {
        let tensor = self.graph.initialiser(constant).unwrap().clone();
        self.graph.add_initialiser(name, tensor)
    }

    pub(super) fn int64s(&mut self, values: &[i64]) -> ValueId {
        self.graph.add_initialiser("shape", Tensor::int64s(values))
    }

    pub(super) fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId], dims: &[usize]) -> ValueId {
        self.typed(op, inputs, dims, DType::Float)
    }

    pub(super) fn typed(&mut self, op: impl Into<Op>, inputs: &[ValueId], dims: &[usize], dtype: DType) -> ValueId {
        let op = op.into();
        let name = self.graph.node_name(&op.name());
        let dims = dims.iter().map(|&size| Dim::Size(size)).collect();
        let output = self.graph.add_value(&format!("{name}/output"), dtype, dims);
        let inputs = inputs.iter().copied().map(Some).collect();
        self.graph.nodes.push(Node { name, op, inputs, outputs: vec![output] });
        output
    }

    /// Ends with an identity node that gives the output its name.
    pub(super) fn output(mut self, value: ValueId) -> Built {
        let dims = self.graph.value(value).dims.clone();
        let y = self.graph.add_value("y", DType::Float, dims);
        for written in self.graph.nodes.iter_mut().flat_map(|node| &mut node.outputs) {
            if *written == value {
                *written = y;
            }
        }
        self.graph.redirect(value, y);
        self.graph.outputs.push(y);
        Built { graph: self.graph, shape: self.shape, opset: crate::DEFAULT_OPSET }
    }
}

impl Built {
    /// The graph as it was built.
    pub(super) fn graph(self) -> Graph {
        self.graph
    }

    /// Sets a later operator set than the default.
    pub(super) fn at(self, opset: u32) -> Self {
        Self { opset, ..self }
    }

    fn run(&self, graph: &Graph) -> Vec<f64> {
        checker::check(graph, self.opset).unwrap();
        let bytes = encode(graph, self.opset, &[]).unwrap();
        // Run it as written: the runtime's own rewrites would hide ours.
        let runtime = Runtime::load().unwrap_or_else(|error| panic!("{error}"));
        let mut session = runtime.open(&bytes, Opening::plain(false)).unwrap();
        let values: Vec<f64> = noise(0, self.shape.iter().product()).map(|u| 2.0 * u - 1.0).collect();
        let input = Tensor::from_f64s(DType::Float, self.shape.clone(), &values).unwrap();
        session.run(&[("x".into(), input)], &["y".into()]).unwrap().remove(0).values
    }

    /// Applies a pass that must change the graph but not its results; returns the new graph.
    pub(super) fn check(self, pass: impl Fn(&mut Graph) -> bool) -> Graph {
        let mut after = self.graph.clone();
        assert!(pass(&mut after), "the pass did not apply");
        let (old, new) = (self.run(&self.graph), self.run(&after));
        assert_eq!(old.len(), new.len());
        let worst = old.iter().zip(&new).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= TOLERANCE, "the results differ by {worst}");
        assert!(old.iter().any(|value| value.abs() > 1e-3), "the test shows nothing: all results are 0");
        after
    }

    /// Applies a pass that must not match.
    pub(super) fn unchanged(self, pass: impl Fn(&mut Graph) -> bool) {
        let mut after = self.graph.clone();
        assert!(!pass(&mut after), "the pass applied");
        assert_eq!(after, self.graph);
    }
}
