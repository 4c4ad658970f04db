//! The global branch: EfficientViT as the reference has it. Not the published network (arXiv:2305.07027): its default
//! mixer is plain multi-head self-attention over the whole map; cascaded group attention in windows, which an older
//! version of the reference used, is an option.

use burn::module::Module;
use burn::nn::Relu;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::{Device, Tensor, assert_shape};
use serde::{Deserialize, Serialize};

use crate::nn::init::{Init, Source};
use crate::words::words;

use super::PalmVeinError;
use super::cascaded::LocalWindow;
use super::layers::{ConvBn, Ffn, Residual};

words! {
    /// What mixes the places of a map.
    Mixer (Global) {
        /// Multi-head self-attention over the whole map, any picture size.
        Global = "global",
        /// Cascaded group attention in windows, between depthwise convolutions; for one picture size.
        Cascaded = "cascaded",
    }
}

/// Sizes of an [`EfficientVit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EfficientVitConfig {
    /// Channels of a picture.
    pub in_chans: usize,
    /// Channels of the three stages; the first a multiple of 8. The last is the width of the global vector.
    pub embed_dim: [usize; 3],
    /// Width of a query and of a key, per stage.
    pub key_dim: [usize; 3],
    /// Blocks per stage.
    pub depth: [usize; 3],
    /// Attention heads per stage; each divides the stage's channels.
    pub num_heads: [usize; 3],
    /// What mixes the places of a map.
    pub mixer: Mixer,
    /// Side of the pictures; of numeric effect for [`Mixer::Cascaded`] only.
    pub img_size: usize,
    /// Side of the windows, per stage; of numeric effect for [`Mixer::Cascaded`] only.
    pub window_size: [usize; 3],
}

impl Default for EfficientVitConfig {
    fn default() -> Self {
        Self {
            in_chans: 1,
            embed_dim: [64, 128, 192],
            key_dim: [16, 16, 16],
            depth: [1, 2, 3],
            num_heads: [4, 4, 4],
            mixer: Mixer::Global,
            img_size: 224,
            window_size: [7, 7, 7],
        }
    }
}

impl EfficientVitConfig {
    /// # Errors
    /// If the sizes make no network.
    pub fn check(&self) -> Result<(), PalmVeinError> {
        let refuse = |what: &'static str, found: String, allowed: &'static str| {
            Err(PalmVeinError::Config { what, found, allowed })
        };
        let all = [&self.embed_dim, &self.key_dim, &self.depth, &self.num_heads, &self.window_size];
        if self.in_chans == 0 || all.iter().any(|sizes| sizes.contains(&0)) {
            return refuse("EfficientViT size", format!("{self:?}"), "none of its numbers is 0");
        }
        if !self.embed_dim[0].is_multiple_of(8) {
            return refuse("first width of EfficientViT", self.embed_dim[0].to_string(), "a multiple of 8");
        }
        for (width, heads) in self.embed_dim.iter().zip(self.num_heads) {
            if !width.is_multiple_of(heads) {
                return refuse("EfficientViT heads", format!("{heads} for width {width}"), "a divisor of the width");
            }
        }
        if self.mixer == Mixer::Cascaded && self.img_size < 16 {
            return refuse("picture side of cascaded attention", self.img_size.to_string(), "16 or more");
        }
        Ok(())
    }

    /// Width of the global vector.
    pub fn features(&self) -> usize {
        self.embed_dim[2]
    }

    /// Side of the map in each stage: a sixteenth of the picture, then halved and rounded up twice.
    fn resolutions(&self) -> [usize; 3] {
        let first = self.img_size / 16;
        [first, first.div_ceil(2), first.div_ceil(2).div_ceil(2)]
    }
}

/// The smallest multiple of 8 that is near `value` and not below 90 % of it; at least 8.
fn near_multiple_of_8(value: usize) -> usize {
    let near = ((value + 4) / 8 * 8).max(8);
    if near * 10 < value * 9 { near + 8 } else { near }
}

/// Multi-head self-attention over the places of a map.
#[derive(Module, Debug)]
pub struct Attention {
    qkv: ConvBn,
    proj: (Relu, ConvBn),
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    key_dim: usize,
}

impl Attention {
    fn new(channels: usize, key_dim: usize, heads: usize, device: &Device) -> Self {
        Self {
            qkv: ConvBn::pointwise(channels, heads * 2 * key_dim + channels, device),
            proj: (Relu::new(), ConvBn::pointwise(channels, channels, device)),
            heads,
            key_dim,
        }
    }

    /// `[batch, channels, height, width]` to the same. Each head owns neighbouring channels: queries, keys, values.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = input.dims();
        let (heads, key_dim, places) = (self.heads, self.key_dim, height * width);
        let value_dim = channels / heads;
        let qkv = self.qkv.forward(input).reshape([batch, heads, 2 * key_dim + value_dim, places]);
        let query = qkv.clone().narrow(2, 0, key_dim);
        let key = qkv.clone().narrow(2, key_dim, key_dim);
        let value = qkv.narrow(2, 2 * key_dim, value_dim);
        let similarity = query.swap_dims(2, 3).matmul(key).mul_scalar((key_dim as f64).powf(-0.5));
        let weights = softmax(similarity, 3);
        let mixed = value.matmul(weights.swap_dims(2, 3)).reshape([batch, channels, height, width]);
        self.proj.1.forward(relu(mixed))
    }
}

/// What mixes the places of a map; keys tell the kinds apart.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "few of them exist, and Burn derives no module for a box")]
pub enum TokenMixer {
    /// See [`Mixer::Global`].
    Global(Attention),
    /// See [`Mixer::Cascaded`].
    Cascaded(LocalWindow),
}

impl TokenMixer {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Global(attention) => attention.forward(input),
            Self::Cascaded(window) => window.forward(input),
        }
    }
}

/// FFN, attention, FFN, each added to its input; depthwise convolutions before both FFNs in the cascaded kind.
#[derive(Module, Debug)]
pub struct Block {
    dw0: Option<Residual<ConvBn>>,
    ffn0: Residual<Ffn>,
    mixer: Residual<TokenMixer>,
    dw1: Option<Residual<ConvBn>>,
    ffn1: Residual<Ffn>,
}

impl Block {
    fn new(config: &EfficientVitConfig, stage: usize, device: &Device) -> Self {
        let (channels, key_dim, heads) = (config.embed_dim[stage], config.key_dim[stage], config.num_heads[stage]);
        let depthwise = || Residual { m: ConvBn::depthwise(channels, 3, 1, device) };
        let cascaded = config.mixer == Mixer::Cascaded;
        let mixer = match config.mixer {
            Mixer::Global => TokenMixer::Global(Attention::new(channels, key_dim, heads, device)),
            Mixer::Cascaded => {
                let side = config.window_size[stage].min(config.resolutions()[stage]);
                TokenMixer::Cascaded(LocalWindow::new(channels, key_dim, heads, side, device))
            }
        };
        Self {
            dw0: cascaded.then(depthwise),
            ffn0: Residual { m: Ffn::new(channels, device) },
            mixer: Residual { m: mixer },
            dw1: cascaded.then(depthwise),
            ffn1: Residual { m: Ffn::new(channels, device) },
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.steps(input).ffn1
    }

    fn steps(&self, input: Tensor<4>) -> BlockSteps {
        let depthwise = |residual: &Option<Residual<ConvBn>>, map: Tensor<4>| match residual {
            Some(residual) => map.clone() + residual.m.forward(map),
            None => map,
        };
        let dw0 = depthwise(&self.dw0, input);
        let ffn0 = dw0.clone() + self.ffn0.m.forward(dw0.clone());
        let mixer = ffn0.clone() + self.mixer.m.forward(ffn0.clone());
        let map = depthwise(&self.dw1, mixer.clone());
        let ffn1 = map.clone() + self.ffn1.m.forward(map);
        BlockSteps { dw0, ffn0, mixer, ffn1 }
    }
}

/// Maps behind the parts of a block, `[batch, channels, height, width]` each.
pub struct BlockSteps {
    /// Behind the first depthwise convolution; the input where there is none.
    pub dw0: Tensor<4>,
    /// Behind the first FFN.
    pub ffn0: Tensor<4>,
    /// Behind the attention.
    pub mixer: Tensor<4>,
    /// Behind the last FFN: the block's output.
    pub ffn1: Tensor<4>,
}

/// Gate per channel from the global average, reduction 4.
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    fc1: Conv2d,
    fc2: Conv2d,
}

impl SqueezeExcite {
    fn new(channels: usize, device: &Device) -> Self {
        let hidden = near_multiple_of_8(channels / 4);
        let conv = |input, output| Conv2dConfig::new([input, output], [1, 1]).init(device);
        Self { fc1: conv(channels, hidden), fc2: conv(hidden, channels) }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let pooled = relu(kernels::conv2d(&self.fc1, kernels::global_avg_pool(input.clone())));
        input * sigmoid(kernels::conv2d(&self.fc2, pooled))
    }
}

/// Halves the map, rounding up, and widens the channels.
#[derive(Module, Debug)]
pub struct PatchMerging {
    conv1: ConvBn,
    conv2: ConvBn,
    se: SqueezeExcite,
    conv3: ConvBn,
}

impl PatchMerging {
    fn new(input: usize, output: usize, device: &Device) -> Self {
        let hidden = 4 * input;
        Self {
            conv1: ConvBn::pointwise(input, hidden, device),
            conv2: ConvBn::depthwise(hidden, 3, 2, device),
            se: SqueezeExcite::new(hidden, device),
            conv3: ConvBn::pointwise(hidden, output, device),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let map = self.conv2.forward_relu(self.conv1.forward_relu(input));
        self.conv3.forward(self.se.forward(map))
    }
}

/// A depthwise convolution and an FFN, each added to its input: what surrounds a [`PatchMerging`].
type Around = (Residual<ConvBn>, Residual<Ffn>);

/// One entry of a stage's sequence.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "few of them exist, and Burn derives no module for a box")]
pub enum Layer {
    /// Before and after the merging.
    Around(Around),
    /// The merging.
    Merge(PatchMerging),
    /// A block.
    Block(Block),
}

impl Layer {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Around((conv, ffn)) => {
                let map = input.clone() + conv.m.forward(input);
                map.clone() + ffn.m.forward(map)
            }
            Self::Merge(merge) => merge.forward(input),
            Self::Block(block) => block.forward(input),
        }
    }
}

/// The network. Parameter paths are the reference's keys.
#[derive(Module, Debug)]
pub struct EfficientVit {
    patch_embed: (ConvBn, Relu, ConvBn, Relu, ConvBn, Relu, ConvBn),
    blocks1: Vec<Layer>,
    blocks2: Vec<Layer>,
    blocks3: Vec<Layer>,
    #[module(skip)]
    side: Option<usize>,
}

impl EfficientVit {
    /// The network, not yet initialised.
    ///
    /// # Errors
    /// See [`EfficientVitConfig::check`].
    pub fn new(config: &EfficientVitConfig, device: &Device) -> Result<Self, PalmVeinError> {
        config.check()?;
        let first = config.embed_dim[0];
        let halve = |input, output| ConvBn::new(input, output, 3, 2, 1, device);
        let stage = |index: usize| {
            let channels = config.embed_dim[index];
            let around = |channels| {
                let conv = Residual { m: ConvBn::depthwise(channels, 3, 1, device) };
                Layer::Around((conv, Residual { m: Ffn::new(channels, device) }))
            };
            let mut layers = Vec::new();
            if let Some(before) = index.checked_sub(1).map(|index| config.embed_dim[index]) {
                layers.push(around(before));
                layers.push(Layer::Merge(PatchMerging::new(before, channels, device)));
                layers.push(around(channels));
            }
            layers.extend((0..config.depth[index]).map(|_| Layer::Block(Block::new(config, index, device))));
            layers
        };
        let patch_embed = (
            halve(config.in_chans, first / 8),
            Relu::new(),
            halve(first / 8, first / 4),
            Relu::new(),
            halve(first / 4, first / 2),
            Relu::new(),
            halve(first / 2, first),
        );
        let side = (config.mixer == Mixer::Cascaded).then_some(config.img_size);
        Ok(Self { patch_embed, blocks1: stage(0), blocks2: stage(1), blocks3: stage(2), side })
    }

    /// The map, `pool` = false in the reference: `[batch, in_chans, height, width]` to
    /// `[batch, features, ⌈height / 64⌉, ⌈width / 64⌉]` (each of six halvings rounds up).
    ///
    /// # Panics
    /// If the mixer is cascaded and the picture is not of the network's size.
    pub fn spatial(&self, images: Tensor<4>) -> Tensor<4> {
        self.stages(images).pop().expect("three stages")
    }

    /// The global vector, `pool` = true in the reference: the mean of [`EfficientVit::spatial`], `[batch, features]`.
    ///
    /// # Panics
    /// As [`EfficientVit::spatial`].
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        kernels::global_avg_pool(self.spatial(images)).flatten(1, 3)
    }

    /// Maps behind the patch embedding and each stage.
    ///
    /// # Panics
    /// As [`EfficientVit::spatial`].
    pub fn stages(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        if let Some(side) = self.side {
            assert_shape!(images, [_, _, side, side]);
        }
        let (conv0, _, conv1, _, conv2, _, conv3) = &self.patch_embed;
        let map = conv2.forward_relu(conv1.forward_relu(conv0.forward_relu(images)));
        let mut maps = vec![conv3.forward(map)];
        for blocks in [&self.blocks1, &self.blocks2, &self.blocks3] {
            let map = maps.last().expect("one was put there").clone();
            maps.push(blocks.iter().fold(map, |map, layer| layer.forward(map)));
        }
        maps
    }

    /// Maps behind the parts of the first block, given what the patch embedding gives.
    pub fn first_block(&self, embedded: Tensor<4>) -> BlockSteps {
        match self.blocks1.first() {
            Some(Layer::Block(block)) => block.steps(embedded),
            _ => unreachable!("the first stage starts with a block"),
        }
    }

    /// How the parameter at `key` starts: branches that are added to their input start at zero.
    pub(crate) fn init(key: &str) -> Init {
        let zero = key.ends_with(".pw2.bn.weight")
            || key.ends_with(".proj.1.bn.weight")
            || [".dw0.m.bn.weight", ".dw1.m.bn.weight"].iter().any(|end| key.ends_with(end));
        match key {
            _ if zero || key.ends_with(".attention_biases") => Init::Constant(0.0),
            _ => Init::UniformFanIn,
        }
    }
}

/// Where the weights of a branch called `name` come from.
pub(crate) fn source(name: &str, key: &str) -> Source {
    Source { name: format!("{name}.{key}"), init: EfficientVit::init(key) }
}
