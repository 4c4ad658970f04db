//! Converts embeddings of any view, with their poses, to embeddings of the frontal view, by an exported SENet.

use crate::DeployError;
use crate::gallery::{Embeddings, Template};
use crate::pictures::Input;
use crate::poses::Poses;
use crate::runtime::Model;

/// Inputs and output of such a model, by name.
const FEATURES: &str = "features";
const POSE: &str = "pose";
const FRONT: &str = "front_features";

/// What such a model does.
const TASK: &str = "turn embeddings into frontal ones, as an exported SENet does";

/// Rows per run of the network.
const BATCH: usize = 256;

/// A model that frontalises embeddings.
#[derive(Debug)]
pub struct Frontalizer<'a> {
    model: &'a Model,
    dim: usize,
    angles: usize,
}

impl<'a> Frontalizer<'a> {
    /// Checks that the model takes features and pose and gives frontal features of the same width.
    ///
    /// # Errors
    /// If it does something else.
    pub fn new(model: &'a Model) -> Result<Self, DeployError> {
        let lacks = |problem: String| model.lacks(TASK, problem);
        let [features, pose] = model.contract.input.as_slice() else {
            return Err(lacks(format!("it has {} inputs", model.contract.input.len())));
        };
        for (spec, name) in [(features, FEATURES), (pose, POSE)] {
            if spec.name != name {
                return Err(lacks(format!("an input is called `{}`, `{name}` is needed", spec.name)));
            }
        }
        let width = |row: Option<Vec<usize>>, what: &str| match row.as_deref() {
            Some([width]) if *width > 0 => Ok(*width),
            _ => Err(lacks(format!("`{what}` is no vector of a fixed width"))),
        };
        let (dim, angles) = (width(features.row(), FEATURES)?, width(pose.row(), POSE)?);
        if !model.contract.output.iter().any(|output| output.name == FRONT) {
            return Err(lacks(format!("it has no output `{FRONT}`")));
        }
        Ok(Self { model, dim, angles })
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Angles of a pose.
    pub fn angles(&self) -> usize {
        self.angles
    }

    /// The frontal embeddings, each of unit length.
    ///
    /// # Shapes
    /// - `features`: `[rows, dim]`
    /// - `poses`: `[rows, angles]`, in degrees
    /// - returns: `[rows, dim]`
    ///
    /// # Errors
    /// If a length does not fit, a value is not finite, or the model cannot be run.
    pub fn apply(&self, features: &[f32], poses: &[f32]) -> Result<Vec<f32>, DeployError> {
        let rows = features.len() / self.dim;
        for (found, needed) in [(features.len(), rows * self.dim), (poses.len(), rows * self.angles)] {
            if found != needed {
                return Err(DeployError::Batch { rows, found, needed });
            }
        }
        let mut frontal = Vec::with_capacity(features.len());
        for (features, poses) in features.chunks(BATCH * self.dim).zip(poses.chunks(BATCH * self.angles)) {
            let rows = features.len() / self.dim;
            let mut outputs = self.model.run(&[features, poses], rows, Some(FRONT))?;
            let values = outputs.remove(FRONT).map(|(_, values)| values).unwrap_or_default();
            if values.len() != features.len() {
                return Err(DeployError::Batch { rows, found: values.len(), needed: features.len() });
            }
            for row in values.chunks_exact(self.dim) {
                let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                if !length.is_finite() {
                    return Err(DeployError::NotFinite { path: self.model.path.clone() });
                }
                frontal.extend(row.iter().map(|value| (f64::from(*value) / length.max(1e-12)) as f32));
            }
        }
        Ok(frontal)
    }

    /// [`Frontalizer::apply`] on embedded pictures, whose poses are found by path, or by index in `pictures`, the
    /// list they were embedded from.
    ///
    /// # Errors
    /// As [`Frontalizer::apply`] and [`Poses::of`]; embeddings of another width.
    pub fn apply_to(&self, embeddings: &mut Embeddings, pictures: &[Input], poses: &Poses) -> Result<(), DeployError> {
        if embeddings.dim != self.dim {
            let problem = format!("it takes embeddings of {} values, the embedder gives {}", self.dim, embeddings.dim);
            return Err(self.model.lacks(TASK, problem));
        }
        let of_each = if poses.are_named() {
            poses.of(embeddings.templates.iter().map(|template| template.path.as_path()))?
        } else {
            // Unusable pictures are missing; the order is the same.
            let all = poses.of(pictures.iter().map(Input::path))?;
            let mut listed = pictures.iter().zip(all.chunks_exact(self.angles));
            let pose = |of: &Template| listed.find(|(listed, _)| listed.path() == of.path).map(|(_, pose)| pose);
            embeddings.templates.iter().filter_map(pose).flatten().copied().collect()
        };
        embeddings.values = self.apply(&embeddings.values, &of_each)?;
        Ok(())
    }
}
