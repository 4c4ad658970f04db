//! The phases of a training step, timed.

use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use contract::fill;
use serde_json::{Value, json};

use crate::device;
use crate::loss::LossTerms;
use crate::run::amp;
use crate::run::flags::BenchStepArgs;
use crate::run::optim::{Optimizer, OptimizerConfig};
use crate::weights::StateDict;

/// How a family updates its weights.
pub(crate) struct Update {
    pub optimizer: OptimizerConfig,
    pub lr: f64,
    /// Factor of the rate of the parameter at a path.
    pub rate: fn(&str) -> f64,
}

/// Weights by the rule of the golden vectors, which the peer follows too: the losses must agree.
pub(crate) fn fill<M: Module>(net: &mut M) {
    let filled: StateDict = StateDict::of(net)
        .iter()
        .map(|(key, data)| (key.to_owned(), TensorData::new(fill::fill(key, data.shape()), data.shape().clone())))
        .collect();
    filled.load_into(net);
}

/// No batches: for a loss that draws its own.
pub(crate) fn ready() -> impl Iterator<Item = anyhow::Result<()>> {
    std::iter::repeat_with(|| Ok(()))
}

/// Values in [-1, 1) that follow from a name, times `scale`.
pub(crate) fn drawn<const D: usize>(name: &str, shape: [usize; D], scale: f32, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = fill::fill(name, &shape).into_iter().map(|value| value * scale).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Runs the steps of `args` on a network and gives the facts: seconds by phase, losses, processor time. `batches`
/// never end; `loss` brings one to the device, as a real step does.
pub(crate) fn timed<M: Module, B>(
    args: &BenchStepArgs,
    plain: &Device,
    mut net: M,
    update: &Update,
    mut batches: impl Iterator<Item = anyhow::Result<B>>,
    mut loss: impl FnMut(&M, B) -> LossTerms,
) -> anyhow::Result<Value> {
    let mut optimizer = Optimizer::new(&update.optimizer)?;
    let (mut losses, mut loader) = (Vec::new(), Vec::new());
    let (mut forward, mut backward, mut updates) = (Vec::new(), Vec::new(), Vec::new());
    let mut processor = Vec::new();
    let mixed = args.use_amp && amp::pays(plain);
    for _ in 0..args.warmup + args.steps {
        let before = processor_seconds();
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
        let batch = batches.next().expect("batches never end")?;
        loader.push(lap());
        let low = mixed.then(|| amp::lower(net.clone()));
        let used = low.as_ref().unwrap_or(&net);
        let terms = loss(used, batch);
        losses.push(terms.values().0);
        forward.push(lap());
        let gradients = GradientsParams::from_grads(terms.total.backward(), used);
        plain.sync()?;
        backward.push(lap());
        net = optimizer.step_scaled(update.lr, update.rate, net, gradients);
        plain.sync()?;
        updates.push(lap());
        processor.extend(before.zip(processor_seconds()).map(|(before, after)| after - before));
    }
    let timed = |phase: &[f64]| phase[args.warmup..].to_vec();
    let phases = [&loader, &forward, &backward, &updates];
    let seconds: Vec<f64> =
        (args.warmup..losses.len()).map(|step| phases.iter().map(|phase| phase[step]).sum()).collect();
    Ok(json!({
        "batch": args.batch, "device": device::name(plain), "precision": amp::describe(args.use_amp, plain),
        "ops": kernels::name(plain), "threads": args.threads.get(), "seconds": seconds, "loader": timed(&loader),
        "forward": timed(&forward), "backward": timed(&backward), "optimizer": timed(&updates), "losses": losses,
        "processor": processor.split_off(processor.len().min(args.warmup)),
    }))
}

/// Processor time this program has taken, all threads together, where Linux tells. Unlike time on the clock it hardly
/// depends on what else the machine does.
pub(crate) fn processor_seconds() -> Option<f64> {
    /// Linux gives times to programs in hundredths of a second, on every architecture Rust has.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before the last bracket may hold blanks; user and system time are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS);
    Some(seconds()? + seconds()?)
}
