//! Interpolation in every mode, and sampling at given coordinates.

use burn::tensor::FloatDType;
use burn::tensor::TensorData;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{
    GridSampleOptions, GridSamplePaddingMode as Padding, InterpolateMode as Mode, InterpolateOptions,
};

use super::{Case, F, case, noise};

/// Heights and widths before and after: larger, smaller, one pixel, and sizes where f32 rounds the wrong way.
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

/// `NearestExact` by its definition, the pixel under the centre of the new one, because Burn's CPU backend lacks it.
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

/// `Bicubic` sampling by its definition: the sixteen pixels around the point, weighted by Keys' cubic with a = -0.75,
/// as in PyTorch 2.15's `grid_sample`. Burn's CPU backend lacks it. Every grid value is first multiplied by `reach`.
fn cubic(x: &TensorData, grid: &TensorData, reach: f32, padding: Padding, corners: bool) -> TensorData {
    let sizes = |data: &TensorData| <[usize; 4]>::try_from(data.shape().iter().copied().collect::<Vec<_>>()).unwrap();
    let ([batch, channels, height, width], [_, rows, columns, _]) = (sizes(x), sizes(grid));
    let (pixels, grid): (Vec<f32>, Vec<f32>) = (x.iter().collect(), grid.iter().collect());
    // First of the four pixels along an axis, and their weights.
    let around = |at: f32, size: usize| {
        let (at, size) = (f64::from(at * reach) + 1.0, size as f64);
        let place = if corners { at / 2.0 * (size - 1.0) } else { (at * size - 1.0) / 2.0 };
        let weight = |pixel: i64| {
            let (d, a) = ((place - pixel as f64).abs(), -0.75);
            if d <= 1.0 { ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0 } else { ((d - 5.0) * d + 8.0) * d * a - 4.0 * a }
        };
        let first = place.floor() as i64 - 1;
        (first, [0, 1, 2, 3].map(|step| weight(first + step)))
    };
    let inside = |pixel: i64, size: usize| {
        let last = size as i64 - 1;
        match padding {
            Padding::Zeros => (0..=last).contains(&pixel).then_some(pixel),
            Padding::Border => Some(pixel.clamp(0, last)),
            Padding::Reflection if corners => Some(last - (pixel.rem_euclid(2 * last) - last).abs()),
            Padding::Reflection => {
                let turned = pixel.rem_euclid(2 * last + 2);
                Some(turned.min(2 * last + 1 - turned))
            }
        }
    };
    let mut out = vec![];
    for (image, channel) in (0..batch).flat_map(|image| (0..channels).map(move |channel| (image, channel))) {
        let plane = &pixels[(image * channels + channel) * height * width..][..height * width];
        for place in grid[image * rows * columns * 2..][..rows * columns * 2].chunks(2) {
            let ((left, across), (top, down)) = (around(place[0], width), around(place[1], height));
            let mut sum = 0.0;
            for (dy, dx) in (0..4).flat_map(|dy| (0..4).map(move |dx| (dy, dx))) {
                let (y, x) = (inside(top + dy as i64, height), inside(left + dx as i64, width));
                let pixel = y.zip(x).map_or(0.0, |(y, x)| f64::from(plane[y as usize * width + x as usize]));
                sum += down[dy] * across[dx] * pixel;
            }
            out.push(sum as f32);
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
    for mode in [Mode::Nearest, Mode::Bilinear, Mode::Bicubic] {
        for padding in [Padding::Zeros, Padding::Border, Padding::Reflection] {
            for corners in [false, true] {
                let options =
                    GridSampleOptions::new(mode.clone()).with_padding_mode(padding).with_align_corners(corners);
                let name = format!("grid by {mode:?}, {padding:?}, corners {corners}");
                // Points beyond the border, the furthest by more than the size of the picture.
                for reach in [1.0, 1.7, 5.5] {
                    let inputs = [noise("x", [2, 3, 5, 4]), noise("grid", [2, 3, 6, 2])];
                    let expected = cubic(&inputs[0], &inputs[1], reach, padding, corners);
                    let options = options.clone();
                    let row = case(format!("{name}, reach {reach}"), inputs, move |(x, grid): (F<4>, F<4>)| {
                        x.grid_sample_2d(grid * reach, options.clone())
                    });
                    let row = if matches!(mode, Mode::Bicubic) { row.expecting([expected]) } else { row };
                    rows.push(row.within(2e-5));
                }
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
