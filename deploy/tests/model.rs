//! Opening models: good ones, damaged ones, hostile ones, other people's.

use contract::{Axis, ModelContract};
use onnx::{AttributeProto, AttributeType, DataType, Message};

use crate::fixture::{
    DIM, Fixture, SIZE, apart, behind, contract, graph, int, ints, model, node, tensor, with_contract,
};

#[test]
fn inspect_shows_contract_graph_and_self_test() {
    let fixture = Fixture::new();
    let table = fixture.run("inspect @model.onnx").done();
    let words =
        ["Tiny", "ai.onnx 20", "1 AveragePool", "image [batch, 3, 32, 16]", "nothing, 7 epochs", "passed", "cpu"];
    for word in words {
        assert!(table.contains(word), "`{word}` is not in: {table}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&fixture.run("inspect @model.onnx --format json").done()).unwrap();
    assert_eq!(json["nodes"]["Conv"], 1);
    assert_eq!(json["parameters"], 8 * 27 + 8);
    assert_eq!(json["outputs"][0]["shape"], serde_json::json!(["batch", DIM.to_string()]));
    assert_eq!(json["contract"]["embedding"]["dim"], DIM);
    assert!(json["self_test"].as_str().unwrap().starts_with("passed"));
    // The bundle folder is as good as the file.
    std::fs::create_dir(fixture.path("bundle")).unwrap();
    std::fs::copy(fixture.path("model.onnx"), fixture.path("bundle/model.onnx")).unwrap();
    fixture.run("inspect @bundle").done();
}

#[test]
fn a_changed_weight_fails_the_self_test() {
    let fixture = Fixture::new();
    let mut model = model();
    let weight = &mut model.graph.as_mut().unwrap().initializer[0].raw_data;
    weight[4..8].copy_from_slice(&0.9f32.to_le_bytes());
    fixture.write_model("changed.onnx", &model);
    fixture.run("inspect @changed.onnx").error(&["self-test", "`features`", "1.0e-5"]);
    fixture.picture("one.png", "ada", 0.0);
    fixture.run("embed @one.png -m @changed.onnx -o @out").error(&["self-test"]);
    fixture.run("embed @one.png -m @changed.onnx -o @out --skip-self-test").done();
}

#[test]
fn a_model_that_computes_nan_fails_the_self_test() {
    let fixture = Fixture::new();
    let mut model = model();
    let graph = model.graph.as_mut().unwrap();
    // Behind the last node: a ReLU may swallow a NaN.
    let last = graph.node.last_mut().unwrap();
    (last.name, last.output) = ("flat".into(), vec!["flat".into()]);
    graph.node.push(node("Add", &["flat", "nan"], "features", vec![]));
    graph.initializer.push(tensor("nan", &[1], &[f32::NAN]));
    fixture.write_model("nan.onnx", &model);
    fixture.run("inspect @nan.onnx").error(&["self-test", "NaN"]);
    fixture.picture("one.png", "ada", 0.0);
    fixture.run("embed @one.png -m @nan.onnx -o @out --skip-self-test").error(&["one.png", "finite"]);
}

#[test]
fn golden_vectors_that_do_not_fit_are_named() {
    let fixture = Fixture::new();
    let refuse = |change: &dyn Fn(&mut contract::Golden), facts: &[&str]| {
        let mut contract = contract();
        change(contract.golden.as_mut().unwrap());
        fixture.write_model("golden.onnx", &with_contract(graph(), &contract));
        fixture.run("inspect @golden.onnx").error(facts);
    };
    refuse(&|golden| golden.block = 5, &["5", "`image`", "[3, 32, 16]"]);
    refuse(&|golden| golden.every = 4, &["43", "`features`", "4"]);
    refuse(&|golden| golden.tolerance = 0.0, &["tolerance", "0"]);
    refuse(&|golden| golden.output = [("other".to_owned(), vec![0.0])].into(), &["`other`"]);
}

#[test]
fn truncated_files_are_refused() {
    let fixture = Fixture::new();
    let whole = model().encode_to_vec();
    for end in [0, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(fixture.path("cut.onnx"), &whole[..end]).unwrap();
        fixture.run("inspect @cut.onnx").error(&["cut.onnx"]);
    }
}

#[test]
fn external_data_outside_of_the_folder_is_refused() {
    let fixture = Fixture::new();
    let bytes = apart(&fixture, "in", "weights.bin", model());
    // In the folder it is fine, and the self-test sees that the values arrive.
    assert!(fixture.run("inspect @in").done().contains("passed"));
    std::fs::write(fixture.path("secret.bin"), &bytes).unwrap();
    let whole = std::fs::read(fixture.path("in/model.onnx")).unwrap();
    for location in ["../secret.bin", "/etc/hostname", "sub/w.bin"] {
        let mut model = onnx::ModelProto::decode(whole.as_slice()).unwrap();
        model.graph.as_mut().unwrap().initializer[0].external_data[0].value = location.into();
        fixture.write_model("in/model.onnx", &model);
        let found = format!("`{location}`");
        fixture.run("inspect @in").error(&["`conv.weight`", &found, "save_as_external_data=True"]);
    }
}

/// Hugging Face's cache keeps files under their hashes, and links to them under their names.
#[cfg(unix)]
#[test]
fn a_model_in_a_hub_cache_is_opened_and_embeds() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::new();
    apart(&fixture, "plain", "model.onnx.data", model());
    fixture.picture("one.png", "ada", 0.0);
    fixture.run("embed @one.png -m @plain -o @expected").done();
    let (blobs, snapshot) = (fixture.path("models--a--b/blobs"), fixture.path("models--a--b/snapshots/rev"));
    [&blobs, &snapshot].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
    for (name, blob) in [("model.onnx", "0123"), ("model.onnx.data", "4567")] {
        std::fs::rename(fixture.path("plain").join(name), blobs.join(blob)).unwrap();
        symlink(format!("../../blobs/{blob}"), snapshot.join(name)).unwrap();
    }
    assert!(fixture.run("inspect @models--a--b/snapshots/rev").done().contains("passed"));
    fixture.run("embed @one.png -m @models--a--b/snapshots/rev/model.onnx -o @out").done();
    assert_eq!(fixture.rows("out").0, fixture.rows("expected").0);

    let replace = |to: &str| {
        std::fs::remove_file(snapshot.join("model.onnx.data")).unwrap();
        symlink(to, snapshot.join("model.onnx.data")).unwrap();
        fixture.run("inspect @models--a--b/snapshots/rev")
    };
    // Where a link leads, as a refusal names it.
    let target = |name: &str| format!("`{}`", fixture.path(name).canonicalize().unwrap().display());
    let elsewhere = fixture.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(fixture.path("model.onnx"), elsewhere.join("model.onnx")).unwrap();
    fixture.run("inspect @elsewhere").error(&["model.onnx", &target("model.onnx")]);
    fixture.run("inspect @elsewhere/model.onnx").done();
    replace("../../blobs/none").error(&["`model.onnx.data`", "`../../blobs/none`"]);
    replace("../../../one.png").error(&["`model.onnx.data`", &target("one.png")]);
}

/// Opening a pipe waits for its writer.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let fixture = Fixture::new();
    for name in ["model.pipe", "contract.pipe"] {
        assert!(std::process::Command::new("mkfifo").arg(fixture.path(name)).status().unwrap().success());
    }
    std::os::unix::fs::symlink("/dev/zero", fixture.path("endless.onnx")).unwrap();
    fixture.run("inspect @model.pipe").error(&["model.pipe", "FIFO"]);
    fixture.run("inspect @endless.onnx").error(&["endless.onnx", "device"]);
    let mut bare = model();
    bare.metadata_props.clear();
    fixture.write_model("bare.onnx", &bare);
    fixture.run("inspect @bare.onnx --contract @contract.pipe").error(&["contract.pipe", "FIFO"]);
}

#[test]
fn threads_and_batches_beyond_their_range_are_refused() {
    let fixture = Fixture::new();
    let most = terminal::most_threads();
    for threads in ["99999999", "4294967296", "18446744073709551616", "-1"] {
        let answer = fixture.run(&format!("inspect @model.onnx --threads={threads}"));
        answer.error(&["--threads", &format!("'{threads}'"), "0", &most.to_string()]);
    }
    fixture.picture("one.png", "ada", 0.0);
    let answer = fixture.run("embed @one.png -m @model.onnx -o @out --batch-size 65537");
    answer.error(&["--batch-size", "'65537'", "1", "65536"]);
    let answer = fixture.run("search -m @model.onnx --gallery @out --query @one.png --top-k 99999999999");
    answer.error(&["--top-k", "'99999999999'", "1", "1000000"]);
    let many = fixture.run(&format!("inspect @model.onnx --threads {most}"));
    assert!(many.stderr.contains(&format!("{most} threads on")), "{}", many.stderr);
    many.done();
}

/// Weights in a file that is named after their hash, as `export --external-data` writes them.
#[test]
fn weights_beside_a_model_are_those_it_was_written_with() {
    let fixture = Fixture::new();
    let raw = model().graph.unwrap().initializer[0].raw_data.clone();
    std::fs::write(fixture.path("raw"), &raw).unwrap();
    let (hash, _) = files::sha256(&fixture.path("raw")).unwrap();
    let name = files::weights_name(&hash);
    let bytes = apart(&fixture, "in", &name, model());
    assert_eq!(bytes, raw);
    let json: serde_json::Value = serde_json::from_str(&fixture.run("inspect @in --format json").done()).unwrap();
    let model_bytes = std::fs::metadata(fixture.path("in/model.onnx")).unwrap().len();
    assert_eq!(json["file_bytes"], model_bytes + bytes.len() as u64);
    assert_eq!((&json["files"][1]["name"], &json["files"][1]["sha256"]), (&name.clone().into(), &hash.into()));
    assert_ne!(json["sha256"], json["files"][0]["sha256"]);
    assert!(fixture.run("inspect @in").done().contains(&name));
    fixture.picture("one.png", "ada", 0.0);
    fixture.run("embed @one.png -m @in -o @out").done();

    // One bit that the self-test might miss, and that nobody asked to be tested.
    let path = fixture.path("in").join(&name);
    let mut damaged = bytes.clone();
    damaged[4] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    for line in ["inspect @in --skip-self-test", "embed @one.png -m @in -o @other --skip-self-test"] {
        fixture.run(line).error(&[&format!("`{name}`"), "SHA-256"]);
    }
    std::fs::write(&path, &bytes[1..]).unwrap();
    fixture.run("inspect @in --skip-self-test").error(&["`conv.weight`", &name, "0..+864", "863"]);
    std::fs::remove_file(&path).unwrap();
    fixture.run("inspect @in --skip-self-test").error_saying("no such file");
}

/// What a contract by hand pins is all of the model.
#[test]
fn other_weights_beside_a_foreign_model_are_another_model() {
    let fixture = Fixture::new();
    apart(&fixture, "in", "weights.bin", graph());
    let mut by_hand = ModelContract { golden: None, ..contract() };
    by_hand.embedding.as_mut().unwrap().contract_id.clear();
    std::fs::write(fixture.path("contract.json"), serde_json::to_string(&by_hand).unwrap()).unwrap();
    let id = || {
        let facts = fixture.run("inspect @in --contract @contract.json --format json").done();
        let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
        facts["contract"]["embedding"]["contract_id"].as_str().unwrap().to_owned()
    };
    let before = id();
    assert_eq!(id(), before);
    let path = fixture.path("in/weights.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(id(), before);
}

#[test]
fn a_foreign_model_needs_a_contract_and_works_with_one() {
    let fixture = Fixture::new();
    fixture.write_model("foreign.onnx", &graph());
    fixture.picture("one.png", "ada", 0.0);
    let none = fixture.run("embed @one.png -m @foreign.onnx -o @out");
    none.error(&["foreign.onnx", "`export --onnx`", "`--contract FILE.json`"]);
    let mut by_hand = ModelContract { golden: None, ..contract() };
    by_hand.embedding.as_mut().unwrap().contract_id.clear();
    std::fs::write(fixture.path("contract.json"), serde_json::to_string(&by_hand).unwrap()).unwrap();
    let answer = fixture.run("embed @one.png -m @foreign.onnx --contract @contract.json -o @out");
    assert!(answer.stderr.contains("no golden vectors"), "{}", answer.stderr);
    answer.done();
    let gallery = deploy::gallery::Gallery::open(&fixture.path("out")).unwrap();
    assert_eq!(gallery.model().contract_id.len(), 16, "the id of a contract by hand is computed");
    let both = fixture.run("inspect @model.onnx --contract @contract.json");
    both.error(&["model.onnx", "--contract", "contract.json"]);
    std::fs::write(fixture.path("contract.json"), "{").unwrap();
    fixture.run("inspect @foreign.onnx --contract @contract.json").error(&["contract.json", "JSON"]);
}

#[test]
fn contract_and_graph_must_agree() {
    let fixture = Fixture::new();
    let refuse = |change: &dyn Fn(&mut ModelContract), facts: &[&str]| {
        let mut contract = contract();
        change(&mut contract);
        fixture.write_model("model.onnx", &with_contract(graph(), &contract));
        fixture.run("inspect @model.onnx").error(facts);
    };
    refuse(&|contract| contract.input[0].name = "picture".into(), &["`picture`", "\"image\""]);
    refuse(&|contract| contract.output[0].shape[1] = Axis::Size(32), &["`features`", "[batch, 32]", "64"]);
    refuse(&|contract| contract.embedding.as_mut().unwrap().dim = 32, &["embedding", "`features`", "32"]);
    let resize = |contract: &mut ModelContract| {
        contract.input[0].picture.as_mut().unwrap().size = [64, 16];
        contract.input[0].shape[2] = Axis::Size(64);
    };
    refuse(&resize, &["`image`", "[batch, 3, 64, 16]", "[batch, 3, 32, 16]"]);
}

#[test]
fn a_model_that_does_not_embed_is_shown_but_not_searched_with() {
    let fixture = Fixture::new();
    fixture.write_model("model.onnx", &with_contract(graph(), &ModelContract { embedding: None, ..contract() }));
    assert!(fixture.run("inspect @model.onnx").done().contains("passed"));
    fixture.picture("one.png", "ada", 0.0);
    fixture.run("embed @one.png -m @model.onnx -o @out").error(&["model.onnx", "reid", "`embedding`"]);
}

/// Case 28.
#[test]
fn models_of_a_newer_format_are_named_with_a_way_out() {
    let fixture = Fixture::new();
    let mut newer = graph();
    newer.ir_version = 99;
    fixture.write_model("ir.onnx", &with_contract(newer, &contract()));
    let mut newer = graph();
    newer.opset_import[0].version = 99;
    fixture.write_model("opset.onnx", &with_contract(newer, &contract()));
    let mut newer = graph();
    newer.opset_import.push(onnx::OperatorSetIdProto { domain: "ai.onnx.ml".into(), version: 99 });
    fixture.write_model("ml.onnx", &with_contract(newer, &contract()));
    for (name, of) in [("ir.onnx", "IR"), ("opset.onnx", "operator"), ("ml.onnx", "`ai.onnx.ml`")] {
        let answer = fixture.run(&format!("inspect @{name}"));
        assert!(!answer.stderr.contains("::") && answer.stderr.lines().count() == 1, "{}", answer.stderr);
        answer.error(&[name, of, "99", "`export --opset`"]);
    }
}

/// Case 27: batch norms as converters wrote them before operator set 7, and until 9 with an attribute that contradicts
/// their scales.
#[test]
fn batch_norms_of_old_operator_sets_are_named_with_a_way_out() {
    let fixture = Fixture::new();
    let model = |set: i64, attribute: Option<&str>, scale: &[i64]| {
        let mut model = graph();
        model.opset_import[0].version = set;
        let parts = model.graph.as_mut().unwrap();
        let zero = |name: &str| AttributeProto {
            name: name.into(),
            r#type: AttributeType::Int as i32,
            i: Some(0),
            ..Default::default()
        };
        let attribute = attribute.map(zero).into_iter().collect();
        let inputs = ["convolved", "scale", "bias", "mean", "variance"];
        parts.node[1] = node("BatchNormalization", &inputs, "rectified", attribute);
        let count = scale.iter().product::<i64>() as usize;
        parts.initializer.extend(inputs[1..].iter().map(|name| tensor(name, scale, &vec![1.0; count])));
        with_contract(model, &ModelContract { golden: None, ..contract() })
    };
    let [channels, height, width] = [8, SIZE[0] as i64 / 2, SIZE[1] as i64 / 2];
    fixture.write_model("six.onnx", &model(6, Some("is_test"), &[channels]));
    fixture.run("inspect @six.onnx").error(&["six.onnx", "6", "7", "onnx.version_converter.convert_version"]);
    fixture.write_model("eight.onnx", &model(8, Some("spatial"), &[channels]));
    fixture.run("inspect @eight.onnx").error(&["eight.onnx", "BatchNormalization", "`rectified`", "`spatial`", "0"]);
    // As they should be: a scale for each value, and one for each channel.
    fixture.write_model("values.onnx", &model(8, Some("spatial"), &[channels, height, width]));
    fixture.run("inspect @values.onnx").done();
    fixture.write_model("plain.onnx", &model(8, None, &[channels]));
    fixture.run("inspect @plain.onnx").done();
}

/// Cases 21 and 22: what to write into the contract of graphs of other types and layouts.
#[test]
fn other_types_and_layouts_are_named_with_a_way_out() {
    let fixture = Fixture::new();
    let none = ModelContract { golden: None, ..contract() };
    let [height, width] = SIZE.map(|size| size as i64);
    let cast = || node("Cast", &["image"], "inside", vec![int("to", DataType::Float as i64)]);
    let transpose = node("Transpose", &["image"], "inside", vec![ints("perm", &[0, 3, 1, 2])]);
    for (name, model, facts) in [
        ("whole", behind(cast(), DataType::Int32, &[3, height, width]), &["int32", "float16", "uint8"][..]),
        ("bytes", behind(cast(), DataType::Uint8, &[3, height, width]), &["uint8", "`range`", "[0, 255]"]),
        ("last", behind(transpose, DataType::Float, &[height, width, 3]), &["`layout`", "\"NHWC\""]),
    ] {
        fixture.write_model(&format!("{name}.onnx"), &with_contract(model, &none));
        fixture.run(&format!("inspect @{name}.onnx")).error(facts);
    }
}

/// Case 27: a graph that opens, and cannot run for any batch but one of three.
#[test]
fn inspect_runs_a_model_without_golden_vectors() {
    let fixture = Fixture::new();
    let none = ModelContract { golden: None, ..contract() };
    fixture.write_model("plain.onnx", &with_contract(graph(), &none));
    fixture.run("inspect @plain.onnx").done();
    let mut broken = graph();
    let parts = broken.graph.as_mut().unwrap();
    let last = parts.node.last_mut().unwrap();
    (last.name, last.output[0]) = ("flat".into(), "flat".into());
    // A row far behind the last of a table: which one follows from the picture, so that nothing is known before a run.
    parts.node.push(node("ArgMax", &["flat"], "best", vec![int("axis", 1), int("keepdims", 0)]));
    parts.node.push(node("Add", &["best", "far"], "index", vec![]));
    parts.node.push(node("Gather", &["rows", "index"], "features", vec![]));
    let mut far = tensor("far", &[1], &[]);
    far.data_type = DataType::Int64 as i32;
    far.raw_data = 1000_i64.to_le_bytes().into();
    parts.initializer.extend([far, tensor("rows", &[1, DIM as i64], &[1.0; DIM])]);
    fixture.write_model("broken.onnx", &with_contract(broken, &none));
    fixture.run("inspect @broken.onnx").error(&["broken.onnx", "Gather"]);
}

/// Case 29: features that are compared with the mean of their batch.
#[test]
fn inspect_tells_when_rows_of_a_batch_see_each_other() {
    let fixture = Fixture::new();
    let independent = fixture.run("inspect @model.onnx");
    assert!(!independent.stderr.contains("beside it"), "{}", independent.stderr);
    assert!(independent.done().contains("a row gives the same alone and beside another"));
    let mut mixing = graph();
    let parts = mixing.graph.as_mut().unwrap();
    let last = parts.node.last_mut().unwrap();
    (last.name, last.output[0]) = ("flat".into(), "flat".into());
    let mut axis = tensor("axis", &[1], &[]);
    axis.data_type = onnx::DataType::Int64 as i32;
    axis.raw_data = 0_i64.to_le_bytes().into();
    parts.initializer.push(axis);
    parts.node.push(node("ReduceMean", &["flat", "axis"], "mean", vec![]));
    parts.node.push(node("Sub", &["flat", "mean"], "features", vec![]));
    fixture.write_model("mixing.onnx", &with_contract(mixing, &ModelContract { golden: None, ..contract() }));
    let answer = fixture.run("inspect @mixing.onnx --format json");
    fixtures::assert_names(&answer.stderr, &["`features`", "--batch-size", "1"]);
    let json: serde_json::Value = serde_json::from_str(&answer.done()).unwrap();
    assert_eq!(json["batch"]["rows_are_independent"], false);
    assert!(json["batch"]["difference"].as_f64().unwrap() > 0.01, "{}", json["batch"]);
}

/// Case 8: the graph has a fixed batch, the contract a free one.
#[test]
fn a_fixed_batch_is_named_with_what_to_write() {
    let fixture = Fixture::new();
    let mut fixed = graph();
    for port in [0, 1] {
        let parts = fixed.graph.as_mut().unwrap();
        let value = if port == 0 { &mut parts.input[0] } else { &mut parts.output[0] };
        let shape = value.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
        shape.dim[0].value = Some(onnx::Dimension::Value(1));
    }
    let free = ModelContract { golden: None, ..contract() };
    fixture.write_model("fixed.onnx", &with_contract(fixed, &free));
    fixture.run("inspect @fixed.onnx").error(&["`image`", "[batch, 3, 32, 16]", "[1, 3, 32, 16]", "axis"]);
}

/// The folder of all bundles in place of one of them.
#[test]
fn a_folder_of_bundles_names_them() {
    let fixture = Fixture::new();
    for name in ["osnet-x", "lmbn-n"] {
        std::fs::create_dir_all(fixture.path("models").join(name)).unwrap();
        std::fs::copy(fixture.path("model.onnx"), fixture.path("models").join(name).join("model.onnx")).unwrap();
    }
    std::fs::create_dir(fixture.path("models/empty")).unwrap();
    fixture.run("inspect @models").error(&["models", "model.onnx", "lmbn-n", "osnet-x"]);
    fixture.run("inspect @models/empty").error(&["models/empty", "model.onnx"]);
    fixture.run("inspect @models/lmbn-n").done();
}
