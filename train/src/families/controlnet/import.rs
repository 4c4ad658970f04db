//! ImageControlNet checkpoints of the reference.

use std::path::Path;

use burn::tensor::Device;

use crate::families::controlnet::net::{ControlNet, EncoderKind, controlnet_of, encoder_of};
use crate::families::controlnet::settings::{ControlnetConfig, EncoderChoice, PoseTarget};
use crate::families::controlnet::task::{self as controlnet, FAMILY};
use crate::families::faces::reference::{Names, Reference};
use crate::run::checkpoint::Record;
use crate::run::directory as run;
use crate::run::optim::OptimizerConfig;
use crate::weights::{Partial, StateDict};

impl Reference for ControlnetConfig {
    const NAME: &'static str = "ImageControlNet";

    const NAMES: Names = Names {
        total: &["total_loss"],
        terms: &[("image_loss", "image_loss", 1.0), ("pose_loss", "pose_loss", 1.0)],
        figures: &[],
        metrics: &[("total_loss", "total_loss", 1.0), ("image_loss", "image_loss", 1.0), ("psnr", "psnr", 1.0)],
        late: &[],
    };

    fn reference_defaults() -> Self {
        // It always compares the pose it reads from the source with the target's.
        Self { pose_target: PoseTarget::Target, ..Self::default() }
    }

    fn with_shapes_of(self, state: &StateDict) -> anyhow::Result<Self> {
        let encoder = encoder_of(state);
        let like = controlnet::network(&self, encoder);
        let shown = controlnet_of(state, &like).map_err(anyhow::Error::msg)?;
        Ok(Self {
            encoder: match encoder {
                EncoderKind::Conv => EncoderChoice::Conv,
                EncoderKind::Resnet50 => EncoderChoice::Resnet50,
                EncoderKind::Embedding => EncoderChoice::Insightface,
            },
            feature_dim: shown.features,
            pose_dim: shown.angles,
            image_size: shown.size,
            num_control_layers: shown.control_layers,
            ..self
        })
    }

    fn load(&self, path: &Path) -> anyhow::Result<(StateDict, Record)> {
        let network = controlnet::network(self, encoder_of(&StateDict::read(path)?));
        let mut net = ControlNet::new(&network, self.seed, &Device::flex());
        StateDict::load_file(path, &mut net, &network.to_string(), Partial::Nothing)?;
        Ok((StateDict::of(&net), run::record(FAMILY, &network, self)?))
    }

    fn optimizer(&self) -> OptimizerConfig {
        controlnet::settings(self, 1).optimizer
    }
}
