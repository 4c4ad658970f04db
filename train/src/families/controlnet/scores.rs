//! How a network compares with doing nothing: copying the source, and showing everybody the mean picture.

use serde::Serialize;

use crate::run::engine::TaskError;

use super::data::HeadBatch;

/// Errors of one way over a part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Mean squared error of values in [−1, 1].
    pub mse: f64,
    /// Peak signal-to-noise ratio of that error in dB.
    pub psnr: f64,
    /// Mean structural similarity over pictures and channels.
    pub ssim: f64,
}

/// A part of the data, seen by the network and by the two simple ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Which part.
    pub part: String,
    /// Its pairs.
    pub pairs: usize,
    /// The network.
    pub network: Score,
    /// The source picture, unchanged.
    pub copy_source: Score,
    /// The mean of the training targets.
    pub mean_picture: Score,
}

#[derive(Default)]
struct Sum {
    squares: f64,
    values: usize,
    ssim: f64,
    pictures: usize,
}

impl Sum {
    fn add(&mut self, found: &[f32], wanted: &[f32], size: usize) -> Result<(), TaskError> {
        let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
        self.squares += found.iter().zip(wanted).map(square).sum::<f64>();
        self.values += found.len();
        let pictures = found.len() / (3 * size * size);
        self.ssim += ssim(found, wanted, size)? * pictures as f64;
        self.pictures += pictures;
        Ok(())
    }

    fn score(&self) -> Score {
        let mse = self.squares / self.values as f64;
        let psnr = (20.0 * (2.0 / mse.sqrt()).log10()).min(metrics::picture::MAX_PSNR);
        Score { mse, psnr, ssim: self.ssim / self.pictures as f64 }
    }
}

/// Mean over pictures and channels of values in [−1, 1], `[pictures, 3, size, size]`.
pub(crate) fn ssim(found: &[f32], wanted: &[f32], size: usize) -> Result<f64, TaskError> {
    let planes = || found.chunks_exact(size * size).zip(wanted.chunks_exact(size * size));
    let mut sum = 0.0;
    for (found, wanted) in planes() {
        sum += metrics::picture::ssim(found, wanted, [size, size], 2.0)?;
    }
    Ok(sum / planes().len() as f64)
}

/// The mean picture of the targets.
pub(crate) fn mean_target(batches: impl Iterator<Item = Result<HeadBatch, TaskError>>) -> Result<Vec<f32>, TaskError> {
    let (mut sums, mut count) = (Vec::<f64>::new(), 0.0);
    for batch in batches {
        let batch = batch?;
        let length = batch.pixels[1].len() / batch.pairs.len();
        sums.resize(length, 0.0);
        for picture in batch.pixels[1].chunks_exact(length) {
            sums.iter_mut().zip(picture).for_each(|(sum, value)| *sum += f64::from(*value));
            count += 1.0;
        }
    }
    Ok(sums.into_iter().map(|sum| (sum / count) as f32).collect())
}

pub(crate) fn score(
    part: &str,
    batches: impl Iterator<Item = Result<HeadBatch, TaskError>>,
    mean: &[f32],
    size: usize,
    generate: impl Fn(&HeadBatch) -> Vec<f32>,
) -> Result<Scores, TaskError> {
    let [mut network, mut copy, mut average] = [Sum::default(), Sum::default(), Sum::default()];
    let mut pairs = 0;
    for batch in batches {
        let batch = batch?;
        let [source, target] = &batch.pixels;
        network.add(&generate(&batch), target, size)?;
        copy.add(source, target, size)?;
        average.add(&mean.repeat(batch.pairs.len()), target, size)?;
        pairs += batch.pairs.len();
    }
    let [network, copy_source, mean_picture] = [network, copy, average].map(|sum| sum.score());
    Ok(Scores { part: part.to_owned(), pairs, network, copy_source, mean_picture })
}
