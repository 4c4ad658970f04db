//! Measurements as a picture: pictures per second, and latency, over the batch.

use std::io::Cursor;

use ::report::chart::{Axis, Chart, Scale, Series, Shape, Unit, sheet};
use image::ImageFormat;

use super::{Measured, name};

/// Width of a chart and height of its plot, in pixels.
const SIZE: [f64; 2] = [560.0, 290.0];

/// Pixels of the picture for each of the chart's.
const ZOOM: f64 = 2.0;

/// The measurements as PNG.
///
/// # Errors
/// If the picture cannot be compressed.
pub fn picture(rows: &[Measured]) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::new();
    sheet(&charts(rows), 2, ZOOM).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(bytes)
}

fn charts(rows: &[Measured]) -> [Chart; 2] {
    let mut kinds: Vec<String> = Vec::new();
    for row in rows {
        let kind = kind(row);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let line = |at: usize, kind: &String, what: &str, value: &dyn Fn(&Measured) -> f64| {
        let mut points: Vec<[f64; 2]> = rows
            .iter()
            .filter(|row| super::picture::kind(row) == *kind)
            .map(|row| [row.batch as f64, value(row)])
            .collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        Series::new(&format!("{kind}{what}"), at, Shape::Line, points)
    };
    let batches = rows.iter().map(|row| row.batch as f64);
    let (low, high) = batches.fold((f64::INFINITY, 1.0_f64), |(low, high), batch| (low.min(batch), high.max(batch)));
    let x = || Axis::new("pictures in a run", Scale::Linear { low: low.min(high - 1.0), high }, Unit::Whole);
    let top = |value: &dyn Fn(&Measured) -> f64| 1.05 * rows.iter().map(value).fold(f64::MIN_POSITIVE, f64::max);
    let chart = |title: &str, unit: &str, most: f64, series: Vec<Series>| Chart {
        title: title.to_owned(),
        size: SIZE,
        x: x(),
        y: Axis::new(unit, Scale::Linear { low: 0.0, high: most }, Unit::Number),
        right: None,
        series,
        guides: Vec::new(),
    };
    let rates = kinds.iter().enumerate().map(|(at, kind)| line(at, kind, "", &|row| row.pictures_per_second));
    let times = kinds.iter().enumerate().flat_map(|(at, kind)| {
        [line(2 * at, kind, ", p50", &|row| row.p50_ms), line(2 * at + 1, kind, ", p99", &|row| row.p99_ms)]
    });
    [
        chart("Throughput", "pictures per second", top(&|row| row.pictures_per_second), rates.collect()),
        chart("Latency of a run", "milliseconds", top(&|row| row.p99_ms), times.collect()),
    ]
}

/// What a line is of.
fn kind(row: &Measured) -> String {
    format!("{} {} {}, threads {}", name(row), row.precision, row.provider, row.threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(model: &str, batch: usize, p50_ms: f64) -> Measured {
        Measured {
            model: model.into(),
            architecture: "Tiny".into(),
            precision: "fp32".into(),
            runtime: "ONNX Runtime 1".into(),
            provider: "cpu".into(),
            threads: 2,
            batch,
            first_ms: 1.0,
            runs: 10,
            p50_ms,
            p95_ms: p50_ms,
            p99_ms: 2.0 * p50_ms,
            pictures_per_second: 1e3 * batch as f64 / p50_ms,
            peak_memory_bytes: None,
            multiply_adds_g: None,
            machine: None,
            least_ms: None,
            roofline: None,
        }
    }

    #[test]
    fn each_model_has_a_line_over_its_batches() {
        let rows = [row("a/model.onnx", 16, 8.0), row("a/model.onnx", 1, 1.0), row("b.onnx", 1, 4.0)];
        let [rates, times] = charts(&rows);
        assert_eq!(rates.series.len(), 2);
        assert_eq!(rates.series[0].points, [[1.0, 1000.0], [16.0, 2000.0]]);
        assert!(rates.series[0].name.starts_with("a fp32 cpu"), "{}", rates.series[0].name);
        assert_eq!((times.series.len(), times.series[1].points[1]), (4, [16.0, 16.0]));
        let picture = image::load_from_memory(&picture(&rows).unwrap()).unwrap();
        assert_eq!(picture.width(), 2240);
        // One batch alone has an axis too.
        assert!(super::picture(&rows[1..2]).is_ok());
    }
}
