//! The loss of a head that fuses two modalities in two branches: classification, agreement of the branches, balance of
//! the attention, and class centres.

use burn::tensor::{Int, Tensor};

use crate::words::words;

use super::LossTerms;
use super::cross_entropy::CrossEntropy;
use crate::nn::vector::unit_or_zero;

/// Divisor of the cosines in the consistency term.
const TEMPERATURE: f64 = 0.07;

words! {
    /// Which terms count, and their weights.
    FusionMode (Standard) {
        /// Classification.
        Simple = "simple",
        /// `Simple`, and consistency with weight 0.1.
        Standard = "standard",
        /// `Standard`, and attention with weight 0.05.
        Full = "full",
        /// `Full`, and centres with weight 0.01.
        Advanced = "advanced",
    }
}

/// Weights of the terms. A term with weight 0 is not computed.
#[derive(Debug, Clone, PartialEq)]
pub struct FusionLoss {
    /// Cross entropy of the logits.
    pub cls: f64,
    /// Agreement of global and local features.
    pub consistency: f64,
    /// Balance of the attention between palm and vein.
    pub attention: f64,
    /// Distance to the class centre.
    pub center: f64,
    /// Label smoothing of the cross entropy.
    pub label_smoothing: f64,
}

/// Inputs of the loss. A term whose input is missing is left out.
#[derive(Debug, Clone)]
pub struct FusionTerms {
    /// Logits, with margin in training, `[batch, classes]`.
    pub logits: Tensor<2>,
    /// Fused features of the global and the local branch, each `[batch, width]`.
    pub branches: Option<[Tensor<2>; 2]>,
    /// Attention weights of palm and vein, all values of a batch, `[values]`; one entry per branch with attention.
    pub attention: Vec<[Tensor<1>; 2]>,
    /// Embeddings, `[batch, embedding]`, and class centres, `[classes, embedding]`, not necessarily of unit length.
    pub centers: Option<(Tensor<2>, Tensor<2>)>,
}

impl FusionLoss {
    /// The weights of a mode, with label smoothing 0.1.
    pub fn new(mode: FusionMode) -> Self {
        let (consistency, attention, center) = match mode {
            FusionMode::Simple => (0.0, 0.0, 0.0),
            FusionMode::Standard => (0.1, 0.0, 0.0),
            FusionMode::Full => (0.1, 0.05, 0.0),
            FusionMode::Advanced => (0.1, 0.05, 0.01),
        };
        Self { cls: 1.0, consistency, attention, center, label_smoothing: 0.1 }
    }

    /// The loss of one batch.
    ///
    /// # Shapes
    /// - `terms`: see [`FusionTerms`]
    /// - `classes`: `[batch]`, 0..`classes`
    /// - returns: `[1]` each
    ///
    /// # Panics
    /// If the batch sizes differ, or the branches' widths when consistency counts.
    pub fn forward(&self, terms: FusionTerms, classes: Tensor<1, Int>) -> LossTerms {
        let FusionTerms { logits, branches, attention, centers } = terms;
        let [_, num_classes] = logits.dims();
        let cls = CrossEntropy { num_classes, smoothing: self.label_smoothing }.forward(logits, classes.clone());
        let mut terms = vec![("cls".to_owned(), cls.mul_scalar(self.cls))];
        let mut add = |name: &str, weight: f64, value: Option<Tensor<1>>| {
            if let Some(value) = value {
                terms.push((name.to_owned(), value.mul_scalar(weight)));
            }
        };
        if self.consistency > 0.0 {
            add("consistency", self.consistency, branches.map(|[global, local]| consistency(global, local)));
        }
        if self.attention > 0.0 {
            let count = attention.len() as f64;
            let sum = attention.into_iter().map(|[palm, vein]| balance(palm, vein)).reduce(|sum, item| sum + item);
            add("attention", self.attention, sum.map(|sum| sum.div_scalar(count)));
        }
        if self.center > 0.0 {
            let value = centers.map(|(embedding, centers)| center(embedding, centers, classes));
            add("center", self.center, value);
        }
        LossTerms::sum(terms)
    }
}

/// InfoNCE, van den Oord et al. 2018 (arXiv:1807.03748), from global to local: each sample's global features must be
/// nearer to its own local features than to those of other samples, even of the same identity. 0 for a single sample.
/// Both are `[batch, width]`.
fn consistency(global: Tensor<2>, local: Tensor<2>) -> Tensor<1> {
    let [batch, width] = global.dims();
    let [_, other] = local.dims();
    assert_eq!(width, other, "consistency compares branches of one width");
    let scores = unit_or_zero(global).matmul(unit_or_zero(local).transpose()).div_scalar(TEMPERATURE);
    let own = Tensor::arange(0..batch as i64, &scores.device());
    CrossEntropy { num_classes: batch, smoothing: 0.0 }.forward(scores, own)
}

/// Squared distance of both means from ½, plus a tenth of exp(−variance), which rewards decisive weights.
fn balance(palm: Tensor<1>, vein: Tensor<1>) -> Tensor<1> {
    let term = |weights: Tensor<1>| {
        let [count] = weights.dims();
        let mean = weights.clone().mean();
        let variance = (weights - mean.clone().expand([count])).square().sum().div_scalar((count - 1).max(1) as f64);
        (mean.sub_scalar(0.5)).square() + variance.neg().exp().mul_scalar(0.1)
    };
    term(palm) + term(vein)
}

/// Mean squared distance of each embedding to its class centre, both scaled to unit length.
fn center(embedding: Tensor<2>, centers: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
    let own = unit_or_zero(centers).select(0, classes);
    (unit_or_zero(embedding) - own).square().sum_dim(1).mean()
}
