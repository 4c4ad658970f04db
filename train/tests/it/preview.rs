//! `train preview`: the sheet shows the batches that a run with these flags would read.

use std::path::Path;

use burn::tensor::Device;
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
