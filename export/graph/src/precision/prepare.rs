//! Brings any model file into the form that the rest of this module works on.

use std::path::Path;

use onnx::{AttributeProto, AttributeType, DataLocation, DataType, GraphProto, ModelProto, NodeProto, TensorProto};

use super::net::{Names, Net, int, standard, subgraphs};

/// First operator set with one scale for each channel.
const PER_CHANNEL: i64 = 13;

/// Oldest operator set that is brought to [`PER_CHANNEL`].
const OLDEST: i64 = 11;

/// A model whose weights are in memory, whose nodes have names of their own, and whose operator set is at least 13.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared(pub(super) ModelProto);

impl Prepared {
    /// The model.
    pub fn model(&self) -> &ModelProto {
        &self.0
    }

    pub(super) fn graph(&self) -> &GraphProto {
        // `prepare` has refused a model without one.
        self.0.graph.as_ref().expect("a prepared model has a graph")
    }

    pub(super) fn net(&self) -> Net<'_> {
        Net::new(self.graph())
    }

    /// The nodes' names, in the order of the file.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.graph().node.iter().map(|node| (node.name.as_str(), node.op_type.as_str()))
    }
}

/// Why a model cannot be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitModel {
    /// There is no graph in it.
    #[error("the model has no graph")]
    NoGraph,
    /// Its functions would be lost.
    #[error(
        "the model has {count} functions of its own (the first is `{first}`); inline them first, with `onnx.inliner`"
    )]
    Functions {
        /// How many.
        count: usize,
        /// The first one's name.
        first: String,
    },
    /// It is quantised already.
    #[error("node `{node}` is `{operator}`: the model is quantised already, and its float32 original is needed")]
    Quantised {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// Its operator set is too old.
    #[error(
        "the model is of operator set {found}; {OLDEST} and later are taken (`onnx.version_converter` brings older \
         ones there)"
    )]
    Opset {
        /// Its set.
        found: i64,
    },
    /// One of its nodes means something else in operator set 13.
    #[error("`{operator}` of node `{node}` cannot be brought from operator set {found} to {PER_CHANNEL}: {why}")]
    Upgrade {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
        /// The model's set.
        found: i64,
        /// What is in the way.
        why: &'static str,
    },
    /// The weights exceed what one file holds.
    #[error("the model has {bytes} bytes of weights; up to {} are taken", crate::encode::MAX_INLINE_WEIGHTS)]
    TooLarge {
        /// Bytes of weights.
        bytes: u64,
    },
    /// The weights beside it cannot be read.
    #[error("weight `{tensor}` cannot be read")]
    Weights {
        /// The tensor.
        tensor: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// Prepares the checked model that lies at `path`.
///
/// # Errors
/// See [`UnfitModel`].
pub fn prepare(mut model: ModelProto, path: &Path) -> Result<Prepared, UnfitModel> {
    if let Some(first) = model.functions.first() {
        return Err(UnfitModel::Functions { count: model.functions.len(), first: first.name.clone() });
    }
    let found = model.opset_import.iter().find(|set| set.domain.is_empty() || set.domain == "ai.onnx");
    let found = found.map_or(0, |set| set.version);
    if found < OLDEST {
        return Err(UnfitModel::Opset { found });
    }
    let Some(graph) = model.graph.as_mut() else { return Err(UnfitModel::NoGraph) };
    let integers =
        ["QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"];
    if let Some(node) = graph.node.iter().find(|node| integers.contains(&node.op_type.as_str())) {
        return Err(UnfitModel::Quantised { node: node.name.clone(), operator: node.op_type.clone() });
    }
    bring_in(graph, path)?;
    let mut names = Names::of(graph);
    constants(graph);
    name_nodes(graph, &mut names);
    // Since IR version 4 a constant need not be an input too, and one that is could be replaced by whoever runs it.
    let constants: Vec<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    graph.input.retain(|input| !constants.contains(&input.name));
    if found < PER_CHANNEL {
        upgrade(graph, found, &mut names)?;
        for set in model.opset_import.iter_mut().filter(|set| set.domain.is_empty() || set.domain == "ai.onnx") {
            set.version = PER_CHANNEL;
        }
    }
    // Version 7 came with operator set 13.
    model.ir_version = model.ir_version.max(7);
    Ok(Prepared(model))
}

/// Reads the weights beside the model into it.
fn bring_in(graph: &mut GraphProto, path: &Path) -> Result<(), UnfitModel> {
    let inside = |tensor: &TensorProto| tensor.raw_data.len() as u64 + 4 * tensor.float_data.len() as u64;
    let mut bytes: u64 = graph.initializer.iter().map(inside).sum();
    let apart = DataLocation::External as i32;
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_location == apart) {
        let mut raw = vec![];
        let limit = crate::encode::MAX_INLINE_WEIGHTS;
        let read = onnx::tensor_bytes(path, tensor, |piece| {
            bytes += piece.len() as u64;
            if bytes <= limit {
                raw.extend_from_slice(piece);
            }
        });
        read.map_err(|source| UnfitModel::Weights { tensor: tensor.name.clone(), source })?;
        if bytes > limit {
            return Err(UnfitModel::TooLarge { bytes });
        }
        tensor.raw_data = raw;
        tensor.external_data.clear();
        tensor.data_location = 0;
    }
    Ok(())
}

/// Turns `Constant` nodes into constants of the graph.
fn constants(graph: &mut GraphProto) {
    let outputs: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut found = vec![];
    graph.node.retain(|node| {
        let [output] = node.output.as_slice() else { return true };
        let value = node.attribute.iter().find(|attribute| attribute.name == "value").and_then(|a| a.t.as_deref());
        match value {
            Some(value) if node.op_type == "Constant" && standard(node) && !outputs.contains(output) => {
                found.push(TensorProto { name: output.clone(), ..value.clone() });
                false
            }
            _ => true,
        }
    });
    graph.initializer.extend(found);
}

fn name_nodes(graph: &mut GraphProto, names: &mut Names) {
    let mut seen = std::collections::HashSet::new();
    for node in &mut graph.node {
        if node.name.is_empty() || !seen.insert(node.name.clone()) {
            let wanted = if node.name.is_empty() { &node.op_type } else { &node.name };
            node.name = names.fresh(wanted);
            seen.insert(node.name.clone());
        }
    }
}

/// Brings nodes of operator set 11 or 12 to set 13: axes and sizes of parts become inputs. All other changes between
/// the sets add types or defaults.
fn upgrade(graph: &mut GraphProto, found: i64, names: &mut Names) -> Result<(), UnfitModel> {
    let mut added = vec![];
    for node in graph.node.iter_mut().filter(|node| standard(node)) {
        let refuse = |node: &NodeProto, why| {
            let (node, operator) = (node.name.clone(), node.op_type.clone());
            Err(UnfitModel::Upgrade { node, operator, found, why })
        };
        if subgraphs(node).next().is_some() {
            return refuse(node, "it has graphs of its own");
        }
        match node.op_type.as_str() {
            "Squeeze" | "Unsqueeze" | "ReduceSum" => moved(node, "axes", names, &mut added),
            "Split" => moved(node, "split", names, &mut added),
            "Softmax" | "LogSoftmax" | "Hardmax" if int(node, "axis", 1) != -1 => {
                return refuse(
                    node,
                    "up to set 12 it flattens all axes from `axis` on, which only axis -1 leaves as they are",
                );
            }
            "Dropout" if found < 12 => return refuse(node, "its ratio became an input"),
            _ => {}
        }
    }
    graph.initializer.extend(added);
    Ok(())
}

/// Moves an attribute of integers to the node's second input.
fn moved(node: &mut NodeProto, attribute: &str, names: &mut Names, added: &mut Vec<TensorProto>) {
    let Some(at) = node.attribute.iter().position(|found| found.name == attribute) else { return };
    let AttributeProto { ints, r#type, .. } = node.attribute.remove(at);
    debug_assert!(r#type == AttributeType::Ints as i32 || r#type == 0);
    let name = names.fresh(&format!("{}/{attribute}", node.name));
    added.push(TensorProto {
        dims: vec![ints.len() as i64],
        data_type: DataType::Int64 as i32,
        raw_data: ints.iter().flat_map(|value| value.to_le_bytes()).collect(),
        name: name.clone(),
        ..TensorProto::default()
    });
    node.input.truncate(1);
    node.input.push(name);
}
