//! One training step of LMBN_n against the reference: loss terms, gradients, parameters. `fixtures/lmbn_n/README.md`
//! names the generator.

use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use contract::fill::blocks;
use fixtures::Golden;
use serde_json::Value;
use train::families::reid::net::ReidNet;
use train::loss::{LossParams, LossSum, LossTerms};
use train::run::optim::{Optimizer, OptimizerConfig};
use train::weights::StateDict;

use super::lmbn_n::filled;
use super::{device, gradients_by_key, slack};

/// Differences allowed, in units of the reference's own difference between single and double precision: another order
/// of additions gives noise of the same size, not the same noise.
const TIMES_NOISE: f32 = 4.0;

/// Rates at which Adam moves a parameter in its first step.
const LR: f64 = 6e-4;

/// Golden values, ours at the same places, and what the reference says about them.
fn sampled(golden: &Golden, entry: &Value, ours: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (_, theirs) = golden.tensor_f32(entry["tensor"].as_str().unwrap()).unwrap();
    let every = entry["every"].as_u64().unwrap() as usize;
    let ours: Vec<f32> = ours.iter().copied().step_by(every).collect();
    assert_eq!(ours.len(), theirs.len(), "{entry}");
    (theirs, ours)
}

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

fn largest(differences: impl Iterator<Item = f32>) -> f32 {
    differences.fold(0.0, f32::max)
}

#[test]
fn one_step_matches_the_reference() {
    let golden = Golden::load("lmbn_n").unwrap();
    let expected = &golden.json()["adam"];
    let device = device().autodiff();
    let net = filled(&device);
    let params =
        LossParams { num_classes: 751, label_smoothing: true, margin: 0.7, feat_dim: 512, ..LossParams::default() };
    let shape = [8, 3, 128, 64];
    let forward = |net: &ReidNet| -> LossTerms {
        let images = Tensor::from_data(TensorData::new(blocks("input", shape, 16), shape), &device);
        let output = net.forward(images);
        let classes = Tensor::<1, Int>::from_data(TensorData::from([0_i64, 0, 1, 1, 2, 2, 3, 3]), &device);
        LossSum::new("0.5*CrossEntropy+0.5*MSLoss", &params).unwrap().forward(&output.scores, &output.features, classes)
    };
    let loss = forward(&net);

    // Terms are half the sums over the heads. Seven sums of size 50: 1e-4 is two parts in a million.
    let (total, terms) = loss.values();
    let sum =
        |name: &str| expected[name].as_array().unwrap().iter().map(|term| term.as_f64().unwrap()).sum::<f64>() / 2.0;
    for (found, wanted) in [
        (terms[0].1, sum("cross_entropy")),
        (terms[1].1, sum("multi_similarity")),
        (total, f64::from(number(&expected["total"]))),
    ] {
        println!("loss {found:.6}, reference {wanted:.6}");
        assert!((found - wanted).abs() < 1e-4, "{found} for {wanted}");
    }

    let all = GradientsParams::from_grads(loss.total.backward(), &net);
    let gradients = gradients_by_key(&net, &all);
    let before = StateDict::of(&net);
    let mut optimizer = Optimizer::new(&OptimizerConfig::default()).unwrap();
    let net = optimizer.step(LR, net, all);
    let after = StateDict::of(&net);
    let moved = |key: &str| before.get(key) != after.get(key);
    assert!(moved("reduction_0.bn.weight"), "{:?}", gradients.get("reduction_0.bn.weight").map(|g| g[0]));
    assert!(!moved("reduction_0.bn.bias"), "the necks' shift is fixed");

    for (key, entry) in expected["parameters"].as_object().unwrap() {
        let noise = number(&entry["grad"]["float32_noise"]);
        let (wanted, found) = sampled(&golden, &entry["grad"], &gradients[key]);
        let difference = largest(wanted.iter().zip(&found).map(|(a, b)| (a - b).abs()));
        let std = number(&entry["grad"]["std"]);
        println!("{key}: gradient off {difference:.1e} of {std:.1e}, the reference's own noise {noise:.1e}");
        assert!(
            difference < slack() * TIMES_NOISE * noise.max(2e-4 * std),
            "{key}: {difference:.1e}, noise {noise:.1e}"
        );

        // A first step of Adam is the gradient's sign times the rate: where noise decides the sign, nothing can be
        // compared.
        let values = after.get(key).unwrap().as_slice::<f32>().unwrap();
        let (wanted, values) = sampled(&golden, &entry["after"], values);
        let clear = |k: &usize| found[*k].abs() > 2.0 * TIMES_NOISE * noise.max(1e-6);
        let compared: Vec<usize> = (0..wanted.len()).filter(clear).collect();
        let difference = largest(compared.iter().map(|k| (wanted[*k] - values[*k]).abs()));
        println!("{key}: {} of {} parameters compared, off {difference:.1e}", compared.len(), wanted.len());
        assert!(!compared.is_empty() && difference < slack() * 2e-6, "{key}: {difference:.1e}");
    }

    let (total, _) = forward(&net).values();
    let wanted = expected["total_after_step"].as_f64().unwrap();
    println!("loss after the step {total:.4}, reference {wanted:.4}");
    // The reference's two precisions differ by 0.4 %.
    assert!((total - wanted).abs() < 0.02 * wanted, "{total} for {wanted}");
}
