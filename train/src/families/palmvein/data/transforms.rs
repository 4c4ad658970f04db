//! Random changes to a pair while training: the hand's position, for both pictures alike, and the light, for each
//! its own.

use image::GrayImage;
use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// Keeps the transforms' random numbers apart from those of other parts with the same seed.
const STREAM: u64 = 0x7061_6c6d_7472_616e;

/// Ranges of the random transforms.
///
/// Each picture's randomness follows from seed, epoch and place in the epoch alone: threads and resuming change
/// nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairTransforms {
    /// Largest rotation either way, in degrees.
    pub rotation: f64,
    /// Largest shift either way, as a share of each side.
    pub translation: f64,
    /// Brightness is multiplied by 1 ± this.
    pub brightness: f64,
    /// Contrast is multiplied by 1 ± this.
    pub contrast: f64,
    /// Whether both pictures of a pair are moved alike, so that their pixels stay registered.
    pub shared_geometry: bool,
    /// Seed of the run.
    pub seed: u64,
}

impl PairTransforms {
    /// What both stages train with.
    pub fn strong(seed: u64) -> Self {
        Self { rotation: 15.0, translation: 0.10, brightness: 0.3, contrast: 0.3, shared_geometry: true, seed }
    }

    /// Smaller movements, and no change of the light.
    pub fn weak(seed: u64) -> Self {
        Self { rotation: 10.0, translation: 0.05, brightness: 0.0, contrast: 0.0, shared_geometry: true, seed }
    }

    /// A random view of a picture. `place` is its row's place in the epoch, `part` tells the pictures of a row apart.
    pub(crate) fn apply(&self, picture: &GrayImage, epoch: usize, place: usize, part: u64) -> GrayImage {
        let keys = |what: u64, part: u64| Rng::new(&[STREAM, self.seed, epoch as u64, place as u64, what, part]);
        let (width, height) = picture.dimensions();
        let mut geometry = keys(0, if self.shared_geometry { 0 } else { part });
        let angle = geometry.uniform(-self.rotation, self.rotation).to_radians();
        let mut shift =
            |side: u32| (geometry.uniform(-self.translation, self.translation) * f64::from(side)).round_ties_even();
        let shift = [shift(width), shift(height)];
        let mut moved = turned(picture, angle, shift);
        let mut light = keys(1, part);
        let brightness = light.uniform(1.0 - self.brightness, 1.0 + self.brightness);
        let contrast = light.uniform(1.0 - self.contrast, 1.0 + self.contrast);
        let brighten = |picture: &mut GrayImage| level(picture, |value| value * brightness);
        let stretch = |picture: &mut GrayImage| {
            let sum: u64 = picture.as_raw().iter().map(|value| u64::from(*value)).sum();
            let mean = (sum as f64 / picture.as_raw().len().max(1) as f64 + 0.5).floor();
            level(picture, |value| mean + contrast * (value - mean));
        };
        if light.happens(0.5) {
            brighten(&mut moved);
            stretch(&mut moved);
        } else {
            stretch(&mut moved);
            brighten(&mut moved);
        }
        moved
    }
}

/// Turned about the centre, then shifted; nearest pixel, black where nothing was.
fn turned(picture: &GrayImage, angle: f64, [dx, dy]: [f64; 2]) -> GrayImage {
    let (width, height) = picture.dimensions();
    let (sin, cos) = angle.sin_cos();
    let centre = [f64::from(width) / 2.0, f64::from(height) / 2.0];
    GrayImage::from_fn(width, height, |x, y| {
        let (x, y) = (f64::from(x) + 0.5 - centre[0] - dx, f64::from(y) + 0.5 - centre[1] - dy);
        let from = [cos * x + sin * y + centre[0], cos * y - sin * x + centre[1]].map(f64::floor);
        let inside = (0.0..f64::from(width)).contains(&from[0]) && (0.0..f64::from(height)).contains(&from[1]);
        if inside { *picture.get_pixel(from[0] as u32, from[1] as u32) } else { image::Luma([0]) }
    })
}

/// Changes each grey level; 256 levels are all there are.
fn level(picture: &mut GrayImage, f: impl Fn(f64) -> f64) {
    let table: [u8; 256] = std::array::from_fn(|value| f(value as f64).clamp(0.0, 255.0) as u8);
    picture.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> GrayImage {
        GrayImage::from_fn(40, 40, |x, y| image::Luma([(60 + 2 * x + 3 * (y % 20)) as u8]))
    }

    #[test]
    fn a_pair_is_moved_alike_and_lit_apart() {
        let strong = PairTransforms::strong(3);
        let still_light = PairTransforms { brightness: 0.0, contrast: 0.0, ..strong.clone() };
        let still = PairTransforms { rotation: 0.0, translation: 0.0, ..strong.clone() };
        let view = |transforms: &PairTransforms, part| transforms.apply(&picture(), 1, 7, part);
        assert_eq!(view(&still_light, 0), view(&still_light, 1), "one geometry for both");
        assert_ne!(view(&still_light, 0), picture());
        assert_ne!(view(&still, 0), view(&still, 1), "each its own light");
        let apart = PairTransforms { shared_geometry: false, ..still_light };
        assert_ne!(view(&apart, 0), view(&apart, 1));
        let nothing = PairTransforms { rotation: 0.0, translation: 0.0, ..PairTransforms::weak(3) };
        assert_eq!(view(&nothing, 0), picture());
    }

    #[test]
    fn the_view_follows_from_seed_epoch_and_place() {
        let strong = PairTransforms::strong(3);
        let one = strong.apply(&picture(), 1, 7, 0);
        assert_eq!(one, strong.apply(&picture(), 1, 7, 0));
        assert_ne!(one, strong.apply(&picture(), 2, 7, 0));
        assert_ne!(one, strong.apply(&picture(), 1, 8, 0));
        assert_ne!(one, PairTransforms::strong(4).apply(&picture(), 1, 7, 0));
    }

    #[test]
    fn quarter_turns_and_shifts_are_exact() {
        let quarter = turned(&picture(), std::f64::consts::FRAC_PI_2, [0.0, 0.0]);
        // Clockwise on the picture: the upper left corner goes to the upper right.
        assert_eq!(quarter.get_pixel(39, 0), picture().get_pixel(0, 0));
        assert_eq!(quarter.get_pixel(39, 39), picture().get_pixel(39, 0));
        let shifted = turned(&picture(), 0.0, [3.0, -2.0]);
        assert_eq!(shifted.get_pixel(13, 8), picture().get_pixel(10, 10));
        assert_eq!(shifted.get_pixel(2, 8).0, [0]);
    }

    #[test]
    fn movements_stay_in_their_range() {
        let transforms = PairTransforms { rotation: 0.0, translation: 0.10, ..PairTransforms::weak(1) };
        let dot = GrayImage::from_fn(40, 40, |x, y| image::Luma([if (x, y) == (20, 20) { 255 } else { 0 }]));
        let mut seen = std::collections::BTreeSet::new();
        for place in 0..300 {
            let view = transforms.apply(&dot, 1, place, 0);
            let at = view.enumerate_pixels().find(|(_, _, pixel)| pixel.0[0] > 0).unwrap();
            assert!(at.0.abs_diff(20) <= 4 && at.1.abs_diff(20) <= 4);
            seen.insert(at.0);
        }
        assert_eq!(seen.len(), 9, "every shift occurs");
    }
}
