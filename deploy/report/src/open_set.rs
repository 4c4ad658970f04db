//! What thresholds of searches cost, as a chart.

use metrics::open_set::{OpenSetCurve, OpenSetReport};

use crate::chart::{Axis, Chart, Guide, Scale, Series, Shape, Unit};

/// Width of the chart and height of its plot, in pixels.
const SIZE: [f64; 2] = [460.0, 280.0];

/// Most curves of the chart; each has a colour of its own.
const CURVES: usize = 6;

/// FNIR over FPIR, a curve for each of up to six gallery sizes, both by decades down to what the people measured can
/// tell. Dashed lines are at the rates that were asked for and can be told.
pub fn tradeoffs(report: &OpenSetReport) -> Chart {
    // What nobody can show is drawn at the edge.
    let least = |trials: usize| 0.5 / trials.max(1) as f64;
    let decades = |least: f64| Scale::Log { low: 10_f64.powf(least.log10().floor()), high: 1.0 };
    let [fewest, least] = [least(report.trials), least(report.mated)];
    let mut series = Vec::new();
    for (colour, curve) in spaced(&report.curves).enumerate() {
        let points = curve.points.iter().map(|point| [point.fpir.max(fewest), point.fnir.max(least)]).collect();
        let people = if curve.gallery == 1 { "person" } else { "people" };
        series.push(Series::new(&format!("{} {people}", curve.gallery), colour, Shape::Line, points));
    }
    let told = report.points.iter().filter(|point| !point.below_resolution);
    let mut asked: Vec<f64> = told.map(|point| point.target).collect();
    asked.dedup();
    let called = |(at, rate): (usize, f64)| (Guide::At(rate), if at == 0 { "asked for".into() } else { String::new() });
    Chart {
        title: "FNIR over FPIR by people in the gallery".into(),
        size: SIZE,
        x: Axis::new("false positive identification rate", decades(fewest), Unit::Percent),
        y: Axis::new("false negative identification rate", decades(least), Unit::Percent),
        right: None,
        series,
        guides: asked.into_iter().enumerate().map(called).collect(),
    }
}

/// At most [`CURVES`] of the curves, the first and the last among them.
fn spaced(curves: &[OpenSetCurve]) -> impl Iterator<Item = &OpenSetCurve> {
    let shown = curves.len().min(CURVES);
    (0..shown).map(move |at| &curves[at * (curves.len() - 1) / (shown - 1).max(1)])
}

#[cfg(test)]
mod tests {
    use maud::Render;
    use metrics::Matrix;
    use metrics::open_set::{OpenSetOptions, evaluate, sizes};

    use super::*;

    fn report(people: usize) -> OpenSetReport {
        let angle = |row: usize| row as f32 * 0.7 + (row % 2) as f32 * 0.3;
        let rows = (0..2 * people).flat_map(|row| [angle(row).cos(), angle(row).sin()]).collect();
        let labels: Vec<i64> = (0..2 * people).map(|row| (row / 2) as i64).collect();
        let options =
            OpenSetOptions { fpirs: vec![0.5, 0.1, 0.001], galleries: sizes(people - 1), ..Default::default() };
        evaluate(&Matrix::new(rows, 2 * people, 2).unwrap(), &labels, &options).unwrap()
    }

    /// Every point of the chart is one of the report, or at the edge of what can be told.
    #[test]
    fn the_chart_draws_the_report() {
        let report = report(40);
        let chart = tradeoffs(&report);
        assert_eq!(chart.series.len(), CURVES);
        let name = |gallery: usize| if gallery == 1 { "1 person".to_owned() } else { format!("{gallery} people") };
        for series in &chart.series {
            let curve = report.curves.iter().find(|curve| name(curve.gallery) == series.name).unwrap();
            assert_eq!(series.points.len(), curve.points.len());
            for ([fpir, fnir], point) in series.points.iter().zip(&curve.points) {
                assert_eq!(*fpir, point.fpir.max(0.5 / report.trials as f64));
                assert_eq!(*fnir, point.fnir.max(0.5 / report.mated as f64));
            }
        }
        assert_eq!((&*chart.series[0].name, &*chart.series[CURVES - 1].name), ("1 person", "39 people"));
        let guides: Vec<Guide> = chart.guides.iter().map(|(guide, _)| *guide).collect();
        assert_eq!(guides, [Guide::At(0.5), Guide::At(0.1)], "40 people cannot tell one in a thousand");
        let drawn = chart.render().into_string();
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }

    #[test]
    fn few_sizes_are_all_drawn() {
        for (people, sizes) in [(2, 1), (3, 2), (4, 3), (9, 5)] {
            assert_eq!(tradeoffs(&report(people)).series.len(), sizes, "{people} people");
        }
    }
}
