//! `train inspect --attention`: where, and in which channels, a palm-vein network looks at the palm and at the veins.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use contract::dataset::paired::{Pair, PairedDataset};
use contract::files;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use serde::Serialize;
use train::checkpoint::Checkpoint;
use train::model::palmvein::{Features, PalmVeinNet, PalmVeinNetConfig, load_whole};
use train::palmdata::{PairPictures, evaluation_batches};
use train::task::palmvein::{FAMILY, Stage2Config};

/// Share of the colours in an overlay.
const OPACITY: f32 = 0.45;

/// Mean shares outside of which one modality is as good as unread.
const BALANCED: std::ops::RangeInclusive<f64> = 0.1..=0.9;

/// Side of a panel and height of a bar diagram, in pixels.
const PANEL: u32 = 224;

/// Weights of the palm in one branch over all pairs; the veins have the rest.
#[derive(Debug, Serialize)]
pub struct Summary {
    branch: &'static str,
    pairs: usize,
    /// Mean share of the palm.
    mean: f64,
    variance: f64,
    /// Mean of −Σ w ln w, in nats: ln 2 where nothing is decided, 0 where everything is.
    entropy: f64,
    /// Whether one modality is as good as unread.
    collapsed: bool,
}

/// Draws the weights of the first `count` test pairs into `folder`, and sums up those of all of them.
///
/// # Errors
/// If the checkpoint is no palm-vein network with attention, or the pairs cannot be read.
pub fn draw(
    checkpoint: &Checkpoint,
    datadir: Option<&Path>,
    count: usize,
    folder: &Path,
) -> anyhow::Result<Vec<Summary>> {
    let network: PalmVeinNetConfig = checkpoint.network(FAMILY)?;
    if !network.fusion.parts.attention() {
        bail!("--attention: a head of the kind {:?} weighs nothing", network.fusion.parts);
    }
    let mut config: Stage2Config =
        serde_json::from_value(checkpoint.record.config.clone()).context("the checkpoint's settings are malformed")?;
    if let Some(datadir) = datadir {
        config.common.datadir = datadir.display().to_string();
    }
    let mut net = PalmVeinNet::new(&network, 0, &Device::flex())?;
    load_whole(&checkpoint.path, &network.to_string(), &mut net)?;
    let net = net.valid();
    let data = PairedDataset::open(Path::new(&config.common.datadir), &config.common.pairs())?;
    let pairs: Vec<Pair> = data.test.iter().take(count).cloned().collect();
    let pictures = Arc::new(PairPictures::new(&pairs, config.common.size(), 0));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make folder `{}`", folder.display()))?;

    let mut shares: [Vec<f32>; 2] = [Vec::new(), Vec::new()];
    let mut table = String::from("pair,identity,branch,place,palm,vein\n");
    for batch in evaluation_batches(&pictures, 1, 1, config.common.strict)? {
        let batch = batch?;
        let Some(&index) = batch.indices.first() else { continue };
        let pair = &pairs[index];
        let name = format!("{index:03}");
        let image = |pixels: &[f32]| Tensor::from_data(TensorData::new(pixels.to_vec(), batch.shape), &Device::flex());
        let details = net.forward(image(&batch.palm), image(&batch.vein));
        let side = config.common.img_size as u32;
        let [palm, vein] = [&batch.palm, &batch.vein].map(|pixels| grey(pixels, side));
        let branches = [("global", &details.global), ("local", &details.local)];
        for ((branch, details), shares) in branches.into_iter().zip(&mut shares) {
            let Some([of_palm, of_vein]) = details.as_ref().and_then(|details| details.weights.as_ref()) else {
                continue;
            };
            let [p, v] = [of_palm, of_vein].map(|weights| weights.values().into_data().try_to_vec::<f32>());
            let (p, v) = (p?, v?);
            for (place, (p, v)) in p.iter().zip(&v).enumerate() {
                table += &format!("{name},{},{branch},{place},{p},{v}\n", csv_text(&data.classes[pair.class]));
            }
            let path = folder.join(format!("{name}_{branch}.png"));
            match of_palm {
                Features::Map(map) => save(&path, &overlays([&palm, &vein], [&p, &v], map.dims()[3] as u32))?,
                Features::Vector(_) => save(&path, &bars(&p))?,
            }
            shares.extend(p);
        }
    }
    files::write(&folder.join("weights.csv"), table)?;
    let summary = |(branch, shares): (&'static str, &Vec<f32>)| {
        (!shares.is_empty()).then(|| summary(branch, pairs.len(), shares))
    };
    let summaries: Vec<Summary> = ["global", "local"].into_iter().zip(&shares).filter_map(summary).collect();
    for summary in summaries.iter().filter(|summary| summary.collapsed) {
        eprintln!(
            "warning: the {} attention has collapsed: the palm's mean share is {:.3}, {:?} is balanced",
            summary.branch, summary.mean, BALANCED
        );
    }
    files::write(&folder.join("summary.json"), serde_json::to_string_pretty(&summaries)?)?;
    Ok(summaries)
}

fn summary(branch: &'static str, pairs: usize, shares: &[f32]) -> Summary {
    let count = shares.len() as f64;
    let mean = shares.iter().map(|share| f64::from(*share)).sum::<f64>() / count;
    let variance = shares.iter().map(|share| (f64::from(*share) - mean).powi(2)).sum::<f64>() / count;
    let part = |share: f64| if share > 0.0 { -share * share.ln() } else { 0.0 };
    let entropy = shares.iter().map(|share| part(f64::from(*share)) + part(1.0 - f64::from(*share))).sum::<f64>();
    Summary { branch, pairs, mean, variance, entropy: entropy / count, collapsed: !BALANCED.contains(&mean) }
}

/// A name as a field of a CSV file.
fn csv_text(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Normalised pixels, -1 to 1, as the picture they came from, at a panel's size.
fn grey(pixels: &[f32], side: u32) -> RgbImage {
    let picture =
        RgbImage::from_fn(side, side, |x, y| Rgb([((pixels[(y * side + x) as usize] + 1.0) * 127.5).round() as u8; 3]));
    imageops::resize(&picture, PANEL, PANEL, FilterType::Triangle)
}

/// A map of weights at a panel's size, between its places on straight lines.
fn enlarged(weights: &[f32], width: u32) -> ImageBuffer<Luma<f32>, Vec<f32>> {
    let height = weights.len() as u32 / width;
    let map = ImageBuffer::from_raw(width, height, weights.to_vec()).expect("a weight for each place");
    imageops::resize(&map, PANEL, PANEL, FilterType::Triangle)
}

/// Two rows of panels: weights of palm and vein from 0 to 1 over their pictures and their difference from -1 (blue) to 1 (red);
/// below the same, each stretched from its least to its greatest value.
fn overlays(pictures: [&RgbImage; 2], weights: [&[f32]; 2], width: u32) -> RgbImage {
    let mut sheet = RgbImage::new(3 * PANEL, 2 * PANEL);
    let maps = weights.map(|weights| enlarged(weights, width));
    for (row, stretched) in [(0, false), (1, true)] {
        for (column, (picture, map)) in pictures.into_iter().zip(&maps).enumerate() {
            let (low, high) = if stretched { ends(map) } else { (0.0, 1.0) };
            let span = (high - low).max(1e-6);
            let panel = RgbImage::from_fn(PANEL, PANEL, |x, y| {
                mix(*picture.get_pixel(x, y), viridis((map.get_pixel(x, y)[0] - low) / span))
            });
            imageops::replace(&mut sheet, &panel, i64::from(PANEL) * column as i64, i64::from(PANEL) * row);
        }
        let difference =
            ImageBuffer::from_fn(PANEL, PANEL, |x, y| Luma([maps[0].get_pixel(x, y)[0] - maps[1].get_pixel(x, y)[0]]));
        let (low, high) = ends(&difference);
        let largest = if stretched { low.abs().max(high.abs()).max(1e-6) } else { 1.0 };
        let panel = RgbImage::from_fn(PANEL, PANEL, |x, y| diverging(difference.get_pixel(x, y)[0] / largest));
        imageops::replace(&mut sheet, &panel, 2 * i64::from(PANEL), i64::from(PANEL) * row);
    }
    sheet
}

fn ends(map: &ImageBuffer<Luma<f32>, Vec<f32>>) -> (f32, f32) {
    map.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// A bar for each channel, the palm's share from below and the veins' above it, in the order of the shares.
fn bars(palm: &[f32]) -> RgbImage {
    let mut sorted = palm.to_vec();
    sorted.sort_by(f32::total_cmp);
    let bar = (512 / sorted.len() as u32).max(1);
    RgbImage::from_fn(bar * sorted.len() as u32, PANEL, |x, y| {
        let share = sorted[(x / bar) as usize];
        let height = 1.0 - (y as f32 + 0.5) / PANEL as f32;
        // The line of equal shares.
        if y == PANEL / 2 { Rgb([0; 3]) } else { diverging(if height < share { 0.8 } else { -0.8 }) }
    })
}

fn mix(pixel: Rgb<u8>, colour: Rgb<u8>) -> Rgb<u8> {
    Rgb(std::array::from_fn(|k| (f32::from(pixel[k]) * (1.0 - OPACITY) + f32::from(colour[k]) * OPACITY).round() as u8))
}

/// Colour on the straight line between the two of `stops` next to `at`, 0 to 1.
fn between<const N: usize>(stops: [[u8; 3]; N], at: f32) -> Rgb<u8> {
    let at = at.clamp(0.0, 1.0) * (N - 1) as f32;
    let first = (at as usize).min(N - 2);
    let share = at - first as f32;
    let (a, b) = (stops[first], stops[first + 1]);
    Rgb(std::array::from_fn(|k| (f32::from(a[k]) * (1.0 - share) + f32::from(b[k]) * share).round() as u8))
}

/// Matplotlib's viridis at five places: even in lightness.
fn viridis(value: f32) -> Rgb<u8> {
    between([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], value)
}

/// Blue at -1 (veins), white at 0, red at 1 (palm).
fn diverging(value: f32) -> Rgb<u8> {
    between([[33, 102, 172], [247, 247, 247], [178, 24, 43]], (value + 1.0) / 2.0)
}

fn save(path: &Path, picture: &RgbImage) -> anyhow::Result<()> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(files::write(path, bytes.into_inner())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undecided_weights_have_the_largest_entropy_and_collapse_is_seen() {
        let even = summary("local", 1, &[0.5; 8]);
        assert!((even.entropy - std::f64::consts::LN_2).abs() < 1e-9 && !even.collapsed && even.variance == 0.0);
        let palm = summary("local", 1, &[1.0; 8]);
        assert!(palm.collapsed && palm.entropy == 0.0 && palm.mean == 1.0);
    }

    #[test]
    fn overlays_show_where_the_palm_counts() {
        let picture = RgbImage::from_pixel(PANEL, PANEL, Rgb([128; 3]));
        // The palm counts at the left, the veins at the right.
        let sheet = overlays([&picture, &picture], [&[1.0, 0.0, 1.0, 0.0], &[0.0, 1.0, 0.0, 1.0]], 2);
        assert_eq!(sheet.dimensions(), (3 * PANEL, 2 * PANEL));
        let (left, right) = (sheet.get_pixel(10, 100), sheet.get_pixel(PANEL - 10, 100));
        assert!(left[0] > right[0], "yellow against violet: {left:?} {right:?}");
        let difference = [sheet.get_pixel(2 * PANEL + 10, 100), sheet.get_pixel(3 * PANEL - 10, 100)];
        assert!(difference[0][0] > difference[0][2] && difference[1][2] > difference[1][0], "{difference:?}");
    }
}
