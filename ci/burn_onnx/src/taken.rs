//! Sample inputs: burn-onnx records a network on tensors, and takes only their shapes from them.

use burn::tensor::{Device, Int, Tensor};
use burn_onnx::export::ExportInput;

use crate::list::Input;

/// What a network takes.
pub trait Taken: ExportInput {
    /// Zeros for as many of the next `inputs` as this holds, each of `batch` rows.
    fn zeros(inputs: &mut std::slice::Iter<Input>, batch: usize) -> Self;
}

/// The shape of the next input, of integers or of floating point.
fn shape<const D: usize>(inputs: &mut std::slice::Iter<Input>, batch: usize, integers: bool) -> [usize; D] {
    let input = inputs.next().expect("an input for each tensor");
    assert_eq!(input.below.is_some(), integers, "`{}` is of the other kind", input.name);
    let axes = [&[batch], input.row].concat();
    axes.try_into().unwrap_or_else(|axes| panic!("`{}` has axes {axes:?} and a tensor of {D}", input.name))
}

impl<const D: usize> Taken for Tensor<D> {
    fn zeros(inputs: &mut std::slice::Iter<Input>, batch: usize) -> Self {
        Tensor::zeros(shape::<D>(inputs, batch, false), &Device::flex())
    }
}

impl<const D: usize> Taken for Tensor<D, Int> {
    fn zeros(inputs: &mut std::slice::Iter<Input>, batch: usize) -> Self {
        Tensor::zeros(shape::<D>(inputs, batch, true), &Device::flex())
    }
}

impl<A: Taken, B: Taken> Taken for (A, B) {
    fn zeros(inputs: &mut std::slice::Iter<Input>, batch: usize) -> Self {
        (A::zeros(inputs, batch), B::zeros(inputs, batch))
    }
}
