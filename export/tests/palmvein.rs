//! Palm and veins through the program: from two pictures to one embedding.

use std::path::Path;
use std::process::Command;

use burn::tensor::Device;
use contract::ModelContract;
use train::families::palmvein::net::{Mixer, PalmVeinNet};
use train::families::palmvein::{Common, FAMILY, FusionKind, Stage2Config};
use train::run::checkpoint::{self, Record};
use train::weights::StateDict;

use crate::kept;

/// Saves a checkpoint of an untrained network for pictures of 64×64.
fn checkpoint(path: &Path, mode: FusionKind, mixer: Mixer) {
    let common = Common {
        img_size: 64,
        vit_dims: [16, 16, 24],
        vit_depths: [1; 3],
        vit_heads: [2; 3],
        vit_key_dims: [4; 3],
        mixer,
        cnn_dims: [4, 8, 8, 16],
        cnn_depths: [1; 4],
        layer_scale: 1.0,
        ..Common::default()
    };
    let config = Stage2Config { common, mode, out_dim_global: 16, out_dim_local: 16, ..Stage2Config::default() };
    let network = config.network(3);
    let net = PalmVeinNet::new(&network, 1, &Device::flex()).unwrap();
    let record = Record {
        family: FAMILY.into(),
        network: serde_json::to_value(&network).unwrap(),
        config: serde_json::to_value(&config).unwrap(),
        ..Record::default()
    };
    checkpoint::save_weights(path, &StateDict::of(&net), &record).unwrap();
}

/// Runs the export, which compares with Burn at several batch sizes, and reads the contract.
fn exported(folder: &Path, more: &[&str]) -> ModelContract {
    let output = Command::new(env!("CARGO_BIN_EXE_export"))
        .args([&["--onnx", "pair.safetensors", "-o", "model"][..], more].concat())
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(folder.join("model/contract.json")).unwrap();
    assert!(!text.contains("arcface"), "the classifier is not exported");
    ModelContract::from_json(&text).unwrap()
}

fn names(contract: &ModelContract) -> (Vec<&str>, Vec<&str>) {
    let inputs = contract.input.iter().map(|input| input.name.as_str()).collect();
    (inputs, contract.output.iter().map(|output| output.name.as_str()).collect())
}

#[test]
fn both_pictures_go_in_and_one_embedding_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let weights = ["global_weight_palm", "global_weight_vein", "local_weight_palm", "local_weight_vein"];
    for (mode, mixer) in [(FusionKind::Spatial, Mixer::Global), (FusionKind::Vector, Mixer::Cascaded)] {
        checkpoint(&folder.path().join("pair.safetensors"), mode, mixer);
        let contract = exported(folder.path(), &[]);
        assert_eq!(names(&contract), (vec!["palm", "vein"], vec!["embedding"]));
        assert_eq!(contract.input[0].shape[0], contract.input[1].shape[0], "one symbol for both batches");
        let embedding = contract.embedding.unwrap();
        assert!(contract.output[0].unit_length && !embedding.flip && embedding.dim == 32);

        let contract = exported(folder.path(), &["--attention"]);
        assert_eq!(names(&contract).1, [&["embedding"][..], &weights].concat());
        kept::keep_bundle(&folder.path().join("model"), &format!("palmvein-{mode:?}-{mixer:?}").to_lowercase());
    }
}

#[test]
fn a_branch_is_exported_alone() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(&folder.path().join("pair.safetensors"), FusionKind::Spatial, Mixer::Global);
    for (branch, input, dim) in [("vit-palm", "palm", 24), ("cnn-vein", "vein", 16)] {
        let contract = exported(folder.path(), &["--branch", branch]);
        assert_eq!(names(&contract), (vec![input], vec!["embedding"]));
        assert_eq!(contract.embedding.unwrap().dim, dim);
        kept::keep_bundle(&folder.path().join("model"), &format!("palmvein-{branch}"));
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_export"))
        .args(["--onnx", "pair.safetensors", "--branch", "vit-palm", "--attention"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a single branch has no attention weights"));
}
