//! Losses for identity networks with the expression that weights them, and losses of generated pictures.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use train::loss::{LossParams, LossSum};
//!
//! let device = Device::flex().autodiff();
//! let params = LossParams { num_classes: 2, label_smoothing: true, feat_dim: 3, ..LossParams::default() };
//! let params = LossParams { margin: 0.7, ..params };
//! let mut loss = LossSum::new("0.5*CrossEntropy+0.5*MSLoss", &params)?;
//! let scores = Tensor::<2>::from_floats([[2.0, 0.0], [1.0, 0.5], [0.0, 1.0], [0.5, 0.5]], &device).require_grad();
//! let features = [[1.0, 0.0, 0.1], [0.9, 0.2, 0.0], [0.0, 1.0, 0.0], [0.3, 0.8, 0.1]];
//! let features = Tensor::<2>::from_floats(features, &device);
//! let classes = Tensor::from_ints([0, 0, 1, 1], &device);
//! let terms = loss.forward(&[scores], &[features], classes);
//! let gradients = terms.total.backward();
//! # Ok::<(), train::loss::LossError>(())
//! ```

mod angle_triplet;
mod center;
mod cosine_triplet;
mod cross_entropy;
mod focal;
mod fusion;
mod identity_preserving;
mod multi_similarity;
mod pairs;
mod picture;
mod ranked_list;
mod triplet;

pub use angle_triplet::{AngleTriplet, AngleTripletTerms, RECONSTRUCTION, Triple};
pub use center::{CenterLoss, CenterRule};
pub use cosine_triplet::{CosineTriplet, CosineTripletOutput, Mining};
pub use cross_entropy::CrossEntropy;
pub use focal::Focal;
pub use fusion::{FusionLoss, FusionMode, FusionTerms};
pub use identity_preserving::{IDENTITY_DIMS, IdentityPreserving, front_pose_loss, target_loss};
pub use multi_similarity::MultiSimilarity;
pub use picture::PictureLoss;
pub use ranked_list::RankedList;
pub use triplet::{Triplet, TripletSemihard};

use burn::tensor::{Int, Tensor};

use crate::words::hint;

/// Names for loss expressions. The first two losses read scores, the others features.
pub const NAMES: [&str; 7] =
    ["CrossEntropy", "Focal", "Triplet", "TripletSemihard", "MSLoss", "RankedList", "CenterLoss"];

/// Those that have a margin.
pub const WITH_MARGIN: [&str; 4] = ["Triplet", "TripletSemihard", "MSLoss", "RankedList"];

/// An invalid loss expression, or a saved table that does not fit.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum LossError {
    /// An expression that cannot be read.
    #[error("{problem}, in --loss at character {}\n    {expression}\n    {}", .from + 1, marks(*.from, *.count))]
    Expression {
        /// The expression.
        expression: String,
        /// First character of what is wrong, from 0.
        from: usize,
        /// Characters that are wrong; 0 where one is missing.
        count: usize,
        /// What is wrong with it.
        problem: ExpressionError,
    },
    /// Class centres of another model.
    #[error("{values} saved class centre values of shape {found:?} do not fit a table of {wanted:?}")]
    Centers {
        /// Saved `[num_classes, feat_dim]`.
        found: [usize; 2],
        /// Number of saved values.
        values: usize,
        /// `[num_classes, feat_dim]` of this model.
        wanted: [usize; 2],
    },
}

/// What is wrong with a part of a loss expression.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ExpressionError {
    /// An empty term, or an empty expression.
    #[error("empty term; a term is `weight*name`, name one of {}", NAMES.join(", "))]
    Empty,
    /// A term without `*`.
    #[error("no `*` in loss term `{term}`; a term is `weight*name`, name one of {}", NAMES.join(", "))]
    Star {
        /// The term.
        term: String,
    },
    /// A weight that is not a finite number.
    #[error("weight `{weight}` in loss term `{term}` is not a finite number")]
    Weight {
        /// The term.
        term: String,
        /// The part before the `*`.
        weight: String,
    },
    /// A loss that does not exist.
    #[error("unknown loss `{name}`{} in term `{term}`; known: {}", hint(.name, NAMES), NAMES.join(", "))]
    Unknown {
        /// The term.
        term: String,
        /// The part after the `*`.
        name: String,
    },
    /// Two terms with the same name, which a log could not tell apart.
    #[error("loss `{name}` occurs twice; add the weights")]
    Twice {
        /// The name.
        name: String,
    },
}

/// What stands below the wrong part of an expression.
fn marks(from: usize, count: usize) -> String {
    " ".repeat(from) + &"^".repeat(count.max(1))
}

/// Parameters of the losses besides the expression.
#[derive(Debug, Clone, PartialEq)]
pub struct LossParams {
    /// Width of every score tensor.
    pub num_classes: usize,
    /// Whether cross entropy uses ε = 0.1 instead of hard labels.
    pub label_smoothing: bool,
    /// Margin of the losses [that have one](WITH_MARGIN); 0 is the soft margin of Triplet.
    pub margin: f64,
    /// Width of the feature tensors, for the centre table.
    pub feat_dim: usize,
    /// How the centres follow the features.
    pub center_rule: CenterRule,
    /// Seed of the centre table.
    pub seed: u64,
}

impl Default for LossParams {
    /// For losses of two classes without smoothing; the margin of Bag of Tricks.
    fn default() -> Self {
        let center_rule = CenterRule::default();
        Self { num_classes: 2, label_smoothing: false, margin: 0.3, feat_dim: 1, center_rule, seed: 1 }
    }
}

/// Losses of one batch.
#[derive(Debug, Clone)]
pub struct LossTerms {
    /// The loss to call `backward` on, `[1]`.
    pub total: Tensor<1>,
    /// Weighted terms, `[1]` each, by name and in the order of the expression; their sum is the total.
    pub terms: Vec<(String, Tensor<1>)>,
}

impl LossTerms {
    /// Sums weighted terms.
    ///
    /// # Panics
    /// If there are no terms.
    pub(crate) fn sum(terms: Vec<(String, Tensor<1>)>) -> Self {
        let total = terms.iter().map(|(_, term)| term.clone()).reduce(|sum, term| sum + term);
        Self { total: total.expect("every loss has a term"), terms }
    }

    /// The total and the weighted terms as numbers. Synchronises with the device once.
    pub fn values(&self) -> (f64, Vec<(String, f64)>) {
        let all = std::iter::once(&self.total).chain(self.terms.iter().map(|(_, term)| term));
        let all = Tensor::cat(all.map(|value| value.clone().inner()).collect(), 0);
        let mut values = all.into_data().iter::<f64>().collect::<Vec<_>>().into_iter();
        let total = values.next().unwrap_or(f64::NAN);
        (total, self.terms.iter().map(|(name, _)| name.clone()).zip(values).collect())
    }
}

/// A weighted sum of losses, each summed over the score or feature tensors that a model returns in training.
#[derive(Debug, Clone)]
pub struct LossSum {
    terms: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    name: &'static str,
    weight: f64,
    loss: Loss,
}

#[derive(Debug, Clone)]
enum Loss {
    CrossEntropy(CrossEntropy),
    Focal(Focal),
    Triplet(Triplet),
    TripletSemihard(TripletSemihard),
    MultiSimilarity(MultiSimilarity),
    RankedList(RankedList),
    Center(Box<CenterLoss>),
}

impl LossSum {
    /// Parses `weight*name{+weight*name}`, such as `0.5*CrossEntropy+0.5*MSLoss`.
    ///
    /// # Errors
    /// An unknown name, a missing `*`, a weight that is not a finite number, or a repeated name.
    pub fn new(expression: &str, params: &LossParams) -> Result<Self, LossError> {
        let build = |(name, weight)| {
            let LossParams { num_classes, margin, .. } = *params;
            let loss = match name {
                "CrossEntropy" => {
                    let smoothing = if params.label_smoothing { CrossEntropy::SMOOTHING } else { 0.0 };
                    Loss::CrossEntropy(CrossEntropy { num_classes, smoothing })
                }
                "Focal" => Loss::Focal(Focal::new(num_classes)),
                "Triplet" => Loss::Triplet(Triplet { margin }),
                "TripletSemihard" => Loss::TripletSemihard(TripletSemihard { margin }),
                "MSLoss" => Loss::MultiSimilarity(MultiSimilarity::new(margin)),
                "RankedList" => Loss::RankedList(RankedList::new(margin)),
                _ => {
                    let center = CenterLoss::new(num_classes, params.feat_dim, params.center_rule, params.seed);
                    Loss::Center(Box::new(center))
                }
            };
            Term { name, weight, loss }
        };
        Ok(Self { terms: parse(expression)?.into_iter().map(build).collect() })
    }

    /// Names of the losses, in the order of the expression.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.terms.iter().map(|term| term.name)
    }

    /// Loss of one training batch. Class centres are updated afterwards.
    ///
    /// # Shapes
    /// - `scores`: each `[batch, num_classes]`, logits
    /// - `features`: each `[batch, feat_dim]`, before any normalisation
    /// - `classes`: `[batch]`, 0..`num_classes`, on the same device
    /// - returns: `[1]` each
    ///
    /// # Batch
    /// See the losses: metric losses need at least two identities with two pictures each.
    ///
    /// # Panics
    /// If a shape does not fit, or no tensor is there for a term.
    pub fn forward(&mut self, scores: &[Tensor<2>], features: &[Tensor<2>], classes: Tensor<1, Int>) -> LossTerms {
        let terms = self.evaluate(scores, features, classes.clone());
        for term in &mut self.terms {
            if let Loss::Center(center) = &mut term.loss {
                center.update(features, classes.clone());
            }
        }
        terms
    }

    /// As [`LossSum::forward`], but without updating class centres.
    ///
    /// # Panics
    /// As [`LossSum::forward`].
    pub fn evaluate(&self, scores: &[Tensor<2>], features: &[Tensor<2>], classes: Tensor<1, Int>) -> LossTerms {
        let over = |items: &[Tensor<2>], loss: &dyn Fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>| {
            // A selection drops pairs that compare with NaN; adding 0·NaN keeps a broken model visible in the loss.
            let damage = |item: &Tensor<2>| pairs::constant(item.clone()).sum().mul_scalar(0.0);
            items.iter().map(|item| loss(item.clone(), classes.clone()) + damage(item)).reduce(|sum, item| sum + item)
        };
        let term = |term: &Term| {
            let sum = match &term.loss {
                Loss::CrossEntropy(loss) => over(scores, &|x, y| loss.forward(x, y)),
                Loss::Focal(loss) => over(scores, &|x, y| loss.forward(x, y)),
                Loss::Triplet(loss) => over(features, &|x, y| loss.forward(x, y)),
                Loss::TripletSemihard(loss) => over(features, &|x, y| loss.forward(x, y)),
                Loss::MultiSimilarity(loss) => over(features, &|x, y| loss.forward(x, y)),
                Loss::RankedList(loss) => over(features, &|x, y| loss.forward(x, y)),
                Loss::Center(loss) => over(features, &|x, y| loss.forward(x, y)),
            };
            let sum = sum.unwrap_or_else(|| panic!("the model returns no tensor for {}", term.name));
            (term.name.to_owned(), sum.mul_scalar(term.weight))
        };
        LossTerms::sum(self.terms.iter().map(term).collect())
    }

    /// The class centres, row-major, and their shape `[num_classes, feat_dim]`, for a checkpoint.
    pub fn centers(&self) -> Option<(Vec<f32>, [usize; 2])> {
        self.terms.iter().find_map(|term| match &term.loss {
            Loss::Center(center) => Some(center.centers()),
            _ => None,
        })
    }

    /// Restores class centres from a checkpoint. Does nothing without a CenterLoss.
    ///
    /// # Errors
    /// If the shape of the table differs.
    pub fn set_centers(&mut self, values: Vec<f32>, shape: [usize; 2]) -> Result<(), LossError> {
        for term in &mut self.terms {
            if let Loss::Center(center) = &mut term.loss {
                return center.set_centers(values, shape);
            }
        }
        Ok(())
    }
}

/// The terms of an expression as known names and weights.
///
/// # Errors
/// As [`LossSum::new`].
pub fn parse(expression: &str) -> Result<Vec<(&'static str, f64)>, LossError> {
    let mut terms: Vec<(&'static str, f64)> = Vec::new();
    for term in split(expression) {
        // Every part is a part of the expression.
        let start = |part: &str| part.as_ptr() as usize - expression.as_ptr() as usize;
        let wrong = |part: &str, problem| {
            let from = expression[..start(part)].chars().count();
            LossError::Expression { expression: expression.to_owned(), from, count: part.chars().count(), problem }
        };
        let whole = term.trim();
        if whole.is_empty() {
            return Err(wrong(term, ExpressionError::Empty));
        }
        let Some((weight, name)) = whole.split_once('*') else {
            return Err(wrong(whole, ExpressionError::Star { term: whole.to_owned() }));
        };
        let (weight, name) = (weight.trim(), name.trim());
        let Some(value) = weight.parse::<f64>().ok().filter(|value| (*value as f32).is_finite()) else {
            let problem = ExpressionError::Weight { term: whole.to_owned(), weight: weight.to_owned() };
            return Err(wrong(weight, problem));
        };
        let Some(known) = NAMES.into_iter().find(|known| *known == name) else {
            let problem = ExpressionError::Unknown { term: whole.to_owned(), name: name.to_owned() };
            return Err(wrong(name, problem));
        };
        if terms.iter().any(|(name, _)| *name == known) {
            return Err(wrong(name, ExpressionError::Twice { name: known.to_owned() }));
        }
        terms.push((known, value));
    }
    Ok(terms)
}

/// Splits at `+`, except where it is a sign: of an exponent (`1e+3*`) or of a weight (`+0.5*`).
fn split(expression: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in expression.match_indices('+') {
        let before = &expression[start..at];
        let exponent = before.strip_suffix(['e', 'E']).is_some_and(|mantissa| mantissa.trim().parse::<f64>().is_ok());
        let sign = start == 0 && before.trim().is_empty() && at + 1 < expression.len();
        if !exponent && !sign {
            parts.push(before);
            start = at + 1;
        }
    }
    parts.push(&expression[start..]);
    parts
}

#[cfg(test)]
mod tests;
