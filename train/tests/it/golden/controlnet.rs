//! ImageControlNet against the reference implementation: `fixtures/controlnet/README.md` names the generator.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use contract::fill::fill;
use fixtures::Golden;
use metrics::picture::psnr;
use serde_json::Value;
use train::families::controlnet::net::{ControlNet, ControlNetConfig, EncoderKind, encoder_of};
use train::loss::PictureLoss;
use train::nn::dropout::Masks;
use train::run::optim::OptimizerKind;
use train::run::optim::{Optimizer, OptimizerConfig};
use train::weights::StateDict;

use super::{
    case, compare, device, drawn, fill_by_name, gradients_by_key, norm, output_difference, outputs, same_state, scale,
    slack, values,
};

/// The golden values of the losses are the reference's: the pose read from the source picture against the target's.
const LOSS: PictureLoss = PictureLoss { mse: 1.0, l1: 0.0, pose: 0.1 };

fn config(case: &Value, encoder: EncoderKind) -> ControlNetConfig {
    let number = |key: &str| case["config"][key].as_u64().unwrap() as usize;
    ControlNetConfig {
        encoder,
        features: number("feature_dim"),
        angles: number("pose_dim"),
        size: number("image_size"),
        control_layers: number("num_control_layers"),
        // The reference's golden values are without.
        dropout: 0.0,
        pose_scale: 1.0,
    }
}

/// The network with every entry filled by its key.
fn filled(config: &ControlNetConfig, device: &Device) -> ControlNet {
    let mut net = ControlNet::new(config, 0, device);
    fill_by_name(&mut net, "");
    net
}

fn input<const D: usize>(case: &Value, name: &str, device: &Device) -> Tensor<D> {
    let input = case["inputs"].as_array().unwrap().iter().find(|input| input["name"] == name).unwrap();
    drawn(input, device)
}

#[test]
fn keys_shapes_and_counts_are_the_references() {
    let golden = Golden::load("controlnet").unwrap();
    for (name, encoder, parameters) in [
        ("conv_eval", EncoderKind::Conv, 18_274_886),
        ("resnet50_eval", EncoderKind::Resnet50, 41_009_798),
        ("embedding_eval", EncoderKind::Embedding, 16_451_654),
    ] {
        let case = case(&golden, name);
        let net = ControlNet::new(&config(case, encoder), 1, &device());
        let state = StateDict::of(&net);
        assert_eq!(state.parameters(), parameters, "{name}");
        assert_eq!(encoder_of(&state), encoder);
        same_state(&state, &case["state"], name);
    }
}

#[test]
fn evaluation_matches_the_reference() {
    let golden = Golden::load("controlnet").unwrap();
    let device = device();
    for (name, encoder, image) in [
        ("conv_eval", EncoderKind::Conv, "input.image"),
        ("resnet50_eval", EncoderKind::Resnet50, "input.image"),
        ("embedding_eval", EncoderKind::Embedding, "input.embedding"),
        ("zero_conv_64", EncoderKind::Conv, "input.image64"),
    ] {
        let case = case(&golden, name);
        let mut net = filled(&config(case, encoder), &device);
        let small = name == "zero_conv_64";
        if small {
            let zero =
                |key: &str, shape: Vec<usize>| (format!("zero_conv.conv.{key}"), TensorData::zeros::<f32, _>(shape));
            StateDict::from_iter([zero("weight", vec![128, 128, 1]), zero("bias", vec![128])]).load_into(&mut net);
        }
        let pose = input::<2>(case, if small { "input.target_pose5" } else { "input.target_pose" }, &device);
        let features = match encoder {
            EncoderKind::Embedding => net.encode_embeddings(input(case, image, &device)),
            _ => net.encode(input(case, image, &device)),
        };
        let made = net.generate(features.clone(), pose.clone(), &mut Masks::none());
        compare(&golden, case, "output_image", &values(made.image.clone()), 1e-5);
        compare(&golden, case, "control_signal", &values(made.control.clone()), 1e-5);
        compare(&golden, case, "source_pose", &values(made.source_pose.clone()), 1e-5);
        if matches!(name, "conv_eval" | "resnet50_eval") {
            compare(&golden, case, "image_features", &values(features.clone()), 1e-5);
        }
        if encoder == EncoderKind::Resnet50 {
            let backbone = net.backbone_features(input(case, image, &device)).unwrap();
            compare(&golden, case, "backbone_features", &values(backbone.clone()), 2e-5);
        }
        if small {
            let other = net.generate(features, pose.mul_scalar(-2.0), &mut Masks::none()).image;
            assert_eq!(values(made.image.clone()), values(other.clone()), "a zero convolution lets no pose through");
        }
        if case["losses"].is_object() {
            let target = input::<4>(case, "input.target_image", &device);
            let pose = input::<2>(case, "input.target_pose", &device);
            assert_losses(case, &made.image, &target, &made.source_pose, &pose);
        }
    }
}

fn assert_losses(case: &Value, image: &Tensor<4>, target: &Tensor<4>, found: &Tensor<2>, pose: &Tensor<2>) {
    let wanted = |key: &str| case["losses"][key].as_f64().unwrap();
    let total = |mse, l1, pose_weight| {
        let loss = PictureLoss { mse, l1, pose: pose_weight };
        let terms = loss.forward(image.clone(), target.clone(), found.clone(), pose.clone());
        terms.total.into_scalar::<f32>()
    };
    for (name, found) in [
        ("mse", total(1.0, 0.0, 0.0)),
        ("l1", total(0.0, 1.0, 0.0)),
        ("combined_mse_plus_l1", total(1.0, 1.0, 0.0)),
        ("pose_mse", total(0.0, 0.0, 1.0)),
        ("pose_loss", total(0.0, 0.0, 0.1)),
        ("total_mse", total(1.0, 0.0, 0.1)),
        ("total_l1", total(0.0, 1.0, 0.1)),
    ] {
        let off = (f64::from(found) / wanted(name) - 1.0).abs();
        assert!(off < 1e-4, "{} {name}: {found} for {}", case["name"], wanted(name));
    }
    let psnr = psnr(&values(image.clone()), &values(target.clone()), 2.0).unwrap();
    assert!((psnr - wanted("psnr_db")).abs() < 1e-3, "{psnr}");
}

#[test]
fn training_statistics_and_gradients_match_the_reference() {
    let golden = Golden::load("controlnet").unwrap();
    let device = device().autodiff();
    let eval_case = case(&golden, "conv_train");
    let net = filled(&config(eval_case, EncoderKind::Conv), &device);
    let pose = input::<2>(eval_case, "input.target_pose", &device);
    let target = input::<4>(eval_case, "input.target_image", &device);
    let made = net.forward(input(eval_case, "input.image", &device), pose.clone());
    compare(&golden, eval_case, "output_image", &values(made.image.clone()), 5e-5);
    compare(&golden, eval_case, "control_signal", &values(made.control.clone()), 5e-5);
    compare(&golden, eval_case, "source_pose", &values(made.source_pose.clone()), 5e-5);
    assert_losses(eval_case, &made.image, &target, &made.source_pose, &pose);
    let state = StateDict::of(&net);
    let statistics = outputs(eval_case, "after.");
    for key in &statistics {
        let found = state.get(key).unwrap().try_to_vec::<f32>().unwrap();
        compare(&golden, eval_case, &format!("after.{key}"), &found, 1e-5);
    }
    assert_eq!(statistics.len(), 8);

    let step = case(&golden, "conv_step");
    let loss = LOSS.forward(made.image, target, made.source_pose, pose);
    let gradients = GradientsParams::from_grads(loss.total.backward(), &net);
    let gradients = gradients_by_key(&net, &gradients);
    let norm = norm(&gradients);
    let wanted = step["history"][0]["grad_norm_before_clip"].as_f64().unwrap();
    assert!((norm / wanted - 1.0).abs() < 1e-4, "gradient norm {norm}, {wanted} in the reference");
    let listed = outputs(step, "grad1.");
    for key in &listed {
        let (off, largest) = output_difference(&golden, step, &format!("grad1.{key}"), &gradients[*key]);
        println!("gradient of {key}: off {off:.1e}, largest {largest:.1e}");
        assert!(off < slack() * (1e-4 * largest + 1e-7), "gradient of {key}: off {off:.1e}, largest {largest:.1e}");
    }
    assert_eq!(listed.len(), 8);
}

/// Loss, gradients' norm, clipping and AdamW, three times on one batch.
#[test]
fn three_steps_match_the_reference() {
    let golden = Golden::load("controlnet").unwrap();
    let device = device().autodiff();
    let case = case(&golden, "conv_step");
    let mut net = filled(&config(case, EncoderKind::Conv), &device);
    let settings = OptimizerConfig { kind: OptimizerKind::AdamW, weight_decay: 1e-5, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(&settings).unwrap();
    let (image, target) = (input::<4>(case, "input.image", &device), input::<4>(case, "input.target_image", &device));
    let pose = input::<2>(case, "input.target_pose", &device);
    for (step, expected) in case["history"].as_array().unwrap().iter().enumerate() {
        let made = net.forward(image.clone(), pose.clone());
        let loss = LOSS.forward(made.image, target.clone(), made.source_pose, pose.clone());
        let (total, terms) = loss.values();
        for (name, found) in [("total", total), ("image", terms[0].1), ("pose", terms[1].1)] {
            let wanted = expected[name].as_f64().unwrap();
            assert!((found / wanted - 1.0).abs() < 1e-4, "step {}, {name}: {found} for {wanted}", step + 1);
        }
        let mut gradients = GradientsParams::from_grads(loss.total.backward(), &net);
        let norm = norm(&gradients_by_key(&net, &gradients));
        let wanted = expected["grad_norm_before_clip"].as_f64().unwrap();
        assert!((norm / wanted - 1.0).abs() < 2e-4, "step {}: gradient norm {norm} for {wanted}", step + 1);
        scale(&net, &mut gradients, (1.0 / (norm + 1e-6)).min(1.0));
        net = optimizer.step(1e-4, net, gradients);
        let state = StateDict::of(&net);
        let prefix = format!("param{}.", step + 1);
        for key in outputs(case, &prefix) {
            let found = state.get(key).unwrap().try_to_vec::<f32>().unwrap();
            // Adam divides a gradient by its own size: where one is all rounding noise, a step of either sign is
            // possible.
            compare(&golden, case, &format!("{prefix}{key}"), &found, 5e-6);
        }
    }
}

/// In right angles the layers see a ninetieth of the degrees, and what they say of the source is told in degrees.
#[test]
fn the_unit_of_poses_is_inside_the_network() {
    let device = device();
    let degrees = ControlNetConfig {
        encoder: EncoderKind::Conv,
        features: 8,
        angles: 3,
        size: 16,
        control_layers: 1,
        dropout: 0.1,
        pose_scale: 1.0,
    };
    let right_angles = ControlNetConfig { pose_scale: 1.0 / 90.0, ..degrees.clone() };
    let images = || Tensor::<4>::from_data(TensorData::new(fill("input", &[2, 3, 16, 16]), [2, 3, 16, 16]), &device);
    let pose = Tensor::<2>::from_floats([[45.0, -9.0, 5.0], [-30.0, 3.0, 0.0]], &device);
    let made = filled(&right_angles, &device).forward(images(), pose.clone());
    let wanted = filled(&degrees, &device).forward(images(), pose / 90.0);
    for (ours, wanted) in
        [(values(made.image), values(wanted.image)), (values(made.source_pose), values(wanted.source_pose * 90.0))]
    {
        assert!(ours.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs().max(1.0)), "{ours:?} {wanted:?}");
    }
}

/// In the reference the initialiser overwrites a pretrained backbone, and training moves the statistics of frozen
/// norms.
#[test]
fn frozen_parts_stay_as_they_were_loaded_and_the_control_starts_at_zero() {
    let device = device().autodiff();
    let config = ControlNetConfig {
        encoder: EncoderKind::Conv,
        features: 32,
        angles: 3,
        size: 32,
        control_layers: 1,
        dropout: 0.1,
        pose_scale: 1.0,
    };
    let images = Tensor::<4>::from_data(TensorData::new(fill("input", &[2, 3, 32, 32]), [2, 3, 32, 32]), &device);
    let pose = |angle: f32| Tensor::<2>::from_floats([[angle, 0.0, 5.0], [-angle, 3.0, 0.0]], &device);
    for (encoder, backbone, generator, trains) in [
        (EncoderKind::Conv, true, true, vec!["control_branch", "image_encoder", "pose_extractor", "zero_conv"]),
        (
            EncoderKind::Resnet50,
            true,
            false,
            vec!["control_branch", "image_encoder", "image_generator", "pose_extractor", "zero_conv"],
        ),
    ] {
        let config = ControlNetConfig { encoder, ..config.clone() };
        let net = ControlNet::new(&config, 3, &device).frozen(backbone, generator);
        let before = StateDict::of(&net);
        let zero = before.get("zero_conv.conv.weight").unwrap().try_to_vec::<f32>().unwrap();
        assert!(zero.iter().all(|value| *value == 0.0));
        let made = net.forward(images.clone(), pose(20.0));
        let loss = LOSS.forward(made.image, images.clone(), made.source_pose, pose(20.0));
        let gradients = GradientsParams::from_grads(loss.total.backward(), &net);
        let after = StateDict::of(&net);
        let frozen = |key: &str| {
            (generator && key.starts_with("image_generator.")) || key.starts_with("image_encoder.backbone.")
        };
        let moved = |key: &str| before.get(key) != after.get(key);
        for (key, _) in before.iter() {
            assert!(!frozen(key) || !moved(key), "{encoder:?}: {key} moved");
        }
        assert!(before.iter().any(|(key, _)| moved(key)), "{encoder:?}: norms that train move");
        let mut with: Vec<_> = gradients_by_key(&net, &gradients)
            .into_iter()
            .filter(|(_, values)| values.iter().any(|value| *value != 0.0))
            .map(|(key, _)| key)
            .collect();
        assert!(with.iter().all(|key| !frozen(key)), "{encoder:?}: {with:?}");
        with.iter_mut().for_each(|key| key.truncate(key.find('.').unwrap()));
        with.dedup();
        // The control branch has no gradient yet: it is behind the zeros.
        let trains: Vec<_> = trains.into_iter().filter(|part| *part != "control_branch").collect();
        assert_eq!(with, trains, "{encoder:?}");
    }
}
