//! `deploy frontalize`, and `deploy search --frontalize`, with a frontaliser whose rule is known: features − pose·W.

use contract::{Axis, InputSpec, ModelContract, OutputSpec};
use files::npy::{Array, encode};
use fixtures::{HeadsConfig, head};
use onnx::{GraphProto, ModelProto, NodeProto};
use serde_json::Value;

use crate::fixture::{DIM, Fixture, contract, graph, node, reference_embedding, tensor, value, with_contract};

/// Angles of a pose.
const ANGLES: usize = 3;

fn weight() -> Vec<f32> {
    contract::fill::fill("pose.weight", &[ANGLES, DIM]).iter().map(|value| value / 100.0).collect()
}

/// The frontaliser, beside the fixture's embedder.
pub(crate) fn with_frontalizer() -> Fixture {
    let fixture = Fixture::new();
    let node = |op: &str, inputs: [&str; 2], output: &str| NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.map(str::to_owned).into(),
        output: vec![output.into()],
        ..Default::default()
    };
    let parts = graph().graph.unwrap();
    let (mut input, mut bias) = (parts.output[0].clone(), parts.initializer[1].clone());
    bias.name = "pose.weight".into();
    bias.dims = vec![ANGLES as i64, DIM as i64];
    bias.raw_data = weight().iter().flat_map(|value| value.to_le_bytes()).collect();
    input.name = "features".into();
    let named = |name: &str, sizes: usize| {
        let mut value = input.clone();
        value.name = name.into();
        let shape = value.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
        shape.dim[1].value = Some(onnx::Dimension::Value(sizes as i64));
        value
    };
    let model = ModelProto {
        graph: Some(GraphProto {
            name: "frontal".into(),
            node: vec![
                node("MatMul", ["pose", "pose.weight"], "shift"),
                node("Sub", ["features", "shift"], "front_features"),
            ],
            initializer: vec![bias],
            input: vec![named("features", DIM), named("pose", ANGLES)],
            output: vec![named("front_features", DIM)],
            ..Default::default()
        }),
        ..graph()
    };
    fixture.write_model("frontal.onnx", &with_contract(model, &frontal_contract()));
    fixture
}

fn frontal_contract() -> ModelContract {
    let batch = || Axis::Symbol("batch".into());
    let output = OutputSpec { name: "front_features".into(), ..contract().output[0].clone() };
    ModelContract {
        family: "senet".into(),
        architecture: "SENet".into(),
        input: vec![
            InputSpec::numbers("features", batch(), DIM, "embedding"),
            InputSpec::numbers("pose", batch(), ANGLES, "degrees"),
        ],
        output: vec![output],
        embedding: None,
        golden: None,
        ..contract()
    }
}

fn expected(features: &[f32], pose: &[f32]) -> Vec<f32> {
    let weight = weight();
    let shifted = features.iter().enumerate().map(|(at, value)| {
        value - pose.iter().enumerate().map(|(axis, angle)| angle * weight[axis * DIM + at]).sum::<f32>()
    });
    let shifted: Vec<f32> = shifted.collect();
    let length = shifted.iter().map(|value| value * value).sum::<f32>().sqrt();
    shifted.iter().map(|value| value / length).collect()
}

#[track_caller]
fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5, "{off:.1e}");
}

fn written(fixture: &Fixture) -> Vec<f32> {
    let (values, _, dim) =
        Array::decode(&std::fs::read(fixture.path("front.npy")).unwrap()).unwrap().into_matrix().unwrap();
    assert_eq!(dim, DIM);
    values
}

#[test]
fn embeddings_and_pictures_become_frontal() {
    let fixture = with_frontalizer();
    // More rows than go through the network at a time.
    let rows = 300;
    let features = contract::fill::fill("input.rows", &[rows, DIM]);
    let poses: Vec<f32> = contract::fill::fill("input.poses", &[rows, ANGLES]).iter().map(|v| 80.0 * v).collect();
    std::fs::write(fixture.path("side.npy"), encode(&[rows, DIM], &features)).unwrap();
    std::fs::write(fixture.path("poses.npy"), encode(&[rows, ANGLES], &poses)).unwrap();
    let line = "frontalize @side.npy --frontalize @frontal.onnx --poses @poses.npy -o @front.npy";
    assert!(fixture.run(line).done().contains("300 frontal embeddings"));
    let wanted: Vec<f32> =
        features.chunks(DIM).zip(poses.chunks(ANGLES)).flat_map(|(row, pose)| expected(row, pose)).collect();
    close(&written(&fixture), &wanted);

    let pictures = ["a", "b"].map(|name| fixture.picture(&format!("views/{name}.png"), name, 0.0));
    std::fs::write(fixture.path("views/broken.png"), "no picture").unwrap();
    std::fs::write(fixture.path("poses.csv"), "path,yaw,pitch,roll\nb.png,70,5,0\na.png,-60,0,1\n").unwrap();
    let line = "frontalize @views --model @model.onnx --frontalize @frontal.onnx --poses @poses.csv -o @front.npy";
    let answer = fixture.run(line);
    assert!(answer.stderr.contains("broken.png"), "{}", answer.stderr);
    answer.done();
    // The broken picture has no row, and the list beside the rows says which ones have.
    let list = std::fs::read_to_string(fixture.path("front.csv")).unwrap();
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with("0,") && lines[1].ends_with("a.png"), "{list}");
    assert!(lines[2].starts_with("1,") && lines[2].ends_with("b.png"), "{list}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| std::fs::metadata(fixture.path(name)).unwrap().permissions().mode() & 0o777;
        // What was there keeps its mode; what is new is the owner's alone.
        assert_eq!(["front.npy", "front.csv"].map(mode), [0o600; 2]);
    }
    let embeddings = pictures.map(|path| reference_embedding(&path));
    let wanted = [expected(&embeddings[0], &[-60.0, 0.0, 1.0]), expected(&embeddings[1], &[70.0, 5.0, 0.0])].concat();
    close(&written(&fixture), &wanted);
}

#[test]
fn a_search_compares_frontalised_probes_with_the_gallery_as_it_is() {
    let fixture = with_frontalizer();
    let probe = fixture.picture("probes/ada.png", "ada", 0.0);
    fixture.picture("gallery/ada.png", "ada", 0.3);
    fixture.picture("gallery/ben.png", "ben", 0.0);
    std::fs::write(fixture.path("poses.jsonl"), "{\"pose\": [30, -10, 2]}\n").unwrap();
    let line = "search -m @model.onnx --gallery @gallery --query @probes --format json --frontalize @frontal.onnx \
        --poses @poses.jsonl";
    let report: serde_json::Value = serde_json::from_str(&fixture.run(line).done()).unwrap();
    let frontal = expected(&reference_embedding(&probe), &[30.0, -10.0, 2.0]);
    for found in report["probes"][0]["matches"].as_array().unwrap() {
        let entry = reference_embedding(found["path"].as_str().unwrap().as_ref());
        let wanted: f32 = frontal.iter().zip(&entry).map(|(a, b)| a * b).sum();
        assert!((found["similarity"].as_f64().unwrap() - f64::from(wanted)).abs() < 1e-5);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let fixture = with_frontalizer();
    let line = |input: &str, frontalizer: &str, poses: &str| {
        fixture.run(&format!("frontalize @{input} --frontalize @{frontalizer} --poses @{poses} -o @front.npy"))
    };
    std::fs::write(fixture.path("side.npy"), encode(&[2, DIM], &vec![0.5f32; 2 * DIM])).unwrap();
    std::fs::write(fixture.path("narrow.npy"), encode(&[2, 3], &[0.5f32; 6])).unwrap();
    std::fs::write(fixture.path("nan.npy"), encode(&[2, DIM], &vec![f32::NAN; 2 * DIM])).unwrap();
    std::fs::write(fixture.path("poses.npy"), encode(&[3, ANGLES], &[1.0f32; 9])).unwrap();
    std::fs::write(fixture.path("two.npy"), encode(&[2, ANGLES], &[1.0f32; 6])).unwrap();
    line("side.npy", "model.onnx", "two.npy").error(&["model.onnx", "frontal"]);
    line("side.npy", "frontal.onnx", "poses.npy").error(&["poses.npy", "3", "2"]);
    line("narrow.npy", "frontal.onnx", "two.npy").error(&["narrow.npy", "[2, 3]"]);
    line("nan.npy", "frontal.onnx", "two.npy").error(&["nan.npy", "0", "finite"]);
    let half = [vec![0.5f32; DIM], vec![0.0; DIM]].concat();
    std::fs::write(fixture.path("zero.npy"), encode(&[2, DIM], &half)).unwrap();
    line("zero.npy", "frontal.onnx", "two.npy").error(&["zero.npy", "1", "zeros"]);
    line("absent.npy", "frontal.onnx", "two.npy").error(&["absent.npy"]);
    fixture
        .run("search -m @model.onnx --gallery @side.npy --query @side.npy --frontalize @frontal.onnx")
        .error(&["--poses"]);
    assert!(!fixture.path("front.npy").exists());
}

/// Least squares: the matrix that takes rows of `inputs` to those of `outputs`, a little held back so that it always
/// exists.
fn fit(inputs: &[Vec<f64>], outputs: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let (width, height) = (inputs[0].len(), outputs[0].len());
    let mut system = vec![vec![0.0; width + height]; width];
    for (input, output) in inputs.iter().zip(outputs) {
        for (row, factor) in system.iter_mut().zip(input) {
            let right = input.iter().copied().chain(output.iter().map(|value| f64::from(*value)));
            row.iter_mut().zip(right).for_each(|(sum, value)| *sum += factor * value);
        }
    }
    system.iter_mut().enumerate().for_each(|(at, row)| row[at] += 1e-3);
    for pivot in 0..width {
        let scale = system[pivot][pivot];
        system[pivot].iter_mut().for_each(|value| *value /= scale);
        let own = system[pivot].clone();
        for (_, row) in system.iter_mut().enumerate().filter(|(at, _)| *at != pivot) {
            let factor = row[pivot];
            row.iter_mut().zip(&own).for_each(|(value, own)| *value -= factor * own);
        }
    }
    system.into_iter().map(|row| row[width..].to_vec()).collect()
}

/// Made-up heads, an embedder that carries no contract of ours and is given one by file, and a frontaliser fitted to
/// other people: profile views of those it never saw find their frontal pictures more often with it than without.
#[test]
fn frontalised_profile_views_find_people_that_they_otherwise_miss() {
    const LEARNED: usize = 90;
    const PEOPLE: usize = 130;
    let fixture = Fixture::new();
    fixture.write_model("foreign.onnx", &graph());
    let mut by_hand = ModelContract { golden: None, ..contract() };
    by_hand.embedding.as_mut().unwrap().contract_id.clear();
    std::fs::write(fixture.path("contract.json"), serde_json::to_string(&by_hand).unwrap()).unwrap();
    for folder in ["gallery", "probes", "others"] {
        std::fs::create_dir(fixture.path(folder)).unwrap();
    }
    let config = HeadsConfig { people: PEOPLE, frames: 1, size: 32, ..HeadsConfig::default() };
    let draw = |path: &str, person: usize, pose: [f32; 3]| {
        let path = fixture.path(path);
        head(&config, person, pose).unwrap().save(&path).unwrap();
        path
    };
    let (mut inputs, mut outputs) = (Vec::<Vec<f64>>::new(), Vec::new());
    let mut poses = String::from("path,yaw,pitch,roll\n");
    for person in 0..PEOPLE {
        let folder = if person < LEARNED { "others" } else { "gallery" };
        let frontal = draw(&format!("{folder}/{person:04}_c1s1_000000_00.png"), person, [0.0; 3]);
        for shot in 0..3 {
            let part = (person * 3 + shot) as f32 * 0.618;
            let pose = [45.0 + 20.0 * part.fract(), 16.0 * (7.0 * part).fract() - 8.0, 0.0];
            let name = format!("{person:04}_c2s1_00000{shot}_00.png");
            if person < LEARNED {
                let turned = reference_embedding(&draw(&format!("others/{name}"), person, pose));
                inputs.push(turned.iter().chain(&pose).chain(&[1.0]).map(|value| f64::from(*value)).collect());
                outputs.push(reference_embedding(&frontal));
            } else {
                draw(&format!("probes/{name}"), person, pose);
                poses += &format!("{name},{},{},{}\n", pose[0], pose[1], pose[2]);
            }
        }
    }
    std::fs::write(fixture.path("poses.csv"), poses).unwrap();
    let matrix: Vec<f32> = fit(&inputs, &outputs).into_iter().flatten().map(|value| value as f32).collect();
    let (of_features, rest) = matrix.split_at(DIM * DIM);
    let (of_pose, constant) = rest.split_at(ANGLES * DIM);
    let fitted = GraphProto {
        name: "fitted".into(),
        node: vec![
            node("MatMul", &["features", "of_features"], "first", vec![]),
            node("MatMul", &["pose", "of_pose"], "second", vec![]),
            node("Add", &["first", "second"], "both", vec![]),
            node("Add", &["both", "constant"], "front_features", vec![]),
        ],
        initializer: vec![
            tensor("of_features", &[DIM as i64, DIM as i64], of_features),
            tensor("of_pose", &[ANGLES as i64, DIM as i64], of_pose),
            tensor("constant", &[DIM as i64], constant),
        ],
        input: vec![value("features", &[DIM]), value("pose", &[ANGLES])],
        output: vec![value("front_features", &[DIM])],
        ..Default::default()
    };
    let fitted = ModelProto { graph: Some(fitted), ..graph() };
    fixture.write_model("fitted.onnx", &with_contract(fitted, &frontal_contract()));
    let line = "frontalize @probes --model @foreign.onnx --contract @contract.json --frontalize @fitted.onnx --poses \
        @poses.csv -o @front.npy";
    assert!(fixture.run(line).done().contains("120 frontal embeddings"));
    let line = "search -m @foreign.onnx --contract @contract.json --gallery @gallery --query @probes --format json";
    let rank1 = |more: &str| {
        let report: Value = serde_json::from_str(&fixture.run(&format!("{line} {more}")).done()).unwrap();
        assert_eq!(report["probes"].as_array().unwrap().len(), 3 * (PEOPLE - LEARNED));
        report["summary"]["rank1"].as_f64().unwrap()
    };
    let (untouched, frontal) = (rank1(""), rank1("--frontalize @fitted.onnx --poses @poses.csv"));
    println!("Rank-1 {untouched:.3} untouched, {frontal:.3} frontalised");
    assert!(frontal > untouched + 0.1, "Rank-1 {untouched:.3} untouched, {frontal:.3} frontalised");
}
