//! Attention with every option.

use burn::tensor::FloatDType;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions as Options;

use super::{B, Case, F, case, floats, noise, truths};

fn tensors() -> [burn::tensor::TensorData; 3] {
    [noise("query", [2, 2, 3, 4]), noise("key", [2, 2, 5, 4]), noise("value", [2, 2, 5, 6])]
}

/// One row sees no key, one sees all.
const MASK: [u8; 15] = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0];

fn options(scale: Option<f64>, softcap: Option<f64>, is_causal: bool) -> Options {
    Options { scale, softcap, is_causal }
}

pub fn cases() -> Vec<Case> {
    let with = |extra: burn::tensor::TensorData| {
        let [query, key, value] = tensors();
        [query, key, value, extra]
    };
    let plain = |name: &str, options: Options| {
        case(name, tensors(), move |(q, k, v): (F<4>, F<4>, F<4>)| attention(q, k, v, None, None, options))
    };
    vec![
        plain("attention", options(None, None, false)),
        plain("attention with a scale and a soft cap", options(Some(2.0), Some(1.5), false)),
        plain("attention with a scale of 0, which ONNX cannot express", options(Some(0.0), None, false)),
        plain("causal attention", options(None, None, true)),
        case(
            "causal attention of more queries than keys",
            [noise("q", [1, 1, 4, 3]), noise("k", [1, 1, 2, 3]), noise("v", [1, 1, 2, 3])],
            |(q, k, v): (F<4>, F<4>, F<4>)| attention(q, k, v, None, None, options(None, None, true)),
        ),
        case(
            "attention with a mask",
            with(truths([1, 1, 3, 5], &MASK)),
            |(q, k, v, mask): (F<4>, F<4>, F<4>, B<4>)| {
                [
                    attention(q.clone(), k.clone(), v.clone(), Some(mask.clone()), None, options(None, None, false)),
                    attention(q, k, v, Some(mask), None, options(Some(0.5), None, true)),
                ]
            },
        ),
        case(
            "causal attention of fewer queries than keys, with a mask",
            with(truths([1, 1, 3, 5], &MASK)),
            |(q, k, v, mask): (F<4>, F<4>, F<4>, B<4>)| {
                let causal = || options(None, None, true);
                (
                    attention(q.clone(), k.clone(), v.clone(), None, None, causal()),
                    attention(q, k, v, Some(mask), None, causal()),
                )
            },
        ),
        case(
            "causal attention with a mask and a bias",
            [noise("q", [1, 2, 4, 3]), noise("k", [1, 2, 4, 3]), noise("v", [1, 2, 4, 3]), noise("bias", [1, 1, 4, 4])],
            |(q, k, v, bias): (F<4>, F<4>, F<4>, F<4>)| {
                let mask = bias.clone().lower_elem(-0.3);
                let causal = options(Some(0.7), Some(2.0), true);
                attention(q, k, v, Some(mask), Some(bias), causal)
            },
        ),
        case("attention in half and double precision", tensors(), |(q, k, v): (F<4>, F<4>, F<4>)| {
            let run = |dtype: FloatDType| {
                attention(
                    q.clone().cast(dtype),
                    k.clone().cast(dtype),
                    v.clone().cast(dtype),
                    None,
                    None,
                    options(None, None, false),
                )
            };
            [run(FloatDType::F16), run(FloatDType::F64)]
        })
        .within(2e-3),
        case(
            "attention with a bias",
            with(noise("bias", [2, 2, 3, 5])),
            |(q, k, v, bias): (F<4>, F<4>, F<4>, F<4>)| {
                attention(q, k, v, None, Some(bias), options(None, None, false))
            },
        ),
        case(
            "attention with a bias that masks",
            with({
                let bias = |&hidden: &u8| if hidden == 1 { f32::NEG_INFINITY } else { 0.25 };
                floats([1, 1, 3, 5], &MASK.iter().map(bias).collect::<Vec<_>>())
            }),
            |(q, k, v, bias): (F<4>, F<4>, F<4>, F<4>)| {
                attention(q, k, v, None, Some(bias), options(None, Some(3.0), true))
            },
        ),
        case(
            "attention of heads that share keys",
            [noise("q", [1, 4, 3, 2]), noise("k", [1, 2, 5, 2]), noise("v", [1, 2, 5, 3])],
            |(q, k, v): (F<4>, F<4>, F<4>)| attention(q, k, v, None, None, options(None, None, false)),
        ),
    ]
}

#[test]
fn agree() {
    super::run(cases());
}
