//! What an ONNX file says of itself, after it was checked as one that nobody vouches for.
//!
//! usage: facts [MODEL.onnx]
//!
//! Without a file, a model of one node is written and read. `cargo run --example facts`

use std::error::Error;
use std::path::PathBuf;

use onnx::{GraphProto, Limits, Message, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};

/// `y = Relu(x)`.
fn relu() -> ModelProto {
    let value = |name: &str| ValueInfoProto { name: name.into(), ..Default::default() };
    let node =
        NodeProto { op_type: "Relu".into(), input: vec!["x".into()], output: vec!["y".into()], ..Default::default() };
    let graph = GraphProto {
        name: "relu".into(),
        node: vec![node],
        input: vec![value("x")],
        output: vec![value("y")],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { version: 20, ..Default::default() };
    ModelProto { ir_version: 9, graph: Some(graph), opset_import: vec![opset], ..Default::default() }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = match std::env::args().nth(1) {
        Some(path) => PathBuf::from(path),
        None => {
            let path = folder.path().join("relu.onnx");
            std::fs::write(&path, relu().encode_to_vec())?;
            path
        }
    };
    let (model, bytes) = onnx::read(&path, &Limits::default())?;
    let graph = model.graph.ok_or("the model has no graph")?;
    println!(
        "`{}`, {} bytes, {} nodes, {} constants",
        graph.name,
        bytes.len(),
        graph.node.len(),
        graph.initializer.len()
    );
    for opset in &model.opset_import {
        let domain = if opset.domain.is_empty() { "ai.onnx" } else { opset.domain.as_str() };
        println!("operators of {domain}, set {}", opset.version);
    }
    for (what, values) in [("input", &graph.input), ("output", &graph.output)] {
        for value in values {
            println!("{what} `{}`", value.name);
        }
    }
    // Half a file is no model, and is said to be none before anything is made of it.
    assert!(onnx::parse(&bytes[..bytes.len() / 2], &path, &Limits::default()).is_err());
    Ok(())
}
