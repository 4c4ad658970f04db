//! The real networks. They need the `cli` feature, where training and export meet.

#![cfg(feature = "cli")]

use burn::tensor::{Device, Tensor};
use export::Exporter;
use train::families::reid::net::{Network, ReidNet, ReidNetConfig, ResNet50Settings};

use crate::{batch_of, operators, verified};

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
