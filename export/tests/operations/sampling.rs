//! Interpolation in every mode, and sampling at given places.

use burn::tensor::FloatDType;
use burn::tensor::TensorData;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{
    GridSampleOptions, GridSamplePaddingMode as Padding, InterpolateMode as Mode, InterpolateOptions,
};

use super::{Case, F, case, noise};

/// Heights and widths before and after: larger, smaller, one pixel, and those where single precision rounds the wrong way.
const SIZES: [([usize; 2], [usize; 2]); 9] = [
    ([4, 5], [8, 10]),
    ([5, 6], [10, 9]),
    ([9, 8], [4, 3]),
    ([5, 7], [1, 1]),
    ([1, 1], [3, 4]),
    ([3, 7], [3, 7]),
    ([7, 6], [25, 61]),
    ([20, 14], [12, 8]),
    ([49, 11], [27, 41]),
];

/// What `NearestExact` gives by its definition, the pixel under the centre of the new one: Burn's CPU backend has it not.
fn under_the_centre(x: &TensorData, [rows, columns]: [usize; 2]) -> TensorData {
    let &[batch, channels, height, width] = x.shape().iter().copied().collect::<Vec<_>>().as_slice() else { panic!() };
    let values: Vec<f32> = x.iter::<f32>().collect();
    let under = |at: usize, from: usize, to: usize| ((2 * at + 1) * from / (2 * to)).min(from - 1);
    let mut out = vec![];
    for plane in values.chunks(height * width) {
        for row in 0..rows {
            for column in 0..columns {
                out.push(plane[under(row, height, rows) * width + under(column, width, columns)]);
            }
        }
    }
    TensorData::new(out, [batch, channels, rows, columns])
}

pub fn cases() -> Vec<Case> {
    let mut rows = vec![];
    for (from, to) in SIZES {
        let x = || noise("x", [2, 2, from[0], from[1]]);
        let modes = [
            (Mode::Nearest, false),
            (Mode::Bilinear, false),
            (Mode::Bilinear, true),
            (Mode::Bicubic, false),
            (Mode::Bicubic, true),
            (Mode::Lanczos3, false),
            (Mode::Lanczos3, true),
        ];
        for (mode, corners) in modes {
            let options = InterpolateOptions::new(mode.clone()).with_align_corners(corners).with_output_size(to);
            let name = format!("{mode:?}, corners {corners}, {from:?} to {to:?}");
            rows.push(case(name, [x()], move |x: F<4>| interpolate(x, options.clone())).within(2e-5));
        }
        let options = InterpolateOptions::new(Mode::NearestExact).with_output_size(to);
        let expected = under_the_centre(&x(), to);
        let exact =
            case(format!("NearestExact, {from:?} to {to:?}"), [x()], move |x: F<4>| interpolate(x, options.clone()));
        rows.push(exact.expecting([expected]));
    }
    for mode in [Mode::Nearest, Mode::Bilinear] {
        for padding in [Padding::Zeros, Padding::Border, Padding::Reflection] {
            for corners in [false, true] {
                let options =
                    GridSampleOptions::new(mode.clone()).with_padding_mode(padding).with_align_corners(corners);
                let name = format!("grid by {mode:?}, {padding:?}, corners {corners}");
                let inputs = [noise("x", [2, 3, 5, 4]), noise("grid", [2, 3, 6, 2])];
                rows.push(
                    case(name, inputs, move |(x, grid): (F<4>, F<4>)| x.grid_sample_2d(grid * 1.7, options.clone()))
                        .within(2e-5),
                );
            }
        }
    }
    rows.push(
        case("interpolation in half precision", [noise("x", [1, 2, 4, 4])], |x: F<4>| {
            let options = InterpolateOptions::new(Mode::Bilinear).with_align_corners(false).with_output_size([7, 8]);
            interpolate(x.cast(FloatDType::F16), options)
        })
        .within(2e-3),
    );
    rows
}

#[test]
fn agree() {
    super::run(cases());
}
