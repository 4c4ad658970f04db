//! The weights of a network under the names that burn-onnx gives them.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// Float parameters and statistics by their paths.
pub fn weights_by_path<M: Module>(module: &M) -> BTreeMap<String, TensorData> {
    let mut found = Weights::default();
    module.visit(&mut found);
    found.weights
}

#[derive(Default)]
struct Weights {
    path: Vec<String>,
    weights: BTreeMap<String, TensorData>,
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.weights.insert(self.path.join("."), param.val().into_data());
    }
}
