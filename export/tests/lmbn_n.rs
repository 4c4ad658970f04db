//! The real networks. They need the `cli` feature, where training and export meet.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor, TensorData};
use export::Exporter;
use train::families::reid::net::{Network, ReidNet, ReidNetConfig, ResNet50Settings};
use train::nn::attention::AttentionKind;
use train::nn::instance_norm::{InstanceBatchNorm, MapNorm};
use train::words::Word;

use crate::operations::session;
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

/// What non-local blocks add grows with the cube of a map: with weights that nobody trained the next ones would
/// overflow.
#[derive(Default)]
struct Damped(Vec<String>);

impl ModuleMapper for Damped {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.0.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_scale = D == 1 && self.0.last().is_some_and(|name| name == "weight");
        match is_scale && self.0.iter().any(|name| name.starts_with("NL_")) {
            true => param.map(|scale| scale * 1e-4),
            false => param,
        }
    }
}

/// Exports a network of weights that follow from their names (fresh attention would add nothing) and compares it with
/// Burn; its operators. `form` tells it from others of the same network.
fn exported(form: &str, net: Network, size: [usize; 2]) -> Vec<String> {
    let config = ReidNetConfig { classes: 10, net };
    let net = filled(ReidNet::new(&config, 1, &Device::flex())).map(&mut Damped::default());
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

/// Instance norms are one operator each, 2 + 1 in OSNet-IBN, 4 + 1 in OSNet-AIN, and one in each block of three stages
/// of a ResNet with IBN-a.
#[test]
fn networks_with_instance_norms_agree_with_burn() {
    for (name, norms) in [("OSNet_IBN", 3), ("OSNet_AIN", 5), ("ResNet50_IBN", 13), ("ResNet101_IBN", 30)] {
        let operators = exported("whole", named(name), [128, 64]);
        assert_eq!(count(&operators, "InstanceNormalization"), norms, "{name}: {operators:?}");
    }
}

/// A convolution and the norm of IBN-a.
#[derive(Module, Debug)]
struct Layer {
    conv: Conv2d,
    norm: InstanceBatchNorm,
}

/// A layer whose channels do not vary on a picture of zeros, as the first block of a ResNet with IBN-a has them: its
/// instance norm must give its shift, and neither side the rounding of a mean of 3,072 numbers, 300 times as large.
#[test]
fn an_instance_norm_of_constant_channels_gives_its_shift() {
    let device = Device::flex();
    let net = filled(Layer {
        conv: Conv2dConfig::new([3, 32], [1, 1]).init(&device),
        norm: InstanceBatchNorm::of_channels(32, &device),
    });
    // The rounding of their sum is large beside the floor under a deviation.
    let net = Layer { conv: Conv2d { bias: net.conv.bias.map(|bias| bias.map(|b| b * 300.0)), ..net.conv }, ..net };
    let model = Exporter::new("constant-channels")
        .input("image", batch_of(&[3, 96, 32]))
        .output("map")
        .export(&net, |net: &Layer, images: Tensor<4>| {
            let map = net.norm.of_map(net.conv.forward(images));
            map.narrow(1, 0, 16)
        })
        .unwrap();
    verified(&model);
    let shift = contract::fill::fill("norm.IN.bias", &[16]);
    let zeros = TensorData::new(vec![0.0f32; 3 * 96 * 32], [1, 3, 96, 32]);
    let runtime = session::run(&model, std::slice::from_ref(&zeros)).unwrap().swap_remove(0);
    for (side, map) in [("Burn", model.reference(vec![zeros]).swap_remove(0)), ("ONNX Runtime", runtime)] {
        let values = map.try_to_vec::<f32>().unwrap();
        for (channel, values) in values.chunks(96 * 32).enumerate() {
            let off = values.iter().map(|value| (value - shift[channel]).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{side}, channel {channel}: {off:e} beside {}", shift[channel]);
        }
    }
}

/// ResNets as other projects have them, with their stems, strides, pools and heads.
#[test]
fn resnets_of_other_projects_agree_with_burn() {
    let of = |settings: &[&str]| settings.iter().fold(named("ResNet50"), |net, text| net.with_text(text).unwrap());
    exported("strong-baseline", of(&["stem=no-relu"]), [64, 32]);
    exported("fast-reid", of(&["stem=unpadded", "gem=learned", "non_local=true"]), [64, 32]);
    exported("agw", of(&["stem=unpadded", "gem=fixed", "non_local=true"]), [64, 32]);
    exported("torchreid-fc512", of(&["head=linear"]), [64, 32]);
    exported("torchvision", of(&["last_stride=2", "head=none"]), [64, 32]);
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
    exported("se", named("ResNet50_IBN").with("attention", "se").unwrap(), [64, 32]);
    exported("spatial", named("LMBN_r").with("attention", "spatial").unwrap(), [64, 32]);
}
