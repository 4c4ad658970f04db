//! The program: from a checkpoint to a bundle, and its refusals.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use burn::tensor::Device;
use train::families::reid::net::{ReidNet, ReidNetConfig};
use train::families::reid::settings::ReidConfig;
use train::families::reid::task as reid;
use train::run::checkpoint::{self, Queries, Record};
use train::weights::StateDict;

/// Saves a checkpoint of an untrained LMBN_n for small pictures.
fn checkpoint(path: &Path, change: impl FnOnce(&mut Record)) {
    seeded_checkpoint(path, 1, change);
}

/// [`checkpoint`] with different weights for every seed.
fn seeded_checkpoint(path: &Path, seed: u64, change: impl FnOnce(&mut Record)) {
    let network = ReidNetConfig::new("LMBN_n", 3, 16).unwrap();
    let net = network.net.clone();
    let config = ReidConfig { height: 64, width: 32, net, num_classes: 3, ..ReidConfig::default() };
    let net = ReidNet::new(&network, seed, &Device::flex());
    let mut record = Record {
        family: reid::FAMILY.into(),
        network: serde_json::to_value(&network).unwrap(),
        config: serde_json::to_value(&config).unwrap(),
        ..Record::default()
    };
    change(&mut record);
    checkpoint::save_weights(path, &StateDict::of(&net), &record).unwrap();
}

fn export(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_export")).args(arguments).current_dir(folder).output().unwrap()
}

/// A refusal that names every one of `facts` (see [`fixtures::assert_names`]), and that leaves no files behind.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], facts: &[&str]) {
    let output = export(folder, arguments);
    error_names(&output, facts);
    assert!(output.stdout.is_empty() && !folder.join("models-onnx").exists(), "{arguments:?}");
}

/// An error that names every one of `facts`.
#[track_caller]
fn error_names(output: &Output, facts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    fixtures::assert_names(fixtures::error_message(&text), facts);
}

#[test]
fn a_checkpoint_becomes_a_bundle_named_after_it() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(&folder.path().join("small.safetensors"), |_| {});
    let output = export(folder.path(), &["--onnx", "small.safetensors", "--format", "json", "--licence", "CC0"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["opset"], 20);
    let batches: Vec<_> = facts["parity"]["batch"].as_array().unwrap().iter().map(|size| &size["batch"]).collect();
    assert_eq!(batches, [1, 2, 7, 32]);
    let bundle = folder.path().join("models-onnx/small");
    let card = std::fs::read_to_string(bundle.join("CARD.md")).unwrap();
    assert!(card.contains("CC0") && card.contains("`image`"), "{card}");
    let (model, _) = onnx::read(&bundle.join("model.onnx"), &onnx::Limits::default()).unwrap();
    let entries = model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    let contract = contract::ModelContract::from_metadata(entries).unwrap();
    assert_eq!(contract.input[0].picture.as_ref().unwrap().size, [64, 32]);
    let embedding = contract.embedding.unwrap();
    assert!(embedding.flip && embedding.dim == 16 * 7 && !embedding.contract_id.is_empty());
    assert_eq!(contract.exporter.checkpoint_sha256.len(), 64);

    // Another batch without mirror images gives another file and contract id, so that galleries cannot be mixed.
    let fixed = ["--onnx", "small.safetensors", "-o", "fixed", "--batch", "4", "--no-flip", "--opset", "17"];
    assert!(export(folder.path(), &fixed).status.success());
    let text = std::fs::read_to_string(folder.path().join("fixed/contract.json")).unwrap();
    let fixed = contract::ModelContract::from_json(&text).unwrap();
    assert_eq!((fixed.input[0].shape[0].clone(), fixed.exporter.opset), (contract::Axis::Size(4), 17));
    assert_ne!(fixed.embedding.unwrap().contract_id, embedding.contract_id);
}

/// A limit on the size of files stands in for a full disk: the bundle that is to be replaced stays whole.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_bundle() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [1, 2] {
        seeded_checkpoint(&folder.path().join(format!("{seed}.safetensors")), seed, |_| {});
    }
    assert!(export(folder.path(), &["--onnx", "1.safetensors", "-o", "out"]).status.success());
    let bundle = folder.path().join("out");
    let files = || {
        let mut files = std::collections::BTreeMap::new();
        for entry in std::fs::read_dir(&bundle).unwrap().flatten() {
            files.insert(entry.file_name(), std::fs::read(entry.path()).unwrap());
        }
        files.remove(std::ffi::OsStr::new(".lock"));
        files
    };
    let (before, model) = (files(), std::fs::metadata(bundle.join("model.onnx")).unwrap().len());
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" --onnx 2.safetensors -o out", model / 2048);
    let output = Command::new("bash")
        .args(["-c", &script, env!("CARGO_BIN_EXE_export")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    error_names(&output, &["out/model.onnx"]);
    assert!(files() == before, "{:?}", files().keys());
    assert!(export(folder.path(), &["verify", "out"]).status.success());
}

/// Whichever ends last, its model, certificate and contract belong together.
#[test]
fn two_exports_into_one_folder_leave_one_whole_bundle() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [1, 2] {
        seeded_checkpoint(&folder.path().join(format!("{seed}.safetensors")), seed, |_| {});
    }
    for _ in 0..2 {
        let start = |name: &str| {
            let arguments = ["--onnx", name, "--output", "both"];
            Command::new(env!("CARGO_BIN_EXE_export")).args(arguments).current_dir(folder.path()).output().unwrap()
        };
        std::thread::scope(|scope| {
            for ended in [scope.spawn(|| start("1.safetensors")), scope.spawn(|| start("2.safetensors"))] {
                let ended = ended.join().unwrap();
                assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            }
        });
        let verified = export(folder.path(), &["verify", "both"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
}

/// Who has to wait for another export says so at once, and for whom.
#[test]
fn an_export_that_waits_for_another_says_for_which() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(&folder.path().join("small.safetensors"), |_| {});
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let lock = files::lock::Lock::take(&out).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_export"));
    command.args(["--onnx", "small.safetensors", "-o", "out"]).current_dir(folder.path());
    let mut waiting = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let said = lines.map(Result::unwrap).find(|line| line.contains("`out`")).expect("it says so and waits");
    assert!(said.starts_with("note: "), "{said}");
    fixtures::assert_names(&said, &[&std::process::id().to_string()]);
    assert!(waiting.try_wait().unwrap().is_none() && !out.join("model.onnx").exists());
    drop(lock);
    assert!(waiting.wait().unwrap().success());
    assert!(out.join("model.onnx").is_file());
}

/// Progress that cannot be written is lost, results that cannot be written are an error; neither is a panic.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_is_gone_or_full_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(&folder.path().join("small.safetensors"), |_| {});
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let closed = || std::io::pipe().unwrap().1;
    let start = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_export"));
        command.args(arguments).current_dir(folder.path());
        command
    };
    let export = ["--onnx", "small.safetensors", "-o", "out"];
    assert_eq!(start(&export).stderr(full()).output().unwrap().status.code(), Some(0));
    for words in [&export[..], &["verify", "out"], &["--ops"]] {
        let output = start(words).stdout(full()).output().unwrap();
        error_names(&output, &["stdout", "os"]);
        assert_eq!(start(words).stdout(closed()).output().unwrap().status.code(), Some(0), "{words:?}");
    }
}

#[test]
fn a_bundle_is_verified_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    checkpoint(&path.join("small.safetensors"), |_| {});
    let output = export(path, &["--onnx", "small.safetensors", "--external-data", "0"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verify = |arguments: &[&str]| {
        let output = export(path, &[&["verify", "models-onnx/small"], arguments].concat());
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), text.into_owned() + &errors)
    };
    let (code, text) = verify(&[]);
    assert!(code == Some(0) && text.contains("not run  --checkpoint names none"), "{text}");
    let (code, text) = verify(&["--checkpoint", "small.safetensors", "--format", "json"]);
    assert_eq!(code, Some(0), "{text}");
    let report: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(report["passed"], true);
    let made_again = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "checkpoint").unwrap();
    assert!(made_again["detail"].as_str().unwrap().contains("byte for byte"), "{made_again}");

    checkpoint(&path.join("small.safetensors"), |record| record.epoch = 7);
    let (code, text) = verify(&["--checkpoint", "small.safetensors"]);
    assert!(code == Some(1) && text.contains("FAILS    another checkpoint"), "{text}");
    std::fs::remove_file(path.join("small.safetensors")).unwrap();
    assert_eq!(verify(&[]).0, Some(0));
    let bundle = ["verify", "models-onnx/small"];
    let none = export(path, &[&bundle[..], &["--checkpoint", "small.safetensors"]].concat());
    error_names(&none, &["`small.safetensors`", "`train`"]);
    std::fs::write(path.join("models-onnx/small/certificate.json"), "{}").unwrap();
    error_names(&export(path, &bundle), &["certificate.json"]);
}

#[test]
fn what_is_no_checkpoint_of_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    refused(path, &["--onnx", "nowhere.safetensors"], &["`nowhere.safetensors`", "`train`", ".safetensors"]);
    std::fs::create_dir(path.join("empty")).unwrap();
    refused(path, &["--onnx", "empty"], &["`empty`", "best_model.safetensors"]);
    std::fs::write(path.join("noise.safetensors"), "not weights").unwrap();
    std::fs::write(path.join("picture.jpg"), "").unwrap();
    refused(path, &["--onnx", "noise.safetensors"], &["`noise.safetensors`", "`train import`"]);
    refused(path, &["--onnx", "picture.jpg"], &["`picture.jpg`", "`train`", ".safetensors", "`train import`"]);
    refused(path, &["--onnx", "picture.jpg/run"], &["`picture.jpg/run`", "`train`", ".safetensors"]);
    let weights = safetensors_without_record();
    std::fs::write(path.join("foreign.safetensors"), weights).unwrap();
    refused(path, &["--onnx", "foreign.safetensors"], &["`foreign.safetensors`", "`train import`"]);
    checkpoint(&path.join("gait.safetensors"), |record| record.family = "gait".into());
    use train::families::{controlnet, palmvein, reid, senet};
    let families =
        [reid::task::FAMILY, senet::task::FAMILY, controlnet::task::FAMILY, palmvein::FAMILY, palmvein::STAGE1_FAMILY];
    for family in families {
        refused(path, &["--onnx", "gait.safetensors"], &["`gait`", &format!("`{family}`")]);
    }
    checkpoint(&path.join("other.safetensors"), |record| record.network["model"] = "SomeNet".into());
    refused(path, &["--onnx", "other.safetensors"], &["`SomeNet`", "LMBN_n"]);
    checkpoint(&path.join("wide.safetensors"), |record| record.network["feats"] = 32.into());
    refused(path, &["--onnx", "wide.safetensors"], &["`wide.safetensors`", "LMBN_n", "16", "32"]);
}

/// Every flag of the program changes something for a re-identification network, or is refused.
#[test]
fn no_flag_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    checkpoint(&path.join("small.safetensors"), |record| {
        record.command = format!("train reid --datadir {}/Market --save=/srv/runs/small", path.display());
        record.queries = Some(Queries { dataset: "market1501".into(), all: 8, scored: 0 });
    });
    let output = export(path, &["--onnx", "small.safetensors"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("market1501: 0 of 8 queries could be scored"), "{text}");
    let read = |folder: &str, file: &str| std::fs::read_to_string(path.join(folder).join(file)).unwrap();
    const FILES: [&str; 3] = ["contract.json", "CARD.md", "certificate.json"];
    let usual: Vec<String> = FILES.iter().map(|file| read("models-onnx/small", file)).collect();
    for text in &usual {
        assert!(!text.contains(path.to_str().unwrap()) && !text.contains("/srv/"), "{text}");
    }

    let help = String::from_utf8(export(path, &["--help"]).stdout).unwrap();
    // The flag, its values, and whether it changes the bundle (`None`: it is refused; `palmvein` shows that networks of
    // palm and veins read it).
    type Row = (&'static str, &'static [&'static str], Option<bool>);
    let rows: [Row; 17] = [
        ("--attention", &[], None),
        ("--batch", &["3"], Some(true)),
        ("--branch", &["vit-palm"], None),
        ("--external-data", &["0"], Some(true)),
        ("--force", &[], None),
        ("--format", &["json"], Some(false)),
        ("--licence", &["CC0"], Some(true)),
        ("--min-cosine", &["0.9"], None),
        ("--no-flip", &[], Some(true)),
        ("--no-optimise", &[], Some(true)),
        ("--opset", &["18"], Some(true)),
        ("--output", &["elsewhere/small"], Some(false)),
        // What they change is shown in `precision`.
        ("--pictures", &["8"], None),
        ("--plan", &["plan.json"], None),
        ("--range", &["minmax"], None),
        ("--target", &["cpu"], None),
        ("--weight-bits", &["7"], None),
    ];
    let halves = [("--precision", "fp16", "--calibrate"), ("--calibrate", ".", "--precision")];
    for (flag, value, other) in halves {
        error_names(&export(path, &["--onnx", "small.safetensors", "-o", "half", flag, value]), &[other]);
    }
    let known = rows.iter().map(|(flag, ..)| *flag).chain(["--onnx", "--ops", "--help", "--version"]);
    let known = known.chain(halves.iter().map(|(flag, ..)| *flag));
    let known: std::collections::BTreeSet<&str> = known.collect();
    assert_eq!(flags_of(&help), known, "a flag without a row");
    for (flag, values, changes) in rows {
        let folder = if flag == "--output" { "elsewhere/small".into() } else { format!("{}/small", &flag[2..]) };
        let place = ["-o", folder.as_str()];
        let place: &[&str] = if flag == "--output" { &[] } else { &place };
        let output = export(path, &[&["--onnx", "small.safetensors", flag], values, place].concat());
        let Some(changes) = changes else {
            error_names(&output, &[flag]);
            assert!(!path.join(&folder).exists(), "{flag}");
            continue;
        };
        assert!(output.status.success(), "{flag}: {}", String::from_utf8_lossy(&output.stderr));
        let now: Vec<String> = FILES.iter().map(|file| read(&folder, file)).collect();
        assert_eq!(now != usual, changes, "{flag}");
        if flag == "--format" {
            assert!(output.stdout.starts_with(b"{"));
        } else {
            let output = export(path, &[&["--ops", flag], values].concat());
            assert_eq!(output.status.code(), Some(2), "--ops with {flag}");
        }
    }
}

/// Every flag of `export verify` changes what is said or how.
#[test]
fn no_flag_of_verify_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(&folder.path().join("small.safetensors"), |_| {});
    assert!(export(folder.path(), &["--onnx", "small.safetensors", "-o", "out"]).status.success());
    let help = String::from_utf8(export(folder.path(), &["verify", "--help"]).stdout).unwrap();
    let rows = [("--checkpoint", "small.safetensors"), ("--format", "json")];
    let known: Vec<&str> = rows.iter().map(|(flag, _)| *flag).chain(["--help"]).collect();
    assert_eq!(flags_of(&help).into_iter().collect::<Vec<_>>(), known, "a flag without a row");
    let usual = export(folder.path(), &["verify", "out"]);
    assert!(usual.status.success());
    for (flag, value) in rows {
        let output = export(folder.path(), &["verify", "out", flag, value]);
        assert!(output.status.success(), "{flag}: {}", String::from_utf8_lossy(&output.stderr));
        assert_ne!(output.stdout, usual.stdout, "{flag} changes nothing");
    }
    let none = export(folder.path(), &["verify", "nowhere"]);
    assert!(none.status.code() == Some(2) && none.stdout.is_empty());
}

/// Whatever is there in place of a bundle, the error says that, and what a bundle is.
#[test]
fn what_is_no_bundle_is_refused_with_what_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("bad.onnx"), "no model").unwrap();
    std::fs::create_dir_all(path.join("half")).unwrap();
    std::fs::create_dir_all(path.join("empty")).unwrap();
    std::fs::write(path.join("half/model.onnx"), "no model").unwrap();
    for (name, found) in [
        ("bad.onnx", "it is a file"),
        ("nowhere", "there is none"),
        ("bad.onnx/nowhere", "there is none"),
        ("empty", "it has no model.onnx"),
        ("half", "it has no certificate.json"),
    ] {
        let output = export(path, &["verify", name]);
        error_names(&output, &[&format!("`{name}`"), "model.onnx", "certificate.json"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(found) && output.stdout.is_empty(), "{text}");
    }
    // A model to make smaller may be named by its bundle.
    let quantise = |name| export(path, &["quantise", name, "--calibrate", "empty", "--output", "out"]);
    error_names(&quantise("empty"), &["`empty`", "model.onnx"]);
    error_names(&quantise("half"), &["`half/model.onnx`", "8"]);
}

/// The flags that a help text lists.
fn flags_of(help: &str) -> std::collections::BTreeSet<&str> {
    let words = help.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(str::split_whitespace);
    words.filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches(',')).collect()
}

#[test]
fn flags_out_of_range_name_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    for opset in ["12", "-1", "many"] {
        let facts = ["--opset", &format!("'{opset}'"), "17", "23"];
        refused(folder.path(), &["--onnx", "x", "--opset", opset], &facts);
    }
    for bytes in ["-1", "5G"] {
        let facts = ["--external-data", &format!("'{bytes}'"), "0", &u64::MAX.to_string()];
        refused(folder.path(), &["--onnx", "x", "--external-data", bytes], &facts);
    }
    refused(folder.path(), &["--onnx", "x", "--batch", "many"], &["--batch", "'many'", "`dynamic`", "1", "4096"]);
}

#[test]
fn a_library_that_does_not_load_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("broken.so");
    std::fs::write(&library, "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_export"));
    let output = command.args(["--onnx", "x"]).env("ORT_DYLIB_PATH", &library).output().unwrap();
    error_names(&output, &["broken.so", "`ci/onnxruntime cpu`", "ORT_DYLIB_PATH"]);
    // The reason is a sentence of the library that loads it.
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("failed to load"), "{message}");
}

/// A weights file with an empty header, as other programs write it.
fn safetensors_without_record() -> Vec<u8> {
    let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat()
}

/// ONNX Runtime's wheels leave a device id in the home folder as long as their telemetry is on. `ci/private` looks at
/// sockets as well.
#[test]
fn nothing_is_left_in_an_empty_home() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(&folder.path().join("small.safetensors"), |_| {});
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    for arguments in [&["--onnx", "small.safetensors"][..], &["verify", "models-onnx/small"], &["--ops"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_export"));
        // On, as far as the caller is concerned.
        command.args(arguments).current_dir(folder.path()).env("HOME", &home).env("ORT_DISABLE_TELEMETRY", "0");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let left: Vec<_> = std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{arguments:?}: {left:?}");
    }
}

#[test]
fn shells_and_the_manual_know_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let completions = export(folder.path(), &["completions", "bash"]);
    let text = String::from_utf8(completions.stdout).unwrap();
    for word in ["verify", "quantise", "completions", "--no-flip", "--calibrate"] {
        assert!(completions.status.success() && text.contains(word), "no {word}");
    }
    assert!(export(folder.path(), &["man", "man1"]).status.success());
    for (page, word) in [("export.1", "\\-\\-opset"), ("export-verify.1", "Check a bundle")] {
        let text = std::fs::read_to_string(folder.path().join("man1").join(page)).unwrap();
        assert!(text.contains(word), "{page}: {text}");
    }
}
