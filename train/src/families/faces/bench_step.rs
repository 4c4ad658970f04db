//! Steps of the two face families at their default sizes, without dropout: its random numbers would differ from the
//! peer's.

use burn::tensor::Device;
use serde_json::{Value, json};

use crate::families::controlnet::net::{ControlNet, ControlNetConfig, EncoderKind};
use crate::families::senet::net::{SenetNetConfig, SenetTripletNetwork};
use crate::loss::{AngleTriplet, IdentityPreserving, LossTerms, PictureLoss};
use crate::nn::dropout::Masks;
use crate::run::amp;
use crate::run::bench_step::{Update, drawn};
use crate::run::flags::BenchStepArgs;
use crate::run::optim::{OptimizerConfig, OptimizerKind};

/// Degrees that poses reach.
const ANGLES: f32 = 60.0;

fn adamw() -> Update {
    let optimizer = OptimizerConfig { kind: OptimizerKind::AdamW, weight_decay: 1e-5, ..OptimizerConfig::default() };
    Update { optimizer, lr: 1e-4, rate: |_| 1.0 }
}

/// Angle-weighted triplets, reconstruction and identity dimensions; four rows of each person.
pub fn senet(args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
    let device = plain.clone().autodiff();
    let network = SenetNetConfig::default();
    let mut net = SenetTripletNetwork::new(&network, 1, &device);
    crate::run::bench_step::fill(&mut net);
    let people: Vec<i64> = (0..args.batch).map(|row| (row / 4) as i64).collect();
    let (triplet, identity) = (AngleTriplet::default(), IdentityPreserving::default());
    let angles = contract::fill::fill("input.pose", &[args.batch, network.pose_dim]);
    let angles: Vec<f32> = angles.into_iter().map(|angle| angle * ANGLES).collect();
    let mut facts =
        crate::run::bench_step::timed(args, plain, net, &adamw(), crate::run::bench_step::ready(), |net, ()| {
            let source = drawn("input.src", [args.batch, network.image_dim], 1.0, &device);
            let pose = drawn("input.pose", [args.batch, network.pose_dim], ANGLES, &device);
            let output = net.forward(amp::like(net, source.clone()), amp::like(net, pose), &mut Masks::none());
            let features = amp::full(output.identity_features);
            let triplet = triplet.forward(features, &people, &angles, Some(source.clone())).total();
            let identity = identity.forward(amp::full(output.front_features), source);
            let total = triplet.clone() + identity.clone();
            LossTerms { total, terms: vec![("triplet".into(), triplet), ("identity".into(), identity)] }
        })?;
    facts["network"] = json!(network);
    Ok(facts)
}

/// Squared error of the picture and a tenth of the pose's, with the small encoder.
pub fn controlnet(args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
    let device = plain.clone().autodiff();
    let network = ControlNetConfig {
        encoder: EncoderKind::Conv,
        features: 512,
        angles: 3,
        size: 112,
        control_layers: 3,
        dropout: 0.0,
        pose_scale: 1.0,
    };
    let mut net = ControlNet::new(&network, 1, &device);
    crate::run::bench_step::fill(&mut net);
    let loss = PictureLoss { mse: 1.0, l1: 0.0, pose: 0.1 };
    let shape = [args.batch, 3, network.size, network.size];
    let mut facts =
        crate::run::bench_step::timed(args, plain, net, &adamw(), crate::run::bench_step::ready(), |net, ()| {
            let image = drawn("input.image", shape, 1.0, &device);
            let wanted = drawn("input.target_image", shape, 1.0, &device);
            let pose = drawn("input.target_pose", [args.batch, network.angles], ANGLES, &device);
            let made = net.forward(amp::like(net, image), amp::like(net, pose.clone()));
            loss.forward(amp::full(made.image), wanted, amp::full(made.source_pose), pose)
        })?;
    facts["network"] = json!(network);
    facts["size"] = json!([network.size, network.size]);
    Ok(facts)
}
