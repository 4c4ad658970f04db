//! The contract id changes exactly when embeddings change.

use burn::module::{Module, Param};
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};
use contract::Axis;
use export::{ExportedModel, Exporter, bundle};

use crate::{batch_of, blocks, bundles, known, runtime};

#[derive(Module, Debug)]
struct Net {
    kernel: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

fn net() -> Net {
    Net { kernel: Param::from_tensor(known("kernel", [4, 3, 3, 3])), bias: Param::from_tensor(known("bias", [4])) }
}

fn pooled(net: &Net, x: Tensor<4>, stride: usize, activation: fn(Tensor<4>) -> Tensor<4>) -> Tensor<2> {
    let options = ConvOptions::new([stride, stride], [1, 1], [1, 1], 1);
    let x = activation(conv2d(x, net.kernel.val(), Some(net.bias.val()), options));
    x.mean_dim(3).mean_dim(2).flatten::<2>(1, 3)
}

fn id(exporter: Exporter, net: &Net, forward: fn(&Net, Tensor<4>) -> Tensor<2>) -> String {
    let model = exporter.output("embedding").export(net, forward).unwrap();
    model.network_sha256("embedding").unwrap()
}

#[test]
fn what_is_computed_changes_the_id_and_nothing_else() {
    let usual = |net: &Net, x: Tensor<4>| pooled(net, x, 1, relu);
    let exporter = || Exporter::new("id").input("image", batch_of(&[3, 8, 6]));
    let reference = id(exporter(), &net(), usual);
    for opset in 17..=23 {
        assert_eq!(id(exporter().opset(opset), &net(), usual), reference, "operator set {opset}");
    }
    assert_eq!(id(exporter().optimise(false), &net(), usual), reference, "without passes");
    assert_eq!(id(exporter().external_data(0), &net(), usual), reference, "weights apart");
    for batch in [1, 2, 7] {
        let axes = [batch, 3, 8, 6].map(Axis::Size);
        assert_eq!(id(Exporter::new("id").input("image", axes), &net(), usual), reference, "batch {batch}");
    }
    let renamed = Exporter::new("another name").input("picture", batch_of(&[3, 8, 6]));
    assert_eq!(id(renamed, &net(), usual), reference, "names");
    // Another output next to the embedding.
    let both = exporter().output("embedding").output("more");
    let both = both.export(&net(), |net: &Net, x: Tensor<4>| (pooled(net, x.clone(), 1, relu), x.exp())).unwrap();
    assert_eq!(both.network_sha256("embedding").unwrap(), reference, "another output");
    assert_ne!(both.network_sha256("more").unwrap(), reference);
    assert!(both.network_sha256("none").is_err());

    let mut others = vec![
        id(exporter(), &net(), |net, x| pooled(net, x, 2, relu)),
        id(exporter(), &net(), |net, x| pooled(net, x, 1, |x| x)),
        id(exporter(), &net(), |net, x| pooled(net, x, 1, |x| leaky_relu(x, 0.1))),
        id(exporter(), &net(), |net, x| pooled(net, x, 1, |x| leaky_relu(x, 0.2))),
        id(exporter(), &net(), |net, x| pooled(net, x.clone() + x, 1, relu)),
        id(Exporter::new("id").input("image", batch_of(&[3, 8, 8])), &net(), usual),
    ];
    let mut changed = net();
    let mut values: Vec<f32> = changed.bias.val().into_data().iter().collect();
    values[2] += 1e-6;
    changed.bias = Param::from_tensor(Tensor::from_data(TensorData::new(values, [4]), &Device::flex()));
    others.push(id(exporter(), &changed, usual));
    others.push(reference);
    let count = others.len();
    others.sort();
    others.dedup();
    assert_eq!(others.len(), count);
}

#[test]
fn a_bundle_keeps_its_id_when_only_its_form_changes() {
    let written = |model: ExportedModel, batch: Axis| {
        let folder = tempfile::tempdir().unwrap();
        let mut contract = bundles::contract();
        (contract.input[0].shape[0], contract.output[0].shape[0]) = (batch.clone(), batch);
        let written = bundle::write(folder.path(), &model, contract, &runtime()).unwrap();
        written.contract.embedding.unwrap().contract_id
    };
    let any = || Axis::Symbol("batch".into());
    let export = |exporter: Exporter| exporter.export(&blocks::Net::new(&Device::flex()), blocks::embed).unwrap();
    let reference = written(blocks::export(true), any());
    assert_eq!(written(blocks::export(false), any()), reference);
    assert_eq!(written(export(blocks::exporter().opset(17)), any()), reference);
    let fixed = Exporter::new("block").input("image", [1, 3, 32, 16].map(Axis::Size)).output("features");
    assert_eq!(written(export(fixed), Axis::Size(1)), reference);
}

/// The published version of Burn is the one in the lock file.
#[test]
fn the_version_of_burn_is_that_of_the_lock_file() {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    let expected = format!("name = \"burn\"\nversion = \"{}\"\n", export::BURN_VERSION);
    assert!(lock.contains(&expected), "Cargo.lock has no {expected:?}");
    assert_eq!(train::BURN_VERSION, export::BURN_VERSION);
}
