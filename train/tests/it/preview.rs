//! `train preview`: the sheet shows the batches that a run with these flags would read.

use std::path::Path;

use burn::tensor::Device;
use datasets::paired::{Pair, PairOptions, PairedDataset};
use fixtures::{HeadsConfig, PalmConfig, heads, palms};
use train::families::reid::settings::ReidConfig;
use train::families::reid::task::ReidTask;
use train::run::engine::Task;

use crate::support::{Ended, pictures, train};

fn preview(at: &Path, more: &str) -> Ended {
    let line = format!(
        "preview reid --datadir data --height 32 --width 24 --batchid 3 --batchimage 2 --n-thread 2 --random_erasing \
         --rand-augment 1 {more}"
    );
    train(at, &line.split_whitespace().collect::<Vec<_>>())
}

#[test]
fn the_sheet_is_what_the_first_batches_of_an_epoch_hold() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(at, 12, 6);
    let listed = preview(at, "-o sheet.png --rows 5").ok().stdout;
    let sheet = image::open(at.join("sheet.png")).unwrap().to_rgb8();
    // Two pictures of 24×32 in a row, four pixels around each.
    assert_eq!(sheet.dimensions(), (2 * 28 + 4, 5 * 36 + 4));
    assert_eq!(listed.lines().count(), 5, "{listed}");

    let config = ReidConfig {
        datadir: at.join("data").display().to_string(),
        height: 32,
        width: 24,
        batchid: 3,
        batchimage: 2,
        random_erasing: true,
        rand_augment: 1,
        ..ReidConfig::default()
    };
    let task = ReidTask::open(&config, &Device::flex().autodiff()).unwrap();
    let mut batches = task.epoch(1, 0).unwrap().batches.map(|batch| batch.unwrap().1);
    let (first, second) = (batches.next().unwrap(), batches.next().unwrap());
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    for (batch, picture, row, column) in [(&first, 0, 0, 0), (&first, 3, 1, 1), (&second, 2, 4, 0)] {
        let pixels = &batch.pixels[picture * 3 * 32 * 24..][..3 * 32 * 24];
        for (place, value) in pixels.iter().enumerate() {
            let (channel, y, x) = (place / (32 * 24), place / 24 % 32, place % 24);
            let shown = sheet.get_pixel((28 * column + 4 + x) as u32, (36 * row + 4 + y) as u32)[channel];
            let wanted = 255.0 * (value * std[channel] + mean[channel]);
            assert!((f32::from(shown) - wanted).abs() <= 0.6, "{place}: {shown} for {wanted}");
        }
        let line = listed.lines().nth(row).unwrap();
        let path = &task.sample(batch.indices[picture]).path;
        let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        assert!(line.contains(folder) && line.contains(path.file_name().unwrap().to_str().unwrap()), "{line}");
    }

    let bytes = |more: &str| {
        preview(at, &format!("{more} -o other.png --rows 5")).ok();
        std::fs::read(at.join("other.png")).unwrap()
    };
    let same = std::fs::read(at.join("sheet.png")).unwrap();
    assert!(bytes("--n-thread 1") == same, "threads change nothing");
    assert!(bytes("--seed 2") != same && bytes("--epoch 2") != same && bytes("--random_erasing False") != same);
    assert!(!at.join("runs").exists(), "nothing is trained");
}

/// The rows of a sheet that `train preview` wrote, each cut out of it: pictures of this side in so many columns.
fn cut(path: &Path, side: u32, columns: u32) -> Vec<Vec<image::RgbImage>> {
    let sheet = image::open(path).unwrap().to_rgb8();
    let step = side + 4;
    assert_eq!(sheet.width(), columns * step + 4);
    let one = |row, column| image::imageops::crop_imm(&sheet, column * step + 4, row * step + 4, side, side).to_image();
    (0..(sheet.height() - 4) / step).map(|row| (0..columns).map(|column| one(row, column)).collect()).collect()
}

/// Without augmentation the pictures are those of the data: pairs of palm and vein, and triplets of one modality.
#[test]
fn palms_and_veins_are_drawn_as_triplets_and_as_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    palms(&PalmConfig { people: 5, samples: 6, size: 32, ..PalmConfig::default() }, &at.join("palms")).unwrap();
    let draw = |line: &str, output: &str| {
        let still =
            "--rotation 0 --translation 0 --brightness 0 --contrast 0 --datadir palms --img-size 32 --n-thread 1";
        let line = format!("preview palmvein {line} --batch 4 --rows 3 -o {output}");
        let still = if line.contains("--rotation") { "--datadir palms --img-size 32 --n-thread 1" } else { still };
        let words: Vec<&str> = line.split_whitespace().chain(still.split_whitespace()).collect();
        train(at, &words)
    };
    let listed = draw("stage2", "pairs.png").ok().stdout;
    let pairs = cut(&at.join("pairs.png"), 32, 2);
    assert_eq!((pairs.len(), listed.lines().count()), (3, 3), "{listed}");
    let data = PairedDataset::open(&at.join("palms"), &PairOptions::default()).unwrap();
    let grey = |path: &Path| image::open(path).unwrap().to_luma8();
    for (line, row) in listed.lines().zip(&pairs) {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let of = |pair: &&Pair| {
            line.ends_with(&format!("{}, {}", name(&pair.palm), name(&pair.vein)))
                && line.contains(&data.classes[pair.class])
        };
        let known: Vec<_> = data.train.iter().filter(of).collect();
        let shows = |pair: &Pair| {
            row.iter().zip([&pair.palm, &pair.vein]).all(|(drawn, path)| {
                let values = drawn.pixels().map(|pixel| pixel[0]).zip(grey(path).into_raw());
                values.into_iter().all(|(drawn, wanted)| drawn.abs_diff(wanted) <= 1)
            })
        };
        assert!(known.iter().any(|pair| shows(pair)), "{line}");
    }
    draw("stage1 --branch cnn-vein", "triplets.png").ok();
    let triplets = cut(&at.join("triplets.png"), 32, 3);
    let veins: Vec<Vec<u8>> = data.train.iter().map(|pair| grey(&pair.vein).into_raw()).collect();
    let is_vein = |drawn: &image::RgbImage| {
        let near = |vein: &Vec<u8>| drawn.pixels().zip(vein).all(|(pixel, wanted)| pixel[0].abs_diff(*wanted) <= 1);
        veins.iter().any(near)
    };
    assert!(triplets.len() == 3 && triplets.iter().flatten().all(is_vein));
    draw("stage2 --rotation 15", "moved.png").ok();
    assert!(cut(&at.join("moved.png"), 32, 2) != pairs, "augmentation is drawn");
    draw("stage1 --branch all", "x.png").refused(&["--branch", "all"]);
    draw("stage2 --stage1 runs", "x.png").refused(&["--stage1", "`train preview`"]);
    draw("stage2 --resume x", "x.png").refused(&["--resume", "`train preview`"]);
}

#[test]
fn sources_and_targets_of_heads_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    heads(&HeadsConfig { people: 8, frames: 4, size: 32, ..HeadsConfig::default() }, &at.join("data")).unwrap();
    let draw = |more: &str| {
        let line = format!("preview controlnet --data_dir data --image_size 32 --batch_size 4 -o heads.png {more}");
        train(at, &line.split_whitespace().collect::<Vec<_>>())
    };
    let listed = draw("--rows 5").ok().stdout;
    let rows = cut(&at.join("heads.png"), 32, 2);
    assert_eq!((rows.len(), listed.lines().count()), (5, 5), "{listed}");
    let pictures: Vec<image::RgbImage> =
        walk(&at.join("data")).into_iter().filter_map(|path| Some(image::open(path).ok()?.to_rgb8())).collect();
    let known = |drawn: &image::RgbImage| {
        let near = |one: &image::RgbImage| {
            one.dimensions() == drawn.dimensions()
                && one.as_raw().iter().zip(drawn.as_raw()).all(|(one, drawn)| one.abs_diff(*drawn) <= 1)
        };
        pictures.iter().any(near)
    };
    assert!(rows.iter().flatten().all(known) && rows.iter().all(|row| row[0] != row[1]));
    assert!(listed.contains("front ") && listed.contains("video "), "{listed}");
    draw("--resume x").refused(&["--resume", "`train preview`"]);
    draw("--rows 0").refused(&["--rows", "0"]);
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn flags_of_runs_and_sheets_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    preview(at, "").refused(&["`data`"]);
    pictures(at, 8, 4);
    preview(at, "--resume test").refused(&["--resume", "`train preview`"]);
    preview(at, "--pre-train-partial").refused(&["--pre-train-partial"]);
    preview(at, "--epoch 0").refused(&["--epoch", "0", "1"]);
    preview(at, "--rows 0").refused(&["--rows", "0", "1"]);
    preview(at, "--bnneck").refused(&["`bnneck`", "LMBN_n"]);
    preview(at, "--height 8000 --width 8000").refused(&["--rows", "100000000"]);
    // A folder is no file to replace.
    preview(at, "-o data").refused(&["`data`"]);
    assert_eq!(train(at, &["preview"]).code, Some(2));
    train(at, &["preview", "senet"]).refused(&["'senet'"]);
}
