//! The program makes models of smaller numbers: from anyone's file and from a checkpoint.

use std::path::Path;
use std::process::{Command, Output};

use burn::tensor::Device;
use contract::{Axis, EmbeddingSpec, InputSpec, ModelContract, OutputSpec, PictureSpec};
use fixtures::{PalmConfig, palms};
use image::{Rgb, RgbImage};
use onnx::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionProto, GraphProto, Message, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use train::families::reid::net::{ReidNet, ReidNetConfig};
use train::families::reid::settings::ReidConfig;
use train::families::reid::task as reid;
use train::run::checkpoint::{self, Record};
use train::weights::StateDict;

fn export(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_export")).args(arguments).current_dir(folder).output().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(output: &Output, facts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    fixtures::assert_names(fixtures::error_message(&text), facts);
}

/// Six people, four pictures of each: stripes of their own width and colour, at four places.
fn pictures(folder: &Path) {
    for person in 0..6u32 {
        std::fs::create_dir_all(folder.join(format!("p{person}"))).unwrap();
        for shot in 0..4u32 {
            let colour = |at: u32| (40 + 35 * ((at + person) % 6)) as u8;
            let picture = RgbImage::from_fn(16, 32, |x, y| {
                let stripe = (y + 3 * shot) / (2 + person) % 2 == 0;
                if stripe { Rgb([colour(0), colour(2), colour(x / 8)]) } else { Rgb([200, colour(1), 30]) }
            });
            picture.save(folder.join(format!("p{person}/{shot}.png"))).unwrap();
        }
    }
}

fn constant(name: &str, dims: &[i64]) -> TensorProto {
    let shape: Vec<usize> = dims.iter().map(|&size| size as usize).collect();
    let values = contract::fill::fill(name, &shape);
    TensorProto {
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        name: name.into(),
        ..TensorProto::default()
    }
}

fn value(name: &str, dims: Vec<Dimension>) -> ValueInfoProto {
    let dim = dims.into_iter().map(|value| DimensionProto { value: Some(value) }).collect();
    let tensor_type =
        Some(TensorTypeProto { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }), ..ValueInfoProto::default() }
}

/// A model of operator set 12 as others write them, without names of nodes: two convolutions, a mean and a layer. Two
/// inputs are added up first.
fn foreign(path: &Path, inputs: &[&str]) {
    let node = |operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>| NodeProto {
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: operator.to_owned(),
        attribute,
        ..NodeProto::default()
    };
    let pads = || AttributeProto {
        name: "pads".into(),
        r#type: AttributeType::Ints as i32,
        ints: vec![1; 4],
        ..AttributeProto::default()
    };
    let sum = (inputs.len() > 1).then(|| node("Add", inputs, "sum", vec![]));
    let first = if sum.is_some() { "sum" } else { inputs[0] };
    let graph = GraphProto {
        name: "foreign".into(),
        node: sum
            .iter()
            .cloned()
            .chain([
                node("Conv", &[first, "w1", "b1"], "a", vec![pads()]),
                node("Relu", &["a"], "b", vec![]),
                node("Conv", &["b", "w2"], "c", vec![pads()]),
                node("Softplus", &["c"], "d", vec![]),
                node("GlobalAveragePool", &["d"], "e", vec![]),
                node("Flatten", &["e"], "f", vec![]),
                node("Gemm", &["f", "w3"], "output", vec![]),
            ])
            .collect(),
        initializer: vec![
            constant("w1", &[8, 3, 3, 3]),
            constant("b1", &[8]),
            constant("w2", &[8, 8, 3, 3]),
            constant("w3", &[8, 12]),
        ],
        input: inputs.iter().map(|name| value(name, picture_axes())).collect(),
        output: vec![value("output", vec![Dimension::Symbol("batch".into()), Dimension::Value(12)])],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 6,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 12 }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    std::fs::write(path, model.encode_to_vec()).unwrap();
}

fn picture_axes() -> Vec<Dimension> {
    let sizes = [3, 32, 16].map(Dimension::Value);
    std::iter::once(Dimension::Symbol("batch".into())).chain(sizes).collect()
}

fn contract(path: &Path, inputs: &[&str]) {
    let batch = || Axis::Symbol("batch".into());
    let contract = ModelContract {
        version: contract::VERSION,
        family: "reid".into(),
        architecture: "foreign".into(),
        input: inputs.iter().map(|name| InputSpec::picture(name, batch(), PictureSpec::imagenet([32, 16]))).collect(),
        output: vec![OutputSpec {
            name: "output".into(),
            meaning: "features".into(),
            shape: vec![batch(), Axis::Size(12)],
            unit_length: false,
            metric: "cosine".into(),
            picture: None,
            map: None,
        }],
        embedding: Some(EmbeddingSpec {
            output: "output".into(),
            dim: 12,
            parts: 1,
            flip: true,
            contract_id: String::new(),
        }),
        threshold: None,
        golden: None,
        precision: "fp32".into(),
        quantisation: None,
        training: Default::default(),
        exporter: Default::default(),
    };
    std::fs::write(path, serde_json::to_string(&contract).unwrap()).unwrap();
}

fn read(path: &Path) -> ModelContract {
    let (model, _) = onnx::read(path, &onnx::Limits::default()).unwrap();
    ModelContract::from_metadata(model.metadata_props.iter().map(|entry| (&*entry.key, &*entry.value))).unwrap()
}

/// A file of others: planned, made, checked again; and made again from its plan, byte for byte the same.
#[test]
fn a_foreign_model_becomes_one_of_integers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures(&folder.join("pictures"));
    foreign(&folder.join("foreign.onnx"), &["images"]);
    contract(&folder.join("contract.json"), &["images"]);
    let quantise = |more: &[&str]| {
        let fixed = ["quantise", "foreign.onnx", "--calibrate", "pictures", "--format", "json", "--force"];
        export(folder, &[&fixed[..], more].concat())
    };
    refused(&quantise(&["-o", "none"]), &["foreign.onnx", "--contract"]);
    let output = quantise(&["--contract", "contract.json", "--min-cosine", "0.5", "-o", "planned"]);
    // On a busy machine nothing may gain time; that is said, and the plan below does not ask.
    if !output.status.success() {
        refused(&output, &["foreign.onnx", "faster"]);
    }
    // For TensorRT, nothing is timed and all that can be is in integers.
    let made = |to: &str, plan: &[&str]| {
        let how = ["--contract", "contract.json", "--target", "tensorrt", "--range", "minmax", "-o", to];
        succeeded(&quantise(&[&how[..], plan].concat()))
    };
    let facts = made("int8", &[]);
    let formats: Vec<_> = facts["nodes"].as_array().unwrap().iter().map(|node| node["format"].clone()).collect();
    assert_eq!(formats, ["int8", "fp32", "int8", "fp32", "int8", "fp32", "int8"]);
    assert_eq!((&facts["quality"]["pictures"], &facts["quality"]["ranking"]["identities"]), (&12.into(), &3.into()));
    assert!(facts["quality"]["mean_cosine"].as_f64().unwrap() > 0.98, "{facts}");
    let bundle = folder.join("int8");
    let contract = read(&bundle.join("model.onnx"));
    assert_eq!(contract.precision, "int8");
    let how = contract.quantisation.unwrap();
    assert_eq!((how.target.as_str(), how.weight_bits, how.nodes, how.pictures), ("tensorrt", 8, [4, 7], 12));
    assert!(contract.golden.is_some_and(|golden| golden.output["output"].len() == 24));
    assert_eq!(contract.embedding.unwrap().contract_id.len(), 16);
    let card = std::fs::read_to_string(bundle.join("CARD.md")).unwrap();
    assert!(card.contains("| `Softplus` | Softplus | fp32 | no rule: stays float |"), "{card}");

    made("again", &["--plan", "int8/plan.json"]);
    let bytes = |name: &str| std::fs::read(folder.join(name).join("model.onnx")).unwrap();
    assert!(bytes("again") == bytes("int8"));

    let verified = succeeded(&export(folder, &["verify", "int8", "--format", "json"]));
    let named: Vec<_> = verified["checks"].as_array().unwrap().iter().map(|check| &check["name"]).collect();
    assert!(named.contains(&&"precision".into()) && named.contains(&&"golden vectors".into()), "{verified}");
    // Another scale is noticed.
    let mut damaged = bytes("int8");
    let place = damaged.len() / 3;
    damaged[place] ^= 0x10;
    std::fs::write(bundle.join("model.onnx"), damaged).unwrap();
    assert_eq!(export(folder, &["verify", "int8"]).status.code(), Some(1));
    refused(&export(folder, &["verify", "again", "--checkpoint", "x"]), &["--checkpoint", "again", "float32"]);
    // What is quantised is not quantised again.
    let twice = ["quantise", "again/model.onnx", "--calibrate", "pictures", "-o", "twice"];
    refused(&export(folder, &twice), &["again/model.onnx", "int8", "fp32"]);
    assert!(!folder.join("none").exists() && !folder.join("twice").exists());
}

/// A result that is less alike than allowed is not written, unless it is to be.
#[test]
fn models_that_lose_too_much_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures(&folder.join("pictures"));
    foreign(&folder.join("foreign.onnx"), &["images"]);
    contract(&folder.join("contract.json"), &["images"]);
    let plan = serde_json::json!({
        "version": 1, "target": "tensorrt", "weight_bits": 7, "latency": [],
        "nodes": [{"node": "Conv", "operator": "Conv", "format": "int8", "reason": ""}],
    });
    std::fs::write(folder.join("plan.json"), plan.to_string()).unwrap();
    let quantise = |more: &[&str]| {
        let fixed = ["quantise", "foreign.onnx", "--contract", "contract.json", "--calibrate", "pictures", "-o", "out"];
        export(folder, &[&fixed[..], more].concat())
    };
    let how = ["--target", "tensorrt", "--plan", "plan.json", "--min-cosine", "1"];
    refused(&quantise(&how), &["cosine", "--min-cosine", "--force"]);
    assert!(!folder.join("out").exists());
    let forced = quantise(&[&how[..], &["--force"]].concat());
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    assert_eq!(read(&folder.join("out/model.onnx")).quantisation.unwrap().weight_bits, 7);
    refused(&quantise(&["--plan", "plan.json"]), &["plan.json", "tensorrt", "cpu"]);
    refused(&quantise(&["--precision", "fp16", "--plan", "plan.json"]), &["--plan", "int8"]);
    refused(&quantise(&["--precision", "fp16", "--range", "entropy"]), &["--range", "int8"]);
    refused(&quantise(&["--pictures", "1"]), &["--pictures", "2"]);
}

/// A model of two pictures: pairs of palm and vein calibrate it, and people are told apart by their folders.
#[test]
fn pairs_calibrate_a_model_of_two_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    palms(&PalmConfig { people: 6, samples: 2, size: 32, ..PalmConfig::default() }, &folder.join("palms")).unwrap();
    foreign(&folder.join("foreign.onnx"), &["palm", "vein"]);
    contract(&folder.join("contract.json"), &["palm", "vein"]);
    let quantise = |pictures: &str, to: &str| {
        let how = ["--contract", "contract.json", "--target", "tensorrt", "--format", "json", "-o", to];
        export(folder, &[&["quantise", "foreign.onnx", "--calibrate", pictures], &how[..]].concat())
    };
    let facts = succeeded(&quantise("palms", "int8"));
    // Two hands of each of six people; every second hand calibrates.
    assert_eq!(facts["quality"]["pictures"], 12, "{facts}");
    assert_eq!(facts["quality"]["ranking"]["identities"], 6, "{facts}");
    assert_eq!(facts["quantisation"]["pictures"], 12, "{facts}");
    assert!(facts["quality"]["mean_cosine"].as_f64().unwrap() > 0.98, "{facts}");
    assert!(export(folder, &["verify", "int8"]).status.success());
    // Single pictures are no pairs.
    pictures(&folder.join("pictures"));
    refused(&quantise("pictures", "none"), &["palm", "pictures"]);
    assert!(!folder.join("none").exists());
}

/// From a checkpoint: the float32 model is compared with Burn first, and its parity is the certificate's.
#[test]
fn a_checkpoint_becomes_a_model_of_halves() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures(&folder.join("pictures"));
    let network = ReidNetConfig::new("LMBN_n", 3, 16).unwrap();
    let net = network.net.clone();
    let config = ReidConfig { height: 64, width: 32, net, num_classes: 3, ..ReidConfig::default() };
    let record = Record {
        family: reid::FAMILY.into(),
        network: serde_json::to_value(&network).unwrap(),
        config: serde_json::to_value(&config).unwrap(),
        ..Record::default()
    };
    let net = ReidNet::new(&network, 1, &Device::flex());
    checkpoint::save_weights(&folder.join("small.safetensors"), &StateDict::of(&net), &record).unwrap();
    let arguments = ["--onnx", "small.safetensors", "--precision", "fp16", "--calibrate", "pictures", "-o", "half"];
    let facts = succeeded(&export(folder, &[&arguments[..], &["--format", "json"]].concat()));
    assert!(facts["quality"]["mean_cosine"].as_f64().unwrap() > 0.999, "{facts}");
    let (bytes, float) = (facts["bytes"].as_u64().unwrap(), facts["float32_bytes"].as_u64().unwrap());
    assert!(bytes < float * 2 / 3, "{bytes} {float}");
    let contract = read(&folder.join("half/model.onnx"));
    assert_eq!((contract.precision.as_str(), contract.exporter.checkpoint_sha256.len()), ("fp16", 64));
    let text = std::fs::read_to_string(folder.join("half/certificate.json")).unwrap();
    let certificate: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(certificate["precision"]["float32_certified"], true);
    assert!(!certificate["parity"]["batch"].as_array().unwrap().is_empty());
    assert!(export(folder, &["verify", "half"]).status.success());
    // Only the bundle is there: the float32 model was in between.
    let mut left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["half", "pictures", "small.safetensors"]);

    let refuse = |more: &[&str], facts: &[&str]| {
        let output = export(folder, &[&["--onnx", "small.safetensors", "-o", "other"][..], more].concat());
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(facts.iter().all(|fact| text.contains(fact)), "{text}");
    };
    refuse(&["--precision", "int8"], &["--calibrate"]);
    refuse(&["--calibrate", "pictures"], &["--precision"]);
    refuse(&["--force"], &["--force", "--precision"]);
    assert!(!folder.join("other").exists());
}
