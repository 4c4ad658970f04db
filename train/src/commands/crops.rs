//! `train crops`: pictures of people, cut from the frames of videos whose people are tracked.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use contract::preprocess;
use datasets::mot::{MotOptions, MotSkipped, Track, Tracks, tracks};
use files::table::Writer;
use image::codecs::jpeg::JpegEncoder;
use image::{RgbImage, imageops};
use rayon::prelude::*;
use terminal::progress;

/// The table of what was cut.
const TABLE: &str = "crops.csv";

/// JPEG quality of the pictures, 1 to 100.
const QUALITY: u8 = 95;

/// Flags of `train crops`.
#[derive(Debug, Args)]
pub struct CropsArgs {
    /// MOT16, MOT17 or MOT20, or one of its videos: folders with gt/gt.txt and img1.
    pub videos: PathBuf,
    /// Folder to write, empty or new: the pictures, and the table crops.csv for --data-train.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Class of the boxes, 1 (pedestrians) without it; may be repeated.
    #[arg(long = "class", value_name = "N")]
    pub classes: Vec<u32>,
    /// Least share of a box that nothing covers, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = MotOptions::default().visibility)]
    pub visibility: f64,
    /// Least height of a box in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = MotOptions::default().min_height as u32)]
    pub min_height: u32,
    /// Frames between two pictures of a person, at least 1.
    #[arg(long, value_name = "N", default_value_t = MotOptions::default().every,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub every: u32,
    /// Threads that read and write pictures, at most 256 or one per core [default: one per core].
    #[arg(long, value_name = "N", value_parser = terminal::threads)]
    pub n_thread: Option<NonZeroUsize>,
}

/// A picture to write.
struct Cut {
    /// Below the output's folder.
    name: String,
    area: [f64; 4],
    identity: String,
    camera: usize,
    split: &'static str,
    frame: u32,
}

/// `train crops`.
///
/// # Errors
/// If the ground truth cannot be read, nothing of it is wanted, or a picture cannot be written.
pub(super) fn run(args: &CropsArgs) -> anyhow::Result<ExitCode> {
    ensure!((0.0..=1.0).contains(&args.visibility), "--visibility is {}; 0 to 1 are allowed", args.visibility);
    let classes = if args.classes.is_empty() { MotOptions::default().classes } else { args.classes.clone() };
    let (min_height, every) = (f64::from(args.min_height), args.every);
    let options = MotOptions { classes, visibility: args.visibility, min_height, every };
    let output = args.output.as_path();
    if output.exists() && std::fs::read_dir(output).map_or(true, |mut entries| entries.next().is_some()) {
        bail!("`{}` is no empty folder; --output names a new one or an empty one", output.display());
    }
    let Tracks { tracks, skipped } = tracks(&args.videos, &options)?;
    if tracks.is_empty() {
        bail!("`{}` has no box that is wanted: {}", args.videos.display(), said(skipped));
    }
    let cuts = plan(&tracks);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.n_thread.map_or(0, NonZeroUsize::get)).build()?;
    let count = cuts.values().map(Vec::len).sum::<usize>();
    let bar = progress(count as u64, "cut", "pictures");
    let written = pool.install(|| {
        let frame = |(picture, cuts): (&PathBuf, &Vec<Cut>)| {
            let written = of_frame(picture, cuts, output);
            bar.inc(cuts.len() as u64);
            written
        };
        cuts.par_iter().map(frame).collect::<anyhow::Result<Vec<Vec<bool>>>>()
    })?;
    bar.finish_and_clear();
    let mut table = Writer::exact(&["path", "identity", "camera", "split", "time"]);
    let (mut rows, mut people) = (Vec::new(), BTreeMap::<&str, &str>::new());
    for (cut, written) in cuts.values().flatten().zip(written.into_iter().flatten()) {
        if written {
            rows.push(cut);
            people.insert(&cut.identity, cut.split);
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    for Cut { name, identity, camera, split, frame, .. } in &rows {
        table.row([name, identity, &camera.to_string(), *split, &frame.to_string()]);
    }
    files::write(&output.join(TABLE), table.finish())?;
    let training = people.values().filter(|split| **split == "train").count();
    terminal::show!(
        "{}: {} pictures of {} people, {training} of whom train; {} outside of their frames or in frames that cannot \
         be read; {}",
        output.join(TABLE).display(),
        rows.len(),
        people.len(),
        count - rows.len(),
        said(skipped)
    )?;
    Ok(ExitCode::SUCCESS)
}

/// What is to be cut, by frame. Of the people of a video every second one trains. Of the others the earlier half of
/// their pictures are queries and the later half the gallery, as by two cameras: one camera has seen both, and the
/// protocol would leave such matches out.
fn plan(tracks: &[Track]) -> BTreeMap<PathBuf, Vec<Cut>> {
    let mut cuts = BTreeMap::<PathBuf, Vec<Cut>>::new();
    let mut videos: Vec<&str> = tracks.iter().map(|track| track.video.as_str()).collect();
    videos.dedup();
    for (number, video) in videos.into_iter().enumerate() {
        for (place, track) in tracks.iter().filter(|track| track.video == video).enumerate() {
            let identity = format!("{video}_{:04}", track.id);
            // One picture alone is an entry.
            let queries = track.crops.len() / 2;
            for (at, crop) in track.crops.iter().enumerate() {
                let later = at >= queries;
                let split = match (place % 2, later) {
                    (0, _) => "train",
                    (_, false) => "query",
                    (_, true) => "gallery",
                };
                cuts.entry(crop.picture.clone()).or_default().push(Cut {
                    name: format!("{identity}/{:06}.jpg", crop.frame),
                    area: crop.area,
                    identity: identity.clone(),
                    camera: 2 * number + usize::from(later),
                    split,
                    frame: crop.frame,
                });
            }
        }
    }
    cuts
}

/// Writes the pictures of one frame: which of them there are.
fn of_frame(picture: &Path, cuts: &[Cut], output: &Path) -> anyhow::Result<Vec<bool>> {
    let frame = match preprocess::decode(picture) {
        Ok(frame) => frame,
        Err(error) => {
            terminal::warn(&format!("{error}: left out"));
            return Ok(vec![false; cuts.len()]);
        }
    };
    cuts.iter()
        .map(|Cut { name, area, .. }| {
            let Some(crop) = cropped(&frame, *area) else { return Ok(false) };
            let path = output.join(name);
            let folder = path.parent().unwrap_or(output);
            files::make_folder(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
            let mut jpeg = Cursor::new(Vec::new());
            JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&crop)?;
            files::write_unsynced(&path, jpeg.into_inner())?;
            Ok(true)
        })
        .collect()
}

/// The part of a box that is in the frame; none of one outside.
fn cropped(frame: &RgbImage, [left, top, width, height]: [f64; 4]) -> Option<RgbImage> {
    let side = |from: f64, size: f64, most: u32| {
        let ends = [from, from + size].map(|end| end.round().clamp(0.0, f64::from(most)) as u32);
        (ends[0], ends[1] - ends[0])
    };
    let ((x, width), (y, height)) = (side(left, width, frame.width()), side(top, height, frame.height()));
    (width > 0 && height > 0).then(|| imageops::crop_imm(frame, x, y, width, height).to_image())
}

/// Which lines are not used, in words.
fn said(MotSkipped { flagged, class, hidden, small, near, missing }: MotSkipped) -> String {
    format!(
        "boxes not taken: {flagged} not to be considered, {class} of other classes, {hidden} seen too little, {small} \
         too low, {near} too soon after the last, {missing} without their frame"
    )
}
