//! Small models.

use onnx::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

use graph::{DType, Tensor};

/// Numbers from 0 to 1, the same for the same seed.
pub fn noise(seed: u64, count: usize) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    })
}

/// An attribute without its value.
pub struct Named(AttributeProto);

pub fn attribute(name: &str) -> Named {
    Named(AttributeProto { name: name.into(), ..AttributeProto::default() })
}

impl Named {
    pub fn int(self, value: i64) -> AttributeProto {
        AttributeProto { r#type: AttributeType::Int as i32, i: Some(value), ..self.0 }
    }

    pub fn ints(self, values: &[i64]) -> AttributeProto {
        AttributeProto { r#type: AttributeType::Ints as i32, ints: values.to_vec(), ..self.0 }
    }
}

/// A model in the making: one input `x`, whose first axis is the batch.
pub struct Draft {
    shape: Vec<usize>,
    pub graph: GraphProto,
}

fn declared(name: &str, dims: Option<Vec<Dimension>>) -> ValueInfoProto {
    let dim = |value| DimensionProto { value: Some(value) };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.into_iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: DataType::Float as i32, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }), ..ValueInfoProto::default() }
}

impl Draft {
    pub fn new(shape: &[usize]) -> Self {
        let mut dims = vec![Dimension::Symbol("batch".into())];
        dims.extend(shape[1..].iter().map(|&size| Dimension::Value(size as i64)));
        let graph = GraphProto { name: "test".into(), input: vec![declared("x", Some(dims))], ..GraphProto::default() };
        Self { shape: shape.to_vec(), graph }
    }

    pub fn constant(&mut self, dims: &[usize], values: &[f32]) -> String {
        let name = format!("w{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            dims: dims.iter().map(|&size| size as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            name: name.clone(),
            ..TensorProto::default()
        });
        name
    }

    pub fn weights(&mut self, dims: &[usize]) -> String {
        let seed = self.graph.initializer.len() as u64 + 1;
        let count: usize = dims.iter().product();
        let inner = (dims[1..].iter().product::<usize>().max(1) as f32).sqrt();
        let values: Vec<f32> = noise(seed, count).map(|u| (2.0 * u - 1.0) * 1.7 / inner).collect();
        self.constant(dims, &values)
    }

    pub fn node(&mut self, operator: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = format!("{}{}", operator.to_lowercase(), self.graph.node.len());
        let output = format!("{name}/out");
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.clone()],
            name,
            op_type: operator.into(),
            attribute,
            ..NodeProto::default()
        });
        output
    }

    /// A convolution of `from` to `to` channels with padding that keeps the size, and a bias.
    pub fn conv(&mut self, input: &str, [to, from]: [usize; 2], kernel: usize, group: usize) -> String {
        let weights = self.weights(&[to, from / group, kernel, kernel]);
        let bias = self.weights(&[to]);
        let pad = kernel as i64 / 2;
        let attributes = vec![
            attribute("kernel_shape").ints(&[kernel as i64; 2]),
            attribute("pads").ints(&[pad; 4]),
            attribute("group").int(group as i64),
        ];
        self.node("Conv", &[input, &weights, &bias], attributes)
    }

    pub fn model(&self, output: &str, opset: i64) -> ModelProto {
        let mut graph = self.graph.clone();
        graph.output = vec![declared(output, None)];
        ModelProto {
            ir_version: 9,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
            graph: Some(graph),
            ..ModelProto::default()
        }
    }

    /// Inputs of `rows` rows.
    pub fn batch(&self, seed: u64, rows: usize) -> Vec<(String, Tensor)> {
        let mut dims = self.shape.clone();
        dims[0] = rows;
        let values: Vec<f64> = noise(seed, dims.iter().product()).map(|u| f64::from(4.0 * u - 2.0)).collect();
        vec![("x".into(), Tensor::from_f64s(DType::Float, dims, &values).expect("as many values as places"))]
    }
}
