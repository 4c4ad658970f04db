//! What lands in the folder, and that nothing does when verification fails.

use contract::{Axis, EmbeddingSpec, InputSpec, ModelContract, OutputSpec, PictureSpec, Training};
use export::{ExportError, bundle};

use crate::{batch_of, blocks, runtime};

fn contract() -> ModelContract {
    ModelContract {
        version: contract::VERSION,
        family: "reid".into(),
        architecture: "block".into(),
        input: vec![InputSpec::picture(
            "image",
            Axis::Symbol("batch".into()),
            PictureSpec { mean: vec![0.5; 3], std: vec![0.5; 3], ..PictureSpec::imagenet([32, 16]) },
        )],
        output: vec![OutputSpec {
            name: "features".into(),
            meaning: "features after the neck, one column per part".into(),
            shape: batch_of(&[6, 5]),
            unit_length: false,
            metric: "cosine".into(),
            picture: None,
        }],
        embedding: Some(EmbeddingSpec {
            output: "features".into(),
            dim: 30,
            parts: 5,
            flip: true,
            contract_id: String::new(),
        }),
        threshold: None,
        golden: None,
        precision: "fp32".into(),
        training: Training { dataset: "drawn".into(), licence: "MIT".into(), ..Training::default() },
        exporter: contract::Exporter::default(),
    }
}

#[test]
fn the_bundle_is_complete_and_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let model = blocks::export(true);
    let written = bundle::write(folder.path(), &model, contract(), &runtime()).unwrap();
    let (proto, bytes) = onnx::read(&written.model, &onnx::Limits::default()).unwrap();
    assert_eq!(bytes.len() as u64, written.bytes);
    let entries = proto.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    let inside = ModelContract::from_metadata(entries).unwrap();
    assert_eq!(inside, written.contract);
    let beside = std::fs::read_to_string(folder.path().join("contract.json")).unwrap();
    assert_eq!(ModelContract::from_json(&beside).unwrap(), inside);
    assert_eq!(inside.embedding.unwrap().contract_id.len(), 16);
    assert!(inside.golden.is_some_and(|golden| !golden.output["features"].is_empty()));
    assert_eq!(inside.exporter.opset, 20);
    let card = std::fs::read_to_string(folder.path().join("CARD.md")).unwrap();
    for part in ["`image` | [batch, 3, 32, 16]", "`features` | [batch, 6, 5]", "Licence: MIT", "| features | 32 | 32 |"]
    {
        assert!(card.contains(part), "`{part}` is missing in:\n{card}");
    }
}

#[test]
fn a_model_that_fails_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.onnx", "contract.json", "CARD.md"] {
        std::fs::write(folder.path().join(name), "old").unwrap();
    }
    let mut model = blocks::export(true);
    let id = model.graph().initialiser_named("stem.0.weight").unwrap();
    assert!(model.graph_mut().initialiser_mut(id).unwrap().flip_sign(0));
    let error = bundle::write(folder.path(), &model, contract(), &runtime()).unwrap_err();
    assert!(matches!(error, ExportError::Parity { .. }), "{error}");
    for name in ["model.onnx", "contract.json", "CARD.md"] {
        assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), "old", "{name} was touched");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_contract_of_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = blocks::export(true);
    let mut other = contract();
    other.output[0].shape[1] = Axis::Size(7);
    let error = bundle::write(folder.path(), &model, other, &runtime()).unwrap_err();
    assert!(error.to_string().contains("features [batch, 7, 5]"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
