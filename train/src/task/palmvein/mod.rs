//! Palm-vein recognition: stage 1 trains each backbone by itself, stage 2 the head on top of them.

mod config;
mod embed;
mod stage1;
mod stage2;

use std::path::Path;

use contract::dataset::paired::{PairOptions, PairedDataset};

use crate::engine::TaskError;

pub use config::{Common, FusionKind, Stage1Config, Stage1Loss, Stage2Config};
pub use embed::{Embedded, Figures, embed_branch, embed_pairs, figures, intervals};
pub use stage1::Stage1Task;
pub use stage2::{Missing, Stage2Task, stage1_weights};

/// Family name of one backbone in checkpoints.
pub const STAGE1_FAMILY: &str = "palmvein-branch";

/// Family name of the whole network in checkpoints and contracts.
pub const FAMILY: &str = "palmvein";

/// The pairs that the settings name, shared out by `options`, which must be of two hands at least.
///
/// # Errors
/// If they cannot be listed, or nothing can be learnt from them.
pub fn open(common: &Common, options: &PairOptions) -> Result<PairedDataset, TaskError> {
    let data = PairedDataset::open(Path::new(&common.datadir), options)?;
    for warning in &data.warnings {
        eprintln!("warning: {warning}");
    }
    if data.num_classes < 2 {
        let message = format!(
            "`{}` has training pairs of {} hand; telling hands apart needs two at least",
            common.datadir, data.num_classes
        );
        return Err(message.into());
    }
    if let Some(pair) = data.train.iter().chain(&data.val).find(|pair| pair.class >= data.num_classes) {
        let message = format!("pair `{}` has class {}, only {} train", pair.name, pair.class, data.num_classes);
        return Err(message.into());
    }
    Ok(data)
}
