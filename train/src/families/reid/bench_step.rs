//! A step of re-identification.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::fill;
use datasets::{Dataset, Options};
use serde_json::{Value, json};

use crate::data::loader::{Loader, LoaderError, LoaderOptions, PictureBatch, Pictures};
use crate::families::reid::net::{Network, ReidNet, ReidNetConfig};
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task as reid;
use crate::loss::{LossParams, LossSum};
use crate::run::amp;
use crate::run::bench_step::Update;
use crate::run::flags::BenchStepArgs;
use crate::run::optim::OptimizerConfig;

/// Side of the squares that pictures are made of.
const BLOCK: usize = 16;

/// `0.5*CrossEntropy+0.5*MSLoss` and Adam on pictures made of squares.
pub fn step(args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
    let device = plain.clone().autodiff();
    let mut chosen = Network::named(&args.model)?;
    if args.bnneck {
        chosen = chosen.with("bnneck", true)?;
    }
    let network = ReidNetConfig { classes: args.identities, net: chosen };
    let mut net = ReidNet::new(&network, 1, &device);
    crate::run::bench_step::fill(&mut net);
    let params = LossParams {
        num_classes: args.identities,
        label_smoothing: true,
        margin: 0.7,
        feat_dim: network.net.features(),
        ..LossParams::default()
    };
    let mut loss = LossSum::new("0.5*CrossEntropy+0.5*MSLoss", &params)?;
    let shape = [args.batch, 3, args.height, args.width];
    if !args.height.is_multiple_of(BLOCK) || !args.width.is_multiple_of(BLOCK) {
        bail!("--height and --width are {}×{}; multiples of {BLOCK} are allowed", args.height, args.width);
    }
    let batches: Box<dyn Iterator<Item = anyhow::Result<Batch>>> = match &args.datadir {
        Some(datadir) => Box::new(loaded(args, datadir)?.map(|batch| Ok(batch?))),
        None => {
            let pixels = fill::blocks("input", shape, BLOCK);
            let identities: Vec<i64> = (0..args.batch).map(|k| ((k / 4) % args.identities) as i64).collect();
            Box::new(std::iter::repeat_with(move || Ok((pixels.clone(), identities.clone()))))
        }
    };
    let update = Update { optimizer: OptimizerConfig::default(), lr: 6e-4, rate: |_| 1.0 };
    let mut facts = crate::run::bench_step::timed(args, plain, net, &update, batches, |net, (pixels, identities)| {
        let images = Tensor::<4>::from_data(TensorData::new(pixels, shape), &device);
        let classes = Tensor::<1, Int>::from_data(TensorData::new(identities, [args.batch]), &device);
        let output = net.forward(amp::like(net, images));
        let full = |tensors: Vec<Tensor<2>>| tensors.into_iter().map(amp::full).collect::<Vec<_>>();
        loss.forward(&full(output.scores), &full(output.features), classes)
    })?;
    facts["network"] = json!(network);
    facts["size"] = json!([args.height, args.width]);
    Ok(facts)
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
        n_thread: args.threads.get(),
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
    let sampler = config.sampler_of(pictures.classes(), &[])?;
    let transforms = config.transforms();
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
