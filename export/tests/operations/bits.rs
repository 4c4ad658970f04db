//! Booleans, bits, and casts between all types.

use burn::tensor::{FloatDType, IntDType};

use super::{B, Case, F, I, case, edges, floats, integers, truths};

const WHOLE: [IntDType; 8] = [
    IntDType::I64,
    IntDType::I32,
    IntDType::I16,
    IntDType::I8,
    IntDType::U64,
    IntDType::U32,
    IntDType::U16,
    IntDType::U8,
];

const BROKEN: [FloatDType; 4] = [FloatDType::F64, FloatDType::F32, FloatDType::F16, FloatDType::BF16];

pub fn cases() -> Vec<Case> {
    let bits = || [integers([6], &[12, -12, 0, 255, -1, 1 << 30]), integers([6], &[10, 10, 7, -256, 1, (1 << 30) + 1])];
    let mut rows = vec![
        case("logic", [truths([4], &[0, 0, 1, 1]), truths([4], &[0, 1, 0, 1])], |(a, b): (B<1>, B<1>)| {
            [
                a.clone().bool_and(b.clone()),
                a.clone().bool_or(b.clone()),
                a.clone().bool_xor(b.clone()),
                a.clone().bool_not(),
                a.clone().equal(b.clone()),
                a.not_equal(b),
            ]
        }),
        case("booleans as numbers", [truths([4], &[0, 1, 1, 0])], |x: B<1>| (x.clone().float(), x.int())),
        case("numbers as booleans", [edges(), integers([3], &[0, -2, 5])], |(x, i): (F<1>, I<1>)| (x.bool(), i.bool())),
        case("bits", bits(), |(a, b): (I<1>, I<1>)| {
            [
                a.clone().bitwise_and(b.clone()),
                a.clone().bitwise_or(b.clone()),
                a.clone().bitwise_xor(b),
                a.bitwise_not(),
            ]
        }),
        case("bits with a number", bits(), |(a, _): (I<1>, I<1>)| {
            [a.clone().bitwise_and_scalar(6), a.clone().bitwise_or_scalar(6), a.bitwise_xor_scalar(6)]
        }),
        case("shifts", [integers([6], &[1, -1, 5, -7, -1 << 31, 1 << 30]), integers([6], &[0, 1, 2, 1, 30, 3])], {
            |(a, b): (I<1>, I<1>)| {
                let (a, b) = (a.cast(IntDType::I64), b.cast(IntDType::I64));
                [a.clone().bitwise_left_shift(b.clone()), a.bitwise_right_shift(b)]
            }
        }),
        case("shifts by a number", [integers([4], &[1, -1, 5, -7])], |a: I<1>| {
            [a.clone().bitwise_left_shift_scalar(3), a.bitwise_right_shift_scalar(1)]
        }),
    ];
    for dtype in WHOLE {
        rows.push(case(format!("bits of {dtype:?}"), [integers([4], &[1, 100, 77, 127])], move |a: I<1>| {
            let a = a.cast(dtype);
            [a.clone().bitwise_and_scalar(0x55), a.bitwise_not()]
        }));
        // ONNX Runtime's CPU provider has no `Where` for 16 bits.
        if dtype != IntDType::I16 {
            rows.push(case(format!("shifts of {dtype:?}"), [integers([4], &[1, 100, 77, 127])], move |a: I<1>| {
                let a = a.cast(dtype);
                [a.clone().bitwise_left_shift_scalar(1), a.bitwise_right_shift_scalar(1)]
            }));
        }
        let signed = !matches!(dtype, IntDType::U64 | IntDType::U32 | IntDType::U16 | IntDType::U8);
        let values = if signed { [0.0, 1.9, -1.9, 100.0] } else { [0.0, 1.9, 7.2, 100.0] };
        rows.push(case(format!("floats as {dtype:?}"), [floats([4], &values)], move |x: F<1>| x.cast(dtype)));
        rows.push(case(format!("booleans as {dtype:?}"), [truths([3], &[0, 1, 1])], move |x: B<1>| x.cast(dtype)));
        for other in WHOLE {
            rows.push(case(format!("{dtype:?} as {other:?}"), [integers([3], &[0, 1, 100])], move |x: I<1>| {
                x.cast(dtype).cast(other)
            }));
        }
        for float in BROKEN {
            rows.push(case(format!("{dtype:?} as {float:?}"), [integers([3], &[0, 1, 100])], move |x: I<1>| {
                x.cast(dtype).cast(float)
            }));
        }
    }
    for from in BROKEN {
        rows.push(case(format!("booleans as {from:?}"), [truths([3], &[0, 1, 1])], move |x: B<1>| x.cast(from)));
        for to in BROKEN {
            let values = [0.0, 1.0 / 3.0, -2.5, 1000.7, f32::INFINITY, f32::NAN];
            rows.push(
                case(format!("{from:?} as {to:?}"), [floats([6], &values)], move |x: F<1>| x.cast(from).cast(to))
                    .exact(),
            );
        }
    }
    rows
}

#[test]
fn agree() {
    super::run(cases());
}
