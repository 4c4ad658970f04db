//! Where `deploy embed` takes pictures from, and what becomes of those that it cannot use.

use std::path::{Path, PathBuf};

use crate::fixture::{Answer, Fixture, TOLERANCE, person_picture, reference_embedding};

/// What ffmpeg says of frames at these seconds, before them and between.
fn showinfo(seconds: &[f64]) -> String {
    let mut said = "Input #0, mov, from 'clip.mp4':\n  Stream #0:0: Video: h264\n".to_owned();
    for (at, seconds) in seconds.iter().enumerate() {
        said += &format!("[Parsed_showinfo_1 @ 0x55d] n:{at:4} pts:{:7} pts_time:{seconds} fmt:rgb24\n", at * 512);
        said += "[Parsed_showinfo_1 @ 0x55d] color_range:unknown\n";
    }
    said
}

/// A folder with a script for ffmpeg that writes these frames, says this, and ends with a code.
fn ffmpeg(fixture: &Fixture, frames: &[u8], said: &str, code: i32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let folder = fixture.path("bin");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("frames"), frames).unwrap();
    std::fs::write(folder.join("said"), said).unwrap();
    let own = folder.display();
    let script = format!("#!/bin/sh\necho \"$@\" >{own}/asked\ncat {own}/said >&2\ncat {own}/frames\nexit {code}\n");
    std::fs::write(folder.join("ffmpeg"), script).unwrap();
    std::fs::set_permissions(folder.join("ffmpeg"), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn run_in(fixture: &Fixture, bin: &Path, line: &str) -> Answer {
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    fixture.run_with(line, &[("PATH", &path)])
}

/// Pictures as PPM, one behind the other, and the same as files.
fn frames(fixture: &Fixture, people: &[&str]) -> (Vec<u8>, Vec<PathBuf>) {
    let mut all = Vec::new();
    let mut files = Vec::new();
    for name in people {
        let picture = person_picture(name, 0.0);
        all.extend(format!("P6\n{} {}\n255\n", picture.width(), picture.height()).as_bytes());
        all.extend(picture.as_raw());
        files.push(fixture.path(&format!("{name}.png")));
        picture.save(files.last().unwrap()).unwrap();
    }
    (all, files)
}

#[test]
fn frames_of_a_video_are_embedded_with_their_numbers_and_times() {
    let fixture = Fixture::new();
    let (all, files) = frames(&fixture, &["ada", "ben", "cleo"]);
    let bin = ffmpeg(&fixture, &all, &showinfo(&[0.0, 0.2, 0.4004]), 0);
    std::fs::write(fixture.path("clip.mp4"), "").unwrap();
    let line = "embed @ben.png @clip.mp4 -m @model.onnx -o @out --every 5 --frames 3 --batch-size 2";
    let said = run_in(&fixture, &bin, line).done();
    assert!(said.contains("4 embeddings"), "{said}");
    let (values, rows) = fixture.rows("out");
    let clip = fixture.path("clip.mp4");
    let names = [
        files[1].display().to_string(),
        format!("{}#0@0.000", clip.display()),
        format!("{}#5@0.200", clip.display()),
        format!("{}#10@0.400", clip.display()),
    ];
    for (at, file) in [&files[1], &files[0], &files[1], &files[2]].into_iter().enumerate() {
        assert_eq!(rows[at]["path"], names[at]);
        let expected = reference_embedding(file);
        assert!(values.row(at).iter().zip(&expected).all(|(a, b)| (a - b).abs() <= TOLERANCE), "row {at}");
    }
    let asked = std::fs::read_to_string(bin.join("asked")).unwrap();
    let input = format!("-i file:{}", clip.display());
    for part in [input.as_str(), "select=not(mod(n\\,5)),showinfo", "-frames:v 3", "image2pipe"] {
        assert!(asked.contains(part), "`{part}` is not in {asked}");
    }
}

#[test]
fn what_is_wrong_with_a_video_is_said() {
    let fixture = Fixture::new();
    let (all, _) = frames(&fixture, &["ada", "ben"]);
    std::fs::write(fixture.path("clip.mkv"), "").unwrap();
    let line = "embed @clip.mkv -m @model.onnx -o @out --replace";
    let bin = ffmpeg(&fixture, &all[..all.len() - 9], &showinfo(&[0.0, 0.04]), 0);
    run_in(&fixture, &bin, line).error_saying("break off");
    let bin = ffmpeg(&fixture, b"", "clip.mkv: Invalid data found\n", 1);
    run_in(&fixture, &bin, line).error_saying("clip.mkv: Invalid data found");
    let bin = ffmpeg(&fixture, b"", "", 0);
    run_in(&fixture, &bin, line).error_saying("has no frames");
    let bin = ffmpeg(&fixture, b"P6\n60000 60000\n255\n", &showinfo(&[0.0]), 0);
    run_in(&fixture, &bin, line).error(&["clip.mkv", "60000×60000"]);
    let bin = ffmpeg(&fixture, b"GIF89a, and more than four words of it", "", 0);
    run_in(&fixture, &bin, line).error_saying("gave no picture");
    let bin = ffmpeg(&fixture, &all, "no times\n", 0);
    run_in(&fixture, &bin, line).error_saying("does not tell the time");
    let nowhere = fixture.path("nowhere");
    fixture.run_with(line, &[("PATH", nowhere.to_str().unwrap())]).error(&["clip.mkv", "`ffmpeg`"]);
    assert!(!fixture.path("out").join("embeddings.npy").exists());
    fixture.run("embed /dev/video0 -m @model.onnx -o @out --replace").error(&["/dev/video0", "--frames"]);
    fixture.picture("eve.png", "eve", 0.0);
    fixture.run("embed @eve.png -m @model.onnx -o @out --replace --every 2").error(&["--every"]);
    fixture.run("embed @eve.png -m @model.onnx -o @out --replace --frames 2").error(&["--frames"]);
}

#[test]
fn lists_tables_and_patterns_name_pictures() {
    let fixture = Fixture::new();
    let ada = fixture.picture("cams/1/a10.png", "ada", 0.0);
    let ben = fixture.picture("cams/2/a9.png", "ben", 0.0);
    let cleo = fixture.picture("cams/2/b.png", "cleo", 0.0);
    std::fs::write(fixture.path("list.txt"), format!("{}\n\n{}\n", cleo.display(), ada.display())).unwrap();
    std::fs::write(fixture.path("table.csv"), "path,subject\ncams/2/a9.png,Ben\n").unwrap();
    let paths = |line: &str| -> Vec<String> {
        fixture.run(&format!("embed {line} -m @model.onnx -o @out --replace")).done();
        fixture.rows("out").1.iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    let text = |files: &[&PathBuf]| files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
    assert_eq!(paths("@list.txt"), text(&[&cleo, &ada]));
    assert_eq!(paths("@cams/*/a*.png"), text(&[&ada, &ben]));
    assert_eq!(paths("@table.csv @cams/1"), text(&[&ben, &ada]));
    assert_eq!(fixture.rows("out").1[0]["identity_name"], "Ben");
    let embed = |place: &str| fixture.run(&format!("embed {place} -m @model.onnx -o @out --replace"));
    embed("@cams/*/z*.png").error(&["cams/*/z*.png"]);
    std::fs::write(fixture.path("rows.npy"), "").unwrap();
    embed("@rows.npy").error(&["rows.npy", "`deploy enroll`"]);
}

#[test]
fn pictures_that_cannot_be_used_are_listed_in_a_file() {
    let fixture = Fixture::new();
    for name in 0..20 {
        fixture.picture(&format!("set/{name}.png"), "ada", 0.01 * name as f32);
        std::fs::write(fixture.path(&format!("set/{name}.jpg")), "nothing").unwrap();
    }
    let answer = fixture.run("embed @set -m @model.onnx -o @out --failures @failures.jsonl --batch-size 3 --threads 2");
    assert!(answer.stderr.contains("20 of 40") && answer.stderr.contains("15 more"), "{}", answer.stderr);
    answer.done();
    let text = std::fs::read_to_string(fixture.path("failures.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named: Vec<&str> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    let expected: Vec<String> =
        (0..20).map(|name| fixture.path(&format!("set/{name}.jpg")).display().to_string()).collect();
    assert_eq!(named, expected, "in the order of the pictures");
    assert!(lines.iter().all(|line| line["problem"].as_str().unwrap().contains("cannot decode")), "{text}");
    let answer = fixture.run("embed @set -m @model.onnx -o @out --replace --strict --failures @strict.jsonl");
    answer.error(&["--strict", "0.jpg"]);
    assert_eq!(std::fs::read_to_string(fixture.path("strict.jsonl")).unwrap().lines().count(), 1);
    fixture.run("embed @set -m @model.onnx -o @out --replace --failures @none/x.jsonl").error(&["none/x.jsonl"]);
}
