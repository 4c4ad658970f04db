//! LMBN_n against the reference implementation: `fixtures/lmbn_n/README.md` names the generator.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use contract::fill::{blocks, fill};
use fixtures::Golden;
use serde_json::Value;
use train::families::reid::net::{ReidNet, ReidNetConfig};
use train::weights::StateDict;

use super::{device, fill_by_name, same_state, slack, values};

const CLASSES: usize = 751;
const FEATURES: usize = 512;

/// The reference's own float32 noise is 9e-7 on values of size 1; the project's rule is "a few times that".
const EVAL_TOLERANCE: f32 = 5e-6;

/// LMBN_n with every entry filled by its name.
pub fn filled(device: &Device) -> ReidNet {
    let config = ReidNetConfig::new("LMBN_n", CLASSES, FEATURES).unwrap();
    let mut net = ReidNet::new(&config, 0, device);
    fill_by_name(&mut net, "");
    net
}

/// Compares `values` with the stored tensor that `entry` describes; returns the largest difference.
pub fn difference(golden: &Golden, entry: &Value, values: &[f32]) -> f32 {
    super::difference(golden, entry["tensor"].as_str().unwrap(), entry, values).0
}

/// A batch of pictures.
pub fn images(values: Vec<f32>, shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[test]
fn keys_shapes_and_counts_are_the_references() {
    let golden = Golden::load("lmbn_n").unwrap();
    let expected = &golden.json()["models"]["lmbn_n"];
    let net = filled(&device());
    same_state(&StateDict::of(&net), &expected["state_dict"], "lmbn_n");
    let buffers = StateDict::of(&net)
        .iter()
        .filter(|(key, _)| key.contains("running_"))
        .map(|(_, data)| data.num_elements())
        .sum::<usize>();
    assert_eq!(net.num_params() - buffers, expected["params_total"].as_u64().unwrap() as usize);
}

#[test]
fn eval_features_match_the_reference() {
    let golden = Golden::load("lmbn_n").unwrap();
    let device = device();
    let net = filled(&device);
    let shape = [2, 3, 384, 128];
    for (name, input) in [("noise", fill("input", &shape)), ("blocks", blocks("input", shape, 32))] {
        let features = net.embed(images(input, shape, &device));
        assert_eq!(features.dims(), [2, FEATURES, 7]);
        let difference = difference(&golden, &golden.json()["models"]["lmbn_n"]["eval"][name], &values(features));
        println!("eval, {name}: largest difference {difference:.1e}");
        assert!(difference < slack() * EVAL_TOLERANCE, "{name}: {difference:.1e}");
    }
}

#[test]
fn training_scores_and_features_match_the_reference() {
    let golden = Golden::load("lmbn_n").unwrap();
    let device = device().autodiff();
    let net = filled(&device);
    let shape = [4, 3, 384, 128];
    let output = net.forward(images(blocks("input", shape, 32), shape, &device));
    let expected = &golden.json()["train"]["lmbn_n"];
    // The same erased rows as in the reference, or the second score would be off by far more than this.
    for (what, tensors, factor) in [("logits", output.scores, 5.0), ("features", output.features, 5.0)] {
        let entries = expected[what].as_array().unwrap();
        assert_eq!(entries.len(), tensors.len(), "{what}");
        for (k, (entry, tensor)) in entries.iter().zip(tensors).enumerate() {
            let noise = entry["float32_noise"].as_f64().unwrap() as f32;
            let difference = difference(&golden, entry, &values(tensor));
            println!("train, {what} {k}: largest difference {difference:.1e}, the reference's own noise {noise:.1e}");
            assert!(difference < slack() * factor * noise.max(2e-5), "{what} {k}: {difference:.1e}, noise {noise:.1e}");
        }
    }
}

#[test]
fn running_statistics_after_one_step_match_the_reference() {
    let golden = Golden::load("lmbn_n").unwrap();
    let device = device().autodiff();
    let net = filled(&device);
    let shape = [8, 3, 128, 64];
    net.forward(images(blocks("input", shape, 16), shape, &device));
    let state = StateDict::of(&net);
    for (key, entry) in golden.json()["adam"]["buffers_after_one_training_forward"].as_object().unwrap() {
        if let Some(data) = state.get(key) {
            let difference = difference(&golden, entry, &data.try_to_vec::<f32>().unwrap());
            println!("{key}: {difference:.1e}");
            assert!(difference < slack() * 1e-5, "{key}: {difference:.1e}");
        }
    }
}

#[test]
fn branches_of_a_fresh_network_are_equal_and_seeds_differ() {
    let device = device();
    let config = ReidNetConfig::new("LMBN_n", 5, 64).unwrap();
    let state = |seed| StateDict::of(&ReidNet::new(&config, seed, &device));
    let first = state(1);
    for (key, data) in first.iter() {
        if let Some(rest) = key.strip_prefix("partial_branch.") {
            assert_eq!(first.get(&format!("global_branch.{rest}")), Some(data), "{key}");
        }
    }
    let conv = "backone.0.conv.weight";
    assert_eq!(first.get(conv), state(1).get(conv));
    assert_ne!(first.get(conv), state(2).get(conv));
}

#[test]
fn an_embedding_does_not_depend_on_its_batch() {
    let device = device();
    let net = filled(&device);
    let shape = [2, 3, 128, 64];
    let input = images(blocks("input", shape, 16), shape, &device);
    let together = values(net.embed(input.clone()).narrow(0, 1, 1));
    let alone = values(net.embed(input.narrow(0, 1, 1)));
    let difference = together.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < slack() * 1e-6, "{difference:.1e}");
}
