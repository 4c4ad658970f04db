//! Convolutions of one to three axes, transposed and deformable ones, and patches as columns.

use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, DeformConvOptions, UnfoldOptions};
use burn::tensor::{FloatDType, module as m};

use super::{Case, F, case, noise};

pub fn cases() -> Vec<Case> {
    let one = |stride, padding, dilation, groups| ConvOptions::new([stride], [padding], [dilation], groups);
    let mut rows = vec![
        case(
            "conv1d",
            [noise("x", [2, 4, 9]), noise("w", [6, 4, 3]), noise("b", [6])],
            move |(x, w, b): (F<3>, F<3>, F<1>)| {
                [
                    m::conv1d(x.clone(), w.clone(), Some(b.clone()), one(1, 0, 1, 1)),
                    m::conv1d(x.clone(), w.clone(), None, one(2, 1, 1, 1)),
                    m::conv1d(x.clone(), w.clone(), Some(b), one(1, 2, 3, 1)),
                    m::conv1d(x, w, None, ConvOptions::new_with_padding([1], [(0, 3)], [1], 1)),
                ]
            },
        ),
        case("conv1d in groups", [noise("x", [2, 4, 9]), noise("w", [4, 1, 3]), noise("v", [6, 2, 1])], {
            move |(x, w, v): (F<3>, F<3>, F<3>)| {
                (m::conv1d(x.clone(), w, None, one(1, 1, 1, 4)), m::conv1d(x, v, None, one(3, 0, 1, 2)))
            }
        }),
        case(
            "conv2d",
            [noise("x", [2, 4, 8, 7]), noise("w", [4, 4, 3, 2]), noise("b", [4])],
            |(x, w, b): (F<4>, F<4>, F<1>)| {
                [
                    m::conv2d(x.clone(), w.clone(), Some(b), ConvOptions::new([2, 1], [1, 0], [1, 2], 1)),
                    m::conv2d(x.clone(), w.clone(), None, ConvOptions::new([1, 3], [2, 1], [2, 1], 1)),
                    m::conv2d(x, w, None, ConvOptions::new_with_padding([1, 1], [(0, 1), (2, 0)], [1, 1], 1)),
                ]
            },
        ),
        case("conv2d in groups", [noise("x", [2, 4, 6, 5]), noise("w", [8, 2, 3, 3]), noise("d", [4, 1, 3, 3])], {
            |(x, w, d): (F<4>, F<4>, F<4>)| {
                (
                    m::conv2d(x.clone(), w, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 2)),
                    m::conv2d(x, d, None, ConvOptions::new([2, 2], [1, 1], [1, 1], 4)),
                )
            }
        }),
        case(
            "conv3d",
            [noise("x", [1, 2, 5, 4, 6]), noise("w", [4, 2, 2, 3, 3]), noise("b", [4])],
            |(x, w, b): (F<5>, F<5>, F<1>)| {
                [
                    m::conv3d(x.clone(), w.clone(), Some(b), ConvOptions::new([1, 1, 2], [0, 1, 1], [1, 1, 1], 1)),
                    m::conv3d(x, w, None, ConvOptions::new([2, 1, 1], [1, 0, 2], [2, 1, 2], 1)),
                ]
            },
        ),
        case("conv3d in groups", [noise("x", [1, 2, 3, 4, 3]), noise("w", [4, 1, 2, 2, 2])], |(x, w): (F<5>, F<5>)| {
            m::conv3d(x, w, None, ConvOptions::new([1, 1, 1], [0, 0, 0], [1, 1, 1], 2))
        }),
        case(
            "transposed conv1d",
            [noise("x", [2, 4, 5]), noise("w", [4, 3, 3]), noise("b", [3])],
            |(x, w, b): (F<3>, F<3>, F<1>)| {
                [
                    m::conv_transpose1d(
                        x.clone(),
                        w.clone(),
                        Some(b),
                        ConvTransposeOptions::new([2], [1], [1], [1], 1),
                    ),
                    m::conv_transpose1d(x, w, None, ConvTransposeOptions::new([1], [0], [0], [2], 1)),
                ]
            },
        ),
        case(
            "transposed conv2d",
            [noise("x", [2, 4, 4, 3]), noise("w", [4, 3, 3, 2]), noise("b", [3])],
            |(x, w, b): (F<4>, F<4>, F<1>)| {
                [
                    m::conv_transpose2d(
                        x.clone(),
                        w.clone(),
                        Some(b),
                        ConvTransposeOptions::new([2, 3], [1, 0], [1, 2], [1, 1], 1),
                    ),
                    m::conv_transpose2d(x, w, None, ConvTransposeOptions::new([1, 1], [1, 1], [0, 0], [2, 1], 1)),
                ]
            },
        ),
        case(
            "transposed conv2d in groups",
            [noise("x", [1, 4, 3, 3]), noise("w", [4, 2, 2, 2])],
            |(x, w): (F<4>, F<4>)| {
                m::conv_transpose2d(x, w, None, ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 2))
            },
        ),
        case("transposed conv3d", [noise("x", [1, 2, 3, 2, 3]), noise("w", [2, 3, 2, 3, 2]), noise("b", [3])], {
            |(x, w, b): (F<5>, F<5>, F<1>)| {
                let options = ConvTransposeOptions::new([2, 1, 2], [0, 1, 0], [1, 0, 1], [1, 1, 1], 1);
                m::conv_transpose3d(x, w, Some(b), options)
            }
        }),
        case(
            "transposed conv3d in groups",
            [noise("x", [1, 2, 2, 2, 2]), noise("w", [2, 1, 2, 2, 2])],
            |(x, w): (F<5>, F<5>)| {
                m::conv_transpose3d(
                    x,
                    w,
                    None,
                    ConvTransposeOptions::new([1, 1, 1], [0, 0, 0], [0, 0, 0], [2, 1, 1], 2),
                )
            },
        ),
        case(
            "deformable conv2d",
            [noise("x", [2, 4, 6, 5]), noise("offset", [2, 18, 6, 5]), noise("w", [3, 4, 3, 3])],
            {
                |(x, offset, w): (F<4>, F<4>, F<4>)| {
                    m::deform_conv2d(
                        x,
                        offset * 2.0,
                        w,
                        None,
                        None,
                        DeformConvOptions::new([1, 1], [1, 1], [1, 1], 1, 1),
                    )
                }
            },
        ),
        case(
            "deformable conv2d with bias",
            [noise("x", [1, 4, 7, 6]), noise("offset", [1, 8, 2, 5]), noise("w", [3, 4, 2, 2]), noise("b", [3])],
            {
                |(x, offset, w, b): (F<4>, F<4>, F<4>, F<1>)| {
                    m::deform_conv2d(x, offset, w, None, Some(b), DeformConvOptions::new([3, 1], [0, 0], [1, 1], 1, 1))
                }
            },
        ),
        case(
            "deformable conv2d with mask and groups",
            [
                noise("x", [1, 4, 5, 5]),
                noise("offset", [1, 16, 4, 4]),
                noise("w", [4, 2, 2, 2]),
                noise("mask", [1, 8, 4, 4]),
            ],
            {
                |(x, offset, w, mask): (F<4>, F<4>, F<4>, F<4>)| {
                    m::deform_conv2d(
                        x,
                        offset * 1.5,
                        w,
                        Some(mask),
                        None,
                        DeformConvOptions::new([1, 1], [0, 0], [1, 1], 2, 2),
                    )
                }
            },
        ),
        case("patches as columns", [noise("x", [2, 3, 6, 5])], |x: F<4>| {
            (
                m::unfold4d(x.clone(), [2, 3], UnfoldOptions::new([1, 1], [0, 0], [1, 1])),
                m::unfold4d(x.clone(), [3, 2], UnfoldOptions::new([2, 1], [1, 2], [1, 2])),
                m::unfold4d(x, [1, 1], UnfoldOptions::new([1, 1], [0, 0], [1, 1])),
            )
        })
        .exact(),
    ];
    // ONNX Runtime's CPU provider has no `Conv` for f64.
    rows.push(
        case(
            "conv2d in half precision",
            [noise("x", [1, 2, 5, 5]), noise("w", [3, 2, 3, 3])],
            |(x, w): (F<4>, F<4>)| {
                let (x, w) = (x.cast(FloatDType::F16), w.cast(FloatDType::F16));
                m::conv2d(x, w, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1))
            },
        )
        .within(1e-2),
    );
    rows
}

#[test]
fn agree() {
    super::run(cases());
}
