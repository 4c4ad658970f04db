use burn::tensor::{Device, Int, Tensor, TensorData};
use fixtures::Golden;

use super::*;

type Loss2 = Box<dyn Fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>>;

fn device() -> Device {
    Device::flex().autodiff()
}

fn matrix(golden: &Golden, name: &str) -> Tensor<2> {
    let (shape, values) = golden.tensor_f32(name).unwrap();
    Tensor::from_data(TensorData::new(values, shape), &device())
}

fn labels(golden: &Golden) -> Tensor<1, Int> {
    let (shape, values) = golden.tensor_i64("loss.labels").unwrap();
    Tensor::from_data(TensorData::new(values, shape), &device())
}

fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data_as::<f32>().iter::<f32>().collect()
}

fn max_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

/// Value and gradient with respect to the input.
fn value_and_gradient(loss: &Loss2, input: Tensor<2>, classes: Tensor<1, Int>) -> (f32, Vec<f32>) {
    let input = input.require_grad();
    let value = loss(input.clone(), classes);
    let gradients = value.backward();
    let gradient = input.grad(&gradients).map_or_else(|| vec![0.0; input.shape().num_elements()], |g| numbers(&g));
    (value.into_scalar(), gradient)
}

fn by_name(name: &str, num_classes: usize) -> Loss2 {
    let triplet = |margin| Box::new(move |x, y| Triplet { margin }.forward(x, y)) as Loss2;
    let similarity = |margin| Box::new(move |x, y| MultiSimilarity::new(margin).forward(x, y)) as Loss2;
    let entropy = |smoothing| Box::new(move |x, y| CrossEntropy { num_classes, smoothing }.forward(x, y)) as Loss2;
    match name {
        "cross_entropy" => entropy(0.0),
        "cross_entropy_smooth" => entropy(0.1),
        "focal" => Box::new(move |x, y| Focal::new(num_classes).forward(x, y)),
        "triplet_m0.3" | "triplet_semihard_reference" => triplet(0.3),
        "triplet_m1.2" => triplet(1.2),
        "triplet_m3.0" => triplet(3.0),
        "triplet_soft" => triplet(0.0),
        "triplet_semihard_standard" => Box::new(|x, y| TripletSemihard { margin: 0.3 }.forward(x, y)),
        "multi_similarity_m0.1" => similarity(0.1),
        "multi_similarity_m0.7" => similarity(0.7),
        other => panic!("no loss for the golden case {other}"),
    }
}

/// Golden: `fixtures/reid_losses`. In f32 the reference itself is off by `grad_noise`; sums in another order add a few
/// times as much.
#[test]
fn every_loss_and_its_gradient_match_the_reference() {
    let golden = Golden::load("reid_losses").unwrap();
    let cases = golden.json()["losses"]["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 12);
    for (name, case) in cases.iter().filter(|(name, _)| *name != "center") {
        let input = matrix(&golden, case["input"].as_str().unwrap());
        let (value, gradient) = value_and_gradient(&by_name(name, 10), input, labels(&golden));
        let expected = numbers(&matrix(&golden, case["grad"].as_str().unwrap()));
        let (exact, noise) = (case["value_f64"].as_f64().unwrap(), case["grad_noise"].as_f64().unwrap());
        let (off, off_gradient) = ((f64::from(value) - exact).abs(), max_difference(&gradient, &expected));
        println!("{name}: value off {off:.1e}, gradient off {off_gradient:.1e} (noise {noise:.1e})");
        assert!(off <= 5e-7 * exact.max(1.0), "{name}: {value} for {exact}");
        assert!(off_gradient <= 4.0 * noise, "{name}: gradient off by {off_gradient:.1e}, noise {noise:.1e}");
    }
}

#[test]
fn centre_loss_its_gradient_and_both_updates_match_the_reference() {
    let golden = Golden::load("reid_losses").unwrap();
    let case = &golden.json()["losses"]["cases"]["center"];
    let tensor = |key: &str| numbers(&matrix(&golden, case[key].as_str().unwrap()));
    let features = || matrix(&golden, "loss.features");
    for (rule, after) in [(CenterRule::Wen, "centers_after_wen"), (CenterRule::Sgd, "centers_after_sgd")] {
        let mut center = CenterLoss::new(10, 64, rule, 1);
        center.set_centers(tensor("centers"), [10, 64]).unwrap();
        let fixed = center.clone();
        let loss: Loss2 = Box::new(move |x, y| fixed.forward(x, y));
        let (value, gradient) = value_and_gradient(&loss, features(), labels(&golden));
        let expected = case["value"].as_f64().unwrap();
        center.update(&[features()], labels(&golden));
        let off = (
            (f64::from(value) - expected).abs(),
            max_difference(&gradient, &tensor("grad")),
            max_difference(&center.centers().0, &tensor(after)),
        );
        println!("{rule:?}: value, gradient, centres off {off:?}");
        // The reference computes ‖x‖² + ‖c‖² − 2xc, which is rounded like the larger squares.
        assert!(off.0 <= 1e-5 && off.1 <= 5e-7 && off.2 <= 5e-7, "{rule:?}: {off:?}");
    }
}

/// Equal rows, rows of zeros, a single identity, identities with one picture: value and gradient must be finite.
#[test]
fn degenerate_batches_have_finite_values_and_gradients() {
    let row = |scale: f32| (0..8).map(move |k| scale * (k as f32 * 0.7 - 2.0));
    let rows = |scales: &[f32]| {
        let values: Vec<f32> = scales.iter().flat_map(|scale| row(*scale)).collect();
        Tensor::<2>::from_data(TensorData::new(values, [scales.len(), 8]), &device())
    };
    let batches = [
        ("all equal", [1.0; 6], [0, 0, 1, 1, 2, 2]),
        ("all zero", [0.0; 6], [0, 0, 1, 1, 2, 2]),
        ("copies", [1.0, 1.0, 1.0, 2.0, 0.5, 0.5], [0, 0, 0, 1, 1, 2]),
        ("some zero", [0.0, 1.0, 0.0, -1.0, 2.0, 0.0], [0, 0, 1, 1, 2, 2]),
        ("tiny", [1e-13, 1e-20, 1e-7, -1e-13, 0.0, 1.0], [0, 0, 1, 1, 2, 2]),
        ("one identity", [1.0, 1.0, 0.0, -1.0, 2.0, 0.5], [3; 6]),
        ("no partner", [1.0, 1.0, 0.0, -1.0, 2.0, 0.5], [0, 1, 2, 3, 4, 5]),
        ("large", [1e4, -1e4, 1e4, 3e3, 0.0, 1.0], [0, 0, 1, 1, 2, 2]),
    ];
    for expression in NAMES {
        for margin in [0.0, 0.3] {
            let params =
                LossParams { num_classes: 8, label_smoothing: true, margin, feat_dim: 8, ..LossParams::default() };
            let sum = LossSum::new(&format!("1*{expression}"), &params).unwrap();
            for (what, scales, classes) in &batches {
                let classes = Tensor::<1, Int>::from_ints(*classes, &device());
                let moved = sum.clone();
                let loss: Loss2 = Box::new(move |x, y| {
                    moved.clone().forward(std::slice::from_ref(&x), std::slice::from_ref(&x), y).total
                });
                let (value, gradient) = value_and_gradient(&loss, rows(scales), classes);
                assert!(value.is_finite(), "{expression}, margin {margin}, {what}: {value}");
                let largest = gradient.iter().fold(0.0f32, |a, g| if g.is_nan() { f32::NAN } else { a.max(g.abs()) });
                assert!(largest <= 1e8, "{expression}, margin {margin}, {what}: gradient {largest}");
            }
        }
    }
}

/// Worked by hand: points 0 and 1 of identity 0, and 3 of identity 1, on a line.
#[test]
fn triplets_by_hand() {
    let points = || Tensor::<2>::from_floats([[0.0], [1.0], [3.0]], &device());
    let classes = || Tensor::<1, Int>::from_ints([0, 0, 1], &device());
    // Anchor 0: 1 − 3 + 2.5; anchor 1: 1 − 2 + 2.5; anchor 2 is its own positive: 0 − 2 + 2.5.
    let hard: f32 = Triplet { margin: 2.5 }.forward(points(), classes()).into_scalar();
    assert!((hard - (0.5 + 1.5 + 0.5) / 3.0).abs() < 1e-5, "{hard}");
    // Pairs (0,1) and (1,0): in both, the negative is further than the positive.
    let semihard: f32 = TripletSemihard { margin: 2.5 }.forward(points(), classes()).into_scalar();
    assert!((semihard - (0.5 + 1.5) / 2.0).abs() < 1e-5, "{semihard}");
}

#[test]
fn a_sum_adds_weighted_items_and_keeps_the_names() {
    let golden = Golden::load("reid_losses").unwrap();
    let params =
        LossParams { num_classes: 10, label_smoothing: true, margin: 0.7, feat_dim: 64, ..LossParams::default() };
    let mut sum = LossSum::new("0.5*CrossEntropy + 0.25*MSLoss", &params).unwrap();
    let (scores, features) = (matrix(&golden, "loss.logits"), matrix(&golden, "loss.features"));
    let items = [features.clone(), features.clone(), features];
    let (total, terms) = sum.forward(&[scores.clone(), scores], &items, labels(&golden)).values();
    assert_eq!(terms.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["CrossEntropy", "MSLoss"]);
    assert!((terms[0].1 - 3.4218335).abs() < 1e-5 && (terms[1].1 - 0.75 * 0.93700754).abs() < 1e-5, "{terms:?}");
    assert!((total - terms[0].1 - terms[1].1).abs() < 1e-6, "{total}");
    assert_eq!(sum.centers(), None);
}

#[test]
fn the_centre_table_follows_every_item_and_survives_a_checkpoint() {
    let golden = Golden::load("reid_losses").unwrap();
    let center_rule = CenterRule::Sgd;
    let params = LossParams { num_classes: 10, feat_dim: 64, center_rule, seed: 7, ..LossParams::default() };
    let mut sum = LossSum::new("0.0005*CenterLoss", &params).unwrap();
    let items = [matrix(&golden, "loss.features"), matrix(&golden, "loss.features")];
    let (before, shape) = sum.centers().unwrap();
    let first = sum.forward(&[], &items, labels(&golden)).values().0;
    let (after, _) = sum.centers().unwrap();
    assert_ne!(before, after);
    assert!(sum.evaluate(&[], &items, labels(&golden)).values().0 < first);
    assert_eq!(sum.centers().unwrap().0, after, "evaluation moves nothing");

    let mean = before.iter().sum::<f32>() / before.len() as f32;
    let variance = before.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / before.len() as f32;
    assert!(mean.abs() < 0.1 && (variance - 1.0).abs() < 0.15, "N(0, 1): {mean}, {variance}");

    let mut resumed = LossSum::new("0.0005*CenterLoss", &params).unwrap();
    assert_eq!(resumed.centers().unwrap().0, before, "the seed decides");
    resumed.set_centers(after, shape).unwrap();
    let next = |sum: &mut LossSum| sum.forward(&[], &items, labels(&golden)).values();
    assert_eq!(next(&mut resumed), next(&mut sum));
    assert_eq!(resumed.centers(), sum.centers());
    let error = resumed.set_centers(vec![0.0; 6], [2, 3]).unwrap_err();
    assert!(error.to_string().contains("[2, 3]") && error.to_string().contains("[10, 64]"), "{error}");
}

#[test]
fn a_model_that_returns_nan_is_seen_in_every_term() {
    let features = Tensor::<2>::from_floats([[f32::NAN, 0.0], [1.0, 0.5], [0.0, 1.0], [0.2, 1.0]], &device());
    let classes = Tensor::<1, Int>::from_ints([0, 0, 1, 1], &device());
    for name in NAMES {
        let params = LossParams { feat_dim: 2, seed: 7, ..LossParams::default() };
        let mut sum = LossSum::new(&format!("1*{name}"), &params).unwrap();
        let items = [features.clone()];
        assert!(sum.forward(&items, &items, classes.clone()).values().0.is_nan(), "{name}");
    }
}

#[test]
fn expressions_parse_or_name_the_term() {
    let ok = |text: &str| parse(text).unwrap();
    assert_eq!(ok("0.5*CrossEntropy+0.5*MSLoss"), [("CrossEntropy", 0.5), ("MSLoss", 0.5)]);
    assert_eq!(ok("1*CrossEntropy + 1*Triplet"), [("CrossEntropy", 1.0), ("Triplet", 1.0)]);
    assert_eq!(ok("1e+3*Triplet+1E-4*CenterLoss"), [("Triplet", 1e3), ("CenterLoss", 1e-4)]);
    assert_eq!(ok("1e3*Focal+ 2.5e+1 * TripletSemihard"), [("Focal", 1e3), ("TripletSemihard", 25.0)]);
    assert_eq!(ok("+2*MSLoss"), [("MSLoss", 2.0)]);
    for (text, wanted) in [
        ("", "empty term"),
        ("1*MSLoss+", "empty term"),
        ("1*MSLoss++1*Triplet", "empty term"),
        ("CrossEntropy", "no `*` in loss term `CrossEntropy`"),
        ("CrossEntropy+0.5*MSLoss", "no `*` in loss term `CrossEntropy`"),
        ("0.5*MSLoss+0.5Triplet", "no `*` in loss term `0.5Triplet`"),
        ("x*MSLoss", "weight `x` in loss term `x*MSLoss`"),
        ("inf*MSLoss", "weight `inf`"),
        ("NaN*MSLoss", "weight `NaN`"),
        ("1e99*MSLoss", "weight `1e99`"),
        ("*MSLoss", "weight ``"),
        ("1*OSLoss", "unknown loss `OSLoss` (did you mean `MSLoss`?) in term `1*OSLoss`; known: CrossEntropy, Focal"),
        ("1*2*MSLoss", "unknown loss `2*MSLoss`"),
        ("1*MSLoss+1*MSLoss", "`MSLoss` occurs twice"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}

/// Below the expression, marks stand under the wrong part, also behind letters of several bytes.
#[test]
fn a_wrong_expression_is_marked_where_it_is_wrong() {
    for (text, marks) in [
        ("1*CrossEntropy+1*Tripel", "                 ^^^^^^"),
        ("0.5*MSLoss+0.5Triplet", "           ^^^^^^^^^^"),
        ("1*Focal + ½*MSLoss", "          ^"),
        ("½*MSLoss", "^"),
        ("1*MSLoss+ +1*Triplet", "         ^"),
        ("1*MSLoss+", "         ^"),
        ("", "^"),
        ("1*MSLoss+2*MSLoss", "           ^^^^^^"),
        ("1*Focal+1*Tripél+1*x", "          ^^^^^^"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        let mut lines = error.lines().rev();
        assert_eq!((lines.next(), lines.next()), (Some(&*format!("    {marks}")), Some(&*format!("    {text}"))));
        let at = marks.len() - marks.trim_start().len() + 1;
        assert!(error.contains(&format!("at character {at}\n")), "{error}");
    }
}

/// Five rows on a circle, worked by its definition in f64, and the gradient by differences with the weights held fixed.
#[test]
fn ranked_lists_are_those_of_the_definition() {
    let angles = [0.1_f64, 0.5, 0.9, 1.7, 2.9];
    let classes = [0, 0, 1, 1, 1];
    let loss = RankedList { margin: 0.9, boundary: 1.2, temperature: 3.0 };
    let distance = |a: f64, b: f64| (2.0 - 2.0 * (a - b).cos()).sqrt();
    // The distances that weights are taken from are those of `fixed`.
    let defined = |angles: &[f64], fixed: &[f64]| -> f64 {
        let of = |i: usize| {
            let others = (0..5).filter(|j| *j != i);
            let (same, other): (Vec<usize>, Vec<usize>) = others.partition(|j| classes[*j] == classes[i]);
            let pulls: Vec<f64> =
                same.iter().map(|j| distance(angles[i], angles[*j]) - 0.3).filter(|pull| *pull > 0.0).collect();
            let near: Vec<usize> = other.into_iter().filter(|j| distance(fixed[i], fixed[*j]) < 1.2).collect();
            let weight = |j: &usize| (3.0 * (1.2 - distance(fixed[i], fixed[*j]))).exp();
            let push = |j: &usize| weight(j) * (1.2 - distance(angles[i], angles[*j]));
            let all: f64 = near.iter().map(weight).sum();
            let pushed = if near.is_empty() { 0.0 } else { near.iter().map(push).sum::<f64>() / all };
            pulls.iter().sum::<f64>() / pulls.len().max(1) as f64 + pushed
        };
        (0..5).map(of).sum::<f64>() / 5.0
    };
    let rows: Vec<f32> = angles.iter().flat_map(|angle| [3.0 * angle.cos() as f32, 3.0 * angle.sin() as f32]).collect();
    let rows = Tensor::<2>::from_data(TensorData::new(rows, [5, 2]), &device());
    let held: Loss2 = Box::new(move |x, y| loss.forward(x, y));
    let (value, gradient) = value_and_gradient(&held, rows, Tensor::from_ints(classes, &device()));
    assert!((f64::from(value) - defined(&angles, &angles)).abs() < 1e-6, "{value}");
    for (row, angle) in angles.iter().enumerate() {
        let moved = |by: f64| {
            let mut moved = angles;
            moved[row] += by;
            defined(&moved, &angles)
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        // Along the circle; across it, the length changes nothing.
        let [x, y] = [gradient[2 * row], gradient[2 * row + 1]].map(f64::from);
        let along = 3.0 * (y * angle.cos() - x * angle.sin());
        assert!((along - slope).abs() < 1e-4, "row {row}: {along} for {slope}");
        assert!((x * angle.cos() + y * angle.sin()).abs() < 1e-5, "row {row}: {gradient:?}");
    }
}

/// Four rows on a circle, worked by hand: 0° and 60° of one identity, 90° and 180° of another.
#[test]
fn the_hardest_of_a_batch_by_hand() {
    let rows = [0.0_f32, 60.0, 90.0, 180.0].map(f32::to_radians).map(|angle| [2.0 * angle.cos(), 2.0 * angle.sin()]);
    let device = Device::flex();
    let features = Tensor::<2>::from_data(TensorData::new(rows.concat(), [4, 2]), &device);
    let classes = Tensor::<1, Int>::from_data(TensorData::new(vec![7_i64, 7, 3, 3], [4]), &device);
    let batch_hard =
        |margin| CosineTriplet { margin, mining: Mining::BatchHard }.forward_batch(features.clone(), classes.clone());
    let near = |found: Tensor<1>, expected: f32| {
        let found = found.into_scalar::<f32>();
        assert!((found - expected).abs() < 1e-5, "{found} against {expected}");
    };
    let found = batch_hard(0.7);
    near(found.positive, (0.5 + 0.5 + 1.0 + 1.0) / 4.0);
    let thirty = 1.0 - 0.75_f32.sqrt();
    near(found.negative, (1.0 + thirty + thirty + 1.5) / 4.0);
    near(found.loss, (0.2 + (1.2 - thirty) + (1.7 - thirty) + 0.2) / 4.0);
    near(found.violating, 1.0);
    // With margin 0.1, the first and the last row are far enough from their nearest negatives.
    let found = batch_hard(0.1);
    near(found.violating, 0.5);
    near(found.loss, ((0.6 - thirty) + (1.1 - thirty)) / 2.0);
    near(found.all, ((0.6 - thirty) + (1.1 - thirty)) / 4.0);
}
