//! A step of the frontalizer at its default size.

use burn::tensor::Device;
use serde_json::{Value, json};

use crate::families::faces::bench_step::{ANGLES, adamw};
use crate::families::senet::net::{SenetNetConfig, SenetTripletNetwork};
use crate::loss::{AngleTriplet, IdentityPreserving, LossTerms};
use crate::nn::dropout::Masks;
use crate::run::amp;
use crate::run::bench_step::{drawn, fill, ready, timed};
use crate::run::flags::BenchStepArgs;

/// Angle-weighted triplets, reconstruction and identity dimensions; four rows of each person.
pub fn step(args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
    let device = plain.clone().autodiff();
    let network = SenetNetConfig::default();
    let mut net = SenetTripletNetwork::new(&network, 1, &device);
    fill(&mut net);
    let people: Vec<i64> = (0..args.batch).map(|row| (row / 4) as i64).collect();
    let (triplet, identity) = (AngleTriplet::default(), IdentityPreserving::default());
    let angles = contract::fill::fill("input.pose", &[args.batch, network.pose_dim]);
    let angles: Vec<f32> = angles.into_iter().map(|angle| angle * ANGLES).collect();
    let mut facts = timed(args, plain, net, &adamw(), ready(), |net, ()| {
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
