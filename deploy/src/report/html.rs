//! A search as a page: probes and their matches with pictures, nothing loaded from elsewhere.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ::report::page;
use maud::{Markup, html};
use rayon::prelude::*;

use super::thumbnail::data_uri;
use super::{MatchResult, ProbeResult, SearchReport, Summary};
use crate::pictures::path_text;

impl SearchReport {
    /// The page. At most `limit` probes are shown, the first ones. Pictures, gallery and model go by their names alone:
    /// a page is passed on, and the folders of the machine that made it are nobody's business.
    pub fn html(&self, title: &str, limit: usize) -> String {
        let shown = &self.probes[..limit.min(self.probes.len())];
        let thumbnails = Thumbnails::of(shown);
        let body = html! {
            (self.facts())
            @if let Some(summary) = &self.summary { (tiles(summary)) }
            @if self.spread.collapsed {
                p.warning {
                    "The gallery's embeddings are nearly identical (mean cosine similarity "
                    (format!("{:.4}", self.spread.mean_similarity))
                    "): the network is untrained or has collapsed, and its ranking means little."
                }
            }
            p.legend {
                span.key.right { "✓ same identity" } " "
                span.key.wrong { "✗ another identity" } " "
                span.key.unknown { "? identity not known" }
            }
            main {
                @for probe in shown { (row(probe, &thumbnails)) }
                @if shown.len() < self.probes.len() {
                    p.note {
                        "The first " (shown.len()) " of " (self.probes.len())
                        " probes are shown; all count in the numbers above."
                    }
                }
            }
        };
        page(title, &body)
    }

    fn facts(&self) -> Markup {
        let model = &self.model;
        let trained = match (model.trained_on.as_str(), model.epoch) {
            ("", 0) => "not known".to_owned(),
            (dataset, epoch) => format!("{} ({epoch} epochs)", if dataset.is_empty() { "not known" } else { dataset }),
        };
        let threshold = self.min_similarity.map_or_else(|| "none".to_owned(), |min| format!("similarity ≥ {min}"));
        let order = if self.reranked { "k-reciprocal re-ranking" } else { "cosine similarity" };
        let probes = match self.skipped {
            0 => self.probes.len().to_string(),
            skipped => format!("{} ({skipped} pictures could not be used)", self.probes.len()),
        };
        let gallery = name(Path::new(&self.gallery));
        let facts = [
            ("Model", model.summary()),
            ("Contract", model.contract_id.clone()),
            ("Trained on", trained),
            ("Ran on", model.provider.clone()),
            ("Gallery", format!("{gallery} · {} entries", self.gallery_entries)),
            ("Probes", probes),
            ("Order", format!("{order}, first {}", self.top_k)),
            ("Threshold", threshold),
        ];
        html! { dl.facts { @for (name, value) in &facts { div { dt { (name) } dd { (value) } } } } }
    }
}

/// The last part of a path: what the picture or folder is called. Marks of direction would show it as something else.
fn name(path: &Path) -> String {
    let last = path_text(Path::new(path.file_name().unwrap_or(path.as_os_str())));
    terminal::printable(&last).into_owned()
}

fn tiles(summary: &Summary) -> Markup {
    let Summary { rank1, rank5, rank10, map, valid_queries, queries, .. } = summary;
    html! {
        div.tiles {
            @for (name, share) in [("Rank-1", rank1), ("Rank-5", rank5), ("Rank-10", rank10), ("mAP", map)] {
                div.tile { b { (format!("{:.1}", 100.0 * share)) small { " %" } } (name) }
            }
            p { (valid_queries) " of " (queries) " probes have a counterpart in the gallery; Market-1501 protocol" }
        }
    }
}

fn row(probe: &ProbeResult, thumbnails: &Thumbnails) -> Markup {
    html! {
        section {
            figure.probe {
                (thumbnails.image(&probe.file))
                figcaption {
                    b { "Probe" } " " (probe.identity.as_deref().unwrap_or("identity not known"))
                    (camera(probe.camera))
                    span { (name(&probe.path)) }
                }
            }
            div.matches {
                @for found in &probe.matches { (card(found, thumbnails)) }
                @if probe.matches.is_empty() { p.none { "No match at or above the threshold" } }
            }
        }
    }
}

fn card(found: &MatchResult, thumbnails: &Thumbnails) -> Markup {
    let (class, sign) = match found.correct {
        Some(true) => ("right", "✓"),
        Some(false) => ("wrong", "✗"),
        None => ("unknown", "?"),
    };
    html! {
        figure.match.(class) {
            (thumbnails.image(&found.file))
            figcaption {
                b { (format!("{:.3}", found.similarity)) } " "
                em { (sign) " #" (found.rank) }
                @if let Some(templates) = found.templates { i { "mean of " (templates) } }
                @if let Some(distance) = found.reranked_distance { i { "distance " (format!("{distance:.3}")) } }
                span { (found.identity) (camera(found.camera)) }
            }
        }
    }
}

fn camera(camera: Option<u32>) -> String {
    camera.map(|camera| format!(" · cam {}", camera + 1)).unwrap_or_default()
}

/// Every picture of the page once, as a `data:` URI.
struct Thumbnails(HashMap<PathBuf, String>);

impl Thumbnails {
    fn of(probes: &[ProbeResult]) -> Self {
        let mut paths: Vec<&PathBuf> = Vec::new();
        for probe in probes {
            paths.push(&probe.file);
            paths.extend(probe.matches.iter().map(|found| &found.file));
        }
        paths.sort();
        paths.dedup();
        let load = |path: &&PathBuf| Some(((*path).clone(), data_uri(path)?));
        Self(paths.par_iter().filter_map(load).collect())
    }

    fn image(&self, file: &Path) -> Markup {
        let name = name(file);
        html! {
            @match self.0.get(file) {
                Some(uri) => { img src=(uri) alt=(name) title=(name); }
                None => { div.missing title=(name) { "picture not found" } }
            }
        }
    }
}
