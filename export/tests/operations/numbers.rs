//! Arithmetic, comparisons and clamps of floats and integers, in half and double precision too.

use burn::tensor::{FloatDType, IntDType};

use super::{Case, F, I, case, edges, floats, integers, noise};

/// Pairs of integers with every combination of signs.
const DIVIDENDS: [i64; 8] = [7, -7, 7, -7, 6, -6, 0, 1];
const DIVISORS: [i64; 8] = [3, 3, -3, -3, 3, -3, 5, -9];

/// Pairs of floats, including special values.
const LEFT: [f32; 12] = [f32::NAN, f32::INFINITY, 1.0, 2.5, -2.5, -7.0, 0.0, -0.0, 1e30, 5.0, 1.0, -3.0];
const RIGHT: [f32; 12] = [1.0, 1.0, f32::INFINITY, 2.5, 2.0, 2.0, 0.0, 3.0, 1e30, -3.0, f32::NAN, -0.5];

fn pairs() -> [burn::tensor::TensorData; 2] {
    [floats([12], &LEFT), floats([12], &RIGHT)]
}

fn whole() -> [burn::tensor::TensorData; 2] {
    [integers([8], &DIVIDENDS), integers([8], &DIVISORS)]
}

/// The four operations on two tensors of one type.
macro_rules! arithmetic {
    ($tensor:ty) => {
        |(x, y): ($tensor, $tensor)| [x.clone() + y.clone(), x.clone() - y.clone(), x.clone() * y.clone(), x / y]
    };
}

/// Every comparison of two tensors of one kind.
macro_rules! comparisons {
    ($kind:ident) => {
        |(x, y): ($kind<1>, $kind<1>)| {
            [
                x.clone().greater(y.clone()),
                x.clone().greater_equal(y.clone()),
                x.clone().lower(y.clone()),
                x.clone().lower_equal(y.clone()),
                x.clone().equal(y.clone()),
                x.not_equal(y),
            ]
        }
    };
}

/// Every comparison of a tensor with a number.
macro_rules! comparisons_with {
    ($kind:ident, $number:expr) => {
        |x: $kind<1>| {
            [
                x.clone().greater_elem($number),
                x.clone().greater_equal_elem($number),
                x.clone().lower_elem($number),
                x.clone().lower_equal_elem($number),
                x.clone().equal_elem($number),
                x.not_equal_elem($number),
            ]
        }
    };
}

pub fn cases() -> Vec<Case> {
    let mut rows = vec![
        case("add, subtract, multiply, divide", pairs(), arithmetic!(F<1>)),
        case("arithmetic with numbers", [edges()], |x: F<1>| {
            [x.clone() + 1.5, x.clone() - 0.25, x.clone() * -3.0, x / 7.0]
        }),
        case("arithmetic of integers", whole(), arithmetic!(I<1>)),
        case("arithmetic of integers with numbers", [integers([8], &DIVIDENDS)], |x: I<1>| {
            [x.clone() + 5, x.clone() - 5, x.clone() * -2, x.clone() / 2, x / -2]
        }),
        case("broadcast of every axis", [noise("a", [2, 1, 3]), noise("b", [1, 4, 1])], arithmetic!(F<3>)),
        case("arithmetic without elements", [noise("x", [2, 0, 3])], |x: F<3>| x.clone() * 2.0 + x),
        case("remainder of floats", pairs(), |(x, y): (F<1>, F<1>)| x.remainder(y)),
        case("remainder by a number", [edges()], |x: F<1>| [x.clone().remainder_scalar(0.7), x.remainder_scalar(-2.0)]),
        case("remainder of integers", whole(), |(x, y): (I<1>, I<1>)| x.remainder(y)),
        case("remainder of integers by a number", [integers([8], &DIVIDENDS)], |x: I<1>| {
            [x.clone().remainder_scalar(3), x.remainder_scalar(-3)]
        }),
        case("sign, absolute, negative", [edges()], |x: F<1>| [x.clone().abs(), -x]).exact(),
        case("sign", [floats([6], &[3.0, -0.5, 0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40])], |x: F<1>| x.sign()),
        case("sign, absolute, negative of integers", [integers([4], &[3, -3, 0, i64::from(i32::MAX)])], |x: I<1>| {
            [x.clone().sign(), x.clone().abs(), -x]
        }),
        case("comparisons", pairs(), comparisons!(F)),
        case("comparisons with a number", [edges()], comparisons_with!(F, 1.0)),
        case("comparisons of integers", whole(), comparisons!(I)),
        case("comparisons of integers with a number", [integers([8], &DIVIDENDS)], comparisons_with!(I, 6)),
        case("not a number, infinite, finite", [edges()], |x: F<1>| {
            [x.clone().is_nan(), x.clone().is_inf(), x.is_finite()]
        }),
        case("clamps", [edges()], |x: F<1>| {
            [x.clone().clamp(-0.75, 1.25), x.clone().clamp_min(-0.75), x.clamp_max(1.25)]
        }),
        case("clamps to an infinite bound", [edges()], |x: F<1>| x.clamp(f32::NEG_INFINITY, 1.0)),
        case("clamps of integers", [integers([8], &DIVIDENDS)], |x: I<1>| {
            [x.clone().clamp(-2, 3), x.clone().clamp_min(-2), x.clamp_max(3)]
        }),
        case("pairs of extremes", [noise("a", [5]), noise("b", [5])], |(x, y): (F<1>, F<1>)| {
            [x.clone().max_pair(y.clone()), x.min_pair(y)]
        }),
        case("pairs of extremes with NaN and infinities", pairs(), |(x, y): (F<1>, F<1>)| {
            [x.clone().max_pair(y.clone()), x.min_pair(y)]
        }),
        case("powers of floats", [floats([6], &[0.0, 0.5, 2.0, 9.0, 1e10, f32::INFINITY])], |x: F<1>| {
            [
                x.clone().powf_scalar(2.0),
                x.clone().powf_scalar(0.5),
                x.clone().powf_scalar(-1.0),
                x.clone().powf_scalar(1.7),
                x.clone().powi_scalar(3),
                x.powf_scalar(0.0),
            ]
        }),
        case("powers of negative numbers", [floats([4], &[-2.0, -0.5, -1.0, -3.0])], |x: F<1>| {
            [x.clone().powi_scalar(3), x.clone().powi_scalar(-1), x.clone().powi_scalar(2), x.powf_scalar(1.5)]
        }),
        case(
            "powers by tensors",
            [floats([5], &[2.0, 3.0, 0.5, 9.0, -2.0]), floats([5], &[3.0, -1.0, 2.0, 0.0, 2.0])],
            |(x, y): (F<1>, F<1>)| [x.clone().powf(y.clone()), x.powi(y)],
        ),
        case(
            "powers of integers",
            [integers([5], &[2, -3, 0, 1, 10]), integers([5], &[3, 3, 2, 9, 0])],
            |(x, y): (I<1>, I<1>)| [x.clone().powi(y), x.clone().powi_scalar(2), x.powi_scalar(3)],
        ),
        case("matrix products", [noise("a", [3, 4]), noise("b", [4, 2])], |(x, y): (F<2>, F<2>)| x.matmul(y)),
        case(
            "broadcast matrix products",
            [noise("a", [2, 1, 3, 4]), noise("b", [1, 5, 4, 2])],
            |(x, y): (F<4>, F<4>)| x.matmul(y),
        ),
        case(
            "matrix products of integers",
            [integers([2, 3], &[1, -2, 3, 4, 5, -6]), integers([3, 1], &[7, 8, -9])],
            |(x, y): (I<2>, I<2>)| x.matmul(y),
        ),
        case("filled tensors", [noise("x", [2, 3])], |x: F<2>| {
            let device = x.device();
            let empty = F::<2>::empty([2, 3], &device);
            let floats = [
                x.clone() + F::<2>::zeros([2, 3], &device),
                x.clone() * F::<2>::ones([2, 3], &device),
                x.clone() - F::<2>::full([2, 3], 2.5, &device),
                // The content of an empty tensor is undefined, so every element is replaced.
                empty.mask_where(x.clone().lower_elem(2.0), x),
            ];
            let integers =
                [I::<2>::full([2, 3], -4, &device), I::<2>::zeros([2, 3], &device), I::<2>::ones([2, 3], &device)];
            (floats, integers)
        }),
    ];
    for (name, dtype) in [("half", FloatDType::F16), ("double", FloatDType::F64)] {
        rows.push(
            case(
                format!("arithmetic in {name} precision"),
                [noise("a", [6]), noise("b", [6])],
                move |(x, y): (F<1>, F<1>)| {
                    let (x, y) = (x.cast(dtype), y.cast(dtype) + 2.0);
                    [
                        x.clone() + y.clone(),
                        x.clone() * y.clone(),
                        x.clone() / y.clone(),
                        x.clone().clamp(-0.5, 0.5),
                        x.clone().remainder(y.clone()),
                        y.powf_scalar(1.5),
                        x.full_like(0.5) - x,
                    ]
                },
            )
            .within(2e-3),
        );
        rows.push(case(
            format!("comparisons in {name} precision"),
            [noise("a", [6]), noise("b", [6])],
            move |(x, y): (F<1>, F<1>)| {
                let (x, y) = (x.cast(dtype), y.cast(dtype));
                [x.clone().greater(y.clone()), x.clone().lower_equal_elem(0.25), x.equal(y)]
            },
        ));
    }
    for dtype in [IntDType::I64, IntDType::I32, IntDType::I16, IntDType::I8, IntDType::U8, IntDType::U32, IntDType::U64]
    {
        rows.push(case(format!("arithmetic of {dtype:?}"), [integers([4], &[1, 5, 9, 100])], move |x: I<1>| {
            let x = x.cast(dtype);
            [x.clone() + 2, x.clone() - 1, x.clone() / 3, x.remainder_scalar(4)]
        }));
        rows.push(case(format!("comparisons of {dtype:?}"), [integers([4], &[1, 5, 9, 100])], move |x: I<1>| {
            let x = x.cast(dtype);
            [x.clone().greater_elem(5), x.clone().equal_elem(9), x.clone().lower_equal(x)]
        }));
    }
    for dtype in [IntDType::I16, IntDType::U8] {
        rows.push(case(format!("powers of {dtype:?}"), [integers([2, 2], &[1, 2, 3, 3])], move |x: I<2>| {
            let x = x.cast(dtype);
            [x.clone().powi(x.clone()), x.powi_scalar(3)]
        }));
    }
    rows
}

#[test]
fn agree() {
    super::run(cases());
}
