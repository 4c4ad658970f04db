//! Layers that train faster on the CPU than Burn's.
//!
//! Burn 0.22 has no backward pass of its own for convolutions and batch norms on the CPU. Networks therefore call the
//! functions here, which give the same results as Burn's layers: on the CPU, with or without autodiff, by the loops
//! of this module; on any other device, capture for export included, by Burn's layer itself. So there is one
//! definition of each network, and an export still sees a convolution where a network has one.
//!
//! `VITRINE_OPS=burn` in the environment turns all of them off. Results have the same bits whatever the number of
//! threads.

mod adam;
mod conv;
mod conv_transpose;
mod dense;
mod depthwise;
mod fused;
mod lanes;
mod loops;
mod norm;
mod norm_op;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Device, Tensor, TensorData};

pub use adam::{AdamStep, adam};
pub use conv::conv2d;
pub use conv_transpose::conv_transpose2d;
pub use fused::{STREAMS, add_relu, gated_sum, global_avg_pool};
pub use norm_op::{NormTrain, batch_norm_train};

/// A tensor of the CPU that gradients are recorded for.
type Tracked = FloatTensor<Autodiff<Flex>>;

static OWN: LazyLock<bool> = LazyLock::new(|| std::env::var_os("VITRINE_OPS").is_none_or(|value| value != "burn"));

/// Whether it is the CPU, with or without autodiff.
pub fn is_cpu(device: &Device) -> bool {
    let plain = if device.is_autodiff() { device.clone().without_autodiff() } else { device.clone() };
    plain == Device::flex()
}

/// Whose operations compute there: `own` or `burn`.
pub fn name(device: &Device) -> &'static str {
    if *OWN && is_cpu(device) { "own" } else { "burn" }
}

/// Where a tensor lies, as far as it matters here.
enum Site {
    /// On the CPU, gradients recorded.
    Tracked(Tracked),
    /// On the CPU.
    Plain(FlexTensor),
    /// Elsewhere, or of a type that has no loop here.
    Other,
}

impl Site {
    fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        if tensor.dtype() != DType::F32 {
            return Self::Other;
        }
        if tensor.device().is_autodiff() {
            tensor.clone().try_into_primitive::<Autodiff<Flex>>().map_or(Self::Other, Self::Tracked)
        } else {
            tensor.clone().try_into_primitive::<Flex>().map_or(Self::Other, Self::Plain)
        }
    }

    fn tracked<const D: usize>(tensor: &Tensor<D>) -> Option<Tracked> {
        match Self::of(tensor) {
            Self::Tracked(tensor) => Some(tensor),
            _ => None,
        }
    }

    fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
        match Self::of(tensor) {
            Self::Plain(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// The tensor with its values one after the other; a copy only where they are not.
fn packed(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// The values of a [`packed`] tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("single-precision values one after the other")
}

fn tensor(values: Vec<f32>, shape: impl AsRef<[usize]>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.as_ref().to_vec()))
}
