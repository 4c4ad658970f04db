//! What is said about a verifier: a table for the terminal, and a page with its curves.

use maud::{Markup, html};
use metrics::verification::{Histogram, Interval, TarAtFar, VerificationReport};

use crate::chart::{Axis, Chart, Guide, Scale, Series, Shape, Unit};
use crate::page::{page, rows};

/// Width of a chart and height of its plot, in pixels.
const SIZE: [f64; 2] = [460.0, 280.0];

/// Lines of name and value, as the table and the page show them.
fn lines(report: &VerificationReport) -> Vec<[String; 2]> {
    let VerificationReport { samples, identities, distractors, trials, genuine, impostor, eer, at_eer, .. } = report;
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push([name.to_owned(), value]);
    let nobody = if *distractors > 0 { format!(" and {distractors} distractors") } else { String::new() };
    line(
        "compared",
        format!(
            "{samples} rows of {identities} identities{nobody}: {genuine} genuine pairs, {impostor} impostor pairs"
        ),
    );
    let between = |interval: Option<Interval>| {
        interval
            .map(|Interval { low, high }| format!("  (95 %: {:.2} to {:.2})", 100.0 * low, 100.0 * high))
            .unwrap_or_default()
    };
    let percent = |share: f64, interval| format!("{:.2} %{}", 100.0 * share, between(interval));
    line("EER", format!("{}, at similarity {:.4}", percent(eer.rate, report.eer_interval), eer.threshold));
    line("AUC", percent(report.auc, report.auc_interval));
    for TarAtFar { target, point, interval, below_resolution, .. } in &report.tar {
        let at = match (below_resolution, point.threshold.is_finite()) {
            (true, _) if trials.impostor == 1 => "; 1 pair of identities cannot tell such a rate".to_owned(),
            (true, _) => format!("; {} pairs of identities cannot tell such a rate", trials.impostor),
            (false, true) => format!(", at similarity {:.4}", point.threshold),
            (false, false) => "; the most similar pair is an impostor's".to_owned(),
        };
        line(&format!("TAR at FAR {} %", 100.0 * target), percent(point.tar, *interval) + &at);
    }
    line(
        "at the EER's threshold",
        format!(
            "FAR {:.2} %, FRR {:.2} %, {:.2} % decided rightly",
            100.0 * at_eer.far,
            100.0 * at_eer.frr,
            100.0 * at_eer.accuracy
        ),
    );
    if let Some(found) = &report.identification {
        line(
            "Rank-1",
            percent(found.rank1, report.rank1_interval)
                + &format!(", {} probes in {} enrolled", found.probes, found.gallery),
        );
        if let Some(rank5) = found.cmc.get(4) {
            line("Rank-5", percent(*rank5, None));
        }
        line("Rank-1, leave one out", percent(found.leave_one_out_rank1, None));
    }
    let (genuine, impostor) = (report.genuine_mean, report.impostor_mean);
    line("mean similarity", format!("{genuine:.4} genuine, {impostor:.4} impostor"));
    lines
}

/// The numbers for people, a line each.
pub fn table(report: &VerificationReport) -> String {
    let lines = lines(report);
    let width = lines.iter().map(|[name, _]| name.chars().count()).max().unwrap_or(0);
    lines.iter().map(|[name, value]| format!("{name:<width$}  {value}\n")).collect()
}

/// The numbers for a page.
pub fn numbers(report: &VerificationReport) -> Markup {
    let numbers: Vec<(String, String)> = lines(report).into_iter().map(|[name, value]| (name, value)).collect();
    rows(&numbers)
}

/// ROC and DET curves and the histograms of similarities.
pub fn charts(report: &VerificationReport) -> [Chart; 3] {
    [roc(report), det(report), similarities(report)]
}

/// One page that loads nothing: the numbers and the charts. `facts` are lines of name and value about model and data.
pub fn html(title: &str, facts: &[(&str, String)], report: &VerificationReport) -> String {
    let body = html! {
        (rows(facts))
        (numbers(report))
        div.charts { @for chart in &charts(report) { (chart) } }
    };
    page(title, &body)
}

/// What the curve's threshold at equal error rates is called in every chart.
const EER: &str = "EER";

/// True accepts over false accepts, whose axis is by decades down to what the impostor pairs can tell.
fn roc(report: &VerificationReport) -> Chart {
    // What no pair can tell is not drawn.
    let least = 0.5 / report.impostor.max(1) as f64;
    let points = report.curve.iter().map(|point| [point.far.max(least), point.tar]).collect();
    let eer = report.eer.rate;
    let decades = Scale::Log { low: 10_f64.powf(least.log10().floor()), high: 1.0 };
    Chart {
        title: "ROC".into(),
        size: SIZE,
        x: Axis::new("false accept rate", decades, Unit::Percent),
        y: Axis::new("true accept rate", Scale::Linear { low: 0.0, high: 1.0 }, Unit::Percent),
        right: None,
        series: vec![
            Series::new("true accepts", 0, Shape::Line, points),
            Series::new(EER, 1, Shape::Dots, vec![[eer, 1.0 - eer]]),
        ],
        guides: vec![],
    }
}

/// False rejects over false accepts, both by their normal deviate.
fn det(report: &VerificationReport) -> Chart {
    let floor = (0.5 / report.genuine.max(report.impostor).max(1) as f64).clamp(1e-4, 0.1);
    let scale = Scale::Probit { low: floor, high: 0.6 };
    let points = report.curve.iter().map(|point| [point.far, 1.0 - point.tar]).collect();
    let eer = report.eer.rate;
    Chart {
        title: "DET".into(),
        size: SIZE,
        x: Axis::new("false accept rate", scale, Unit::Percent),
        y: Axis::new("false reject rate", scale, Unit::Percent),
        right: None,
        series: vec![
            Series::new("false rejects", 0, Shape::Line, points),
            Series::new(EER, 1, Shape::Dots, vec![[eer, eer]]),
        ],
        guides: vec![],
    }
}

/// How similar genuine and impostor pairs are.
fn similarities(report: &VerificationReport) -> Chart {
    let guide = (Guide::At(f64::from(report.eer.threshold)), "threshold at the EER".into());
    similarity_bars(&report.histogram, ["genuine pairs", "impostor pairs"], vec![guide])
}

/// How similar pairs of two kinds are.
pub(crate) fn similarity_bars(shares: &Histogram, names: [&str; 2], guides: Vec<(Guide, String)>) -> Chart {
    let [low, high] = [f64::from(shares.low), f64::from(shares.high).max(f64::from(shares.low) + 1e-6)];
    let most = shares.genuine.iter().chain(&shares.impostor).copied().fold(1e-9, f64::max);
    let bars = |(colour, shares): (usize, &Vec<f64>)| {
        let step = (high - low) / shares.len().max(1) as f64;
        let points = shares.iter().enumerate().map(|(bin, share)| [low + (bin as f64 + 0.5) * step, *share]).collect();
        Series::new(names[colour], colour, Shape::Bars, points)
    };
    Chart {
        title: "Similarities".into(),
        size: SIZE,
        x: Axis::new("cosine similarity", Scale::Linear { low, high }, Unit::Number),
        y: Axis::new("share of pairs", Scale::Linear { low: 0.0, high: 1.04 * most }, Unit::Percent),
        right: None,
        series: [&shares.genuine, &shares.impostor].into_iter().enumerate().map(bars).collect(),
        guides,
    }
}

#[cfg(test)]
mod tests {
    use metrics::Matrix;
    use metrics::verification::{VerificationOptions, evaluate};

    use super::*;

    fn report() -> VerificationReport {
        let angles = [0.0_f32, 0.2, 0.5, 1.1, 1.3, 1.2, 2.5, 2.4, 1.9];
        let rows = angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
        let labels = [1, 1, 1, 7, 7, 7, 3, 3, 3];
        evaluate(&Matrix::new(rows, 9, 2).unwrap(), &labels, &VerificationOptions::default()).unwrap()
    }

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let page = html("Verification", &[], &report());
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(!page.contains("http") && !page.contains("NaN") && !page.contains("inf"), "{page}");
        for text in [">ROC<", ">DET<", ">cosine similarity<", ">genuine pairs<", ">threshold at the EER<", ">100 %<"] {
            assert!(page.contains(text), "{text}");
        }
    }

    /// Every point of the charts is one of the report, or at the edge of what can be told.
    #[test]
    fn the_charts_draw_the_report() {
        let report = report();
        let [roc, det, similarities] = charts(&report);
        for ((point, roc), det) in report.curve.iter().zip(&roc.series[0].points).zip(&det.series[0].points) {
            assert_eq!(*roc, [point.far.max(0.5 / report.impostor as f64), point.tar]);
            assert_eq!(*det, [point.far, 1.0 - point.tar]);
        }
        assert_eq!((roc.series[0].points.len(), det.series[0].points.len()), (report.curve.len(), report.curve.len()));
        for (series, shares) in similarities.series.iter().zip([&report.histogram.genuine, &report.histogram.impostor])
        {
            assert!(series.points.iter().map(|point| point[1]).eq(shares.iter().copied()), "{}", series.name);
        }
        assert_eq!(similarities.guides[0].0, Guide::At(report.eer.threshold.into()));
    }

    #[test]
    fn the_table_says_what_cannot_be_told() {
        let table = table(&report());
        assert!(table.contains("9 rows of 3 identities: 9 genuine pairs, 27 impostor pairs"), "{table}");
        assert!(table.contains("3 pairs of identities cannot tell such a rate"), "{table}");
        assert!(table.starts_with("compared") && table.contains("EER ") && table.contains("Rank-1, leave one out"));
    }
}
