//! A graph built by hand: checked, rewritten by the passes, written as ONNX. `cargo run --example rewrite`
//!
//! `y = Relu(Transpose(Transpose(x)) @ w + b)`: the transpositions undo each other, and product and sum are one `Gemm`.

use std::error::Error;

use graph::{DEFAULT_OPSET, DType, Dim, Graph, Node, Op, Plain, Tensor, checker, encode, optimise};

fn main() -> Result<(), Box<dyn Error>> {
    let mut graph = Graph::new("example");
    let [rows, columns] = [4, 3];
    let sizes = |sizes: [usize; 2]| sizes.map(Dim::Size).to_vec();
    let x = graph.add_value("x", DType::Float, sizes([rows, columns]));
    graph.inputs.push(x);
    let constant = |dims: &[usize]| {
        let values: Vec<f64> = (0..dims.iter().product()).map(|at| at as f64 / 8.0).collect();
        Tensor::from_f64s(DType::Float, dims.to_vec(), &values).ok_or("as many values as the shape has")
    };
    let weight = graph.add_initialiser("w", constant(&[columns, 2])?);
    let bias = graph.add_initialiser("b", constant(&[2])?);

    let mut add = |op: Op, inputs: &[_], name: &str, dims: [usize; 2]| {
        let output = graph.add_value(name, DType::Float, sizes(dims));
        let name = graph.node_name(name);
        graph.nodes.push(Node { name, op, inputs: inputs.iter().copied().map(Some).collect(), outputs: vec![output] });
        output
    };
    let turned = add(Op::Transpose { order: vec![1, 0] }, &[x], "turned", [columns, rows]);
    let back = add(Op::Transpose { order: vec![1, 0] }, &[turned], "back", [rows, columns]);
    let product = add(Op::Plain(Plain::MatMul), &[back, weight], "product", [rows, 2]);
    let sum = add(Op::Plain(Plain::Add), &[product, bias], "sum", [rows, 2]);
    let y = add(Op::Plain(Plain::Relu), &[sum], "y", [rows, 2]);
    graph.outputs.push(y);

    checker::check(&graph, DEFAULT_OPSET)?;
    let before = graph.nodes.len();
    optimise::optimise(&mut graph, DEFAULT_OPSET);
    checker::check(&graph, DEFAULT_OPSET)?;
    let names: Vec<_> = graph.nodes.iter().map(|node| node.op.schema().name).collect();
    println!("{before} nodes become {}", names.join(", "));
    assert_eq!(names, ["Gemm", "Relu"]);
    let bytes = encode::encode(&graph, DEFAULT_OPSET, &[])?;
    println!("{} bytes of ONNX", bytes.len());
    Ok(())
}
