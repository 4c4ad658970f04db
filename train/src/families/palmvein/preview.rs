//! `train preview palmvein`: contact sheets of what the networks see. Of stage 1 a row for each triplet: anchor,
//! positive and negative; of stage 2 a row for each pair: palm and vein.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use burn::tensor::Device;
use datasets::paired::{Modality, Pair, PairedDataset};
use image::RgbImage;

use crate::data::sheet;
use crate::families::palmvein::cli::{Branches, PreviewCommand};
use crate::families::palmvein::data::picture_spec;
use crate::families::palmvein::stage1::Stage1Task;
use crate::families::palmvein::stage2::Stage2Task;
use crate::families::palmvein::{Stage1Config, Stage2Config};
use crate::run::engine::Task;
use crate::run::preview::Row;
use crate::run::settings::{Layers, resolve};

/// Draws the sheet, and lists its rows on stdout.
///
/// # Errors
/// If the data cannot be read, or the sheet is too large or cannot be written.
pub fn draw(command: &PreviewCommand) -> anyhow::Result<ExitCode> {
    match command {
        PreviewCommand::Stage1(args) => {
            if args.stage1.branch == Some(Branches::All) {
                bail!("--branch is all; one branch is drawn at a time");
            }
            let (config, _) = resolve::<Stage1Config>(&args.stage1, Layers::of(&args.stage1.run))?;
            let size = config.common.size();
            args.preview.check(3, size)?;
            let task = Stage1Task::open(&config, &Device::flex().autodiff()).map_err(anyhow::Error::from_boxed)?;
            let modality = if config.branch.is_palm() { Modality::Palm } else { Modality::Vein };
            let rows = rows(&task, args.preview.epoch, args.preview.rows, |batch| {
                let picture = |at: usize| drawn(&batch.pixels, at, size);
                let of = |(at, pairs): (usize, &[usize; 3])| {
                    let pairs = pairs.map(|pair| &task.data().train[pair]);
                    // Which of a pair's pictures is drawn is told for the anchor: the others may be of either modality.
                    let files = [name(pairs[0].path(modality)), pairs[1].name.clone(), pairs[2].name.clone()];
                    Row { what: who(task.data(), pairs[0]), files: files.into(), pictures: picture(at) }
                };
                batch.indices.iter().enumerate().map(of).collect()
            })?;
            args.preview.draw(rows, size)
        }
        PreviewCommand::Stage2(args) => {
            let (config, _) = resolve::<Stage2Config>(&args.stage2, Layers::of(&args.stage2.run))?;
            let size = config.common.size();
            args.preview.check(2, size)?;
            let task = Stage2Task::open(&config, &Device::flex().autodiff()).map_err(anyhow::Error::from_boxed)?;
            let rows = rows(&task, args.preview.epoch, args.preview.rows, |batch| {
                let sides = [batch.palm.clone(), batch.vein.clone()];
                let of = |(at, pair): (usize, &usize)| {
                    let pair = &task.data().train[*pair];
                    let files = Modality::BOTH.map(|side| name(pair.path(side)));
                    Row { what: who(task.data(), pair), files: files.into(), pictures: drawn(&sides, at, size) }
                };
                batch.indices.iter().enumerate().map(of).collect()
            })?;
            args.preview.draw(rows, size)
        }
    }
}

/// Rows of an epoch's first batches, at least `count` where there are so many.
fn rows<T: Task>(
    task: &T,
    epoch: usize,
    count: usize,
    of_batch: impl Fn(&T::Batch) -> Vec<Row>,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in task.epoch(epoch, 0).map_err(anyhow::Error::from_boxed)?.batches {
        rows.extend(of_batch(&batch.map_err(anyhow::Error::from_boxed)?.1));
        if rows.len() >= count {
            break;
        }
    }
    Ok(rows)
}

/// Picture `at` of each side that was read.
fn drawn(sides: &[Vec<f32>], at: usize, size: [usize; 2]) -> Vec<RgbImage> {
    let (spec, values) = (picture_spec(size), size[0] * size[1]);
    let read = sides.iter().filter(|side| !side.is_empty());
    read.map(|side| sheet::picture(&side[at * values..][..values], &spec)).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The identity on a pair.
fn who(data: &PairedDataset, pair: &Pair) -> String {
    data.classes[pair.class].clone()
}
