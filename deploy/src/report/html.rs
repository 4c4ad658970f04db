//! One self-contained page: style and pictures inside, nothing loaded from elsewhere.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ::report::escaped;
use rayon::prelude::*;

use super::thumbnail::data_uri;
use super::{MatchResult, ProbeResult, SearchReport, Summary};

/// Style of the page.
const STYLE: &str = include_str!("page.css");

impl SearchReport {
    /// The page. At most `limit` probes are shown, the first ones.
    pub fn html(&self, title: &str, limit: usize) -> String {
        let shown = &self.probes[..limit.min(self.probes.len())];
        let thumbnails = Thumbnails::of(shown);
        let mut body = String::new();
        for probe in shown {
            probe_row(&mut body, probe, &thumbnails);
        }
        if shown.len() < self.probes.len() {
            let _ = write!(
                body,
                "<p class=\"note\">The first {} of {} probes are shown; all count in the numbers above.</p>",
                shown.len(),
                self.probes.len()
            );
        }
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<h1>{title}</h1>\n{facts}{tiles}{warning}</header>\n{legend}<main>\n{body}</main>\n</body>\n</html>\n",
            title = escaped(title),
            facts = self.facts(),
            tiles = self.summary.as_ref().map(tiles).unwrap_or_default(),
            warning = if self.spread.collapsed { self.collapsed() } else { String::new() },
            legend = LEGEND,
        )
    }

    fn collapsed(&self) -> String {
        format!(
            "<p class=\"warning\">The gallery's embeddings are nearly identical (mean cosine similarity {:.4}): the network \
             is untrained or has collapsed, and its ranking means little.</p>\n",
            self.spread.mean_similarity
        )
    }

    fn facts(&self) -> String {
        let model = &self.model;
        let trained = match (model.trained_on.as_str(), model.epoch) {
            ("", 0) => "not known".to_owned(),
            (dataset, epoch) => format!("{} ({epoch} epochs)", if dataset.is_empty() { "not known" } else { dataset }),
        };
        let threshold = self.min_similarity.map_or_else(|| "none".to_owned(), |min| format!("similarity ≥ {min}"));
        let order = if self.reranked { "k-reciprocal re-ranking" } else { "cosine similarity" };
        let facts = [
            ("Model", format!("{} · {}", model.architecture, model.path.display())),
            ("Contract", model.contract_id.clone()),
            ("Trained on", trained),
            ("Ran on", model.provider.clone()),
            ("Gallery", format!("{} · {} entries", self.gallery, self.gallery_entries)),
            ("Probes", format!("{}{}", self.probes.len(), skipped(self.skipped))),
            ("Order", format!("{order}, first {}", self.top_k)),
            ("Threshold", threshold),
        ];
        let rows = facts.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escaped(value)));
        format!("<dl class=\"facts\">\n{}</dl>\n", rows.collect::<String>())
    }
}

const LEGEND: &str = "<p class=\"legend\"><span class=\"key right\">✓ same identity</span> \
    <span class=\"key wrong\">✗ another identity</span> <span class=\"key unknown\">? identity not known</span></p>\n";

fn skipped(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" ({count} pictures could not be used)") }
}

fn tiles(summary: &Summary) -> String {
    let tile = |name: &str, share: f64| {
        format!("<div class=\"tile\"><b>{:.1}<small> %</small></b>{name}</div>\n", 100.0 * share)
    };
    format!(
        "<div class=\"tiles\">\n{}{}{}{}<p>{} of {} probes have a counterpart in the gallery; Market-1501 protocol</p></div>\n",
        tile("Rank-1", summary.rank1),
        tile("Rank-5", summary.rank5),
        tile("Rank-10", summary.rank10),
        tile("mAP", summary.map),
        summary.valid_queries,
        summary.queries
    )
}

fn probe_row(out: &mut String, probe: &ProbeResult, thumbnails: &Thumbnails) {
    let identity = probe.identity.as_deref().map_or_else(|| "identity not known".to_owned(), escaped);
    let _ = write!(
        out,
        "<section>\n<figure class=\"probe\">{}<figcaption><b>Probe</b> {identity}{}<span>{}</span></figcaption></figure>\n\
         <div class=\"matches\">\n",
        thumbnails.image(&probe.file, &probe.path),
        camera(probe.camera),
        file_name(&probe.path)
    );
    for found in &probe.matches {
        match_card(out, found, thumbnails);
    }
    if probe.matches.is_empty() {
        out.push_str("<p class=\"none\">No match at or above the threshold</p>\n");
    }
    out.push_str("</div>\n</section>\n");
}

fn match_card(out: &mut String, found: &MatchResult, thumbnails: &Thumbnails) {
    let (class, sign) = match found.correct {
        Some(true) => ("right", "✓"),
        Some(false) => ("wrong", "✗"),
        None => ("unknown", "?"),
    };
    let reranked = found.reranked_distance.map(|distance| format!("<i>distance {distance:.3}</i>")).unwrap_or_default();
    let _ = writeln!(
        out,
        "<figure class=\"match {class}\">{}<figcaption><b>{:.3}</b> <em>{sign} #{}</em>{reranked}<span>{}{}</span></figcaption></figure>",
        thumbnails.image(&found.file, &found.path),
        found.similarity,
        found.rank,
        escaped(&found.identity),
        camera(found.camera),
    );
}

fn camera(camera: Option<i64>) -> String {
    camera.map(|camera| format!(" · cam {}", camera + 1)).unwrap_or_default()
}

fn file_name(path: &Path) -> String {
    escaped(&path.file_name().unwrap_or_default().to_string_lossy())
}

/// Every picture of the page once.
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

    /// The picture in `file`, which the reader knows as `path`.
    fn image(&self, file: &Path, path: &Path) -> String {
        let name = escaped(&path.display().to_string());
        match self.0.get(file) {
            Some(uri) => format!("<img src=\"{uri}\" alt=\"{name}\" title=\"{name}\">"),
            None => format!("<div class=\"missing\" title=\"{name}\">picture not found</div>"),
        }
    }
}
