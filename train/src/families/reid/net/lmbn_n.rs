//! LMBN_n, the light multi-branch network of Herzog et al. 2021 (arXiv:2101.10774), on OSNet x1.0: 9.15 M parameters
//! with 751 classes and 512 features, 2.43 G multiply-adds at 384×128.
//!
//! Fields and tuples are arranged so that a parameter's path is its key in the reference's state dictionary.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d};
use burn::tensor::{Device, Tensor, assert_shape};

use crate::nn::attention::{Attention, AttentionKind, attend};
use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::{conv, halving_max_pool};

use super::erase::BatchFeatureEraseTop;
use super::head::{BnNeck, BnNeck3};
use super::lmbn_heads::{Heads, Lmbn, Maps};
use super::os_block::{ConvLayer, OsBlock};
use super::pool::Pool;

/// Channels of OSNet x1.0 after `conv1` … `conv4`.
const CHANNELS: [usize; 4] = [64, 256, 384, 512];

/// A 1×1 convolution and a halving of the size.
type Reduction = (ConvLayer, AvgPool2d);

/// What follows the trunk: conv3 without its block 0, which is the trunk's last layer (the others keep their places
/// in the keys), conv4 and conv5.
type Branch = ((Option<OsBlock>, OsBlock, Reduction), (OsBlock, OsBlock), ConvLayer);

/// The network. `backone` is spelled as in the reference's keys.
#[derive(Module, Debug)]
pub struct LmbnN {
    backone: (ConvLayer, MaxPool2d, (OsBlock, OsBlock, Reduction), OsBlock),
    global_branch: Branch,
    partial_branch: Branch,
    channel_branch: Branch,
    batch_drop_block: BatchFeatureEraseTop<OsBlock>,
    reduction_0: BnNeck3,
    reduction_1: BnNeck3,
    reduction_2: BnNeck3,
    reduction_3: BnNeck3,
    reduction_4: BnNeck3,
    shared: (Conv2d, UnbiasedBatchNorm),
    reduction_ch_0: BnNeck,
    reduction_ch_1: BnNeck,
    /// Behind conv2 and behind the trunk, if there is any.
    attention: Vec<Attention>,
}

impl LmbnN {
    /// The network for `classes` training identities and `features` values per part, not yet initialised.
    pub(super) fn new(classes: usize, features: usize, attention: AttentionKind, device: &Device) -> Self {
        let [c0, c1, c2, c3] = CHANNELS;
        let block = |input, output| OsBlock::new(input, output, device);
        let halve = |channels| -> Reduction {
            let pool = AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
            (ConvLayer::pointwise(channels, channels, device), pool)
        };
        let branch = || -> Branch {
            let conv3 = (None, block(c2, c2), halve(c2));
            (conv3, (block(c2, c3), block(c3, c3)), ConvLayer::pointwise(c3, c3, device))
        };
        let reduction = || BnNeck3::new(c3, features, classes, device);
        let conv2 = (block(c0, c1), block(c1, c1), halve(c1));
        Self {
            backone: (ConvLayer::new(3, c0, 7, 2, device), halving_max_pool(), conv2, block(c1, c2)),
            global_branch: branch(),
            partial_branch: branch(),
            channel_branch: branch(),
            batch_drop_block: BatchFeatureEraseTop::new(block(c3, c3)),
            reduction_0: reduction(),
            reduction_1: reduction(),
            reduction_2: reduction(),
            reduction_3: reduction(),
            reduction_4: reduction(),
            shared: (conv(c3 / 2, features, 1, 1, 1, device), UnbiasedBatchNorm::new(features, device)),
            reduction_ch_0: BnNeck::new(features, classes, device),
            reduction_ch_1: BnNeck::new(features, classes, device),
            attention: Attention::each(attention, [c1, c2], device),
        }
    }

    fn trunk(&self, images: Tensor<4>) -> Tensor<4> {
        let (conv1, pool, (block0, block1, (reduce, halve)), conv3) = &self.backone;
        let map = pool.forward(conv1.forward(images));
        let map = halve.forward(reduce.forward(block1.forward(block0.forward(map))));
        attend(&self.attention, 1, conv3.forward(attend(&self.attention, 0, map)))
    }
}

impl Lmbn for LmbnN {
    const NAME: &'static str = "LMBN_n";

    fn maps(&self, images: Tensor<4>) -> Maps {
        assert_shape!(images, [_, 3, _, _]);
        let trunk = self.trunk(images);
        let (erased, global) = self.batch_drop_block.forward(branch(&self.global_branch, trunk.clone()));
        let partial = branch(&self.partial_branch, trunk.clone());
        let channel = branch(&self.channel_branch, trunk);
        Maps { global, erased, partial, channel }
    }

    fn heads(&self) -> Heads<'_> {
        Heads {
            pool: Pool::Avg,
            reductions: [&self.reduction_0, &self.reduction_4, &self.reduction_1, &self.reduction_2, &self.reduction_3],
            shared: &self.shared,
            channels: [&self.reduction_ch_0, &self.reduction_ch_1],
        }
    }

    /// Of OSNet x1.0.
    fn classifier_key(key: &str) -> Option<String> {
        const TRUNK: [(&str, &str); 3] =
            [("backone.0.", "conv1."), ("backone.2.", "conv2."), ("backone.3.", "conv3.0.")];
        const BRANCH: [(&str, &str); 3] = [("0.", "conv3."), ("1.", "conv4."), ("2.", "conv5.")];
        let swap = |key: &str, table: &[(&str, &str)]| {
            table.iter().find_map(|(own, osnet)| key.strip_prefix(own).map(|rest| format!("{osnet}{rest}")))
        };
        let in_branch = ["global_branch.", "partial_branch.", "channel_branch."]
            .iter()
            .find_map(|prefix| key.strip_prefix(prefix).and_then(|rest| swap(rest, &BRANCH)));
        in_branch.or_else(|| swap(key, &TRUNK))
    }
}

fn branch(((_, block1, (reduce, halve)), (block2, block3), conv5): &Branch, trunk: Tensor<4>) -> Tensor<4> {
    let map = halve.forward(reduce.forward(block1.forward(trunk)));
    conv5.forward(block3.forward(block2.forward(map)))
}
