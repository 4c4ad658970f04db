//! What is random about a training picture. The deterministic part, resizing and normalising, is
//! [`contract::preprocess`]'s: one copy for training and for every later use of the network.

use contract::preprocess::{normalise, resize};
use contract::{Filter, PictureSpec};
use image::RgbImage;
use image::imageops::{crop_imm, flip_horizontal_in_place};

use crate::data::policy::{self, RandAugment};
use crate::rng::Rng;

/// Keeps the transforms' random numbers apart from those of other parts with the same seed.
const STREAM: u64 = 0x7472_616e_7366_6f72;

/// The same of what changes colours and shapes: without them the other draws are as they were.
const COLOURS: u64 = 0x636f_6c6f_7572_7300;

/// Largest changes of brightness, contrast and saturation, as shares, and of the hue, as a share of the circle: as in
/// fast-reid.
const JITTER: [f64; 4] = [0.15, 0.15, 0.1, 0.1];

/// What erased areas are filled with, per channel and **after** normalisation: near +0.5 and not a grey.
pub const FILL: [f32; 3] = [0.4914, 0.4822, 0.4465];

/// Edge of the square that [`Transforms::cutout`] blanks out, in pixels.
pub const CUTOUT: usize = 64;

/// The random part of preprocessing, in this order: flip, translation, RandAugment, colour jitter, normalisation,
/// random erasing, cutout.
///
/// Each picture's randomness follows from seed, epoch and its place in the epoch alone: threads and resuming change
/// nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Transforms {
    /// Probability of a left-right flip.
    pub flip: f64,
    /// Probability of a translation: enlarged by 1.05, then cropped at a random place.
    pub translation: f64,
    /// Operations on shapes and colours; none without.
    pub policy: Option<RandAugment>,
    /// Probability of a change of brightness, contrast, saturation and hue, in a random order.
    pub jitter: f64,
    /// Probability of random erasing (Zhong et al. 2017, arXiv:1708.04896).
    pub erasing: f64,
    /// Probability of blanking a square of [`CUTOUT`] pixels (DeVries and Taylor 2017, arXiv:1708.04552), inside the
    /// picture.
    pub cutout: f64,
    /// Seed of the run.
    pub seed: u64,
}

impl Transforms {
    /// A flip and a translation of every other picture, and nothing else.
    pub fn new(seed: u64) -> Self {
        Self { flip: 0.5, translation: 0.5, policy: None, jitter: 0.0, erasing: 0.0, cutout: 0.0, seed }
    }

    /// Writes a random view of `picture` into `out`, `[channels, height, width]` normalised values.
    ///
    /// `picture` already has the input's size; `place` is its place in the epoch, counted over all batches.
    ///
    /// # Panics
    /// If the picture has not the input's size, or `out` not its length.
    pub fn apply(&self, mut picture: RgbImage, input: &PictureSpec, epoch: usize, place: usize, out: &mut [f32]) {
        let [height, width] = input.size;
        let mut rng = Rng::new(&[STREAM, self.seed, epoch as u64, place as u64]);
        if rng.happens(self.flip) {
            flip_horizontal_in_place(&mut picture);
        }
        if rng.happens(self.translation) {
            picture = translate(&picture, input.size, &mut rng);
        }
        let mut colours = Rng::new(&[COLOURS, self.seed, epoch as u64, place as u64]);
        if let Some(policy) = self.policy {
            picture = policy.apply(picture, &mut colours);
        }
        if colours.happens(self.jitter) {
            picture = jittered(picture, &mut colours);
        }
        normalise(&picture, input, out);
        if rng.happens(self.erasing)
            && let Some(area) = erasing(&mut rng, height, width)
        {
            area.fill(out, height, width);
        }
        if rng.happens(self.cutout) && height > CUTOUT && width > CUTOUT {
            let (top, left) = (rng.below(height - CUTOUT + 1), rng.below(width - CUTOUT + 1));
            Area { top, left, height: CUTOUT, width: CUTOUT }.fill(out, height, width);
        }
    }
}

/// Brightness, contrast, saturation and hue changed by up to [`JITTER`], in a random order.
fn jittered(mut picture: RgbImage, rng: &mut Rng) -> RgbImage {
    let [brightness, contrast, saturation, hue] = JITTER.map(|most| rng.uniform(-most, most) as f32);
    let mut order = [0, 1, 2, 3];
    rng.shuffle(&mut order);
    for change in order {
        picture = match change {
            0 => policy::brightness(picture, 1.0 + brightness),
            1 => policy::contrast(picture, 1.0 + contrast),
            2 => policy::saturation(picture, 1.0 + saturation),
            _ => policy::hue(picture, hue),
        };
    }
    picture
}

/// Enlarges by 1.05 and crops the original size at a random place.
fn translate(picture: &RgbImage, [height, width]: [usize; 2], rng: &mut Rng) -> RgbImage {
    let larger = [height, width].map(|edge| (edge as f64 * 1.05).round_ties_even() as usize);
    let mut offset = |edge: usize, larger: usize| rng.uniform(0.0, (larger - edge) as f64).round_ties_even() as u32;
    let x = offset(width, larger[1]);
    let y = offset(height, larger[0]);
    let enlarged = resize(picture, larger, Filter::Bilinear);
    crop_imm(&enlarged, x, y, width as u32, height as u32).to_image()
}

/// A rectangle of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

impl Area {
    /// Fills the rectangle in each channel of `[channels, height, width]`.
    fn fill(self, out: &mut [f32], height: usize, width: usize) {
        for (plane, fill) in out.chunks_exact_mut(height * width).zip(FILL) {
            for row in plane.chunks_exact_mut(width).skip(self.top).take(self.height) {
                row[self.left..self.left + self.width].fill(fill);
            }
        }
    }
}

/// The rectangle to erase: a share of 2 to 40 % of the picture, height over width 0.3 to 1/0.3, both uniform. `None`
/// if a hundred tries gave none that is smaller than the picture.
fn erasing(rng: &mut Rng, height: usize, width: usize) -> Option<Area> {
    for _ in 0..100 {
        let area = rng.uniform(0.02, 0.4) * (height * width) as f64;
        let aspect = rng.uniform(0.3, 1.0 / 0.3);
        let rows = (area * aspect).sqrt().round_ties_even() as usize;
        let columns = (area / aspect).sqrt().round_ties_even() as usize;
        if columns < width && rows < height {
            let (top, left) = (rng.below(height - rows + 1), rng.below(width - columns + 1));
            return Some(Area { top, left, height: rows, width: columns });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(height: usize, width: usize) -> PictureSpec {
        PictureSpec::imagenet([height, width])
    }

    fn picture(height: usize, width: usize) -> RgbImage {
        RgbImage::from_fn(width as u32, height as u32, |x, y| image::Rgb([x as u8, y as u8, (x * 3 + y * 5) as u8]))
    }

    const NOTHING: Transforms =
        Transforms { flip: 0.0, translation: 0.0, policy: None, jitter: 0.0, erasing: 0.0, cutout: 0.0, seed: 1 };

    fn view(transforms: &Transforms, [height, width]: [usize; 2], epoch: usize, place: usize) -> Vec<f32> {
        let mut out = vec![0.0; 3 * height * width];
        transforms.apply(picture(height, width), &input(height, width), epoch, place, &mut out);
        out
    }

    #[test]
    fn without_chance_it_is_the_preprocessing_of_evaluation() {
        let mut expected = vec![0.0; 3 * 96 * 48];
        normalise(&picture(96, 48), &input(96, 48), &mut expected);
        assert_eq!(view(&NOTHING, [96, 48], 0, 0), expected);
        let flipped = view(&Transforms { flip: 1.0, ..NOTHING }, [96, 48], 0, 0);
        let mut back = vec![0.0; flipped.len()];
        contract::preprocess::mirror(&flipped, 48, &mut back);
        assert_eq!(back, expected);
    }

    #[test]
    fn the_view_follows_from_seed_epoch_and_place() {
        let policy = Some(RandAugment { operations: 2, magnitude: 9 });
        let transforms = Transforms { policy, jitter: 0.5, erasing: 0.9, cutout: 0.5, ..Transforms::new(1) };
        let size = [96, 80];
        let one = view(&transforms, size, 3, 17);
        assert_eq!(one, view(&transforms, size, 3, 17));
        assert_ne!(one, view(&transforms, size, 4, 17));
        assert_ne!(one, view(&transforms, size, 3, 18));
        assert_ne!(one, view(&Transforms { seed: 2, ..transforms }, size, 3, 17));
    }

    #[test]
    fn flips_translations_and_jitter_happen_half_the_time() {
        let plain = view(&NOTHING, [32, 32], 0, 0);
        for transforms in [
            Transforms { flip: 0.5, ..NOTHING },
            Transforms { translation: 0.5, ..NOTHING },
            Transforms { jitter: 0.5, ..NOTHING },
        ] {
            let changed = (0..1_000).filter(|place| view(&transforms, [32, 32], 0, *place) != plain).count();
            // Standard deviation 16; five of them.
            assert!(changed.abs_diff(500) < 80, "{changed} of 1000: {transforms:?}");
        }
    }

    /// Colours have draws of their own: the same flips, translations and erased areas with them and without.
    #[test]
    fn colours_leave_the_other_draws_alone() {
        let plain = Transforms { erasing: 0.5, ..Transforms::new(1) };
        let policy = Some(RandAugment { operations: 1, magnitude: 0 });
        let coloured = Transforms { policy, jitter: 1.0, ..plain.clone() };
        let erased = |view: &[f32]| (0..view.len()).filter(|at| view[*at] == FILL[at / (64 * 48)]).collect::<Vec<_>>();
        for place in 0..100 {
            let [plain, coloured] = [&plain, &coloured].map(|transforms| view(transforms, [64, 48], 1, place));
            assert_ne!(plain, coloured);
            assert_eq!(erased(&plain), erased(&coloured), "{place}");
        }
    }

    #[test]
    fn jitter_stays_within_its_strength() {
        let grey = RgbImage::from_pixel(8, 8, image::Rgb([100; 3]));
        let mut found = Vec::new();
        for place in 0..500 {
            let view = jittered(grey.clone(), &mut Rng::new(&[place]));
            // Grey stays grey, and only its brightness changes: 85 to 115.
            let [red, green, blue] = view.get_pixel(3, 3).0;
            assert!(red == green && green == blue && (85..=115).contains(&red), "{red} {green} {blue}");
            found.push(red);
        }
        assert!(found.contains(&86) && found.contains(&114), "{found:?}");
    }

    /// 384×128 becomes 403×134: every offset of 0..=6 and 0..=19 occurs, those at the ends half as often.
    #[test]
    fn translations_cover_every_offset() {
        // A ramp one level steep: values near a corner tell the offset.
        let picture = RgbImage::from_fn(128, 384, |x, y| image::Rgb([2 * x as u8, (y / 2) as u8, 0]));
        let enlarged = resize(&picture, [403, 134], Filter::Bilinear);
        let mut across = [0_usize; 7];
        let mut down = [0_usize; 20];
        for place in 0..400 {
            let mut rng = Rng::new(&[9, place]);
            let view = translate(&picture, [384, 128], &mut rng);
            assert_eq!(view.dimensions(), (128, 384));
            let fits = |x: u32, y: u32| {
                (0..128).step_by(9).all(|d| view.get_pixel(d, 3 * d) == enlarged.get_pixel(x + d, y + 3 * d))
            };
            let matches: Vec<_> =
                (0..7).flat_map(|x| (0..20).map(move |y| (x, y))).filter(|(x, y)| fits(*x, *y)).collect();
            assert!(!matches.is_empty(), "a crop of the enlarged picture");
            across[matches[0].0 as usize] += 1;
            down[matches[0].1 as usize] += 1;
        }
        assert!(across.iter().all(|count| *count > 10), "{across:?}");
        assert!(across[3] > across[0] && across[3] > across[6], "{across:?}");
        assert!(down.iter().filter(|count| **count > 0).count() >= 15, "{down:?}");
    }

    #[test]
    fn erased_areas_have_the_published_distribution() {
        let (height, width) = (384, 128);
        let mut rng = Rng::new(&[5]);
        let areas: Vec<Area> = (0..20_000).map(|_| erasing(&mut rng, height, width).unwrap()).collect();
        let mut tops = [false; 4];
        for area in &areas {
            assert!(area.height < height && area.width < width);
            assert!(area.top + area.height <= height && area.left + area.width <= width);
            let share = (area.height * area.width) as f64 / (height * width) as f64;
            assert!((0.018..0.405).contains(&share), "{area:?}");
            let aspect = area.height as f64 / area.width as f64;
            assert!((0.28..3.5).contains(&aspect), "{area:?}");
            tops[area.top * 4 / height] = true;
        }
        assert_eq!(tops, [true; 4]);
        // Only what is narrower than the picture is taken, which favours tall and small areas; the same rule in
        // Python with 2,000,000 draws of its own generator gives these means.
        let mean = |value: &dyn Fn(&Area) -> f64| areas.iter().map(value).sum::<f64>() / areas.len() as f64;
        let share = mean(&|area| (area.height * area.width) as f64 / (height * width) as f64);
        let aspect = mean(&|area| area.height as f64 / area.width as f64);
        assert!((share - SHARE).abs() < 0.004, "{share}");
        assert!((aspect - ASPECT).abs() < 0.03, "{aspect}");
    }

    #[test]
    fn erasing_happens_as_often_as_asked_and_fills_all_channels() {
        let size = [64, 48];
        let plain = view(&NOTHING, size, 0, 0);
        let transforms = Transforms { erasing: 0.3, ..NOTHING };
        let mut erased = 0;
        for place in 0..1_000 {
            let view = view(&transforms, size, 1, place);
            let changed: Vec<usize> = (0..view.len()).filter(|at| view[*at] != plain[*at]).collect();
            erased += usize::from(!changed.is_empty());
            assert!(changed.iter().all(|at| view[*at] == FILL[at / (64 * 48)]));
        }
        assert!(erased.abs_diff(300) < 75, "{erased} of 1000");
    }

    #[test]
    fn cutout_is_a_square_inside_a_larger_picture() {
        let transforms = Transforms { cutout: 1.0, ..NOTHING };
        for place in 0..100 {
            let view = view(&transforms, [96, 80], 0, place);
            for (channel, plane) in view.chunks(96 * 80).enumerate() {
                // The ramp has no value equal to the fill.
                assert_eq!(plane.iter().filter(|value| **value == FILL[channel]).count(), CUTOUT * CUTOUT);
            }
        }
        for size in [[96, 64], [64, 80]] {
            assert_eq!(view(&transforms, size, 0, 0), view(&NOTHING, size, 0, 0), "not larger than the square");
        }
    }

    const SHARE: f64 = 0.1978;
    const ASPECT: f64 = 1.9799;
}
