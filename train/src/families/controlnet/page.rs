//! The report of a network that draws: one page with everything in it.

use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use image::{ImageFormat, RgbImage};
use maud::{Markup, html};
use report::chart::{Axis, Chart, Scale, Series, Shape, Unit};
use report::{data_uri, page};

use crate::families::controlnet::net::{ControlNet, ControlNetConfig};
use crate::families::controlnet::scores::{Score, Scores};
use crate::families::controlnet::task::{ControlnetTask, FAMILY, Poses};
use crate::run::checkpoint::Checkpoint;
use crate::run::curves;
use crate::run::epoch::EpochRecord;
use crate::run::log::Panel;

/// How training went.
pub struct Epochs<'a> {
    /// The panels of its curves.
    pub panels: &'a [Panel],
    /// Its epochs.
    pub records: &'a [EpochRecord],
}

/// Numbers of an epoch that have a column, by the name of the metric.
const COLUMNS: [&str; 5] = ["total_loss", "image_loss", "pose_loss", "psnr", "ssim"];

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
    let body = html! {
        p { (network.to_string()) ". Network after epoch " (record.epoch) "." }
        p { code { (record.published_command()) } }
        h2 { "At the end" }
        (score_table(scores))
        h2 { "People that nobody trained on" }
        div.scroll {
            div.samples {
                div { span { "source" } span { "truth" } span { "drawn" } }
                img alt="sources, true pictures and drawn ones" src=(data_uri("png", png.get_ref()));
            }
        }
        h2 { "Poses" }
        p { "How the angles are spread over the test pairs: of targets, of sources, and as the network reads sources." }
        div.charts { @for chart in pose_charts(poses) { (chart) } }
        @if let Some(Epochs { panels, records }) = epochs {
            h2 { "Curves" }
            div.charts { @for chart in curves::charts(records, panels) { (chart) } }
            h2 { "Epochs" }
            (epoch_table(records))
        }
    };
    Ok(page("ImageControlNet", &body))
}

/// The network beside two ways that need none; the best of each row stands out.
fn score_table(scores: &[Scores]) -> Markup {
    let row = |Scores { part, pairs, network, copy_source, mean_picture }: &Scores| {
        let ways = [network, copy_source, mean_picture];
        let best = ways.iter().map(|score| score.psnr).fold(f64::MIN, f64::max);
        html! {
            tr {
                td { (part) } td { (pairs) }
                @for Score { psnr, ssim, .. } in ways {
                    td.best[*psnr == best] { (format!("{psnr:.2}, {ssim:.3}")) }
                }
            }
        }
    };
    html! {
        div.scroll {
            table.numbers {
                thead {
                    tr {
                        th { "PSNR in dB, SSIM" } th { "pairs" } th { "network" } th { "copy source" }
                        th { "mean picture" }
                    }
                }
                tbody { @for scores in scores { (row(scores)) } }
            }
        }
    }
}

fn epoch_table(records: &[EpochRecord]) -> Markup {
    html! {
        div.scroll {
            table.numbers {
                thead {
                    tr {
                        th { "epoch" } th { "learning rate" } th { "training loss" }
                        @for column in COLUMNS { th { (column.replace('_', " ")) } }
                    }
                }
                tbody {
                    @for epoch in records {
                        tr {
                            td { (epoch.epoch) } td { (format!("{:.2e}", epoch.lr)) }
                            td { (format!("{:.4}", epoch.total)) }
                            @for column in COLUMNS {
                                td { @if let Some(value) = epoch.metrics.get(column) { (format!("{value:.4}")) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A chart for each angle: how targets, sources, and what the network reads of the sources are spread.
fn pose_charts(Poses { target, source, read }: &Poses) -> Vec<Chart> {
    let chart = |angle: usize| {
        let column = |rows: &[Vec<f32>]| rows.iter().map(|row| row[angle]).filter(|value| value.is_finite()).collect();
        let columns: [Vec<f32>; 3] = [target, source, read].map(|rows| column(rows));
        let reach = columns.iter().flatten().map(|value| value.abs()).fold(1.0, f32::max);
        let reach = f64::from((reach / 5.0).ceil() * 5.0);
        let names = ["targets", "sources", "sources as they are read"];
        let series = |(colour, (name, values)): (usize, (&str, &Vec<f32>))| {
            Series::new(name, colour, Shape::Line, shares(values, reach))
        };
        let series: Vec<Series> = names.into_iter().zip(&columns).enumerate().map(series).collect();
        let most = series.iter().flat_map(|series| &series.points).map(|[_, share]| *share).fold(1e-6, f64::max);
        Chart {
            title: ["yaw", "pitch", "roll"].get(angle).copied().unwrap_or("angle").to_owned(),
            size: [420.0, 170.0],
            x: Axis::new("degrees", Scale::Linear { low: -reach, high: reach }, Unit::Number),
            y: Axis::new("share of pairs", Scale::Linear { low: 0.0, high: 1.04 * most }, Unit::Percent),
            right: None,
            series,
            guides: vec![],
        }
    };
    (0..target.first().map_or(0, Vec::len)).map(chart).collect()
}

/// Which share of the values is in each of equal bins between −`reach` and `reach`, at the bin's middle.
fn shares(values: &[f32], reach: f64) -> Vec<[f64; 2]> {
    const BINS: usize = 24;
    let mut counts = [0_usize; BINS];
    for value in values {
        let at = (f64::from(*value) / reach + 1.0) / 2.0 * BINS as f64;
        counts[(at as usize).min(BINS - 1)] += 1;
    }
    let middle = |bin: usize| reach * (2.0 * bin as f64 + 1.0 - BINS as f64) / BINS as f64;
    let share = |count: usize| count as f64 / values.len().max(1) as f64;
    counts.into_iter().enumerate().map(|(bin, count)| [middle(bin), share(count)]).collect()
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn angles_are_counted_in_their_bin() {
        let found = shares(&[-30.0, 29.9, 30.0, 0.1], 30.0);
        assert_eq!(found.len(), 24);
        assert_eq!((found[0], found[23], found[12]), ([-28.75, 0.25], [28.75, 0.5], [1.25, 0.25]));
    }
}
