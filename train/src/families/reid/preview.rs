//! `train preview reid`: a contact sheet of what the network sees, a row for each identity of a batch.

use std::io::Cursor;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use burn::tensor::Device;
use image::{ImageFormat, RgbImage};

use crate::data::sheet;
use crate::families::reid::cli::PreviewArgs;
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task::ReidTask;
use crate::run::engine::Task;
use crate::run::settings::{Layers, resolve};

/// Pictures of one identity in a batch.
struct Row {
    identity: String,
    files: Vec<String>,
    pictures: Vec<RgbImage>,
}

/// Draws the sheet, and lists its rows on stdout.
///
/// # Errors
/// If the data cannot be read, or the sheet is too large or cannot be written.
pub fn draw(args: &PreviewArgs) -> anyhow::Result<ExitCode> {
    for (flag, value) in [("epoch", args.epoch), ("rows", args.rows)] {
        ensure!(value > 0, "--{flag} is 0; 1 and more are allowed");
    }
    let (config, _) = resolve::<ReidConfig>(&args.reid, Layers::of(&args.reid.run))?;
    // Before anything is read: a batch of such pictures is large, too.
    let columns = if config.sampler { config.batchimage } else { config.batch() };
    if let Err(size) = sheet::size([args.rows, columns], [config.height, config.width]) {
        bail!("--rows {} of up to {columns} pictures each make a sheet of {size}", args.rows);
    }
    let task = ReidTask::open(&config, &Device::flex().autodiff()).map_err(anyhow::Error::from_boxed)?;
    let rows = rows(&task, args.epoch, args.rows)?;
    let mut png = Cursor::new(Vec::new());
    let pictures: Vec<_> = rows.iter().map(|row| row.pictures.clone()).collect();
    sheet::sheet(&pictures, task.input().size)
        .write_to(&mut png, ImageFormat::Png)
        .context("cannot compress the sheet")?;
    files::write(&args.output, png.into_inner())?;
    for (number, Row { identity, files, .. }) in (1..).zip(&rows) {
        terminal::show!("{number:>4}  {identity}  {}", files.join(", "))?;
    }
    terminal::tell!("epoch {}: {} rows in {}", args.epoch, rows.len(), args.output.display());
    Ok(ExitCode::SUCCESS)
}

/// The first `count` identities of an epoch's batches, each with its pictures of one batch.
fn rows(task: &ReidTask, epoch: usize, count: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in task.epoch(epoch, 0).map_err(anyhow::Error::from_boxed)?.batches {
        let (_, batch) = batch.map_err(anyhow::Error::from_boxed)?;
        let mut of_batch = Vec::<(i64, Row)>::new();
        let size = batch.shape[1..].iter().product();
        for ((index, class), pixels) in batch.indices.iter().zip(&batch.classes).zip(batch.pixels.chunks_exact(size)) {
            let sample = task.sample(*index);
            let at = of_batch.iter().position(|(other, _)| other == class).unwrap_or_else(|| {
                let identity = sample.identity_name.clone();
                of_batch.push((*class, Row { identity, files: vec![], pictures: vec![] }));
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
    rows.truncate(count);
    if rows.is_empty() {
        bail!("epoch {epoch} has no batch: there are fewer pictures or identities than one batch wants");
    }
    Ok(rows)
}
