//! `train preview reid`: a contact sheet of what the network sees, a row for each identity of a batch.

use std::io::Cursor;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use burn::tensor::Device;
use contract::PictureSpec;
use image::{ImageFormat, Rgb, RgbImage, imageops};

use crate::families::reid::cli::PreviewArgs;
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task::ReidTask;
use crate::run::engine::Task;
use crate::run::settings::{Layers, resolve};

/// Pixels between pictures.
const GAP: u32 = 4;

/// Colour between them.
const GROUND: Rgb<u8> = Rgb([32; 3]);

/// Most pixels of a sheet.
const MOST_PIXELS: u64 = 100_000_000;

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
    let [height, width] = [config.height, config.width].map(|side| side as u64 + u64::from(GAP));
    let [down, across] = [args.rows as u64 * height, columns as u64 * width];
    ensure!(
        down.saturating_mul(across) <= MOST_PIXELS,
        "--rows {} of up to {columns} pictures each make a sheet of {across}×{down} pixels; {MOST_PIXELS} in all are \
         allowed",
        args.rows
    );
    let task = ReidTask::open(&config, &Device::flex().autodiff()).map_err(anyhow::Error::from_boxed)?;
    let rows = rows(&task, args.epoch, args.rows)?;
    let mut png = Cursor::new(Vec::new());
    sheet(&rows, task.input()).write_to(&mut png, ImageFormat::Png).context("cannot compress the sheet")?;
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
            row.pictures.push(picture(pixels, task.input()));
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

/// Normalised values `[3, height, width]` as the picture that they are of.
fn picture(pixels: &[f32], input: &PictureSpec) -> RgbImage {
    let ([height, width], [black, white]) = (input.size, input.range);
    let level = |channel: usize, at: usize| {
        let value = pixels[channel * height * width + at] * input.std[channel] + input.mean[channel];
        ((value - black) / (white - black) * 255.0).round().clamp(0.0, 255.0) as u8
    };
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = y as usize * width + x as usize;
        Rgb(std::array::from_fn(|channel| level(channel, at)))
    })
}

fn sheet(rows: &[Row], input: &PictureSpec) -> RgbImage {
    let [height, width] = input.size.map(|side| side as u32 + GAP);
    let columns = rows.iter().map(|row| row.pictures.len()).max().unwrap_or(0) as u32;
    let mut sheet = RgbImage::from_pixel(columns * width + GAP, rows.len() as u32 * height + GAP, GROUND);
    for (row, y) in rows.iter().zip((i64::from(GAP)..).step_by(height as usize)) {
        for (picture, x) in row.pictures.iter().zip((i64::from(GAP)..).step_by(width as usize)) {
            imageops::replace(&mut sheet, picture, x, y);
        }
    }
    sheet
}
