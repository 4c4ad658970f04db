//! SENet against the reference implementation: `fixtures/senet/README.md` names the generator.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use contract::fill::fill;
use fixtures::Golden;
use serde_json::Value;
use train::families::senet::net::{
    DualBranchConfig, DualBranchSenet, SeBlock, SenetNetConfig, SenetTripletNetwork, senet_of,
};
use train::loss::{AngleTriplet, AngleTripletTerms, IdentityPreserving};
use train::nn::dropout::Masks;
use train::run::optim::{Optimizer, OptimizerConfig, OptimizerKind};
use train::weights::StateDict;

use super::{
    case, compare, device, drawn, fill_by_name, gradients_by_key, norm, numbers, outputs, same_state, scale, slack,
    values,
};

/// The specification's; single precision costs the reference itself up to 2e-6.
const OUTPUTS: f32 = 1e-5;

/// With the batch's statistics it costs the reference 5e-6; a few times that.
const TRAINING: f32 = 2e-5;

/// Losses, relative.
const LOSSES: f64 = 1e-4;

fn input<const D: usize>(case: &Value, index: usize, device: &Device) -> Tensor<D> {
    drawn(&case["inputs"][index], device)
}

/// The running statistics that a case lists, of a network on an autodiff device after one forward.
fn compare_after<M: Module>(golden: &Golden, case: &Value, net: &M) {
    let state = StateDict::of(net);
    for key in outputs(case, "after.") {
        let found = state.get(key).unwrap().try_to_vec::<f32>().unwrap();
        compare(golden, case, &format!("after.{key}"), &found, OUTPUTS);
    }
}

#[test]
fn se_blocks_match_the_reference() {
    let golden = Golden::load("senet").unwrap();
    let device = device();
    for name in ["seblock", "seblock_batch_stat", "seblock_4d"] {
        let case = case(&golden, name);
        let number = |key: &str| case["config"][key].as_u64().unwrap() as usize;
        let batch_stat = case["config"]["use_batch_stat"].as_bool().unwrap();
        let mut block = SeBlock::new(number("channels"), number("reduction"), batch_stat, &device);
        fill_by_name(&mut block, "");
        same_state(&StateDict::of(&block), &case["state"], name);
        if name == "seblock_4d" {
            compare(&golden, case, "y", &values(block.forward_maps(input(case, 0, &device))), OUTPUTS);
        } else {
            compare(&golden, case, "y", &values(block.forward(input(case, 0, &device))), OUTPUTS);
            compare(&golden, case, "gate", &values(block.gates(input(case, 0, &device))), OUTPUTS);
        }
    }
}

#[test]
fn dual_branches_match_the_reference() {
    let golden = Golden::load("senet").unwrap();
    for name in ["dual_eval", "dual_fixed_alpha", "dual_batch_stat", "dual_train"] {
        let case = case(&golden, name);
        let device = if name == "dual_train" { device().autodiff() } else { device() };
        let config = DualBranchConfig {
            learnable_fusion: case["config"]["learnable_fusion"].as_bool().unwrap(),
            use_batch_stat: case["config"]["use_batch_stat"].as_bool().unwrap(),
            ..DualBranchConfig::default()
        };
        let mut net = DualBranchSenet::seeded(&config, 1, &device);
        fill_by_name(&mut net, "");
        same_state(&StateDict::of(&net), &case["state"], name);
        let (front, branches) = net.forward(input(case, 0, &device), &mut Masks::none());
        compare(&golden, case, "front", &values(front), OUTPUTS);
        compare(&golden, case, "identity", &values(branches.identity), OUTPUTS);
        compare(&golden, case, "pose", &values(branches.pose), OUTPUTS);
        compare_after(&golden, case, &net);
    }
}

fn network(case: &Value, device: &Device) -> SenetTripletNetwork {
    let config: SenetNetConfig = serde_json::from_value(case["config"].clone()).unwrap();
    let mut net = SenetTripletNetwork::new(&config, 1, device);
    fill_by_name(&mut net, "");
    net
}

#[test]
fn networks_match_the_reference() {
    let golden = Golden::load("senet").unwrap();
    let names =
        ["net_reference_layout", "net_default", "net_two_layers", "net_batch_stat", "net_gelu_small", "net_train"];
    for name in names {
        let case = case(&golden, name);
        let device = if case["mode"] == "train" { device().autodiff() } else { device() };
        let tolerance = if case["mode"] == "train" { TRAINING } else { OUTPUTS };
        let net = network(case, &device);
        let config: SenetNetConfig = serde_json::from_value(case["config"].clone()).unwrap();
        // The reference's own front-pose head cannot run; everything else is the same.
        if name != "net_reference_layout" {
            same_state(&StateDict::of(&net), &case["state"], name);
        }
        assert_eq!(senet_of(&StateDict::of(&net), &config).unwrap(), config, "{name}");
        let output = net.forward(input(case, 0, &device), input(case, 1, &device), &mut Masks::none());
        compare(&golden, case, "front_features", &values(output.front_features), tolerance);
        compare(&golden, case, "identity_features", &values(output.identity_features), tolerance);
        compare(&golden, case, "identity_branch", &values(output.branches.identity), tolerance);
        compare(&golden, case, "pose_branch", &values(output.branches.pose), tolerance);
        if case["returns_front_pose"] == true {
            compare(&golden, case, "front_pose", &values(output.front_pose), tolerance);
        }
        compare_after(&golden, case, &net);
    }
}

#[test]
fn a_fresh_network_weighs_its_branches_as_asked() {
    let device = device();
    for (fusion_alpha, learnable_fusion) in [(0.7, true), (0.25, true), (0.7, false)] {
        let config = SenetNetConfig {
            image_dim: 32,
            hidden_dim: 16,
            identity_dim: 32,
            fusion_alpha,
            learnable_fusion,
            ..SenetNetConfig::default()
        };
        let net = SenetTripletNetwork::new(&config, 1, &device);
        assert!((net.fusion_weight() - fusion_alpha).abs() < 1e-6, "{}", net.fusion_weight());
    }
    let net = SenetTripletNetwork::new(&SenetNetConfig::default(), 1, &device);
    assert_eq!(StateDict::of(&net).parameters(), 4_545_540, "the specification's count");
}

fn loss_of(config: &Value) -> AngleTriplet {
    let number = |key: &str| config[key].as_f64().unwrap();
    AngleTriplet {
        margin: number("margin"),
        alpha: number("alpha"),
        beta: number("beta"),
        angle_threshold: number("angle_threshold"),
        wrap_angles: false,
    }
}

fn triples(terms: &AngleTripletTerms) -> Vec<Vec<usize>> {
    terms.triples.iter().map(|triple| vec![triple.anchor, triple.positive, triple.negative]).collect()
}

#[track_caller]
fn close(ours: f64, reference: &Value, what: &str) {
    let reference = reference.as_f64().unwrap();
    assert!(
        (ours - reference).abs() <= f64::from(slack()) * LOSSES * reference.abs().max(1e-2),
        "{what}: {ours}, the reference has {reference}"
    );
}

fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_scalar::<f32>())
}

#[test]
fn triplet_losses_and_gradients_match_the_reference() {
    let golden = Golden::load("senet").unwrap();
    let device = device().autodiff();
    for name in ["defaults", "cli", "small_angles", "wide_angles", "one_identity"] {
        let case = case(&golden, &format!("triplet_{name}"));
        let identities: Vec<i64> = numbers(&case["labels"]).iter().map(|label| *label as i64).collect();
        let features = input::<2>(case, 0, &device).require_grad();
        let angles = values(input::<2>(case, 1, &device));
        let originals = case["inputs"].as_array().unwrap().get(2).map(|_| input(case, 2, &device));
        let terms = loss_of(&case["config"]).forward(features.clone(), &identities, &angles, originals);
        let expected: Vec<_> = case["triplets"].as_array().unwrap().iter().map(numbers).collect();
        assert_eq!(triples(&terms), expected, "{name}");
        let weights: Vec<f64> = terms.triples.iter().map(|triple| triple.weight).collect();
        let expected: Vec<f64> = case["weights"].as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
        assert_eq!(weights, expected, "{name}");
        let parts = &case["loss_parts"];
        close(scalar(terms.triplet.clone()), &parts["triplet_loss"], name);
        close(scalar(terms.reconstruction.clone()) / 0.1, &parts["reconstruction_loss"], name);
        close(scalar(terms.total()), &parts["total_loss"], name);
        let [positive, negative] = terms.distances.clone().map(scalar);
        close(positive, &parts["avg_pos_dist"], name);
        close(negative, &parts["avg_neg_dist"], name);
        let gradients = terms.total().backward();
        let gradient = values(features.grad(&gradients).unwrap());
        if name == "one_identity" {
            assert!(gradient.iter().all(|value| *value == 0.0));
        } else {
            compare(&golden, case, "grad_features", &gradient, 1e-6);
        }
    }
}

#[test]
fn identity_loss_and_gradient_match_the_reference() {
    let golden = Golden::load("senet").unwrap();
    let device = device().autodiff();
    let case = case(&golden, "identity_loss");
    let loss = IdentityPreserving::default();
    assert_eq!(loss.dims, numbers(&case["config"]["identity_dims"]));
    let front = input::<2>(case, 0, &device).require_grad();
    let value = loss.forward(front.clone(), input(case, 1, &device));
    compare(&golden, case, "loss", &values(value.clone()), 1e-6);
    let gradients = value.backward();
    compare(&golden, case, "grad_front", &values(front.grad(&gradients).unwrap()), 1e-7);
}

struct Step {
    terms: AngleTripletTerms,
    identity: f64,
    total: f64,
    gradients: GradientsParams,
}

/// Loss and gradients of the case's one batch.
fn step(net: &SenetTripletNetwork, case: &Value, device: &Device) -> Step {
    let identities: Vec<i64> = numbers(&case["labels"]).iter().map(|label| *label as i64).collect();
    let source = input::<2>(case, 0, device);
    let pose = input::<2>(case, 1, device);
    let output = net.forward(source.clone(), pose.clone(), &mut Masks::none());
    let terms =
        loss_of(&case["loss"]).forward(output.identity_features, &identities, &values(pose), Some(source.clone()));
    let identity = IdentityPreserving::default().forward(output.front_features, source);
    let total = terms.total() + identity.clone();
    let gradients = GradientsParams::from_grads(total.backward(), net);
    Step { terms, identity: scalar(identity), total: scalar(total), gradients }
}

#[test]
fn the_first_steps_gradients_match_the_reference() {
    let golden = Golden::load("senet").unwrap();
    let device = device().autodiff();
    let case = case(&golden, "train_step");
    let net = network(case, &device);
    let Step { terms, identity, total, gradients } = step(&net, case, &device);
    let expected: Vec<_> = case["triplets_step1"].as_array().unwrap().iter().map(numbers).collect();
    assert_eq!(triples(&terms), expected);
    let history = &case["history"][0];
    close(scalar(terms.triplet.clone()), &history["triplet"], "triplet");
    close(scalar(terms.reconstruction.clone()) / 0.1, &history["reconstruction"], "reconstruction");
    close(scalar(terms.total()), &history["criterion_total"], "criterion");
    close(identity, &history["identity"], "identity");
    close(total, &history["total"], "total");

    let gradients = gradients_by_key(&net, &gradients);
    let listed = outputs(case, "grad1.");
    for key in &listed {
        compare(&golden, case, &format!("grad1.{key}"), &gradients[*key], 1e-5);
    }
    assert_eq!(listed.len(), 9);
    for key in case["parameters_without_gradient"].as_array().unwrap() {
        let key = key.as_str().unwrap();
        assert!(gradients[key].iter().all(|value| *value == 0.0), "{key}");
    }
    close(norm(&gradients), &history["grad_norm_before_clip"], "norm");
}

/// Three AdamW steps on one batch. Biases that feed a norm are not compared: their gradient is rounding noise.
#[test]
fn three_optimiser_steps_match_the_reference() {
    let golden = Golden::load("senet").unwrap();
    let device = device().autodiff();
    let case = case(&golden, "train_step");
    let mut net = network(case, &device);
    let config = OptimizerConfig { kind: OptimizerKind::AdamW, weight_decay: 1e-5, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(&config).unwrap();
    let before = StateDict::of(&net);
    for (at, history) in case["history"].as_array().unwrap().iter().enumerate() {
        let Step { total, mut gradients, .. } = step(&net, case, &device);
        close(total, &history["total"], "total");
        // As PyTorch clips them.
        scale(&net, &mut gradients, (1.0 / (history["grad_norm_before_clip"].as_f64().unwrap() + 1e-6)).min(1.0));
        net = optimizer.step(1e-4, net, gradients);
        let state = StateDict::of(&net);
        let prefix = format!("param{}.", at + 1);
        for key in outputs(case, &prefix) {
            // Single precision costs the reference 6e-7; a step moves a parameter by 1e-4.
            let found = state.get(key).unwrap().try_to_vec::<f32>().unwrap();
            compare(&golden, case, &format!("{prefix}{key}"), &found, 3e-6);
        }
    }
    let after = StateDict::of(&net);
    for key in case["parameters_without_gradient"].as_array().unwrap() {
        let key = key.as_str().unwrap();
        assert_eq!(after.get(key), before.get(key), "{key} has no gradient, so it decays neither");
    }
}

/// In right angles the layers see a ninetieth of the degrees, and the frontal pose is told in degrees.
#[test]
fn the_unit_of_poses_is_inside_the_network() {
    let device = device();
    let degrees = SenetNetConfig { image_dim: 32, hidden_dim: 16, identity_dim: 32, ..SenetNetConfig::default() };
    let right_angles = SenetNetConfig { pose_scale: 1.0 / 90.0, ..degrees.clone() };
    let net = |config: &SenetNetConfig| {
        let mut net = SenetTripletNetwork::new(config, 0, &device);
        fill_by_name(&mut net, "");
        net.valid()
    };
    let features = || Tensor::<2>::from_data(TensorData::new(fill("features", &[2, 32]), [2, 32]), &device);
    let pose = Tensor::<2>::from_floats([[45.0, -9.0, 5.0], [-30.0, 3.0, 0.0]], &device);
    let made = net(&right_angles).forward(features(), pose.clone(), &mut Masks::none());
    let wanted = net(&degrees).forward(features(), pose.clone() / 90.0, &mut Masks::none());
    let [gates, _] = net(&right_angles).gates(features(), pose.clone());
    let [wanted_gates, _] = net(&degrees).gates(features(), pose / 90.0);
    for (ours, wanted) in [
        (values(made.front_features), values(wanted.front_features)),
        (values(made.front_pose), values(wanted.front_pose * 90.0)),
        (values(gates), values(wanted_gates)),
    ] {
        assert!(ours.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs().max(1.0)), "{ours:?} {wanted:?}");
    }
}
