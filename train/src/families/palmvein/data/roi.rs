//! Where the palm is on the picture of a whole hand: threshold, largest region, contour, finger valleys, aligned
//! square.
//!
//! The square hangs on the valleys between index and middle finger and between ring and little finger, as in Zhang et
//! al. 2003 (*Online palmprint identification*): it turns and scales with the hand.

use image::{GrayImage, Luma, Rgb, RgbImage};

/// Longest side of the picture the hand is looked for on, in pixels.
const LOOK: u32 = 320;

/// A square of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Square {
    /// Centre in pixels, from the left and top edge.
    pub centre: [f32; 2],
    /// Length of a side in pixels.
    pub side: f32,
    /// Radians that its upper edge is turned by, clockwise on the picture; fingers are above.
    pub angle: f32,
}

/// How the square hangs on the valleys, in units of the distance between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hang {
    /// Length of a side.
    pub side: f32,
    /// From the line through the valleys to the centre.
    pub offset: f32,
}

impl Default for Hang {
    fn default() -> Self {
        Self { side: 1.62, offset: 1.05 }
    }
}

/// Why no palm was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RoiError {
    /// The largest bright region is too small or too large to be a hand.
    #[error("the largest bright region takes {percent:.1} % of the picture; a hand on a dark ground takes 5 to 80 %")]
    NoHand {
        /// Share of the picture in percent.
        percent: f32,
    },
    /// The contour has not the fingers of a hand.
    #[error("{found} fingers stand out; 4 or 5 are needed, spread apart")]
    Fingers {
        /// How many.
        found: usize,
    },
}

/// Finds the palm's square on a picture of a whole hand, bright on a dark ground, at any angle; the arm reaches the
/// picture's edge.
///
/// # Errors
/// See [`RoiError`].
pub fn find(picture: &GrayImage, hang: Hang) -> Result<Square, RoiError> {
    let (width, height) = picture.dimensions();
    let shrink = (width.max(height) as f32 / LOOK as f32).max(1.0);
    let small = match shrink > 1.0 {
        true => {
            let size = [width, height].map(|side| ((side as f32 / shrink).round() as u32).max(1));
            image::imageops::resize(picture, size[0], size[1], image::imageops::FilterType::Triangle)
        }
        false => picture.clone(),
    };
    let small = image::imageops::blur(&small, 1.0);
    let hand = largest_region(&small, otsu(&small));
    let share = hand.count as f32 / (small.width() * small.height()).max(1) as f32;
    if !(0.05..0.80).contains(&share) {
        return Err(RoiError::NoHand { percent: 100.0 * share });
    }
    let (centre, radius) = hand.deepest();
    let contour = hand.contour();
    let [a, b] = valleys(&contour, &hand, centre, radius)?;
    // The fingers point away from the palm's centre; the square's upper edge runs along the valleys.
    let middle = [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    let (mut dx, mut dy) = (b[0] - a[0], b[1] - a[1]);
    let gap = (dx * dx + dy * dy).sqrt();
    if dx * (centre[1] - middle[1]) - dy * (centre[0] - middle[0]) < 0.0 {
        (dx, dy) = (-dx, -dy);
    }
    let inwards = [-dy / gap, dx / gap];
    let at = [0, 1].map(|axis| (middle[axis] + hang.offset * gap * inwards[axis] + 0.5) * shrink);
    Ok(Square { centre: at, side: hang.side * gap * shrink, angle: dy.atan2(dx) })
}

/// The square's content upright, `size`×`size`; black where it leaves the picture. Each pixel is the mean of bilinear
/// samples no more than a pixel of the picture apart, so that lines finer than the result's pixels turn grey instead
/// of into other lines. `scale` is how much larger this picture is than the one the square was found on.
pub fn crop(picture: &GrayImage, square: &Square, size: u32, scale: [f32; 2]) -> GrayImage {
    let (sin, cos) = square.angle.sin_cos();
    let value = |x: i64, y: i64| -> f32 {
        let inside = x >= 0 && y >= 0 && x < i64::from(picture.width()) && y < i64::from(picture.height());
        if inside { f32::from(picture.get_pixel(x as u32, y as u32).0[0]) } else { 0.0 }
    };
    let sample = |[u, v]: [f32; 2]| -> f32 {
        let at = [
            (square.centre[0] + cos * u - sin * v) * scale[0] - 0.5,
            (square.centre[1] + sin * u + cos * v) * scale[1] - 0.5,
        ];
        let [fx, fy] = at.map(|a| a - a.floor());
        let [x, y] = at.map(|a| a.floor() as i64);
        let top = value(x, y) * (1.0 - fx) + value(x + 1, y) * fx;
        let bottom = value(x, y + 1) * (1.0 - fx) + value(x + 1, y + 1) * fx;
        top * (1.0 - fy) + bottom * fy
    };
    let parts = (square.side * scale[0].max(scale[1]) / size as f32).ceil().max(1.0) as u32;
    let place = |i: u32, part: u32| {
        let within = (part as f32 + 0.5) / parts as f32;
        ((i as f32 + within) / size as f32 - 0.5) * square.side
    };
    GrayImage::from_fn(size, size, |x, y| {
        let pairs = (0..parts).flat_map(|down| (0..parts).map(move |across| (across, down)));
        let sum: f32 = pairs.map(|(across, down)| sample([place(x, across), place(y, down)])).sum();
        Luma([(sum / (parts * parts) as f32 + 0.5) as u8])
    })
}

/// The picture shrunk to `size`×`size` with the square drawn on it, its upper edge in another colour.
pub fn marked(picture: &GrayImage, square: &Square, size: u32) -> RgbImage {
    let small = image::imageops::resize(picture, size, size, image::imageops::FilterType::Triangle);
    let mut out = image::DynamicImage::ImageLuma8(small).into_rgb8();
    let scale = [size as f32 / picture.width() as f32, size as f32 / picture.height() as f32];
    let (sin, cos) = square.angle.sin_cos();
    let half = square.side / 2.0;
    let corners = [[-half, -half], [half, -half], [half, half], [-half, half]]
        .map(|[u, v]| [square.centre[0] + cos * u - sin * v, square.centre[1] + sin * u + cos * v]);
    for edge in 0..4 {
        let (from, to) = (corners[edge], corners[(edge + 1) % 4]);
        let colour = if edge == 0 { Rgb([255, 170, 40]) } else { Rgb([80, 220, 120]) };
        for step in 0..=2 * size {
            let t = step as f32 / (2 * size) as f32;
            let [x, y] = [0, 1].map(|axis| ((from[axis] + t * (to[axis] - from[axis])) * scale[axis]).floor());
            if (0.0..size as f32).contains(&x) && (0.0..size as f32).contains(&y) {
                out.put_pixel(x as u32, y as u32, colour);
            }
        }
    }
    out
}

/// The level that parts dark from bright with the least spread within each (Otsu 1979).
fn otsu(picture: &GrayImage) -> u8 {
    let mut counts = [0_u64; 256];
    picture.as_raw().iter().for_each(|value| counts[usize::from(*value)] += 1);
    let total: u64 = counts.iter().sum();
    let sum: f64 = counts.iter().zip(0_u32..).map(|(count, level)| *count as f64 * f64::from(level)).sum();
    let (mut below, mut sum_below, mut best) = (0, 0.0, (-1.0, 0));
    for (level, count) in counts.iter().enumerate() {
        below += count;
        sum_below += *count as f64 * level as f64;
        let above = total - below;
        if below == 0 || above == 0 {
            continue;
        }
        let apart = sum_below / below as f64 - (sum - sum_below) / above as f64;
        let between = below as f64 * above as f64 * apart * apart;
        if between > best.0 {
            best = (between, level);
        }
    }
    best.1 as u8
}

/// A region without holes.
struct Region {
    width: i32,
    height: i32,
    inside: Vec<bool>,
    count: usize,
}

const SIDES: [[i32; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];

/// The largest connected part brighter than `level`, its holes filled.
fn largest_region(picture: &GrayImage, level: u8) -> Region {
    let (width, height) = (picture.width() as i32, picture.height() as i32);
    let bright: Vec<bool> = picture.as_raw().iter().map(|value| *value > level).collect();
    let spread = |of: &[bool], seen: &mut [bool], start: usize| -> Vec<usize> {
        let mut found = vec![start];
        seen[start] = true;
        let mut at = 0;
        while at < found.len() {
            let (x, y) = (found[at] as i32 % width, found[at] as i32 / width);
            for [dx, dy] in SIDES {
                let (x, y) = (x + dx, y + dy);
                if x >= 0 && y >= 0 && x < width && y < height {
                    let next = (y * width + x) as usize;
                    if of[next] && !seen[next] {
                        seen[next] = true;
                        found.push(next);
                    }
                }
            }
            at += 1;
        }
        found
    };
    let mut seen = vec![false; bright.len()];
    let mut largest = Vec::new();
    for start in 0..bright.len() {
        if bright[start] && !seen[start] {
            let found = spread(&bright, &mut seen, start);
            if found.len() > largest.len() {
                largest = found;
            }
        }
    }
    let mut outside = vec![true; bright.len()];
    largest.iter().for_each(|at| outside[*at] = false);
    // What cannot be reached from the edge is a hole.
    let mut reached = vec![false; bright.len()];
    let edge = (0..width).flat_map(|x| [(x, 0), (x, height - 1)]);
    for (x, y) in edge.chain((0..height).flat_map(|y| [(0, y), (width - 1, y)])) {
        let at = (y * width + x) as usize;
        if outside[at] && !reached[at] {
            spread(&outside, &mut reached, at);
        }
    }
    let inside: Vec<bool> = reached.iter().map(|reached| !reached).collect();
    let count = if largest.is_empty() { 0 } else { inside.iter().filter(|inside| **inside).count() };
    Region { width, height, inside, count }
}

impl Region {
    fn has(&self, x: i32, y: i32) -> bool {
        x >= 0 && y >= 0 && x < self.width && y < self.height && self.inside[(y * self.width + x) as usize]
    }

    /// Whether a point is on the picture's edge, where the arm leaves it.
    fn at_edge(&self, [x, y]: [f32; 2]) -> bool {
        x < 2.0 || y < 2.0 || x > (self.width - 3) as f32 || y > (self.height - 3) as f32
    }

    /// Centre and radius of the largest circle inside: the palm. The arm, which the edge cuts open, counts as closed
    /// there.
    fn deepest(&self) -> ([f32; 2], f32) {
        // Chamfer distance: 3 to the side, 4 across a corner.
        let (width, height) = (self.width, self.height);
        let mut depth: Vec<i32> = self.inside.iter().map(|inside| if *inside { i32::MAX / 2 } else { 0 }).collect();
        let forward = [[-1, 0, 3], [0, -1, 3], [-1, -1, 4], [1, -1, 4]];
        let cells = (width * height) as usize;
        for backwards in [false, true] {
            for step in 0..cells {
                let at = if backwards { cells - 1 - step } else { step };
                let (x, y) = (at as i32 % width, at as i32 / width);
                for [dx, dy, cost] in forward {
                    let (x, y) = if backwards { (x - dx, y - dy) } else { (x + dx, y + dy) };
                    let near = match x >= 0 && y >= 0 && x < width && y < height {
                        true => depth[(y * width + x) as usize],
                        false => 0,
                    };
                    depth[at] = depth[at].min(near + cost);
                }
            }
        }
        let deepest = (0..cells).max_by_key(|at| depth[*at]).unwrap_or(0);
        let centre = [(deepest as i32 % width) as f32, (deepest as i32 / width) as f32];
        (centre, depth[deepest] as f32 / 3.0)
    }

    /// The outline as a closed walk around the region (Moore's neighbourhood, clockwise).
    fn contour(&self) -> Vec<[f32; 2]> {
        const AROUND: [[i32; 2]; 8] = [[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]];
        let Some(start) = self.inside.iter().position(|inside| *inside) else { return Vec::new() };
        let start = (start as i32 % self.width, start as i32 / self.width);
        let (mut at, mut from) = (start, 4_usize);
        let (mut walk, mut first) = (Vec::new(), None);
        // Each pixel is passed at most once from each side.
        for _ in 0..8 * self.count {
            let next = (1..=8).map(|turn| (from + turn) % 8).find(|way| {
                let [dx, dy] = AROUND[*way];
                self.has(at.0 + dx, at.1 + dy)
            });
            // The walk may pass its start on the way. It is closed where it would leave the start as it did at first.
            if at == start && first == Some(next) {
                break;
            }
            first.get_or_insert(next);
            walk.push([at.0 as f32, at.1 as f32]);
            let Some(way) = next else { break };
            at = (at.0 + AROUND[way][0], at.1 + AROUND[way][1]);
            // Looking starts behind where we came from.
            from = (way + 4) % 8;
        }
        walk
    }
}

/// The valleys between index and middle and between ring and little finger.
fn valleys(contour: &[[f32; 2]], hand: &Region, centre: [f32; 2], radius: f32) -> Result<[[f32; 2]; 2], RoiError> {
    let away = |p: [f32; 2]| ((p[0] - centre[0]).powi(2) + (p[1] - centre[1]).powi(2)).sqrt();
    // Once around, starting at the arm, which is not a finger.
    let start = contour.iter().position(|point| hand.at_edge(*point)).unwrap_or(0);
    let around: Vec<[f32; 2]> = contour[start..].iter().chain(&contour[..start]).copied().collect();
    let around: Vec<[f32; 2]> =
        match (around.iter().position(|p| !hand.at_edge(*p)), around.iter().rposition(|p| !hand.at_edge(*p))) {
            (Some(first), Some(last)) => around[first..=last].to_vec(),
            _ => Vec::new(),
        };
    let distances: Vec<f32> = around.iter().map(|point| away(*point)).collect();
    // Tips and valleys alternate; a swing of less than a third of the palm's radius is not a finger.
    let mut tips = Vec::new();
    let (mut high, mut low, mut rising) = (0, 0, false);
    for (at, distance) in distances.iter().enumerate() {
        if *distance > distances[high] {
            high = at;
        }
        if *distance < distances[low] {
            low = at;
        }
        if rising && distances[high] - distance > radius / 3.0 {
            tips.push(high);
            (low, rising) = (at, false);
        } else if !rising && distance - distances[low] > radius / 3.0 {
            (high, rising) = (at, true);
        }
    }
    // What follows the last tip leads back to the arm, and so does what comes before the first.
    let fingers: Vec<usize> = tips.into_iter().filter(|at| !hand.at_edge(around[*at])).collect();
    let between = |from: usize, to: usize| {
        let lowest = (from..to).min_by(|a, b| distances[*a].total_cmp(&distances[*b])).unwrap_or(from);
        // A valley is as deep for a stretch of the contour: its middle.
        let level = distances[lowest] + 0.5;
        let stretch: Vec<usize> = (from..to).filter(|at| distances[*at] <= level && at.abs_diff(lowest) < 12).collect();
        let count = stretch.len().max(1) as f32;
        [0, 1].map(|axis| stretch.iter().map(|at| around[*at][axis]).sum::<f32>() / count)
    };
    let gaps: Vec<[f32; 2]> = fingers.windows(2).map(|pair| between(pair[0], pair[1])).collect();
    match gaps.len() {
        // Without the thumb.
        3 => Ok([gaps[0], gaps[2]]),
        4 => {
            // Cosine of the angle between two fingers, seen from the palm.
            let angle = |a: usize, b: usize| {
                let way = |at: usize| [0, 1].map(|axis| (around[at][axis] - centre[axis]) / distances[at].max(1.0));
                let (a, b) = (way(a), way(b));
                a[0] * b[0] + a[1] * b[1]
            };
            // The thumb stands further from its neighbour than the little finger does.
            let thumb_first = angle(fingers[0], fingers[1]) < angle(fingers[3], fingers[4]);
            Ok(if thumb_first { [gaps[1], gaps[3]] } else { [gaps[0], gaps[2]] })
        }
        found => Err(RoiError::Fingers { found: if fingers.is_empty() { 0 } else { found + 1 } }),
    }
}

#[cfg(test)]
mod tests {
    use fixtures::{PalmConfig, palms};

    use super::*;

    /// Lines one pixel wide, cut to a sixth of their size, are grey whichever way the square is turned; a square that
    /// is not shrunk keeps them.
    #[test]
    fn lines_finer_than_the_result_are_averaged() {
        let lines = GrayImage::from_fn(900, 900, |x, _| Luma([if x % 2 == 0 { 0 } else { 200 }]));
        for angle in [0.0, 0.3, 0.8] {
            let square = Square { centre: [450.0, 450.0], side: 600.0, angle };
            let values = crop(&lines, &square, 100, [1.0, 1.0]).into_raw();
            let (least, most) = (values.iter().min().unwrap(), values.iter().max().unwrap());
            assert!(*least >= 80 && *most <= 120, "{angle}: {least} to {most}");
        }
        let square = Square { centre: [450.0, 450.0], side: 100.0, angle: 0.0 };
        let whole = crop(&lines, &square, 100, [1.0, 1.0]);
        assert_eq!((whole.get_pixel(0, 0).0, whole.get_pixel(1, 0).0), ([0], [200]));
    }

    /// On drawn hands the square is where it was drawn: centre within an eighth of the side, angle within six
    /// degrees, and the same for both modalities of a pair within the same.
    #[test]
    fn squares_are_where_the_palms_were_drawn() {
        let folder = tempfile::tempdir().unwrap();
        // The square's place and size were chosen on the hands of seed 5.
        let config =
            PalmConfig { people: 8, samples: 2, size: 256, seed: 77, whole_hand: true, ..PalmConfig::default() };
        palms(&config, folder.path()).unwrap();
        let truth = std::fs::read_to_string(folder.path().join("truth.csv")).unwrap();
        let (mut found, mut all, mut sides) = (0, 0, Vec::new());
        for line in truth.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let [x, y, side, angle] = [1, 2, 3, 4].map(|at| fields[at].parse::<f32>().unwrap());
            let picture = image::open(folder.path().join(fields[0])).unwrap().to_luma8();
            all += 1;
            let square = match find(&picture, Hang::default()) {
                Ok(square) => square,
                Err(error) => {
                    println!("{}: {error}", fields[0]);
                    continue;
                }
            };
            let off = ((square.centre[0] - x).powi(2) + (square.centre[1] - y).powi(2)).sqrt() / side;
            let turned = (square.angle - angle).abs().to_degrees();
            sides.push(square.side / side);
            let good = off < 0.125 && turned < 6.0 && (0.85..1.15).contains(&(square.side / side));
            if !good {
                println!("{}: {off:.3} sides off, {turned:.1} degrees, side {:.3}", fields[0], square.side / side);
            }
            found += usize::from(good);
        }
        let mean = sides.iter().sum::<f32>() / sides.len() as f32;
        println!("{found} of {all} squares; mean side {mean:.3} of the drawn");
        assert!(found * 100 >= all * 95, "{found} of {all}");
    }

    #[test]
    fn what_is_no_hand_is_refused() {
        let flat = GrayImage::from_pixel(64, 64, Luma([90]));
        assert!(matches!(find(&flat, Hang::default()), Err(RoiError::NoHand { .. })));
        let disc = GrayImage::from_fn(96, 96, |x, y| {
            let inside = (x as f32 - 48.0).powi(2) + (y as f32 - 48.0).powi(2) < 900.0;
            Luma([if inside { 200 } else { 20 }])
        });
        let error = find(&disc, Hang::default()).unwrap_err();
        assert_eq!(error.to_string(), "0 fingers stand out; 4 or 5 are needed, spread apart");
        assert!(find(&GrayImage::new(1, 1), Hang::default()).is_err());
        assert!(find(&GrayImage::from_pixel(1, 1, Luma([255])), Hang::default()).is_err());
    }

    /// Two blocks that only touch at the pixel where the walk begins.
    #[test]
    fn an_outline_that_passes_its_start_goes_on() {
        let rows = ["...#...", "..#.#..", "###.###", "###.###"];
        let picture = |x: usize, y: usize| rows[y].as_bytes()[x] == b'#';
        let inside: Vec<bool> = (0..4).flat_map(|y| (0..7).map(move |x| picture(x, y))).collect();
        let count = inside.iter().filter(|inside| **inside).count();
        let region = Region { width: 7, height: 4, inside, count };
        let walk = region.contour();
        for corner in [[3.0, 0.0], [0.0, 3.0], [6.0, 3.0], [0.0, 2.0], [6.0, 2.0]] {
            assert!(walk.contains(&corner), "{corner:?} in {walk:?}");
        }
        assert!(walk.len() <= 2 * count, "it ends: {walk:?}");
    }

    #[test]
    fn a_crop_is_upright() {
        let picture = GrayImage::from_fn(60, 60, |x, y| Luma([(x + 3 * y) as u8]));
        let square = Square { centre: [30.0, 30.0], side: 20.0, angle: 0.0 };
        let same = crop(&picture, &square, 20, [1.0, 1.0]);
        assert_eq!(same.get_pixel(0, 0), picture.get_pixel(20, 20));
        assert_eq!(same.get_pixel(19, 7), picture.get_pixel(39, 27));
        let quarter = crop(&picture, &Square { angle: std::f32::consts::FRAC_PI_2, ..square }, 20, [1.0, 1.0]);
        // Its upper edge is on the right.
        assert_eq!(quarter.get_pixel(0, 0), picture.get_pixel(39, 20));
        let outside = crop(&picture, &Square { centre: [-40.0, 30.0], ..square }, 8, [1.0, 1.0]);
        assert!(outside.as_raw().iter().all(|value| *value == 0));
    }
}
