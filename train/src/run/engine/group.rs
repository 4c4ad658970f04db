//! The gradients of one step: of one batch, or of several averaged.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor};

/// Gradients of the batches of one step, as a sum.
#[derive(Default)]
pub(crate) struct Group {
    sum: Option<GradientsParams>,
    batches: usize,
}

/// What a step takes.
pub(crate) struct Mean {
    /// Gradients, averaged over the batches and clipped.
    pub gradients: GradientsParams,
    /// Their global norm before clipping; only where it was asked for.
    pub norm: Option<f64>,
}

impl Group {
    /// Adds one batch's gradients; those of other precisions become single.
    pub fn add<M: Module>(&mut self, net: &M, gradients: GradientsParams) {
        self.batches += 1;
        let mut add = Add { sum: self.sum.take(), new: gradients, out: GradientsParams::new() };
        net.visit(&mut add);
        self.sum = Some(add.out);
    }

    /// The mean of the added gradients, scaled down to a global norm of at most `clip`; `None` if none were added.
    /// `trains` says by path which parameters count.
    pub fn take<M: Module>(&mut self, net: &M, trains: impl Fn(&str) -> bool, clip: Option<f64>) -> Option<Mean> {
        let gradients = self.sum.take()?;
        let batches = std::mem::take(&mut self.batches) as f64;
        let norm = clip.map(|_| {
            let mut squares = Squares { gradients: &gradients, trains, path: Vec::new(), found: Vec::new() };
            net.visit(&mut squares);
            let found = squares.found;
            let sum: f64 = if found.is_empty() { 0.0 } else { Tensor::cat(found, 0).into_data().iter::<f64>().sum() };
            sum.sqrt() / batches
        });
        let factor = clip.zip(norm).map_or(1.0, |(clip, norm)| (clip / (norm + 1e-6)).min(1.0)) / batches;
        if factor == 1.0 {
            return Some(Mean { gradients, norm });
        }
        let mut scale = Scale { gradients, factor, out: GradientsParams::new() };
        net.visit(&mut scale);
        Some(Mean { gradients: scale.out, norm })
    }
}

struct Add {
    sum: Option<GradientsParams>,
    new: GradientsParams,
    out: GradientsParams,
}

impl ModuleVisitor for Add {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let old = self.sum.as_mut().and_then(|sum| sum.remove::<D>(param.id));
        let new = self.new.remove::<D>(param.id).map(|new| new.cast(FloatDType::F32));
        let both = match (old, new) {
            (Some(old), Some(new)) => old + new,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return,
        };
        self.out.register(param.id, both);
    }
}

struct Squares<'a, F> {
    gradients: &'a GradientsParams,
    trains: F,
    path: Vec<String>,
    found: Vec<Tensor<1>>,
}

impl<F: Fn(&str) -> bool> ModuleVisitor for Squares<'_, F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if (self.trains)(&self.path.join("."))
            && let Some(gradient) = self.gradients.get::<D>(param.id)
        {
            self.found.push(gradient.square().sum());
        }
    }
}

struct Scale {
    gradients: GradientsParams,
    factor: f64,
    out: GradientsParams,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let id: ParamId = param.id;
        if let Some(gradient) = self.gradients.remove::<D>(id) {
            self.out.register(id, gradient.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;

    fn gradients(net: &Linear, weight: f32, bias: f32) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let device = Device::flex();
        gradients.register(net.weight.id, Tensor::<2>::full([2, 1], weight, &device));
        gradients.register(net.bias.as_ref().unwrap().id, Tensor::<1>::full([1], bias, &device));
        gradients
    }

    /// `[weight, weight, bias]`
    fn values(net: &Linear, mean: &Mean) -> Vec<f32> {
        let weight = mean.gradients.get::<2>(net.weight.id).unwrap().into_data();
        let bias = mean.gradients.get::<1>(net.bias.as_ref().unwrap().id).unwrap().into_data();
        weight.iter::<f32>().chain(bias.iter::<f32>()).collect()
    }

    /// Worked by hand: means 2, 2 and 1, of norm 3; without the bias √8.
    #[test]
    fn the_norm_is_that_of_the_mean_over_what_trains() {
        let net = LinearConfig::new(2, 1).init(&Device::flex().autodiff());
        let filled = || {
            let mut group = Group::default();
            group.add(&net, gradients(&net, 1.0, -1.0));
            group.add(&net, gradients(&net, 3.0, 3.0));
            group
        };
        let mean = filled().take(&net, |_| true, None).unwrap();
        assert_eq!((values(&net, &mean), mean.norm), (vec![2.0, 2.0, 1.0], None));
        let mean = filled().take(&net, |_| true, Some(3.5)).unwrap();
        assert_eq!((values(&net, &mean), mean.norm), (vec![2.0, 2.0, 1.0], Some(3.0)));
        let mean = filled().take(&net, |_| true, Some(1.5)).unwrap();
        // PyTorch: 1.5 / (3 + 1e-6).
        let factor = 1.5 / 3.000001;
        for (found, wanted) in values(&net, &mean).iter().zip([2.0, 2.0, 1.0]) {
            assert!((f64::from(*found) - wanted * factor).abs() < 1e-7, "{found} for {wanted}");
        }
        let mean = filled().take(&net, |path| path == "weight", Some(1.0)).unwrap();
        assert!((mean.norm.unwrap() - 8f64.sqrt()).abs() < 1e-6);
        assert!(Group::default().take(&net, |_| true, None).is_none());
    }
}
