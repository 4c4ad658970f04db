//! Initial weights: a pure function of seed and parameter name, so that they are the same on every machine and in
//! whatever order a network is built.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use burn::module::Module;
use burn::tensor::TensorData;
use contract::fill::unit;

use crate::weights::StateDict;

/// Distribution of a weight with two axes or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal, standard deviation given.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Normal around 1, for the scale of a norm.
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
    /// Uniform within ±bound, whatever the key is called.
    Uniform {
        /// Largest absolute value.
        bound: f64,
    },
    /// One value, whatever the key is called.
    Constant(f32),
}

/// Fills a network with the initial weights of `seed`; `source` says for each key where its numbers come from.
pub fn initialise<M: Module>(net: &mut M, source: impl Fn(&str) -> Source, seed: u64) {
    let empty = StateDict::of(net);
    let fan_ins: BTreeMap<&str, usize> = empty
        .iter()
        .filter(|(_, data)| data.shape().len() > 1)
        .filter_map(|(key, data)| Some((key.strip_suffix(".weight")?, data.shape()[1..].iter().product())))
        .collect();
    let initial = empty.iter().map(|(key, data)| {
        // Integers a network computes itself.
        if data.as_slice::<f32>().is_err() {
            return (key.to_owned(), data.clone());
        }
        let module = key.rsplit_once('.').map_or("", |(module, _)| module);
        let fan_in = fan_ins.get(module).copied().unwrap_or(1);
        (key.to_owned(), source(key).draw(key, data.shape(), fan_in, seed))
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
    /// Start value of the parameter whose key is `key`. Norms (one axis, `weight` and `bias`, with running statistics
    /// beside them) start at 1 and 0.
    pub fn draw(&self, key: &str, shape: &[usize], fan_in: usize, seed: u64) -> TensorData {
        let count: usize = shape.iter().product();
        let uniform = || unit(&format!("init.{seed}.{}", self.name), 2 * count);
        let constant = |value: f32| vec![value; count];
        let within = |bound: f64| uniform().take(count).map(|u| ((2.0 * u - 1.0) * bound) as f32).collect();
        let values = if let Init::Constant(value) = self.init {
            constant(value)
        } else if let Init::Uniform { bound } = self.init {
            within(bound)
        } else if let Init::NormalAroundOne { std } = self.init {
            normal(uniform(), std).into_iter().map(|value| 1.0 + value).collect()
        } else if key.ends_with(".running_var") || (shape.len() == 1 && key.ends_with(".weight")) {
            constant(1.0)
        } else if key.ends_with(".running_mean") {
            constant(0.0)
        } else {
            match self.init {
                _ if is_norm_bias(key) => constant(0.0),
                Init::UniformFanIn => within(1.0 / (fan_in as f64).sqrt()),
                Init::Zero => constant(0.0),
                _ if shape.len() == 1 => constant(0.0),
                Init::Normal { std } => normal(uniform(), std),
                Init::NormalFanIn { gain } => normal(uniform(), gain / (fan_in as f64).sqrt()),
                Init::XavierUniform => within((6.0 / (shape[0] + shape[1]) as f64).sqrt()),
                Init::Constant(_) | Init::Uniform { .. } | Init::NormalAroundOne { .. } => unreachable!("done above"),
                Init::NormalFanOut => {
                    let fan_out = shape[0] * shape[2..].iter().product::<usize>();
                    normal(uniform(), (2.0 / fan_out as f64).sqrt())
                }
            }
        };
        TensorData::new(values, shape.to_vec())
    }
}

/// Whether the key is the shift of a norm; in every network here norms are called `bn…`, or follow a convolution by
/// number.
fn is_norm_bias(key: &str) -> bool {
    key.ends_with(".bias") && !key.contains(".fc")
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
    use super::*;

    #[test]
    fn distributions_have_their_moments() {
        let draw = |key: &str, init, shape: &[usize], fan_in| {
            let source = Source { name: key.into(), init };
            source.draw(key, shape, fan_in, 7).try_to_vec::<f32>().unwrap()
        };
        let std = |values: &[f32]| (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        let weights = draw("conv.weight", Init::NormalFanOut, &[64, 32, 3, 3], 288);
        assert!((std(&weights) / (2.0f32 / 576.0).sqrt() - 1.0).abs() < 0.02);
        let weights = draw("conv.weight", Init::UniformFanIn, &[64, 32, 3, 3], 288);
        let bound = 1.0 / 288f32.sqrt();
        assert!(weights.iter().all(|v| v.abs() <= bound) && (std(&weights) * 3f32.sqrt() / bound - 1.0).abs() < 0.02);
        let weights = draw("linear.weight", Init::XavierUniform, &[64, 32], 32);
        let bound = (6.0f32 / 96.0).sqrt();
        assert!(weights.iter().all(|v| v.abs() <= bound) && (std(&weights) * 3f32.sqrt() / bound - 1.0).abs() < 0.03);
        assert_eq!(draw("linear.bias", Init::XavierUniform, &[4], 1), [0.0; 4]);
        assert_eq!(draw("conv.weight", Init::Zero, &[2, 1, 1], 1), [0.0; 2]);
        assert_eq!(draw("bn.weight", Init::UniformFanIn, &[4], 1), [1.0; 4]);
        assert_eq!(draw("bn.bias", Init::UniformFanIn, &[4], 1), [0.0; 4]);
        assert_ne!(draw("gate.fc1.bias", Init::UniformFanIn, &[4], 16), [0.0; 4]);
        assert_eq!(draw("gate.fc1.bias", Init::NormalFanOut, &[4], 16), [0.0; 4]);
    }
}
