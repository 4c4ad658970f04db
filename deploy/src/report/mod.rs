//! What a search or an evaluation found, as text, CSV, JSON, or a page with pictures.

mod calibration;
mod html;
mod meaning;
mod text;

pub use calibration::Calibration;
pub(crate) use html::{camera, name, small};
pub use meaning::{Decision, meaning};
pub(crate) use text::{aligned, thousands};

use std::collections::HashSet;
use std::path::PathBuf;

use contract::Orientation;
use metrics::open_set::Fusion;
use metrics::{Label, RankingIntervals, RankingReport, Spread};
use serde::Serialize;

use crate::DeployError;
use crate::gallery::{Embeddings, Gallery, Template};
use crate::identity::Identity;
use crate::pictures::lossy;
use crate::runtime::Model;
use crate::search::{Ask, By, Labels, Match, Ranked, Scope};
use crate::stale::Stale;
use crate::time;
use crate::trained::Overlap;

/// Templates that are listed of each person who was found, the most similar ones.
pub const LISTED: usize = 12;

/// The model that was evaluated.
#[derive(Debug, Clone, Serialize)]
pub struct ModelFacts {
    /// The file.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Network.
    pub architecture: String,
    /// Contract id.
    pub contract_id: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Execution provider that ran.
    pub provider: String,
    /// Dataset it was trained on, where known.
    pub trained_on: String,
    /// Finished epochs.
    pub epoch: usize,
    /// Which way up it sees pictures.
    pub orientation: Orientation,
}

impl ModelFacts {
    /// The training set and how long, as far as they are known.
    pub(crate) fn training(&self) -> String {
        match (self.trained_on.as_str(), self.epoch) {
            ("", 0) => "not known".to_owned(),
            (dataset, epoch) => format!("{} ({epoch} epochs)", if dataset.is_empty() { "not known" } else { dataset }),
        }
    }

    /// Architecture and the start of the hash: which model it is, without the folders it is kept in.
    pub(crate) fn summary(&self) -> String {
        format!("{} · sha256 {}", self.architecture, self.sha256.get(..12).unwrap_or(&self.sha256))
    }
}

impl From<&Model> for ModelFacts {
    fn from(model: &Model) -> Self {
        let contract = &model.contract;
        Self {
            path: model.path.clone(),
            architecture: contract.architecture.clone(),
            contract_id: contract.embedding.as_ref().map(|embedding| embedding.contract_id.clone()).unwrap_or_default(),
            sha256: model.sha256.clone(),
            provider: model.runs_on(),
            trained_on: contract.training.dataset.clone(),
            epoch: contract.training.epoch,
            orientation: contract
                .input
                .iter()
                .find_map(|input| Some(input.picture.as_ref()?.orientation))
                .unwrap_or_default(),
        }
    }
}

/// CMC, mAP and mINP by the Market-1501 protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Share of valid queries with a match at rank 1 or better, 2 or better, and so on.
    pub cmc: Vec<f64>,
    /// The curve's first value; likewise below.
    pub rank1: f64,
    /// At rank 3 or better.
    pub rank3: f64,
    /// At rank 5 or better.
    pub rank5: f64,
    /// At rank 10 or better.
    pub rank10: f64,
    /// Mean average precision.
    pub map: f64,
    /// Mean inverse negative penalty.
    pub minp: f64,
    /// 95 % intervals of Rank-1, mAP and mINP, by identity.
    pub intervals: Option<RankingIntervals>,
    /// Queries that have a match in the gallery.
    pub valid_queries: usize,
    /// All queries.
    pub queries: usize,
}

impl From<&RankingReport> for Summary {
    fn from(report: &RankingReport) -> Self {
        let [rank1, rank3, rank5, rank10] = [1, 3, 5, 10].map(|k| report.rank(k));
        let RankingReport { map, minp, intervals, valid_queries, queries, .. } = *report;
        let cmc = report.cmc.clone();
        Self { cmc, rank1, rank3, rank5, rank10, map, minp, intervals, valid_queries, queries }
    }
}

/// What an evaluation measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Score {
    /// CMC, mAP and mINP.
    Measured(Summary),
    /// No query has a match in the gallery.
    Nothing {
        /// All queries.
        queries: usize,
        /// None.
        valid_queries: usize,
        /// Why, as a sentence.
        reason: String,
    },
}

impl Score {
    /// The score of queries and a gallery with these labels.
    pub fn of(report: &RankingReport, labels: &Labels) -> Self {
        match report.valid_queries {
            0 => Self::Nothing { queries: report.queries, valid_queries: 0, reason: unscored(labels) },
            _ => Self::Measured(report.into()),
        }
    }
}

/// Why none of the queries has a match that counts.
fn unscored(labels: &Labels) -> String {
    let enrolled: HashSet<i64> = labels.entries.iter().map(|entry| entry.identity).collect();
    let queries = labels.probes.iter().filter(|query| query.identity != metrics::JUNK);
    let (own, strange): (Vec<&Label>, Vec<_>) = queries.partition(|query| enrolled.contains(&query.identity));
    let own_camera = "in the gallery only from the query's own camera, which the Market-1501 protocol leaves out";
    let queries = |count: usize| if count == 1 { "1 query".to_owned() } else { format!("{count} queries") };
    match (own.len(), strange.len()) {
        (0, 0) => "no query has an identity".to_owned(),
        (0, _) => "the identity of no query is in the gallery".to_owned(),
        (_, 0) => format!("the identity of every query is {own_camera}"),
        (own, strange) => {
            let (own, strange) = (queries(own), queries(strange));
            format!("the identity of {own} is {own_camera}; that of {strange} is not in it at all")
        }
    }
}

/// A probe and what was found for it.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeResult {
    /// The picture, as it was named.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Its full path.
    #[serde(skip)]
    pub file: PathBuf,
    /// Identity, where it is known.
    pub identity: Option<String>,
    /// Camera, from 0, where it is known.
    pub camera: Option<u32>,
    /// Matches, best first.
    pub matches: Vec<MatchResult>,
}

/// A gallery entry found for a probe.
#[derive(Debug, Clone, Serialize)]
pub struct MatchResult {
    /// Rank, from 1.
    pub rank: usize,
    /// Number of the template in its gallery, by which `remove` finds it; absent for pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<usize>,
    /// The picture, as it was named.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Its full path.
    #[serde(skip)]
    pub file: PathBuf,
    /// Identity as its folder or file name has it.
    pub identity: String,
    /// Camera, from 0, where it is known.
    pub camera: Option<u32>,
    /// When it was taken, in UTC, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
    /// Distance after re-ranking, where the order is by it; smaller is closer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reranked_distance: Option<f32>,
    /// Templates whose similarities were fused; absent for the similarity of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templates: Option<usize>,
    /// The most similar ones of them, best first, at most [`LISTED`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub best_templates: Vec<TemplateResult>,
    /// Whether probe and entry are of one identity; absent where that is not known.
    pub correct: Option<bool>,
}

/// A template of a person who was found.
#[derive(Debug, Clone, Serialize)]
pub struct TemplateResult {
    /// Its number in its gallery, by which `remove` finds it; absent for pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<usize>,
    /// The picture, as it was named.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Its full path.
    #[serde(skip)]
    pub file: PathBuf,
    /// Camera, from 0, where it is known.
    pub camera: Option<u32>,
    /// When it was taken, in UTC, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
}

/// A search.
#[derive(Debug, Clone, Serialize)]
pub struct SearchReport {
    /// The model.
    pub model: ModelFacts,
    /// Where the gallery came from.
    pub gallery: String,
    /// Entries searched.
    pub gallery_entries: usize,
    /// Pictures of probes and gallery that could not be used.
    pub skipped: usize,
    /// Whether the order is by re-ranked distance.
    pub reranked: bool,
    /// Entries of each probe that were re-ranked; absent where all were, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank_top: Option<usize>,
    /// How a gallery differs from the pictures in its folder; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// What was fused where matches are people: `max` or `mean` of the similarities of a person's templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fusion: Option<&'static str>,
    /// Entries by which each probe was expanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expanded: Option<usize>,
    /// Most matches per probe.
    pub top_k: usize,
    /// Lowest similarity of a match.
    pub min_similarity: Option<f32>,
    /// By what it is decided whether anybody was found; absent in evaluations, which decide nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// CMC, mAP and mINP, where identities are known.
    pub summary: Option<Summary>,
    /// How far apart the gallery's embeddings are.
    pub spread: Spread,
    /// One entry per probe.
    pub probes: Vec<ProbeResult>,
}

/// An evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct EvaluationReport {
    /// The model.
    pub model: ModelFacts,
    /// Dataset.
    pub dataset: String,
    /// Gallery entries.
    pub gallery_entries: usize,
    /// Pictures that could not be used.
    pub skipped: usize,
    /// Whether distances are re-ranked.
    pub reranked: bool,
    /// Entries of each query that were re-ranked; absent where all were, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank_top: Option<usize>,
    /// Entries by which each query was expanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expanded: Option<usize>,
    /// CMC with one picture of each person in the gallery, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub single_shot: Option<Vec<f64>>,
    /// How many of the tested people the model was trained on; absent if it does not store that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub people: Option<Overlap>,
    /// CMC, mAP and mINP, or that there is nothing to score.
    #[serde(flatten)]
    pub score: Score,
    /// How far apart the gallery's embeddings are.
    pub spread: Spread,
}

/// What the matches are ordered by.
pub(crate) fn order(ask: &Ask) -> &'static str {
    if ask.rerank.is_some() { "k-reciprocal re-ranking" } else { "cosine similarity" }
}

/// Number of entries of each probe that are re-ranked; `None` for all or none.
pub(crate) fn rerank_top(ask: &Ask) -> Option<usize> {
    match ask.rerank {
        Some(Scope::Nearest(n)) => Some(n.get()),
        Some(Scope::Everyone) | None => None,
    }
}

impl SearchReport {
    /// Report of a search for `probes` in a gallery, which is called `name`.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    pub fn of(
        model: ModelFacts,
        name: String,
        probes: &Embeddings,
        gallery: &Gallery,
        skipped: usize,
        ask: &Ask,
        found: &Ranked,
    ) -> Result<Self, DeployError> {
        let report = &found.report;
        Ok(Self {
            model,
            gallery: name,
            gallery_entries: gallery.count()?,
            skipped,
            reranked: ask.rerank.is_some(),
            rerank_top: rerank_top(ask),
            stale: None,
            fusion: match ask.by {
                By::Template => None,
                By::Subject(Fusion::Max) => Some("max"),
                By::Subject(Fusion::Mean) => Some("mean"),
            },
            expanded: Some(ask.expand).filter(|k| *k > 0),
            top_k: ask.k,
            min_similarity: ask.min_similarity,
            decision: None,
            summary: (report.valid_queries > 0).then(|| report.into()),
            spread: gallery.spread()?,
            probes: results(probes, gallery, found)?,
        })
    }
}

/// Joins matches with their pictures.
fn results(probes: &Embeddings, gallery: &Gallery, ranked: &Ranked) -> Result<Vec<ProbeResult>, DeployError> {
    let people = &ranked.people;
    let number = |row: usize| gallery.is_stored().then_some(row);
    let of_probe = |at: usize| {
        let (probe, found, listed) = (&probes.templates[at], &ranked.matches[at], &ranked.templates[at]);
        // The most similar template of a person is the one that was found. A gallery on a server is asked once.
        let rows_of = |(index, found): (usize, &Match)| match listed.get(index) {
            Some(near) if !near.is_empty() => near.iter().map(|near| near.row).collect(),
            _ => vec![found.row],
        };
        let rows: Vec<Vec<usize>> = found.iter().enumerate().map(rows_of).collect();
        let mut templates = gallery.templates(&rows.concat())?.into_iter();
        let mut matches = Vec::with_capacity(found.len());
        for (index, found) in found.iter().enumerate() {
            let own: Vec<Template> = templates.by_ref().take(rows[index].len()).collect();
            let near = listed.get(index).map(Vec::as_slice).unwrap_or_default();
            let best = near.iter().zip(&own).map(|(near, template)| TemplateResult {
                template: number(near.row),
                path: template.path.clone(),
                file: gallery.file(&template.path),
                camera: template.camera,
                taken: template.taken.map(time::text),
                similarity: near.similarity,
            });
            let best_templates = best.collect();
            // There is a template for every row: the gallery fails if one is not there.
            let Some(template) = own.into_iter().next() else { continue };
            matches.push(MatchResult {
                rank: index + 1,
                template: number(found.row),
                file: gallery.file(&template.path),
                identity: template.identity.text().to_owned(),
                camera: template.camera,
                taken: template.taken.map(time::text),
                similarity: found.similarity,
                reranked_distance: found.reranked,
                templates: found.templates,
                best_templates,
                correct: people.right(&probe.identity, &template.identity),
                path: template.path,
            });
        }
        let identity = match people.probe(&probe.identity) {
            Identity::Person(name) => Some(name.text.clone()),
            Identity::Junk | Identity::Distractor | Identity::Unnamed => None,
        };
        Ok(ProbeResult {
            path: probe.path.clone(),
            file: probes.file(&probe.path),
            identity,
            camera: probe.camera,
            matches,
        })
    };
    (0..probes.templates.len()).map(of_probe).collect()
}
