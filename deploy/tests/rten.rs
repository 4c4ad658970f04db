//! Models in Rust alone: the same answers as ONNX Runtime's, and never without being told.

use serde_json::Value;

use crate::fixture::{Fixture, contract, graph, ints, node, tensor, with_contract};

/// Largest difference between a value of one runtime and of the other.
const TOLERANCE: f32 = 1e-4;

/// The committed pedestrians.
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/pedestrians_sample");

fn json(fixture: &Fixture, line: &str) -> Value {
    serde_json::from_str(&fixture.run(line).done()).unwrap()
}

fn same(fixture: &Fixture, one: &str, other: &str) {
    let ((one, people), (other, others)) = (fixture.rows(one), fixture.rows(other));
    assert_eq!((one.shape(), people.len()), (other.shape(), others.len()));
    let apart = one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart <= TOLERANCE, "{apart}");
}

#[test]
fn embed_search_and_verify_of_the_committed_sample_are_those_of_onnx_runtime() {
    let fixture = Fixture::new();
    for runtime in ["onnxruntime", "rten"] {
        let set = format!("{SAMPLE}/bounding_box_test");
        let line = format!("embed {set} -m @model.onnx -o @{runtime} --runtime {runtime}");
        let answer = fixture.run(&line);
        let on = if runtime == "rten" { "Tiny on rten" } else { "Tiny on cpu" };
        assert!(answer.stderr.contains(on) || runtime == "onnxruntime", "{}", answer.stderr);
        assert!(answer.stderr.contains("self-test passed"), "{}", answer.stderr);
        answer.done();
    }
    same(&fixture, "onnxruntime", "rten");
    // A gallery of one is searched with the other: both have the model's contract.
    let found = |gallery: &str, runtime: &str| {
        let line = format!("search -m @model.onnx --gallery @{gallery} --query {SAMPLE}/query -k 3 --format json");
        json(&fixture, &format!("{line} --runtime {runtime}"))
    };
    let [one, other] = [found("onnxruntime", "onnxruntime"), found("onnxruntime", "rten")];
    let matches = |found: &Value| -> Vec<(String, f64)> {
        let probes = found["probes"].as_array().unwrap().iter();
        let all = probes.flat_map(|probe| probe["matches"].as_array().unwrap().clone());
        all.map(|hit| (hit["path"].as_str().unwrap().to_owned(), hit["similarity"].as_f64().unwrap())).collect()
    };
    let (one, other) = (matches(&one), matches(&other));
    assert!(one.len() > 3);
    for ((path, similarity), (other_path, other_similarity)) in one.iter().zip(&other) {
        assert_eq!(path, other_path);
        assert!((similarity - other_similarity).abs() <= f64::from(TOLERANCE));
    }
    let probe = std::fs::read_dir(format!("{SAMPLE}/query")).unwrap().next().unwrap().unwrap().path();
    let verify = |runtime: &str| {
        let probe = probe.display();
        let line = format!("verify -m @model.onnx --gallery @rten --palm {probe} --identity 0001 --threshold 0.5");
        let answer = fixture.run(&format!("{line} --format json --runtime {runtime}"));
        let told: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{}", answer.stderr));
        (answer.code, told["similarity"].as_f64().unwrap())
    };
    let ((code, similarity), (other, other_similarity)) = (verify("onnxruntime"), verify("rten"));
    assert_eq!(code, other);
    assert!((similarity - other_similarity).abs() <= f64::from(TOLERANCE));
}

/// Any number of threads, batches and settings of the graph.
#[test]
fn batches_and_threads_change_nothing() {
    let fixture = Fixture::new();
    let set = format!("{SAMPLE}/bounding_box_test");
    let embed = |more: &str, out: &str| {
        fixture.run(&format!("embed {set} -m @model.onnx -o @{out} --runtime rten {more}")).done();
    };
    embed("", "usual");
    for (at, more) in ["--threads 1", "--batch-size 1", "--batch-size 5", "--optimisation off"].iter().enumerate() {
        embed(more, &format!("other{at}"));
        same(&fixture, "usual", &format!("other{at}"));
    }
}

/// Pairs of pictures, and a graph with what re-identification and palms have besides convolutions.
#[test]
fn models_of_two_pictures_and_with_attention_are_those_of_onnx_runtime() {
    let fixture = Fixture::new();
    fixture.write_model("pair.onnx", &crate::pairs::model());
    for hand in 1..=2 {
        for side in ["palm", "vein"] {
            fixture.picture(&format!("set/{side}/{hand:03}_l/1.png"), &format!("{side} {hand}"), 0.1);
        }
    }
    let mut attentive = graph();
    let inner = attentive.graph.as_mut().unwrap();
    inner.node.retain(|node| node.op_type != "Flatten" && node.op_type != "AveragePool");
    let scale: Vec<f32> = (0..64).map(|at| 0.02 * at as f32 - 0.5).collect();
    inner.initializer.push(tensor("gate.weight", &[8, 8, 1, 1], &scale));
    inner.initializer.push(tensor("norm.scale", &[8], &[1.5, 0.5, 1.0, 0.7, 2.0, 1.2, 0.9, 1.1]));
    inner.initializer.push(tensor("norm.zero", &[8], &[0.1; 8]));
    let pool = ints("kernel_shape", &[4, 4]);
    let strides = ints("strides", &[4, 4]);
    inner.node.extend([
        node("GlobalAveragePool", &["rectified"], "mean", vec![]),
        node(
            "Conv",
            &["mean", "gate.weight"],
            "gate.raw",
            vec![ints("kernel_shape", &[1, 1]), ints("strides", &[1, 1])],
        ),
        node("Sigmoid", &["gate.raw"], "gate", vec![]),
        node("Mul", &["rectified", "gate"], "gated", vec![]),
        node("BatchNormalization", &["gated", "norm.scale", "norm.zero", "norm.zero", "norm.scale"], "normed", vec![]),
        node("MaxPool", &["normed"], "pooled", vec![pool, strides]),
        node("Flatten", &["pooled"], "features", vec![]),
    ]);
    let contract = contract::ModelContract { golden: None, ..contract() };
    fixture.write_model("attentive.onnx", &with_contract(attentive, &contract));
    for (model, set) in [("pair", "@set --pairs".to_owned()), ("attentive", format!("{SAMPLE}/query"))] {
        for runtime in ["onnxruntime", "rten"] {
            fixture.run(&format!("embed {set} -m @{model}.onnx -o @{model}-{runtime} --runtime {runtime}")).done();
        }
        same(&fixture, &format!("{model}-onnxruntime"), &format!("{model}-rten"));
    }
}

#[test]
fn what_rten_lacks_or_computes_otherwise_is_refused() {
    let fixture = Fixture::new();
    let with = |name: &str, nodes: Vec<onnx::NodeProto>| {
        let mut model = graph();
        let inner = model.graph.as_mut().unwrap();
        inner.node.pop();
        inner.initializer.push(tensor("scales", &[4], &[1.0; 4]));
        inner.node.extend(nodes);
        inner.node.push(node("Flatten", &["changed"], "features", vec![]));
        fixture.write_model(name, &with_contract(model, &contract()));
    };
    let mut mode = onnx::AttributeProto { name: "mode".into(), s: Some(b"cubic".to_vec()), ..Default::default() };
    mode.r#type = onnx::AttributeType::String as i32;
    with("cubic.onnx", vec![node("Resize", &["pooled", "", "scales"], "changed", vec![mode])]);
    fixture.run("inspect @cubic.onnx --runtime rten").error(&["cubic.onnx", "cubic", "`changed`"]);
    with("strange.onnx", vec![node("StringNormalizer", &["pooled"], "changed", vec![])]);
    fixture.run("inspect @strange.onnx --runtime rten").error(&["strange.onnx", "StringNormalizer"]);
    for flag in ["--spinning on", "--arena off", "--engine-cache @engines", "--optimisation basic"] {
        let line = format!("inspect @model.onnx --runtime rten {flag}");
        fixture.run(&line).error(&[flag.split(' ').next().unwrap(), "rten"]);
    }
    fixture.run("inspect @model.onnx --runtime rten --provider cuda").error(&["--provider", "cuda:0"]);
    let told = fixture.run("inspect @model.onnx --runtime rten").done();
    assert!(told.contains("rten 0.27.0") && told.contains("rten runs 4 nodes"), "{told}");
}

/// Where there is no ONNX Runtime, `auto` takes rten and says so; a library that was named is never passed over.
#[test]
fn the_fall_back_is_told() {
    let fixture = Fixture::new();
    let program = fixture.path("elsewhere/deploy");
    std::fs::create_dir(program.parent().unwrap()).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_deploy"), &program).unwrap();
    let run = |more: &[&str], library: &str| {
        let mut command = std::process::Command::new(&program);
        command.arg("embed").arg(fixture.picture("one.png", "ada", 0.0)).arg("-m").arg(fixture.path("model.onnx"));
        command.arg("-o").arg(fixture.path("out")).arg("--replace").args(more).env("ORT_DYLIB_PATH", library);
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, told) = run(&[], "");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("Tiny on rten (auto)") && told.contains("ci/onnxruntime cpu"), "{told}");
    let (code, told) = run(&["--runtime", "onnxruntime"], "");
    assert!(code == Some(2) && told.contains("ci/onnxruntime cpu"), "{told}");
    let (code, told) = run(&["--provider", "cuda"], "");
    assert!(code == Some(2) && told.contains("ci/onnxruntime cpu"), "{told}");
    let planted = fixture.path("planted.so");
    std::fs::write(&planted, "no library").unwrap();
    let (code, told) = run(&[], planted.to_str().unwrap());
    assert!(code == Some(2) && told.contains("planted.so"), "{told}");
}

#[test]
fn bench_measures_it_too() {
    let fixture = Fixture::new();
    let rows = json(&fixture, "bench @model.onnx --runtime rten --batch 2 --seconds 0.001 --format json");
    assert_eq!((&rows[0]["provider"], &rows[0]["runtime"]), (&"rten".into(), &"rten 0.27.0".into()));
    assert!(rows[0]["p50_ms"].as_f64().unwrap() > 0.0 && rows[0]["roofline"].is_null());
}
