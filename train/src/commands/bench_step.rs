//! `train bench-step`: the phases of a training step, timed.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use contract::dataset::{Dataset, Options};
use contract::fill;
use serde_json::json;
use train::config::ReidConfig;
use train::loader::{Loader, LoaderError, LoaderOptions, PictureBatch, Pictures};
use train::loss::{LossParams, LossSum};
use train::model::{ReidNet, ReidNetConfig, StateDict};
use train::optim::{Optimizer, OptimizerConfig};
use train::sampler::Sampler;
use train::task::reid;
use train::transforms::Transforms;
use train::{amp, device};

use crate::cli::{BenchStepArgs, Format};

/// `train bench-step`.
pub fn bench_step(args: &BenchStepArgs) -> anyhow::Result<ExitCode> {
    // Before anything touches the pool: it is made once.
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    let plain = device::open(args.device)?;
    let device = plain.clone().autodiff();
    let network = ReidNetConfig { bnneck: args.bnneck, ..ReidNetConfig::new(&args.model, args.identities, 512) };
    let mut net = ReidNet::new(&network, 1, &device)?;
    // Weights, pictures and identities by the rules of the golden vectors, which the peer follows too: the losses must agree.
    let filled: StateDict = StateDict::of(&net)
        .iter()
        .map(|(key, data)| (key.to_owned(), TensorData::new(fill::fill(key, data.shape()), data.shape().clone())))
        .collect();
    filled.load_into(&mut net);
    let params = LossParams {
        num_classes: args.identities,
        label_smoothing: true,
        margin: 0.7,
        feat_dim: network.width(),
        seed: 1,
    };
    let mut loss = LossSum::new("0.5*CrossEntropy+0.5*MSLoss", &params)?;
    let mut optimizer = Optimizer::new(&OptimizerConfig::default())?;
    let shape = [args.batch, 3, args.height, args.width];
    let block = 16;
    if !args.height.is_multiple_of(block) || !args.width.is_multiple_of(block) {
        bail!("--height and --width are {}×{}; multiples of {block} are allowed", args.height, args.width);
    }
    let mut batches: Box<dyn Iterator<Item = Result<Batch, LoaderError>>> = match &args.datadir {
        Some(datadir) => Box::new(loaded(args, datadir)?),
        None => {
            let pixels = fill::blocks("input", shape, block);
            let identities: Vec<i64> = (0..args.batch).map(|k| ((k / 4) % args.identities) as i64).collect();
            Box::new(std::iter::repeat_with(move || Ok((pixels.clone(), identities.clone()))))
        }
    };
    let (mut losses, mut loader) = (Vec::new(), Vec::new());
    let (mut forward, mut backward, mut update) = (Vec::new(), Vec::new(), Vec::new());
    let mut processor = Vec::new();
    let mixed = args.use_amp && amp::pays(&plain);
    for _ in 0..args.warmup + args.steps {
        let before = processor_seconds();
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
        let (pixels, identities) = batches.next().expect("batches never end")?;
        loader.push(lap());
        let images = Tensor::<4>::from_data(TensorData::new(pixels, shape), &device);
        let classes = Tensor::<1, Int>::from_data(TensorData::new(identities, [args.batch]), &device);
        let low = mixed.then(|| amp::lower(net.clone()));
        let used = low.as_ref().unwrap_or(&net);
        let output = used.forward(amp::like(used, images));
        let full = |tensors: Vec<Tensor<2>>| tensors.into_iter().map(amp::full).collect::<Vec<_>>();
        let terms = loss.forward(&full(output.scores), &full(output.features), classes);
        losses.push(terms.values().0);
        forward.push(lap());
        let gradients = GradientsParams::from_grads(terms.total.backward(), used);
        plain.sync()?;
        backward.push(lap());
        net = optimizer.step(6e-4, net, gradients);
        plain.sync()?;
        update.push(lap());
        processor.extend(before.zip(processor_seconds()).map(|(before, after)| after - before));
    }
    let timed = |phase: &[f64]| phase[args.warmup..].to_vec();
    let phases = [&loader, &forward, &backward, &update];
    let seconds: Vec<f64> =
        (args.warmup..losses.len()).map(|step| phases.iter().map(|phase| phase[step]).sum()).collect();
    let facts = json!({
        "network": network, "batch": args.batch, "size": [args.height, args.width], "device": device::name(&plain), "precision": amp::describe(args.use_amp, &plain),
        "ops": train::ops::name(), "threads": args.threads, "seconds": seconds, "loader": timed(&loader), "forward": timed(&forward),
        "backward": timed(&backward), "optimizer": timed(&update), "losses": losses,
        "processor": processor.split_off(processor.len().min(args.warmup)),
    });
    match args.format {
        Format::Json => println!("{facts}"),
        Format::Table => println!("{}", serde_json::to_string_pretty(&facts)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Pixels and identities.
type Batch = (Vec<f32>, Vec<i64>);

/// Batches without end, made as a run makes them: epoch after epoch, by threads, ahead of the step.
fn loaded(args: &BenchStepArgs, datadir: &Path) -> anyhow::Result<impl Iterator<Item = Result<Batch, LoaderError>>> {
    let per_identity = 4;
    let defaults = ReidConfig::default();
    let config = ReidConfig {
        height: args.height,
        width: args.width,
        batchid: args.batch / per_identity,
        batchimage: per_identity,
        random_erasing: true,
        n_thread: args.threads,
        cache_mb: 0,
        ..defaults
    };
    if config.batch() != args.batch {
        bail!("--batch is {}; multiples of {per_identity} are allowed with --datadir", args.batch);
    }
    let dataset = Dataset::open(&config.data_train, datadir, &Options::default())?;
    let classes = dataset.classes().len();
    if classes > args.identities {
        bail!(
            "{} has {classes} training identities; up to {} are allowed (--identities)",
            datadir.display(),
            args.identities
        );
    }
    let pictures = Arc::new(Pictures::training(&dataset, reid::picture_spec(&config), config.cache_mb));
    let sampler = Sampler::new(&config, pictures.classes())?;
    let transforms = Transforms::new(&config);
    let epoch = move |epoch| -> Box<dyn Iterator<Item = Result<PictureBatch, LoaderError>>> {
        let (transforms, workers) = (Some((transforms.clone(), epoch)), config.n_thread);
        let options = LoaderOptions { transforms, workers, start_batch: 0, strict: true };
        match Loader::new(pictures.clone(), sampler.epoch(epoch), options) {
            Ok(batches) => Box::new(batches),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    };
    Ok((1..).flat_map(epoch).map(|batch| batch.map(|batch| (batch.pixels, batch.classes))))
}

/// Processor time this program has taken, all threads together, where Linux tells. Unlike time on the clock it hardly depends on
/// what else the machine does.
fn processor_seconds() -> Option<f64> {
    /// Linux gives times to programs in hundredths of a second, on every architecture Rust has.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before the last bracket may hold blanks; user and system time are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS);
    Some(seconds()? + seconds()?)
}
