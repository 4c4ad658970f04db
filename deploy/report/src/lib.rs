//! What is said about a verifier, the same while training and on the device: a table, and a page with its curves.

pub mod attention;
mod chart;

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use metrics::verification::{Interval, TarAtFar, VerificationReport};

use chart::{Curve, Scale, bars, curve};

/// Style of the page.
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#1c2430}\
    table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem 1.2rem .2rem 0;text-align:left;border-bottom:1px solid #dde3ea}\
    figure{display:inline-block;margin:0 1rem 1rem 0}figcaption{font-weight:600}svg{background:#fff}svg text{font:11px system-ui,sans-serif;fill:#4a5566}\
    .note{color:#8a4b08}";

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
    for TarAtFar { target, point, interval, below_resolution } in &report.tar {
        let at = match (below_resolution, point.threshold.is_finite()) {
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

/// One self-contained page: the numbers, ROC and DET curves and the histograms of similarities. `facts` are lines of
/// name and value about model and data.
pub fn html(title: &str, facts: &[(&str, String)], report: &VerificationReport) -> String {
    let rows = |lines: &mut dyn Iterator<Item = (String, String)>| -> String {
        lines
            .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(&name), escaped(&value)))
            .collect()
    };
    let facts = rows(&mut facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let numbers = rows(&mut lines(report).into_iter().map(|[name, value]| (name, value)));
    // What no pair can tell is not drawn.
    let least = 0.5 / report.impostor as f64;
    let floor = (0.5 / report.genuine.max(report.impostor) as f64).max(1e-6);
    let roc: Vec<[f64; 2]> = report.curve.iter().map(|point| [point.far.max(least), point.tar]).collect();
    let det: Vec<[f64; 2]> = report.curve.iter().map(|point| [point.far, 1.0 - point.tar]).collect();
    let eer = report.eer.rate;
    let mut figures = String::new();
    let decades = Scale::Log { low: 10_f64.powf(least.log10().floor()), high: 1.0 };
    let roc = Curve { points: &roc, mark: Some([eer, 1.0 - eer]) };
    figure(
        &mut figures,
        "ROC",
        &curve(["false accept rate", "true accept rate"], [decades, Scale::Linear { low: 0.0, high: 1.0 }], &roc),
    );
    let probit = Scale::Probit { low: floor.max(1e-4), high: 0.6 };
    let det = Curve { points: &det, mark: Some([eer, eer]) };
    figure(&mut figures, "DET", &curve(["false accept rate", "false reject rate"], [probit, probit], &det));
    let shares = &report.histogram;
    let range = [f64::from(shares.low), f64::from(shares.high)];
    let bars = bars("cosine similarity", range, [&shares.genuine, &shares.impostor], f64::from(report.eer.threshold));
    figure(&mut figures, "Similarities: genuine pairs blue, impostor pairs orange, the EER's threshold dashed", &bars);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<table>\n{facts}</table>\n\
         <table>\n{numbers}</table>\n{figures}</body>\n</html>\n",
        title = escaped(title)
    )
}

fn figure(out: &mut String, caption: &str, svg: &str) {
    let _ = writeln!(out, "<figure>{svg}<figcaption>{caption}</figcaption></figure>");
}

/// A picture inside a page, as a `data:` URI; `kind` is `png` or `jpeg`.
pub fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))
}

/// Text as HTML; file names are nobody's to trust.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
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
    fn names_cannot_become_markup() {
        assert_eq!(escaped("<img src=x onerror='a'>&\""), "&lt;img src=x onerror=&#39;a&#39;&gt;&amp;&quot;");
        let page = html("<b>", &[("model", "<script>".into())], &report());
        assert!(page.contains("&lt;b&gt;") && page.contains("&lt;script&gt;") && !page.contains("<script>"));
    }

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let page = html("Verification", &[], &report());
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(!page.contains("http") && !page.contains("NaN") && !page.contains("inf"), "{page}");
    }

    #[test]
    fn the_table_says_what_cannot_be_told() {
        let table = table(&report());
        assert!(table.contains("9 rows of 3 identities: 9 genuine pairs, 27 impostor pairs"), "{table}");
        assert!(table.contains("3 pairs of identities cannot tell such a rate"), "{table}");
        assert!(table.starts_with("compared") && table.contains("EER ") && table.contains("Rank-1, leave one out"));
    }
}
