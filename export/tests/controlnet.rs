//! ControlNet generators: from a picture or an embedding, and a pose, to a picture.

use std::process::Command;

use burn::tensor::{Device, TensorData};
use contract::{Axis, Filter, ModelContract};
use train::families::controlnet::net::{ControlNet, ControlNetConfig, EncoderKind};
use train::families::controlnet::task as controlnet;
use train::run::checkpoint::{self, Record};
use train::weights::StateDict;

use crate::kept;

#[test]
fn checkpoints_of_either_input_become_bundles() {
    let folder = tempfile::tempdir().unwrap();
    for (encoder, name, source) in
        [(EncoderKind::Conv, "conv", "image"), (EncoderKind::Embedding, "embedding", "embedding")]
    {
        let network = ControlNetConfig {
            encoder,
            features: 8,
            angles: 3,
            size: 16,
            control_layers: 2,
            dropout: 0.1,
            pose_scale: 1.0 / 90.0,
        };
        let net = ControlNet::new(&network, 1, &Device::flex());
        // Filled by name, because a freshly initialised zero convolution would hide the pose.
        let filled = StateDict::of(&net)
            .iter()
            .map(|(key, data)| {
                let shape = data.shape().to_vec();
                (key.to_owned(), TensorData::new(contract::fill::fill(key, &shape), shape))
            })
            .collect::<StateDict>();
        let record = Record {
            family: controlnet::FAMILY.into(),
            network: serde_json::to_value(&network).unwrap(),
            ..Record::default()
        };
        checkpoint::save_weights(&folder.path().join(format!("{name}.safetensors")), &filled, &record).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_export"));
        program.args(["--onnx", &format!("{name}.safetensors"), "--format", "json"]).current_dir(folder.path());
        let output = program.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let batches: Vec<_> = facts["parity"]["batch"].as_array().unwrap().iter().map(|size| &size["batch"]).collect();
        assert_eq!(batches, [1, 2, 7, 32]);
        let bundle = folder.path().join(format!("models-onnx/{name}"));
        kept::keep_bundle(&bundle, &format!("controlnet-{name}"));
        let text = std::fs::read_to_string(bundle.join("contract.json")).unwrap();
        let contract = ModelContract::from_json(&text).unwrap();
        assert_eq!(contract.input.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), [source, "pose"]);
        let picture = contract.input[0].picture.as_ref();
        assert_eq!(picture.map(|picture| picture.filter), (source == "image").then_some(Filter::Opencv));
        assert_eq!(contract.input[1].row(), Some(vec![3]));
        let output = &contract.output[0];
        assert_eq!(output.shape[1..], [3, 16, 16].map(Axis::Size));
        assert_eq!(output.picture.as_ref().unwrap().range, [-1.0, 1.0]);
        assert!(contract.golden.is_some() && contract.embedding.is_none());
    }
}
