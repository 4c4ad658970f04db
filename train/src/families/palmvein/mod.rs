//! Palm-vein recognition: stage 1 trains each backbone by itself, stage 2 the head on top of them.

mod ablate;
pub(crate) mod attention;
pub(crate) mod bench_step;
pub(crate) mod cli;
pub(crate) mod command;
pub mod data;
mod embed;
mod import;
pub mod net;
mod preview;
pub(crate) mod product;
mod report;
mod roi;
mod runs;
mod settings;
mod stage1;
mod stage2;

use std::path::Path;
use std::sync::Arc;

use datasets::DatasetError;
use datasets::paired::{Pair, PairOptions, PairedDataset, of_two_sizes};

use crate::families::palmvein::data::{PairLoaderOptions, PairPictures};
use crate::run::engine::TaskError;

pub use data::Missing;
pub use embed::{Classified, Embedded, embed_pairs, examine_branch, examine_pairs, verify};
pub use report::{Accuracy, Alone, TestReport, test_branch, test_pairs};
pub use settings::{Common, FusionKind, Stage1Config, Stage1Loss, Stage2Config};
pub use stage1::Stage1Task;
pub use stage2::{Stage2Task, stage1_weights};

/// Family name of one backbone in checkpoints.
pub const STAGE1_FAMILY: &str = "palmvein-branch";

/// Family name of the whole network in checkpoints and contracts.
pub const FAMILY: &str = "palmvein";

/// Keeps stochastic depth apart from other random numbers with the same seed.
const DROP_PATH: u64 = 0x6472_6f70_7061_7468;

/// The pairs that the settings name, shared out by `options`, which must be of two hands at least.
///
/// # Errors
/// If they cannot be listed, or nothing can be learnt from them.
pub fn open(common: &Common, options: &PairOptions) -> Result<PairedDataset, TaskError> {
    let data = PairedDataset::open(Path::new(&common.datadir), options)?;
    if common.strict && data.left_out.is_loss() {
        return Err(DatasetError::LeftOut { warning: data.left_out.losses().join("; ") }.into());
    }
    for warning in data.warnings.iter().chain(&of_two_sizes(data.all())) {
        terminal::warn(warning);
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

/// The pairs of a run, and the pictures of those that train and validate.
struct Data {
    pairs: PairedDataset,
    train: Arc<PairPictures>,
    val: Arc<PairPictures>,
}

impl Data {
    fn open(common: &Common, options: &PairOptions) -> Result<Self, TaskError> {
        let pairs = open(common, options)?;
        let (train, val) = (pictures(&pairs.train, common), pictures(&pairs.val, common));
        Ok(Self { pairs, train, val })
    }
}

/// The pictures of pairs; two sets of them share the settings' memory.
fn pictures(pairs: &[Pair], common: &Common) -> Arc<PairPictures> {
    Arc::new(PairPictures::new(pairs, common.size(), common.cache_mb / 2))
}

/// How an epoch's training pictures are read, `done` batches of it left out.
fn reading(common: &Common, epoch: usize, done: usize) -> PairLoaderOptions {
    PairLoaderOptions {
        transforms: Some((common.transforms(), epoch)),
        workers: common.n_thread,
        start_batch: done,
        strict: common.strict,
    }
}
