//! `train preview reid`: a contact sheet of what the network sees, a row for each identity of a batch.

use std::process::ExitCode;

use burn::tensor::Device;

use crate::data::sheet;
use crate::families::reid::cli::PreviewArgs;
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task::ReidTask;
use crate::run::engine::Task;
use crate::run::preview::Row;
use crate::run::settings::{Layers, resolve};

/// Draws the sheet, and lists its rows on stdout.
///
/// # Errors
/// If the data cannot be read, or the sheet is too large or cannot be written.
pub fn draw(args: &PreviewArgs) -> anyhow::Result<ExitCode> {
    let (config, _) = resolve::<ReidConfig>(&args.reid, Layers::of(&args.reid.run))?;
    let columns = if config.sampler { config.batchimage } else { config.batch() };
    args.preview.check(columns, [config.height, config.width])?;
    let task = ReidTask::open(&config, &Device::flex().autodiff()).map_err(anyhow::Error::from_boxed)?;
    let rows = rows(&task, args.preview.epoch, args.preview.rows)?;
    args.preview.draw(rows, task.input().size)
}

/// The first identities of an epoch's batches, at least `count` where there are so many, each with its pictures of one
/// batch.
fn rows(task: &ReidTask, epoch: usize, count: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in task.epoch(epoch, 0).map_err(anyhow::Error::from_boxed)?.batches {
        let (_, batch) = batch.map_err(anyhow::Error::from_boxed)?;
        let mut of_batch = Vec::<(i64, Row)>::new();
        let size = batch.shape[1..].iter().product();
        for ((index, class), pixels) in batch.indices.iter().zip(&batch.classes).zip(batch.pixels.chunks_exact(size)) {
            let sample = task.sample(*index);
            let at = of_batch.iter().position(|(other, _)| other == class).unwrap_or_else(|| {
                let what = sample.identity_name.clone();
                of_batch.push((*class, Row { what, files: vec![], pictures: vec![] }));
                of_batch.len() - 1
            });
            let row = &mut of_batch[at].1;
            row.files.push(sample.path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            row.pictures.push(sheet::picture(pixels, task.input()));
        }
        rows.extend(of_batch.into_iter().map(|(_, row)| row));
        if rows.len() >= count {
            break;
        }
    }
    Ok(rows)
}
