//! A step of stage 2 with all four backbones training.

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::{Value, json};

use crate::families::palmvein::Stage2Config;
use crate::families::palmvein::net::{Branch, PalmVeinNet};
use crate::loss::{FusionLoss, FusionMode, FusionTerms};
use crate::run::amp;
use crate::run::bench_step::{Update, drawn};
use crate::run::flags::BenchStepArgs;
use crate::run::optim::OptimizerConfig;

/// The backbones learn a hundredth as fast as the head.
fn rate(path: &str) -> f64 {
    if Branch::ALL.iter().any(|branch| path.starts_with(branch.name())) { 0.01 } else { 1.0 }
}

/// ArcFace and the agreement of the branches on noise of the default size.
pub fn stage2(args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
    let device = plain.clone().autodiff();
    let config = Stage2Config::default();
    let network = config.network(args.identities);
    let mut net = PalmVeinNet::new(&network, 1, &device)?;
    crate::run::bench_step::fill(&mut net);
    let loss = FusionLoss::new(FusionMode::Standard);
    let size = config.common.img_size;
    let classes: Vec<i64> = (0..args.batch).map(|row| (row / 2 % args.identities) as i64).collect();
    let optimizer = OptimizerConfig { weight_decay: 0.0, ..OptimizerConfig::default() };
    let update = Update { optimizer, lr: config.lr, rate };
    let mut facts =
        crate::run::bench_step::timed(args, plain, net, &update, crate::run::bench_step::ready(), |net, ()| {
            let picture = |name: &str| drawn(name, [args.batch, 1, size, size], 1.0, &device);
            let details = net.forward(amp::like(net, picture("input.palm")), amp::like(net, picture("input.vein")));
            let classes = Tensor::<1, Int>::from_data(TensorData::new(classes.clone(), [args.batch]), &device);
            let logits = net.fusion.logits(details.embedding.clone(), classes.clone());
            let fused = [details.global, details.local].map(|branch| branch.expect("the head has both branches").fused);
            let terms = FusionTerms {
                logits: amp::full(logits.expect("a network that trains has ArcFace")),
                branches: Some(fused.map(amp::full)),
                attention: Vec::new(),
                centers: None,
            };
            loss.forward(terms, classes)
        })?;
    facts["network"] = json!(network);
    facts["size"] = json!([size, size]);
    Ok(facts)
}
