//! Initial weights. They follow from the seed and a parameter's name alone, so that they are the same on every machine
//! and do not depend on the order in which a network is built.

use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::TAU;

use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot, PathFilter};
use burn::tensor::TensorData;
use contract::fill::unit;

use crate::weights::{StateDict, key_of};

/// Distribution of the weights of a layer. Norms start at 1 and 0 whatever it is, but for [`Init::Constant`] and
/// [`Init::NormalAroundOne`], which hold for any parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal, standard deviation given.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Normal around 1, for any parameter.
    NormalAroundOne {
        /// Standard deviation.
        std: f64,
    },
    /// Normal, standard deviation √(2 / fan-out), fan-out = kernel area × first axis, also where depthwise. Biases 0.
    NormalFanOut,
    /// PyTorch's default: uniform within ±1/√fan-in. Biases the same.
    UniformFanIn,
    /// Glorot's: uniform within ±√(6 / (rows + columns)), for linear layers. Biases 0.
    XavierUniform,
    /// 0, as are biases.
    Zero,
    /// Normal, standard deviation gain / √fan-in. Biases 0.
    NormalFanIn {
        /// Gain of the activation behind.
        gain: f64,
    },
    /// One value, for any parameter.
    Constant(f32),
}

/// What a parameter or a statistic is to the layer that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Scale or running variance of a norm.
    Scale,
    /// Shift or running mean of a norm.
    Shift,
    /// Bias of another layer.
    Bias,
    /// Anything else.
    Weight,
}

impl Role {
    /// The role of a key, given whether its layer is a norm.
    fn of(key: &str, in_norm: bool) -> Self {
        match (in_norm, key.rsplit('.').next()) {
            (true, Some("weight" | "running_var")) => Self::Scale,
            (true, _) => Self::Shift,
            (false, Some("bias")) => Self::Bias,
            (false, _) => Self::Weight,
        }
    }
}

/// Keys of the tensors whose layer is a norm, by the layer's type: what it is called in a network does not matter.
fn in_norms<M: Module>(net: &M) -> BTreeSet<String> {
    /// `layers` are the types from the network down to the layer.
    fn is_norm(_: &str, layers: &str) -> bool {
        let layer = layers.rsplit('.').next().and_then(|layer| layer.strip_prefix("Struct:"));
        layer.is_some_and(|layer| ["UnbiasedBatchNorm", "SampleNorm", "LayerNorm"].contains(&layer))
    }
    let filter = PathFilter::from_predicate(is_norm);
    let tensors = net.valid().collect(Some(filter), Some(Box::new(BurnToPyTorchAdapter)), true);
    tensors.into_iter().map(|tensor| key_of(&tensor.name)).collect()
}

/// Fills a network with the initial weights of `seed`; `source` gives the distribution of each key.
pub fn initialise<M: Module>(net: &mut M, source: impl Fn(&str) -> Source, seed: u64) {
    let empty = StateDict::of(net);
    let fan_ins: BTreeMap<&str, usize> = empty
        .iter()
        .filter(|(_, data)| data.shape().len() > 1)
        .filter_map(|(key, data)| Some((key.strip_suffix(".weight")?, data.shape()[1..].iter().product())))
        .collect();
    let norms = in_norms(net);
    let initial = empty.iter().map(|(key, data)| {
        // Integers a network computes itself.
        if data.as_slice::<f32>().is_err() {
            return (key.to_owned(), data.clone());
        }
        let module = key.rsplit_once('.').map_or("", |(module, _)| module);
        let fan_in = fan_ins.get(module).copied().unwrap_or(1);
        let role = Role::of(key, norms.contains(key));
        (key.to_owned(), source(key).draw(role, data.shape(), fan_in, seed))
    });
    let initial: StateDict = initial.collect();
    let report = initial.load_into(net);
    assert!(report.is_complete(), "initial weights are made from the network's own keys: {report:?}");
}

/// Where a parameter's numbers come from: parameters of equal `name` start equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Name that seeds the generator.
    pub name: String,
    /// Distribution.
    pub init: Init,
}

impl Source {
    /// Start values of a parameter.
    ///
    /// # Shapes
    /// - `shape`: `[outputs, inputs, ..]` of a weight, one axis of a norm's or a bias's values
    /// - returns: `shape`
    ///
    /// # Panics
    /// If a weight has one axis and no distribution that holds for any parameter: no rule says how it starts.
    pub fn draw(&self, role: Role, shape: &[usize], fan_in: usize, seed: u64) -> TensorData {
        let count: usize = shape.iter().product();
        let uniform = || unit(&format!("init.{seed}.{}", self.name), 2 * count);
        let within = |bound: f64| uniform().take(count).map(|u| ((2.0 * u - 1.0) * bound) as f32).collect();
        let values = match (self.init, role) {
            (Init::Constant(value), _) => vec![value; count],
            (Init::NormalAroundOne { std }, _) => normal(uniform(), std).into_iter().map(|value| 1.0 + value).collect(),
            (_, Role::Scale) => vec![1.0; count],
            (_, Role::Shift) => vec![0.0; count],
            (Init::UniformFanIn, _) => within(1.0 / (fan_in as f64).sqrt()),
            (Init::Zero, _) | (_, Role::Bias) => vec![0.0; count],
            _ if shape.len() < 2 => {
                panic!("`{}` {shape:?} is neither a norm's nor a bias: no rule says how it starts", self.name)
            }
            (Init::Normal { std }, _) => normal(uniform(), std),
            (Init::NormalFanIn { gain }, _) => normal(uniform(), gain / (fan_in as f64).sqrt()),
            (Init::XavierUniform, _) => within((6.0 / (shape[0] + shape[1]) as f64).sqrt()),
            (Init::NormalFanOut, _) => {
                let fan_out = shape[0] * shape[2..].iter().product::<usize>();
                normal(uniform(), (2.0 / fan_out as f64).sqrt())
            }
        };
        TensorData::new(values, shape.to_vec())
    }
}

/// Box–Muller, one value per pair.
fn normal(mut uniform: impl Iterator<Item = f64>, std: f64) -> Vec<f32> {
    let mut values = Vec::new();
    while let (Some(a), Some(b)) = (uniform.next(), uniform.next()) {
        // 1 - a is never 0.
        values.push(((-2.0 * (1.0 - a).ln()).sqrt() * (TAU * b).cos() * std) as f32);
    }
    values
}

#[cfg(test)]
mod tests {
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;
    use crate::nn::batch_norm::UnbiasedBatchNorm;

    #[test]
    fn distributions_have_their_moments() {
        let draw = |role, init, shape: &[usize], fan_in| {
            let source = Source { name: "some".into(), init };
            source.draw(role, shape, fan_in, 7).try_to_vec::<f32>().unwrap()
        };
        let std = |values: &[f32]| (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        let weights = draw(Role::Weight, Init::NormalFanOut, &[64, 32, 3, 3], 288);
        assert!((std(&weights) / (2.0f32 / 576.0).sqrt() - 1.0).abs() < 0.02);
        let weights = draw(Role::Weight, Init::UniformFanIn, &[64, 32, 3, 3], 288);
        let bound = 1.0 / 288f32.sqrt();
        assert!(weights.iter().all(|v| v.abs() <= bound) && (std(&weights) * 3f32.sqrt() / bound - 1.0).abs() < 0.02);
        let weights = draw(Role::Weight, Init::XavierUniform, &[64, 32], 32);
        let bound = (6.0f32 / 96.0).sqrt();
        assert!(weights.iter().all(|v| v.abs() <= bound) && (std(&weights) * 3f32.sqrt() / bound - 1.0).abs() < 0.03);
        assert_eq!(draw(Role::Bias, Init::XavierUniform, &[4], 1), [0.0; 4]);
        assert_eq!(draw(Role::Weight, Init::Zero, &[2, 1, 1], 1), [0.0; 2]);
        for init in [Init::UniformFanIn, Init::NormalFanOut, Init::XavierUniform, Init::Zero] {
            assert_eq!(draw(Role::Scale, init, &[4], 1), [1.0; 4]);
            assert_eq!(draw(Role::Shift, init, &[4], 1), [0.0; 4]);
        }
        assert_ne!(draw(Role::Bias, Init::UniformFanIn, &[4], 16), [0.0; 4]);
        assert_eq!(draw(Role::Bias, Init::NormalFanOut, &[4], 16), [0.0; 4]);
    }

    /// Layers under names that say nothing, or the wrong thing.
    #[derive(Module, Debug)]
    struct Odd {
        fc: (UnbiasedBatchNorm, LayerNorm),
        bn: Linear,
        head: Vec<Conv2d>,
    }

    #[test]
    fn a_layers_type_decides_what_its_parameters_are() {
        let device = Device::flex();
        let mut net = Odd {
            fc: (UnbiasedBatchNorm::new(6, &device), LayerNormConfig::new(6).init(&device)),
            bn: LinearConfig::new(6, 6).init(&device),
            head: vec![Conv2dConfig::new([6, 6], [1, 1]).init(&device)],
        };
        initialise(&mut net, |key| Source { name: key.to_owned(), init: Init::UniformFanIn }, 3);
        let state = StateDict::of(&net);
        let values = |key: &str| state.get(key).unwrap().try_to_vec::<f32>().unwrap();
        for (key, start) in [
            ("fc.0.weight", 1.0),
            ("fc.0.running_var", 1.0),
            ("fc.0.bias", 0.0),
            ("fc.0.running_mean", 0.0),
            ("fc.1.weight", 1.0),
            ("fc.1.bias", 0.0),
        ] {
            assert_eq!(values(key), [start; 6], "{key}");
        }
        for key in ["bn.weight", "bn.bias", "head.0.weight", "head.0.bias"] {
            let values = values(key);
            let bound = 1.0 / 6f32.sqrt();
            assert!(values.iter().all(|value| value.abs() <= bound && *value != 0.0), "{key}: {values:?}");
        }
    }

    /// A layer scale is neither a norm's nor a bias: it must not become 0 or 1 without anybody saying so.
    #[test]
    #[should_panic(expected = "`gamma` [4] is neither a norm's nor a bias")]
    fn a_parameter_without_a_rule_is_refused() {
        Source { name: "gamma".into(), init: Init::Normal { std: 0.02 } }.draw(Role::Weight, &[4], 1, 7);
    }
}
