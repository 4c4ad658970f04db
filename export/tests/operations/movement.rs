//! Shapes, slices, masks, concatenation, windows.

use burn::tensor::ops::PadMode;
use burn::tensor::{FloatDType, IntDType, Tensor, s};

use super::{B, Case, F, I, case, floats, integers, noise, truths};

fn block() -> [burn::tensor::TensorData; 1] {
    [noise("block", [2, 4, 6])]
}

pub fn cases() -> Vec<Case> {
    let mut rows = vec![
        case("reshape", block(), |x: F<3>| {
            (x.clone().reshape([8, 6]), x.clone().reshape([48]), x.reshape([1, 2, 2, 12]))
        }),
        case("reshape without elements", [noise("x", [2, 0, 3])], |x: F<3>| x.reshape([3, 0, 4])),
        case("transpose", block(), |x: F<3>| {
            [x.clone().swap_dims(0, 2), x.clone().permute([2, 0, 1]), x.permute([1, 2, 0])]
        }),
        case("flip", block(), |x: F<3>| [x.clone().flip([0]), x.clone().flip([1, 2]), x.flip([0, 1, 2])]),
        case("expand", [noise("x", [1, 4, 1])], |x: F<3>| (x.clone().expand([3, 4, 5]), x.expand([2, 1, 4, 6]))),
        case("repeat", block(), |x: F<3>| [x.clone().repeat_dim(0, 3), x.clone().repeat_dim(2, 2), x.repeat_dim(1, 1)]),
        case("slices", block(), |x: F<3>| {
            vec![
                x.clone().slice(s![0..1, 1..3, ..]),
                x.clone().slice(s![.., -2.., 1..-1]),
                x.clone().slice(s![.., .., 0..6;2]),
                x.clone().slice(s![.., 1..4;2, 1..6;3]),
                x.clone().slice(s![.., .., 2..2]),
                x.slice(s![.., .., ..]),
            ]
        }),
        case("slices that walk backwards", block(), |x: F<3>| {
            vec![
                x.clone().slice(s![.., .., 1..5;-1]),
                x.clone().slice(s![.., .., 0..6;-2]),
                x.clone().slice(s![.., 0..3;-2, 2..6;-3]),
                x.slice(s![0..2;-1, .., ..]),
            ]
        }),
        case("writing into a slice", [noise("block", [2, 4, 6]), noise("part", [1, 2, 6])], |(x, v): (F<3>, F<3>)| {
            x.slice_assign(s![1..2, 1..3, ..], v)
        })
        .exact(),
        case("writing into the first and last of an axis", [noise("block", [2, 4, 6]), noise("part", [2, 1, 6])], {
            |(x, v): (F<3>, F<3>)| {
                [x.clone().slice_assign(s![.., 0..1, ..], v.clone()), x.slice_assign(s![.., 3..4, ..], v)]
            }
        })
        .exact(),
        case("writing with a step", [noise("block", [2, 4, 6]), noise("part", [2, 4, 3])], |(x, v): (F<3>, F<3>)| {
            [
                x.clone().slice_assign(s![.., .., 0..6;2], v.clone()),
                x.clone().slice_assign(s![.., .., 0..6;-2], v.clone()),
                x.slice_assign(s![.., .., 1..4;-1], v),
            ]
        })
        .exact(),
        case(
            "writing with a step on two axes",
            [noise("block", [2, 4, 6]), noise("part", [2, 2, 2])],
            |(x, v): (F<3>, F<3>)| {
                [x.clone().slice_assign(s![.., 1..4;2, 2..4], v.clone()), x.slice_assign(s![.., 0..2, 0..6;3], v)]
            },
        )
        .exact(),
        case("writing everything, and nothing", [noise("a", [2, 3]), noise("b", [2, 3]), noise("c", [2, 0])], {
            |(x, all, none): (F<2>, F<2>, F<2>)| {
                [x.clone().slice_assign(s![.., ..], all), x.slice_assign(s![.., 1..1], none)]
            }
        }),
        case("writing a number", [noise("x", [3, 4])], |x: F<2>| x.slice_fill(s![1..3, 0..4;2], 7.5)),
        case(
            "writing integers and booleans",
            [integers([2, 3], &[1, 2, 3, 4, 5, 6]), truths([2, 3], &[0, 1, 0, 1, 0, 1])],
            {
                |(i, b): (I<2>, B<2>)| {
                    let column = i.clone().slice(s![.., 0..1]);
                    let truth = b.clone().slice(s![.., 1..2]);
                    (
                        i.clone().slice_assign(s![.., 2..3], column),
                        i.clone().slice_assign(s![.., 0..3;2], i.slice(s![.., 0..2])),
                        b.clone().slice_assign(s![.., 0..1], truth),
                        b.clone().slice_assign(s![.., 0..3;2], b.slice(s![.., 0..2])),
                    )
                }
            },
        ),
        case("select", [noise("x", [3, 4]), integers([3], &[2, 0, 2])], |(x, i): (F<2>, I<1>)| {
            (x.clone().select(0, i.clone()), x.select(1, i))
        }),
        case("gather", [noise("x", [3, 4]), integers([3, 2], &[0, 3, 1, 1, 2, 0])], |(x, i): (F<2>, I<2>)| {
            x.gather(1, i)
        }),
        case("gather along the first axis", [noise("x", [3, 2]), integers([4, 2], &[0, 2, 1, 1, 2, 0, 0, 0])], {
            |(x, i): (F<2>, I<2>)| x.gather(0, i)
        }),
        case(
            "gather_nd",
            [noise("x", [3, 4, 2]), integers([2, 2], &[0, 3, 2, 1]), integers([2, 3], &[0, 3, 1, 2, 1, 0])],
            {
                |(x, rows, points): (F<3>, I<2>, I<2>)| (x.clone().gather_nd::<2, 2>(rows), x.gather_nd::<2, 1>(points))
            },
        ),
        case("gather_nd of narrow indices", [noise("x", [3, 4]), integers([2, 1], &[2, 0])], |(x, i): (F<2>, I<2>)| {
            x.gather_nd::<2, 2>(i.cast(IntDType::I32))
        }),
        case("masks", [noise("x", [2, 3]), noise("y", [2, 3]), truths([2, 3], &[0, 1, 0, 1, 1, 0])], {
            |(x, y, m): (F<2>, F<2>, B<2>)| [x.clone().mask_where(m.clone(), y), x.mask_fill(m, f32::NEG_INFINITY)]
        }),
        case(
            "masks of integers and booleans",
            [integers([4], &[1, 2, 3, 4]), truths([4], &[0, 1, 0, 1])],
            |(i, m): (I<1>, B<1>)| {
                (
                    i.clone().mask_where(m.clone(), i.clone() * 10),
                    i.mask_fill(m.clone(), -1),
                    m.clone().mask_where(m.clone(), m.clone().bool_not()),
                    m.clone().mask_fill(m, false),
                )
            },
        ),
        case("joins", [noise("a", [2, 3]), noise("b", [2, 3])], |(a, b): (F<2>, F<2>)| {
            (
                [Tensor::cat(vec![a.clone(), b.clone(), a.clone()], 0), Tensor::cat(vec![a.clone(), b.clone()], 1)],
                Tensor::stack::<3>(vec![a, b], 1),
            )
        }),
        case("joins with an empty part", [noise("a", [2, 0]), noise("b", [2, 3])], |(a, b): (F<2>, F<2>)| {
            Tensor::cat(vec![a, b], 1)
        }),
        case("windows", block(), |x: F<3>| {
            (x.clone().unfold::<4, _>(1, 2, 1), x.clone().unfold::<4, _>(2, 3, 2), x.unfold::<4, _>(0, 2, 5))
        })
        .exact(),
        case("windows of integers and booleans", [integers([5], &[1, 2, 3, 4, 5]), truths([5], &[0, 1, 1, 0, 1])], {
            |(i, b): (I<1>, B<1>)| (i.unfold::<2, _>(0, 2, 2), b.unfold::<2, _>(0, 5, 1))
        }),
        case("squeeze and unsqueeze", [noise("x", [2, 1, 3])], |x: F<3>| {
            (x.clone().squeeze_dim::<2>(1), x.unsqueeze_dim::<4>(2))
        }),
        case("triangles", [noise("x", [4, 4])], |x: F<2>| [x.clone().triu(0), x.clone().triu(1), x.tril(-1)]),
        case("roll", block(), |x: F<3>| x.roll_dim(2, 2)),
        case("padding by a number", block(), |x: F<3>| x.pad([(1, 0), (0, 2), (2, 3)], PadMode::Constant(0.5))),
        case("padding by infinity", block(), |x: F<3>| x.pad([(1, 2)], PadMode::Constant(f32::NEG_INFINITY))),
        case("padding by reflection", block(), |x: F<3>| x.pad([(1, 3), (2, 5)], PadMode::Reflect)),
        case("padding by the edge", block(), |x: F<3>| x.pad([(2, 1), (0, 4)], PadMode::Edge)),
        case("padding of integers", [integers([2, 3], &[1, 2, 3, 4, 5, 6])], |x: I<2>| {
            [x.clone().pad([(1, 1), (0, 2)], PadMode::Constant(-7.0)), x.pad([(1, 1)], PadMode::Reflect)]
        }),
        case("shapes of integers", [integers([2, 3], &[1, 2, 3, 4, 5, 6])], |x: I<2>| {
            (
                [x.clone().transpose(), x.clone().flip([1]).reshape([3, 2]), x.clone().repeat_dim(1, 2)],
                (x.clone().slice(s![.., 0..3;-2]), Tensor::cat(vec![x.clone(), x.clone()], 0)),
                x.clone().select(1, Tensor::from_ints([2, 0], &x.device())),
                x.expand([2, 2, 3]),
            )
        }),
        case("shapes of booleans", [truths([2, 3], &[0, 1, 1, 0, 0, 1])], |x: B<2>| {
            (
                [x.clone().transpose(), x.clone().flip([1]).reshape([3, 2]), x.clone().repeat_dim(1, 2)],
                (x.clone().slice(s![.., 0..3;-2]), Tensor::cat(vec![x.clone(), x.clone()], 0)),
                (x.clone().expand([2, 2, 3]), x.permute([1, 0])),
            )
        }),
    ];
    for dtype in [FloatDType::F16, FloatDType::F64] {
        rows.push(
            case(
                format!("movement in {dtype:?}"),
                [noise("x", [2, 3]), noise("v", [2, 1])],
                move |(x, v): (F<2>, F<2>)| {
                    let (x, v) = (x.cast(dtype), v.cast(dtype));
                    let mask = x.clone().greater_elem(0.0);
                    [
                        x.clone().slice_assign(s![.., 1..2], v.clone()),
                        x.clone().slice_assign(s![.., 0..3;2], Tensor::cat(vec![v.clone(), v], 1)),
                        x.clone().mask_fill(mask, 2.0),
                        x.clone().flip([1]),
                        x.clone().pad([(1, 1)], PadMode::Constant(0.5)),
                        x.repeat_dim(0, 2),
                    ]
                },
            )
            .exact(),
        );
    }
    rows.push(case("casts of the same type", [floats([2], &[1.0, 2.0])], |x: F<1>| x.cast(FloatDType::F32)));
    rows
}

#[test]
fn agree() {
    super::run(cases());
}
