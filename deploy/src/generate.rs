//! Draws the face of a picture in other poses.

use std::path::Path;

use contract::preprocess::{decode_as, normalise, resize};
use contract::{Colour, InputSpec, PictureSpec};
use image::{Rgb, RgbImage};

use crate::DeployError;
use crate::runtime::Model;

/// Poses per run of the network.
const BATCH: usize = 16;

/// Milliseconds per picture of an animation.
const FRAME_MS: u16 = 120;

/// A model that draws.
#[derive(Debug)]
pub struct Generator<'a> {
    model: &'a Model,
    picture: &'a PictureSpec,
    output: &'a str,
    range: [f32; 2],
    angles: usize,
    size: [usize; 2],
}

impl<'a> Generator<'a> {
    /// The model as one that draws: a picture and a pose in, a picture out.
    ///
    /// # Errors
    /// [`DeployError::Task`] if it does something else.
    pub fn new(model: &'a Model) -> Result<Self, DeployError> {
        let lacks = |problem: &str| model.lacks("draw faces in a pose", problem);
        let [InputSpec { picture: Some(picture), .. }, pose @ InputSpec { picture: None, .. }] =
            model.contract.input.as_slice()
        else {
            let names = model.contract.input.iter().map(|input| format!("`{}`", input.name)).collect::<Vec<_>>();
            return Err(lacks(&format!("its inputs are {}; a picture and a pose are needed", names.join(", "))));
        };
        let Some(&[angles]) = pose.row().as_deref() else {
            return Err(lacks("the pose has no fixed number of angles"));
        };
        let output = model.contract.output.iter().find_map(|output| Some((output, output.picture.as_ref()?)));
        let Some((output, drawn)) = output else { return Err(lacks("no output is a picture")) };
        let row: Option<Vec<usize>> = output
            .shape
            .iter()
            .skip(1)
            .map(|axis| match axis {
                contract::Axis::Size(size) => Some(*size),
                contract::Axis::Symbol(_) => None,
            })
            .collect();
        let Some(&[3, height, width]) = row.as_deref() else { return Err(lacks("its picture has no fixed size")) };
        let [black, white] = drawn.range;
        if drawn.colour != Colour::Rgb || black.partial_cmp(&white) != Some(std::cmp::Ordering::Less) {
            return Err(lacks("its picture is not RGB from a smaller to a larger value"));
        }
        Ok(Self { model, picture, output: &output.name, range: drawn.range, angles, size: [height, width] })
    }

    /// Angles of a pose.
    pub fn angles(&self) -> usize {
        self.angles
    }

    /// The face of the picture at `source` in each of `poses`, in degrees.
    ///
    /// # Errors
    /// If the picture cannot be read, a pose has another number of angles, or the model fails.
    pub fn generate(&self, source: &Path, poses: &[Vec<f32>]) -> Result<Vec<RgbImage>, DeployError> {
        let picture = decode_as(source, self.picture.orientation);
        let picture = picture.map_err(|source| DeployError::NoneReadable { of: 1, source })?;
        let picture = resize(&picture, self.picture.size, self.picture.filter);
        let [height, width] = self.picture.size;
        let mut row = vec![0.0; self.picture.colour.channels() * height * width];
        normalise(&picture, self.picture, &mut row);
        if let Some(pose) = poses.iter().find(|pose| pose.len() != self.angles) {
            return Err(DeployError::Pose { found: pose.len(), needed: self.angles });
        }
        let mut drawn = Vec::with_capacity(poses.len());
        for poses in poses.chunks(BATCH) {
            let inputs = [row.repeat(poses.len()), poses.concat()];
            let inputs = inputs.each_ref().map(Vec::as_slice);
            let mut outputs = self.model.run(&inputs, poses.len(), Some(self.output))?;
            let (_, values) = outputs.remove(self.output).unwrap_or_default();
            if !values.iter().all(|value| value.is_finite()) {
                return Err(DeployError::NotFinite { path: source.to_owned() });
            }
            let plane = self.size[0] * self.size[1];
            drawn.extend(values.chunks_exact(3 * plane).map(|values| self.picture(values)));
        }
        Ok(drawn)
    }

    fn picture(&self, values: &[f32]) -> RgbImage {
        let ([black, white], [height, width]) = (self.range, self.size);
        let level = |value: f32| ((value - black) / (white - black) * 255.0).round().clamp(0.0, 255.0) as u8;
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = y as usize * width + x as usize;
            Rgb(std::array::from_fn(|channel| level(values[channel * height * width + at])))
        })
    }
}

/// Pictures of one size one after another, to the last and back again, as an animated PNG that repeats.
///
/// # Errors
/// If they cannot be compressed: there is none, or their sizes differ.
pub fn animation(pictures: &[RgbImage]) -> Result<Vec<u8>, png::EncodingError> {
    let (width, height) = pictures.first().map_or((0, 0), RgbImage::dimensions);
    // The way back without both ends, which would otherwise be shown twice.
    let back = pictures.iter().rev().skip(1).take(pictures.len().saturating_sub(2));
    let frames: Vec<&RgbImage> = pictures.iter().chain(back).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_animated(frames.len() as u32, 0)?;
    encoder.set_frame_delay(FRAME_MS, 1000)?;
    let mut writer = encoder.write_header()?;
    frames.into_iter().try_for_each(|frame| writer.write_image_data(frame.as_raw()))?;
    writer.finish()?;
    Ok(bytes)
}

/// Pictures of one size side by side.
pub fn strip(pictures: &[RgbImage]) -> RgbImage {
    let (width, height) = pictures.first().map_or((0, 0), RgbImage::dimensions);
    let mut all = RgbImage::new(width * pictures.len() as u32, height);
    for (at, picture) in pictures.iter().enumerate() {
        image::imageops::replace(&mut all, picture, i64::from(width) * at as i64, 0);
    }
    all
}
