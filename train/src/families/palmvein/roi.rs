//! `train palmvein roi`: whole hands to aligned palms.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use contract::preprocess::{decode, grey};
use datasets::paired::{Pair, PairList, list_pairs};
use files::table::Writer;
use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage, imageops};
use serde_json::json;
use terminal::progress;

use crate::families::palmvein::cli::RoiArgs;
use crate::families::palmvein::data::roi::{Hang, Square, crop, find, marked};
use crate::run::flags::Format;

/// Pairs on the contact sheet, the first ones.
const SHOWN: usize = 60;

/// Edge of a picture on the contact sheet, in pixels.
const CELL: u32 = 128;

/// Pairs in a row of the contact sheet.
const ACROSS: u32 = 4;

/// `train palmvein roi`.
pub fn roi(args: &RoiArgs) -> Result<ExitCode> {
    let holds_files = std::fs::read_dir(&args.output).is_ok_and(|mut entries| entries.next().is_some());
    if holds_files && !args.overwrite {
        bail!("`{}` holds files already: choose another folder, or --overwrite", args.output.display());
    }
    let PairList { classes, pairs, warnings, .. } = list_pairs(&args.folder, &args.naming.options())?;
    warnings.iter().for_each(|warning| terminal::warn(warning));
    let mut manifest = Writer::exact(&["palm", "vein", "identity", "session", "x", "y", "side", "angle"]);
    let (mut sheet, mut left_out) = (Vec::new(), Vec::new());
    let bar = progress(pairs.len() as u64, "palms", "pairs");
    for (number, pair) in pairs.iter().enumerate() {
        bar.inc(1);
        let Cut { square, palms, shown } = match Cut::of(pair, args) {
            Ok(cut) => cut,
            Err(error) => {
                left_out.push((pair.name.clone(), format!("{error:#}")));
                continue;
            }
        };
        let names = ["palm", "vein"].map(|side| format!("{side}/{number:05}.png"));
        for (name, palm) in names.iter().zip(&palms) {
            files::write(&args.output.join(name), png(DynamicImage::ImageLuma8(palm.clone()))?)?;
        }
        let Square { centre: [x, y], side, angle } = square;
        let [palm, vein] = names;
        let place = [format!("{x:.1}"), format!("{y:.1}"), format!("{side:.1}"), format!("{angle:.4}")];
        manifest.row([palm, vein, classes[pair.class].clone(), pair.session.to_string()].into_iter().chain(place));
        if sheet.len() < SHOWN {
            let [palm, vein] = palms.map(|palm| small(&palm));
            sheet.push([marked(&shown, &square, CELL), palm, vein]);
        }
    }
    bar.finish_and_clear();
    for (_, problem) in &left_out {
        terminal::warn(&format!("{problem}: left out"));
    }
    let done = pairs.len() - left_out.len();
    if done == 0 {
        bail!("no palm was found on any of {} pairs in `{}`", pairs.len(), args.folder.display());
    }
    files::write(&args.output.join("manifest.csv"), manifest.finish())?;
    let path = args.output.join("contact_sheet.png");
    files::write(&path, png(DynamicImage::ImageRgb8(contact_sheet(&sheet)))?)?;
    match args.format {
        Format::Table => {
            let count = left_out.len();
            terminal::show!("{done} palms in {}, {count} left out; look at {}", args.output.display(), path.display())?;
        }
        Format::Json => {
            let left_out: Vec<_> =
                left_out.iter().map(|(pair, problem)| json!({ "pair": pair, "problem": problem })).collect();
            terminal::show!("{}", json!({ "pairs": done, "left_out": left_out, "contact_sheet": path }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Both palms of a pair, and where they were.
struct Cut {
    square: Square,
    palms: [GrayImage; 2],
    /// The picture the square was found on.
    shown: GrayImage,
}

impl Cut {
    fn of(pair: &Pair, args: &RoiArgs) -> Result<Self> {
        let read = |path: &Path| decode(path).map(|picture| grey(&picture));
        let pictures = [read(&pair.palm)?, read(&pair.vein)?];
        let (at, path) = if args.from_vein { (1, &pair.vein) } else { (0, &pair.palm) };
        let hang = Hang { side: args.side, offset: args.offset };
        let square = find(&pictures[at], hang).with_context(|| format!("no palm is found on `{}`", path.display()))?;
        // One square for both pictures, which show the same scene: the other one may have more pixels.
        let base = pictures[at].dimensions();
        let palms = pictures.each_ref().map(|picture| {
            let scale = [picture.width() as f32 / base.0 as f32, picture.height() as f32 / base.1 as f32];
            crop(picture, &square, args.size, scale)
        });
        let [palm, vein] = pictures;
        Ok(Self { square, palms, shown: if args.from_vein { vein } else { palm } })
    }
}

fn small(cut: &GrayImage) -> RgbImage {
    DynamicImage::ImageLuma8(imageops::resize(cut, CELL, CELL, imageops::FilterType::Triangle)).into_rgb8()
}

fn png(picture: DynamicImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Whole hand with its square, palm and vein side by side, some pairs in a row.
fn contact_sheet(pairs: &[[RgbImage; 3]]) -> RgbImage {
    let gap = 6;
    let (width, height) = (3 * CELL + gap, CELL + gap);
    let rows = (pairs.len() as u32).div_ceil(ACROSS);
    let mut sheet = RgbImage::from_pixel(ACROSS * width, rows * height, Rgb([245; 3]));
    for (at, pair) in (0_u32..).zip(pairs) {
        for (column, picture) in (0_u32..).zip(pair) {
            let x = at % ACROSS * width + column * CELL;
            imageops::replace(&mut sheet, picture, x.into(), (at / ACROSS * height).into());
        }
    }
    sheet
}
