//! The most that this machine does with ONNX Runtime: matrix products, and bytes of memory a second. Measured where and
//! when a model is, so that its speed can be judged by it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use onnx::{
    DataType, Dimension, DimensionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::TensorRef;

use super::library::Runtime;
use super::machine::Machine;
use super::provider::{Provider, Setup};
use super::session::{Model, open_bytes};
use super::work::Work;
use crate::DeployError;

/// The most that was reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Multiplications with additions of float32, per second.
    pub float: f64,
    /// Of float16; measured where a model has some.
    pub half: Option<f64>,
    /// Of eight bits; measured where a model has some.
    pub int8: Option<f64>,
    /// Bytes of memory that were read or written, per second.
    pub bandwidth: f64,
}

/// How long each is measured at most; three runs at least.
const TIME: Duration = Duration::from_millis(250);

/// Products one after another in a run, so that what is around them does not count.
const CHAIN: usize = 8;

impl Peak {
    /// Measures it for a model as it is opened: its provider, its threads, the types it computes with. Each takes at
    /// most `time`, and a quarter of a second. None in rten.
    ///
    /// # Errors
    /// If ONNX Runtime does not run a matrix product.
    pub fn measure(model: &Model, work: &Work, time: Duration) -> Result<Option<Self>, DeployError> {
        let Some(runtime) = model.runtime.onnxruntime() else { return Ok(None) };
        let time = time.min(TIME);
        let on_cpu = matches!(model.provider, Provider::Cpu | Provider::Xnnpack);
        // The matrices of one size fit into caches; those of the other fill all units of a large processor.
        let sizes: &[usize] = if on_cpu { &[384, 768] } else { &[4096] };
        let best = |kind: Kind| -> Result<f64, DeployError> {
            let mut rates = sizes.iter().map(|size| rate(model, runtime, kind, *size, time));
            rates.try_fold(0.0, |best: f64, rate| Ok(best.max(rate?)))
        };
        let float = best(Kind::Float)?;
        let half = if work.half > 0.0 { Some(best(Kind::Half)?) } else { None };
        let int8 = if work.int8 > 0.0 { Some(best(Kind::Int8)?) } else { None };
        let bandwidth =
            if on_cpu { copies(model.threads, &Machine::read(), time) } else { fills(model, runtime, time)? };
        Ok(Some(Self { float, half, int8, bandwidth }))
    }

    /// The least seconds in which this machine can do the work and move the bytes once, whichever takes longer; none if
    /// a type that the work has was not measured.
    pub fn least(&self, work: &Work, bytes: f64) -> Option<f64> {
        let seconds = |count: f64, rate: Option<f64>| if count > 0.0 { Some(count / rate?) } else { Some(0.0) };
        let computing =
            seconds(work.float, Some(self.float))? + seconds(work.half, self.half)? + seconds(work.int8, self.int8)?;
        Some(computing.max(bytes / self.bandwidth))
    }
}

/// The type that a product is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Half,
    Int8,
}

/// Multiplications with additions per second of square matrices with edges of `size`.
fn rate(model: &Model, runtime: &Runtime, kind: Kind, size: usize, time: Duration) -> Result<f64, DeployError> {
    let seconds = fastest(model, runtime, &products(kind, size), &Input::of(kind, size), time)?;
    Ok(CHAIN as f64 * (size as f64).powi(3) / seconds)
}

/// Bytes per second of a device that fills memory and reads it.
fn fills(model: &Model, runtime: &Runtime, time: Duration) -> Result<f64, DeployError> {
    const VALUES: usize = 64 << 20;
    let count = tensor("count", DataType::Int64, &[1], (VALUES as i64).to_le_bytes().to_vec());
    let nodes = vec![node("Expand", &["x", "count"], "many"), node("ReduceMax", &["many"], "y")];
    let graph = graph(nodes, vec![count], ("x", DataType::Float, &[1]), &[("y", DataType::Float)]);
    let seconds = fastest(model, runtime, &graph, &Input::Float(vec![1.0], vec![1]), time)?;
    Ok(2.0 * (VALUES * size_of::<f32>()) as f64 / seconds)
}

/// Bytes per second that `threads` threads read and write together.
fn copies(threads: usize, machine: &Machine, time: Duration) -> f64 {
    const MOST: usize = 256 << 20;
    const LEAST: usize = 8 << 20;
    // An eighth of the memory, shared by the threads, each with what it reads and what it writes.
    let all = machine.usable_memory().map_or(MOST, |bytes| usize::try_from(bytes / 8).unwrap_or(MOST));
    let bytes = all.clamp(LEAST, MOST) / threads.max(1) / 2;
    let started = Instant::now();
    let mut best = f64::INFINITY;
    let mut parts: Vec<(Vec<u8>, Vec<u8>)> =
        (0..threads.max(1)).map(|at| (vec![at as u8 + 1; bytes], vec![0; bytes])).collect();
    // The first pass gets the memory from the system.
    for passes in 0.. {
        if passes > 2 && started.elapsed() > time {
            break;
        }
        let pass = Instant::now();
        std::thread::scope(|scope| {
            for (from, to) in &mut parts {
                scope.spawn(move || black_box(to).copy_from_slice(black_box(from)));
            }
        });
        best = best.min(pass.elapsed().as_secs_f64());
    }
    (2 * bytes * parts.len()) as f64 / best
}

/// What a measured graph is given.
enum Input {
    Float(Vec<f32>, Vec<usize>),
    Bytes(Vec<u8>, Vec<usize>),
}

impl Input {
    fn of(kind: Kind, size: usize) -> Self {
        match kind {
            Kind::Float | Kind::Half => Self::Float(vec![1.0], vec![1]),
            Kind::Int8 => Self::Bytes(vec![1; size * size], vec![size, size]),
        }
    }
}

/// Seconds of the fastest run.
fn fastest(
    model: &Model,
    runtime: &Runtime,
    graph: &ModelProto,
    input: &Input,
    time: Duration,
) -> Result<f64, DeployError> {
    let failed = |source| DeployError::Runtime { what: "measure the machine".into(), source };
    let setup = Setup { threads: model.threads, arena: model.tuned.arena, engines: None };
    let bytes = graph.encode_to_vec();
    let mut session = open_bytes(runtime, &bytes, model.provider, model.tuned, &setup)?;
    let started = Instant::now();
    let mut best = f64::INFINITY;
    // The first run sets things up.
    for run in 0.. {
        let begun = Instant::now();
        once(&mut session, input).map_err(failed)?;
        if run > 0 {
            best = best.min(begun.elapsed().as_secs_f64());
        }
        if run > 1 && started.elapsed() > time {
            break;
        }
    }
    Ok(best)
}

fn once(session: &mut Session, input: &Input) -> Result<(), ort::Error> {
    let value: SessionInputValue<'_> = match input {
        Input::Float(values, shape) => TensorRef::from_array_view((shape.clone(), values.as_slice()))?.into(),
        Input::Bytes(values, shape) => TensorRef::from_array_view((shape.clone(), values.as_slice()))?.into(),
    };
    let options = RunOptions::new()?;
    session.run_with_options(vec![("x", value)], &options).map(drop)
}

/// A graph of [`CHAIN`] matrix products.
fn products(kind: Kind, size: usize) -> ModelProto {
    let shape = [size as i64, size as i64];
    let count = size * size;
    let value = 1.0 / size as f32;
    match kind {
        Kind::Float | Kind::Half => {
            // A matrix of equal values is its own square, if they are the inverse of its edge.
            let (of, bytes) = match kind {
                Kind::Half => (DataType::Float16, half::f16::from_f32(value).to_le_bytes().repeat(count)),
                _ => (DataType::Float, value.to_le_bytes().repeat(count)),
            };
            let mut nodes = vec![];
            let mut last = "x".to_owned();
            if kind == Kind::Half {
                nodes.push(cast(&last, "narrow", of));
                last = "narrow".to_owned();
            }
            nodes.push(node("Mul", &["w", &last], "x0"));
            last = "x0".to_owned();
            for step in 1..=CHAIN {
                let next = format!("x{step}");
                nodes.push(node("MatMul", &[&last, "w"], &next));
                last = next;
            }
            nodes.push(node("ReduceMax", &[&last], "y"));
            graph(nodes, vec![tensor("w", of, &shape, bytes)], ("x", DataType::Float, &[1]), &[("y", of)])
        }
        Kind::Int8 => {
            // The result is of 32 bits, so that products follow each other only by what they read.
            let names: Vec<String> = (0..CHAIN).map(|step| format!("y{step}")).collect();
            let weights: Vec<String> = (0..CHAIN).map(|step| format!("w{step}")).collect();
            let nodes = names.iter().zip(&weights).map(|(name, weight)| node("MatMulInteger", &["x", weight], name));
            let tensors = weights.iter().map(|weight| tensor(weight, DataType::Int8, &shape, vec![1; count]));
            let outputs: Vec<_> = names.iter().map(|name| (name.as_str(), DataType::Int32)).collect();
            graph(nodes.collect(), tensors.collect(), ("x", DataType::Uint8, &shape), &outputs)
        }
    }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        name: output.to_owned(),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

fn cast(input: &str, output: &str, to: DataType) -> NodeProto {
    let attribute = onnx::AttributeProto {
        name: "to".to_owned(),
        r#type: onnx::AttributeType::Int as i32,
        i: Some(to as i64),
        ..Default::default()
    };
    NodeProto { attribute: vec![attribute], ..node("Cast", &[input], output) }
}

fn tensor(name: &str, of: DataType, shape: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto { name: name.to_owned(), dims: shape.to_vec(), data_type: of as i32, raw_data, ..Default::default() }
}

fn graph(
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    (name, of, shape): (&str, DataType, &[i64]),
    outputs: &[(&str, DataType)],
) -> ModelProto {
    let port = |name: &str, of: DataType, shape: Option<&[i64]>| {
        let dim = |size: &i64| DimensionProto { value: Some(Dimension::Value(*size)) };
        let shape = shape.map(|shape| TensorShapeProto { dim: shape.iter().map(dim).collect() });
        let tensor_type = Some(TensorTypeProto { elem_type: of as i32, shape });
        ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }), ..Default::default() }
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(GraphProto {
            name: "peak".to_owned(),
            node,
            initializer,
            input: vec![port(name, of, Some(shape))],
            output: outputs.iter().map(|(name, of)| port(name, *of, None)).collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_computing_and_moving_counts() {
        let peak = Peak { float: 100.0, half: None, int8: Some(400.0), bandwidth: 10.0 };
        let work = Work { float: 50.0, half: 0.0, int8: 200.0 };
        assert_eq!(peak.least(&work, 1.0), Some(1.0));
        assert_eq!(peak.least(&work, 20.0), Some(2.0));
        assert_eq!(peak.least(&Work { half: 1.0, ..work }, 1.0), None);
    }

    /// All graphs, those for devices too, run on the CPU; a faster machine has larger rates, none has none.
    #[test]
    fn every_graph_runs_and_takes_time() {
        let runtime = crate::runtime::load().unwrap();
        let tuned = crate::runtime::Tuning::default().on(&Machine::read());
        let setup = Setup { threads: 1, arena: true, engines: None };
        for kind in [Kind::Float, Kind::Half, Kind::Int8] {
            let bytes = products(kind, 16).encode_to_vec();
            let mut session = open_bytes(&runtime, &bytes, Provider::Cpu, tuned, &setup).unwrap();
            once(&mut session, &Input::of(kind, 16)).unwrap();
        }
        assert!(copies(2, &Machine::read(), Duration::ZERO) > 0.0);
    }
}
