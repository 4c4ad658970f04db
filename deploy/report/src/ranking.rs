//! What is said about the ranking of a gallery: the numbers, the curve, and the queries that went worst.

use std::path::PathBuf;

use image::RgbImage;
use maud::{Markup, html};
use metrics::verification::{Histogram, Interval};
use metrics::{QueryScore, RankingIntervals, RankingReport};

use crate::chart::{Axis, Chart, Scale, Series, Shape, Unit};
use crate::page::{page, rows};
use crate::pictures::Pictures;
use crate::verification::similarity_bars;

/// Width of a chart and height of its plot, in pixels.
const SIZE: [f64; 2] = [460.0, 280.0];

/// Ranks on the chart.
const DRAWN: usize = 20;

/// An evaluation of queries against a gallery.
pub struct Evaluation {
    /// Lines of name and value about model and data.
    pub facts: Vec<(&'static str, String)>,
    /// Sentences that put the numbers in doubt.
    pub warnings: Vec<String>,
    /// By what the gallery was ordered, and what came of it; a report without a valid query has no numbers.
    pub rankings: Vec<(&'static str, RankingReport)>,
    /// How similar the same and different people are.
    pub histogram: Option<Histogram>,
    /// The queries with the lowest average precision, the worst first; see [`worst_first`].
    pub worst: Vec<WorstQuery>,
    /// How many there are that could be shown.
    pub scored: usize,
}

/// The `limit` queries with the lowest average precision, the worst first, of equal ones the earlier.
pub fn worst_first(scores: impl IntoIterator<Item = (usize, QueryScore)>, limit: usize) -> Vec<(usize, QueryScore)> {
    let mut all: Vec<_> = scores.into_iter().collect();
    all.sort_by(|(_, a), (_, b)| a.average_precision.total_cmp(&b.average_precision));
    all.truncate(limit);
    all
}

/// A picture on the page.
pub struct Shown {
    /// Where it is.
    pub file: PathBuf,
    /// What it is called.
    pub name: String,
    /// Who is on it, and where it was taken.
    pub who: String,
}

/// A query, and what came first.
pub struct WorstQuery {
    /// Its picture.
    pub picture: Shown,
    /// How well its right entries rank.
    pub score: QueryScore,
    /// The first entries that count, best first.
    pub entries: Vec<Ranked>,
    /// The most similar entry of the same person where none of these is one.
    pub missed: Option<Ranked>,
}

/// An entry of the gallery.
pub struct Ranked {
    /// Its picture.
    pub picture: Shown,
    /// Cosine similarity to the query.
    pub similarity: f32,
    /// Whether it shows the same person.
    pub right: bool,
}

/// The intervals in words, in percent.
pub fn intervals(of: &RankingIntervals) -> String {
    let between = |Interval { low, high }: Interval| format!("{:.2} to {:.2} %", 100.0 * low, 100.0 * high);
    let RankingIntervals { identities, rank1, map, minp } = *of;
    let people = if identities == 1 { "1 person".to_owned() } else { format!("{identities} people") };
    let [rank1, map, minp] = [rank1, map, minp].map(between);
    format!("95 % intervals over {people}: Rank-1 {rank1}, mAP {map}, mINP {minp}")
}

/// CMC curves of rankings, and the similarities where they are known.
pub fn charts(rankings: &[(&str, RankingReport)], histogram: Option<&Histogram>) -> Vec<Chart> {
    let curve = |(colour, (name, report)): (usize, &(&str, RankingReport))| {
        let shares = report.cmc.iter().take(DRAWN).enumerate();
        let points = shares.map(|(rank, share)| [(rank + 1) as f64, *share]).collect();
        Series::new(name, colour, Shape::Line, points)
    };
    let scored: Vec<_> = rankings.iter().filter(|(_, report)| report.valid_queries > 0).collect();
    if scored.is_empty() {
        return Vec::new();
    }
    let least = scored.iter().map(|(_, report)| report.rank(1)).fold(1.0, f64::min);
    let cmc = Chart {
        title: "CMC".into(),
        size: SIZE,
        x: Axis::new("rank", Scale::Linear { low: 1.0, high: DRAWN as f64 }, Unit::Whole),
        y: Axis::new(
            "queries with a match at that rank or better",
            Scale::Linear { low: (10.0 * least - 1e-9).floor().max(0.0) / 10.0, high: 1.0 },
            Unit::Percent,
        ),
        right: None,
        series: scored.into_iter().enumerate().map(curve).collect(),
        guides: vec![],
    };
    let bars = |shares: &Histogram| similarity_bars(shares, ["same person", "different people"], vec![]);
    std::iter::once(cmc).chain(histogram.map(bars)).collect()
}

impl Evaluation {
    /// One page that loads nothing. `open` reads a picture, as in [`Pictures::of`].
    pub fn html(&self, title: &str, open: impl Fn(&std::path::Path) -> Option<RgbImage> + Sync) -> String {
        self.html_with(title, open, &html! {})
    }

    /// As [`html`](Self::html), with `more` at the end of the page.
    pub fn html_with(
        &self,
        title: &str,
        open: impl Fn(&std::path::Path) -> Option<RgbImage> + Sync,
        more: &Markup,
    ) -> String {
        let files = self.worst.iter().flat_map(|query| {
            let entries = query.entries.iter().chain(&query.missed).map(|entry| &entry.picture);
            std::iter::once(&query.picture).chain(entries).map(|picture| picture.file.as_path())
        });
        let pictures = Pictures::of(files, open);
        let charts = charts(&self.rankings, self.histogram.as_ref());
        let body = html! {
            (pictures.symbols())
            (rows(&self.facts))
            @for (by, report) in &self.rankings { @if report.valid_queries > 0 { (tiles(by, report)) } }
            @for warning in &self.warnings { p.warning { (warning) } }
            @if !charts.is_empty() { div.charts { @for chart in &charts { (chart) } } }
            @if !self.worst.is_empty() {
                h2 { "Queries, the worst first" }
                p.legend {
                    span.key.right { "✓ same person" } " " span.key.wrong { "✗ another person" }
                    " Entries that the protocol leaves out are not shown."
                }
                main { @for query in &self.worst { (worst(query, &pictures)) } }
                @if self.worst.len() < self.scored {
                    p.note {
                        (self.worst.len()) " of " (self.scored) " queries are shown; all count in the numbers above."
                    }
                }
            }
            (more)
        };
        page(title, &body)
    }
}

fn tiles(by: &str, report: &RankingReport) -> Markup {
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let between = |of: fn(&RankingIntervals) -> Interval| report.intervals.as_ref().map(of);
    let tiles = [
        ("Rank-1", report.rank(1), between(|of| of.rank1)),
        ("Rank-5", report.rank(5), None),
        ("Rank-10", report.rank(10), None),
        ("mAP", report.map, between(|of| of.map)),
        ("mINP", report.minp, between(|of| of.minp)),
    ];
    let people = report.intervals.map_or(0, |intervals| intervals.identities);
    html! {
        h2 { "By " (by) }
        div.tiles {
            @for (name, share, interval) in tiles {
                div.tile {
                    b { (percent(share)) small { " %" } } (name)
                    @if let Some(Interval { low, high }) = interval {
                        small.between { (percent(low)) " to " (percent(high)) }
                    }
                }
            }
            p {
                (report.valid_queries) " of " (report.queries) " queries have a match among " (report.gallery)
                " entries; Market-1501 protocol. Below a number: its 95 % interval, over "
                @if people == 1 { "1 person" } @else { (people) " people" }
            }
        }
    }
}

fn worst(query: &WorstQuery, pictures: &Pictures) -> Markup {
    let QueryScore { first, average_precision, .. } = query.score;
    let card = |rank: Option<usize>, Ranked { picture, similarity, right }: &Ranked| {
        let (class, sign) = if *right { ("right", "✓") } else { ("wrong", "✗") };
        html! {
            figure.match.(class) {
                (pictures.image(&picture.file, &picture.name))
                figcaption {
                    b { (format!("{similarity:.4}")) } " "
                    em { (sign) @if let Some(rank) = rank { " #" (rank) } }
                    span { (picture.who) }
                    span { (picture.name) }
                }
            }
        }
    };
    html! {
        section {
            figure.probe {
                (pictures.image(&query.picture.file, &query.picture.name))
                figcaption { b { "Query" } " " (query.picture.who) span { (query.picture.name) } }
            }
            div.answers {
                p.answer {
                    "AP " b { (format!("{:.1} %", 100.0 * average_precision)) }
                    span { " – first match at rank " (first) }
                }
                div.matches {
                    @for (at, entry) in query.entries.iter().enumerate() { (card(Some(at + 1), entry)) }
                    @if let Some(missed) = &query.missed { (card(None, missed)) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::{Label, Matrix, similarities};

    use super::*;

    fn evaluation() -> Evaluation {
        let queries: Vec<Label> = (0..4).map(|at| Label { identity: at, camera: 0 }).collect();
        let report = RankingReport::of(&queries, &[vec![1], vec![1, 2], vec![3], vec![]], 9);
        let gallery: Vec<Label> = (0..3).map(|at| Label { identity: at, camera: 1 }).collect();
        let distance = Matrix::new((0..12).map(|at| at as f32 / 12.0).collect(), 4, 3).unwrap();
        let shown = |name: &str| Shown { file: name.into(), name: format!("<{name}>"), who: "0002 · cam 1".into() };
        let ranked = |name: &str, right| Ranked { picture: shown(name), similarity: 0.25, right };
        Evaluation {
            facts: vec![("dataset", "market1501".into())],
            warnings: vec!["nearly identical".into()],
            rankings: vec![("cosine similarity", report)],
            histogram: similarities(&distance, &queries, &gallery).unwrap(),
            worst: vec![WorstQuery {
                picture: shown("query"),
                score: QueryScore::of(&[3]).unwrap(),
                entries: vec![ranked("first", false), ranked("gone", false)],
                missed: Some(ranked("right", true)),
            }],
            scored: 3,
        }
    }

    #[test]
    fn the_page_has_numbers_charts_and_pictures_and_loads_nothing() {
        let open = |file: &std::path::Path| (file != "gone").then(|| RgbImage::new(2, 4));
        let page = evaluation().html("Evaluation", open);
        assert_eq!((page.matches("<svg class=\"chart").count(), page.matches("<section>").count()), (2, 1), "{page}");
        assert_eq!((page.matches("<symbol").count(), page.matches("picture not found").count()), (3, 1));
        for text in [
            "66.7",
            "mINP",
            "over 3 people",
            "1 of 3 queries are shown",
            "first match at rank 3",
            "33.3 %",
            ">CMC<",
            ">different people<",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
        assert!(page.contains("&lt;query&gt;") && page.contains("<p class=\"warning\">nearly identical"), "{page}");
        assert!(!page.contains("http") && !page.contains("NaN"), "{page}");
    }

    #[test]
    fn the_curve_is_that_of_the_report_and_none_is_drawn_of_nothing() {
        let Evaluation { rankings, histogram, .. } = evaluation();
        let [cmc, bars] = charts(&rankings, histogram.as_ref()).try_into().unwrap();
        let shares: Vec<f64> = cmc.series[0].points.iter().map(|point| point[1]).collect();
        assert_eq!(shares, rankings[0].1.cmc[..20]);
        let sum = |at: usize| bars.series[at].points.iter().map(|point| point[1]).sum::<f64>();
        assert!((sum(0) - 1.0).abs() < 1e-9 && (sum(1) - 1.0).abs() < 1e-9);
        let nothing = RankingReport::of(&[Label { identity: 1, camera: 0 }], &[vec![]], 3);
        assert!(charts(&[("cosine similarity", nothing)], None).is_empty());
    }

    #[test]
    fn the_worst_come_first() {
        let scores = [vec![1], vec![4], vec![2, 4], vec![9]].map(|ranks| QueryScore::of(&ranks).unwrap());
        let order = |limit| worst_first(scores.iter().copied().enumerate(), limit).into_iter().map(|(at, _)| at);
        assert!(order(9).eq([3, 1, 2, 0]) && order(1).eq([3]) && order(0).eq([]));
    }

    #[test]
    fn intervals_are_in_percent() {
        let at = |low, high| Interval { low, high };
        let of = RankingIntervals { identities: 1, rank1: at(0.5, 1.0), map: at(0.25, 0.5), minp: at(0.0, 0.125) };
        let said = "95 % intervals over 1 person: Rank-1 50.00 to 100.00 %, mAP 25.00 to 50.00 %, mINP 0.00 to 12.50 %";
        assert_eq!(intervals(&of), said);
    }
}
