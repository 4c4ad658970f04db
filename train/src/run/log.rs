//! What a family's log looks like: names in TensorBoard, panels of the curves, form of `training_history.json`.
//!
//! Numbers have one name each, which a [`Log`] refers to: `lr`, `loss/total`, `loss/<term>`, `train/<figure>`,
//! `metrics/<metric>`, `speed/seconds`, `speed/waiting` (of these, for the loader), `speed/images_per_second`.
//!
//! ```
//! use train::run::log::{Line, Log, Panel, named};
//!
//! let log = Log {
//!     batch: named([("loss/total", "Train/Loss"), ("lr", "Train/LearningRate")]),
//!     epoch: named([("loss/total", "Epoch/TrainLoss"), ("metrics/total_loss", "Epoch/ValLoss")]),
//!     first_epoch: 0,
//!     panels: vec![Panel {
//!         right: vec![Line::new("cosine", "metrics/cosine_sim")],
//!         ..Panel::new("Loss", [Line::new("train", "loss/total"), Line::new("validation", "metrics/total_loss")])
//!     }],
//!     ..Log::default()
//! };
//! assert_eq!(log.panels[0].left.len(), 2);
//! ```

/// One of our numbers, and what it is called elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Our number.
    pub number: String,
    /// Its name there.
    pub name: String,
}

/// Pairs of our number and its name elsewhere.
pub fn named<const N: usize>(pairs: [(&str, &str); N]) -> Vec<Named> {
    pairs.map(|(number, name)| Named { number: number.to_owned(), name: name.to_owned() }).into()
}

/// What a family's log looks like. The default is what re-identification writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// TensorBoard tags of each batch, by batches since the start; empty: batches are not logged.
    pub batch: Vec<Named>,
    /// TensorBoard tags of each epoch; empty: every number under its own name.
    pub epoch: Vec<Named>,
    /// TensorBoard's step of the first epoch.
    pub first_epoch: usize,
    /// Panels of the curves, two in a row; empty: loss, learning rate and evaluation below each other.
    pub panels: Vec<Panel>,
    /// Whether curves are also drawn with every checkpoint that `save_interval` keeps (`training_curves_epoch_N.png`)
    /// and at the end (`final_training_curves.png`).
    pub figures: bool,
    /// Form of `training_history.json`; without it a list of our records. With it those are in `training_records.json`.
    pub summary: Option<Summary>,
}

impl Default for Log {
    fn default() -> Self {
        Self { batch: vec![], epoch: vec![], first_epoch: 1, panels: vec![], figures: false, summary: None }
    }
}

/// `{"train_metrics": [..], "val_metrics": [..], "args": {..}}`, an entry per epoch that has the numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Keys of `train_metrics`.
    pub train: Vec<Named>,
    /// Keys of `val_metrics`.
    pub validation: Vec<Named>,
    /// The run's settings by flag.
    pub args: serde_json::Value,
}

/// Lines over the epochs, in one pair of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// Lines read on the left axis.
    pub left: Vec<Line>,
    /// Lines read on a second axis at the right, from 0 to 1.
    pub right: Vec<Line>,
    /// Ends of the left axis; by the values without it.
    pub range: Option<[f32; 2]>,
    /// Height of a dashed line.
    pub guide: Option<f32>,
}

impl Panel {
    /// Lines on the left axis, which follows their values.
    pub fn new(title: &str, left: impl IntoIterator<Item = Line>) -> Self {
        Self { title: title.to_owned(), left: left.into_iter().collect(), right: vec![], range: None, guide: None }
    }
}

/// One number over the epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// In the legend.
    pub label: String,
    /// Our number.
    pub number: String,
}

impl Line {
    /// A line of one of our numbers.
    pub fn new(label: &str, number: &str) -> Self {
        Self { label: label.to_owned(), number: number.to_owned() }
    }
}
