//! Which execution provider really runs which nodes of a model.
//!
//! ONNX Runtime gives a provider what it can run and quietly leaves the rest to the CPU: the model is right and slow. A
//! run with its profiler on tells for every node who ran it, on values of which types and sizes.
//!
//! CUDA hands some nodes back on purpose: those that compute with shapes, whose few integers the CPU needs anyhow. They
//! are counted and allowed. A node counts as one of them if it is `Shape` or `Size`, or if all it reads and writes are
//! `int32`, `int64` and `bool` tensors of at most [`MOST_OF_A_SHAPE`] values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::provider::Provider;

/// Most values of a tensor that a node may read or write to count as one that computes with shapes.
const MOST_OF_A_SHAPE: u64 = 1024;

/// Largest profile that is read, in bytes. A node takes about a kilobyte.
pub(super) const LARGEST_PROFILE: u64 = 256 << 20;

/// Nodes that are named in a message; the rest are only counted.
const NAMED: usize = 5;

/// A node that ran.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    /// The provider's name in ONNX Runtime.
    provider: String,
    /// Whether it only computes with shapes.
    of_shapes: bool,
    operator: String,
    name: String,
    /// Its number in its graph: names may be equal.
    index: String,
}

/// The nodes of a model that ran, after ONNX Runtime's optimisation, by execution provider. What a provider compiled
/// into one is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    nodes: BTreeSet<Node>,
}

impl Placement {
    /// Reads the only profile in `folder`.
    pub(super) fn in_folder(folder: &Path) -> std::io::Result<Self> {
        let entry = std::fs::read_dir(folder)?.next().transpose()?;
        let entry = entry.ok_or_else(|| std::io::Error::other("ONNX Runtime wrote no profile of the run"))?;
        let text = files::read_text_limited(&entry.path(), LARGEST_PROFILE)?;
        Self::of_profile(&text).map_err(std::io::Error::other)
    }

    /// The nodes in a profile of one or more runs.
    fn of_profile(text: &str) -> Result<Self, String> {
        let events: Vec<Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let nodes: BTreeSet<Node> = events.iter().filter_map(node).collect();
        if nodes.is_empty() { Err("the profile of the run has no nodes".into()) } else { Ok(Self { nodes }) }
    }

    /// Of a runtime that runs all nodes itself, counted by operator.
    pub(super) fn alone(runtime: &str, operators: &BTreeMap<String, usize>) -> Self {
        let nodes = operators.iter().flat_map(|(operator, count)| {
            (0..*count).map(move |index| Node {
                provider: runtime.to_owned(),
                of_shapes: false,
                operator: operator.clone(),
                name: String::new(),
                index: index.to_string(),
            })
        });
        Self { nodes: nodes.collect() }
    }

    /// Nodes by provider, named as on the command line.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for node in &self.nodes {
            *counts.entry(short(&node.provider)).or_default() += 1;
        }
        counts
    }

    /// Nodes that only compute with shapes, and that the provider left to the CPU.
    pub fn of_shapes(&self) -> usize {
        self.nodes.iter().filter(|node| node.of_shapes && node.provider == CPU).count()
    }

    /// What `asked` does not run though it was asked to, in a sentence; none if it runs everything but nodes that only
    /// compute with shapes. TensorRT may leave nodes to CUDA, and XNNPACK to the CPU, but not all of them.
    pub(super) fn missed(&self, asked: Provider) -> Option<String> {
        match asked {
            Provider::Auto | Provider::Cpu => None,
            Provider::Cuda(_) => self.missed_by(&[CUDA]),
            Provider::TensorRt(_) => self.missed_by(&[TENSORRT, CUDA]),
            Provider::OpenVino(_) => self.missed_by(&[OPENVINO]),
            Provider::CoreMl => self.missed_by(&[COREML]),
            // Nothing is copied between these two, so what XNNPACK lacks costs nothing more than it does without it.
            Provider::Xnnpack => self.missed_by(&[XNNPACK, CPU]),
        }
    }

    /// As [`Self::missed`], of the first of `allowed`, which may leave nodes to the others.
    fn missed_by(&self, allowed: &[&str]) -> Option<String> {
        let runs = |name: &str| self.nodes.iter().filter(|node| node.provider == name).count();
        let others = self.nodes.iter().filter(|node| !allowed.contains(&node.provider.as_str()));
        let mut others: Vec<&Node> = others.filter(|node| !(node.of_shapes && node.provider == CPU)).collect();
        if others.is_empty() && allowed.first().is_some_and(|first| runs(first) == 0) {
            others = self.nodes.iter().collect();
        }
        if others.is_empty() {
            return None;
        }
        let named = others
            .iter()
            .take(NAMED)
            .map(|node| format!("{} `{}` ({})", node.operator, node.name, short(&node.provider)));
        let mut named = named.collect::<Vec<_>>().join(", ");
        if others.len() > NAMED {
            named += &format!(" and {} more", others.len() - NAMED);
        }
        Some(format!("{} of {} nodes: {named}", others.len(), self.nodes.len()))
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let plural = |count: usize| if count == 1 { "node" } else { "nodes" };
        let parts = counts.iter().map(|(name, count)| format!("{name} runs {count} {}", plural(*count)));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))?;
        match self.of_shapes() {
            of_shapes if of_shapes > 0 && counts.len() > 1 => write!(f, " ({of_shapes} compute only with shapes)"),
            _ => Ok(()),
        }
    }
}

const CPU: &str = "CPUExecutionProvider";
const CUDA: &str = "CUDAExecutionProvider";
const TENSORRT: &str = "TensorrtExecutionProvider";
const OPENVINO: &str = "OpenVINOExecutionProvider";
const COREML: &str = "CoreMLExecutionProvider";
const XNNPACK: &str = "XnnpackExecutionProvider";

/// A provider's name on the command line, or else ONNX Runtime's.
fn short(provider: &str) -> &str {
    match provider {
        CPU => "cpu",
        CUDA => "cuda",
        TENSORRT => "tensorrt",
        OPENVINO => "openvino",
        COREML => "coreml",
        XNNPACK => "xnnpack",
        other => other,
    }
}

/// The node of a profile's event, if that is the run of one.
fn node(event: &Value) -> Option<Node> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = event["name"].as_str().filter(|_| event["cat"] == "Node")?.strip_suffix("_kernel_time")?;
    let arguments = &event["args"];
    let provider = arguments["provider"].as_str()?.to_owned();
    let operator = text(&arguments["op_name"]);
    let written = few_integers(&arguments["output_type_shape"]);
    let read = ["Shape", "Size"].contains(&operator.as_str()) || few_integers(&arguments["input_type_shape"]);
    // One that writes nothing would be none of shapes.
    let writes = arguments["output_type_shape"].as_array().is_some_and(|values| !values.is_empty());
    let index = text(&arguments["node_index"]);
    Some(Node { provider, of_shapes: writes && written && read, operator, name: name.to_owned(), index })
}

/// Whether all of a node's values are of few integers: `[{"int64": [4]}, ..]`.
fn few_integers(values: &Value) -> bool {
    let small = |shape: &Value| {
        let mut sizes = shape.as_array()?.iter().map(Value::as_u64);
        sizes.try_fold(1_u64, |product, size| product.checked_mul(size?)).filter(|product| *product <= MOST_OF_A_SHAPE)
    };
    let fits = |(kind, shape): (&String, &Value)| {
        ["int32", "int64", "bool"].contains(&kind.as_str()) && small(shape).is_some()
    };
    let all = |value: &Value| value.as_object().is_some_and(|value| value.iter().all(fits));
    values.as_array().is_some_and(|values| values.iter().all(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event as ONNX Runtime 1.31 writes it: name, operator, provider, inputs, outputs.
    fn event([name, operator, provider]: [&str; 3], inputs: &str, outputs: &str) -> String {
        format!(
            r#"{{"cat":"Node","pid":1,"tid":1,"dur":5,"ts":9,"ph":"X","name":"{name}_kernel_time","args":{{"op_name":
            "{operator}","provider":"{provider}ExecutionProvider","node_index":"{}","input_type_shape":[{inputs}],
            "output_type_shape":[{outputs}]}}}}"#,
            name.len()
        )
    }

    /// Sessions and fences have no node; a loop runs its nodes again.
    fn placement(events: &[String]) -> Placement {
        let session = r#"{"cat":"Session","pid":1,"tid":1,"dur":1,"ts":1,"ph":"X","name":"model_run","args":{}}"#;
        let kernel = r#"{"cat":"Kernel","name":"gemm","args":{"stream":"7","op_name":""}}"#;
        let last = events.last().cloned().unwrap_or_default();
        Placement::of_profile(&format!("[{session},{kernel},{},{last}]", events.join(","))).unwrap()
    }

    const FLOATS: &str = r#"{"float":[2,3,8,8]}"#;
    const SHAPE: &str = r#"{"int64":[4]}"#;

    #[test]
    fn a_provider_that_leaves_computation_to_the_cpu_is_counted_out() {
        let mut events = vec![
            event(["conv", "Conv", "CUDA"], &format!(r#"{FLOATS},{{"float":[16,3,1,1]}}"#), FLOATS),
            event(["shape", "Shape", "CPU"], FLOATS, SHAPE),
            event(["gather", "Gather", "CPU"], &format!(r#"{SHAPE},{{"int64":[]}}"#), r#"{"int64":[1]}"#),
            event(["equal", "Equal", "CPU"], SHAPE, r#"{"bool":[4]}"#),
            event(["reshape", "Reshape", "CUDA"], &format!("{FLOATS},{SHAPE}"), FLOATS),
        ];
        let whole = placement(&events);
        assert_eq!(whole.counts(), BTreeMap::from([("cpu", 3), ("cuda", 2)]));
        assert_eq!(whole.to_string(), "cpu runs 3 nodes, cuda runs 2 nodes (3 compute only with shapes)");
        assert_eq!(whole.missed(Provider::Cuda(0)), None);
        assert_eq!(whole.missed(Provider::Auto), None);
        // None of these computes with shapes.
        for (name, operator, inputs, outputs) in [
            ("einsum", "Einsum", FLOATS, FLOATS),
            ("best", "ArgMax", FLOATS, SHAPE),
            ("quantised", "ConvInteger", r#"{"uint8":[1,3,4,4]}"#, r#"{"int32":[1,3,4,4]}"#),
            ("large", "Add", r#"{"int64":[1025]}"#, r#"{"int64":[1025]}"#),
            ("fill", "ConstantOfShape", SHAPE, FLOATS),
            ("silent", "Custom", SHAPE, ""),
        ] {
            events.push(event([name, operator, "CPU"], inputs, outputs));
            let told = placement(&events).missed(Provider::Cuda(0)).unwrap();
            assert!(told.contains(&format!("{operator} `{name}` (cpu)")) || told.contains(" more"), "{told}");
        }
        let told = placement(&events).missed(Provider::Cuda(0)).unwrap();
        assert!(told.starts_with("6 of 11 nodes: ") && told.ends_with(" and 1 more"), "{told}");
    }

    #[test]
    fn tensorrt_may_leave_nodes_to_cuda_but_not_all() {
        let whole = [
            event(["TRTKernel_graph_0", "TRTKernel_graph_0", "Tensorrt"], FLOATS, FLOATS),
            event(["nms", "NonMaxSuppression", "CUDA"], FLOATS, SHAPE),
        ];
        assert_eq!(placement(&whole).missed(Provider::TensorRt(0)), None);
        assert_eq!(placement(&whole).counts(), BTreeMap::from([("cuda", 1), ("tensorrt", 1)]));
        let told = placement(&whole[1..]).missed(Provider::TensorRt(0)).unwrap();
        assert_eq!(told, "1 of 1 nodes: NonMaxSuppression `nms` (cuda)");
        assert!(placement(&whole).missed(Provider::Cuda(0)).unwrap().contains("(tensorrt)"));
    }

    #[test]
    fn xnnpack_may_leave_nodes_to_the_cpu_but_not_all_and_the_others_none() {
        use super::super::provider::Unit;
        let of = |provider: &str| {
            [event(["conv", "Conv", provider], FLOATS, FLOATS), event(["erf", "Erf", "CPU"], FLOATS, FLOATS)]
        };
        assert_eq!(placement(&of("Xnnpack")).missed(Provider::Xnnpack), None);
        assert_eq!(placement(&of("Xnnpack")).counts(), BTreeMap::from([("cpu", 1), ("xnnpack", 1)]));
        assert!(placement(&of("CPU")).missed(Provider::Xnnpack).unwrap().starts_with("2 of 2 nodes"));
        let told = placement(&of("OpenVINO")).missed(Provider::OpenVino(Unit::Cpu)).unwrap();
        assert_eq!(told, "1 of 2 nodes: Erf `erf` (cpu)");
        assert_eq!(placement(&of("CoreML")).missed(Provider::CoreMl).unwrap(), "1 of 2 nodes: Erf `erf` (cpu)");
    }

    #[test]
    fn a_profile_without_nodes_is_no_answer() {
        assert!(Placement::of_profile("[]").unwrap_err().contains("no nodes"));
        assert!(Placement::of_profile("[{\"cat\": ").is_err());
    }

    /// ONNX Runtime itself: a device that no machine has, registered as one that may be missing. The CPU takes all.
    #[test]
    fn a_provider_that_runs_nothing_is_found_out() {
        use onnx::{
            DataType, Dimension, DimensionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto,
            TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
        };
        use ort::session::{RunOptions, Session};
        use ort::value::TensorRef;

        let node = |operator: &str, input: &str, output: &str| NodeProto {
            op_type: operator.into(),
            name: format!("the {output}"),
            input: vec![input.into()],
            output: vec![output.into()],
            ..Default::default()
        };
        let value = |name: &str| {
            let shape = TensorShapeProto { dim: vec![DimensionProto { value: Some(Dimension::Value(3)) }] };
            let tensor_type = Some(TensorTypeProto { elem_type: DataType::Float as i32, shape: Some(shape) });
            ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }), ..Default::default() }
        };
        let model = ModelProto {
            ir_version: 10,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 20 }],
            graph: Some(GraphProto {
                name: "two".into(),
                node: vec![node("Erf", "x", "y"), node("Exp", "y", "z")],
                input: vec![value("x")],
                output: vec![value("z")],
                ..Default::default()
            }),
            ..Default::default()
        };
        let runtime = crate::runtime::load().unwrap();
        let missing = ort::ep::CUDA::default().with_device_id(99).build();
        let builder = Session::builder(&runtime.environment).unwrap().with_execution_providers([missing]).unwrap();
        let mut session = { builder }.commit_from_memory(&model.encode_to_vec()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut options = RunOptions::new().unwrap();
        options.enable_profiling(folder.path().join("run")).unwrap();
        let values = [0.0_f32; 3];
        let input = TensorRef::from_array_view(([3], values.as_slice())).unwrap();
        drop(session.run_with_options(ort::inputs!["x" => input], &options).unwrap());
        let placement = Placement::in_folder(folder.path()).unwrap();
        assert_eq!(placement.counts(), BTreeMap::from([("cpu", 2)]));
        let told = placement.missed(Provider::Cuda(99)).unwrap();
        assert_eq!(told, "2 of 2 nodes: Erf `the y` (cpu), Exp `the z` (cpu)");
    }
}
