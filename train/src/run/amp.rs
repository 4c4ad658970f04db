//! Mixed precision: a network computes in bfloat16, half the memory and up to sixteen times the arithmetic on a GPU,
//! while its weights stay in single precision and so do their updates, the gradients' norm, batch norms and losses.
//!
//! bfloat16 has the exponents of single precision, so that gradients need no scaling. A step by hand:
//!
//! ```
//! use burn::nn::LinearConfig;
//! use burn::optim::GradientsParams;
//! use burn::tensor::{DType, Device, Tensor};
//! use train::run::amp;
//!
//! let device = Device::flex().autodiff();
//! let net = LinearConfig::new(3, 2).init(&device);
//! let low = amp::lower(net.clone());
//! let output = low.forward(amp::like(&low, Tensor::<2>::ones([4, 3], &device)));
//! assert_eq!(output.dtype(), DType::BF16);
//! let loss = amp::full(output).square().mean();
//! // In bfloat16, under the parameters' own numbers; the training loop makes them single.
//! let gradients = GradientsParams::from_grads(loss.backward(), &low);
//! assert!(gradients.get::<2>(net.weight.id).is_some());
//! ```

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor};

/// Whether a device computes faster in bfloat16. The CPU does not: Burn widens and narrows every number there, at
/// several times the cost of single precision.
pub fn pays(device: &Device) -> bool {
    !crate::device::is_cpu(device) && device.supports_dtype(FloatDType::BF16)
}

/// What a run that asks for mixed precision (`asked`) or does not computes in on `device`, for people and `run.json`.
pub fn describe(asked: bool, device: &Device) -> &'static str {
    match (asked, asked && pays(device)) {
        (false, _) => "float32",
        (true, true) => "bfloat16 with float32 weights, updates, norms and losses",
        (true, false) => "float32: --use_amp changes nothing on this device, which computes no faster in bfloat16",
    }
}

/// A copy of the network whose parameters are in bfloat16, under the same numbers. Batch and instance norms stay as
/// they are, running statistics included, which the copy shares with the original.
pub fn lower<M: Module>(net: M) -> M {
    net.map(&mut Lower { norms: 0 })
}

/// The tensor in the precision that the network computes in.
pub fn like<M: Module, const D: usize>(net: &M, tensor: Tensor<D>) -> Tensor<D> {
    let mut found = Found(None);
    net.visit(&mut found);
    match found.0 {
        Some(DType::BF16) => tensor.cast(FloatDType::BF16),
        _ => tensor,
    }
}

/// The tensor in single precision.
pub fn full<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(FloatDType::F32) }
}

/// Modules that stay in single precision.
fn is_single(container: &str) -> bool {
    ["Struct:UnbiasedBatchNorm", "Struct:BatchNorm", "Struct:SampleNorm"].contains(&container)
}

struct Lower {
    /// Norms in single precision around the current parameter.
    norms: usize,
}

impl ModuleMapper for Lower {
    fn enter_module(&mut self, _name: &str, container: &str) {
        self.norms += usize::from(is_single(container));
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.norms -= usize::from(is_single(container));
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.norms > 0 {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let tracked = tensor.is_require_grad();
        let low = tensor.cast(FloatDType::BF16).detach().set_require_grad(tracked);
        Param::from_mapped_value(id, low, mapper)
    }
}

/// Precision of the first parameter outside norms.
struct Found(Option<DType>);

impl ModuleVisitor for Found {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Vectors may belong to a norm.
        if D > 1 && self.0.is_none() {
            self.0 = Some(param.val().dtype());
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::TensorData;
    use burn::tensor::activation::relu;

    use super::*;
    use crate::nn::batch_norm::UnbiasedBatchNorm;
    use crate::run::optim::{Optimizer, OptimizerConfig};
    use crate::weights::StateDict;

    #[derive(Module, Debug)]
    struct Net {
        first: Linear,
        norm: UnbiasedBatchNorm,
        last: Linear,
    }

    impl Net {
        fn new(device: &Device) -> Self {
            let mut net = Self {
                first: LinearConfig::new(4, 16).init(device),
                norm: UnbiasedBatchNorm::new(16, device),
                last: LinearConfig::new(16, 1).init(device),
            };
            let filled: StateDict = StateDict::of(&net)
                .iter()
                .filter(|(key, _)| !key.starts_with("norm"))
                .map(|(key, data)| {
                    let values = contract::fill::fill(key, data.shape());
                    (key.to_owned(), TensorData::new(values, data.shape().clone()))
                })
                .collect();
            filled.load_into(&mut net);
            net
        }

        fn forward(&self, input: Tensor<2>) -> Tensor<2> {
            self.last.forward(relu(self.norm.forward(self.first.forward(input))))
        }
    }

    /// Losses of 50 steps towards a function of the input.
    fn losses(mixed: bool) -> (Vec<f64>, Net) {
        let device = Device::flex().autodiff();
        let mut net = Net::new(&device);
        let mut optimizer = Optimizer::new(&OptimizerConfig::default()).unwrap();
        let mut group = crate::run::engine::Group::default();
        let losses = (0..50).map(|step| {
            let input = contract::fill::fill(&format!("input{}", step % 5), &[32, 4]);
            let input = Tensor::<2>::from_data(TensorData::new(input, [32, 4]), &device);
            let target = input.clone().sum_dim(1).sin();
            let used = if mixed { lower(net.clone()) } else { net.clone() };
            let output = used.forward(like(&used, input));
            assert_eq!(output.dtype() == DType::BF16, mixed);
            let loss = (full(output) - target).square().mean();
            let value = loss.clone().into_scalar::<f32>();
            group.add(&used, GradientsParams::from_grads(loss.backward(), &used));
            let gradients = group.take(&net, |_| true, None).unwrap().gradients;
            net = optimizer.step(5e-3, net.clone(), gradients);
            f64::from(value)
        });
        (losses.collect(), net)
    }

    #[test]
    fn fifty_steps_fall_as_in_single_precision() {
        let ((single, _), (mixed, net)) = (losses(false), losses(true));
        println!("single {:.5} to {:.5}, mixed {:.5} to {:.5}", single[0], single[49], mixed[0], mixed[49]);
        assert!(single[49] < 0.3 * single[0], "{single:?}");
        for (step, (single, mixed)) in single.iter().zip(&mixed).enumerate() {
            // bfloat16 has 8 bits: single values are off by 0.4 %, and so is a mean square of their differences, about.
            assert!((single - mixed).abs() < 0.02 * single.max(0.05), "step {step}: {mixed} for {single}");
        }
        assert_ne!(single, mixed, "the arithmetic is another one");
        // The weights are those of single precision, moved by less than bfloat16 can hold.
        assert_eq!(net.first.weight.val().dtype(), DType::F32);
        let rounded = net.first.weight.val().cast(FloatDType::BF16).cast(FloatDType::F32);
        assert!((net.first.weight.val() - rounded).abs().max().into_scalar::<f32>() > 0.0);
        // Running statistics were followed in single precision.
        let mean = net.valid().norm.running_mean.value();
        assert_eq!(mean.dtype(), DType::F32);
        assert!(mean.abs().max().into_scalar::<f32>() > 0.0);
    }

    #[test]
    fn a_device_that_gains_nothing_says_so() {
        let device = Device::flex().autodiff();
        assert!(!pays(&device));
        assert_eq!(describe(false, &device), "float32");
        assert!(describe(true, &device).starts_with("float32: --use_amp changes nothing"));
    }
}
