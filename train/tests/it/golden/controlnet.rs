//! ImageControlNet against the reference implementation: `fixtures/controlnet/README.md` names the generator.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use contract::fill::fill;
use fixtures::Golden;
use metrics::picture::psnr;
use serde_json::Value;
use train::config::OptimizerKind;
use train::loss::PictureLoss;
use train::model::{ControlNet, ControlNetConfig, EncoderKind, StateDict, encoder_of};
use train::optim::{Optimizer, OptimizerConfig};

use super::{device, slack};

/// The golden values of the losses are the reference's: the pose read from the source picture against the target's.
const LOSS: PictureLoss = PictureLoss { mse: 1.0, l1: 0.0, pose: 0.1 };

fn case<'a>(golden: &'a Golden, name: &str) -> &'a Value {
    golden.json()["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap()
}

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
    let state: StateDict = StateDict::of(&net)
        .iter()
        .map(|(key, data)| (key.to_owned(), TensorData::new(fill(key, data.shape()), data.shape().to_vec())))
        .collect();
    assert!(state.load_into(&mut net).is_complete());
    net
}

fn input<const D: usize>(case: &Value, name: &str, device: &Device) -> Tensor<D> {
    let input = case["inputs"].as_array().unwrap().iter().find(|input| input["name"] == name).unwrap();
    let shape: Vec<usize> = input["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let scale = input["scale"].as_f64().unwrap() as f32;
    let values: Vec<f32> = fill(name, &shape).into_iter().map(|value| value * scale).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().inner_if_tracked().into_data().try_to_vec().unwrap()
}

/// Reading works on either kind of device.
trait InnerIfTracked {
    fn inner_if_tracked(self) -> Self;
}

impl<const D: usize> InnerIfTracked for Tensor<D> {
    fn inner_if_tracked(self) -> Self {
        if self.device().is_autodiff() { self.inner() } else { self }
    }
}

/// Largest difference from a stored output, and the stored values' largest.
#[track_caller]
fn difference(golden: &Golden, case: &Value, output: &str, found: &[f32]) -> (f32, f32) {
    let key = format!("{}/{output}", case["name"].as_str().unwrap());
    let entry = case["outputs"].as_array().unwrap().iter().find(|entry| entry["key"] == key.as_str());
    let entry = entry.unwrap_or_else(|| panic!("{key}"));
    let (_, stored) = golden.tensor_f32(&key).unwrap();
    let full: usize = entry["full_shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).product();
    assert_eq!(found.len(), full, "{key}");
    let ours: Vec<f32> = found.iter().copied().step_by(entry["every"].as_u64().unwrap() as usize).collect();
    assert_eq!(ours.len(), stored.len(), "{key}");
    let off = ours.iter().zip(&stored).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    (off, stored.iter().fold(0.0, |max, value| max.max(value.abs())))
}

#[track_caller]
fn assert_output(golden: &Golden, case: &Value, output: &str, found: &[f32], tolerance: f32) {
    let (off, _) = difference(golden, case, output, found);
    println!("{} {output}: {off:.1e}", case["name"]);
    assert!(off < slack() * tolerance, "{} {output}: off {off:.1e}", case["name"]);
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
        let bytes = state.to_safetensors(0, Default::default());
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut ours: Vec<_> = file.tensors().iter().map(|(key, view)| format!("{key} {:?}", view.shape())).collect();
        let entries = case["state"].as_array().unwrap();
        let mut theirs: Vec<_> = entries
            .iter()
            .map(|entry| format!("{} {}", entry[0].as_str().unwrap(), entry[1]).replace(',', ", "))
            .collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{name}");
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
        let made = net.generate(features.clone(), pose.clone());
        assert_output(&golden, case, "output_image", &values(&made.image), 1e-5);
        assert_output(&golden, case, "control_signal", &values(&made.control), 1e-5);
        assert_output(&golden, case, "source_pose", &values(&made.source_pose), 1e-5);
        if matches!(name, "conv_eval" | "resnet50_eval") {
            assert_output(&golden, case, "image_features", &values(&features), 1e-5);
        }
        if encoder == EncoderKind::Resnet50 {
            let backbone = net.backbone_features(input(case, image, &device)).unwrap();
            assert_output(&golden, case, "backbone_features", &values(&backbone), 2e-5);
        }
        if small {
            let other = net.generate(features, pose.mul_scalar(-2.0)).image;
            assert_eq!(values(&made.image), values(&other), "a zero convolution lets no pose through");
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
        terms.total.inner_if_tracked().into_scalar::<f32>()
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
    let psnr = psnr(&values(image), &values(target), 2.0).unwrap();
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
    assert_output(&golden, eval_case, "output_image", &values(&made.image), 5e-5);
    assert_output(&golden, eval_case, "control_signal", &values(&made.control), 5e-5);
    assert_output(&golden, eval_case, "source_pose", &values(&made.source_pose), 5e-5);
    assert_losses(eval_case, &made.image, &target, &made.source_pose, &pose);
    let state = StateDict::of(&net);
    let mut statistics = 0;
    for entry in eval_case["outputs"].as_array().unwrap() {
        let Some(output) = entry["key"].as_str().unwrap().strip_prefix("conv_train/") else { continue };
        let Some(key) = output.strip_prefix("after.") else { continue };
        assert_output(&golden, eval_case, output, &state.get(key).unwrap().try_to_vec::<f32>().unwrap(), 1e-5);
        statistics += 1;
    }
    assert_eq!(statistics, 8);

    let step = case(&golden, "conv_step");
    let loss = LOSS.forward(made.image, target, made.source_pose, pose);
    let gradients = GradientsParams::from_grads(loss.total.backward(), &net);
    let gradients = gradients_by_key(&net, &gradients);
    let norm = gradients.values().flatten().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let wanted = step["history"][0]["grad_norm_before_clip"].as_f64().unwrap();
    assert!((norm / wanted - 1.0).abs() < 1e-4, "gradient norm {norm}, {wanted} in the reference");
    let mut compared = 0;
    for entry in step["outputs"].as_array().unwrap() {
        let Some(output) = entry["key"].as_str().unwrap().strip_prefix("conv_step/") else { continue };
        let Some(key) = output.strip_prefix("grad1.") else { continue };
        let (off, largest) = difference(&golden, step, output, &gradients[key]);
        println!("gradient of {key}: off {off:.1e}, largest {largest:.1e}");
        assert!(off < slack() * (1e-4 * largest + 1e-7), "gradient of {key}: off {off:.1e}, largest {largest:.1e}");
        compared += 1;
    }
    assert_eq!(compared, 8);
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
        let all = gradients_by_key(&net, &gradients);
        let norm = all.values().flatten().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let wanted = expected["grad_norm_before_clip"].as_f64().unwrap();
        assert!((norm / wanted - 1.0).abs() < 2e-4, "step {}: gradient norm {norm} for {wanted}", step + 1);
        scale(&net, &mut gradients, (1.0 / (norm + 1e-6)).min(1.0));
        net = optimizer.step(1e-4, net, gradients);
        let state = StateDict::of(&net);
        for entry in case["outputs"].as_array().unwrap() {
            let prefix = format!("conv_step/param{}.", step + 1);
            let Some(key) = entry["key"].as_str().unwrap().strip_prefix(&prefix) else { continue };
            let found = state.get(key).unwrap().try_to_vec::<f32>().unwrap();
            let (off, _) = difference(&golden, case, &format!("param{}.{key}", step + 1), &found);
            println!("{key} after step {}: {off:.1e}", step + 1);
            // Adam divides a gradient by its own size: where one is all rounding noise, a step of either sign is possible.
            assert!(off < slack() * 5e-6, "{key} after step {}: off {off:.1e}", step + 1);
        }
    }
}

fn scale(net: &ControlNet, gradients: &mut GradientsParams, factor: f64) {
    use burn::module::{ModuleVisitor, Param};
    struct Scale<'a>(&'a mut GradientsParams, f64);
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, grad.mul_scalar(self.1));
            }
        }
    }
    net.visit(&mut Scale(gradients, factor));
}

/// Gradients under the state dictionary's keys: written into a copy of the network, read back out of it.
fn gradients_by_key(net: &ControlNet, gradients: &GradientsParams) -> std::collections::BTreeMap<String, Vec<f32>> {
    use burn::module::{ModuleMapper, Param};
    struct Put<'a>(&'a GradientsParams);
    impl ModuleMapper for Put<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let grad = self.0.get::<D>(id).unwrap_or_else(|| value.clone().zeros_like());
            Param::from_mapped_value(id, grad, mapper)
        }
    }
    let copy = net.valid().map(&mut Put(gradients));
    let state = StateDict::of(&copy);
    let buffer = |key: &str| key.contains("running_");
    let of = |(key, data): (&str, &TensorData)| (key.to_owned(), data.try_to_vec::<f32>().unwrap());
    state.iter().filter(|(key, _)| !buffer(key)).map(of).collect()
}

/// In the reference the initialiser overwrites a pretrained backbone, and training moves the statistics of frozen norms.
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
    let values = |data: TensorData| data.try_to_vec::<f32>().unwrap();
    for (ours, wanted) in [
        (values(made.image.into_data()), values(wanted.image.into_data())),
        (values(made.source_pose.into_data()), values((wanted.source_pose * 90.0).into_data())),
    ] {
        assert!(ours.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs().max(1.0)), "{ours:?} {wanted:?}");
    }
}

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
