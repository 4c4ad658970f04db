//! Bundles of other people's models: each kind of graph gives the embeddings that the reference computes.

use std::path::Path;

use contract::{Axis, ModelContract};
use onnx::{DataType, Dimension, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use crate::fixture::{
    DIM, Fixture, SIZE, TOLERANCE, apart, behind, behind_all, contract, graph, int, ints, node, reference_embedding,
    retype, tensor, value,
};

/// What the reference does with a picture, but for its numbers.
const SEEN: &str = "--colour rgb --filter bilinear --flip";

/// The reference's numbers.
const NUMBERS: &str = "--range 0,1 --mean 0.5,0.45,0.4 --std 0.25,0.22,0.2";

const ROW: [i64; 3] = [3, SIZE[0] as i64, SIZE[1] as i64];
const LAST: [i64; 3] = [SIZE[0] as i64, SIZE[1] as i64, 3];

fn whole(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn add(model: &mut ModelProto, weights: impl IntoIterator<Item = TensorProto>) {
    model.graph.as_mut().unwrap().initializer.extend(weights);
}

/// The first axis of an input or output.
fn batch(value: &mut ValueInfoProto, size: i64) {
    let shape = value.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
    shape.dim[0].value = Some(Dimension::Value(size));
}

/// Lets `last` make the features of what the graph has made of them.
fn then(model: &mut ModelProto, nodes: Vec<NodeProto>) {
    let parts = model.graph.as_mut().unwrap();
    let end = parts.node.last_mut().unwrap();
    (end.name, end.output[0]) = ("flat".into(), "flat".into());
    parts.node.extend(nodes);
}

/// Nodes that bring pixels of 0 to 255 in `from` to what the reference's network wants, as `inside`, and their weights.
fn normalising(from: &str) -> (Vec<NodeProto>, [TensorProto; 2]) {
    let nodes = vec![node("Sub", &[from, "mean"], "moved", vec![]), node("Div", &["moved", "std"], "inside", vec![])];
    let scaled = |values: [f32; 3]| values.map(|value| value * 255.0);
    let weights = [
        tensor("mean", &[1, 3, 1, 1], &scaled([0.5, 0.45, 0.4])),
        tensor("std", &[1, 3, 1, 1], &scaled([0.25, 0.22, 0.2])),
    ];
    (nodes, weights)
}

fn normalising_model() -> ModelProto {
    let (nodes, weights) = normalising("image");
    let mut model = behind_all(nodes, DataType::Float, &ROW);
    add(&mut model, weights);
    model
}

/// Adopts the model and holds the embeddings of three pictures against the reference. Its contract.
#[track_caller]
fn adopts(fixture: &Fixture, model: &ModelProto, flags: &str, tolerance: f32) -> ModelContract {
    fixture.write_model("foreign.onnx", model);
    adopted(fixture, "@foreign.onnx", flags, tolerance)
}

#[track_caller]
fn adopted(fixture: &Fixture, path: &str, flags: &str, tolerance: f32) -> ModelContract {
    let _ = std::fs::remove_dir_all(fixture.path("bundle"));
    let _ = std::fs::remove_dir_all(fixture.path("out"));
    let pictures = ["a", "b", "c"].map(|name| fixture.picture(&format!("three/{name}.png"), name, 0.0));
    let said = fixture.run(&format!("adopt {path} {flags} -o @bundle"));
    assert!(said.stdout.contains("passed"), "{}\n{}", said.stdout, said.stderr);
    said.done();
    assert_eq!(fixture.run("inspect @bundle").done().matches("self-test").count(), 1);
    fixture.run("embed @three -m @bundle -o @out").done();
    let (rows, _) = fixture.rows("out");
    assert_eq!(rows.dim(), (3, DIM));
    for (row, picture) in rows.rows().into_iter().zip(&pictures) {
        let expected = reference_embedding(picture);
        let worst = row.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{}: {worst}", picture.display());
    }
    let text = std::fs::read_to_string(fixture.path("bundle/contract.json")).unwrap();
    ModelContract::from_json(&text).unwrap()
}

#[test]
fn a_plain_graph_becomes_a_bundle() {
    let fixture = Fixture::new();
    let found = adopts(&fixture, &graph(), &format!("{SEEN} {NUMBERS} --licence MIT"), TOLERANCE);
    assert_eq!(fixture.files("bundle"), ["CARD.md", "contract.json", "model.onnx"]);
    let card = std::fs::read_to_string(fixture.path("bundle/CARD.md")).unwrap();
    for fact in ["# foreign", "`foreign.onnx`", "| colour | rgb | --colour |", "[batch, 3, 32, 16]", "Licence: MIT"] {
        assert!(card.contains(fact), "`{fact}` is not in: {card}");
    }
    assert_eq!(found.output[0].shape, [Axis::Symbol("batch".into()), Axis::Size(DIM)]);
    let golden = found.golden.unwrap();
    assert!(golden.pixels && golden.output["features"].iter().any(|value| *value != 0.0));

    // Who has written the same contract by hand has the same id, and keeps the gallery.
    let mut by_hand = ModelContract { golden: None, ..contract() };
    by_hand.embedding.as_mut().unwrap().contract_id.clear();
    std::fs::write(fixture.path("contract.json"), serde_json::to_string(&by_hand).unwrap()).unwrap();
    fixture.run("embed @three -m @foreign.onnx --contract @contract.json -o @by-hand").done();
    let search = fixture.run("search -m @bundle --gallery @by-hand --query @three/b.png -k 1 --format json").done();
    assert!(search.contains("b.png"), "{search}");

    // Another machine's arithmetic is checked by what this one computed.
    let mut damaged = onnx::read(&fixture.path("bundle/model.onnx"), &onnx::Limits::default()).unwrap().0;
    damaged.graph.as_mut().unwrap().initializer[0].raw_data[4..8].copy_from_slice(&0.9f32.to_le_bytes());
    fixture.write_model("bundle/model.onnx", &damaged);
    fixture.run("inspect @bundle").error(&["self-test", "`features`"]);
}

#[test]
fn an_adopted_bundle_is_good_for_every_verb() {
    let fixture = Fixture::new();
    adopts(&fixture, &graph(), &format!("{SEEN} {NUMBERS}"), TOLERANCE);
    for person in ["ada", "ben", "cleo"] {
        for frame in 1..=3 {
            fixture.picture(&format!("people/{person}/{frame}.png"), person, 0.1 * frame as f32);
        }
    }
    fixture.run("enroll @people -m @bundle --gallery @g").done();
    let best = fixture.run("search -m @bundle --gallery @g --query @people/ben/2.png -k 1 --format csv").done();
    assert!(best.contains(",ben,"), "{best}");
    let ask = "verify -m @bundle --gallery @g --identity ada --picture @people/ada/1.png --threshold 0.5";
    assert_eq!(fixture.run(ask).code, 0);
    fixture.run("calibrate -m @bundle --datadir @people --far 0.5").done();
    assert!(fixture.run("inspect @bundle --format json").done().contains("\"similarity\""), "thresholds are kept");
    fixture.run("doctor --model @bundle").done();
    fixture.run("evaluate -m @bundle --dataset folders --datadir @people").done();
}

#[test]
fn a_graph_of_one_picture_is_run_one_at_a_time() {
    let fixture = Fixture::new();
    let mut model = graph();
    let parts = model.graph.as_mut().unwrap();
    batch(&mut parts.input[0], 1);
    batch(&mut parts.output[0], 1);
    let found = adopts(&fixture, &model, &format!("{SEEN} {NUMBERS}"), TOLERANCE);
    assert_eq!(found.input[0].shape[0], Axis::Size(1));
}

/// An exporter's example of one picture: the output is declared for it, and the batch is free all the same.
#[test]
fn an_output_that_is_declared_for_one_picture_has_a_free_batch() {
    let fixture = Fixture::new();
    let mut model = graph();
    batch(&mut model.graph.as_mut().unwrap().output[0], 1);
    let found = adopts(&fixture, &model, &format!("{SEEN} {NUMBERS}"), TOLERANCE);
    assert_eq!([&found.input[0].shape[0], &found.output[0].shape[0]], [&Axis::Symbol("batch".into()); 2]);
}

/// The batch is declared free, and a reshape inside knows better.
#[test]
fn a_graph_that_does_not_bear_a_batch_is_found_out() {
    let fixture = Fixture::new();
    let mut model = graph();
    add(&mut model, [whole("one", &[1, -1])]);
    then(&mut model, vec![node("Reshape", &["flat", "one"], "features", vec![])]);
    model.graph.as_mut().unwrap().output[0] = value("features", &[DIM]);
    let found = adopts(&fixture, &model, &format!("{SEEN} {NUMBERS}"), TOLERANCE);
    assert_eq!(found.input[0].shape[0], Axis::Size(1));
    let card = std::fs::read_to_string(fixture.path("bundle/CARD.md")).unwrap();
    assert!(card.contains("one picture at a time") && card.contains("[1, 128]"), "{card}");
}

#[test]
fn channels_may_be_last() {
    let fixture = Fixture::new();
    let transpose = node("Transpose", &["image"], "inside", vec![ints("perm", &[0, 3, 1, 2])]);
    let model = behind(transpose, DataType::Float, &LAST);
    let found = adopts(&fixture, &model, &format!("{SEEN} {NUMBERS}"), TOLERANCE);
    assert_eq!(found.input[0].picture.as_ref().unwrap().layout, "NHWC");
    fixture.write_model("foreign.onnx", &model);
    let wrong = fixture.run(&format!("adopt @foreign.onnx {SEEN} {NUMBERS} --layout nchw -o @new"));
    wrong.error(&["foreign.onnx", "`--layout nchw`", "[batch, 32, 16, 3]"]);
}

#[test]
fn colours_may_be_blue_first() {
    let fixture = Fixture::new();
    let mut model = behind(node("Gather", &["image", "order"], "inside", vec![int("axis", 1)]), DataType::Float, &ROW);
    add(&mut model, [whole("order", &[2, 1, 0])]);
    // Its numbers are in the order of its channels.
    let numbers = "--range 0,1 --mean 0.4,0.45,0.5 --std 0.2,0.22,0.25";
    adopts(&fixture, &model, &format!("--colour bgr --filter bilinear --flip {numbers}"), TOLERANCE);
}

#[test]
fn a_graph_that_normalises_takes_pixels() {
    let fixture = Fixture::new();
    let model = normalising_model();
    adopts(&fixture, &model, &format!("{SEEN} --range 0,255 --mean 0 --std 1"), TOLERANCE);
    // Without them it is told what the graph does, and that the preset's numbers would do it twice.
    let asked = fixture.run("adopt @foreign.onnx --preset torchreid -o @new");
    asked.error(&["--range", "--mean", "--std", "Sub", "102", "127.5", "Div"]);
    // These projects export it so.
    for preset in ["fastreid", "insightface"] {
        let _ = std::fs::remove_dir_all(fixture.path("new"));
        let said = fixture.run(&format!("adopt @foreign.onnx --preset {preset} -o @new --format json")).done();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let picture = &said["contract"]["input"][0]["picture"];
        assert_eq!(picture["range"], serde_json::json!([0.0, 255.0]), "{preset}");
        assert_eq!(picture["mean"], serde_json::json!([0.0, 0.0, 0.0]), "{preset}");
        assert!(said["preset"]["sources"][0].as_str().unwrap().contains(" at "), "{said}");
    }
}

#[test]
fn bytes_are_taken_as_they_are() {
    let fixture = Fixture::new();
    let (mut nodes, weights) = normalising("planes");
    let cast = node("Cast", &["image"], "float", vec![int("to", DataType::Float as i64)]);
    nodes.insert(0, node("Transpose", &["float"], "planes", vec![ints("perm", &[0, 3, 1, 2])]));
    nodes.insert(0, cast);
    let mut model = behind_all(nodes, DataType::Uint8, &LAST);
    add(&mut model, weights);
    let found = adopts(&fixture, &model, SEEN, TOLERANCE);
    assert!(found.input[0].picture.as_ref().unwrap().is_plain());
    let wrong = fixture.run(&format!("adopt @foreign.onnx {SEEN} {NUMBERS} -o @new"));
    wrong.error(&["uint8", "`--range 0,255 --mean 0 --std 1`"]);
}

#[test]
fn half_precision_goes_in_and_out() {
    let fixture = Fixture::new();
    let to = |ty: DataType| vec![int("to", ty as i64)];
    let mut model = behind(node("Cast", &["image"], "inside", to(DataType::Float)), DataType::Float16, &ROW);
    then(&mut model, vec![node("Cast", &["flat"], "features", to(DataType::Float16))]);
    retype(&mut model.graph.as_mut().unwrap().output[0], DataType::Float16, &[DIM as i64]);
    adopts(&fixture, &model, &format!("{SEEN} {NUMBERS}"), 1e-3);
}

#[test]
fn of_several_outputs_the_embedding_is_found_or_asked_for() {
    let fixture = Fixture::new();
    let mut model = graph();
    let parts = model.graph.as_mut().unwrap();
    parts.output.insert(0, value("rectified", &[8, SIZE[0] / 2, SIZE[1] / 2]));
    parts.node.push(node("ReduceL2", &["features"], "norm", vec![ints("axes", &[1]), int("keepdims", 1)]));
    parts.output.push(value("norm", &[1]));
    model.opset_import[0].version = 17;
    let found = adopts(&fixture, &model, &format!("{SEEN} {NUMBERS}"), TOLERANCE);
    assert_eq!(found.output.len(), 1);

    // A classifier behind it is a vector, too.
    let parts = model.graph.as_mut().unwrap();
    parts.node.push(node("Softmax", &["features"], "classes", vec![int("axis", 1)]));
    parts.output.insert(0, value("classes", &[DIM]));
    fixture.write_model("foreign.onnx", &model);
    let asked = fixture.run(&format!("adopt @foreign.onnx {SEEN} {NUMBERS} -o @new"));
    asked.error(&["--output", "`features`", "`classes`", "[batch, 8, 16, 8]"]);
    adopts(&fixture, &model, &format!("{SEEN} {NUMBERS} --output features"), TOLERANCE);
    let none = fixture.run(&format!("adopt @foreign.onnx {SEEN} {NUMBERS} --output nothing -o @new"));
    none.error(&["`--output nothing`", "`features`", "`classes`"]);
}

#[test]
fn a_pooled_map_is_a_vector() {
    let fixture = Fixture::new();
    let mut model = graph();
    add(&mut model, [whole("pooled shape", &[0, DIM as i64, 1, 1])]);
    then(&mut model, vec![node("Reshape", &["flat", "pooled shape"], "features", vec![])]);
    model.graph.as_mut().unwrap().output[0] = value("features", &[DIM, 1, 1]);
    let found = adopts(&fixture, &model, &format!("{SEEN} {NUMBERS}"), TOLERANCE);
    assert_eq!(found.output[0].shape.len(), 4);
}

/// Nothing but the number of axes is declared.
#[test]
fn sizes_that_are_left_open_are_found_or_asked_for() {
    let fixture = Fixture::new();
    let open = |value: &mut ValueInfoProto| {
        let shape = value.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
        shape.dim.iter_mut().for_each(|dim| dim.value = None);
    };
    let mut model = graph();
    let parts = model.graph.as_mut().unwrap();
    open(&mut parts.input[0]);
    open(&mut parts.output[0]);
    let flags = format!("{SEEN} {NUMBERS} --size 32x16 --layout nchw");
    let found = adopts(&fixture, &model, &flags, TOLERANCE);
    assert_eq!(found.input[0].shape[1..], [3, 32, 16].map(Axis::Size));
    let asked = fixture.run("adopt @foreign.onnx -o @new");
    asked.error(&["--size", "--layout", "--colour", "--filter", "--range", "--mean", "--std", "--preset"]);
}

#[test]
fn weights_beside_the_model_come_along() {
    let fixture = Fixture::new();
    let bytes = apart(&fixture, "plain", "weights.bin", graph());
    adopted(&fixture, "@plain", &format!("{SEEN} {NUMBERS}"), TOLERANCE);
    assert_eq!(std::fs::read(fixture.path("bundle/weights.bin")).unwrap(), bytes);
    // It would be written over by a file of the bundle.
    apart(&fixture, "taken", "CARD.md", graph());
    let taken = fixture.run(&format!("adopt @taken/model.onnx {SEEN} {NUMBERS} -o @new"));
    taken.error(&["`CARD.md`"]);
    assert!(!fixture.path("new").exists());
}

/// A model hub's cache keeps files under their hashes, and links to them under their names. A link out of the folder
/// may lead into the cache's `blobs` and nowhere else.
#[cfg(unix)]
#[test]
fn a_model_in_a_hub_cache_is_adopted() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::new();
    apart(&fixture, "plain", "model.onnx_data", graph());
    let (blobs, snapshot) = (fixture.path("models--a--b/blobs"), fixture.path("models--a--b/snapshots/rev/onnx"));
    [&blobs, &snapshot].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
    for (name, blob) in [("model.onnx", "0123"), ("model.onnx_data", "4567")] {
        std::fs::rename(fixture.path("plain").join(name), blobs.join(blob)).unwrap();
        symlink(format!("../../../blobs/{blob}"), snapshot.join(name)).unwrap();
    }
    for path in ["@models--a--b/snapshots/rev/onnx", "@models--a--b/snapshots/rev/onnx/model.onnx"] {
        adopted(&fixture, path, &format!("{SEEN} {NUMBERS}"), TOLERANCE);
        let there = |name: &str| std::fs::symlink_metadata(fixture.path("bundle").join(name)).unwrap();
        assert!(["model.onnx", "model.onnx_data"].iter().all(|name| there(name).is_file()), "no links");
    }
    std::fs::remove_file(snapshot.join("model.onnx_data")).unwrap();
    symlink("../../../../three/a.png", snapshot.join("model.onnx_data")).unwrap();
    let refused = fixture.run(&format!("adopt @models--a--b/snapshots/rev/onnx {SEEN} {NUMBERS} -o @new"));
    refused.error(&["`model.onnx_data`", "three/a.png"]);
}

#[test]
fn presets_are_taken_and_flags_come_first() {
    let fixture = Fixture::new();
    fixture.write_model("foreign.onnx", &graph());
    let facts = |flags: &str| {
        let _ = std::fs::remove_dir_all(fixture.path("new"));
        let said = fixture.run(&format!("adopt @foreign.onnx {flags} -o @new --format json")).done();
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    let plain = facts("--preset torchreid");
    let picture = &plain["contract"]["input"][0]["picture"];
    assert_eq!((&picture["colour"], &picture["filter"]), (&"rgb".into(), &"pillow-bilinear".into()));
    // Pillow opens pictures as they are stored, OpenCV turns them.
    assert_eq!(picture["orientation"], "stored");
    let turned = facts("--preset insightface");
    assert_eq!(turned["contract"]["input"][0]["picture"]["orientation"], "exif");
    let plain = facts("--preset torchreid");
    let picture = &plain["contract"]["input"][0]["picture"];
    assert_eq!(picture["size"], serde_json::json!([32, 16]), "the graph's size, not the preset's");
    let from = |said: &serde_json::Value, what: &str| {
        let fact = said["settled"].as_array().unwrap().iter().find(|fact| fact["what"] == what).unwrap();
        fact["from"].as_str().unwrap().to_owned()
    };
    assert_eq!([from(&plain, "mean"), from(&plain, "size")], ["preset torchreid", "graph"]);
    let other = facts("--preset torchreid --mean 0.5 --colour bgr");
    assert_eq!([from(&other, "mean"), from(&other, "std")], ["--mean", "preset torchreid"]);
    assert_eq!(other["contract"]["input"][0]["picture"]["mean"], serde_json::json!([0.5, 0.5, 0.5]));
    assert_ne!(plain["contract_id"], other["contract_id"]);
    fixture.run("adopt @foreign.onnx --preset osnet -o @other").error(&["--preset", "'osnet'", "torchreid", "adaface"]);
}

#[test]
fn a_contact_sheet_shows_what_the_network_sees() {
    let fixture = Fixture::new();
    fixture.write_model("foreign.onnx", &graph());
    for person in ["ada", "ben"] {
        fixture.picture(&format!("set/{person}.png"), person, 0.0);
    }
    std::fs::write(fixture.path("set/broken.png"), "no picture").unwrap();
    let line = "adopt @foreign.onnx --preset adaface --pictures @set";
    let said = fixture.run(&format!("{line} -o @bundle"));
    assert!(said.stderr.contains("broken.png") && said.stderr.contains("aligned"), "{}", said.stderr);
    // Pixels of 0 to 255 are -1 to 1 there.
    assert!(said.done().contains("of 2 pictures"));
    assert_eq!(fixture.files("bundle"), ["CARD.md", "contract.json", "model.onnx"], "a bundle has no pictures");
    let sheet = image::open(fixture.path("bundle.png")).unwrap().into_rgb8();
    // Two pairs: the picture of 32×64, and the input of 16×32 in pixels of four.
    let (pair, high) = (64 + 64 + 3 * 6, 128 + 6);
    assert!(sheet.width() >= pair && sheet.height() == high + 6, "{:?}", sheet.dimensions());
    fixture.run(&format!("{line} -o @other --sheet @seen.png")).done();
    assert_eq!(image::open(fixture.path("seen.png")).unwrap().into_rgb8(), sheet);
    fixture.run("adopt @foreign.onnx --preset adaface --pictures @none -o @third").error(&["none"]);
    assert!(!fixture.path("third").exists());
}

#[test]
fn what_cannot_be_adopted_is_named_with_what_can() {
    let fixture = Fixture::new();
    let flags = format!("{SEEN} {NUMBERS}");
    let refuse = |model: &ModelProto, more: &str, facts: &[&str]| {
        fixture.write_model("foreign.onnx", model);
        fixture.run(&format!("adopt @foreign.onnx {flags} {more} -o @new")).error(facts);
        assert!(!fixture.path("new").exists(), "nothing is written");
    };
    refuse(&graph(), "--size 64x32", &["foreign.onnx", "`--size 64×32`", "32×16"]);
    refuse(&graph(), "--colour grey", &["--colour"]);
    let mut two = graph();
    two.graph.as_mut().unwrap().input.push(value("camera", &[1]));
    refuse(&two, "", &["2", "`image`", "`camera`", "docs/contract.md"]);
    let mut whole_numbers = graph();
    retype(&mut whole_numbers.graph.as_mut().unwrap().input[0], DataType::Int32, &ROW);
    refuse(&whole_numbers, "", &["int32", "float32", "float16", "uint8"]);
    let mut six = graph();
    retype(&mut six.graph.as_mut().unwrap().input[0], DataType::Float, &[6, 32, 16]);
    refuse(&six, "", &["[batch, 6, 32, 16]", "1", "3"]);
    let mut nan = graph();
    then(&mut nan, vec![node("Add", &["flat", "nan"], "features", vec![])]);
    add(&mut nan, [tensor("nan", &[1], &[f32::NAN])]);
    refuse(&nan, "", &["`features`", "`--range`"]);
    let own = fixture.run(&format!("adopt @model.onnx {flags} -o @new"));
    own.error_saying("carries a contract already");

    fixture.write_model("foreign.onnx", &graph());
    fixture.picture("new/one.png", "ada", 0.0);
    fixture.run(&format!("adopt @foreign.onnx {flags} -o @new")).error(&["new", "empty"]);
    assert_eq!(fixture.files("new"), ["one.png"]);
    // The numbers of another range.
    let other = "--colour rgb --filter bilinear --range 0,1 --mean 127.5 --std 127.5";
    fixture.run(&format!("adopt @foreign.onnx {other} -o @other")).error(&["`input[image].mean`", "127.5"]);
    let rest: Vec<String> = fixture.files(".").into_iter().filter(|name| name.starts_with(".vitrine")).collect();
    assert!(rest.is_empty(), "{rest:?}");
    assert!(!Path::new(&fixture.path("other")).exists());
}
