//! Palm-vein networks, losses and steps against the reference: `fixtures/palmvein/README.md` names the generator.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::fill::fill;
use fixtures::Golden;
use serde_json::Value;
use train::families::palmvein::net::{
    ArcFaceConfig, ArcMarginProduct, Backbones, BranchDetails, ConvNext, ConvNextConfig, CosineHead, Details,
    EfficientVit, EfficientVitConfig, Features, Fusion, FusionConfig, LocalWindow, Mixer, PalmVeinNet,
    PalmVeinNetConfig, Parts,
};
use train::loss::{CosineTriplet, CrossEntropy, FusionLoss, FusionMode, FusionTerms, LossTerms, Mining};
use train::nn::dropout::Masks;
use train::weights::StateDict;

use super::{device, fill_by_name, gradients_by_key, norm, same_state, slack, values};

const CLASSES: usize = 100;

fn golden() -> Golden {
    Golden::load("palmvein").unwrap()
}

fn input<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(fill(&format!("input.{name}"), &shape), shape), device)
}

fn classes(values: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// Largest difference to the golden tensor `name`, sampled as it is, and its largest value.
fn difference(golden: &Golden, name: &str, ours: &[f32]) -> (f32, f32) {
    super::difference(golden, name, &golden.json()["tensors"][name], ours)
}

/// Compares with the golden tensor by the reference's own hint: 1e-3 of the largest value and 1e-5.
#[track_caller]
fn close<const D: usize>(golden: &Golden, name: &str, ours: Tensor<D>, relative: f32) {
    let (off, largest) = difference(golden, name, &values(ours));
    println!("{name}: off {off:.1e} of {largest:.1e}");
    assert!(off <= slack() * (relative * largest + 1e-5), "{name}: off {off:.1e}, largest {largest:.1e}");
}

#[track_caller]
fn number(value: Tensor<1>, expected: &Value, what: &str) {
    let (ours, theirs) = (f64::from(value.into_scalar::<f32>()), expected.as_f64().unwrap());
    assert!((ours - theirs).abs() <= 1e-4 * theirs.abs() + 1e-6, "{what}: {ours} for {theirs}");
}

fn vit(config: &EfficientVitConfig, prefix: &str, device: &Device) -> EfficientVit {
    let mut net = EfficientVit::new(config, device).unwrap();
    fill_by_name(&mut net, prefix);
    net
}

fn cnn(prefix: &str, device: &Device) -> ConvNext {
    let mut net = ConvNext::new(&ConvNextConfig::default(), device).unwrap();
    fill_by_name(&mut net, prefix);
    net
}

fn cascaded() -> EfficientVitConfig {
    EfficientVitConfig { mixer: Mixer::Cascaded, ..EfficientVitConfig::default() }
}

fn head(spatial: bool, parts: Parts, device: &Device) -> Fusion {
    let config = FusionConfig { use_spatial_fusion: spatial, parts, classes: CLASSES, ..FusionConfig::default() };
    let mut head = Fusion::new(&config, device).unwrap();
    fill_by_name(&mut head, "fusion.");
    head
}

fn head_input(spatial: bool, device: &Device) -> Backbones {
    let local = |name: &str| match spatial {
        true => Features::Map(input(&format!("{name}_local_map"), [4, 768, 7, 7], device)),
        false => Features::Vector(input(&format!("{name}_local"), [4, 768], device)),
    };
    Backbones {
        global: ["palm_global", "vein_global"].map(|name| Some(input(name, [4, 192], device))),
        local: ["palm", "vein"].map(|name| Some(local(name))),
    }
}

/// Every detail of a head, where the golden has it.
fn details_match(golden: &Golden, prefix: &str, details: &Details, relative: f32) {
    let branch = |name: &str, branch: &BranchDetails| {
        let mut compared = 0;
        let mut check = |key: &str, features: &Features| {
            let name = format!("{prefix}.{name}.{key}");
            if golden.json()["tensors"].get(&name).is_none() {
                return;
            }
            compared += 1;
            match features {
                Features::Vector(rows) => close(golden, &name, rows.clone(), relative),
                Features::Map(map) => close(golden, &name, map.clone(), relative),
            }
        };
        for (key, features) in ["palm", "vein"].iter().zip(&branch.aligned) {
            check(key, features.as_ref().unwrap());
        }
        for (key, weights) in ["w_palm", "w_vein"].iter().zip(branch.weights.as_ref().unwrap()) {
            check(key, weights);
        }
        check("fused", &Features::Vector(branch.fused.clone()));
        compared
    };
    let compared =
        branch("global", details.global.as_ref().unwrap()) + branch("local", details.local.as_ref().unwrap());
    assert!(compared >= 5, "{compared}");
    close(golden, &format!("{prefix}.fused"), details.embedding.clone(), relative);
}

#[test]
fn keys_shapes_and_counts_are_the_references() {
    let golden = golden();
    let device = device();
    let check = |name: &str, counted: Option<&str>, state: StateDict| {
        same_state(&state, &golden.json()["state_dict"][name], name);
        if let Some(counted) = counted {
            let floats = state.iter().filter(|(key, _)| !key.contains("running_") && !key.ends_with("_idxs"));
            let parameters: usize = floats.map(|(_, data)| data.num_elements()).sum();
            assert_eq!(parameters as u64, golden.json()["param_counts"][counted].as_u64().unwrap(), "{name}");
        }
    };
    let vit = |config| StateDict::of(&EfficientVit::new(&config, &device).unwrap());
    check("vit", Some("vit"), vit(EfficientVitConfig::default()));
    check("vit_cascaded", Some("vit_cascaded"), vit(cascaded()));
    check("cnn", Some("cnn"), StateDict::of(&ConvNext::new(&ConvNextConfig::default(), &device).unwrap()));
    let head = |config| StateDict::of(&Fusion::new(&config, &device).unwrap());
    for (name, use_spatial_fusion) in [("fusion_vector", false), ("fusion_spatial", true)] {
        check(name, Some(name), head(FusionConfig { use_spatial_fusion, classes: CLASSES, ..FusionConfig::default() }));
    }
    check("fusion_small", None, head(small()));
}

fn small() -> FusionConfig {
    FusionConfig {
        out_dim_global: 64,
        out_dim_local: 32,
        use_spatial_fusion: true,
        final_l2norm: false,
        ..FusionConfig::default()
    }
}

#[test]
fn maps_have_the_references_sizes_for_any_picture() {
    let golden = golden();
    let device = device();
    let vit = EfficientVit::new(
        &EfficientVitConfig { embed_dim: [8, 8, 8], depth: [1, 1, 1], ..EfficientVitConfig::default() },
        &device,
    )
    .unwrap();
    let cnn =
        ConvNext::new(&ConvNextConfig { depths: [1; 4], dims: [4; 4], ..ConvNextConfig::default() }, &device).unwrap();
    for (side, sizes) in golden.json()["spatial_sizes"].as_object().unwrap() {
        let side: usize = side.parse().unwrap();
        let images = Tensor::zeros([1, 1, side, side], &device);
        let expected = |name: &str| serde_json::from_value::<[usize; 2]>(sizes[name].clone()).unwrap();
        assert_eq!(vit.spatial(images.clone()).dims()[2..], expected("vit"), "{side}");
        assert_eq!(cnn.spatial(images, &mut Masks::none()).dims()[2..], expected("cnn"), "{side}");
    }
}

#[test]
fn efficientvit_matches_the_reference() {
    let golden = golden();
    let device = device();
    let net = vit(&EfficientVitConfig::default(), "vit_palm.", &device);
    let maps = net.stages(input("palm", [2, 1, 224, 224], &device));
    close(&golden, "vit.palm.patch_embed", maps[0].clone(), 1e-3);
    let steps = net.first_block(maps[0].clone());
    close(&golden, "vit.palm.block1_ffn0", steps.ffn0, 1e-3);
    close(&golden, "vit.palm.block1_mixer", steps.mixer, 1e-3);
    close(&golden, "vit.palm.blocks1", maps[1].clone(), 1e-3);
    close(&golden, "vit.palm.blocks2", maps[2].clone(), 1e-3);
    close(&golden, "vit.palm.spatial", maps[3].clone(), 1e-3);
    close(&golden, "vit.palm.pool", net.forward(input("palm", [2, 1, 224, 224], &device)), 1e-3);
    let net = vit(&EfficientVitConfig::default(), "vit_vein.", &device);
    close(&golden, "vit.vein.pool", net.forward(input("vein", [2, 1, 224, 224], &device)), 1e-3);
}

#[test]
fn efficientvit_in_training_matches_the_reference() {
    let golden = golden();
    let device = device().autodiff();
    let net = vit(&EfficientVitConfig::default(), "vit_palm.", &device);
    close(&golden, "vit.train.pool", net.forward(input("palm", [2, 1, 224, 224], &device)), 1e-3);
    statistics_match(&golden, "vit.train.after.", &StateDict::of(&net), 4);
}

/// Compares what a forward pass in training left in the batch norms.
fn statistics_match(golden: &Golden, prefix: &str, state: &StateDict, count: usize) {
    let mut compared = 0;
    for (key, data) in state.iter() {
        let name = format!("{prefix}{key}");
        if golden.json()["tensors"].get(&name).is_some() {
            let (off, largest) = difference(golden, &name, data.as_slice::<f32>().unwrap());
            assert!(off <= slack() * (1e-4 * largest + 1e-5), "{name}: off {off:.1e}, largest {largest:.1e}");
            compared += 1;
        }
    }
    assert_eq!(compared, count, "{prefix}");
}

#[test]
fn cascaded_attention_matches_the_reference() {
    let golden = golden();
    let device = device();
    let net = vit(&cascaded(), "vit_cga.", &device);
    let maps = net.stages(input("palm", [2, 1, 224, 224], &device));
    let steps = net.first_block(maps[0].clone());
    close(&golden, "vit_cga.palm.block1_dw0", steps.dw0, 1e-3);
    close(&golden, "vit_cga.palm.block1_mixer", steps.mixer, 1e-3);
    close(&golden, "vit_cga.palm.blocks1", maps[1].clone(), 1e-3);

    let mut window = LocalWindow::new(192, 16, 4, 4, &device);
    fill_by_name(&mut window, "vit_cga.blocks3.3.mixer.m.");
    close(&golden, "vit_cga.attn_4x4.out", window.forward(input("cga_4x4", [2, 192, 4, 4], &device)), 1e-4);

    let device = device.autodiff();
    let net = vit(&cascaded(), "vit_cga.", &device);
    close(&golden, "vit_cga.train.spatial", net.spatial(input("palm", [2, 1, 224, 224], &device)), 1e-3);
}

#[test]
fn convnext_matches_the_reference() {
    let golden = golden();
    let device = device();
    let net = cnn("cnn_palm.", &device);
    for (stage, (down, map)) in
        net.steps(input("palm", [2, 1, 224, 224], &device), &mut Masks::none()).into_iter().enumerate()
    {
        close(&golden, &format!("cnn.palm.down{stage}"), down, 1e-3);
        close(&golden, &format!("cnn.palm.stage{stage}"), map, 1e-3);
    }
    close(&golden, "cnn.palm.pool", net.forward(input("palm", [2, 1, 224, 224], &device), &mut Masks::none()), 1e-3);
}

#[test]
fn the_whole_network_matches_the_reference_in_both_modes() {
    let golden = golden();
    let device = device();
    let mut nets = [false, true].map(|use_spatial_fusion| {
        let fusion = FusionConfig { use_spatial_fusion, classes: CLASSES, ..FusionConfig::default() };
        PalmVeinNet::new(&PalmVeinNetConfig { fusion, ..PalmVeinNetConfig::default() }, 0, &device).unwrap()
    });
    let images = |name| input(name, [2, 1, 224, 224], &device);
    let labels = classes(&[3, 57], &device);
    for (mode, net) in ["vector", "spatial"].into_iter().zip(&mut nets) {
        fill_by_name(net, "");
        let details = net.forward(images("palm"), images("vein"));
        details_match(&golden, &format!("pipe.{mode}"), &details, 1e-3);
        let logits = net.fusion.logits(details.embedding.clone(), labels.clone()).unwrap();
        close(&golden, &format!("pipe.{mode}.logits"), logits, 1e-3);
        let plain = net.fusion.plain_logits(details.embedding).unwrap();
        close(&golden, &format!("pipe.{mode}.logits_plain"), plain, 1e-3);
    }
}

#[test]
fn heads_match_the_reference_in_both_modes() {
    let golden = golden();
    let labels = [0, 17, 99, 17];
    for (mode, spatial) in [("vector", false), ("spatial", true)] {
        for (phase, device) in [("eval", device()), ("train", device().autodiff())] {
            // A vector head has no batch norm: both phases are the same numbers.
            let prefix = format!("head.{mode}.{}", if spatial { phase } else { "eval" });
            let head = head(spatial, Parts::Attention, &device);
            let details = head.forward(head_input(spatial, &device));
            details_match(&golden, &prefix, &details, 1e-4);
            let logits = head.logits(details.embedding.clone(), classes(&labels, &device)).unwrap();
            close(&golden, &format!("{prefix}.logits"), logits, 1e-4);
            if phase == "eval" {
                let plain = head.plain_logits(details.embedding).unwrap();
                close(&golden, &format!("{prefix}.logits_plain"), plain, 1e-4);
            } else if spatial {
                statistics_match(&golden, "head.spatial.train.after.", &StateDict::of(&head), 6);
            }
        }
    }
    let device = device();
    let mut head = Fusion::new(&small(), &device).unwrap();
    fill_by_name(&mut head, "fusion_small.");
    let details = head.forward(head_input(true, &device));
    close(&golden, "head.small.fused", details.embedding, 1e-4);
    let [w_palm, _] = details.local.unwrap().weights.unwrap();
    close(&golden, "head.small.local.w_palm", w_palm.map().unwrap().clone(), 1e-4);
}

#[test]
fn ablations_match_their_definitions() {
    let golden = golden();
    let device = device();
    let labels = classes(&[0, 17, 99, 17], &device);
    let parts = [
        ("global_only", Parts::GlobalOnly),
        ("local_only", Parts::LocalOnly),
        ("concat", Parts::Concat),
        ("mean", Parts::Mean),
    ];
    for (mode, spatial) in [("vector", false), ("spatial", true)] {
        for (name, parts) in parts {
            if spatial && parts == Parts::GlobalOnly {
                continue;
            }
            let head = head(spatial, parts, &device);
            let embedding = head.forward(head_input(spatial, &device)).embedding;
            close(&golden, &format!("ablation.{mode}.{name}.fused"), embedding.clone(), 1e-4);
            let logits = head.logits(embedding, labels.clone()).unwrap();
            close(&golden, &format!("ablation.{mode}.{name}.logits"), logits, 1e-4);
        }
    }
}

fn arcface(config: ArcFaceConfig, device: &Device) -> ArcMarginProduct {
    let mut arcface = ArcMarginProduct::new(512, CLASSES, config, device);
    fill_by_name(&mut arcface, "arcface.");
    arcface
}

/// Whether there is a gradient, and a finite one.
fn finite(gradient: &[f32]) -> bool {
    gradient.iter().all(|value| value.is_finite()) && gradient.iter().any(|value| *value != 0.0)
}

#[test]
fn arcface_matches_the_reference_at_its_corners() {
    let golden = golden();
    let device = device().autodiff();
    let (_, rows) = golden.tensor_f32("arc.input").unwrap();
    let rows = Tensor::<2>::from_data(TensorData::new(rows, [6, 512]), &device).require_grad();
    let (_, labels) = golden.tensor_i64("arc.labels").unwrap();
    // Row 4 lies on its class: its sine is the root of what rounding leaves of 0, in the reference too.
    let rounded = (4, labels[4] as usize);
    let labels = classes(&labels, &device);
    let hard = ArcFaceConfig::default();
    let variants = [
        ("hard", hard.clone()),
        ("easy", ArcFaceConfig { easy_margin: true, ..hard.clone() }),
        ("s32_m03", ArcFaceConfig { scale: 32.0, margin: 0.3, ..hard.clone() }),
    ];
    let loss = |logits| CrossEntropy { num_classes: CLASSES, smoothing: 0.0 }.forward(logits, labels.clone());
    for (name, config) in variants {
        let logits = arcface(config, &device).forward(rows.clone(), labels.clone());
        let (_, theirs) = golden.tensor_f32(&format!("arc.logits.{name}")).unwrap();
        for (k, (a, b)) in values(logits.clone()).into_iter().zip(theirs).enumerate() {
            let allowed = if (k / CLASSES, k % CLASSES) == rounded { 0.05 } else { 1e-3 };
            assert!((a - b).abs() < allowed, "{name}, row {}, class {}: {a} for {b}", k / CLASSES, k % CLASSES);
        }
        if let Some(expected) = golden.json()["losses"].get(format!("arc.ce.{name}")) {
            let (ours, theirs) = (loss(logits).into_scalar::<f32>(), expected.as_f64().unwrap() as f32);
            assert!((ours - theirs).abs() < 0.05 / 6.0, "{name}: {ours} for {theirs}");
        }
    }
    let arcface = arcface(hard, &device);
    close(&golden, "arc.cosine", arcface.cosine(rows.clone()), 1e-5);
    let of_rows = rows.clone();
    let gradients = loss(arcface.forward(of_rows, labels.clone())).backward();
    let gradient = values(rows.grad(&gradients).unwrap());
    assert!(gradient.iter().all(|value| value.is_finite()));
    let parameters = GradientsParams::from_grads(gradients, &arcface);
    assert!(finite(&gradients_by_key(&arcface, &parameters)["weight"]));
}

#[test]
fn arcface_stays_finite_at_extreme_margins_and_rows() {
    let device = device().autodiff();
    for (scale, margin) in [(64.0, 0.0), (64.0, std::f64::consts::PI), (1e4, 1.5), (1e-3, 3.0)] {
        for easy_margin in [false, true] {
            let arcface = arcface(ArcFaceConfig { scale, margin, easy_margin }, &device);
            let weight = fill("arcface.weight", &[CLASSES, 512]);
            // Row 0 on its class, row 1 opposite to it, row 2 zero, row 3 huge, row 4 tiny.
            let mut rows = vec![0.0f32; 5 * 512];
            for k in 0..512 {
                (rows[k], rows[512 + k]) = (weight[k], -weight[512 + k]);
                (rows[3 * 512 + k], rows[4 * 512 + k]) = (weight[k] * 1e15, weight[k] * 1e-15);
            }
            let rows = Tensor::<2>::from_data(TensorData::new(rows, [5, 512]), &device).require_grad();
            let labels = classes(&[0, 1, 2, 3, 4], &device);
            let logits = arcface.forward(rows.clone(), labels.clone());
            let loss = CrossEntropy { num_classes: CLASSES, smoothing: 0.1 }.forward(logits, labels);
            assert!(loss.clone().into_scalar::<f32>().is_finite(), "{scale} {margin}");
            let gradients = loss.backward();
            assert!(values(rows.grad(&gradients).unwrap()).iter().all(|value| value.is_finite()), "{scale} {margin}");
            let found = gradients_by_key(&arcface, &GradientsParams::from_grads(gradients, &arcface));
            assert!(finite(&found["weight"]), "{scale} {margin}");
        }
    }
}

fn terms(head: &Fusion, details: &Details, labels: &Tensor<1, Int>, centers: Tensor<2>) -> FusionTerms {
    let branches = [&details.global, &details.local].map(|branch| branch.as_ref().unwrap());
    let weights = branches.map(|branch| branch.weights.as_ref().unwrap());
    FusionTerms {
        logits: head.logits(details.embedding.clone(), labels.clone()).unwrap(),
        branches: Some(branches.map(|branch| branch.fused.clone())),
        attention: weights.iter().map(|[palm, vein]| [palm.values(), vein.values()]).collect(),
        centers: Some((details.embedding.clone(), centers)),
    }
}

const MODES: [(&str, FusionMode); 4] = [
    ("simple", FusionMode::Simple),
    ("standard", FusionMode::Standard),
    ("full", FusionMode::Full),
    ("advanced", FusionMode::Advanced),
];

/// Each term before its weight, and the total.
fn losses_match(loss: &FusionLoss, terms: &LossTerms, expected: &Value, what: &str) {
    let weight = |name: &str| match name {
        "cls" => loss.cls,
        "consistency" => loss.consistency,
        "attention" => loss.attention,
        _ => loss.center,
    };
    assert_eq!(terms.terms.len() + 1, expected.as_object().unwrap().len(), "{what}");
    for (name, term) in &terms.terms {
        number(term.clone().div_scalar(weight(name)), &expected[name], &format!("{what} {name}"));
    }
    number(terms.total.clone(), &expected["total"], what);
}

#[test]
fn every_loss_mode_matches_the_reference() {
    let golden = golden();
    for (head_mode, spatial) in [("vector", false), ("spatial", true)] {
        for (phase, device) in [("eval", device()), ("train", device().autodiff())] {
            let labels = classes(&[0, 17, 99, 17], &device);
            let centers = fill("criterion.center_loss.centers", &[CLASSES, 512]);
            let centers = Tensor::<2>::from_data(TensorData::new(centers, [CLASSES, 512]), &device);
            let head = head(spatial, Parts::Attention, &device);
            let details = head.forward(head_input(spatial, &device));
            for (name, mode) in MODES {
                let loss = FusionLoss::new(mode);
                let found = loss.forward(terms(&head, &details, &labels, centers.clone()), labels.clone());
                let what = format!("head.{head_mode}.{phase}.{name}");
                let expected = &golden.json()["losses"][&what];
                losses_match(&loss, &found, expected, &what);
            }
        }
    }
}

#[test]
fn triplets_and_identity_scores_match_the_reference() {
    let golden = golden();
    let device = device().autodiff();
    let rows = |name: &str| {
        let (_, values) = golden.tensor_f32(&format!("triplet.{name}")).unwrap();
        Tensor::<2>::from_data(TensorData::new(values, [8, 192]), &device)
    };
    let (anchor, positive, negative) = (rows("anchor").require_grad(), rows("positive"), rows("negative"));
    let losses = &golden.json()["losses"];
    for margin in [0.5, 1.0] {
        for (name, mining) in [("hard", Mining::Hard), ("none", Mining::None)] {
            let loss = CosineTriplet { margin, mining };
            let found = loss.forward(anchor.clone(), positive.clone(), negative.clone());
            let expected = &losses[format!("triplet.m{margin:.1}.{name}")];
            number(found.positive, &expected["dist_ap"], "positive");
            number(found.negative, &expected["dist_an"], "negative");
            number(found.loss.clone(), &expected["loss"], name);
            if margin == 0.5 && mining == Mining::Hard {
                let gradient = anchor.grad(&found.loss.backward()).unwrap();
                close(&golden, "triplet.grad_anchor.m0.5.hard", gradient.autodiff(), 1e-4);
            }
        }
    }
    let easy = CosineTriplet { margin: 0.5, mining: Mining::Hard };
    let found = easy.forward(rows("anchor"), rows("anchor"), rows("anchor").neg());
    assert_eq!((found.loss.into_scalar::<f32>(), found.violating.into_scalar::<f32>()), (0.0, 0.0));

    let mut head = CosineHead::new(192, 100, &device);
    fill_by_name(&mut head, "identity.");
    let scores = head.forward(rows("anchor"));
    close(&golden, "identity.logits.fixed_dim1", scores.clone(), 1e-4);
    let labels = classes(&[0, 1, 2, 3, 4, 5, 6, 7], &device);
    let loss = CrossEntropy { num_classes: 100, smoothing: 0.0 }.forward(scores, labels);
    number(loss, &losses["identity.fixed_dim1"], "identity");
}

/// The gradients of `features` · `gout`, where the reference recorded them.
fn gradients_match<M: Module>(net: &M, features: Tensor<2>, family: &str) {
    let golden = golden();
    let shape = features.dims();
    let objective = (features.clone() * input(&format!("gout_{family}"), shape, &features.device())).sum();
    number(objective.clone(), &golden.json()["backbone_grad"][family]["objective"], "objective");
    let gradients = gradients_by_key(net, &GradientsParams::from_grads(objective.backward(), net));
    let prefix = format!("{family}.grad.");
    let watched: Vec<String> = golden.names().unwrap().into_iter().filter(|name| name.starts_with(&prefix)).collect();
    assert_eq!(watched.len(), 4);
    for name in watched {
        let (off, largest) = difference(&golden, &name, &gradients[name.strip_prefix(&prefix).unwrap()]);
        assert!(off <= slack() * (1e-3 * largest + 1e-6), "{name}: off {off:.1e}, largest {largest:.1e}");
    }
}

#[test]
fn convnext_gradients_match_the_reference() {
    let device = device().autodiff();
    let net = cnn("cnn_palm.", &device);
    gradients_match(&net, net.forward(input("palm", [2, 1, 224, 224], &device), &mut Masks::none()), "cnn");
}

/// Weights that train in a network whose batch norms stay in evaluation.
struct Thaw;

impl ModuleMapper for Thaw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.set_require_grad(true)
    }
}

/// The reference took these gradients in evaluation mode: a frozen network, whose weights are then let go again.
#[test]
fn efficientvit_gradients_match_the_reference() {
    let device = device().autodiff();
    let net = vit(&EfficientVitConfig::default(), "vit_palm.", &device).valid().train().freeze().map(&mut Thaw);
    gradients_match(&net, net.forward(input("palm", [2, 1, 224, 224], &device)), "vit");
}

#[test]
fn steps_of_adam_match_the_reference() {
    use train::run::optim::{Optimizer, OptimizerConfig};
    let golden = golden();
    let device = device().autodiff();
    let labels = classes(&[0, 17, 99, 17], &device);
    for (tag, facts) in golden.json()["adam"].as_object().unwrap() {
        let spatial = facts["spatial"].as_bool().unwrap();
        let mode = MODES.iter().find(|(name, _)| facts["loss_mode"] == *name).unwrap().1;
        let loss = FusionLoss::new(mode);
        let fresh = || head(spatial, Parts::Attention, &device);
        let head = fresh();
        let centers = Tensor::zeros([CLASSES, 512], &device);
        let objective = |head: &Fusion, device: &Device| {
            let labels = labels.clone().inner();
            let labels = if device.is_autodiff() { labels.autodiff() } else { labels };
            let centers = centers.clone().inner();
            let centers = if device.is_autodiff() { centers.autodiff() } else { centers };
            let details = head.forward(head_input(spatial, device));
            loss.forward(terms(head, &details, &labels, centers), labels)
        };
        let found = objective(&head, &device);
        losses_match(&loss, &found, &facts["loss"], tag);
        let by_key = gradients_by_key(&head, &GradientsParams::from_grads(found.total.backward(), &head));
        let norm = norm(&by_key);
        let expected = facts["grad_norm_before_clip"].as_f64().unwrap();
        assert!((norm - expected).abs() < 1e-3 * expected, "{tag}: norm {norm} for {expected}");
        // A clipped gradient is the gradient of a smaller loss.
        let factor = facts["clip_max_norm"].as_f64().map_or(1.0, |most| (most / (norm + 1e-6)).min(1.0));
        let head = fresh();
        let scaled = objective(&head, &device).total.mul_scalar(factor);
        let gradients = GradientsParams::from_grads(scaled.backward(), &head);
        let config = OptimizerConfig {
            weight_decay: facts["weight_decay"].as_f64().unwrap(),
            epsilon: 1e-8,
            ..OptimizerConfig::default()
        };
        let head = Optimizer::new(&config).unwrap().step(facts["lr"].as_f64().unwrap(), head, gradients);
        let after = StateDict::of(&head);
        for key in facts["watched"].as_array().unwrap() {
            let key = key.as_str().unwrap();
            let name = format!("adam.{tag}.grad.{key}");
            let (off, largest) = difference(&golden, &name, &by_key[key]);
            assert!(off <= slack() * (1e-3 * largest + 1e-6), "{name}: off {off:.1e}, largest {largest:.1e}");
            // The first step is the gradient's sign times the rate: where noise decides the sign, nothing can be
            // compared.
            let name = format!("adam.{tag}.after.{key}");
            let step = golden.json()["tensors"][&name]["step"].as_u64().unwrap_or(1) as usize;
            let (_, theirs) = golden.tensor_f32(&name).unwrap();
            let ours = after.get(key).unwrap().as_slice::<f32>().unwrap().iter().step_by(step);
            let clear = by_key[key].iter().step_by(step).map(|gradient| gradient.abs() > 1e-5);
            let compared: Vec<f32> =
                ours.zip(&theirs).zip(clear).filter(|(_, clear)| *clear).map(|((a, b), _)| (a - b).abs()).collect();
            let off = compared.iter().fold(0.0f32, |largest, off| largest.max(*off));
            assert!(!compared.is_empty() && off < 2e-5, "{name}: off {off:.1e} of {} values", compared.len());
        }
        let valid = head.valid();
        let found = objective(&valid, &device.clone().without_autodiff());
        let total = f64::from(found.total.into_scalar::<f32>());
        let expected = facts["loss_after_eval_mode"]["total"].as_f64().unwrap();
        assert!((total - expected).abs() < 1e-3 * expected, "{tag}: {total} for {expected}");
    }
}
