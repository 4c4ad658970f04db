//! Activations and normalisations.

use burn::tensor::module::{batch_norm, embedding, layer_norm, linear};
use burn::tensor::{FloatDType, activation as act};

use super::{Case, F, I, case, edges, floats, integers, noise};

fn block() -> [burn::tensor::TensorData; 1] {
    [noise("block", [2, 3, 4])]
}

pub fn cases() -> Vec<Case> {
    let statistics = || [noise("x", [2, 3, 4]), noise("gamma", [3]), noise("mean", [3])];
    let mut rows = vec![
        case("relu", [edges()], |x: F<1>| act::relu(x)),
        case("leaky relu", block(), |x: F<3>| [act::leaky_relu(x.clone(), 0.1), act::leaky_relu(x, 0.0)]),
        case("prelu with one slope", [noise("x", [2, 3, 4]), noise("a", [1])], |(x, a): (F<3>, F<1>)| act::prelu(x, a)),
        case(
            "prelu with a slope for each channel",
            [noise("x", [2, 3, 4]), noise("a", [3])],
            |(x, a): (F<3>, F<1>)| act::prelu(x, a),
        ),
        case("prelu of rows", [noise("x", [4, 3]), noise("a", [3])], |(x, a): (F<2>, F<1>)| act::prelu(x, a)),
        case("gelu", block(), |x: F<3>| [act::gelu(x.clone() * 4.0), act::gelu_approximate(x * 4.0)]),
        case("sigmoids", [floats([6], &[0.0, 1.0, -1.0, 90.0, -90.0, 0.001])], |x: F<1>| {
            [act::sigmoid(x.clone()), act::log_sigmoid(x.clone()), act::hard_sigmoid(x, 0.2, 0.5)]
        }),
        case("softmax along every axis", block(), |x: F<3>| {
            let x = x * 5.0;
            [act::softmax(x.clone(), 0), act::softmax(x.clone(), 1), act::softmax(x.clone(), 2), act::softmin(x, 1)]
        }),
        case("log softmax", block(), |x: F<3>| [act::log_softmax(x.clone() * 5.0, 2), act::log_softmax(x, 0)]),
        case(
            "softmax of large and masked scores",
            [floats([2, 3], &[1e4, -1e4, 1e4, f32::NEG_INFINITY, 0.0, 1.0])],
            |x: F<2>| [act::softmax(x.clone(), 1), act::softmin(-x, 1)],
        ),
        case("softmax of a single axis", [noise("x", [3, 1])], |x: F<2>| {
            [act::softmax(x.clone(), 1), act::log_softmax(x, 1)]
        }),
        case("composed activations", block(), |x: F<3>| {
            vec![
                act::silu(x.clone()),
                act::softplus(x.clone(), 2.0),
                act::mish(x.clone()),
                act::tanh(x.clone()),
                act::elu(x.clone(), 0.7),
                act::hard_swish(x.clone() * 5.0),
                act::relu6(x.clone() * 9.0),
                act::softsign(x.clone()),
                act::hard_shrink(x.clone(), 0.3),
                act::quiet_softmax(x, 2),
            ]
        }),
        case("gated linear unit", block(), |x: F<3>| act::glu(x, 2)),
        case("batch normalisation", statistics(), |(x, gamma, mean): (F<3>, F<1>, F<1>)| {
            let variance = gamma.clone().abs() + 0.1;
            batch_norm(x, gamma.clone(), gamma * 0.5, mean, variance, 1e-3)
        }),
        case("batch normalisation of rows", [noise("x", [4, 3]), noise("gamma", [3]), noise("mean", [3])], {
            |(x, gamma, mean): (F<2>, F<1>, F<1>)| {
                let variance = gamma.clone().abs() + 0.1;
                batch_norm(x, gamma.clone(), gamma * 0.5, mean, variance, 1e-5)
            }
        }),
        case("layer normalisation", [noise("x", [2, 3, 4]), noise("gamma", [4]), noise("beta", [4])], {
            |(x, gamma, beta): (F<3>, F<1>, F<1>)| {
                [layer_norm(x.clone(), gamma.clone(), Some(beta), 1e-5), layer_norm(x, gamma, None, 1e-2)]
            }
        }),
        case(
            "linear",
            [noise("x", [2, 3, 4]), noise("w", [4, 5]), noise("b", [5])],
            |(x, w, b): (F<3>, F<2>, F<1>)| {
                (
                    linear(x.clone(), w.clone(), Some(b.clone())),
                    linear(x.slice([0..1, 0..1, 0..4]).reshape([1, 4]), w, None),
                )
            },
        ),
        case(
            "embedding",
            [noise("table", [5, 3]), integers([2, 3], &[4, 0, 1, 1, 2, 3])],
            |(table, i): (F<2>, I<2>)| embedding(table, i),
        )
        .exact(),
    ];
    // ONNX Runtime's CPU provider has no `Erf` and no `LeakyRelu` for f64.
    for dtype in [FloatDType::F16, FloatDType::F64] {
        rows.push(
            case(format!("activations in {dtype:?}"), block(), move |x: F<3>| {
                let x = x.cast(dtype);
                vec![act::relu(x.clone()), act::sigmoid(x.clone()), act::softmax(x.clone(), 2), act::log_softmax(x, 1)]
            })
            .within(4e-3),
        );
    }
    rows.push(
        case("activations in half precision", block(), |x: F<3>| {
            let x = x.cast(FloatDType::F16);
            [act::gelu(x.clone()), act::leaky_relu(x, 0.1)]
        })
        .within(4e-3),
    );
    rows
}

#[test]
fn agree() {
    super::run(cases());
}
