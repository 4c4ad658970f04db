//! The report of a network that draws: one page with everything in it.

use std::fmt::Write;
use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use image::{ImageFormat, RgbImage};
use report::data_uri;

use crate::families::controlnet::net::{ControlNet, ControlNetConfig};
use crate::families::controlnet::scores::{Score, Scores};
use crate::families::controlnet::task::{ControlnetTask, FAMILY, Poses};
use crate::run::checkpoint::Checkpoint;
use crate::run::history::EpochRecord;

/// How training went.
pub struct Epochs<'a> {
    /// The run's curves as a PNG file.
    pub curves: Option<Vec<u8>>,
    /// Its epochs.
    pub records: &'a [EpochRecord],
}

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>ImageControlNet</title>\n<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .25rem .8rem; text-align: right }
th:first-child, td:first-child { text-align: left } tr + tr { border-top: 1px solid #ddd }
.rows { display: flex; gap: .8rem; align-items: stretch } .rows img { flex: 1; min-width: 0; image-rendering: pixelated }
.rows div { display: flex; flex-direction: column; justify-content: space-around; font-weight: 600 }
img { max-width: 100% } code { overflow-wrap: anywhere } .best { font-weight: 600 }
</style>\n";

/// Writes the page: numbers, sample pictures of people nobody trained on, the curves and a table of the epochs where
/// they are known.
pub fn write(
    path: &Path,
    task: &ControlnetTask,
    net: &ControlNet,
    checkpoint: &Checkpoint,
    scores: &[Scores],
    epochs: Option<Epochs<'_>>,
) -> anyhow::Result<()> {
    let samples = task.samples(net).map_err(anyhow::Error::from_boxed)?.comparison();
    let poses = task.poses(net).map_err(anyhow::Error::from_boxed)?;
    Ok(files::write(path, html(checkpoint, scores, &samples, &poses, epochs)?)?)
}

fn html(
    checkpoint: &Checkpoint,
    scores: &[Scores],
    samples: &RgbImage,
    poses: &Poses,
    epochs: Option<Epochs<'_>>,
) -> anyhow::Result<String> {
    let mut png = Cursor::new(Vec::new());
    samples.write_to(&mut png, ImageFormat::Png).context("cannot compress the sample pictures")?;
    let network: ControlNetConfig = checkpoint.network(FAMILY)?;
    let record = &checkpoint.record;
    let mut page = String::from(HEAD);
    let network = escaped(&network.to_string());
    writeln!(page, "<h1>ImageControlNet</h1>\n<p>{network}. Network after epoch {}.</p>", record.epoch)?;
    writeln!(page, "<p><code>{}</code></p>", escaped(&record.command))?;
    writeln!(
        page,
        "<h2>At the end</h2>\n<table><tr><th>PSNR in dB, SSIM<th>pairs<th>network<th>copy source<th>mean picture"
    )?;
    for Scores { part, pairs, network, copy_source, mean_picture } in scores {
        let ways = [network, copy_source, mean_picture];
        let best = ways.iter().map(|score| score.psnr).fold(f64::MIN, f64::max);
        let cell = |Score { psnr, ssim, .. }: &Score| {
            let class = if *psnr == best { " class=\"best\"" } else { "" };
            format!("<td{class}>{psnr:.2}, {ssim:.3}")
        };
        writeln!(page, "<tr><td>{}<td>{pairs}{}", escaped(part), ways.map(cell).concat())?;
    }
    writeln!(page, "</table>\n<h2>People that nobody trained on</h2>")?;
    writeln!(
        page,
        "<div class=\"rows\"><div><span>source</span><span>truth</span><span>drawn</span></div>\
         <img alt=\"sources, true pictures and drawn ones\" src=\"{}\"></div>",
        data_uri("png", png.get_ref())
    )?;
    page += &pose_table(poses);
    if let Some(Epochs { curves, records }) = epochs {
        if let Some(curves) = curves {
            writeln!(page, "<h2>Curves</h2>\n<img alt=\"curves\" src=\"{}\">", data_uri("png", &curves))?;
        }
        let columns = ["total_loss", "image_loss", "pose_loss", "psnr", "ssim"];
        let heads = columns.map(|column| format!("<th>{}", column.replace('_', " "))).concat();
        writeln!(page, "<h2>Epochs</h2>\n<table><tr><th>epoch<th>learning rate<th>training loss{heads}")?;
        for epoch in records {
            let value = |column: &str| epoch.metrics.get(column).map_or(String::new(), |value| format!("{value:.4}"));
            let cells = columns.map(|column| format!("<td>{}", value(column))).concat();
            writeln!(page, "<tr><td>{}<td>{:.2e}<td>{:.4}{cells}", epoch.epoch, epoch.lr, epoch.total)?;
        }
        page.push_str("</table>\n");
    }
    page.push_str("</html>\n");
    Ok(page)
}

/// A row for each angle: how targets, sources, and what the network reads of the sources are spread.
fn pose_table(Poses { target, source, read }: &Poses) -> String {
    let mut table =
        String::from("<h2>Poses in degrees</h2>\n<table><tr><th><th>targets<th>sources<th>sources as they are read\n");
    for angle in 0..target.first().map_or(0, Vec::len) {
        let column = |rows: &[Vec<f32>]| rows.iter().map(|row| row[angle]).collect::<Vec<_>>();
        let columns = [target, source, read].map(|rows| column(rows));
        let reach =
            columns.iter().flatten().map(|value| value.abs()).filter(|value| value.is_finite()).fold(1.0, f32::max);
        let name = ["yaw", "pitch", "roll"].get(angle).copied().unwrap_or("angle");
        let cells = columns.map(|values| format!("<td>{}", histogram(&values, (reach / 5.0).ceil() * 5.0))).concat();
        table += &format!("<tr><td>{name}{cells}\n");
    }
    table + "</table>\n"
}

/// How many values lie where between −`reach` and `reach`.
fn histogram(values: &[f32], reach: f32) -> String {
    const BINS: usize = 24;
    const WIDTH: usize = 240;
    const HEIGHT: f32 = 60.0;
    let mut counts = [0_usize; BINS];
    for value in values.iter().filter(|value| value.is_finite()) {
        let at = (value / reach + 1.0) / 2.0 * BINS as f32;
        counts[(at as usize).min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut svg = format!("<svg width=\"{WIDTH}\" height=\"80\" font-size=\"11\" fill=\"#555\" role=\"img\">");
    for (bin, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let (width, height) = (WIDTH / BINS, HEIGHT * count as f32 / most as f32);
        let (left, top) = (bin * width, HEIGHT - height);
        svg += &format!(
            "<rect x=\"{left}\" y=\"{top:.1}\" width=\"{}\" height=\"{height:.1}\" fill=\"#1f6fb4\"/>",
            width - 1
        );
    }
    svg += &format!("<path d=\"M0 {HEIGHT}H{WIDTH}\" stroke=\"#999\"/><text y=\"75\">{:.0}</text>", -reach);
    svg += &format!("<text x=\"{}\" y=\"75\" text-anchor=\"middle\">0</text>", WIDTH / 2);
    svg + &format!("<text x=\"{WIDTH}\" y=\"75\" text-anchor=\"end\">{reach:.0}</text></svg>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
