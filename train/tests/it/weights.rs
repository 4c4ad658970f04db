//! Weight files: formats, wrappers, prefixes, and files that must be refused.

use std::path::Path;

use burn::tensor::TensorData;
use train::families::reid::net::{Network, ReidNet, ReidNetConfig};
use train::weights::{Partial, StateDict, WeightsError};

use crate::support::{Python, command, json, network, train, write_pth};

fn state(net: &ReidNet) -> Vec<(String, TensorData)> {
    StateDict::of(net).iter().map(|(key, data)| (key.to_owned(), data.clone())).collect()
}

#[test]
fn weights_are_found_in_every_wrapping() {
    let folder = tempfile::tempdir().unwrap();
    let source = network(9);
    let wanted = StateDict::of(&source);
    let plain = || Python::state(&wanted, str::to_owned);
    let parallel = || Python::state(&wanted, |key| format!("module.{key}"));
    let both = |name: &'static str, state| {
        Python::dict([(name, state), ("optimizer", Python::optimizer()), ("epoch", Python::Int(3))])
    };
    let cases = [
        ("bare", plain(), false),
        ("data parallel", parallel(), false),
        ("state_dict", Python::dict([("state_dict", plain())]), false),
        ("state_dict and more, data parallel", both("state_dict", parallel()), true),
        ("model_state_dict and more", both("model_state_dict", plain()), true),
        ("model and more", both("model", plain()), true),
        ("model alone", Python::dict([("model", plain()), ("epoch", Python::Int(3))]), false),
        ("net", both("net", plain()), true),
    ];
    for (name, value, more) in cases {
        let path = folder.path().join("weights.pth");
        write_pth(&path, &value);
        let mut net = network(1);
        let report = net.load_pretrained(&path, Partial::Nothing).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(report.is_complete(), "{name}: {report}");
        assert_eq!(report.aside, if more { vec!["optimizer".to_owned()] } else { vec![] }, "{name}");
        assert!(state(&net) == state(&source), "{name}");
    }

    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, wanted.to_safetensors(5, Default::default())).unwrap();
    let mut net = network(1);
    assert!(net.load_pretrained(&path, Partial::Nothing).unwrap().is_complete());
    assert!(state(&net) == state(&source));
}

#[test]
fn what_does_not_fit_is_named_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pth");
    let tensors = || state(&network(9));
    let put = |tensors: Vec<(String, TensorData)>| {
        write_pth(&path, &Python::state(&StateDict::from_iter(tensors), str::to_owned));
    };
    let refused = |partial, words: &[&str]| {
        let mut net = network(1);
        let error = net.load_pretrained(&path, partial).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
        assert!(error.contains("weights.pth` does not fit LMBN_n"), "{error}");
        assert!(state(&net) == state(&network(1)));
    };
    let zeros = |shape: &[usize]| TensorData::new(vec![0.0_f32; shape.iter().product()], shape.to_vec());

    let (kept, gone): (Vec<_>, Vec<_>) = tensors().into_iter().partition(|(key, _)| !key.starts_with("shared.1."));
    put(kept);
    refused(Partial::Classifiers, &[&format!("{} not in the file: `shared.1.bias`", gone.len())]);

    let surplus =
        [("head.weight".to_owned(), zeros(&[2])), ("reduction_9.classifier.weight".to_owned(), zeros(&[4, 16]))];
    put(tensors().into_iter().chain(surplus).collect());
    refused(Partial::Nothing, &["2 left over in the file", "`head.weight`", "`reduction_9.classifier.weight`"]);

    put(tensors()
        .into_iter()
        .map(|(key, data)| if key == "shared.0.weight" { (key, zeros(&[16, 128, 1, 1])) } else { (key, data) })
        .collect());
    refused(Partial::Classifiers, &["1 of another shape", "shared.0.weight [16, 128, 1, 1] for [16, 256, 1, 1]"]);

    // Another number of identities: an error, or the classifiers start anew.
    put(tensors()
        .into_iter()
        .map(|(key, data)| if key.ends_with("classifier.weight") { (key, zeros(&[751, 16])) } else { (key, data) })
        .collect());
    refused(Partial::Nothing, &["7 of another shape", "reduction_0.classifier.weight [751, 16] for [4, 16]"]);
    let mut net = network(1);
    let report = net.load_pretrained(&path, Partial::Classifiers).unwrap();
    assert_eq!((report.mismatched.len(), report.missing.len(), report.unused.len()), (7, 0, 0), "{report}");
    let (fresh, found, source) = (StateDict::of(&network(1)), StateDict::of(&net), StateDict::of(&network(9)));
    for (key, data) in fresh.iter() {
        let wanted = if key.ends_with("classifier.weight") { Some(data) } else { source.get(key) };
        assert_eq!(found.get(key), wanted, "{key}");
    }

    // Beside the state dictionary only state of training is expected.
    let more = Python::dict([
        ("state_dict", Python::state(&StateDict::of(&network(9)), str::to_owned)),
        ("averaged", Python::state(&StateDict::from_iter([("w".to_owned(), zeros(&[3]))]), str::to_owned)),
    ]);
    write_pth(&path, &more);
    refused(Partial::Nothing, &["1 left over in the file: `averaged.w`"]);
    let other = StateDict::from_iter([("layer1.0.conv1.weight".to_owned(), zeros(&[2, 2, 1, 1]))]);
    write_pth(&path, &Python::state(&other, str::to_owned));
    refused(Partial::Classifiers, &["0 tensors filled", "`layer1.0.conv1.weight`"]);
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pth");
    write_pth(&path, &Python::state(&StateDict::of(&network(9)), str::to_owned));
    let whole = std::fs::read(&path).unwrap();
    let mut rng = train::rng::Rng::new(&[1]);
    let noise: Vec<u8> = (0..100_000).map(|_| rng.bits() as u8).collect();
    let zip = |start: &[u8]| [start, &noise].concat();
    let cases = [
        ("half", whole[..whole.len() / 2].to_vec()),
        ("all but the end", whole[..whole.len() - 10].to_vec()),
        ("a header", whole[..30].to_vec()),
        ("nothing", vec![]),
        ("four bytes", whole[..4].to_vec()),
        ("noise", noise.clone()),
        ("noise behind a zip's start", zip(b"PK\x03\x04")),
        ("noise behind a pickle's start", zip(b"\x80\x02")),
        ("noise behind a safetensors' start", zip(&[200, 0, 0, 0, 0, 0, 0, 0, b'{'])),
        ("a long header", zip(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, b'{'])),
    ];
    for (name, bytes) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = StateDict::read(&path).unwrap_err();
        assert!(matches!(error, WeightsError::Format { .. }), "{name}: {error}");
    }
    assert!(StateDict::read(folder.path()).is_err());
    let ended = train(folder.path(), &["import", "weights.pth", "-o", "out.safetensors"]);
    ended.refused(&["`weights.pth`", "safetensors", ".pth/.pt"]);
    assert!(!folder.path().join("out.safetensors").exists());
}

/// A pickle may call any function of Python, so weights are read as data: the call is named, and has not happened.
#[test]
fn a_file_that_wants_to_run_code_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let call = |module, function| {
        let command = Python::Text("touch ran".into());
        Python::Call(module, function, Box::new(command))
    };
    let weights = || Python::state(&StateDict::of(&network(9)), str::to_owned);
    let hidden = Python::Call("argparse", "Namespace", Box::new(call("os", "system")));
    let cases = [
        ("beside the weights", Python::dict([("state_dict", weights()), ("x", call("os", "system"))]), "os.system"),
        ("instead of weights", call("posix", "system"), "posix.system"),
        ("inside another call", Python::dict([("state_dict", weights()), ("x", hidden)]), "os.system"),
        ("thrown away", Python::Dropped(Box::new(call("builtins", "eval")), Box::new(weights())), "builtins.eval"),
    ];
    for (name, value, function) in cases {
        write_pth(&folder.path().join("weights.pth"), &value);
        let ended = train(folder.path(), &["import", "weights.pth", "-o", "out.safetensors"]);
        println!("{name}: {}", ended.stderr);
        ended.refused(&["`weights.pth`", &format!("`{function}`"), "model.state_dict()"]);
        assert!(!folder.path().join("ran").exists() && !folder.path().join("out.safetensors").exists(), "{name}");
    }
}

/// What is not a state dictionary is told apart, with a way out.
#[test]
fn programs_pipes_and_weights_that_are_not_finite_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let import = |name: &str, facts: &[&str]| {
        train(folder.path(), &["import", name, "-o", "out.safetensors"]).refused(facts);
        assert!(!folder.path().join("out.safetensors").exists(), "{name}");
    };
    let state: StateDict = StateDict::of(&network(9))
        .iter()
        .map(|(key, data)| match data.try_to_vec::<f32>() {
            Ok(mut values) if key == "backbone.0.conv.weight" || key.ends_with("conv1.conv.weight") => {
                values[3] = f32::NAN;
                (key.to_owned(), TensorData::new(values, data.shape().to_vec()))
            }
            _ => (key.to_owned(), data.clone()),
        })
        .collect();
    let bad = state.first_not_finite().expect("a weight is NaN").to_owned();
    write_pth(&folder.path().join("nan.pth"), &Python::state(&state, str::to_owned));
    import("nan.pth", &["`nan.pth`", &format!("`{bad}`")]);

    let mut archive = zip::ZipWriter::new(std::fs::File::create(folder.path().join("script.pt")).unwrap());
    for name in ["script/constants.pkl", "script/data.pkl"] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut archive, b"\x80\x02)\x81.").unwrap();
    }
    archive.finish().unwrap();
    import("script.pt", &["`script.pt`", "TorchScript", "state_dict()"]);

    #[cfg(unix)]
    {
        assert!(std::process::Command::new("mkfifo").arg(folder.path().join("pipe.pth")).status().unwrap().success());
        import("pipe.pth", &["`pipe.pth`", "FIFO"]);
    }
}

/// `deploy` and `export`, which load ONNX Runtime, have the same test.
#[test]
fn nothing_is_left_in_an_empty_home() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    write_pth(&folder.path().join("weights.pth"), &Python::state(&StateDict::of(&network(9)), str::to_owned));
    let line = ["import", "weights.pth", "--feats", "16", "-o", "out.safetensors"];
    let mut import = command(folder.path(), &line);
    let output = import.env("HOME", &home).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn numbers_beyond_their_range_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let most = terminal::most_threads().to_string();
    for threads in ["0", "99999999", "18446744073709551616"] {
        let range = [&format!("'{threads}'"), "1", &most];
        train(folder.path(), &["eval", "run", "--n-thread", threads]).refused(&[&["--n-thread"], &range[..]].concat());
        train(folder.path(), &["bench-step", "--threads", threads]).refused(&[&["--threads"], &range[..]].concat());
        for line in [&["reid"][..], &["palmvein", "stage1"]] {
            let line = [line, &["--n-thread", threads]].concat();
            train(folder.path(), &line).refused(&[&["--n-thread"], &range[..]].concat());
        }
    }
    for (verb, flag, most) in [
        ("bench-step", "--batch", 65_536),
        ("bench-step", "--identities", 1_000_000),
        ("bench-step", "--steps", 1_000_000),
        ("import", "--feats", 16_384),
        ("import", "--height", 16_384),
        ("reid", "--keep-checkpoints", 1_000_000_000),
    ] {
        train(folder.path(), &[verb, flag, "99999999999"]).refused(&[flag, "'99999999999'", "0", &most.to_string()]);
    }
    for line in [&["reid", "--n-thread", &most, "--datadir", "nowhere"][..], &["eval", "nowhere", "--n-thread", &most]]
    {
        let ended = train(folder.path(), line).refused(&["`nowhere`"]);
        assert!(ended.stderr.contains(&format!("note: {most} threads on")), "{}", ended.stderr);
    }
    for verb in ["controlnet", "senet"] {
        let facts = ["--num-workers", "'99999999'", "0", &most];
        train(folder.path(), &[verb, "--num-workers", "99999999"]).refused(&facts);
    }
    // In a file, too.
    std::fs::write(folder.path().join("a.yaml"), "n_thread: 99999999\n").unwrap();
    train(folder.path(), &["reid", "--config", "a.yaml"]).refused(&["--n-thread", "99999999", "1", &most]);
}

/// A pickle of 1.5 MiB that recalls one string for ever, beside entries that nobody loads, took all memory.
#[test]
fn a_small_file_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut bomb = b"\x80\x02X\x00\x00\x08\x00".to_vec();
    bomb.resize(bomb.len() + (8 << 16), b'a');
    bomb.extend(b"q\x00");
    bomb.extend(b"h\x00".repeat(1 << 19));
    let mut archive = zip::ZipWriter::new(std::fs::File::create(folder.path().join("bomb.pth")).unwrap());
    for entry in 0..40 {
        let name = if entry == 0 { "bomb/data.pkl".to_owned() } else { format!("bomb/{entry}.pkl") };
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        let padding = if entry == 0 { &[][..] } else { &[0; 1 << 24][..] };
        std::io::Write::write_all(&mut archive, &[&bomb, padding].concat()).unwrap();
    }
    archive.finish().unwrap();
    // An eighth of what the entries that nobody loads would take.
    let limited = format!("ulimit -v 4000000; exec {} import bomb.pth -o out.safetensors", env!("CARGO_BIN_EXE_train"));
    let ended = std::process::Command::new("sh").args(["-c", &limited]).current_dir(&folder).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{told}");
    fixtures::assert_names(fixtures::error_message(&told), &["`bomb.pth`"]);
}

/// ImageNet's OSNet: one backbone for the trunk and all three branches; its classifier is of no use.
#[test]
fn an_imagenet_backbone_fills_trunk_and_branches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("osnet_x1_0_imagenet.pth");
    let source = network(9);
    let mut backbone = Vec::new();
    for (key, data) in state(&source) {
        let names = [
            ("backone.0.", "conv1."),
            ("backone.2.", "conv2."),
            ("backone.3.", "conv3.0."),
            ("global_branch.0.", "conv3."),
            ("global_branch.1.", "conv4."),
            ("global_branch.2.", "conv5."),
        ];
        let name = names.iter().find_map(|(ours, osnet)| key.strip_prefix(ours).map(|rest| format!("{osnet}{rest}")));
        backbone.extend(name.map(|name| (name, data)));
    }
    let zeros = |shape: &[usize]| TensorData::new(vec![0.0_f32; shape.iter().product()], shape.to_vec());
    let head = [
        ("fc.0.weight", zeros(&[512, 512])),
        ("fc.1.running_mean", zeros(&[512])),
        ("classifier.weight", zeros(&[1000, 512])),
    ];
    let whole = backbone.iter().cloned().chain(head.map(|(key, data)| (key.to_owned(), data)));
    write_pth(&path, &Python::state(&whole.collect(), |key| format!("module.{key}")));

    let mut net = network(1);
    let report = net.load_pretrained(&path, Partial::Nothing).unwrap();
    assert_eq!(report.aside, ["classifier.weight", "fc.0.weight", "fc.1.running_mean"], "{report}");
    let (found, wanted, fresh) = (StateDict::of(&net), StateDict::of(&source), StateDict::of(&network(1)));
    let mut filled = 0;
    for (key, data) in found.iter() {
        let in_branch = ["partial_branch.", "channel_branch."].iter().find_map(|prefix| key.strip_prefix(prefix));
        let original = in_branch.map_or(key.to_owned(), |rest| format!("global_branch.{rest}"));
        let backbone = original.starts_with("backone.") || original.starts_with("global_branch.");
        assert_eq!(Some(data), if backbone { wanted.get(&original) } else { fresh.get(key) }, "{key}");
        filled += usize::from(backbone);
    }
    assert_eq!(report.applied, filled);
    assert!(report.missing.iter().all(|key| !key.contains("branch") && !key.contains("backone")), "{report}");

    // A backbone with a hole, and one with something more.
    let mut net = network(1);
    let hole: Vec<_> = backbone.iter().filter(|(key, _)| key != "conv4.0.conv1.conv.weight").cloned().collect();
    write_pth(&path, &Python::state(&hole.into_iter().collect(), str::to_owned));
    let error = net.load_pretrained(&path, Partial::Classifiers).unwrap_err().to_string();
    assert!(error.contains("backbone of LMBN_n") && error.contains("global_branch.1.0.conv1.conv.weight"), "{error}");
    let more = backbone.into_iter().chain([("conv6.weight".to_owned(), zeros(&[1]))]);
    write_pth(&path, &Python::state(&more.collect(), str::to_owned));
    let error = net.load_pretrained(&path, Partial::Nothing).unwrap_err().to_string();
    assert!(error.contains("left over in the file: `conv6.weight`"), "{error}");
}

#[test]
fn import_makes_a_checkpoint_that_others_open() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let source = network(9);
    write_pth(&at.join("weights.pth"), &Python::state(&StateDict::of(&source), str::to_owned));
    let size = ["--feats", "16", "--height", "32", "--width", "32"];
    let import = |more: &[&str]| train(at, &[&["import", "weights.pth"], &size[..], more].concat());
    let ended = import(&["-o", "made/net.safetensors"]).ok();
    assert!(
        ended.stdout.starts_with("made/net.safetensors: LMBN_n") && ended.stdout.contains("filled"),
        "{}",
        ended.stdout
    );
    import(&["-o", "x.safetensors", "--num-classes", "7"]).refused(&["LMBN_n", "[4, 16]", "[7, 16]"]);
    import(&["-o", "x.safetensors", "--num-classes", "7", "--partial"]).ok();

    crate::support::pictures(at, 4, 4);
    let ended = train(at, &["eval", "made/net.safetensors", "--datadir", "data", "--format", "json"]).ok();
    let reports: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(reports[0]["ranking"]["map"].is_number() && reports[0]["ranking"]["cmc"].is_array(), "{reports}");
    let table = train(at, &["inspect", "made/net.safetensors"]).ok().stdout;
    assert!(table.contains("family      reid") && table.contains("no, weights only"), "{table}");
    let written = StateDict::read(&at.join("made/net.safetensors")).unwrap();
    assert!(written.compare(&StateDict::of(&source)).is_complete());

    // Weights are no checkpoint, and a checkpoint of another family is none of ours.
    train(at, &["eval", "weights.pth"]).refused(&["`weights.pth`", "`train import`"]);
    let other = train::run::checkpoint::Record { family: "palm".into(), ..Default::default() };
    train::run::checkpoint::save_weights(&at.join("palm.safetensors"), &StateDict::of(&source), &other).unwrap();
    train(at, &["eval", "palm.safetensors"]).refused(&["`palm.safetensors`", "`palm`", "reid"]);
    train(
        at,
        &[
            "reid",
            "--resume",
            "made/net.safetensors",
            "--datadir",
            "data",
            "--batchid",
            "2",
            "--batchimage",
            "2",
            "--num_classes",
            "4",
        ],
    )
    .refused(&["`num_classes`", "identities"]);
}

/// An OSNet of a quarter of the channels, with four identities and 16 features.
fn quarter(seed: u64) -> StateDict {
    let config = ReidNetConfig::new("OSNet_x0_25", 4, 16).unwrap();
    StateDict::of(&ReidNet::new(&config, seed, &burn::tensor::Device::flex()))
}

/// The file alone is enough: network and sizes are read from it, and what was done to its keys is said.
#[test]
fn import_needs_nothing_but_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (raw, average) = (quarter(1), quarter(2));
    let import = |more: &[&str]| train(at, &[&["import", "x.pth", "-o", "x.safetensors"], more].concat());
    let written = || StateDict::read(&at.join("x.safetensors")).unwrap();
    let centers = Python::Tensor(TensorData::new(vec![0.5_f32; 8], [4, 2]));

    // Lightning, compiled, with a loss that learns and callbacks.
    let Python::Dict(mut entries) = Python::state(&raw, |key| format!("net._orig_mod.{key}")) else {
        unreachable!("it is a dictionary")
    };
    entries.push(("criterion.centers".into(), centers.clone()));
    let callbacks = Python::dict([("ModelCheckpoint", Python::dict([("best_score", centers.clone())]))]);
    let lightning = Python::dict([
        ("state_dict", Python::Dict(entries)),
        ("callbacks", callbacks),
        ("optimizer_states", Python::optimizer()),
        ("hyper_parameters", Python::dict([("lr", Python::Float(0.1))])),
        ("epoch", Python::Int(3)),
    ]);
    write_pth(&at.join("x.pth"), &lightning);
    let ended = import(&[]).ok();
    assert!(ended.stdout.starts_with("x.safetensors: OSNet_x0_25, "), "{}", ended.stdout);
    for told in ["`state_dict`", "`net`", "`_orig_mod.`"] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    for aside in ["`criterion`", "`callbacks`", "`optimizer_states`", "`num_batches_tracked`"] {
        assert!(ended.stdout.contains(aside), "{aside}: {}", ended.stdout);
    }
    assert!(written().compare(&raw).is_complete() && written().get("conv5.bn.bias") == raw.get("conv5.bn.bias"));
    let record = json_of(&at.join("x.safetensors"));
    assert_eq!((&record["network"]["model"], &record["network"]["feats"]), (&"OSNet_x0_25".into(), &16.into()));
    assert_eq!(record["network"]["classes"], 4);
    import(&["--no-ema"]).refused(&["--no-ema", "`x.pth`"]);

    // A moving average beside the weights.
    let both = Python::dict([
        ("model", Python::state(&raw, str::to_owned)),
        ("ema", Python::state(&average, |key| format!("module.{key}"))),
        ("iteration", Python::Int(9)),
    ]);
    write_pth(&at.join("x.pth"), &both);
    let key = "conv1.conv.weight";
    assert!(raw.get(key) != average.get(key));
    let ended = import(&[]).ok();
    for told in ["`ema`", "`model`", "`module.`"] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    assert_eq!(written().get(key), average.get(key));
    import(&["--no-ema"]).ok();
    assert_eq!(written().get(key), raw.get(key));
    import(&["--no-ema", "--model", "palmvein"]).refused(&["--no-ema", "reid"]);
}

/// A checkpoint as fast-reid's model zoo has them: its keys tell the network, down to its stem.
#[test]
fn import_reads_the_keys_of_another_project() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let net = Network::named("ResNet50").unwrap().with("bnneck", true).unwrap().with("stem", "unpadded").unwrap();
    let source = StateDict::of(&ReidNet::new(&ReidNetConfig { classes: 4, net }, 3, &burn::tensor::Device::flex()));
    let theirs = |key: &str| {
        let swaps = [
            ("model.", "backbone."),
            ("classifier.bn.", "heads.bnneck."),
            ("classifier.classifier.", "heads.classifier."),
        ];
        let swap = |(own, theirs): &(&str, &str)| key.strip_prefix(own).map(|rest| format!("{theirs}{rest}"));
        swaps.iter().find_map(swap).unwrap()
    };
    let pixels = |values: [f32; 3]| Python::Tensor(TensorData::new(values.to_vec(), [1, 3, 1, 1]));
    let put = |mean: [f32; 3]| {
        let Python::Dict(mut model) = Python::state(&source, theirs) else { unreachable!("it is a dictionary") };
        model.extend([("pixel_mean".into(), pixels(mean)), ("pixel_std".into(), pixels([58.395, 57.12, 57.375]))]);
        let whole = Python::dict([
            ("model", Python::Dict(model)),
            ("optimizer", Python::optimizer()),
            ("iteration", Python::Int(9)),
        ]);
        write_pth(&at.join("x.pth"), &whole);
    };
    let import = |more: &[&str]| train(at, &[&["import", "x.pth", "-o", "x.safetensors"], more].concat());
    put([123.675, 116.28, 103.53]);
    let ended = import(&["--height", "64", "--width", "32"]).ok();
    assert!(
        ended.stdout.starts_with("x.safetensors: ResNet50 with --bnneck and --stem unpadded, "),
        "{}",
        ended.stdout
    );
    for aside in ["`pixel_mean`", "`pixel_std`", "`optimizer`"] {
        assert!(ended.stdout.contains(aside), "{aside}: {}", ended.stdout);
    }
    assert!(ended.stderr.contains("the keys of fast-reid 0.1"), "{}", ended.stderr);
    let written = StateDict::read(&at.join("x.safetensors")).unwrap();
    assert!(
        written.compare(&source).is_complete() && written.get("classifier.bn.bias") == source.get("classifier.bn.bias")
    );
    // What the tensors do not show can be said.
    let named = ["--model", "ResNet50"];
    let ended = import(&[&named[..], &["--with", "last_stride=2", "--with", "feat-inference=before"]].concat()).ok();
    assert!(ended.stdout.contains("--feat-inference before and --last-stride 2"), "{}", ended.stdout);
    import(&[&named[..], &["--with", "parts=3"]].concat()).refused(&["--with", "`parts`", "PCB"]);
    // Pixels are normalised in one way here.
    put([127.5; 3]);
    import(&named).refused(&["`x.pth`", "`pixel_mean`"]);
}

/// The record in a checkpoint's header.
fn json_of(path: &Path) -> serde_json::Value {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    serde_json::from_str(&header.metadata().as_ref().unwrap()["vitrine"]).unwrap()
}

/// What no network has, or several have, names what was found and what is near.
#[test]
fn weights_of_no_network_or_of_several_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let import = |more: &[&str]| train(at, &[&["import", "x.pth", "-o", "x.safetensors"], more].concat());
    let put = |tensors: Vec<(String, TensorData)>| {
        write_pth(&at.join("x.pth"), &Python::state(&StateDict::from_iter(tensors), str::to_owned));
    };
    let own = || quarter(1).iter().map(|(key, data)| (key.to_owned(), data.clone())).collect::<Vec<_>>();
    let zeros = |shape: &[usize]| TensorData::new(vec![0.0_f32; shape.iter().product()], shape.to_vec());
    // A layer is missing.
    put(own().into_iter().filter(|(key, _)| !key.starts_with("conv5.")).collect());
    import(&[]).refused(&["`x.pth`", "`classifier.bias`", "OSNet_x0_25"]);
    // Something else is there besides.
    put(own().into_iter().chain([("gate.weight".to_owned(), zeros(&[2, 2]))]).collect());
    import(&[]).refused(&["`x.pth`", "OSNet_x0_25"]);
    import(&["--model", "OSNet_x0_25"]).refused(&["`x.pth`", "`gate.weight`"]);
    // A backbone of palms or of veins.
    put(vec![("patch_embed.0.c.weight".to_owned(), zeros(&[8, 3, 3, 3]))]);
    import(&[]).refused(&["`x.pth`", "vit-palm", "vit-vein", "--model"]);
    // Another network was asked for.
    put(own());
    import(&["--model", "LMBN_n"]).refused(&["`x.pth`", "LMBN_n", "OSNet_x0_25", "--model"]);
    crate::support::pictures(at, 4, 4);
    let run = ["--pre_train", "x.pth", "--epochs", "0"];
    train(at, &crate::support::small(&run)).refused(&["`x.pth`", "LMBN_n", "OSNet_x0_25", "--model"]);
    let run = [&run[..], &["--model", "OSNet_x0_25", "--pre_train_partial", "--pre-train-no-ema"]].concat();
    train(at, &crate::support::small(&run)).refused(&["--pre-train-no-ema", "`x.pth`"]);
    train(at, &crate::support::small(&["--pre-train-no-ema", "--epochs", "0"])).refused(&["--pre-train-no-ema"]);
    assert!(!at.join("x.safetensors").exists());
}

#[test]
fn a_run_starts_from_pretrained_weights() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    crate::support::pictures(at, 4, 4);
    write_pth(&at.join("weights.pth"), &Python::state(&StateDict::of(&network(9)), str::to_owned));
    let run = |more: &[&str]| {
        train(at, &crate::support::small(&[&["--pre_train", "weights.pth", "--epochs", "0"], more].concat()))
    };
    // Four identities in the file, two to train on.
    run(&[]).refused(&["LMBN_n", "[4, 16]", "[2, 16]"]);
    let ended = run(&["--pre_train_partial"]).ok();
    assert!(
        ended.stderr.contains("starting from weights.pth") && ended.stderr.contains("7 of another shape"),
        "{}",
        ended.stderr
    );
    let found = StateDict::read(&at.join("runs/reid/test/final_model.safetensors")).unwrap();
    let key = "global_branch.1.0.conv1.conv.weight";
    assert_eq!(found.get(key), StateDict::of(&network(9)).get(key));
    assert_eq!(json(Path::new(&at.join("runs/reid/test/run.json")))["config"]["pre_train"], "weights.pth");
}
