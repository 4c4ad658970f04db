//! Charts as pixels, on light paper: letters and shapes by the rasteriser of `ab_glyph`, which smooths edges by how
//! much of a pixel they cover, with a font of our own so that every machine draws the same.

use std::f64::consts::TAU;
use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use ab_glyph_rasterizer::{Point, Rasterizer, point as corner};
use image::{Rgb, RgbImage};

use super::{Anchor, COLOURS, Chart, Drawn, Kind, LETTER, Mark, TITLE};

static FONT: LazyLock<FontRef<'static>> =
    LazyLock::new(|| FontRef::try_from_slice(dejavu::sans::regular()).expect("the font is part of the program"));
static BOLD: LazyLock<FontRef<'static>> =
    LazyLock::new(|| FontRef::try_from_slice(dejavu::sans::bold()).expect("the font is part of the program"));

const PAPER: Rgb<u8> = Rgb([255; 3]);

/// Lengths of dashes and of the space between them, in pixels of the chart.
const DASH: [f64; 2] = [6.0, 4.0];

/// Charts side by side, `columns` in a row, `zoom` pixels of the picture for each of theirs.
///
/// # Panics
/// If `columns` is 0.
pub fn sheet(charts: &[Chart], columns: usize, zoom: f64) -> RgbImage {
    let drawn: Vec<Drawn> = charts.iter().map(Chart::draw).collect();
    let (mut placed, mut top, mut width) = (Vec::new(), 0.0, 0.0_f64);
    for row in drawn.chunks(columns) {
        let mut left = 0.0;
        for Drawn { size, marks } in row {
            placed.push(([left, top], marks));
            left += size[0];
        }
        width = width.max(left);
        top += row.iter().map(|chart| chart.size[1]).fold(0.0, f64::max);
    }
    let side = |length: f64| ((length * zoom).ceil() as u32).max(1);
    let mut canvas = Canvas { picture: RgbImage::from_pixel(side(width), side(top), PAPER), zoom };
    for (origin, marks) in placed {
        marks.iter().for_each(|mark| canvas.draw(mark, origin));
    }
    canvas.picture
}

impl Kind {
    /// Colour, how much of it covers what is below, and the width of lines.
    fn paint(self) -> (Rgb<u8>, f32, f64) {
        let of = |index: usize| Rgb(COLOURS[index % COLOURS.len()]);
        match self {
            Self::Grid => (Rgb([228, 233, 239]), 1.0, 1.0),
            Self::Frame => (Rgb([154, 167, 181]), 1.0, 1.0),
            Self::Guide | Self::Label => (Rgb([74, 85, 102]), 1.0, 1.3),
            Self::Line(colour) | Self::Dot(colour) => (of(colour), 1.0, 1.8),
            Self::Bar(colour) => (of(colour), 0.55, 0.0),
            Self::Title => (Rgb([28, 36, 48]), 1.0, 0.0),
        }
    }
}

struct Canvas {
    picture: RgbImage,
    zoom: f64,
}

impl Canvas {
    fn draw(&mut self, mark: &Mark, origin: [f64; 2]) {
        let zoom = self.zoom;
        let place = |[x, y]: [f64; 2]| [(origin[0] + x) * zoom, (origin[1] + y) * zoom];
        match mark {
            Mark::Line { kind, points } => {
                let (colour, cover, width) = kind.paint();
                let points: Vec<[f64; 2]> = points.iter().map(|point| place(*point)).collect();
                for pair in points.windows(2) {
                    let ends = [pair[0], pair[1]];
                    let pieces = if *kind == Kind::Guide { dashes(ends, zoom) } else { vec![ends] };
                    pieces.into_iter().for_each(|piece| self.fill(&stroke(piece, width * zoom), colour, cover));
                }
                // Round corners between the pieces of a line.
                if matches!(kind, Kind::Line(_)) {
                    points.iter().for_each(|at| self.fill(&circle(*at, width * zoom / 2.0), colour, cover));
                }
            }
            Mark::Box { kind, corners } => {
                let (colour, cover, _) = kind.paint();
                let [[left, top], [right, bottom]] = corners.map(place);
                self.fill(&[[left, top], [right, top], [right, bottom], [left, bottom]], colour, cover);
            }
            Mark::Dot { kind, centre, radius } => {
                let (colour, cover, _) = kind.paint();
                self.fill(&circle(place(*centre), radius * zoom), colour, cover);
            }
            Mark::Text { kind, at, anchor, up, text } => {
                let (colour, ..) = kind.paint();
                let (font, size) = if *kind == Kind::Title { (&*BOLD, TITLE) } else { (&*FONT, LETTER) };
                self.text(text, place(*at), (font, size * zoom), *anchor, *up, colour);
            }
        }
    }

    /// A polygon whose corners run one way round.
    fn fill(&mut self, corners: &[[f64; 2]], colour: Rgb<u8>, cover: f32) {
        let ends = |axis: usize| {
            let values = || corners.iter().map(move |corner| corner[axis]);
            (values().fold(f64::INFINITY, f64::min).floor(), values().fold(f64::NEG_INFINITY, f64::max).ceil())
        };
        let ((left, right), (top, bottom)) = (ends(0), ends(1));
        let size = [right - left, bottom - top].map(|side| side.max(1.0) as usize + 1);
        let mut raster = Rasterizer::new(size[0], size[1]);
        let inside = |at: [f64; 2]| -> Point { corner((at[0] - left) as f32, (at[1] - top) as f32) };
        for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
            raster.draw_line(inside(*from), inside(*to));
        }
        raster.for_each_pixel_2d(|x, y, share| {
            self.blend(left as i64 + i64::from(x), top as i64 + i64::from(y), share.abs() * cover, colour);
        });
    }

    fn text(
        &mut self,
        text: &str,
        at: [f64; 2],
        (font, size): (&FontRef<'static>, f64),
        anchor: Anchor,
        up: bool,
        colour: Rgb<u8>,
    ) {
        // The scale of ab_glyph is the height of a line; ours is that of the em square, as in style sheets.
        let em = font.units_per_em().map_or(1.0, |units| font.height_unscaled() / units);
        let scaled = font.as_scaled(PxScale::from(size as f32 * em));
        let glyphs: Vec<_> = text.chars().map(|letter| scaled.glyph_id(letter)).collect();
        let width: f32 = glyphs.iter().map(|glyph| scaled.h_advance(*glyph)).sum();
        let mut along = -width * anchor.before() as f32;
        let [x, y] = at.map(|value| value.round() as i64);
        for id in glyphs {
            let glyph = id.with_scale_and_position(scaled.scale(), point(along, 0.0));
            along += scaled.h_advance(id);
            let Some(outline) = scaled.outline_glyph(glyph) else { continue };
            let bounds = outline.px_bounds();
            outline.draw(|u, v, share| {
                let (right, down) = (bounds.min.x as i64 + i64::from(u), bounds.min.y as i64 + i64::from(v));
                let (u, v) = if up { (x + down, y - right) } else { (x + right, y + down) };
                self.blend(u, v, share, colour);
            });
        }
    }

    fn blend(&mut self, x: i64, y: i64, share: f32, colour: Rgb<u8>) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        let Some(pixel) = self.picture.get_pixel_mut_checked(x, y) else { return };
        for (old, new) in pixel.0.iter_mut().zip(colour.0) {
            let mixed = f32::from(*old) + share.min(1.0) * (f32::from(new) - f32::from(*old));
            *old = mixed.round() as u8;
        }
    }
}

/// The corners of a straight line of that width.
fn stroke([from, to]: [[f64; 2]; 2], width: f64) -> [[f64; 2]; 4] {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = dx.hypot(dy).max(1e-9);
    let (u, v) = (-dy / length * width / 2.0, dx / length * width / 2.0);
    [[from[0] + u, from[1] + v], [to[0] + u, to[1] + v], [to[0] - u, to[1] - v], [from[0] - u, from[1] - v]]
}

fn circle(centre: [f64; 2], radius: f64) -> Vec<[f64; 2]> {
    let corners = (8.0 + 2.0 * radius).ceil();
    let corner = |index: usize| {
        let angle = TAU * index as f64 / corners;
        [centre[0] + radius * angle.cos(), centre[1] + radius * angle.sin()]
    };
    (0..corners as usize).map(corner).collect()
}

/// The dashes of a straight line.
fn dashes([from, to]: [[f64; 2]; 2], zoom: f64) -> Vec<[[f64; 2]; 2]> {
    let length = (to[0] - from[0]).hypot(to[1] - from[1]);
    let at = |along: f64| {
        let share = (along / length.max(1e-9)).min(1.0);
        [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])]
    };
    let [dash, gap] = DASH.map(|length| length * zoom);
    let count = (length / (dash + gap)).ceil() as usize;
    (0..count).map(|index| index as f64 * (dash + gap)).map(|start| [at(start), at(start + dash)]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::chart;
    use super::super::{Series, Shape, width};
    use super::*;

    fn count(picture: &RgbImage, colour: [u8; 3]) -> usize {
        picture.pixels().filter(|pixel| pixel.0 == colour).count()
    }

    #[test]
    fn every_series_has_its_colour_and_a_sheet_holds_every_chart() {
        let one = sheet(&[chart()], 1, 2.0);
        assert_eq!(one.width(), 840);
        // Line, dots of the eleventh series in the third colour, guides.
        for (colour, least) in [(COLOURS[0], 200), (COLOURS[2], 100), ([74, 85, 102], 200)] {
            assert!(count(&one, colour) > least, "{colour:?}: {}", count(&one, colour));
        }
        let three = sheet(&[chart(), chart(), chart()], 2, 2.0);
        assert_eq!(three.dimensions(), (1680, 2 * one.height()));
        assert_eq!(count(&three, COLOURS[0]), 3 * count(&one, COLOURS[0]));
        assert_eq!(sheet(&[], 1, 1.0).dimensions(), (1, 1));
    }

    /// The layout's idea of how wide a text is holds for the font that is drawn.
    #[test]
    fn no_text_is_wider_than_its_room() {
        let scaled =
            FONT.as_scaled(PxScale::from((LETTER as f32) * FONT.height_unscaled() / FONT.units_per_em().unwrap()));
        for text in ["0.0001 %", "Mixed Words 12:34", "best 0.5731 @ 60", "false accept rate", "triplet/mm"] {
            let drawn: f32 = text.chars().map(|letter| scaled.h_advance(scaled.glyph_id(letter))).sum();
            assert!(f64::from(drawn) <= width(text), "`{text}`: {drawn} in {}", width(text));
            assert!(width(text) < 1.35 * f64::from(drawn), "`{text}`: {drawn} in {}", width(text));
        }
    }

    #[test]
    fn a_level_line_is_where_its_value_is() {
        let level = Series::new("level", 0, Shape::Line, vec![[1e-5, 6172.5], [1.0, 6172.5]]);
        let picture = sheet(&[Chart { series: vec![level], guides: vec![], right: None, ..chart() }], 1, 2.0);
        // The plot starts 34 of the chart's pixels below the edge and is 260 high.
        let row = |y: u32| picture.enumerate_pixels().filter(|(_, v, p)| *v == y && p.0[0] < 40).count();
        let middle = 2 * (34 + 130);
        assert!(row(middle - 1) > 500 && row(middle) > 500, "{} {}", row(middle - 1), row(middle));
        assert!(row(middle - 4) < 50 && row(middle + 4) < 50, "{} {}", row(middle - 4), row(middle + 4));
    }
}
