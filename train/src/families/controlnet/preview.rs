//! `train preview controlnet`: a contact sheet of pairs, source and target beside each other.

use std::process::ExitCode;

use burn::tensor::Device;

use crate::data::sheet;
use crate::families::controlnet::cli::PreviewArgs;
use crate::families::controlnet::data::picture_spec;
use crate::families::controlnet::net::EncoderKind;
use crate::families::controlnet::settings::ControlnetConfig;
use crate::families::controlnet::task::{self, ControlnetTask};
use crate::run::engine::Task;
use crate::run::preview::Row;
use crate::run::settings::{Layers, resolve};

/// Draws the sheet, and lists its rows on stdout. Sources are drawn, also where the network would read embeddings of
/// them.
///
/// # Errors
/// If the data cannot be read, or the sheet is too large or cannot be written.
pub fn draw(args: &PreviewArgs) -> anyhow::Result<ExitCode> {
    let (config, _) = resolve::<ControlnetConfig>(&args.controlnet, Layers::of(&args.controlnet.run))?;
    let size = [config.image_size; 2];
    args.preview.check(2, size)?;
    let network = task::network(&config, EncoderKind::Conv);
    let task = ControlnetTask::open(&config, &network, &Device::flex().autodiff());
    let task = task.map_err(anyhow::Error::from_boxed)?;
    let (spec, values) = (picture_spec(config.image_size), 3 * config.image_size * config.image_size);
    let mut rows = Vec::new();
    for batch in task.epoch(args.preview.epoch, 0).map_err(anyhow::Error::from_boxed)?.batches {
        let (_, batch) = batch.map_err(anyhow::Error::from_boxed)?;
        for (at, pair) in batch.pairs.iter().enumerate() {
            let pictures = batch.pixels.each_ref().map(|side| sheet::picture(&side[at * values..][..values], &spec));
            let (what, files) = task.named(*pair);
            rows.push(Row { what, files: files.into(), pictures: pictures.into() });
        }
        if rows.len() >= args.preview.rows {
            break;
        }
    }
    args.preview.draw(rows, size)
}
