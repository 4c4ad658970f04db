//! The real networks. They need the `cli` feature, where training and export meet.

#![cfg(feature = "cli")]

use burn::tensor::{Device, Tensor};
use export::Exporter;
use train::families::reid::net::{Network, ReidNet, ReidNetConfig, ResNet50Settings};
use train::nn::attention::AttentionKind;
use train::words::Word;

use crate::{batch_of, filled, operators, verified};

#[test]
fn lmbn_n_agrees_with_burn() {
    let config = ReidNetConfig::new("LMBN_n", 10, 512).unwrap();
    let net = ReidNet::new(&config, 1, &Device::flex());
    let start = std::time::Instant::now();
    let model = Exporter::new("LMBN_n")
        .input("image", batch_of(&[3, 384, 128]))
        .output("features")
        .export(&net, |net: &ReidNet, images: Tensor<4>| net.embed(images))
        .unwrap();
    println!("exported in {:.2} s", start.elapsed().as_secs_f64());
    let operators = operators(&model);
    let count = |name: &str| operators.iter().filter(|operator| *operator == name).count();
    // Two necks follow an activation, so no convolution can take them in.
    assert_eq!(count("BatchNormalization"), 2, "{operators:?}");
    let names: Vec<&str> = model.graph().nodes.iter().map(|node| node.name.as_str()).collect();
    assert!(names.contains(&"partial_branch.1.0.conv2b.0.conv1"), "{names:?}");
    verified(&model);
}

/// Exports a network of weights that follow from their names (fresh attention would add nothing) and compares it with
/// Burn; its operators. `form` tells it from others of the same network.
fn exported(form: &str, net: Network, size: [usize; 2]) -> Vec<String> {
    let config = ReidNetConfig { classes: 10, net };
    let net = filled(ReidNet::new(&config, 1, &Device::flex()));
    let model = Exporter::new(format!("{}-{form}", config.net.name()))
        .input("image", batch_of(&[3, size[0], size[1]]))
        .output("features")
        .export(&net, |net: &ReidNet, images: Tensor<4>| net.embed(images))
        .unwrap();
    verified(&model);
    operators(&model)
}

fn count(operators: &[String], name: &str) -> usize {
    operators.iter().filter(|operator| *operator == name).count()
}

fn named(name: &str) -> Network {
    Network::named(name).unwrap().with("feats", 64).unwrap()
}

#[test]
fn osnet_and_resnet50_agree_with_burn() {
    let block = ResNet50Settings { drop_block: Some([0.3, 1.0]), ..ResNet50Settings::default() };
    for (net, convolutions) in [
        (Network::named("OSNet").unwrap(), 187),
        (Network::ResNet50(ResNet50Settings::with_neck()), 53),
        (Network::ResNet50(block).with("feats", 64).unwrap(), 53),
    ] {
        let config = ReidNetConfig { classes: 10, net };
        let net = ReidNet::new(&config, 1, &Device::flex());
        let model = Exporter::new(format!("{}-{}", config.net.name(), config.net.features()))
            .input("image", batch_of(&[3, 128, 64]))
            .output("features")
            .export(&net, |net: &ReidNet, images: Tensor<4>| net.embed(images))
            .unwrap();
        let operators = operators(&model);
        assert_eq!(operators.iter().filter(|operator| *operator == "Conv").count(), convolutions, "{operators:?}");
        verified(&model);
    }
}

/// Instance norms are one operator each, 2 + 1 in OSNet-IBN, 4 + 1 in OSNet-AIN.
#[test]
fn networks_with_instance_norms_agree_with_burn() {
    for (name, norms) in [("OSNet_IBN", 3), ("OSNet_AIN", 5)] {
        let operators = exported("whole", named(name), [128, 64]);
        assert_eq!(count(&operators, "InstanceNormalization"), norms, "{name}: {operators:?}");
    }
}

/// Three stripes of eight rows share rows.
#[test]
fn networks_with_stripes_agree_with_burn() {
    exported("3-parts", named("PCB").with("parts", 3).unwrap(), [128, 64]);
    exported("necks", named("PCB").with("bnneck", true).unwrap(), [96, 32]);
    exported("avg", named("MGN"), [96, 32]);
    exported("max", named("MGN").with("pool", "max").unwrap(), [96, 32]);
}

#[test]
fn lmbn_r_agrees_with_burn() {
    exported("whole", named("LMBN_r"), [64, 32]);
}

#[test]
fn attention_between_blocks_agrees_with_burn() {
    for kind in AttentionKind::WORDS {
        exported(kind, named("LMBN_n").with("attention", *kind).unwrap(), [64, 32]);
    }
    exported("dual", named("ResNet50").with("attention", "dual").unwrap(), [64, 32]);
    exported("cbam", named("MGN").with("attention", "cbam").unwrap(), [64, 32]);
}
