//! A model of two pictures a row: pairs embedded, enrolled, verified, evaluated, and what is wrong with them said.

use contract::{Axis, InputSpec, ModelContract, OutputSpec};
use onnx::{AttributeProto, AttributeType, ModelProto, NodeProto, ValueInfoProto};

use crate::fixture::{DIM, Fixture, SIZE, TOLERANCE, contract, graph, node, reference, tensor, value, with_contract};

/// Both pictures through the tiny network, one after the other.
pub(crate) fn model() -> ModelProto {
    with_contract(graph_of_two(), &pair_contract())
}

fn graph_of_two() -> ModelProto {
    let mut model = graph();
    let tiny = model.graph.as_mut().unwrap();
    let (nodes, input) = (tiny.node.clone(), tiny.input[0].clone());
    tiny.node.clear();
    tiny.input.clear();
    for side in ["palm", "vein"] {
        let rename = |name: &String| match name.as_str() {
            "image" => side.to_owned(),
            weights if weights.starts_with("conv.") => weights.to_owned(),
            other => format!("{side}.{other}"),
        };
        tiny.node.extend(nodes.iter().map(|node| NodeProto {
            name: format!("{side}.{}", node.name),
            input: node.input.iter().map(rename).collect(),
            output: node.output.iter().map(rename).collect(),
            ..node.clone()
        }));
        tiny.input.push(ValueInfoProto { name: side.into(), ..input.clone() });
    }
    let axis =
        AttributeProto { name: "axis".into(), r#type: AttributeType::Int as i32, i: Some(1), ..Default::default() };
    tiny.node.push(NodeProto {
        op_type: "Concat".into(),
        name: "features".into(),
        input: vec!["palm.features".into(), "vein.features".into()],
        output: vec!["features".into()],
        attribute: vec![axis],
        ..Default::default()
    });
    let dims = tiny.output[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
    dims.dim[1].value = Some(onnx::Dimension::Value(2 * DIM as i64));
    model
}

fn pair_contract() -> ModelContract {
    let one = contract();
    let input = ["palm", "vein"].map(|name| InputSpec { name: name.into(), ..one.input[0].clone() }).to_vec();
    let mut embedding = one.embedding.clone().unwrap();
    (embedding.dim, embedding.flip) = (2 * DIM, false);
    embedding.contract_id = "fedcba9876543210".into();
    let shape = vec![Axis::Symbol("batch".into()), Axis::Size(2 * DIM)];
    let output = vec![OutputSpec { shape, ..one.output[0].clone() }];
    ModelContract { family: "palmvein".into(), input, output, embedding: Some(embedding), golden: None, ..one }
}

/// Three hands with three pairs each, and the model.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write_model("pair.onnx", &model());
    for hand in ["001_l", "001_r", "002_l"] {
        for n in 1..=3 {
            for side in ["palm", "vein"] {
                fixture.picture(&format!("set/{side}/{hand}/{n}.png"), &format!("{side} {hand}"), 0.1 * n as f32);
            }
        }
    }
    fixture
}

#[test]
fn a_pair_is_one_row() {
    let fixture = fixture();
    fixture.run("embed @set -m @pair.onnx -o @rows --pairs").done();
    let (values, rows) = fixture.rows("rows");
    assert_eq!(values.dim(), (9, 2 * DIM));
    assert_eq!(rows[4]["identity_name"], "001_r");
    let mut expected = Vec::new();
    for side in ["palm", "vein"] {
        let path = fixture.path(&format!("set/{side}/001_r/2.png"));
        let mut batch = vec![0.0; 3 * SIZE[0] * SIZE[1]];
        let input = contract().input.remove(0).picture.unwrap();
        contract::preprocess::load(&path, &input, &mut batch).unwrap();
        expected.extend(reference(&batch));
    }
    let length = expected.iter().map(|value| value * value).sum::<f32>().sqrt();
    for (found, wanted) in values.row(4).iter().zip(&expected) {
        assert!((found - wanted / length).abs() < TOLERANCE, "{found}, {wanted} / {length}");
    }
    let found = fixture.run("search -m @pair.onnx --pairs --gallery @rows --query @set -k 2 --format csv").done();
    assert_eq!(found.lines().count(), 1 + 9 * 2);
}

#[test]
fn enrolled_people_are_verified_and_others_are_not() {
    let fixture = fixture();
    let pair = |hand: &str, n: usize| format!("--palm @set/palm/{hand}/{n}.png --vein @set/vein/{hand}/{n}.png");
    for (n, said) in [(1, "1 row in"), (2, "2 rows in")] {
        let line = format!("enroll -m @pair.onnx --gallery @people --identity anna {}", pair("001_l", n));
        assert!(fixture.run(&line).done().contains(said));
    }
    let verify = |identity: &str, pair: &str, more: &str| {
        fixture.run(&format!("verify -m @pair.onnx --gallery @people --identity {identity} {pair} {more}"))
    };
    let yes = verify("anna", &pair("001_l", 3), "--threshold 0.9 --format json");
    let answer: serde_json::Value = serde_json::from_str(&yes.done()).unwrap();
    assert_eq!((answer["match"].as_bool(), answer["enrolled_rows"].as_u64()), (Some(true), Some(2)));
    let no = verify("anna", &pair("002_l", 3), "--threshold 0.9999");
    assert_eq!(no.code, 1, "{}{}", no.stdout, no.stderr);
    assert!(no.stdout.starts_with("no match: similarity "), "{}", no.stdout);
    verify("bert", &pair("001_l", 3), "--threshold 0.9").error(&["`bert`", "people"]);
    verify("anna", &pair("001_l", 3), "").error(&["0.001", "2", "`deploy calibrate --far 0.0005`", "`--threshold`"]);
    verify("anna", "--palm @set/palm/001_l/3.png", "--threshold 0.9").error(&["`--vein FILE`"]);
    verify("anna", "--vein @set/vein/001_l/3.png", "--threshold 0.9").error(&["`--palm FILE`"]);
}

/// Which inputs a model bears to miss is a field of its contract, and nothing else decides.
#[test]
fn a_missing_modality_is_borne_by_models_that_learnt_it() {
    let fixture = fixture();
    let mut borne = pair_contract();
    borne.input.iter_mut().for_each(|input| input.absent = Some(0.0));
    fixture.write_model("bears.onnx", &with_contract(graph_of_two(), &borne));
    let palm = "--palm @set/palm/001_l/3.png";
    for line in [
        "embed -m @pair.onnx -o @one",
        "search -m @pair.onnx --gallery @set --pairs",
        "enroll -m @pair.onnx --gallery @people --identity anna",
        "verify -m @pair.onnx --gallery @people --identity anna --threshold 0.5",
    ] {
        fixture.run(&format!("{line} {palm}")).error(&["`--vein FILE`", "--modality-dropout"]);
    }
    fixture.run(&format!("embed -m @bears.onnx -o @one {palm}")).done();
    let (values, rows) = fixture.rows("one");
    assert_eq!((values.nrows(), rows[0]["missing"][0].as_str()), (1, Some("vein")));
    // What stands in for the veins is 0 after normalisation.
    let input = contract().input.remove(0).picture.unwrap();
    let mut batch = vec![0.0; 3 * SIZE[0] * SIZE[1]];
    let mut expected = Vec::new();
    contract::preprocess::load(&fixture.path("set/palm/001_l/3.png"), &input, &mut batch).unwrap();
    expected.extend(reference(&batch));
    batch.fill(0.0);
    expected.extend(reference(&batch));
    let length = expected.iter().map(|value| value * value).sum::<f32>().sqrt();
    for (found, wanted) in values.row(0).iter().zip(&expected) {
        assert!((found - wanted / length).abs() < TOLERANCE, "{found}, {wanted} / {length}");
    }
    let found = fixture.run("search -m @bears.onnx --gallery @set --pairs --vein @set/vein/002_l/1.png -k 1").done();
    assert!(found.contains("002_l/1.png"), "{found}");
    fixture.run(&format!("enroll -m @bears.onnx --gallery @people --identity anna {palm}")).done();
    let claim = "verify -m @bears.onnx --gallery @people --identity anna --threshold 0.99";
    assert_eq!(fixture.run(&format!("{claim} {palm}")).done().split(':').next(), Some("match"));
    fixture.run(claim).error(&["`--palm FILE`"]);
    fixture.run("embed -m @bears.onnx -o @one").error(&["DIR_OR_FILE"]);
}

/// Thresholds are written where `verify` looks for them, in the model and in the copy of its contract; rates that the
/// data cannot tell have none.
#[test]
fn calibrated_thresholds_decide() {
    let fixture = fixture();
    let copy = serde_json::to_string(&pair_contract()).unwrap();
    std::fs::write(fixture.path("contract.json"), copy).unwrap();
    let hand = "--identity anna --palm @set/palm/001_l/1.png --vein @set/vein/001_l/1.png";
    fixture.run(&format!("enroll -m @pair.onnx --gallery @people {hand}")).done();
    let line = "calibrate -m @pair.onnx --datadir @set --pairs --split all --format json";
    let told = fixture.run(&format!("{line} --far 0.4,0.001"));
    assert!(
        told.stderr.contains("3 pairs of people are too few to measure a false accept rate of 0.001"),
        "{}",
        told.stderr
    );
    let told: serde_json::Value = serde_json::from_str(&told.done()).unwrap();
    let [threshold] = told["threshold"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert!(threshold["far"].as_f64().unwrap() <= 0.4 && threshold["tar"].as_f64().unwrap() > 0.0, "{threshold}");
    let copy = ModelContract::from_json(&std::fs::read_to_string(fixture.path("contract.json")).unwrap()).unwrap();
    assert_eq!(copy.threshold.unwrap()[0].similarity, threshold["similarity"].as_f64().unwrap());
    assert!(!fixture.files("").iter().any(|name| name.starts_with(".pair.onnx.")), "{:?}", fixture.files(""));
    let claim = format!("verify -m @pair.onnx --gallery @people {hand}");
    let yes = fixture.run(&format!("{claim} --far 0.4 --format json")).done();
    let yes: serde_json::Value = serde_json::from_str(&yes).unwrap();
    assert_eq!(yes["threshold"], threshold["similarity"]);
    fixture.run(&claim).error(&["`deploy calibrate --far 0.001`", "`--threshold`"]);
    // Again with other rates: the old ones are gone, the model is the same model.
    let told = fixture.run(&format!("{line} --far 0.5").replace("--format json", "")).done();
    assert!(told.contains("pair.onnx and ") && told.contains("contract.json"), "{told}");
    let inspected = fixture.run("inspect @pair.onnx").done();
    assert_eq!(inspected.matches("threshold  ").count(), 1, "{inspected}");
    fixture.run(&format!("{line} --far 0.001")).error(&["3", "0.001", "--far"]);
    fixture.run(&format!("{line} --far 2")).error(&["--far", "'2'", "0", "1"]);
    fixture
        .run(&format!("{claim} --threshold 0 --explain @drawn"))
        .error(&["pair.onnx", "`export --onnx CHECKPOINT --attention`"]);
}

/// The two halves weigh the same places; a model that gives no values or unequal numbers of them draws nothing.
#[test]
fn attention_is_drawn_from_as_many_weights_for_palm_as_for_vein() {
    let fixture = fixture();
    let palm = "--palm @set/palm/001_l/1.png --vein @set/vein/001_l/1.png";
    fixture.run(&format!("enroll -m @pair.onnx --gallery @people --identity anna {palm}")).done();
    // `weights` of the features of each half are outputs of their own.
    let explain = |folder: &str, weights: [usize; 2]| {
        let mut graph = graph_of_two();
        let mut contract = pair_contract();
        let parts = graph.graph.as_mut().unwrap();
        for (side, count) in ["palm", "vein"].into_iter().zip(weights) {
            let name = format!("global_weight_{side}");
            for (bound, at) in [("from", 0), ("to", count as i64), ("axis", 1)] {
                let mut number = tensor(&format!("{name}.{bound}"), &[1], &[]);
                number.data_type = onnx::DataType::Int64 as i32;
                number.raw_data = at.to_le_bytes().into();
                parts.initializer.push(number);
            }
            let inputs = ["from", "to", "axis"].map(|bound| format!("{name}.{bound}"));
            let inputs = [format!("{side}.features"), inputs[0].clone(), inputs[1].clone(), inputs[2].clone()];
            parts.node.push(node("Slice", &inputs.each_ref().map(String::as_str), &name, vec![]));
            parts.output.push(value(&name, &[count]));
            let shape = vec![Axis::Symbol("batch".into()), Axis::Size(count)];
            contract.output.push(OutputSpec { name, shape, metric: String::new(), ..contract.output[0].clone() });
        }
        fixture.write_model("explains.onnx", &with_contract(graph, &contract));
        let claim = "verify -m @explains.onnx --gallery @people --identity anna --threshold 0";
        fixture.run(&format!("{claim} {palm} --explain @{folder}"))
    };
    explain("drawn", [4, 4]).done();
    assert_eq!(fixture.files("drawn"), ["global.png", "summary.json", "weights.csv"]);
    let outputs = ["`global_weight_palm`", "`global_weight_vein`"];
    explain("none", [0, 0]).error(&[&outputs[..], &["0", "1"]].concat());
    explain("unequal", [4, 3]).error(&[&outputs[..], &["4", "3"]].concat());
    for folder in ["none", "unequal"] {
        assert!(!fixture.path(folder).join("global.png").exists());
    }
}

#[test]
fn evaluation_of_pairs_says_how_well_people_are_told_apart() {
    let fixture = fixture();
    let line = "evaluate -m @pair.onnx --datadir @set --pairs --split all";
    let table = fixture.run(line).done();
    for part in ["9 rows of 3 identities: 9 genuine pairs, 27 impostor pairs", "EER", "TAR at FAR 1 %", "Rank-1"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let json = fixture.run(&format!("{line} --format json --report @page.html")).done();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let eer = json["verification"]["eer"]["rate"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&eer));
    let page = std::fs::read_to_string(fixture.path("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("all pairs"), "{page}");
    let here = fixture.path("page.html");
    assert!(!page.contains(&*here.parent().unwrap().to_string_lossy()), "a path of this machine in {page}");
}

#[test]
fn bad_pairs_are_named() {
    let fixture = fixture();
    fixture.run("embed @set/palm -m @pair.onnx -o @rows").error(&["2", "palm", "vein", "1", "`--pairs`"]);
    fixture.run("embed @set -m @model.onnx -o @rows --pairs").error(&["1", "image", "2", "`--pairs`"]);
    fixture.picture("half/palm/7/1.png", "someone", 0.0);
    fixture.run("embed @half -m @pair.onnx -o @rows --pairs").error(&["half", "1", "palm", "`--vein-band`"]);
    std::fs::remove_file(fixture.path("set/vein/001_l/2.png")).unwrap();
    std::fs::write(fixture.path("set/vein/001_r/2.png"), "no picture").unwrap();
    let answer = fixture.run("embed @set -m @pair.onnx -o @rows --pairs");
    fixtures::assert_names(&answer.stderr, &["palm/001_l/2.png", "1", "8", "vein/001_r/2.png"]);
    answer.done();
    assert_eq!(fixture.rows("rows").0.nrows(), 7);
}

/// Pixels in place of files give the rows of the files, each for its own input and in order.
#[test]
#[expect(clippy::result_large_err, reason = "the error is the program's")]
fn pixels_are_embedded_as_their_files_are() {
    use std::borrow::Cow;

    use deploy::embed::{self, Picture, Report};
    use deploy::identity::Identity;
    use deploy::pictures::Input;
    use deploy::runtime::{Model, Options};

    let fixture = Fixture::new();
    fixture.write_model("pair.onnx", &model());
    let rows: Vec<Input> = (0..9)
        .map(|row| {
            let file = |side: &str| fixture.picture(&format!("{row}-{side}.png"), side, row as f32 / 10.0);
            Input { files: vec![file("palm"), file("vein")], ..Input::new("".into(), Identity::Unnamed, None) }
        })
        .collect();
    let model = Model::open(&fixture.path("pair.onnx"), &Options { lanes: 2, ..Options::default() }).unwrap();
    let options = embed::Options { batch_size: 4, threads: 2, strict: true };
    let of = |pixels: bool| {
        let source = rows.iter().map(|row| {
            let pixels = row.files.iter().filter(|_| pixels).map(|file| image::open(file).unwrap().to_rgb8()).collect();
            Ok(Picture::new(Cow::Borrowed(row), pixels))
        });
        let mut found = Vec::new();
        let report = Report { done: |_| (), failed: |_: &Picture, _: &contract::preprocess::PictureError| Ok(()) };
        embed::stream_from(&model, source, Some(rows.len()), &options, report, |picture, row| {
            found.push((picture.number, row.to_vec()));
            Ok(())
        })
        .unwrap();
        found
    };
    let files = of(false);
    assert!(files.iter().map(|(number, _)| *number).eq(0..9));
    assert_eq!(of(true), files);
}
