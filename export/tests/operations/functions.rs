//! Elementary functions of floats, including special values.

use burn::tensor::{FloatDType, TensorData};

use super::{Case, F, case, edges, floats, noise};

/// Every pair of positive and negative numbers, zeros, infinities and a NaN.
fn quarters() -> [TensorData; 2] {
    const ENDS: [f32; 8] = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, 3e-38, -2.5];
    let y: Vec<f32> = ENDS.iter().flat_map(|&y| [y; 8]).chain([f32::NAN, 1.0]).collect();
    let x: Vec<f32> = ENDS.iter().cycle().take(64).copied().chain([1.0, f32::NAN]).collect();
    [floats([66], &y), floats([66], &x)]
}

fn unit() -> TensorData {
    floats([7], &[-1.0, -0.75, -1e-4, 0.0, 0.3, 0.999, 1.0])
}

pub fn cases() -> Vec<Case> {
    let mut rows = vec![
        case("exponential and logarithm", [edges()], |x: F<1>| [x.clone().exp(), x.log()]),
        case(
            "log1p keeps small numbers",
            [floats([9], &[1e-20, -1e-10, 1e-5, 0.0, 0.49, -0.5, 3e38, f32::INFINITY, -1.0])],
            |x: F<1>| x.clone().log1p() / x.abs().clamp_min(1e-30),
        ),
        case("error function", [noise("x", [9])], |x: F<1>| (x * 3.0).erf()),
        case("square root and reciprocal", [edges()], |x: F<1>| [x.clone().sqrt(), x.recip()]),
        case("trigonometry", [noise("x", [9])], |x: F<1>| {
            let x = x * 1.5;
            [x.clone().sin(), x.clone().cos(), x.tan()]
        }),
        case("hyperbolic", [noise("x", [9])], |x: F<1>| {
            let x = x * 3.0;
            [x.clone().sinh(), x.clone().cosh(), x.tanh()]
        }),
        case("inverse trigonometry", [unit()], |x: F<1>| [x.clone().asin(), x.clone().acos(), x.atan()]),
        case("inverse hyperbolic", [unit()], |x: F<1>| {
            [x.clone().asinh(), (x.clone() + 2.0).acosh(), (x * 0.9).atanh()]
        }),
        case(
            "rounding",
            [floats([10], &[0.5, 1.5, 2.5, -0.5, -1.5, -0.2, 1e9, f32::INFINITY, f32::NAN, -0.0])],
            |x: F<1>| [x.clone().round(), x.clone().floor(), x.clone().ceil(), x.trunc()],
        ),
        case("truncation", [edges()], |x: F<1>| x.trunc()),
        case("atan2 in every quarter", quarters(), |(y, x): (F<1>, F<1>)| y.atan2(x)),
        case("atan2 broadcasts", [noise("y", [3, 1]), noise("x", [1, 4])], |(y, x): (F<2>, F<2>)| y.atan2(x)),
        case(
            "hypot neither overflows nor vanishes",
            [floats([4], &[3.0, 1e30, 1e-30, 0.0]), floats([4], &[4.0, 1e30, 1e-30, 0.0])],
            |(x, y): (F<1>, F<1>)| x.hypot(y) / 1e10,
        ),
        case("cross product", [noise("a", [4, 3]), noise("b", [4, 3])], |(a, b): (F<2>, F<2>)| a.cross(b, 1)),
        case(
            "cross product along the first axis",
            [noise("a", [3, 2, 4]), noise("b", [3, 2, 4])],
            |(a, b): (F<3>, F<3>)| a.cross(b, 0),
        ),
        case("functions without elements", [noise("x", [0, 3])], |x: F<2>| {
            [x.clone().exp(), x.clone().trunc(), x.log1p()]
        }),
    ];
    rows.push(
        case("atan2 in half precision", [noise("y", [7]), noise("x", [7])], |(y, x): (F<1>, F<1>)| {
            y.cast(FloatDType::F16).atan2(x.cast(FloatDType::F16))
        })
        .within(4e-3),
    );
    for (name, dtype) in [("half", FloatDType::F16), ("double", FloatDType::F64)] {
        rows.push(
            case(
                format!("functions in {name} precision"),
                [noise("x", [7]), noise("y", [7])],
                move |(x, y): (F<1>, F<1>)| {
                    let (x, y) = (x.cast(dtype), y.cast(dtype));
                    [
                        x.clone().exp(),
                        x.clone().abs().sqrt(),
                        x.clone().sin(),
                        x.clone().tanh(),
                        (x.clone() * 5.0).trunc(),
                        x.clone().abs().log1p(),
                        x.hypot(y),
                    ]
                },
            )
            .within(4e-3),
        );
    }
    rows
}

#[test]
fn agree() {
    super::run(cases());
}
