//! What LMBN_n and LMBN_r have in common: seven heads on the maps of three branches.

use burn::nn::conv::Conv2d;
use burn::tensor::{Tensor, TensorData};

use crate::nn::attention;
use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::init::{Init, Source};

use super::head::{BnNeck, BnNeck3};
use super::pool::Pool;
use super::{Draws, ReidModule, TrainOutput};

/// Parts of an embedding: global, erased, whole body, upper, lower, two halves of the channels.
const PARTS: usize = 7;

/// What the branches make of pictures, each `[batch, channels, height, width]`.
pub struct Maps {
    /// Of the global branch behind the block that erases.
    pub global: Tensor<4>,
    /// The same map with erased rows; in evaluation none are.
    pub erased: Tensor<4>,
    /// Of the partial branch.
    pub partial: Tensor<4>,
    /// Of the channel branch.
    pub channel: Tensor<4>,
}

/// The seven heads of a network.
pub struct Heads<'a> {
    /// How the maps of the global branch and of the channel branch become vectors.
    pub pool: Pool,
    /// On global, erased, whole body, upper and lower.
    pub reductions: [&'a BnNeck3; 5],
    /// Reduction of either half of the channels.
    pub shared: &'a (Conv2d, UnbiasedBatchNorm),
    /// On the halves of the channels.
    pub channels: [&'a BnNeck; 2],
}

/// A network whose three branches end in these heads.
pub trait Lmbn {
    /// Name in messages.
    const NAME: &'static str;

    /// What the branches make of pictures, `[batch, 3, height, width]`.
    fn maps(&self, images: Tensor<4>) -> Maps;

    /// The heads.
    fn heads(&self) -> Heads<'_>;

    /// The key, in the ImageNet classifier on its backbone, of the weights that start the parameter at `key`; none for
    /// heads and attention.
    fn classifier_key(key: &str) -> Option<String>;
}

impl<M: Lmbn> ReidModule for M {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn forward(&self, images: Tensor<4>, _: Draws) -> TrainOutput {
        self.heads().forward(self.maps(images))
    }

    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        self.heads().embed(self.maps(images))
    }

    /// Those that LightMBN draws, but for the erased one: in evaluation nothing is erased.
    fn feature_maps(&self, images: Tensor<4>) -> Vec<(&'static str, Tensor<4>)> {
        let Maps { global, partial, channel, .. } = self.maps(images);
        let [_, _, height, _] = partial.dims();
        // As the pool of two stripes has them.
        let (upper, lower) = (rows(&partial, 0, height.div_ceil(2)), rows(&partial, height / 2, height));
        let halves = channel.chunk(2, 1).into_iter();
        let channels = ["first channels", "last channels"].into_iter().zip(halves);
        [("global", global)].into_iter().chain(channels).chain([("upper", upper), ("lower", lower)]).collect()
    }

    fn parts(&self) -> usize {
        PARTS
    }

    fn init(&self) -> fn(&str) -> Source {
        source
    }

    fn backbone_key(&self) -> fn(&str) -> Option<String> {
        M::classifier_key
    }
}

/// A map with zeros everywhere but in the rows from `first` to `end`.
fn rows(map: &Tensor<4>, first: usize, end: usize) -> Tensor<4> {
    let [_, _, height, _] = map.dims();
    let kept = (0..height).map(|row| f32::from((first..end).contains(&row))).collect::<Vec<_>>();
    let kept = Tensor::<4>::from_data(TensorData::new(kept, [1, 1, height, 1]), &map.device());
    map.clone() * kept.cast(map.dtype())
}

/// The pooled vectors that the seven heads read, each `[batch, channels, 1, 1]`, in the order of the parts.
struct Pooled {
    reduced: [Tensor<4>; 5],
    channels: [Tensor<4>; 2],
}

impl Heads<'_> {
    fn pool(&self, maps: Maps) -> Pooled {
        let (global, channel) = (self.pool.whole(maps.global), self.pool.whole(maps.channel));
        let mut halves = Pool::Avg.stripes(maps.partial.clone(), 2).into_iter();
        let (Some(upper), Some(lower)) = (halves.next(), halves.next()) else { unreachable!("two were asked for") };
        let [_, channels, ..] = channel.dims();
        let half = channels / 2;
        let shared = |part: usize| {
            let (reduce, norm) = self.shared;
            norm.forward_relu(kernels::conv2d(reduce, channel.clone().narrow(1, part * half, half)))
        };
        let [erased, partial] = [maps.erased, maps.partial].map(|map| Pool::Max.whole(map));
        Pooled { reduced: [global, erased, partial, upper, lower], channels: [shared(0), shared(1)] }
    }

    /// Training: seven scores, and the metric losses' three features: global, erased, whole body.
    pub fn forward(&self, maps: Maps) -> TrainOutput {
        let pooled = self.pool(maps);
        let reduced = self.reductions.into_iter().zip(pooled.reduced).map(|(head, vector)| head.forward(vector));
        let channels = self.channels.into_iter().zip(pooled.channels).map(|(head, vector)| head.forward(vector));
        let (scores, before): (Vec<_>, Vec<_>) = reduced.chain(channels).map(|head| (head.scores, head.before)).unzip();
        TrainOutput { scores, features: before.into_iter().take(3).collect() }
    }

    /// Evaluation: features after the neck, `[batch, features, 7]`.
    pub fn embed(&self, maps: Maps) -> Tensor<3> {
        let pooled = self.pool(maps);
        let reduced = self.reductions.into_iter().zip(pooled.reduced).map(|(head, vector)| head.embed(vector));
        let channels = self.channels.into_iter().zip(pooled.channels).map(|(head, vector)| head.embed(vector));
        Tensor::stack(reduced.chain(channels).collect(), 2)
    }
}

/// How the parameter at `key` starts. Branches and reductions are copies of one another.
fn source(key: &str) -> Source {
    let twin = |prefix: &str, original: &str| key.strip_prefix(prefix).map(|rest| format!("{original}{rest}"));
    let name = twin("partial_branch.", "global_branch.")
        .or_else(|| twin("channel_branch.", "global_branch."))
        .or_else(|| (1..5).find_map(|k| twin(&format!("reduction_{k}."), "reduction_0.")))
        .or_else(|| twin("reduction_drop.", "reduction_0."))
        .unwrap_or_else(|| key.to_owned());
    let init = if key.ends_with("classifier.weight") {
        Init::Normal { std: 0.001 }
    } else if key.contains("reduction") || key.starts_with("shared") || key.starts_with("batch_drop_block") {
        Init::UniformFanIn
    } else if key.starts_with("attention.") {
        attention::init(key)
    } else {
        Init::NormalFanOut
    };
    Source { name, init }
}
