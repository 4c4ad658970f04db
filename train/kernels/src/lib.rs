//! Layers that train faster on the CPU than Burn's.
//!
//! Burn 0.22 has no backward pass of its own for convolutions and norms on the CPU. Networks therefore call the
//! functions here, which give the same results as Burn's layers. On the CPU, with or without autodiff, they use the
//! loops of this crate. On any other device, including the capture device of an export, they call Burn's layer. So each
//! network has a single definition, and an export still sees its convolutions.
//!
//! `VITRINE_OPS=burn` in the environment turns all of them off. Results are the same bit for bit with any number of
//! threads.

mod activation;
mod adam;
mod conv;
mod conv_transpose;
mod dense;
mod depthwise;
mod fused;
mod lanes;
mod layer_norm;
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

pub use activation::gelu;
pub use adam::{AdamStep, adam};
pub use conv::conv2d;
pub use conv_transpose::conv_transpose2d;
pub use fused::{STREAMS, add_relu, gated_sum, global_avg_pool};
pub use layer_norm::layer_norm;
pub use norm_op::{NormTrain, batch_norm_given, batch_norm_train};

/// A CPU tensor whose gradients are recorded.
type Tracked = FloatTensor<Autodiff<Flex>>;

static USE_OUR_KERNELS: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("VITRINE_OPS").is_none_or(|value| value != "burn"));

/// Whether `device` is the CPU, with or without autodiff.
pub fn is_cpu(device: &Device) -> bool {
    let plain = if device.is_autodiff() { device.clone().without_autodiff() } else { device.clone() };
    plain == Device::flex()
}

/// Which kernels are used on `device`: `own` or `burn`.
pub fn name(device: &Device) -> &'static str {
    if *USE_OUR_KERNELS && is_cpu(device) { "own" } else { "burn" }
}

/// Where a tensor is, as far as the kernels care.
enum Site {
    /// On the CPU, with gradients recorded.
    Tracked(Tracked),
    /// On the CPU, without gradients.
    Plain(FlexTensor),
    /// On another device, or of a type without kernels.
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

/// The tensor with contiguous values, copied only if necessary.
fn packed(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// The tensor in memory of its own, with its values contiguous.
fn whole(tensor: FlexTensor) -> FlexTensor {
    let alone = tensor.is_contiguous() && tensor.storage::<f32>().len() == tensor.layout().shape().num_elements();
    if alone { tensor } else { tensor.to_contiguous() }
}

/// The values of a [`packed`] tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("contiguous f32 values")
}

fn tensor(values: Vec<f32>, shape: impl AsRef<[usize]>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.as_ref().to_vec()))
}
