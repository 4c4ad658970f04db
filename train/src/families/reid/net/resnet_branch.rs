//! What LMBN_r and MGN have in common: a ResNet-50 whose third and fourth stage are there three times.
//!
//! Fields and tuples are arranged so that a parameter's path is its key in the reference's state dictionary.

use burn::nn::Relu;
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::tensor::{Device, Tensor, assert_shape};

use crate::nn::attention::{Attention, AttentionKind, attend};
use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::{conv, halving_max_pool};
use crate::nn::resnet::{Bottleneck, CHANNELS, RESNET50, stage, through};

/// From a picture to the first block of the third stage. The ReLU keeps its place in the keys; the norm before it does
/// its work.
pub type Trunk = (Conv2d, UnbiasedBatchNorm, Relu, MaxPool2d, Vec<Bottleneck>, Vec<Bottleneck>, Bottleneck);

/// The third stage.
fn third(device: &Device) -> Vec<Bottleneck> {
    stage(2, RESNET50[2], 2, device)
}

/// The trunk, not initialised.
pub fn trunk(device: &Device) -> Trunk {
    (
        conv(3, 64, 7, 2, 1, device),
        UnbiasedBatchNorm::new(64, device),
        Relu::new(),
        halving_max_pool(),
        stage(0, RESNET50[0], 1, device),
        stage(1, RESNET50[1], 2, device),
        third(device).swap_remove(0),
    )
}

/// Attention behind the second stage and behind the trunk.
pub fn attention(kind: AttentionKind, device: &Device) -> Vec<Attention> {
    Attention::each(kind, [CHANNELS[1], CHANNELS[2]], device)
}

/// The map behind the trunk, `[batch, 1024, height / 16, width / 16]`.
pub fn trunk_map(trunk: &Trunk, attention: &[Attention], images: Tensor<4>) -> Tensor<4> {
    assert_shape!(images, [_, 3, _, _]);
    let (conv1, norm, _, pool, layer1, layer2, first) = trunk;
    let map = pool.forward(norm.forward_relu(kernels::conv2d(conv1, images)));
    let map = attend(attention, 0, through(layer2, through(layer1, map)));
    attend(attention, 1, first.forward(map))
}

/// The rest of the third stage, and the fourth.
pub type Branch = (Vec<Bottleneck>, Vec<Bottleneck>);

/// A branch whose fourth stage has this stride, not initialised.
pub fn branch(last_stride: usize, device: &Device) -> Branch {
    (third(device).split_off(1), stage(3, RESNET50[3], last_stride, device))
}

/// The map behind a branch, `[batch, 2048, height, width]`, smaller by the last stride.
pub fn branch_map((third, fourth): &Branch, trunk: Tensor<4>) -> Tensor<4> {
    through(fourth, through(third, trunk))
}

/// The key, in torchvision's ResNet-50, of the weights that start the parameter at `key`; none for heads and attention.
/// `branches` are the names of the branches.
pub fn classifier_key(key: &str, branches: &[&str]) -> Option<String> {
    if let Some(key) = key.strip_prefix("backone.") {
        let (index, rest) = key.split_once('.')?;
        let name = match index {
            "0" => "conv1",
            "1" => "bn1",
            "4" => "layer1",
            "5" => "layer2",
            "6" => "layer3.0",
            _ => return None,
        };
        return Some(format!("{name}.{rest}"));
    }
    let (branch, key) = key.split_once('.')?;
    if !branches.contains(&branch) {
        return None;
    }
    let mut parts = key.splitn(3, '.');
    let (stage, block, rest) = (parts.next()?, parts.next()?.parse::<usize>().ok()?, parts.next()?);
    match stage {
        "0" => Some(format!("layer3.{}.{rest}", block + 1)),
        "1" => Some(format!("layer4.{block}.{rest}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_classifier() {
        let of = |key: &str| classifier_key(key, &["p1", "global_branch"]);
        for (key, wanted) in [
            ("backone.0.weight", Some("conv1.weight")),
            ("backone.1.running_mean", Some("bn1.running_mean")),
            ("backone.4.2.bn1.bias", Some("layer1.2.bn1.bias")),
            ("backone.6.downsample.0.weight", Some("layer3.0.downsample.0.weight")),
            ("p1.0.0.conv1.weight", Some("layer3.1.conv1.weight")),
            ("global_branch.1.2.bn3.weight", Some("layer4.2.bn3.weight")),
            ("p2.0.0.conv1.weight", None),
            ("reduction_0.bn.weight", None),
            ("attention.0.fc1.weight", None),
        ] {
            assert_eq!(of(key).as_deref(), wanted, "{key}");
        }
    }
}
