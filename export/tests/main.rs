//! Burn modules, exported and run in ONNX Runtime.

mod blocks;
mod bundles;
mod controlnet;
mod faults;
mod kept;
mod large;
mod lmbn_n;
mod networks;
mod operations;
mod palmvein;
mod palmvein_chain;
mod planted;
mod program;
mod random;
mod senet;
mod shapes;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use contract::{Axis, fill};
use export::{ExportedModel, Runtime};

/// ONNX Runtime, or the advice how to get it.
fn runtime() -> Runtime {
    Runtime::load().unwrap_or_else(|error| panic!("{error}"))
}

/// A first axis of any size, and fixed ones.
fn batch_of(sizes: &[usize]) -> Vec<Axis> {
    let fixed = sizes.iter().map(|&size| Axis::Size(size));
    std::iter::once(Axis::Symbol("batch".into())).chain(fixed).collect()
}

/// A tensor of known values in [-1, 1).
fn known<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = fill::unit(name, shape.iter().product()).map(|u| (2.0 * u - 1.0) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Fills parameters and statistics by their paths: the same network in every run, however many tests run at once.
fn filled<M: Module>(module: M) -> M {
    module.map(&mut Filled::default())
}

#[derive(Default)]
struct Filled(Vec<String>);

impl ModuleMapper for Filled {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.0.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // The rule knows PyTorch's names.
        let name = self.0.join(".").replace(".beta", ".bias");
        param.map(|old| {
            let values = TensorData::new(fill::fill(&name, &old.dims()), old.shape());
            Tensor::from_data(values, &old.device())
        })
    }
}

/// Operators by name, in order.
fn operators(model: &ExportedModel) -> Vec<String> {
    model.graph().nodes.iter().map(|node| node.op.name()).collect()
}

/// Compares with Burn at all batch sizes; reads the bytes back with the reader for untrusted files.
fn verified(model: &ExportedModel) {
    kept::keep(model);
    match model.verify(&runtime()) {
        // Shown with `--nocapture`.
        Ok(parity) => println!("{}, operator set {}\n{}", model.name(), model.opset(), parity.to_markdown()),
        Err(error) => {
            let source = std::error::Error::source(&error);
            panic!("{}: {error} ({source:?}); nodes {:?}", model.name(), operators(model))
        }
    }
}
