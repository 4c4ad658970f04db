//! LMBN_r, the multi-branch network of Herzog et al. 2021 (arXiv:2101.10774) on ResNet-50: 77.5 M parameters with 751
//! classes and 512 features, 12.1 G multiply-adds at 384×128.
//!
//! Fields and tuples are arranged so that a parameter's path is its key in the reference's state dictionary.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};

use crate::nn::attention::{Attention, AttentionKind};
use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::conv;
use crate::nn::resnet::{Bottleneck, RESNET_FEATURES};

use super::erase::BatchFeatureEraseTop;
use super::head::{BnNeck, BnNeck3};
use super::lmbn_heads::{Heads, Lmbn, Maps};
use super::pool::Pool;
use super::resnet_branch::{self as resnet, Branch, Trunk};

/// The network. `backone` is spelled as in the reference's keys.
#[derive(Module, Debug)]
pub struct LmbnR {
    backone: Trunk,
    global_branch: Branch,
    partial_branch: Branch,
    channel_branch: Branch,
    batch_drop_block: BatchFeatureEraseTop<Bottleneck>,
    reduction_0: BnNeck3,
    reduction_1: BnNeck3,
    reduction_2: BnNeck3,
    reduction_3: BnNeck3,
    reduction_drop: BnNeck3,
    shared: (Conv2d, UnbiasedBatchNorm),
    reduction_ch_0: BnNeck,
    reduction_ch_1: BnNeck,
    /// Behind the second stage and behind the trunk, if there is any.
    attention: Vec<Attention>,
}

impl LmbnR {
    /// The network for `classes` training identities and `features` values per part, not yet initialised.
    pub(super) fn new(classes: usize, features: usize, attention: AttentionKind, device: &Device) -> Self {
        let reduction = || BnNeck3::new(RESNET_FEATURES, features, classes, device);
        Self {
            backone: resnet::trunk(device),
            global_branch: resnet::branch(2, device),
            partial_branch: resnet::branch(1, device),
            channel_branch: resnet::branch(1, device),
            batch_drop_block: BatchFeatureEraseTop::new(Bottleneck::new(
                RESNET_FEATURES,
                RESNET_FEATURES / 4,
                1,
                device,
            )),
            reduction_0: reduction(),
            reduction_1: reduction(),
            reduction_2: reduction(),
            reduction_3: reduction(),
            reduction_drop: reduction(),
            shared: (conv(RESNET_FEATURES / 2, features, 1, 1, 1, device), UnbiasedBatchNorm::new(features, device)),
            reduction_ch_0: BnNeck::new(features, classes, device),
            reduction_ch_1: BnNeck::new(features, classes, device),
            attention: resnet::attention(attention, device),
        }
    }
}

impl Lmbn for LmbnR {
    const NAME: &'static str = "LMBN_r";

    fn maps(&self, images: Tensor<4>) -> Maps {
        let trunk = resnet::trunk_map(&self.backone, &self.attention, images);
        let global = resnet::branch_map(&self.global_branch, trunk.clone());
        let (erased, global) = self.batch_drop_block.forward(global);
        let partial = resnet::branch_map(&self.partial_branch, trunk.clone());
        let channel = resnet::branch_map(&self.channel_branch, trunk);
        Maps { global, erased, partial, channel }
    }

    fn heads(&self) -> Heads<'_> {
        Heads {
            pool: Pool::Max,
            reductions: [
                &self.reduction_0,
                &self.reduction_drop,
                &self.reduction_1,
                &self.reduction_2,
                &self.reduction_3,
            ],
            shared: &self.shared,
            channels: [&self.reduction_ch_0, &self.reduction_ch_1],
        }
    }

    fn classifier_key(key: &str) -> Option<String> {
        resnet::classifier_key(key, &["global_branch", "partial_branch", "channel_branch"])
    }
}
