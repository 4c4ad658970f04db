//! Sums, extremes and their indices, sorting, cumulative functions: ties, empty and single axes, every rank and type.

use burn::tensor::{FloatDType, IntDType, TensorData};

use super::{B, Case, F, I, case, floats, integers, noise, truths};

/// Equal values along every axis.
fn ties() -> [TensorData; 1] {
    [floats([2, 6], &[1.0, 3.0, 3.0, -1.0, 3.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])]
}

fn block() -> [TensorData; 1] {
    [noise("block", [2, 3, 5])]
}

/// Rows with NaN, with infinities that cancel, and with neither.
fn unusual() -> [TensorData; 1] {
    [floats([3, 3], &[1.0, f32::NAN, -2.0, f32::INFINITY, 1.0, f32::NEG_INFINITY, 0.5, f32::INFINITY, 2.0])]
}

fn whole() -> [TensorData; 1] {
    [integers([2, 4], &[3, -1, 4, 1, -5, 9, 2, -6])]
}

pub fn cases() -> Vec<Case> {
    let mut rows = vec![
        case("sums and means", block(), |x: F<3>| {
            (
                [x.clone().sum(), x.clone().mean(), x.clone().prod()],
                [x.clone().sum_dim(0), x.clone().mean_dim(1), x.clone().prod_dim(2)],
                [x.clone().sum_dims(&[0, 2]), x.clone().mean_dims(&[1, 2]), x.prod_dims(&[0, 1])],
            )
        }),
        case("sums of one element", [noise("x", [1])], |x: F<1>| [x.clone().sum(), x.clone().mean(), x.prod()]),
        case("sums over single axes", [noise("x", [2, 1, 3])], |x: F<3>| {
            [x.clone().sum_dim(1), x.clone().mean_dim(1), x.max_dim(1)]
        }),
        case("sums over an empty axis", [noise("x", [2, 0])], |x: F<2>| [x.clone().sum_dim(1), x.prod_dim(1)]),
        case("extremes", block(), |x: F<3>| {
            (
                [x.clone().max(), x.clone().min(), x.clone().max_abs()],
                [x.clone().max_dim(0), x.clone().min_dim(1), x.clone().max_abs_dim(2)],
                [x.clone().max_dims(&[0, 2]), x.min_dims(&[1, 2])],
            )
        }),
        case(
            "extremes at infinity",
            [floats([2, 3], &[f32::INFINITY, 1.0, -2.0, f32::NEG_INFINITY, -3e38, 0.0])],
            |x: F<2>| [x.clone().max_dim(1), x.clone().min_dim(1), x.max_dim(0)],
        ),
        case("positions", block(), |x: F<3>| [x.clone().argmax(0), x.clone().argmax(2), x.argmin(1)]),
        case("positions of ties", ties(), |x: F<2>| [x.clone().argmax(1), x.clone().argmin(1), x.argmax(0)]),
        case("extremes with positions", ties(), |x: F<2>| {
            (x.clone().max_dim_with_indices(1), x.min_dim_with_indices(1))
        }),
        case("largest few", block(), |x: F<3>| (x.clone().topk(2, 2), x.clone().topk(1, 0), x.topk_with_indices(3, 1))),
        case("largest few of ties", ties(), |x: F<2>| (x.clone().topk_with_indices(4, 1), x.argtopk(3, 1))),
        case("sorting", block(), |x: F<3>| {
            (
                [x.clone().sort(2), x.clone().sort_descending(0)],
                (x.clone().sort_with_indices(1), x.clone().sort_descending_with_indices(2)),
                [x.clone().argsort(2), x.argsort_descending(1)],
            )
        }),
        case("sorting ties", ties(), |x: F<2>| (x.clone().sort_with_indices(1), x.argsort(1))),
        case("sorting single and empty axes", [noise("x", [2, 1, 0])], |x: F<3>| {
            [x.clone().sort(1), x.sort_descending(2)]
        }),
        case("cumulating", block(), |x: F<3>| {
            vec![
                x.clone().cumsum(0),
                x.clone().cumsum(2),
                x.clone().cumprod(1),
                x.clone().cumprod(2),
                x.clone().cummin(2),
                x.clone().cummax(1),
                x.cummax(2),
            ]
        }),
        case("cumulating over single axes", [noise("x", [2, 1])], |x: F<2>| {
            [x.clone().cumprod(1), x.clone().cummax(1), x.cumsum(1)]
        }),
        case(
            "cumulated extremes keep NaN and infinities",
            [floats([6], &[1.0, f32::INFINITY, -2.0, f32::NAN, 3.0, f32::NEG_INFINITY])],
            |x: F<1>| [x.clone().cummax(0), x.cummin(0)],
        ),
        case(
            "cumulated products of zeros and long axes",
            [floats([9], &[2.0, 3.0, -1.0, 0.5, 4.0, 0.0, 2.0, -5.0, 1.0])],
            |x: F<1>| [x.clone().cumprod(0), x.slice(burn::tensor::s![0..5]).cumprod(0)],
        ),
        case("integers", whole(), |x: I<2>| {
            (
                vec![x.clone().sum(), x.clone().prod(), x.clone().max(), x.clone().min(), x.clone().max_abs()],
                vec![
                    x.clone().sum_dim(0),
                    x.clone().prod_dim(1),
                    x.clone().max_dim(1),
                    x.clone().min_dim(0),
                    x.clone().max_abs_dim(1),
                ],
                vec![x.clone().argmax(1), x.clone().argmin(0), x.clone().sum_dims(&[0, 1])],
                (x.clone().topk(2, 1), x.clone().sort(1), x.clone().argsort(1), x.max_dim_with_indices(1)),
            )
        }),
        case("cumulated integers", whole(), |x: I<2>| {
            vec![x.clone().cumsum(1), x.clone().cumprod(1), x.clone().cummin(1), x.cummax(0)]
        }),
        case("means of integers", [integers([2, 2], &[3, 4, 8, 9])], |x: I<2>| (x.clone().mean(), x.mean_dim(1))),
        case("any and all", [truths([2, 3], &[0, 1, 0, 1, 1, 1])], |x: B<2>| {
            ([x.clone().any(), x.clone().all()], [x.clone().any_dim(1), x.clone().all_dim(1), x.all_dim(0)])
        }),
        case("any and all of numbers", [floats([2, 2], &[0.0, 0.25, 0.0, 0.0]), integers([2, 2], &[1, 2, 0, 3])], {
            |(x, i): (F<2>, I<2>)| {
                (
                    [x.clone().any(), x.clone().all(), i.clone().any(), i.clone().all()],
                    [x.clone().any_dim(1), x.all_dim(1), i.all_dim(1)],
                )
            }
        }),
        case("variance", block(), |x: F<3>| [x.clone().var(2), x.var_bias(0)]),
        // Extremes and orders with NaN are tested in `nan`.
        case("sums keep NaN and infinities", unusual(), |x: F<2>| {
            (
                [x.clone().sum(), x.clone().mean(), x.clone().prod()],
                [x.clone().sum_dim(1), x.clone().mean_dim(1), x.clone().prod_dim(1), x.clone().cumsum(1)],
                [x.clone().sum_dims(&[0, 1]), x.clone().cumprod(1), x.var(1)],
            )
        }),
        case("any and all see NaN", unusual(), |x: F<2>| ([x.clone().any(), x.clone().all()], x.any_dim(1))),
    ];
    // Burn's CPU backend has no mean of narrow integers; for other integers it rounds towards zero.
    let means = |x: I<2>| (x.clone().mean(), x.mean_dim(1));
    let values = || [integers([2, 3], &[3, 1, 4, 1, 5, 2])];
    rows.extend([
        case("means of I16", values(), move |x: I<2>| means(x.cast(IntDType::I16)))
            .expecting([TensorData::new(vec![2i16], [1]), TensorData::new(vec![2i16, 2], [2, 1])]),
        case("means of I8", values(), move |x: I<2>| means(x.cast(IntDType::I8)))
            .expecting([TensorData::new(vec![2i8], [1]), TensorData::new(vec![2i8, 2], [2, 1])]),
        case("means of U8", values(), move |x: I<2>| means(x.cast(IntDType::U8)))
            .expecting([TensorData::new(vec![2u8], [1]), TensorData::new(vec![2u8, 2], [2, 1])]),
    ]);
    for dtype in [FloatDType::F16, FloatDType::F64] {
        rows.push(
            case(format!("reductions in {dtype:?}"), block(), move |x: F<3>| {
                let x = x.cast(dtype);
                (
                    vec![
                        x.clone().sum_dim(2),
                        x.clone().mean_dim(1),
                        x.clone().max_dim(2),
                        x.clone().cumsum(2),
                        x.clone().cumprod(2),
                        x.clone().cummax(1),
                        x.clone().sort(2),
                    ],
                    [x.clone().argmax(2), x.argsort(1)],
                )
            })
            .within(4e-3),
        );
    }
    for dtype in [IntDType::I64, IntDType::I32] {
        rows.push(case(format!("means of {dtype:?}"), values(), move |x: I<2>| means(x.cast(dtype))));
    }
    for dtype in [IntDType::I64, IntDType::I32] {
        rows.push(case(format!("indices of {dtype:?}"), values(), move |x: I<2>| {
            let x = x.cast(dtype);
            (
                [x.clone().argmax(1), x.clone().argmin(0), x.clone().argsort(1), x.clone().argtopk(2, 1)],
                [x.clone().max_dim_with_indices(1), x.clone().min_dim_with_indices(0)],
                [x.clone().sort_with_indices(1), x.topk_with_indices(2, 1)],
            )
        }));
    }
    for dtype in [IntDType::I64, IntDType::I32, IntDType::I16, IntDType::I8, IntDType::U8] {
        rows.push(case(format!("reductions of {dtype:?}"), [integers([2, 3], &[3, 1, 4, 1, 5, 2])], move |x: I<2>| {
            let x = x.cast(dtype);
            (
                vec![x.clone().sum(), x.clone().prod(), x.clone().max(), x.clone().min()],
                vec![
                    x.clone().sum_dim(1),
                    x.clone().prod_dim(0),
                    x.clone().max_dim(1),
                    x.clone().min_dim(0),
                    x.clone().sum_dims(&[0, 1]),
                    x.clone().max_abs_dim(0),
                    x.clone().cumsum(1),
                ],
                vec![x.clone().sort(1), x.clone().topk(2, 1), x.max_abs().unsqueeze::<2>()],
            )
        }));
    }
    rows
}

#[test]
fn agree() {
    super::run(cases());
}

/// Burn records indices of narrow integers as narrow integers but computes them in 64 bits: index 200 would become -56.
#[test]
fn indices_in_too_narrow_types_are_refused() {
    let values = [integers([1, 300], &(0..300).map(|at| i64::from(at == 200)).collect::<Vec<_>>())];
    let places: [fn(I<2>) -> I<2>; 3] = [|x| x.argmax(1), |x| x.argsort(1), |x| x.argtopk(1, 1)];
    for (dtype, place) in [IntDType::I8, IntDType::U8, IntDType::I16].into_iter().zip(places) {
        let row = case("narrow indices", values.clone(), move |x: I<2>| place(x.cast(dtype)));
        let error = (row.export)(20, true).unwrap_err().to_string();
        assert!(error.contains("cast the tensor to 32-bit integers first"), "{error}");
    }
}
