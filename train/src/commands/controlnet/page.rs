//! The report of a run: one page with everything in it.

use std::fmt::Write;
use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use contract::base64;
use image::{ImageFormat, RgbImage};
use train::checkpoint::Record;
use train::history::EpochRecord;
use train::task::controlnet::{Score, Scores};

/// What the page says besides pictures and curves.
pub struct Facts<'a> {
    /// Of the best network.
    pub record: &'a Record,
    /// The network in words.
    pub network: &'a str,
    /// Its figures at the end.
    pub scores: &'a [Scores],
}

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>ImageControlNet</title>\n<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .25rem .8rem; text-align: right }
th:first-child, td:first-child { text-align: left } tr + tr { border-top: 1px solid #ddd }
img { max-width: 100% } img.samples { image-rendering: pixelated; min-width: 60% } code { overflow-wrap: anywhere }
</style>\n";

/// The page: numbers, sample pictures, the curves of the run directory, a table of the epochs.
pub fn html(facts: &Facts<'_>, dir: &Path, samples: &RgbImage, epochs: &[EpochRecord]) -> anyhow::Result<String> {
    let mut png = Cursor::new(Vec::new());
    samples.write_to(&mut png, ImageFormat::Png).context("cannot compress the sample pictures")?;
    let Facts { record, network, scores } = facts;
    let mut page = String::from(HEAD);
    writeln!(
        page,
        "<h1>ImageControlNet</h1>\n<p>{}. Best network after epoch {}.</p>",
        escaped(network),
        record.epoch
    )?;
    writeln!(page, "<p><code>{}</code></p>", escaped(&record.command))?;
    writeln!(
        page,
        "<h2>At the end</h2>\n<table><tr><th>PSNR in dB, SSIM<th>pairs<th>network<th>copy source<th>mean picture"
    )?;
    for Scores { part, pairs, network, copy_source, mean_picture } in *scores {
        let cell = |score: &Score| format!("{:.2}, {:.3}", score.psnr, score.ssim);
        let cells = [network, copy_source, mean_picture].map(|score| format!("<td>{}", cell(score))).concat();
        writeln!(page, "<tr><td>{}<td>{pairs}{cells}", escaped(part))?;
    }
    writeln!(page, "</table>\n<h2>Sources, targets, outputs</h2>\n<p>People that validate.</p>")?;
    writeln!(page, "<img class=\"samples\" alt=\"samples\" src=\"data:image/png;base64,{}\">", base64(png.get_ref()))?;
    let curves = dir.join("final_training_curves.png");
    if let Ok(curves) = std::fs::read(&curves) {
        writeln!(page, "<h2>Curves</h2>\n<img alt=\"curves\" src=\"data:image/png;base64,{}\">", base64(&curves))?;
    }
    let columns = ["total_loss", "image_loss", "pose_loss", "psnr", "ssim"];
    let heads = columns.map(|column| format!("<th>{column}")).concat();
    writeln!(page, "<h2>Epochs</h2>\n<table><tr><th>epoch<th>learning rate<th>training loss{heads}")?;
    for epoch in epochs {
        let value = |column: &str| epoch.metrics.get(column).map_or(String::new(), |value| format!("{value:.4}"));
        let cells = columns.map(|column| format!("<td>{}", value(column))).concat();
        writeln!(page, "<tr><td>{}<td>{:.2e}<td>{:.4}{cells}", epoch.epoch, epoch.lr, epoch.total)?;
    }
    page.push_str("</table>\n</html>\n");
    Ok(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
