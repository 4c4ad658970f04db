//! Networks against the reference implementation: `fixtures/reid_networks/README.md` names the generator.

use burn::optim::GradientsParams;
use burn::tensor::Device;
use contract::fill::{blocks, fill};
use fixtures::Golden;
use train::families::reid::net::{
    Draws, FeatInference, MgnSettings, Network, PcbSettings, Pool, ReidNet, ReidNetConfig, ResNet50Head,
    ResNet50Settings,
};
use train::families::reid::settings::ReidConfig;
use train::families::reid::task::{self as reid, ReidTask};
use train::nn::dropout::Masks;
use train::rng::Step;
use train::run::engine::Task;
use train::run::optim::{Optimizer, OptimizerConfig, OptimizerKind};
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

fn named(name: &str) -> ReidNetConfig {
    ReidNetConfig::new(name, CLASSES, 512).unwrap()
}

fn ibn() -> ReidNetConfig {
    ReidNetConfig { net: Network::named("ResNet50_IBN").unwrap().with("bnneck", true).unwrap(), ..neck() }
}

fn pcb() -> ReidNetConfig {
    ReidNetConfig { net: Network::Pcb(PcbSettings { bnneck: true, ..PcbSettings::default() }), ..neck() }
}

fn filled(config: &ReidNetConfig, device: &Device) -> ReidNet {
    let mut net = ReidNet::new(config, 0, device);
    fill_by_name(&mut net, "");
    net
}

/// Keys, shapes, counts and features of a network, and how far the features may be off in units of the reference's
/// noise.
fn same_as_the_reference(name: &str, config: &ReidNetConfig) {
    let golden = Golden::load("reid_networks").unwrap();
    let device = device();
    let expected = &golden.json()["models"][name];
    let net = filled(config, &device);
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
        println!("{name}, eval, {input}: largest difference {difference:.1e}, the reference's own noise {noise:.1e}");
        assert!(difference < slack() * 5.0 * noise.max(1e-6), "{name}, {input}: {difference:.1e}, noise {noise:.1e}");
    }
}

#[test]
fn networks_match_the_reference() {
    same_as_the_reference("osnet_x1_0", &named("OSNet"));
    same_as_the_reference("osnet_x0_5", &named("OSNet_x0_5"));
    same_as_the_reference("resnet50_bnneck", &neck());
    same_as_the_reference("resnet50_classblock", &resnet50(ResNet50Settings::default()));
}

#[test]
fn resnet50_with_instance_norms_matches_the_reference() {
    same_as_the_reference("resnet50_ibn", &ibn());
}

#[test]
fn lmbn_r_matches_the_reference() {
    same_as_the_reference("lmbn_r", &named("LMBN_r"));
}

#[test]
fn pcb_matches_the_reference() {
    same_as_the_reference("pcb_6", &pcb());
}

#[test]
fn mgn_matches_the_reference() {
    let mgn = |pool, feats| Network::Mgn(MgnSettings { pool, feats, ..MgnSettings::default() });
    same_as_the_reference("mgn_avg512", &ReidNetConfig { net: mgn(Pool::Avg, 512), ..neck() });
    same_as_the_reference("mgn_max256", &ReidNetConfig { net: mgn(Pool::Max, 256), ..neck() });
}

/// Scores and features of a training step, statistics of the batch in use.
fn trains_as_the_reference(name: &str, config: &ReidNetConfig, shape: [usize; 4]) {
    let golden = Golden::load("reid_networks").unwrap();
    let device = device().autodiff();
    let output = filled(config, &device).forward(images(blocks("input", shape, 16), shape, &device));
    let expected = &golden.json()["train"][name];
    for (what, tensors) in [("logits", output.scores), ("features", output.features)] {
        let entries = expected[what].as_array().unwrap();
        assert_eq!(entries.len(), tensors.len(), "{name}, {what}");
        for (k, (entry, tensor)) in entries.iter().zip(tensors).enumerate() {
            let noise = entry["float32_noise"].as_f64().unwrap() as f32;
            let difference = difference(&golden, entry, &values(tensor));
            println!("{name}, train, {what} {k}: off by {difference:.1e}, the reference's own noise {noise:.1e}");
            assert!(
                difference < slack() * 5.0 * noise.max(2e-5),
                "{name}, {what} {k}: {difference:.1e}, noise {noise:.1e}"
            );
        }
    }
}

#[test]
fn networks_train_as_the_reference_does() {
    trains_as_the_reference("resnet50_bnneck", &neck(), [4, 3, 128, 64]);
    trains_as_the_reference("lmbn_r", &named("LMBN_r"), [4, 3, 128, 64]);
    trains_as_the_reference("pcb_6", &pcb(), [4, 3, 192, 64]);
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
    let before = ResNet50Settings { head, ..ResNet50Settings::default() };
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

/// A classifier of torchvision or IBN-Net starts the backbone, the dead classifier too where there is one, and leaves
/// heads and attention alone.
#[test]
fn networks_start_from_an_imagenet_backbone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet.safetensors");
    let attentive =
        |config: ReidNetConfig| ReidNetConfig { net: config.net.with("attention", "se").unwrap(), ..config };
    for (source, started, pairs) in [
        (neck(), neck(), [("layer4.2.conv3.weight", "model.layer4.2.conv3.weight"), ("fc.weight", "model.fc.weight")]),
        (
            ibn(),
            attentive(ibn()),
            [
                ("layer2.1.bn1.IN.weight", "model.layer2.1.bn1.IN.weight"),
                ("layer1.0.bn1.BN.running_var", "model.layer1.0.bn1.BN.running_var"),
            ],
        ),
        (
            neck(),
            attentive(pcb()),
            [("layer3.5.conv1.weight", "model.layer3.5.conv1.weight"), ("bn1.bias", "model.bn1.bias")],
        ),
        (
            neck(),
            attentive(ReidNetConfig::new("MGN", 5, 16).unwrap()),
            [("layer4.2.conv3.weight", "p3.1.2.conv3.weight"), ("layer3.0.conv1.weight", "backone.6.conv1.weight")],
        ),
        (
            neck(),
            ReidNetConfig::new("LMBN_r", 5, 16).unwrap(),
            [
                ("layer3.5.bn2.weight", "channel_branch.0.4.bn2.weight"),
                ("layer4.0.downsample.0.weight", "global_branch.1.0.downsample.0.weight"),
            ],
        ),
    ] {
        let backbone: StateDict = filled_state(&ReidNet::new(&source, 3, &device()), "")
            .iter()
            .filter_map(|(key, data)| Some((key.strip_prefix("model.")?.to_owned(), data.clone())))
            .collect();
        std::fs::write(&path, backbone.to_safetensors(0, Default::default())).unwrap();
        let mut net = ReidNet::new(&started, 3, &device());
        let own = StateDict::of(&net);
        let report = net.load_pretrained(&path, Partial::Nothing).unwrap();
        let kept = |key: &String| {
            ["classifier", "global_branch.", "reduction", "fc_id", "shared", "batch_drop_block", "attention."]
                .iter()
                .any(|start| key.strip_prefix("model.").unwrap_or(key).starts_with(start))
        };
        assert!(report.unused.is_empty() && report.missing.iter().all(kept), "{started}: {report}");
        let after = StateDict::of(&net);
        for (theirs, ours) in pairs {
            assert_eq!(after.get(ours), backbone.get(theirs), "{started}: {ours}");
        }
        assert!(report.missing.iter().all(|key| after.get(key) == own.get(key)), "{started}");
    }
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

/// What OSNet-AIN calls a parameter of OSNet, and what becomes of the norms that are over samples there.
fn ain_key(key: &str) -> Option<String> {
    let key = key.replace("conv2.2.0.", "pool2.0.").replace("conv3.2.0.", "pool3.0.");
    let key = key.replace(".conv2a.", ".conv2.0.layers.0.");
    let key = key.replace(".conv2b.", ".conv2.1.layers.");
    let key = key.replace(".conv2c.", ".conv2.2.layers.").replace(".conv2d.", ".conv2.3.layers.");
    let statistic = key.contains(".running_") || key.contains(".num_batches");
    let normalised = ["conv2.0.", "conv2.1.", "conv3.1.", "conv4.0."].iter().find(|block| key.starts_with(*block));
    match normalised.and_then(|block| key.strip_prefix(&format!("{block}conv3.bn."))) {
        Some(rest) => (!statistic).then(|| format!("{}IN.{rest}", normalised.unwrap())),
        None if key.starts_with("conv1.bn.") && statistic => None,
        None => Some(key),
    }
}

/// No golden vectors: keys and shapes follow from OSNet's, counts are those of the specification and of the published
/// code, and instance norms make a network blind to the contrast of a picture.
#[test]
fn variants_of_osnet_differ_as_published() {
    let golden = Golden::load("reid_networks").unwrap();
    let listed = golden.json()["models"]["osnet_x1_0"]["state_dict"].as_object().unwrap();
    let ibn = listed.iter().filter(|(key, _)| !(key.starts_with("conv1.bn.running") || key.contains("conv1.bn.num_")));
    // Of blocks, `conv1.bn` stays.
    let ibn = ibn.chain(listed.iter().filter(|(key, _)| key.contains(".conv1.bn.num_")));
    let mut ibn: serde_json::Map<_, _> = ibn.map(|(key, shape)| (key.clone(), shape.clone())).collect();
    for block in 0..2 {
        for name in ["weight", "bias"] {
            ibn.insert(format!("conv2.{block}.IN.{name}"), serde_json::json!([256]));
        }
    }
    let ain = listed.iter().filter_map(|(key, shape)| Some((ain_key(key)?, shape.clone()))).collect();
    let device = device();
    let shape = [2, 3, 128, 64];
    let pixels = images(blocks("input", shape, 16), shape, &device);
    let blind = |net: &ReidNet| {
        let [once, thrice] = [1.0, 3.0].map(|factor| values(net.embed(pixels.clone().mul_scalar(factor))));
        let largest = once.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let off = once.iter().zip(&thrice).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
        println!("three times the contrast: off by {off:.1e} of the largest value");
        off < slack() * 1e-3
    };
    for (name, parameters, keys) in
        [("OSNet_IBN", 2_555_795, ibn), ("OSNet_AIN", 2_554_771, ain)] as [(&str, usize, serde_json::Map<_, _>); 2]
    {
        let net = filled(&named(name), &device);
        let state = StateDict::of(&net);
        same_state(&state, &keys.into(), name);
        assert_eq!(state.parameters(), parameters, "{name}");
        assert!(blind(&net), "{name}");
    }
    assert!(!blind(&filled(&named("OSNet"), &device)));
    let counts = [("OSNet_x1_25", 3_665_883), ("OSNet_x0_75", 1_671_017), ("OSNet_x0_25", 587_127)];
    for (name, parameters) in counts {
        assert_eq!(named(name).cost([64, 32]).parameters, parameters, "{name}");
    }
}

/// Products at the size of the references: OSNet as published, the others as the specification counts them.
#[test]
fn costs_are_those_of_the_papers() {
    for (name, size, products) in [
        ("OSNet", [256, 128], 0.98e9),
        ("OSNet_x0_5", [256, 128], 0.27e9),
        ("LMBN_n", [384, 128], 2.43e9),
        ("LMBN_r", [384, 128], 12.1e9),
    ] {
        let found = named(name).cost(size).multiply_adds as f64;
        println!("{name}: {found}");
        assert!((found / products - 1.0).abs() < 0.02, "{name}: {found:e} for {products:e}");
    }
    // 101 layers have 17 more bottlenecks of 1024 channels: torchvision's 44.5 M parameters instead of 25.6 M.
    let deep = ReidNetConfig { net: Network::named("ResNet101_IBN").unwrap().with("bnneck", true).unwrap(), ..neck() };
    assert_eq!(deep.cost([64, 32]).parameters, 46_091_304);
}

/// One stripe is the whole map: with the same weights, head for head.
#[test]
fn pcb_has_any_number_of_stripes() {
    let (device, shape) = (device(), [1, 3, 64, 32]);
    let net =
        |settings: PcbSettings| ReidNet::new(&ReidNetConfig { classes: 5, net: Network::Pcb(settings) }, 0, &device);
    let one = net(PcbSettings { parts: 1, bnneck: true, feats: 16, ..PcbSettings::default() });
    let state: StateDict = filled_state(&one, "")
        .iter()
        .map(|(key, data)| (key.to_owned(), data.clone()))
        .flat_map(|(key, data)| match key.strip_prefix("global_branch.") {
            Some(rest) => vec![(format!("classifier0.{rest}"), data.clone()), (key.clone(), data)],
            None if key.starts_with("classifier0.") => vec![],
            None => vec![(key, data)],
        })
        .collect();
    let mut one = one;
    assert!(state.load_into(&mut one).is_complete());
    let parts = one.embed(images(blocks("input", shape, 16), shape, &device));
    assert_eq!(parts.dims(), [1, 16, 2]);
    let [stripe, whole] = [0, 1].map(|part| values(parts.clone().narrow(2, part, 1)));
    assert!(stripe.iter().zip(&whole).all(|(a, b)| (a - b).abs() < slack() * 1e-5), "{stripe:?} {whole:?}");

    // Twelve stripes, without necks: more keys, dropout while training.
    let many = net(PcbSettings { parts: 12, feats: 16, ..PcbSettings::default() });
    assert!(StateDict::of(&many).get("classifier11.add_block.0.weight").is_some());
    assert_eq!(many.parts(), 13);
    let device = device.autodiff();
    let config =
        ReidNetConfig { classes: 5, net: Network::Pcb(PcbSettings { parts: 2, feats: 16, ..PcbSettings::default() }) };
    let two = filled(&config, &device);
    let shape = [4, 3, 64, 32];
    let scores = |masks: Masks| {
        let draws = Draws { masks, ..Draws::none() };
        let output = two.forward_with(images(blocks("input", shape, 16), shape, &device), draws);
        assert_eq!((output.scores.len(), output.features.len()), (3, 1));
        output.scores.into_iter().map(values).collect::<Vec<_>>()
    };
    let (dropped, again, other) = (scores(Masks::of(&[1])), scores(Masks::of(&[1])), scores(Masks::of(&[2])));
    assert_eq!(dropped, again);
    assert!(dropped[0] != other[0] && dropped[0] != scores(Masks::none())[0]);
    assert_eq!(dropped[2], other[2], "the whole map's head has no dropout");
}

/// With `--pcb-different-lr` the backbone moves a tenth as far, the heads as far as without.
#[test]
fn pcbs_backbone_learns_at_its_own_rate() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 6, 4);
    let net = Network::Pcb(PcbSettings { parts: 2, feats: 16, pcb_different_lr: true, ..PcbSettings::default() });
    let config = ReidConfig {
        net,
        datadir: folder.path().join("data").display().to_string(),
        batchid: 2,
        batchimage: 2,
        height: 32,
        width: 32,
        ..ReidConfig::default()
    };
    let device = device().autodiff();
    let mut task = ReidTask::open(&config, &device).unwrap();
    let net = ReidNet::new(&task.network(), config.seed, &device);
    let (_, batch) = task.epoch(1, 0).unwrap().batches.next().unwrap().unwrap();
    let step = Step { epoch: 1, batch: 0 };
    let mut gradients = || GradientsParams::from_grads(task.loss(&net, &batch, step).total.backward(), &net);
    let (first, second) = (gradients(), gradients());
    let plain =
        OptimizerConfig { kind: OptimizerKind::Sgd, momentum: 0.0, weight_decay: 0.0, ..OptimizerConfig::default() };
    let before = StateDict::of(&net);
    let moved = |gradients: GradientsParams, rate: &dyn Fn(&str) -> f64| {
        let after = Optimizer::new(&plain).unwrap().step_scaled(1.0, rate, net.clone(), gradients);
        let after = StateDict::of(&after);
        move |key: &str, before: &StateDict| -> f64 {
            let [a, b] = [before, &after].map(|state| state.get(key).unwrap().try_to_vec::<f32>().unwrap());
            a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        }
    };
    let (alike, own) = (moved(first, &|_| 1.0), moved(second, &|path| task.rate(path)));
    for (key, share) in [
        ("model.layer4.2.conv3.weight", 0.1),
        ("classifier1.classifier.0.weight", 1.0),
        ("global_branch.reduction.weight", 1.0),
    ] {
        let (alike, own) = (alike(key, &before), own(key, &before));
        assert!(alike > 0.0 && (own / alike - share).abs() < 0.01, "{key}: {own} of {alike}");
    }
}

#[test]
fn branches_of_a_fresh_mgn_are_equal() {
    let state = StateDict::of(&ReidNet::new(&ReidNetConfig::new("MGN", 5, 16).unwrap(), 1, &device()));
    for (key, data) in state.iter() {
        let twin = ["p2.", "p3."].iter().find_map(|branch| Some(format!("p1.{}", key.strip_prefix(branch)?)));
        let twin = twin.or_else(|| Some(format!("reduction_0.{}", key.strip_prefix("reduction_7.")?)));
        assert!(twin.is_none_or(|twin| state.get(&twin) == Some(data)), "{key}");
    }
}
