//! Attention and feature erasing against the reference: `fixtures/reid_attention/README.md` names the generator.

use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use contract::fill::{blocks, fill};
use fixtures::Golden;
use train::families::reid::net::{Network, ReidNet, ReidNetConfig, drop_top_rows};
use train::nn::attention::{Attention, AttentionKind};
use train::weights::StateDict;
use train::words::Word;

use super::lmbn_n::images;
use super::{device, fill_by_name, filled_state, gradients_by_key, same_state, slack, values};

/// Values of size 1 to 30; every module is a handful of operations.
const TOLERANCE: f32 = 2e-6;

fn filled(values: Vec<f32>, shape: [usize; 4]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, shape), &device())
}

#[test]
fn modules_match_the_reference() {
    let golden = Golden::load("reid_attention").unwrap();
    let listed = &golden.json()["attention"]["modules"];
    let shape = [2, 64, 12, 4];
    for (name, kind) in [
        ("se_module", AttentionKind::Se),
        ("pam", AttentionKind::Pam),
        ("cam", AttentionKind::Cam),
        ("dual", AttentionKind::Dual),
        ("channel_attention", AttentionKind::Channel),
        ("channel_attention_avg_only", AttentionKind::ChannelAverage),
        ("spatial_attention", AttentionKind::Spatial),
        ("cbam", AttentionKind::Cbam),
    ] {
        let mut module = Attention::new(kind, shape[1], &device()).unwrap();
        fill_by_name(&mut module, "");
        same_state(&StateDict::of(&module), &listed[name]["state_dict"], name);
        let ours = values(module.forward(filled(fill("input", &shape), shape)));
        let (theirs_shape, theirs) = golden.tensor_f32(listed[name]["tensor"].as_str().unwrap()).unwrap();
        assert_eq!(theirs_shape, shape, "{name}");
        let largest = theirs.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
        let off = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: off by {off:.1e}, largest value {largest:.1}");
        assert!(off < slack() * TOLERANCE * largest, "{name}: off by {off:.1e}");
    }
}

#[test]
fn the_same_rows_are_erased() {
    let golden = Golden::load("reid_attention").unwrap();
    let entry = &golden.json()["attention"]["modules"]["batch_drop_top"];
    let shape = [2, 8, 24, 8];
    let erased = drop_top_rows(filled(fill("input", &shape), shape), entry["h_ratio"].as_f64().unwrap());
    let erased = values(erased);
    let zero = |sample: usize, row: usize| {
        (0..8).all(|channel| {
            let start = ((sample * 8 + channel) * 24 + row) * 8;
            erased[start..start + 8].iter().all(|value| *value == 0.0)
        })
    };
    let rows: Vec<Vec<usize>> = (0..2).map(|sample| (0..24).filter(|row| zero(sample, *row)).collect()).collect();
    assert_eq!(serde_json::json!(rows), entry["zero_rows"]);
}

/// Attention that adds nothing leaves a network what it is, wherever it lies; attention that adds something does not.
#[test]
fn attention_lies_between_the_blocks() {
    let (device, shape) = (device(), [1, 3, 64, 32]);
    for (name, prefix) in [
        ("LMBN_n", ""),
        ("LMBN_r", ""),
        ("ResNet50", "model."),
        ("ResNet50_IBN", "model."),
        ("PCB", "model."),
        ("MGN", ""),
    ] {
        let plain = Network::named(name).unwrap().with("feats", 16).unwrap();
        let net = |kind: &str| {
            let net = plain.with("attention", kind).unwrap();
            ReidNet::new(&ReidNetConfig { classes: 3, net }, 0, &device)
        };
        let embed = |net: &ReidNet| values(net.embed(images(blocks("input", shape, 16), shape, &device)));
        let mut without = net("none");
        let state = filled_state(&without, "");
        assert!(state.clone().load_into(&mut without).is_complete());
        let without = embed(&without);
        // One network for all: the largest have 77 million parameters.
        let mut attentive = net("cam");
        let mut with = |gammas: [f32; 2]| {
            let gamma = |k: usize| (format!("{prefix}attention.{k}.gamma"), TensorData::new(vec![gammas[k]], [1]));
            let own = state.iter().map(|(key, data)| (key.to_owned(), data.clone()));
            let state: StateDict = own.chain([gamma(0), gamma(1)]).collect();
            assert!(state.load_into(&mut attentive).is_complete(), "{name}");
            embed(&attentive)
        };
        assert_eq!(with([0.0, 0.0]), without, "{name}");
        assert!(with([1.0, 0.0]) != without && with([0.0, 1.0]) != without, "{name}");
    }
}

/// Every kind gets gradients in training.
#[test]
fn attention_learns() {
    let (device, shape) = (device().autodiff(), [2, 3, 64, 32]);
    for kind in AttentionKind::WORDS.iter().filter(|kind| **kind != "none") {
        let net = Network::named("LMBN_n").unwrap().with("attention", *kind).unwrap().with("feats", 16).unwrap();
        let mut net = ReidNet::new(&ReidNetConfig { classes: 3, net }, 0, &device);
        fill_by_name(&mut net, "");
        let output = net.forward(images(blocks("input", shape, 16), shape, &device));
        let loss = output.scores.into_iter().map(|scores| scores.square().sum()).reduce(|a, b| a + b).unwrap();
        let gradients = gradients_by_key(&net, &GradientsParams::from_grads(loss.backward(), &net));
        let own: Vec<_> = gradients.iter().filter(|(key, _)| key.starts_with("attention.")).collect();
        assert!(own.len() >= 2, "{kind}");
        for (key, gradient) in own {
            // Positions are compared with each other: a number that all keys share changes no share.
            let shared = key.ends_with("key_conv.bias");
            assert!(shared || gradient.iter().any(|value| *value != 0.0), "{kind}: {key}");
        }
    }
}
