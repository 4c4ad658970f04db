//! Pairs of `QuantizeLinear` and `DequantizeLinear` put into a graph, where runtimes fuse them into integer kernels.

use std::collections::{BTreeSet, HashMap, HashSet};

use onnx::{AttributeProto, AttributeType, DataType, ModelProto, NodeProto, TensorProto};

use super::net::{Names, Net, dims, floats};
use super::pools::{Mean, mean};
use super::range::Affine;
use super::rules::{Rule, passes, rule};
use super::{Prepared, Ranges, Target, weights};

/// How a graph is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int8 {
    /// What computes it.
    pub target: Target,
    /// Bits of weights: 8, or 7 for processors without VNNI, which add two products in 16 bits and saturate.
    pub weight_bits: u8,
}

/// A quantised model.
#[derive(Debug, Clone, PartialEq)]
pub struct Inserted {
    /// The model.
    pub model: ModelProto,
    /// Nodes that compute in integers, in the order of the file.
    pub nodes: Vec<String>,
    /// Nodes that were chosen and stay float, each with the reason.
    pub left: Vec<(String, String)>,
}

/// Quantises the `chosen` nodes of a model; all others stay as they are.
///
/// On CPUs every result of a chosen node is quantised too, with the ReLU behind it inside; pooling by maximum and
/// changes of shape between two of them pass integers on, and a chosen pooling by mean becomes a convolution. For
/// TensorRT pairs stand only before what is computed in integers. A chosen node that no rule knows, or of which a range
/// is missing, stays float and is listed with the reason.
pub fn integers(model: &Prepared, ranges: &Ranges, chosen: &BTreeSet<String>, how: &Int8) -> Inserted {
    let net = model.net();
    let mut left = vec![];
    let mut rules: HashMap<usize, Rule> = HashMap::new();
    for (index, node) in net.graph.node.iter().enumerate().filter(|(_, node)| chosen.contains(&node.name)) {
        match rule(&net, node, how.target) {
            None => left.push((node.name.clone(), "no rule for it".to_owned())),
            Some(found) => match missing(&net, node, found, ranges, how.target) {
                Some(value) => left.push((node.name.clone(), format!("the range of `{value}` is not known"))),
                None => {
                    rules.insert(index, found);
                }
            },
        }
    }
    let pairs = pairs(&net, &rules, ranges, how.target);
    let mut edit = Edit {
        net: &net,
        how: *how,
        pairs: &pairs,
        names: Names::of(net.graph),
        constants: vec![],
        weights: HashMap::new(),
        before: HashMap::new(),
        after: HashMap::new(),
        inputs: vec![],
    };
    let nodes: Vec<NodeProto> = edit.nodes(&rules);
    let mut graph = net.graph.clone();
    graph.initializer.extend(edit.constants);
    graph.node = nodes;
    drop_unused(&mut graph);
    let quantised = |(index, node): (usize, &NodeProto)| rules.contains_key(&index).then(|| node.name.clone());
    let nodes = net.graph.node.iter().enumerate().filter_map(quantised).collect();
    Inserted { model: ModelProto { graph: Some(graph), ..model.model().clone() }, nodes, left }
}

/// The values that a quantised node reads in integers, weights apart.
fn operands<'a>(net: &Net<'a>, node: &'a NodeProto, rule: Rule, target: Target) -> Vec<&'a str> {
    let inputs = node.input.iter().map(String::as_str);
    match rule {
        Rule::Weighted { .. } => inputs.take(1).collect(),
        Rule::Plain | Rule::Unit if target == Target::TensorRt && node.op_type == "Add" => {
            // The convolution before it takes the sum over, so only the other branch is read in integers.
            let convolved = |name: &&str| net.producer(name).is_some_and(|at| net.graph.node[at].op_type == "Conv");
            let all: Vec<&str> = inputs.collect();
            match all.iter().position(convolved) {
                Some(at) => all.into_iter().enumerate().filter(|(index, _)| *index != at).map(|(_, n)| n).collect(),
                None => all,
            }
        }
        Rule::Plain | Rule::Unit => inputs.collect(),
    }
}

fn missing<'a>(net: &Net<'a>, node: &'a NodeProto, rule: Rule, ranges: &Ranges, target: Target) -> Option<&'a str> {
    let mut values = operands(net, node, rule, target);
    if target == Target::Cpu && rule != Rule::Unit {
        values.extend(net.result(node));
    }
    values.into_iter().find(|value| !ranges.get(*value).is_some_and(|range| range.iter().all(|end| end.is_finite())))
}

/// A pair on a value.
#[derive(Debug, Clone, Copy)]
struct Pair {
    affine: Affine,
    /// Whether the value's producer computes in integers, so that all its readers read behind the pair.
    whole: bool,
}

fn pairs<'a>(net: &Net<'a>, rules: &HashMap<usize, Rule>, ranges: &Ranges, target: Target) -> HashMap<&'a str, Pair> {
    let nodes = || net.graph.node.iter().enumerate();
    let mut wanted: HashSet<&str> = HashSet::new();
    let mut written: HashMap<&str, Rule> = HashMap::new();
    for (index, node) in nodes() {
        let Some(&rule) = rules.get(&index) else { continue };
        wanted.extend(operands(net, node, rule, target));
        if target == Target::Cpu
            && let Some(result) = net.result(node)
        {
            written.insert(result, rule);
        }
    }
    // What passes integers on passes on the wish for them, from the end of the graph to its beginning.
    let through = |node: &NodeProto| target == Target::Cpu && passes(node) && net.constant(&node.input[0]).is_none();
    for (_, node) in nodes().collect::<Vec<_>>().into_iter().rev() {
        if through(node) && wanted.contains(node.output[0].as_str()) {
            wanted.insert(&node.input[0]);
        }
    }
    let affine = |name: &str, rule: Option<&Rule>| match (rule, target) {
        // A sigmoid is quantised as runtimes do it by themselves.
        (Some(Rule::Unit), Target::Cpu) => Some(Affine { scale: 1.0 / 256.0, zero: 0 }),
        (_, Target::Cpu) => ranges.get(name).map(|&range| Affine::unsigned(range)),
        (_, Target::TensorRt) => ranges.get(name).map(|&range| Affine::symmetric(range)),
    };
    let mut pairs: HashMap<&str, Pair> = HashMap::new();
    let read: HashSet<&str> = nodes()
        .filter_map(|(index, node)| rules.get(&index).map(|&rule| operands(net, node, rule, target)))
        .flatten()
        .collect();
    for input in net.graph.input.iter().map(|input| input.name.as_str()).filter(|name| read.contains(name)) {
        if let Some(affine) = affine(input, None) {
            pairs.insert(input, Pair { affine, whole: false });
        }
    }
    for (_, node) in nodes() {
        for name in node.output.iter().map(String::as_str) {
            if let Some(rule) = written.get(name) {
                if let Some(affine) = affine(name, Some(rule)) {
                    pairs.insert(name, Pair { affine, whole: true });
                }
            } else if through(node)
                && wanted.contains(name)
                && let Some(&Pair { affine, whole: true }) = pairs.get(node.input[0].as_str())
            {
                pairs.insert(name, Pair { affine, whole: true });
            } else if read.contains(name)
                && let Some(affine) = affine(name, None)
            {
                pairs.insert(name, Pair { affine, whole: false });
            }
        }
    }
    pairs
}

struct Edit<'a, 'n> {
    net: &'n Net<'a>,
    how: Int8,
    pairs: &'n HashMap<&'a str, Pair>,
    names: Names,
    constants: Vec<TensorProto>,
    /// Dequantised weights by constant, axis and scales: two nodes that share them read one.
    weights: HashMap<(String, usize, Vec<u32>), String>,
    /// What a value is called before its pair, where its producer had to give the name away to an output.
    before: HashMap<&'a str, String>,
    /// What a value is called behind its pair.
    after: HashMap<&'a str, String>,
    /// Pairs on inputs, which stand at the beginning.
    inputs: Vec<NodeProto>,
}

impl<'a> Edit<'a, '_> {
    fn nodes(&mut self, rules: &HashMap<usize, Rule>) -> Vec<NodeProto> {
        let graph = self.net.graph;
        for input in &graph.input {
            let pair = self.pair(&input.name);
            self.inputs.extend(pair);
        }
        let mut nodes = std::mem::take(&mut self.inputs);
        for (index, node) in graph.node.iter().enumerate() {
            let mut changed = node.clone();
            for (name, original) in changed.input.iter_mut().zip(&node.input) {
                let pair = self.pairs.get(original.as_str());
                let read = rules
                    .get(&index)
                    .is_some_and(|&rule| operands(self.net, node, rule, self.how.target).contains(&original.as_str()));
                if pair.is_some_and(|pair| pair.whole || read) {
                    name.clone_from(&self.after[original.as_str()]);
                }
            }
            match rules.get(&index) {
                Some(Rule::Weighted { axis }) => nodes.extend(self.weight(node, &mut changed, *axis)),
                Some(Rule::Plain) if self.how.target == Target::Cpu => nodes.extend(self.pool(node, &mut changed)),
                _ => {}
            }
            let mut behind = vec![];
            for (name, original) in changed.output.iter_mut().zip(&node.output) {
                behind.extend(self.pair(original));
                if let Some(before) = self.before.get(original.as_str()) {
                    name.clone_from(before);
                }
            }
            nodes.push(changed);
            nodes.extend(behind);
        }
        nodes
    }

    /// The two nodes behind a value, if it has a pair.
    fn pair(&mut self, value: &'a str) -> Vec<NodeProto> {
        let Some(&Pair { affine, whole }) = self.pairs.get(value) else { return vec![] };
        // Readers of an output's name read behind the pair as well.
        let (before, after) = if whole && self.net.is_output(value) {
            (self.names.fresh(&format!("{value}/float")), value.to_owned())
        } else {
            (value.to_owned(), self.names.fresh(&format!("{value}/dequantised")))
        };
        let kind = match self.how.target {
            Target::Cpu => DataType::Uint8,
            Target::TensorRt => DataType::Int8,
        };
        let scale = self.scalar(&format!("{value}/scale"), DataType::Float, affine.scale.to_le_bytes().to_vec());
        let zero = self.scalar(&format!("{value}/zero"), kind, vec![affine.zero as u8]);
        let between = self.names.fresh(&format!("{value}/quantised"));
        let name = self.names.fresh(&format!("{value}/QuantizeLinear"));
        let quantise = node("QuantizeLinear", name, [&before, &scale, &zero], &between);
        let name = self.names.fresh(&format!("{value}/DequantizeLinear"));
        let dequantise = node("DequantizeLinear", name, [&between, &scale, &zero], &after);
        if before != value {
            self.before.insert(value, before);
        }
        self.after.insert(value, after);
        vec![quantise, dequantise]
    }

    fn scalar(&mut self, wanted: &str, kind: DataType, raw_data: Vec<u8>) -> String {
        self.constant(wanted, kind, vec![], raw_data)
    }

    fn constant(&mut self, wanted: &str, kind: DataType, dims: Vec<i64>, raw_data: Vec<u8>) -> String {
        let name = self.names.fresh(wanted);
        let tensor =
            TensorProto { dims, data_type: kind as i32, raw_data, name: name.clone(), ..TensorProto::default() };
        self.constants.push(tensor);
        name
    }

    /// Quantises the second input; the node that dequantises it again, unless another one has done so.
    fn weight(&mut self, original: &NodeProto, changed: &mut NodeProto, axis: usize) -> Option<NodeProto> {
        let tensor = self.net.constant(&original.input[1])?;
        let (values, shape) = (floats(tensor)?, dims(tensor));
        let bias = original.input.get(2).and_then(|name| self.net.constant(name)).and_then(floats);
        let input = self.pairs.get(original.input[0].as_str())?.affine.scale;
        let mut floor = bias.map(|bias| weights::bias_floor(&bias, input)).unwrap_or_default();
        if floor.len() != shape[axis] {
            // A bias of one value is one of every channel.
            floor = floor.first().map(|&only| vec![only; shape[axis]]).unwrap_or_default();
        }
        let weights::Channels { values, scales } =
            weights::per_channel(&values, &shape, axis, self.how.weight_bits, &floor);
        let key = (tensor.name.clone(), axis, scales.iter().map(|scale| scale.to_bits()).collect());
        if let Some(known) = self.weights.get(&key) {
            changed.input[1].clone_from(known);
            return None;
        }
        let (output, dequantise) = self.dequantised(&tensor.name, &tensor.dims, axis, &values, &scales);
        changed.input[1].clone_from(&output);
        self.weights.insert(key, output);
        Some(dequantise)
    }

    /// Turns a pooling by mean into a convolution, if it can be one; the node that dequantises its weights.
    fn pool(&mut self, original: &NodeProto, changed: &mut NodeProto) -> Option<NodeProto> {
        let Mean { channels, window: [height, width], attributes } = mean(self.net, original)?;
        let (values, shape) =
            (vec![1.0 / (height * width) as f32; channels * height * width], [channels, 1, height, width]);
        let weights::Channels { values, scales } = weights::per_channel(&values, &shape, 0, self.how.weight_bits, &[]);
        let (output, dequantise) =
            self.dequantised(&format!("{}/mean", original.name), &shape.map(|size| size as i64), 0, &values, &scales);
        changed.op_type = "Conv".into();
        changed.attribute = attributes;
        changed.input.push(output);
        Some(dequantise)
    }

    /// The name of constant weights behind the node that dequantises them, and that node.
    fn dequantised(
        &mut self,
        name: &str,
        dims: &[i64],
        axis: usize,
        values: &[i8],
        scales: &[f32],
    ) -> (String, NodeProto) {
        let bytes = values.iter().map(|&value| value as u8).collect();
        let quantised = self.constant(&format!("{name}/quantised"), DataType::Int8, dims.to_vec(), bytes);
        let channels = vec![scales.len() as i64];
        let bytes = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let scale = self.constant(&format!("{name}/scale"), DataType::Float, channels.clone(), bytes);
        let zero = self.constant(&format!("{name}/zero"), DataType::Int8, channels, vec![0; scales.len()]);
        let output = self.names.fresh(&format!("{name}/dequantised"));
        let label = self.names.fresh(&format!("{name}/DequantizeLinear"));
        let mut dequantise = node("DequantizeLinear", label, [&quantised, &scale, &zero], &output);
        dequantise.attribute.push(AttributeProto {
            name: "axis".into(),
            r#type: AttributeType::Int as i32,
            i: Some(axis as i64),
            ..AttributeProto::default()
        });
        (output, dequantise)
    }
}

fn node(operator: &str, name: String, inputs: [&String; 3], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.map(String::clone).to_vec(),
        output: vec![output.to_owned()],
        name,
        op_type: operator.to_owned(),
        ..NodeProto::default()
    }
}

/// Removes constants that nothing reads any more.
pub(super) fn drop_unused(graph: &mut onnx::GraphProto) {
    let all = std::mem::take(&mut graph.initializer);
    let net = Net::new(graph);
    let used = |tensor: &TensorProto| !net.consumers(&tensor.name).is_empty() || net.is_output(&tensor.name);
    let kept = all.into_iter().filter(used).collect();
    graph.initializer = kept;
}
