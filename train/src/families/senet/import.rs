//! SENet checkpoints of the reference.

use std::path::Path;

use anyhow::ensure;
use burn::tensor::Device;

use crate::families::faces::reference::{Names, Reference};
use crate::families::senet::net::{SenetTripletNetwork, load, senet_of};
use crate::families::senet::settings::SenetConfig;
use crate::families::senet::task::{self as senet, SenetTask};
use crate::loss::RECONSTRUCTION;
use crate::run::checkpoint::Record;
use crate::run::directory as run;
use crate::run::optim::OptimizerConfig;
use crate::weights::StateDict;

impl Reference for SenetConfig {
    const NAME: &'static str = "SENet";

    const NAMES: Names = Names {
        // There the total leaves out the identity term.
        total: &["total_loss", "identity_loss"],
        terms: &[
            ("triplet_loss", "triplet", 1.0),
            ("reconstruction_loss", "reconstruction", RECONSTRUCTION),
            ("identity_loss", "identity", 1.0),
        ],
        figures: &[("num_triplets", "num_triplets", 1.0), ("reconstruction_loss", "reconstruction", 1.0)],
        metrics: &[
            ("total_loss", "total_loss", 1.0),
            ("triplet_loss", "triplet_loss", 1.0),
            ("cosine_sim", "cosine_sim", 1.0),
        ],
        late: &[("fusion_alpha", "fusion_alpha", 1.0)],
    };

    fn reference_defaults() -> Self {
        Self::default()
    }

    fn with_shapes_of(self, state: &StateDict) -> anyhow::Result<Self> {
        let shown = senet_of(state, &SenetTask::network(&self)).map_err(anyhow::Error::msg)?;
        let (identity, image) = (shown.identity_dim, shown.image_dim);
        ensure!(
            identity == image,
            "it has {identity} identity features for embeddings of {image} values; the reconstruction compares them, \
             so the two numbers must be equal"
        );
        Ok(Self {
            image_dim: image,
            pose_dim: shown.pose_dim,
            hidden_dim: shown.hidden_dim,
            // Depths 1 and 2 are one network.
            num_layers: shown.num_layers,
            se_reduction: shown.se_reduction,
            identity_dims: self.identity_dims.into_iter().filter(|dim| *dim < image).collect(),
            ..self
        })
    }

    fn load(&self, path: &Path) -> anyhow::Result<(StateDict, Record)> {
        let network = SenetTask::network(self);
        let mut net = SenetTripletNetwork::new(&network, self.seed, &Device::flex());
        load(path, &mut net)?;
        Ok((StateDict::of(&net), run::record(senet::FAMILY, &network, self)?))
    }

    fn optimizer(&self) -> OptimizerConfig {
        senet::settings(self, 1).optimizer
    }
}
