//! OSNet and ResNet50 against the reference implementation: `fixtures/reid_networks/README.md` names the generator.

use burn::optim::GradientsParams;
use burn::tensor::Device;
use contract::fill::{blocks, fill};
use fixtures::Golden;
use train::families::reid::net::{FeatInference, Network, ReidNet, ReidNetConfig, ResNet50Head, ResNet50Settings};
use train::families::reid::settings::ReidConfig;
use train::families::reid::task::{self as reid, ReidTask};
use train::rng::Step;
use train::run::engine::Task;
use train::run::optim::{Optimizer, OptimizerConfig};
use train::weights::{Partial, StateDict};

use crate::support::pictures;

use super::lmbn_n::{difference, images};
use super::{device, fill_by_name, filled_state, same_state, slack, values};

const CLASSES: usize = 751;

fn resnet50(settings: ResNet50Settings) -> ReidNetConfig {
    ReidNetConfig { classes: CLASSES, net: Network::ResNet50(settings) }
}

fn neck() -> ReidNetConfig {
    resnet50(ResNet50Settings::with_neck())
}

fn filled(config: &ReidNetConfig, device: &Device) -> ReidNet {
    let mut net = ReidNet::new(config, 0, device);
    fill_by_name(&mut net, "");
    net
}

#[test]
fn networks_match_the_reference() {
    let golden = Golden::load("reid_networks").unwrap();
    let device = device();
    for (name, config) in [
        ("osnet_x1_0", ReidNetConfig::new("OSNet", CLASSES, 512).unwrap()),
        ("osnet_x0_5", ReidNetConfig::new("OSNet_x0_5", CLASSES, 512).unwrap()),
        ("resnet50_bnneck", neck()),
        ("resnet50_classblock", resnet50(ResNet50Settings::default())),
    ] {
        let expected = &golden.json()["models"][name];
        let net = filled(&config, &device);
        let state = StateDict::of(&net);
        same_state(&state, &expected["state_dict"], name);
        assert_eq!(state.parameters(), expected["params_total"].as_u64().unwrap() as usize, "{name}");
        assert_eq!(state.classes(), Some(CLASSES), "{name}");

        let shape = [2, 3, 384, 128];
        for (input, pixels) in [("noise", fill("input", &shape)), ("blocks", blocks("input", shape, 32))] {
            let features = net.embed(images(pixels, shape, &device));
            assert_eq!(features.dims(), [2, config.net.features(), net.parts()], "{name}");
            let entry = &expected["eval"][input];
            let noise = entry["float32_noise"].as_f64().unwrap() as f32;
            let difference = difference(&golden, entry, &values(features));
            println!(
                "{name}, eval, {input}: largest difference {difference:.1e}, the reference's own noise {noise:.1e}"
            );
            assert!(
                difference < slack() * 5.0 * noise.max(1e-6),
                "{name}, {input}: {difference:.1e}, noise {noise:.1e}"
            );
        }
    }
}

#[test]
fn resnet50_trains_as_the_reference_does() {
    let golden = Golden::load("reid_networks").unwrap();
    let device = device().autodiff();
    let shape = [4, 3, 128, 64];
    let output = filled(&neck(), &device).forward(images(blocks("input", shape, 16), shape, &device));
    let expected = &golden.json()["train"]["resnet50_bnneck"];
    for (what, mut tensors) in [("logits", output.scores), ("features", output.features)] {
        let entry = &expected[what][0];
        let noise = entry["float32_noise"].as_f64().unwrap() as f32;
        let difference = difference(&golden, entry, &values(tensors.remove(0)));
        println!("train, {what}: largest difference {difference:.1e}, the reference's own noise {noise:.1e}");
        assert!(
            tensors.is_empty() && difference < slack() * 5.0 * noise,
            "{what}: {difference:.1e}, noise {noise:.1e}"
        );
    }
}

/// Options of ResNet50 change what they say: where features are taken, what is erased, how the map is pooled.
#[test]
fn options_of_resnet50_take_effect() {
    let (device, shape) = (device(), [1, 3, 64, 32]);
    let image = |device: &Device| images(blocks("input", shape, 16), shape, device);
    let state = filled_state(&ReidNet::new(&neck(), 0, &device), "");
    let net = |config: ReidNetConfig, device: &Device| {
        let mut net = ReidNet::new(&config, 0, device);
        assert!(state.clone().load_into(&mut net).is_complete());
        net
    };
    let embed = |config: ReidNetConfig| values(net(config, &device).embed(image(&device)));
    let head = ResNet50Head::Neck { feat_inference: FeatInference::Before };
    let before = ResNet50Settings { head, drop_block: None };
    let block = Some([1.0, 1.0]);
    let everything = ResNet50Settings { drop_block: block, ..before.clone() };
    let (after, before) = (embed(neck()), embed(resnet50(before)));
    let number = |key: &str| state.get(key).unwrap().try_to_vec::<f32>().unwrap();
    let [mean, variance] = ["mean", "var"].map(|name| number(&format!("classifier.bn.running_{name}")));
    let [scale, shift] = ["weight", "bias"].map(|name| number(&format!("classifier.bn.{name}")));
    for k in 0..after.len() {
        let normed = (before[k] - mean[k]) / (variance[k] + 1e-5).sqrt() * scale[k] + shift[k];
        assert!((after[k] - normed).abs() < 1e-4, "{k}: {} for {normed}", after[k]);
    }
    // Everything erased leaves the metric losses nothing.
    let autodiff = device.clone().autodiff();
    let dropped = resnet50(ResNet50Settings { drop_block: block, ..ResNet50Settings::with_neck() });
    let output = net(dropped, &autodiff).forward(image(&autodiff).repeat_dim(0, 2));
    assert!(values(output.features[0].clone()).iter().all(|value| *value == 0.0));
    let pooled = embed(resnet50(everything));
    let larger = pooled.iter().zip(&before).filter(|(largest, mean)| largest >= mean).count();
    assert_eq!(larger, before.len(), "the maximum is no less than the mean");
    assert_ne!(pooled, before);
}

/// torchvision's file starts the backbone, the dead classifier too, and leaves the head alone.
#[test]
fn resnet50_starts_from_an_imagenet_backbone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet50.safetensors");
    let net = || ReidNet::new(&neck(), 3, &device());
    let own = StateDict::of(&net());
    let backbone: StateDict = filled_state(&net(), "")
        .iter()
        .filter_map(|(key, data)| Some((key.strip_prefix("model.")?.to_owned(), data.clone())))
        .collect();
    std::fs::write(&path, backbone.to_safetensors(0, Default::default())).unwrap();
    let mut started = net();
    let report = started.load_pretrained(&path, Partial::Nothing).unwrap();
    assert!(report.unused.is_empty() && report.missing.iter().all(|key| key.starts_with("classifier.")), "{report}");
    let started = StateDict::of(&started);
    assert_eq!(started.get("model.layer4.2.conv3.weight"), backbone.get("layer4.2.conv3.weight"));
    assert_eq!(started.get("classifier.bn.weight"), own.get("classifier.bn.weight"));
}

/// A step with the third command line of the module guide: losses, rate and options, on a few small pictures.
#[test]
fn a_step_of_resnet50_with_the_guides_settings_moves_it() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 6, 4);
    let config = ReidConfig {
        net: Network::ResNet50(ResNet50Settings { drop_block: Some([0.3, 1.0]), ..ResNet50Settings::with_neck() }),
        datadir: folder.path().join("data").display().to_string(),
        loss: "0.5*CrossEntropy+0.5*Triplet+0.0005*CenterLoss".into(),
        margin: 0.3,
        if_labelsmooth: true,
        random_erasing: true,
        batchid: 2,
        batchimage: 2,
        height: 32,
        width: 32,
        ..ReidConfig::default()
    };
    let device = device().autodiff();
    let mut task = ReidTask::open(&config, &device).unwrap();
    let mut net = ReidNet::new(&task.network(), config.seed, &device);
    let mut optimizer = Optimizer::new(&OptimizerConfig::default()).unwrap();
    let before = StateDict::of(&net);
    let (_, batch) = task.epoch(1, 0).unwrap().batches.next().unwrap().unwrap();
    let step = Step { epoch: 1, batch: 0 };
    let loss = task.loss(&net, &batch, step);
    let again = task.loss(&net, &batch, step).values();
    let (total, terms) = loss.values();
    assert_eq!(terms[0], again.1[0], "the same block is erased again");
    assert!(total.is_finite() && terms.len() == 3, "{total} {terms:?}");
    net = optimizer.step(reid::settings(&config, 1).unwrap().schedule.lr(1), net.clone(), {
        GradientsParams::from_grads(loss.total.backward(), &net)
    });
    let after = StateDict::of(&net);
    let moved = |key: &str| before.get(key) != after.get(key);
    assert!(["model.conv1.weight", "model.layer4.0.conv2.weight", "classifier.bn.weight"].into_iter().all(moved));
    assert!(!["model.fc.weight", "classifier.bn.bias"].into_iter().any(moved));
}
