//! The program on SENet checkpoints: two inputs, three outputs, and its refusals.

use std::path::Path;
use std::process::{Command, Output};

use burn::tensor::Device;
use train::families::senet::net::{SenetNetConfig, SenetTripletNetwork};
use train::families::senet::task::FAMILY;
use train::run::checkpoint::{self, Record};
use train::weights::StateDict;

use crate::kept;

fn checkpoint(path: &Path, config: &SenetNetConfig) {
    let net = SenetTripletNetwork::new(config, 1, &Device::flex());
    let record = Record { family: FAMILY.into(), network: serde_json::to_value(config).unwrap(), ..Record::default() };
    checkpoint::save_weights(path, &StateDict::of(&net), &record).unwrap();
}

fn export(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_export")).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn features_and_pose_become_frontal_features() {
    let folder = tempfile::tempdir().unwrap();
    let small = SenetNetConfig { image_dim: 32, hidden_dim: 16, identity_dim: 32, ..SenetNetConfig::default() };
    for (name, activation, pose_scale) in [("relu", "relu", 1.0), ("gelu", "gelu", 1.0 / 90.0)] {
        let config =
            SenetNetConfig { activation: activation.parse().unwrap(), num_layers: 4, pose_scale, ..small.clone() };
        checkpoint(&folder.path().join(format!("{name}.safetensors")), &config);
        let output = export(folder.path(), &["--onnx", &format!("{name}.safetensors"), "--format", "json"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let batches: Vec<_> = facts["parity"]["batch"].as_array().unwrap().iter().map(|size| &size["batch"]).collect();
        assert_eq!(batches, [1, 2, 7, 32], "any number of rows");
        let bundle = folder.path().join(format!("models-onnx/{name}"));
        kept::keep_bundle(&bundle, &format!("senet-{name}"));
        let (model, _) = onnx::read(&bundle.join("model.onnx"), &onnx::Limits::default()).unwrap();
        let entries = model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
        let contract = contract::ModelContract::from_metadata(entries).unwrap();
        let names: Vec<_> = contract.input.iter().map(|input| input.name.as_str()).collect();
        assert_eq!(names, ["features", "pose"]);
        let outputs: Vec<_> = contract.output.iter().map(|output| (output.name.as_str(), output.unit_length)).collect();
        assert_eq!(outputs, [("front_features", false), ("identity_features", true), ("front_pose", false)]);
        assert!(contract.input[1].meaning.contains("degrees") && contract.golden.is_some());
    }
    let batch_stat = SenetNetConfig { use_batch_stat: true, ..small };
    checkpoint(&folder.path().join("shared.safetensors"), &batch_stat);
    let output = export(folder.path(), &["--onnx", "shared.safetensors"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--use_batch_stat") && text.contains("the other rows"), "{text}");
}
