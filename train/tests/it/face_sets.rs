//! Damaged face sets, for both families that train on them: whatever is wrong is named, and nothing is written.

use std::path::Path;

use files::npy::{Array, encode};
use fixtures::{FaceFeaturesConfig, HeadsConfig, face_features, heads};

use crate::support::{Ended, train};

/// A family's command line, its folder of data, and the files that it reads there.
type Family = (&'static str, &'static str, &'static [&'static str]);

const FAMILIES: [Family; 2] = [
    (
        "senet --data_dir features --image_dim 32 --hidden_dim 16 --identity_dims 1 --batch_size 8 --epochs 1 \
         --log_dir logs",
        "features",
        &[
            "front_metadata.json",
            "front_feature.npy",
            "front_keypoints.npy",
            "video_metadata.json",
            "video_feature.npy",
            "video_keypoints.npy",
        ],
    ),
    (
        "controlnet --data_dir heads --image_size 16 --feature_dim 8 --batch_size 8 --epochs 1 --log_dir logs",
        "heads",
        &["front_metadata.json", "front_keypoints.npy", "video_metadata.json", "video_keypoints.npy"],
    ),
];

fn sets() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let features = FaceFeaturesConfig { people: 12, frames: 4, dim: 32, identity_rank: 8, ..Default::default() };
    face_features(&features, &folder.path().join("features")).unwrap();
    let config = HeadsConfig { people: 12, frames: 4, size: 16, ..HeadsConfig::default() };
    heads(&config, &folder.path().join("heads")).unwrap();
    folder
}

fn run(at: &Path, line: &str, more: &str) -> Ended {
    train(at, &line.split_whitespace().chain(more.split_whitespace()).collect::<Vec<_>>())
}

/// The file with its first `from` replaced.
fn patched(good: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = good.windows(from.len()).position(|window| window == from).unwrap();
    [&good[..at], to, &good[at + from.len()..]].concat()
}

/// Whether the values of an array are of single precision.
fn is_single(array: &[u8]) -> bool {
    array.windows(4).any(|window| window == b"<f4'")
}

/// The array with `change` made to its rows; the last value of the third is not a number where `broken`.
fn rows(good: &[u8], fewer: usize, broken: bool) -> Vec<u8> {
    let (mut shape, mut values) = Array::decode(good).unwrap().into_f64();
    let width: usize = shape[1..].iter().product();
    shape[0] -= fewer;
    values.truncate(shape[0] * width);
    if broken {
        values[3 * width - 1] = f64::NAN;
    }
    if is_single(good) {
        encode(&shape, &values.iter().map(|value| *value as f32).collect::<Vec<_>>())
    } else {
        encode(&shape, &values)
    }
}

#[test]
fn damage_to_any_file_is_named_by_both_families() {
    let folder = sets();
    let at = folder.path();
    for (line, data, files) in FAMILIES {
        for name in files {
            let path = at.join(data).join(name);
            let good = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            // Without its metadata a folder is no face set.
            let more = if name.ends_with("_metadata.json") { "docs/faces.md" } else { "os" };
            run(at, line, "").refused(&[name, more]);
            let put = |bytes: &[u8], facts: &[&str]| {
                std::fs::write(&path, bytes).unwrap();
                run(at, line, "").refused(&[&[*name], facts].concat());
            };
            put(b"", &[]);
            put(&good[..good.len() / 2], &[]);
            if name.ends_with(".npy") {
                put(
                    &patched(&good, b"'<f", b"'<c"),
                    &[if is_single(&good) { "`<c4`" } else { "`<c8`" }, "numpy.float32"],
                );
                let (mut shape, _) = Array::decode(&good).unwrap().into_f64();
                shape[0] -= 1;
                put(&rows(&good, 1, false), &[&format!("{shape:?}")]);
                put(&rows(&good, 0, true), &["2", "finite"]);
            } else {
                put(&patched(&good, b"person_name\": \"", b"person_name\": \"\xff"), &["line", "column"]);
                put(&patched(&good, b"\"poses\": [", b"\"poses\": [[1, 2, 3],"), &["`poses`"]);
            }
            std::fs::write(&path, good).unwrap();
        }
        assert!(
            !at.join("checkpoints_senet").exists()
                && !at.join("checkpoints_image").exists()
                && !at.join("logs").exists()
        );
    }
}

#[test]
fn people_without_frames_are_left_out_and_nobody_is_an_error() {
    let folder = sets();
    let at = folder.path();
    for ((line, data, _), person) in FAMILIES.into_iter().zip(["person_003", "head_0003"]) {
        let path = at.join(data).join("video_metadata.json");
        let good = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, good.replace(person, "somebody else")).unwrap();
        let ended = run(at, line, "--train_ratio 0.05");
        assert!(ended.stderr.contains(person) && ended.stderr.contains("left out"), "{}", ended.stderr);
        // Of the eleven that are left.
        ended.refused(&["11", "0.05", "--train-ratio"]);
        run(at, line, "--val_ratio 0.01").refused(&["11", "0.01", "--val-ratio"]);
        std::fs::write(&path, good.replace("person_0", "other_0").replace("head_0", "other_0")).unwrap();
        run(at, line, "").refused(&[data]);
        std::fs::write(&path, good).unwrap();
    }
}

/// Stored paths with the separators of Windows and names of any script find their pictures; what is no picture is
/// left out and counted, and too much of it ends the run.
#[test]
fn pictures_are_found_by_any_name_and_must_be_pictures() {
    let folder = sets();
    let at = folder.path();
    let (line, data, _) = FAMILIES[1];
    let data = at.join(data);
    let path = data.join("front_metadata.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::rename(data.join("faces/head_0001.png"), data.join("faces/лицо 一.png")).unwrap();
    let text = text.replace("faces/head_0001.png", "faces/лицо 一.png").replace("faces/", r"C:\\data\\faces\\");
    std::fs::write(&path, text).unwrap();
    std::fs::write(data.join("faces/head_0002.png"), "no picture").unwrap();
    std::fs::write(data.join("faces/head_0003.png"), b"").unwrap();
    // By their names alone, below --image_dir.
    let ended = run(at, line, "--image_dir heads/faces").ok();
    assert!(
        ended.stderr.contains("2 of ") && ended.stderr.contains("pictures are missing or unreadable"),
        "{}",
        ended.stderr
    );

    for entry in std::fs::read_dir(data.join("faces")).unwrap() {
        std::fs::write(entry.unwrap().path(), b"GIF89a").unwrap();
    }
    run(at, line, "--image_dir heads/faces --overwrite").refused(&["0", "--image-dir", "--allow-missing"]);
}

#[cfg(unix)]
#[test]
fn folders_whose_names_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;

    let folder = sets();
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"data-\xff"));
    std::fs::rename(folder.path().join("features"), &odd).unwrap();
    for flag in ["--data_dir", "--log_dir"] {
        let mut command = crate::support::command(folder.path(), &["senet", flag]);
        let ended: Ended = command.arg(&odd).output().unwrap().into();
        ended.refused(&["UTF-8"]);
    }
}
