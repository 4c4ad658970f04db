//! Initial weights: every network starts as it always did, whatever becomes of the code that draws them.

use burn::module::Module;
use burn::tensor::Device;
use sha2::{Digest, Sha256};
use train::families::controlnet::net::{ControlNet, ControlNetConfig, EncoderKind};
use train::families::palmvein::net::{
    BackboneConfig, Branch, ConvNextConfig, EfficientVitConfig, FusionConfig, IdentityKind, Mixer, PalmVeinNet,
    PalmVeinNetConfig, Parts, Stage1Net, Stage1NetConfig,
};
use train::families::reid::net::{Network, ReidNet, ReidNetConfig, ResNet50Settings};
use train::families::senet::net::{
    ActivationKind, DualBranchConfig, DualBranchSenet, SeBlock, SenetNetConfig, SenetTripletNetwork,
};
use train::weights::StateDict;

const SEED: u64 = 11;

/// Hash of a line for each tensor: key, shape, and the value of a constant or else the first value and the root mean
/// square. Four digits: the logarithms of normal values may differ in their last bit between systems.
fn digest<M: Module>(net: &M) -> String {
    let mut hash = Sha256::new();
    for (key, data) in StateDict::of(net).iter() {
        let values: Vec<f64> = data.iter::<f64>().collect();
        let first = values.first().copied().unwrap_or_default();
        let rms = (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
        let drawn = values.iter().any(|value| *value != first);
        let what = if drawn { format!("from {first:.3e}, rms {rms:.3e}") } else { format!("all {first}") };
        hash.update(format!("{key} {:?} {what}\n", data.shape()));
    }
    hex::encode(&hash.finalize()[..8])
}

#[test]
fn every_network_starts_as_it_always_did() {
    let device = Device::flex();
    let mut found = Vec::new();
    let mut note = |name: String, digest: String| found.push((name, digest));
    let reid = |model: &str| ReidNetConfig::new(model, 5, 32).unwrap();
    let options = ResNet50Settings { drop_block: Some([0.3, 1.0]), ..ResNet50Settings::with_neck() };
    let options = ReidNetConfig { classes: 5, net: Network::ResNet50(options) };
    for config in [reid("LMBN_n"), reid("OSNet_x0_25"), reid("ResNet50"), options] {
        note(config.to_string(), digest(&ReidNet::new(&config, SEED, &device)));
    }
    let senet = SenetNetConfig { image_dim: 32, hidden_dim: 24, identity_dim: 32, ..SenetNetConfig::default() };
    let activation = ActivationKind::Gelu;
    let fixed = SenetNetConfig { learnable_fusion: false, num_layers: 1, activation, ..senet.clone() };
    for config in [senet, fixed] {
        note(config.to_string(), digest(&SenetTripletNetwork::new(&config, SEED, &device)));
    }
    let branches = DualBranchConfig { feature_dim: 32, ..DualBranchConfig::default() };
    note("dual branch".into(), digest(&DualBranchSenet::seeded(&branches, SEED, &device)));
    note("SE block".into(), digest(&SeBlock::seeded(32, 4, false, SEED, &device)));
    for encoder in [EncoderKind::Conv, EncoderKind::Resnet50, EncoderKind::Embedding] {
        let config = ControlNetConfig {
            encoder,
            features: 24,
            angles: 3,
            size: 32,
            control_layers: 2,
            dropout: 0.1,
            pose_scale: 1.0,
        };
        note(config.to_string(), digest(&ControlNet::new(&config, SEED, &device)));
    }
    let cnn = ConvNextConfig { depths: [1, 1, 2, 1], dims: [8, 16, 24, 32], ..ConvNextConfig::default() };
    let vit = |mixer| EfficientVitConfig {
        mixer,
        embed_dim: [16, 24, 32],
        key_dim: [4, 4, 4],
        depth: [1, 1, 1],
        num_heads: [2, 2, 2],
        img_size: 64,
        ..EfficientVitConfig::default()
    };
    for (parts, spatial, mixer) in [
        (Parts::Attention, false, Mixer::Global),
        (Parts::Attention, true, Mixer::Cascaded),
        (Parts::Concat, true, Mixer::Global),
    ] {
        let fusion = FusionConfig {
            out_dim_global: 16,
            out_dim_local: 16,
            use_spatial_fusion: spatial,
            parts,
            classes: 5,
            ..FusionConfig::default()
        };
        let config =
            PalmVeinNetConfig { vit: vit(mixer), cnn: cnn.clone(), fusion, share_backbones: false, centers: true };
        note(format!("{config}, {mixer:?}"), digest(&PalmVeinNet::new(&config, SEED, &device).unwrap()));
    }
    let stage1 = [
        (Branch::VitPalm, BackboneConfig::Vit(vit(Mixer::Global)), Some(IdentityKind::Linear)),
        (Branch::CnnVein, BackboneConfig::Cnn(cnn), Some(IdentityKind::Cosine)),
    ];
    for (branch, backbone, identity) in stage1 {
        let config = Stage1NetConfig { branch, backbone, classes: 5, identity };
        note(format!("stage 1 of {branch}"), digest(&Stage1Net::new(&config, SEED, &device).unwrap()));
    }
    for model in ["LMBN_r", "PCB", "MGN", "OSNet_IBN", "OSNet_AIN", "OSNet_x1_25", "ResNet50_IBN"] {
        let config = reid(model);
        note(config.to_string(), digest(&ReidNet::new(&config, SEED, &device)));
    }
    let wanted = [
        "9f3d6c734f62df86",
        "9a219d24aae8ec1c",
        "ba30679ff25acee1",
        "d411882fc3628742",
        "25bdc074bb657d86",
        "abc4d0a90ea8f673",
        "a1b2195ef941f229",
        "2f8102286e5e676f",
        "1d472fc8ed43cd5b",
        "e3045a5d866f9cd8",
        "b24fd7a0b1ccd9b5",
        "a812de6c8555314a",
        "9f5690e307d90692",
        "1efd90eb9066969c",
        "5c445f099aeefd46",
        "7df9b43c5c6d3dec",
        "b74bed82ad4a35bf",
        "8f6d947d35d13836",
        "0f602a9204ea81dc",
        "8654d12e0eb900d3",
        "6b3aea940f9f7b31",
        "e4da37194c2408e6",
        "f02d2091576daf33",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    let changed: Vec<_> = found.iter().zip(wanted).filter(|((_, digest), wanted)| digest != wanted).collect();
    assert!(changed.is_empty(), "networks start with other weights: {changed:#?}");
}
