//! What people look at: sources, targets and outputs beside each other, and how the poses are spread.

use image::{Rgb, RgbImage};

use crate::families::controlnet::net::Generated;
use crate::run::engine::TaskError;
use crate::run::tensorboard::Reporter;

use super::data::HeadBatch;

/// Most samples in a panel.
pub(crate) const COLUMNS: usize = 8;

/// Samples that have a picture of their own.
const SAMPLES: usize = 4;

/// Black pixels between pictures.
const GAP: u32 = 2;

/// Pictures and poses of a few pairs.
pub struct Panels {
    /// Sources, targets, outputs.
    pictures: [Vec<RgbImage>; 3],
    target: Vec<f32>,
    source: Vec<f32>,
}

impl Panels {
    pub(crate) fn new(batch: &HeadBatch, made: Generated, size: usize) -> Self {
        let values = |data: burn::tensor::TensorData| data.try_to_vec::<f32>().expect("floats");
        let outputs = values(made.image.into_data());
        let pictures = |values: &[f32]| values.chunks_exact(3 * size * size).map(|one| picture(one, size)).collect();
        Self {
            pictures: [pictures(&batch.pixels[0]), pictures(&batch.pixels[1]), pictures(&outputs)],
            target: batch.poses[1].clone(),
            source: values(made.source_pose.into_data()),
        }
    }

    /// A row of sources, one of targets, one of outputs; as many columns as there are samples.
    pub fn comparison(&self) -> RgbImage {
        grid(&self.pictures.each_ref().map(|row| row.iter().collect()))
    }

    /// Source, target and output of one sample side by side.
    fn sample(&self, at: usize) -> RgbImage {
        grid(&[self.pictures.iter().map(|row| &row[at]).collect()])
    }

    /// Gives all to TensorBoard.
    pub(crate) fn report(&self, out: &mut Reporter) -> Result<(), TaskError> {
        out.picture("Images/Comparison", &self.comparison())?;
        for at in 0..self.pictures[0].len().min(SAMPLES) {
            out.picture(&format!("Images/Sample_{at}"), &self.sample(at))?;
        }
        let difference: Vec<f32> =
            self.target.iter().zip(&self.source).map(|(target, source)| target - source).collect();
        out.histogram("Pose/Target", &self.target);
        out.histogram("Pose/Source", &self.source);
        out.histogram("Pose/Difference", &difference);
        Ok(())
    }
}

/// Planes of values in [−1, 1] as a picture.
fn picture(planes: &[f32], size: usize) -> RgbImage {
    RgbImage::from_fn(size as u32, size as u32, |x, y| {
        let at = y as usize * size + x as usize;
        Rgb(std::array::from_fn(|c| ((planes[c * size * size + at] + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8))
    })
}

fn grid<const N: usize>(rows: &[Vec<&RgbImage>; N]) -> RgbImage {
    let (width, height) = rows[0][0].dimensions();
    let columns = rows[0].len() as u32;
    let mut all = RgbImage::new(columns * (width + GAP) - GAP, rows.len() as u32 * (height + GAP) - GAP);
    for (y, row) in rows.iter().enumerate() {
        for (x, one) in row.iter().enumerate() {
            let place = |at: usize, side: u32| i64::from(at as u32 * (side + GAP));
            image::imageops::replace(&mut all, *one, place(x, width), place(y, height));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_do_not_run_into_each_other() {
        let plain = |level: u8| RgbImage::from_pixel(3, 3, Rgb([level; 3]));
        let (a, b) = (plain(10), plain(200));
        let all = grid(&[vec![&a, &b], vec![&b, &a]]);
        assert_eq!(all.dimensions(), (8, 8));
        let level = |x, y| all.get_pixel(x, y).0[0];
        assert_eq!([level(0, 0), level(5, 0), level(0, 5), level(7, 7)], [10, 200, 200, 10]);
        assert_eq!([level(3, 0), level(4, 7), level(0, 4)], [0; 3]);
    }
}
