//! A search as a page: probes and whom they found, with pictures, nothing loaded from elsewhere.

use std::path::Path;

use ::report::{Pictures, page};
use contract::{Orientation, preprocess};
use maud::{Markup, html};

use super::text::thousands;
use super::{MatchResult, ProbeResult, SearchReport, Summary, TemplateResult};
use crate::pictures::path_text;

impl SearchReport {
    /// The page of a search: people with their templates where people were searched for, else templates. At most
    /// `limit` probes are shown, the first ones. Pictures, gallery and model go by their names alone: a page is passed
    /// on, and the folders of the machine that made it are nobody's business.
    pub fn html(&self, limit: usize) -> String {
        let shown = &self.probes[..limit.min(self.probes.len())];
        let view = View { report: self, pictures: pictures(shown, self.model.orientation) };
        let body = html! {
            (view.pictures.symbols())
            (self.facts())
            @if let Some(summary) = &self.summary { (tiles(summary)) }
            @if self.spread.collapsed {
                p.warning {
                    "The gallery's embeddings are nearly identical (mean cosine similarity "
                    (format!("{:.4}", self.spread.mean_similarity))
                    "): the network is untrained or has collapsed, and its ranking means little."
                }
            }
            @if let Some(decision) = &self.decision {
                div.meaning { @for sentence in &decision.meaning { p { (sentence_with_code(sentence)) } } }
            }
            (self.legend(shown))
            main {
                @for probe in shown { (view.probe(probe)) }
                @if shown.len() < self.probes.len() {
                    p.note {
                        "The first " (shown.len()) " of " (self.probes.len())
                        " probes are shown; all count in the numbers above."
                    }
                }
            }
        };
        page("Gallery search", &body)
    }

    fn facts(&self) -> Markup {
        let model = &self.model;
        let threshold = self.min_similarity.map_or_else(|| "none".to_owned(), |min| format!("similarity ≥ {min:.4}"));
        let order = if self.reranked { "k-reciprocal re-ranking" } else { "cosine similarity" };
        let what = match self.fusion {
            Some("mean") => ", people by the mean of their templates",
            Some(_) => ", people by their most similar template",
            None => "",
        };
        let probes = match self.skipped {
            0 => self.probes.len().to_string(),
            1 => format!("{} (1 picture could not be used)", self.probes.len()),
            skipped => format!("{} ({skipped} pictures could not be used)", self.probes.len()),
        };
        let gallery = name(Path::new(&self.gallery));
        let facts = [
            ("Model", model.summary()),
            ("Contract", model.contract_id.clone()),
            ("Trained on", model.training()),
            ("Ran on", model.provider.clone()),
            ("Gallery", format!("{gallery} · {} templates", thousands(self.gallery_entries as u64))),
            ("Probes", probes),
            ("Order", format!("{order}, first {}{what}", self.top_k)),
            ("Threshold", threshold),
        ];
        html! { dl.facts { @for (name, value) in &facts { div { dt { (name) } dd { (value) } } } } }
    }

    /// What colours, signs and bars say, as far as there are any.
    fn legend(&self, shown: &[ProbeResult]) -> Markup {
        let known = shown.iter().flat_map(|probe| &probe.matches).any(|found| found.correct.is_some());
        html! {
            @if known || self.fusion.is_some() { p.legend {
                @if known {
                    span.key.right { "✓ same identity" } " "
                    span.key.wrong { "✗ another identity" } " "
                    span.key.unknown { "? identity not known" }
                }
                @if self.fusion.is_some() {
                    "Bars run from similarity 0 to 1"
                    @if self.min_similarity.is_some() { "; the line across them is the threshold" }
                }
            } }
        }
    }
}

/// The last part of a path: what the picture or folder is called. Marks of direction would show it as something else.
pub(crate) fn name(path: &Path) -> String {
    let last = path_text(Path::new(path.file_name().unwrap_or(path.as_os_str())));
    terminal::printable(&last).into_owned()
}

/// A sentence in which flags and commands stand between backticks.
pub(super) fn sentence_with_code(sentence: &str) -> Markup {
    html! {
        @for (at, part) in sentence.split('`').enumerate() {
            @if at % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

/// Whom a match is of.
fn who(found: &MatchResult) -> &str {
    if found.identity.is_empty() { "somebody without a name" } else { &found.identity }
}

fn tiles(summary: &Summary) -> Markup {
    let Summary { rank1, rank5, rank10, map, minp, valid_queries, queries, .. } = summary;
    html! {
        div.tiles {
            @let tiles = [("Rank-1", rank1), ("Rank-5", rank5), ("Rank-10", rank10), ("mAP", map), ("mINP", minp)];
            @for (name, share) in tiles {
                div.tile { b { (format!("{:.1}", 100.0 * share)) small { " %" } } (name) }
            }
            p { (valid_queries) " of " (queries) " probes have a counterpart in the gallery; Market-1501 protocol" }
        }
    }
}

/// Class and sign of a match.
fn judged(correct: Option<bool>) -> (&'static str, &'static str) {
    match correct {
        Some(true) => ("right", "✓"),
        Some(false) => ("wrong", "✗"),
        None => ("unknown", "?"),
    }
}

/// What is shown, with its pictures.
struct View<'a> {
    report: &'a SearchReport,
    pictures: Pictures,
}

impl View<'_> {
    fn image(&self, file: &Path) -> Markup {
        self.pictures.image(file, &name(file))
    }

    fn probe(&self, probe: &ProbeResult) -> Markup {
        html! {
            section {
                figure.probe {
                    (self.image(&probe.file))
                    figcaption {
                        b { "Probe" } " " (probe.identity.as_deref().unwrap_or("identity not known"))
                        (camera(probe.camera))
                        span { (name(&probe.path)) }
                    }
                }
                div.answers {
                    (self.answer(probe))
                    @if self.report.fusion.is_some() {
                        ol.people { @for found in &probe.matches { (self.person(found)) } }
                    } @else {
                        div.matches { @for found in &probe.matches { (self.card(found)) } }
                    }
                }
            }
        }
    }

    /// Who it is, or that nobody was found, in words.
    fn answer(&self, probe: &ProbeResult) -> Markup {
        let threshold = self.report.min_similarity.is_some();
        let what = if self.report.fusion.is_some() { "nobody" } else { "no match" };
        html! {
            @match (probe.matches.first(), &self.report.decision) {
                (None, _) if threshold => p.answer { b { (what) } " at or above the threshold" },
                (None, _) => p.answer { b { (what) } " in the part of the gallery that was searched" },
                (Some(_), None) => {},
                (Some(first), Some(_)) => p.answer {
                    @if !threshold { "nearest: " }
                    b { (who(first)) } ", " (format!("{:.4}", first.similarity))
                    @if threshold { span { (self.others(probe)) } }
                },
            }
        }
    }

    /// Who else is at or above the threshold, as far as that is known.
    fn others(&self, probe: &ProbeResult) -> String {
        let (more, all) = (probe.matches.len() - 1, probe.matches.len() < self.report.top_k);
        let (one, many) = match self.report.fusion {
            Some(_) => ("person", "people"),
            None => ("template", "templates"),
        };
        let least = if all { "" } else { "at least " };
        match more {
            0 if all => format!(" – no other {one} reaches the threshold"),
            0 => String::new(),
            1 => format!(" – {least}1 more {one} reaches the threshold"),
            _ => format!(" – {least}{more} more {many} reach the threshold"),
        }
    }

    /// A person who was found, with the templates that were.
    fn person(&self, found: &MatchResult) -> Markup {
        let (class, sign) = judged(found.correct);
        let (shown, all) = (found.best_templates.len(), found.templates.unwrap_or(1));
        let rule = match (all, self.report.fusion) {
            (1, _) => "1 template".to_owned(),
            (_, Some("mean")) => format!("mean of {} templates", thousands(all as u64)),
            _ => format!("most similar of {} templates", thousands(all as u64)),
        };
        html! {
            li.person.(class) {
                div.head {
                    span.rank { (found.rank) }
                    b.who { (who(found)) }
                    @if found.correct.is_some() { em { (sign) } }
                    span.similarity { (format!("{:.4}", found.similarity)) }
                    (self.bar(found.similarity))
                    span.rule { (rule) @if shown < all { ", the nearest " (shown) " shown" } }
                }
                div.matches { @for template in &found.best_templates { (self.template(template)) } }
            }
        }
    }

    fn template(&self, template: &TemplateResult) -> Markup {
        let below = self.report.min_similarity.is_some_and(|least| template.similarity < least);
        html! {
            figure.template.below[below] {
                (self.image(&template.file))
                figcaption {
                    b { (format!("{:.4}", template.similarity)) }
                    @if below { i { "below the threshold" } }
                    @if let Some(camera) = template.camera { i { "cam " (u64::from(camera) + 1) } }
                    @if let Some(taken) = &template.taken { i { (time(taken)) } }
                    span { (name(&template.path)) }
                }
            }
        }
    }

    /// The similarity from 0 to 1, and where the threshold is.
    fn bar(&self, similarity: f32) -> Markup {
        let part = |of: f32| format!("{:.1}%", 100.0 * of.clamp(0.0, 1.0));
        html! {
            div.gauge aria-hidden="true" {
                div.part style={ "width:" (part(similarity)) } {}
                @if let Some(least) = self.report.min_similarity { div.mark style={ "left:" (part(least)) } {} }
            }
        }
    }

    fn card(&self, found: &MatchResult) -> Markup {
        let (class, sign) = judged(found.correct);
        html! {
            figure.match.(class) {
                (self.image(&found.file))
                figcaption {
                    b { (format!("{:.4}", found.similarity)) } " "
                    em { (sign) " #" (found.rank) }
                    @if let Some(distance) = found.reranked_distance { i { "distance " (format!("{distance:.3}")) } }
                    span { (found.identity) (camera(found.camera)) }
                    @if let Some(taken) = &found.taken { i { (time(taken)) } }
                }
            }
        }
    }
}

pub(crate) fn camera(camera: Option<u32>) -> String {
    camera.map(|camera| format!(" · cam {}", u64::from(camera) + 1)).unwrap_or_default()
}

/// A time for people.
fn time(taken: &str) -> String {
    format!("{} UTC", taken.trim_end_matches('Z').replace('T', " "))
}

/// The pictures of these probes and of what was found for them.
fn pictures(probes: &[ProbeResult], upright: Orientation) -> Pictures {
    let mut files: Vec<&Path> = Vec::new();
    for probe in probes {
        files.push(&probe.file);
        for found in &probe.matches {
            match found.best_templates.as_slice() {
                [] => files.push(&found.file),
                templates => files.extend(templates.iter().map(|template| template.file.as_path())),
            }
        }
    }
    Pictures::of(files, small(upright))
}

/// Reads the picture in a file, small enough for a page, the way up that the model sees it; none if it cannot be read.
pub(crate) fn small(upright: Orientation) -> impl Fn(&Path) -> Option<image::RgbImage> + Sync {
    move |file| preprocess::reduced_as(file, ::report::THUMBNAIL, upright).ok()
}
