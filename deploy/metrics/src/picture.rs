//! Similarity of a generated picture to the true one.

use crate::MetricsError;

/// PSNR in dB reported for equal pictures, and the largest reported value.
pub const MAX_PSNR: f64 = 100.0;

/// Side of the window of [`ssim`], in pixels; a picture must be at least as large.
pub const SSIM_WINDOW: usize = 11;

/// Peak signal-to-noise ratio in dB, at most [`MAX_PSNR`]: 20 log₁₀ of `range` over the root mean squared difference.
/// `range` is that of the values, 2 for values in [−1, 1].
///
/// # Errors
/// If there are no values, or not the same number in both.
pub fn psnr(found: &[f32], wanted: &[f32], range: f64) -> Result<f64, MetricsError> {
    if found.is_empty() || found.len() != wanted.len() {
        return Err(MetricsError::Pictures { found: found.len(), wanted: wanted.len() });
    }
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mse = found.iter().zip(wanted).map(square).sum::<f64>() / found.len() as f64;
    Ok((20.0 * (range / mse.sqrt()).log10()).min(MAX_PSNR))
}

/// Structural similarity of two planes, Wang et al. 2004; 1 for equal planes. It is the mean over all 11×11 windows
/// inside the planes, with Gaussian weights of σ = 1.5, K₁ = 0.01, K₂ = 0.03 and population covariance. `range` is that
/// of the values, 2 for values in [−1, 1].
///
/// # Errors
/// If the planes do not have `height`·`width` values, or are smaller than a window.
pub fn ssim(found: &[f32], wanted: &[f32], [height, width]: [usize; 2], range: f64) -> Result<f64, MetricsError> {
    let size = height * width;
    if found.len() != size || wanted.len() != size {
        let (found, wanted) = (found.len(), wanted.len());
        return Err(MetricsError::Pictures { found: if found == size { wanted } else { found }, wanted: size });
    }
    if height.min(width) < SSIM_WINDOW {
        return Err(MetricsError::Window { height, width });
    }
    let weights: [f64; SSIM_WINDOW] = {
        let weight = |k: usize| (-((k as f64 - (SSIM_WINDOW / 2) as f64) / 1.5).powi(2) / 2.0).exp();
        let sum: f64 = (0..SSIM_WINDOW).map(weight).sum();
        std::array::from_fn(|k| weight(k) / sum)
    };
    // The window is the product of a row and a column.
    let [rows, columns] = [height, width].map(|side| side - SSIM_WINDOW + 1);
    let smooth = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let mut across = vec![0.0; height * columns];
        for (at, sum) in across.iter_mut().enumerate() {
            let first = at / columns * width + at % columns;
            *sum = weights.iter().enumerate().map(|(k, weight)| weight * value(first + k)).sum();
        }
        let down = |at: usize| (0..SSIM_WINDOW).map(|k| weights[k] * across[at + k * columns]).sum();
        (0..rows * columns).map(down).collect()
    };
    let (a, b) = (|at: usize| f64::from(found[at]), |at: usize| f64::from(wanted[at]));
    let (mean_a, mean_b) = (smooth(&a), smooth(&b));
    let (aa, bb) = (smooth(&|at| a(at) * a(at)), smooth(&|at| b(at) * b(at)));
    let ab = smooth(&|at| a(at) * b(at));
    let [c1, c2] = [0.01, 0.03].map(|k: f64| (k * range).powi(2));
    let similarity = |at: usize| {
        let (x, y) = (mean_a[at], mean_b[at]);
        let (var_x, var_y, cov) = (aa[at] - x * x, bb[at] - y * y, ab[at] - x * y);
        (2.0 * x * y + c1) * (2.0 * cov + c2) / ((x * x + y * y + c1) * (var_x + var_y + c2))
    };
    Ok((0..rows * columns).map(similarity).sum::<f64>() / (rows * columns) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psnr_of_a_known_error() {
        // An error of 0.1 in [0, 1] is 20 dB, as is an error of 0.2 in twice the range.
        assert!((psnr(&[0.6, 0.1], &[0.5, 0.2], 1.0).unwrap() - 20.0).abs() < 1e-5);
        assert!((psnr(&[0.2, -0.8], &[0.0, -0.6], 2.0).unwrap() - 20.0).abs() < 1e-5);
        assert_eq!(psnr(&[0.5], &[0.5], 1.0).unwrap(), MAX_PSNR);
        let error = psnr(&[0.5], &[], 1.0).unwrap_err().to_string();
        assert!(error.contains("1 values") && error.contains("0"), "{error}");
    }

    /// Computed with numpy from the definition, window by window in f64: a ramp with waves; the second picture is
    /// flatter, shifted and has chequered noise.
    #[test]
    fn ssim_is_that_of_the_definition() {
        let [height, width] = [14, 17];
        let first: Vec<f32> = (0..height * width)
            .map(|at| ((at % width) as f32 * 0.7).sin() * 0.5 + (at / width) as f32 * 0.03)
            .collect();
        let noise = |at: usize| if (at / width + at % width).is_multiple_of(2) { 0.1 } else { -0.1 };
        let second: Vec<f32> = first.iter().enumerate().map(|(at, value)| value * 0.8 + 0.1 + noise(at)).collect();
        let found = ssim(&first, &second, [height, width], 2.0).unwrap();
        assert!((found - EXPECTED).abs() < 1e-6, "{found}");
        assert!((ssim(&first, &first, [height, width], 2.0).unwrap() - 1.0).abs() < 1e-9);
        let error = ssim(&first[..170], &second[..170], [10, 17], 2.0).unwrap_err().to_string();
        assert!(error.contains("10×17") && error.contains("11"), "{error}");
    }

    const EXPECTED: f64 = 0.386_513_802_251;
}
