//! Random tensors: no run agrees with Burn's, so bounds and means are compared.

use burn::tensor::Distribution;
use export::{OPSETS, Warning};

use super::{Case, F, I, case, noise, session};

const COUNT: usize = 4000;

/// First and last operator set whose version of the operators ONNX Runtime 1.31 has.
const SETS: [u32; 2] = [17, 21];

/// Distribution, bounds and mean.
const FLOATS: [(Distribution, [f64; 2], f64); 4] = [
    (Distribution::Default, [0.0, 1.0], 0.5),
    (Distribution::Uniform(-1.0, 3.0), [-1.0, 3.0], 1.0),
    (Distribution::Normal(2.0, 0.5), [-2.0, 6.0], 2.0),
    (Distribution::Bernoulli(0.25), [0.0, 1.0], 0.25),
];

const INTEGERS: [(Distribution, [f64; 2], f64); 3] = [
    (Distribution::Uniform(-3.0, 4.0), [-3.0, 3.0], 0.0),
    (Distribution::Normal(10.0, 2.0), [-6.0, 26.0], 9.5),
    (Distribution::Bernoulli(0.5), [0.0, 1.0], 0.5),
];

fn floats(distribution: Distribution) -> Case {
    case(format!("{distribution:?}"), [noise("x", [COUNT])], move |x: F<1>| {
        let drawn = F::<1>::random([COUNT], distribution, &x.device());
        drawn + x * 0.0
    })
}

fn integers(distribution: Distribution) -> Case {
    case(format!("integers of {distribution:?}"), [noise("x", [COUNT])], move |x: F<1>| {
        let drawn = I::<1>::random([COUNT], distribution, &x.device());
        drawn.float() + x * 0.0
    })
}

pub fn cases() -> Vec<Case> {
    let floats = FLOATS.into_iter().map(|(distribution, ..)| floats(distribution));
    floats.chain(INTEGERS.into_iter().map(|(distribution, ..)| integers(distribution))).collect()
}

#[test]
fn distributions_are_burns() {
    for (case, (_, bounds, mean)) in cases().iter().zip(FLOATS.into_iter().chain(INTEGERS)) {
        for opset in SETS {
            let model = (case.export)(opset, true).unwrap();
            assert!(model.warnings().iter().any(|warning| matches!(warning, Warning::Random { .. })), "{}", case.name);
            let first: Vec<f64> = session::run(&model, &case.inputs).unwrap().remove(0).iter().collect();
            assert!(
                first.iter().all(|number| (bounds[0]..=bounds[1]).contains(number)),
                "{}: out of bounds",
                case.name
            );
            let found = first.iter().sum::<f64>() / COUNT as f64;
            let spread = (bounds[1] - bounds[0]) / 20.0;
            assert!((found - mean).abs() < spread, "{}: mean {found}, {mean} expected", case.name);
        }
    }
}

#[test]
fn what_no_runtime_runs_is_refused_with_a_way_out() {
    for case in cases() {
        for opset in SETS[1] + 1..=*OPSETS.end() {
            let error = (case.export)(opset, true).unwrap_err().to_string();
            let told = format!("up to operator set 21, but this export is for {opset}; export for 21");
            assert!(error.contains("::Random`") || error.contains("::IntRandom`"), "{error}");
            assert!(error.contains(&told), "{}: {error}", case.name);
        }
    }
}

#[test]
fn integers_of_every_size_are_refused() {
    let error = (integers(Distribution::Default).export)(20, true).unwrap_err().to_string();
    assert!(error.contains("give the bounds by `Distribution::Uniform`"), "{error}");
}
