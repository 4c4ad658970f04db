//! Probes and a gallery to ranked matches and the numbers of the Market-1501 protocol, in one pass over the gallery.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Range;

use metrics::{JUNK, Label, Matrix, RankingReport, Ranks, Rerank, Reranking, Rows, nearer};
use rayon::prelude::*;

use crate::DeployError;
use crate::gallery::Embeddings;
use crate::identity::People;
use crate::index::Hit;
use crate::index::exact::{self, Best, Collect};
use crate::twins::Twins;

/// Most entries of a probe that are re-ranked; each is compared with each.
pub const MOST_RERANKED: usize = 4096;

/// Most probes and entries that are re-ranked all together; each is compared with each.
pub const MOST_RERANKED_TOGETHER: usize = 1 << 17;

/// Most right entries of the probes in one pass over the gallery; their distances take 64 MiB.
const RIGHT_ENTRIES: usize = 1 << 22;

/// Entries with at least this similarity may be the probe itself. Other batch sizes change a similarity by less.
const TWIN: f32 = 1.0 - 1e-4;

/// Most entries of a probe that are checked for being the probe itself.
const TWINS: usize = 64;

/// A gallery entry found for a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Row of the gallery.
    pub row: usize,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
    /// Distance after re-ranking, which then is the order; smaller is closer.
    pub reranked: Option<f32>,
}

/// What is re-ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The nearest entries of each probe, with that probe alone, so that its answer does not depend on other probes.
    /// The remaining entries keep their order. At most [`MOST_RERANKED`].
    Nearest(NonZeroUsize),
    /// All probes and entries together, as published. At most [`MOST_RERANKED_TOGETHER`].
    Everyone,
}

/// What to search for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Matches per probe.
    pub k: usize,
    /// Lowest similarity of a match.
    pub min_similarity: Option<f32>,
    /// Order by k-reciprocal re-ranking instead of by cosine.
    pub rerank: Option<Scope>,
    /// Whether entries that the protocol excludes (junk, and the same person in the same camera) are no matches.
    pub counted_only: bool,
}

impl Ask {
    /// Number of pairs of rows that are compared.
    pub fn comparisons(&self, probes: usize, rows: usize) -> u64 {
        let square = |rows: usize| (rows as u64).saturating_mul(rows as u64);
        let all = (probes as u64).saturating_mul(rows as u64);
        match self.rerank {
            None => all,
            Some(Scope::Nearest(n)) => all.saturating_add((probes as u64).saturating_mul(square(n.get().min(rows)))),
            Some(Scope::Everyone) => square(probes.saturating_add(rows)),
        }
    }
}

/// Labels of probes and entries for the Market-1501 protocol; [`metrics::JUNK`] for those that do not count.
#[derive(Debug, Clone)]
pub struct Labels {
    /// Of each probe.
    pub probes: Vec<Label>,
    /// Of each entry.
    pub gallery: Vec<Label>,
}

impl Labels {
    /// From the identities of the rows; see [`People`].
    pub fn of(probes: &Embeddings, gallery: &Embeddings) -> Self {
        let people = People::of(gallery.templates.iter().map(|template| &template.identity));
        let probe = |of: &crate::gallery::Template| people.probe_label(&of.identity, of.camera);
        let entry = |of: &crate::gallery::Template| people.entry_label(&of.identity, of.camera);
        Self {
            probes: probes.templates.iter().map(probe).collect(),
            gallery: gallery.templates.iter().map(entry).collect(),
        }
    }
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Matches of each probe, best first.
    pub matches: Vec<Vec<Match>>,
    /// CMC and mAP over the probes that can be scored, without the entries that are the probe itself.
    pub report: RankingReport,
    /// Probes that are in the gallery themselves.
    pub themselves: usize,
}

/// Finds the best entries of each probe, and computes CMC and mAP. `twins` tell which entries are the probe itself:
/// these are matches, but do not count in CMC and mAP. `compared` is called with numbers of compared pairs, from any
/// thread.
///
/// # Errors
/// If the values do not make whole rows of one length, there is not a label for each, or more is to be re-ranked than
/// is allowed.
pub fn rank(
    probes: &Embeddings,
    gallery: &Embeddings,
    labels: &Labels,
    ask: &Ask,
    twins: Option<&Twins>,
    compared: impl Fn(usize) + Sync,
) -> Result<Ranked, DeployError> {
    let search = Search {
        probes: probes.view()?,
        gallery: gallery.view()?,
        labels,
        ask,
        twins,
        rows_of: rows_of(&labels.gallery),
    };
    for (axis, expected, found) in
        [("query", probes.templates.len(), &labels.probes), ("gallery", gallery.templates.len(), &labels.gallery)]
    {
        if expected != found.len() {
            return Err(metrics::MetricsError::Labels { axis, expected, found: found.len() }.into());
        }
    }
    let found = match ask.rerank {
        Some(Scope::Everyone) => search.reranked_together(&compared)?,
        _ => search.by_cosine(&compared)?,
    };
    let (mut matches, mut ranks, mut themselves) = (Vec::new(), Vec::new(), 0);
    for one in found {
        matches.push(one.matches);
        ranks.push(one.ranks);
        themselves += usize::from(one.is_there);
    }
    Ok(Ranked { matches, report: RankingReport::of(&ranks, labels.gallery.len()), themselves })
}

/// Rows of each identity that counts.
fn rows_of(gallery: &[Label]) -> HashMap<i64, Vec<usize>> {
    let mut rows: HashMap<i64, Vec<usize>> = HashMap::new();
    for (row, label) in gallery.iter().enumerate().filter(|(_, label)| label.identity != JUNK) {
        rows.entry(label.identity).or_default().push(row);
    }
    rows
}

/// What was found for a probe.
struct Found {
    matches: Vec<Match>,
    /// Ranks of its right entries, from 1; none if it is not scored.
    ranks: Vec<usize>,
    /// Whether it is in the gallery itself.
    is_there: bool,
}

struct Search<'a> {
    probes: Rows<'a>,
    gallery: Rows<'a>,
    labels: &'a Labels,
    ask: &'a Ask,
    twins: Option<&'a Twins<'a>>,
    rows_of: HashMap<i64, Vec<usize>>,
}

impl Search<'_> {
    fn similarity(&self, probe: usize, row: usize) -> f32 {
        metrics::dot(self.probes.row(probe), self.gallery.row(row))
    }

    /// Rows that are right for a probe.
    fn right_rows(&self, probe: usize) -> impl Iterator<Item = usize> + '_ {
        let label = self.labels.probes[probe];
        let rows = self.rows_of.get(&label.identity).map(Vec::as_slice).unwrap_or_default();
        rows.iter().copied().filter(move |row| label.judge(self.labels.gallery[*row]) == Some(true))
    }

    /// Groups of probes that share a pass over the gallery.
    fn chunks(&self) -> Vec<Range<usize>> {
        let (mut chunks, mut held) = (Vec::<Range<usize>>::new(), 0);
        for probe in 0..self.probes.rows() {
            let more = self.rows_of.get(&self.labels.probes[probe].identity).map_or(0, Vec::len);
            match chunks.last_mut() {
                Some(chunk) if held + more <= RIGHT_ENTRIES => {
                    chunk.end = probe + 1;
                    held += more;
                }
                _ => {
                    chunks.push(probe..probe + 1);
                    held = more;
                }
            }
        }
        chunks
    }

    /// By cosine, then the nearest entries by re-ranking if asked for.
    fn by_cosine(&self, compared: &(impl Fn(usize) + Sync)) -> Result<Vec<Found>, DeployError> {
        let nearest = match self.ask.rerank {
            Some(Scope::Nearest(n)) => Some(n.get()),
            _ => None,
        };
        if let Some(n) = nearest.filter(|n| *n > MOST_RERANKED) {
            return Err(DeployError::RerankTop { n, most: MOST_RERANKED });
        }
        let mut found = Vec::with_capacity(self.probes.rows());
        for chunk in self.chunks() {
            // Negated similarities serve as distances: the order is exactly the same.
            let right: Vec<Vec<(f32, usize)>> = chunk
                .clone()
                .into_par_iter()
                .map(|probe| {
                    let mut right: Vec<_> =
                        self.right_rows(probe).map(|row| (-self.similarity(probe, row), row)).collect();
                    right.sort_unstable_by(|a, b| nearer(*a, *b));
                    right
                })
                .collect();
            let start = |at: usize| Look {
                best: Best::new(nearest.unwrap_or(self.ask.k)),
                near: Best::new(if self.twins.is_some() { TWINS } else { 0 }),
                ranks: Ranks::of(&right[at]),
                label: self.labels.probes[chunk.start + at],
                gallery: &self.labels.gallery,
                // For re-ranking, all nearest entries are needed; they are filtered afterwards.
                min: self.ask.min_similarity.filter(|_| nearest.is_none()),
                counted_only: self.ask.counted_only && nearest.is_none(),
            };
            let looks = exact::scan(self.probes.slice(chunk.clone()), self.gallery, start, compared);
            let chunk_found: Result<Vec<Found>, DeployError> = looks
                .into_par_iter()
                .enumerate()
                .map(|(at, look)| self.finish(chunk.start + at, &right[at], look, nearest.is_some(), compared))
                .collect();
            found.extend(chunk_found?);
        }
        Ok(found)
    }

    fn finish(
        &self,
        probe: usize,
        right: &[(f32, usize)],
        look: Look<'_>,
        rerank: bool,
        compared: &(impl Fn(usize) + Sync),
    ) -> Result<Found, DeployError> {
        let Look { best, near, ranks, label, .. } = look;
        let own = self.own(probe, near.ranked().into_iter().map(|hit| hit.row));
        let counts = |row: usize| label.judge(self.labels.gallery[row]).filter(|_| !own.contains(&row));
        let taken_out: Vec<(f32, usize)> = own
            .iter()
            .filter(|row| label.judge(self.labels.gallery[**row]).is_some())
            .map(|row| (-self.similarity(probe, *row), *row))
            .collect();
        let hits = best.ranked();
        let moved_up = |(entry, rank): (&(f32, usize), usize)| {
            let before = taken_out.iter().filter(|out| nearer(**out, *entry).is_lt()).count();
            (entry.1, rank - before)
        };
        let left = right.iter().zip(ranks.right_ranks()).filter(|(entry, _)| !own.contains(&entry.1)).map(moved_up);
        if !rerank {
            let ranks = left.map(|(_, rank)| rank).collect();
            let matches = hits.into_iter().map(|Hit { row, similarity }| Match { row, similarity, reranked: None });
            return Ok(Found { matches: matches.collect(), ranks, is_there: !own.is_empty() });
        }
        let reranked = self.reranked(probe, &hits)?;
        compared(hits.len() * hits.len());
        let counted = reranked.iter().filter_map(|found| counts(found.row));
        let mut ranks: Vec<usize> =
            counted.enumerate().filter(|(_, right)| *right).map(|(before, _)| before + 1).collect();
        // Right entries beyond the re-ranked ones keep their ranks.
        ranks.extend(left.filter(|(row, _)| !hits.iter().any(|hit| hit.row == *row)).map(|(_, rank)| rank));
        let matches = self.wanted(label, reranked.into_iter());
        Ok(Found { matches, ranks, is_there: !own.is_empty() })
    }

    /// The nearest entries of a probe, re-ranked with it alone.
    fn reranked(&self, probe: usize, hits: &[Hit]) -> Result<Vec<Match>, DeployError> {
        let values: Vec<f32> = hits.iter().flat_map(|hit| self.gallery.row(hit.row)).copied().collect();
        let entries = Matrix::new(values, hits.len(), self.gallery.cols())?;
        let distances = Reranking::new(self.probes.slice(probe..probe + 1), &entries, &Rerank::default())?.distances(0);
        let found = |(hit, distance): (&Hit, &f32)| Match {
            row: hit.row,
            similarity: hit.similarity,
            reranked: Some(*distance),
        };
        let mut found: Vec<Match> = hits.iter().zip(&distances).map(found).collect();
        // Stable: entries of equal distance stay in the order of their similarity.
        found.sort_by(|a, b| a.reranked.partial_cmp(&b.reranked).unwrap_or(std::cmp::Ordering::Equal));
        Ok(found)
    }

    /// The first `k` re-ranked matches that pass the filters.
    fn wanted(&self, label: Label, matches: impl Iterator<Item = Match>) -> Vec<Match> {
        let similar = |found: &Match| self.ask.min_similarity.is_none_or(|min| found.similarity >= min);
        let shown = |found: &Match| !self.ask.counted_only || label.judge(self.labels.gallery[found.row]).is_some();
        matches.filter(|found| similar(found) && shown(found)).take(self.ask.k).collect()
    }

    /// Rows that are the probe itself: those of its path, and those of `near` with the same content.
    fn own(&self, probe: usize, near: impl Iterator<Item = usize>) -> Vec<usize> {
        let Some(twins) = self.twins else { return Vec::new() };
        let mut own: Vec<usize> = near.filter(|row| twins.are(probe, *row)).chain(twins.by_path(probe)).collect();
        own.sort_unstable();
        own.dedup();
        own
    }

    /// By re-ranking everyone.
    fn reranked_together(&self, compared: &(impl Fn(usize) + Sync)) -> Result<Vec<Found>, DeployError> {
        let (probes, rows) = (self.probes.rows(), self.gallery.rows());
        if probes + rows > MOST_RERANKED_TOGETHER {
            return Err(DeployError::RerankAll { probes, rows, most: MOST_RERANKED_TOGETHER });
        }
        let reranking = Reranking::new(self.probes, self.gallery, &Rerank::default())?;
        compared((probes + rows).saturating_mul(probes + rows));
        let one = |probe: usize| {
            let distances = reranking.distances(probe);
            let label = self.labels.probes[probe];
            let near = (0..rows).filter(|row| self.twins.is_some() && self.similarity(probe, *row) >= TWIN);
            let own = self.own(probe, near.take(TWINS));
            let mut right: Vec<(f32, usize)> =
                self.right_rows(probe).filter(|row| !own.contains(row)).map(|row| (distances[row], row)).collect();
            right.sort_unstable_by(|a, b| nearer(*a, *b));
            let mut ranks = Ranks::of(&right);
            for (row, distance) in distances.iter().enumerate() {
                if label.judge(self.labels.gallery[row]) == Some(false) && !own.contains(&row) {
                    ranks.wrong(*distance, row);
                }
            }
            let mut order: Vec<usize> = (0..rows).collect();
            order.sort_unstable_by(|a, b| nearer((distances[*a], *a), (distances[*b], *b)));
            let found =
                |row: usize| Match { row, similarity: self.similarity(probe, row), reranked: Some(distances[row]) };
            let matches = self.wanted(label, order.into_iter().map(found));
            Found { matches, ranks: ranks.right_ranks(), is_there: !own.is_empty() }
        };
        Ok((0..probes).into_par_iter().map(one).collect())
    }
}

/// Collects what is needed of one probe's similarities.
struct Look<'a> {
    best: Best,
    /// Entries that may be the probe itself.
    near: Best,
    ranks: Ranks<'a>,
    label: Label,
    gallery: &'a [Label],
    min: Option<f32>,
    counted_only: bool,
}

impl Collect for Look<'_> {
    fn take(&mut self, row: usize, similarity: f32) {
        let judged = self.label.judge(self.gallery[row]);
        if judged == Some(false) {
            self.ranks.wrong(-similarity, row);
        }
        let hit = Hit { row, similarity };
        if self.min.is_none_or(|min| similarity >= min) && (!self.counted_only || judged.is_some()) {
            self.best.offer(hit);
        }
        if similarity >= TWIN {
            self.near.offer(hit);
        }
    }

    fn merge(self, other: Self) -> Self {
        Self {
            best: self.best.merge(other.best),
            near: self.near.merge(other.near),
            ranks: self.ranks.merge(other.ranks),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::{cosine_distance, rerank};

    use super::*;
    use crate::gallery::Template;
    use crate::identity::Identity;

    /// Rows of people on a coarse grid, so that some are equal; every fourth entry is nobody's.
    fn crowd(name: &str, rows: usize) -> Embeddings {
        let values = contract::fill::fill(&format!("input.{name}"), &[rows, 6]);
        let values: Vec<f32> = values.iter().map(|value| (value * 2.0).round() + 0.1).collect();
        let template = |row: usize| Template {
            path: format!("{name}/{row}").into(),
            identity: match row % 4 {
                0 => [Identity::Junk, Identity::Distractor][row / 4 % 2].clone(),
                _ => Identity::by_file(format!("{}", row % 5)),
            },
            camera: (row % 3) as i64,
            ..Template::default()
        };
        Embeddings {
            values: contract::embedding::embed(&values, &[], 6, 1),
            dim: 6,
            templates: (0..rows).map(template).collect(),
            folder: Default::default(),
        }
    }

    fn ask(k: usize) -> Ask {
        Ask { k, min_similarity: None, rerank: None, counted_only: false }
    }

    fn rows(matches: &[Vec<Match>]) -> Vec<Vec<usize>> {
        matches.iter().map(|matches| matches.iter().map(|found| found.row).collect()).collect()
    }

    /// The entries of a probe in the order of `distance`, by a full sort.
    fn sorted(distance: &Matrix) -> Vec<Vec<usize>> {
        let one = |probe: usize| {
            let mut order: Vec<usize> = (0..distance.cols()).collect();
            order.sort_by(|a, b| distance.row(probe)[*a].partial_cmp(&distance.row(probe)[*b]).unwrap());
            order
        };
        (0..distance.rows()).map(one).collect()
    }

    #[test]
    fn one_pass_gives_what_two_gave() {
        let (probes, gallery) = (crowd("probes", 23), crowd("gallery", 200));
        let labels = Labels::of(&probes, &gallery);
        let found = rank(&probes, &gallery, &labels, &ask(9), None, |_| ()).unwrap();
        let hits = exact::top_k(probes.view().unwrap(), gallery.view().unwrap(), 9, None);
        let wanted: Vec<Vec<usize>> = hits.iter().map(|hits| hits.iter().map(|hit| hit.row).collect()).collect();
        assert_eq!(rows(&found.matches), wanted);
        // Exact in the similarities, which `1 - similarity` rounds.
        let cosine = cosine_distance(probes.view().unwrap(), gallery.view().unwrap()).unwrap();
        let report = metrics::rank(&cosine, &labels.probes, &labels.gallery).unwrap();
        assert!(report.valid_queries > 9 && (found.report.map - report.map).abs() < 1e-3, "{report:?}");
        assert_eq!(found.report.valid_queries, report.valid_queries);

        let least = Ask { min_similarity: Some(0.7), ..ask(200) };
        let found = rank(&probes, &gallery, &labels, &least, None, |_| ()).unwrap();
        assert!(found.matches.iter().flatten().all(|found| found.similarity >= 0.7));
        let counted = Ask { counted_only: true, ..ask(200) };
        let found = rank(&probes, &gallery, &labels, &counted, None, |_| ()).unwrap();
        for (probe, matches) in found.matches.iter().enumerate() {
            let counts = |row: &usize| labels.probes[probe].judge(labels.gallery[*row]).is_some();
            assert_eq!(matches.len(), (0..200).filter(counts).count());
        }
    }

    #[test]
    fn everyone_is_re_ranked_as_published() {
        let (probes, gallery) = (crowd("probes", 23), crowd("gallery", 200));
        let labels = Labels::of(&probes, &gallery);
        let everyone = Ask { rerank: Some(Scope::Everyone), ..ask(200) };
        let found = rank(&probes, &gallery, &labels, &everyone, None, |_| ()).unwrap();
        let distance = rerank(probes.view().unwrap(), gallery.view().unwrap(), &Rerank::default()).unwrap();
        assert_eq!(found.report, metrics::rank(&distance, &labels.probes, &labels.gallery).unwrap());
        assert_eq!(rows(&found.matches), sorted(&distance));
        let plain = rank(&probes, &gallery, &labels, &ask(200), None, |_| ()).unwrap();
        assert_ne!(rows(&plain.matches), rows(&found.matches));
        assert_ne!(plain.report.map, found.report.map);
    }

    /// The nearest entries of each probe are those of a plain search, in the order that re-ranking this probe with them
    /// alone gives; those behind stay. Numbers follow the whole order.
    #[test]
    fn the_nearest_are_re_ranked_and_the_others_stay() {
        let (probes, gallery) = (crowd("probes", 23), crowd("gallery", 200));
        let labels = Labels::of(&probes, &gallery);
        let plain = rows(&rank(&probes, &gallery, &labels, &ask(200), None, |_| ()).unwrap().matches);
        for n in [1, 2, 30, 200, 500] {
            let nearest = Ask { rerank: Some(Scope::Nearest(NonZeroUsize::new(n).unwrap())), ..ask(500) };
            let found = rank(&probes, &gallery, &labels, &nearest, None, |_| ()).unwrap();
            let mut ranks = Vec::new();
            for (probe, plain) in plain.iter().enumerate() {
                let n = n.min(200);
                let values: Vec<f32> = plain[..n].iter().flat_map(|row| gallery.row(*row)).copied().collect();
                let one = Matrix::new(probes.row(probe).to_vec(), 1, 6).unwrap();
                let distance = rerank(&one, &Matrix::new(values, n, 6).unwrap(), &Rerank::default()).unwrap();
                let mut order: Vec<usize> = sorted(&distance)[0].iter().map(|at| plain[*at]).collect();
                assert_eq!(rows(&found.matches)[probe], order, "{n} nearest of probe {probe}");
                order.extend(&plain[n..]);
                let counts = |row: &usize| labels.probes[probe].judge(labels.gallery[*row]);
                let counted = order.iter().filter_map(counts).enumerate();
                let right = counted.filter(|(_, right)| *right && labels.probes[probe].identity != JUNK);
                ranks.push(right.map(|(before, _)| before + 1).collect());
            }
            assert_eq!(found.report, RankingReport::of(&ranks, 200), "{n}");
            let moved = rows(&found.matches).iter().zip(&plain).any(|(found, plain)| found[..] != plain[..found.len()]);
            assert_eq!(moved, n > 2, "re-ranking changes the order");
        }
    }

    #[test]
    fn the_least_similarity_comes_before_the_cut() {
        let (probes, gallery) = (crowd("probes", 23), crowd("gallery", 200));
        let labels = Labels::of(&probes, &gallery);
        for rerank in [None, Some(Scope::Everyone), Some(Scope::Nearest(NonZeroUsize::new(200).unwrap()))] {
            let all = rank(&probes, &gallery, &labels, &Ask { rerank, ..ask(200) }, None, |_| ()).unwrap().matches;
            let few = Ask { rerank, min_similarity: Some(0.5), ..ask(3) };
            let few = rank(&probes, &gallery, &labels, &few, None, |_| ()).unwrap().matches;
            for (all, few) in all.iter().zip(&few) {
                let wanted: Vec<Match> = all.iter().filter(|found| found.similarity >= 0.5).take(3).copied().collect();
                assert_eq!(*few, wanted, "{rerank:?}");
            }
        }
    }

    #[test]
    fn too_much_is_refused_with_numbers() {
        let (probes, gallery) = (crowd("probes", 3), crowd("gallery", 9));
        let labels = Labels::of(&probes, &gallery);
        let nearest = Ask { rerank: Some(Scope::Nearest(NonZeroUsize::new(MOST_RERANKED + 1).unwrap())), ..ask(1) };
        let error = rank(&probes, &gallery, &labels, &nearest, None, |_| ()).unwrap_err().to_string();
        assert!(error.contains("4097") && error.contains("1 to 4096"), "{error}");
        let (dim, templates, folder) = (0, vec![Template::default(); MOST_RERANKED_TOGETHER], Default::default());
        let many = Embeddings { values: vec![], dim, templates, folder };
        let one = Embeddings { templates: vec![Template::default()], ..many.clone() };
        let labels = Labels::of(&one, &many);
        let everyone = Ask { rerank: Some(Scope::Everyone), ..ask(1) };
        let error = rank(&one, &many, &labels, &everyone, None, |_| ()).unwrap_err().to_string();
        assert!(error.contains("131072 entries") && error.contains("--rerank-top N"), "{error}");
    }
}
