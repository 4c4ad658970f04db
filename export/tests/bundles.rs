//! The files of a bundle, and that none is written when verification fails.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor};
use contract::{Axis, EmbeddingSpec, InputSpec, ModelContract, OutputSpec, PictureSpec, Training};
use export::{Bundle, Certificate, CertificateProblem, Check, ExportError, ExportedModel, Exporter, Outcome, bundle};
use onnx::{Dimension, GraphProto, Message, TensorProto};

use crate::{batch_of, blocks, runtime};

/// The contract of the network in [`blocks`].
pub fn contract() -> ModelContract {
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
            map: None,
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
        quantisation: None,
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
    for part in [
        "`image` | [batch, 3, 32, 16] | rgb picture, 32×16 (height × width), JPEG by libjpeg-turbo, \
         pillow-bilinear resize, range [0.0, 1.0]",
        "`features` | [batch, 6, 5]",
        "Licence: MIT",
        "| features | 32 | 32 |",
    ] {
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
    assert!(
        matches!(&error, ExportError::Contract { problem } if problem.contains("features [batch, 7, 5]")),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The content of every file of a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

fn write(folder: &Path, model: &ExportedModel) {
    bundle::write(folder, model, contract(), &runtime()).unwrap();
}

fn apart() -> ExportedModel {
    blocks::exporter().external_data(0).export(&blocks::Net::new(&Device::flex()), blocks::embed).unwrap()
}

/// Names of the checks that fail, and all their details.
fn failing(folder: &Path) -> (Vec<&'static str>, String) {
    let checks = Bundle::open(folder).unwrap().check(&runtime());
    let failed: Vec<Check> = checks.into_iter().filter(Check::failed).collect();
    (failed.iter().map(|check| check.name).collect(), format!("{failed:?}"))
}

/// Changes the model in a folder. Decoding and encoding our own file loses nothing.
fn edit(folder: &Path, change: impl Fn(&mut GraphProto)) {
    let path = folder.join("model.onnx");
    let (mut model, _) = onnx::read(&path, &onnx::Limits::default()).unwrap();
    change(model.graph.as_mut().unwrap());
    std::fs::write(&path, model.encode_to_vec()).unwrap();
}

fn weight<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

#[test]
fn the_same_weights_give_the_same_bundle() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&one, &two] {
        write(folder.path(), &blocks::export(true));
    }
    let (one, two) = (files(one.path()), files(two.path()));
    assert_eq!(one.keys().collect::<Vec<_>>(), [".lock", "CARD.md", "certificate.json", "contract.json", "model.onnx"]);
    for (name, content) in one.iter().filter(|(name, _)| *name != ".lock") {
        assert!(*content == two[name], "`{name}` differs");
    }
}

#[test]
fn a_bundle_is_what_its_certificate_says() {
    for model in [blocks::export(true), apart()] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &model);
        let bundle = Bundle::open(folder.path()).unwrap();
        let checks = bundle.check(&runtime());
        let names: Vec<_> = checks.iter().map(|check| check.name).collect();
        assert_eq!(names, ["hashes", "structure", "contract", "counts", "recorded outputs", "golden vectors"]);
        assert!(checks.iter().all(|check| matches!(check.outcome, Outcome::Passed(_))), "{checks:?}");
        let again = bundle.check_against(&model, &runtime());
        assert!(matches!(&again.outcome, Outcome::Passed(text) if text.contains("byte for byte")), "{again:?}");
        let certificate = bundle.certificate();
        assert_eq!(certificate.runs.len(), 15);
        assert_eq!(certificate.tools.onnx_runtime, runtime().version().unwrap());
        assert_eq!(certificate.parity.batch.iter().map(|batch| batch.rows).sum::<usize>(), 62);
        // Readers of this version accept fields that later versions add.
        let path = folder.path().join("certificate.json");
        let text = std::fs::read_to_string(&path).unwrap().replacen('{', "{\"later\":[1],", 1);
        assert_eq!(Certificate::from_json(&text, &path).unwrap(), *certificate);
    }
}

/// Thresholds depend on the embeddings, not on the file.
#[test]
fn thresholds_are_kept_while_embeddings_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let thresholds = vec![contract::Threshold { similarity: 0.5, far: 0.01, tar: 0.9, measured: None }];
    let calibrated = ModelContract { threshold: Some(thresholds.clone()), ..contract() };
    bundle::write(folder.path(), &blocks::export(true), calibrated, &runtime()).unwrap();
    let again = bundle::write(folder.path(), &blocks::export(false), contract(), &runtime()).unwrap();
    assert_eq!((again.thresholds, again.contract.threshold), (bundle::Thresholds::Kept, Some(thresholds)));
    assert_eq!(failing(folder.path()).0, [""; 0]);
    let mut other = contract();
    other.embedding.as_mut().unwrap().flip = false;
    let dropped = bundle::write(folder.path(), &blocks::export(true), other, &runtime()).unwrap();
    assert_eq!((dropped.thresholds, dropped.contract.threshold), (bundle::Thresholds::Dropped, None));
    let none = bundle::write(folder.path(), &blocks::export(true), contract(), &runtime()).unwrap();
    assert_eq!(none.thresholds, bundle::Thresholds::None);
}

/// Anyone who unpacks a bundle can edit its certificate, so the program caps the tolerances that it allows.
#[test]
fn a_certificate_that_allows_anything_is_capped_and_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &blocks::export(true));
    let path = folder.path().join("certificate.json");
    let mut certificate = Bundle::open(folder.path()).unwrap().certificate().clone();
    certificate.parity.tolerance.channel = 1e9;
    std::fs::write(&path, certificate.to_json()).unwrap();
    let checks = format!("{:?}", Bundle::open(folder.path()).unwrap().check(&runtime()));
    assert!(checks.contains("the certificate would allow more"), "{checks}");
    edit(folder.path(), |graph| weight(graph, "light.1.conv2.weight").raw_data[4 * 5 + 3] ^= 0x80);
    let (failed, text) = failing(folder.path());
    assert!(failed.contains(&"recorded outputs"), "{text}");
}

/// What a check said.
fn said(folder: &Path, name: &str) -> Outcome {
    let checks = Bundle::open(folder).unwrap().check(&runtime());
    checks.into_iter().find(|check| check.name == name).unwrap().outcome
}

/// Golden vectors bring a tolerance of their own, which anyone can edit too.
#[test]
fn golden_vectors_that_allow_anything_are_capped_and_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &blocks::export(true));
    let path = folder.path().join("model.onnx");
    let mut contract = Bundle::open(folder.path()).unwrap().contract().unwrap();
    contract.golden.as_mut().unwrap().tolerance = 1e9;
    let metadata = contract.to_metadata();
    let (key, value) = metadata.iter().find(|(key, _)| key.ends_with("golden")).unwrap();
    std::fs::write(&path, onnx::with_metadata(&std::fs::read(&path).unwrap(), key, value).unwrap()).unwrap();
    let kept = said(folder.path(), "golden vectors");
    assert!(matches!(&kept, Outcome::Passed(text) if text.contains("the contract would allow more")), "{kept:?}");
    edit(folder.path(), |graph| weight(graph, "light.1.conv2.weight").raw_data[4 * 5 + 3] ^= 0x80);
    let changed = said(folder.path(), "golden vectors");
    assert!(matches!(changed, Outcome::Failed(_)), "{changed:?}");
}

#[derive(Module, Debug)]
struct Table {
    rows: Embedding,
}

/// Indices have no golden values. A model without a self-test says so.
#[test]
fn a_model_without_golden_vectors_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let table = Table { rows: EmbeddingConfig::new(8, 4).init(&Device::flex()) };
    let model = Exporter::new("table")
        .integers("index", batch_of(&[2]), 0, 8)
        .output("rows")
        .export(&table, |table: &Table, index: Tensor<2, Int>| table.rows.forward(index))
        .unwrap();
    let contract = ModelContract {
        input: vec![InputSpec::numbers("index", Axis::Symbol("batch".into()), 2, "which rows")],
        output: vec![OutputSpec { name: "rows".into(), shape: batch_of(&[2, 4]), ..contract().output.remove(0) }],
        embedding: None,
        ..contract()
    };
    let written = bundle::write(folder.path(), &model, contract, &runtime()).unwrap();
    assert_eq!(written.contract.golden, None);
    let card = std::fs::read_to_string(folder.path().join("CARD.md")).unwrap();
    assert!(card.contains("the model has no self-test"), "{card}");
    assert!(matches!(said(folder.path(), "golden vectors"), Outcome::NotRun(_)));
    assert_eq!(failing(folder.path()).0, [""; 0]);
}

/// Two models may be in one folder, each with its own file of weights.
#[test]
fn only_the_weights_of_the_replaced_model_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: &str| {
        let mut model = apart();
        let id = model.graph().initialiser_named("stem.0.weight").unwrap();
        if !seed.is_empty() {
            assert!(model.graph_mut().initialiser_mut(id).unwrap().flip_sign(seed.len()));
        }
        let path = folder.path().join(name);
        bundle::write_model(&path, model.encode_in(folder.path(), &[]).unwrap()).unwrap();
        onnx::data_files(&onnx::read(&path, &onnx::Limits::default()).unwrap().0)
    };
    let (first, other) = (write("model.onnx", ""), write("other.onnx", "a"));
    assert!(first != other && !first.is_empty());
    let second = write("model.onnx", "ab");
    let exists = |names: &[String]| names.iter().all(|name| folder.path().join(name).exists());
    assert!(exists(&other) && exists(&second) && !exists(&first));
}

struct Damage {
    what: &'static str,
    deal: fn(&Path),
    /// Checks that must fail, and words from their messages.
    fails: &'static [&'static str],
    says: &'static [&'static str],
    /// Node that the comparison with the re-exported model must name.
    node: Option<&'static str>,
}

const DAMAGES: [Damage; 7] = [
    Damage {
        what: "two input channels of the first layer are swapped",
        deal: |folder| {
            edit(folder, |graph| {
                let stem = weight(graph, "stem.0.weight");
                let plane = 4 * 7 * 7;
                for filter in stem.raw_data.chunks_exact_mut(3 * plane) {
                    let (first, rest) = filter.split_at_mut(plane);
                    first.swap_with_slice(&mut rest[plane..]);
                }
            })
        },
        fails: &["hashes", "counts", "recorded outputs", "golden vectors"],
        says: &["certified is", "hash of the weights", "`features` differs from what Burn gave"],
        node: Some("stem.0"),
    },
    Damage {
        what: "one sign is flipped deep inside",
        deal: |folder| edit(folder, |graph| weight(graph, "light.1.conv2.weight").raw_data[4 * 5 + 3] ^= 0x80),
        fails: &["hashes", "counts", "recorded outputs", "golden vectors"],
        says: &["hash of the weights"],
        node: Some("light.1.conv2"),
    },
    Damage {
        what: "one stride is changed",
        deal: |folder| {
            edit(folder, |graph| {
                let node = graph.node.iter_mut().find(|node| node.name == "light.0.conv2").unwrap();
                let dilations = node.attribute.iter_mut().find(|attribute| attribute.name == "dilations").unwrap();
                dilations.ints = vec![2, 2];
                let pads = node.attribute.iter_mut().find(|attribute| attribute.name == "pads").unwrap();
                pads.ints = vec![2; 4];
            })
        },
        fails: &["hashes", "recorded outputs", "golden vectors"],
        says: &["`features` differs"],
        node: Some("light.0.conv2"),
    },
    Damage {
        what: "the picture has another size",
        deal: |folder| {
            edit(folder, |graph| {
                let tensor = graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
                tensor.shape.as_mut().unwrap().dim[2].value = Some(Dimension::Value(64));
            })
        },
        fails: &["hashes", "contract", "recorded outputs", "golden vectors"],
        says: &["it declares inputs", "Size(32)", "Size(64)"],
        node: None,
    },
    Damage {
        what: "a node reads a missing value",
        deal: |folder| edit(folder, |graph| graph.node[3].input[0] = "nowhere".into()),
        fails: &["hashes", "structure", "recorded outputs", "golden vectors"],
        says: &["reads `nowhere` before it is written"],
        node: None,
    },
    Damage {
        what: "the contract beside the model declares the colour order BGR",
        deal: |folder| {
            let path = folder.join("contract.json");
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("\"rgb\""));
            std::fs::write(&path, text.replace("\"rgb\"", "\"bgr\"")).unwrap();
        },
        fails: &["contract"],
        says: &["`contract.json` is not the contract inside the model"],
        node: None,
    },
    Damage {
        what: "the file is truncated",
        deal: |folder| {
            let bytes = std::fs::read(folder.join("model.onnx")).unwrap();
            std::fs::write(folder.join("model.onnx"), &bytes[..bytes.len() / 2]).unwrap();
        },
        fails: &["hashes", "structure"],
        says: &["not an ONNX model or is truncated"],
        node: None,
    },
];

#[test]
fn damaged_bundles_are_seen_and_located() {
    let whole = tempfile::tempdir().unwrap();
    let model = blocks::export(true);
    write(whole.path(), &model);
    for Damage { what, deal, fails, says, node } in DAMAGES {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files(whole.path()) {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        deal(folder.path());
        let (failed, text) = failing(folder.path());
        assert_eq!(failed, fails, "{what}: {text}");
        assert!(says.iter().all(|word| text.contains(word)), "{what}: {text}");
        if let Some(node) = node {
            let check = Bundle::open(folder.path()).unwrap().check_against(&model, &runtime());
            let Outcome::Failed(text) = check.outcome else { panic!("{what}: {check:?}") };
            assert!(text.contains(&format!("the first node that differs is `{node}`")), "{what}: {text}");
        }
    }
}

#[test]
fn a_recorded_value_that_was_changed_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &blocks::export(true));
    let path = folder.path().join("certificate.json");
    let mut certificate = Bundle::open(folder.path()).unwrap().certificate().clone();
    *certificate.runs[9].output[0].values[2].as_mut().unwrap() += 0.01;
    std::fs::write(&path, certificate.to_json()).unwrap();
    let (failed, text) = failing(folder.path());
    assert!(failed == ["recorded outputs"] && text.contains("at batch 2"), "{text}");
    certificate.runs[0].input[0].seeds = vec!["unknown".into()];
    std::fs::write(&path, certificate.to_json()).unwrap();
    assert!(failing(folder.path()).1.contains("an unknown kind"));
    std::fs::write(&path, "{\"version\": 7}").unwrap();
    let error = Bundle::open(folder.path()).unwrap_err();
    let ExportError::Certificate { problem, .. } = &error else { panic!("{error}") };
    assert!(matches!(problem, CertificateProblem::Version { found: 7, .. }), "{error}");
}

#[test]
fn weights_beside_the_model_are_certified_and_replaced_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = apart();
    write(folder.path(), &model);
    if let Some(kept) = crate::kept::folder() {
        // For Python's checker, one folder deeper than models with an input and an output beside them.
        write(&kept.join("bundles/weights-apart"), &model);
    }
    let data = |folder: &Path| -> Vec<String> {
        files(folder).into_keys().filter(|name| name.ends_with(".onnx.data")).collect()
    };
    let [first] = data(folder.path()).try_into().unwrap();
    let (proto, _) = onnx::read(&folder.path().join("model.onnx"), &onnx::Limits::default()).unwrap();
    assert_eq!(onnx::data_files(&proto), [first.as_str()]);
    let external = proto.graph.unwrap().initializer.into_iter().filter_map(|tensor| {
        let (_, range) = onnx::external_range(&tensor)?;
        Some((range.start, range.end - range.start))
    });
    let external: Vec<_> = external.collect();
    assert!(!external.is_empty() && external.iter().all(|(offset, length)| offset % 4096 == 0 && *length >= 1024));

    // A changed weight in the data file is found like one in the model.
    let path = folder.path().join(&first);
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[3] ^= 0x80;
    std::fs::write(&path, &bytes).unwrap();
    let (failed, text) = failing(folder.path());
    assert!(failed.contains(&"hashes") && failed.contains(&"counts") && text.contains(&first), "{text}");
    let check = Bundle::open(folder.path()).unwrap().check_against(&model, &runtime());
    assert!(format!("{check:?}").contains("`stem.0`"), "{check:?}");
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(failing(folder.path()).1.contains("external data of tensor"));

    // Other weights are another file, and the old file is removed together with the model that named it. If a model
    // cannot be read, it is unknown which file belongs to it.
    std::fs::write(&path, &whole).unwrap();
    let id = model.graph().initialiser_named("stem.0.weight").unwrap();
    assert!(model.graph_mut().initialiser_mut(id).unwrap().flip_sign(0));
    bundle::write_model(&folder.path().join("model.onnx"), model.encode(&[]).unwrap()).unwrap();
    let after = data(folder.path());
    assert!(after.len() == 1 && after[0] != first, "{after:?}");
    // A model without external weights leaves no file of weights.
    bundle::write_model(&folder.path().join("model.onnx"), blocks::export(true).encode(&[]).unwrap()).unwrap();
    assert!(data(folder.path()).is_empty());
}

/// Equal weights have equal names: the file of one model may be that of another.
#[test]
fn weights_that_another_model_names_stay() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["model.onnx", "other.onnx"] {
        bundle::write_model(&at(name), apart().encode(&[]).unwrap()).unwrap();
    }
    let data = || files(folder.path()).into_keys().find(|name| name.ends_with(".onnx.data"));
    let shared = data().unwrap();
    bundle::write_model(&at("model.onnx"), blocks::export(true).encode(&[]).unwrap()).unwrap();
    assert_eq!(data(), Some(shared), "`other.onnx` needs it");
    onnx::read(&at("other.onnx"), &onnx::Limits::default()).unwrap();
    // Nobody knows what a model needs that cannot be read.
    std::fs::write(at("third.onnx"), "not yet whole").unwrap();
    bundle::write_model(&at("other.onnx"), blocks::export(true).encode(&[]).unwrap()).unwrap();
    assert!(data().is_some());
    std::fs::remove_file(at("third.onnx")).unwrap();
    for model in [apart(), blocks::export(true)] {
        bundle::write_model(&at("other.onnx"), model.encode(&[]).unwrap()).unwrap();
    }
    assert_eq!(data(), None, "the last model that named it is gone");
}

const FOLDER: &str = "VITRINE_TEST_BUNDLE";
const APART: &str = "VITRINE_TEST_APART";
const TURN: &str = "VITRINE_TEST_TURN";

/// The export that is killed before its change number `TURN`; alone it does nothing.
#[test]
fn an_export_that_is_killed() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    if let Some(folder) = std::env::var_os(FOLDER) {
        LEFT.store(std::env::var(TURN).unwrap().parse().unwrap(), Ordering::SeqCst);
        let model = if std::env::var_os(APART).is_some() { apart() } else { blocks::export(true) };
        files::hook::set(|| {
            if LEFT.fetch_sub(1, Ordering::SeqCst) == 0 {
                std::process::abort();
            }
        });
        write(folder.as_ref(), &model);
    }
}

/// Every file that a program of ours reads is of one export, wherever the last one was killed; and the next one leaves
/// nothing of it.
#[test]
fn a_killed_export_leaves_the_old_bundle_or_the_new_one() {
    let sizes = [blocks::export(true), apart()].map(|model| model.encode(&[]).unwrap().data.is_some());
    assert_eq!(sizes, [false, true]);
    for new_apart in [true, false] {
        let (mut old, mut new) = (0, 0);
        for turn in 0.. {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("notes.txt"), "of the user").unwrap();
            write(folder.path(), &if new_apart { blocks::export(true) } else { apart() });
            let before = std::fs::read(folder.path().join("model.onnx")).unwrap();
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "bundles::an_export_that_is_killed", "--nocapture"]);
            command.env(FOLDER, folder.path()).env(TURN, turn.to_string());
            if new_apart {
                command.env(APART, "1");
            }
            let output = command.output().unwrap();
            let at = format!("weights apart: {new_apart}; killed before change {turn}");

            // A process loads one ONNX Runtime, so the device is the program.
            let deploy = std::path::Path::new(env!("CARGO_BIN_EXE_export")).with_file_name("deploy");
            assert!(deploy.is_file(), "`{}` is built with the whole workspace", deploy.display());
            let opened = std::process::Command::new(deploy).arg("inspect").arg(folder.path()).output().unwrap();
            let (out, err) = (String::from_utf8_lossy(&opened.stdout), String::from_utf8_lossy(&opened.stderr));
            assert!(opened.status.success() && out.contains("passed: "), "{at}\n{out}{err}");
            let bundle = Bundle::open(folder.path()).unwrap();
            let checks = bundle.check(&runtime());
            assert!(checks.iter().all(|check| matches!(check.outcome, Outcome::Passed(_))), "{at}: {checks:?}");
            let is_new = bundle.certificate().model.data.is_some() == new_apart;
            assert_eq!(bundle.bytes() == before, !is_new, "{at}");
            if is_new {
                new += 1
            } else {
                old += 1
            }
            if output.status.success() {
                assert!(is_new, "{}", String::from_utf8_lossy(&output.stderr));
                break;
            }
            // Another process would sweep by itself.
            files::sweep(folder.path());
            write(folder.path(), &blocks::export(true));
            let left: Vec<String> = files(folder.path()).into_keys().filter(|name| !name.ends_with(".data")).collect();
            let bundle = [".lock", "CARD.md", "certificate.json", "contract.json", "model.onnx", "notes.txt"];
            assert_eq!(left, bundle, "{at}");
        }
        assert!(old > 5 && new > 4, "{old} times the old one, {new} times the new one");
    }
}

/// A bundle from elsewhere whose files are none: it must not be waited for, and not lead to other files.
#[cfg(unix)]
#[test]
fn pipes_and_links_out_of_a_bundle_are_refused() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), &blocks::export(true));
    for name in ["model.onnx", "certificate.json", "contract.json"] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &blocks::export(true));
        let path = folder.path().join(name);
        let said = || match Bundle::open(folder.path()) {
            Ok(bundle) => format!("{:?}", bundle.check(&runtime())),
            Err(error) => format!("{error}: {}", std::error::Error::source(&error).unwrap()),
        };
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(said().contains("a pipe (FIFO)"), "{name}: {}", said());
        std::fs::remove_file(&path).unwrap();
        symlink(outside.path().join(name), &path).unwrap();
        assert!(said().contains("outside of its folder"), "{name}: {}", said());
        std::fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(said().contains("a device"), "{name}: {}", said());
    }
}

#[test]
fn certificates_that_ask_for_too_much_are_refused_before_a_run() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &blocks::export(true));
    let path = folder.path().join("certificate.json");
    let certificate = Bundle::open(folder.path()).unwrap().certificate().clone();
    let with = |shapes: &[&[usize]]| {
        let mut certificate = certificate.clone();
        let run = certificate.runs[0].clone();
        certificate.runs = shapes.iter().map(|_| run.clone()).collect();
        certificate.runs.iter_mut().zip(shapes).for_each(|(run, shape)| run.input[0].shape = shape.to_vec());
        std::fs::write(&path, certificate.to_json()).unwrap();
        failing(folder.path()).1
    };
    assert!(with(&[&[1, 3, 1 << 20, 1 << 10]]).contains("more than 268435456 elements"));
    assert!(with(&[&[usize::MAX, usize::MAX]]).contains("more than 268435456 elements"));
    assert!(with(&[&[1, 1 << 28][..]; 9]).contains("its runs declare 2415919104 elements; 2147483648 are allowed"));
    std::fs::write(&path, " ".repeat(9 << 20)).unwrap();
    let error = Bundle::open(folder.path()).unwrap_err();
    let ExportError::Read { source, .. } = &error else { panic!("{error}") };
    let refused = source.get_ref().and_then(|cause| cause.downcast_ref::<files::Refused>());
    assert_eq!(refused, Some(&files::Refused::TooLarge { found: 9 << 20, allowed: 8 << 20 }));
}
