//! Pooling over one to three axes: counted and uncounted padding, rounding up, indices, adaptive to any size.

use burn::tensor::module as m;
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

use super::{Case, F, case, floats, noise};

/// Kernel, stride, padding, dilation and size of the axis, such that windows end before, at and behind the padding.
const GEOMETRIES: [[usize; 5]; 7] = [
    [2, 2, 0, 1, 8],
    [2, 2, 0, 1, 7],
    [3, 2, 1, 1, 8],
    [3, 2, 1, 1, 9],
    [3, 3, 1, 1, 7],
    [2, 3, 0, 1, 6],
    [3, 1, 1, 2, 7],
];

pub fn cases() -> Vec<Case> {
    let mut rows = vec![];
    for [kernel, stride, padding, dilation, size] in GEOMETRIES {
        for up in [false, true] {
            let name = |what: &str| {
                format!(
                    "{what}: kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}, size {size}, \
                     up {up}"
                )
            };
            let max1 = move || {
                let options = MaxPoolOptions::new([kernel]).with_stride([stride]).with_padding([padding]);
                options.with_dilation([dilation]).with_ceil_mode(up)
            };
            let max2 = move || {
                let options = MaxPoolOptions::new([kernel, 2]).with_stride([stride, 2]).with_padding([padding, 0]);
                options.with_dilation([dilation, 1]).with_ceil_mode(up)
            };
            rows.push(case(name("largest of a line"), [noise("x", [2, 3, size])], move |x: F<3>| {
                (m::max_pool1d(x.clone(), max1()), m::max_pool1d_with_indices(x, max1()))
            }));
            rows.push(case(name("largest of a plane"), [noise("x", [2, 3, size, 5])], move |x: F<4>| {
                (m::max_pool2d(x.clone(), max2()), m::max_pool2d_with_indices(x, max2()))
            }));
            if dilation > 1 {
                continue;
            }
            for counted in [false, true] {
                let average = move |name: &str| format!("{name}, padding counted {counted}");
                let line = move || AvgPoolOptions {
                    count_include_pad: counted,
                    ceil_mode: up,
                    ..AvgPoolOptions::new([kernel]).with_stride([stride]).with_padding([padding])
                };
                let plane = move || AvgPoolOptions {
                    count_include_pad: counted,
                    ceil_mode: up,
                    ..AvgPoolOptions::new([kernel, 2]).with_stride([stride, 1]).with_padding([padding, 1])
                };
                rows.push(case(average(&name("average of a line")), [noise("x", [2, 3, size])], move |x: F<3>| {
                    m::avg_pool1d(x, line())
                }));
                rows.push(case(average(&name("average of a plane")), [noise("x", [2, 3, size, 5])], move |x: F<4>| {
                    m::avg_pool2d(x, plane())
                }));
            }
        }
    }
    for (from, to) in [(8, 1), (8, 4), (7, 3), (5, 5), (3, 7), (10, 4)] {
        let name = |axes: usize| format!("adaptive average from {from} to {to}, {axes} axes");
        rows.push(case(name(1), [noise("x", [2, 3, from])], move |x: F<3>| m::adaptive_avg_pool1d(x, to)));
        rows.push(case(name(2), [noise("x", [2, 3, from, 6])], move |x: F<4>| m::adaptive_avg_pool2d(x, [to, 4])));
        rows.push(case(name(3), [noise("x", [2, 2, from, 6, 5])], move |x: F<5>| {
            m::adaptive_avg_pool3d(x, [to, 2, 3])
        }));
    }
    rows.extend([
        case("global averages", [noise("x", [2, 3, 4, 5]), noise("y", [2, 3, 4]), noise("z", [1, 2, 3, 4, 5])], {
            |(x, y, z): (F<4>, F<3>, F<5>)| {
                (m::adaptive_avg_pool2d(x, [1, 1]), m::adaptive_avg_pool1d(y, 1), m::adaptive_avg_pool3d(z, [1, 1, 1]))
            }
        }),
        case(
            "adaptive averages that divide",
            [noise("x", [1, 2, 4, 6]), noise("z", [1, 2, 4, 4, 6])],
            |(x, z): (F<4>, F<5>)| (m::adaptive_avg_pool2d(x, [2, 3]), m::adaptive_avg_pool3d(z, [2, 4, 3])),
        ),
        case(
            "positions of ties and of minus infinity",
            [floats([1, 1, 2, 4], &[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, f32::NEG_INFINITY])],
            {
                |x: F<4>| {
                    m::max_pool2d_with_indices(x, MaxPoolOptions::new([2, 2]).with_stride([2, 2]).with_padding([0, 0]))
                }
            },
        ),
        case("poolings with uneven padding", [noise("x", [1, 2, 7, 6])], |x: F<4>| {
            let max = MaxPoolOptions::new([3, 2]).with_stride([2, 2]).with_padding_pairs([(0, 1), (1, 0)]);
            (m::max_pool2d(x.clone(), max.clone()), m::max_pool2d_with_indices(x, max))
        }),
    ]);
    rows
}

#[test]
fn agree() {
    super::run(cases());
}
