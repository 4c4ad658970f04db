//! `training_curves.png`: loss terms, learning rate and evaluation over the epochs, or the panels a family asks for.

use std::io::Cursor;

use image::{ImageError, ImageFormat, RgbImage};
use report::chart::{Axis, Chart, Guide, INK, Scale, Series, Shape, Unit, sheet};

use crate::run::epoch::EpochRecord;
use crate::run::log::{Line, Panel};

/// Width and height of the plot of a chart that has a row of its own, in pixels.
const WIDE: [f64; 2] = [800.0, 170.0];

/// The same of one of two in a row.
const HALF: [f64; 2] = [560.0, 290.0];

/// Pixels of the picture for each of the chart's.
const ZOOM: f64 = 2.0;

/// Title of the chart whose values are better when larger.
const EVALUATION: &str = "Evaluation";

/// Values between 0 and 1 by channel as PNG: a chart for each name.
///
/// # Errors
/// If the picture cannot be compressed.
pub fn channel_curves(branches: &[(&str, &[f32])]) -> Result<Vec<u8>, ImageError> {
    let chart = |(index, (title, values)): (usize, &(&str, &[f32]))| {
        let points = values.iter().enumerate().map(|(channel, value)| [channel as f64, f64::from(*value)]).collect();
        let largest = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let note = largest.map(|(channel, value)| format!("largest {} in channel {channel}", precise((*value).into())));
        let last = values.len().saturating_sub(1).max(1) as f64;
        let gates = Series::new("gate", index, Shape::Line, points);
        Chart {
            title: (*title).to_owned(),
            size: WIDE,
            x: Axis::new("channel", Scale::Linear { low: 0.0, high: last }, Unit::Whole),
            y: Axis::new("", Scale::Linear { low: 0.0, high: 1.0 }, Unit::Number),
            right: None,
            series: vec![Series { note: note.unwrap_or_default(), ..gates }],
            guides: vec![(Guide::Level(0.5), "0.5: neither open nor shut".into())],
        }
    };
    png(&sheet(&branches.iter().enumerate().map(chart).collect::<Vec<_>>(), 1, ZOOM))
}

/// The picture of a run as PNG: of `panels`, or of loss, learning rate and evaluation.
pub(crate) fn picture(records: &[EpochRecord], panels: &[Panel]) -> Result<Vec<u8>, ImageError> {
    png(&sheet(&charts(records, panels), if panels.is_empty() { 1 } else { 2 }, ZOOM))
}

fn png(picture: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(bytes)
}

/// The charts of a run: of `panels`, or of loss, learning rate and evaluation.
pub(crate) fn charts(records: &[EpochRecord], panels: &[Panel]) -> Vec<Chart> {
    if panels.is_empty() {
        return standard(records);
    }
    let chart = |panel: &Panel| {
        let series = |lines: &[Line], first: usize, right: bool| {
            let series = |(index, line): (usize, &Line)| {
                let points = points(records, &line.number);
                let note = points.last().map_or_else(String::new, |[_, value]| precise(*value));
                Series { note, right, ..Series::new(&line.label, first + index, Shape::Line, points) }
            };
            lines.iter().enumerate().map(series).collect::<Vec<_>>()
        };
        let left = series(&panel.left, 0, false);
        let right = series(&panel.right, panel.left.len(), true);
        let second = Axis::new("", Scale::Linear { low: 0.0, high: 1.04 }, Unit::Number);
        Chart {
            title: panel.title.clone(),
            size: HALF,
            x: epochs(records),
            y: values(&left, panel.range),
            right: (!right.is_empty()).then_some(second),
            series: left.into_iter().chain(right).collect(),
            guides: panel.guide.map(|level| (Guide::Level(level.into()), String::new())).into_iter().collect(),
        }
    };
    panels.iter().map(chart).collect()
}

fn standard(records: &[EpochRecord]) -> Vec<Chart> {
    let group = |prefix: &str| {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in records.iter().flat_map(EpochRecord::numbers) {
            if name.starts_with(prefix) && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    let chart = |(title, names): (&str, Vec<String>)| {
        // The sum of all terms stands out; they have the colours from the first on.
        let terms = |name: &&String| *name != "loss/total";
        let series = |name: &String| {
            let colour = names.iter().filter(terms).position(|term| term == name).unwrap_or(INK);
            let points = points(records, name);
            let best = points.iter().copied().reduce(|best, point| if point[1] > best[1] { point } else { best });
            let note = match (best, points.last()) {
                (Some([epoch, value]), _) if title == EVALUATION => format!("best {} @ {epoch:.0}", precise(value)),
                (_, Some([_, value])) => precise(*value),
                _ => String::new(),
            };
            Series { note, ..Series::new(name.rsplit('/').next().unwrap_or(name), colour, Shape::Line, points) }
        };
        let series: Vec<Series> = names.iter().map(series).collect();
        let y = values(&series, None);
        Chart { title: title.to_owned(), size: WIDE, x: epochs(records), y, right: None, series, guides: vec![] }
    };
    [("Loss", group("loss/")), ("Learning rate", vec!["lr".to_owned()]), (EVALUATION, group("metrics/"))]
        .into_iter()
        .map(chart)
        .collect()
}

/// The axis of the epochs, at least one long.
fn epochs(records: &[EpochRecord]) -> Axis {
    let [first, last] = [records.first(), records.last()].map(|record| record.map_or(1, |record| record.epoch) as f64);
    Axis::new("epoch", Scale::Linear { low: first, high: last.max(first + 1.0) }, Unit::Whole)
}

/// An axis that all values are on: from 0 where they come near it, which shows their size, and a little above the
/// largest; `range` says otherwise.
fn values(series: &[Series], range: Option<[f32; 2]>) -> Axis {
    let values = series.iter().flat_map(|series| &series.points).map(|[_, value]| *value).filter(|v| v.is_finite());
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    let low = if low > 0.6 * high { low } else { low.min(0.0) };
    let spread = if high - low > 1e-12 { 0.0 } else { 0.5 * high.abs().max(1e-6) };
    let (low, high) = range.map_or((low - spread, high + spread), |[low, high]| (low.into(), high.into()));
    Axis::new("", Scale::Linear { low, high: high + 0.04 * (high - low) }, Unit::Number)
}

/// Values of one number over the epochs that have it.
fn points(records: &[EpochRecord], name: &str) -> Vec<[f64; 2]> {
    let value = |record: &EpochRecord| record.numbers().find(|(found, _)| found == name).map(|(_, value)| value);
    records.iter().filter_map(|record| Some([record.epoch as f64, value(record)?])).collect()
}

/// A number to four digits or so.
fn precise(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-2..1e4).contains(&size) => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::history::tests::run;

    fn names(chart: &Chart) -> Vec<String> {
        chart.series.iter().map(|series| format!("{} {}", series.name, series.colour)).collect()
    }

    /// Every number of a run is a line with all its epochs; a run without epochs, with one, or of constants draws too.
    #[test]
    fn curves_show_every_number() {
        let records = run(60);
        let charts = charts(&records, &[]);
        let titles: Vec<&str> = charts.iter().map(|chart| chart.title.as_str()).collect();
        assert_eq!(titles, ["Loss", "Learning rate", EVALUATION]);
        assert_eq!(names(&charts[0])[0], format!("total {INK}"), "{:?}", names(&charts[0]));
        assert!(charts[0].series.len() > 1 && names(&charts[0])[1].ends_with(" 0"), "{:?}", names(&charts[0]));
        assert_eq!(charts[2].series.len(), 3);
        for series in charts.iter().flat_map(|chart| &chart.series) {
            // Every fifth epoch is evaluated.
            let epochs = if charts[2].series.contains(series) { 12 } else { 60 };
            assert!(series.points.len() == epochs && !series.note.is_empty(), "{series:?}");
        }
        let highest = charts[2].series[0].points.iter().map(|[_, value]| *value).fold(0.0, f64::max);
        assert!(charts[2].series[0].note.starts_with(&format!("best {highest:.4} @ ")), "{}", charts[2].series[0].note);

        let drawn = |records: &[EpochRecord]| image::load_from_memory(&picture(records, &[]).unwrap()).unwrap();
        let flat: Vec<_> = (1..=4).map(EpochRecord::new).collect();
        let [blank, one, all] = [&flat[..0], &flat[..1], &flat[..]].map(drawn);
        assert!(blank.width() == 1600 && blank != one && one != all);
    }

    #[test]
    fn numbers_are_short_and_zero_is_0() {
        let numbers = [0.0, -0.0, 0.25, -12.5, 6e-5, 20_000.0].map(precise);
        assert_eq!(numbers, ["0", "0", "0.2500", "-12.5000", "6.00e-5", "2.00e4"]);
    }

    /// A family's own panels: lines of both axes, the range and the dashed guide.
    #[test]
    fn panels_of_a_family_are_charts_two_in_a_row() {
        let panels = [
            Panel {
                right: vec![Line::new("rank 1", "metrics/rank1")],
                ..Panel::new("loss", [Line::new("train", "loss/total")])
            },
            Panel::new("nothing", [Line::new("train", "loss/None")]),
            Panel {
                range: Some([0.0, 1.0]),
                guide: Some(0.5),
                ..Panel::new("share", [Line::new("mAP", "metrics/mAP")])
            },
        ];
        let records = run(60);
        let charts = charts(&records, &panels);
        assert_eq!([0, 1, 2].map(|at| names(&charts[at]).len()), [2, 1, 1]);
        assert!(charts[0].series[1].right && charts[0].right.is_some() && charts[2].right.is_none());
        assert!(charts[1].series[0].points.is_empty());
        assert_eq!(charts[2].guides[0].0, Guide::Level(0.5));
        assert_eq!(charts[2].y.scale, Scale::Linear { low: 0.0, high: 1.04 });
        let sheet = image::load_from_memory(&picture(&records, &panels).unwrap()).unwrap();
        assert_eq!(sheet.width(), 2240);
    }
}
