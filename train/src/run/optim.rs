//! Optimisers whose state is keyed by the parameter's path in the network.
//!
//! Burn's own `ModuleOptimizer` keys it by `ParamId`, which a checkpoint with the reference's key names does not hold,
//! takes bias corrections in single precision, and skips state it cannot read; the arithmetic here is PyTorch's.
//!
//! ```
//! use burn::nn::LinearConfig;
//! use burn::optim::GradientsParams;
//! use burn::tensor::{Device, Tensor};
//! use train::run::optim::{Optimizer, OptimizerConfig};
//!
//! let device = Device::flex().autodiff();
//! let mut model = LinearConfig::new(3, 2).init(&device);
//! let mut optimizer = Optimizer::new(&OptimizerConfig::default())?;
//! let loss = model.forward(Tensor::<2>::ones([4, 3], &device)).square().mean();
//! let gradients = GradientsParams::from_grads(loss.backward(), &model);
//! model = optimizer.step(6e-4, model, gradients);
//!
//! let saved = optimizer.to_bytes()?;
//! let resumed = Optimizer::from_bytes(&OptimizerConfig::default(), &saved, &model)?;
//! # Ok::<(), train::run::optim::OptimError>(())
//! ```

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::run::amp;
use crate::words::words;

words! {
    /// How gradients become steps.
    OptimizerKind {
        /// Adam, Kingma and Ba 2015 (arXiv:1412.6980), with or without AMSGrad.
        Adam = "ADAM",
        /// Adam with decoupled weight decay, Loshchilov and Hutter 2019 (arXiv:1711.05101).
        AdamW = "ADAMW",
        /// Gradient descent with momentum.
        Sgd = "SGD",
        /// Adam with Nesterov momentum, Dozat 2016.
        Nadam = "NADAM",
        /// RMSprop with momentum, not centred.
        RmsProp = "RMSprop",
    }
}

/// Settings of all optimisers; each reads its own.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Rule of the update.
    pub kind: OptimizerKind,
    /// L2 penalty, added to the gradient of every parameter; ADAMW: share of a parameter that a step of rate 1 takes
    /// off.
    pub weight_decay: f64,
    /// ADAM, ADAMW, NADAM: decay of the first moment.
    pub beta1: f64,
    /// ADAM, ADAMW, NADAM: decay of the second moment.
    pub beta2: f64,
    /// ADAM, ADAMW, NADAM, RMSprop: added to the root of the second moment.
    pub epsilon: f64,
    /// ADAM, ADAMW: divide by the largest second moment so far.
    pub amsgrad: bool,
    /// SGD, RMSprop: share of the last step that is kept.
    pub momentum: f64,
    /// SGD: share of the gradient that does not enter the momentum.
    pub dampening: f64,
    /// SGD: look ahead by one momentum.
    pub nesterov: bool,
    /// RMSprop: decay of the mean square.
    pub smoothing: f64,
    /// NADAM: let the product of momenta be its last factor, as the reference does.
    pub nadam_reference: bool,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adam,
            weight_decay: 5e-4,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            amsgrad: false,
            momentum: 0.9,
            dampening: 0.0,
            nesterov: false,
            smoothing: 0.99,
            nadam_reference: false,
        }
    }
}

/// Settings or a saved state that do not fit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimError {
    /// A number out of its range.
    #[error("{what} is {found}, {wanted} wanted")]
    Range {
        /// Which number.
        what: &'static str,
        /// As given.
        found: f64,
        /// The range.
        wanted: &'static str,
    },
    /// As in PyTorch.
    #[error("nesterov wants a momentum above 0 and no dampening, not {momentum} and {dampening}")]
    Nesterov {
        /// As given.
        momentum: f64,
        /// As given.
        dampening: f64,
    },
    /// Not a state file, or a damaged one.
    #[error("optimiser state is not readable safetensors")]
    Format {
        /// The cause.
        source: safetensors::SafeTensorError,
    },
    /// Safetensors, but not ours.
    #[error("optimiser state has no valid description")]
    Description {
        /// The cause, when there is a text that could not be read.
        source: Option<serde_json::Error>,
    },
    /// A state of other rules.
    #[error("optimiser state is of {found}, this run uses {wanted}")]
    Kind {
        /// Saved.
        found: String,
        /// Configured.
        wanted: String,
    },
    /// A state of another network, or an incomplete one.
    #[error("optimiser state `{name}` {problem}")]
    Tensor {
        /// Parameter path and slot.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Updates a network's parameters from their gradients.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: OptimizerConfig,
    states: BTreeMap<String, State>,
}

/// State of one parameter. All rules work element by element, so everything is kept flat.
#[derive(Debug, Clone)]
struct State {
    /// Steps taken.
    time: u64,
    /// NADAM: product of the momenta so far.
    momenta: f64,
    /// By [`Optimizer::slots`].
    slots: Vec<Tensor<1>>,
}

/// What the file says besides the tensors.
#[derive(serde::Serialize, serde::Deserialize)]
struct Description {
    rule: String,
    /// Steps taken and the bits of the product of momenta, by parameter path.
    parameters: BTreeMap<String, (u64, u64)>,
}

/// Key of [`Description`] in the file.
const DESCRIPTION: &str = "vitrine.optimizer";

impl Optimizer {
    /// An optimiser that has taken no step.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(config: &OptimizerConfig) -> Result<Self, OptimError> {
        let OptimizerConfig { momentum, dampening, .. } = *config;
        for (what, found) in [("beta1", config.beta1), ("beta2", config.beta2), ("smoothing", config.smoothing)] {
            if !(0.0..1.0).contains(&found) {
                return Err(OptimError::Range { what, found, wanted: "a number in [0, 1)" });
            }
        }
        for (what, found) in [
            ("weight decay", config.weight_decay),
            ("epsilon", config.epsilon),
            ("momentum", momentum),
            ("dampening", dampening),
        ] {
            if !(found.is_finite() && found >= 0.0) {
                return Err(OptimError::Range { what, found, wanted: "a finite number, at least 0" });
            }
        }
        if config.nesterov && (momentum == 0.0 || dampening != 0.0) {
            return Err(OptimError::Nesterov { momentum, dampening });
        }
        Ok(Self { config: config.clone(), states: BTreeMap::new() })
    }

    /// Takes one step with rate `lr`; parameters without a gradient do not change.
    pub fn step<M: Module>(&mut self, lr: f64, module: M, gradients: GradientsParams) -> M {
        self.step_scaled(lr, |_| 1.0, module, gradients)
    }

    /// As [`Optimizer::step`], with the rate multiplied by `factor` of the parameter's path (`layer1.conv.weight`).
    /// A parameter with factor 0 is frozen: neither it nor its state changes.
    pub fn step_scaled<M: Module>(
        &mut self,
        lr: f64,
        factor: impl Fn(&str) -> f64,
        module: M,
        gradients: GradientsParams,
    ) -> M {
        module.map(&mut Stepper { optimizer: self, lr, factor, gradients, path: Vec::new() })
    }

    /// The state as safetensors: exact, independent of `ParamId`s.
    ///
    /// # Errors
    /// If a parameter is too large for the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, OptimError> {
        let mut parameters = BTreeMap::new();
        let mut tensors: Vec<(String, TensorData)> = Vec::new();
        for (path, state) in &self.states {
            parameters.insert(path.clone(), (state.time, state.momenta.to_bits()));
            for (slot, tensor) in self.slots().iter().zip(&state.slots) {
                tensors.push((format!("{path}/{slot}"), tensor.to_data_as::<f32>()));
            }
        }
        let description = serde_json::to_string(&Description { rule: self.rule(), parameters });
        let description = description.map_err(|source| OptimError::Description { source: Some(source) })?;
        let views = tensors
            .iter()
            .map(|(name, data)| {
                Ok((name.as_str(), TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes())?))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let metadata = HashMap::from([(DESCRIPTION.to_owned(), description)]);
        views
            .and_then(|views| safetensors::serialize(views, Some(metadata)))
            .map_err(|source| OptimError::Format { source })
    }

    /// Continues from a saved state; `module` is the network whose parameters it belongs to.
    ///
    /// # Errors
    /// If the bytes are damaged, of other rules or of another network: nothing is skipped.
    pub fn from_bytes<M: Module>(config: &OptimizerConfig, bytes: &[u8], module: &M) -> Result<Self, OptimError> {
        let mut optimizer = Self::new(config)?;
        let format = |source| OptimError::Format { source };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let file = SafeTensors::deserialize(bytes).map_err(format)?;
        let text = header.metadata().as_ref().and_then(|metadata| metadata.get(DESCRIPTION));
        let text = text.ok_or(OptimError::Description { source: None })?;
        let description: Description =
            serde_json::from_str(text).map_err(|source| OptimError::Description { source: Some(source) })?;
        if description.rule != optimizer.rule() {
            return Err(OptimError::Kind { found: description.rule, wanted: optimizer.rule() });
        }
        let mut sizes = Sizes::default();
        module.visit(&mut sizes);
        let wrong = |name: &str, problem: String| OptimError::Tensor { name: name.to_owned(), problem };
        let mut used = 0;
        for (path, (time, momenta)) in description.parameters {
            let Some((size, device)) = sizes.of.get(&path) else {
                return Err(wrong(&path, "belongs to no parameter of this network".to_owned()));
            };
            let slots = optimizer.slots().iter().map(|slot| {
                let name = format!("{path}/{slot}");
                let view = file.tensor(&name).map_err(|_| wrong(&name, "is missing".to_owned()))?;
                if view.dtype() != Dtype::F32 || view.shape() != [*size] {
                    let found = format!("{:?} {:?}", view.dtype(), view.shape());
                    return Err(wrong(&name, format!("is {found}, F32 [{size}] wanted")));
                }
                let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                Ok(Tensor::from_data(TensorData::new(values, [*size]), device))
            });
            let slots = slots.collect::<Result<Vec<_>, _>>()?;
            used += slots.len();
            optimizer.states.insert(path, State { time, momenta: f64::from_bits(momenta), slots });
        }
        match file.len() == used {
            true => Ok(optimizer),
            false => Err(wrong(&format!("{} tensors", file.len()), format!("in the file, {used} described"))),
        }
    }

    /// Names of the tensors that the rule keeps per parameter.
    fn slots(&self) -> &'static [&'static str] {
        match self.config.kind {
            OptimizerKind::Adam | OptimizerKind::AdamW if self.config.amsgrad => {
                &["moment1", "moment2", "largest_moment2"]
            }
            OptimizerKind::Adam | OptimizerKind::AdamW | OptimizerKind::Nadam => &["moment1", "moment2"],
            OptimizerKind::Sgd if self.config.momentum == 0.0 => &[],
            OptimizerKind::Sgd => &["momentum"],
            OptimizerKind::RmsProp if self.config.momentum == 0.0 => &["mean_square"],
            OptimizerKind::RmsProp => &["mean_square", "momentum"],
        }
    }

    /// What a state must agree in to be continued; rates and decays may change.
    fn rule(&self) -> String {
        format!("{} with {}", self.config.kind, self.slots().join(", "))
    }

    /// The next value of one parameter.
    fn update(&mut self, lr: f64, path: &str, value: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let c = &self.config;
        let fused = matches!(c.kind, OptimizerKind::Adam | OptimizerKind::AdamW) && !c.amsgrad;
        if fused && let Some(state) = self.states.get_mut(path).filter(|state| state.time > 0) {
            let time = (state.time + 1) as f64;
            let step = kernels::AdamStep {
                penalty: if c.kind == OptimizerKind::Adam { c.weight_decay } else { 0.0 },
                kept: if c.kind == OptimizerKind::AdamW { 1.0 - lr * c.weight_decay } else { 1.0 },
                beta1: c.beta1,
                beta2: c.beta2,
                epsilon: c.epsilon,
                root: (1.0 - c.beta2.powf(time)).sqrt(),
                rate: lr / (1.0 - c.beta1.powf(time)),
            };
            let [moment1, moment2] = std::mem::take(&mut state.slots).try_into().expect("ADAM has two slots");
            match kernels::adam([value, moment1, moment2, gradient], &step) {
                Ok([value, moment1, moment2]) => {
                    (state.time, state.slots) = (state.time + 1, vec![moment1, moment2]);
                    return value;
                }
                Err(tensors) => {
                    let [back, moment1, moment2, gradient] = *tensors;
                    state.slots = vec![moment1, moment2];
                    return self.update_by_tensors(lr, path, back, gradient);
                }
            }
        }
        self.update_by_tensors(lr, path, value, gradient)
    }

    /// The same with tensor operations, on any device.
    fn update_by_tensors(&mut self, lr: f64, path: &str, value: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let c = &self.config;
        let device = value.device();
        let (value, gradient) = match (c.kind, c.weight_decay) {
            (_, 0.0) => (value, gradient),
            (OptimizerKind::AdamW, decay) => (value.mul_scalar(1.0 - lr * decay), gradient),
            (_, decay) => (value.clone(), gradient + value.mul_scalar(decay)),
        };
        let count = self.slots().len();
        let fresh = || State { time: 0, momenta: 1.0, slots: vec![value.zeros_like(); count] };
        let mut state = self.states.remove(path).unwrap_or_else(fresh);
        state.time += 1;
        let time = state.time as f64;
        let mut slots = state.slots.into_iter().map(|slot| slot.to_device(&device));
        let mut slot = || slots.next().expect("a state has the slots of its rule");
        let average = |old: Tensor<1>, new: Tensor<1>, decay: f64| old.mul_scalar(decay) + new.mul_scalar(1.0 - decay);
        let (value, slots) = match c.kind {
            OptimizerKind::Adam | OptimizerKind::AdamW => {
                let moment1 = average(slot(), gradient.clone(), c.beta1);
                let moment2 = average(slot(), gradient.square(), c.beta2);
                let (correction1, correction2) = (1.0 - c.beta1.powf(time), 1.0 - c.beta2.powf(time));
                let mut slots = vec![moment1.clone(), moment2.clone()];
                let spread = if c.amsgrad {
                    let largest = slot().max_pair(moment2);
                    slots.push(largest.clone());
                    largest
                } else {
                    moment2
                };
                let spread = spread.sqrt().div_scalar(correction2.sqrt()).add_scalar(c.epsilon);
                (value - (moment1 / spread).mul_scalar(lr / correction1), slots)
            }
            OptimizerKind::Nadam => {
                let momentum = |time: f64| c.beta1 * (1.0 - 0.5 * 0.96f64.powf(0.004 * time));
                let (now, next) = (momentum(time), momentum(time + 1.0));
                state.momenta = if c.nadam_reference { now } else { state.momenta * now };
                let moment1 = average(slot(), gradient.clone(), c.beta1);
                let moment2 = average(slot(), gradient.clone().square(), c.beta2);
                let direction = gradient.mul_scalar((1.0 - now) / (1.0 - state.momenta))
                    + moment1.clone().mul_scalar(next / (1.0 - state.momenta * next));
                let correction2 = 1.0 - c.beta2.powf(time);
                let spread = moment2.clone().div_scalar(correction2).sqrt().add_scalar(c.epsilon);
                (value - (direction / spread).mul_scalar(lr), vec![moment1, moment2])
            }
            OptimizerKind::Sgd if c.momentum == 0.0 => (value - gradient.mul_scalar(lr), Vec::new()),
            OptimizerKind::Sgd => {
                // The first gradient enters undamped.
                let share = if state.time == 1 { 1.0 } else { 1.0 - c.dampening };
                let momentum = slot().mul_scalar(c.momentum) + gradient.clone().mul_scalar(share);
                let direction = match c.nesterov {
                    true => gradient + momentum.clone().mul_scalar(c.momentum),
                    false => momentum.clone(),
                };
                (value - direction.mul_scalar(lr), vec![momentum])
            }
            OptimizerKind::RmsProp => {
                let mean_square = average(slot(), gradient.clone().square(), c.smoothing);
                let direction = gradient / mean_square.clone().sqrt().add_scalar(c.epsilon);
                if c.momentum == 0.0 {
                    (value - direction.mul_scalar(lr), vec![mean_square])
                } else {
                    let momentum = slot().mul_scalar(c.momentum) + direction;
                    (value - momentum.clone().mul_scalar(lr), vec![mean_square, momentum])
                }
            }
        };
        self.states.insert(path.to_owned(), State { slots, ..state });
        value
    }
}

/// Walks over a network and steps every parameter that has a gradient.
struct Stepper<'a, F> {
    optimizer: &'a mut Optimizer,
    lr: f64,
    factor: F,
    gradients: GradientsParams,
    path: Vec<String>,
}

impl<F: Fn(&str) -> f64> ModuleMapper for Stepper<'_, F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let path = self.path.join(".");
        let factor = (self.factor)(&path);
        if factor == 0.0 {
            return Param::from_mapped_value(id, tensor, mapper);
        }
        let (tracked, checkpointing) = (tensor.is_require_grad(), tensor.gradient_checkpointing_strategy());
        let dims = tensor.dims();
        let size = dims.iter().product::<usize>();
        let value = tensor.inner().reshape([size]);
        let gradient = amp::full(gradient.inner().to_device(&value.device())).reshape([size]);
        let lr = self.lr * factor;
        let mut tensor = self.optimizer.update(lr, &path, value, gradient).reshape(dims);
        if let Some(strategy) = checkpointing {
            // Parameters of two strategies may not meet in one operation.
            tensor = tensor.autodiff().with_gradient_checkpointing_strategy(strategy);
        }
        Param::from_mapped_value(id, tensor.set_require_grad(tracked), mapper)
    }
}

/// Number of elements and device of every parameter, by path.
#[derive(Default)]
struct Sizes {
    path: Vec<String>,
    of: BTreeMap<String, (usize, Device)>,
}

impl ModuleVisitor for Sizes {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        self.of.insert(self.path.join("."), (tensor.shape().num_elements(), tensor.device().inner()));
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamId;
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use fixtures::Golden;

    use super::*;

    #[derive(Module, Debug)]
    struct Vector {
        value: Param<Tensor<2>>,
    }

    #[derive(Module, Debug)]
    struct Net {
        first: Linear,
        norm: BatchNorm,
        layers: Vec<Linear>,
        unused: Linear,
    }

    fn device() -> Device {
        Device::flex().autodiff()
    }

    fn net() -> Net {
        let linear = |name: &str, [input, output]: [usize; 2]| {
            let tensor = |values: Vec<f32>| Tensor::<1>::from_data(TensorData::from(values.as_slice()), &device());
            let mut linear = LinearConfig::new(input, output).init(&device());
            let weight =
                tensor(contract::fill::fill(&format!("{name}.weight"), &[input, output])).reshape([input, output]);
            linear.weight = Param::initialized(ParamId::new(), weight.require_grad());
            let bias = tensor(contract::fill::fill(&format!("{name}.bias"), &[output]));
            linear.bias = Some(Param::initialized(ParamId::new(), bias.require_grad()));
            linear
        };
        Net {
            first: linear("first", [3, 4]),
            norm: BatchNormConfig::new(4).init(&device()),
            layers: vec![linear("layers.0", [4, 4]), linear("layers.1", [4, 2])],
            unused: linear("unused", [2, 2]),
        }
    }

    fn all_kinds() -> Vec<OptimizerConfig> {
        let base = OptimizerConfig::default();
        let kind = |kind| OptimizerConfig { kind, ..base.clone() };
        vec![
            base.clone(),
            OptimizerConfig { amsgrad: true, ..base.clone() },
            kind(OptimizerKind::AdamW),
            OptimizerConfig { amsgrad: true, ..kind(OptimizerKind::AdamW) },
            kind(OptimizerKind::Sgd),
            OptimizerConfig { nesterov: true, ..kind(OptimizerKind::Sgd) },
            OptimizerConfig { dampening: 0.3, ..kind(OptimizerKind::Sgd) },
            OptimizerConfig { momentum: 0.0, ..kind(OptimizerKind::Sgd) },
            kind(OptimizerKind::RmsProp),
            OptimizerConfig { momentum: 0.0, ..kind(OptimizerKind::RmsProp) },
            kind(OptimizerKind::Nadam),
            OptimizerConfig { nadam_reference: true, ..kind(OptimizerKind::Nadam) },
        ]
    }

    fn train(optimizer: &mut Optimizer, mut net: Net, steps: std::ops::Range<usize>) -> Net {
        for step in steps {
            let input = contract::fill::fill(&format!("input.{step}"), &[5, 3]);
            let input = Tensor::<2>::from_data(TensorData::new(input, [5, 3]), &device());
            let mut hidden = net.norm.forward(net.first.forward(input));
            for layer in &net.layers {
                hidden = layer.forward(hidden.tanh());
            }
            let gradients = GradientsParams::from_grads(hidden.square().mean().backward(), &net);
            net = optimizer.step(1e-2, net, gradients);
        }
        net
    }

    #[derive(Default)]
    struct Bits(Vec<u32>);

    impl ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().to_data_as::<f32>().iter::<f32>().map(f32::to_bits));
        }
    }

    fn bits(net: &Net) -> Vec<u32> {
        let mut bits = Bits::default();
        net.valid().visit(&mut bits);
        bits.0
    }

    /// The same values under new `ParamId`s, as after reading a checkpoint into a fresh network.
    fn reloaded(net: &Net) -> Net {
        struct NewIds;
        impl ModuleMapper for NewIds {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let (_, tensor, mapper) = param.consume();
                Param::from_mapped_value(ParamId::new(), tensor, mapper)
            }
        }
        net.valid().train().map(&mut NewIds)
    }

    /// Golden: `fixtures/reid_losses`; three steps with gradients g, 2g, 3g.
    #[test]
    fn three_steps_match_the_reference() {
        let golden = Golden::load("reid_losses").unwrap();
        let matrix = |name: &str| {
            let (shape, values) = golden.tensor_f32(name).unwrap();
            Tensor::<2>::from_data(TensorData::new(values, shape), &device())
        };
        let base = OptimizerConfig::default();
        let kind = |kind| OptimizerConfig { kind, ..base.clone() };
        for (name, lr, config) in [
            ("adam", 6e-4, base.clone()),
            ("amsgrad", 6e-4, OptimizerConfig { amsgrad: true, ..base.clone() }),
            ("sgd", 5e-3, kind(OptimizerKind::Sgd)),
            ("sgd_nesterov", 5e-3, OptimizerConfig { nesterov: true, ..kind(OptimizerKind::Sgd) }),
            ("rmsprop", 6e-4, kind(OptimizerKind::RmsProp)),
            ("nadam_reference", 6e-4, OptimizerConfig { nadam_reference: true, ..kind(OptimizerKind::Nadam) }),
        ] {
            let mut optimizer = Optimizer::new(&config).unwrap();
            let mut vector = Vector { value: Param::initialized(ParamId::new(), matrix("optim.p0").require_grad()) };
            for step in 1..=3 {
                let mut gradients = GradientsParams::new();
                gradients.register(vector.value.id, matrix("optim.g").mul_scalar(step).inner());
                vector = optimizer.step(lr, vector, gradients);
            }
            let off = (vector.value.val() - matrix(&format!("optim.{name}"))).abs().max().into_scalar::<f32>();
            println!("{name}: off {off:.1e}");
            // One unit in the last place of values below 2, and what three steps add.
            assert!(off <= 2.5e-7, "{name}: {off:.1e}");
            assert!(vector.value.is_require_grad());
        }
    }

    /// `torch.optim.AdamW([p], lr=1e-2, weight_decay=0.1)` of torch 2.15, after steps with gradients g, -2g and g/2.
    #[test]
    fn adamw_matches_torch() {
        let device = Device::flex();
        let values = |values: [f32; 5]| Tensor::<1>::from_floats(values, &device);
        let config = OptimizerConfig { kind: OptimizerKind::AdamW, weight_decay: 0.1, ..OptimizerConfig::default() };
        let mut optimizer = Optimizer::new(&config).unwrap();
        let mut value = values([0.5, -1.25, 2.0, 1e-3, -0.75]);
        for (factor, expected) in [
            (1.0, [0.489_500_02, -1.238_75, 1.988, 0.010_999, -0.759_249]),
            (-2.0, [0.492_671_55, -1.241_172_3, 1.989_673_1, 0.007_326_966, -0.754_828_9]),
            (0.5, [0.493_545_8, -1.241_298, 1.989_050_4, 0.005_952_733, -0.752_707_3]),
        ] {
            let gradient = values([0.3, -0.2, 1.5, -4.0, 1e-4]).mul_scalar(factor);
            value = optimizer.update(1e-2, "p", value, gradient);
            let off = (value.clone() - values(expected)).abs().max().into_scalar::<f32>();
            // One unit in the last place of values below 2.
            assert!(off <= 2.5e-7, "{off:.1e} after the gradient times {factor}");
        }
    }

    /// Worked by hand: a constant gradient of 1 and no decay; the root of the corrected second moment is 1.
    #[test]
    fn nadam_uses_the_product_of_momenta() {
        let config = OptimizerConfig { kind: OptimizerKind::Nadam, weight_decay: 0.0, ..OptimizerConfig::default() };
        let mut optimizer = Optimizer::new(&config).unwrap();
        let momentum = |time: f64| 0.9 * (1.0 - 0.5 * 0.96f64.powf(0.004 * time));
        let (mut value, mut expected, mut product, mut moment) =
            (Tensor::<1>::zeros([1], &Device::flex()), 0.0, 1.0, 0.0);
        for time in 1..=3 {
            let (now, next) = (momentum(f64::from(time)), momentum(f64::from(time + 1)));
            product *= now;
            moment = 0.9 * moment + 0.1;
            expected -= 0.01 * ((1.0 - now) / (1.0 - product) + next * moment / (1.0 - product * next));
            value = optimizer.update(0.01, "p", value, Tensor::ones([1], &Device::flex()));
        }
        let value: f32 = value.into_scalar();
        assert!((f64::from(value) - expected).abs() < 1e-8, "{value} for {expected}");
    }

    /// The loops of the CPU against tensors, bit by bit: an odd size over several threads' shares, and weights that
    /// others hold.
    #[test]
    fn adam_in_one_pass_has_the_same_bits() {
        let size = 70_001;
        let tensor = |name: &str| {
            Tensor::<1>::from_data(TensorData::new(contract::fill::fill(name, &[size]), [size]), &Device::flex())
        };
        let bits = |tensor: &Tensor<1>| tensor.to_data_as::<f32>().iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
        for kind in [OptimizerKind::Adam, OptimizerKind::AdamW] {
            for weight_decay in [0.0, 0.05] {
                let config = OptimizerConfig { kind, weight_decay, ..OptimizerConfig::default() };
                let [mut fused, mut plain] = [(); 2].map(|()| Optimizer::new(&config).unwrap());
                let (mut ours, mut theirs) = (tensor("p"), tensor("p"));
                for step in 0..5 {
                    let held = ours.clone();
                    let before = bits(&held);
                    ours = fused.update(1e-2, "p", ours, tensor(&format!("g{step}")));
                    theirs = plain.update_by_tensors(1e-2, "p", theirs, tensor(&format!("g{step}")));
                    assert_eq!(bits(&ours), bits(&theirs), "{kind} with {weight_decay}, step {step}");
                    assert_eq!(bits(&held), before, "what others hold stays");
                    let [a, b] = [&fused, &plain].map(|optimizer| optimizer.to_bytes().unwrap());
                    assert!(a == b, "{kind} with {weight_decay}, state after step {step}");
                }
            }
        }
    }

    #[test]
    fn a_saved_state_continues_bit_by_bit_in_a_fresh_network() {
        for config in all_kinds() {
            let mut straight = Optimizer::new(&config).unwrap();
            let expected = bits(&train(&mut straight, net(), 0..5));

            let mut first = Optimizer::new(&config).unwrap();
            let half = train(&mut first, net(), 0..2);
            let saved = first.to_bytes().unwrap();
            let half = reloaded(&half);
            let mut second = Optimizer::from_bytes(&config, &saved, &half).unwrap();
            assert_eq!(second.to_bytes().unwrap(), saved, "{config:?}");
            assert_eq!(bits(&train(&mut second, half, 2..5)), expected, "{config:?}");
            assert_eq!(second.to_bytes().unwrap(), straight.to_bytes().unwrap(), "{config:?}");
            assert!(!straight.states.keys().any(|path| path.starts_with("unused")));
            assert!(straight.states.contains_key("layers.1.weight"));
        }
    }

    #[test]
    fn rates_may_differ_by_path() {
        let before = net();
        let mut optimizer = Optimizer::new(&OptimizerConfig::default()).unwrap();
        let input = Tensor::<2>::ones([5, 3], &device());
        let loss = before.layers[0].forward(before.first.forward(input)).square().mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &before);
        let factor = |path: &str| if path.starts_with("first.") { 0.0 } else { 1.0 };
        let after = optimizer.step_scaled(1e-2, factor, before.clone(), gradients);
        let moved = |a: &Linear, b: &Linear| (a.weight.val() - b.weight.val()).abs().max().into_scalar::<f32>();
        assert_eq!(moved(&before.first, &after.first), 0.0);
        assert!(!optimizer.states.keys().any(|path| path.starts_with("first.")), "frozen: no state");
        assert!(moved(&before.layers[0], &after.layers[0]) > 5e-3);
        assert_eq!(moved(&before.layers[1], &after.layers[1]), 0.0, "no gradient, no step");
    }

    #[test]
    fn states_that_do_not_fit_are_refused() {
        let config = OptimizerConfig::default();
        let mut optimizer = Optimizer::new(&config).unwrap();
        let trained = train(&mut optimizer, net(), 0..1);
        let saved = optimizer.to_bytes().unwrap();
        let error = |config: &OptimizerConfig, bytes: &[u8]| {
            Optimizer::from_bytes(config, bytes, &trained).unwrap_err().to_string()
        };
        let sgd = OptimizerConfig { kind: OptimizerKind::Sgd, ..config.clone() };
        assert!(error(&sgd, &saved).contains("is of ADAM with moment1, moment2, this run uses SGD with momentum"));
        assert!(error(&config, &saved[..saved.len() - 4]).contains("not readable"));
        assert!(error(&config, b"").contains("not readable"));
        let foreign = safetensors::serialize(Vec::<(&str, TensorView)>::new(), None).unwrap();
        assert!(error(&config, &foreign).contains("no valid description"));
        let other = LinearConfig::new(3, 4).init(&device());
        let error = Optimizer::from_bytes(&config, &saved, &other).unwrap_err().to_string();
        assert!(error.contains("`first.bias` belongs to no parameter"), "{error}");
        let mut wider = trained.clone();
        wider.first = LinearConfig::new(3, 5).init(&device());
        let error = Optimizer::from_bytes(&config, &saved, &wider).unwrap_err().to_string();
        assert!(error.contains("`first.bias/moment1` is F32 [4], F32 [5] wanted"), "{error}");
    }

    #[test]
    fn settings_are_checked() {
        let base = OptimizerConfig::default();
        for (wrong, wanted) in [
            (OptimizerConfig { beta1: 1.0, ..base.clone() }, "beta1 is 1"),
            (OptimizerConfig { epsilon: f64::NAN, ..base.clone() }, "epsilon is NaN"),
            (OptimizerConfig { weight_decay: -1.0, ..base.clone() }, "weight decay is -1"),
            (OptimizerConfig { nesterov: true, dampening: 0.1, ..base }, "nesterov wants"),
        ] {
            let error = Optimizer::new(&wrong).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
