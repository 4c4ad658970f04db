//! The page of an audit: what a data set holds, and what was found, with the pictures.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use contract::preprocess;
use datasets::audit::{Audit, DatasetFacts, Example, Finding, SetFacts};
use image::ImageFormat;
use image::imageops::{self, FilterType};
use maud::{Markup, html};
use rayon::prelude::*;
use report::chart::{Axis, Chart, Scale, Series, Shape, Unit};
use report::{data_uri, page};

/// Examples of a finding that are shown with their pictures.
const SHOWN: usize = 12;

/// Height of a shown picture, in pixels: twice that on the page, for sharp screens.
const HEIGHT: u32 = 192;

/// Longest side of a shown picture that is wider than high.
const WIDTH: u32 = 256;

/// Bars of the chart of identities.
const BARS: usize = 30;

/// The page as text.
pub(super) fn html(found: &Audit) -> String {
    let shown = |finding: &Finding| {
        finding.examples.iter().take(SHOWN).flat_map(|one| one.pictures.clone()).collect::<Vec<_>>()
    };
    let pictures: Vec<_> = found.findings.iter().flat_map(shown).collect();
    let thumbnails: HashMap<_, _> =
        pictures.into_par_iter().filter_map(|path| Some((path.clone(), thumbnail(&path)?))).collect();
    let body = html! {
        p { (found.files) " picture files were looked at." }
        @for set in &found.datasets { (dataset(set)) }
        h2 { "Findings" }
        @if found.findings.is_empty() {
            p { "Nothing was found." }
        } @else {
            (overview(&found.findings))
            @for one in &found.findings { (finding(one, &thumbnails)) }
        }
    };
    page("Data set", &body)
}

fn dataset(set: &DatasetFacts) -> Markup {
    let row = |name: &str, SetFacts { pictures, identities, cameras }: &SetFacts| {
        let cameras = if *cameras > 0 { cameras.to_string() } else { "not known".to_owned() };
        html! { tr { td { (name) } td { (pictures) } td { (identities) } td { (cameras) } } }
    };
    html! {
        h2 { (set.name) }
        div.scroll {
            table.numbers {
                thead { tr { th { "" } th { "pictures" } th { "identities" } th { "cameras" } } }
                tbody { (row("train", &set.train)) (row("query", &set.query)) (row("gallery", &set.gallery)) }
            }
        }
        p { (set.scorable.to_string()) "." }
        @for warning in &set.warnings { p.warning { (warning) } }
        div.charts { @if !set.cameras.is_empty() { (cameras(set)) } (people(set)) }
        @if !set.cameras.is_empty() { p { "Cameras count from 0; in names such as 0002_c1 they count from 1." } }
    }
}

/// How many pictures each camera has, by set.
fn cameras(set: &DatasetFacts) -> Chart {
    let (low, high) = match (set.cameras.first(), set.cameras.last()) {
        (Some(first), Some(last)) => (first.camera as f64 - 0.5, last.camera as f64 + 0.5),
        _ => (-0.5, 0.5),
    };
    let points = |count: fn(&datasets::audit::CameraFacts) -> usize| {
        set.cameras.iter().map(|one| [one.camera as f64, count(one) as f64]).collect::<Vec<_>>()
    };
    let series = vec![
        Series::new("train", 0, Shape::Dots, points(|one| one.train)),
        Series::new("query", 1, Shape::Dots, points(|one| one.query)),
        Series::new("gallery", 2, Shape::Dots, points(|one| one.gallery)),
    ];
    chart("Pictures by camera", "camera", "pictures", [low, high], series)
}

/// How many training identities have how many pictures.
fn people(set: &DatasetFacts) -> Chart {
    let most = set.pictures_of_identities.last().map_or(1, |[pictures, _]| *pictures);
    let every = most.div_ceil(BARS);
    let mut bars = vec![0; most.div_ceil(every)];
    for [pictures, identities] in &set.pictures_of_identities {
        bars[(pictures - 1) / every] += identities;
    }
    let middle = |at: usize| (at * every) as f64 + (every as f64 + 1.0) / 2.0;
    let points = bars.into_iter().enumerate().map(|(at, count)| [middle(at), f64::from(count as u32)]).collect();
    let series = vec![Series::new("training identities", 0, Shape::Bars, points)];
    chart(
        "Pictures of an identity",
        "pictures",
        "identities",
        [0.5, most.div_ceil(every) as f64 * every as f64 + 0.5],
        series,
    )
}

fn chart(title: &str, across: &str, up: &str, [low, high]: [f64; 2], series: Vec<Series>) -> Chart {
    let most = series.iter().flat_map(|series| &series.points).map(|[_, count]| *count).fold(1.0, f64::max);
    Chart {
        title: title.to_owned(),
        size: [520.0, 190.0],
        x: Axis::new(across, Scale::Linear { low, high }, Unit::Whole),
        y: Axis::new(up, Scale::Linear { low: 0.0, high: 1.04 * most }, Unit::Whole),
        right: None,
        series,
        guides: vec![],
    }
}

fn overview(findings: &[Finding]) -> Markup {
    html! {
        div.scroll {
            table {
                tbody {
                    @for one in findings {
                        tr { td { (one.count) } td { (one.kind.title()) } td { (one.kind.why()) } }
                    }
                }
            }
        }
    }
}

fn finding(Finding { kind, count, examples }: &Finding, thumbnails: &HashMap<std::path::PathBuf, String>) -> Markup {
    let example = |Example { what, pictures }: &Example| {
        html! {
            figure.instance {
                div {
                    @for path in pictures {
                        @match thumbnails.get(path) {
                            Some(uri) => { img src=(uri) alt="" title=(path.display().to_string()); }
                            None => { span.missing { "no picture" } }
                        }
                    }
                }
                figcaption {
                    (what)
                    @for path in pictures { br; code { (path.display().to_string()) } }
                }
            }
        }
    };
    html! {
        h2 { (kind.title()) ": " (count) }
        p { (kind.why()) }
        div.instances { @for one in examples.iter().take(SHOWN) { (example(one)) } }
        @if *count > SHOWN { p { "and " (count - SHOWN) " more" } }
    }
}

/// A small copy for the page; none of a picture that cannot be read.
fn thumbnail(path: &Path) -> Option<String> {
    let picture = preprocess::decode(path).ok()?;
    let (width, height) = picture.dimensions();
    // Never enlarged: the browser does that.
    let scale = (f64::from(HEIGHT) / f64::from(height)).min(f64::from(WIDTH) / f64::from(width)).min(1.0);
    let [width, height] = [width, height].map(|side| ((f64::from(side) * scale).round() as u32).max(1));
    let small = imageops::resize(&picture, width, height, FilterType::Triangle);
    let mut bytes = Cursor::new(Vec::new());
    small.write_to(&mut bytes, ImageFormat::Jpeg).ok()?;
    Some(data_uri("jpeg", bytes.get_ref()))
}
