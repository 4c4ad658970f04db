//! `training_curves.png`: loss terms, learning rate and evaluation over the epochs, or the panels a family asks for,
//! drawn with a small rasteriser of our own (plotting crates bring a font stack for a handful of lines).

use std::io::Cursor;

use font8x8::{BASIC_FONTS, UnicodeFonts};
use image::{ImageError, ImageFormat, Rgb, RgbImage};

use crate::run::epoch::EpochRecord;
use crate::run::log::{Line, Panel};

/// Size in pixels of one panel below others; the default picture is three of them.
const PANEL: [u32; 2] = [1600, 400];
/// Size in pixels of a picture of a family's own panels, two in a row: 15×10 inches at 150 dots an inch.
const SHEET: [u32; 2] = [2250, 1500];
/// Space around the axes: left, top, right, bottom.
const MARGIN: [f32; 4] = [150.0, 52.0, 330.0, 58.0];
/// Height of a letter; letters are square.
const LETTER: f32 = 16.0;

/// Title of the panel whose values are better when larger.
const EVALUATION: &str = "Evaluation";

/// Upper end of the right axis: a little above its last tick.
const RIGHT: f32 = 1.04;

/// Below the axis of a run's panels.
const EPOCH: &str = "epoch";

const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([40, 44, 52]);
const FAINT: Rgb<u8> = Rgb([120, 126, 136]);
const GRID: Rgb<u8> = Rgb([228, 231, 236]);
/// Told apart also without red and green (Okabe and Ito).
const COLOURS: [Rgb<u8>; 7] = [
    Rgb([0, 114, 178]),
    Rgb([213, 94, 0]),
    Rgb([0, 158, 115]),
    Rgb([204, 121, 167]),
    Rgb([230, 159, 0]),
    Rgb([86, 180, 233]),
    Rgb([130, 100, 60]),
];

/// One line of a panel.
struct Series {
    name: String,
    colour: Rgb<u8>,
    /// Epoch and value.
    points: Vec<(f32, f32)>,
}

/// Where a panel lies in the picture, in pixels.
struct Area {
    left: f32,
    top: f32,
    size: [u32; 2],
}

/// What a panel shows besides its lines.
struct Axes<'a> {
    title: &'a str,
    /// Ends of the left axis; by the values without it.
    range: Option<[f32; 2]>,
    /// Height of a dashed line.
    guide: Option<f32>,
    /// Lines read on a second axis, from 0 to 1.
    right: Vec<Series>,
    /// Below the axis.
    unit: &'a str,
}

/// Values between 0 and 1 by channel as PNG: a panel for each name.
///
/// # Errors
/// If the picture cannot be compressed.
pub fn channel_curves(panels: &[(&str, &[f32])]) -> Result<Vec<u8>, ImageError> {
    let mut picture = RgbImage::from_pixel(PANEL[0], panels.len().max(1) as u32 * PANEL[1], PAPER);
    for (row, (title, values)) in panels.iter().enumerate() {
        let points = values.iter().enumerate().map(|(channel, value)| (channel as f32, *value)).collect();
        let series = Series { name: "gate".to_owned(), colour: COLOURS[row % COLOURS.len()], points };
        let area = Area { left: 0.0, top: row as f32 * PANEL[1] as f32, size: PANEL };
        let axes = Axes { title, range: Some([0.0, 1.0]), guide: Some(0.5), right: vec![], unit: "channel" };
        panel(&mut picture, &area, &axes, &[series], (0.0, values.len().saturating_sub(1) as f32));
    }
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(bytes)
}

/// The picture of a run as PNG: of `panels`, or of loss, learning rate and evaluation.
pub(crate) fn png(records: &[EpochRecord], panels: &[Panel]) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let picture = if panels.is_empty() { draw(records) } else { draw_panels(records, panels) };
    picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(bytes)
}

/// First and last epoch.
fn span(records: &[EpochRecord]) -> (f32, f32) {
    (records.first().map_or(1, |r| r.epoch) as f32, records.last().map_or(1, |r| r.epoch) as f32)
}

/// Panels two in a row.
fn draw_panels(records: &[EpochRecord], panels: &[Panel]) -> RgbImage {
    let rows = panels.len().div_ceil(2).max(2) as u32;
    let size = [SHEET[0] / 2, SHEET[1] / 2];
    let mut picture = RgbImage::from_pixel(SHEET[0], size[1] * rows, PAPER);
    for (index, wanted) in panels.iter().enumerate() {
        let series = |lines: &[Line], first: usize| {
            let series = |(index, line): (usize, &Line)| Series {
                name: line.label.clone(),
                colour: COLOURS[(first + index) % COLOURS.len()],
                points: points(records, &line.number),
            };
            lines.iter().enumerate().map(series).collect::<Vec<_>>()
        };
        let (left, right) = (series(&wanted.left, 0), series(&wanted.right, wanted.left.len()));
        let (column, row) = ((index % 2) as u32, (index / 2) as u32);
        let area = Area { left: (column * size[0]) as f32, top: (row * size[1]) as f32, size };
        let axes = Axes { title: &wanted.title, range: wanted.range, guide: wanted.guide, right, unit: EPOCH };
        panel(&mut picture, &area, &axes, &left, span(records));
    }
    picture
}

/// The picture of a run.
fn draw(records: &[EpochRecord]) -> RgbImage {
    let mut picture = RgbImage::from_pixel(PANEL[0], 3 * PANEL[1], PAPER);
    let group = |prefix: &str| {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in records.iter().flat_map(EpochRecord::numbers) {
            if name.starts_with(prefix) && !names.contains(&name) {
                names.push(name);
            }
        }
        let series = |(index, name): (usize, &String)| Series {
            name: name.rsplit('/').next().unwrap_or(name).to_owned(),
            colour: if name == "loss/total" { INK } else { COLOURS[(index + COLOURS.len() - 1) % COLOURS.len()] },
            points: points(records, name),
        };
        names.iter().enumerate().map(series).collect::<Vec<_>>()
    };
    let mut evaluation = group("metrics/");
    evaluation.iter_mut().zip(COLOURS).for_each(|(series, colour)| series.colour = colour);
    let rate = vec![Series { name: "lr".to_owned(), colour: COLOURS[0], points: points(records, "lr") }];
    for (row, (title, series)) in
        [("Loss", group("loss/")), ("Learning rate", rate), (EVALUATION, evaluation)].into_iter().enumerate()
    {
        let area = Area { left: 0.0, top: row as f32 * PANEL[1] as f32, size: PANEL };
        panel(
            &mut picture,
            &area,
            &Axes { title, range: None, guide: None, right: vec![], unit: EPOCH },
            &series,
            span(records),
        );
    }
    picture
}

/// Values of one number over the epochs that have it.
fn points(records: &[EpochRecord], name: &str) -> Vec<(f32, f32)> {
    let value = |record: &EpochRecord| record.numbers().find(|(found, _)| found == name).map(|(_, value)| value as f32);
    records.iter().filter_map(|record| Some((record.epoch as f32, value(record)?))).collect()
}

/// Axes, lines and legend of one panel.
fn panel(picture: &mut RgbImage, area: &Area, axes: &Axes<'_>, series: &[Series], (first, last): (f32, f32)) {
    let [left, above, right, below] = MARGIN;
    let (x0, x1) = (area.left + left, area.left + area.size[0] as f32 - right);
    let (y0, y1) = (area.top + area.size[1] as f32 - below, area.top + above);
    text(picture, axes.title, (x0, y1 - 1.9 * LETTER), INK);

    let values = || series.iter().flat_map(|series| &series.points).map(|(_, value)| *value);
    let (low, high) = values().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        text(picture, "no values yet", (x0 + LETTER, (y0 + y1) / 2.0), FAINT);
    }
    // Losses, rates and metrics start at 0 when they come near it, which shows their size.
    let (low, high) = if low > high { (0.0, 1.0) } else { (if low > 0.6 * high { low } else { low.min(0.0) }, high) };
    let (low, high) = if high - low > 1e-12 {
        (low, high)
    } else {
        (low - 0.5 * low.abs().max(1e-6), high + 0.5 * high.abs().max(1e-6))
    };
    let (low, high) = axes.range.map_or((low, high), |[low, high]| (low, high));
    let levels = ticks(low, high, 5, false);
    let (bottom, ceiling) = (low.min(levels[0]), high + 0.04 * (high - low));
    let span = (last - first).max(1.0);
    let x = |epoch: f32| x0 + 12.0 + (epoch - first) / span * (x1 - x0 - 24.0);
    let height = move |value: f32, bottom: f32, ceiling: f32| y0 + (value - bottom) / (ceiling - bottom) * (y1 - y0);
    let y = |value: f32| height(value, bottom, ceiling);
    let y_right = |share: f32| height(share, 0.0, RIGHT);

    for level in &levels {
        line(picture, (x0, y(*level)), (x1, y(*level)), 1.0, GRID);
        let label = number(*level, levels[1] - levels[0]);
        text(picture, &label, (x0 - 10.0 - label.len() as f32 * LETTER, y(*level) - LETTER / 2.0), FAINT);
    }
    for epoch in ticks(first, first + span, 10, true) {
        line(picture, (x(epoch), y0), (x(epoch), y0 + 6.0), 1.0, FAINT);
        let label = format!("{epoch:.0}");
        text(picture, &label, (x(epoch) - label.len() as f32 * LETTER / 2.0, y0 + 11.0), FAINT);
    }
    text(picture, axes.unit, ((x0 + x1) / 2.0 - axes.unit.len() as f32 / 2.0 * LETTER, y0 + 34.0), FAINT);
    line(picture, (x0, y0), (x1, y0), 1.5, FAINT);
    line(picture, (x0, y0), (x0, y1), 1.5, FAINT);
    if !axes.right.is_empty() {
        line(picture, (x1, y0), (x1, y1), 1.5, FAINT);
        for level in ticks(0.0, 1.0, 5, false) {
            line(picture, (x1, y_right(level)), (x1 + 6.0, y_right(level)), 1.0, FAINT);
            text(picture, &number(level, 0.2), (x1 + 10.0, y_right(level) - LETTER / 2.0), FAINT);
        }
    }
    if let Some(guide) = axes.guide {
        let dashes = ((x1 - x0) / 20.0) as usize;
        for dash in 0..dashes {
            let at = x0 + 20.0 * dash as f32;
            line(picture, (at, y(guide)), (at + 10.0, y(guide)), 1.5, FAINT);
        }
    }

    for (series, y) in
        series.iter().map(|one| (one, bottom..ceiling)).chain(axes.right.iter().map(|one| (one, 0.0..RIGHT)))
    {
        let y = |value: f32| height(value, y.start, y.end);
        for pair in series.points.windows(2) {
            line(picture, (x(pair[0].0), y(pair[0].1)), (x(pair[1].0), y(pair[1].1)), 2.6, series.colour);
        }
        if series.points.len() <= 40 {
            for point in &series.points {
                let centre = (x(point.0), y(point.1));
                line(picture, centre, centre, 8.0, series.colour);
            }
        }
    }
    // Name and last or best value of each line, as many as there is room for.
    let larger_is_better = axes.title == EVALUATION;
    let room = ((y0 - y1) / (2.9 * LETTER)) as usize;
    let scale = if axes.right.is_empty() { 0.0 } else { 4.0 * LETTER };
    for (row, series) in series.iter().chain(&axes.right).take(room).enumerate() {
        let (at, down) = (x1 + 24.0 + scale, y1 + row as f32 * 2.9 * LETTER);
        line(picture, (at, down + LETTER / 2.0), (at + 24.0, down + LETTER / 2.0), 4.0, series.colour);
        let name: String = series.name.chars().take(((right - 70.0 - scale) / LETTER) as usize).collect();
        text(picture, &name, (at + 36.0, down), INK);
        let best = series.points.iter().copied().reduce(|best, point| if point.1 > best.1 { point } else { best });
        let shown = match (best, series.points.last()) {
            (Some((epoch, value)), _) if larger_is_better => Some(format!("best {} @{epoch:.0}", precise(value))),
            // The last of many channels says nothing.
            (Some((at, value)), _) if axes.unit != EPOCH => Some(format!("max {} @{at:.0}", precise(value))),
            (_, Some((_, value))) => Some(precise(*value)),
            _ => None,
        };
        if let Some(shown) = shown {
            text(picture, &shown, (at + 36.0, down + 1.25 * LETTER), FAINT);
        }
    }
}

/// About `count` round numbers from `low` to `high`, at least two.
fn ticks(low: f32, high: f32, count: usize, whole: bool) -> Vec<f32> {
    let raw = f64::from(high - low) / count as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= raw * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let step = if whole { step.round().max(1.0) } else { step };
    let (first, last) = ((f64::from(low) / step - 1e-6).ceil() as i64, (f64::from(high) / step + 1e-6).floor() as i64);
    (first..=last.max(first + 1)).map(|index| (index as f64 * step) as f32).collect()
}

/// A number to the precision of `step`.
fn number(value: f32, step: f32) -> String {
    let size = value.abs().max(step.abs());
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{value:.1e}")
    } else {
        let scaled = |digits: i32| step * 10f32.powi(digits);
        let whole =
            |digits: &i32| scaled(*digits).round() >= 1.0 && (scaled(*digits) - scaled(*digits).round()).abs() < 0.01;
        format!("{value:.*}", (0..5).find(whole).unwrap_or(5) as usize)
    }
}

/// A number to four digits or so.
fn precise(value: f32) -> String {
    if (1e-2..1e4).contains(&value.abs()) { format!("{value:.4}") } else { format!("{value:.2e}") }
}

/// A straight line with round ends, its edges smoothed by how much of a pixel they cover.
fn line(picture: &mut RgbImage, a: (f32, f32), b: (f32, f32), width: f32, colour: Rgb<u8>) {
    let reach = width / 2.0 + 1.0;
    let range = |p: f32, q: f32, end: u32| {
        ((p.min(q) - reach).floor().max(0.0) as u32)..((p.max(q) + reach).ceil().clamp(0.0, end as f32) as u32)
    };
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let square = (dx * dx + dy * dy).max(1e-9);
    for v in range(a.1, b.1, picture.height()) {
        for u in range(a.0, b.0, picture.width()) {
            let (px, py) = (u as f32 + 0.5 - a.0, v as f32 + 0.5 - a.1);
            let along = ((px * dx + py * dy) / square).clamp(0.0, 1.0);
            let distance = (px - along * dx).hypot(py - along * dy);
            let cover = (width / 2.0 + 0.5 - distance).clamp(0.0, 1.0);
            if cover > 0.0 {
                let pixel = picture.get_pixel_mut(u, v);
                for (old, new) in pixel.0.iter_mut().zip(colour.0) {
                    *old = (f32::from(*old) + cover * (f32::from(new) - f32::from(*old))).round() as u8;
                }
            }
        }
    }
}

/// One line of text, its upper left corner at `at`; characters outside ASCII show as `?`.
fn text(picture: &mut RgbImage, text: &str, at: (f32, f32), colour: Rgb<u8>) {
    let scale = LETTER as i64 / 8;
    let (left, top) = (at.0.round() as i64, at.1.round() as i64);
    for (index, letter) in text.chars().enumerate() {
        let glyph = BASIC_FONTS.get(letter).or_else(|| BASIC_FONTS.get('?')).unwrap_or_default();
        for v in 0..8 * scale {
            for u in 0..8 * scale {
                let (x, y) = (left + index as i64 * 8 * scale + u, top + v);
                let inside =
                    (0..i64::from(picture.width())).contains(&x) && (0..i64::from(picture.height())).contains(&y);
                if inside && glyph[(v / scale) as usize] >> (u / scale) & 1 == 1 {
                    picture.put_pixel(x as u32, y as u32, colour);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::history::tests::run;

    #[test]
    fn ticks_are_round_and_labels_short() {
        let labels = |low, high| {
            let ticks = ticks(low, high, 5, false);
            ticks.iter().map(|tick| number(*tick, ticks[1] - ticks[0])).collect::<Vec<_>>()
        };
        assert_eq!(labels(0.0, 4.3), ["0", "1", "2", "3", "4"]);
        assert_eq!(labels(0.0, 0.98), ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(labels(0.0, 6e-4), ["0", "2.0e-4", "4.0e-4", "6.0e-4"]);
        assert_eq!(labels(0.0, 1.2), ["0", "0.25", "0.50", "0.75", "1.00"]);
        assert_eq!(ticks(1.0, 3.0, 10, true), [1.0, 2.0, 3.0]);
        assert_eq!(ticks(1.0, 2.0, 10, true), [1.0, 2.0]);
        assert_eq!(number(1234.5, 0.001), "1234.500");
    }

    /// Every line is there in its colour; a run without epochs, with one, or of constants draws too.
    #[test]
    fn curves_show_every_series() {
        let picture = draw(&run(60));
        let count = |colour: Rgb<u8>, row: u32| {
            let inside = |(x, y, pixel): &(u32, u32, &Rgb<u8>)| {
                **pixel == colour && *x < PANEL[0] - MARGIN[2] as u32 && y / PANEL[1] == row
            };
            picture.enumerate_pixels().filter(inside).count()
        };
        for (row, colours) in
            [(0, vec![INK, COLOURS[0], COLOURS[1]]), (1, vec![COLOURS[0]]), (2, COLOURS[..3].to_vec())]
        {
            for colour in colours {
                assert!(count(colour, row) > 500, "{colour:?} in panel {row}: {}", count(colour, row));
            }
        }
        let blank = draw(&[]);
        assert_eq!(blank.dimensions(), (PANEL[0], 3 * PANEL[1]));
        let flat: Vec<_> = (1..=4).map(EpochRecord::new).collect();
        assert_ne!(draw(&flat[..1]), blank);
        assert_ne!(draw(&flat), draw(&flat[..1]));
    }
    /// A family's own panels: lines of both axes and the dashed guide are in their quarter of the sheet.
    #[test]
    fn panels_of_a_family_lie_two_in_a_row() {
        let panels = [
            Panel {
                right: vec![Line::new("rank 1", "metrics/rank1")],
                ..Panel::new("loss", [Line::new("train", "loss/total")])
            },
            Panel::new("entropy", [Line::new("train", "loss/CrossEntropy")]),
            Panel::new("nothing", [Line::new("train", "loss/None")]),
            Panel {
                range: Some([0.0, 1.0]),
                guide: Some(0.5),
                ..Panel::new("share", [Line::new("mAP", "metrics/mAP")])
            },
        ];
        let picture = draw_panels(&run(60), &panels);
        assert_eq!(picture.dimensions(), (SHEET[0], SHEET[1]));
        let count = |colour: Rgb<u8>, index: u32| {
            let (x, y) = (index % 2 * SHEET[0] / 2, index / 2 * SHEET[1] / 2);
            let inside = |u: u32, v: u32| {
                (x..x + SHEET[0] / 2 - MARGIN[2] as u32).contains(&u) && (y..y + SHEET[1] / 2).contains(&v)
            };
            picture.enumerate_pixels().filter(|(u, v, pixel)| **pixel == colour && inside(*u, *v)).count()
        };
        let lines = |index| [count(COLOURS[0], index) > 200, count(COLOURS[1], index) > 200];
        assert_eq!([0, 1, 2, 3].map(lines), [[true, true], [true, false], [false, false], [true, false]]);
        // The guide is in the middle of the fourth panel's axis.
        let (top, bottom) = (SHEET[1] as f32 / 2.0 + MARGIN[1], SHEET[1] as f32 - MARGIN[3]);
        let middle = (bottom + 0.5 / 1.04 * (top - bottom)) as u32;
        let dashes = (SHEET[0] / 2..SHEET[0])
            .filter(|x| (middle - 1..=middle + 1).any(|y| *picture.get_pixel(*x, y) == FAINT))
            .count();
        assert!(dashes > 200, "{dashes}");
    }
}
