//! Weights of any size. With `VITRINE_WEIGHT_MIB=2304` they exceed both a model file and what ONNX Runtime accepts from
//! memory; with `VITRINE_TEST_MODELS` the bundles are kept for other programs.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use contract::{Axis, EmbeddingSpec, InputSpec, ModelContract, PictureSpec};
use export::{Bundle, Exporter, Outcome, bundle};

use crate::{batch_of, bundles, kept, runtime};

/// Height and width of the picture.
const SIZE: [usize; 2] = [96, 64];

/// Values of a picture.
const INPUTS: usize = 3 * SIZE[0] * SIZE[1];

/// Parallel layers, each of which reads the whole picture.
#[derive(Module, Debug)]
struct Wide {
    part: Vec<Linear>,
}

impl Wide {
    /// Weights of `mib` MiB in `parts` layers; every value depends on its index.
    fn new(mib: usize, parts: usize) -> Self {
        let outputs = (mib << 20) / (4 * INPUTS * parts);
        let part = |part: usize| {
            let config = LinearConfig::new(INPUTS, outputs).with_initializer(Initializer::Zeros);
            let value = |at: usize| {
                let mixed = ((at + part) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                (mixed as f32 / (1 << 23) as f32 - 1.0) / (INPUTS as f32).sqrt()
            };
            let values: Vec<f32> = (0..INPUTS * outputs).map(value).collect();
            let weight = Tensor::from_data(TensorData::new(values, [INPUTS, outputs]), &Device::flex());
            Linear { weight: Param::from_tensor(weight), ..config.init(&Device::flex()) }
        };
        Self { part: (0..parts).map(part).collect() }
    }
}

fn contract(values: usize) -> ModelContract {
    let mut contract = bundles::contract();
    contract.input = vec![InputSpec::picture("image", Axis::Symbol("batch".into()), PictureSpec::imagenet(SIZE))];
    contract.output[0].shape = batch_of(&[values]);
    contract.embedding = contract.embedding.map(|own| EmbeddingSpec { dim: values, parts: 1, flip: false, ..own });
    contract
}

fn exports(name: &str, parts: usize) {
    let mib = std::env::var("VITRINE_WEIGHT_MIB").map_or(1, |mib| mib.parse().unwrap());
    let net = Wide::new(mib, parts);
    let values: usize = net.part.iter().map(|part| part.weight.dims()[1]).sum();
    let half = (mib as u64) << 19;
    let model = Exporter::new(name)
        .external_data(half)
        .input("image", batch_of(&[3, SIZE[0], SIZE[1]]))
        .output("features")
        .export(&net, |net: &Wide, image: Tensor<4>| {
            let row: Tensor<2> = image.flatten(1, 3);
            Tensor::cat(net.part.iter().map(|part| part.forward(row.clone())).collect(), 1)
        })
        .unwrap();
    drop(net);
    let temporary = tempfile::tempdir().unwrap();
    let folder = kept::folder().unwrap_or(temporary.path().into()).join("bundles").join(name);
    let written = bundle::write(&folder, &model, contract(values), &runtime()).unwrap();
    assert!(written.bytes > half && std::fs::metadata(&written.model).unwrap().len() < half);
    // No temporary files are left.
    for folder in [folder.as_path(), temporary.path()] {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let hidden = names.filter(|name| name.to_string_lossy().starts_with('.'));
        // The lock file stays, by design.
        let litter: Vec<_> = hidden.filter(|name| name != files::lock::FILE).collect();
        assert!(litter.is_empty(), "{litter:?}");
    }
    let bundle = Bundle::open(&folder).unwrap();
    let checks = bundle.check(&runtime());
    assert!(checks.iter().all(|check| matches!(check.outcome, Outcome::Passed(_))), "{checks:?}");
    let again = bundle.check_against(&model, &runtime());
    assert!(matches!(&again.outcome, Outcome::Passed(text) if text.contains("byte for byte")), "{again:?}");
}

#[test]
fn one_weight_of_any_size() {
    exports("large-one", 1);
}

#[test]
fn weights_of_any_size() {
    exports("large-many", 4);
}
