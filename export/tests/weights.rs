//! Weights and tensors computed from their names, so that the same network can be built anywhere.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use contract::fill;

/// A reproducible tensor of values in [-1, 1).
pub fn known<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = fill::unit(name, shape.iter().product()).map(|u| (2.0 * u - 1.0) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Fills parameters and statistics by their paths: the same network in every run, even with tests in parallel.
pub fn filled<M: Module>(module: M) -> M {
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
        // The fill rule expects PyTorch's names.
        let name = self.0.join(".").replace(".beta", ".bias");
        param.map(|old| {
            let values = TensorData::new(fill::fill(&name, &old.dims()), old.shape());
            Tensor::from_data(values, &old.device())
        })
    }
}
