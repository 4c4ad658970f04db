//! Extremes, their indices, and orders of numbers that include NaN. ONNX's specification does not define them, so there
//! is nothing to lower them to. The results of Burn and ONNX Runtime are pinned case by case; `nan.txt` lists where
//! they differ.

use std::collections::BTreeSet;

use burn::tensor::TensorData;
use export::{Support, operation_kinds};

use super::{Case, F, case, floats, session};

const NAN: f32 = f32::NAN;

/// NaN first, in between, last, and everywhere.
const POSITIONS: [[f32; 3]; 4] = [[NAN, 2.0, 1.0], [2.0, NAN, 1.0], [2.0, 1.0, NAN], [NAN; 3]];

/// One case for each kind, named after it.
fn rows(values: [f32; 3]) -> Vec<Case> {
    let x = || [floats([1, 3], &values)];
    vec![
        case("Numeric::Max", x(), |x: F<2>| x.max()),
        case("Numeric::Min", x(), |x: F<2>| x.min()),
        case("Numeric::MaxDim", x(), |x: F<2>| x.max_dim(1)),
        case("Numeric::MinDim", x(), |x: F<2>| x.min_dim(1)),
        case("Numeric::MaxAbs", x(), |x: F<2>| x.max_abs()),
        case("Numeric::MaxAbsDim", x(), |x: F<2>| x.max_abs_dim(1)),
        case("Numeric::MaxDimWithIndices", x(), |x: F<2>| x.max_dim_with_indices(1)),
        case("Numeric::MinDimWithIndices", x(), |x: F<2>| x.min_dim_with_indices(1)),
        case("Numeric::ArgMax", x(), |x: F<2>| x.argmax(1)),
        case("Numeric::ArgMin", x(), |x: F<2>| x.argmin(1)),
        case("Numeric::TopK", x(), |x: F<2>| x.topk(2, 1)),
        case("Numeric::TopKWithIndices", x(), |x: F<2>| x.topk_with_indices(2, 1)),
        case("Numeric::ArgTopK", x(), |x: F<2>| x.argtopk(2, 1)),
        case("Numeric::Sort", x(), |x: F<2>| [x.clone().sort(1), x.sort_descending(1)]),
        case("Numeric::SortWithIndices", x(), |x: F<2>| {
            (x.clone().sort_with_indices(1), x.sort_descending_with_indices(1))
        }),
        case("Numeric::ArgSort", x(), |x: F<2>| [x.clone().argsort(1), x.argsort_descending(1)]),
        // ONNX defines these, and they agree.
        case("Numeric::CumMax", x(), |x: F<2>| x.cummax(1)),
        case("Numeric::CumMin", x(), |x: F<2>| x.cummin(1)),
        case("Numeric::ClampMin", x(), |x: F<2>| x.clamp_min(1.5)),
        case("Numeric::ClampMax", x(), |x: F<2>| x.clamp_max(1.5)),
    ]
}

fn text(outputs: &[TensorData]) -> String {
    let output = |data: &TensorData| data.iter::<f64>().map(|value| value.to_string()).collect::<Vec<_>>().join(" ");
    outputs.iter().map(output).collect::<Vec<_>>().join(", ")
}

#[test]
fn nan_is_answered_as_listed() {
    let listed: BTreeSet<&str> =
        include_str!("nan.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let (mut found, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for (values, row) in POSITIONS.into_iter().flat_map(|values| rows(values).into_iter().map(move |row| (values, row)))
    {
        for (opset, optimise) in [(17, false), (20, false), (20, true), (23, true)] {
            let model = (row.export)(opset, optimise).unwrap();
            assert!(model.operations().iter().any(|operation| operation.kind() == row.name), "{}", row.name);
            let burn = text(&model.reference(row.inputs.clone()));
            let onnx_runtime = text(&session::run(&model, &row.inputs).unwrap());
            if burn != onnx_runtime {
                let of = text(&[floats([3], &values)]);
                found.insert(format!("{} of {of}: Burn {burn}; ONNX Runtime {onnx_runtime}", row.name));
                kinds.insert(row.name.clone());
            }
        }
    }
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let new: Vec<_> = found.difference(&listed).copied().collect();
    let gone: Vec<_> = listed.difference(&found).copied().collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "missing from the list:\n{}\nno longer true:\n{}",
        new.join("\n"),
        gone.join("\n")
    );
    // The notes in the public table.
    let noted = operation_kinds()
        .filter(|kind| matches!(kind.support, Support::Lowered { note: Some(note), .. } if note.contains("NaN")));
    assert_eq!(noted.map(ToString::to_string).collect::<BTreeSet<_>>(), kinds);
}
