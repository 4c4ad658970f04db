//! Keys and shapes of a network's tensors. None is made: a network of hundreds of megabytes is looked at in
//! milliseconds, so that weights can be compared with every network that there is.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::{BurnToPyTorchAdapter, ModuleAdapter, ModuleContext, bridge};
use burn::tensor::{DType, Int, Shape, Tensor};

use super::{is_scalar, key_of};

/// Shapes of a network's tensors by PyTorch key.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

/// Keys and shapes of [`super::StateDict::of`].
pub(crate) fn shapes_of<M: Module>(network: &M) -> Shapes {
    let mut walk = Walk::default();
    network.visit(&mut walk);
    walk.shapes
}

/// Names of the modules on the way, as Burn's own collector of tensors keeps them: variants of enums are no part of a
/// path.
#[derive(Default)]
struct Walk {
    path: Vec<String>,
    containers: Vec<String>,
    shapes: Shapes,
}

fn is_variant(container: &str) -> bool {
    container.starts_with("Enum:")
}

impl Walk {
    fn add(&mut self, dtype: DType, shape: Shape) {
        let name = self.path.join(".");
        let tensor = bridge::deferred(name, dtype, shape, None, || unreachable!("only its shape is asked for"));
        let tensor = BurnToPyTorchAdapter.adapt(tensor, ModuleContext::new(&self.containers));
        let shape = if is_scalar(&tensor.name) { Vec::new() } else { tensor.shape.to_vec() };
        self.shapes.insert(key_of(&tensor.name), shape);
    }
}

impl ModuleVisitor for Walk {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.containers.push(container.to_owned());
        if !is_variant(container) {
            self.path.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.containers.pop();
        if !is_variant(container) {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(DType::F32, param.lazy_shape());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(DType::I64, param.lazy_shape());
    }
}
