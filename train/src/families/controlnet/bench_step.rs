//! A step of the generator at its default size.

use burn::tensor::Device;
use serde_json::{Value, json};

use crate::families::controlnet::net::{ControlNet, ControlNetConfig, EncoderKind};
use crate::families::faces::bench_step::{ANGLES, adamw};
use crate::loss::PictureLoss;
use crate::run::amp;
use crate::run::bench_step::{drawn, fill, ready, timed};
use crate::run::flags::BenchStepArgs;

/// Squared error of the picture and a tenth of the pose's, with the small encoder.
pub fn step(args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
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
    fill(&mut net);
    let loss = PictureLoss { mse: 1.0, l1: 0.0, pose: 0.1 };
    let shape = [args.batch, 3, network.size, network.size];
    let mut facts = timed(args, plain, net, &adamw(), ready(), |net, ()| {
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
